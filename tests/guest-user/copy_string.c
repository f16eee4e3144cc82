/* Memory copy and fill by string instructions, of sizes small and large, as kernels do it. */
#include "user.h"

enum { SIZE = 64 << 10, ROUNDS = 4000 };

const char program_name[] = "copy_string";
const unsigned program_repetitions = 100;
const uint32_t program_checksum = 4066389556u;

static uint32_t from[SIZE / 4];
static uint32_t to[SIZE / 4];

static void copy(void *target, const void *source, size_t words)
{
	__asm__ volatile("rep movsl" : "+D"(target), "+S"(source), "+c"(words) : : "memory");
}

static void fill(void *target, uint32_t value, size_t words)
{
	__asm__ volatile("rep stosl" : "+D"(target), "+c"(words) : "a"(value) : "memory");
}

uint32_t program_run(void)
{
	uint32_t sum = 0;
	for (unsigned i = 0; i < SIZE / 4; i++) from[i] = i * 2654435761u;
	for (unsigned round = 0; round < ROUNDS; round++) {
		/* One whole buffer in eight; else up to 4 KiB at odd places. */
		size_t words = round % 8 ? 16 + round * 7 % 1008 : SIZE / 4;
		size_t at = round % 8 ? round * 13 % 4096 : 0;
		copy(to + at, from + at, words);
		sum = mix(sum, to[at + words - 1]);
		fill(to + at, round, words / 2);
		sum = mix(sum, to[at]);
	}
	return sum;
}
