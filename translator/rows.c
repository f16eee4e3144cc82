#include "translator/internal.h"

void rows_shadow(struct translation *t, uint32_t eip)
{
	t->shadow = true;
	t->shadow_eip = eip;
}

static bool is_shadowed(const struct translation *t, uint32_t eip)
{
	return t->shadow && eip == t->shadow_eip;
}

static unsigned undo_in_shadow(const struct translation *t, unsigned undo, uint32_t eip)
{
	if (!is_shadowed(t, eip))
		return undo;
	return undo == UNDO_NONE ? UNDO_SHADOW : undo == UNDO_RCX ? UNDO_SHADOW_RCX : undo == UNDO_RAX ? UNDO_SHADOW_RAX : undo;
}

void row_add(struct translation *t, unsigned undo, uint32_t eip, unsigned access)
{
	struct translator_output *out = t->out;
	uint16_t offset = (uint16_t)emit_offset(&t->e);
	uint32_t at = out->row_count;

	undo = undo_in_shadow(t, undo, eip);
	if (at && out->rows[at - 1].host_offset == offset) {
		at--;
		if (out->rows[at].undo == UNDO_ENTRY && undo == UNDO_NONE && out->rows[at].eip == eip)
			undo = UNDO_ENTRY;
	}
	if (at == TRANSLATOR_MAX_ROWS) {
		t->e.overflow = true;
		return;
	}
	out->rows[at] = (struct side_row){.host_offset = offset, .undo = undo & 31, .access = access & 63, .esp = (t->esp >> 2) & 31, .eip = eip};
	out->row_count = at + 1;
}

void row_add_access(struct translation *t, uint32_t eip, unsigned access)
{
	struct side_row *last = &t->out->rows[t->out->row_count - 1];

	if (last->host_offset == emit_offset(&t->e) && last->eip == eip && (last->undo == UNDO_ENTRY || last->undo == UNDO_NONE))
		last->access = access & 63;
	else
		row_add(t, UNDO_NONE, eip, access);
}

void row_add_entry(struct translation *t, uint32_t eip)
{
	bool enterable = t->in->joins && t->in->gfn2 == GFN_NONE && !t->esp && !is_shadowed(t, eip);

	row_add(t, enterable ? UNDO_ENTRY : UNDO_NONE, eip, 0);
}

void row_add_shadow(struct translation *t, uint32_t eip)
{
	rows_shadow(t, eip);
	row_add(t, UNDO_NONE, eip, 0);
}

void rows_void_entries(struct translation *t, uint32_t first)
{
	for (uint32_t i = first; i < t->out->row_count; i++)
		if (t->out->rows[i].undo == UNDO_ENTRY)
			t->out->rows[i].undo = UNDO_NONE;
}

unsigned row_exit(const struct translation *t, uint32_t eip)
{
	return eip == t->in->eip ? UNDO_DONE : UNDO_NONE;
}

struct cold *cold_add(struct translation *t, int kind, uint32_t jump, uint32_t eip)
{
	static struct cold discarded;

	if (t->cold_count == MAX_COLD) {
		t->e.overflow = true;
		return &discarded;
	}
	struct cold *c = &t->cold[t->cold_count++];
	*c = (struct cold){.kind = kind, .jump = {jump}, .eip = eip, .esp = (int8_t)t->esp,
			   .shadow = is_shadowed(t, eip)};
	return c;
}

void emit_lea_r11(struct emitter *e, host_pc_t pc)
{
	emit_byte(e, 0x4C);
	emit_byte(e, 0x8D);
	emit_byte(e, 0x1D);
	emit_u32(e, (uint32_t)(pc - (emit_pc(e) + 4)));
}

/* The rare side of an instruction that otherwise runs inline. */
static void callout_emit(struct translation *t, const struct cold *c)
{
	row_add(t, c->unpark ? UNDO_RCX : UNDO_NONE, c->eip, 0);
	if (c->unpark) {
		emit_mov64(&t->e, RCX, R10);
		row_add(t, UNDO_NONE, c->eip, 0);
	}
	emit_callout_to(t, c->eip, c->word, t->e.pc + c->back);
}

/* C does not come back: what follows the callout is there for no other reason than that something must. */
static void raise_emit(struct translation *t, const struct cold *c)
{
	struct emitter *e = &t->e;

	row_add(t, UNDO_RCX, c->eip, 0);
	emit_mov64(e, RCX, R10);
	row_add(t, UNDO_NONE, c->eip, 0);
	emit_mov_imm(e, R8, c->word);
	emit_mov_imm(e, R10, 0);
	emit_callout_word(t, c->eip, CALLOUT_ARG(CALLOUT_raise, 0, c->word != VEC_DE, 0, 0, 0, 0, 0, 0));
	emit_mov_imm(e, R8, c->eip);
	emit_fix(e, FIX_EIP, c->eip);
	emit_jmp_to(e, t->in->stubs.lookup_slow);
}

void cold_emit_all(struct translation *t)
{
	for (uint32_t i = 0; i < t->cold_count; i++) {
		const struct cold *c = &t->cold[i];

		t->shadow = c->shadow;
		t->shadow_eip = c->eip;
		t->esp = c->esp;
		t->esp_near = false;
		for (int j = 0; j < 2; j++)
			if (c->jump[j])
				emit_patch(&t->e, c->jump[j]);
		if (c->kind == COLD_CALLOUT)
			callout_emit(t, c);
		else
			raise_emit(t, c);
	}
}
