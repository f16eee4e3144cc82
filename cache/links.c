/* Links (chains): direct branches patched to go straight to their target. Each slot is on its target's list of incoming links, so
 * that a death unlinks in time proportional to them. A dead block keeps its own links: a return pad may still run it. */
#include <string.h>

#include "cache/internal.h"

void links_init(struct entry *e)
{
	e->incoming = NULL;
	for (uint32_t i = 0; i < e->b.slot_count; i++) e->chain[i] = (struct chain_link){.from = e};
}

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
		const struct link_slot *s = &from->slots[l - l->from->chain];
		unchain(l);
		patch_branch(c, from, s, from->host_pc + s->unlinked_offset);
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

int cache_find_slot(const struct block *b, host_pc_t exit_stub)
{
	for (uint32_t i = 0; i < b->slot_count; i++)
		if (b->host_pc + b->slots[i].unlinked_offset == exit_stub) return (int)i;
	return -1;
}
