/* A board for device tests: an interrupt controller as PCs program it, a clock that stands until it is moved, and notes of what happened. */
#ifndef TESTS_UNIT_TEST_DEVICES_BOARD_H
#define TESTS_UNIT_TEST_DEVICES_BOARD_H

#include <stdlib.h>
#include <string.h>

#include "runtime/devices/board.h"
#include "runtime/devices/pic.h"
#include "tests/shim/test.h"

struct bench {
	struct board board;
	struct pic pic;
	int64_t now, wall;
	bool intr;
	unsigned rises;          /* of INTR */
	enum machine_end end;
	uint32_t end_value;
};

static inline int64_t bench_monotonic(void *ctx) { return ((struct bench *)ctx)->now; }
static inline int64_t bench_wall(void *ctx) { return ((struct bench *)ctx)->wall; }

static inline void bench_end(void *ctx, enum machine_end why, uint32_t value)
{
	struct bench *t = ctx;
	t->end = why;
	t->end_value = value;
}

static inline void bench_intr(void *ctx, bool asserted)
{
	struct bench *t = ctx;
	t->intr = asserted;
	t->rises += asserted;
}

static inline uint8_t in8(struct bench *t, uint16_t port) { return (uint8_t)board_read(&t->board, port, 1); }
static inline void out8(struct bench *t, uint16_t port, uint8_t value) { board_write(&t->board, port, 1, value); }

/* Initialise both controllers with vectors at 20h and 28h, as most kernels do; everything unmasked. */
static inline void bench_program_pic(struct bench *t, uint8_t icw4)
{
	out8(t, 0x20, 0x11), out8(t, 0x21, 0x20), out8(t, 0x21, 0x04), out8(t, 0x21, icw4);
	out8(t, 0xA0, 0x11), out8(t, 0xA1, 0x28), out8(t, 0xA1, 0x02), out8(t, 0xA1, icw4);
	out8(t, 0x21, 0), out8(t, 0xA1, 0);
}

static inline struct bench *bench_create(void)
{
	struct bench *t = calloc(1, sizeof(*t));
	t->now = NS_PER_SECOND;
	t->board.clock = (struct board_clock) { bench_monotonic, bench_wall, t };
	t->board.end = bench_end;
	t->board.ctx = t;
	t->pic.set_intr = bench_intr;
	t->pic.ctx = t;
	pic_init(&t->pic, &t->board);
	return t;
}

/* Let time pass, firing each timer at its deadline. */
static inline void bench_advance(struct bench *t, int64_t ns)
{
	int64_t end = t->now + ns;
	for (;;) {
		int64_t next = board_next_deadline(&t->board.timers);
		if (next > end)
			next = end;
		if (next > t->now) {
			t->wall += next - t->now;
			t->now = next;
		}
		if (board_next_deadline(&t->board.timers) > t->now)
			break;
		board_run_timers(&t->board.timers, t->now);
	}
}

#endif
