/* 16550A: registers, FIFOs, interrupts, loopback, and no byte lost on either side. */
#include "runtime/devices/uart.h"
#include "tests/unit/test_devices_board.h"

enum { DATA = 0x3F8, IER, IIR, LCR, MCR, LSR, MSR, SCR };

struct uart_bench {
	struct bench *t;
	struct uart uart;
	char sent[4096], input[4096];
	unsigned sent_count, input_head, input_count;
	bool full;
};

static void send(void *ctx, uint8_t byte)
{
	struct uart_bench *u = ctx;
	u->sent[u->sent_count++] = (char)byte;
}

static bool writable(void *ctx) { return !((struct uart_bench *)ctx)->full; }

static unsigned receive(void *ctx, uint8_t *to, unsigned max)
{
	struct uart_bench *u = ctx;
	unsigned n = 0;
	while (n < max && u->input_head < u->input_count)
		to[n++] = (uint8_t)u->input[u->input_head++];
	return n;
}

static void give_back(void *ctx, unsigned count) { ((struct uart_bench *)ctx)->input_head -= count; }

static struct uart_bench *start(void)
{
	struct uart_bench *u = calloc(1, sizeof(*u));
	const struct uart_line line = { send, writable, receive, give_back, u };
	u->t = bench_create();
	uart_init(&u->uart, &u->t->board, 0x3F8, 4, &line);
	bench_program_pic(u->t, 0x03);
	return u;
}

static void stop(struct uart_bench *u)
{
	free(u->t);
	free(u);
}

static void type(struct uart_bench *u, const char *text)
{
	memcpy(u->input + u->input_count, text, strlen(text));
	u->input_count += (unsigned)strlen(text);
	uart_input_ready(&u->uart);
}

/* As a driver sets it up: FIFOs on, trigger at 8, DTR, RTS and OUT2, receive interrupt. */
static void open_port(struct uart_bench *u)
{
	out8(u->t, LCR, 0x83);
	out8(u->t, DATA, 1), out8(u->t, IER, 0); /* 115200 */
	out8(u->t, LCR, 0x03);
	out8(u->t, IIR, 0x87);
	out8(u->t, MCR, 0x0B);
	out8(u->t, IER, 0x01);
}

static unsigned read_all(struct uart_bench *u, char *to)
{
	unsigned n = 0;
	while (in8(u->t, LSR) & 1)
		to[n++] = (char)in8(u->t, DATA);
	return n;
}

TEST(devices_uart, registers_read_back)
{
	struct uart_bench *u = start();
	out8(u->t, SCR, 0x5A);
	CHECK_EQ(in8(u->t, SCR), 0x5A);
	out8(u->t, IER, 0xFF);
	CHECK_EQ(in8(u->t, IER), 0x0F);
	out8(u->t, LCR, 0x80);
	out8(u->t, DATA, 0x34), out8(u->t, IER, 0x12);
	CHECK_EQ(in8(u->t, DATA), 0x34);
	CHECK_EQ(in8(u->t, IER), 0x12);
	out8(u->t, LCR, 0x03);
	CHECK_EQ(in8(u->t, IER), 0x0F);
	CHECK_EQ(in8(u->t, LSR), 0x60);
	CHECK_EQ(in8(u->t, MSR), 0xB0);
	stop(u);
}

TEST(devices_uart, fifo_bits_tell_a_16550a)
{
	struct uart_bench *u = start();
	CHECK_EQ(in8(u->t, IIR), 0x01);
	out8(u->t, IIR, 0x01);
	CHECK_EQ(in8(u->t, IIR), 0xC1);
	out8(u->t, IIR, 0x00);
	CHECK_EQ(in8(u->t, IIR), 0x01);
	stop(u);
}

TEST(devices_uart, sends)
{
	struct uart_bench *u = start();
	out8(u->t, DATA, 'h'), out8(u->t, DATA, 'i');
	CHECK_STR(u->sent, "hi");
	CHECK_EQ(in8(u->t, LSR) & 0x60, 0x60);
	stop(u);
}

TEST(devices_uart, transmit_interrupt)
{
	struct uart_bench *u = start();
	out8(u->t, MCR, 0x08);
	out8(u->t, IER, 0x02); /* enabling it with an empty register interrupts */
	CHECK(u->t->intr);
	CHECK_EQ(pic_acknowledge(&u->t->pic), 0x24);
	CHECK_EQ(in8(u->t, IIR) & 0x0F, 0x02);
	CHECK_EQ(in8(u->t, IIR) & 0x0F, 0x01); /* reading cleared it */
	out8(u->t, DATA, 'x');
	CHECK(u->t->intr);
	CHECK_EQ(pic_acknowledge(&u->t->pic), 0x24);
	out8(u->t, DATA, 'y'); /* a new edge though IIR was not read */
	CHECK(u->t->intr);
	stop(u);
}

TEST(devices_uart, out2_gates_the_interrupt)
{
	struct uart_bench *u = start();
	out8(u->t, IER, 0x02);
	CHECK(!u->t->intr);
	out8(u->t, MCR, 0x08);
	CHECK(u->t->intr);
	out8(u->t, MCR, 0x18); /* inactive in loopback */
	CHECK(!u->t->intr);
	stop(u);
}

TEST(devices_uart, receives_at_trigger_level)
{
	struct uart_bench *u = start();
	char got[16] = "";
	open_port(u);
	type(u, "12345678");
	CHECK(u->t->intr);
	CHECK_EQ(in8(u->t, IIR), 0xC4);
	CHECK_EQ(in8(u->t, DATA), '1'); /* below the trigger now */
	CHECK_EQ(in8(u->t, IIR), 0xC1);
	CHECK_EQ(read_all(u, got), 7);
	CHECK_STR(got, "2345678");
	stop(u);
}

TEST(devices_uart, few_characters_time_out)
{
	struct uart_bench *u = start();
	open_port(u);
	type(u, "ab");
	CHECK(!u->t->intr);
	bench_advance(u->t, 347000); /* four characters of ten bits at 115200 are 347.2 us */
	CHECK(!u->t->intr);
	bench_advance(u->t, 1000);
	CHECK(u->t->intr);
	CHECK_EQ(in8(u->t, IIR), 0xCC);
	CHECK_EQ(in8(u->t, DATA), 'a'); /* a read restarts the time */
	CHECK_EQ(in8(u->t, IIR), 0xC1);
	bench_advance(u->t, 348000);
	CHECK_EQ(in8(u->t, IIR), 0xCC);
	CHECK_EQ(in8(u->t, DATA), 'b');
	bench_advance(u->t, 1000000);
	CHECK_EQ(in8(u->t, IIR), 0xC1);
	stop(u);
}

TEST(devices_uart, without_fifo_one_at_a_time)
{
	struct uart_bench *u = start();
	out8(u->t, MCR, 0x08), out8(u->t, IER, 0x01);
	type(u, "ab");
	CHECK_EQ(in8(u->t, IIR), 0x04);
	CHECK_EQ(in8(u->t, DATA), 'a');
	CHECK_EQ(in8(u->t, LSR) & 1, 0); /* the next one takes its time */
	bench_advance(u->t, 1000000);
	CHECK_EQ(in8(u->t, LSR), 0x61);
	CHECK_EQ(in8(u->t, DATA), 'b');
	stop(u);
}

TEST(devices_uart, long_paste_arrives_whole)
{
	struct uart_bench *u = start();
	char got[2048] = "", text[2001] = "";
	unsigned n = 0;
	for (unsigned i = 0; i < 2000; i++)
		text[i] = (char)('a' + i % 26);
	open_port(u);
	type(u, text);
	for (int i = 0; i < 1000; i++) {
		bench_advance(u->t, 100000);
		n += read_all(u, got + n);
	}
	CHECK_EQ(n, 2000);
	CHECK_STR(got, text);
	stop(u);
}

TEST(devices_uart, early_input_survives_the_driver)
{
	struct uart_bench *u = start();
	char got[64] = "";
	type(u, "ls\n");
	/* What drivers do to find out what they have. */
	out8(u->t, IIR, 0x01), out8(u->t, IIR, 0x07), out8(u->t, IIR, 0x00);
	in8(u->t, LSR), in8(u->t, DATA), in8(u->t, IIR), in8(u->t, MSR);
	out8(u->t, MCR, 0x1A), out8(u->t, MCR, 0x00);
	open_port(u);
	bench_advance(u->t, 2000000);
	CHECK(u->t->intr);
	out8(u->t, IIR, 0x87); /* FIFO cleared once more */
	bench_advance(u->t, 2000000);
	CHECK_EQ(read_all(u, got), 3);
	CHECK_STR(got, "ls\n");
	stop(u);
}

TEST(devices_uart, polling_guest_is_served)
{
	struct uart_bench *u = start();
	type(u, "q");
	unsigned polls = 0;
	while (!(in8(u->t, LSR) & 1) && polls < 1000)
		polls++;
	CHECK(polls < 1000);
	CHECK_EQ(in8(u->t, DATA), 'q');
	stop(u);
}

TEST(devices_uart, slow_reader_holds_the_guest)
{
	struct uart_bench *u = start();
	open_port(u);
	out8(u->t, IER, 0x02);
	u->full = true;
	out8(u->t, DATA, 'x');
	CHECK_EQ(in8(u->t, LSR) & 0x60, 0);
	in8(u->t, IIR);
	CHECK(!u->t->intr || (pic_acknowledge(&u->t->pic), !u->t->intr));
	u->full = false;
	uart_output_ready(&u->uart);
	CHECK_EQ(in8(u->t, LSR) & 0x60, 0x60);
	CHECK(u->t->intr);
	stop(u);
}

TEST(devices_uart, loopback)
{
	struct uart_bench *u = start();
	type(u, "outside");
	out8(u->t, IIR, 0x07);
	out8(u->t, MCR, 0x10);
	CHECK_EQ(in8(u->t, MSR) & 0xF0, 0);
	out8(u->t, MCR, 0x1A); /* RTS and OUT2 come back as CTS and DCD */
	CHECK_EQ(in8(u->t, MSR), 0x90 | 0x09);
	CHECK_EQ(in8(u->t, MSR), 0x90);
	out8(u->t, DATA, 'L');
	CHECK_EQ(in8(u->t, LSR) & 1, 1);
	CHECK_EQ(in8(u->t, DATA), 'L');
	CHECK_EQ(u->sent_count, 0);
	CHECK_EQ(u->input_head, 0);
	stop(u);
}

TEST(devices_uart, overrun_and_break_in_loopback)
{
	struct uart_bench *u = start();
	out8(u->t, MCR, 0x10);
	out8(u->t, DATA, 1), out8(u->t, DATA, 2);
	out8(u->t, IER, 0x04);
	CHECK_EQ(in8(u->t, IIR), 0x06);
	CHECK_EQ(in8(u->t, LSR), 0x63);
	CHECK_EQ(in8(u->t, LSR), 0x61);
	CHECK_EQ(in8(u->t, DATA), 1);
	out8(u->t, LCR, 0x40);
	CHECK_EQ(in8(u->t, LSR), 0x71);
	CHECK_EQ(in8(u->t, DATA), 0);
	stop(u);
}

TEST(devices_uart, ring_counts_at_its_end)
{
	struct uart_bench *u = start();
	out8(u->t, MCR, 0x10);
	in8(u->t, MSR);
	out8(u->t, MCR, 0x14);
	CHECK_EQ(in8(u->t, MSR), 0x40);
	out8(u->t, MCR, 0x10);
	CHECK_EQ(in8(u->t, MSR), 0x04);
	stop(u);
}

TEST(devices_uart, priorities)
{
	struct uart_bench *u = start();
	out8(u->t, MCR, 0x10);
	out8(u->t, IER, 0x0F);
	out8(u->t, DATA, 1), out8(u->t, DATA, 2);
	CHECK_EQ(in8(u->t, IIR), 0x06);
	in8(u->t, LSR);
	CHECK_EQ(in8(u->t, IIR), 0x04);
	in8(u->t, DATA);
	CHECK_EQ(in8(u->t, IIR), 0x02);
	CHECK_EQ(in8(u->t, IIR), 0x00); /* modem lines changed on entering loopback */
	in8(u->t, MSR);
	CHECK_EQ(in8(u->t, IIR), 0x01);
	stop(u);
}
