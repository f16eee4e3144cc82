/* PCI configuration mechanism 1 (PCI Local Bus Specification 3.0, 3.2.2.3.2) over a bus with no device, not even a host bridge.
 *
 * Built: the address register at CF8h, dword accesses only, and data reads of all ones. Byte and word accesses to CF8h are not the address
 * register's and fall through to the bus (CF9h is the reset register). */
#include "runtime/devices/devices.h"

#define ADDRESS_WRITABLE 0x80FFFFFCu

static uint32_t read_address(void *ctx, uint16_t port, unsigned size)
{
	const struct pci *p = ctx;
	(void)port, (void)size;
	return p->address;
}

static void write_address(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct pci *p = ctx;
	(void)port, (void)size;
	p->address = value & ADDRESS_WRITABLE;
}

static uint32_t read_data(void *ctx, uint16_t port, unsigned size)
{
	(void)ctx, (void)port;
	return UINT32_MAX >> (32 - 8 * size);
}

static void write_data(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	(void)ctx, (void)port, (void)size, (void)value;
}

void pci_reset(struct pci *p)
{
	p->address = 0;
}

void pci_init(struct pci *p, struct board *b)
{
	const struct board_ports address = { read_address, write_address, p }, data = { read_data, write_data, p };
	*p = (struct pci) { 0 };
	board_claim(b, 0xCF8, 1, 4, &address);
	board_claim(b, 0xCFC, 4, 1 | 2 | 4, &data);
}
