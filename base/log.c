#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *const part_names[LOG_PARTS] = {
	[LOG_BASE] = "base", [LOG_TRANSLATOR] = "translator", [LOG_CACHE] = "cache", [LOG_SHADOW] = "shadow",
	[LOG_RUNTIME] = "runtime", [LOG_CPU] = "cpu", [LOG_DEVICES] = "devices", [LOG_BOOT] = "boot",
};
static const char *const level_names[] = { "error", "warn", "info", "debug", "trace" };
#define LEVELS (sizeof(level_names) / sizeof(level_names[0]))

unsigned char log_levels[LOG_PARTS] = { [0 ... LOG_PARTS - 1] = LOG_WARN };

static int find_name(const char *const *names, int count, const char *word, size_t length)
{
	for (int i = 0; i < count; i++) {
		if (strlen(names[i]) == length && !memcmp(names[i], word, length)) return i;
	}
	return -1;
}

/* One "part:level" of `length` bytes, put into `levels`. Returns NULL or where it is bad. */
static const char *parse_item(const char *item, size_t length, unsigned char *levels)
{
	const char *colon = memchr(item, ':', length);
	size_t part_length = colon ? (size_t)(colon - item) : length;
	bool all = part_length == 3 && !memcmp(item, "all", 3);
	int part = find_name(part_names, LOG_PARTS, item, part_length);
	if (part < 0 && !all) return item;
	if (!colon) return item;
	int level = find_name(level_names, LEVELS, colon + 1, length - part_length - 1);
	if (level < 0) return colon + 1;
	if (all) memset(levels, level, LOG_PARTS);
	else levels[part] = (unsigned char)level;
	return NULL;
}

int log_configure(const char *spec, const char **bad)
{
	/* Nothing changes unless the whole text is good. */
	unsigned char levels[LOG_PARTS];
	memcpy(levels, log_levels, sizeof(levels));
	for (;;) {
		size_t length = strcspn(spec, ",");
		*bad = parse_item(spec, length, levels);
		if (*bad) return -EINVAL;
		if (!spec[length]) break;
		spec += length + 1;
	}
	memcpy(log_levels, levels, sizeof(levels));
	return 0;
}

void log_write(enum log_part part, enum log_level level, const char *format, ...)
{
	/* One write a line, so that lines of several threads do not mix. */
	char line[1024];
	size_t used = (size_t)snprintf(line, sizeof(line), "bt-vmm: %s: %s: ", part_names[part], level_names[level]);
	va_list args;
	va_start(args, format);
	vsnprintf(line + used, sizeof(line) - used, format, args);
	va_end(args);
	fprintf(stderr, "%s\n", line);
}
