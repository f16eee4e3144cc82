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

/* What a PC makes of the processor's FERR#. */
struct fpu_error {
	struct board *board;
	bool ferr, ignne;
	void (*set_ignne)(void *ctx, bool asserted); /* called when it changes */
	void *ctx;
};
void fpu_error_init(struct fpu_error *f, struct board *b, void (*set_ignne)(void *ctx, bool asserted), void *ctx);
void fpu_error_reset(struct fpu_error *f);
/* The processor asserts FERR# (again), or takes it away. */
void fpu_error_set(struct fpu_error *f, bool asserted);

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

/* The configuration device at 510h. */
struct fw_cfg {
	uint64_t ram_size;
	uint16_t selector;
	unsigned at; /* byte of the item that is read next */
};
void fw_cfg_init(struct fw_cfg *f, struct board *b, uint64_t ram_size);
void fw_cfg_reset(struct fw_cfg *f);

/* What test suites expect of a virtual machine. */
#define TESTDEV_IRQ_PORT 0x2000u
#define TESTDEV_IRQS 24u
struct testdev_wires {
	void (*set_irq)(void *ctx, unsigned irq, bool level);
	void (*forget)(void *ctx); /* drop what was derived from guest memory */
	void *ctx;
};
struct testdev {
	struct testdev_wires wires;
	struct board_memory memory;
	uint8_t echo[8]; /* four, and what an access to the last of them may touch */
	uint8_t bytes[0x10000];
};
void testdev_init(struct testdev *t, struct board *b, const struct testdev_wires *wires);
void testdev_reset(struct testdev *t);

#endif
