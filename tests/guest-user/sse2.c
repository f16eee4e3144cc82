/* SSE2: a matrix product in packed doubles, then packed integers. */
/* flags: -msse2 -mfpmath=sse */
#include <emmintrin.h>

#include "user.h"

enum { SIZE = 64, ROUNDS = 20 };

const char program_name[] = "sse2";
const unsigned program_repetitions = 40;
const uint32_t program_checksum = 1004574373;

static double a[SIZE][SIZE] __attribute__((aligned(16)));
static double b[SIZE][SIZE] __attribute__((aligned(16)));
static double c[SIZE][SIZE] __attribute__((aligned(16)));

static void multiply(void)
{
	for (int i = 0; i < SIZE; i++)
		for (int j = 0; j < SIZE; j += 2) {
			__m128d sum = _mm_setzero_pd();
			for (int k = 0; k < SIZE; k++)
				sum = _mm_add_pd(sum, _mm_mul_pd(_mm_set1_pd(a[i][k]), _mm_load_pd(&b[k][j])));
			_mm_store_pd(&c[i][j], sum);
		}
}

static uint32_t hash_integers(const void *data, size_t bytes)
{
	__m128i sum = _mm_set_epi32(1, 2, 3, 4);
	for (size_t i = 0; i < bytes / 16; i++) {
		__m128i value = _mm_load_si128((const __m128i *)data + i);
		sum = _mm_add_epi32(_mm_xor_si128(_mm_slli_epi32(sum, 5), _mm_srli_epi32(sum, 27)), value);
	}
	sum = _mm_xor_si128(sum, _mm_shuffle_epi32(sum, 0x4e));
	return (uint32_t)_mm_cvtsi128_si32(_mm_xor_si128(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

uint32_t program_run(void)
{
	uint32_t sum = 0;
	for (int i = 0; i < SIZE; i++)
		for (int j = 0; j < SIZE; j++) {
			a[i][j] = (double)(i * 3 - j) * 0.5;
			b[i][j] = (double)(j * 5 - i) * 0.25;
		}
	for (int round = 0; round < ROUNDS; round++) {
		a[round][0] += 1.0;
		multiply();
		sum = mix(sum, hash_integers(c, sizeof c));
	}
	return sum;
}
