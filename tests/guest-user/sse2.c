/* SSE2: a matrix product in packed doubles, then packed integers. */
/* flags: -msse2 -mfpmath=sse */
#include "user.h"

enum { SIZE = 64, ROUNDS = 20 };

const char program_name[] = "sse2";
const unsigned program_repetitions = 40;
const uint32_t program_checksum = 1004574373;

static double a[SIZE][SIZE] __attribute__((aligned(16)));
static double b[SIZE][SIZE] __attribute__((aligned(16)));
static double c[SIZE][SIZE] __attribute__((aligned(16)));

/* The compiler's own vectors: <emmintrin.h> drags in headers of a C library for i386. */
typedef double double2 __attribute__((vector_size(16)));
typedef uint32_t uint32x4 __attribute__((vector_size(16)));

static void multiply(void)
{
	for (int i = 0; i < SIZE; i++)
		for (int j = 0; j < SIZE; j += 2) {
			double2 sum = { 0, 0 };
			for (int k = 0; k < SIZE; k++) sum += (double2){ a[i][k], a[i][k] } * *(const double2 *)&b[k][j];
			*(double2 *)&c[i][j] = sum;
		}
}

static uint32_t hash_integers(const void *data, size_t bytes)
{
	const uint32x4 *values = data;
	uint32x4 sum = { 4, 3, 2, 1 };
	for (size_t i = 0; i < bytes / 16; i++) sum = ((sum << 5) ^ (sum >> 27)) + values[i];
	return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
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
