/* The files for perf, read back as perf does. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/perf.h"
#include "tests/shim/test.h"

static uint8_t code[4096] __attribute__((aligned(16)));

static struct block block_at(uint32_t offset, uint32_t length)
{
	return (struct block){ .host_pc = (host_pc_t)code + offset, .host_length = length };
}

static struct perf *open_perf(bool map, bool jitdump)
{
	char why[256] = "";
	struct perf *p;
	struct perf_config config = { map, jitdump, (host_pc_t)code, (host_pc_t)code + sizeof(code) };
	CHECK_EQ(perf_create(&p, &config, why, sizeof(why)), 0);
	return p;
}

static size_t read_back(const char *format, void *to, size_t size)
{
	char name[64];
	snprintf(name, sizeof(name), format, (int)getpid());
	FILE *f = fopen(name, "r");
	size_t got = f ? fread(to, 1, size, f) : 0;
	if (f) fclose(f);
	unlink(name);
	return got;
}

TEST(perf, newest_block_of_a_place_stays_in_the_map)
{
	struct perf *p = open_perf(true, false);
	struct block old[] = { block_at(0, 40), block_at(48, 16), block_at(64, 30) }, fresh = block_at(16, 33);
	for (unsigned i = 0; i < 3; i++) perf_add(p, &old[i], i == 2 ? "[k] far" : "[k] old");
	perf_add(p, &fresh, "[u] a b:c");
	CHECK(perf_destroy(p));
	char text[256] = "", wanted[256];
	read_back("/tmp/perf-%d.map", text, sizeof(text) - 1);
	snprintf(wanted, sizeof(wanted), "%lx 1e [k] far\n%lx 21 [u] a b:c\n", (unsigned long)code + 64, (unsigned long)code + 16);
	CHECK_STR(text, wanted);
}

static uint32_t word(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, 4);
	return value;
}

static uint64_t wide(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, 8);
	return value;
}

/* Offsets as in Linux' jitdump-specification.txt. */
TEST(perf, jitdump_is_as_specified)
{
	struct perf *p = open_perf(false, true);
	struct block b = block_at(32, 5), again = block_at(32, 7);
	memcpy(code + 32, "abcdefg", 7);
	perf_add(p, &b, "one");
	perf_add(p, &again, "two");
	CHECK(perf_destroy(p));
	uint8_t file[1024];
	size_t size = read_back("jit-%d.dump", file, sizeof(file));
	const uint8_t *one = file + 40, *two = one + 56 + 4 + 5, *end = two + 56 + 4 + 7;
	REQUIRE_EQ(size, 40 + 65 + 67 + 16);
	CHECK(word(file) == 0x4A695444 && word(file + 4) == 1 && word(file + 8) == 40 && word(file + 12) == EM_X86_64);
	CHECK_EQ(word(file + 20), getpid());
	CHECK(word(one) == 0 && word(one + 4) == 65 && word(one + 16) == (uint32_t)getpid());
	CHECK(wide(one + 24) == (uint64_t)code + 32 && wide(one + 32) == (uint64_t)code + 32 && wide(one + 40) == 5 && wide(one + 48) == 0);
	CHECK_MEM(one + 56, "one\0abcde", 9);
	CHECK(word(two) == 0 && word(two + 4) == 67 && wide(two + 40) == 7 && wide(two + 48) == 1);
	CHECK_MEM(two + 56, "two\0abcdefg", 11);
	CHECK(word(end) == 3 && word(end + 4) == 16);
	CHECK(wide(file + 24) <= wide(one + 8) && wide(one + 8) <= wide(two + 8) && wide(two + 8) <= wide(end + 8));
}

TEST(perf, folder_that_cannot_be_written)
{
	char why[256] = "", *back = getcwd(NULL, 0);
	struct perf *p;
	REQUIRE(back && !chdir("/proc"));
	CHECK(perf_create(&p, &(struct perf_config){ .jitdump = true }, why, sizeof(why)) < 0);
	CHECK(strstr(why, "--jitdump"));
	perf_destroy(p);
	CHECK_EQ(chdir(back), 0);
	free(back);
}
