/* Two 8259A, as a PC wires them (Intel 8259A data sheet, order number 231468; ELCR as in the 82371 PIIX).
 *
 * Built: ICW1-4, all OCW2 commands, masks, special mask mode, special fully nested mode, automatic EOI with and without rotation, poll,
 * IRR and ISR reads, edge and level triggering per input through ELCR, and default vectors (IRQ 7, 15) for a request that went
 * away. Not built: MCS-80/85 mode and buffered mode, which no PC can use; ICW1's LTIM, which PC chip sets replace by ELCR. */
#include "runtime/devices/pic.h"

#define CASCADE 2u

#define ICW1_IC4 0x01u
#define ICW1_SINGLE 0x02u
#define ICW1_MARK 0x10u
#define ICW4_AUTO_EOI 0x02u
#define ICW4_SPECIAL_NESTED 0x10u
#define OCW3_MARK 0x08u

static const uint8_t elcr_writable[2] = { 0xF8, 0xDE }; /* timer, keyboard, cascade, clock and FPU inputs are always edges */

/* The input of highest priority among `bits`, as a distance from the highest priority (0-7); 8 if there is none. */
static unsigned rank(const struct pic_chip *c, uint8_t bits)
{
	unsigned i = 0;
	while (i < 8 && !(bits & 1u << ((c->lowest + 1 + i) & 7)))
		i++;
	return i;
}

/* Which request would be served if these stood? Input number, or -1. */
static int served(const struct pic_chip *c, uint8_t irr)
{
	if (!c->ready)
		return -1;
	uint8_t in_service = c->isr;
	if (c->special_mask)
		in_service &= (uint8_t)~c->imr;
	unsigned request = rank(c, irr & (uint8_t)~c->imr), service = rank(c, in_service);
	/* Special fully nested: the slave may interrupt its own service with something more urgent. */
	bool nests = c->special_nested && !c->slave && request == service && ((c->lowest + 1 + request) & 7) == CASCADE;
	if (request == 8 || request > service || (request == service && !nests))
		return -1;
	return (int)((c->lowest + 1 + request) & 7);
}

static void set_input(struct pic_chip *c, unsigned input, bool level)
{
	uint8_t bit = (uint8_t)(1u << input);
	bool rises = level && !(c->lines & bit);
	c->lines = level ? c->lines | bit : c->lines & (uint8_t)~bit;
	if (!level)
		c->irr &= (uint8_t)~bit; /* an edge, too, must stand until it is acknowledged */
	else if (rises || (c->elcr & bit))
		c->irr |= bit;
}

static void update(struct pic *p)
{
	set_input(&p->chip[0], CASCADE, served(&p->chip[1], p->chip[1].irr) >= 0);
	bool intr = served(&p->chip[0], p->chip[0].irr) >= 0;
	if (intr == p->intr)
		return;
	p->intr = intr;
	if (p->set_intr)
		p->set_intr(p->ctx, intr);
}

void pic_set_line(struct pic *p, unsigned irq, bool level)
{
	if (!level && !(p->chip[irq >> 3].lines & 1u << (irq & 7)))
		return; /* it stays low: what devices say most */
	set_input(&p->chip[irq >> 3], irq & 7, level);
	update(p);
	if (p->line_changed)
		p->line_changed(p->ctx, irq, level);
}

bool pic_accepts(const struct pic *p, unsigned irq)
{
	const struct pic_chip *master = &p->chip[0], *slave = &p->chip[1];
	uint8_t bit = (uint8_t)(1u << (irq & 7));
	if (irq < 8)
		return served(master, bit) >= 0;
	return served(slave, bit) >= 0 && served(master, 1u << CASCADE) >= 0;
}

static void take(struct pic_chip *c, unsigned input)
{
	uint8_t bit = (uint8_t)(1u << input);
	if (!(c->elcr & bit))
		c->irr &= (uint8_t)~bit;
	if (!c->auto_eoi)
		c->isr |= bit;
	else if (c->rotate_auto_eoi)
		c->lowest = (uint8_t)input;
}

uint8_t pic_acknowledge(struct pic *p)
{
	struct pic_chip *master = &p->chip[0], *slave = &p->chip[1];
	int input = served(master, master->irr);
	if (input < 0)
		return master->base + 7;
	take(master, (unsigned)input);
	uint8_t vector = (uint8_t)(master->base + input);
	if (input == CASCADE) {
		int second = served(slave, slave->irr);
		if (second >= 0)
			take(slave, (unsigned)second);
		vector = (uint8_t)(slave->base + (second >= 0 ? second : 7));
		/* Between the slave's output and the next request it drops, so that the master sees an edge. */
		set_input(master, CASCADE, false);
	}
	update(p);
	return vector;
}

static void write_icw1(struct pic_chip *c, uint8_t value)
{
	*c = (struct pic_chip) {
		.icw1 = value, .expects = 2, .lowest = 7, .lines = c->lines, .elcr = c->elcr, .slave = c->slave,
		.irr = c->lines & c->elcr, /* an edge-triggered input has to rise anew */
	};
}

static void write_icw(struct pic_chip *c, uint8_t value)
{
	bool icw4 = c->icw1 & ICW1_IC4;
	switch (c->expects) {
	case 2:
		c->base = value & 0xF8;
		c->expects = !(c->icw1 & ICW1_SINGLE) ? 3 : icw4 ? 4 : 0;
		break;
	case 3: /* the cascade's wiring, which is fixed */
		c->expects = icw4 ? 4 : 0;
		break;
	default:
		c->auto_eoi = value & ICW4_AUTO_EOI;
		c->special_nested = value & ICW4_SPECIAL_NESTED;
		c->expects = 0;
	}
	c->ready = c->expects == 0;
}

/* A non-specific EOI ends the most urgent service, passing over those that special mask mode hides. Returns its input, or -1. */
static int end_most_urgent(struct pic_chip *c)
{
	uint8_t candidates = c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr;
	unsigned r = rank(c, candidates);
	if (r == 8)
		return -1;
	int input = (int)((c->lowest + 1 + r) & 7);
	c->isr &= (uint8_t)~(1u << input);
	return input;
}

static void write_ocw2(struct pic_chip *c, uint8_t value)
{
	uint8_t level = value & 7;
	int ended;
	switch (value >> 5) {
	case 0: c->rotate_auto_eoi = false; break;
	case 1: end_most_urgent(c); break;
	case 3: c->isr &= (uint8_t)~(1u << level); break;
	case 4: c->rotate_auto_eoi = true; break;
	case 5:
		ended = end_most_urgent(c);
		if (ended >= 0)
			c->lowest = (uint8_t)ended;
		break;
	case 6: c->lowest = level; break;
	case 7:
		c->isr &= (uint8_t)~(1u << level);
		c->lowest = level;
		break;
	default: break;
	}
}

static void write_ocw3(struct pic_chip *c, uint8_t value)
{
	if (value & 0x02)
		c->read_isr = value & 0x01;
	if (value & 0x40)
		c->special_mask = value & 0x20;
	c->poll = value & 0x04;
}

/* The poll command makes the next read an acknowledge. */
static uint8_t read_poll(struct pic_chip *c)
{
	c->poll = false;
	int input = served(c, c->irr);
	if (input < 0)
		return 0;
	take(c, (unsigned)input);
	return (uint8_t)(0x80 | input);
}

static uint32_t read_chip(void *ctx, uint16_t port, unsigned size)
{
	struct pic *p = ctx;
	struct pic_chip *c = &p->chip[port >> 7 & 1];
	(void)size;
	if (c->poll) {
		uint8_t value = read_poll(c);
		update(p);
		return value;
	}
	if (port & 1)
		return c->imr;
	return c->read_isr ? c->isr : c->irr;
}

static void write_chip(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct pic *p = ctx;
	struct pic_chip *c = &p->chip[port >> 7 & 1];
	(void)size;
	if (port & 1) {
		if (c->expects)
			write_icw(c, (uint8_t)value);
		else
			c->imr = (uint8_t)value;
	} else if (value & ICW1_MARK) {
		write_icw1(c, (uint8_t)value);
	} else if (value & OCW3_MARK) {
		write_ocw3(c, (uint8_t)value);
	} else {
		write_ocw2(c, (uint8_t)value);
	}
	update(p);
}

static uint32_t read_elcr(void *ctx, uint16_t port, unsigned size)
{
	struct pic *p = ctx;
	(void)size;
	return p->chip[port & 1].elcr;
}

static void write_elcr(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct pic *p = ctx;
	struct pic_chip *c = &p->chip[port & 1];
	(void)size;
	c->elcr = (uint8_t)value & elcr_writable[port & 1];
	c->irr |= c->lines & c->elcr;
	update(p);
}

void pic_reset(struct pic *p)
{
	for (unsigned i = 0; i < 2; i++)
		p->chip[i] = (struct pic_chip) { .imr = 0xFF, .lowest = 7, .slave = i == 1 };
	p->chip[1].elcr = 1u << (9 - 8); /* as firmware leaves it: the ACPI interrupt is a level */
	update(p);
}

void pic_init(struct pic *p, struct board *b)
{
	const struct board_ports chip = { read_chip, write_chip, p }, elcr = { read_elcr, write_elcr, p };
	b->pic = p;
	board_claim(b, 0x20, 2, 1, &chip);
	board_claim(b, 0xA0, 2, 1, &chip);
	board_claim(b, 0x4D0, 2, 1, &elcr);
	pic_reset(p);
}
