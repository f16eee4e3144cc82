/* Which indirect branches go by a slot that they know before their target, and by which one. What comes of it is tests/guests/branches.c's business. */
#include "host_code.h"
#include "tests/shim/test.h"
#include "translator/emit.h"
#include "translator_fixture.h"

#define TABLES_FROM ((JUMP_SLOTS + JUMP_CONSTANTS) * 8)
#define TABLES_END ((JUMP_SLOTS + JUMP_SITES) * 8)
#define WORDS_FROM (JUMP_SLOTS * 8)
#define INSTRUCTIONS 16u

/* How a block ends. */
struct ending {
	enum { BY_TARGET, BY_TABLE, BY_WORD, BY_C } how;
	bool call;
	unsigned index;  /* the host register whose low byte it is */
	uint32_t slots;  /* in the table, in bytes */
};

static struct host_code checked;

/* The last branch that goes through R11; without one the block leaves by a stub. */
static struct ending find_ending(void)
{
	struct ending e = {.how = BY_C};

	for (uint32_t n = 2; n < checked.count; n++) {
		const struct host_insn *i = &checked.insn[n];
		if (i->d.meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR || i->op[0].type != ZYDIS_OPERAND_TYPE_MEMORY || i->op[0].mem.base != ZYDIS_REGISTER_R11)
			continue;
		e.call = i->d.mnemonic == ZYDIS_MNEMONIC_CALL;
		if (!host_is_lea(i - 1, ZYDIS_REGISTER_R11, ZYDIS_REGISTER_R11, ZYDIS_REGISTER_NONE)) {
			e.how = BY_TARGET;
			continue;
		}
		e.how = i->op[0].mem.index == ZYDIS_REGISTER_NONE ? BY_WORD : BY_TABLE;
		e.slots = (uint32_t)i[-1].op[1].mem.disp.value;
		if (e.how == BY_TABLE)
			e.index = (unsigned)(host_enclosing(i[-3].op[1].reg.value) - ZYDIS_REGISTER_RAX);
	}
	return e;
}

static struct ending end_of(struct translator_input in)
{
	in.pad = in.joins = true;
	in.max_instructions = INSTRUCTIONS;
	if (!CHECK_EQ(translator_translate(&in, &fixture_out), 0))
		return (struct ending){.how = BY_C};
	const char *wrong = host_check(&checked, &in, &fixture_out);
	if (wrong)
		FAIL("%s at host offset %u", wrong, checked.wrong_at);
	return find_ending();
}

static struct ending end_in(uint32_t mode, const uint8_t *bytes, uint32_t length)
{
	return end_of(fixture_input(bytes, length, mode));
}
#define END_IN(mode, ...) end_in(mode, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))
#define END(...) END_IN(MODE_AT_0, __VA_ARGS__)
#define TABLE 0, 0x50, 0x80, 1 /* a displacement */

struct branch {
	const char *what;
	uint8_t bytes[32], length;
	unsigned how, index;
	bool call;
};

static const struct branch branches[] = {
	{"jmp [ecx*4 + table]", {0xFF, 0x24, 0x8D, TABLE}, 7, BY_TABLE, RCX, false},
	{"call [esi*4 + table]", {0xFF, 0x14, 0xB5, TABLE}, 7, BY_TABLE, RSI, true},
	{"jmp [ebx + ebp*4]", {0xFF, 0x24, 0xAB}, 3, BY_TABLE, RBP, false},
	{"jmp [esp + eax*4 + table]", {0xFF, 0xA4, 0x84, TABLE}, 7, BY_TABLE, RAX, false},
	{"jmp [ecx*2 + table]", {0xFF, 0x24, 0x4D, TABLE}, 7, BY_TARGET, 0, false},
	{"jmp [eax + ecx + table]", {0xFF, 0xA4, 0x08, TABLE}, 7, BY_TARGET, 0, false},
	{"call [ecx*8 + table]", {0xFF, 0x14, 0xCD, TABLE}, 7, BY_TARGET, 0, true},
	{"jmp word [ecx*4 + table]", {0x66, 0xFF, 0x24, 0x8D, TABLE}, 8, BY_TARGET, 0, false},
	{"jmp [bx + si]", {0x67, 0xFF, 0x20}, 3, BY_TARGET, 0, false},
	{"jmp [word]", {0xFF, 0x25, TABLE}, 6, BY_WORD, 0, false},
	{"call [word]", {0xFF, 0x15, TABLE}, 6, BY_WORD, 0, true},
	{"jmp [ebx + 10h]", {0xFF, 0x63, 0x10}, 3, BY_WORD, 0, false},
	{"call [ebx + table]", {0xFF, 0x93, TABLE}, 6, BY_WORD, 0, true},
	{"call [ebx - 84h]", {0xFF, 0x93, 0x7C, 0xFF, 0xFF, 0xFF}, 6, BY_WORD, 0, true},
	{"call [ebx]", {0xFF, 0x13}, 2, BY_TARGET, 0, true}, /* an object's function */
	{"call [ebx + 10h]", {0xFF, 0x53, 0x10}, 3, BY_TARGET, 0, true},
	{"jmp [esi + 10h]", {0xFF, 0x66, 0x10}, 3, BY_TARGET, 0, false},
	{"jmp word [word]", {0x66, 0xFF, 0x25, TABLE}, 7, BY_TARGET, 0, false},
	{"jmp eax", {0xFF, 0xE0}, 2, BY_TARGET, 0, false},
	/* A table's entry in a register. */
	{"mov edx, [ecx*4 + table]; jmp edx", {0x8B, 0x14, 0x8D, TABLE, 0xFF, 0xE2}, 9, BY_TABLE, R11, false},
	{"mov eax, [eax*4 + table]; jmp eax", {0x8B, 0x04, 0x85, TABLE, 0xFF, 0xE0}, 9, BY_TABLE, R11, false},
	{"add ebx, [ebx + ecx*4]; jmp ebx", {0x03, 0x1C, 0x8B, 0xFF, 0xE3}, 5, BY_TABLE, R11, false},
	{"mov edx, [ecx*4 + table]; add edx, ebx; jmp edx", {0x8B, 0x14, 0x8D, TABLE, 0x01, 0xDA, 0xFF, 0xE2}, 11, BY_TABLE, R11, false},
	{"mov edx, [ecx*4 + table]; pop ecx; push eax; inc dword [esi]; jmp edx", {0x8B, 0x14, 0x8D, TABLE, 0x59, 0x50, 0xFF, 0x06, 0xFF, 0xE2}, 13, BY_TABLE, R11, false},
	{"mov edx, [ecx*4 + table]; five others; jmp edx", {0x8B, 0x14, 0x8D, TABLE, 0x40, 0x40, 0x40, 0x40, 0x40, 0xFF, 0xE2}, 14, BY_TABLE, R11, false},
	{"mov edx, [ecx*4 + table]; six others; jmp edx", {0x8B, 0x14, 0x8D, TABLE, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0xFF, 0xE2}, 15, BY_TARGET, 0, false},
	{"mov edx, [ecx*4 + table]; jmp eax", {0x8B, 0x14, 0x8D, TABLE, 0xFF, 0xE0}, 9, BY_TARGET, 0, false},
	{"mov edx, [ecx*4 + table]; mov edx, eax; jmp edx", {0x8B, 0x14, 0x8D, TABLE, 0x8B, 0xD0, 0xFF, 0xE2}, 11, BY_TARGET, 0, false},
	{"mov edx, [ecx*4 + table]; jz; jmp edx", {0x8B, 0x14, 0x8D, TABLE, 0x74, 0x40, 0xFF, 0xE2}, 11, BY_TARGET, 0, false},
	{"mov edx, [ecx*4 + table]; call edx", {0x8B, 0x14, 0x8D, TABLE, 0xFF, 0xD2}, 9, BY_TARGET, 0, true},
	{"mov edx, [ecx*4 + table]; jmp dx", {0x8B, 0x14, 0x8D, TABLE, 0x66, 0xFF, 0xE2}, 10, BY_TARGET, 0, false},
	{"mov dx, [ecx*4 + table]; jmp edx", {0x66, 0x8B, 0x14, 0x8D, TABLE, 0xFF, 0xE2}, 10, BY_TARGET, 0, false},
	{"mov edx, [ecx*8 + table]; jmp edx", {0x8B, 0x14, 0xCD, TABLE, 0xFF, 0xE2}, 9, BY_TARGET, 0, false},
	{"mov [ecx*4 + table], edx; jmp edx", {0x89, 0x14, 0x8D, TABLE, 0xFF, 0xE2}, 9, BY_TARGET, 0, false},
	{"sub edx, [ecx*4 + table]; jmp edx", {0x2B, 0x14, 0x8D, TABLE, 0xFF, 0xE2}, 9, BY_TARGET, 0, false},
	{"mov edx, [word]; jmp edx", {0x8B, 0x15, TABLE, 0xFF, 0xE2}, 8, BY_TARGET, 0, false},
};

TEST(translator_sites, branches_that_have_them)
{
	for (size_t i = 0; i < ARRAY_LEN(branches); i++) {
		const struct branch *b = &branches[i];
		struct ending e = end_in(MODE_AT_0, b->bytes, b->length);
		if (e.how != b->how || e.call != b->call || e.index != b->index)
			FAIL("%s: ends in way %u, index %u%s", b->what, e.how, e.index, e.call ? ", a call" : "");
	}
}

/* Where a pad that is another target's would not leave the slot to be seen, or nothing is to be looked up. */
TEST(translator_sites, code_that_has_none)
{
	static const uint32_t modes[] = {MODE_FLAT, MODE_FLAT | MODE_SOFT, MODE_USER, MODE_USER | MODE_SOFT, MODE_TRAP, MODE_USER | MODE_LOW};

	for (size_t m = 0; m < ARRAY_LEN(modes); m++)
		for (size_t i = 0; i < ARRAY_LEN(branches); i++) {
			struct ending e = end_in(modes[m], branches[i].bytes, branches[i].length);
			if (e.how != BY_TARGET || e.call != branches[i].call)
				FAIL("%s in mode %x: ends in way %u", branches[i].what, modes[m], e.how);
		}
	for (size_t i = 0; i < ARRAY_LEN(branches); i++) {
		struct translator_input in = fixture_input(branches[i].bytes, branches[i].length, MODE_AT_0);
		in.stubs.lookup = in.stubs.lookup_slow;
		in.stubs.lookup_parked = in.stubs.lookup_slow_parked;
		CHECK_EQ(end_of(in).how, (unsigned)BY_C);
		CHECK_EQ(end_in(MODE_AT_0 | MODE_ONE, branches[i].bytes, branches[i].length).how, (unsigned)BY_C);
	}
}

/* A load in soft form may leave anything in R11. */
TEST(translator_sites, soft_loads_have_none)
{
	static const uint8_t idiom[] = {0x8B, 0x14, 0x8D, TABLE, 0xFF, 0xE2}, jump[] = {0xFF, 0x24, 0x8D, TABLE};
	uint8_t soft[PAGE_SIZE / 8] = {1};
	struct translator_input in = fixture_input(idiom, sizeof(idiom), MODE_AT_0);

	CHECK_EQ(end_of(in).how, (unsigned)BY_TABLE);
	in.soft_bits = soft;
	CHECK_EQ(end_of(in).how, (unsigned)BY_TARGET);
	/* A jump's own index is still there. */
	in = fixture_input(jump, sizeof(jump), MODE_AT_0);
	in.soft_bits = soft;
	struct ending e = end_of(in);
	CHECK(e.how == BY_TABLE && e.index == RCX);
}

static struct ending jump_through(uint32_t eip, uint32_t disp, bool table)
{
	uint8_t bytes[7] = {0xFF, table ? 0x24 : 0x25, 0x8D};
	uint32_t length = table ? 7 : 6;

	memcpy(bytes + length - 4, &disp, 4);
	struct translator_input in = fixture_input(bytes, length, MODE_AT_0);
	in.eip = eip;
	return end_of(in);
}

/* Code that is copied to another address keeps its slots. */
TEST(translator_sites, slots_are_a_tables_or_a_places)
{
	uint64_t random = 1;
	unsigned same_table = 0, same_place = 0, same_word = 0;

	for (unsigned i = 0; i < 2000; i++) {
		uint32_t disp = (uint32_t)fixture_random(&random), eip = (uint32_t)fixture_random(&random) & 0x7FFFF000;
		struct ending table = jump_through(0x1000, disp, true), word = jump_through(0x1010, disp, false);
		CHECK(table.how == BY_TABLE && table.slots % 64 == 0 && table.slots >= TABLES_FROM && table.slots + JUMP_SITE_SPAN * 8 <= TABLES_END);
		CHECK(word.how == BY_WORD && word.slots % 8 == 0 && word.slots >= WORDS_FROM && word.slots < TABLES_FROM);
		CHECK_EQ(jump_through(eip + 0x20, disp, true).slots, table.slots);
		CHECK_EQ(jump_through(eip + 0x10, disp, false).slots, word.slots);
		same_table += jump_through(0x1000, disp + 0x400, true).slots == table.slots;
		same_place += jump_through(0x1020, disp, false).slots == word.slots;
		same_word += jump_through(0x1010, disp + 4, false).slots == word.slots;
	}
	CHECK(same_table < 20 && same_place < 20 && same_word < 20);
}

/* Other loads cost nothing. */
TEST(translator_sites, index_is_kept_where_it_is_used_alone)
{
	static const uint8_t keeps[] = {0x44, 0x8B, 0xD9}; /* mov r11d, ecx */

	for (unsigned used = 0; used < 2; used++) {
		struct ending e = used ? END(0x8B, 0x14, 0x8D, TABLE, 0xFF, 0xE2) : END(0x8B, 0x14, 0x8D, TABLE, 0xFF, 0xE0);
		bool kept = false;
		for (uint32_t at = 0; at + sizeof(keeps) <= fixture_out.code_length; at++)
			kept |= !memcmp(fixture_code + at, keeps, sizeof(keeps));
		CHECK_EQ(kept, used);
		CHECK_EQ(e.how, used ? BY_TABLE : BY_TARGET);
	}
}
