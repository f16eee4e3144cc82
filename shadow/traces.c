/* Traces: which frames may not be written without a word to us, and what a write to a page table or directory changes. */
#include "shadow/internal.h"

#define BULK_BYTES 8u    /* no single page-table entry is longer: who stores more at once does not edit a page table */
#define QUIET_WRITES 32u /* so many without a use between: the table is being torn down, or is none any more */

static void page_protect(struct shadow *s, struct view *v, uint32_t page)
{
	tables_drop_write(s, v, page);
	if (window_writes_page(v, page)) window_protect(s, v, page, 1, false);
}

/* A window that shows the frame in the middle of a large run, writable. */
static bool find_large_writer(const struct shadow *s, gfn_t gfn, struct view **v, uint32_t *page)
{
	for (uint32_t i = s->large[gfn >> SLOT_SHIFT]; i; i = s->pool.links[i].next) {
		uint32_t key = s->pool.links[i].key;
		*v = key_view(s, key);
		*page = key_index(key) << SLOT_SHIFT | (gfn & (SLOT_PAGES - 1));
		if ((*v)->shows[*page] & SHOWN_WRITABLE) return true;
	}
	return false;
}

/* From now on nothing writes the frame unseen. Each step removes a writer, whether its mapping is protected or its whole
 * window lost. */
static void frame_protect(struct shadow *s, gfn_t gfn)
{
	struct frame *f = &s->frames[gfn];
	struct view *v;
	uint32_t page;
	while (f->writers) {
		uint32_t key = s->pool.links[f->writers].key;
		page_protect(s, key_view(s, key), key_index(key));
	}
	while (find_large_writer(s, gfn, &v, &page)) window_protect(s, v, page, 1, false);
}

static void trace_begin(struct shadow *s, gfn_t gfn, bool was_table)
{
	if (was_table) return;
	s->stats->frames_traced++;
	if (!s->frames[gfn].code) frame_protect(s, gfn);
}

static void trace_end(struct shadow *s, gfn_t gfn)
{
	if (!(s->frames[gfn].users | s->frames[gfn].root)) s->stats->traces_dropped++;
}

void trace_add_user(struct shadow *s, gfn_t gfn, const struct view *v, uint32_t slot)
{
	struct frame *f = &s->frames[gfn];
	bool was_table = f->users | f->root;
	links_add(&s->pool, &f->users, link_key(v, slot));
	trace_begin(s, gfn, was_table);
}

void trace_remove_user(struct shadow *s, gfn_t gfn, const struct view *v, uint32_t slot)
{
	links_remove(&s->pool, &s->frames[gfn].users, link_key(v, slot));
	trace_end(s, gfn);
}

void trace_set_root(struct shadow *s, gfn_t gfn, const struct view *v)
{
	if (gfn >= s->frames_end) return; /* no memory there: every walk faults */
	bool was_table = s->frames[gfn].users | s->frames[gfn].root;
	s->frames[gfn].root = v->id;
	trace_begin(s, gfn, was_table);
}

void trace_clear_root(struct shadow *s, gfn_t gfn)
{
	if (gfn >= s->frames_end || !s->frames[gfn].root) return;
	s->frames[gfn].root = 0;
	trace_end(s, gfn);
}

void shadow_trace_code(struct shadow *s, gfn_t gfn)
{
	if (gfn >= s->frames_end || s->frames[gfn].code) return;
	bool was_traced = frame_is_traced(&s->frames[gfn]);
	s->frames[gfn].code = 1;
	s->stats->frames_traced_code++;
	if (!was_traced) frame_protect(s, gfn);
}

void shadow_untrace_code(struct shadow *s, gfn_t gfn)
{
	if (!shadow_is_code_traced(s, gfn)) return;
	s->frames[gfn].code = 0;
	s->stats->traces_dropped++;
}

bool shadow_is_code_traced(const struct shadow *s, gfn_t gfn)
{
	return gfn < s->frames_end && s->frames[gfn].code;
}

/* A page's entry was written: keep what still holds of what the view shows there. */
static void page_follow(struct shadow *s, struct view *v, uint32_t page, uint32_t leaf)
{
	uint32_t rights = v->top[page >> SLOT_SHIFT] & leaf;
	gfn_t gfn = leaf >> PAGE_SHIFT;
	bool readable = (leaf & PTE_P) && (leaf & PTE_A) && (!v->pub.user || (rights & PTE_US));
	bool writable = (leaf & PTE_D) && ((rights & PTE_RW) || (!v->pub.user && !(s->cr0 & CR0_WP)));
	if (v->filled[page / 64] >> (page % 64) & 1) {
		if (!readable || tables_frame(s, v, page) != gfn) {
			if (tables_drop_page(s, v, page)) view_lost_exec(s, v);
		} else if (!writable) {
			tables_drop_write(s, v, page);
		}
	}
	if (!v->shows || !v->shows[page]) return;
	if (!readable || shown_frame(v->shows[page]) != gfn)
		window_drop_page(s, v, page);
	else if (!writable && (v->shows[page] & SHOWN_WRITABLE))
		window_protect(s, v, page, 1, false);
}

static void table_written(struct shadow *s, gfn_t gfn, uint32_t first, uint32_t last)
{
	const uint32_t *table = table_at(s, gfn);
	for (uint32_t i = s->frames[gfn].users, next; i; i = next) {
		next = s->pool.links[i].next;
		struct view *v = key_view(s, s->pool.links[i].key);
		uint32_t slot = key_index(s->pool.links[i].key);
		if (++v->quiet_writes[slot] >= QUIET_WRITES) {
			slot_drop(s, v, slot);
			continue;
		}
		for (uint32_t entry = first; entry <= last; entry++) page_follow(s, v, slot << SLOT_SHIFT | entry, table[entry]);
	}
}

static void drop_users(struct shadow *s, gfn_t gfn)
{
	while (s->frames[gfn].users) {
		uint32_t key = s->pool.links[s->frames[gfn].users].key;
		slot_drop(s, key_view(s, key), key_index(key));
	}
}

static void view_follow_directory(struct shadow *s, struct view *v, const uint32_t *directory, uint32_t first, uint32_t last)
{
	for (uint32_t slot = first; slot <= last; slot++) {
		bool holds = (directory[slot] & PTE_A) && walk_top_covers(s, v->top[slot], directory[slot]);
		if (v->top[slot] && !holds) slot_drop(s, v, slot);
	}
}

static void directory_written(struct shadow *s, gfn_t gfn, uint32_t first, uint32_t last, bool bulk)
{
	struct view *v = s->views[s->frames[gfn].root];
	if (v != s->user && (bulk || ++v->directory_writes >= QUIET_WRITES)) {
		view_release(s, v);
		return;
	}
	const uint32_t *directory = table_at(s, gfn);
	view_follow_directory(s, v, directory, first, last);
	if (v == s->user) view_follow_directory(s, s->supervisor, directory, first, last);
}

void shadow_frame_written(struct shadow *s, gpa_t gpa, uint32_t length)
{
	gfn_t gfn = (gfn_t)(gpa >> PAGE_SHIFT);
	if (gfn >= s->frames_end || !length) return;
	uint32_t first = (uint32_t)(gpa & PAGE_MASK) / 4;
	uint32_t last = ((uint32_t)(gpa & PAGE_MASK) + length - 1) / 4;
	if (last >= SLOTS) last = SLOTS - 1;
	bool bulk = length > BULK_BYTES;
	s->stats->trace_writes++;
	if (bulk)
		drop_users(s, gfn);
	else
		table_written(s, gfn, first, last);
	if (s->frames[gfn].root) directory_written(s, gfn, first, last, bulk);
}
