/* --profile: where the guest's time goes, by the monitor's own sampling. A timer's signal notes what runs; the sample is taken at the next
 * instruction boundary, where the guest's state is whole, and lands in a tree of calls that becomes a flame graph. */
#ifndef RUNTIME_PROFILE_H
#define RUNTIME_PROFILE_H

#include <stdio.h>
#include <ucontext.h>

#include "base/types.h"

struct runtime;
struct profile;

/* NULL without memory. The picture goes to `out`, which profile_destroy closes. */
struct profile *profile_create(FILE *out);
/* Draw it. False if the file could not be written whole. */
bool profile_destroy(struct profile *p);

/* In the signal's handler: note what runs with these registers of the host; `fault` says that a host fault is about to be answered. False if
 * the guest is halted, and need not be disturbed. */
bool profile_note(struct runtime *r, const greg_t *regs, bool fault);
/* At an instruction boundary: take the sample that was noted. */
void profile_take(struct runtime *r);

/* profile_stack.c: the guest's calls. */
struct profile_state {
	uint32_t eip, esp, ebp;
	uint32_t cs_base, ss_base;
	uint32_t mode, cr3; /* MODE_* */
};
struct profile_frame {
	gva_t gva;   /* the instruction that runs, or the call that has not returned */
	gva_t entry; /* of the function, if a direct call led there; else 0 */
};
#define PROFILE_FRAMES 128u
/* Innermost first; at least one. */
unsigned profile_walk(struct runtime *r, const struct profile_state *s, struct profile_frame frames[PROFILE_FRAMES]);

#endif
