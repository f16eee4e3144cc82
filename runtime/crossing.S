/* SYSENTER and SYSEXIT again as C did them last, from the same mode and EFLAGS (struct crossing), and loads of segment registers with the same
 * selector and descriptor (struct segment_load): no C, no dispatcher. Emitted code jumps here as it does to entry_callout, where this goes if
 * anything is as it was not; what then cannot be looked up leaves with EXIT_LOOKUP.
 *
 * Flag-free. Guest ECX is parked in R10 to the end. A kick on the way is seen by the test at the end; one behind that finds the PC behind
 * entry_crossing_parked, an indirect exit like any other. */
#include "base/abi.h"

	.text

	/* \negated + \value (32 bits) is zero, or it is C's. */
	.macro must_match negated, value, other=not_known
	mov \negated, %r8d
	mov \value, %ecx
	lea (%rcx, %r8), %ecx
	jecxz 1f
	jmp \other
1:
	.endm

	.macro copy_segment from, to
	mov \from(%r12), %r8
	mov %r8, \to(%r12)
	mov \from + 8(%r12), %r8
	mov %r8, \to + 8(%r12)
	.endm

	.macro check crossing
	mov %rcx, %r10
	must_match \crossing + CROSSING_NEG_MODE(%r12), VCPU_MODE(%r12)
	must_match \crossing + CROSSING_NEG_EFLAGS(%r12), VCPU_EFLAGS(%r12)
	.endm

	/* Mode, CS, SS, and the view, which stays in R11. From here on it is done: R9 and R11, which a callout needs, are free. */
	.macro cross crossing, cpl
	copy_segment \crossing + CROSSING_CS, VCPU_CS
	copy_segment \crossing + CROSSING_SS, VCPU_SS
	mov \crossing + CROSSING_MODE(%r12), %r8d
	mov %r8d, VCPU_MODE(%r12)
	movb $\cpl, VCPU_CPL(%r12)
	mov \crossing + CROSSING_FROM_VIEW(%r12), %r8
	mov %rsp, VIEW_RETURN_RSP(%r8)
	mov VCPU_RUNTIME(%r12), %rcx
	mov \crossing + CROSSING_VIEW(%r12), %r11
	mov %r11, RUNTIME_VIEW(%rcx)
	mov VIEW_WINDOW(%r11), %r15
	mov %r15, RUNTIME_WINDOW(%rcx)
	mov %r15, VCPU_WINDOW(%r12)
	mov VIEW_TABLES(%r11), %r14
	lea ABI_TABLES_BIAS(%r14), %r14
	mov %r14, VCPU_TABLES(%r12)
	mov \crossing + CROSSING_JUMPS(%r12), %r8
	mov %r8, VCPU_JUMPS(%r12)
	.endm

not_known:
	mov %r10, %rcx
	jmp entry_callout

	.macro go_unless_kicked to
	mov VCPU_KICK(%r12), %ecx
	jecxz 1f
	mov %r10, %rcx
	jmp entry_lookup_slow
1:	mov %r10, %rcx
	jmp \to
	.endm

	.globl entry_sysenter
	.p2align 5
entry_sysenter:
	check VCPU_SYSENTER
	cross VCPU_SYSENTER, 0
	movb $0, VCPU_IF_FLAG(%r12)
	/* No prediction survives from the last time: the kernel's stack begins anew. */
	mov VCPU_SYSENTER + CROSSING_CONTEXT(%r12), %ecx
	mov %ecx, VIEW_RETURN_CONTEXT(%r11)
	mov VCPU_SYSENTER + CROSSING_EMPTY_RSP(%r12), %rsp
	mov VCPU_SYSENTER_ESP(%r12), %r13d
	mov VCPU_SYSENTER_EIP(%r12), %r8d
leave_by_lookup:
	lea (%r15, %r13), %r13
	/* R8D = EIP, guest ECX in R10. */
	.globl entry_crossing_parked
entry_crossing_parked:
	go_unless_kicked entry_lookup
	/* The same where R11 is the place in the block that stands for this EIP. */
resume_parked:
	go_unless_kicked *%r11
	.globl entry_crossing_end
entry_crossing_end:

	.globl entry_sysexit
	.p2align 5
entry_sysexit:
	check VCPU_SYSEXIT
	mov VCPU_SYSEXIT + CROSSING_VIEW(%r12), %r8
	must_match VIEW_RETURN_CONTEXT(%r8), VCPU_SYSEXIT + CROSSING_NEG_CONTEXT(%r12)
	cross VCPU_SYSEXIT, 3
	mov VIEW_RETURN_RSP(%r11), %rsp
	mov %r10d, %r13d
	mov %edx, %r8d
	jmp leave_by_lookup

#define LOAD(seg, null) (VCPU_LOADS + (2 * (seg) + (null)) * LOAD_SIZE)

	/* R8D = the selector, R9D = the callout's word, R11 = where to go on. */
	.macro load_segment name, seg
	.globl \name
	.p2align 5
\name:
	.set known, LOAD(\seg, 0)
	.set null, LOAD(\seg, 1)
	mov %r8, VCPU_SCRATCH + 0(%r12)
	mov %r9, VCPU_SCRATCH + 8(%r12)
	mov %rcx, %r10
	mov %r8d, %ecx
	jecxz 3f
	mov known + LOAD_NEG_SELECTOR(%r12), %r9d
	lea (%r8, %r9), %ecx
	jecxz 1f
	jmp load_not_known
1:	must_match known + LOAD_NEG_MODE(%r12), VCPU_MODE(%r12), load_not_known
	mov known + LOAD_ADDEND(%r12), %rcx
	mov (%rcx), %rcx
	mov known + LOAD_GVA(%r12), %r8d
	jrcxz 2f
	mov (%rcx, %r8), %r9
	mov known + LOAD_NEG_RAW(%r12), %rcx
	lea (%rcx, %r9), %rcx
	jrcxz 4f
2:	jmp load_not_known
3:	must_match null + LOAD_NEG_MODE(%r12), VCPU_MODE(%r12), load_not_known
	lea null(%r12), %r9
	copy_segment null + LOAD_SEG, VCPU_SEG+16*\seg
	jmp load_done
4:	lea known(%r12), %r9
	copy_segment known + LOAD_SEG, VCPU_SEG+16*\seg
	jmp load_done
	.endm

	/* R9 = what was known. EIP was the instruction's, and its length is in the word. */
load_done:
	mov VCPU_SCRATCH + 8(%r12), %ecx
	pextl load_length(%rip), %ecx, %ecx
	mov VCPU_EIP(%r12), %r8d
	lea (%r8, %rcx), %r8d
	mov LOAD_CHANGED(%r9), %ecx
	jecxz resume_parked_near
	mov LOAD_MODE(%r9), %ecx
	mov %ecx, VCPU_MODE(%r12)
	mov LOAD_JUMPS(%r9), %rcx
	mov %rcx, VCPU_JUMPS(%r12)
	mov LOAD_EMPTY_RSP(%r9), %rsp
	mov LOAD_CONTEXT(%r9), %ecx
	mov LOAD_VIEW(%r9), %r9
	mov %ecx, VIEW_RETURN_CONTEXT(%r9)
	jmp entry_crossing_parked
resume_parked_near:
	jmp resume_parked

load_not_known:
	mov VCPU_SCRATCH + 0(%r12), %r8
	mov VCPU_SCRATCH + 8(%r12), %r9
	jmp not_known

	load_segment entry_load_es, 0
	load_segment entry_load_ds, 3
	load_segment entry_load_fs, 4
	load_segment entry_load_gs, 5

	.p2align 2
load_length:
	.long 0xF00 /* CALLOUT_LEN */

	.section .note.GNU-stack, "", @progbits
