/* The I/O APIC: 24 inputs, each with a route to the local APIC. */
#ifndef RUNTIME_DEVICES_IOAPIC_H
#define RUNTIME_DEVICES_IOAPIC_H

#include "runtime/devices/apic.h"

#define IOAPIC_PINS 24u

struct ioapic {
	struct board_memory memory;
	struct apic *apic;
	uint32_t index, id;
	uint64_t route[IOAPIC_PINS];
	uint32_t lines; /* input levels */
};

void ioapic_init(struct ioapic *io, struct board *b, struct apic *apic);
/* `present`: is it there at all? */
void ioapic_reset(struct ioapic *io, bool present);
/* Drive the input of an ISA interrupt, or of one above 15. */
void ioapic_set_line(struct ioapic *io, unsigned irq, bool level);
/* The local APIC's broadcast. */
void ioapic_end_of_interrupt(struct ioapic *io, uint8_t vector);
/* Would this interrupt end HLT (enum apic_open)? */
bool ioapic_wakes(const struct ioapic *io, unsigned irq, unsigned open);

#endif
