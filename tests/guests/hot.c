/* A guest whose time goes to known places, for tests of what tells where time goes: hot() is called by warm(), by guest_main(). */
#include "guest.h"

#define ROUNDS 200u /* with "long" on the command line 150 times as many */
#define REGION 0x1800000u
#define PAGES 256u

static __attribute__((noinline)) u32 hot(u32 seed)
{
	for (u32 i = 0; i < 20000; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 17;
		seed ^= seed << 5;
	}
	return seed;
}

/* Does something with the result, so that it is called and not jumped to. */
static __attribute__((noinline)) u32 warm(u32 seed)
{
	return hot(seed) | 1;
}

/* Each SIDT asks C. */
static __attribute__((noinline)) u32 asks(void)
{
	u8 table[6];
	u32 sum = 0;
	for (u32 i = 0; i < 5000; i++) {
		__asm__ volatile("sidt %0" : "=m"(table));
		sum += table[0]; /* of the limit: 7FFh */
	}
	return sum;
}

static void give_page(struct trap_frame *f)
{
	u32 page = READ_CR(2) & ~0xFFFu;
	(void)f;
	pte_set(page, page | P | W | U);
}

/* Each read meets a page that is not there. */
static __attribute__((noinline)) u32 touches(void)
{
	u32 sum = 0;
	for (u32 i = 0; i < PAGES; i++) sum += *(volatile u32 *)(REGION + i * 4096);
	return sum;
}

static bool is_long(void)
{
	const u32 *info = (const u32 *)multiboot_info;
	const char *line = info[0] & 4 ? (const char *)info[4] : "";
	for (; *line; line++)
		if (!memcmp(line, "long", 4)) return true;
	return false;
}

void guest_main(void)
{
	u32 seed = 12345, rounds = is_long() ? 150 * ROUNDS : ROUNDS;
	for (u32 i = 0; i < rounds; i++) seed = warm(seed);
	check("hot", seed & 1);
	check_equal("asks", asks(), 5000 * 0xFF);
	paging_enable();
	for (u32 i = 0; i < PAGES; i++) pte_set(REGION + i * 4096, 0);
	trap_handle(14, give_page);
	check_equal("touches", touches(), touches());
}
