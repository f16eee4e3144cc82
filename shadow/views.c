/* Views: made, chosen by root, recycled; and what they show, slot by slot. */
#include <stdlib.h>

#include "shadow/internal.h"

struct view *view_create(struct shadow *s, bool user)
{
	struct view *v = aligned_alloc(_Alignof(struct view), sizeof(*v));
	if (!v) return NULL;
	*v = (struct view){ 0 };
	if (!tables_init(s, v)) {
		free(v);
		return NULL;
	}
	v->pub.user = user;
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
	view_set_top(s, v, slot, w->top);
	v->quiet_writes[slot] = 0;
	if (!w->large) trace_add_user(s, entry_frame(w->top), v, slot);
}

/* Everything of a slot but its part of the window. */
static bool forget_slot(struct shadow *s, struct view *v, uint32_t slot)
{
	bool lost_exec = tables_drop_slot(s, v, slot);
	uint64_t top = view_top(s, v, slot);
	view_set_top(s, v, slot, 0);
	v->shown[slot / 64] &= ~(1ULL << (slot % 64));
	if (!walk_is_large(s, top)) trace_remove_user(s, entry_frame(top), v, slot);
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
	for (uint32_t word = 0; word < MAX_SLOTS / 64; word++)
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
	trace_remove_root(s, v);
	v->in_use = false;
	v->last_used = 0;
	v->own_losses = 0;
	v->pub.used_ns = 0;
	v->pub.returns_vary = false;
	v->pub.return_misses_until = 0;
	view_lost_exec(s, v);
}

/* A directory in memory knows the views that it belongs to. */
static struct view *find_view_by_frame(const struct shadow *s, gfn_t gfn, const struct root *root)
{
	for (uint32_t i = s->frames[gfn].directories; i; i = s->pool.links[i].next) {
		struct view *v = key_view(s, s->pool.links[i].key);
		if (root_is(&v->root, root)) return v;
	}
	return NULL;
}

static struct view *find_view(const struct shadow *s, const struct root *root)
{
	for (unsigned i = 0; i < DIRECTORIES; i++)
		if (root->directory[i] < s->frames_end) return find_view_by_frame(s, root->directory[i], root);
	for (uint32_t i = 1; i < s->view_count; i++)
		if (s->views[i]->in_use && root_is(&s->views[i]->root, root)) return s->views[i];
	return NULL;
}

void view_limit_pieces(struct shadow *s)
{
	struct view *oldest = NULL;
	for (uint32_t i = 1; i < s->view_count; i++) {
		struct view *v = s->views[i];
		if (!view_is_current(s, v) && v->piece_count && (!oldest || v->last_used < oldest->last_used)) oldest = v;
	}
	if (!oldest) return; /* what two views can fill is the least budget */
	view_release(s, oldest);
	tables_trim(s, oldest);
}

/* A view that nobody uses, or a new one, or the one used longest ago. */
static struct view *take_view(struct shadow *s)
{
	struct view *oldest = NULL, *made;
	for (uint32_t i = 1; i < s->view_count; i++)
		if (!oldest || s->views[i]->last_used < oldest->last_used) oldest = s->views[i];
	if (oldest && !oldest->in_use) return oldest;
	if (s->view_count <= s->config.max_views && (made = view_create(s, true))) return made;
	LOG(LOG_SHADOW, LOG_DEBUG, "view %u of root %x recycled", oldest->id, oldest->root.directory[0]);
	s->stats->views_recycled++;
	view_release(s, oldest);
	return oldest;
}

static void switch_user_view(struct shadow *s)
{
	shadow_settle(s);
	struct view *v = find_view(s, &s->root);
	if (!v) {
		v = take_view(s);
		v->root = s->root;
		v->in_use = true;
		trace_add_root(s, v);
	}
	v->last_used = ++s->clock;
	v->directory_writes = 0;
	s->user = v;
}

/* A slot of the supervisor view that the new directory has otherwise. One with another page table in each address space
 * is not worth a mapping; one that is merely absent in some may be filled in lazily by the guest, as kernels do for
 * their own half. One that was not used through this directory yet needs walks, which set its A and D bits. */
static void follow_slot(struct shadow *s, struct view *v, uint32_t slot, uint64_t now)
{
	const uint8_t patience = 16;
	uint64_t shown = view_top(s, v, slot);
	if (walk_top_covers(s, shown, now)) {
		view_set_top(s, v, slot, now);
		return;
	}
	bool used_alone = walk_top_covers(s, shown & ~(uint64_t)PTE_D, now | PTE_A);
	if (!used_alone && v->differed[slot] < patience) v->differed[slot]++;
	if (!used_alone && ((now & PTE_P) || v->differed[slot] == patience)) v->flags[slot] |= SLOT_VOLATILE;
	slot_drop(s, v, slot);
}

#define LINE 64u /* a cache line of the directory: 16 entries, or 8 */

/* Do any slots of a line, as far as shown, differ? What is shown has its A bit set. */
static bool line_differs_32(const uint32_t *shown, const uint32_t *now)
{
	uint32_t differ = 0;
	for (unsigned i = 0; i < LINE / 4; i++) differ |= (shown[i] ^ now[i]) & -(shown[i] & PTE_P);
	return differ;
}

static bool line_differs_64(const uint64_t *shown, const uint64_t *now)
{
	uint64_t differ = 0;
	for (unsigned i = 0; i < LINE / 8; i++) differ |= (shown[i] ^ now[i]) & -(shown[i] & PTE_P);
	return differ;
}

static bool line_differs(const struct shadow *s, struct view *v, uint32_t slot, const void *now)
{
	const void *shown = entry_at(s, v->top, slot);
	return s->mode.entry_shift == 2 ? line_differs_32(shown, now) : line_differs_64(shown, now);
}

/* The slots of one directory, beginning with `first`. */
static void follow_directory(struct shadow *s, struct view *v, uint32_t first, void *directory)
{
	uint32_t line = LINE >> s->mode.entry_shift, end = first + table_entries(s);
	for (uint32_t slot = first; slot < end; slot += line) {
		uint64_t chunk = v->shown[slot / 64] >> (slot % 64) & ((1u << line) - 1);
		if (!chunk || (directory && !line_differs(s, v, slot, entry_at(s, directory, slot - first)))) continue;
		for (; chunk; chunk &= chunk - 1) {
			uint32_t i = slot + (uint32_t)__builtin_ctzll(chunk);
			if (directory)
				follow_slot(s, v, i, entry_read(s, directory, i - first));
			else
				slot_drop(s, v, i);
		}
	}
}

/* The supervisor view goes on under another root. A directory that stays is in step, as it was traced. */
static void follow_root(struct shadow *s, const struct root *before)
{
	for (uint32_t first = 0; first < count_slots(s); first += table_entries(s)) {
		gfn_t gfn = s->root.directory[first >> s->mode.index_shift];
		if (gfn != before->directory[first >> s->mode.index_shift]) follow_directory(s, s->supervisor, first, table_at(s, gfn));
	}
}

/* What slots show, and through which walker, is void. */
static void forget_mode(struct shadow *s)
{
	for (uint32_t i = 1; i < s->view_count; i++)
		if (s->views[i]->in_use) view_release(s, s->views[i]);
	view_clear(s, s->supervisor);
	for (uint32_t slot = 0; slot < MAX_SLOTS; slot++) {
		s->supervisor->flags[slot] &= (uint8_t)~(SLOT_VOLATILE | SLOT_UNPROTECTED);
		s->supervisor->differed[slot] = 0;
	}
}

static bool is_same_mode(const struct shadow_paging *a, const struct shadow_paging *b)
{
	const uint32_t cr4_bits = CR4_PSE | CR4_PAE | CR4_SMEP | CR4_SMAP;
	bool same_registers = !((a->cr0 ^ b->cr0) & CR0_PG) && !((a->cr4 ^ b->cr4) & cr4_bits);
	return same_registers && a->nx == b->nx && a->pse36 == b->pse36 && a->pat == b->pat;
}

/* CR0.WP is set: what was writable without it is so no more. (Where it is cleared, what is read-only is shown writable when it is written to.) */
static void protect_supervisor(struct shadow *s)
{
	struct view *v = s->supervisor;
	for (uint32_t slot = 0; slot < MAX_SLOTS && s->unprotected; slot++) {
		bool drops = (v->flags[slot] & SLOT_UNPROTECTED) && v->shown[slot / 64] >> (slot % 64) & 1;
		v->flags[slot] &= (uint8_t)~SLOT_UNPROTECTED;
		if (drops) slot_drop(s, v, slot);
	}
	s->unprotected = false;
}

void shadow_set_paging(struct shadow *s, const struct shadow_paging *paging)
{
	bool protects = paging->cr0 & ~s->paging.cr0 & CR0_WP;
	bool mode_changed = !is_same_mode(paging, &s->paging);
	struct root before = s->root, root = walk_root(paging);
	if (mode_changed) forget_mode(s);
	if (paging->cr0 == s->paging.cr0 && paging->cr4 == s->paging.cr4) s->stats->cr3_loads++;
	s->paging = *paging;
	s->root = root;
	if (mode_changed) s->mode = walk_mode(paging);
	if (mode_changed || !root_is(&root, &before)) switch_user_view(s);
	if (!mode_changed && protects) protect_supervisor(s);
	if (!mode_changed && !root_is(&root, &before)) follow_root(s, &before);
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
		else if (s->views[i]->in_use)
			view_release(s, s->views[i]);
	}
}

void shadow_each_view(struct shadow *s, void (*fn)(void *ctx, struct shadow_view *view), void *ctx)
{
	for (uint32_t i = 0; i < s->view_count; i++)
		fn(ctx, &s->views[i]->pub);
}
