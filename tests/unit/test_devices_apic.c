/* Local APIC and I/O APIC. */
#include "base/x86.h"
#include "runtime/devices/ioapic.h"
#include "tests/unit/test_devices_board.h"

#define BASE 0xFEE00000u
#define IOAPIC 0xFEC00000u
#define TPR 0x80
#define PPR 0xA0
#define EOI 0xB0
#define LDR 0xD0
#define DFR 0xE0
#define SPURIOUS 0xF0
#define ISR 0x100
#define TMR 0x180
#define IRR 0x200
#define ESR 0x280
#define ICR 0x300
#define ICR_HIGH 0x310
#define TIMER 0x320
#define LINT0 0x350
#define LVT_ERROR_REG 0x370
#define INITIAL 0x380
#define CURRENT 0x390
#define DIVIDE 0x3E0
#define MASKED 0x10000u

struct apics {
	struct bench *t;
	struct apic apic;
	struct ioapic ioapic;
	unsigned nmis;
};

static void raise_nmi(void *ctx) { ((struct apics *)ctx)->nmis++; }
static void set_intr(void *ctx, bool asserted) { bench_intr(((struct apics *)ctx)->t, asserted); }
static void end_of_interrupt(void *ctx, uint8_t vector) { ioapic_end_of_interrupt(&((struct apics *)ctx)->ioapic, vector); }
static void set_pic_output(void *ctx, bool asserted) { apic_set_pic_output(&((struct apics *)ctx)->apic, asserted); }
static void line_changed(void *ctx, unsigned irq, bool level) { ioapic_set_line(&((struct apics *)ctx)->ioapic, irq, level); }

static struct apics *start(void)
{
	struct apics *s = calloc(1, sizeof(*s));
	const struct apic_wires wires = { set_intr, raise_nmi, end_of_interrupt, s };
	s->t = bench_create();
	apic_init(&s->apic, &s->t->board, &wires);
	ioapic_init(&s->ioapic, &s->t->board, &s->apic);
	s->t->pic.set_intr = set_pic_output;
	s->t->pic.line_changed = line_changed;
	s->t->pic.ctx = s;
	bench_program_pic(s->t, 0x03);
	apic_reset(&s->apic, APIC_BASE_RESET);
	ioapic_reset(&s->ioapic, true);
	apic_enter_virtual_wire(&s->apic);
	return s;
}

static void stop(struct apics *s)
{
	free(s->t);
	free(s);
}

static uint32_t rd(struct apics *s, uint32_t reg) { return (uint32_t)board_read_memory(&s->t->board, BASE + reg, 4); }
static void wr(struct apics *s, uint32_t reg, uint32_t value) { board_write_memory(&s->t->board, BASE + reg, 4, value); }
static void self_ipi(struct apics *s, uint8_t vector) { wr(s, ICR, 0x44000u | vector); }

static uint32_t rd_route(struct apics *s, unsigned pin)
{
	board_write_memory(&s->t->board, IOAPIC, 4, 0x10 + 2 * pin);
	return (uint32_t)board_read_memory(&s->t->board, IOAPIC + 0x10, 4);
}

static void wr_route(struct apics *s, unsigned pin, uint32_t high, uint32_t low)
{
	board_write_memory(&s->t->board, IOAPIC, 4, 0x11 + 2 * pin);
	board_write_memory(&s->t->board, IOAPIC + 0x10, 4, high);
	board_write_memory(&s->t->board, IOAPIC, 4, 0x10 + 2 * pin);
	board_write_memory(&s->t->board, IOAPIC + 0x10, 4, low);
}

TEST(devices_apic, absent_or_disabled_it_is_a_wire)
{
	struct apics *s = start();
	apic_reset(&s->apic, 0);
	CHECK_EQ(rd(s, 0x30), 0xFFFFFFFFu);
	CHECK(apic_pic_wakes(&s->apic, APIC_OPEN_INTR));
	pic_set_line(&s->t->pic, 3, true);
	CHECK(s->t->intr);
	CHECK_EQ(apic_acknowledge(&s->apic), -1);
	CHECK_EQ(pic_acknowledge(&s->t->pic), 0x23);
	CHECK(!s->t->intr);
	stop(s);
}

TEST(devices_apic, reset_state)
{
	struct apics *s = start();
	apic_reset(&s->apic, APIC_BASE_RESET);
	CHECK_EQ(rd(s, 0x20), 0);
	CHECK_EQ(rd(s, 0x30), 0x00050014);
	CHECK_EQ(rd(s, SPURIOUS), 0xFF);
	CHECK_EQ(rd(s, DFR), 0xFFFFFFFFu);
	for (uint32_t reg = TIMER; reg <= LVT_ERROR_REG; reg += 0x10)
		CHECK_EQ(rd(s, reg), MASKED);
	wr(s, TIMER, 0x30);
	CHECK_EQ(rd(s, TIMER), MASKED | 0x30); /* stays masked while software has it off */
	wr(s, SPURIOUS, 0x1FF);
	wr(s, TIMER, 0xFFFFFFFFu);
	CHECK_EQ(rd(s, TIMER), 0x300FFu);
	wr(s, SPURIOUS, 0xFF);
	CHECK(rd(s, LINT0) & MASKED);
	stop(s);
}

TEST(devices_apic, virtual_wire_passes_the_pic_until_masked)
{
	struct apics *s = start();
	pic_set_line(&s->t->pic, 4, true);
	CHECK(s->t->intr);
	wr(s, LINT0, MASKED | 0x700);
	CHECK(!s->t->intr);
	CHECK(!apic_pic_wakes(&s->apic, APIC_OPEN_INTR | APIC_OPEN_NMI));
	wr(s, LINT0, 0x400);
	CHECK(!s->t->intr);
	CHECK(apic_pic_wakes(&s->apic, APIC_OPEN_NMI) && !apic_pic_wakes(&s->apic, APIC_OPEN_INTR));
	wr(s, LINT0, 0x45);
	CHECK(apic_pic_wakes(&s->apic, APIC_OPEN_INTR) && !apic_pic_wakes(&s->apic, APIC_OPEN_NMI));
	wr(s, LINT0, 0x700);
	CHECK(s->t->intr);
	CHECK_EQ(apic_acknowledge(&s->apic), -1);
	CHECK_EQ(pic_acknowledge(&s->t->pic), 0x24);
	/* As a fixed input, LINT0 asks for its own vector at each rise; as NMI, for that. */
	wr(s, LINT0, 0x51);
	pic_set_line(&s->t->pic, 4, false), pic_set_line(&s->t->pic, 4, true);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x51);
	pic_acknowledge(&s->t->pic);
	wr(s, LINT0, 0x400);
	pic_set_line(&s->t->pic, 5, true);
	CHECK_EQ(s->nmis, 1);
	stop(s);
}

TEST(devices_apic, priorities)
{
	struct apics *s = start();
	self_ipi(s, 0x35), self_ipi(s, 0x62), self_ipi(s, 0x61);
	CHECK_EQ(rd(s, IRR + 0x30), 6);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x62);
	CHECK_EQ(rd(s, ISR + 0x30), 4);
	CHECK_EQ(rd(s, PPR), 0x60);
	CHECK(!s->t->intr); /* 61h is of the same class */
	self_ipi(s, 0x70);
	CHECK(s->t->intr);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x70);
	wr(s, EOI, 0);
	CHECK_EQ(rd(s, PPR), 0x60);
	wr(s, EOI, 0);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x61);
	wr(s, EOI, 0);
	wr(s, TPR, 0x3F);
	CHECK(!s->t->intr); /* 35h waits */
	CHECK_EQ(apic_acknowledge(&s->apic), -1);
	CHECK_EQ(rd(s, PPR), 0x3F);
	wr(s, TPR, 0x2F);
	CHECK(s->t->intr);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x35);
	CHECK_EQ(rd(s, PPR), 0x30);
	wr(s, EOI, 0), wr(s, EOI, 0);
	CHECK_EQ(rd(s, PPR), 0x2F);
	stop(s);
}

TEST(devices_apic, destinations)
{
	static const struct {
		uint32_t high, low, ldr, dfr;
		bool arrives;
	} rows[] = {
		{ 0x00, 0x4040, 0, 0xF, true },       /* physical, itself */
		{ 0x01, 0x4040, 0, 0xF, false },
		{ 0xFF, 0x4040, 0, 0xF, true },
		{ 0x04, 0x4840, 0x06, 0xF, true },    /* logical, flat */
		{ 0x08, 0x4840, 0x06, 0xF, false },
		{ 0x22, 0x4840, 0x22, 0x0, true },    /* clusters */
		{ 0x32, 0x4840, 0x22, 0x0, false },
		{ 0xF2, 0x4840, 0x22, 0x0, true },
		{ 0x01, 0x84040, 0, 0xF, true },      /* all, self, all others */
		{ 0x01, 0x44040, 0, 0xF, true },
		{ 0x00, 0xC4040, 0, 0xF, false },
		{ 0x00, 0x4140, 0, 0xF, true },       /* lowest priority */
		{ 0x00, 0x4540, 0, 0xF, false },      /* INIT and start-up mean others */
		{ 0x00, 0x4640, 0, 0xF, false },
	};
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct apics *s = start();
		wr(s, LDR, rows[i].ldr << 24);
		wr(s, DFR, rows[i].dfr << 28);
		wr(s, ICR_HIGH, rows[i].high << 24);
		wr(s, ICR, rows[i].low);
		if ((apic_acknowledge(&s->apic) == 0x40) != rows[i].arrives)
			FAIL("row %u", i);
		CHECK_EQ(rd(s, ICR), rows[i].low); /* never busy */
		stop(s);
	}
	struct apics *s = start();
	wr(s, ICR, 0x4400);
	CHECK_EQ(s->nmis, 1);
	wr(s, SPURIOUS, 0xFF);
	self_ipi(s, 0x40);
	CHECK_EQ(apic_acknowledge(&s->apic), -1);
	wr(s, ICR, 0x4400);
	CHECK_EQ(s->nmis, 2);
	stop(s);
}

TEST(devices_apic, errors)
{
	struct apics *s = start();
	wr(s, LVT_ERROR_REG, 0xE0);
	self_ipi(s, 0x0F);
	CHECK_EQ(rd(s, ESR), 0); /* until written */
	CHECK_EQ(apic_acknowledge(&s->apic), 0xE0);
	wr(s, EOI, 0);
	wr(s, ESR, 0);
	CHECK_EQ(rd(s, ESR), 0x20);
	wr(s, ESR, 0);
	CHECK_EQ(rd(s, ESR), 0);
	rd(s, 0x40);
	wr(s, ESR, 0);
	CHECK_EQ(rd(s, ESR), 0x80);
	stop(s);
}

TEST(devices_apic, one_shot_timer)
{
	struct apics *s = start();
	wr(s, TIMER, 0x45);
	wr(s, DIVIDE, 0x3); /* 16 */
	wr(s, INITIAL, 1000);
	CHECK_EQ(rd(s, CURRENT), 1000);
	bench_advance(s->t, 4000);
	CHECK_EQ(rd(s, CURRENT), 750);
	CHECK(apic_timer_wakes(&s->apic, APIC_OPEN_INTR));
	bench_advance(s->t, 11999);
	CHECK(!s->t->intr);
	bench_advance(s->t, 1);
	CHECK(s->t->intr);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x45);
	CHECK_EQ(rd(s, CURRENT), 0);
	wr(s, EOI, 0);
	bench_advance(s->t, 1000000);
	CHECK(!s->t->intr);
	CHECK(!apic_timer_wakes(&s->apic, APIC_OPEN_INTR));
	wr(s, DIVIDE, 0xB), wr(s, INITIAL, 500000);
	wr(s, TIMER, 0x45 | MASKED);
	CHECK(!apic_timer_wakes(&s->apic, APIC_OPEN_INTR));
	bench_advance(s->t, 500000);
	CHECK(!s->t->intr);
	wr(s, INITIAL, 500000), wr(s, INITIAL, 0);
	CHECK_EQ(rd(s, CURRENT), 0);
	CHECK_EQ(s->apic.timer.deadline, TIMER_NEVER);
	stop(s);
}

TEST(devices_apic, timer_changes_on_its_way)
{
	struct apics *s = start();
	wr(s, TIMER, 0x45), wr(s, DIVIDE, 0xB);
	wr(s, INITIAL, 100000);
	bench_advance(s->t, 60000);
	wr(s, DIVIDE, 0x0); /* 2 */
	CHECK_EQ(rd(s, CURRENT), 40000);
	bench_advance(s->t, 20000);
	CHECK_EQ(rd(s, CURRENT), 30000);
	wr(s, TIMER, 0x20045);
	CHECK_EQ(rd(s, CURRENT), 30000);
	bench_advance(s->t, 59999);
	CHECK(!s->t->intr);
	bench_advance(s->t, 1);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x45);
	wr(s, EOI, 0);
	CHECK_EQ(rd(s, CURRENT), 100000);
	/* Back to one shot: this period ends, and no other begins; nor does it with a periodic mode set behind its end. */
	wr(s, TIMER, 0x45);
	s->t->now += 300000; /* nobody has looked yet */
	wr(s, TIMER, 0x20045);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x45);
	CHECK_EQ(rd(s, CURRENT), 0);
	bench_advance(s->t, 1000000);
	CHECK(!s->t->intr);
	stop(s);
}

TEST(devices_apic, periodic_timer_keeps_its_phase_and_spares_the_host)
{
	struct apics *s = start();
	wr(s, TIMER, 0x20045);
	wr(s, DIVIDE, 0xB);
	wr(s, INITIAL, 100000);
	for (unsigned i = 0; i < 10; i++) {
		bench_advance(s->t, 100000);
		CHECK_EQ(apic_acknowledge(&s->apic), 0x45);
		wr(s, EOI, 0);
		CHECK_EQ(rd(s, CURRENT), 100000);
	}
	bench_advance(s->t, 50000);
	CHECK_EQ(rd(s, CURRENT), 50000);
	CHECK(!s->t->intr);
	wr(s, INITIAL, 1);
	bench_advance(s->t, 1);
	CHECK(s->apic.timer.deadline >= s->t->now + 20000);
	stop(s);
}

TEST(devices_apic, base_register)
{
	struct apics *s = start();
	wr(s, TPR, 0x50);
	apic_set_base(&s->apic, 0xD0000000u | APIC_BASE_ENABLE | APIC_BASE_BSP);
	CHECK_EQ(rd(s, TPR), 0xFFFFFFFFu);
	CHECK_EQ(board_read_memory(&s->t->board, 0xD0000000u + TPR, 4), 0x50);
	apic_set_base(&s->apic, 0xFEE00000u | APIC_BASE_BSP);
	CHECK_EQ(rd(s, TPR), 0xFFFFFFFFu);
	apic_set_base(&s->apic, APIC_BASE_RESET);
	CHECK_EQ(rd(s, TPR), 0); /* as after power-on */
	CHECK_EQ(rd(s, LINT0), MASKED);
	CHECK_EQ(board_read_memory(&s->t->board, BASE + 0x31, 1) & 0xFF, 0x00);
	CHECK_EQ(board_read_memory(&s->t->board, BASE + 0x32, 2) & 0xFFFF, 0x0005);
	stop(s);
}

TEST(devices_ioapic, registers)
{
	struct apics *s = start();
	board_write_memory(&s->t->board, IOAPIC, 4, 1);
	CHECK_EQ((uint32_t)board_read_memory(&s->t->board, IOAPIC + 0x10, 4), 0x00170011);
	board_write_memory(&s->t->board, IOAPIC, 4, 0);
	board_write_memory(&s->t->board, IOAPIC + 0x10, 4, 0xFFFFFFFFu);
	CHECK_EQ((uint32_t)board_read_memory(&s->t->board, IOAPIC + 0x10, 4), 0x0F000000);
	CHECK_EQ(rd_route(s, 23), MASKED);
	wr_route(s, 23, 0xFFFFFFFFu, 0xFFFFFFFFu);
	CHECK_EQ(rd_route(s, 23), 0x1AFFF);
	board_write_memory(&s->t->board, IOAPIC, 4, 0x40);
	CHECK_EQ((uint32_t)board_read_memory(&s->t->board, IOAPIC + 0x10, 4), 0);
	ioapic_reset(&s->ioapic, false);
	CHECK_EQ(board_read_memory(&s->t->board, IOAPIC, 4), UINT64_MAX);
	stop(s);
}

TEST(devices_ioapic, edges)
{
	struct apics *s = start();
	wr(s, LINT0, MASKED);
	wr_route(s, 2, 0, 0x41); /* the timer */
	pic_set_line(&s->t->pic, 0, true);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x41);
	wr(s, EOI, 0);
	pic_set_line(&s->t->pic, 0, true);
	CHECK(!s->t->intr);
	pic_set_line(&s->t->pic, 0, false), pic_set_line(&s->t->pic, 0, true);
	CHECK(s->t->intr);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x41);
	wr(s, EOI, 0);
	/* An edge while masked is lost. */
	pic_set_line(&s->t->pic, 0, false);
	wr_route(s, 2, 0, 0x41 | MASKED);
	pic_set_line(&s->t->pic, 0, true);
	wr_route(s, 2, 0, 0x41);
	CHECK(!s->t->intr);
	CHECK(ioapic_wakes(&s->ioapic, 0, APIC_OPEN_INTR));
	CHECK(!ioapic_wakes(&s->ioapic, 4, APIC_OPEN_INTR));
	wr_route(s, 16, 0, 0x400);
	ioapic_set_line(&s->ioapic, 16, true);
	CHECK_EQ(s->nmis, 1);
	CHECK(ioapic_wakes(&s->ioapic, 16, APIC_OPEN_NMI));
	CHECK(!ioapic_wakes(&s->ioapic, 16, APIC_OPEN_INTR));
	wr_route(s, 17, 0x05000000, 0x42);
	CHECK(!ioapic_wakes(&s->ioapic, 17, APIC_OPEN_INTR));
	ioapic_set_line(&s->ioapic, 17, true);
	CHECK(!s->t->intr); /* for another processor */
	stop(s);
}

TEST(devices_ioapic, levels)
{
	struct apics *s = start();
	wr(s, LINT0, MASKED);
	wr_route(s, 9, 0, 0x8051);
	pic_set_line(&s->t->pic, 9, true);
	CHECK_EQ(rd_route(s, 9), 0xC051); /* remote IRR */
	CHECK_EQ(rd(s, TMR + 0x20), 1u << 17);
	CHECK_EQ(apic_acknowledge(&s->apic), 0x51);
	CHECK(!s->t->intr);
	wr(s, EOI, 0);
	CHECK(s->t->intr); /* it still stands */
	CHECK_EQ(apic_acknowledge(&s->apic), 0x51);
	pic_set_line(&s->t->pic, 9, false);
	wr(s, EOI, 0);
	CHECK(!s->t->intr);
	CHECK_EQ(rd_route(s, 9), 0x8051);
	wr_route(s, 9, 0, 0x8051 | MASKED);
	pic_set_line(&s->t->pic, 9, true);
	CHECK(!s->t->intr);
	wr_route(s, 9, 0, 0x8051);
	CHECK(s->t->intr);
	stop(s);
}
