/* The virtual CPU: all guest-visible processor state, and the words that emitted code and entry.S share with C. A vCPU is passed
 * along, never global. While C runs, every guest register is in this struct; while translated code runs, general registers, the
 * status flags, x87 and XMM registers are in the host's (see base/abi.h). */
#ifndef BASE_VCPU_H
#define BASE_VCPU_H

#include "base/stats.h"
#include "base/types.h"
#include "base/x86.h"

struct segment {
	uint16_t selector;
	uint16_t pad;
	uint32_t base;
	uint32_t limit; /* in bytes, granularity applied */
	uint32_t ar;    /* AR_* of base/x86.h */
};

struct table_register {
	uint32_t base;
	uint32_t limit;
};

/* A guest exception on its way to the guest: data, never an error. */
struct guest_fault {
	uint8_t vector;
	bool has_error;
	uint32_t error;
	uint32_t cr2; /* for #PF */
};

/* The inline lookup of indirect branches: a table of host PCs, one for each context and view, indexed by some bits of the target's EIP. What
 * is jumped to looks at the target, in R8D, again: a block's pad, or the way to C where the slot is empty, or entry_lookup_shared where targets
 * take the slot from each other again and again. */
#define JUMP_SHIFT 3 /* functions begin at multiples of 16 */
#define JUMP_SLOTS 32768u
/* Behind these are slots that a branch knows before its target (translator/sites.c): of a table's entries, and of constant places. */
#define JUMP_SITES 16384u
#define JUMP_CONSTANTS 4096u /* the first of these: of constant places; the others are of tables, each with so many */
#define JUMP_SITE_SPAN 256u
static inline uint32_t jump_index(uint32_t eip) { return (eip >> JUMP_SHIFT) % JUMP_SLOTS; }

/* vcpu.shadow_interrupts. MOV SS and POP SS hold off debug exceptions too (vol. 3, 6.8.3). */
#define SHADOW_STI 1
#define SHADOW_SS 2

/* Where the last x87 instruction was and what it worked on: offsets, and the bases they were for (vol. 1, 8.1.8). */
struct x87_pointers {
	uint32_t ip, ip_base, dp, dp_base;
	uint16_t opcode;
};

/* What SYSENTER or SYSEXIT does from one mode and EFLAGS, as C did it last: crossing.S does the same again. */
struct crossing {
	uint32_t neg_mode;     /* minus the mode that it begins in; 0: nothing is known */
	uint32_t neg_eflags;
	uint32_t mode;         /* and the one that it leads to */
	uint32_t context, neg_context; /* of that one's landing pads: see runtime/context.c */
	uint32_t pad;
	uint64_t from_view, view; /* struct shadow_view * */
	host_pc_t *jumps;      /* the table of its inline lookup */
	uint64_t empty_rsp;    /* of the view's return stack without predictions */
	struct segment cs, ss;
};

/* What MOV to a segment register at CPL 0 does with one selector in one mode, as C did it last, while its descriptor is as it was. */
struct segment_load {
	uint32_t neg_mode;     /* as a crossing's */
	uint32_t neg_selector;
	uint32_t mode, changed; /* the mode that it leads to, and whether it is another: then the rest of these, as a crossing's, matter too */
	uint32_t context;
	uint32_t gva;          /* of the descriptor, and the entry of the supervisor's read table that says where that is; a null selector has none */
	const uint64_t *addend;
	uint64_t neg_raw;      /* minus the descriptor */
	uint64_t view;
	host_pc_t *jumps;
	uint64_t empty_rsp;
	struct segment seg;
};

struct vcpu {
	/* First 128 bytes: what emitted code touches most, in reach of a one-byte displacement. */
	uint32_t gpr[8];
	uint32_t eip;         /* offset in CS; of the current instruction while C handles it */
	uint32_t flags;       /* EFL_ARITH bits only, valid while C runs */
	uint32_t eflags;      /* every other flag but IF and DF: TF, IOPL, NT, RF, VM, AC, VIF, VIP, ID */
	uint8_t if_flag;      /* virtual IF, 0 or 1: apart, so that cli and sti are one flag-free store */
	uint8_t df_flag;      /* virtual DF, 0 or 1 */
	uint8_t exit_kind;    /* enum exit_kind: why translated code was left */
	uint8_t pad0;
	uint32_t intr;        /* the interrupt controller's output, 0 or 1; written by any thread (relaxed atomics) */
	uint32_t kick;        /* somebody wants the dispatcher's attention; written by any thread and by signal handlers */
	uint32_t spill;       /* emitted code's: a value kept over the second memory access of an instruction */
	uint64_t completion_hva; /* where a thunk's write goes: see MODE_THUNK */
	uint64_t scratch[4];  /* host R8-R11 */
	host_pc_t *jumps;     /* the inline lookup's table, of the current context and view */
	uint64_t return_rsp;  /* return-prediction stack pointer while C runs */
	uint64_t tables;      /* R14: current view's tables, + ABI_TABLES_BIAS */
	uint64_t resume_pc;   /* host PC to go on at */

	uint64_t c_rsp;       /* C stack pointer while translated code runs */
	uint32_t pad1;
	uint32_t underflow;   /* where the return that last found no prediction went */
	uint8_t *window;      /* R15 */
	struct segment seg[SEG_COUNT];
	struct segment ldtr, tr;
	struct table_register gdtr, idtr;
	uint32_t cr0, cr2, cr3, cr4;
	uint32_t dr[8];
	uint32_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t apic_base, pat, misc_enable; /* plain MSR storage */
	uint64_t features;    /* FEATURE_BITs of base/features.h: fixed from the start */
	uint32_t mode;        /* MODE_* of base/abi.h, kept by cpu_update_mode() */
	uint8_t cpl;
	uint8_t shadow_interrupts; /* SHADOW_*: the next instruction runs before an interrupt is taken */
	bool halted;
	uint32_t debug_hits;  /* #DB due behind the running instruction: bits of DR6 (B0-B3, BT) */
	struct guest_fault fault; /* set by whoever answers CALLOUT_FAULT */

	/* What a host fault was, written by the signal handler for the exit that it arranges. */
	struct {
		uint64_t addr;
		uint32_t trapno;
		uint32_t error;
	} host_fault;

	_Alignas(64) uint8_t xmm[8][16]; /* guest XMM0-7 while C runs; x87, MMX and MXCSR stay live in the host's registers */
	_Alignas(64) uint8_t bounce[512], read_bounce[512]; /* where completed accesses work: see runtime/faults.c */

	bool quick;           /* a callout runs that may touch no XMM register: memory that is not in the tables fails it (runtime/quick.c) */
	bool nmi_blocked;     /* from the delivery of an NMI to the next IRET */
	uint32_t nmi;         /* one waits; written by any thread */

	uint64_t pdpte[4];    /* with PAE paging: as they were when CR3 was loaded */
	uint32_t efer;
	uint64_t tsc_offset;  /* the guest's time stamp is the host's plus this, and IA32_TSC_ADJUST; not zero: RDTSC is a callout */
	struct x87_pointers x87; /* as far as the host's registers cannot tell: see callouts_fpu.c */
	uint8_t x87_hidden;      /* flags of exceptions that the status word lacks while an instruction runs that ignores them */

	struct crossing sysenter, sysexit;
	struct stats *stats;
	void *runtime; /* struct runtime, opaque here */
	struct segment_load loads[SEG_COUNT][2]; /* of the selector that was loaded last, and of 0 */
};

/* Behind the vCPU's pages lie one that can only be read and, from the byte behind VCPU_TRAP on, 4 GiB that nothing can touch: a load from
 * VCPU_TRAP plus a 32-bit difference faults unless that is zero. So does one of four bytes from VCPU_TRAP_WORD, GS base where the window is at 0. */
#define VCPU_MEMORY ((sizeof(struct vcpu) + PAGE_MASK) & ~(size_t)PAGE_MASK)
#define VCPU_TRAP (VCPU_MEMORY + PAGE_SIZE - 1)
#define VCPU_TRAP_WORD (VCPU_TRAP - 3)
#define VCPU_TRAP_SIZE (1ULL << 32)
#define VCPU_RESERVATION (VCPU_TRAP + 1 + VCPU_TRAP_SIZE)

/* Another user view. Loads of segments are known for CPL 0 alone, whose view stays. */
static inline void vcpu_forget_user_view(struct vcpu *v)
{
	v->sysenter.neg_mode = v->sysexit.neg_mode = 0;
}

/* What crossings and known loads of segments rest on is about to change: control registers, MSRs, descriptor tables, views, translations. */
static inline void vcpu_forget_crossings(struct vcpu *v)
{
	vcpu_forget_user_view(v);
	for (unsigned i = 0; i < SEG_COUNT; i++)
		v->loads[i][0].neg_mode = v->loads[i][1].neg_mode = 0;
}

/* The guest's EFLAGS as PUSHF would show it at IOPL 3; valid while C runs. */
static inline uint32_t vcpu_eflags(const struct vcpu *v)
{
	return v->flags | v->eflags | EFL_FIXED | (v->if_flag ? EFL_IF : 0) | (v->df_flag ? EFL_DF : 0);
}

/* Set the bits of `mask` in EFLAGS from `value`. The caller calls cpu_update_mode() if TF, IOPL, VM or AC may change. */
static inline void vcpu_set_eflags(struct vcpu *v, uint32_t value, uint32_t mask)
{
	uint32_t now = (vcpu_eflags(v) & ~mask) | (value & mask);
	v->flags = now & EFL_ARITH;
	v->if_flag = (now & EFL_IF) != 0;
	v->df_flag = (now & EFL_DF) != 0;
	v->eflags = now & ~(EFL_ARITH | EFL_IF | EFL_DF | EFL_FIXED);
}

#endif
