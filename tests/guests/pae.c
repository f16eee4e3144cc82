/* PAE paging, NX, PSE-36, SMEP, SMAP and UMIP (Intel SDM vol. 3, ch. 2.5 and ch. 4). */
#include "guest.h"

#define REGION 0x1800000u /* 24 MiB: 2 MiB in 4 KiB pages that tests may bend; its frames are its own identity */
#define LARGE 0x40000000u /* the second directory, free for tests */
#define XD (1ull << 63)
#define CR4_PSE 0x10u
#define CR4_PAE 0x20u
#define CR4_UMIP 0x800u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u
#define CR0_PG 0x80000000u
#define CR0_WP 0x10000u
#define EFER 0xC0000080u
#define NXE 0x800u
#define AC 0x40000u
#define RSVD 8u
#define FETCH 16u

/* One page that is a directory of two levels and, at its end, holds PDPTs: so that CR4.PAE can change under paging. */
static u32 both[1024] __attribute__((aligned(4096)));
static u64 directories[4][512] __attribute__((aligned(4096)));
static u64 table[512] __attribute__((aligned(4096)));
static u64 spare[512] __attribute__((aligned(4096)));
static u64 *const pdpt = (u64 *)(both + 1016), *const other_pdpt = (u64 *)(both + 1008);
static u32 physical_bits;

static volatile u32 *at(u32 va)
{
	return (volatile u32 *)va;
}

static void cpuid(u32 leaf, u32 out[4])
{
	__asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(0));
}

static void reload(void)
{
	WRITE_CR(3, READ_CR(3));
}

static volatile u64 *entry_of(u32 va)
{
	return &table[va >> 12 & 511];
}

static void set_entry(u32 va, u64 entry)
{
	*entry_of(va) = entry;
	invlpg(va);
}

static void set_directory(u32 va, u64 entry)
{
	directories[va >> 30][va >> 21 & 511] = entry;
	reload();
}

static void build(void)
{
	for (u32 i = 0; i < 4; i++) pdpt[i] = other_pdpt[i] = (u32)directories[i] | P;
	for (u32 i = 0; i < 32; i++) directories[0][i] = (u64)i << 21 | P | W | U | PS;
	for (u32 i = 0; i < 512; i++) table[i] = (REGION + i * 4096) | P | W | U;
	directories[0][REGION >> 21] = (u32)table | P | W | U;
	for (u32 i = 0; i < 16; i++) both[i] = i << 22 | P | W | U | PS;
}

/* mov eax,[ebx] / mov [ebx],eax / jmp ebx (which finds int 0x81 there) */
enum { READ, WRITE, JUMP };
static struct state access_state(unsigned kind, u32 va, unsigned cpl)
{
	u8 *code = kind == READ ? CODE(0x8B, 0x03, CODE_DONE) : kind == WRITE ? CODE(0x89, 0x03, CODE_DONE) : CODE(0xFF, 0xE3);
	struct state s = state_at(code, cpl);
	s.ebx = va;
	return s;
}

static void expect(const char *name, unsigned kind, u32 va, unsigned cpl, u32 error)
{
	struct state s = access_state(kind, va, cpl);
	run_expect(name, &s, 14, error, kind == JUMP ? va - s.eip : 0);
	check_equal("CR2", s.cr2, va);
}

static void expect_done(const char *name, unsigned kind, u32 va, unsigned cpl)
{
	struct state s = access_state(kind, va, cpl);
	run_expect(name, &s, RUN_DONE, 0, kind == JUMP ? va + 2 - s.eip : 4);
}

static void test_walk(void)
{
	u32 va = REGION + 0x5000;
	directories[0][REGION >> 21] &= ~(u64)A;
	set_entry(va, (REGION + 0x6000) | P | W | U | 0x200);
	*at(REGION + 0x6000) = 0x1234;
	check_equal("three levels", *at(va), 0x1234);
	check_equal("A in the entry", *entry_of(va) & (A | D), A);
	check_equal("A in the directory", directories[0][REGION >> 21] & A, A);
	*at(va) = 1;
	check_equal("D in the entry", *entry_of(va) & (A | D), A | D);
	check_equal("no D in the directory of a table", directories[0][REGION >> 21] & D, 0);
	check("the rest of it is as it was", (*entry_of(va) & ~(u64)(A | D)) == ((REGION + 0x6000) | P | W | U | 0x200));
	set_entry(va, va | P | U);
	expect("read-only page", WRITE, va, 3, 7);
	set_entry(va, va | P | W);
	expect("supervisor page", READ, va, 3, 5);
	set_entry(va, 0);
	expect("missing page", READ, va, 3, 4);
	WRITE_CR(0, READ_CR(0) & ~CR0_WP);
	set_entry(va, va | P);
	*at(va) = 2;
	check_equal("WP clear: a write to a read-only page sets D", *entry_of(va) & D, D);
	WRITE_CR(0, READ_CR(0) | CR0_WP);
	expect("and WP set again", WRITE, va, 0, 3);
	set_entry(va, va | P | W | U);
	expect("no third directory entry", READ, 0x80000000u, 3, 4);
	pdpt[2] = 0;
	reload();
	expect("no third directory", WRITE, 0x80000000u, 0, 2);
	pdpt[2] = (u32)directories[2] | P;
	reload();
}

static void test_large(void)
{
	*at(REGION + 0x12348) = 0x4D4D;
	set_directory(LARGE, REGION | P | W | U | PS);
	check_equal("2 MiB page reads", *at(LARGE + 0x12348), 0x4D4D);
	check_equal("2 MiB page: A", directories[1][0] & (A | D), A);
	*at(LARGE + 0x1FFFFC) = 0x5E5E;
	check_equal("2 MiB page: D", directories[1][0] & (A | D), A | D);
	check_equal("2 MiB page writes", *at(REGION + 0x1FFFFC), 0x5E5E);
	expect("the next 2 MiB are not there", READ, LARGE + 0x200000, 0, 0);
	for (u32 i = 0; i < 512; i++) spare[i] = (REGION + (i ^ 1) * 4096) | P | W | U;
	set_directory(LARGE, (u32)spare | P | W | U);
	check_equal("split into 4 KiB pages", *at(LARGE + 0x13348), 0x4D4D);
	set_directory(LARGE, REGION | P | W | U | PS);
	check_equal("joined again", *at(LARGE + 0x12348), 0x4D4D);
	/* A page table's trace holds through a large page as well. */
	set_directory(LARGE, ((u32)table & ~0x1FFFFFu) | P | W | U | PS);
	volatile u64 *alias = (volatile u64 *)(LARGE + ((u32)table & 0x1FFFFF));
	alias[7] = (REGION + 0x12000) | P | W | U;
	check_equal("page table edited through a 2 MiB page", *at(REGION + 0x7348), 0x4D4D);
	set_entry(REGION + 0x7000, (REGION + 0x7000) | P | W | U);
	set_directory(LARGE, 0);
}

static void test_no_execute(void)
{
	u32 va = REGION + 0x9000;
	*at(va) = 0x909081CD;
	set_entry(va, va | P | W | U | XD);
	expect("fetch from an XD page", JUMP, va, 3, P | U | FETCH);
	expect("fetch from an XD page by the supervisor", JUMP, va, 0, P | FETCH);
	expect_done("read of an XD page", READ, va, 3);
	set_entry(va, va | P | W | U);
	expect_done("XD cleared", JUMP, va, 3);
	((volatile u32 *)entry_of(va))[1] = 1u << 31;
	invlpg(va);
	expect("XD set by a store to the upper half", JUMP, va, 3, P | U | FETCH);
	set_entry(va, va | P | W | U);
	set_directory(REGION, (u32)table | P | W | U | XD);
	expect("XD in the directory", JUMP, va, 3, P | U | FETCH);
	set_directory(REGION, (u32)table | P | W | U);
	set_entry(va, 0);
	expect("fetch from a missing page", JUMP, va, 3, U | FETCH);
	set_entry(va, va | P | W);
	expect("fetch from a supervisor page", JUMP, va, 3, P | U | FETCH);
	u64 efer = rdmsr(EFER);
	wrmsr(EFER, efer & ~(u64)NXE);
	expect("NXE clear: a fetch is not told", JUMP, va, 3, P | U);
	set_entry(va, va | P | W | U | XD);
	expect("NXE clear: XD is reserved, read", READ, va, 0, P | RSVD);
	expect("NXE clear: XD is reserved, fetch", JUMP, va, 3, P | U | RSVD);
	wrmsr(EFER, efer);
	expect("NXE set: XD again", JUMP, va, 3, P | U | FETCH);
	set_entry(va, va | P | W | U);
}

/* 1: call; dec ecx; jnz 1b. Written once, on a page of its own: what is made of it stays. */
#define THUNK_CALL (code_area + 0x1000)
static u8 *put_thunk_call(u32 va)
{
	u8 call[] = {0xE8, 0, 0, 0, 0, 0x49, 0x75, 0xF8, CODE_DONE};
	u32 distance = va - (u32)THUNK_CALL - 5;
	memcpy(call + 1, &distance, 4);
	return code_put(0x1000, call, sizeof call);
}

static void expect_thunk(const char *name, const u8 *code, u32 va, u32 vector, u32 error)
{
	u32 behind = (u32)code + 5, esp;
	struct state s = state_at(code, 3);
	s.ecx = 100;
	esp = s.esp;
	run_expect(name, &s, vector, error, vector == RUN_DONE ? 10 : va - (u32)code);
	if (vector == RUN_DONE) check_equal("it knew where it was", s.ebx, behind);
	else check("CR2; the call is done, and the thunk has done nothing", s.cr2 == va && s.esp == esp - 4 && *at(s.esp) == behind && s.ebx == 0xB0B1B2B3);
}

/* Calls of `mov r, [esp]; ret`, which may be done in place as long as what can be read can be run. */
static void test_thunk(void)
{
	static const u8 thunk[] = {0x8B, 0x1C, 0x24, 0xC3};
	u32 va = REGION + 0xA000;
	memcpy((void *)va, thunk, sizeof thunk);
	wrmsr(EFER, 0);
	warm_up();
	u8 *code = put_thunk_call(va);
	expect_thunk("thunk without NXE", code, va, RUN_DONE, 0);
	expect_thunk("the same again", code, va, RUN_DONE, 0);
	set_entry(va, va | P | W | U | XD);
	expect_thunk("XD, which is reserved", code, va, 14, P | U | RSVD);
	set_entry(va, va | P | W | U);
	expect_thunk("not any more", code, va, RUN_DONE, 0);
	wrmsr(EFER, NXE);
	set_entry(va, va | P | W | U | XD);
	warm_up();
	expect_thunk("NXE set, and XD", code, va, 14, P | U | FETCH);
	set_entry(va, va | P | W | U);
	expect_thunk("NXE set, without XD", code, va, RUN_DONE, 0);
	set_entry(va, va | P | W | U | XD);
	expect_thunk("and XD set again", code, va, 14, P | U | FETCH);
	set_entry(va, va | P | W | U);
}

static void test_reserved(void)
{
	u32 va = REGION + 0xA000, wrong = 0;
	for (u32 bit = physical_bits; bit < 63; bit++) {
		set_entry(va, va | P | W | U | 1ull << bit);
		struct state s = access_state(WRITE, va, 3);
		run(&s);
		wrong += s.vector != 14 || s.error != (P | W | U | RSVD) || s.cr2 != va;
		set_entry(va, va | P | W | U);
		set_directory(REGION, (u32)table | P | W | U | 1ull << bit);
		s = access_state(READ, va, 0);
		run(&s);
		wrong += s.vector != 14 || s.error != (P | RSVD);
		set_directory(REGION, (u32)table | P | W | U);
		set_entry(va, (va | W | U | 1ull << bit)); /* not present: no bit is reserved */
		s = access_state(READ, va, 3);
		run(&s);
		wrong += s.vector != 14 || s.error != U;
	}
	for (u32 bit = 13; bit < 63; bit++) {
		bool reserved = bit <= 20 || bit >= physical_bits;
		if (!reserved) continue;
		set_directory(LARGE, REGION | P | W | U | PS | 1ull << bit);
		struct state s = access_state(READ, LARGE + 0x1234, 3);
		run(&s);
		wrong += s.vector != 14 || s.error != (P | U | RSVD);
	}
	set_directory(LARGE, 0);
	check_equal("reserved bits: wrong answers", wrong, 0);
	set_entry(va, va | P | W | U);
	expect_done("and all is well again", WRITE, va, 3);
}

/* An entry that is two stores: each half counts as soon as it is there. */
static void test_halves(void)
{
	u32 va = REGION + 0xB000, a = REGION + 0xC000, b = REGION + 0xD000;
	volatile u32 *half = (volatile u32 *)entry_of(va);
	*at(a) = 0xAAAA;
	*at(b) = 0xBBBB;
	set_entry(va, a | P | W | U);
	check_equal("before", *at(va), 0xAAAA);
	half[1] = 1; /* 4 GiB above: nothing is there */
	invlpg(va);
	check("upper half alone: another frame", *at(va) != 0xAAAA);
	half[0] = b | P | W | U;
	invlpg(va);
	check("lower half with the old upper one", *at(va) != 0xBBBB);
	half[1] = 0;
	invlpg(va);
	check_equal("both halves", *at(va), 0xBBBB);
	half[1] = 1u << 30;
	invlpg(va);
	expect("upper half with a reserved bit", READ, va, 3, P | U | RSVD);
	half[0] = 0;
	half[1] = 0;
	expect("lower half cleared first", READ, va, 3, U);
	half[0] = a | P | W | U;
	check_equal("lower half written last: no INVLPG needed", *at(va), 0xAAAA);
	u32 low = *half, high = 0;
	__asm__ volatile("lock cmpxchg8b %2" : "+a"(low), "+d"(high), "+m"(*entry_of(va)) : "b"(b | P | W | U), "c"(0) : "memory");
	invlpg(va);
	check_equal("cmpxchg8b", *at(va), 0xBBBB);
	u64 two[2] __attribute__((aligned(16))) = { a | P | W | U, b | P | W | U };
	WRITE_CR(4, READ_CR(4) | 0x200);
	__asm__ volatile("movups %1, %%xmm0; movups %%xmm0, %0" : "=m"(*(u64(*)[2])entry_of(va - 0x1000)) : "m"(two) : "memory");
	reload();
	check_equal("two entries in one store: first", *at(va - 0x1000), 0xAAAA);
	check_equal("two entries in one store: second", *at(va), 0xBBBB);
	__asm__ volatile("movq %1, %%mm0; movq %%mm0, %0; emms" : "=m"(*entry_of(va)) : "m"(two[0]) : "memory");
	invlpg(va);
	check_equal("movq", *at(va), 0xAAAA);
	for (u32 i = 0; i < 16; i++) spare[i] = b | P | W | U;
	u32 count = 32;
	volatile void *to = entry_of(va);
	void *from = spare;
	__asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	reload();
	check_equal("rep movsd over entries", *at(va + 0xF000), 0xBBBB);
	*(volatile u8 *)entry_of(va) = 0;
	invlpg(va);
	expect("byte store", READ, va, 0, 0);
	/* A store across the end of one entry into the next. */
	*(volatile u32 *)((u8 *)entry_of(va) + 6) = (a | P | W | U) << 16;
	check_equal("store over two entries: bits of the second", *entry_of(va + 0x1000) & 0xFFFF, (a | P | W | U) & 0xFFFF);
	for (u32 i = 0; i < 17; i++) set_entry(va - 0x1000 + i * 4096, (va - 0x1000 + i * 4096) | P | W | U);
}

/* PDPTEs are registers. */
static void test_pdptes(void)
{
	directories[1][0] = REGION | P | W | U | PS;
	reload();
	*at(REGION + 0x20000) = 0x77;
	check_equal("through the second directory", *at(LARGE + 0x20000), 0x77);
	pdpt[1] = 0;
	invlpg(LARGE + 0x20000);
	expect_done("a PDPTE's edit is not seen before CR3 is loaded", READ, LARGE + 0x20000, 3);
	reload();
	expect("but then", READ, LARGE + 0x20000, 3, U);
	pdpt[1] = (u32)directories[0] | P; /* the same directory twice */
	reload();
	check_equal("one directory at two places", *at(LARGE + REGION + 0x20000), 0x77);
	u32 va = REGION + 0x21000;
	set_entry(va, (REGION + 0x20000) | P | W | U);
	check_equal("an edit shows at both: first", *at(va), 0x77);
	check_equal("an edit shows at both: second", *at(LARGE + va), 0x77);
	set_entry(va, va | P | W | U);
	invlpg(LARGE + va);
	*at(va) = 0x78;
	check_equal("an edit shows at both: again", *at(LARGE + va), 0x78);
	pdpt[1] = (u32)directories[1] | P;
	reload();
	set_directory(LARGE, 0);
	/* Which bits are reserved, by MOV CR3. */
	u32 wrong = 0;
	for (u32 bit = 1; bit < 64; bit++) {
		bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= physical_bits;
		if (bit > 11 && !reserved) continue;
		other_pdpt[3] = (u32)directories[3] | P | 1ull << bit;
		struct state s = state_at(CODE(0x0F, 0x22, 0xD8, CODE_DONE), 0); /* mov cr3,eax */
		s.eax = (u32)other_pdpt;
		run(&s);
		bool good = reserved ? s.vector == 13 && s.error == 0 && READ_CR(3) == (u32)pdpt : s.vector == RUN_DONE;
		wrong += !good;
		WRITE_CR(3, pdpt);
	}
	other_pdpt[3] = (u32)directories[3] | P;
	check_equal("reserved bits of PDPTEs: wrong answers", wrong, 0);
}

static void test_switches(void)
{
	u32 va = LARGE + 0x30000, a = REGION, b = REGION + 0x200000, wrong = 0;
	static u64 away[512] __attribute__((aligned(4096)));
	other_pdpt[1] = (u32)away | P;
	directories[1][0] = a | P | W | U | PS;
	away[0] = b | P | W | U | PS;
	*at(a + 0x30000) = 0xA;
	*at(b + 0x30000) = 0xB;
	for (u32 i = 0; i < 100; i++) {
		WRITE_CR(3, i & 1 ? other_pdpt : pdpt);
		struct state s = access_state(READ, va, i % 10 == 3 ? 3 : 0);
		run(&s);
		wrong += s.eax != (i & 1 ? 0xBu : 0xAu);
		wrong += *at(va) != (i & 1 ? 0xBu : 0xAu);
	}
	check_equal("switches with a shared directory: wrong reads", wrong, 0);
	WRITE_CR(3, pdpt);
	away[0] = a | P | W | U | PS;
	set_entry(REGION + 0x31000, (REGION + 0x30000) | P | W | U);
	WRITE_CR(3, other_pdpt);
	check_equal("edit of a directory that was away", *at(va), 0xA);
	check_equal("edit under the shared directory", *at(REGION + 0x31000), 0xA);
	WRITE_CR(3, pdpt);
	set_entry(REGION + 0x31000, (REGION + 0x31000) | P | W | U);
	other_pdpt[1] = pdpt[1];
	set_directory(LARGE, 0);
}

/* Directories as page tables of their own last gigabyte, as systems map them. */
/* Directories with the same page tables have A and D bits of their own. */
static void test_directory_bits(void)
{
	static u64 others[2][512] __attribute__((aligned(4096)));
	u32 small = REGION + 0x38000, large = small - (1 << 21), wrong = 0;
	for (u32 i = 0; i < 32; i++) {
		u64 *directory = others[i & 1];
		u32 target = i & 2 ? large : small;
		volatile u64 *entry = &directory[target >> 21];
		for (u32 j = 0; j < 512; j++) directory[j] = directories[0][j] & ~(u64)(A | D);
		other_pdpt[0] = (u32)directory | P;
		WRITE_CR(3, other_pdpt);
		u32 before = *entry & (A | D), code = directory[(u32)&test_directory_bits >> 21] & A;
		(void)*at(target);
		u32 read = *entry & (A | D);
		*at(target) = i;
		u32 written = *entry & (A | D);
		if ((before || !code || read != A || written != (i & 2 ? A | D : A)) && wrong++ < 5)
			print("# %x: bits %x, then %x, then %x; of the code %x\n", target, before, read, written, code);
	}
	check_equal("A and D bits of directories with the same page tables: wrong", wrong, 0);
	WRITE_CR(3, pdpt);
	other_pdpt[0] = pdpt[0];
}

static void test_recursive(void)
{
	u32 va = REGION + 0x40000;
	for (u32 i = 0; i < 4; i++) directories[3][508 + i] = (u32)directories[i] | P | W;
	reload();
	volatile u64 *tables = (volatile u64 *)(0xC0000000u + 508 * 0x200000u);
	check("entry in its own mapping", (tables[va >> 12] & ~(u64)(A | D)) == (va | P | W | U));
	check("directory in its own mapping", (((volatile u64 *)0xFFFFC000u)[REGION >> 21] & ~(u64)(A | D)) == ((u32)table | P | W | U));
	*at(va + 0x1000) = 0xE1;
	tables[va >> 12] = (va + 0x1000) | P | W | U;
	invlpg(va);
	check_equal("edit through it", *at(va), 0xE1);
	*at(va) = 5;
	check_equal("A and D show in it", tables[va >> 12] & (A | D), A | D);
	memset(spare, 0, sizeof spare);
	((volatile u64 *)0xFFFFD000u)[0] = (u32)spare | P | W | U;
	reload();
	tables[LARGE >> 12] = (va + 0x1000) | P | W;
	check_equal("a new table hung in and filled through it", *at(LARGE), 5);
	((volatile u64 *)0xFFFFD000u)[0] = 0;
	reload();
	expect("and gone again", READ, LARGE, 0, 0);
	set_entry(va, va | P | W | U);
	for (u32 i = 0; i < 4; i++) directories[3][508 + i] = 0;
	reload();
}

/* CR4.PAE changes while paging is on: CR3's page is a directory of two levels and holds a PDPT. */
static void test_modes(void)
{
	u32 va = REGION + 0x50000, other = REGION + 0x51000, cr4 = READ_CR(4);
	*at(va) = 1;
	*at(other) = 2;
	set_entry(va, other | P | W | U);
	check_equal("PAE", *at(va), 2);
	WRITE_CR(4, (cr4 | CR4_PSE) & ~CR4_PAE);
	check_equal("two levels, without leaving paging", *at(va), 1);
	both[(REGION >> 22) + 8] = both[REGION >> 22];
	reload();
	check_equal("and edits of its directory", *at(va + (8u << 22)), 1);
	both[(REGION >> 22) + 8] = ((REGION >> 22) + 8) << 22 | P | W | U | PS;
	WRITE_CR(4, cr4);
	check_equal("PAE again", *at(va), 2);
	WRITE_CR(0, READ_CR(0) & ~CR0_PG);
	check_equal("no paging", *at(va), 1);
	pdpt[3] |= 2; /* reserved */
	struct state s = state_at(CODE(0x0F, 0x22, 0xC0, CODE_DONE), 0); /* mov cr0,eax */
	s.eax = READ_CR(0) | CR0_PG;
	run_expect("paging on with a bad PDPTE", &s, 13, 0, 0);
	check_equal("and still off", READ_CR(0) >> 31, 0);
	pdpt[3] &= ~2ull;
	WRITE_CR(0, READ_CR(0) | CR0_PG);
	check_equal("paging on", *at(va), 2);
	set_entry(va, va | P | W | U);
}

static void test_pse36(void)
{
	u32 cr4 = READ_CR(4), wrong = 0, slot = LARGE >> 22;
	WRITE_CR(4, (cr4 | CR4_PSE) & ~CR4_PAE);
	*at(REGION + 0x1234) = 0x36;
	both[slot] = REGION | P | W | U | PS;
	reload();
	check_equal("4 MiB page", *at(LARGE + 0x1234), 0x36);
	for (u32 bit = 13; bit < 17; bit++) {
		both[slot] = REGION | P | W | U | PS | 1u << bit;
		reload();
		wrong += *at(LARGE + 0x1234) == 0x36;
	}
	check_equal("PSE-36: addresses above 4 GiB that reach memory", wrong, 0);
	for (u32 bit = 17; bit < 22; bit++) {
		both[slot] = REGION | P | W | U | PS | 1u << bit;
		reload();
		struct state s = access_state(WRITE, LARGE, 3);
		run(&s);
		wrong += s.vector != 14 || s.error != (P | W | U | RSVD);
	}
	check_equal("PSE-36: reserved bits, wrong answers", wrong, 0);
	both[slot] = 0;
	WRITE_CR(4, cr4);
}

/* Kernel memory without U: what is left to users is REGION. */
static void hide_kernel(bool hide)
{
	for (u32 i = 0; i < 32; i++)
		if (i != REGION >> 21) directories[0][i] = (u64)i << 21 | P | W | (hide ? 0 : U) | PS;
	reload();
}

static void test_smep(void)
{
	u32 va = REGION + 0x60000, cr4 = READ_CR(4);
	*at(va) = 0x909081CD;
	expect_done("supervisor in a user page", JUMP, va, 0);
	hide_kernel(true);
	WRITE_CR(4, cr4 | CR4_SMEP);
	expect("SMEP: supervisor in a user page", JUMP, va, 0, P | FETCH);
	expect_done("SMEP: data", READ, va, 0);
	set_entry(va, va | P | W);
	expect_done("SMEP: supervisor in its own page", JUMP, va, 0);
	set_entry(va, va | P | W | U);
	expect("SMEP: the page is the user's again", JUMP, va, 0, P | FETCH);
	wrmsr(EFER, 0);
	set_entry(va, 0);
	expect("SMEP without NXE: error codes tell fetches", JUMP, va, 0, FETCH);
	wrmsr(EFER, NXE);
	set_entry(va, va | P | W | U);
	WRITE_CR(4, cr4);
	hide_kernel(false);
	*at(va) = 0x909081CD;
	expect_done("SMEP off", JUMP, va, 0);
}

static struct state with_ac(struct state s)
{
	s.eflags |= AC;
	return s;
}

static void pass(struct trap_frame *f) { (void)f; }

static void test_smap(void)
{
	u32 va = REGION + 0x70000, cr4 = READ_CR(4);
	*at(va) = 0x1234;
	hide_kernel(true);
	WRITE_CR(4, cr4 | CR4_SMAP);
	expect("SMAP: read", READ, va, 0, P);
	expect("SMAP: write", WRITE, va, 0, P | W);
	struct state s = with_ac(access_state(READ, va, 0));
	run_expect("SMAP: read with AC", &s, RUN_DONE, 0, 4);
	check_equal("what it read", s.eax, 0x1234);
	s = with_ac(access_state(WRITE, va, 0));
	run_expect("SMAP: write with AC", &s, RUN_DONE, 0, 4);
	/* stac; add [ebx],eax; clac; mov ecx,[ebx] */
	s = state_at(CODE(0x0F, 0x01, 0xCB, 0x01, 0x03, 0x0F, 0x01, 0xCA, 0x8B, 0x0B, CODE_DONE), 0);
	s.ebx = va;
	s.eax = 1;
	run_expect("STAC, CLAC", &s, 14, P, 8);
	check_equal("AC after CLAC", s.eflags & AC, 0);
	/* rep movsd within user pages, over their end; push to one */
	s = with_ac(state_at(CODE(0xF3, 0xA5, CODE_DONE), 0));
	s.esi = va;
	s.edi = va + 0x1800;
	s.ecx = 0x400;
	run_expect("SMAP: rep movsd with AC", &s, RUN_DONE, 0, 4);
	s = state_at(CODE(0xF3, 0xA5, CODE_DONE), 0);
	s.esi = va;
	s.edi = va + 0x1800;
	s.ecx = 0x400;
	run_expect("SMAP: rep movsd", &s, 14, P, 0);
	check_equal("nothing is moved", s.ecx, 0x400);
	/* mov esp,ebx; push eax */
	s = with_ac(state_at(CODE(0x89, 0xDC, 0x50, 0x0F, 0xA2, 0x58, 0x89, 0xEC, CODE_DONE), 0));
	s.ebp = s.esp;
	s.ebx = va + 0x100;
	run_expect("SMAP: push and pop with AC", &s, RUN_DONE, 0, 10);
	/* mov esp, ebx; int3 (which a handler passes over); mov esp, ebp: a frame is pushed as PUSH would. */
	s = with_ac(state_at(CODE(0x89, 0xDC, 0xCC, 0x89, 0xEC, CODE_DONE), 0));
	s.ebp = s.esp;
	s.ebx = va + 0x800;
	trap_handle(3, pass);
	run_expect("SMAP: an exception's frame with AC", &s, RUN_DONE, 0, 7);
	trap_handle(3, NULL);
	/* The processor's own accesses do not look at AC: a descriptor table in a user page. mov fs,ecx */
	gdt_set(GDT_FREE, va + 0x800, 15, 0x82, 0);
	set_entry(va, va | P | W);
	((volatile u64 *)(va + 0x800))[1] = gdt[DATA0 >> 3];
	__asm__ volatile("lldt %w0" : : "r"(GDT_FREE * 8));
	s = with_ac(state_at(CODE(0x8E, 0xE1, CODE_DONE), 0));
	s.ecx = 8 | 4;
	run_expect("descriptor in a supervisor page", &s, RUN_DONE, 0, 4);
	set_entry(va, va | P | W | U);
	s = with_ac(state_at(CODE(0x8E, 0xE1, CODE_DONE), 0));
	s.ecx = 8 | 4;
	run_expect("SMAP: descriptor in a user page", &s, 14, P, 0);
	check_equal("CR2 is the descriptor", s.cr2, va + 0x808);
	__asm__ volatile("lldt %w0" : : "r"(0));
	WRITE_CR(4, cr4);
	expect_done("SMAP off", WRITE, va, 0);
	hide_kernel(false);
	s = state_at(CODE(0x0F, 0x01, 0xCB, CODE_DONE), 3);
	run_expect("STAC at CPL 3", &s, 6, 0, 0);
}

static void test_umip(void)
{
	static const u8 codes[][4] = { { 0x0F, 0x01, 0x03 }, { 0x0F, 0x01, 0x0B }, { 0x0F, 0x00, 0xC0 }, { 0x0F, 0x00, 0xC8 }, { 0x0F, 0x01, 0xE0 } };
	static const char *const names[] = { "sgdt", "sidt", "sldt", "str", "smsw" };
	for (u32 i = 0; i < 5; i++) {
		u8 *code = CODE(codes[i][0], codes[i][1], codes[i][2], CODE_DONE);
		for (u32 umip = 0; umip < 2; umip++) {
			WRITE_CR(4, umip ? READ_CR(4) | CR4_UMIP : READ_CR(4) & ~CR4_UMIP);
			struct state s = state_at(code, 3);
			s.ebx = REGION + 0x80000;
			run_expect(names[i], &s, umip ? 13 : RUN_DONE, 0, umip ? 0 : 5);
			s = state_at(code, 0);
			s.ebx = REGION + 0x80000;
			run_expect("the same at CPL 0", &s, RUN_DONE, 0, 5);
		}
	}
	WRITE_CR(4, READ_CR(4) & ~CR4_UMIP);
}

void guest_main(void)
{
	u32 id[4], features[4];
	cpuid(1, id);
	check("CPUID: PSE, PAE, PSE-36", (id[3] >> 3 & 1) && (id[3] >> 6 & 1) && (id[3] >> 17 & 1));
	cpuid(0x80000001, id);
	check("CPUID: NX", id[3] >> 20 & 1);
	cpuid(0x80000008, id);
	physical_bits = id[0] & 0xFF;
	cpuid(7, features);
	check("CPUID: SMEP, SMAP, UMIP", (features[1] >> 7 & 1) && (features[1] >> 20 & 1) && (features[2] >> 2 & 1));
	build();
	wrmsr(EFER, NXE);
	check_equal("EFER", (u32)rdmsr(EFER), NXE);
	WRITE_CR(4, READ_CR(4) | CR4_PAE);
	WRITE_CR(3, pdpt);
	WRITE_CR(0, READ_CR(0) | CR0_PG | CR0_WP);
	test_walk();
	test_large();
	test_no_execute();
	test_thunk();
	test_reserved();
	test_halves();
	test_pdptes();
	test_switches();
	test_directory_bits();
	test_recursive();
	test_modes();
	test_pse36();
	test_smep();
	test_smap();
	test_umip();
}
