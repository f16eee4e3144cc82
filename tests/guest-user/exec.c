/* Processes that become another program, a static one of a few pages, which ends at once. */
#include "user.h"

enum { CHILDREN = 50 };

const char program_name[] = "exec";
const unsigned program_repetitions = 10;
const uint32_t program_checksum = CHILDREN;
const uint32_t program_operations = CHILDREN;

static char stack[4 * USER_PAGE] __attribute__((aligned(16)));

static void become_another(void *unused)
{
	static const char *const words[] = { program_name, USER_END_WORD, NULL };
	(void)unused;
	user_call_kernel(SYS_EXECVE, (uintptr_t) "/proc/self/exe", (uintptr_t)words, (uintptr_t)&words[2]);
	user_exit(1);
}

uint32_t program_run(void)
{
	for (uint32_t i = 0; i < CHILDREN; i++) {
		int id, status = 0;
		int child = user_clone(CLONE_MEMORY | CLONE_VFORK | USER_SIGCHLD, stack + sizeof stack, become_another, NULL, &id);
		if (child < 0 || user_call_kernel(SYS_WAITPID, (uintptr_t)child, (uintptr_t)&status, 0) != child || status != USER_END_CODE << 8) return i;
	}
	return CHILDREN;
}
