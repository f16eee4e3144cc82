/* Innocuous instructions: re-encoded from the decode, never copied, so that stray prefixes cannot change their meaning in 64-bit mode. */
#include "translator/internal.h"

/* Whose exception conditions an instruction has. */
enum unit { UNIT_NONE, UNIT_WAIT, UNIT_X87, UNIT_MMX, UNIT_SSE };

/* By its registers: what uses an XMM register needs OSFXSR, what uses MMX registers alone does not, whichever extension it came with (vol. 3,
 * 24.25.3); fences, prefetches and what works on general registers obey none of CR0.EM, TS and OSFXSR. */
static enum unit unit_of(const struct insn *insn)
{
	enum unit unit = UNIT_NONE;

	if (insn->d.mnemonic == ZYDIS_MNEMONIC_FWAIT)
		return UNIT_WAIT;
	if (insn->d.meta.isa_ext == ZYDIS_ISA_EXT_X87 || insn->d.mnemonic == ZYDIS_MNEMONIC_FISTTP)
		return UNIT_X87;
	if (insn->d.mnemonic == ZYDIS_MNEMONIC_LDMXCSR || insn->d.mnemonic == ZYDIS_MNEMONIC_STMXCSR)
		return UNIT_SSE;
	if (insn->d.mnemonic == ZYDIS_MNEMONIC_EMMS)
		return UNIT_MMX;
	for (unsigned i = 0; i < insn->d.operand_count; i++) {
		if (insn->op[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		if (ZydisRegisterGetClass(insn->op[i].reg.value) == ZYDIS_REGCLASS_XMM)
			return UNIT_SSE;
		if (ZydisRegisterGetClass(insn->op[i].reg.value) == ZYDIS_REGCLASS_MMX)
			unit = UNIT_MMX;
	}
	return unit;
}

/* What CR0.EM, TS and CR4.OSFXSR say (vol. 3, 2.5 and 13.1); the vector to raise, or -1. */
int fpu_trap(uint32_t mode, const struct insn *insn)
{
	switch (unit_of(insn)) {
	case UNIT_WAIT: return mode & MODE_FPU_WAIT_NM ? VEC_NM : -1;
	case UNIT_X87: return mode & MODE_FPU_NM ? VEC_NM : -1;
	case UNIT_MMX: return mode & MODE_MMX_UD ? VEC_UD : mode & MODE_FPU_NM ? VEC_NM : -1;
	case UNIT_SSE: return mode & MODE_SSE_UD ? VEC_UD : mode & MODE_FPU_NM ? VEC_NM : -1;
	default: return -1;
	}
}

static bool is_gpr(const ZydisDecodedOperand *op)
{
	if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	ZydisRegisterClass c = ZydisRegisterGetClass(op->reg.value);
	return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32;
}

bool is_high_byte(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_AH && op->reg.value <= ZYDIS_REGISTER_BH;
}

static bool has_esp_operand(const struct insn *insn)
{
	for (unsigned i = 0; i < insn->d.operand_count; i++)
		if (is_gpr(&insn->op[i]) && (insn->op[i].reg.value == ZYDIS_REGISTER_ESP || insn->op[i].reg.value == ZYDIS_REGISTER_SP))
			return true;
	return false;
}

static bool writes(const struct insn *insn, ZydisRegister reg)
{
	for (unsigned i = 0; i < insn->d.operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && insn->op[i].reg.value == reg &&
		    (insn->op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			return true;
	return false;
}

/* The number that goes into ModRM or the opcode: R12 stands for ESP; AH..DH keep 4..7, which mean them as long as there is no REX. */
static uint8_t register_number(const ZydisDecodedOperand *op)
{
	uint8_t id = (uint8_t)gpr_of(op->reg.value);

	return ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_GPR8 ? id : (uint8_t)host_gpr(id);
}

static uint8_t map_of(const struct insn *insn)
{
	switch (insn->d.opcode_map) {
	case ZYDIS_OPCODE_MAP_0F: return MAP_0F;
	case ZYDIS_OPCODE_MAP_0F38: return MAP_0F38;
	case ZYDIS_OPCODE_MAP_0F3A: return MAP_0F3A;
	default: return MAP_PLAIN;
	}
}

/* Is 16 the size of an operand, so that the opcode needs the prefix here? In 16-bit code that is so without one. */
static bool has_word_operand(const struct insn *insn)
{
	if (insn->d.operand_width != 16 || unit_of(insn) != UNIT_NONE)
		return false;
	for (unsigned i = 0; i < insn->d.operand_count; i++)
		if (insn->op[i].size == 16)
			return true;
	return false;
}

/* Only prefixes that mean something: a stray one may mean something else in 64-bit mode or on another processor. */
static void take_prefixes(struct host_op *op, const struct insn *insn)
{
	op->p66 = has_word_operand(insn);
	for (unsigned i = 0; i < insn->d.raw.prefix_count; i++) {
		uint8_t value = insn->d.raw.prefixes[i].value;
		ZydisPrefixType type = insn->d.raw.prefixes[i].type;

		if (value == 0x66 && type == ZYDIS_PREFIX_TYPE_MANDATORY)
			op->p66 = true;
		if ((value == 0xF2 || value == 0xF3) && type == ZYDIS_PREFIX_TYPE_MANDATORY)
			op->rep = value;
	}
	op->lock = (insn->d.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0;
}

static void take_vex(struct host_op *op, const struct insn *insn)
{
	static const uint8_t mandatory[] = {0, 0x66, 0xF3, 0xF2};

	op->vex = true;
	op->rep = mandatory[insn->d.raw.vex.pp];
}

static void take_immediate(struct host_op *op, const struct insn *insn)
{
	op->imm_size = insn->d.raw.imm[0].size / 8;
	op->imm = 0;
	for (unsigned i = 0; i < op->imm_size; i++)
		op->imm |= (uint32_t)insn->bytes[insn->d.raw.imm[0].offset + i] << (8 * i);
}

/* Everything but the memory operand. The high byte register and its place are reported: it may collide with a REX prefix. */
static struct host_op host_form(const struct insn *insn, const ZydisDecodedOperand **memory, const ZydisDecodedOperand **high)
{
	const ZydisDecodedInstruction *d = &insn->d;
	struct host_op op = {.opcode = d->opcode, .map = map_of(insn), .no_modrm = !(d->attributes & ZYDIS_ATTRIB_HAS_MODRM), .rm = NO_REG};

	if (d->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		take_vex(&op, insn);
	else
		take_prefixes(&op, insn);
	take_immediate(&op, insn);
	if (!op.no_modrm) {
		op.reg = d->raw.modrm.reg;
		if (d->raw.modrm.mod == 3)
			op.rm = d->raw.modrm.rm;
	}
	for (unsigned i = 0; i < d->operand_count; i++) {
		const ZydisDecodedOperand *o = &insn->op[i];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			*memory = o;
		if (!is_gpr(o))
			continue;
		if (is_high_byte(o) && o->encoding != ZYDIS_OPERAND_ENCODING_NONE)
			*high = o;
		if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
			op.reg = register_number(o);
		else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			op.rm = register_number(o);
		else if (o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
			op.vvvv = register_number(o);
		else if (o->encoding == ZYDIS_OPERAND_ENCODING_OPCODE) {
			op.opcode_reg = true;
			op.rm = register_number(o);
		}
	}
	return op;
}

/* Forms that 64-bit mode encodes differently. */
static void adapt_encoding(struct host_op *op, const struct insn *insn)
{
	if (op->map != MAP_PLAIN)
		return;
	if (op->opcode >= 0x40 && op->opcode <= 0x4F) { /* INC/DEC r: FF /0, /1 */
		op->reg = op->opcode >= 0x48;
		op->opcode = 0xFF;
		op->no_modrm = op->opcode_reg = false;
	} else if (op->opcode >= 0xA0 && op->opcode <= 0xA3) { /* MOV moffs */
		op->opcode = op->opcode >= 0xA2 ? 0x88 + (op->opcode & 1) : 0x8A + (op->opcode & 1);
		op->no_modrm = false;
		op->reg = EAX;
		op->imm_size = 0;
	} else if (op->opcode == 0x82 && !op->no_modrm) {
		op->opcode = 0x80;
	}
	(void)insn;
}

static void set_high_byte(struct host_op *op, const ZydisDecodedOperand *high, uint8_t number)
{
	if (high->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
		op->reg = number;
	else
		op->rm = number;
}

/* AH..DH where the encoding needs REX: a source is rotated into R10B; a destination is rotated in place and back. */
static void emit_with_high_byte(struct translation *t, const struct insn *insn, struct host_op *op, const ZydisDecodedOperand *high, unsigned access)
{
	struct emitter *e = &t->e;
	unsigned gpr = gpr_of(high->reg.value) - 4;

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

bool emit_generic(struct translation *t, const struct insn *insn)
{
	const ZydisDecodedOperand *memory = NULL, *high = NULL;
	struct host_op op;
	int trap = fpu_trap(t->in->mode, insn);

	if (trap >= 0) {
		emit_raise(t, insn, (unsigned)trap, false, 0);
		return true;
	}
	if (has_esp_operand(insn))
		esp_flush(t, insn->eip);
	op = host_form(insn, &memory, &high);
	adapt_encoding(&op, insn);
	unsigned access = 0;
	if (memory) {
		struct guest_mem m = access_of(insn, memory);
		op.rm = NO_REG;
		/* A rotated register must not be part of the address. */
		op.mem = access_emit(t, insn, &m, high && (high->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE));
		access = t->out->row_count ? t->out->rows[t->out->row_count - 1].access : 0;
	}
	if (high && emit_needs_rex(&op))
		emit_with_high_byte(t, insn, &op, high, access);
	else
		emit_op(&t->e, &op);
	if (writes(insn, ZYDIS_REGISTER_ESP))
		esp_renew(t, insn->eip + insn->length);
	if (writes(insn, ZYDIS_REGISTER_SP))
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
	struct guest_mem m = access_of(insn, &insn->op[0]);

	m.size = 1;
	m.flush = true;
	emit_load(&t->e, R10, access_emit(t, insn, &m, false), 1);
	return false;
}

bool emit_lea_insn(struct translation *t, const struct insn *insn)
{
	struct guest_mem m = access_of(insn, &insn->op[1]);
	enum host_reg to = host_gpr(gpr_of(insn->op[0].reg.value));
	bool wide = insn->d.operand_width == 32;

	if (wide && to == REG_GUEST_ESP && m.base == ESP && m.index == NO_REG && (t->in->mode & MODE_SS32)) {
		esp_add(t, insn->eip + insn->length, m.disp);
		return false;
	}
	if (to == REG_GUEST_ESP)
		esp_flush(t, insn->eip);
	if (wide && !m.a16) {
		struct host_mem h = {.base = m.base == NO_REG ? NO_REG : (uint8_t)host_gpr(m.base),
				     .index = m.index == NO_REG ? NO_REG : (uint8_t)host_gpr(m.index), .scale = m.scale,
				     .disp = (int32_t)((uint32_t)m.disp + (m.base == ESP ? (uint32_t)t->esp : 0))};
		emit_lea(&t->e, to == REG_GUEST_ESP ? R9 : to, h);
		if (to == REG_GUEST_ESP)
			esp_assign(t, R9);
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

	for (unsigned i = 0; i < insn->d.operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			m.seg = access_of(insn, &insn->op[i]).seg;
	emit_op(&t->e, &(struct host_op){.opcode = 0xB6, .map = MAP_0F, .reg = R8, .rm = RAX});
	emit_lea(&t->e, R8, mem_sum(RBX, R8, 1, 0));
	if (insn->d.address_width == 16)
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
	bool wide = insn->d.operand_width == 32;
	struct guest_mem m = access_of(insn, &insn->op[0]);
	enum host_reg offset = host_gpr(gpr_of(insn->op[1].reg.value));

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
	emit_mov_imm(e, R10, wide ? 31 : 15);
	emit_pext(e, R10, offset, R10);
	emit_op(e, &(struct host_op){.opcode = insn->d.opcode, .map = MAP_0F, .p66 = !wide, .reg = R10, .rm = NO_REG, .mem = h,
				     .lock = (insn->d.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0});
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

/* MASKMOVQ, MASKMOVDQU store through [EDI] without a ModRM address; at a window's end they were seen to wrap silently. Always
 * soft, with host RDI pointing at RAM for the one instruction. */
bool emit_maskmov(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	bool mmx = insn->d.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ;
	struct guest_mem m = {.seg = SEG_DS, .base = EDI, .index = NO_REG, .scale = 1, .a16 = insn->d.address_width == 16,
			      .size = mmx ? 8 : 16, .write = true, .keeps = true};
	struct host_op op = {.opcode = 0xF7, .map = MAP_0F, .p66 = !mmx, .reg = insn->d.raw.modrm.reg, .rm = insn->d.raw.modrm.rm};
	int trap = fpu_trap(t->in->mode, insn);

	if (trap >= 0) {
		emit_raise(t, insn, (unsigned)trap, false, 0);
		return true;
	}
	for (unsigned i = 0; i < insn->d.operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			m.seg = access_of(insn, &insn->op[i]).seg;
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
