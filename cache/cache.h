/* The translation cache: code memory and the blocks in it. Knows no instruction's meaning. Used by the vCPU's thread alone.
 *
 * Code memory is mapped twice, writable and executable; regions of equal size are filled in order and, when all are full,
 * the oldest region is evicted with every block in it. Invalidated blocks are unlinked and unfindable at once, and the pad at their beginning leads away; the rest of their
 * code stays mapped and unchanged until its region is evicted, because a return pad or the interrupted code may still be in it.
 *
 * A region is filled from both ends: blocks, one behind the other, and from its end down the exit stubs of their link slots, which do not run
 * once these are linked: what runs lies dense. */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include "base/code_fix.h"
#include "base/side_table.h"
#include "base/stats.h"
#include "base/types.h"

struct cache;

struct block {
	/* Identity: these, the frame of `gpa`, `mode` and `way`. */
	gva_t gva;          /* linear address of the first instruction */
	uint32_t eip;       /* with gva this says what the base of CS was */
	uint32_t cs_end;    /* CS limit + 1, or 0: 4 GiB */
	gpa_t gpa;          /* physical address of the first byte */
	gfn_t gfn2;         /* frame of the second page, if the block straddles, else GFN_NONE */
	uint32_t guest_length;
	uint32_t mode;
	uint32_t instructions;
	host_pc_t host_pc;  /* where its code begins */
	/* Offsets in its code. The pad on which the inline lookup lands is before `checked`, of CACHE_BAR bytes at least if there is one; the check for links from
	 * other pages before `body`. */
	uint32_t checked, body;
	uint32_t host_length;
	uint32_t row_count;
	uint32_t slot_count;
	host_pc_t exit_pc;  /* behind the exit stub of the first slot; the others' follow downwards */
	bool way;           /* no instructions, but a way into another block of this place: part of the identity */
	bool aside;         /* begins where no branch led to: nobody ends before it, or goes to its middle */
	bool dead;          /* invalidated: must not be entered any more */
	bool movable;       /* may be copied for the same guest code at another linear address, by its fixes */
	uint16_t fix_count;
	uint16_t row_bytes;
	const uint8_t *rows; /* packed: cache_rows and cache_find_row read them */
	struct link_slot *slots;
	const struct code_fix *fixes;
	/* cache's own links follow in its private struct */
};

struct cache_callbacks {
	void *ctx;
	/* The last live block with bytes in this frame is gone: its trace may be dropped. */
	void (*frame_free)(void *ctx, gfn_t gfn);
	/* Code memory [from, to) is about to be reused: forget every host PC in it (return stacks, inline lookup). */
	void (*code_evicted)(void *ctx, host_pc_t from, host_pc_t to);
	/* A block died (invalidated or evicted). Its pad is barred: who lands on it is led away. */
	void (*block_dead)(void *ctx, const struct block *b);
};

struct cache_config {
	uint64_t size;           /* bytes of code memory, a multiple of regions * 4096 */
	uint32_t regions;        /* at least 2 */
	host_pc_t near;          /* code memory is placed within 2 GiB of this address (the runtime's stubs) */
	host_pc_t chain;         /* what exit stubs call */
	host_pc_t barred;        /* where pads of dead blocks lead, or 0: nobody asks for pads */
	struct cache_callbacks callbacks;
	struct stats *stats;
};

/* Returns 0 or a negative errno; *out is freed with cache_destroy. */
int cache_create(struct cache **out, const struct cache_config *config);
void cache_destroy(struct cache *c);

/* Reserve, then commit or abort: the only way to write code, and at most so many link slots for it. At most one reservation at a time. May evict a
 * region (and so call back). `write` is valid until commit or abort; `exec` is where the same bytes run. Returns 0 or -ENOMEM if that exceeds a
 * region. */
struct cache_space {
	uint8_t *write;
	host_pc_t exec;
	uint32_t size;
};
int cache_reserve(struct cache *c, uint32_t bytes, uint32_t slots, struct cache_space *space);
void cache_abort(struct cache *c);
/* What was reserved begins so many bytes further on. */
void cache_skip(struct cache *c, uint32_t bytes);

/* What to commit: everything of struct block but host_pc, exit_pc, dead, row_bytes and rows: those are `rows`, row_count of them; they, slots and fixes are copied. With
 * row_count and guest_length 0 the code is a thunk: kept, found by host PC, not by cache_lookup. Never fails once reserved (side tables are allocated with xmalloc semantics: abort()). */
struct block *cache_commit(struct cache *c, const struct block *what, const struct side_row *rows, uint32_t used);

/* A live block that may be copied to be the one of this identity: of the same guest code, at another linear address. A hint: some are forgotten. */
struct block *cache_find_twin(struct cache *c, const struct block *what);
/* Commit a copy of it, for what->gva and what->eip, and `aside` as there. It lies among lines of 64 bytes as its twin does. NULL if it needs more than
 * was reserved. */
struct block *cache_copy(struct cache *c, const struct block *twin, const struct block *what);

/* The live block of this identity (what->gva, eip, cs_end, gpa, mode), or NULL. gfn2 is not part of it: the caller checks block->gfn2 against
 * the exec table. */
struct block *cache_lookup(struct cache *c, const struct block *what);

/* The same where this page was not asked for lately: one memory miss less. */
struct block *cache_lookup_far(struct cache *c, const struct block *what);
/* A hint that this block will be looked up far away, or committed. */
void cache_prefetch(const struct cache *c, const struct block *what);

/* A live block which goes through this place (what->gva, eip, cs_end, gpa, mode) and may be entered there: a row says UNDO_ENTRY. *entry is the
 * offset in its code. NULL if none of the latest blocks of the frame does. */
struct block *cache_find_entry(struct cache *c, const struct block *what, uint32_t *entry);

/* A bit for each byte of this page (PAGE_SIZE / 8 bytes of bits) where blocks of the same context as `what` may be entered; NULL if there are none. A
 * hint: some may be missing. Valid until the next reserve, commit or invalidation. */
const uint8_t *cache_entries(struct cache *c, const struct block *what);

/* The block (live or dead) whose code, or one of whose exit stubs, holds this host PC, or NULL; and the side-table row that holds for it, or
 * false. */
struct block *cache_find_host(struct cache *c, host_pc_t pc);
bool cache_find_row(const struct block *b, host_pc_t pc, struct side_row *row);

/* All rows of a block in order: the next one is in `row` while true is returned. */
struct row_cursor {
	const uint8_t *at;
	uint32_t left;
	struct side_row row;
};
struct row_cursor cache_rows(const struct block *b);
bool cache_next_row(struct row_cursor *c);
/* As cache_find_row, but the rows behind it can be had too. */
bool cache_seek_row(const struct block *b, host_pc_t pc, struct row_cursor *found);

/* Is pc within code memory? Async-signal-safe. */
bool cache_contains(const struct cache *c, host_pc_t pc);
/* Where code memory is: [*from, *to). */
void cache_memory(const struct cache *c, host_pc_t *from, host_pc_t *to);
/* The beginning of its writable mapping. */
uint8_t *cache_writable_start(const struct cache *c);
/* Memory that blocks will be kept in after what is being filled, in the CACHE_SIDE_CHUNK bytes from there on, or NULL. All its pages stay until cache_destroy(), and may be
 * touched, as long as nothing changes by that: a first touch takes the host some 300 us. */
#define CACHE_SIDE_CHUNK MIB(2)
uint8_t *cache_side_memory_ahead(const struct cache *c);

/* A JMP, which no pad begins with, over the first bytes of a dead block's. */
#define CACHE_BAR 5u
static inline bool cache_is_barred(host_pc_t pad) { return *(const uint8_t *)pad == 0xE9; }

/* Link a slot to an entry of a block (`checked`, or from the same page `body` or what cache_find_entry found), patching its rel32. Relinks if linked already. Unlinking (done when `to` dies) points the branch back at its exit stub. */
void cache_link(struct cache *c, struct block *from, uint32_t slot, struct block *to, uint32_t entry);
/* Unlink every slot that leads to this block. */
void cache_unlink(struct cache *c, struct block *to);
/* The slot of `b` to whose exit stub this host PC belongs, or -1. */
int cache_find_slot(const struct block *b, host_pc_t pc);
host_pc_t cache_exit_stub(const struct block *b, uint32_t slot);
#define CACHE_EXIT_STUB 5u /* bytes: a call, so that its return address tells which it was */

/* Kill every live block with guest bytes in [gpa, gpa + length). Returns how many died. */
uint32_t cache_invalidate(struct cache *c, gpa_t gpa, uint32_t length);
bool cache_frame_has_code(const struct cache *c, gfn_t gfn);
/* Kill everything and start from the first region. */
void cache_flush(struct cache *c);

/* Walk every live block, for dumps and statistics; stops when fn returns false. */
void cache_each(struct cache *c, bool (*fn)(void *ctx, struct block *b), void *ctx);

/* Check every invariant (hash chains, per-frame lists, link lists both ways, patched branch targets, rows sorted, blocks within regions);
 * returns NULL or a sentence saying what is broken. For tests and --chaos. */
const char *cache_check(struct cache *c);

#endif
