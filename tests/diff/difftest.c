/* The driver. Prints TAP: one line a form, one for blocks. */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/x86.h"
#include "diff.h"
#include "reference.h"
#include "runtime/options.h"

#define BLOCK_LINE "blocks"
#define RANDOM_LINE "random"
#define ENDLESS_SECONDS 20
#define MAX_FINDINGS 20u

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
};

/* Cases, one after the other; false where there are no more. */
struct source {
	bool (*make)(struct source *s, struct diff_case *c, uint64_t *seed);
	uint32_t form;
	uint64_t seed, at, end;
	uint64_t failed;        /* the seed of the case that differed */
	uint32_t for_reference; /* how many of them Unicorn is asked about */
};

static const struct diff_case *running; /* in the monitor */

static void on_endless(int number)
{
	(void)number;
	printf("Bail out! bt-vmm does not end a case that the processor ended:\n# ");
	if (running)
		diff_print_case(stdout, running);
	fflush(stdout);
	_exit(1);
}

static bool run_monitor(struct driver *d, const struct diff_case *c, struct diff_result *r)
{
	running = c;
	return monitor_run(d->monitor, c, r);
}

/* What the processor's side cannot say: no end, a system call, or data that it would not execute. */
static bool is_unusable(const struct diff_result *theirs)
{
	return theirs->out.vector >= NATIVE_ENDLESS;
}

static void run_native(struct driver *d, uint32_t count)
{
	if (native_run(d->native, count))
		return;
	printf("Bail out! the process that runs the instructions on the processor is gone\n");
	exit(1);
}

static bool alike(const struct diff_case *c, const struct diff_result *ours, const struct diff_result *theirs)
{
	return diff_equal(c, ours, theirs) || diff_is_unspecified(c, ours, theirs);
}

static bool fails(void *ctx, const struct diff_case *c)
{
	static struct diff_result ours;
	struct driver *d = ctx;

	native_cases(d->native)[0] = *c;
	run_native(d, 1);
	const struct diff_result *theirs = &native_results(d->native)[0];
	return !is_unusable(theirs) && !(run_monitor(d, c, &ours) && alike(c, &ours, theirs));
}

static void print_finding(struct driver *d, const struct diff_case *c, uint64_t seed)
{
	static struct diff_result ours;
	static struct diff_case smallest;

	smallest = *c;
	printf("# finding: %s, seed %llu: bt-vmm differs from the processor\n", diff_form_name(c->form), (unsigned long long)seed);
	if (!fails(d, &smallest)) {
		printf("# it does not show when the case runs alone: what ran before it matters\n# as found: ");
		diff_print_case(stdout, c);
		putchar('\n');
		return;
	}
	if (d->minimise)
		diff_minimise(&smallest, fails, d);
	fails(d, &smallest);
	run_monitor(d, &smallest, &ours);
	diff_print_difference(stdout, &smallest, &ours, "processor", &native_results(d->native)[0]);
	printf("# replay: tools/difftest --replay '");
	diff_print_case(stdout, &smallest);
	puts("'");
}

#ifdef HAVE_UNICORN
/* Where the manual leaves nothing open but what undefined.c knows. Unicorn has no limits and no types of segments, no alignment checks, and traps
 * by flags only roughly. */
static bool suits_reference(const struct diff_case *c, const struct diff_result *ours)
{
	uint32_t vector = ours->out.vector;

	return c->defined && diff_is_flat(&c->in) && !(c->in.eflags & (EFL_TF | EFL_AC)) && vector != VEC_SS && vector != VEC_GP &&
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

static bool start_reference(struct driver *d)
{
	d->reference = d->unicorn ? reference_create(native_maps_zero(d->native)) : NULL;
	return d->reference || !d->unicorn;
}

static void end_reference(struct driver *d)
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

static bool start_reference(struct driver *d)
{
	(void)d;
	puts("# built without libunicorn: bt-vmm and the processor alone");
	return true;
}

static void end_reference(struct driver *d)
{
	(void)d;
}
#endif

/* The kernel may refuse some descriptors: those cases are flat. */
static void fit_host(const struct driver *d, struct diff_case *c)
{
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) {
		if ((c->in.seg[i] & 7) == 7 && !native_has_segment(d->native, c->in.seg[i] >> 3))
			c->in.seg[i] = i == SEG_CS ? CODE3 : DATA3;
	}
}

static bool judge(struct driver *d, struct source *s, const struct diff_case *c, const struct diff_result *theirs, uint64_t seed)
{
	static struct diff_result ours;

	d->total++;
	if (is_unusable(theirs)) {
		d->skipped++;
		return true;
	}
	bool ran = run_monitor(d, c, &ours), same = ran && diff_equal(c, &ours, theirs);
	if (!same && !(ran && diff_is_unspecified(c, &ours, theirs))) {
		static struct diff_case found; /* the batch is overwritten */
		found = *c;
		print_finding(d, &found, seed);
		return false;
	}
	if (!same || !d->reference || !s->for_reference || !suits_reference(c, &ours))
		return true;
	s->for_reference--;
	return run_reference(d, c, &ours, seed);
}

/* All of a source's; false at the first that differs. */
static bool run_source(struct driver *d, struct source *s)
{
	struct diff_case *cases = native_cases(d->native);
	uint64_t seeds[NATIVE_BATCH];
	uint32_t count;

	do {
		for (count = 0; count < NATIVE_BATCH && s->make(s, &cases[count], &seeds[count]); count++) fit_host(d, &cases[count]);
		if (count)
			run_native(d, count);
		alarm(ENDLESS_SECONDS);
		for (uint32_t i = 0; i < count; i++) {
			s->failed = seeds[i];
			if (!judge(d, s, &cases[i], &native_results(d->native)[i], seeds[i]))
				return false;
		}
	} while (count == NATIVE_BATCH);
	return true;
}

static bool make_form(struct source *s, struct diff_case *c, uint64_t *seed)
{
	if (s->at == s->end)
		return false;
	*seed = s->seed + s->at++;
	diff_make(c, s->form, *seed);
	return true;
}

static bool make_shape(struct source *s, struct diff_case *c, uint64_t *seed)
{
	while (s->at < s->end) {
		*seed = s->seed;
		if (diff_make_shape(c, s->form, (uint32_t)s->at++, s->seed))
			return true;
	}
	return false;
}

static bool make_block(struct source *s, struct diff_case *c, uint64_t *seed)
{
	if (s->at == s->end)
		return false;
	*seed = s->seed + s->at++;
	diff_make_block(c, *seed);
	return true;
}

static bool make_random(struct source *s, struct diff_case *c, uint64_t *seed)
{
	if (s->at == s->end)
		return false;
	*seed = s->at++;
	diff_make_random(c, *seed);
	return true;
}

static bool run_form(struct driver *d, uint32_t form)
{
	struct source random = {.make = make_form, .form = form, .seed = d->seed, .end = d->cases, .for_reference = d->unicorn};
	struct source shapes = {.make = make_shape, .form = form, .seed = d->seed, .end = d->shapes ? diff_shape_count(form) : 0, .for_reference = d->unicorn};

	return run_source(d, &random) && run_source(d, &shapes);
}

static void report(struct driver *d, uint32_t line, bool good, const char *name)
{
	printf("%s %u - %s\n", good ? "ok" : "not ok", line, name);
	fflush(stdout);
	d->failed += !good;
}

static bool is_chosen(const struct driver *d, const char *name)
{
	return !d->form || !strcmp(d->form, name);
}

static int run_all(struct driver *d)
{
	struct source blocks = {.make = make_block, .seed = d->seed, .end = d->blocks};
	uint32_t line = 0;

	for (uint32_t form = 0; form < diff_form_count(); form++) {
		if (is_chosen(d, diff_form_name(form)))
			report(d, ++line, run_form(d, form), diff_form_name(form));
	}
	if (d->blocks && is_chosen(d, BLOCK_LINE))
		report(d, ++line, run_source(d, &blocks), BLOCK_LINE);
	printf("1..%u\n# seed %llu, %llu cases, %llu of them without an answer of the processor's, %u lines failed\n", line,
	       (unsigned long long)d->seed, (unsigned long long)d->total, (unsigned long long)d->skipped, d->failed);
	return d->failed != 0;
}

/* Seeds one after the other, past what differs. The last line is for tools/difftest. */
static int run_random(struct driver *d, const char *range)
{
	struct source s = {.make = make_random};
	unsigned long long first, count;

	if (sscanf(range, "%llu:%llu", &first, &count) != 2)
		return 2;
	s.at = first;
	s.end = first + count;
	for (; d->findings < MAX_FINDINGS && !run_source(d, &s); d->findings++) s.at = s.failed + 1;
	printf("random %llu:%llu cases %llu skipped %llu findings %u\n", first, count, (unsigned long long)d->total, (unsigned long long)d->skipped,
	       d->findings);
	return d->findings != 0;
}

static int replay(struct driver *d, const char *text)
{
	static struct diff_case c;

	if (!diff_parse_case(&c, text)) {
		fprintf(stderr, "difftest: '%s' is not a case: give the words behind 'replay:'\n", text);
		return 2;
	}
	fit_host(d, &c);
	d->minimise = false;
	if (!fails(d, &c)) {
		puts(is_unusable(&native_results(d->native)[0]) ? "# the processor gives no answer" : "# bt-vmm and the processor agree");
		return 0;
	}
	print_finding(d, &c, 0);
	return 1;
}

/* What was found once: a case a line, '#' before a comment. */
static int run_list(struct driver *d, const char *name)
{
	static struct diff_case c;
	FILE *in = fopen(name, "r");
	char *text = NULL;
	size_t size = 0;
	uint32_t line = 0;

	if (!in) {
		perror(name);
		return 2;
	}
	while (getline(&text, &size, in) > 0) {
		if (*text == '#' || *text == '\n')
			continue;
		bool known = diff_parse_case(&c, text);
		fit_host(d, &c);
		bool good = known && !fails(d, &c);
		if (known && !good)
			print_finding(d, &c, 0);
		report(d, ++line, good, known ? diff_form_name(c.form) : "a line that is no case");
	}
	free(text);
	fclose(in);
	printf("1..%u\n", line);
	return d->failed != 0;
}

static const char usage[] =
	"usage: difftest [options]\n"
	"  --seed N --cases N        random cases a form\n"
	"  --no-shapes               without the systematic cases\n"
	"  --blocks N                random blocks\n"
	"  --unicorn N               of a form's cases, for Unicorn as well\n"
	"  --form NAME               one form alone\n"
	"  --random FIRST:COUNT      seeds one after the other, forms and blocks, past what differs\n"
	"  --replay CASE             one case, as a finding prints it\n"
	"  --regressions FILE        such cases, one a line\n"
	"  --chaos all-soft|all-direct|one-instruction\n"
	"  --plant HEX               a wrong result where a case's code has these bytes: a test of the test\n"
	"  --covers FILE             are the forms of a list that bt-vmm --forms wrote all tested?\n"
	"  --list                    the names of the forms\n";

struct work {
	const char *random, *replay, *regressions;
};

static unsigned chaos_of(const char *name)
{
	if (!strcmp(name, "all-soft"))
		return CHAOS_ALL_SOFT;
	return !strcmp(name, "one-instruction") ? CHAOS_ONE_INSTRUCTION : CHAOS_ALL_DIRECT;
}

static void list_forms(void)
{
	for (uint32_t form = 0; form < diff_form_count(); form++) puts(diff_form_name(form));
	exit(0);
}

static bool parse(struct driver *d, struct work *w, int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", 1, NULL, 's'}, {"cases", 1, NULL, 'c'}, {"no-shapes", 0, NULL, 'S'}, {"blocks", 1, NULL, 'b'}, {"unicorn", 1, NULL, 'u'},
		{"form", 1, NULL, 'f'}, {"random", 1, NULL, 'r'}, {"replay", 1, NULL, 'R'}, {"regressions", 1, NULL, 'g'}, {"chaos", 1, NULL, 'C'},
		{"plant", 1, NULL, 'p'}, {"covers", 1, NULL, 'v'}, {"list", 0, NULL, 'l'}, {NULL, 0, NULL, 0},
	};

	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (option) {
		case 's': d->seed = strtoull(optarg, NULL, 0); break;
		case 'c': d->cases = (uint32_t)strtoul(optarg, NULL, 0); break;
		case 'S': d->shapes = false; break;
		case 'b': d->blocks = (uint32_t)strtoul(optarg, NULL, 0); break;
		case 'u': d->unicorn = (uint32_t)strtoul(optarg, NULL, 0); break;
		case 'f': d->form = optarg; break;
		case 'r': w->random = optarg; break;
		case 'R': w->replay = optarg; break;
		case 'g': w->regressions = optarg; break;
		case 'C': d->chaos = chaos_of(optarg); break;
		case 'p': d->plant = optarg; break;
		case 'v': exit(diff_check_cover(optarg));
		case 'l': list_forms(); break;
		default: return false;
		}
	}
	return optind == argc;
}

static bool start(struct driver *d)
{
	char why[1024];

	d->native = native_start();
	if (!d->native) {
		fprintf(stderr, "difftest: the process for the processor's side cannot be started\n");
		return false;
	}
	d->monitor = monitor_create(d->chaos, native_maps_zero(d->native), why, sizeof(why));
	if (!d->monitor) {
		fprintf(stderr, "difftest: %s\n", why);
		return false;
	}
	if (d->plant && !monitor_plant(d->monitor, d->plant)) {
		fprintf(stderr, "difftest: --plant '%s' is not one to four bytes in hexadecimal\n", d->plant);
		return false;
	}
	if (!start_reference(d)) {
		fprintf(stderr, "difftest: Unicorn cannot be set up\n");
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct driver d = {.seed = 1, .cases = 200, .blocks = 150000, .unicorn = 40, .shapes = true, .minimise = true};
	struct work w = {0};
	int code;

	if (!parse(&d, &w, argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	signal(SIGALRM, on_endless);
	if (w.random || w.replay || w.regressions)
		d.unicorn = 0;
	if (!start(&d))
		return 1;
	if (w.replay)
		code = replay(&d, w.replay);
	else if (w.regressions)
		code = run_list(&d, w.regressions);
	else
		code = w.random ? run_random(&d, w.random) : run_all(&d);
	alarm(0);
	end_reference(&d);
	monitor_destroy(d.monitor);
	native_stop(d.native);
	return code;
}
