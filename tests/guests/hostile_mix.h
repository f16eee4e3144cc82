/* The random programs of hostile_mix.c: what their memory is like, and their code. */
#ifndef TESTS_GUESTS_HOSTILE_MIX_H
#define TESTS_GUESTS_HOSTILE_MIX_H

#include "hostile_spaces.h"
#include "random.h"

#define PAGES_USED 32u
#define CODE_PAGE 4u
#define CODE_PAGES 4u
#define STACK_PAGE 8u
#define UNITS 24u
#define WORK 0x40u /* INT: the kernel does something */
#define EFLAGS_AC 0x40000u
#define EFLAGS_NT 0x4000u
#define EFLAGS_IOPL 0x3000u

/* Segments, from GDT_FREE on. */
enum { CODE1, DATA1, CODE16, DATA16, TO_REGION, DOWN, READABLE, FROM_REGION, CONFORMING, CODE_LIMIT, SEGMENTS };
#define SELECTOR(n) (8 * (GDT_FREE + (n)) | ((n) < CODE16 ? 1 : 3))
/* Behind them hardware tasks and gates to these. INT leads to tasks, too, from TASK_VECTOR on. */
#define TASKS 6u
#define TASK_GATES 3u
#define TASK_VECTOR 0x42u
enum { TASK_FIRST = GDT_FREE + SEGMENTS, GATE_FIRST = TASK_FIRST + TASKS, LOCAL_INDEX = GATE_FIRST + TASK_GATES, RESCUE_INDEX };
/* What is strange about a program's tasks: where they are, or that the kernel has no stack in some. */
enum { NO_TASKS, STRANGE_PLACES, NO_STACKS };

struct mix_case {
	struct state state;
	entry_t maps[PAGES_USED], other_maps[PAGES_USED];
	u32 length, starts[UNITS + 1], seed, tasks;
	u8 code[CODE_PAGES * 4096];
	u32 code_base, region, watched, dr7; /* DR0 */
	bool ends, paged_large, v86, low; /* the region once more at 0 */
};

static struct mix_case the_case;
static u32 unit;

static bool one_in(u32 n) { return below(n) == 0; }

static void put(u8 byte) { the_case.code[the_case.length++] = byte; }

static void put_word(u32 word)
{
	for (u32 i = 0; i < 4; i++) put((u8)(word >> 8 * i));
}

static void put_bytes(const u8 *bytes, u32 count)
{
	while (count--) put(*bytes++);
}
#define PUT(...) put_bytes((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static u32 begins(void) { return the_case.code_base + the_case.state.eip; }

static u32 here(void) { return begins() + the_case.length; }

/* Somewhere in a page: its ends more often than not. */
static u32 some_offset(void)
{
	static const u32 ends[] = {0, 1, 2, 3, 4, 8, 0xFF0, 0xFF8, 0xFFC, 0xFFD, 0xFFE, 0xFFF, 0x800};
	return one_in(2) ? ends[below(sizeof ends / sizeof *ends)] : below(4096);
}

static u32 some_entry(void) { return below(PAGES_USED * sizeof(entry_t) / 4) * 4; }

/* An address that is worth an access. */
static u32 some_address(void)
{
	switch (below(14)) {
	case 0: return REGION + below(2) * 4096 + some_entry(); /* a page-table entry */
	case 1: return LARGE + below(FRAME_COUNT) * 4096 + some_offset();
	case 2: return begins() + below(the_case.length + 64);
	case 3: return the_case.ends ? 0u - below(16) : below(32);
	case 4: return REGION + (ENTRIES - 1 + below(3)) * 4096 + some_offset();
	case 5: return next();
	case 6: return REGION + (STACK_PAGE + below(2)) * 4096 + some_offset();
	default: return REGION + below(PAGES_USED) * 4096 + some_offset();
	}
}

static u32 some_entry_value(void)
{
	u32 rights = one_in(3) ? below(8) : P | W | U;
	return (FRAMES + below(FRAME_COUNT) * 4096) | rights | (one_in(4) ? 0 : A | D);
}

/* As its own page tables have it. */
static entry_t some_wide_entry(void)
{
	entry_t entry = some_entry_value();
#ifdef PAE
	if (one_in(8)) entry |= XD;
	if (one_in(32)) entry |= 1ull << (32 + below(31));
#endif
	return entry;
}

static void put_mov(u32 reg, u32 value)
{
	put((u8)(0xB8 + reg));
	put_word(value);
}

static u32 some_register(void)
{
	u32 reg = below(8);
	return reg == 4 ? 3 : reg;
}

/* ModRM and what follows for an operand in memory. */
static void put_memory(u32 reg)
{
	u32 base = one_in(4) ? 4 : some_register();
	switch (below(5)) {
	case 0:
		put((u8)(reg << 3 | 5));
		put_word(some_address());
		return;
	case 1: /* base + index * scale + disp8 */
		put((u8)(0x44 | reg << 3));
		put((u8)(below(4) << 6 | some_register() << 3 | base));
		put((u8)next());
		return;
	case 2: /* disp32, some of which wrap */
		put((u8)(0x80 | reg << 3 | base));
		if (base == 4) put(0x24);
		put_word(one_in(3) ? next() : below(8192) - 4096);
		return;
	default:
		put((u8)(0x40 | reg << 3 | base));
		if (base == 4) put(0x24);
		put((u8)next());
	}
}

static void put_segment(void)
{
	static const u8 loads[] = {0xC0, 0xD8, 0xE0, 0xE8, 0xD0};
	u32 n = below(SEGMENTS + 3);
	put_mov(0, n < SEGMENTS ? SELECTOR(n) : n == SEGMENTS ? below(4) : n == SEGMENTS + 1 ? DATA3 : next() & 0xFFFF);
	PUT(0x8E, loads[below(one_in(3) ? 5 : 4)]);
}

static void put_access(void)
{
	static const u8 segments[] = {0x26, 0x2E, 0x36, 0x64, 0x65};
	static const u8 ops[] = {0x8B, 0x89, 0x88, 0x8A, 0x01, 0x03, 0x87, 0x86, 0x29, 0x39, 0x31, 0x85, 0x11, 0x63};
	static const u8 long_ops[] = {
		0xB1, 0xC1, 0xAB, 0xA3, 0xB3, 0xB6, 0xBF, 0xAF, 0xC3, 0xBC, 0x40, 0x4F, 0x94, 0xBB, 0x10, 0x11, 0x28, 0x29, 0x6F, 0x7F, 0xE7, 0xC7,
	};
	u32 kind = below(12);
	if (one_in(6)) put(segments[below(5)]);
	if (one_in(4)) put(0x66);
	if (one_in(24)) put(0xF0);
	if (kind < 7) {
		put(ops[below(sizeof ops - 1)]);
		put_memory(below(8));
	} else if (kind < 10) {
		u8 op = long_ops[below(sizeof long_ops)];
		put(0x0F);
		put(op);
		put_memory(op == 0xC7 ? 1 : below(8));
	} else if (kind == 10) {
		put(0xC7);
		put_memory(0);
		put_word(one_in(2) ? some_entry_value() : next());
	} else { /* x87: a store or load of 4, 8 or 10 bytes */
		static const u8 x87[] = {0xD9, 0xDD, 0xDB, 0xDF};
		put(x87[below(4)]);
		put_memory(one_in(2) ? 7 : 2 + below(2));
	}
}

static void put_stack(void)
{
	switch (below(22)) {
	case 0: PUT(0x60); break;
	case 1: PUT(0x61); break;
	case 2:
		PUT(0xC8);
		put((u8)next());
		put(one_in(4) ? (u8)next() : 0);
		put((u8)below(4));
		break;
	case 3: PUT(0xC9); break;
	case 4:
		PUT(0xFF);
		put_memory(6);
		break;
	case 5:
		PUT(0x8F);
		put_memory(0);
		break;
	case 6:
		PUT(0x68);
		put_word(one_in(2) ? some_entry_value() : some_address());
		break;
	case 7: /* ADD or SUB ESP */
		put(0x81);
		put(one_in(2) ? 0xC4 : 0xEC);
		put_word(one_in(2) ? below(512) * 4 : one_in(2) ? 0x80000000u - below(3) : next());
		break;
	case 8:
		put(0x83);
		put(one_in(2) ? 0xC4 : 0xEC);
		put((u8)(one_in(3) ? next() : below(16) * 4));
		break;
	case 9:
		PUT(0x8D, 0xA4, 0x24);
		put_word(one_in(2) ? below(4096) - 2048 : one_in(2) ? 0x7FFFFFFFu : next());
		break;
	case 10: put_mov(4, some_address()); break;
	case 11: PUT((u8)(0x90 | some_register()), 0x94, 0x90); break;
	case 12: put(one_in(2) ? 0x44 : 0x4C); break;
	case 13: PUT(0x66, (u8)(0x50 + below(16))); break;
	case 14: PUT(0x66, 0xBC, (u8)next(), (u8)next()); break;
	case 15: PUT(0x54, 0x5C); break;
	case 16: PUT(0x83, 0xE4, 0xF0); break;
	case 17: PUT(0x9C, 0x9D); break;
	case 18: PUT((u8)(one_in(2) ? 0x1E : 0x06), 0x58); break;
	default:
		for (u32 n = 1 + below(one_in(6) ? 40 : 6); n; n--) put((u8)(0x50 + below(16)));
	}
}

/* MOV to a byte, word or dword of the code, seen through some mapping. */
static void put_patch(void)
{
	u32 to = one_in(2) ? the_case.length + below(48) : below(the_case.length + 1);
	u32 at = begins() + to, through = below(3);
	if (through) at = (at & 0xFFF) + (through == 1 ? LARGE : REGION + 16 * 4096) + ((at - REGION) & 0xF000);
	bool whole = one_in(2);
	put(whole ? 0xC7 : 0xC6);
	put(5);
	put_word(at);
	static const u32 words[] = {0x90909090, 0x40404040, 0xC3909090, 0x05EB4140, 0x83CD5058, 0x5B53C483};
	if (whole) put_word(words[below(6)]);
	else put((u8)(one_in(3) ? next() : words[below(6)]));
}

static void put_string(void)
{
	static const u8 ops[] = {0xA4, 0xA5, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF, 0xA6, 0xA7, 0xA5, 0xAB, 0xA4, 0xAA};
	bool is_long = one_in(6) && the_case.state.cs != SELECTOR(CODE16); /* upwards, beyond the arena: what runs long over itself ends where an interrupt comes */
	put_mov(7, is_long ? LARGE + 0x10000 + below(0x200000) : some_address());
	put_mov(6, some_address());
	put_mov(1, !is_long ? below(one_in(3) ? 200 : 20) : one_in(3) ? 0xFFFFF + below(3) : below(0x10000));
	if (is_long) PUT(0xFC);
	else if (one_in(5)) PUT(0xFD);
	if (one_in(4)) put(0x66);
	put(one_in(8) ? 0xF2 : 0xF3);
	put(ops[below(sizeof ops)]);
	if (one_in(5)) PUT(0xFC);
}

static void put_branch(void)
{
	u32 to = the_case.starts[below(unit + 1)];
	switch (below(10)) {
	case 0: /* a short loop */
		put_mov(1, 2 + below(6));
		PUT(0x40, 0x50, 0x58, 0xE2, 0xFB);
		break;
	case 1: PUT(0x70 + (u8)below(16), 2, 0x40, 0x43); break;
	case 2: /* call over a thunk, and of it */
		PUT(0xEB, 4, 0x8B, (u8)(0x04 | some_register() << 3), 0x24, 0xC3, 0xE8, 0xF7, 0xFF, 0xFF, 0xFF);
		break;
	case 3: PUT(0xE8, 0, 0, 0, 0, 0x58); break;
	case 4: /* call; jmp over; ret */
		PUT(0xE8, 2, 0, 0, 0, 0xEB, 1, (u8)(one_in(3) ? 0xC2 : 0xC3));
		if (the_case.code[the_case.length - 1] == 0xC2) PUT(4, 0);
		break;
	case 5: /* push; ret forwards */
		PUT(0x68);
		put_word(here() + 5);
		PUT(0xC3);
		break;
	case 6:
		put_mov(0, here() + 7);
		PUT(0xFF, (u8)(one_in(2) ? 0xD0 : 0xE0));
		break;
	case 7: /* a way back that is taken once: BTS of a bit, in the last data page */
		PUT(0x0F, 0xBA, 0x2D);
		put_word(REGION + 15 * 4096 + 0x100 + unit * 4);
		put((u8)below(32));
		PUT(0x0F, 0x83);
		put_word(to - (here() + 4));
		break;
	case 8:
		PUT(0xFF, 0x25);
		put_word(some_address());
		break;
	default: /* jcc over a push, and a pop */
		PUT(0x50, 0x70 + (u8)below(16), 1, 0x51, 0x5A);
	}
}

static void put_work(void)
{
	put_mov(0, next());
	if (one_in(3)) { /* SYSENTER, as mix_enter comes back from it */
		PUT(0x89, 0xE1, 0xBA);
		put_word(here() + 6);
		PUT(0x0F, 0x34);
	} else {
		PUT(0xCD, WORK);
	}
}

/* To another task: of 16 or of 32 bits by the same bytes, where 16 bits can. */
static void put_task(void)
{
	u32 selector = one_in(12) ? next() & 0xFFFF : 8 * (TASK_FIRST + below(TASKS + TASK_GATES)) | (one_in(3) ? below(4) : 0);
	u32 way = below(8);
	if (the_case.v86) way |= 4;
	switch (way) {
	case 0: case 1:
		put(way ? 0xEA : 0x9A);
		put_word(next());
		PUT((u8)selector, (u8)(selector >> 8));
		break;
	case 2: case 3: /* push selector; push 0; jmp or call far [esp] */
		PUT(0x68);
		put_word(selector);
		PUT(0x6A, 0, 0xFF, way == 2 ? 0x2C : 0x1C, 0x24);
		break;
	case 4: case 5: PUT(0xCD, TASK_VECTOR + (u8)below(TASK_GATES)); break;
	case 6: /* pushf; pop eax; or ah, NT; push eax; popf; iret */
		PUT(0x9C, 0x58, 0x80, 0xCC, EFLAGS_NT >> 8, 0x50, 0x9D, 0xCF);
		break;
	default: /* an exception that may lead to one, or a port that one may allow */
		if (one_in(2)) PUT(0x0F, 0x0B);
		else if (one_in(2)) PUT(0xCC);
		else PUT(0xE6, 0x80);
	}
}

static void put_other(void)
{
	static const u8 some[][4] = {
		{0xF7, 0xF1, 0x90, 0x90}, {0x0F, 0x0B, 0x90, 0x90}, {0xCC, 0x90, 0x90, 0x90}, {0x9E, 0x9F, 0x90, 0x90}, {0xFD, 0xAC, 0xFC, 0x90},
		{0x0F, 0xA2, 0x31, 0xC0}, {0x0F, 0x31, 0x31, 0xC0}, {0xFA, 0x90, 0x90, 0x90}, {0x8E, 0xC0, 0x90, 0x90}, {0x16, 0x07, 0x90, 0x90},
		{0xCE, 0x90, 0x90, 0x90}, {0xD7, 0x90, 0x90, 0x90}, {0x99, 0xF7, 0xF9, 0x90}, {0x0F, 0xAE, 0x08, 0x90}, {0x66, 0xC3, 0x90, 0x90},
		{0xCF, 0x90, 0x90, 0x90}, {0x0F, 0x77, 0xDB, 0xE3}, {0xCB, 0x90, 0x90, 0x90},
	};
	put_bytes(some[below(sizeof some / sizeof *some)], 4);
}

static void put_alu(void)
{
	static const u8 ops[] = {0x01, 0x03, 0x11, 0x19, 0x21, 0x29, 0x31, 0x39, 0x85, 0x87, 0x89, 0x8B};
	if (one_in(6)) put(0x66);
	put(ops[below(sizeof ops)]);
	put((u8)(0xC0 | below(64)));
}

static void put_unit(void)
{
	for (u32 n = below(3); n; n--) put_mov(some_register(), one_in(4) ? some_entry_value() : some_address());
	for (u32 n = 1 + below(4); n; n--) {
		if (the_case.tasks && one_in(3)) put_task();
		switch (below(17)) {
		case 16: put_segment(); break;
		case 0: put_alu(); break;
		case 1: case 2: case 3: case 4: put_access(); break;
		case 5: case 6: case 7: case 8: put_stack(); break;
		case 9: put_patch(); break;
		case 10: put_string(); break;
		case 11: case 12: put_branch(); break;
		case 13: case 14: put_work(); break;
		default: put_other();
		}
	}
}

#include "hostile_mix16.h"

/* Other than flat ones. Of 16 bits: the code is another then, made of the same bytes. */
static void choose_segments(struct mix_case *c)
{
	switch (below(8)) {
	case 0:
		c->state.cs = SELECTOR(CODE16);
		c->code_base = REGION + CODE_PAGE * 4096;
		c->state.eip -= c->code_base;
		if (one_in(2)) return;
		__attribute__((fallthrough));
	case 1:
		c->state.ss = SELECTOR(DATA16);
		c->state.esp = one_in(4) ? below(16) : c->state.esp - REGION;
		c->state.ebp -= REGION;
		break;
	case 2: c->state.ds = c->state.es = SELECTOR(TO_REGION + below(4)); break;
	case 3: c->state.ss = SELECTOR(one_in(2) ? TO_REGION : DOWN); break;
	case 4: c->state.cs = SELECTOR(CODE_LIMIT); break;
	default: break;
	}
}

static void choose_maps(struct mix_case *c)
{
	for (u32 i = 0; i < PAGES_USED; i++) {
		bool usual = i < FRAME_COUNT || (i >= 16 + CODE_PAGE && i < 16 + CODE_PAGE + CODE_PAGES);
		c->maps[i] = usual ? (FRAMES + i % 16 * 4096) | P | W | U | A | D : some_wide_entry();
		if (i < TABLE_FRAMES && one_in(2)) c->maps[i] &= ~(entry_t)U;
		c->other_maps[i] = usual && !one_in(8) ? c->maps[i] : some_wide_entry();
	}
}

static void make(struct mix_case *c)
{
	u32 cpl = one_in(8) ? 1 : 3;
	memset(c, 0, sizeof *c);
	c->ends = one_in(2);
	c->paged_large = !one_in(3);
	c->state = state_at((void *)(REGION + CODE_PAGE * 4096 + below(0x2800)), 3);
	if (cpl == 1) {
		c->state.cs = SELECTOR(CODE1);
		c->state.ss = c->state.ds = c->state.es = c->state.fs = c->state.gs = SELECTOR(DATA1);
	}
	c->state.esp = REGION + (STACK_PAGE + 1) * 4096 + below(64) * 4 - 128;
	c->state.ebp = c->state.esp + 64;
	c->state.eflags = 2 | EFLAGS_IF | (next() & EFLAGS_ARITH);
	if (one_in(12)) c->state.eflags |= EFLAGS_TF;
	if (one_in(12)) c->state.eflags |= EFLAGS_AC;
	if (one_in(12)) c->dr7 = 1 | below(4) << 18 | (one_in(2) ? 1u : 3u) << 16;
	if (one_in(3)) c->tasks = one_in(2) ? STRANGE_PLACES : NO_STACKS;
	c->region = REGION;
	if (cpl == 3 && one_in(4)) choose_v86(c);
	else if (cpl == 3) choose_segments(c);
	c->low = !c->tasks || c->v86 || cpl == 1;
	choose_maps(c);
	c->seed = next();
	c->watched = (c->v86 ? below(PAGES_USED * 4096) : some_address()) & ~3u;
	for (unit = 0; unit < UNITS && c->length < 0x1600; unit++) {
		c->starts[unit] = here();
		if (c->v86) put_unit16();
		else put_unit();
	}
	for (; unit <= UNITS; unit++) c->starts[unit] = here();
	put(0xCD);
	put(RUN_DONE);
}

#endif
