/* Slots of the inline lookup that an indirect branch knows before it has read where it goes, so that the processor need not wait for that to find out
 * where it is led: beside the slots that targets have by their EIPs. A branch through a table has them by the table and the low byte of its index, one
 * through a word at a constant place, as linkage tables have them, has one of its own. They are hints like all others: pads tell. */
#include "translator/internal.h"

#define UNIT 8u /* a table's slots begin at a cache line */

/* One of so many. */
static uint32_t scatter(uint32_t key, uint32_t count)
{
	return (uint32_t)((uint64_t)(key * 0x9E3779B1u) * count >> 32);
}

/* From the beginning of the inline lookup's table, in bytes. */
static int32_t slot_disp(uint32_t slot)
{
	return (int32_t)((JUMP_SLOTS + slot) * sizeof(host_pc_t));
}

static int32_t table_slots(const struct guest_mem *m)
{
	return slot_disp(JUMP_CONSTANTS + UNIT * scatter((uint32_t)m->disp, (JUMP_SITES - JUMP_CONSTANTS - JUMP_SITE_SPAN) / UNIT));
}

/* The same where the code is mapped elsewhere. */
static int32_t constant_slot(const struct insn *insn, const struct guest_mem *m)
{
	return slot_disp(scatter((insn->eip & PAGE_MASK) ^ (uint32_t)m->disp << 8, JUMP_CONSTANTS));
}

/* Where a pad that is another target's leaves the registers that say which slot led there. */
static bool may_have_sites(const struct translation *t)
{
	return (t->in->mode & MODE_TRAP_PADS) && access_is_low(t) && looks_up_inline(t);
}

static bool is_table(const struct guest_mem *m)
{
	return m->index != NO_REG && m->scale == 4 && !m->a16;
}

#define JUMP_REACH 6u /* instructions between the two, the jump included */

static bool names_first(const struct insn *insn, unsigned reg)
{
	const struct operand *op = &insn->form->op[0];

	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->number == reg && insn->form->operand_width == 32;
}

/* MOV of a table's entry, or ADD to what it is relative to, and soon a jump there, perhaps with something else added. Which instruction is the jump? 0
 * is none. What comes between may well do something to the register or to R11: that would be a hint that is wrong. */
static uint32_t jump_behind(const struct translation *t, const struct insn *insn)
{
	unsigned reg = insn->form->op[0].number;

	for (uint32_t i = t->emitted + 1; i < t->count && i <= t->emitted + JUMP_REACH; i++) {
		const struct insn *next = &t->insns[i];
		if (next->form->branch_type != ZYDIS_BRANCH_TYPE_NONE)
			return next->rule->emit == emit_jump && names_first(next, reg) ? i : 0;
		if (names_first(next, reg) && next->form->mnemonic != ZYDIS_MNEMONIC_ADD)
			return 0;
	}
	return 0;
}

void site_note(struct translation *t, const struct insn *insn)
{
	bool reads = insn->form->mnemonic == ZYDIS_MNEMONIC_MOV || insn->form->mnemonic == ZYDIS_MNEMONIC_ADD;
	bool into_register = insn->form->operand_width == 32 && insn->form->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER;

	if (!insn->form->has_memory || !reads || !into_register || insn->rule->emit != emit_generic || !may_have_sites(t) || access_is_soft(t, insn))
		return;
	struct guest_mem m = access_of(insn, &insn->form->op[1]);
	uint32_t jump = is_table(&m) ? jump_behind(t, insn) : 0;
	if (!jump)
		return;
	emit_mov(&t->e, R11, host_gpr(m.index));
	t->site_jump = jump;
	t->site_slots = table_slots(&m);
}

/* R8D is the target. The slots' address is made apart: by R11 and R9 C knows which one led astray. */
static void go_by(struct translation *t, enum host_reg index, int32_t slots, bool call)
{
	struct emitter *e = &t->e;
	struct host_mem slot = mem_at(R11, 0);

	if (index != NO_REG) {
		emit_op(e, &(struct host_op){.opcode = 0xB6, .map = MAP_0F, .reg = R9, .rm = index});
		slot = mem_sum(R11, R9, sizeof(host_pc_t), 0);
	}
	emit_load(e, R11, VCPU(jumps), 8);
	emit_lea64(e, R11, mem_at(R11, slots));
	emit_op(e, &(struct host_op){.opcode = 0xFF, .reg = call ? 2 : 4, .rm = NO_REG, .mem = slot});
}

/* Is it a word at a constant place: an absolute address, or, by EBX, one of a linkage table? Calls that are near EBX are those of an object's functions. */
static bool is_constant(const struct guest_mem *m, bool call)
{
	bool near = m->disp >= INT8_MIN && m->disp <= INT8_MAX;

	return m->index == NO_REG && (m->base == NO_REG || (m->base == EBX && !(call && near)));
}

bool site_exit(struct translation *t, const struct insn *insn, bool call)
{
	if (!may_have_sites(t) || insn->form->operand_width != 32)
		return false;
	if (insn->form->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		if (!t->site_jump || t->site_jump != t->emitted)
			return false;
		go_by(t, R11, t->site_slots, call);
		return true;
	}
	struct guest_mem m = access_of(insn, &insn->form->op[0]);
	if (is_table(&m))
		go_by(t, host_gpr(m.index), table_slots(&m), call);
	else if (is_constant(&m, call))
		go_by(t, NO_REG, constant_slot(insn, &m), call);
	else
		return false;
	return true;
}
