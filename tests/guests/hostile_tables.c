/* Page tables and descriptor tables in places where no system puts them: page tables that map themselves and each other, that are code
 * and stack as well, that user code may write; descriptor tables that overlap, that end where memory ends, that lie where none is. */
#include "guest.h"

#define SLOT_A 40u /* directory slots that paging_init leaves empty */
#define SLOT_B 41u
#define SELF 1000u
#define VA_A (SLOT_A << 22)
#define RAM_END (64u << 20)
#define BEYOND 0xF0000000u
#define FLUSH 0x91 /* `int` for user code: reload CR3 */

static u32 other_directory[1024] __attribute__((aligned(4096)));
static u32 table[1024] __attribute__((aligned(4096)));
static u8 *frames[16];

static volatile u32 *word(u32 va) { return (volatile u32 *)va; }

static void flush(struct trap_frame *f)
{
	(void)f;
	WRITE_CR(3, READ_CR(3));
}

static void make_frames(void)
{
	for (u32 i = 0; i < 16; i++) {
		if (!frames[i]) frames[i] = frame_alloc();
		for (u32 j = 0; j < 1024; j++) ((u32 *)frames[i])[j] = i << 16 | j;
	}
}

/* The recursive slot: page tables appear as pages, the directory as the last of them. */
static void test_recursive(void)
{
	u32 wrong = 0, window = SELF << 22, ptes = window + SLOT_A * 4096, directory = window + SELF * 4096;
	memset(table, 0, sizeof table);
	page_directory[SLOT_A] = (u32)table | P | W | U;
	page_directory[SELF] = (u32)page_directory | P | W | U;
	WRITE_CR(3, page_directory);
	wrong += *word(directory + 4 * SELF) >> 12 != (u32)page_directory >> 12;
	for (u32 i = 0; i < 4000; i++) {
		u32 page = i * 7 % 1024, frame = i % 16;
		word(ptes)[page] = (u32)frames[frame] | P | W | U;
		invlpg(VA_A + page * 4096);
		wrong += *word(VA_A + page * 4096 + 20) != (frame << 16 | 5);
		*word(VA_A + page * 4096 + 20) = frame << 16 | 5;
		wrong += (table[page] & (D | A)) != (D | A);
	}
	check_equal("page tables written through the directory that maps itself: wrong", wrong, 0);
	/* The recursive entry takes itself away, and comes back by the identity mapping. */
	wrong = 0;
	for (u32 i = 0; i < 200; i++) {
		word(directory)[SELF] = 0;
		invlpg(directory);
		WRITE_CR(3, page_directory);
		struct state s = state_at(CODE(0x8B, 0x03, CODE_DONE), i & 1 ? 3 : 0);
		s.ebx = directory;
		run(&s);
		wrong += s.vector != 14 || s.cr2 != directory;
		page_directory[SELF] = (u32)page_directory | P | W | U;
		s = state_at(code_area, i & 1 ? 3 : 0);
		s.ebx = directory + 4 * SELF;
		run(&s);
		wrong += s.vector != RUN_DONE || s.eax >> 12 != (u32)page_directory >> 12;
	}
	check_equal("the directory unmaps itself: wrong", wrong, 0);
}

/* User code that writes its own page tables: it gets what it asks for of the guest's memory, and nothing of the host's. */
static void test_user_tables(void)
{
	static const u32 targets[] = {0, 0x9F000, 0xA0000, 0xB8000, 0xFF000, RAM_END - 4096, RAM_END, RAM_END + 4096, 0x7FFFF000, 0x80000000, 0xBFFFF000,
				      BEYOND, 0xFEC00000, 0xFEE00000, 0xFFFFF000};
	u32 wrong = 0;
	idt_set(FLUSH, (u32)(trap_stubs + 16 * FLUSH), CODE0, 0xEE);
	trap_handle(FLUSH, flush);
	/* mov [ebx], edx; int FLUSH; mov eax, [esi]; mov edx, [esi+0FFCh]; mov [esi+ecx], eax; int 81h */
	u8 *code = CODE(0x89, 0x13, 0xCD, FLUSH, 0x8B, 0x06, 0x8B, 0x96, 0xFC, 0x0F, 0, 0, 0x89, 0x04, 0x0E, CODE_DONE);
	for (u32 round = 0; round < 3; round++)
		for (u32 i = 0; i < sizeof targets / sizeof *targets; i++) {
			struct state s = state_at(code, 3);
			bool is_ram = targets[i] < RAM_END && (targets[i] < 0xA0000 || targets[i] >= 0x100000);
			s.ebx = (SELF << 22) + SLOT_A * 4096;
			s.edx = targets[i] | P | W | U;
			s.esi = VA_A;
			s.ecx = 8;
			u32 expected = is_ram && targets[i] < PAGED_MIB << 20 ? *word(targets[i]) : 0;
			run(&s);
			wrong += s.vector != RUN_DONE || (is_ram && targets[i] < PAGED_MIB << 20 && s.eax != expected);
			if (is_ram && targets[i] >= 0x100000) wrong += *word(VA_A + 8) != s.eax;
		}
	check_equal("user code writes its own page tables: wrong", wrong, 0);
	/* Fetching from there: no instruction is all ones, and nothing may be found. */
	wrong = 0;
	for (u32 i = 0; i < sizeof targets / sizeof *targets; i++) {
		if (targets[i] < RAM_END) continue;
		table[0] = targets[i] | P | W | U;
		invlpg(VA_A);
		struct state s = state_at((void *)(VA_A + 64), 3);
		run(&s);
		wrong += s.vector == RUN_DONE;
	}
	check_equal("code where no memory is: wrong", wrong, 0);
}

/* Two directories, each a page table of the other. */
static void test_each_other(void)
{
	u32 wrong = 0;
	memcpy(other_directory, page_directory, 4096);
	page_directory[SLOT_B] = (u32)other_directory | P | W | U;
	other_directory[SLOT_B] = (u32)page_directory | P | W | U;
	for (u32 i = 0; i < 600; i++) {
		u32 *mine = i & 1 ? other_directory : page_directory, *theirs = i & 1 ? page_directory : other_directory;
		WRITE_CR(3, mine);
		/* Page n of the slot is what the other directory's slot n points to: its first table, mapped as a page. */
		u32 seen = *word((SLOT_B << 22) + SLOT_A * 4096 + (i % 64) * 4);
		wrong += seen != ((u32 *)(theirs[SLOT_A] & ~0xFFFu))[i % 64];
		/* And the other way round: the other directory's entry is written, seen from the next round on. */
		theirs[SLOT_A + 2] = (u32)frames[i % 16] | P | W | U;
		WRITE_CR(3, mine);
		wrong += *word((SLOT_B << 22) + (SLOT_A + 2) * 4096 + 40) != ((i % 16) << 16 | 10);
	}
	WRITE_CR(3, page_directory);
	check_equal("directories that are each other's page tables: wrong", wrong, 0);
}

/* One frame is page table, code and stack: a push maps another page. */
static void test_three_in_one(void)
{
	u32 wrong = 0;
	memset(table, 0, sizeof table);
	page_directory[SLOT_A] = (u32)table | P | W | U;
	WRITE_CR(3, page_directory);
	u8 *code = (u8 *)table + 2048;
	/* push edx; invlpg [ebx]; mov eax, [ebx]; add esp, 4; int 81h */
	memcpy(code, (const u8[]){0x52, 0x0F, 0x01, 0x3B, 0x8B, 0x03, 0x83, 0xC4, 0x04, 0x89, 0xFC, CODE_DONE}, 13);
	for (u32 i = 0; i < 2000; i++) {
		u32 page = i % 64, frame = (i * 5 + i / 64) % 16;
		struct state s = state_at(code, 0);
		s.esp = (u32)&table[page + 1];
		s.edi = (u32)user_stack + 4096;
		s.ebx = VA_A + page * 4096;
		s.edx = (u32)frames[frame] | P | W | U;
		run(&s);
		wrong += s.vector != RUN_DONE || s.eax != frame << 16;
	}
	check_equal("one frame is page table, code and stack: wrong", wrong, 0);
	/* Code in a page table that runs through the mapping which it takes away. The page is gone after the INVLPG at the latest; after the
	 * store it may be. */
	wrong = 0;
	for (u32 i = 0; i < 300; i++) {
		u32 va = VA_A + 5 * 4096;
		table[5] = (u32)table | P | W | U;
		invlpg(va);
		/* at va + 3072: mov [esi], ecx; invlpg [ebx]; mov eax, 1; int 81h */
		memcpy((u8 *)table + 3072, (const u8[]){0x89, 0x0E, 0x0F, 0x01, 0x3B, 0xB8, 1, 0, 0, 0, CODE_DONE}, 12);
		struct state s = state_at((void *)(va + 3072), 0);
		s.esi = (u32)&table[5];
		s.ecx = i & 1 ? (u32)frames[0] | P | W : 0;
		s.ebx = va;
		memcpy(frames[0] + 3072, (const u8[]){0xF4, 0xF4, 0x0F, 0x01, 0x3B, 0xB8, 2, 0, 0, 0, CODE_DONE}, 12);
		run(&s);
		if (i & 1) wrong += s.vector != RUN_DONE || s.eax != 2;
		else wrong += s.vector != 14 || s.cr2 != s.eip || (s.eip != va + 3072 + 2 && s.eip != va + 3072 + 5);
	}
	check_equal("code takes its own page away: wrong", wrong, 0);
	table[5] = 0;
}

/* Page tables and directories where there is no memory. Whatever they read as, the guest goes on. */
static void test_beyond(void)
{
	static const u32 places[] = {RAM_END, BEYOND, 0xFFFFF000, 0xA0000, 0xFEE00000};
	u32 wrong = 0;
	for (u32 i = 0; i < sizeof places / sizeof *places; i++)
		for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
			page_directory[SLOT_A] = places[i] | P | W | U;
			WRITE_CR(3, page_directory);
			struct state s = state_at(CODE(0x8B, 0x03, 0x89, 0x03, CODE_DONE), cpl);
			s.ebx = VA_A + 0x1234;
			run(&s);
			wrong += s.vector != 14 && s.vector != RUN_DONE;
			s = state_at((void *)(VA_A + 0x3000), cpl);
			run(&s);
			wrong += s.vector == RUN_DONE;
		}
	page_directory[SLOT_A] = (u32)table | P | W | U;
	WRITE_CR(3, page_directory);
	check_equal("page tables where no memory is: wrong", wrong, 0);
}

/* --- descriptor tables --- */

struct pointer {
	u16 limit;
	u32 base;
} __attribute__((packed));
static struct pointer saved_gdt, saved_idt;

static void restore_tables(void)
{
	__asm__ volatile("lgdt %0; lidt %1" : : "m"(saved_gdt), "m"(saved_idt));
}

static void copy_tables(u32 gdt_at, u32 gdt_limit, u32 idt_at)
{
	struct pointer g = {(u16)gdt_limit, gdt_at}, i = {0x7FF, idt_at};
	memcpy((void *)gdt_at, (void *)saved_gdt.base, 6 * 8);
	memcpy((void *)idt_at, (void *)saved_idt.base, 0x92 * 8);
	__asm__ volatile("lgdt %0; lidt %1" : : "m"(g), "m"(i));
}

/* Selectors all over a GDT that leaves memory behind its first entries: any exception will do, or none. */
static void try_selectors(const char *name)
{
	/* mov fs, ecx; int 81h and lar, lsl, verr, verw of it */
	u8 *code = CODE(0x0F, 0x02, 0xC1, 0x0F, 0x03, 0xD1, 0x0F, 0x00, 0xE1, 0x0F, 0x00, 0xE9, 0x8E, 0xE1, CODE_DONE);
	u32 runs = 0, lost = 0;
	for (u32 selector = 0; selector < 0x10000; selector += selector < 0x200 ? 1 : 257) {
		struct state s = state_at(code, selector & 1 ? 0 : 3);
		s.ecx = selector;
		run(&s);
		lost += s.vector != RUN_DONE && (s.vector < 10 || s.vector > 14);
		runs++;
	}
	restore_tables();
	check(name, runs > 500 && lost == 0);
}

static void test_descriptor_tables(void)
{
	__asm__ volatile("sgdt %0; sidt %1" : "=m"(saved_gdt), "=m"(saved_idt));
	/* The last frames of memory and what follows, mapped where the identity mapping does not reach. */
	for (u32 i = 0; i < 8; i++) table[100 + i] = (RAM_END - 0x4000 + i * 4096) | P | W | U;
	WRITE_CR(3, page_directory);
	u32 end = VA_A + 104 * 4096;
	copy_tables(end - 6 * 8, 0xFFFF, end - 0x2000);
	try_selectors("a GDT that memory ends in");
	copy_tables(end - 0x1000, 0xFFFF, end - 0x92 * 8);
	try_selectors("an IDT that memory ends in");
	/* The IDT's first gates are the GDT's last descriptors. */
	u32 at = VA_A + 100 * 4096 + 64;
	copy_tables(at, 0xFFFF, at + 6 * 8);
	try_selectors("tables that overlap");
	/* Tables that the linear address space wraps in: limit 64 KiB from 64 bytes before its end. */
	copy_tables(end - 6 * 8 - 3, 0xFFFF, end - 0x2000 + 5);
	try_selectors("tables at odd addresses");
	/* GDT in a page table: loading a segment sets the accessed bit in a page-table entry. */
	copy_tables((u32)table + 256, 0x3F, end - 0x2000);
	volatile u32 *rights = &table[64 + 2 * 2 + 1];
	u32 before = *rights;
	*rights = before & ~0x100u;
	__asm__ volatile("mov %0, %%fs" : : "r"(DATA0) : "memory");
	u32 after = *rights;
	restore_tables();
	check_equal("a GDT in a page table", after, before);
	__asm__ volatile("mov %0, %%fs" : : "r"(DATA0));
}

static u32 call(u32 at)
{
	u32 eax;
	__asm__ volatile("call *%1" : "=a"(eax) : "0"(at) : "ecx", "edx", "memory");
	return eax;
}

/* MOV EAX, imm32 over the boundary of two slots that many others share a page table with; then its first page becomes another. */
static bool straddling_call_is_fresh(u32 sharers)
{
	u32 at = VA_A + (380 << 22) - 2;
	static const u8 code[] = {0xB8, 0x11, 0x22, 0x33, 0x44, 0xC3};
	memcpy(frames[0] + 4094, code, 2);
	memcpy(frames[1] + 4094, code, 2);
	frames[1][4095] = 0x99;
	memcpy(frames[2], code + 2, 4);
	memset(table, 0, sizeof table);
	table[1023] = (u32)frames[0] | P | W | U;
	table[0] = (u32)frames[2] | P | W | U;
	table[5] = (u32)frames[3] | P | W | U;
	for (u32 i = 0; i < 400; i++) page_directory[SLOT_A + i] = (u32)table | P | W | U;
	WRITE_CR(3, page_directory);
	for (u32 i = 0; i < sharers; i++) (void)*word(VA_A + (i << 22) + 0x5000);
	bool right = call(at) == 0x44332211;
	table[1023] = (u32)frames[1] | P | W | U;
	invlpg(at);
	right &= call(at) == 0x44332299;
	for (u32 i = 0; i < 400; i++) page_directory[SLOT_A + i] = 0;
	WRITE_CR(3, page_directory);
	return right;
}

static void test_shared_table(void)
{
	u32 wrong = 0;
	for (u32 sharers = 250; sharers < 262; sharers++) wrong += !straddling_call_is_fresh(sharers);
	check_equal("an instruction on two pages whose page table has many users: stale", wrong, 0);
}

void guest_main(void)
{
	paging_enable();
	make_frames();
	test_recursive();
	test_user_tables();
	make_frames();
	test_each_other();
	test_three_in_one();
	test_beyond();
	test_descriptor_tables();
	test_shared_table();
}
