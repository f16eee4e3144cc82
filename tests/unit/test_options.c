/* The command line. */
#include <stdio.h>
#include <string.h>

#include "runtime/cpu.h"
#include "runtime/options.h"
#include "tests/shim/test.h"

#define WORDS_MAX 64

struct parsed {
	struct options o;
	int error;
	char why[512];
};

/* Parse "bt-vmm" and these words, up to a NULL. */
static struct parsed parse(const char *const *words)
{
	struct parsed p = { 0 };
	char *argv[WORDS_MAX + 1] = { (char *)"bt-vmm" };
	int argc = 1;
	for (; words[argc - 1] && argc < WORDS_MAX; argc++) argv[argc] = (char *)words[argc - 1];
	p.error = options_parse(&p.o, argc, argv, p.why, sizeof(p.why));
	return p;
}
#define PARSE(...) parse((const char *const[]){ __VA_ARGS__, NULL })
#define RUN(...) PARSE("run", "--kernel", "k", __VA_ARGS__)

static void refused(struct parsed p, const char *part, int line)
{
	if (p.error != EXIT_USAGE) test_fail(__FILE__, line, "accepted, but should be refused for: %s", part);
	else if (!strstr(p.why, part)) test_fail(__FILE__, line, "the sentence \"%s\" does not say \"%s\"", p.why, part);
}
#define REFUSED(p, part) refused(p, part, __LINE__)

TEST(options, defaults)
{
	struct parsed p = PARSE("run", "--kernel", "vmlinuz");
	REQUIRE_EQ(p.error, 0);
	CHECK_EQ(p.o.command, COMMAND_RUN);
	CHECK_STR(p.o.kernel, "vmlinuz");
	CHECK_STR(p.o.append, "");
	CHECK_EQ(p.o.memory, MIB(512));
	CHECK_EQ(p.o.serial, SERIAL_STDIO);
	CHECK_EQ(p.o.initrd_count, 0);
	CHECK_EQ(p.o.timeout, 0);
	CHECK_EQ(p.o.chaos, 0);
	CHECK(p.o.tc_size >= MIB(1));
	CHECK(!p.o.no_reboot && !p.o.debug_exit && !p.o.stats && !p.o.stats_json && !p.o.verify);
	CHECK(!p.o.log && !p.o.dump);
}

TEST(options, looking_inside)
{
	struct parsed p = RUN("--symbols", "vmlinux,program", "--profile=out.svg", "--perf-map", "--jitdump");
	REQUIRE_EQ(p.error, 0);
	CHECK_STR(p.o.symbols, "vmlinux,program");
	CHECK_STR(p.o.profile, "out.svg");
	CHECK(p.o.perf_map && p.o.jitdump);
	p = RUN("--no-reboot");
	CHECK(!p.o.symbols && !p.o.profile && !p.o.perf_map && !p.o.jitdump);
	REFUSED(RUN("--profile"), "--profile needs a file");
	REFUSED(RUN("--symbols="), "--symbols");
	REFUSED(RUN("--perf-map=x"), "--perf-map takes no value");
	CHECK_STR(PARSE("classify", "vmlinuz", "--symbols=System.map").o.inspect.symbols, "System.map");
}

TEST(options, processor_features)
{
	uint64_t usual = cpu_features_default();
	CHECK_EQ(RUN("--no-reboot").o.features, usual);
	CHECK_EQ(RUN("--cpu=-sse3,-pge").o.features, usual & ~(FEATURE_BIT(FEATURE_SSE3) | FEATURE_BIT(FEATURE_PGE)));
	CHECK_EQ(RUN("--cpu", "+sse3").o.features, usual);
	REFUSED(RUN("--cpu=sse3"), "--cpu 'sse3' is unknown: write +NAME or -NAME");
	REFUSED(RUN("--cpu=-sse3,+nonsense"), "--cpu '+nonsense' is unknown");
	REFUSED(RUN("--cpu="), "--cpu is given an empty value");
	REFUSED(RUN("--cpu=-sse3", "--cpu=-pge"), "--cpu is given twice");
	REFUSED(PARSE("check", "--cpu=-sse3"), "bt-vmm check takes no option --cpu");
}

TEST(options, sandbox)
{
	CHECK(!RUN("--sandbox=on").o.no_sandbox);
	CHECK(RUN("--sandbox=off").o.no_sandbox);
	CHECK(!RUN("--stats").o.no_sandbox);
	REFUSED(RUN("--sandbox=no"), "--sandbox 'no' is unknown: give on or off");
	REFUSED(RUN("--sandbox"), "--sandbox needs on or off");
}

TEST(options, everything_with_equals_signs)
{
	struct parsed p = PARSE("run", "--kernel=k", "--initrd=i", "--append=a=b c", "--memory=64M", "--serial=file:s", "--no-reboot",
		"--debug-exit=0x501", "--timeout=7", "--stats=json", "--log=boot:debug", "--tc-size=8M", "--chaos=kicks,check", "--verify",
		"--dump=d");
	REQUIRE_EQ(p.error, 0);
	CHECK_STR(p.o.kernel, "k");
	REQUIRE_EQ(p.o.initrd_count, 1);
	CHECK_STR(p.o.initrd[0], "i");
	CHECK_STR(p.o.append, "a=b c");
	CHECK_EQ(p.o.memory, MIB(64));
	CHECK_EQ(p.o.serial, SERIAL_FILE);
	CHECK_STR(p.o.serial_file, "s");
	CHECK(p.o.no_reboot && p.o.debug_exit && p.o.stats && p.o.stats_json && p.o.verify);
	CHECK(RUN("--testdev").o.testdev && !p.o.testdev);
	CHECK_EQ(p.o.debug_exit_port, 0x501);
	CHECK_EQ(p.o.timeout, 7);
	CHECK_STR(p.o.log, "boot:debug");
	CHECK_EQ(p.o.tc_size, MIB(8));
	CHECK_EQ(p.o.chaos, CHAOS_KICKS | CHAOS_CHECK);
	CHECK_STR(p.o.dump, "d");
}

TEST(options, everything_with_spaces)
{
	struct parsed p = PARSE("run", "--initrd", "i", "--append", "--odd", "--memory", "64m", "--serial", "none", "--timeout", "7", "--log",
		"all:warn", "--tc-size", "1g", "--chaos", "all-soft", "--dump", "d", "--kernel", "k", "--debug-exit", "--stats");
	REQUIRE_EQ(p.error, 0);
	CHECK_STR(p.o.append, "--odd");
	CHECK_EQ(p.o.memory, MIB(64));
	CHECK_EQ(p.o.serial, SERIAL_NONE);
	CHECK_EQ(p.o.tc_size, MIB(1024));
	CHECK_EQ(p.o.chaos, CHAOS_ALL_SOFT);
	CHECK_EQ(p.o.debug_exit_port, 0xF4);
	CHECK(p.o.stats && !p.o.stats_json);
}

TEST(options, optional_values_need_the_equals_sign)
{
	REFUSED(RUN("--stats", "json"), "'json' is no option");
	REFUSED(RUN("--debug-exit", "0xf4"), "'0xf4' is no option");
}

TEST(options, initrd_repeats_and_the_rest_does_not)
{
	struct parsed p = RUN("--initrd", "a", "--initrd=b c");
	REQUIRE_EQ(p.error, 0);
	REQUIRE_EQ(p.o.initrd_count, 2);
	CHECK_STR(p.o.initrd[1], "b c");
	static const char *const once[] = { "--kernel=k", "--append=", "--memory=64M", "--serial=none", "--no-reboot", "--debug-exit", "--testdev",
		"--timeout=1", "--stats", "--log=boot:info", "--tc-size=2M", "--chaos=kicks", "--verify", "--dump=d" };
	for (unsigned i = 0; i < ARRAY_LEN(once); i++) {
		char name[32];
		snprintf(name, sizeof(name), "%.*s is given twice", (int)strcspn(once[i], "="), once[i]);
		REFUSED(PARSE("run", once[i], once[i]), name);
	}
	const char *words[WORDS_MAX] = { "run", "--kernel=k" };
	for (unsigned i = 2; i < 2 + 17; i++) words[i] = "--initrd=x";
	REFUSED(parse(words), "--initrd can be given at most 16 times");
	words[2 + 16] = NULL;
	CHECK_EQ(parse(words).error, 0);
}

TEST(options, sizes)
{
	static const struct {
		const char *text;
		uint64_t bytes; /* 0: refused */
	} rows[] = {
		{ "8M", MIB(8) }, { "8192K", MIB(8) }, { "8388608", MIB(8) }, { "3G", MIB(3072) }, { "3072M", MIB(3072) }, { "9G", 0 },
		{ "8388607", 0 }, { "8191K", 0 }, { "3073M", 0 }, { "8193K", 0 }, { "8388609", 0 }, { "512", 0 }, { "", 0 }, { "M", 0 },
		{ "-8M", 0 }, { " 8M", 0 }, { "8MB", 0 }, { "8T", 0 }, { "8M ", 0 }, { "0x8000000", 0 }, { "8.5M", 0 },
		{ "18446744073709551616", 0 }, { "18014398509481985K", 0 }, { "17179869185G", 0 }, { "8200K", MIB(8) + 8192 },
	};
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct parsed p = RUN("--memory", rows[i].text);
		if (!rows[i].bytes) {
			REFUSED(p, "--memory");
		} else {
			CHECK_EQ(p.error, 0);
			CHECK_EQ(p.o.memory, rows[i].bytes);
		}
	}
	REFUSED(RUN("--tc-size=1048575"), "out of range");
	REFUSED(RUN("--tc-size=1025M"), "out of range");
	REFUSED(RUN("--tc-size=1025K"), "multiple of 1M");
	REFUSED(RUN("--tc-size=big"), "not a size");
	CHECK_EQ(RUN("--tc-size=1M").o.tc_size, MIB(1));
}

TEST(options, numbers)
{
	static const char *const bad_timeouts[] = { "0", "-1", "1.5", "5s", "31536001", "99999999999999999999", "0x", "x" };
	for (unsigned i = 0; i < ARRAY_LEN(bad_timeouts); i++) REFUSED(RUN("--timeout", bad_timeouts[i]), "--timeout");
	CHECK_EQ(RUN("--timeout=31536000").o.timeout, 31536000);
	CHECK_EQ(RUN("--debug-exit=0").o.debug_exit_port, 0);
	CHECK_EQ(RUN("--debug-exit=1281").o.debug_exit_port, 1281);
	CHECK_EQ(RUN("--debug-exit=0XFFFC").o.debug_exit_port, 0xFFFC);
	REFUSED(RUN("--debug-exit=0xfffd"), "--debug-exit '0xfffd'");
	REFUSED(RUN("--debug-exit=f4"), "--debug-exit 'f4'");
	REFUSED(RUN("--debug-exit="), "empty value");
}

TEST(options, serial)
{
	CHECK_STR(RUN("--serial=file:a:b").o.serial_file, "a:b");
	REFUSED(RUN("--serial=file:"), "--serial 'file:'");
	REFUSED(RUN("--serial=tty"), "--serial 'tty'");
	REFUSED(RUN("--serial=stdio,none"), "--serial");
}

TEST(options, chaos)
{
	CHECK_EQ(RUN("--chaos=tiny-cache,one-instruction,few-windows,no-chain,all-direct,kicks,check,fence").o.chaos,
		CHAOS_TINY_CACHE | CHAOS_ONE_INSTRUCTION | CHAOS_FEW_WINDOWS | CHAOS_NO_CHAIN | CHAOS_ALL_DIRECT | CHAOS_KICKS | CHAOS_CHECK |
			CHAOS_FENCE);
	REFUSED(RUN("--chaos=kick"), "--chaos 'kick'");
	REFUSED(RUN("--chaos=kicks,"), "--chaos ''");
	REFUSED(RUN("--chaos=,kicks"), "--chaos ''");
	REFUSED(RUN("--chaos=kicks,all-soft,kicks"), "'kicks' twice");
	REFUSED(RUN("--chaos="), "empty value");
}

TEST(options, contradictions)
{
	REFUSED(RUN("--chaos=all-soft,all-direct"), "all-soft and all-direct");
	REFUSED(RUN("--chaos=all-soft,few-windows"), "all-soft and few-windows");
	REFUSED(RUN("--chaos=tiny-cache", "--tc-size=64M"), "contradict");
	REFUSED(RUN("--tc-size=64M", "--chaos=tiny-cache"), "contradict");
	CHECK_EQ(RUN("--tc-size=64M", "--chaos=kicks").error, 0);
}

TEST(options, what_is_no_option)
{
	REFUSED(PARSE("run"), "no kernel");
	REFUSED(PARSE("run", "vmlinuz"), "'vmlinuz' is no option");
	REFUSED(PARSE("run", "--kernels", "k"), "'--kernels' is unknown");
	REFUSED(PARSE("run", "--ker=k"), "'--ker' is unknown");
	REFUSED(PARSE("run", "-k"), "'-k' is unknown");
	REFUSED(PARSE("run", "--"), "'--' is unknown");
	REFUSED(PARSE("run", ""), "'' is no option");
	REFUSED(PARSE("run", "--kernel"), "--kernel needs a file");
	REFUSED(PARSE("run", "--kernel", "--no-reboot"), "--kernel needs a file");
	REFUSED(PARSE("run", "--kernel", ""), "--kernel is given an empty value");
	REFUSED(RUN("--no-reboot=yes"), "takes no value");
	REFUSED(RUN("--verify="), "takes no value");
	REFUSED(RUN("--stats=xml"), "--stats 'xml'");
}

TEST(options, commands)
{
	CHECK_EQ(PARSE("check").o.command, COMMAND_CHECK);
	CHECK_EQ(PARSE("check", "--memory=1G").o.memory, MIB(1024));
	CHECK_EQ(PARSE("--help").o.command, COMMAND_HELP);
	CHECK_EQ(PARSE("-h").o.command, COMMAND_HELP);
	CHECK_EQ(PARSE("run", "--help").o.command, COMMAND_HELP);
	CHECK_EQ(PARSE("run", "--help").error, 0);
	CHECK_EQ(PARSE("--version").o.command, COMMAND_VERSION);
	REFUSED(PARSE("check", "--kernel=k"), "bt-vmm check takes no option --kernel");
	REFUSED(PARSE("check", "more"), "'more' is no option");
	REFUSED(PARSE("--version", "more"), "without 'more'");
	REFUSED(PARSE("walk"), "command 'walk' is unknown");
	REFUSED(PARSE("--kernel", "k"), "command '--kernel' is unknown");
	char *argv[] = { (char *)"bt-vmm", NULL };
	struct parsed p = { 0 };
	p.error = options_parse(&p.o, 1, argv, p.why, sizeof(p.why));
	REFUSED(p, "no command");
	p.error = options_parse(&p.o, 0, argv + 1, p.why, sizeof(p.why));
	REFUSED(p, "no command");
}

TEST(options, classify_and_translate)
{
	struct parsed p = PARSE("classify", "vmlinuz", "--all", "--json", "--raw", "--base=0x7c00", "--bits=16");
	REQUIRE_EQ(p.error, 0);
	CHECK_EQ(p.o.command, COMMAND_CLASSIFY);
	CHECK_STR(p.o.inspect.file, "vmlinuz");
	CHECK(p.o.inspect.all && p.o.inspect.json && p.o.inspect.raw && !p.o.inspect.summary);
	CHECK_EQ(p.o.inspect.base, 0x7C00);
	CHECK_EQ(p.o.inspect.bits, 16);
	p = PARSE("translate", "--at", "main", "k", "--count=3", "--soft", "--cpl=3", "--basic-blocks", "--color=always");
	REQUIRE_EQ(p.error, 0);
	CHECK_EQ(p.o.command, COMMAND_TRANSLATE);
	CHECK_STR(p.o.inspect.at, "main");
	CHECK(p.o.inspect.soft && p.o.inspect.basic_blocks && !p.o.inspect.has_mode);
	CHECK_EQ(p.o.inspect.count, 3);
	CHECK_EQ(p.o.inspect.cpl, 3);
	CHECK_EQ(p.o.inspect.bits, 32);
	CHECK_EQ(p.o.inspect.color, COLOR_ALWAYS);
	p = PARSE("translate", "--bytes=90", "--mode=0xb8");
	REQUIRE_EQ(p.error, 0);
	CHECK(p.o.inspect.raw);
	CHECK_EQ(p.o.inspect.mode, 0xB8);
	REFUSED(PARSE("classify"), "no file");
	REFUSED(PARSE("classify", "a", "b"), "'b' is a second file");
	REFUSED(PARSE("classify", ""), "empty");
	REFUSED(PARSE("classify", "a", "--bytes=90"), "contradict");
	REFUSED(PARSE("classify", "a", "--base=1"), "--raw");
	REFUSED(PARSE("classify", "a", "--bits=32"), "--raw");
	REFUSED(PARSE("classify", "a", "--raw", "--bits=64"), "--bits '64'");
	REFUSED(PARSE("classify", "a", "--raw", "--base=-1"), "--base '-1'");
	REFUSED(PARSE("run", "--summary"), "bt-vmm run takes no option --summary");
	REFUSED(PARSE("classify", "a", "--kernel=k"), "bt-vmm classify takes no option --kernel");
	REFUSED(PARSE("classify", "a", "--soft"), "bt-vmm classify takes no option --soft");
	REFUSED(PARSE("classify", "a", "--memory=8M"), "bt-vmm classify takes no option --memory");
	REFUSED(PARSE("classify", "a", "--summary", "--all"), "--summary");
	REFUSED(PARSE("classify", "a", "--all", "--only=cli"), "contradict");
	REFUSED(PARSE("translate", "a", "--json"), "bt-vmm translate takes no option --json");
	REFUSED(PARSE("translate", "a", "--all", "--at=x"), "--all");
	REFUSED(PARSE("translate", "a", "--count=0"), "--count '0'");
	REFUSED(PARSE("translate", "a", "--cpl=4"), "--cpl '4'");
	REFUSED(PARSE("translate", "a", "--mode=1", "--soft"), "--mode");
	REFUSED(PARSE("translate", "a", "--mode=x"), "--mode 'x'");
	REFUSED(PARSE("translate", "a", "--color=red"), "--color 'red'");
	REFUSED(PARSE("run", "--kernel=k", "--json"), "bt-vmm run takes no option --json");
}

TEST(options, sentence_is_cut_not_overrun)
{
	char long_word[2000], why[32];
	memset(long_word, 'x', sizeof(long_word) - 1);
	long_word[0] = '-';
	long_word[sizeof(long_word) - 1] = '\0';
	memset(why, 0x5A, sizeof(why));
	char *argv[] = { (char *)"bt-vmm", (char *)"run", long_word, NULL };
	struct options o;
	CHECK_EQ(options_parse(&o, 3, argv, why, 16), EXIT_USAGE);
	CHECK_EQ(strlen(why), 15);
	CHECK_EQ(why[16], 0x5A);
}
