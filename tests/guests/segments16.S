/* What segments16.c runs: 16-bit code but where it says 32. */
#include "snippet.h"

	.text
	.code16
	snippet p_mix
	movw 0x10, %ax
	movl 0x10, %ecx
	movw 0x10(,%esi,4), %dx
	movl %ecx, 0x40(%ebx)
	movw %ax, 2(%bp,%di)
	incl 0x44
	xchgb %ah, 0x48
	DONE

	snippet p_lea
	leaw -1(%bx,%si), %ax
	leal -1(%bx,%si), %ecx
	leaw -1(%ebx,%esi), %dx
	leal -1(%ebx,%esi), %ebp
	DONE

	snippet p_stack
	pushw %ax
	pushl %ecx
	pushw $0x1234
	pushl $0x56789ABC
	pushw 0x10
	pushl 0x12
	movl %esp, %edx
	popl %eax
	popw %bx
	popl 0x20
	popw 0x24
	popl %esi
	popw %di
	DONE

	snippet p_pop_esp
	pushl $0xABCD0200
	popl %esp
	pushw $0x300
	popw %sp
	pushw %cx
	DONE

	snippet p_push_pop_sp
	pushw %sp
	pushl %esp
	popl %eax
	popw %cx
	popl -4(%esp)
	DONE

	snippet p_pop_wrap
	popl 4(%esp)
	DONE

	snippet p_frame
	enterw $8, $0
	movw %sp, %ax
	movl $0x77770000, -4(%bp)
	leavew
	enterl $4, $2
	movl %esp, %ecx
	leavel
	movw %bp, %dx
	DONE

	snippet p_word
	movw (%bx), %ax
	DONE
	snippet p_store_dword
	movl %eax, (%bx)
	DONE
	snippet p_word_wide
	movw (%ebx), %ax
	DONE
	snippet p_push_memory
	pushw (%bx)
	DONE
	snippet p_fld
	fldt (%bx)
	DONE
	snippet p_movups
	movups (%bx), %xmm1
	DONE
	snippet p_bts
	btsl %eax, (%bx)
	DONE
	snippet p_push_word
	pushw %ax
	DONE
	snippet p_push_dword
	pushl %eax
	DONE
	snippet p_pop_dword
	popl %eax
	DONE
	snippet p_pushaw
	pushaw
	DONE
	snippet p_leave
	leavew
	DONE

	snippet p_call
	call p_call + 0x40
	DONE
	snippet p_call_indirect
	callw *%bx
	DONE
	snippet p_ret
	ret
	snippet p_ret_long
	retl
	snippet p_jump
	jmp p_jump + 0x400
	snippet p_jz
	jz p_jz + 0x400
	DONE
	snippet p_jump_indirect
	jmp *%bx
	snippet p_jump_long
	jmpl *%ebx
	snippet p_loop
	.byte 0x66, 0xE2, 0x80 /* loop, 32 bits: to before the segment */
	DONE
	snippet p_loopnz
	.byte 0x66, 0xE0, 0x80
	DONE
	snippet p_jcxz
	.byte 0x66, 0xE3, 0x80
	DONE
	snippet p_nops
	.fill 8, 1, 0x90

	snippet p_far
	ljmpl $0x63, $AT(1f, p_far)
2:	popw %cx
	DONE
	.code32
1:	movl $0x11111111, %eax
	pushl %eax
	pushl $0x43
	pushl $AT(2b, p_far)
	lretl
	.code16

	snippet p_far_calls
	xorw %ax, %ax
	movw $500, %cx
1:	lcall $0x7B, $AT(2f, p_far_calls) - 16
	lcall $0x43, $AT(2f, p_far_calls)
	loop 1b
	DONE
2:	call 3f
3:	popw %dx
	addw %dx, %ax
	lretw

	snippet p_rep_movs
	rep movsw
	DONE
	snippet p_rep_stosb
	rep stosb
	DONE
	snippet p_std
	std
	rep movsb
	cld
	lodsw
	DONE
	snippet p_movs
	movsw
	DONE
	snippet p_cmps
	cmpsw
	DONE
	snippet p_lods
	std
	lodsl
	cld
	DONE
	snippet p_scas
	repne scasb
	DONE

	snippet p_rewrites
	movw $600, %cx
	xorw %ax, %ax
1:	addw $1, %ax
	incb %es:AT(1b, p_rewrites) + 2
	loop 1b
	DONE

	snippet p_cs_write
	movw %ax, %cs:0x80
	DONE
	snippet p_cs_read
	movw %cs:0x80, %ax
	movw %cs:0xFFFF, %bx
	DONE
	snippet p_segments
	pushw %ds
	pushl %es
	popl %fs
	popw %gs
	movl %fs, %eax
	movw %gs, %bx
	lsll %ax, %ecx
	larw %ax, %dx
	DONE
	snippet p_flags
	pushfw
	pushfl
	popl %eax
	popfw
	cli
	snippet p_load_stack
	movw %ax, %ss
	movw %cx, %sp
	pushw %dx
	DONE
	snippet p_count
	count_rounds

	.code32
	snippet q_stack
	pushl %eax
	pushw %cx
	popl %edx
	movl %esp, %ebx
	call 1f
1:	popl %esi
	DONE
	snippet q_address16
	movl 0x10(%bx), %eax
	addr16 movsl
	addr16 loop 1f
	DONE
1:	xlatb (%bx)
	DONE
	snippet q_jump
	jmp q_jump + 0x5000
	snippet q_call
	call q_call + 0x5000
	snippet q_call_indirect
	call *%ebx
	snippet q_ret
	ret
	.section .note.GNU-stack, "", @progbits
