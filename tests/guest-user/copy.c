/* Memory copy by a loop of 16-byte moves, as C libraries do it for middle sizes. */
/* flags: -msse2 */
#include "user.h"

enum { SIZE = 64 << 10, ROUNDS = 3000 };

const char program_name[] = "copy";
const unsigned program_repetitions = 30;
const uint32_t program_checksum = 3440512625u;

static uint32_t from[SIZE / 4] __attribute__((aligned(64)));
static uint32_t to[SIZE / 4] __attribute__((aligned(64)));

typedef uint32_t unaligned_16 __attribute__((vector_size(16), aligned(4), may_alias));

__attribute__((noinline)) static void copy(void *target, const void *source, size_t bytes)
{
	unaligned_16 *t = target;
	const unaligned_16 *s = source;
	for (size_t i = 0; i < bytes / 16; i += 4) {
		unaligned_16 v0 = s[i], v1 = s[i + 1], v2 = s[i + 2], v3 = s[i + 3];
		t[i] = v0;
		t[i + 1] = v1;
		t[i + 2] = v2;
		t[i + 3] = v3;
	}
}

uint32_t program_run(void)
{
	uint32_t sum = 0;
	for (unsigned i = 0; i < SIZE / 4; i++) from[i] = i * 2654435761u;
	for (unsigned round = 0; round < ROUNDS; round++) {
		from[round % (SIZE / 4)] ^= round;
		copy(to, from, SIZE);
		sum = mix(sum, to[round % (SIZE / 4)]);
	}
	return sum;
}
