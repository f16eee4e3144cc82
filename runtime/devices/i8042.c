/* The 8042 keyboard controller of an AT, with nothing plugged in (IBM PC AT technical reference; the PS/2 commands as in later chip sets).
 *
 * Built: self test, interface tests, command byte and controller RAM, input and output ports with A20 and the reset line, pulses (FEh
 * resets), port enable and disable, loops. A byte for the keyboard times out and gives FEh with the time-out status, as the controller reports a
 * missing keyboard; the auxiliary port is absent, so its test and loop say so at once. Not built: keyboard, mouse, translation. */
#include "runtime/devices/devices.h"

#include "runtime/devices/pic.h"

#define STATUS_OUTPUT_FULL 0x01u
#define STATUS_SYSTEM 0x04u
#define STATUS_COMMAND 0x08u
#define STATUS_UNLOCKED 0x10u
#define STATUS_AUX 0x20u
#define STATUS_TIMEOUT 0x40u

#define COMMAND_KEYBOARD_IRQ 0x01u
#define COMMAND_SYSTEM 0x04u
#define COMMAND_KEYBOARD_OFF 0x10u
#define COMMAND_AUX_OFF 0x20u

#define OUTPUT_NO_RESET 0x01u
#define OUTPUT_A20 0x02u
#define INPUT_PORT 0xB0u /* keyboard not inhibited, colour display, no manufacturing jumper */
#define RESEND 0xFEu
#define LINE_STUCK 0x01u /* interface test: the clock line never rises */

static void update(struct i8042 *k)
{
	bool full = k->status & STATUS_OUTPUT_FULL, aux = k->status & STATUS_AUX;
	pic_set_line(k->board->pic, 1, full && !aux && (k->command_byte & COMMAND_KEYBOARD_IRQ));
}

static void answer(struct i8042 *k, uint8_t data, uint8_t status)
{
	k->data = data;
	k->status = (k->status & (uint8_t)~(STATUS_AUX | STATUS_TIMEOUT)) | STATUS_OUTPUT_FULL | status;
	update(k);
}

static void write_output_port(struct i8042 *k, uint8_t value)
{
	k->output_port = value;
	k->board->a20 = value & OUTPUT_A20;
	if (!(value & OUTPUT_NO_RESET))
		k->board->end(k->board->ctx, MACHINE_RESET, 0);
}

static void write_command_byte(struct i8042 *k, uint8_t value)
{
	k->command_byte = value;
	k->status = (k->status & (uint8_t)~STATUS_SYSTEM) | (value & COMMAND_SYSTEM ? STATUS_SYSTEM : 0);
	update(k);
}

static uint8_t read_output_port(const struct i8042 *k)
{
	return (uint8_t)((k->output_port & ~OUTPUT_A20) | (k->board->a20 ? OUTPUT_A20 : 0) | (k->status & STATUS_OUTPUT_FULL ? 0x10 : 0));
}

static void command(struct i8042 *k, uint8_t value)
{
	k->status |= STATUS_COMMAND;
	k->pending = 0;
	switch (value) {
	case 0x20: answer(k, k->command_byte, 0); return;
	case 0xA7: k->command_byte |= COMMAND_AUX_OFF; return;
	case 0xA8: k->command_byte &= (uint8_t)~COMMAND_AUX_OFF; return;
	case 0xA9: answer(k, LINE_STUCK, 0); return;
	case 0xAA:
		k->command_byte |= COMMAND_KEYBOARD_OFF | COMMAND_SYSTEM;
		k->status |= STATUS_SYSTEM;
		answer(k, 0x55, 0);
		return;
	case 0xAB: answer(k, 0, 0); return;
	case 0xAD: k->command_byte |= COMMAND_KEYBOARD_OFF; return;
	case 0xAE: k->command_byte &= (uint8_t)~COMMAND_KEYBOARD_OFF; return;
	case 0xC0: answer(k, INPUT_PORT, 0); return;
	case 0xD0: answer(k, read_output_port(k), 0); return;
	case 0xDD: k->board->a20 = false; return;
	case 0xDF: k->board->a20 = true; return;
	case 0x60: case 0xD1: case 0xD2: case 0xD3: case 0xD4: k->pending = value; return;
	default: break;
	}
	if (value > 0x20 && value < 0x40)
		answer(k, k->ram[value & 31], 0);
	else if (value > 0x60 && value < 0x80)
		k->pending = value;
	else if (value >= 0xF0 && !(value & OUTPUT_NO_RESET)) /* pulse the output lines whose bits are clear */
		k->board->end(k->board->ctx, MACHINE_RESET, 0);
}

static void data(struct i8042 *k, uint8_t value)
{
	uint8_t pending = k->pending;
	k->status &= (uint8_t)~STATUS_COMMAND;
	k->pending = 0;
	if (pending == 0x60)
		write_command_byte(k, value);
	else if (pending > 0x60 && pending < 0x80)
		k->ram[pending & 31] = value;
	else if (pending == 0xD1)
		write_output_port(k, value);
	else if (pending == 0xD2)
		answer(k, value, 0);
	else if (pending == 0xD3 || pending == 0xD4) /* no auxiliary port: the answer is not marked as coming from one */
		answer(k, RESEND, STATUS_TIMEOUT);
	else {
		k->command_byte &= (uint8_t)~COMMAND_KEYBOARD_OFF; /* sending enables the interface */
		answer(k, RESEND, STATUS_TIMEOUT);
	}
}

static uint32_t read_i8042(void *ctx, uint16_t port, unsigned size)
{
	struct i8042 *k = ctx;
	(void)size;
	if (port == 0x64)
		return k->status;
	k->status &= (uint8_t)~(STATUS_OUTPUT_FULL | STATUS_AUX | STATUS_TIMEOUT);
	update(k);
	return k->data;
}

static void write_i8042(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	(void)size;
	if (port == 0x64)
		command(ctx, (uint8_t)value);
	else
		data(ctx, (uint8_t)value);
}

void i8042_reset(struct i8042 *k)
{
	/* As firmware leaves it: self test passed, interfaces off, A20 open. */
	k->command_byte = COMMAND_SYSTEM | COMMAND_KEYBOARD_OFF | COMMAND_AUX_OFF;
	k->output_port = 0xCD | OUTPUT_NO_RESET | OUTPUT_A20;
	k->status = STATUS_SYSTEM | STATUS_UNLOCKED;
	k->pending = k->data = 0;
	k->board->a20 = true;
	update(k);
}

void i8042_init(struct i8042 *k, struct board *b)
{
	const struct board_ports ports = { read_i8042, write_i8042, k };
	*k = (struct i8042) { .board = b };
	board_claim(b, 0x60, 1, 1, &ports);
	board_claim(b, 0x64, 1, 1, &ports);
	i8042_reset(k);
}
