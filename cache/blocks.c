/* Blocks: committed, found by host PC, killed. */
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

#define LINE 64u

/* With slots and fixes; its rows are to lie at *rows, with `row_bytes` at most. */
static struct entry *allocate(struct cache *c, struct region *r, const struct block *what, uint32_t row_bytes, uint8_t **rows)
{
	bool straddles = what->gfn2 != GFN_NONE && what->gfn2 != what->gpa >> PAGE_SHIFT;
	size_t links = what->slot_count * sizeof(struct chain_link);
	size_t straddle = straddles ? sizeof(struct frame_node) : 0;
	size_t slots = what->slot_count * sizeof *what->slots, fixes = what->fix_count * sizeof *what->fixes;
	struct entry *e = region_alloc(c, r, sizeof *e + links + straddle + slots + fixes + row_bytes);
	uint8_t *behind = (uint8_t *)e->chain + links;
	e->b = *what;
	e->straddle = straddles ? (struct frame_node *)(void *)behind : NULL;
	e->b.slots = (struct link_slot *)(void *)(behind + straddle);
	if (slots) memcpy(e->b.slots, what->slots, slots);
	if (fixes) memcpy(behind + straddle + slots, what->fixes, fixes);
	e->b.fixes = (const struct code_fix *)(const void *)(behind + straddle + slots);
	*rows = behind + straddle + slots + fixes;
	return e;
}

/* Its code is in place, at the end of what its region has. */
static struct block *install(struct cache *c, struct entry *e, uint32_t used)
{
	struct region *r = &c->regions[c->current];
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
	twins_insert(c, e);
	/* A new translation supersedes the old. It dies last, lest its frame be reported free in between. */
	if (old) block_kill(c, (struct entry *)old);
	return &e->b;
}

struct block *cache_commit(struct cache *c, const struct block *what, const struct side_row *rows, uint32_t used)
{
	struct region *r = &c->regions[c->current];
	if (used > c->reserved || what->slot_count > c->reserved_slots) {
		LOG(LOG_CACHE, LOG_ERROR, "%u bytes of code and %u slots in a space of %u and %u", used, what->slot_count, c->reserved, c->reserved_slots);
		abort();
	}
	uint8_t *to;
	struct entry *e = allocate(c, r, what, rows_most(what), &to);
	region_trim(r, rows_keep(&e->b, rows, to));
	return install(c, e, used);
}

/* To the same place of a line. */
static uint32_t lead_of(const struct cache *c, const struct block *twin)
{
	return (uint32_t)(twin->host_pc - (region_start(c, c->current) + c->regions[c->current].used)) % LINE;
}

struct block *cache_copy(struct cache *c, const struct block *twin, const struct block *what)
{
	struct region *r = &c->regions[c->current];
	uint32_t lead = lead_of(c, twin);
	int64_t by = (int64_t)what->gva - twin->gva;
	uint8_t *rows;
	if (lead + twin->host_length > c->reserved || twin->slot_count > c->reserved_slots) return NULL;
	cache_skip(c, lead);
	host_pc_t pc = region_start(c, c->current) + r->used;
	uint8_t *code = memcpy(cache_writable(c, pc), cache_writable(c, twin->host_pc), twin->host_length);
	for (uint32_t i = 0; i < twin->fix_count; i++) code_fix_apply(code, twin->fixes[i], (int64_t)(pc - twin->host_pc), by);
	struct entry *e = allocate(c, r, twin, twin->row_bytes, &rows);
	rows_copy(&e->b, twin, rows);
	e->b.gva = what->gva;
	e->b.eip = what->eip;
	e->b.aside = what->aside;
	for (uint32_t i = 0; i < e->b.slot_count; i++) e->b.slots[i].target += (uint32_t)by;
	return install(c, e, twin->host_length);
}

void bar_make(const struct cache *c, const struct block *b, uint8_t jmp[CACHE_BAR])
{
	int32_t rel32 = (int32_t)(c->barred - (b->host_pc + CACHE_BAR));
	jmp[0] = 0xE9;
	memcpy(jmp + 1, &rel32, sizeof rel32);
}

/* JMP in place of the pad that the inline lookup lands on: its tables may go on leading there. */
static void bar(struct cache *c, const struct block *b)
{
	if (!b->checked || !c->barred) return;
	uint8_t jmp[CACHE_BAR];
	bar_make(c, b, jmp);
	memcpy(cache_writable(c, b->host_pc), jmp, sizeof jmp);
}

void block_kill(struct cache *c, struct entry *e)
{
	if (e->b.dead) return;
	e->b.dead = true;
	links_drop_incoming(c, e);
	bar(c, &e->b);
	if (entry_is_thunk(e)) return;
	hash_remove(c, e);
	twins_remove(c, e);
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
