/* The contract between emitted code, entry.S and C: which host register holds what, where the tables of a view lie, what a
 * block's mode says. Included by assembly too, so only #defines outside the guard below.
 *
 *   RAX RCX RDX RBX RBP RSI RDI   guest EAX ECX EDX EBX EBP ESI EDI, upper halves zero but while one is parked in R10
 *   R12                           struct vcpu
 *   R13                           guest ESP, as a host address in the window: its low half is ESP. A base without SIB byte
 *   R14                           tables of the current view, + ABI_TABLES_BIAS
 *   R8-R11                        scratch within one guest instruction; at an indirect exit R8D is the target's EIP
 *   R15                           the view's window, as GS base: an address of one register needs no segment (see WINDOW_GUARD). 0 for the window
 *                                 at 0, where a guest address is the host's, and no segment is used (MODE_LOW). Its low 32
 *                                 bits are zero: a host address in the window, cut to 32 bits, is the guest's
 *   RSP                           return-prediction stack of the view: only a prediction, may be discarded at any moment
 *   GS base                       at CPL 3 the view's window; where that is at 0, vcpu + VCPU_TRAP_WORD. FS base stays the host's
 *   RFLAGS                        guest status flags; DF clear, AC clear
 */
#ifndef BASE_ABI_H
#define BASE_ABI_H

/* R14 = base of the tables + 12: so its low six bits are 12, and `shrx r, ea, r14` is a flag-free shift by the page size. */
#define ABI_TABLES_BIAS 12
/* A view's tables, flat arrays indexed by gva >> 12. Zero means miss in all of them. */
#define ABI_READ_TABLE 0x0000000  /* uint64_t [1 << 20]: addend, hva = gva + addend */
#define ABI_WRITE_TABLE 0x0800000 /* uint64_t [1 << 20] */
#define ABI_EXEC_TABLE 0x1000000  /* uint32_t [1 << 20]: gfn + 1 */
#define ABI_TABLES_SIZE 0x1400000

/* Numbers of the inline lookup (base/vcpu.h) that assembly uses. */
#define ABI_JUMP_SLOTS 32768
#define ABI_JUMP_SITES 16384
#define ABI_JUMP_SHIFT 3
#define ABI_JUMP_SET_BITS 10
#define ABI_JUMP_SET_ROTATE 17

/* Why translated code was left, and for which C function: vcpu.exit_kind. */
#define EXIT_CHAIN 0   /* a direct branch not yet linked; R11 = host PC behind the slot's exit stub, a call */
#define EXIT_LOOKUP 1  /* an indirect branch that the inline lookup missed; R8D = target EIP */
#define EXIT_CALLOUT 2 /* a sensitive instruction; R8, R9, R10 as base/callout.h says, R11 = host PC to go on at */
#define EXIT_SOFT 3    /* a soft access that missed; R8D = linear address, R11 = host PC behind the call that says so, in the access's lookup */
#define EXIT_STOP 4    /* entry.S's own: unused by emitted code */
#define EXIT_HOST_FAULT 5 /* the signal handler brought us here: vcpu.host_fault, resume_pc = faulting host PC */
#define EXIT_KICK 6    /* ditto, for a kick that hit translated code: resume_pc = interrupted host PC */
#define EXIT_ENTER 7   /* a kick hit entry.S on its way in: guest state is still in the vCPU, resume_pc is where it was going */
#define EXIT_SITE 8    /* an indirect branch was led to what is not its target, or nowhere: R8D = target EIP, R9 and R11 say by which slot (jumps.c) */

/* Offsets in struct vcpu that entry.S uses; asserted in runtime/entry.c. */
#define VCPU_GPR 0
#define VCPU_FLAGS 36
#define VCPU_EXIT_KIND 46
#define VCPU_KICK 52
#define VCPU_SCRATCH 72
#define VCPU_JUMPS 104
#define VCPU_RETURN_RSP 112
#define VCPU_TABLES 120
#define VCPU_RESUME_PC 128
#define VCPU_C_RSP 136
#define VCPU_UNDERFLOW 148
#define VCPU_WINDOW 152
#define VCPU_XMM 448
/* Ditto, and of what they point to, that crossing.S uses. */
#define VCPU_CS 176
#define VCPU_SS 192
#define VCPU_EFLAGS 40
#define VCPU_IF_FLAG 44
#define VCPU_SYSENTER_ESP 356
#define VCPU_SYSENTER_EIP 360
#define VCPU_MODE 400
#define VCPU_CPL 404
#define VCPU_SYSENTER 1680
#define VCPU_SYSEXIT 1768
#define VCPU_RUNTIME 1864
#define VCPU_EIP 32
#define VCPU_SEG 160
#define VCPU_LOADS 1872
#define CROSSING_NEG_MODE 0
#define CROSSING_NEG_EFLAGS 4
#define CROSSING_MODE 8
#define CROSSING_CONTEXT 12
#define CROSSING_NEG_CONTEXT 16
#define CROSSING_FROM_VIEW 24
#define CROSSING_VIEW 32
#define CROSSING_JUMPS 40
#define CROSSING_EMPTY_RSP 48
#define CROSSING_CS 56
#define CROSSING_SS 72
#define LOAD_NEG_MODE 0
#define LOAD_NEG_SELECTOR 4
#define LOAD_MODE 8
#define LOAD_CHANGED 12
#define LOAD_CONTEXT 16
#define LOAD_GVA 20
#define LOAD_ADDEND 24
#define LOAD_NEG_RAW 32
#define LOAD_VIEW 40
#define LOAD_JUMPS 48
#define LOAD_EMPTY_RSP 56
#define LOAD_SEG 64
#define LOAD_SIZE 80
#define VIEW_TABLES 0
#define VIEW_WINDOW 8
#define VIEW_RETURN_RSP 32
#define VIEW_RETURN_CONTEXT 40
#define RUNTIME_VIEW 8
#define RUNTIME_WINDOW 16

#ifndef __ASSEMBLER__
#include "base/vcpu.h"

/* vcpu.mode, and a block's: everything that the meaning of a block depends on beside its bytes. */
#define MODE_CPL 0x3u
#define MODE_SOFT 0x4u     /* memory accesses in soft form */
#define MODE_CS32 0x8u     /* CS.D */
#define MODE_SS32 0x10u    /* SS.B */
#define MODE_PE 0x20u
#define MODE_VM 0x40u
#define MODE_IOPL_OK 0x80u /* CPL <= IOPL */
#define MODE_TF 0x100u
#define MODE_AC 0x200u     /* EFLAGS.AC, CR0.AM and CPL 3: misaligned accesses raise #AC */
#define MODE_FPU_NM 0x400u /* CR0.EM or TS: x87 and MMX raise #NM */
#define MODE_FPU_WAIT_NM 0x800u /* CR0.TS and MP: WAIT raises #NM */
#define MODE_SSE_UD 0x1000u /* CR0.EM or not CR4.OSFXSR: SSE raises #UD */
#define MODE_MMX_UD 0x2000u /* CR0.EM: MMX raises #UD */
#define MODE_TSD 0x4000u   /* RDTSC is a callout: CR4.TSD and CPL > 0 (#GP), or the guest has set the counter */
#define MODE_DR7 0x8000u   /* a breakpoint register is enabled */
#define MODE_SEG_SHIFT 16  /* two bits a segment, in enum seg's order */
#define MODE_THUNK 0x10000000u /* one instruction whose write goes to vcpu.completion_hva without a lookup */
#define MODE_TRAP_PADS 0x40000000u /* what returns and indirect branches land on faults where it is not meant (VCPU_TRAP), instead of comparing and branching */
#define MODE_LOW 0x80000000u /* CPL 3, direct: the window is at 0, so that a guest address is the host's (R15 = 0) */
#define MODE_ONE 0x20000000u   /* one instruction, then back to the dispatcher (TF, interrupt shadow) */
/* How an access through a segment is checked: not at all; not, but a base is added; by C; inline against the limit (then any base too). */
enum { MODE_SEG_FLAT, MODE_SEG_BASE, MODE_SEG_GENERAL, MODE_SEG_LIMIT };
#define MODE_SEG(mode, seg) (((mode) >> (MODE_SEG_SHIFT + 2 * (seg))) & 3u)
/* Protected mode, where segments have types; neither real mode nor virtual-8086. */
#define MODE_IS_PROTECTED(mode) (((mode) & (MODE_PE | MODE_VM)) == MODE_PE)

#endif
#endif
