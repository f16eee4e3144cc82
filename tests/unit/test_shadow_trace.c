/* Traces, CR3 switches and the life of views. */
#include "tests/unit/test_shadow.h"

#define KERNEL 0xC0000000u /* RAM is mapped here by 4 MiB pages, supervisor only */
#define USER 0x00400000u
#define TABLE_OF(space) (0x100000u + (space) * 0x10000u + 0x1000u)
#define DIRECTORY_OF(space) (0x100000u + (space) * 0x10000u)
#define PAGE_OF(space, i) (0x400000u + (space) * 0x40000u + (i) * 0x1000u)
#define ANY (PTE_P | PTE_RW | PTE_US)
#define DIRTY (ANY | PTE_A | PTE_D)
#define KERNEL_PDE (PTE_P | PTE_RW | PTE_PS | PTE_A | PTE_D)

/* An address space with the kernel's half and 16 user pages from USER on. */
static void make_space(struct rig *r, uint32_t space)
{
	gpa_t directory = DIRECTORY_OF(space), table = TABLE_OF(space);
	memset(rig_word(r, directory), 0, PAGE_SIZE);
	memset(rig_word(r, table), 0, PAGE_SIZE);
	for (uint32_t gpa = 0; gpa < r->ram_size; gpa += 1u << 22) *rig_word(r, rig_pde(directory, KERNEL + gpa)) = gpa | KERNEL_PDE;
	*rig_word(r, rig_pde(directory, USER)) = (uint32_t)table | ANY;
	for (uint32_t i = 0; i < 16; i++) *rig_word(r, rig_pte(table, USER + i * PAGE_SIZE)) = PAGE_OF(space, i) | DIRTY;
}

static struct rig *new_spaces_with(struct shadow_config config, uint32_t spaces)
{
	struct rig *r = rig_new(config);
	for (uint32_t i = 0; i < spaces; i++) make_space(r, i);
	rig_set_paging(r, PAGING_CR0, DIRECTORY_OF(0), CR4_PSE);
	return r;
}

static struct rig *new_spaces(uint32_t spaces)
{
	return new_spaces_with(rig_config(MIB(16)), spaces);
}

static void load_space(struct rig *r, uint32_t space)
{
	rig_set_paging(r, r->cr0, DIRECTORY_OF(space), r->cr4);
}

static struct shadow_view *user_view(struct rig *r) { return shadow_view(r->s, true); }
static struct shadow_view *kernel_view(struct rig *r) { return shadow_view(r->s, false); }

static enum shadow_kind write_kind(struct rig *r, gpa_t gpa)
{
	return shadow_resolve(r->s, KERNEL + (gva_t)gpa, ACCESS_WRITE).kind;
}

TEST(shadow_trace, page_tables_become_traced)
{
	struct rig *r = new_spaces(1);
	CHECK_EQ(write_kind(r, TABLE_OF(0)), SHADOW_RAM);
	CHECK(rig_write_entry(kernel_view(r), KERNEL + TABLE_OF(0)) != 0);
	CHECK_EQ(write_kind(r, DIRECTORY_OF(0)), SHADOW_TRACED); /* the current directory is one from the load on */
	CHECK_EQ(shadow_resolve(r->s, USER, ACCESS_USER).kind, SHADOW_RAM);
	CHECK_EQ(rig_write_entry(kernel_view(r), KERNEL + TABLE_OF(0)), 0);
	CHECK(rig_read_entry(kernel_view(r), KERNEL + TABLE_OF(0)) != 0);
	CHECK_EQ(write_kind(r, TABLE_OF(0)), SHADOW_TRACED);
	CHECK_EQ(shadow_resolve(r->s, KERNEL + TABLE_OF(0), ACCESS_READ).writable_too, false);
	rig_delete(r);
}

TEST(shadow_trace, a_table_that_maps_itself_is_traced_by_the_access_to_it)
{
	struct rig *r = new_spaces(1);
	*rig_word(r, rig_pte(TABLE_OF(0), USER)) = TABLE_OF(0) | DIRTY;
	CHECK_EQ(shadow_resolve(r->s, USER, ACCESS_USER | ACCESS_WRITE).kind, SHADOW_TRACED);
	/* A directory in its own slot 1023. */
	rig_store(r, rig_pde(DIRECTORY_OF(0), 0xFFC00000), DIRECTORY_OF(0) | ANY);
	CHECK_EQ(shadow_resolve(r->s, 0xFFFFF000, ACCESS_WRITE).kind, SHADOW_TRACED);
	CHECK_EQ(shadow_resolve(r->s, 0xFFC00000 + (USER >> 10), ACCESS_READ).gpa, TABLE_OF(0));
	CHECK_STR(shadow_check(r->s), NULL);
	/* Through it, unmap what it showed: the slot of USER. */
	rig_store(r, rig_pde(DIRECTORY_OF(0), USER), 0);
	CHECK_EQ(rig_read_entry(kernel_view(r), 0xFFC00000 + (USER >> 10)), 0);
	rig_delete(r);
}

TEST(shadow_trace, entry_writes_keep_what_still_holds)
{
	struct rig *r = new_spaces(1);
	gpa_t pte = rig_pte(TABLE_OF(0), USER);
	for (uint32_t i = 0; i < 3; i++) shadow_resolve(r->s, USER + i * PAGE_SIZE, ACCESS_USER | ACCESS_WRITE);
	rig_store(r, pte, PAGE_OF(0, 0) | DIRTY | 0x200); /* a bit that software owns */
	CHECK(rig_write_entry(user_view(r), USER) != 0);
	rig_store(r, pte, (PAGE_OF(0, 0) | DIRTY) & ~PTE_RW);
	CHECK_EQ(rig_write_entry(user_view(r), USER), 0);
	CHECK(rig_read_entry(user_view(r), USER) != 0);
	rig_store(r, pte, PAGE_OF(0, 0) | (DIRTY & ~PTE_A));
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	CHECK_EQ(shadow_resolve(r->s, USER, ACCESS_USER).kind, SHADOW_RAM);
	CHECK_EQ(*rig_word(r, pte), PAGE_OF(0, 0) | DIRTY);
	rig_store(r, pte, 0);
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	rig_store(r, pte + 4, (PAGE_OF(0, 1) | DIRTY) & ~PTE_D);
	CHECK_EQ(rig_write_entry(user_view(r), USER + PAGE_SIZE), 0);
	rig_store(r, pte + 8, (PAGE_OF(0, 2) | DIRTY) & ~PTE_US);
	CHECK_EQ(rig_read_entry(user_view(r), USER + 2 * PAGE_SIZE), 0);
	CHECK_EQ(shadow_resolve(r->s, USER + 2 * PAGE_SIZE, ACCESS_USER).error, ACCESS_USER | 1);
	rig_delete(r);
}

/* The address that a table's entry leads to. */
static uint64_t shown_at(const struct rig *r, uint64_t entry, gva_t gva) { return entry ? entry + gva - (uint64_t)(uintptr_t)r->ram : 0; }

TEST(shadow_trace, entries_that_are_written_for_use_are_adopted)
{
	struct rig *r = new_spaces(2);
	gpa_t pte = rig_pte(TABLE_OF(0), USER);
	shadow_resolve(r->s, USER + PAGE_SIZE, ACCESS_USER);
	rig_store(r, pte, PAGE_OF(0, 9) | DIRTY);
	CHECK_EQ(shown_at(r, rig_read_entry(user_view(r), USER), USER), PAGE_OF(0, 9));
	CHECK_EQ(shown_at(r, rig_write_entry(user_view(r), USER), USER), PAGE_OF(0, 9));
	CHECK_EQ(rig_exec_entry(user_view(r), USER), 0);
	rig_store(r, pte, PAGE_OF(0, 8) | (DIRTY & ~PTE_D)); /* a store will have to set D */
	CHECK_EQ(shown_at(r, rig_read_entry(user_view(r), USER), USER), PAGE_OF(0, 8));
	CHECK_EQ(rig_write_entry(user_view(r), USER), 0);
	rig_store(r, pte, PAGE_OF(0, 8) | DIRTY);
	CHECK(rig_write_entry(user_view(r), USER) != 0);
	rig_store(r, pte, PAGE_OF(0, 7) | (DIRTY & ~PTE_A)); /* the first access has to set A */
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	rig_store(r, pte, PAGE_OF(0, 7) | (DIRTY & ~PTE_US));
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	rig_store(r, pte, TABLE_OF(0) | DIRTY); /* traced */
	CHECK_EQ(shown_at(r, rig_read_entry(user_view(r), USER), USER), TABLE_OF(0));
	CHECK_EQ(rig_write_entry(user_view(r), USER), 0);
	rig_store(r, pte, 0xFFFFF000 | DIRTY); /* no RAM */
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	CHECK_STR(shadow_check(r->s), NULL);
	load_space(r, 1);
	rig_store(r, pte, PAGE_OF(0, 9) | DIRTY); /* nobody waits for it */
	load_space(r, 0);
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	rig_delete(r);
}

TEST(shadow_trace, known_code_may_run_where_it_is_adopted)
{
	struct rig *r = new_spaces(1);
	gpa_t pte = rig_pte(TABLE_OF(0), USER);
	shadow_trace_code(r->s, PAGE_OF(0, 9) >> PAGE_SHIFT);
	shadow_resolve(r->s, USER + PAGE_SIZE, ACCESS_USER);
	rig_store(r, pte, PAGE_OF(0, 9) | DIRTY);
	CHECK_EQ(rig_exec_entry(user_view(r), USER), (PAGE_OF(0, 9) >> PAGE_SHIFT) + 1);
	rig_store(r, pte, PAGE_OF(0, 8) | DIRTY);
	CHECK_EQ(rig_exec_entry(user_view(r), USER), 0);
	rig_store(r, pte, PAGE_OF(0, 9) | (DIRTY & ~PTE_A)); /* running it has to set A */
	CHECK_EQ(rig_exec_entry(user_view(r), USER), 0);
	CHECK_STR(shadow_check(r->s), NULL);
	rig_delete(r);
}

TEST(shadow_trace, a_true_fault_asks_for_what_is_written_next)
{
	struct rig *r = new_spaces(1);
	gva_t gva = USER + 60 * PAGE_SIZE;
	shadow_resolve(r->s, USER, ACCESS_USER);
	*rig_word(r, rig_pte(TABLE_OF(0), gva)) = 0;
	for (uint32_t i = 0; i < 30; i++) rig_store(r, rig_pte(TABLE_OF(0), USER + (16 + i) * PAGE_SIZE), PAGE_OF(0, i) | DIRTY);
	CHECK_EQ(rig_read_entry(user_view(r), USER + 45 * PAGE_SIZE), 0);
	CHECK_EQ(shadow_resolve(r->s, gva, ACCESS_USER).kind, SHADOW_FAULT);
	CHECK(!shadow_expect(r->s, gva)); /* there is no window */
	rig_store(r, rig_pte(TABLE_OF(0), gva), PAGE_OF(0, 31) | DIRTY);
	CHECK(rig_read_entry(user_view(r), gva) != 0);
	rig_delete(r);
}

TEST(shadow_trace, tables_of_spaces_that_are_away_have_less_patience)
{
	struct rig *r = new_spaces(2);
	shadow_resolve(r->s, USER, ACCESS_USER);
	load_space(r, 1);
	for (uint32_t i = 0; i < 31; i++) rig_store(r, rig_pte(TABLE_OF(0), USER + i * PAGE_SIZE), 0);
	CHECK_EQ(shadow_resolve(r->s, KERNEL + TABLE_OF(0), ACCESS_WRITE).kind, SHADOW_TRACED);
	rig_store(r, rig_pte(TABLE_OF(0), USER + 31 * PAGE_SIZE), 0);
	CHECK_EQ(shadow_resolve(r->s, KERNEL + TABLE_OF(0), ACCESS_WRITE).kind, SHADOW_RAM);
	rig_delete(r);
}

TEST(shadow_trace, adoption_does_not_hide_a_table_that_is_filled_and_not_used)
{
	struct rig *r = new_spaces(1);
	shadow_resolve(r->s, USER, ACCESS_USER);
	for (uint32_t i = 0; i < 191; i++) rig_store(r, rig_pte(TABLE_OF(0), USER + (16 + i) * PAGE_SIZE), PAGE_OF(0, i % 32) | DIRTY);
	CHECK(rig_read_entry(user_view(r), USER + 16 * PAGE_SIZE) != 0);
	CHECK_EQ(rig_read_entry(user_view(r), USER + 40 * PAGE_SIZE), 0);
	CHECK_EQ(shadow_resolve(r->s, KERNEL + TABLE_OF(0), ACCESS_WRITE).kind, SHADOW_TRACED);
	rig_store(r, rig_pte(TABLE_OF(0), USER + 50 * PAGE_SIZE), PAGE_OF(0, 50) | DIRTY);
	CHECK_EQ(shadow_resolve(r->s, KERNEL + TABLE_OF(0), ACCESS_WRITE).kind, SHADOW_RAM);
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	rig_delete(r);
}

TEST(shadow_trace, a_store_across_two_entries_drops_both)
{
	struct rig *r = new_spaces(1);
	for (uint32_t i = 0; i < 3; i++) shadow_resolve(r->s, USER + i * PAGE_SIZE, ACCESS_USER);
	gpa_t pte = rig_pte(TABLE_OF(0), USER);
	memset(r->ram + pte + 2, 0, 4);
	memset(r->ram + pte, 0, 1);
	shadow_frame_written(r->s, pte, 1);
	shadow_frame_written(r->s, pte + 2, 4);
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	CHECK_EQ(rig_read_entry(user_view(r), USER + PAGE_SIZE), 0);
	CHECK(rig_read_entry(user_view(r), USER + 2 * PAGE_SIZE) != 0);
	rig_delete(r);
}

TEST(shadow_trace, lost_exec_entries_reset_the_view)
{
	struct rig *r = new_spaces(1);
	shadow_resolve(r->s, USER, ACCESS_USER | ACCESS_FETCH);
	shadow_resolve(r->s, USER + PAGE_SIZE, ACCESS_USER);
	uint32_t resets = r->view_resets;
	rig_store(r, rig_pte(TABLE_OF(0), USER + PAGE_SIZE), 0);
	CHECK_EQ(r->view_resets, resets);
	rig_store(r, rig_pte(TABLE_OF(0), USER), 0);
	CHECK_EQ(r->view_resets, resets + 1);
	CHECK(r->last_reset == user_view(r));
	CHECK_EQ(rig_exec_entry(user_view(r), USER), 0);
	rig_delete(r);
}

TEST(shadow_trace, directory_writes_drop_slots)
{
	struct rig *r = new_spaces(2);
	shadow_resolve(r->s, USER, ACCESS_USER);
	shadow_resolve(r->s, USER, ACCESS_READ);
	shadow_resolve(r->s, KERNEL, ACCESS_READ);
	rig_store(r, rig_pde(DIRECTORY_OF(0), USER), TABLE_OF(1) | ANY);
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	CHECK_EQ(rig_read_entry(kernel_view(r), USER), 0);
	CHECK(rig_read_entry(kernel_view(r), KERNEL) != 0);
	CHECK_EQ(write_kind(r, TABLE_OF(0)), SHADOW_RAM); /* nobody uses it now */
	CHECK_EQ(shadow_resolve(r->s, USER, ACCESS_USER).gpa, PAGE_OF(1, 0));
	rig_delete(r);
}

/* The guest clears A to see it set again. */
TEST(shadow_trace, a_directory_entry_without_a_is_walked_again)
{
	struct rig *r = new_spaces(1);
	gpa_t pde = rig_pde(DIRECTORY_OF(0), USER);
	shadow_resolve(r->s, USER, ACCESS_USER);
	CHECK_EQ(*rig_word(r, pde), TABLE_OF(0) | ANY | PTE_A);
	rig_store(r, pde, TABLE_OF(0) | ANY);
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	shadow_resolve(r->s, USER, ACCESS_USER);
	CHECK_EQ(*rig_word(r, pde), TABLE_OF(0) | ANY | PTE_A);
	rig_delete(r);
}

TEST(shadow_trace, bits_set_in_code_are_told)
{
	struct rig *r = new_spaces(1);
	gpa_t entry = rig_pte(TABLE_OF(0), USER);
	*rig_word(r, entry) &= ~(PTE_A | PTE_D);
	shadow_trace_code(r->s, TABLE_OF(0) >> PAGE_SHIFT);
	shadow_resolve(r->s, USER, ACCESS_USER);
	CHECK(r->marks == 1 && r->last_mark == entry); /* the directory holds no code */
	shadow_resolve(r->s, USER, ACCESS_USER | ACCESS_WRITE);
	CHECK_EQ(r->marks, 2);
	shadow_resolve(r->s, USER, ACCESS_USER | ACCESS_WRITE);
	CHECK_EQ(r->marks, 2);
	rig_delete(r);
}

TEST(shadow_trace, code_traces)
{
	struct rig *r = new_spaces(1);
	gfn_t gfn = PAGE_OF(0, 0) >> 12;
	shadow_resolve(r->s, USER, ACCESS_USER | ACCESS_WRITE);
	shadow_resolve(r->s, KERNEL + PAGE_OF(0, 0), ACCESS_WRITE);
	CHECK(!shadow_is_code_traced(r->s, gfn));
	shadow_trace_code(r->s, gfn);
	shadow_trace_code(r->s, gfn);
	CHECK(shadow_is_code_traced(r->s, gfn));
	CHECK_EQ(rig_write_entry(user_view(r), USER), 0);
	CHECK_EQ(rig_write_entry(kernel_view(r), KERNEL + PAGE_OF(0, 0)), 0);
	CHECK_EQ(shadow_resolve(r->s, USER + 5, ACCESS_USER | ACCESS_WRITE).kind, SHADOW_TRACED);
	CHECK_STR(shadow_check(r->s), NULL);
	shadow_untrace_code(r->s, gfn);
	CHECK_EQ(shadow_resolve(r->s, USER, ACCESS_USER | ACCESS_WRITE).kind, SHADOW_RAM);
	CHECK_EQ(r->stats.frames_traced_code, 1);
	/* Frames without memory are nobody's. */
	shadow_trace_code(r->s, 0xFEE00);
	CHECK(!shadow_is_code_traced(r->s, 0xFEE00));
	rig_delete(r);
}

TEST(shadow_trace, user_views_are_kept_and_stay_coherent)
{
	struct rig *r = new_spaces(3);
	struct shadow_view *first = user_view(r);
	shadow_resolve(r->s, USER, ACCESS_USER | ACCESS_WRITE);
	shadow_resolve(r->s, USER + PAGE_SIZE, ACCESS_USER);
	load_space(r, 1);
	CHECK(user_view(r) != first);
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	rig_store(r, rig_pte(TABLE_OF(0), USER + PAGE_SIZE), 0);
	load_space(r, 0);
	CHECK(user_view(r) == first);
	CHECK(rig_write_entry(first, USER) != 0);
	CHECK_EQ(rig_read_entry(first, USER + PAGE_SIZE), 0);
	rig_delete(r);
}

TEST(shadow_trace, least_recently_used_view_is_recycled)
{
	struct shadow_config config = rig_config(MIB(16));
	config.max_views = 2;
	struct rig *r = new_spaces_with(config, 3);
	struct shadow_view *first = user_view(r);
	shadow_resolve(r->s, USER, ACCESS_USER | ACCESS_FETCH);
	first->used_ns = 5;
	load_space(r, 1);
	load_space(r, 2);
	CHECK(user_view(r) == first);
	CHECK(r->last_reset == first);
	CHECK_EQ(r->stats.views_recycled, 1);
	CHECK_EQ(first->used_ns, 0);
	CHECK_EQ(rig_read_entry(first, USER), 0);
	CHECK_EQ(rig_exec_entry(first, USER), 0);
	CHECK_EQ(write_kind(r, DIRECTORY_OF(0)), SHADOW_RAM);
	CHECK_EQ(write_kind(r, TABLE_OF(0)), SHADOW_RAM);
	CHECK_EQ(write_kind(r, DIRECTORY_OF(1)), SHADOW_TRACED);
	rig_delete(r);
}

TEST(shadow_trace, supervisor_view_survives_a_load_but_for_what_differs)
{
	struct rig *r = new_spaces(2);
	shadow_resolve(r->s, KERNEL + 0x1000, ACCESS_FETCH);
	shadow_resolve(r->s, USER, ACCESS_READ);
	uint32_t resets = r->view_resets;
	load_space(r, 1);
	CHECK(rig_read_entry(kernel_view(r), KERNEL + 0x1000) != 0);
	CHECK_EQ(rig_exec_entry(kernel_view(r), KERNEL + 0x1000), 2);
	CHECK_EQ(rig_read_entry(kernel_view(r), USER), 0);
	CHECK_EQ(r->view_resets, resets);
	CHECK_EQ(shadow_resolve(r->s, USER, ACCESS_READ).gpa, PAGE_OF(1, 0));
	CHECK_STR(shadow_check(r->s), NULL);
	/* A directory entry without A, or without D of a large page, has bits to be set yet. The slot is worth a mapping all the same. */
	rig_store(r, rig_pde(DIRECTORY_OF(0), KERNEL), KERNEL_PDE & ~PTE_A);
	load_space(r, 0);
	CHECK_EQ(rig_read_entry(kernel_view(r), KERNEL + 0x1000), 0);
	CHECK_EQ(r->view_resets, resets + 1);
	CHECK_EQ(shadow_resolve(r->s, KERNEL + 0x1000, ACCESS_FETCH).gpa, 0x1000);
	CHECK_EQ(*rig_word(r, rig_pde(DIRECTORY_OF(0), KERNEL)), KERNEL_PDE);
	rig_store(r, rig_pde(DIRECTORY_OF(1), KERNEL), KERNEL_PDE & ~PTE_D);
	load_space(r, 1);
	CHECK_EQ(rig_read_entry(kernel_view(r), KERNEL + 0x1000), 0);
	CHECK_EQ(r->view_resets, resets + 2);
	bool mapped;
	shadow_map(r->s, KERNEL + 0x1000, ACCESS_READ, &mapped);
	CHECK(mapped);
	rig_delete(r);
}

TEST(shadow_trace, a_bulk_store_over_a_table_unmakes_it)
{
	struct rig *r = new_spaces(2);
	shadow_resolve(r->s, USER, ACCESS_USER);
	load_space(r, 1);
	CHECK_EQ(write_kind(r, TABLE_OF(0)), SHADOW_TRACED);
	memset(rig_word(r, TABLE_OF(0)), 0xAA, PAGE_SIZE);
	shadow_frame_written(r->s, TABLE_OF(0), PAGE_SIZE);
	CHECK_EQ(write_kind(r, TABLE_OF(0)), SHADOW_RAM);
	CHECK_STR(shadow_check(r->s), NULL);
	CHECK_EQ(write_kind(r, DIRECTORY_OF(0)), SHADOW_TRACED);
	memset(rig_word(r, DIRECTORY_OF(0)), 0, PAGE_SIZE);
	shadow_frame_written(r->s, DIRECTORY_OF(0), 16);
	CHECK_EQ(write_kind(r, DIRECTORY_OF(0)), SHADOW_RAM);
	rig_delete(r);
}

TEST(shadow_trace, the_current_directory_outlives_a_bulk_store)
{
	struct rig *r = new_spaces(1);
	shadow_resolve(r->s, USER, ACCESS_USER);
	memset(rig_word(r, DIRECTORY_OF(0)), 0, PAGE_SIZE / 2);
	shadow_frame_written(r->s, DIRECTORY_OF(0), PAGE_SIZE / 2);
	CHECK_EQ(rig_read_entry(user_view(r), USER), 0);
	CHECK_EQ(write_kind(r, DIRECTORY_OF(0)), SHADOW_TRACED);
	rig_delete(r);
}

/* A freed page table that is written word by word as data is not traced for ever. */
TEST(shadow_trace, many_single_writes_end_a_trace)
{
	struct rig *r = new_spaces(2);
	shadow_resolve(r->s, USER, ACCESS_USER);
	load_space(r, 1);
	unsigned writes = 0;
	while (write_kind(r, TABLE_OF(0)) == SHADOW_TRACED && writes < 100)
		rig_store(r, TABLE_OF(0) + 0x800 + writes++ * 4, 0x12345678);
	CHECK(writes > 15 && writes < 65);
	writes = 0;
	while (write_kind(r, DIRECTORY_OF(0)) == SHADOW_TRACED && writes < 100)
		rig_store(r, DIRECTORY_OF(0) + 0x800 + writes++ * 4, 0x12345678);
	CHECK(writes > 15 && writes < 65);
	rig_delete(r);
}

TEST(shadow_trace, a_table_in_use_stays_traced)
{
	struct rig *r = new_spaces(1);
	for (uint32_t i = 0; i < 200; i++) {
		CHECK_EQ(shadow_resolve(r->s, USER, ACCESS_USER).gpa, PAGE_OF(0, i % 16));
		rig_store(r, rig_pte(TABLE_OF(0), USER), PAGE_OF(0, (i + 1) % 16) | DIRTY);
	}
	CHECK_EQ(r->stats.slots_dropped, 0);
	rig_delete(r);
}

TEST(shadow_trace, counters)
{
	struct rig *r = new_spaces(2);
	shadow_resolve(r->s, USER, ACCESS_USER);
	CHECK_EQ(r->stats.frames_traced, 2);
	CHECK_EQ(r->stats.soft_fills, 1);
	rig_store(r, rig_pde(DIRECTORY_OF(0), USER), 0);
	CHECK_EQ(r->stats.trace_writes, 1);
	CHECK_EQ(r->stats.slots_dropped, 1);
	CHECK_EQ(r->stats.traces_dropped, 1);
	load_space(r, 1);
	load_space(r, 0);
	CHECK_EQ(r->stats.cr3_loads, 2);
	CHECK_EQ(r->stats.views_created, 3); /* supervisor; the unpaged one, recycled; one more */
	rig_delete(r);
}
