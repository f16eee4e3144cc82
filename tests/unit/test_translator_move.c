/* What is emitted for guest code at one address, changed as its fixes say, is what would be emitted for the same code at another. */
#include <sys/mman.h>

#include "tests/shim/test.h"
#include "translator_fixture.h"

#define GUEST_BYTES 48u
#define GFN 0x1234u

static struct translator_output first;
static uint8_t first_code[sizeof(fixture_code)];
static uint8_t guest[GUEST_BYTES];
static unsigned movable, unmovable;

static const uint32_t modes[] = {MODE_USER, MODE_USER | MODE_SOFT, MODE_TRAP, MODE_TRAP | MODE_SOFT, MODE_AT_0, MODE_TRAP | MODE_WITH_SEG(SEG_GS, MODE_SEG_BASE),
				 MODE_TRAP | MODE_SOFT | MODE_FPU_NM | MODE_SSE_UD | MODE_MMX_UD};
static const uint32_t pages[] = {0x08048000, 0x08049000, 0x56555000, 0xB7F00000, 0xBFFFE000, 0x00400000};

static bool translate(uint32_t mode, uint32_t eip, unsigned way)
{
	struct translator_input in = fixture_input(guest, sizeof(guest), mode);

	in.eip = eip;
	in.gfn = GFN;
	in.max_instructions = TRANSLATOR_MAX_INSTRUCTIONS;
	in.joins = true;
	in.arrange = true;
	in.pad = way == 2;
	in.check = way == 1;
	in.peek = fixture_thunk;
	return translator_translate(&in, &fixture_out) == 0;
}

/* By the fixes, from one page to another. */
static void move_first(uint32_t from, uint32_t to)
{
	int64_t by = (int64_t)to - from;

	for (uint32_t i = 0; i < first.fix_count; i++) code_fix_apply(first_code + first.lead, first.fixes[i], 0, by);
	for (uint32_t i = 0; i < first.slot_count; i++) first.slots[i].target += (uint32_t)by;
	for (uint32_t i = 0; i < first.row_count; i++) first.rows[i].eip += (uint32_t)by;
}

static bool is_same(void)
{
	const struct translator_output *o = &fixture_out;
	bool numbers = first.lead == o->lead && first.code_length == o->code_length && first.checked == o->checked && first.body == o->body &&
		       first.guest_length == o->guest_length && first.instructions == o->instructions && first.slot_count == o->slot_count &&
		       first.row_count == o->row_count && o->movable;

	return numbers && !memcmp(first_code + first.lead, fixture_code + o->lead, o->code_length) &&
	       !memcmp(first.rows, o->rows, o->row_count * sizeof(*o->rows)) && !memcmp(first.slots, o->slots, o->slot_count * sizeof(*o->slots));
}

static void check_guest(uint64_t *seed)
{
	uint32_t mode = modes[fixture_random(seed) % ARRAY_LEN(modes)], offset = fixture_random(seed) % (PAGE_SIZE - GUEST_BYTES);
	uint32_t from = pages[fixture_random(seed) % ARRAY_LEN(pages)], to = pages[fixture_random(seed) % ARRAY_LEN(pages)];
	unsigned way = fixture_random(seed) % 3;

	if (!translate(mode, from + offset, way))
		return;
	movable += fixture_out.movable;
	unmovable += !fixture_out.movable;
	if (!fixture_out.movable)
		return;
	first = fixture_out;
	memcpy(first_code, fixture_code, sizeof(first_code));
	move_first(from, to);
	CHECK(translate(mode, to + offset, way));
	if (is_same())
		return;
	for (unsigned i = 0; i < GUEST_BYTES; i++) printf("%02x ", guest[i]);
	printf("mode %x from %x to %x way %u\n", mode, from + offset, to + offset, way);
	CHECK(!"the same code");
}

static void fill(uint64_t *seed)
{
	for (unsigned i = 0; i < GUEST_BYTES; i++) guest[i] = (uint8_t)fixture_random(seed);
}

TEST(translator_move, every_opcode)
{
	static const uint8_t prefixes[] = {0, 0x66, 0xF2, 0xF3, 0x67, 0x65, 0xF0};
	uint64_t seed = fixture_setting("BT_VMM_FUZZ_SEED", 20261128);

	for (unsigned opcode = 0; opcode < 0x200; opcode++)
		for (unsigned i = 0; i < 16 * ARRAY_LEN(prefixes); i++) {
			fill(&seed);
			uint8_t *at = guest;
			if (prefixes[i % ARRAY_LEN(prefixes)])
				*at++ = prefixes[i % ARRAY_LEN(prefixes)];
			if (opcode >= 0x100)
				*at++ = 0x0F;
			*at = (uint8_t)opcode;
			check_guest(&seed);
		}
	CHECK(movable > 20 * unmovable);
}

/* What programs consist of, and where an EIP is in what is emitted: branches within the block and out of it, calls, returns, callouts. */
TEST(translator_move, random_blocks_of_usual_instructions)
{
	static const struct {
		uint8_t length, bytes[6];
	} usual[] = {{1, {0x55}}, {2, {0x89, 0xE5}}, {5, {0xE8, 0x10, 0x20, 0, 0}}, {2, {0x74, 0x08}}, {2, {0xEB, 0x03}}, {6, {0x0F, 0x85, 0, 0x30, 0, 0}}, {1, {0xC3}},
		     {2, {0xFF, 0xD0}}, {3, {0xFF, 0x53, 0x10}}, {2, {0xFF, 0xE1}}, {1, {0x9C}}, {1, {0x9D}}, {2, {0xF7, 0xF1}}, {2, {0xCD, 0x80}}, {1, {0xCC}}, {1, {0xCE}},
		     {3, {0x8B, 0x45, 0x08}}, {3, {0x01, 0x04, 0x24}}, {2, {0xF3, 0xAB}}, {5, {0xE8, 0, 0, 0, 0}}, {2, {0xE2, 0xFA}}, {2, {0x0F, 0xA2}}, {2, {0x0F, 0x0B}},
		     {3, {0x83, 0xC4, 0x0C}}, {1, {0x5B}}, {2, {0x8E, 0xE8}}, {3, {0x0F, 0xAE, 0x10}}, {1, {0xC9}}, {3, {0xC2, 0x08, 0}}, {1, {0xFB}}, {1, {0xF4}}};
	uint64_t seed = fixture_setting("BT_VMM_FUZZ_SEED", 20261128);

	for (unsigned i = 0; i < 20000; i++) {
		fill(&seed);
		for (unsigned at = 0;;) {
			unsigned k = fixture_random(&seed) % ARRAY_LEN(usual);
			if (at + usual[k].length > GUEST_BYTES)
				break;
			memcpy(guest + at, usual[k].bytes, usual[k].length);
			at += usual[k].length;
		}
		check_guest(&seed);
	}
}

/* The pad of a block at EIP 0 begins with LEA R9, [R8], which has no four bytes: at the beginning of code memory nothing can be read before it. */
TEST(translator_move, nothing_is_read_before_the_code)
{
	static const uint8_t jump[] = {0xEB, 0x10};
	size_t size = PAGE_SIZE + sizeof(fixture_code);
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct translator_input in = fixture_input(jump, sizeof(jump), MODE_TRAP);

	REQUIRE(memory != MAP_FAILED);
	REQUIRE(mprotect(memory, PAGE_SIZE, PROT_NONE) == 0);
	in.code = memory + PAGE_SIZE;
	in.eip = 0;
	in.pad = true;
	CHECK(translator_translate(&in, &fixture_out) == 0);
	CHECK(!fixture_out.movable);
	munmap(memory, size);
}

TEST(translator_move, a_branch_of_16_bits_keeps_its_block_in_place)
{
	static const uint8_t jump[] = {0x66, 0xEB, 0x10};

	memcpy(guest, jump, sizeof(jump));
	REQUIRE(translate(MODE_USER, 0x08048000, 0));
	CHECK(!fixture_out.movable);
}
