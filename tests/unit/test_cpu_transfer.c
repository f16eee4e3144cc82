/* Far jumps, calls and returns, IRET, SYSENTER and SYSEXIT, against vol. 2 and vol. 3, 5.8. */
#include "tests/unit/cpu_fixture.h"

#define TARGET 0x00223344u

static enum callout_result jmp(uint16_t selector, uint32_t offset)
{
	return callout_jmp_far(&cpu, CALLOUT_ARG(CALLOUT_jmp_far, 7, 0, 2, 0, 0, 0, 0, 0), offset, selector);
}

static enum callout_result call_size(uint16_t selector, uint32_t offset, unsigned size)
{
	return callout_call_far(&cpu, CALLOUT_ARG(CALLOUT_call_far, 7, 0, size, 0, 0, 0, 0, 0), offset, selector);
}

static enum callout_result call(uint16_t selector, uint32_t offset)
{
	return call_size(selector, offset, 2);
}

static enum callout_result retf(unsigned size, uint32_t release)
{
	return callout_ret_far(&cpu, CALLOUT_ARG(CALLOUT_ret_far, 1, 0, size, 0, 0, 0, 0, 0), release, 0);
}

static enum callout_result iret(unsigned size)
{
	return callout_iret(&cpu, CALLOUT_ARG(CALLOUT_iret, 1, 0, size, 0, 0, 0, 0, 0), 0, 0);
}

/* Words on the current stack, the lowest first. */
static void stack(const uint32_t *words, unsigned count)
{
	cpu.gpr[ESP] -= 4 * count;
	memcpy(ram + cpu.gpr[ESP], words, 4 * count);
}
#define STACK(...) stack((const uint32_t[]){ __VA_ARGS__ }, sizeof((const uint32_t[]){ __VA_ARGS__ }) / 4)

TEST(cpu_transfer, far_jump)
{
	set_up();
	CHECK_EQ(jmp(CODE0, TARGET), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, TARGET);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK);
	CHECK_EQ(jmp(CODE16, 0xFFFF), CALLOUT_LEAVE);
	CHECK_EQ(cpu.seg[SEG_CS].selector, CODE16);
	CHECK(!(cpu.mode & MODE_CS32));
	CHECK_FAULTS(jmp(CODE16, 0x10000), VEC_GP, 0);
	poke32(DATA, TARGET);
	poke16(DATA + 4, CODE0);
	CHECK_EQ(callout_jmp_far(&cpu, ARG_MEM(jmp_far, 5, 2), DATA, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, TARGET);
	CHECK_EQ(cpu.seg[SEG_CS].selector, CODE0);
	poke16(DATA + 2, CODE16);
	CHECK_EQ(callout_jmp_far(&cpu, ARG_MEM(jmp_far, 5, 1), DATA, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, TARGET & 0xFFFF);
}

/* Non-conforming: RPL <= CPL and DPL == CPL; conforming: DPL <= CPL. CS.RPL becomes CPL. */
TEST(cpu_transfer, far_jump_privilege_matrix)
{
	for (unsigned i = 0; i < 128; i++) {
		unsigned rpl = i & 3, dpl = i >> 2 & 3, conforming = i >> 4 & 1, level = i >> 5;
		unsigned cpl = level == 2 ? 3 : level;
		if (level == 3) break;
		set_up_cpl(cpl);
		set_descriptor(GDT + FREE, 0, 0xFFFFF, 0x9A | conforming << 2 | dpl << 5, 0xC);
		bool allowed = conforming ? dpl <= cpl : rpl <= cpl && dpl == cpl;
		uint16_t selector = (uint16_t)(FREE | rpl);
		if (!allowed) {
			CHECK_FAULTS(jmp(selector, TARGET), VEC_GP, FREE);
			continue;
		}
		CHECK_EQ(jmp(selector, TARGET), CALLOUT_LEAVE);
		CHECK_EQ(cpu.seg[SEG_CS].selector, FREE | cpl);
		CHECK_EQ(cpu.cpl, cpl);
		CHECK(ram[GDT + FREE + 5] & 1);
		CHECK(cpu.seg[SEG_CS].ar & AR_ACCESSED);
	}
}

TEST(cpu_transfer, bad_targets)
{
	set_up();
	CHECK_FAULTS(jmp(0, TARGET), VEC_GP, 0);
	CHECK_FAULTS(jmp(DATA0, TARGET), VEC_GP, DATA0);
	CHECK_FAULTS(jmp(GDT_BYTES, TARGET), VEC_GP, GDT_BYTES);
	CHECK_FAULTS(jmp(ABSENT_CODE, TARGET), VEC_NP, ABSENT_CODE);
	CHECK_FAULTS(jmp(SEL_LDT, TARGET), VEC_GP, SEL_LDT);
	CHECK_FAULTS(call(ABSENT_CODE, TARGET), VEC_NP, ABSENT_CODE);
	set_descriptor(GDT + FREE, 0, 0xFFF, 0x9B, 4);
	CHECK_FAULTS(call(FREE, 0x1000), VEC_GP, 0);
}

TEST(cpu_transfer, far_call_and_return)
{
	set_up();
	CHECK_EQ(call(CODE0, TARGET), CALLOUT_LEAVE);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 8);
	CHECK_EQ(peek32(KERNEL_STACK - 8), 0x1007);
	CHECK_EQ(peek32(KERNEL_STACK - 4), CODE0);
	CHECK_EQ(retf(2, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x1007);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK);
	CHECK_EQ(call_size(CODE0, 0x5678, 1), CALLOUT_LEAVE);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 4);
	CHECK_EQ(peek16(KERNEL_STACK - 4), 0x100E);
	CHECK_EQ(peek16(KERNEL_STACK - 2), CODE0);
	CHECK_EQ(retf(1, 0x20), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x100E);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK + 0x20);
	rights[KERNEL_STACK / PAGE_SIZE - 1] = PAGE_PRESENT;
	cpu.gpr[ESP] = KERNEL_STACK;
	CHECK_FAULTS(call(CODE0, TARGET), VEC_PF, PF_PRESENT | ACCESS_WRITE);
}

TEST(cpu_transfer, call_gate_to_inner_level_copies_parameters)
{
	set_up_cpl(3);
	set_gate(GDT + CALL_GATE, CODE0, TARGET, 0xEC, 3);
	STACK(0x11, 0x22, 0x33);
	CHECK_EQ(call(CALL_GATE | 3, 0x99999999), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cpl, 0);
	CHECK_EQ(cpu.eip, TARGET);
	CHECK_EQ(cpu.seg[SEG_CS].selector, CODE0);
	CHECK_EQ(cpu.seg[SEG_SS].selector, DATA0);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 28);
	const uint32_t want[7] = { 0x1007, CODE3, 0x11, 0x22, 0x33, USER_STACK - 12, DATA3 };
	for (unsigned i = 0; i < 7; i++) CHECK_EQ(peek32(KERNEL_STACK - 28 + 4 * i), want[i]);
	/* And back, releasing the parameters on both stacks. */
	force_segment(SEG_ES, DATA0);
	force_segment(SEG_FS, CONFORMING0);
	CHECK_EQ(retf(2, 12), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cpl, 3);
	CHECK_EQ(cpu.eip, 0x1007);
	CHECK_EQ(cpu.gpr[ESP], USER_STACK);
	CHECK_EQ(cpu.seg[SEG_SS].selector, DATA3);
	/* Data of level 0 does not stay behind; user data and conforming code do. */
	CHECK_EQ(cpu.seg[SEG_ES].selector, 0);
	CHECK(cpu.seg[SEG_ES].ar & AR_UNUSABLE);
	CHECK_EQ(cpu.seg[SEG_DS].selector, DATA3);
	CHECK_EQ(cpu.seg[SEG_FS].selector, CONFORMING0);
	CHECK_EQ(MODE_SEG(cpu.mode, SEG_ES), MODE_SEG_GENERAL);
}

TEST(cpu_transfer, sixteen_bit_call_gate)
{
	set_up_cpl(3);
	set_gate(GDT + CALL_GATE, CODE0, 0xAAAA1234, 0xE4, 2);
	STACK(0x22220011); /* two 16-bit words */
	CHECK_EQ(call(CALL_GATE, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x1234);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 12);
	const uint16_t want[6] = { 0x1007, CODE3, 0x0011, 0x2222, (USER_STACK - 4) & 0xFFFF, DATA3 };
	for (unsigned i = 0; i < 6; i++) CHECK_EQ(peek16(KERNEL_STACK - 12 + 2 * i), want[i]);
}

TEST(cpu_transfer, call_gate_checks)
{
	set_up_cpl(3);
	set_gate(GDT + CALL_GATE, CODE0, TARGET, 0x8C, 0);
	CHECK_FAULTS(call(CALL_GATE, 0), VEC_GP, CALL_GATE); /* gate's DPL < CPL */
	set_gate(GDT + CALL_GATE, CODE0, TARGET, 0x6C, 0);
	CHECK_FAULTS(call(CALL_GATE, 0), VEC_NP, CALL_GATE);
	set_gate(GDT + CALL_GATE, 0, TARGET, 0xEC, 0);
	CHECK_FAULTS(call(CALL_GATE, 0), VEC_GP, 0);
	set_gate(GDT + CALL_GATE, DATA0, TARGET, 0xEC, 0);
	CHECK_FAULTS(call(CALL_GATE, 0), VEC_GP, DATA0);
	set_gate(GDT + CALL_GATE, ABSENT_CODE, TARGET, 0xEC, 0);
	CHECK_FAULTS(call(CALL_GATE, 0), VEC_NP, ABSENT_CODE);
	set_gate(GDT + CALL_GATE, CODE0, TARGET, 0xEC, 0);
	CHECK_FAULTS(jmp(CALL_GATE, 0), VEC_GP, CODE0); /* a jump changes no privilege */
	poke32(TSS + 8, 0);
	CHECK_FAULTS(call(CALL_GATE, 0), VEC_TS, 0);
	poke32(TSS + 8, DATA0);
	poke32(TSS + 4, 0x30000000);
	CHECK_FAULTS(call(CALL_GATE, 0), VEC_PF, ACCESS_WRITE);
	set_gate(GDT + CALL_GATE, CODE3, TARGET, 0xEC, 5);
	CHECK_EQ(jmp(CALL_GATE, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, TARGET);
	CHECK_EQ(cpu.cpl, 3);
	set_up();
	set_gate(GDT + CALL_GATE, CODE0, TARGET, 0x8C, 0);
	CHECK_FAULTS(call(CALL_GATE | 1, 0), VEC_GP, CALL_GATE); /* RPL > gate's DPL */
	set_gate(GDT + CALL_GATE, CODE3, TARGET, 0x8C, 0);
	CHECK_FAULTS(call(CALL_GATE, 0), VEC_GP, CODE3 & ~3); /* to an outer level */
}

TEST(cpu_transfer, conforming_target_of_a_gate_keeps_the_stack)
{
	set_up_cpl(3);
	set_gate(GDT + CALL_GATE, CONFORMING0, TARGET, 0xEC, 4);
	CHECK_EQ(call(CALL_GATE, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cpl, 3);
	CHECK_EQ(cpu.gpr[ESP], USER_STACK - 8);
	CHECK_EQ(cpu.seg[SEG_CS].selector, CONFORMING0 | 3);
}

TEST(cpu_transfer, iret_at_the_same_level)
{
	set_up();
	STACK(TARGET, CODE0, 0x00000000);
	CHECK_EQ(iret(2), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, TARGET);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK);
	CHECK_EQ(vcpu_eflags(&cpu), 2);
}

TEST(cpu_transfer, iret_to_user)
{
	set_up();
	force_segment(SEG_GS, DATA3);
	STACK(TARGET, CODE3, 0x3202, USER_STACK, DATA3);
	CHECK_EQ(iret(2), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cpl, 3);
	CHECK_EQ(cpu.mode & (MODE_CPL | MODE_IOPL_OK), 3 | MODE_IOPL_OK);
	CHECK_EQ(cpu.seg[SEG_CS].selector, CODE3);
	CHECK_EQ(cpu.seg[SEG_SS].selector, DATA3);
	CHECK_EQ(cpu.gpr[ESP], USER_STACK);
	CHECK_EQ(vcpu_eflags(&cpu), 0x3202);
	CHECK(cpu.seg[SEG_DS].ar & AR_UNUSABLE);
	CHECK_EQ(cpu.seg[SEG_GS].selector, DATA3);
	uint32_t mode = cpu.mode;
	cpu_update_mode(&cpu);
	CHECK_EQ(cpu.mode, mode);
}

TEST(cpu_transfer, iret_to_a_16_bit_stack_keeps_the_upper_half_of_esp)
{
	set_up();
	STACK(TARGET, CODE3, 0x202, 0x55551234, STACK16_3);
	CHECK_EQ(iret(2), CALLOUT_LEAVE);
	CHECK_EQ(cpu.gpr[ESP], 0x1234); /* kernel ESP is 0x0000xxxx */
	CHECK(!(cpu.mode & MODE_SS32));
	set_up();
	cpu.gpr[ESP] = 0x20100;
	STACK(TARGET, CODE3, 0x202, 0x55551234, STACK16_3);
	iret(2);
	CHECK_EQ(cpu.gpr[ESP], 0x21234);
}

TEST(cpu_transfer, bad_returns)
{
	static const struct { uint32_t cs, ss, want; } cases[] = {
		{ 0, DATA3, FAULT(VEC_GP, 0) }, { 3, DATA3, FAULT(VEC_GP, 0) }, { DATA3, DATA3, FAULT(VEC_GP, DATA3 & ~3) },
		{ CODE0 | 3, DATA3, FAULT(VEC_GP, CODE0) }, { CODE3 & ~3, DATA3, FAULT(VEC_GP, CODE3 & ~3) },
		{ GDT_BYTES, DATA3, FAULT(VEC_GP, GDT_BYTES) }, { ABSENT_CODE, DATA3, FAULT(VEC_NP, ABSENT_CODE) },
		{ CODE3, 0, FAULT(VEC_GP, 0) }, { CODE3, DATA0, FAULT(VEC_GP, DATA0) }, { CODE3, DATA3 & ~3, FAULT(VEC_GP, DATA3 & ~3) },
		{ CODE3, GDT_BYTES | 3, FAULT(VEC_GP, GDT_BYTES) }, { CODE3, FREE | 3, FAULT(VEC_SS, FREE) },
		{ CODE3, CODE3, FAULT(VEC_GP, CODE3 & ~3) },
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		set_up();
		set_descriptor(GDT + FREE, 0, 0xFFFFF, 0x73, 0xC);
		STACK(TARGET, cases[i].cs, 0x202, USER_STACK, cases[i].ss);
		CHECK_FAULTS(iret(2), cases[i].want >> 16, cases[i].want & 0xFFFF);
		set_up();
		set_descriptor(GDT + FREE, 0, 0xFFFFF, 0x73, 0xC);
		STACK(TARGET, cases[i].cs, USER_STACK, cases[i].ss);
		CHECK_FAULTS(retf(2, 0), cases[i].want >> 16, cases[i].want & 0xFFFF);
	}
	set_up_cpl(3);
	STACK(TARGET, CODE0, 0x202);
	CHECK_FAULTS(iret(2), VEC_GP, CODE0); /* never inwards */
	CHECK_FAULTS(retf(2, 0), VEC_GP, CODE0);
	set_up();
	STACK(0x10000, CODE16, 0x202);
	CHECK_FAULTS(iret(2), VEC_GP, 0);
	cpu.gpr[ESP] = RAM_SIZE - 8;
	CHECK_FAULTS(iret(2), VEC_PF, 0);
}

/* Conforming code may be returned to at its DPL or further out, never further in. */
TEST(cpu_transfer, return_to_conforming_code)
{
	set_up();
	set_descriptor(GDT + FREE, 0, 0xFFFFF, 0xFF, 0xC);
	STACK(TARGET, FREE, 0x202);
	CHECK_FAULTS(iret(2), VEC_GP, FREE);
	set_up();
	STACK(TARGET, CONFORMING0 | 3, 0x202, USER_STACK, DATA3);
	CHECK_EQ(iret(2), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cpl, 3);
	CHECK_EQ(cpu.seg[SEG_CS].selector, CONFORMING0 | 3);
}

/* Which flags IRET and POPF change at each privilege (vol. 2). */
struct flags_case {
	unsigned cpl, iopl, size;
	uint32_t iret, popf; /* the bits that an all-ones image sets */
};
#define ALWAYS 0x4DD5u /* CF PF AF ZF SF TF DF OF NT */
static const struct flags_case flags_cases[] = {
	{ 0, 0, 2, ALWAYS | 0x200 | 0x3000 | 0x40000 | 0x180000 | 0x200000, ALWAYS | 0x200 | 0x3000 | 0x40000 | 0x200000 },
	{ 0, 0, 1, ALWAYS | 0x200 | 0x3000, ALWAYS | 0x200 | 0x3000 },
	{ 3, 0, 2, ALWAYS | 0x40000 | 0x200000, ALWAYS | 0x40000 | 0x200000 },
	{ 3, 3, 2, ALWAYS | 0x200 | 0x40000 | 0x200000, ALWAYS | 0x200 | 0x40000 | 0x200000 },
	{ 3, 2, 1, ALWAYS, ALWAYS },
	{ 1, 0, 2, ALWAYS | 0x40000 | 0x200000, ALWAYS | 0x40000 | 0x200000 },
	{ 1, 1, 1, ALWAYS | 0x200, ALWAYS | 0x200 },
};

static void prepare_flags(const struct flags_case *c, uint32_t initial)
{
	set_up_cpl(c->cpl);
	cpu.if_flag = 0;
	vcpu_set_eflags(&cpu, initial, ~EFL_IOPL);
	cpu.eflags = (cpu.eflags & ~EFL_IOPL) | c->iopl << 12;
	cpu_update_mode(&cpu);
}

TEST(cpu_transfer, iret_flags)
{
	static const uint16_t code[4] = { CODE0, CODE1, 0, CODE3 };
	for (unsigned i = 0; i < ARRAY_LEN(flags_cases); i++) {
		const struct flags_case *c = &flags_cases[i];
		uint32_t kept = (c->iopl << 12) & ~(c->cpl == 0 ? 0x3000u : 0);
		uint32_t vm = c->cpl == 0 ? 0x20000 : 0;
		prepare_flags(c, 0);
		if (c->size == 2) STACK(TARGET, code[c->cpl], 0xFFFFFFFF & ~vm);
		else STACK(0x1000u | (uint32_t)code[c->cpl] << 16, 0xFFFF);
		CHECK_EQ(iret(c->size), CALLOUT_LEAVE);
		CHECK_EQ(vcpu_eflags(&cpu), c->iret | kept | (c->size == 2 ? EFL_RF : 0) | 2);
		CHECK_EQ((cpu.mode & MODE_TF) != 0, true);
		/* And an image of zeros clears the same. */
		uint32_t full = 0x3C7FD5 & ~0x4000u & ~0x3000u; /* no NT: that would be a task return */
		prepare_flags(c, full);
		if (c->size == 2) STACK(TARGET, code[c->cpl], 0);
		else STACK(0x1000u | (uint32_t)code[c->cpl] << 16, 0);
		CHECK_EQ(iret(c->size), CALLOUT_LEAVE);
		CHECK_EQ(vcpu_eflags(&cpu), ((full | c->iopl << 12) & ~c->iret) | 2);
	}
}

TEST(cpu_transfer, popf_flags)
{
	for (unsigned i = 0; i < ARRAY_LEN(flags_cases); i++) {
		const struct flags_case *c = &flags_cases[i];
		uint32_t arg = CALLOUT_ARG(CALLOUT_popf, 1, 0, c->size, 0, 0, 0, 0, 0);
		uint32_t kept = (c->iopl << 12) & ~(c->cpl == 0 ? 0x3000u : 0);
		prepare_flags(c, 0);
		STACK(0xFFFFFFFF);
		uint32_t esp = cpu.gpr[ESP];
		CHECK_EQ(callout_popf(&cpu, arg, 0, 0), CALLOUT_LEAVE);
		CHECK_EQ(cpu.eip, 0x1001);
		CHECK_EQ(cpu.gpr[ESP], esp + (1u << c->size));
		CHECK_EQ(vcpu_eflags(&cpu), c->popf | kept | 2);
		prepare_flags(c, 0x3D4FD5);
		STACK(0);
		callout_popf(&cpu, arg, 0, 0);
		/* A 32-bit POPF clears RF whatever it pops. */
		uint32_t cleared = c->popf | (c->size == 2 ? 0x10000 : 0);
		CHECK_EQ(vcpu_eflags(&cpu), ((0x3D4FD5 | c->iopl << 12) & ~cleared) | 2);
	}
}

TEST(cpu_transfer, popf_within_the_mode_stays_in_translated_code)
{
	set_up();
	STACK(0x246);
	uint32_t arg = CALLOUT_ARG(CALLOUT_popf, 1, 0, 2, 0, 0, 0, 0, 0);
	CHECK_EQ(callout_popf(&cpu, arg, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(vcpu_eflags(&cpu), 0x246);
	STACK(0x246);
	cpu.intr = 1;
	CHECK_EQ(callout_popf(&cpu, arg, 0, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x1001);
	STACK(0x46);
	CHECK_EQ(callout_popf(&cpu, arg, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.if_flag, 0);
	cpu.gpr[ESP] = RAM_SIZE;
	CHECK_FAULTS(callout_popf(&cpu, arg, 0, 0), VEC_PF, 0);
}

TEST(cpu_transfer, pushf_hides_rf_and_vm)
{
	set_up_cpl(3);
	vcpu_set_eflags(&cpu, 0xFFFFFFFF & ~EFL_VM, 0x3F7FD5);
	CHECK_EQ(callout_pushf(&cpu, CALLOUT_ARG(CALLOUT_pushf, 1, 0, 2, 0, 0, 0, 0, 0), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(peek32(USER_STACK - 4), 0x3C7FD7);
	CHECK_EQ(callout_pushf(&cpu, CALLOUT_ARG(CALLOUT_pushf, 1, 0, 1, 0, 0, 0, 0, 0), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[ESP], USER_STACK - 6);
	CHECK_EQ(peek16(USER_STACK - 6), 0x7FD7);
}

TEST(cpu_transfer, interrupt_and_iret_are_inverse)
{
	set_up_cpl(3);
	set_gate(IDT + 8 * 0x80, CODE0, TARGET, 0xEE, 0);
	cpu.flags = EFL_CF | EFL_OF;
	cpu.eflags |= EFL_ID | EFL_IOPL;
	cpu_update_mode(&cpu);
	cpu.eip = 0x1000 - 2;
	struct saved_state before = save_state();
	before.eip = 0x1000;
	callout_int_n(&cpu, CALLOUT_ARG(CALLOUT_int_n, 2, 0, 2, 0, 0, 0, 0, 0), 0x80, 0);
	CHECK_EQ(cpu.cpl, 0);
	CHECK_EQ(iret(2), CALLOUT_LEAVE);
	CHECK(state_unchanged(&before));
}

TEST(cpu_transfer, sysenter)
{
	set_up_cpl(3);
	cpu.sysenter_cs = 0x60;
	cpu.sysenter_esp = 0x7777000;
	cpu.sysenter_eip = TARGET;
	CHECK_EQ(callout_sysenter(&cpu, 2 << 8, 0, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cpl, 0);
	CHECK_EQ(cpu.eip, TARGET);
	CHECK_EQ(cpu.gpr[ESP], 0x7777000);
	CHECK_EQ(cpu.if_flag, 0);
	CHECK_EQ(cpu.seg[SEG_CS].selector, 0x60);
	CHECK_EQ(cpu.seg[SEG_CS].ar, 0xC09B);
	CHECK_EQ(cpu.seg[SEG_CS].limit, 0xFFFFFFFF);
	CHECK_EQ(cpu.seg[SEG_SS].selector, 0x68);
	CHECK_EQ(cpu.seg[SEG_SS].ar, 0xC093);
	CHECK_EQ(cpu.seg[SEG_DS].selector, DATA3);
	cpu.gpr[ECX] = USER_STACK;
	cpu.gpr[EDX] = 0x5000;
	CHECK_EQ(callout_sysexit(&cpu, 2 << 8, 0, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cpl, 3);
	CHECK_EQ(cpu.eip, 0x5000);
	CHECK_EQ(cpu.gpr[ESP], USER_STACK);
	CHECK_EQ(cpu.seg[SEG_CS].selector, 0x73);
	CHECK_EQ(cpu.seg[SEG_CS].ar, 0xC0FB);
	CHECK_EQ(cpu.seg[SEG_SS].selector, 0x7B);
	CHECK_EQ(cpu.seg[SEG_SS].ar, 0xC0F3);
	CHECK_FAULTS(callout_sysexit(&cpu, 2 << 8, 0, 0), VEC_GP, 0);
	cpu.sysenter_cs = 3;
	CHECK_FAULTS(callout_sysenter(&cpu, 2 << 8, 0, 0), VEC_GP, 0);
}

TEST(cpu_transfer, real_mode)
{
	set_up();
	cpu_reset(&cpu, false);
	cpu.gpr[ESP] = 0x1000;
	CHECK_EQ(call_size(0x1234, 0x10, 1), CALLOUT_LEAVE);
	CHECK_EQ(cpu.seg[SEG_CS].base, 0x12340);
	CHECK_EQ(cpu.eip, 0x10);
	CHECK_EQ(peek16(0xFFC), 0xFFF7);
	CHECK_EQ(peek16(0xFFE), 0xF000);
	CHECK_EQ(retf(1, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.seg[SEG_CS].base, 0xF0000);
	CHECK_EQ(cpu.eip, 0xFFF7);
	CHECK_EQ(cpu.gpr[ESP], 0x1000);
	CHECK_FAULTS(jmp(0x1234, 0x10000), VEC_GP, 0);
	poke16(0x1000, 0x77);
	poke16(0x1002, 0x2000);
	poke16(0x1004, 0x7202);
	CHECK_EQ(iret(1), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x77);
	CHECK_EQ(cpu.seg[SEG_CS].selector, 0x2000);
	CHECK_EQ(vcpu_eflags(&cpu), 0x7202);
	CHECK_EQ(cpu.gpr[ESP], 0x1006);
}

TEST(cpu_transfer, into_protected_mode_and_back)
{
	set_up();
	cpu_reset(&cpu, false);
	cpu.gdtr = (struct table_register){ GDT, GDT_BYTES - 1 };
	cpu.seg[SEG_CS].selector = 0xF003; /* a real-mode selector says nothing of privilege */
	cpu.gpr[EAX] = 1;
	CHECK_EQ(callout_mov_to_cr(&cpu, ARG_REG(mov_to_cr, 0, EAX, 2), 0, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cpl, 0);
	CHECK(cpu.mode & MODE_PE);
	CHECK_EQ(jmp(CODE0, TARGET), CALLOUT_LEAVE);
	CHECK(cpu.mode & MODE_CS32);
	cpu.gpr[EBX] = DATA0;
	CHECK_EQ(callout_mov_to_seg(&cpu, ARG_REG(mov_to_seg, SEG_SS, EBX, 2), 0, 0), CALLOUT_LEAVE);
	CHECK(cpu.mode & MODE_SS32);
}
