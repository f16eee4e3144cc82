/* Part of host_code.h: [R15 + register] reaches the window only if the register's upper half is zero; [R13] only if R13 is an address in the
 * window or beside it, and has not been moved on from there without an access that would have faulted. Followed along every path, from
 * the block's entry, from landing pads and from wherever C comes back. */
#ifndef TESTS_UNIT_HOST_CODE_UPPER_H
#define TESTS_UNIT_HOST_CODE_UPPER_H

/* A bit for each of sixteen registers. The guest's are RAX to RDI but RSP. */
#define HOST_GUEST_REGISTERS 0x00EFu
#define HOST_STACK 0x10000u      /* R13 points into the window or less than 2 * HOST_REACH (if SP was written, 64 KiB) beside it */
#define HOST_STACK_NEAR 0x20000u /* ditto, less than HOST_REACH */
#define HOST_ENTRY (HOST_GUEST_REGISTERS | HOST_STACK)
#define HOST_FROM_C (HOST_ENTRY | HOST_STACK_NEAR)
#define HOST_R8 0x0100u /* a return address, or the target for the inline lookup, which adds it to a 64-bit key */

static inline unsigned host_bit(ZydisRegister r)
{
	return 1u << (host_enclosing(r) - ZYDIS_REGISTER_RAX);
}

static inline bool host_uses_stack(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.type != ZYDIS_MEMOP_TYPE_AGEN && op->mem.base == ZYDIS_REGISTER_R13;
}

static inline bool host_in_reach(const ZydisDecodedOperand *op)
{
	return op->mem.disp.value >= -HOST_REACH && op->mem.disp.value <= HOST_REACH;
}

/* What is known of R13 behind an instruction that writes it. */
static inline uint32_t host_stack_after(const struct host_code *c, const struct host_insn *i, uint32_t before)
{
	const ZydisDecodedOperand *from = &i->op[1];
	bool lea = i->d.mnemonic == ZYDIS_MNEMONIC_LEA && i->op[0].reg.value == ZYDIS_REGISTER_R13 && host_in_reach(from);

	for (unsigned k = 0; k < i->d.operand_count; k++) {
		const ZydisDecodedOperand *op = &i->op[k];
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value == ZYDIS_REGISTER_R13W)
			return before & HOST_STACK;
		/* 32 bits are all of an address in the window at 0. */
		if (host_is_low(c) && op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value == ZYDIS_REGISTER_R13D)
			return op->actions & ZYDIS_OPERAND_ACTION_WRITE ? HOST_STACK | HOST_STACK_NEAR : before & (HOST_STACK | HOST_STACK_NEAR);
	}
	if (lea && from->mem.base == ZYDIS_REGISTER_R13 && from->mem.index == ZYDIS_REGISTER_NONE)
		return before & HOST_STACK_NEAR ? HOST_STACK : 0;
	if (lea && from->mem.base == ZYDIS_REGISTER_R15 && from->mem.index != ZYDIS_REGISTER_NONE && from->mem.scale == 1)
		return before & host_bit(from->mem.index) ? HOST_STACK | HOST_STACK_NEAR : 0;
	return 0;
}

static inline uint32_t host_upper_after(const struct host_code *c, const struct host_insn *i, uint32_t zero)
{
	uint32_t before = zero;

	for (unsigned k = 0; k < i->d.operand_count; k++)
		if (host_uses_stack(&i->op[k]) && host_in_reach(&i->op[k]) && (zero & HOST_STACK))
			zero |= HOST_STACK_NEAR;
	if (host_writes(i, ZYDIS_REGISTER_R13))
		zero = (zero & ~(HOST_STACK | HOST_STACK_NEAR)) | host_stack_after(c, i, before);

	for (unsigned k = 0; k < i->d.operand_count; k++) {
		const ZydisDecodedOperand *op = &i->op[k];
		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER || !host_is_gpr(op->reg.value) || !(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		if (host_repeats(i) && op->reg.value == ZYDIS_REGISTER_RCX)
			continue; /* it only becomes less */
		unsigned bit = host_bit(op->reg.value), class = ZydisRegisterGetClass(op->reg.value);
		bool copies = i->d.mnemonic == ZYDIS_MNEMONIC_MOV && i->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
		if (class == ZYDIS_REGCLASS_GPR64)
			zero = copies && (before & host_bit(i->op[1].reg.value)) ? zero | bit : zero & ~bit;
		else if (class == ZYDIS_REGCLASS_GPR32 && (op->actions & ZYDIS_OPERAND_ACTION_WRITE))
			zero |= bit;
	}
	return zero;
}

/* Meet at an instruction; true if that is news. */
static inline bool host_upper_meet(struct host_insn *to, uint32_t zero)
{
	uint32_t now = to->reached ? to->zero & zero : zero;
	bool news = !to->reached || now != to->zero;

	to->reached = true;
	to->zero = now;
	return news;
}

/* Where control goes from here within the block; C keeps the scratch registers whole and the guest's as 32 bits. */
static inline bool host_upper_flow(struct host_code *c, struct host_insn *i)
{
	uint32_t after = host_upper_after(c, i, i->zero), back;
	struct host_insn *to = i->branches ? host_insn_at(c, i->target - c->in->code_pc) : NULL, *next = host_insn_at(c, i->end);
	bool soft = host_calls_soft(c, i), news = false;
	const struct side_row *lookup = soft ? host_lookup_row(c, i->at) : NULL;

	if (to)
		news |= host_upper_meet(to, after);
	if (i->branches && host_calls_out(c, i->target) && host_r11_names(i - 1, &back) && host_insn_at(c, back))
		news |= host_upper_meet(host_insn_at(c, back), after | HOST_FROM_C);
	if (lookup && host_insn_at(c, lookup->host_offset))
		news |= host_upper_meet(host_insn_at(c, lookup->host_offset), after | HOST_FROM_C);
	if (next && i->d.mnemonic == ZYDIS_MNEMONIC_CALL && !soft)
		news |= host_upper_meet(next, HOST_ENTRY | HOST_R8);
	else if (next && !soft && !host_ends(i))
		news |= host_upper_meet(next, after);
	return news;
}

static inline void host_upper_enter(struct host_code *c)
{
	host_upper_meet(&c->insn[0], HOST_ENTRY | HOST_R8);
	if (host_insn_at(c, c->out->body))
		host_upper_meet(host_insn_at(c, c->out->body), HOST_ENTRY);
	for (uint32_t k = 0; k < c->out->row_count; k++)
		if (c->out->rows[k].undo == UNDO_ENTRY && host_insn_at(c, c->out->rows[k].host_offset))
			host_upper_meet(host_insn_at(c, c->out->rows[k].host_offset), HOST_ENTRY);
	for (uint32_t k = 0; k < c->out->row_count; k++)
		if ((c->out->rows[k].access & ROW_SOFT) && host_insn_at(c, c->out->rows[k].host_offset))
			host_upper_meet(host_insn_at(c, c->out->rows[k].host_offset), HOST_FROM_C);
}

static inline bool host_leaves(const struct host_code *c, const struct host_insn *i)
{
	if (i->d.mnemonic == ZYDIS_MNEMONIC_RET || i->d.mnemonic == ZYDIS_MNEMONIC_CALL || host_looks_up(i))
		return true;
	return i->branches && i->target - c->in->code_pc >= c->out->code_length;
}

/* Whose upper halves must be zero there: some stubs find guest ECX in R10. */
static inline uint32_t host_leaves_with(const struct host_code *c, const struct host_insn *i)
{
	const struct translator_stubs *stubs = &c->in->stubs;
	bool parked = i->branches && (i->target == stubs->soft || i->target == stubs->lookup_parked || i->target == stubs->lookup_slow_parked);

	return parked ? (HOST_GUEST_REGISTERS & ~host_bit(ZYDIS_REGISTER_RCX)) | host_bit(ZYDIS_REGISTER_R10) : HOST_GUEST_REGISTERS;
}

static inline bool host_check_upper_halves(struct host_code *c)
{
	bool news = true;

	host_upper_enter(c);
	while (news) {
		news = false;
		for (uint32_t n = 0; n < c->count; n++)
			if (c->insn[n].reached)
				news |= host_upper_flow(c, &c->insn[n]);
	}
	for (uint32_t n = 0; n < c->count; n++) {
		const struct host_insn *i = &c->insn[n];
		bool looks_up = i->d.mnemonic == ZYDIS_MNEMONIC_RET || host_looks_up(i) ||
				(i->branches && (i->target == c->in->stubs.lookup || i->target == c->in->stubs.lookup_parked));
		if (i->reached && looks_up && !(i->zero & HOST_R8))
			return host_refuse(c, i->at, "an EIP whose upper half may not be zero");
		if (i->reached && host_leaves(c, i) && ~i->zero & host_leaves_with(c, i))
			return host_refuse(c, i->at, "the upper half of a guest register leaves the block");
		if (i->reached && host_leaves(c, i) && !(i->zero & HOST_STACK))
			return host_refuse(c, i->at, "a stack pointer outside of the window leaves the block");
		for (unsigned k = 0; k < i->d.operand_count; k++) {
			const ZydisDecodedOperand *op = &i->op[k];
			if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.base == ZYDIS_REGISTER_R15 && op->mem.index != ZYDIS_REGISTER_NONE &&
			    i->reached && !(i->zero & host_bit(op->mem.index)))
				return host_refuse(c, i->at, "a window access with a register whose upper half may not be zero");
			if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
			    op->mem.type != ZYDIS_MEMOP_TYPE_AGEN && i->d.address_width == 64 && host_is_low_address(c, op) && i->reached && !(i->zero & host_bit(op->mem.base)))
				return host_refuse(c, i->at, "an access to the window at 0 with a register whose upper half may not be zero");
			if (host_uses_stack(op) && op->mem.segment != ZYDIS_REGISTER_GS && i->reached && !(i->zero & HOST_STACK))
				return host_refuse(c, i->at, "a stack access through R13, which is no address in the window");
		}
	}
	return true;
}

#endif
