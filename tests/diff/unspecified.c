/* Differences that the manual allows: it leaves to the processor which of two faults of one instruction comes first, what happens at the end of
 * the address space, and what an instruction that faults has stored before. */
#include "faulting.h"

#include <string.h>

#include "base/x86.h"

#define NEAR 64u
#define ERROR_WRITE 2u /* of a page fault's error code */
#define MXCSR_SHOWN 0xFFFFu
#define MXCSR_MM 0x20000u /* AMD's manual, vol. 2, 11.3: misaligned operands pass */
#define FX_BYTES 288u /* FXSAVE's image with eight XMM registers (vol. 1, 10.5.1) */
#define FX_MXCSR_MASK 28u
#define FX_ALIGNMENT 16u
#define LAR_UNDEFINED 0xF0000u

bool faulting_decode(struct faulting *f, const struct diff_case *c, uint32_t eip)
{
	bool big = diff_segment(c->in.seg[SEG_CS])->big, big_stack = diff_segment(c->in.seg[SEG_SS])->big;
	uint32_t at = eip - c->in.eip;
	uint8_t bytes[16];
	ZydisDecoder decoder;

	if (at >= c->length)
		return false;
	/* What is behind a case's code is INT3. */
	memset(bytes, 0xCC, sizeof(bytes));
	memcpy(bytes, c->code + at, c->length - at < sizeof(bytes) ? c->length - at : sizeof(bytes));

	ZydisDecoderInit(&decoder, big ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16, big_stack ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, sizeof(bytes), &f->insn, f->operands));
}

static uint32_t register_value(const struct diff_state *s, ZydisRegister reg)
{
	ZyanI16 id = reg == ZYDIS_REGISTER_NONE ? -1 : ZydisRegisterGetId(reg);

	return id < 0 || id > 7 ? 0 : s->gpr[id];
}

/* BT and its kind with an offset in a register go on from the operand's address. */
static uint32_t bit_offset(const struct faulting *f, const struct diff_state *s)
{
	bool bits = f->insn.mnemonic == ZYDIS_MNEMONIC_BT || f->insn.mnemonic == ZYDIS_MNEMONIC_BTS || f->insn.mnemonic == ZYDIS_MNEMONIC_BTR ||
		    f->insn.mnemonic == ZYDIS_MNEMONIC_BTC;

	if (!bits || f->operands[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return 0;
	uint32_t offset = register_value(s, f->operands[1].reg.value);
	return f->insn.operand_width == 16 ? (uint32_t)((int16_t)offset >> 4) * 2 : (uint32_t)((int32_t)offset >> 5) * 4;
}

uint32_t faulting_address(const struct faulting *f, const ZydisDecodedOperand *o, const struct diff_state *s)
{
	uint32_t ea = register_value(s, o->mem.base) + register_value(s, o->mem.index) * o->mem.scale + (uint32_t)o->mem.disp.value;

	/* POP computes an address with ESP after it has added to it. */
	if (f->insn.mnemonic == ZYDIS_MNEMONIC_POP && o->mem.base == ZYDIS_REGISTER_ESP)
		ea += f->insn.operand_width / 8;
	ea += bit_offset(f, s);
	/* The address size is not the stack's. */
	bool narrow = o->mem.base == ZYDIS_REGISTER_SP || (f->insn.address_width == 16 && o->mem.base != ZYDIS_REGISTER_ESP);
	return narrow ? ea & 0xFFFF : ea;
}

/* ENTER: is the doubleword where ESP ends up over the end? It is looked at, and not accessed. */
static bool enters_at_end(const struct faulting *f, const struct diff_state *s)
{
	uint32_t width = f->insn.operand_width / 8u;

	if (f->insn.mnemonic != ZYDIS_MNEMONIC_ENTER)
		return false;
	uint32_t level = (uint32_t)f->operands[1].imm.value.u & 31, pushes = 1 + level;
	uint32_t esp = s->gpr[ESP] - pushes * width - (uint32_t)f->operands[0].imm.value.u;
	return esp + width - 1 < esp;
}

/* Volume 3, 5.3: with an effective limit of FFFFFFFFH, accesses that extend beyond it "may or may not cause the indicated exceptions". We wrap. */
static bool crosses_end(const struct faulting *f, const struct diff_state *s)
{
	bool by_ebp = f->insn.mnemonic == ZYDIS_MNEMONIC_ENTER || f->insn.mnemonic == ZYDIS_MNEMONIC_LEAVE;

	if ((by_ebp && s->gpr[EBP] + 2 * NEAR < 4 * NEAR) || enters_at_end(f, s))
		return true;
	for (unsigned i = 0; i < f->insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &f->operands[i];
		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		uint32_t ea = faulting_address(f, o, s), size = o->size / 8;
		/* Of a hidden one, on the stack or of a string, the size or the direction is not told. */
		if (o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ? ea + NEAR < 2 * NEAR : ea + size - 1 < ea)
			return true;
	}
	return false;
}

/* MOVUPS and its kind with alignment checking: what is aligned to 8 bytes, but not to 16, may raise #AC or not. */
static bool is_half_aligned(const struct faulting *f, const struct diff_state *s)
{
	for (unsigned i = 0; i < f->insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &f->operands[i];
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->size == 128)
			return s->vector == VEC_AC && !(faulting_address(f, o, s) & 7);
	}
	return false;
}

static bool is_access_fault(uint32_t vector)
{
	return vector == VEC_SS || vector == VEC_GP || vector == VEC_PF || vector == VEC_AC;
}

/* Volume 3, table 6-2: all of these are faults "on executing an instruction", of one class, and "exceptions within each class are
 * implementation-dependent". */
static bool other_fault_first(const struct diff_state *a, const struct diff_state *b)
{
	bool ours = is_access_fault(a->vector) || a->vector == VEC_MF, theirs = is_access_fault(b->vector) || b->vector == VEC_MF;

	return ours && theirs && !memcmp(a->gpr, b->gpr, sizeof(a->gpr));
}

/* ARPL of a read-only operand that it need not change: the manual has #GP of a segment, and does not say when there is a store. */
static bool is_arpl(const struct faulting *f, const struct diff_state *ours)
{
	bool of_write = ours->vector == VEC_GP || (ours->vector == VEC_PF && (ours->error & ERROR_WRITE));

	return f->insn.mnemonic == ZYDIS_MNEMONIC_ARPL && of_write;
}

/* REP INS and OUTS without a round: is the port looked at? */
static bool is_no_io(const struct faulting *f, const struct diff_state *s)
{
	bool io = f->insn.meta.category == ZYDIS_CATEGORY_IOSTRINGOP;

	return io && (f->insn.attributes & ZYDIS_ATTRIB_HAS_REP) && !(f->insn.address_width == 16 ? s->gpr[ECX] & 0xFFFF : s->gpr[ECX]);
}

/* Several accesses, of which some were made: a restart makes them again. */
static bool is_half_done(const struct faulting *f, const struct diff_state *a, const struct diff_state *b)
{
	switch (f->insn.mnemonic) {
	case ZYDIS_MNEMONIC_ENTER: case ZYDIS_MNEMONIC_PUSHA: case ZYDIS_MNEMONIC_PUSHAD: case ZYDIS_MNEMONIC_POPA: case ZYDIS_MNEMONIC_POPAD:
		return is_access_fault(b->vector) && a->vector == b->vector && a->error == b->error && a->gpr[ESP] == b->gpr[ESP];
	default:
		return false;
	}
}

/* Read or written in more than one piece. */
static bool has_parts(const struct faulting *f, const ZydisDecodedOperand *o)
{
	switch (f->insn.mnemonic) {
	case ZYDIS_MNEMONIC_BOUND: case ZYDIS_MNEMONIC_LES: case ZYDIS_MNEMONIC_LDS: case ZYDIS_MNEMONIC_LFS: case ZYDIS_MNEMONIC_LGS: case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_MASKMOVQ: case ZYDIS_MNEMONIC_MASKMOVDQU:
		return true;
	default:
		return o->size == 80 || f->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	}
}

/* Bounds, a far pointer (one that is jumped through, too), an 80-bit number or bytes under a mask whose 16-bit address is so near FFFFh that they go on
 * behind, in a segment that does: the processor seen (AMD) finds the rest of it at 0 again, that of a plain operand behind FFFFh. The manual does not say. */
static bool has_part_beyond(const struct faulting *f, const struct diff_state *s)
{
	for (unsigned i = 0; i < f->insn.operand_count && f->insn.address_width == 16; i++) {
		const ZydisDecodedOperand *o = &f->operands[i];
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && has_parts(f, o) && faulting_address(f, o, s) + o->size / 8 > 0x10000)
			return true;
	}
	return false;
}

/* What is no instruction has no length: the processor, which has more of VEX than the guest is shown, finds the limit of CS in the middle of it. */
static bool is_cut_vex(const struct diff_case *c, const struct diff_state *a, const struct diff_state *b)
{
	return a->vector == VEC_UD && is_access_fault(b->vector) && a->eip == b->eip && faulting_is_vex(c, a->eip);
}

/* A selector of the host's table that says which processor this is. */
static bool has_host_selector(const struct diff_state *s)
{
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) {
		if ((s->seg[i] & ~3) == HOST_CPU_SELECTOR)
			return true;
	}
	return false;
}

/* Where in a case's data a linear address is: page 0 shows the second half of them once more, the last page the first. */
static uint32_t data_offset(uint32_t linear)
{
	if (linear < DATA_SIZE / 2)
		return DATA_SIZE / 2 + linear;
	return linear - (linear >= EDGE_BASE ? EDGE_BASE : DATA_BASE);
}

/* LDMXCSR of the bit that processors by AMD have and the guest is not shown (translator/generic.c). */
static bool is_hidden_mxcsr(const struct diff_case *c, const struct diff_result *ours)
{
	const struct diff_state *s = &ours->out;
	struct faulting f;
	uint32_t value;

	if (s->vector != VEC_GP || !faulting_decode(&f, c, s->eip) || f.insn.mnemonic != ZYDIS_MNEMONIC_LDMXCSR)
		return false;
	const struct diff_segment *seg = diff_segment(s->seg[f.operands[0].mem.segment - ZYDIS_REGISTER_ES]);
	uint32_t at = data_offset(seg->base + faulting_address(&f, &f.operands[0], s));
	if (at > DATA_SIZE - sizeof(value))
		return false;
	memcpy(&value, ours->data + at, sizeof(value));
	return (value & 0xFFFF0000u) == MXCSR_MM;
}

/* A step in the middle of a string instruction: vol. 3, 17.3.1.1 has RF set in the image of an interrupt between iterations, and an interrupt of the host's
 * just there clears it. */
static bool is_step_in_repeat(const struct faulting *f, const struct diff_state *b)
{
	return b->vector == VEC_DB && (f->insn.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE));
}

/* CVTSD2SI and its kind into ESP that raise #XM: Zen 1 loses what pushes and pops just before did to ESP, which its stack engine has not added yet. */
static bool is_lost_push(const struct faulting *f, const struct diff_state *b)
{
	return b->vector == VEC_XM && f->operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER && f->operands[0].reg.value == ZYDIS_REGISTER_ESP;
}

static bool has_opcode(const struct diff_case *c, const char *opcode)
{
	return memmem(c->code, c->length, opcode, 2) != NULL;
}

static void take(uint32_t *ours, uint32_t theirs, uint32_t bits)
{
	*ours = (*ours & ~bits) | (theirs & bits);
}

/* An image of FXSAVE, by its MXCSR_MASK: all bits that the guest is shown, and for the processor AMD's one as well. */
static bool is_fxsave_image(const uint8_t *ours, const uint8_t *theirs)
{
	uint32_t a, b;

	memcpy(&a, ours + FX_MXCSR_MASK, sizeof(a));
	memcpy(&b, theirs + FX_MXCSR_MASK, sizeof(b));
	return a == MXCSR_SHOWN && (b & ~MXCSR_MM) == MXCSR_SHOWN;
}

/* The bit that the guest is not shown; and registers that the case has not set, which are not the same everywhere. */
static void take_fxsave_images(const struct diff_case *c, uint8_t *ours, const uint8_t *theirs)
{
	for (uint32_t at = 0; at <= DATA_SIZE - FX_BYTES; at += FX_ALIGNMENT) {
		if (is_fxsave_image(ours + at, theirs + at))
			memcpy(ours + at + FX_MXCSR_MASK, theirs + at + FX_MXCSR_MASK, c->fpu ? sizeof(uint32_t) : FX_BYTES - FX_MXCSR_MASK);
	}
}

/* Equal but for bits of a field: what LAR says of the limit's four bits is undefined, which processor this is (LSL) may have changed. */
static bool is_equal_but_for_fields(const struct diff_case *c, const struct faulting *f, const struct diff_result *ours, const struct diff_result *theirs)
{
	static struct diff_result same;
	const struct diff_state *b = &theirs->out;
	uint32_t loaded = (has_opcode(c, "\x0F\x02") ? LAR_UNDEFINED : 0) | (has_opcode(c, "\x0F\x03") ? HOST_CPU_MOST : 0);

	same = *ours;
	for (unsigned i = 0; i < 8; i++)
		take(&same.out.gpr[i], b->gpr[i], loaded);
	if (f && is_step_in_repeat(f, b))
		take(&same.out.eflags, b->eflags, EFL_RF);
	if (f && is_lost_push(f, b))
		take(&same.out.gpr[ESP], b->gpr[ESP], ~0u);
	if (has_opcode(c, "\x0F\xAE"))
		take_fxsave_images(c, same.data, theirs->data);
	return diff_equal(c, &same, theirs);
}

bool diff_is_unspecified(const struct diff_case *c, const struct diff_result *ours, const struct diff_result *theirs)
{
	struct faulting f;
	const struct diff_state *a = &ours->out, *b = &theirs->out;

	if (has_host_selector(b) || is_hidden_mxcsr(c, ours) || (faulting_decode(&f, c, a->eip) && is_arpl(&f, a)) || diff_is_of_mode(c, a) || is_cut_vex(c, a, b))
		return true;
	bool decoded = faulting_decode(&f, c, b->eip);
	if (is_equal_but_for_fields(c, decoded ? &f : NULL, ours, theirs))
		return true;
	if (!decoded)
		return false;
	if (is_access_fault(b->vector) && (crosses_end(&f, b) || is_half_aligned(&f, b)))
		return true;
	if (is_no_io(&f, b) || has_part_beyond(&f, b))
		return true;
	return a->eip == b->eip && (other_fault_first(a, b) || is_half_done(&f, a, b));
}
