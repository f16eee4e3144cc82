/* Cases through the engines, and what is to be thought of the results. */
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/x86.h"
#include "driver.h"

#define ENDLESS_SECONDS 20 /* of processor time: the machine may have other things to do */

static const struct diff_case *running; /* in the monitor */

void driver_watch(bool on)
{
	struct itimerval patience = {.it_value.tv_sec = on ? ENDLESS_SECONDS : 0};

	setitimer(ITIMER_VIRTUAL, &patience, NULL);
}

void driver_on_endless(int number)
{
	(void)number;
	printf("Bail out! bt-vmm does not end a case that the processor ended:\n# ");
	if (running)
		diff_print_case(stdout, running);
	fflush(stdout);
	_exit(1);
}

/* In real mode the exception at the end leaves its frame below the stack pointer, which is what EIP and EFLAGS were read from. */
static void hide_frame(const struct diff_case *c, struct diff_result *ours, const struct diff_result *theirs)
{
	uint32_t base = diff_segment(ours->out.seg[SEG_SS])->base;

	for (uint32_t i = 1; i <= 6 && c->kind == KIND_REAL; i++) {
		uint32_t at = base + ((ours->out.gpr[ESP] - i) & 0xFFFF) - DATA_BASE;
		if (at < DATA_SIZE)
			ours->data[at] = theirs->data[at];
	}
}

static bool run_monitor(struct driver *d, const struct diff_case *c, struct diff_result *r, const struct diff_result *theirs)
{
	running = c;
	if (!monitor_run(d->monitor, c, r))
		return false;
	hide_frame(c, r, theirs);
	return true;
}

/* What the processor's side cannot say: no end, a system call, data that it would not execute, or another mode. */
bool driver_is_unusable(const struct diff_result *theirs)
{
	return theirs->out.vector >= NATIVE_ENDLESS;
}

static void run_native(struct driver *d, uint32_t count)
{
	if (!native_run(d->native, count)) {
		printf("Bail out! the process that runs the instructions on the processor is gone\n");
		exit(1);
	}
	for (uint32_t i = 0; i < count; i++) diff_translate_answer(&native_cases(d->native)[i], &native_results(d->native)[i]);
}

static bool alike(const struct diff_case *c, const struct diff_result *ours, const struct diff_result *theirs)
{
	return diff_equal(c, ours, theirs) || diff_is_unspecified(c, ours, theirs);
}

bool driver_fails(struct driver *d, const struct diff_case *c, struct diff_result *ours)
{
	native_cases(d->native)[0] = *c;
	driver_watch(true);
	run_native(d, 1);
	return !driver_is_unusable(driver_theirs(d)) && !(run_monitor(d, c, ours, driver_theirs(d)) && alike(c, ours, driver_theirs(d)));
}

const struct diff_result *driver_theirs(const struct driver *d)
{
	return &native_results(d->native)[0];
}

#ifdef HAVE_UNICORN
/* Where the manual leaves nothing open but what undefined.c knows. Unicorn has no limits and no types of segments, no alignment checks, no raised
 * x87 and SSE exceptions, and traps by flags only roughly. */
static bool suits_reference(const struct diff_case *c, const struct diff_result *ours)
{
	uint32_t vector = ours->out.vector;
	bool masked = !c->fpu || ((c->in.fcw & X87_MASKS) == X87_MASKS && (c->in.mxcsr & MXCSR_MASKS) == MXCSR_MASKS);

	return c->defined && (c->kind == KIND_REAL || diff_is_flat(&c->in)) && masked && !(c->in.eflags & (EFL_TF | EFL_AC)) && vector != VEC_SS && vector != VEC_GP &&
	       vector != VEC_PF && vector != VEC_AC;
}

/* A case that bt-vmm and the processor ran alike, in Unicorn: what it does otherwise is an error of its own, and must be on the list. */
static bool run_reference(struct driver *d, const struct diff_case *c, const struct diff_result *ours, uint64_t seed)
{
	static struct diff_result theirs;
	const char *name = diff_form_name(c->form);

	d->unicorn_total++;
	if (!reference_run(d->reference, c, &theirs))
		theirs.out.vector = UINT32_MAX;
	unsigned parts = diff_parts(c, ours, &theirs);
	d->unicorn_wrong += parts != 0;
	/* It reads more than the instruction needs, at the end of the data. */
	if (theirs.out.vector == VEC_PF)
		return true;
	unsigned unexplained = unicorn_unexplained(name, parts);
	if (!unexplained)
		return true;
	printf("# %s, seed %llu: Unicorn differs\n", name, (unsigned long long)seed);
	diff_print_difference(stdout, c, ours, "Unicorn", &theirs);
	printf("# the processor agrees with bt-vmm, and it is not on the list of Unicorn's errors: ");
	diff_print_parts(stdout, unexplained);
	putchar('\n');
	return false;
}

bool driver_start_reference(struct driver *d)
{
	d->reference = d->unicorn ? reference_create(native_maps_zero(d->native)) : NULL;
	return d->reference || !d->unicorn;
}

void driver_end_reference(struct driver *d)
{
	if (!d->reference)
		return;
	printf("# Unicorn: %llu cases, wrong in %llu of them\n", (unsigned long long)d->unicorn_total, (unsigned long long)d->unicorn_wrong);
	if (!d->form)
		unicorn_print_unseen(stdout);
	reference_destroy(d->reference);
}
#else
static bool suits_reference(const struct diff_case *c, const struct diff_result *ours)
{
	(void)c, (void)ours;
	return false;
}

static bool run_reference(struct driver *d, const struct diff_case *c, const struct diff_result *ours, uint64_t seed)
{
	(void)d, (void)c, (void)ours, (void)seed;
	return true;
}

bool driver_start_reference(struct driver *d)
{
	(void)d;
	puts("# built without libunicorn: bt-vmm and the processor alone");
	return true;
}

void driver_end_reference(struct driver *d)
{
	(void)d;
}
#endif

/* The kernel may refuse some descriptors: those cases are flat. Where it sets none at all, other modes end at once, by a fault that says nothing. */
void driver_fit_host(const struct driver *d, struct diff_case *c)
{
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) {
		if ((c->in.seg[i] & 7) == 7 && c->kind == KIND_PROTECTED && !native_has_segment(d->native, c->in.seg[i]))
			c->in.seg[i] = i == SEG_CS ? CODE3 : DATA3;
	}
}

static bool judge(struct driver *d, struct source *s, const struct diff_case *c, const struct diff_result *theirs, uint64_t seed)
{
	static struct diff_result ours;

	d->total++;
	if (driver_is_unusable(theirs)) {
		d->skipped++;
		return true;
	}
	d->vectors[theirs->out.vector % 32]++;
	bool ran = run_monitor(d, c, &ours, theirs), same = ran && diff_equal(c, &ours, theirs);
	if (!same && !(ran && diff_is_unspecified(c, &ours, theirs))) {
		static struct diff_case found; /* the batch is overwritten */
		static struct diff_result found_theirs;
		found = *c;
		found_theirs = *theirs;
		driver_print_finding(d, &found, seed, ran ? &ours : NULL, &found_theirs);
		return false;
	}
	if (!same || !d->reference || !s->for_reference || !suits_reference(c, &ours))
		return true;
	s->for_reference--;
	return run_reference(d, c, &ours, seed);
}

/* All of a source's; false at the first that differs. */
bool driver_run(struct driver *d, struct source *s)
{
	struct diff_case *cases = native_cases(d->native);
	uint64_t seeds[NATIVE_BATCH];
	uint32_t count;

	do {
		for (count = 0; count < NATIVE_BATCH && s->make(s, &cases[count], &seeds[count]); count++) driver_fit_host(d, &cases[count]);
		if (count)
			run_native(d, count);
		driver_watch(true);
		for (uint32_t i = 0; i < count; i++) {
			s->failed = seeds[i];
			if (!judge(d, s, &cases[i], &native_results(d->native)[i], seeds[i]))
				return false;
		}
	} while (count == NATIVE_BATCH);
	return true;
}

void driver_print_vectors(const struct driver *d)
{
	printf("# cases by the exception that ended them:");
	for (unsigned i = 0; i < 32; i++) {
		if (d->vectors[i])
			printf(" %u: %llu", i, (unsigned long long)d->vectors[i]);
	}
	putchar('\n');
}
