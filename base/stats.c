#include "base/stats.h"

#include <inttypes.h>
#include <stdbool.h>

#include "base/abi.h"
#include "base/callout.h"

struct named_stat {
	const char *name, *what;
	size_t offset;
};

static const struct named_stat stat_names[] = {
#define STAT(name, what) { #name, what, offsetof(struct stats, name) },
#include "base/stats.def"
#undef STAT
};

static const char *const callout_names[] = {
#define CALLOUT(name, what) #name,
#include "base/callout.def"
#undef CALLOUT
};
_Static_assert(CALLOUT_COUNT <= ARRAY_LEN(((struct stats *)0)->callouts), "a counter for each callout");

static const char *const exit_names[] = {
	[EXIT_CHAIN] = "chain", [EXIT_LOOKUP] = "lookup", [EXIT_CALLOUT] = "callout", [EXIT_SOFT] = "soft",
	[EXIT_STOP] = "stop", [EXIT_HOST_FAULT] = "host_fault", [EXIT_KICK] = "kick", [EXIT_ENTER] = "enter", [EXIT_SITE] = "site",
};

static uint64_t stat_value(const struct stats *s, const struct named_stat *stat)
{
	return *(const uint64_t *)((const char *)s + stat->offset);
}

static void print_text_group(FILE *out, const char *group, const char *const *names, size_t count, const uint64_t *values)
{
	for (size_t i = 0; i < count; i++) {
		if (values[i]) fprintf(out, "%14" PRIu64 "  %s %s\n", values[i], group, names[i]);
	}
}

static void print_text(const struct stats *s, FILE *out)
{
	for (size_t i = 0; i < ARRAY_LEN(stat_names); i++) {
		uint64_t value = stat_value(s, &stat_names[i]);
		if (value) fprintf(out, "%14" PRIu64 "  %s\n", value, stat_names[i].what);
	}
	print_text_group(out, "exit", exit_names, ARRAY_LEN(exit_names), s->exits);
	print_text_group(out, "callout", callout_names, CALLOUT_COUNT, s->callouts);
}

static void print_json_member(FILE *out, bool *first, const char *name, uint64_t value)
{
	if (!value) return;
	fprintf(out, "%s\"%s\": %" PRIu64, *first ? "" : ", ", name, value);
	*first = false;
}

static void print_json_group(FILE *out, const char *const *names, size_t count, const uint64_t *values)
{
	bool first = true;
	fputc('{', out);
	for (size_t i = 0; i < count; i++) print_json_member(out, &first, names[i], values[i]);
	fputc('}', out);
}

static void print_json(const struct stats *s, FILE *out, const char *more)
{
	bool first = true;
	fputc('{', out);
	for (size_t i = 0; i < ARRAY_LEN(stat_names); i++) {
		print_json_member(out, &first, stat_names[i].name, stat_value(s, &stat_names[i]));
	}
	fprintf(out, "%s\"exits\": ", first ? "" : ", ");
	print_json_group(out, exit_names, ARRAY_LEN(exit_names), s->exits);
	fputs(", \"callouts\": ", out);
	print_json_group(out, callout_names, CALLOUT_COUNT, s->callouts);
	fprintf(out, "%s}\n", more ? more : "");
}

const char *stats_callout_name(unsigned id)
{
	return id < CALLOUT_COUNT ? callout_names[id] : "";
}

void stats_print(const struct stats *s, FILE *out, int as_json, const char *more)
{
	if (as_json) print_json(s, out, more);
	else print_text(s, out);
}
