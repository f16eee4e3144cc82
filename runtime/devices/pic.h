/* The pair of 8259A interrupt controllers. */
#ifndef RUNTIME_DEVICES_PIC_H
#define RUNTIME_DEVICES_PIC_H

#include "runtime/devices/board.h"

struct pic_chip {
	uint8_t irr, imr, isr;
	uint8_t lines;    /* input levels */
	uint8_t elcr;     /* level-triggered inputs */
	uint8_t base;     /* vector of input 0 */
	uint8_t lowest;   /* input with the lowest priority */
	uint8_t expects;  /* the next initialization word: 0 none, 2, 3, 4 */
	uint8_t icw1;
	bool ready;       /* initialised: an 8259A out of reset asserts nothing */
	bool auto_eoi, rotate_auto_eoi, special_mask, special_nested, read_isr, poll;
	bool slave;
};

struct pic {
	struct pic_chip chip[2]; /* master, slave on the master's input 2 */
	bool intr;               /* the master's output */
	void (*set_intr)(void *ctx, bool asserted); /* called when it changes */
	void (*line_changed)(void *ctx, unsigned irq, bool level); /* the same wires go to the I/O APIC */
	void *ctx;
};

void pic_init(struct pic *p, struct board *b);
void pic_reset(struct pic *p);
/* Drive input 0-15. */
void pic_set_line(struct pic *p, unsigned irq, bool level);
/* The processor's INTA cycle: always a vector; with no request standing, that of IRQ 7 or 15 and no in-service bit. */
uint8_t pic_acknowledge(struct pic *p);
/* Would an edge on `irq` assert INTR now? */
bool pic_accepts(const struct pic *p, unsigned irq);

#endif
