/* What the comparison must know of an instruction: whether the reference may run it, and which flags it leaves undefined. */
#include "runtime/verify_private.h"

#include <string.h>

#include "translator/translator.h"

#define BIT(r) (1u << (r))

struct prefixes {
	bool repeats, word, address, alone;
};

static uint32_t skip_prefixes(const uint8_t *b, uint32_t length, struct verify_insn *insn, struct prefixes *p)
{
	uint32_t i = 0;

	for (; i < length; i++) {
		switch (b[i]) {
		case 0x66: p->word = true; break;
		case 0xF0: insn->lock = true; break;
		case 0xF2:
		case 0xF3: p->repeats = true; break;
		case 0x26: insn->segment = SEG_ES; break;
		case 0x2E: insn->segment = SEG_CS; break;
		case 0x36: insn->segment = SEG_SS; break;
		case 0x3E: insn->segment = SEG_DS; break;
		case 0x64: insn->segment = SEG_FS; break;
		case 0x65: insn->segment = SEG_GS; break;
		case 0x67: p->address = true; break;
		default: return i;
		}
	}
	p->alone = true;
	return i;
}

static bool is_string(uint16_t op)
{
	return (op >= 0x6C && op <= 0x6F) || (op >= 0xA4 && op <= 0xA7) || (op >= 0xAA && op <= 0xAF);
}

static bool is_branch(uint16_t op, uint8_t modrm)
{
	return (op >= 0x70 && op <= 0x7F) || (op >= 0xE0 && op <= 0xE3) || (op >= 0xE8 && op <= 0xEB) || (op >= 0x180 && op <= 0x18F) ||
	       op == 0xC2 || op == 0xC3 || (op == 0xFF && (modrm >> 3 & 7) >= 2 && (modrm >> 3 & 7) <= 5);
}

static bool is_transfer(uint16_t op, uint8_t modrm)
{
	uint32_t kind = modrm >> 3 & 7;

	return (op >= 0xCA && op <= 0xCF) || op == 0x9A || op == 0xEA || op == 0xF1 || op == 0x134 || op == 0x135 || op == 0x10B ||
	       (op == 0xFF && (kind == 3 || kind == 5));
}

static void stop(struct verify_insn *insn, uint32_t gprs, bool flags)
{
	insn->stops = true;
	insn->gpr_changed = (uint8_t)gprs;
	insn->flags_changed = flags;
}

static bool may_lock(const struct verify_insn *insn)
{
	uint32_t op = insn->opcode, kind = insn->modrm >> 3 & 7;

	if (insn->modrm >= 0xC0)
		return false;
	if (op < 0x40)
		return (op & 7) < 2 && op < 0x38;
	if (op >= 0x80 && op <= 0x83)
		return kind != 7;
	return op == 0x86 || op == 0x87 || ((op == 0xF6 || op == 0xF7) && (kind == 2 || kind == 3)) || ((op == 0xFE || op == 0xFF) && kind < 2) ||
	       op == 0x1AB || op == 0x1B3 || op == 0x1BB || (op == 0x1BA && kind > 4) || op == 0x1B0 || op == 0x1B1 || op == 0x1C0 || op == 0x1C1 ||
	       (op == 0x1C7 && kind == 1);
}

static bool is_defined_two_byte(uint32_t op, uint32_t kind, bool memory)
{
	if (op == 0xBA)
		return kind >= 4;
	if (op == 0xC7)
		return kind == 1 && memory;
	return (op >= 0x10 && op <= 0x1F) || (op >= 0x28 && op <= 0x2F) || (op >= 0x40 && op <= 0x77) || (op >= 0x7C && op <= 0xA5) ||
	       (op >= 0xA8 && op <= 0xB7) || (op >= 0xBB && op <= 0xFE);
}

/* Is it in the instruction set that the monitor's CPUID shows, or nearly? */
static bool is_defined(const struct verify_insn *insn)
{
	uint32_t op = insn->opcode, kind = insn->modrm >> 3 & 7;

	if (op >= 0x300)
		return op == 0x30F;
	if (op >= 0x200)
		return op <= 0x20B || (op >= 0x21C && op <= 0x21E);
	if (op >= 0x100)
		return insn->stops || is_defined_two_byte(op & 0xFF, kind, insn->modrm < 0xC0);
	/* VEX, EVEX and XOP share their first byte with LES, LDS, BOUND and POP; LEA needs memory. */
	if ((op == 0xC4 || op == 0xC5 || op == 0x62 || op == 0x8D) && insn->modrm >= 0xC0)
		return false;
	if ((op == 0x8C || op == 0x8E) && (kind >= SEG_COUNT || (op == 0x8E && kind == SEG_CS)))
		return false;
	return !((op == 0xFE && kind > 1) || (op == 0xFF && kind == 7) || ((op == 0xC6 || op == 0xC7 || op == 0x8F) && kind != 0));
}

/* Instruction-set extensions that Unicorn's processor does not have, or not as the guest's: POPCNT, RDRAND, TZCNT, LZCNT, VEX, and the three-byte
 * opcodes beyond SSSE3; and SSE4A, which it has. */
static bool is_extension(const struct verify_insn *insn, bool repeats)
{
	uint32_t op = insn->opcode;

	if (op >= 0x200)
		return !is_defined(insn);
	return op == 0x1B8 || (repeats && (op == 0x1BC || op == 0x1BD || op == 0x12B || op == 0x178 || op == 0x179)) || (op == 0x1C7 && insn->modrm >= 0xF0) ||
	       (op == 0xC4 && insn->modrm >= 0xC0);
}

/* The segment of a ModRM operand where no prefix names one (vol. 1, table 3-5; vol. 2, tables 2-1 and 2-2). */
static unsigned default_segment(const struct verify_insn *insn, uint8_t sib, bool a16)
{
	unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;

	if (a16)
		return rm == 2 || rm == 3 || (rm == 6 && mod) ? SEG_SS : SEG_DS;
	unsigned base = rm == 4 ? sib & 7u : rm;
	return base == ESP || (base == EBP && mod) ? SEG_SS : SEG_DS;
}

static bool pushes(const struct verify_insn *insn)
{
	uint32_t op = insn->opcode, kind = insn->modrm >> 3 & 7;

	return (op >= 0x50 && op <= 0x57) || op == 0x06 || op == 0x0E || op == 0x16 || op == 0x1E || op == 0x60 || op == 0x68 || op == 0x6A || op == 0x9C ||
	       op == 0xC8 || op == 0xE8 || op == 0x1A0 || op == 0x1A8 || (op == 0xFF && (kind == 2 || kind == 6));
}

static bool pops(const struct verify_insn *insn)
{
	uint32_t op = insn->opcode;

	return (op >= 0x58 && op <= 0x5F) || op == 0x07 || op == 0x17 || op == 0x1F || op == 0x61 || op == 0x8F || op == 0x9D || op == 0xC2 || op == 0xC3 ||
	       op == 0xC8 || op == 0xC9 || op == 0x1A1 || op == 0x1A9;
}

/* Of an instruction with two accesses, one is a load and one a store; CMPS has two loads, the first of them from ES:EDI. */
static void find_segments(struct verify_insn *insn, uint8_t sib, bool a16)
{
	uint32_t op = insn->opcode;
	unsigned data = insn->segment != SEG_COUNT ? insn->segment : SEG_DS;

	insn->loads = insn->stores = (uint8_t)data;
	if (!is_string(op) && op != 0xD7 && op != 0x1F7 && !(op >= 0xA0 && op <= 0xA3) && insn->segment == SEG_COUNT)
		insn->loads = insn->stores = (uint8_t)default_segment(insn, sib, a16);
	if (op == 0xAE || op == 0xAF)
		insn->loads = SEG_ES;
	if (is_string(op))
		insn->stores = SEG_ES;
	if (pushes(insn))
		insn->stores = SEG_SS;
	insn->pops = pops(insn);
	if (insn->pops)
		insn->loads = SEG_SS;
}

/* Loads of segment registers that are no more than a selector and its base. */
static bool loads_inline(const struct verify_insn *insn, const struct vcpu *v)
{
	uint32_t op = insn->opcode, seg = insn->modrm >> 3 & 7;

	if (MODE_IS_PROTECTED(v->mode))
		return false;
	return op == 0x07 || op == 0x1F || op == 0x1A1 || op == 0x1A9 || (op == 0x8E && insn->modrm >= 0xC0 && (seg == SEG_ES || (seg >= SEG_DS && seg <= SEG_GS)));
}

/* What real mode and V86 have otherwise: Unicorn is in protected mode, at CPL 0. */
static void classify_unprotected(struct verify_insn *insn, const struct vcpu *v)
{
	bool checks_iopl = (v->mode & MODE_VM) && !(v->mode & MODE_IOPL_OK);

	if (loads_inline(insn, v)) {
		insn->stops = false;
		insn->emulated = true;
	}
	if (insn->opcode == 0x63 || ((insn->opcode == 0x9C || insn->opcode == 0x9D) && checks_iopl))
		stop(insn, BIT(ESP), true);
}

static void classify_one_byte(struct verify_insn *insn, const struct vcpu *v)
{
	uint32_t reg = insn->modrm >> 3 & 7, rm = insn->modrm >> 6 == 3 ? BIT(insn->modrm & 7) : 0;

	switch (insn->opcode) {
	case 0x06: case 0x0E: case 0x16: case 0x1E: insn->emulated = true; break;
	case 0x07: case 0x17: case 0x1F: stop(insn, BIT(ESP), false); break;
	case 0x6C: case 0x6D: case 0x6E: case 0x6F: stop(insn, BIT(ECX) | BIT(ESI) | BIT(EDI), false); break;
	case 0x8C:
		insn->emulated = rm != 0;
		if (!rm)
			stop(insn, 0, false);
		break;
	case 0x8E: stop(insn, 0, false); break;
	case 0x9A: case 0xEA: case 0xCA: case 0xCB: stop(insn, BIT(ESP), false); break;
	case 0xC4: case 0xC5: stop(insn, BIT(reg), false); break;
	case 0xCC: case 0xCD: case 0xCE: case 0xF1: stop(insn, BIT(ESP), false); break;
	case 0xCF: stop(insn, BIT(ESP), true); break;
	case 0xE4: case 0xE5: case 0xE6: case 0xE7: case 0xEC: case 0xED: case 0xEE: case 0xEF: stop(insn, BIT(EAX), false); break;
	case 0xF4: stop(insn, 0, false); break;
	case 0xFA: case 0xFB:
		if (!(v->mode & MODE_IOPL_OK))
			stop(insn, 0, false);
		break;
	case 0xFF:
		if (reg == 3 || reg == 5)
			stop(insn, BIT(ESP), false);
		break;
	default: break;
	}
}

static void classify_two_byte(struct verify_insn *insn)
{
	uint32_t reg = insn->modrm >> 3 & 7, rm = insn->modrm >> 6 == 3 ? BIT(insn->modrm & 7) : 0;

	switch (insn->opcode & 0xFF) {
	case 0x00: case 0x01: stop(insn, rm, true); break;
	case 0x02: case 0x03: stop(insn, BIT(reg), true); break;
	case 0x05: case 0x06: case 0x07: case 0x08: case 0x09: case 0x0B: stop(insn, 0, false); break;
	case 0x20: case 0x21: stop(insn, BIT(insn->modrm & 7), false); break;
	case 0x22: case 0x23: case 0x30: stop(insn, 0, false); break;
	case 0x31: case 0x32: case 0x33: stop(insn, BIT(EAX) | BIT(EDX), false); break;
	case 0x34: case 0x35: stop(insn, BIT(ESP), false); break;
	case 0xA2: stop(insn, BIT(EAX) | BIT(ECX) | BIT(EDX) | BIT(EBX), false); break;
	case 0xA0: case 0xA8: insn->emulated = true; break;
	case 0xA1: case 0xA9: stop(insn, BIT(ESP), false); break;
	case 0xB2: case 0xB4: case 0xB5: stop(insn, BIT(reg), false); break;
	case 0xAE:
		/* STMXCSR and the fences may run. */
		if (insn->modrm < 0xC0 ? reg != 3 : reg < 5)
			stop(insn, 0, false);
		break;
	default: break;
	}
}

static void classify_fpu(struct verify_insn *insn)
{
	uint32_t op = insn->opcode & 0xFF, reg = insn->modrm >> 3 & 7;
	bool memory = insn->modrm < 0xC0;

	if (insn->opcode >= 0xD8 && insn->opcode <= 0xDF) {
		insn->fpu = true;
		/* Environments hold the last instruction's address. */
		if (memory && ((op == 0xD9 && (reg == 4 || reg == 6)) || (op == 0xDD && (reg == 4 || reg == 6))))
			stop(insn, 0, false);
		insn->inexact = op == 0xD9 && insn->modrm >= 0xF0 && insn->modrm != 0xFA && insn->modrm != 0xFC && insn->modrm != 0xFD;
	} else if (insn->opcode >= 0x200) {
		insn->fpu = insn->sse = true;
	} else if (insn->opcode >= 0x100) {
		insn->sse = (op >= 0x10 && op <= 0x17) || (op >= 0x28 && op <= 0x2F) || (op >= 0x50 && op <= 0x7F) || op == 0xC2 ||
			    (op >= 0xC4 && op <= 0xC6) || op >= 0xD0;
		insn->fpu = insn->sse;
		/* Approximations: the processor's own table. */
		insn->inexact = op == 0x52 || op == 0x53;
	}
}

bool verify_decode(const uint8_t *bytes, uint32_t available, uint32_t eip, const struct vcpu *v, struct verify_insn *insn)
{
	struct prefixes prefixes = {.word = false};
	uint32_t length = translator_length(bytes, available, v->mode);

	*insn = (struct verify_insn){.eip = eip, .length = (uint8_t)length, .segment = SEG_COUNT};
	if (!length)
		return false;
	uint32_t i = skip_prefixes(bytes, length, insn, &prefixes);
	bool code16 = !(v->mode & MODE_CS32);
	if (prefixes.alone)
		return false;
	insn->word = prefixes.word != code16;
	insn->opcode = bytes[i++];
	if (insn->opcode == 0x0F && i < length) {
		insn->opcode = 0x100 | bytes[i++];
		if ((insn->opcode == 0x138 || insn->opcode == 0x13A) && i < length) {
			insn->opcode = (insn->opcode == 0x138 ? 0x200 : 0x300) | bytes[i];
			i++;
		}
	}
	insn->modrm = i < length ? bytes[i] : 0;
	insn->imm = bytes[length - 1];
	insn->rep = prefixes.repeats && is_string(insn->opcode);
	find_segments(insn, i + 1 < length ? bytes[i + 1] : 0, prefixes.address != code16);
	if (insn->opcode < 0x100)
		classify_one_byte(insn, v);
	else if (insn->opcode < 0x200)
		classify_two_byte(insn);
	if (!MODE_IS_PROTECTED(v->mode))
		classify_unprotected(insn, v);
	classify_fpu(insn);
	/* #NM and #UD of a lazily switched FPU are the monitor's to raise. */
	if ((insn->fpu || insn->sse || insn->opcode == 0x9B || insn->opcode == 0x177 || insn->opcode == 0x1AE) &&
	    (v->mode & (MODE_FPU_NM | MODE_FPU_WAIT_NM | MODE_SSE_UD | MODE_MMX_UD)))
		stop(insn, insn->opcode == 0xDF ? BIT(EAX) : 0, true);
	/* Rights of segments are not checked by Unicorn. */
	if (insn->segment != SEG_COUNT && MODE_SEG(v->mode, insn->segment) == MODE_SEG_GENERAL)
		stop(insn, 0xFF, true);
	/* Unicorn's ENTER loses the outer frames' pointers between load and store. */
	if (insn->opcode == 0xC8 && (insn->imm & 31) > 1)
		stop(insn, BIT(ESP) | BIT(EBP), false);
	/* POPA reads the word that it throws away, and Unicorn does not. */
	if (insn->opcode == 0x61 && MODE_SEG(v->mode, SEG_SS) == MODE_SEG_LIMIT)
		stop(insn, 0xFF, false);
	/* MASKMOVQ and MASKMOVDQU are checked whole, and Unicorn stores the bytes of the mask; which of them fault is the implementation's. */
	if (insn->opcode == 0x1F7)
		stop(insn, 0, false);
	/* Unicorn does not survive the translation of some undefined instructions. */
	if ((insn->lock && !may_lock(insn)) || !is_defined(insn)) {
		insn->emulated = false;
		stop(insn, 0, false);
	}
	if (is_extension(insn, prefixes.repeats))
		stop(insn, 0xFF, true);
	insn->transfers = is_transfer(insn->opcode, insn->modrm);
	insn->branches = is_branch(insn->opcode, insn->modrm);
	return true;
}

static uint32_t undefined_by_shift(const struct verify_insn *insn, uint32_t before)
{
	uint32_t op = insn->opcode, kind = insn->modrm >> 3 & 7;
	bool by_one = op == 0xD0 || op == 0xD1 || ((op == 0xC0 || op == 0xC1) && (insn->imm & 31) == 1);
	bool by_zero = (op == 0xC0 || op == 0xC1) && (insn->imm & 31) == 0;
	bool by_cl = op == 0xD2 || op == 0xD3;
	bool narrow = !(op & 1) || insn->word;
	uint32_t flags = by_one ? 0 : EFL_OF;

	if (by_zero)
		return before;
	/* Rotates leave SF ZF AF PF; shifts define all but AF, and CF is undefined once a narrow operand is shifted out whole. */
	if (kind >= 4)
		flags |= EFL_AF | (narrow && !by_one ? EFL_CF : 0);
	/* Unicorn's CF and OF after a shift of memory by CL are not to be trusted; the differential test has it from the processor. */
	if (by_cl && insn->modrm < 0xC0)
		flags |= EFL_CF | EFL_OF;
	if (by_cl)
		return before | flags;
	return (kind >= 4 ? 0 : before & ~(EFL_CF | EFL_OF)) | flags;
}

static uint32_t undefined_by_group3(const struct verify_insn *insn, uint32_t before)
{
	switch (insn->modrm >> 3 & 7) {
	case 0:
	case 1: return EFL_AF;
	case 2: return before;
	case 3: return 0;
	case 4:
	case 5: return EFL_SF | EFL_ZF | EFL_AF | EFL_PF;
	default: return EFL_ARITH;
	}
}

static uint32_t undefined_by_two_byte(const struct verify_insn *insn, uint32_t before)
{
	switch (insn->opcode & 0xFF) {
	case 0xA4: case 0xAC: case 0xA5: case 0xAD: return before | EFL_OF | EFL_AF | (insn->word ? EFL_ARITH : 0);
	case 0xAF: return EFL_SF | EFL_ZF | EFL_AF | EFL_PF;
	case 0xA3: case 0xAB: case 0xB3: case 0xBB: case 0xBA:
		return (before & ~EFL_CF) | EFL_OF | EFL_SF | EFL_AF | EFL_PF;
	case 0xBC: case 0xBD: return EFL_ARITH & ~EFL_ZF;
	case 0xB0: case 0xB1: case 0xC0: case 0xC1: case 0x2E: case 0x2F: return 0;
	case 0xC7: return before & ~EFL_ZF;
	default: return before;
	}
}

uint32_t verify_undefined_flags(const struct verify_insn *insn, uint32_t before)
{
	uint32_t op = insn->opcode, kind = insn->modrm >> 3 & 7;

	if (op >= 0x100)
		return op < 0x200 ? undefined_by_two_byte(insn, before) : before;
	if (op < 0x40 && (op & 7) < 6)
		kind = op >> 3;
	else if (op < 0x80 || op > 0x83) {
		switch (op) {
		case 0x27: case 0x2F: return EFL_OF;
		case 0x37: case 0x3F: return EFL_OF | EFL_SF | EFL_ZF | EFL_PF;
		case 0x69: case 0x6B: return EFL_SF | EFL_ZF | EFL_AF | EFL_PF;
		case 0x84: case 0x85: case 0xA8: case 0xA9: return EFL_AF;
		case 0x9E: return before & EFL_OF;
		case 0xA6: case 0xA7: case 0xAE: case 0xAF: return insn->rep ? before : 0;
		case 0xC0: case 0xC1: case 0xD0: case 0xD1: case 0xD2: case 0xD3: return undefined_by_shift(insn, before);
		case 0xD4: case 0xD5: return EFL_OF | EFL_AF | EFL_CF;
		case 0xF6: case 0xF7: return undefined_by_group3(insn, before);
		case 0xF5: case 0xF8: case 0xF9: return before & ~EFL_CF;
		case 0xFE: case 0xFF: return kind < 2 ? before & EFL_CF : before;
		default: return op >= 0x40 && op < 0x50 ? before & EFL_CF : before;
		}
	}
	/* or, and, xor leave AF undefined; the other five define all */
	return kind == 1 || kind == 4 || kind == 6 ? EFL_AF : 0;
}

/* Of the condition in an opcode's low four bits (vol. 1, appendix B.1). */
static uint32_t flags_of_condition(uint32_t op)
{
	static const uint16_t flags[] = {EFL_OF, EFL_CF, EFL_ZF, EFL_CF | EFL_ZF, EFL_SF, EFL_PF, EFL_SF | EFL_OF, EFL_SF | EFL_OF | EFL_ZF};

	return flags[op >> 1 & 7];
}

static uint32_t flags_deciding_two_byte(uint32_t op)
{
	return (op >= 0x140 && op <= 0x14F) || (op >= 0x180 && op <= 0x19F) ? flags_of_condition(op) : 0;
}

uint32_t verify_flags_deciding(const struct verify_insn *insn)
{
	static const uint16_t fcmov[] = {EFL_CF, EFL_ZF, EFL_CF | EFL_ZF, EFL_PF};
	uint32_t op = insn->opcode;
	bool is_row = op < 0x40 && (op & 7) < 6; /* a row of eight opcodes that names the operation itself */
	uint32_t kind = is_row ? op >> 3 : insn->modrm >> 3 & 7;

	if (op >= 0x100)
		return flags_deciding_two_byte(op);
	if (op >= 0x70 && op <= 0x7F)
		return flags_of_condition(op);
	switch (op) {
	case 0x27: case 0x2F: return EFL_CF | EFL_AF;
	case 0x37: case 0x3F: return EFL_AF;
	case 0x9F: return EFL_ARITH & ~EFL_OF;
	case 0xDA: case 0xDB: return insn->modrm >= 0xC0 && kind < 4 ? fcmov[kind] : 0;
	case 0xE0: case 0xE1: return EFL_ZF;
	case 0xD6: case 0xF5: return EFL_CF;
	default: break;
	}
	/* ADC, SBB, RCL, RCR */
	bool has_kind = is_row || (op >= 0x80 && op <= 0x83) || op == 0xC0 || op == 0xC1 || (op >= 0xD0 && op <= 0xD3);
	return has_kind && (kind == 2 || kind == 3) ? EFL_CF : 0;
}

static bool leaves_flags_alone(const struct verify_insn *insn)
{
	uint32_t op = insn->opcode, kind = insn->modrm >> 3 & 7;

	if (insn->stops)
		return false;
	if (op >= 0x100)
		return (insn->sse && op != 0x12E && op != 0x12F) || op == 0x1B6 || op == 0x1B7 || op == 0x1BE || op == 0x1BF || op == 0x11F ||
		       (op >= 0x1C8 && op <= 0x1CF);
	return (op >= 0x50 && op < 0x60) || op == 0x68 || op == 0x6A || (op >= 0x86 && op <= 0x8F) || (op >= 0x90 && op <= 0x99) ||
	       (op >= 0xA0 && op <= 0xA5) || (op >= 0xAA && op <= 0xAD) || (op >= 0xB0 && op <= 0xBF) || op == 0xC6 || op == 0xC7 || op == 0xC9 ||
	       (insn->fpu && op != 0xDA && op != 0xDB && op != 0xDF) || ((op == 0xF6 || op == 0xF7) && kind == 2) || (op == 0xFF && kind == 6);
}

void verify_flag_use(const struct verify_insn *insn, uint32_t *read, uint32_t *written)
{
	uint32_t op = insn->opcode, kind = insn->modrm >> 3 & 7;

	*read = *written = 0;
	if (leaves_flags_alone(insn))
		return;
	/* POPF's own compares are all that is in them when it is stopped half-way, and begins again. */
	if (op == 0x9D) {
		*written = EFL_ARITH;
		return;
	}
	if ((op < 0x40 && (op & 7) < 6) || (op >= 0x80 && op <= 0x83)) {
		*read = verify_flags_deciding(insn);
		*written = EFL_ARITH;
	} else if ((op >= 0x40 && op < 0x50) || ((op == 0xFE || op == 0xFF) && kind < 2)) {
		*written = EFL_ARITH & ~EFL_CF;
	} else if (op == 0x84 || op == 0x85 || op == 0xA8 || op == 0xA9 || op == 0x69 || op == 0x6B || op == 0x1AF || op == 0x1C1 ||
		   op == 0x1B1 || op == 0xF6 || op == 0xF7) {
		*written = EFL_ARITH;
	} else if ((op == 0xD0 || op == 0xD1 || ((op == 0xC0 || op == 0xC1) && (insn->imm & 31))) && kind >= 4) {
		*written = EFL_ARITH;
	} else {
		*read = EFL_ARITH;
	}
}
