/* Real mode and virtual-8086 mode by a processor that is in protected mode, in 16-bit segments: most instructions do the same. What does not is the
 * manual's to say, or is left out. */
#include <string.h>

#include "base/x86.h"
#include "faulting.h"

/* Not recognised but in protected mode (vol. 2, each one's page; VEX: 2.3.1 and 2.5). */
static bool needs_protection(const ZydisDecodedInstruction *d)
{
	switch (d->mnemonic) {
	case ZYDIS_MNEMONIC_ARPL: case ZYDIS_MNEMONIC_LAR: case ZYDIS_MNEMONIC_LSL: case ZYDIS_MNEMONIC_VERR: case ZYDIS_MNEMONIC_VERW:
	case ZYDIS_MNEMONIC_LLDT: case ZYDIS_MNEMONIC_LTR: case ZYDIS_MNEMONIC_SLDT: case ZYDIS_MNEMONIC_STR:
		return true;
	default:
		return d->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	}
}

/* In virtual-8086 mode with IOPL below 3 (vol. 3, 20.2.7). */
static bool is_sensitive_to_iopl(const ZydisDecodedInstruction *d)
{
	switch (d->mnemonic) {
	case ZYDIS_MNEMONIC_CLI: case ZYDIS_MNEMONIC_STI: case ZYDIS_MNEMONIC_PUSHF: case ZYDIS_MNEMONIC_PUSHFD: case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_IRET: case ZYDIS_MNEMONIC_IRETD: case ZYDIS_MNEMONIC_INT:
		return true;
	default:
		return false;
	}
}

/* The exception that this instruction raises in the case's mode whatever its operands are, or -1. */
static int exception_of(const struct diff_case *c, const ZydisDecodedInstruction *d)
{
	if (c->kind != KIND_PROTECTED && needs_protection(d))
		return VEC_UD;
	return c->kind == KIND_V86 && is_sensitive_to_iopl(d) ? VEC_GP : -1;
}

/* The faulting instruction is one of CPL 0's: real mode runs it. */
static bool is_privileged(const struct diff_case *c, uint32_t eip)
{
	struct faulting f;

	if (!faulting_decode(&f, c, eip))
		return false;
	switch (f.insn.mnemonic) {
	case ZYDIS_MNEMONIC_CLI: case ZYDIS_MNEMONIC_STI: case ZYDIS_MNEMONIC_IN: case ZYDIS_MNEMONIC_OUT:
	case ZYDIS_MNEMONIC_LGDT: case ZYDIS_MNEMONIC_LIDT:
		return true;
	default:
		return f.insn.meta.category == ZYDIS_CATEGORY_IOSTRINGOP || (f.insn.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED);
	}
}

/* A selector that was loaded is none of the mode's: null, or refused for what it names. */
static bool has_other_selectors(const struct diff_state *s)
{
	bool refused = s->vector == VEC_TS || s->vector == VEC_NP || s->vector == VEC_SS || s->vector == VEC_GP;

	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) {
		if (diff_segment(s->seg[i])->base != LOW + 16u * s->seg[i])
			return true;
	}
	return refused && s->error;
}

/* Real mode puts the frame of the exception on the case's stack, where there must be room. */
static bool has_no_room(const struct diff_state *s)
{
	uint32_t sp = s->gpr[ESP] & 0xFFFF;

	return sp == 1 || sp == 3 || sp == 5;
}

/* Code is not written but in a mode without types. */
static bool writes_code(const struct diff_case *c, const struct diff_state *s)
{
	struct faulting f;
	bool decoded = faulting_decode(&f, c, s->eip);

	for (unsigned i = 0; decoded && i < f.insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &f.operands[i];
		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY || !(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		if (diff_segment(s->seg[o->mem.segment - ZYDIS_REGISTER_ES])->type & AR_CODE)
			return true;
	}
	return false;
}

static uint16_t memory_word(const struct diff_case *c, const struct diff_result *r, uint32_t at)
{
	uint32_t code = at - diff_segment(c->in.seg[SEG_CS])->base - c->in.eip;
	uint16_t word = 0xCCCC;

	if (at - DATA_BASE < DATA_SIZE - 1)
		memcpy(&word, r->data + (at - DATA_BASE), sizeof(word));
	else if (code < c->length)
		memcpy(&word, c->code + code, c->length - code < sizeof(word) ? 1 : sizeof(word));
	return word;
}

/* Where a far pointer or a frame has its selector: behind the offset. */
static uint16_t selector_behind(const struct diff_case *c, const struct diff_result *r, unsigned seg, uint32_t address, unsigned width)
{
	return memory_word(c, r, diff_segment(r->out.seg[seg])->base + ((address + width / 8) & 0xFFFF));
}

/* A null selector, which CS may not hold. */
static bool loads_null_into_cs(const struct diff_case *c, const struct diff_result *r, const struct faulting *f)
{
	const ZydisDecodedOperand *o = &f->operands[0];
	uint16_t selector = 0xCCCC;

	if (f->insn.meta.category == ZYDIS_CATEGORY_RET)
		selector = selector_behind(c, r, SEG_SS, r->out.gpr[ESP], f->insn.operand_width);
	else if (o->type == ZYDIS_OPERAND_TYPE_POINTER)
		selector = o->ptr.segment;
	else if (f->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR && o->type == ZYDIS_OPERAND_TYPE_MEMORY)
		selector = selector_behind(c, r, o->mem.segment - ZYDIS_REGISTER_ES, faulting_address(f, o, &r->out), f->insn.operand_width);
	return selector < 4;
}

/* Or SS. */
static bool loads_null(const struct diff_case *c, const struct diff_result *r)
{
	struct faulting f;

	if (!faulting_decode(&f, c, r->out.eip))
		return false;
	bool into_ss = (f.operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER && f.operands[0].reg.value == ZYDIS_REGISTER_SS) ||
		       f.insn.mnemonic == ZYDIS_MNEMONIC_LSS;
	return into_ss || loads_null_into_cs(c, r, &f);
}

/* POPF and IRET set IF and IOPL in real mode, and leave them alone where the processor is; PUSHF behind shows them. */
static bool shows_popped_flags(const struct diff_case *c)
{
	struct faulting f;
	bool popped = false;

	for (uint32_t eip = c->in.eip; c->kind == KIND_REAL && faulting_decode(&f, c, eip); eip += f.insn.length) {
		switch (f.insn.mnemonic) {
		case ZYDIS_MNEMONIC_POPF: case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_IRET: case ZYDIS_MNEMONIC_IRETD: popped = true; break;
		case ZYDIS_MNEMONIC_PUSHF: case ZYDIS_MNEMONIC_PUSHFD:
			if (popped)
				return true;
			break;
		default: break;
		}
	}
	return false;
}

static bool is_another(const struct diff_case *c, const struct diff_result *r)
{
	const struct diff_state *s = &r->out;
	bool real = c->kind == KIND_REAL;

	if (has_other_selectors(s) || shows_popped_flags(c) || (real && (s->vector == VEC_PF || s->vector == VEC_AC || has_no_room(s))))
		return true;
	/* A far return may look at the outer stack before it refuses what it finds. */
	if ((s->vector == VEC_GP || s->vector == VEC_PF) && loads_null(c, r))
		return true;
	return s->vector == VEC_GP && (writes_code(c, s) || (real && is_privileged(c, s->eip)));
}

/* Does its first instruction raise this exception at once? */
static bool raises(const struct diff_case *c, int *vector)
{
	struct faulting f;

	if (!faulting_decode(&f, c, c->in.eip) || c->in.eip + f.insn.length - 1 > diff_segment(c->in.seg[SEG_CS])->limit)
		return false;
	*vector = exception_of(c, &f.insn);
	return *vector >= 0;
}

void diff_translate_answer(const struct diff_case *c, struct diff_result *r)
{
	struct diff_state *s = &r->out;
	int vector;

	if (c->kind == KIND_PROTECTED || s->vector >= NATIVE_ENDLESS)
		return;
	if (raises(c, &vector)) {
		*s = c->in;
		s->vector = (uint32_t)vector;
		s->eflags |= EFL_RF;
		memcpy(r->data, c->data, DATA_SIZE);
	}
	if (is_another(c, r))
		s->vector = NATIVE_OTHER_MODE;
	if (s->vector == VEC_PF)
		s->cr2 -= LOW;
	/* Real mode saves the lower half of EIP, and no error code. */
	if (c->kind == KIND_REAL) {
		s->error = 0;
		s->eip &= 0xFFFF;
	}
}

bool faulting_is_vex(const struct diff_case *c, uint32_t eip)
{
	static const uint8_t prefixes[] = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3};
	uint32_t at = eip - c->in.eip;

	while (at < c->length && memchr(prefixes, c->code[at], sizeof(prefixes))) at++;
	return at < c->length && (c->code[at] & ~1) == 0xC4 && (at + 1 == c->length || c->code[at + 1] >= 0xC0);
}

bool diff_is_of_mode(const struct diff_case *c, const struct diff_state *s)
{
	struct faulting f;

	if (c->kind != KIND_PROTECTED && s->vector == VEC_UD && faulting_is_vex(c, s->eip))
		return true;
	if (!faulting_decode(&f, c, s->eip) || exception_of(c, &f.insn) < 0)
		return false;
	return exception_of(c, &f.insn) == (int)s->vector || s->vector == VEC_DF;
}
