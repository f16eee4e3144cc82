/* Callouts that transfer control: INT n, IRET, far transfers, SYSENTER and SYSEXIT. */
#include "base/abi.h"
#include "runtime/cpu_private.h"

static enum callout_result left(bool ok)
{
	return ok ? CALLOUT_LEAVE : CALLOUT_FAULT;
}

/* `extra` tells INT1 from INT 1, and INT3 and INTO from INT 3 and INT 4, which virtual-8086 mode forbids by IOPL. */
enum callout_result callout_int_n(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	if (!extra && cpu_v86_forbids(v)) return cpu_raise_error(v, VEC_GP, 0);
	return left(cpu_software_interrupt(v, (uint8_t)ea, cpu_next_eip(v, arg), extra && ea == VEC_DB));
}

enum callout_result callout_iret(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	v->nmi_blocked = false; /* even if it faults (vol. 3, 6.7.1) */
	return left(cpu_interrupt_return(v, CALLOUT_SIZE(arg), cpu_next_eip(v, arg)));
}

/* The far pointer that a callout names: immediate, or in memory as offset and selector. */
static bool read_far_pointer(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra, uint16_t *selector, uint32_t *offset)
{
	uint32_t size = 1u << CALLOUT_SIZE(arg);
	*offset = ea;
	*selector = (uint16_t)extra;
	if (!CALLOUT_MEM(arg)) return true;
	*offset = 0;
	/* Two operands to alignment checks: m16:16 needs that of a word (vol. 3, table 6-7). */
	if (!cpu_read_memory(v, arg, ea, offset, size) || !cpu_read_memory(v, arg, ea + size, selector, 2)) return false;
	return true;
}

enum callout_result callout_call_far(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	uint16_t selector;
	uint32_t offset;
	if (!read_far_pointer(v, arg, ea, extra, &selector, &offset)) return CALLOUT_FAULT;
	return left(cpu_far_call(v, selector, offset, CALLOUT_SIZE(arg), cpu_next_eip(v, arg)));
}

enum callout_result callout_jmp_far(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	uint16_t selector;
	uint32_t offset;
	if (!read_far_pointer(v, arg, ea, extra, &selector, &offset)) return CALLOUT_FAULT;
	return left(cpu_far_jump(v, selector, offset, cpu_next_eip(v, arg)));
}

enum callout_result callout_ret_far(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	return left(cpu_far_return(v, CALLOUT_SIZE(arg), ea & 0xFFFFu));
}

enum callout_result callout_load_far_ptr(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	uint16_t selector;
	uint32_t offset, mode = v->mode;
	if (!CALLOUT_MEM(arg)) return cpu_raise(v, VEC_UD);
	if (!read_far_pointer(v, arg, ea, 0, &selector, &offset)) return CALLOUT_FAULT;
	if (!cpu_load_segment(v, (enum seg)extra, selector)) return CALLOUT_FAULT;
	cpu_write_gpr(v, CALLOUT_REG(arg), offset, CALLOUT_SIZE(arg));
	return cpu_finish(v, arg, mode);
}

static void load_flat(struct vcpu *v, enum seg seg, uint32_t selector, unsigned cpl)
{
	uint32_t ar = seg == SEG_CS ? AR_FLAT_CODE : AR_FLAT_DATA;
	v->seg[seg] = (struct segment){ .selector = (uint16_t)selector, .limit = 0xFFFFFFFFu, .ar = ar | cpl << AR_DPL_SHIFT };
}

enum callout_result callout_sysenter(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg, (void)ea, (void)extra;
	if (!(v->mode & MODE_PE) || selector_is_null((uint16_t)v->sysenter_cs)) return cpu_raise_error(v, VEC_GP, 0);
	uint32_t cs = v->sysenter_cs & ~SELECTOR_RPL;
	load_flat(v, SEG_CS, cs, 0);
	load_flat(v, SEG_SS, cs + 8, 0);
	v->eflags &= ~(EFL_VM | EFL_RF);
	v->if_flag = 0;
	v->gpr[ESP] = v->sysenter_esp;
	v->eip = v->sysenter_eip;
	cpu_update_mode(v);
	return CALLOUT_LEAVE;
}

enum callout_result callout_sysexit(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg, (void)ea, (void)extra;
	bool allowed = (v->mode & MODE_PE) && v->cpl == 0 && !selector_is_null((uint16_t)v->sysenter_cs);
	if (!allowed) return cpu_raise_error(v, VEC_GP, 0);
	load_flat(v, SEG_CS, (v->sysenter_cs + 16) | SELECTOR_RPL, 3);
	load_flat(v, SEG_SS, (v->sysenter_cs + 24) | SELECTOR_RPL, 3);
	v->gpr[ESP] = v->gpr[ECX];
	v->eip = v->gpr[EDX];
	cpu_update_mode(v);
	return CALLOUT_LEAVE;
}

/* The exception that translation found in place of an instruction. */
enum callout_result callout_raise(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	if (CALLOUT_REG(arg)) return cpu_raise_error(v, (uint8_t)ea, extra);
	return cpu_raise(v, (uint8_t)ea);
}
