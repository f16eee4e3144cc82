/* The command: options, checks, set-up in the order that leaves nothing behind on bad input, the run, and how it ended. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime/boot.h"
#include "runtime/cpu.h"
#include "runtime/inspect.h"
#include "runtime/options.h"
#include "runtime/runtime.h"
#include "runtime/sandbox.h"
#include "runtime/symbols.h"
#ifdef HAVE_VERIFY
#include "runtime/verify.h"
#endif

#define WHY_SIZE (2 * PATH_MAX + 512) /* a sentence may name two files */

struct run {
	const struct options *options;
	struct boot_config boot;
	struct boot_entry entry;
	struct runtime *runtime;
	struct machine *machine;
	struct verify *verify;
	struct symbols *symbols;
	char why[WHY_SIZE];
};

/* One line on stderr, whatever the file names in it hold. */
static int fail(int code, const char *sentence)
{
	fputs("bt-vmm: ", stderr);
	for (const char *c = sentence; *c; c++) fputc((unsigned char)*c < ' ' || *c == 0x7F ? '?' : *c, stderr);
	fputc('\n', stderr);
	return code;
}

static int create_machine(struct run *r)
{
	const struct options *o = r->options;
	struct machine_config config = {
		.ram = runtime_ram(r->runtime),
		.ram_size = o->memory,
		.serial = o->serial,
		.serial_file = o->serial_file,
		.debug_exit = o->debug_exit,
		.debug_exit_port = o->debug_exit_port,
		.apic = o->features & FEATURE_BIT(FEATURE_APIC),
		.testdev = o->testdev,
		.timeout_seconds = o->timeout,
		.ctx = r->runtime,
		.set_intr = runtime_set_intr,
		.set_nmi = runtime_set_nmi,
		.set_ignne = runtime_set_ignne,
		.kick = runtime_kick,
		.forget = runtime_forget,
	};
	const char *why = "the machine cannot be set up";
	int error = machine_create(&r->machine, &config, &why);
	if (error) {
		/* The machine's sentences are constant: the one about the file does not name it. */
		bool about_file = o->serial == SERIAL_FILE && error != -EINVAL;
		if (about_file) snprintf(r->why, sizeof(r->why), "%s '%s': %s", why, o->serial_file, strerror(-error));
		else snprintf(r->why, sizeof(r->why), "%s", why);
		return error;
	}
	runtime_set_machine(r->runtime, r->machine);
	return 0;
}

static int create_runtime(struct run *r)
{
	const struct options *o = r->options;
	struct runtime_config config = {
		.ram_size = o->memory,
		.tc_size = o->tc_size,
		.chaos = o->chaos,
		.dump = o->dump,
		.forms = o->forms,
		.symbols = r->symbols,
		.perf_map = o->perf_map,
		.jitdump = o->jitdump,
		.profile = o->profile,
		.places = o->stats,
		.features_flipped = o->features ^ cpu_features_default(),
		.no_reset = true, /* a reset needs the boot loader: it comes back here */
	};
	int error = runtime_create(&r->runtime, &config, r->why, sizeof(r->why));
	if (!error) r->boot.ram = runtime_ram(r->runtime);
	return error;
}

/* The reference beside the guest, where --verify asks for it and this build has it. */
static int create_verify(struct run *r)
{
#ifdef HAVE_VERIFY
	if (r->options->verify) return verify_create(&r->verify, r->runtime, stderr, r->why, sizeof(r->why));
#endif
	return 0;
}

static void destroy_verify(struct run *r)
{
#ifdef HAVE_VERIFY
	if (r->verify) verify_print_summary(r->verify, stderr);
	verify_destroy(r->verify);
#endif
	r->verify = NULL;
}

/* What firmware and boot loader do: also after each reset of the guest. */
static int load_guest(struct run *r)
{
	int error = boot_load(&r->boot, &r->entry, r->why, sizeof(r->why));
	if (error) return error;
	machine_install_tables(r->machine);
	struct vcpu *v = runtime_vcpu(r->runtime);
	cpu_reset(v, true);
	boot_enter(v, &r->entry);
	cpu_update_mode(v);
	runtime_paging_changed(v);
	return 0;
}

static int reset_guest(struct run *r)
{
	machine_reset(r->machine);
	cache_flush(runtime_cache(r->runtime));
	shadow_flush(runtime_shadow(r->runtime));
	return load_guest(r);
}

static void destroy(struct run *r)
{
	if (r->runtime && r->machine) runtime_set_machine(r->runtime, NULL);
	/* First, so that the terminal is restored before anything is printed. */
	if (r->machine) machine_destroy(r->machine);
	r->machine = NULL;
}

/* How the machine ended the run, as exit code and, where the user should know, a sentence. */
static int machine_exit_code(enum machine_end end, uint32_t value)
{
	char sentence[128];
	switch (end) {
	case MACHINE_DEBUG_EXIT: return (int)((value << 1 | 1) & 255);
	case MACHINE_TIMEOUT: return fail(EXIT_TIMED_OUT, "the time given by --timeout is over");
	case MACHINE_SIGNAL:
		snprintf(sentence, sizeof(sentence), "ended by signal %" PRIu32 " (%s)", value, strsignal((int)value));
		return fail(128 + (int)value, sentence);
	case MACHINE_RUNS: return fail(EXIT_HOST_FAILURE, "internal error: the run ended without a reason");
	case MACHINE_POWER_OFF:
	case MACHINE_RESET:
	case MACHINE_USER_QUIT: return EXIT_OK;
	}
	return EXIT_HOST_FAILURE;
}

static int exit_code(struct run *r, enum runtime_end end, enum machine_end machine_end, uint32_t value)
{
	char sentence[128];
	int code = EXIT_HOST_FAILURE;
	switch (end) {
	case RUNTIME_MACHINE_ENDED: return machine_exit_code(machine_end, value);
	case RUNTIME_STUCK:
		snprintf(sentence, sizeof(sentence),
			"the guest halted for ever at EIP 0x%" PRIx32 ": nothing is left that could wake it",
			runtime_vcpu(r->runtime)->eip);
		return fail(EXIT_TRIPLE_FAULT, sentence);
	case RUNTIME_TRIPLE_FAULT:
		code = fail(EXIT_TRIPLE_FAULT, "the guest's processor shut down after a triple fault; its registers and last blocks:");
		break;
	case RUNTIME_HOST_FAILURE: fail(code, "internal error or host failure; please report it with what follows:"); break;
	case RUNTIME_OBSERVER:
		fail(code, "the reference processor came to another result; please report it with what follows:");
		break;
	}
	runtime_dump(r->runtime, stderr, code == EXIT_HOST_FAILURE);
	return code;
}

static int run_loop(struct run *r)
{
	for (;;) {
		enum runtime_end end = runtime_run(r->runtime);
		uint32_t value = 0;
		enum machine_end machine_end = machine_ended(r->machine, &value);
		if (end == RUNTIME_MACHINE_ENDED && machine_end == MACHINE_RESET && !r->options->no_reboot) {
			if (!reset_guest(r)) continue;
			destroy(r);
			return fail(EXIT_HOST_FAILURE, r->why);
		}
		destroy(r);
		return exit_code(r, end, machine_end, value);
	}
}

/* Bad input is looked for before anything is created. */
static int check_input(struct run *r)
{
	const struct options *o = r->options;
	const char *bad;
	if (o->log && log_configure(o->log, &bad)) {
		snprintf(r->why, sizeof(r->why), "--log '%s' is wrong at '%s': write part:level,... as bt-vmm --help shows", o->log, bad);
		return EXIT_USAGE;
	}
#ifndef HAVE_VERIFY
	if (o->verify) {
		snprintf(r->why, sizeof(r->why), "--verify is not in this build: install libunicorn-dev and build again");
		return EXIT_USAGE;
	}
#endif
	int error = host_check(false, o->memory, r->why, sizeof(r->why));
	if (!error && o->symbols) error = symbols_read(&r->symbols, o->symbols, r->why, sizeof(r->why));
	if (error) return error;
	return boot_load(&r->boot, &r->entry, r->why, sizeof(r->why)) ? EXIT_USAGE : 0;
}

/* Where the kernel knows no seccomp, the guest runs without: it is a second line. The reference of --verify makes code of its own. */
static void enter_sandbox(const struct options *o)
{
	if (o->no_sandbox || o->verify) return;
	int error = sandbox_enter();
	if (error) LOG(LOG_RUNTIME, LOG_WARN, "no sandbox: the kernel refuses seccomp filters (error %d)", -error);
}

static int run_guest(const struct options *o)
{
	struct run r = {
		.options = o,
		.boot = { .kernel = o->kernel,
			.initrd = o->initrd,
			.initrd_count = o->initrd_count,
			.append = o->append,
			.ram_size = o->memory },
	};
	bool ready = !check_input(&r) && !create_runtime(&r) && !create_machine(&r) && !load_guest(&r) && !create_verify(&r);
	if (ready && machine_start(r.machine)) {
		snprintf(r.why, sizeof(r.why), "no thread can be started for the machine: raise the limit on processes (ulimit -u)");
		ready = false;
	}
	if (ready) enter_sandbox(o);
	int code = EXIT_USAGE;
	if (ready) code = run_loop(&r);
	destroy(&r);
	if (!ready) fail(code, r.why);
	if (ready && o->stats) runtime_print_stats(r.runtime, stderr, o->stats_json);
	destroy_verify(&r);
	if (r.runtime) runtime_destroy(r.runtime);
	symbols_free(r.symbols);
	return code;
}

/* A descriptor that was closed is taken by the next file that opens: guest memory must not become standard input or output. */
static bool open_standard_files(void)
{
	int fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO) fd = open("/dev/null", O_RDWR);
	if (fd < 0) return false;
	close(fd);
	return true;
}

/* What was printed for the user must have arrived. */
static int printed(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout)) return code;
	return errno == EPIPE ? code : fail(EXIT_HOST_FAILURE, "standard output could not be written: is there room where it goes?");
}

typedef int inspect_fn(const struct inspect_options *o, FILE *out, char *why, size_t why_size);

static int inspect(inspect_fn *command, const struct inspect_options *o)
{
	char why[WHY_SIZE];
	int error = command(o, stdout, why, sizeof(why));
	return error ? fail(error, why) : printed(EXIT_OK);
}

int main(int argc, char **argv)
{
	struct options o;
	char why[WHY_SIZE];
	if (!open_standard_files()) return EXIT_HOST_FAILURE;
	int error = options_parse(&o, argc, argv, why, sizeof(why));
	if (error) return fail(error, why);
	switch (o.command) {
	case COMMAND_RUN: return run_guest(&o);
	case COMMAND_CHECK: return printed(host_check(true, o.memory, why, sizeof(why)));
	case COMMAND_CLASSIFY: return inspect(inspect_classify, &o.inspect);
	case COMMAND_TRANSLATE: return inspect(inspect_translate, &o.inspect);
	case COMMAND_HELP: options_print_help(); return printed(EXIT_OK);
	case COMMAND_VERSION: puts("bt-vmm " VERSION); return printed(EXIT_OK);
	}
	return EXIT_USAGE;
}
