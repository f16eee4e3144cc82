/* Are two results alike, and if not, where do they differ? */
#include <string.h>

#include "base/disasm.h"
#include "base/x86.h"
#include "diff.h"

static const char *const gpr_names[] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};
static const char *const seg_names[] = {"es", "cs", "ss", "ds", "fs", "gs"};

static bool fpu_equal(const struct diff_state *a, const struct diff_state *b)
{
	return a->fcw == b->fcw && a->fsw == b->fsw && a->ftw == b->ftw && a->mxcsr == b->mxcsr && !memcmp(a->st, b->st, sizeof(a->st)) &&
	       !memcmp(a->xmm, b->xmm, sizeof(a->xmm));
}

static bool exception_equal(const struct diff_state *a, const struct diff_state *b)
{
	return a->eip == b->eip && a->vector == b->vector && a->error == b->error && a->cr2 == b->cr2;
}

/* On its way out to CPL 3, the kernel's IRET makes every null selector 0. */
static bool segments_equal(const struct diff_state *a, const struct diff_state *b)
{
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) {
		if (a->seg[i] != b->seg[i] && ((a->seg[i] | b->seg[i]) & ~3))
			return false;
	}
	return true;
}

/* RF in what a trap between two iterations pushes, which is to start the instruction over: set, says the manual (vol. 3, 17.3.1.1); AMD's
 * processors leave it clear. */
static uint32_t flags_apart(const struct diff_case *c, const struct diff_state *a, const struct diff_state *b)
{
	bool between = a->vector == VEC_DB && b->vector == VEC_DB && a->eip == c->in.eip && b->eip == c->in.eip;
	/* Real mode saves 16 of them. */
	uint32_t lost = c->kind == KIND_REAL ? EFL_RF | EFL_AC : between ? EFL_RF : 0;

	return (a->eflags ^ b->eflags) & EFLAGS_COMPARED & ~lost;
}

bool diff_equal(const struct diff_case *c, const struct diff_result *ours, const struct diff_result *theirs)
{
	const struct diff_state *a = &ours->out, *b = &theirs->out;

	return !memcmp(a->gpr, b->gpr, sizeof(a->gpr)) && segments_equal(a, b) && exception_equal(a, b) &&
	       !(flags_apart(c, a, b) & ~c->flags_ignored) && (!c->fpu || fpu_equal(a, b)) &&
	       !memcmp(ours->data, theirs->data, DATA_SIZE);
}

static void print_bytes(FILE *out, const char *name, unsigned number, const uint8_t *a, const char *who, const uint8_t *b, uint32_t size)
{
	if (!memcmp(a, b, size))
		return;
	fprintf(out, "#   %s%u ", name, number);
	for (uint32_t i = size; i-- > 0;) fprintf(out, "%02x", a[i]);
	fprintf(out, ", %s ", who);
	for (uint32_t i = size; i-- > 0;) fprintf(out, "%02x", b[i]);
	fputc('\n', out);
}

static void print_registers(FILE *out, const struct diff_case *c, const struct diff_state *a, const char *who, const struct diff_state *b)
{
	for (unsigned i = 0; i < 8; i++)
		if (a->gpr[i] != b->gpr[i])
			fprintf(out, "#   %s %08x, %s %08x\n", gpr_names[i], a->gpr[i], who, b->gpr[i]);
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++)
		if (a->seg[i] != b->seg[i])
			fprintf(out, "#   %s %04x, %s %04x\n", seg_names[i], a->seg[i], who, b->seg[i]);
	if (!exception_equal(a, b))
		fprintf(out, "#   vector %u error %x cr2 %08x eip %08x, %s vector %u error %x cr2 %08x eip %08x\n", a->vector, a->error, a->cr2, a->eip,
			who, b->vector, b->error, b->cr2, b->eip);
	if (flags_apart(c, a, b))
		fprintf(out, "#   eflags %08x, %s %08x\n", a->eflags, who, b->eflags);
}

static void print_fpu(FILE *out, const struct diff_state *a, const char *who, const struct diff_state *b)
{
	if (fpu_equal(a, b))
		return;
	fprintf(out, "#   fcw %04x fsw %04x ftw %02x mxcsr %04x, %s fcw %04x fsw %04x ftw %02x mxcsr %04x\n", a->fcw, a->fsw, a->ftw, a->mxcsr, who,
		b->fcw, b->fsw, b->ftw, b->mxcsr);
	for (unsigned i = 0; i < 8; i++) {
		print_bytes(out, "st", i, a->st[i], who, b->st[i], 10);
		print_bytes(out, "xmm", i, a->xmm[i], who, b->xmm[i], 16);
	}
}

static void print_memory(FILE *out, const struct diff_case *c, const struct diff_result *ours, const char *who, const struct diff_result *theirs)
{
	for (uint32_t i = 0, shown = 0; i < DATA_SIZE && shown < 8; i++) {
		if (ours->data[i] == theirs->data[i])
			continue;
		fprintf(out, "#   [%08x] %02x, %s %02x (before %02x)\n", DATA_BASE + i, ours->data[i], who, theirs->data[i], c->data[i]);
		shown++;
	}
}

/* With the INT3 behind a case's code: it may be the end of the last instruction. */
static void print_code(FILE *out, const struct diff_case *c)
{
	struct disasm *d = disasm_open(diff_segment(c->in.seg[SEG_CS])->big ? DISASM_32 : DISASM_16);
	uint8_t code[CODE_MAX + 16];
	char text[128];

	memset(code, 0xCC, sizeof(code));
	memcpy(code, c->code, c->length);
	for (size_t at = 0, length; d && at < c->length; at += length) {
		length = disasm_text(d, code + at, sizeof(code) - at, c->in.eip + at, text, sizeof(text));
		fprintf(out, "#   %08x  %s\n", (unsigned)(c->in.eip + at), text);
	}
	disasm_close(d);
}

void diff_print_difference(FILE *out, const struct diff_case *c, const struct diff_result *ours, const char *who, const struct diff_result *theirs)
{
	fprintf(out, "#   bt-vmm, %s:\n", who);
	print_registers(out, c, &ours->out, who, &theirs->out);
	if (c->fpu)
		print_fpu(out, &ours->out, who, &theirs->out);
	print_memory(out, c, ours, who, theirs);
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++)
		if (c->in.seg[i] != DATA3 && c->in.seg[i] != CODE3)
			fprintf(out, "#   %s: %s\n", seg_names[i], diff_segment(c->in.seg[i])->what);
	print_code(out, c);
}
