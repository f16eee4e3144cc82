/* From a template to bytes and a state in which they make sense: operands in the data pages, jumps within the code page. */
#include "forms.h"

#include <stdlib.h>
#include <string.h>

#include "diff.h"

enum { EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI };

struct maker {
	struct diff_case *c;
	uint64_t random;
	unsigned taken;     /* registers whose value is settled, a bit each */
	bool word, lock, repeated;
	bool no_memory;
	uint32_t ea;        /* of the memory operand */
	bool has_memory;
	unsigned reg, rm;
	const char *setup;
};

static uint32_t next(struct maker *m)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (uint32_t)(m->random >> 16);
}

static uint32_t below(struct maker *m, uint32_t n)
{
	return next(m) % n;
}

static uint32_t interesting(struct maker *m)
{
	static const uint32_t values[] = {0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
					  0xFFFFFFFF, 0xFFFFFFFE, 0x80, 0xFFFFFF80};

	return below(m, 3) == 0 ? values[below(m, sizeof(values) / sizeof(*values))] : next(m);
}

static void put(struct maker *m, uint32_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++) m->c->code[m->c->length++] = (uint8_t)(value >> 8 * i);
}

static bool setup_is(const struct maker *m, const char *name)
{
	return strcmp(m->setup, name) == 0;
}

static void settle(struct maker *m, unsigned reg, uint32_t value)
{
	m->c->in.gpr[reg] = value;
	m->taken |= 1u << reg;
}

/* Where a memory operand goes: mostly aligned, sometimes over the boundary of the two data pages. */
static uint32_t pick_address(struct maker *m)
{
	uint32_t at = DATA_BASE + 0x800 + below(m, DATA_SIZE - 0x1000);

	if (below(m, 8) == 0)
		return DATA_MIDDLE - below(m, 16);
	return below(m, 3) == 0 ? at : at & ~15u;
}

/* base + index * scale + disp with the registers made to fit. */
static void put_sib(struct maker *m, unsigned mod, uint32_t disp, unsigned reg)
{
	unsigned base = below(m, 8), index = below(m, 8), scale = below(m, 4);
	struct diff_case *c = m->c;

	if (base == EBP && mod == 0)
		base = EBX;
	if ((m->taken >> base & 1) || index == base || (index != ESP && (m->taken >> index & 1)))
		index = ESP;
	uint32_t indexed = index == ESP ? 0 : c->in.gpr[index] << scale;
	if (m->taken >> base & 1) {
		/* [disp32] by its SIB form */
		put(m, 0x04 | reg << 3, 1);
		put(m, 0x25, 1);
		put(m, m->ea, 4);
		return;
	}
	put(m, mod << 6 | reg << 3 | 4, 1);
	put(m, scale << 6 | index << 3 | base, 1);
	put(m, disp, mod == 1 ? 1 : mod == 2 ? 4 : 0);
	if (index != ESP)
		m->taken |= 1u << index;
	settle(m, base, m->ea - indexed - disp);
}

static void put_memory(struct maker *m, unsigned reg)
{
	unsigned mod = below(m, 3), base = below(m, 8);
	uint32_t disp = mod == 1 ? (uint32_t)(int8_t)next(m) : mod == 2 ? interesting(m) : 0;

	m->has_memory = true;
	m->ea = pick_address(m);
	if (below(m, 6) == 0 || (mod == 0 && base == EBP)) {
		put(m, 0x05 | reg << 3, 1);
		put(m, m->ea, 4);
	} else if (base == ESP || below(m, 3) == 0) {
		put_sib(m, mod, disp, reg);
	} else if (m->taken >> base & 1) {
		put(m, 0x05 | reg << 3, 1);
		put(m, m->ea, 4);
	} else {
		put(m, mod << 6 | reg << 3 | base, 1);
		put(m, disp, mod == 1 ? 1 : mod == 2 ? 4 : 0);
		settle(m, base, m->ea - disp);
	}
}

/* "/r", "/4", with 'm' or 'r' behind. */
static void put_modrm(struct maker *m, const char *token)
{
	char kind = token[1] ? token[2] : 0;
	bool memory = kind == 'm' || (kind != 'r' && !m->no_memory && below(m, 2));

	m->reg = token[1] == 'r' ? below(m, 8) : (unsigned)(token[1] - '0');
	/* A register that is an operand of a set-up keeps the value that gives it meaning. */
	if (setup_is(m, "bits")) {
		m->reg = EDX;
		settle(m, EDX, (uint32_t)((int32_t)below(m, 8192) - 4096));
	}
	if (memory || m->lock) {
		put_memory(m, m->reg);
		return;
	}
	m->rm = below(m, 8);
	put(m, 0xC0 | m->reg << 3 | m->rm, 1);
}

/* 16-bit addressing, for LEA alone: nothing can be mapped below 64 KiB. */
static void put_a16(struct maker *m)
{
	unsigned mod = below(m, 3), rm = below(m, 8);

	put(m, mod << 6 | below(m, 8) << 3 | rm, 1);
	put(m, next(m), mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0);
}

static void put_token(struct maker *m, const char *token)
{
	if (token[0] == '/')
		put_modrm(m, token);
	else if (!strcmp(token, "r"))
		m->c->code[m->c->length - 1] |= (uint8_t)(m->rm = below(m, 8));
	else if (!strcmp(token, "ib"))
		put(m, interesting(m), 1);
	else if (!strcmp(token, "iw"))
		put(m, setup_is(m, "return") || setup_is(m, "enter") ? below(m, 256) : next(m), 2);
	else if (!strcmp(token, "iv"))
		put(m, interesting(m), m->word ? 2 : 4);
	else if (!strcmp(token, "o32"))
		put(m, pick_address(m), 4);
	else if (!strcmp(token, "a16"))
		put_a16(m);
	else if (!strcmp(token, "rel8"))
		put(m, below(m, 128), 1);
	else if (!strcmp(token, "rel32"))
		put(m, below(m, 0x400), 4);
	else
		put(m, (uint32_t)strtoul(token, NULL, 16), 1);
}

static void put_template(struct maker *m, const char *bytes)
{
	char text[64], *save = NULL;

	strncpy(text, bytes, sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	for (char *t = strtok_r(text, " ", &save); t; t = strtok_r(NULL, " ", &save)) put_token(m, t);
}

static void put_data(struct maker *m, uint32_t address, uint32_t value)
{
	memcpy(m->c->data + (address - DATA_BASE), &value, 4);
}

static uint32_t get_data(struct maker *m, uint32_t address)
{
	uint32_t value;

	memcpy(&value, m->c->data + (address - DATA_BASE), 4);
	return value;
}

static uint32_t code_target(struct maker *m)
{
	return CODE_BASE + 0x800 + below(m, 0x700);
}

static void setup_stack(struct maker *m)
{
	if (!(m->taken >> ESP & 1))
		settle(m, ESP, DATA_BASE + 0x800 + below(m, 0x1000));
}

static void setup_string(struct maker *m)
{
	settle(m, ESI, DATA_BASE + 0xA00 + below(m, 0xC00));
	settle(m, EDI, below(m, 4) ? DATA_BASE + 0xA00 + below(m, 0xC00) : m->c->in.gpr[ESI] + below(m, 9) - 4);
	if (m->repeated)
		settle(m, ECX, below(m, 4) ? below(m, 60) : below(m, 500));
	if (below(m, 2))
		m->c->in.eflags |= 0x400;
	/* Runs of equal elements, so that compares go on for a while. */
	if (below(m, 2))
		memset(m->c->data + 0x800, (int)(m->c->in.gpr[EAX] = 0x01010101 * below(m, 3)), 0x1000);
}

static void setup_target(struct maker *m)
{
	uint32_t target = code_target(m);

	if (m->has_memory) {
		put_data(m, m->ea, target);
	} else {
		settle(m, m->rm, target);
	}
	if (!(m->taken >> ESP & 1))
		setup_stack(m);
}

static uint32_t valid_mxcsr(struct maker *m)
{
	return 0x1F80 | (next(m) & 0xE07F);
}

static void apply_setup(struct maker *m)
{
	struct diff_state *in = &m->c->in;

	if (setup_is(m, "stack") || setup_is(m, "enter")) {
		setup_stack(m);
		if (setup_is(m, "enter"))
			settle(m, EBP, DATA_BASE + 0x800 + below(m, 0x1000));
	} else if (setup_is(m, "string")) {
		setup_string(m);
	} else if (setup_is(m, "target")) {
		setup_target(m);
	} else if (setup_is(m, "return")) {
		setup_stack(m);
		put_data(m, in->gpr[ESP], code_target(m));
	} else if (setup_is(m, "leave")) {
		settle(m, EBP, DATA_BASE + 0x800 + below(m, 0x1000));
	} else if (setup_is(m, "popf")) {
		/* No TF, which would trap, no AC or NT; AC is in the upper half. */
		setup_stack(m);
		put_data(m, in->gpr[ESP], next(m) & 0x3ED5);
	} else if (setup_is(m, "xlat")) {
		settle(m, EBX, DATA_BASE + 0x800 + below(m, 0x1000));
	} else if (setup_is(m, "count")) {
		if (below(m, 2))
			in->gpr[ECX] = below(m, 3) | (below(m, 2) ? 0x10000 : 0);
	} else if (setup_is(m, "divide")) {
		if (!(m->taken >> EDX & 1))
			in->gpr[EDX] = below(m, 3) == 0 ? 0xFFFFFFFF : below(m, 16);
		if (!(m->taken >> EAX & 1) && below(m, 2))
			in->gpr[EAX] = below(m, 0x1000);
	} else if (setup_is(m, "cmpxchg")) {
		if (m->has_memory && below(m, 2) && !(m->taken & (1u << EAX | 1u << EDX))) {
			in->gpr[EAX] = get_data(m, m->ea);
			in->gpr[EDX] = get_data(m, m->ea + 4);
		}
	} else if (setup_is(m, "bound")) {
		if (below(m, 2)) {
			put_data(m, m->ea, m->word ? 0x7FFF8000 : 0x80000000);
			put_data(m, m->ea + 4, 0x7FFFFFFF);
		}
	} else if (setup_is(m, "maskmov")) {
		settle(m, EDI, pick_address(m));
	} else if (setup_is(m, "fldcw")) {
		put_data(m, m->ea, 0x37F | (next(m) & 0xF00));
	} else if (setup_is(m, "ldmxcsr")) {
		put_data(m, m->ea, below(m, 8) ? valid_mxcsr(m) : next(m));
	}
}

static bool needs_fpu(const struct maker *m)
{
	return setup_is(m, "fpu") || setup_is(m, "maskmov") || setup_is(m, "fldcw") || setup_is(m, "ldmxcsr");
}

/* An 80-bit number of any class, more often a plain one. */
static void random_extended(struct maker *m, uint8_t st[10])
{
	uint64_t mantissa = (uint64_t)next(m) << 32 | next(m);
	uint16_t exponent = (uint16_t)(0x3FFF + (int)below(m, 80) - 40);

	mantissa |= 1ULL << 63;
	switch (below(m, 10)) {
	case 0: exponent = 0x7FFF; mantissa = below(m, 2) ? 1ULL << 63 : mantissa; break;
	case 1: exponent = 0; mantissa = below(m, 2) ? 0 : mantissa & ~(1ULL << 63); break;
	case 2: mantissa &= ~((1ULL << below(m, 62)) - 1); break;
	case 3: exponent = (uint16_t)(next(m) & 0x7FFF); break;
	default: break;
	}
	exponent |= (uint16_t)(below(m, 2) << 15);
	memcpy(st, &mantissa, 8);
	memcpy(st + 8, &exponent, 2);
}

static uint32_t random_single(struct maker *m)
{
	static const uint32_t values[] = {0, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 1, 0x007FFFFF,
					  0x4B000000, 0x4F000000, 0xCF000000, 0x3F000000};

	if (below(m, 4) == 0)
		return values[below(m, sizeof(values) / sizeof(*values))];
	return below(m, 2) ? next(m) : 0x3F800000 + (next(m) & 0x80FFFFFF) - (below(m, 2) << 23);
}

static void random_fpu(struct maker *m)
{
	struct diff_state *s = &m->c->in;

	s->fcw = (uint16_t)(0x37F & ~0x300) | (uint16_t)(next(m) & 0xF00);
	if ((s->fcw & 0x300) == 0x100)
		s->fcw |= 0x300;
	s->fsw = (uint16_t)(next(m) & 0x7F00 & ~0x80);
	s->ftw = below(m, 4) ? 0xFF : (uint8_t)next(m);
	s->mxcsr = valid_mxcsr(m) & ~0x3Fu;
	for (unsigned i = 0; i < 8; i++) {
		random_extended(m, s->st[i]);
		for (unsigned j = 0; j < 4; j++) {
			uint32_t x = random_single(m);
			if ((j & 1) && below(m, 3) == 0)
				x = 0x3FF00000 + (next(m) & 0x801FFFFF);
			memcpy(s->xmm[i] + 4 * j, &x, 4);
		}
	}
}

static void random_state(struct maker *m, uint64_t seed)
{
	struct diff_state *in = &m->c->in;

	memset(m->c, 0, offsetof(struct diff_case, data));
	m->random = seed * 0x9E3779B97F4A7C15ULL + 0x1234567;
	if (!m->random)
		m->random = 1;
	for (unsigned i = 0; i < 16; i++) next(m);
	for (unsigned i = 0; i < 8; i++) in->gpr[i] = interesting(m);
	for (unsigned i = 0; i < DATA_SIZE; i += 4) {
		uint32_t x = next(m);
		memcpy(m->c->data + i, &x, 4);
	}
	in->eflags = next(m) & 0x8D5;
	/* Near the end of a page sometimes, so that an instruction of a block starts at any offset. */
	in->eip = CODE_BASE + below(m, 0x200);
	random_fpu(m);
}

static bool has_option(const char *options, char which)
{
	for (; *options && *options != '|'; options++) {
		if (*options == which)
			return true;
	}
	return false;
}

static void put_instruction(struct maker *m, uint32_t form)
{
	const struct form_template *t = &form_templates[form];
	const char *setup = strchr(t->options, '|');

	m->setup = setup ? setup + 1 : "";
	m->has_memory = false;
	m->repeated = t->bytes[0] == 'F' && (t->bytes[1] == '2' || t->bytes[1] == '3');
	m->word = has_option(t->options, 'o') && below(m, 3) == 0;
	m->lock = has_option(t->options, 'l') && !m->no_memory && below(m, 4) == 0;
	if (m->lock)
		put(m, 0xF0, 1);
	if (m->word)
		put(m, 0x66, 1);
	if (has_option(t->options, 'a') && below(m, 3) == 0)
		put(m, 0x67, 1);
	if (!m->no_memory && below(m, 12) == 0)
		put(m, below(m, 2) ? 0x3E : 0x36, 1);
	put_template(m, t->bytes);
	m->c->fpu |= needs_fpu(m);
}

uint32_t diff_form_count(void)
{
	return form_template_count;
}

const char *diff_form_name(uint32_t form)
{
	return form_templates[form].name;
}

void diff_make(struct diff_case *c, uint32_t form, uint64_t seed)
{
	struct maker m = {.c = c};

	random_state(&m, seed ^ (uint64_t)form << 40);
	c->form = form;
	put_instruction(&m, form);
	apply_setup(&m);
	/* Its own flags, seen by the next instruction. */
	if (setup_is(&m, "bcd"))
		c->flags_ignored = 0x8D5;
}

void diff_make_sequence(struct diff_case *c, uint64_t seed)
{
	struct maker m = {.c = c, .no_memory = true};
	uint32_t count;

	random_state(&m, seed);
	count = 2 + below(&m, 7);
	while (count > 0) {
		uint32_t form = below(&m, form_template_count);
		const char *options = form_templates[form].options, *bytes = form_templates[form].bytes;
		/* Without set-ups, which are for one instruction; control only at the end. */
		if ((strchr(options, '|') && !strstr(options, "|fpu")) || strchr(bytes, 'm') || strstr(bytes, "o32"))
			continue;
		if (c->length == 0)
			c->form = form;
		put_instruction(&m, form);
		count = strstr(bytes, "rel") ? 0 : count - 1;
	}
}
