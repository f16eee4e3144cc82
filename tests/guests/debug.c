/* Debug exceptions and alignment checks (SDM vol. 3, ch. 17 and 6.15) where they are easy to get wrong: instructions that access memory in
 * more than one way, repetition, the instruction behind MOV SS, the resume flag. */
#include "guest.h"

#define VA 0x1800000u
#define EFLAGS_RF 0x10000u
#define EFLAGS_AC 0x40000u
#define DR6_B0 1u
#define DR6_BD 0x2000u
#define DR6_BS 0x4000u
enum { EXECUTE, WRITE, PORT, ACCESS };

static void watch(u32 at, u32 kind, u32 length)
{
	static const u32 codes[] = {0, 0, 1, 0, 3};
	u32 control = 0x401 | kind << 16 | codes[length] << 18;
	__asm__ volatile("mov %0, %%dr6; mov %1, %%dr0; mov %2, %%dr7" : : "r"(0), "r"(at), "r"(control));
}

static u32 unwatch(void)
{
	u32 dr6;
	__asm__ volatile("mov %1, %%dr7; mov %%dr6, %0; mov %2, %%dr6" : "=&r"(dr6) : "r"(0x400), "r"(0));
	return dr6 & 0xE00F;
}

/* Run to the trap behind (or at) `offset`; it must be #DB for exactly this reason. */
static void expect_debug(const char *name, struct state *s, u32 offset, u32 reason, u32 rf)
{
	u32 start = s->eip;
	run(s);
	u32 dr6 = unwatch();
	bool good = s->vector == 1 && s->eip == start + offset && dr6 == reason && (s->eflags & EFLAGS_RF) == rf;
	if (!check(name, good)) print("# trap %u at +%u, DR6 %x, eflags %x\n", s->vector, s->eip - start, dr6, s->eflags);
}

#define TOP ((u32)user_stack + 4096 + 2048)

static void test_data_breakpoints(void)
{
	static const struct {
		const char *name;
		u32 at, kind;
		u8 length, code[10];
	} cases[] = {
		{"PUSHA", (u32)-20, WRITE, 1, {0x60}},
		{"POPA", 8, ACCESS, 1, {0x61}},
		{"PUSH ES", (u32)-4, WRITE, 1, {0x06}},
		{"ENTER 8,3", (u32)-12, WRITE, 4, {0xC8, 8, 0, 3}},
		{"LEAVE", 0, ACCESS, 1, {0xC9}},
		{"BOUND", VA, ACCESS, 2, {0x62, 0x13}},
		{"LES", VA + 4, ACCESS, 2, {0xC4, 0x0B}},
		{"SIDT", VA + 2, WRITE, 3, {0x0F, 0x01, 0x0B}},
		{"FXSAVE", VA + 40, WRITE, 3, {0x0F, 0xAE, 0x03}},
		{"FNSAVE", VA + 100, WRITE, 2, {0xDD, 0x33}},
		{"FRSTOR", VA + 100, ACCESS, 2, {0xDD, 0x23}},
		{"CMPSB", VA, ACCESS, 1, {0xA6}},
		{"STOSD", VA + 0x102, WRITE, 1, {0xAB}},
		{"INC [m]", VA, WRITE, 2, {0xFF, 0x03}},
		{"XCHG [m]", VA, ACCESS, 2, {0x87, 0x03}},
		{"MOV [m], ES", VA, WRITE, 2, {0x8C, 0x03}},
		{"STR [m]", VA, WRITE, 3, {0x0F, 0x00, 0x0B}},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		memset((void *)VA, 0, 512);
		*(u32 *)VA = 0x37F;            /* a control word, and a lower bound */
		*(u32 *)(VA + 4) = 1 << 16 | DATA3; /* a selector, and an upper bound */
		struct state s = state_at(code_put(0, cases[i].code, 10), 3);
		code_put(cases[i].length, (const u8[]){0x90, CODE_DONE}, 3);
		s.ebx = s.esi = VA;
		s.edi = VA + 0x100;
		s.edx = 0x400;
		s.ebp = s.esp = TOP;
		u32 at = cases[i].at >= VA && cases[i].at < VA + 4096 ? cases[i].at : TOP + cases[i].at;
		watch(at, cases[i].kind, 1);
		expect_debug(cases[i].name, &s, cases[i].length, DR6_B0, 0);
	}
}

/* An access that wraps at 4 GiB: its last bytes are those at 0. */
static void test_wrap(void)
{
	static const struct {
		const char *name;
		u32 kind, esp;
		u8 length, code[4];
	} cases[] = {
		{"MOV EAX, [FFFFFFFEh]", ACCESS, TOP, 2, {0x8B, 0x03}}, {"MOV [FFFFFFFEh], EAX", WRITE, TOP, 2, {0x89, 0x03}},
		{"LODSD over the end", ACCESS, TOP, 1, {0xAD}}, {"PUSH EAX over the end", WRITE, 2, 1, {0x50}},
	};
	u32 *table = (u32 *)frame_alloc();
	table[1023] = (u32)frame_alloc() | P | W | U;
	page_directory[1023] = (u32)table | P | W | U;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		for (u32 at = 0; at < 3; at++) {
			struct state s = state_at(code_put(0, cases[i].code, 4), 3);
			code_put(cases[i].length, (const u8[]){0x90, CODE_DONE}, 3);
			s.ebx = s.esi = 0xFFFFFFFE;
			s.esp = cases[i].esp;
			watch(at, cases[i].kind, 1);
			if (at < 2) expect_debug(cases[i].name, &s, cases[i].length, DR6_B0, 0);
			else run_expect("the byte behind it", &s, RUN_DONE, 0, cases[i].length + 3);
		}
	}
	unwatch();
}

static void test_repetition(void)
{
	struct state s = state_at(CODE(0xF3, 0xA4, CODE_DONE), 3);
	s.esi = VA;
	s.edi = VA + 0x100;
	s.ecx = 10;
	watch(VA + 0x103, WRITE, 1);
	expect_debug("REP MOVSB: behind the iteration that hits, with RF", &s, 0, DR6_B0, EFLAGS_RF);
	check("its registers", s.ecx == 6 && s.esi == VA + 4 && s.edi == VA + 0x104);
	s = state_at(CODE(0xF3, 0xAA, CODE_DONE), 3);
	s.edi = VA;
	s.ecx = 4;
	watch(VA + 3, WRITE, 1);
	expect_debug("REP STOSB: the last iteration's trap comes behind, without RF", &s, 2, DR6_B0, 0);
	s = state_at(CODE(0xF3, 0xAA, CODE_DONE), 3);
	s.edi = VA;
	s.ecx = 4;
	s.eflags |= EFLAGS_TF;
	expect_debug("REP STOSB: single step after an iteration, with RF", &s, 0, DR6_BS, EFLAGS_RF);
	check_equal("one iteration", s.ecx, 3);
	run(&s);
	check("and the next", s.vector == 1 && s.ecx == 2);
	run(&s);
	run(&s);
	check("the last one's is behind it", s.vector == 1 && s.ecx == 0 && s.eip == (u32)code_area + 2);
	/* An instruction breakpoint is met once, not at each iteration. */
	s = state_at(CODE(0xF3, 0xAA, CODE_DONE), 3);
	s.edi = VA;
	s.ecx = 40;
	watch(s.eip, EXECUTE, 1);
	expect_debug("an instruction breakpoint on REP STOSB", &s, 0, DR6_B0, 0);
	check_equal("before the first iteration", s.ecx, 40);
	watch(s.eip, EXECUTE, 1);
	s.eflags |= EFLAGS_RF;
	run(&s);
	check("goes on with RF to its end", s.vector == RUN_DONE && s.ecx == 0);
	unwatch();
}

static void test_resume_flag(void)
{
	struct state s = state_at(CODE(0x90, 0x90, 0x0F, 0x0B, CODE_DONE), 3);
	watch(s.eip + 1, EXECUTE, 1);
	expect_debug("an instruction breakpoint's image keeps RF clear", &s, 1, DR6_B0, 0);
	watch(s.eip, EXECUTE, 1);
	s.eflags |= EFLAGS_RF;
	run(&s);
	check("RF holds for one instruction, and #UD is shown with it", s.vector == 6 && (s.eflags & EFLAGS_RF));
	unwatch();
	s = state_at(CODE(0xCC), 3);
	s.eflags |= EFLAGS_RF;
	run(&s);
	check("INT3 pushes RF clear", s.vector == 3 && !(s.eflags & EFLAGS_RF) && s.eip == (u32)code_area + 1);
	s = state_at(CODE(0xF1), 3);
	expect_debug("INT1", &s, 1, 0, 0);
	s = state_at(CODE(0xCD, 0x01), 3);
	run_expect("INT 1 needs the gate's privilege", &s, 13, 1 * 8 + 2, 0);
}

static void test_single_step(void)
{
	struct state s = state_at(CODE(0x8E, 0xD0, 0x90, 0x90, CODE_DONE), 3);
	s.eax = DATA3;
	s.eflags |= EFLAGS_TF;
	expect_debug("no single-step trap behind MOV SS", &s, 3, DR6_BS, 0);
	s = state_at(CODE(0x16, 0x17, 0x90, 0x90, CODE_DONE), 3);
	s.eflags |= EFLAGS_TF;
	run(&s);
	check("a step over PUSH SS", s.vector == 1 && s.eip == (u32)code_area + 1);
	expect_debug("none behind POP SS", &s, 2, DR6_BS, 0);
	s = state_at(CODE(0x0F, 0xB2, 0x23, 0x90, CODE_DONE), 3);
	*(u32 *)VA = TOP;
	*(u32 *)(VA + 4) = DATA3;
	s.ebx = VA;
	s.eflags |= EFLAGS_TF;
	expect_debug("LSS has one", &s, 3, DR6_BS, 0);
	/* A data breakpoint of MOV SS is reported behind the next instruction. */
	s = state_at(CODE(0x8E, 0x13, 0x90, 0x90, CODE_DONE), 3);
	*(u32 *)VA = DATA3;
	s.ebx = VA;
	watch(VA, ACCESS, 1);
	expect_debug("a data breakpoint of MOV SS waits", &s, 3, DR6_B0, 0);
	/* And one on the next instruction is not met. */
	s = state_at(CODE(0x8E, 0xD0, 0x90, 0x90, CODE_DONE), 3);
	s.eax = DATA3;
	watch(s.eip + 2, EXECUTE, 1);
	run(&s);
	check("an instruction breakpoint behind MOV SS is not met", s.vector == RUN_DONE && unwatch() == 0);
	s = state_at(CODE(0x9C, 0x81, 0x0C, 0x24, 0, 1, 0, 0, 0x9D, 0x90, 0x90, CODE_DONE), 3); /* pushf; or [esp],TF; popf; nop */
	expect_debug("POPF that sets TF: behind the next instruction", &s, 10, DR6_BS, 0);
	s = state_at(CODE(0x9C, 0x81, 0x24, 0x24, 0xFF, 0xFE, 0xFF, 0xFF, 0x9D, 0x90, CODE_DONE), 3);
	s.eip += 8;
	*(u32 *)(s.esp) = 2;
	s.eflags |= EFLAGS_TF;
	expect_debug("POPF that clears TF: behind itself", &s, 1, DR6_BS, 0);
	check_equal("with TF clear", s.eflags & EFLAGS_TF, 0);
	s = state_at(CODE(CODE_DONE), 3);
	s.eflags |= EFLAGS_TF;
	run(&s);
	check("INT n is not stepped", s.vector == RUN_DONE && (s.eflags & EFLAGS_TF));
	s = state_at(CODE(0x0F, 0x0B), 3);
	s.eflags |= EFLAGS_TF;
	run(&s);
	check("nor is an instruction that faults", s.vector == 6 && (s.eflags & EFLAGS_TF));
	s = state_at(CODE(0xEB, 0x01, 0x90, 0x90, CODE_DONE), 3);
	s.eflags |= EFLAGS_TF;
	expect_debug("a jump is", &s, 3, DR6_BS, 0);
	__asm__ volatile("mov %0, %%dr6" : : "r"(0));
}

static void test_registers(void)
{
	struct state s = state_at(CODE(0x0F, 0x21, 0xF0, CODE_DONE), 0); /* mov eax, dr6 */
	__asm__ volatile("mov %0, %%dr6; mov %1, %%dr7" : : "r"(0), "r"(0x2400));
	u32 start = s.eip;
	run(&s);
	u32 dr6 = unwatch();
	check("general detect: a fault at the access", s.vector == 1 && s.eip == start && (dr6 & DR6_BD));
	check_equal("which is shown with RF", s.eflags & EFLAGS_RF, EFLAGS_RF);
	s = state_at(CODE(0x0F, 0x21, 0xE0, CODE_DONE), 0); /* mov eax, dr4 */
	run_expect("DR4 is DR6", &s, RUN_DONE, 0, 5);
	WRITE_CR(4, READ_CR(4) | 8);
	s = state_at(CODE(0x0F, 0x21, 0xE0, CODE_DONE), 0);
	run_expect("DR4 with CR4.DE: #UD", &s, 6, 0, 0);
	s = state_at(CODE(0xE4, 0x61, 0x90, CODE_DONE), 3);
	s.eflags |= 0x3000;
	watch(0x61, PORT, 1);
	expect_debug("a breakpoint on a port", &s, 2, DR6_B0, 0);
	s = state_at(CODE(0x6C, 0x90, CODE_DONE), 3);
	s.edi = VA;
	s.edx = 0x61;
	s.eflags |= 0x3000;
	watch(0x61, PORT, 1);
	expect_debug("INSB", &s, 1, DR6_B0, 0);
	WRITE_CR(4, READ_CR(4) & ~8u);
}

/* INS and OUTS with a breakpoint on their port (vol. 3, 17.2.4 and 17.3.1.2): a trap behind each iteration, which restarts with what is left. */
static void test_port_strings(void)
{
	static const struct {
		const char *name;
		u32 watched, port, size;
		u8 length, code[3]; /* of the breakpoint; the instruction */
		bool in;
	} cases[] = {
		{"REP INSB", 0x61, 0x61, 1, 1, {0xF3, 0x6C}, true}, {"REP OUTSB", 0x80, 0x80, 1, 1, {0xF3, 0x6E}, false},
		{"REP INSD that begins below the port", 0x83, 0x80, 4, 1, {0xF3, 0x6D}, true}, {"REP OUTSD that begins in four ports", 0x84, 0x86, 4, 4, {0xF3, 0x6F}, false},
		{"REP OUTSW", 0x80, 0x80, 2, 2, {0x66, 0xF3, 0x6F}, false}, {"REPNE INSB", 0x61, 0x61, 1, 1, {0xF2, 0x6C}, true},
	};
	WRITE_CR(4, READ_CR(4) | 8);
	for (unsigned i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
		u32 n = i / 2, length = cases[n].code[2] ? 3 : 2, step = cases[n].size, good = 0;
		bool down = i & 1;
		struct state s = state_at(code_put(0, cases[n].code, length), 3);
		code_put(length, (const u8[]){0x90, CODE_DONE}, 3);
		u32 start = s.eip;
		s.esi = s.edi = VA + 0x800;
		s.ecx = 3;
		s.edx = cases[n].port;
		s.eflags |= 0x3000 | (down ? EFLAGS_DF : 0);
		for (u32 left = 3; left--;) {
			u32 moved = VA + 0x800 + (down ? -step : step) * (3 - left);
			watch(cases[n].watched, PORT, cases[n].length);
			run(&s);
			bool stops = s.vector == 1 && s.eip == start + (left ? 0 : length) && s.ecx == left && unwatch() == DR6_B0;
			bool registers = s.edi == (cases[n].in ? moved : VA + 0x800) && s.esi == (cases[n].in ? VA + 0x800 : moved);
			if (stops && registers && (s.eflags & EFLAGS_RF) == (left ? EFLAGS_RF : 0)) good++;
			else print("# %u left: trap %u at +%u, ecx %u, esi %x, edi %x, eflags %x\n", left, s.vector, s.eip - start, s.ecx, s.esi, s.edi, s.eflags);
		}
		check_equal(cases[n].name, good, 3);
	}
	WRITE_CR(4, READ_CR(4) & ~8u);
}

/* What comes with it, and what comes before it. */
static void test_port_reasons(void)
{
	WRITE_CR(4, READ_CR(4) | 8);
	struct state in = state_at(CODE(0xF3, 0x6C, 0x90, CODE_DONE), 3), s = in;
	in.edi = VA;
	in.edx = 0x61;
	in.ecx = 0;
	in.eflags |= 0x3000;
	s = in;
	watch(0x61, PORT, 1);
	run(&s);
	check("no iteration, no trap", s.vector == RUN_DONE && unwatch() == 0);
	in.ecx = 2;
	s = in;
	watch(0x62, PORT, 1);
	run(&s);
	check("nor one on the next port", s.vector == RUN_DONE && unwatch() == 0);
	s = in;
	watch(0x61, PORT, 1);
	__asm__ volatile("mov %0, %%dr1; mov %1, %%dr7" : : "r"(VA + 1), "r"(0x405 | 2 << 16 | 1 << 20));
	run(&s);
	check("the port alone", s.vector == 1 && s.ecx == 1 && unwatch() == DR6_B0);
	watch(0x61, PORT, 1);
	__asm__ volatile("mov %0, %%dr7" : : "r"(0x405 | 2 << 16 | 1 << 20));
	run(&s);
	check("the port and the memory", s.vector == 1 && s.ecx == 0 && unwatch() == (DR6_B0 | DR6_B0 << 1));
	s = in;
	s.eflags |= EFLAGS_TF;
	watch(0x61, PORT, 1);
	expect_debug("the port and a single step", &s, 0, DR6_B0 | DR6_BS, EFLAGS_RF);
	s = in;
	s.eflags &= ~0x3000u;
	watch(0x61, PORT, 1);
	run(&s);
	check("#GP of the port comes first", s.vector == 13 && s.ecx == 2 && unwatch() == 0);
	pte_set(VA, 0);
	s = in;
	watch(0x61, PORT, 1);
	run(&s);
	check("and #PF of the memory", s.vector == 14 && s.error == 6 && s.cr2 == VA && s.ecx == 2 && unwatch() == 0);
	s = state_at(CODE(0xF3, 0x6E, 0x90, CODE_DONE), 3);
	s.esi = VA - 1;
	s.edx = 0x80;
	s.ecx = 2;
	s.eflags |= 0x3000;
	watch(0x80, PORT, 1);
	run(&s);
	check("OUTS: the iteration before it has its trap", s.vector == 1 && s.ecx == 1 && s.esi == VA && unwatch() == DR6_B0);
	watch(0x80, PORT, 1);
	run(&s);
	check("then a page fault, with RF", s.vector == 14 && s.ecx == 1 && s.cr2 == VA && (s.eflags & EFLAGS_RF) && unwatch() == 0);
	pte_set(VA, VA | P | W | U);
	WRITE_CR(4, READ_CR(4) & ~8u);
}

static void test_alignment(void)
{
	static const struct {
		const char *name;
		u8 offset, vector, code[6];
	} cases[] = {
		{"BOUND: misaligned", 2, 17, {0x62, 0x13}}, {"BOUND, 16-bit pair", 2, RUN_DONE, {0x66, 0x62, 0x13}},
		{"BOUND, 16-bit pair at an odd address", 1, 17, {0x66, 0x62, 0x13}},
		{"LES: misaligned", 2, 17, {0xC4, 0x0B}}, {"LES, 16-bit", 2, RUN_DONE, {0x66, 0xC4, 0x0B}}, {"SIDT: misaligned", 2, 17, {0x0F, 0x01, 0x0B}},
		{"SIDT, aligned", 4, RUN_DONE, {0x0F, 0x01, 0x0B}}, {"MOVSD", 2, 17, {0xA5}}, {"REP MOVSW", 1, 17, {0xF3, 0x66, 0xA5}},
		{"FNSAVE: misaligned", 2, 17, {0xDD, 0x33}}, {"FNSTENV, 16-bit", 2, RUN_DONE, {0x66, 0xD9, 0x33}}, {"MOV ES, [m]", 1, 17, {0x8E, 0x03}},
		{"LSL [m]", 1, 17, {0x0F, 0x03, 0x03}},
	};
	WRITE_CR(0, READ_CR(0) | 0x40000);
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		u32 length = 1;
		memset((void *)VA, 0, 256);
		*(u32 *)(VA + cases[i].offset + 2) = 0x7FFF0000 | DATA3;
		*(u16 *)(VA + cases[i].offset) = 0;
		code_put(0, (const u8[]){0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, CODE_DONE}, 9);
		while (length < 6 && cases[i].code[length]) length++;
		struct state s = state_at(code_put(0, cases[i].code, length), 3);
		s.ebx = s.esi = VA + cases[i].offset;
		s.edi = VA + 0x40 + cases[i].offset;
		s.edx = 1;
		s.ecx = 1;
		s.eflags |= EFLAGS_AC;
		run_expect(cases[i].name, &s, cases[i].vector, 0, cases[i].vector == 17 ? 0 : 9);
	}
	struct state s = state_at(CODE(0x60, CODE_DONE), 3);
	s.esp -= 2;
	s.eflags |= EFLAGS_AC;
	run_expect("PUSHA: misaligned", &s, 17, 0, 0);
	s = state_at(CODE(0xC8, 0, 0, 0, CODE_DONE), 3);
	s.esp -= 2;
	s.eflags |= EFLAGS_AC;
	run_expect("ENTER", &s, 17, 0, 0);
	s = state_at(CODE(0xC8, 0, 0, 2, CODE_DONE), 3);
	s.ebp = TOP + 2;
	s.eflags |= EFLAGS_AC;
	run_expect("ENTER's display", &s, 17, 0, 0);
	s = state_at(CODE(0x60, CODE_DONE), 0);
	s.esp -= 2;
	run_expect("never at CPL 0", &s, RUN_DONE, 0, 3);
	WRITE_CR(0, READ_CR(0) & ~0x40000u);
}

void guest_main(void)
{
	paging_enable();
	WRITE_CR(4, READ_CR(4) | 0x200);
	test_data_breakpoints();
	test_wrap();
	test_repetition();
	test_resume_flag();
	test_single_step();
	test_registers();
	test_port_strings();
	test_port_reasons();
	test_alignment();
}
