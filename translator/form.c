/* From Zydis' words to ours: what an instruction's bytes say apart from its numbers, and how the host writes it where it runs as itself:
 * re-encoded from the decode, so that stray prefixes cannot change its meaning in 64-bit mode. Only what that gives anyway may be copied (decode.c). */
#include <string.h>

#include "translator/internal.h"

static ZydisRegisterClass class_of(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER ? ZydisRegisterGetClass(op->reg.value) : ZYDIS_REGCLASS_INVALID;
}

/* By its registers: what uses an XMM register needs OSFXSR, what uses MMX registers alone does not, whichever extension it came with (vol. 3,
 * 24.25.3); fences, prefetches and what works on general registers obey none of CR0.EM, TS and OSFXSR. */
static enum unit unit_of(const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op)
{
	enum unit unit = UNIT_NONE;

	if (d->mnemonic == ZYDIS_MNEMONIC_FWAIT)
		return UNIT_WAIT;
	if (d->meta.isa_ext == ZYDIS_ISA_EXT_X87 || d->mnemonic == ZYDIS_MNEMONIC_FISTTP)
		return UNIT_X87;
	if (d->mnemonic == ZYDIS_MNEMONIC_LDMXCSR || d->mnemonic == ZYDIS_MNEMONIC_STMXCSR)
		return UNIT_SSE;
	if (d->mnemonic == ZYDIS_MNEMONIC_EMMS)
		return UNIT_MMX;
	for (unsigned i = 0; i < d->operand_count; i++) {
		if (class_of(&op[i]) == ZYDIS_REGCLASS_XMM)
			return UNIT_SSE;
		if (class_of(&op[i]) == ZYDIS_REGCLASS_MMX)
			unit = UNIT_MMX;
	}
	return unit;
}

static bool is_gpr(const ZydisDecodedOperand *op)
{
	ZydisRegisterClass c = class_of(op);

	return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32;
}

/* What matters of registers that no operand names is said of the form. */
static void note_register(struct form *form, const ZydisDecodedOperand *op)
{
	bool esp = op->reg.value == ZYDIS_REGISTER_ESP, sp = op->reg.value == ZYDIS_REGISTER_SP, writes = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

	form->uses_esp |= esp || sp;
	form->writes_esp |= esp && writes;
	form->writes_sp |= sp && writes;
	form->uses_high_byte |= op->reg.value >= ZYDIS_REGISTER_AH && op->reg.value <= ZYDIS_REGISTER_BH;
}

static uint8_t gpr_of(ZydisRegister r)
{
	return r == ZYDIS_REGISTER_NONE ? NO_REG : (uint8_t)ZydisRegisterGetId(r);
}

static struct operand operand_of(const ZydisDecodedOperand *op)
{
	struct operand o = {.type = (uint8_t)op->type, .encoding = (uint8_t)op->encoding, .visibility = (uint8_t)op->visibility,
			    .actions = op->actions, .size = op->size};

	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		o.class = (uint8_t)class_of(op);
		o.number = o.class == ZYDIS_REGCLASS_SEGMENT ? (uint8_t)(op->reg.value - ZYDIS_REGISTER_ES) : (uint8_t)ZydisRegisterGetId(op->reg.value);
	} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		o.at = (struct address){.seg = (uint8_t)(op->mem.segment - ZYDIS_REGISTER_ES), .base = gpr_of(op->mem.base), .index = gpr_of(op->mem.index),
					.scale = op->mem.scale ? op->mem.scale : 1};
		o.is_memory = op->mem.type == ZYDIS_MEMOP_TYPE_MEM;
	}
	return o;
}

static void take_operands(struct form *form, const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op)
{
	form->high = NO_OPERAND;
	for (unsigned i = 0; i < d->operand_count; i++) {
		bool named = op[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN;

		if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
			note_register(form, &op[i]);
		if (!(named || op[i].type == ZYDIS_OPERAND_TYPE_MEMORY) || form->operand_count == FORM_OPERANDS)
			continue;
		struct operand *o = &form->op[form->operand_count];
		*o = operand_of(&op[i]);
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
			form->memory = *o;
			form->has_memory = true;
		}
		if (is_high_byte(o) && o->encoding != ZYDIS_OPERAND_ENCODING_NONE)
			form->high = form->operand_count;
		form->operand_count++;
	}
}

static uint8_t rep_of(const ZydisDecodedInstruction *d)
{
	for (unsigned i = d->raw.prefix_count; i-- > 0;) {
		if (d->raw.prefixes[i].value == 0xF3)
			return 1;
		if (d->raw.prefixes[i].value == 0xF2)
			return 2;
	}
	return 0;
}

/* The number that goes into ModRM or the opcode: R13 stands for ESP; AH..DH keep 4..7, which mean them as long as there is no REX. */
static uint8_t register_number(const ZydisDecodedOperand *op)
{
	uint8_t id = gpr_of(op->reg.value);

	return class_of(op) == ZYDIS_REGCLASS_GPR8 ? id : (uint8_t)host_gpr(id);
}

static uint8_t map_of(const ZydisDecodedInstruction *d)
{
	switch (d->opcode_map) {
	case ZYDIS_OPCODE_MAP_0F: return MAP_0F;
	case ZYDIS_OPCODE_MAP_0F38: return MAP_0F38;
	case ZYDIS_OPCODE_MAP_0F3A: return MAP_0F3A;
	default: return MAP_PLAIN;
	}
}

/* Is 16 the size of an operand, so that the opcode needs the prefix here? In 16-bit code that is so without one. */
static bool has_word_operand(const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op)
{
	if (d->operand_width != 16 || unit_of(d, op) != UNIT_NONE)
		return false;
	for (unsigned i = 0; i < d->operand_count; i++)
		if (op[i].size == 16)
			return true;
	return false;
}

/* Only prefixes that mean something: a stray one may mean something else in 64-bit mode or on another processor. */
static void take_prefixes(struct host_op *host, const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op)
{
	host->p66 = has_word_operand(d, op);
	for (unsigned i = 0; i < d->raw.prefix_count; i++) {
		uint8_t value = d->raw.prefixes[i].value;
		ZydisPrefixType type = d->raw.prefixes[i].type;

		if (value == 0x66 && type == ZYDIS_PREFIX_TYPE_MANDATORY)
			host->p66 = true;
		if ((value == 0xF2 || value == 0xF3) && type == ZYDIS_PREFIX_TYPE_MANDATORY)
			host->rep = value;
	}
	host->lock = (d->attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0;
}

static void take_vex(struct host_op *host, const ZydisDecodedInstruction *d)
{
	static const uint8_t mandatory[] = {0, 0x66, 0xF3, 0xF2};

	host->vex = true;
	host->rep = mandatory[d->raw.vex.pp];
}

static void take_register(struct host_op *host, const ZydisDecodedOperand *op)
{
	if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
		host->reg = register_number(op);
	else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
		host->rm = register_number(op);
	else if (op->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
		host->vvvv = register_number(op);
	else if (op->encoding == ZYDIS_OPERAND_ENCODING_OPCODE) {
		host->opcode_reg = true;
		host->rm = register_number(op);
	}
}

/* Forms that 64-bit mode encodes differently. */
static void adapt_encoding(struct host_op *op)
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
}

static struct host_op host_form(const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op)
{
	struct host_op host = {.opcode = d->opcode, .map = map_of(d), .no_modrm = !(d->attributes & ZYDIS_ATTRIB_HAS_MODRM), .rm = NO_REG,
			       .imm_size = d->raw.imm[0].size / 8};
	bool memory = false;

	if (d->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		take_vex(&host, d);
	else
		take_prefixes(&host, d, op);
	if (!host.no_modrm) {
		host.reg = d->raw.modrm.reg;
		if (d->raw.modrm.mod == 3)
			host.rm = d->raw.modrm.rm;
	}
	for (unsigned i = 0; i < d->operand_count; i++) {
		memory |= op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && op[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;
		if (is_gpr(&op[i]))
			take_register(&host, &op[i]);
	}
	adapt_encoding(&host);
	if (memory)
		host.rm = NO_REG;
	return host;
}

static struct field field_of(uint8_t offset, unsigned bits, bool is_signed)
{
	return (struct field){.offset = offset & 15, .size = bits / 8 & 7, .is_signed = is_signed};
}

void form_make(struct form *form, const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op, uint32_t mode, uint64_t features)
{
	*form = (struct form){
		.rule = rule_find(d, op, mode, features),
		.mnemonic = (uint16_t)d->mnemonic, .length = d->length, .opcode = d->opcode,
		.has_modrm = (d->attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0, .modrm_reg = d->raw.modrm.reg, .modrm_rm = d->raw.modrm.rm,
		.operand_width = d->operand_width, .address_width = d->address_width,
		.lock = (d->attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0, .rep = rep_of(d),
		.names_segment = (d->attributes & ZYDIS_ATTRIB_HAS_SEGMENT) != 0,
		.isa_ext = (uint8_t)d->meta.isa_ext, .branch_type = (uint8_t)d->meta.branch_type, .unit = (uint8_t)unit_of(d, op),
		.disp = field_of(d->raw.disp.offset, d->raw.disp.size, true),
		.imm = {field_of(d->raw.imm[0].offset, d->raw.imm[0].size, d->raw.imm[0].is_signed),
			field_of(d->raw.imm[1].offset, d->raw.imm[1].size, d->raw.imm[1].is_signed)},
	};
	take_operands(form, d, op);
	struct host_op host = host_form(d, op);
	memcpy(form->host, &host, sizeof(form->host));
	form->row = form->has_memory ? access_row(form) & 63 : 0;
}
