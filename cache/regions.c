/* Regions: the unit of eviction. A region keeps its blocks in the order of their code, and all their side memory. */
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

#define CHUNK_BYTES 32768u
#define LARGE_CHUNK_BYTES ((uint32_t)(HUGE_PAGE - sizeof(struct arena_chunk) - 64)) /* room for what malloc puts between two of them */
#define LARGE_FROM 524288u /* bytes in small chunks: a little guest needs no more */
/* Evicted code is filled with INT3: whoever still has a host PC in it stops there. */
#define TRAP_BYTE 0xCC

static struct arena_chunk *new_large_chunk(void)
{
	return memory_xalloc_large(sizeof(struct arena_chunk) + LARGE_CHUNK_BYTES);
}

/* One that was in use, or the one that has been announced; then the next one is. */
static struct arena_chunk *take_large_chunk(struct cache *c)
{
	struct arena_chunk *chunk = c->free_chunks;
	if (chunk) {
		c->free_chunks = chunk->next;
		return chunk;
	}
	chunk = c->next_chunk ? c->next_chunk : new_large_chunk();
	c->next_chunk = new_large_chunk();
	return chunk;
}

static struct arena_chunk *add_chunk(struct cache *c, struct region *r, uint32_t size)
{
	bool large = r->side_bytes >= LARGE_FROM && size <= LARGE_CHUNK_BYTES;
	uint32_t bytes = large ? LARGE_CHUNK_BYTES : size > CHUNK_BYTES ? size : CHUNK_BYTES;
	struct arena_chunk *chunk = large ? take_large_chunk(c) : memory_xalloc(NULL, sizeof *chunk + bytes);
	chunk->next = r->chunks;
	chunk->used = 0;
	chunk->size = bytes;
	r->chunks = chunk;
	return chunk;
}

void *region_alloc(struct cache *c, struct region *r, size_t size)
{
	uint32_t bytes = (uint32_t)((size + 7) & ~(size_t)7);
	struct arena_chunk *chunk = r->chunks;
	if (!chunk || chunk->size - chunk->used < bytes) chunk = add_chunk(c, r, bytes);
	void *p = chunk->bytes + chunk->used;
	chunk->used += bytes;
	r->side_bytes += bytes;
	return p;
}

void region_trim(struct region *r, const uint8_t *end)
{
	uint32_t used = (uint32_t)(end - r->chunks->bytes + 7) & ~7u;
	r->side_bytes -= r->chunks->used - used;
	r->chunks->used = used;
}

void region_append(struct region *r, uint32_t start, struct entry *e)
{
	if (r->count == r->capacity) {
		r->capacity = r->capacity ? r->capacity * 2 : 64;
		r->starts = memory_xalloc(r->starts, r->capacity * sizeof *r->starts);
		r->entries = memory_xalloc(r->entries, r->capacity * sizeof *r->entries);
	}
	for (; r->page_count <= start >> PAGE_SHIFT; r->page_count++) r->pages[r->page_count] = r->count;
	r->starts[r->count] = start;
	r->entries[r->count++] = e;
}

void region_append_stubs(struct region *r, uint32_t count)
{
	if (r->stub_count + count > r->stub_capacity) {
		r->stub_capacity = 2 * (r->stub_count + count) + 64;
		r->stub_owners = memory_xalloc(r->stub_owners, r->stub_capacity * sizeof *r->stub_owners);
	}
	for (uint32_t i = 0; i < count; i++) r->stub_owners[r->stub_count++] = r->count - 1;
}

struct entry *region_find(const struct region *r, uint32_t offset)
{
	uint32_t page = offset >> PAGE_SHIFT;
	uint32_t i = page < r->page_count ? r->pages[page] : r->count;
	while (i < r->count && r->starts[i] <= offset) i++;
	return i ? r->entries[i - 1] : NULL;
}

static void free_list(struct arena_chunk *chunk)
{
	while (chunk) {
		struct arena_chunk *next = chunk->next;
		free(chunk);
		chunk = next;
	}
}

/* Large ones stay: who was told of one may still touch it. */
static void drop_chunks(struct cache *c, struct region *r)
{
	while (r->chunks) {
		struct arena_chunk *chunk = r->chunks;
		r->chunks = chunk->next;
		if (chunk->size != LARGE_CHUNK_BYTES) {
			free(chunk);
			continue;
		}
		chunk->next = c->free_chunks;
		c->free_chunks = chunk;
	}
	r->side_bytes = 0;
}

/* The callbacks come while the blocks can still be found by host PC. */
void region_evict(struct cache *c, uint32_t index)
{
	struct region *r = &c->regions[index];
	if (!r->used) return;
	for (uint32_t i = 0; i < r->count; i++) {
		struct entry *e = r->entries[i];
		c->stats->blocks_evicted += !e->b.dead && !entry_is_thunk(e);
		block_kill(c, e);
		links_drop_outgoing(e);
	}
	host_pc_t start = region_start(c, index);
	if (c->callbacks.code_evicted) c->callbacks.code_evicted(c->callbacks.ctx, start, start + c->region_size);
	uint32_t stubs = stub_bytes(r->stub_count);
	memset(cache_writable(c, start), TRAP_BYTE, r->used);
	memset(cache_writable(c, start + c->region_size - stubs), TRAP_BYTE, stubs);
	drop_chunks(c, r);
	r->used = r->count = r->page_count = r->stub_count = 0;
}

static void region_free(struct region *r)
{
	free_list(r->chunks);
	free(r->starts);
	free(r->pages);
	free(r->entries);
	free(r->stub_owners);
}

void regions_free(struct cache *c)
{
	for (uint32_t i = 0; c->regions && i < c->region_count; i++) region_free(&c->regions[i]);
	free_list(c->free_chunks);
	free(c->next_chunk);
	free(c->regions);
}

uint8_t *cache_side_memory_ahead(const struct cache *c)
{
	return (uint8_t *)c->next_chunk;
}
