/* From protected mode to real mode and back, and the code that realmode.c runs there.
 *
 * void real_run(void): the low code, copied to LOW, loads the state that lies at LOW + STATE, jumps to its CS:IP, and comes back at the first
 * interrupt or exception, whose vector and registers it leaves there. */
#define LOW 0x8000
#define LOW_SEGMENT (LOW >> 4)
#define STATE 0x3000 /* struct real_state, from LOW on */
#define OFFSET(label) ((label) - low_begin)

#define S_EAX STATE + 0
#define S_ECX STATE + 4
#define S_EDX STATE + 8
#define S_EBX STATE + 12
#define S_ESP STATE + 16
#define S_EBP STATE + 20
#define S_ESI STATE + 24
#define S_EDI STATE + 28
#define S_IP STATE + 32
#define S_CS STATE + 34
#define S_EFLAGS STATE + 36
#define S_SS STATE + 40
#define S_DS STATE + 42
#define S_ES STATE + 44
#define S_FS STATE + 46
#define S_GS STATE + 48
#define S_VECTOR STATE + 50
#define S_PROTECTED_FS STATE + 52
#define S_IDTR STATE + 54

	.text
	.code32
	.globl real_run
real_run:
	pushal
	sidtl old_idtr
	movl %esp, old_esp
	ljmp $0x30, $OFFSET(to_real)

back:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %fs
	movl %eax, %gs
	movl %eax, %ss
	movl old_esp, %esp
	lidtl old_idtr
	cld
	popal
	ret

	.globl low_begin, low_end, low_vectors
	.code16
low_begin:
to_real:
	movw $0x38, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %gs
	movw %ax, %ss
	movw %cs:S_PROTECTED_FS, %ax
	movw %ax, %fs
	movl %cr0, %eax
	andb $0xFE, %al
	movl %eax, %cr0
	ljmp $LOW_SEGMENT, $OFFSET(in_real)
in_real:
	lidtl %cs:S_IDTR
	movw %cs, %ax
	movw %ax, %ss
	movl $0x2FF0, %esp
	pushl %cs:S_EFLAGS
	popfl
	movw %cs:S_SS, %ss
	movl %cs:S_ESP, %esp
	movl %cs:S_EAX, %eax
	movl %cs:S_ECX, %ecx
	movl %cs:S_EDX, %edx
	movl %cs:S_EBX, %ebx
	movl %cs:S_EBP, %ebp
	movl %cs:S_ESI, %esi
	movl %cs:S_EDI, %edi
	movw %cs:S_DS, %ds
	movw %cs:S_ES, %es
	movw %cs:S_FS, %fs
	movw %cs:S_GS, %gs
	ljmp *%cs:S_IP

/* Six bytes each. */
low_vectors:
	.set vector, 0
	.rept 256
	.byte 0x68
	.word vector
	.byte 0xE9
	.word OFFSET(caught) - (OFFSET(low_vectors) + vector * 6 + 6)
	.set vector, vector + 1
	.endr

caught:
	movl %eax, %cs:S_EAX
	movl %ecx, %cs:S_ECX
	movl %edx, %cs:S_EDX
	movl %ebx, %cs:S_EBX
	movl %ebp, %cs:S_EBP
	movl %esi, %cs:S_ESI
	movl %edi, %cs:S_EDI
	popw %cs:S_VECTOR
	popl %cs:S_IP
	movl $0, %cs:S_EFLAGS
	popw %cs:S_EFLAGS
	movl %esp, %cs:S_ESP
	movw %ss, %cs:S_SS
	movw %ds, %cs:S_DS
	movw %es, %cs:S_ES
	movw %fs, %cs:S_FS
	movw %gs, %cs:S_GS
	movl %cr0, %eax
	orb $1, %al
	movl %eax, %cr0
	ljmpl $0x08, $back
low_end:

/* What runs in real mode: copied to CODE_SEGMENT:ORIGIN. */
#define ORIGIN 0x100
#define AT(label, snippet) ((label) - (snippet) + ORIGIN)
#define DONE int $0x81
	.macro snippet name
	.globl \name
\name:
	.endm

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
	xorl %eax, %eax
1:	addw $3, %bx
	movw %bx, 0x20
	addw 0x20, %dx
	pushw %dx
	popw %si
	call 2f
	incl %eax
	decl %edi
	jnz 1b
	DONE
2:	xorw %si, %bp
	ret

	.bss
	.balign 4
old_esp:
	.skip 4
old_idtr:
	.skip 6
	.section .note.GNU-stack, "", @progbits
