/* Lookup of live blocks by identity: open addressing, with the hash beside the pointer, so that a block which is none of them is not looked at. */
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

#define FIRST_BITS 10u

static uint32_t hash_of(const struct block *b)
{
	/* Bits that differ between neighbouring blocks reach the top through the multiplications. */
	uint32_t h = b->gva * 0x9E3779B1u ^ (gfn_t)(b->gpa >> PAGE_SHIFT) * 0x85EBCA6Bu ^ b->mode * 0xC2B2AE35u ^ (b->way ? 0x27D4EB2Fu : 0);
	return h ^ h << 15;
}

static uint32_t home_of(const struct cache *c, uint32_t hash)
{
	return hash >> (32 - c->hash_bits);
}

static uint32_t next_place(const struct cache *c, uint32_t place)
{
	return (place + 1) & ((1u << c->hash_bits) - 1);
}

/* From its home on, the first place that is free. */
static void put(struct cache *c, struct hash_place what)
{
	uint32_t place = home_of(c, what.hash);
	while (c->hash[place].entry) place = next_place(c, place);
	c->hash[place] = what;
}

static void resize(struct cache *c, uint32_t bits)
{
	struct hash_place *old = c->hash;
	uint32_t old_size = old ? 1u << c->hash_bits : 0;
	c->hash_bits = bits;
	size_t size = sizeof *c->hash << bits;
	c->hash = memset(size < HUGE_PAGE ? memory_xalloc(NULL, size) : memory_xalloc_large(size), 0, size);
	for (uint32_t i = 0; i < old_size; i++)
		if (old[i].entry) put(c, old[i]);
	free(old);
}

void hash_init(struct cache *c)
{
	resize(c, FIRST_BITS);
}

void hash_insert(struct cache *c, struct entry *e)
{
	if (++c->live > 1u << (c->hash_bits - 1)) resize(c, c->hash_bits + 1);
	put(c, (struct hash_place){e, hash_of(&e->b)});
}

uint32_t hash_find(const struct cache *c, const struct entry *e)
{
	uint32_t hash = hash_of(&e->b), place = home_of(c, hash);
	while (c->hash[place].entry && (c->hash[place].entry != e || c->hash[place].hash != hash)) place = next_place(c, place);
	return place;
}

/* What stands behind a place that becomes free moves up, unless it is at home or nearer to it. */
void hash_remove(struct cache *c, struct entry *e)
{
	uint32_t mask = (1u << c->hash_bits) - 1, hole = hash_find(c, e);
	for (uint32_t i = next_place(c, hole); c->hash[i].entry; i = next_place(c, i)) {
		if (((i - home_of(c, c->hash[i].hash)) & mask) < ((i - hole) & mask)) continue;
		c->hash[hole] = c->hash[i];
		hole = i;
	}
	c->hash[hole].entry = NULL;
	c->live--;
}

static bool is_same(const struct block *a, const struct block *b)
{
	return a->gva == b->gva && a->mode == b->mode && a->way == b->way && a->eip == b->eip && a->cs_end == b->cs_end &&
	       a->gpa >> PAGE_SHIFT == b->gpa >> PAGE_SHIFT;
}

void cache_prefetch(const struct cache *c, const struct block *what)
{
	__builtin_prefetch(&c->hash[home_of(c, hash_of(what))]);
}

struct block *cache_lookup(struct cache *c, const struct block *what)
{
	struct block *known;
	return known_lookup(c, what, &known) ? known : cache_lookup_far(c, what);
}

struct block *cache_lookup_far(struct cache *c, const struct block *what)
{
	uint32_t hash = hash_of(what);
	for (uint32_t place = home_of(c, hash); c->hash[place].entry; place = next_place(c, place)) {
		struct entry *e = c->hash[place].entry;
		if (c->hash[place].hash == hash && is_same(&e->b, what)) return &e->b;
	}
	return NULL;
}
