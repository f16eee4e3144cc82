/* The configuration device of QEMU's PC machine, ports 510h (selector) and 511h (data): what bare-metal programs and firmware ask for there.
 *
 * Built: signature, interface version, memory size, "no graphics", number of processors, an empty file directory. Items end in zeros, as
 * does one that does not exist. Not built: files, writes, DMA. */
#include "runtime/devices/devices.h"

enum { ITEM_SIGNATURE = 0, ITEM_INTERFACE = 1, ITEM_RAM_SIZE = 3, ITEM_NO_GRAPHICS = 4, ITEM_CPUS = 5, ITEM_MAX_CPUS = 15 };

/* The item's first eight bytes, in little-endian order. */
static uint64_t item(const struct fw_cfg *f)
{
	switch (f->selector) {
	case ITEM_SIGNATURE: return 0x554D4551u; /* QEMU */
	case ITEM_RAM_SIZE: return f->ram_size;
	case ITEM_INTERFACE: case ITEM_NO_GRAPHICS: case ITEM_CPUS: case ITEM_MAX_CPUS: return 1;
	default: return 0;
	}
}

static uint32_t read_data(void *ctx, uint16_t port, unsigned size)
{
	struct fw_cfg *f = ctx;
	(void)port, (void)size;
	return f->at < 8 ? item(f) >> 8 * f->at++ & 0xFF : 0;
}

static uint32_t read_selector(void *ctx, uint16_t port, unsigned size)
{
	(void)ctx, (void)port, (void)size;
	return 0;
}

static void write_data(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	(void)ctx, (void)port, (void)size, (void)value; /* items are read-only */
}

static void write_selector(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct fw_cfg *f = ctx;
	(void)port, (void)size;
	f->selector = (uint16_t)value;
	f->at = 0;
}

void fw_cfg_reset(struct fw_cfg *f)
{
	f->selector = 0;
	f->at = 0;
}

void fw_cfg_init(struct fw_cfg *f, struct board *b, uint64_t ram_size)
{
	const struct board_ports selector = { read_selector, write_selector, f }, data = { read_data, write_data, f };
	*f = (struct fw_cfg) { .ram_size = ram_size };
	board_claim(b, 0x510, 1, 2, &selector);
	board_claim(b, 0x511, 1, 1, &data);
}
