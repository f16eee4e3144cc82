/* Stack instructions: always rewritten, since guest ESP is R12. The store or load comes first, ESP last, so that a fault restarts. */
#include "translator/internal.h"

static struct guest_mem stack_top(int32_t disp, unsigned size, bool write)
{
	return (struct guest_mem){.seg = SEG_SS, .base = ESP, .index = NO_REG, .scale = 1, .disp = disp, .size = (uint8_t)size, .write = write};
}

void stack_adjust(struct translation *t, int32_t by)
{
	emit_lea(&t->e, REG_GUEST_ESP, mem_at(REG_GUEST_ESP, by));
}

struct host_mem stack_push_mem(struct translation *t, const struct insn *insn, unsigned size)
{
	struct guest_mem m = stack_top(-(int32_t)size, size, true);

	return access_emit(t, insn, &m, false);
}

static void push_register(struct translation *t, const struct insn *insn, enum host_reg from, unsigned size)
{
	emit_store(&t->e, stack_push_mem(t, insn, size), from, size);
	stack_adjust(t, -(int32_t)size);
}

static unsigned stack_size(const struct insn *insn)
{
	return insn->d.operand_width == 16 ? 2 : 4;
}

/* PUSH m: the value waits in vcpu.spill, which no lookup of the second access disturbs. */
static void push_memory(struct translation *t, const struct insn *insn, unsigned size)
{
	struct guest_mem m = access_of(insn, &insn->op[0]);
	struct host_mem from = access_emit(t, insn, &m, false);

	emit_load(&t->e, R10, from, size);
	emit_store(&t->e, VCPU(spill), R10, 4);
	struct host_mem to = stack_push_mem(t, insn, size);
	emit_load(&t->e, R10, VCPU(spill), 4);
	emit_store(&t->e, to, R10, size);
	stack_adjust(t, -(int32_t)size);
}

bool emit_push(struct translation *t, const struct insn *insn)
{
	unsigned size = stack_size(insn);

	switch (insn->op[0].type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		push_register(t, insn, host_gpr(gpr_of(insn->op[0].reg.value)), size);
		break;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		emit_store_imm(&t->e, stack_push_mem(t, insn, size), (uint32_t)insn->op[0].imm.value.u, size);
		stack_adjust(t, -(int32_t)size);
		break;
	default:
		push_memory(t, insn, size);
	}
	return false;
}

bool emit_push_seg(struct translation *t, const struct insn *insn)
{
	unsigned size = stack_size(insn);
	unsigned seg = (unsigned)(insn->op[0].reg.value - ZYDIS_REGISTER_ES);
	struct host_mem to = stack_push_mem(t, insn, size);

	emit_load(&t->e, R10, vcpu_field(offsetof(struct vcpu, seg) + seg * sizeof(struct segment)), 2);
	emit_store(&t->e, to, R10, size);
	stack_adjust(t, -(int32_t)size);
	return false;
}

static void move_to_gpr(struct translation *t, unsigned gpr, enum host_reg from, unsigned size)
{
	emit_op(&t->e, &(struct host_op){.opcode = 0x8B, .reg = (uint8_t)host_gpr(gpr), .rm = (uint8_t)from, .p66 = size == 2});
}

static void pop_register(struct translation *t, const struct insn *insn, unsigned gpr, unsigned size)
{
	struct guest_mem m = stack_top(0, size, false);
	struct host_mem from = access_emit(t, insn, &m, false);

	if (gpr == ESP) {
		/* The value replaces ESP after the increment; 16 bits of it only in the low half. */
		emit_load(&t->e, R10, from, size);
		if (size == 2)
			stack_adjust(t, 2);
		move_to_gpr(t, ESP, R10, size);
		return;
	}
	emit_op(&t->e, &(struct host_op){.opcode = 0x8B, .reg = (uint8_t)gpr, .rm = NO_REG, .mem = from, .p66 = size == 2});
	stack_adjust(t, (int32_t)size);
}

/* POP m: an address with ESP uses its value after the pop. */
static void pop_memory(struct translation *t, const struct insn *insn, unsigned size)
{
	struct guest_mem from = stack_top(0, size, false), to = access_of(insn, &insn->op[0]);
	struct host_mem h = access_emit(t, insn, &from, false);

	emit_load(&t->e, R10, h, size);
	emit_store(&t->e, VCPU(spill), R10, 4);
	if (to.base == ESP)
		to.disp += (int32_t)size;
	to.write = true;
	h = access_emit(t, insn, &to, false);
	emit_load(&t->e, R10, VCPU(spill), 4);
	emit_store(&t->e, h, R10, size);
	stack_adjust(t, (int32_t)size);
}

bool emit_pop(struct translation *t, const struct insn *insn)
{
	unsigned size = stack_size(insn);

	if (insn->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
		pop_register(t, insn, gpr_of(insn->op[0].reg.value), size);
	else
		pop_memory(t, insn, size);
	return false;
}

/* LEAVE: ESP = EBP, then POP EBP. */
bool emit_leave(struct translation *t, const struct insn *insn)
{
	unsigned size = stack_size(insn);
	struct guest_mem m = {.seg = SEG_SS, .base = EBP, .index = NO_REG, .scale = 1, .size = (uint8_t)size};
	struct host_mem from = access_emit(t, insn, &m, false);

	emit_load(&t->e, R10, from, size);
	emit_lea(&t->e, REG_GUEST_ESP, mem_at(RBP, (int32_t)size));
	move_to_gpr(t, EBP, R10, size);
	return false;
}
