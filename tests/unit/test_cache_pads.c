/* Where the pads of blocks lead once these are dead: the tables of the inline lookup may go on naming them. */
#include "cache_fixture.h"

#define BARRED ((host_pc_t)(uintptr_t)anchor + 3)

static struct block *commit_with_pad(struct cache *c, gva_t gva, uint32_t checked)
{
	struct cache_space space;
	struct block what = {.gva = gva, .eip = gva, .gpa = gva, .gfn2 = GFN_NONE, .guest_length = 4, .mode = 3, .instructions = 1, .checked = checked, .body = checked + 4};
	if (!CHECK_EQ(cache_reserve(c, 64, 0, &space), 0)) return NULL;
	for (unsigned i = 0; i < 64; i++) space.write[i] = (uint8_t)(gva / 16 + i);
	return cache_commit(c, &what, NULL, 64);
}

/* From this byte on it is as it was made. */
static bool is_unchanged(const struct block *b, unsigned from)
{
	const uint8_t *code = (const uint8_t *)b->host_pc;
	for (unsigned i = from; i < 64; i++)
		if (code[i] != (uint8_t)(b->gva / 16 + i)) return false;
	return true;
}

static bool is_barred(const struct block *b)
{
	return *(const uint8_t *)b->host_pc == 0xE9 && b->host_pc + 5 + (host_pc_t)(int32_t)get32(b->host_pc + 1) == BARRED;
}

static struct cache *make_barring(host_pc_t barred)
{
	struct cache_config config = {.size = 4 * PAGE_SIZE, .regions = 2, .near = (host_pc_t)(uintptr_t)anchor, .chain = (host_pc_t)(uintptr_t)anchor + 1, .barred = barred};
	struct cache *c = NULL;
	CHECK_EQ(cache_create(&c, &config), 0);
	return c;
}

TEST(cache_pads, pads_of_dead_blocks_lead_away)
{
	struct cache *c = make_barring(BARRED);
	REQUIRE(c);
	struct block *first = commit_with_pad(c, 0x5000, 12), *second = commit_with_pad(c, 0x5100, 9), *without = commit_with_pad(c, 0x5200, 0), *live = commit_with_pad(c, 0x6000, 12);
	CHECK(is_unchanged(first, 0) && is_unchanged(second, 0) && is_unchanged(without, 0) && is_unchanged(live, 0));
	CHECK_EQ(cache_invalidate(c, 0x5000, 0x204), 3u);
	CHECK(is_barred(first) && is_unchanged(first, 5) && is_barred(second) && is_unchanged(second, 5));
	CHECK(without->dead && is_unchanged(without, 0) && is_unchanged(live, 0));
	CHECK_STR(cache_check(c), NULL);
	/* And that is looked at. */
	without->checked = 12;
	CHECK_STR(cache_check(c), "the pad of a dead block is not barred, or that of a live one is");
	without->checked = 0;
	live->checked = CACHE_BAR - 1;
	CHECK_STR(cache_check(c), "a pad is too short to be barred");
	live->checked = 12;
	/* Its successor is another. */
	struct block *again = commit_with_pad(c, 0x5000, 12);
	CHECK(again != first && is_unchanged(again, 0) && is_barred(first));
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

TEST(cache_pads, pads_that_nobody_asks_for_stay)
{
	struct cache *c = make_barring(0);
	REQUIRE(c);
	struct block *b = commit_with_pad(c, 0x5000, 12);
	CHECK_EQ(cache_invalidate(c, 0x5000, 4), 1u);
	CHECK(b->dead && is_unchanged(b, 0));
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}
