/* From protected mode to real mode and back, for realmode.S and hostile16.S.
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
	popw %cs:S_IP /* by words: SP may wrap between them */
	popw %cs:S_CS
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

	.bss
	.balign 4
old_esp:
	.skip 4
old_idtr:
	.skip 6
