/* The host encoder against a decoder: every register, address and form comes back as it was meant. */
#include <string.h>

#include <Zydis/Zydis.h>

#include "tests/shim/test.h"
#include "translator/emit.h"

static uint8_t buffer[64];
static struct emitter e;
static ZydisDecodedInstruction d;
static ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

static void begin(void)
{
	e = (struct emitter){.start = buffer, .at = buffer, .end = buffer + sizeof(buffer), .pc = 0x400000};
}

/* One instruction, and nothing behind it. */
static bool decode(void)
{
	ZydisDecoder decoder;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	return CHECK(ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, buffer, emit_offset(&e), &d, op))) && CHECK_EQ(d.length, emit_offset(&e));
}

static ZydisRegister wide(uint8_t r) { return r == NO_REG ? ZYDIS_REGISTER_NONE : (ZydisRegister)(ZYDIS_REGISTER_RAX + r); }
static ZydisRegister narrow(uint8_t r) { return r == NO_REG ? ZYDIS_REGISTER_NONE : (ZydisRegister)(ZYDIS_REGISTER_EAX + r); }

static bool address_is(const ZydisDecodedOperand *o, const struct host_mem *m)
{
	ZydisRegister base = m->narrow ? narrow(m->base) : wide(m->base), index = m->narrow ? narrow(m->index) : wide(m->index);

	return CHECK_EQ(o->mem.base, base) && CHECK_EQ(o->mem.index, index) && (m->index == NO_REG || CHECK_EQ(o->mem.scale, m->scale)) &&
	       CHECK_EQ((int32_t)o->mem.disp.value, m->disp) && CHECK_EQ(o->mem.segment == ZYDIS_REGISTER_GS, m->gs);
}

static const int32_t displacements[] = {0, 1, -1, 127, 128, -128, -129, 0x1000, INT32_MAX, INT32_MIN};

TEST(emit, every_address)
{
	for (unsigned base = 0; base <= 16 && !test_has_failed(); base++)
		for (unsigned index = 0; index <= 16; index++)
			for (unsigned i = 0; i < 4 * sizeof(displacements) / sizeof(*displacements); i++) {
				struct host_mem m = {.base = base == 16 ? NO_REG : (uint8_t)base, .index = index == 16 ? NO_REG : (uint8_t)index,
						     .scale = (uint8_t)(1u << i % 4), .disp = displacements[i / 4], .narrow = (base + index + i) % 2, .gs = (base + index + i) % 3 == 0};
				if (index == RSP) /* cannot be encoded */
					continue;
				begin();
				emit_op(&e, &(struct host_op){.opcode = 0x8B, .reg = (uint8_t)(i % 16), .rm = NO_REG, .mem = m, .w = true});
				if (!decode() || !CHECK_EQ(op[0].reg.value, wide((uint8_t)(i % 16))) || !address_is(&op[1], &m))
					return;
			}
}

TEST(emit, moves)
{
	for (unsigned to = 0; to < 16; to++)
		for (unsigned from = 0; from < 16; from++) {
			begin();
			emit_mov(&e, to, from);
			if (!decode() || !CHECK_EQ(op[0].reg.value, narrow((uint8_t)to)) || !CHECK_EQ(op[1].reg.value, narrow((uint8_t)from)))
				return;
			begin();
			emit_mov64(&e, to, from);
			if (!decode() || !CHECK_EQ(op[0].reg.value, wide((uint8_t)to)) || !CHECK_EQ(op[1].reg.value, wide((uint8_t)from)))
				return;
		}
	for (unsigned to = 0; to < 16; to++) {
		begin();
		emit_mov_imm(&e, to, 0x89ABCDEF);
		CHECK(decode() && op[0].reg.value == narrow((uint8_t)to) && (uint32_t)op[1].imm.value.u == 0x89ABCDEF);
	}
}

TEST(emit, sizes_of_loads_and_stores)
{
	static const ZydisMnemonic loads[] = {[1] = ZYDIS_MNEMONIC_MOVZX, [2] = ZYDIS_MNEMONIC_MOVZX, [4] = ZYDIS_MNEMONIC_MOV, [8] = ZYDIS_MNEMONIC_MOV};

	for (unsigned size = 1; size <= 8; size *= 2) {
		begin();
		emit_load(&e, R10, mem_at(R12, 8), size);
		CHECK(decode() && d.mnemonic == loads[size] && op[1].size == size * 8);
		begin();
		emit_store(&e, mem_at(R12, 8), R10, size);
		CHECK(decode() && d.mnemonic == ZYDIS_MNEMONIC_MOV && op[0].size == size * 8);
		if (size == 8)
			continue;
		begin();
		emit_store_imm(&e, mem_at(R12, 8), 0x12345678, size);
		CHECK(decode() && op[0].size == size * 8);
		CHECK_EQ(op[1].imm.value.u & 0xFF, 0x78);
	}
}

/* VEX keeps its register bits inverted. */
TEST(emit, bmi2_with_every_register)
{
	for (unsigned to = 0; to < 16; to++)
		for (unsigned from = 0; from < 16; from++)
			for (unsigned third = 0; third < 16; third++) {
				begin();
				emit_shrx(&e, to, from, third);
				if (!decode() || !CHECK_EQ(d.mnemonic, ZYDIS_MNEMONIC_SHRX) || !CHECK_EQ(op[0].reg.value, narrow((uint8_t)to)) ||
				    !CHECK_EQ(op[1].reg.value, narrow((uint8_t)from)) || !CHECK_EQ(op[2].reg.value, narrow((uint8_t)third)))
					return;
				begin();
				emit_rorx(&e, to, from, third, third % 2);
				if (!decode() || !CHECK_EQ(d.mnemonic, ZYDIS_MNEMONIC_RORX) ||
				    !CHECK_EQ(op[0].reg.value, third % 2 ? wide((uint8_t)to) : narrow((uint8_t)to)) || !CHECK_EQ(op[2].imm.value.u, third))
					return;
			}
	begin();
	emit_sarx(&e, R9, RDX, R9);
	CHECK(decode() && d.mnemonic == ZYDIS_MNEMONIC_SARX);
}

TEST(emit, jumps_go_where_they_are_patched_to)
{
	begin();
	uint32_t forward = emit_jmp(&e), over = emit_jecxz(&e), wide_over = emit_jrcxz(&e), near = emit_jmp_short(&e);
	uint32_t to_stub = emit_jcc(&e, CONDITION_NE);
	emit_patch(&e, forward);
	emit_patch8(&e, over);
	emit_patch8(&e, wide_over);
	emit_patch8(&e, near);
	emit_patch_to(&e, to_stub, 0x3F0000);
	int32_t rel;
	memcpy(&rel, buffer + forward, 4);
	CHECK_EQ(forward + 4 + (uint32_t)rel, emit_offset(&e));
	CHECK_EQ(over + 1u + buffer[over], emit_offset(&e));
	CHECK_EQ(wide_over + 1u + buffer[wide_over], emit_offset(&e));
	CHECK_EQ(near + 1u + buffer[near], emit_offset(&e));
	memcpy(&rel, buffer + to_stub, 4);
	CHECK_EQ(e.pc + to_stub + 4 + (uint64_t)(int64_t)rel, 0x3F0000);
	CHECK_EQ(buffer[over - 2], 0x67);
	CHECK_EQ(buffer[wide_over - 1], 0xE3);
}

/* A full buffer is noticed, and nothing is written behind it. */
TEST(emit, overflow_is_sticky)
{
	for (unsigned room = 0; room < 20; room++) {
		memset(buffer, 0xA5, sizeof(buffer));
		e = (struct emitter){.start = buffer, .at = buffer, .end = buffer + room, .pc = 0x400000};
		uint32_t jump = emit_jmp(&e);
		emit_store_imm(&e, mem_sum(R14, R9, 8, 0x12345), 7, 4);
		emit_patch(&e, jump);
		emit_alu_imm(&e, 7, R8, 1);
		CHECK(e.overflow);
		for (unsigned i = room; i < sizeof(buffer); i++)
			if (!CHECK_EQ(buffer[i], 0xA5))
				return;
	}
}

TEST(emit, rex_is_known_beforehand)
{
	CHECK(!emit_needs_rex(&(struct host_op){.reg = 4, .rm = RAX}));
	CHECK(emit_needs_rex(&(struct host_op){.reg = 4, .rm = R8}));
	CHECK(emit_needs_rex(&(struct host_op){.reg = R13, .rm = RAX}));
	CHECK(emit_needs_rex(&(struct host_op){.reg = 4, .rm = NO_REG, .mem = mem_at(R13, 0)}));
	CHECK(emit_needs_rex(&(struct host_op){.reg = 4, .rm = NO_REG, .mem = mem_sum(RAX, R9, 1, 0)}));
	CHECK(!emit_needs_rex(&(struct host_op){.reg = 4, .rm = NO_REG, .mem = {.base = NO_REG, .index = NO_REG, .scale = 1}}));
}
