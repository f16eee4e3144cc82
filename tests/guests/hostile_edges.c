/* Accesses over the end of the address space and over page ends, of every kind that there is. Each instruction runs once within a page;
 * across an edge it must do exactly the same, or fault and have done nothing. */
#include "guest.h"

#define VA 0x1800000u
#define ALIAS (VA + 0x5000) /* the frame of linear page 0; the one before it is that of the last page */
#define APART (VA + 0xA000) /* linear pages whose frames are not neighbours: FRAME_A, FRAME_B */
#define FRAME_A (VA + 0x10000)
#define FRAME_B (VA + 0x14000)
#define PLAIN (VA + 0x20000)
#define SCRATCH (VA + 0x30000)
#define SPAN 1152u /* what is filled and compared: this much, from BEFORE below the access */
#define BEFORE 320u
#define AREA_MOST 512u

enum place { BY_EBX, BY_ESI, BY_EDI, BY_EBP, PUSHES, POPS };
enum { LOAD = 1, STORE = 2, PARTIAL = 4 /* may be stored in part */, ALIGNED = 8, ENDS_BY = 16 /* whatever it raises */ };

struct access {
	const char *name;
	u8 code[8];
	u8 length;
	u16 size;
	u8 place, what;
	u8 data[8]; /* the first bytes in memory, if not all zero */
};
#define X(name, size, place, what, ...) {name, {__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}), size, place, what, {0}}
#define XD(name, size, place, what, data, ...) {name, {__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}), size, place, what, data}
#define BYTES(...) {__VA_ARGS__}

static const struct access accesses[] = {
	X("mov r32, m", 4, BY_EBX, LOAD, 0x8B, 0x03),
	X("mov r16, m", 2, BY_EBX, LOAD, 0x66, 0x8B, 0x03),
	X("movsx r32, m16", 2, BY_EBX, LOAD, 0x0F, 0xBF, 0x03),
	X("mov m, r32", 4, BY_EBX, STORE, 0x89, 0x03),
	X("mov m, r16", 2, BY_EBX, STORE, 0x66, 0x89, 0x03),
	X("mov m, imm32", 4, BY_EBX, STORE, 0xC7, 0x03, 1, 2, 3, 4),
	X("movnti m, r32", 4, BY_EBX, STORE, 0x0F, 0xC3, 0x03),
	X("add m, r32", 4, BY_EBX, LOAD | STORE, 0x01, 0x03),
	X("lock add m, r32", 4, BY_EBX, LOAD | STORE, 0xF0, 0x01, 0x03),
	X("adc m16, r16", 2, BY_EBX, LOAD | STORE, 0x66, 0x11, 0x03),
	X("xchg m, r32", 4, BY_EBX, LOAD | STORE, 0x87, 0x0B),
	X("xadd m, r32", 4, BY_EBX, LOAD | STORE, 0x0F, 0xC1, 0x03),
	X("cmpxchg m, r32", 4, BY_EBX, LOAD | STORE, 0xF0, 0x0F, 0xB1, 0x0B),
	X("cmpxchg8b", 8, BY_EBX, LOAD | STORE, 0x0F, 0xC7, 0x0B),
	X("lock cmpxchg8b", 8, BY_EBX, LOAD | STORE, 0xF0, 0x0F, 0xC7, 0x0B),
	X("bts m, imm", 4, BY_EBX, LOAD | STORE, 0x0F, 0xBA, 0x2B, 0x05),
	X("shld m, r, imm", 4, BY_EBX, LOAD | STORE, 0x0F, 0xA4, 0x03, 0x05),
	X("rcl m, 1", 4, BY_EBX, LOAD | STORE, 0xD1, 0x13),
	X("neg m16", 2, BY_EBX, LOAD | STORE, 0x66, 0xF7, 0x1B),
	X("imul r, m", 4, BY_EBX, LOAD, 0x0F, 0xAF, 0x03),
	X("movdqu x, m", 16, BY_EBX, LOAD, 0xF3, 0x0F, 0x6F, 0x03),
	X("movdqu m, x", 16, BY_EBX, STORE, 0xF3, 0x0F, 0x7F, 0x03),
	X("movups m, x", 16, BY_EBX, STORE, 0x0F, 0x11, 0x03),
	X("movaps m, x", 16, BY_EBX, STORE | ALIGNED, 0x0F, 0x29, 0x03),
	X("paddd x, m", 16, BY_EBX, LOAD | ALIGNED, 0x66, 0x0F, 0xFE, 0x03),
	X("movlps m, x", 8, BY_EBX, STORE, 0x0F, 0x13, 0x03),
	X("movhpd x, m", 8, BY_EBX, LOAD, 0x66, 0x0F, 0x16, 0x03),
	X("cvttss2si r, m", 4, BY_EBX, LOAD, 0xF3, 0x0F, 0x2C, 0x03),
	X("movq mm, m", 8, BY_EBX, LOAD, 0x0F, 0x6F, 0x03),
	X("movq m, mm", 8, BY_EBX, STORE, 0x0F, 0x7F, 0x03),
	X("movntq m, mm", 8, BY_EBX, STORE, 0x0F, 0xE7, 0x03),
	X("maskmovq", 8, BY_EDI, STORE, 0x0F, 0xF7, 0xC1),
	X("maskmovdqu", 16, BY_EDI, STORE, 0x66, 0x0F, 0xF7, 0xC1),
	X("stmxcsr", 4, BY_EBX, STORE, 0x0F, 0xAE, 0x1B),
	XD("ldmxcsr", 4, BY_EBX, LOAD, BYTES(0x80, 0x1F), 0x0F, 0xAE, 0x13),
	X("fld m80", 10, BY_EBX, LOAD, 0xDB, 0x2B),
	X("fstp m80", 10, BY_EBX, STORE, 0xDB, 0x3B),
	X("fbstp", 10, BY_EBX, STORE, 0xDF, 0x33),
	X("fld m64", 8, BY_EBX, LOAD, 0xDD, 0x03),
	X("fst m64", 8, BY_EBX, STORE, 0xDD, 0x13),
	X("fistp m64", 8, BY_EBX, STORE, 0xDF, 0x3B),
	X("fiadd m16", 2, BY_EBX, LOAD, 0xDE, 0x03),
	X("fnstcw", 2, BY_EBX, STORE, 0xD9, 0x3B),
	X("fnstsw m", 2, BY_EBX, STORE, 0xDD, 0x3B),
	X("fnstenv", 28, BY_EBX, STORE | PARTIAL, 0xD9, 0x33),
	X("fnsave", 108, BY_EBX, STORE | PARTIAL, 0xDD, 0x33),
	X("fxsave", 512, BY_EBX, STORE | PARTIAL | ALIGNED, 0x0F, 0xAE, 0x03),
	XD("lgs r, m48", 6, BY_EBX, LOAD, BYTES(1, 2, 3, 4, DATA3, 0), 0x0F, 0xB5, 0x0B),
	XD("les r, m32", 4, BY_EBX, LOAD, BYTES(1, 2, DATA3, 0), 0x66, 0xC4, 0x0B),
	XD("bound, inside", 8, BY_EBX, LOAD, BYTES(0, 0, 0, 0x80, 0xFF, 0xFF, 0xFF, 0x7F), 0x62, 0x13),
	XD("bound, outside", 8, BY_EBX, LOAD | ENDS_BY, BYTES(1, 0, 0, 0, 2, 0, 0, 0), 0x62, 0x13),
	X("sgdt", 6, BY_EBX, STORE | PARTIAL, 0x0F, 0x01, 0x03),
	X("sidt", 6, BY_EBX, STORE | PARTIAL, 0x0F, 0x01, 0x0B),
	X("smsw m", 2, BY_EBX, STORE, 0x0F, 0x01, 0x23),
	X("lar r, m", 2, BY_EBX, LOAD, 0x0F, 0x02, 0x03),
	X("push m", 4, BY_EBX, LOAD, 0xFF, 0x33),
	X("pop m", 4, BY_EBX, STORE, 0x68, 7, 6, 5, 4, 0x8F, 0x03),
	X("lodsd", 4, BY_ESI, LOAD, 0xAD),
	X("stosd", 4, BY_EDI, STORE, 0xAB),
	X("stosw", 2, BY_EDI, STORE, 0x66, 0xAB),
	X("movsd from", 4, BY_ESI, LOAD, 0xA5),
	X("movsd to", 4, BY_EDI, STORE, 0xA5),
	X("cmpsd", 4, BY_ESI, LOAD, 0xA7),
	X("scasd", 4, BY_EDI, LOAD, 0xAF),
	X("rep stosd", 20, BY_EDI, STORE | PARTIAL, 0xB9, 5, 0, 0, 0, 0xF3, 0xAB),
	X("rep movsw to", 10, BY_EDI, STORE | PARTIAL, 0xB9, 5, 0, 0, 0, 0xF3, 0x66, 0xA5),
	X("push r32", 4, PUSHES, STORE, 0x53),
	X("push imm16", 2, PUSHES, STORE, 0x66, 0x68, 1, 2),
	X("pushf", 4, PUSHES, STORE, 0x9C),
	X("push ds", 4, PUSHES, STORE | PARTIAL, 0x1E),
	X("pusha", 32, PUSHES, STORE | PARTIAL, 0x60),
	X("pushaw", 16, PUSHES, STORE | PARTIAL, 0x66, 0x60),
	X("call", 4, PUSHES, STORE, 0xE8, 0, 0, 0, 0),
	X("enter 0, 0", 4, PUSHES, STORE, 0xC8, 0, 0, 0),
	X("enter 0, 4", 20, PUSHES, STORE | PARTIAL, 0xC8, 0, 0, 4),
	X("enter 0, 31", 128, PUSHES, STORE | PARTIAL, 0xC8, 0, 0, 31),
	X("pop r32", 4, POPS, LOAD, 0x5B),
	X("pop r16", 2, POPS, LOAD, 0x66, 0x5B),
	X("popa", 32, POPS, LOAD, 0x61),
	XD("popf", 4, POPS, LOAD, BYTES(0xD5, 8), 0x9D),
	X("leave", 4, BY_EBP, LOAD, 0xC9),
};

struct outcome {
	struct state s;
	u8 memory[SPAN];
	u8 fpu[512];
};
static struct outcome reference, actual;
static u8 fpu_area[512] __attribute__((aligned(16)));
static u8 vectors[32] __attribute__((aligned(16)));

/* The same FPU and SSE state before each run. */
static void load_fpu(void)
{
	for (u32 i = 0; i < sizeof vectors; i++) vectors[i] = (u8)(i * 37 + 0x80);
	__asm__ volatile("fninit; fldpi; fld1; fldl2e; movdqu (%0), %%xmm0; movdqu 16(%0), %%xmm1; ldmxcsr %1"
			 : : "r"(vectors), "m"((u32){0x1F80}));
}

static u8 pattern(u32 i)
{
	return (u8)(i * 7 + (i >> 5) + 3);
}

/* What is in memory before: `where` is an address of the bytes through which nothing goes wrong. */
static void fill(const struct access *a, u8 *where)
{
	u32 any = 0;
	for (u32 i = 0; i < SPAN; i++) where[(int)(i - BEFORE)] = pattern(i);
	for (u32 i = 0; i < 8; i++) any |= a->data[i];
	for (u32 i = 0; any && i < 8; i++) where[i] = a->data[i];
}

static struct state start(const struct access *a, u32 where)
{
	u8 bytes[16];
	memcpy(bytes, a->code, a->length);
	memcpy(bytes + a->length, (const u8[]){CODE_DONE}, 2);
	struct state s = state_at(code_put(0, bytes, a->length + 2u), 3);
	for (u32 i = 0; i < 256; i++) ((u8 *)SCRATCH)[i] = pattern(i + 11);
	s.ebx = a->place == BY_EBX ? where : SCRATCH + 0x40;
	s.esi = a->place == BY_ESI ? where : SCRATCH + 0x80;
	s.edi = a->place == BY_EDI ? where : SCRATCH + 0xC0;
	s.ebp = a->place == BY_EBP ? where : SCRATCH + 0x100;
	s.edx = 0x1234;
	if (a->place == PUSHES) s.esp = where + a->size;
	if (a->place == POPS) s.esp = where;
	return s;
}

/* Run with the bytes at linear `where`, seen through `bytes`. */
static void run_at(const struct access *a, u32 where, u8 *bytes, struct outcome *o)
{
	fill(a, bytes);
	o->s = start(a, where);
	load_fpu();
	run(&o->s);
	__asm__ volatile("fxsave %0" : "=m"(fpu_area));
	memcpy(o->fpu, fpu_area, 512);
	memset(o->fpu + 8, 0, 16); /* pointers and MXCSR's neighbours: FDP is the address */
	memcpy(o->memory, bytes - BEFORE, SPAN);
}

static u32 moved(const struct access *a, const struct state *s)
{
	return a->place == BY_EBX ? s->ebx : a->place == BY_ESI ? s->esi : a->place == BY_EDI ? s->edi : s->esp;
}

/* What FXSAVE, FNSAVE, FNSTENV, PUSHA and ENTER store has addresses in it. */
static bool holds_address(const struct access *a, u32 at)
{
	if (a->code[0] == 0x60) return at >= 12 && at < 16;
	if (a->code[0] == 0x66 && a->code[1] == 0x60) return at >= 6 && at < 8;
	if (a->code[0] == 0xC8) return a->code[3] > 1 && at < 4;
	return a->place == BY_EBX && a->size >= 28 && at >= 8 && at < 28;
}

/* Registers other than the one that holds the address, which is compared by its distance from there. */
static bool same_result(const struct access *a, const struct outcome *x, u32 where_x, const struct outcome *y, u32 where_y)
{
	bool gprs = x->s.eax == y->s.eax && x->s.ecx == y->s.ecx && x->s.edx == y->s.edx && x->s.eflags == y->s.eflags && x->s.eip == y->s.eip;
	bool place = moved(a, &x->s) - where_x == moved(a, &y->s) - where_y;
	bool memory = true;
	for (u32 i = 0; i < SPAN; i++) memory &= holds_address(a, i - BEFORE) || x->memory[i] == y->memory[i];
	return x->s.vector == y->s.vector && gprs && place && memory && !memcmp(x->fpu, y->fpu, 512);
}

static bool untouched(const struct access *a, const struct outcome *o, u32 where)
{
	struct state before = start(a, where);
	bool registers = o->s.ebx == before.ebx && o->s.edi == before.edi && o->s.esi == before.esi && o->s.eax == before.eax;
	u32 any = 0, changed = 0;
	for (u32 i = 0; i < 8; i++) any |= a->data[i];
	for (u32 i = 0; i < SPAN; i++) {
		u32 at = i - BEFORE;
		changed += o->memory[i] != (any && at < 8 ? a->data[at] : pattern(i));
	}
	return (registers || (a->what & PARTIAL)) && (!changed || (a->what & PARTIAL));
}

/* One failed check for each access that goes wrong. */
static void complain(const struct access *a, u32 where, const char *what, const struct state *s)
{
	char title[96], *to = title;
	for (const char *from = what; *from; from++) *to++ = *from;
	*to++ = ',';
	*to++ = ' ';
	for (const char *from = a->name; *from; from++) *to++ = *from;
	*to = 0;
	print("# at 0x%x: trap %u error 0x%x cr2 0x%x eip +0x%x esp 0x%x\n", where, s->vector, s->error, s->cr2, s->eip - (u32)code_area, s->esp);
	check(title, false);
}

/* Must a byte behind be touched? Of FXSAVE's image, 32-bit code may leave the end alone; MASKMOV what its mask has not. */
static u32 touched(const struct access *a)
{
	return a->size == 512 ? 288 : a->size;
}

static bool may_pass(const struct access *a)
{
	return a->place == BY_EDI && a->code[a->length - 2] == 0xF7;
}

/* Every way to lie over the edge at `edge`: as many bytes below it as `below` says. Step 16 where the operand must be aligned. */
static void over_edge(const char *what, const struct access *a, u32 edge, u8 *bytes, u32 *runs)
{
	u32 wrong = 0, step = a->what & ALIGNED ? 16 : a->size > 40 ? 7 : 1;
	run_at(a, PLAIN, (u8 *)PLAIN, &reference);
	for (u32 below = step; below <= a->size; below += step, ++*runs) {
		run_at(a, edge - below, bytes - below, &actual);
		if (same_result(a, &actual, edge - below, &reference, PLAIN)) continue;
		bool refused = (actual.s.vector == 13 || actual.s.vector == 12) && edge == 0 && below < a->size && untouched(a, &actual, edge - below);
		if (refused) continue;
		if (!wrong++) complain(a, edge - below, what, &actual.s);
	}
}

/* With the page behind the edge missing, or not to be written. */
static void fault_at_edge(const char *what, const struct access *a, u32 edge, u8 *bytes, u32 error, u32 *runs)
{
	u32 wrong = 0, step = a->what & ALIGNED ? 16 : a->size > 40 ? 7 : 1;
	run_at(a, PLAIN, (u8 *)PLAIN, &reference);
	for (u32 below = step; below < touched(a); below += step, ++*runs) {
		run_at(a, edge - below, bytes - below, &actual);
		if (may_pass(a) && same_result(a, &actual, edge - below, &reference, PLAIN)) continue;
		bool segment = (actual.s.vector == 13 || actual.s.vector == 12) && edge == 0;
		bool page = actual.s.vector == 14 && actual.s.error == error && actual.s.cr2 - edge < a->size;
		if (!(page && actual.s.cr2 != edge && !(a->what & PARTIAL)) && (page || segment) && untouched(a, &actual, edge - below)) continue;
		if (!wrong++) complain(a, edge - below, what, &actual.s);
	}
}

#define COUNT (sizeof accesses / sizeof *accesses)

static void test_wrap(void)
{
	u32 runs = 0;
	map_ends(ALIAS - 0x1000, P | W | U, P | W | U);
	for (u32 i = 0; i < COUNT; i++) over_edge("over the end", &accesses[i], 0, (u8 *)ALIAS, &runs);
	map_ends(ALIAS - 0x1000, P | W | U, 0);
	for (u32 i = 0; i < COUNT; i++) {
		u32 error = U | (accesses[i].what & STORE ? W : 0);
		fault_at_edge("page 0 missing", &accesses[i], 0, (u8 *)ALIAS, error, &runs);
	}
	map_ends(ALIAS - 0x1000, P | W | U, P | U);
	for (u32 i = 0; i < COUNT; i++)
		if (accesses[i].what & STORE) fault_at_edge("page 0 read-only", &accesses[i], 0, (u8 *)ALIAS, P | W | U, &runs);
	unmap_ends();
	check("accesses over the end of the address space", runs > 1000);
}

/* The bytes of an access over pages whose frames lie apart are put in place, and fetched, through the frames. */
static void test_apart(void)
{
	u32 runs = 0;
	u8 image[SPAN];
	pte_set(APART, FRAME_A | P | W | U);
	pte_set(APART + 0x1000, FRAME_B | P | W | U);
	for (u32 n = 0; n < COUNT; n++) {
		const struct access *a = &accesses[n];
		u32 step = a->what & ALIGNED ? 16 : a->size > 40 ? 7 : 1, wrong = 0;
		run_at(a, PLAIN, (u8 *)PLAIN, &reference);
		for (u32 below = step; below <= a->size; below += step, runs++) {
			u32 where = APART + 0x1000 - below;
			fill(a, (u8 *)where);
			memcpy(image, (u8 *)where - BEFORE, SPAN);
			memset((u8 *)(FRAME_A + 0x1000), 0xEE, 1024);
			memset((u8 *)(FRAME_B - 1024), 0xEE, 1024);
			run_at(a, where, (u8 *)where, &actual);
			bool good = same_result(a, &actual, where, &reference, PLAIN);
			for (u32 i = 0; i < 1024; i++) good &= ((u8 *)(FRAME_A + 0x1000))[i] == 0xEE && ((u8 *)(FRAME_B - 1024))[i] == 0xEE;
			for (u32 i = 0; i < SPAN; i++) {
				u32 linear = where - BEFORE + i;
				u8 *through = (u8 *)(linear < APART + 0x1000 ? FRAME_A + (linear - APART) : FRAME_B + (linear - APART - 0x1000));
				good &= *through == actual.memory[i];
			}
			if (!good && !wrong++) complain(a, where, "frames apart", &actual.s);
		}
	}
	pte_set(APART + 0x1000, FRAME_B | P | U);
	for (u32 n = 0; n < COUNT; n++) {
		if (!(accesses[n].what & STORE)) continue;
		/* Filled through the frames: they are neighbours here. */
		pte_set(APART, (FRAME_B - 0x1000) | P | W | U);
		fault_at_edge("read-only page behind", &accesses[n], APART + 0x1000, (u8 *)FRAME_B, P | W | U, &runs);
	}
	pte_set(APART, APART | P | W | U);
	pte_set(APART + 0x1000, (APART + 0x1000) | P | W | U);
	check("accesses over page ends", runs > 700);
}

/* Base, displacement, index and scale around every edge of a window: the address is what the manual says, modulo 2^32. */
static void test_addresses(void)
{
	static const u32 values[] = {0, 1, 0xFFF, 0x100000, 0x7FFFFFFF, 0x80000000, 0xFFEFFFFF, 0xFFF00000, 0xFFFFF000, 0xFFFFFFFF, VA + 8};
	static const u32 displacements[] = {0, 4, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFF00000, 0xFFEFFFFF, 0xFFFFFFFF, 0u - 0x1000};
	u32 wrong = 0, runs = 0, count = sizeof values / sizeof *values;
	for (u32 cpl = 0; cpl <= 3; cpl += 3)
		for (u32 scale = 0; scale < 5; scale++) /* 4: no index */
			for (u32 d = 0; d < sizeof displacements / sizeof *displacements; d++) {
				u8 bytes[] = {0x0F, 0xB6, 0x84, (u8)(scale << 6 | 6 << 3 | 3), 0, 0, 0, 0, CODE_DONE, 0x90};
				if (scale == 4) bytes[2] = 0x83, bytes[3] = 0;
				u8 *to = scale == 4 ? bytes + 3 : bytes + 4;
				memcpy(to, &displacements[d], 4);
				if (scale == 4) memcpy(bytes + 7, (const u8[]){CODE_DONE}, 2);
				u8 *code = code_put(0, bytes, sizeof bytes);
				for (u32 b = 0; b < count; b++)
					for (u32 i = 0; i < (scale == 4 ? 1 : count); i++, runs++) {
						struct state s = state_at(code, cpl);
						s.ebx = values[b];
						s.esi = values[i];
						u32 ea = s.ebx + (scale == 4 ? 0 : s.esi << scale) + displacements[d];
						bool mapped = ea < PAGED_MIB << 20;
						u8 expected = mapped ? *(volatile u8 *)ea : 0;
						run(&s);
						bool good = mapped ? s.vector == RUN_DONE && s.eax == expected
								   : s.vector == 14 && s.cr2 == ea && s.error == (cpl ? U : 0);
						if (!good && !wrong++)
							print("# ebx 0x%x esi 0x%x scale %u disp 0x%x: trap %u cr2 0x%x\n", values[b], values[i], scale,
							      displacements[d], s.vector, s.cr2);
					}
			}
	check_equal("address arithmetic at the edges of a window: wrong", wrong, 0);
	print("# %u accesses\n", runs);
}

/* Where there is no page, an operand that is not aligned is #GP all the same, before its walk leaves a trace; but not of instructions that take any. */
static void test_misaligned(void)
{
	static const struct {
		u8 code[6];
		bool any;
	} rows[] = {
		{{0x0F, 0x28, 0x03, CODE_DONE}, false}, {{0x0F, 0x29, 0x03, CODE_DONE}, false}, {{0x66, 0x0F, 0x6F, 0x03, CODE_DONE}, false},
		{{0x66, 0x0F, 0xFE, 0x03, CODE_DONE}, false}, {{0x66, 0x0F, 0xE7, 0x03, CODE_DONE}, false}, {{0x0F, 0x58, 0x03, CODE_DONE}, false},
		{{0x0F, 0x10, 0x03, CODE_DONE}, true}, {{0x66, 0x0F, 0x11, 0x03, CODE_DONE}, true}, {{0xF3, 0x0F, 0x6F, 0x03, CODE_DONE}, true},
		{{0xF3, 0x0F, 0x7F, 0x03, CODE_DONE}, true},
	};
	u32 wrong = 0, absent = APART;
	pte_set(absent, 0);
	for (u32 i = 0; i < 8 * sizeof rows / sizeof *rows; i++) {
		struct state s = state_at(code_put(32 * (i / 8), rows[i / 8].code, sizeof rows[0].code), i & 1 ? 3 : 0);
		s.ebx = absent + (i & 2 ? 0xFF8 : 4);
		if (i & 4) warm_up();
		if (i & 4) code_put(32 * (i / 8), rows[i / 8].code, sizeof rows[0].code);
		run(&s);
		wrong += rows[i / 8].any ? s.vector != 14 || s.cr2 != s.ebx : s.vector != 13 || s.error;
	}
	check_equal("misaligned, and no page: wrong", wrong, 0);
	pte_set(absent, absent | P | W | U);
}

void guest_main(void)
{
	paging_enable();
	WRITE_CR(4, READ_CR(4) | 0x600);
	WRITE_CR(0, (READ_CR(0) | 0x22) & ~0xCu);
	test_misaligned();
	test_wrap();
	test_apart();
	test_addresses();
}
