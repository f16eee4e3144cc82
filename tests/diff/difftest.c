/* The driver: difftest [--seed N] [--cases N a form] [--unicorn N of these] [--seconds N] [--form NAME] [--chaos LIST] [--covers FILE] [--list].
 * Prints TAP, one line a form. --covers: does the test have every instruction form of the list that `bt-vmm --forms` wrote? */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/abi.h"
#include "base/disasm.h"
#include "diff.h"
#include "reference.h"
#include "runtime/options.h"
#include "translator/translator.h"

#define SEQUENCE_LINE "sequences"
#define EFLAGS_COMPARED 0xCD5u

struct driver {
	struct native *native;
	struct monitor *monitor;
	uint64_t seed;
	uint32_t cases;
	uint32_t seconds;
	const char *form;
	unsigned chaos;
	uint32_t failed, skipped;
	uint64_t total;
	struct reference *reference; /* NULL: without Unicorn */
	uint32_t unicorn;            /* cases a form */
	uint64_t unicorn_total, unicorn_wrong;
};

static struct diff_case cases[NATIVE_BATCH];
static struct diff_result native_results[NATIVE_BATCH];
static struct diff_result monitor_result;

static const char *const names[] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};

static void print_bytes(const char *name, const uint8_t *a, const char *who, const uint8_t *b, uint32_t size)
{
	if (!memcmp(a, b, size))
		return;
	printf("#   %s ", name);
	for (uint32_t i = size; i-- > 0;) printf("%02x", a[i]);
	printf(", %s ", who);
	for (uint32_t i = size; i-- > 0;) printf("%02x", b[i]);
	putchar('\n');
}

static void print_difference(const struct diff_case *c, const struct diff_result *ours, const char *who, const struct diff_result *theirs,
			     uint64_t seed)
{
	const struct diff_state *a = &ours->out, *b = &theirs->out;
	char name[8];

	printf("# %s, seed %llu: bt-vmm differs from the other engine (%s)\n", diff_form_name(c->form), (unsigned long long)seed, who);
	fputs("#", stdout);
	for (uint32_t i = 0; i < c->length; i++) printf(" %02x", c->code[i]);
	putchar('\n');
	disasm_print(stdout, c->code, c->length, c->in.eip, false);
	printf("#   in:");
	for (unsigned i = 0; i < 8; i++) printf(" %s %08x", names[i], c->in.gpr[i]);
	printf(" eflags %08x\n", c->in.eflags);
	for (unsigned i = 0; i < 8; i++)
		if (a->gpr[i] != b->gpr[i])
			printf("#   %s %08x, %s %08x\n", names[i], a->gpr[i], who, b->gpr[i]);
	if (a->eip != b->eip || a->vector != b->vector || a->error != b->error)
		printf("#   vector %u error %x eip %08x, %s vector %u error %x eip %08x\n", a->vector, a->error, a->eip, who, b->vector, b->error,
		       b->eip);
	if ((a->eflags ^ b->eflags) & EFLAGS_COMPARED)
		printf("#   eflags %08x, %s %08x\n", a->eflags, who, b->eflags);
	if (c->fpu) {
		printf("#   fcw %04x fsw %04x ftw %02x mxcsr %04x, %s fcw %04x fsw %04x ftw %02x mxcsr %04x\n", a->fcw, a->fsw, a->ftw, a->mxcsr, who,
		       b->fcw, b->fsw, b->ftw, b->mxcsr);
		for (unsigned i = 0; i < 8; i++) {
			snprintf(name, sizeof(name), "st%u", i);
			print_bytes(name, a->st[i], who, b->st[i], 10);
			snprintf(name, sizeof(name), "xmm%u", i);
			print_bytes(name, a->xmm[i], who, b->xmm[i], 16);
		}
	}
	for (uint32_t i = 0, shown = 0; i < DATA_SIZE && shown < 8; i++) {
		if (ours->data[i] == theirs->data[i])
			continue;
		printf("#   [%08x] %02x, %s %02x (before %02x)\n", DATA_BASE + i, ours->data[i], who, theirs->data[i], c->data[i]);
		shown++;
	}
}

static bool fpu_equal(const struct diff_state *a, const struct diff_state *b)
{
	return a->fcw == b->fcw && a->fsw == b->fsw && a->ftw == b->ftw && a->mxcsr == b->mxcsr && !memcmp(a->st, b->st, sizeof(a->st)) &&
	       !memcmp(a->xmm, b->xmm, sizeof(a->xmm));
}

static bool equal(const struct diff_case *c, const struct diff_result *ours, const struct diff_result *theirs)
{
	const struct diff_state *a = &ours->out, *b = &theirs->out;

	return !memcmp(a->gpr, b->gpr, sizeof(a->gpr)) && a->eip == b->eip && a->vector == b->vector && a->error == b->error &&
	       !((a->eflags ^ b->eflags) & EFLAGS_COMPARED & ~c->flags_ignored) && (!c->fpu || fpu_equal(a, b)) &&
	       !memcmp(ours->data, theirs->data, DATA_SIZE);
}

#ifdef HAVE_UNICORN
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
	unsigned unexplained = unicorn_unexplained(name, parts);
	if (!unexplained)
		return true;
	print_difference(c, ours, "Unicorn", &theirs, seed);
	printf("# the processor agrees with bt-vmm, and it is not on the list of Unicorn's errors: ");
	diff_print_parts(stdout, unexplained);
	putchar('\n');
	return false;
}

static bool start_reference(struct driver *d)
{
	d->reference = d->unicorn ? reference_create() : NULL;
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

/* `count` cases of a form (or sequences); false at the first that differs. */
static bool run_cases(struct driver *d, uint32_t form, uint64_t first, uint32_t count)
{
	/* Not sequences: what they do with a flag that is undefined could be anything. */
	uint32_t for_reference = d->reference && form < diff_form_count() ? d->unicorn : 0;

	while (count > 0) {
		uint32_t batch = count < NATIVE_BATCH ? count : NATIVE_BATCH;
		for (uint32_t i = 0; i < batch; i++) {
			if (form < diff_form_count())
				diff_make(&cases[i], form, first + i);
			else
				diff_make_sequence(&cases[i], first + i);
		}
		if (!native_run(d->native, cases, native_results, batch)) {
			printf("Bail out! the process that runs the instructions on the processor is gone\n");
			exit(1);
		}
		for (uint32_t i = 0; i < batch; i++) {
			d->total++;
			/* Out of the data: nothing is mapped there for the processor, and everything in the guest. */
			if (native_results[i].out.vector == 14) {
				d->skipped++;
				continue;
			}
			if (monitor_run(d->monitor, &cases[i], &monitor_result) && equal(&cases[i], &monitor_result, &native_results[i])) {
				if (for_reference && for_reference-- && !run_reference(d, &cases[i], &monitor_result, first + i))
					return false;
				continue;
			}
			print_difference(&cases[i], &monitor_result, "processor", &native_results[i], first + i);
			return false;
		}
		first += batch;
		count -= batch;
	}
	return true;
}

static void report(struct driver *d, uint32_t line, bool good, const char *name)
{
	printf("%s %u - %s\n", good ? "ok" : "not ok", line, name);
	fflush(stdout);
	d->failed += !good;
}

static int run_all(struct driver *d)
{
	uint32_t line = 0;
	time_t start = time(NULL);

	do {
		for (uint32_t form = 0; form <= diff_form_count(); form++) {
			const char *name = form < diff_form_count() ? diff_form_name(form) : SEQUENCE_LINE;
			if (d->form && strcmp(d->form, name))
				continue;
			uint32_t count = form < diff_form_count() ? d->cases : d->cases * 100;
			report(d, ++line, run_cases(d, form, d->seed, count), name);
		}
		d->seed += 1000003;
	} while (d->seconds && (uint64_t)(time(NULL) - start) < d->seconds && !d->failed);
	printf("1..%u\n# seed %llu, %llu cases, %u of them outside the data, %u forms failed\n", line, (unsigned long long)d->seed,
	       (unsigned long long)d->total, d->skipped, d->failed);
	return d->failed != 0;
}

/* Forms that no user-mode code has, or that are not told by registers and memory alone: the guest programs (tests/guest) have them. */
static const char *const elsewhere[] = {
	"call ptr", "call m", "cli", "clts", "cpuid", "fldenv m", "fnsave m", "fnstenv m", "frstor m", "fxrstor m", "fxsave m", "hlt", "in ", "int ", "int3",
	"into", "invd", "invlpg", "iretd", "jmp ptr", "lar ", "lds ", "les ", "lfs ", "lgdt ", "lgs ", "lidt ", "lldt ", "lmsw ", "lsl ", "lss ", "ltr ",
	"mov cr", "mov dr", "mov m16,sreg", "mov r32,cr", "mov r32,dr", "mov sreg", "out ", "pop sreg", "push sreg", "rdmsr", "rdpmc", "rdtsc", "rep insb",
	"rep insw", "rep outsb", "rep outsw", "ret imm", "sgdt ", "sidt ", "sldt ", "smsw ", "sti", "str ", "sysenter", "sysexit", "ud1", "verr ", "verw ",
	"wbinvd", "wrmsr", "(undefined)",
};

static bool is_elsewhere(const char *form)
{
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(*elsewhere); i++) {
		if (!strncmp(form, elsewhere[i], strlen(elsewhere[i])))
			return true;
	}
	return false;
}

#define MAX_NAMES 4096u
#define NAME_SIZE 48u

struct names {
	char name[MAX_NAMES][NAME_SIZE];
	uint32_t count;
};

static bool has_name(const struct names *n, const char *name)
{
	for (uint32_t i = 0; i < n->count; i++) {
		if (!strcmp(n->name[i], name))
			return true;
	}
	return false;
}

static void collect_names(struct names *n)
{
	char name[NAME_SIZE];

	for (uint32_t form = 0; form < diff_form_count(); form++) {
		for (uint64_t seed = 1; seed <= 60; seed++) {
			diff_make(&cases[0], form, seed);
			translator_form(cases[0].code, cases[0].length, MODE_CS32 | MODE_SS32 | MODE_PE, name, sizeof(name));
			if (!has_name(n, name) && n->count < MAX_NAMES)
				strcpy(n->name[n->count++], name);
		}
	}
}

static int check_cover(const char *file)
{
	static struct names known;
	FILE *in = fopen(file, "r");
	char line[256];
	uint32_t seen = 0, missing = 0;

	if (!in) {
		perror(file);
		return 2;
	}
	collect_names(&known);
	while (fgets(line, sizeof(line), in)) {
		char *name = line + strspn(line, " 0123456789");
		name[strcspn(name, "\n")] = 0;
		seen++;
		if (has_name(&known, name) || is_elsewhere(name))
			continue;
		printf("# not covered: %s\n", name);
		missing++;
	}
	fclose(in);
	printf("%s 1 - the differential test covers the forms of %s (%u, %u missing)\n1..1\n", missing ? "not ok" : "ok", file, seen, missing);
	return missing != 0;
}

static bool parse(struct driver *d, int argc, char **argv)
{
	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (!strcmp(argv[i], "--list")) {
			for (uint32_t form = 0; form < diff_form_count(); form++) puts(diff_form_name(form));
			exit(0);
		}
		if (!value)
			return false;
		if (!strcmp(argv[i], "--covers"))
			exit(check_cover(value));
		else if (!strcmp(argv[i], "--seed"))
			d->seed = strtoull(value, NULL, 0);
		else if (!strcmp(argv[i], "--cases"))
			d->cases = (uint32_t)strtoul(value, NULL, 0);
		else if (!strcmp(argv[i], "--unicorn"))
			d->unicorn = (uint32_t)strtoul(value, NULL, 0);
		else if (!strcmp(argv[i], "--seconds"))
			d->seconds = (uint32_t)strtoul(value, NULL, 0);
		else if (!strcmp(argv[i], "--form"))
			d->form = value;
		else if (!strcmp(argv[i], "--chaos"))
			d->chaos = !strcmp(value, "all-soft") ? CHAOS_ALL_SOFT : !strcmp(value, "one-instruction") ? CHAOS_ONE_INSTRUCTION : CHAOS_ALL_DIRECT;
		else
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct driver d = {.seed = 1, .cases = 200, .unicorn = 40};
	char why[1024];

	if (!parse(&d, argc, argv)) {
		fprintf(stderr, "usage: difftest [--seed N] [--cases N] [--unicorn N] [--seconds N] [--form NAME] [--chaos all-soft|all-direct|one-instruction] [--covers FILE] [--list]\n");
		return 2;
	}
	d.native = native_start();
	d.monitor = monitor_create(d.chaos, why, sizeof(why));
	if (!d.native || !d.monitor) {
		fprintf(stderr, "difftest: %s\n", d.monitor ? "the process for the processor's side cannot be started" : why);
		return 1;
	}
	if (!start_reference(&d)) {
		fprintf(stderr, "difftest: cannot set up Unicorn\n");
		return 1;
	}
	int code = run_all(&d);
	end_reference(&d);
	monitor_destroy(d.monitor);
	native_stop(d.native);
	return code;
}
