/* What the files of --verify share. */
#ifndef RUNTIME_VERIFY_PRIVATE_H
#define RUNTIME_VERIFY_PRIVATE_H

#include <stdio.h>

#include "base/abi.h"
#include "cache/cache.h"
#include "shadow/shadow.h"

/* As much of an instruction as the comparison needs to know. */
struct verify_insn {
	uint32_t eip;
	uint8_t length;
	bool rep;               /* a string instruction with a repeat prefix */
	bool word, lock;        /* operands of 16 bits; a LOCK prefix */
	uint8_t segment;        /* of an override prefix, or SEG_COUNT */
	uint8_t loads, stores;  /* through these segments */
	uint16_t opcode;        /* 0x0XX one byte, 0x1XX 0F XX, 0x2XX 0F 38 XX, 0x3XX 0F 3A XX */
	uint8_t modrm;
	uint8_t imm;            /* the last byte */
	bool emulated;          /* the monitor has it inline, on virtual selectors: PUSH Sreg, MOV r, Sreg; in real mode and V86 MOV Sreg, r and POP Sreg */
	bool branches;          /* near */
	bool pops;
	bool transfers;         /* through gates, or far */
	bool stops;             /* the reference must not run it */
	uint8_t gpr_changed;    /* where it stops: registers that the monitor may change, a bit each */
	bool flags_changed;
	bool fpu, sse, inexact; /* uses x87 or MMX; XMM registers; x87 results that implementations may round each their way */
};

/* Decode the instruction at `bytes`; false if it is none. */
bool verify_decode(const uint8_t *bytes, uint32_t available, uint32_t eip, const struct vcpu *v, struct verify_insn *insn);
/* The flags that are undefined after the instruction if `before` were before it. */
uint32_t verify_undefined_flags(const struct verify_insn *insn, uint32_t before);

/* The status flags that decide what the instruction does, or that it copies to a register. PUSHF, which stores them, is not among them. */
uint32_t verify_flags_deciding(const struct verify_insn *insn);

/* Status flags that the instruction reads (all, where in doubt) and overwrites (none, where in doubt). */
void verify_flag_use(const struct verify_insn *insn, uint32_t *read, uint32_t *written);

#define VERIFY_MAX_INSNS 160u

struct reference_state {
	uint32_t gpr[8], eip, flags;
	uint32_t system_flags; /* what PUSHF shows besides the status flags and DF */
	uint32_t base[SEG_COUNT], limit[SEG_COUNT];
	uint16_t selector[SEG_COUNT];
	bool user, aligned; /* at CPL 3; misaligned accesses raise #AC */
	bool code16, stack16; /* CS.D and SS.B clear */
	uint8_t xmm[8][16];
	uint8_t st[8][10];
	uint16_t fcw, fsw;
	uint32_t mxcsr;
	uint8_t empty; /* x87 registers, physical order, a bit each */
};

/* A store of the reference, in order. */
struct reference_store {
	gva_t gva;
	uint32_t size;
	uint32_t step;
	uint8_t *at;   /* in guest RAM */
	uint64_t before, after, ours;
};

static inline bool reference_stores_over(const struct reference_store *s, gva_t at, uint32_t length)
{
	return s->gva - at < length || at - s->gva < s->size;
}

enum reference_end {
	REFERENCE_LIMIT,  /* ran as many steps as asked */
	REFERENCE_FAULTS, /* step `steps` raises an exception */
	REFERENCE_DEVICE, /* step `steps` touches MMIO */
};

struct reference;
int reference_create(struct reference **out, struct shadow *shadow, uint8_t *ram, uint64_t ram_size, int ram_fd, char *why, size_t why_size);
void reference_destroy(struct reference *ref);

/* Run the block's instructions from `start`: `steps` of them, the last of which, if it repeats, for `iterations` rounds (0: to its end). All stores
 * are undone before it returns. */
enum reference_end reference_run(struct reference *ref, const struct reference_state *start, const struct verify_insn *insns,
				 uint32_t count, uint32_t steps, uint32_t iterations);
/* After a run: */
const struct reference_state *reference_state(const struct reference *ref);
uint32_t reference_steps(const struct reference *ref);
/* Whole rounds of the repeated instruction that faulted. */
uint32_t reference_rounds(const struct reference *ref);
/* A repeated instruction was cut off after reference_set_rounds' number: what follows it was not run. */
bool reference_was_cut(const struct reference *ref);
/* An operand of SSE, or under alignment checks any, was not aligned: Unicorn does not look. */
bool reference_was_misaligned(const struct reference *ref);
void reference_set_rounds(struct reference *ref, uint32_t rounds);
/* Why it ended early, for the report. */
const char *reference_why(const struct reference *ref);
struct reference_store *reference_stores(const struct reference *ref, uint32_t *count);
/* Bring RAM back to what it was before the block, for a second run; the stores of the first say what may have changed. Undo that with reference_forward. */
void reference_rewind(struct reference *ref);
void reference_forward(struct reference *ref);
/* Another block: the first run's stores are no longer wanted. */
void reference_forget(struct reference *ref);

/* Guest code as the view maps it: copies up to `size` bytes, returns how many could be read. */
uint32_t reference_read_code(struct reference *ref, gva_t gva, uint8_t *to, uint32_t size, bool user);

#endif
