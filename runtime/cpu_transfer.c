/* Far jumps, calls and returns, and IRET (Intel SDM vol. 2; vol. 3, 5.8). */
#include "runtime/cpu_private.h"

static void go_to(struct vcpu *v, const struct segment *cs, uint32_t eip)
{
	v->seg[SEG_CS] = *cs;
	v->eip = eip;
	cpu_update_mode(v);
}

/* Real-address mode: only the limit is checked. */
static bool real_target(struct vcpu *v, uint32_t offset)
{
	return offset <= v->seg[SEG_CS].limit || cpu_fail(v, VEC_GP, 0);
}

static void go_to_real(struct vcpu *v, uint16_t selector, uint32_t eip)
{
	cpu_load_real(v, SEG_CS, selector);
	v->eip = eip;
}

/* What a far pointer's selector names. */
struct target {
	uint16_t selector;
	uint32_t offset;
	struct descriptor d; /* of the code segment */
	bool gate;
	bool task;           /* `selector` is a TSS's */
	unsigned size;       /* log2 of the words a call pushes */
	unsigned parameters; /* words a call gate copies */
};

/* From a gate's descriptor, or a TSS's, to the code segment or the task behind it. */
static bool follow_gate(struct vcpu *v, struct target *t)
{
	struct descriptor gate = t->d;
	uint32_t error = t->selector & ~SELECTOR_RPL;
	unsigned type = descriptor_ar(gate) & (AR_TYPE | AR_S);
	unsigned dpl = descriptor_dpl(gate);
	bool call_gate = type == SYS_CALL_GATE32 || type == SYS_CALL_GATE16;
	bool task = type == SYS_TASK_GATE || type == SYS_TSS16 || type == SYS_TSS32;
	if ((!call_gate && !task) || dpl < v->cpl || dpl < (t->selector & SELECTOR_RPL)) return cpu_fail(v, VEC_GP, error);
	if (!descriptor_present(gate)) return cpu_fail(v, VEC_NP, error);
	if (task) {
		t->task = true;
		if (type == SYS_TASK_GATE) t->selector = (uint16_t)(gate.low >> 16);
		return true;
	}
	t->gate = true;
	t->size = type == SYS_CALL_GATE32 ? 2 : 1;
	t->parameters = gate.high & 31u;
	t->offset = (gate.low & 0xFFFFu) | (t->size == 2 ? gate.high & 0xFFFF0000u : 0);
	t->selector = (uint16_t)(gate.low >> 16);
	if (selector_is_null(t->selector)) return cpu_fail(v, VEC_GP, 0);
	if (!cpu_read_descriptor(v, t->selector, &t->d, VEC_GP, 0)) return false;
	error = t->selector & ~SELECTOR_RPL;
	return (descriptor_is_code(t->d) && descriptor_dpl(t->d) <= v->cpl) || cpu_fail(v, VEC_GP, error);
}

static bool find_target(struct vcpu *v, struct target *t)
{
	if (selector_is_null(t->selector)) return cpu_fail(v, VEC_GP, 0);
	if (!cpu_read_descriptor(v, t->selector, &t->d, VEC_GP, 0)) return false;
	if (!(descriptor_ar(t->d) & AR_S)) return follow_gate(v, t);
	unsigned dpl = descriptor_dpl(t->d), rpl = t->selector & SELECTOR_RPL;
	bool allowed = descriptor_is_conforming(t->d) ? dpl <= v->cpl : rpl <= v->cpl && dpl == v->cpl;
	return (descriptor_is_code(t->d) && allowed) || cpu_fail(v, VEC_GP, t->selector & ~SELECTOR_RPL);
}

static bool switch_task(struct vcpu *v, const struct target *t, enum task_switch_kind kind, uint32_t next_eip)
{
	struct task_switch how = { .kind = kind, .selector = t->selector, .next_eip = next_eip, .flags = vcpu_eflags(v) };
	return cpu_task_switch(v, &how);
}

bool cpu_far_jump(struct vcpu *v, uint16_t selector, uint32_t offset, uint32_t next_eip)
{
	if (!cpu_protected(v)) {
		if (!real_target(v, offset)) return false;
		go_to_real(v, selector, offset);
		return true;
	}
	struct target t = { .selector = selector, .offset = offset };
	struct segment cs;
	if (!find_target(v, &t)) return false;
	if (t.task) return switch_task(v, &t, TASK_JUMP, next_eip);
	/* A gate leads a jump to no other privilege. */
	if (t.gate && !descriptor_is_conforming(t.d) && descriptor_dpl(t.d) != v->cpl) return cpu_fail(v, VEC_GP, t.selector & ~SELECTOR_RPL);
	if (!cpu_check_code(v, t.selector, t.d, v->cpl, 0, &cs) || !cpu_enter_code(v, &cs, t.offset, 0)) return false;
	go_to(v, &cs, t.offset);
	return true;
}

static bool call_same_level(struct vcpu *v, const struct target *t, uint32_t return_eip)
{
	struct segment cs;
	uint32_t esp = v->gpr[ESP];
	uint32_t words[2] = { v->seg[SEG_CS].selector, return_eip };
	if (!cpu_check_code(v, t->selector, t->d, v->cpl, 0, &cs)) return false;
	if (!cpu_stack_room(v, &v->seg[SEG_SS], esp, 2, t->size, 0) || !cpu_enter_code(v, &cs, t->offset, 0)) return false;
	if (!cpu_push_frame(v, &v->seg[SEG_SS], &esp, words, 2, t->size, memory_user(v))) return false;
	v->gpr[ESP] = esp;
	go_to(v, &cs, t->offset);
	return true;
}

static bool call_inner_level(struct vcpu *v, const struct target *t, uint32_t return_eip)
{
	struct segment cs, ss;
	uint32_t esp;
	uint32_t parameters[31], words[35];
	unsigned cpl = descriptor_dpl(t->d), n = 0;
	if (!cpu_check_code(v, t->selector, t->d, cpl, 0, &cs)) return false;
	if (!cpu_inner_stack(v, cpl, 0, &ss, &esp)) return false;
	if (!cpu_stack_room(v, &ss, esp, 4 + t->parameters, t->size, ss.selector & ~SELECTOR_RPL)) return false;
	if (!cpu_enter_code(v, &cs, t->offset, 0) || !cpu_mark_accessed(v, &ss)) return false;
	if (!cpu_read_stack(v, 0, parameters, t->parameters, t->size)) return false;
	words[n++] = v->seg[SEG_SS].selector;
	words[n++] = v->gpr[ESP];
	for (unsigned i = t->parameters; i-- > 0;) words[n++] = parameters[i];
	words[n++] = v->seg[SEG_CS].selector;
	words[n++] = return_eip;
	if (!cpu_push_frame(v, &ss, &esp, words, n, t->size, cpu_frame_access(v, cpl))) return false;
	v->seg[SEG_SS] = ss;
	v->gpr[ESP] = esp;
	go_to(v, &cs, t->offset);
	return true;
}

static bool call_real(struct vcpu *v, uint16_t selector, uint32_t offset, unsigned size, uint32_t return_eip)
{
	uint32_t esp = v->gpr[ESP];
	uint32_t words[2] = { v->seg[SEG_CS].selector, return_eip };
	if (!cpu_stack_room(v, &v->seg[SEG_SS], esp, 2, size, 0) || !real_target(v, offset)) return false;
	if (!cpu_push_frame(v, &v->seg[SEG_SS], &esp, words, 2, size, memory_user(v))) return false;
	v->gpr[ESP] = esp;
	go_to_real(v, selector, offset);
	return true;
}

bool cpu_far_call(struct vcpu *v, uint16_t selector, uint32_t offset, unsigned size, uint32_t return_eip)
{
	if (!cpu_protected(v)) return call_real(v, selector, offset, size, return_eip);
	struct target t = { .selector = selector, .offset = offset, .size = size };
	if (!find_target(v, &t)) return false;
	if (t.task) return switch_task(v, &t, TASK_NEST, return_eip);
	bool inner = t.gate && !descriptor_is_conforming(t.d) && descriptor_dpl(t.d) < v->cpl;
	return inner ? call_inner_level(v, &t, return_eip) : call_same_level(v, &t, return_eip);
}

/* The checks that RETF and IRET make of the CS they pop. */
static bool check_return_code(struct vcpu *v, uint16_t selector, struct segment *cs)
{
	uint32_t error = selector & ~SELECTOR_RPL;
	unsigned rpl = selector & SELECTOR_RPL;
	struct descriptor d;
	if (selector_is_null(selector)) return cpu_fail(v, VEC_GP, 0);
	if (!cpu_read_descriptor(v, selector, &d, VEC_GP, 0)) return false;
	bool dpl_ok = descriptor_is_conforming(d) ? descriptor_dpl(d) <= rpl : descriptor_dpl(d) == rpl;
	if (rpl < v->cpl || !descriptor_is_code(d) || !dpl_ok) return cpu_fail(v, VEC_GP, error);
	return cpu_check_code(v, selector, d, rpl, 0, cs);
}

/* Data segments that the outer level might not have loaded do not stay behind for it. */
static void drop_privileged_data(struct vcpu *v, unsigned cpl)
{
	static const uint8_t data_segments[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	for (unsigned i = 0; i < ARRAY_LEN(data_segments); i++) {
		struct segment *s = &v->seg[data_segments[i]];
		bool conforming = (s->ar & (AR_CODE | AR_CONFORMING)) == (AR_CODE | AR_CONFORMING);
		unsigned dpl = (s->ar & AR_DPL) >> AR_DPL_SHIFT;
		if ((s->ar & AR_UNUSABLE) || (dpl < cpl && !conforming)) *s = (struct segment){ .ar = AR_UNUSABLE };
	}
}

/* To an outer level: its SS:ESP lies `skip` bytes above the top. */
static bool return_outer(struct vcpu *v, struct segment *cs, uint32_t eip, unsigned size, uint32_t skip, uint32_t release)
{
	struct segment ss;
	uint32_t words[2];
	unsigned cpl = cs->selector & SELECTOR_RPL;
	if (!cpu_read_stack(v, skip, words, 2, size)) return false;
	if (!cpu_check_stack(v, (uint16_t)words[1], cpl, VEC_GP, 0, &ss)) return false;
	if (!cpu_enter_code(v, cs, eip, 0) || !cpu_mark_accessed(v, &ss)) return false;
	/* To a 16-bit stack only SP is loaded: the upper half of ESP stays, as it does on every processor. */
	uint32_t esp = ss.ar & AR_DB ? words[0] : (v->gpr[ESP] & 0xFFFF0000u) | (words[0] & 0xFFFFu);
	v->seg[SEG_SS] = ss;
	v->gpr[ESP] = cpu_stack_add(&ss, esp, release);
	drop_privileged_data(v, cpl);
	return true;
}

/* Go back to what was popped. The caller calls cpu_update_mode(). */
static bool return_to(struct vcpu *v, uint16_t selector, uint32_t eip, unsigned size, uint32_t popped, uint32_t release)
{
	struct segment cs;
	if (!check_return_code(v, selector, &cs)) return false;
	if ((cs.selector & SELECTOR_RPL) != v->cpl) {
		if (!return_outer(v, &cs, eip, size, popped + release, release)) return false;
	} else {
		if (!cpu_enter_code(v, &cs, eip, 0)) return false;
		v->gpr[ESP] = cpu_stack_add(&v->seg[SEG_SS], v->gpr[ESP], popped + release);
	}
	v->seg[SEG_CS] = cs;
	v->eip = eip;
	return true;
}

bool cpu_far_return(struct vcpu *v, unsigned size, uint32_t release)
{
	uint32_t words[2];
	uint32_t popped = 2u << size;
	if (!cpu_read_stack(v, 0, words, 2, size)) return false;
	if (cpu_protected(v)) {
		if (!return_to(v, (uint16_t)words[1], words[0], size, popped, release)) return false;
		cpu_update_mode(v);
		return true;
	}
	if (!real_target(v, words[0])) return false;
	v->gpr[ESP] = cpu_stack_add(&v->seg[SEG_SS], v->gpr[ESP], popped + release);
	go_to_real(v, (uint16_t)words[1], words[0]);
	return true;
}

/* The flags that IRET may change at this privilege (vol. 2, IRET). */
static uint32_t iret_flags_mask(const struct vcpu *v, unsigned size)
{
	uint32_t mask = EFL_ARITH | EFL_TF | EFL_DF | EFL_NT;
	if (v->cpl <= cpu_iopl(v)) mask |= EFL_IF;
	if (v->cpl == 0) mask |= EFL_IOPL;
	if (size == 2) mask |= EFL_AC | EFL_ID | EFL_RF | (v->cpl == 0 && cpu_protected(v) ? EFL_VIF | EFL_VIP : 0);
	return mask;
}

/* Real-address mode, and within virtual-8086 mode. */
static bool interrupt_return_real(struct vcpu *v, const uint32_t *words, unsigned size)
{
	uint32_t mask = iret_flags_mask(v, size);
	if (!real_target(v, words[0])) return false;
	v->gpr[ESP] = cpu_stack_add(&v->seg[SEG_SS], v->gpr[ESP], 3u << size);
	go_to_real(v, (uint16_t)words[1], words[0]);
	vcpu_set_eflags(v, words[2], mask);
	cpu_update_mode(v);
	return true;
}

/* To virtual-8086 mode: its stack and data segments lie above the flags. */
static bool return_to_v86(struct vcpu *v)
{
	static const uint8_t data_segments[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	uint32_t words[9];
	if (!cpu_read_stack(v, 0, words, 9, 2)) return false;
	if (words[0] > 0xFFFFu) return cpu_fail(v, VEC_GP, 0);
	vcpu_set_eflags(v, words[2], CPU_LOADABLE_FLAGS);
	cpu_load_v86(v, SEG_CS, (uint16_t)words[1]);
	cpu_load_v86(v, SEG_SS, (uint16_t)words[4]);
	for (unsigned i = 0; i < ARRAY_LEN(data_segments); i++) cpu_load_v86(v, data_segments[i], (uint16_t)words[5 + i]);
	v->gpr[ESP] = words[3];
	v->eip = words[0];
	cpu_update_mode(v);
	return true;
}

bool cpu_interrupt_return(struct vcpu *v, unsigned size, uint32_t next_eip)
{
	uint32_t words[3];
	if (cpu_v86_forbids(v)) return cpu_fail(v, VEC_GP, 0);
	if (cpu_protected(v) && (v->eflags & EFL_NT)) return cpu_task_return(v, next_eip);
	if (!cpu_read_stack(v, 0, words, 3, size)) return false;
	if (!cpu_protected(v)) return interrupt_return_real(v, words, size);
	if (size == 2 && (words[2] & EFL_VM) && v->cpl == 0) return return_to_v86(v);
	uint32_t mask = iret_flags_mask(v, size);
	if (!return_to(v, (uint16_t)words[1], words[0], size, 3u << size, 0)) return false;
	vcpu_set_eflags(v, words[2], mask);
	cpu_update_mode(v);
	return true;
}
