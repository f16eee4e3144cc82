#include "real.S"
#include "snippet.h"

	.text
	.code16
/* What runs in real mode. */

	snippet s_registers
	addw %bx, %ax
	addl %edx, %ecx
	movb %ah, %bl
	incw %si
	decl %edi
	cwtl
	bswapl %ebp
	DONE

	snippet s_memory
	movw 0x10, %ax
	movw 2(%bx,%si), %cx
	movw -2(%bp,%di), %dx /* SS */
	movl 0x10, %ebx
	addw $0x1111, 0x14
	addl $0x11111111, 0x18
	movw %ax, %es:0x10
	movw 0x10(,%esi,2), %si
	movb 0xFFFF, %al
	DONE

	snippet s_code_write
	movw $0x1234, %cs:0x80
	movw %cs:0x80, %ax
	DONE

	snippet s_word_at_limit
	movw 0xFFFF, %ax
	DONE

	snippet s_dword_at_limit
	movl %eax, 0xFFFD
	DONE

	snippet s_dword_below_limit
	movl %eax, 0xFFFC
	movl 0xFFFC, %ebx
	DONE

	snippet s_stack_at_limit
	movw $0xFFFF, %bp
	movw (%bp), %ax
	DONE

	snippet s_wide_address
	movw (%ebx), %ax
	DONE

	snippet s_call_near
	call 1f
	jmp 2f
1:	popw %ax
	pushw %ax
	incw %cx
	ret
2:	movw $AT(3f, s_call_near), %bx
	call *%bx
	DONE
3:	movw %sp, %dx
	ret $4

	snippet s_call_far
	lcall $0x2010, $AT(1f, s_call_far) - 0x100
	lcall *%cs:AT(2f, s_call_far)
	lcalll $0x2000, $AT(4f, s_call_far)
	DONE
1:	movw %cs, %ax
	lret
2:	.word AT(3f, s_call_far), 0x2000
3:	movw %sp, %bx
	lret
4:	movw %sp, %cx
	lretl

	snippet s_loops
	movl $0xAAAA0003, %ecx
	xorw %ax, %ax
1:	incw %ax
	loop 1b
	movl $0x00010000, %ecx
	jcxz 2f
	incb %bl
2:	jecxz 3f
	incb %bh
3:	movl $2, %ecx
4:	incb %dl
	addr32 loop 4b
	movw $5, %cx
	movb $0, %dh
5:	incb %dh
	cmpb $2, %dh
	loopne 5b
	DONE

	snippet s_strings
	movw $0x10, %si
	movw $0x20, %di
	movw $4, %cx
	rep movsw
	lodsb
	stosw
	lodsl
	movw $0xFFFE, %di
	movw $4, %cx
	movb $0x77, %al
	rep stosb
	movw $0x10, %si
	movw $0x20, %di
	movw $8, %cx
	repe cmpsb
	movw $0xFFFF, %si
	lodsb
	DONE

	snippet s_string_at_limit
	movw $0xFFFF, %di
	stosw
	DONE

	snippet s_rep_at_limit
	movw $0xFFFB, %di
	movw $4, %cx
	rep stosw
	DONE

	snippet s_interrupt
	sti
	int $0x60
	DONE

	snippet s_interrupt_handler
	movw %sp, %bp
	movw 4(%bp), %dx
	pushfw
	popw %cx
	iretw

	snippet s_flags
	stc
	pushfw
	popw %ax
	orw $0x0C50, %ax
	pushw %ax
	popfw
	pushfl
	popl %ebx
	cli
	cld
	pushfw
	popw %cx
	DONE

	snippet s_stack
	pushl $0x12345678
	popw %ax
	popw %bx
	pushw $-2
	popl %ecx
	pushaw
	popaw
	pushw %ds
	popw %es
	enterw $6, $0
	movw %sp, %dx
	leavew
	pushw %sp
	popw %ax
	pushw 0x10
	popw 0x40
	DONE

	snippet s_stack_wraps
	pushw $0x1111
	pushl $0x22222222
	movw %sp, %ax
	popl %ebx
	popw %cx
	DONE

	snippet s_divide
	xorw %cx, %cx
	divw %cx
	DONE

	snippet s_bound
	boundw %ax, 0x10
	DONE

	snippet s_into
	movb $0x7F, %al
	incb %al
	into
	DONE

	snippet s_tables
	sgdtl 0x40
	lgdtl 0x40
	sidtw 0x48
	smsww %ax
	movl %cr0, %ebx
	DONE

	snippet s_pointers
	lesw 0x10, %bx
	lfsl 0x10, %ecx
	movw %es, %ax
	movw %fs, 0x50
	movl %fs, %edx
	DONE

	snippet s_loads
	movw $0x3800, %bx
	movw %bx, %ds
	movw 0x20, %ax
	movw $0x3000, 0x30
	movw 0x30, %ds /* through DS itself */
	movw 0x20, %cx
	pushw %bx
	popw %fs
	movw %fs:0x22, %dx
	pushl %ebx
	popl %gs
	movw %gs:0x24, %si
	movw %gs, %di
	DONE

	snippet s_rewrites
	movb $3, %cl
1:	movw $0x1111, %ax
	addw $1, %cs:AT(1b, s_rewrites) + 1
	decb %cl
	jnz 1b
	DONE

	snippet s_where
	call 1f
1:	popw %ax
	DONE

	snippet s_jump_to_end
	movb $0x40, %cs:0xFFFF /* inc %ax */
	movw $0xFFFF, %bx
	jmp *%bx

	snippet s_jump_beyond
	.byte 0x66, 0xE9
	.long 0x10000
	DONE

	snippet s_call_beyond
	movl $0x12345, %eax
	.byte 0x66, 0xFF, 0xD0
	DONE

	snippet s_unreal
	movl %fs:(%ebx), %eax
	movl %edx, %fs:4(%ebx)
	movw $0x3000, %cx
	movw %cx, %fs
	movl %fs:-4(%esi), %ecx
	DONE

	snippet s_xlat
	xlatb
	DONE

	snippet s_environment
	fninit
	fld1
	fnstenvs 0x60
	fnstsw %ax
	DONE

	snippet s_wide_environment
	fninit
	fnstenvl 0x60
	DONE

	snippet s_single_step
	pushfw
	orb $1, 1(%bp)
	popfw
	incw %ax
	DONE

	snippet s_timer
	xorl %eax, %eax
	movb $0x34, %al
	outb %al, $0x43
	xorb %al, %al
	outb %al, $0x40
	movb $0x10, %al
	outb %al, $0x40
	movb $0xFE, %al
	outb %al, $0x21
	xorw %ax, %ax
	sti
1:	hlt
	cmpw $5, %ax
	jb 1b
	cli
	DONE

	snippet s_timer_handler
	pushw %cx
	movw %ax, %cx
	movb $0x20, %al
	outb %al, $0x20
	movw %cx, %ax
	popw %cx
	incw %ax
	iretw

	snippet s_sysenter
	sysenter

	snippet s_count
	count_rounds
	.section .note.GNU-stack, "", @progbits
