/* A finding: the case made as small as it goes, what differs, and how to run it again. */
#include "base/x86.h"
#include "driver.h"

/* What a smaller case must still do: differ, and reach its end in bt-vmm or the exception of the first one. Cut bytes may otherwise become another
 * instruction, one that this host has and bt-vmm does not show. */
struct kin {
	struct driver *d;
	uint32_t vector;
};

static bool still_fails(void *ctx, const struct diff_case *c)
{
	static struct diff_result ours;
	const struct kin *kin = ctx;

	return driver_fails(kin->d, c, &ours) && (ours.out.vector == kin->vector || ours.out.vector == VEC_BP);
}

void driver_print_finding(struct driver *d, const struct diff_case *c, uint64_t seed, const struct diff_result *first, const struct diff_result *theirs)
{
	static struct diff_result ours;
	static struct diff_case smallest;

	smallest = *c;
	fputs("# finding: ", stdout);
	if (seed)
		printf("seed %llu: ", (unsigned long long)seed);
	puts("bt-vmm differs from the processor");
	if (!driver_fails(d, &smallest, &ours)) {
		printf("# it does not show when the case runs alone: what ran before it matters\n# as found: ");
		diff_print_case(stdout, c);
		putchar('\n');
		if (first)
			diff_print_difference(stdout, c, first, "processor", theirs);
		return;
	}
	if (d->minimise)
		diff_minimise(&smallest, still_fails, &(struct kin){.d = d, .vector = ours.out.vector});
	driver_fails(d, &smallest, &ours);
	diff_print_difference(stdout, &smallest, &ours, "processor", driver_theirs(d));
	printf("# replay: tools/difftest --replay '");
	diff_print_case(stdout, &smallest);
	puts("'");
}
