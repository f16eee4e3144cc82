/* The driver's command. Prints TAP: one line a form, one for blocks. */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"
#include "runtime/options.h"

#define BLOCK_LINE "blocks"
#define MAX_FINDINGS 20u

static bool make_form(struct source *s, struct diff_case *c, uint64_t *seed)
{
	if (s->at == s->end)
		return false;
	*seed = s->seed + s->at++;
	diff_make(c, s->form, s->kind, *seed);
	return true;
}

static bool make_shape(struct source *s, struct diff_case *c, uint64_t *seed)
{
	while (s->at < s->end) {
		*seed = s->seed;
		if (diff_make_shape(c, s->form, (uint32_t)s->at++, s->kind, s->seed))
			return true;
	}
	return false;
}

static bool make_block(struct source *s, struct diff_case *c, uint64_t *seed)
{
	if (s->at == s->end)
		return false;
	*seed = s->seed + s->at++;
	diff_make_block(c, s->kind, *seed);
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

/* Of the modes without protection there is less to try: 16-bit code and six segments of 64 KiB, always. */
static uint32_t share(enum diff_kind kind, uint32_t cases)
{
	return kind == KIND_PROTECTED ? cases : cases / 4;
}

static bool run_form(struct driver *d, uint32_t form, enum diff_kind kind)
{
	struct source random = {.make = make_form, .form = form, .kind = kind, .seed = d->seed, .end = share(kind, d->cases), .for_reference = d->unicorn};
	struct source shapes = {.make = make_shape, .form = form, .kind = kind, .seed = d->seed, .end = d->shapes ? diff_shape_count(form) : 0,
				.for_reference = d->unicorn};

	return driver_run(d, &random) && driver_run(d, &shapes);
}

static bool run_blocks(struct driver *d, enum diff_kind kind)
{
	struct source blocks = {.make = make_block, .kind = kind, .seed = d->seed, .end = share(kind, d->blocks), .for_reference = d->unicorn * 500};

	return driver_run(d, &blocks);
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
	static const char *const modes[KIND_COUNT] = {"", ", real mode", ", virtual-8086 mode"};
	char name[96];
	uint32_t line = 0;

	for (enum diff_kind kind = 0; kind < KIND_COUNT; kind++) {
		for (uint32_t form = 0; form < diff_form_count(); form++) {
			snprintf(name, sizeof(name), "%s%s", diff_form_name(form), modes[kind]);
			if (is_chosen(d, diff_form_name(form)))
				report(d, ++line, run_form(d, form, kind), name);
		}
		snprintf(name, sizeof(name), "%s%s", BLOCK_LINE, modes[kind]);
		if (d->blocks && is_chosen(d, BLOCK_LINE))
			report(d, ++line, run_blocks(d, kind), name);
	}
	printf("1..%u\n# seed %llu, %llu cases, %llu of them without an answer of the processor's, %u lines failed\n", line,
	       (unsigned long long)d->seed, (unsigned long long)d->total, (unsigned long long)d->skipped, d->failed);
	driver_print_vectors(d);
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
	for (; d->findings < MAX_FINDINGS && !driver_run(d, &s); d->findings++) s.at = s.failed + 1;
	driver_print_vectors(d);
	printf("random %llu:%llu cases %llu skipped %llu findings %u\n", first, count, (unsigned long long)d->total, (unsigned long long)d->skipped,
	       d->findings);
	return d->findings != 0;
}

static int replay(struct driver *d, const char *text)
{
	static struct diff_case c;
	static struct diff_result ours;

	if (!diff_parse_case(&c, text)) {
		fprintf(stderr, "difftest: '%s' is not a case: give the words behind 'replay:'\n", text);
		return 2;
	}
	driver_fit_host(d, &c);
	d->minimise = false;
	if (!driver_fails(d, &c, &ours)) {
		puts(driver_is_unusable(driver_theirs(d)) ? "# the processor gives no answer" : "# bt-vmm and the processor agree");
		return 0;
	}
	driver_print_finding(d, &c, 0, NULL, NULL);
	return 1;
}

/* What was found once: a case a line, behind a line with '#' that says what it was. */
static int run_list(struct driver *d, const char *name)
{
	static struct diff_case c;
	static struct diff_result ours;
	FILE *in = fopen(name, "r");
	char *text = NULL, what[256] = "";
	size_t size = 0;
	uint32_t line = 0;

	if (!in) {
		perror(name);
		return 2;
	}
	while (getline(&text, &size, in) > 0) {
		text[strcspn(text, "\n")] = 0;
		if (*text == '#')
			snprintf(what, sizeof(what), "%s", text + 1 + strspn(text + 1, " "));
		if (*text == '#' || !*text)
			continue;
		bool known = diff_parse_case(&c, text);
		driver_fit_host(d, &c);
		bool good = known && !driver_fails(d, &c, &ours);
		if (known && !good)
			driver_print_finding(d, &c, 0, NULL, NULL);
		report(d, ++line, good, known ? what : "a line that is no case");
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
	"  --chaos all-soft|all-direct|one-instruction|kicks\n"
	"  --plant HEX               a wrong result where a case's code has these bytes: a test of the test\n"
	"  --covers FILE             are the forms of a list that bt-vmm --forms wrote all tested?\n"
	"  --covers-all              is every encoding that the allow-list runs tested?\n"
	"  --covers-operands         is every form tested with every kind of operand?\n"
	"  --list                    the names of the forms\n";

struct work {
	const char *random, *replay, *regressions;
};

static unsigned chaos_of(const char *name)
{
	static const struct { const char *name; unsigned bit; } chaos[] = {
		{"all-soft", CHAOS_ALL_SOFT}, {"all-direct", CHAOS_ALL_DIRECT}, {"one-instruction", CHAOS_ONE_INSTRUCTION}, {"kicks", CHAOS_KICKS},
	};

	for (size_t i = 0; i < sizeof(chaos) / sizeof(*chaos); i++) {
		if (!strcmp(name, chaos[i].name))
			return chaos[i].bit;
	}
	fprintf(stderr, "difftest: --chaos '%s' is unknown: all-soft, all-direct, one-instruction, kicks\n", name);
	exit(2);
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
		{"plant", 1, NULL, 'p'}, {"covers", 1, NULL, 'v'}, {"covers-all", 0, NULL, 'V'}, {"covers-operands", 0, NULL, 'O'}, {"list", 0, NULL, 'l'}, {NULL, 0, NULL, 0},
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
		case 'V': exit(diff_check_allow_list());
		case 'O': exit(diff_check_operands(d->cases));
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
	if (!native_has_segment(d->native, diff_selector(KIND_PROTECTED, 0)))
		puts("# the kernel sets no descriptors (modify_ldt): flat segments alone");
	if (!native_maps_zero(d->native))
		puts("# address 0 cannot be mapped without privileges: the address space ends at its end");
	d->monitor = monitor_create(d->chaos, native_maps_zero(d->native), why, sizeof(why));
	if (!d->monitor) {
		fprintf(stderr, "difftest: %s\n", why);
		return false;
	}
	if (d->plant && !monitor_plant(d->monitor, d->plant)) {
		fprintf(stderr, "difftest: --plant '%s' is not one to four bytes in hexadecimal\n", d->plant);
		return false;
	}
	if (!driver_start_reference(d)) {
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
	signal(SIGVTALRM, driver_on_endless);
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
	driver_watch(false);
	driver_end_reference(&d);
	monitor_destroy(d.monitor);
	native_stop(d.native);
	return code;
}
