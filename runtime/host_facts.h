/* What host_check judges: apart from how it is found out, so that tests can make hosts up. Private to runtime/host_*.c and their tests. */
#ifndef RUNTIME_HOST_FACTS_H
#define RUNTIME_HOST_FACTS_H

#include "base/types.h"

#include <stdio.h>

#define HOST_NO_LIMIT UINT64_MAX

struct host_facts {
	bool fsgsbase; /* the kernel lets user mode use it, not just the processor */
	bool sse2, fxsr, lahf64, bmi2;
	bool shadow_stack; /* this process runs with one */
	bool memfd, shared_exec; /* memfd_create; and shared memory may be executable */
	uint64_t max_map_count;
	uint64_t mem_available; /* in bytes, as is all below */
	uint64_t cgroup_available;
	uint64_t commit_available; /* under strict overcommit */
	uint64_t address_space; /* RLIMIT_AS */
	uint64_t file_size; /* RLIMIT_FSIZE, which holds for a memfd too */
};

void host_read_facts(struct host_facts *f);

/* Print a line for each requirement if `out`; put the first one missing into `why`. Returns 0 or EXIT_USAGE. */
int host_judge(const struct host_facts *f, uint64_t memory, FILE *out, char *why, size_t why_size);

/* The memory that a process may still take by its cgroup, in the tree mounted at `root` ("/sys/fs/cgroup"), given the text of /proc/self/cgroup. */
uint64_t host_cgroup_available(const char *root, const char *membership);

#endif
