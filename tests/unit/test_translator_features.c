/* Instruction-set extensions: each instruction runs where the guest has its feature and raises #UD, or is what it was before, where not; and
 * each obeys CR0.EM, TS and CR4.OSFXSR as its registers ask (vol. 3, 13.1 and 24.25.3). */
#include <stdio.h>

#include <Zydis/Zydis.h>

#include "base/callout.h"
#include "tests/shim/test.h"
#include "translator_fixture.h"

/* GENERAL obeys none of them. */
enum unit { GENERAL, X87, MMX, SSE };

static const struct {
	const char *name;
	enum feature feature;
	enum unit unit;
	uint8_t bytes[8];
} rows[] = {
	{"addps", FEATURE_SSE, SSE, {0x0F, 0x58, 0xC1}}, {"paddb mm", FEATURE_MMX, MMX, {0x0F, 0xFC, 0xC1}}, {"emms", FEATURE_MMX, MMX, {0x0F, 0x77}},
	{"pshufw mm", FEATURE_SSE, MMX, {0x0F, 0x70, 0xC1, 3}}, {"pavgb mm", FEATURE_SSE, MMX, {0x0F, 0xE0, 0xC1}},
	{"paddq mm", FEATURE_SSE2, MMX, {0x0F, 0xD4, 0xC1}}, {"pextrw r, mm", FEATURE_SSE, MMX, {0x0F, 0xC5, 0xC1, 1}},
	{"movntq", FEATURE_SSE, MMX, {0x0F, 0xE7, 0x00}}, {"maskmovq", FEATURE_SSE, MMX, {0x0F, 0xF7, 0xC1}},
	{"cvtpi2ps", FEATURE_SSE, SSE, {0x0F, 0x2A, 0xC1}}, {"movdq2q", FEATURE_SSE2, SSE, {0xF2, 0x0F, 0xD6, 0xC1}},
	{"ldmxcsr", FEATURE_SSE, SSE, {0x0F, 0xAE, 0x10}}, {"movnti", FEATURE_SSE2, GENERAL, {0x0F, 0xC3, 0x00}},
	{"rdtsc", FEATURE_TSC, GENERAL, {0x0F, 0x31}}, {"rdmsr", FEATURE_MSR, GENERAL, {0x0F, 0x32}}, {"wrmsr", FEATURE_MSR, GENERAL, {0x0F, 0x30}},
	{"sysenter", FEATURE_SEP, GENERAL, {0x0F, 0x34}}, {"sysexit", FEATURE_SEP, GENERAL, {0x0F, 0x35}},
	{"fxsave", FEATURE_FXSR, GENERAL, {0x0F, 0xAE, 0x00}}, /* what forbids it is its callout's business */
	{"cmovz", FEATURE_CMOV, GENERAL, {0x0F, 0x44, 0xC1}}, {"cmpxchg8b", FEATURE_CX8, GENERAL, {0x0F, 0xC7, 0x08}},
	{"mfence", FEATURE_SSE2, GENERAL, {0x0F, 0xAE, 0xF0}},
	{"fadd", FEATURE_FPU, X87, {0xD8, 0xC1}}, {"fnsave", FEATURE_FPU, GENERAL, {0xDD, 0x30}}, {"frstor", FEATURE_FPU, GENERAL, {0xDD, 0x20}},
	{"fnstenv", FEATURE_FPU, GENERAL, {0xD9, 0x30}}, {"fldenv", FEATURE_FPU, GENERAL, {0xD9, 0x20}}, {"haddps", FEATURE_SSE3, SSE, {0xF2, 0x0F, 0x7C, 0xC1}},
	{"lddqu", FEATURE_SSE3, SSE, {0xF2, 0x0F, 0xF0, 0x00}}, {"pshufb mm", FEATURE_SSSE3, MMX, {0x0F, 0x38, 0x00, 0xC1}},
	{"pshufb xmm", FEATURE_SSSE3, SSE, {0x66, 0x0F, 0x38, 0x00, 0xC1}}, {"palignr mm", FEATURE_SSSE3, MMX, {0x0F, 0x3A, 0x0F, 0xC1, 2}},
	{"pextrw m", FEATURE_SSE41, SSE, {0x66, 0x0F, 0x3A, 0x15, 0x00, 2}}, {"ptest", FEATURE_SSE41, SSE, {0x66, 0x0F, 0x38, 0x17, 0xC1}},
	{"movntdqa", FEATURE_SSE41, SSE, {0x66, 0x0F, 0x38, 0x2A, 0x00}}, {"pinsrd", FEATURE_SSE41, SSE, {0x66, 0x0F, 0x3A, 0x22, 0xC4, 1}},
	{"pcmpgtq", FEATURE_SSE42, SSE, {0x66, 0x0F, 0x38, 0x37, 0xC1}}, {"pcmpistri", FEATURE_SSE42, SSE, {0x66, 0x0F, 0x3A, 0x63, 0xC1, 0}},
	{"crc32", FEATURE_SSE42, GENERAL, {0xF2, 0x0F, 0x38, 0xF1, 0xC1}}, {"popcnt", FEATURE_POPCNT, GENERAL, {0xF3, 0x0F, 0xB8, 0xC1}},
	{"movbe", FEATURE_MOVBE, GENERAL, {0x0F, 0x38, 0xF0, 0x00}}, {"aesenc", FEATURE_AES, SSE, {0x66, 0x0F, 0x38, 0xDC, 0xC1}},
	{"pclmulqdq", FEATURE_PCLMULQDQ, SSE, {0x66, 0x0F, 0x3A, 0x44, 0xC1, 1}}, {"sha1msg1", FEATURE_SHA, SSE, {0x0F, 0x38, 0xC9, 0xC1}},
	{"rdrand", FEATURE_RDRAND, GENERAL, {0x0F, 0xC7, 0xF0}}, {"rdseed", FEATURE_RDSEED, GENERAL, {0x0F, 0xC7, 0xF8}},
	{"adcx", FEATURE_ADX, GENERAL, {0x66, 0x0F, 0x38, 0xF6, 0xC1}}, {"adox", FEATURE_ADX, GENERAL, {0xF3, 0x0F, 0x38, 0xF6, 0xC1}},
	{"clflush", FEATURE_CLFLUSH, GENERAL, {0x0F, 0xAE, 0x38}}, {"clflushopt", FEATURE_CLFLUSHOPT, GENERAL, {0x66, 0x0F, 0xAE, 0x38}},
	{"clwb", FEATURE_CLWB, GENERAL, {0x66, 0x0F, 0xAE, 0x30}}, {"andn", FEATURE_BMI1, GENERAL, {0xC4, 0xE2, 0x70, 0xF2, 0xC1}},
	{"bextr", FEATURE_BMI1, GENERAL, {0xC4, 0xE2, 0x70, 0xF7, 0xC1}}, {"blsi", FEATURE_BMI1, GENERAL, {0xC4, 0xE2, 0x70, 0xF3, 0xD9}},
	{"bzhi", FEATURE_BMI2, GENERAL, {0xC4, 0xE2, 0x70, 0xF5, 0xC1}}, {"mulx", FEATURE_BMI2, GENERAL, {0xC4, 0xE2, 0x73, 0xF6, 0xC1}},
	{"rorx", FEATURE_BMI2, GENERAL, {0xC4, 0xE3, 0x7B, 0xF0, 0xC1, 3}},
};

static const struct {
	const char *name;
	enum feature feature;
	uint8_t bytes[8];
} x87_rows[] = {
	{"fcmovb", FEATURE_CMOV, {0xDA, 0xC1}}, {"fcmovnu", FEATURE_CMOV, {0xDB, 0xD9}}, {"fcomi", FEATURE_CMOV, {0xDB, 0xF1}}, {"fcomip", FEATURE_CMOV, {0xDF, 0xF1}},
	{"fucomi", FEATURE_CMOV, {0xDB, 0xE9}}, {"fucomip", FEATURE_CMOV, {0xDF, 0xE9}}, {"fisttp m16", FEATURE_SSE3, {0xDF, 0x08}},
	{"fisttp m64", FEATURE_SSE3, {0xDD, 0x08}},
};

/* The exception that a translated instruction raises at once, or -1: mov r8d, vector; mov r10d, error; and a callout that says so. */
static int raised(const uint8_t *bytes, uint32_t mode, uint64_t features)
{
	struct translator_input in = fixture_input(bytes, 8, mode);
	uint32_t vector, word;

	in.features = features;
	if (translator_translate(&in, &fixture_out))
		return -2;
	/* 41 B8 imm32, 41 BA imm32, 41 C7 44 24 disp8 imm32 (vcpu.eip), 41 B9 imm32 */
	if (memcmp(fixture_code, "\x41\xB8", 2) || memcmp(fixture_code + 6, "\x41\xBA", 2) || memcmp(fixture_code + 21, "\x41\xB9", 2))
		return -1;
	memcpy(&vector, fixture_code + 2, 4);
	memcpy(&word, fixture_code + 23, 4);
	return CALLOUT_ID(word) == CALLOUT_raise ? (int)vector : -1;
}

static void expect(const char *name, const char *when, int got, int want)
{
	if (got != want)
		FAIL("%s %s: raises %d and not %d", name, when, got, want);
}

TEST(translator_features, run_where_they_are_shown)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t feature = FEATURE_BIT(rows[i].feature);
		expect(rows[i].name, "alone", raised(rows[i].bytes, MODE_FLAT, feature), -1);
		expect(rows[i].name, "hidden", raised(rows[i].bytes, MODE_FLAT, ~feature), VEC_UD);
	}
}

/* PREFETCHW is a NOP where it is not shown; LZCNT has a test of its own; that the time-stamp counter never stops is no instruction. */
TEST(translator_features, each_feature_that_is_instructions_has_a_row)
{
	static const bool of_instructions[] = {
#define FEATURE(id, name, leaf, reg, bit, host, shown, cr4) [FEATURE_##id] = host,
#include "base/features.def"
#undef FEATURE
	};
	uint64_t seen = FEATURE_BIT(FEATURE_PREFETCHW) | FEATURE_BIT(FEATURE_LZCNT) | FEATURE_BIT(FEATURE_INVTSC);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		seen |= FEATURE_BIT(rows[i].feature);
	for (unsigned i = 0; i < FEATURE_COUNT; i++)
		if (of_instructions[i] && !(seen & FEATURE_BIT(i)))
			FAIL("feature %u of base/features.def has no instruction in this table", i);
}

/* What CMOV and SSE3 brought to the x87 asks for both. */
TEST(translator_features, of_the_x87_and_another)
{
	for (size_t i = 0; i < ARRAY_LEN(x87_rows); i++) {
		uint64_t both = FEATURE_BIT(FEATURE_FPU) | FEATURE_BIT(x87_rows[i].feature);
		expect(x87_rows[i].name, "with both", raised(x87_rows[i].bytes, MODE_FLAT, both), -1);
		expect(x87_rows[i].name, "without the other", raised(x87_rows[i].bytes, MODE_FLAT, ~FEATURE_BIT(x87_rows[i].feature)), VEC_UD);
		expect(x87_rows[i].name, "without x87", raised(x87_rows[i].bytes, MODE_FLAT, ~FEATURE_BIT(FEATURE_FPU)), VEC_UD);
		expect(x87_rows[i].name, "with TS", raised(x87_rows[i].bytes, MODE_FLAT | MODE_FPU_NM, FEATURES_ALL), VEC_NM);
	}
}

TEST(translator_features, obey_em_ts_and_osfxsr)
{
	static const struct {
		const char *when;
		uint32_t mode;
		int want[4]; /* by unit */
	} states[] = {
		{"with TS", MODE_FPU_NM, {-1, VEC_NM, VEC_NM, VEC_NM}},
		{"with EM", MODE_FPU_NM | MODE_MMX_UD | MODE_SSE_UD, {-1, VEC_NM, VEC_UD, VEC_UD}},
		{"without OSFXSR", MODE_SSE_UD, {-1, -1, -1, VEC_UD}},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (size_t s = 0; s < ARRAY_LEN(states); s++)
			expect(rows[i].name, states[s].when, raised(rows[i].bytes, MODE_FLAT | states[s].mode, FEATURES_ALL), states[s].want[rows[i].unit]);
}

/* F3 BSF and F3 BSR, before they became TZCNT and LZCNT. */
TEST(translator_features, older_meanings)
{
	static const struct { uint8_t bytes[4]; enum feature feature; ZydisMnemonic with, without; } pairs[] = {
		{{0xF3, 0x0F, 0xBC, 0xC1}, FEATURE_BMI1, ZYDIS_MNEMONIC_TZCNT, ZYDIS_MNEMONIC_BSF},
		{{0xF3, 0x0F, 0xBD, 0xC1}, FEATURE_LZCNT, ZYDIS_MNEMONIC_LZCNT, ZYDIS_MNEMONIC_BSR},
	};
	ZydisDecoder decoder;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (size_t i = 0; i < 2 * ARRAY_LEN(pairs); i++) {
		bool has = i & 1;
		ZydisDecodedInstruction d;
		struct translator_input in = fixture_input(pairs[i / 2].bytes, 4, MODE_FLAT);
		in.features = has ? FEATURES_ALL : ~FEATURE_BIT(pairs[i / 2].feature);
		CHECK_EQ(translator_translate(&in, &fixture_out), 0);
		CHECK(ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, fixture_code, fixture_out.code_length, &d)));
		CHECK_EQ(d.mnemonic, has ? pairs[i / 2].with : pairs[i / 2].without);
	}
}

/* VEX is protected mode's alone; and of it there is BMI, without LOCK or another prefix before it (vol. 2, 2.3.2 to 2.3.4). */
TEST(translator_features, vex)
{
	static const uint8_t andn[] = {0xC4, 0xE2, 0x70, 0xF2, 0xC1, 0x90, 0x90, 0x90};
	static const uint8_t refused[][8] = {
		{0xF0, 0xC4, 0xE2, 0x70, 0xF2, 0xC1}, {0x66, 0xC4, 0xE2, 0x70, 0xF2, 0xC1}, {0xF3, 0xC4, 0xE2, 0x70, 0xF2, 0xC1},
		{0xF2, 0xC4, 0xE2, 0x70, 0xF2, 0xC1}, {0xC4, 0xE2, 0x74, 0xF2, 0xC1}, {0xC4, 0xE3, 0x73, 0xF0, 0xC1, 3}, {0xC5, 0xF8, 0x28, 0xC1},
		{0xC5, 0xF8, 0x77}, {0xC4, 0xE2, 0x71, 0xDC, 0xC1},
	};

	CHECK_EQ(raised(andn, MODE_FLAT, FEATURES_ALL), -1);
	CHECK_EQ(raised(andn, MODE_FLAT & ~MODE_PE, FEATURES_ALL), VEC_UD);
	CHECK_EQ(raised(andn, MODE_FLAT | MODE_VM, FEATURES_ALL), VEC_UD);
	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		expect("VEX", "that is none of BMI", raised(refused[i], MODE_FLAT, FEATURES_ALL), VEC_UD);
}
