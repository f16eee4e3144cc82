/* The third engine, Unicorn, and what is known of its errors. Builds without libunicorn have the second alone. */
#ifndef TESTS_DIFF_REFERENCE_H
#define TESTS_DIFF_REFERENCE_H

#include "diff.h"

/* reference.c. NULL if Unicorn cannot be set up. */
struct reference;
struct reference *reference_create(bool zero_mapped);
/* False if it came to no exception, not even the INT3 behind the code. The error code is not to be had. */
bool reference_run(struct reference *ref, const struct diff_case *c, struct diff_result *r);
void reference_destroy(struct reference *ref);

/* What of a result differs, a bit each. */
enum {
	PART_EXCEPTION = 1, /* vector and EIP; the rest is not looked at then */
	PART_GPR = 2,
	PART_EFLAGS = 4,
	PART_MEMORY = 8,
	PART_XMM = 16,
	PART_X87 = 32,      /* registers (x87 or MMX), tags, control word */
	PART_STATUS = 64,   /* exception flags of the x87 status word */
	PART_MXCSR = 128,
	PART_STACK = 256,      /* a stack fault; the rest is not looked at then */
	PART_CONDITIONS = 512, /* C0-C3 */
	PART_TOP = 1024,
	PART_UPPER = 2048,     /* the ones above an MMX register's 64 bits */
	PART_SEGMENTS = 4096,
};
unsigned diff_parts(const struct diff_case *c, const struct diff_result *ours, const struct diff_result *theirs);
void diff_print_parts(FILE *out, unsigned parts);

/* unicorn_errors.c: where Unicorn is wrong, and the processor agrees with bt-vmm. */
struct unicorn_error {
	const char *form; /* a '*' at the end: and all that begin so */
	unsigned parts;
	const char *why;
};
extern const struct unicorn_error unicorn_errors[];
extern const unsigned unicorn_error_count;

/* unicorn_check.c: the parts of a difference that no entry of the list explains. The entries that do are marked as seen. */
unsigned unicorn_unexplained(const char *form, unsigned parts);
/* Does it err in this form at all? */
bool unicorn_errs(const char *form);
/* Comments: the entries that showed no difference. */
void unicorn_print_unseen(FILE *out);

#endif
