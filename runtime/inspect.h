/* The commands that look at a binary without running it. */
#ifndef RUNTIME_INSPECT_H
#define RUNTIME_INSPECT_H

#include <stdio.h>

#include "runtime/options.h"

/* bt-vmm classify, bt-vmm translate. Return 0, or EXIT_USAGE with one sentence in `why`. */
int inspect_classify(const struct inspect_options *o, FILE *out, char *why, size_t why_size);
int inspect_translate(const struct inspect_options *o, FILE *out, char *why, size_t why_size);
/* What classify prints of a binary that was read. */
struct binary;
void inspect_sweep(const struct binary *b, const struct inspect_options *o, FILE *out);

#endif
