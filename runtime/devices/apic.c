/* Local APIC (Intel SDM vol. 3, chapter 10, "APIC"), xAPIC mode, of a machine with one processor.
 *
 * Built: ID 0, version 14h with six LVT entries, priorities (TPR, PPR), IRR, ISR and TMR, EOI, fixed, lowest-priority and NMI messages in
 * physical and logical mode with shorthands, LINT0 and LINT1 as fixed, NMI and ExtINT inputs, the error register, the timer one-shot and
 * periodic at a 1 GHz bus clock, software and hardware disabling, relocation. Not built: x2APIC, TSC deadlines, SMI, and INIT and
 * start-up, which mean other processors. The arbitration priority reads as the processor's priority. */
#include "runtime/devices/apic.h"

#include "base/x86.h"

#define BASE_ADDRESS 0xFFFFFF000ull
#define REGISTERS_SIZE 0x1000u

#define APIC_VERSION 0x00050014u
#define SPURIOUS_ENABLE 0x100u
#define SPURIOUS_WRITABLE 0x3FFu
#define LVT_MASKED 0x10000u
#define LVT_PERIODIC 0x20000u
#define LVT_DELIVERY(lvt) ((lvt) >> 8 & 7u)
#define ICR_LOGICAL 0x800u
#define ICR_SHORTHAND(icr) ((icr) >> 18 & 3u)
#define ICR_WRITABLE 0xCCFFFu
#define ICR_BUSY 0x1000u
#define FIRST_VECTOR 16u

#define ERROR_SEND_VECTOR 0x20u
#define ERROR_RECEIVE_VECTOR 0x40u
#define ERROR_REGISTER 0x80u

/* A period of less is served late, with ticks merged, lest a guest keep a host core busy with its timer. */
#define SHORTEST_PERIOD_NS 20000

/* Register numbers: offset / 16. */
enum {
	REG_ID = 0x02, REG_VERSION = 0x03, REG_TPR = 0x08, REG_APR = 0x09, REG_PPR = 0x0A, REG_EOI = 0x0B, REG_LDR = 0x0D, REG_DFR = 0x0E,
	REG_SPURIOUS = 0x0F, REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20, REG_ESR = 0x28, REG_ICR = 0x30, REG_ICR_HIGH = 0x31, REG_LVT = 0x32,
	REG_INITIAL = 0x38, REG_CURRENT = 0x39, REG_DIVIDE = 0x3E,
};

static const uint32_t lvt_writable[LVT_COUNT] = { 0x300FF, 0x107FF, 0x107FF, 0x1A7FF, 0x1A7FF, 0x100FF };

static bool hardware_enabled(const struct apic *a)
{
	return a->base & APIC_BASE_ENABLE;
}

static void set_bit(uint32_t *set, uint8_t vector) { set[vector >> 5] |= 1u << (vector & 31); }
static void clear_bit(uint32_t *set, uint8_t vector) { set[vector >> 5] &= ~(1u << (vector & 31)); }
static bool has_bit(const uint32_t *set, uint8_t vector) { return set[vector >> 5] >> (vector & 31) & 1; }

/* The highest vector of a set, or -1. */
static int highest(const uint32_t *set)
{
	for (int i = 7; i >= 0; i--)
		if (set[i])
			return 32 * i + 31 - __builtin_clz(set[i]);
	return -1;
}

static uint32_t processor_priority(const struct apic *a)
{
	int serving = highest(a->in_service);
	uint32_t class = serving < 0 ? 0 : (uint32_t)serving & 0xF0;
	return (a->task_priority & 0xF0) >= class ? a->task_priority : class;
}

static bool accepts(const struct apic *a, uint8_t vector)
{
	return hardware_enabled(a) && (vector & 0xF0u) > (processor_priority(a) & 0xF0);
}

static bool passes_pic(const struct apic *a)
{
	uint32_t lint0 = a->lvt[LVT_LINT0];
	return !hardware_enabled(a) || (!(lint0 & LVT_MASKED) && LVT_DELIVERY(lint0) == APIC_EXTINT);
}

static void update(struct apic *a)
{
	int vector = highest(a->request);
	bool intr = (vector >= 0 && accepts(a, (uint8_t)vector)) || (a->pic_output && passes_pic(a));
	if (intr == a->intr)
		return;
	a->intr = intr;
	a->wires.set_intr(a->wires.ctx, intr);
}

static void note_error(struct apic *a, uint32_t error)
{
	uint32_t lvt = a->lvt[LVT_ERROR];
	bool first = !(a->errors & error);
	a->errors |= error;
	if (first && !(lvt & LVT_MASKED) && (lvt & 0xFF) >= FIRST_VECTOR) {
		set_bit(a->request, (uint8_t)lvt);
		clear_bit(a->level, (uint8_t)lvt);
	}
}

static void request(struct apic *a, uint8_t vector, bool level)
{
	if (vector < FIRST_VECTOR) {
		note_error(a, ERROR_RECEIVE_VECTOR);
	} else if (a->spurious & SPURIOUS_ENABLE) {
		set_bit(a->request, vector);
		if (level)
			set_bit(a->level, vector);
		else
			clear_bit(a->level, vector);
	}
	update(a);
}

static bool is_addressed(const struct apic *a, const struct apic_message *m)
{
	uint8_t own = (uint8_t)(a->logical_id >> 24);
	if (m->destination == 0xFF || !m->logical)
		return m->destination == 0xFF || m->destination == 0;
	if (a->destination_format >> 28 == 0xF)
		return m->destination & own;
	uint8_t cluster = m->destination >> 4;
	return (cluster == 0xF || cluster == own >> 4) && (m->destination & own & 0xF);
}

static void accept(struct apic *a, uint8_t delivery, uint8_t vector, bool level)
{
	if (delivery == APIC_FIXED || delivery == APIC_LOWEST)
		request(a, vector, level);
	else if (delivery == APIC_NMI)
		a->wires.raise_nmi(a->wires.ctx);
}

void apic_receive(struct apic *a, const struct apic_message *m)
{
	if (hardware_enabled(a) && is_addressed(a, m))
		accept(a, m->delivery, m->vector, m->level);
}

/* An event of the local vector table. */
static void signal_local(struct apic *a, enum apic_lvt entry)
{
	uint32_t lvt = a->lvt[entry];
	if (!(lvt & LVT_MASKED))
		accept(a, LVT_DELIVERY(lvt), (uint8_t)lvt, false);
}

void apic_set_pic_output(struct apic *a, bool asserted)
{
	bool rises = asserted && !a->pic_output;
	a->pic_output = asserted;
	if (rises && hardware_enabled(a))
		signal_local(a, LVT_LINT0);
	update(a);
}

int apic_acknowledge(struct apic *a)
{
	int vector = highest(a->request);
	if (vector < 0 || !accepts(a, (uint8_t)vector))
		return -1;
	clear_bit(a->request, (uint8_t)vector);
	set_bit(a->in_service, (uint8_t)vector);
	update(a);
	return vector;
}

static void end_interrupt(struct apic *a)
{
	int vector = highest(a->in_service);
	if (vector < 0)
		return;
	clear_bit(a->in_service, (uint8_t)vector);
	if (has_bit(a->level, (uint8_t)vector))
		a->wires.end_of_interrupt(a->wires.ctx, (uint8_t)vector);
}

/* --- timer --- */

static unsigned divide_shift(const struct apic *a)
{
	return ((a->divide & 3) | (a->divide >> 1 & 4)) == 7 ? 0 : ((a->divide & 3) | (a->divide >> 1 & 4)) + 1;
}

static int64_t period(const struct apic *a)
{
	return (int64_t)a->initial_count << divide_shift(a);
}

static void start_timer(struct apic *a, int64_t now)
{
	a->started = now;
	a->timer.deadline = a->initial_count ? now + period(a) : TIMER_NEVER;
}

static uint32_t current_count(const struct apic *a)
{
	int64_t passed = board_now(a->board) - a->started, whole = period(a);
	if (a->timer.deadline == TIMER_NEVER)
		return 0;
	if (a->lvt[LVT_TIMER] & LVT_PERIODIC)
		passed %= whole;
	return passed >= whole ? 0 : (uint32_t)((whole - passed) >> divide_shift(a));
}

static void fire(void *ctx, int64_t now)
{
	struct apic *a = ctx;
	if (a->lvt[LVT_TIMER] & LVT_PERIODIC) {
		a->started += (now - a->started) / period(a) * period(a);
		int64_t next = a->started + period(a);
		a->timer.deadline = next > now + SHORTEST_PERIOD_NS ? next : now + SHORTEST_PERIOD_NS;
	}
	signal_local(a, LVT_TIMER);
}

/* The count goes on from where it is, at another rate. */
static void write_divide(struct apic *a, uint32_t value)
{
	uint32_t left = current_count(a);
	a->divide = value & 0xB;
	if (a->timer.deadline == TIMER_NEVER)
		return;
	a->started = board_now(a->board) - ((int64_t)(a->initial_count - left) << divide_shift(a));
	a->timer.deadline = a->started + period(a);
}

/* A count that is over has its end in the mode that it ran in. */
static void settle_timer(struct apic *a)
{
	int64_t now = board_now(a->board);
	if (a->timer.deadline > now)
		return;
	a->timer.deadline = TIMER_NEVER;
	fire(a, now);
}

/* --- what would end HLT --- */

static bool delivery_wakes(const struct apic *a, uint8_t delivery, uint8_t vector, unsigned open)
{
	if (delivery == APIC_NMI)
		return open & APIC_OPEN_NMI;
	return (delivery == APIC_FIXED || delivery == APIC_LOWEST) && (open & APIC_OPEN_INTR) && accepts(a, vector);
}

static bool local_wakes(const struct apic *a, enum apic_lvt entry, unsigned open)
{
	uint32_t lvt = a->lvt[entry];
	return hardware_enabled(a) && !(lvt & LVT_MASKED) && delivery_wakes(a, LVT_DELIVERY(lvt), (uint8_t)lvt, open);
}

bool apic_wakes(const struct apic *a, const struct apic_message *m, unsigned open)
{
	return hardware_enabled(a) && is_addressed(a, m) && delivery_wakes(a, m->delivery, m->vector, open);
}

bool apic_pic_wakes(const struct apic *a, unsigned open)
{
	return passes_pic(a) ? open & APIC_OPEN_INTR : local_wakes(a, LVT_LINT0, open);
}

bool apic_timer_wakes(const struct apic *a, unsigned open)
{
	return a->timer.deadline != TIMER_NEVER && local_wakes(a, LVT_TIMER, open);
}

/* --- registers --- */

static uint32_t read_register(struct apic *a, unsigned reg)
{
	if (reg >= REG_ISR && reg < REG_ISR + 8)
		return a->in_service[reg - REG_ISR];
	if (reg >= REG_TMR && reg < REG_TMR + 8)
		return a->level[reg - REG_TMR];
	if (reg >= REG_IRR && reg < REG_IRR + 8)
		return a->request[reg - REG_IRR];
	if (reg >= REG_LVT && reg < REG_LVT + LVT_COUNT)
		return a->lvt[reg - REG_LVT];
	switch (reg) {
	case REG_VERSION: return APIC_VERSION;
	case REG_TPR: return a->task_priority;
	case REG_APR: case REG_PPR: return processor_priority(a);
	case REG_LDR: return a->logical_id;
	case REG_DFR: return a->destination_format;
	case REG_SPURIOUS: return a->spurious;
	case REG_ESR: return a->error_status;
	case REG_ICR: case REG_ICR_HIGH: return a->command[reg - REG_ICR];
	case REG_INITIAL: return a->initial_count;
	case REG_CURRENT: return current_count(a);
	case REG_DIVIDE: return a->divide;
	case REG_ID: case REG_EOI: return 0;
	default: note_error(a, ERROR_REGISTER); return 0;
	}
}

/* Shorthands: 0 none, 1 self, 2 all, 3 all but self. */
static void send_command(struct apic *a)
{
	uint32_t icr = a->command[0];
	uint8_t delivery = icr >> 8 & 7, vector = (uint8_t)icr;
	const struct apic_message m = {
		.vector = vector, .delivery = delivery, .destination = (uint8_t)(a->command[1] >> 24), .logical = icr & ICR_LOGICAL,
	};
	if (delivery <= APIC_LOWEST && vector < FIRST_VECTOR) {
		note_error(a, ERROR_SEND_VECTOR);
		return;
	}
	if (ICR_SHORTHAND(icr) == 0)
		apic_receive(a, &m);
	else if (ICR_SHORTHAND(icr) != 3)
		accept(a, delivery, vector, false);
}

/* While software has the APIC off, every LVT entry is masked and stays so (10.4.7.2). */
static void write_spurious(struct apic *a, uint32_t value)
{
	a->spurious = value & SPURIOUS_WRITABLE;
	for (unsigned i = 0; i < LVT_COUNT && !(value & SPURIOUS_ENABLE); i++)
		a->lvt[i] |= LVT_MASKED;
}

static void write_lvt(struct apic *a, enum apic_lvt entry, uint32_t value)
{
	if (entry == LVT_TIMER)
		settle_timer(a);
	a->lvt[entry] = value & lvt_writable[entry];
	if (!(a->spurious & SPURIOUS_ENABLE))
		a->lvt[entry] |= LVT_MASKED;
}

static void write_register(struct apic *a, unsigned reg, uint32_t value)
{
	if (reg >= REG_LVT && reg < REG_LVT + LVT_COUNT) {
		write_lvt(a, (enum apic_lvt)(reg - REG_LVT), value);
		return;
	}
	switch (reg) {
	case REG_TPR: a->task_priority = value & 0xFF; break;
	case REG_EOI: end_interrupt(a); break;
	case REG_LDR: a->logical_id = value & 0xFF000000u; break;
	case REG_DFR: a->destination_format = value | 0x0FFFFFFFu; break;
	case REG_SPURIOUS: write_spurious(a, value); break;
	case REG_ESR: a->error_status = a->errors, a->errors = 0; break;
	case REG_ICR: a->command[0] = value & ICR_WRITABLE & ~ICR_BUSY, send_command(a); break;
	case REG_ICR_HIGH: a->command[1] = value & 0xFF000000u; break;
	case REG_INITIAL: a->initial_count = value, start_timer(a, board_now(a->board)); break;
	case REG_DIVIDE: write_divide(a, value); break;
	case REG_ID: case REG_VERSION: case REG_CURRENT: break; /* read-only */
	default: note_error(a, ERROR_REGISTER);
	}
}

/* Only aligned double words are architectural (10.4.1); others read what lies there and write nothing. */
static uint64_t read_memory(void *ctx, uint32_t offset, unsigned size)
{
	struct apic *a = ctx;
	(void)size;
	uint32_t value = (offset & 0xF) < 4 ? read_register(a, offset >> 4) >> 8 * (offset & 3) : 0;
	update(a);
	return value;
}

static void write_memory(void *ctx, uint32_t offset, unsigned size, uint64_t value)
{
	struct apic *a = ctx;
	if (size == 4 && !(offset & 0xF))
		write_register(a, offset >> 4, (uint32_t)value);
	update(a);
}

/* --- life --- */

void apic_reset(struct apic *a, uint64_t base)
{
	a->base = base;
	a->memory.first = base & BASE_ADDRESS;
	a->memory.size = base & APIC_BASE_ENABLE ? REGISTERS_SIZE : 0;
	a->task_priority = a->logical_id = a->errors = a->error_status = 0;
	a->destination_format = 0xFFFFFFFFu;
	a->spurious = 0xFF;
	a->initial_count = a->divide = 0;
	a->timer.deadline = TIMER_NEVER;
	for (unsigned i = 0; i < 2; i++)
		a->command[i] = 0;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		a->lvt[i] = LVT_MASKED;
	for (unsigned i = 0; i < 8; i++)
		a->request[i] = a->in_service[i] = a->level[i] = 0;
	update(a);
}

void apic_set_base(struct apic *a, uint64_t base)
{
	bool toggles = (base ^ a->base) & APIC_BASE_ENABLE;
	a->base = base;
	a->memory.first = base & BASE_ADDRESS;
	if (toggles)
		apic_reset(a, base);
}

void apic_enter_virtual_wire(struct apic *a)
{
	write_spurious(a, SPURIOUS_ENABLE | 0xFF);
	write_lvt(a, LVT_LINT0, APIC_EXTINT << 8);
	write_lvt(a, LVT_LINT1, APIC_NMI << 8);
	update(a);
}

void apic_init(struct apic *a, struct board *b, const struct apic_wires *wires)
{
	*a = (struct apic) {
		.board = b, .wires = *wires, .memory = { .read = read_memory, .write = write_memory, .ctx = a },
		.timer = { .fire = fire, .ctx = a, .irq = -1 },
	};
	board_add_timer(&b->timers, &a->timer);
	board_add_memory(b, &a->memory);
	apic_reset(a, 0);
}
