/* ACPI's fixed hardware (ACPI specification 3.0, chapter 4): PM1a event and control blocks, the PM timer, and S5.
 *
 * Built: status and enable registers with the timer's carry as the only event, SCI on IRQ 9 as a level, the 24-bit timer at 3.579545 MHz,
 * SLP_EN with the SLP_TYP of \_S5 as power-off. ACPI mode is always on (no SMI_CMD), so SCI_EN reads as set. Not built: buttons, general
 * purpose events, other sleep states. */
#include "runtime/devices/acpi_tables.h"
#include "runtime/devices/devices.h"
#include "runtime/devices/pic.h"

#define PM_TIMER_HZ 3579545
#define PM_TIMER_MASK 0xFFFFFF
#define CARRY_TICKS (1LL << 23) /* the status bit is set whenever bit 23 changes */

#define STATUS_TIMER 0x0001u
#define ENABLE_TIMER 0x0001u
#define ENABLE_WRITABLE 0x0721u
#define CONTROL_SCI_EN 0x0001u
#define CONTROL_WRITABLE 0x1C02u
#define CONTROL_TYPE_SHIFT 10
#define CONTROL_SLEEP 0x2000u

static int64_t tick_now(const struct acpi *a)
{
	return board_ns_to_ticks(board_now(a->board), PM_TIMER_HZ);
}

static void update(struct acpi *a)
{
	int64_t now = tick_now(a);
	if (now / CARRY_TICKS != a->seen / CARRY_TICKS)
		a->status |= STATUS_TIMER;
	a->seen = now;
	bool waits = (a->enable & ENABLE_TIMER) && !(a->status & STATUS_TIMER);
	a->timer.deadline = waits ? board_ticks_to_ns((now / CARRY_TICKS + 1) * CARRY_TICKS, PM_TIMER_HZ) : TIMER_NEVER;
	pic_set_line(a->board->pic, ACPI_SCI, a->status & a->enable);
}

static void fire(void *ctx, int64_t now)
{
	(void)now;
	update(ctx);
}

static uint32_t read_pm1(void *ctx, uint16_t port, unsigned size)
{
	struct acpi *a = ctx;
	unsigned at = port - ACPI_PM_BASE;
	(void)size;
	update(a);
	uint16_t reg = at < 2 ? a->status : at < 4 ? a->enable : a->control | CONTROL_SCI_EN;
	return reg >> (at & 1 ? 8 : 0) & 0xFF;
}

static void write_control(struct acpi *a, uint32_t value, uint32_t mask)
{
	a->control = (uint16_t)((a->control & ~mask) | (value & mask & CONTROL_WRITABLE));
	if ((value & mask & CONTROL_SLEEP) && (value >> CONTROL_TYPE_SHIFT & 7) == ACPI_S5_TYPE)
		a->board->end(a->board->ctx, MACHINE_POWER_OFF, 0);
}

static void write_pm1(void *ctx, uint16_t port, unsigned size, uint32_t byte)
{
	struct acpi *a = ctx;
	unsigned at = port - ACPI_PM_BASE, shift = at & 1 ? 8 : 0;
	uint32_t value = (byte & 0xFF) << shift, mask = 0xFFu << shift;
	(void)size;
	update(a);
	if (at < 2)
		a->status &= (uint16_t)~value; /* write one to clear */
	else if (at < 4)
		a->enable = (uint16_t)((a->enable & ~mask) | (value & mask & ENABLE_WRITABLE));
	else
		write_control(a, value, mask);
	update(a);
}

static uint32_t read_timer(void *ctx, uint16_t port, unsigned size)
{
	struct acpi *a = ctx;
	uint32_t ticks = (uint32_t)(tick_now(a) & PM_TIMER_MASK);
	return ticks >> 8 * (port & 3) & UINT32_MAX >> (32 - 8 * size);
}

static void write_timer(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	(void)ctx, (void)port, (void)size, (void)value; /* read-only */
}

void acpi_reset(struct acpi *a)
{
	a->status = a->enable = a->control = 0;
	a->seen = tick_now(a);
	update(a);
}

void acpi_init(struct acpi *a, struct board *b)
{
	const struct board_ports pm1 = { read_pm1, write_pm1, a }, timer = { read_timer, write_timer, a };
	*a = (struct acpi) { .board = b, .timer = { .fire = fire, .ctx = a, .irq = ACPI_SCI } };
	board_add_timer(&b->timers, &a->timer);
	board_claim(b, ACPI_PM_BASE, 6, 1, &pm1);
	board_claim(b, ACPI_PM_TIMER, 4, 1 | 2 | 4, &timer);
	acpi_reset(a);
}
