/* Everything else of this program is in C, as bytes. */
#include "real.S"
	.section .note.GNU-stack, "", @progbits
