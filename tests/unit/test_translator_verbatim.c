/* Instructions whose own bytes the host can run: when they are taken, that they are the same in whatever surroundings, and what rows say of them. */
#include "tests/shim/test.h"
#include "translator/internal.h"
#include "translator_fixture.h"

#define GUEST_BYTES 48u

static uint8_t guest[GUEST_BYTES];

static bool translate(const uint8_t *bytes, uint32_t length, uint32_t mode)
{
	struct translator_input in = fixture_input(bytes, length, mode);

	return translator_translate(&in, &fixture_out) == 0;
}

/* Its code begins with them, and has nothing else before its exit. */
static bool is_verbatim(const uint8_t *bytes, uint32_t length, uint32_t mode)
{
	if (!translate(bytes, length, mode))
		return false;
	uint32_t from = fixture_out.starts[0], count = fixture_out.starts[1] - from;

	return count >= length && !memcmp(fixture_code + from, bytes, length) && count - length == 5;
}

TEST(translator_verbatim, what_is)
{
	static const struct {
		uint8_t length, bytes[8];
		bool user, kernel;
	} cases[] = {
		{2, {0x89, 0xD8}, true, true},                          /* mov eax, ebx */
		{6, {0x81, 0xC1, 1, 2, 3, 4}, true, true},              /* add ecx, imm32 */
		{3, {0x0F, 0xBE, 0xC4}, true, true},                    /* movsx eax, ah */
		{2, {0xD8, 0xC1}, true, true},                          /* fadd st, st(1) */
		{3, {0x8B, 0x43, 0x04}, true, false},                   /* mov eax, [ebx + 4] */
		{6, {0x8B, 0x83, 0x04, 0, 0, 0}, true, false},          /* the same with a long displacement */
		{7, {0xC7, 0x45, 0xFC, 1, 2, 3, 4}, true, false},       /* mov dword [ebp - 4], imm32 */
		{4, {0xF0, 0x0F, 0xB1, 0x0B}, true, false},             /* lock cmpxchg [ebx], ecx */
		{4, {0x66, 0x0F, 0x6F, 0x06}, true, false},             /* movdqa xmm0, [esi] */
		{4, {0x8B, 0x44, 0x23, 0x04}, true, false},             /* mov eax, [ebx + 4], with an SIB byte that names no index */
		{4, {0x8B, 0x44, 0xE5, 0}, true, false},                /* mov eax, [ebp + 0], the same with a scale */
		{3, {0x8B, 0x45, 0}, true, false},                      /* mov eax, [ebp + 0] */
		{2, {0x8A, 0x23}, true, false},                         /* mov ah, [ebx] */
		{2, {0x86, 0x3B}, true, false},                         /* xchg bh, [ebx] */
		{3, {0x2E, 0x8B, 0x03}, false, false},                  /* mov eax, cs:[ebx] */
		{7, {0x8B, 0x04, 0x25, 0, 0, 0x40, 0}, false, false},   /* mov eax, [400000h], with an SIB byte */
		{5, {0xF3, 0x66, 0x0F, 0xB8, 0xC1}, false, false},      /* popcnt ax, cx, its prefixes the other way round */
		{1, {0x40}, false, false},                              /* inc eax: REX in 64-bit mode */
		{2, {0x89, 0xE0}, false, false},                        /* mov eax, esp */
		{4, {0x8B, 0x44, 0x24, 0x04}, false, false},            /* mov eax, [esp + 4] */
		{3, {0x8B, 0x04, 0x8B}, false, false},                  /* mov eax, [ebx + 4 * ecx] */
		{6, {0x8B, 0x05, 0, 0, 0x40, 0}, false, false},         /* mov eax, [400000h]: relative to RIP in 64-bit mode */
		{4, {0x65, 0x8B, 0x43, 0x04}, false, false},            /* mov eax, gs:[ebx + 4] */
		{3, {0x3E, 0x8B, 0x03}, false, false},                  /* mov eax, ds:[ebx], said with a prefix */
		{6, {0x8B, 0x83, 0, 0, 0, 0x80}, false, false},         /* mov eax, [ebx - 2 GiB] */
		{2, {0x37, 0x90}, false, false},                        /* aaa: none in 64-bit mode */
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		bool user = is_verbatim(cases[i].bytes, cases[i].length, MODE_AT_0), kernel = is_verbatim(cases[i].bytes, cases[i].length, MODE_FLAT);
		if (user != cases[i].user || kernel != cases[i].kernel)
			printf("case %u: user %d kernel %d\n", i, user, kernel);
		CHECK_EQ(user, cases[i].user);
		CHECK_EQ(kernel, cases[i].kernel);
	}
}

TEST(translator_verbatim, not_where_the_access_is_another)
{
	static const uint8_t load[] = {0x8B, 0x43, 0x04};

	CHECK(is_verbatim(load, sizeof(load), MODE_AT_0));
	CHECK(!is_verbatim(load, sizeof(load), MODE_AT_0 | MODE_SOFT));
	CHECK(!is_verbatim(load, sizeof(load), MODE_AT_0 | MODE_AC));
	CHECK(!is_verbatim(load, sizeof(load), MODE_AT_0 | MODE_DR7));
	CHECK(!is_verbatim(load, sizeof(load), MODE_AT_0 | MODE_WITH_SEG(SEG_DS, MODE_SEG_BASE)));
	CHECK(!is_verbatim(load, sizeof(load), MODE_AT_0 | MODE_WITH_SEG(SEG_DS, MODE_SEG_LIMIT)));
	CHECK(!is_verbatim(load, sizeof(load), MODE_AT_0 & ~MODE_CS32));
}

static void fill(uint64_t *seed, unsigned i, unsigned opcode)
{
	static const uint8_t prefixes[] = {0, 0, 0x66, 0xF2, 0xF3, 0x67, 0x65, 0xF0};
	uint8_t *at = guest;

	for (unsigned k = 0; k < GUEST_BYTES; k++) guest[k] = (uint8_t)fixture_random(seed);
	if (prefixes[i % ARRAY_LEN(prefixes)])
		*at++ = prefixes[i % ARRAY_LEN(prefixes)];
	if (opcode >= 0x100)
		*at++ = 0x0F;
	*at = (uint8_t)opcode;
}

/* Whatever is behind it, and whether its head was met before. */
TEST(translator_verbatim, the_same_alone_and_with_more_behind)
{
	static const uint32_t modes[] = {MODE_AT_0, MODE_TRAP, MODE_FLAT, MODE_FLAT & ~MODE_CS32};
	static uint8_t code[256];
	uint64_t seed = fixture_setting("BT_VMM_FUZZ_SEED", 20261128);

	for (unsigned opcode = 0; opcode < 0x200; opcode++)
		for (unsigned i = 0; i < 128; i++) {
			uint32_t mode = modes[i / 8 % ARRAY_LEN(modes)];
			fill(&seed, i, opcode);
			uint32_t length = translator_length(guest, GUEST_BYTES, mode);
			if (!length)
				continue;
			CHECK(translate(guest, length, mode));
			uint32_t size = fixture_out.code_length;
			REQUIRE(size <= sizeof(code));
			memcpy(code, fixture_code, size);
			CHECK(translate(guest, GUEST_BYTES, mode));
			bool same = fixture_out.code_length == size && !memcmp(fixture_code, code, size);
			if (!same)
				printf("opcode %x, mode %x, %u bytes\n", opcode, mode, length);
			CHECK(same);
			for (uint32_t left = 1; left < length; left++)
				CHECK(!translate(guest, left, mode) || fixture_out.guest_length <= left);
		}
}

/* What the first access does, as rows say. */
static unsigned first_access(void)
{
	for (uint32_t i = 0; i < fixture_out.row_count; i++)
		if (fixture_out.rows[i].access)
			return fixture_out.rows[i].access & ~(unsigned)ROW_SOFT;
	return 0;
}

TEST(translator_verbatim, rows_say_what_they_say_of_other_forms)
{
	uint64_t seed = fixture_setting("BT_VMM_FUZZ_SEED", 20261129);
	unsigned accesses = 0;

	for (unsigned opcode = 0; opcode < 0x200; opcode++)
		for (unsigned i = 0; i < 128; i++) {
			fill(&seed, i, opcode);
			if (!translator_length(guest, GUEST_BYTES, MODE_AT_0) || !translate(guest, GUEST_BYTES, MODE_AT_0))
				continue;
			unsigned access = first_access();
			CHECK(translate(guest, GUEST_BYTES, MODE_AT_0 & ~(uint32_t)MODE_LOW));
			if (first_access() != access)
				printf("opcode %x: %x and %x\n", opcode, access, first_access());
			CHECK_EQ(first_access(), access);
			accesses += access != 0;
		}
	CHECK(accesses > 10000);
}
