/* A switch that compilers make a jump table of, in a loop: indirect jumps, with targets that vary. */
#include "user.h"

enum { PROGRAM = 509, STEPS = 2000000 };

const char program_name[] = "switches";
const unsigned program_repetitions = 12;
const uint32_t program_checksum = 2665145289u;

static uint8_t code[PROGRAM];

__attribute__((noinline)) static uint32_t step(uint32_t operation, uint32_t a, uint32_t b)
{
	switch (operation) {
	case 0: return a + b;
	case 1: return a - b;
	case 2: return a ^ b;
	case 3: return a * (b | 1);
	case 4: return (a | b) + 7;
	case 5: return a << (b & 7) | 1;
	case 6: return (a >> (b & 7)) + b;
	case 7: return a & ~b;
	case 8: return ~a;
	case 9: return a + (b << 3);
	case 10: return (a ^ 0x5a5a5a5a) - b;
	default: return b - a;
	}
}

uint32_t program_run(void)
{
	uint32_t x = 17, value = 1;
	for (unsigned i = 0; i < PROGRAM; i++) {
		x = next_random(x);
		code[i] = (uint8_t)((x >> 16) % 12);
	}
	for (unsigned i = 0, at = 0; i < STEPS; i++) {
		value = step(code[at], value, i);
		at = at + 1 < PROGRAM ? at + 1 : 0;
	}
	return value;
}
