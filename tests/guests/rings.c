/* The sensitive instructions that do not trap, at CPL 3 and CPL 0: what the guest sees must be its own state (SDM vol. 3, ch. 5; vol. 2). */
#include "guest.h"

#define VA 0x1800000u

static volatile u32 *at(u32 va)
{
	return (volatile u32 *)va;
}

#define RUN(cpl, ...) ({ struct state s_ = state_at(CODE(__VA_ARGS__, CODE_DONE), cpl); s_.ebx = VA; run(&s_); s_; })

static void test_flags(void)
{
	struct state s;
	u8 *code = CODE(0x9C, 0x58, CODE_DONE); /* pushf; pop eax */
	s = state_at(code, 3);
	s.eflags = 0x202;
	run(&s);
	check_equal("pushf at CPL 3 shows IF", s.eax & 0x3200, 0x200);
	s = state_at(code, 3);
	s.eflags = 0x3002;
	run(&s);
	check_equal("pushf at CPL 3 shows IF clear and IOPL", s.eax & 0x3200, 0x3000);
	s = state_at(code, 0);
	run(&s);
	check_equal("pushf at CPL 0", s.eax & 0x3200, 0);
	/* push imm; popf; pushf; pop eax */
	u8 *pop = CODE(0x68, 0xD5, 0x3E, 0x24, 0x00, 0x9D, 0x9C, 0x58, CODE_DONE);
	s = state_at(pop, 3);
	s.eflags = 2;
	run(&s);
	check_equal("popf at CPL 3 leaves IF and IOPL", s.eax & 0x3200, 0);
	check_equal("popf at CPL 3 sets the rest", s.eax & 0x244CD5, 0x240CD5);
	s = state_at(CODE(0x68, 0x02, 0x00, 0x00, 0x00, 0x9D, 0x9C, 0x58, CODE_DONE), 3);
	s.eflags = 0x202;
	run_expect("popf that clears IF at CPL 3 does not trap", &s, RUN_DONE, 0, 10);
	check_equal("and leaves it set", s.eax & 0x200, 0x200);
	s = state_at(CODE(0x68, 0x02, 0x30, 0x00, 0x00, 0x9D, 0x9C, 0x58, 0x6A, 0x02, 0x9D, CODE_DONE), 0);
	run(&s);
	check_equal("popf at CPL 0 sets IOPL", s.eax & 0x3000, 0x3000);
	s = state_at(CODE(0x9C, 0x58, 0xFA, 0x9C, 0x59, 0xFB, 0x9C, 0x5A, 0xFA, CODE_DONE), 3);
	s.eflags = 0x3002;
	run(&s);
	check_equal("cli and sti at CPL 3 with IOPL 3: allowed", s.vector, RUN_DONE);
	check("and effective", !(s.ecx & 0x200) && (s.edx & 0x200));
	s = state_at(CODE(0x66, 0x9C, 0x66, 0x58, CODE_DONE), 3);
	s.eflags = 0x202;
	run(&s);
	check_equal("16-bit pushf", s.eax, 0xA0A10202);
}

static void test_tables(void)
{
	struct state s = RUN(3, 0x0F, 0x01, 0x03); /* sgdt [ebx] */
	check_equal("sgdt at CPL 3 runs", s.vector, RUN_DONE);
	check_equal("sgdt: limit", at(VA)[0] & 0xFFFF, sizeof gdt - 1);
	check_equal("sgdt: base", *at(VA + 2), (u32)gdt);
	s = RUN(3, 0x0F, 0x01, 0x0B); /* sidt [ebx] */
	check_equal("sidt: limit", at(VA)[0] & 0xFFFF, 0x7FF);
	u32 user_base = *at(VA + 2);
	RUN(0, 0x0F, 0x01, 0x0B);
	check_equal("sidt: the same at CPL 0 and 3", user_base, *at(VA + 2));
	check("sidt: in the guest's image", user_base >= 0x100000 && user_base < 0x800000);
	s = RUN(3, 0x0F, 0x00, 0xC0); /* sldt eax */
	check_equal("sldt at CPL 3", s.eax & 0xFFFF, 0);
	s = RUN(3, 0x0F, 0x00, 0xC8); /* str eax */
	check_equal("str at CPL 3", s.eax & 0xFFFF, TSS_SELECTOR);
	s = RUN(3, 0x0F, 0x01, 0xE0); /* smsw eax */
	check_equal("smsw at CPL 3", s.eax & 0xFFFF, READ_CR(0) & 0xFFFF);
	s = RUN(3, 0x0F, 0x01, 0x23); /* smsw [ebx] */
	check_equal("smsw to memory", at(VA)[0] & 0xFFFF, READ_CR(0) & 0xFFFF);
	s = RUN(3, 0x0F, 0x00, 0x0B); /* str [ebx] */
	check_equal("str to memory", at(VA)[0] & 0xFFFF, TSS_SELECTOR);
}

static void test_segments(void)
{
	struct state s = RUN(3, 0x8C, 0xC8);
	check_equal("mov eax,cs at CPL 3", s.eax, CODE3);
	s = RUN(0, 0x8C, 0xC8);
	check_equal("mov eax,cs at CPL 0: RPL 0", s.eax, CODE0);
	s = RUN(0, 0x8C, 0xD0);
	check_equal("mov eax,ss at CPL 0", s.eax, DATA0);
	s = RUN(3, 0x0E, 0x58);
	check_equal("push cs at CPL 3", s.eax, CODE3);
	s = RUN(0, 0x0E, 0x58);
	check_equal("push cs at CPL 0", s.eax & 0xFFFF, CODE0);
	s = RUN(3, 0x1E, 0x58, 0x16, 0x59);
	check("push ds, push ss at CPL 3", s.eax == DATA3 && s.ecx == DATA3);
	s = RUN(3, 0x66, 0x8C, 0xD8);
	check_equal("mov ax,ds keeps the upper half", s.eax, 0xA0A10000 | DATA3);
	/* Null selectors may be loaded and read back. */
	s = RUN(3, 0x31, 0xC0, 0x8E, 0xE8, 0x8C, 0xE9);
	check_equal("null GS reads back", s.ecx, 0);
	/* iret to a lower privilege empties segments that it may not keep; here DS is a CPL 0 segment. */
	s = state_at(CODE(0x8C, 0xD8, CODE_DONE), 3);
	s.es = DATA0;
	run(&s);
	check_equal("iret nulls a segment above the new privilege", s.es, 0);
}

static void test_descriptor_checks(void)
{
	gdt_set(8, VA, 0xFFF, 0xF3, 4);    /* data, DPL 3 */
	gdt_set(9, 0, 0xFFFFF, 0x93, 0xC); /* data, DPL 0 */
	gdt_set(10, 0, 0x1234, 0xF9, 4);   /* execute-only */
	gdt_set(11, 0, 0x1234, 0xFF, 4);   /* conforming, readable */
	gdt_set(12, 0, 0x1234, 0xF1, 4);   /* read-only */
	gdt_set(13, 0, 0, 0, 0);
	static const struct {
		u32 selector;
		bool lar, verr, verw;
		u32 rights, limit;
	} cases[] = {
		{8 << 3 | 3, true, true, true, 0x40F300, 0xFFF},
		{9 << 3 | 3, false, false, false, 0, 0},
		{10 << 3 | 3, true, false, false, 0x40F900, 0x1234},
		{11 << 3 | 3, true, true, false, 0x40FF00, 0x1234},
		{12 << 3 | 3, true, true, false, 0x40F100, 0x1234},
		{13 << 3 | 3, false, false, false, 0, 0},
		{0, false, false, false, 0, 0},
		{0xFFF8, false, false, false, 0, 0},
		{DATA3, true, true, true, 0xC0F300, 0xFFFFFFFF},
		{CODE0, false, false, false, 0, 0},
	};
	u32 wrong = 0;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct state s = state_at(CODE(0x0F, 0x02, 0xD0, 0x0F, 0x94, 0xC1, 0x0F, 0x03, 0xF0, 0x0F, 0x94, 0xC5, 0x0F, 0x00, 0xE0, 0x9C, 0x5F, 0x0F,
					       0x00, 0xE8, 0x9C, 0x5D, CODE_DONE), 3);
		/* lar edx,eax; setz cl; lsl esi,eax; setz ch; verr ax; pushf; pop edi; verw ax; pushf; pop ebp */
		s.eax = cases[i].selector;
		run(&s);
		bool good = (s.ecx & 0xFF) == cases[i].lar && (s.ecx >> 8 & 0xFF) == cases[i].lar &&
			    s.edx == (cases[i].lar ? cases[i].rights : 0xD0D1D2D3) && s.esi == (cases[i].lar ? cases[i].limit : 0x50515253) &&
			    (s.edi >> 6 & 1) == cases[i].verr && (s.ebp >> 6 & 1) == cases[i].verw;
		if (!good && wrong++ < 4)
			print("# selector %x: lar %x %x lsl %x %x verr %u verw %u\n", cases[i].selector, s.ecx & 0xFF, s.edx, s.ecx >> 8 & 0xFF, s.esi,
			      s.edi >> 6 & 1, s.ebp >> 6 & 1);
	}
	check_equal("lar, lsl, verr, verw at CPL 3: wrong", wrong, 0);
	struct state s = RUN(0, 0xB8, 9 << 3, 0, 0, 0, 0x0F, 0x02, 0xD0);
	check("lar of a DPL 0 segment at CPL 0", (s.eflags & EFLAGS_ZF) && s.edx == 0xC09300);
	s = RUN(0, 0xB8, TSS_SELECTOR, 0, 0, 0, 0x0F, 0x02, 0xD0);
	check("lar of the TSS", (s.eflags & EFLAGS_ZF) && s.edx == 0x8B00);
	s = RUN(3, 0xB8, 1, 0, 0, 0, 0xB9, 3, 0, 0, 0, 0x63, 0xC8);
	check("arpl", s.eax == 3 && (s.eflags & EFLAGS_ZF));
	/* A descriptor edited in the table is what the next load finds. */
	for (u32 i = 1; i <= 5; i++) {
		gdt_set(8, VA + i * 0x100, 0xFFF, 0xF3, 4);
		*at(VA + i * 0x100) = i * 7;
		s = RUN(3, 0xB8, 8 << 3 | 3, 0, 0, 0, 0x8E, 0xE8, 0x65, 0xA1, 0, 0, 0, 0);
		wrong += s.eax != i * 7;
	}
	check_equal("a descriptor edited between loads: wrong", wrong, 0);
	check_equal("a load sets the accessed bit", gdt[8] >> 40 & 1, 1);
}

static void test_gates(void)
{
	/* A call gate to CPL 0 and back. */
	static const u8 service[] = {0x8C, 0xC9, 0x8C, 0xD2, 0xCB}; /* mov ecx,cs; mov edx,ss; retf */
	u8 *target = code_put(0x400, service, sizeof service);
	gdt[14] = (u64)((u32)target & 0xFFFF0000) << 32 | 0xEC0000000000ull | CODE0 << 16 | ((u32)target & 0xFFFF);
	struct state s = state_at(CODE(0x9A, 0, 0, 0, 0, 14 << 3 | 3, 0, 0x8C, 0xCE, CODE_DONE), 3);
	run_expect("call gate and retf", &s, RUN_DONE, 0, 11);
	check("call gate: privileges", s.ecx == CODE0 && s.edx == DATA0 && s.esi == CODE3);
	check_equal("call gate: ESP", s.esp, (u32)user_stack + 4096 + 2048);
	/* Far jump within CPL 3. */
	u8 jump[] = {0xEA, 0, 0, 0, 0, CODE3, 0, 0x0F, 0x0B, CODE_DONE};
	u8 *code = code_put(0, jump, sizeof jump);
	u32 to = (u32)code + 9;
	memcpy(code + 1, &to, 4);
	s = state_at(code, 3);
	run_expect("far jump at CPL 3", &s, RUN_DONE, 0, 11);
	jump[5] = CODE0;
	code = code_put(0, jump, sizeof jump);
	memcpy(code + 1, &to, 4);
	s = state_at(code, 3);
	run_expect("far jump to CPL 0 is refused", &s, 13, CODE0, 0);
	/* A far return to the same level. */
	s = state_at(CODE(0x68, 0, 0, 0, 0, 0x68, 0, 0, 0, 0, 0xCB, 0x0F, 0x0B, CODE_DONE), 3);
	u32 cs = CODE3, back = s.eip + 13;
	memcpy((void *)(s.eip + 1), &cs, 4);
	memcpy((void *)(s.eip + 6), &back, 4);
	run_expect("far return at CPL 3", &s, RUN_DONE, 0, 15);
	/* iret at CPL 3 to CPL 3: IF and IOPL stay. */
	s = state_at(CODE(0x9C, 0x81, 0x0C, 0x24, 0x01, 0x30, 0, 0, 0x0E, 0x68, 0, 0, 0, 0, 0xCF, 0x0F, 0x0B, CODE_DONE), 3);
	back = s.eip + 17;
	memcpy((void *)(s.eip + 10), &back, 4);
	s.eflags = 0x202;
	run_expect("iret at CPL 3", &s, RUN_DONE, 0, 19);
	check_equal("iret at CPL 3: flags", s.eflags & 0x3201, 0x201);
}

static void test_io(void)
{
	/* I/O bitmap: port 0xE9 alone is free for CPL 3. */
	memset(tss.io_bitmap, 0xFF, sizeof tss.io_bitmap);
	tss.io_bitmap[0xE9 / 8] &= (u8)~(1u << (0xE9 & 7));
	tss.io_map = (u32)tss.io_bitmap - (u32)&tss;
	struct state s = state_at(CODE(0xE4, 0xE9, CODE_DONE), 3);
	run_expect("in from an allowed port", &s, RUN_DONE, 0, 4);
	s = state_at(CODE(0xE4, 0xE8, CODE_DONE), 3);
	run_expect("in from another", &s, 13, 0, 0);
	s = state_at(CODE(0x66, 0xE5, 0xE9, CODE_DONE), 3);
	run_expect("a 16-bit access needs both bits", &s, 13, 0, 0);
	tss.io_map = 0xFFFF;
	s = state_at(CODE(0xE4, 0xE9, CODE_DONE), 3);
	run_expect("no bitmap: refused", &s, 13, 0, 0);
	s = state_at(CODE(0xE4, 0x61, CODE_DONE), 3);
	s.eflags = 0x3002;
	run_expect("IOPL 3: allowed", &s, RUN_DONE, 0, 4);
	s = state_at(CODE(0x0F, 0x31, CODE_DONE), 3);
	run_expect("rdtsc at CPL 3", &s, RUN_DONE, 0, 4);
	WRITE_CR(4, READ_CR(4) | 4);
	s = state_at(CODE(0x0F, 0x31, CODE_DONE), 3);
	run_expect("rdtsc at CPL 3 with TSD", &s, 13, 0, 0);
	s = state_at(CODE(0x0F, 0x31, CODE_DONE), 0);
	run_expect("rdtsc at CPL 0 with TSD", &s, RUN_DONE, 0, 4);
	WRITE_CR(4, READ_CR(4) & ~4u);
}

/* Where the bitmap lies and where it ends (vol. 3, 7.2.1; vol. 1, 18.5.2): two bytes of it are read for each access. */
static void test_bitmap(void)
{
	enum { OTHER = 21, FROM = 0x1000, TOP = FROM + 8192 };
	static const struct { const char *name; u32 port, size, clear, limit, access, vector; } cases[] = {
		{"a port in the last two bytes", 0xE9, 1, 0xE9, FROM + 0xE9 / 8 + 1, 0x89, RUN_DONE}, {"one whose second byte is beyond the limit", 0xE9, 1, 0xE9, FROM + 0xE9 / 8, 0x89, 13},
		{"a word over two bytes", 0xE7, 2, 0xE7, TOP, 0x89, RUN_DONE}, {"its second bit", 0xE8, 2, 0xE7, TOP, 0x89, 13}, {"a doubleword over two bytes", 0xE5, 4, 0xE5, TOP, 0x89, RUN_DONE},
		{"its last bit", 0xE6, 4, 0xE5, TOP, 0x89, 13}, {"the last port", 0xFFFF, 1, 0xFFFF, TOP, 0x89, RUN_DONE}, {"the last port without a byte of ones behind it", 0xFFFF, 1, 0xFFFF, TOP - 1, 0x89, 13},
		{"what goes over the last port", 0xFFFF, 2, 0xFFFF, TOP, 0x89, 13}, {"a TSS that is too short to name one", 0xE9, 1, 0xE9, 0x66, 0x89, 13},
	};
	struct tss *t = (struct tss *)VA;
	for (u32 i = 0; i < sizeof cases / sizeof *cases; i++) {
		u8 *bitmap = (u8 *)t + FROM;
		memset(t, 0, sizeof *t);
		memcpy(t, &tss, 0x68);
		t->io_map = FROM;
		memset(bitmap, 0xFF, 8193);
		for (u32 bit = cases[i].clear; bit < cases[i].clear + cases[i].size && bit < 65536; bit++) bitmap[bit / 8] &= (u8)~(1u << (bit & 7));
		gdt_set(OTHER, VA, cases[i].limit, cases[i].access, 0);
		__asm__ volatile("ltr %w0" : : "r"(OTHER << 3));
		struct state s = state_at(cases[i].size == 1 ? CODE(0xEC, CODE_DONE) : cases[i].size == 2 ? CODE(0x66, 0xED, CODE_DONE) : CODE(0xED, CODE_DONE), 3);
		s.edx = cases[i].port;
		run_expect(cases[i].name, &s, cases[i].vector, 0, cases[i].vector == RUN_DONE ? 3 + (cases[i].size == 2) : 0);
	}
	gdt[TSS_SELECTOR >> 3] &= ~(2ull << 40);
	__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
}

static void test_ldt(void)
{
	static u64 ldt[4];
	gdt_set(15, (u32)ldt, sizeof ldt - 1, 0x82, 0);
	ldt[1] = gdt[8];
	__asm__ volatile("lldt %w0" : : "r"(15 << 3));
	struct state s = state_at(CODE(0x8E, 0xE8, 0x65, 0xA1, 0, 0, 0, 0, CODE_DONE), 3);
	s.eax = 1 << 3 | 4 | 3;
	run_expect("load from the LDT", &s, RUN_DONE, 0, 10);
	s = state_at(CODE(0x0F, 0x00, 0xC0, CODE_DONE), 3);
	run(&s);
	check_equal("sldt shows it", s.eax & 0xFFFF, 15 << 3);
	s = state_at(CODE(0x8E, 0xE8, CODE_DONE), 3);
	s.eax = 5 << 3 | 4 | 3;
	run_expect("load beyond the LDT", &s, 13, 5 << 3 | 4, 0);
	__asm__ volatile("lldt %w0" : : "r"(0));
	s = state_at(CODE(0x8E, 0xE8, CODE_DONE), 3);
	s.eax = 1 << 3 | 4 | 3;
	run_expect("load with no LDT", &s, 13, 1 << 3 | 4, 0);
}

#define BEYOND 0x2000u /* offset of code_area in what CODE_INDEX names, beyond its limit */
enum { CODE_INDEX = 20, GATE_INDEX, STACK_INDEX };
#define GATE 0x42

/* A transfer with more than one fault: the manual looks at the stack, then at the limit of CS, and marks no descriptor before (vol. 2, CALL, INT n,
 * RET, IRET). */
static void expect_order(const char *name, struct state *s, u32 dpl, u32 vector, u32 error)
{
	u32 eip = s->eip;
	gdt_set(CODE_INDEX, (u32)code_area - BEYOND, 0xFFF, 0x9A | dpl << 5, 4);
	gdt_set(STACK_INDEX, 0, 0xFF, 0x92 | dpl << 5, 4);
	run(s);
	bool good = s->vector == vector && s->error == error && s->eip == eip && !((gdt[CODE_INDEX] | gdt[STACK_INDEX]) >> 40 & 1);
	if (!check(name, good)) print("# trap %u error 0x%x at 0x%x\n", s->vector, s->error, s->eip);
}

static void put_words(u32 at, u32 a, u32 b, u32 c, u32 d, u32 e)
{
	memcpy((void *)at, (const u32[]){a, b, c, d, e}, 20);
}

static void test_order(void)
{
	static const struct { const char *call, *interrupt; u32 ss, esp, vector, error; } stacks[] = {
		{"call gate: a null stack, EIP beyond: #TS", "interrupt: a null stack, EIP beyond: #TS", 0, 0x80, 10, 0},
		{"call gate: no room, EIP beyond: #SS", "interrupt: no room, EIP beyond: #SS", STACK_INDEX << 3 | 1, 8, 12, STACK_INDEX << 3},
		{"call gate: EIP beyond: #GP", "interrupt: EIP beyond: #GP", STACK_INDEX << 3 | 1, 0x80, 13, 0},
	};
	gdt_set(GATE_INDEX, 0, 0, 0, 0);
	gdt[GATE_INDEX] = (u64)(BEYOND & 0xFFFF0000) << 32 | (u64)0xEC00 << 32 | (u32)(CODE_INDEX << 19) | BEYOND;
	idt_set(GATE, BEYOND, CODE_INDEX << 3, 0xEE);
	for (u32 i = 0; i < sizeof stacks / sizeof *stacks; i++) {
		tss.ss1 = stacks[i].ss;
		tss.esp1 = stacks[i].esp;
		struct state s = state_at(CODE(CODE_DONE, 0x9A, 0, 0, 0, 0, GATE_INDEX << 3 | 3, 0, CODE_DONE) + 2, 3);
		expect_order(stacks[i].call, &s, 1, stacks[i].vector, stacks[i].error);
		s = state_at(CODE(CODE_DONE, 0xCD, GATE, CODE_DONE) + 2, 3);
		expect_order(stacks[i].interrupt, &s, 1, stacks[i].vector, stacks[i].error);
	}
	u8 far[] = {CODE_DONE, 0x9A, BEYOND & 0xFF, BEYOND >> 8, 0, 0, CODE_INDEX << 3 | 3, 0, CODE_DONE};
	gdt_set(STACK_INDEX + 1, 0, 0xFF, 0xF3, 4);
	struct state s = state_at(code_put(0, far, sizeof far) + 2, 3);
	s.ss = (STACK_INDEX + 1) << 3 | 3;
	s.esp = 4;
	expect_order("call: no room, EIP beyond: #SS", &s, 3, 12, 0);
	s = state_at(CODE(CODE_DONE, 0xCB) + 2, 0);
	put_words(s.esp, BEYOND, CODE_INDEX << 3 | 3, 0x100, CODE3, 0);
	expect_order("far return: a stack of code, EIP beyond: #GP", &s, 3, 13, CODE3 & ~3u);
	s = state_at(CODE(CODE_DONE, 0xCF) + 2, 0);
	put_words(s.esp, BEYOND, CODE_INDEX << 3 | 3, 2, 0x100, CODE3);
	expect_order("IRET: a stack of code, EIP beyond: #GP", &s, 3, 13, CODE3 & ~3u);
	put_words(s.esp = state_at(NULL, 0).esp, BEYOND, CODE_INDEX << 3 | 3, 2, 0x80, STACK_INDEX << 3 | 3);
	s = state_at(CODE(CODE_DONE, 0xCF) + 2, 0);
	expect_order("IRET: EIP beyond: #GP", &s, 3, 13, 0);
	s = V86_STATE(3, CODE_DONE, 0x66, 0x9A, 0, 0, 1, 0, V86_CODE >> 4 & 0xFF, V86_CODE >> 12); /* call 2000h:10000h */
	s.eip = 2;
	s.esp = 2;
	expect_order("V86 call: no room, EIP beyond: #SS", &s, 3, 12, 0);
}

void guest_main(void)
{
	paging_enable();
	test_flags();
	test_tables();
	test_segments();
	test_descriptor_checks();
	test_gates();
	test_order();
	test_io();
	test_bitmap();
	test_ldt();
}
