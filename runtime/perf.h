/* Translated code for Linux' perf: a map of symbols in /tmp (--perf-map), and the code itself in a dump (--jitdump). */
#ifndef RUNTIME_PERF_H
#define RUNTIME_PERF_H

#include <stddef.h>

#include "cache/cache.h"

struct perf;

struct perf_config {
	bool map, jitdump;
	host_pc_t from, to; /* where code memory is */
};

/* 0 or a negative errno with a sentence in why; perf_destroy in any case. Before the sandbox: files are opened here. */
int perf_create(struct perf **out, const struct perf_config *config, char *why, size_t why_size);
/* A block was emitted. */
void perf_add(struct perf *p, const struct block *b, const char *name);
/* Write what is left. False if the files could not be written whole. */
bool perf_destroy(struct perf *p);

#endif
