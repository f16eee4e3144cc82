/* Calls and returns that do not match, by the million, across privilege levels and page tables: the monitor predicts returns, and a
 * prediction must never be more than that. */
#include "guest.h"

#define X 0x2000000u /* a page beyond what paging_init maps: another frame in each address space */
#define SWITCH 0x90
#define SNIPPETS 64u
#define STRIDE 64u
#define PROGRAMS 120u
#define STEPS 3000u

static u32 other_directory[1024] __attribute__((aligned(4096)));
static u32 tables[2][1024] __attribute__((aligned(4096)));
static u8 *frames[2];

/* --- random programs of calls and returns, against a model --- */

enum op { CALL, RET, POP_JMP, PUSH_RET, CALL_REG, RET_4, CHANGE_RET, SKIP, SINK, RETF, IRET, OPS };
struct snippet {
	u8 op;
	u8 to, then;
	u32 back; /* address behind its call */
};
static struct snippet program[SNIPPETS];
static u32 counts[SNIPPETS], expected[SNIPPETS];
static u32 seed, steps_run;

static u32 draw(u32 below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

static u32 at(u32 snippet) { return (u32)code_area + 256 + snippet * STRIDE; }

static u8 *put8(u8 *p, u8 x)
{
	*p = x;
	return p + 1;
}

static u8 *put32(u8 *p, u32 x)
{
	memcpy(p, &x, 4);
	return p + 4;
}

static u8 *put_branch(u8 *p, u8 opcode, u32 target)
{
	return put32(put8(p, opcode), target - (u32)(p + 5));
}

static u8 *put_push(u8 *p, u32 value) { return put32(put8(p, 0x68), value); }

/* ESP moves by at most 12 bytes each way in a snippet: it is kept within the middle of a page. */
#define STACK_BASE ((u32)user_stack + 4096 + 0x400)
#define STACK_MASK 0x3FCu

static void assemble(u32 n)
{
	struct snippet *s = &program[n];
	u32 to = at(s->to), then = at(s->then);
	u8 *p = (u8 *)at(n);
	p = put8(p, 0x49); /* dec ecx; jz done */
	p = put32(put8(put8(p, 0x0F), 0x84), (u32)code_area - (u32)(p + 6));
	p = put32(put8(put8(p, 0xFF), 0x05), (u32)&counts[n]);
	p = put32(put8(put8(p, 0x81), 0xE4), STACK_MASK); /* and esp, mask; add esp, base */
	p = put32(put8(put8(p, 0x81), 0xC4), STACK_BASE);
	switch (s->op) {
	case CALL: p = put_branch(p, 0xE8, to); break;
	case CALL_REG: p = put8(put8(put32(put8(p, 0xB8), to), 0xFF), 0xD0); break;
	case RET: p = put8(p, 0xC3); break;
	case RET_4: p = put8(put8(put8(p, 0xC2), 4), 0); break;
	case POP_JMP: p = put8(p, 0x5A); break;
	case SKIP: p = put8(put8(put8(p, 0x83), 0xC4), 4); break;
	case SINK: p = put8(put8(put8(p, 0x83), 0xEC), 8); break;
	case PUSH_RET: p = put8(put_push(p, to), 0xC3); break;
	case CHANGE_RET: p = put8(put32(put8(put8(put8(p, 0xC7), 0x04), 0x24), to), 0xC3); break;
	case RETF: p = put8(put_push(put8(p, 0x0E), to), 0xCB); break;
	case IRET: p = put8(put_push(put8(put8(p, 0x9C), 0x0E), to), 0xCF); break;
	}
	s->back = (u32)p;
	put_branch(p, 0xE9, then);
}

static u32 model_stack[(STACK_MASK + 4) / 4 + 8]; /* word 4 is the base's */

static u32 *slot(u32 esp) { return &model_stack[(int)(esp - STACK_BASE) / 4 + 4]; }

/* Addresses on the stack: a snippet's start, or behind its call. */
static u32 snippet_of(u32 address)
{
	u32 n = (address - at(0)) / STRIDE;
	return address == at(n) ? n : program[n].then;
}

/* One step of the model: the next snippet. */
static u32 step(u32 n, u32 *esp, u32 cs, u32 flags)
{
	const struct snippet *s = &program[n];
	*esp = (*esp & STACK_MASK) + STACK_BASE;
	switch (s->op) {
	case CALL:
	case CALL_REG:
		*esp -= 4;
		*slot(*esp) = s->back;
		return s->to;
	case RET:
	case RET_4:
		*esp += s->op == RET ? 4 : 8;
		return snippet_of(*slot(*esp - (s->op == RET ? 4 : 8)));
	case CHANGE_RET:
		*slot(*esp) = at(s->to);
		*esp += 4;
		return s->to;
	case POP_JMP:
	case SKIP: *esp += 4; return s->then;
	case SINK: *esp -= 8; return s->then;
	case PUSH_RET: *slot(*esp - 4) = at(s->to); return s->to;
	case RETF:
		*slot(*esp - 4) = cs;
		*slot(*esp - 8) = at(s->to);
		return s->to;
	default:
		*slot(*esp - 4) = flags;
		*slot(*esp - 8) = cs;
		*slot(*esp - 12) = at(s->to);
		return s->to;
	}
}

static bool is_code(u32 x) { return x >= at(0) && x < at(SNIPPETS) && (x == at((x - at(0)) / STRIDE) || x == program[(x - at(0)) / STRIDE].back); }

/* How far the model comes: it stops before a return to something that is no snippet. */
static u32 predict(u32 steps, u32 cs, u32 *esp)
{
	u32 n = 0, done = 0;
	for (; done < steps; done++) {
		u32 top = (*esp & STACK_MASK) + STACK_BASE;
		bool returns = program[n].op == RET || program[n].op == RET_4;
		if (returns && !is_code(*slot(top))) break;
		expected[n]++;
		n = step(n, esp, cs, 2);
	}
	return done;
}

static bool run_program(unsigned cpl)
{
	code_put(0, (const u8[]){CODE_DONE}, 2);
	for (u32 n = 0; n < SNIPPETS; n++) program[n] = (struct snippet){(u8)draw(OPS), (u8)draw(SNIPPETS), (u8)draw(SNIPPETS), 0};
	for (u32 n = 0; n < SNIPPETS; n++) assemble(n);
	for (u32 i = 0; i < sizeof model_stack / 4; i++) model_stack[i] = at(draw(SNIPPETS));
	memcpy((void *)(STACK_BASE - 16), model_stack, sizeof model_stack);
	memset(counts, 0, sizeof counts);
	memset(expected, 0, sizeof expected);
	struct state s = state_at((void *)at(0), cpl);
	s.esp = STACK_BASE + 0x200;
	u32 esp = s.esp;
	s.ecx = predict(STEPS, s.cs, &esp) + 1;
	steps_run += s.ecx;
	run(&s);
	bool good = s.vector == RUN_DONE && s.ecx == 0 && !memcmp(counts, expected, sizeof counts);
	/* Flags on the stack are nobody's to compare; at CPL 0 the trap's frame is there too. */
	return good && (cpl == 0 || s.esp == esp);
}

static void test_random(void)
{
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		u32 wrong = 0;
		for (u32 i = 0; i < PROGRAMS; i++) wrong += !run_program(cpl);
		check_equal(cpl ? "random calls and returns at CPL 3: wrong" : "random calls and returns at CPL 0: wrong", wrong, 0);
	}
	check("most of them run long", steps_run > PROGRAMS * STEPS);
	print("# %u steps\n", steps_run);
}

/* --- a million of each --- */

static void test_millions(void)
{
	struct state s;
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		/* mov ecx, 1000000; 1: call 2f; 2: pop eax; loop 1b */
		s = state_at(CODE(0xB9, 0x40, 0x42, 0x0F, 0, 0xE8, 0, 0, 0, 0, 0x58, 0xE2, 0xF8, CODE_DONE), cpl);
		run_expect(cpl ? "a million calls without return, CPL 3" : "a million calls without return, CPL 0", &s, RUN_DONE, 0, 15);
		/* mov ecx, 1000000; 1: push 2f; ret; 2: loop 1b */
		u8 returns[] = {0xB9, 0x40, 0x42, 0x0F, 0, 0x68, 0, 0, 0, 0, 0xC3, 0xE2, 0xF8, CODE_DONE};
		u32 to = (u32)code_area + 11;
		memcpy(returns + 6, &to, 4);
		s = state_at(code_put(0, returns, sizeof returns), cpl);
		run_expect(cpl ? "a million returns without call, CPL 3" : "a million returns without call, CPL 0", &s, RUN_DONE, 0, 15);
		/* longjmp out of recursion: mov ebp, esp; mov ecx, 20000; 1: mov edx, 40; call 2f; (never) ud2; 2: dec edx; jnz call 2b; mov
		 * esp, ebp; loop 1b */
		s = state_at(CODE(0x89, 0xE5, 0xB9, 0x20, 0x4E, 0, 0, 0xBA, 40, 0, 0, 0, 0xE8, 2, 0, 0, 0, 0x0F, 0x0B, 0x4A, 0x74, 7, 0xE8, 0xF8, 0xFF, 0xFF,
				  0xFF, 0x0F, 0x0B, 0x89, 0xEC, 0xE2, 0xE6, CODE_DONE), cpl);
		run_expect(cpl ? "longjmp out of recursion, CPL 3" : "longjmp out of recursion, CPL 0", &s, RUN_DONE, 0, 35);
	}
}

/* --- into the middle of another instruction --- */

static void test_middle(void)
{
	/* B8 (41 41 CD 81) is mov eax, imm; from its second byte on it is inc ecx; inc ecx; int 81h.
	 * 0: call f (5); 5: mov eax, imm (5); 10: int 81h; 12: f: inc dword [esp] twice a round; ret */
	u32 wrong = 0;
	for (u32 round = 0; round < 3000; round++) {
		bool middle = round % 3 == 0;
		u8 bytes[] = {0xE8, 7, 0, 0, 0, 0xB8, 0x41, 0x41, 0xCD, 0x81, 0xCD, 0x81, 0x83, 0x04, 0x24, 0, 0xC3};
		if (round == 0) code_put(0, bytes, sizeof bytes);
		/* The same code with both outcomes: EBX is added. */
		if (round == 0) code_put(12, (const u8[]){0x01, 0x1C, 0x24, 0xC3}, 4);
		struct state s = state_at(code_area, round & 1 ? 3 : 0);
		s.ebx = middle;
		s.ecx = 0;
		run(&s);
		wrong += s.vector != RUN_DONE || s.ecx != (middle ? 2u : 0u) || s.eip != (u32)code_area + (middle ? 10 : 12) ||
			 s.eax != (middle ? 0xA0A1A2A3 : 0x81CD4141);
	}
	check_equal("returns into the middle of an instruction: wrong", wrong, 0);
}

/* --- another frame behind the return address --- */

static u32 switches_left;
static enum { BY_CR3, BY_PTE } how;

static void switch_frames(struct trap_frame *f)
{
	if (!switches_left--) {
		f->eip = (u32)code_area + 16;
		return;
	}
	if (how == BY_CR3) {
		WRITE_CR(3, READ_CR(3) ^ (u32)page_directory ^ (u32)other_directory);
		return;
	}
	tables[0][0] ^= (u32)frames[0] ^ (u32)frames[1];
	invlpg(X);
}

/* Each frame has the same code, but counts in its own register: 1: call [f]; inc ebx (or esi); jmp 1b */
static void put_frames(void)
{
	u32 target = (u32)code_area;
	for (u32 i = 0; i < 2; i++) {
		if (!frames[i]) frames[i] = frame_alloc();
		u8 *p = put_branch(frames[i], 0xE8, 0);
		target = (u32)code_area - (X + 5);
		memcpy(frames[i] + 1, &target, 4);
		p = put8(p, i ? 0x46 : 0x43);
		*put8(p, 0xEB) = 0xF8;
		memset(tables[i], 0, 4096);
		tables[i][0] = (u32)frames[i] | P | W | U;
	}
	memcpy(other_directory, page_directory, 4096);
	page_directory[X >> 22] = (u32)tables[0] | P | W | U;
	other_directory[X >> 22] = (u32)tables[1] | P | W | U;
	WRITE_CR(3, page_directory);
}

static void run_switches(const char *name, unsigned cpl)
{
	put_frames();
	struct state s = state_at((void *)X, cpl);
	s.ebx = s.esi = 0;
	switches_left = 4000;
	run(&s);
	WRITE_CR(3, page_directory);
	check(name, s.vector == RUN_DONE && s.ebx == 2000 && s.esi == 2000);
}

static void test_other_frames(void)
{
	idt_set(SWITCH, (u32)(trap_stubs + 16 * SWITCH), CODE0, 0xEE);
	trap_handle(SWITCH, switch_frames);
	code_put(0, (const u8[]){0xCD, SWITCH, 0xC3}, 3);
	code_put(16, (const u8[]){CODE_DONE}, 2);
	how = BY_CR3;
	run_switches("CR3 loaded between call and return, CPL 3", 3);
	run_switches("CR3 loaded between call and return, CPL 0", 0);
	how = BY_PTE;
	run_switches("page table changed between call and return, CPL 3", 3);
	run_switches("page table changed between call and return, CPL 0", 0);
	/* Without a trap: dec edx; js 1f; mov eax, cr3; xor eax, ecx; mov cr3, eax; ret; 1: int 81h */
	put_frames();
	code_put(0, (const u8[]){0x4A, 0x78, 9, 0x0F, 0x20, 0xD8, 0x31, 0xC8, 0x0F, 0x22, 0xD8, 0xC3, CODE_DONE}, 14);
	struct state s = state_at((void *)X, 0);
	s.ebx = s.esi = 0;
	s.edx = 100000;
	s.ecx = (u32)page_directory ^ (u32)other_directory;
	run(&s);
	WRITE_CR(3, page_directory);
	check("a callee that loads CR3", s.vector == RUN_DONE && s.ebx == 50000 && s.esi == 50000);
}

/* --- indirect branches whose targets differ in few bits, far up or far down: whatever the monitor looks them up by, they meet --- */

#define NEAR 0x20000u
#define FAR 0x8000000u
#define TARGETS 64u
#define JUMPS 60000u

static u32 order[JUMPS + 1];

static u32 target(u32 n) { return X + (n >> 4 & 3) * FAR + (n >> 2 & 3) * NEAR + (n & 3); }

/* Four INC EDX, each of which may be the first; then EDX turns and takes up EIP, and it goes on at order[ECX]. */
static u32 mixed(u32 edx, u32 n)
{
	edx += 4 - (n & 3);
	return (edx << 1 | edx >> 31) ^ ((target(n) & ~3u) + 9);
}

static void run_targets(const char *name, unsigned cpl, u32 targets, u32 stride)
{
	struct state s = state_at((void *)target(0), cpl);
	u32 edx = s.edx, n = 0;
	for (u32 i = 0; i <= JUMPS; i++) order[i] = draw(targets) * stride;
	for (u32 left = JUMPS; edx = mixed(edx, n), --left;) n = order[left];
	for (u32 i = 0; i <= JUMPS; i++) order[i] = target(order[i]);
	s.ebx = (u32)order;
	s.ecx = JUMPS;
	run(&s);
	check(name, s.vector == RUN_DONE && s.ecx == 0 && s.edx == edx);
}

static void test_targets(void)
{
	/* inc edx, four times; call $+5; pop eax; rol edx, 1; xor edx, eax; dec ecx; jz 1f; jmp [ebx+ecx*4]; 1: int 81h */
	static const u8 code[] = {0x42, 0x42, 0x42, 0x42, 0xE8, 0, 0, 0, 0, 0x58, 0xD1, 0xC2, 0x31, 0xC2, 0x49, 0x74, 3, 0xFF, 0x24, 0x8B, CODE_DONE};
	u8 *frame = frame_alloc();

	memcpy(frame, code, sizeof code);
	memset(tables[0], 0, 4096);
	for (u32 i = 0; i < 4; i++) {
		tables[0][i * NEAR >> 12] = (u32)frame | P | W | U;
		page_directory[(X + i * FAR) >> 22] = (u32)tables[0] | P | W | U;
	}
	WRITE_CR(3, page_directory);
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		run_targets(cpl ? "two targets that differ in one high bit, CPL 3" : "two targets that differ in one high bit, CPL 0", cpl, 2, 4);
		run_targets(cpl ? "four targets that differ in low bits, CPL 3" : "four targets that differ in low bits, CPL 0", cpl, 4, 1);
		run_targets(cpl ? "64 targets that differ in few bits, CPL 3" : "64 targets that differ in few bits, CPL 0", cpl, TARGETS, 1);
	}
}

/* --- calls of `mov ebx, [esp]; ret`, which a monitor may do in place: as long as that is what stands there, and only if it could be run --- */

#define THUNK (X + 4096)
static u8 *thunk;

/* mov ecx, 1000; 1: call THUNK; add esi, ebx; dec ecx; jnz 1b; int 81h */
static struct state call_thunks(unsigned cpl, bool anew)
{
	u8 code[] = {0xB9, 0xE8, 3, 0, 0, 0xE8, 0, 0, 0, 0, 0x01, 0xDE, 0x49, 0x75, 0xF6, CODE_DONE};
	u32 distance = THUNK - (X + 10);

	memcpy(code + 6, &distance, 4);
	if (anew) memcpy(frames[0], code, sizeof code);
	struct state s = state_at((void *)X, cpl);
	s.esi = 0;
	*(u32 *)(s.esp - 4) = 0;
	return s;
}

static void put_thunk(const u8 *bytes, u32 length) { memcpy(thunk, bytes, length); }
#define PUT_THUNK(...) put_thunk((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void test_thunks_of(unsigned cpl)
{
	struct state s;

	PUT_THUNK(0x8B, 0x1C, 0x24, 0xC3);
	for (u32 i = 0; i < 3; i++) {
		s = call_thunks(cpl, i == 0);
		u32 esp = s.esp;
		run(&s);
		check("a thousand calls that load EIP", s.vector == RUN_DONE && s.ebx == X + 10 && s.esi == 1000 * (X + 10) && s.ecx == 0);
		check("their return address is on the stack", cpl == 0 || (s.esp == esp && *(u32 *)(esp - 4) == X + 10));
	}
	/* 0200000Ah is or al, [eax]; add [edx], al: harmless there */
	PUT_THUNK(0x8B, 0x1C, 0x24, 0xC3, CODE_DONE);
	s = call_thunks(cpl, false);
	s.esp = THUNK + 4;
	s.eax = s.edx = (u32)user_stack;
	user_stack[0] = 0x40;
	run(&s);
	check("a return address that is stored over it", s.vector == RUN_DONE && s.eip == THUNK + 6 && s.ecx == 1000);
	PUT_THUNK(0x8B, 0x1C, 0x24, 0xC3);
	s = call_thunks(cpl, true);
	run(&s);
	check("and once more", s.vector == RUN_DONE && s.esi == 1000 * (X + 10));
	PUT_THUNK(0xBB, 1, 0, 0, 0, 0xC3);
	for (u32 i = 0; i < 2; i++) {
		s = call_thunks(cpl, i == 1);
		run(&s);
		check("other code is there now", s.vector == RUN_DONE && s.ebx == 1 && s.esi == 1000);
	}
	PUT_THUNK(0x8B, 0x0C, 0x24, 0xC3);
	s = call_thunks(cpl, true);
	memset(frames[0] + 12, 0x90, 3);
	run(&s);
	check("another register's code is there now", s.vector == RUN_DONE && s.ecx == X + 10 && s.ebx != X + 10);
	PUT_THUNK(0x8B, 0x1C, 0x24, 0xC3);
}

static void test_thunk_pages(void)
{
	static const struct {
		const char *name;
		u32 flags, error;
	} pages[] = {{"its page is not present", 0, 4}, {"its page is the supervisor's", P | W, 5}};

	for (u32 i = 0; i < 2 * sizeof pages / sizeof *pages; i++) {
		const char *name = pages[i / 2].name;
		tables[0][1] = (u32)thunk | P | W | U;
		invlpg(THUNK);
		struct state s = call_thunks(3, true);
		if (i & 1) run(&s);
		s = call_thunks(3, false);
		u32 esp = s.esp;
		tables[0][1] = pages[i / 2].flags ? (u32)thunk | pages[i / 2].flags : 0;
		invlpg(THUNK);
		run(&s);
		check(name, s.vector == 14 && s.error == pages[i / 2].error && s.cr2 == THUNK && s.eip == THUNK && s.esp == esp - 4 && *(u32 *)(esp - 4) == X + 10);
	}
	tables[0][1] = (u32)thunk | P | W | U;
	invlpg(THUNK);
	struct state s = call_thunks(3, false);
	run(&s);
	check("and there again", s.vector == RUN_DONE && s.esi == 1000 * (X + 10));
}

static void test_thunks(void)
{
	thunk = frame_alloc();
	memset(tables[0], 0, 4096);
	tables[0][0] = (u32)frames[0] | P | W | U;
	tables[0][1] = (u32)thunk | P | W | U;
	page_directory[X >> 22] = (u32)tables[0] | P | W | U;
	WRITE_CR(3, page_directory);
	test_thunks_of(0);
	test_thunks_of(3);
	test_thunk_pages();
}

/* --- a stack pointer that goes round the address space without touching it --- */

static void test_wandering(void)
{
	static const struct {
		const char *name;
		u8 code[32], length;
	} ways[] = {
		{"add and sub", {0x81, 0xC4, 0, 0, 0, 0x70, 0x81, 0xC4, 0, 0, 0, 0x70, 0x81, 0xEC, 0, 0, 0, 0xE0}, 18},
		{"add in small steps, and back by lea", {0x83, 0xC4, 0x7C, 0x75, 0, 0x83, 0xC4, 0x7C, 0x75, 0, 0x8D, 0xA4, 0x24, 0x08, 0xFF, 0xFF, 0xFF}, 17},
		{"lea", {0x8D, 0xA4, 0x24, 0, 0, 0, 0x7F, 0x8D, 0xA4, 0x24, 0, 0, 0, 0x7F, 0x8D, 0xA4, 0x24, 0, 0, 0, 2}, 21},
		{"by another register", {0x8D, 0x84, 0x24, 0, 0, 0, 0x60, 0x94, 0x01, 0xC4, 0x29, 0xC4, 0x94, 0x2D, 0, 0, 0, 0x60, 0x89, 0xC4}, 20},
		{"inc and dec", {0x4C, 0x75, 0, 0x44, 0x75, 0, 0xF7, 0xDC, 0xF7, 0xDC}, 10},
	};

	for (u32 i = 0; i < sizeof ways / sizeof *ways; i++)
		for (u32 cpl = 0; cpl <= 3; cpl += 3) {
			/* the way; dec ecx; jnz back to it; push edx; pop ebx */
			u8 length = ways[i].length, back[] = {0x49, 0x75, (u8)-(length + 3), 0x52, 0x5B, CODE_DONE};
			code_put(0, ways[i].code, length);
			code_put(length, back, sizeof back);
			struct state s = state_at(code_area, cpl);
			u32 esp = s.esp;
			s.ecx = 1000;
			s.edx = 0x12345678;
			run(&s);
			check(ways[i].name, s.vector == RUN_DONE && s.ebx == 0x12345678 && (cpl == 0 || s.esp == esp));
		}
}

void guest_main(void)
{
	paging_enable();
	test_millions();
	test_middle();
	test_random();
	test_other_frames();
	test_targets();
	test_thunks();
	test_wandering();
}
