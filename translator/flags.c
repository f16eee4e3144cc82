/* PUSHF, POPF and STI inline: the status flags are the host's, the rest of EFLAGS is the vCPU's. What is not the common case is a
 * callout behind the block. */
#include "translator/internal.h"

/* What POPF takes from its image beside IF and the status flags; C clears RF, and leaves VIF, VIP and VM alone. */
#define POPF_FLAGS (EFL_TF | EFL_DF | EFL_IOPL | EFL_NT | EFL_AC | EFL_ID)

/* R8D += a byte of the vCPU, shifted left. Clobbers R9. */
static void add_flag(struct emitter *e, struct host_mem byte, unsigned shift)
{
	emit_load(e, R9, byte, 1);
	emit_rorx(e, R9, R9, 32 - shift, false);
	emit_lea(e, R8, mem_sum(R8, R9, 1, 0));
}

/* R8D = the image that PUSHF stores, without touching a flag. AH of LAHF has the fixed bit 1 set. */
static void load_image(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;

	emit_mov64(e, R10, RAX);
	row_add(t, UNDO_RAX, insn->eip, 0);
	emit_byte(e, 0x9F);                                                                      /* lahf */
	emit_op(e, &(struct host_op){.opcode = 0x90, .map = MAP_0F, .rm = RAX});                 /* seto al */
	emit_rorx(e, R8, RAX, 8, false);
	emit_op(e, &(struct host_op){.opcode = 0xB6, .map = MAP_0F, .reg = R8, .rm = R8});       /* movzx r8d, r8b */
	emit_op(e, &(struct host_op){.opcode = 0xB6, .map = MAP_0F, .reg = R9, .rm = RAX});      /* movzx r9d, al */
	emit_mov64(e, RAX, R10);
	row_add(t, UNDO_NONE, insn->eip, 0);
	emit_rorx(e, R9, R9, 32 - 11, false);
	emit_lea(e, R8, mem_sum(R8, R9, 1, 0));
	add_flag(e, VCPU(if_flag), 9);
	add_flag(e, VCPU(df_flag), 10);
	emit_load(e, R9, VCPU(eflags), 4);
	emit_lea(e, R8, mem_sum(R8, R9, 1, 0));
}

bool emit_pushf(struct translation *t, const struct insn *insn)
{
	unsigned size = insn->form->operand_width == 16 ? 2 : 4;

	/* RF is not pushed, and set only where breakpoints are. */
	if (t->in->mode & (MODE_VM | MODE_DR7))
		return emit_callout(t, insn);
	load_image(t, insn);
	emit_store(&t->e, VCPU(spill), R8, 4);
	struct host_mem to = stack_push_mem(t, insn, size);
	emit_load(&t->e, R10, VCPU(spill), 4);
	emit_store(&t->e, to, R10, size);
	esp_add(t, insn->eip + insn->length, -(int32_t)size);
	return false;
}

_Static_assert(offsetof(struct vcpu, df_flag) == offsetof(struct vcpu, if_flag) + 1, "POPF stores both at once");

/* The status flags from R8D. */
static void load_status_flags(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;

	emit_rorx(e, R9, R8, 11, false);
	emit_alu_imm(e, 4, R9, 1);
	emit_mov64(e, R10, RAX);
	row_add(t, UNDO_RAX, insn->eip, 0);
	emit_op(e, &(struct host_op){.opcode = 0xB6, .map = MAP_0F, .reg = RAX, .rm = R8});      /* movzx eax, r8b */
	emit_rorx(e, RAX, RAX, 24, false);                                                       /* into AH */
	emit_lea(e, RAX, mem_sum(RAX, R9, 1, 0));
	emit_op(e, &(struct host_op){.opcode = 0x04, .no_modrm = true, .imm_size = 1, .imm = 127, .rm = NO_REG}); /* add al, 127: OF */
	emit_byte(e, 0x9E);                                                                      /* sahf */
	emit_mov64(e, RAX, R10);
	row_add(t, UNDO_NONE, insn->eip, 0);
}

/* Compare the image in R8D with the vCPU's EFLAGS: not equal where C must look. Only CPL 0 may change IOPL. */
static void compare_system_flags(struct translation *t, unsigned size)
{
	struct emitter *e = &t->e;
	bool kernel = !(t->in->mode & MODE_CPL);

	emit_mov(e, R9, R8);
	emit_alu_imm(e, 4, R9, kernel ? POPF_FLAGS : POPF_FLAGS & ~EFL_IOPL);
	emit_op(e, &(struct host_op){.opcode = kernel ? 0x3B : 0x33, .reg = R9, .rm = NO_REG, .p66 = size == 2, .mem = VCPU(eflags)}); /* cmp, xor */
	if (!kernel)
		emit_alu_imm(e, 4, R9, (size == 2 ? 0xFFFF : ~0u) & ~EFL_IOPL);
}

/* POPF where it changes nothing but IF, if it may, and the status flags. These are about to be overwritten: compares are free, but from the first on no interrupt
 * may show them. IF comes last: once it is set an interrupt may be taken, behind POPF, with what is left of it done by the row. */
bool emit_popf(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	unsigned size = insn->form->operand_width == 16 ? 2 : 4;
	struct guest_mem m = stack_top(t, 0, size, false);

	esp_flush(t, insn->eip);
	if (t->in->mode & (MODE_VM | MODE_DR7 | MODE_TF))
		return emit_callout(t, insn);
	emit_load(e, R8, access_emit(t, insn, &m, false), size);
	row_add_shadow(t, insn->eip);
	compare_system_flags(t, size);
	struct cold *slow = cold_add(t, COLD_CALLOUT, emit_jcc(e, CONDITION_NE), insn->eip);
	if (t->in->mode & MODE_IOPL_OK) {
		emit_rorx(e, R11, R8, 9, false);
		emit_alu_imm(e, 4, R11, 1);
		emit_op(e, &(struct host_op){.opcode = 0x85, .reg = R11, .rm = NO_REG, .mem = VCPU(intr)}); /* an interrupt waits */
		slow->jump[1] = emit_jcc(e, CONDITION_NE);
		load_status_flags(t, insn);
		emit_store(e, VCPU(if_flag), R11, 2);
	} else {
		load_status_flags(t, insn);
		emit_store_imm(e, VCPU(df_flag), 0, 1);
	}
	row_add(t, UNDO_POP, insn->eip + insn->length, row_size(size));
	esp_set(t, REG_GUEST_ESP, (int32_t)size);
	slow->word = callout_word(insn);
	slow->back = emit_offset(e);
	return false;
}

/* What may stand behind STI so that rows alone say that no interrupt comes before it is done. */
static bool follows_inline_sti(const struct rule *rule)
{
	static emit_fn *const emitters[] = {emit_generic, emit_nothing, emit_lea_insn, emit_push, emit_pop, emit_add_esp, emit_ret, emit_jump,
					  emit_jcc_insn, emit_call_insn, emit_cli, emit_cld, emit_std};

	for (unsigned i = 0; i < ARRAY_LEN(emitters); i++)
		if (rule->emit == emitters[i])
			return true;
	return (rule->emit == emit_crossing && rule->callout == CALLOUT_sysexit) ||
	       (rule->emit == emit_callout && (rule->callout == CALLOUT_iret || rule->callout == CALLOUT_hlt));
}

/* The instruction behind STI runs before an interrupt is taken. What C may leave half-done goes through C. */
static bool shadow_is_simple(const struct translation *t, const struct insn *insn)
{
	const struct insn *next = insn + 1;

	if (next >= t->insns + t->count || !follows_inline_sti(next->rule))
		return false;
	/* A check of a general segment and a rotated register have rows that know of no shadow. */
	for (unsigned i = 0; i < next->form->operand_count; i++)
		if (next->form->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && MODE_SEG(t->in->mode, address_of(next, &next->form->op[i]).seg) >= MODE_SEG_GENERAL)
			return false;
	return !next->form->uses_high_byte;
}

bool emit_sti(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;

	esp_flush(t, insn->eip);
	if (!(t->in->mode & MODE_IOPL_OK) || (t->in->mode & (MODE_TF | MODE_DR7)) || !shadow_is_simple(t, insn))
		return emit_callout(t, insn);
	emit_mov64(e, R10, RCX);
	row_add(t, UNDO_RCX, insn->eip, 0);
	emit_load(e, RCX, VCPU(intr), 4);
	uint32_t quiet = emit_jrcxz(e);
	struct cold *slow = cold_add(t, COLD_CALLOUT, emit_jmp(e), insn->eip);
	slow->unpark = true;
	emit_patch8(e, quiet);
	emit_mov64(e, RCX, R10);
	emit_store_imm(e, VCPU(if_flag), 1, 1);
	slow->word = callout_word(insn);
	slow->back = emit_offset(e);
	rows_shadow(t, insn->eip + insn->length);
	return false;
}
