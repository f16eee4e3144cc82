#include "runtime/places.h"

#include <inttypes.h>
#include <stdlib.h>

#include "runtime/inspect_print.h"
#include "runtime/internal.h"

#define MOST (PLACE_SLOTS - PLACE_SLOTS / 8)
#define TOP 10u

static const char *const words[] = {
	[PLACE_BORDER] = "at the border", [PLACE_NEXT] = "in C", [PLACE_LEAVE] = "by the dispatcher", [PLACE_EXCEPTION] = "an exception",
	[PLACE_AGAIN] = "in pieces", [PLACE_HIDDEN] = "hidden faults", [PLACE_TRUE] = "true faults", [PLACE_MISS] = "soft misses",
	[PLACE_TRACED] = "writes to traced frames", [PLACE_MMIO] = "devices or no memory", [PLACE_CROSSING] = "page crossings",
	[PLACE_WATCHED] = "watched",
};
static const char *const keys[] = {
	[PLACE_BORDER] = "border", [PLACE_NEXT] = "next", [PLACE_LEAVE] = "leave", [PLACE_EXCEPTION] = "exception", [PLACE_AGAIN] = "again",
	[PLACE_HIDDEN] = "hidden", [PLACE_TRUE] = "true", [PLACE_MISS] = "misses", [PLACE_TRACED] = "traced", [PLACE_MMIO] = "mmio",
	[PLACE_CROSSING] = "crossing", [PLACE_WATCHED] = "watched",
};
_Static_assert(ARRAY_LEN(words) == PLACE_EVENTS && ARRAY_LEN(keys) == PLACE_EVENTS, "a word for each event");

struct places *places_create(void)
{
	return calloc(1, sizeof(struct places));
}

/* NULL if there is no room for another. It is named now: its program may be gone when the run ends. */
static struct place *find(struct runtime *r, gva_t gva, uint8_t what)
{
	struct places *p = r->places;
	struct place *place = places_slot(p, gva, what);

	if (place->used)
		return place;
	if (p->used == MOST) {
		p->left_out++;
		return NULL;
	}
	p->used++;
	*place = (struct place){.gva = gva, .what = what, .used = true};
	struct code_place at = {.gva = gva, .page = code_page(r, gva, r->v->cpl == 3), .mode = r->v->mode, .cr3 = r->v->cr3};
	symbols_print(r->config.symbols, &at, place->name, sizeof(place->name));
	return place;
}

struct place *places_callout(struct runtime *r, gva_t gva, uint8_t id)
{
	return find(r, gva, id);
}

void places_access(struct runtime *r, const struct block *b, const struct side_row *row, enum place_event event)
{
	struct place *place = find(r, b->gva - b->eip + row->eip, PLACE_ACCESS);

	if (place)
		place->count[event]++;
}

void places_made_soft(struct runtime *r, gva_t gva)
{
	struct place *place = find(r, gva, PLACE_ACCESS);

	if (place)
		place->made_soft = true;
}

static uint64_t total(const struct place *p)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < PLACE_EVENTS; i++)
		sum += p->count[i];
	return sum;
}

/* The most frequent ones of callouts, or of accesses, the first first. Returns how many. */
static unsigned select_top(const struct places *p, bool accesses, const struct place *top[TOP])
{
	unsigned found = 0;

	for (uint32_t i = 0; i < PLACE_SLOTS; i++) {
		const struct place *place = &p->slot[i];
		if (!place->used || (place->what == PLACE_ACCESS) != accesses || !total(place))
			continue;
		if (found == TOP && total(place) <= total(top[TOP - 1]))
			continue;
		unsigned at = found < TOP ? found++ : TOP - 1;
		for (; at && total(place) > total(top[at - 1]); at--)
			top[at] = top[at - 1];
		top[at] = place;
	}
	return found;
}

static void print_events(const struct place *p, FILE *out)
{
	const char *between = ":";

	for (unsigned i = 0; i < PLACE_EVENTS; i++) {
		if (!p->count[i])
			continue;
		fprintf(out, "%s %" PRIu64 " %s", between, p->count[i], words[i]);
		between = ",";
	}
	if (p->what == PLACE_ACCESS)
		fprintf(out, "; %s", p->made_soft ? "emitted anew in soft form" : p->count[PLACE_HIDDEN] ? "stays direct" : "in the form that it had");
}

static void print_text(const struct place *p, FILE *out)
{
	fprintf(out, "%14" PRIu64 "  %s%s at %08" PRIx32 " %s", total(p), p->what == PLACE_ACCESS ? "access" : "callout ",
		p->what == PLACE_ACCESS ? "" : stats_callout_name(p->what), p->gva, p->name);
	print_events(p, out);
	fputc('\n', out);
}

static void print_json(const struct place *p, FILE *out)
{
	fprintf(out, "{\"address\": \"0x%08" PRIx32 "\", \"name\": ", p->gva);
	inspect_json(out, p->name);
	fprintf(out, ", \"count\": %" PRIu64, total(p));
	if (p->what != PLACE_ACCESS)
		fprintf(out, ", \"callout\": \"%s\"", stats_callout_name(p->what));
	else
		fprintf(out, ", \"made_soft\": %s", p->made_soft ? "true" : "false");
	for (unsigned i = 0; i < PLACE_EVENTS; i++)
		if (p->count[i])
			fprintf(out, ", \"%s\": %" PRIu64, keys[i], p->count[i]);
	fputc('}', out);
}

static void print_list(const struct places *p, bool accesses, FILE *out, bool json)
{
	const struct place *top[TOP];
	unsigned count_of = select_top(p, accesses, top);
	const char *title = accesses ? "Accesses that faulted or missed most" : "Most frequent callouts";

	if (json)
		fprintf(out, ", \"%s\": [", accesses ? "top_accesses" : "top_callouts");
	else if (count_of)
		fprintf(out, "%s, by guest address:\n", title);
	for (unsigned i = 0; i < count_of; i++) {
		if (json) {
			fputs(i ? ", " : "", out);
			print_json(top[i], out);
		} else {
			print_text(top[i], out);
		}
	}
	if (json)
		fputc(']', out);
}

void places_print(const struct runtime *r, FILE *out, bool json)
{
	print_list(r->places, false, out, json);
	print_list(r->places, true, out, json);
	if (!json && r->places->left_out)
		fprintf(out, "%14" PRIu64 "  at other places than the %u that there is room for\n", r->places->left_out, MOST);
}
