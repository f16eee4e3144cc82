/* What shadow/'s files share. Three layers: rmap.c and walk.c know no views; tables.c, windows.c and direct.c hold what
 * one view shows; views.c and traces.c keep that coherent with the guest's tables; access.c joins them for the callers.
 *
 * Words: a "slot" is what one page-directory entry covers (4 MiB, or 2 MiB with PAE), and that entry is the slot's "top". A
 * view "shows" a slot once something in it is in a table or in the window; from then on its copy of the directory holds the
 * entry it was shown through, and the page table that the entry names is traced. How the tables of a paging mode differ
 * is data: struct paging_mode. */
#ifndef SHADOW_INTERNAL_H
#define SHADOW_INTERNAL_H

#include <string.h>

#include "base/abi.h"
#include "base/log.h"
#include "base/x86.h"
#include "shadow/shadow.h"

#define MAX_SLOTS 2048u
#define DIRECTORIES 4u
#define PAGES (1u << 20)
#define FILL_MAP_SIZE (PAGES / 8)
#define MAX_VIEWS 4095u
#define SUPERVISOR_ID 0u

#define ROOT_UNPAGED (GFN_NONE - 1) /* the directory while paging is off; GFN_NONE is one that is not present */

/* Per guest frame. It is traced while any of users, directories, code is set. */
struct frame {
	uint32_t writers; /* links (view, page): in the view's write table, or writable through a 4 KiB entry of its window */
	uint32_t users;   /* links (view, slot): shown through this page table */
	uint32_t directories; /* links (user view, which): a page directory of this view */
	uint8_t code;     /* code was translated from it */
};

/* What makes an address space: its page directory, or with PAE the four that the PDPTEs name. */
struct root {
	gfn_t directory[DIRECTORIES];
};

/* Lists are kept as indices into one pool; 0 ends a list. The key is view id << 20 | page, slot or directory. */
struct link {
	uint32_t next;
	uint32_t key;
};

struct link_pool {
	struct link *links;
	uint32_t size;
	uint32_t free;
	uint32_t used;
};

/* What a window shows at a page: 0 for nothing, else gfn << 2 | SHOWN | SHOWN_WRITABLE. Two neighbours are one host
 * mapping if both are 0 or the second exceeds the first by one frame. */
#define SHOWN 1u
#define SHOWN_WRITABLE 2u
#define SHOWN_FRAME_SHIFT 2u

/* Soft tables take the host's memory in pieces of so many guest pages. */
#define PIECE_SHIFT 9u
#define PIECES (PAGES >> PIECE_SHIFT)

/* No list of the reverse map grows longer: removing from it costs its length, and a guest may map one frame a million times. */
#define LIST_MOST 256u
#define OWN_LOSSES 2u /* times that a window may fill the budget by itself; then its view turns soft where it does not show */

/* Pages whose change has been put off, as runs. */
#define PUT_OFF_MOST 32u
#define PUT_OFF_GAP 16u /* so many pages between that need not be looked at do not end a run */
struct run {
	uint32_t page, count;
};

#define SLOT_LARGE 1u          /* the window shows it as one run of frames, recorded in the list of its chunk of RAM */
#define SLOT_LARGE_WRITABLE 2u /* ... and a page in it is read-only only because it is or was traced */
#define SLOT_VOLATILE 4u       /* supervisor view: differs between address spaces, not worth a mapping */
#define SLOT_UNPROTECTED 8u    /* supervisor view: a page in it may be shown writable for no other reason than that CR0.WP is clear */

struct view {
	struct shadow_view pub;
	uint16_t id;
	bool in_use;
	struct root root;         /* user views; the supervisor view follows the current one */
	uint64_t last_used;
	uint32_t directory_writes; /* since it was current last */
	uint64_t *read, *write;   /* into pub.tables */
	uint32_t *exec;
	uint64_t *filled;         /* one bit a page with an entry in any table: makes dropping cost what was filled */
	uint32_t *shows;          /* one word a page of the window; NULL without one */
	uint8_t *churn;           /* supervisor view's window: a byte a page, how often what it shows was taken back */
	uint32_t maps;            /* host mappings that the window consists of; 0 without one */
	uint32_t own_losses;      /* of the window, to its own hunger */
	uint32_t piece_count;     /* of the tables: written to since they were trimmed */
	struct run put_off[PUT_OFF_MOST]; /* user views' window: what shadow_settle looks at */
	uint32_t put_off_count;
	uint64_t pieces[PIECES / 64];
	uint64_t shown[MAX_SLOTS / 64];
	_Alignas(64) uint64_t top[MAX_SLOTS]; /* in the guest's format, see view_top; 0 in slots not shown */
	uint16_t mapped[MAX_SLOTS];   /* pages of the slot in the window */
	uint8_t quiet_writes[MAX_SLOTS]; /* writes to the slot's page table since an access asked for something through it */
	uint8_t differed[MAX_SLOTS];
	uint8_t flags[MAX_SLOTS];
};

/* The outcome of a walk. */
struct walk {
	uint32_t *top_at, *leaf_at; /* the guest's entries (their low halves); leaf_at is NULL in a large page, both without paging */
	uint64_t top, leaf;
	gfn_t gfn;
	bool large;    /* the whole slot is one run of frames */
	bool writable, executable; /* by rights */
	bool unprotected; /* writable because CR0.WP is clear */
	bool guarded;  /* a user page under SMAP, seen by the supervisor: never shown as data */
	bool dirty;
	uint32_t error;
};

/* Returns false with w->error set on a true fault. No side effects. */
typedef bool walk_fn(const struct shadow *s, const struct root *root, gva_t gva, unsigned access, struct walk *w);

/* What differs between paging modes. */
struct paging_mode {
	walk_fn *walk;
	uint8_t entry_shift;     /* log2 of the bytes of a table entry */
	uint8_t index_shift;     /* log2 of the entries of a table: of the pages of a slot, and of the slots of a directory */
	uint8_t large_bit;       /* in a top: the slot is one large page */
	uint8_t fetch_bit;       /* ACCESS_FETCH where error codes say that it was one */
	bool large_high;         /* PSE-36: bits 13-16 of a large page's entry are bits 32-35 of the address */
	uint64_t table_reserved, large_reserved, leaf_reserved; /* bits of a present entry that must be clear */
	uint64_t no_execute;     /* the XD bit where it works */
};

struct shadow {
	struct shadow_config config;
	struct stats *stats;
	uint8_t *ram;
	gfn_t frames_end;
	gfn_t hole_start, hole_end;
	struct frame *frames;
	bool unprotected;         /* a slot is SLOT_UNPROTECTED */
	uint32_t *large;          /* per chunk of RAM, as large as a slot: links (view, slot) of windows that show it as SLOT_LARGE */
	struct link_pool pool;

	struct shadow_paging paging;
	struct paging_mode mode;
	struct root root;

	struct view *supervisor, *user; /* current */
	struct view **views;      /* by id */
	uint32_t view_count;
	uint64_t clock;
	uint32_t user_windows;
	uint32_t map_count;       /* host mappings of all windows */
	uint32_t piece_count;     /* of all views */
	uint32_t map_limit;       /* what showing more may use; the rest of the budget is for splits by traces and drops */
};

static inline bool frame_is_ram(const struct shadow *s, gfn_t gfn)
{
	return gfn < s->frames_end && (gfn < s->hole_start || gfn >= s->hole_end);
}

static inline bool frame_is_traced(const struct frame *f)
{
	return (f->users | f->directories | f->code) != 0;
}

static inline uint32_t table_entries(const struct shadow *s)
{
	return 1u << s->mode.index_shift;
}

static inline uint32_t count_slots(const struct shadow *s)
{
	return PAGES >> s->mode.index_shift;
}

static inline uint32_t page_slot(const struct shadow *s, uint32_t page)
{
	return page >> s->mode.index_shift;
}

static inline uint32_t slot_page(const struct shadow *s, uint32_t slot)
{
	return slot << s->mode.index_shift;
}

/* The index of a page in its page table, or of a slot in its directory. */
static inline uint32_t table_index(const struct shadow *s, uint32_t n)
{
	return n & (table_entries(s) - 1);
}

static inline void *entry_at(const struct shadow *s, void *table, uint32_t index)
{
	return (uint8_t *)table + ((size_t)index << s->mode.entry_shift);
}

static inline uint64_t entry_read(const struct shadow *s, const void *table, uint32_t index)
{
	return s->mode.entry_shift == 2 ? ((const uint32_t *)table)[index] : ((const uint64_t *)table)[index];
}

static inline uint64_t view_top(const struct shadow *s, const struct view *v, uint32_t slot)
{
	return entry_read(s, v->top, slot);
}

static inline void view_set_top(const struct shadow *s, struct view *v, uint32_t slot, uint64_t top)
{
	if (s->mode.entry_shift == 2)
		((uint32_t *)(void *)v->top)[slot] = (uint32_t)top;
	else
		v->top[slot] = top;
}

static inline gfn_t entry_frame(uint64_t entry)
{
	return (gfn_t)((entry & PTE_FRAME) >> PAGE_SHIFT);
}

/* A guest page table as C sees it, or NULL where there is no RAM (such a table reads as not present). */
static inline void *table_at(const struct shadow *s, gfn_t gfn)
{
	return frame_is_ram(s, gfn) ? s->ram + ((uint64_t)gfn << PAGE_SHIFT) : NULL;
}

static inline uint32_t link_key(const struct view *v, uint32_t index)
{
	return (uint32_t)v->id << 20 | index;
}

static inline struct view *key_view(const struct shadow *s, uint32_t key)
{
	return s->views[key >> 20];
}

static inline uint32_t key_index(uint32_t key)
{
	return key & (PAGES - 1);
}

static inline bool view_is_current(const struct shadow *s, const struct view *v)
{
	return v == s->user || v == s->supervisor;
}

static inline const struct root *view_root(const struct shadow *s, const struct view *v)
{
	return v->pub.user ? &v->root : &s->root;
}

static inline bool root_is(const struct root *a, const struct root *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static inline bool is_unpaged(const struct shadow *s)
{
	return s->root.directory[0] == ROOT_UNPAGED;
}

static inline gfn_t shown_frame(uint32_t shows)
{
	return shows >> SHOWN_FRAME_SHIFT;
}

/* Is the page writable through an entry of the window that the frame's writers list has to know? */
static inline bool window_writes_page(const struct shadow *s, const struct view *v, uint32_t page)
{
	return v->shows && (v->shows[page] & SHOWN_WRITABLE) && !(v->flags[page_slot(s, page)] & SLOT_LARGE);
}

/* ... and is it this frame's? A window that has been left behind may show another one than the tables do. */
static inline bool window_writes_frame(const struct shadow *s, const struct view *v, uint32_t page, gfn_t gfn)
{
	return window_writes_page(s, v, page) && shown_frame(v->shows[page]) == gfn;
}

/* The supervisor view may show a page of this slot writable that is not so by R/W, until CR0.WP is set. */
static inline void slot_unprotect(struct shadow *s, struct view *v, uint32_t slot)
{
	v->flags[slot] |= SLOT_UNPROTECTED;
	s->unprotected = true;
}

static inline bool walk_may_write(const struct shadow *s, const struct walk *w)
{
	return w->writable && w->dirty && !frame_is_traced(&s->frames[w->gfn]);
}

/* rmap.c: the pool and its lists. Running out of memory aborts. */
void links_add(struct link_pool *p, uint32_t *head, uint32_t key);
bool links_remove(struct link_pool *p, uint32_t *head, uint32_t key);
/* Are there as many as LIST_MOST? */
bool links_full(const struct link_pool *p, uint32_t head);
bool links_contain(const struct link_pool *p, uint32_t head, uint32_t key);

/* walk.c */
struct paging_mode walk_mode(const struct shadow_paging *p);
struct root walk_root(const struct shadow_paging *p);
/* The rights that both levels grant, of the present entries `top` and (of a small page) `leaf`. */
void walk_rights(const struct shadow *s, bool user, uint64_t top, uint64_t leaf, struct walk *w);
/* Set A and D in the entries that the walk used. */
void walk_mark(struct shadow *s, struct walk *w, unsigned access);
bool walk_is_large(const struct shadow *s, uint64_t top);
/* The first frame of a large page. */
gfn_t walk_large_frame(const struct shadow *s, uint64_t top);
/* Does everything shown through `shown` also hold for `now`, with no A or D bit to be set? */
bool walk_top_covers(const struct shadow *s, uint64_t shown, uint64_t now);

/* tables.c: soft tables of one view. Dropping returns whether an exec entry was lost: the caller owes a view_reset then. */
bool tables_init(struct shadow *s, struct view *v);
/* Returns whether the page is in the write table now. */
bool tables_fill(struct shadow *s, struct view *v, uint32_t page, const struct walk *w, unsigned access);
gfn_t tables_frame(const struct shadow *s, const struct view *v, uint32_t page);
/* Has it memory for this page's entries already, so that filling them makes no room? */
bool tables_has_piece(const struct view *v, uint32_t page);
void tables_drop_write(struct shadow *s, struct view *v, uint32_t page);
bool tables_drop_page(struct shadow *s, struct view *v, uint32_t page);
bool tables_drop_slot(struct shadow *s, struct view *v, uint32_t slot);
/* Give back the memory of tables in which nothing is left. */
void tables_trim(struct shadow *s, struct view *v);

/* windows.c: what a window shows, kept within the budget. */
bool window_open(struct shadow *s, struct view *v, bool low);
void window_close(struct shadow *s, struct view *v);
/* Show nothing any more, but keep the window. */
void window_clear(struct shadow *s, struct view *v);
/* Give up what the window shows: it is closed, or cleared if the view is current. */
void window_lose(struct shadow *s, struct view *v);
/* Make room for `maps` more host mappings on behalf of v, at the expense of other windows, then of v's own. */
bool window_make_room(struct shadow *s, struct view *v, uint32_t maps);
/* Both return false when the host refused; the window is lost then. */
bool window_map(struct shadow *s, struct view *v, uint32_t page, gfn_t gfn, uint32_t count, bool writable, bool at_once);
bool window_protect(struct shadow *s, struct view *v, uint32_t page, uint32_t count, bool writable);
void window_drop_page(struct shadow *s, struct view *v, uint32_t page);
void window_drop_run(struct shadow *s, struct view *v, uint32_t page, uint32_t count);
void window_drop_slot(struct shadow *s, struct view *v, uint32_t slot);
/* Enter or leave the list of windows that show a chunk of RAM as one run. */
void window_set_large(struct shadow *s, struct view *v, uint32_t slot, unsigned flags);
/* Host mappings that begin at one of the pages [page, page + count]. */
uint32_t window_count_edges(const struct view *v, uint32_t page, uint32_t count);

/* The window's mapping of the page did not last: noted, so that direct.c can tell a page that is not worth one. */
void window_note_churn(struct view *v, uint32_t page);

/* direct.c: what to show around a page that a hidden fault asked for. */
bool direct_show_page(struct shadow *s, struct view *v, uint32_t page, const struct walk *w);

/* The page's window entry is to follow its tables by another frame: show that one. */
bool direct_replace_page(struct shadow *s, struct view *v, uint32_t page, const struct walk *w);

/* settle.c: the page's part of the window will be looked at before code of the view runs. False if it must follow at once. */
bool settle_later(struct shadow *s, struct view *v, uint32_t page);

/* views.c */
struct view *view_create(struct shadow *s, bool user);
void view_destroy(struct shadow *s, struct view *v);
/* Drop all that it shows; it stays what it is. */
void view_clear(struct shadow *s, struct view *v);
/* Drop all, and forget whose address space it was. */
void view_release(struct shadow *s, struct view *v);
/* Make room for another piece of tables, at the expense of views that are not current. */
void view_limit_pieces(struct shadow *s);
void view_lost_exec(struct shadow *s, struct view *v);
void slot_show(struct shadow *s, struct view *v, uint32_t slot, const struct walk *w);
void slot_drop(struct shadow *s, struct view *v, uint32_t slot);

/* traces.c */
void trace_add_user(struct shadow *s, gfn_t gfn, const struct view *v, uint32_t slot);
void trace_remove_user(struct shadow *s, gfn_t gfn, const struct view *v, uint32_t slot);
/* The directories of a user view, as its root names them. */
void trace_add_root(struct shadow *s, const struct view *v);
void trace_remove_root(struct shadow *s, const struct view *v);
/* Before another writer of the frame is listed. */
void trace_limit_writers(struct shadow *s, gfn_t gfn);

#endif
