/* The decoder remembers what Zydis said of an instruction's head and reads the numbers behind it itself: for every head the second instruction that has
 * it must be what Zydis says. */
#include <errno.h>
#include <string.h>

#include "tests/shim/test.h"
#include "translator/internal.h"
#include "translator_fixture.h"

static const uint32_t kinds[] = {MODE_FLAT, MODE_FLAT & ~MODE_CS32, MODE_FLAT & ~MODE_SS32, (MODE_FLAT & ~(MODE_CS32 | MODE_SS32)) | MODE_VM};

static uint8_t gpr_or_none(ZydisRegister r) { return r == ZYDIS_REGISTER_NONE ? NO_REG : (uint8_t)ZydisRegisterGetId(r); }

static bool is_written_number(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op->encoding != ZYDIS_OPERAND_ENCODING_NONE;
}

static bool operand_is(const struct insn *insn, const struct operand *o, const ZydisDecodedOperand *op)
{
	struct address at = address_of(insn, o);


	if (o->type != op->type || o->encoding != op->encoding || o->visibility != op->visibility || o->actions != op->actions || o->size != op->size)
		return false;
	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER)
		return o->class == ZydisRegisterGetClass(op->reg.value) && o->number == ZydisRegisterGetId(op->reg.value);
	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY)
		return at.base == gpr_or_none(op->mem.base) && at.index == gpr_or_none(op->mem.index) && at.scale == (op->mem.scale ? op->mem.scale : 1) &&
		       at.seg == (uint8_t)(op->mem.segment - ZYDIS_REGISTER_ES);
	return true;
}

static bool numbers_are(const struct insn *insn, const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op)
{
	unsigned k = 0;

	for (unsigned i = 0; i < d->operand_count; i++) {
		if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && op[i].encoding != ZYDIS_OPERAND_ENCODING_NONE && insn->disp != (int32_t)op[i].mem.disp.value)
			return false;
		if (op[i].type == ZYDIS_OPERAND_TYPE_POINTER && (insn->imm[0] != op[i].ptr.offset || insn->imm[1] != op[i].ptr.segment))
			return false;
		if (is_written_number(&op[i]) && insn->imm[k++] != (uint32_t)op[i].imm.value.u)
			return false;
	}
	return true;
}

/* Instructions that BMI, AMD or nobody has may have more operands than a form holds. */
static bool operands_are(const struct insn *insn, const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op)
{
	unsigned k = 0;

	for (unsigned i = 0; i < d->operand_count && k < FORM_OPERANDS; i++) {
		if (op[i].visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && op[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (!operand_is(insn, &insn->form->op[k++], &op[i]))
			return false;
	}
	return k == insn->form->operand_count;
}

/* All else that a form says: as if it had been made for this instruction alone. */
static bool form_is(const struct form *a, const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op, uint32_t mode, uint64_t features)
{
	static struct form b;

	form_make(&b, d, op, mode, features);
	return !memcmp(a->host, b.host, sizeof(a->host)) && a->unit == b.unit && a->isa_ext == b.isa_ext && a->branch_type == b.branch_type &&
	       a->high == b.high && a->has_memory == b.has_memory && a->has_modrm == b.has_modrm && a->lock == b.lock && a->uses_esp == b.uses_esp &&
	       a->writes_esp == b.writes_esp && a->writes_sp == b.writes_sp && a->uses_high_byte == b.uses_high_byte && a->modrm_reg == b.modrm_reg &&
	       (a->addressed || a->modrm_rm == b.modrm_rm) && a->rep == b.rep && a->memory.size == b.memory.size && a->memory.actions == b.memory.actions;
}

static void must_be_what_zydis_says(const uint8_t *bytes, uint32_t mode, uint64_t features)
{
	struct translator_input in = fixture_input(bytes, 32, mode);
	ZydisDecodedInstruction d;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	struct insn insn;

	in.features = features;
	decode_begin(&in);
	int err = decode_insn(&in, 0, &insn);
	bool good = ZYAN_SUCCESS(decode_zydis(bytes, 32, mode, features, &d, op));
	if (good)
		good = insn.length == d.length && insn.form->mnemonic == d.mnemonic && insn.rule == rule_find(&d, op, mode, features) &&
		       insn.form->operand_width == d.operand_width && insn.form->address_width == d.address_width && insn.form->opcode == d.opcode &&
		       operands_are(&insn, &d, op) && numbers_are(&insn, &d, op) && form_is(insn.form, &d, op, mode, features);
	else
		good = err == -EILSEQ;
	if (!good)
		FAIL("%02x %02x %02x %02x %02x %02x %02x %02x in mode %x", bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7], mode);
}

static uint32_t random_state = 1;

static uint32_t random_u32(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state >> 8 ^ random_state << 16;
}

/* Twice, with other numbers. */
static void try_head(const uint8_t *head, unsigned length, uint32_t mode, uint64_t features)
{
	for (unsigned round = 0; round < 2; round++) {
		uint8_t bytes[32];

		memcpy(bytes, head, length);
		for (unsigned i = length; i < sizeof(bytes); i++) bytes[i] = (uint8_t)random_u32();
		must_be_what_zydis_says(bytes, mode, features);
	}
}

static const uint8_t prefixes[][2] = {{0}, {0x66}, {0x67}, {0xF3}, {0xF2}, {0xF0}, {0x65}, {0x2E}, {0x66, 0xF2}, {0x66, 0xF3}, {0xF0, 0x66}, {0x67, 0x66}};
static const uint8_t maps[][2] = {{0}, {0x0F}, {0x0F, 0x38}, {0x0F, 0x3A}};

static void try_opcode(const uint8_t *prefix, const uint8_t *map, uint8_t opcode, uint32_t mode)
{
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		uint8_t head[8];
		unsigned n = 0;

		for (unsigned i = 0; i < 2 && prefix[i]; i++) head[n++] = prefix[i];
		for (unsigned i = 0; i < 2 && map[i]; i++) head[n++] = map[i];
		head[n++] = opcode;
		head[n++] = (uint8_t)modrm;
		head[n++] = (uint8_t)random_u32(); /* a SIB byte, or a number */
		try_head(head, n, mode, FEATURES_ALL);
	}
}

TEST(translator_decode, every_opcode_with_every_modrm_is_what_zydis_says)
{
	for (unsigned kind = 0; kind < ARRAY_LEN(kinds); kind++)
		for (unsigned p = 0; p < (kind ? 4 : ARRAY_LEN(prefixes)); p++)
			for (unsigned m = 0; m < ARRAY_LEN(maps); m++)
				for (unsigned opcode = 0; opcode < 256; opcode++) try_opcode(prefixes[p], maps[m], (uint8_t)opcode, kinds[kind]);
}

TEST(translator_decode, every_sib_is_what_zydis_says)
{
	static const uint8_t opcodes[][2] = {{0x8B}, {0x8D}, {0x81}, {0x80}, {0xD9}, {0x0F, 0xAF}, {0x0F, 0x6F}};

	for (unsigned i = 0; i < ARRAY_LEN(opcodes); i++)
		for (unsigned modrm = 4; modrm < 0xC0; modrm += 8)
			for (unsigned sib = 0; sib < 256; sib++) {
				uint8_t head[4] = {opcodes[i][0], opcodes[i][1]};
				unsigned n = opcodes[i][1] ? 2 : 1;

				head[n++] = (uint8_t)modrm;
				head[n++] = (uint8_t)sib;
				try_head(head, n, MODE_FLAT, FEATURES_ALL);
			}
}

/* What is remembered is of a guest with these features. */
TEST(translator_decode, features_are_not_mixed_up)
{
	static const uint8_t tzcnt[] = {0xF3, 0x0F, 0xBC, 0xC1}, popcnt[] = {0xF3, 0x0F, 0xB8, 0xC1};

	for (unsigned i = 0; i < 4; i++) {
		try_head(tzcnt, sizeof(tzcnt), MODE_FLAT, i & 1 ? FEATURES_ALL : 0);
		try_head(popcnt, sizeof(popcnt), MODE_FLAT, i & 1 ? FEATURES_ALL : 0);
	}
}

/* At the end of what may be looked at, an instruction is whole or it is none, whatever was remembered. */
TEST(translator_decode, nothing_is_read_behind_the_end)
{
	static const uint8_t add[] = {0x81, 0x84, 0x88, 1, 2, 3, 4, 5, 6, 7, 8};
	struct insn insn;

	for (uint32_t length = 64; length > 0; length--) {
		uint8_t bytes[64];
		struct translator_input in = fixture_input(bytes, length, MODE_FLAT);

		memset(bytes, 0x90, sizeof(bytes));
		memcpy(bytes, add, sizeof(add));
		decode_begin(&in);
		CHECK_EQ(decode_insn(&in, 0, &insn), length < sizeof(add) ? -ENODATA : 0);
		if (length >= sizeof(add)) {
			CHECK_EQ(insn.disp, 0x04030201);
			CHECK_EQ(insn.imm[0], 0x08070605);
		}
	}
}
