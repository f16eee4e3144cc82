/* Reads of one byte from /dev/zero. */
#include "user.h"

enum { READS = 20000 };

const char program_name[] = "zero";
const unsigned program_repetitions = 12;
const uint32_t program_checksum = READS;
const uint32_t program_operations = READS;

uint32_t program_run(void)
{
	static int file;
	if (!file) file = user_call_kernel(SYS_OPEN, (uintptr_t) "/dev/zero", 0, 0);
	for (uint32_t i = 0; i < READS; i++) {
		uint8_t byte = 1;
		if (user_call_kernel(SYS_READ, (uintptr_t)file, (uintptr_t)&byte, 1) != 1 || byte) return i;
	}
	return READS;
}
