/* The command line. */
#ifndef RUNTIME_OPTIONS_H
#define RUNTIME_OPTIONS_H

#include "base/types.h"
#include "runtime/machine.h"

enum chaos {
	CHAOS_TINY_CACHE = 1, CHAOS_ONE_INSTRUCTION = 2, CHAOS_FEW_WINDOWS = 4, CHAOS_NO_CHAIN = 8,
	CHAOS_ALL_SOFT = 16, CHAOS_ALL_DIRECT = 32, CHAOS_KICKS = 64, CHAOS_CHECK = 128, CHAOS_FENCE = 256,
};

enum command { COMMAND_RUN, COMMAND_CHECK, COMMAND_HELP, COMMAND_VERSION, COMMAND_CLASSIFY, COMMAND_TRANSLATE };
enum color { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

/* classify and translate. */
struct inspect_options {
	const char *file, *bytes; /* one of them */
	bool raw;             /* bare code of so many bits at `base` */
	bool has_base, has_bits;
	uint32_t base;
	unsigned bits;
	bool all;
	bool summary, json;   /* classify */
	const char *only;
	const char *symbols;  /* files with more names of the code */
	const char *at;       /* translate: an address or a symbol; NULL: the entry point */
	uint32_t count;       /* blocks; 0: as many as make sense */
	bool soft, basic_blocks, has_mode;
	unsigned cpl;
	uint32_t mode;
	enum color color;
};

struct options {
	enum command command;
	const char *kernel;
	const char *initrd[16];
	unsigned initrd_count;
	const char *append;
	uint64_t memory;      /* bytes */
	enum serial_kind serial;
	const char *serial_file;
	uint64_t features;    /* FEATURE_BITs of base/features.h */
	bool no_reboot;
	bool debug_exit;
	uint16_t debug_exit_port;
	bool testdev;
	uint32_t timeout;
	bool stats, stats_json;
	const char *log;
	uint64_t tc_size;
	unsigned chaos;       /* enum chaos */
	bool no_sandbox;      /* --sandbox=off */
	bool verify;          /* --verify: run each block again in the reference; only in builds with it */
	const char *dump;     /* --dump=FILE: guest and host code of each block as it is translated */
	const char *symbols;  /* --symbols=FILE,...: names of guest code */
	bool perf_map, jitdump;
	const char *profile;  /* --profile=FILE: a flame graph */
	struct inspect_options inspect;
	const char *forms;    /* --forms=FILE: which instruction forms were translated, and how often */
};

/* Exit codes, as the man page documents them. */
enum exit_code {
	EXIT_OK = 0, EXIT_USAGE = 2, EXIT_TRIPLE_FAULT = 4, EXIT_HOST_FAILURE = 6, EXIT_TIMED_OUT = 8,
};

/* Parse argv. Returns 0, or EXIT_USAGE with one sentence in `why`. */
int options_parse(struct options *o, int argc, char **argv, char *why, size_t why_size);
void options_print_help(void);
/* A whole number, decimal or 0x. False if it is none or above `max`. */
bool options_number(const char *text, uint64_t max, uint64_t *value);

/* `bt-vmm check`, and what `run` needs before it starts: prints a line for each requirement if `verbose`; else only fills `why` with the first one missing. Returns 0 or EXIT_USAGE. */
int host_check(bool verbose, uint64_t memory, char *why, size_t why_size);

#endif
