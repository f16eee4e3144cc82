/* 8254 and port 61h, with a clock that stands still. */
#include "runtime/devices/pit.h"
#include "tests/unit/test_devices_board.h"

struct pit_bench {
	struct bench *t;
	struct pit pit;
};

static struct pit_bench *start(void)
{
	struct pit_bench *p = calloc(1, sizeof(*p));
	p->t = bench_create();
	pit_init(&p->pit, &p->t->board);
	bench_program_pic(p->t, 0x03); /* automatic EOI: each edge shows as a rise of INTR */
	return p;
}

static void stop(struct pit_bench *p)
{
	free(p->t);
	free(p);
}

/* Move the clock to `ticks` after its start. */
static void at_tick(struct pit_bench *p, int64_t ticks)
{
	int64_t base = board_ns_to_ticks(NS_PER_SECOND, PIT_HZ);
	bench_advance(p->t, board_ticks_to_ns(base + ticks, PIT_HZ) - p->t->now);
}

static void program(struct pit_bench *p, unsigned channel, unsigned mode, uint16_t count)
{
	out8(p->t, 0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
	out8(p->t, (uint16_t)(0x40 + channel), (uint8_t)count);
	out8(p->t, (uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

static uint16_t read_count(struct pit_bench *p, unsigned channel)
{
	uint16_t port = (uint16_t)(0x40 + channel), low;
	out8(p->t, 0x43, (uint8_t)(channel << 6));
	low = in8(p->t, port);
	return (uint16_t)(low | in8(p->t, port) << 8);
}

static bool out2(struct pit_bench *p) { return in8(p->t, 0x61) & 0x20; }

/* Acknowledge until INTR is quiet; returns how many interrupts there were. */
static unsigned drain(struct pit_bench *p)
{
	unsigned n = 0;
	for (; p->t->intr; n++)
		CHECK_EQ(pic_acknowledge(&p->t->pic), 0x20);
	return n;
}

TEST(devices_pit, mode_2_counts_down_and_repeats)
{
	struct pit_bench *p = start();
	program(p, 0, 2, 1000);
	drain(p);
	at_tick(p, 1); /* the clock after the write loads the count */
	CHECK_EQ(read_count(p, 0), 1000);
	at_tick(p, 2);
	CHECK_EQ(read_count(p, 0), 999);
	at_tick(p, 1000);
	CHECK_EQ(read_count(p, 0), 1);
	CHECK_EQ(drain(p), 0);
	at_tick(p, 1001);
	CHECK_EQ(read_count(p, 0), 1000);
	CHECK_EQ(drain(p), 1);
	at_tick(p, 2001);
	CHECK_EQ(drain(p), 1);
	stop(p);
}

TEST(devices_pit, missed_edges_merge_and_phase_stays)
{
	struct pit_bench *p = start();
	program(p, 0, 2, 1193);
	drain(p);
	p->t->now += board_ticks_to_ns(10 * 1193 + 500, PIT_HZ); /* a long time in which nobody looked */
	board_run_timers(&p->t->board.timers, p->t->now);
	CHECK_EQ(drain(p), 1);
	at_tick(p, 11 * 1193);
	CHECK_EQ(drain(p), 0);
	at_tick(p, 11 * 1193 + 1);
	CHECK_EQ(drain(p), 1);
	stop(p);
}

TEST(devices_pit, rate_is_exact_over_a_second)
{
	struct pit_bench *p = start();
	program(p, 0, 2, 11932); /* 100 Hz, nearly */
	drain(p);
	unsigned n = 0;
	for (int i = 0; i < 4000; i++) {
		bench_advance(p->t, 250000);
		n += drain(p);
	}
	CHECK_EQ(n, 99); /* 1193182 / 11932 = 99.998 */
	stop(p);
}

TEST(devices_pit, mode_0_interrupts_once)
{
	struct pit_bench *p = start();
	program(p, 0, 0, 500);
	CHECK_EQ(drain(p), 0);
	at_tick(p, 500);
	CHECK_EQ(drain(p), 0);
	at_tick(p, 501); /* N + 1 clocks after the write */
	CHECK_EQ(drain(p), 1);
	CHECK_EQ(read_count(p, 0), 0);
	CHECK_EQ(p->pit.timer.deadline, TIMER_NEVER);
	at_tick(p, 502);
	CHECK_EQ(read_count(p, 0), 0xFFFF); /* counts on */
	at_tick(p, 200000);
	CHECK_EQ(drain(p), 0);
	stop(p);
}

TEST(devices_pit, mode_0_first_byte_stops)
{
	struct pit_bench *p = start();
	program(p, 0, 0, 500);
	at_tick(p, 100);
	out8(p->t, 0x40, 50);
	at_tick(p, 1000);
	CHECK_EQ(drain(p), 0);
	out8(p->t, 0x40, 0);
	at_tick(p, 1051);
	CHECK_EQ(drain(p), 1);
	stop(p);
}

TEST(devices_pit, mode_4_strobes_once)
{
	struct pit_bench *p = start();
	program(p, 0, 4, 300);
	drain(p);
	at_tick(p, 301);
	CHECK_EQ(drain(p), 0);
	at_tick(p, 302); /* low for one clock, then the edge */
	CHECK_EQ(drain(p), 1);
	at_tick(p, 100000);
	CHECK_EQ(drain(p), 0);
	program(p, 0, 4, 300);
	at_tick(p, 100302);
	CHECK_EQ(drain(p), 1);
	stop(p);
}

TEST(devices_pit, mode_3_square_wave)
{
	struct pit_bench *p = start();
	out8(p->t, 0x61, 1);
	program(p, 2, 3, 10);
	at_tick(p, 1);
	CHECK(out2(p));
	CHECK_EQ(read_count(p, 2), 10);
	at_tick(p, 3);
	CHECK_EQ(read_count(p, 2), 6); /* by two */
	at_tick(p, 5);
	CHECK(out2(p));
	at_tick(p, 6);
	CHECK(!out2(p));
	CHECK_EQ(read_count(p, 2), 10);
	at_tick(p, 11);
	CHECK(out2(p));
	stop(p);
}

TEST(devices_pit, mode_3_odd_count_is_high_one_longer)
{
	struct pit_bench *p = start();
	unsigned high = 0;
	out8(p->t, 0x61, 1);
	program(p, 2, 3, 7);
	for (int i = 1; i <= 14; i++) {
		at_tick(p, i);
		high += out2(p);
		CHECK(!(read_count(p, 2) & 1));
	}
	CHECK_EQ(high, 8);
	stop(p);
}

TEST(devices_pit, mode_3_interrupts_once_a_period)
{
	struct pit_bench *p = start();
	program(p, 0, 3, 0); /* 65536 */
	drain(p);
	at_tick(p, 65536);
	CHECK_EQ(drain(p), 0);
	at_tick(p, 65537);
	CHECK_EQ(drain(p), 1);
	at_tick(p, 2 * 65536 + 1);
	CHECK_EQ(drain(p), 1);
	stop(p);
}

TEST(devices_pit, new_count_waits_for_the_period)
{
	struct pit_bench *p = start();
	program(p, 0, 2, 1000);
	drain(p);
	at_tick(p, 501);
	out8(p->t, 0x40, 100), out8(p->t, 0x40, 0);
	CHECK_EQ(read_count(p, 0), 500);
	at_tick(p, 1000);
	CHECK_EQ(drain(p), 0);
	at_tick(p, 1001);
	CHECK_EQ(drain(p), 1);
	CHECK_EQ(read_count(p, 0), 100);
	at_tick(p, 1101);
	CHECK_EQ(drain(p), 1);
	stop(p);
}

TEST(devices_pit, gate_starts_modes_1_and_5)
{
	struct pit_bench *p = start();
	program(p, 2, 1, 100);
	at_tick(p, 50);
	CHECK(out2(p));
	out8(p->t, 0x61, 1);
	at_tick(p, 51);
	CHECK(!out2(p));
	at_tick(p, 150);
	CHECK(!out2(p));
	at_tick(p, 151);
	CHECK(out2(p));
	out8(p->t, 0x61, 0), out8(p->t, 0x61, 1); /* retriggered */
	at_tick(p, 152);
	CHECK(!out2(p));
	out8(p->t, 0x61, 0);
	program(p, 2, 5, 100);
	at_tick(p, 400);
	CHECK(out2(p));
	out8(p->t, 0x61, 1);
	at_tick(p, 501);
	CHECK(!out2(p));
	at_tick(p, 502);
	CHECK(out2(p));
	stop(p);
}

TEST(devices_pit, gate_pauses_mode_0_restarts_mode_2)
{
	struct pit_bench *p = start();
	out8(p->t, 0x61, 1);
	program(p, 2, 0, 1000);
	at_tick(p, 101);
	CHECK_EQ(read_count(p, 2), 900);
	out8(p->t, 0x61, 0);
	at_tick(p, 300);
	CHECK_EQ(read_count(p, 2), 900);
	out8(p->t, 0x61, 1);
	at_tick(p, 400);
	CHECK_EQ(read_count(p, 2), 800);
	CHECK(!out2(p));
	at_tick(p, 1200);
	CHECK(out2(p));
	program(p, 2, 2, 1000);
	at_tick(p, 1501);
	out8(p->t, 0x61, 0);
	CHECK(out2(p));
	out8(p->t, 0x61, 1);
	at_tick(p, 1502);
	CHECK_EQ(read_count(p, 2), 1000);
	stop(p);
}

TEST(devices_pit, count_written_with_gate_low_waits)
{
	struct pit_bench *p = start();
	program(p, 2, 0, 1000);
	at_tick(p, 100);
	CHECK_EQ(read_count(p, 2), 1000);
	out8(p->t, 0x61, 1);
	at_tick(p, 200);
	CHECK_EQ(read_count(p, 2), 900);
	stop(p);
}

TEST(devices_pit, latch_holds_until_read)
{
	struct pit_bench *p = start();
	program(p, 0, 2, 1000);
	at_tick(p, 101);
	out8(p->t, 0x43, 0x00);
	at_tick(p, 301);
	out8(p->t, 0x43, 0x00); /* ignored: the first one stands */
	CHECK_EQ(in8(p->t, 0x40), 900 & 0xFF);
	at_tick(p, 302);
	CHECK_EQ(in8(p->t, 0x40), 900 >> 8);
	CHECK_EQ(in8(p->t, 0x40), 699 & 0xFF); /* live again */
	stop(p);
}

TEST(devices_pit, single_byte_access)
{
	struct pit_bench *p = start();
	out8(p->t, 0x43, 0x94); /* channel 2, low byte only, mode 2 */
	out8(p->t, 0x61, 1);
	out8(p->t, 0x42, 200);
	at_tick(p, 11);
	CHECK_EQ(in8(p->t, 0x42), 190);
	CHECK_EQ(in8(p->t, 0x42), 190);
	out8(p->t, 0x43, 0xA4); /* high byte only */
	out8(p->t, 0x42, 2);
	at_tick(p, 12);
	CHECK_EQ(in8(p->t, 0x42), 2);
	stop(p);
}

TEST(devices_pit, read_back_status_then_count)
{
	struct pit_bench *p = start();
	program(p, 0, 2, 1000);
	out8(p->t, 0x43, 0xE2); /* status of channel 0 */
	CHECK_EQ(in8(p->t, 0x40), 0x80 | 0x40 | 0x34); /* OUT, null count, both bytes, mode 2 */
	at_tick(p, 1);
	out8(p->t, 0x43, 0xC2); /* status and count */
	at_tick(p, 500);
	CHECK_EQ(in8(p->t, 0x40), 0x80 | 0x34);
	CHECK_EQ(in8(p->t, 0x40), 1000 & 0xFF);
	CHECK_EQ(in8(p->t, 0x40), 1000 >> 8);
	stop(p);
}

TEST(devices_pit, bcd)
{
	struct pit_bench *p = start();
	out8(p->t, 0x43, 0x35);
	out8(p->t, 0x40, 0x00), out8(p->t, 0x40, 0x10); /* 1000 */
	at_tick(p, 2);
	CHECK_EQ(read_count(p, 0), 0x0999);
	out8(p->t, 0x43, 0x31); /* mode 0, 10000 */
	out8(p->t, 0x40, 0), out8(p->t, 0x40, 0);
	at_tick(p, 3);
	CHECK_EQ(read_count(p, 0), 0);
	at_tick(p, 4);
	CHECK_EQ(read_count(p, 0), 0x9999);
	stop(p);
}

TEST(devices_pit, shortest_periods_do_not_spin)
{
	struct pit_bench *p = start();
	program(p, 0, 2, 1);
	int64_t before = p->t->now, fired = 0;
	for (; p->t->now < before + 1000000; fired++)
		bench_advance(p->t, p->pit.timer.deadline - p->t->now);
	CHECK(fired <= 51);
	stop(p);
}

TEST(devices_pit, stopped_timer_needs_no_wakeup)
{
	struct pit_bench *p = start();
	CHECK_EQ(board_next_deadline(&p->t->board.timers), TIMER_NEVER);
	program(p, 0, 2, 100);
	CHECK(board_next_deadline(&p->t->board.timers) != TIMER_NEVER);
	out8(p->t, 0x43, 0x30); /* mode 0, no count yet: as kernels stop it */
	CHECK_EQ(board_next_deadline(&p->t->board.timers), TIMER_NEVER);
	stop(p);
}

TEST(devices_pit, port_61_refresh_toggles)
{
	struct pit_bench *p = start();
	uint8_t first = in8(p->t, 0x61) & 0x10;
	bench_advance(p->t, 15085);
	CHECK((in8(p->t, 0x61) & 0x10) != first);
	out8(p->t, 0x61, 0xFF);
	CHECK_EQ(in8(p->t, 0x61) & 0xCF, 0x0F);
	stop(p);
}
