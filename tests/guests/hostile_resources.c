/* A guest that wants everything: thousands of address spaces, more mappings than a process may have, more code than the cache holds. The
 * monitor stays within its bounds (--chaos=fence looks at mappings, memory and descriptors), and the guest goes on as if nothing were. */
#include "guest.h"

#define SLOT 40u
#define VA (SLOT << 22)
#define SPACES 2000u
#define POOL 0x1000000u /* frames for what follows, up to the end of what paging_init maps */
#define POOL_END (PAGED_MIB << 20)

static volatile u32 *word(u32 va) { return (volatile u32 *)va; }

static u32 *directory_of(u32 i) { return (u32 *)(POOL + i * 4096); }

/* --- address spaces --- */

static void test_spaces(void)
{
	u32 wrong = 0;
	u32 *table = (u32 *)(POOL + SPACES * 4096), *data = (u32 *)(POOL + (SPACES + 1) * 4096);
	memset(table, 0, 4096);
	for (u32 i = 0; i < SPACES; i++) {
		memcpy(directory_of(i), page_directory, 4096);
		directory_of(i)[SLOT] = (u32)table | P | W | U;
	}
	for (u32 i = 0; i < 8; i++) table[i] = ((u32)data + i * 4096) | P | W | U;
	/* mov eax, [ebx]; add eax, edx; mov [ebx], eax; call +0; pop ecx; int 81h */
	u8 *code = CODE(0x8B, 0x03, 0x01, 0xD0, 0x89, 0x03, 0xE8, 0, 0, 0, 0, 0x59, CODE_DONE);
	*word((u32)data) = 0;
	for (u32 round = 0; round < 2; round++)
		for (u32 i = 0; i < SPACES; i++) {
			WRITE_CR(3, directory_of(i));
			struct state s = state_at(code, 3);
			s.ebx = VA;
			s.edx = 1;
			run(&s);
			wrong += s.vector != RUN_DONE || s.eax != round * SPACES + i + 1;
		}
	WRITE_CR(3, page_directory);
	check_equal("thousands of address spaces: wrong", wrong, 0);
}

/* --- host mappings --- */

/* The same few frames at 160 MiB of addresses, in an order that no run of the host's can cover; written and read. At CPL 0 all are direct. */
#define MANY_TABLES 40u
#define FRAMES 199u /* none at so many addresses that the list of its writers is cut */

static u32 many_tables(u32 i) { return POOL + (SPACES + 16 + i) * 4096; }
static u32 many_frame(u32 page) { return POOL + (SPACES + 80 + page * 37 % FRAMES) * 4096; }

static void map_many(u32 rights)
{
	for (u32 i = 0; i < MANY_TABLES; i++) {
		u32 *table = (u32 *)many_tables(i);
		for (u32 j = 0; j < 1024; j++) table[j] = many_frame(i * 1024 + j) | rights;
		page_directory[SLOT + 1 + i] = (u32)table | P | W | U;
	}
	WRITE_CR(3, page_directory);
}

static void test_mappings(void)
{
	u32 wrong = 0, base = (SLOT + 1) << 22;
	map_many(P | W | U);
	for (u32 page = 0; page < MANY_TABLES * 1024; page++) {
		u32 va = base + page * 4096 + 64;
		*word(va) = page;
		wrong += *word(many_frame(page) + 64) != page;
	}
	check_equal("more mappings than a process may have, CPL 0: wrong", wrong, 0);
	/* At CPL 3, long enough to be given a window: sum over all pages, several times.
	 * 1: mov edx, ebx; mov ecx, COUNT; 2: add eax, [edx]; add edx, 1000h; loop 2b; dec esi; jnz 1b; int 81h */
	for (u32 i = 0; i < FRAMES; i++) *word(many_frame(i) + 64) = i * i;
	u32 sum = 0;
	for (u32 page = 0; page < MANY_TABLES * 1024; page++) sum += *word(many_frame(page) + 64);
	u8 bytes[] = {0x89, 0xDA, 0xB9, 0, 0, 0, 0, 0x03, 0x02, 0x81, 0xC2, 0, 0x10, 0, 0, 0xE2, 0xF6, 0x4E, 0x75, 0xEC, CODE_DONE};
	u32 count = MANY_TABLES * 1024;
	memcpy(bytes + 3, &count, 4);
	struct state s = state_at(code_put(0, bytes, sizeof bytes), 3);
	s.eax = 0;
	s.ebx = base + 64;
	s.esi = 2;
	run(&s);
	check("more mappings than a process may have, CPL 3", s.vector == RUN_DONE && s.eax == 2 * sum);
	/* Mapped and unmapped for ever: every page's entry taken away and given back, alternately read-only. */
	wrong = 0;
	for (u32 i = 0; i < 8000; i++) {
		u32 page = i * 7919 % (MANY_TABLES * 1024), va = base + page * 4096 + 64;
		u32 *entry = (u32 *)many_tables(page / 1024) + page % 1024;
		*entry = 0;
		invlpg(va);
		*entry = many_frame(page + i) | P | (i & 1 ? W : 0) | U;
		invlpg(va);
		wrong += *word(va) != *word(many_frame(page + i) + 64);
	}
	check_equal("mapped and unmapped for ever: wrong", wrong, 0);
}

/* --- tables: all of 4 GiB, in many address spaces --- */

static void test_whole_spaces(void)
{
	u32 wrong = 0;
	u32 *table = (u32 *)many_tables(0), frame = many_frame(0);
	for (u32 i = 0; i < 1024; i++) table[i] = frame | P | W | U;
	for (u32 i = 0; i < 16; i++) {
		u32 *d = directory_of(i);
		for (u32 slot = 0; slot < 1024; slot++) d[slot] = slot < PAGED_MIB / 4 ? page_directory[slot] : (u32)table | P | W | U;
	}
	/* A word in each 2 MiB: mov ecx, N; 1: add [ebx], edx; add ebx, 200000h; loop 1b; int 81h */
	u8 *code = CODE(0xB9, 0xF0, 0x07, 0, 0, 0x01, 0x13, 0x81, 0xC3, 0, 0, 0x20, 0, 0xE2, 0xF6, CODE_DONE);
	*word(frame) = 0;
	for (u32 i = 0; i < 16; i++) {
		WRITE_CR(3, directory_of(i));
		struct state s = state_at(code, 3);
		s.ebx = PAGED_MIB << 20;
		s.edx = 1;
		run(&s);
		wrong += s.vector != RUN_DONE || *word(frame) != (i + 1) * 0x7F0;
	}
	/* Every page of 512 MiB, all one frame: no list of who may write it may grow without end. */
	code = CODE(0xB9, 0, 0, 2, 0, 0x01, 0x13, 0x81, 0xC3, 0, 0x10, 0, 0, 0xE2, 0xF6, CODE_DONE);
	struct state s = state_at(code, 3);
	*word(frame) = 0;
	s.ebx = PAGED_MIB << 20;
	s.edx = 1;
	run(&s);
	wrong += s.vector != RUN_DONE || *word(frame) != 0x20000;
	WRITE_CR(0, READ_CR(0) ^ 0x10000);
	WRITE_CR(3, page_directory);
	check_equal("all of 4 GiB in many address spaces: wrong", wrong, 0);
}

/* --- code --- */

/* As many blocks as there is room for, each run, rewritten, run again: inc eax; jmp to the next. */
static void test_code(void)
{
	u32 size = (POOL_END - POOL) / 2, count = size / 32, wrong = 0;
	for (u32 round = 0; round < 2; round++) {
		for (u32 i = 0; i < count; i++) {
			u8 *p = (u8 *)(POOL + i * 32);
			u32 distance = 32 - 6;
			p[0] = round ? 0x42 : 0x40; /* inc edx, inc eax */
			p[1] = 0xE9;
			memcpy(p + 2, &distance, 4);
		}
		memcpy((u8 *)(POOL + count * 32), (const u8[]){CODE_DONE}, 2);
		struct state s = state_at((void *)POOL, round ? 0 : 3);
		s.eax = s.edx = 0;
		run(&s);
		wrong += s.vector != RUN_DONE || (round ? s.edx : s.eax) != count;
	}
	check_equal("code in all of memory, run and rewritten: wrong", wrong, 0);
}

void guest_main(void)
{
	paging_enable();
	test_spaces();
	test_mappings();
	test_whole_spaces();
	test_code();
}
