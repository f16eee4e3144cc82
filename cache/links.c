/* Links (chains): direct branches patched to go straight to their target. Each slot is on its target's list of incoming links, so
 * that a death unlinks in time proportional to them. A dead block keeps its own links: a return pad may still run it. */
#include <string.h>

#include "cache/internal.h"

#define CALL_REL32 0xE8u

static void patch(const struct cache *c, host_pc_t at, uint32_t value)
{
	memcpy(cache_writable(c, at), &value, sizeof value);
}

static uint32_t read_patch(const struct cache *c, host_pc_t at)
{
	uint32_t value;
	memcpy(&value, cache_writable(c, at), sizeof value);
	return value;
}

static void patch_branch(const struct cache *c, const struct block *b, const struct link_slot *s, host_pc_t target)
{
	host_pc_t at = b->host_pc + s->rel32_offset;
	patch(c, at, (uint32_t)(target - (at + 4)));
}

host_pc_t cache_exit_stub(const struct block *b, uint32_t slot)
{
	return b->exit_pc - stub_bytes(slot + 1);
}

void links_init(struct cache *c, struct entry *e)
{
	e->incoming = NULL;
	for (uint32_t i = 0; i < e->b.slot_count; i++) {
		host_pc_t stub = cache_exit_stub(&e->b, i);
		*cache_writable(c, stub) = CALL_REL32;
		patch(c, stub + 1, (uint32_t)(c->chain - (stub + CACHE_EXIT_STUB)));
		patch_branch(c, &e->b, &e->b.slots[i], stub);
		e->chain[i] = (struct chain_link){.from = e};
	}
}

host_pc_t links_target(const struct cache *c, const struct block *b, uint32_t slot)
{
	host_pc_t at = b->host_pc + b->slots[slot].rel32_offset;
	return at + 4 + (uint64_t)(int64_t)(int32_t)read_patch(c, at);
}

static void unchain(struct chain_link *l)
{
	*l->at = l->next;
	if (l->next) l->next->at = l->at;
	l->at = NULL;
}

static void chain(struct chain_link *l, struct entry *to)
{
	l->next = to->incoming;
	l->at = &to->incoming;
	if (l->next) l->next->at = &l->next;
	to->incoming = l;
}

void cache_link(struct cache *c, struct block *from, uint32_t slot, struct block *to, uint32_t entry)
{
	struct entry *source = (struct entry *)from, *target = (struct entry *)to;
	/* The caller may have looked `to` up before something killed it; linked now, it would be entered for ever. */
	if (to->dead || slot >= from->slot_count) return;
	struct chain_link *l = &source->chain[slot];
	const struct link_slot *s = &from->slots[slot];
	if (l->at) unchain(l);
	chain(l, target);
	patch_branch(c, from, s, to->host_pc + entry);
	c->stats->links++;
}

void links_drop_incoming(struct cache *c, struct entry *e)
{
	while (e->incoming) {
		struct chain_link *l = e->incoming;
		const struct block *from = &l->from->b;
		uint32_t slot = (uint32_t)(l - l->from->chain);
		unchain(l);
		patch_branch(c, from, &from->slots[slot], cache_exit_stub(from, slot));
		c->stats->unlinks++;
	}
}

void cache_unlink(struct cache *c, struct block *to)
{
	links_drop_incoming(c, (struct entry *)to);
}

void links_drop_outgoing(struct entry *e)
{
	for (uint32_t i = 0; i < e->b.slot_count; i++)
		if (e->chain[i].at) unchain(&e->chain[i]);
}

int cache_find_slot(const struct block *b, host_pc_t pc)
{
	uint64_t slot = (b->exit_pc - 1 - pc) / CACHE_EXIT_STUB;
	return slot < b->slot_count ? (int)slot : -1;
}
