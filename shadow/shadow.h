/* Shadow page tables: walks the guest's page tables and keeps, per guest address space, what emitted code may access:
 * flat soft tables, an exec table, and a window of host memory. Coherent with the guest's tables by traces: a frame that
 * a walk used as page table is write-protected everywhere, and its owner is told of every store. Used by the vCPU's
 * thread alone.
 *
 * Views: one supervisor view (CPL 0-2), kept across CR3 loads: on a load only top-level slots whose entry differs from
 * the one shown are dropped. One user view (CPL 3) per CR3 (PAE: per set of PDPTEs), kept while others run, recycled least
 * recently used first. Changing CR0.PG, EFER.NXE or CR4.PSE/PAE/SMEP/SMAP drops all; setting CR0.WP what the supervisor wrote to against R/W. With paging off, linear =
 * physical for both.
 *
 * A user view never shows a supervisor page; under SMAP, the supervisor view never a user page as data. A page is in the write table, or writable in a window, only if the walk
 * allows the write, its D bit is set and its frame is not traced. A walk sets A and D as hardware would. */
#ifndef SHADOW_SHADOW_H
#define SHADOW_SHADOW_H

#include "base/stats.h"
#include "base/types.h"

struct shadow;

struct jump_table;

/* What emitted code and the runtime need of a view. */
struct shadow_view {
	uint8_t *tables;     /* ABI_READ_TABLE, ABI_WRITE_TABLE, ABI_EXEC_TABLE at their offsets; ABI_TABLES_SIZE bytes */
	uint8_t *window;     /* WINDOW_SIZE bytes of host memory, at a multiple of that: at 0 for the low one. NULL while the view is soft */
	bool user;
	bool direct;         /* it has a window */
	bool behind;         /* its window is: shadow_settle before its code runs */
	uint64_t return_top, return_rsp; /* the runtime's: return-prediction stack; 0 until it makes one. Reset by it in view_reset */
	uint32_t return_context;     /* the runtime's: the context whose landing pads are on it */
	struct jump_table *jumps;    /* the runtime's: tables of the inline lookup, or NULL until it makes them */
	uint32_t jumps_last;         /* the runtime's: which one the vCPU used last */
	uint64_t jump_epoch;         /* the runtime's: part of what makes them valid */
	bool returns_vary;           /* the runtime's: its code's returns miss often, until the time below */
	uint64_t return_misses_until; /* the runtime's: nanoseconds: when the misses so far will be forgotten */
	uint64_t used_ns;    /* the runtime's: processor time sampled in this view; zeroed with the loss of its window or address space */
};

/* Host memory operations, so that the logic is tested without a process to map. All return 0 or a negative errno. */
struct shadow_ops {
	void *ctx;
	/* Reserve `size` bytes of zero-filled, lazily committed memory for tables / of PROT_NONE address space (with guard
	 * pages) for a window. NULL if none. */
	void *(*tables_alloc)(void *ctx, size_t size);
	void (*tables_free)(void *ctx, void *p, size_t size);
	/* All of it is zero: give its memory back to the host. */
	void (*tables_trim)(void *ctx, void *p, size_t size);
	void *(*window_alloc)(void *ctx);
	void (*window_free)(void *ctx, void *window);
	/* Map guest frames [gfn, gfn + count) at `at` (inside a window), readable, and writable if asked; over whatever is
	 * there. `at_once`: the host may find all of them now. */
	int (*map)(void *ctx, uint8_t *at, gfn_t gfn, uint32_t count, bool writable, bool at_once);
	/* Change protection of mapped pages. */
	int (*protect)(void *ctx, uint8_t *at, uint32_t count, bool writable);
	/* Back to PROT_NONE. Never unmaps. */
	int (*reset)(void *ctx, uint8_t *at, uint64_t count);
	/* The view lost exec-table entries or was recycled: its return predictions are void. */
	void (*view_reset)(void *ctx, struct shadow_view *view);
	/* A walk has set A or D in an entry at gpa, in a frame that code was made from. */
	void (*code_marked)(void *ctx, gpa_t gpa);
	/* May the window of the current user view stay as it is until shadow_settle? Only while code of CPL 3 does not run. NULL: never. */
	bool (*may_wait)(void *ctx);
};

struct shadow_config {
	uint8_t *ram;          /* guest RAM, linear, at hva ram + gpa */
	uint64_t ram_size;     /* bytes, multiple of PAGE_SIZE; frames from 0 on; everything above is MMIO or nothing */
	gpa_t hole_start, hole_end; /* a hole in RAM (0xA0000-0x100000 of a PC without ROM shadowing) treated as MMIO; equal = none */
	uint32_t max_views;    /* user views */
	uint32_t max_windows;  /* user views that may have a window at once, the oldest dropped; 0 = the budget alone decides */
	uint32_t map_budget;   /* host mappings that windows may use, all together */
	uint32_t table_budget; /* pieces of soft tables, of 2 MiB of guest addresses and about 10 KiB each, that views may have filled, all together */
	struct shadow_ops ops;
	struct stats *stats;
};

int shadow_create(struct shadow **out, const struct shadow_config *config);
void shadow_destroy(struct shadow *s);

struct shadow_paging {
	uint32_t cr0, cr3, cr4;
	bool nx;           /* EFER.NXE */
	bool pse36, pat;   /* does the processor have these? Otherwise their bits are reserved */
	uint64_t pdpte[4]; /* with PAE: as the processor holds them, their reserved bits checked */
};

/* The paging state changed (mov cr0/cr3/cr4, reset). Cheap for a CR3 load alone. */
void shadow_set_paging(struct shadow *s, const struct shadow_paging *paging);

/* The view for code at this privilege under the current paging state; pointers are stable until the view is recycled
 * (view_reset is called then), which happens only inside shadow_set_paging. */
struct shadow_view *shadow_view(struct shadow *s, bool user);

/* Call fn for every view that exists, the supervisor's first. */
void shadow_each_view(struct shadow *s, void (*fn)(void *ctx, struct shadow_view *view), void *ctx);

enum shadow_kind {
	SHADOW_RAM,     /* gpa is RAM and, for a write, not traced: hva = ram + gpa may be used */
	SHADOW_TRACED,  /* RAM that no table may offer for this: a write to a traced frame, or any access to a user page under SMAP.
	                 * Do it through ram + gpa; if it is a write, call shadow_frame_written and tell the cache */
	SHADOW_MMIO,    /* no RAM behind it */
	SHADOW_FAULT,   /* true fault: error holds the page-fault error code */
};

struct shadow_answer {
	enum shadow_kind kind;
	gpa_t gpa;
	uint32_t error;
	bool writable_too;  /* a read that also filled the write table */
};

/* Resolve one linear address for an access (enum access bits; ACCESS_USER selects the user view and its rights, without
 * it the supervisor view): walk, set A and D, and for SHADOW_RAM fill the soft table (read and, where D is set already
 * and nothing forbids it, write table too; exec table for fetches). */
struct shadow_answer shadow_resolve(struct shadow *s, gva_t gva, unsigned access);

/* Walk without side effects: no A or D bits, no filling. For debug dumps and lookahead. */
struct shadow_answer shadow_peek(struct shadow *s, gva_t gva, unsigned access);

/* The guest's entries that a walk for this access marks, from the directory down; the last one gets D for a write. Returns how
 * many there are: none if it faults or paging is off. No side effects. */
unsigned shadow_entries(struct shadow *s, gva_t gva, unsigned access, gpa_t at[2]);

/* The hidden-fault path of the direct form: resolve as above and, for SHADOW_RAM, map the page into the view's window,
 * batching what is cheap (the rest of a large page, neighbours whose gfn run is contiguous and which are already known).
 * *mapped = false with SHADOW_RAM in kind: the page may not be shown in this window, or is not worth it (no window, a
 * supervisor-view slot that has differed between address spaces, a page whose mappings do not last, the budget is
 * spent): the caller turns the instruction soft. */
struct shadow_answer shadow_map(struct shadow *s, gva_t gva, unsigned access, bool *mapped);

/* Give the current user view a window, mapping in batches what its soft tables list. Returns true if it now has one. */
bool shadow_make_direct(struct shadow *s, struct shadow_view *view);
/* The same for a user view, with the window at 0, where the host has nothing else, and which shows nothing below LOW_WINDOW_START. Who has it loses it. */
bool shadow_make_low(struct shadow *s, struct shadow_view *view);

/* A true fault's page is likely to be accessed directly next: shadow_settle maps it if the guest has by then. False if the current user view has no window.
 * shadow_map does that by itself. */
bool shadow_expect(struct shadow *s, gva_t gva);
/* Before code of CPL 3 runs: the window of the current user view follows what has changed since. A page that is unmapped and mapped anew, or many
 * of them one after the other, cost one call to the host then. */
void shadow_settle(struct shadow *s);

/* Write-protect a frame because code was translated from it; drop that again. Tracing removes it from every write table
 * and window before returning. */
void shadow_trace_code(struct shadow *s, gfn_t gfn);
void shadow_untrace_code(struct shadow *s, gfn_t gfn);
bool shadow_is_code_traced(const struct shadow *s, gfn_t gfn);

/* The linear address whose entry in this view's tables leads to this host address, if there is one. */
bool shadow_find_address(const struct shadow *s, const struct shadow_view *view, uint64_t hva, gva_t *gva);

/* A store to a traced frame was done: [gpa, gpa + length) within one frame. Brings views back in step. A bulk store
 * (length > 8) over a page table drops views and traces that depend on the frame. */
void shadow_frame_written(struct shadow *s, gpa_t gpa, uint32_t length);

/* Drop everything in every view (A20, reset, chaos). */
void shadow_flush(struct shadow *s);

/* Check every invariant against a fresh walk of the guest's tables (each table and window entry is backed by a valid
 * walk with the right rights; reverse map complete both ways; no traced frame writable anywhere; window map count
 * right). NULL or a sentence. */
const char *shadow_check(struct shadow *s);

#endif
