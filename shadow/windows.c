/* What windows show, recorded page by page, and the number of host mappings that this takes, counted exactly. The host's
 * limit on mappings makes every later protect fail, and so a trace: what is shown more stays below map_limit, and an
 * operation that only splits may go up to the budget. */
#include <stdlib.h>

#include "shadow/internal.h"

#define RECORD_SIZE (PAGES * (sizeof(uint32_t) + sizeof(uint8_t))) /* view.shows, then view.churn */
#define SPLIT_MAPS 2u /* one operation adds at most so many mappings */

static uint8_t *page_at(const struct view *v, uint32_t page)
{
	return v->pub.window + ((uint64_t)page << PAGE_SHIFT);
}

/* Is there a boundary between two host mappings before this page? The guards around a window are as empty as what it
 * does not show. */
static bool is_edge(const struct view *v, uint32_t page)
{
	uint32_t before = page ? v->shows[page - 1] : 0;
	uint32_t here = page < PAGES ? v->shows[page] : 0;
	if (!before || !here) return before != here;
	return here - before != 1u << SHOWN_FRAME_SHIFT;
}

uint32_t window_count_edges(const struct view *v, uint32_t page, uint32_t count)
{
	uint32_t edges = 0;
	for (uint32_t i = 0; i <= count; i++) edges += is_edge(v, page + i);
	return edges;
}

static void count_maps(struct shadow *s, struct view *v, uint32_t before, uint32_t after)
{
	v->maps += after - before;
	s->map_count += after - before;
}

static void record_page(struct shadow *s, struct view *v, uint32_t page, uint32_t shows)
{
	uint32_t slot = page_slot(s, page), old = v->shows[page];
	v->mapped[slot] = (uint16_t)(v->mapped[slot] + (shows != 0) - (old != 0));
	gfn_t before = window_writes_page(s, v, page) ? shown_frame(old) : GFN_NONE;
	v->shows[page] = shows;
	gfn_t after = window_writes_page(s, v, page) ? shown_frame(shows) : GFN_NONE;
	gfn_t table = v->write[page] ? tables_frame(s, v, page) : GFN_NONE;
	if (before == after) return;
	if (after != GFN_NONE && after != table) links_add(&s->pool, &s->frames[after].writers, link_key(v, page));
	if (before != GFN_NONE && before != table) links_remove(&s->pool, &s->frames[before].writers, link_key(v, page));
}

/* Record a run of frames from `shows` on, or nothing if that is 0. */
static void record_run(struct shadow *s, struct view *v, uint32_t page, uint32_t count, uint32_t shows)
{
	uint32_t before = window_count_edges(v, page, count);
	for (uint32_t i = 0; i < count; i++) record_page(s, v, page + i, shows ? shows + (i << SHOWN_FRAME_SHIFT) : 0);
	count_maps(s, v, before, window_count_edges(v, page, count));
}

/* Forget a slot, without a word to the host. Edges are the caller's. */
static void forget_slot(struct shadow *s, struct view *v, uint32_t slot)
{
	for (uint32_t page = slot_page(s, slot); v->mapped[slot]; page++) record_page(s, v, page, 0);
	window_set_large(s, v, slot, 0);
}

static void forget_all(struct shadow *s, struct view *v)
{
	for (uint32_t slot = 0; slot < count_slots(s); slot++)
		if (v->mapped[slot] || (v->flags[slot] & SLOT_LARGE)) forget_slot(s, v, slot);
	v->put_off_count = 0;
	v->pub.behind = false;
}

static void reset(struct shadow *s, struct view *v, uint32_t page, uint64_t count)
{
	int error = s->config.ops.reset(s->config.ops.ctx, page_at(v, page), count);
	if (!error) return;
	/* The guest would keep access to frames that are not its own any more. */
	log_write(LOG_SHADOW, LOG_ERROR, "cannot reset a window (error %d)", -error);
	abort();
}

void window_set_large(struct shadow *s, struct view *v, uint32_t slot, unsigned flags)
{
	const unsigned mask = SLOT_LARGE | SLOT_LARGE_WRITABLE;
	unsigned old = v->flags[slot] & mask;
	if (old == flags) return;
	uint32_t chunk = walk_large_frame(s, view_top(s, v, slot)) >> s->mode.index_shift;
	if (!old) links_add(&s->pool, &s->large[chunk], link_key(v, slot));
	if (!flags) links_remove(&s->pool, &s->large[chunk], link_key(v, slot));
	v->flags[slot] = (uint8_t)((v->flags[slot] & ~mask) | flags);
}

bool window_open(struct shadow *s, struct view *v, bool low)
{
	const struct shadow_ops *ops = &s->config.ops;
	uint32_t *shows = ops->tables_alloc(ops->ctx, RECORD_SIZE);
	if (!shows) return false;
	uint8_t *window = low ? NULL : ops->window_alloc(ops->ctx);
	if (!window && !low) {
		ops->tables_free(ops->ctx, shows, RECORD_SIZE);
		return false;
	}
	v->shows = shows;
	v->churn = v->pub.user ? NULL : (uint8_t *)(shows + PAGES);
	v->pub.window = window;
	v->pub.direct = true;
	count_maps(s, v, 0, 1);
	if (v->pub.user) s->user_windows++;
	return true;
}

void window_close(struct shadow *s, struct view *v)
{
	if (!v->shows) return;
	const struct shadow_ops *ops = &s->config.ops;
	forget_all(s, v);
	count_maps(s, v, v->maps, 0);
	if (!v->pub.window) reset(s, v, 0, PAGES);
	ops->window_free(ops->ctx, v->pub.window);
	ops->tables_free(ops->ctx, v->shows, RECORD_SIZE);
	v->shows = NULL;
	v->churn = NULL;
	v->pub.window = NULL;
	v->pub.direct = false;
	v->pub.used_ns = 0;
	if (v->pub.user) s->user_windows--;
}

void window_clear(struct shadow *s, struct view *v)
{
	forget_all(s, v);
	reset(s, v, 0, PAGES);
	count_maps(s, v, v->maps, 1);
}

void window_lose(struct shadow *s, struct view *v)
{
	s->stats->windows_dropped++;
	LOG(LOG_SHADOW, LOG_INFO, "view %u loses its window's %u mappings", v->id, v->maps);
	if (view_is_current(s, v))
		window_clear(s, v);
	else
		window_close(s, v);
}

/* The least valuable window other than v's: of a user view that is not current, used longest ago. */
static struct view *find_victim(const struct shadow *s, const struct view *v)
{
	struct view *victim = NULL;
	for (uint32_t i = 1; i < s->view_count; i++) {
		struct view *candidate = s->views[i];
		if (candidate == v || candidate == s->user || !candidate->shows) continue;
		if (!victim || candidate->last_used < victim->last_used) victim = candidate;
	}
	return victim;
}

bool window_make_room(struct shadow *s, struct view *v, uint32_t maps)
{
	struct view *other = v == s->supervisor ? s->user : s->supervisor;
	struct view *victim;
	while (s->map_count + maps > s->map_limit && (victim = find_victim(s, v))) window_lose(s, victim);
	if (s->map_count + maps > s->map_limit && v->maps > 1 && v->own_losses < OWN_LOSSES) {
		v->own_losses++;
		window_lose(s, v);
	}
	if (s->map_count + maps > s->map_limit && other->maps > 1) window_lose(s, other);
	return s->map_count + maps <= s->map_limit;
}

static bool may_split(const struct shadow *s)
{
	return s->map_count + SPLIT_MAPS <= s->config.map_budget;
}

bool window_map(struct shadow *s, struct view *v, uint32_t page, gfn_t gfn, uint32_t count, bool writable, bool at_once)
{
	const struct shadow_ops *ops = &s->config.ops;
	for (uint32_t i = 0; writable && i < count; i++) trace_limit_writers(s, gfn + i);
	if (ops->map(ops->ctx, page_at(v, page), gfn, count, writable, at_once)) {
		window_lose(s, v); /* the host may have torn a hole before it refused */
		return false;
	}
	record_run(s, v, page, count, gfn << SHOWN_FRAME_SHIFT | SHOWN | (writable ? SHOWN_WRITABLE : 0));
	s->stats->window_maps++;
	s->stats->window_pages += count;
	return true;
}

bool window_protect(struct shadow *s, struct view *v, uint32_t page, uint32_t count, bool writable)
{
	const struct shadow_ops *ops = &s->config.ops;
	if (!may_split(s) || ops->protect(ops->ctx, page_at(v, page), count, writable)) {
		window_lose(s, v);
		return false;
	}
	record_run(s, v, page, count, (v->shows[page] & ~SHOWN_WRITABLE) | (writable ? SHOWN_WRITABLE : 0));
	return true;
}

void window_note_churn(struct view *v, uint32_t page)
{
	if (v->churn && v->churn[page] < UINT8_MAX) v->churn[page]++;
}

void window_drop_run(struct shadow *s, struct view *v, uint32_t page, uint32_t count)
{
	if (!may_split(s)) {
		window_lose(s, v);
		return;
	}
	reset(s, v, page, count);
	record_run(s, v, page, count, 0);
}

void window_drop_page(struct shadow *s, struct view *v, uint32_t page)
{
	if (!v->shows || !v->shows[page]) return;
	window_note_churn(v, page);
	window_drop_run(s, v, page, 1);
}

void window_drop_slot(struct shadow *s, struct view *v, uint32_t slot)
{
	if (!v->mapped[slot]) return;
	if (!may_split(s)) {
		window_lose(s, v);
		return;
	}
	uint32_t first = slot_page(s, slot), pages = table_entries(s);
	uint32_t before = window_count_edges(v, first, pages);
	forget_slot(s, v, slot);
	reset(s, v, first, pages);
	count_maps(s, v, before, window_count_edges(v, first, pages));
}
