/* Calls of `mov r, [esp]; ret`, by which position-independent code learns where it is, and which the monitor does in place: loops of them made of a seed, with
 * thunks that change, that lie in other pages or over their ends, whose page goes, comes back or is another, and with stacks at the edge of a page or on the
 * thunk itself. Each is run once more with single steps, one instruction at a time; border_test.py compares with a monitor that does none of them in place. */
#include "random.h"

#define CALLER 0x1800000u /* the loop; then two pages of thunks, another frame for the first of these, and data */
#define THUNKS 0x1801000u
#define OTHER 0x1803000u
#define COUNTER 0x1804000u
#define PAGES 4u
#define SWITCH 0x40u /* INT: the page of thunks becomes the next of the case's list */
#define SWITCHES 8u
#define CASES 480u
#define ROUNDS 2u
#define TURNS 12u
#define STACK_BELOW 0x200u /* of the boundary: what the loops reach */
#define STACK_ABOVE 0x800u
#define MOST_STEPS 3000u /* what was changed may run for ever: such a case is left out */

static const u32 places[] = {
	CALLER + 0xF00, CALLER + 0xFFC, THUNKS + 0x10, THUNKS + 0x14, THUNKS + 0x102, THUNKS + 0xFF8, THUNKS + 0xFFD, THUNKS + 0x1020,
};
#define PLACES (sizeof places / sizeof *places)

struct thunk_case {
	struct state state;
	u8 code[224];
	u32 length, thunks[PLACES], other[PLACES]; /* as the pages hold them, and as the other frame does */
	u32 mapped[SWITCHES], stack_page;
};

static struct thunk_case the_case;
static u32 switches, steps, left_out, ended_by[256];

static bool one_in(u32 n)
{
	return below(n) == 0;
}

static u32 thunk_of(u32 reg)
{
	return 0xC324048B | reg << 11;
}

/* `mov r, [esp]; ret`, most of the time; else what is nearly so, or does something else. */
static u32 some_thunk(void)
{
	static const u32 others[] = {0xC3909090, 0xC3909040, 0xC390525A, 0xC324048A, 0xC324448B, 0xCB24048B, 0x0B0F0B0F, 0xC324248B};
	return one_in(5) ? others[below(sizeof others / sizeof *others)] : thunk_of((4 + 1 + below(7)) & 7);
}

static void put(struct thunk_case *c, u8 byte)
{
	c->code[c->length++] = byte;
}

static void put_word(struct thunk_case *c, u32 word)
{
	for (u32 i = 0; i < 4; i++) put(c, (u8)(word >> 8 * i));
}

static u32 here(const struct thunk_case *c)
{
	return c->state.eip + c->length;
}

/* The return address may be run as code, but not as PUSHF, which shows single steps. */
static void put_call(struct thunk_case *c)
{
	if (((here(c) + 5) & 0xFF) == 0x9C) put(c, 0x90);
	put(c, 0xE8);
	put_word(c, places[below(PLACES)] - (here(c) + 4));
}

/* A byte of a thunk, or all of it; at times with what is there already. */
static void put_store(struct thunk_case *c)
{
	u32 n = below(PLACES), i = below(4), word = one_in(3) ? c->thunks[n] : some_thunk();
	bool whole = one_in(2);
	put(c, whole ? 0xC7 : 0xC6);
	put(c, 5);
	put_word(c, places[n] + (whole ? 0 : i));
	if (whole) put_word(c, word);
	else put(c, (u8)(word >> 8 * i));
}

static void put_unit(struct thunk_case *c)
{
	switch (below(12)) {
	case 0: put_store(c); break;
	case 1:
		put(c, 0xCD);
		put(c, SWITCH);
		break;
	case 2: /* flags that the call keeps: add eax, imm32; lahf */
		put(c, 0x05);
		put_word(c, next() & 0x7F7F7F7F);
		put(c, 0x9F);
		break;
	case 3: put(c, (u8)(0x50 + below(8))); break;
	case 4: put(c, 0x5A); break;
	default: put_call(c);
	}
}

static void make_code(struct thunk_case *c)
{
	c->length = 0;
	memset(c->code, 0xCC, sizeof c->code);
	for (u32 units = 1 + below(8); units; units--) put_unit(c);
	put(c, 0xFF); /* dec dword [COUNTER]; jnz */
	put(c, 0x0D);
	put_word(c, COUNTER);
	put(c, 0x0F);
	put(c, 0x85);
	put_word(c, 0u - (c->length + 4));
	put(c, 0xCD);
	put(c, RUN_DONE);
}

static void make(struct thunk_case *c)
{
	static const u32 frames[] = {THUNKS | P | W | U, THUNKS | P | W | U, OTHER | P | W | U, THUNKS | P | U, THUNKS | P | W, 0};
	u32 changing = below(3);
	memset(c, 0, sizeof *c);
	for (u32 i = 0; i < PLACES; i++) {
		c->thunks[i] = changing ? some_thunk() : thunk_of((4 + 1 + below(7)) & 7);
		c->other[i] = some_thunk();
	}
	for (u32 i = 0; i < SWITCHES; i++) c->mapped[i] = frames[i ? below(6) : one_in(4) ? below(6) : 0];
	c->state = state_at((void *)(CALLER + (one_in(4) ? 0xE00 : below(0xC00))), 3);
	c->state.esp = (u32)user_stack + 4096 + (one_in(3) ? below(16) * 4 : 0x400) + 2 * one_in(8);
	if (one_in(8)) c->state.esp = places[below(PLACES)] + 4 + below(8);
	c->stack_page = one_in(2) ? P | W | U : one_in(2) ? P | U : one_in(2) ? P | W : 0;
	c->state.eflags |= next() & EFLAGS_ARITH;
	make_code(c);
}

/* --- running them --- */

static void map_thunks(void)
{
	pte_set(THUNKS, the_case.mapped[switches++ % SWITCHES]);
}

static void on_switch(struct trap_frame *f)
{
	(void)f;
	map_thunks();
}

static void on_step(struct trap_frame *f)
{
	if (++steps < MOST_STEPS) return;
	f->eip = (u32)code_put(0x100, (const u8[]){CODE_DONE}, 2);
	f->eflags &= ~EFLAGS_TF;
}

/* By string instructions: loops would be most of what a monitor runs that goes the long way at each branch. */
static void fill(void *to, u32 word, u32 size)
{
	u32 count = size / 4;
	__asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(word) : "memory");
}

static void store(u32 at, const void *from, u32 size)
{
	u32 count = size / 4, other = at;
	const void *rest = from;
	bool same;
	__asm__ volatile("repe cmpsl" : "+S"(rest), "+D"(other), "+c"(count), "=@cce"(same) : : "memory");
	count = size / 4;
	if (!same) __asm__ volatile("rep movsl" : "+S"(from), "+D"(at), "+c"(count) : : "memory");
}

static void set_memory(const struct thunk_case *c)
{
	static u8 page[4096] __attribute__((aligned(4)));
	for (u32 p = 0; p < PAGES; p++) {
		u32 base = CALLER + p * 4096, moved = base == OTHER ? OTHER - THUNKS : 0;
		fill(page, 0xCCCCCCCC, sizeof page);
		for (u32 i = 0; i < PLACES; i++)
			for (u32 k = 0; k < 4; k++)
				if (places[i] + moved + k - base < 4096) page[places[i] + moved + k - base] = (u8)((moved ? c->other : c->thunks)[i] >> 8 * k);
		if (base == CALLER) memcpy(page + (c->state.eip - base), c->code, sizeof c->code);
		store(base, page, sizeof page);
	}
	fill(user_stack, 0xA5A5A5A5, sizeof user_stack);
	*(volatile u32 *)COUNTER = TURNS;
}

static u32 mix(u32 digest, const void *from, u32 size)
{
	for (const u32 *at = from; size; size -= 4) digest = (digest ^ *at++) * 0x01000193;
	return digest;
}

/* All that the run left behind. */
static u32 outcome(struct state *s)
{
	u32 page = *pte_of(THUNKS), digest;
	pte_set(THUNKS, THUNKS | P | W | U);
	pte_set((u32)user_stack, (u32)user_stack | P | W | U);
	s->eflags &= ~EFLAGS_TF;
	if (s->vector != 14) s->cr2 = 0;
	digest = mix(mix(0x811C9DC5, s, sizeof *s), &page, sizeof page);
	digest = mix(digest, &switches, sizeof switches);
	for (u32 i = 0; i < PLACES; i++) digest = mix(digest, (void *)(places[i] - 8), 20);
	digest = mix(digest, (void *)the_case.state.eip, sizeof the_case.code);
	digest = mix(digest, (void *)COUNTER, 4);
	return mix(digest, user_stack + 4096 - STACK_BELOW, STACK_BELOW + STACK_ABOVE);
}

static u32 run_case(const struct thunk_case *c, u32 flags)
{
	struct state s = c->state;
	s.eflags |= flags;
	set_memory(c);
	switches = 0;
	map_thunks();
	pte_set((u32)user_stack, c->stack_page ? (u32)user_stack | c->stack_page : 0);
	run(&s);
	ended_by[s.vector & 0xFF]++;
	return outcome(&s);
}

void guest_main(void)
{
	u32 wrong = 0;
	random_begin();
	paging_enable();
	for (u32 low = 0; low < 0x100000; low += 4096) pte_set(low, 0); /* what is there differs between machines */
	idt_set(SWITCH, (u32)(trap_stubs + 16 * SWITCH), CODE0, 0xEE);
	trap_handle(SWITCH, on_switch);
	trap_handle(1, on_step);
	warm_up();
	for (u32 i = 0; i < CASES; i++) {
		make(&the_case);
		steps = 0;
		u32 digest = run_case(&the_case, EFLAGS_TF);
		if (steps < MOST_STEPS) {
			for (u32 round = 0; round < ROUNDS; round++)
				if (run_case(&the_case, 0) != digest && !wrong++) print("# the first that differs is case %u\n", i);
		} else {
			left_out++;
		}
		if (i % 8 == 0) print("# case %u:", i);
		print(i % 8 == 7 ? " %x\n" : " %x", digest);
	}
	check_equal("not as one instruction at a time", wrong, 0);
	check("nearly all end", left_out < CASES / 50);
	check("a fifth runs to its end", ended_by[RUN_DONE] > (ROUNDS + 1) * CASES / 5);
	check("others end by #PF", ended_by[14] > CASES / 20);
}
