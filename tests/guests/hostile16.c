/* Hostile 16-bit code in real mode, with 4 GiB limits in real mode, in 16-bit protected mode and in virtual-8086 mode: accesses over the end
 * of 64 KiB and of 1 MiB, stacks that wrap, code that runs over its end, the same bytes in two sizes of code, random bytes. */
#include "guest.h"
#include "real.h"

#define ORIGIN 0x100u
#define CODE_AT 0x20000u
#define DATA_AT 0x40000u
#define SPARE_AT 0x60000u /* ES of MOVS, and the stack of what is no test of the stack */
#define END 0x10000u
#define USER(index) ((index) << 3 | 3)
#define PLAIN 0x8000u
#define BEFORE 0x40u
#define SPAN 0x280u

enum mode { REAL, UNREAL, PM16, V86, MODES };
enum { CODE16 = 8, CODE_ALIAS, CODE32, DATA16, SPARE16 };

static u32 segment(enum mode mode, u32 base)
{
	if (mode != PM16) return base >> 4;
	return base == CODE_AT ? USER(CODE16) : base == DATA_AT ? USER(DATA16) : USER(SPARE16);
}

static void set_up(void)
{
	real_init();
	gdt_set(CODE16, CODE_AT, 0xFFFF, 0xFB, 0);
	gdt_set(CODE_ALIAS, CODE_AT + 16, 0xFFFF, 0xFB, 0);
	gdt_set(CODE32, CODE_AT, 0xFFFF, 0xFB, 4);
	gdt_set(DATA16, DATA_AT, 0xFFFF, 0xF3, 0);
	gdt_set(SPARE16, SPARE_AT, 0xFFFF, 0xF3, 0);
	WRITE_CR(4, READ_CR(4) | 0x600);
	WRITE_CR(0, (READ_CR(0) | 0x22) & ~0xCu);
}

/* A state that runs at ORIGIN; INT3 lies about it, and beyond the end of the segment. */
static struct state start(enum mode mode, const u8 *code, u32 length)
{
	memset((void *)(CODE_AT + ORIGIN), 0xCC, 64);
	memcpy((void *)(CODE_AT + ORIGIN), code, length);
	memcpy((void *)(CODE_AT + ORIGIN + length), (const u8[]){CODE_DONE}, 2);
	struct state s = state_at((const void *)ORIGIN, 3);
	s.cs = segment(mode, CODE_AT);
	s.ds = segment(mode, DATA_AT);
	s.es = s.fs = s.gs = s.ss = segment(mode, SPARE_AT);
	s.esp = 0x1000;
	*(volatile u32 *)(SPARE_AT + 0x1000) = 0x5A6B7C8D;
	s.eflags = mode == V86 ? EFLAGS_VM | 0x3002 : 2;
	return s;
}

static void execute(enum mode mode, struct state *s)
{
	if (mode <= UNREAL) real_execute(s, mode == UNREAL);
	else run(s);
}

/* "MODE: WHAT", as a check. */
static void report(enum mode mode, const char *what, u32 wrong)
{
	static const char *const names[] = {"real mode: ", "4 GiB limits: ", "16-bit protected mode: ", "V86: "};
	char title[96], *to = title;
	for (const char *from = names[mode]; *from; from++) *to++ = *from;
	for (const char *from = what; *from; from++) *to++ = *from;
	*to = 0;
	check_equal(title, wrong, 0);
}

static void complain(enum mode mode, const char *name, u32 where, const struct state *s)
{
	print("# mode %u, %s at 0x%x: trap %u at 0x%x, esp 0x%x ecx 0x%x edi 0x%x\n", mode, name, where, s->vector, s->eip, s->esp, s->ecx, s->edi);
}

/* Accesses of data: DS by BX (or EBX), SI, or ES by DI. */
enum { STORE = 1, ALIGNED = 2, PARTIAL = 4, WIDE = 8, BY_DI = 16, BY_SI = 32, FAR = 64 };
struct access {
	const char *name;
	u16 size, what;
	u8 length, code[8], data[8];
};
#define BYTES(...) __VA_ARGS__
#define X(name, size, what, ...) {name, size, what, sizeof((const u8[]){__VA_ARGS__}), {__VA_ARGS__}, {0}}
#define XD(name, size, what, data, ...) {name, size, what, sizeof((const u8[]){__VA_ARGS__}), {__VA_ARGS__}, {data}}
static const struct access accesses[] = {
	X("mov r8", 1, 0, 0x8A, 0x07), X("mov r16", 2, 0, 0x8B, 0x07), X("mov r32", 4, 0, 0x66, 0x8B, 0x07), X("mov m8", 1, STORE, 0x88, 0x17),
	X("mov m16", 2, STORE, 0x89, 0x17), X("mov m32", 4, STORE, 0x66, 0x89, 0x17), X("a32 mov r16", 2, WIDE, 0x67, 0x8B, 0x03),
	X("a32 mov m8", 1, WIDE | STORE, 0x67, 0x88, 0x13), X("a32 mov m32", 4, WIDE | STORE, 0x66, 0x67, 0x89, 0x13),
	X("a32 movups", 16, WIDE | STORE, 0x67, 0x0F, 0x11, 0x03), X("a32 fxsave", 512, WIDE | STORE | ALIGNED | PARTIAL, 0x67, 0x0F, 0xAE, 0x03),
	X("add", 2, STORE, 0x01, 0x17), X("lock add", 4, STORE, 0xF0, 0x66, 0x01, 0x17), X("xchg", 4, STORE, 0x66, 0x87, 0x17),
	X("xadd", 4, STORE, 0x66, 0x0F, 0xC1, 0x17), X("cmpxchg", 4, STORE, 0x66, 0x0F, 0xB1, 0x17), X("cmpxchg8b", 8, STORE, 0x0F, 0xC7, 0x0F),
	X("lock cmpxchg8b", 8, STORE, 0xF0, 0x0F, 0xC7, 0x0F), X("bt", 2, 0, 0x0F, 0xBA, 0x27, 5), X("bts", 4, STORE, 0x66, 0x0F, 0xBA, 0x2F, 5),
	X("shld", 2, STORE, 0x0F, 0xA4, 0x17, 5), X("rcl", 2, STORE, 0xD1, 0x17), X("neg", 4, STORE, 0x66, 0xF7, 0x1F),
	X("movdqu load", 16, 0, 0xF3, 0x0F, 0x6F, 0x07), X("movdqu store", 16, STORE, 0xF3, 0x0F, 0x7F, 0x07),
	X("movups", 16, STORE, 0x0F, 0x11, 0x07), X("movaps", 16, STORE | ALIGNED, 0x0F, 0x29, 0x07), X("paddd", 16, ALIGNED, 0x66, 0x0F, 0xFE, 0x07),
	X("movlps", 8, STORE, 0x0F, 0x13, 0x07), X("movhpd", 8, 0, 0x66, 0x0F, 0x16, 0x07), X("cvttss2si", 4, 0, 0xF3, 0x0F, 0x2C, 0x07),
	X("movq load", 8, 0, 0x0F, 0x6F, 0x07), X("movq store", 8, STORE, 0x0F, 0x7F, 0x07), X("movntq", 8, STORE, 0x0F, 0xE7, 0x07),
	X("maskmovq", 8, STORE | BY_DI | PARTIAL, 0x3E, 0x0F, 0xF7, 0xC9), X("maskmovdqu", 16, STORE | BY_DI | PARTIAL, 0x3E, 0x66, 0x0F, 0xF7, 0xC9),
	X("stmxcsr", 4, STORE, 0x0F, 0xAE, 0x1F), X("fld m80", 10, 0, 0xDB, 0x2F), X("fstp m80", 10, STORE, 0xDB, 0x3F), X("fbstp", 10, STORE, 0xDF, 0x37),
	X("fld m64", 8, 0, 0xDD, 0x07), X("fst m64", 8, STORE, 0xDD, 0x17), X("fistp m64", 8, STORE, 0xDF, 0x3F), X("fiadd", 2, 0, 0xDE, 0x07),
	X("fnstcw", 2, STORE, 0xD9, 0x3F), X("fnstsw", 2, STORE, 0xDD, 0x3F), X("fnstenv", 14, STORE | PARTIAL, 0xD9, 0x37),
	X("fnstenv 32", 28, STORE | PARTIAL, 0x66, 0xD9, 0x37), X("fnsave", 94, STORE | PARTIAL, 0xDD, 0x37),
	X("fxsave", 512, STORE | ALIGNED | PARTIAL, 0x0F, 0xAE, 0x07), XD("lgs", 4, 0, BYTES(1, 2, USER(SPARE16), 0), 0x0F, 0xB5, 0x0F),
	XD("lgs m16:32", 6, 0, BYTES(1, 2, 3, 4, USER(SPARE16), 0), 0x66, 0x0F, 0xB5, 0x0F), XD("les", 4, 0, BYTES(1, 2, USER(SPARE16), 0), 0xC4, 0x0F),
	XD("bound", 4, 0, BYTES(0, 0x80, 0xFF, 0x7F), 0x62, 0x17), XD("bound, outside", 4, 0, BYTES(1, 0, 2, 0), 0x62, 0x17),
	XD("bound 32", 8, 0, BYTES(0, 0, 0, 0x80, 0xFF, 0xFF, 0xFF, 0x7F), 0x66, 0x62, 0x17), XD("jmp m16", 2, 0, BYTES(0x02, 0x01), 0xFF, 0x27),
	XD("jmp m32", 4, 0, BYTES(0x03, 0x01, 0, 0), 0x66, 0xFF, 0x27), XD("call m16", 2, 0, BYTES(0x02, 0x01), 0xFF, 0x17),
	XD("jmp m16:16", 4, FAR, BYTES(0x02, 0x01), 0xFF, 0x2F), XD("call m16:16", 4, FAR, BYTES(0x02, 0x01), 0xFF, 0x1F),
	X("sgdt", 6, STORE | PARTIAL, 0x0F, 0x01, 0x07), X("sidt", 6, STORE | PARTIAL, 0x0F, 0x01, 0x0F), X("smsw", 2, STORE, 0x0F, 0x01, 0x27),
	X("push m16", 2, 0, 0xFF, 0x37), X("push m32", 4, 0, 0x66, 0xFF, 0x37), X("pop m16", 2, STORE, 0x8F, 0x07), X("pop m32", 4, STORE, 0x66, 0x8F, 0x07),
	X("lodsb", 1, BY_SI, 0xAC), X("lodsw", 2, BY_SI, 0xAD), X("lodsd", 4, BY_SI, 0x66, 0xAD),
	X("movsd", 4, BY_SI, 0x66, 0xA5), X("cmpsw", 2, BY_SI, 0xA7),
};
#define COUNT(list) (sizeof list / sizeof *list)

static u8 pattern(u32 i) { return (u8)(i * 7 + (i >> 5) + 3); }

static void load_fpu(void)
{
	static u8 vectors[32];
	for (u32 i = 0; i < sizeof vectors; i++) vectors[i] = (u8)(i * 37 + 0x80);
	__asm__ volatile("fninit; fldpi; fld1; fldl2e; movdqu (%0), %%xmm0; movdqu 16(%0), %%xmm1; movq 16(%0), %%mm7; fninit; fldpi; ldmxcsr %1"
			 : : "r"(vectors), "m"((u32){0x1F80}));
}

struct outcome {
	struct state s;
	u8 memory[SPAN];
};

/* What lies around an access before it. */
static u8 prepared(const struct access *a, enum mode mode, u32 i)
{
	u32 at = i - BEFORE, any = 0;
	for (u32 n = 0; n < 8; n++) any |= a->data[n];
	if ((a->what & FAR) && at - 2 < 2) return (u8)(segment(mode, CODE_AT) >> 8 * (at - 2));
	return any && at < 8 ? a->data[at] : pattern(i);
}

static struct state access_state(enum mode mode, const struct access *a, u32 where)
{
	struct state s = start(mode, a->code, a->length);
	s.edx = 0x1234;
	if (a->what & BY_DI) s.edi = where;
	else if (a->what & BY_SI) s.esi = where;
	else s.ebx = where;
	s.edi = a->what & BY_DI ? where : 0x40;
	return s;
}

static void access_at(enum mode mode, const struct access *a, u32 where, struct outcome *o)
{
	u8 *memory = (u8 *)(DATA_AT + where - BEFORE);
	for (u32 i = 0; i < SPAN; i++) memory[i] = prepared(a, mode, i);
	o->s = access_state(mode, a, where);
	load_fpu();
	execute(mode, &o->s);
	memcpy(o->memory, memory, SPAN);
}

static bool same_registers(const struct access *a, const struct state *x, const struct state *y, u32 apart)
{
	u32 by_bx = a->what & (BY_DI | BY_SI) ? 0 : apart, by_si = a->what & BY_SI ? apart : 0, by_di = a->what & BY_DI ? apart : 0;
	return x->eax == y->eax && x->ecx == y->ecx && x->edx == y->edx && x->ebp == y->ebp && (x->esp & 0xFFFF) == (y->esp & 0xFFFF) &&
	       !((x->ebx - y->ebx - by_bx) & 0xFFFF) && !((x->esi - y->esi - by_si) & 0xFFFF) && !((x->edi - y->edi - by_di) & 0xFFFF);
}

static bool access_passed(const struct access *a, const struct outcome *o, const struct outcome *reference, u32 where)
{
	u32 different = 0;
	bool pointers = a->size >= 14 && (a->what & PARTIAL) && !(a->what & BY_DI); /* FIP and FDP */
	for (u32 i = 0; i < SPAN; i++) different += o->memory[i] != reference->memory[i] && !(pointers && i - BEFORE - 6 < 22);
	return o->s.vector == reference->s.vector && o->s.eip == reference->s.eip && o->s.eflags == reference->s.eflags && !different &&
	       same_registers(a, &o->s, &reference->s, where - PLAIN);
}

static bool access_refused(enum mode mode, const struct access *a, const struct outcome *o, u32 where)
{
	struct state before = access_state(mode, a, where);
	u32 changed = 0;
	for (u32 i = 0; i < SPAN; i++) {
		bool inside = i >= BEFORE && where + i - BEFORE < END;
		changed += o->memory[i] != prepared(a, mode, i) && !(inside && (a->what & PARTIAL));
	}
	return o->s.vector == 13 && !o->s.error && o->s.eip == ORIGIN && !changed && same_registers(a, &o->s, &before, 0);
}

static void test_accesses(enum mode mode)
{
	static struct outcome reference, actual;
	u32 wrong = 0, low = 0;
	for (u32 n = 0; n < COUNT(accesses); n++) {
		const struct access *a = &accesses[n];
		u32 step = a->what & ALIGNED ? 16 : a->size > 40 ? 7 : 1, last = END + (a->what & WIDE ? a->size : -1u);
		access_at(mode, a, PLAIN, &reference);
		memset((void *)DATA_AT, 0xEE, 0x200);
		for (u32 where = (END - a->size - step) & -step; where <= last; where += step) {
			access_at(mode, a, where, &actual);
			bool fits = mode == UNREAL || where + a->size <= END;
			bool good = fits ? access_passed(a, &actual, &reference, where) : access_refused(mode, a, &actual, where);
			if (!good && wrong++ < 5) complain(mode, a->name, where, &actual.s);
		}
		for (u32 i = 0; i < 0x200; i++) low += ((volatile u8 *)DATA_AT)[i] != 0xEE;
	}
	report(mode, "accesses over the end: wrong", wrong);
	report(mode, "bytes at the segment's beginning: changed", low);
}

/* Pushes and pops of `count` units at every SP about 0; unit `address` holds an address. */
static const struct push {
	const char *name;
	u8 unit, count, address, length, code[8];
} pushes[] = {
#define PUSH(name, unit, count, address, ...) {name, unit, count, address, sizeof((const u8[]){__VA_ARGS__}), {__VA_ARGS__}}
	PUSH("push r16", 2, 1, 0, 0x50), PUSH("push r32", 4, 1, 0, 0x66, 0x50), PUSH("push imm16", 2, 1, 0, 0x68, 1, 2),
	PUSH("push imm32", 4, 1, 0, 0x66, 0x68, 1, 2, 3, 4), PUSH("pusha", 2, 8, 5, 0x60), PUSH("pushad", 4, 8, 5, 0x66, 0x60),
	PUSH("call", 2, 1, 0, 0xE8, 0, 0), PUSH("call r/m32", 4, 1, 0, 0x66, 0xE8, 0, 0, 0, 0), PUSH("enter", 2, 1, 0, 0xC8, 0, 0, 0),
	PUSH("enter, level 4", 2, 5, 5, 0xC8, 0, 0, 4), PUSH("enter 32, level 3", 4, 4, 4, 0x66, 0xC8, 0, 0, 3),
	PUSH("pushf", 2, 1, 0, 0x9C), PUSH("push m16", 2, 1, 0, 0x3E, 0xFF, 0x37), PUSH("push cs, call far", 2, 2, 0, 0x9A, 5, 1, 0, 0),
};

#define SLOTS 0x200u
static u8 expected[SLOTS], loose[SLOTS];
/* The bytes about both ends of the segment at DATA_AT: offsets -80h..7Fh and FF00h..1007Fh; -1 for others. */
static u32 slot(u32 offset) { return offset + 0x80 < 0x100 ? offset + 0x80 : offset - 0xFF80 < 0x100 ? offset - 0xFF80 + 0x100 : 0; }
static volatile u8 *slot_byte(u32 i) { return (volatile u8 *)(i < 0x100 ? DATA_AT + i - 0x80 : DATA_AT + 0xFF80 + i - 0x100); }

static struct state push_state(enum mode mode, const struct push *p, u32 sp)
{
	struct state s = start(mode, p->code, p->length);
	if (p->code[0] == 0x9A) *(volatile u16 *)(CODE_AT + ORIGIN + 3) = (u16)s.cs;
	s.ss = s.ds;
	s.esp = sp;
	s.ebx = 0x4000;
	s.ebp = 0x6000;
	for (u32 i = 0; i < 64; i++) ((volatile u8 *)(DATA_AT + 0x5FE0))[i] = pattern(i);
	return s;
}

/* In real mode a frame and the vector are pushed on the same stack; one that cannot be is a shutdown. */
static bool frame_fits(enum mode mode, u32 sp) { return mode != REAL || sp > 7 || !(sp & 1); }
static void frame_loosen(enum mode mode, u32 sp)
{
	for (u32 i = 1; mode <= UNREAL && i <= 4; i++)
		for (u32 b = 0; b < 2; b++) loose[slot(((sp - 2 * i) & 0xFFFF) + b)] = 1;
}

static bool push_is_right(enum mode mode, const struct push *p, u32 sp, const u8 *values)
{
	u32 fault = 0, final = sp;
	memset(expected, 0xEE, SLOTS);
	memset(loose, 0, SLOTS);
	for (u32 j = 1; j <= p->count && !fault; j++) {
		u32 at = (sp - j * p->unit) & 0xFFFF;
		fault = mode != UNREAL && at + p->unit > END;
		for (u32 b = 0; b < p->unit && !fault; b++) {
			expected[slot(at + b)] = values[-(int)(j * p->unit) + (int)b];
			loose[slot(at + b)] = j == p->address;
		}
	}
	if (fault) { /* what was written before the fault is not said */
		for (u32 i = 0; i < SLOTS; i++) loose[i] |= expected[i] != 0xEE;
	} else {
		final = (sp - p->unit * p->count) & 0xFFFF;
	}
	if (!frame_fits(mode, final)) return true;
	frame_loosen(mode, final);
	for (u32 i = 0; i < SLOTS; i++) *slot_byte(i) = 0xEE;
	struct state s = push_state(mode, p, sp);
	execute(mode, &s);
	u32 different = 0;
	for (u32 i = 0; i < SLOTS; i++) different += !loose[i] && *slot_byte(i) != expected[i];
	bool stopped = fault ? (s.vector == 12 || (s.vector == 13 && mode == REAL && p->count == 8)) && !s.error && s.eip == ORIGIN && s.ebp == 0x6000
			     : s.vector == RUN_DONE;
	bool good = stopped && !different && (s.esp & 0xFFFF) == final;
	if (!good) complain(mode, p->name, sp, &s);
	return good;
}

static void test_pushes(enum mode mode)
{
	u32 wrong = 0;
	for (u32 n = 0; n < COUNT(pushes); n++) {
		const struct push *p = &pushes[n];
		u8 values[64];
		struct state s = push_state(mode, p, PLAIN);
		execute(mode, &s);
		memcpy(values, (void *)(DATA_AT + PLAIN - 64), 64);
		for (u32 sp = 0; sp <= 35u; sp++) wrong += !push_is_right(mode, p, sp, values + 64);
		for (u32 sp = 0xFFF8; sp < END; sp++) wrong += !push_is_right(mode, p, sp, values + 64);
	}
	report(mode, "pushes about SP 0: wrong", wrong);
}

static const struct push pops[] = {
	PUSH("pop r16", 2, 1, 0, 0x5A), PUSH("pop r32", 4, 1, 0, 0x66, 0x5A), PUSH("popa", 2, 8, 0, 0x61), PUSH("popad", 4, 8, 0, 0x66, 0x61),
	PUSH("leave", 2, 1, 0, 0xC9), PUSH("add sp, 2", 1, 0, 0, 0x90), PUSH("pop m16", 2, 1, 0, 0x26, 0x8F, 0x07),
};

static struct state pop_run(enum mode mode, const struct push *p, u32 sp)
{
	struct state s = push_state(mode, p, sp);
	for (u32 j = 0; j < p->count; j++)
		for (u32 b = 0; b < p->unit; b++) ((volatile u8 *)DATA_AT)[((sp + j * p->unit) & 0xFFFF) + b] = (u8)(j * 16 + b + 1);
	if (p->code[0] == 0xC9) s.ebp = sp, s.esp = 0x5000;
	execute(mode, &s);
	return s;
}

static bool pop_is_right(enum mode mode, const struct push *p, u32 sp, const struct state *reference)
{
	bool fault = false, leave = p->code[0] == 0xC9;
	for (u32 j = 0; j < p->count; j++) fault |= mode != UNREAL && ((sp + j * p->unit) & 0xFFFF) + p->unit > END;
	u32 final = fault ? (leave ? 0x5000 : sp) : (sp + p->unit * p->count) & 0xFFFF;
	if (!frame_fits(mode, final)) return true;
	struct state s = pop_run(mode, p, sp);
	bool good = fault ? s.vector == 12 && !s.error && s.eip == ORIGIN
			  : s.vector == RUN_DONE && s.eax == reference->eax && s.edx == reference->edx && s.ebx == reference->ebx && s.edi == reference->edi;
	good &= (s.esp & 0xFFFF) == final;
	if (!good) complain(mode, p->name, sp, &s);
	return good;
}

static void test_pops(enum mode mode)
{
	u32 wrong = 0;
	for (u32 n = 0; n < COUNT(pops); n++) {
		struct state reference = pop_run(mode, &pops[n], PLAIN);
		for (u32 i = 0; i < 48; i++) wrong += !pop_is_right(mode, &pops[n], (0xFFE0 + i) & 0xFFFF, &reference);
	}
	report(mode, "pops about SP 0: wrong", wrong);
}

/* String instructions: where they stop with limits of 64 KiB, and (free) without. */
static const struct string {
	const char *name;
	u8 length, code[4];
	bool down;
	u32 edi, ecx, vector, edi_then, ecx_then, free_edi, free_ecx;
} strings[] = {
	{"rep stosb, CX FFFFh", 2, {0xF3, 0xAA}, false, 0xFFF0, 0xFFFF, RUN_DONE, 0xFFEF, 0, 0xFFEF, 0},
	{"rep stosb down, CX FFFFh", 2, {0xF3, 0xAA}, true, 8, 0xFFFF, RUN_DONE, 9, 0, 9, 0},
	{"rep stosw, even", 2, {0xF3, 0xAB}, false, 0xFFFC, 4, RUN_DONE, 4, 0, 4, 0},
	{"rep stosw, odd", 2, {0xF3, 0xAB}, false, 0xFFFB, 4, 13, 0xFFFF, 2, 3, 0},
	{"rep stosw, odd, huge", 2, {0xF3, 0xAB}, false, 1, 0xFFFF, 13, 0xFFFF, 0x8000, 0xFFFF, 0},
	{"rep stosw down, odd", 2, {0xF3, 0xAB}, true, 3, 6, 13, 0xFFFF, 4, 0xFFF7, 0},
	{"rep stosd", 3, {0xF3, 0x66, 0xAB}, false, 0xFFFA, 3, 13, 0xFFFE, 2, 6, 0},
	{"rep stosd down", 3, {0xF3, 0x66, 0xAB}, true, 6, 4, 13, 0xFFFE, 2, 0xFFF6, 0},
	{"rep movsw", 2, {0xF3, 0xA5}, false, 0xFFFD, 3, 13, 0xFFFF, 2, 3, 0},
	{"rep movsb, CX FFFFh", 2, {0xF3, 0xA4}, false, 0xFFFD, 0xFFFF, RUN_DONE, 0xFFFC, 0, 0xFFFC, 0},
	{"a32 rep stosb", 3, {0x67, 0xF3, 0xAA}, false, 0xFF00, 0x200, 13, 0x10000, 0x100, 0x10100, 0},
	{"a32 rep stosw", 3, {0x67, 0xF3, 0xAB}, false, 0xFFFB, 4, 13, 0xFFFF, 2, 0x10003, 0},
	{"a32 rep movsw", 3, {0x67, 0xF3, 0xA5}, false, 0xFFFD, 3, 13, 0xFFFF, 2, 0x10003, 0},
	{"a32, CX 0", 3, {0x67, 0xF3, 0xAB}, false, 0xFFFFFFFF, 0, RUN_DONE, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0},
};

static void test_strings(enum mode mode)
{
	u32 wrong = 0, outside = 0;
	for (u32 n = 0; n < COUNT(strings); n++) {
		const struct string *t = &strings[n];
		struct state s = start(mode, t->code, t->length);
		s.es = segment(mode, DATA_AT);
		s.ds = segment(mode, SPARE_AT);
		s.esi = 0x2000;
		s.edi = t->edi;
		s.ecx = t->ecx;
		s.eflags |= t->down ? EFLAGS_DF : 0;
		memset((void *)(DATA_AT - 0x200), 0xEE, 0x200);
		memset((void *)(DATA_AT + END), 0xEE, 0x200);
		execute(mode, &s);
		bool open = mode == UNREAL;
		u32 eip = t->vector == RUN_DONE || open ? ORIGIN + t->length + 2u : ORIGIN;
		bool good = s.vector == (open ? RUN_DONE : t->vector) && s.edi == (open ? t->free_edi : t->edi_then) && s.eip == eip &&
			    s.ecx == (open ? t->free_ecx : t->ecx_then) && !s.error;
		if (!good && ++wrong) complain(mode, t->name, t->edi, &s);
		for (u32 i = 0; i < 0x200; i++)
			outside += (((u8 *)DATA_AT)[(int)i - 0x200] != 0xEE) + (((u8 *)DATA_AT)[END + i] != 0xEE && !open);
	}
	report(mode, "strings over the end: wrong", wrong);
	report(mode, "strings over the end: bytes outside", outside);
}

/* BTS with a bit offset in a register: the address is cut to 16 bits. `at` is the byte that gets the bit; END: #GP. */
static void test_bits(enum mode mode)
{
	static const struct { u8 wide; u32 ebx, edx, at; } bits[] = {
		{0, 0, 0xFFF0, 0xFFFE}, {0, 0xFFFE, 0x10, 0}, {0, 0xFFFF, 0, END}, {0, 1, 0xFFF0, END}, {1, 0, -32u, 0xFFFC}, {1, 2, -32u, END},
		{1, 0x100, 0x80000, 0x100}, {1, 0xFFF0, 0x80, 0}, {0, 0x8000, 0x8000, 0x7000},
	};
	u32 wrong = 0;
	for (u32 i = 0; i < COUNT(bits); i++) {
		static const u8 code[] = {0x66, 0x0F, 0xAB, 0x17};
		struct state s = start(mode, code + !bits[i].wide, 4u - !bits[i].wide);
		bool refused = bits[i].at == END && mode != UNREAL;
		u32 at = bits[i].at != END ? bits[i].at : bits[i].edx ? (bits[i].wide ? 0xFFFE : 0xFFFF) : 0xFFFF;
		volatile u8 *byte = (volatile u8 *)(DATA_AT + at);
		s.ebx = bits[i].ebx;
		s.edx = bits[i].edx;
		*byte = 0xF0;
		execute(mode, &s);
		bool good = s.vector == (refused ? 13 : RUN_DONE) && *byte == (refused ? 0xF0 : 0xF1);
		if (!good && ++wrong) complain(mode, "bts", at, &s);
	}
	report(mode, "bit offsets: wrong", wrong);
}

/* Each instruction with its last bytes beyond the end of the code segment: #GP, nothing done. One that just fits: #GP behind it. */
static void test_code_end(enum mode mode)
{
	u32 wrong = 0;
	for (u32 n = 0; n < COUNT(accesses); n++) {
		const struct access *a = &accesses[n];
		if (a->code[0] == 0xFF || a->data[0] || (a->what & PARTIAL)) continue;
		for (u32 inside = 1; inside <= a->length; inside++) {
			struct state s = access_state(mode, a, PLAIN);
			u32 at = END - inside;
			memset((void *)CODE_AT, 0xCC, 16);
			memset((void *)(CODE_AT + END), 0xCC, 16);
			memcpy((void *)(CODE_AT + at), a->code, a->length);
			memset((void *)(DATA_AT + PLAIN), 0x11, 16);
			s.eip = at;
			s.edx = 0x11111111; /* inside BOUND's bounds */
			load_fpu();
			execute(mode, &s);
			bool whole = inside == a->length;
			u32 ip = whole ? (mode <= UNREAL ? 0 : END) : at, changed = 0;
			for (u32 i = 0; i < 16; i++) changed += ((u8 *)(DATA_AT + PLAIN))[i] != 0x11;
			if ((s.vector != 13 || s.error || s.eip != ip || (changed && !whole)) && wrong++ < 5) complain(mode, a->name, at, &s);
		}
	}
	report(mode, "code over the end: wrong", wrong);
}

/* Transfers to beyond 64 KiB: #GP at the instruction, the stack as before. */
static void test_far_away(enum mode mode)
{
	static const struct push transfers[] = {
		PUSH("jmp rel32", 0, 0, 0, 0x66, 0xE9, 0, 0, 1, 0), PUSH("call rel32", 0, 0, 0, 0x66, 0xE8, 0, 0, 1, 0),
		PUSH("jz rel32", 0, 0, 0, 0x66, 0x0F, 0x84, 0, 0, 1, 0),
		PUSH("jmp ebx", 0, 0, 0, 0x66, 0xFF, 0xE3), PUSH("call ebx", 0, 0, 0, 0x66, 0xFF, 0xD3), PUSH("ret", 0, 0, 0, 0x66, 0xC3),
		PUSH("ret n", 0, 0, 0, 0x66, 0xC2, 8, 0), PUSH("jmp rel32 down", 0, 0, 0, 0x66, 0xE9, 0, 0, 0xFF, 0xFF),
		PUSH("jmp far", 0, 0, 0, 0x66, 0xEA, 0, 0, 1, 0, 0, 0),
		PUSH("jmp short down", 0, 0, 0, 0x66, 0xEB, 0x80),
	};
	u32 wrong = 0;
	for (u32 n = 0; n < COUNT(transfers); n++) {
		const struct push *p = &transfers[n];
		struct state s = start(mode, p->code, p->length);
		memset((void *)(CODE_AT + END), 0xCC, 0x400);
		s.ebx = END + ORIGIN;
		s.eflags |= EFLAGS_ZF;
		if (p->code[1] == 0xEA) *(volatile u16 *)(CODE_AT + ORIGIN + 6) = (u16)s.cs;
		if (p->code[1] == 0xEB) { /* at 10h */
			memcpy((void *)(CODE_AT + 0x10), p->code, p->length);
			s.eip = 0x10;
		}
		u32 eip = s.eip;
		*(volatile u32 *)(SPARE_AT + 0x1000) = END + ORIGIN;
		execute(mode, &s);
		if (s.vector == 13 && !s.error && s.eip == eip && (s.esp & 0xFFFF) == 0x1000) continue;
		wrong++;
		complain(mode, p->name, 0, &s);
	}
	report(mode, "transfers beyond 64 KiB: wrong", wrong);
}

/* Code that is rewritten between runs and by itself, through several bases of CS, and the same bytes as 32-bit code. */
static void test_rewritten(enum mode mode)
{
	/* mov ax, 1234h; add ax, 5678h -- or: mov eax, 78051234h; push esi */
	static const u8 two[] = {0xB8, 0x34, 0x12, 0x05, 0x78, 0x56};
	/* l: mov ax, 0; inc word cs:[l + 1]; loop l, with the immediate at ORIGIN + 1 */
	static const u8 self[] = {0xB8, 0, 0, 0x2E, 0xFF, 0x06, 1, 1, 0xE2, 0xF6};
	u32 wrong = 0;
	for (u32 i = 0; i < 400; i++) {
		struct state s = start(mode, two, sizeof two);
		u32 moved = i % 5 * 16;
		*(volatile u16 *)(CODE_AT + ORIGIN + 1) = (u16)i;
		if (mode == PM16) s.cs = USER(moved ? CODE_ALIAS : CODE16), moved = moved ? 16 : 0;
		else s.cs += moved / 16;
		s.eip -= moved;
		execute(mode, &s);
		wrong += s.vector != RUN_DONE || s.eax != (0xA0A10000 | ((i + 0x5678) & 0xFFFF));
		s = start(PM16, two, sizeof two);
		*(volatile u16 *)(CODE_AT + ORIGIN + 1) = (u16)i;
		s.cs = USER(CODE32);
		run(&s);
		wrong += s.vector != RUN_DONE || s.eax != (0x78050000 | i);
	}
	for (u32 i = 1; i < 300 && mode != PM16; i += 23) {
		struct state s = start(mode, self, sizeof self);
		s.ecx = i;
		execute(mode, &s);
		wrong += s.vector != RUN_DONE || (s.eax & 0xFFFF) != i - 1;
	}
	report(mode, "rewritten code: wrong", wrong);
}

/* FFFFh:10h is 1 MiB, where this program's Multiboot header was: data, stack and code there. */
static void test_top_segment(enum mode mode)
{
	volatile u32 *top = (volatile u32 *)0x100000;
	u32 kept[8], wrong = 0;
	memcpy(kept, (void *)0x100000, 32);
	/* mov eax, [10h]; mov [14h], edx; jmp FFFF:0018h */
	struct state s = start(mode, (const u8[]){0x66, 0xA1, 0x10, 0, 0x66, 0x89, 0x16, 0x14, 0, 0xEA, 0x18, 0, 0xFF, 0xFF}, 14);
	s.ds = 0xFFFF;
	top[0] = 0x600DF00D;
	top[2] = 0x81CD9040;
	execute(mode, &s);
	wrong += s.eax != 0x600DF00E - (0x600DF00E & 0xFFFF) + 0xF00E || top[1] != 0xD0D1D2D3 || s.cs != 0xFFFF || s.eip != 0x1C || s.vector != RUN_DONE;
	/* push edx at FFFF:0018h; the frame of real mode goes beneath */
	s = start(mode, (const u8[]){0x66, 0x52}, 2);
	s.ss = 0xFFFF;
	s.esp = 0x20;
	execute(mode, &s);
	wrong += top[3] != 0xD0D1D2D3 || s.esp != 0x1C;
	memcpy((void *)0x100000, kept, 32);
	report(mode, "the segment that goes over 1 MiB: wrong", wrong);
}

/* One tick from now, as interrupt 70h. */
static void tick_arm(void)
{
	static const struct { u8 port, value; } writes[] = {
		{0x20, 0x11}, {0x21, 0x70}, {0x21, 4}, {0x21, 1}, {0x43, 0x30}, {0x40, 0}, {0x40, 8}, {0x21, 0xFE},
	};
	for (u32 i = 0; i < COUNT(writes); i++) out8(writes[i].port, writes[i].value);
}

static u32 seed;
static u32 next(void)
{
	seed = seed * 1103515245 + 12345;
	return seed >> 16;
}

/* May this be the last byte of an opcode that writes the register of its ModRM? */
static bool loads_register(u8 opcode)
{
	static const u8 others[] = {0x69, 0x6B, 0x86, 0x87, 0x8A, 0x8B, 0x8D, 0xAF, 0xB6, 0xB7, 0xBD, 0xBE, 0xBF, 0xC0, 0xC1};
	for (u32 i = 0; i < sizeof others; i++)
		if (opcode == others[i]) return true;
	return (opcode < 0x40 && (opcode & 7) == 3) || (opcode & 0xF0) == 0x40;
}

/* In real mode nothing protects this program: no instruction that turns interrupts off, talks to ports, loads segments or tables, leaves the
 * segment, or makes SP odd; no bytes of them either, as jumps go anywhere. */
static bool harmless(u8 before, u8 byte)
{
	static const u8 never[] = {0x07, 0x17, 0x1F, 0x2E, 0x44, 0x4C, 0x5C, 0x66, 0x67, 0x8E, 0x94, 0x9A, 0x9D, 0xBC, 0xC2, 0xC4, 0xC5, 0xC8,
				   0xC9, 0xCA, 0xCB, 0xCF, 0xE4, 0xE5, 0xE6, 0xE7, 0xEA, 0xEC, 0xED, 0xEE, 0xEF, 0xF4, 0xFA};
	for (u32 i = 0; i < sizeof never; i++)
		if (byte == never[i]) return false;
	if (byte >= 0x6C && byte <= 0x6F) return false;
	if (before == 0x0F) return byte >= 0x40 && byte != 0xA1 && byte != 0xA9 && byte != 0xAA && byte != 0xB2 && byte != 0xB4 && byte != 0xB5;
	if (before == 0xFF && ((byte >> 3 & 7) == 3 || (byte >> 3 & 7) == 5)) return false;
	bool names_sp = byte >= 0xC0 ? (byte & 7) == 4 || (byte >> 3 & 7) == 4 : (byte >> 3 & 7) == 4 && loads_register(before);
	return !names_sp;
}

/* Beyond the three segments, an access over their end, and the pages of CPL 3. */
#define UNREACHABLE_SIZE 0x8000u
static const u32 unreachable[] = {CODE_AT - 0x10000, SPARE_AT + END + 0x400};

static void test_random(enum mode mode, u32 runs)
{
	static u8 bytes[64];
	u32 changed = 0, ticks = 0, exceptions = 0;
	for (u32 i = 0; i < COUNT(unreachable); i++) memset((void *)unreachable[i], 0xEE, UNREACHABLE_SIZE);
	for (u32 n = 1; n <= runs; n++) {
		seed = n * 2654435761u;
		for (u32 i = 0; i < sizeof bytes; i++) {
			do bytes[i] = (u8)next();
			while (mode <= UNREAL && !harmless(i ? bytes[i - 1] : 0, bytes[i]));
		}
		memset((void *)CODE_AT, 0xCC, 0x400); /* what earlier tests left */
		struct state s = start(mode, bytes, sizeof bytes);
		s.es = segment(mode, DATA_AT);
		s.esp = s.ebp = 0x8000;
		s.eflags |= EFLAGS_IF;
		s.eflags &= ~0x3000u;
		tick_arm();
		execute(mode, &s);
		out8(0x21, 0xFF);
		ticks += s.vector == 0x70;
		exceptions += s.vector < 32;
		load_fpu();
	}
	for (u32 i = 0; i < COUNT(unreachable) * UNREACHABLE_SIZE; i++)
		changed += *(volatile u8 *)(unreachable[i / UNREACHABLE_SIZE] + i % UNREACHABLE_SIZE) != 0xEE;
	print("# random code: %u exceptions, %u ticks\n", exceptions, ticks);
	report(mode, "random code: bytes changed beyond its reach", changed);
	report(mode, "random code: endless loops and exceptions were none", !ticks || !exceptions);
}

/* What random code of CPL 3 may touch: its own three segments. */
static void protect(void)
{
	paging_enable();
	for (u32 va = 0; va < PAGED_MIB << 20; va += 4096)
		if (va < CODE_AT || va >= SPARE_AT + END) pte_set(va, va | P | W);
}

void guest_main(void)
{
	set_up();
	for (enum mode mode = REAL; mode < MODES; mode++) {
		test_accesses(mode);
		test_pushes(mode);
		test_pops(mode);
		test_strings(mode);
		test_bits(mode);
		test_code_end(mode);
		test_far_away(mode);
		test_rewritten(mode);
		if (mode != PM16) test_top_segment(mode);
	}
	test_random(REAL, 150);
	test_random(UNREAL, 150);
	protect();
	test_random(PM16, 300);
	test_random(V86, 300);
}
