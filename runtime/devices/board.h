/* What a device sees of the machine: the port bus, the memory bus, the clock, timers, the interrupt controller and the way to end the run. Devices are
 * plain structs that their owner embeds; each claims its ports with itself as the context. Everything here and in the devices is called
 * with the machine's lock held, and uses no floating point: the guest's x87 and MXCSR state is live in the host's registers. */
#ifndef RUNTIME_DEVICES_BOARD_H
#define RUNTIME_DEVICES_BOARD_H

#include "base/types.h"
#include "runtime/machine.h"

#define NS_PER_SECOND 1000000000LL
#define TIMER_NEVER INT64_MAX
#define BOARD_TIMERS 16u

/* Where devices take the time from; tests put their own in. Nanoseconds. */
struct board_clock {
	int64_t (*monotonic)(void *ctx);
	int64_t (*wall)(void *ctx); /* since 1970, UTC */
	void *ctx;
};

/* A deadline on the monotonic clock. Fires once, then is TIMER_NEVER until armed again. */
struct board_timer {
	int64_t deadline;
	void (*fire)(void *ctx, int64_t now);
	void *ctx;
	int irq; /* the interrupt it may cause, or -1: tells whether it can wake a halted guest */
};

/* Those that one thread serves at a time. */
struct board_timers {
	struct board_timer *at[BOARD_TIMERS];
	unsigned count;
};

/* One claim of ports. `port` is the absolute number; size is 1, 2 or 4. */
struct board_ports {
	uint32_t (*read)(void *ctx, uint16_t port, unsigned size);
	void (*write)(void *ctx, uint16_t port, unsigned size, uint32_t value);
	void *ctx;
};

/* Registers in physical memory, where there is no RAM. A device may move its window, or make it empty. An access lies wholly within it:
 * `offset` + `size` <= its size; `size` is 1 to 8. */
struct board_memory {
	gpa_t first;
	uint32_t size;
	uint64_t (*read)(void *ctx, uint32_t offset, unsigned size);
	void (*write)(void *ctx, uint32_t offset, unsigned size, uint64_t value);
	void *ctx;
};

#define BOARD_CLAIMS 48u
#define BOARD_MEMORIES 8u

struct pic;

struct board {
	struct board_clock clock;
	struct pic *pic;
	struct board_timers timers;
	struct board_memory *memories[BOARD_MEMORIES];
	unsigned memory_count;
	bool a20; /* kept for those who read it back; memory is never masked */
	/* End the run: power off, reset, debug exit. */
	void (*end)(void *ctx, enum machine_end why, uint32_t value);
	void *ctx;
	/* For each access size (byte, word, dword) and port: index of the claim + 1, or 0. */
	struct board_ports claims[BOARD_CLAIMS];
	unsigned claim_count;
	uint8_t map[3][0x10000];
};

/* Claim ports first .. first + count - 1 for the access sizes in `sizes` (an OR of 1, 2 and 4). An access of a size that nobody claimed
 * there is done as two of half the size, as a bus splits it; a byte that nobody claimed reads FFh and swallows writes. */
void board_claim(struct board *b, uint16_t first, unsigned count, unsigned sizes, const struct board_ports *ports);
/* Does nobody claim any of these ports? */
bool board_is_free(const struct board *b, uint16_t first, unsigned count);
uint32_t board_read(struct board *b, uint16_t port, unsigned size);
void board_write(struct board *b, uint16_t port, unsigned size, uint32_t value);

void board_add_memory(struct board *b, struct board_memory *m);
/* Where no device is, reads give all ones and writes go nowhere. */
uint64_t board_read_memory(struct board *b, gpa_t gpa, unsigned size);
void board_write_memory(struct board *b, gpa_t gpa, unsigned size, uint64_t value);

void board_add_timer(struct board_timers *list, struct board_timer *t);
/* Fire what is due at `now`. */
void board_run_timers(struct board_timers *list, int64_t now);
/* The earliest deadline, or TIMER_NEVER. */
int64_t board_next_deadline(const struct board_timers *list);

static inline int64_t board_now(const struct board *b)
{
	return b->clock.monotonic(b->clock.ctx);
}

/* floor(ns * hz / 1e9) without overflow or 128-bit division. */
static inline int64_t board_ns_to_ticks(int64_t ns, int64_t hz)
{
	return ns / NS_PER_SECOND * hz + ns % NS_PER_SECOND * hz / NS_PER_SECOND;
}

/* The first nanosecond at which board_ns_to_ticks() gives `ticks`. */
static inline int64_t board_ticks_to_ns(int64_t ticks, int64_t hz)
{
	return ticks / hz * NS_PER_SECOND + (ticks % hz * NS_PER_SECOND + hz - 1) / hz;
}

#endif
