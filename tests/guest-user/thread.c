/* Threads that are created, add a number and end; the creator waits for each. */
#include "user.h"

enum { THREADS = 500, FUTEX_WAIT = 0 };

const char program_name[] = "thread";
const unsigned program_repetitions = 10;
const uint32_t program_checksum = THREADS * (THREADS - 1) / 2;
const uint32_t program_operations = THREADS;

static char stack[4 * USER_PAGE] __attribute__((aligned(16)));
static volatile uint32_t sum;

static void add(void *number)
{
	sum += (uint32_t)(uintptr_t)number;
	user_exit(0);
}

static void wait_for_end(volatile int *id)
{
	for (int value; (value = *id);) user_call_kernel_6(SYS_FUTEX, (uintptr_t)id, FUTEX_WAIT, (uintptr_t)value, 0, 0, 0);
}

uint32_t program_run(void)
{
	sum = 0;
	for (uintptr_t i = 0; i < THREADS; i++) {
		int id = 0;
		if (user_clone(CLONE_THREAD | CLONE_PARENT_SETS_ID | CLONE_CHILD_CLEARS_ID, stack + sizeof stack, add, (void *)i, &id) < 0) return 0;
		wait_for_end(&id);
	}
	return sum;
}
