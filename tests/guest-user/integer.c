/* Arithmetic in registers: multiply, divide, shift, rotate, and branches that depend on the data. */
#include "user.h"

const char program_name[] = "integer";
const unsigned program_repetitions = 24;
const uint32_t program_checksum = 4052523766u;

uint32_t program_run(void)
{
	uint32_t x = 1, sum = 0;
	for (unsigned i = 1; i < 1000000; i++) {
		x = next_random(x);
		if (x & 0x10000) sum += x / (i | 1);
		else sum ^= x >> (i & 15);
		sum = mix(sum, x);
	}
	return sum;
}
