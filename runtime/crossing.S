/* SYSENTER and SYSEXIT again as C did them last, from the same mode and EFLAGS (struct crossing): no C, no dispatcher. Emitted code jumps here as it does
 * to entry_callout, where this goes if anything is as it was not; what then cannot be looked up leaves with EXIT_LOOKUP.
 *
 * Flag-free. Guest ECX is parked in R10 to the end. A kick on the way is seen by the test at the end; one behind that finds the PC behind
 * entry_crossing_parked, an indirect exit like any other. */
#include "base/abi.h"

	.text

	/* \negated + \value (32 bits) is zero, or it is C's. */
	.macro must_match negated, value
	mov \negated, %r8d
	mov \value, %ecx
	lea (%rcx, %r8), %ecx
	jecxz 1f
	jmp not_known
1:
	.endm

	.macro copy_segment from, to
	mov \from(%r13), %r8
	mov %r8, \to(%r13)
	mov \from + 8(%r13), %r8
	mov %r8, \to + 8(%r13)
	.endm

	.macro check crossing
	mov %rcx, %r10
	must_match \crossing + CROSSING_NEG_MODE(%r13), VCPU_MODE(%r13)
	must_match \crossing + CROSSING_NEG_EFLAGS(%r13), VCPU_EFLAGS(%r13)
	.endm

	/* Mode, CS, SS, and the view, which stays in R11. From here on it is done: R9 and R11, which a callout needs, are free. */
	.macro cross crossing, cpl
	copy_segment \crossing + CROSSING_CS, VCPU_CS
	copy_segment \crossing + CROSSING_SS, VCPU_SS
	mov \crossing + CROSSING_MODE(%r13), %r8d
	mov %r8d, VCPU_MODE(%r13)
	movb $\cpl, VCPU_CPL(%r13)
	mov \crossing + CROSSING_FROM_VIEW(%r13), %r8
	mov %rsp, VIEW_RETURN_RSP(%r8)
	mov VCPU_RUNTIME(%r13), %rcx
	mov \crossing + CROSSING_VIEW(%r13), %r11
	mov %r11, RUNTIME_VIEW(%rcx)
	mov VIEW_WINDOW(%r11), %r15
	mov %r15, RUNTIME_WINDOW(%rcx)
	mov %r15, VCPU_WINDOW(%r13)
	mov VIEW_TABLES(%r11), %r14
	lea ABI_TABLES_BIAS(%r14), %r14
	mov %r14, VCPU_TABLES(%r13)
	mov \crossing + CROSSING_JUMPS(%r13), %r8
	mov %r8, VCPU_JUMPS(%r13)
	.endm

not_known:
	mov %r10, %rcx
	jmp entry_callout

	.globl entry_sysenter
	.p2align 5
entry_sysenter:
	check VCPU_SYSENTER
	cross VCPU_SYSENTER, 0
	movb $0, VCPU_IF_FLAG(%r13)
	/* No prediction survives from the last time: the kernel's stack begins anew. */
	mov VCPU_SYSENTER + CROSSING_CONTEXT(%r13), %ecx
	mov %ecx, VIEW_RETURN_CONTEXT(%r11)
	mov VCPU_SYSENTER + CROSSING_EMPTY_RSP(%r13), %rsp
	mov VCPU_SYSENTER_ESP(%r13), %r12d
	mov VCPU_SYSENTER_EIP(%r13), %r8d
leave_by_lookup:
	lea (%r15, %r12), %r12
	mov VCPU_KICK(%r13), %ecx
	.globl entry_crossing_parked
entry_crossing_parked:
	jecxz 1f
	mov %r10, %rcx
	jmp entry_lookup_slow
1:	mov %r10, %rcx
	jmp entry_lookup
	.globl entry_crossing_end
entry_crossing_end:

	.globl entry_sysexit
	.p2align 5
entry_sysexit:
	check VCPU_SYSEXIT
	mov VCPU_SYSEXIT + CROSSING_VIEW(%r13), %r8
	must_match VIEW_RETURN_CONTEXT(%r8), VCPU_SYSEXIT + CROSSING_NEG_CONTEXT(%r13)
	cross VCPU_SYSEXIT, 3
	mov VIEW_RETURN_RSP(%r11), %rsp
	mov %r10d, %r12d
	mov %edx, %r8d
	jmp leave_by_lookup

	.section .note.GNU-stack, "", @progbits
