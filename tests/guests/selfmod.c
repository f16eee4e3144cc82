/* Code that changes: IA-32 promises that a store is seen by the next instruction fetched (SDM vol. 3, 8.1.3 and 11.6). */
#include "guest.h"

#define VA 0x1800000u

typedef u32 code_function(u32 argument);

/* b8 imm32; c3 */
static void put_constant(u32 va, u32 value)
{
	*byte_at(va) = 0xB8;
	*(volatile u32 *)(va + 1) = value;
	*byte_at(va + 5) = 0xC3;
}

static u32 call_at(u32 va, u32 argument)
{
	u32 result;
	__asm__ volatile("call *%1" : "=a"(result) : "r"(va), "a"(argument) : "ecx", "edx", "memory", "cc");
	return result;
}

static void test_rewrite(const char *name, u32 va)
{
	u32 wrong = 0;
	for (u32 i = 0; i < 100; i++) {
		put_constant(va, i * 3);
		wrong += call_at(va, 0) != i * 3;
	}
	check_equal(name, wrong, 0);
	/* One byte of the immediate at a time. */
	put_constant(va, 0);
	call_at(va, 0);
	for (u32 i = 0; i < 100; i++) {
		*byte_at(va + 1 + (i & 3)) = (u8)(i + 1);
		u32 expected = *(volatile u32 *)(va + 1);
		wrong += call_at(va, 0) != expected;
	}
	check_equal(name, wrong, 0);
}

/* Stores into the block that makes them. */
static void test_own_block(void)
{
	/* mov byte [next+1],0x77 ; mov al,0x11 ; int 0x81: the store hits the very next instruction */
	u8 next[] = {0xC6, 0x05, 0, 0, 0, 0, 0x77, 0xB0, 0x11, CODE_DONE};
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		u8 *code = code_put(0x100, next, sizeof next);
		u32 target = (u32)code + 8;
		memcpy(code + 2, &target, 4);
		for (u32 i = 0; i < 5; i++) {
			code[8] = 0x11;
			struct state s = state_at(code, cpl);
			run(&s);
			if (i == 4) check_equal("store into the next instruction", s.eax & 0xFF, 0x77);
		}
	}
	/* inc eax becomes dec eax behind us, with straight code between. */
	u8 loop[] = {0x31, 0xC0, 0xB9, 10, 0, 0, 0, 0x40, 0x80, 0x35, 0, 0, 0, 0, 0x08, 0xE2, 0xF6, CODE_DONE};
	u8 *code = code_put(0x200, loop, sizeof loop);
	u32 target = (u32)code + 7;
	memcpy(code + 10, &target, 4);
	struct state s = state_at(code, 3);
	run(&s);
	check_equal("loop that flips inc and dec: ends", s.vector, RUN_DONE);
	check_equal("loop that flips inc and dec", s.eax, 0);
	/* A loop that bumps its own immediate: add eax,imm32; inc dword [imm]; loop. Sum 1..100. */
	u8 bump[] = {0x31, 0xC0, 0xB9, 100, 0, 0, 0, 0x05, 1, 0, 0, 0, 0xFF, 0x05, 0, 0, 0, 0, 0xE2, 0xF3, CODE_DONE};
	code = code_put(0x300, bump, sizeof bump);
	target = (u32)code + 8;
	memcpy(code + 14, &target, 4);
	s = state_at(code, 3);
	run(&s);
	check_equal("loop that increments its own immediate", s.eax, 5050);
	/* rep stosb over the code that follows it: nops over an ud2. */
	u8 strings[] = {0xF3, 0xAA, 0x0F, 0x0B, 0x0F, 0x0B, CODE_DONE};
	code = code_put(0x400, strings, sizeof strings);
	s = state_at(code, 3);
	s.eax = 0x90;
	s.edi = (u32)code + 2;
	s.ecx = 4;
	run_expect("rep stosb over what follows", &s, RUN_DONE, 0, 8);
	/* rep stosb over itself: the instruction that runs is the old one until it is done. */
	code = code_put(0x400, strings, sizeof strings);
	s = state_at(code, 3);
	s.eax = 0x90;
	s.edi = (u32)code + 5;
	s.ecx = 1;
	run_expect("one byte over an instruction further on", &s, 6, 0, 2);
	/* push and call store too. */
	u8 pushes[] = {0x50, 0x0F, 0x0B, 0x0F, 0x0B, CODE_DONE};
	code = code_put(0x500, pushes, sizeof pushes);
	s = state_at(code, 0);
	s.eax = 0x90909090;
	s.esp = (u32)code + 5;
	/* run's target runs on that stack: int 0x81 at CPL 0 would push over the code. Only CPL 3 has a stack of its own. */
	s.cs = CODE3;
	s.ss = s.ds = s.es = s.fs = s.gs = DATA3;
	run_expect("push over the next instruction", &s, RUN_DONE, 0, 7);
	u8 xchg[] = {0x87, 0x03, 0x0F, 0x0B, 0x0F, 0x0B, CODE_DONE};
	code = code_put(0x600, xchg, sizeof xchg);
	s = state_at(code, 3);
	s.eax = 0x90909090;
	s.ebx = (u32)code + 2;
	run_expect("xchg with the next instruction", &s, RUN_DONE, 0, 8);
	check_equal("and its result", s.eax, 0x0B0F0B0F);
}

static void test_alias(void)
{
	u32 va = VA + 0x10000, alias = VA + 0x20000;
	pte_set(alias, va | P | W | U);
	put_constant(va, 1);
	check_equal("before", call_at(va, 0), 1);
	*byte_at(alias + 1) = 2;
	check_equal("store through another mapping", call_at(va, 0), 2);
	check_equal("the alias runs too", call_at(alias, 0), 2);
	*byte_at(va + 1) = 3;
	check_equal("both see it", call_at(va, 0) * 16 + call_at(alias, 0), 0x33);
	/* The store and the changed code in one block, by way of the alias. */
	u8 next[] = {0xC6, 0x05, 0, 0, 0, 0, 0x77, 0xB0, 0x11, CODE_DONE};
	u32 target = alias + 0x108;
	memcpy(next + 2, &target, 4);
	for (u32 i = 0; i < 3; i++) {
		memcpy((void *)(va + 0x100), next, sizeof next);
		struct state s = state_at((void *)(va + 0x100), 3);
		run(&s);
		if (i == 2) check_equal("store into the next instruction through an alias", s.eax & 0xFF, 0x77);
	}
	/* Remap under running code: same address, other frame. */
	put_constant(VA + 0x30000, 0x30);
	put_constant(VA + 0x31000, 0x31);
	u32 wrong = 0;
	for (u32 i = 0; i < 20; i++) {
		pte_set(alias, (VA + 0x30000 + (i & 1) * 0x1000) | P | W | U);
		wrong += call_at(alias, 0) != 0x30 + (i & 1);
	}
	check_equal("remapped under the code: wrong", wrong, 0);
	pte_set(alias, alias | P | W | U);
}

static void test_crossing(void)
{
	u32 edge = VA + 0x41000, wrong = 0;
	for (u32 start = edge - 5; start < edge; start++) {
		put_constant(start, 0);
		for (u32 i = 0; i < 4; i++) {
			call_at(start, 0);
			*byte_at(start + 1 + i) = (u8)(0x11 * (i + 1));
			wrong += call_at(start, 0) != (0x44332211u & (0xFFFFFFFFu >> (24 - 8 * i)));
		}
	}
	check_equal("instruction over a page boundary rewritten: wrong", wrong, 0);
	put_constant(edge - 3, 0x11111111);
	call_at(edge - 3, 0);
	/* Exchange only the second page. */
	*(volatile u32 *)(VA + 0x50000) = 0x00C32222;
	pte_set(edge, (VA + 0x50000) | P | W | U);
	*(volatile u32 *)(VA + 0x50000) = 0xC32222;
	check_equal("second page of an instruction exchanged", call_at(edge - 3, 0), 0x22221111);
	pte_set(edge, edge | P | W | U);
	check_equal("and back", call_at(edge - 3, 0), 0x11111111);
}

/* Code that counts in its own page, next to itself: correct, and it must end in reasonable time. */
static void test_mixed_page(void)
{
	u8 mixed[] = {0xB9, 0x20, 0x4E, 0, 0, 0xFF, 0x05, 0, 0, 0, 0, 0xE2, 0xF8, CODE_DONE};
	u8 *code = code_put(0x1000, mixed, sizeof mixed);
	u32 counter = (u32)code + 0x80;
	memcpy(code + 7, &counter, 4);
	*(volatile u32 *)counter = 0;
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		struct state s = state_at(code, cpl);
		run(&s);
	}
	check_equal("20,000 stores beside the code, twice", *(volatile u32 *)counter, 40000);
	/* A stack in the code's page. */
	u8 stack[] = {0x31, 0xC0, 0xB9, 0xE8, 3, 0, 0, 0x51, 0x03, 0x04, 0x24, 0x5A, 0xE2, 0xF9, CODE_DONE};
	code = code_put(0x2000, stack, sizeof stack);
	struct state s = state_at(code, 3);
	s.esp = (u32)code + 0x800;
	run(&s);
	check_equal("stack in the code's page", s.eax, 500500);
}

/* A code generator: writes a function, calls it, writes another over it, with and without a jump between. */
static void test_generator(void)
{
	u32 va = VA + 0x60000, wrong = 0;
	for (u32 i = 0; i < 200; i++) {
		u32 at = va + (i * 37 & 0xFFF);
		/* lea eax,[eax+i]; ret */
		*byte_at(at) = 0x8D;
		*byte_at(at + 1) = 0x80;
		*(volatile u32 *)(at + 2) = i;
		*byte_at(at + 6) = 0xC3;
		wrong += call_at(at, 1000) != 1000 + i;
	}
	check_equal("generated functions: wrong", wrong, 0);
	for (u32 i = 0; i < 50; i++) {
		/* Whole page copied over by rep movs, the old page's code having run. */
		put_constant(VA + 0x70000 + 0x20, i);
		u32 count = 1024, from = VA + 0x70000, to = va;
		__asm__ volatile("rep movsl" : "+c"(count), "+S"(from), "+D"(to) : : "memory");
		wrong += call_at(va + 0x20, 0) != i;
	}
	check_equal("pages of code copied over: wrong", wrong, 0);
	/* A patched call: the five bytes that a kernel switches between a nop and a jump. */
	u8 site[] = {0xB8, 1, 0, 0, 0, 0x0F, 0x1F, 0x44, 0, 0, 0xC3, 0xB8, 2, 0, 0, 0, 0xC3};
	u8 jump[] = {0xE9, 1, 0, 0, 0};
	memcpy((void *)va, site, sizeof site);
	for (u32 i = 0; i < 40; i++) {
		memcpy((void *)(va + 5), i & 1 ? jump : site + 5, 5);
		wrong += call_at(va, 0) != 1 + (i & 1);
	}
	check_equal("jump label switched: wrong", wrong, 0);
}

/* A function changes the code that its caller goes on with: what a return goes back to must be as new. */
static void test_callee(void)
{
	u32 caller = VA + 0x30100, callee = VA + 0x31200, wrong = 0;
	u8 caller_code[] = {0xE8, 0, 0, 0, 0, 0xB8, 0, 0, 0, 0, 0xC3};      /* call callee; mov eax, 0; ret */
	u8 callee_code[] = {0x88, 0x0D, 0, 0, 0, 0, 0xC3};                  /* mov [imm of the mov], cl; ret */
	*(u32 *)(caller_code + 1) = callee - (caller + 5);
	*(u32 *)(callee_code + 2) = caller + 6;
	memcpy((void *)caller, caller_code, sizeof caller_code);
	memcpy((void *)callee, callee_code, sizeof callee_code);
	for (u32 i = 1; i < 60; i++) {
		u32 result, count = i;
		__asm__ volatile("call *%2" : "=a"(result), "+c"(count) : "r"(caller) : "memory");
		wrong += result != i;
	}
	check_equal("callee rewrites what its caller goes on with: wrong", wrong, 0);
}

/* Page tables that are code: the immediate of `mov eax, imm32` is an entry, in which the processor itself sets A and D. */
static void test_table_code(void)
{
	static const u8 first[] = {0xB8, VA & 0xFF, VA >> 8 & 0xFF, VA >> 16 & 0xFF, VA >> 24, 0xC3};
	u8 *table = frame_alloc(), *directory = (u8 *)page_directory;
	volatile u32 *entry = (volatile u32 *)table;
	u32 region = 16, page = region << 22 | 0x1000, wrong = 0;
	memcpy(table + 3, first, sizeof first);
	entry[1] |= P | W | U;
	page_directory[region] = (u32)table | P | W | U;
	check_equal("a page table's entry as an immediate", call_at((u32)table + 3, 0), VA | P | W | U);
	(void)*byte_at(page);
	check_equal("its A bit is set", call_at((u32)table + 3, 0), VA | P | W | U | A);
	*byte_at(page) = 1;
	check_equal("its D bit is set", call_at((u32)table + 3, 0), VA | P | W | U | A | D);
	directory[4 * region - 1] = 0xB8;
	directory[4 * region + 4] = 0xC3;
	for (u32 i = 0; i < 20; i++) {
		page_directory[region] = (u32)table | P | W | U;
		WRITE_CR(3, page_directory);
		wrong += call_at((u32)directory + 4 * region - 1, 0) != ((u32)table | P | W | U);
		(void)*byte_at(page);
		wrong += call_at((u32)directory + 4 * region - 1, 0) != ((u32)table | P | W | U | A);
	}
	check_equal("a directory's entry: wrong", wrong, 0);
	/* mov cl, [the page]; mov eax, its entry; ret: the next instruction is another one. */
	u8 *code = table + 0x15;
	code[0] = 0x8A, code[1] = 0x0D, code[6] = 0xB8, code[11] = 0xC3;
	page = region << 22 | 0x7000;
	memcpy(code + 2, &page, 4);
	for (u32 i = 0; i < 40; i++) {
		entry[7] = VA | P | W | U;
		invlpg(page);
		wrong += call_at((u32)code, 0) != (VA | P | W | U | A);
	}
	check_equal("an entry that the instruction before it uses: wrong", wrong, 0);
	page_directory[region - 1] = page_directory[region] = page_directory[region + 1] = 0;
	WRITE_CR(3, page_directory);
}

void guest_main(void)
{
	test_rewrite("rewritten, paging off", VA + 0x800);
	paging_enable();
	test_rewrite("rewritten", VA);
	test_rewrite("rewritten over a page boundary", VA + 0x1FFE);
	test_own_block();
	test_alias();
	test_crossing();
	test_mixed_page();
	test_generator();
	test_callee();
	test_table_code();
}
