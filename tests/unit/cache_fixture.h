/* For tests of the cache: a small one, whose calls back are seen, and looks at its blocks. */
#ifndef TESTS_UNIT_CACHE_FIXTURE_H
#define TESTS_UNIT_CACHE_FIXTURE_H

#include <string.h>

#include "cache/cache.h"
#include "tests/shim/test.h"

struct seen {
	uint32_t freed[16], freed_count;
	const struct block *dead[16];
	uint32_t dead_count;
	host_pc_t evicted_from, evicted_to;
	uint32_t evicted_count;
};

static inline void on_frame_free(void *ctx, gfn_t gfn)
{
	struct seen *seen = ctx;
	seen->freed[seen->freed_count++ % 16] = gfn;
}

static inline void on_code_evicted(void *ctx, host_pc_t from, host_pc_t to)
{
	struct seen *seen = ctx;
	seen->evicted_from = from;
	seen->evicted_to = to;
	seen->evicted_count++;
}

static inline void on_block_dead(void *ctx, const struct block *b)
{
	struct seen *seen = ctx;
	seen->dead[seen->dead_count++ % 16] = b;
}

static inline int anchor(void) { return 42; }

static inline struct cache *make(struct seen *seen, struct stats *stats)
{
	struct cache_config config = {
		.size = 4 * PAGE_SIZE, .regions = 2, .near = (host_pc_t)(uintptr_t)anchor, .chain = (host_pc_t)(uintptr_t)anchor + 1, .stats = stats,
		.callbacks = {seen, on_frame_free, on_code_evicted, on_block_dead},
	};
	memset(seen, 0, sizeof *seen);
	struct cache *c = NULL;
	CHECK_EQ(cache_create(&c, &config), 0);
	return c;
}

static inline uint32_t get32(host_pc_t at)
{
	uint32_t value;
	memcpy(&value, (const void *)(uintptr_t)at, 4);
	return value;
}

static inline host_pc_t target(const struct block *b, uint32_t slot)
{
	host_pc_t at = b->host_pc + b->slots[slot].rel32_offset;
	return at + 4 + (host_pc_t)(int32_t)get32(at);
}

static inline struct block *find(struct cache *c, gva_t gva, gfn_t gfn, uint32_t mode)
{
	return cache_lookup(c, &(struct block){.gva = gva, .eip = gva, .gpa = (gpa_t)gfn << 12, .mode = mode});
}

static inline bool is_row(const struct side_row *a, const struct side_row *b)
{
	return a->host_offset == b->host_offset && a->undo == b->undo && a->access == b->access && a->esp == b->esp && a->eip == b->eip;
}

static inline void check_rows(const struct block *b, const struct side_row *rows, uint32_t count)
{
	struct row_cursor at = cache_rows(b);
	for (uint32_t i = 0; i < count; i++) CHECK(cache_next_row(&at) && is_row(&at.row, &rows[i]));
	CHECK(!cache_next_row(&at));
}

#endif
