/* Processes that begin, touch a page and end. */
#include "user.h"

enum { CHILDREN = 100 };

const char program_name[] = "fork";
const unsigned program_repetitions = 10;
const uint32_t program_checksum = 3800455789u;
const uint32_t program_operations = CHILDREN;

static volatile uint32_t page[1024];

uint32_t program_run(void)
{
	uint32_t sum = 0;
	for (unsigned i = 0; i < CHILDREN; i++) {
		int status = 0;
		page[0] = i;
		int child = user_call_kernel(SYS_FORK, 0, 0, 0);
		if (child == 0) {
			page[0]++;
			user_exit((int)(page[0] & 127));
		}
		if (child < 0 || user_call_kernel(SYS_WAITPID, (uintptr_t)child, (uintptr_t)&status, 0) != child || page[0] != i)
			return i;
		sum = mix(sum, (uint32_t)status);
	}
	return sum;
}
