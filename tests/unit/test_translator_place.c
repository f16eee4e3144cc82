/* Where a block is made to begin, among the lines of 64 bytes that processors fetch. */
#include "tests/shim/test.h"
#include "translator_fixture.h"

#define LINE 64u

/* Recursive Fibonacci numbers, as gcc compiles them: push esi; push ebx; mov ebx, eax; sub esp, 4; cmp eax, 1; jbe +21; lea eax, [eax - 1]; call itself;
 * mov esi, eax; lea eax, [ebx - 2]; call itself; lea ebx, [esi + eax]; add esp, 4; mov eax, ebx; pop ebx; pop esi; ret */
static const uint8_t fibonacci[] = {0x56, 0x53, 0x89, 0xC3, 0x83, 0xEC, 0x04, 0x83, 0xF8, 0x01, 0x76, 0x15, 0x8D, 0x40, 0xFF, 0xE8, 0xEC, 0xFF, 0xFF, 0xFF, 0x89,
				    0xC6, 0x8D, 0x43, 0xFE, 0xE8, 0xE2, 0xFF, 0xFF, 0xFF, 0x8D, 0x1C, 0x06, 0x83, 0xC4, 0x04, 0x89, 0xD8, 0x5B, 0x5E, 0xC3};
/* inc eax; add ecx, [ebx]; add ebx, 4; cmp ebx, edx; jb to the second; ret */
static const uint8_t loop[] = {0x40, 0x03, 0x0B, 0x83, 0xC3, 0x04, 0x39, 0xD3, 0x72, 0xF7, 0xC3};
/* inc eax, 30 times; ret */
static uint8_t straight[31];

/* What leaves a block, to the runtime's stubs and otherwise. mov eax, [ebx]; cli; pushf; popf; div ecx; add [esi + 4], edx; rep movsd; jz +100; call +100;
 * loop to the first; in al, dx; push [ebp + 8]; jmp [edi] */
static const uint8_t leaving[] = {0x8B, 0x03, 0xFA, 0x9C, 0x9D, 0xF7, 0xF1, 0x01, 0x56, 0x04, 0xF3, 0xA5, 0x74, 0x64, 0xE8, 0x64, 0x00, 0x00, 0x00, 0xE2, 0xEB, 0xEC,
				  0xFF, 0x75, 0x08, 0xFF, 0x27};

static void translate(const uint8_t *bytes, uint32_t length, uint32_t from, bool arrange)
{
	struct translator_input in = fixture_input(bytes, length, MODE_TRAP);

	in.max_instructions = TRANSLATOR_MAX_INSTRUCTIONS;
	in.joins = true;
	in.arrange = arrange;
	in.code_pc += from;
	CHECK_EQ(translator_translate(&in, &fixture_out), 0);
}

TEST(translator_place, a_loop_lies_in_one_line)
{
	for (uint32_t from = 0; from < LINE; from++) {
		translate(loop, sizeof(loop), from, true);
		uint32_t first = from + fixture_out.lead + fixture_out.starts[1], behind = from + fixture_out.lead + fixture_out.starts[5];
		CHECK_EQ(first / LINE, (behind - 1) / LINE);
	}
}

/* How often all calls but the last few run into another line there, in halves: half of the calls return at once, by the branch to instruction 12. */
static unsigned lines_run_into(uint32_t begin)
{
	const uint16_t *starts = fixture_out.starts;
	unsigned halves = 0;

	for (uint32_t at = LINE - begin % LINE; at < starts[17]; at += LINE) {
		bool behind_call = at + 16 == starts[8] || at + 16 == starts[11];
		halves += behind_call ? 0 : at < starts[6] || at > starts[12] ? 2 : 1;
	}
	return halves;
}

TEST(translator_place, a_function_that_calls_itself_runs_into_another_line_once)
{
	for (uint32_t from = 0; from < LINE; from++) {
		translate(fibonacci, sizeof(fibonacci), from, true);
		CHECK(lines_run_into(from + fixture_out.lead) <= 2);
	}
}

TEST(translator_place, straight_code_is_not_worth_bytes)
{
	memset(straight, 0x40, 30);
	straight[30] = 0xC3;
	for (uint32_t from = 0; from < LINE; from++) {
		translate(straight, sizeof(straight), from, true);
		CHECK(fixture_out.lead <= 2 * 16);
	}
}

static void check_moved(const uint8_t *bytes, uint32_t length, uint32_t from)
{
	static uint8_t moved[sizeof(fixture_code)];

	translate(bytes, length, from, true);
	uint32_t lead = fixture_out.lead, emitted = fixture_out.code_length;
	memcpy(moved, fixture_code + lead, emitted);
	translate(bytes, length, from + lead, false);
	CHECK_EQ(fixture_out.lead, 0u);
	CHECK_EQ(fixture_out.code_length, emitted);
	CHECK(!memcmp(moved, fixture_code, emitted));
}

TEST(translator_place, the_code_is_what_it_would_be_there_anyhow)
{
	uint32_t moves = 0;

	for (uint32_t from = 0; from < LINE; from++) {
		check_moved(fibonacci, sizeof(fibonacci), from);
		check_moved(leaving, sizeof(leaving), from);
		translate(leaving, sizeof(leaving), from, true);
		moves += fixture_out.lead != 0;
	}
	CHECK(moves);
}
