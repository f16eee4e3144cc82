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

TEST(callouts_fpu, without_ne_the_board_decides)
{
	struct vcpu *v = reset();
	v->cr0 &= ~CR0_NE;
	make_pending();
	CHECK_EQ(callout_fnstenv(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	make_pending();
	fake_ignne = false, fake_ferr = 0;
	CHECK_EQ(callout_fldenv(v, word_of(2), AREA, 0), CALLOUT_AGAIN); /* it stops */
	CHECK_EQ(callout_frstor(v, word_of(2), AREA, 0), CALLOUT_AGAIN);
	CHECK_EQ(fake_ferr, 2);
	CHECK(status() & FSW_ES);
	fake_ignne = true;
	fake.pages[AREA >> 12].kind = FAKE_ABSENT;
	CHECK_EQ(callout_frstor(v, word_of(2), AREA, 0), CALLOUT_FAULT);
	CHECK_EQ(v->fault.vector, VEC_PF);
	CHECK_EQ(v->x87_hidden, FSW_IE);
	CHECK(!(status() & (FSW_ES | FSW_IE)));
	cpu_show_x87(v);
	CHECK_EQ(status() & (FSW_ES | FSW_IE), FSW_ES | FSW_IE);
	CHECK_EQ(control(), 0x37E);
	fake.pages[AREA >> 12].kind = FAKE_RAM;
	CHECK_EQ(callout_fldenv(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(v->x87_hidden, 0); /* its own status word is whole */
	CHECK(status() & FSW_ES);
	fake_ignne = false;
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

/* 0 / [operand] with invalid operations unmasked: pending, and the processor knows where it was. Its guest code is D8 /6 at CS base + 1234h. */
#define CODE_BASE 0x3000u
static void divide_by_nothing(const uint8_t *code, size_t length)
{
	static const uint16_t unmasked = 0x37E;
	static float zero;
	uint64_t pc;
	__asm__ volatile("fninit; fldcw %2; fldz; lea 1f(%%rip), %0; 1: fdivs %1" : "=r"(pc) : "m"(zero), "m"(unmasked));
	fake_x87.code = pc;
	fake_x87.data = (uint64_t)&zero;
	fake_x87.eip = 0x234;
	fake_x87.eip_base = CODE_BASE;
	fake_x87.gva = 0x5678;
	memcpy(fake_byte(CODE_BASE + 0x234), code, length);
}
#define DIVIDE(...) divide_by_nothing((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

TEST(callouts_fpu, pointers_are_the_guest_s_own)
{
	struct vcpu *v = reset();
	DIVIDE(0x66, 0xD8, 0x35, 0x78, 0x56, 0, 0);
	CHECK_EQ(callout_fxsave(v, word_of(2), AREA + 0x200, 0), CALLOUT_NEXT);
	CHECK_EQ(fake_read32(AREA + 0x208), 0x234);
	CHECK_EQ(fake_read32(AREA + 0x20C), 0); /* no selector */
	CHECK_EQ(fake_read32(AREA + 0x210), 0x5678);
	CHECK_EQ(read16(AREA + 0x206), 0x035);
	CHECK_EQ(callout_fnsave(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(fake_read32(AREA + 12), 0x234);
	CHECK_EQ(fake_read32(AREA + 16), 0x035 << 16);
	CHECK_EQ(fake_read32(AREA + 20), 0x5678);
	CHECK_EQ(fake_read32(AREA + 24), 0xFFFF0000);
	/* Now they are cleared; and loaded, they come back. */
	CHECK_EQ(callout_fnstenv(v, word_of(2), AREA + 0x80, 0), CALLOUT_NEXT);
	CHECK_EQ(fake_read32(AREA + 0x80 + 12), 0);
	CHECK_EQ(fake_read32(AREA + 0x80 + 20), 0);
	CHECK_EQ(callout_frstor(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(callout_fnstenv(v, word_of(1), AREA + 0x80, 0), CALLOUT_NEXT);
	CHECK_EQ(read16(AREA + 0x80 + 6), 0x234);
	CHECK_EQ(read16(AREA + 0x80 + 8), 0);
	CHECK_EQ(read16(AREA + 0x80 + 10), 0x5678);
	clean();
	CHECK_EQ(callout_fxrstor(v, word_of(2), AREA + 0x200, 0), CALLOUT_NEXT);
	__asm__ volatile("fnclex");
	CHECK_EQ(callout_fnstenv(v, word_of(2), AREA + 0x80, 0), CALLOUT_NEXT);
	CHECK_EQ(fake_read32(AREA + 0x80 + 12), 0x234);
	CHECK_EQ(fake_read32(AREA + 0x80 + 16), 0x035 << 16);
	CHECK_EQ(fake_read32(AREA + 0x80 + 20), 0x5678);
	clean();
}

/* The operand is an offset in its segment, which a prefix or the address form names. */
TEST(callouts_fpu, operand_segments)
{
	static const struct { uint8_t code[5]; uint32_t dp; } cases[] = {
		{{0xD8, 0x33}, 0x5678 - 0x1000}, {{0xD8, 0x75, 4}, 0x5678 - 0x2000}, {{0xD8, 0x74, 0x24, 4}, 0x5678 - 0x2000},
		{{0x64, 0xD8, 0x75, 4}, 0x5678 - 0x3000}, {{0xD8, 0x35}, 0x5678 - 0x1000}, {{0x67, 0xD8, 0x32}, 0x5678 - 0x2000},
		{{0x67, 0xD8, 0x36}, 0x5678 - 0x1000}, {{0x67, 0xD8, 0x35}, 0x5678 - 0x1000}, {{0xD8, 0x74, 0x2B, 4}, 0x5678 - 0x1000},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct vcpu *v = reset();
		v->seg[SEG_DS].base = 0x1000;
		v->seg[SEG_SS].base = 0x2000;
		v->seg[SEG_FS].base = 0x3000;
		divide_by_nothing(cases[i].code, sizeof cases[i].code);
		cpu_note_x87(v);
		CHECK_EQ(v->x87.dp, cases[i].dp);
		clean();
	}
}

TEST(callouts_fpu, real_mode_environments_hold_linear_addresses)
{
	struct vcpu *v = reset();
	v->cr0 &= ~CR0_PE;
	DIVIDE(0x26, 0xD8, 0x35, 0xDE, 0xBC);
	fake_x87.gva = 0xABCDE;
	v->seg[SEG_ES].base = 0xA0000;
	CHECK_EQ(callout_fnsave(v, word_of(1), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(read16(AREA + 6), 0x3234);
	CHECK_EQ(read16(AREA + 8), 0x035);
	CHECK_EQ(read16(AREA + 10), 0xBCDE);
	CHECK_EQ(read16(AREA + 12), 0xA000);
	CHECK_EQ(callout_frstor(v, word_of(1), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(callout_fnsave(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(fake_read32(AREA + 12), 0xFFFF3234);
	CHECK_EQ(fake_read32(AREA + 16), 0x035);
	CHECK_EQ(fake_read32(AREA + 20), 0xFFFFBCDE);
	CHECK_EQ(fake_read32(AREA + 24), 0x0000A000);
	clean();
}

/* A store that faults has changed nothing: the pointers are still there, and still not the host's. */
TEST(callouts_fpu, pointers_survive_a_store_that_faults)
{
	struct vcpu *v = reset();
	DIVIDE(0xD8, 0x35, 0x78, 0x56);
	fake.pages[4].kind = FAKE_READ_ONLY;
	CHECK_EQ(callout_fnsave(v, word_of(2), 0x4000, 0), CALLOUT_FAULT);
	CHECK_EQ(status() & FSW_ES, FSW_ES);
	fake_x87.code = 0; /* the translation is gone by now */
	CHECK_EQ(callout_fnstenv(v, word_of(2), AREA, 0), CALLOUT_NEXT);
	CHECK_EQ(fake_read32(AREA + 12), 0x234);
	CHECK_EQ(fake_read32(AREA + 20), 0x5678);
	clean();
}
