/* Calls and returns, and little else. */
/* flags: -fno-optimize-sibling-calls */
#include "user.h"

const char program_name[] = "recursion";
const unsigned program_repetitions = 12;
const uint32_t program_checksum = 2178309;

/* Not inlined into itself: the calls are what is measured. */
__attribute__((noinline)) static uint32_t fibonacci(uint32_t n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

uint32_t program_run(void)
{
	return fibonacci(32);
}
