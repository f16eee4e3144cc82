/* The tables of the inline lookup. A view has a few, one for each context that was used last in it; what one holds is valid for the code pages
 * that the view had when it was filled. Compiled for general registers alone: see quick.c. */
#include "runtime/internal.h"

static void clear(struct jump_table *t)
{
	host_pc_t none = (host_pc_t)entry_lookup_slow;

	if (t->filled <= ARRAY_LEN(t->log))
		for (uint32_t i = 0; i < t->filled; i++) t->slots[t->log[i]] = none;
	else
		for (uint32_t i = 0; i < JUMP_SLOTS; i++) t->slots[i] = none;
	t->filled = 0;
}

void jumps_init(struct jump_table *tables)
{
	for (unsigned i = 0; i < JUMP_TABLES; i++)
		tables[i].filled = UINT32_MAX;
}

void jumps_select(struct runtime *r, struct shadow_view *view, uint32_t context)
{
	struct jump_table *t = &view->jumps[view->jumps_last % JUMP_TABLES];

	for (unsigned i = 0; i < JUMP_TABLES && (t->epoch != view->jump_epoch || t->context != context); i++)
		t = &view->jumps[i];
	if (t->epoch != view->jump_epoch || t->context != context) {
		t = &view->jumps[++view->jumps_last % JUMP_TABLES];
		clear(t);
		vcpu_forget_crossings(r->v);
		t->epoch = view->jump_epoch;
		t->context = context;
	}
	view->jumps_last = (uint32_t)(t - view->jumps);
	r->v->jumps = t->slots;
}

void jumps_fill(struct runtime *r, const struct block *b)
{
	struct jump_table *t = &r->view->jumps[r->view->jumps_last];
	uint32_t at = jump_index(b->eip);

	if (t->filled < ARRAY_LEN(t->log))
		t->log[t->filled] = (uint16_t)at;
	t->filled += t->filled <= ARRAY_LEN(t->log);
	t->slots[at] = b->host_pc;
	r->stats.jump_fills++;
}

void jumps_forget(struct shadow_view *view, const struct block *b)
{
	uint32_t at = jump_index(b->eip);

	for (unsigned i = 0; view->jumps && i < JUMP_TABLES; i++)
		if (view->jumps[i].slots[at] == b->host_pc)
			view->jumps[i].slots[at] = (host_pc_t)entry_lookup_slow;
}
