/* Traces: which frames may not be written without a word to us, and what a write to a page table or directory changes. */
#include "shadow/internal.h"

#define BULK_BYTES 8u    /* no single page-table entry is longer: who stores more at once does not edit a page table */
#define QUIET_WRITES 32u /* so many without a use between: the table is being torn down, or is none any more */
#define QUIET_WRITES_RUNNING 192u /* ... of the address space that runs: it is more likely to go on */
#define ADOPT_WRITES 16u /* so many may fill pages that nobody has asked for */

static void page_protect(struct shadow *s, struct view *v, uint32_t page)
{
	tables_drop_write(s, v, page);
	if (window_writes_page(s, v, page)) window_protect(s, v, page, 1, false);
}

/* A window that shows the frame in the middle of a large run, writable. */
static bool find_large_writer(const struct shadow *s, gfn_t gfn, struct view **v, uint32_t *page)
{
	for (uint32_t i = s->large[gfn >> s->mode.index_shift]; i; i = s->pool.links[i].next) {
		uint32_t key = s->pool.links[i].key;
		*v = key_view(s, key);
		*page = slot_page(s, key_index(key)) | table_index(s, gfn);
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

void trace_limit_writers(struct shadow *s, gfn_t gfn)
{
	if (links_full(&s->pool, s->frames[gfn].writers)) frame_protect(s, gfn);
}

static void trace_begin(struct shadow *s, gfn_t gfn, bool was_table)
{
	if (was_table) return;
	s->stats->frames_traced++;
	if (!s->frames[gfn].code) frame_protect(s, gfn);
}

static bool is_table(const struct frame *f)
{
	return (f->users | f->directories) != 0;
}

static void trace_add(struct shadow *s, gfn_t gfn, uint32_t *list, uint32_t key)
{
	bool was_table = is_table(&s->frames[gfn]);
	links_add(&s->pool, list, key);
	trace_begin(s, gfn, was_table);
}

static void trace_remove(struct shadow *s, gfn_t gfn, uint32_t *list, uint32_t key)
{
	links_remove(&s->pool, list, key);
	if (!is_table(&s->frames[gfn])) s->stats->traces_dropped++;
}

static void drop_users(struct shadow *s, gfn_t gfn)
{
	while (s->frames[gfn].users) {
		uint32_t key = s->pool.links[s->frames[gfn].users].key;
		slot_drop(s, key_view(s, key), key_index(key));
	}
}

void trace_add_user(struct shadow *s, gfn_t gfn, const struct view *v, uint32_t slot)
{
	if (links_full(&s->pool, s->frames[gfn].users)) drop_users(s, gfn);
	trace_add(s, gfn, &s->frames[gfn].users, link_key(v, slot));
}

void trace_remove_user(struct shadow *s, gfn_t gfn, const struct view *v, uint32_t slot)
{
	trace_remove(s, gfn, &s->frames[gfn].users, link_key(v, slot));
}

/* Where a root names no memory, every walk faults. */
void trace_add_root(struct shadow *s, const struct view *v)
{
	for (uint32_t i = 0; i < DIRECTORIES; i++) {
		gfn_t gfn = v->root.directory[i];
		if (gfn < s->frames_end) trace_add(s, gfn, &s->frames[gfn].directories, link_key(v, i));
	}
}

void trace_remove_root(struct shadow *s, const struct view *v)
{
	for (uint32_t i = 0; i < DIRECTORIES; i++) {
		gfn_t gfn = v->root.directory[i];
		if (gfn < s->frames_end) trace_remove(s, gfn, &s->frames[gfn].directories, link_key(v, i));
	}
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

/* Does the entry let anybody through whom the view serves, as far as hardware would know it by now (A, D)? */
static bool leaf_serves(const struct shadow *s, const struct view *v, uint64_t top, uint64_t leaf)
{
	if (!(leaf & PTE_P) || !(leaf & PTE_A) || (leaf & s->mode.leaf_reserved)) return false;
	return !v->pub.user || (top & leaf & PTE_US);
}

/* Who writes an entry with A set means to use the page: it goes into the soft tables at once, and the first access need not ask for it. As every
 * access since may be one of those, writes that adopt count as quiet ones, and stop early enough not to look like a table's end. */
static void page_adopt(struct shadow *s, struct view *v, uint32_t page, const struct walk *w)
{
	bool useful = !v->read[page] || (!v->write[page] && walk_may_write(s, w));
	if (!useful || !view_is_current(s, v) || v->quiet_writes[page_slot(s, page)] > ADOPT_WRITES) return;
	if (tables_has_piece(v, page)) tables_fill(s, v, page, w, ACCESS_READ);
}

/* A page's entry was written: keep what still holds of what the view shows there. */
static void page_follow(struct shadow *s, struct view *v, uint32_t page, uint64_t leaf)
{
	uint64_t top = view_top(s, v, page_slot(s, page));
	gfn_t gfn = entry_frame(leaf);
	struct walk w = { 0 };
	walk_rights(s, v->pub.user, top, leaf, &w);
	bool readable = leaf_serves(s, v, top, leaf) && !w.guarded;
	w.dirty = leaf & PTE_D;
	w.gfn = gfn;
	bool writable = w.writable && w.dirty;
	if (w.unprotected) slot_unprotect(s, v, page_slot(s, page));
	if (v->filled[page / 64] >> (page % 64) & 1) {
		bool lost = !readable || tables_frame(s, v, page) != gfn || (v->exec[page] && !w.executable);
		if (lost && tables_drop_page(s, v, page)) view_lost_exec(s, v);
		if (!lost && !writable) tables_drop_write(s, v, page);
	}
	if (readable && frame_is_ram(s, gfn)) page_adopt(s, v, page, &w);
	if (!v->shows || !v->shows[page]) return;
	bool lost = !readable || shown_frame(v->shows[page]) != gfn;
	bool protect = !lost && !writable && (v->shows[page] & SHOWN_WRITABLE);
	if ((!lost && !protect) || settle_later(s, v, page)) return;
	if (lost)
		window_drop_page(s, v, page);
	else
		window_protect(s, v, page, 1, false);
}

static void table_written(struct shadow *s, gfn_t gfn, uint32_t first, uint32_t last)
{
	const void *table = table_at(s, gfn);
	for (uint32_t i = s->frames[gfn].users, next; i; i = next) {
		next = s->pool.links[i].next;
		struct view *v = key_view(s, s->pool.links[i].key);
		uint32_t slot = key_index(s->pool.links[i].key);
		if (++v->quiet_writes[slot] >= (v == s->user ? QUIET_WRITES_RUNNING : QUIET_WRITES)) {
			slot_drop(s, v, slot);
			continue;
		}
		for (uint32_t entry = first; entry <= last; entry++)
			page_follow(s, v, slot_page(s, slot) | entry, entry_read(s, table, entry));
	}
}

/* Entries [first, last] of the directory that holds the slots from `base` on. */
static void view_follow_directory(struct shadow *s, struct view *v, uint32_t base, const void *directory, uint32_t first, uint32_t last)
{
	for (uint32_t i = first; i <= last; i++) {
		uint64_t top = view_top(s, v, base + i), now = entry_read(s, directory, i);
		if (top && !walk_top_covers(s, top, now)) slot_drop(s, v, base + i);
	}
}

/* A view of an address space that is away, and whose directory is being torn down, or is none any more. */
static struct view *find_torn(const struct shadow *s, gfn_t gfn, bool bulk)
{
	for (uint32_t i = s->frames[gfn].directories; i; i = s->pool.links[i].next) {
		struct view *v = key_view(s, s->pool.links[i].key);
		if (v != s->user && (bulk || v->directory_writes >= QUIET_WRITES)) return v;
	}
	return NULL;
}

static void directory_written(struct shadow *s, gfn_t gfn, uint32_t first, uint32_t last, bool bulk)
{
	const void *directory = table_at(s, gfn);
	struct view *torn;
	for (uint32_t i = s->frames[gfn].directories; i; i = s->pool.links[i].next) {
		struct view *v = key_view(s, s->pool.links[i].key);
		if (v != s->user) v->directory_writes++;
	}
	while ((torn = find_torn(s, gfn, bulk))) view_release(s, torn);
	for (uint32_t i = s->frames[gfn].directories; i; i = s->pool.links[i].next) {
		struct view *v = key_view(s, s->pool.links[i].key);
		uint32_t base = key_index(s->pool.links[i].key) << s->mode.index_shift;
		view_follow_directory(s, v, base, directory, first, last);
		if (v == s->user) view_follow_directory(s, s->supervisor, base, directory, first, last);
	}
}

void shadow_frame_written(struct shadow *s, gpa_t gpa, uint32_t length)
{
	gfn_t gfn = (gfn_t)(gpa >> PAGE_SHIFT);
	if (gfn >= s->frames_end || !length) return;
	uint32_t first = (uint32_t)(gpa & PAGE_MASK) >> s->mode.entry_shift;
	uint32_t last = ((uint32_t)(gpa & PAGE_MASK) + length - 1) >> s->mode.entry_shift;
	if (last >= table_entries(s)) last = table_entries(s) - 1;
	bool bulk = length > BULK_BYTES;
	s->stats->trace_writes++;
	if (bulk)
		drop_users(s, gfn);
	else
		table_written(s, gfn, first, last);
	if (s->frames[gfn].directories) directory_written(s, gfn, first, last, bulk);
}
