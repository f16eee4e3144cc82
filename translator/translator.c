/* The passes: scan a basic block, emit each instruction by its class, emit the tail. */
#include "translator/translator.h"

#include <errno.h>

#include "translator/internal.h"

/* Does control never reach the next instruction, or not as part of this block? */
static bool ends_block(const struct translator_input *in, const struct insn *insn)
{
	if (insn->rule->ends || (in->basic_blocks && insn->rule->leaves))
		return true;
	if (insn->form->branch_type == ZYDIS_BRANCH_TYPE_NONE)
		return false;
	return in->basic_blocks || insn->form->mnemonic == ZYDIS_MNEMONIC_JMP || insn->form->mnemonic == ZYDIS_MNEMONIC_RET;
}

/* Decode up to the end of the block. */
static bool is_known(const struct translator_input *in, uint32_t offset)
{
	uint32_t at = ((in->cs_base + in->eip) & PAGE_MASK) + offset;

	return in->known_bits && at < PAGE_SIZE && in->known_bits[at / 8] >> at % 8 & 1;
}

static int scan(struct translation *t)
{
	const struct translator_input *in = t->in;
	uint32_t limit = in->mode & (MODE_ONE | MODE_THUNK) ? 1 : in->max_instructions;
	uint32_t offset = 0;

	if (limit > TRANSLATOR_MAX_INSTRUCTIONS)
		limit = TRANSLATOR_MAX_INSTRUCTIONS;
	t->out->guest_length = !limit;
	t->out->end = END_LIMIT;
	decode_begin(in);
	while (t->count < limit) {
		struct insn *insn = &t->insns[t->count];

		if (t->count && is_known(in, offset))
			return 0;
		if (decode_insn(in, offset, insn) == -ENODATA) {
			t->out->end = END_BYTES;
			return t->count ? 0 : -ENODATA;
		}
		offset += insn->length;
		t->out->guest_length = offset;
		t->branches |= (uint64_t)(insn->form->branch_type != ZYDIS_BRANCH_TYPE_NONE) << t->count;
		t->count++;
		if (ends_block(in, insn)) {
			t->out->end = END_BRANCH;
			return 0;
		}
	}
	return 0;
}

/* Branches come here as to the beginning of a block; but not behind an inline STI, where no interrupt may be taken. */
static void begin_join(struct translation *t, uint32_t eip)
{
	uint64_t bit = 1ull << t->emitted;

	if (t->shadow && t->shadow_eip == eip)
		t->joins &= ~bit;
	if (!(t->joins & bit))
		return;
	row_add(t, UNDO_NONE, eip, 0);
	esp_flush(t, eip);
	t->esp_near = false;
	join_here(t);
}

bool block_is_full(const struct translation *t)
{
	return t->cold_count > MAX_COLD - 16 || t->out->row_count > TRANSLATOR_MAX_ROWS - 4 * MAX_COLD - 64;
}

/* Compare-and-branch runs as one operation if nothing stands between; the branch needs R13 as it should be. */
static void keep_pair(struct translation *t, const struct insn *insn)
{
	bool pair = insn->rule->emit == emit_generic && t->emitted + 1 < t->count && insn[1].rule->emit == emit_jcc_insn;

	if (pair && t->esp_near)
		esp_flush(t, insn->eip);
}

static void emit_body(struct translation *t)
{
	bool ended = false;

	for (uint32_t i = 0; i < t->count; i++) {
		const struct insn *insn = &t->insns[i];

		t->emitted = i;
		t->out->starts[i] = (uint16_t)emit_offset(&t->e);
		begin_join(t, insn->eip);
		row_add_entry(t, insn->eip);
		if (!insn->rule->defers_esp)
			esp_flush(t, insn->eip);
		else
			keep_pair(t, insn);
		/* Where it leads depends on the EIP in more than one way. */
		t->e.unmovable |= (t->branches >> i & 1) && insn->form->operand_width == 16;
		site_note(t, insn);
		ended = insn->rule->emit(t, insn);
		/* Room for the tail: what does not fit begins another block. What only raises an exception ends it early, too. */
		if (ended || block_is_full(t)) {
			t->count = i + 1;
			break;
		}
	}
	if (!ended) {
		const struct insn *last = t->count ? &t->insns[t->count - 1] : NULL;
		uint32_t next = last ? last->eip + last->length : t->in->eip;
		row_add(t, UNDO_NONE, next, 0);
		esp_flush(t, next);
		emit_exit(t, next);
	}
	t->esp = 0;
	join_never(t);
}

/* All that scan() has found. */
static void emit_block(struct translation *t, uint32_t count)
{
	const struct translator_input *in = t->in;
	struct translator_output *out = t->out;
	uint32_t capacity = in->capacity < TRANSLATOR_MAX_BYTES ? in->capacity : TRANSLATOR_MAX_BYTES;

	t->e = (struct emitter){.start = in->code, .at = in->code, .end = in->code + capacity, .pc = in->code_pc, .fixes = out->fixes, .fixes_most = TRANSLATOR_MAX_FIXES};
	t->count = count;
	t->cold_count = t->forward_count = 0;
	t->esp = 0;
	t->site_jump = 0;
	t->shadow = t->esp_near = t->too_far = false;
	out->row_count = out->slot_count = 0;
	if (in->pad)
		emit_entry_pad(t);
	if (in->pad && in->check)
		emit_exit(t, in->eip);
	out->checked = emit_offset(&t->e);
	if (in->check)
		emit_exec_check(t);
	out->body = emit_offset(&t->e);
	if (in->gfn2 != GFN_NONE)
		emit_second_page_check(t);
	emit_body(t);
	out->starts[t->count] = (uint16_t)emit_offset(&t->e);
	cold_emit_all(t);
}

/* Begin some bytes further on; returns how many. */
static uint32_t move_on(struct translation *t, uint32_t by)
{
	uint32_t moved = emit_move(&t->e, by);

	for (uint32_t i = 0; i < t->out->slot_count && moved; i++)
		emit_patch_to(&t->e, t->out->slots[i].rel32_offset, t->in->stubs.chain);
	return moved;
}

int translator_translate(const struct translator_input *in, struct translator_output *out)
{
	static _Thread_local struct insn insns[TRANSLATOR_MAX_INSTRUCTIONS];
	static _Thread_local struct translation translation;
	struct translation *t = &translation;
	int err;

	t->in = in;
	t->out = out;
	t->insns = insns;
	t->count = 0;
	t->branches = t->joins = 0;
	err = scan(t);
	if (err)
		return err;
	joins_find(t);
	uint32_t count = t->count;
	t->all_long = false;
	emit_block(t, count);
	if (t->too_far) {
		t->all_long = true;
		emit_block(t, count);
	}
	if (t->e.overflow)
		return -ENOSPC;
	out->lead = in->arrange && t->count ? move_on(t, place_lead(t)) : 0;
	out->fix_count = t->e.fix_count;
	out->movable = !t->e.unmovable;
	out->code_length = emit_offset(&t->e);
	out->instructions = t->count;
	return 0;
}
