/* Memory copy by a loop of 16-byte moves, as C libraries do it for middle sizes. */
/* flags: -msse2 */
#include <emmintrin.h>

#include "user.h"

enum { SIZE = 64 << 10, ROUNDS = 3000 };

const char program_name[] = "copy";
const unsigned program_repetitions = 30;
const uint32_t program_checksum = 3440512625u;

static uint32_t from[SIZE / 4] __attribute__((aligned(64)));
static uint32_t to[SIZE / 4] __attribute__((aligned(64)));

__attribute__((noinline)) static void copy(void *target, const void *source, size_t bytes)
{
	__m128i *t = target;
	const __m128i *s = source;
	for (size_t i = 0; i < bytes / 16; i += 4) {
		__m128i v0 = _mm_loadu_si128(s + i), v1 = _mm_loadu_si128(s + i + 1);
		__m128i v2 = _mm_loadu_si128(s + i + 2), v3 = _mm_loadu_si128(s + i + 3);
		_mm_storeu_si128(t + i, v0);
		_mm_storeu_si128(t + i + 1, v1);
		_mm_storeu_si128(t + i + 2, v2);
		_mm_storeu_si128(t + i + 3, v3);
	}
}

uint32_t program_run(void)
{
	uint32_t sum = 0;
	for (unsigned i = 0; i < SIZE / 4; i++)
		from[i] = i * 2654435761u;
	for (unsigned round = 0; round < ROUNDS; round++) {
		from[round % (SIZE / 4)] ^= round;
		copy(to, from, SIZE);
		sum = mix(sum, to[round % (SIZE / 4)]);
	}
	return sum;
}
