/* The status flags that the manual leaves undefined: Intel SDM volume 2, "Flags Affected" of each instruction's page (volume 1, appendix A,
 * table A-2 has them in short). */
#include <string.h>

#include "diff.h"

#define CF 0x001u
#define PF 0x004u
#define AF 0x010u
#define ZF 0x040u
#define SF 0x080u
#define OF 0x800u
#define CS 1 /* of a state's segments */

struct undefined {
	const char *form; /* how its name begins */
	uint32_t flags;
};

static const struct undefined table[] = {
	{"or ", AF}, {"and ", AF}, {"xor ", AF}, {"test ", AF}, /* OR, AND, XOR, TEST: "The state of the AF flag is undefined." */
	{"mul ", SF | ZF | AF | PF},                            /* MUL: "The SF, ZF, AF, and PF flags are undefined." */
	{"imul ", SF | ZF | AF | PF},                           /* IMUL: SF by its one-operand form's result on newer editions only */
	{"div ", CF | OF | SF | ZF | AF | PF},                  /* DIV: "The CF, OF, SF, ZF, AF, and PF flags are undefined." */
	{"idiv ", CF | OF | SF | ZF | AF | PF},                 /* IDIV: the same */
	{"bt", OF | SF | AF | PF},                              /* BT, BTS, BTR, BTC: "The OF, SF, AF, and PF flags are undefined." */
	{"lock bt", OF | SF | AF | PF},
	{"bsf", CF | OF | SF | AF | PF}, {"bsr", CF | OF | SF | AF | PF}, /* BSF, BSR: all but ZF */
	{"tzcnt", OF | SF | AF | PF}, {"lzcnt", OF | SF | AF | PF}, /* TZCNT, LZCNT: "OF, SF, PF, and AF flags are undefined." */
	{"bextr", SF | AF | PF},                                /* BEXTR: "AF, SF, and PF are undefined." */
	{"andn", AF | PF}, {"bls", AF | PF}, {"bzhi", AF | PF}, /* ANDN, BLSI, BLSMSK, BLSR, BZHI: "AF and PF flags are undefined." */
	{"daa", OF}, {"das", OF},                               /* DAA, DAS: "The OF flag is undefined." */
	{"aaa", OF | SF | ZF | PF}, {"aas", OF | SF | ZF | PF}, /* AAA, AAS: "The OF, SF, ZF, and PF flags are undefined." */
	{"aam", OF | AF | CF}, {"aad", OF | AF | CF},           /* AAM, AAD: "The OF, AF, and CF flags are undefined." */
};

static bool begins(const char *name, const char *with)
{
	return !strncmp(name, with, strlen(with));
}

/* The count of a shift or rotate, which is the immediate (the last byte), CL or 1. */
static uint32_t shift_count(const struct diff_case *c, const char *name)
{
	const char *by = strrchr(name, name[3] == 'd' ? ' ' : ',') + 1;

	if (!strcmp(by, "ib"))
		return c->code[c->length - 1] & 31;
	return !strcmp(by, "cl") ? c->in.gpr[1] & 31 : 1;
}

static bool is_prefix(uint8_t byte)
{
	return memchr("\x26\x2E\x36\x3E\x64\x65\x66\x67\xF0", byte, 9) != NULL;
}

static uint32_t operand_bits(const struct diff_case *c, const char *name)
{
	if (strstr(name, "rm8"))
		return 8;
	bool big = diff_segment(c->in.seg[CS])->big;

	for (uint32_t i = 0; i < c->length && is_prefix(c->code[i]); i++) {
		if (c->code[i] == 0x66)
			return big ? 16 : 32;
	}
	return big ? 32 : 16;
}

/* SAL/SAR/SHL/SHR: OF undefined but for 1-bit shifts, AF for non-zero counts, CF of SHL and SHR "where the count is greater than or equal to the
 * size (in bits) of the destination operand". */
static uint32_t after_shift(const struct diff_case *c, const char *name)
{
	uint32_t count = shift_count(c, name);

	if (count == 0)
		return 0;
	return AF | (count > 1 ? OF : 0) | (name[1] == 'h' && count >= operand_bits(c, name) ? CF : 0);
}

/* RCL/RCR/ROL/ROR: "OF flag is defined only for the 1-bit rotates; it is undefined in all other cases", but for counts of 0. */
static uint32_t after_rotate(const struct diff_case *c, const char *name)
{
	return shift_count(c, name) > 1 ? OF : 0;
}

/* SHLD, SHRD: OF as above; AF for non-zero counts; all if "the count operand is greater than the operand size". */
static uint32_t after_double_shift(const struct diff_case *c, const char *name)
{
	uint32_t count = shift_count(c, name);

	if (count == 0)
		return 0;
	return count > operand_bits(c, name) ? CF | PF | AF | ZF | SF | OF : AF | (count > 1 ? OF : 0);
}

typedef uint32_t undefined_fn(const struct diff_case *c, const char *name);

static const struct { const char *form; undefined_fn *flags; } shifts[] = {
	{"shld", after_double_shift}, {"shrd", after_double_shift}, {"shl ", after_shift}, {"shr ", after_shift}, {"sar ", after_shift},
	{"rol ", after_rotate}, {"ror ", after_rotate}, {"rcl ", after_rotate}, {"rcr ", after_rotate},
};
#define SHIFTS (sizeof(shifts) / sizeof(*shifts))
#define FORMS (sizeof(table) / sizeof(*table))

uint32_t diff_undefined_flags(const struct diff_case *c)
{
	const char *name = diff_form_name(c->form);

	for (size_t i = 0; i < SHIFTS; i++) {
		if (begins(name, shifts[i].form))
			return shifts[i].flags(c, name);
	}
	for (size_t i = 0; i < FORMS; i++) {
		if (begins(name, table[i].form))
			return table[i].flags;
	}
	return 0;
}

bool diff_leaves_undefined(const char *form)
{
	for (size_t i = 0; i < SHIFTS; i++) {
		if (begins(form, shifts[i].form))
			return true;
	}
	for (size_t i = 0; i < FORMS; i++) {
		if (begins(form, table[i].form))
			return true;
	}
	return false;
}
