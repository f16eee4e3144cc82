/* Callouts on system registers: control and debug registers, descriptor tables, TSS and LDT, CPUID, the time stamp. */
#include <string.h>

#include "base/abi.h"
#include "runtime/cpu_private.h"

/* Bits of CR0 that are there; writes to the others are ignored (vol. 3, 2.5). */
#define CR0_WRITABLE (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR4_PAGING (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP)
/* Changes of these load the PDPTEs anew where PAE paging is on (vol. 3, 4.4.1). */
#define CR0_PDPTE (CR0_CD | CR0_NW | CR0_PG)
#define CR4_PDPTE (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)

#define PDPTES 4u
#define PDPTE_P 1u
#define PDPTE_RESERVED (~((UINT64_C(1) << PHYSICAL_BITS) - 1) | 0x1E6u) /* and bits 1, 2, 5 to 8 (vol. 3, table 4-8) */

#define DR6_BD 0x2000u
#define DR6_WRITABLE 0xE00Fu
#define DR6_FIXED 0xFFFF0FF0u
#define DR7_GD 0x2000u
#define DR7_WRITABLE 0xFFFF23FFu
#define DR7_FIXED 0x400u

#define PRIVILEGED(v) \
	do { \
		if ((v)->cpl != 0) return cpu_raise_error(v, VEC_GP, 0); \
	} while (0)

static enum callout_result leave_behind(struct vcpu *v, uint32_t arg)
{
	v->eip = cpu_next_eip(v, arg);
	return CALLOUT_LEAVE;
}

/* The PDPTEs for what the control registers are about to be; no state changes unless all of them are good. */
static bool load_pdptes(struct vcpu *v, uint32_t cr0, uint32_t cr3, uint32_t cr4)
{
	uint64_t pdpte[PDPTES];
	if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE)) return true;
	runtime_read_physical(v, cr3 & ~0x1Fu, pdpte, sizeof(pdpte));
	for (unsigned i = 0; i < PDPTES; i++) {
		if ((pdpte[i] & PDPTE_P) && (pdpte[i] & PDPTE_RESERVED)) return cpu_fail(v, VEC_GP, 0);
	}
	memcpy(v->pdpte, pdpte, sizeof(pdpte));
	return true;
}

bool cpu_load_cr3(struct vcpu *v, uint32_t value)
{
	if (!load_pdptes(v, v->cr0, value, v->cr4)) return false;
	v->cr3 = value;
	runtime_paging_changed(v);
	return true;
}

bool cpu_umip_allows(struct vcpu *v)
{
	return !(v->cr4 & CR4_UMIP) || v->cpl == 0 || cpu_fail(v, VEC_GP, 0);
}

/* SGDT and SIDT. The manual's newer editions store the whole base for either operand size, as processors do. */
static enum callout_result store_table(struct vcpu *v, uint32_t arg, uint32_t ea, const struct table_register *t)
{
	uint8_t bytes[6];
	if (!CALLOUT_MEM(arg)) return cpu_raise(v, VEC_UD);
	if (!cpu_umip_allows(v)) return CALLOUT_FAULT;
	for (unsigned i = 0; i < 2; i++) bytes[i] = (uint8_t)(t->limit >> 8 * i);
	for (unsigned i = 0; i < 4; i++) bytes[2 + i] = (uint8_t)(t->base >> 8 * i);
	return cpu_write_memory(v, arg, ea, bytes, sizeof(bytes)) ? CALLOUT_NEXT : CALLOUT_FAULT;
}

enum callout_result callout_sgdt(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	return store_table(v, arg, ea, &v->gdtr);
}

enum callout_result callout_sidt(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	return store_table(v, arg, ea, &v->idtr);
}

static enum callout_result load_table(struct vcpu *v, uint32_t arg, uint32_t ea, struct table_register *t)
{
	uint8_t bytes[6];
	if (!CALLOUT_MEM(arg)) return cpu_raise(v, VEC_UD);
	PRIVILEGED(v);
	if (!cpu_read_memory(v, arg, ea, bytes, sizeof(bytes))) return CALLOUT_FAULT;
	t->limit = bytes[0] | (uint32_t)bytes[1] << 8;
	t->base = bytes[2] | (uint32_t)bytes[3] << 8 | (uint32_t)bytes[4] << 16;
	/* A 16-bit load is the 80286's: 24 bits of base. */
	if (CALLOUT_SIZE(arg) == 2) t->base |= (uint32_t)bytes[5] << 24;
	vcpu_forget_crossings(v);
	return CALLOUT_NEXT;
}

enum callout_result callout_lgdt(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	return load_table(v, arg, ea, &v->gdtr);
}

enum callout_result callout_lidt(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	return load_table(v, arg, ea, &v->idtr);
}

/* The system descriptor that LLDT or LTR loads: in the GDT, of a type in the mask, present. */
static bool read_system_descriptor(struct vcpu *v, uint16_t selector, uint32_t types, struct descriptor *d)
{
	uint32_t error = selector & ~SELECTOR_RPL;
	if (selector & 4) return cpu_fail(v, VEC_GP, error);
	if (!cpu_read_descriptor(v, selector, d, VEC_GP, 0)) return false;
	uint32_t ar = descriptor_ar(*d);
	if ((ar & AR_S) || !(types >> (ar & AR_TYPE) & 1)) return cpu_fail(v, VEC_GP, error);
	return (ar & AR_P) || cpu_fail(v, VEC_NP, error);
}

enum callout_result callout_lldt(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	uint32_t selector;
	struct descriptor d;
	if (!cpu_protected(v)) return cpu_raise(v, VEC_UD);
	PRIVILEGED(v);
	if (!cpu_read_operand(v, arg, ea, 2, &selector)) return CALLOUT_FAULT;
	vcpu_forget_crossings(v);
	if (selector_is_null((uint16_t)selector)) {
		v->ldtr = (struct segment){ .selector = (uint16_t)selector, .ar = AR_UNUSABLE };
		return CALLOUT_NEXT;
	}
	if (!read_system_descriptor(v, (uint16_t)selector, 1u << SYS_LDT, &d)) return CALLOUT_FAULT;
	cpu_parse_descriptor(&v->ldtr, (uint16_t)selector, d);
	return CALLOUT_NEXT;
}

enum callout_result callout_ltr(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	uint32_t selector;
	struct descriptor d;
	if (!cpu_protected(v)) return cpu_raise(v, VEC_UD);
	PRIVILEGED(v);
	if (!cpu_read_operand(v, arg, ea, 2, &selector)) return CALLOUT_FAULT;
	if (selector_is_null((uint16_t)selector)) return cpu_raise_error(v, VEC_GP, 0);
	if (!read_system_descriptor(v, (uint16_t)selector, 1u << SYS_TSS16 | 1u << SYS_TSS32, &d)) return CALLOUT_FAULT;
	d.high |= 2u << 8; /* busy */
	uint8_t access = (uint8_t)(d.high >> 8);
	if (!memory_write(v, v->gdtr.base + (selector & ~7u) + 5, &access, 1, ACCESS_WRITE)) return CALLOUT_FAULT;
	cpu_parse_descriptor(&v->tr, (uint16_t)selector, d);
	return CALLOUT_NEXT;
}

/* Every write to CR0 ends here, the value being allowed. */
static enum callout_result write_cr0(struct vcpu *v, uint32_t arg, uint32_t value)
{
	uint32_t mode = v->mode;
	uint32_t changed = v->cr0 ^ value;
	if ((changed & CR0_PDPTE) && !load_pdptes(v, value, v->cr3, v->cr4)) return CALLOUT_FAULT;
	vcpu_forget_crossings(v);
	v->cr0 = value;
	if (changed) cpu_update_mode(v);
	if (!(changed & (CR0_PG | CR0_WP | CR0_PE))) return cpu_finish(v, arg, mode);
	runtime_paging_changed(v);
	return leave_behind(v, arg);
}

enum callout_result callout_smsw(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	if (!cpu_umip_allows(v)) return CALLOUT_FAULT;
	if (CALLOUT_MEM(arg)) return cpu_write_memory(v, arg, ea, &v->cr0, 2) ? CALLOUT_NEXT : CALLOUT_FAULT;
	cpu_write_gpr(v, CALLOUT_RM(arg), v->cr0, CALLOUT_SIZE(arg));
	return CALLOUT_NEXT;
}

/* LMSW sets PE, MP, EM and TS, and cannot clear PE. */
enum callout_result callout_lmsw(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	uint32_t value;
	PRIVILEGED(v);
	if (!cpu_read_operand(v, arg, ea, 2, &value)) return CALLOUT_FAULT;
	uint32_t mask = CR0_MP | CR0_EM | CR0_TS | (value & CR0_PE);
	return write_cr0(v, arg, (v->cr0 & ~mask) | (value & mask));
}

enum callout_result callout_clts(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	PRIVILEGED(v);
	return write_cr0(v, arg, v->cr0 & ~CR0_TS);
}

enum callout_result callout_mov_from_cr(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	uint32_t value;
	switch (CALLOUT_REG(arg)) {
	case 0: value = v->cr0; break;
	case 2: value = v->cr2; break;
	case 3: value = v->cr3; break;
	case 4: value = v->cr4; break;
	default: return cpu_raise(v, VEC_UD);
	}
	PRIVILEGED(v);
	v->gpr[CALLOUT_RM(arg) & 7] = value;
	return CALLOUT_NEXT;
}

static enum callout_result move_to_cr0(struct vcpu *v, uint32_t arg, uint32_t value)
{
	bool paging_needs_pe = (value & CR0_PG) && !(value & CR0_PE);
	bool nw_needs_cd = (value & CR0_NW) && !(value & CR0_CD);
	if (paging_needs_pe || nw_needs_cd) return cpu_raise_error(v, VEC_GP, 0);
	return write_cr0(v, arg, (value & CR0_WRITABLE) | CR0_ET);
}

static enum callout_result move_to_cr4(struct vcpu *v, uint32_t arg, uint32_t value)
{
	if (value & ~cpu_cr4_bits(v)) return cpu_raise_error(v, VEC_GP, 0);
	uint32_t mode = v->mode;
	uint32_t changed = v->cr4 ^ value;
	if ((changed & CR4_PDPTE) && !load_pdptes(v, v->cr0, v->cr3, value)) return CALLOUT_FAULT;
	vcpu_forget_crossings(v);
	v->cr4 = value;
	cpu_update_mode(v);
	if (!(changed & CR4_PAGING)) return cpu_finish(v, arg, mode);
	runtime_paging_changed(v);
	return leave_behind(v, arg);
}

enum callout_result callout_mov_to_cr(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	uint32_t value = v->gpr[CALLOUT_RM(arg) & 7];
	unsigned reg = CALLOUT_REG(arg);
	if (reg == 1 || reg > 4) return cpu_raise(v, VEC_UD);
	PRIVILEGED(v);
	if (reg == 0) return move_to_cr0(v, arg, value);
	if (reg == 4) return move_to_cr4(v, arg, value);
	if (reg == 2) {
		v->cr2 = value;
		return CALLOUT_NEXT;
	}
	return cpu_load_cr3(v, value) ? leave_behind(v, arg) : CALLOUT_FAULT;
}

/* STAC and CLAC. The supervisor's accesses to user pages all ask the shadow, which looks at EFLAGS.AC then. */
static enum callout_result set_ac(struct vcpu *v, uint32_t ac)
{
	if (!cpu_has(v, FEATURE_SMAP) || v->cpl != 0) return cpu_raise(v, VEC_UD);
	v->eflags = (v->eflags & ~EFL_AC) | ac;
	return CALLOUT_NEXT;
}

enum callout_result callout_stac(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg, (void)ea, (void)extra;
	return set_ac(v, EFL_AC);
}

enum callout_result callout_clac(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg, (void)ea, (void)extra;
	return set_ac(v, 0);
}

/* DR4 and DR5 are DR6 and DR7, but with the debugging extensions. False with a fault set if no access is allowed. */
static bool debug_register(struct vcpu *v, uint32_t arg, unsigned *reg)
{
	*reg = CALLOUT_REG(arg);
	if (*reg > 7) return cpu_raise(v, VEC_UD), false;
	if (*reg == 4 || *reg == 5) {
		if (v->cr4 & CR4_DE) return cpu_raise(v, VEC_UD), false;
		*reg += 2;
	}
	if (v->cpl != 0) return cpu_fail(v, VEC_GP, 0);
	if (!(v->dr[7] & DR7_GD)) return true;
	v->dr[6] |= DR6_BD;
	v->eflags |= EFL_RF; /* a fault like any other: only an instruction breakpoint's image keeps RF as it is (vol. 3, 17.3.1.1) */
	cpu_raise(v, VEC_DB);
	return false;
}

enum callout_result callout_mov_from_dr(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	unsigned reg;
	if (!debug_register(v, arg, &reg)) return CALLOUT_FAULT;
	v->gpr[CALLOUT_RM(arg) & 7] = v->dr[reg];
	return CALLOUT_NEXT;
}

enum callout_result callout_mov_to_dr(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	unsigned reg;
	uint32_t mode = v->mode;
	if (!debug_register(v, arg, &reg)) return CALLOUT_FAULT;
	uint32_t value = v->gpr[CALLOUT_RM(arg) & 7];
	if (reg == 6) value = (value & DR6_WRITABLE) | DR6_FIXED;
	if (reg == 7) value = (value & DR7_WRITABLE) | DR7_FIXED;
	v->dr[reg] = value;
	if (reg == 7) cpu_update_mode(v);
	return cpu_finish(v, arg, mode);
}

/* At CPL 0 emitted code does without. */
enum callout_result callout_invlpg(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	if (!CALLOUT_MEM(arg)) return cpu_raise(v, VEC_UD);
	PRIVILEGED(v);
	return CALLOUT_NEXT;
}

/* Guest memory is coherent: there is nothing to write back. */
enum callout_result callout_wbinvd(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg, (void)ea, (void)extra;
	PRIVILEGED(v);
	return CALLOUT_NEXT;
}

enum callout_result callout_rdtsc(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg, (void)ea, (void)extra;
	if (v->cpl != 0 && (v->cr4 & CR4_TSD)) return cpu_raise_error(v, VEC_GP, 0);
	uint64_t tsc = cpu_read_tsc(v);
	v->gpr[EAX] = (uint32_t)tsc;
	v->gpr[EDX] = (uint32_t)(tsc >> 32);
	return CALLOUT_NEXT;
}

/* There are no counters, so every number of one is out of range, whatever CR4.PCE allows. */
enum callout_result callout_rdpmc(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg, (void)ea, (void)extra;
	return cpu_raise_error(v, VEC_GP, 0);
}

enum callout_result callout_cpuid(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg, (void)ea, (void)extra;
	cpu_cpuid(v);
	return CALLOUT_NEXT;
}
