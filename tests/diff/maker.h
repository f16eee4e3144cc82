/* What makes cases: the state of one in the making. Private to forms.c, operands.c, values.c and blocks.c. */
#ifndef TESTS_DIFF_MAKER_H
#define TESTS_DIFF_MAKER_H

#include "base/x86.h"
#include "diff.h"
#include "forms.h"

#define NO_REG 8u

/* What an operand may lie at or over: the end of the first page, of what is there, or of the address space (of 64 KiB, with 16-bit addresses). */
enum boundary { BOUNDARY_NONE, BOUNDARY_PAGE, BOUNDARY_DATA, BOUNDARY_ALL, BOUNDARY_COUNT };

struct maker {
	struct diff_case *c;
	uint64_t random;
	bool wild;          /* addresses are left to chance */
	bool block;         /* several instructions: registers are settled by MOV, not in the state that the case begins with */

	/* The instruction at hand. */
	const struct form_template *form;
	const char *setup;
	unsigned taken;     /* registers whose value is settled, a bit each */
	uint32_t value[8];  /* their values */
	bool word, lock, repeated, a16;
	unsigned override;  /* a segment, or SEG_COUNT */
	int extra_prefix;   /* a byte, or -1 */
	bool has_modrm, has_memory;
	unsigned reg, rm;
	uint8_t modrm, sib;
	uint32_t disp;
	unsigned disp_size;
	uint32_t linear;    /* of the memory operand */
	uint32_t far_offset;
	uint16_t far_selector;

	/* What a systematic case asks for: ModRM and SIB bytes, a register in the opcode, a segment; -1: any. An operand in memory, so many bytes before a
	 * boundary; an address of the other size than the code's. */
	int want_modrm, want_sib, want_reg, want_override;
	bool want_memory, want_other_address;
	enum boundary want_boundary;
	uint32_t want_before;
};

/* values.c */
uint32_t maker_next(struct maker *m);
uint32_t maker_below(struct maker *m, uint32_t n);
uint32_t maker_interesting(struct maker *m);
uint32_t maker_mxcsr(struct maker *m);
void maker_random_state(struct maker *m, enum diff_kind kind, uint64_t seed);

/* operands.c */
uint32_t maker_segment_base(const struct maker *m, unsigned seg);
/* The segment of DS operands that an override may replace. */
unsigned maker_data_segment(const struct maker *m);
void maker_put(struct maker *m, uint32_t value, unsigned size);
/* Give a register its value before the instruction. */
void maker_settle(struct maker *m, unsigned reg, uint32_t value);
bool maker_is_free(const struct maker *m, unsigned reg);
/* Mostly aligned data, sometimes over the boundary of its two pages, over the end of the address space, or anywhere. */
uint32_t maker_pick_linear(struct maker *m);
/* Somewhere in the middle of the data, if no boundary is asked for. */
uint32_t maker_pick_data(struct maker *m);
void maker_put_data(struct maker *m, uint32_t linear, uint32_t value);
uint32_t maker_get_data(const struct maker *m, uint32_t linear);
/* Choose ModRM, SIB and displacement for a "/..." token, and settle the registers of the address. */
void maker_choose_operand(struct maker *m, const char *token);

/* forms.c */
bool maker_is_code32(const struct maker *m);
bool maker_has_option(const struct form_template *t, char which);
void maker_put_instruction(struct maker *m, uint32_t form);

#endif
