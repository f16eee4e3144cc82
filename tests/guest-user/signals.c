/* A process sends itself a signal, and its handler returns. */
#include "user.h"

enum { SIGNALS = 5000 };

const char program_name[] = "signals";
const unsigned program_repetitions = 10;
const uint32_t program_checksum = SIGNALS;
const uint32_t program_operations = SIGNALS;

static volatile uint32_t arrived;

static void count(int signal, void *information, void *context)
{
	(void)information;
	(void)context;
	arrived += signal == USER_SIGUSR1;
}

uint32_t program_run(void)
{
	arrived = 0;
	int self = user_call_kernel(SYS_GETPID, 0, 0, 0);
	user_handle_signal(USER_SIGUSR1, count);
	for (uint32_t i = 0; i < SIGNALS; i++)
		if (user_call_kernel(SYS_KILL, (uintptr_t)self, USER_SIGUSR1, 0) || arrived != i + 1) return i;
	return arrived;
}
