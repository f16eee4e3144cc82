/* Views: made, chosen by root, recycled; and what they show, slot by slot. */
#include <stdlib.h>

#include "shadow/internal.h"

struct view *view_create(struct shadow *s, bool user)
{
	struct view *v = calloc(1, sizeof(*v));
	if (!v) return NULL;
	if (!tables_init(s, v)) {
		free(v);
		return NULL;
	}
	v->pub.user = user;
	v->root = GFN_NONE;
	v->id = (uint16_t)s->view_count;
	s->views[s->view_count++] = v;
	s->stats->views_created++;
	return v;
}

void view_destroy(struct shadow *s, struct view *v)
{
	const struct shadow_ops *ops = &s->config.ops;
	window_close(s, v);
	ops->tables_free(ops->ctx, v->pub.tables, ABI_TABLES_SIZE + FILL_MAP_SIZE);
	free(v);
}

void view_lost_exec(struct shadow *s, struct view *v)
{
	s->config.ops.view_reset(s->config.ops.ctx, &v->pub);
}

void slot_show(struct shadow *s, struct view *v, uint32_t slot, const struct walk *w)
{
	v->shown[slot / 64] |= 1ULL << (slot % 64);
	v->top[slot] = w->top;
	v->quiet_writes[slot] = 0;
	if (!w->large) trace_add_user(s, w->top >> PAGE_SHIFT, v, slot);
}

/* Everything of a slot but its part of the window. */
static bool forget_slot(struct shadow *s, struct view *v, uint32_t slot)
{
	bool lost_exec = tables_drop_slot(s, v, slot);
	uint32_t top = v->top[slot];
	bool has_table = s->root != ROOT_UNPAGED && !walk_is_large(s, top);
	v->top[slot] = 0;
	v->shown[slot / 64] &= ~(1ULL << (slot % 64));
	if (has_table) trace_remove_user(s, top >> PAGE_SHIFT, v, slot);
	s->stats->slots_dropped++;
	return lost_exec;
}

void slot_drop(struct shadow *s, struct view *v, uint32_t slot)
{
	window_drop_slot(s, v, slot);
	if (forget_slot(s, v, slot)) view_lost_exec(s, v);
}

static bool forget_slots(struct shadow *s, struct view *v)
{
	bool lost_exec = false;
	for (uint32_t word = 0; word < SLOTS / 64; word++)
		while (v->shown[word]) lost_exec |= forget_slot(s, v, word * 64 + (uint32_t)__builtin_ctzll(v->shown[word]));
	return lost_exec;
}

void view_clear(struct shadow *s, struct view *v)
{
	if (v->maps > 1) window_clear(s, v);
	if (forget_slots(s, v)) view_lost_exec(s, v);
}

void view_release(struct shadow *s, struct view *v)
{
	window_close(s, v);
	forget_slots(s, v);
	trace_clear_root(s, v->root);
	v->root = GFN_NONE;
	v->last_used = 0;
	v->pub.used_ns = 0;
	view_lost_exec(s, v);
}

static struct view *find_view(const struct shadow *s, gfn_t root)
{
	if (root < s->frames_end) return s->frames[root].root ? s->views[s->frames[root].root] : NULL;
	for (uint32_t i = 1; i < s->view_count; i++)
		if (s->views[i]->root == root) return s->views[i];
	return NULL;
}

/* A view that nobody uses, or a new one, or the one used longest ago. */
static struct view *take_view(struct shadow *s)
{
	struct view *oldest = NULL, *made;
	for (uint32_t i = 1; i < s->view_count; i++)
		if (!oldest || s->views[i]->last_used < oldest->last_used) oldest = s->views[i];
	if (oldest && oldest->root == GFN_NONE) return oldest;
	if (s->view_count <= s->config.max_views && (made = view_create(s, true))) return made;
	LOG(LOG_SHADOW, LOG_DEBUG, "view %u of root %x recycled", oldest->id, oldest->root);
	s->stats->views_recycled++;
	view_release(s, oldest);
	return oldest;
}

static void switch_user_view(struct shadow *s)
{
	struct view *v = find_view(s, s->root);
	if (!v) {
		v = take_view(s);
		v->root = s->root;
		trace_set_root(s, s->root, v);
	}
	v->last_used = ++s->clock;
	v->directory_writes = 0;
	s->user = v;
}

/* A slot of the supervisor view that the new directory has otherwise. One with another page table in each address space
 * is not worth a mapping; one that is merely absent in some may be filled in lazily by the guest, as kernels do for
 * their own half. */
static void follow_slot(struct shadow *s, struct view *v, uint32_t slot, uint32_t now)
{
	const uint8_t patience = 16;
	if (walk_top_covers(s, v->top[slot], now)) {
		v->top[slot] = now;
		return;
	}
	if (v->differed[slot] < patience) v->differed[slot]++;
	if ((now & PTE_P) || v->differed[slot] == patience) v->flags[slot] |= SLOT_VOLATILE;
	slot_drop(s, v, slot);
}

/* Do any of 16 slots (a cache line of the directory), as far as shown, differ by more than the A bit? */
static bool chunk_differs(const uint32_t *shown, const uint32_t *now)
{
	uint32_t differ = 0;
	for (unsigned i = 0; i < 16; i++) differ |= (shown[i] ^ now[i]) & -(shown[i] & PTE_P);
	return differ & ~PTE_A;
}

/* The supervisor view goes on under another directory. */
static void follow_root(struct shadow *s)
{
	struct view *v = s->supervisor;
	const uint32_t *directory = table_at(s, s->root);
	if (!directory) {
		view_clear(s, v);
		return;
	}
	for (uint32_t slot = 0; slot < SLOTS; slot += 16) {
		uint64_t chunk = v->shown[slot / 64] >> (slot % 64) & 0xFFFF;
		if (!chunk || !chunk_differs(&v->top[slot], &directory[slot])) continue;
		for (; chunk; chunk &= chunk - 1) {
			uint32_t i = slot + (uint32_t)__builtin_ctzll(chunk);
			follow_slot(s, v, i, directory[i]);
		}
	}
}

/* What slots show, and through which walker, is void. */
static void forget_mode(struct shadow *s)
{
	for (uint32_t i = 1; i < s->view_count; i++)
		if (s->views[i]->root != GFN_NONE) view_release(s, s->views[i]);
	view_clear(s, s->supervisor);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		s->supervisor->flags[slot] &= (uint8_t)~SLOT_VOLATILE;
		s->supervisor->differed[slot] = 0;
	}
}

void shadow_set_paging(struct shadow *s, uint32_t cr0, uint32_t cr3, uint32_t cr4)
{
	bool mode_changed = ((cr0 ^ s->cr0) & (CR0_PG | CR0_WP)) || ((cr4 ^ s->cr4) & (CR4_PSE | CR4_PAE));
	if (mode_changed) forget_mode(s);
	gfn_t root = cr0 & CR0_PG ? cr3 >> PAGE_SHIFT : ROOT_UNPAGED;
	bool root_changed = root != s->root;
	if (cr0 == s->cr0 && cr4 == s->cr4) s->stats->cr3_loads++;
	s->cr0 = cr0;
	s->cr3 = cr3;
	s->cr4 = cr4;
	s->root = root;
	if (mode_changed) s->walk = walk_choose(cr0, cr4);
	if (mode_changed || root_changed) switch_user_view(s);
	if (!mode_changed && root_changed) follow_root(s);
}

struct shadow_view *shadow_view(struct shadow *s, bool user)
{
	return user ? &s->user->pub : &s->supervisor->pub;
}

void shadow_flush(struct shadow *s)
{
	for (uint32_t i = 0; i < s->view_count; i++) {
		if (view_is_current(s, s->views[i]))
			view_clear(s, s->views[i]);
		else if (s->views[i]->root != GFN_NONE)
			view_release(s, s->views[i]);
	}
}

void shadow_each_view(struct shadow *s, void (*fn)(void *ctx, struct shadow_view *view), void *ctx)
{
	for (uint32_t i = 0; i < s->view_count; i++)
		fn(ctx, &s->views[i]->pub);
}
