/* Two devices for tests and bare-metal programs: the exit port of QEMU's isa-debug-exit, and the console of Bochs at port E9h.
 *
 * Built: a write of any size to any of the exit device's four ports ends the run with the value written; E9h reads E9h, so that a guest
 * finds it, and writes go out. */
#include "runtime/devices/devices.h"

static uint32_t read_console(void *ctx, uint16_t port, unsigned size)
{
	(void)ctx, (void)port, (void)size;
	return 0xE9;
}

static void write_console(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct debug *d = ctx;
	(void)port, (void)size;
	d->send(d->ctx, (uint8_t)value);
}

static uint32_t read_exit(void *ctx, uint16_t port, unsigned size)
{
	(void)ctx, (void)port, (void)size;
	return 0;
}

static void write_exit(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct debug *d = ctx;
	(void)port, (void)size;
	d->board->end(d->board->ctx, MACHINE_DEBUG_EXIT, value);
}

void debug_init(struct debug *d, struct board *b, void (*send)(void *ctx, uint8_t byte), void *ctx)
{
	const struct board_ports console = { read_console, write_console, d };
	*d = (struct debug) { .board = b, .send = send, .ctx = ctx };
	board_claim(b, 0xE9, 1, 1, &console);
}

void debug_claim_exit(struct debug *d, uint16_t port)
{
	const struct board_ports ports = { read_exit, write_exit, d };
	board_claim(d->board, port, 4, 1 | 2 | 4, &ports);
}
