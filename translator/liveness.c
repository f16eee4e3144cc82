/* Are the status flags dead where a landing pad goes on? Then it may compare instead of the longer flag-free form. Flags that the manual
 * leaves undefined count as overwritten. Interrupts in between may show other flags than the dead ones; true faults never do, since
 * memory accesses are flag-free everywhere. */
#include "translator/internal.h"

#define ALL 0x3Fu

static uint8_t compress(uint32_t eflags)
{
	return (uint8_t)((eflags & EFL_CF ? 1 : 0) | (eflags & EFL_PF ? 2 : 0) | (eflags & EFL_AF ? 4 : 0) | (eflags & EFL_ZF ? 8 : 0) |
			 (eflags & EFL_SF ? 16 : 0) | (eflags & EFL_OF ? 32 : 0));
}

/* A shift or rotate whose count may be zero leaves the flags alone. */
static bool may_keep_flags(const struct insn *insn)
{
	const ZydisDecodedOperand *count;

	switch (insn->d.mnemonic) {
	case ZYDIS_MNEMONIC_SHL: case ZYDIS_MNEMONIC_SHR: case ZYDIS_MNEMONIC_SAR: case ZYDIS_MNEMONIC_ROL: case ZYDIS_MNEMONIC_ROR:
	case ZYDIS_MNEMONIC_RCL: case ZYDIS_MNEMONIC_RCR:
		count = &insn->op[1];
		break;
	case ZYDIS_MNEMONIC_SHLD: case ZYDIS_MNEMONIC_SHRD:
		count = &insn->op[2];
		break;
	default:
		return false;
	}
	return count->type != ZYDIS_OPERAND_TYPE_IMMEDIATE || (count->imm.value.u & 31) == 0;
}

void liveness_of(struct insn *insn)
{
	const ZydisAccessedFlags *f = insn->d.cpu_flags;

	insn->flags_read = ALL;
	insn->flags_killed = 0;
	if (insn->rule->leaves)
		return;
	insn->flags_read = 0;
	if (!f)
		return;
	insn->flags_read = compress(f->tested);
	if (!may_keep_flags(insn))
		insn->flags_killed = compress(f->modified | f->set_0 | f->set_1 | f->undefined);
}

#define LOOK_AHEAD 6

bool liveness_dead_at(struct translation *t, uint32_t eip)
{
	const struct translator_input *in = t->in;
	uint32_t offset = eip - in->eip;
	/* Only within the first page: the block depends on what is looked at, and dies with that page's bytes. */
	uint32_t page_left = PAGE_SIZE - ((in->cs_base + in->eip) & PAGE_MASK);
	uint8_t live = ALL;

	for (int i = 0; i < LOOK_AHEAD && offset < page_left && offset < in->length; i++) {
		struct insn insn;
		if (decode_insn(in, offset, &insn) != 0 || offset + insn.length > page_left)
			return false;
		liveness_of(&insn);
		offset += insn.length;
		if (offset > t->out->guest_length)
			t->out->guest_length = offset;
		if (insn.flags_read & live)
			return false;
		live &= (uint8_t)~insn.flags_killed;
		if (!live)
			return true;
		if (insn.rule->ends || insn.d.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
			return false;
	}
	return false;
}
