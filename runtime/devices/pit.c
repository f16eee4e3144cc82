/* 8254 interval timer (Intel data sheet, order number 231164) and the system control port 61h, which drives channel 2's gate.
 *
 * Built: modes 0-5 in binary and BCD, low/high/both access, counter latch, read-back of count and status, gates, the new count of modes 2
 * and 3 at the period's end, channel 0 on IRQ 0, port 61h with speaker gate, OUT2 and the refresh toggle. No state is stepped: counts
 * and outputs are computed from the time, so that an idle timer costs nothing, and edges that come faster than they can be delivered merge.
 * Not built: sound, and IRQ 0's low half in mode 3 (the line drops just before it rises; a request held off by CLI is not lost). */
#include "runtime/devices/pit.h"

#include "runtime/devices/pic.h"

/* A period of fewer ticks is served late, with edges merged, lest a guest keep a host core busy with its timer. */
#define SHORTEST_PERIOD 24
#define SHORTEST_PERIOD_NS 20000

#define PORT61_GATE2 0x01u
#define PORT61_WRITABLE 0x0Fu
#define PORT61_REFRESH 0x10u
#define PORT61_OUT2 0x20u
#define REFRESH_NS 15085 /* a refresh request every 18 ticks */

static int64_t now_tick(const struct pit *p)
{
	return board_ns_to_ticks(board_now(p->board), PIT_HZ);
}

static bool periodic(const struct pit_channel *c)
{
	return c->mode == 2 || c->mode == 3;
}

static bool triggered_by_gate(const struct pit_channel *c)
{
	return c->mode == 1 || c->mode == 5;
}

/* Bring a count that was to be taken at the period's end into force. */
static void settle(struct pit_channel *c, int64_t tick)
{
	if (!c->next_reload || tick < c->next_start)
		return;
	c->reload = c->next_reload;
	c->start = c->next_start;
	c->next_reload = 0;
}

/* Ticks since the count was loaded. */
static int64_t elapsed(const struct pit_channel *c, int64_t tick)
{
	if (c->paused >= 0)
		return c->paused;
	return tick > c->start ? tick - c->start : 0;
}

static uint16_t to_bcd(uint32_t n)
{
	return (uint16_t)(n % 10 | n / 10 % 10 << 4 | n / 100 % 10 << 8 | n / 1000 % 10 << 12);
}

static uint32_t from_bcd(uint32_t n)
{
	return (n & 15) + (n >> 4 & 15) * 10 + (n >> 8 & 15) * 100 + (n >> 12 & 15) * 1000;
}

/* The counting element as a read shows it. */
static uint16_t count(const struct pit_channel *c, int64_t tick)
{
	uint32_t modulus = c->bcd ? 10000 : 0x10000, n = c->reload, value;
	int64_t d = elapsed(c, tick);
	if (!c->counting) {
		value = n;
	} else if (c->mode == 2) {
		value = n - (uint32_t)(d % n);
	} else if (c->mode == 3) {
		/* Counts down by two, twice a period; an odd count's high half is one tick longer. */
		uint32_t phase = (uint32_t)(d % n), high = (n + 1) / 2;
		value = (n & ~1u) - 2 * (phase < high ? phase : phase - high);
	} else {
		value = (uint32_t)((n + modulus - (uint32_t)(d % modulus)) % modulus);
	}
	value %= modulus;
	return c->bcd ? to_bcd(value) : (uint16_t)value;
}

static bool output(const struct pit_channel *c, int64_t tick)
{
	int64_t d = elapsed(c, tick);
	bool loaded = c->counting && tick >= c->start;
	switch (c->mode) {
	case 0: return loaded && d >= c->reload;
	case 1: return !loaded || d >= c->reload;
	case 2: return !loaded || !c->gate || d % c->reload != c->reload - 1;
	case 3: return !loaded || !c->gate || d % c->reload < (c->reload + 1) / 2;
	default: return !loaded || d != c->reload;
	}
}

/* The first tick after `after` at which the output rises, or -1. */
static int64_t next_rise(const struct pit_channel *c, int64_t after)
{
	if (!c->counting || c->paused >= 0)
		return -1;
	if (periodic(c)) {
		if (c->next_reload && after < c->next_start)
			return c->next_start;
		int64_t periods = after < c->start ? 0 : (after - c->start) / c->reload;
		return c->start + (periods + 1) * c->reload;
	}
	int64_t end = c->start + c->reload + (c->mode >= 4 ? 1 : 0);
	return end > after ? end : -1;
}

static void set_irq(struct pit *p, bool level)
{
	p->line = level;
	pic_set_line(p->board->pic, 0, level);
}

static void arm(struct pit *p, int64_t now)
{
	int64_t rise = next_rise(&p->channel[0], p->seen);
	if (rise < 0) {
		p->timer.deadline = TIMER_NEVER;
		return;
	}
	int64_t at = board_ticks_to_ns(rise, PIT_HZ);
	bool fast = periodic(&p->channel[0]) && p->channel[0].reload < SHORTEST_PERIOD;
	p->timer.deadline = fast && at < now + SHORTEST_PERIOD_NS ? now + SHORTEST_PERIOD_NS : at;
}

/* Deliver channel 0's edges up to now, as one, and wait for the next. */
static void fire(void *ctx, int64_t now)
{
	struct pit *p = ctx;
	int64_t tick = board_ns_to_ticks(now, PIT_HZ);
	int64_t rise = next_rise(&p->channel[0], p->seen);
	if (rise >= 0 && rise <= tick) {
		set_irq(p, false);
		set_irq(p, true);
	}
	settle(&p->channel[0], tick);
	p->seen = tick;
	arm(p, now);
}

/* A channel before an access at `tick`: edges that are due come first. */
static struct pit_channel *touch(struct pit *p, unsigned n, int64_t tick)
{
	int64_t now = board_now(p->board);
	if (n == 0 && p->timer.deadline <= now)
		fire(p, now);
	settle(&p->channel[n], tick);
	return &p->channel[n];
}

/* After the guest reprogrammed channel 0: old edges are gone, the line follows the output. */
static void channel0_changed(struct pit *p, int64_t tick)
{
	struct pit_channel *c = &p->channel[0];
	p->seen = tick;
	bool out = periodic(c) || output(c, tick);
	if (out != p->line)
		set_irq(p, out);
	arm(p, board_now(p->board));
}

static void load(struct pit_channel *c, uint32_t value, int64_t tick)
{
	value = c->bcd ? from_bcd(value) : value;
	if (!value)
		value = c->bcd ? 10000 : 0x10000;
	/* One is illegal in modes 2 and 3. */
	if (periodic(c) && value == 1)
		value = 2;
	if (periodic(c) && c->counting && c->paused < 0) {
		int64_t periods = tick < c->start ? 0 : (tick - c->start) / c->reload;
		c->next_start = c->start + (periods + 1) * c->reload;
		c->next_reload = value;
		return;
	}
	c->reload = value;
	if (triggered_by_gate(c)) {
		c->armed = true;
		return;
	}
	c->counting = true;
	c->start = tick + 1; /* the next clock loads it */
	c->paused = c->gate ? -1 : 0;
}

static void write_count(struct pit *p, unsigned n, uint8_t value)
{
	int64_t tick = now_tick(p);
	struct pit_channel *c = touch(p, n, tick);
	if (c->access == PIT_BOTH && !c->write_high) {
		c->low = value;
		c->write_high = true;
		if (c->mode == 0)
			c->counting = false; /* the first byte stops it, and OUT is low */
	} else {
		uint32_t both = c->access == PIT_LOW ? value : (uint32_t)value << 8;
		load(c, c->access == PIT_BOTH ? both | c->low : both, tick);
		c->write_high = false;
	}
	if (n == 0)
		channel0_changed(p, tick);
}

static void set_gate(struct pit *p, unsigned n, bool gate)
{
	int64_t tick = now_tick(p);
	struct pit_channel *c = touch(p, n, tick);
	if (gate == c->gate)
		return;
	if (gate && triggered_by_gate(c) && (c->armed || c->counting)) {
		c->counting = true;
		c->start = tick + 1;
	} else if (!gate && !triggered_by_gate(c) && c->counting) {
		c->paused = elapsed(c, tick);
	} else if (gate && c->paused >= 0) {
		/* Modes 2 and 3 start over; 0 and 4 go on. */
		c->start = periodic(c) ? tick + 1 : tick - c->paused;
		c->paused = -1;
	}
	c->gate = gate;
}

static uint8_t status(const struct pit_channel *c, int64_t tick)
{
	bool null_count = !c->counting || tick < c->start || c->next_reload;
	return (uint8_t)(output(c, tick) << 7 | null_count << 6 | c->access << 4 | c->mode << 1 | c->bcd);
}

static void latch_count(struct pit_channel *c, int64_t tick)
{
	if (c->count_latched)
		return; /* the first latch stands until it is read */
	c->latched_count = count(c, tick);
	c->count_latched = true;
}

/* Read-back command: latch count and status of any channels. */
static void read_back(struct pit *p, uint8_t value, int64_t tick)
{
	for (unsigned n = 0; n < 3; n++) {
		if (!(value & 2u << n))
			continue;
		struct pit_channel *c = touch(p, n, tick);
		if (!(value & 0x20))
			latch_count(c, tick);
		if (!(value & 0x10) && !c->status_latched) {
			c->latched_status = status(c, tick);
			c->status_latched = true;
		}
	}
}

static void write_control(struct pit *p, uint8_t value)
{
	int64_t tick = now_tick(p);
	unsigned n = value >> 6;
	if (n == 3) {
		read_back(p, value, tick);
		return;
	}
	struct pit_channel *c = touch(p, n, tick);
	uint8_t access = value >> 4 & 3, mode = value >> 1 & 7;
	if (access == PIT_LATCHED) {
		latch_count(c, tick);
		return;
	}
	*c = (struct pit_channel) {
		.access = access, .mode = mode > 5 ? mode & 3 : mode, .bcd = value & 1, .gate = c->gate, .reload = c->reload, .paused = -1,
	};
	if (n == 0)
		channel0_changed(p, tick);
}

static uint8_t read_count(struct pit *p, unsigned n)
{
	int64_t tick = now_tick(p);
	struct pit_channel *c = touch(p, n, tick);
	if (c->status_latched) {
		c->status_latched = false;
		return c->latched_status;
	}
	uint16_t value = c->count_latched ? c->latched_count : count(c, tick);
	bool high = c->access == PIT_HIGH || (c->access == PIT_BOTH && c->read_high);
	if (c->access == PIT_BOTH)
		c->read_high = !c->read_high;
	if (!c->read_high)
		c->count_latched = false; /* all of it was read */
	return (uint8_t)(high ? value >> 8 : value);
}

static uint32_t read_pit(void *ctx, uint16_t port, unsigned size)
{
	(void)size;
	return port == 0x43 ? 0xFF : read_count(ctx, port & 3);
}

static void write_pit(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	(void)size;
	if (port == 0x43)
		write_control(ctx, (uint8_t)value);
	else
		write_count(ctx, port & 3, (uint8_t)value);
}

static uint32_t read_port61(void *ctx, uint16_t port, unsigned size)
{
	struct pit *p = ctx;
	(void)port, (void)size;
	int64_t tick = now_tick(p);
	struct pit_channel *c = touch(p, 2, tick);
	uint8_t refresh = board_now(p->board) / REFRESH_NS & 1 ? PORT61_REFRESH : 0;
	return p->port61 | refresh | (output(c, tick) ? PORT61_OUT2 : 0);
}

static void write_port61(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct pit *p = ctx;
	(void)port, (void)size;
	p->port61 = value & PORT61_WRITABLE;
	set_gate(p, 2, value & PORT61_GATE2);
}

void pit_reset(struct pit *p)
{
	for (unsigned n = 0; n < 3; n++)
		p->channel[n] = (struct pit_channel) { .access = PIT_BOTH, .mode = 3, .reload = 0x10000, .paused = -1, .gate = n != 2 };
	p->port61 = 0;
	p->timer.deadline = TIMER_NEVER;
	set_irq(p, true); /* OUT idles high; the interrupt controller forgets this edge when it is initialised */
}

void pit_init(struct pit *p, struct board *b)
{
	const struct board_ports pit = { read_pit, write_pit, p }, port61 = { read_port61, write_port61, p };
	*p = (struct pit) { .board = b, .timer = { .fire = fire, .ctx = p, .irq = 0 } };
	board_add_timer(&b->timers, &p->timer);
	board_claim(b, 0x40, 4, 1, &pit);
	board_claim(b, 0x61, 1, 1, &port61);
	pit_reset(p);
}
