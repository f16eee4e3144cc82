/* The border between C and translated code, and the inline lookup of indirect branches. base/abi.h says what is where.
 *
 * A stub is jumped to by emitted code (or put into a signal frame by the handler); it saves the guest's state in the vCPU, runs runtime_leave on
 * the C stack, and goes on at the host PC that this returns, or ends entry_run if that is 0. A callout asks quick_callout first, which touches
 * no XMM register. */
#include "base/abi.h"

	.text

	/* void entry_run(struct vcpu *v, host_pc_t pc) */
	.globl entry_run
	.type entry_run, @function
entry_run:
	push %rbx
	push %rbp
	push %r13
	push %r12
	push %r14
	push %r15
	sub $8, %rsp
	mov %rdi, %r12
	mov %rsp, VCPU_C_RSP(%r12)
	mov %rsi, %rax
	jmp resume

	.macro stub name, kind
	.globl \name
\name:
	movb $\kind, VCPU_EXIT_KIND(%r12)
	jmp leave
	.endm

	stub entry_lookup_slow, EXIT_LOOKUP
	stub entry_site, EXIT_SITE
	stub entry_host_fault, EXIT_HOST_FAULT
	stub entry_kick, EXIT_KICK

	/* These are called, to tell by whom. Where guest ECX is parked in R10, it is put back. */
	.globl entry_chain
entry_chain:
	pop %r11
	movb $EXIT_CHAIN, VCPU_EXIT_KIND(%r12)
	jmp leave

	.globl entry_soft
entry_soft:
	pop %r11
	mov %r10, %rcx
	movb $EXIT_SOFT, VCPU_EXIT_KIND(%r12)
	jmp leave

	.globl entry_lookup_slow_parked
entry_lookup_slow_parked:
	mov %r10, %rcx
	jmp entry_lookup_slow

	/* Everything but XMM0-7. */
	.macro save_general
	mov %eax, VCPU_GPR + 0(%r12)
	mov %ecx, VCPU_GPR + 4(%r12)
	mov %edx, VCPU_GPR + 8(%r12)
	mov %ebx, VCPU_GPR + 12(%r12)
	mov %r13d, VCPU_GPR + 16(%r12)
	mov %ebp, VCPU_GPR + 20(%r12)
	mov %esi, VCPU_GPR + 24(%r12)
	mov %edi, VCPU_GPR + 28(%r12)
	lahf
	seto %al
	mov %r8, VCPU_SCRATCH + 0(%r12)
	mov %r9, VCPU_SCRATCH + 8(%r12)
	mov %r10, VCPU_SCRATCH + 16(%r12)
	mov %r11, VCPU_SCRATCH + 24(%r12)
	movzbl %ah, %ecx
	movzbl %al, %edx
	and $(0x80 | 0x40 | 0x10 | 0x04 | 0x01), %ecx
	shl $11, %edx
	or %edx, %ecx
	mov %ecx, VCPU_FLAGS(%r12)
	mov %rsp, VCPU_RETURN_RSP(%r12)
	mov VCPU_C_RSP(%r12), %rsp
	mov %r12, %rdi
	.endm

	.globl entry_callout
	.p2align 4
entry_callout:
	save_general
	mov %r9d, %esi
	mov %r8d, %edx
	mov %r10d, %ecx
	call quick_callout
	test %rax, %rax
	jz not_quick
	mov %rax, VCPU_RESUME_PC(%r12)
	jmp entry_restore_live
not_quick:
	movb $EXIT_CALLOUT, VCPU_EXIT_KIND(%r12)
	jmp leave_live

leave:
	save_general
leave_live:
	movaps %xmm0, VCPU_XMM + 0(%r12)
	movaps %xmm1, VCPU_XMM + 16(%r12)
	movaps %xmm2, VCPU_XMM + 32(%r12)
	movaps %xmm3, VCPU_XMM + 48(%r12)
	movaps %xmm4, VCPU_XMM + 64(%r12)
	movaps %xmm5, VCPU_XMM + 80(%r12)
	movaps %xmm6, VCPU_XMM + 96(%r12)
	movaps %xmm7, VCPU_XMM + 112(%r12)
leave_saved:
	mov VCPU_C_RSP(%r12), %rsp
	mov %r12, %rdi
	call runtime_leave
resume:
	test %rax, %rax
	jz done
	mov %rax, VCPU_RESUME_PC(%r12)

	/* From here to entry_restore_end everything is still in the vCPU: the kick's handler starts over at entry_interrupted, or, where XMM0-7
	 * are the guest's, at entry_interrupted_live. The test catches a kick that came after C looked and before this line. */
	.globl entry_restore_begin
entry_restore_begin:
	movaps VCPU_XMM + 0(%r12), %xmm0
	movaps VCPU_XMM + 16(%r12), %xmm1
	movaps VCPU_XMM + 32(%r12), %xmm2
	movaps VCPU_XMM + 48(%r12), %xmm3
	movaps VCPU_XMM + 64(%r12), %xmm4
	movaps VCPU_XMM + 80(%r12), %xmm5
	movaps VCPU_XMM + 96(%r12), %xmm6
	movaps VCPU_XMM + 112(%r12), %xmm7
	.globl entry_restore_live
entry_restore_live:
	cmpl $0, VCPU_KICK(%r12)
	jne entry_interrupted_live
	mov VCPU_TABLES(%r12), %r14
	mov VCPU_WINDOW(%r12), %r15
	mov VCPU_FLAGS(%r12), %eax
	mov %eax, %ecx
	shr $11, %ecx
	and $1, %ecx
	mov %al, %ah
	mov %cl, %al
	add $127, %al
	sahf
	mov VCPU_RETURN_RSP(%r12), %rsp
	mov VCPU_SCRATCH + 0(%r12), %r8
	mov VCPU_SCRATCH + 8(%r12), %r9
	mov VCPU_SCRATCH + 16(%r12), %r10
	mov VCPU_SCRATCH + 24(%r12), %r11
	mov VCPU_GPR + 4(%r12), %ecx
	mov VCPU_GPR + 8(%r12), %edx
	mov VCPU_GPR + 12(%r12), %ebx
	mov VCPU_GPR + 16(%r12), %r13d
	lea (%r15, %r13), %r13
	mov VCPU_GPR + 20(%r12), %ebp
	mov VCPU_GPR + 24(%r12), %esi
	mov VCPU_GPR + 28(%r12), %edi
	mov VCPU_GPR + 0(%r12), %eax
	jmp *VCPU_RESUME_PC(%r12)
	.globl entry_restore_end
entry_restore_end:

	.globl entry_interrupted
entry_interrupted:
	movb $EXIT_ENTER, VCPU_EXIT_KIND(%r12)
	jmp leave_saved

	.globl entry_interrupted_live
entry_interrupted_live:
	movb $EXIT_ENTER, VCPU_EXIT_KIND(%r12)
	jmp leave_live

done:
	add $8, %rsp
	pop %r15
	pop %r14
	pop %r12
	pop %r13
	pop %rbp
	pop %rbx
	ret

	/* The inline lookup, as emitted code has it at each indirect branch: R8D = EIP. At its other beginning guest ECX is parked in R10. */
	.p2align 5
	.globl entry_lookup_parked
entry_lookup_parked:
	mov %r10, %rcx
	.globl entry_lookup
entry_lookup:
	rorx $ABI_JUMP_SHIFT, %r8d, %r9d
	lea (%r9, %r9), %r9d
	movzwl %r9w, %r9d
	mov VCPU_JUMPS(%r12), %r11
	jmp *(%r11, %r9, 4)

	/* The bottom of a return stack: the prediction ran out. Stay on it. */
	.globl entry_underflow
entry_underflow:
	lea -8(%rsp), %rsp
	mov %r8d, VCPU_UNDERFLOW(%r12)
	jmp entry_lookup

	/* The target's slot is shared: R8D = EIP. The same targets are told apart here by a table that is searched. Flag-free: guest ECX is parked
	 * in R10 behind the first instruction. */
	.set JUMP_SETS, (ABI_JUMP_SLOTS + ABI_JUMP_SITES) * 8
	.p2align 5
	.globl entry_lookup_shared
entry_lookup_shared:
	mov %rcx, %r10
	rorx $ABI_JUMP_SET_ROTATE, %r8d, %r9d
	mov VCPU_JUMPS(%r12), %r11
	lea (%r8, %r9), %r9d
	mov $(32 - ABI_JUMP_SET_BITS), %ecx
	shlx %ecx, %r9d, %r9d
	shrx %ecx, %r9d, %r9d
	lea (, %r9, 4), %r9d
	mov JUMP_SETS + 0(%r11, %r9, 8), %rcx
	lea 1(%rcx, %r8), %rcx
	jrcxz 1f
	mov JUMP_SETS + 16(%r11, %r9, 8), %rcx
	lea 1(%rcx, %r8), %rcx
	jrcxz 2f
	jmp entry_lookup_slow_parked
1:	mov %r10, %rcx
	jmp *JUMP_SETS + 8(%r11, %r9, 8)
2:	mov %r10, %rcx
	jmp *JUMP_SETS + 24(%r11, %r9, 8)
	.globl entry_end
entry_end:

	.section .note.GNU-stack, "", @progbits
