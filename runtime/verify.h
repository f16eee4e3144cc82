/* --verify: every block run again in a reference processor (Unicorn), from our own state before it. */
#ifndef RUNTIME_VERIFY_H
#define RUNTIME_VERIFY_H

#include "runtime/runtime.h"

struct verify;

/* Make the reference and install it as the runtime's observer; call after runtime_create, before runtime_run. The reference runs first, on the
 * guest's own RAM, and is rolled back; then our block runs, and registers, flags that the manual defines, and the memory that the reference
 * wrote are compared. It stops before instructions that only the monitor can do (I/O, control registers, gates); what those change is not
 * compared. Blocks that run very often are compared now and again only. At the first difference a report goes to `report` and the run ends with RUNTIME_OBSERVER. Returns 0 or a negative errno. */
int verify_create(struct verify **out, struct runtime *r, FILE *report, char *why, size_t why_size);
void verify_destroy(struct verify *v);

bool verify_failed(const struct verify *v);
/* One line: blocks compared, compared in part, not comparable. */
void verify_print_summary(const struct verify *v, FILE *out);

#endif
