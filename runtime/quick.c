/* Callouts answered at the border. Most of what a sensitive instruction costs is the way to C and the dispatcher: entry.S asks here first,
 * with the guest's XMM registers still live. The callout that runs is the same as ever, on memory that the soft tables know; where that
 * does not do, nothing has changed and runtime_leave begins anew.
 *
 * So that no XMM register is touched, this file and all that it calls is compiled for general registers alone and calls nothing in the C
 * library (tests/test_quick_symbols.py); functions that might are behind vcpu.quick. */
#include "base/log.h"
#include "runtime/internal.h"
#include "runtime/memory_known.h"

static const bool quick[CALLOUT_COUNT] = {
	[CALLOUT_pushf] = true, [CALLOUT_popf] = true, [CALLOUT_cli] = true, [CALLOUT_sti] = true, [CALLOUT_int_n] = true, [CALLOUT_iret] = true,
	[CALLOUT_call_far] = true, [CALLOUT_jmp_far] = true, [CALLOUT_ret_far] = true, [CALLOUT_mov_to_seg] = true,
	[CALLOUT_mov_from_seg] = true, [CALLOUT_push_seg] = true, [CALLOUT_pop_seg] = true, [CALLOUT_load_far_ptr] = true, [CALLOUT_lar] = true,
	[CALLOUT_lsl] = true, [CALLOUT_verr] = true, [CALLOUT_verw] = true, [CALLOUT_sysenter] = true, [CALLOUT_sysexit] = true,
	[CALLOUT_check_segment] = true, [CALLOUT_raise] = true, [CALLOUT_movs] = true, [CALLOUT_stos] = true, [CALLOUT_lods] = true,
	[CALLOUT_scas] = true, [CALLOUT_cmps] = true,
};

/* Is there anything at this instruction boundary that the dispatcher does? A kick is entry.S's business. */
static bool is_quiet(const struct runtime *r)
{
	const struct vcpu *v = r->v;
	bool event = (v->intr && v->if_flag) || v->nmi || v->halted;

	return !(v->mode & (MODE_TF | MODE_DR7)) && !v->shadow_interrupts && !v->debug_hits && !event && !r->ignne;
}

/* Go on at the vCPU's EIP: by the lookup of the view and context that it is in now, or by the dispatcher. An IRET from a fault's handler loads RF,
 * which holds for one instruction, and without breakpoints means nothing there. */
static host_pc_t go_on(struct runtime *r)
{
	r->v->scratch[0] = r->v->eip;
	if (!is_quiet(r) || !context_use_view(r) || !context_match(r))
		return (host_pc_t)entry_lookup_slow;
	r->device_read.done = false;
	r->v->eflags &= ~EFL_RF;
	return (host_pc_t)entry_lookup;
}

/* --stats counts callouts by place, too. The first one at a place goes the long way, where it gets its name. */
static bool count_place(struct runtime *r, enum callout_id id, uint64_t by)
{
	if (r->observer || (r->config.chaos & CHAOS_NO_CHAIN))
		return false;
	struct place *place = places_slot(r->places, r->v->seg[SEG_CS].base + r->v->eip, (uint8_t)id);
	if (place->used)
		place->count[PLACE_BORDER] += by;
	return place->used;
}

/* SYSENTER or SYSEXIT has been done, and is on its way to the lookup: crossing.S can do the same again. */
static void note_crossing(struct vcpu *v, struct crossing *c, uint32_t mode, const struct shadow_view *from)
{
	const struct runtime *r = runtime_of(v);
	const struct shadow_view *view = r->view;

	*c = (struct crossing){
		.neg_mode = 0u - mode, .neg_eflags = 0u - v->eflags, .mode = v->mode, .context = view->return_context, .neg_context = 0u - view->return_context,
		.from_view = (uint64_t)from, .view = (uint64_t)view, .jumps = v->jumps, .empty_rsp = view->return_top - 8, .cs = v->seg[SEG_CS],
		.ss = v->seg[SEG_SS],
	};
}

/* A segment register has been loaded, and what follows is on its way: crossing.S can do the same again. */
static void note_load(struct runtime *r, enum seg seg, uint32_t mode)
{
	struct vcpu *v = r->v;
	const struct segment *s = &v->seg[seg];
	const struct shadow_view *view = r->view;
	bool null = s->selector == 0;
	gva_t gva = (s->selector & 4 ? v->ldtr.base : v->gdtr.base) + (s->selector & ~7u);
	const uint8_t *at = memory_known(v, gva, ACCESS_READ);
	uint64_t raw = 0;

	if (r->no_quick || !MODE_IS_PROTECTED(mode) || (mode & MODE_CPL) || (!null && (s->selector < 4 || !at || (gva & PAGE_MASK) > PAGE_SIZE - sizeof(raw))))
		return;
	if (!null)
		__builtin_memcpy(&raw, at, sizeof(raw));
	struct segment_load *l = &v->loads[seg][null];
	l->neg_mode = 0u - mode;
	l->neg_selector = 0u - s->selector;
	l->mode = v->mode;
	l->changed = v->mode != mode;
	l->context = view->return_context;
	l->gva = gva;
	l->addend = memory_addend(v, gva, ACCESS_READ);
	l->neg_raw = 0 - raw;
	l->view = (uint64_t)view;
	l->jumps = v->jumps;
	l->empty_rsp = view->return_top - 8;
	l->seg = *s;
}

static host_pc_t go_on_over(struct runtime *r, enum callout_id id, uint32_t mode)
{
	struct vcpu *v = r->v;
	const struct shadow_view *from = r->view;
	host_pc_t pc = go_on(r);

	if (pc == (host_pc_t)entry_lookup && !r->no_quick)
		note_crossing(v, id == CALLOUT_sysenter ? &v->sysenter : &v->sysexit, mode, from);
	return pc;
}

/* An exception that the guest takes; where the log wants to know of it, the long way. */
static bool deliver_fault(struct runtime *r)
{
	struct vcpu *v = r->v;

	bool quickly = v->fault.vector != VEC_PF && v->fault.vector != 0xFF && !r->completion.active && log_levels[LOG_CPU] < LOG_DEBUG;

	if (!quickly || !cpu_try_fault(v))
		return false;
	r->stats.exceptions++;
	return true;
}

host_pc_t quick_callout(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	struct runtime *r = runtime_of(v);
	enum callout_id id = CALLOUT_ID(arg);
	uint32_t mode = v->mode;

	if (!quick[id] || r->alone.running || (mode & (MODE_TF | MODE_DR7)) || (r->no_quick && !count_place(r, id, 1)))
		return 0;
	v->quick = true;
	enum callout_result result = callout_table[id](v, arg, ea, extra);
	bool answered = result != CALLOUT_FAULT || deliver_fault(r);
	v->quick = false;
	if (!answered) {
		if (r->no_quick)
			count_place(r, id, -UINT64_C(1));
		return 0;
	}
	r->stats.callouts[id]++;
	r->stats.exits[EXIT_CALLOUT]++;
	if (id == CALLOUT_check_segment && result == CALLOUT_NEXT)
		return v->scratch[3];
	bool loaded = id == CALLOUT_mov_to_seg && CALLOUT_REG(arg) != SEG_SS && result != CALLOUT_FAULT;
	if (result == CALLOUT_NEXT) {
		v->eip += CALLOUT_LEN(arg);
		if (v->mode == mode && is_quiet(r)) {
			if (loaded)
				note_load(r, CALLOUT_REG(arg), mode);
			return v->scratch[3];
		}
	}
	bool crossed = result == CALLOUT_LEAVE && (id == CALLOUT_sysenter || id == CALLOUT_sysexit);
	if (crossed)
		return go_on_over(r, id, mode);
	host_pc_t pc = go_on(r);
	if (loaded && v->mode != mode && pc == (host_pc_t)entry_lookup)
		note_load(r, CALLOUT_REG(arg), mode);
	return pc;
}
