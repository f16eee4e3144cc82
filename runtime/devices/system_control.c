/* System control port A (92h: A20 and fast reset) and the reset control register (CF9h), as in Intel's chip sets.
 *
 * Built: A20 readable back (memory is never masked), reset by bit 0 of 92h and by a rising bit 2 of CF9h. Not built: the difference
 * between hard and soft resets, and the other bits of port 92h, which read as written on some boards and zero here. */
#include "runtime/devices/devices.h"

#define FAST_RESET 0x01u
#define A20 0x02u
#define RESET_CPU 0x04u
#define RESET_WRITABLE 0x0Eu

static uint32_t read_port92(void *ctx, uint16_t port, unsigned size)
{
	const struct system_control *s = ctx;
	(void)port, (void)size;
	return s->board->a20 ? A20 : 0;
}

static void write_port92(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct system_control *s = ctx;
	(void)port, (void)size;
	s->board->a20 = value & A20;
	if (value & FAST_RESET)
		s->board->end(s->board->ctx, MACHINE_RESET, 0);
}

static uint32_t read_cf9(void *ctx, uint16_t port, unsigned size)
{
	const struct system_control *s = ctx;
	(void)port, (void)size;
	return s->reset_control;
}

static void write_cf9(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct system_control *s = ctx;
	(void)port, (void)size;
	bool rises = value & ~s->reset_control & RESET_CPU;
	s->reset_control = value & RESET_WRITABLE;
	if (rises)
		s->board->end(s->board->ctx, MACHINE_RESET, 0);
}

void system_control_reset(struct system_control *s)
{
	s->reset_control = 0;
}

void system_control_init(struct system_control *s, struct board *b)
{
	const struct board_ports port92 = { read_port92, write_port92, s }, cf9 = { read_cf9, write_cf9, s };
	*s = (struct system_control) { .board = b };
	board_claim(b, 0x92, 1, 1, &port92);
	board_claim(b, 0xCF9, 1, 1, &cf9);
}
