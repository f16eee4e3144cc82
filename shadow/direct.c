/* Around the page that a hidden fault asked for: what else to show with the same host call. */
#include "shadow/internal.h"

#define BATCH_PAGES 16u
#define CHURN_PATIENCE 8u /* mappings of a page that may be taken back before it is refused one, as often */

/* Below it the host maps nothing. */
static uint32_t first_page(const struct view *v)
{
	return v->pub.window ? 0 : LOW_WINDOW_START >> PAGE_SHIFT;
}

static uint32_t as_shown(gfn_t gfn, bool writable)
{
	return gfn << SHOWN_FRAME_SHIFT | SHOWN | (writable ? SHOWN_WRITABLE : 0);
}

/* Runs of a large slot's frames that are alike: all RAM or none, all traced or none. Indices within the slot. */
static uint32_t end_of_ram(const struct shadow *s, gfn_t base, uint32_t from)
{
	uint32_t to = from + 1;
	while (to < table_entries(s) && frame_is_ram(s, base + to) == frame_is_ram(s, base + from)) to++;
	return to;
}

static uint32_t end_of_traced(const struct shadow *s, gfn_t base, uint32_t from, uint32_t end)
{
	uint32_t to = from + 1;
	while (to < end && frame_is_traced(&s->frames[base + to]) == frame_is_traced(&s->frames[base + from])) to++;
	return to;
}

/* Mappings that the slot may take at most. */
static uint32_t count_large_maps(const struct shadow *s, gfn_t base)
{
	uint32_t maps = 2;
	for (uint32_t from = 0, to; from < table_entries(s); from = to) {
		to = end_of_ram(s, base, from);
		if (!frame_is_ram(s, base + from)) continue;
		for (uint32_t i = from; i < to; i = end_of_traced(s, base, i, to)) maps++;
	}
	return maps;
}

/* One run of RAM of a large slot: mapped in one piece, then its traced frames protected. */
static bool show_extent(struct shadow *s, struct view *v, uint32_t first, gfn_t base, uint32_t from, uint32_t to, bool writable)
{
	if (!window_map(s, v, first + from, base + from, to - from, writable, false)) return false;
	if (!writable) return true;
	for (uint32_t i = from, end; i < to; i = end) {
		end = end_of_traced(s, base, i, to);
		if (frame_is_traced(&s->frames[base + i]) && !window_protect(s, v, first + i, end - i, false)) return false;
	}
	return true;
}

/* Show all RAM of a large guest page, or of a piece of the identity mapping as large. */
static bool show_large(struct shadow *s, struct view *v, uint32_t slot, const struct walk *w)
{
	gfn_t base = w->gfn & ~(table_entries(s) - 1);
	bool writable = w->writable && w->dirty;
	if (!(v->flags[slot] & SLOT_LARGE)) window_drop_slot(s, v, slot);
	window_set_large(s, v, slot, writable ? SLOT_LARGE | SLOT_LARGE_WRITABLE : SLOT_LARGE);
	for (uint32_t from = 0, to; from < table_entries(s); from = to) {
		to = end_of_ram(s, base, from);
		if (frame_is_ram(s, base + from) && !show_extent(s, v, slot_page(s, slot), base, from, to, writable)) return false;
	}
	return true;
}

static bool can_heal(const struct shadow *s, const struct view *v, uint32_t page, gfn_t gfn)
{
	return v->shows[page] == as_shown(gfn, false) && !frame_is_traced(&s->frames[gfn]);
}

/* A frame in a large slot lost its trace: make it writable again, with neighbours that did so too. */
static bool heal_large(struct shadow *s, struct view *v, uint32_t page, gfn_t gfn)
{
	uint32_t first = page & ~(BATCH_PAGES - 1), from = page, to = page + 1;
	gfn_t base = gfn - page;
	window_note_churn(v, page);
	while (from > first && can_heal(s, v, from - 1, base + from - 1)) from--;
	while (to < first + BATCH_PAGES && can_heal(s, v, to, base + to)) to++;
	return window_protect(s, v, from, to - from, true);
}

/* May the neighbour `page` go into the same call as the page that w is the walk of? Nobody asked for it: it must have
 * been used before. */
static bool joins_run(const struct shadow *s, const struct view *v, uint32_t page, const struct walk *w, gfn_t gfn, bool writable)
{
	const void *table = (const void *)((uintptr_t)w->leaf_at & ~(uintptr_t)PAGE_MASK);
	uint64_t leaf = entry_read(s, table, table_index(s, page));
	if (((leaf ^ w->leaf) & (PTE_P | PTE_US | PTE_RW | PTE_A)) || (leaf & s->mode.leaf_reserved)) return false;
	if (entry_frame(leaf) != gfn || !frame_is_ram(s, gfn)) return false;
	if (v->shows[page] && (!writable || (v->shows[page] & SHOWN_WRITABLE))) return false;
	return writable == (w->writable && (leaf & PTE_D) && !frame_is_traced(&s->frames[gfn]));
}

static bool show_small(struct shadow *s, struct view *v, uint32_t page, const struct walk *w)
{
	bool writable = walk_may_write(s, w);
	uint32_t first = page & ~(BATCH_PAGES - 1), from = page, to = page + 1;
	gfn_t base = w->gfn - page;
	if (page < first_page(v)) return false;
	while (w->leaf_at && from > first && joins_run(s, v, from - 1, w, base + from - 1, writable)) from--;
	while (w->leaf_at && to < first + BATCH_PAGES && joins_run(s, v, to, w, base + to, writable)) to++;
	if (!window_make_room(s, v, 2)) return false;
	if (v->shows[page]) window_note_churn(v, page);
	return window_map(s, v, from, base + from, to - from, writable, to - from > 1);
}

bool direct_replace_page(struct shadow *s, struct view *v, uint32_t page, const struct walk *w)
{
	return !w->large && show_small(s, v, page, w);
}

/* A page that the kernel maps and unmaps all the time (a fixmap slot), or a frame that is a page table every now and
 * then (that of a temporary address space): each mapping costs a fault and two host calls, so refuse; the few
 * instructions that go there turn soft. Not for ever, as frames change hands. */
static bool refuse_churn(struct view *v, uint32_t page)
{
	if (!v->churn || v->churn[page] < CHURN_PATIENCE) return false;
	if (++v->churn[page] >= 2 * CHURN_PATIENCE) v->churn[page] = 0;
	return true;
}

/* May the slot be shown as one run? The lists of windows that show a chunk of RAM so have a limit as well: a trace in it goes through them. */
static bool may_show_large(struct shadow *s, struct view *v, uint32_t slot, gfn_t gfn)
{
	bool listed = v->flags[slot] & SLOT_LARGE;
	if (slot_page(s, slot) < first_page(v)) return false;
	if (!listed && links_full(&s->pool, s->large[gfn >> s->mode.index_shift])) return false;
	return window_make_room(s, v, count_large_maps(s, gfn & ~(table_entries(s) - 1)));
}

bool direct_show_page(struct shadow *s, struct view *v, uint32_t page, const struct walk *w)
{
	uint32_t slot = page_slot(s, page);
	bool writable = walk_may_write(s, w);
	if (v->shows[page] && (!writable || (v->shows[page] & SHOWN_WRITABLE))) return true;
	if (refuse_churn(v, page)) return false;
	if (!w->large) return show_small(s, v, page, w);
	if (v->shows[page] && (v->flags[slot] & SLOT_LARGE_WRITABLE)) return heal_large(s, v, page, w->gfn);
	if (may_show_large(s, v, slot, w->gfn)) return show_large(s, v, slot, w);
	return !(v->flags[slot] & SLOT_LARGE) && show_small(s, v, page, w);
}

/* The pages that the soft tables list from `page` on as one run of frames, with the same rights. */
static uint32_t end_of_filled(const struct shadow *s, const struct view *v, uint32_t page, uint32_t limit)
{
	gfn_t base = tables_frame(s, v, page) - page;
	uint32_t to = page + 1;
	while (to < limit && v->read[to] && tables_frame(s, v, to) == base + to && !v->write[to] == !v->write[page]) to++;
	return to;
}

static bool show_filled_slot(struct shadow *s, struct view *v, uint32_t slot)
{
	uint32_t limit = slot_page(s, slot + 1);
	for (uint32_t page = slot_page(s, slot), to; page < limit; page = to) {
		to = page + 1;
		if (page < first_page(v) || !(v->filled[page / 64] >> (page % 64) & 1) || !v->read[page]) continue;
		to = end_of_filled(s, v, page, limit);
		if (s->map_count + 2 > s->map_limit) return false;
		if (!window_map(s, v, page, tables_frame(s, v, page), to - page, v->write[page] != 0, to - page > 1)) return false;
	}
	return true;
}

/* At most max_windows user views have one: the one used longest ago gives way. */
static void drop_old_windows(struct shadow *s)
{
	while (s->config.max_windows && s->user_windows >= s->config.max_windows) {
		struct view *oldest = NULL;
		for (uint32_t i = 1; i < s->view_count; i++) {
			struct view *v = s->views[i];
			if (v->shows && v != s->user && (!oldest || v->last_used < oldest->last_used)) oldest = v;
		}
		if (!oldest) return;
		window_lose(s, oldest);
	}
}

static bool make_direct(struct shadow *s, struct view *v, bool low)
{
	if (v->shows) return true;
	if (v->pub.user) drop_old_windows(s);
	if (!window_make_room(s, v, 3) || !window_open(s, v, low)) return false;
	s->stats->views_direct++;
	for (uint32_t slot = 0; slot < count_slots(s); slot++) {
		bool shown = v->shown[slot / 64] >> (slot % 64) & 1;
		if (shown && !(v->flags[slot] & SLOT_VOLATILE) && !show_filled_slot(s, v, slot)) break;
	}
	return v->shows != NULL;
}

bool shadow_make_direct(struct shadow *s, struct shadow_view *view)
{
	return make_direct(s, (struct view *)view, false);
}

bool shadow_make_low(struct shadow *s, struct shadow_view *view)
{
	struct view *v = (struct view *)view;
	if (v->shows) return true;
	for (uint32_t i = 1; i < s->view_count; i++)
		if (s->views[i]->pub.direct && !s->views[i]->pub.window) window_close(s, s->views[i]);
	if (!make_direct(s, v, true)) return false;
	s->stats->views_low++;
	return true;
}
