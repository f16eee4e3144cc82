/* Files and guest RAM for the tests of the boot protocols: images are built in memory and handed over by name. */
#ifndef TESTS_UNIT_BOOT_IMAGE_H
#define TESTS_UNIT_BOOT_IMAGE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/boot.h"
#include "tests/shim/test.h"

#define FILL 0xA5
#define RAM_SIZE MIB(32)

struct image {
	uint8_t bytes[65536];
	size_t size;
	int fd;
	char name[64];
};

static inline void image_put16(struct image *i, size_t at, uint16_t x) { memcpy(i->bytes + at, &x, 2); }
static inline void image_put32(struct image *i, size_t at, uint32_t x) { memcpy(i->bytes + at, &x, 4); }

/* Give the bytes a file name that is gone with the process. */
static inline const char *image_file(struct image *i)
{
	if (i->fd > 0) close(i->fd);
	i->fd = memfd_create("image", MFD_CLOEXEC);
	if (i->fd < 0 || write(i->fd, i->bytes, i->size) != (ssize_t)i->size) abort();
	snprintf(i->name, sizeof(i->name), "/proc/self/fd/%d", i->fd);
	return i->name;
}

struct loaded {
	struct boot_config config;
	struct boot_entry entry;
	int error;
	char why[1024];
};

/* One RAM for all tests, filled with a pattern before each load. */
static inline uint8_t *image_ram(void)
{
	static uint8_t *ram;
	if (!ram) ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED) abort();
	return ram;
}

static inline void image_load(struct loaded *l)
{
	if (!l->config.ram_size) l->config.ram_size = RAM_SIZE;
	if (!l->config.append) l->config.append = "";
	l->config.ram = image_ram();
	memset(l->config.ram, FILL, RAM_SIZE);
	l->error = boot_load(&l->config, &l->entry, l->why, sizeof(l->why));
}

static inline bool image_ram_untouched(void)
{
	const uint8_t *ram = image_ram();
	return ram[0] == FILL && !memcmp(ram, ram + 1, RAM_SIZE - 1);
}

/* The load must fail, name this in its one sentence, and leave RAM alone. */
static inline void image_expect_failure(struct loaded *l, const char *part, const char *file, int line)
{
	image_load(l);
	if (!l->error) test_fail(file, line, "it was loaded, but should have been refused for: %s", part);
	else if (!strstr(l->why, part)) test_fail(file, line, "the sentence \"%s\" does not say \"%s\"", l->why, part);
	if (strchr(l->why, '\n')) test_fail(file, line, "more than one line: %s", l->why);
	if (l->error && !image_ram_untouched()) test_fail(file, line, "RAM was written: %s", l->why);
}
#define EXPECT_FAILURE(l, part) image_expect_failure(l, part, __FILE__, __LINE__)

static inline uint32_t ram32(uint32_t at)
{
	uint32_t x;
	memcpy(&x, image_ram() + at, 4);
	return x;
}

#endif
