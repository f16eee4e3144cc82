/* The 8254 interval timer and port 61h. */
#ifndef RUNTIME_DEVICES_PIT_H
#define RUNTIME_DEVICES_PIT_H

#include "runtime/devices/board.h"

#define PIT_HZ 1193182

enum pit_access { PIT_LATCHED = 0, PIT_LOW = 1, PIT_HIGH = 2, PIT_BOTH = 3 };

struct pit_channel {
	uint8_t mode;     /* 0-5 */
	uint8_t access;   /* enum pit_access: which bytes a read or write moves */
	bool bcd;
	bool gate;
	bool counting;    /* a count was loaded, or is about to be */
	bool armed;       /* modes 1, 5: a count is there and waits for the gate */
	bool write_high;  /* next write is the high byte of two */
	bool read_high;
	uint8_t low;      /* the low byte, until the high one comes */
	uint32_t reload;  /* 1..10000h */
	int64_t start;    /* tick at which the counting element holds `reload` */
	int64_t paused;   /* ticks counted when the gate closed, or -1 */
	/* Modes 2 and 3 take a new count when the period ends. */
	uint32_t next_reload; /* 0: none */
	int64_t next_start;
	bool count_latched, status_latched;
	uint16_t latched_count;
	uint8_t latched_status;
};

struct pit {
	struct pit_channel channel[3];
	struct board *board;
	struct board_timer timer; /* the next rising edge of channel 0 */
	bool line;                /* IRQ 0 as the interrupt controller sees it */
	int64_t seen;             /* edges up to this tick were delivered */
	uint8_t port61;
};

void pit_init(struct pit *p, struct board *b);
void pit_reset(struct pit *p);

#endif
