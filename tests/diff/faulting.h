/* The instruction of a case at some EIP. Private to unspecified.c and kinds.c. */
#ifndef TESTS_DIFF_FAULTING_H
#define TESTS_DIFF_FAULTING_H

#include <Zydis/Zydis.h>

#include "diff.h"

struct faulting {
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

/* False if it is none, or not of the case's code. */
bool faulting_decode(struct faulting *f, const struct diff_case *c, uint32_t eip);
/* Of an operand in memory, within its segment. */
uint32_t faulting_address(const struct faulting *f, const ZydisDecodedOperand *o, const struct diff_state *s);
/* LES or LDS of a register: in protected mode VEX, of which the processor wants to see all before it says that it is no instruction here. */
bool faulting_is_vex(const struct diff_case *c, uint32_t eip);

#endif
