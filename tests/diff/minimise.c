/* Make a failing case smaller: fewer instructions, simpler registers, less memory, as long as it fails. */
#include <string.h>

#include "base/abi.h"
#include "base/x86.h"
#include "diff.h"
#include "translator/translator.h"

struct minimiser {
	struct diff_case *c;
	diff_fails_fn *fails;
	void *ctx;
	bool changed;
};

/* Keep the change that `smaller` is, if it still fails. */
static bool attempt(struct minimiser *m, const struct diff_case *smaller)
{
	if (!memcmp(smaller, m->c, sizeof(*smaller)) || !diff_is_runnable(smaller) || !m->fails(m->ctx, smaller))
		return false;
	*m->c = *smaller;
	m->changed = true;
	return true;
}

static uint32_t length_at(const struct diff_case *c, uint32_t at)
{
	uint32_t mode = MODE_SS32 | MODE_PE | 3 | (diff_segment(c->in.seg[SEG_CS])->big ? MODE_CS32 : 0);
	uint32_t length = translator_length(c->code + at, c->length - at, mode);

	return length ? length : 1;
}

static void cut(struct diff_case *c, uint32_t at, uint32_t length)
{
	memmove(c->code + at, c->code + at + length, c->length - at - length);
	memset(c->code + c->length - length, 0, length);
	c->length -= length;
}

/* An instruction out altogether; or, where branches go over it, NOPs in its place. */
static void drop_instructions(struct minimiser *m)
{
	struct diff_case smaller;

	for (uint32_t at = 0, length; at < m->c->length; at += length) {
		length = length_at(m->c, at);
		smaller = *m->c;
		cut(&smaller, at, length);
		if (smaller.length && attempt(m, &smaller)) {
			length = 0;
			continue;
		}
		smaller = *m->c;
		memset(smaller.code + at, 0x90, length);
		attempt(m, &smaller);
	}
}

/* Prefixes, and what an instruction does not need. */
static void drop_bytes(struct minimiser *m)
{
	struct diff_case smaller;

	for (uint32_t at = 0; at < m->c->length;) {
		smaller = *m->c;
		cut(&smaller, at, 1);
		if (!smaller.length || !attempt(m, &smaller))
			at++;
	}
}

static void drop_tail(struct minimiser *m)
{
	struct diff_case smaller;

	for (uint32_t at = 0; at < m->c->length;) {
		at += length_at(m->c, at);
		if (at >= m->c->length)
			break;
		smaller = *m->c;
		cut(&smaller, at, smaller.length - at);
		if (attempt(m, &smaller))
			break;
	}
}

static void simplify_word(struct minimiser *m, size_t at, uint32_t usual, uint32_t size)
{
	struct diff_case smaller = *m->c;

	memcpy((uint8_t *)&smaller + at, &usual, size);
	attempt(m, &smaller);
}

/* Registers that no case has set are not the same everywhere: the difference must be there without what they hold. */
static bool needs_fpu(struct minimiser *m)
{
	struct diff_case smaller = *m->c;

	smaller.in.ftw = 0;
	memset(smaller.in.st, 0, sizeof(smaller.in.st));
	memset(smaller.in.xmm, 0, sizeof(smaller.in.xmm));
	return !m->fails(m->ctx, &smaller);
}

static void simplify_fpu(struct minimiser *m)
{
	struct diff_case smaller = *m->c;

	if (!needs_fpu(m)) {
		smaller.fpu = false;
		attempt(m, &smaller);
	}
	simplify_word(m, offsetof(struct diff_case, in.fcw), 0x37F, 2);
	simplify_word(m, offsetof(struct diff_case, in.fsw), 0, 2);
	simplify_word(m, offsetof(struct diff_case, in.ftw), 0, 1);
	simplify_word(m, offsetof(struct diff_case, in.mxcsr), 0x1F80, 4);
	for (unsigned i = 0; i < 8; i++) {
		smaller = *m->c;
		memset(smaller.in.st[i], 0, 10);
		attempt(m, &smaller);
		smaller = *m->c;
		memset(smaller.in.xmm[i], 0, 16);
		attempt(m, &smaller);
	}
}

/* The code stays where it is. */
static void flatten(struct minimiser *m, unsigned seg)
{
	struct diff_case smaller = *m->c;

	if (seg == SEG_CS)
		smaller.in.eip += diff_segment(smaller.in.seg[SEG_CS])->base;
	smaller.in.seg[seg] = seg == SEG_CS ? CODE3 : DATA3;
	attempt(m, &smaller);
}

/* The same bytes in flat 32-bit code. */
static void protect(struct minimiser *m)
{
	struct diff_case smaller = *m->c;

	smaller.kind = KIND_PROTECTED;
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) smaller.in.seg[i] = i == SEG_CS ? CODE3 : DATA3;
	smaller.in.eip = CODE_BASE;
	attempt(m, &smaller);
}

static void simplify_registers(struct minimiser *m)
{
	for (unsigned i = 0; i < 8; i++) simplify_word(m, offsetof(struct diff_case, in.gpr) + 4 * i, 0, 4);
	if (m->c->kind != KIND_PROTECTED)
		protect(m);
	for (unsigned i = 0; i < DIFF_SEGMENTS && m->c->kind == KIND_PROTECTED; i++) flatten(m, i);
	for (uint32_t bit = 1; bit < 1u << 22; bit <<= 1)
		simplify_word(m, offsetof(struct diff_case, in.eflags), m->c->in.eflags & ~bit, 4);
	simplify_word(m, offsetof(struct diff_case, direct), 0, 1);
	if (m->c->in.seg[SEG_CS] == CODE3)
		simplify_word(m, offsetof(struct diff_case, in.eip), CODE_BASE, 4);
}

/* Zero ever smaller pieces. */
static void simplify_data(struct minimiser *m)
{
	struct diff_case smaller;

	for (uint32_t size = DATA_SIZE; size > 0; size /= 2) {
		for (uint32_t at = 0; at < DATA_SIZE; at += size) {
			smaller = *m->c;
			memset(smaller.data + at, 0, size);
			attempt(m, &smaller);
		}
	}
}

void diff_minimise(struct diff_case *c, diff_fails_fn *fails, void *ctx)
{
	struct minimiser m = {.c = c, .fails = fails, .ctx = ctx};

	do {
		m.changed = false;
		drop_tail(&m);
		drop_instructions(&m);
		drop_bytes(&m);
		simplify_fpu(&m);
		simplify_registers(&m);
		simplify_data(&m);
	} while (m.changed);
}
