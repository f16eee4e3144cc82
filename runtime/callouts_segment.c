/* Callouts on segment registers and descriptors: MOV, PUSH, POP, LAR, LSL, VERR, VERW, ARPL, and checked accesses. */
#include "base/abi.h"
#include "base/side_table.h"
#include "runtime/cpu_private.h"

static enum callout_result load_segment(struct vcpu *v, uint32_t arg, uint32_t selector, uint32_t esp)
{
	enum seg seg = CALLOUT_REG(arg);
	uint32_t mode = v->mode;
	if (seg == SEG_CS || seg >= SEG_COUNT) return cpu_raise(v, VEC_UD);
	if (!cpu_load_segment(v, seg, (uint16_t)selector)) return CALLOUT_FAULT;
	v->gpr[ESP] = esp;
	if (seg == SEG_SS) v->shadow_interrupts |= SHADOW_SS;
	return cpu_finish(v, arg, mode);
}

enum callout_result callout_mov_to_seg(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	uint32_t selector;
	if (CALLOUT_RM(arg) == CALLOUT_RM_EA && !CALLOUT_MEM(arg)) selector = ea;
	else if (!cpu_read_operand(v, arg, ea, 2, &selector)) return CALLOUT_FAULT;
	return load_segment(v, arg, selector, v->gpr[ESP]);
}

enum callout_result callout_pop_seg(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	uint32_t selector;
	unsigned size = CALLOUT_SIZE(arg);
	if (!cpu_read_stack(v, 0, &selector, 1, size)) return CALLOUT_FAULT;
	return load_segment(v, arg, selector, cpu_stack_add(&v->seg[SEG_SS], v->gpr[ESP], 1u << size));
}

/* To memory 16 bits, to a register the operand size, zero-extended: MOV r/m, Sreg, SLDT and STR. */
static enum callout_result store_selector(struct vcpu *v, uint32_t arg, uint32_t ea, uint16_t selector)
{
	if (CALLOUT_MEM(arg)) return cpu_write_memory(v, arg, ea, &selector, 2) ? CALLOUT_NEXT : CALLOUT_FAULT;
	cpu_write_gpr(v, CALLOUT_RM(arg), selector, CALLOUT_SIZE(arg));
	return CALLOUT_NEXT;
}

enum callout_result callout_mov_from_seg(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	if (CALLOUT_REG(arg) >= SEG_COUNT) return cpu_raise(v, VEC_UD);
	return store_selector(v, arg, ea, v->seg[CALLOUT_REG(arg)].selector);
}

enum callout_result callout_push_seg(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	uint32_t selector = v->seg[CALLOUT_REG(arg)].selector;
	uint32_t esp = v->gpr[ESP];
	if (!cpu_push(v, &v->seg[SEG_SS], &esp, &selector, 1, CALLOUT_SIZE(arg), memory_user(v), 0)) return CALLOUT_FAULT;
	v->gpr[ESP] = esp;
	return CALLOUT_NEXT;
}

enum callout_result callout_sldt(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	if (!cpu_protected(v)) return cpu_raise(v, VEC_UD);
	if (!cpu_umip_allows(v)) return CALLOUT_FAULT;
	return store_selector(v, arg, ea, v->ldtr.selector);
}

enum callout_result callout_str(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	if (!cpu_protected(v)) return cpu_raise(v, VEC_UD);
	if (!cpu_umip_allows(v)) return CALLOUT_FAULT;
	return store_selector(v, arg, ea, v->tr.selector);
}

/* A descriptor for LAR, LSL, VERR, VERW: a selector that names none is no fault for them. */
enum probe { PROBE_NONE, PROBE_FOUND, PROBE_FAULT };

static enum probe probe_descriptor(struct vcpu *v, uint16_t selector, struct descriptor *d)
{
	if (selector_is_null(selector)) return PROBE_NONE;
	if (cpu_read_descriptor(v, selector, d, VEC_GP, 0)) return PROBE_FOUND;
	return v->fault.vector == VEC_GP ? PROBE_NONE : PROBE_FAULT;
}

/* May code at this privilege know of it? */
static bool is_visible(const struct vcpu *v, uint16_t selector, struct descriptor d)
{
	uint32_t ar = descriptor_ar(d);
	uint32_t conforming = AR_S | AR_CODE | AR_CONFORMING;
	if ((ar & conforming) == conforming) return true;
	return descriptor_dpl(d) >= v->cpl && descriptor_dpl(d) >= (selector & SELECTOR_RPL);
}

/* Bit masks over system types (vol. 2, LAR and LSL). */
#define LAR_SYSTEM_TYPES (1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 9 | 1u << 11 | 1u << 12)
#define LSL_SYSTEM_TYPES (1u << 1 | 1u << 2 | 1u << 3 | 1u << 9 | 1u << 11)

/* The common part of LAR and LSL: ZF, and whether there is a result. */
static enum callout_result query(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t system_types, struct descriptor *d, bool *valid)
{
	uint32_t selector;
	*valid = false;
	if (!cpu_protected(v)) return cpu_raise(v, VEC_UD);
	if (!cpu_read_operand(v, arg, ea, 2, &selector)) return CALLOUT_FAULT;
	enum probe found = probe_descriptor(v, (uint16_t)selector, d);
	if (found == PROBE_FAULT) return CALLOUT_FAULT;
	if (found == PROBE_FOUND) {
		uint32_t ar = descriptor_ar(*d);
		bool type_ok = (ar & AR_S) || (system_types >> (ar & AR_TYPE) & 1);
		*valid = type_ok && is_visible(v, (uint16_t)selector, *d);
	}
	cpu_set_zf(v, *valid);
	return CALLOUT_NEXT;
}

enum callout_result callout_lar(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	struct descriptor d;
	bool valid;
	enum callout_result result = query(v, arg, ea, LAR_SYSTEM_TYPES, &d, &valid);
	if (valid) cpu_write_gpr(v, CALLOUT_REG(arg), d.high & 0x00F0FF00u, CALLOUT_SIZE(arg));
	return result;
}

enum callout_result callout_lsl(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	struct descriptor d;
	bool valid;
	enum callout_result result = query(v, arg, ea, LSL_SYSTEM_TYPES, &d, &valid);
	if (valid) {
		struct segment s;
		cpu_parse_descriptor(&s, 0, d);
		cpu_write_gpr(v, CALLOUT_REG(arg), s.limit, CALLOUT_SIZE(arg));
	}
	return result;
}

static bool readable(uint32_t ar)
{
	return !(ar & AR_CODE) || (ar & AR_READABLE);
}

static bool writable(uint32_t ar)
{
	return !(ar & AR_CODE) && (ar & AR_WRITABLE);
}

static enum callout_result verify(struct vcpu *v, uint32_t arg, uint32_t ea, bool (*allows)(uint32_t ar))
{
	uint32_t selector;
	struct descriptor d;
	if (!cpu_protected(v)) return cpu_raise(v, VEC_UD);
	if (!cpu_read_operand(v, arg, ea, 2, &selector)) return CALLOUT_FAULT;
	enum probe found = probe_descriptor(v, (uint16_t)selector, &d);
	if (found == PROBE_FAULT) return CALLOUT_FAULT;
	cpu_set_zf(v, found == PROBE_FOUND && (descriptor_ar(d) & AR_S) && is_visible(v, (uint16_t)selector, d) && allows(descriptor_ar(d)));
	return CALLOUT_NEXT;
}

enum callout_result callout_verr(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	return verify(v, arg, ea, readable);
}

enum callout_result callout_verw(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	return verify(v, arg, ea, writable);
}

enum callout_result callout_arpl(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	uint32_t selector;
	uint32_t rpl = v->gpr[CALLOUT_REG(arg) & 7] & SELECTOR_RPL;
	if (!cpu_protected(v)) return cpu_raise(v, VEC_UD);
	if (!cpu_read_operand(v, arg, ea, 2, &selector)) return CALLOUT_FAULT;
	bool raised = (selector & SELECTOR_RPL) < rpl;
	if (raised) selector = (selector & ~SELECTOR_RPL) | rpl;
	/* Read, modify, write: a read-only destination faults either way. */
	uint16_t result = (uint16_t)selector;
	if (CALLOUT_MEM(arg) && !cpu_write_memory(v, arg, ea, &result, 2)) return CALLOUT_FAULT;
	if (!CALLOUT_MEM(arg)) cpu_write_gpr(v, CALLOUT_RM(arg), result, 1);
	cpu_set_zf(v, raised);
	return CALLOUT_NEXT;
}

enum callout_result callout_check_segment(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	gva_t gva;
	bool ok = cpu_linear(v, CALLOUT_SEG(arg), ea, row_sizes[CALLOUT_SIZE(arg)], CALLOUT_REG(arg) != 0, &gva);
	return ok ? CALLOUT_NEXT : CALLOUT_FAULT;
}
