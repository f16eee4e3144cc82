/* Blocks by the guest code that they were made from, wherever it is mapped: programs lie at other addresses each time they run, and libraries in each
 * program, so what was translated once is copied there, at a third of the price. Of blocks that meet in a place of the table the latest is known. */
#include "cache/internal.h"

#define TWIN_BITS 16u

static struct entry **place_of(const struct cache *c, const struct block *b)
{
	uint64_t key = b->gpa ^ (uint64_t)b->mode << 32;
	return &c->twins[key * 0x9E3779B97F4A7C15u >> (64 - TWIN_BITS)];
}

size_t twins_size(void)
{
	return sizeof(struct entry *) << TWIN_BITS;
}

void twins_insert(struct cache *c, struct entry *e)
{
	if (e->b.movable) *place_of(c, &e->b) = e;
}

void twins_remove(struct cache *c, const struct entry *e)
{
	struct entry **place = place_of(c, &e->b);
	if (*place == e) *place = NULL;
}

struct block *cache_find_twin(struct cache *c, const struct block *what)
{
	struct entry *e = *place_of(c, what);
	bool same = e && e->b.gpa == what->gpa && e->b.mode == what->mode && e->b.cs_end == what->cs_end && e->b.gva - e->b.eip == what->gva - what->eip;
	return same && !what->way ? &e->b : NULL;
}

const char *twins_check(const struct cache *c, const struct entry *e)
{
	return *place_of(c, &e->b) == e && (e->b.dead || !e->b.movable) ? "a block is to be copied that must not be" : NULL;
}
