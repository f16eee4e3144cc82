/* The machine: which devices there are, and the vCPU's way to them. One lock covers all of them. */
#include "runtime/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/x86.h"
#include "runtime/machine_internal.h"

static int64_t read_clock(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return t.tv_sec * NS_PER_SECOND + t.tv_nsec;
}

static int64_t monotonic(void *ctx)
{
	(void)ctx;
	return read_clock(CLOCK_MONOTONIC);
}

static int64_t wall(void *ctx)
{
	(void)ctx;
	return read_clock(CLOCK_REALTIME);
}

/* --- the run's end, and INTR --- */

static void attract_vcpu(struct machine *m)
{
	if (m->halted)
		pthread_cond_broadcast(&m->wake);
	else if (m->config.kick)
		m->config.kick(m->config.ctx);
}

void machine_end_locked(struct machine *m, enum machine_end why, uint32_t value)
{
	/* The first reason stands; but a guest that resets for ever must not outrun the user. */
	if (machine_has_ended(m) && atomic_load(&m->end) != MACHINE_RESET)
		return;
	atomic_store(&m->end_value, value);
	atomic_store(&m->end, why);
	pthread_cond_broadcast(&m->drained);
	attract_vcpu(m);
}

static void end_by_device(void *ctx, enum machine_end why, uint32_t value)
{
	machine_end_locked(ctx, why, value);
}

static void set_pic_output(void *ctx, bool asserted)
{
	struct machine *m = ctx;
	apic_set_pic_output(&m->apic, asserted);
}

static void line_changed(void *ctx, unsigned irq, bool level)
{
	struct machine *m = ctx;
	ioapic_set_line(&m->ioapic, irq, level);
}

static void end_of_interrupt(void *ctx, uint8_t vector)
{
	struct machine *m = ctx;
	ioapic_end_of_interrupt(&m->ioapic, vector);
}

static void raise_nmi(void *ctx)
{
	struct machine *m = ctx;
	m->nmi_raised = true;
	if (m->config.set_nmi)
		m->config.set_nmi(m->config.ctx);
	attract_vcpu(m);
}

static void set_ignne(void *ctx, bool asserted)
{
	struct machine *m = ctx;
	if (m->config.set_ignne)
		m->config.set_ignne(m->config.ctx, asserted);
}

/* The test device drives any input; those above 15 belong to the I/O APIC alone. */
static void set_any_line(void *ctx, unsigned irq, bool level)
{
	struct machine *m = ctx;
	if (irq < 16)
		pic_set_line(&m->pic, irq, level);
	else
		ioapic_set_line(&m->ioapic, irq, level);
}

static void forget(void *ctx)
{
	struct machine *m = ctx;
	if (m->config.forget)
		m->config.forget(m->config.ctx);
}

static void set_intr(void *ctx, bool asserted)
{
	struct machine *m = ctx;
	if (m->config.set_intr)
		m->config.set_intr(m->config.ctx, asserted);
	if (asserted)
		attract_vcpu(m);
}

static void time_out(void *ctx, int64_t now)
{
	(void)now;
	machine_end_locked(ctx, MACHINE_TIMEOUT, 0);
}

enum machine_end machine_ended(struct machine *m, uint32_t *value)
{
	enum machine_end why = (enum machine_end)atomic_load(&m->end);
	if (value)
		*value = atomic_load(&m->end_value);
	return why;
}

void machine_end_run(struct machine *m, enum machine_end why, uint32_t value)
{
	pthread_mutex_lock(&m->lock);
	machine_end_locked(m, why, value);
	pthread_mutex_unlock(&m->lock);
}

/* --- the vCPU's accesses --- */

uint32_t machine_io_read(struct machine *m, uint16_t port, unsigned size)
{
	pthread_mutex_lock(&m->lock);
	uint32_t value = board_read(&m->board, port, size);
	machine_thread_rearm(m);
	pthread_mutex_unlock(&m->lock);
	return value;
}

void machine_io_write(struct machine *m, uint16_t port, unsigned size, uint32_t value)
{
	pthread_mutex_lock(&m->lock);
	board_write(&m->board, port, size, value & UINT32_MAX >> (32 - 8 * size));
	machine_thread_rearm(m);
	pthread_mutex_unlock(&m->lock);
}

uint64_t machine_mmio_read(struct machine *m, gpa_t gpa, unsigned size)
{
	pthread_mutex_lock(&m->lock);
	uint64_t value = board_read_memory(&m->board, gpa, size) & UINT64_MAX >> (64 - 8 * size);
	machine_thread_rearm(m);
	pthread_mutex_unlock(&m->lock);
	return value;
}

void machine_mmio_write(struct machine *m, gpa_t gpa, unsigned size, uint64_t value)
{
	pthread_mutex_lock(&m->lock);
	board_write_memory(&m->board, gpa, size, value);
	machine_thread_rearm(m);
	pthread_mutex_unlock(&m->lock);
}

void machine_set_apic_base(struct machine *m, uint64_t value)
{
	pthread_mutex_lock(&m->lock);
	apic_set_base(&m->apic, value);
	pthread_mutex_unlock(&m->lock);
}

void machine_set_ferr(struct machine *m, bool asserted)
{
	pthread_mutex_lock(&m->lock);
	fpu_error_set(&m->fpu_error, asserted);
	pthread_mutex_unlock(&m->lock);
}

int machine_acknowledge(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	int vector = apic_acknowledge(&m->apic);
	if (vector < 0 && m->apic.intr)
		vector = pic_acknowledge(&m->pic);
	pthread_mutex_unlock(&m->lock);
	return vector;
}

static bool line_wakes(const struct machine *m, unsigned irq, unsigned open)
{
	return (pic_accepts(&m->pic, irq) && apic_pic_wakes(&m->apic, open)) || ioapic_wakes(&m->ioapic, irq, open);
}

/* Is there any device that could interrupt a guest which does nothing itself? */
static bool can_wake(const struct machine *m, unsigned open)
{
	for (unsigned i = 0; i < m->board.timers.count; i++) {
		const struct board_timer *t = m->board.timers.at[i];
		if (t->deadline != TIMER_NEVER && t->irq >= 0 && line_wakes(m, (unsigned)t->irq, open))
			return true;
	}
	bool input = uart_wants_input(&m->com1) && machine_console_has_input(m);
	return ((input || m->com1.blocked) && line_wakes(m, m->com1.irq, open)) || apic_timer_wakes(&m->apic, open);
}

/* Wait for an event. The guest's timers are served by who waits here, so that a tick wakes one thread and moves nothing between two processors. */
static void wait_halted(struct machine *m)
{
	machine_thread_relieve(m);
	if (m->vcpu_wakes == TIMER_NEVER) {
		pthread_cond_wait(&m->wake, &m->lock);
	} else {
		struct timespec at = machine_host_time(m->vcpu_wakes);
		pthread_cond_clockwait(&m->wake, &m->lock, CLOCK_MONOTONIC, &at);
	}
	m->vcpu_wakes = TIMER_NEVER;
	board_run_timers(&m->board.timers, board_now(&m->board));
}

bool machine_halt(struct machine *m, bool interrupts_on, bool nmis_on)
{
	bool hope = true;
	unsigned open = (interrupts_on ? APIC_OPEN_INTR : 0) | (nmis_on ? APIC_OPEN_NMI : 0);
	pthread_mutex_lock(&m->lock);
	m->halted = true;
	while (!machine_has_ended(m) && !(interrupts_on && m->apic.intr) && !m->nmi_raised) {
		hope = can_wake(m, open);
		if (!hope)
			break;
		wait_halted(m);
	}
	m->halted = m->nmi_raised = false;
	machine_thread_rearm(m);
	pthread_mutex_unlock(&m->lock);
	return hope;
}

/* --- composition --- */

/* Firmware leaves the local APIC passing on what the PIC says. */
static void reset_apics(struct machine *m)
{
	apic_reset(&m->apic, m->config.apic ? APIC_BASE_RESET : 0);
	ioapic_reset(&m->ioapic, m->config.apic);
	apic_enter_virtual_wire(&m->apic);
}

static void init_devices(struct machine *m)
{
	struct board *b = &m->board;
	const struct uart_line line = machine_console_line(m);
	const struct apic_wires wires = { set_intr, raise_nmi, end_of_interrupt, m };
	const struct testdev_wires test_wires = { set_any_line, forget, m };
	m->pic.set_intr = set_pic_output;
	m->pic.line_changed = line_changed;
	m->pic.ctx = m;
	apic_init(&m->apic, b, &wires);
	ioapic_init(&m->ioapic, b, &m->apic);
	pic_init(&m->pic, b); /* first: the others drive its lines */
	pit_init(&m->pit, b);
	uart_init(&m->com1, b, 0x3F8, 4, &line);
	rtc_init(&m->rtc, b, m->config.ram_size);
	i8042_init(&m->i8042, b);
	system_control_init(&m->system_control, b);
	fpu_error_init(&m->fpu_error, b, set_ignne, m);
	pci_init(&m->pci, b);
	acpi_init(&m->acpi, b);
	dma_init(&m->dma, b);
	debug_init(&m->debug, b, machine_console_send, m);
	if (m->config.testdev) {
		fw_cfg_init(&m->fw_cfg, b, m->config.ram_size);
		testdev_init(&m->testdev, b, &test_wires);
	}
	reset_apics(m);
}

void machine_reset(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	pic_reset(&m->pic);
	pit_reset(&m->pit);
	uart_reset(&m->com1);
	rtc_reset(&m->rtc);
	i8042_reset(&m->i8042);
	system_control_reset(&m->system_control);
	fpu_error_reset(&m->fpu_error);
	pci_reset(&m->pci);
	acpi_reset(&m->acpi);
	dma_reset(&m->dma);
	fw_cfg_reset(&m->fw_cfg);
	testdev_reset(&m->testdev);
	reset_apics(m);
	unsigned expected = MACHINE_RESET;
	atomic_compare_exchange_strong(&m->end, &expected, MACHINE_RUNS);
	machine_thread_rearm(m);
	pthread_mutex_unlock(&m->lock);
}

static int claim_exit_port(struct machine *m, const char **why)
{
	if (!m->config.debug_exit)
		return 0;
	if (!board_is_free(&m->board, m->config.debug_exit_port, 4)) {
		*why = "the debug-exit device needs four ports that no other device has";
		return -EINVAL;
	}
	debug_claim_exit(&m->debug, m->config.debug_exit_port);
	return 0;
}

int machine_create(struct machine **out, const struct machine_config *config, const char **why)
{
	struct machine *m = calloc(1, sizeof(*m));
	*out = m;
	if (!m) {
		*why = "not enough memory for the machine's devices";
		return -ENOMEM;
	}
	m->config = *config;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->wake, NULL);
	pthread_cond_init(&m->drained, NULL);
	m->board.clock = (struct board_clock) { .monotonic = monotonic, .wall = wall };
	m->board.end = end_by_device;
	m->board.ctx = m;
	m->timeout = (struct board_timer) { .fire = time_out, .ctx = m, .irq = -1 };
	board_add_timer(&m->own, &m->timeout);
	m->output.fd = -1;
	init_devices(m);
	int error = machine_thread_create(m, why);
	if (!error)
		error = claim_exit_port(m, why);
	if (!error)
		error = machine_console_create(m, why);
	if (error) {
		machine_destroy(m);
		*out = NULL;
	}
	return error;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	machine_thread_destroy(m);
	machine_console_destroy(m);
	pthread_sigmask(SIG_SETMASK, &m->old_mask, NULL);
	pthread_cond_destroy(&m->drained);
	pthread_cond_destroy(&m->wake);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
