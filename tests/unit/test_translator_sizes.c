/* What side-table rows say about an access, against the processor: an instruction touches no byte more than its row says, and writes only
 * if the row says so. Soft accesses and completions rest on it, since they prepare just that. Every opcode that runs as itself, with the
 * prefixes that make others of it and with VEX, in 32- and in 16-bit code, is run on memory that ends where its operand ends, and on memory that
 * may not be written. */
#include <stdio.h>

#include <Zydis/Zydis.h>

#include "host_step.h"
#include "tests/shim/test.h"
#include "translator/emit.h"
#include "translator_fixture.h"

#define RAM_END (STEP_RAM_AT + STEP_RAM_SIZE)

/* Mandatory or not, and which of two counts. */
static const struct { uint8_t length, bytes[2]; } prefixes[] = {
	{0, {0}}, {1, {0x66}}, {1, {0xF2}}, {1, {0xF3}}, {2, {0x66, 0xF2}}, {2, {0xF2, 0x66}}, {2, {0x66, 0xF3}}, {2, {0xF3, 0x66}}, {2, {0xF2, 0xF3}},
	{2, {0xF3, 0xF2}}, {2, {0x66, 0x66}}, {1, {0xF0}}, {2, {0x66, 0xF0}},
};
/* 16-bit code reaches the operand by an address-size prefix. */
static const uint32_t modes[] = {MODE_FLAT, MODE_FLAT & ~MODE_CS32};
static unsigned forms, stores;
static uint16_t control_word = 0x37F;

struct form {
	uint8_t bytes[16];
	unsigned size;
	bool reads, writes;
};

/* Is the first host instruction the access, and nothing but an instruction of the guest's with its operand at EAX? */
static bool is_plain_access(void)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction d;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, step_machine.code, fixture_out.code_length, &d, op)))
		return false;
	for (unsigned i = 0; i < d.operand_count; i++)
		if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && op[i].mem.base == ZYDIS_REGISTER_R15 && op[i].mem.index == ZYDIS_REGISTER_RAX)
			return true;
	return false;
}

/* Translate it; false if it is not an access and nothing else. */
static bool make_form(struct form *f, uint32_t mode)
{
	struct translator_input in = fixture_input(f->bytes, sizeof(f->bytes), mode);

	in.stubs = step_stubs();
	in.code = step_machine.code;
	in.code_pc = (host_pc_t)step_machine.code;
	if (translator_translate(&in, &fixture_out) || fixture_out.end != END_LIMIT)
		return false;
	const struct side_row *row = &fixture_out.rows[0];
	f->size = row_sizes[row->access >> ROW_SIZE_SHIFT];
	f->reads = row->access & ROW_READ;
	f->writes = row->access & ROW_WRITE;
	return f->size != 0 && is_plain_access();
}

static unsigned put_address_size(struct form *f, uint32_t mode)
{
	memset(f, 0, sizeof(*f));
	f->bytes[0] = 0x67;
	return mode & MODE_CS32 ? 0 : 1;
}

/* op [eax] */
static bool make_legacy(struct form *f, uint32_t mode, unsigned map, unsigned prefix, unsigned opcode, unsigned reg)
{
	unsigned at = put_address_size(f, mode);

	memcpy(f->bytes + at, prefixes[prefix].bytes, 2);
	at += prefixes[prefix].length;
	if (map)
		f->bytes[at++] = 0x0F;
	if (map > 1)
		f->bytes[at++] = map == 2 ? 0x38 : 0x3A;
	f->bytes[at++] = (uint8_t)opcode;
	f->bytes[at] = (uint8_t)(reg << 3);
	return make_form(f, mode);
}

/* Whatever W, vvvv, L and pp say; where they say that there is no such instruction, there is none. */
static bool make_vex(struct form *f, uint32_t mode, unsigned map, unsigned fields, unsigned opcode, unsigned reg)
{
	unsigned at = put_address_size(f, mode);
	const uint8_t bytes[] = {0xC4, (uint8_t)(0xE0 | map), (uint8_t)fields, (uint8_t)opcode, (uint8_t)(reg << 3)};

	memcpy(f->bytes + at, bytes, sizeof(bytes));
	return make_form(f, mode);
}

/* `other`: what the operand holds, as a difference to the usual. */
static void run_form(const struct form *f, uint32_t address, uint8_t other)
{
	static struct step_state s;
	static const uint32_t mxcsr = 0x1F80;

	memset(&s, 0, sizeof(s));
	for (unsigned i = 0; i < 16; i++)
		s.regs.r[i] = STEP_RAM_AT + PAGE_SIZE;
	s.regs.r[RAX] = address;
	s.regs.r[RSP] = (uint64_t)step_machine.stack + PAGE_SIZE / 2;
	s.regs.rip = (uint64_t)step_machine.code;
	/* As a control word or MXCSR: every exception masked. */
	for (unsigned i = 0; i < STEP_RAM_SIZE; i++)
		s.ram[i] = i % 2 ? 0x1F : 0xBF;
	memset(s.ram + (address - STEP_RAM_AT) + 2, 0, f->size > 2 ? f->size - 2 : 0);
	for (unsigned i = 0; i < f->size; i++)
		s.ram[address - STEP_RAM_AT + i] ^= other;
	__asm__ volatile("fldcw %0" : : "m"(control_word));
	step_run(&s);
	__asm__ volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
}

static void describe(const struct form *f, const char *what)
{
	FAIL("%02x %02x %02x %02x %02x %02x: %s (the row says %u bytes, %s)", f->bytes[0], f->bytes[1], f->bytes[2], f->bytes[3], f->bytes[4],
	     f->bytes[5], what, f->size, f->writes ? "written" : "read");
}

static bool faulted_at(uint64_t from)
{
	return step_machine.end == STEP_FAULT && step_machine.signal == SIGSEGV && step_machine.fault_offset >= from &&
	       step_machine.fault_offset < RAM_END + PAGE_SIZE;
}

static void check_size(const struct form *f)
{
	run_form(f, RAM_END - f->size, 0);
	if (faulted_at(RAM_END))
		describe(f, "touches more");
	/* One byte further it must not fit, or the row says too much. Strict alignment comes first. */
	run_form(f, RAM_END - f->size + 1, 0);
	if (step_machine.end == STEP_STUB && f->size < 16)
		describe(f, "touches less");
}

static void check_direction(const struct form *f)
{
	run_form(f, RAM_END - PAGE_SIZE, 0);
	if (faulted_at(RAM_END - PAGE_SIZE) != f->writes && step_machine.signal != SIGFPE)
		describe(f, f->writes ? "does not write" : "writes");
}

/* A store that the row does not call a read as well leaves the same behind, whatever it finds. */
static void check_plain_store(const struct form *f)
{
	uint8_t first[64];
	struct step_state end;

	if (!f->writes || f->reads)
		return;
	stores++;
	run_form(f, STEP_RAM_AT, 0);
	memcpy(first, step_machine.ram, sizeof(first));
	end = step_machine.states[step_machine.count - 1];
	run_form(f, STEP_RAM_AT, 0xA5);
	bool same = !memcmp(first, step_machine.ram, f->size) && !memcmp(&end.regs, &step_machine.states[step_machine.count - 1].regs, sizeof(end.regs));
	if (!same && step_machine.end == STEP_STUB)
		describe(f, "needs what was there");
}

static void each_legacy(void (*check)(const struct form *f), uint32_t mode)
{
	struct form f;

	for (unsigned map = 0; map < 4; map++)
		for (unsigned prefix = 0; prefix < ARRAY_LEN(prefixes); prefix++)
			for (unsigned opcode = 0; opcode < 256; opcode++)
				for (unsigned reg = 0; reg < 8; reg++)
					if (make_legacy(&f, mode, map, prefix, opcode, reg)) {
						forms++;
						check(&f);
					}
}

/* VEX.vvvv all ones, as it is where there is no third register, and with an upper bit that 32-bit mode does not look at. */
static void each_vex(void (*check)(const struct form *f), uint32_t mode)
{
	static const uint8_t registers[] = {0x78, 0x58, 0x18};
	struct form f;

	for (unsigned map = 1; map < 4; map++)
		for (unsigned i = 0; i < 16 * ARRAY_LEN(registers); i++)
			for (unsigned opcode = 0; opcode < 256; opcode++)
				for (unsigned reg = 0; reg < 8; reg++)
					if (make_vex(&f, mode, map, registers[i / 16] | (i & 8) << 4 | (i & 7), opcode, reg)) {
						forms++;
						check(&f);
					}
}

static void each_form(void (*check)(const struct form *f))
{
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		forms = 0;
		each_legacy(check, modes[i]);
		CHECK(forms > 3000);
		forms = 0;
		each_vex(check, modes[i]);
		CHECK(forms > 100);
	}
}

TEST(translator_sizes, no_byte_beyond_what_the_row_says)
{
	step_setup();
	each_form(check_size);
}

TEST(translator_sizes, no_write_that_the_row_calls_a_read)
{
	step_setup();
	/* step_run fills RAM through its other mapping. */
	mprotect(step_machine.window + STEP_RAM_AT, STEP_RAM_SIZE, PROT_READ);
	each_form(check_direction);
	mprotect(step_machine.window + STEP_RAM_AT, STEP_RAM_SIZE, PROT_READ | PROT_WRITE);
}

TEST(translator_sizes, plain_stores_need_nothing_of_what_was_there)
{
	step_setup();
	control_word = 0x340; /* what raises an exception stores nothing */
	each_form(check_plain_store);
	control_word = 0x37F;
	CHECK(stores > 100);
}
