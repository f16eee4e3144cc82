/* What firmware leaves behind: tables in guest memory and, where a test suite counts on it, interrupt controllers and a timer that run. */
#include <string.h>

#include "runtime/machine_internal.h"

#define VECTORS 256u
#define HANDLER_SEGMENT 0xF000u
#define HANDLER_ADDRESS(offset) (16 * HANDLER_SEGMENT + (offset))
/* Where an IBM PC's BIOS has its handler for the timer and the one that only returns. */
#define TIMER_HANDLER 0xFEA5u
#define DUMMY_HANDLER 0xFF53u
#define TIMER_VECTOR 8u

static void put_vector(uint8_t *ram, unsigned vector, uint16_t handler)
{
	const uint16_t pointer[2] = { handler, HANDLER_SEGMENT };
	memcpy(ram + 4 * vector, pointer, sizeof(pointer));
}

static void write_vectors(uint8_t *ram)
{
	/* push ax; mov al, 20h; out 20h, al; pop ax; iret */
	static const uint8_t timer[] = { 0x50, 0xB0, 0x20, 0xE6, 0x20, 0x58, 0xCF };
	memcpy(ram + HANDLER_ADDRESS(TIMER_HANDLER), timer, sizeof(timer));
	ram[HANDLER_ADDRESS(DUMMY_HANDLER)] = 0xCF;
	for (unsigned i = 0; i < VECTORS; i++)
		put_vector(ram, i, i == TIMER_VECTOR ? TIMER_HANDLER : DUMMY_HANDLER);
}

/* Interrupts at 08h and 70h, all masked but the timer's, which ticks 18.2 times a second. */
static void start_timer(struct machine *m)
{
	static const struct {
		uint8_t port, value;
	} writes[] = {
		{ 0x20, 0x11 }, { 0x21, 0x08 }, { 0x21, 0x04 }, { 0x21, 0x01 }, { 0x21, 0xFA },
		{ 0xA0, 0x11 }, { 0xA1, 0x70 }, { 0xA1, 0x02 }, { 0xA1, 0x01 }, { 0xA1, 0xFF },
		{ 0x43, 0x36 }, { 0x40, 0x00 }, { 0x40, 0x00 },
	};
	for (size_t i = 0; i < ARRAY_LEN(writes); i++)
		machine_io_write(m, writes[i].port, 1, writes[i].value);
}

void machine_install_tables(struct machine *m)
{
	uint8_t *ram = m->config.ram;
	acpi_write_tables(ram);
	smbios_write_tables(ram);
	/* BIOS data area: where COM1 is, how many serial ports there are, KiB of conventional memory. */
	ram[0x400] = 0xF8, ram[0x401] = 0x03;
	ram[0x410] = 0x02, ram[0x411] = 0x02;
	ram[0x413] = 640 & 0xFF, ram[0x414] = 640 >> 8;
	if (m->config.testdev) {
		write_vectors(ram);
		start_timer(m);
	}
}
