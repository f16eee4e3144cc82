/* Two processes and one byte that goes to and fro between them. */
#include "user.h"

enum { ROUNDS = 5000 };

const char program_name[] = "pipe";
const unsigned program_repetitions = 4;
const uint32_t program_checksum = 1054517545;
const uint32_t program_operations = ROUNDS;

static void answer(int in, int out)
{
	uint8_t byte;
	while (user_call_kernel(SYS_READ, (uintptr_t)in, (uintptr_t)&byte, 1) == 1) {
		byte += 3;
		user_call_kernel(SYS_WRITE, (uintptr_t)out, (uintptr_t)&byte, 1);
		if (byte == 255) break;
	}
	user_exit(0);
}

uint32_t program_run(void)
{
	int there[2], back[2], status;
	uint32_t sum = 0;
	if (user_call_kernel(SYS_PIPE, (uintptr_t)there, 0, 0) || user_call_kernel(SYS_PIPE, (uintptr_t)back, 0, 0)) return 1;
	int child = user_call_kernel(SYS_FORK, 0, 0, 0);
	if (child == 0) answer(there[0], back[1]);
	for (unsigned i = 0; i <= ROUNDS; i++) {
		/* The last one tells the other process to end. */
		uint8_t byte = i < ROUNDS ? (uint8_t)(i % 200) : 252;
		user_call_kernel(SYS_WRITE, (uintptr_t)there[1], (uintptr_t)&byte, 1);
		user_call_kernel(SYS_READ, (uintptr_t)back[0], (uintptr_t)&byte, 1);
		sum = mix(sum, byte);
	}
	user_call_kernel(SYS_WAITPID, (uintptr_t)child, (uintptr_t)&status, 0);
	for (unsigned i = 0; i < 2; i++) {
		user_call_kernel(SYS_CLOSE, (uintptr_t)there[i], 0, 0);
		user_call_kernel(SYS_CLOSE, (uintptr_t)back[i], 0, 0);
	}
	return sum;
}
