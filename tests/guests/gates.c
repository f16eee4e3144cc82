/* Call gates, and what lies behind them and interrupt gates (SDM vol. 3, 5.8.3 to 5.8.6): parameters, both stacks, every kind of code segment. */
#include "guest.h"

enum { X_INDEX = GDT_FREE, GATE_INDEX, DATA1_INDEX, DATA2_INDEX, SHORT_INDEX, ROOM_INDEX,
       X = X_INDEX << 3, CALL_GATE = GATE_INDEX << 3 | 3, SHORT = SHORT_INDEX << 3 | 3, ROOM = ROOM_INDEX << 3, MOST = 31 };
#define VECTOR 0x40u
#define LOW ((u8 *)0x8000)
#define INNER_TOP ((u32)inner_stack + sizeof inner_stack)
#define EFLAGS_AC 0x40000u
#define CR0_AM 0x40000u
#define MISSING 0x1900000u

static u8 inner_stack[1024] __attribute__((aligned(16)));
static const u8 far_call[] = {0x9A, 0, 0, 0, 0, CALL_GATE, 0, CODE_DONE}, far_jump[] = {0xEA, 0, 0, 0, 0, CALL_GATE, 0, CODE_DONE};

static void put_gate(bool wide, u32 selector, u32 parameters)
{
	gdt[GATE_INDEX] = (u64)((wide ? 0xEC00u : 0xE400u) | parameters) << 32 | selector << 16 | (u32)LOW;
}

static u32 word_at_stack(u32 at, bool wide) { return wide ? *dword_at(at) : *word_at(at); }

/* A call with so many words: what the inner stack holds, from its top down; back by RETF that releases them from both stacks. */
static bool call_with(bool wide, u32 parameters)
{
	u32 size = wide ? 4 : 2;
	put_gate(wide, CODE0, parameters);
	memcpy(LOW, (const u8[]){CODE_DONE}, 2);
	struct state s = state_at(code_put(0, far_call, sizeof far_call), 3);
	for (u32 i = 0; i < MOST; i++) {
		u32 value = 0x51520000 + i;
		memcpy((void *)(s.esp + i * size), &value, size);
	}
	u32 eip = s.eip, esp = s.esp;
	run(&s);
	bool good = s.vector == RUN_DONE && s.cs == CODE0 && s.esp == INNER_TOP - (4 + parameters) * size;
	u32 mask = wide ? ~0u : 0xFFFF, at = s.esp;
	good &= word_at_stack(at, wide) == ((eip + 7) & mask) && word_at_stack(at + size, wide) == CODE3;
	for (u32 i = 0; i < parameters; i++) good &= word_at_stack(at + (2 + i) * size, wide) == ((0x51520000 + i) & mask);
	at += (2 + parameters) * size;
	good &= word_at_stack(at, wide) == (esp & mask) && word_at_stack(at + size, wide) == DATA3;
	if (!wide) return good; /* the way back has no room for EIP */
	memcpy(LOW, (const u8[]){0xCA, (u8)(parameters * size), 0}, 3);
	s = state_at(code_put(0, far_call, sizeof far_call), 3);
	run(&s);
	return good && s.vector == RUN_DONE && s.cs == CODE3 && s.eip == eip + 9 && s.ss == DATA3 && s.esp == esp + parameters * size;
}

static void test_parameters(void)
{
	u32 wrong = 0;
	for (u32 i = 0; i < 2 * (MOST + 1); i++) wrong += !call_with(i & 1, i >> 1);
	check_equal("parameters of call gates, both sizes: wrong", wrong, 0);
}

/* The outer stack is looked at as far as there are parameters. */
static void test_outer_stack(void)
{
	static const struct { const char *name; u32 parameters, ss, esp, eflags, vector, error; } cases[] = {
		{"a parameter within the limit", 1, SHORT, 0xFFC, 2, RUN_DONE, 0}, {"a parameter beyond the limit: #SS", 1, SHORT, 0xFFD, 2, 12, 0},
		{"no parameter, ESP beyond the limit", 0, SHORT, 0x1000, 2, RUN_DONE, 0}, {"no parameter, ESP 0", 0, SHORT, 0, 2, RUN_DONE, 0},
		{"no parameter, a misaligned stack", 0, DATA3, MISSING + 1, 2 | EFLAGS_AC, RUN_DONE, 0}, {"a misaligned parameter: #AC", 1, DATA3, MISSING - 7, 2 | EFLAGS_AC, 17, 0},
		{"no parameter, no page", 0, DATA3, MISSING, 2, RUN_DONE, 0}, {"two parameters, the second in no page", 2, DATA3, MISSING - 4, 2, 14, 0},
	};
	gdt_set(SHORT_INDEX, (u32)user_stack, 0xFFF, 0xF3, 4);
	memcpy(LOW, (const u8[]){CODE_DONE}, 2);
	WRITE_CR(0, READ_CR(0) | CR0_AM);
	pte_set(MISSING, 0);
	for (u32 i = 0; i < sizeof cases / sizeof *cases; i++) {
		put_gate(true, CODE0, cases[i].parameters);
		struct state s = state_at(code_put(0, far_call, sizeof far_call), 3);
		s.ss = cases[i].ss;
		s.esp = cases[i].esp;
		s.eflags = cases[i].eflags;
		u32 eip = s.eip;
		run(&s);
		bool done = cases[i].vector == RUN_DONE;
		bool good = s.vector == cases[i].vector && (s.error & ~4u) == cases[i].error && (done ? s.cs == CODE0 : s.eip == eip && s.esp == cases[i].esp);
		if (cases[i].vector == 14) good &= s.cr2 == MISSING;
		if (!check(cases[i].name, good)) print("# trap %u error %x at +%d, ESP %x\n", s.vector, s.error, s.eip - eip, s.esp);
	}
	WRITE_CR(0, READ_CR(0) & ~CR0_AM);
}

/* There must be room for all of the frame on the inner one: an expand-down segment, whose limit is the last byte that it has not. */
static void test_inner_stack(void)
{
	static const u8 leave_it[] = {0x66, 0xB8, DATA0, 0, 0x8E, 0xD0, CODE_DONE}; /* mov ax, DATA0; mov ss, ax */
	u8 repair[] = {0x66, 0xC7, 0x05, 0, 0, 0, 0, DATA0, 0, CODE_DONE};         /* mov word [tss.ss0], DATA0 */
	u32 wrong = 0;
	u32 top = 0x7000, ss0 = (u32)&tss + offsetof(struct tss, ss0);
	memcpy(repair + 3, &ss0, 4);
	memcpy(LOW, leave_it, sizeof leave_it);
	memcpy(LOW + 64, repair, sizeof repair);
	gdt_set(X_INDEX, 0, 0xFFFFF, 0xBB, 0xC);
	for (u32 i = 0; i < 4 * (MOST + 1); i++) {
		bool wide = i & 1, room = i & 2;
		u32 parameters = i >> 2, bytes = (4 + parameters) * (wide ? 4 : 2);
		gdt_set(ROOM_INDEX, INNER_TOP - top, top - bytes - room, 0x97, 4);
		put_gate(wide, CODE0, parameters);
		tss.ss0 = ROOM;
		tss.esp0 = top;
		idt_set(12, (u32)LOW + 64, X | 1, 0x8E); /* at level 1, whose stack is good */
		struct state s = state_at(code_put(0, far_call, sizeof far_call), 3);
		u32 eip = s.eip;
		run(&s);
		tss.ss0 = DATA0;
		bool called = s.vector == RUN_DONE && s.cs == CODE0 && s.esp == top - bytes;
		bool refused = s.vector == RUN_DONE && s.cs == (X | 1) && *dword_at(s.esp) == ROOM && *dword_at(s.esp + 4) == eip;
		wrong += room ? !called : !refused;
	}
	tss.esp0 = INNER_TOP;
	idt_set(12, (u32)(trap_stubs + 16 * 12), CODE0, 0x8E);
	check_equal("room for the frame of a call gate: wrong", wrong, 0);
}

enum through { CALL, JUMP, INTERRUPT };
static const char *const through_names[] = {"every code segment behind a call gate, call: wrong", "every code segment behind a call gate, jump: wrong",
					    "every code segment behind an interrupt gate: wrong"};

/* RUN_DONE and the new CS, or a vector and its error code. */
static u32 expected(enum through through, u32 access, u32 cpl)
{
	u32 dpl = access >> 5 & 3;
	bool code = (access & 0x18) == 0x18, conforming = access & 4, allowed = code && dpl <= cpl;
	if (through == JUMP && !conforming) allowed &= dpl == cpl;
	if (!allowed) return 13 << 16 | X;
	if (!(access & 0x80)) return 11 << 16 | X;
	return RUN_DONE << 16 | X | (conforming ? cpl : dpl);
}

static void test_segments(enum through through)
{
	u32 wrong = 0;
	memcpy(LOW, (const u8[]){CODE_DONE}, 2);
	for (u32 i = 0; i < 2 * 256; i++) {
		u32 access = i >> 1, cpl = i & 1 ? 3 : 0;
		gdt_set(X_INDEX, 0, 0xFFFFF, access, 0xC);
		put_gate(true, X | 3, 0);
		idt_set(VECTOR, (u32)LOW, X | 3, 0xEE);
		struct state s = state_at(through == CALL ? code_put(0, far_call, sizeof far_call) : through == JUMP ? code_put(0, far_jump, sizeof far_jump) : CODE(0xCD, VECTOR, CODE_DONE), cpl);
		u32 eip = s.eip, want = expected(through, access, cpl);
		run(&s);
		u32 got = s.vector << 16 | (s.vector == RUN_DONE ? s.cs : s.error);
		bool good = got == want && s.eip == (s.vector == RUN_DONE ? (u32)LOW + 2 : eip);
		if (!good && wrong++ < 6) print("# %x at CPL %u: %x, should be %x\n", access, cpl, got, want);
	}
	check_equal(through_names[through], wrong, 0);
}

void guest_main(void)
{
	paging_enable();
	gdt_set(DATA1_INDEX, 0, 0xFFFFF, 0xB3, 0xC);
	gdt_set(DATA2_INDEX, 0, 0xFFFFF, 0xD3, 0xC);
	tss.esp0 = INNER_TOP;
	tss.ss1 = DATA1_INDEX << 3 | 1;
	tss.ss2 = DATA2_INDEX << 3 | 2;
	tss.esp1 = tss.esp2 = (u32)user_stack + 4096;
	test_parameters();
	test_outer_stack();
	test_inner_stack();
	for (enum through through = CALL; through <= INTERRUPT; through++) test_segments(through);
}
