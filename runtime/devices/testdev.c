/* The device that x86 test suites expect of a virtual machine, as QEMU's pc-testdev has it: a register that can be read back (E0h), a page to
 * forget (E4h), interrupt lines to drive (2000h + n), and memory that is not RAM (FF000000h).
 *
 * Built: all four. A write of a physical address to E4h drops what the monitor derived from guest memory, so that the next access meets a
 * hidden fault wherever it comes from. Not built: E8h, the register in bytes, since E9h is the debug console. */
#include <string.h>

#include "runtime/devices/devices.h"
#include "runtime/devices/pic.h"

#define MEMORY_ADDRESS 0xFF000000u

static uint32_t read_echo(void *ctx, uint16_t port, unsigned size)
{
	const struct testdev *t = ctx;
	uint32_t value = 0;
	memcpy(&value, t->echo + (port & 3), size);
	return value;
}

static void write_echo(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct testdev *t = ctx;
	memcpy(t->echo + (port & 3), &value, size);
}

static uint32_t read_nothing(void *ctx, uint16_t port, unsigned size)
{
	(void)ctx, (void)port, (void)size;
	return 0;
}

static void write_forget(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct testdev *t = ctx;
	(void)port, (void)size, (void)value;
	t->wires.forget(t->wires.ctx);
}

static void write_irq(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct testdev *t = ctx;
	(void)size;
	t->wires.set_irq(t->wires.ctx, port - TESTDEV_IRQ_PORT, value & 0xFF);
}

static uint64_t read_memory(void *ctx, uint32_t offset, unsigned size)
{
	const struct testdev *t = ctx;
	uint64_t value = 0;
	memcpy(&value, t->bytes + offset, size);
	return value;
}

static void write_memory(void *ctx, uint32_t offset, unsigned size, uint64_t value)
{
	struct testdev *t = ctx;
	memcpy(t->bytes + offset, &value, size);
}

void testdev_reset(struct testdev *t)
{
	memset(t->echo, 0, sizeof(t->echo));
	memset(t->bytes, 0, sizeof(t->bytes));
}

void testdev_init(struct testdev *t, struct board *b, const struct testdev_wires *wires)
{
	const struct board_ports echo = { read_echo, write_echo, t }, forget = { read_nothing, write_forget, t }, irq = { read_nothing, write_irq, t };
	*t = (struct testdev) {
		.wires = *wires,
		.memory = { .first = MEMORY_ADDRESS, .size = sizeof(t->bytes), .read = read_memory, .write = write_memory, .ctx = t },
	};
	board_claim(b, 0xE0, 4, 1 | 2 | 4, &echo);
	board_claim(b, 0xE4, 4, 1 | 2 | 4, &forget);
	board_claim(b, TESTDEV_IRQ_PORT, TESTDEV_IRQS, 1 | 2 | 4, &irq);
	board_add_memory(b, &t->memory);
}
