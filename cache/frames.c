/* Which live blocks were made from a guest frame: what a store to it has to kill. */
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

#define LINE_SHIFT 6u

/* The bits of the lines in [from, to), 0 <= from < to <= PAGE_SIZE. */
static uint64_t line_bits(uint32_t from, uint32_t to)
{
	uint32_t first = from >> LINE_SHIFT, last = (to - 1) >> LINE_SHIFT;
	return (~0ULL << first) & (~0ULL >> (63 - last));
}

/* A block's guest bytes within a frame come in at most two pieces: the end of the frame, and, if the block straddles into it, its beginning. */
struct piece {
	uint32_t from, to;
};

static struct piece first_piece(const struct block *b, gfn_t gfn)
{
	if (b->gpa >> PAGE_SHIFT != gfn) return (struct piece){0, 0};
	uint32_t from = (uint32_t)b->gpa & PAGE_MASK;
	uint32_t to = from + b->guest_length;
	return (struct piece){from, to < PAGE_SIZE ? to : PAGE_SIZE};
}

static struct piece second_piece(const struct block *b, gfn_t gfn)
{
	uint32_t end = ((uint32_t)b->gpa & PAGE_MASK) + b->guest_length;
	if (b->gfn2 != gfn || end <= PAGE_SIZE) return (struct piece){0, 0};
	return (struct piece){0, end - PAGE_SIZE};
}

uint64_t frames_lines(const struct entry *e, gfn_t gfn)
{
	struct piece one = first_piece(&e->b, gfn), two = second_piece(&e->b, gfn);
	return (one.to ? line_bits(one.from, one.to) : 0) | (two.to ? line_bits(two.from, two.to) : 0);
}

static bool overlaps(const struct block *b, gfn_t gfn, struct piece with)
{
	struct piece one = first_piece(b, gfn), two = second_piece(b, gfn);
	return (one.from < with.to && with.from < one.to) || (two.from < with.to && with.from < two.to);
}

struct frame *frames_find(const struct cache *c, gfn_t gfn)
{
	uint32_t chunk = gfn >> FRAMES_SHIFT;
	if (chunk >= c->frame_chunks || !c->frames[chunk]) return NULL;
	return &c->frames[chunk][gfn & ((1u << FRAMES_SHIFT) - 1)];
}

static struct frame *make_frame(struct cache *c, gfn_t gfn)
{
	uint32_t chunk = gfn >> FRAMES_SHIFT;
	if (chunk >= c->frame_chunks) {
		c->frames = memory_xalloc(c->frames, (chunk + 1) * sizeof *c->frames);
		memset(c->frames + c->frame_chunks, 0, (chunk + 1 - c->frame_chunks) * sizeof *c->frames);
		c->frame_chunks = chunk + 1;
	}
	if (!c->frames[chunk]) {
		size_t size = sizeof **c->frames << FRAMES_SHIFT;
		c->frames[chunk] = memset(memory_xalloc(NULL, size), 0, size);
	}
	return frames_find(c, gfn);
}

static void insert(struct cache *c, gfn_t gfn, struct frame_node *node, struct entry *e)
{
	struct frame *f = make_frame(c, gfn);
	node->owner = e;
	node->next = f->blocks;
	node->at = &f->blocks;
	if (node->next) node->next->at = &node->next;
	f->blocks = node;
	f->lines |= frames_lines(e, gfn);
	known_add(f, gfn, e);
}

static void remove_node(struct cache *c, gfn_t gfn, struct frame_node *node)
{
	*node->at = node->next;
	if (node->next) node->next->at = node->at;
	struct frame *f = frames_find(c, gfn);
	known_remove(f, node->owner);
	if (f->blocks) return;
	f->lines = 0;
	known_free(c, f);
	if (c->callbacks.frame_free) c->callbacks.frame_free(c->callbacks.ctx, gfn);
}

void frames_insert(struct cache *c, struct entry *e)
{
	insert(c, entry_gfn(e), &e->frame, e);
	if (e->straddle) insert(c, e->b.gfn2, e->straddle, e);
}

void frames_remove(struct cache *c, struct entry *e)
{
	remove_node(c, entry_gfn(e), &e->frame);
	if (e->straddle) remove_node(c, e->b.gfn2, e->straddle);
}

static uint32_t invalidate_in_frame(struct cache *c, gfn_t gfn, struct piece bytes)
{
	struct frame *f = frames_find(c, gfn);
	if (!f || !(f->lines & line_bits(bytes.from, bytes.to))) return 0;
	uint32_t killed = 0;
	uint64_t lines = 0;
	for (struct frame_node *node = f->blocks, *next; node; node = next) {
		next = node->next;
		if (!overlaps(&node->owner->b, gfn, bytes)) {
			lines |= frames_lines(node->owner, gfn);
			continue;
		}
		block_kill(c, node->owner);
		killed++;
	}
	f->lines = lines;
	return killed;
}

void frames_free(struct cache *c)
{
	for (uint32_t chunk = 0; chunk < c->frame_chunks; chunk++) {
		for (uint32_t i = 0; c->frames[chunk] && i < 1u << FRAMES_SHIFT; i++) known_free(c, &c->frames[chunk][i]);
		free(c->frames[chunk]);
	}
	free(c->frames);
}

uint32_t cache_invalidate(struct cache *c, gpa_t gpa, uint32_t length)
{
	uint32_t killed = 0;
	for (gpa_t end = gpa + length; gpa < end;) {
		uint32_t from = (uint32_t)gpa & PAGE_MASK;
		uint32_t to = end - gpa < PAGE_SIZE - from ? from + (uint32_t)(end - gpa) : PAGE_SIZE;
		killed += invalidate_in_frame(c, (gfn_t)(gpa >> PAGE_SHIFT), (struct piece){from, to});
		gpa += to - from;
	}
	c->stats->blocks_invalidated += killed;
	return killed;
}

bool cache_frame_has_code(const struct cache *c, gfn_t gfn)
{
	const struct frame *f = frames_find(c, gfn);
	return f && f->blocks;
}
