/* What a block's host code holds that depends on where the code runs, or on the EIP of its guest code: so that it can be moved, and copied for the same
 * guest code at another address. The translator writes these, the cache keeps and applies them. */
#ifndef BASE_CODE_FIX_H
#define BASE_CODE_FIX_H

#include <string.h>

#include "base/types.h"

enum code_fix_kind {
	FIX_OUTSIDE,    /* a rel32 to a place outside of the block */
	FIX_EIP,        /* a sum with an EIP of the block's in it */
	FIX_MINUS_EIP,  /* a difference: something less such an EIP */
	FIX_EXEC_ENTRY, /* the offset of such an EIP's entry in the exec table */
};

struct code_fix {
	uint16_t offset : 14; /* of four bytes in the block's code */
	uint16_t kind : 2;
};
#define CODE_FIX_OFFSET_MOST 0x3FFFu

/* `eip_by` is a multiple of PAGE_SIZE. */
static inline void code_fix_apply(uint8_t *code, struct code_fix fix, int64_t pc_by, int64_t eip_by)
{
	uint32_t value;

	memcpy(&value, code + fix.offset, sizeof(value));
	switch ((enum code_fix_kind)fix.kind) {
	case FIX_OUTSIDE:
		value -= (uint32_t)pc_by;
		break;
	case FIX_EIP:
		value += (uint32_t)eip_by;
		break;
	case FIX_MINUS_EIP:
		value -= (uint32_t)eip_by;
		break;
	case FIX_EXEC_ENTRY:
		value += (uint32_t)(eip_by / (int64_t)(PAGE_SIZE / sizeof(uint32_t)));
		break;
	}
	memcpy(code + fix.offset, &value, sizeof(value));
}

#endif
