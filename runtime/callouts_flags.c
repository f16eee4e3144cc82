/* Callouts on EFLAGS: PUSHF, POPF, CLI, STI; and HLT, which waits for what they allow. */
#include "base/abi.h"
#include "runtime/cpu_private.h"

enum callout_result callout_pushf(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	if (cpu_v86_forbids(v)) return cpu_raise_error(v, VEC_GP, 0);
	uint32_t esp = v->gpr[ESP];
	uint32_t image = vcpu_eflags(v) & ~(EFL_VM | EFL_RF);
	if (!cpu_push(v, &v->seg[SEG_SS], &esp, &image, 1, CALLOUT_SIZE(arg), memory_user(v), 0)) return CALLOUT_FAULT;
	v->gpr[ESP] = esp;
	return CALLOUT_NEXT;
}

/* The flags that POPF may change (vol. 2, table 4-21); the others are kept without an exception. */
static uint32_t popf_mask(const struct vcpu *v, unsigned size)
{
	uint32_t mask = EFL_ARITH | EFL_TF | EFL_DF | EFL_NT;
	if (v->mode & MODE_IOPL_OK) mask |= EFL_IF;
	if (v->cpl == 0) mask |= EFL_IOPL;
	if (size == 2) mask |= EFL_AC | EFL_ID;
	return mask;
}

/* After IF may have risen: leave translated code if an interrupt waits. */
static enum callout_result finish_flags(struct vcpu *v, uint32_t arg, uint32_t mode_before)
{
	if (!v->if_flag || !__atomic_load_n(&v->intr, __ATOMIC_RELAXED)) return cpu_finish(v, arg, mode_before);
	v->eip = cpu_next_eip(v, arg);
	return CALLOUT_LEAVE;
}

enum callout_result callout_popf(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	uint32_t image, mode = v->mode;
	unsigned size = CALLOUT_SIZE(arg);
	if (cpu_v86_forbids(v)) return cpu_raise_error(v, VEC_GP, 0);
	if (!cpu_read_stack(v, 0, &image, 1, size)) return CALLOUT_FAULT;
	uint32_t mask = popf_mask(v, size);
	uint32_t before = v->eflags;
	if (size == 2) v->eflags &= ~EFL_RF; /* whatever was popped */
	vcpu_set_eflags(v, image, mask);
	v->gpr[ESP] = cpu_stack_add(&v->seg[SEG_SS], v->gpr[ESP], 1u << size);
	if ((v->eflags ^ before) & (EFL_TF | EFL_IOPL | EFL_AC)) cpu_update_mode(v);
	return finish_flags(v, arg, mode);
}

static bool interrupt_flag_allowed(const struct vcpu *v)
{
	return (v->mode & MODE_IOPL_OK) && !cpu_v86_forbids(v);
}

enum callout_result callout_cli(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg, (void)ea, (void)extra;
	if (!interrupt_flag_allowed(v)) return cpu_raise_error(v, VEC_GP, 0);
	v->if_flag = 0;
	return CALLOUT_NEXT;
}

enum callout_result callout_sti(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	if (!interrupt_flag_allowed(v)) return cpu_raise_error(v, VEC_GP, 0);
	if (!v->if_flag) v->shadow_interrupts |= SHADOW_STI;
	v->if_flag = 1;
	return finish_flags(v, arg, v->mode);
}

enum callout_result callout_hlt(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	if (v->cpl != 0) return cpu_raise_error(v, VEC_GP, 0);
	v->halted = true;
	v->shadow_interrupts = 0;
	v->eip = cpu_next_eip(v, arg);
	return CALLOUT_LEAVE;
}
