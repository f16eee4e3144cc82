/* 82093AA I/O APIC (Intel data sheet, order number 290566) at FEC00000h, wired as the MultiProcessor Specification's default
 * configurations have it: ISA interrupts on the inputs of their number, the timer's on input 2.
 *
 * Built: ID, version and arbitration registers, 24 routes, edge and level triggering, remote IRR and its end by EOI broadcast, fixed,
 * lowest-priority and NMI delivery. Not built: polarity (inputs are driven by meaning, not by voltage), SMI, INIT, and the PIC through
 * input 0. */
#include "runtime/devices/ioapic.h"

#define ADDRESS 0xFEC00000u
#define IOAPIC_VERSION ((IOAPIC_PINS - 1) << 16 | 0x11u)
#define TIMER_PIN 2u
#define OFFSET_INDEX 0x00u
#define OFFSET_DATA 0x10u
#define FIRST_ROUTE 0x10u

#define ROUTE_WRITABLE 0xFF0000000001AFFFull
#define ROUTE_LOGICAL 0x800u
#define ROUTE_REMOTE_IRR 0x4000u
#define ROUTE_LEVEL 0x8000u
#define ROUTE_MASKED 0x10000u

static unsigned pin_of(unsigned irq)
{
	return irq == 0 ? TIMER_PIN : irq;
}

static struct apic_message message_of(uint64_t route)
{
	return (struct apic_message) {
		.vector = (uint8_t)route, .delivery = route >> 8 & 7, .destination = (uint8_t)(route >> 56), .logical = route & ROUTE_LOGICAL,
		.level = route & ROUTE_LEVEL,
	};
}

static void send(struct ioapic *io, unsigned pin)
{
	uint64_t *route = &io->route[pin];
	const struct apic_message m = message_of(*route);
	if (m.level)
		*route |= ROUTE_REMOTE_IRR;
	apic_receive(io->apic, &m);
}

/* A level that stands is sent again once the last one was served. */
static void look_at_level(struct ioapic *io, unsigned pin)
{
	uint64_t route = io->route[pin];
	if ((io->lines >> pin & 1) && (route & ROUTE_LEVEL) && !(route & (ROUTE_MASKED | ROUTE_REMOTE_IRR)))
		send(io, pin);
}

void ioapic_set_line(struct ioapic *io, unsigned irq, bool level)
{
	unsigned pin = pin_of(irq);
	uint32_t bit = 1u << pin;
	bool rises = level && !(io->lines & bit);
	io->lines = level ? io->lines | bit : io->lines & ~bit;
	if (rises && !(io->route[pin] & (ROUTE_MASKED | ROUTE_LEVEL)))
		send(io, pin);
	look_at_level(io, pin);
}

void ioapic_end_of_interrupt(struct ioapic *io, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		if ((uint8_t)io->route[pin] != vector || !(io->route[pin] & ROUTE_REMOTE_IRR))
			continue;
		io->route[pin] &= ~(uint64_t)ROUTE_REMOTE_IRR;
		look_at_level(io, pin);
	}
}

bool ioapic_wakes(const struct ioapic *io, unsigned irq, unsigned open)
{
	uint64_t route = io->route[pin_of(irq)];
	const struct apic_message m = message_of(route);
	return !(route & ROUTE_MASKED) && apic_wakes(io->apic, &m, open);
}

static uint32_t read_data(const struct ioapic *io)
{
	unsigned at = io->index - FIRST_ROUTE;
	if (io->index >= FIRST_ROUTE)
		return at < 2 * IOAPIC_PINS ? (uint32_t)(io->route[at / 2] >> (at & 1 ? 32 : 0)) : 0;
	return io->index == 1 ? IOAPIC_VERSION : io->index == 0 || io->index == 2 ? io->id : 0;
}

static void write_data(struct ioapic *io, uint32_t value)
{
	unsigned at = io->index - FIRST_ROUTE, shift = at & 1 ? 32 : 0;
	if (io->index == 0)
		io->id = value & 0x0F000000u;
	if (io->index < FIRST_ROUTE || at >= 2 * IOAPIC_PINS)
		return;
	uint64_t mask = ROUTE_WRITABLE & (uint64_t)UINT32_MAX << shift, *route = &io->route[at / 2];
	*route = (*route & ~mask) | ((uint64_t)value << shift & mask);
	if (!(*route & ROUTE_LEVEL))
		*route &= ~(uint64_t)ROUTE_REMOTE_IRR;
	look_at_level(io, at / 2);
}

static uint64_t read_memory(void *ctx, uint32_t offset, unsigned size)
{
	const struct ioapic *io = ctx;
	(void)size;
	uint32_t value = (offset & ~3u) == OFFSET_INDEX ? io->index : (offset & ~3u) == OFFSET_DATA ? read_data(io) : 0;
	return value >> 8 * (offset & 3);
}

static void write_memory(void *ctx, uint32_t offset, unsigned size, uint64_t value)
{
	struct ioapic *io = ctx;
	if (offset == OFFSET_INDEX)
		io->index = value & 0xFF;
	else if (offset == OFFSET_DATA && size == 4)
		write_data(io, (uint32_t)value);
}

void ioapic_reset(struct ioapic *io, bool present)
{
	io->memory.size = present ? PAGE_SIZE : 0;
	io->index = io->id = 0;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		io->route[pin] = ROUTE_MASKED;
}

void ioapic_init(struct ioapic *io, struct board *b, struct apic *apic)
{
	*io = (struct ioapic) {
		.apic = apic, .memory = { .first = ADDRESS, .read = read_memory, .write = write_memory, .ctx = io },
	};
	board_add_memory(b, &io->memory);
	ioapic_reset(io, false);
}
