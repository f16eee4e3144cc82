/* String instructions. Without a repeat prefix: a plain access through each pointer, then the step. REP MOVS and REP STOS run as themselves where
 * the window shows it all; other repetitions are callouts. */
#include "translator/internal.h"

static bool is_a16(const struct insn *insn)
{
	return insn->form->address_width == 16;
}

static struct guest_mem at_edi(const struct insn *insn, bool write)
{
	return (struct guest_mem){.seg = SEG_ES, .base = EDI, .index = NO_REG, .scale = 1, .a16 = is_a16(insn),
				  .size = (uint8_t)(insn->form->operand_width / 8), .write = write};
}

static struct guest_mem at_esi(const struct insn *insn)
{
	struct guest_mem m = {.seg = SEG_DS, .base = ESI, .index = NO_REG, .scale = 1, .a16 = is_a16(insn),
			      .size = (uint8_t)(insn->form->operand_width / 8)};

	for (unsigned i = 0; i < insn->form->operand_count; i++)
		if (insn->form->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && insn->form->op[i].at.base == ESI)
			m.seg = access_of(insn, &insn->form->op[i]).seg;
	return m;
}

/* R10D = 1, or -1 with DF set: not(2 * DF) + 2. */
static void load_step(struct emitter *e)
{
	emit_load(e, R10, VCPU(df_flag), 1);
	emit_lea(e, R10, mem_sum(R10, R10, 1, 0));
	emit_op(e, &(struct host_op){.opcode = 0xF7, .reg = 2, .rm = R10}); /* not r10d */
	emit_lea(e, R10, mem_at(R10, 2));
}

static uint8_t size_of(const struct insn *insn) { return (uint8_t)(insn->form->operand_width / 8); }

/* An instruction with the accumulator (or a scratch register) as its register operand. */
static void emit_sized(struct emitter *e, uint8_t opcode8, enum host_reg reg, struct host_mem m, unsigned size)
{
	emit_op(e, &(struct host_op){.opcode = size == 1 ? opcode8 : opcode8 + 1, .p66 = size == 2, .reg = (uint8_t)reg, .rm = NO_REG, .mem = m});
}

/* A pointer plus the step in R10D, into itself or another register; of 16-bit addresses only the low half steps. Clobbers R8. */
static void add_step(struct emitter *e, const struct insn *insn, enum host_reg to, enum host_reg from)
{
	if (!is_a16(insn)) {
		emit_lea(e, to, mem_sum(from, R10, size_of(insn), 0));
		return;
	}
	emit_lea(e, R8, mem_sum(from, R10, size_of(insn), 0));
	if (to != from)
		emit_mov(e, to, from);
	emit_op(e, &(struct host_op){.opcode = 0x8B, .reg = (uint8_t)to, .rm = R8, .p66 = true});
}

/* Both pointers step. The second is ready before the first is changed, and a row finishes what is left. */
static void step_both(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;

	/* The store may have overlapped its source. */
	row_add(t, is_a16(insn) ? UNDO_STEP16 : UNDO_STEP, insn->eip + insn->length, row_size(size_of(insn)));
	load_step(e);
	add_step(e, insn, R9, RDI);
	add_step(e, insn, RSI, RSI);
	row_add(t, UNDO_EDI_R9, insn->eip + insn->length, 0);
	emit_mov(e, RDI, R9);
}

/* The pointer steps of an instruction that has set a register or the flags already: it may begin anew, but no interrupt may show them. */
static void step_one(struct translation *t, const struct insn *insn, enum host_reg pointer)
{
	row_add_shadow(t, insn->eip);
	load_step(&t->e);
	add_step(&t->e, insn, pointer, pointer);
}

/* What has no element to work on, as most ends of copies by words, does not ask. */
static bool repeat_in_c(struct translation *t, const struct insn *insn)
{
	if (is_a16(insn))
		return emit_callout(t, insn);
	uint32_t none = emit_jecxz(&t->e);
	emit_callout(t, insn);
	emit_patch8(&t->e, none);
	return false;
}

bool emit_lods(struct translation *t, const struct insn *insn)
{
	struct guest_mem m = at_esi(insn);

	esp_flush(t, insn->eip);
	if (insn->form->rep)
		return repeat_in_c(t, insn);
	emit_sized(&t->e, 0x8A, RAX, access_emit(t, insn, &m, false), m.size);
	step_one(t, insn, RSI);
	return false;
}

/* The host's own REP, with RDI and RSI as host addresses meanwhile. Cut to 32 bits they are the guest's again, so that a fault or a kick on
 * the way finds the guest's registers as the processor would leave them. What has no place in the window (DF set; so many elements that they might
 * reach beyond the guard) is left to C; what runs into the guard or a trace makes the instruction soft. */
#define REPEAT_COUNT_BITS 20

static bool repeats_in_window(const struct translation *t, const struct insn *insn, const struct guest_mem *from, const struct guest_mem *to)
{
	bool flat = MODE_SEG(t->in->mode, to->seg) == MODE_SEG_FLAT && (!from || MODE_SEG(t->in->mode, from->seg) == MODE_SEG_FLAT);

	return flat && !is_a16(insn) && !access_is_soft(t, insn) && !(t->in->mode & (MODE_ONE | MODE_THUNK | MODE_TF));
}

static void repeat_in_window(struct translation *t, const struct insn *insn, uint8_t opcode8, bool moves)
{
	struct emitter *e = &t->e;

	emit_mov64(e, R10, RCX);
	row_add(t, UNDO_RCX, insn->eip, 0);
	emit_rorx(e, RCX, RCX, REPEAT_COUNT_BITS, true);
	emit_op(e, &(struct host_op){.opcode = 0xB7, .map = MAP_0F, .reg = RCX, .rm = RCX}); /* what the count has beyond these bits */
	emit_load(e, R9, VCPU(df_flag), 1);
	emit_lea(e, RCX, mem_sum(RCX, R9, 1, 0));
	uint32_t fits = emit_jrcxz(e);
	struct cold *rest = cold_add(t, COLD_CALLOUT, emit_jmp(e), insn->eip);
	rest->unpark = true;
	rest->word = callout_word(insn);
	emit_patch8(e, fits);
	emit_mov64(e, RCX, R10);
	row_add(t, UNDO_REPEAT, insn->eip, 0);
	emit_lea64(e, RDI, mem_sum(REG_WINDOW, RDI, 1, 0));
	if (moves)
		emit_lea64(e, RSI, mem_sum(REG_WINDOW, RSI, 1, 0));
	emit_op(e, &(struct host_op){.opcode = insn->form->operand_width == 8 ? opcode8 : opcode8 + 1, .no_modrm = true, .rm = NO_REG, .rep = 0xF3,
				     .p66 = insn->form->operand_width == 16});
	row_add(t, UNDO_NONE, insn->eip + insn->length, 0);
	emit_mov(e, RDI, RDI);
	if (moves)
		emit_mov(e, RSI, RSI);
	rest->back = emit_offset(e);
}

bool emit_stos(struct translation *t, const struct insn *insn)
{
	struct guest_mem m = at_edi(insn, true);

	esp_flush(t, insn->eip);
	if (insn->form->rep && repeats_in_window(t, insn, NULL, &m)) {
		repeat_in_window(t, insn, 0xAA, false);
		return false;
	}
	if (insn->form->rep)
		return repeat_in_c(t, insn);
	emit_store(&t->e, access_emit(t, insn, &m, false), RAX, m.size);
	load_step(&t->e);
	add_step(&t->e, insn, RDI, RDI);
	return false;
}

bool emit_scas(struct translation *t, const struct insn *insn)
{
	struct guest_mem m = at_edi(insn, false);

	esp_flush(t, insn->eip);
	if (insn->form->rep)
		return repeat_in_c(t, insn);
	emit_sized(&t->e, 0x3A, RAX, access_emit(t, insn, &m, false), m.size); /* cmp al, m */
	step_one(t, insn, RDI);
	return false;
}

/* The element from [ESI] waits in vcpu.spill, which the lookup of the second access does not disturb. */
static void load_source(struct translation *t, const struct insn *insn)
{
	struct guest_mem m = at_esi(insn);
	struct host_mem from = access_emit(t, insn, &m, false);

	emit_load(&t->e, R10, from, m.size);
	emit_store(&t->e, VCPU(spill), R10, 4);
}

bool emit_movs(struct translation *t, const struct insn *insn)
{
	struct guest_mem m = at_edi(insn, true), from = at_esi(insn);

	esp_flush(t, insn->eip);
	if (insn->form->rep && repeats_in_window(t, insn, &from, &m)) {
		repeat_in_window(t, insn, 0xA4, true);
		return false;
	}
	if (insn->form->rep)
		return repeat_in_c(t, insn);
	load_source(t, insn);
	struct host_mem to = access_emit(t, insn, &m, false);
	emit_load(&t->e, R10, VCPU(spill), 4);
	emit_store(&t->e, to, R10, m.size);
	step_both(t, insn);
	return false;
}

bool emit_cmps(struct translation *t, const struct insn *insn)
{
	struct guest_mem m = at_edi(insn, false);

	esp_flush(t, insn->eip);
	if (insn->form->rep)
		return repeat_in_c(t, insn);
	load_source(t, insn);
	struct host_mem with = access_emit(t, insn, &m, false);
	emit_load(&t->e, R10, VCPU(spill), 4);
	emit_sized(&t->e, 0x3A, R10, with, m.size); /* cmp r10, m */
	step_both(t, insn);
	return false;
}
