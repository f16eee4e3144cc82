/* The window of the user view while the guest's kernel runs: it need not follow each store to a page table. What it shows is brought in step, all
 * at once, before code of CPL 3 runs again; the soft tables, which C uses meanwhile, always are. */
#include "shadow/internal.h"

enum change { CHANGE_NONE, CHANGE_DROP, CHANGE_PROTECT, CHANGE_SHOW };

static bool put_off(struct view *v, uint32_t page)
{
	struct run *last = v->put_off_count ? &v->put_off[v->put_off_count - 1] : NULL;
	if (last && page - last->page < last->count + PUT_OFF_GAP) {
		if (page - last->page >= last->count) last->count = page - last->page + 1;
		return true;
	}
	if (v->put_off_count == PUT_OFF_MOST) return false;
	v->put_off[v->put_off_count++] = (struct run){ page, 1 };
	return true;
}

bool shadow_expect(struct shadow *s, gva_t gva)
{
	struct view *v = s->user;
	if (!v || !v->shows) return false;
	v->pub.behind |= put_off(v, gva >> PAGE_SHIFT);
	return true;
}

bool settle_later(struct shadow *s, struct view *v, uint32_t page)
{
	if (v != s->user || !s->config.ops.may_wait || !s->config.ops.may_wait(s->config.ops.ctx) || !put_off(v, page)) return false;
	v->pub.behind = true;
	return true;
}

/* What the guest's tables say of the page now, compared with what the window shows. Only what the soft tables have is worth being shown unasked. */
static enum change find_change(const struct shadow *s, const struct view *v, uint32_t page, struct walk *w)
{
	uint32_t shows = v->shows[page];
	bool serves = s->mode.walk(s, &v->root, page << PAGE_SHIFT, ACCESS_USER, w) && frame_is_ram(s, w->gfn) && (!w->leaf_at || (w->leaf & PTE_A));
	bool same = serves && shows && shown_frame(shows) == w->gfn;
	if (same) return (shows & SHOWN_WRITABLE) && !walk_may_write(s, w) ? CHANGE_PROTECT : CHANGE_NONE;
	if (serves && v->read[page]) return CHANGE_SHOW;
	return shows ? CHANGE_DROP : CHANGE_NONE;
}

/* How many pages from `page` on are to be dropped, or show nothing and shall not. */
static uint32_t count_dropped(const struct shadow *s, const struct view *v, uint32_t page, uint32_t end)
{
	uint32_t to = page + 1;
	struct walk w;
	while (to < end && (find_change(s, v, to, &w) == CHANGE_DROP)) to++;
	return to - page;
}

static void settle_run(struct shadow *s, struct view *v, uint32_t page, uint32_t end)
{
	while (page < end && v->shows) {
		uint32_t count = 1;
		struct walk w;
		switch (find_change(s, v, page, &w)) {
		case CHANGE_NONE:
			break;
		case CHANGE_PROTECT:
			window_protect(s, v, page, 1, false);
			break;
		case CHANGE_DROP:
			count = count_dropped(s, v, page, end);
			window_drop_run(s, v, page, count);
			break;
		case CHANGE_SHOW:
			/* What cannot be shown must not stay as it was. */
			if (!direct_replace_page(s, v, page, &w)) window_drop_page(s, v, page);
			break;
		}
		page += count;
	}
}

void shadow_settle(struct shadow *s)
{
	struct view *v = s->user;
	uint32_t count = v->put_off_count;
	struct run runs[PUT_OFF_MOST];
	if (!v->pub.behind) return;
	memcpy(runs, v->put_off, count * sizeof(runs[0]));
	v->put_off_count = 0;
	v->pub.behind = false;
	s->stats->settled++;
	for (uint32_t i = 0; i < count; i++) settle_run(s, v, runs[i].page, runs[i].page + runs[i].count);
}
