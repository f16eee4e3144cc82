/* The two 8237A DMA controllers, their page registers and the POST port 80h.
 *
 * Built: ports that take any programming and read as idle controllers; page registers read as written, since some probe for the controllers
 * there. Not built: DMA, which no device here uses. */
#include "runtime/devices/devices.h"

static uint32_t read_idle(void *ctx, uint16_t port, unsigned size)
{
	(void)ctx, (void)port, (void)size;
	return 0;
}

static void swallow(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	(void)ctx, (void)port, (void)size, (void)value;
}

static uint32_t read_page(void *ctx, uint16_t port, unsigned size)
{
	const struct dma *d = ctx;
	(void)size;
	return d->page[port & 15];
}

static void write_page(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct dma *d = ctx;
	(void)size;
	d->page[port & 15] = (uint8_t)value;
}

void dma_reset(struct dma *d)
{
	*d = (struct dma) { 0 };
}

void dma_init(struct dma *d, struct board *b)
{
	const struct board_ports controller = { read_idle, swallow, d }, page = { read_page, write_page, d };
	dma_reset(d);
	board_claim(b, 0x00, 16, 1, &controller);
	board_claim(b, 0xC0, 32, 1, &controller);
	board_claim(b, 0x80, 16, 1, &page); /* 80h is the POST port */
}
