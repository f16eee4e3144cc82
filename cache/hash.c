/* Lookup of live blocks by identity: open addressing, with the hash beside the pointer, so that a block which is none of them is not looked at. */
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

#define FIRST_BITS 10u

static uint32_t hash_of(gva_t gva, gfn_t gfn, uint32_t mode)
{
	/* Bits that differ between neighbouring blocks reach the top through the multiplications. */
	uint32_t h = gva * 0x9E3779B1u ^ gfn * 0x85EBCA6Bu ^ mode * 0xC2B2AE35u;
	return h ^ h << 15;
}

static uint32_t hash_of_entry(const struct entry *e)
{
	return hash_of(e->b.gva, entry_gfn(e), e->b.mode);
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
	c->hash = memory_xalloc(NULL, sizeof *c->hash << bits);
	memset(c->hash, 0, sizeof *c->hash << bits);
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
	put(c, (struct hash_place){e, hash_of_entry(e)});
}

uint32_t hash_find(const struct cache *c, const struct entry *e)
{
	uint32_t hash = hash_of_entry(e), place = home_of(c, hash);
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
	return a->gva == b->gva && a->mode == b->mode && a->eip == b->eip && a->cs_end == b->cs_end &&
	       a->gpa >> PAGE_SHIFT == b->gpa >> PAGE_SHIFT;
}

struct block *cache_lookup(struct cache *c, const struct block *what)
{
	struct block *known;
	if (known_lookup(c, what, &known)) return known;
	uint32_t hash = hash_of(what->gva, (gfn_t)(what->gpa >> PAGE_SHIFT), what->mode);
	for (uint32_t place = home_of(c, hash); c->hash[place].entry; place = next_place(c, place)) {
		struct entry *e = c->hash[place].entry;
		if (c->hash[place].hash == hash && is_same(&e->b, what)) return &e->b;
	}
	return NULL;
}
