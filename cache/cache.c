/* The cache's life, and the one way to write code: reserve, then commit or abort. */
#include <errno.h>
#include <stdlib.h>

#include "cache/internal.h"

/* Every entry starts on a fetch boundary. */
#define CODE_ALIGN 16u

static int check_config(const struct cache_config *config)
{
	if (config->regions < 2 || !config->size || config->size % (config->regions * (uint64_t)PAGE_SIZE)) return -EINVAL;
	/* Every branch within the cache must reach. */
	return config->size > MIB(1024) ? -EINVAL : 0;
}

int cache_create(struct cache **out, const struct cache_config *config)
{
	int error = check_config(config);
	if (error) return error;
	struct cache *c = calloc(1, sizeof *c);
	if (!c) return -ENOMEM;
	c->size = config->size;
	c->region_count = config->regions;
	c->region_size = (uint32_t)(config->size / config->regions);
	c->chain = config->chain;
	c->barred = config->barred;
	c->callbacks = config->callbacks;
	c->stats = config->stats ? config->stats : &c->own_stats;
	c->regions = calloc(c->region_count, sizeof *c->regions);
	c->twins = calloc(1, twins_size());
	error = c->regions && c->twins ? memory_map_code(c, config->near) : -ENOMEM;
	if (error) {
		cache_destroy(c);
		return error;
	}
	for (uint32_t i = 0; i < c->region_count; i++) c->regions[i].pages = memory_xalloc(NULL, (c->region_size / PAGE_SIZE + 1) * sizeof(uint32_t));
	hash_init(c);
	*out = c;
	return 0;
}

void cache_destroy(struct cache *c)
{
	if (!c) return;
	memory_unmap_code(c);
	regions_free(c);
	frames_free(c);
	free(c->twins);
	free(c->hash);
	free(c);
}

bool cache_contains(const struct cache *c, host_pc_t pc)
{
	return pc - c->exec < c->size;
}

void cache_memory(const struct cache *c, host_pc_t *from, host_pc_t *to)
{
	*from = c->exec;
	*to = c->exec + c->size;
}

uint8_t *cache_writable_start(const struct cache *c)
{
	return c->write;
}

/* Regions are filled in turn, so that the one behind the current is always the oldest. */
static void advance(struct cache *c)
{
	c->current = (c->current + 1) % c->region_count;
	if (!c->regions[c->current].used) return;
	c->stats->evictions++;
	region_evict(c, c->current);
}

static uint32_t align_code(uint32_t offset)
{
	return (offset + CODE_ALIGN - 1) & ~(CODE_ALIGN - 1);
}

static bool has_room(const struct cache *c, const struct region *r, uint64_t bytes, uint32_t slots)
{
	bool code_fits = align_code(r->used) + bytes + stub_bytes(r->stub_count + slots) <= c->region_size;
	return code_fits && r->side_bytes / SIDE_MOST < c->region_size;
}

int cache_reserve(struct cache *c, uint32_t bytes, uint32_t slots, struct cache_space *space)
{
	if ((uint64_t)bytes + stub_bytes(slots) > c->region_size) return -ENOMEM;
	if (!has_room(c, &c->regions[c->current], bytes, slots)) advance(c);
	struct region *r = &c->regions[c->current];
	r->used = align_code(r->used);
	c->reserved = bytes;
	c->reserved_slots = slots;
	space->exec = region_start(c, c->current) + r->used;
	space->write = cache_writable(c, space->exec);
	space->size = bytes;
	return 0;
}

void cache_abort(struct cache *c)
{
	c->reserved = 0;
}

void cache_skip(struct cache *c, uint32_t bytes)
{
	c->regions[c->current].used += bytes;
	c->reserved -= bytes;
}

void cache_flush(struct cache *c)
{
	for (uint32_t i = 0; i < c->region_count; i++) region_evict(c, i);
	c->current = 0;
	c->stats->cache_flushes++;
}
