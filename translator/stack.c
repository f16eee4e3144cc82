/* Stack instructions: always rewritten, since guest ESP is R13. The store or load comes first, ESP last, so that a fault restarts. R13
 * itself is brought up to date only when the value is needed: a chain of adjustments would be the longest dependency of a call-heavy
 * program (recursive fib: 1.8 x native with one for each push and pop, 1.1 with one for all).
 *
 * R13 is a host address in the window, so that the stack is [R13 + constant], which processors forward from store to load in short loops
 * as they do for RSP (Zen 3, recursive fib: 1.2 x native, against 1.45 with [R15 + R13]). It must never wander off: a step is added to it as it is
 * only where it is known to be near the window, since an access through it would have faulted in the guard otherwise; else its low half
 * alone is stepped, and the window added anew. In the window at 0 the low half is all there is: any step is one instruction. */
#include "translator/internal.h"

static bool is_narrow(const struct translation *t)
{
	return !(t->in->mode & MODE_SS32);
}

struct guest_mem stack_top(const struct translation *t, int32_t disp, unsigned size, bool write)
{
	return (struct guest_mem){.seg = SEG_SS, .base = ESP, .index = NO_REG, .scale = 1, .a16 = is_narrow(t), .disp = disp, .size = (uint8_t)size,
				  .write = write};
}

void esp_is_near(struct translation *t)
{
	t->esp_near = true;
	t->near_rows = t->out->row_count;
}

static void esp_assign_sum(struct translation *t, enum host_reg from, int32_t by)
{
	if (!access_is_low(t))
		emit_lea64(&t->e, REG_GUEST_ESP, mem_sum(REG_WINDOW, from, 1, by));
	else if (by)
		emit_lea(&t->e, REG_GUEST_ESP, mem_at(from, by));
	else if (from != REG_GUEST_ESP)
		emit_mov(&t->e, REG_GUEST_ESP, from);
	t->esp = 0;
	esp_is_near(t);
}

void esp_assign(struct translation *t, enum host_reg from)
{
	esp_assign_sum(t, from, 0);
}

static bool within_reach(int32_t by)
{
	return by >= -ESP_REACH && by <= ESP_REACH;
}

/* R13 plus a constant. The one instruction that changes R13 changes guest ESP. */
static void esp_step(struct translation *t, int32_t by)
{
	if (access_is_low(t)) {
		esp_assign_sum(t, REG_GUEST_ESP, by);
	} else if (t->esp_near && within_reach(by)) {
		rows_void_entries(t, t->near_rows);
		emit_lea64(&t->e, REG_GUEST_ESP, mem_at(REG_GUEST_ESP, by));
		t->esp = 0;
		t->esp_near = false;
	} else {
		emit_lea(&t->e, R9, mem_at(REG_GUEST_ESP, by));
		esp_assign(t, R9);
	}
}

void esp_flush(struct translation *t, uint32_t eip)
{
	if (!t->esp)
		return;
	esp_step(t, t->esp);
	row_add(t, UNDO_NONE, eip, 0);
}

void esp_renew(struct translation *t, uint32_t next)
{
	row_add(t, UNDO_NONE, next, 0);
	t->esp_near = false;
	esp_step(t, 0);
}

/* The upper half of guest ESP stays as it is. */
static void set_sp(struct translation *t, enum host_reg from)
{
	emit_op(&t->e, &(struct host_op){.opcode = 0x8B, .reg = REG_GUEST_ESP, .rm = (uint8_t)from, .p66 = true});
	t->esp_near = false;
}

void esp_set(struct translation *t, enum host_reg from, int32_t by)
{
	if (from == REG_GUEST_ESP && !is_narrow(t)) {
		esp_step(t, (int32_t)((uint32_t)t->esp + (uint32_t)by));
		return;
	}
	if (!is_narrow(t) && (within_reach(by) || access_is_low(t))) {
		esp_assign_sum(t, from, by);
		return;
	}
	emit_lea(&t->e, R9, mem_at(from, by));
	if (is_narrow(t))
		set_sp(t, R9);
	else
		esp_assign(t, R9);
}

static bool defer(struct translation *t, int32_t by)
{
	int64_t sum = (int64_t)t->esp + by;
	bool fits = !is_narrow(t) && sum % 4 == 0 && sum >= ROW_ESP_MIN && sum <= ROW_ESP_MAX;

	if (fits)
		t->esp = (int32_t)sum;
	return fits;
}

void esp_move(struct translation *t, int32_t by)
{
	if (!defer(t, by))
		esp_set(t, REG_GUEST_ESP, by);
}

void esp_add(struct translation *t, uint32_t next, int32_t by)
{
	if (defer(t, by))
		return;
	/* The memory that was pushed from or popped to may have overlapped the stack's word: no beginning anew. */
	if (by == 2 || by == -2 || by == 4 || by == -4)
		row_add(t, by < 0 ? UNDO_PUSH : UNDO_POP, next, row_size((unsigned)(by < 0 ? -by : by)));
	esp_set(t, REG_GUEST_ESP, by);
}

bool stack_is_plain(const struct translation *t, const struct insn *insn)
{
	return !is_narrow(t) && MODE_SEG(t->in->mode, SEG_SS) == MODE_SEG_FLAT && !access_is_soft(t, insn);
}

struct host_mem stack_push_mem(struct translation *t, const struct insn *insn, unsigned size)
{
	struct guest_mem m = stack_top(t, -(int32_t)size, size, true);

	return access_emit(t, insn, &m, false);
}

static void push_register(struct translation *t, const struct insn *insn, enum host_reg from, unsigned size)
{
	if (from == REG_GUEST_ESP)
		esp_flush(t, insn->eip);
	emit_store(&t->e, stack_push_mem(t, insn, size), from, size);
	esp_add(t, insn->eip + insn->length, -(int32_t)size);
}

static unsigned stack_size(const struct insn *insn)
{
	return insn->form->operand_width == 16 ? 2 : 4;
}

/* PUSH m: the value waits in vcpu.spill, which no lookup of the second access disturbs, if there is one. */
static void push_memory(struct translation *t, const struct insn *insn, unsigned size)
{
	struct guest_mem m = access_of(insn, &insn->form->op[0]);
	struct host_mem from = access_emit(t, insn, &m, false);
	bool waits = !stack_is_plain(t, insn);

	emit_load(&t->e, R10, from, size);
	if (waits)
		emit_store(&t->e, VCPU(spill), R10, 4);
	struct host_mem to = stack_push_mem(t, insn, size);
	if (waits)
		emit_load(&t->e, R10, VCPU(spill), 4);
	emit_store(&t->e, to, R10, size);
	esp_add(t, insn->eip + insn->length, -(int32_t)size);
}

bool emit_push(struct translation *t, const struct insn *insn)
{
	unsigned size = stack_size(insn);

	switch (insn->form->op[0].type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		push_register(t, insn, host_gpr(insn->form->op[0].number), size);
		break;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		emit_store_imm(&t->e, stack_push_mem(t, insn, size), insn->imm[0], size);
		esp_add(t, insn->eip + insn->length, -(int32_t)size);
		break;
	default:
		push_memory(t, insn, size);
	}
	return false;
}

bool emit_push_seg(struct translation *t, const struct insn *insn)
{
	unsigned size = stack_size(insn);
	unsigned seg = insn->form->op[0].number;
	struct host_mem to = stack_push_mem(t, insn, size);

	emit_load(&t->e, R10, vcpu_field(offsetof(struct vcpu, seg) + seg * sizeof(struct segment)), 2);
	emit_store(&t->e, to, R10, size);
	esp_add(t, insn->eip + insn->length, -(int32_t)size);
	return false;
}

static void pop_register(struct translation *t, const struct insn *insn, unsigned gpr, unsigned size)
{
	struct guest_mem m = stack_top(t, 0, size, false);
	struct host_mem from = access_emit(t, insn, &m, false);

	if (gpr == ESP) {
		/* The value replaces ESP after the increment; 16 bits of it only in the low half. */
		emit_load(&t->e, R10, from, size);
		if (size == 2 && is_narrow(t)) {
			set_sp(t, R10);
		} else if (size == 2) {
			emit_lea(&t->e, R8, mem_at(REG_GUEST_ESP, t->esp + 2));
			emit_op(&t->e, &(struct host_op){.opcode = 0x8B, .reg = R8, .rm = R10, .p66 = true});
			esp_assign(t, R8);
		} else {
			esp_assign(t, R10);
		}
		return;
	}
	emit_op(&t->e, &(struct host_op){.opcode = 0x8B, .reg = (uint8_t)gpr, .rm = NO_REG, .mem = from, .p66 = size == 2});
	esp_add(t, insn->eip + insn->length, (int32_t)size);
}

/* [ESP + ..] where ESP is as behind a pop from a 16-bit stack: its low half has wrapped. */
static struct host_mem access_behind_pop(struct translation *t, const struct insn *insn, const struct guest_mem *m, unsigned size)
{
	struct emitter *e = &t->e;

	emit_lea(e, R9, mem_at(REG_GUEST_ESP, (int32_t)size));
	emit_mov(e, R8, REG_GUEST_ESP);
	emit_op(e, &(struct host_op){.opcode = 0x8B, .reg = R8, .rm = R9, .p66 = true});
	emit_lea(e, R8, mem_sum(R8, m->index == NO_REG ? NO_REG : host_gpr(m->index), m->scale, m->disp));
	return access_emit_r8(t, insn, m);
}

/* POP m: an address with ESP uses its value after the pop. */
static void pop_memory(struct translation *t, const struct insn *insn, unsigned size)
{
	struct guest_mem from = stack_top(t, 0, size, false), to = access_of(insn, &insn->form->op[0]);
	struct host_mem h = access_emit(t, insn, &from, false);

	emit_load(&t->e, R10, h, size);
	emit_store(&t->e, VCPU(spill), R10, 4);
	to.write = true;
	if (to.base == ESP && is_narrow(t)) {
		h = access_behind_pop(t, insn, &to, size);
	} else {
		if (to.base == ESP)
			to.disp += (int32_t)size;
		h = access_emit(t, insn, &to, false);
	}
	emit_load(&t->e, R10, VCPU(spill), 4);
	emit_store(&t->e, h, R10, size);
	esp_add(t, insn->eip + insn->length, (int32_t)size);
}

bool emit_pop(struct translation *t, const struct insn *insn)
{
	unsigned size = stack_size(insn);

	if (insn->form->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
		pop_register(t, insn, insn->form->op[0].number, size);
	else
		pop_memory(t, insn, size);
	return false;
}

/* LEAVE: ESP = EBP, then POP EBP. */
bool emit_leave(struct translation *t, const struct insn *insn)
{
	unsigned size = stack_size(insn);
	struct guest_mem m = {.seg = SEG_SS, .base = EBP, .index = NO_REG, .scale = 1, .a16 = is_narrow(t), .size = (uint8_t)size};
	struct host_mem from = access_emit(t, insn, &m, false);

	emit_load(&t->e, R10, from, size);
	if (size == 2) {
		emit_mov(&t->e, R8, RBP);
		emit_op(&t->e, &(struct host_op){.opcode = 0x8B, .reg = R8, .rm = R10, .p66 = true});
		emit_mov(&t->e, R10, R8);
	}
	esp_set(t, RBP, (int32_t)size);
	row_add(t, UNDO_EBP_R10, insn->eip + insn->length, 0);
	emit_mov(&t->e, RBP, R10);
	return false;
}

/* Is R13 brought up to date before another step could be joined to what is pending? */
static bool flush_is_next(const struct translation *t)
{
	for (uint32_t i = t->emitted + 1; i < t->count; i++) {
		const struct insn *insn = &t->insns[i];
		bool generic = insn->rule->emit == emit_generic;
		if (!insn->rule->defers_esp || (generic && insn->form->uses_esp) || t->joins >> i & 1)
			return true;
		if (!generic && insn->rule->emit != emit_lea_insn)
			return false;
	}
	return true;
}

/* Does the next instruction set all status flags, whatever they were, and can it not fault? Then nobody sees those of this one, but for an interrupt between. */
static bool flags_are_dead(const struct translation *t)
{
	static const uint16_t setters[] = {ZYDIS_MNEMONIC_CMP, ZYDIS_MNEMONIC_TEST, ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_SUB, ZYDIS_MNEMONIC_AND,
					   ZYDIS_MNEMONIC_OR, ZYDIS_MNEMONIC_XOR};
	const struct insn *next = &t->insns[t->emitted + 1];

	if (t->emitted + 1 >= t->count || t->joins >> (t->emitted + 1) & 1 || block_is_full(t) || next->rule->emit != emit_generic)
		return false;
	if (next->form->has_memory || next->form->uses_esp || next->form->uses_high_byte)
		return false;
	for (unsigned i = 0; i < ARRAY_LEN(setters); i++)
		if (next->form->mnemonic == setters[i])
			return true;
	return false;
}

/* ADD or SUB ESP, imm: the flags are made apart, so that R13 need not be brought up to date; but not if it is soon, and not longer by itself. */
bool emit_add_esp(struct translation *t, const struct insn *insn)
{
	int32_t imm = (int32_t)insn->imm[0];
	bool subtracts = insn->form->mnemonic == ZYDIS_MNEMONIC_SUB;
	bool compares = subtracts && !t->esp && imm != INT32_MIN; /* CMP has the flags of SUB, and needs no copy */

	if (within_reach(imm) && !is_narrow(t) && flags_are_dead(t)) {
		rows_shadow(t, insn->eip + insn->length);
		esp_add(t, insn->eip + insn->length, subtracts ? -imm : imm);
		return false;
	}
	if (access_is_low(t) && !is_narrow(t))
		esp_flush(t, insn->eip);
	if (!t->esp && !is_narrow(t) && (access_is_low(t) || (!(compares && t->esp_near) && flush_is_next(t)))) {
		emit_alu_imm(&t->e, subtracts ? 5 : 0, REG_GUEST_ESP, (uint32_t)imm);
		row_add(t, UNDO_NONE, insn->eip + insn->length, 0);
		esp_assign(t, REG_GUEST_ESP);
		return false;
	}
	if (t->esp)
		emit_lea(&t->e, R8, mem_at(REG_GUEST_ESP, t->esp));
	else if (!compares)
		emit_mov(&t->e, R8, REG_GUEST_ESP);
	emit_alu_imm(&t->e, compares ? 7 : subtracts ? 5 : 0, compares ? REG_GUEST_ESP : R8, (uint32_t)imm);
	row_add_shadow(t, insn->eip);
	if (imm == INT32_MIN) {
		esp_assign(t, R8);
		return false;
	}
	esp_add(t, insn->eip + insn->length, subtracts ? -imm : imm);
	return false;
}
