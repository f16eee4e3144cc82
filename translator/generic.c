/* Innocuous instructions, which run as themselves. */
#include <string.h>

#include "translator/internal.h"

/* What CR0.EM, TS and CR4.OSFXSR say (vol. 3, 2.5 and 13.1); the vector to raise, or -1. */
int fpu_trap(uint32_t mode, const struct insn *insn)
{
	switch (insn->form->unit) {
	case UNIT_WAIT: return mode & MODE_FPU_WAIT_NM ? VEC_NM : -1;
	case UNIT_X87: return mode & MODE_FPU_NM ? VEC_NM : -1;
	case UNIT_MMX: return mode & MODE_MMX_UD ? VEC_UD : mode & MODE_FPU_NM ? VEC_NM : -1;
	case UNIT_SSE: return mode & MODE_SSE_UD ? VEC_UD : mode & MODE_FPU_NM ? VEC_NM : -1;
	default: return -1;
	}
}

static void set_high_byte(struct host_op *op, const struct operand *high, uint8_t number)
{
	if (high->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
		op->reg = number;
	else
		op->rm = number;
}

/* AH..DH where the encoding needs REX: a source is rotated into R10B; a destination is rotated in place and back. */
static void emit_with_high_byte(struct translation *t, const struct insn *insn, struct host_op *op, const struct operand *high, unsigned access)
{
	struct emitter *e = &t->e;
	unsigned gpr = high->number - 4;

	if (!(high->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)) {
		emit_rorx(e, R10, host_gpr(gpr), 8, false);
		set_high_byte(op, high, R10);
		emit_op(e, op);
		return;
	}
	emit_rorx(e, (enum host_reg)gpr, (enum host_reg)gpr, 8, false);
	row_add(t, UNDO_ROTATE + gpr, insn->eip, access);
	set_high_byte(op, high, (uint8_t)gpr);
	emit_op(e, op);
	row_add(t, UNDO_ROTATE + gpr, insn->eip + insn->length, 0);
	emit_rorx(e, (enum host_reg)gpr, (enum host_reg)gpr, 24, false);
}

/* Raise what x87, MMX or SSE state has of it before anything else, if it does. */
static bool raises_fpu_trap(struct translation *t, const struct insn *insn)
{
	int trap = fpu_trap(t->in->mode, insn);

	if (trap >= 0)
		emit_raise(t, insn, (unsigned)trap, false, 0);
	return trap >= 0;
}

bool emit_generic(struct translation *t, const struct insn *insn)
{
	const struct form *form = insn->form;
	const struct operand *high = form->high == NO_OPERAND ? NULL : &form->op[form->high];
	struct host_op op;

	if (raises_fpu_trap(t, insn))
		return true;
	if (form->verbatim && (!form->has_memory || access_is_verbatim(t, insn))) {
		if (form->has_memory)
			row_add_access(t, insn->eip, form->row);
		emit_encoded(&t->e, insn->bytes, insn->length);
		return false;
	}
	if (form->uses_esp)
		esp_flush(t, insn->eip);
	memcpy(&op, form->host, sizeof(form->host));
	op.imm = insn->imm[0];
	unsigned access = 0;
	if (form->has_memory) {
		struct guest_mem m = access_of(insn, &form->memory);
		/* A rotated register must not be part of the address. */
		op.mem = access_emit(t, insn, &m, high && (high->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE));
		access = t->out->row_count ? t->out->rows[t->out->row_count - 1].access : 0;
	}
	if (high && emit_needs_rex(&op))
		emit_with_high_byte(t, insn, &op, high, access);
	else
		emit_op(&t->e, &op);
	if (form->writes_esp)
		esp_renew(t, insn->eip + insn->length);
	if (form->writes_sp)
		t->esp_near = false;
	return false;
}

bool emit_nothing(struct translation *t, const struct insn *insn)
{
	(void)t;
	(void)insn;
	return false;
}

/* CLFLUSH, CLFLUSHOPT, CLWB: to be seen of a cache there is nothing, but the access faults as a load of a byte does (vol. 2, CLFLUSH). */
bool emit_flush(struct translation *t, const struct insn *insn)
{
	struct guest_mem m = access_of(insn, &insn->form->op[0]);

	m.size = 1;
	m.flush = true;
	emit_load(&t->e, R10, access_emit(t, insn, &m, false), 1);
	return false;
}

bool emit_lea_insn(struct translation *t, const struct insn *insn)
{
	struct guest_mem m = access_of(insn, &insn->form->op[1]);
	enum host_reg to = host_gpr(insn->form->op[0].number);
	bool wide = insn->form->operand_width == 32;

	/* What compilers fill gaps with. */
	if (wide && !m.a16 && m.base != ESP && m.base != NO_REG && host_gpr(m.base) == to && m.index == NO_REG && !m.disp)
		return false;
	if (wide && to == REG_GUEST_ESP && m.base == ESP && m.index == NO_REG && (t->in->mode & MODE_SS32)) {
		esp_move(t, m.disp);
		return false;
	}
	if (to == REG_GUEST_ESP)
		esp_flush(t, insn->eip);
	if (wide && !m.a16) {
		enum host_reg via = to == REG_GUEST_ESP && !access_is_low(t) ? R9 : to;
		emit_lea(&t->e, via, access_host_address(t, &m));
		if (to == REG_GUEST_ESP)
			esp_assign(t, via);
		return false;
	}
	access_ea(t, &m);
	if (wide && to == REG_GUEST_ESP) {
		esp_assign(t, R8);
		return false;
	}
	emit_op(&t->e, &(struct host_op){.opcode = 0x8B, .reg = (uint8_t)to, .rm = R8, .p66 = !wide});
	t->esp_near &= to != REG_GUEST_ESP;
	return false;
}

/* XLAT: AL = [seg:EBX + AL]. */
bool emit_xlat(struct translation *t, const struct insn *insn)
{
	struct guest_mem m = {.seg = SEG_DS, .size = 1, .base = EBX, .index = NO_REG, .scale = 1};

	for (unsigned i = 0; i < insn->form->operand_count; i++)
		if (insn->form->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			m.seg = access_of(insn, &insn->form->op[i]).seg;
	emit_op(&t->e, &(struct host_op){.opcode = 0xB6, .map = MAP_0F, .reg = R8, .rm = RAX});
	emit_lea(&t->e, R8, mem_sum(RBX, R8, 1, 0));
	if (insn->form->address_width == 16)
		emit_op(&t->e, &(struct host_op){.opcode = 0xB7, .map = MAP_0F, .reg = R8, .rm = R8});
	struct host_mem h = access_emit_r8(t, insn, &m);
	emit_op(&t->e, &(struct host_op){.opcode = 0x8A, .reg = RAX, .rm = NO_REG, .mem = h});
	return false;
}

/* BT, BTS, BTR, BTC with a memory bit base and a register offset reach 256 MiB either way: the address arithmetic becomes explicit,
 * and what remains is an offset within the operand. */
bool emit_bt_mem(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	bool wide = insn->form->operand_width == 32;
	struct guest_mem m = access_of(insn, &insn->form->op[0]);
	enum host_reg offset = host_gpr(insn->form->op[1].number);

	m.size = wide ? 4 : 2;
	access_ea(t, &m);
	emit_mov_imm(e, R9, wide ? 5 : 4);
	if (wide) {
		emit_sarx(e, R9, offset, R9);
	} else {
		emit_op(e, &(struct host_op){.opcode = 0xBF, .map = MAP_0F, .reg = R10, .rm = (uint8_t)offset});
		emit_sarx(e, R9, R10, R9);
	}
	emit_lea(e, R8, mem_sum(R8, R9, wide ? 4 : 2, 0));
	if (m.a16)
		emit_op(e, &(struct host_op){.opcode = 0xB7, .map = MAP_0F, .reg = R8, .rm = R8});
	struct host_mem h = access_emit_r8(t, insn, &m);
	/* The low five or four bits, by way of the top; PEXT would take Zen 1 and 2 some 40 operations. */
	emit_mov_imm(e, R11, wide ? 27 : 28);
	emit_rorx(e, R10, offset, wide ? 5 : 4, false);
	emit_shrx(e, R10, R10, R11);
	emit_op(e, &(struct host_op){.opcode = insn->form->opcode, .map = MAP_0F, .p66 = !wide, .reg = R10, .rm = NO_REG, .mem = h,
				     .lock = insn->form->lock});
	return false;
}

/* SALC: AL = CF ? FFh : 0, with no flag touched. */
bool emit_salc(struct translation *t, const struct insn *insn)
{
	(void)insn;
	emit_op(&t->e, &(struct host_op){.opcode = 0x92, .map = MAP_0F, .rm = R8});                       /* setb r8b */
	emit_op(&t->e, &(struct host_op){.opcode = 0xB6, .map = MAP_0F, .reg = R8, .rm = R8});            /* movzx r8d, r8b */
	emit_lea(&t->e, R8, mem_at(R8, -1));                                                             /* 0 -> -1, 1 -> 0 */
	emit_op(&t->e, &(struct host_op){.opcode = 0xF7, .reg = 2, .rm = R8});                            /* not r8d */
	emit_op(&t->e, &(struct host_op){.opcode = 0x8A, .reg = RAX, .rm = R8});                          /* mov al, r8b */
	return false;
}

/* LDMXCSR. Bits that FXSAVE's mask does not show are #GP(0) (vol. 1, 10.2.3); a host by AMD has one, which lets misaligned operands pass. */
bool emit_ldmxcsr(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	struct guest_mem m = access_of(insn, &insn->form->memory);

	if (raises_fpu_trap(t, insn))
		return true;
	emit_load(e, R8, access_emit(t, insn, &m, false), 4);
	emit_store(e, VCPU(spill), R8, 4);
	emit_mov_imm(e, R9, 0xFFFF0000u);
	access_raise_if_carry(t, insn->eip, mem_sum(R8, R9, 1, 0), VEC_GP);
	emit_op(e, &(struct host_op){.opcode = 0xAE, .map = MAP_0F, .reg = 2, .rm = NO_REG, .mem = VCPU(spill)});
	return false;
}

/* MASKMOVQ, MASKMOVDQU store through [EDI] without a ModRM address; at a window's end they were seen to wrap silently. Always
 * soft, with host RDI pointing at RAM for the one instruction. */
bool emit_maskmov(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	bool mmx = insn->form->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ;
	struct guest_mem m = {.seg = SEG_DS, .base = EDI, .index = NO_REG, .scale = 1, .a16 = insn->form->address_width == 16,
			      .size = mmx ? 8 : 16, .write = true, .keeps = true};
	struct host_op op = {.opcode = 0xF7, .map = MAP_0F, .p66 = !mmx, .reg = insn->form->modrm_reg, .rm = insn->form->modrm_rm};

	if (raises_fpu_trap(t, insn))
		return true;
	for (unsigned i = 0; i < insn->form->operand_count; i++)
		if (insn->form->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			m.seg = access_of(insn, &insn->form->op[i]).seg;
	access_ea(t, &m);
	access_lookup_r8(t, insn, &m);
	emit_mov64(e, R10, RDI);
	row_add(t, UNDO_RDI, insn->eip, 0);
	emit_mov64(e, RDI, R9);
	emit_op(e, &op);
	row_add(t, UNDO_RDI, insn->eip + insn->length, 0);
	emit_mov64(e, RDI, R10);
	return false;
}
