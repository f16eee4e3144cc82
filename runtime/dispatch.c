/* The one exit switch, and the dispatcher: what translated code could not do by itself. */
#include <string.h>

#include "base/log.h"
#include "runtime/internal.h"

void dispatch_end(struct runtime *r, enum runtime_end why)
{
	if (!r->ended) {
		r->ended = true;
		r->end = why;
	}
}

static void step_pointers(struct vcpu *v, uint32_t by, uint32_t mask)
{
	uint32_t step = v->df_flag ? 0u - by : by;

	v->gpr[ESI] = (v->gpr[ESI] & ~mask) | ((v->gpr[ESI] + step) & mask);
	v->gpr[EDI] = (v->gpr[EDI] & ~mask) | ((v->gpr[EDI] + step) & mask);
}

static void step_stack(struct vcpu *v, uint32_t by)
{
	uint32_t mask = v->mode & MODE_SS32 ? ~0u : 0xFFFFu;

	v->gpr[ESP] = (v->gpr[ESP] & ~mask) | ((v->gpr[ESP] + by) & mask);
}

void dispatch_undo(struct vcpu *v, const struct side_row *row)
{
	uint32_t r8 = (uint32_t)v->scratch[0], r10 = (uint32_t)v->scratch[2], size = row_sizes[row->access >> ROW_SIZE_SHIFT];

	v->eip = row->eip;
	v->gpr[ESP] += (uint32_t)(row->esp * 4);
	if (row->undo == UNDO_EBP_R10)
		v->gpr[EBP] = r10;
	if (row->undo == UNDO_EDI_R9)
		v->gpr[EDI] = (uint32_t)v->scratch[1];
	if (row->undo == UNDO_STEP || row->undo == UNDO_STEP16)
		step_pointers(v, size, row->undo == UNDO_STEP ? ~0u : 0xFFFFu);
	if (row->undo == UNDO_PUSH || row->undo == UNDO_POP || row->undo == UNDO_CALL)
		step_stack(v, row->undo == UNDO_POP ? size : 0u - size);
	if (row->undo == UNDO_RCX || row->undo == UNDO_TARGET_R8_RCX || row->undo == UNDO_SHADOW_RCX)
		v->gpr[ECX] = r10;
	if (row->undo == UNDO_RAX || row->undo == UNDO_SHADOW_RAX)
		v->gpr[EAX] = r10;
	if (row->undo == UNDO_RDI)
		v->gpr[EDI] = r10;
	if (row->undo == UNDO_TARGET_R8 || row->undo == UNDO_TARGET_R8_RCX || row->undo == UNDO_CALL)
		v->eip = r8;
	if (row->undo >= UNDO_ROTATE && row->undo < UNDO_ROTATE + 8) {
		uint32_t *gpr = &v->gpr[row->undo - UNDO_ROTATE];
		*gpr = *gpr << 8 | *gpr >> 24;
	}
}

static bool is_done(const struct runtime *r, const struct side_row *row)
{
	bool says_so = row->undo == UNDO_TARGET_R8 || row->undo == UNDO_TARGET_R8_RCX || row->undo == UNDO_DONE || row->undo == UNDO_CALL;

	return says_so || row->eip != r->alone.eip;
}

static void begin_alone_anew(struct runtime *r)
{
	struct vcpu *v = r->v;

	r->single_step = false;
	v->debug_hits = r->alone.debug_hits;
	v->shadow_interrupts = r->alone.shadow;
	v->eflags |= r->alone.resume_flag;
}

void dispatch_stop(struct vcpu *v, const struct side_row *row)
{
	struct runtime *r = runtime_of(v);

	dispatch_undo(v, row);
	if (r->alone.running && !is_done(r, row))
		begin_alone_anew(r);
	if (row->undo == UNDO_SHADOW || row->undo == UNDO_SHADOW_RCX || row->undo == UNDO_SHADOW_RAX)
		v->shadow_interrupts |= SHADOW_STI;
}

/* Make the view of the current privilege level the one that translated code runs in. */
static void use_view(struct runtime *r)
{
	if (r->v->cpl == 3)
		shadow_settle(r->shadow);
	if (view_equip(r, r->views[r->v->cpl == 3]))
		context_use_view(r);
}

static void forget_view(void *ctx, struct shadow_view *view)
{
	view_forget_code(ctx, view);
}

static void new_context(struct runtime *r)
{
	struct code_context context = context_now(r);

	if (r->context_count == CONTEXT_TAGS) {
		r->context_count = 0;
		memset(r->context_buckets, 0, sizeof(r->context_buckets));
		shadow_each_view(r->shadow, forget_view, r);
	}
	r->contexts[r->context_count++] = context;
	*context_bucket(r, &context) = (uint16_t)r->context_count;
}

static void match_context(struct runtime *r)
{
	if (context_match(r))
		return;
	new_context(r);
	context_match(r);
}

static bool may_chain(const struct runtime *r, const struct block *b)
{
	return !r->observer && !(r->config.chaos & CHAOS_NO_CHAIN) && !(b->mode & (MODE_ONE | MODE_THUNK));
}

/* An interrupt may have come between, or the page's frame have changed. */
static bool may_link(const struct runtime *r, const struct block *b)
{
	const struct block *from = r->link_from;
	const struct link_slot *s = &from->slots[r->link_slot];

	return from->mode == b->mode && s->target == r->v->eip && from->gva - from->eip == b->gva - b->eip && from->cs_end == b->cs_end &&
	       ((from->gva ^ b->gva) >= PAGE_SIZE || from->gpa >> PAGE_SHIFT == b->gpa >> PAGE_SHIFT);
}

static void connect(struct runtime *r, struct block *b, uint32_t entry)
{
	struct block *from = r->link_from;

	if (from && may_link(r, b) && may_chain(r, b))
		cache_link(r->cache, from, (uint32_t)r->link_slot, b, entry);
	else if (!from && b->checked && may_chain(r, b))
		jumps_fill(r, b);
}

static bool deliver(struct runtime *r, bool delivered)
{
	r->resumes = false;
	if (!delivered)
		dispatch_end(r, RUNTIME_TRIPLE_FAULT);
	return delivered;
}

static bool deliver_fault(struct runtime *r)
{
	if (r->v->fault.vector == 0xFF)
		return false;
	r->stats.exceptions++;
	LOG(LOG_CPU, LOG_DEBUG, "exception %u error %x cr2 %08x at %04x:%08x", r->v->fault.vector, r->v->fault.error, r->v->fault.cr2,
	    r->v->seg[SEG_CS].selector, r->v->eip);
	if (r->v->fault.vector == VEC_PF)
		r->stats.true_faults++;
	return deliver(r, cpu_deliver_fault(r->v));
}

static bool interrupt_waits(const struct vcpu *v)
{
	return v->intr && v->if_flag && !v->shadow_interrupts;
}

/* A user view that keeps the processor busy earns a window: two samples are some milliseconds. */
static void sample(struct runtime *r)
{
	struct shadow_view *view = r->view;

	returns_look(r);
	r->next_sample = runtime_now_ns() + SAMPLE_NS / 2; /* for which a guest's clock of 4 ms is not too early */
	if (!view || !view->user)
		return;
	windows_sampled(r, view);
	if (view->direct || (r->config.chaos & CHAOS_ALL_SOFT))
		return;
	view->used_ns += SAMPLE_NS;
	if (view->used_ns > SAMPLE_NS)
		windows_make_direct(r, view);
}

static void take_interrupt(struct runtime *r)
{
	int vector = r->machine ? machine_acknowledge(r->machine) : -1;

	if (vector < 0)
		return;
	if (!r->v->halted) { /* else nobody used the processor */
		signals_pace_sampler(r, true);
		if (runtime_now_ns() >= r->next_sample)
			sample(r);
	}
	r->v->halted = false;
	r->stats.interrupts++;
	LOG(LOG_CPU, LOG_DEBUG, "interrupt %d at %08x", vector, r->v->eip);
	deliver(r, cpu_deliver_interrupt(r->v, (uint8_t)vector));
}

static bool nmi_waits(const struct vcpu *v)
{
	return v->nmi && !v->nmi_blocked && !v->shadow_interrupts;
}

static void take_nmi(struct runtime *r)
{
	__atomic_store_n(&r->v->nmi, 0, __ATOMIC_SEQ_CST);
	r->v->halted = false;
	r->stats.nmis++;
	LOG(LOG_CPU, LOG_DEBUG, "NMI at %08x", r->v->eip);
	deliver(r, cpu_deliver_nmi(r->v));
}

static void halt(struct runtime *r)
{
	uint32_t value;

	r->stats.halts++;
	if (!r->machine || !machine_halt(r->machine, r->v->if_flag, !r->v->nmi_blocked))
		dispatch_end(r, RUNTIME_STUCK);
	else if (machine_ended(r->machine, &value) != MACHINE_RUNS)
		dispatch_end(r, RUNTIME_MACHINE_ENDED);
}

static void answer_kick(struct runtime *r)
{
	uint32_t value;

	__atomic_store_n(&r->v->kick, 0, __ATOMIC_SEQ_CST);
	r->kick_deferred = false;
	if (r->machine && machine_ended(r->machine, &value) != MACHINE_RUNS)
		dispatch_end(r, RUNTIME_MACHINE_ENDED);
	if (__atomic_exchange_n(&r->sampled, 0, __ATOMIC_SEQ_CST)) {
		signals_pace_sampler(r, false);
		sample(r);
	}
	if (r->profile)
		profile_take(r);
}

static bool observe_before(struct runtime *r, struct block *b)
{
	if (!r->observer)
		return true;
	r->observed = b;
	r->observer->before(r->observer->ctx, r->v, b);
	return !b->dead;
}

static host_pc_t enter(struct runtime *r, struct block *b, uint32_t entry)
{
	r->history[r->history_at++ % HISTORY] = b->gva;
	connect(r, b, entry);
	r->link_from = NULL;
	r->single_step = (b->mode & MODE_TF) != 0;
	r->alone.running = (b->mode & MODE_ONE) != 0;
	r->alone.eip = b->eip;
	return b->host_pc + entry;
}

#define DR6_BS 0x4000u

/* #DB behind an instruction: it was entered with TF set, or met a data breakpoint, or switched to a task that wants it. MOV SS and POP SS
 * have no single-step trap; a data breakpoint of theirs waits for the next instruction. */
static void trap_debug(struct runtime *r)
{
	struct vcpu *v = r->v;
	uint32_t dr6 = v->debug_hits | (r->single_step ? DR6_BS : 0);

	r->single_step = false;
	if (v->shadow_interrupts & SHADOW_SS)
		return;
	v->debug_hits = 0;
	deliver(r, cpu_deliver_debug_trap(v, dr6));
}

/* An event may have led to a task that wants a trap before its first instruction. */
static bool trap_is_due(const struct vcpu *v)
{
	return v->debug_hits && !(v->shadow_interrupts & SHADOW_SS);
}

/* Events at an instruction boundary, by vol. 3, table 6-2. False if there is nothing to run, now or ever: look again, or see r->ended. */
static bool boundary(struct runtime *r)
{
	struct vcpu *v = r->v;

	r->device_read.done = false;
	if (v->kick || r->kick_deferred)
		answer_kick(r);
	if (r->ignne)
		x87_errors_look(r);
	if (r->single_step || v->debug_hits)
		trap_debug(r);
	if (r->ended)
		return false;
	if (nmi_waits(v))
		take_nmi(r);
	if (interrupt_waits(v) && !trap_is_due(v))
		take_interrupt(r);
	if (trap_is_due(v))
		return false;
	if (v->halted) {
		r->link_from = NULL;
		halt(r);
		return false;
	}
	if ((v->mode & MODE_DR7) && !(v->shadow_interrupts & SHADOW_SS) && debug_instruction_hit(v)) {
		deliver_fault(r);
		return false;
	}
	/* RF holds for one instruction, breakpoints or not: what comes before that one is shown with it. */
	r->alone.resume_flag = v->eflags & EFL_RF;
	v->eflags &= ~EFL_RF;
	return !r->ended;
}

/* Where nothing is to be linked, the inline lookup answers first: gates, returns from them, interrupted code. It comes back if it does not know. */
static host_pc_t known_target(const struct runtime *r)
{
	struct vcpu *v = r->v;

	if (r->link_from || r->observer || v->exit_kind == EXIT_LOOKUP || v->exit_kind == EXIT_SITE)
		return 0;
	v->scratch[0] = v->eip;
	v->scratch[3] = 0; /* no site's slot */
	return jumps_find(r, v->eip);
}

static host_pc_t find_and_enter(struct runtime *r, uint32_t extra)
{
	uint64_t epoch = r->code_epoch;
	uint32_t entry;
	struct block *b = code_find(r, extra, &entry);

	/* Finding it may have cost the view code pages: its lookup has another table then. */
	if (epoch != r->code_epoch)
		match_context(r);
	if (b) {
		r->alone.shadow = r->v->shadow_interrupts;
		r->alone.debug_hits = r->v->debug_hits;
		r->v->shadow_interrupts = 0;
		return observe_before(r, b) ? enter(r, b, entry) : 0;
	}
	r->link_from = NULL;
	r->v->shadow_interrupts = 0;
	if (!r->ended)
		deliver_fault(r);
	return 0;
}

host_pc_t dispatch(struct runtime *r)
{
	struct vcpu *v = r->v;
	host_pc_t pc = 0;

	while (!pc) {
		if (!boundary(r)) {
			if (r->ended)
				return 0;
			continue;
		}
		if (r->config.chaos & CHAOS_ALL_DIRECT)
			windows_make_direct(r, r->views[v->cpl == 3]);
		use_view(r);
		if (r->config.chaos & CHAOS_CHECK)
			sanity_check(r);
		if (r->config.chaos & CHAOS_FENCE)
			fence_watch_look(r);
		if (r->ended)
			return 0;
		match_context(r);
		bool one = v->shadow_interrupts || r->ignne || (v->mode & (MODE_TF | MODE_DR7));
		r->alone.running = false;
		pc = one ? 0 : known_target(r);
		if (!pc)
			pc = find_and_enter(r, one ? MODE_ONE : 0);
	}
	return pc;
}

static void count_at(struct place *place, enum callout_result result)
{
	static const enum place_event events[] = {
		[CALLOUT_NEXT] = PLACE_NEXT, [CALLOUT_LEAVE] = PLACE_LEAVE, [CALLOUT_FAULT] = PLACE_EXCEPTION, [CALLOUT_AGAIN] = PLACE_AGAIN,
	};

	place->count[events[result]]++;
}

/* A callout. Most come straight back; anything that may have changed what host PCs mean goes through the dispatcher. */
static host_pc_t answer_callout(struct runtime *r)
{
	struct vcpu *v = r->v;
	uint32_t arg = (uint32_t)v->scratch[1], mode = v->mode;
	uint64_t epoch = r->code_epoch;
	enum callout_id id = CALLOUT_ID(arg);

	r->stats.callouts[id]++;
	struct place *place = r->places ? places_callout(r, v->seg[SEG_CS].base + v->eip, (uint8_t)id) : NULL;
	enum callout_result result = callout_table[id](v, arg, (uint32_t)v->scratch[0], (uint32_t)v->scratch[2]);
	if (place)
		count_at(place, result);
	switch (result) {
	case CALLOUT_NEXT:
		if (id == CALLOUT_check_segment)
			return v->scratch[3];
		v->eip += CALLOUT_LEN(arg);
		if (v->mode == mode && epoch == r->code_epoch && !v->kick && !interrupt_waits(v) && !r->observer && !(mode & (MODE_TF | MODE_DR7)) &&
		    !v->shadow_interrupts)
			return v->scratch[3];
		break;
	case CALLOUT_FAULT:
		r->single_step = false;
		v->debug_hits = 0;
		if (v->fault.vector == VEC_PF)
			faults_note(r, v->fault.cr2, false);
		deliver_fault(r);
		break;
	case CALLOUT_AGAIN:
		break;
	case CALLOUT_LEAVE:
		/* INT clears TF before the trap would be taken. */
		r->single_step = r->single_step && id != CALLOUT_int_n;
		break;
	}
	return 0;
}

/* A kick hit translated code, the lookup, or entry.S on its way in. The guest's state goes to an instruction boundary. Returns the host
 * PC to go on at where that must wait: a thunk's write is finished first. */
static host_pc_t answer_interruption(struct runtime *r)
{
	struct vcpu *v = r->v;
	host_pc_t pc = v->resume_pc;
	struct side_row row = {.undo = UNDO_TARGET_R8};

	r->stats.kicks++;
	bool in_crossing = pc >= (host_pc_t)entry_crossing_parked && pc < (host_pc_t)entry_crossing_end;
	bool in_lookup = pc == (host_pc_t)entry_lookup_parked || (pc > (host_pc_t)entry_lookup_shared && pc < (host_pc_t)entry_end);
	if (in_crossing || in_lookup) {
		row.undo = UNDO_TARGET_R8_RCX;
	} else if (pc == (host_pc_t)entry_underflow) {
		/* The bottom entry was popped: stay on it. */
		v->return_rsp -= 8;
	} else if (cache_contains(r->cache, pc)) {
		struct block *b = cache_find_host(r->cache, pc);
		if (must_finish(r, b))
			return pc;
		cache_find_row(b, pc, &row);
	}
	dispatch_stop(v, &row);
	return 0;
}

static void note_chain(struct runtime *r)
{
	struct vcpu *v = r->v;
	host_pc_t stub = v->scratch[3] - CACHE_EXIT_STUB;
	struct block *b = cache_find_host(r->cache, stub);
	int slot = cache_find_slot(b, stub);

	v->eip = b->slots[slot].target;
	r->link_from = b;
	r->link_slot = slot;
}

void dispatch_note_site(struct runtime *r)
{
	r->site = jumps_site(r);
	r->site_eip = (uint32_t)r->v->scratch[0];
}

static bool observe_after(struct runtime *r)
{
	const struct block *b = r->observed;

	r->observed = NULL;
	if (b && !r->observer->after(r->observer->ctx, r->v, b)) {
		dispatch_end(r, RUNTIME_OBSERVER);
		return false;
	}
	return true;
}

/* Where the lookup found nothing, a callout has led there if it set EIP, to interrupted code most of the time, or a return without a prediction: to
 * behind a call, in the middle of a function. */
static bool resumes(const struct vcpu *v)
{
	uint32_t target = (uint32_t)v->scratch[0];

	if (v->exit_kind == EXIT_LOOKUP || v->exit_kind == EXIT_SITE)
		return v->eip == target || v->underflow == target;
	return v->exit_kind != EXIT_CHAIN;
}

host_pc_t runtime_leave(struct vcpu *v)
{
	struct runtime *r = runtime_of(v);
	host_pc_t pc = 0;

	r->stats.exits[v->exit_kind]++;
	r->resumes = resumes(v);
	r->site = NULL;
	if (r->completion.active && (v->exit_kind == EXIT_CHAIN || v->exit_kind == EXIT_LOOKUP))
		completion_finish(r);
	switch (v->exit_kind) {
	case EXIT_CHAIN:
		note_chain(r);
		break;
	case EXIT_SITE:
		dispatch_note_site(r);
		v->eip = (uint32_t)v->scratch[0];
		break;
	case EXIT_LOOKUP:
		v->eip = (uint32_t)v->scratch[0];
		break;
	case EXIT_CALLOUT:
		pc = answer_callout(r);
		break;
	case EXIT_SOFT:
		pc = fault_soft(r);
		break;
	case EXIT_HOST_FAULT:
		pc = fault_host(r);
		break;
	default:
		pc = answer_interruption(r);
		if (pc) {
			r->kick_deferred = true;
			__atomic_store_n(&v->kick, 0, __ATOMIC_SEQ_CST);
		}
	}
	if (pc)
		return pc;
	if (r->observed && !observe_after(r))
		return 0;
	return dispatch(r);
}
