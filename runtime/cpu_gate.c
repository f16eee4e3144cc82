/* Exceptions, interrupts and INT n: through the gates of the IDT (Intel SDM vol. 3, ch. 6), and what happens when that fails. */
#include "base/log.h"
#include "base/x86.h"
#include "runtime/cpu_private.h"

#define DR6_BS 0x4000u
#define DR7_GD 0x2000u
#define ERROR_IDT 2u

enum event_kind { EVENT_FAULT, EVENT_TRAP, EVENT_INTERRUPT, EVENT_SOFTWARE };

/* What is to be delivered. */
struct event {
	enum event_kind kind;
	uint8_t vector;
	bool has_error;
	uint32_t error;
	uint32_t return_eip;
};

struct gate {
	uint16_t selector;
	uint32_t offset;
	unsigned size;  /* log2 of the words pushed */
	bool interrupt; /* clears IF */
	bool task;      /* the selector is a TSS's */
};

/* The EXT bit of error codes: the event came from outside the program. */
static uint32_t event_ext(const struct event *e)
{
	return e->kind != EVENT_SOFTWARE;
}

static bool read_gate(struct vcpu *v, const struct event *e, struct gate *g)
{
	uint32_t at = 8u * e->vector;
	uint32_t error = at | ERROR_IDT | event_ext(e);
	struct descriptor d;
	if (at + 7 > v->idtr.limit) return cpu_fail(v, VEC_GP, error);
	if (!memory_read(v, v->idtr.base + at, &d, sizeof(d), ACCESS_READ)) return false;
	unsigned type = descriptor_ar(d) & (AR_TYPE | AR_S);
	bool wide = type == SYS_INT_GATE32 || type == SYS_TRAP_GATE32;
	bool narrow = type == SYS_INT_GATE16 || type == SYS_TRAP_GATE16;
	if (!wide && !narrow && type != SYS_TASK_GATE) return cpu_fail(v, VEC_GP, error);
	if (e->kind == EVENT_SOFTWARE && descriptor_dpl(d) < v->cpl) return cpu_fail(v, VEC_GP, error);
	if (!descriptor_present(d)) return cpu_fail(v, VEC_NP, error);
	g->selector = (uint16_t)(d.low >> 16);
	g->offset = (d.low & 0xFFFFu) | (wide ? d.high & 0xFFFF0000u : 0);
	g->size = wide ? 2 : 1;
	g->task = type == SYS_TASK_GATE;
	g->interrupt = type == SYS_INT_GATE32 || type == SYS_INT_GATE16;
	return true;
}

/* The handler's code segment; its RPL is the privilege that the handler runs at. */
static bool read_handler(struct vcpu *v, const struct gate *g, uint32_t ext, struct segment *cs)
{
	uint32_t error = (g->selector & ~SELECTOR_RPL) | ext;
	if (selector_is_null(g->selector)) return cpu_fail(v, VEC_GP, ext);
	struct descriptor d;
	if (!cpu_read_descriptor(v, g->selector, &d, VEC_GP, ext)) return false;
	uint32_t ar = descriptor_ar(d);
	unsigned dpl = descriptor_dpl(d);
	if ((ar & (AR_S | AR_CODE)) != (AR_S | AR_CODE) || dpl > v->cpl) return cpu_fail(v, VEC_GP, error);
	if (!descriptor_present(d)) return cpu_fail(v, VEC_NP, error);
	/* Out of virtual-8086 mode only to level 0. */
	if ((v->eflags & EFL_VM) && (dpl != 0 || (ar & AR_CONFORMING))) return cpu_fail(v, VEC_GP, error);
	unsigned cpl = ar & AR_CONFORMING ? v->cpl : dpl;
	return cpu_check_code(v, g->selector, d, cpl, ext, cs);
}

/* RF in the pushed image makes a restarted instruction run past its own breakpoint; an instruction that is done has cleared it. Between two
 * iterations of a string instruction it is set (vol. 3, 17.3.1.1; callouts_string.c). */
static uint32_t flags_image(const struct vcpu *v, const struct event *e)
{
	uint32_t flags = vcpu_eflags(v);
	if (e->kind == EVENT_FAULT && e->vector != VEC_DB) return flags | EFL_RF;
	return e->kind == EVENT_SOFTWARE ? flags & ~EFL_RF : flags;
}

/* Build the frame and push it. Between these come the checks of where the gate leads (vol. 2, INT n). */
static bool push_frame(struct vcpu *v, const struct event *e, const struct gate *g, struct segment *cs, bool inner, struct segment *ss,
	uint32_t *esp)
{
	unsigned cpl = cs->selector & SELECTOR_RPL;
	static const uint8_t data_segments[] = { SEG_GS, SEG_FS, SEG_DS, SEG_ES };
	uint32_t words[10];
	unsigned n = 0;
	for (unsigned i = 0; i < ARRAY_LEN(data_segments) && (v->eflags & EFL_VM); i++) words[n++] = v->seg[data_segments[i]].selector;
	if (inner) {
		words[n++] = v->seg[SEG_SS].selector;
		words[n++] = v->gpr[ESP];
	}
	words[n++] = flags_image(v, e);
	words[n++] = v->seg[SEG_CS].selector;
	words[n++] = e->return_eip;
	if (e->has_error) words[n++] = e->error;
	uint32_t error = (inner ? ss->selector & ~SELECTOR_RPL : 0) | event_ext(e);
	if (!cpu_stack_room(v, ss, *esp, n, g->size, error) || !cpu_enter_code(v, cs, g->offset, event_ext(e))) return false;
	if (inner && !cpu_mark_accessed(v, ss)) return false;
	return cpu_push_frame(v, ss, esp, words, n, g->size, cpu_frame_access(v, cpl));
}

static bool deliver_to_task(struct vcpu *v, const struct event *e, const struct gate *g)
{
	struct task_switch how = { .kind = TASK_NEST, .selector = g->selector, .next_eip = e->return_eip, .flags = flags_image(v, e),
				   .ext = event_ext(e), .has_error = e->has_error, .error = e->error };
	return cpu_task_switch(v, &how);
}

/* The data segments of virtual-8086 mode mean nothing to its monitor. */
static void leave_v86(struct vcpu *v)
{
	static const uint8_t data_segments[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	for (unsigned i = 0; i < ARRAY_LEN(data_segments); i++) v->seg[data_segments[i]] = (struct segment){ .ar = AR_UNUSABLE };
}

static bool deliver_protected(struct vcpu *v, const struct event *e)
{
	struct gate g = { 0 };
	struct segment cs, ss = v->seg[SEG_SS];
	uint32_t esp = v->gpr[ESP];
	if (!read_gate(v, e, &g)) return false;
	if (g.task) return deliver_to_task(v, e, &g);
	if (!read_handler(v, &g, event_ext(e), &cs)) return false;
	unsigned cpl = cs.selector & SELECTOR_RPL;
	bool inner = cpl != v->cpl;
	if (inner && !cpu_inner_stack(v, cpl, event_ext(e), &ss, &esp)) return false;
	if (!push_frame(v, e, &g, &cs, inner, &ss, &esp)) return false;
	v->seg[SEG_CS] = cs;
	v->seg[SEG_SS] = ss;
	v->gpr[ESP] = esp;
	v->eip = g.offset;
	if (v->eflags & EFL_VM) leave_v86(v);
	v->eflags &= ~(EFL_TF | EFL_NT | EFL_RF | EFL_VM);
	if (g.interrupt) v->if_flag = 0;
	return true;
}

/* Real-address mode: the vector table of far pointers (vol. 3, 20.1.4). */
static bool deliver_real(struct vcpu *v, const struct event *e)
{
	uint32_t at = 4u * e->vector;
	uint32_t pointer;
	uint32_t words[3] = { flags_image(v, e), v->seg[SEG_CS].selector, e->return_eip };
	uint32_t esp = v->gpr[ESP];
	if (at + 3 > v->idtr.limit) return cpu_fail(v, VEC_GP, at | ERROR_IDT | event_ext(e));
	if (!memory_read32(v, v->idtr.base + at, &pointer, ACCESS_READ)) return false;
	if (!cpu_push(v, &v->seg[SEG_SS], &esp, words, 3, 1, 0, 0)) return false;
	v->gpr[ESP] = esp;
	v->eip = pointer & 0xFFFFu;
	cpu_load_real(v, SEG_CS, (uint16_t)(pointer >> 16));
	v->eflags &= ~(EFL_TF | EFL_RF | EFL_AC);
	v->if_flag = 0;
	return true;
}

/* One try. On failure v->fault is the exception met on the way, and nothing else has changed (or the task has: cpu_task.c). */
static bool deliver(struct vcpu *v, const struct event *e)
{
	bool protected_mode = (v->cr0 & CR0_PE) != 0;
	if (!(protected_mode ? deliver_protected(v, e) : deliver_real(v, e))) return false;
	v->halted = false;
	v->shadow_interrupts = 0;
	if (e->vector == VEC_DB && e->kind != EVENT_SOFTWARE) v->dr[7] &= ~DR7_GD;
	cpu_update_mode(v);
	return true;
}

static bool is_contributory(uint8_t vector)
{
	return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

/* Vol. 3, table 6-5: does `second`, met while `first` was being delivered, make a double fault? */
static bool makes_double_fault(uint8_t first, uint8_t second)
{
	if (first == VEC_PF) return second == VEC_PF || is_contributory(second);
	return is_contributory(first) && is_contributory(second);
}

static struct event fault_event(const struct vcpu *v)
{
	const struct guest_fault *f = &v->fault;
	return (struct event){ EVENT_FAULT, f->vector, f->has_error && (v->cr0 & CR0_PE), f->error, v->eip };
}

bool cpu_try_fault(struct vcpu *v)
{
	struct event e = fault_event(v);
	return deliver(v, &e);
}

bool cpu_deliver_fault(struct vcpu *v)
{
	for (bool misaligned = v->fault.vector == VEC_AC;; misaligned |= v->fault.vector == VEC_AC) {
		struct guest_fault f = v->fault;
		struct event e = fault_event(v);
		if (f.vector == VEC_PF) v->cr2 = f.cr2;
		if (deliver(v, &e)) return true;
		uint8_t second = v->fault.vector;
		LOG(LOG_CPU, LOG_DEBUG, "exception %u (error %#x) while delivering exception %u", second, v->fault.error, f.vector);
		if (second == VEC_PF) v->cr2 = v->fault.cr2;
		if (f.vector == VEC_DF) return false;
		/* Frames misaligned at CPL 3, with other faults in between or not: a processor tries for ever, out of reach of interrupts. Here the
		 * instruction starts over. */
		if (misaligned && second == VEC_AC) return true;
		if (makes_double_fault(f.vector, second)) v->fault = (struct guest_fault){ .vector = VEC_DF, .has_error = true };
	}
}

static bool deliver_or_fault(struct vcpu *v, const struct event *e)
{
	return deliver(v, e) || cpu_deliver_fault(v);
}

bool cpu_deliver_interrupt(struct vcpu *v, uint8_t vector)
{
	struct event e = { .kind = EVENT_INTERRUPT, .vector = vector, .return_eip = v->eip };
	return deliver_or_fault(v, &e);
}

bool cpu_deliver_nmi(struct vcpu *v)
{
	v->nmi_blocked = true;
	return cpu_deliver_interrupt(v, VEC_NMI);
}

bool cpu_deliver_debug_trap(struct vcpu *v, uint32_t dr6)
{
	struct event e = { .kind = EVENT_TRAP, .vector = VEC_DB, .return_eip = v->eip };
	v->dr[6] |= dr6;
	return deliver_or_fault(v, &e);
}

bool cpu_software_interrupt(struct vcpu *v, uint8_t vector, uint32_t return_eip, bool exempt)
{
	struct event e = { .kind = exempt ? EVENT_TRAP : EVENT_SOFTWARE, .vector = vector, .return_eip = return_eip };
	return deliver(v, &e);
}
