/* Runs a command with its output to a file, and reports as the programs do: the time from fork to the end, and a checksum of the output.
   stopwatch NAME OUTPUT PROGRAM [WORD...] */
#include "user.h"

enum { WRITE_CREATE_TRUNCATE = 01101, FIRST_COMMAND_WORD = 4, BLOCK = 64 << 10, END_NOT_STARTED = 127 };

static uint8_t block[BLOCK];

/* The whole output; a file that cannot be read has the checksum of an empty one. */
static uint32_t sum_file(const char *path)
{
	uint32_t sum = 0;
	int length, file = user_call_kernel(SYS_OPEN, (uintptr_t)path, 0, 0);
	while ((length = user_call_kernel(SYS_READ, (uintptr_t)file, (uintptr_t)block, BLOCK)) > 0)
		for (int i = 0; i < length; i++) sum = sum * 31 + block[i];
	user_call_kernel(SYS_CLOSE, (uintptr_t)file, 0, 0);
	return sum;
}

static void become(const uintptr_t *words, const uintptr_t *environment, int output)
{
	user_call_kernel(SYS_DUP2, (uintptr_t)output, 1, 0);
	user_call_kernel(SYS_EXECVE, words[0], (uintptr_t)words, (uintptr_t)environment);
	user_exit(END_NOT_STARTED);
}

int user_main(const uintptr_t *stack)
{
	struct user_time start;
	int status = -1;
	const uintptr_t *words = stack + 1;
	if (stack[0] < FIRST_COMMAND_WORD) return 2;
	int output = user_call_kernel(SYS_OPEN, words[2], WRITE_CREATE_TRUNCATE, 0600);
	user_read_clock(&start);
	int child = user_call_kernel(SYS_FORK, 0, 0, 0);
	if (child == 0) become(words + 3, words + stack[0] + 1, output);
	user_call_kernel(SYS_WAITPID, (uintptr_t)child, (uintptr_t)&status, 0);
	uint32_t microseconds = user_microseconds_since(&start);
	user_call_kernel(SYS_CLOSE, (uintptr_t)output, 0, 0);
	user_report((const char *)words[1], microseconds, status == 0, sum_file((const char *)words[2]), 1, 0);
	return status != 0;
}
