#include "translator/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Instructions that CPUID does not show must decode as what they are without the extension: F3 BSF, NOPs instead of MPX and CET. */
static void decoder_make(ZydisDecoder *decoder, uint32_t mode, uint64_t features)
{
	static const struct { ZydisDecoderMode mode; uint64_t unless; } off[] = {
		{ZYDIS_DECODER_MODE_MPX, 0}, {ZYDIS_DECODER_MODE_CET, 0}, {ZYDIS_DECODER_MODE_LZCNT, FEATURE_BIT(FEATURE_LZCNT)},
		{ZYDIS_DECODER_MODE_TZCNT, FEATURE_BIT(FEATURE_BMI1)}, {ZYDIS_DECODER_MODE_WBNOINVD, 0}, {ZYDIS_DECODER_MODE_CLDEMOTE, 0},
		{ZYDIS_DECODER_MODE_KNC, 0},
	};
	bool cs32 = mode & MODE_CS32;

	ZydisDecoderInit(decoder, cs32 ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16,
			 mode & MODE_SS32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
	for (size_t i = 0; i < ARRAY_LEN(off); i++)
		if (!(features & off[i].unless))
			ZydisDecoderEnableMode(decoder, off[i].mode, ZYAN_FALSE);
}

/* Most of a system is code of one kind. */
static const ZydisDecoder *decoder_for(uint32_t mode, uint64_t features)
{
	static _Thread_local ZydisDecoder decoder;
	static _Thread_local uint32_t made_for_mode;
	static _Thread_local uint64_t made_for_features;
	uint32_t kind = (mode & (MODE_CS32 | MODE_SS32)) | MODE_PE; /* never 0: nothing was made yet */

	if (made_for_mode != kind || made_for_features != features) {
		decoder_make(&decoder, mode, features);
		made_for_mode = kind;
		made_for_features = features;
	}
	return &decoder;
}

int decode_insn(const struct translator_input *in, uint32_t offset, struct insn *insn)
{
	uint32_t left = in->length - offset;

	insn->eip = in->eip + offset;
	insn->bytes = in->bytes + offset;
	ZyanStatus status = ZydisDecoderDecodeFull(decoder_for(in->mode, in->features), insn->bytes, left, &insn->d, insn->op);
	if (status == ZYDIS_STATUS_NO_MORE_DATA)
		return -ENODATA;
	if (!ZYAN_SUCCESS(status)) {
		memset(&insn->d, 0, sizeof(insn->d));
		/* Any byte that was looked at may make it an instruction. */
		insn->length = (uint8_t)(left < ZYDIS_MAX_INSTRUCTION_LENGTH ? left : ZYDIS_MAX_INSTRUCTION_LENGTH);
		insn->rule = status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? &rule_too_long : &rule_undefined;
		return -EILSEQ;
	}
	insn->length = insn->d.length;
	insn->rule = rule_find(&insn->d, insn->op, in->mode, in->features);
	return 0;
}

uint32_t translator_length(const uint8_t *bytes, uint32_t length, uint32_t mode)
{
	struct translator_input in = {.bytes = bytes, .length = length, .mode = mode, .features = FEATURES_ALL};
	struct insn insn;

	return decode_insn(&in, 0, &insn) == 0 ? insn.length : 0;
}

static const char *operand_kind(const ZydisDecodedOperand *op)
{
	switch (op->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		switch (ZydisRegisterGetClass(op->reg.value)) {
		case ZYDIS_REGCLASS_GPR8: return op->reg.value >= ZYDIS_REGISTER_AH && op->reg.value <= ZYDIS_REGISTER_BH ? "r8h" : "r8";
		case ZYDIS_REGCLASS_GPR16: return "r16";
		case ZYDIS_REGCLASS_GPR32: return "r32";
		case ZYDIS_REGCLASS_SEGMENT: return "sreg";
		case ZYDIS_REGCLASS_MMX: return "mm";
		case ZYDIS_REGCLASS_XMM: return "xmm";
		case ZYDIS_REGCLASS_X87: return "st";
		case ZYDIS_REGCLASS_CONTROL: return "cr";
		case ZYDIS_REGCLASS_DEBUG: return "dr";
		default: return "reg";
		}
	case ZYDIS_OPERAND_TYPE_MEMORY: return "m";
	case ZYDIS_OPERAND_TYPE_POINTER: return "ptr";
	default: return "imm";
	}
}

void translator_form(const uint8_t *bytes, uint32_t length, uint32_t mode, char *name, size_t size)
{
	struct translator_input in = {.bytes = bytes, .length = length, .mode = mode, .features = FEATURES_ALL};
	struct insn insn;
	size_t used;

	if (decode_insn(&in, 0, &insn) != 0) {
		snprintf(name, size, "(undefined)");
		return;
	}
	snprintf(name, size, "%s%s%s", insn.d.attributes & ZYDIS_ATTRIB_HAS_LOCK ? "lock " : "",
		 insn.d.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE) ? "rep " : "",
		 ZydisMnemonicGetString(insn.d.mnemonic));
	for (unsigned i = 0; i < insn.d.operand_count_visible; i++) {
		used = strlen(name);
		snprintf(name + used, size - used, "%c%s%s", i ? ',' : ' ', operand_kind(&insn.op[i]),
			 insn.op[i].type == ZYDIS_OPERAND_TYPE_MEMORY ?
				 (insn.op[i].size == 8 ? "8" : insn.op[i].size == 16 ? "16" : insn.op[i].size == 32 ? "32" : "") : "");
	}
}
