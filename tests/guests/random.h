/* Numbers made of a seed, which random_state begins as; not 0. */
#ifndef TESTS_GUESTS_RANDOM_H
#define TESTS_GUESTS_RANDOM_H

#include "guest.h"

static u32 random_state __attribute__((aligned(4096))); /* away from code */

static u32 next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state;
}

static u32 below(u32 n)
{
	return (next() >> 8) % n;
}

#endif
