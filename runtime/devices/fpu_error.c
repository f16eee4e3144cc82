/* The PC's way to report x87 errors (Intel SDM vol. 1, appendix D.2.1; figure D-1): FERR# sets a latch that is IRQ 13; a write to port F0h
 * clears it, and asserts IGNNE# for as long as FERR# stays asserted.
 *
 * Built: both. Not built: port F1h, which reset the 80287 and does nothing on later boards. */
#include "runtime/devices/devices.h"
#include "runtime/devices/pic.h"

#define ERROR_IRQ 13u

static void answer(struct fpu_error *f, bool asserted)
{
	if (f->ignne == asserted)
		return;
	f->ignne = asserted;
	f->set_ignne(f->ctx, asserted);
}

void fpu_error_set(struct fpu_error *f, bool asserted)
{
	f->ferr = asserted;
	if (asserted)
		pic_set_line(f->board->pic, ERROR_IRQ, true);
	else
		answer(f, false);
}

static uint32_t read_nothing(void *ctx, uint16_t port, unsigned size)
{
	(void)ctx, (void)port, (void)size;
	return 0xFF;
}

static void write_clear(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct fpu_error *f = ctx;
	(void)port, (void)size, (void)value;
	pic_set_line(f->board->pic, ERROR_IRQ, false);
	answer(f, f->ferr);
}

void fpu_error_reset(struct fpu_error *f)
{
	f->ferr = false;
	answer(f, false);
}

void fpu_error_init(struct fpu_error *f, struct board *b, void (*set_ignne)(void *ctx, bool asserted), void *ctx)
{
	const struct board_ports ports = { read_nothing, write_clear, f };
	*f = (struct fpu_error) { .board = b, .set_ignne = set_ignne, .ctx = ctx };
	board_claim(b, 0xF0, 1, 1, &ports);
}
