#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "runtime/host_facts.h"
#include "runtime/options.h"

/* The host's mappings are the guest's shadow page tables: what the runtime lets windows use, and room for its own. */
#define MAP_COUNT_MIN 49152u
/* Beside guest RAM: translation cache and soft tables, as far as they are filled; all of the tables where the host counts promises. */
#define OVERHEAD MIB(128)
#define COMMIT_OVERHEAD MIB(2048)
/* Windows of 4 GiB, the guarded low 4 GiB, tables; nothing is behind most of it. */
#define ADDRESS_SPACE_MIN MIB(160 * 1024)

struct judge {
	FILE *out;
	char *why;
	size_t why_size;
	bool missing;
};

static void require(struct judge *j, bool ok, const char *name, const char *advice, ...) __attribute__((format(printf, 4, 5)));

/* One requirement; `advice`, with its values, says what to do where it is not met. */
static void require(struct judge *j, bool ok, const char *name, const char *advice, ...)
{
	char text[512];
	va_list args;
	va_start(args, advice);
	vsnprintf(text, sizeof(text), advice, args);
	va_end(args);
	if (j->out && ok) fprintf(j->out, "%s: ok\n", name);
	if (j->out && !ok) fprintf(j->out, "%s: missing: %s\n", name, text);
	if (!ok && !j->missing) snprintf(j->why, j->why_size, "this host lacks %s: %s", name, text);
	if (!ok) j->missing = true;
}

static void judge_processor(struct judge *j, const struct host_facts *f)
{
	static const char newer[] = "use a processor that has it (Intel since Haswell, AMD since Excavator)";
	static const char any[] = "use an x86-64 processor that has it, or a hypervisor that shows it";
#ifdef __x86_64__
	require(j, true, "x86-64 processor", "%s", any);
#else
#error "translated code is x86-64 code"
#endif
	require(j, f->sse2 && f->fxsr, "SSE2 and FXSR", "%s", any);
	require(j, f->lahf64, "LAHF in 64-bit mode", "%s", any);
	require(j, f->bmi2, "BMI2", "%s", newer);
	require(j, f->fsgsbase, "FSGSBASE in user mode",
		"use Linux 5.9 or later without 'nofsgsbase', on Intel since Ivy Bridge or AMD since Steamroller");
	require(j, !f->shadow_stack, "a process without a shadow stack", "start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off");
}

static void judge_memory(struct judge *j, const struct host_facts *f, uint64_t memory)
{
	uint64_t need = memory + OVERHEAD;
	char name[128];
	snprintf(name, sizeof(name), "%" PRIu64 "M of free memory for a guest of %" PRIu64 "M", need >> 20, memory >> 20);
	require(j, f->mem_available >= need, name, "%" PRIu64 "M are free; end other programs, or give the guest less with --memory",
		f->mem_available >> 20);
	snprintf(name, sizeof(name), "%" PRIu64 "M that may be committed", (memory + COMMIT_OVERHEAD) >> 20);
	require(j, f->commit_available >= memory + COMMIT_OVERHEAD, name,
		"%" PRIu64 "M are left; an administrator sets 'sysctl vm.overcommit_memory=0'", f->commit_available >> 20);
	snprintf(name, sizeof(name), "%" PRIu64 "M within the memory limit of the control group", need >> 20);
	require(j, f->cgroup_available >= need, name,
		"%" PRIu64 "M are left; raise the container's or service's memory limit, or give the guest less "
		"with --memory",
		f->cgroup_available >> 20);
	snprintf(name, sizeof(name), "%" PRIu64 "G of address space", (memory + ADDRESS_SPACE_MIN) >> 30);
	require(j, f->address_space >= memory + ADDRESS_SPACE_MIN, name, "the limit is %" PRIu64 "M; run 'ulimit -v unlimited' first",
		f->address_space >> 20);
	snprintf(name, sizeof(name), "files of %" PRIu64 "M", memory >> 20);
	require(j, f->file_size >= memory, name, "the limit is %" PRIu64 "M; run 'ulimit -f unlimited' first", f->file_size >> 20);
}

static void judge_kernel(struct judge *j, const struct host_facts *f)
{
	char name[64];
	snprintf(name, sizeof(name), "vm.max_map_count of at least %u", MAP_COUNT_MIN);
	require(j, f->max_map_count >= MAP_COUNT_MIN, name,
		"it is %" PRIu64 "; an administrator sets it with 'sysctl vm.max_map_count=65530'", f->max_map_count);
	require(j, f->memfd, "memfd_create", "use Linux 3.17 or later, and a sandbox that allows it");
	require(j, f->shared_exec, "executable shared memory", "lift the security policy that forbids it (SELinux)");
}

int host_judge(const struct host_facts *f, uint64_t memory, FILE *out, char *why, size_t why_size)
{
	struct judge j = { out, why, why_size, false };
	judge_processor(&j, f);
	judge_kernel(&j, f);
	judge_memory(&j, f, memory);
	return j.missing ? EXIT_USAGE : 0;
}

int host_check(bool verbose, uint64_t memory, char *why, size_t why_size)
{
	struct host_facts f;
	host_read_facts(&f);
	return host_judge(&f, memory, verbose ? stdout : NULL, why, why_size);
}
