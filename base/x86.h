/* The architecture's own numbers: flags, control registers, vectors, descriptor bits (Intel SDM vol. 1 ch. 3, vol. 3 ch. 2-6). */
#ifndef BASE_X86_H
#define BASE_X86_H

enum gpr { EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI };
enum seg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_COUNT };

#define EFL_CF 0x1u
#define EFL_FIXED 0x2u
#define EFL_PF 0x4u
#define EFL_AF 0x10u
#define EFL_ZF 0x40u
#define EFL_SF 0x80u
#define EFL_TF 0x100u
#define EFL_IF 0x200u
#define EFL_DF 0x400u
#define EFL_OF 0x800u
#define EFL_IOPL 0x3000u
#define EFL_IOPL_SHIFT 12
#define EFL_NT 0x4000u
#define EFL_RF 0x10000u
#define EFL_VM 0x20000u
#define EFL_AC 0x40000u
#define EFL_VIF 0x80000u
#define EFL_VIP 0x100000u
#define EFL_ID 0x200000u
/* The status flags: the only ones that live in the host's RFLAGS while translated code runs. */
#define EFL_ARITH (EFL_CF | EFL_PF | EFL_AF | EFL_ZF | EFL_SF | EFL_OF)

#define CR0_PE 0x1u
#define CR0_MP 0x2u
#define CR0_EM 0x4u
#define CR0_TS 0x8u
#define CR0_ET 0x10u
#define CR0_NE 0x20u
#define CR0_WP 0x10000u
#define CR0_AM 0x40000u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_PG 0x80000000u

#define CR4_VME 0x1u
#define CR4_PVI 0x2u
#define CR4_TSD 0x4u
#define CR4_DE 0x8u
#define CR4_PSE 0x10u
#define CR4_PAE 0x20u
#define CR4_MCE 0x40u
#define CR4_PGE 0x80u
#define CR4_PCE 0x100u
#define CR4_OSFXSR 0x200u
#define CR4_OSXMMEXCPT 0x400u
#define CR4_UMIP 0x800u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u

#define EFER_NXE 0x800u

/* Width of physical addresses, as CPUID leaf 80000008h shows it. */
#define PHYSICAL_BITS 36u

enum vector {
	VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6, VEC_NM = 7, VEC_DF = 8,
	VEC_TS = 10, VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16, VEC_AC = 17, VEC_MC = 18, VEC_XM = 19,
};

/* Page-table entry bits (vol. 3, 4.3). */
#define PTE_P 0x1u
#define PTE_RW 0x2u
#define PTE_US 0x4u
#define PTE_A 0x20u
#define PTE_D 0x40u
#define PTE_PS 0x80u
#define PTE_G 0x100u
#define PTE_PAT 0x80u              /* in a 4 KiB page's entry */
#define PTE_LARGE_PAT 0x1000u      /* in a large page's */
#define PTE_XD (UINT64_C(1) << 63) /* PAE */
#define PTE_FRAME ((UINT64_C(1) << PHYSICAL_BITS) - 0x1000)

/* A segment's access rights as struct segment keeps them: descriptor bits 40-47 in 0-7, bits 52-55 in 12-15 (the layout of
 * the VMX access-rights field, vol. 3, 24.4.1). */
#define AR_TYPE 0xFu
#define AR_CODE 0x8u       /* with AR_S: code, else data */
#define AR_CONFORMING 0x4u /* code */
#define AR_EXPAND_DOWN 0x4u /* data */
#define AR_READABLE 0x2u   /* code */
#define AR_WRITABLE 0x2u   /* data */
#define AR_ACCESSED 0x1u
#define AR_S 0x10u
#define AR_DPL_SHIFT 5
#define AR_DPL 0x60u
#define AR_P 0x80u
#define AR_AVL 0x1000u
#define AR_L 0x2000u
#define AR_DB 0x4000u
#define AR_G 0x8000u
#define AR_UNUSABLE 0x10000u /* a null selector was loaded: any access is #GP (#SS for SS) */

/* IA32_APIC_BASE */
#define APIC_BASE_BSP 0x100u
#define APIC_BASE_ENABLE 0x800u
#define APIC_BASE_RESET (0xFEE00000u | APIC_BASE_ENABLE | APIC_BASE_BSP)

#endif
