#include "runtime/perf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 16u /* blocks begin at a multiple of this */

/* Where a line of the map is, and the code that it names. */
struct map_line {
	uint64_t at;
	uint32_t length;
	uint32_t offset, size; /* in code memory */
};

struct perf {
	struct perf_config config;
	FILE *map, *dump;
	char map_name[64];
	void *marker; /* by this mapping `perf record` learns of the dump */
	struct map_line *lines;
	size_t line_count, line_room;
	uint64_t map_size;
	uint64_t code_index;
	bool failed;
};

/* tools/perf/Documentation/jitdump-specification.txt of Linux. All fields are in the host's byte order. */
enum { JIT_CODE_LOAD = 0, JIT_CODE_CLOSE = 3 };
#define JITDUMP_MAGIC 0x4A695444u

struct jitdump_header {
	uint32_t magic, version, total_size, elf_mach, pad1, pid;
	uint64_t timestamp, flags;
};

struct jitdump_record {
	uint32_t id, total_size;
	uint64_t timestamp;
};

struct jitdump_load {
	struct jitdump_record record;
	uint32_t pid, tid;
	uint64_t vma, code_addr, code_size, code_index;
};

/* The clock of `perf record -k mono`. */
static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A new file of ours: perf believes no one else's, and in /tmp there may be anything. */
static FILE *create_file(const char *name, const char *option, char *why, size_t why_size)
{
	unlink(name);
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	FILE *f = fd >= 0 ? fdopen(fd, "w+") : NULL;
	if (f) return f;
	int error = errno;
	snprintf(why, why_size, "the file '%s' of %s could not be created: %s", name, option, strerror(error));
	errno = error;
	return NULL;
}

static int open_map(struct perf *p, char *why, size_t why_size)
{
	snprintf(p->map_name, sizeof(p->map_name), "/tmp/perf-%d.map", (int)getpid());
	p->map = create_file(p->map_name, "--perf-map", why, why_size);
	return p->map ? 0 : -errno;
}

static int open_dump(struct perf *p, char *why, size_t why_size)
{
	char name[64];
	snprintf(name, sizeof(name), "jit-%d.dump", (int)getpid());
	p->dump = create_file(name, "--jitdump", why, why_size);
	if (!p->dump) return -errno;
	struct jitdump_header h = { .magic = JITDUMP_MAGIC, .version = 1, .total_size = sizeof(h), .elf_mach = EM_X86_64,
		.pid = (uint32_t)getpid(), .timestamp = now() };
	fwrite(&h, sizeof(h), 1, p->dump);
	if (fflush(p->dump)) return snprintf(why, why_size, "the file '%s' of --jitdump could not be written", name), -EIO;
	void *marker = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(p->dump), 0);
	if (marker == MAP_FAILED) {
		int error = errno;
		snprintf(why, why_size, "--jitdump needs a current directory whose files may be executed: %s", strerror(error));
		return -error;
	}
	p->marker = marker;
	return 0;
}

int perf_create(struct perf **out, const struct perf_config *config, char *why, size_t why_size)
{
	struct perf *p = *out = calloc(1, sizeof(*p));
	if (!p) return snprintf(why, why_size, "no memory left on the host for --perf-map and --jitdump"), -ENOMEM;
	p->config = *config;
	int error = config->map ? open_map(p, why, why_size) : 0;
	if (!error && config->jitdump) error = open_dump(p, why, why_size);
	if (error && p->map) unlink(p->map_name);
	return error;
}

static bool remember(struct perf *p, const struct map_line *line)
{
	if (p->line_count == p->line_room) {
		size_t room = p->line_room ? 2 * p->line_room : 1024;
		struct map_line *grown = realloc(p->lines, room * sizeof(*grown));
		if (!grown) return false;
		p->lines = grown;
		p->line_room = room;
	}
	p->lines[p->line_count++] = *line;
	return true;
}

static void add_to_map(struct perf *p, const struct block *b, const char *name)
{
	int length = fprintf(p->map, "%" PRIx64 " %x %s\n", (uint64_t)b->host_pc, b->host_length, name);
	struct map_line line = { p->map_size, (uint32_t)length, (uint32_t)(b->host_pc - p->config.from), b->host_length };
	if (length < 0 || !remember(p, &line)) p->failed = true;
	else p->map_size += (uint32_t)length;
}

static void add_to_dump(struct perf *p, const struct block *b, const char *name)
{
	size_t name_size = strlen(name) + 1;
	struct jitdump_load load = {
		.record = { JIT_CODE_LOAD, (uint32_t)(sizeof(load) + name_size + b->host_length), now() },
		.pid = (uint32_t)getpid(), .tid = (uint32_t)syscall(SYS_gettid), .vma = b->host_pc, .code_addr = b->host_pc,
		.code_size = b->host_length, .code_index = p->code_index++,
	};
	fwrite(&load, sizeof(load), 1, p->dump);
	fwrite(name, name_size, 1, p->dump);
	fwrite((const void *)b->host_pc, b->host_length, 1, p->dump);
}

void perf_add(struct perf *p, const struct block *b, const char *name)
{
	if (p->map) add_to_map(p, b, name);
	if (p->dump) add_to_dump(p, b, name);
}

/* Take these lines of code memory; false if a newer block has one of them. */
static bool take(uint8_t *taken, uint32_t offset, uint32_t size)
{
	bool free = true;
	for (uint32_t i = offset / LINE_BYTES; i <= (offset + size - 1) / LINE_BYTES; i++) {
		free &= !(taken[i / 8] >> i % 8 & 1);
		taken[i / 8] |= (uint8_t)(1u << i % 8);
	}
	return free;
}

/* The map has no times: of blocks that had the same place after each other only the newest stays. */
static bool drop_overwritten(struct perf *p)
{
	char *text = malloc(p->map_size + 1);
	uint8_t *taken = calloc((p->config.to - p->config.from) / LINE_BYTES / 8 + 1, 1);
	bool good = text && taken && !fflush(p->map) && pread(fileno(p->map), text, p->map_size, 0) == (ssize_t)p->map_size;
	for (size_t i = p->line_count; good && i-- > 0;) {
		struct map_line *l = &p->lines[i];
		if (!take(taken, l->offset, l->size)) l->length = 0;
	}
	rewind(p->map);
	good = good && !ftruncate(fileno(p->map), 0);
	for (size_t i = 0; good && i < p->line_count; i++) fwrite(text + p->lines[i].at, 1, p->lines[i].length, p->map);
	free(text);
	free(taken);
	return good;
}

static bool finish(FILE *f)
{
	bool good = f && !ferror(f);
	return f && !fclose(f) && good;
}

bool perf_destroy(struct perf *p)
{
	if (!p) return true;
	bool good = !p->failed;
	if (p->map && p->line_count) good &= drop_overwritten(p);
	if (p->map) good &= finish(p->map);
	if (p->dump) {
		struct jitdump_record end = { JIT_CODE_CLOSE, sizeof(end), now() };
		fwrite(&end, sizeof(end), 1, p->dump);
		good &= finish(p->dump);
	}
	if (p->marker) munmap(p->marker, PAGE_SIZE);
	free(p->lines);
	free(p);
	return good;
}
