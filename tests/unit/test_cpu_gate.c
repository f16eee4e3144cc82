/* Exceptions, interrupts and INT n through the IDT, against vol. 3 ch. 6. */
#include "tests/unit/cpu_fixture.h"

#define HANDLER 0x00123456u
enum { INT32 = 0x8E, TRAP32 = 0x8F, INT16 = 0x86, TRAP16 = 0x87, DPL3 = 0x60 };

static void gate(unsigned vector, uint16_t selector, uint32_t access)
{
	set_gate(IDT + 8 * vector, selector, HANDLER, access, 0);
}

static bool raise(uint8_t vector)
{
	cpu_raise(&cpu, vector);
	return cpu_deliver_fault(&cpu);
}

static bool raise_error(uint8_t vector, uint32_t error)
{
	cpu_raise_error(&cpu, vector, error);
	return cpu_deliver_fault(&cpu);
}

static enum callout_result int_n(uint8_t vector)
{
	return callout_int_n(&cpu, CALLOUT_ARG(CALLOUT_int_n, 2, 0, 2, 0, 0, 0, 0, 0), vector, 0);
}

TEST(cpu_gate, fault_at_the_same_level)
{
	set_up();
	gate(VEC_GP, CODE0, INT32);
	cpu.flags = EFL_CF | EFL_ZF;
	cpu.df_flag = 1;
	cpu.eflags = EFL_TF | EFL_NT | EFL_AC;
	CHECK(raise_error(VEC_GP, 0x58));
	CHECK_EQ(cpu.eip, HANDLER);
	CHECK_EQ(cpu.seg[SEG_CS].selector, CODE0);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 16);
	CHECK_EQ(peek32(KERNEL_STACK - 16), 0x58);
	CHECK_EQ(peek32(KERNEL_STACK - 12), 0x1000);
	CHECK_EQ(peek32(KERNEL_STACK - 8), CODE0);
	/* CF, fixed, ZF, TF, IF, DF, NT, RF (set for a fault), AC */
	CHECK_EQ(peek32(KERNEL_STACK - 4), 0x1 | 0x2 | 0x40 | 0x100 | 0x200 | 0x400 | 0x4000 | 0x10000 | 0x40000);
	CHECK_EQ(vcpu_eflags(&cpu), 0x1 | 0x2 | 0x40 | 0x400 | 0x40000);
	CHECK(!(cpu.mode & MODE_TF));
}

TEST(cpu_gate, trap_gate_keeps_interrupts_on)
{
	set_up();
	gate(VEC_DE, CODE0, TRAP32);
	CHECK(raise(VEC_DE));
	CHECK_EQ(cpu.if_flag, 1);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 12);
	CHECK_EQ(peek32(KERNEL_STACK - 12), 0x1000);
}

TEST(cpu_gate, stack_switch_from_user)
{
	set_up_cpl(3);
	gate(VEC_PF, CODE0, INT32);
	cpu.fault = (struct guest_fault){ VEC_PF, true, 6, 0xDEAD000 };
	cpu.cr2 = 1;
	CHECK(cpu_deliver_fault(&cpu));
	CHECK_EQ(cpu.cr2, 0xDEAD000);
	CHECK_EQ(cpu.cpl, 0);
	CHECK_EQ(cpu.mode & MODE_CPL, 0);
	CHECK_EQ(cpu.seg[SEG_CS].selector, CODE0);
	CHECK_EQ(cpu.seg[SEG_SS].selector, DATA0);
	CHECK_EQ(cpu.seg[SEG_DS].selector, DATA3);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 24);
	CHECK_EQ(peek32(KERNEL_STACK - 4), DATA3);
	CHECK_EQ(peek32(KERNEL_STACK - 8), USER_STACK);
	CHECK_EQ(peek32(KERNEL_STACK - 12), 0x10202);
	CHECK_EQ(peek32(KERNEL_STACK - 16), CODE3);
	CHECK_EQ(peek32(KERNEL_STACK - 20), 0x1000);
	CHECK_EQ(peek32(KERNEL_STACK - 24), 6);
}

TEST(cpu_gate, frame_is_written_with_supervisor_rights)
{
	set_up_cpl(3);
	gate(VEC_UD, CODE0, INT32);
	memset(rights, PAGE_PRESENT | PAGE_WRITABLE, 0x9000 / PAGE_SIZE);
	CHECK(raise(VEC_UD));
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 20);
}

TEST(cpu_gate, level_one_handler)
{
	set_up_cpl(3);
	gate(VEC_UD, CODE1, INT32);
	CHECK(raise(VEC_UD));
	CHECK_EQ(cpu.cpl, 1);
	CHECK_EQ(cpu.seg[SEG_CS].selector, CODE1);
	CHECK_EQ(cpu.seg[SEG_SS].selector, DATA1);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 0x800 - 20);
}

TEST(cpu_gate, conforming_handler_stays_at_the_level)
{
	set_up_cpl(3);
	gate(VEC_UD, CONFORMING0, INT32);
	CHECK(raise(VEC_UD));
	CHECK_EQ(cpu.cpl, 3);
	CHECK_EQ(cpu.seg[SEG_CS].selector, CONFORMING0 | 3);
	CHECK_EQ(cpu.gpr[ESP], USER_STACK - 12);
}

/* A fault whose frame lies misaligned at CPL 3: the instruction that raised it starts over. */
static void check_starts_over_misaligned(void)
{
	cpu.cr0 |= CR0_AM;
	cpu.eflags |= EFL_AC;
	cpu.gpr[ESP] = USER_STACK - 2;
	cpu_update_mode(&cpu);
	CHECK(raise_error(VEC_GP, 0));
	CHECK_EQ(cpu.eip, 0x1000);
	CHECK_EQ(cpu.gpr[ESP], USER_STACK - 2);
	CHECK_EQ(cpu.cpl, 3);
}

/* #AC is not contributory: a frame that lies misaligned at CPL 3 is one #AC after the other. A processor tries for ever. */
TEST(cpu_gate, endless_alignment_checks_come_back)
{
	set_up_cpl(3);
	gate(VEC_GP, CODE3, INT32);
	gate(VEC_AC, CODE3, INT32);
	check_starts_over_misaligned();
	cpu.gpr[ESP] = USER_STACK;
	CHECK(raise_error(VEC_AC, 0));
	CHECK_EQ(cpu.eip, HANDLER);
	CHECK_EQ(cpu.gpr[ESP], USER_STACK - 16);
}

/* So are #AC and another fault in turn: here #NP of the gate of #AC. */
TEST(cpu_gate, endless_alignment_checks_with_another_fault_between_come_back)
{
	set_up_cpl(3);
	gate(VEC_GP, CODE3, INT32);
	gate(VEC_NP, CODE3, INT32);
	gate(VEC_AC, CODE3, INT32 & ~0x80u);
	check_starts_over_misaligned();
}

TEST(cpu_gate, sixteen_bit_gate)
{
	set_up_cpl(3);
	set_gate(IDT + 8 * VEC_GP, CODE16, 0xAAAA1234, TRAP16, 0);
	CHECK(raise_error(VEC_GP, 0x1238));
	CHECK_EQ(cpu.eip, 0x1234);
	CHECK(!(cpu.mode & MODE_CS32));
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 12);
	CHECK_EQ(peek16(KERNEL_STACK - 2), DATA3);
	CHECK_EQ(peek16(KERNEL_STACK - 4), USER_STACK & 0xFFFF);
	CHECK_EQ(peek16(KERNEL_STACK - 6), 0x202);
	CHECK_EQ(peek16(KERNEL_STACK - 8), CODE3);
	CHECK_EQ(peek16(KERNEL_STACK - 10), 0x1000);
	CHECK_EQ(peek16(KERNEL_STACK - 12), 0x1238);
}

TEST(cpu_gate, sixteen_bit_tss)
{
	set_up_cpl(3);
	gate(VEC_UD, CODE0, INT32);
	cpu.tr.ar = 0x83;
	poke16(TSS + 2, 0x7000);
	poke16(TSS + 4, DATA0);
	CHECK(raise(VEC_UD));
	CHECK_EQ(cpu.gpr[ESP], 0x7000 - 20);
}

TEST(cpu_gate, interrupt_wakes_and_shadow_ends)
{
	set_up();
	gate(0x30, CODE0, INT32);
	cpu.halted = true;
	cpu.shadow_interrupts = SHADOW_STI;
	CHECK(cpu_deliver_interrupt(&cpu, 0x30));
	CHECK(!cpu.halted);
	CHECK(!cpu.shadow_interrupts);
	CHECK_EQ(cpu.if_flag, 0);
	CHECK_EQ(peek32(KERNEL_STACK - 4), 0x202); /* no RF */
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 12);
}

TEST(cpu_gate, nmi_blocks_others_until_iret)
{
	set_up();
	gate(VEC_NMI, CODE0, INT32);
	cpu.halted = true;
	CHECK(cpu_deliver_nmi(&cpu));
	CHECK_EQ(peek32(cpu.gpr[ESP]), 0x1000);
	CHECK(!cpu.halted && cpu.nmi_blocked);
	CHECK_EQ(callout_iret(&cpu, CALLOUT_ARG(CALLOUT_iret, 1, 0, 2, 0, 0, 0, 0, 0), 0, 0), CALLOUT_LEAVE);
	CHECK(!cpu.nmi_blocked);
	CHECK_EQ(cpu.eip, 0x1000);
	/* An IRET that faults unblocks them as well. */
	cpu.nmi_blocked = true;
	poke32(cpu.gpr[ESP] + 4, 0);
	CHECK_EQ(callout_iret(&cpu, CALLOUT_ARG(CALLOUT_iret, 1, 0, 2, 0, 0, 0, 0, 0), 0, 0), CALLOUT_FAULT);
	CHECK(!cpu.nmi_blocked);
}

TEST(cpu_gate, single_step)
{
	set_up();
	gate(VEC_DB, CODE0, INT32);
	cpu.eflags |= EFL_TF;
	cpu.dr[7] |= 0x2000;
	cpu_update_mode(&cpu);
	CHECK(cpu_deliver_debug_trap(&cpu, 0x4000));
	CHECK_EQ(cpu.dr[6], 0xFFFF4FF0);
	CHECK_EQ(cpu.dr[7], 0x400); /* GD is cleared for the handler */
	CHECK_EQ(peek32(KERNEL_STACK - 4), 0x302);
	CHECK(!(cpu.mode & MODE_TF));
}

TEST(cpu_gate, debug_faults_push_rf_as_it_is)
{
	set_up();
	gate(VEC_DB, CODE0, INT32);
	CHECK(raise(VEC_DB));
	CHECK_EQ(peek32(KERNEL_STACK - 4), 0x202);
}

TEST(cpu_gate, software_interrupt)
{
	set_up_cpl(3);
	gate(0x80, CODE0, TRAP32 | DPL3);
	CHECK_EQ(int_n(0x80), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, HANDLER);
	CHECK_EQ(peek32(KERNEL_STACK - 20), 0x1002);
	CHECK_EQ(peek32(KERNEL_STACK - 12), 0x202);
	CHECK_EQ(cpu.if_flag, 1);
}

TEST(cpu_gate, software_interrupt_privilege)
{
	set_up_cpl(3);
	gate(0x80, CODE0, TRAP32);
	gate(VEC_GP, CODE0, INT32);
	CHECK_FAULTS(int_n(0x80), VEC_GP, 0x80 * 8 + 2);
	/* The same gate is open to exceptions. */
	CHECK(raise_error(VEC_GP, 0x402));
	CHECK_EQ(peek32(KERNEL_STACK - 20), 0x1000);
	CHECK_EQ(peek32(KERNEL_STACK - 24), 0x402);
}

TEST(cpu_gate, int1_is_exempt_from_the_gate_s_privilege)
{
	const uint32_t arg = CALLOUT_ARG(CALLOUT_int_n, 1, 0, 2, 0, 0, 0, 0, 0);
	set_up_cpl(3);
	gate(VEC_DB, CODE0, INT32);
	gate(VEC_BP, CODE0, INT32);
	CHECK_FAULTS(callout_int_n(&cpu, arg, VEC_DB, 0), VEC_GP, 8 * VEC_DB + 2);
	CHECK_FAULTS(callout_int_n(&cpu, arg, VEC_BP, 1), VEC_GP, 8 * VEC_BP + 2);
	CHECK_EQ(callout_int_n(&cpu, arg, VEC_DB, 1), CALLOUT_LEAVE);
	CHECK_EQ(peek32(KERNEL_STACK - 20), 0x1001);
}

/* What a bad gate raises when INT n meets it (EXT = 0). */
TEST(cpu_gate, bad_gates)
{
	static const struct { uint16_t selector; uint8_t access; uint32_t want; } cases[] = {
		{ CODE0, 0x0E, FAULT(VEC_NP, 0x102) }, { CODE0, 0x8C, FAULT(VEC_GP, 0x102) }, { CODE0, 0x80, FAULT(VEC_GP, 0x102) },
		{ CODE0, 0x9E, FAULT(VEC_GP, 0x102) }, { 0, INT32, FAULT(VEC_GP, 0) }, { 3, INT32, FAULT(VEC_GP, 0) },
		{ DATA0, INT32, FAULT(VEC_GP, DATA0) }, { CODE3, INT32, FAULT(VEC_GP, CODE3 & ~3) }, { GDT_BYTES, INT32, FAULT(VEC_GP, GDT_BYTES) },
		{ ABSENT_CODE, INT32, FAULT(VEC_NP, ABSENT_CODE) }, { SEL_TSS, INT32, FAULT(VEC_GP, SEL_TSS) },
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		set_up();
		gate(0x20, cases[i].selector, cases[i].access);
		CHECK_FAULTS(int_n(0x20), cases[i].want >> 16, cases[i].want & 0xFFFF);
	}
	set_up();
	cpu.idtr.limit = 0x106;
	CHECK_FAULTS(int_n(0x20), VEC_GP, 0x102);
	cpu.idtr.limit = 0x107;
	gate(0x20, CODE0, INT32);
	CHECK_EQ(int_n(0x20), CALLOUT_LEAVE);
	set_up();
	set_gate(IDT + 0x100, CODE16, 0x10000, INT32, 0); /* beyond the handler's limit */
	CHECK_FAULTS(int_n(0x20), VEC_GP, 0);
}

TEST(cpu_gate, bad_inner_stacks)
{
	static const struct { uint16_t ss; uint32_t want; } cases[] = {
		{ 0, FAULT(VEC_TS, 0) }, { DATA3, FAULT(VEC_TS, DATA3 & ~3) }, { DATA0 | 3, FAULT(VEC_TS, DATA0) },
		{ READ_ONLY, FAULT(VEC_TS, READ_ONLY) }, { CODE0, FAULT(VEC_TS, CODE0) }, { ABSENT, FAULT(VEC_SS, ABSENT) },
		{ GDT_BYTES, FAULT(VEC_TS, GDT_BYTES) }, { DATA1 & ~3, FAULT(VEC_TS, DATA1 & ~3) },
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		set_up_cpl(3);
		gate(0x20, CODE0, INT32 | DPL3);
		poke32(TSS + 8, cases[i].ss);
		CHECK_FAULTS(int_n(0x20), cases[i].want >> 16, cases[i].want & 0xFFFF);
	}
	set_up_cpl(3);
	gate(0x20, CODE0, INT32 | DPL3);
	cpu.tr.limit = 8; /* SS0's upper byte is outside */
	CHECK_FAULTS(int_n(0x20), VEC_TS, SEL_TSS);
	cpu.tr.limit = 9;
	CHECK_EQ(int_n(0x20), CALLOUT_LEAVE);
	set_up_cpl(3);
	gate(0x20, CODE0, INT32 | DPL3);
	poke32(TSS + 8, STACK16);
	poke32(TSS + 4, 0x12); /* 20 bytes wrap in the middle of a word */
	CHECK_FAULTS(int_n(0x20), VEC_SS, STACK16);
	poke32(TSS + 4, 0x10); /* and between two */
	CHECK_EQ(int_n(0x20), CALLOUT_LEAVE);
	CHECK_EQ(cpu.gpr[ESP], 0xFFFC);
	CHECK_EQ(peek32(0xFFFC), 0x1002);
	CHECK_EQ(peek32(0xC), DATA3);
}

TEST(cpu_gate, page_fault_while_pushing_changes_nothing)
{
	set_up_cpl(3);
	gate(0x20, CODE0, INT32 | DPL3);
	poke32(TSS + 4, 0x7008); /* across two pages, of which the lower is absent */
	rights[6] = 0;
	poke32(0x7000, 0x5A5A5A5A);
	CHECK_FAULTS(int_n(0x20), VEC_PF, ACCESS_WRITE);
	CHECK_EQ(peek32(0x7000), 0x5A5A5A5A);
}

TEST(cpu_gate, ext_bit_marks_events_from_outside)
{
	set_up();
	gate(VEC_NP, CODE0, INT32);
	gate(0x30, CODE0, 0x0E);
	CHECK(cpu_deliver_interrupt(&cpu, 0x30));
	CHECK_EQ(peek32(KERNEL_STACK - 16), 0x30 * 8 + 3);
	set_up();
	gate(VEC_NP, CODE0, INT32);
	gate(VEC_UD, CODE0, 0x0E); /* benign: the second exception is delivered alone */
	CHECK(raise(VEC_UD));
	CHECK_EQ(peek32(KERNEL_STACK - 16), VEC_UD * 8 + 3);
}

/* Vol. 3, table 6-5. The first exception's gate is absent (#NP, contributory) or its frame cannot be written (#PF). */
TEST(cpu_gate, double_faults)
{
	static const struct { uint8_t first; bool by_page, twice; } cases[] = {
		{ VEC_DE, false, true }, { VEC_TS, false, true }, { VEC_NP, false, true }, { VEC_SS, false, true }, { VEC_GP, false, true },
		{ VEC_PF, false, true }, { VEC_PF, true, true }, { VEC_GP, true, false }, { VEC_UD, false, false }, { VEC_UD, true, false },
		{ VEC_AC, false, false }, { VEC_MF, true, false },
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t first = cases[i].first;
		set_up_cpl(3);
		for (unsigned vector = 0; vector < 32; vector++) gate(vector, CODE0, INT32);
		if (!cases[i].by_page) gate(first, CODE0, first == VEC_NP ? 0x8C : 0x0E);
		/* Level 1's stack has no page, level 0's has. */
		rights[0x7] = cases[i].by_page ? 0 : PAGE_ALL;
		poke32(TSS + 4, 0x9000);
		if (cases[i].by_page) gate(first, CODE1, INT32);
		cpu.fault = (struct guest_fault){ first, first != VEC_UD && first != VEC_DE && first != VEC_MF, 0, 0x1234 };
		CHECK(cpu_deliver_fault(&cpu));
		/* #DF and the second exception both push an error code. */
		CHECK_EQ(cpu.gpr[ESP], 0x9000 - 24);
		CHECK_EQ(cpu.seg[SEG_CS].selector, CODE0);
		CHECK_EQ(peek32(0x9000 - 20), 0x1000);
		uint32_t serial = cases[i].by_page ? ACCESS_WRITE : first * 8u + 3;
		CHECK_EQ(peek32(0x9000 - 24), cases[i].twice ? 0 : serial);
		if (cases[i].by_page) CHECK_EQ(cpu.cr2, KERNEL_STACK - 0x800 - 4);
	}
}

TEST(cpu_gate, double_fault_goes_through_its_own_gate)
{
	set_up();
	set_gate(IDT + 8 * VEC_DF, CODE0, 0x888, INT32, 0);
	CHECK(raise_error(VEC_GP, 0x10)); /* no gate for #GP, nor for the #GP of that */
	CHECK_EQ(cpu.eip, 0x888);
	CHECK_EQ(peek32(KERNEL_STACK - 16), 0);
	CHECK_EQ(peek32(KERNEL_STACK - 12), 0x1000);
}

TEST(cpu_gate, triple_faults)
{
	set_up();
	struct saved_state before = save_state();
	CHECK(!raise_error(VEC_GP, 0));
	CHECK(state_unchanged(&before));
	set_up();
	cpu.idtr.limit = 0;
	CHECK(!raise(VEC_UD)); /* #UD -> #GP -> #DF -> shutdown */
	CHECK(!cpu_deliver_interrupt(&cpu, 0x30));
	CHECK(!cpu_deliver_debug_trap(&cpu, 0x4000));
	set_up();
	gate(VEC_PF, CODE0, INT32);
	gate(VEC_DF, CODE0, INT32);
	cpu.gpr[ESP] = 0x80000000; /* no page */
	cpu.fault = (struct guest_fault){ VEC_PF, true, 2, 0x80000000 };
	CHECK(!cpu_deliver_fault(&cpu));
	CHECK_EQ(cpu.cr2, 0x80000000 - 4);
}

TEST(cpu_gate, real_mode_vectors)
{
	set_up();
	cpu_reset(&cpu, false);
	cpu.gpr[ESP] = 0xABCD1000;
	cpu.seg[SEG_SS].base = 0x8000;
	cpu.eip = 0x321;
	cpu.if_flag = 1;
	poke32(4 * VEC_GP, 0x12345678);
	CHECK(raise_error(VEC_GP, 0));
	CHECK_EQ(cpu.eip, 0x5678);
	CHECK_EQ(cpu.seg[SEG_CS].selector, 0x1234);
	CHECK_EQ(cpu.seg[SEG_CS].base, 0x12340);
	CHECK_EQ(cpu.gpr[ESP], 0xABCD0FFA); /* no error code */
	CHECK_EQ(peek16(0x8FFA), 0x321);
	CHECK_EQ(peek16(0x8FFC), 0xF000);
	CHECK_EQ(peek16(0x8FFE), 0x202);
	CHECK_EQ(cpu.if_flag, 0);
}
