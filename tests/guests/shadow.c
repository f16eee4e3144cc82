/* Where an interrupt is taken, and where a debug exception: sequences of what sets IF and TF and what holds interrupts off (STI, MOV SS, POP SS, POPF, IRET,
 * SYSENTER, SYSEXIT, HLT), with an interrupt that becomes pending at one place of them, against the manual's rules (vol. 3, 6.8.3 and 6.9). border_test.py compares
 * what happens, too, between the monitor's ways. In a second part interrupts come by themselves, at any time. */
#include "random.h"

#define IRQ0 0x20u
#define PIT_HZ 1193182u
#define RATE 4000u
#define CASES 2000u
#define ROUNDS 3u
#define LOOPS 150u
#define TURNS 3000u
#define MOST 32u
#define WATCHED 0x1800000u /* the selector that MOV SS loads from memory */
#define WATCHED_V86 (V86_DATA + 0x10)
#define UNMASK 0xFEu
#define DR6_B0 1u
#define DR6_BS 0x4000u
#define DR6_SHOWN 0xE00Fu
#define FLAGS_SHOWN (EFLAGS_IF | EFLAGS_TF)
enum { SYSENTER_CS = 0x174, SYSENTER_ESP, SYSENTER_EIP };

enum kind { NOTHING, STI, CLI, LOAD_SS, LOAD_SS_MEMORY, SET_FLAGS, STEP, OUT, SYSENTER, SYSEXIT, HLT, END };
struct insn {
	u8 kind, at, length;
	u32 flags; /* of SET_FLAGS */
};

struct event {
	u32 vector, at, flags, dr6;
};

struct shadow_case {
	struct state state;
	struct insn insns[MOST];
	u32 count, length, turn; /* where a loop ends */
	u8 code[160];
	bool v86, debug, watch, halts, repeats;
	bool open; /* the manual leaves open what one of two such instructions in a row holds off */
	u32 cpl, iopl;
};

static struct event seen[MOST];
static struct event stray; /* the first one */
static u32 seen_count, irqs, late, strayed, misshown;
static bool counting;
static struct shadow_case the_case;
static u64 allowed[4]; /* by offset: an interrupt may be taken before this instruction */
static struct {
	u16 mask, value;
} status[sizeof the_case.code]; /* ditto: what is known of the status flags there */
static u8 kernel_stack[4096] __attribute__((aligned(16)));

/* --- handlers --- */

static u32 origin(void)
{
	return the_case.v86 ? 0 : (u32)code_area;
}

static void note(struct trap_frame *f, u32 dr6)
{
	if (seen_count < MOST) seen[seen_count++] = (struct event){f->vector, f->eip - origin(), f->eflags & FLAGS_SHOWN, dr6};
}

static void on_interrupt(struct trap_frame *f)
{
	u32 at = f->eip - origin();
	if (counting) {
		irqs++;
		bool inside = at < sizeof the_case.code;
		late += !inside; /* in run */
		if (inside && !(allowed[at / 64] >> at % 64 & 1) && !strayed++) stray = (struct event){IRQ0, at, f->eflags & FLAGS_SHOWN, 0};
		misshown += inside && (f->eflags & status[at].mask) != status[at].value;
	} else {
		note(f, 0);
		out8(0x21, 0xFF);
	}
	out8(0x20, 0x20);
}

static void on_debug(struct trap_frame *f)
{
	u32 dr6;
	__asm__ volatile("mov %%dr6, %0; mov %1, %%dr6" : "=&r"(dr6) : "r"(0));
	/* TF is set by run, before it jumps there. */
	if (f->eip != origin() && f->eip - origin() < sizeof the_case.code) note(f, dr6 & DR6_SHOWN);
}

/* --- cases --- */

static void put(struct shadow_case *c, u8 byte)
{
	c->code[c->length++] = byte;
}

static void put_word(struct shadow_case *c, u32 word)
{
	for (u32 i = 0; i < (c->v86 ? 2u : 4u); i++) put(c, (u8)(word >> 8 * i));
}

/* Of the instruction that begins at `at`. */
static void add(struct shadow_case *c, enum kind kind, u32 at)
{
	c->insns[c->count++] = (struct insn){.kind = (u8)kind, .at = (u8)at, .length = (u8)(c->length - at)};
}

static void put_push(struct shadow_case *c, u32 word)
{
	u32 at = c->length;
	put(c, 0x68);
	put_word(c, word);
	add(c, NOTHING, at);
}

static void put_bytes(struct shadow_case *c, enum kind kind, u8 first, u32 second)
{
	u32 at = c->length;
	put(c, first);
	if (second < 0x100) put(c, (u8)second);
	add(c, kind, at);
}
#define ONE(c, kind, byte) put_bytes(c, kind, byte, 0x100)

static u32 some_flags(const struct shadow_case *c)
{
	return 2 | (c->repeats ? next() & EFLAGS_ARITH : 0) | (below(2) ? EFLAGS_IF : 0) | (c->debug && below(3) == 0 ? EFLAGS_TF : 0) | c->iopl << 12;
}

static void put_flags(struct shadow_case *c, u32 flags, bool iret)
{
	put_push(c, flags);
	if (iret) {
		ONE(c, NOTHING, 0x0E); /* push cs */
		/* Behind this one and IRET. */
		put_push(c, origin() + c->length + (c->v86 ? 4 : 6));
	}
	ONE(c, SET_FLAGS, iret ? 0xCF : 0x9D);
	c->insns[c->count - 1].flags = flags;
}

static void put_selector(struct shadow_case *c, u32 selector)
{
	u32 at = c->length;
	put(c, 0xBD); /* mov ebp */
	put_word(c, selector);
	add(c, NOTHING, at);
}

static void put_crossing(struct shadow_case *c, bool in)
{
	put_selector(c, in ? DATA0 : DATA3);
	if (in) {
		u32 at = c->length;
		put(c, 0x0F);
		put(c, 0x34);
		add(c, SYSENTER, at);
		wrmsr(SYSENTER_EIP, origin() + c->length);
	} else {
		put_bytes(c, NOTHING, 0x89, 0xE1); /* mov ecx, esp; mov edx, where it goes on; sysexit */
		u32 at = c->length;
		put(c, 0xBA);
		put_word(c, origin() + c->length + 6);
		add(c, NOTHING, at);
		at = c->length;
		put(c, 0x0F);
		put(c, 0x35);
		add(c, SYSEXIT, at);
	}
}

static void put_stack_step(struct shadow_case *c, u32 modrm)
{
	u32 at = c->length;
	put(c, 0x83);
	put(c, (u8)modrm);
	put(c, 8);
	add(c, STEP, at);
}

static void put_one(struct shadow_case *c, u32 kind)
{
	switch (kind) {
	case 0: ONE(c, STI, 0xFB); break;
	case 1: ONE(c, CLI, 0xFA); break;
	case 2: put_bytes(c, LOAD_SS, 0x8E, 0xD5); break; /* mov ss, bp */
	case 3:
		ONE(c, NOTHING, 0x55);
		ONE(c, LOAD_SS, 0x17);
		break;
	case 4: put_bytes(c, LOAD_SS_MEMORY, 0x8E, c->v86 ? 0x17 : 0x13); break;
	case 5: put_flags(c, some_flags(c), false); break;
	case 6: put_flags(c, some_flags(c), true); break;
	case 7: /* add esp, 8; sub esp, 8 */
		put_stack_step(c, 0xC4);
		put_stack_step(c, 0xEC);
		break;
	default: ONE(c, NOTHING, 0x90);
	}
}

/* IF stays clear up to STI and HLT, so that the interrupt, which is pending by then, is what wakes it. */
static void put_halt(struct shadow_case *c)
{
	for (u32 i = below(3); i > 0; i--) {
		if (below(2)) put_one(c, 1 + below(3));
		else put_flags(c, 2 | c->iopl << 12, below(2));
	}
	put_bytes(c, OUT, 0xE6, 0x21);
	for (u32 i = below(3); i > 0; i--) put_one(c, 1 + below(3));
	ONE(c, NOTHING, 0x90);
	ONE(c, STI, 0xFB);
	ONE(c, HLT, 0xF4);
}

static bool shadows(u32 kind)
{
	return kind == STI || kind == LOAD_SS || kind == LOAD_SS_MEMORY;
}

static void put_code(struct shadow_case *c)
{
	u32 units = 2 + below(4), unmask = c->halts ? units : below(units), crossing = below(3) || c->v86 || c->repeats ? units : below(units);
	bool fixed = c->repeats && !c->iopl; /* IF stays set */
	if (c->repeats && !fixed) ONE(c, CLI, 0xFA);
	if (c->halts) put_halt(c);
	for (u32 i = 0; i < units; i++) {
		if (i == unmask && !c->repeats) put_bytes(c, OUT, 0xE6, 0x21);
		if (i == crossing) put_crossing(c, c->cpl == 3);
		put_one(c, fixed ? 2 + below(7) : below(9));
	}
	for (u32 i = 1; i < c->count; i++) c->open |= shadows(c->insns[i].kind) && shadows(c->insns[i - 1].kind);
	ONE(c, NOTHING, 0x90);
	c->turn = c->length;
	if (c->repeats) {
		ONE(c, NOTHING, 0x4E); /* dec esi; jnz */
		put_bytes(c, NOTHING, 0x75, (u8)-(c->length + 2));
	}
	put_bytes(c, END, 0xCD, RUN_DONE);
}

static void make(struct shadow_case *c, bool repeats)
{
	memset(c, 0, sizeof *c);
	c->repeats = repeats;
	c->v86 = below(4) == 0;
	c->cpl = c->v86 || below(2) ? 3 : 0;
	c->iopl = c->v86 || (repeats && c->cpl == 0) || below(3) ? 3 : 0;
	c->debug = !repeats && below(3) == 0;
	c->watch = c->debug && below(2);
	c->halts = !c->debug && c->cpl == 0 && below(4) == 0;
	put_code(c);
	c->state = c->v86 ? v86_state(c->code, c->length, 3) : state_at(code_put(0, c->code, c->length), c->cpl);
	struct state *s = &c->state;
	if (!c->v86) s->ds = s->es = s->fs = s->gs = DATA3;
	s->eax = UNMASK;
	s->ebp = s->ss;
	s->ebx = c->v86 ? WATCHED_V86 - V86_DATA : WATCHED;
	s->esi = TURNS;
	s->eflags |= c->iopl << 12 | (c->halts || (below(2) && !(repeats && !c->iopl)) ? 0 : EFLAGS_IF) | (c->debug && below(2) ? EFLAGS_TF : 0);
	*(volatile u32 *)WATCHED = *(volatile u32 *)WATCHED_V86 = s->ss;
}

/* --- the manual --- */

static struct event *add_event(struct event *to, u32 *n, u32 vector, u32 at, u32 flags, u32 dr6)
{
	to[*n] = (struct event){vector, at, flags & FLAGS_SHOWN, dr6};
	return &to[(*n)++];
}

/* What comes, in order, and as the last one what ends it. */
static u32 predict(const struct shadow_case *c, struct event *to)
{
	u32 flags = c->state.eflags, cpl = c->cpl, hits = 0, n = 0;
	bool pending = false;
	for (const struct insn *x = c->insns;; x++) {
		bool may = cpl <= c->iopl, stepped = flags & EFLAGS_TF, sti = false, ss = shadows(x->kind) && x->kind != STI;
		u32 behind = x->at + x->length, settable = EFLAGS_TF | (may ? EFLAGS_IF : 0);
		switch (x->kind) {
		case STI:
		case CLI:
			if (!may) {
				add_event(to, &n, 13, x->at, flags, 0);
				return n;
			}
			sti = x->kind == STI && !(flags & EFLAGS_IF);
			flags = x->kind == STI ? flags | EFLAGS_IF : flags & ~EFLAGS_IF;
			break;
		case LOAD_SS:
		case LOAD_SS_MEMORY:
			/* A selector of the other level, where SYSENTER or SYSEXIT came before. */
			if (!c->v86 && x->kind == LOAD_SS_MEMORY && cpl != c->cpl) {
				add_event(to, &n, 13, x->at, flags, 0);
				return n;
			}
			if (x->kind == LOAD_SS_MEMORY && c->watch) hits |= DR6_B0;
			break;
		case SET_FLAGS: flags = (flags & ~settable) | (x->flags & settable); break;
		case OUT: pending = true; break;
		case SYSENTER:
			cpl = 0;
			flags &= ~EFLAGS_IF;
			break;
		case SYSEXIT: cpl = 3; break;
		case END: add_event(to, &n, RUN_DONE, behind, flags, 0); return n;
		default: break;
		}
		/* MOV SS and POP SS hold off everything behind them, and no single step is due there later. */
		if (ss) continue;
		if (stepped) hits |= DR6_BS;
		/* Traps of the instruction come before interrupts; behind the handler STI holds off nothing any more. */
		if (hits) {
			add_event(to, &n, 1, behind, flags, hits);
			hits = 0;
			sti = false;
		}
		if (pending && (flags & EFLAGS_IF) && !sti) {
			add_event(to, &n, IRQ0, behind, flags, 0);
			pending = false;
		}
	}
}

/* --- running them --- */

static void set_timer(u8 mode, u32 count)
{
	out8(0x43, (u8)(0x30 | mode << 1));
	out8(0x40, (u8)count);
	out8(0x40, (u8)(count >> 8));
}

/* Once and for all: the edges of a periodic timer each take back a request that waits, for a moment. */
static void wait_pending(void)
{
	set_timer(0, 10);
	out8(0x20, 0x0A);
	while (!(in8(0x20) & 1)) {
	}
}

static void set_watch(const struct shadow_case *c)
{
	u32 control = c->watch ? 0x401 | 3 << 16 | 1 << 18 : 0x400; /* a word, read or written */
	__asm__ volatile("mov %0, %%dr6; mov %1, %%dr0; mov %2, %%dr7" : : "r"(0), "r"(c->v86 ? WATCHED_V86 : WATCHED), "r"(control));
}

static void run_case(const struct shadow_case *c)
{
	struct state s = c->state;
	seen_count = 0;
	out8(0x21, 0xFF);
	wait_pending();
	set_watch(c);
	run(&s);
	__asm__ volatile("mov %0, %%dr7" : : "r"(0x400));
	seen[seen_count < MOST ? seen_count++ : MOST - 1] = (struct event){s.vector, s.eip - origin(), s.eflags & FLAGS_SHOWN, 0};
}

static u32 mix(u32 digest, const void *from, u32 size)
{
	for (const u8 *at = from; size; size--) digest = (digest ^ *at++) * 0x01000193;
	return digest;
}

static void complain(const struct shadow_case *c, const struct event *expected, u32 count)
{
	print("# cpl %u iopl %u v86 %u watch %u flags 0x%x, code", c->cpl, c->iopl, c->v86, c->watch, c->state.eflags);
	for (u32 i = 0; i < c->length; i++) print(" %x", c->code[i]);
	print("\n# expected");
	for (u32 i = 0; i < count; i++) print(" %x at +%u (%x %x)", expected[i].vector, expected[i].at, expected[i].flags, expected[i].dr6);
	print("\n# came");
	for (u32 i = 0; i < seen_count; i++) print(" %x at +%u (%x %x)", seen[i].vector, seen[i].at, seen[i].flags, seen[i].dr6);
	print("\n");
}

static void test_places(void)
{
	static struct event expected[2 * MOST];
	u32 wrong[3] = {0}, taken = 0, traps = 0, halts = 0;
	for (u32 i = 0; i < CASES; i++) {
		struct shadow_case *c = &the_case;
		make(c, false);
		u32 count = predict(c, expected), digest = 0x811C9DC5;
		for (u32 round = 0; round < ROUNDS; round++) {
			run_case(c);
			digest = mix(digest, seen, seen_count * sizeof *seen);
			bool good = c->open || (count == seen_count && !memcmp(seen, expected, count * sizeof *seen));
			if (!good && !wrong[c->debug + c->watch]++) complain(c, expected, count);
		}
		for (u32 e = 0; e < seen_count; e++) {
			taken += seen[e].vector == IRQ0;
			traps += seen[e].vector == 1;
		}
		halts += c->halts;
		if (i % 8 == 0) print("# case %u:", i);
		print(i % 8 == 7 ? " %x\n" : " %x", digest);
	}
	check_equal("interrupts alone: wrong", wrong[0], 0);
	check_equal("with single steps: wrong", wrong[1], 0);
	check_equal("with a data breakpoint of MOV SS, too: wrong", wrong[2], 0);
	check("interrupts, traps and halts came", taken > CASES / 4 && traps > CASES / 4 && halts > CASES / 100);
}

/* POPF and IRET set the status flags, and steps of ESP to what is not looked at; before the first one they are DEC's, of what is more than 0, or
 * those that the loop began with: 0. */
static void find_status(const struct shadow_case *c)
{
	u32 mask = EFLAGS_ZF | EFLAGS_SF | EFLAGS_OF, value = 0;
	memset(status, 0, sizeof status);
	for (const struct insn *x = c->insns; x->at < c->turn; x++) {
		status[x->at].mask = (u16)mask;
		status[x->at].value = (u16)value;
		if (x->kind == STEP) mask = value = 0;
		if (x->kind != SET_FLAGS) continue;
		mask = EFLAGS_ARITH;
		value = x->flags & EFLAGS_ARITH;
	}
}

/* By the model's own rules, wherever the loop is. */
static void find_allowed(const struct shadow_case *c)
{
	bool enabled = !c->iopl;
	memset(allowed, 0, sizeof allowed);
	allowed[0] = 1;
	for (const struct insn *x = c->insns; x->kind != END; x++) {
		u32 behind = x->at + x->length;
		bool held = shadows(x->kind) && (x->kind != STI || !enabled);
		if (x->kind == STI) enabled = true;
		else if (x->kind == CLI) enabled = false;
		else if (x->kind == SET_FLAGS && c->iopl) enabled = x->flags & EFLAGS_IF;
		if (enabled && !held) allowed[behind / 64] |= 1ull << behind % 64;
	}
}

static void test_any_time(void)
{
	counting = true;
	seen_count = 0;
	set_timer(2, PIT_HZ / RATE);
	for (u32 i = 0; i < LOOPS; i++) {
		struct shadow_case *c = &the_case;
		make(c, true);
		if (c->open) continue;
		find_allowed(c);
		find_status(c);
		struct state s = c->state;
		out8(0x21, UNMASK);
		run(&s);
		out8(0x21, 0xFF);
		if (strayed && !seen_count) complain(c, &stray, ++seen_count);
	}
	counting = false;
	check_equal("interrupts at any time, where none may be taken", strayed, 0);
	check_equal("status flags that they show: wrong", misshown, 0);
	print("# %u interrupts, %u of them outside of the loops\n", irqs, late);
	check("there were some", irqs > late + 100);
}

static void set_up(void)
{
	static const u8 init[][2] = {{0x20, 0x11}, {0x21, IRQ0}, {0x21, 4}, {0x21, 1}, {0x21, 0xFF}};
	for (u32 i = 0; i < sizeof init / sizeof *init; i++) out8(init[i][0], init[i][1]);
	paging_enable();
	memset(tss.io_bitmap, 0, sizeof tss.io_bitmap);
	tss.io_bitmap[sizeof tss.io_bitmap - 1] = 0xFF;
	tss.io_map = offsetof(struct tss, io_bitmap);
	wrmsr(SYSENTER_CS, CODE0);
	wrmsr(SYSENTER_ESP, (u32)kernel_stack + sizeof kernel_stack);
	trap_handle(IRQ0, on_interrupt);
	trap_handle(1, on_debug);
}

void guest_main(void)
{
	random_begin();
	set_up();
	test_places();
	test_any_time();
}
