/* For tests of the translator by itself: guest bytes in, host code in a buffer out. Each test program has its own copy. */
#ifndef TESTS_UNIT_TRANSLATOR_FIXTURE_H
#define TESTS_UNIT_TRANSLATOR_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "base/abi.h"
#include "translator/translator.h"

#define FIXTURE_CODE_PC 0x500010000000ull
#define MODE_FLAT (MODE_CS32 | MODE_SS32 | MODE_PE | MODE_IOPL_OK)
#define MODE_USER (MODE_CS32 | MODE_SS32 | MODE_PE | 3)
#define MODE_TRAP (MODE_USER | MODE_TRAP_PADS)
#define MODE_AT_0 (MODE_TRAP | MODE_LOW)
/* 16-bit code on a 16-bit stack: in real mode, in V86 mode, in a protected segment; every segment has a limit. */
#define MODE_ALL_SEGS(seg_class) (0x555u * (seg_class) << MODE_SEG_SHIFT)
#define MODE_REAL (MODE_IOPL_OK | MODE_ALL_SEGS(MODE_SEG_LIMIT))
#define MODE_V86 (MODE_PE | MODE_VM | 3 | MODE_ALL_SEGS(MODE_SEG_LIMIT))
#define MODE_SMALL (MODE_PE | 3 | MODE_ALL_SEGS(MODE_SEG_LIMIT))
#define MODE_WITH_SEG(seg, seg_class) ((uint32_t)(seg_class) << (MODE_SEG_SHIFT + 2 * (seg)))
#define FIXTURE_CANARY 0xA5

static uint8_t fixture_code[TRANSLATOR_MAX_BYTES + 64];
__attribute__((unused)) static struct translator_output fixture_out;

static const struct translator_stubs fixture_stubs = {
	.chain = FIXTURE_CODE_PC - 0x1000, .lookup = FIXTURE_CODE_PC - 0x2000, .lookup_slow = FIXTURE_CODE_PC - 0x3000,
	.lookup_parked = FIXTURE_CODE_PC - 0x2800, .lookup_slow_parked = FIXTURE_CODE_PC - 0x3800,
	.callout = FIXTURE_CODE_PC - 0x4000, .soft = FIXTURE_CODE_PC - 0x5000, .sysenter = FIXTURE_CODE_PC - 0x6000, .sysexit = FIXTURE_CODE_PC - 0x7000,
	.load = {[SEG_ES] = FIXTURE_CODE_PC - 0x8000, [SEG_DS] = FIXTURE_CODE_PC - 0x8000, [SEG_FS] = FIXTURE_CODE_PC - 0x8000, [SEG_GS] = FIXTURE_CODE_PC - 0x8000},
};

/* translator_input.peek: everywhere stands mov esi, [esp]; ret. */
static inline const uint8_t *fixture_thunk(void *ctx, gva_t gva)
{
	static const uint8_t thunk[] = {0x8B, 0x34, 0x24, 0xC3};

	(void)ctx;
	(void)gva;
	return thunk;
}

static inline struct translator_input fixture_input(const uint8_t *bytes, uint32_t length, uint32_t mode)
{
	return (struct translator_input){
		.bytes = bytes, .length = length, .eip = 0x1000, .mode = mode, .features = FEATURES_ALL, .max_instructions = 1, .gfn2 = GFN_NONE, .stubs = fixture_stubs,
		.code = fixture_code, .code_pc = FIXTURE_CODE_PC, .capacity = TRANSLATOR_MAX_BYTES,
	};
}

/* Numbers that a seed decides (xorshift64*). */
static inline uint64_t fixture_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545F4914F6CDD1Dull;
}

/* A positive number from the environment, or what stands for it. */
static inline uint64_t fixture_setting(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	uint64_t value = text ? strtoull(text, NULL, 0) : 0;

	return value ? value : otherwise;
}

#endif
