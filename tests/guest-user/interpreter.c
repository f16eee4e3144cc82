/* A little bytecode machine: an indirect jump or call for every step, with a target that varies. */
#include "user.h"

enum { PROGRAM = 251, STEPS = 3000000 };

const char program_name[] = "interpreter";
const unsigned program_repetitions = 32;
const uint32_t program_checksum = 2747226091u;

static uint32_t add(uint32_t a, uint32_t b)
{
	return a + b;
}
static uint32_t subtract(uint32_t a, uint32_t b)
{
	return a - b;
}
static uint32_t multiply(uint32_t a, uint32_t b)
{
	return a * (b | 1);
}
static uint32_t exclusive(uint32_t a, uint32_t b)
{
	return a ^ b;
}
static uint32_t rotate(uint32_t a, uint32_t b)
{
	return a << (b & 15) | a >> (32 - (b & 15)) % 32;
}

static uint32_t (*const operations[])(uint32_t, uint32_t) = { add, subtract, multiply, exclusive, rotate };

static uint8_t code[PROGRAM];

uint32_t program_run(void)
{
	uint32_t x = 11, value = 1;
	for (unsigned i = 0; i < PROGRAM; i++) {
		x = next_random(x);
		code[i] = (uint8_t)((x >> 16) % 5);
	}
	for (unsigned i = 0, at = 0; i < STEPS; i++) {
		value = operations[code[at]](value, i);
		at = at + 1 < PROGRAM ? at + 1 : 0;
	}
	return value;
}
