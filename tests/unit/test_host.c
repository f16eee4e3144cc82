/* What a host must have: made-up hosts, and cgroup trees made for the purpose. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/host_facts.h"
#include "runtime/options.h"
#include "tests/shim/test.h"

static struct host_facts good_host(void)
{
	return (struct host_facts){
		.fsgsbase = true, .sse2 = true, .fxsr = true, .lahf64 = true, .bmi2 = true, .memfd = true, .shared_exec = true,
		.max_map_count = 65530, .mem_available = MIB(4096), .cgroup_available = HOST_NO_LIMIT, .commit_available = HOST_NO_LIMIT,
		.address_space = HOST_NO_LIMIT, .file_size = HOST_NO_LIMIT,
	};
}

/* The host must be refused with this in the one sentence. */
static void lacks(struct host_facts f, const char *part, int line)
{
	char why[512] = "";
	int code = host_judge(&f, MIB(512), NULL, why, sizeof(why));
	if (code != EXIT_USAGE) test_fail(__FILE__, line, "accepted, but should lack: %s", part);
	else if (!strstr(why, part)) test_fail(__FILE__, line, "the sentence \"%s\" does not say \"%s\"", why, part);
	if (strchr(why, '\n')) test_fail(__FILE__, line, "more than one line: %s", why);
}
#define LACKS(part, ...) \
	do { \
		struct host_facts f = good_host(); \
		__VA_ARGS__; \
		lacks(f, part, __LINE__); \
	} while (0)

TEST(host, a_good_one)
{
	struct host_facts f = good_host();
	char why[512] = "untouched";
	CHECK_EQ(host_judge(&f, MIB(512), NULL, why, sizeof(why)), 0);
	CHECK_STR(why, "untouched");
}

TEST(host, each_thing_missing)
{
	LACKS("FSGSBASE", f.fsgsbase = false);
	LACKS("SSE2", f.sse2 = false);
	LACKS("FXSR", f.fxsr = false);
	LACKS("LAHF", f.lahf64 = false);
	LACKS("BMI2", f.bmi2 = false);
	LACKS("shadow stack", f.shadow_stack = true);
	LACKS("memfd_create", f.memfd = false);
	LACKS("executable shared memory", f.shared_exec = false);
	LACKS("it is 49151; an administrator", f.max_map_count = 49151);
	LACKS("640M of free memory for a guest of 512M: 639M are free", f.mem_available = MIB(640) - 1);
	LACKS("vm.overcommit_memory", f.commit_available = MIB(100));
	LACKS("control group", f.cgroup_available = MIB(600));
	LACKS("ulimit -v", f.address_space = MIB(4096));
	LACKS("ulimit -f", f.file_size = MIB(511));
}

TEST(host, limits_that_just_suffice)
{
	struct host_facts f = good_host();
	f.max_map_count = 49152;
	f.mem_available = f.cgroup_available = MIB(640);
	f.commit_available = MIB(2560);
	f.file_size = MIB(512);
	char why[512];
	CHECK_EQ(host_judge(&f, MIB(512), NULL, why, sizeof(why)), 0);
	CHECK_EQ(host_judge(&f, MIB(513), NULL, why, sizeof(why)), EXIT_USAGE);
}

TEST(host, verbose_says_ok_or_what_to_do_for_each)
{
	struct host_facts f = good_host();
	f.bmi2 = f.fsgsbase = false;
	char *text = NULL, why[512];
	size_t size;
	FILE *out = open_memstream(&text, &size);
	REQUIRE(out != NULL);
	CHECK_EQ(host_judge(&f, MIB(512), out, why, sizeof(why)), EXIT_USAGE);
	fclose(out);
	CHECK(strstr(text, "BMI2: missing: use") != NULL);
	CHECK(strstr(text, "FSGSBASE in user mode: missing: use") != NULL);
	CHECK(strstr(text, "SSE2 and FXSR: ok\n") != NULL);
	CHECK(strstr(why, "BMI2") != NULL); /* the first one */
	unsigned lines = 0, answered = 0;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
		answered += strstr(line, ": ok") != NULL || strstr(line, ": missing: ") != NULL;
	}
	CHECK(lines >= 12);
	CHECK_EQ(answered, lines);
	free(text);
}

TEST(host, this_one_can_be_read)
{
	struct host_facts f;
	host_read_facts(&f);
	CHECK(f.sse2 && f.fxsr); /* any x86-64 */
	CHECK(f.max_map_count > 0);
	CHECK(f.mem_available > MIB(1));
	CHECK(f.memfd);
}

static char folder[64];

static void write_file(const char *path, const char *text)
{
	char name[256];
	snprintf(name, sizeof(name), "%s/%s", folder, path);
	for (char *slash = name + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(name, 0700);
		*slash = '/';
	}
	FILE *f = fopen(name, "w");
	if (!f) abort();
	fputs(text, f);
	fclose(f);
}

static void remove_all(void)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	CHECK_EQ(system(command), 0);
}

TEST(host, cgroup_v2_takes_the_tightest_level)
{
	strcpy(folder, "/tmp/bt-vmm-test-XXXXXX");
	REQUIRE(mkdtemp(folder) != NULL);
	write_file("a/b/memory.max", "max\n");
	write_file("a/memory.max", "1000000\n");
	write_file("a/memory.current", "700000\n");
	write_file("a/memory.stat", "anon 300000\nfile 400000\ninactive_file 250000\nactive_file 50000\n");
	CHECK_EQ(host_cgroup_available(folder, "0::/a/b\n"), 600000); /* what is cached can be reclaimed */
	CHECK_EQ(host_cgroup_available(folder, "0::/c\n"), HOST_NO_LIMIT);
	CHECK_EQ(host_cgroup_available(folder, "0::/\n"), HOST_NO_LIMIT);
	write_file("a/b/memory.max", "100\n");
	write_file("a/b/memory.current", "4096\n");
	CHECK_EQ(host_cgroup_available(folder, "0::/a/b\n"), 0);
	remove_all();
}

TEST(host, cgroup_v1)
{
	strcpy(folder, "/tmp/bt-vmm-test-XXXXXX");
	REQUIRE(mkdtemp(folder) != NULL);
	write_file("memory/memory.limit_in_bytes", "9223372036854771712\n"); /* v1's "none" */
	write_file("memory/x/memory.limit_in_bytes", "1000000\n");
	write_file("memory/x/memory.usage_in_bytes", "400000\n");
	write_file("memory/x/memory.stat", "inactive_file 1\ntotal_inactive_file 100000\ntotal_active_file 0\n");
	CHECK_EQ(host_cgroup_available(folder, "8:cpu:/x\n4:memory:/x\n0::/\n"), 700000);
	CHECK_EQ(host_cgroup_available(folder, "8:cpu:/x\n"), HOST_NO_LIMIT);
	CHECK_EQ(host_cgroup_available(folder, "4:memory:/\n"), HOST_NO_LIMIT);
	CHECK_EQ(host_cgroup_available(folder, ""), HOST_NO_LIMIT);
	CHECK_EQ(host_cgroup_available(folder, "nonsense\n::\n:"), HOST_NO_LIMIT);
	remove_all();
}
