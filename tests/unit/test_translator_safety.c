/* Whatever the guest's bytes are, host code touches no memory but the guest's and leaves only by its stubs: every opcode with every kind
 * of operand and prefix, and random bytes, are translated in many modes, and host_code.h checks what came out. The random part takes
 * BT_VMM_FUZZ_SECONDS (4) and begins at BT_VMM_FUZZ_SEED. */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "host_code.h"
#include "tests/shim/test.h"
#include "translator_fixture.h"

static struct host_code checked;

static void describe(const struct translator_input *in, const char *what, uint32_t at)
{
	char guest[16 * 3 + 1] = "", host[24 * 3 + 1] = "";

	for (uint32_t i = 0; i < in->length && i < 16; i++)
		snprintf(guest + 3 * i, 4, "%02x ", in->bytes[i]);
	for (uint32_t i = 0; i < 24 && at + i < fixture_out.code_length; i++)
		snprintf(host + 3 * i, 4, "%02x ", in->code[at + i]);
	FAIL("%s at host offset %u (%s)\n  guest bytes %s\n  mode %08x, eip %08x, cs base %08x, %u instructions", what, at, host, guest,
	     in->mode, in->eip, in->cs_base, in->max_instructions);
}

/* Translate and check; false once something was wrong. */
static bool check_translation(const struct translator_input *in)
{
	int err;

	memset(in->code + in->capacity, FIXTURE_CANARY, 8);
	err = translator_translate(in, &fixture_out);
	for (unsigned i = 0; i < 8; i++)
		if (in->code[in->capacity + i] != FIXTURE_CANARY) {
			describe(in, "a write behind the buffer", 0);
			return false;
		}
	if (err == -ENODATA || err == -ENOSPC)
		return true;
	const char *wrong = err ? "an unexpected error" : host_check(&checked, in, &fixture_out);
	if (!wrong && fixture_out.guest_length > in->length)
		wrong = "a dependency on bytes that were not given";
	if (wrong)
		describe(in, wrong, err ? 0 : checked.wrong_at);
	return !wrong;
}

static const uint32_t modes[] = {
	MODE_FLAT, MODE_FLAT | MODE_SOFT, MODE_USER, MODE_USER | MODE_SOFT, MODE_FLAT | MODE_SOFT | MODE_THUNK,
	MODE_USER | MODE_SOFT | MODE_THUNK | MODE_WITH_SEG(SEG_DS, MODE_SEG_BASE), MODE_FLAT | MODE_ONE, MODE_USER | MODE_SOFT | MODE_ONE,
	MODE_USER | MODE_WITH_SEG(SEG_GS, MODE_SEG_BASE) | MODE_WITH_SEG(SEG_FS, MODE_SEG_GENERAL),
	MODE_USER | MODE_SOFT | MODE_WITH_SEG(SEG_SS, MODE_SEG_GENERAL) | MODE_WITH_SEG(SEG_DS, MODE_SEG_GENERAL),
	MODE_FLAT | MODE_WITH_SEG(SEG_CS, MODE_SEG_BASE) | MODE_WITH_SEG(SEG_DS, MODE_SEG_BASE) | MODE_WITH_SEG(SEG_SS, MODE_SEG_BASE),
	MODE_FLAT | MODE_FPU_NM | MODE_FPU_WAIT_NM, MODE_USER | MODE_SSE_UD | MODE_MMX_UD | MODE_TSD,
	MODE_FLAT | MODE_WITH_SEG(SEG_ES, MODE_SEG_GENERAL) | MODE_WITH_SEG(SEG_SS, MODE_SEG_GENERAL),
	(MODE_FLAT | MODE_TF | MODE_AC | MODE_DR7) & ~MODE_IOPL_OK, MODE_CS32 | MODE_PE, MODE_SS32 | MODE_PE, MODE_CS32 | MODE_SS32 | MODE_VM, 0,
	MODE_REAL, MODE_REAL | MODE_SOFT, MODE_V86, MODE_V86 | MODE_SOFT | MODE_IOPL_OK, MODE_SMALL | MODE_CS32, MODE_SMALL | MODE_SS32 | MODE_SOFT,
	MODE_SMALL, MODE_SMALL | MODE_SOFT | MODE_THUNK, MODE_REAL | MODE_ONE, MODE_USER | MODE_ALL_SEGS(MODE_SEG_LIMIT),
	MODE_USER | MODE_SOFT | MODE_ALL_SEGS(MODE_SEG_LIMIT), MODE_REAL | MODE_DR7 | MODE_TF, MODE_SMALL | MODE_AC,
	MODE_TRAP, MODE_TRAP | MODE_SOFT | MODE_THUNK, MODE_TRAP | MODE_ONE, MODE_TRAP | MODE_WITH_SEG(SEG_CS, MODE_SEG_BASE),
	MODE_AT_0, MODE_AT_0 & ~MODE_TRAP_PADS, MODE_AT_0 | MODE_ONE, MODE_AT_0 | MODE_WITH_SEG(SEG_GS, MODE_SEG_BASE) | MODE_WITH_SEG(SEG_FS, MODE_SEG_GENERAL),
	MODE_AT_0 | MODE_ALL_SEGS(MODE_SEG_LIMIT), MODE_V86 | MODE_LOW, (MODE_AT_0 | MODE_WITH_SEG(SEG_DS, MODE_SEG_BASE)) & ~MODE_SS32,
};

static const uint8_t prefixes[] = {0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};

/* --- every opcode --- */

/* The last three are VEX's, whose last byte is left to chance. */
static const struct { uint8_t bytes[3], length; bool vex; } maps[] = {{{0}, 0, false}, {{0x0F}, 1, false}, {{0x0F, 0x38}, 2, false}, {{0x0F, 0x3A}, 2, false},
	{{0xC5, 0}, 2, true}, {{0xC4, 0xC2, 0}, 3, true}, {{0xC4, 0xE3, 0}, 3, true}};

/* ModRM forms that differ: no base, a base, displacements, SIB with and without base and index, ESP and EBP, 16-bit addresses, registers. */
static const uint8_t modrms[] = {0x00, 0x04, 0x05, 0x06, 0x43, 0x44, 0x45, 0x84, 0x85, 0xC0, 0xC4, 0xC5, 0xC7};
static const uint8_t sibs[] = {0x24, 0x25, 0x65, 0x05, 0xCD, 0xE4, 0x00};

static bool check_opcode(const uint8_t *head, unsigned head_length, unsigned map, unsigned opcode, uint64_t *pick)
{
	uint8_t bytes[64];
	unsigned opcode_at = head_length + maps[map].length;

	if (head_length) memcpy(bytes, head, head_length);
	if (maps[map].length) memcpy(bytes + head_length, maps[map].bytes, maps[map].length);
	bytes[opcode_at] = (uint8_t)opcode;
	for (unsigned reg = 0; reg < 8; reg++)
		for (unsigned m = 0; m < ARRAY_LEN(modrms); m++) {
			uint64_t random = fixture_random(pick);
			memset(bytes + opcode_at + 1, 0x90, sizeof(bytes) - opcode_at - 1);
			bytes[opcode_at + 1] = (uint8_t)(modrms[m] | reg << 3);
			if (maps[map].vex)
				bytes[opcode_at - 1] = (uint8_t)(random >> 24) | (maps[map].length == 2 ? 0xC0 : 0);
			bytes[opcode_at + 2] = sibs[random % ARRAY_LEN(sibs)];
			memcpy(bytes + opcode_at + 3, &random, 8);
			struct translator_input in = fixture_input(bytes, sizeof(bytes), modes[(random >> 32) % ARRAY_LEN(modes)]);
			if (!check_translation(&in))
				return false;
		}
	return true;
}

static void check_map(const uint8_t *head, unsigned head_length, unsigned map, uint64_t *pick)
{
	for (unsigned opcode = 0; opcode < 256; opcode++)
		if (!check_opcode(head, head_length, map, opcode, pick))
			return;
}

TEST(translator_safety, every_opcode_alone_and_with_each_prefix)
{
	uint64_t pick = 1;

	for (unsigned map = 0; map < ARRAY_LEN(maps); map++) {
		for (unsigned i = 0; i < 4; i++)
			check_map(NULL, 0, map, &pick);
		for (unsigned p = 0; p < ARRAY_LEN(prefixes); p++)
			check_map(&prefixes[p], 1, map, &pick);
	}
}

/* In both orders, twice the same included: which of them counts is where decoders and processors differ. */
TEST(translator_safety, opcodes_with_pairs_of_prefixes)
{
	uint64_t pick = 2;

	for (unsigned p = 0; p < ARRAY_LEN(prefixes) && !test_has_failed(); p++)
		for (unsigned q = 0; q < ARRAY_LEN(prefixes); q++) {
			uint8_t head[] = {prefixes[p], prefixes[q]};
			for (unsigned opcode = 0; opcode < 512; opcode++) {
				/* A third of them in one run: the seed moves on from map to map. */
				if (fixture_random(&pick) % 3)
					continue;
				if (!check_opcode(head, 2, opcode >> 8, opcode & 255, &pick))
					return;
			}
		}
}

TEST(translator_safety, every_modrm_byte)
{
	uint8_t bytes[64];
	uint64_t pick = 3;

	for (unsigned opcode = 0; opcode < 512; opcode++)
		for (unsigned modrm = 0; modrm < 256; modrm++) {
			uint64_t random = fixture_random(&pick);
			memset(bytes, 0x90, sizeof(bytes));
			bytes[0] = 0x0F;
			bytes[opcode >> 8] = (uint8_t)opcode;
			bytes[(opcode >> 8) + 1] = (uint8_t)modrm;
			memcpy(bytes + (opcode >> 8) + 2, &random, 8);
			struct translator_input in = fixture_input(bytes, sizeof(bytes), modes[(random >> 40) % 4]);
			if (!check_translation(&in))
				return;
		}
}

/* --- random bytes --- */

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Random, but with prefixes and two-byte opcodes more often than chance has them. */
static void random_bytes(uint8_t *bytes, unsigned length, uint64_t *state)
{
	for (unsigned i = 0; i < length; i++) {
		uint64_t r = fixture_random(state);
		bytes[i] = (uint8_t)r;
		if ((r >> 8) % 16 == 0)
			bytes[i] = prefixes[(r >> 16) % ARRAY_LEN(prefixes)];
		else if ((r >> 8) % 16 == 1)
			bytes[i] = 0x0F;
		else if ((r >> 8) % 16 == 2) /* a branch to near by */
			bytes[i] = (uint8_t)((r >> 16) % 8 ? 0x70 + (r >> 20) % 16 : (r >> 20) % 4 ? 0xEB : 0xE2);
		if (i && (bytes[i - 1] >> 4 == 7 || bytes[i - 1] == 0xEB || bytes[i - 1] == 0xE2))
			bytes[i] = (uint8_t)((r >> 40) % 32 - 16);
	}
}

static struct translator_input random_input(const uint8_t *bytes, uint32_t size, const uint8_t *soft_bits, uint64_t *state)
{
	uint64_t r = fixture_random(state), s = fixture_random(state);
	struct translator_input in = fixture_input(bytes, 1 + r % size, modes[(r >> 8) % ARRAY_LEN(modes)]);

	if ((s & 3) == 0)
		in.mode = (uint32_t)s;
	if ((s & 3) == 1)
		in.mode = (in.mode & 0xFFFF) | ((uint32_t)(s >> 32) & 0x0FFF0000);
	if (in.mode & MODE_THUNK)
		in.mode |= MODE_SOFT;
	in.eip = (r >> 16) % 4 ? 0x1000 : (uint32_t)(s >> 20);
	in.cs_base = MODE_SEG(in.mode, SEG_CS) == MODE_SEG_FLAT ? 0 : (uint32_t)(r >> 24);
	in.cs_end = MODE_SEG(in.mode, SEG_CS) < MODE_SEG_GENERAL ? 0 : (s >> 44) % 2 ? 0x10000 : (uint32_t)(s >> 32) % 0x1200;
	in.max_instructions = s >> 62 ? (r >> 40) % 7 : (r >> 40) % 40;
	in.joins = r >> 61 & 1;
	in.check = r >> 60 & 1;
	in.gfn = (gfn_t)(s >> 12 & 0xFFFFF);
	in.known_bits = (s >> 60) % 4 ? NULL : soft_bits;
	in.basic_blocks = r >> 63;
	in.pad = r >> 62 & 1;
	in.peek = s >> 63 ? fixture_thunk : NULL;
	in.soft_bits = (r >> 48) % 4 ? NULL : soft_bits;
	in.gfn2 = (r >> 52) % 8 ? GFN_NONE : (gfn_t)(s >> 8 & 0xFFFFF);
	if ((r >> 56) % 16 == 0)
		in.capacity = (uint32_t)((s >> 40) % 600);
	return in;
}

TEST(translator_safety, random_bytes)
{
	uint64_t state = fixture_setting("BT_VMM_FUZZ_SEED", 0x9E3779B97F4A7C15ull), first = state, count = 0;
	double end = seconds() + (double)fixture_setting("BT_VMM_FUZZ_SECONDS", 4);
	uint8_t bytes[64], soft_bits[PAGE_SIZE / 8];

	random_bytes(soft_bits, sizeof(soft_bits), &state);
	while (seconds() < end)
		for (unsigned i = 0; i < 1000; i++, count++) {
			uint64_t here = state;
			random_bytes(bytes, sizeof(bytes), &state);
			struct translator_input in = random_input(bytes, sizeof(bytes), soft_bits, &state);
			if (!check_translation(&in)) {
				FAIL("case %llu from seed %#llx; state %#llx", (unsigned long long)count, (unsigned long long)first,
				     (unsigned long long)here);
				return;
			}
		}
	printf("%llu random strings\n", (unsigned long long)count);
}
