/* Where the blocks of a frame may be entered, as far as they are of one context; a frame keeps this for the contexts that were asked for last. The
 * blocks' own descriptors are a miss of the processor's caches each; here the latest of them are side by side, and a bit for each byte of the page says
 * whether to look at all. */
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

/* Frames of shared code have blocks of many processes; those of the one that runs are the latest. */
#define LATEST_BLOCKS 64u
#define FIRST_CAPACITY 8u
#define CONTEXTS 4u

struct known_block {
	struct entry *entry;
	uint16_t from, to; /* its bytes in the page */
};

struct known {
	struct known *next; /* of another context, asked for before this one */
	/* The context: in the same page, so that code of one block may go on in another. */
	gva_t page;
	uint32_t cs_base, cs_end, mode;
	bool ways;
	bool all; /* no live block of the context is missing in `blocks` */
	uint32_t count, capacity;
	struct known_block *blocks; /* the oldest first */
	uint8_t bits[PAGE_SIZE / 8];
};

static bool is_of(const struct known *k, const struct block *b)
{
	return k->page == (b->gva & ~PAGE_MASK) && k->mode == b->mode && k->ways == b->way && k->cs_base == b->gva - b->eip && k->cs_end == b->cs_end;
}

static void append(struct known *k, struct known_block what)
{
	if (k->count == LATEST_BLOCKS) {
		memmove(k->blocks, k->blocks + 1, --k->count * sizeof *k->blocks);
		k->all = false;
	}
	if (k->count == k->capacity) {
		k->capacity = k->capacity ? k->capacity * 2 : FIRST_CAPACITY;
		k->blocks = memory_xalloc(k->blocks, k->capacity * sizeof *k->blocks);
	}
	k->blocks[k->count++] = what;
}

static struct known *find(const struct frame *f, const struct block *b)
{
	struct known *k = f->known;
	while (k && !is_of(k, b)) k = k->next;
	return k;
}

static void add(struct known *k, struct entry *e)
{
	uint32_t from = e->b.gva & PAGE_MASK, to = from + e->b.guest_length;
	append(k, (struct known_block){e, (uint16_t)from, (uint16_t)(to < PAGE_SIZE ? to : PAGE_SIZE)});
	if (!e->b.aside) rows_mark_entries(&e->b, k->bits);
}

void known_add(struct frame *f, gfn_t gfn, struct entry *e)
{
	struct known *k = entry_gfn(e) == gfn ? find(f, &e->b) : NULL;
	if (k) add(k, e);
}

/* Another block may go through the same place: that is then not known any more. */
static void forget_bits(struct known *k, struct known_block b)
{
	for (uint32_t at = b.from; at < b.to; at++) k->bits[at / 8] &= (uint8_t)~(1u << at % 8);
}

void known_remove(struct frame *f, const struct entry *e)
{
	struct known *k = find(f, &e->b);
	uint32_t i = 0;
	while (k && i < k->count && k->blocks[i].entry != e) i++;
	if (!k || i == k->count) return;
	forget_bits(k, k->blocks[i]);
	memmove(k->blocks + i, k->blocks + i + 1, (--k->count - i) * sizeof *k->blocks);
}

void known_free(struct cache *c, struct frame *f)
{
	while (f->known) {
		struct known *next = f->known->next;
		c->known_count--;
		free(f->known->blocks);
		free(f->known);
		f->known = next;
	}
}

/* To the front: a new one, or the one that was asked for longest ago; NULL if there are too many of other frames. */
static struct known *take(struct cache *c, struct frame *f)
{
	struct known **at = &f->known, *k;
	for (uint32_t i = 1; *at && ((*at)->next || i < CONTEXTS); i++) at = &(*at)->next;
	if (*at) {
		k = *at;
		*at = NULL;
	} else if (c->known_count < KNOWN_MOST) {
		k = memset(memory_xalloc(NULL, sizeof *k), 0, sizeof *k);
		c->known_count++;
	} else {
		return NULL;
	}
	k->next = f->known;
	return f->known = k;
}

static void begin(struct known *k, const struct block *what)
{
	k->page = what->gva & ~PAGE_MASK;
	k->cs_base = what->gva - what->eip;
	k->cs_end = what->cs_end;
	k->mode = what->mode;
	k->ways = what->way;
	k->count = 0;
	memset(k->bits, 0, sizeof k->bits);
}

static void fill(struct known *k, const struct frame *f, gfn_t gfn)
{
	struct entry *latest[LATEST_BLOCKS];
	uint32_t count = 0;
	const struct frame_node *node = f->blocks;
	for (; node && count < LATEST_BLOCKS; node = node->next) latest[count++] = node->owner;
	k->all = !node;
	while (count--)
		if (entry_gfn(latest[count]) == gfn && is_of(k, &latest[count]->b)) add(k, latest[count]);
}

/* Of the context that is asked for; NULL if it is not kept. */
static const struct known *known_of(struct cache *c, struct frame *f, const struct block *what)
{
	struct known **at = &f->known, *k;
	if (f->known && is_of(f->known, what)) return f->known;
	while (*at && !is_of(*at, what)) at = &(*at)->next;
	k = *at;
	if (k) {
		*at = k->next;
		k->next = f->known;
		return f->known = k;
	}
	k = take(c, f);
	if (!k) return NULL;
	begin(k, what);
	fill(k, f, (gfn_t)(what->gpa >> PAGE_SHIFT));
	return k;
}

bool known_lookup(const struct cache *c, const struct block *what, struct block **b)
{
	const struct frame *f = frames_find(c, (gfn_t)(what->gpa >> PAGE_SHIFT));
	uint32_t from = what->gva & PAGE_MASK;

	*b = NULL;
	if (!f || !f->blocks) return true;
	const struct known *k = find(f, what);
	if (!k) return false;
	for (uint32_t i = k->count; i-- > 0;)
		if (k->blocks[i].from == from) {
			*b = &k->blocks[i].entry->b;
			return true;
		}
	return k->all;
}

struct block *cache_find_entry(struct cache *c, const struct block *what, uint32_t *entry)
{
	struct frame *f = frames_find(c, (gfn_t)(what->gpa >> PAGE_SHIFT));
	uint32_t at = what->gva & PAGE_MASK;

	if (!f || !f->blocks) return NULL;
	const struct known *k = known_of(c, f, what);
	if (!k || !(k->bits[at / 8] >> at % 8 & 1)) return NULL;
	for (uint32_t i = k->count; i-- > 0;) {
		const struct known_block *b = &k->blocks[i];
		if (b->from <= at && at < b->to && rows_find_entry(&b->entry->b, what->eip, entry)) return &b->entry->b;
	}
	return NULL;
}

const uint8_t *cache_entries(struct cache *c, const struct block *what)
{
	struct frame *f = frames_find(c, (gfn_t)(what->gpa >> PAGE_SHIFT));

	const struct known *k = f && f->blocks ? known_of(c, f, what) : NULL;
	return k ? k->bits : NULL;
}

static const char *check_one(const struct known *k, const struct frame *f, gfn_t gfn)
{
	uint32_t live = 0, found = 0;
	for (const struct frame_node *n = f->blocks; n; n = n->next) {
		if (entry_gfn(n->owner) != gfn || !is_of(k, &n->owner->b)) continue;
		live++;
		for (uint32_t i = 0; i < k->count; i++) found += k->blocks[i].entry == n->owner;
	}
	if (found != k->count) return "a block that a frame knows is none of its live ones";
	return k->all && found != live ? "a frame that knows all of its blocks does not" : NULL;
}

const char *known_check(const struct frame *f, gfn_t gfn)
{
	const char *broken = NULL;
	for (const struct known *k = f->known; k && !broken; k = k->next) broken = check_one(k, f, gfn);
	return broken;
}
