/* DIV and IDIV. In direct form a divide error is the processor's, a host signal, and turns the instruction soft: there a zero divisor is seen before the
 * processor sees it, by a callout in a twentieth of the time. A quotient that is too large comes as a signal in either form. */
#include "translator/internal.h"

/* The divisor into R8, zero-extended. */
static void load_divisor(struct translation *t, const struct insn *insn, unsigned size)
{
	const struct operand *by = &insn->form->op[0];
	struct emitter *e = &t->e;

	if (by->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		struct guest_mem m = access_of(insn, by);
		emit_load(e, R8, access_emit(t, insn, &m, false), size);
		row_add(t, UNDO_NONE, insn->eip, 0);
		return;
	}
	enum host_reg from = host_gpr(is_high_byte(by) ? by->number - 4u : by->number);
	if (from == REG_GUEST_ESP)
		esp_flush(t, insn->eip);
	if (is_high_byte(by)) {
		emit_rorx(e, R8, from, 8, false);
		from = R8;
	}
	if (size == 4)
		emit_mov(e, R8, from);
	else
		emit_op(e, &(struct host_op){.opcode = size == 2 ? 0xB7 : 0xB6, .map = MAP_0F, .reg = R8, .rm = (uint8_t)from});
}

static void raise_if_zero(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;

	emit_mov64(e, R10, RCX);
	row_add(t, UNDO_RCX, insn->eip, 0);
	emit_mov(e, RCX, R8);
	uint32_t zero = emit_jrcxz(e), other = emit_jmp_short(e);
	emit_patch8(e, zero);
	struct cold *c = cold_add(t, COLD_RAISE, emit_jmp(e), insn->eip);
	c->word = VEC_DE;
	c->unpark = true;
	emit_patch8(e, other);
	emit_mov64(e, RCX, R10);
	row_add(t, UNDO_NONE, insn->eip, 0);
}

bool emit_divide(struct translation *t, const struct insn *insn)
{
	unsigned size = insn->form->op[0].size / 8;

	if (!access_is_soft(t, insn))
		return emit_generic(t, insn);
	load_divisor(t, insn, size);
	raise_if_zero(t, insn);
	emit_op(&t->e, &(struct host_op){.opcode = size == 1 ? 0xF6 : 0xF7, .p66 = size == 2, .reg = insn->form->mnemonic == ZYDIS_MNEMONIC_DIV ? 6 : 7, .rm = R8});
	return false;
}
