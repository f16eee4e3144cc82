/* Code that is rewritten by every kind of store: the instruction that comes next, in the same page, over a page's end and beyond it, the
 * one before, and the very one that runs. What is fetched after a store is what was stored (vol. 3, 11.6). */
#include "guest.h"

#define NEW 0x5D3C2B1Au
#define DATA ((u32)user_stack + 256) /* what the string stores copy */

enum { WHOLE, BYTE, WORD, BLOCK };
struct store {
	const char *name;
	u8 code[12];
	u8 length;
	u8 writes; /* all of the four bytes, or their low end; BLOCK: registers behind them too */
};
#define S(name, writes, ...) {name, {__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}), writes}

/* EBX = EDI = the address, EDX = NEW, ESP 4 above the address where something is pushed; ECX = 1, EAX = 0. */
static const struct store stores[] = {
	S("mov m, r32", WHOLE, 0x89, 0x13),
	S("mov m, imm32", WHOLE, 0xC7, 0x03, 0x1A, 0x2B, 0x3C, 0x5D),
	S("mov m, r16", WORD, 0x66, 0x89, 0x13),
	S("mov m, r8", BYTE, 0x88, 0x13),
	S("movnti", WHOLE, 0x0F, 0xC3, 0x13),
	S("xchg", WHOLE, 0x87, 0x13),
	S("add m, r", WHOLE, 0x01, 0x13),
	S("lock or m, r", WHOLE, 0xF0, 0x09, 0x13),
	S("xadd", WHOLE, 0x0F, 0xC1, 0x13),
	S("cmpxchg", WHOLE, 0x0F, 0xB1, 0x13),
	S("pop m", WHOLE, 0x52, 0x8F, 0x03),
	S("movd m, xmm", WHOLE, 0x66, 0x0F, 0x6E, 0xCA, 0x66, 0x0F, 0x7E, 0x0B),
	S("movss m, xmm", WHOLE, 0x66, 0x0F, 0x6E, 0xCA, 0xF3, 0x0F, 0x11, 0x0B),
	S("movd m, mm", WHOLE, 0x0F, 0x6E, 0xCA, 0x0F, 0x7E, 0x0B),
	S("stosd", WHOLE, 0x89, 0xD0, 0xAB),
	S("stosb", BYTE, 0x89, 0xD0, 0xAA),
	S("rep stosd", WHOLE, 0x89, 0xD0, 0xF3, 0xAB),
	S("movsd", WHOLE, 0xA5),
	S("rep movsd", WHOLE, 0xF3, 0xA5),
	S("rep movsb of four", WHOLE, 0xB1, 0x04, 0xF3, 0xA4),
	S("rep movsb down", WHOLE, 0xB1, 0x04, 0x83, 0xC6, 0x03, 0x83, 0xC7, 0x03, 0xFD, 0xF3, 0xA4, 0xFC),
	S("std; stosd", WHOLE, 0x89, 0xD0, 0xFD, 0xAB, 0xFC),
	S("bts, by bits", BYTE, 0x0F, 0xBA, 0x2B, 1, 0x0F, 0xBA, 0x2B, 3),
};
static const struct store pushes[] = {
	S("push r", WHOLE, 0x52),
	S("push imm", WHOLE, 0x68, 0x1A, 0x2B, 0x3C, 0x5D),
	S("push m", WHOLE, 0xFF, 0x36),
	S("push of two", WHOLE, 0x66, 0xFF, 0x76, 0x02, 0x66, 0x52),
	S("enter", WHOLE, 0x89, 0xD5, 0xC8, 0, 0, 0),
	S("pusha", BLOCK, 0x83, 0xC4, 0x1C, 0x89, 0xD7, 0xBE, 0xCD, 0x81, 0x90, 0x90, 0x60),
};

static u32 expected(const struct store *s, u32 before)
{
	if (s->writes == BYTE) return (before & ~0xFFu) | (s->code[0] == 0x0F ? (before & 0xFF) | 0x0A : NEW & 0xFF);
	if (s->writes == WORD) return (before & ~0xFFFFu) | (NEW & 0xFFFF);
	return NEW;
}

/* STORE, jmp to the target, which is `distance` away: mov eax, imm32; int 81h. */
static bool run_once(const struct store *s, bool push, u32 start, u32 target, unsigned cpl)
{
	u8 *p = code_area + start;
	for (u32 i = 0; i < 64; i++) code_area[target + i] = 0xF4;
	memcpy(p, s->code, s->length);
	u32 next = start + s->length;
	if (target != next) {
		u32 distance = target - (next + 5);
		code_area[next] = 0xE9;
		memcpy(code_area + next + 1, &distance, 4);
	}
	memcpy(code_area + target, (const u8[]){0xB8, 0, 0, 0, 0, CODE_DONE}, 7);
	struct state st = state_at(p, cpl);
	st.ebx = st.edi = (u32)code_area + target + 1;
	st.esi = DATA;
	st.edx = NEW;
	st.ecx = 1;
	st.eax = 0;
	*(volatile u32 *)DATA = NEW;
	if (push) st.esp = st.ebx + 4;
	/* At CPL 0 the trap would push over the code. */
	if (push && cpl == 0) return true;
	run(&st);
	return st.vector == RUN_DONE && st.eax == expected(s, 0) && st.eip == (u32)code_area + target + 7;
}

static void test_each(const struct store *list, u32 count, bool push)
{
	for (u32 i = 0; i < count; i++) {
		const struct store *s = &list[i];
		u32 end = 8192 - s->length; /* of the second page */
		const u32 places[][2] = {
			{256, 256u + s->length}, {256, 400}, {256, 300u}, {600, 300}, {end, 8192}, {end - 3, 8192 - 3}, {end - 1, 8192 - 1}, {4096 - 40, 4096 + 20}, {4096 + 40, 4096 - 4},
		};
		u32 wrong = 0;
		for (u32 p = 0; p < sizeof places / sizeof *places; p++)
			for (u32 round = 0; round < 6; round++) wrong += !run_once(s, push, places[p][0], places[p][1], round & 1 ? 0 : 3);
		check_equal(s->name, wrong, 0);
	}
}

/* An instruction that changes its own immediate: 1: add byte [its imm8], imm8; loop 1b. It doubles. */
static void test_itself(void)
{
	u32 wrong = 0;
	for (u32 place = 0; place < 8; place++) {
		u32 start = 4096 - place;
		u8 bytes[] = {0x80, 0x03, 1, 0xE2, 0xFB, CODE_DONE};
		struct state s = state_at(code_put(start, bytes, sizeof bytes), place & 1 ? 3 : 0);
		s.ebx = (u32)code_area + start + 2;
		s.ecx = 7;
		run(&s);
		wrong += s.vector != RUN_DONE || code_area[start + 2] != 128;
	}
	check_equal("an instruction that doubles its own immediate: wrong", wrong, 0);
	/* A REP STOSB that runs over itself: whatever comes, it comes here. */
	wrong = 0;
	for (u32 down = 0; down < 2; down++) {
		u8 bytes[] = {0xF3, 0xAA, CODE_DONE};
		struct state s = state_at(code_put(2048, bytes, sizeof bytes), 3);
		s.eax = 0xCC;
		s.ecx = 64;
		s.edi = (u32)code_area + 2048 + (down ? 32 : -32u);
		s.eflags |= down ? EFLAGS_DF : 0;
		run(&s);
		u32 filled = 0;
		for (u32 i = 0; i < 64; i++) filled += code_area[2048 - 31 + i] == 0xCC;
		wrong += (s.vector != 3 && s.vector != RUN_DONE) || filled < 31;
	}
	check_equal("rep stosb over itself: wrong", wrong, 0);
	/* Each of 600 instructions makes the next one: mov byte [ebx+12], its missing first byte; lea ebx, [ebx+8]. */
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		u8 *p = code_area + 3000;
		for (u32 i = 0; i < 600; i++, p += 8) memcpy(p, (const u8[]){0xF4, 0x43, 0x0C, 0xC6, 0x8D, 0x5B, 0x08, 0x90}, 8);
		memcpy(p, (const u8[]){0xF4, 0x81, 0x90, 0x90}, 4);
		memcpy(p - 4, (const u8[]){0x8D, 0x5B, 0x08, 0x90}, 4);
		p[-8 + 3] = 0xCD; /* the last one makes INT */
		code_area[3000] = 0xC6;
		code_area[3000 + 3] = 0xC6;
		struct state s = state_at(code_area + 3000, cpl);
		s.ebx = (u32)code_area + 3000 - 4;
		run(&s);
		check_equal(cpl ? "each makes the next one, CPL 3" : "each makes the next one, CPL 0", s.vector << 16 | (s.ebx - (u32)code_area - 2996),
			    RUN_DONE << 16 | 600 * 8);
	}
}

/* Code and its data in one page, both in use all the time: the trace is dropped and made again. */
static void test_retrace(void)
{
	/* 0: inc dword [data]; mov byte [imm], cl; 1: mov edx, imm; add esi, edx; loop 0b; int 81h */
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		u32 data = (u32)code_area + 3 * 4096 + 2048, imm = (u32)code_area + 3 * 4096 + 13;
		u8 bytes[] = {0xFF, 0x05, 0, 0, 0, 0, 0x88, 0x0D, 0, 0, 0, 0, 0xBA, 0, 0, 0, 0, 0x01, 0xD6, 0xE2, 0xEB, CODE_DONE};
		memcpy(bytes + 2, &data, 4);
		memcpy(bytes + 8, &imm, 4);
		struct state s = state_at(code_put(3 * 4096, bytes, sizeof bytes), cpl);
		s.esi = 0;
		s.ecx = 20000;
		*(volatile u32 *)data = 0;
		run(&s);
		u32 sum = 0;
		for (u32 i = 1; i <= 20000; i++) sum += i & 0xFF;
		check(cpl ? "20000 rewrites beside data, CPL 3" : "20000 rewrites beside data, CPL 0",
		      s.vector == RUN_DONE && s.esi == sum && *(volatile u32 *)data == 20000);
	}
}

/* The frame is written through another linear address, and at another privilege. */
static void test_alias(void)
{
	u32 wrong = 0, alias = 0x1900000;
	pte_set(alias, ((u32)code_area + 4096) | P | W | U);
	for (u32 round = 0; round < 2000; round++) {
		if (round == 0) code_put(4096, (const u8[]){0xB8, 0, 0, 0, 0, CODE_DONE}, 7);
		if (round & 1) *(volatile u32 *)(alias + 1) = round;
		else {
			u32 to = alias + 1, count = 1;
			__asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(round) : "memory");
		}
		struct state s = state_at(code_area + 4096, round & 2 ? 3 : 0);
		run(&s);
		wrong += s.vector != RUN_DONE || s.eax != round;
	}
	check_equal("code written through an alias: wrong", wrong, 0);
	pte_set(alias, alias | P | W | U);
}

void guest_main(void)
{
	paging_enable();
	WRITE_CR(4, READ_CR(4) | 0x600);
	WRITE_CR(0, (READ_CR(0) | 0x22) & ~0xCu);
	__asm__ volatile("fninit");
	test_each(stores, sizeof stores / sizeof *stores, false);
	test_each(pushes, sizeof pushes / sizeof *pushes, true);
	test_itself();
	test_retrace();
	test_alias();
}
