#include "runtime/host_facts.h"

#include <cpuid.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HWCAP2_FSGSBASE_BIT 2u
#define ARCH_SHSTK_STATUS_CODE 0x5005
#define SHSTK_ENABLED 1u
#define PATH_SIZE 1024

/* The whole text of a small file; empty if it cannot be read. */
static void read_text(const char *path, char *text, size_t size)
{
	size_t used = 0;
	FILE *f = fopen(path, "re");
	if (f) {
		used = fread(text, 1, size - 1, f);
		fclose(f);
	}
	text[used] = '\0';
}

/* The number behind `key` at the start of a line, or `missing`. */
static uint64_t find_number(const char *text, const char *key, uint64_t missing)
{
	for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		if (!strncmp(line, key, strlen(key))) return strtoull(line + strlen(key), NULL, 10);
	}
	return missing;
}

static uint64_t read_number(const char *path, uint64_t missing)
{
	char text[64];
	read_text(path, text, sizeof(text));
	return *text >= '0' && *text <= '9' ? strtoull(text, NULL, 10) : missing;
}

/* What one cgroup leaves: the limit, less what is used and cannot be reclaimed. */
static uint64_t cgroup_level(const char *folder, bool v2)
{
	char path[PATH_SIZE + 64], stat[8192];
	snprintf(path, sizeof(path), "%s/%s", folder, v2 ? "memory.max" : "memory.limit_in_bytes");
	uint64_t limit = read_number(path, HOST_NO_LIMIT);
	if (limit >= UINT64_C(1) << 60) return HOST_NO_LIMIT;
	snprintf(path, sizeof(path), "%s/%s", folder, v2 ? "memory.current" : "memory.usage_in_bytes");
	uint64_t used = read_number(path, 0);
	snprintf(path, sizeof(path), "%s/memory.stat", folder);
	read_text(path, stat, sizeof(stat));
	uint64_t cached = find_number(stat, v2 ? "inactive_file " : "total_inactive_file ", 0) +
		find_number(stat, v2 ? "active_file " : "total_active_file ", 0);
	used -= cached < used ? cached : used;
	return used < limit ? limit - used : 0;
}

/* The least that the cgroup and its ancestors leave. */
static uint64_t cgroup_levels(const char *root, const char *path, size_t length, bool v2)
{
	char folder[PATH_SIZE];
	uint64_t least = HOST_NO_LIMIT;
	int used = snprintf(folder, sizeof(folder), "%s%s%.*s", root, v2 ? "" : "/memory", (int)length, path);
	if (used < 0 || (size_t)used >= sizeof(folder)) return least;
	size_t top = strlen(root) + (v2 ? 0 : strlen("/memory"));
	for (;;) {
		uint64_t level = cgroup_level(folder, v2);
		if (level < least) least = level;
		char *slash = strrchr(folder + top, '/');
		if (!slash) return least;
		*slash = '\0';
	}
}

uint64_t host_cgroup_available(const char *root, const char *membership)
{
	uint64_t least = HOST_NO_LIMIT;
	for (const char *line = membership; *line;) {
		size_t length = strcspn(line, "\n");
		const char *controllers = memchr(line, ':', length);
		const char *path = controllers ? memchr(controllers + 1, ':', length - (size_t)(controllers + 1 - line)) : NULL;
		if (path) {
			size_t names = (size_t)(path - controllers - 1);
			bool v2 = names == 0, v1 = names == 6 && !memcmp(controllers + 1, "memory", 6);
			uint64_t here = v1 || v2 ? cgroup_levels(root, path + 1, length - (size_t)(path + 1 - line), v2) : HOST_NO_LIMIT;
			if (here < least) least = here;
		}
		line += length + (line[length] == '\n');
	}
	return least;
}

static uint64_t read_limit(int resource)
{
	struct rlimit limit;
	return getrlimit(resource, &limit) || limit.rlim_cur == RLIM_INFINITY ? HOST_NO_LIMIT : limit.rlim_cur;
}

static uint64_t read_commit(const char *meminfo)
{
	if (read_number("/proc/sys/vm/overcommit_memory", 0) != 2) return HOST_NO_LIMIT;
	uint64_t limit = find_number(meminfo, "CommitLimit:", 0), used = find_number(meminfo, "Committed_AS:", 0);
	return used < limit ? (limit - used) << 10 : 0;
}

static void read_memory(struct host_facts *f)
{
	char text[8192];
	read_text("/proc/meminfo", text, sizeof(text));
	f->mem_available = find_number(text, "MemAvailable:", HOST_NO_LIMIT >> 10) << 10;
	f->commit_available = read_commit(text);
	read_text("/proc/self/cgroup", text, sizeof(text));
	f->cgroup_available = host_cgroup_available("/sys/fs/cgroup", text);
	f->address_space = read_limit(RLIMIT_AS);
	f->file_size = read_limit(RLIMIT_FSIZE);
	f->max_map_count = read_number("/proc/sys/vm/max_map_count", 65530);
}

static void read_processor(struct host_facts *f)
{
	unsigned a, b, c, d;
	f->fsgsbase = (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) != 0;
	if (__get_cpuid(1, &a, &b, &c, &d)) {
		f->sse2 = (d & bit_SSE2) != 0;
		f->fxsr = (d & bit_FXSAVE) != 0;
	}
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) f->bmi2 = (b & bit_BMI2) != 0;
	if (__get_cpuid(0x80000001, &a, &b, &c, &d)) f->lahf64 = (c & bit_LAHF_LM) != 0;
}

static void try_memory(struct host_facts *f)
{
	int fd = memfd_create("bt-vmm check", MFD_CLOEXEC);
	f->memfd = fd >= 0;
	if (fd >= 0) close(fd);
	/* Not written to: the page is never touched. */
	void *p = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	f->shared_exec = p != MAP_FAILED;
	if (f->shared_exec) munmap(p, PAGE_SIZE);
}

void host_read_facts(struct host_facts *f)
{
	uint64_t shadow_stack = 0;
	*f = (struct host_facts){ 0 };
	read_processor(f);
	read_memory(f);
	try_memory(f);
	/* Kernels that know no shadow stacks refuse the question. */
	f->shadow_stack = !syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS_CODE, &shadow_stack) && (shadow_stack & SHSTK_ENABLED);
}
