/* Compares bt-vmm with Unicorn, less what the manual leaves undefined and what is on the list of Unicorn's errors. */
#include "reference.h"

#include <string.h>

#define FLAGS_OF_UNICORN 0xCD5u
#define FSW_EXCEPTIONS 0x80FFu /* B and ES follow them */
#define FSW_STACK_FAULT 0x40u
#define FSW_CONDITIONS 0x4700u
#define FSW_TOP 0x3800u
#define MAX_ERRORS 1024u

static bool seen[MAX_ERRORS];

/* By number of the physical register, since TOP is compared by itself. */
static unsigned register_parts(const struct diff_state *a, const struct diff_state *b)
{
	unsigned parts = 0;

	for (unsigned i = 0; i < 8; i++) {
		const uint8_t *x = a->st[(i - (a->fsw >> 11)) & 7], *y = b->st[(i - (b->fsw >> 11)) & 7];
		if (memcmp(x, y, 8))
			parts |= PART_X87;
		if (memcmp(x + 8, y + 8, 2))
			parts |= x[8] == 0xFF && x[9] == 0xFF ? PART_UPPER : PART_X87;
	}
	return parts;
}

static unsigned fpu_parts(const struct diff_state *a, const struct diff_state *b)
{
	unsigned parts = memcmp(a->xmm, b->xmm, sizeof(a->xmm)) ? PART_XMM : 0;

	if (a->mxcsr != b->mxcsr)
		parts |= PART_MXCSR;
	if (a->fcw != b->fcw || a->ftw != b->ftw)
		parts |= PART_X87;
	if ((a->fsw ^ b->fsw) & FSW_CONDITIONS)
		parts |= PART_CONDITIONS;
	if ((a->fsw ^ b->fsw) & FSW_TOP)
		parts |= PART_TOP;
	if ((a->fsw ^ b->fsw) & FSW_EXCEPTIONS)
		parts |= PART_STATUS;
	return parts | register_parts(a, b);
}

unsigned diff_parts(const struct diff_case *c, const struct diff_result *ours, const struct diff_result *theirs)
{
	const struct diff_state *a = &ours->out, *b = &theirs->out;
	unsigned parts = 0;

	if (a->vector != b->vector || a->eip != b->eip)
		return PART_EXCEPTION;
	if (c->fpu && ((a->fsw ^ b->fsw) & FSW_STACK_FAULT))
		return PART_STACK;
	if (memcmp(a->gpr, b->gpr, sizeof(a->gpr)))
		parts |= PART_GPR;
	if ((a->eflags ^ b->eflags) & FLAGS_OF_UNICORN & ~diff_undefined_flags(c))
		parts |= PART_EFLAGS;
	if (memcmp(a->seg, b->seg, sizeof(a->seg)))
		parts |= PART_SEGMENTS;
	if (memcmp(ours->data, theirs->data, DATA_SIZE))
		parts |= PART_MEMORY;
	return parts | (c->fpu ? fpu_parts(a, b) : 0);
}

void diff_print_parts(FILE *out, unsigned parts)
{
	static const char *const names[] = {"exception", "registers", "eflags", "memory", "xmm", "x87", "x87 status", "mxcsr", "x87 stack", "x87 conditions",
					    "x87 top", "mmx upper", "segments"};
	const char *between = "";

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!(parts >> i & 1))
			continue;
		fprintf(out, "%s%s", between, names[i]);
		between = ", ";
	}
}

static bool matches(const char *pattern, const char *form)
{
	size_t length = strlen(pattern);

	return pattern[length - 1] == '*' ? !strncmp(pattern, form, length - 1) : !strcmp(pattern, form);
}

unsigned unicorn_unexplained(const char *form, unsigned parts)
{
	unsigned explained = 0;

	for (unsigned i = 0; i < unicorn_error_count && i < MAX_ERRORS; i++) {
		if (!(parts & unicorn_errors[i].parts) || !matches(unicorn_errors[i].form, form))
			continue;
		seen[i] = true;
		explained |= unicorn_errors[i].parts;
	}
	return parts & ~explained;
}

bool unicorn_errs(const char *form)
{
	for (unsigned i = 0; i < unicorn_error_count; i++) {
		if (matches(unicorn_errors[i].form, form))
			return true;
	}
	return false;
}

void unicorn_print_unseen(FILE *out)
{
	for (unsigned i = 0; i < unicorn_error_count && i < MAX_ERRORS; i++) {
		if (!seen[i])
			fprintf(out, "# on the list of Unicorn's errors, but no difference now: %s\n", unicorn_errors[i].form);
	}
}
