/* The state as a whole after reset. */
#include <string.h>

#include "base/abi.h"
#include "runtime/cpu_private.h"

/* What vol. 3 table 9-1 leaves in EDX: the CPUID signature. */
#define RESET_EDX 0x000106CAu
#define DR6_FIXED 0xFFFF0FF0u
#define DR7_FIXED 0x400u
#define PAT_RESET 0x0007040600070406ull
#define MISC_ENABLE_FAST_STRINGS 1u

/* Selectors that the Linux boot protocol promises; Multiboot leaves them open. */
#define BOOT_CS 0x10
#define BOOT_DS 0x18

static void reset_segments(struct vcpu *v, bool flat32)
{
	struct segment data = { .limit = 0xFFFF, .ar = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED };
	struct segment code = { .selector = 0xF000, .base = 0xFFFF0000u, .limit = 0xFFFF, .ar = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED };
	if (flat32) {
		data = (struct segment){ .selector = BOOT_DS, .limit = 0xFFFFFFFFu, .ar = AR_FLAT_DATA };
		code = (struct segment){ .selector = BOOT_CS, .limit = 0xFFFFFFFFu, .ar = AR_FLAT_CODE };
	}
	for (unsigned i = 0; i < SEG_COUNT; i++) v->seg[i] = i == SEG_CS ? code : data;
	v->ldtr = (struct segment){ .limit = 0xFFFF, .ar = AR_P | SYS_LDT };
	v->tr = (struct segment){ .limit = 0xFFFF, .ar = AR_P | SYS_TSS32_BUSY };
	v->gdtr = v->idtr = (struct table_register){ .base = 0, .limit = 0xFFFF };
}

void cpu_reset(struct vcpu *v, bool flat32)
{
	memset(v->gpr, 0, sizeof(v->gpr));
	memset(v->xmm, 0, sizeof(v->xmm));
	memset(v->dr, 0, sizeof(v->dr));
	v->gpr[EDX] = RESET_EDX;
	v->eip = flat32 ? 0 : 0xFFF0;
	v->flags = v->eflags = 0;
	v->if_flag = v->df_flag = 0;
	/* A boot loader runs with caches on. */
	v->cr0 = flat32 ? CR0_ET | CR0_PE : CR0_ET | CR0_NW | CR0_CD;
	v->cr2 = v->cr3 = v->cr4 = v->efer = 0;
	memset(v->pdpte, 0, sizeof(v->pdpte));
	v->dr[6] = DR6_FIXED;
	v->dr[7] = DR7_FIXED;
	vcpu_forget_crossings(v);
	v->sysenter_cs = v->sysenter_esp = v->sysenter_eip = 0;
	v->apic_base = cpu_has(v, FEATURE_APIC) ? APIC_BASE_RESET : 0;
	v->nmi = 0;
	v->nmi_blocked = false;
	v->pat = PAT_RESET;
	v->misc_enable = MISC_ENABLE_FAST_STRINGS;
	v->shadow_interrupts = v->halted = false;
	v->debug_hits = 0;
	v->tsc_offset = 0;
	v->x87 = (struct x87_pointers){ 0 };
	v->x87_hidden = 0;
	v->fault = (struct guest_fault){ 0 };
	reset_segments(v, flat32);
	cpu_update_mode(v);
}
