/* Entry from the boot loader, the trap stubs, and run: enter any register state at CPL 0 or 3, come back at its first trap. */
#define STATE_EIP 32
#define STATE_EFLAGS 36
#define STATE_CS 40
#define STATE_SS 44
#define STATE_DS 48
#define STATE_ES 52
#define STATE_FS 56
#define STATE_GS 60

	.section .multiboot, "a"
	.balign 4
	.long 0x1BADB002, 0x00000003, -(0x1BADB002 + 0x00000003)

	.text
	.globl start
start:
	cli
	cld
	movl $stack_top, %esp
	pushl $0
	popfl
	pushl %ebx
	pushl %eax
	call guest_start
1:	hlt
	jmp 1b

/* 256 stubs: push an error code where the processor does not, then the vector. */
	.balign 16
	.globl trap_stubs
trap_stubs:
	.set vector, 0
	.rept 256
	.balign 16
	.if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17)
	.else
	pushl $0
	.endif
	pushl $vector
	jmp trap_common
	.set vector, vector + 1
	.endr

/* Stack, from the top: SS ESP (from CPL 3 only) EFLAGS CS EIP error vector, then what is pushed here: see struct trap_frame. */
trap_common:
	pushal
	pushl %ds
	pushl %es
	pushl %fs
	pushl %gs
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %fs
	movl %eax, %gs
	cld
	pushl %esp
	call trap_dispatch
	addl $4, %esp
	popl %gs
	popl %fs
	popl %es
	popl %ds
	popal
	addl $8, %esp
	.globl trap_iret
trap_iret:
	iretl

/* void run(struct state *s): load it and go; run_return brings us back. */
	.globl run
run:
	pushl %ebp
	pushl %ebx
	pushl %esi
	pushl %edi
	movl 20(%esp), %eax
	movl %esp, run_esp
	movl %eax, running
	testl $0x20000, STATE_EFLAGS(%eax)
	jnz 2f
	movl STATE_ES(%eax), %ecx
	movl %ecx, %es
	movl STATE_FS(%eax), %ecx
	movl %ecx, %fs
	movl STATE_GS(%eax), %ecx
	movl %ecx, %gs
	testb $3, STATE_CS(%eax)
	jz 1f
	pushl STATE_SS(%eax)
	pushl 16(%eax)
	pushl STATE_EFLAGS(%eax)
	pushl STATE_CS(%eax)
	pushl STATE_EIP(%eax)
	pushl STATE_DS(%eax)
	movl 4(%eax), %ecx
	movl 8(%eax), %edx
	movl 12(%eax), %ebx
	movl 20(%eax), %ebp
	movl 24(%eax), %esi
	movl 28(%eax), %edi
	movl 0(%eax), %eax
	popl %ds
	iretl
2:	pushl STATE_GS(%eax)
	pushl STATE_FS(%eax)
	pushl STATE_DS(%eax)
	pushl STATE_ES(%eax)
	pushl STATE_SS(%eax)
	pushl 16(%eax)
	pushl STATE_EFLAGS(%eax)
	pushl STATE_CS(%eax)
	pushl STATE_EIP(%eax)
	movl 4(%eax), %ecx
	movl 8(%eax), %edx
	movl 12(%eax), %ebx
	movl 20(%eax), %ebp
	movl 24(%eax), %esi
	movl 28(%eax), %edi
	movl 0(%eax), %eax
	iretl
1:	/* At CPL 0 ESP may be anything: flags first, then moves, which keep them. */
	movl STATE_EIP(%eax), %ecx
	movl %ecx, run_target
	pushl STATE_EFLAGS(%eax)
	popfl
	movl 4(%eax), %ecx
	movl 8(%eax), %edx
	movl 12(%eax), %ebx
	movl 16(%eax), %esp
	movl 20(%eax), %ebp
	movl 24(%eax), %esi
	movl 28(%eax), %edi
	movl 0(%eax), %eax
	jmp *run_target

/* Leave the trap handler for run's caller. */
	.globl run_return
run_return:
	cld
	movl run_esp, %esp
	popl %edi
	popl %esi
	popl %ebx
	popl %ebp
	ret

	.globl load_segments
load_segments:
	ljmp $0x08, $1f
1:	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %fs
	movl %eax, %gs
	movl %eax, %ss
	ret

	.bss
	.balign 4096
	.skip 32768
stack_top:
	.skip 16
	.balign 4
	.globl run_esp
run_esp:
	.skip 4
run_target:
	.skip 4
	.section .note.GNU-stack, "", @progbits
