/* Two-level paging (Intel SDM vol. 3, ch. 4): rights, error codes, accessed and dirty bits, edits of live tables, address-space switches. */
#include "guest.h"

#define REGION 0x1800000u /* 24 MiB: the page-table slot that tests may bend; its frames are its own identity */
#define SLOT (REGION >> 22)
#define LARGE 0x40000000u
#define RECURSIVE 0xFFC00000u

static u32 spare_table[1024] __attribute__((aligned(4096)));
static u32 spare_directory[1024] __attribute__((aligned(4096)));

static volatile u32 *at(u32 va)
{
	return (volatile u32 *)va;
}

static void set_pde(unsigned slot, u32 entry)
{
	page_directory[slot] = entry;
	WRITE_CR(3, READ_CR(3));
}

/* mov eax,[ebx] / mov [ebx],eax / jmp ebx (which finds int 0x81 there) */
static struct state access_state(unsigned kind, u32 va, unsigned cpl)
{
	u8 *code = kind == 0 ? CODE(0x8B, 0x03, CODE_DONE) : kind == 1 ? CODE(0x89, 0x03, CODE_DONE) : CODE(0xFF, 0xE3);
	struct state s = state_at(code, cpl);
	s.ebx = va;
	return s;
}

static u32 expected_error(u32 pte, u32 pde, unsigned kind, unsigned cpl, bool wp)
{
	bool user = cpl == 3, write = kind == 1;
	u32 both = pte & pde;
	u32 bits = (write ? 2 : 0) | (user ? 4 : 0);
	if (!(both & P)) return bits;
	if (user && !(both & U)) return bits | 1;
	if (write && !(both & W) && (user || wp)) return bits | 1;
	return 0xFFFF;
}

/* Every combination of rights in both levels, privilege, kind of access and CR0.WP. */
static void test_rights_matrix(void)
{
	u32 va = REGION + 0x5000, wrong = 0, runs = 0;
	u32 table = page_directory[SLOT] & ~0xFFFu;
	for (u32 i = 0; i < 64; i++) {
		u32 pte = i & 7, pde = i >> 3;
		for (u32 k = 0; k < 12; k++) {
			unsigned kind = k % 3, cpl = k / 3 & 1 ? 3 : 0;
			bool wp = k >= 6;
			page_directory[SLOT] = table | P | W | U;
			pte_set(va, (va & ~0xFFFu) | P | W | U);
			*at(va) = 0x909081CD;
			page_directory[SLOT] = table | pde;
			pte_set(va, (va & ~0xFFFu) | pte);
			WRITE_CR(0, wp ? READ_CR(0) | 0x10000 : READ_CR(0) & ~0x10000u);
			struct state s = access_state(kind, va, cpl);
			run(&s);
			u32 error = expected_error(pte, pde, kind, cpl, wp);
			bool good = error == 0xFFFF ? s.vector == RUN_DONE : s.vector == 14 && s.error == error && s.cr2 == va;
			runs++;
			if (!good && wrong++ < 5) {
				print("# pte %x pde %x kind %u cpl %u wp %u: trap %u error %x cr2 %x, expected %x\n", pte, pde, kind, cpl, wp,
				      s.vector, s.error, s.cr2, error);
			}
		}
	}
	page_directory[SLOT] = table | P | W | U;
	WRITE_CR(0, READ_CR(0) | 0x10000);
	pte_set(va, (va & ~0xFFFu) | P | W | U);
	check_equal("rights matrix: wrong answers", wrong, 0);
	check_equal("rights matrix: runs", runs, 768);
}

static void test_accessed_dirty(void)
{
	u32 va = REGION + 0x7000;
	page_directory[SLOT] &= ~A;
	pte_set(va, va | P | W | U);
	(void)*at(va);
	check_equal("read sets A, not D", *pte_of(va) & (A | D), A);
	check_equal("read sets A of the directory entry", page_directory[SLOT] & A, A);
	*at(va) = 1;
	check_equal("write sets D", *pte_of(va) & (A | D), A | D);
	pte_set(va, va | P | W | U);
	(void)*at(va);
	check_equal("A again after it was cleared", *pte_of(va) & (A | D), A);
	pte_set(va, va | P | W | U | A);
	*at(va) = 2;
	check_equal("D again after it was cleared", *pte_of(va) & (A | D), A | D);
	pte_set(va, va | P | U);
	struct state s = access_state(1, va, 0);
	run_expect("write to a read-only page", &s, 14, 3, 0);
	check_equal("a write that faults does not set D", *pte_of(va) & D, 0);
	WRITE_CR(0, READ_CR(0) & ~0x10000u);
	*at(va) = 3;
	WRITE_CR(0, READ_CR(0) | 0x10000);
	check_equal("a write with WP clear sets D", *pte_of(va) & D, D);
	s = access_state(1, va, 0);
	run_expect("the page is read-only again", &s, 14, 3, 0);
	pte_set(va, va | P | W | U);
	__asm__ volatile("lock orl $0, (%0)" : : "r"(va) : "memory");
	check_equal("a read-modify-write sets D", *pte_of(va) & (A | D), A | D);
	pte_set(va, va | P | W | U);
	struct state f = access_state(2, va, 3);
	*at(va) = 0x909081CD;
	pte_set(va, va | P | W | U);
	run_expect("fetch", &f, RUN_DONE, 0, va - f.eip + 2);
	check_equal("fetch sets A, not D", *pte_of(va) & (A | D), A);
}

static void test_page_crossing(void)
{
	u32 va = REGION + 0x9000, edge = va + 0xFFE;
	pte_set(va + 0x1000, 0);
	*at(edge - 2) = 0x11223344;
	struct state s = access_state(0, edge, 3);
	run_expect("read across into a missing page", &s, 14, 4, 0);
	check_equal("CR2 is the second page", s.cr2, va + 0x1000);
	check_equal("the register is unchanged", s.eax, 0xA0A1A2A3);
	s = access_state(1, edge, 3);
	run_expect("write across into a missing page", &s, 14, 6, 0);
	check_equal("CR2 is the second page, write", s.cr2, va + 0x1000);
	check_equal("nothing was written", *at(edge - 2), 0x11223344);
	pte_set(va + 0x1000, (REGION + 0x3000) | P | W | U);
	s = access_state(1, edge, 3);
	run_expect("write across two pages of unlike frames", &s, RUN_DONE, 0, 4);
	check_equal("low half", *at(edge - 2) >> 16, 0xA2A3);
	check_equal("high half", *at(REGION + 0x3000) & 0xFFFF, 0xA0A1);
	pte_set(va + 0x1000, (va + 0x1000) | P | W | U);
	/* int 0x81 with its second byte in the next page */
	*(volatile u8 *)(va + 0xFFF) = 0xCD;
	pte_set(va + 0x1000, 0);
	s = state_at((void *)(va + 0xFFF), 3);
	run_expect("fetch across into a missing page", &s, 14, 4, 0);
	check_equal("CR2 of a fetch across", s.cr2, va + 0x1000);
	pte_set(va + 0x1000, (va + 0x1000) | P | W | U);
	*(volatile u8 *)(va + 0x1000) = 0x81;
	s = state_at((void *)(va + 0xFFF), 3);
	run_expect("fetch across after the page came", &s, RUN_DONE, 0, 2);
	*(volatile u8 *)(REGION + 0x3000) = 0x82;
	pte_set(va + 0x1000, (REGION + 0x3000) | P | W | U);
	idt_set(0x82, (u32)(trap_stubs + 16 * 0x82), CODE0, 0xEE);
	s = state_at((void *)(va + 0xFFF), 3);
	run_expect("fetch across into another frame", &s, 0x82, 0, 2);
	pte_set(va + 0x1000, (va + 0x1000) | P | W | U);
}

/* The register must not matter, nor what follows within the instruction's block. */
#define EXCHANGE(r, name) \
	__asm__ volatile("xchgl %0, %2; lea 1(%0), %1" : "=&" r (entry), "=r"(behind), "+m"(*pte_of(va)) : "0"(new)); \
	check_equal("xchg of an entry, " name, entry & ~(u32)(A | D), old); \
	check_equal("what follows xchg, " name, behind, entry + 1); \
	invlpg(va); \
	check_equal("xchg shows the new frame, " name, *at(va), new == second ? 0xBBBB : 0xAAAA);

static void test_exchanges(u32 va, u32 a, u32 b)
{
	*at(a) = 0xAAAA;
	*at(b) = 0xBBBB;
	u32 first = a | P | W | U, second = b | P | W | U, entry, behind;
	pte_set(va, first);
	for (u32 i = 0; i < 4; i++) {
		u32 old = i & 1 ? second : first, new = i & 1 ? first : second;
		EXCHANGE("a", "EAX")
		new = old, old = old == first ? second : first;
		EXCHANGE("c", "ECX")
		new = old, old = old == first ? second : first;
		EXCHANGE("D", "EDI")
	}
}

static void test_live_edits(void)
{
	u32 va = REGION + 0x20000, a = REGION + 0x30000, b = REGION + 0x31000;
	*at(a) = 0xAAAA;
	*at(b) = 0xBBBB;
	pte_set(va, 0);
	struct state s = access_state(0, va, 0);
	run_expect("missing page", &s, 14, 0, 0);
	*pte_of(va) = a | P | W | U;
	check_equal("a page that appears needs no INVLPG", *at(va), 0xAAAA);
	pte_set(va, b | P | W | U);
	check_equal("INVLPG shows the new frame", *at(va), 0xBBBB);
	*pte_of(va) = a | P | W | U;
	WRITE_CR(3, READ_CR(3));
	check_equal("a CR3 load shows the new frame", *at(va), 0xAAAA);
	*(volatile u8 *)pte_of(va) = U;
	invlpg(va);
	s = access_state(0, va, 3);
	run_expect("byte store to an entry", &s, 14, 4, 0);
	*(volatile u8 *)pte_of(va) = P | U;
	s = access_state(0, va, 3);
	run_expect("byte store makes it present", &s, RUN_DONE, 0, 4);
	__asm__ volatile("lock btsl $1, %0" : "+m"(*pte_of(va)));
	invlpg(va);
	s = access_state(1, va, 3);
	run_expect("lock bts makes it writable", &s, RUN_DONE, 0, 4);
	u32 entry = 0;
	__asm__ volatile("xchgl %0, %1" : "+r"(entry), "+m"(*pte_of(va)));
	invlpg(va);
	check_equal("xchg returns the entry with A and D", entry, a | P | W | U | A | D);
	s = access_state(0, va, 3);
	run_expect("xchg with 0 removes it", &s, 14, 4, 0);
	test_exchanges(va, a, b);
	pte_set(va, 0);
	u32 *two = pte_of(va);
	u32 low = 0, high = two[1];
	__asm__ volatile("lock cmpxchg8b %2" : "+a"(low), "+d"(high), "+m"(*(u64 *)two) : "b"(b | P | W | U), "c"(a | P | W | U) : "memory");
	invlpg(va + 0x1000);
	check_equal("cmpxchg8b sets two entries: first", *at(va), 0xBBBB);
	check_equal("cmpxchg8b sets two entries: second", *at(va + 0x1000) & 0xFFFF, *at(a) & 0xFFFF);
	u32 count = 16;
	u32 *to = pte_of(va);
	__asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(a | P | W | U) : "memory");
	for (u32 i = 0; i < 16; i++) invlpg(va + i * 4096);
	check_equal("rep stos over entries", *at(va + 15 * 4096), *at(a));
	for (u32 i = 0; i < 16; i++) spare_table[i] = b | P | W | U;
	count = 16;
	to = pte_of(va);
	u32 *from = spare_table;
	__asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	for (u32 i = 0; i < 16; i++) invlpg(va + i * 4096);
	check_equal("rep movs over entries", *at(va + 9 * 4096), 0xBBBB);
	for (u32 i = 0; i < 16; i++) pte_set(va + i * 4096, (va + i * 4096) | P | W | U);
}

/* The same page table edited through a second mapping, by supervisor and by user code. */
static void test_alias_edits(void)
{
	u32 va = REGION + 0x40000, alias = REGION + 0x50000, a = REGION + 0x41000, b = REGION + 0x42000;
	u32 table = page_directory[SLOT] & ~0xFFFu;
	*at(a) = 1;
	*at(b) = 2;
	pte_set(va, a | P | W | U);
	check_equal("before the alias edit", *at(va), 1);
	pte_set(alias, table | P | W | U);
	at(alias)[va >> 12 & 1023] = b | P | W | U;
	invlpg(va);
	check_equal("edit through another mapping", *at(va), 2);
	pte_set(va, 0);
	/* mov [ebx],eax; mov ecx,[edx]; int 0x81 at CPL 3 */
	struct state s = state_at(CODE(0x89, 0x03, 0x8B, 0x0A, CODE_DONE), 3);
	s.ebx = alias + (va >> 12 & 1023) * 4;
	s.eax = a | P | W | U;
	s.edx = va;
	run_expect("user code edits its own page table", &s, RUN_DONE, 0, 6);
	check_equal("and sees the page", s.ecx, 1);
	pte_set(alias, alias | P | W | U);
	*at(alias) = 77;
	check_equal("the alias maps data again", *at(alias), 77);
	pte_set(va, va | P | W | U);
}

static void test_switches(void)
{
	u32 va = REGION + 0x60000, a = REGION + 0x61000, b = REGION + 0x62000, wrong = 0;
	memcpy(spare_directory, page_directory, 4096);
	memcpy(spare_table, (void *)(page_directory[SLOT] & ~0xFFFu), 4096);
	spare_directory[SLOT] = (u32)spare_table | P | W | U;
	*at(a) = 0xA;
	*at(b) = 0xB;
	pte_set(va, a | P | W | U);
	spare_table[va >> 12 & 1023] = b | P | W | U;
	for (u32 i = 0; i < 200; i++) {
		WRITE_CR(3, i & 1 ? spare_directory : page_directory);
		if (i % 10 == 3) {
			struct state s = access_state(0, va, 3);
			run(&s);
			wrong += s.eax != (i & 1 ? 0xBu : 0xAu);
		}
		wrong += *at(va) != (i & 1 ? 0xBu : 0xAu);
	}
	check_equal("address-space switches: wrong reads", wrong, 0);
	/* An edit of the table that is not loaded is seen when it is. */
	WRITE_CR(3, page_directory);
	spare_table[va >> 12 & 1023] = (REGION + 0x63000) | P | W | U;
	*at(REGION + 0x63000) = 0xC;
	WRITE_CR(3, spare_directory);
	check_equal("edit of an address space that was away", *at(va), 0xC);
	WRITE_CR(3, page_directory);
	check_equal("and the first is as it was", *at(va), 0xA);
	/* Same virtual page, different code in each address space, at CPL 3. */
	*at(a) = 0x9081CD90;
	*at(b) = 0x909082CD;
	spare_table[va >> 12 & 1023] = b | P | W | U;
	for (u32 i = 0; i < 20; i++) {
		WRITE_CR(3, i & 1 ? spare_directory : page_directory);
		struct state s = state_at((void *)va, 3);
		run(&s);
		wrong += s.vector != (i & 1 ? 0x82u : 0x81u);
	}
	check_equal("other code at the same address in each", wrong, 0);
	WRITE_CR(3, page_directory);
	pte_set(va, va | P | W | U);
}

/* A directory that is loaded for the first time has no A bit, whatever was used through another one with the same page tables. Each kind of access sets
 * it, and in a large page D. */
static void test_directory_bits(void)
{
	static u32 directories[2][1024] __attribute__((aligned(4096)));
	u32 va = REGION + 0x64000, large = LARGE + 0x64000, wrong = 0;
	*at(va) = 0x909081CD;
	for (u32 i = 0; i < 64; i++) {
		unsigned kind = i % 3, cpl = i / 3 & 1 ? 3 : 0;
		u32 *directory = directories[i & 1], target = i / 6 & 1 ? large : va, *entry = &directory[target >> 22];
		memcpy(directory, page_directory, 4096);
		directory[LARGE >> 22] = REGION | P | W | U | PS;
		for (u32 j = 0; j < 1024; j++) directory[j] &= ~(A | D);
		WRITE_CR(3, directory);
		bool clear = !(*entry & (A | D)), own = directory[(u32)&test_directory_bits >> 22] & A;
		struct state s = access_state(kind, target, cpl);
		run(&s);
		u32 bits = *entry & (A | D), right = kind == 1 && target == large ? A | D : A;
		*at(va) = 0x909081CD;
		if ((!clear || !own || s.vector != RUN_DONE || bits != right) && wrong++ < 5)
			print("# access %u at CPL %u of %x: bits %x, clear before %u, of the code %u\n", kind, cpl, target, bits, clear, own);
	}
	check_equal("A and D bits of directories with the same page tables: wrong", wrong, 0);
	WRITE_CR(3, page_directory);
}

static void test_large_pages(void)
{
	u32 slot = LARGE >> 22;
	*at(REGION + 0x70010) = 0x4D4D;
	set_pde(slot, REGION | P | W | U | PS);
	check_equal("4 MiB page reads", *at(LARGE + 0x70010), 0x4D4D);
	check_equal("4 MiB page: A", page_directory[slot] & (A | D), A);
	*at(LARGE + 0x70014) = 0x5E5E;
	check_equal("4 MiB page: D", page_directory[slot] & (A | D), A | D);
	check_equal("4 MiB page writes", *at(REGION + 0x70014), 0x5E5E);
	set_pde(slot, REGION | P | W | PS);
	struct state s = access_state(0, LARGE + 0x1234, 3);
	run_expect("4 MiB supervisor page, user read", &s, 14, 5, 0);
	set_pde(slot, REGION | P | U | PS);
	s = access_state(1, LARGE + 0x3FFFF0, 3);
	run_expect("4 MiB read-only page, user write", &s, 14, 7, 0);
	s = access_state(0, LARGE + 0x3FFFFD, 3);
	run_expect("read across the end of a 4 MiB page", &s, 14, 4, 0);
	check_equal("CR2 across the end of a 4 MiB page", s.cr2, LARGE + 0x400000);
	/* Split it: the same slot becomes a page table, as Linux does. */
	for (u32 i = 0; i < 1024; i++) spare_table[i] = (REGION + (i ^ 1) * 4096) | P | W | U;
	set_pde(slot, (u32)spare_table | P | W | U);
	check_equal("split into 4 KiB pages", *at(LARGE + 0x71014), 0x5E5E);
	set_pde(slot, REGION | P | W | U | PS);
	check_equal("joined again", *at(LARGE + 0x70014), 0x5E5E);
	memset(spare_table, 0xFF, sizeof spare_table);
	check_equal("the page table is data now", *at(LARGE + 0x70014), 0x5E5E);
	/* The page-table trace must hold through a large mapping too. */
	u32 va = REGION + 0x72000;
	pte_set(va, 0);
	u32 table = page_directory[SLOT] & ~0xFFFu;
	set_pde(slot, (table & ~0x3FFFFFu) | P | W | U | PS);
	at(LARGE + (table & 0x3FFFFF))[va >> 12 & 1023] = (REGION + 0x70000) | P | W | U;
	check_equal("page table edited through a 4 MiB mapping", at(va)[5], 0x5E5E);
	pte_set(va, va | P | W | U);
	set_pde(slot, 0);
}

static void test_recursive(void)
{
	u32 va = REGION + 0x80000;
	set_pde(1023, (u32)page_directory | P | W);
	volatile u32 *entry = at(RECURSIVE) + (va >> 12);
	check_equal("page table in its own mapping", *entry & ~0x60u, va | P | W | U);
	check_equal("page directory in its own mapping", at(0xFFFFF000)[SLOT] & ~0x60u, page_directory[SLOT] & ~0x60u);
	*at(va + 0x1000) = 0xE1;
	*entry = (va + 0x1000) | P | W | U;
	invlpg(va);
	check_equal("edit through it", *at(va), 0xE1);
	*at(va) = 5;
	check_equal("A and D show in it", *entry & (A | D), A | D);
	/* A new page table hung in and filled through the recursive slot alone. */
	u8 *table = frame_alloc();
	at(0xFFFFF000)[LARGE >> 22] = (u32)table | P | W | U;
	invlpg(RECURSIVE + (LARGE >> 10));
	at(RECURSIVE)[LARGE >> 12] = (va + 0x1000) | P | W;
	check_equal("new table through it", *at(LARGE), 5);
	at(0xFFFFF000)[LARGE >> 22] = 0;
	WRITE_CR(3, READ_CR(3));
	struct state s = access_state(0, LARGE, 0);
	run_expect("and gone again", &s, 14, 0, 0);
	pte_set(va, va | P | W | U);
	set_pde(1023, 0);
}

static void test_reuse(void)
{
	u32 wrong = 0;
	u32 *table = (u32 *)frame_alloc();
	for (u32 round = 0; round < 30; round++) {
		for (u32 i = 0; i < 1024; i++) table[i] = (REGION + i * 4096) | P | W | U;
		set_pde(LARGE >> 22, (u32)table | P | W | U);
		*at(REGION + round * 4096) = round;
		wrong += *at(LARGE + round * 4096) != round;
		set_pde(LARGE >> 22, 0);
		for (u32 i = 0; i < 1024; i++) table[i] = round * i;
		for (u32 i = 0; i < 1024; i++) wrong += table[i] != round * i;
		struct state s = access_state(0, LARGE + round * 4096, 0);
		run(&s);
		wrong += s.vector != 14 || s.error != 0;
	}
	check_equal("a frame by turns page table and data: wrong", wrong, 0);
	/* A page directory freed while its entries still look right must not be consulted any more. */
	u32 *directory = (u32 *)frame_alloc();
	for (u32 round = 0; round < 10; round++) {
		memcpy(directory, page_directory, 4096);
		WRITE_CR(3, directory);
		(void)*at(REGION);
		WRITE_CR(3, page_directory);
		memset(directory, 0xFF, 4096);
		wrong += *at(REGION + 29 * 4096) != 29;
		memset(directory, 0, 4096);
	}
	check_equal("a page directory freed and reused: wrong", wrong, 0);
}

static void test_paging_off(void)
{
	u32 va = REGION + 0x90000, other = REGION + 0x91000;
	*at(va) = 1;
	*at(other) = 2;
	pte_set(va, other | P | W | U);
	check_equal("with paging", *at(va), 2);
	WRITE_CR(0, READ_CR(0) & ~0x80000000u);
	check_equal("paging off: linear is physical", *at(va), 1);
	*pte_of(va) = va | P | W | U;
	*pte_of(other) = 0;
	WRITE_CR(0, READ_CR(0) | 0x80000000u);
	check_equal("paging on again, table edited meanwhile", *at(va), 1);
	struct state s = access_state(0, other, 0);
	run_expect("page removed while paging was off", &s, 14, 0, 0);
	pte_set(other, other | P | W | U);
}

/* A handler that supplies the page and returns: demand paging, at CPL 3. */
static u32 demand_count;
static void supply(struct trap_frame *f)
{
	(void)f;
	u32 va = READ_CR(2) & ~0xFFFu;
	demand_count++;
	*pte_of(va) = va | P | W | U;
}

static void test_demand(void)
{
	u32 va = REGION + 0xA0000;
	for (u32 i = 0; i < 64; i++) {
		*at(va + i * 4096) = i;
		pte_set(va + i * 4096, 0);
	}
	/* xor eax,eax; 1: add eax,[ebx]; add ebx,4096; loop 1b; int 0x81 */
	struct state s = state_at(CODE(0x31, 0xC0, 0x03, 0x03, 0x81, 0xC3, 0, 0x10, 0, 0, 0xE2, 0xF6, CODE_DONE), 3);
	s.ebx = va;
	s.ecx = 64;
	trap_handle(14, supply);
	run(&s);
	trap_handle(14, NULL);
	check_equal("demand paging: sum", s.eax, 63 * 64 / 2);
	check_equal("demand paging: faults", demand_count, 64);
	/* rep movsb over 16 missing pages, source and destination unaligned */
	for (u32 i = 0; i < 16; i++) pte_set(va + i * 4096, 0);
	s = state_at(CODE(0xF3, 0xA4, CODE_DONE), 3);
	s.esi = va + 0x123;
	s.edi = va + 0x8000 + 0x321;
	s.ecx = 0x7000;
	*pte_of(va) = va | P | W | U;
	at(va)[0x200] = 0x31415926;
	pte_set(va, 0);
	demand_count = 0;
	trap_handle(14, supply);
	run(&s);
	trap_handle(14, NULL);
	check_equal("rep movsb over missing pages: faults", demand_count, 16);
	check_equal("rep movsb: ECX", s.ecx, 0);
	check_equal("rep movsb: ESI", s.esi, va + 0x7123);
	check_equal("rep movsb: EDI", s.edi, va + 0xF321);
	check_equal("rep movsb: data", *(volatile u32 *)(va + 0x8000 + 0x321 + 0x800 - 0x123), 0x31415926);
}

void guest_main(void)
{
	paging_enable();
	check("paging is on", READ_CR(0) >> 31);
	test_accessed_dirty();
	test_rights_matrix();
	test_page_crossing();
	test_live_edits();
	test_alias_edits();
	test_switches();
	WRITE_CR(4, READ_CR(4) | 0x10);
	test_directory_bits();
	test_large_pages();
	test_recursive();
	test_reuse();
	test_paging_off();
	test_demand();
}
