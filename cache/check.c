/* Every invariant of the cache, checked the slow way. */
#include <string.h>

#include "cache/internal.h"

/* Evaluates to the sentence, and ends the check, if the condition does not hold. */
#define MUST(condition, sentence) \
	do { \
		if (!(condition)) return sentence; \
	} while (0)

struct totals {
	uint32_t live, nodes, links; /* as counted over the regions */
};

static bool is_entry(struct cache *c, const struct entry *e)
{
	return cache_find_host(c, e->b.host_pc) == &e->b;
}

/* Where it may be entered is the first row that says so. */
static bool is_found(const struct block *b, const struct side_row *row)
{
	struct side_row there;
	uint32_t offset;
	if (row->undo != UNDO_ENTRY || !rows_find_entry(b, row->eip, &offset)) return true;
	return offset <= row->host_offset && cache_find_row(b, b->host_pc + offset, &there) && there.host_offset == offset && there.eip == row->eip && there.undo == UNDO_ENTRY;
}

static const char *check_rows(const struct block *b)
{
	uint32_t last = 0;
	for (struct row_cursor c = cache_rows(b); cache_next_row(&c); last = c.row.host_offset) {
		MUST(is_found(b, &c.row), "a block is not to be entered where its rows say");
		MUST(c.row.host_offset <= b->host_length, "a side-table row lies behind its block");
		MUST(last <= c.row.host_offset, "side-table rows are not in order");
	}
	return NULL;
}

static bool is_exit_stub(struct cache *c, const struct block *b, uint32_t slot)
{
	host_pc_t stub = cache_exit_stub(b, slot);
	const uint8_t *code = cache_writable(c, stub);
	uint32_t rel = (uint32_t)(c->chain - (stub + CACHE_EXIT_STUB));
	return code[0] == 0xE8 && !memcmp(code + 1, &rel, 4) && cache_find_host(c, stub) == b && cache_find_slot(b, stub) == (int)slot;
}

static const char *check_slots(struct cache *c, const struct entry *e, struct totals *t)
{
	const struct block *b = &e->b;
	for (uint32_t i = 0; i < b->slot_count; i++) {
		const struct link_slot *s = &b->slots[i];
		MUST(s->rel32_offset + 4u <= b->host_length, "a slot's branch lies outside its block");
		MUST(is_exit_stub(c, b, i), "a slot has no exit stub");
		MUST(e->chain[i].from == e, "a link does not belong to its block");
		if (e->chain[i].at) {
			MUST(*e->chain[i].at == &e->chain[i], "a link is not where its list says");
			t->links++;
		} else {
			MUST(links_target(c, b, i) == cache_exit_stub(b, i), "an unlinked branch does not go to its exit stub");
		}
	}
	return NULL;
}

static bool is_same_page(const struct block *a, const struct block *b)
{
	return (a->gva ^ b->gva) < PAGE_SIZE && a->gpa >> PAGE_SHIFT == b->gpa >> PAGE_SHIFT;
}

static bool is_entry_at(const struct block *b, host_pc_t pc, uint32_t eip)
{
	struct side_row row;
	if (pc == b->host_pc + b->body || pc == b->host_pc + b->checked) return true;
	return cache_find_row(b, pc, &row) && row.undo == UNDO_ENTRY && row.eip == eip && b->host_pc + row.host_offset == pc;
}

static const char *check_incoming(struct cache *c, const struct entry *e, uint32_t *links)
{
	struct chain_link *const *at = &e->incoming;
	for (const struct chain_link *l = e->incoming; l; at = &l->next, l = l->next) {
		MUST(l->at == at, "a list of incoming links is broken");
		MUST(!e->b.dead, "a dead block has incoming links");
		MUST(is_entry(c, l->from), "a link comes from no block");
		const struct block *from = &l->from->b;
		uint32_t slot = (uint32_t)(l - l->from->chain);
		MUST(slot < from->slot_count, "a link is none of its block's slots");
		MUST(is_entry_at(&e->b, links_target(c, from, slot), from->slots[slot].target), "a linked branch does not go to its target");
		MUST(is_same_page(from, &e->b) || links_target(c, from, slot) < e->b.host_pc + e->b.body, "a link from another page goes past the check");
		(*links)++;
	}
	return NULL;
}

static const char *check_findable(struct cache *c, const struct entry *e)
{
	const struct block *b = &e->b;
	MUST(cache_find_host(c, b->host_pc) == b, "a block is not found by its first host PC");
	MUST(cache_find_host(c, b->host_pc + b->host_length - 1) == b, "a block is not found by its last host PC");
	if (b->dead || entry_is_thunk(e)) return NULL;
	MUST(cache_lookup(c, b) == b, "a live block is not found by its identity");
	MUST(*e->frame.at == &e->frame && e->frame.owner == e, "a live block is not on its frame's list");
	MUST(!e->straddle || (*e->straddle->at == e->straddle && e->straddle->owner == e),
	     "a straddling block is not on its second frame's list");
	return NULL;
}

static const char *check_pad(const struct cache *c, const struct block *b)
{
	uint8_t jmp[CACHE_BAR];
	if (!b->checked || !c->barred) return NULL;
	MUST(b->checked >= CACHE_BAR, "a pad is too short to be barred");
	bar_make(c, b, jmp);
	MUST(b->dead == !memcmp(cache_writable(c, b->host_pc), jmp, sizeof jmp), "the pad of a dead block is not barred, or that of a live one is");
	return NULL;
}

static const char *check_entry(struct cache *c, const struct entry *e, struct totals *t, uint32_t *incoming)
{
	const char *broken = check_rows(&e->b);
	if (!broken) broken = check_slots(c, e, t);
	if (!broken) broken = check_incoming(c, e, incoming);
	if (!broken) broken = check_findable(c, e);
	if (!broken) broken = twins_check(c, e);
	if (!broken) broken = check_pad(c, &e->b);
	if (!e->b.dead && !entry_is_thunk(e)) {
		t->live++;
		t->nodes += e->straddle ? 2 : 1;
	}
	return broken;
}

static bool shows_same(const struct cache *c, host_pc_t from, host_pc_t to)
{
	return !memcmp((const void *)(uintptr_t)from, cache_writable(c, from), to - from);
}

static const char *check_region(struct cache *c, uint32_t index, struct totals *t, uint32_t *incoming)
{
	const struct region *r = &c->regions[index];
	host_pc_t end = region_start(c, index);
	host_pc_t stubs = region_start(c, index) + c->region_size;
	MUST(r->used + stub_bytes(r->stub_count) <= c->region_size, "a region is fuller than it is large");
	for (uint32_t i = 0; i < r->count; i++) {
		const struct block *b = &r->entries[i]->b;
		MUST(b->host_pc == region_start(c, index) + r->starts[i], "a block is not where its region says");
		MUST(b->host_pc >= end, "blocks overlap in code memory");
		end = b->host_pc + b->host_length;
		MUST(end <= region_start(c, index) + r->used, "a block reaches out of its region");
		MUST(b->exit_pc == stubs, "a block's exit stubs are not where the last one's end");
		stubs -= stub_bytes(b->slot_count);
		const char *broken = check_entry(c, r->entries[i], t, incoming);
		if (broken) return broken;
	}
	MUST(shows_same(c, region_start(c, index), region_start(c, index) + r->used) && shows_same(c, stubs, region_start(c, index) + c->region_size),
	     "the two mappings of code memory differ");
	return NULL;
}

static const char *check_hash(struct cache *c)
{
	uint32_t found = 0;
	for (uint32_t i = 0; i < 1u << c->hash_bits; i++) {
		const struct entry *e = c->hash[i].entry;
		if (!e) continue;
		MUST(is_entry(c, e), "the hash holds what is no block");
		MUST(!e->b.dead && !entry_is_thunk(e), "the hash holds a block that may not be entered");
		MUST(hash_find(c, e) == i, "a block in the hash is not found there");
		MUST(++found <= c->live, "the hash holds more blocks than live");
	}
	MUST(found == c->live, "the hash holds fewer blocks than live");
	return NULL;
}

static const char *check_frame(struct cache *c, gfn_t gfn, uint32_t *nodes, uint32_t limit)
{
	const struct frame *f = frames_find(c, gfn);
	struct frame_node *const *at = &f->blocks;
	for (const struct frame_node *n = f->blocks; n; at = &n->next, n = n->next) {
		MUST(++*nodes <= limit, "frames list more blocks than live");
		MUST(n->at == at, "a frame's list is broken");
		MUST(is_entry(c, n->owner) && !n->owner->b.dead, "a frame lists what is no live block");
		MUST(entry_gfn(n->owner) == gfn || n->owner->b.gfn2 == gfn, "a frame lists another frame's block");
		MUST(!(frames_lines(n->owner, gfn) & ~f->lines), "a frame forgot which of its lines hold code");
	}
	MUST(f->blocks || !f->lines, "a frame without blocks has lines with code");
	return known_check(f, gfn);
}

static const char *check_frames(struct cache *c, uint32_t expected)
{
	uint32_t nodes = 0;
	for (gfn_t chunk = 0; chunk < c->frame_chunks; chunk++) {
		for (gfn_t i = 0; c->frames[chunk] && i < 1u << FRAMES_SHIFT; i++) {
			const char *broken = check_frame(c, chunk << FRAMES_SHIFT | i, &nodes, expected);
			if (broken) return broken;
		}
	}
	MUST(nodes == expected, "frames list fewer blocks than live");
	return NULL;
}

const char *cache_check(struct cache *c)
{
	struct totals t = {0, 0, 0};
	uint32_t incoming = 0;
	for (uint32_t i = 0; i < c->region_count; i++) {
		const char *broken = check_region(c, i, &t, &incoming);
		if (broken) return broken;
	}
	MUST(incoming == t.links, "links and lists of incoming links do not agree");
	MUST(t.live == c->live, "the count of live blocks is wrong");
	const char *broken = check_hash(c);
	return broken ? broken : check_frames(c, t.nodes);
}
