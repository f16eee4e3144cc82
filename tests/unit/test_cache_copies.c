/* Copies of blocks for the same guest code at another address. */
#include "cache_fixture.h"

/* All kinds of fixes, in code of zeroes; a slot's branch behind them. */
static struct block *commit_with(struct cache *c, gva_t gva, gpa_t gpa, bool movable)
{
	static const struct code_fix fixes[] = {{0, FIX_OUTSIDE}, {8, FIX_EIP}, {16, FIX_MINUS_EIP}, {24, FIX_EXEC_ENTRY}};
	const struct side_row rows[] = {{0, UNDO_NONE, 0, 0, gva}, {16, UNDO_ENTRY, 0, 0, gva + 1}, {32, UNDO_RCX, ROW_WRITE, 0, gva + 2}};
	struct link_slot slot = {.rel32_offset = 40, .target = gva + 0x100};
	struct cache_space space;
	if (!CHECK_EQ(cache_reserve(c, 256, 1, &space), 0)) return NULL;
	memset(space.write, 0, 64);
	struct block what = {.gva = gva, .eip = gva, .gpa = gpa, .gfn2 = GFN_NONE, .guest_length = 4, .mode = 3, .instructions = 4, .row_count = 3, .slot_count = 1,
	                     .slots = &slot, .movable = movable, .fix_count = 4, .fixes = fixes};
	struct block *b = cache_commit(c, &what, rows, 64);
	CHECK_STR(cache_check(c), NULL);
	return b;
}

static struct block *copy(struct cache *c, gva_t gva, gpa_t gpa)
{
	struct block what = {.gva = gva, .eip = gva, .gpa = gpa, .gfn2 = GFN_NONE, .mode = 3, .aside = true};
	struct cache_space space;
	if (!CHECK_EQ(cache_reserve(c, 256, 1, &space), 0)) return NULL;
	struct block *twin = cache_find_twin(c, &what);
	return CHECK(twin) ? cache_copy(c, twin, &what) : NULL;
}

TEST(cache_copies, a_copy_is_the_block_at_another_address)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	struct block *from = commit_with(c, 0x08048010, 0x5010, true), *to = copy(c, 0xB7F48010, 0x5010);
	const struct side_row rows[] = {{0, UNDO_NONE, 0, 0, 0xB7F48010}, {16, UNDO_ENTRY, 0, 0, 0xB7F48011}, {32, UNDO_RCX, ROW_WRITE, 0, 0xB7F48012}};
	REQUIRE(from && to);
	CHECK_STR(cache_check(c), NULL);
	CHECK_EQ(get32(to->host_pc), (uint32_t)(from->host_pc - to->host_pc));
	CHECK_EQ(get32(to->host_pc + 8), 0xAFF00000u);
	CHECK_EQ(get32(to->host_pc + 16), 0u - 0xAFF00000u);
	CHECK_EQ(get32(to->host_pc + 24), 0xAFF00u * 4);
	CHECK_EQ(to->slots[0].target, 0xB7F48110u);
	CHECK_EQ(target(to, 0), cache_exit_stub(to, 0));
	CHECK(to->aside && !from->aside && !from->dead);
	check_rows(to, rows, 3);
	CHECK(find(c, 0xB7F48010, 5, 3) == to && find(c, 0x08048010, 5, 3) == from);
	/* And a copy of the copy, backwards; the code that both are of is written. */
	struct block *back = copy(c, 0x00049010, 0x5010);
	REQUIRE(back);
	CHECK_EQ(get32(back->host_pc + 8), 0x00001000u - 0x08000000u);
	CHECK_EQ(get32(back->host_pc + 24), (0x00001000u - 0x08000000u) / 1024 - (1u << 22));
	CHECK_EQ(cache_invalidate(c, 0x5010, 1), 3);
	CHECK(!cache_find_twin(c, &(struct block){.gva = 0x08048010, .eip = 0x08048010, .gpa = 0x5010, .mode = 3}));
	cache_destroy(c);
}

TEST(cache_copies, what_may_not_be_copied_has_no_copies)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(commit_with(c, 0x1010, 0x5010, false) && commit_with(c, 0x2010, 0x6010, true));
	CHECK(!cache_find_twin(c, &(struct block){.gva = 0x3010, .eip = 0x3010, .gpa = 0x5010, .mode = 3}));
	CHECK(cache_find_twin(c, &(struct block){.gva = 0x3010, .eip = 0x3010, .gpa = 0x6010, .mode = 3}));
	/* Another mode, base or limit of CS, a way into a block, another place of the frame. */
	CHECK(!cache_find_twin(c, &(struct block){.gva = 0x3010, .eip = 0x3010, .gpa = 0x6010, .mode = 2}));
	CHECK(!cache_find_twin(c, &(struct block){.gva = 0x3010, .eip = 0x2010, .gpa = 0x6010, .mode = 3}));
	CHECK(!cache_find_twin(c, &(struct block){.gva = 0x3010, .eip = 0x3010, .gpa = 0x6010, .mode = 3, .cs_end = 0x10000}));
	CHECK(!cache_find_twin(c, &(struct block){.gva = 0x3010, .eip = 0x3010, .gpa = 0x6010, .mode = 3, .way = true}));
	CHECK(!cache_find_twin(c, &(struct block){.gva = 0x3011, .eip = 0x3011, .gpa = 0x6011, .mode = 3}));
	/* Nor is there room for one. */
	struct block what = {.gva = 0x3010, .eip = 0x3010, .gpa = 0x6010, .mode = 3};
	struct cache_space space;
	REQUIRE(cache_reserve(c, 32, 1, &space) == 0);
	CHECK(!cache_copy(c, cache_find_twin(c, &what), &what));
	cache_abort(c);
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}
