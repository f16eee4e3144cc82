/* Systematic cases: every ModRM byte of every form with addresses of both sizes, every SIB byte of some, every register in an opcode, every prefix,
 * operands in memory in every segment, and over every boundary. */
#include <string.h>

#include "maker.h"


static const char *modrm_token(const struct form_template *t)
{
	const char *at = strchr(t->bytes, '/');

	return at && (at[1] == 'r' || (at[1] >= '0' && at[1] <= '7')) ? at : NULL;
}

/* Whose addresses are all tried: a load, a store, a read and write, and so on. */
static bool is_representative(const struct form_template *t)
{
	static const char *const names[] = {"mov r,rm", "mov rm8,r8", "add rm,r", "lea", "movdqu", "sse ps 29", "x87 D9 /3 m", "push rm", "bts m,r", "jmp m",
					    "cmpxchg8b", "xchg rm,r"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!strcmp(t->name, names[i]))
			return true;
	}
	return false;
}

static const uint8_t prefixes[] = {0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};

/* Shapes in this order. */
#define PREFIX_SHAPES (uint32_t)sizeof(prefixes)
#define REGISTER_SHAPES 8u
#define MODRM_SHAPES 256u
#define SIB_SHAPES (3u * 256u * 8u) /* MOD, SIB, REG */
/* Behind those: an operand in memory in each segment, with LOCK, and so many bytes before each boundary. */
static const uint8_t distances[] = {1, 1, 1, 1, 2, 3, 4, 7, 8, 15, 16}; /* not each can be reached by all registers */
#define DISTANCES (uint32_t)sizeof(distances)
#define MEMORY_SHAPES (SEG_COUNT + 1u + (BOUNDARY_COUNT - 1u) * DISTANCES)

uint32_t diff_shape_count(uint32_t form)
{
	const struct form_template *t = &form_templates[form];

	if (!modrm_token(t))
		return PREFIX_SHAPES + REGISTER_SHAPES + MEMORY_SHAPES;
	return PREFIX_SHAPES + 2 * MODRM_SHAPES + (is_representative(t) ? SIB_SHAPES : 0) + MEMORY_SHAPES;
}

static bool modrm_fits(const char *token, uint32_t modrm)
{
	bool memory = modrm < 0xC0;

	return (token[1] == 'r' || (modrm >> 3 & 7) == (uint32_t)(token[1] - '0')) && (token[2] != 'm' || memory) && (token[2] != 'r' || !memory);
}

/* Where processors do what the manual does not say: REP before LOOPE and LOOPNE turns the condition (AMD), LOCK before MOV CR0 means CR8 (AMD),
 * and VERR and VERW take LOCK (AMD), where the manual has #UD. */
static bool is_peculiar(const struct form_template *t, uint8_t prefix)
{
	if (prefix == 0xF0)
		return !strncmp(t->bytes, "0F 20", 5) || !strncmp(t->bytes, "0F 22", 5) || !strncmp(t->bytes, "0F 00", 5);
	return (prefix == 0xF2 || prefix == 0xF3) && !strncmp(t->name, "loop", 4);
}

/* A prefix where the manual says what it does: not those that make another instruction of it. */
static bool prefix_fits(const struct form_template *t, uint8_t prefix)
{
	bool two_bytes = strstr(t->bytes, "0F ") != NULL, repeat = prefix == 0xF2 || prefix == 0xF3;

	if (is_peculiar(t, prefix))
		return false;
	if (repeat)
		return !two_bytes && !strstr(t->options, "|string") && strncmp(t->bytes, "F2 ", 3) && strncmp(t->bytes, "F3 ", 3) && strcmp(t->bytes, "90 r");
	return prefix != 0x66 || !(two_bytes || maker_has_option(t, 'o'));
}

/* By its ModRM byte, its offset or its set-up: on the stack, or through pointers that are implied. */
static bool reaches_memory(const struct form_template *t)
{
	static const char *const none[] = {"|fpu", "|count", "|bcd", "|divide"};
	const char *token = modrm_token(t), *setup = strchr(t->options, '|');

	if (token)
		return token[2] != 'r' || !strcmp(t->options, "|maskmov");
	for (size_t i = 0; setup && i < sizeof(none) / sizeof(*none); i++) {
		if (!strcmp(setup, none[i]))
			return false;
	}
	return setup || strstr(t->bytes, "o32");
}

static bool choose_memory_shape(struct maker *m, const struct form_template *t, uint32_t shape)
{
	m->want_memory = true;
	if (shape < SEG_COUNT) {
		m->want_override = (int)shape;
		return reaches_memory(t);
	}
	shape -= SEG_COUNT;
	if (shape == 0) {
		m->extra_prefix = 0xF0;
		return reaches_memory(t) && prefix_fits(t, 0xF0);
	}
	m->want_boundary = 1 + (shape - 1) / DISTANCES;
	m->want_before = distances[(shape - 1) % DISTANCES];
	return reaches_memory(t);
}

static bool choose_shape(struct maker *m, uint32_t form, uint32_t shape)
{
	const struct form_template *t = &form_templates[form];
	const char *token = modrm_token(t);

	if (shape >= diff_shape_count(form) - MEMORY_SHAPES)
		return choose_memory_shape(m, t, shape - (diff_shape_count(form) - MEMORY_SHAPES));
	if (shape < PREFIX_SHAPES) {
		m->extra_prefix = prefixes[shape];
		return prefix_fits(t, prefixes[shape]);
	}
	shape -= PREFIX_SHAPES;
	if (!token) {
		m->want_reg = (int)shape;
		return strstr(t->bytes, " r") && !strstr(t->bytes, " rel");
	}
	if (shape < 2 * MODRM_SHAPES) {
		m->want_modrm = (int)(shape % MODRM_SHAPES);
		m->want_other_address = shape >= MODRM_SHAPES;
		return modrm_fits(token, shape % MODRM_SHAPES);
	}
	shape -= 2 * MODRM_SHAPES;
	m->want_modrm = (int)(shape / 2048 << 6 | (shape & 7) << 3 | 4);
	m->want_sib = (int)(shape / 8 % 256);
	return modrm_fits(token, (uint32_t)m->want_modrm);
}

bool diff_make_shape(struct diff_case *c, uint32_t form, uint32_t shape, enum diff_kind kind, uint64_t seed)
{
	struct maker m = {.c = c};

	maker_random_state(&m, kind, seed ^ (uint64_t)form << 40 ^ (uint64_t)shape << 20);
	if (!choose_shape(&m, form, shape))
		return false;
	c->form = form;
	c->defined = m.extra_prefix < 0;
	maker_put_instruction(&m, form);
	return true;
}
