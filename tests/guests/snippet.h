/* Code of realmode.S and segments16.S, in pieces: each is copied to offset ORIGIN of a code segment, and ends at DONE. */
#define ORIGIN 0x100
#define AT(label, snippet) ((label) - (snippet) + ORIGIN)
#define DONE int $0x81
	.macro snippet name
	.globl \name
\name:
	.endm

/* EDI rounds with memory, stack and a call; EAX counts them. */
	.macro count_rounds
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
	.endm
