/* A random guest: it edits its page tables by its own stores, takes the paths that translated code would take, and is
 * compared after each access with a walk by the book. A store that the shadow lets through unseen goes unseen here too,
 * so that a missing trace shows as a stale entry. */
#include <stdio.h>

#include "tests/unit/test_shadow.h"

#define KERNEL 0xC0000000u /* the guest's own view of its memory: 4 MiB pages, the same in every space */
#define SPACES 5u
#define TABLES 8u
#define USER_SLOTS 4u
#define DIRECTORY_OF(i) (0x100000u + (i) * 0x1000u)
#define KERNEL_DIRECTORY 0x108000u /* PAE: the fourth of every space */
#define PDPT_OF(i) (0x109000u + (i) * 0x20u)
#define TABLE_OF(i) (0x110000u + (i) * 0x1000u)
#define POOL 0x400000u /* data frames */
#define POOL_PAGES 24u
#define ENTRIES 6u     /* of each page table, entries in use */

struct guest {
	struct rig *r;
	uint64_t seed;
	unsigned steps;
	bool pae;
};

static gva_t slot_gva(const struct guest *g, uint32_t slot)
{
	return slot << (g->pae ? 21 : 22);
}

static uint32_t root_of(const struct guest *g, uint32_t space)
{
	return g->pae ? PDPT_OF(space) : DIRECTORY_OF(space);
}

/* The entries for an address in a space's directory, and in a page table. */
static gpa_t pde_of(const struct guest *g, uint32_t space, gva_t gva)
{
	if (!g->pae) return rig_pde(DIRECTORY_OF(space), gva);
	return (gva >= KERNEL ? KERNEL_DIRECTORY : DIRECTORY_OF(space)) + (gva >> 21 & 511) * 8;
}

static uint32_t pick(struct guest *g, uint32_t n)
{
	g->seed ^= g->seed << 13;
	g->seed ^= g->seed >> 7;
	g->seed ^= g->seed << 17;
	return (uint32_t)(g->seed >> 20) % n;
}

static bool soft_hit(struct guest *g, const struct shadow_view *v, gva_t gva, unsigned access, gpa_t *gpa)
{
	uint64_t addend = access & ACCESS_WRITE ? rig_write_entry(v, gva) : rig_read_entry(v, gva);
	*gpa = gva + addend - (uintptr_t)g->r->ram;
	return addend != 0;
}

static bool direct_hit(struct guest *g, const struct shadow_view *v, gva_t gva, unsigned access, gpa_t *gpa)
{
	uint32_t shown = rig_shown(g->r, v, gva);
	*gpa = (gpa_t)(shown >> 2) << PAGE_SHIFT | (gva & PAGE_MASK);
	return shown & (access & ACCESS_WRITE ? MAP_W : MAP_R);
}

/* One access as translated code and its helpers make it. Returns what it came to. */
static struct shadow_answer access_guest(struct guest *g, gva_t gva, unsigned access)
{
	struct shadow_view *v = shadow_view(g->r->s, access & ACCESS_USER);
	struct shadow_answer a = { .kind = SHADOW_RAM };
	g->r->kernel_runs = !(access & ACCESS_USER);
	if (!g->r->kernel_runs) shadow_settle(g->r->s);
	/* Fetches ask neither: they go by the exec table alone. */
	if (access & ACCESS_FETCH) return shadow_resolve(g->r->s, gva, access);
	bool direct = v->direct && pick(g, 2);
	if (direct ? direct_hit(g, v, gva, access, &a.gpa) : soft_hit(g, v, gva, access, &a.gpa)) return a;
	bool mapped;
	a = direct ? shadow_map(g->r->s, gva, access, &mapped) : shadow_resolve(g->r->s, gva, access);
	gpa_t shown;
	if (!direct && a.kind == SHADOW_FAULT && pick(g, 2)) shadow_expect(g->r->s, gva);
	if (direct && mapped) CHECK(direct_hit(g, v, gva, access, &shown));
	return a;
}

/* An access, and everything about it that the book says. */
static bool check_access(struct guest *g, gva_t gva, unsigned access, struct shadow_answer *a)
{
	struct rig *r = g->r;
	struct rig_walk before = rig_walk(r, r->cr3, gva, access);
	uint64_t pde = before.pde_at ? rig_entry(r, before.pde_at) : 0, pte = before.pte_at ? rig_entry(r, before.pte_at) : 0;
	*a = access_guest(g, gva, access);
	if (!before.ok) {
		CHECK_EQ(a->kind, SHADOW_FAULT);
		CHECK_EQ(a->error, before.error);
		CHECK(!before.pde_at || rig_entry(r, before.pde_at) == pde);
		CHECK(!before.pte_at || rig_entry(r, before.pte_at) == pte);
		return false;
	}
	bool ram = before.gpa < r->ram_size;
	CHECK_EQ(a->kind == SHADOW_RAM || a->kind == SHADOW_TRACED, ram);
	CHECK_EQ(a->gpa, before.gpa);
	struct rig_walk after = rig_walk(r, r->cr3, gva, access);
	CHECK(after.accessed || !before.pte_at); /* a large page shown under another directory may lack A in this one */
	if (access & ACCESS_WRITE) CHECK(after.dirty);
	if (!(access & ACCESS_WRITE)) CHECK_EQ(after.dirty, before.dirty);
	return ram;
}

static void store_part(struct guest *g, gva_t gva, const void *from, uint32_t size, unsigned access)
{
	struct shadow_answer a;
	if (!check_access(g, gva, access | ACCESS_WRITE, &a)) return;
	memcpy(g->r->ram + a.gpa, from, size);
	if (a.kind == SHADOW_TRACED) shadow_frame_written(g->r->s, a.gpa, size);
}

/* A wide entry in one store (cmpxchg8b) or in two halves, either first, with an access between them now and then. */
static void store(struct guest *g, gva_t gva, uint64_t value, unsigned access)
{
	const uint8_t *bytes = (const uint8_t *)&value;
	struct shadow_answer a;
	if (!g->pae || pick(g, 3) == 0) {
		store_part(g, gva, bytes, g->pae ? 8 : 4, access);
		return;
	}
	uint32_t first = pick(g, 2) * 4;
	store_part(g, gva + first, bytes + first, 4, access);
	if (!pick(g, 3)) check_access(g, slot_gva(g, pick(g, USER_SLOTS)) | pick(g, ENTRIES) << PAGE_SHIFT, ACCESS_USER, &a);
	store_part(g, gva + (first ^ 4), bytes + (first ^ 4), 4, access);
}

/* A string instruction over a page. */
static void store_bulk(struct guest *g, gva_t gva, const void *from, uint32_t size)
{
	struct shadow_answer a;
	if (!check_access(g, gva, ACCESS_WRITE, &a)) return;
	memcpy(g->r->ram + a.gpa, from, size);
	if (a.kind == SHADOW_TRACED) shadow_frame_written(g->r->s, a.gpa, size);
}

static uint32_t random_bits(struct guest *g)
{
	if (!pick(g, 8)) return pick(g, 128);
	uint32_t rights = (pick(g, 4) ? PTE_RW : 0) | (pick(g, 4) ? PTE_US : 0);
	return PTE_P | rights | (pick(g, 2) ? PTE_A : 0) | (pick(g, 2) ? PTE_D : 0);
}

/* The upper half of a wide entry: mostly empty; sometimes XD, a frame above 4 GiB, or a reserved bit. */
static uint64_t random_high(struct guest *g)
{
	if (!g->pae) return 0;
	uint64_t high = pick(g, 4) ? 0 : PTE_XD;
	if (!pick(g, 16)) high |= 1ULL << (32 + pick(g, 8));
	return high;
}

static uint32_t random_pde_low(struct guest *g)
{
	switch (pick(g, 12)) {
	case 0: return slot_gva(g, pick(g, 3)) | random_bits(g) | PTE_PS;
	case 1: return DIRECTORY_OF(pick(g, SPACES)) | random_bits(g); /* a directory as page table */
	case 2: return 0x00402000 | random_bits(g) | (pick(g, 2) ? PTE_PS : 0);
	case 3: return 0x7FFF0000 | random_bits(g);
	default: return TABLE_OF(pick(g, TABLES)) | random_bits(g);
	}
}

static uint64_t random_pde(struct guest *g)
{
	return random_high(g) | random_pde_low(g);
}

static uint32_t random_pte_low(struct guest *g, uint32_t entry)
{
	switch (pick(g, 16)) {
	case 0: return TABLE_OF(pick(g, TABLES)) | random_bits(g);
	case 1: return DIRECTORY_OF(pick(g, SPACES)) | random_bits(g);
	case 2: return 0xFEE00000 | random_bits(g);
	case 3: return 0;
	case 4: case 5: case 6: case 7: case 8: case 9: case 10: return (POOL + (entry + pick(g, 2)) * PAGE_SIZE) | random_bits(g);
	default: return (POOL + pick(g, POOL_PAGES) * PAGE_SIZE) | random_bits(g);
	}
}

static uint64_t random_pte(struct guest *g, uint32_t entry)
{
	return random_high(g) | random_pte_low(g, entry);
}

static gva_t random_user_gva(struct guest *g)
{
	return slot_gva(g, pick(g, USER_SLOTS)) | pick(g, ENTRIES) << PAGE_SHIFT | pick(g, 1024) * 4;
}

static void edit_tables(struct guest *g)
{
	uint32_t entry = pick(g, ENTRIES);
	if (pick(g, 4))
		store(g, KERNEL + TABLE_OF(pick(g, TABLES)) + entry * (g->pae ? 8 : 4), random_pte(g, entry), 0);
	else
		store(g, KERNEL + (gva_t)pde_of(g, pick(g, SPACES), slot_gva(g, pick(g, USER_SLOTS))), random_pde(g), 0);
}

static void edit_in_bulk(struct guest *g)
{
	uint8_t entries[ENTRIES * 8];
	uint32_t width = g->pae ? 8 : 4;
	bool table = pick(g, 3);
	for (uint32_t i = 0; i < ENTRIES; i++) {
		uint64_t entry = table ? random_pte(g, i) : random_pde(g);
		memcpy(entries + i * width, &entry, width);
	}
	if (table)
		store_bulk(g, KERNEL + TABLE_OF(pick(g, TABLES)), entries, ENTRIES * width);
	else
		store_bulk(g, KERNEL + DIRECTORY_OF(pick(g, SPACES)), entries, USER_SLOTS * width);
}

static void toggle_code(struct guest *g)
{
	gfn_t gfn = (POOL >> PAGE_SHIFT) + pick(g, POOL_PAGES);
	if (shadow_is_code_traced(g->r->s, gfn))
		shadow_untrace_code(g->r->s, gfn);
	else
		shadow_trace_code(g->r->s, gfn);
}

/* The kernel's own large pages: cleaned, write-protected or made absent in one space, and put right in the next step. */
static void edit_kernel_slot(struct guest *g)
{
	gpa_t at = pde_of(g, pick(g, SPACES), KERNEL + POOL);
	static const uint32_t bits[] = { PTE_P | PTE_RW, PTE_P | PTE_RW | PTE_A | PTE_D, PTE_P, PTE_P | PTE_RW | PTE_US, 0 };
	uint32_t value = POOL | PTE_PS | bits[pick(g, ARRAY_LEN(bits))];
	store(g, KERNEL + (gva_t)at, value, 0);
}

static void change_mode(struct guest *g)
{
	static const uint32_t cr0s[] = { PAGING_CR0, PAGING_CR0, CR0_PE | CR0_PG, CR0_PE };
	uint32_t cr0 = cr0s[pick(g, ARRAY_LEN(cr0s))];
	uint32_t cr4 = CR4_PSE | (g->pae ? CR4_PAE : 0) | (pick(g, 2) ? CR4_SMEP : 0) | (pick(g, 3) ? 0 : CR4_SMAP);
	g->r->nx = pick(g, 3);
	g->r->pse36 = pick(g, 2);
	rig_set_paging(g->r, cr0, g->r->cr3, cr4);
}

/* PDPTEs are not coherent: an edit holds from the next CR3 load on. */
static void edit_pdpt(struct guest *g)
{
	uint64_t directory = pick(g, 8) ? DIRECTORY_OF(pick(g, SPACES)) : KERNEL_DIRECTORY;
	store(g, KERNEL + PDPT_OF(pick(g, SPACES)) + pick(g, 2) * 8, directory | (pick(g, 6) ? 1 : 0), 0);
}

static void host_trouble(struct guest *g)
{
	if (pick(g, 2))
		g->r->fail_maps = 1;
	else
		g->r->fail_protects = 1;
}

static void step(struct guest *g)
{
	struct shadow_answer a;
	switch (pick(g, 40)) {
	case 0: case 1: case 2: case 3: case 4: case 5: case 12: edit_tables(g); break;
	case 6: edit_in_bulk(g); break;
	case 7: case 8: case 9: rig_set_paging(g->r, g->r->cr0, root_of(g, pick(g, SPACES)) | (pick(g, 2) << 3), g->r->cr4); break;
	case 10: toggle_code(g); break;
	case 11: (pick(g, 2) ? shadow_make_low : shadow_make_direct)(g->r->s, shadow_view(g->r->s, true)); break;
	case 13: edit_kernel_slot(g); break;
	case 14: if (!pick(g, 20)) change_mode(g); break;
	case 15: if (!pick(g, 20)) host_trouble(g); break;
	case 16: if (!pick(g, 40)) shadow_flush(g->r->s); break;
	case 17: check_access(g, KERNEL + POOL + pick(g, POOL_PAGES) * PAGE_SIZE, pick(g, 2) * ACCESS_WRITE, &a); break;
	/* Stores by users, who may have a page table mapped. */
	case 18: store(g, random_user_gva(g) & ~0xFE0u, random_pte(g, 0), ACCESS_USER); break;
	case 19: check_access(g, random_user_gva(g), ACCESS_USER | ACCESS_FETCH, &a); break;
	case 24: check_access(g, random_user_gva(g), ACCESS_FETCH, &a); break;
	case 25: check_access(g, random_user_gva(g), ACCESS_AC | pick(g, 2) * ACCESS_WRITE, &a); break;
	case 26: if (g->pae) edit_pdpt(g); break;
	case 20: case 21: case 22: case 23: check_access(g, random_user_gva(g), pick(g, 2) * ACCESS_WRITE, &a); break;
	default: check_access(g, random_user_gva(g), ACCESS_USER | pick(g, 2) * ACCESS_WRITE, &a); break;
	}
}

/* What the current views offer, seen from outside: nothing beyond a fresh walk. */
static void check_view(struct guest *g, bool user)
{
	struct shadow_view *v = shadow_view(g->r->s, user);
	for (uint32_t i = 0; i < USER_SLOTS * ENTRIES; i++) {
		gva_t gva = slot_gva(g, i / ENTRIES) | (i % ENTRIES) << PAGE_SHIFT;
		for (unsigned access = user ? ACCESS_USER : 0; access <= (user ? 6u : 2u); access += ACCESS_WRITE) {
			gpa_t soft = 0, direct = 0;
			bool is_soft = soft_hit(g, v, gva, access, &soft), is_direct = direct_hit(g, v, gva, access, &direct);
			if (!is_soft && !is_direct) continue;
			struct rig_walk w = rig_walk(g->r, g->r->cr3, gva, access);
			CHECK(w.ok);
			if (access & ACCESS_WRITE) CHECK(w.dirty);
			if (is_soft) CHECK_EQ(soft, w.gpa);
			if (is_direct) CHECK_EQ(direct, w.gpa);
		}
		uint32_t exec = rig_exec_entry(v, gva);
		struct rig_walk fetched = rig_walk(g->r, g->r->cr3, gva, ACCESS_FETCH | (user ? ACCESS_USER : 0));
		if (exec) CHECK(fetched.ok);
		if (exec) CHECK_EQ(exec - 1, fetched.gpa >> PAGE_SHIFT);
	}
}

static void make_space(struct guest *g, uint32_t space)
{
	for (uint32_t gpa = 0; gpa < g->r->ram_size; gpa += slot_gva(g, 1))
		*rig_word(g->r, pde_of(g, space, KERNEL + gpa)) = gpa | PTE_P | PTE_RW | PTE_PS | PTE_A | PTE_D;
	if (!g->pae) return;
	*rig_word(g->r, PDPT_OF(space)) = DIRECTORY_OF(space) | 1;
	*rig_word(g->r, PDPT_OF(space) + 24) = KERNEL_DIRECTORY | 1;
}

static void run(struct shadow_config config, bool pae, uint64_t seed, unsigned steps)
{
	struct guest g = { .r = rig_new(config), .seed = seed * 0x9E3779B97F4A7C15u + 1, .pae = pae };
	for (uint32_t i = 0; i < SPACES; i++) make_space(&g, i);
	g.r->nx = pae;
	rig_set_paging(g.r, PAGING_CR0, root_of(&g, 0), pae ? CR4_PAE : CR4_PSE);
	while (g.steps < steps && !test_has_failed()) {
		step(&g);
		g.steps++;
		CHECK_STR(shadow_check(g.r->s), NULL);
		check_view(&g, true);
		check_view(&g, false);
		if (g.steps % 512 == 0) CHECK(rig_count_maps(g.r) <= config.map_budget);
	}
	if (test_has_failed()) fprintf(stderr, "seed %llu, step %u\n", (unsigned long long)seed, g.steps);
	rig_delete(g.r);
}

static void run_seeds(struct shadow_config config, unsigned steps)
{
	const char *given = getenv("SHADOW_SEED");
	uint64_t first = given ? strtoull(given, NULL, 0) : 1, last = given ? first : 4;
	for (uint64_t seed = first; seed <= last && !test_has_failed(); seed++) {
		run(config, false, seed, steps);
		if (!test_has_failed()) run(config, true, seed, steps);
	}
}

TEST(shadow_random, roomy)
{
	run_seeds(rig_config(MIB(12)), 1500);
}

TEST(shadow_random, few_views_small_budget)
{
	struct shadow_config config = rig_config(MIB(12));
	config.max_views = 2;
	config.max_windows = 1;
	config.map_budget = 40;
	run_seeds(config, 1500);
}

TEST(shadow_random, with_a_hole_nobody_maps)
{
	struct shadow_config config = rig_config(MIB(10));
	config.hole_start = 0xA0000;
	config.hole_end = 0xC0000;
	config.map_budget = 128;
	run_seeds(config, 1500);
}
