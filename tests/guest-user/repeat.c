/* The main function of the programs: repeats what one computes, and reports. */
#include "user.h"

static struct user_time pause_start;
static uint32_t paused;

void user_clock_pause(void)
{
	user_read_clock(&pause_start);
}

void user_clock_continue(void)
{
	paused += user_microseconds_since(&pause_start);
}

/* How often to run, by the program's word, if it has one. */
static unsigned find_repetitions(const uintptr_t *stack)
{
	unsigned divisor = 0;
	if (stack[0] < 2) return program_repetitions;
	const char *word = (const char *)stack[2];
	if (word[0] == USER_END_WORD[0]) user_exit(USER_END_CODE);
	for (; *word >= '0' && *word <= '9'; word++) divisor = divisor * 10 + (unsigned)(*word - '0');
	unsigned repetitions = divisor ? program_repetitions / divisor : program_repetitions;
	return repetitions ? repetitions : 1;
}

int user_main(const uintptr_t *stack)
{
	struct user_time start;
	unsigned wrong = 0, repetitions = find_repetitions(stack);
	uint32_t sum = 0;

	user_read_clock(&start);
	for (unsigned i = 0; i < repetitions; i++) {
		sum = program_run();
		wrong += sum != program_checksum;
	}
	uint32_t microseconds = user_microseconds_since(&start) - paused;
	user_report(program_name, microseconds, !wrong, sum, (&program_operations ? program_operations : 1) * repetitions, paused);
	return wrong ? 1 : 0;
}
