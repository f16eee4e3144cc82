/* MC146818 clock (Motorola data sheet) and 128 bytes of CMOS memory as a PC's firmware fills them.
 *
 * Built: the host's time in UTC, settable, BCD and binary, 12 and 24 hours, century in 32h, update-in-progress, the periodic, alarm and
 * update-ended interrupts on IRQ 8, memory sizes. The timer runs only while an interrupt is enabled and none is pending; flags that
 * are polled are computed when register C is read. Not built: daylight saving, the square wave output, stopping the divider. */
#include "runtime/devices/rtc.h"

#include "runtime/devices/pic.h"

enum { REG_SECONDS, REG_SECONDS_ALARM, REG_MINUTES, REG_MINUTES_ALARM, REG_HOURS, REG_HOURS_ALARM, REG_WEEKDAY, REG_DAY, REG_MONTH,
	REG_YEAR, REG_A, REG_B, REG_C, REG_D, REG_CENTURY = 0x32 };

#define A_UIP 0x80u
#define A_RATE 0x0Fu
#define B_SET 0x80u
#define B_BINARY 0x04u
#define B_24H 0x02u
#define FLAG_PERIODIC 0x40u /* in B (enable) and C (flag) alike */
#define FLAG_ALARM 0x20u
#define FLAG_UPDATE 0x10u
#define FLAGS (FLAG_PERIODIC | FLAG_ALARM | FLAG_UPDATE)
#define C_IRQ 0x80u
#define D_VALID 0x80u

#define OSCILLATOR_HZ 32768
#define UPDATE_NS 244000 /* how long before an update UIP shows */
#define DAY 86400

/* A date of the proleptic Gregorian calendar. */
struct date { int64_t year; unsigned month, day; };

static int64_t days_from_date(struct date d)
{
	/* Years from March, so that the leap day is the last of its year; eras of 400 years. */
	int64_t year = d.month <= 2 ? d.year - 1 : d.year;
	int64_t era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
	int64_t day_of_year = (153 * (int64_t)(d.month > 2 ? d.month - 3 : d.month + 9) + 2) / 5 + d.day - 1;
	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719468;
}

static struct date date_from_days(int64_t days)
{
	days += 719468;
	int64_t era = (days >= 0 ? days : days - 146096) / 146097, of_era = days - era * 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t day_of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * day_of_year + 2) / 153;
	struct date d = { .day = (unsigned)(day_of_year - (153 * month + 2) / 5 + 1), .month = (unsigned)(month < 10 ? month + 3 : month - 9) };
	d.year = year + era * 400 + (d.month <= 2);
	return d;
}

static int64_t wall(const struct rtc *r)
{
	return r->board->clock.wall(r->board->clock.ctx);
}

static uint8_t encode(const struct rtc *r, unsigned n)
{
	return (uint8_t)(r->cmos[REG_B] & B_BINARY ? n : n / 10 << 4 | n % 10);
}

static unsigned decode(const struct rtc *r, uint8_t n)
{
	return r->cmos[REG_B] & B_BINARY ? n : (n >> 4) * 10u + (n & 15u);
}

static uint8_t encode_hours(const struct rtc *r, unsigned hours)
{
	if (r->cmos[REG_B] & B_24H)
		return encode(r, hours);
	return encode(r, hours % 12 ? hours % 12 : 12) | (hours >= 12 ? 0x80 : 0);
}

static unsigned decode_hours(const struct rtc *r, uint8_t n)
{
	if (r->cmos[REG_B] & B_24H)
		return decode(r, n);
	return decode(r, n & 0x7F) % 12 + (n & 0x80 ? 12 : 0);
}

/* Put the time at `seconds` since 1970 into the registers. */
static void show(struct rtc *r, int64_t seconds)
{
	int64_t days = seconds / DAY - (seconds % DAY < 0);
	unsigned of_day = (unsigned)(seconds - days * DAY);
	struct date d = date_from_days(days);
	r->cmos[REG_SECONDS] = encode(r, of_day % 60);
	r->cmos[REG_MINUTES] = encode(r, of_day / 60 % 60);
	r->cmos[REG_HOURS] = encode_hours(r, of_day / 3600);
	r->cmos[REG_WEEKDAY] = encode(r, (unsigned)((days % 7 + 11) % 7) + 1); /* 1 is Sunday; 1970 began on a Thursday */
	r->cmos[REG_DAY] = encode(r, d.day);
	r->cmos[REG_MONTH] = encode(r, d.month);
	r->cmos[REG_YEAR] = encode(r, (unsigned)(d.year % 100));
	r->cmos[REG_CENTURY] = encode(r, (unsigned)(d.year / 100 % 100));
}

/* The registers as seconds since 1970. */
static int64_t shown(const struct rtc *r)
{
	unsigned month = decode(r, r->cmos[REG_MONTH]);
	struct date d = {
		.year = decode(r, r->cmos[REG_CENTURY]) * 100 + decode(r, r->cmos[REG_YEAR]),
		.month = month < 1 ? 1 : month > 12 ? 12 : month, .day = decode(r, r->cmos[REG_DAY]),
	};
	return days_from_date(d) * DAY + decode_hours(r, r->cmos[REG_HOURS]) * 3600 + decode(r, r->cmos[REG_MINUTES]) * 60 +
		decode(r, r->cmos[REG_SECONDS]);
}

static bool is_time(unsigned reg)
{
	return reg == REG_SECONDS || reg == REG_MINUTES || reg == REG_HOURS || (reg >= REG_WEEKDAY && reg <= REG_YEAR) || reg == REG_CENTURY;
}

static bool set_mode(const struct rtc *r)
{
	return r->cmos[REG_B] & B_SET;
}

static void refresh(struct rtc *r)
{
	if (!set_mode(r))
		show(r, wall(r) / NS_PER_SECOND + r->offset);
}

/* Period of the periodic interrupt in oscillator ticks, 0 if off. Rates 1 and 2 repeat 8 and 9. */
static int64_t period(const struct rtc *r)
{
	unsigned rate = r->cmos[REG_A] & A_RATE;
	return rate ? 1LL << ((rate <= 2 ? rate + 7 : rate) - 1) : 0;
}

/* Alarm registers of the form 11xxxxxx match anything. */
static bool alarm_matches(const struct rtc *r, int64_t seconds)
{
	unsigned of_day = (unsigned)(seconds % DAY);
	const uint8_t *c = r->cmos;
	return (c[REG_SECONDS_ALARM] >= 0xC0 || decode(r, c[REG_SECONDS_ALARM]) == of_day % 60) &&
		(c[REG_MINUTES_ALARM] >= 0xC0 || decode(r, c[REG_MINUTES_ALARM]) == of_day / 60 % 60) &&
		((c[REG_HOURS_ALARM] & 0xC0) == 0xC0 || decode_hours(r, c[REG_HOURS_ALARM]) == of_day / 3600);
}

/* Raise the flags of all that happened since the last look. */
static void collect(struct rtc *r, int64_t now)
{
	int64_t before = r->seen, second = now / NS_PER_SECOND, ticks = period(r);
	r->seen = now;
	if (now <= before)
		return; /* the host's clock was set back */
	if (ticks && board_ns_to_ticks(now, OSCILLATOR_HZ) / ticks != board_ns_to_ticks(before, OSCILLATOR_HZ) / ticks)
		r->cmos[REG_C] |= FLAG_PERIODIC;
	if (set_mode(r) || second == before / NS_PER_SECOND)
		return;
	r->cmos[REG_C] |= FLAG_UPDATE;
	int64_t from = before / NS_PER_SECOND + 1;
	if (from < second - DAY)
		from = second - DAY;
	while (from <= second && !(r->cmos[REG_C] & FLAG_ALARM)) {
		if (alarm_matches(r, from++ + r->offset))
			r->cmos[REG_C] |= FLAG_ALARM;
	}
}

/* Wall time of the next event that is to interrupt. */
static int64_t next_event(const struct rtc *r, int64_t now)
{
	int64_t next = TIMER_NEVER, ticks = period(r);
	if ((r->cmos[REG_B] & FLAG_PERIODIC) && ticks)
		next = board_ticks_to_ns((board_ns_to_ticks(now, OSCILLATOR_HZ) / ticks + 1) * ticks, OSCILLATOR_HZ);
	int64_t update = (now / NS_PER_SECOND + 1) * NS_PER_SECOND;
	if ((r->cmos[REG_B] & (FLAG_ALARM | FLAG_UPDATE)) && !set_mode(r) && update < next)
		next = update;
	return next;
}

static void update(struct rtc *r)
{
	bool irq = r->cmos[REG_C] & r->cmos[REG_B] & FLAGS;
	r->cmos[REG_C] = (uint8_t)((r->cmos[REG_C] & FLAGS) | (irq ? C_IRQ : 0));
	int64_t next = irq ? TIMER_NEVER : next_event(r, r->seen);
	r->timer.deadline = next == TIMER_NEVER ? TIMER_NEVER : board_now(r->board) + (next - wall(r));
	pic_set_line(r->board->pic, 8, irq);
}

static void fire(void *ctx, int64_t now)
{
	struct rtc *r = ctx;
	(void)now;
	collect(r, wall(r));
	update(r);
}

static uint8_t read_flags(struct rtc *r)
{
	collect(r, wall(r));
	update(r);
	uint8_t flags = r->cmos[REG_C];
	r->cmos[REG_C] = 0;
	update(r);
	return flags;
}

static bool update_in_progress(const struct rtc *r)
{
	return !set_mode(r) && wall(r) % NS_PER_SECOND >= NS_PER_SECOND - UPDATE_NS;
}

static uint32_t read_rtc(void *ctx, uint16_t port, unsigned size)
{
	struct rtc *r = ctx;
	(void)size;
	if (port == 0x70)
		return 0xFF; /* write-only */
	if (is_time(r->index))
		refresh(r);
	if (r->index == REG_A)
		return r->cmos[REG_A] | (update_in_progress(r) ? A_UIP : 0);
	return r->index == REG_C ? read_flags(r) : r->cmos[r->index];
}

static void write_b(struct rtc *r, uint8_t value)
{
	refresh(r); /* SET freezes the time as it is */
	if (value & B_SET)
		value &= (uint8_t)~FLAG_UPDATE;
	else if (set_mode(r))
		r->offset = shown(r) - wall(r) / NS_PER_SECOND;
	collect(r, wall(r));
	r->cmos[REG_B] = value;
	update(r);
}

static void write_rtc(void *ctx, uint16_t port, unsigned size, uint32_t wide)
{
	struct rtc *r = ctx;
	uint8_t value = (uint8_t)wide;
	(void)size;
	if (port == 0x70) {
		r->index = value & 0x7F; /* bit 7 masks NMI, of which there is none */
	} else if (is_time(r->index)) {
		refresh(r);
		r->cmos[r->index] = value;
		if (!set_mode(r))
			r->offset = shown(r) - wall(r) / NS_PER_SECOND;
	} else if (r->index == REG_A) {
		collect(r, wall(r));
		r->cmos[REG_A] = value & (uint8_t)~A_UIP;
		update(r);
	} else if (r->index == REG_B) {
		write_b(r, value);
	} else if (r->index != REG_C && r->index != REG_D) {
		r->cmos[r->index] = value;
	}
}

static void put16(uint8_t *to, uint64_t value)
{
	value = value > 0xFFFF ? 0xFFFF : value;
	to[0] = (uint8_t)value;
	to[1] = (uint8_t)(value >> 8);
}

/* What a PC's firmware keeps about the machine (Ralf Brown's CMOS list). */
static void fill_cmos(struct rtc *r, uint64_t ram_size)
{
	uint64_t extended = ram_size > MIB(1) ? (ram_size - MIB(1)) >> 10 : 0;
	r->cmos[0x14] = 0x02; /* equipment: FPU, no floppy, no display of its own */
	put16(&r->cmos[0x15], 640);
	put16(&r->cmos[0x17], extended);
	put16(&r->cmos[0x30], extended);
	put16(&r->cmos[0x34], ram_size > MIB(16) ? (ram_size - MIB(16)) >> 16 : 0);
	unsigned sum = 0;
	for (unsigned i = 0x10; i <= 0x2D; i++)
		sum += r->cmos[i];
	r->cmos[0x2E] = (uint8_t)(sum >> 8);
	r->cmos[0x2F] = (uint8_t)sum;
}

void rtc_reset(struct rtc *r)
{
	/* The battery keeps time and memory; RESET clears the interrupt enables and flags. */
	refresh(r);
	if (set_mode(r))
		r->offset = shown(r) - wall(r) / NS_PER_SECOND;
	r->cmos[REG_B] &= B_BINARY | B_24H;
	r->cmos[REG_C] = 0;
	r->seen = wall(r);
	update(r);
}

void rtc_init(struct rtc *r, struct board *b, uint64_t ram_size)
{
	const struct board_ports ports = { read_rtc, write_rtc, r };
	*r = (struct rtc) { .board = b, .timer = { .fire = fire, .ctx = r, .irq = 8 } };
	r->cmos[REG_A] = 0x26; /* 32.768 kHz, 1024 Hz */
	r->cmos[REG_B] = B_24H;
	r->cmos[REG_D] = D_VALID;
	fill_cmos(r, ram_size);
	board_add_timer(&b->timers, &r->timer);
	board_claim(b, 0x70, 2, 1, &ports);
	rtc_reset(r);
}
