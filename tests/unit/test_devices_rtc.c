/* The CMOS clock. */
#include "runtime/devices/rtc.h"
#include "tests/unit/test_devices_board.h"

struct rtc_bench {
	struct bench *t;
	struct rtc rtc;
};

/* 2024-02-29 23:59:58 UTC, a Thursday. */
#define LEAP_DAY 1709251198LL

static struct rtc_bench *start(void)
{
	struct rtc_bench *r = calloc(1, sizeof(*r));
	r->t = bench_create();
	r->t->wall = LEAP_DAY * NS_PER_SECOND;
	rtc_init(&r->rtc, &r->t->board, MIB(512));
	bench_program_pic(r->t, 0x03);
	return r;
}

static void stop(struct rtc_bench *r)
{
	free(r->t);
	free(r);
}

static uint8_t get(struct rtc_bench *r, uint8_t reg)
{
	out8(r->t, 0x70, reg);
	return in8(r->t, 0x71);
}

static void set(struct rtc_bench *r, uint8_t reg, uint8_t value)
{
	out8(r->t, 0x70, reg);
	out8(r->t, 0x71, value);
}

static unsigned drain(struct rtc_bench *r)
{
	unsigned n = 0;
	for (; r->t->intr; n++)
		CHECK_EQ(pic_acknowledge(&r->t->pic), 0x28);
	return n;
}

TEST(devices_rtc, shows_the_time_in_bcd)
{
	struct rtc_bench *r = start();
	CHECK_EQ(get(r, 0), 0x58);
	CHECK_EQ(get(r, 2), 0x59);
	CHECK_EQ(get(r, 4), 0x23);
	CHECK_EQ(get(r, 6), 5); /* Thursday */
	CHECK_EQ(get(r, 7), 0x29);
	CHECK_EQ(get(r, 8), 0x02);
	CHECK_EQ(get(r, 9), 0x24);
	CHECK_EQ(get(r, 0x32), 0x20);
	CHECK_EQ(get(r, 0xD), 0x80);
	bench_advance(r->t, 2 * NS_PER_SECOND);
	CHECK_EQ(get(r, 0), 0);
	CHECK_EQ(get(r, 4), 0);
	CHECK_EQ(get(r, 6), 6);
	CHECK_EQ(get(r, 7), 0x01);
	CHECK_EQ(get(r, 8), 0x03);
	stop(r);
}

TEST(devices_rtc, binary_and_12_hours)
{
	struct rtc_bench *r = start();
	set(r, 0xB, 0x06);
	CHECK_EQ(get(r, 0), 58);
	CHECK_EQ(get(r, 4), 23);
	set(r, 0xB, 0x04);
	CHECK_EQ(get(r, 4), 0x80 | 11);
	set(r, 0xB, 0x00);
	CHECK_EQ(get(r, 4), 0x91);
	bench_advance(r->t, 2 * NS_PER_SECOND);
	CHECK_EQ(get(r, 4), 0x12); /* midnight */
	stop(r);
}

TEST(devices_rtc, can_be_set)
{
	struct rtc_bench *r = start();
	set(r, 0xB, 0x82);
	bench_advance(r->t, 5 * NS_PER_SECOND);
	CHECK_EQ(get(r, 0), 0x58); /* frozen */
	set(r, 0, 0x01), set(r, 2, 0x02), set(r, 4, 0x03);
	set(r, 7, 0x31), set(r, 8, 0x12), set(r, 9, 0x99), set(r, 0x32, 0x19);
	set(r, 0xB, 0x02);
	CHECK_EQ(get(r, 0), 0x01);
	CHECK_EQ(get(r, 6), 6); /* 1999-12-31 was a Friday */
	bench_advance(r->t, 21 * 3600 * NS_PER_SECOND);
	CHECK_EQ(get(r, 9), 0x00);
	CHECK_EQ(get(r, 0x32), 0x20);
	CHECK_EQ(get(r, 7), 0x01);
	CHECK_EQ(get(r, 4), 0x00);
	set(r, 2, 0x30); /* without SET, too */
	CHECK_EQ(get(r, 2), 0x30);
	bench_advance(r->t, 60 * NS_PER_SECOND);
	CHECK_EQ(get(r, 2), 0x31);
	stop(r);
}

TEST(devices_rtc, update_in_progress_warns_before_the_second)
{
	struct rtc_bench *r = start();
	CHECK_EQ(get(r, 0xA), 0x26);
	bench_advance(r->t, NS_PER_SECOND - 200000);
	CHECK_EQ(get(r, 0xA), 0xA6);
	CHECK_EQ(get(r, 0), 0x58);
	bench_advance(r->t, 200000);
	CHECK_EQ(get(r, 0xA), 0x26);
	CHECK_EQ(get(r, 0), 0x59);
	stop(r);
}

TEST(devices_rtc, periodic_interrupt)
{
	struct rtc_bench *r = start();
	set(r, 0xB, 0x42);
	unsigned n = 0;
	for (int i = 0; i < 10000; i++) {
		bench_advance(r->t, 100000);
		if (r->t->intr) {
			n += drain(r);
			CHECK_EQ(get(r, 0xC) & 0xC0, 0xC0);
		}
	}
	CHECK(n >= 1023 && n <= 1025);
	set(r, 0xB, 0x02);
	CHECK_EQ(r->rtc.timer.deadline, TIMER_NEVER);
	stop(r);
}

TEST(devices_rtc, interrupt_waits_for_register_c)
{
	struct rtc_bench *r = start();
	set(r, 0xB, 0x42);
	bench_advance(r->t, 10000000);
	CHECK_EQ(drain(r), 1);
	CHECK_EQ(r->rtc.timer.deadline, TIMER_NEVER); /* nothing to wake for until it is read */
	bench_advance(r->t, 10000000);
	CHECK_EQ(drain(r), 0);
	CHECK_EQ(get(r, 0xC) & 0xC0, 0xC0);
	bench_advance(r->t, 1000000);
	CHECK_EQ(drain(r), 1);
	stop(r);
}

TEST(devices_rtc, update_ended_interrupt)
{
	struct rtc_bench *r = start();
	set(r, 0xA, 0x20);
	set(r, 0xB, 0x12);
	get(r, 0xC);
	bench_advance(r->t, NS_PER_SECOND - 1000);
	CHECK_EQ(drain(r), 0);
	bench_advance(r->t, 1000);
	CHECK_EQ(drain(r), 1);
	CHECK_EQ(get(r, 0xC), 0x90);
	CHECK_EQ(get(r, 0xC), 0);
	stop(r);
}

TEST(devices_rtc, alarm)
{
	struct rtc_bench *r = start();
	set(r, 0xA, 0x20);
	set(r, 1, 0x05), set(r, 3, 0x00), set(r, 5, 0xFF); /* any hour, minute 0, second 5 */
	set(r, 0xB, 0x22);
	bench_advance(r->t, 6 * NS_PER_SECOND);
	CHECK_EQ(drain(r), 0);
	bench_advance(r->t, NS_PER_SECOND);
	CHECK_EQ(drain(r), 1);
	CHECK_EQ(get(r, 0xC), 0xB0); /* with the update flag, which is not enabled */
	stop(r);
}

TEST(devices_rtc, flags_without_interrupts_can_be_polled)
{
	struct rtc_bench *r = start();
	get(r, 0xC);
	CHECK_EQ(board_next_deadline(&r->t->board.timers), TIMER_NEVER);
	bench_advance(r->t, 2 * NS_PER_SECOND);
	CHECK_EQ(get(r, 0xC), 0x70); /* midnight is the default alarm */
	CHECK(!r->t->intr);
	stop(r);
}

TEST(devices_rtc, memory_sizes)
{
	struct rtc_bench *r = start();
	CHECK_EQ(get(r, 0x15) | get(r, 0x16) << 8, 640);
	CHECK_EQ(get(r, 0x17) | get(r, 0x18) << 8, 0xFFFF);
	CHECK_EQ(get(r, 0x34) | get(r, 0x35) << 8, (512 - 16) * 16);
	unsigned sum = 0;
	for (uint8_t i = 0x10; i <= 0x2D; i++)
		sum += get(r, i);
	CHECK_EQ(get(r, 0x2E) << 8 | get(r, 0x2F), sum);
	set(r, 0x0F, 0x0A);
	CHECK_EQ(get(r, 0x8F), 0x0A); /* bit 7 of the index is the NMI mask */
	stop(r);
}

TEST(devices_rtc, reset_keeps_time_and_memory)
{
	struct rtc_bench *r = start();
	set(r, 0x40, 0x77);
	set(r, 4, 0x10);
	set(r, 0xB, 0x52);
	rtc_reset(&r->rtc);
	CHECK_EQ(get(r, 0xB), 0x02);
	CHECK_EQ(get(r, 0x40), 0x77);
	CHECK_EQ(get(r, 4), 0x10);
	CHECK_EQ(board_next_deadline(&r->t->board.timers), TIMER_NEVER);
	stop(r);
}

TEST(devices_rtc, every_day_of_two_centuries)
{
	struct rtc_bench *r = start();
	static const uint8_t lengths[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	unsigned year = 1970, month = 1, day = 1;
	set(r, 0xB, 0x06);
	for (int64_t days = 0; days < 2 * 36524; days++) {
		r->t->wall = days * 86400 * NS_PER_SECOND;
		bool leap = year % 4 == 0 && (year % 100 || year % 400 == 0);
		if (get(r, 7) != day || get(r, 8) != month || get(r, 0x32) * 100u + get(r, 9) != year || get(r, 6) != (days + 4) % 7 + 1) {
			FAIL("day %d shows as %u-%u-%u", (int)days, get(r, 9), get(r, 8), get(r, 7));
			break;
		}
		if (day++ == lengths[month - 1] + (leap && month == 2 ? 1u : 0u))
			day = 1, month++;
		if (month == 13)
			month = 1, year++;
	}
	stop(r);
}
