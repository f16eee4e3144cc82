/* Indirect branches through tables and through words at constant places, which the monitor leads by where they read their target: loops of them made of a
 * seed, with tables, words and targets that change, pages that go, come back or are others, and whatever may stand between a table's load and its jump. Each
 * is run once with single steps, one instruction at a time, then as it is, with the timer's interrupts too; border_test.py compares with a monitor that has
 * no inline lookup. */
#include "random.h"

#define LOOP 0x1800000u    /* two pages */
#define TARGETS 0x1802000u /* two pages, and another frame for the first of these */
#define OTHER 0x1804000u
#define TABLES 0x1805000u  /* three pages */
#define DATA 0x1808000u
#define LOW_FRAME 0x1809000u
#define PAGES 10u
#define ALIAS 0x1900000u   /* all of these, for the kernel */
#define LOW 0x8000u        /* where 16 bits lead */
#define HALF_PAGE 0x800u

#define WORDS DATA         /* whose content is a target */
#define SCRATCH (DATA + 0x80)
#define SEQUENCES (DATA + 0x100)
#define SEEN_DATA 0x100u

#define EVENT 0x40u /* INT */
#define TICK 0x50u
#define CASES 240u
#define ROUNDS 3u
#define TURNS 40u
#define UNITS 8u
#define EVENTS 24u
#define MOST_CODE 1000u
#define MOST_STEPS 8000u
#define MOST_FAULTS 6u
#define TARGET_SIZE 32u
#define STACK_BELOW 0x200u /* of the boundary: what the loops reach */
#define STACK_ABOVE 0x410u

/* Targets of jumps, which go on at EDI, and of calls, which return; the last of each go nowhere else. The very last jump's lies over the end of a page. */
#define KIND 13u
#define LEAVES 5u
#define OVER (KIND - 1)
#define LOW_TARGETS 8u
#define KIND_WORDS 8u
#define LIST 61u

enum { EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, NONE };
enum event_kind { NOTHING, SHOW, SHOW_OTHER, SHOW_KERNEL, SHOW_NONE, TABLE_NONE, TABLE_KERNEL, TABLE_BACK, ENTRY, WORD, REWRITE, EVENT_KINDS };

struct bytes {
	u32 length;
	u8 at[MOST_CODE];
};

struct branch_case {
	struct state state;
	struct bytes loop;
	u32 tail[3], places[2 * KIND], events[EVENTS][3];
	u8 targets[2][2 * KIND][TARGET_SIZE];
	u32 tables[3072], words[2 * KIND_WORDS], sequences[UNITS][TURNS];
};

static struct branch_case the_case;
static struct bytes *out;
static u32 events, steps, faults, left_out, all_faults, seen, ticks, to_the_end;

static bool one_in(u32 n)
{
	return below(n) == 0;
}

/* By string instructions: loops would be most of what a monitor runs that goes the long way at each branch. */
static void fill(void *to, u32 word, u32 size)
{
	u32 count = size / 4;
	__asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(word) : "memory");
}

static void copy(void *to, const void *from, u32 size)
{
	u32 count = size / 4;
	__asm__ volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
}

static void put(const u8 *bytes, u32 count)
{
	memcpy(out->at + out->length, bytes, count);
	out->length += count;
}
#define PUT(...) put((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void put_word(u32 word)
{
	PUT((u8)word, (u8)(word >> 8), (u8)(word >> 16), (u8)(word >> 24));
}

/* ModRM, SIB and displacement. */
static void put_memory(u32 field, u32 base, u32 index, u32 scale, u32 disp)
{
	bool is_byte = (int32_t)disp == (int8_t)disp && base != NONE, none = base == NONE || (!disp && base != EBP);
	u32 mode = none ? 0 : is_byte ? 0x40 : 0x80;
	if (index == NONE) {
		PUT((u8)(mode | field << 3 | (base == NONE ? 5 : base)));
	} else {
		PUT((u8)(mode | field << 3 | 4), (u8)(scale << 6 | index << 3 | (base == NONE ? 5 : base)));
	}
	if (base == NONE || (!none && !is_byte)) put_word(disp);
	else if (!none) PUT((u8)disp);
}

static void put_set(u32 reg, u32 value)
{
	PUT((u8)(0xB8 + reg));
	put_word(value);
}

static void put_load(u32 reg, u32 at)
{
	PUT(0x8B);
	put_memory(reg, NONE, NONE, 0, at);
}

/* --- what the loop is made of --- */

static u32 case_target(bool call)
{
	return the_case.places[(call ? KIND : 0) + below(KIND)];
}

static u32 leaf(bool call)
{
	return the_case.places[(call ? KIND : 0) + KIND - 1 - below(LEAVES)];
}

static u32 register_but(u32 a, u32 b)
{
	static const u8 some[] = {EAX, ECX, EDX, ESI, EBX};
	u32 reg;
	do reg = some[below(sizeof some)];
	while (reg == a || reg == b);
	return reg;
}

/* A stretch of a table, as one unit reads it. */
struct stretch {
	u32 index, base, scale, disp;
};

/* Of so many entries there. Its index's register is loaded, or is the number of the turn. */
static struct stretch put_stretch(u32 unit, u32 first, u32 count, bool any_scale)
{
	static const u32 widths[] = {1, 2, 4, 16, 100, 450}, biases[] = {0, 0, 1, 7, 0x100, 0xFFFFFEDD, 0x12345678}, disps[] = {0, 0, 0, 0x40, 0xFFFFFF80, 0x7654320};
	struct stretch s = {.index = one_in(4) ? EBP : register_but(NONE, NONE), .base = NONE, .scale = any_scale && one_in(4) ? below(4) : 2};
	u32 width = widths[below(6)], bias = biases[below(7)];
	bool wraps = s.scale == 2 && one_in(3);
	if (width > count) width = count;
	u32 low = below(count - width + 1);
	if (s.index == EBP) {
		s.scale = 2;
		s.disp = first + 4 * below(count - TURNS + 1);
	} else {
		for (u32 turn = 0; turn < TURNS; turn++) {
			u32 entry = low + below(width), value = s.scale == 3 ? entry / 2 : entry << 2 >> s.scale;
			the_case.sequences[unit][turn] = value - bias + (wraps ? below(4) << 30 : 0);
		}
		s.disp = first + (bias << s.scale);
	}
	if (one_in(2)) {
		u32 disp = disps[below(6)];
		s.base = register_but(s.index, NONE);
		put_set(s.base, s.disp - disp);
		s.disp = disp;
	}
	if (s.index != EBP) {
		PUT(0x8B);
		put_memory(s.index, NONE, EBP, 2, SEQUENCES + unit * TURNS * 4);
	}
	return s;
}

static struct stretch put_some_stretch(u32 unit, bool call)
{
	return put_stretch(unit, TABLES + (2 * below(2) + call) * HALF_PAGE, HALF_PAGE / 4, true);
}

/* To where a jump goes on; put_end writes it in. */
static u32 put_return(void)
{
	put_set(EDI, 0);
	return out->length - 4;
}

static u32 here(void)
{
	return the_case.state.eip + out->length;
}

static void put_end(u32 at)
{
	u32 end = here();
	memcpy(out->at + at, &end, 4);
}

/* jmp or call [table], of 16 bits at times. */
static void put_table_branch(u32 unit)
{
	bool call = one_in(2), narrow = one_in(8);
	u32 end = put_return();
	struct stretch s = narrow ? put_stretch(unit, TABLES + 5 * HALF_PAGE + call * HALF_PAGE / 2, HALF_PAGE / 8, false) : put_some_stretch(unit, call);
	if (narrow) PUT(0x66);
	PUT(0xFF);
	put_memory(call ? 2 : 4, s.base, s.index, s.scale, s.disp);
	put_end(end);
}

/* Something between a table's load and the jump by `reg`; most of it leaves that alone. */
static void put_between(u32 reg)
{
	u32 other = register_but(reg, NONE), at = SCRATCH + 4 * below(16);
	switch (below(12)) {
	case 0: PUT((u8)(0x50 + below(8)), (u8)(0x58 + other)); break;
	case 1: put_load(other, at); break;
	case 2: put_set(other, next() & 0x7F7F7F7F); break;
	case 3: PUT(0x8D, (u8)(0x40 | reg << 3 | reg), 0); break; /* lea reg, [reg] */
	case 4: PUT((u8)(0x50 + reg), (u8)(0x58 + reg)); break;
	case 5: PUT(0x06, 0x07); break; /* push es; pop es */
	case 6: PUT(0x81, (u8)(0xC0 + other)); put_word(next() & 0x7F7F7F7F); break;
	case 7: PUT(0xFF, 0x05); put_word(at); break; /* inc dword [...] */
	case 8: PUT(0x01, (u8)(0xC0 | reg << 3 | other)); break; /* add other, reg */
	case 9: PUT(0x8B); put_memory(other, NONE, EBP, 2, TABLES + 2 * HALF_PAGE); break;
	case 10: if (one_in(4)) put_set(reg, case_target(false)); break;
	default: PUT(0x39); put_memory(other, NONE, NONE, 0, at); /* cmp [...], other */
	}
}

/* mov reg, [table]; ...; jmp reg, or by ADD to what the table is relative to, or with such an addition behind; at times with another way to the jump. */
static void put_idiom(u32 unit)
{
	bool relative = one_in(2), by_add = relative && one_in(2), call = !relative && one_in(4);
	u32 end = put_return(), other_way = 0, betweens = one_in(6) ? 7 : below(4);
	struct stretch s = relative ? put_stretch(unit, TABLES + 4 * HALF_PAGE, HALF_PAGE / 4, true) : put_some_stretch(unit, call);
	u32 reg = by_add ? register_but(s.index, s.base) : register_but(NONE, NONE);
	if (one_in(3)) {
		PUT(0xF7, 0xC5); /* test ebp, ... */
		put_word(1u << below(4));
		PUT(0x74, 7); /* jz */
		put_set(reg, case_target(call));
		PUT(0xEB, 0);
		other_way = out->length;
	}
	if (by_add) put_set(reg, TARGETS);
	PUT(by_add ? 0x03 : 0x8B);
	put_memory(reg, s.base, s.index, s.scale, s.disp);
	if (relative && !by_add) {
		PUT(0x81, (u8)(0xC0 + reg)); /* add reg, ... */
		put_word(TARGETS);
	}
	while (betweens--) put_between(reg);
	if (other_way) out->at[other_way - 1] = (u8)(out->length - other_way);
	PUT(0xFF, (u8)((call ? 0xD0 : 0xE0) + reg));
	put_end(end);
}

/* jmp or call [word], [ebx + disp], now and then with another base, or by a register; or with an address of 16 bits. */
static void put_word_branch(u32 unit)
{
	bool call = one_in(2);
	u32 first = WORDS + 4 * KIND_WORDS * call, end = put_return(), reg = one_in(4) ? register_but(NONE, EBX) : EBX;
	switch (below(6)) {
	case 0: case 1:
		PUT(0xFF);
		put_memory(call ? 2 : 4, NONE, NONE, 0, first + 4 * below(KIND_WORDS));
		break;
	case 2: /* by BX, in the low page */
		put_set(EBX, (next() & 0x7F7F0000) | (LOW + 0x800 + 64 * call + 4 * below(16)));
		PUT(0x67, 0xFF, call ? 0x17 : 0x27);
		break;
	case 3:
		put_load(reg, first + 4 * below(KIND_WORDS));
		PUT(0xFF, (u8)((call ? 0xD0 : 0xE0) + reg));
		break;
	default: {
		u32 words = 1 + below(3), disp = one_in(2) ? 0x14 : next();
		for (u32 turn = 0; turn < TURNS; turn++) the_case.sequences[unit][turn] = first + 4 * below(words) - disp;
		PUT(0x8B);
		put_memory(reg, NONE, EBP, 2, SEQUENCES + unit * TURNS * 4);
		PUT(0xFF);
		put_memory(call ? 2 : 4, reg, NONE, 0, disp);
	}
	}
	put_end(end);
}

/* In one turn: an entry, a word, or a target's first instruction, which is one with a word. */
static void put_store(void)
{
	bool call = one_in(2);
	u32 at, value;
	PUT(0x83, 0xFD, (u8)below(TURNS), 0x75, 10); /* cmp ebp, ...; jne */
	switch (below(4)) {
	case 0:
		at = WORDS + 4 * (KIND_WORDS * call + below(KIND_WORDS));
		value = leaf(call);
		break;
	case 1:
		at = TABLES + (2 * below(2) + call) * HALF_PAGE + 4 * below(512);
		value = case_target(call);
		break;
	default:
		at = case_target(call) + 1;
		value = next() & 0x7F7F7F7F;
	}
	PUT(0xC7, 0x05);
	put_word(at);
	put_word(value);
}

static void put_event(void)
{
	PUT(0xF7, 0xC5); /* test ebp, 3 or 7 */
	put_word(one_in(2) ? 3 : 7);
	PUT(0x75, 2, 0xCD, EVENT); /* jnz */
}

static void put_unit(u32 unit)
{
	switch (below(16)) {
	case 0: put_store(); break;
	case 1: put_event(); break;
	case 2: case 3: case 4: case 5: case 6: put_table_branch(unit); break;
	case 7: case 8: case 9: case 10: put_idiom(unit); break;
	default: put_word_branch(unit);
	}
}

/* Jumps lead to its tail as well. */
static void make_loop(void)
{
	static const u8 instructions[] = {0, 2, 5};
	struct branch_case *c = &the_case;
	u32 units = 1 + below(UNITS);
	out = &c->loop;
	c->state.eip = LOOP + (one_in(4) ? 0x1000 - below(256) : below(0xC00));
	if (one_in(2)) put_event();
	if (one_in(2)) put_store();
	for (u32 unit = 0; unit < units; unit++) put_unit(unit);
	for (u32 i = 0; i < 3; i++) c->tail[i] = here() + instructions[i];
	PUT(0x01, 0xD8, 0x8D, 0x49, 1, 0x45, 0x83, 0xFD, TURNS, 0x0F, 0x82); /* add eax, ebx; lea ecx, [ecx + 1]; inc ebp; cmp ebp, ...; jb */
	put_word(0u - (out->length + 4));
	PUT(CODE_DONE);
}

/* --- where it leads --- */

static void make_places(void)
{
	struct branch_case *c = &the_case;
	u32 shift = below(0x600);
	for (u32 i = 0; i < 2 * KIND; i++) c->places[i] = TARGETS + 0x100 + 0x1000 * (i & 1) + shift + 0x40 * (i / 2) + i * 3 % 16;
	c->places[OVER] = TARGETS + (one_in(2) ? 0xFFB : 0xFFD);
}

/* The first instruction is one of five bytes, which a branch may lead behind; LEAVES lead to no other target. */
static void make_target(u8 *to, u32 number)
{
	static const u8 firsts[] = {0x05, 0x2D, 0x35, 0xBB};
	struct bytes target = {.length = 0};
	bool call = number >= KIND;
	u32 in_kind = number % KIND;
	out = &target;
	PUT(firsts[below(4)]); /* add, sub or xor eax, ...; mov ebx, ... */
	put_word(next() & 0x7F7F7F7F);
	if (number == OVER) {
		PUT(0xFF, 0xE7);
	} else {
		switch (below(5)) {
		case 0: PUT(0xFF, 0x05); put_word(SCRATCH + 4 * below(16)); break; /* inc dword [...] */
		case 1: PUT(0x03, 0x05); put_word(SCRATCH + 4 * below(16)); break; /* add eax, [...] */
		case 2: PUT(0x8D, 0x04, 0xC0); break;                              /* lea eax, [eax + eax * 8] */
		default: PUT(0x8D, 0x5B, 3);                                       /* lea ebx, [ebx + 3] */
		}
		bool leads = in_kind < KIND - LEAVES;
		u32 word = WORDS + 4 * (KIND_WORDS * call + below(KIND_WORDS));
		if (leads && one_in(4)) { /* as the first call through a linkage table does: it sets the word, and goes on where that leads */
			u32 last = leaf(call);
			PUT(0xC7, 0x05);
			put_word(word);
			put_word(last);
			PUT(0xB8 + EDX);
			put_word(last);
			PUT(0xFF, 0xE2);
		} else if (leads && one_in(3)) {
			PUT(0xE9);
			put_word(leaf(call) - (the_case.places[number] + out->length + 4));
		} else if (call) {
			if (one_in(8)) PUT(0x5A, 0xFF, 0xE2); /* pop edx; jmp edx */
			else PUT(0xC3);
		} else if (one_in(8)) {
			PUT(0x89, 0x3D); /* mov [...], edi; jmp [...] */
			put_word(SCRATCH + 0x40);
			PUT(0xFF, 0x25);
			put_word(SCRATCH + 0x40);
		} else {
			PUT(0xFF, 0xE7);
		}
	}
	memcpy(to, target.at, TARGET_SIZE);
}

static u32 some_entry(bool call)
{
	if (!call && one_in(16)) return the_case.tail[below(3)];
	return case_target(call ^ one_in(200)) + (one_in(8) ? 5 : 0);
}

/* Some lists, again and again: entries 256 apart differ. */
static void make_tables(void)
{
	struct branch_case *c = &the_case;
	u32 lists[6][LIST];
	for (u32 half = 0; half < 6; half++) {
		for (u32 i = 0; i < LIST; i++) lists[half][i] = half == 5 ? next() << 16 | (LOW + 16 * below(LOW_TARGETS)) : some_entry(half < 4 && half & 1);
		for (u32 i = 0; i < 512; i++) c->tables[half * 512 + i] = lists[half][i % LIST] - (half == 4 ? TARGETS : 0);
	}
	for (u32 i = 5 * 512 + 256; i < 6 * 512; i++) c->tables[i] += 16 * LOW_TARGETS;
	for (u32 i = 0; i < 2 * KIND_WORDS; i++) c->words[i] = case_target(i >= KIND_WORDS);
}

/* What ends in a page fault is rarer than what does not. */
static void make_events(void)
{
	static const u8 usual[] = {NOTHING, SHOW, SHOW_OTHER, ENTRY, ENTRY, WORD, REWRITE, REWRITE};
	for (u32 i = 0; i < EVENTS; i++) {
		bool call = one_in(2);
		u32 *event = the_case.events[i], target = below(2 * KIND);
		event[0] = one_in(3) ? below(EVENT_KINDS) : usual[below(sizeof usual)];
		bool relative = !call && one_in(3);
		event[1] = event[0] == WORD ? KIND_WORDS * call + below(KIND_WORDS) : event[0] == REWRITE ? target : (relative ? 4 : 2 * below(2) + call) * 512 + below(512);
		event[2] = event[0] == WORD ? leaf(call) : case_target(call) - (relative ? TARGETS : 0);
	}
}

static void make(void)
{
	struct branch_case *c = &the_case;
	fill(c, 0, sizeof *c);
	c->state = state_at((void *)LOOP, 3);
	c->state.esp = (u32)user_stack + 4096 + 0x400;
	c->state.ebp = 0;
	c->state.eflags |= next() & EFLAGS_ARITH;
	make_places();
	make_loop();
	for (u32 i = 0; i < 4 * KIND; i++) make_target(c->targets[i & 1][i / 2], i / 2);
	make_tables();
	make_events();
}

/* --- running them --- */

static u32 mix(u32 digest, const void *from, u32 size)
{
	for (const u32 *at = from; size; size -= 4) digest = (digest ^ *at++) * 0x01000193;
	return digest;
}

static u8 *alias(u32 at)
{
	return (u8 *)(at - LOOP + ALIAS);
}

static void map_all(void)
{
	pte_set(TARGETS, TARGETS | P | W | U);
	for (u32 page = TABLES; page < DATA; page += 4096) pte_set(page, page | P | W | U);
}

static void on_event(struct trap_frame *f)
{
	const u32 *event = the_case.events[events++ % EVENTS];
	u32 table = TABLES + event[1] / 1024 * 4096;
	(void)f;
	switch (event[0]) {
	case SHOW: pte_set(TARGETS, TARGETS | P | W | U); break;
	case SHOW_OTHER: pte_set(TARGETS, OTHER | P | W | U); break;
	case SHOW_KERNEL: pte_set(TARGETS, TARGETS | P | W); break;
	case SHOW_NONE: pte_set(TARGETS, 0); break;
	case TABLE_NONE: pte_set(table, 0); break;
	case TABLE_KERNEL: pte_set(table, table | P | W); break;
	case TABLE_BACK: pte_set(table, table | P | W | U); break;
	case ENTRY: memcpy(alias(TABLES + 4 * event[1]), &event[2], 4); break;
	case WORD: memcpy(alias(WORDS + 4 * event[1]), &event[2], 4); break;
	case REWRITE: memcpy(alias(the_case.places[event[1]]), the_case.targets[1][event[1]], event[1] == OVER ? 7 : TARGET_SIZE); break;
	}
}

static void end_run(struct trap_frame *f)
{
	f->eip = (u32)code_put(0x100, (const u8[]){CODE_DONE}, 2);
	f->eflags &= ~EFLAGS_TF;
}

static void on_step(struct trap_frame *f)
{
	if (++steps >= MOST_STEPS) end_run(f);
}

/* Seen as it is; then all pages are there, and it goes on. */
static void on_page_fault(struct trap_frame *f)
{
	const u32 shown[] = {READ_CR(2), f->error, f->eip, f->esp, f->eflags & EFLAGS_ARITH};
	if (!(f->cs & 3)) {
		print("Bail out! page fault at %x, CR2 %x\n", f->eip, shown[0]);
		guest_exit(2);
	}
	seen = mix(mix(seen, shown, sizeof shown), &f->edi, 32);
	map_all();
	all_faults++;
	if (++faults > MOST_FAULTS || shown[0] - LOOP >= PAGES * 4096) end_run(f);
}

static void on_tick(struct trap_frame *f)
{
	(void)f;
	ticks++;
	out8(0x20, 0x20);
}

static void ticks_begin(void)
{
	enum { COUNT = 300 }; /* some 4,000 in a second */
	timer_init(TICK);
	trap_handle(TICK, on_tick);
	out8(0x43, 0x34);
	out8(0x40, COUNT & 0xFF);
	out8(0x40, COUNT >> 8);
	out8(0x21, 0xFE);
}

static void store(u32 at, const void *from, u32 size)
{
	u32 count = size / 4, other = at;
	const void *rest = from;
	bool same;
	__asm__ volatile("repe cmpsl" : "+S"(rest), "+D"(other), "+c"(count), "=@cce"(same) : : "memory");
	if (!same) copy((void *)at, from, size);
}

/* Pages of INT3, with all that this case has in them. */
static u8 image[PAGES * 4096] __attribute__((aligned(4096)));

static u8 *in_image(u32 at)
{
	return image + (at - LOOP);
}

static void make_image(void)
{
	const struct branch_case *c = &the_case;
	fill(image, 0xCCCCCCCC, sizeof image);
	memcpy(in_image(c->state.eip), c->loop.at, c->loop.length);
	for (u32 i = 0; i < 2 * KIND; i++) {
		bool first_page = c->places[i] < TARGETS + 0x1000;
		memcpy(in_image(c->places[i]), c->targets[0][i], i == OVER ? 7 : TARGET_SIZE);
		if (first_page) memcpy(in_image(c->places[i] - TARGETS + OTHER), c->targets[1][i], i == OVER ? TARGETS + 0x1000 - c->places[i] : TARGET_SIZE);
	}
	copy(in_image(TABLES), c->tables, sizeof c->tables);
	copy(in_image(WORDS), c->words, sizeof c->words);
	fill(in_image(SCRATCH), 0x11111111, 0x44);
	copy(in_image(SEQUENCES), c->sequences, sizeof c->sequences);
	for (u32 i = 0; i < 2 * LOW_TARGETS; i++) { /* [add esp, 2;] add eax, ...; jmp edi */
		const u8 code[] = {0x83, 0xC4, i < LOW_TARGETS ? 0 : 2, 0x05, (u8)i, 2, 3, 4, 0xFF, 0xE7};
		memcpy(in_image(LOW_FRAME + 16 * i), code, sizeof code);
	}
	for (u32 i = 0; i < 32; i++) memcpy(in_image(LOW_FRAME + 0x800 + 4 * i), &c->places[(i < 16 ? 0 : KIND) + i % KIND], 4);
}

static u32 run_case(u32 flags)
{
	struct state s = the_case.state;
	u32 digest;
	s.eflags |= flags;
	map_all();
	for (u32 at = 0; at < sizeof image; at += 4096) store(LOOP + at, image + at, 4096);
	map_all(); /* neither accessed nor dirty */
	fill(user_stack, 0xA5A5A5A5, sizeof user_stack);
	events = faults = seen = 0;
	run(&s);
	to_the_end += s.vector == RUN_DONE && s.eip == the_case.state.eip + the_case.loop.length;
	u32 pages[] = {*pte_of(TARGETS), *pte_of(TABLES), *pte_of(TABLES + 4096), *pte_of(TABLES + 8192), events, faults};
	map_all();
	s.eflags &= EFLAGS_ARITH;
	s.cr2 = 0;
	digest = mix(mix(mix(seen, &s, sizeof s), pages, sizeof pages), (void *)DATA, SEEN_DATA);
	return mix(digest, user_stack + 4096 - STACK_BELOW, STACK_BELOW + STACK_ABOVE);
}

static void prepare(void)
{
	random_begin();
	paging_enable();
	for (u32 low = 0; low < 0x100000; low += 4096) pte_set(low, low == LOW ? LOW_FRAME | P | W | U : 0); /* what is there differs between machines */
	for (u32 at = LOOP; at < LOOP + sizeof image; at += 4096) pte_set((u32)alias(at), at | P | W);
	idt_set(EVENT, (u32)(trap_stubs + 16 * EVENT), CODE0, 0xEE);
	trap_handle(EVENT, on_event);
	trap_handle(1, on_step);
	trap_handle(14, on_page_fault);
	ticks_begin();
	warm_up();
}

void guest_main(void)
{
	u32 wrong = 0;
	prepare();
	for (u32 i = 0; i < CASES; i++) {
		make();
		make_image();
		steps = 0;
		u32 digest = run_case(EFLAGS_TF);
		if (steps < MOST_STEPS) {
			for (u32 round = 0; round < ROUNDS; round++)
				if (run_case(round ? EFLAGS_IF : 0) != digest && !wrong++) print("# the first that differs is case %u in round %u\n", i, round);
		} else {
			left_out++;
		}
		if (i % 4 == 0) print("# case %u:", i);
		print(i % 4 == 3 ? " %x\n" : " %x", digest);
	}
	print("# %u page faults, %u ticks, %u runs to their ends, %u cases left out\n", all_faults, ticks, to_the_end, left_out);
	check_equal("not as one instruction at a time", wrong, 0);
	check("nearly all end", left_out < CASES / 20);
	check("and most by themselves", to_the_end > (ROUNDS + 1) * CASES / 2);
	check("page faults on the way", all_faults > CASES);
	check("and the timer's interrupts", ticks > CASES / 10);
}
