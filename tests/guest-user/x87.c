/* The x87 stack: a set of planets, as doubles, with square roots and divisions. */
/* flags: -mno-sse -mfpmath=387 */
#include "user.h"

enum { BODIES = 5, STEPS = 30000 };

const char program_name[] = "x87";
const unsigned program_repetitions = 10;
const uint32_t program_checksum = 3279184434u;

struct body {
	double at[3], speed[3], mass;
};

static struct body bodies[BODIES];

static void make_bodies(void)
{
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++) {
			bodies[i].at[k] = (i + 1) * (k == i % 3 ? 1.5 : 0.25);
			bodies[i].speed[k] = (k - 1) * 0.125 / (i + 1);
			bodies[i].mass = i ? 0.001 * i : 1.0;
		}
}

/* No C library here, and a compiler may take its own square root for a call of one. */
static double square_root(double value)
{
	__asm__("fsqrt" : "+t"(value));
	return value;
}

static void attract(struct body *a, struct body *b, double step)
{
	double d[3], squares = 0.01;
	for (int k = 0; k < 3; k++) {
		d[k] = a->at[k] - b->at[k];
		squares += d[k] * d[k];
	}
	double pull = step / (squares * square_root(squares));
	for (int k = 0; k < 3; k++) {
		a->speed[k] -= d[k] * b->mass * pull;
		b->speed[k] += d[k] * a->mass * pull;
	}
}

uint32_t program_run(void)
{
	make_bodies();
	for (int n = 0; n < STEPS; n++) {
		for (int i = 0; i < BODIES; i++)
			for (int j = i + 1; j < BODIES; j++) attract(&bodies[i], &bodies[j], 0.001);
		for (int i = 0; i < BODIES; i++)
			for (int k = 0; k < 3; k++) bodies[i].at[k] += 0.001 * bodies[i].speed[k];
	}
	uint32_t sum = 0;
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++) sum = mix(sum, (uint32_t)(int32_t)(bodies[i].at[k] * 1e6));
	return sum;
}
