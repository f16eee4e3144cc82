/* Every counter that explains speed, one list, one struct: parts count into it, --stats prints it. */
#ifndef BASE_STATS_H
#define BASE_STATS_H

#include <stdint.h>
#include <stdio.h>

struct stats {
#define STAT(name, what) uint64_t name;
#include "base/stats.def"
#undef STAT
	uint64_t callouts[256]; /* by enum callout_id */
	uint64_t exits[16];     /* by EXIT_* */
};

/* Print all counters that are not zero, as text or as one JSON object; `more` is what that gets besides, ", "name": value" each, or NULL. */
void stats_print(const struct stats *s, FILE *out, int as_json, const char *more);
const char *stats_callout_name(unsigned id);

#endif
