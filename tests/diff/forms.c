/* From a template to bytes and a state in which they make sense: operands in the data pages, jumps within the code pages. */
#include "forms.h"

#include <stdlib.h>
#include <string.h>

#include "maker.h"

static bool setup_is(const struct maker *m, const char *name)
{
	return strcmp(m->setup, name) == 0;
}

bool maker_has_option(const struct form_template *t, char which)
{
	const char *bar = strchr(t->options, '|'), *at = strchr(t->options, which);

	return at && (!bar || at < bar);
}

bool maker_is_code32(const struct maker *m)
{
	return diff_segment(m->c->in.seg[SEG_CS])->big;
}

static void put_modrm(struct maker *m)
{
	maker_put(m, m->modrm, 1);
	if (!m->has_memory)
		return;
	if (!m->a16 && (m->modrm & 7) == 4)
		maker_put(m, m->sib, 1);
	maker_put(m, m->disp, m->disp_size);
}

/* The second and third byte of a VEX prefix. VEX.vvvv has four bits, and 32-bit mode no registers for the upper one: it is not looked at, nor are B and
 * W; L must be 0. */
static void put_vex(struct maker *m, const char *token)
{
	static const char *const mandatory[] = {"np", "66", "f3", "f2"};
	unsigned pp = 0, vvvv = maker_below(m, 16);

	while (strcmp(mandatory[pp], token + 5)) pp++;
	if (token[3] == '3') /* RORX has no third register */
		vvvv = 15;
	unsigned b = maker_below(m, 8) ? 0x20 : 0, w = maker_below(m, 8) ? 0 : 0x80, l = maker_below(m, 16) ? 0 : 4;
	maker_put(m, 0xC0u | b | (unsigned)(token[3] - '0'), 1);
	maker_put(m, w | vvvv << 3 | l | pp, 1);
	m->c->defined &= b && !w && !l; /* Unicorn looks at them */
}

static void put_token(struct maker *m, const char *token)
{
	if (token[0] == '/')
		put_modrm(m);
	else if (!strcmp(token, "r"))
		m->c->code[m->c->length - 1] |= (uint8_t)m->rm;
	else if (!strcmp(token, "ib"))
		maker_put(m, maker_interesting(m), 1);
	else if (!strcmp(token, "iw"))
		maker_put(m, setup_is(m, "return") || setup_is(m, "enter") ? maker_below(m, 256) : maker_next(m), 2);
	else if (!strcmp(token, "iv"))
		maker_put(m, maker_interesting(m), m->word ? 2 : 4);
	else if (!strncmp(token, "vex", 3))
		put_vex(m, token);
	else if (!strcmp(token, "o32"))
		maker_put(m, m->linear - maker_segment_base(m, maker_data_segment(m)), m->a16 ? 2 : 4);
	else if (!strcmp(token, "far"))
		maker_put(m, m->far_offset, m->word ? 2 : 4), maker_put(m, m->far_selector, 2);
	else if (!strcmp(token, "rel8"))
		maker_put(m, maker_below(m, 128), 1);
	else if (!strcmp(token, "rel32"))
		maker_put(m, maker_below(m, 0x400), maker_is_code32(m) ? 4 : 2);
	else
		maker_put(m, (uint32_t)strtoul(token, NULL, 16), 1);
}

static void each_token(struct maker *m, void (*do_token)(struct maker *m, const char *token))
{
	char text[64], *save = NULL;

	strncpy(text, m->form->bytes, sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	for (char *t = strtok_r(text, " ", &save); t; t = strtok_r(NULL, " ", &save)) do_token(m, t);
}

/* EIP of a place with nothing but INT3. */
static uint32_t code_target(struct maker *m)
{
	return CODE_BASE + 0x800 + maker_below(m, 0x700) - maker_segment_base(m, SEG_CS);
}

/* A pointer of 16 bits has an upper half that must not matter. */
static void settle_data(struct maker *m, unsigned reg, unsigned seg)
{
	bool big = reg == EBX || reg == ESI || reg == EDI ? !m->a16 : diff_segment(m->c->in.seg[seg])->big;
	uint32_t value = maker_pick_data(m) - maker_segment_base(m, seg);

	if (maker_is_free(m, reg))
		maker_settle(m, reg, big ? value : (value & 0xFFFF) | (maker_next(m) & 0xFFFF0000));
}

static uint32_t stack_linear(const struct maker *m)
{
	uint32_t mask = diff_segment(m->c->in.seg[SEG_SS])->big ? ~0u : 0xFFFFu;

	return (m->value[ESP] & mask) + maker_segment_base(m, SEG_SS);
}

static void setup_string(struct maker *m)
{
	uint32_t from = DATA_BASE + 0xA00 + maker_below(m, 0xC00), to = DATA_BASE + 0xA00 + maker_below(m, 0xC00);

	if (m->want_boundary) {
		unsigned which = maker_below(m, 3);
		from = which == 1 ? from : maker_pick_data(m);
		to = which == 2 ? to : maker_pick_data(m);
	}
	if (maker_below(m, 4) == 0)
		to = from + maker_below(m, 9) - 4;
	/* Over the end of the address space, and over the end of what is there. */
	if (maker_below(m, 16) == 0)
		from = 0u - maker_below(m, 0x100);
	if (maker_below(m, 16) == 0)
		to = 0u - maker_below(m, 0x100);
	maker_settle(m, ESI, from - maker_segment_base(m, maker_data_segment(m)));
	maker_settle(m, EDI, to - maker_segment_base(m, SEG_ES));
	if (m->repeated)
		maker_settle(m, ECX, maker_below(m, 4) ? maker_below(m, 60) : maker_below(m, 4) ? maker_below(m, 500) : maker_interesting(m));
	if (maker_below(m, 2))
		m->c->in.eflags |= EFL_DF;
	/* Runs of equal elements, so that compares go on for a while. */
	if (maker_below(m, 2)) {
		uint32_t element = 0x01010101 * maker_below(m, 3);
		memset(m->c->data + 0x800, (int)element, 0x1000);
		maker_settle(m, EAX, element);
	}
}

static void setup_target(struct maker *m)
{
	uint32_t target = code_target(m);

	if (m->has_memory)
		maker_put_data(m, m->linear, target);
	else
		maker_settle(m, m->rm, target);
	settle_data(m, ESP, SEG_SS);
}

/* Strings of few different characters, with an end somewhere; lengths near 16, of either sign. */
static void setup_text(struct maker *m)
{
	for (unsigned i = 0; m->has_memory && i < 16; i += 4) {
		uint32_t x = maker_next(m);
		maker_put_data(m, m->linear + i, x & 0x03030303u & (maker_below(m, 4) ? ~0u : x >> 8));
	}
	for (unsigned i = 0; i < sizeof(m->c->in.xmm) && !m->block; i++)
		m->c->in.xmm[i / 16][i % 16] = (uint8_t)(maker_below(m, 12) ? 1 + maker_below(m, 3) : 0);
	for (unsigned reg = EAX; reg <= EDX; reg += EDX - EAX) {
		if (maker_is_free(m, reg) && maker_below(m, 4))
			maker_settle(m, reg, maker_below(m, 40) - 20);
		/* A length that has no absolute value ends Unicorn's process. */
		if (m->c->in.gpr[reg] == 0x80000000)
			m->c->defined = false;
	}
}

static void setup_divide(struct maker *m)
{
	if (maker_is_free(m, EDX))
		maker_settle(m, EDX, maker_below(m, 3) == 0 ? 0xFFFFFFFF : maker_below(m, 16));
	if (maker_is_free(m, EAX) && maker_below(m, 2))
		maker_settle(m, EAX, maker_below(m, 0x1000));
}

static void setup_compare(struct maker *m)
{
	if (!m->has_memory || maker_below(m, 2) || !maker_is_free(m, EAX) || !maker_is_free(m, EDX))
		return;
	maker_settle(m, EAX, maker_get_data(m, m->linear));
	maker_settle(m, EDX, maker_get_data(m, m->linear + 4));
}

static void setup_bound(struct maker *m)
{
	if (maker_below(m, 2))
		return;
	maker_put_data(m, m->linear, m->word ? 0x7FFF8000 : 0x80000000);
	maker_put_data(m, m->linear + 4, 0x7FFFFFFF);
}

static void setup_return(struct maker *m)
{
	settle_data(m, ESP, SEG_SS);
	maker_put_data(m, stack_linear(m), code_target(m));
}

static void setup_enter(struct maker *m)
{
	settle_data(m, ESP, SEG_SS);
	settle_data(m, EBP, SEG_SS);
}

/* TF, AC and NT rarely. */
static void setup_popf(struct maker *m)
{
	settle_data(m, ESP, SEG_SS);
	if (maker_below(m, 8)) {
		maker_put_data(m, stack_linear(m), maker_next(m) & 0x3ED5u);
		return;
	}
	maker_put_data(m, stack_linear(m), maker_next(m) & 0x247FD5u);
	m->c->defined = false;
}

static void setup_stack(struct maker *m)
{
	settle_data(m, ESP, SEG_SS);
}

static void setup_leave(struct maker *m)
{
	settle_data(m, EBP, SEG_SS);
}

static void setup_xlat(struct maker *m)
{
	settle_data(m, EBX, maker_data_segment(m));
}

static void setup_count(struct maker *m)
{
	if (maker_below(m, 2))
		maker_settle(m, ECX, maker_below(m, 3) | (maker_below(m, 2) ? 0x10000 : 0));
}

static void setup_maskmov(struct maker *m)
{
	maker_settle(m, EDI, maker_pick_linear(m) - maker_segment_base(m, maker_data_segment(m)));
}

static void setup_fldcw(struct maker *m)
{
	maker_put_data(m, m->linear, 0x37F | (maker_next(m) & 0xF00));
}

static void setup_ldmxcsr(struct maker *m)
{
	maker_put_data(m, m->linear, maker_below(m, 8) ? maker_mxcsr(m) : maker_next(m));
}

static uint16_t random_selector(struct maker *m)
{
	return diff_selector(m->c->kind, maker_below(m, diff_selector_count(m->c->kind)));
}

/* Mostly code, and a place in it with nothing but INT3. */
static void choose_far(struct maker *m)
{
	m->far_selector = random_selector(m);
	while (maker_below(m, 8) && !(diff_segment(m->far_selector)->type & AR_CODE)) m->far_selector = random_selector(m);
	if (m->c->kind == KIND_PROTECTED && maker_below(m, 4) == 0)
		m->far_selector = CODE3;
	m->far_offset = CODE_BASE + 0x300 + maker_below(m, 0x400) - diff_segment(m->far_selector)->base;
	m->c->defined &= m->c->kind == KIND_REAL; /* Unicorn knows no descriptors */
}

static void setup_far_code(struct maker *m)
{
	choose_far(m);
	settle_data(m, ESP, SEG_SS);
	if (m->has_memory) {
		maker_put_data(m, m->linear, m->far_offset);
		maker_put_data(m, m->linear + (m->word ? 2 : 4), m->far_selector);
	}
}

/* What a far return finds: the offset, the selector, and flags for IRET. */
static void setup_far_return(struct maker *m)
{
	uint32_t size = m->word ? 2 : 4, at;

	choose_far(m);
	settle_data(m, ESP, SEG_SS);
	at = stack_linear(m);
	maker_put_data(m, at, m->far_offset);
	maker_put_data(m, at + size, m->far_selector);
	bool traps = maker_below(m, 4) == 0;
	maker_put_data(m, at + 2 * size, maker_next(m) & (traps ? 0x247FD5u : 0x3CD5u));
	m->c->defined &= !traps;
}

static void setup_far_data(struct maker *m)
{
	m->c->defined &= m->c->kind == KIND_REAL;
	maker_put_data(m, m->linear + (m->word ? 2 : 4), random_selector(m));
}

static void setup_selector(struct maker *m)
{
	static const uint16_t others[] = {0, 1, 3, 4, CODE3, DATA3, 0x2A, 0xFF, 0xFFFF};
	unsigned i = maker_below(m, diff_selector_count(m->c->kind) + sizeof(others) / sizeof(*others));
	uint32_t selector = i < sizeof(others) / sizeof(*others) && m->c->kind == KIND_PROTECTED ? others[i] : random_selector(m);

	m->c->defined &= m->c->kind == KIND_REAL;
	settle_data(m, ESP, SEG_SS);
	if (m->has_memory)
		maker_put_data(m, m->linear, selector);
	else if (m->has_modrm)
		maker_settle(m, m->rm, (maker_next(m) & 0xFFFF0000) | selector);
	else
		maker_put_data(m, stack_linear(m), selector);
}

static void apply_setup(struct maker *m)
{
	static const struct { const char *name; void (*apply)(struct maker *m); } setups[] = {
		{"stack", setup_stack}, {"enter", setup_enter}, {"string", setup_string}, {"target", setup_target}, {"return", setup_return},
		{"leave", setup_leave}, {"popf", setup_popf}, {"xlat", setup_xlat}, {"count", setup_count}, {"divide", setup_divide},
		{"cmpxchg", setup_compare}, {"bound", setup_bound}, {"maskmov", setup_maskmov}, {"fldcw", setup_fldcw}, {"ldmxcsr", setup_ldmxcsr},
		{"selector", setup_selector}, {"far code", setup_far_code}, {"far return", setup_far_return}, {"far data", setup_far_data},
		{"text", setup_text},
	};

	for (size_t i = 0; i < sizeof(setups) / sizeof(*setups); i++) {
		if (setup_is(m, setups[i].name))
			setups[i].apply(m);
	}
}

static bool needs_fpu(const struct maker *m)
{
	return setup_is(m, "fpu") || setup_is(m, "maskmov") || setup_is(m, "fldcw") || setup_is(m, "ldmxcsr") || setup_is(m, "text");
}

/* Before anything of the instruction is written: in a block, registers are settled by instructions. */
static void choose_token(struct maker *m, const char *token)
{
	if (token[0] == '/')
		maker_choose_operand(m, token);
	else if (!strcmp(token, "r"))
		m->rm = m->want_reg >= 0 ? (unsigned)m->want_reg : maker_below(m, 8);
	else if (!strcmp(token, "o32"))
		m->linear = maker_pick_linear(m), m->has_memory = true;
}

/* Prefixes that a template's own first bytes do not fix, in any order. */
static void put_prefixes(struct maker *m)
{
	static const uint8_t overrides[] = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};
	uint8_t prefixes[5];
	unsigned count = 0;

	if (m->lock)
		prefixes[count++] = 0xF0;
	if (m->word == maker_is_code32(m))
		prefixes[count++] = 0x66;
	if (m->a16 == maker_is_code32(m))
		prefixes[count++] = 0x67;
	if (m->override < SEG_COUNT)
		prefixes[count++] = overrides[m->override];
	if (m->extra_prefix >= 0)
		prefixes[count++] = (uint8_t)m->extra_prefix;
	while (count > 0) {
		unsigned i = maker_below(m, count);
		maker_put(m, prefixes[i], 1);
		prefixes[i] = prefixes[--count];
	}
}

static void choose_prefixes(struct maker *m)
{
	const struct form_template *t = m->form;
	bool can_word = maker_has_option(t, 'o');

	m->repeated = t->bytes[0] == 'F' && (t->bytes[1] == '2' || t->bytes[1] == '3');
	m->word = can_word ? maker_below(m, 3) == 0 : !maker_is_code32(m);
	m->lock = maker_has_option(t, 'l') && maker_below(m, 4) == 0 && (m->want_modrm < 0 || m->want_modrm < 0xC0);
	m->a16 = maker_below(m, maker_has_option(t, 'a') ? 3 : 12) ? !maker_is_code32(m) : maker_is_code32(m);
	m->override = maker_below(m, 10) ? SEG_COUNT : maker_below(m, SEG_COUNT);
	if (m->want_override >= 0)
		m->override = (unsigned)m->want_override;
	if (m->want_other_address)
		m->a16 = maker_is_code32(m);
}

void maker_put_instruction(struct maker *m, uint32_t form)
{
	const char *setup = strchr(form_templates[form].options, '|');

	m->form = &form_templates[form];
	m->setup = setup ? setup + 1 : "";
	m->taken = 0;
	m->has_modrm = m->has_memory = false;
	choose_prefixes(m);
	each_token(m, choose_token);
	apply_setup(m);
	put_prefixes(m);
	each_token(m, put_token);
	m->c->fpu |= needs_fpu(m);
	/* In real mode the state of the FPU is loaded by a few instructions before the case, which must not trap. */
	if (m->c->fpu && m->c->kind == KIND_REAL)
		m->c->in.eflags &= ~EFL_TF;
	/* BSWAP of 16 bits is undefined (vol. 2). */
	if (m->word && !strcmp(m->form->name, "bswap"))
		m->c->defined = false;
	/* Its own flags, seen by the next instruction. */
	if (setup_is(m, "bcd"))
		m->c->flags_ignored = EFL_ARITH;
}

uint32_t diff_form_count(void)
{
	return form_template_count;
}

const char *diff_form_name(uint32_t form)
{
	return form_templates[form].name;
}

void diff_make(struct diff_case *c, uint32_t form, enum diff_kind kind, uint64_t seed)
{
	struct maker m = {.c = c};

	maker_random_state(&m, kind, seed ^ (uint64_t)form << 40);
	c->form = form;
	c->defined = true;
	maker_put_instruction(&m, form);
}
