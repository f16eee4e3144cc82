/* The command line. */
#ifndef RUNTIME_OPTIONS_H
#define RUNTIME_OPTIONS_H

#include "base/types.h"
#include "runtime/machine.h"

enum chaos {
	CHAOS_TINY_CACHE = 1, CHAOS_ONE_INSTRUCTION = 2, CHAOS_FEW_WINDOWS = 4, CHAOS_NO_CHAIN = 8,
	CHAOS_ALL_SOFT = 16, CHAOS_ALL_DIRECT = 32, CHAOS_KICKS = 64, CHAOS_CHECK = 128, CHAOS_FENCE = 256,
};

enum command { COMMAND_RUN, COMMAND_CHECK, COMMAND_HELP, COMMAND_VERSION };

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
	bool verify;          /* --verify: run each block again in the reference; only in builds with it */
	const char *dump;     /* --dump=FILE: guest and host code of each block as it is translated */
	const char *forms;    /* --forms=FILE: which instruction forms were translated, and how often */
};

/* Exit codes, as the man page documents them. */
enum exit_code {
	EXIT_OK = 0, EXIT_USAGE = 2, EXIT_TRIPLE_FAULT = 4, EXIT_HOST_FAILURE = 6, EXIT_TIMED_OUT = 8,
};

/* Parse argv. Returns 0, or EXIT_USAGE with one sentence in `why`. */
int options_parse(struct options *o, int argc, char **argv, char *why, size_t why_size);
void options_print_help(void);

/* `bt-vmm check`, and what `run` needs before it starts: prints a line for each requirement if `verbose`; else only fills `why` with the first one missing. Returns 0 or EXIT_USAGE. */
int host_check(bool verbose, uint64_t memory, char *why, size_t why_size);

#endif
