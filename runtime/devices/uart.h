/* A 16550A serial port. */
#ifndef RUNTIME_DEVICES_UART_H
#define RUNTIME_DEVICES_UART_H

#include "runtime/devices/board.h"

#define UART_FIFO 16u

/* The other end of the line. */
struct uart_line {
	void (*send)(void *ctx, uint8_t byte);
	bool (*writable)(void *ctx);                          /* false: bytes would pile up, the guest shall wait */
	unsigned (*receive)(void *ctx, uint8_t *to, unsigned max); /* take what is queued */
	void (*give_back)(void *ctx, unsigned count);         /* the last bytes taken come again, later */
	void *ctx;
};

struct uart {
	struct board *board;
	struct uart_line line;
	struct board_timer timeout;  /* of characters that wait below the trigger level */
	struct board_timer refill;   /* paces input */
	unsigned irq;
	uint16_t base;
	uint8_t ier, fcr, lcr, mcr, msr, scratch, divisor[2];
	uint8_t errors;              /* LSR bits that a read of LSR clears */
	bool thre_pending, timed_out, blocked;
	uint8_t fifo[UART_FIFO];
	unsigned head, count;
	unsigned polls;              /* reads of LSR since the last byte either way */
	int64_t refilled;            /* when input was last taken from the line */
};

void uart_init(struct uart *u, struct board *b, uint16_t base, unsigned irq, const struct uart_line *line);
void uart_reset(struct uart *u);
/* The line has input. */
void uart_input_ready(struct uart *u);
/* The line can be written again. */
void uart_output_ready(struct uart *u);
/* Would input raise the interrupt? */
bool uart_wants_input(const struct uart *u);

#endif
