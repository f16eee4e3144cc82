/* The side table against the real processor: translated instructions run one host instruction at a time, and wherever a kick or a fault
 * might stop them, dispatch_undo must give a state that lies between two guest instructions. The states between are those of the same
 * instructions translated one by one. BT_VMM_FUZZ_SEED and BT_VMM_FUZZ_COUNT (500 blocks) choose the random part. */
#include <errno.h>
#include <stdio.h>

#include "base/callout.h"
#include "base/disasm.h"
#include "host_step.h"
#include "rows_table.h"
#include "runtime/internal.h"
#include "tests/shim/test.h"
#include "translator/emit.h"
#include "translator_fixture.h"

#define GUEST_MAX 64u
#define BOUNDARIES_MAX 64u

/* What the guest can see. */
struct guest_state {
	uint32_t gpr[8], eip, flags;
	uint8_t if_flag, df_flag;
	uint8_t ram[STEP_RAM_SIZE];
};

static uint32_t mode; /* of what is being looked at */
static struct guest_state boundary[BOUNDARIES_MAX];
static unsigned boundaries;

struct subject {
	const char *name;
	uint8_t bytes[GUEST_MAX];
	uint32_t length, used, instructions, mode, cs_base, cs_end;
	bool checked;   /* entered as from another page */
	bool faultless; /* all its addresses are in RAM */
};

static uint32_t start_of(const struct subject *s) { return STEP_CODE_AT - s->cs_base; }

static bool translate(const struct subject *s, uint32_t eip, uint32_t instructions)
{
	struct translator_input in = fixture_input(s->bytes + (eip - start_of(s)), s->length - (eip - start_of(s)), s->mode);

	mode = s->mode;
	in.eip = eip;
	in.cs_base = s->cs_base;
	in.cs_end = s->cs_end;
	in.max_instructions = instructions;
	in.joins = true;
	in.pad = !s->checked;
	in.check = s->checked;
	in.gfn = STEP_CODE_GFN;
	in.stubs = step_stubs();
	in.code = step_machine.code;
	in.code_pc = (host_pc_t)step_machine.code;
	if (translator_translate(&in, &fixture_out))
		return false;
	return true;
}

static const struct side_row *row_at(uint32_t offset)
{
	const struct side_row *found = &fixture_out.rows[0];

	for (uint32_t i = 0; i < fixture_out.row_count && fixture_out.rows[i].host_offset <= offset; i++)
		found = &fixture_out.rows[i];
	return found;
}

static uint32_t flags_of(const struct step_state *s) { return (uint32_t)s->regs.rflags & EFL_ARITH; }

/* What the monitor makes of a host state, by its own code. */
static void undo(const struct step_state *s, const struct side_row *row, struct guest_state *g)
{
	struct vcpu *v = step_machine.v;

	for (unsigned i = 0; i < 8; i++)
		v->gpr[i] = (uint32_t)s->regs.r[i == ESP ? R13 : i];
	for (unsigned i = 0; i < 4; i++)
		v->scratch[i] = s->regs.r[R8 + i];
	v->flags = flags_of(s);
	v->spill = s->spill;
	v->df_flag = s->df_flag;
	v->mode = mode;
	dispatch_undo(v, row);
	memcpy(g->gpr, v->gpr, sizeof(g->gpr));
	g->eip = v->eip;
	g->flags = v->flags;
	g->if_flag = s->if_flag;
	g->df_flag = s->df_flag;
	memcpy(g->ram, s->ram, sizeof(g->ram));
}

/* How a run ended: in which stub, with what for C, and what the guest's state is. */
struct ending {
	enum { ENDS_FAULT, ENDS_CHAIN, ENDS_LOOKUP, ENDS_CALLOUT, ENDS_SOFT } how;
	uint32_t argument[3];
	struct guest_state g;
};

/* The state with which the block was left: the slot's target is where to go on. */
static struct side_row slot_row(const struct step_state *left)
{
	uint64_t offset = left->regs.rip - (uint64_t)step_machine.code;
	struct side_row row = {0};

	for (uint32_t i = 0; i < fixture_out.slot_count; i++)
		if (fixture_out.slots[i].rel32_offset - offset <= 2)
			row.eip = fixture_out.slots[i].target;
	return row;
}

/* The row where the lookup begins behind one of whose instructions this offset is. */
static struct side_row lookup_row(uint64_t offset)
{
	struct side_row row = {0};

	for (uint32_t i = 0; i < fixture_out.row_count && fixture_out.rows[i].host_offset < offset; i++)
		if ((fixture_out.rows[i].access & (ROW_READ | ROW_WRITE)) && !(fixture_out.rows[i].access & ROW_SOFT))
			row = fixture_out.rows[i];
	return row;
}

static void find_ending(struct ending *e)
{
	static struct step_state last;
	last = step_machine.states[step_machine.count - 1];
	uint64_t pc = last.regs.rip - (step_stubs().chain - 0x100), return_address;
	struct side_row row = {.undo = UNDO_TARGET_R8};

	memset(e, 0, sizeof(*e));
	if (step_machine.end != STEP_STUB)
		return;
	e->how = pc >= 0x500 ? ENDS_SOFT : pc >= 0x400 ? ENDS_CALLOUT : pc >= 0x200 ? ENDS_LOOKUP : ENDS_CHAIN;
	if (pc == 0x280 || pc == 0x380 || e->how == ENDS_SOFT)
		last.regs.r[RCX] = last.regs.r[R10];
	if (e->how == ENDS_CHAIN)
		row = slot_row(&step_machine.states[step_machine.count - 2]);
	if (e->how == ENDS_SOFT) {
		memcpy(&return_address, (const void *)last.regs.r[RSP], sizeof(return_address));
		row = lookup_row(return_address - (uint64_t)step_machine.code);
	}
	if (e->how == ENDS_CALLOUT) {
		row = (struct side_row){.eip = last.eip};
		for (unsigned i = 0; i < 3; i++)
			e->argument[i] = (uint32_t)last.regs.r[R8 + i];
	}
	undo(&last, &row, &e->g);
}

static void start_from(const struct guest_state *g)
{
	static struct step_state s;

	memset(&s, 0, sizeof(s));
	for (unsigned i = 0; i < 8; i++)
		s.regs.r[i == ESP ? R13 : i] = g->gpr[i] + (i == ESP ? (uint64_t)step_machine.window : 0);
	for (unsigned i = R8; i <= R11; i++)
		s.regs.r[i] = 0x5C5C5C5C5C5C5C5Cull;
	s.regs.r[R8] = g->eip; /* for the pad */
	s.regs.r[RSP] = (uint64_t)step_machine.stack + PAGE_SIZE / 2;
	s.regs.rip = (uint64_t)step_machine.code;
	s.regs.rflags = g->flags;
	s.if_flag = g->if_flag;
	s.df_flag = g->df_flag;
	memcpy(s.ram, g->ram, sizeof(s.ram));
	step_run(&s);
}

/* The states between the instructions: each is translated and run by itself, as far as control stays within the block. */
static void find_boundaries(const struct subject *s, const struct guest_state *start)
{
	boundary[0] = *start;
	boundaries = 1;
	if (!translate(s, start_of(s), s->instructions))
		return;
	uint32_t end = start_of(s) + fixture_out.guest_length;
	while (boundaries < BOUNDARIES_MAX) {
		const struct guest_state *g = &boundary[boundaries - 1];
		static struct ending e;
		if (g->eip < start_of(s) || g->eip >= end || !translate(s, g->eip, 1))
			return;
		start_from(g);
		find_ending(&e);
		if (e.how == ENDS_CALLOUT && CALLOUT_ID(e.argument[1]) == CALLOUT_sti) {
			/* By itself it is C's. */
			e.g.if_flag = 1;
			e.g.eip += CALLOUT_LEN(e.argument[1]);
		} else if (e.how != ENDS_CHAIN && e.how != ENDS_LOOKUP) {
			return;
		}
		boundary[boundaries++] = e.g;
	}
}

static bool same(const struct guest_state *a, const struct guest_state *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static bool is_boundary(const struct guest_state *g)
{
	for (unsigned i = 0; i < boundaries; i++)
		if (same(g, &boundary[i]))
			return true;
	return false;
}

static bool holds_interrupts(const struct side_row *row)
{
	return row->undo == UNDO_SHADOW || row->undo == UNDO_SHADOW_RCX || row->undo == UNDO_SHADOW_RAX;
}

/* What an interrupt in between would show; of memory no more than that the instruction has begun to store. */
static bool shows_as(const struct guest_state *g, const struct guest_state *between)
{
	return g->flags == between->flags && !memcmp(g->gpr, between->gpr, sizeof(g->gpr));
}

/* A state in the middle of an instruction that begins anew: fine where the second run gives what the first would have, and where an interrupt that may
 * come before it finds registers and flags as they were. */
static bool is_restartable(const struct subject *s, const struct guest_state *g, bool held)
{
	static struct ending first, second;

	for (unsigned i = 0; i < boundaries; i++) {
		if (g->eip != boundary[i].eip || g->gpr[ESP] != boundary[i].gpr[ESP] || !(held || shows_as(g, &boundary[i])) || !translate(s, g->eip, 1))
			continue;
		start_from(&boundary[i]);
		find_ending(&first);
		start_from(g);
		find_ending(&second);
		/* POPF's callout replaces the flags. */
		if (first.how == ENDS_CALLOUT && CALLOUT_ID(first.argument[1]) == CALLOUT_popf)
			first.g.flags = second.g.flags;
		if (first.how != ENDS_FAULT && !memcmp(&first, &second, sizeof(first)))
			return true;
	}
	return false;
}

static void print_state(const char *what, const struct guest_state *g)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < STEP_RAM_SIZE; i++)
		sum = sum * 31 + g->ram[i];
	printf("  %-9s eip %08x eax %08x ecx %08x edx %08x ebx %08x esp %08x ebp %08x esi %08x edi %08x flags %03x if %u df %u ram %08x\n", what,
	       g->eip, g->gpr[0], g->gpr[1], g->gpr[2], g->gpr[3], g->gpr[4], g->gpr[5], g->gpr[6], g->gpr[7], g->flags, g->if_flag,
	       g->df_flag, sum);
}

static void report(const struct subject *s, unsigned at, const struct guest_state *g)
{
	uint32_t offset = (uint32_t)(step_machine.states[at].regs.rip - (uint64_t)step_machine.code);
	const struct side_row *row = row_at(offset);

	FAIL("%s: stopped at host offset %#x, the state lies between no two instructions (mode %08x; row %#x: undo %u, esp %d, eip %x)", s->name,
	     offset, s->mode, row->host_offset, row->undo, row->esp * 4, row->eip);
	disasm_print(stdout, s->bytes, s->used, start_of(s), DISASM_32);
	disasm_print(stdout, step_machine.code, fixture_out.code_length, 0, DISASM_64);
	print_state("stopped", g);
	for (unsigned i = 0; i < boundaries; i++)
		print_state("boundary", &boundary[i]);
}

/* Nobody may come between STI and the instruction behind it. */
static void check_shadow(const struct subject *s, const struct side_row *row, const struct guest_state *g)
{
	bool behind_sti = s->bytes[0] == 0xFB && boundaries > 1 && same(g, &boundary[1]);

	if (behind_sti && !holds_interrupts(row))
		FAIL("%s: at host offset %#x an interrupt could come behind STI (mode %08x; undo %u)", s->name, row->host_offset, s->mode, row->undo);
}

/* The first state from `from` on that lies between no two instructions; or -1. */
static int find_partial(const struct subject *s, const struct guest_state *start, unsigned from, struct guest_state *g)
{
	if (!translate(s, start_of(s), s->instructions))
		return -1;
	start_from(start);
	/* In 16-bit code [EBP] is [BP] of a stack that may be a 32-bit one. */
	bool mixed = !(s->mode & MODE_CS32) != !(s->mode & MODE_SS32);
	bool divide_error = step_machine.end == STEP_FAULT && step_machine.signal == SIGFPE;
	if (s->faultless && !mixed && step_machine.end != STEP_STUB && !divide_error)
		FAIL("%s: an access to where the guest has none (mode %08x)", s->name, s->mode);
	for (unsigned i = from; i < step_machine.count; i++) {
		uint64_t offset = step_machine.states[i].regs.rip - (uint64_t)step_machine.code;
		if (offset >= fixture_out.code_length)
			continue;
		undo(&step_machine.states[i], row_at((uint32_t)offset), g);
		check_shadow(s, row_at((uint32_t)offset), g);
		/* A loop may go on where the list of boundaries ends. */
		if (boundaries == BOUNDARIES_MAX && same(g, &boundary[BOUNDARIES_MAX - 1]))
			return -1;
		if (!is_boundary(g))
			return (int)i;
	}
	return -1;
}

/* Every state that the block passes through. */
static bool check_subject(const struct subject *s, const struct guest_state *start)
{
	static struct guest_state g;

	find_boundaries(s, start);
	for (int i = find_partial(s, start, 0, &g); i >= 0; i = find_partial(s, start, (unsigned)i + 1, &g)) {
		uint64_t offset = step_machine.states[i].regs.rip - (uint64_t)step_machine.code;
		if (is_restartable(s, &g, holds_interrupts(row_at((uint32_t)offset))))
			continue;
		find_partial(s, start, (unsigned)i, &g);
		report(s, (unsigned)i, &g);
		return false;
	}
	return true;
}

/* --- the guest's state at the start --- */

static uint64_t seed;

static uint32_t pick(uint32_t below) { return (uint32_t)(fixture_random(&seed) >> 20) % below; }

static void random_state(const struct subject *s, struct guest_state *g)
{
	for (unsigned i = 0; i < 8; i++)
		g->gpr[i] = STEP_RAM_AT + PAGE_SIZE / 2 + pick(PAGE_SIZE);
	g->gpr[ESP] = STEP_RAM_AT + PAGE_SIZE + (pick(4) ? 4 * pick(64) : pick(16));
	g->gpr[ECX] = pick(3) ? g->gpr[ECX] : pick(3);
	g->eip = start_of(s);
	g->flags = (uint32_t)fixture_random(&seed) & EFL_ARITH;
	g->if_flag = (uint8_t)pick(2);
	g->df_flag = (uint8_t)pick(2);
	for (unsigned i = 0; i < STEP_RAM_SIZE; i += 8) {
		uint64_t r = fixture_random(&seed);
		memcpy(g->ram + i, &r, 8);
	}
}

static const uint32_t forms[] = {
	MODE_FLAT, MODE_FLAT | MODE_SOFT, MODE_USER | MODE_WITH_SEG(SEG_DS, MODE_SEG_BASE) | MODE_WITH_SEG(SEG_SS, MODE_SEG_BASE),
	MODE_USER | MODE_SOFT | MODE_WITH_SEG(SEG_DS, MODE_SEG_BASE), MODE_TRAP, MODE_AT_0, MODE_AT_0 | MODE_WITH_SEG(SEG_DS, MODE_SEG_BASE),
};

/* 16-bit code and stacks, and limits: the same bytes mean something else then. */
static const uint32_t narrow_forms[] = {
	MODE_REAL, MODE_REAL | MODE_SOFT, MODE_V86, MODE_SMALL | MODE_SS32, MODE_SMALL | MODE_CS32 | MODE_SOFT, MODE_USER | MODE_ALL_SEGS(MODE_SEG_LIMIT),
};

static void set_data_segment(enum seg seg, bool wide)
{
	step_machine.v->seg[seg].base = wide ? 0 : STEP_RAM_AT;
	step_machine.v->seg[seg].limit = STEP_RAM_SIZE - 1 + (wide ? STEP_RAM_AT : 0);
}

static void use_window(uint32_t form)
{
	step_machine.window = form & MODE_LOW ? NULL : step_machine.high;
}

static void set_form(struct subject *s, uint32_t form)
{
	struct vcpu *v = step_machine.v;
	bool limited = MODE_SEG(form, SEG_CS) == MODE_SEG_LIMIT;

	use_window(form);
	s->mode = form;
	s->cs_base = limited ? STEP_CODE_AT & ~0xFFFFu : 0;
	s->cs_end = limited ? 0x10000 : 0;
	if (limited) {
		set_data_segment(SEG_ES, form & MODE_CS32);
		set_data_segment(SEG_DS, form & MODE_CS32);
		set_data_segment(SEG_SS, form & MODE_SS32);
		return;
	}
	v->seg[SEG_ES].base = 0;
	v->seg[SEG_DS].base = 0x400;
	v->seg[SEG_SS].base = 0x800;
}

static void check_in_forms(struct subject *s, const uint32_t *list, size_t count)
{
	static struct guest_state g;

	for (size_t f = 0; f < count && !test_has_failed(); f++) {
		if ((list[f] & MODE_LOW) && !step_has_low)
			continue;
		set_form(s, list[f]);
		s->checked = pick(2);
		random_state(s, &g);
		check_subject(s, &g);
	}
}

static void check_in_all_forms(struct subject *s, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		check_in_forms(s, forms, ARRAY_LEN(forms));
		for (unsigned k = 0; k < 2; k++)
			check_in_forms(s, &narrow_forms[pick(ARRAY_LEN(narrow_forms))], 1);
	}
}

/* --- each expansion by itself --- */

static void check_each(const struct sample *samples_of, size_t count)
{
	step_setup();
	seed = 1;
	for (size_t i = 0; i < count; i++) {
		const struct sample *sample = &samples_of[i];
		struct subject s = {.name = sample->name, .length = GUEST_MAX, .instructions = sample->instructions,
				    .faultless = strncmp(sample->name, "16-bit code", 11) != 0};
		memset(s.bytes, 0x90, GUEST_MAX);
		memcpy(s.bytes, sample->bytes, s.used = sample->length);
		check_in_all_forms(&s, 6);
	}
}

TEST(translator_rows, each_expansion)
{
	check_each(samples, ARRAY_LEN(samples));
}

/* --- flags of ADD and SUB of ESP that nobody sees, and R13 brought up to date before compare-and-branch --- */

static const struct sample unseen_flags[] = {
	{"sub esp, 16; cmp eax, ecx; jz", {0x83, 0xEC, 0x10, 0x39, 0xC8, 0x74, 0x20}, 7, 3},
	{"add esp, 16; test eax, eax; pop ecx", {0x83, 0xC4, 0x10, 0x85, 0xC0, 0x59}, 6, 3},
	{"add esp, 3; xor eax, eax", {0x83, 0xC4, 0x03, 0x31, 0xC0}, 5, 2},
	{"push eax; sub esp, 4; cmp eax, 1; jbe over the next; push ecx; pop edx",
	 {0x50, 0x83, 0xEC, 0x04, 0x83, 0xF8, 0x01, 0x76, 0x01, 0x51, 0x5A}, 11, 6},
	{"push eax; cmp eax, [esp]; jz; pop ecx", {0x50, 0x3B, 0x04, 0x24, 0x74, 0x20, 0x59}, 7, 4},
	{"sti; sub esp, 4; test eax, eax", {0xFB, 0x83, 0xEC, 0x04, 0x85, 0xC0}, 6, 3},
	{"mov ecx, 3; sub esp, 4; sub ecx, 1; jnz to the one before", {0xB9, 3, 0, 0, 0, 0x83, 0xEC, 0x04, 0x83, 0xE9, 0x01, 0x75, 0xFB}, 13, 4},
	{"mov ecx, 3; sub esp, 4; sub ecx, 1; jnz to the one before that", {0xB9, 3, 0, 0, 0, 0x83, 0xEC, 0x04, 0x83, 0xE9, 0x01, 0x75, 0xF8}, 13, 4},
};

TEST(translator_rows, unseen_flags)
{
	check_each(unseen_flags, ARRAY_LEN(unseen_flags));
}

/* --- random sequences of them --- */

TEST(translator_rows, random_sequences)
{
	uint64_t count = fixture_setting("BT_VMM_FUZZ_COUNT", 500);

	step_setup();
	seed = fixture_setting("BT_VMM_FUZZ_SEED", 0xD1B54A32D192ED03ull);
	for (uint64_t n = 0; n < count && !test_has_failed(); n++) {
		struct subject s = {.name = "random sequence", .length = GUEST_MAX};
		uint32_t length = 0;
		memset(s.bytes, 0x90, GUEST_MAX);
		for (unsigned i = 1 + pick(5); i-- > 0;) {
			const struct sample *sample = &samples[pick(ARRAY_LEN(samples))];
			if (s.instructions + sample->instructions >= BOUNDARIES_MAX || length + sample->length > GUEST_MAX - 8)
				break;
			memcpy(s.bytes + length, sample->bytes, sample->length);
			length += sample->length;
			s.instructions += sample->instructions;
		}
		s.used = length;
		check_in_all_forms(&s, 1);
	}
}

/* --- landing pads: what a host return comes to, with the guest's return address in R8D --- */

static const struct sample behind_calls[] = {
	{"flags dead behind the call", {0xE8, 0x10, 0, 0, 0, 0x01, 0xC8, 0x50, 0x59}, 9, 4},
	{"flags live behind the call", {0xE8, 0x10, 0, 0, 0, 0x11, 0xC8, 0x50, 0x59}, 9, 4},
	{"an indirect call", {0xFF, 0xD0, 0x11, 0xC8, 0x50, 0x59}, 6, 4},
	{"a call into another page", {0xE8, 0x10, 0x10, 0, 0, 0x50, 0x59}, 7, 3},
	{"a 16-bit indirect call", {0x66, 0xFF, 0xD0, 0x50, 0x59}, 5, 3},
};

/* Let the call push its pad, then begin there. */
static bool enter_pad(const struct subject *s, const struct guest_state *g)
{
	static struct step_state at;
	uint64_t pad;

	struct guest_state start = *g;
	start.eip = start_of(s);
	translate(s, start.eip, s->instructions);
	start_from(&start);
	at = step_machine.states[step_machine.count - 1];
	if (step_machine.end != STEP_STUB)
		return false;
	memcpy(&pad, (void *)at.regs.r[RSP], sizeof(pad));
	at.regs.r[RSP] += 8;
	at.regs.rip = pad;
	at.regs.r[R8] = g->eip;
	for (unsigned i = 0; i < 8; i++)
		at.regs.r[i == ESP ? R13 : i] = g->gpr[i] + (i == ESP ? (uint64_t)step_machine.window : 0);
	memcpy(at.ram, g->ram, sizeof(at.ram));
	at.regs.rflags = g->flags;
	step_run(&at);
	return true;
}

static void check_pad(const struct subject *s, uint32_t returns_to, bool meant)
{
	static struct guest_state g, state;

	random_state(s, &g);
	g.gpr[ESP] = STEP_RAM_AT + PAGE_SIZE + 64; /* neither access may miss */
	g.eip = returns_to;
	find_boundaries(s, &g);
	if (!enter_pad(s, &g)) {
		FAIL("%s: the call itself faults", s->name);
		return;
	}
	if (step_machine.trapped != (!meant && (s->mode & MODE_TRAP_PADS)))
		FAIL("%s, mode %08x: a return to %08x %s", s->name, s->mode, returns_to, meant ? "traps" : "does not trap");
	for (unsigned i = 0; i < step_machine.count; i++) {
		uint64_t offset = step_machine.states[i].regs.rip - (uint64_t)step_machine.code;
		if (offset >= fixture_out.code_length)
			continue;
		undo(&step_machine.states[i], row_at((uint32_t)offset), &state);
		/* Dead flags may show (liveness.c). */
		for (unsigned k = 0; k < boundaries; k++)
			if (state.eip == boundary[k].eip)
				state.flags = boundary[k].flags;
		if (!is_boundary(&state)) {
			report(s, i, &state);
			return;
		}
	}
}

TEST(translator_rows, landing_pads)
{
	step_setup();
	seed = 3;
	for (size_t i = 0; i < ARRAY_LEN(behind_calls) * ARRAY_LEN(forms); i++) {
		const struct sample *sample = &behind_calls[i / ARRAY_LEN(forms)];
		struct subject s = {.name = sample->name, .length = GUEST_MAX, .used = sample->length, .instructions = sample->instructions,
				    .checked = i % 2};
		uint32_t call_length = sample->bytes[0] == 0xE8 ? 5 : sample->bytes[0] == 0x66 ? 3 : 2;
		if ((forms[i % ARRAY_LEN(forms)] & MODE_LOW) && !step_has_low)
			continue;
		set_form(&s, forms[i % ARRAY_LEN(forms)]);
		memset(s.bytes, 0x90, GUEST_MAX);
		memcpy(s.bytes, sample->bytes, sample->length);
		if (sample->bytes[0] != 0x66)
			check_pad(&s, STEP_CODE_AT + call_length, true);
		check_pad(&s, STEP_CODE_AT + call_length - 1, false);
		check_pad(&s, STEP_CODE_AT + call_length + 1, false);
		check_pad(&s, STEP_CODE_AT + 0x2345, false);
		check_pad(&s, 0, false);
	}
}
