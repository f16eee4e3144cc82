/* Numbers made of a seed: "seed=N" on the command line, or 1. */
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

/* A number on the command line, or 0. */
static u32 random_option(const char *name)
{
	const u8 *info = (const u8 *)multiboot_info;
	u32 number = 0, length = 0;
	const char *at = *(const u32 *)info & 4 ? *(const char *const *)(info + 16) : "";
	while (name[length]) length++;
	while (*at && memcmp(at, name, length)) at++;
	for (at += *at ? length : 0; *at >= '0' && *at <= '9'; at++) number = number * 10 + (u32)(*at - '0');
	return number;
}

static void random_begin(void)
{
	u32 seed = random_option("seed=");
	random_state = (seed ? seed : 1) * 0x9E3779B9;
}

#endif
