/* Random numbers, and the state that a case begins with. */
#include <string.h>

#include "maker.h"

uint32_t maker_next(struct maker *m)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (uint32_t)(m->random >> 16);
}

uint32_t maker_below(struct maker *m, uint32_t n)
{
	return maker_next(m) % n;
}

uint32_t maker_interesting(struct maker *m)
{
	static const uint32_t values[] = {0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
					  0xFFFFFFFF, 0xFFFFFFFE, 0x80, 0xFFFFFF80};

	return maker_below(m, 3) == 0 ? values[maker_below(m, sizeof(values) / sizeof(*values))] : maker_next(m);
}

uint32_t maker_mxcsr(struct maker *m)
{
	return 0x1F80 | (maker_next(m) & 0xE07F);
}

/* An 80-bit number of any class, more often a plain one. */
static void random_extended(struct maker *m, uint8_t st[10])
{
	uint64_t mantissa = (uint64_t)maker_next(m) << 32 | maker_next(m);
	uint16_t exponent = (uint16_t)(0x3FFF + (int)maker_below(m, 80) - 40);

	mantissa |= 1ULL << 63;
	switch (maker_below(m, 10)) {
	case 0: exponent = 0x7FFF; mantissa = maker_below(m, 2) ? 1ULL << 63 : mantissa; break;
	case 1: exponent = 0; mantissa = maker_below(m, 2) ? 0 : mantissa & ~(1ULL << 63); break;
	case 2: mantissa &= ~((1ULL << maker_below(m, 62)) - 1); break;
	case 3: exponent = (uint16_t)(maker_next(m) & 0x7FFF); break;
	default: break;
	}
	exponent |= (uint16_t)(maker_below(m, 2) << 15);
	memcpy(st, &mantissa, 8);
	memcpy(st + 8, &exponent, 2);
}

static uint32_t random_single(struct maker *m)
{
	static const uint32_t values[] = {0, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 1, 0x007FFFFF,
					  0x4B000000, 0x4F000000, 0xCF000000, 0x3F000000};

	if (maker_below(m, 4) == 0)
		return values[maker_below(m, sizeof(values) / sizeof(*values))];
	return maker_below(m, 2) ? maker_next(m) : 0x3F800000 + (maker_next(m) & 0x80FFFFFF) - (maker_below(m, 2) << 23);
}

static void random_fpu(struct maker *m)
{
	struct diff_state *s = &m->c->in;

	s->fcw = (uint16_t)(0x37F & ~0x300) | (uint16_t)(maker_next(m) & 0xF00);
	if ((s->fcw & 0x300) == 0x100)
		s->fcw |= 0x300;
	s->fsw = (uint16_t)(maker_next(m) & 0x7F00 & ~0x80);
	s->ftw = maker_below(m, 4) ? 0xFF : (uint8_t)maker_next(m);
	s->mxcsr = maker_mxcsr(m) & ~0x3Fu;
	/* Exceptions that are raised, now and then: #MF at the next waiting instruction, #XM at once. */
	if (maker_below(m, 8) == 0)
		s->fcw &= (uint16_t)~(maker_next(m) & X87_MASKS);
	if (maker_below(m, 8) == 0)
		s->mxcsr &= ~(maker_next(m) & MXCSR_MASKS);
	for (unsigned i = 0; i < 8; i++) {
		random_extended(m, s->st[i]);
		for (unsigned j = 0; j < 4; j++) {
			uint32_t x = random_single(m);
			if ((j & 1) && maker_below(m, 3) == 0)
				x = 0x3FF00000 + (maker_next(m) & 0x801FFFFF);
			memcpy(s->xmm[i] + 4 * j, &x, 4);
		}
	}
}

/* Noise is made once, and each case begins at another place in it: 8 KiB of random numbers would cost as much as a run. */
#define NOISE_SIZE (DATA_SIZE + 65536u)

static void random_data(struct maker *m)
{
	static uint64_t noise[NOISE_SIZE / 8];

	if (!noise[0]) {
		uint64_t x = 0x9E3779B97F4A7C15ULL;
		for (unsigned i = 0; i < NOISE_SIZE / 8; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			noise[i] = x;
		}
	}
	memcpy(m->c->data, (const uint8_t *)noise + maker_below(m, 65536), DATA_SIZE);
}

/* Which descriptors may a register hold? SS: writable data alone. In modes without types a register other than CS has none of code, which could not be
 * written on the processor. */
static uint16_t random_selector(struct maker *m, unsigned seg)
{
	bool protected_mode = m->c->kind == KIND_PROTECTED;

	for (;;) {
		uint16_t selector = diff_selector(m->c->kind, maker_below(m, diff_selector_count(m->c->kind)));
		const struct diff_segment *s = diff_segment(selector);
		bool code = s->type & AR_CODE, writable = !code && (s->type & AR_WRITABLE), readable = !code || (s->type & AR_READABLE);
		if (seg == SEG_CS ? code : seg == SEG_SS || !protected_mode ? writable : readable)
			return selector;
	}
}

static void random_segments(struct maker *m)
{
	uint16_t *seg = m->c->in.seg;

	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) seg[i] = m->c->kind ? random_selector(m, i) : i == SEG_CS ? CODE3 : DATA3;
	if (m->c->kind || maker_below(m, 4))
		return;
	if (maker_below(m, 3) == 0)
		seg[SEG_CS] = random_selector(m, SEG_CS);
	/* From 16-bit code, flat data is mostly out of reach. */
	bool reaches = diff_segment(seg[SEG_CS])->big;
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) {
		if (i != SEG_CS && (reaches ? maker_below(m, 2) == 0 : maker_below(m, 8)))
			seg[i] = random_selector(m, i);
	}
}

/* Mostly in the first of the two pages; now and then near its end, so that an instruction goes on in the second, or near the limit. */
static uint32_t random_place(struct maker *m, const struct diff_segment *cs)
{
	uint32_t eip = CODE_BASE - cs->base + (maker_below(m, 16) ? maker_below(m, 0x200) : 0x1000 - maker_below(m, 24));

	return eip > cs->limit ? cs->limit - maker_below(m, 24) : eip;
}

void maker_random_state(struct maker *m, enum diff_kind kind, uint64_t seed)
{
	struct diff_state *in = &m->c->in;

	memset(m->c, 0, offsetof(struct diff_case, data));
	m->c->kind = kind;
	m->random = seed * 0x9E3779B97F4A7C15ULL + 0x1234567 + ((uint64_t)kind << 50);
	if (!m->random)
		m->random = 1;
	for (unsigned i = 0; i < 16; i++) maker_next(m);
	for (unsigned i = 0; i < 8; i++) in->gpr[i] = maker_interesting(m);
	random_data(m);
	random_fpu(m);
	random_segments(m);
	in->eflags = maker_next(m) & (EFL_ARITH | (maker_below(m, 16) ? 0 : EFL_TF) | (maker_below(m, 16) ? 0 : EFL_AC));
	/* Real mode checks no alignment. */
	if (kind == KIND_REAL)
		in->eflags &= ~EFL_AC;
	in->eip = random_place(m, diff_segment(in->seg[SEG_CS]));
	m->c->direct = (uint8_t)maker_below(m, kind == KIND_PROTECTED ? 3 : 2);
	m->want_modrm = m->want_sib = m->want_reg = m->want_override = m->extra_prefix = -1;
	m->override = SEG_COUNT;
}
