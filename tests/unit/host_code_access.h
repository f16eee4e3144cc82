/* Part of host_code.h: which memory operands host code may have. Four kinds: the window, the vCPU, the tables, and [R9] behind a lookup. */
#ifndef TESTS_UNIT_HOST_CODE_ACCESS_H
#define TESTS_UNIT_HOST_CODE_ACCESS_H

static inline bool host_is_address_register(ZydisRegister r)
{
	/* Guest registers, guest ESP in R13, and R8 and R9, where linear addresses are made. */
	return r == ZYDIS_REGISTER_NONE || (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R9D && r != ZYDIS_REGISTER_ESP) ||
	       r == ZYDIS_REGISTER_R13D;
}

/* A fault in it must find what the guest's access was. */
static inline bool host_row_describes(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op, bool soft)
{
	const struct side_row *row = host_row(c, c->insn[n].at);
	bool writes = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

	if (!row || row_sizes[row->access >> ROW_SIZE_SHIFT] != op->size / 8)
		return host_refuse(c, c->insn[n].at, "an access of another size than its row says");
	if (writes && !(row->access & ROW_WRITE))
		return host_refuse(c, c->insn[n].at, "a store whose row says it reads");
	return !(row->access & ROW_SOFT) == !soft || host_refuse(c, c->insn[n].at, "an access of another form than its row says");
}

/* Without GS: the window and 64-bit registers, whose upper halves host_code_upper.h looks at. A displacement stays within the guards. */
static inline bool host_check_plain_window(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	ZydisRegister index = op->mem.index;
	bool one = index == ZYDIS_REGISTER_NONE ||
		   (op->mem.scale == 1 && index >= ZYDIS_REGISTER_RAX && index <= ZYDIS_REGISTER_R9 && index != ZYDIS_REGISTER_RSP);

	_Static_assert(WINDOW_GUARD >= 1ULL << 31, "a 32-bit displacement");
	if (!one || op->size > 16 * 8)
		return host_refuse(c, c->insn[n].at, "a plain window access that may reach beyond the guards");
	return host_row_describes(c, n, op, false);
}

/* The guest's stack: R13 points into the window, or at most twice HOST_REACH beside it (host_code_upper.h). */
#define HOST_REACH 1024
#define HOST_STACK_DISP (1 << 20)

static inline bool host_check_stack(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	int64_t disp = op->mem.disp.value;

	if (op->mem.index != ZYDIS_REGISTER_NONE || disp < -HOST_STACK_DISP || disp > HOST_STACK_DISP || op->size > 16 * 8)
		return host_refuse(c, c->insn[n].at, "a stack access that may reach beyond the guards");
	return host_row_describes(c, n, op, false);
}

static inline bool host_is_low(const struct host_code *c)
{
	return c->in->mode & MODE_LOW;
}

/* The window at 0: one register, whose upper half host_code_upper.h looks at. Below it lies nothing of anybody's for as far as this. */
#define HOST_LOW_DISP (-(1 << 20))

static inline bool host_is_low_address(const struct host_code *c, const ZydisDecodedOperand *op)
{
	return host_is_low(c) && op->mem.base >= ZYDIS_REGISTER_RAX && op->mem.base <= ZYDIS_REGISTER_RDI && op->mem.base != ZYDIS_REGISTER_RSP;
}

static inline bool host_check_low(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	if (op->mem.index != ZYDIS_REGISTER_NONE || op->mem.disp.value < HOST_LOW_DISP || op->size > 16 * 8)
		return host_refuse(c, c->insn[n].at, "an access that may reach beyond the window at 0");
	return host_row_describes(c, n, op, false);
}

/* An effective address of 32 bits: relative to GS base, or as it is where the window is at 0. */
static inline bool host_check_window(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	if ((c->in->mode & MODE_CPL) != 3)
		return host_refuse(c, c->insn[n].at, "a GS-relative access of supervisor code, which runs with any GS base");
	if (c->insn[n].d.address_width != 32 || !host_is_address_register(op->mem.base) || !host_is_address_register(op->mem.index))
		return host_refuse(c, c->insn[n].at, "a window access that is not truncated to 32 bits");
	if (op->size > 16 * 8)
		return host_refuse(c, c->insn[n].at, "a window access too large for the guard behind the window");
	return host_row_describes(c, n, op, false);
}

static inline bool host_vcpu_field_is(int64_t disp, unsigned size, size_t offset, unsigned field_size)
{
	return disp == (int64_t)offset && size == field_size;
}

#define HOST_FIELD(name) host_vcpu_field_is(disp, size, offsetof(struct vcpu, name), sizeof(((struct vcpu *)0)->name))

static inline bool host_check_vcpu(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	int64_t disp = op->mem.disp.value, in_segments = disp - (int64_t)offsetof(struct vcpu, seg);
	unsigned size = op->size / 8;
	bool writes = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	bool scratch = HOST_FIELD(spill), flag = HOST_FIELD(if_flag) || HOST_FIELD(df_flag);
	bool both_flags = host_vcpu_field_is(disp, size, offsetof(struct vcpu, if_flag), 2); /* POPF's store */
	bool low_flags = host_vcpu_field_is(disp, size, offsetof(struct vcpu, eflags), 2);
	bool lookup = host_writes(&c->insn[n], ZYDIS_REGISTER_R11) && HOST_FIELD(jumps);
	bool written = scratch || flag || both_flags || HOST_FIELD(eip), read = lookup || scratch || flag || HOST_FIELD(eflags) || low_flags || HOST_FIELD(intr);
	bool segment = in_segments >= 0 && in_segments < (int64_t)(SEG_COUNT * sizeof(struct segment)) &&
		       ((in_segments % sizeof(struct segment) == offsetof(struct segment, base) && size == 4) ||
			(in_segments % sizeof(struct segment) == offsetof(struct segment, limit) && size == 4) ||
			(in_segments % sizeof(struct segment) == offsetof(struct segment, selector) && size == 2));
	bool segment_written = segment && in_segments % sizeof(struct segment) != offsetof(struct segment, limit) && !MODE_IS_PROTECTED(c->in->mode);
	bool completion = HOST_FIELD(completion_hva) && host_writes(&c->insn[n], ZYDIS_REGISTER_R9);

	if (op->mem.index != ZYDIS_REGISTER_NONE)
		return host_refuse(c, c->insn[n].at, "an indexed access to the vCPU");
	if (writes && c->insn[n].d.mnemonic != ZYDIS_MNEMONIC_MOV)
		return host_refuse(c, c->insn[n].at, "more than a move to the vCPU");
	return (writes ? written || segment_written : read || segment || completion) ||
	       host_refuse(c, c->insn[n].at, "a field of the vCPU that is not for emitted code");
}

static inline bool host_is_lea(const struct host_insn *i, ZydisRegister to, ZydisRegister base, ZydisRegister index)
{
	return i->d.mnemonic == ZYDIS_MNEMONIC_LEA && i->op[0].reg.value == to && i->op[1].mem.base == base && i->op[1].mem.index == index &&
	       (index == ZYDIS_REGISTER_NONE || i->op[1].mem.scale == 1);
}

/* A load that faults unless a register is one number: where the window is at 0 `mov r9d, gs:[reg - number]`, else `lea r9d, [reg - number];
 * movzx r9d, byte [r12 + r9 + VCPU_TRAP]`, the last byte that can be read. */
struct host_trap {
	const struct host_insn *first; /* which has the register, and minus the number as its displacement */
	ZydisRegister from;
	uint32_t minus;
};

static inline bool host_traps(const struct host_code *c, const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
	       (host_is_low(c) ? op->mem.segment == ZYDIS_REGISTER_GS : op->mem.base == ZYDIS_REGISTER_R12 && op->mem.index != ZYDIS_REGISTER_NONE);
}

/* False where these instructions are none. */
static inline bool host_trap_of(const struct host_code *c, const struct host_insn *i, struct host_trap *trap)
{
	const struct host_insn *first = host_is_low(c) ? i : i - 1;
	const ZydisDecodedOperand *at = &first->op[1], *op = &i->op[1];

	if (first < c->insn || !host_traps(c, op) || i->op[0].reg.value != ZYDIS_REGISTER_R9D)
		return false;
	*trap = (struct host_trap){.first = first, .from = host_enclosing(at->mem.base), .minus = (uint32_t)at->mem.disp.value};
	if (host_is_low(c))
		return i->d.mnemonic == ZYDIS_MNEMONIC_MOV && i->d.address_width == 32 && op->mem.index == ZYDIS_REGISTER_NONE && op->size == 32;
	return i->d.mnemonic == ZYDIS_MNEMONIC_MOVZX && op->mem.index == ZYDIS_REGISTER_R9 && op->mem.scale == 1 && op->size == 8 &&
	       op->mem.disp.value == (int64_t)VCPU_TRAP && !i->is_target && host_is_lea(first, ZYDIS_REGISTER_R9D, at->mem.base, ZYDIS_REGISTER_NONE);
}

/* R8D is another target than the row's. */
static inline bool host_is_return_trap(const struct host_code *c, const struct host_trap *trap, const struct side_row *row)
{
	return (c->in->mode & MODE_TRAP_PADS) && trap->from == ZYDIS_REGISTER_R8 && row->undo == UNDO_TARGET_R8 && row->host_offset == trap->first->at &&
	       row->eip + trap->minus == 0;
}

/* R9D, the page's entry in the exec table, is another frame, where the block's links from other pages enter. Nothing is done before. */
static inline bool host_is_exec_trap(const struct host_code *c, const struct host_insn *i, const struct host_trap *trap, const struct side_row *row)
{
	return c->in->check && i->at > c->out->checked && i->end == c->out->body && trap->from == ZYDIS_REGISTER_R9 &&
	       trap->minus + c->in->gfn + 1 == 0 && !trap->first->is_target && row->undo == UNDO_NONE && !row->esp && row->eip == c->in->eip;
}

/* Behind mov r9d, [target] in the window: R9D is other code than a call is to find. */
static inline bool host_is_guard_trap(const struct host_code *c, const struct host_trap *trap, const struct side_row *row)
{
	const struct host_insn *load = trap->first - 1;
	bool guards = row->undo == UNDO_GUARD && c->in->peek && load >= c->insn && row->host_offset == load->at && !trap->first->is_target &&
		      trap->from == ZYDIS_REGISTER_R9 && load->d.mnemonic == ZYDIS_MNEMONIC_MOV && load->op[0].reg.value == ZYDIS_REGISTER_R9D &&
		      load->d.address_width == 32 && load->op[1].mem.base == ZYDIS_REGISTER_NONE && load->op[1].mem.index == ZYDIS_REGISTER_NONE;
	uint32_t bytes;

	if (!guards)
		return false;
	memcpy(&bytes, c->in->peek(c->in->peek_ctx, (gva_t)load->op[1].mem.disp.value), sizeof(bytes));
	return bytes + trap->minus == 0;
}

static inline bool host_check_trap(struct host_code *c, uint32_t n)
{
	const struct host_insn *i = &c->insn[n];
	const struct side_row *row = host_row(c, i->at);
	struct host_trap trap;

	if (!host_trap_of(c, i, &trap))
		return host_refuse(c, i->at, "a trap that is not whole");
	return (row && (host_is_return_trap(c, &trap, row) || host_is_exec_trap(c, i, &trap, row) || host_is_guard_trap(c, &trap, row))) ||
	       host_refuse(c, i->at, "a trap whose row is another's");
}

static inline bool host_check_tables(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	const struct host_insn *i = &c->insn[n];
	int64_t at = op->mem.disp.value + ABI_TABLES_BIAS;
	bool indexed = op->mem.index != ZYDIS_REGISTER_NONE;

	if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
		return host_refuse(c, i->at, "a store to the tables");
	if (!indexed)
		return (op->size == 32 && at >= ABI_EXEC_TABLE && at < ABI_TABLES_SIZE && at % 4 == 0) ||
		       host_refuse(c, i->at, "no entry of the exec table");
	if (op->mem.index != ZYDIS_REGISTER_R9 || op->mem.scale != 8 || op->size != 64 || (at != ABI_READ_TABLE && at != ABI_WRITE_TABLE))
		return host_refuse(c, i->at, "no entry of a soft table");
	return (n && i[-1].d.mnemonic == ZYDIS_MNEMONIC_SHRX && i[-1].op[0].reg.value == ZYDIS_REGISTER_R9D && !i->is_target) ||
	       host_refuse(c, i->at, "a table index that is no page number");
}

/* --- [R9]: the lookup must be whole, of this size and for this kind of access, and nobody may jump past it --- */

static inline bool host_is(const struct host_insn *i, ZydisMnemonic m, ZydisRegister to, ZydisRegister from)
{
	return i->d.mnemonic == m && i->op[0].reg.value == to && i->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER && i->op[1].reg.value == from;
}

static inline bool host_is_shift(const struct host_insn *i, ZydisMnemonic m, ZydisRegister to, ZydisRegister from, unsigned count)
{
	return host_is(i, m, to, from) && i->op[2].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && i->op[2].imm.value.u == count;
}

static inline bool host_goes_to(const struct host_code *c, const struct host_insn *i, ZydisMnemonic m, const struct host_insn *to)
{
	return i->d.mnemonic == m && i->branches && i->target == c->in->code_pc + to->at;
}

static inline bool host_calls_soft(const struct host_code *c, const struct host_insn *i)
{
	return i->d.mnemonic == ZYDIS_MNEMONIC_CALL && i->branches && i->target == c->in->stubs.soft;
}

/* A miss of the lookup that begins here, with mov r10, rcx. */
static inline bool host_is_miss(struct host_code *c, const struct host_insn *i, const struct host_insn *start)
{
	const struct side_row *row = host_lookup_row(c, i->at);

	return host_calls_soft(c, i) && row && row->host_offset == start->at;
}

/* Four instructions: does an access of `size` bytes at R8D stay in its page? ECX is parked. */
static inline bool host_is_crossing_check(struct host_code *c, const struct host_insn *i, unsigned size)
{
	return host_is_shift(&i[0], ZYDIS_MNEMONIC_RORX, ZYDIS_REGISTER_ECX, ZYDIS_REGISTER_R8D, PAGE_SHIFT) &&
	       host_is_lea(&i[1], ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_NONE) &&
	       i[1].op[1].mem.disp.value == (int64_t)(size - 1) << (32 - PAGE_SHIFT) &&
	       host_is_shift(&i[2], ZYDIS_MNEMONIC_RORX, ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_RCX, 32) &&
	       host_goes_to(c, &i[3], ZYDIS_MNEMONIC_JECXZ, &i[5]);
}

/* `sum` is lea r9, [rcx + r8], the last step of a lookup. Returns the first, or NULL if it is no lookup for this access. */
static inline const struct host_insn *host_lookup_start(struct host_code *c, const struct host_insn *sum, unsigned size, bool write)
{
	const struct host_insn *load = sum - 2, *shift = sum - 3, *miss = sum - 4, *start = size > 1 ? sum - 9 : sum - 6;
	int64_t table = (write ? ABI_WRITE_TABLE : ABI_READ_TABLE) - ABI_TABLES_BIAS;

	if (start < c->insn || !host_is(start, ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_R10, ZYDIS_REGISTER_RCX))
		return NULL;
	if (size > 1 ? !host_is_crossing_check(c, start + 1, size) : !host_goes_to(c, start + 1, ZYDIS_MNEMONIC_JMP, shift))
		return NULL;
	if (!host_is(shift, ZYDIS_MNEMONIC_SHRX, ZYDIS_REGISTER_R9D, ZYDIS_REGISTER_R8D) || shift->op[2].reg.value != ZYDIS_REGISTER_R14D)
		return NULL;
	if (load->d.mnemonic != ZYDIS_MNEMONIC_MOV || load->op[0].reg.value != ZYDIS_REGISTER_RCX ||
	    load->op[1].mem.base != ZYDIS_REGISTER_R14 || load->op[1].mem.disp.value != table)
		return NULL;
	if (!host_goes_to(c, sum - 1, ZYDIS_MNEMONIC_JRCXZ, miss) || !host_is_miss(c, miss, start))
		return NULL;
	return host_is(sum + 1, ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_R10) ? start : NULL;
}

/* A branch from elsewhere into (from, to] would arrive with another R9. */
static inline bool host_is_private(struct host_code *c, const struct host_insn *from, const struct host_insn *to)
{
	for (uint32_t n = 0; n < c->count; n++) {
		const struct host_insn *i = &c->insn[n];
		uint64_t target = i->target - c->in->code_pc;
		bool inside = i >= from && i <= to;
		if (inside && i->d.mnemonic == ZYDIS_MNEMONIC_CALL && !host_calls_soft(c, i))
			return false;
		if (i->branches && !inside && target > from->at && target <= to->at)
			return false;
	}
	return true;
}

static inline const struct host_insn *host_r9_origin(const struct host_code *c, uint32_t n)
{
	for (uint32_t k = n; k-- > 0;)
		if (host_writes(&c->insn[k], ZYDIS_REGISTER_R9))
			return &c->insn[k];
	return NULL;
}

/* Behind mov r10, rcx and a call of C, which comes back with R9 set: C knows the access by its row. */
static inline bool host_is_left_to_c(struct host_code *c, const struct host_insn *access)
{
	for (const struct host_insn *i = access; i-- > c->insn + 1 && !host_writes(i, ZYDIS_REGISTER_R9);)
		if (host_calls_soft(c, i))
			return host_is_miss(c, i, i - 1) && host_is_private(c, i - 1, access);
	return false;
}

static inline bool host_check_looked_up(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	const struct host_insn *i = &c->insn[n], *origin = host_r9_origin(c, n);
	bool writes = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	const struct side_row *row = host_row(c, i->at);

	if (op->mem.index != ZYDIS_REGISTER_NONE || op->mem.disp.value != 0)
		return host_refuse(c, i->at, "an access beside R9");
	if (host_is_left_to_c(c, i))
		return host_row_describes(c, n, op, true);
	if (!origin)
		return host_refuse(c, i->at, "an access through R9 without a lookup");
	/* The read of an instruction that also writes goes where it writes. */
	bool table = writes || (row && (row->access & ROW_WRITE));
	if (origin->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY && origin->op[1].mem.base == ZYDIS_REGISTER_R12) {
		if (!(c->in->mode & MODE_THUNK) || !table || !host_is_private(c, origin, i))
			return host_refuse(c, i->at, "an access through R9 that is not the thunk's write");
		return host_row_describes(c, n, op, true);
	}
	if (!host_is_lea(origin, ZYDIS_REGISTER_R9, ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_R8))
		return host_refuse(c, i->at, "an access through R9, which is no host address");
	const struct host_insn *start = host_lookup_start(c, origin, op->size / 8, table);
	if (!start || !host_is_private(c, start, i))
		return host_refuse(c, i->at, "an access whose lookup is not whole");
	return host_row_describes(c, n, op, true);
}

/* MASKMOVQ and MASKMOVDQU: RDI is R9 for the one instruction. */
static inline bool host_check_maskmov(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	const struct host_insn *i = &c->insn[n];
	bool framed = n > 2 && n + 1 < c->count && host_is(i - 2, ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_R10, ZYDIS_REGISTER_RDI) &&
		      host_is(i - 1, ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_RDI, ZYDIS_REGISTER_R9) &&
		      host_is(i + 1, ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_RDI, ZYDIS_REGISTER_R10);
	const struct host_insn *origin = host_r9_origin(c, n);
	unsigned size = op->size / 8;

	if (!framed || op->mem.base != ZYDIS_REGISTER_RDI || op->mem.segment != ZYDIS_REGISTER_DS || i->d.address_width != 64)
		return host_refuse(c, i->at, "a masked store without its frame");
	if (host_is_left_to_c(c, i))
		return true;
	if (!origin)
		return host_refuse(c, i->at, "a masked store without a lookup");
	if (c->in->mode & MODE_THUNK && origin->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY && origin->op[1].mem.base == ZYDIS_REGISTER_R12)
		return host_is_private(c, origin, i) || host_refuse(c, i->at, "a masked store entered in the middle");
	const struct host_insn *start = host_is_lea(origin, ZYDIS_REGISTER_R9, ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_R8) ?
		host_lookup_start(c, origin, size, true) : NULL;
	return (start && host_is_private(c, start, i)) || host_refuse(c, i->at, "a masked store whose lookup is not whole");
}

/* Eight instructions: are RCX's count small and DF clear? Else the jump at the seventh is taken. */
static inline bool host_is_count_check(struct host_code *c, const struct host_insn *i)
{
	const struct host_insn *cold = i[6].branches ? host_insn_at(c, i[6].target - c->in->code_pc) : NULL;

	return host_is(&i[0], ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_R10, ZYDIS_REGISTER_RCX) &&
	       host_is_shift(&i[1], ZYDIS_MNEMONIC_RORX, ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_RCX, 20) &&
	       host_is(&i[2], ZYDIS_MNEMONIC_MOVZX, ZYDIS_REGISTER_ECX, ZYDIS_REGISTER_CX) && i[3].d.mnemonic == ZYDIS_MNEMONIC_MOVZX &&
	       i[3].op[0].reg.value == ZYDIS_REGISTER_R9D && i[3].op[1].mem.base == ZYDIS_REGISTER_R12 && i[3].op[1].size == 8 &&
	       i[3].op[1].mem.disp.value == offsetof(struct vcpu, df_flag) &&
	       host_is_lea(&i[4], ZYDIS_REGISTER_ECX, ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_R9) &&
	       host_goes_to(c, &i[5], ZYDIS_MNEMONIC_JRCXZ, &i[7]) && i[6].d.mnemonic == ZYDIS_MNEMONIC_JMP && cold &&
	       cold[4].branches && cold[4].target == c->in->stubs.callout && host_is(cold, ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_R10) &&
	       host_is(&i[7], ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_R10);
}

/* REP MOVS, REP STOS: pointers into the window, for so few elements that they cannot leave its guard; and rows that let a fault begin the
 * instruction anew. */
static inline bool host_check_repeat(struct host_code *c, uint32_t n)
{
	const struct host_insn *i = &c->insn[n];
	bool moves = i->d.mnemonic == ZYDIS_MNEMONIC_MOVSB || i->d.mnemonic == ZYDIS_MNEMONIC_MOVSW || i->d.mnemonic == ZYDIS_MNEMONIC_MOVSD;
	unsigned pointers = moves ? 2 : 1;
	const struct host_insn *to_host = i - pointers, *check = to_host - 8, *back = i + 1;

	if (check < c->insn || n + pointers >= c->count || !host_is_count_check(c, check))
		return host_refuse(c, i->at, "a repetition whose count is not checked");
	if (!host_is_lea(to_host, ZYDIS_REGISTER_RDI, ZYDIS_REGISTER_R15, ZYDIS_REGISTER_RDI) ||
	    (moves && !host_is_lea(to_host + 1, ZYDIS_REGISTER_RSI, ZYDIS_REGISTER_R15, ZYDIS_REGISTER_RSI)))
		return host_refuse(c, i->at, "a repetition outside of the window");
	if (!host_is(back, ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_EDI, ZYDIS_REGISTER_EDI) ||
	    (moves && !host_is(back + 1, ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_ESI, ZYDIS_REGISTER_ESI)))
		return host_refuse(c, i->at, "a repetition that leaves host addresses in registers");
	const struct side_row *row = host_row(c, i->at), *after = host_row(c, back->at);
	if (!row || row->undo != UNDO_REPEAT || row->host_offset != to_host->at || !after || after->host_offset != back->at ||
	    after->undo != UNDO_NONE || after->eip == row->eip || row->esp)
		return host_refuse(c, i->at, "a repetition whose rows do not say how to go on");
	return host_is_private(c, check, back + pointers - 1) || host_refuse(c, i->at, "a repetition entered in the middle");
}

static inline bool host_rotates_into_r10(const struct host_insn *i, unsigned count)
{
	return i->d.mnemonic == ZYDIS_MNEMONIC_RORX && i->op[0].reg.value == ZYDIS_REGISTER_R10D && i->op[2].imm.value.u == count;
}

/* A register bit offset reaches far beyond the operand: only one that was cut to the operand's size may be used. */
static inline bool host_check_bit_offset(struct host_code *c, uint32_t n)
{
	const struct host_insn *i = &c->insn[n];
	bool is_bit = i->d.mnemonic == ZYDIS_MNEMONIC_BT || i->d.mnemonic == ZYDIS_MNEMONIC_BTC || i->d.mnemonic == ZYDIS_MNEMONIC_BTR ||
		      i->d.mnemonic == ZYDIS_MNEMONIC_BTS;
	unsigned bits = i->d.operand_width;

	if (!is_bit || i->op[0].type != ZYDIS_OPERAND_TYPE_MEMORY || i->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return true;
	unsigned kept = bits == 32 ? 5 : 4;
	bool cut = n >= 3 && host_enclosing(i->op[1].reg.value) == ZYDIS_REGISTER_R10 && !i->is_target && !i[-1].is_target && !i[-2].is_target &&
		   host_is(i - 1, ZYDIS_MNEMONIC_SHRX, ZYDIS_REGISTER_R10D, ZYDIS_REGISTER_R10D) && i[-1].op[2].reg.value == ZYDIS_REGISTER_R11D &&
		   host_rotates_into_r10(i - 2, kept) && i[-3].d.mnemonic == ZYDIS_MNEMONIC_MOV &&
		   i[-3].op[0].reg.value == ZYDIS_REGISTER_R11D && i[-3].op[1].imm.value.u == 32 - kept;
	return cut || host_refuse(c, i->at, "a bit offset that may leave its operand");
}

static inline bool host_is_load_of_jumps(const struct host_insn *i)
{
	return i->d.mnemonic == ZYDIS_MNEMONIC_MOV && i->op[0].reg.value == ZYDIS_REGISTER_R11 && i->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY &&
	       i->op[1].mem.base == ZYDIS_REGISTER_R12 && i->op[1].mem.disp.value == offsetof(struct vcpu, jumps);
}

static inline bool host_check_site(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op);

/* rorx r9d, r8d, 3; lea r9d, [r9 + r9]; movzx r9d, r9w; mov r11, [jumps]; jmp or call [r11 + r9 * 4]: to a pad, or to C. */
static inline bool host_check_lookup(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	const struct host_insn *i = &c->insn[n];
	bool transfers = (i->d.mnemonic == ZYDIS_MNEMONIC_JMP || i->d.mnemonic == ZYDIS_MNEMONIC_CALL) && i->d.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR;
	if (transfers && n >= 2 && host_is_lea(i - 1, ZYDIS_REGISTER_R11, ZYDIS_REGISTER_R11, ZYDIS_REGISTER_NONE))
		return host_check_site(c, n, op);
	bool whole = n >= 4 && host_is_load_of_jumps(i - 1) &&
		     host_is(i - 2, ZYDIS_MNEMONIC_MOVZX, ZYDIS_REGISTER_R9D, ZYDIS_REGISTER_R9W) &&
		     host_is_lea(i - 3, ZYDIS_REGISTER_R9D, ZYDIS_REGISTER_R9, ZYDIS_REGISTER_R9) &&
		     host_is_shift(i - 4, ZYDIS_MNEMONIC_RORX, ZYDIS_REGISTER_R9D, ZYDIS_REGISTER_R8D, ABI_JUMP_SHIFT);

	if (!transfers || !whole || op->mem.index != ZYDIS_REGISTER_R9 || op->mem.scale != 4 || op->mem.disp.value || op->size != 64)
		return host_refuse(c, i->at, "an access through R11 that is no inline lookup");
	for (unsigned k = 0; k < 4; k++)
		if (i[-(int)k].is_target)
			return host_refuse(c, i->at, "an inline lookup entered in the middle");
	return true;
}

/* By a slot that the site knows: movzx r9d, an index's low byte, if it is a table's; mov r11, [jumps]; lea r11, [r11 + slots]; jmp or call [r11 + r9 * 8]. */
static inline bool host_check_site(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	const struct host_insn *i = &c->insn[n];
	int64_t from = (int64_t)JUMP_SLOTS * 8, tables = from + (int64_t)JUMP_CONSTANTS * 8, end = from + (int64_t)JUMP_SITES * 8;
	int64_t slots = i[-1].op[1].mem.disp.value;
	bool table = op->mem.index == ZYDIS_REGISTER_R9;
	unsigned length = table ? 4 : 3;
	bool indexed = table && n >= 3 && op->mem.scale == 8 && i[-3].d.mnemonic == ZYDIS_MNEMONIC_MOVZX && i[-3].op[0].reg.value == ZYDIS_REGISTER_R9D &&
		       i[-3].op[1].type == ZYDIS_OPERAND_TYPE_REGISTER && i[-3].op[1].size == 8 && slots >= tables && slots + (int64_t)JUMP_SITE_SPAN * 8 <= end;
	bool plain = op->mem.index == ZYDIS_REGISTER_NONE && slots >= from && slots < tables;

	if (!host_is_load_of_jumps(i - 2) || op->mem.disp.value || op->size != 64 || slots % 8 || !(indexed || plain))
		return host_refuse(c, i->at, "an access through R11 that is no slot of a site");
	for (unsigned k = 0; k < length - 1; k++)
		if (i[-(int)k].is_target)
			return host_refuse(c, i->at, "a slot of a site looked up from the middle");
	return true;
}

static inline bool host_check_memory(struct host_code *c, uint32_t n, const ZydisDecodedOperand *op)
{
	const struct host_insn *i = &c->insn[n];

	if (op->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
		return i->d.mnemonic == ZYDIS_MNEMONIC_LEA || host_refuse(c, i->at, "an address that is not LEA's");
	if (i->d.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ || i->d.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU)
		return host_check_maskmov(c, n, op);
	if (host_repeats(i))
		return i->d.address_width == 64 && host_check_repeat(c, n);
	if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
		return i->d.mnemonic == ZYDIS_MNEMONIC_CALL || i->d.mnemonic == ZYDIS_MNEMONIC_RET ||
		       host_refuse(c, i->at, "a hidden memory operand");
	if (!host_check_bit_offset(c, n))
		return false;
	if (host_traps(c, op))
		return host_check_trap(c, n);
	if (op->mem.segment == ZYDIS_REGISTER_GS || (host_is_low(c) && i->d.address_width == 32))
		return host_check_window(c, n, op);
	if (i->d.address_width != 64 || (op->mem.segment != ZYDIS_REGISTER_DS && op->mem.segment != ZYDIS_REGISTER_SS))
		return host_refuse(c, i->at, "a segment or address size that host code does not use");
	if (host_is_low_address(c, op))
		return host_check_low(c, n, op);
	switch (op->mem.base) {
	case ZYDIS_REGISTER_R12: return host_check_vcpu(c, n, op);
	case ZYDIS_REGISTER_R14: return host_check_tables(c, n, op);
	case ZYDIS_REGISTER_R9: return host_check_looked_up(c, n, op);
	case ZYDIS_REGISTER_R13: return host_check_stack(c, n, op);
	case ZYDIS_REGISTER_R11: return host_check_lookup(c, n, op);
	case ZYDIS_REGISTER_R15: return host_check_plain_window(c, n, op);
	default: return host_refuse(c, i->at, "memory that is neither the guest's nor the vCPU's");
	}
}

/* What can be said only when all branches are known: sequences that must not be entered in the middle. */
static inline bool host_check_entries(struct host_code *c, uint32_t n)
{
	for (unsigned k = 0; k < c->insn[n].d.operand_count; k++) {
		const ZydisDecodedOperand *op = &c->insn[n].op[k];
		if (host_traps(c, op) && !host_check_trap(c, n))
			return false;
		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.base == ZYDIS_REGISTER_R14 && !host_check_tables(c, n, op))
			return false;
		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.base == ZYDIS_REGISTER_R11 && op->mem.type != ZYDIS_MEMOP_TYPE_AGEN && !host_check_lookup(c, n, op))
			return false;
	}
	return host_check_bit_offset(c, n) && (!host_repeats(&c->insn[n]) || host_check_repeat(c, n));
}

#endif
