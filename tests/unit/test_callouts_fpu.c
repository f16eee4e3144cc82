/* FXSAVE and its relatives, on the x87 and MXCSR of this very process. */
#include "tests/unit/test_callouts.h"

#define AREA 0x2000u
#define FSW_IE 1u
#define FSW_ES 0x80u

static uint32_t word_of(unsigned size) { return CALLOUT_ARG(0, 3, 0, size, SEG_DS, 0, 0, 1, 0); }

static uint16_t status(void)
{
	uint16_t s;
	__asm__ volatile("fnstsw %0" : "=a"(s));
	return s;
}

static uint16_t control(void)
{
	uint16_t c;
	__asm__ volatile("fnstcw %0" : "=m"(c));
	return c;
}

static uint32_t get_mxcsr(void)
{
	uint32_t m;
	__asm__ volatile("stmxcsr %0" : "=m"(m));
	return m;
}

static void set_mxcsr(uint32_t m) { __asm__ volatile("ldmxcsr %0" : : "m"(m)); }
static uint16_t read16(gva_t gva) { return (uint16_t)fake_read32(gva); }
static void write16(gva_t gva, uint16_t x) { memcpy(fake_byte(gva), &x, 2); }
static void write32(gva_t gva, uint32_t x) { memcpy(fake_byte(gva), &x, 4); }

/* ST0 = pi, ST1 = 1, and an instruction whose address and operand the processor remembers. */
static void load_two(void)
{
	static uint32_t operand = 1;
	__asm__ volatile("fninit; fildl %0; fldpi" : : "m"(operand));
}

static int64_t pop_integer(void)
{
	int64_t x;
	__asm__ volatile("fistpll %0" : "=m"(x));
	return x;
}

/* An invalid operation that nobody masks: pending until the next waiting instruction. */
static void make_pending(void)
{
	uint16_t unmasked = 0x37E;
	__asm__ volatile("fninit; fldz; fldz; fdivp");
	/* IE is set and masked; unmasking makes it pending. */
	__asm__ volatile("fldcw %0" : : "m"(unmasked));
}

static struct vcpu *reset(void)
{
	struct vcpu *v = fake_reset();
	__asm__ volatile("fnclex; fninit");
	set_mxcsr(0x1F80);
	for (unsigned i = 0; i < sizeof v->xmm; i++) ((uint8_t *)v->xmm)[i] = (uint8_t)(i + 1);
	memset(fake.ram, 0xEE, sizeof fake.ram);
	return v;
}

static void clean(void)
{
	__asm__ volatile("fnclex; fninit");
	set_mxcsr(0x1F80);
}

TEST(callouts_fpu, fxsave_stores_what_a_32_bit_processor_would)
{
	struct vcpu *v = reset();
	load_two();
	set_mxcsr(0x9F80);
	CHECK_EQ(callout_fxsave(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	clean();
	CHECK_EQ(read16(AREA), 0x37F);
	CHECK_EQ(read16(AREA + 2), 6u << 11);
	CHECK_EQ(*fake_byte(AREA + 4), 0xC0);
	for (unsigned i = 8; i < 24; i++) CHECK_EQ(*fake_byte(AREA + i), 0); /* no host address */
	CHECK_EQ(fake_read32(AREA + 24), 0x9F80);
	CHECK_EQ(fake_read32(AREA + 28), 0xFFFF);
	CHECK_EQ(fake_read32(AREA + 48 + 4), 0x80000000); /* 1 */
	CHECK_EQ(read16(AREA + 48 + 8), 0x3FFF);
	CHECK_MEM(fake_byte(AREA + 160), v->xmm, 128);
	for (unsigned i = 288; i < 512; i++) CHECK_EQ(*fake_byte(AREA + i), 0xEE); /* no XMM8-15 */
}

TEST(callouts_fpu, fxrstor_restores_what_fxsave_stored)
{
	struct vcpu *v = reset();
	uint8_t xmm[8][16];
	memcpy(xmm, v->xmm, sizeof xmm);
	load_two();
	set_mxcsr(0xDF80);
	CHECK_EQ(callout_fxsave(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	clean();
	memset(v->xmm, 0, sizeof v->xmm);
	CHECK_EQ(callout_fxrstor(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(get_mxcsr(), 0xDF80);
	CHECK_EQ(status() >> 11 & 7, 6);
	CHECK_EQ(pop_integer(), 3);
	CHECK_EQ(pop_integer(), 1);
	CHECK_MEM(v->xmm, xmm, sizeof xmm);
	clean();
}

TEST(callouts_fpu, fxsave_and_fxrstor_fault_before_anything_changes)
{
	struct vcpu *v = reset();
	callout_fn *both[] = {callout_fxsave, callout_fxrstor};
	load_two();
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(both[i](v, word_of(2), AREA + 8, 0), CALLOUT_FAULT);
		CHECK_EQ(v->fault.vector, VEC_GP);
		fake.pages[3].kind = FAKE_ABSENT;
		CHECK_EQ(both[i](v, word_of(2), 0x2F00, 0), CALLOUT_FAULT);
		CHECK_EQ(v->fault.vector, VEC_PF);
		CHECK_EQ(v->fault.cr2, 0x3000);
		for (uint32_t bit = CR0_EM; bit <= CR0_TS; bit <<= 1) {
			v->cr0 |= bit;
			CHECK_EQ(both[i](v, word_of(2), AREA, 0), CALLOUT_FAULT);
			CHECK_EQ(v->fault.vector, VEC_NM);
			v->cr0 &= ~bit;
		}
	}
	CHECK_EQ(*fake_byte(0x2F00), 0xEE);
	CHECK_EQ(pop_integer(), 3);
	clean();
}

TEST(callouts_fpu, fxrstor_refuses_reserved_mxcsr_bits)
{
	struct vcpu *v = reset();
	CHECK_EQ(callout_fxsave(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	write32(AREA + 24, 0x11F80);
	memset(v->xmm, 0, sizeof v->xmm);
	CHECK_EQ(callout_fxrstor(v, word_of(2), AREA, 0), CALLOUT_FAULT);
	CHECK_EQ(v->fault.vector, VEC_GP);
	CHECK_EQ(v->xmm[0][0], 0);
	CHECK_EQ(get_mxcsr(), 0x1F80);
}

TEST(callouts_fpu, fnsave_stores_and_initialises)
{
	struct vcpu *v = reset();
	load_two();
	CHECK_EQ(callout_fnsave(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(status(), 0);
	CHECK_EQ(control(), 0x37F);
	CHECK_EQ(fake_read32(AREA), 0xFFFF037F);
	CHECK_EQ(fake_read32(AREA + 4), 0xFFFF3000);
	CHECK_EQ(fake_read32(AREA + 8), 0xFFFF0FFF);
	CHECK_EQ(fake_read32(AREA + 12), 0);
	CHECK_EQ(fake_read32(AREA + 16), 0);
	CHECK_EQ(fake_read32(AREA + 20), 0);
	CHECK_EQ(fake_read32(AREA + 24), 0xFFFF0000);
	CHECK_EQ(read16(AREA + 28 + 8), 0x4000); /* pi */
	CHECK_EQ(*fake_byte(AREA + 108), 0xEE);
	CHECK_EQ(callout_frstor(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(pop_integer(), 3);
	CHECK_EQ(pop_integer(), 1);
	clean();
}

TEST(callouts_fpu, fnsave_and_frstor_in_16_bit_form)
{
	struct vcpu *v = reset();
	load_two();
	CHECK_EQ(callout_fnsave(v, word_of(1), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(read16(AREA), 0x37F);
	CHECK_EQ(read16(AREA + 2), 0x3000);
	CHECK_EQ(read16(AREA + 4), 0x0FFF);
	for (unsigned i = 6; i < 14; i++) CHECK_EQ(*fake_byte(AREA + i), 0);
	CHECK_EQ(read16(AREA + 14 + 8), 0x4000);
	CHECK_EQ(*fake_byte(AREA + 94), 0xEE);
	CHECK_EQ(callout_frstor(v, word_of(1), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(pop_integer(), 3);
	CHECK_EQ(pop_integer(), 1);
	clean();
}

TEST(callouts_fpu, fnstenv_masks_exceptions_and_fldenv_unmasks_them)
{
	struct vcpu *v = reset();
	make_pending();
	CHECK(status() & FSW_ES);
	CHECK_EQ(callout_fnstenv(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(fake_read32(AREA), 0xFFFF037E);
	CHECK_EQ(read16(AREA + 4) & (FSW_ES | FSW_IE), FSW_ES | FSW_IE);
	CHECK_EQ(*fake_byte(AREA + 28), 0xEE);
	CHECK_EQ(control() & 0x3F, 0x3F);
	CHECK(!(status() & FSW_ES));
	CHECK_EQ(callout_fldenv(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(control(), 0x37E);
	CHECK(status() & FSW_ES);
	CHECK_EQ(callout_fldenv(v, word_of(2), AREA, 0), CALLOUT_FAULT); /* it waits */
	CHECK_EQ(v->fault.vector, VEC_MF);
	CHECK_EQ(callout_frstor(v, word_of(2), AREA, 0), CALLOUT_FAULT);
	CHECK_EQ(v->fault.vector, VEC_MF);
	clean();
}

TEST(callouts_fpu, a_pending_exception_survives_what_does_not_wait)
{
	struct vcpu *v = reset();
	make_pending();
	CHECK_EQ(callout_fxsave(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK(status() & FSW_ES);
	clean();
	CHECK_EQ(callout_fxrstor(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK(status() & FSW_ES);
	CHECK_EQ(callout_fxrstor(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(callout_fnsave(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK(!(status() & FSW_ES));
	clean();
}

TEST(callouts_fpu, stores_that_fault_leave_the_state_alone)
{
	struct vcpu *v = reset();
	fake.pages[3].kind = FAKE_READ_ONLY;
	for (int pending = 0; pending < 2; pending++) {
		pending ? make_pending() : load_two();
		uint16_t s = status(), c = control();
		CHECK_EQ(callout_fnsave(v, word_of(2), 0x2FF0, 0), CALLOUT_FAULT);
		CHECK_EQ(v->fault.vector, VEC_PF);
		CHECK_EQ(status(), s);
		CHECK_EQ(control(), c);
		CHECK_EQ(callout_fnstenv(v, word_of(2), 0x2FF0, 0), CALLOUT_FAULT);
		CHECK_EQ(status(), s);
		CHECK_EQ(control(), c);
		if (!pending) CHECK_EQ(pop_integer(), 3);
	}
	CHECK_EQ(*fake_byte(0x2FF0), 0xEE);
	clean();
}

TEST(callouts_fpu, fldenv_in_16_bit_form)
{
	struct vcpu *v = reset();
	write16(AREA, 0x27F);
	write16(AREA + 2, 0x3800);
	write16(AREA + 4, 0xFFFF);
	CHECK_EQ(callout_fldenv(v, word_of(1), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(control(), 0x27F);
	CHECK_EQ(status() & 0x3800, 0x3800);
	CHECK_EQ(callout_fnstenv(v, word_of(1), 0x2100, 0), CALLOUT_NEXT);
	CHECK_EQ(read16(0x2104), 0xFFFF);
	clean();
	v->cr0 |= CR0_TS;
	CHECK_EQ(callout_fldenv(v, word_of(1), AREA, 0), CALLOUT_FAULT);
	CHECK_EQ(v->fault.vector, VEC_NM);
}
