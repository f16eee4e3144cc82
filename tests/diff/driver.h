/* The driver's own: cases from a source, through the engines, to a judgement. Private to difftest.c, judge.c and finding.c. */
#ifndef TESTS_DIFF_DRIVER_H
#define TESTS_DIFF_DRIVER_H

#include "diff.h"
#include "reference.h"

struct driver {
	struct native *native;
	struct monitor *monitor;
	struct reference *reference; /* NULL: without Unicorn */
	uint64_t seed;
	uint32_t cases, blocks, unicorn; /* a form; all; of a form's cases */
	bool shapes, minimise;
	const char *form, *plant;
	unsigned chaos;
	uint32_t failed, findings;
	uint64_t total, skipped, unicorn_total, unicorn_wrong;
	uint64_t vectors[32]; /* how the cases ended */
};

/* Cases, one after the other; false where there are no more. */
struct source {
	bool (*make)(struct source *s, struct diff_case *c, uint64_t *seed);
	uint32_t form;
	enum diff_kind kind;
	uint64_t seed, at, end;
	uint64_t failed;        /* the seed of the case that differed */
	uint32_t for_reference; /* how many of them Unicorn is asked about */
};

/* judge.c */
void driver_on_endless(int number);
/* A case may take so much, from now on; or as long as it likes. */
void driver_watch(bool on);
bool driver_start_reference(struct driver *d);
void driver_end_reference(struct driver *d);
/* A comment: how many cases ended by which exception. */
void driver_print_vectors(const struct driver *d);
/* Descriptors that the kernel refuses: those cases are flat. */
void driver_fit_host(const struct driver *d, struct diff_case *c);
/* Does bt-vmm differ from the processor in this case? The engines have run it then. */
bool driver_fails(struct driver *d, const struct diff_case *c, struct diff_result *ours);
const struct diff_result *driver_theirs(const struct driver *d);
/* No answer of the processor's: no end, a system call, or data that it would not execute. */
bool driver_is_unusable(const struct diff_result *theirs);
/* All of a source's; false at the first that differs. */
bool driver_run(struct driver *d, struct source *s);

/* finding.c: made small, and how to run it again. Where it does not show alone, how it was first, which may be NULL. */
void driver_print_finding(struct driver *d, const struct diff_case *c, uint64_t seed, const struct diff_result *first, const struct diff_result *theirs);

#endif
