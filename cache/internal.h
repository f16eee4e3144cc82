/* What the files of the cache share; nobody outside includes this. */
#ifndef CACHE_INTERNAL_H
#define CACHE_INTERNAL_H

#include "base/log.h"
#include "cache/cache.h"

struct entry;

/* Membership in the list of one frame. */
struct frame_node {
	struct frame_node *next, **at; /* `at`: the pointer that points here */
	struct entry *owner;
};

/* A link slot's membership in its target's list of incoming links; `at` is NULL while it is not linked. */
struct chain_link {
	struct chain_link *next, **at;
	struct entry *from;
};

/* A block with what the cache keeps for it: one allocation from its region's arena, with links, slots and rows behind it. */
struct entry {
	struct block b;
	struct chain_link *incoming;
	struct frame_node frame;
	struct frame_node *straddle; /* the second frame's node; NULL if there is none, or it is the same frame again */
	struct chain_link chain[];   /* one for each slot */
};

/* The side memory of one region's blocks, given back whole when the region is evicted: to malloc, or if it is a large one, for the next that is needed. */
struct arena_chunk {
	struct arena_chunk *next;
	uint32_t used, size;
	_Alignas(16) uint8_t bytes[];
};

struct region {
	uint32_t used; /* bytes of code */
	uint32_t stub_count, stub_capacity;
	uint32_t *stub_owners; /* of each exit stub, from the region's end down: the index of its block */
	uint32_t count, capacity;
	uint32_t *starts;      /* offsets from the region's start, ascending */
	struct entry **entries; /* in the same order */
	uint32_t *pages;       /* for each page of code up to the last block's: the index of the first block that begins in it or behind it */
	uint32_t page_count;
	struct arena_chunk *chunks;
	uint32_t side_bytes;   /* used of them */
};
/* What blocks may keep beside their code, as a multiple of it. Programs' blocks keep about twice as much; blocks of one jump each would keep ten times. */
#define SIDE_MOST 4u

/* The blocks of one frame. `lines` has a bit for each 64 bytes that may hold guest code: a store beside them kills nothing and
 * needs no walk. It may have too many bits, never too few. */
struct frame {
	struct frame_node *blocks;
	uint64_t lines;
	struct known *known; /* known.c: NULL if nobody has asked */
};
#define FRAMES_SHIFT 10u

struct hash_place {
	struct entry *entry; /* NULL: free */
	uint32_t hash;
};

struct cache {
	uint8_t *write;  /* the writable mapping */
	host_pc_t exec;  /* the executable one */
	uint64_t size;
	uint32_t region_size;
	uint32_t region_count;
	uint32_t current; /* the region being filled; the one behind it is the oldest */
	uint32_t reserved, reserved_slots; /* bytes behind what the current region has, 0 if nothing is reserved; and exit stubs */
	struct region *regions;
	struct arena_chunk *free_chunks, *next_chunk; /* large ones: were in use; will be */

	struct hash_place *hash;
	uint32_t hash_bits;
	uint32_t live; /* blocks in it */

	struct entry **twins; /* twins.c */

	struct frame **frames; /* chunks of 1 << FRAMES_SHIFT frames, made on first use */
	uint32_t frame_chunks;
	uint32_t known_count; /* of all frames */

	host_pc_t chain, barred;
	struct cache_callbacks callbacks;
	struct stats *stats;
	struct stats own_stats; /* counted into if the owner wants none */
};

static inline gfn_t entry_gfn(const struct entry *e) { return (gfn_t)(e->b.gpa >> PAGE_SHIFT); }
/* A thunk has no guest code: nothing looks it up or invalidates it. */
static inline bool entry_is_thunk(const struct entry *e) { return e->b.guest_length == 0; }
static inline uint8_t *cache_writable(const struct cache *c, host_pc_t pc) { return c->write + (pc - c->exec); }
static inline host_pc_t region_start(const struct cache *c, uint32_t index)
{
	return c->exec + (uint64_t)index * c->region_size;
}
/* How many bytes at a region's end so many exit stubs take. */
static inline uint32_t stub_bytes(uint32_t count) { return count * CACHE_EXIT_STUB; }

/* memory.c */
int memory_map_code(struct cache *c, host_pc_t near);
void memory_unmap_code(struct cache *c);
void *memory_xalloc(void *old, size_t size); /* realloc that never fails */
/* Of one or more of these, which the host is asked to make at once: a first touch of each small page would take the time of translating some guest
 * instructions. To be freed. */
#define HUGE_PAGE CACHE_SIDE_CHUNK
void *memory_xalloc_large(size_t size);

/* regions.c */
void *region_alloc(struct cache *c, struct region *r, size_t size);
void region_trim(struct region *r, const uint8_t *end); /* what was allocated last ends here */
void region_append(struct region *r, uint32_t start, struct entry *e);
void region_append_stubs(struct region *r, uint32_t count); /* of the last block */
/* The last block that does not begin behind this offset, or NULL. */
struct entry *region_find(const struct region *r, uint32_t offset);
void region_evict(struct cache *c, uint32_t index);
void regions_free(struct cache *c);

/* rows.c: how many bytes a block's rows may take, packed. */
uint32_t rows_most(const struct block *b);
/* Pack them there; returns the end. */
uint8_t *rows_keep(struct block *b, const struct side_row *rows, uint8_t *to);
/* Another block's, as they are kept, row_bytes of them. */
void rows_copy(struct block *b, const struct block *from, uint8_t *to);
/* Where the block may be entered for this EIP: its row's offset. */
bool rows_find_entry(const struct block *b, uint32_t eip, uint32_t *offset);
/* Set the bits of a page's bytes at which the block may be entered. */
void rows_mark_entries(const struct block *b, uint8_t *bits);

/* hash.c */
void hash_init(struct cache *c);
void hash_insert(struct cache *c, struct entry *e);
void hash_remove(struct cache *c, struct entry *e);
/* Where this block is, or, if it is not there, a free place. */
uint32_t hash_find(const struct cache *c, const struct entry *e);

/* twins.c */
size_t twins_size(void); /* bytes of cache.twins */
void twins_insert(struct cache *c, struct entry *e);
void twins_remove(struct cache *c, const struct entry *e);
const char *twins_check(const struct cache *c, const struct entry *e); /* as cache_check, of one block */

/* frames.c */
void frames_insert(struct cache *c, struct entry *e);
void frames_remove(struct cache *c, struct entry *e); /* calls frame_free for what it empties */
void frames_free(struct cache *c);
struct frame *frames_find(const struct cache *c, gfn_t gfn); /* NULL if the frame never had a block */
uint64_t frames_lines(const struct entry *e, gfn_t gfn); /* the lines of this frame that the block was made from */

/* known.c: a frame's blocks change. */
void known_add(struct frame *f, gfn_t gfn, struct entry *e);
void known_remove(struct frame *f, const struct entry *e);
void known_free(struct cache *c, struct frame *f);
#define KNOWN_MOST 32768u /* contexts that frames know together: some 1.5 KiB each */
/* As cache_lookup, if it is known here; else false. */
bool known_lookup(const struct cache *c, const struct block *what, struct block **b);
const char *known_check(const struct frame *f, gfn_t gfn); /* as cache_check */

/* links.c */
void links_init(struct cache *c, struct entry *e); /* writes its exit stubs */
void links_drop_incoming(struct cache *c, struct entry *e); /* every branch to e goes back to its exit stub */
void links_drop_outgoing(struct entry *e);                 /* forget e's own branches; its code is left alone */
host_pc_t links_target(const struct cache *c, const struct block *b, uint32_t slot);

/* blocks.c */
void block_kill(struct cache *c, struct entry *e);
/* What stands at the beginning of its pad once it is dead. */
void bar_make(const struct cache *c, const struct block *b, uint8_t jmp[CACHE_BAR]);

#endif
