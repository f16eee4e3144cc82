/* IN and OUT, PUSHA, POPA, ENTER, BOUND, and decimal arithmetic. */
#include "tests/unit/test_callouts.h"

static uint32_t word_of(unsigned size) { return CALLOUT_ARG(0, 2, 0, size, SEG_DS, 0, 0, 0, 0); }
static void write16(gva_t gva, uint16_t x) { memcpy(fake_byte(gva), &x, 2); }
static void write32(gva_t gva, uint32_t x) { memcpy(fake_byte(gva), &x, 4); }

static struct vcpu *reset(void)
{
	struct vcpu *v = fake_reset();
	for (unsigned i = 0; i < 8; i++) v->gpr[i] = 0x11110000u * (i + 1) + 0x0101u * i;
	v->gpr[ESP] = 0x2000;
	return v;
}

static void stack16(uint32_t limit)
{
	fake_segment(SEG_SS, 0x10000, limit);
	fake.v.seg[SEG_SS].ar &= ~AR_DB;
	fake.v.mode &= ~MODE_SS32;
	if (limit != ~0u) fake.v.seg[SEG_SS].ar &= ~AR_G;
}

TEST(callouts_misc, in_merges_into_the_accumulator)
{
	struct vcpu *v = reset();
	v->gpr[EAX] = 0xAABBCCDD;
	v->gpr[EDX] = 0xFFFF03F8;
	CHECK_EQ(callout_in(v, word_of(0), 0x99, 0), CALLOUT_NEXT);
	CHECK_EQ(fake.log[0].at, 0x3F8);
	CHECK_EQ(fake.log[0].size, 1);
	CHECK_EQ(v->gpr[EAX], 0xAABBCC00 | fake.log[0].value);
	CHECK_EQ(callout_in(v, word_of(1), 0x60, 1), CALLOUT_NEXT);
	CHECK_EQ(fake.log[1].at, 0x60);
	CHECK_EQ(v->gpr[EAX], 0xAABB0000 | fake.log[1].value);
	CHECK_EQ(callout_in(v, word_of(2), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(v->gpr[EAX], fake.log[2].value);
}

TEST(callouts_misc, out_writes_its_size_alone)
{
	struct vcpu *v = reset();
	static const uint32_t values[] = {0xDD, 0xCCDD, 0xAABBCCDD};
	v->gpr[EAX] = 0xAABBCCDD;
	v->gpr[EDX] = 0x80;
	for (unsigned size = 0; size < 3; size++) {
		CHECK_EQ(callout_out(v, word_of(size), 0x64, size & 1), CALLOUT_NEXT);
		CHECK(fake.log[size].write && fake.log[size].port);
		CHECK_EQ(fake.log[size].at, size & 1 ? 0x64 : 0x80);
		CHECK_EQ(fake.log[size].size, 1u << size);
		CHECK_EQ(fake.log[size].value, values[size]);
	}
	v->mode = (v->mode & ~MODE_IOPL_OK) | 3;
	v->cpl = 3;
	CHECK_EQ(callout_out(v, word_of(0), 0, 0), CALLOUT_FAULT);
	CHECK_EQ(v->fault.vector, VEC_GP);
	CHECK_EQ(callout_in(v, word_of(0), 0, 0), CALLOUT_FAULT);
	CHECK_EQ(fake.logged, 3);
}

TEST(callouts_misc, pusha_and_popa)
{
	struct vcpu *v = reset();
	uint32_t before[8];
	memcpy(before, v->gpr, sizeof before);
	CHECK_EQ(callout_pusha(v, word_of(2), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(v->gpr[ESP], 0x2000 - 32);
	for (unsigned i = 0; i < 8; i++) CHECK_EQ(fake_read32(0x2000 - 4 * (i + 1)), before[i]);
	for (unsigned i = 0; i < 8; i++) if (i != ESP) v->gpr[i] = 0;
	write32(0x2000 - 4 * (ESP + 1), 0xDEAD); /* POPA throws ESP away */
	CHECK_EQ(callout_popa(v, word_of(2), 0, 0), CALLOUT_NEXT);
	CHECK_MEM(v->gpr, before, sizeof before);
}

TEST(callouts_misc, pusha_and_popa_in_16_bits)
{
	struct vcpu *v = reset();
	uint32_t before[8];
	stack16(0xFFFF);
	v->gpr[ESP] = 0x77770008; /* wraps within the segment */
	memcpy(before, v->gpr, sizeof before);
	CHECK_EQ(callout_pusha(v, word_of(1), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(v->gpr[ESP], 0x7777FFF8);
	CHECK_EQ((uint16_t)fake_read32(0x10006), (uint16_t)before[EAX]);
	CHECK_EQ((uint16_t)fake_read32(0x1FFF8), (uint16_t)before[EDI]);
	for (unsigned i = 0; i < 8; i++) if (i != ESP) v->gpr[i] ^= 0x5555;
	CHECK_EQ(callout_popa(v, word_of(1), 0, 0), CALLOUT_NEXT);
	CHECK_MEM(v->gpr, before, sizeof before);
}

TEST(callouts_misc, pusha_and_popa_fault_whole)
{
	struct vcpu *v = reset();
	uint32_t before[8];
	fake.pages[1].kind = FAKE_ABSENT;
	v->gpr[ESP] = 0x2010;
	memcpy(before, v->gpr, sizeof before);
	CHECK_EQ(callout_pusha(v, word_of(2), 0, 0), CALLOUT_FAULT);
	CHECK_EQ(v->fault.vector, VEC_PF);
	CHECK_EQ(fake_read32(0x200C), 0);
	v->gpr[ESP] = before[ESP] = 0x0FF0;
	CHECK_EQ(callout_popa(v, word_of(2), 0, 0), CALLOUT_FAULT);
	fake_segment(SEG_SS, 0, 0x1FFF);
	v->gpr[ESP] = before[ESP] = 0x1FF0;
	CHECK_EQ(callout_popa(v, word_of(2), 0, 0), CALLOUT_FAULT);
	CHECK_EQ(v->fault.vector, VEC_SS);
	CHECK_MEM(v->gpr, before, sizeof before);
}

TEST(callouts_misc, enter_without_nesting)
{
	struct vcpu *v = reset();
	uint32_t ebp = v->gpr[EBP];
	CHECK_EQ(callout_enter(v, word_of(2), 0x20, 0), CALLOUT_NEXT);
	CHECK_EQ(fake_read32(0x1FFC), ebp);
	CHECK_EQ(v->gpr[EBP], 0x1FFC);
	CHECK_EQ(v->gpr[ESP], 0x1FDC);
}

TEST(callouts_misc, enter_copies_the_display)
{
	struct vcpu *v = reset();
	v->gpr[EBP] = 0x3000;
	write32(0x2FFC, 0xAAAA);
	write32(0x2FF8, 0xBBBB);
	CHECK_EQ(callout_enter(v, word_of(2), 8, 0x23), CALLOUT_NEXT); /* level 3: modulo 32 */
	CHECK_EQ(fake_read32(0x1FFC), 0x3000);
	CHECK_EQ(fake_read32(0x1FF8), 0xAAAA);
	CHECK_EQ(fake_read32(0x1FF4), 0xBBBB);
	CHECK_EQ(fake_read32(0x1FF0), 0x1FFC);
	CHECK_EQ(v->gpr[EBP], 0x1FFC);
	CHECK_EQ(v->gpr[ESP], 0x1FF0 - 8);
	/* A display that overlaps the new frame: EBP - 4 is where EBP was just pushed. */
	v->gpr[EBP] = v->gpr[ESP] = 0x2800;
	CHECK_EQ(callout_enter(v, word_of(2), 0, 2), CALLOUT_NEXT);
	CHECK_EQ(fake_read32(0x27F8), 0x2800);
}

TEST(callouts_misc, enter_in_16_bits)
{
	struct vcpu *v = reset();
	stack16(0xFFFF);
	v->gpr[ESP] = 0x12340001u + 1;
	v->gpr[EBP] = 0xABCD2000;
	write16(0x11FFE, 0x4242);
	CHECK_EQ(callout_enter(v, word_of(1), 0x10, 2), CALLOUT_NEXT);
	CHECK_EQ((uint16_t)fake_read32(0x10000), 0x2000);
	CHECK_EQ((uint16_t)fake_read32(0x1FFFC), 0x0000);
	CHECK_EQ((uint16_t)(fake_read32(0x1FFFC) >> 16), 0x4242);
	CHECK_EQ(v->gpr[EBP], 0xABCD0000);
	CHECK_EQ(v->gpr[ESP], 0x1234FFEC);
}

TEST(callouts_misc, enter_faults_whole)
{
	struct vcpu *v = reset();
	uint32_t before[8];
	fake.pages[1].kind = FAKE_READ_ONLY;
	v->gpr[ESP] = 0x2008;
	memcpy(before, v->gpr, sizeof before);
	CHECK_EQ(callout_enter(v, word_of(2), 0, 3), CALLOUT_FAULT);
	CHECK_EQ(fake_read32(0x2004), 0);
	CHECK_EQ(callout_enter(v, word_of(2), 0x10, 0), CALLOUT_FAULT); /* only the final stack pointer faults */
	CHECK_EQ(v->fault.vector, VEC_PF);
	CHECK_EQ(v->fault.cr2, 0x1FF4);
	CHECK_EQ(fake_read32(0x2004), 0);
	v->gpr[EBP] = before[EBP] = 0x1000000;
	CHECK_EQ(callout_enter(v, word_of(2), 0, 2), CALLOUT_FAULT);
	CHECK_EQ(v->fault.cr2, 0xFFFFFC);
	CHECK_MEM(v->gpr, before, sizeof before);
}

TEST(callouts_misc, bound_compares_signed)
{
	static const struct {
		int32_t index, low, high;
		bool in;
	} cases[] = {{0, 0, 0, true}, {-1, 0, 5, false}, {-3, -4, -2, true}, {6, 0, 5, false}, {5, 0, 5, true}, {-5, -4, -2, false}};
	struct vcpu *v = reset();
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		for (unsigned size = 1; size <= 2; size++) {
			v->gpr[EBX] = size == 2 ? (uint32_t)cases[i].index : 0x70000000u | (uint16_t)cases[i].index;
			if (size == 2) write32(0x1000, (uint32_t)cases[i].low), write32(0x1004, (uint32_t)cases[i].high);
			else write16(0x1000, (uint16_t)cases[i].low), write16(0x1002, (uint16_t)cases[i].high);
			enum callout_result result = callout_bound(v, word_of(size) | EBX << 12, 0x1000, 0);
			CHECK_EQ(result, cases[i].in ? CALLOUT_NEXT : CALLOUT_FAULT);
			if (!cases[i].in) CHECK_EQ(v->fault.vector, VEC_BR);
		}
	}
}

/* Opcode, AX, flags before; AX, flags after: from a processor. */
static const struct {
	uint8_t opcode, imm;
	uint16_t ax, flags_before, result, flags;
} bcd_cases[] = {
#include "tests/unit/bcd_cases.inc"
};

TEST(callouts_misc, decimal_arithmetic_is_a_processors)
{
	struct vcpu *v = reset();
	for (unsigned i = 0; i < ARRAY_LEN(bcd_cases) && !test_has_failed(); i++) {
		v->gpr[EAX] = 0x98760000u | bcd_cases[i].ax;
		v->flags = bcd_cases[i].flags_before;
		CHECK_EQ(callout_bcd(v, 0, bcd_cases[i].imm, bcd_cases[i].opcode), CALLOUT_NEXT);
		CHECK_EQ(v->gpr[EAX], 0x98760000u | bcd_cases[i].result);
		CHECK_EQ(v->flags, bcd_cases[i].flags);
		if (test_has_failed()) FAIL("opcode %x, AX %x", bcd_cases[i].opcode, bcd_cases[i].ax);
	}
}

/* Packed decimal: for all a, b in 0..99, DAA after ADD and DAS after SUB give the sum and difference with carry. */
TEST(callouts_misc, decimal_adjustment_adds_and_subtracts)
{
	struct vcpu *v = reset();
	for (int a = 0; a < 100; a++) {
		for (int b = 0; b < 100; b++) {
			int x = a / 10 * 16 + a % 10, y = b / 10 * 16 + b % 10;
			v->gpr[EAX] = (uint8_t)(x + y);
			v->flags = (x + y > 0xFF ? EFL_CF : 0) | ((x & 15) + (y & 15) > 15 ? EFL_AF : 0);
			callout_bcd(v, 0, 0, 0x27);
			CHECK_EQ(v->gpr[EAX], (a + b) % 100 / 10 * 16 + (a + b) % 10);
			CHECK_EQ(v->flags & EFL_CF, a + b > 99);
			v->gpr[EAX] = (uint8_t)(x - y);
			v->flags = (x < y ? EFL_CF : 0) | ((x & 15) < (y & 15) ? EFL_AF : 0);
			callout_bcd(v, 0, 0, 0x2F);
			CHECK_EQ(v->gpr[EAX], (a - b + 100) % 100 / 10 * 16 + (a - b + 100) % 10);
			CHECK_EQ(v->flags & EFL_CF, a < b);
		}
	}
}

TEST(callouts_misc, aam_by_zero_is_a_division_error)
{
	struct vcpu *v = reset();
	v->flags = EFL_CF;
	CHECK_EQ(callout_bcd(v, 0, 0, 0xD4), CALLOUT_FAULT);
	CHECK_EQ(v->fault.vector, VEC_DE);
	CHECK_EQ(v->flags, EFL_CF);
}
