/* Lookup of live blocks by identity. */
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

#define FIRST_BITS 10u

uint32_t hash_bucket(const struct cache *c, gva_t gva, gfn_t gfn, uint32_t mode)
{
	/* Bits that differ between neighbouring blocks reach the top through the multiplications. */
	uint32_t h = gva * 0x9E3779B1u ^ gfn * 0x85EBCA6Bu ^ mode * 0xC2B2AE35u;
	return (h ^ h << 15) >> (32 - c->hash_bits);
}

static void resize(struct cache *c, uint32_t bits)
{
	struct entry **old = c->hash;
	uint32_t old_size = old ? 1u << c->hash_bits : 0;
	c->hash_bits = bits;
	c->hash = memory_xalloc(NULL, sizeof *c->hash << bits);
	memset(c->hash, 0, sizeof *c->hash << bits);
	for (uint32_t i = 0; i < old_size; i++) {
		for (struct entry *e = old[i], *next; e; e = next) {
			next = e->hash_next;
			uint32_t bucket = hash_bucket(c, e->b.gva, entry_gfn(e), e->b.mode);
			e->hash_next = c->hash[bucket];
			c->hash[bucket] = e;
		}
	}
	free(old);
}

void hash_init(struct cache *c)
{
	resize(c, FIRST_BITS);
}

void hash_insert(struct cache *c, struct entry *e)
{
	if (++c->live > 1u << c->hash_bits) resize(c, c->hash_bits + 1);
	struct entry **bucket = &c->hash[hash_bucket(c, e->b.gva, entry_gfn(e), e->b.mode)];
	e->hash_next = *bucket;
	*bucket = e;
}

void hash_remove(struct cache *c, struct entry *e)
{
	struct entry **at = &c->hash[hash_bucket(c, e->b.gva, entry_gfn(e), e->b.mode)];
	while (*at != e) at = &(*at)->hash_next;
	*at = e->hash_next;
	c->live--;
}

static bool is_same(const struct block *a, const struct block *b)
{
	return a->gva == b->gva && a->mode == b->mode && a->eip == b->eip && a->cs_end == b->cs_end &&
	       a->gpa >> PAGE_SHIFT == b->gpa >> PAGE_SHIFT;
}

struct block *cache_lookup(struct cache *c, const struct block *what)
{
	for (struct entry *e = c->hash[hash_bucket(c, what->gva, (gfn_t)(what->gpa >> PAGE_SHIFT), what->mode)]; e; e = e->hash_next)
		if (is_same(&e->b, what)) return &e->b;
	return NULL;
}
