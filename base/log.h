/* Tracing, always compiled in, chosen at run time by --log=part:level,... */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_part { LOG_BASE, LOG_TRANSLATOR, LOG_CACHE, LOG_SHADOW, LOG_RUNTIME, LOG_CPU, LOG_DEVICES, LOG_BOOT, LOG_PARTS };
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

extern unsigned char log_levels[LOG_PARTS];

/* Parse "part:level,part:level" ("all" names every part). Returns 0, or -EINVAL with *bad pointing at the first bad word. */
int log_configure(const char *spec, const char **bad);

void log_write(enum log_part part, enum log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define LOG(part, level, ...) \
	do { \
		if (__builtin_expect(log_levels[part] >= (level), 0)) log_write(part, level, __VA_ARGS__); \
	} while (0)

#endif
