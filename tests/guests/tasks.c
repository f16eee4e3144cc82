/* Hardware task switches (SDM vol. 3, ch. 7): both ways, by every kind of transfer, with everything that can be wrong with them. */
#include "tasks.h"

static u64 ldt[2];

/* The same where an exception's error code lies on the stack: the old task is made to go on behind two bytes. */
static void error_body(void)
{
	note();
	seen.error = *(u32 *)(task_stack + sizeof task_stack - 4);
	seen.esp = tss.gpr[4];
	tss.eip += 2;
	__asm__ volatile("iret" : : : "memory");
}

/* After a double fault: the old task's stack is gone; give it another, at its end. */
static void double_fault_body(void)
{
	note();
	seen.error = *(u32 *)(task_stack + sizeof task_stack - 4);
	seen.esp = tss.gpr[4];
	tss.gpr[4] = (u32)user_stack + 4096;
	tss.eip += 2;
	__asm__ volatile("iret" : : : "memory");
}

/* The old task has no stack at level 0: give it one. */
static void repair_body(void)
{
	note();
	seen.error = *(u32 *)(task_stack + sizeof task_stack - 4);
	seen.eflags = tss.eflags;
	seen.esp = tss.eip;
	tss.ss0 = DATA0;
	tss.eip += 2;
	__asm__ volatile("iret" : : : "memory");
}

/* Leaves by a jump, and goes on behind it the next time. */
static void jump_body(void)
{
	for (;;) {
		note();
		__asm__ volatile("ljmp %0, $0" : : "i"(TSS_SELECTOR) : "memory");
	}
}

static void test_call(void)
{
	prepare(body);
	struct state s = state_at(CALL_TASK(TASK), 0);
	s.eflags = 0x43;
	run_expect("call to a TSS comes back", &s, RUN_DONE, 0, FAR_BYTES + 2);
	check("registers come back", s.eax == 0xA0A1A2A3 && s.ebp == 0xE0E1E2E3 && s.edi == 0xD1D2D3D4);
	check_equal("flags come back", s.eflags & 0x4FFF, 0x43);
	check_equal("the task ran", seen.runs, 1);
	check_equal("its task register", seen.tr, TASK);
	check_equal("NT in the task", seen.eflags & 0x4000, 0x4000);
	check_equal("TS in the task", seen.cr0 & 8, 8);
	check_equal("back link", task.link & 0xFFFF, TSS_SELECTOR);
	check("busy bits after the return", access_of(TASK) == 0x89 && access_of(TSS_SELECTOR) == 0x8B);
	check_equal("NT is not saved by IRET", task.eflags & 0x4000, 0);
	s = state_at(CALL_TASK(TASK), 0);
	run_expect("the second call goes on behind IRET", &s, RUN_DONE, 0, FAR_BYTES + 2);
	check_equal("the task ran again", seen.runs, 2);
	s = state_at(CALL_TASK(GATE | 3), 3);
	run_expect("call through a task gate from CPL 3", &s, RUN_DONE, 0, FAR_BYTES + 2);
	check("CPL 3 is back", s.cs == CODE3 && s.ss == DATA3 && seen.runs == 3);
	WRITE_CR(0, READ_CR(0) & ~8u);
}

static void test_jump(void)
{
	prepare(jump_body);
	for (u32 i = 1; i <= 3; i++) {
		struct state s = state_at(JUMP_TASK(TASK), 0);
		run_expect("jump to a TSS and back", &s, RUN_DONE, 0, FAR_BYTES + 2);
		check_equal("rounds", seen.runs, i);
	}
	check_equal("no NT after a jump", seen.eflags & 0x4000, 0);
	check_equal("no back link after a jump", task.link, 0);
	check_equal("the abandoned task is not busy", access_of(TASK), 0x89);
}

static void test_events(void)
{
	prepare(body);
	idt_set(GATE_VECTOR, 0, TASK, 0xE5);
	struct state s = state_at(CODE(0xCD, GATE_VECTOR, CODE_DONE), 3);
	run_expect("INT n through a task gate", &s, RUN_DONE, 0, 4);
	check_equal("the task ran", seen.runs, 1);
	idt_set(GATE_VECTOR, 0, TASK, 0x85);
	s = state_at(CODE(0xCD, GATE_VECTOR, CODE_DONE), 3);
	run_expect("a task gate has a privilege", &s, 13, GATE_VECTOR * 8 + 2, 0);
	prepare(error_body);
	idt_set(13, 0, TASK, 0x85);
	s = state_at(CODE(0x8E, 0xE8, CODE_DONE), 3);
	s.eax = 0x1238;
	run_expect("#GP through a task gate", &s, RUN_DONE, 0, 4);
	check_equal("its error code is on the task's stack", seen.error, 0x1238);
	idt_set(13, (u32)(trap_stubs + 16 * 13), CODE0, 0x8E);
	prepare(double_fault_body);
	idt_set(8, 0, TASK, 0x85);
	s = state_at(CODE(0x0F, 0x0B, CODE_DONE), 0);
	s.esp = 0x3000000; /* no page there */
	run_expect("a double fault through a task gate", &s, RUN_DONE, 0, 4);
	check_equal("its error code", seen.error, 0);
	check_equal("the stack that was gone", seen.esp, 0x3000000);
	check_equal("CR2", s.cr2, 0x3000000 - 4);
	idt_set(8, (u32)(trap_stubs + 16 * 8), CODE0, 0x8E);
}

/* The handler of an invalid TSS has to be a task (vol. 3, 6.15): it finds the old one as it was at the fault, and its error code. */
static void test_invalid_tss(void)
{
	static const struct { const char *name; u8 code[2]; u8 v86, vector; u32 error; } cases[] = {
		{"INT3 with no stack to go to: #TS", {0xCC, 0x90}, 0, 10, 0}, {"#UD with no stack to go to: #TS", {0x0F, 0x0B}, 0, 10, 1},
		{"#GP with no stack to go to: #DF", {0xF4, 0x90}, 0, 8, 0}, {"V86, INT3: #TS", {0xCC, 0x90}, 1, 10, 0}, {"V86, #UD: #TS", {0x0F, 0x0B}, 1, 10, 1}, {"V86, #GP: #DF", {0xF4, 0x90}, 1, 8, 0},
	};
	for (u32 i = 0; i < sizeof cases / sizeof *cases; i++) {
		u32 vector = cases[i].vector;
		prepare(repair_body);
		idt_set(vector, 0, TASK, 0x85);
		tss.ss0 = 3;
		struct state s = cases[i].v86 ? V86_STATE(3, cases[i].code[0], cases[i].code[1], CODE_DONE) : state_at(CODE(cases[i].code[0], cases[i].code[1], CODE_DONE), 3);
		u32 eip = s.eip;
		run(&s);
		bool back = s.vector == RUN_DONE && s.eip == eip + 4 && s.eax == 0xA0A1A2A3 && !(s.eflags & EFLAGS_VM) == !cases[i].v86;
		bool left = seen.runs == 1 && seen.esp == eip && !(seen.eflags & EFLAGS_VM) == !cases[i].v86;
		if (!check(cases[i].name, back && left && seen.error == cases[i].error)) print("# trap %u at +%d; error %x at +%d\n", s.vector, s.eip - eip, seen.error, seen.esp - eip);
		idt_set(vector, (u32)(trap_stubs + 16 * vector), CODE0, 0x8E);
	}
}

static void test_refusals(void)
{
	prepare(body);
	gdt_set(TASK_INDEX, (u32)&task, 0x67, 0x8B, 0);
	struct state s = state_at(CALL_TASK(TASK), 0);
	run_expect("a busy TSS", &s, 13, TASK, 0);
	gdt_set(TASK_INDEX, (u32)&task, 0x67, 0x09, 0);
	s = state_at(JUMP_TASK(TASK), 0);
	run_expect("a TSS that is not present", &s, 11, TASK, 0);
	gdt_set(TASK_INDEX, (u32)&task, 0x66, 0x89, 0);
	s = state_at(JUMP_TASK(GATE), 0);
	run_expect("a TSS that is too short", &s, 10, TASK, 0);
	prepare(body);
	s = state_at(CALL_TASK(TASK), 3);
	run_expect("a TSS of CPL 0", &s, 13, TASK, 0);
	gdt[GATE_INDEX] = (u64)0x8500 << 32 | TASK << 16;
	s = state_at(CALL_TASK(GATE), 3);
	run_expect("a gate of CPL 0", &s, 13, GATE, 0);
	gdt[GATE_INDEX] = (u64)0xE500 << 32 | DATA0 << 16;
	s = state_at(CALL_TASK(GATE), 0);
	run_expect("a gate to no TSS", &s, 13, DATA0, 0);
	tss.link = TASK; /* not busy */
	s = state_at(CODE(0xCF, CODE_DONE), 0);
	s.eflags = 0x4002;
	run_expect("IRET to a task that is not busy", &s, 10, TASK, 0);
	check_equal("nothing ran", seen.runs, 0);
	tss.link = 0;
	prepare(body);
	pte_set(VA, VA | W | U); /* not present */
	gdt_set(TASK_INDEX, VA, 0x67, 0x89, 0);
	s = state_at(JUMP_TASK(TASK), 0);
	run_expect("a TSS without a page", &s, 14, 0, 0);
	check("CR2; nothing changed", s.cr2 >= VA && s.cr2 < VA + 0x68 && access_of(TASK) == 0x89 && access_of(TSS_SELECTOR) == 0x8B);
	pte_set(VA, VA | P | W | U);
}

/* Refused in the old task, which has not changed (vol. 3, 7.3, steps 1 to 5): by each way, with EXT set where an exception leads there. */
static void test_refusals_by_all_ways(void)
{
	static const struct {
		const char *name;
		u16 selector, limit, access;
		u8 vector, back; /* by IRET */
	} cases[] = {
		{"a null selector", 0, 0x67, 0x89, 13, 10}, {"a selector of an LDT", TASK | 4, 0x67, 0x89, 13, 10}, {"a selector beyond the table", GDT_ENTRIES << 3, 0x67, 0x89, 13, 10},
		{"a data segment", DATA0, 0x67, 0x89, 13, 10}, {"an LDT for a TSS", TASK, 0x67, 0x82, 13, 10}, {"not present", TASK, 0x67, 0x09, 11, 11},
		{"too short", TASK, 0x66, 0x89, 10, 10}, {"a 16-bit TSS that is too short", TASK, 0x2A, 0x81, 10, 10}, {"busy, or for IRET not", TASK, 0x67, 0x8B, 13, 10},
	};
	for (u32 i = 0; i < WAYS * sizeof cases / sizeof *cases; i++) {
		enum way way = (enum way)(i % WAYS);
		u32 n = i / WAYS, right = way == BACK ? cases[n].back : cases[n].vector, busy = way == BACK ? 2 : 0;
		bool is_tss = (cases[n].access & 0x1D) == 0x09 || (cases[n].access & 0x1D) == 1;
		prepare(body);
		gdt_set(TASK_INDEX, (u32)&task, cases[n].limit, is_tss ? cases[n].access ^ busy : cases[n].access, 0);
		gdt[0] = under_tcg() ? 0 : gdt[TASK_INDEX]; /* which no selector names */
		tss.link = cases[n].selector;
		struct state s = way_to(way, cases[n].selector);
		u32 start = s.eip + way_start(way), access = access_of(TASK);
		run(&s);
		bool good = s.vector == right && s.error == (cases[n].selector & 0xFFFCu) + way_ext(way) && s.eip == start && s.eax == 0xA0A1A2A3;
		bool same = access_of(TASK) == access && access_of(TSS_SELECTOR) == 0x8B && !seen.runs && !task.link && !(s.eflags & EFLAGS_NT) == (way != BACK);
		same &= under_tcg() || (s.eflags & EFLAGS_RF);
		bool once = way_done(way);
		if (!check(cases[n].name, good && same && once)) print("# %s: trap %u error %x at +%d, access %x\n", way_names[way], s.vector, s.error, s.eip - start, access_of(TASK));
	}
	gdt[0] = 0;
	/* The gate itself is not there. */
	struct state s = way_to(CALL, TASK);
	gdt[GATE_INDEX] = (u64)0x6500 << 32 | TASK << 16;
	run_expect("a task gate that is not there: call", &s, 11, GATE, 0);
	s = way_to(INTERRUPT, TASK);
	idt_set(GATE_VECTOR, 0, TASK, 0x65);
	run_expect("a task gate that is not there: INT n", &s, 11, GATE_VECTOR * 8 + 2, 0);
	s = way_to(EXCEPTION, TASK);
	idt_set(6, 0, TASK, 0x05);
	run_expect("a task gate that is not there: exception", &s, 11, 6 * 8 + 3, 0);
	way_done(EXCEPTION);
	s = way_to(EXTERNAL, TASK);
	idt_set(GATE_VECTOR, 0, TASK, 0x05);
	run_expect("a task gate that is not there: external interrupt", &s, 11, GATE_VECTOR * 8 + 3, 1);
	check("is acknowledged all the same", way_done(EXTERNAL));
	prepare(body);
	s = way_to(EXTERNAL, TASK);
	u8 wait[] = {0xFB, 0x83, 0x3D, 0, 0, 0, 0, 0, 0x74, 0xF7, CODE_DONE}; /* sti; cmp dword [seen.runs], 0; jz to the comparison */
	memcpy(wait + 3, &(u32 *){&seen.runs}, 4);
	code_put(0, wait, sizeof wait);
	run_expect("the next one gets there, and back", &s, RUN_DONE, 0, sizeof wait);
	check("by way of the task", seen.runs == 1 && way_done(EXTERNAL));
	tss.link = 0;
}

/* The new task is at CPL 3, so that the exception has a good stack: the one of its own TSS. The old one is put away, and all of the new one's registers are there. */
static void expect_in_task_by(enum way way, const char *name, u32 vector, u32 error)
{
	gdt_set(TASK_INDEX, (u32)&task, 0x67, way == BACK ? 0x8B : 0x89, 0);
	task.gpr[0] = MARK;
	tss.link = TASK;
	struct state s = way_to(way, TASK);
	u32 start = s.eip;
	run(&s);
	bool good = s.vector == vector && s.error == error && s.eip == task.eip + (vector == RUN_DONE ? 2 : 0) && s.eax == MARK && s.cs == (task.cs & 0xFFFFu) && s.ss == (task.ss & 0xFFFFu);
	bool left = (under_tcg() || !(tss.eflags & EFLAGS_RF) == (way != EXCEPTION)) && tss.eip == start + way_length(way) && access_of(TASK) == 0x8B && access_of(TSS_SELECTOR) == (nests(way) ? 0x8B : 0x89);
	bool linked = nests(way) ? (task.link & 0xFFFF) == TSS_SELECTOR && (s.eflags & EFLAGS_NT) : !(s.eflags & EFLAGS_NT);
	bool once = way_done(way);
	if (!check(name, good && left && linked && once))
		print("# %s: trap %u error %x at %x (%u %u %u %u)\n", way_names[way], s.vector, s.error, s.eip, good, left, linked, once);
	tss.link = 0;
	restore_task_register();
	gdt_set(TASK_INDEX, (u32)&task, 0x67, 0x89, 0);
}

/* TCG raises what is wrong with CS, SS and LDT in the old task, whose registers are gone by then. */
static void expect_in_task(const char *name, u32 vector, u32 error)
{
	for (enum way way = JUMP; way < WAYS; way++)
		if (!under_tcg() || way == JUMP) expect_in_task_by(way, name, vector, vector == 1 || vector == RUN_DONE ? error : error + way_ext(way));
}

static void prepare_user(void)
{
	prepare(body);
	task.eip = (u32)code_put(0x800, (const u8[]){CODE_DONE}, 2);
	task.cs = CODE3;
	task.ss = task.ds = task.es = task.fs = task.gs = DATA3;
}

static void test_segments(void)
{
	static const struct {
		const char *name;
		u8 offset; /* in words from ES */
		u16 selector, access;
		u8 vector;
	} cases[] = {
		{"ES of CPL 0", 0, DATA0, 0, 10}, {"DS: absent", 3, BAD | 3, 0x73, 11}, {"FS: execute-only", 4, BAD | 3, 0xF9, 10},
		{"GS: a TSS", 5, TSS_SELECTOR, 0, 10}, {"GS beyond the table", 5, GDT_ENTRIES << 3, 0, 10}, {"SS: null", 2, 3, 0, 10},
		{"SS: absent", 2, BAD | 3, 0x73, 12}, {"SS: read-only", 2, BAD | 3, 0xF1, 10}, {"SS of CPL 0", 2, DATA0, 0, 10},
		{"CS: data", 1, DATA3, 0, 10}, {"CS: absent", 1, BAD | 3, 0x7B, 11}, {"CS of another DPL", 1, CODE0 | 3, 0, 10},
		{"CS: null", 1, 3, 0, 10}, {"CS beyond the table", 1, GDT_ENTRIES << 3 | 3, 0, 10}, {"CS: in no LDT", 1, 15, 0, 10}, {"CS: a TSS", 1, TSS_SELECTOR | 3, 0, 10},
		{"SS beyond the table", 2, GDT_ENTRIES << 3 | 3, 0, 10}, {"SS: code", 2, CODE3, 0, 10}, {"SS of another RPL", 2, DATA3 & ~3, 0, 10}, {"SS: in no LDT", 2, 15, 0, 10},
		{"DS: in no LDT", 3, 15, 0, 10}, {"DS: code of CPL 0", 3, CODE0, 0, 10}, {"ES: conforming code", 0, BAD | 3, 0x9F, RUN_DONE}, {"FS: null", 4, 3, 0, RUN_DONE},
		{"CS: conforming code of CPL 0", 1, BAD | 3, 0x9F, RUN_DONE}, {"LDT: absent", 6, BAD, 0x02, 10}, {"LDT: a TSS", 6, TSS_SELECTOR, 0, 10},
		{"LDT beyond the table", 6, GDT_ENTRIES << 3, 0, 10}, {"LDT: null", 6, 3, 0, RUN_DONE}, {"LDT: in an LDT", 6, (LDT_INDEX << 3) | 4, 0, 10}, {"LDT: data", 6, DATA0, 0, 10},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (under_tcg() && (cases[i].offset == 6 || cases[i].offset == 1 || cases[i].offset == 2)) {
			print("# skipped: %s\n", cases[i].name);
			continue;
		}
		prepare_user();
		gdt_set(BAD_INDEX, 0, 0xFFFFF, cases[i].access, 0xC);
		(&task.es)[cases[i].offset] = cases[i].selector;
		expect_in_task(cases[i].name, cases[i].vector, cases[i].vector == RUN_DONE ? 0 : cases[i].selector & 0xFFFC);
	}
	prepare_user();
	gdt_set(BAD_INDEX, 0, 0xFFF, 0xFB, 4);
	task.cs = BAD | 3;
	expect_in_task("EIP beyond the limit", 13, 0);
	prepare_user();
	task.trap = 1;
	expect_in_task("the T flag is a trap before the first instruction", 1, 0);
	u32 dr6;
	__asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
	check_equal("DR6.BT", dr6 & 0xE000, 0x8000);
}

/* Single steps over a task switch (vol. 3, 17.3.1.4): one behind the instruction that switches, in the new task; TF of the new task's own is one
 * behind its first instruction. */
static void test_single_step(void)
{
	static const struct { const char *name; u32 from, to, trap, at, dr6; } steps[] = {
		{"TF of the old task: a trap before the new one's first instruction", EFLAGS_TF, 2, 0, 0, 0x4000},
		{"TF of the new task: behind its first instruction", 2, EFLAGS_TF, 0, 1, 0x4000},
		{"TF of both: behind the switch first", EFLAGS_TF, EFLAGS_TF, 0, 0, 0x4000},
		{"TF and the T flag: one trap, with both reasons", EFLAGS_TF, 2, 1, 0, 0xC000},
	};
	for (u32 i = 0; i < 2 * sizeof steps / sizeof *steps; i++) {
		u32 dr6, n = i / 2;
		prepare_user();
		task.eip = (u32)code_put(0x800, (const u8[]){0x40, CODE_DONE}, 3); /* inc eax */
		task.eflags = steps[n].to | 2;
		task.trap = (u16)steps[n].trap;
		__asm__ volatile("mov %0, %%dr6" : : "r"(0));
		gdt_set(TASK_INDEX, (u32)&task, 0x67, 0xE9, 0);
		struct state s = state_at(i & 1 ? CALL_TASK(TASK) : JUMP_TASK(TASK), 3);
		s.eflags |= steps[n].from;
		run(&s);
		__asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
		bool good = s.vector == 1 && s.eip == task.eip + steps[n].at && (dr6 & 0xE000) == steps[n].dr6;
		if (!check(steps[n].name, good)) print("# trap %u at +%d, DR6 %x\n", s.vector, s.eip - task.eip, dr6);
		restore_task_register();
		gdt_set(TASK_INDEX, (u32)&task, 0x67, 0x89, 0);
	}
}

/* A switch turns local breakpoints off (vol. 3, 17.2.4), and the new task's RF holds for its first instruction. */
static void test_breakpoints(void)
{
	static const struct { const char *name; u32 dr7, rf, vector; } cases[] = {
		{"a local breakpoint is gone", 0x155, 0, RUN_DONE}, {"a global one is met at the first instruction", 2, 0, 1}, {"but with RF", 2, EFLAGS_RF, RUN_DONE},
	};
	for (u32 i = 0; i < sizeof cases / sizeof *cases; i++) {
		u32 dr7, dr6, eip;
		prepare_user();
		eip = task.eip;
		task.eflags = cases[i].rf | 2;
		struct state s = way_to(JUMP, TASK);
		__asm__ volatile("mov %0, %%dr6; mov %1, %%dr0; mov %2, %%dr7" : : "r"(0), "r"(eip), "r"(cases[i].dr7));
		run(&s);
		__asm__ volatile("mov %%dr6, %0; mov %%dr7, %1; mov %2, %%dr7" : "=&r"(dr6), "=&r"(dr7) : "r"(0x400));
		bool met = cases[i].vector == 1, good = s.vector == cases[i].vector && s.eip == eip + (met ? 0 : 2) && (dr6 & 15) == met;
		if (!check(cases[i].name, good && dr7 == (0x400 | (cases[i].dr7 & ~0x155u)))) print("# trap %u at +%d, DR6 %x, DR7 %x\n", s.vector, s.eip - eip, dr6, dr7);
		way_done(JUMP);
		restore_task_register();
	}
}

static void test_short_tss(void)
{
	tss.link = TASK;
	for (u32 limit = 0; limit <= 0x66; limit += 0x66) {
		prepare(body);
		gdt_set(BAD_INDEX, (u32)&tss, limit, 0x89, 0);
		__asm__ volatile("ltr %w0" : : "r"(BAD));
		gdt_set(TASK_INDEX, (u32)&task, 0x67, limit ? 0x8B : 0x89, 0);
		struct state s = way_to(BACK, TASK);
		run_expect(limit ? "IRET from a TSS that is too short" : "IRET without a back link", &s, 10, BAD, 0);
		check("nothing changed", access_of(BAD) == 0x8B && access_of(TASK) == (limit ? 0x8B : 0x89) && !seen.runs);
		restore_task_register();
	}
	tss.link = 0;
}

static void test_address_space(void)
{
	u32 *directory = (u32 *)frame_alloc(), *table = (u32 *)frame_alloc();
	u8 *other = frame_alloc();
	memcpy(directory, page_directory, 4096);
	memcpy(table, pte_of(VA), 4096);
	directory[VA >> 22] = (u32)table | P | W | U;
	table[0] = (u32)other | P | W | U;
	*(volatile u32 *)VA = 0x1111;
	*(volatile u32 *)other = 0x2222;
	prepare(body);
	task.cr3 = (u32)directory;
	struct state s = state_at(CALL_TASK(TASK), 0);
	run_expect("a task with page tables of its own", &s, RUN_DONE, 0, FAR_BYTES + 2);
	check_equal("it sees its own page", seen.value, 0x2222);
	check_equal("we see ours", *(volatile u32 *)VA, 0x1111);
	tss.cr3 = READ_CR(3);
	/* A local descriptor table of its own. */
	prepare_user();
	ldt[1] = gdt[DATA3 >> 3];
	gdt_set(LDT_INDEX, (u32)ldt, sizeof ldt - 1, 0x82, 0);
	task.ldt = LDT_INDEX << 3;
	task.gs = 1 << 3 | 7;
	s = state_at(JUMP_TASK(TASK), 0);
	run(&s);
	u32 local = 0;
	__asm__ volatile("sldt %w0" : "+r"(local));
	check("a task with an LDT of its own", s.vector == RUN_DONE && s.gs == (1 << 3 | 7) && local == LDT_INDEX << 3);
	restore_task_register();
	__asm__ volatile("lldt %w0" : : "r"(0));
}

/* With PAE a task's CR3 leads to four PDPTEs, which are loaded and checked if it is another one (vol. 3, 4.4.1). */
static void test_pae(void)
{
	static u64 directory[512] __attribute__((aligned(4096))), pdpts[2][4] __attribute__((aligned(32)));
	for (u32 i = 0; i < PAGED_MIB / 2; i++) directory[i] = (u64)i << 21 | P | W | U | PS;
	pdpts[0][0] = pdpts[1][0] = (u32)directory | P;
	WRITE_CR(0, READ_CR(0) & ~0x80000000u);
	WRITE_CR(4, READ_CR(4) | 0x20);
	WRITE_CR(3, pdpts[0]);
	WRITE_CR(0, READ_CR(0) | 0x80000000u);
	for (u32 i = 0; i < 4; i++) {
		bool spoilt = i & 2, bad = i == 3;
		for (enum way way = JUMP; way < WAYS; way++) {
			if (under_tcg() && way != JUMP) continue;
			WRITE_CR(3, pdpts[0]);
			tss.cr3 = (u32)pdpts[0];
			prepare_user();
			task.cr3 = (u32)pdpts[i & 1];
			pdpts[i & 1][2] = spoilt ? 0x1E0 | P : 0;
			const char *name = bad ? "a PDPTE with reserved bits" : spoilt ? "PDPTEs are not looked at without another CR3" : "its PDPTEs";
			expect_in_task_by(way, name, bad ? 13 : RUN_DONE, 0);
			pdpts[i & 1][2] = 0;
		}
	}
	WRITE_CR(0, READ_CR(0) & ~0x80000000u);
	WRITE_CR(4, READ_CR(4) & ~0x20u);
	tss.cr3 = (u32)page_directory;
	WRITE_CR(3, page_directory);
	WRITE_CR(0, READ_CR(0) | 0x80000000u);
}

/* A 16-bit TSS with 32-bit code, which then has to lie in the first 64 KiB. */
static void test_16bit(void)
{
	static const u8 code[] = {0x89, 0x0D, 0x00, 0x90, 0x00, 0x00, 0xCF}; /* mov [9000h], ecx; iretd */
	static u16 tss16[22];
	u8 *low = (u8 *)0x8000;
	__asm__("" : "+r"(low));
	memcpy(low, code, sizeof code);
	static const u16 image[22] = {0, 0, 0, 0, 0, 0, 0, 0x8000, 2, 0x1111, 0x2222, 0x3333, 0x4444, 0x8800, 0x5555, 0x6666, 0x7777,
				      DATA0, CODE0, DATA0, DATA0, 0};
	memcpy(tss16, image, sizeof image);
	gdt_set(TASK16_INDEX, (u32)tss16, sizeof tss16 - 1, 0x81, 0);
	struct state s = state_at(CALL_TASK(TASK16), 0);
	run_expect("a 16-bit TSS", &s, RUN_DONE, 0, FAR_BYTES + 2);
	volatile u32 *stored = (u32 *)(low + 0x1000);
	check_equal("its registers", *stored & 0xFFFF, 0x2222);
	check("its link and instruction pointer", tss16[0] == TSS_SELECTOR && tss16[7] == 0x8007);
	check("segments that it does not have are null, ours come back", s.fs == DATA0 && s.esp == (u32)user_stack + 4096 + 2048);
	/* As the current one it has the inner stacks in words, and no I/O bitmap. */
	tss16[1] = 0x7000;
	tss16[2] = DATA0;
	gdt_set(TASK16_INDEX, (u32)tss16, sizeof tss16 - 1, 0x81, 0);
	__asm__ volatile("ltr %w0" : : "r"(TASK16));
	*dword_at(0x7000 - 4) = 0;
	s = state_at(CODE(CODE_DONE), 3);
	run_expect("a 16-bit TSS's inner stack", &s, RUN_DONE, 0, 2);
	check_equal("begins where it says", *dword_at(0x7000 - 4), DATA3);
	s = state_at(CODE(0xE4, 0x61), 3);
	run_expect("it allows no ports", &s, 13, 0, 0);
	restore_task_register();
	WRITE_CR(0, READ_CR(0) & ~8u);
}

void guest_main(void)
{
	paging_enable();
	tss.cr3 = READ_CR(3);
	timer_init(GATE_VECTOR);
	test_call();
	test_jump();
	test_events();
	test_invalid_tss();
	test_refusals();
	test_refusals_by_all_ways();
	test_segments();
	test_single_step();
	test_breakpoints();
	test_short_tss();
	test_address_space();
	test_pae();
	test_16bit();
}
