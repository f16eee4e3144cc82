/* Sensitive instructions: a callout into C, or inline code on virtual state. */
#include "translator/internal.h"

static void store_eip(struct emitter *e, uint32_t eip)
{
	emit_store_imm(e, VCPU(eip), eip, 4);
	emit_fix(e, FIX_EIP, eip);
}

/* vcpu.eip, R9D = the word, R11 = where to go on; R8D and R10D are the caller's business. */
void emit_callout_to(struct translation *t, uint32_t eip, uint32_t word, host_pc_t resume)
{
	store_eip(&t->e, eip);
	emit_mov_imm(&t->e, R9, word);
	emit_lea_r11(&t->e, resume);
	emit_jmp_to(&t->e, t->in->stubs.callout);
}

static void callout_by(struct translation *t, uint32_t eip, uint32_t word, host_pc_t stub)
{
	struct emitter *e = &t->e;

	esp_flush(t, eip);
	store_eip(e, eip);
	emit_mov_imm(e, R9, word);
	/* lea r11, [rip + 5]: behind the jump. */
	emit_byte(e, 0x4C);
	emit_byte(e, 0x8D);
	emit_byte(e, 0x1D);
	emit_u32(e, 5);
	emit_jmp_to(e, stub);
}

void emit_callout_word(struct translation *t, uint32_t eip, uint32_t word)
{
	callout_by(t, eip, word, t->in->stubs.callout);
}

void emit_raise(struct translation *t, const struct insn *insn, unsigned vector, bool has_error, uint32_t error)
{
	emit_mov_imm(&t->e, R8, vector);
	emit_mov_imm(&t->e, R10, error);
	emit_callout_word(t, insn->eip, CALLOUT_ARG(CALLOUT_raise, insn->length & 15, has_error, 0, 0, 0, 0, 0, 0));
	emit_exit(t, insn->eip);
}

bool emit_undefined(struct translation *t, const struct insn *insn)
{
	emit_raise(t, insn, VEC_UD, false, 0);
	return true;
}

/* More than 15 bytes: #GP(0). */
bool emit_too_long(struct translation *t, const struct insn *insn)
{
	emit_raise(t, insn, VEC_GP, true, 0);
	return true;
}

static unsigned size_log2(const struct insn *insn)
{
	return insn->form->operand_width == 8 ? 0 : insn->form->operand_width == 16 ? 1 : 2;
}

struct operands {
	const struct operand *memory; /* addressed by ModRM */
	unsigned seg;                      /* of `memory`, or of a string instruction's source */
	unsigned reg, rm;
	uint32_t ea, extra;                /* immediates */
};

static void scan_operand(struct operands *o, const struct insn *insn, const struct operand *op)
{
	switch (op->type) {
	case ZYDIS_OPERAND_TYPE_MEMORY:
		if (op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT && op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			o->memory = op;
		if (o->memory == op || op->at.base == ESI)
			o->seg = address_of(insn, op).seg;
		break;
	case ZYDIS_OPERAND_TYPE_REGISTER:
		if (op->class == ZYDIS_REGCLASS_SEGMENT)
			o->reg = op->number;
		break;
	default:
		break;
	}
}

/* What the callout's comment in base/callout.def says beside the general operands. */
static void adjust(struct operands *o, const struct insn *insn)
{
	switch (insn->form->mnemonic) {
	case ZYDIS_MNEMONIC_INT3: o->ea = VEC_BP; o->extra = 1; break;
	case ZYDIS_MNEMONIC_INT1: o->ea = VEC_DB; o->extra = 1; break;
	case ZYDIS_MNEMONIC_INTO: o->ea = VEC_OF; o->extra = 1; break;
	case ZYDIS_MNEMONIC_IN: case ZYDIS_MNEMONIC_OUT:
		o->extra = insn->form->opcode < 0xE8; /* E4-E7 have the port as an immediate */
		break;
	case ZYDIS_MNEMONIC_LES: o->extra = SEG_ES; break;
	case ZYDIS_MNEMONIC_LDS: o->extra = SEG_DS; break;
	case ZYDIS_MNEMONIC_LSS: o->extra = SEG_SS; break;
	case ZYDIS_MNEMONIC_LFS: o->extra = SEG_FS; break;
	case ZYDIS_MNEMONIC_LGS: o->extra = SEG_GS; break;
	case ZYDIS_MNEMONIC_AAA: case ZYDIS_MNEMONIC_AAS: case ZYDIS_MNEMONIC_DAA: case ZYDIS_MNEMONIC_DAS: case ZYDIS_MNEMONIC_AAM:
	case ZYDIS_MNEMONIC_AAD:
		o->extra = insn->form->opcode;
		break;
	default:
		break;
	}
}

static struct operands operands_of(const struct insn *insn)
{
	struct operands o = {.ea = insn->imm[0], .extra = insn->imm[1]};

	if (insn->form->has_modrm) {
		o.reg = insn->form->modrm_reg;
		o.rm = insn->form->has_memory ? 0 : insn->form->modrm_rm;
	}
	for (unsigned i = 0; i < insn->form->operand_count; i++)
		scan_operand(&o, insn, &insn->form->op[i]);
	adjust(&o, insn);
	return o;
}

static uint32_t word_of(const struct insn *insn, const struct operands *o)
{
	return CALLOUT_ARG(insn->rule->callout, insn->length, o->reg, size_log2(insn), o->seg, insn->form->rep, insn->form->address_width == 16,
			   o->memory != NULL, o->rm);
}

uint32_t callout_word(const struct insn *insn)
{
	struct operands o = operands_of(insn);

	return word_of(insn, &o);
}

bool emit_callout(struct translation *t, const struct insn *insn)
{
	struct operands o = operands_of(insn);

	if (o.memory) {
		struct guest_mem m = access_of(insn, o.memory);
		access_ea(t, &m);
	} else {
		emit_mov_imm(&t->e, R8, o.ea);
	}
	emit_mov_imm(&t->e, R10, o.extra);
	emit_callout_word(t, insn->eip, word_of(insn, &o));
	if (!insn->rule->ends)
		return false;
	emit_exit(t, insn->eip + insn->length);
	return true;
}

/* SYSENTER and SYSEXIT: a callout, but mostly without C. */
bool emit_crossing(struct translation *t, const struct insn *insn)
{
	const struct translator_stubs *stubs = &t->in->stubs;

	if (t->in->mode & (MODE_ONE | MODE_THUNK | MODE_TF | MODE_DR7))
		return emit_callout(t, insn);
	callout_by(t, insn->eip, callout_word(insn), insn->rule->callout == CALLOUT_sysenter ? stubs->sysenter : stubs->sysexit);
	emit_exit(t, insn->eip + insn->length);
	return true;
}

bool emit_into(struct translation *t, const struct insn *insn)
{
	uint32_t over = emit_jcc(&t->e, 1); /* JNO */

	emit_callout(t, insn);
	emit_patch(&t->e, over);
	emit_exit(t, insn->eip + insn->length);
	return true;
}

bool emit_cli(struct translation *t, const struct insn *insn)
{
	if (!(t->in->mode & MODE_IOPL_OK))
		return emit_callout(t, insn);
	emit_store_imm(&t->e, VCPU(if_flag), 0, 1);
	return false;
}

/* Views follow every store to a page table: there is nothing stale to drop. The address is only named, not accessed: no limit is checked. */
bool emit_invlpg(struct translation *t, const struct insn *insn)
{
	return t->in->mode & MODE_CPL ? emit_callout(t, insn) : emit_nothing(t, insn);
}

bool emit_cld(struct translation *t, const struct insn *insn)
{
	(void)insn;
	emit_store_imm(&t->e, VCPU(df_flag), 0, 1);
	return false;
}

bool emit_std(struct translation *t, const struct insn *insn)
{
	(void)insn;
	emit_store_imm(&t->e, VCPU(df_flag), 1, 1);
	return false;
}

bool emit_rdtsc(struct translation *t, const struct insn *insn)
{
	return t->in->mode & MODE_TSD ? emit_callout(t, insn) : emit_generic(t, insn);
}

/* MOV r, Sreg: the virtual selector, zero-extended into 32 bits. To memory it is a callout. */
bool emit_mov_from_seg(struct translation *t, const struct insn *insn)
{
	if (insn->form->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return emit_callout(t, insn);
	unsigned seg = insn->form->op[1].number;
	bool wide = insn->form->op[0].class == ZYDIS_REGCLASS_GPR32;

	emit_op(&t->e, &(struct host_op){.opcode = wide ? 0xB7 : 0x8B, .map = wide ? MAP_0F : MAP_PLAIN, .p66 = !wide,
					 .reg = (uint8_t)host_gpr(insn->form->op[0].number), .rm = NO_REG,
					 .mem = vcpu_field(offsetof(struct vcpu, seg) + seg * sizeof(struct segment))});
	if (insn->form->op[0].number == ESP)
		esp_renew(t, insn->eip + insn->length);
	return false;
}

/* In real mode and V86 a load is the selector and its base: all else stays, with a limit below 4 GiB the class as well. That of SS is C's
 * business: no interrupt comes behind it. */
static bool loads_inline(const struct translation *t, unsigned seg)
{
	return !MODE_IS_PROTECTED(t->in->mode) && seg != SEG_SS && MODE_SEG(t->in->mode, seg) >= MODE_SEG_GENERAL;
}

/* The selector is R10D. The base comes last: what begins anew before reads through the old one. */
static void load_segment_inline(struct translation *t, unsigned seg)
{
	size_t segment = offsetof(struct vcpu, seg) + seg * sizeof(struct segment);

	emit_store(&t->e, vcpu_field(segment + offsetof(struct segment, selector)), R10, 2);
	emit_lea(&t->e, R9, mem_sum(R10, R10, 1, 0));
	emit_lea(&t->e, R9, mem_sum(NO_REG, R9, 8, 0));
	emit_store(&t->e, vcpu_field(segment + offsetof(struct segment, base)), R9, 4);
}

/* A selector into a register, zero-extended. */
static void load_selector(struct translation *t, const struct insn *insn, enum host_reg to)
{
	if (insn->form->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		emit_op(&t->e, &(struct host_op){.opcode = 0xB7, .map = MAP_0F, .reg = (uint8_t)to, .rm = (uint8_t)host_gpr(insn->form->op[1].number)});
	} else {
		struct guest_mem m = access_of(insn, &insn->form->op[1]);
		m.size = 2;
		emit_load(&t->e, to, access_emit(t, insn, &m, false), 2);
	}
}

/* Who knows how a load of this segment register went the last time; 0: nobody. */
static host_pc_t load_stub(const struct translation *t, unsigned seg)
{
	bool other = t->in->mode & (MODE_CPL | MODE_ONE | MODE_THUNK | MODE_TF | MODE_DR7);

	return MODE_IS_PROTECTED(t->in->mode) && !other ? t->in->stubs.load[seg] : 0;
}

bool emit_mov_to_seg(struct translation *t, const struct insn *insn)
{
	unsigned seg = insn->form->op[0].number;
	host_pc_t stub = load_stub(t, seg);

	if (stub) {
		load_selector(t, insn, R8);
		callout_by(t, insn->eip, CALLOUT_ARG(CALLOUT_mov_to_seg, insn->length, seg, 0, 0, 0, 0, 0, CALLOUT_RM_EA), stub);
		return false;
	}
	if (!loads_inline(t, seg))
		return emit_callout(t, insn);
	load_selector(t, insn, R10);
	load_segment_inline(t, seg);
	return false;
}

bool emit_pop_seg(struct translation *t, const struct insn *insn)
{
	unsigned seg = insn->form->op[0].number, size = insn->form->operand_width == 16 ? 2 : 4;
	struct guest_mem m = stack_top(t, 0, size, false);

	if (!loads_inline(t, seg))
		return emit_callout(t, insn);
	emit_load(&t->e, R10, access_emit(t, insn, &m, false), size);
	emit_op(&t->e, &(struct host_op){.opcode = 0xB7, .map = MAP_0F, .reg = R10, .rm = R10});
	load_segment_inline(t, seg);
	esp_add(t, insn->eip + insn->length, (int32_t)size);
	return false;
}
