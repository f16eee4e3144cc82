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

ZyanStatus decode_zydis(const uint8_t *bytes, uint32_t length, uint32_t mode, uint64_t features, ZydisDecodedInstruction *d, ZydisDecodedOperand *op)
{
	return ZydisDecoderDecodeFull(decoder_for(mode, features), bytes, length, d, op);
}

/* Zydis takes ten times as long for an instruction as all the rest of its translation. So what it says is remembered, by the bytes that it
 * depends on: the head, which is all before the displacement and the immediates, in 32-bit code less the address of an operand in memory, which we
 * read ourselves. Programs have some thousand heads. How long a head is, head_find() says from the opcode, and what Zydis finds when it sees a head for
 * the first time must agree, else nothing is remembered. */
#define FORMS 4096u
#define HEAD_MOST 7u
#define INDEX_BITS 13u
/* All of the mode that form_make() looks at. It is where a head has no bytes. */
#define MODE_KIND (MODE_CS32 | MODE_SS32 | MODE_PE | MODE_VM)
_Static_assert(MODE_KIND <= 0xFF && !(MODE_KIND & HEAD_MOST), "a key is a head's bytes, its length and the kind of code");

static _Thread_local struct {
	uint64_t features;
	uint32_t count;
	uint16_t index[1u << INDEX_BITS]; /* by hash of the key: number of a form, plus one */
	struct form forms[FORMS];
	uint32_t spare_count;
	struct form spare[TRANSLATOR_MAX_INSTRUCTIONS]; /* of what is not remembered: for one block */
} memo;

void decode_begin(const struct translator_input *in)
{
	memo.spare_count = 0;
	if (memo.features == in->features && memo.count <= FORMS - TRANSLATOR_MAX_INSTRUCTIONS)
		return;
	memo.features = in->features;
	memo.count = 0;
	memset(memo.index, 0, sizeof(memo.index));
}

/* Of opcodes of one byte and of two: P a prefix, M a ModRM byte follows, N none does (or, 3DNow, what is behind it chooses the instruction). */
enum { N, M, P };
#define X4(a) a, a, a, a
#define X8(a) X4(a), X4(a)
#define X16(a) X8(a), X8(a)
#define ARITHMETIC X4(M), X4(N)
static const uint8_t plain_opcodes[256] = {
	/* 00 */ ARITHMETIC, ARITHMETIC, ARITHMETIC, ARITHMETIC,
	/* 20 */ X4(M), N, N, P, N, X4(M), N, N, P, N, X4(M), N, N, P, N, X4(M), N, N, P, N,
	/* 40 */ X16(N), X16(N),
	/* 60 */ N, N, M, M, P, P, P, N, N, M, N, M, X4(N), X16(N),
	/* 80 */ X16(M), X16(N),
	/* A0 */ X16(N), X16(N),
	/* C0 */ M, M, N, N, M, M, M, M, X8(N), X4(M), X4(N), X8(M),
	/* E0 */ X16(N), P, N, P, P, N, N, M, M, X4(N), N, N, M, M,
};
static const uint8_t two_byte_opcodes[256] = {
	/* 00 */ X4(M), X4(N), N, N, N, N, N, M, N, N, X16(M),
	/* 20 */ X16(M), X16(N),
	/* 40 */ X16(M), X16(M),
	/* 60 */ X16(M), X4(M), M, M, M, N, X8(M),
	/* 80 */ X16(N), X16(M),
	/* A0 */ N, N, N, M, M, M, M, M, N, N, N, X4(M), M, X16(M),
	/* C0 */ X8(M), X8(N), X16(M),
	/* E0 */ X16(M), X16(M),
};

/* A head: all before displacement and immediates. In 32-bit code the address of an operand in memory, as ModRM and SIB name it, is none of it. */
struct head {
	uint64_t key;        /* 0: nothing is remembered of such a head */
	unsigned length;     /* with ModRM */
	bool addressed;      /* its last byte is ModRM with an address of 32 bits: in the key that of [EAX] */
};
#define MODRM_REG 0x38u
#define ADDRESS_MOST 5u /* bytes of SIB and displacement */
_Static_assert(INSN_BYTES >= ZYDIS_MAX_INSTRUCTION_LENGTH + sizeof(uint32_t), "fields are read as four bytes");
_Static_assert(HEAD_MOST - 1 + ADDRESS_MOST + sizeof(uint32_t) <= ZYDIS_MAX_INSTRUCTION_LENGTH, "no address makes an instruction too long");

/* A 67h prefix makes it too long: what follows ModRM is then another matter. */
static struct head head_find(const uint8_t *bytes, bool wide)
{
	unsigned n = 0;
	bool modrm;

	while (plain_opcodes[bytes[n]] == P && n < HEAD_MOST)
		n++;
	if (bytes[n] == 0x67)
		return (struct head){.length = HEAD_MOST + 1};
	if (bytes[n] != 0x0F)
		modrm = plain_opcodes[bytes[n++]] == M;
	else if (bytes[n + 1] == 0x38 || bytes[n + 1] == 0x3A)
		modrm = true, n += 3;
	else
		modrm = two_byte_opcodes[bytes[n + 1]] == M, n += 2;
	return (struct head){.length = n + modrm, .addressed = modrm && wide && bytes[n] < 0xC0};
}

static struct head head_of(const uint8_t *bytes, uint32_t mode)
{
	struct head h = head_find(bytes, mode & MODE_CS32);
	uint64_t key;

	if (h.length + h.addressed > HEAD_MOST)
		return (struct head){0};
	memcpy(&key, bytes, sizeof(key));
	key &= (1ull << 8 * h.length) - 1;
	if (h.addressed)
		key &= ~((uint64_t)(uint8_t)~MODRM_REG << 8 * (h.length - 1));
	h.key = key | (uint64_t)(h.length | (mode & MODE_KIND)) << 56;
	return h;
}

/* Where the index has this key, or would have it. It never fills up: there are twice as many places as forms. */
static uint16_t *place_of(uint64_t key)
{
	uint32_t i = (uint32_t)(key * 0x9E3779B97F4A7C15u >> (64 - INDEX_BITS));

	while (memo.index[i] && memo.forms[memo.index[i] - 1].head != key) i = (i + 1) % ARRAY_LEN(memo.index);
	return &memo.index[i];
}

static unsigned head_found(const ZydisDecodedInstruction *d)
{
	unsigned head = d->length;

	if (d->raw.disp.size)
		head = d->raw.disp.offset;
	else if (d->raw.imm[0].size)
		head = d->raw.imm[0].offset;
	return head;
}

static bool form_new(const struct translator_input *in, const uint8_t *bytes, uint32_t left, struct form *form, unsigned *head, ZyanStatus *status)
{
	ZydisDecodedInstruction d;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

	*status = decode_zydis(bytes, left, in->mode, in->features, &d, op);
	if (!ZYAN_SUCCESS(*status))
		return false;
	form_make(form, &d, op, in->mode, in->features);
	*head = head_found(&d);
	return true;
}

/* Are these bytes, as far as their operand in memory, what the host has for the form, and no more than that? */
static bool is_verbatim(const struct form *form, const uint8_t *bytes, unsigned head)
{
	uint8_t code[64];
	struct emitter e = {.start = code, .at = code, .end = code + sizeof(code)};
	struct host_op op = {.mem = mem_at(RAX, 0)};

	if (form->rule->emit != emit_generic || form->has_memory != form->addressed || form->uses_esp || form->writes_esp || form->writes_sp)
		return false;
	memcpy(&op, form->host, sizeof(form->host));
	emit_op(&e, &op);
	return !e.overflow && emit_offset(&e) == form->length && !memcmp(code, bytes, head);
}

static const struct form *form_keep(const struct form *form, uint64_t key)
{
	struct form *kept = &memo.forms[memo.count++];

	*kept = *form;
	kept->head = key;
	*place_of(key) = (uint16_t)memo.count;
	return kept;
}

/* The same instruction with [EAX] for its operand in memory. NULL if it is none then, or has no such operand. */
static const struct form *form_new_addressed(const struct translator_input *in, const uint8_t *bytes, struct head h)
{
	uint8_t plain[INSN_BYTES] = {0};
	struct form form;
	ZyanStatus status;
	unsigned head;

	memcpy(plain, bytes, h.length);
	plain[h.length - 1] &= MODRM_REG;
	if (!form_new(in, plain, sizeof(plain), &form, &head, &status) || head != h.length || !form.has_memory ||
	    form.memory.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
		return NULL;
	form.addressed = true;
	form.verbatim = is_verbatim(&form, plain, head);
	return form_keep(&form, h.key);
}

static const struct form *form_new_whole(const struct translator_input *in, const uint8_t *bytes, uint32_t left, struct head h, ZyanStatus *status)
{
	struct form *form = &memo.spare[memo.spare_count];
	unsigned head;

	if (!form_new(in, bytes, left, form, &head, status))
		return NULL;
	form->verbatim = is_verbatim(form, bytes, head);
	if (h.key && !h.addressed && head == h.length && left >= INSN_BYTES)
		return form_keep(form, h.key);
	memo.spare_count++;
	return form;
}

/* Of one byte at least. */
static uint32_t read_field(const uint8_t *bytes, struct field f)
{
	uint32_t value, unused = 32 - 8u * f.size;

	memcpy(&value, bytes + f.offset, sizeof(value));
	value <<= unused;
	return f.is_signed ? (uint32_t)((int32_t)value >> unused) : value >> unused;
}

/* Of ModRM and what follows; returns how many bytes that is. */
static unsigned read_address(const uint8_t *modrm, const struct form *form, struct insn *insn)
{
	unsigned mod = *modrm >> 6, base = *modrm & 7, disp = mod == 2 ? 4 : mod, sib = base == 4;
	const uint8_t *next = modrm + 1;
	struct address at = {.seg = form->memory.at.seg, .index = NO_REG, .scale = 1};

	if (sib) {
		unsigned index = *next >> 3 & 7;
		base = *next & 7;
		if (index != 4) {
			at.index = (uint8_t)index;
			at.scale = (uint8_t)(1u << (*next >> 6));
		}
		next++;
	}
	if (base == 5 && !mod)
		disp = 4;
	at.base = base == 5 && !mod ? NO_REG : (uint8_t)base;
	if ((at.base == ESP || at.base == EBP) && !form->names_segment)
		at.seg = SEG_SS;
	insn->at = at;
	insn->disp = disp ? (int32_t)read_field(next, (struct field){.size = disp & 7, .is_signed = 1}) : 0;
	return sib + disp;
}

static int decode_failed(ZyanStatus status, uint32_t left, struct insn *insn)
{
	static const struct form undefined = {.rule = &rule_undefined}, too_long = {.rule = &rule_too_long};

	if (status == ZYDIS_STATUS_NO_MORE_DATA)
		return -ENODATA;
	insn->form = status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? &too_long : &undefined;
	insn->rule = insn->form->rule;
	/* Any byte that was looked at may make it an instruction. */
	insn->length = (uint8_t)(left < ZYDIS_MAX_INSTRUCTION_LENGTH ? left : ZYDIS_MAX_INSTRUCTION_LENGTH);
	return -EILSEQ;
}

/* Of a head that is not remembered. NULL: there is no such instruction. */
static __attribute__((noinline)) const struct form *form_meet(const struct translator_input *in, const uint8_t *bytes, uint32_t left, struct head h, ZyanStatus *status)
{
	const struct form *form = h.key && h.addressed && left >= h.length ? form_new_addressed(in, bytes, h) : NULL;

	return form ? form : form_new_whole(in, bytes, left, h, status);
}

/* They are looked at here alone, whatever the guest's memory becomes meanwhile. */
static void take_bytes(struct insn *insn, const uint8_t *bytes, uint32_t left)
{
	if (left >= INSN_BYTES) {
		memcpy(insn->bytes, bytes, INSN_BYTES);
		return;
	}
	memset(insn->bytes, 0, INSN_BYTES);
	memcpy(insn->bytes, bytes, left);
}

int decode_insn(const struct translator_input *in, uint32_t offset, struct insn *insn)
{
	uint32_t left = in->length - offset;
	const uint8_t *bytes = insn->bytes;
	ZyanStatus status;

	insn->eip = in->eip + offset;
	take_bytes(insn, in->bytes + offset, left);
	struct head h = head_of(bytes, in->mode);
	uint16_t number = h.key ? *place_of(h.key) : 0;
	const struct form *form = number ? &memo.forms[number - 1] : form_meet(in, bytes, left, h, &status);
	if (!form)
		return decode_failed(status, left, insn);
	insn->form = form;
	insn->rule = form->rule;
	insn->disp = form->disp.size ? (int32_t)read_field(bytes, form->disp) : 0;
	unsigned address = form->addressed ? read_address(bytes + h.length - 1, form, insn) : 0;
	bytes += address;
	insn->length = (uint8_t)(form->length + address);
	insn->imm[0] = form->imm[0].size ? read_field(bytes, form->imm[0]) : 0;
	insn->imm[1] = form->imm[1].size ? read_field(bytes, form->imm[1]) : 0;
	return insn->length <= left ? 0 : -ENODATA;
}

uint32_t translator_length(const uint8_t *bytes, uint32_t length, uint32_t mode)
{
	ZydisDecodedInstruction d;

	return ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(decoder_for(mode, FEATURES_ALL), NULL, bytes, length, &d)) ? d.length : 0;
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
	ZydisDecodedInstruction d;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	size_t used;

	if (!ZYAN_SUCCESS(decode_zydis(bytes, length, mode, FEATURES_ALL, &d, op))) {
		snprintf(name, size, "(undefined)");
		return;
	}
	snprintf(name, size, "%s%s%s", d.attributes & ZYDIS_ATTRIB_HAS_LOCK ? "lock " : "",
		 d.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE) ? "rep " : "",
		 ZydisMnemonicGetString(d.mnemonic));
	for (unsigned i = 0; i < d.operand_count_visible; i++) {
		used = strlen(name);
		snprintf(name + used, size - used, "%c%s%s", i ? ',' : ' ', operand_kind(&op[i]),
			 op[i].type == ZYDIS_OPERAND_TYPE_MEMORY ?
				 (op[i].size == 8 ? "8" : op[i].size == 16 ? "16" : op[i].size == 32 ? "32" : "") : "");
	}
}
