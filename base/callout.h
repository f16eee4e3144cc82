/* Callouts: how emitted code asks C for the meaning of a sensitive instruction.
 *
 * Emitted code sets vcpu.eip to the instruction's EIP, R9D = CALLOUT word, R8D = effective address (offset in the segment, 32 bits,
 * already truncated to 16 for 16-bit addressing) or the immediate, R10D = a second immediate. runtime's table calls
 *
 *     enum callout_result callout_NAME(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra);
 */
#ifndef BASE_CALLOUT_H
#define BASE_CALLOUT_H

#include "base/types.h"

enum callout_id {
#define CALLOUT(name, what) CALLOUT_##name,
#include "base/callout.def"
#undef CALLOUT
	CALLOUT_COUNT
};

enum callout_result {
	CALLOUT_NEXT,  /* done; go on behind the instruction (the caller sets EIP) */
	CALLOUT_LEAVE, /* done; the function set EIP, and anything may have changed: dispatch anew */
	CALLOUT_FAULT, /* vcpu.fault is set; no guest state was changed; EIP is still the instruction's */
	CALLOUT_AGAIN, /* partly done (REP string instruction) or to be retried: EIP is still the instruction's; dispatch anew */
};

/* The CALLOUT word. */
#define CALLOUT_ARG(id, len, reg, size, seg, rep, a16, mem, rm) \
	((uint32_t)(id) | (uint32_t)(len) << 8 | (uint32_t)(reg) << 12 | (uint32_t)(size) << 16 | (uint32_t)(seg) << 19 | \
	 (uint32_t)(rep) << 22 | (uint32_t)(a16) << 24 | (uint32_t)(mem) << 25 | (uint32_t)(rm) << 26)
#define CALLOUT_ID(arg) ((arg) & 0xFFu)
#define CALLOUT_LEN(arg) ((arg) >> 8 & 0xFu)   /* of the instruction, in bytes */
#define CALLOUT_REG(arg) ((arg) >> 12 & 0xFu)  /* ModRM.reg, or the GPR / segment / control register the mnemonic names */
#define CALLOUT_SIZE(arg) ((arg) >> 16 & 7u)   /* operand size, log2 of bytes: 0, 1, 2 */
#define CALLOUT_SEG(arg) ((arg) >> 19 & 7u)    /* segment of the memory operand */
#define CALLOUT_REP(arg) ((arg) >> 22 & 3u)    /* 0 none, 1 REP/REPE, 2 REPNE */
#define CALLOUT_A16(arg) ((arg) >> 24 & 1u)    /* 16-bit addressing */
#define CALLOUT_MEM(arg) ((arg) >> 25 & 1u)    /* the operand is in memory at `ea` */
#define CALLOUT_RM(arg) ((arg) >> 26 & 0xFu)   /* the operand is this GPR */
#define CALLOUT_RM_EA 15u                       /* or `ea` itself */

#endif
