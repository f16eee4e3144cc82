/* Every invariant of the shadow, compared with a fresh walk. Each check answers NULL or a sentence. */
#include "shadow/internal.h"

static const char *check_soft_page(const struct shadow *s, const struct view *v, uint32_t page, const struct walk *w)
{
	if (!v->read[page] != w->guarded) return w->guarded ? "a user page is shown under SMAP" : "a page is marked filled but has no read entry";
	if (tables_frame(s, v, page) != w->gfn) return "a read entry leads to another frame than the walk";
	if (v->exec[page] && v->exec[page] != w->gfn + 1) return "an exec entry names another frame than the walk";
	if (v->exec[page] && !w->executable) return "an exec entry for a page that may not be executed";
	if (!v->write[page]) return NULL;
	if (v->write[page] != v->read[page]) return "write and read entries differ";
	if (!walk_may_write(s, w)) return "a write entry for a page that is read-only, clean or traced";
	return NULL;
}

static const char *check_window_page(const struct shadow *s, const struct view *v, uint32_t page, const struct walk *w)
{
	if (shown_frame(v->shows[page]) != w->gfn) return "a window shows another frame than the walk";
	if (!(v->shows[page] & SHOWN)) return "a window's record is malformed";
	if (w->guarded) return "a window shows a user page under SMAP";
	if (!(v->shows[page] & SHOWN_WRITABLE)) return NULL;
	if (!walk_may_write(s, w)) return "a window shows a page writable that is read-only, clean or traced";
	return NULL;
}

static const char *check_page(const struct shadow *s, const struct view *v, uint32_t page, uint32_t *links)
{
	bool filled = v->filled[page / 64] >> (page % 64) & 1;
	bool mapped = v->shows && v->shows[page];
	if (!filled && (v->read[page] || v->write[page] || v->exec[page])) return "a table entry outside the fill map";
	if (!filled && !mapped) return NULL;
	struct walk w;
	const char *wrong = NULL;
	unsigned access = v->pub.user ? ACCESS_USER : ACCESS_READ | ACCESS_AC;
	if (!s->mode.walk(s, view_root(s, v), page << PAGE_SHIFT, access, &w)) return "an entry for a page whose walk faults";
	if (!frame_is_ram(s, w.gfn)) return "an entry for a page that is no RAM";
	if (w.leaf_at && !(w.leaf & PTE_A)) return "an entry for a page whose A bit is clear";
	if (filled) wrong = check_soft_page(s, v, page, &w);
	if (!wrong && mapped) wrong = check_window_page(s, v, page, &w);
	if (wrong || (!v->write[page] && !window_writes_page(s, v, page))) return wrong;
	++*links;
	bool known = links_contain(&s->pool, s->frames[w.gfn].writers, link_key(v, page));
	return known ? NULL : "a writer is missing from the reverse map";
}

static const char *check_large(const struct shadow *s, const struct view *v, uint32_t slot, uint32_t *links)
{
	if (!(v->flags[slot] & SLOT_LARGE)) return NULL;
	++*links;
	if (!v->mapped[slot]) return "a large run that shows nothing";
	bool known = links_contain(&s->pool, s->large[walk_large_frame(s, view_top(s, v, slot)) >> s->mode.index_shift], link_key(v, slot));
	return known ? NULL : "a large run is missing from its chunk's list";
}

static const char *check_top(const struct shadow *s, const struct view *v, uint32_t slot, uint32_t *links)
{
	if (is_unpaged(s)) return NULL;
	const void *directory = table_at(s, view_root(s, v)->directory[slot >> s->mode.index_shift]);
	uint64_t top = view_top(s, v, slot);
	if (!directory || !walk_top_covers(s, top, entry_read(s, directory, table_index(s, slot)))) return "a slot is shown through an entry that is no more";
	if (walk_is_large(s, top)) return NULL;
	++*links;
	bool known = links_contain(&s->pool, s->frames[entry_frame(top)].users, link_key(v, slot));
	return known ? NULL : "a page table does not know a slot shown through it";
}

static const char *check_unshown(const struct shadow *s, const struct view *v, uint32_t slot)
{
	if (view_top(s, v, slot) || v->mapped[slot] || (v->flags[slot] & SLOT_LARGE)) return "traces of a slot that is not shown";
	for (uint32_t word = slot_page(s, slot) / 64; word < slot_page(s, slot + 1) / 64; word++)
		if (v->filled[word]) return "a filled page in a slot that is not shown";
	return NULL;
}

static const char *check_slot(const struct shadow *s, const struct view *v, uint32_t slot, uint32_t *links)
{
	if (!(v->shown[slot / 64] >> (slot % 64) & 1)) return check_unshown(s, v, slot);
	const char *wrong = check_top(s, v, slot, links);
	if (!wrong) wrong = check_large(s, v, slot, links);
	uint32_t mapped = 0;
	for (uint32_t page = slot_page(s, slot); !wrong && page < slot_page(s, slot + 1); page++) {
		mapped += v->shows && v->shows[page];
		wrong = check_page(s, v, page, links);
	}
	if (!wrong && mapped != v->mapped[slot]) wrong = "a slot's count of mapped pages is wrong";
	return wrong;
}

/* Host mappings of a window, counted afresh where it shows anything. */
static uint32_t count_maps(const struct shadow *s, const struct view *v)
{
	if (!v->shows) return 0;
	uint32_t maps = 1;
	for (uint32_t slot = 0; slot < count_slots(s); slot++) {
		if (!v->mapped[slot]) continue;
		bool next_counts = slot + 1 < count_slots(s) && v->mapped[slot + 1];
		maps += window_count_edges(v, slot_page(s, slot), table_entries(s) - next_counts);
	}
	return maps;
}

static const char *check_root(const struct shadow *s, const struct view *v, uint32_t *links)
{
	for (uint32_t i = 0; i < DIRECTORIES && v->pub.user && v->in_use; i++) {
		gfn_t gfn = v->root.directory[i];
		if (gfn >= s->frames_end) continue;
		++*links;
		if (!links_contain(&s->pool, s->frames[gfn].directories, link_key(v, i))) return "a page directory does not know its view";
	}
	return NULL;
}

static const char *check_view(const struct shadow *s, const struct view *v, uint32_t *links, uint32_t *maps)
{
	const char *wrong = check_root(s, v, links);
	if (!wrong && (v->shows != NULL) != v->pub.direct) wrong = "a window without a record";
	for (uint32_t slot = 0; !wrong && slot < count_slots(s); slot++) wrong = check_slot(s, v, slot, links);
	if (!wrong && v->maps != count_maps(s, v)) wrong = "a window's count of mappings is wrong";
	*maps += v->maps;
	return wrong;
}

const char *shadow_check(struct shadow *s)
{
	uint32_t links = 0, maps = 0;
	const char *wrong = NULL;
	shadow_settle(s);
	for (uint32_t i = 0; !wrong && i < s->view_count; i++) wrong = check_view(s, s->views[i], &links, &maps);
	if (wrong) return wrong;
	if (links != s->pool.used) return "the reverse map has entries that nothing stands for";
	if (maps != s->map_count) return "the count of host mappings is wrong";
	if (maps > s->config.map_budget) return "more host mappings than the budget";
	return root_is(&s->user->root, &s->root) ? NULL : "the current user view is of another root";
}
