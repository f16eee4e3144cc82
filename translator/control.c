/* Branches, calls and returns: never copied. A direct exit is a link slot; an indirect one has its target's EIP in R8D. */
#include <string.h>

#include "translator/internal.h"

static uint32_t target_of(const struct insn *insn)
{
	uint32_t target = insn->eip + insn->length + insn->imm[0];

	return insn->form->operand_width == 16 ? target & 0xFFFF : target;
}

static uint32_t next_of(const struct insn *insn)
{
	return insn->eip + insn->length;
}

/* The instruction of this block that begins at this EIP, or -1. */
static int insn_at(const struct translation *t, uint32_t eip)
{
	uint32_t low = 0, high = t->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (t->insns[middle].eip - t->in->eip <= eip - t->in->eip)
			low = middle + 1;
		else
			high = middle;
	}
	return low && t->insns[low - 1].eip == eip ? (int)low - 1 : -1;
}

/* The instruction of this block that this one branches to, or -1. */
static int join_of(const struct translation *t, const struct insn *insn)
{
	emit_fn *emit = insn->rule->emit;
	bool branches = emit == emit_jcc_insn || emit == emit_loop || (emit == emit_jump && insn->form->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE);

	return branches ? insn_at(t, target_of(insn)) : -1;
}

bool calls_itself(const struct translation *t, const struct insn *insn)
{
	return insn->rule->emit == emit_call_insn && insn->form->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && target_of(insn) == t->in->eip;
}

void joins_find(struct translation *t)
{
	memset(t->join_to, -1, t->count);
	for (uint64_t left = t->branches; left; left &= left - 1) {
		uint32_t i = (uint32_t)__builtin_ctzll(left);
		int to = join_of(t, &t->insns[i]);
		t->join_to[i] = (int8_t)to;
		if (to >= 0 && t->in->joins && t->in->gfn2 == GFN_NONE)
			t->joins |= 1ull << to;
	}
}

/* The branch of this rel32 leaves the block. */
static void leave_by(struct translation *t, uint32_t rel32_offset, uint32_t target)
{
	if (t->out->slot_count == TRANSLATOR_MAX_SLOTS) {
		t->e.overflow = true;
		return;
	}
	t->out->slots[t->out->slot_count++] = (struct link_slot){.rel32_offset = (uint16_t)rel32_offset, .target = target};
	emit_patch_to(&t->e, rel32_offset, t->in->stubs.chain);
}

static struct host_mem exec_entry(const struct translation *t, uint32_t eip)
{
	uint32_t page = (t->in->cs_base + eip) >> PAGE_SHIFT;

	return mem_at(REG_TABLES, (int32_t)(ABI_EXEC_TABLE - ABI_TABLES_BIAS + page * 4));
}

/* How many bytes an instruction's code takes, as a guess. */
static uint32_t likely_length(const struct translation *t, const struct insn *insn)
{
	if (insn->form->has_memory && access_is_soft(t, insn))
		return 64;
	if (insn->rule->emit == emit_jcc_insn)
		return 6;
	bool divides = insn->rule->emit == emit_divide && !access_is_soft(t, insn);
	if (divides || insn->rule->emit == emit_generic || insn->rule->emit == emit_lea_insn || insn->rule->emit == emit_push || insn->rule->emit == emit_pop)
		return insn->length + (insn->form->has_memory ? 4u : 1u);
	return 40;
}

/* Will a rel8 do from here to a later instruction? If not after all, the block is emitted once more. */
static bool is_likely_near(const struct translation *t, uint32_t to)
{
	uint32_t length = 0;

	for (uint32_t i = t->emitted + 1; i < to && length < INT8_MAX; i++)
		length += likely_length(t, &t->insns[i]);
	return length < INT8_MAX && !t->all_long;
}

/* A branch to a later instruction of the block. */
static void join_later(struct translation *t, int condition, uint32_t to)
{
	struct emitter *e = &t->e;
	bool near = is_likely_near(t, to);

	if (t->forward_count == ARRAY_LEN(t->forward)) {
		e->overflow = true;
		return;
	}
	uint32_t at = condition < 0 ? (near ? emit_jmp_short : emit_jmp)(e) : (near ? emit_jcc_short : emit_jcc)(e, (unsigned)condition);
	t->forward[t->forward_count].rel_offset = (uint16_t)at;
	t->forward[t->forward_count].is_short = near;
	t->forward[t->forward_count++].to = (uint8_t)to;
}

/* Go to an instruction of this block, if it is one: by a jump, or by Jcc. */
static bool branch_within(struct translation *t, uint32_t eip, int condition)
{
	int to = t->joins ? insn_at(t, eip) : -1;

	if (to < 0 || !(t->joins >> to & 1))
		return false;
	if (condition < 0)
		row_add(t, UNDO_NONE, eip, 0);
	if ((uint32_t)to <= t->emitted)
		emit_branch_back(&t->e, condition, t->join_at[to]);
	else
		join_later(t, condition, (uint32_t)to);
	return true;
}

static void arrive(struct translation *t, uint32_t rel_offset, bool is_short)
{
	if (!is_short)
		emit_patch(&t->e, rel_offset);
	else if (emit_offset(&t->e) - (rel_offset + 1) <= INT8_MAX)
		emit_patch8(&t->e, rel_offset);
	else
		t->too_far = true;
}

void join_here(struct translation *t)
{
	uint32_t kept = 0;

	t->join_at[t->emitted] = (uint16_t)emit_offset(&t->e);
	for (uint32_t i = 0; i < t->forward_count; i++) {
		if (t->forward[i].to == t->emitted)
			arrive(t, t->forward[i].rel_offset, t->forward[i].is_short);
		else
			t->forward[kept++] = t->forward[i];
	}
	t->forward_count = kept;
}

void join_never(struct translation *t)
{
	for (uint32_t i = 0; i < t->forward_count; i++) {
		t->too_far |= t->forward[i].is_short;
		leave_by(t, t->forward[i].rel_offset, t->insns[t->forward[i].to].eip);
	}
}

void emit_exit(struct translation *t, uint32_t eip)
{
	row_add(t, row_exit(t, eip), eip, 0);
	leave_by(t, emit_jmp(&t->e), eip);
}

/* A branch to beyond the limit of CS is #GP(0) at the branch, with nothing done. */
static bool is_beyond(const struct translation *t, uint32_t eip)
{
	return t->in->cs_end && eip >= t->in->cs_end;
}

static void branch_to(struct translation *t, const struct insn *insn, uint32_t eip)
{
	if (is_beyond(t, eip))
		emit_raise(t, insn, VEC_GP, true, 0);
	else if (!branch_within(t, eip, -1))
		emit_exit(t, eip);
}

static void exit_if(struct translation *t, const struct insn *insn, unsigned condition, uint32_t eip)
{
	if (branch_within(t, eip, (int)condition))
		return;
	if (!is_beyond(t, eip)) {
		leave_by(t, emit_jcc(&t->e, condition), eip);
		return;
	}
	uint32_t over = emit_jcc(&t->e, condition ^ 1);
	branch_to(t, insn, eip);
	emit_patch(&t->e, over);
}

/* A single step must come back. */
bool looks_up_inline(const struct translation *t)
{
	return !(t->in->mode & (MODE_ONE | MODE_THUNK)) && t->in->stubs.lookup != t->in->stubs.lookup_slow;
}

/* To the target in R8D, at each site anew: what the processor predicts of it by the past of this branch is its own. */
static void exit_indirect(struct translation *t, const struct insn *insn, bool call)
{
	struct emitter *e = &t->e;

	row_add(t, UNDO_TARGET_R8, insn->eip, 0);
	if (site_exit(t, insn, call))
		return;
	if (!looks_up_inline(t)) {
		(call ? emit_call_to : emit_jmp_to)(e, t->in->stubs.lookup_slow);
		return;
	}
	emit_rorx(e, R9, R8, JUMP_SHIFT, false);
	emit_lea(e, R9, mem_sum(R9, R9, 1, 0));
	emit_op(e, &(struct host_op){.opcode = 0xB7, .map = MAP_0F, .reg = R9, .rm = R9});
	emit_load(e, R11, VCPU(jumps), 8);
	emit_op(e, &(struct host_op){.opcode = 0xFF, .reg = call ? 2 : 4, .rm = NO_REG, .mem = mem_sum(R11, R9, 4, 0)});
}

/* The target in R8D has `size` bytes. Only where it may be beyond the limit: not in 16-bit code of 64 KiB. */
static void check_target(struct translation *t, const struct insn *insn, unsigned size)
{
	uint32_t end = t->in->cs_end;

	if (!end || (size == 2 && end > 0xFFFF))
		return;
	emit_mov_imm(&t->e, R9, 0u - end);
	access_raise_if_carry(t, insn->eip, mem_sum(R8, R9, 1, 0), VEC_GP);
}

/* The target of an indirect branch into R8D. */
static void load_target(struct translation *t, const struct insn *insn)
{
	bool narrow = insn->form->operand_width == 16;

	if (insn->form->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		enum host_reg from = host_gpr(insn->form->op[0].number);
		if (from == REG_GUEST_ESP)
			esp_flush(t, insn->eip);
		if (narrow)
			emit_op(&t->e, &(struct host_op){.opcode = 0xB7, .map = MAP_0F, .reg = R8, .rm = (uint8_t)from});
		else
			emit_mov(&t->e, R8, from);
	} else {
		struct guest_mem m = access_of(insn, &insn->form->op[0]);
		emit_load(&t->e, R8, access_emit(t, insn, &m, false), narrow ? 2 : 4);
	}
	check_target(t, insn, narrow ? 2 : 4);
}

bool emit_jump(struct translation *t, const struct insn *insn)
{
	if (insn->form->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		esp_flush(t, insn->eip);
		branch_to(t, insn, target_of(insn));
		return true;
	}
	load_target(t, insn);
	if (t->esp)
		esp_set(t, REG_GUEST_ESP, 0);
	exit_indirect(t, insn, false);
	return true;
}

bool emit_jcc_insn(struct translation *t, const struct insn *insn)
{
	exit_if(t, insn, insn->form->opcode & 15, target_of(insn));
	return false;
}

/* LOOP, LOOPE, LOOPNE, JECXZ, JCXZ. The new count is tested in ECX itself, with the old one parked in R10 until the branch is decided. */
bool emit_loop(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	ZydisMnemonic mnemonic = insn->form->mnemonic;
	bool counts = mnemonic == ZYDIS_MNEMONIC_LOOP || mnemonic == ZYDIS_MNEMONIC_LOOPE || mnemonic == ZYDIS_MNEMONIC_LOOPNE;
	bool narrow = insn->form->address_width == 16;
	uint32_t not_zf = 0;

	emit_mov64(e, R10, RCX);
	row_add(t, UNDO_RCX, insn->eip, 0);
	if (narrow)
		emit_op(e, &(struct host_op){.opcode = 0xB7, .map = MAP_0F, .reg = RCX, .rm = RCX});
	if (counts)
		emit_lea(e, RCX, mem_at(RCX, -1));
	if (narrow)
		emit_op(e, &(struct host_op){.opcode = 0xB7, .map = MAP_0F, .reg = RCX, .rm = RCX});
	emit_mov(e, R9, RCX);
	uint32_t zero = emit_jecxz(e);

	/* Count not zero. */
	uint32_t to_decide = emit_jmp(e);
	emit_patch8(e, zero);
	uint32_t to_zero = emit_jmp(e);

	emit_patch(e, to_decide);
	/* ECX := new count (its low half for 16 bits), then the branch; both exits below see the final ECX. */
	emit_mov64(e, RCX, R10);
	if (counts)
		emit_op(e, &(struct host_op){.opcode = 0x8B, .reg = RCX, .rm = R9, .p66 = narrow});
	if (!counts) {
		emit_exit(t, next_of(insn));
	} else {
		row_add(t, UNDO_RCX, insn->eip, 0);
		if (mnemonic == ZYDIS_MNEMONIC_LOOPE)
			not_zf = emit_jcc(e, CONDITION_NE);
		else if (mnemonic == ZYDIS_MNEMONIC_LOOPNE)
			not_zf = emit_jcc(e, CONDITION_E);
		if (is_beyond(t, target_of(insn))) {
			emit_mov64(e, RCX, R10);
			row_add(t, UNDO_NONE, insn->eip, 0);
		}
		branch_to(t, insn, target_of(insn));
	}

	emit_patch(e, to_zero);
	row_add(t, UNDO_RCX, insn->eip, 0);
	emit_mov64(e, RCX, R10);
	if (counts)
		emit_op(e, &(struct host_op){.opcode = 0x8B, .reg = RCX, .rm = R9, .p66 = narrow});
	if (not_zf) {
		row_add(t, UNDO_NONE, next_of(insn), 0);
		emit_patch(e, not_zf);
	}
	if (counts) {
		emit_exit(t, next_of(insn));
	} else {
		row_add(t, UNDO_NONE, insn->eip, 0); /* raising an exception takes R10 */
		branch_to(t, insn, target_of(insn));
	}
	return true;
}

/* Faults if the register is not this number. R9D is lost. At 0, where no access has a segment, GS base is the place itself; else the sum is made apart. */
static void trap_unless(struct translation *t, enum host_reg reg, uint32_t number, bool is_eip)
{
	struct emitter *e = &t->e;
	struct host_mem difference = mem_at(reg, (int32_t)(0u - number));

	if (access_is_low(t)) {
		difference.gs = difference.narrow = true;
		emit_load(e, R9, difference, 4);
	} else {
		emit_lea(e, R9, difference);
	}
	if (is_eip)
		emit_fix(e, FIX_MINUS_EIP, 0u - number);
	if (!access_is_low(t))
		emit_load(e, R9, mem_sum(REG_VCPU, R9, 1, (int32_t)VCPU_TRAP), 1);
}

/* What a host return or the inline lookup lands on where mismatches are rare: goes on if R8D is the target that this pad stands for, and faults if
 * it is another. */
static void trap_pad(struct translation *t, uint32_t return_eip)
{
	t->esp_near = false;
	row_add(t, UNDO_TARGET_R8, return_eip, 0);
	trap_unless(t, R8, return_eip, true);
	row_add(t, UNDO_NONE, return_eip, 0);
}

unsigned trap_pad_length(const struct translation *t)
{
	return access_is_low(t) ? 9 : 16;
}

void emit_exec_check(struct translation *t)
{
	row_add(t, UNDO_NONE, t->in->eip, 0);
	struct host_mem entry = exec_entry(t, t->in->eip);

	emit_load(&t->e, R9, entry, 4);
	emit_fix(&t->e, FIX_EXEC_ENTRY, (uint32_t)entry.disp);
	trap_unless(t, R9, t->in->gfn + 1, false);
}

/* What a host return or the inline lookup lands on: is R8D, the target's EIP, the one that this pad stands for? If so the block goes on.
 * Flag-free even where this block kills the flags: if it is another target, they are live there. Then it goes to this stub. */
static void landing_pad(struct translation *t, uint32_t return_eip, host_pc_t other)
{
	struct emitter *e = &t->e;

	t->esp_near = false;
	row_add(t, UNDO_TARGET_R8, return_eip, 0);
	emit_mov64(e, R10, RCX);
	row_add(t, UNDO_TARGET_R8_RCX, return_eip, 0);
	emit_lea(e, RCX, mem_at(R8, (int32_t)(0u - return_eip)));
	emit_fix(e, FIX_MINUS_EIP, 0u - return_eip);
	uint32_t match = emit_jrcxz(e);
	emit_jmp_to(e, other);
	emit_patch8(e, match);
	emit_mov64(e, RCX, R10);
	row_add(t, UNDO_NONE, return_eip, 0);
}

static void return_pad(struct translation *t, uint32_t return_eip)
{
	if (t->in->mode & MODE_TRAP_PADS)
		trap_pad(t, return_eip);
	else
		landing_pad(t, return_eip, looks_up_inline(t) ? t->in->stubs.lookup_parked : t->in->stubs.lookup_slow_parked);
}

/* The lookup has led here: asking it again would, too. */
void emit_entry_pad(struct translation *t)
{
	if (t->in->mode & MODE_TRAP_PADS)
		trap_pad(t, t->in->eip);
	else
		landing_pad(t, t->in->eip, t->in->stubs.lookup_slow_parked);
}

static void store_return_address(struct translation *t, const struct insn *insn, struct host_mem to, unsigned size)
{
	emit_store_imm(&t->e, to, next_of(insn), size);
	emit_fix(&t->e, FIX_EIP, next_of(insn));
}

static unsigned return_size(const struct insn *insn)
{
	return insn->form->operand_width == 16 ? 2 : 4;
}

static void push_return_address(struct translation *t, const struct insn *insn)
{
	unsigned size = return_size(insn);

	store_return_address(t, insn, stack_push_mem(t, insn, size), size);
	esp_add(t, insn->eip + insn->length, -(int32_t)size);
}

static void call_direct(struct translation *t, const struct insn *insn)
{
	uint32_t target = target_of(insn);
	unsigned size = return_size(insn);

	store_return_address(t, insn, stack_push_mem(t, insn, size), size);
	esp_set(t, REG_GUEST_ESP, -(int32_t)size);
	row_add(t, row_exit(t, target), target, 0);
	leave_by(t, emit_call(&t->e), target);
}

/* CALL of `mov r, [esp]; ret`, which position-independent code begins nearly each function with: the register, or -1. */
static int thunk_register(const struct translation *t, const struct insn *insn, uint32_t *bytes)
{
	const struct translator_input *in = t->in;
	uint32_t target = target_of(insn);
	bool flat = (in->mode & MODE_TRAP_PADS) && !in->cs_base && !in->cs_end && insn->form->operand_width == 32 && stack_is_plain(t, insn);
	bool alone = !looks_up_inline(t) || in->basic_blocks || (t->shadow && t->shadow_eip == insn->eip);
	bool whole = (target & PAGE_MASK) <= PAGE_SIZE - sizeof(*bytes);
	const uint8_t *code = in->peek && flat && !alone && whole ? in->peek(in->peek_ctx, target) : NULL;

	if (!code || code[0] != 0x8B || (code[1] & 0xC7) != 0x04 || code[2] != 0x24 || code[3] != 0xC3 || code[1] >> 3 == ESP)
		return -1;
	__builtin_memcpy(bytes, code, sizeof(*bytes));
	return code[1] >> 3;
}

/* Done in place, where the code still is what it was: it is read behind the store that might have changed it, and nothing has happened by then that
 * does not happen again. */
static bool call_thunk(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	uint32_t bytes;
	int reg = thunk_register(t, insn, &bytes);

	if (reg < 0)
		return false;
	store_return_address(t, insn, stack_push_mem(t, insn, 4), 4);
	row_add(t, UNDO_GUARD, insn->eip, ROW_READ | row_size(sizeof(bytes)));
	emit_load(e, R9, access_at(t, (struct host_mem){.base = NO_REG, .index = NO_REG, .scale = 1, .disp = (int32_t)target_of(insn)}), sizeof(bytes));
	emit_fix(e, FIX_EIP, target_of(insn));
	trap_unless(t, R9, bytes, false);
	emit_mov_imm(e, (enum host_reg)reg, next_of(insn));
	emit_fix(e, FIX_EIP, next_of(insn));
	return true;
}

static void call_indirect(struct translation *t, const struct insn *insn)
{
	unsigned size = return_size(insn);

	load_target(t, insn);
	if (stack_is_plain(t, insn)) {
		store_return_address(t, insn, stack_push_mem(t, insn, size), size);
	} else {
		emit_store(&t->e, VCPU(spill), R8, 4);
		struct host_mem to = stack_push_mem(t, insn, size);
		/* The target may lie where the return address goes: once that is stored there is no beginning anew. */
		if (to.index == R8) {
			emit_mov(&t->e, R9, R8);
			to.index = R9;
		}
		emit_load(&t->e, R8, VCPU(spill), 4);
		store_return_address(t, insn, to, size);
	}
	/* From here on the instruction is done but for ESP. */
	row_add(t, UNDO_CALL, insn->eip, row_size(size));
	esp_set(t, REG_GUEST_ESP, -(int32_t)size);
	exit_indirect(t, insn, true);
}

bool emit_call_insn(struct translation *t, const struct insn *insn)
{
	if (insn->form->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		if (is_beyond(t, target_of(insn))) {
			emit_raise(t, insn, VEC_GP, true, 0);
			return true;
		}
		/* CALL $+5 only reads EIP: nobody will return to its pad. */
		if (insn->imm[0] == 0 && insn->form->operand_width != 16) {
			push_return_address(t, insn);
			return false;
		}
		if (call_thunk(t, insn))
			return false;
		call_direct(t, insn);
	} else {
		call_indirect(t, insn);
	}
	if (insn->form->operand_width == 16 && next_of(insn) > 0xFFFF) {
		return_pad(t, next_of(insn) & 0xFFFF);
		emit_exit(t, next_of(insn) & 0xFFFF);
		return true;
	}
	return_pad(t, next_of(insn));
	return false;
}

bool emit_ret(struct translation *t, const struct insn *insn)
{
	unsigned size = insn->form->operand_width == 16 ? 2 : 4;
	uint32_t release = insn->imm[0] & 0xFFFF;
	struct guest_mem m = stack_top(t, 0, size, false);

	emit_load(&t->e, R8, access_emit(t, insn, &m, false), size);
	check_target(t, insn, size);
	esp_set(t, REG_GUEST_ESP, (int32_t)(size + release));
	row_add(t, UNDO_TARGET_R8, insn->eip, 0);
	/* A host return goes to a pad and on from there: a single step must not. */
	if (t->in->mode & (MODE_ONE | MODE_THUNK))
		emit_jmp_to(&t->e, t->in->stubs.lookup_slow);
	else
		emit_byte(&t->e, 0xC3);
	return true;
}

void emit_second_page_check(struct translation *t)
{
	struct emitter *e = &t->e;
	uint32_t eip = t->in->eip;

	row_add(t, UNDO_NONE, eip, 0);
	emit_mov64(e, R10, RCX);
	row_add(t, UNDO_RCX, eip, 0);
	emit_load(e, RCX, exec_entry(t, eip + PAGE_SIZE), 4);
	emit_lea(e, RCX, mem_at(RCX, (int32_t)(0u - (t->in->gfn2 + 1))));
	uint32_t match = emit_jrcxz(e);
	emit_mov64(e, RCX, R10);
	row_add(t, UNDO_NONE, eip, 0);
	emit_mov_imm(e, R8, eip);
	emit_jmp_to(e, t->in->stubs.lookup_slow);
	emit_patch8(e, match);
	row_add(t, UNDO_RCX, eip, 0);
	emit_mov64(e, RCX, R10);
	row_add(t, UNDO_NONE, eip, 0);
}
