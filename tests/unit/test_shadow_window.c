/* Windows: what hidden faults map, how traces and drops take it back, and the budget. */
#include "shadow/internal.h"
#include "tests/unit/test_shadow.h"

#define KERNEL 0xC0000000u
#define USER 0x00400000u
#define TABLE_OF(space) (0x100000u + (space) * 0x10000u + 0x1000u)
#define DIRECTORY_OF(space) (0x100000u + (space) * 0x10000u)
#define DATA 0x400000u
#define ANY (PTE_P | PTE_RW | PTE_US)
#define DIRTY (ANY | PTE_A | PTE_D)
#define KERNEL_PDE (PTE_P | PTE_RW | PTE_PS | PTE_A | PTE_D)

/* 64 user pages from USER on, frames contiguous from DATA on; all spaces share them. */
static void make_space(struct rig *r, uint32_t space, uint32_t pte_bits)
{
	gpa_t directory = DIRECTORY_OF(space), table = TABLE_OF(space);
	for (uint32_t gpa = 0; gpa < r->ram_size; gpa += 1u << 22) *rig_word(r, rig_pde(directory, KERNEL + gpa)) = gpa | KERNEL_PDE;
	*rig_word(r, rig_pde(directory, USER)) = (uint32_t)table | ANY;
	for (uint32_t i = 0; i < 64; i++) *rig_word(r, rig_pte(table, USER + i * PAGE_SIZE)) = (DATA + i * PAGE_SIZE) | pte_bits;
}

static struct rig *new_spaces(struct shadow_config config, uint32_t spaces, uint32_t pte_bits)
{
	struct rig *r = rig_new(config);
	for (uint32_t i = 0; i < spaces; i++) make_space(r, i, pte_bits);
	rig_set_paging(r, PAGING_CR0, DIRECTORY_OF(0), CR4_PSE);
	return r;
}

static void load_space(struct rig *r, uint32_t space)
{
	rig_set_paging(r, r->cr0, DIRECTORY_OF(space), r->cr4);
}

static struct shadow_view *user_view(struct rig *r) { return shadow_view(r->s, true); }
static struct shadow_view *kernel_view(struct rig *r) { return shadow_view(r->s, false); }

static bool map_page(struct rig *r, gva_t gva, unsigned access)
{
	bool mapped;
	struct shadow_answer a = shadow_map(r->s, gva, access, &mapped);
	return CHECK_EQ(a.kind, SHADOW_RAM) && mapped;
}

static uint32_t data_shown(uint32_t i, bool writable)
{
	return ((DATA >> 12) + i) << 2 | MAP_R | (writable ? MAP_W : 0);
}

TEST(shadow_window, soft_views_map_nothing)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	CHECK(!user_view(r)->window);
	CHECK(kernel_view(r)->window);
	CHECK(!map_page(r, USER, ACCESS_USER));
	CHECK(rig_read_entry(user_view(r), USER) != 0);
	CHECK_EQ(r->maps, 0);
	rig_delete(r);
}

TEST(shadow_window, neighbours_come_along)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	*rig_word(r, rig_pte(TABLE_OF(0), USER + 20 * PAGE_SIZE)) = DATA + 63 * PAGE_SIZE + DIRTY; /* not contiguous */
	*rig_word(r, rig_pte(TABLE_OF(0), USER + 28 * PAGE_SIZE)) &= ~PTE_A; /* not used yet */
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	CHECK_EQ(r->stats.views_direct, 1);
	CHECK(map_page(r, USER + 24 * PAGE_SIZE, ACCESS_USER | ACCESS_WRITE));
	CHECK_EQ(r->maps, 1);
	for (uint32_t i = 0; i < 64; i++)
		CHECK_EQ(rig_shown(r, user_view(r), USER + i * PAGE_SIZE), i > 20 && i < 28 ? data_shown(i, true) : 0);
	CHECK_EQ(*rig_word(r, rig_pte(TABLE_OF(0), USER + 28 * PAGE_SIZE)), (DATA + 28 * PAGE_SIZE) | (DIRTY & ~PTE_A));
	/* Asked again, nothing is left to do. */
	CHECK(map_page(r, USER + 21 * PAGE_SIZE, ACCESS_USER));
	CHECK_EQ(r->maps, 1);
	CHECK_EQ(rig_count_maps(r), 4);
	rig_delete(r);
}

/* The host finds neighbours at once, since they were used before; not all of a large page, nor one page, which is touched next. */
TEST(shadow_window, what_is_mapped_at_once)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	*rig_word(r, rig_pte(TABLE_OF(0), USER + PAGE_SIZE)) &= ~PTE_P;
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	CHECK(map_page(r, USER, ACCESS_USER));
	CHECK_EQ(r->at_once, 0);
	CHECK(map_page(r, USER + 20 * PAGE_SIZE, ACCESS_USER));
	CHECK_EQ(r->at_once, 16);
	CHECK(map_page(r, KERNEL + DATA, ACCESS_READ));
	CHECK_EQ(r->at_once, 16);
	rig_delete(r);
}

TEST(shadow_window, neighbours_with_other_rights_stay_away)
{
	static const uint32_t without[] = { PTE_US, PTE_RW, PTE_P, PTE_D };
	for (unsigned i = 0; i < ARRAY_LEN(without); i++) {
		struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
		*rig_word(r, rig_pte(TABLE_OF(0), USER + PAGE_SIZE)) &= ~without[i];
		REQUIRE(shadow_make_direct(r->s, user_view(r)));
		CHECK(map_page(r, USER, ACCESS_USER | ACCESS_WRITE));
		CHECK_EQ(rig_shown(r, user_view(r), USER), data_shown(0, true));
		CHECK_EQ(rig_shown(r, user_view(r), USER + PAGE_SIZE), 0);
		rig_delete(r);
	}
}

TEST(shadow_window, clean_pages_are_read_only_until_written)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY & ~PTE_D);
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	CHECK(map_page(r, USER + PAGE_SIZE, ACCESS_USER));
	CHECK_EQ(rig_shown(r, user_view(r), USER + 2 * PAGE_SIZE), data_shown(2, false));
	CHECK(map_page(r, USER + 2 * PAGE_SIZE, ACCESS_USER | ACCESS_WRITE));
	CHECK_EQ(rig_shown(r, user_view(r), USER + PAGE_SIZE), data_shown(1, false));
	CHECK_EQ(rig_shown(r, user_view(r), USER + 2 * PAGE_SIZE), data_shown(2, true));
	CHECK_EQ(*rig_word(r, rig_pte(TABLE_OF(0), USER + PAGE_SIZE)) & PTE_D, 0);
	rig_delete(r);
}

TEST(shadow_window, entry_writes_reach_the_window)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	struct shadow_view *v = user_view(r);
	REQUIRE(shadow_make_direct(r->s, v));
	CHECK(map_page(r, USER, ACCESS_USER));
	rig_store(r, rig_pte(TABLE_OF(0), USER + PAGE_SIZE), (DATA + PAGE_SIZE) | (DIRTY & ~PTE_RW));
	CHECK_EQ(rig_shown(r, v, USER + PAGE_SIZE), data_shown(1, false));
	rig_store(r, rig_pte(TABLE_OF(0), USER + PAGE_SIZE), 0);
	CHECK_EQ(rig_shown(r, v, USER + PAGE_SIZE), 0);
	CHECK_EQ(rig_shown(r, v, USER + 2 * PAGE_SIZE), data_shown(2, true));
	CHECK_STR(shadow_check(r->s), NULL);
	rig_store(r, rig_pde(DIRECTORY_OF(0), USER), 0);
	CHECK_EQ(rig_shown(r, v, USER), 0);
	CHECK_EQ(rig_count_maps(r), 2);
	rig_delete(r);
}

TEST(shadow_window, large_pages_are_one_run_but_for_traced_frames)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	struct shadow_view *k = kernel_view(r);
	shadow_trace_code(r->s, 7);
	CHECK(map_page(r, KERNEL + 0x3000, ACCESS_READ));
	CHECK_EQ(r->maps, 1);
	CHECK_EQ(rig_shown(r, k, KERNEL + 0x3000), 3 << 2 | MAP_R | MAP_W);
	CHECK_EQ(rig_shown(r, k, KERNEL + 0x3FF000), 0x3FF << 2 | MAP_R | MAP_W);
	CHECK_EQ(rig_shown(r, k, KERNEL + 0x7000), 7 << 2 | MAP_R);
	CHECK_EQ(rig_shown(r, k, KERNEL + DIRECTORY_OF(0)), (DIRECTORY_OF(0) >> 12) << 2 | MAP_R);
	CHECK_STR(shadow_check(r->s), NULL);
	/* Traced later, found in the middle of the run. */
	shadow_trace_code(r->s, 9);
	CHECK_EQ(rig_shown(r, k, KERNEL + 0x9000), 9 << 2 | MAP_R);
	CHECK_EQ(shadow_resolve(r->s, KERNEL + 0x9000, ACCESS_WRITE).kind, SHADOW_TRACED);
	CHECK_STR(shadow_check(r->s), NULL);
	/* Untraced, it heals with the next write, and its neighbour too. */
	shadow_trace_code(r->s, 8);
	shadow_untrace_code(r->s, 8);
	shadow_untrace_code(r->s, 9);
	uint32_t maps = r->maps;
	CHECK(map_page(r, KERNEL + 0x9000, ACCESS_WRITE));
	CHECK_EQ(r->maps, maps);
	CHECK_EQ(rig_shown(r, k, KERNEL + 0x8000), 8 << 2 | MAP_R | MAP_W);
	CHECK_EQ(rig_shown(r, k, KERNEL + 0x9000), 9 << 2 | MAP_R | MAP_W);
	CHECK_EQ(rig_shown(r, k, KERNEL + 0x7000), 7 << 2 | MAP_R);
	rig_delete(r);
}

TEST(shadow_window, clean_large_page)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	rig_store(r, rig_pde(DIRECTORY_OF(0), KERNEL), PTE_P | PTE_RW | PTE_PS);
	CHECK(map_page(r, KERNEL + 0x3000, ACCESS_READ));
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + 0x4000), 4 << 2 | MAP_R);
	CHECK(map_page(r, KERNEL + 0x3000, ACCESS_WRITE));
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + 0x4000), 4 << 2 | MAP_R | MAP_W);
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + DIRECTORY_OF(0)), (DIRECTORY_OF(0) >> 12) << 2 | MAP_R);
	CHECK_STR(shadow_check(r->s), NULL);
	/* The guest cleans it. */
	rig_store(r, rig_pde(DIRECTORY_OF(0), KERNEL), PTE_P | PTE_RW | PTE_PS | PTE_A);
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + 0x4000) & MAP_W, 0);
	rig_delete(r);
}

TEST(shadow_window, unpaged_identity_leaves_the_hole_out)
{
	struct shadow_config config = rig_config(MIB(6));
	config.hole_start = 0xA0000;
	config.hole_end = 0x100000;
	struct rig *r = rig_new(config);
	struct shadow_view *k = kernel_view(r);
	shadow_trace_code(r->s, 0x101);
	CHECK(map_page(r, 0x7C00, ACCESS_WRITE));
	CHECK_EQ(rig_shown(r, k, 0x9F000), 0x9F << 2 | MAP_R | MAP_W);
	CHECK_EQ(rig_shown(r, k, 0xA0000), 0);
	CHECK_EQ(rig_shown(r, k, 0xFF000), 0);
	CHECK_EQ(rig_shown(r, k, 0x100000), 0x100 << 2 | MAP_R | MAP_W);
	CHECK_EQ(rig_shown(r, k, 0x101000), 0x101 << 2 | MAP_R);
	CHECK(map_page(r, 0x5FF000, ACCESS_READ));
	CHECK_EQ(rig_shown(r, k, 0x600000), 0);
	shadow_trace_code(r->s, 0x402);
	CHECK_EQ(rig_shown(r, k, 0x402000), 0x402 << 2 | MAP_R);
	bool mapped = true;
	CHECK_EQ(shadow_map(r->s, 0xB8000, ACCESS_WRITE, &mapped).kind, SHADOW_MMIO);
	CHECK(!mapped);
	rig_delete(r);
}

/* A frame that is a page table every now and then: after a while its mapping is left alone, and instructions go soft
 * instead. */
TEST(shadow_window, frames_that_change_sides_are_left_read_only)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	unsigned refused = 0;
	CHECK(map_page(r, KERNEL + DATA, ACCESS_WRITE));
	for (unsigned i = 0; i < 64; i++) {
		shadow_trace_code(r->s, DATA >> 12);
		shadow_untrace_code(r->s, DATA >> 12);
		refused += !map_page(r, KERNEL + DATA, ACCESS_WRITE);
		CHECK(rig_shown(r, kernel_view(r), KERNEL + DATA) & MAP_R);
	}
	CHECK_EQ(refused, 32);
	CHECK(r->protects < 80);
	CHECK(map_page(r, KERNEL + DATA + PAGE_SIZE, ACCESS_WRITE));
	rig_delete(r);
}

/* A fixmap slot: mapped, used, unmapped, over and over. */
TEST(shadow_window, pages_that_come_and_go_turn_soft_in_the_supervisor_window)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	unsigned refused = 0;
	for (unsigned i = 0; i < 64; i++) {
		refused += !map_page(r, USER, ACCESS_WRITE);
		CHECK(map_page(r, USER, ACCESS_USER));
		rig_store(r, rig_pte(TABLE_OF(0), USER), 0);
		rig_store(r, rig_pte(TABLE_OF(0), USER), DATA | DIRTY);
	}
	CHECK_EQ(refused, 32);
	rig_delete(r);
}

/* The pages below LOW_WINDOW_START are not to be had there; they stay soft. */
TEST(shadow_window, at_0_it_shows_all_but_the_lowest_pages)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	*rig_word(r, rig_pde(DIRECTORY_OF(0), 0)) = TABLE_OF(1) | ANY;
	for (uint32_t i = 0; i < 64; i++) *rig_word(r, rig_pte(TABLE_OF(1), i * PAGE_SIZE)) = (DATA + i * PAGE_SIZE) | DIRTY;
	CHECK(!map_page(r, 2 * PAGE_SIZE, ACCESS_USER));
	CHECK(!map_page(r, 20 * PAGE_SIZE, ACCESS_USER));
	REQUIRE(shadow_make_low(r->s, user_view(r)));
	CHECK(user_view(r)->direct && !user_view(r)->window);
	CHECK_EQ(r->stats.views_low, 1);
	CHECK_EQ(rig_shown(r, user_view(r), 20 * PAGE_SIZE), data_shown(20, true));
	CHECK(!map_page(r, 3 * PAGE_SIZE, ACCESS_USER));
	CHECK(!map_page(r, 15 * PAGE_SIZE, ACCESS_USER | ACCESS_WRITE));
	CHECK(map_page(r, 16 * PAGE_SIZE, ACCESS_USER | ACCESS_WRITE));
	CHECK(map_page(r, USER, ACCESS_USER));
	for (gva_t page = 0; page < 16; page++) CHECK_EQ(rig_shown(r, user_view(r), page * PAGE_SIZE), 0);
	CHECK_EQ(rig_shown(r, user_view(r), USER), data_shown(0, true));
	rig_delete(r);
}

/* So with a large page, which would be one run. */
TEST(shadow_window, at_0_a_large_page_is_shown_page_by_page)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	*rig_word(r, rig_pde(DIRECTORY_OF(0), 0)) = DATA | KERNEL_PDE | PTE_US;
	REQUIRE(shadow_make_low(r->s, user_view(r)));
	CHECK(!map_page(r, 5 * PAGE_SIZE, ACCESS_USER));
	CHECK(map_page(r, 30 * PAGE_SIZE, ACCESS_USER | ACCESS_WRITE));
	CHECK_EQ(rig_shown(r, user_view(r), 30 * PAGE_SIZE), data_shown(30, true));
	rig_delete(r);
}

TEST(shadow_window, one_view_has_the_window_at_0)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 2, DIRTY);
	struct shadow_view *first = user_view(r);
	REQUIRE(shadow_make_low(r->s, first));
	CHECK(map_page(r, USER, ACCESS_USER));
	load_space(r, 1);
	REQUIRE(shadow_make_low(r->s, user_view(r)));
	CHECK(!first->direct);
	CHECK_EQ(rig_shown(r, user_view(r), USER), 0);
	CHECK(map_page(r, USER + PAGE_SIZE, ACCESS_USER));
	CHECK_STR(shadow_check(r->s), NULL);
	load_space(r, 0);
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	CHECK(first->window);
	REQUIRE(shadow_make_low(r->s, first));
	CHECK(first->window); /* it has one */
	rig_delete(r);
}

TEST(shadow_window, traces_protect_every_window)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 2, DIRTY);
	struct shadow_view *first = user_view(r);
	REQUIRE(shadow_make_direct(r->s, first));
	CHECK(map_page(r, USER, ACCESS_USER | ACCESS_WRITE));
	load_space(r, 1);
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	CHECK(map_page(r, USER, ACCESS_USER | ACCESS_WRITE));
	CHECK(map_page(r, KERNEL + DATA, ACCESS_WRITE));
	shadow_trace_code(r->s, (DATA >> 12) + 3);
	CHECK_EQ(rig_shown(r, first, USER + 3 * PAGE_SIZE), data_shown(3, false));
	CHECK_EQ(rig_shown(r, user_view(r), USER + 3 * PAGE_SIZE), data_shown(3, false));
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + DATA + 3 * PAGE_SIZE), data_shown(3, false));
	CHECK_EQ(rig_shown(r, first, USER + 4 * PAGE_SIZE), data_shown(4, true));
	rig_delete(r);
}

TEST(shadow_window, slots_that_differ_turn_soft_in_the_supervisor_window)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 2, DIRTY);
	CHECK(map_page(r, USER, ACCESS_READ));
	CHECK(map_page(r, KERNEL, ACCESS_READ));
	load_space(r, 1);
	CHECK_EQ(rig_shown(r, kernel_view(r), USER), 0);
	CHECK(rig_shown(r, kernel_view(r), KERNEL) != 0);
	CHECK(!map_page(r, USER, ACCESS_READ));
	CHECK(map_page(r, KERNEL + DATA, ACCESS_READ));
	rig_delete(r);
}

/* The guest fills a slot of its own half in lazily: not a reason to go soft. */
TEST(shadow_window, slots_that_are_absent_elsewhere_stay_direct)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 2, DIRTY);
	*rig_word(r, rig_pde(DIRECTORY_OF(1), KERNEL + DATA)) = 0;
	CHECK(map_page(r, KERNEL + DATA, ACCESS_READ));
	load_space(r, 1);
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + DATA), 0);
	CHECK_EQ(shadow_resolve(r->s, KERNEL + DATA, ACCESS_READ).kind, SHADOW_FAULT);
	rig_store(r, rig_pde(DIRECTORY_OF(1), KERNEL + DATA), DATA | PTE_P | PTE_RW | PTE_PS);
	CHECK(map_page(r, KERNEL + DATA, ACCESS_READ));
	rig_delete(r);
}

TEST(shadow_window, turning_direct_maps_what_the_tables_list)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	for (uint32_t i = 0; i < 40; i++)
		if (i != 10) shadow_resolve(r->s, USER + i * PAGE_SIZE, ACCESS_USER | ACCESS_WRITE);
	shadow_trace_code(r->s, (DATA >> 12) + 20);
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	CHECK_EQ(r->maps, 4); /* 0-9, 11-19, 20, 21-39 */
	for (uint32_t i = 0; i < 64; i++)
		CHECK_EQ(rig_shown(r, user_view(r), USER + i * PAGE_SIZE), i < 40 && i != 10 ? data_shown(i, i != 20) : 0);
	rig_delete(r);
}

/* Page by page at first, as the tables list it; as one run with the first hidden fault. */
TEST(shadow_window, a_large_user_page_turns_into_one_run)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	rig_store(r, rig_pde(DIRECTORY_OF(0), USER), DATA | DIRTY | PTE_PS);
	shadow_resolve(r->s, USER + 5 * PAGE_SIZE, ACCESS_USER | ACCESS_WRITE);
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	CHECK_EQ(rig_shown(r, user_view(r), USER + 5 * PAGE_SIZE), data_shown(5, true));
	CHECK_EQ(rig_shown(r, user_view(r), USER + 6 * PAGE_SIZE), 0);
	CHECK(map_page(r, USER + 6 * PAGE_SIZE, ACCESS_USER));
	CHECK_EQ(rig_shown(r, user_view(r), USER + 5 * PAGE_SIZE), data_shown(5, true));
	CHECK_EQ(rig_shown(r, user_view(r), USER + 500 * PAGE_SIZE), data_shown(500, true));
	CHECK_EQ(rig_count_maps(r), 4);
	CHECK_STR(shadow_check(r->s), NULL);
	shadow_trace_code(r->s, (DATA >> 12) + 5);
	CHECK_EQ(rig_shown(r, user_view(r), USER + 5 * PAGE_SIZE), data_shown(5, false));
	rig_delete(r);
}

TEST(shadow_window, user_windows_are_limited)
{
	struct shadow_config config = rig_config(MIB(16));
	config.max_windows = 2;
	struct rig *r = new_spaces(config, 3, DIRTY);
	struct shadow_view *views[3];
	for (uint32_t i = 0; i < 3; i++) {
		load_space(r, i);
		views[i] = user_view(r);
		views[i]->used_ns = 100;
		REQUIRE(shadow_make_direct(r->s, views[i]));
		CHECK(map_page(r, USER, ACCESS_USER));
	}
	CHECK(!views[0]->window);
	CHECK_EQ(views[0]->used_ns, 0);
	CHECK(views[1]->window && views[2]->window);
	CHECK_EQ(r->stats.windows_dropped, 1);
	rig_delete(r);
}

/* Every second page: each is a mapping of its own. */
static void map_scattered(struct rig *r)
{
	for (uint32_t i = 0; i < 64; i += 2) map_page(r, USER + i * PAGE_SIZE, ACCESS_USER);
}

TEST(shadow_window, budget)
{
	struct shadow_config config = rig_config(MIB(16));
	config.map_budget = 96;
	struct rig *r = new_spaces(config, 2, 0);
	for (uint32_t s = 0; s < 2; s++)
		for (uint32_t i = 0; i < 64 * PAGE_SIZE; i += 2 * PAGE_SIZE)
			*rig_word(r, rig_pte(TABLE_OF(s), USER + i)) = (DATA + i) | DIRTY;
	struct shadow_view *first = user_view(r);
	REQUIRE(shadow_make_direct(r->s, first));
	map_scattered(r);
	CHECK_EQ(rig_count_maps(r), 1 + 65);
	CHECK_EQ(r->stats.windows_dropped, 0);
	load_space(r, 1);
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	map_scattered(r);
	CHECK_EQ(r->stats.windows_dropped, 1); /* the other address space's */
	CHECK(!first->window);
	CHECK_EQ(rig_count_maps(r), 1 + 65);
	CHECK_STR(shadow_check(r->s), NULL);
	/* No other window to take from: our own is emptied, and goes on. */
	for (uint32_t i = 64; i < 128; i += 2) {
		rig_store(r, rig_pte(TABLE_OF(1), USER + i * PAGE_SIZE), (DATA + i * PAGE_SIZE) | DIRTY);
		map_page(r, USER + i * PAGE_SIZE, ACCESS_USER);
	}
	CHECK(user_view(r)->window);
	CHECK_EQ(r->stats.windows_dropped, 2);
	CHECK(rig_count_maps(r) <= 96);
	rig_delete(r);
}

/* A view that fills the budget by itself again and again is refused more: emptying its window each time would never end. */
TEST(shadow_window, own_hunger_ends)
{
	struct shadow_config config = rig_config(MIB(16));
	config.map_budget = 96;
	struct rig *r = new_spaces(config, 1, 0);
	for (uint32_t i = 0; i < 512; i += 2) *rig_word(r, rig_pte(TABLE_OF(0), USER + i * PAGE_SIZE)) = (DATA + i * PAGE_SIZE) | DIRTY;
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	uint32_t mapped = 0;
	for (uint32_t i = 0; i < 512; i += 2) mapped += map_page(r, USER + i * PAGE_SIZE, ACCESS_USER);
	CHECK_EQ(r->stats.windows_dropped, OWN_LOSSES);
	CHECK(mapped < 256);
	CHECK(user_view(r)->window);
	CHECK(rig_count_maps(r) <= 96);
	CHECK_STR(shadow_check(r->s), NULL);
	rig_delete(r);
}

/* One frame at very many addresses: the list of its writers, and that of its page table's users, stay short. */
TEST(shadow_window, a_frame_shown_everywhere)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, 0);
	for (uint32_t i = 0; i < 1024; i++) *rig_word(r, rig_pte(TABLE_OF(0), i * PAGE_SIZE)) = DATA | DIRTY;
	for (uint32_t slot = 0; slot < 700; slot++) *rig_word(r, rig_pde(DIRECTORY_OF(0), slot << 22)) = (uint32_t)TABLE_OF(0) | ANY;
	for (uint32_t i = 0; i < 1024; i++) CHECK_EQ(shadow_resolve(r->s, i * PAGE_SIZE, ACCESS_USER | ACCESS_WRITE).kind, SHADOW_RAM);
	CHECK(r->s->pool.used <= 3 * LIST_MOST);
	CHECK(rig_write_entry(user_view(r), 1023 * PAGE_SIZE) != 0);
	CHECK(rig_write_entry(user_view(r), 0) == 0);
	CHECK_STR(shadow_check(r->s), NULL);
	for (uint32_t slot = 0; slot < 700; slot++) CHECK_EQ(shadow_resolve(r->s, slot << 22, ACCESS_USER | ACCESS_WRITE).kind, SHADOW_RAM);
	CHECK(r->s->pool.used <= 3 * LIST_MOST);
	CHECK_STR(shadow_check(r->s), NULL);
	/* Direct, where windows write. */
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	for (uint32_t i = 0; i < 1024; i++) map_page(r, i * PAGE_SIZE, ACCESS_USER | ACCESS_WRITE);
	CHECK(r->s->pool.used <= 3 * LIST_MOST);
	CHECK_STR(shadow_check(r->s), NULL);
	rig_delete(r);
}

/* So is a chunk of RAM that large pages show everywhere; beyond the limit they are shown page by page. */
TEST(shadow_window, a_large_page_shown_everywhere)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, 0);
	for (uint32_t slot = 0; slot < 700; slot++) *rig_word(r, rig_pde(DIRECTORY_OF(0), slot << 22)) = DATA | DIRTY | PTE_PS;
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	for (uint32_t slot = 0; slot < 700; slot++) CHECK(map_page(r, slot << 22, ACCESS_USER | ACCESS_WRITE));
	CHECK(r->s->pool.used <= 2 * LIST_MOST);
	CHECK(rig_shown(r, user_view(r), PAGE_SIZE) & MAP_W);
	CHECK_EQ(rig_shown(r, user_view(r), (699u << 22) + PAGE_SIZE), 0);
	CHECK(rig_shown(r, user_view(r), 699u << 22) & MAP_W);
	CHECK_STR(shadow_check(r->s), NULL);
	/* A trace finds them all. */
	shadow_trace_code(r->s, DATA >> PAGE_SHIFT);
	for (uint32_t slot = 0; slot < 700; slot++) CHECK(!(rig_shown(r, user_view(r), slot << 22) & MAP_W));
	CHECK_STR(shadow_check(r->s), NULL);
	rig_delete(r);
}

/* Tables take memory in pieces: beyond the budget the view used longest ago gives back all of its own. */
TEST(shadow_window, tables_stay_within_their_budget)
{
	struct shadow_config config = rig_config(MIB(16));
	config.max_views = 6;
	struct rig *r = new_spaces(config, 6, DIRTY);
	for (uint32_t s = 0; s < 6; s++)
		for (uint32_t slot = 0; slot < 768; slot++) *rig_word(r, rig_pde(DIRECTORY_OF(s), slot << 22)) = (uint32_t)TABLE_OF(s) | ANY;
	for (uint32_t round = 0; round < 12; round++) {
		load_space(r, round % 6);
		for (uint32_t slot = 0; slot < 768; slot++) CHECK_EQ(shadow_resolve(r->s, slot << 22, ACCESS_USER).kind, SHADOW_RAM);
		CHECK(r->s->piece_count <= config.table_budget);
		CHECK(rig_read_entry(user_view(r), 767u << 22) != 0);
	}
	CHECK(r->trims >= 1);
	CHECK_STR(shadow_check(r->s), NULL);
	rig_delete(r);
}

TEST(shadow_window, a_trace_that_cannot_protect_drops_the_window)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 2, DIRTY);
	struct shadow_view *first = user_view(r);
	REQUIRE(shadow_make_direct(r->s, first));
	CHECK(map_page(r, USER, ACCESS_USER | ACCESS_WRITE));
	r->fail_protects = 1;
	shadow_trace_code(r->s, DATA >> 12);
	CHECK(first->window != NULL); /* in use: emptied, not freed */
	CHECK_EQ(rig_count_maps(r), 2);
	CHECK_STR(shadow_check(r->s), NULL);
	CHECK(map_page(r, USER + PAGE_SIZE, ACCESS_USER | ACCESS_WRITE));
	load_space(r, 1);
	r->fail_protects = 1;
	shadow_trace_code(r->s, (DATA >> 12) + 1);
	CHECK(!first->window);
	/* In the middle of a large run. */
	CHECK(map_page(r, KERNEL + DATA + 2 * PAGE_SIZE, ACCESS_WRITE));
	r->fail_protects = 1;
	shadow_trace_code(r->s, (DATA >> 12) + 2);
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + DATA + 2 * PAGE_SIZE), 0);
	CHECK_EQ(r->stats.windows_dropped, 3);
	rig_delete(r);
}

TEST(shadow_window, a_map_that_fails_empties_the_window)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	CHECK(map_page(r, KERNEL, ACCESS_READ));
	r->fail_maps = 1;
	CHECK(!map_page(r, KERNEL + DATA, ACCESS_READ));
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL), 0);
	CHECK_EQ(rig_count_maps(r), 1);
	CHECK_STR(shadow_check(r->s), NULL);
	CHECK(map_page(r, KERNEL + DATA, ACCESS_READ));
	rig_delete(r);
}

TEST(shadow_window, a_budget_too_small_for_a_large_run_maps_pages)
{
	struct shadow_config config = rig_config(MIB(16));
	config.map_budget = 16;
	struct rig *r = new_spaces(config, 1, DIRTY);
	for (gfn_t gfn = 0; gfn < 64; gfn += 2) shadow_trace_code(r->s, gfn);
	CHECK(map_page(r, KERNEL + 0x1000, ACCESS_WRITE));
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + 0x1000), 1 << 2 | MAP_R | MAP_W);
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + 0x3000), 0);
	shadow_trace_code(r->s, 1);
	CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + 0x1000), 1 << 2 | MAP_R);
	rig_delete(r);
}

/* Traces split mappings: beyond the budget the window goes rather than the trace. */
TEST(shadow_window, traces_stay_within_the_budget)
{
	struct shadow_config config = rig_config(MIB(16));
	config.map_budget = 24;
	struct rig *r = new_spaces(config, 1, DIRTY);
	CHECK(map_page(r, KERNEL + DATA, ACCESS_WRITE));
	for (gfn_t i = 0; i < 30; i++) {
		shadow_trace_code(r->s, (DATA >> 12) + 2 * i);
		CHECK(rig_count_maps(r) <= 24);
		CHECK_EQ(rig_shown(r, kernel_view(r), KERNEL + DATA + 2 * i * PAGE_SIZE) & MAP_W, 0);
	}
	CHECK_EQ(r->stats.windows_dropped, 1);
	rig_delete(r);
}

TEST(shadow_window, recycled_views_lose_their_window)
{
	struct shadow_config config = rig_config(MIB(16));
	config.max_views = 1;
	struct rig *r = new_spaces(config, 2, DIRTY);
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	CHECK(map_page(r, USER, ACCESS_USER | ACCESS_WRITE));
	load_space(r, 1);
	CHECK(!user_view(r)->window);
	CHECK_EQ(rig_count_maps(r), 1);
	rig_delete(r);
}

TEST(shadow_window, flush_empties_but_keeps_the_current)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	CHECK(map_page(r, USER, ACCESS_USER));
	CHECK(map_page(r, KERNEL, ACCESS_READ));
	shadow_flush(r->s);
	CHECK(user_view(r)->window && kernel_view(r)->window);
	CHECK_EQ(rig_count_maps(r), 2);
	CHECK_STR(shadow_check(r->s), NULL);
	CHECK(map_page(r, USER, ACCESS_USER));
	rig_delete(r);
}

static struct rig *new_mapped(void)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 1, DIRTY);
	CHECK(shadow_make_direct(r->s, user_view(r)));
	CHECK(map_page(r, USER, ACCESS_USER | ACCESS_WRITE));
	CHECK_EQ(r->maps, 1);
	r->kernel_runs = true;
	return r;
}

TEST(shadow_window, kernel_unmaps_pages_and_the_host_hears_of_it_once)
{
	struct rig *r = new_mapped();
	for (uint32_t i = 2; i < 10; i++) rig_store(r, rig_pte(TABLE_OF(0), USER + i * PAGE_SIZE), 0);
	CHECK_EQ(r->resets, 0);
	CHECK(user_view(r)->behind);
	CHECK_EQ(rig_read_entry(user_view(r), USER + 2 * PAGE_SIZE), 0);
	shadow_settle(r->s);
	CHECK_EQ(r->resets, 1);
	CHECK(!user_view(r)->behind);
	for (uint32_t i = 0; i < 16; i++) CHECK_EQ(rig_shown(r, user_view(r), USER + i * PAGE_SIZE), i >= 2 && i < 10 ? 0 : data_shown(i, true));
	shadow_settle(r->s);
	CHECK_EQ(r->resets, 1);
	rig_delete(r);
}

/* As copying on write does it: the page that comes instead is mapped over the one that goes. */
TEST(shadow_window, kernel_replaces_a_page_that_is_in_use)
{
	struct rig *r = new_mapped();
	CHECK(rig_read_entry(user_view(r), USER) != 0);
	rig_store(r, rig_pte(TABLE_OF(0), USER), 0);
	rig_store(r, rig_pte(TABLE_OF(0), USER), (DATA + 40 * PAGE_SIZE) | DIRTY);
	CHECK_EQ(rig_shown(r, user_view(r), USER), data_shown(0, true));
	shadow_settle(r->s);
	CHECK_EQ(rig_shown(r, user_view(r), USER), data_shown(40, true));
	CHECK_EQ(r->resets, 0);
	CHECK_EQ(r->maps, 2);
	rig_delete(r);
}

TEST(shadow_window, kernel_fills_in_the_page_of_a_true_fault)
{
	struct rig *r = new_mapped();
	gva_t gva = USER + 30 * PAGE_SIZE;
	bool mapped;
	*rig_word(r, rig_pte(TABLE_OF(0), gva)) = 0;
	CHECK_EQ(shadow_map(r->s, gva, ACCESS_USER | ACCESS_WRITE, &mapped).kind, SHADOW_FAULT);
	rig_store(r, rig_pte(TABLE_OF(0), gva), (DATA + 50 * PAGE_SIZE) | DIRTY);
	CHECK_EQ(rig_shown(r, user_view(r), gva), 0);
	shadow_settle(r->s);
	CHECK_EQ(rig_shown(r, user_view(r), gva), data_shown(50, true));
	rig_delete(r);
}

/* The same where the fault was another access's than a direct one: the page is shown if that is asked for. */
TEST(shadow_window, page_of_a_fault_elsewhere_is_shown_if_expected)
{
	struct rig *r = new_mapped();
	for (uint32_t i = 0; i < 2; i++) {
		gva_t gva = USER + (30 + i) * PAGE_SIZE;
		*rig_word(r, rig_pte(TABLE_OF(0), gva)) = 0;
		CHECK_EQ(shadow_resolve(r->s, gva, ACCESS_USER | ACCESS_WRITE).kind, SHADOW_FAULT);
		if (i) CHECK(shadow_expect(r->s, gva));
		rig_store(r, rig_pte(TABLE_OF(0), gva), (DATA + 50 * PAGE_SIZE) | DIRTY);
		shadow_settle(r->s);
		CHECK_EQ(rig_shown(r, user_view(r), gva), i ? data_shown(50, true) : 0);
	}
	rig_delete(r);
}

TEST(shadow_window, kernel_takes_rights_and_another_space_comes)
{
	struct rig *r = new_spaces(rig_config(MIB(16)), 2, DIRTY);
	REQUIRE(shadow_make_direct(r->s, user_view(r)));
	CHECK(map_page(r, USER, ACCESS_USER | ACCESS_WRITE));
	struct shadow_view *first = user_view(r);
	r->kernel_runs = true;
	rig_store(r, rig_pte(TABLE_OF(0), USER + PAGE_SIZE), (DATA + PAGE_SIZE) | (DIRTY & ~PTE_RW));
	CHECK_EQ(rig_shown(r, first, USER + PAGE_SIZE), data_shown(1, true));
	load_space(r, 1);
	CHECK_EQ(rig_shown(r, first, USER + PAGE_SIZE), data_shown(1, false));
	rig_delete(r);
}

TEST(shadow_window, what_user_code_stores_is_followed_at_once)
{
	struct rig *r = new_mapped();
	r->kernel_runs = false;
	rig_store(r, rig_pte(TABLE_OF(0), USER), 0);
	CHECK_EQ(rig_shown(r, user_view(r), USER), 0);
	CHECK(!user_view(r)->behind);
	rig_delete(r);
}
