/* Hardware task switches and virtual-8086 transitions, against vol. 3, ch. 7 and 20, and vol. 2. */
#include "tests/unit/cpu_fixture.h"

#define TASK 0x5000u      /* the other task's TSS */
#define TASK_STACK 0xA000u
#define TASK_EIP 0x00345678u
enum { SEL_TASK = FREE, TASK_GATE = FREE2, SEL_TASK16 = 0xB0 };
enum { OFF_LINK = 0, OFF_CR3 = 0x1C, OFF_EIP = 0x20, OFF_EFLAGS = 0x24, OFF_EAX = 0x28, OFF_ESP = 0x38, OFF_ES = 0x48, OFF_CS = 0x4C,
       OFF_SS = 0x50, OFF_DS = 0x54, OFF_FS = 0x58, OFF_GS = 0x5C, OFF_LDT = 0x60, OFF_TRAP = 0x64 };

static void set_up_tasks(unsigned cpl)
{
	set_up_cpl(cpl);
	set_descriptor(GDT + SEL_TSS, TSS, 0x87, 0x8B, 0);
	set_descriptor(GDT + SEL_TASK, TASK, 0x67, 0x89 | 0x60, 0);
	set_descriptor(GDT + SEL_TASK16, TASK, 0x2B, 0x81 | 0x60, 0);
	set_gate(GDT + TASK_GATE, SEL_TASK, 0, 0x85 | 0x60, 0);
	for (unsigned i = 0; i < 8; i++) poke32(TASK + OFF_EAX + 4 * i, 0x10101010 * (i + 1));
	poke32(TASK + OFF_ESP, TASK_STACK);
	poke32(TASK + OFF_EIP, TASK_EIP);
	poke32(TASK + OFF_EFLAGS, 0x202 | EFL_CF);
	static const uint16_t selectors[6] = { DATA0, CODE0, DATA0, DATA0, 0, DATA3 };
	for (unsigned i = 0; i < 6; i++) poke32(TASK + OFF_ES + 4 * i, selectors[i]);
	for (unsigned i = 0; i < 8; i++) {
		if (i != ESP) cpu.gpr[i] = 0xABC0000 + i;
	}
}

static uint8_t access_of(uint16_t selector) { return ram[GDT + (selector & ~7u) + 5]; }

static enum callout_result jmp(uint16_t selector)
{
	return callout_jmp_far(&cpu, CALLOUT_ARG(CALLOUT_jmp_far, 7, 0, 2, 0, 0, 0, 0, 0), 0, selector);
}

static enum callout_result call(uint16_t selector)
{
	return callout_call_far(&cpu, CALLOUT_ARG(CALLOUT_call_far, 7, 0, 2, 0, 0, 0, 0, 0), 0, selector);
}

static enum callout_result iret(unsigned size)
{
	return callout_iret(&cpu, CALLOUT_ARG(CALLOUT_iret, 1, 0, size, 0, 0, 0, 0, 0), 0, 0);
}

static enum callout_result int_n(uint8_t vector, uint32_t extra)
{
	return callout_int_n(&cpu, CALLOUT_ARG(CALLOUT_int_n, 2, 0, 2, 0, 0, 0, 0, 0), vector, extra);
}

/* A switch that must be refused after its commit point: the fault is the new task's. */
#define CHECK_FAULTS_IN_TASK(call_, vector_, error_) \
	do { \
		CHECK_EQ(call_, CALLOUT_FAULT); \
		CHECK_EQ(fault_seen(), FAULT(vector_, error_)); \
		CHECK_EQ(cpu.tr.selector, SEL_TASK); \
		CHECK_EQ(cpu.eip, peek32(TASK + OFF_EIP)); \
	} while (0)

TEST(cpu_task, jump_saves_and_loads_everything)
{
	set_up_tasks(0);
	cpu.flags = EFL_ZF;
	cpu.eflags = EFL_AC;
	poke32(TSS + OFF_ES, 0x5A5A0000);
	cpu.dr[7] = 0x7FF;
	CHECK_EQ(jmp(SEL_TASK), CALLOUT_LEAVE);
	CHECK_EQ(peek32(TSS + OFF_EIP), 0x1007);
	CHECK_EQ(peek32(TSS + OFF_EFLAGS), 0x40242);
	for (unsigned i = 0; i < 8; i++) CHECK_EQ(peek32(TSS + OFF_EAX + 4 * i), i == ESP ? KERNEL_STACK : 0xABC0000 + i);
	CHECK_EQ(peek32(TSS + OFF_ES), 0x5A5A0000 | DATA0); /* the reserved half stays */
	CHECK_EQ(peek16(TSS + OFF_CS), CODE0);
	CHECK_EQ(access_of(SEL_TSS), 0x89);
	CHECK_EQ(access_of(SEL_TASK), 0xEB);
	CHECK_EQ(cpu.tr.selector, SEL_TASK);
	CHECK_EQ(cpu.tr.base, TASK);
	CHECK_EQ(cpu.tr.ar & 0xF, 0xB);
	CHECK_EQ(cpu.eip, TASK_EIP);
	CHECK_EQ(vcpu_eflags(&cpu), 0x203);
	for (unsigned i = 0; i < 8; i++) CHECK_EQ(cpu.gpr[i], i == ESP ? TASK_STACK : 0x10101010 * (i + 1));
	CHECK_EQ(cpu.seg[SEG_GS].selector, DATA3);
	CHECK(cpu.seg[SEG_FS].ar & AR_UNUSABLE);
	CHECK(!(cpu.seg[SEG_DS].ar & AR_UNUSABLE));
	CHECK(cpu.cr0 & CR0_TS);
	CHECK(cpu.mode & MODE_FPU_NM);
	CHECK_EQ(cpu.dr[7], 0x6AA); /* local breakpoints are off */
	CHECK_EQ(peek16(TASK + OFF_LINK), 0);
	CHECK_EQ(cpu.debug_hits, 0);
	CHECK_EQ(paging_changes, 0);
}

TEST(cpu_task, call_links_and_iret_returns)
{
	set_up_tasks(0);
	CHECK_EQ(call(SEL_TASK), CALLOUT_LEAVE);
	CHECK_EQ(access_of(SEL_TSS), 0x8B);
	CHECK_EQ(access_of(SEL_TASK), 0xEB);
	CHECK_EQ(peek16(TASK + OFF_LINK), SEL_TSS);
	CHECK(cpu.eflags & EFL_NT);
	CHECK_EQ(cpu.gpr[ESP], TASK_STACK);
	cpu.gpr[EBX] = 0x77;
	cpu.cr0 &= ~CR0_TS;
	CHECK_EQ(iret(2), CALLOUT_LEAVE);
	CHECK_EQ(cpu.tr.selector, SEL_TSS);
	CHECK_EQ(cpu.eip, 0x1007);
	CHECK_EQ(cpu.gpr[EBX], 0xABC0003);
	CHECK(!(cpu.eflags & EFL_NT));
	CHECK_EQ(access_of(SEL_TSS), 0x8B);
	CHECK_EQ(access_of(SEL_TASK), 0xE9);
	CHECK_EQ(peek32(TASK + OFF_EIP), TASK_EIP + 1);
	CHECK_EQ(peek32(TASK + OFF_EFLAGS), 0x203); /* NT is not kept */
	CHECK_EQ(peek32(TASK + OFF_EAX + 12), 0x77);
	CHECK(cpu.cr0 & CR0_TS);
}

TEST(cpu_task, through_a_gate_from_another_privilege)
{
	set_up_tasks(3);
	CHECK_EQ(call(TASK_GATE | 3), CALLOUT_LEAVE);
	CHECK_EQ(cpu.tr.selector, SEL_TASK);
	CHECK_EQ(cpu.cpl, 0);
	CHECK_EQ(iret(2), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cpl, 3);
	CHECK_EQ(cpu.seg[SEG_SS].selector, DATA3);
	CHECK_EQ(cpu.gpr[ESP], USER_STACK);
	CHECK_EQ(jmp(TASK_GATE | 3), CALLOUT_LEAVE);
	CHECK_EQ(access_of(SEL_TSS), 0x89);
}

TEST(cpu_task, sixteen_bit)
{
	set_up_tasks(0);
	memset(ram + TASK, 0, 0x80);
	poke16(TASK + 0x0E, 0x4321);
	poke16(TASK + 0x10, 0x0203);
	for (unsigned i = 0; i < 8; i++) poke16(TASK + 0x12 + 2 * i, (uint16_t)(0x1110 + i));
	poke16(TASK + 0x22, DATA0);
	poke16(TASK + 0x24, CODE16);
	poke16(TASK + 0x26, STACK16);
	poke16(TASK + 0x28, DATA0);
	poke16(TASK + 0x2A, SEL_LDT);
	poke32(TASK + 0x2C, 0x5A5A5A5A);
	CHECK_EQ(call(SEL_TASK16), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x4321);
	CHECK_EQ(vcpu_eflags(&cpu), 0x4203);
	CHECK_EQ(cpu.gpr[EDI] & 0xFFFF, 0x1117);
	CHECK_EQ(cpu.seg[SEG_SS].selector, STACK16);
	CHECK(cpu.seg[SEG_FS].ar & AR_UNUSABLE);
	CHECK_EQ(cpu.seg[SEG_FS].selector, 0);
	CHECK_EQ(cpu.ldtr.base, LDT);
	CHECK(!(cpu.mode & (MODE_CS32 | MODE_SS32)));
	CHECK_EQ(access_of(SEL_TASK16), 0xE3);
	CHECK_EQ(peek16(TASK), SEL_TSS);
	cpu.gpr[ECX] = 0xFFFF7654;
	CHECK_EQ(iret(1), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x1007);
	CHECK_EQ(peek16(TASK + 0x14), 0x7654);
	CHECK_EQ(peek16(TASK + 0x0E), 0x4322);
	CHECK_EQ(peek32(TASK + 0x2C), 0x5A5A5A5A);
	CHECK_EQ(access_of(SEL_TASK16), 0xE1);
}

TEST(cpu_task, refused_before_anything_changes)
{
	static const struct { uint16_t selector; uint8_t access; uint32_t limit, want; } cases[] = {
		{ SEL_TASK, 0x8B, 0x67, FAULT(VEC_GP, SEL_TASK) }, { SEL_TASK, 0x09, 0x67, FAULT(VEC_NP, SEL_TASK) },
		{ SEL_TASK, 0x89, 0x66, FAULT(VEC_TS, SEL_TASK) }, { SEL_TASK, 0x81, 0x2A, FAULT(VEC_TS, SEL_TASK) },
		{ TASK_GATE, 0x8B, 0x67, FAULT(VEC_GP, SEL_TASK) }, { TASK_GATE, 0x09, 0x67, FAULT(VEC_NP, SEL_TASK) },
		{ TASK_GATE, 0x92, 0x67, FAULT(VEC_GP, SEL_TASK) },
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		set_up_tasks(0);
		set_descriptor(GDT + SEL_TASK, TASK, cases[i].limit, cases[i].access, 0);
		CHECK_FAULTS(jmp(cases[i].selector), cases[i].want >> 16, cases[i].want & 0xFFFF);
		CHECK_FAULTS(call(cases[i].selector), cases[i].want >> 16, cases[i].want & 0xFFFF);
		CHECK_EQ(access_of(SEL_TSS), 0x8B);
		CHECK_EQ(peek32(TSS + OFF_EIP), 0);
	}
	/* Privileges: of the TSS, or of the gate alone. */
	set_up_tasks(3);
	set_descriptor(GDT + SEL_TASK, TASK, 0x67, 0x89, 0);
	CHECK_FAULTS(call(SEL_TASK), VEC_GP, SEL_TASK);
	CHECK_EQ(call(TASK_GATE), CALLOUT_LEAVE);
	set_up_tasks(0);
	set_descriptor(GDT + SEL_TASK, TASK, 0x67, 0x89, 0);
	CHECK_FAULTS(call(SEL_TASK | 3), VEC_GP, SEL_TASK);
	set_gate(GDT + TASK_GATE, SEL_TASK, 0, 0x85, 0);
	CHECK_FAULTS(call(TASK_GATE | 1), VEC_GP, TASK_GATE);
	set_gate(GDT + TASK_GATE, SEL_TASK, 0, 0x05, 0);
	CHECK_FAULTS(call(TASK_GATE), VEC_NP, TASK_GATE);
	set_gate(GDT + TASK_GATE, SEL_TASK | 4, 0, 0x85, 0);
	CHECK_FAULTS(call(TASK_GATE), VEC_GP, SEL_TASK | 4);
	set_gate(GDT + TASK_GATE, GDT_BYTES, 0, 0x85, 0);
	CHECK_FAULTS(call(TASK_GATE), VEC_GP, GDT_BYTES);
	set_up_tasks(0);
	cpu.tr.limit = 0x66;
	CHECK_FAULTS(jmp(SEL_TASK), VEC_TS, SEL_TSS);
}

/* The pages of both TSSs and of the descriptors are looked at first. */
TEST(cpu_task, page_faults_of_the_old_task)
{
	set_up_tasks(0);
	rights[TASK / PAGE_SIZE] = 0;
	CHECK_FAULTS(jmp(SEL_TASK), VEC_PF, 0);
	set_up_tasks(0);
	rights[TSS / PAGE_SIZE] = PAGE_PRESENT;
	CHECK_FAULTS(jmp(SEL_TASK), VEC_PF, ACCESS_WRITE | PF_PRESENT);
	set_up_tasks(0);
	rights[TASK / PAGE_SIZE] = PAGE_PRESENT;
	CHECK_FAULTS(call(SEL_TASK), VEC_PF, ACCESS_WRITE | PF_PRESENT); /* the back link */
	CHECK_EQ(jmp(SEL_TASK), CALLOUT_LEAVE);
	set_up_tasks(0);
	rights[GDT / PAGE_SIZE] = PAGE_PRESENT;
	CHECK_FAULTS(jmp(SEL_TASK), VEC_PF, ACCESS_WRITE | PF_PRESENT);
	CHECK_EQ(peek32(TSS + OFF_EIP), 0);
}

TEST(cpu_task, bad_back_links)
{
	static const struct { uint16_t link; uint8_t access; uint32_t want; } cases[] = {
		{ SEL_TASK, 0x89, FAULT(VEC_TS, SEL_TASK) }, { SEL_TASK, 0x0B, FAULT(VEC_NP, SEL_TASK) }, { SEL_TASK | 4, 0x8B, FAULT(VEC_TS, SEL_TASK | 4) },
		{ GDT_BYTES, 0x8B, FAULT(VEC_TS, GDT_BYTES) }, { DATA0, 0x8B, FAULT(VEC_TS, DATA0) }, { 0, 0x8B, FAULT(VEC_TS, 0) },
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		set_up_tasks(0);
		cpu.eflags |= EFL_NT;
		set_descriptor(GDT + SEL_TASK, TASK, 0x67, cases[i].access, 0);
		poke16(TSS, cases[i].link);
		CHECK_FAULTS(iret(2), cases[i].want >> 16, cases[i].want & 0xFFFF);
	}
}

/* Table 7-1: each segment register, each way to be wrong, in the new task. */
TEST(cpu_task, segment_faults_are_the_new_task_s)
{
	static const struct { unsigned offset; uint16_t selector; uint32_t want; } cases[] = {
		{ OFF_LDT, DATA0, FAULT(VEC_TS, DATA0) }, { OFF_LDT, SEL_LDT | 4, FAULT(VEC_TS, SEL_LDT | 4) }, { OFF_LDT, GDT_BYTES, FAULT(VEC_TS, GDT_BYTES) },
		{ OFF_CS, 0, FAULT(VEC_TS, 0) }, { OFF_CS, DATA0, FAULT(VEC_TS, DATA0) }, { OFF_CS, CODE0 | 1, FAULT(VEC_TS, CODE0) },
		{ OFF_CS, CODE3 & ~3, FAULT(VEC_TS, CODE3 & ~3) }, { OFF_CS, ABSENT_CODE, FAULT(VEC_NP, ABSENT_CODE) }, { OFF_CS, GDT_BYTES, FAULT(VEC_TS, GDT_BYTES) },
		{ OFF_SS, 0, FAULT(VEC_TS, 0) }, { OFF_SS, CODE0, FAULT(VEC_TS, CODE0) }, { OFF_SS, DATA3, FAULT(VEC_TS, DATA3 & ~3) },
		{ OFF_SS, READ_ONLY, FAULT(VEC_TS, READ_ONLY) }, { OFF_SS, ABSENT, FAULT(VEC_SS, ABSENT) }, { OFF_DS, EXEC_ONLY, FAULT(VEC_TS, EXEC_ONLY) },
		{ OFF_ES, ABSENT, FAULT(VEC_NP, ABSENT) }, { OFF_FS, DATA0 | 3, FAULT(VEC_TS, DATA0) }, { OFF_GS, GDT_BYTES, FAULT(VEC_TS, GDT_BYTES) },
		{ OFF_GS, SEL_TSS, FAULT(VEC_TS, SEL_TSS) },
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		set_up_tasks(0);
		poke32(TASK + cases[i].offset, cases[i].selector);
		CHECK_FAULTS_IN_TASK(jmp(SEL_TASK), cases[i].want >> 16, cases[i].want & 0xFFFF);
		CHECK_EQ(cpu.cpl, cases[i].offset == OFF_CS ? cases[i].selector & 3 : 0);
		CHECK_EQ(access_of(SEL_TSS), 0x89);
		CHECK_EQ(peek32(TSS + OFF_EIP), 0x1007);
		/* What was not loaded cannot be used. */
		CHECK(cases[i].offset == OFF_GS || (cpu.seg[SEG_GS].ar & AR_UNUSABLE));
	}
	set_up_tasks(0);
	poke32(TASK + OFF_CS, CODE16);
	CHECK_FAULTS_IN_TASK(jmp(SEL_TASK), VEC_GP, 0); /* EIP beyond the limit */
	/* Level 3: data of level 0 is refused. */
	set_up_tasks(0);
	poke32(TASK + OFF_CS, CODE3);
	poke32(TASK + OFF_SS, DATA3);
	CHECK_FAULTS_IN_TASK(jmp(SEL_TASK), VEC_TS, DATA0);
	CHECK_EQ(cpu.cpl, 3);
}

TEST(cpu_task, page_directory_and_trap_flag)
{
	set_up_tasks(0);
	poke32(TASK + OFF_CR3, 0x77000);
	poke16(TASK + OFF_TRAP, 1);
	CHECK_EQ(jmp(SEL_TASK), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cr3, 0); /* no paging, no load */
	CHECK_EQ(cpu.debug_hits, 0x8000);
	set_up_tasks(0);
	cpu.cr0 |= CR0_PG;
	poke32(TASK + OFF_CR3, 0x77000);
	CHECK_EQ(jmp(SEL_TASK), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cr3, 0x77000);
	CHECK_EQ(paging_changes, 1);
}

TEST(cpu_task, events_through_task_gates)
{
	set_up_tasks(3);
	set_gate(IDT + 8 * VEC_GP, SEL_TASK, 0, 0x85, 0);
	set_descriptor(GDT + SEL_TASK, TASK, 0x67, 0x89, 0);
	cpu_raise_error(&cpu, VEC_GP, 0x1238);
	CHECK(cpu_deliver_fault(&cpu));
	CHECK_EQ(cpu.tr.selector, SEL_TASK);
	CHECK_EQ(cpu.gpr[ESP], TASK_STACK - 4);
	CHECK_EQ(peek32(TASK_STACK - 4), 0x1238);
	CHECK_EQ(peek32(TSS + OFF_EIP), 0x1000);
	CHECK_EQ(peek32(TSS + OFF_EFLAGS), 0x10202); /* RF, for the restart */
	CHECK(cpu.eflags & EFL_NT);
	CHECK_EQ(cpu.if_flag, 1); /* as the TSS says */
	CHECK_EQ(cpu.cpl, 0);
	/* An interrupt has no error code, INT n is subject to the gate's privilege. */
	set_up_tasks(3);
	set_gate(IDT + 8 * 0x30, SEL_TASK, 0, 0x85, 0);
	CHECK_FAULTS(int_n(0x30, 0), VEC_GP, 8 * 0x30 + 2);
	CHECK(cpu_deliver_interrupt(&cpu, 0x30));
	CHECK_EQ(cpu.gpr[ESP], TASK_STACK);
	CHECK_EQ(peek32(TSS + OFF_EFLAGS), 0x202);
	/* A busy task: #GP with EXT through the other gate. */
	set_up_tasks(0);
	set_gate(IDT + 8 * 0x30, SEL_TSS, 0, 0x85, 0);
	set_gate(IDT + 8 * VEC_GP, CODE0, 0x999, 0x8E, 0);
	CHECK(cpu_deliver_interrupt(&cpu, 0x30));
	CHECK_EQ(cpu.eip, 0x999);
	CHECK_EQ(peek32(KERNEL_STACK - 16), SEL_TSS | 1);
}

/* A kernel whose stack is gone is told on a task's stack. */
TEST(cpu_task, double_fault)
{
	set_up_tasks(0);
	set_gate(IDT + 8 * VEC_PF, CODE0, 0x999, 0x8E, 0);
	set_gate(IDT + 8 * VEC_DF, SEL_TASK, 0, 0x85, 0);
	cpu.gpr[ESP] = 0x80000000;
	cpu.fault = (struct guest_fault){ VEC_PF, true, 2, 0x7FFFFFFC };
	CHECK(cpu_deliver_fault(&cpu));
	CHECK_EQ(cpu.tr.selector, SEL_TASK);
	CHECK_EQ(cpu.gpr[ESP], TASK_STACK - 4);
	CHECK_EQ(peek32(TASK_STACK - 4), 0);
	CHECK_EQ(peek32(TSS + OFF_ESP), 0x80000000);
	CHECK_EQ(peek32(TSS + OFF_EIP), 0x1000);
	/* And where that task cannot be entered, the machine stops. */
	set_up_tasks(0);
	set_gate(IDT + 8 * VEC_DF, SEL_TASK, 0, 0x85, 0);
	poke32(TASK + OFF_SS, 0);
	cpu_raise_error(&cpu, VEC_GP, 0);
	CHECK(!cpu_deliver_fault(&cpu));
}

TEST(cpu_task, faults_on_the_new_stack)
{
	set_up_tasks(0);
	set_gate(IDT + 8 * VEC_UD, SEL_TASK, 0, 0x85, 0);
	set_gate(IDT + 8 * VEC_NP, SEL_TASK, 0, 0x85, 0);
	set_gate(IDT + 8 * VEC_SS, CODE0, 0x999, 0x8E, 0);
	poke32(TASK + OFF_SS, STACK16);
	poke32(TASK + OFF_ESP, 2);
	cpu_raise(&cpu, VEC_UD); /* nothing to push */
	CHECK(cpu_deliver_fault(&cpu));
	CHECK_EQ(cpu.gpr[ESP], 2);
	set_up_tasks(0);
	set_gate(IDT + 8 * VEC_AC, SEL_TASK, 0, 0x85, 0);
	set_gate(IDT + 8 * VEC_SS, CODE0, 0x999, 0x8E, 0);
	poke32(TASK + OFF_SS, STACK16);
	poke32(TASK + OFF_ESP, 2);
	cpu_raise_error(&cpu, VEC_AC, 0);
	CHECK(!cpu_deliver_fault(&cpu)); /* the frame of #SS does not fit either */
	CHECK_EQ(cpu.tr.selector, SEL_TASK);
}

/* --- virtual-8086 mode --- */

static void set_up_v86(unsigned iopl)
{
	set_up_tasks(0);
	static const uint32_t frame[9] = { 0x1234, 0x300, 0, 0x8765, 0x400, 0x500, 0x600, 0x700, 0x800 };
	cpu.gpr[ESP] -= sizeof(frame);
	memcpy(ram + cpu.gpr[ESP], frame, sizeof(frame));
	poke32(cpu.gpr[ESP] + 8, 0x20202 | iopl << 12 | EFL_CF);
	CHECK_EQ(iret(2), CALLOUT_LEAVE);
}

TEST(cpu_task, iret_to_v86)
{
	set_up_v86(1);
	CHECK_EQ(cpu.eip, 0x1234);
	CHECK_EQ(cpu.gpr[ESP], 0x8765);
	CHECK_EQ(vcpu_eflags(&cpu), 0x21203);
	CHECK_EQ(cpu.cpl, 3);
	CHECK(cpu.mode & MODE_VM);
	CHECK(!(cpu.mode & (MODE_CS32 | MODE_SS32 | MODE_IOPL_OK)));
	static const uint16_t want[SEG_COUNT] = { 0x500, 0x300, 0x400, 0x600, 0x700, 0x800 };
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		CHECK_EQ(cpu.seg[i].selector, want[i]);
		CHECK_EQ(cpu.seg[i].base, want[i] << 4);
		CHECK_EQ(cpu.seg[i].limit, 0xFFFF);
		CHECK_EQ(cpu.seg[i].ar, 0xF3);
	}
	/* Not with 16 bits, not from another level, not beyond 64 KiB. */
	set_up_tasks(3);
	uint32_t frame[9] = { 0x1000, CODE3, 0x20202, 0, 0, 0, 0, 0, 0 };
	cpu.gpr[ESP] -= sizeof(frame);
	memcpy(ram + cpu.gpr[ESP], frame, sizeof(frame));
	CHECK_EQ(iret(2), CALLOUT_LEAVE);
	CHECK(!(cpu.eflags & EFL_VM));
	set_up_tasks(0);
	frame[0] = 0x10000;
	cpu.gpr[ESP] -= sizeof(frame);
	memcpy(ram + cpu.gpr[ESP], frame, sizeof(frame));
	CHECK_FAULTS(iret(2), VEC_GP, 0);
}

TEST(cpu_task, exception_out_of_v86)
{
	set_up_v86(0);
	set_gate(IDT + 8 * VEC_GP, CODE0, 0x999, 0x8E, 0);
	cpu_raise_error(&cpu, VEC_GP, 0);
	CHECK(cpu_deliver_fault(&cpu));
	static const uint32_t want[10] = { 0, 0x1234, 0x300, 0x30203, 0x8765, 0x400, 0x500, 0x600, 0x700, 0x800 };
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - sizeof(want));
	for (unsigned i = 0; i < 10; i++) CHECK_EQ(peek32(cpu.gpr[ESP] + 4 * i), want[i]);
	CHECK_EQ(cpu.cpl, 0);
	CHECK(!(cpu.eflags & EFL_VM));
	CHECK(!(cpu.mode & MODE_VM));
	CHECK_EQ(cpu.seg[SEG_SS].selector, DATA0);
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		if (i == SEG_CS || i == SEG_SS) continue;
		CHECK_EQ(cpu.seg[i].selector, 0);
		CHECK(cpu.seg[i].ar & AR_UNUSABLE);
	}
	CHECK_EQ(cpu.if_flag, 0);
	/* And back. */
	cpu.gpr[ESP] += 4;
	CHECK_EQ(iret(2), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x1234);
	CHECK_EQ(cpu.seg[SEG_GS].base, 0x8000);
}

TEST(cpu_task, handlers_of_v86_are_at_level_0)
{
	static const struct { uint16_t selector; uint32_t want; } cases[] = {
		{ CODE1, FAULT(VEC_GP, CODE1 & ~3) }, { CODE3, FAULT(VEC_GP, CODE3 & ~3) }, { CONFORMING0, FAULT(VEC_GP, CONFORMING0) },
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		set_up_v86(3);
		set_gate(IDT + 8 * 0x40, cases[i].selector, 0x999, 0xEE, 0);
		CHECK_FAULTS(int_n(0x40, 0), cases[i].want >> 16, cases[i].want & 0xFFFF);
	}
	set_up_v86(3);
	set_gate(IDT + 8 * 0x40, CODE0, 0x999, 0x8E, 0);
	CHECK_FAULTS(int_n(0x40, 0), VEC_GP, 8 * 0x40 + 2);
	set_gate(IDT + 8 * 0x40, CODE16, 0x999, 0xE6, 0); /* a 16-bit gate pushes 16-bit words */
	CHECK_EQ(int_n(0x40, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 18);
	CHECK_EQ(peek16(KERNEL_STACK - 2), 0x800);
	CHECK_EQ(peek16(KERNEL_STACK - 18), 0x1236);
}

TEST(cpu_task, iopl_in_v86)
{
	const uint32_t one_byte = 1 << 8 | 1 << 16;
	set_up_v86(2);
	set_gate(IDT + 8 * VEC_BP, CODE0, 0x999, 0xEE, 0);
	CHECK_FAULTS(callout_cli(&cpu, one_byte, 0, 0), VEC_GP, 0);
	CHECK_FAULTS(callout_sti(&cpu, one_byte, 0, 0), VEC_GP, 0);
	CHECK_FAULTS(callout_pushf(&cpu, one_byte, 0, 0), VEC_GP, 0);
	CHECK_FAULTS(callout_popf(&cpu, one_byte, 0, 0), VEC_GP, 0);
	CHECK_FAULTS(iret(1), VEC_GP, 0);
	CHECK_FAULTS(int_n(VEC_BP, 0), VEC_GP, 0);
	CHECK_EQ(int_n(VEC_BP, 1), CALLOUT_LEAVE); /* INT3 is no INT 3 */
	set_up_v86(3);
	CHECK_EQ(callout_cli(&cpu, one_byte, 0, 0), CALLOUT_NEXT);
	/* PUSHFD shows no VM; POPFD changes neither VM nor IOPL. */
	CHECK_EQ(callout_pushf(&cpu, 1 << 8 | 2 << 16, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[ESP], 0x8761);
	CHECK_EQ(peek32(0x4000 + 0x8761), 0x3003);
	poke32(0x4000 + 0x8761, 0x240602);
	cpu.eflags |= EFL_VIP;
	CHECK_EQ(callout_popf(&cpu, 1 << 8 | 2 << 16, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(vcpu_eflags(&cpu), 0x363602);
	/* IRET within the mode. */
	cpu.gpr[ESP] = 0x1000;
	poke16(0x5000, 0x0077);
	poke16(0x5002, 0x0A00);
	poke16(0x5004, 0x0003);
	CHECK_EQ(iret(1), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x77);
	CHECK_EQ(cpu.seg[SEG_CS].base, 0xA000);
	CHECK_EQ(vcpu_eflags(&cpu), 0x363003);
	CHECK_EQ(cpu.gpr[ESP], 0x1006);
}

TEST(cpu_task, ports_of_v86_go_by_the_bitmap)
{
	set_up_v86(3);
	poke16(TSS + 0x66, 0x68);
	ram[TSS + 0x68 + 0x10] = 1;
	CHECK(cpu_io_allowed(&cpu, 0x81, 1));
	CHECK(!cpu_io_allowed(&cpu, 0x80, 1));
	CHECK_EQ(fault_seen(), FAULT(VEC_GP, 0));
}

TEST(cpu_task, switch_into_v86_and_out)
{
	set_up_tasks(0);
	poke32(TASK + OFF_EFLAGS, 0x20202);
	poke32(TASK + OFF_EIP, 0x4321);
	poke32(TASK + OFF_CS, 0xFFFF);
	poke32(TASK + OFF_FS, 0x1234);
	CHECK_EQ(call(SEL_TASK), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cpl, 3);
	CHECK(cpu.mode & MODE_VM);
	CHECK_EQ(cpu.seg[SEG_CS].base, 0xFFFF0);
	CHECK_EQ(cpu.seg[SEG_FS].base, 0x12340);
	CHECK_EQ(cpu.eflags & (EFL_NT | EFL_VM), EFL_NT | EFL_VM);
	/* An interrupt through a task gate leads out again. */
	set_descriptor(GDT + SEL_TSS, TSS, 0x87, 0x89, 0);
	set_gate(IDT + 8 * 0x30, SEL_TSS, 0, 0x85, 0);
	CHECK(cpu_deliver_interrupt(&cpu, 0x30));
	CHECK_EQ(cpu.cpl, 0);
	CHECK(!(cpu.eflags & EFL_VM));
	CHECK_EQ(peek32(TASK + OFF_EFLAGS) & 0x24000, 0x24000);
	set_up_tasks(0);
	poke32(TASK + OFF_EFLAGS, 0x20202);
	CHECK_FAULTS_IN_TASK(call(SEL_TASK), VEC_GP, 0); /* EIP beyond 64 KiB */
}
