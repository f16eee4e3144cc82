/* 16550A UART (National PC16550D data sheet).
 *
 * Built: all registers, FIFOs with trigger levels, character timeout, loopback, the four interrupts in their order of priority, OUT2 as
 * the interrupt's gate, overrun and break in loopback, modem lines held as with a terminal that is ready (CTS, DSR, DCD). Bytes leave at
 * once; where the host does not take them, THR stays full. Input comes a FIFO at a time at a pace that a guest can follow, so that a long
 * paste is not lost in the guest's buffers, and only when the guest listens (receive interrupt on, or polling LSR), so that what is typed
 * or piped in early is not lost while a driver sets the port up. Not built: line speed and format errors, DMA modes. */
#include "runtime/devices/uart.h"

#include "runtime/devices/pic.h"

#define IER_RDA 0x01u
#define IER_THRE 0x02u
#define IER_LINE 0x04u
#define IER_MODEM 0x08u

#define IIR_NONE 0x01u
#define IIR_MODEM 0x00u
#define IIR_THRE 0x02u
#define IIR_RDA 0x04u
#define IIR_LINE 0x06u
#define IIR_TIMEOUT 0x0Cu
#define IIR_FIFO 0xC0u

#define FCR_ENABLE 0x01u
#define FCR_CLEAR_RX 0x02u
#define FCR_KEPT 0xC9u

#define LCR_BREAK 0x40u
#define LCR_DLAB 0x80u

#define MCR_RTS 0x02u
#define MCR_DTR 0x01u
#define MCR_OUT1 0x04u
#define MCR_OUT2 0x08u
#define MCR_LOOP 0x10u
#define MCR_WRITABLE 0x1Fu

#define LSR_DR 0x01u
#define LSR_OE 0x02u
#define LSR_BI 0x10u
#define LSR_THRE 0x20u
#define LSR_TEMT 0x40u

#define MSR_TERI 0x04u
#define MSR_CTS 0x10u
#define MSR_DSR 0x20u
#define MSR_RI 0x40u
#define MSR_DCD 0x80u
#define MSR_READY (MSR_CTS | MSR_DSR | MSR_DCD)

#define CLOCK_HZ 115200 /* after the fixed division by 16 */
#define REFILL_NS 250000
#define LISTENING_POLLS 64
#define LONGEST_TIMEOUT_NS 1000000

static unsigned capacity(const struct uart *u)
{
	return u->fcr & FCR_ENABLE ? UART_FIFO : 1;
}

static unsigned trigger(const struct uart *u)
{
	static const uint8_t levels[4] = { 1, 4, 8, 14 };
	return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

static uint8_t interrupt(const struct uart *u)
{
	if ((u->ier & IER_LINE) && u->errors)
		return IIR_LINE;
	if ((u->ier & IER_RDA) && u->count >= trigger(u))
		return IIR_RDA;
	if ((u->ier & IER_RDA) && u->timed_out)
		return IIR_TIMEOUT;
	if ((u->ier & IER_THRE) && u->thre_pending)
		return IIR_THRE;
	if ((u->ier & IER_MODEM) && (u->msr & 0x0F))
		return IIR_MODEM;
	return IIR_NONE;
}

static void update(struct uart *u)
{
	/* OUT2 gates the interrupt on a PC, and is inactive in loopback. */
	bool gate = (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
	pic_set_line(u->board->pic, u->irq, gate && interrupt(u) != IIR_NONE);
}

/* Four characters' time without a read or a new character. */
static void start_timeout(struct uart *u, int64_t now)
{
	u->timed_out = false;
	u->timeout.deadline = TIMER_NEVER;
	if (!u->count || !(u->fcr & FCR_ENABLE))
		return;
	unsigned divisor = u->divisor[0] | u->divisor[1] << 8;
	int64_t ns = 4 * 10 * NS_PER_SECOND * divisor / CLOCK_HZ;
	u->timeout.deadline = now + (ns < LONGEST_TIMEOUT_NS ? ns : LONGEST_TIMEOUT_NS);
}

static void timeout_fired(void *ctx, int64_t now)
{
	struct uart *u = ctx;
	(void)now;
	u->timed_out = u->count > 0;
	update(u);
}

static void push(struct uart *u, uint8_t byte)
{
	if (u->count == capacity(u)) {
		u->errors |= LSR_OE;
		return;
	}
	u->fifo[(u->head + u->count++) % UART_FIFO] = byte;
}

static uint8_t pop(struct uart *u)
{
	if (!u->count)
		return 0;
	uint8_t byte = u->fifo[u->head];
	u->head = (u->head + 1) % UART_FIFO;
	u->count--;
	return byte;
}

static bool listens(const struct uart *u)
{
	return !(u->mcr & MCR_LOOP) && ((u->ier & IER_RDA) || u->polls >= LISTENING_POLLS);
}

/* Take input from the line into an empty FIFO, unless that was done just now. The clock is asked only where something waits. */
static void refill(struct uart *u)
{
	uint8_t bytes[UART_FIFO];
	if (u->count || !listens(u) || u->refill.deadline != TIMER_NEVER)
		return;
	unsigned n = u->line.receive(u->line.ctx, bytes, capacity(u));
	if (!n)
		return;
	int64_t now = board_now(u->board);
	if (now < u->refilled + REFILL_NS) {
		u->line.give_back(u->line.ctx, n);
		u->refill.deadline = u->refilled + REFILL_NS;
		return;
	}
	for (unsigned i = 0; i < n; i++)
		push(u, bytes[i]);
	u->refilled = now;
	u->polls = LISTENING_POLLS;
	start_timeout(u, now);
}

/* Empty the FIFO. What came from the line counts as not yet arrived. */
static void clear_fifo(struct uart *u)
{
	if (!(u->mcr & MCR_LOOP))
		u->line.give_back(u->line.ctx, u->count);
	u->head = u->count = u->polls = 0;
	u->timed_out = false;
	u->timeout.deadline = TIMER_NEVER;
}

static void refill_fired(void *ctx, int64_t now)
{
	(void)now;
	refill(ctx);
	update(ctx);
}

void uart_input_ready(struct uart *u)
{
	refill(u);
	update(u);
}

void uart_output_ready(struct uart *u)
{
	if (!u->blocked)
		return;
	u->blocked = false;
	u->thre_pending = true;
	update(u);
}

bool uart_wants_input(const struct uart *u)
{
	return (u->ier & IER_RDA) && (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
}

static void transmit(struct uart *u, uint8_t byte)
{
	u->thre_pending = false;
	u->polls = 0;
	update(u);
	if (u->mcr & MCR_LOOP) {
		push(u, byte);
		start_timeout(u, board_now(u->board));
	} else {
		u->line.send(u->line.ctx, byte);
		u->blocked = !u->line.writable(u->line.ctx);
	}
	u->thre_pending = !u->blocked;
}

static uint8_t read_data(struct uart *u)
{
	uint8_t byte = pop(u);
	refill(u);
	start_timeout(u, board_now(u->board));
	return byte;
}

static uint8_t read_iir(struct uart *u)
{
	uint8_t value = interrupt(u);
	if (value == IIR_THRE)
		u->thre_pending = false;
	return value | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct uart *u)
{
	if (u->polls < LISTENING_POLLS)
		u->polls++;
	refill(u);
	uint8_t value = u->errors | (u->count ? LSR_DR : 0) | (u->blocked ? 0 : LSR_THRE | LSR_TEMT);
	u->errors = 0;
	/* A console polls this for each character: nothing that interrupts depends on what has just been the case. */
	if (value & (LSR_DR | LSR_OE | LSR_BI))
		update(u);
	return value;
}

static uint8_t read_msr(struct uart *u)
{
	uint8_t value = u->msr;
	u->msr &= 0xF0;
	return value;
}

static uint32_t read_uart(void *ctx, uint16_t port, unsigned size)
{
	struct uart *u = ctx;
	unsigned reg = port - u->base;
	uint8_t value;
	(void)size;
	if (reg < 2 && (u->lcr & LCR_DLAB))
		return u->divisor[reg];
	switch (reg) {
	case 0: value = read_data(u); break;
	case 1: return u->ier;
	case 2: value = read_iir(u); break;
	case 3: return u->lcr;
	case 4: return u->mcr;
	case 5: return read_lsr(u);
	case 6: value = read_msr(u); break;
	default: return u->scratch;
	}
	update(u);
	return value;
}

static void write_fcr(struct uart *u, uint8_t value)
{
	bool toggled = (value ^ u->fcr) & FCR_ENABLE;
	if (toggled || (value & FCR_CLEAR_RX))
		clear_fifo(u);
	u->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
	refill(u);
}

/* The modem lines as they are now, with a delta bit for each that changed since the last read. */
static void update_modem_lines(struct uart *u)
{
	uint8_t lines = MSR_READY;
	if (u->mcr & MCR_LOOP)
		lines = (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) | (u->mcr & MCR_OUT1 ? MSR_RI : 0) |
			(u->mcr & MCR_OUT2 ? MSR_DCD : 0);
	uint8_t changed = (lines ^ u->msr) & 0xF0;
	uint8_t delta = changed >> 4;
	if (lines & MSR_RI)
		delta &= (uint8_t)~MSR_TERI; /* only its trailing edge counts */
	u->msr = lines | (u->msr & 0x0F) | delta;
}

static void write_mcr(struct uart *u, uint8_t value)
{
	if ((value ^ u->mcr) & MCR_LOOP)
		clear_fifo(u); /* never both kinds of bytes in it */
	u->mcr = value & MCR_WRITABLE;
	update_modem_lines(u);
	refill(u);
}

static void write_lcr(struct uart *u, uint8_t value)
{
	bool breaks = (value & ~u->lcr & LCR_BREAK) && (u->mcr & MCR_LOOP);
	u->lcr = value;
	if (breaks) {
		push(u, 0);
		u->errors |= LSR_BI;
	}
}

static void write_ier(struct uart *u, uint8_t value)
{
	bool thre_enabled = value & ~u->ier & IER_THRE;
	u->ier = value & 0x0F;
	refill(u);
	if (thre_enabled && !u->blocked)
		u->thre_pending = true;
}

static void write_uart(void *ctx, uint16_t port, unsigned size, uint32_t wide)
{
	struct uart *u = ctx;
	unsigned reg = port - u->base;
	uint8_t value = (uint8_t)wide;
	(void)size;
	if (reg < 2 && (u->lcr & LCR_DLAB)) {
		u->divisor[reg] = value;
		return;
	}
	switch (reg) {
	case 0: transmit(u, value); break;
	case 1: write_ier(u, value); break;
	case 2: write_fcr(u, value); break;
	case 3: write_lcr(u, value); break;
	case 4: write_mcr(u, value); break;
	case 7: u->scratch = value; break;
	default: break; /* LSR and MSR are read-only */
	}
	update(u);
}

void uart_reset(struct uart *u)
{
	clear_fifo(u);
	u->ier = u->fcr = u->lcr = u->mcr = u->scratch = u->errors = 0;
	u->divisor[0] = 12; /* 9600 baud, as firmware leaves it */
	u->divisor[1] = 0;
	u->msr = MSR_READY;
	u->thre_pending = u->timed_out = false;
	u->blocked = !u->line.writable(u->line.ctx);
	u->refill.deadline = TIMER_NEVER;
	update(u);
}

void uart_init(struct uart *u, struct board *b, uint16_t base, unsigned irq, const struct uart_line *line)
{
	const struct board_ports ports = { read_uart, write_uart, u };
	*u = (struct uart) {
		.board = b, .line = *line, .base = base, .irq = irq, .refilled = INT64_MIN / 2,
		.timeout = { .fire = timeout_fired, .ctx = u, .irq = (int)irq }, .refill = { .fire = refill_fired, .ctx = u, .irq = (int)irq },
	};
	board_add_timer(&b->timers, &u->timeout);
	board_add_timer(&b->timers, &u->refill);
	board_claim(b, base, 8, 1, &ports);
	uart_reset(u);
}
