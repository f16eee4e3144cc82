/* --verify: runs the reference before each block, compares after it, reports the first difference. */
#include "runtime/verify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/disasm.h"
#include "base/log.h"
#include "runtime/internal.h"
#include "runtime/verify_private.h"

#define CODE_ROOM 4096u
#define FCW_MASKS 0x3Fu
#define MXCSR_MASKS 0x1F80u
#define FSW_TOP 0x3800u
#define FSW_STACK_FAULT 0x40u
#define REAL_FRAME 6u /* bytes: IP, CS, FLAGS */
#define MIN_ROUNDS 256u
#define MAX_ROUNDS 65536u

/* A block is compared each of its first times, and then now and again: what is hot is right or wrong early. */
#define ALWAYS 4096u
#define EVERY 32u
#define COUNTERS 65536u

struct verify {
	struct runtime *r;
	struct reference *reference;
	struct runtime_observer observer;
	FILE *report;
	uint64_t blocks, compared, partial, skipped;
	uint32_t times[COUNTERS]; /* by address and mode */
	bool failed;

	/* The block at hand. */
	bool due, comparable;
	uint16_t task;    /* TR before it */
	uint8_t code[CODE_ROOM];
	uint32_t code_length;
	struct verify_insn insns[VERIFY_MAX_INSNS];
	uint32_t count;   /* instructions decoded, up to and with the one that the reference must not run */
	uint32_t planned; /* of these, for the reference to run */
	struct reference_state start, ours, theirs;
	uint32_t steps;
	uint32_t rounds_done; /* of a repeated instruction that faulted there */
	uint32_t rounds;  /* that the reference may run of a repeated instruction */
	bool cut, misaligned, over_itself;
	enum reference_end end;
	uint32_t undefined;
	bool inexact, fpu, sse;
	bool uses_undefined; /* an instruction did what flags said that were undefined; a branch at the end is not meant, see is_open_branch() */
};

/* The guest's x87 state and MXCSR are live in the host's registers, which the reference may not run with. AMD's processors have the pointers to the last
 * instruction in FXSAVE's image only while an exception is pending: else they are in the environment, which may be loaded then. */
struct fpu_guard {
	_Alignas(16) uint8_t image[512];
	uint32_t environment[7];
};

static void guard_enter(struct fpu_guard *g)
{
	static const uint32_t mxcsr = 0x1F80;

	__asm__ volatile("fxsave64 %0; fnstenv %1; fninit; ldmxcsr %2" : "=m"(g->image), "=m"(g->environment) : "m"(mxcsr));
}

static void guard_leave(const struct fpu_guard *g)
{
	__asm__ volatile("fxrstor64 %0" : : "m"(g->image)
			 : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
			   "xmm13", "xmm14", "xmm15");
	if (!cpu_x87_pending())
		__asm__ volatile("fldenv %0" : : "m"(g->environment));
}

static void take_state(struct reference_state *s, const struct vcpu *v, const struct fpu_guard *g)
{
	memcpy(s->gpr, v->gpr, sizeof(s->gpr));
	s->eip = v->eip;
	s->flags = v->flags | (v->df_flag ? EFL_DF : 0);
	s->system_flags = (v->if_flag ? EFL_IF : 0) | (v->eflags & (EFL_IOPL | EFL_NT | EFL_AC | EFL_VIF | EFL_VIP | EFL_ID));
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		s->base[i] = v->seg[i].base;
		s->limit[i] = v->seg[i].limit;
		s->selector[i] = v->seg[i].selector;
	}
	s->user = v->cpl == 3;
	s->aligned = v->mode & MODE_AC;
	s->code16 = !(v->mode & MODE_CS32);
	s->stack16 = !(v->mode & MODE_SS32);
	memcpy(s->xmm, v->xmm, sizeof(s->xmm));
	memcpy(&s->fcw, g->image, 2);
	memcpy(&s->fsw, g->image + 2, 2);
	memcpy(&s->mxcsr, g->image + 24, 4);
	s->empty = (uint8_t)~g->image[4];
	for (unsigned i = 0; i < 8; i++) memcpy(s->st[i], g->image + 32 + 16 * i, 10);
}

static bool is_conditional_branch(const struct verify_insn *insn)
{
	return insn->branches && verify_flags_deciding(insn);
}

/* Does what comes behind `insn` depend on flags that were undefined before it? Each processor has its own then: Unicorn leaves them after DIV, and real
 * ones do not. `pushed`: PUSHF has stored such. */
static bool depends_on_undefined(const struct verify_insn *insn, uint32_t undefined, bool pushed)
{
	return (verify_flags_deciding(insn) & undefined && !is_conditional_branch(insn)) || (insn->pops && pushed);
}

/* Decode the block; false if it is beyond the reference. */
static bool plan(struct verify *f, const struct vcpu *v, const struct block *b)
{
	uint32_t offset = 0;
	bool pushed = false;

	f->code_length = reference_read_code(f->reference, b->gva, f->code, CODE_ROOM, v->cpl == 3);
	f->count = f->planned = 0;
	f->undefined = 0;
	f->inexact = f->fpu = f->sse = f->uses_undefined = false;
	if ((v->mode & MODE_TF) || b->instructions > VERIFY_MAX_INSNS || MODE_SEG(v->mode, SEG_DS) == MODE_SEG_GENERAL ||
	    MODE_SEG(v->mode, SEG_ES) == MODE_SEG_GENERAL || MODE_SEG(v->mode, SEG_SS) == MODE_SEG_GENERAL)
		return false;
	for (uint32_t i = 0; i < b->instructions; i++) {
		struct verify_insn *insn = &f->insns[i];
		if (!verify_decode(f->code + offset, f->code_length - offset, v->eip + offset, v, insn)) {
			insn->stops = insn->transfers = true; /* #UD */
			f->count = i ? i + 1 : 0;
			break;
		}
		offset += insn->length;
		f->count++;
		if (insn->stops)
			break;
		f->planned++;
		f->uses_undefined |= depends_on_undefined(insn, f->undefined, pushed);
		pushed |= insn->opcode == 0x9C && f->undefined;
		f->undefined = verify_undefined_flags(insn, f->undefined);
		f->inexact |= insn->inexact;
		f->fpu |= insn->fpu;
		f->sse |= insn->sse;
	}
	return f->count > 0;
}

static bool is_due(struct verify *f, const struct block *b)
{
	uint32_t *times = &f->times[((b->gva ^ b->gva >> 16) + b->mode * 31) % COUNTERS];

	++*times;
	return *times <= ALWAYS || *times % EVERY == 0;
}

/* A repeated instruction that stores over its own bytes: whether its next round is fetched anew is the processor's affair (the same one does either way,
 * by count and direction), and Unicorn fetches. And a misaligned store over the block: Unicorn begins the instruction anew when it comes to a byte of
 * code, with those before it stored already. */
static bool stores_over_itself(const struct verify *f)
{
	uint32_t count;
	const struct reference_store *stores = reference_stores(f->reference, &count);
	const struct verify_insn *last = &f->insns[f->count - 1];
	gva_t base = f->start.base[SEG_CS];

	for (uint32_t i = 0; i < count; i++) {
		const struct verify_insn *insn = &f->insns[stores[i].step];
		bool misaligned = stores[i].gva & (stores[i].size - 1);
		if (insn->rep && reference_stores_over(&stores[i], base + insn->eip, insn->length))
			return true;
		if (misaligned && reference_stores_over(&stores[i], base + f->start.eip, last->eip + last->length - f->start.eip))
			return true;
	}
	return false;
}

static void before(void *ctx, struct vcpu *v, const struct block *b)
{
	struct verify *f = ctx;
	struct fpu_guard guard;

	f->blocks++;
	f->due = is_due(f, b);
	if (!f->due)
		return;
	f->compared++;
	guard_enter(&guard);
	take_state(&f->start, v, &guard);
	reference_forget(f->reference);
	f->task = v->tr.selector;
	/* The reference has no SMAP. */
	f->comparable = !(v->cr4 & CR4_SMAP) && plan(f, v, b);
	if (f->comparable) {
		f->end = reference_run(f->reference, &f->start, f->insns, f->count, f->planned, 0);
		f->theirs = *reference_state(f->reference);
		f->steps = reference_steps(f->reference);
		f->rounds_done = reference_rounds(f->reference);
		f->cut = reference_was_cut(f->reference);
		f->misaligned = reference_was_misaligned(f->reference);
		f->over_itself = stores_over_itself(f);
	}
	guard_leave(&guard);
}

/* What differs, as text; 0 length: nothing. */
struct difference {
	char text[2048];
	size_t length;
	uint32_t gprs;
};

static void note(struct difference *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct difference *d, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	int n = vsnprintf(d->text + d->length, sizeof(d->text) - d->length, format, args);
	va_end(args);
	d->length += (size_t)n;
	if (d->length >= sizeof(d->text))
		d->length = sizeof(d->text) - 1;
}

static const char *const gpr_names[] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};

/* The flags that the code we go on at may still read: a landing pad may have used the others. */
static uint32_t live_flags(struct verify *f)
{
	const struct vcpu *v = runtime_vcpu(f->r);
	uint8_t code[128];
	uint32_t length = reference_read_code(f->reference, v->seg[SEG_CS].base + v->eip, code, sizeof(code), v->cpl == 3), offset = 0;
	uint32_t live = 0, unknown = EFL_ARITH;

	for (unsigned i = 0; i < 8 && unknown; i++) {
		struct verify_insn insn;
		uint32_t read, written;
		if (!verify_decode(code + offset, length - offset, v->eip + offset, v, &insn))
			break;
		verify_flag_use(&insn, &read, &written);
		live |= read & unknown;
		unknown &= ~(read | written);
		offset += insn.length;
	}
	return live | unknown;
}

/* An MMX register's other bits are ones on the processor, and what they were in Unicorn. */
static bool st_equal(const uint8_t *ours, const uint8_t *theirs)
{
	return !memcmp(ours, theirs, ours[8] == 0xFF && ours[9] == 0xFF ? 8 : 10);
}

static void compare_fpu(struct difference *d, const struct reference_state *ours, const struct reference_state *theirs)
{
	/* The reference does all that a masked exception does, and that alone. */
	if (~ours->fcw & FCW_MASKS)
		return;
	if ((ours->fsw ^ theirs->fsw) & FSW_TOP)
		note(d, "  x87 status %04x, reference %04x\n", ours->fsw, theirs->fsw);
	if (ours->fcw != theirs->fcw)
		note(d, "  x87 control %04x, reference %04x\n", ours->fcw, theirs->fcw);
	/* It knows no stack faults. */
	for (unsigned i = 0; i < 8 && !(ours->fsw & FSW_STACK_FAULT); i++) {
		unsigned physical = (i + (ours->fsw >> 11)) & 7;
		if ((ours->empty >> physical & 1) || st_equal(ours->st[i], theirs->st[i]))
			continue;
		uint64_t a, b;
		memcpy(&a, ours->st[i], 8);
		memcpy(&b, theirs->st[i], 8);
		note(d, "  st%u %02x%02x %016llx, reference %02x%02x %016llx\n", i, ours->st[i][9], ours->st[i][8], (unsigned long long)a,
		     theirs->st[i][9], theirs->st[i][8], (unsigned long long)b);
	}
}

static void compare_state(struct verify *f, struct difference *d, const struct reference_state *theirs, uint32_t gprs_ignored,
			  uint32_t flags_ignored, bool eip_too)
{
	const struct reference_state *ours = &f->ours;

	if (eip_too && ours->eip != theirs->eip)
		note(d, "  eip %08x, reference %08x\n", ours->eip, theirs->eip);
	for (unsigned i = 0; i < 8; i++) {
		if (ours->gpr[i] == theirs->gpr[i] || (gprs_ignored >> i & 1))
			continue;
		note(d, "  %s %08x, reference %08x\n", gpr_names[i], ours->gpr[i], theirs->gpr[i]);
		d->gprs |= 1u << i;
	}
	uint32_t flags = (ours->flags ^ theirs->flags) & (EFL_ARITH | EFL_DF) & ~flags_ignored;
	if (flags && flags & (live_flags(f) | EFL_DF))
		note(d, "  flags %04x, reference %04x (undefined %04x)\n", ours->flags, theirs->flags, flags_ignored);
	for (unsigned i = 0; i < 8 && f->sse && !f->inexact && !(~ours->mxcsr & MXCSR_MASKS); i++) {
		uint64_t a[2], b[2];
		memcpy(a, ours->xmm[i], 16);
		memcpy(b, theirs->xmm[i], 16);
		if (a[0] != b[0] || a[1] != b[1])
			note(d, "  xmm%u %016llx%016llx, reference %016llx%016llx\n", i, (unsigned long long)a[1], (unsigned long long)a[0],
			     (unsigned long long)b[1], (unsigned long long)b[0]);
	}
	if (f->fpu && !f->inexact)
		compare_fpu(d, ours, theirs);
}

static uint32_t undefined_before(const struct verify *f, uint32_t step)
{
	uint32_t undefined = 0;

	for (uint32_t i = 0; i < step; i++) undefined = verify_undefined_flags(&f->insns[i], undefined);
	return undefined;
}

static bool is_pushed_flags(const struct verify *f, const struct reference_store *store)
{
	return store->step < f->count && f->insns[store->step].opcode == 0x9C;
}

/* The frame of an exception that real mode delivered, on the stack that the block ran on. */
static bool is_in_frame(const struct verify *f, const struct reference_store *store)
{
	const struct vcpu *v = runtime_vcpu(f->r);
	uint32_t sp = v->gpr[ESP] & 0xFFFF;

	return !(v->mode & MODE_PE) && store->gva - (v->seg[SEG_SS].base + sp) < REAL_FRAME;
}

static void compare_memory(struct verify *f, struct difference *d)
{
	uint32_t count, shown = 0;
	struct reference_store *stores = reference_stores(f->reference, &count);

	for (uint32_t i = 0; i < count && shown < 8; i++) {
		uint64_t now = 0;
		memcpy(&now, stores[i].at, stores[i].size);
		if (is_pushed_flags(f, &stores[i]) && !((now ^ stores[i].after) & ~(uint64_t)undefined_before(f, stores[i].step)))
			continue;
		/* A and D bits: the monitor's walks set them in tables that the block writes, as a processor would. */
		if (is_in_frame(f, &stores[i]) || now == stores[i].after || ((now ^ stores[i].after) & ~0x60ULL) == 0)
			continue;
		if (f->inexact && stores[i].size > 4)
			continue;
		note(d, "  memory %08x (%u bytes, step %u) %llx, reference %llx\n", stores[i].gva, stores[i].size, stores[i].step,
		     (unsigned long long)now, (unsigned long long)stores[i].after);
		shown++;
	}
}

/* Run the reference again, for `steps` instructions only, and compare with that. */
static void compare_at(struct verify *f, struct difference *d, uint32_t steps, uint32_t iterations, uint32_t gprs_ignored, uint32_t flags_ignored,
		       bool eip_too)
{
	reference_rewind(f->reference);
	reference_run(f->reference, &f->start, f->insns, f->count, steps, iterations);
	reference_forward(f->reference);
	struct reference_state theirs = *reference_state(f->reference);
	compare_state(f, d, &theirs, gprs_ignored, flags_ignored | undefined_before(f, steps), eip_too);
	compare_memory(f, d);
}

static const struct verify_insn *insn_at(const struct verify *f, uint32_t eip, uint32_t *index)
{
	for (uint32_t i = 0; i < f->count; i++) {
		if (f->insns[i].eip == eip) {
			*index = i;
			return &f->insns[i];
		}
	}
	return NULL;
}

/* Run no more rounds of a repeated instruction than the monitor does at a time, about. */
static void adapt_rounds(struct verify *f, uint32_t rounds)
{
	if (rounds > f->rounds || rounds < f->rounds / 4)
		f->rounds = rounds < MIN_ROUNDS ? MIN_ROUNDS : rounds > MAX_ROUNDS / 2 ? MAX_ROUNDS : rounds + rounds / 4;
	reference_set_rounds(f->reference, f->rounds);
}

/* The block was left before its end: by a kick, by a store into its own code, by a repeated string instruction's round. */
static void compare_partial(struct verify *f, struct vcpu *v, struct difference *d)
{
	uint32_t index;
	const struct verify_insn *insn = insn_at(f, v->eip, &index);

	f->partial++;
	if (!insn || index > f->steps) {
		note(d, "  eip %08x, reference %08x\n", f->ours.eip, f->theirs.eip);
		compare_state(f, d, &f->theirs, 0, f->undefined, false);
		return;
	}
	/* LODS may have loaded, and loads again. */
	bool loads = insn->opcode == 0xAC || insn->opcode == 0xAD;
	compare_at(f, d, index, 0, (insn->rep ? 1u << ECX | 1u << ESI | 1u << EDI : 0) | (loads ? 1u << EAX : 0), 0, true);
	if (!insn->rep || d->length)
		return;
	uint32_t rounds = reference_state(f->reference)->gpr[ECX] - v->gpr[ECX];
	if (rounds && rounds <= f->rounds)
		compare_at(f, d, index + 1, rounds, 0, 0, true);
	adapt_rounds(f, rounds);
}

/* The reference may have half-done what faults. A repeated instruction has done whole rounds before, as many here as there, and leaves the flags as they
 * were before it (vol. 2, REP). */
static void compare_raised(struct verify *f, struct vcpu *v, struct difference *d, const struct verify_insn *insn, uint32_t ignored)
{
	bool accumulates = insn->opcode == 0xAC || insn->opcode == 0xAD;
	uint32_t done = f->rounds_done;

	compare_at(f, d, f->steps, 0, ignored | (insn->rep && accumulates ? 1u << EAX : 0), 0, false);
	if (!insn->rep || d->length)
		return;
	uint32_t rounds = reference_state(f->reference)->gpr[ECX] - v->gpr[ECX];
	if (rounds != done && v->eip != insn->eip)
		note(d, "  %u rounds of the instruction at %08x before it faults, reference %u\n", rounds, insn->eip, done);
	else if (rounds && rounds <= done)
		compare_at(f, d, f->steps + 1, rounds, 1u << ESP, EFL_ARITH, false);
}

/* What the reference could not run did something, perhaps gone elsewhere: compare what came before it, less what it may have changed. */
static void compare_stopped(struct verify *f, struct vcpu *v, struct difference *d)
{
	const struct verify_insn *insn = &f->insns[f->steps];
	bool raised = f->end == REFERENCE_FAULTS;
	bool next = v->eip == insn->eip || v->eip == insn->eip + insn->length;
	uint32_t ignored = raised ? 0 : insn->gpr_changed;

	/* What is no callout may have run inline, and the block gone on with what it did. */
	if (f->end == REFERENCE_DEVICE || (!next && !raised && !insn->transfers)) {
		f->skipped++;
		return;
	}
	if (!next)
		ignored |= 1u << ESP;
	if (insn->rep)
		ignored |= 1u << ECX | 1u << ESI | 1u << EDI;
	uint32_t index;
	if (insn_at(f, v->eip, &index) && index < f->steps) {
		compare_partial(f, v, d);
		return;
	}
	if (raised && v->eip == insn->eip + insn->length)
		note(d, "  went past an instruction that faults in the reference, at %08x: %s\n", insn->eip, reference_why(f->reference));
	uint32_t undefined = undefined_before(f, f->steps);
	/* FXRSTOR and its kind change what is not compared then. */
	if (!raised && (insn->fpu || insn->opcode == 0x1AE))
		f->fpu = f->sse = false;
	bool flags_too = raised || !insn->flags_changed;
	if (raised) {
		compare_raised(f, v, d, insn, ignored);
		return;
	}
	compare_state(f, d, &f->theirs, ignored, flags_too ? undefined : EFL_ARITH | EFL_DF, false);
}

static void print_state(FILE *out, const char *name, const struct reference_state *s)
{
	fprintf(out, "%s:\n  eip %08x flags %04x\n ", name, s->eip, s->flags);
	for (unsigned i = 0; i < 8; i++) fprintf(out, " %s %08x", gpr_names[i], s->gpr[i]);
	fputc('\n', out);
}

static enum disasm_mode guest_mode(const struct verify *f)
{
	return f->start.code16 ? DISASM_16 : DISASM_32;
}

/* Step the reference through the block, to say which instruction last wrote each register that differs. */
static void print_steps(struct verify *f, uint32_t gprs)
{
	struct reference_state last = f->start;

	fprintf(f->report, "the reference, step by step (* writes a register that differs):\n");
	reference_rewind(f->reference);
	for (uint32_t i = 0; i < f->steps; i++) {
		reference_run(f->reference, &f->start, f->insns, f->count, i + 1, 0);
		const struct reference_state *s = reference_state(f->reference);
		const struct verify_insn *insn = &f->insns[i];
		bool marked = false;
		char changes[256] = "";
		size_t n = 0;
		for (unsigned j = 0; j < 8; j++) {
			if (s->gpr[j] == last.gpr[j])
				continue;
			n += (size_t)snprintf(changes + n, sizeof(changes) - n, " %s=%08x", gpr_names[j], s->gpr[j]);
			marked |= gprs >> j & 1;
		}
		fprintf(f->report, "%c flags=%04x%s\n  ", marked ? '*' : ' ', s->flags, changes);
		disasm_print(f->report, f->code + (insn->eip - f->start.eip), insn->length, insn->eip, guest_mode(f));
		last = *s;
	}
	reference_forward(f->reference);
}

static void print_report(struct verify *f, const struct block *b, const struct difference *d)
{
	fprintf(f->report, "verify: block %llu at %08x (mode %08x, %u instructions) differs from the reference:\n%s",
		(unsigned long long)f->blocks, b->gva, b->mode, b->instructions, d->text);
	print_state(f->report, "before", &f->start);
	print_state(f->report, "after", &f->ours);
	print_state(f->report, "reference", &f->theirs);
	print_steps(f, d->gprs);
	fprintf(f->report, "guest code:\n");
	disasm_print(f->report, f->code, f->insns[f->count - 1].eip + f->insns[f->count - 1].length - f->start.eip, b->eip, guest_mode(f));
	fprintf(f->report, "host code:\n");
	disasm_print(f->report, (const uint8_t *)(uintptr_t)b->host_pc, b->host_length, b->host_pc, DISASM_64);
	fflush(f->report);
}

/* Real mode's frame of an exception lies where the block has popped from, and the reference, run again, reads it there. */
static bool reads_frame(const struct verify *f, const struct vcpu *v)
{
	bool popped = false;

	for (uint32_t i = 0; i < f->steps; i++) popped |= f->insns[i].pops;
	return popped && f->end == REFERENCE_FAULTS && !(v->mode & MODE_PE);
}

static uint32_t branch_target(const struct verify *f, const struct verify_insn *insn)
{
	uint32_t size = insn->opcode < 0x100 ? 1 : insn->word ? 2 : 4, next = insn->eip + insn->length, by = 0;

	memcpy(&by, f->code + (next - f->start.eip) - size, size);
	if (size == 1)
		by = (uint32_t)(int8_t)by;
	return insn->word ? (next + by) & 0xFFFF : next + by;
}

/* The block ends in a branch on a flag that is undefined: it may go either way, and no other; all else is compared. */
static bool is_open_branch(const struct verify *f)
{
	const struct verify_insn *last = &f->insns[f->count - 1];

	return f->planned == f->count && is_conditional_branch(last) && (verify_flags_deciding(last) & f->undefined);
}

static bool goes_either_way(const struct verify *f, uint32_t eip)
{
	const struct verify_insn *last = &f->insns[f->count - 1];

	return is_open_branch(f) && (eip == last->eip + last->length || eip == branch_target(f, last));
}

/* A branch there is #GP, which the reference does not know. */
static bool may_leave_limit(const struct verify *f)
{
	uint32_t limit = f->start.limit[SEG_CS];

	return f->theirs.eip > limit || (is_open_branch(f) && branch_target(f, &f->insns[f->count - 1]) > limit);
}

static bool after(void *ctx, struct vcpu *v, const struct block *b)
{
	struct verify *f = ctx;
	struct fpu_guard guard;
	struct difference d = {.length = 0};

	if (!f->due)
		return true;
	/* A task switch brings every register, and the reference does none. */
	if (!f->comparable || f->task != v->tr.selector) {
		f->skipped++;
		return true;
	}
	guard_enter(&guard);
	take_state(&f->ours, v, &guard);
	uint32_t index;
	if (f->cut && (!insn_at(f, v->eip, &index) || index >= f->steps)) {
		f->skipped++;
		adapt_rounds(f, f->rounds * 2);
	} else if (f->cut) {
		compare_partial(f, v, &d);
	} else if (may_leave_limit(f)) {
		f->skipped++;
	} else if (f->end != REFERENCE_LIMIT || f->planned < f->count) {
		compare_stopped(f, v, &d);
	} else if (v->eip != f->theirs.eip && !goes_either_way(f, v->eip)) {
		compare_partial(f, v, &d);
	} else {
		compare_state(f, &d, &f->theirs, 0, f->undefined, false);
		compare_memory(f, &d);
		/* A block that ends where it may also be left early: the loop's head, say. */
		if (d.length && insn_at(f, v->eip, &index)) {
			struct difference other = {.length = 0};
			compare_partial(f, v, &other);
			if (!other.length)
				d.length = 0;
		}
	}
	if (d.length && (f->misaligned || f->over_itself || f->uses_undefined || reads_frame(f, v))) {
		f->skipped++;
	} else if (d.length) {
		f->failed = true;
		print_report(f, b, &d);
	}
	guard_leave(&guard);
	return !f->failed;
}

static void io_read(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	/* The reference stops before every port access, so that it needs no value; the log says what the guest saw. */
	(void)ctx;
	LOG(LOG_RUNTIME, LOG_TRACE, "verify: in port %x size %u value %x", port, size, value);
}

int verify_create(struct verify **out, struct runtime *r, FILE *report, char *why, size_t why_size)
{
	struct verify *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->r = r;
	f->report = report;
	int error = reference_create(&f->reference, runtime_shadow(r), runtime_ram(r), r->ram_size, r->ram_fd, why, why_size);
	if (error) {
		free(f);
		return error;
	}
	adapt_rounds(f, MIN_ROUNDS);
	f->observer = (struct runtime_observer){.ctx = f, .before = before, .after = after, .io_read = io_read};
	runtime_set_observer(r, &f->observer);
	*out = f;
	return 0;
}

void verify_destroy(struct verify *v)
{
	if (!v)
		return;
	runtime_set_observer(v->r, NULL);
	reference_destroy(v->reference);
	free(v);
}

bool verify_failed(const struct verify *v)
{
	return v->failed;
}

void verify_print_summary(const struct verify *v, FILE *out)
{
	fprintf(out, "verify: %llu blocks, %llu compared, %llu of them left early, %llu not comparable, %s\n", (unsigned long long)v->blocks,
		(unsigned long long)v->compared, (unsigned long long)v->partial, (unsigned long long)v->skipped, v->failed ? "a difference" : "no difference");
}
