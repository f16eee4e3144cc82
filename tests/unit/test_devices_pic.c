/* 8259A pair: against the data sheet's words on priorities, modes and commands. */
#include "tests/unit/test_devices_board.h"

static struct bench *start(void)
{
	struct bench *t = bench_create();
	bench_program_pic(t, 0x01);
	return t;
}

static void raise_irq(struct bench *t, unsigned irq) { pic_set_line(&t->pic, irq, true); }
static void lower_irq(struct bench *t, unsigned irq) { pic_set_line(&t->pic, irq, false); }

static void pulse(struct bench *t, unsigned irq)
{
	lower_irq(t, irq);
	raise_irq(t, irq);
}

static uint8_t in_service(struct bench *t, uint16_t port)
{
	out8(t, port, 0x0B);
	uint8_t isr = in8(t, port);
	out8(t, port, 0x0A);
	return isr;
}

TEST(devices_pic, silent_until_initialised)
{
	struct bench *t = bench_create();
	raise_irq(t, 0);
	CHECK(!t->intr);
	out8(t, 0x21, 0);
	CHECK(!t->intr);
	bench_program_pic(t, 0x01);
	CHECK(!t->intr); /* initialisation wants a new edge */
	pulse(t, 0);
	CHECK(t->intr);
	free(t);
}

TEST(devices_pic, delivers_and_waits_for_eoi)
{
	struct bench *t = start();
	raise_irq(t, 4);
	CHECK(t->intr);
	CHECK_EQ(in8(t, 0x20), 0x10); /* IRR by default */
	CHECK_EQ(pic_acknowledge(&t->pic), 0x24);
	CHECK(!t->intr);
	CHECK_EQ(in8(t, 0x20), 0);
	CHECK_EQ(in_service(t, 0x20), 0x10);
	pulse(t, 4);
	CHECK(!t->intr); /* still in service */
	out8(t, 0x20, 0x20);
	CHECK(t->intr);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x24);
	free(t);
}

TEST(devices_pic, edge_input_held_high_interrupts_once)
{
	struct bench *t = start();
	raise_irq(t, 3);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x23);
	out8(t, 0x20, 0x20);
	CHECK(!t->intr);
	raise_irq(t, 3);
	CHECK(!t->intr);
	free(t);
}

TEST(devices_pic, higher_priority_nests_lower_waits)
{
	struct bench *t = start();
	raise_irq(t, 4);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x24);
	raise_irq(t, 5);
	CHECK(!t->intr);
	raise_irq(t, 1);
	CHECK(t->intr);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x21);
	CHECK_EQ(in_service(t, 0x20), 0x12);
	out8(t, 0x20, 0x20); /* ends the most urgent, 1 */
	CHECK_EQ(in_service(t, 0x20), 0x10);
	CHECK(!t->intr);
	out8(t, 0x20, 0x64); /* specific, 4 */
	CHECK(t->intr);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x25);
	free(t);
}

TEST(devices_pic, slave_through_cascade)
{
	struct bench *t = start();
	raise_irq(t, 8);
	raise_irq(t, 3);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x28); /* the cascade is input 2 */
	CHECK_EQ(in_service(t, 0x20), 0x04);
	CHECK_EQ(in_service(t, 0xA0), 0x01);
	CHECK(!t->intr);
	raise_irq(t, 10);
	out8(t, 0xA0, 0x20);
	CHECK(!t->intr); /* the master still serves its input 2 */
	out8(t, 0x20, 0x20);
	CHECK(t->intr);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x2A);
	out8(t, 0xA0, 0x20), out8(t, 0x20, 0x20);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x23);
	free(t);
}

TEST(devices_pic, masks)
{
	struct bench *t = start();
	out8(t, 0x21, 0x10);
	CHECK_EQ(in8(t, 0x21), 0x10);
	raise_irq(t, 4);
	CHECK(!t->intr);
	CHECK(!pic_accepts(&t->pic, 4));
	CHECK(pic_accepts(&t->pic, 0));
	CHECK_EQ(in8(t, 0x20), 0x10);
	out8(t, 0x21, 0x00);
	CHECK(t->intr);
	out8(t, 0x21, 0x04); /* the cascade masks all of the slave */
	CHECK(!pic_accepts(&t->pic, 9));
	free(t);
}

TEST(devices_pic, request_withdrawn_is_spurious_7)
{
	struct bench *t = start();
	raise_irq(t, 4);
	lower_irq(t, 4);
	CHECK(!t->intr);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x27);
	CHECK_EQ(in_service(t, 0x20), 0); /* no in-service bit: that is how handlers tell */
	free(t);
}

TEST(devices_pic, slave_request_masked_late_is_spurious_15)
{
	struct bench *t = start();
	/* Input 2 of the master raised by itself, with nothing behind it. */
	t->pic.chip[0].irr |= 4;
	CHECK_EQ(pic_acknowledge(&t->pic), 0x2F);
	CHECK_EQ(in_service(t, 0xA0), 0);
	CHECK_EQ(in_service(t, 0x20), 0x04);
	free(t);
}

TEST(devices_pic, level_inputs_follow_elcr)
{
	struct bench *t = start();
	out8(t, 0x4D0, 0xFF), out8(t, 0x4D1, 0xFF);
	CHECK_EQ(in8(t, 0x4D0), 0xF8);
	CHECK_EQ(in8(t, 0x4D1), 0xDE);
	raise_irq(t, 11);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x2B);
	out8(t, 0xA0, 0x20), out8(t, 0x20, 0x20);
	CHECK(t->intr); /* the line is still there */
	CHECK_EQ(pic_acknowledge(&t->pic), 0x2B);
	lower_irq(t, 11);
	out8(t, 0xA0, 0x20), out8(t, 0x20, 0x20);
	CHECK(!t->intr);
	free(t);
}

TEST(devices_pic, automatic_eoi)
{
	struct bench *t = bench_create();
	bench_program_pic(t, 0x03);
	raise_irq(t, 4);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x24);
	CHECK_EQ(in_service(t, 0x20), 0);
	pulse(t, 4);
	CHECK(t->intr);
	free(t);
}

TEST(devices_pic, automatic_rotation)
{
	struct bench *t = bench_create();
	bench_program_pic(t, 0x03);
	out8(t, 0x20, 0x80); /* rotate in automatic EOI mode */
	raise_irq(t, 4);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x24);
	pulse(t, 4), pulse(t, 5);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x25); /* 4 has become the lowest */
	CHECK_EQ(pic_acknowledge(&t->pic), 0x24);
	out8(t, 0x20, 0x00);
	pulse(t, 1);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x21);
	pulse(t, 1), pulse(t, 5);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x25); /* 4 is still lowest, so 5 highest */
	free(t);
}

TEST(devices_pic, rotation_commands)
{
	struct bench *t = start();
	out8(t, 0x20, 0xC3); /* set priority: 3 lowest, 4 highest */
	raise_irq(t, 0), raise_irq(t, 4), raise_irq(t, 3);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x24);
	out8(t, 0x20, 0xA0); /* rotate on non-specific EOI: 4 lowest */
	CHECK_EQ(pic_acknowledge(&t->pic), 0x20);
	out8(t, 0x20, 0xE0); /* rotate on specific EOI of 0: 0 lowest */
	pulse(t, 0);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x23);
	free(t);
}

TEST(devices_pic, special_mask_mode)
{
	struct bench *t = start();
	raise_irq(t, 3);
	pic_acknowledge(&t->pic);
	raise_irq(t, 6);
	CHECK(!t->intr);
	out8(t, 0x20, 0x68); /* special mask mode */
	out8(t, 0x21, 0x08); /* 3 masked: lower ones pass */
	CHECK(t->intr);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x26);
	out8(t, 0x20, 0x20); /* does not see 3 */
	CHECK_EQ(in_service(t, 0x20), 0x08);
	out8(t, 0x20, 0x63);
	out8(t, 0x20, 0x48);
	CHECK_EQ(in_service(t, 0x20), 0);
	free(t);
}

TEST(devices_pic, special_fully_nested)
{
	struct bench *t = bench_create();
	bench_program_pic(t, 0x11);
	raise_irq(t, 12);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x2C);
	raise_irq(t, 3);
	CHECK(!t->intr); /* lower than the cascade */
	raise_irq(t, 9);
	CHECK(t->intr);  /* the slave interrupts its own service */
	CHECK_EQ(pic_acknowledge(&t->pic), 0x29);
	free(t);
}

TEST(devices_pic, poll_command)
{
	struct bench *t = start();
	out8(t, 0x20, 0x0C);
	CHECK_EQ(in8(t, 0x20), 0);
	raise_irq(t, 6);
	out8(t, 0x20, 0x0C);
	CHECK_EQ(in8(t, 0x20), 0x86);
	CHECK(!t->intr);
	CHECK_EQ(in_service(t, 0x20), 0x40);
	CHECK_EQ(in8(t, 0x20), 0); /* one read only: IRR again */
	free(t);
}

TEST(devices_pic, initialisation_clears)
{
	struct bench *t = start();
	raise_irq(t, 4);
	pic_acknowledge(&t->pic);
	out8(t, 0x21, 0xFF);
	out8(t, 0x20, 0x11);
	CHECK_EQ(in8(t, 0x21), 0);
	out8(t, 0x21, 0x40), out8(t, 0x21, 0x04), out8(t, 0x21, 0x01);
	CHECK_EQ(in_service(t, 0x20), 0);
	pulse(t, 4);
	CHECK_EQ(pic_acknowledge(&t->pic), 0x44);
	free(t);
}

TEST(devices_pic, wide_access_is_split)
{
	struct bench *t = start();
	board_write(&t->board, 0x20, 2, 0x5A0B); /* OCW3 to 20h, mask to 21h */
	CHECK_EQ(board_read(&t->board, 0x20, 2), 0x5A00);
	CHECK_EQ(board_read(&t->board, 0x22, 4), 0xFFFFFFFF);
	free(t);
}
