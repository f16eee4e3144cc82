/* The local APIC of the one processor. */
#ifndef RUNTIME_DEVICES_APIC_H
#define RUNTIME_DEVICES_APIC_H

#include "runtime/devices/board.h"

enum apic_lvt { LVT_TIMER, LVT_THERMAL, LVT_COUNTERS, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* How a message or an input reaches the processor. */
enum apic_delivery { APIC_FIXED = 0, APIC_LOWEST = 1, APIC_NMI = 4, APIC_EXTINT = 7 };

/* What a processor takes: interrupts (IF is set), NMIs (it is in no handler of one). */
enum apic_open { APIC_OPEN_INTR = 1, APIC_OPEN_NMI = 2 };

/* A message as it goes over the bus: from the I/O APIC, or from the processor to itself. */
struct apic_message {
	uint8_t vector;
	uint8_t delivery;    /* enum apic_delivery, or one that does nothing here */
	uint8_t destination;
	bool logical;
	bool level;
};

/* What it drives. */
struct apic_wires {
	void (*set_intr)(void *ctx, bool asserted);               /* called when it changes */
	void (*raise_nmi)(void *ctx);
	void (*end_of_interrupt)(void *ctx, uint8_t vector);      /* of a level-triggered interrupt */
	void *ctx;
};

struct apic {
	struct board *board;
	struct board_memory memory;
	struct board_timer timer;
	struct apic_wires wires;
	uint64_t base;                  /* IA32_APIC_BASE; with its enable bit clear, the PIC's output is the processor's input */
	uint32_t task_priority, logical_id, destination_format, spurious;
	uint32_t errors, error_status;  /* met, and shown by the last write */
	uint32_t command[2];            /* ICR */
	uint32_t lvt[LVT_COUNT];
	uint32_t initial_count, divide;
	int64_t started;                /* when the count began */
	uint32_t request[8], in_service[8], level[8];
	bool pic_output, intr;
};

void apic_init(struct apic *a, struct board *b, const struct apic_wires *wires);
/* As after power-on; `base` is what IA32_APIC_BASE holds, 0 for a processor without one. */
void apic_reset(struct apic *a, uint64_t base);
/* WRMSR of IA32_APIC_BASE with a valid value. */
void apic_set_base(struct apic *a, uint64_t base);
/* As firmware leaves it: on, with the PIC on LINT0 and NMI on LINT1 (virtual wire mode). */
void apic_enter_virtual_wire(struct apic *a);
/* The PIC's INTR output, which is LINT0. */
void apic_set_pic_output(struct apic *a, bool asserted);
void apic_receive(struct apic *a, const struct apic_message *message);
/* The most urgent vector that the processor may take now, which comes into service; -1 if there is none: then it is the PIC's. */
int apic_acknowledge(struct apic *a);
/* Would this message, the PIC's output, the timer end HLT, if the processor takes these (enum apic_open)? */
bool apic_wakes(const struct apic *a, const struct apic_message *m, unsigned open);
bool apic_pic_wakes(const struct apic *a, unsigned open);
bool apic_timer_wakes(const struct apic *a, unsigned open);

#endif
