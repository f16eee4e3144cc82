/* A store rewrites what follows it at once, and that needed no code of a translator's own. */
#include "guest.h"

/* The next instruction needs no code of a translator's: NOPs, or a jump over others. Four INC ECX take its place. */
static void test_nothing(void)
{
	static const u8 ways[][6] = {{0x90, 0x90, 0x90, 0x90}, {0xEB, 0x02, 0x0F, 0x0B}, {0x66, 0x90, 0xEB, 0x00}};
	static const u8 how[][2] = {{0x89, 0x13}, {0x87, 0x13}};
	u32 wrong = 0;
	for (u32 round = 0; round < 96; round++) {
		const u8 *way = ways[round % 3], *store = how[round / 3 % 2];
		u8 bytes[] = {store[0], store[1], way[0], way[1], way[2], way[3], 0x40, CODE_DONE};
		struct state s = state_at(code_put(64, bytes, sizeof bytes), round & 8 ? 3 : 0);
		s.ebx = s.eip + 2;
		s.edx = 0x41414141;
		s.eax = s.ecx = 0;
		run(&s);
		wrong += s.vector != RUN_DONE || s.ecx != 4 || s.eax != 1;
	}
	check_equal("what needs no code becomes what does: wrong", wrong, 0);
}

void guest_main(void)
{
	paging_enable();
	test_nothing();
}
