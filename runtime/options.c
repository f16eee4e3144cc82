#include "runtime/options_private.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cpu.h"

#define MEMORY_MIN MIB(8)
#define MEMORY_MAX MIB(3072) /* above lies the hole for devices */
#define TC_MIN MIB(1)
#define TC_MAX MIB(1024)
#define TIMEOUT_MAX 31536000u /* a year */

int options_refuse(struct parser *p, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(p->why, p->why_size, format, args);
	va_end(args);
	return EXIT_USAGE;
}

/* A whole number, decimal or 0x. False if it is none or above `max`. */
bool options_number(const char *text, uint64_t max, uint64_t *value)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *digits = hex ? text + 2 : text;
	if (hex ? !isxdigit((unsigned char)*digits) : !isdigit((unsigned char)*digits)) return false;
	char *end;
	errno = 0;
	uint64_t n = strtoull(digits, &end, hex ? 16 : 10);
	if (errno || *end || n > max) return false;
	*value = n;
	return true;
}

static bool parse_size(const char *text, uint64_t *bytes)
{
	static const char suffixes[] = "KMG";
	if (!isdigit((unsigned char)*text)) return false;
	char *end;
	errno = 0;
	uint64_t n = strtoull(text, &end, 10);
	if (errno) return false;
	unsigned shift = 0;
	if (*end) {
		const char *suffix = strchr(suffixes, toupper((unsigned char)*end));
		if (!suffix || end[1]) return false;
		shift = 10 * (unsigned)(suffix - suffixes + 1);
	}
	if (n > UINT64_MAX >> shift) return false;
	*bytes = n << shift;
	return true;
}

static int parse_kernel(struct parser *p, const char *value)
{
	p->o->kernel = value;
	return 0;
}

static int parse_initrd(struct parser *p, const char *value)
{
	if (p->o->initrd_count == ARRAY_LEN(p->o->initrd))
		return options_refuse(p, "--initrd can be given at most %zu times", ARRAY_LEN(p->o->initrd));
	p->o->initrd[p->o->initrd_count++] = value;
	return 0;
}

static int parse_append(struct parser *p, const char *value)
{
	p->o->append = value;
	return 0;
}

static int parse_memory(struct parser *p, const char *value)
{
	if (!parse_size(value, &p->o->memory)) return options_refuse(p, "--memory '%s' is not a size: write it like 512M or 1G", value);
	if (p->o->memory < MEMORY_MIN || p->o->memory > MEMORY_MAX)
		return options_refuse(p, "--memory '%s' is out of range: give 8M to 3G (512M for a Linux)", value);
	if (p->o->memory % PAGE_SIZE)
		return options_refuse(p, "--memory '%s' is not a multiple of the page size: give a multiple of 4K", value);
	return 0;
}

static int parse_cpu(struct parser *p, const char *value)
{
	return cpu_features_parse(value, &p->o->features, p->why, p->why_size) ? 0 : EXIT_USAGE;
}

static int parse_serial(struct parser *p, const char *value)
{
	if (!strcmp(value, "stdio")) {
		p->o->serial = SERIAL_STDIO;
	} else if (!strcmp(value, "none")) {
		p->o->serial = SERIAL_NONE;
	} else if (!strncmp(value, "file:", 5) && value[5]) {
		p->o->serial = SERIAL_FILE;
		p->o->serial_file = value + 5;
	} else {
		return options_refuse(p, "--serial '%s' is not known: give stdio, file:NAME with a file's name, or none", value);
	}
	return 0;
}

static int parse_no_reboot(struct parser *p, const char *value)
{
	(void)value;
	p->o->no_reboot = true;
	return 0;
}

static int parse_debug_exit(struct parser *p, const char *value)
{
	uint64_t port = 0xF4;
	if (value && !options_number(value, 0xFFFC, &port))
		return options_refuse(p, "--debug-exit '%s' is not a port: give a number from 0 to 0xfffc", value);
	p->o->debug_exit = true;
	p->o->debug_exit_port = (uint16_t)port;
	return 0;
}

static int parse_testdev(struct parser *p, const char *value)
{
	(void)value;
	p->o->testdev = true;
	p->o->features |= FEATURE_BIT(FEATURE_APIC);
	return 0;
}

static int parse_timeout(struct parser *p, const char *value)
{
	uint64_t seconds;
	if (!options_number(value, TIMEOUT_MAX, &seconds) || !seconds) {
		return options_refuse(p, "--timeout '%s' is no number of seconds from 1 to %u", value, TIMEOUT_MAX);
	}
	p->o->timeout = (uint32_t)seconds;
	return 0;
}

static int parse_stats(struct parser *p, const char *value)
{
	if (value && strcmp(value, "json")) return options_refuse(p, "--stats '%s' is unknown: give --stats or --stats=json", value);
	p->o->stats = true;
	p->o->stats_json = value != NULL;
	return 0;
}

static int parse_log(struct parser *p, const char *value)
{
	p->o->log = value;
	return 0;
}

static int parse_tc_size(struct parser *p, const char *value)
{
	if (!parse_size(value, &p->o->tc_size)) return options_refuse(p, "--tc-size '%s' is not a size: write it like 64M", value);
	if (p->o->tc_size < TC_MIN || p->o->tc_size > TC_MAX)
		return options_refuse(p, "--tc-size '%s' is out of range: give 1M to 1G", value);
	if (p->o->tc_size % MIB(1)) return options_refuse(p, "--tc-size '%s' is not a multiple of 1M", value);
	return 0;
}

static const struct {
	const char *name;
	unsigned bit;
} chaos_names[] = {
	{ "tiny-cache", CHAOS_TINY_CACHE },
	{ "one-instruction", CHAOS_ONE_INSTRUCTION },
	{ "few-windows", CHAOS_FEW_WINDOWS },
	{ "no-chain", CHAOS_NO_CHAIN },
	{ "all-soft", CHAOS_ALL_SOFT },
	{ "all-direct", CHAOS_ALL_DIRECT },
	{ "kicks", CHAOS_KICKS },
	{ "check", CHAOS_CHECK },
	{ "fence", CHAOS_FENCE },
};

static unsigned find_chaos(const char *word, size_t length)
{
	for (size_t i = 0; i < ARRAY_LEN(chaos_names); i++) {
		if (strlen(chaos_names[i].name) == length && !memcmp(chaos_names[i].name, word, length)) return chaos_names[i].bit;
	}
	return 0;
}

static int parse_chaos(struct parser *p, const char *value)
{
	for (;;) {
		size_t length = strcspn(value, ",");
		unsigned bit = find_chaos(value, length);
		if (!bit) {
			return options_refuse(p,
				"--chaos '%.*s' is unknown: the names are tiny-cache, one-instruction, few-windows, no-chain, all-soft, "
				"all-direct, "
				"kicks, check, fence",
				(int)length, value);
		}
		if (p->o->chaos & bit) return options_refuse(p, "--chaos names '%.*s' twice", (int)length, value);
		p->o->chaos |= bit;
		if (!value[length]) return 0;
		value += length + 1;
	}
}

static int parse_sandbox(struct parser *p, const char *value)
{
	p->o->no_sandbox = !strcmp(value, "off");
	if (!p->o->no_sandbox && strcmp(value, "on")) return options_refuse(p, "--sandbox '%s' is unknown: give on or off", value);
	return 0;
}

static int parse_verify(struct parser *p, const char *value)
{
	(void)value;
	p->o->verify = true;
	return 0;
}

static int parse_forms(struct parser *p, const char *value)
{
	p->o->forms = value;
	return 0;
}

static int parse_dump(struct parser *p, const char *value)
{
	p->o->dump = value;
	return 0;
}

static int parse_symbols(struct parser *p, const char *value)
{
	p->o->symbols = value;
	return 0;
}

static int parse_perf_map(struct parser *p, const char *value)
{
	(void)value;
	p->o->perf_map = true;
	return 0;
}

static int parse_jitdump(struct parser *p, const char *value)
{
	(void)value;
	p->o->jitdump = true;
	return 0;
}

static int parse_profile(struct parser *p, const char *value)
{
	p->o->profile = value;
	return 0;
}

static const struct option_rule run_options[] = {
	{ "--kernel", VALUE_NEEDED, false, FOR(RUN), "a file", parse_kernel },
	{ "--initrd", VALUE_NEEDED, true, FOR(RUN), "a file", parse_initrd },
	{ "--append", VALUE_NEEDED, false, FOR(RUN), "a kernel command line", parse_append },
	{ "--memory", VALUE_NEEDED, false, FOR(RUN) | FOR(CHECK), "a size, like 512M", parse_memory },
	{ "--cpu", VALUE_NEEDED, false, FOR(RUN), "features, like +smap,-pae", parse_cpu },
	{ "--serial", VALUE_NEEDED, false, FOR(RUN), "stdio, file:NAME or none", parse_serial },
	{ "--no-reboot", VALUE_NEVER, false, FOR(RUN), NULL, parse_no_reboot },
	{ "--debug-exit", VALUE_OPTIONAL, false, FOR(RUN), "a port", parse_debug_exit },
	{ "--testdev", VALUE_NEVER, false, FOR(RUN), NULL, parse_testdev },
	{ "--timeout", VALUE_NEEDED, false, FOR(RUN), "a number of seconds", parse_timeout },
	{ "--stats", VALUE_OPTIONAL, false, FOR(RUN), "json", parse_stats },
	{ "--log", VALUE_NEEDED, false, FOR(RUN), "part:level, like shadow:debug", parse_log },
	{ "--tc-size", VALUE_NEEDED, false, FOR(RUN), "a size, like 64M", parse_tc_size },
	{ "--chaos", VALUE_NEEDED, false, FOR(RUN), "names, like all-soft,no-chain", parse_chaos },
	{ "--sandbox", VALUE_NEEDED, false, FOR(RUN), "on or off", parse_sandbox },
	{ "--verify", VALUE_NEVER, false, FOR(RUN), NULL, parse_verify },
	{ "--dump", VALUE_NEEDED, false, FOR(RUN), "a file", parse_dump },
	{ "--forms", VALUE_NEEDED, false, FOR(RUN), "a file", parse_forms },
	{ "--symbols", VALUE_NEEDED, false, FOR(RUN), "files, like vmlinux,program", parse_symbols },
	{ "--profile", VALUE_NEEDED, false, FOR(RUN), "a file, like out.svg", parse_profile },
	{ "--perf-map", VALUE_NEVER, false, FOR(RUN), NULL, parse_perf_map },
	{ "--jitdump", VALUE_NEVER, false, FOR(RUN), NULL, parse_jitdump },
};
_Static_assert(ARRAY_LEN(run_options) <= 8 * sizeof(((struct parser *)0)->seen), "a bit for each option");

static int find_rule(const struct option_rule *rules, size_t count, const char *word, size_t length)
{
	for (size_t i = 0; i < count; i++) {
		if (strlen(rules[i].name) == length && !memcmp(rules[i].name, word, length)) return (int)i;
	}
	return -1;
}

static int find_option(const struct parser *p, const char *word, size_t length)
{
	return find_rule(p->rules, p->rule_count, word, length);
}

static bool is_help(const char *word)
{
	return !strcmp(word, "--help") || !strcmp(word, "-h");
}

static const struct command_word {
	const char *name;
	enum command command;
} command_words[] = {
	{ "run", COMMAND_RUN },
	{ "check", COMMAND_CHECK },
	{ "classify", COMMAND_CLASSIFY },
	{ "translate", COMMAND_TRANSLATE },
};

static const char *command_name(enum command command)
{
	for (size_t i = 0; i < ARRAY_LEN(command_words); i++) {
		if (command_words[i].command == command) return command_words[i].name;
	}
	return "";
}

/* There is no such option, or it is one of other commands. */
static int refuse_option(struct parser *p, const char *word, size_t length)
{
	if (find_rule(run_options, ARRAY_LEN(run_options), word, length) >= 0 || find_rule(options_inspect, options_inspect_count, word, length) >= 0)
		return options_refuse(p, "bt-vmm %s takes no option %.*s", command_name(p->o->command), (int)length, word);
	return options_refuse(p, "the option '%.*s' is unknown: bt-vmm --help lists them", (int)length, word);
}

static int check_rule(struct parser *p, const struct option_rule *rule, uint64_t bit)
{
	if (!(rule->commands & 1u << p->o->command))
		return options_refuse(p, "bt-vmm %s takes no option %s", command_name(p->o->command), rule->name);
	if (p->seen & bit && !rule->repeatable) return options_refuse(p, "%s is given twice", rule->name);
	p->seen |= bit;
	return 0;
}

/* One option at argv[0] of `argc` left. Sets *used to the words that it takes. */
static int parse_option(struct parser *p, int argc, char **argv, int *used)
{
	const char *word = argv[0];
	size_t length = strcspn(word, "=");
	*used = 1;
	if (word[0] != '-' && p->rules == options_inspect) return options_inspect_file(p, word);
	if (word[0] != '-' && p->o->command == COMMAND_CHECK)
		return options_refuse(p, "'%s' is no option: bt-vmm check takes options alone", word);
	if (word[0] != '-')
		return options_refuse(p, "'%s' is no option: a kernel is given by --kernel FILE, and an optional value behind '=' (--stats=json)", word);
	int index = find_option(p, word, length);
	if (index < 0) return refuse_option(p, word, length);
	const struct option_rule *rule = &p->rules[index];
	int error = check_rule(p, rule, 1ull << index);
	if (error) return error;
	const char *value = word[length] ? word + length + 1 : NULL;
	if (value && rule->value == VALUE_NEVER) return options_refuse(p, "%s takes no value, but is given '%s'", rule->name, value);
	if (!value && rule->value == VALUE_NEEDED) {
		if (argc < 2 || find_option(p, argv[1], strcspn(argv[1], "=")) >= 0)
			return options_refuse(p, "%s needs %s", rule->name, rule->wants);
		value = argv[1];
		*used = 2;
	}
	/* --append "" is a way to say that there is none. */
	if (value && !*value && rule->parse != parse_append)
		return options_refuse(p, "%s is given an empty value: it needs %s", rule->name, rule->wants);
	return rule->parse(p, value);
}

static int check_together(struct parser *p)
{
	const struct options *o = p->o;
	if (p->rules == options_inspect) return options_inspect_check(p);
	if (o->command == COMMAND_RUN && !o->kernel) return options_refuse(p, "no kernel is given: say --kernel FILE");
	if ((o->chaos & CHAOS_ALL_SOFT) && (o->chaos & CHAOS_ALL_DIRECT))
		return options_refuse(p, "--chaos names all-soft and all-direct, which contradict each other");
	if ((o->chaos & CHAOS_ALL_SOFT) && (o->chaos & CHAOS_FEW_WINDOWS)) {
		return options_refuse(p, "--chaos names all-soft and few-windows, which contradict each other: all-soft has no windows");
	}
	if ((o->chaos & CHAOS_TINY_CACHE) && (p->seen & 1ull << find_option(p, "--tc-size", 9))) {
		return options_refuse(p, "--tc-size and --chaos=tiny-cache contradict each other: both set the size of the translation cache");
	}
	return 0;
}

static int parse_options(struct parser *p, int argc, char **argv)
{
	for (int i = 0, used; i < argc; i += used) {
		if (is_help(argv[i])) {
			p->o->command = COMMAND_HELP;
			return 0;
		}
		int error = parse_option(p, argc - i, argv + i, &used);
		if (error) return error;
	}
	return check_together(p);
}

int options_parse(struct options *o, int argc, char **argv, char *why, size_t why_size)
{
	struct parser p = { .o = o, .why = why, .why_size = why_size, .rules = run_options, .rule_count = ARRAY_LEN(run_options) };
	*o = (struct options){ .append = "", .memory = MIB(512), .tc_size = MIB(64), .debug_exit_port = 0xF4, .inspect.bits = 32, .features = cpu_features_default() };
	if (argc < 2) return options_refuse(&p, "no command is given: bt-vmm --help shows what there is");
	const char *command = argv[1];
	if (is_help(command) || !strcmp(command, "--version")) {
		o->command = is_help(command) ? COMMAND_HELP : COMMAND_VERSION;
		return argc == 2 ? 0 : options_refuse(&p, "%s stands alone, without '%s'", command, argv[2]);
	}
	const struct command_word *word = command_words;
	while (word < command_words + ARRAY_LEN(command_words) && strcmp(command, word->name)) word++;
	if (word == command_words + ARRAY_LEN(command_words))
		return options_refuse(&p, "the command '%s' is unknown: give run, check, classify, translate, --help or --version", command);
	o->command = word->command;
	if (o->command == COMMAND_CLASSIFY || o->command == COMMAND_TRANSLATE) {
		p.rules = options_inspect;
		p.rule_count = options_inspect_count;
	}
	return parse_options(&p, argc - 2, argv + 2);
}

void options_print_help(void)
{
	fputs(
		"bt-vmm runs an unmodified 32-bit x86 operating system in an ordinary process, by binary translation.\n"
		"\n"
		"  bt-vmm run --kernel FILE [OPTION...]   boot a Linux bzImage or a Multiboot kernel\n"
		"  bt-vmm check [--memory SIZE]           what this host has and lacks for running guests\n"
		"  bt-vmm classify FILE [OPTION...]       the sensitive instructions of a binary, and what becomes of them\n"
		"  bt-vmm translate FILE [OPTION...]      guest blocks beside the host code that they become\n"
		"  bt-vmm --version\n"
		"\n"
		"What to boot\n"
		"  --kernel FILE        Linux bzImage (i386) or Multiboot 1 ELF\n"
		"  --initrd FILE        Linux: its initrd; Multiboot: a module, \"FILE ARGUMENTS\", may be repeated\n"
		"  --append STRING      kernel command line\n"
		"  --memory SIZE        guest memory, 8M to 3G (512M)\n"
		"\n"
		"How it runs\n"
		"  --cpu=+NAME,-NAME,.. processor features to show besides the usual ones, or not to show (+smap,-pae)\n"
		"  --serial WHERE       first serial line: stdio, file:NAME or none (stdio)\n"
		"  --no-reboot          end when the guest reboots\n"
		"  --timeout SECONDS    end after this time\n"
		"  --debug-exit[=PORT]  a guest's write to this port (0xf4) ends the run with exit code (value << 1 | 1) & 255\n"
		"  --testdev            what test suites expect: test device, configuration device, APIC\n"
		"  --sandbox=on|off     give up, by seccomp, the system calls that a running guest does not need (on)\n"
		"\n"
		"Looking inside\n"
		"  --stats[=json]       counters at the end, and where callouts and faults come from\n"
		"  --profile=FILE       a flame graph (SVG) of where the guest's time goes\n"
		"  --log=PART:LEVEL,..  parts: base translator cache shadow runtime cpu devices boot all;\n"
		"                       levels: error warn info debug trace\n"
		"  --dump=FILE          guest and host code of each block as it is translated\n"
		"  --symbols=FILE,...   names of guest code: vmlinux, System.map, a copy of /proc/kallsyms, programs\n"
		"  --perf-map           tell perf of translated code, by /tmp/perf-PID.map\n"
		"  --jitdump            ditto, with the code, by jit-PID.dump in the current folder (for perf inject --jit)\n"
		"  --forms=FILE         which instruction forms the guest has, and how often\n"
		"  --verify             compare each block with a reference processor (slow; in builds that have it)\n"
		"  --tc-size SIZE       size of the translation cache, 1M to 1G (64M)\n"
		"  --chaos=NAME,...     make life hard: tiny-cache one-instruction few-windows no-chain all-soft all-direct kicks check fence\n"
		"\n"
		"Classify and translate; FILE is a 32-bit ELF file, a Linux bzImage, or bare code with --raw. Nothing is run.\n"
		"  --raw                bare code: --base ADDRESS (0) and --bits 16 or 32 (32) say how to read it\n"
		"  --bytes HEX          bare code given here instead of in a file\n"
		"  --summary            classify: only the counts, and whether trap-and-emulate could virtualize the code\n"
		"  --all                classify: innocuous instructions, too; translate: every function\n"
		"  --only=NAME,...      classify: list these, by the summary's names or by mnemonic\n"
		"  --json               classify: one JSON object\n"
		"  --symbols=FILE,...   names for the code, as for run\n"
		"  --at PLACE           translate: an address or a symbol (the entry point)\n"
		"  --count N            translate: so many blocks (a function whole, else 1)\n"
		"  --soft               translate: memory accesses in soft form, not through the window\n"
		"  --cpl N              translate: for this privilege level (0)\n"
		"  --mode N             translate: for the mode that --dump shows for a block\n"
		"  --basic-blocks       translate: end blocks at every branch\n"
		"  --color=WHEN         translate: auto, always or never (auto; NO_COLOR means never)\n"
		"  Classify reads every byte of executable sections as code, in step with symbols: data among them reads as instructions.\n"
		"\n"
		"On the terminal, Ctrl-A x quits, Ctrl-A h shows the other keys, Ctrl-A Ctrl-A sends a Ctrl-A.\n"
		"\n"
		"Exit codes: 0 guest power-off, reset under --no-reboot, or Ctrl-A x; 2 bad usage or input; 4 triple fault, or a guest\n"
		"halted for ever; 6 host failure; 8 --timeout; 128 + N signal N; odd codes as --debug-exit says.\n"
		"\n"
		"Examples\n"
		"  bt-vmm check\n"
		"  bt-vmm run --kernel vmlinuz --initrd initrd.gz --append 'console=ttyS0'\n"
		"  bt-vmm run --kernel vmlinuz --initrd initrd.gz --append 'console=ttyS0 panic=-1' --no-reboot --timeout 60 --stats\n"
		"  bt-vmm run --kernel my-kernel.elf --append 'verbose' --memory 64M --serial file:log --debug-exit\n"
		"  bt-vmm classify --summary vmlinuz\n"
		"  bt-vmm translate my-kernel.elf --at main --cpl 0\n"
		"  bt-vmm translate --bytes '9c 58 fa 8e d8 c3'\n"
		"\n"
		"The manual is bt-vmm(1).\n",
		stdout);
}
