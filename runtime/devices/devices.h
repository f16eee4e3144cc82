/* The small devices, one file each; what each builds and leaves out stands at the top of its .c file. */
#ifndef RUNTIME_DEVICES_DEVICES_H
#define RUNTIME_DEVICES_DEVICES_H

#include "runtime/devices/board.h"

/* Keyboard controller without keyboard or mouse. */
struct i8042 {
	struct board *board;
	uint8_t command_byte, output_port, status, data;
	uint8_t pending; /* the command that the next data byte belongs to, or 0 */
	uint8_t ram[32];
};
void i8042_init(struct i8042 *k, struct board *b);
void i8042_reset(struct i8042 *k);

/* Ports 92h and CF9h. */
struct system_control {
	struct board *board;
	uint8_t reset_control;
};
void system_control_init(struct system_control *s, struct board *b);
void system_control_reset(struct system_control *s);

/* PCI configuration mechanism 1 with nothing behind it. */
struct pci {
	uint32_t address;
};
void pci_init(struct pci *p, struct board *b);
void pci_reset(struct pci *p);

/* ACPI's fixed registers. */
struct acpi {
	struct board *board;
	struct board_timer timer; /* the PM timer's carry, if it is to interrupt */
	uint16_t status, enable, control;
	int64_t seen; /* PM timer tick up to which the status is right */
};
void acpi_init(struct acpi *a, struct board *b);
void acpi_reset(struct acpi *a);
/* DMA controllers, page registers and POST port: programmed by everybody, served to nobody. */
struct dma {
	uint8_t page[16];
};
void dma_init(struct dma *d, struct board *b);
void dma_reset(struct dma *d);

/* isa-debug-exit and the console at E9h. */
struct debug {
	struct board *board;
	void (*send)(void *ctx, uint8_t byte);
	void *ctx;
};
void debug_init(struct debug *d, struct board *b, void (*send)(void *ctx, uint8_t byte), void *ctx);
void debug_claim_exit(struct debug *d, uint16_t port);

#endif
