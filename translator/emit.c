#include "translator/emit.h"

#include <string.h>

/* Bytes are gathered in a register and stored as eight; what is too many is written over, or lies behind all. */
#define ROOM 32

static bool has_room(struct emitter *e)
{
	if (e->end - e->at >= ROOM)
		return true;
	e->overflow = true;
	return false;
}

static void put(struct emitter *e, uint64_t bytes, unsigned count)
{
	if (!has_room(e))
		return;
	memcpy(e->at, &bytes, sizeof(bytes));
	e->at += count;
}

void emit_byte(struct emitter *e, uint8_t byte) { put(e, byte, 1); }
void emit_u32(struct emitter *e, uint32_t value) { put(e, value, 4); }

static uint8_t rex_bits(const struct host_op *op)
{
	uint8_t rex = op->w ? 8 : 0;

	if (op->no_modrm)
		return rex | (op->opcode_reg && op->rm != NO_REG && op->rm >= 8 ? 1 : 0);
	if (op->reg >= 8)
		rex |= 4;
	if (op->rm != NO_REG)
		return rex | (op->rm >= 8 ? 1 : 0);
	if (op->mem.index != NO_REG && op->mem.index >= 8)
		rex |= 2;
	if (op->mem.base != NO_REG && op->mem.base >= 8)
		rex |= 1;
	return rex;
}

bool emit_needs_rex(const struct host_op *op)
{
	return rex_bits(op) != 0;
}

static unsigned scale_bits(uint8_t scale)
{
	return scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
}

struct bytes {
	uint64_t value;
	unsigned count;
};

static inline void add(struct bytes *b, bool present, uint64_t value, unsigned count)
{
	b->value |= (present ? value : 0) << 8 * b->count;
	b->count += present ? count : 0;
}

/* ModRM, SIB and displacement. Without a base the SIB form is used: in 64-bit mode the short form means RIP-relative. */
static struct bytes memory_bytes(uint8_t reg, const struct host_mem *m)
{
	bool has_base = m->base != NO_REG, has_index = m->index != NO_REG, sib = !has_base || has_index || (m->base & 7) == 4;
	uint8_t base = has_base ? m->base & 7 : 5, index = has_index ? m->index & 7 : 4;
	bool small = m->disp >= -128 && m->disp < 128;
	unsigned mod = !has_base || (m->disp == 0 && base != 5) ? 0 : small ? 1 : 2;
	unsigned disp = !has_base || mod == 2 ? 4 : mod;
	struct bytes b = {.value = mod << 6 | (reg & 7u) << 3 | (sib ? 4 : base), .count = 1};

	add(&b, sib, scale_bits(m->scale) << 6 | (unsigned)index << 3 | base, 1);
	add(&b, true, (uint32_t)m->disp, disp);
	return b;
}

/* The three-byte form (vol. 2, 2.3.5): R, X and B inverted as they would be in REX, the opcode map, W, vvvv inverted, pp. */
static void add_vex(struct bytes *b, const struct host_op *op)
{
	uint8_t rex = rex_bits(op), pp = op->rep == 0x66 ? 1 : op->rep == 0xF3 ? 2 : op->rep == 0xF2 ? 3 : 0;
	uint8_t second = (uint8_t)((~rex & 7) << 5 | (op->map - MAP_0F + 1)), third = (uint8_t)((op->w ? 0x80 : 0) | (~op->vvvv & 15) << 3 | pp);

	add(b, true, 0xC4u | second << 8 | third << 16, 3);
}

static void add_legacy_prefixes(struct bytes *b, const struct host_op *op)
{
	static const struct { uint16_t escape; uint8_t count; } maps[] = {[MAP_PLAIN] = {0, 0}, [MAP_0F] = {0x0F, 1}, [MAP_0F38] = {0x380F, 2}, [MAP_0F3A] = {0x3A0F, 2}};
	uint8_t rex = rex_bits(op);

	add(b, op->p66, 0x66, 1);
	add(b, op->rep, op->rep, 1);
	add(b, rex, 0x40u | rex, 1);
	add(b, true, maps[op->map].escape, maps[op->map].count);
}

void emit_op(struct emitter *e, const struct host_op *op)
{
	bool memory = !op->no_modrm && op->rm == NO_REG;
	struct bytes b = {0};

	add(&b, op->lock, 0xF0, 1);
	add(&b, memory && op->mem.gs, 0x65, 1);
	add(&b, memory && op->mem.narrow, 0x67, 1);
	if (op->vex)
		add_vex(&b, op);
	else
		add_legacy_prefixes(&b, op);
	add(&b, true, op->opcode_reg ? (uint8_t)((op->opcode & 0xF8) | (op->rm & 7)) : op->opcode, 1);
	put(e, b.value, b.count);
	if (memory) {
		b = memory_bytes(op->reg, &op->mem);
		put(e, b.value, b.count);
	} else if (!op->no_modrm) {
		put(e, 0xC0u | (op->reg & 7u) << 3 | (op->rm & 7u), 1);
	}
	put(e, op->imm, op->imm_size);
}

void emit_encoded(struct emitter *e, const uint8_t bytes[16], unsigned count)
{
	if (!has_room(e))
		return;
	memcpy(e->at, bytes, 16);
	e->at += count;
}

static void op_rr(struct emitter *e, uint8_t opcode, unsigned reg, unsigned rm, bool w)
{
	emit_op(e, &(struct host_op){.opcode = opcode, .reg = (uint8_t)reg, .rm = (uint8_t)rm, .w = w});
}

static void op_rm(struct emitter *e, uint8_t opcode, unsigned reg, struct host_mem m, bool w)
{
	emit_op(e, &(struct host_op){.opcode = opcode, .reg = (uint8_t)reg, .rm = NO_REG, .mem = m, .w = w});
}

void emit_mov(struct emitter *e, enum host_reg to, enum host_reg from) { op_rr(e, 0x8B, to, from, false); }
void emit_mov64(struct emitter *e, enum host_reg to, enum host_reg from) { op_rr(e, 0x8B, to, from, true); }
void emit_lea(struct emitter *e, enum host_reg to, struct host_mem m) { op_rm(e, 0x8D, to, m, false); }
void emit_lea64(struct emitter *e, enum host_reg to, struct host_mem m) { op_rm(e, 0x8D, to, m, true); }

void emit_mov_imm(struct emitter *e, enum host_reg to, uint32_t imm)
{
	emit_op(e, &(struct host_op){.opcode = 0xB8, .no_modrm = true, .opcode_reg = true, .rm = (uint8_t)to, .imm_size = 4, .imm = imm});
}

void emit_load(struct emitter *e, enum host_reg to, struct host_mem m, unsigned size)
{
	struct host_op op = {.opcode = 0x8B, .reg = (uint8_t)to, .rm = NO_REG, .mem = m, .w = size == 8};

	if (size < 4) {
		op.map = MAP_0F;
		op.opcode = size == 1 ? 0xB6 : 0xB7;
	}
	emit_op(e, &op);
}

void emit_store(struct emitter *e, struct host_mem m, enum host_reg from, unsigned size)
{
	emit_op(e, &(struct host_op){.opcode = size == 1 ? 0x88 : 0x89, .reg = (uint8_t)from, .rm = NO_REG, .mem = m,
				     .p66 = size == 2, .w = size == 8});
}

void emit_store_imm(struct emitter *e, struct host_mem m, uint32_t imm, unsigned size)
{
	emit_op(e, &(struct host_op){.opcode = size == 1 ? 0xC6 : 0xC7, .rm = NO_REG, .mem = m, .p66 = size == 2,
				     .imm_size = (uint8_t)size, .imm = imm});
}

static void bmi2_rr(struct emitter *e, uint8_t opcode, uint8_t pp, unsigned reg, unsigned vvvv, unsigned rm)
{
	emit_op(e, &(struct host_op){.opcode = opcode, .map = MAP_0F38, .vex = true, .rep = pp, .reg = (uint8_t)reg, .vvvv = (uint8_t)vvvv, .rm = (uint8_t)rm});
}

void emit_shrx(struct emitter *e, enum host_reg to, enum host_reg from, enum host_reg count) { bmi2_rr(e, 0xF7, 0xF2, to, count, from); }
void emit_sarx(struct emitter *e, enum host_reg to, enum host_reg from, enum host_reg count) { bmi2_rr(e, 0xF7, 0xF3, to, count, from); }

void emit_rorx(struct emitter *e, enum host_reg to, enum host_reg from, unsigned count, bool wide)
{
	emit_op(e, &(struct host_op){.opcode = 0xF0, .map = MAP_0F3A, .vex = true, .rep = 0xF2, .w = wide, .reg = (uint8_t)to, .rm = (uint8_t)from,
				     .imm_size = 1, .imm = count});
}

void emit_alu_imm(struct emitter *e, unsigned extension, enum host_reg to, uint32_t imm)
{
	bool small = imm + 128 < 256;

	emit_op(e, &(struct host_op){.opcode = small ? 0x83 : 0x81, .reg = (uint8_t)extension, .rm = (uint8_t)to, .imm_size = small ? 1 : 4, .imm = imm});
}

static uint32_t rel32_behind(struct emitter *e, unsigned opcode, unsigned count)
{
	put(e, opcode, count + 4);
	return emit_offset(e) - 4;
}

uint32_t emit_jmp(struct emitter *e) { return rel32_behind(e, 0xE9, 1); }
uint32_t emit_jcc(struct emitter *e, unsigned condition) { return rel32_behind(e, 0x800F | condition << 8, 2); }
uint32_t emit_call(struct emitter *e) { return rel32_behind(e, 0xE8, 1); }

void emit_branch_back(struct emitter *e, int condition, uint32_t offset)
{
	int32_t near = (int32_t)(offset - (emit_offset(e) + 2));

	if (near >= INT8_MIN) {
		put(e, (condition < 0 ? 0xEB : 0x70u | (unsigned)condition) | (uint64_t)(uint8_t)near << 8, 2);
		return;
	}
	uint32_t at = condition < 0 ? emit_jmp(e) : emit_jcc(e, (unsigned)condition);
	emit_patch_to(e, at, e->pc + offset);
}

/* Of the four bytes before this offset. */
static void add_fix(struct emitter *e, enum code_fix_kind kind, uint32_t end)
{
	if (!e->fixes || e->overflow)
		return;
	if (e->fix_count == e->fixes_most || end > CODE_FIX_OFFSET_MOST)
		e->unmovable = true;
	else
		e->fixes[e->fix_count++] = (struct code_fix){.offset = (end - 4) & CODE_FIX_OFFSET_MOST, .kind = kind & 3};
}

/* Zero may have no bytes at all, and stand in the first instruction. */
void emit_fix(struct emitter *e, enum code_fix_kind kind, uint32_t value)
{
	if (e->overflow || emit_offset(e) < 4 || memcmp(e->at - 4, &value, 4))
		e->unmovable = true;
	else
		add_fix(e, kind, emit_offset(e));
}

static void rel32_to(struct emitter *e, uint32_t rel32_offset, host_pc_t target)
{
	emit_patch_to(e, rel32_offset, target);
	add_fix(e, FIX_OUTSIDE, rel32_offset + 4);
}

void emit_jmp_to(struct emitter *e, host_pc_t target) { rel32_to(e, emit_jmp(e), target); }
void emit_call_to(struct emitter *e, host_pc_t target) { rel32_to(e, emit_call(e), target); }

static uint32_t rel8_behind(struct emitter *e, unsigned opcode, unsigned count)
{
	put(e, opcode, count + 1);
	return emit_offset(e) - 1;
}

uint32_t emit_jecxz(struct emitter *e) { return rel8_behind(e, 0xE367, 2); }
uint32_t emit_jrcxz(struct emitter *e) { return rel8_behind(e, 0xE3, 1); }
uint32_t emit_jmp_short(struct emitter *e) { return rel8_behind(e, 0xEB, 1); }
uint32_t emit_jcc_short(struct emitter *e, unsigned condition) { return rel8_behind(e, 0x70 | condition, 1); }

void emit_jrcxz_back(struct emitter *e, uint32_t offset)
{
	put(e, 0xE3u | (offset - (emit_offset(e) + 2)) << 8, 2);
}

void emit_patch_to(struct emitter *e, uint32_t rel32_offset, host_pc_t target)
{
	uint32_t rel = (uint32_t)(target - (e->pc + rel32_offset + 4));

	if (!e->overflow)
		memcpy(e->start + rel32_offset, &rel, 4);
}

uint32_t emit_move(struct emitter *e, uint32_t by)
{
	if (!e->fixes || e->unmovable || (uint64_t)(e->end - e->at) < by)
		return 0;
	memmove(e->start + by, e->start, emit_offset(e));
	e->start += by;
	e->at += by;
	e->pc += by;
	for (uint32_t i = 0; i < e->fix_count; i++) code_fix_apply(e->start, e->fixes[i], by, 0);
	return by;
}

void emit_patch(struct emitter *e, uint32_t rel32_offset) { emit_patch_to(e, rel32_offset, emit_pc(e)); }

void emit_patch8(struct emitter *e, uint32_t rel8_offset)
{
	if (!e->overflow)
		e->start[rel8_offset] = (uint8_t)(emit_offset(e) - rel8_offset - 1);
}
