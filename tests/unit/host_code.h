/* What host code may be: an independent check of what the translator emits. It knows the register convention of base/abi.h and the
 * side table, and nothing of how the translator works; it decodes the code as 64-bit mode does and refuses whatever could reach memory
 * that is not the guest's, or leave the block other than by its stubs. host_code_access.h knows the memory operands. */
#ifndef TESTS_UNIT_HOST_CODE_H
#define TESTS_UNIT_HOST_CODE_H

#include <string.h>

#include <Zydis/Zydis.h>

#include "base/abi.h"
#include "base/callout.h"
#include "translator/translator.h"

#define HOST_INSNS_MAX 8192u

struct host_insn {
	ZydisDecodedInstruction d;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint32_t at, end;     /* offsets in the block */
	bool branches;        /* relative, to `target` */
	host_pc_t target;
	bool is_target;       /* of a branch within the block */
	bool reached;         /* host_code_upper.h's: */
	uint32_t zero;        /* registers whose upper half is zero before it */
};

struct host_code {
	const struct translator_input *in;
	const struct translator_output *out;
	uint32_t count;
	struct host_insn insn[HOST_INSNS_MAX];
	uint16_t index_at[TRANSLATOR_MAX_BYTES + 1]; /* 1 + index of the instruction that begins here, or 0 */
	const char *wrong;
	uint32_t wrong_at;
};

static inline bool host_refuse(struct host_code *c, uint32_t at, const char *why)
{
	if (!c->wrong) {
		c->wrong = why;
		c->wrong_at = at;
	}
	return false;
}

static inline struct host_insn *host_insn_at(struct host_code *c, uint64_t offset)
{
	if (offset >= c->out->code_length || !c->index_at[offset])
		return NULL;
	return &c->insn[c->index_at[offset] - 1];
}

static inline const struct side_row *host_row(const struct host_code *c, uint32_t offset)
{
	const struct side_row *found = NULL;

	for (uint32_t i = 0; i < c->out->row_count && c->out->rows[i].host_offset <= offset; i++)
		found = &c->out->rows[i];
	return found;
}

static inline bool host_decode(struct host_code *c)
{
	ZydisDecoder decoder;
	const uint8_t *bytes = c->in->code;
	uint32_t length = c->out->code_length;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	memset(c->index_at, 0, sizeof(c->index_at[0]) * (length + 1));
	c->count = 0;
	for (uint32_t at = 0; at < length;) {
		struct host_insn *i = &c->insn[c->count];
		if (c->count == HOST_INSNS_MAX)
			return host_refuse(c, at, "too many instructions for this check");
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes + at, length - at, &i->d, i->op)))
			return host_refuse(c, at, "no instruction");
		i->at = at;
		i->end = at + i->d.length;
		i->branches = i->d.raw.imm[0].is_relative;
		i->is_target = i->reached = false;
		if (i->branches)
			i->target = c->in->code_pc + i->end + (uint64_t)i->d.raw.imm[0].value.s;
		c->index_at[at] = (uint16_t)++c->count;
		at = i->end;
	}
	return c->count != 0 || host_refuse(c, 0, "empty");
}

/* --- instructions by themselves --- */

static inline bool host_base_allowed(ZydisMnemonic m)
{
	switch (m) {
#define A(name) case ZYDIS_MNEMONIC_##name:
	A(ADC) A(ADD) A(AND) A(BSF) A(BSR) A(BSWAP) A(BT) A(BTC) A(BTR) A(BTS) A(CALL) A(CBW) A(CDQ) A(CLC) A(CMC) A(CMP) A(CMPXCHG)
	A(CMPXCHG8B) A(CWD) A(CWDE) A(DEC) A(DIV) A(IDIV) A(IMUL) A(INC) A(JB) A(JBE) A(JECXZ) A(JL) A(JLE) A(JMP) A(JNB) A(JNBE) A(JNL)
	A(JNLE) A(JNO) A(JNP) A(JNS) A(JNZ) A(JO) A(JP) A(JRCXZ) A(JS) A(JZ) A(LAHF) A(LEA) A(MOV) A(MOVSX) A(MOVZX) A(MUL) A(NEG) A(NOT)
	A(OR) A(PAUSE) A(RCL) A(RCR) A(RDTSC) A(RET) A(ROL) A(ROR) A(SAHF) A(SAR) A(SBB) A(SETB) A(SETBE) A(SETL) A(SETLE) A(SETNB)
	A(SETNBE) A(SETNL) A(SETNLE) A(SETNO) A(SETNP) A(SETNS) A(SETNZ) A(SETO) A(SETP) A(SETS) A(SETZ) A(SHL) A(SHLD) A(SHR) A(SHRD)
	A(STC) A(SUB) A(TEST) A(XADD) A(XCHG) A(XOR)
	A(CMOVB) A(CMOVBE) A(CMOVL) A(CMOVLE) A(CMOVNB) A(CMOVNBE) A(CMOVNL) A(CMOVNLE) A(CMOVNO) A(CMOVNP) A(CMOVNS) A(CMOVNZ) A(CMOVO)
	A(CMOVP) A(CMOVS) A(CMOVZ)
	A(LZCNT) A(TZCNT) A(MOVBE) A(RDRAND) A(RDSEED) A(ADCX) A(ADOX)
		return true;
	default:
		return false;
	}
}

/* BMI on general registers; nothing else is VEX-encoded. */
static inline bool host_vex_allowed(ZydisMnemonic m)
{
	switch (m) {
	A(ANDN) A(BEXTR) A(BLSI) A(BLSMSK) A(BLSR) A(BZHI) A(MULX) A(PDEP) A(PEXT) A(RORX) A(SARX) A(SHLX) A(SHRX)
		return true;
	default:
		return false;
	}
}

/* x87, MMX and SSE have their own registers and no other way to memory than their operand; these touch more than that. */
static inline bool host_simd_allowed(ZydisMnemonic m)
{
	switch (m) {
	A(FXSAVE) A(FXRSTOR) A(FNSAVE) A(FRSTOR) A(FNSTENV) A(FLDENV) A(FXSAVE64) A(FXRSTOR64) A(MONITOR) A(MWAIT)
		return false;
#undef A
	default:
		return true;
	}
}

/* REP MOVS and REP STOS: host_code_access.h looks at what stands around them. */
static inline bool host_repeats(const struct host_insn *i)
{
	ZydisMnemonic m = i->d.mnemonic;
	bool moves = m == ZYDIS_MNEMONIC_MOVSB || m == ZYDIS_MNEMONIC_MOVSW || (m == ZYDIS_MNEMONIC_MOVSD && i->d.opcode == 0xA5);

	return (i->d.attributes & ZYDIS_ATTRIB_HAS_REP) &&
	       (moves || m == ZYDIS_MNEMONIC_STOSB || m == ZYDIS_MNEMONIC_STOSW || m == ZYDIS_MNEMONIC_STOSD);
}

static inline bool host_mnemonic_allowed(const struct host_insn *i)
{
	if (i->d.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		return host_vex_allowed(i->d.mnemonic);
	if (i->d.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return false;
	switch (i->d.meta.isa_ext) {
	case ZYDIS_ISA_EXT_X87: case ZYDIS_ISA_EXT_MMX: case ZYDIS_ISA_EXT_SSE: case ZYDIS_ISA_EXT_SSE2: case ZYDIS_ISA_EXT_SSE3:
	case ZYDIS_ISA_EXT_SSSE3: case ZYDIS_ISA_EXT_SSE4: case ZYDIS_ISA_EXT_AES: case ZYDIS_ISA_EXT_PCLMULQDQ: case ZYDIS_ISA_EXT_SHA:
		return host_simd_allowed(i->d.mnemonic);
	default:
		return host_base_allowed(i->d.mnemonic) || host_repeats(i);
	}
}

static inline bool host_has_memory(const struct host_insn *i, bool gs)
{
	for (unsigned k = 0; k < i->d.operand_count; k++)
		if (i->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY && i->op[k].mem.type != ZYDIS_MEMOP_TYPE_AGEN && (!gs || i->op[k].mem.segment == ZYDIS_REGISTER_GS))
			return true;
	return false;
}

/* Every prefix must be there for a reason. */
static inline bool host_prefix_allowed(const struct host_insn *i, uint8_t value, ZydisPrefixType type)
{
	switch (value) {
	case 0x65: return host_has_memory(i, true);
	case 0x67: return host_has_memory(i, false) || i->d.mnemonic == ZYDIS_MNEMONIC_JECXZ;
	case 0x66: return type == ZYDIS_PREFIX_TYPE_MANDATORY || i->d.operand_width == 16;
	case 0xF0: return (i->d.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0;
	case 0xF2: return type == ZYDIS_PREFIX_TYPE_MANDATORY;
	case 0xF3: return type == ZYDIS_PREFIX_TYPE_MANDATORY || host_repeats(i);
	default: return (value & 0xF0) == 0x40;
	}
}

/* REX.X and VEX.X mean nothing without an index: they are never set. */
static inline bool host_has_useless_x(const struct host_insn *i)
{
	bool x = i->d.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? !i->d.raw.vex.X : i->d.raw.rex.X;

	for (unsigned k = 0; x && k < i->d.operand_count; k++)
		if (i->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY && i->op[k].mem.index != ZYDIS_REGISTER_NONE)
			x = false;
	return x;
}

static inline bool host_prefixes_allowed(const struct host_insn *i)
{
	if (host_has_useless_x(i))
		return false;
	for (unsigned k = 0; k < i->d.raw.prefix_count; k++)
		if (!host_prefix_allowed(i, i->d.raw.prefixes[k].value, i->d.raw.prefixes[k].type))
			return false;
	return true;
}

static inline ZydisRegister host_enclosing(ZydisRegister r)
{
	return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r);
}

static inline bool host_is_gpr(ZydisRegister r)
{
	ZydisRegisterClass c = ZydisRegisterGetClass(r);

	return c >= ZYDIS_REGCLASS_GPR8 && c <= ZYDIS_REGCLASS_GPR64;
}

static inline bool host_register_class_allowed(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_X87: case ZYDIS_REGCLASS_MMX:
		return true;
	case ZYDIS_REGCLASS_XMM:
		return ZydisRegisterGetId(r) < 8; /* the others are the monitor's */
	default:
		return host_is_gpr(r);
	}
}

/* RSP, R12, R14 and R15 carry what safety rests on. Only call, ret and the shift count in R14 name them. */
static inline bool host_register_allowed(const struct host_insn *i, const ZydisDecodedOperand *op)
{
	bool hidden = op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;

	if (hidden && !host_is_gpr(op->reg.value))
		return true; /* flags, RIP, MXCSR, x87 status */
	if (!host_register_class_allowed(op->reg.value))
		return false;
	switch (host_enclosing(op->reg.value)) {
	case ZYDIS_REGISTER_RSP:
		return hidden && (i->d.mnemonic == ZYDIS_MNEMONIC_CALL || i->d.mnemonic == ZYDIS_MNEMONIC_RET);
	case ZYDIS_REGISTER_R14:
		return i->d.mnemonic == ZYDIS_MNEMONIC_SHRX && op == &i->op[2];
	case ZYDIS_REGISTER_R12: case ZYDIS_REGISTER_R15:
		return false;
	default:
		return true;
	}
}

/* --- branches and exits --- */

static inline bool host_writes(const struct host_insn *i, ZydisRegister r)
{
	for (unsigned k = 0; k < i->d.operand_count; k++)
		if (i->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER && (i->op[k].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    host_enclosing(i->op[k].reg.value) == r)
			return true;
	return false;
}

/* lea r11, [rip + x]: the offset in the block that it names. */
static inline bool host_r11_names(const struct host_insn *i, uint32_t *offset)
{
	if (i->d.mnemonic != ZYDIS_MNEMONIC_LEA || i->op[0].reg.value != ZYDIS_REGISTER_R11 || i->op[1].mem.base != ZYDIS_REGISTER_RIP)
		return false;
	*offset = i->end + (uint32_t)i->op[1].mem.disp.value;
	return true;
}

static inline bool host_callout_word_good(uint32_t word)
{
	bool in_ea = CALLOUT_ID(word) == CALLOUT_mov_to_seg && CALLOUT_RM(word) == CALLOUT_RM_EA && !CALLOUT_MEM(word);

	return CALLOUT_ID(word) < CALLOUT_COUNT && CALLOUT_SEG(word) < SEG_COUNT && CALLOUT_REG(word) < 8 && (CALLOUT_RM(word) < 8 || in_ea) &&
	       (CALLOUT_SIZE(word) <= 2 || CALLOUT_ID(word) == CALLOUT_check_segment) && CALLOUT_REP(word) < 3 && !(word >> 30);
}

/* Did an instruction begin here that needs no code, as LEA of ESP may, whose step waits: for what is behind it, or for the exit? */
static inline bool host_has_codeless_insn(const struct host_code *c, uint32_t at, uint32_t eip)
{
	for (uint32_t i = 0; i < c->out->instructions; i++)
		if (c->out->starts[i] == at && (c->out->starts[i + 1] == at || (i + 1 == c->out->instructions && eip == c->in->eip + c->out->guest_length)))
			return true;
	return false;
}

/* Whoever goes on at a host PC elsewhere in the block must come between two instructions. */
static inline bool host_goes_on_between(const struct host_code *c, uint32_t back)
{
	const struct side_row *row = host_row(c, back);

	return row && row->host_offset == back && (!row->esp || host_has_codeless_insn(c, back, row->eip)) && (row->undo == UNDO_NONE || row->undo == UNDO_ENTRY || row->undo == UNDO_SHADOW || row->undo == UNDO_DONE);
}

/* The stubs of segment loads know one callout. */
static inline bool host_stub_answers(const struct host_code *c, host_pc_t target, uint32_t word)
{
	unsigned seg = CALLOUT_REG(word);
	bool load = CALLOUT_ID(word) == CALLOUT_mov_to_seg && CALLOUT_RM(word) == CALLOUT_RM_EA && seg < SEG_COUNT && target == c->in->stubs.load[seg];

	for (unsigned i = 0; i < SEG_COUNT; i++)
		if (c->in->stubs.load[i] && target == c->in->stubs.load[i])
			return load;
	return true;
}

/* mov r9d, word; lea r11, [where to go on]; jmp callout. */
static inline bool host_check_callout(struct host_code *c, uint32_t n)
{
	struct host_insn *i = &c->insn[n];
	uint32_t back, word;

	if (n < 2 || !host_r11_names(i - 1, &back) || !host_insn_at(c, back))
		return host_refuse(c, i->at, "a callout without a host PC to go on at");
	word = (uint32_t)i[-2].op[1].imm.value.u;
	if (i[-2].d.mnemonic != ZYDIS_MNEMONIC_MOV || i[-2].op[0].reg.value != ZYDIS_REGISTER_R9D ||
	    i[-2].op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !host_callout_word_good(word) || !host_stub_answers(c, i->target, word))
		return host_refuse(c, i->at, "a bad callout word");
	if (back != i->end && !host_goes_on_between(c, back))
		return host_refuse(c, i->at, "a callout that goes on somewhere else");
	return (!i->is_target && !i[-1].is_target && !i[-2].is_target) || host_refuse(c, i->at, "a callout entered in the middle");
}

/* The row where the lookup begins that this offset is in. It describes the access to C. */
static inline const struct side_row *host_lookup_row(const struct host_code *c, uint32_t offset)
{
	const struct side_row *found = NULL;

	for (uint32_t i = 0; i < c->out->row_count && c->out->rows[i].host_offset < offset; i++)
		if ((c->out->rows[i].access & (ROW_READ | ROW_WRITE)) && !(c->out->rows[i].access & ROW_SOFT))
			found = &c->out->rows[i];
	return found;
}

/* call soft, at most five instructions behind the lookup's first: mov r10, rcx. */
static inline bool host_check_soft_exit(struct host_code *c, uint32_t n)
{
	const struct host_insn *i = &c->insn[n];
	const struct side_row *row = host_lookup_row(c, i->at);
	const struct host_insn *start = row ? host_insn_at(c, row->host_offset) : NULL;

	if (!start || i - start > 5 || !row_sizes[row->access >> ROW_SIZE_SHIFT])
		return host_refuse(c, i->at, "a soft exit whose row describes no access");
	return (start->d.mnemonic == ZYDIS_MNEMONIC_MOV && start->op[0].reg.value == ZYDIS_REGISTER_R10 && start->op[1].reg.value == ZYDIS_REGISTER_RCX) ||
	       host_refuse(c, i->at, "a soft exit with ECX not parked");
}

static inline unsigned host_slots_of(const struct host_code *c, const struct host_insn *i)
{
	unsigned slots = 0;

	for (uint32_t k = 0; k < c->out->slot_count; k++)
		slots += i->branches && i->d.raw.imm[0].size == 32 && i->end == c->out->slots[k].rel32_offset + 4u;
	return slots;
}

/* The ways to a callout. */
static inline bool host_calls_out(const struct host_code *c, host_pc_t target)
{
	const struct translator_stubs *stubs = &c->in->stubs;

	for (unsigned seg = 0; seg < SEG_COUNT; seg++)
		if (stubs->load[seg] && target == stubs->load[seg])
			return true;
	return target == stubs->callout || target == stubs->sysenter || target == stubs->sysexit;
}

static inline bool host_check_branch(struct host_code *c, uint32_t n)
{
	struct host_insn *i = &c->insn[n];
	const struct translator_stubs *stubs = &c->in->stubs;
	uint64_t offset = i->target - c->in->code_pc;
	struct host_insn *to = host_insn_at(c, offset);

	if (to) {
		to->is_target = true;
		return true;
	}
	if (i->target == stubs->lookup || i->target == stubs->lookup_slow)
		return true;
	if (i->target == stubs->chain)
		return host_slots_of(c, i) == 1 || host_refuse(c, i->at, "an exit that is not one slot's");
	if (i->target == stubs->soft)
		return i->d.mnemonic == ZYDIS_MNEMONIC_CALL || host_refuse(c, i->at, "a soft exit that is no call");
	if (i->d.mnemonic != ZYDIS_MNEMONIC_JMP)
		return host_refuse(c, i->at, "a branch to nowhere");
	return i->target == stubs->lookup_parked || i->target == stubs->lookup_slow_parked || host_calls_out(c, i->target) ||
	       host_refuse(c, i->at, "a jump to nowhere");
}

static inline bool host_check_exit(struct host_code *c, uint32_t n)
{
	const struct host_insn *i = &c->insn[n];
	const struct translator_stubs *stubs = &c->in->stubs;

	if (!i->branches)
		return true;
	if (host_calls_out(c, i->target))
		return host_check_callout(c, n);
	return i->target != stubs->soft || host_check_soft_exit(c, n);
}

/* An indirect jump or call, whose operand host_code_access.h looks at. */
static inline bool host_looks_up(const struct host_insn *i)
{
	return !i->branches && i->d.opcode == 0xFF && i->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY && i->op[0].mem.base == ZYDIS_REGISTER_R11;
}

static inline bool host_ends(const struct host_insn *i)
{
	return i->d.mnemonic == ZYDIS_MNEMONIC_JMP || i->d.mnemonic == ZYDIS_MNEMONIC_RET;
}

/* --- rows and slots --- */

static inline bool host_check_rows(struct host_code *c)
{
	const struct translator_output *out = c->out;

	if (!out->row_count || out->rows[0].host_offset != 0)
		return host_refuse(c, 0, "no row for the first instruction");
	for (uint32_t i = 0; i < out->row_count; i++) {
		const struct side_row *r = &out->rows[i];
		bool last_and_empty = i == out->row_count - 1 && r->host_offset == out->code_length;
		if (i && r->host_offset <= r[-1].host_offset)
			return host_refuse(c, r->host_offset, "rows out of order");
		if (!host_insn_at(c, r->host_offset) && !last_and_empty)
			return host_refuse(c, r->host_offset, "a row within an instruction");
		if (r->access >> ROW_SIZE_SHIFT >= ARRAY_LEN(row_sizes))
			return host_refuse(c, r->host_offset, "a row with an access of unknown size");
	}
	return true;
}

/* Its branch goes where it can be led on from; what is not conditional has done what it had to. */
static inline bool host_check_slot(struct host_code *c, const struct link_slot *s)
{
	const struct host_insn *branch = NULL;

	for (uint32_t n = 0; n < c->count; n++) {
		if (c->insn[n].branches && c->insn[n].d.raw.imm[0].size == 32 && c->insn[n].end == s->rel32_offset + 4u)
			branch = &c->insn[n];
	}
	if (!branch || branch->target != c->in->stubs.chain)
		return host_refuse(c, s->rel32_offset, "a slot without an exit");
	const struct side_row *row = host_row(c, branch->at);
	bool conditional = branch->d.mnemonic != ZYDIS_MNEMONIC_JMP && branch->d.mnemonic != ZYDIS_MNEMONIC_CALL;
	bool nothing_left = row->undo == UNDO_NONE || row->undo == UNDO_ENTRY || row->undo == UNDO_SHADOW || row->undo == UNDO_DONE;
	if (row->esp || !nothing_left)
		return host_refuse(c, branch->at, "an exit with something left to do");
	return conditional || row->eip == s->target ||
	       host_refuse(c, branch->at, "an exit whose row is not its target's");
}

static inline bool host_check_slots(struct host_code *c)
{
	for (uint32_t i = 0; i < c->out->slot_count; i++)
		if (!host_check_slot(c, &c->out->slots[i]))
			return false;
	return true;
}

#include "host_code_access.h"
#include "host_code_upper.h"

/* mov r9d, [exec table's entry for the block's page], and a trap unless that is gfn + 1: all that stands between the ways in from other pages and
 * from the same. */
static inline bool host_check_exec_check(struct host_code *c)
{
	const struct host_insn *load = host_insn_at(c, c->out->checked);
	uint32_t page = (c->in->cs_base + c->in->eip) >> PAGE_SHIFT, count = host_is_low(c) ? 2 : 3;
	struct host_trap trap;

	if (!c->in->check)
		return c->out->body == c->out->checked || host_refuse(c, c->out->checked, "an exec check that nobody asked for");
	if (!load || c->out->body <= c->out->checked || !host_insn_at(c, c->out->body) || host_insn_at(c, c->out->body) != load + count)
		return host_refuse(c, c->out->checked, "no exec check");
	return (load->d.mnemonic == ZYDIS_MNEMONIC_MOV && load->op[0].reg.value == ZYDIS_REGISTER_R9D && load->op[1].mem.base == ZYDIS_REGISTER_R14 &&
		load->op[1].mem.disp.value == (int64_t)ABI_EXEC_TABLE - ABI_TABLES_BIAS + (int64_t)page * 4 &&
		host_trap_of(c, load + count - 1, &trap) && host_is_exec_trap(c, load + count - 1, &trap, host_row(c, load->at))) ||
	       host_refuse(c, load->at, "an exec check that is not whole");
}

/* A call that is done in place has its guard. */
static inline bool host_check_guards(struct host_code *c)
{
	struct host_trap trap;

	for (uint32_t i = 0; i < c->out->row_count; i++) {
		const struct side_row *row = &c->out->rows[i];
		const struct host_insn *load = row->undo == UNDO_GUARD ? host_insn_at(c, row->host_offset) : NULL;
		const struct host_insn *last = load ? load + (host_is_low(c) ? 1 : 2) : NULL;
		if (row->undo == UNDO_GUARD && (!load || last >= c->insn + c->count || !host_trap_of(c, last, &trap) || !host_is_guard_trap(c, &trap, row)))
			return host_refuse(c, row->host_offset, "a call in place without its guard");
	}
	return true;
}

static inline bool host_check_insn(struct host_code *c, uint32_t n)
{
	struct host_insn *i = &c->insn[n];
	bool transfers = i->d.mnemonic == ZYDIS_MNEMONIC_CALL || host_ends(i);

	if (!host_mnemonic_allowed(i))
		return host_refuse(c, i->at, "an instruction that is not on the list");
	if (!host_prefixes_allowed(i))
		return host_refuse(c, i->at, "a stray prefix");
	if (transfers && !i->branches && !host_looks_up(i) && !(i->d.opcode == 0xC3 && i->d.length == 1))
		return host_refuse(c, i->at, "an indirect transfer");
	for (unsigned k = 0; k < i->d.operand_count; k++) {
		const ZydisDecodedOperand *op = &i->op[k];
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && !host_register_allowed(i, op))
			return host_refuse(c, i->at, "a register that host code may not use so");
		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && !host_check_memory(c, n, op))
			return false;
	}
	return !i->branches || host_check_branch(c, n);
}

/* Check one translation; NULL, or what is wrong (c->wrong_at says where). */
static inline const char *host_check(struct host_code *c, const struct translator_input *in, const struct translator_output *out)
{
	c->in = in;
	c->out = out;
	c->wrong = NULL;
	if (!host_decode(c) || !host_check_rows(c))
		return c->wrong;
	for (uint32_t n = 0; n < c->count; n++)
		if (!host_check_insn(c, n))
			return c->wrong;
	for (uint32_t n = 0; n < c->count; n++)
		if (!host_check_exit(c, n) || !host_check_entries(c, n))
			return c->wrong;
	if (!host_ends(&c->insn[c->count - 1]))
		host_refuse(c, c->insn[c->count - 1].at, "control runs off the end");
	if (host_check_slots(c) && host_check_exec_check(c) && host_check_guards(c))
		host_check_upper_halves(c);
	return c->wrong;
}

#endif
