/* Ticks of the time-stamp counter for one operation: what ring0.c measures with, and ring0_native.c beside it. */
#ifndef TESTS_GUESTS_TICKS_H
#define TESTS_GUESTS_TICKS_H

#include <stdint.h>

enum { TICKS_SAMPLES = 31, TICKS_MEASURES = 32 };

struct ticks {
	const char *name;
	uint32_t median, count; /* ticks of `count` operations */
};

static struct ticks ticks_results[TICKS_MEASURES];
static unsigned ticks_measured;

static inline uint32_t ticks_now(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return low;
}

static inline void ticks_sort(uint32_t *samples)
{
	for (int i = 1; i < TICKS_SAMPLES; i++) {
		uint32_t sample = samples[i];
		int k = i;
		for (; k > 0 && samples[k - 1] > sample; k--) samples[k] = samples[k - 1];
		samples[k] = sample;
	}
}

/* `operate` does a thing as often as it is told. */
static void ticks_measure(const char *name, void (*operate)(uint32_t), uint32_t count)
{
	uint32_t samples[TICKS_SAMPLES];
	operate(count);
	for (int i = 0; i < TICKS_SAMPLES; i++) {
		uint32_t start = ticks_now();
		operate(count);
		samples[i] = ticks_now() - start;
	}
	ticks_sort(samples);
	ticks_results[ticks_measured++] = (struct ticks){ name, samples[TICKS_SAMPLES / 2], count };
}

/* Ticks for one, and the hundredths, without 64-bit division. */
static inline uint32_t ticks_whole(const struct ticks *t) { return t->median / t->count; }
static inline uint32_t ticks_hundredths(const struct ticks *t) { return t->median % t->count * 100 / t->count; }

/* What runs alike in any ring. `count` is a multiple of eight. */
#define TICKS_EIGHT(...) __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__

__asm__("ticks_return: ret\n");
extern char ticks_return[];

static void ticks_call(uint32_t count)
{
	for (; count; count -= 8) __asm__ volatile(TICKS_EIGHT("call ticks_return\n\t") : : : "memory");
}

static void ticks_call_indirect(uint32_t count)
{
	for (; count; count -= 8) __asm__ volatile(TICKS_EIGHT("call *%0\n\t") : : "r"(ticks_return) : "memory");
}

static void ticks_flags(uint32_t count)
{
	for (; count; count -= 8) __asm__ volatile(TICKS_EIGHT("pushf\n\tpopf\n\t") : : : "memory", "cc");
}

static void ticks_measure_common(void)
{
	ticks_measure("call and return", ticks_call, 8000);
	ticks_measure("indirect call and return", ticks_call_indirect, 8000);
	ticks_measure("pushf and popf", ticks_flags, 8000);
}

#endif
