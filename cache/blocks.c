/* Blocks: committed, found by host PC, killed. */
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

static struct entry *allocate(struct region *r, const struct block *what, const struct side_row *rows)
{
	bool straddles = what->gfn2 != GFN_NONE && what->gfn2 != what->gpa >> PAGE_SHIFT;
	size_t links = what->slot_count * sizeof(struct chain_link);
	size_t straddle = straddles ? sizeof(struct frame_node) : 0;
	size_t slots = what->slot_count * sizeof *what->slots;
	struct entry *e = region_alloc(r, sizeof *e + links + straddle + slots + rows_most(what));
	uint8_t *behind = (uint8_t *)e->chain + links;
	e->b = *what;
	e->straddle = straddles ? (struct frame_node *)(void *)behind : NULL;
	e->b.slots = (struct link_slot *)(void *)(behind + straddle);
	if (slots) memcpy(e->b.slots, what->slots, slots);
	region_trim(r, rows_keep(&e->b, rows, behind + straddle + slots));
	return e;
}

struct block *cache_commit(struct cache *c, const struct block *what, const struct side_row *rows, uint32_t used)
{
	struct region *r = &c->regions[c->current];
	if (used > c->reserved || what->slot_count > c->reserved_slots) {
		LOG(LOG_CACHE, LOG_ERROR, "%u bytes of code and %u slots in a space of %u and %u", used, what->slot_count, c->reserved, c->reserved_slots);
		abort();
	}
	struct entry *e = allocate(r, what, rows);
	e->b.host_pc = region_start(c, c->current) + r->used;
	e->b.host_length = used;
	e->b.dead = false;
	e->b.exit_pc = region_start(c, c->current) + c->region_size - stub_bytes(r->stub_count);
	links_init(c, e);
	region_append(r, r->used, e);
	region_append_stubs(r, e->b.slot_count);
	r->used += used;
	c->reserved = 0;
	if (entry_is_thunk(e)) return &e->b;
	struct block *old = cache_lookup(c, &e->b);
	frames_insert(c, e);
	hash_insert(c, e);
	/* A new translation supersedes the old. It dies last, lest its frame be reported free in between. */
	if (old) block_kill(c, (struct entry *)old);
	return &e->b;
}

void block_kill(struct cache *c, struct entry *e)
{
	if (e->b.dead) return;
	e->b.dead = true;
	links_drop_incoming(c, e);
	if (entry_is_thunk(e)) return;
	hash_remove(c, e);
	if (c->callbacks.block_dead) c->callbacks.block_dead(c->callbacks.ctx, &e->b);
	frames_remove(c, e);
}

struct block *cache_find_host(struct cache *c, host_pc_t pc)
{
	if (!cache_contains(c, pc)) return NULL;
	uint32_t offset = (uint32_t)(pc - c->exec), within = offset % c->region_size, stub = (c->region_size - 1 - within) / CACHE_EXIT_STUB;
	const struct region *r = &c->regions[offset / c->region_size];
	if (stub < r->stub_count) return &r->entries[r->stub_owners[stub]]->b;
	struct entry *e = region_find(r, within);
	return e && pc < e->b.host_pc + e->b.host_length ? &e->b : NULL;
}

void cache_each(struct cache *c, bool (*fn)(void *ctx, struct block *b), void *ctx)
{
	for (uint32_t i = 0; i < c->region_count; i++) {
		const struct region *r = &c->regions[i];
		for (uint32_t j = 0; j < r->count; j++)
			if (!r->entries[j]->b.dead && !fn(ctx, &r->entries[j]->b)) return;
	}
}
