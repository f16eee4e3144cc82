/* The shortest system call, again and again. */
#include "user.h"

enum { CALLS = 50000 };

const char program_name[] = "getppid";
const unsigned program_repetitions = 10;
const uint32_t program_checksum = 50000;
const uint32_t program_operations = CALLS;

uint32_t program_run(void)
{
	int first = user_call_kernel(SYS_GETPPID, 0, 0, 0);
	for (unsigned i = 0; i < CALLS; i++)
		if (user_call_kernel(SYS_GETPPID, 0, 0, 0) != first) return i;
	return CALLS;
}
