/* Random blocks: instructions of any form, addresses that mostly mean something, branches forward, calls and returns. */
#include <stdlib.h>
#include <string.h>

#include "maker.h"
#include "reference.h"

#define LONGEST 48u /* an instruction with the MOVs that settle its registers */
#define MAX_PENDING 4u

/* Branches whose target is the beginning of an instruction that is not there yet. */
struct pending {
	uint32_t at, size; /* of the displacement, or of an absolute address if `absolute` */
	uint32_t skip;     /* instructions */
	bool absolute;
};

struct block {
	struct maker m;
	struct pending pending[MAX_PENDING];
	unsigned pending_count;
};

static void resolve(struct block *b, unsigned i)
{
	struct diff_case *c = b->m.c;
	const struct pending *p = &b->pending[i];
	uint32_t value = p->absolute ? c->in.eip + c->length : c->length - (p->at + p->size);

	memcpy(c->code + p->at, &value, p->size);
	b->pending[i] = b->pending[--b->pending_count];
}

/* Another instruction begins here. */
static void arrive(struct block *b, bool at_end)
{
	for (unsigned i = b->pending_count; i-- > 0;) {
		if (at_end || b->pending[i].skip-- == 0)
			resolve(b, i);
	}
}

/* A place for a target, to be filled in later. */
static void put_target(struct block *b, uint32_t size, bool absolute)
{
	b->pending[b->pending_count++] = (struct pending){b->m.c->length, size, maker_below(&b->m, 4), absolute};
	maker_put(&b->m, 0, size);
}

static void put_branch(struct block *b)
{
	struct maker *m = &b->m;
	unsigned reg = maker_below(m, 8), size = maker_is_code32(m) ? 4 : 2;

	switch (maker_below(m, 10)) {
	case 0: case 1: case 2: maker_put(m, 0x70 | maker_below(m, 16), 1); put_target(b, 1, false); break;
	case 3: case 4: maker_put(m, 0x0F, 1); maker_put(m, 0x80 | maker_below(m, 16), 1); put_target(b, size, false); break;
	/* Unicorn loses flags over LOOPE and LOOPNE. */
	case 5: maker_put(m, m->c->defined ? 0xE2 | maker_below(m, 2) : 0xE0 | maker_below(m, 4), 1); put_target(b, 1, false); break;
	case 6: maker_put(m, 0xE8, 1); put_target(b, size, false); break;
	case 7: maker_put(m, 0xEB, 1); put_target(b, 1, false); break;
	case 8: maker_put(m, 0x68, 1); put_target(b, size, true); maker_put(m, 0xC3, 1); break;
	default:
		if (reg == ESP)
			reg = EAX;
		maker_put(m, 0xB8 | reg, 1);
		put_target(b, size, true);
		maker_put(m, 0xFF, 1);
		maker_put(m, (maker_below(m, 2) ? 0xD0 : 0xE0) | reg, 1);
	}
}

/* How often a form is taken: not those that leave the block for places of their own, and seldom those that end it. LAR loads bits that are undefined. */
enum taken { NEVER, SELDOM, SOMETIMES, ALWAYS };

static enum taken taken(const struct form_template *t)
{
	static const char *const ends[] = {
		"ud2", "hlt", "cli", "sti", "in ", "out ", "into", "int1", "ins", "outs", "rep ins", "rep outs", "clts", "invd", "wbinvd", "invlpg", "lgdt",
		"lidt", "lmsw", "lldt", "ltr", "rdmsr", "wrmsr", "mov cr", "mov dr", "mov r,dr", "mov eax,cr0",
	};

	if (strstr(t->bytes, "rel") || strstr(t->options, "|return") || strstr(t->options, "|target") || strstr(t->options, "|bcd") || strstr(t->options, "|far") || !strcmp(t->name, "lar"))
		return NEVER;
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
		if (!strncmp(t->name, ends[i], strlen(ends[i])))
			return SELDOM;
	}
	return strstr(t->options, "|popf") || strstr(t->options, "|selector") || strstr(t->options, "|string") ? SOMETIMES : ALWAYS;
}

/* For Unicorn: nothing that the manual leaves undefined, nothing where it is known to err. */
static bool is_plain(const struct form_template *t)
{
	static const char *const setups[] = {"|stack", "|xlat", "|string", "|leave", "|enter"};
	const char *setup = strchr(t->options, '|');
	bool known = !setup;

	for (size_t i = 0; setup && i < sizeof(setups) / sizeof(*setups); i++) known |= !strcmp(setup, setups[i]);
	return known && !diff_leaves_undefined(t->name) && !unicorn_errs(t->name);
}

struct trait {
	enum taken taken;
	bool plain;
};

/* What their names say is looked up once. */
static const struct trait *trait_of(uint32_t form)
{
	static struct trait *traits;

	if (!traits) {
		traits = calloc(form_template_count, sizeof(*traits));
		if (!traits)
			abort();
		for (uint32_t i = 0; i < form_template_count; i++) traits[i] = (struct trait){taken(&form_templates[i]), is_plain(&form_templates[i])};
	}
	return &traits[form];
}

static bool fits(struct maker *m, uint32_t form)
{
	switch (trait_of(form)->taken) {
	case NEVER: return false;
	case SELDOM: return maker_below(m, 16) == 0;
	case SOMETIMES: return maker_below(m, 3) == 0;
	default: return true;
	}
}

static void put_any(struct maker *m)
{
	uint32_t form;

	do
		form = maker_below(m, form_template_count);
	while (!fits(m, form) || (m->c->defined && !trait_of(form)->plain));
	if (m->c->length == 0)
		m->c->form = form;
	/* Now and then an address that is whatever the registers hold by then. */
	m->wild = maker_below(m, 12) == 0;
	maker_put_instruction(m, form);
}

void diff_make_block(struct diff_case *c, enum diff_kind kind, uint64_t seed)
{
	struct block b = {.m = {.c = c, .block = true}};

	maker_random_state(&b.m, kind, seed ^ 0xB10CULL << 44);
	if (maker_below(&b.m, 16))
		c->in.eflags &= ~EFL_TF;
	c->defined = (kind == KIND_REAL || diff_is_flat(&c->in)) && maker_below(&b.m, 4) == 0;
	c->in.gpr[ESP] = (maker_pick_data(&b.m) & ~3u) - maker_segment_base(&b.m, SEG_SS);
	for (uint32_t count = 2 + maker_below(&b.m, 16); count > 0 && c->length + LONGEST < CODE_MAX; count--) {
		arrive(&b, false);
		if (b.pending_count < MAX_PENDING && maker_below(&b.m, 6) == 0)
			put_branch(&b);
		else
			put_any(&b.m);
	}
	arrive(&b, true);
}

/* The kind changes from batch to batch: it costs more than a case. */
void diff_make_random(struct diff_case *c, uint64_t seed)
{
	static const enum diff_kind kinds[8] = {KIND_REAL, KIND_V86};
	enum diff_kind kind = kinds[seed / NATIVE_BATCH % 8];
	uint32_t form = (uint32_t)(seed * 0x9E3779B97F4A7C15ULL >> 33) % form_template_count;

	if (seed % 4)
		diff_make_block(c, kind, seed);
	else
		diff_make(c, form, kind, seed);
}
