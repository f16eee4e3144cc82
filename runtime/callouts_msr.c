/* RDMSR and WRMSR: the model-specific registers that go with what CPUID shows. Any other is #GP. */
#include "base/log.h"
#include "base/x86.h"
#include "runtime/cpu_private.h"

enum msr {
	MSR_TSC = 0x10,
	MSR_APIC_BASE = 0x1B,
	MSR_TSC_ADJUST = 0x3B,
	MSR_BIOS_SIGN_ID = 0x8B, /* microcode revision; systems write 0, run CPUID and read it on this family without asking */
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175,
	MSR_SYSENTER_EIP = 0x176,
	MSR_MISC_ENABLE = 0x1A0,
	MSR_PAT = 0x277,
	MSR_EFER = 0xC0000080,
};

#define APIC_BASE_WRITABLE 0xFFFFFF800ull /* the enable bit, and an address of 36 bits */

#define MICROCODE_REVISION (1ull << 32)

static bool read_msr(struct vcpu *v, uint32_t number, uint64_t *value)
{
	switch (number) {
	case MSR_TSC: *value = cpu_read_tsc(v); return true;
	case MSR_TSC_ADJUST: *value = v->tsc_offset; return cpu_has(v, FEATURE_TSC_ADJUST);
	case MSR_APIC_BASE: *value = v->apic_base; return cpu_has(v, FEATURE_APIC);
	case MSR_BIOS_SIGN_ID: *value = MICROCODE_REVISION; return true;
	case MSR_SYSENTER_CS: *value = v->sysenter_cs; return true;
	case MSR_SYSENTER_ESP: *value = v->sysenter_esp; return true;
	case MSR_SYSENTER_EIP: *value = v->sysenter_eip; return true;
	case MSR_MISC_ENABLE: *value = v->misc_enable; return true;
	case MSR_PAT: *value = v->pat; return cpu_has(v, FEATURE_PAT);
	case MSR_EFER: *value = v->efer; return cpu_has(v, FEATURE_NX);
	default: return false;
	}
}

/* Memory types 2, 3 and above 7 are reserved (vol. 3, table 11-10). */
static bool pat_is_valid(uint64_t value)
{
	for (unsigned i = 0; i < 8; i++) {
		unsigned type = value >> 8 * i & 0xFF;
		if (type > 7 || type == 2 || type == 3) return false;
	}
	return true;
}

static bool write_apic_base(struct vcpu *v, uint64_t value)
{
	if (!cpu_has(v, FEATURE_APIC) || (value & ~(APIC_BASE_WRITABLE | APIC_BASE_BSP))) return false;
	v->apic_base = value | APIC_BASE_BSP;
	runtime_apic_base_changed(v);
	return true;
}

/* NXE is all there is in it, and EFER all there is of NX. */
static bool write_efer(struct vcpu *v, uint64_t value)
{
	if (!cpu_has(v, FEATURE_NX) || (value & ~(uint64_t)EFER_NXE)) return false;
	bool changed = v->efer != value;
	v->efer = (uint32_t)value;
	if (changed) runtime_paging_changed(v);
	return true;
}

/* IA32_TSC_ADJUST is what writes to it and to IA32_TIME_STAMP_COUNTER have added up to (vol. 3, 18.17.3). */
static bool set_tsc_offset(struct vcpu *v, uint64_t offset)
{
	v->tsc_offset = offset;
	cpu_update_mode(v);
	return true;
}

static bool write_msr(struct vcpu *v, uint32_t number, uint64_t value)
{
	switch (number) {
	case MSR_TSC: return set_tsc_offset(v, value - runtime_read_tsc(v));
	case MSR_TSC_ADJUST: return cpu_has(v, FEATURE_TSC_ADJUST) && set_tsc_offset(v, value);
	case MSR_APIC_BASE: return write_apic_base(v, value);
	case MSR_BIOS_SIGN_ID: return true;
	case MSR_SYSENTER_CS: v->sysenter_cs = (uint32_t)value; return true;
	case MSR_SYSENTER_ESP: v->sysenter_esp = (uint32_t)value; return true;
	case MSR_SYSENTER_EIP: v->sysenter_eip = (uint32_t)value; return true;
	case MSR_MISC_ENABLE: v->misc_enable = value; return true;
	case MSR_PAT:
		if (!cpu_has(v, FEATURE_PAT) || !pat_is_valid(value)) return false;
		v->pat = value;
		return true;
	case MSR_EFER: return write_efer(v, value);
	default: return false;
	}
}

enum callout_result callout_rdmsr(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg, (void)ea, (void)extra;
	uint64_t value;
	if (v->cpl != 0) return cpu_raise_error(v, VEC_GP, 0);
	if (!read_msr(v, v->gpr[ECX], &value)) {
		LOG(LOG_CPU, LOG_INFO, "RDMSR of %#x: #GP", v->gpr[ECX]);
		return cpu_raise_error(v, VEC_GP, 0);
	}
	v->gpr[EAX] = (uint32_t)value;
	v->gpr[EDX] = (uint32_t)(value >> 32);
	return CALLOUT_NEXT;
}

enum callout_result callout_wrmsr(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	uint32_t mode = v->mode;
	uint64_t value = (uint64_t)v->gpr[EDX] << 32 | v->gpr[EAX];
	if (v->cpl != 0) return cpu_raise_error(v, VEC_GP, 0);
	vcpu_forget_crossings(v);
	if (write_msr(v, v->gpr[ECX], value)) return cpu_finish(v, arg, mode);
	LOG(LOG_CPU, LOG_INFO, "WRMSR of %#llx to %#x: #GP", (unsigned long long)value, v->gpr[ECX]);
	return cpu_raise_error(v, VEC_GP, 0);
}
