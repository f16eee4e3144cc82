/* The machine around the processor: buses, devices, interrupt lines, the thread that serves timers and the terminal. */
#ifndef RUNTIME_MACHINE_H
#define RUNTIME_MACHINE_H

#include "base/types.h"

struct machine;

/* Why the run ended. */
enum machine_end {
	MACHINE_RUNS, MACHINE_POWER_OFF, MACHINE_RESET, MACHINE_DEBUG_EXIT, MACHINE_USER_QUIT, MACHINE_TIMEOUT, MACHINE_SIGNAL,
};

enum serial_kind { SERIAL_STDIO, SERIAL_FILE, SERIAL_NONE };

struct machine_config {
	uint8_t *ram;
	uint64_t ram_size;
	enum serial_kind serial;
	const char *serial_file;
	bool debug_exit;            /* port isa-debug-exit present */
	uint16_t debug_exit_port;
	bool apic;                  /* local APIC and I/O APIC present */
	bool testdev;               /* what test suites expect: test device and configuration device */
	uint32_t timeout_seconds;   /* 0: none */
	/* Called from any thread, with the machine's lock held. */
	void *ctx;
	void (*set_intr)(void *ctx, bool asserted);  /* the processor's INTR input changed */
	void (*set_nmi)(void *ctx);                  /* a non-maskable interrupt came */
	void (*set_ignne)(void *ctx, bool asserted); /* the processor's IGNNE# input changed; from the vCPU's thread */
	void (*kick)(void *ctx);                     /* the vCPU should look (INTR rose, an NMI came, the run ends) */
	void (*forget)(void *ctx);                   /* from the vCPU's thread: drop what was derived from guest memory */
};

/* Returns 0 or a negative errno with *why set to one sentence (static or machine-owned). Puts the terminal into raw mode if serial is stdio and a terminal;
 * it is restored by machine_destroy, at exit, and on every fatal signal. */
int machine_create(struct machine **out, const struct machine_config *config, const char **why);
void machine_destroy(struct machine *m);

/* Give the terminal back as it was found, if a machine has it. Async-signal-safe: for handlers of fatal signals, before they let the default action happen. */
void machine_restore_terminal(void);

/* Start the thread for timers, input, signals (SIGINT when not raw, SIGTERM, SIGHUP) and the timeout. */
int machine_start(struct machine *m);

/* All devices to their state after reset. */
void machine_reset(struct machine *m);

/* From the vCPU's thread. Ports and physical memory with no device read all ones and swallow writes. */
uint32_t machine_io_read(struct machine *m, uint16_t port, unsigned size);
void machine_io_write(struct machine *m, uint16_t port, unsigned size, uint32_t value);
uint64_t machine_mmio_read(struct machine *m, gpa_t gpa, unsigned size);
void machine_mmio_write(struct machine *m, gpa_t gpa, unsigned size, uint64_t value);

/* The vCPU wrote IA32_APIC_BASE. */
void machine_set_apic_base(struct machine *m, uint64_t value);

/* The processor's FERR# output: an x87 exception that it does not report itself stopped it, or is gone. */
void machine_set_ferr(struct machine *m, bool asserted);

/* Acknowledge the interrupt controller: the vector, or -1 if nothing is pending (spurious ones give IRQ 7 / 15's vector as hardware does). */
int machine_acknowledge(struct machine *m);

/* HLT: wait for INTR if `interrupts_on`, for an NMI, or for the run's end. Returns false if nothing can ever wake the guest again; NMIs can if
 * `nmis_on`. */
bool machine_halt(struct machine *m, bool interrupts_on, bool nmis_on);

/* How the run stands; value is the debug-exit value or the signal number. Async-safe read. */
enum machine_end machine_ended(struct machine *m, uint32_t *value);
/* End the run from the runtime. */
void machine_end_run(struct machine *m, enum machine_end why, uint32_t value);

/* Write the ACPI tables and whatever else firmware leaves in guest RAM (RSDP in 0xE0000-0xFFFFF or the EBDA: that range must be readable RAM for it);
 * with the test device also a timer that ticks, with handlers for real mode. */
void machine_install_tables(struct machine *m);

#endif
