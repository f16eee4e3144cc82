/* ModRM and SIB bytes, and registers that make the address mean something. */
#include <string.h>

#include "maker.h"

uint32_t maker_segment_base(const struct maker *m, unsigned seg)
{
	return diff_segment(m->c->in.seg[seg])->base;
}

unsigned maker_data_segment(const struct maker *m)
{
	return m->override < SEG_COUNT ? m->override : SEG_DS;
}

void maker_put(struct maker *m, uint32_t value, unsigned size)
{
	for (unsigned i = 0; i < size && m->c->length < CODE_MAX; i++) m->c->code[m->c->length++] = (uint8_t)(value >> 8 * i);
}

bool maker_is_free(const struct maker *m, unsigned reg)
{
	return !(m->taken >> reg & 1);
}

/* What it holds before the instruction, as far as is known: in a block, whatever came before may have changed it. */
static uint32_t value_of(const struct maker *m, unsigned reg)
{
	return maker_is_free(m, reg) ? m->c->in.gpr[reg] : m->value[reg];
}

static void take(struct maker *m, unsigned reg)
{
	m->value[reg] = value_of(m, reg);
	m->taken |= 1u << reg;
}

void maker_settle(struct maker *m, unsigned reg, uint32_t value)
{
	m->taken |= 1u << reg;
	m->value[reg] = value;
	if (m->wild)
		return;
	if (!m->block) {
		m->c->in.gpr[reg] = value;
		return;
	}
	if (!maker_is_code32(m))
		maker_put(m, 0x66, 1);
	maker_put(m, 0xB8 | reg, 1);
	maker_put(m, value, 4);
}

static uint32_t at_boundary(const struct maker *m)
{
	static const uint32_t ends[BOUNDARY_COUNT] = {[BOUNDARY_PAGE] = DATA_MIDDLE, [BOUNDARY_DATA] = DATA_BASE + DATA_SIZE};

	return ends[m->want_boundary] - m->want_before;
}

uint32_t maker_pick_data(struct maker *m)
{
	if (m->want_boundary)
		return at_boundary(m);
	return DATA_BASE + 0x800 + maker_below(m, 0x1000);
}

uint32_t maker_pick_linear(struct maker *m)
{
	uint32_t at = maker_pick_data(m);

	if (m->want_boundary)
		return at;
	switch (maker_below(m, 32)) {
	case 0: case 1: case 2: case 3: return DATA_MIDDLE - maker_below(m, 16);
	case 4: return 0u - maker_below(m, 20);
	case 5: return DATA_BASE + DATA_SIZE - maker_below(m, 20);
	case 6: return maker_below(m, 8) ? at : maker_interesting(m);
	default: return maker_below(m, 3) == 0 ? at : at & ~15u;
	}
}

static bool in_data(uint32_t linear)
{
	return linear - DATA_BASE <= DATA_SIZE - 4;
}

void maker_put_data(struct maker *m, uint32_t linear, uint32_t value)
{
	if (in_data(linear))
		memcpy(m->c->data + (linear - DATA_BASE), &value, 4);
}

uint32_t maker_get_data(const struct maker *m, uint32_t linear)
{
	uint32_t value = 0;

	if (in_data(linear))
		memcpy(&value, m->c->data + (linear - DATA_BASE), 4);
	return value;
}

struct address {
	unsigned base, index, scale; /* NO_REG: none */
	unsigned disp_size;
};

static struct address decode32(const struct maker *m)
{
	unsigned mod = m->modrm >> 6, rm = m->modrm & 7;
	struct address a = {.base = rm, .index = NO_REG, .disp_size = mod == 1 ? 1 : mod == 2 ? 4 : 0};

	if (rm == 4) {
		a.base = m->sib & 7;
		a.index = (m->sib >> 3 & 7) == ESP ? NO_REG : m->sib >> 3 & 7;
		a.scale = m->sib >> 6;
	}
	if (a.base == EBP && mod == 0) {
		a.base = NO_REG;
		a.disp_size = 4;
	}
	return a;
}

/* 16-bit addressing has pairs of registers (volume 2, table 2-1). */
static struct address decode16(const struct maker *m)
{
	static const uint8_t bases[] = {EBX, EBX, EBP, EBP, ESI, EDI, EBP, EBX}, indexes[] = {ESI, EDI, ESI, EDI, NO_REG, NO_REG, NO_REG, NO_REG};
	unsigned mod = m->modrm >> 6, rm = m->modrm & 7;
	struct address a = {.base = bases[rm], .index = indexes[rm], .disp_size = mod == 1 ? 1 : mod == 2 ? 2 : 0};

	if (rm == 6 && mod == 0) {
		a.base = NO_REG;
		a.disp_size = 2;
	}
	return a;
}

static unsigned segment_of(const struct maker *m, const struct address *a)
{
	if (m->override < SEG_COUNT)
		return m->override;
	return a->base == ESP || a->base == EBP ? SEG_SS : SEG_DS;
}

static uint32_t low(const struct maker *m, uint32_t value)
{
	return m->a16 ? value & 0xFFFF : value;
}

/* A 16-bit address keeps the upper half of its registers, which must not matter. */
static void settle_address(struct maker *m, unsigned reg, uint32_t value)
{
	maker_settle(m, reg, m->a16 ? (value & 0xFFFF) | (maker_next(m) & 0xFFFF0000) : value);
}

/* Make base + index * scale + displacement come to `ea` as far as what is free allows, and say what it came to. */
static uint32_t solve(struct maker *m, const struct address *a, uint32_t ea)
{
	bool wide = a->disp_size == (m->a16 ? 2 : 4);
	uint32_t indexed = 0, disp = a->disp_size == 1 ? (uint32_t)(int8_t)maker_next(m) : 0;

	if (a->index != NO_REG && a->index != a->base) {
		if (m->block && maker_is_free(m, a->index))
			settle_address(m, a->index, maker_next(m) & 0xFFFF);
		indexed = value_of(m, a->index) << a->scale;
		take(m, a->index);
	}
	if (wide && (a->base == NO_REG || !maker_is_free(m, a->base) || (!m->block && maker_below(m, 2)))) {
		uint32_t base = a->base == NO_REG ? 0 : value_of(m, a->base);
		if (a->index == a->base && a->base != NO_REG)
			indexed = base << a->scale;
		disp = ea - base - indexed;
	} else {
		disp = wide ? maker_interesting(m) : disp;
		if (a->base != NO_REG && maker_is_free(m, a->base)) {
			bool twice = a->index == a->base;
			settle_address(m, a->base, twice ? (ea - disp) / (1 + (1u << a->scale)) : ea - disp - indexed);
			indexed = twice ? value_of(m, a->base) << a->scale : indexed;
		}
	}
	if (a->base != NO_REG)
		take(m, a->base);
	m->disp = disp;
	return (a->base == NO_REG ? 0 : value_of(m, a->base)) + indexed + disp;
}

static void choose_memory(struct maker *m)
{
	struct address a = m->a16 ? decode16(m) : decode32(m);
	uint32_t base = maker_segment_base(m, segment_of(m, &a)), linear = maker_pick_linear(m);

	/* What 16 bits reach: the first pages, or what is within 64 KiB of the base. */
	if (m->a16 && m->want_boundary == BOUNDARY_ALL)
		linear = base + 0x10000 - m->want_before;
	else if (m->a16 && linear - base > 0xFFFF)
		linear = base + (maker_below(m, 2) ? maker_below(m, 0x1000) : maker_next(m) & 0xFFFF);
	m->disp_size = a.disp_size;
	m->linear = base + low(m, solve(m, &a, linear - base));
	m->has_memory = true;
}

/* So that registers which already have a meaning are not needed for the address, mostly. */
static bool is_usable(const struct maker *m)
{
	struct address a = m->a16 ? decode16(m) : decode32(m);

	return a.base == NO_REG || maker_is_free(m, a.base) || a.disp_size == (m->a16 ? 2 : 4);
}

static void random_memory_form(struct maker *m)
{
	for (unsigned tries = 0; tries < 8; tries++) {
		m->modrm = (uint8_t)(maker_below(m, 3) << 6 | (maker_below(m, 4) ? maker_below(m, 8) : 4));
		m->sib = (uint8_t)maker_next(m);
		if (maker_below(m, 6) == 0)
			m->modrm = m->a16 ? 6 : 5;
		if (is_usable(m))
			return;
	}
}

void maker_choose_operand(struct maker *m, const char *token)
{
	char kind = token[2];
	bool memory = kind == 'm' || m->lock || (kind != 'r' && (m->want_memory || maker_below(m, 2)));

	m->has_modrm = true;
	m->reg = token[1] == 'r' ? maker_below(m, 8) : (unsigned)(token[1] - '0');
	if (m->want_modrm >= 0) {
		m->modrm = (uint8_t)m->want_modrm;
		m->sib = (uint8_t)(m->want_sib >= 0 ? (uint32_t)m->want_sib : maker_next(m));
		m->reg = m->modrm >> 3 & 7;
		memory = m->modrm < 0xC0;
	}
	/* The offset of a bit: near enough to stay in the data. */
	if (!strcmp(m->setup, "bits"))
		maker_settle(m, m->reg, m->want_boundary ? maker_below(m, 16) : (uint32_t)((int32_t)maker_below(m, 8192) - 4096));
	if (m->want_modrm < 0 && memory)
		random_memory_form(m);
	else if (m->want_modrm < 0)
		m->modrm = (uint8_t)(0xC0 | maker_below(m, 8));
	m->modrm = (uint8_t)((m->modrm & 0xC7) | m->reg << 3);
	m->rm = m->modrm & 7;
	if (memory)
		choose_memory(m);
}
