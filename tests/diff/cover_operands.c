/* Does the test have every operand form of every instruction form: registers and memory, all segments, addresses of both sizes, LOCK, and operands over a
 * page's end and over that of the address space? Told by what the cases' bytes and registers say, not by what their maker meant. */
#include <string.h>

#include "base/x86.h"
#include "faulting.h"
#include "forms.h"

enum {
	SEEN_REGISTER = 1, SEEN_ADDRESS16 = 2, SEEN_ADDRESS32 = 4, SEEN_LOCK = 8, SEEN_OVER_PAGE = 0x10, SEEN_OVER_ALL = 0x20, SEEN_WIDE = 0x40,
	SEEN_SEGMENT = 0x100, /* the first of six */
	SEEN_SEGMENTS = 0x3F00,
};

static const struct { unsigned bits; const char *what; } names[] = {
	{SEEN_REGISTER, "a register"}, {SEEN_ADDRESS16, "16-bit addresses"}, {SEEN_ADDRESS32, "32-bit addresses"}, {SEEN_LOCK, "LOCK"},
	{SEEN_OVER_PAGE, "over a page's end"}, {SEEN_OVER_ALL, "over the end of the address space"}, {SEEN_SEGMENT << SEG_ES, "ES"}, {SEEN_SEGMENT << SEG_CS, "CS"},
	{SEEN_SEGMENT << SEG_SS, "SS"}, {SEEN_SEGMENT << SEG_DS, "DS"}, {SEEN_SEGMENT << SEG_FS, "FS"}, {SEEN_SEGMENT << SEG_GS, "GS"},
};

static bool is_by_modrm(const ZydisDecodedOperand *o)
{
	return o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM;
}

static unsigned see_memory(const struct diff_case *c, const struct faulting *f, const ZydisDecodedOperand *o)
{
	unsigned seg = o->mem.segment - ZYDIS_REGISTER_ES, seen = SEEN_SEGMENT << seg;
	const struct diff_segment *segment = diff_segment(c->in.seg[seg]);
	uint32_t linear = segment->base + faulting_address(f, o, &c->in), last = linear + o->size / 8 - 1;

	seen |= f->insn.address_width == 16 ? SEEN_ADDRESS16 : SEEN_ADDRESS32;
	seen |= f->insn.attributes & ZYDIS_ATTRIB_HAS_LOCK ? SEEN_LOCK : 0;
	seen |= o->size > 8 ? SEEN_WIDE : 0;
	if (linear < DATA_MIDDLE && last >= DATA_MIDDLE && last - linear < 64)
		seen |= SEEN_OVER_PAGE;
	return last < linear ? seen | SEEN_OVER_ALL : seen;
}

static unsigned see(const struct diff_case *c)
{
	struct faulting f;
	unsigned seen = 0;

	if (!faulting_decode(&f, c, c->in.eip))
		return 0;
	for (unsigned i = 0; i < f.insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &f.operands[i];
		if (is_by_modrm(o) && o->type == ZYDIS_OPERAND_TYPE_REGISTER)
			seen |= SEEN_REGISTER;
		if (is_by_modrm(o) && o->type == ZYDIS_OPERAND_TYPE_MEMORY)
			seen |= see_memory(c, &f, o);
	}
	return seen;
}

static unsigned see_form(uint32_t form, uint32_t cases)
{
	static struct diff_case c;
	unsigned seen = 0;

	for (uint64_t seed = 1; seed <= cases; seed++) {
		diff_make(&c, form, KIND_PROTECTED, seed);
		seen |= see(&c);
	}
	for (uint32_t shape = 0; shape < diff_shape_count(form); shape++) {
		if (diff_make_shape(&c, form, shape, KIND_PROTECTED, 1))
			seen |= see(&c);
	}
	return seen;
}

/* What a form must show, by its template and by whether its operand is of more than a byte. */
static unsigned wanted(const struct form_template *t, unsigned seen)
{
	const char *token = strchr(t->bytes, '/'), *bar = strchr(t->options, '|'), *lock = strchr(t->options, 'l');
	bool any = token && token[2] != 'm' && token[2] != 'r', memory = token && token[2] != 'r';
	unsigned want = any ? SEEN_REGISTER : 0;

	/* There is no MOV to CS; LEA has an address and no operand. */
	if (!strcmp(t->name, "mov cs,rm"))
		return 0;
	if (!strcmp(t->name, "lea"))
		return want | SEEN_ADDRESS16 | SEEN_ADDRESS32;
	if (!memory)
		return want;
	if (lock && (!bar || lock < bar))
		want |= SEEN_LOCK;
	if (seen & SEEN_WIDE)
		want |= SEEN_OVER_PAGE | SEEN_OVER_ALL;
	return want | SEEN_SEGMENTS | SEEN_ADDRESS16 | SEEN_ADDRESS32;
}

int diff_check_operands(uint32_t cases)
{
	unsigned failed = 0, forms = 0;

	for (uint32_t form = 0; form < diff_form_count(); form++) {
		unsigned seen = see_form(form, cases), missing = wanted(&form_templates[form], seen) & ~seen;
		forms += wanted(&form_templates[form], seen) != 0;
		failed += missing != 0;
		for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
			if (missing & names[i].bits)
				printf("# %s: never with %s\n", diff_form_name(form), names[i].what);
		}
	}
	printf("%s 1 - each form has every kind of operand (%u forms with operands, %u lack some)\n1..1\n", failed ? "not ok" : "ok", forms, failed);
	return failed != 0;
}
