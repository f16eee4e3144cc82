/* The side table: for every host PC of a block, the guest EIP to go on at and what to undo first. The translator writes the rows,
 * the cache keeps them, the runtime applies them when a fault or a kick stops translated code between two instructions. */
#ifndef BASE_SIDE_TABLE_H
#define BASE_SIDE_TABLE_H

#include "base/types.h"

enum undo {
	UNDO_NONE,     /* nothing done yet: restart the instruction at eip */
	UNDO_RCX,      /* guest ECX is parked in R10: put it back, restart at eip */
	UNDO_ROTATE,   /* + register number: guest register was rotated right by 8 bits: rotate back, restart at eip */
	UNDO_TARGET_R8 = UNDO_ROTATE + 8, /* the instruction is done; go on at R8D */
	UNDO_TARGET_R8_RCX, /* ditto, and guest ECX is parked in R10 */
	UNDO_RDI,      /* guest EDI is parked in R10: put it back, restart at eip */
	UNDO_RAX,      /* guest EAX is parked in R10: put it back, restart at eip */
	UNDO_SHADOW,   /* nothing done yet, but no interrupt before the instruction: it stands behind STI, or has changed what it will set anyway */
	UNDO_EBP_R10,  /* not undone but finished: guest EBP is R10D; go on at eip */
	UNDO_EDI_R9,   /* ditto: guest EDI is R9D */
	UNDO_STEP,     /* ditto: guest ESI and EDI step by the size in `access`, as DF says */
	UNDO_PUSH,     /* ditto: guest ESP is the size in `access` less; on a 16-bit stack, SP */
	UNDO_POP,      /* ditto: more */
	UNDO_DONE,     /* ditto: nothing is left to do. Said where the EIP alone would not tell: an exit to the block's own beginning */
	UNDO_STEP16,   /* as UNDO_STEP, of guest SI and DI */
	UNDO_CALL,     /* as UNDO_PUSH, but go on at R8D */
	UNDO_REPEAT,   /* nothing to undo; but registers hold host addresses, and a hidden fault goes on where the row begins */
	UNDO_SHADOW_RCX, /* as UNDO_SHADOW, and guest ECX is parked in R10 */
	UNDO_SHADOW_RAX, /* ditto: guest EAX */
	UNDO_ENTRY,    /* as UNDO_NONE; and where the row begins, the block may be entered: nothing is known here that an entry at its beginning would not know */
	UNDO_GUARD,    /* as UNDO_NONE; what the instruction reads is code that it expects there: if it is not to be had, it runs alone, as it stands */
};

/* A row holds from its host_offset to the next row's. Rows are in ascending order; a direct jump or call out of the block has UNDO_NONE or
 * UNDO_DONE with the target's EIP. */
struct side_row {
	uint16_t host_offset;
	uint16_t undo : 5;   /* enum undo */
	uint16_t access : 6; /* ROW_* : what the guest instruction does to memory, for faults */
	int16_t esp : 5;     /* guest ESP is R13 + 4 * esp: pushes and pops adjust R13 together, when it matters */
	uint32_t eip;
};
#define ROW_ESP_MIN (-16 * 4)
#define ROW_ESP_MAX (15 * 4)
#define ROW_READ 1
#define ROW_WRITE 2       /* alone: stores every byte, whatever was there */
#define ROW_SOFT 4        /* the access itself: R9 = hva, R8D = gva. A soft lookup's own row, before it, has READ or WRITE and no SOFT */
#define ROW_SIZE_SHIFT 3  /* bytes accessed, as an index into row_sizes */
static const uint8_t row_sizes[] = {0, 1, 2, 4, 8, 16, 10, 6};

/* A patchable branch out of a block, with nothing parked and no difference of ESP. While it is not linked it goes to an exit stub of its own. */
struct link_slot {
	uint16_t rel32_offset; /* of the rel32 to patch */
	uint32_t target;       /* EIP */
};

#endif
