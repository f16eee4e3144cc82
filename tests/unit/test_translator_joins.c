/* Branches within a block, and where it may be entered. That such code runs as it should is test_translator_rows.c's and the differential
 * tester's business. */
#include "host_code.h"
#include "tests/shim/test.h"
#include "translator_fixture.h"

#define EIP 0x1000u

static struct host_code checked;

static bool translate_with(struct translator_input in)
{
	in.pad = in.joins = true;
	if (!CHECK_EQ(translator_translate(&in, &fixture_out), 0))
		return false;
	const char *wrong = host_check(&checked, &in, &fixture_out);
	if (wrong)
		FAIL("%s at host offset %u", wrong, checked.wrong_at);
	return !wrong;
}

static bool translate(const uint8_t *bytes, uint32_t length, uint32_t mode)
{
	struct translator_input in = fixture_input(bytes, length, mode);

	in.max_instructions = TRANSLATOR_MAX_INSTRUCTIONS;
	return translate_with(in);
}
#define TRANSLATE(mode, ...) translate((const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}), mode)

/* The host offset where the instruction at EIP + at may be entered, or -1. */
static int entry_of(uint32_t at)
{
	for (uint32_t i = 0; i < fixture_out.row_count; i++)
		if (fixture_out.rows[i].undo == UNDO_ENTRY && fixture_out.rows[i].eip == EIP + at)
			return fixture_out.rows[i].host_offset;
	return -1;
}

/* Does the block leave for EIP + at? */
static bool leaves_for(uint32_t at)
{
	for (uint32_t i = 0; i < fixture_out.slot_count; i++)
		if (fixture_out.slots[i].target == EIP + at)
			return true;
	return false;
}

/* How many relative branches of the block go to this offset in it. */
static unsigned branches_to(int offset)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < checked.count; i++)
		n += checked.insn[i].branches && checked.insn[i].target == FIXTURE_CODE_PC + (uint32_t)offset;
	return n;
}

TEST(translator_joins, branches_go_to_later_instructions)
{
	/* test eax, eax; jz +1; inc ecx; dec edx; ret */
	REQUIRE(TRANSLATE(MODE_FLAT, 0x85, 0xC0, 0x74, 0x01, 0x41, 0x4A, 0xC3));
	CHECK_EQ(fixture_out.slot_count, 0u);
	REQUIRE(entry_of(5) >= 0);
	CHECK_EQ(branches_to(entry_of(5)), 1u);
}

/* How many bytes the one branch to this offset has. */
static unsigned length_of_branch_to(int offset)
{
	unsigned length = 0;

	for (uint32_t i = 0; i < checked.count; i++)
		if (checked.insn[i].branches && checked.insn[i].target == FIXTURE_CODE_PC + (uint32_t)offset)
			length += checked.insn[i].d.length;
	return length;
}

TEST(translator_joins, branches_to_later_instructions_are_short_where_they_reach)
{
	/* jz over 40 times dec edx; ret */
	uint8_t guest[64] = {0x74, 40};

	memset(guest + 2, 0x4A, 40);
	guest[42] = 0xC3;
	REQUIRE(translate(guest, 43, MODE_FLAT));
	CHECK_EQ(length_of_branch_to(entry_of(42)), 2u);
	/* add ah, [ecx] takes more than one would think: its register is rotated and back */
	for (unsigned i = 2; i < 42; i += 2) {
		guest[i] = 0x02;
		guest[i + 1] = 0x21;
	}
	REQUIRE(translate(guest, 43, MODE_FLAT));
	CHECK_EQ(length_of_branch_to(entry_of(42)), 6u);
}

TEST(translator_joins, a_short_branch_to_what_the_block_did_not_reach_leaves)
{
	/* jz over fld st0, which only raises #NM, to nop */
	REQUIRE(TRANSLATE(MODE_FLAT | MODE_FPU_NM, 0x74, 0x02, 0xD9, 0xC0, 0x90, 0xC3));
	CHECK(leaves_for(4));
}

TEST(translator_joins, branches_go_back)
{
	/* inc eax; dec ecx; jnz to the inc; loop to the dec */
	REQUIRE(TRANSLATE(MODE_FLAT, 0x40, 0x49, 0x75, 0xFC, 0xE2, 0xFB));
	CHECK(!leaves_for(0) && !leaves_for(1) && leaves_for(6));
	CHECK_EQ(entry_of(0), (int)fixture_out.body);
	CHECK_EQ(branches_to(entry_of(0)), 1u);
	CHECK_EQ(branches_to(entry_of(1)), 1u);
}

TEST(translator_joins, a_branch_into_an_instruction_leaves)
{
	/* jz into the mov; mov eax, 0 */
	REQUIRE(TRANSLATE(MODE_FLAT, 0x74, 0x01, 0xB8, 0, 0, 0, 0));
	CHECK(leaves_for(3));
}

TEST(translator_joins, a_branch_to_what_the_block_did_not_reach_leaves)
{
	/* loop, which ends the block, over a nop; jz before it to behind it */
	REQUIRE(TRANSLATE(MODE_FLAT, 0x74, 0x03, 0xE2, 0x01, 0x90, 0x90));
	CHECK(leaves_for(5));
}

TEST(translator_joins, waiting_pushes_are_done_before_a_join)
{
	/* jz to the pop; push eax; push ecx; pop edx; push ebx, which waits for the ret alone; ret */
	REQUIRE(TRANSLATE(MODE_FLAT, 0x74, 0x02, 0x50, 0x51, 0x5A, 0x53, 0xC3));
	CHECK(entry_of(0) >= 0 && entry_of(2) >= 0 && entry_of(4) >= 0);
	CHECK_EQ(entry_of(3), -1); /* between two pushes ESP is not R13 */
	CHECK_EQ(entry_of(5), -1);
}

TEST(translator_joins, no_entry_behind_an_access_that_vouches_for_r13)
{
	/* mov eax, [esp]; inc ecx; lea esp, [esp - 4]; mov ebx, esp; ret: R13 moves as it is, because [esp] did not fault */
	REQUIRE(TRANSLATE(MODE_FLAT, 0x8B, 0x04, 0x24, 0x41, 0x8D, 0x64, 0x24, 0xFC, 0x89, 0xE3, 0xC3));
	CHECK(entry_of(0) >= 0);
	CHECK_EQ(entry_of(3), -1);
	CHECK(entry_of(10) >= 0);
}

TEST(translator_joins, nobody_comes_between_sti_and_the_next)
{
	/* sti; inc eax; jz to the inc */
	REQUIRE(TRANSLATE(MODE_FLAT, 0xFB, 0x40, 0x74, 0xFD));
	CHECK(leaves_for(1));
	CHECK_EQ(entry_of(1), -1);
	CHECK(entry_of(2) >= 0);
}

TEST(translator_joins, none_where_two_pages_are_joined)
{
	struct translator_input in = fixture_input((const uint8_t[]){0xEB, 0xFE}, 2, MODE_FLAT);

	in.gfn2 = 7;
	in.eip = EIP + PAGE_SIZE - 1;
	REQUIRE(translate_with(in));
	CHECK_EQ(fixture_out.slot_count, 1u);
	for (uint32_t i = 0; i < fixture_out.row_count; i++)
		CHECK(fixture_out.rows[i].undo != UNDO_ENTRY);
}

TEST(translator_joins, a_block_ends_before_known_code)
{
	static const uint8_t bytes[] = {0x40, 0x41, 0x42, 0x43};
	uint8_t known[PAGE_SIZE / 8] = {1 | 1 << 2}; /* its own beginning does not count */
	struct translator_input in = fixture_input(bytes, sizeof(bytes), MODE_FLAT);

	in.max_instructions = TRANSLATOR_MAX_INSTRUCTIONS;
	in.known_bits = known;
	REQUIRE(translate_with(in));
	CHECK_EQ(fixture_out.instructions, 2u);
	CHECK(leaves_for(2));
}

TEST(translator_joins, a_pad_alone)
{
	struct translator_input in = fixture_input((const uint8_t[]){0x40}, 1, MODE_FLAT);

	in.max_instructions = 0;
	REQUIRE(translate_with(in));
	CHECK_EQ(fixture_out.instructions, 0u);
	CHECK_EQ(fixture_out.guest_length, 1u);
	CHECK(leaves_for(0));
	CHECK_EQ(entry_of(0), -1);
}

/* The one that is followed by a conditional branch, by mnemonic; or none. */
static ZydisMnemonic before_branch(void)
{
	for (uint32_t i = 1; i < checked.count; i++)
		if (checked.insn[i].branches && checked.insn[i].d.meta.category == ZYDIS_CATEGORY_COND_BR)
			return checked.insn[i - 1].d.mnemonic;
	return ZYDIS_MNEMONIC_INVALID;
}

TEST(translator_joins, nothing_stands_between_compare_and_branch)
{
	/* push ecx; inc edx; cmp eax, edx; jz out of the block; ret */
	REQUIRE(TRANSLATE(MODE_TRAP, 0x51, 0x42, 0x39, 0xD0, 0x74, 0x70, 0xC3));
	CHECK_EQ(before_branch(), ZYDIS_MNEMONIC_CMP);
}

TEST(translator_joins, flags_of_esp_that_nobody_sees_are_not_made)
{
	unsigned dead, live;

	/* push ecx; sub esp, 4; cmp eax, edx; ret, and with inc eax in place of cmp, which leaves CF */
	REQUIRE(TRANSLATE(MODE_TRAP, 0x51, 0x83, 0xEC, 0x04, 0x39, 0xD0, 0xC3));
	dead = checked.count;
	REQUIRE(TRANSLATE(MODE_TRAP, 0x51, 0x83, 0xEC, 0x04, 0x40, 0xC3));
	live = checked.count;
	CHECK_EQ(dead + 2, live);
}
