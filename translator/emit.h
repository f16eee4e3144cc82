/* The host encoder: the one place that knows how an x86-64 instruction is put together. Errors are sticky: when the buffer is full,
 * `overflow` is set and nothing more is written; the translator looks once, at the end. */
#ifndef TRANSLATOR_EMIT_H
#define TRANSLATOR_EMIT_H

#include <stddef.h>

#include "base/code_fix.h"
#include "base/types.h"

enum host_reg {
	RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, NO_REG = 0xFF
};
#define REG_GUEST_ESP R13
#define REG_VCPU R12
#define REG_TABLES R14
#define REG_WINDOW R15

enum opcode_map { MAP_PLAIN, MAP_0F, MAP_0F38, MAP_0F3A };

/* A host memory operand. */
struct host_mem {
	uint8_t base, index; /* enum host_reg or NO_REG */
	uint8_t scale;       /* 1, 2, 4, 8 */
	bool narrow;         /* the effective address has 32 bits: an access to the guest's window */
	bool gs;             /* relative to GS base */
	int32_t disp;
};

/* A host instruction. */
struct host_op {
	uint8_t opcode;
	uint8_t map;         /* enum opcode_map */
	bool w;              /* REX.W */
	bool p66, lock;
	bool vex;            /* VEX.128 with W = 0 or `w`, `rep` as its pp, and a third register */
	uint8_t vvvv;
	uint8_t rep;         /* 0, 0xF2 or 0xF3: a mandatory prefix (0x66 too for VEX) */
	bool no_modrm;       /* the opcode stands alone; its low three bits are `rm` if opcode_reg */
	bool opcode_reg;
	uint8_t reg;         /* ModRM.reg: register or opcode extension */
	uint8_t rm;          /* register, or NO_REG: memory */
	uint8_t imm_size;
	/* What may differ between two instructions of one form. */
	struct host_mem mem;
	uint32_t imm;
};
#define HOST_OP_FIXED offsetof(struct host_op, mem)

struct emitter {
	uint8_t *start, *at, *end;
	host_pc_t pc;        /* where `start` runs */
	bool overflow;
	struct code_fix *fixes; /* fixes_most of them, or NULL: the code stays where it is */
	uint32_t fix_count, fixes_most;
	bool unmovable;         /* something was emitted that no fix tells of */
};

static inline uint32_t emit_offset(const struct emitter *e) { return (uint32_t)(e->at - e->start); }
static inline host_pc_t emit_pc(const struct emitter *e) { return e->pc + emit_offset(e); }

void emit_byte(struct emitter *e, uint8_t byte);
void emit_u32(struct emitter *e, uint32_t value);
void emit_op(struct emitter *e, const struct host_op *op);
/* One that is encoded already, and what follows it there up to 16 bytes. */
void emit_encoded(struct emitter *e, const uint8_t bytes[16], unsigned count);
/* Would this instruction carry a REX prefix (and so lose AH..DH)? */
bool emit_needs_rex(const struct host_op *op);

/* The few instructions that the translator itself inserts. None but those said to touch flags does. */
void emit_mov(struct emitter *e, enum host_reg to, enum host_reg from);           /* 32 bits, zero-extended */
void emit_mov64(struct emitter *e, enum host_reg to, enum host_reg from);
void emit_mov_imm(struct emitter *e, enum host_reg to, uint32_t imm);
void emit_lea(struct emitter *e, enum host_reg to, struct host_mem m);            /* 32 bits, zero-extended */
void emit_lea64(struct emitter *e, enum host_reg to, struct host_mem m);
void emit_load(struct emitter *e, enum host_reg to, struct host_mem m, unsigned size);  /* 1, 2: zero-extended; 4, 8 */
void emit_store(struct emitter *e, struct host_mem m, enum host_reg from, unsigned size);
void emit_store_imm(struct emitter *e, struct host_mem m, uint32_t imm, unsigned size); /* 1, 2, 4 */
void emit_shrx(struct emitter *e, enum host_reg to, enum host_reg from, enum host_reg count);
void emit_sarx(struct emitter *e, enum host_reg to, enum host_reg from, enum host_reg count);
void emit_rorx(struct emitter *e, enum host_reg to, enum host_reg from, unsigned count, bool wide);
void emit_alu_imm(struct emitter *e, unsigned extension, enum host_reg to, uint32_t imm); /* 83 or 81 /ext; writes flags */

/* Jumps. The rel32 forms return the offset of the rel32, for emit_patch. */
uint32_t emit_jmp(struct emitter *e);
uint32_t emit_jcc(struct emitter *e, unsigned condition);
uint32_t emit_call(struct emitter *e);
/* A jump, or Jcc if `condition` is not negative, to an offset that is emitted already. */
void emit_branch_back(struct emitter *e, int condition, uint32_t offset);
void emit_jmp_to(struct emitter *e, host_pc_t target);
void emit_call_to(struct emitter *e, host_pc_t target);
/* jecxz / jrcxz and jmp over at most 127 bytes; return the offset of the rel8. */
uint32_t emit_jecxz(struct emitter *e);
uint32_t emit_jrcxz(struct emitter *e);
uint32_t emit_jmp_short(struct emitter *e);
/* jrcxz to an offset at most 126 bytes back. */
void emit_jrcxz_back(struct emitter *e, uint32_t offset);
/* As emit_jcc, over at most 127 bytes. */
uint32_t emit_jcc_short(struct emitter *e, unsigned condition);
/* Make the jump at this offset of its rel32 / rel8 go to the current place, or to a host PC. */
void emit_patch(struct emitter *e, uint32_t rel32_offset);
void emit_patch_to(struct emitter *e, uint32_t rel32_offset, host_pc_t target);
void emit_patch8(struct emitter *e, uint32_t rel8_offset);
/* What was emitted last ends in four bytes that are this sum or difference with an EIP in it. */
void emit_fix(struct emitter *e, enum code_fix_kind kind, uint32_t value);
/* All that was emitted begins so many bytes further on, if it can be moved and there is room for it; returns how many. */
uint32_t emit_move(struct emitter *e, uint32_t by);

static inline struct host_mem mem_at(enum host_reg base, int32_t disp)
{
	return (struct host_mem){.base = (uint8_t)base, .index = NO_REG, .scale = 1, .disp = disp};
}

static inline struct host_mem mem_sum(enum host_reg base, enum host_reg index, uint8_t scale, int32_t disp)
{
	return (struct host_mem){.base = (uint8_t)base, .index = (uint8_t)index, .scale = scale, .disp = disp};
}

#define CONDITION_E 4u
#define CONDITION_NE 5u

#endif
