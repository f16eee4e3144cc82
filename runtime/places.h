/* --stats: at which guest instructions callouts and faults happen, and what became of them. Nothing is counted without the option. */
#ifndef RUNTIME_PLACES_H
#define RUNTIME_PLACES_H

#include <stdio.h>

#include "base/types.h"

struct runtime;
struct block;
struct side_row;

enum place_event {
	/* A callout: answered at the border or in C and gone on behind, by the dispatcher, by an exception, to be done again. */
	PLACE_BORDER, PLACE_NEXT, PLACE_LEAVE, PLACE_EXCEPTION, PLACE_AGAIN,
	/* An access: a hidden fault, a true one, a soft miss; completed in software at a trace, at no RAM, over two pages, or for a breakpoint. */
	PLACE_HIDDEN, PLACE_TRUE, PLACE_MISS, PLACE_TRACED, PLACE_MMIO, PLACE_CROSSING, PLACE_WATCHED,
	PLACE_EVENTS
};
#define PLACE_ACCESS 0xFFu /* instead of a callout's id */

struct place {
	uint64_t count[PLACE_EVENTS];
	gva_t gva;
	uint8_t what;    /* a callout's id, or PLACE_ACCESS */
	bool used;
	bool made_soft;  /* the instruction was emitted anew in soft form */
	char name[95];
};

#define PLACE_SLOTS 16384u
struct places {
	uint32_t used;
	uint64_t left_out; /* events at places that there was no room for */
	struct place slot[PLACE_SLOTS];
};

/* The place's slot, or the empty one where it belongs. */
static inline struct place *places_slot(struct places *p, gva_t gva, uint8_t what)
{
	for (uint32_t hash = (gva ^ (uint32_t)what << 24) * 0x9E3779B1u >> 16;; hash++) {
		struct place *place = &p->slot[hash % PLACE_SLOTS];
		if (!place->used || (place->gva == gva && place->what == what))
			return place;
	}
}

struct places *places_create(void);
/* Before the callout runs: where to count what becomes of it; NULL if there is no room. */
struct place *places_callout(struct runtime *r, gva_t gva, uint8_t id);
/* The instruction of this row. */
void places_access(struct runtime *r, const struct block *b, const struct side_row *row, enum place_event event);
/* Its accesses are soft from now on. */
void places_made_soft(struct runtime *r, gva_t gva);
/* The ten most frequent callouts and accesses, as text; or as members of a JSON object, each with a comma before it. */
void places_print(const struct runtime *r, FILE *out, bool json);

#endif
