/* Every access byte that a descriptor can have, wherever a selector can name it, at CPL 0 and 3 and with RPL 0 and 3, against the manual's rules written anew
 * (SDM vol. 3, 5.5 to 5.8; vol. 2 of each instruction): what is raised, with which error code, and whether the descriptor is marked. */
#include "guest.h"

enum { X_INDEX = GDT_FREE, CODE1_INDEX, LDT_INDEX, CODE1 = CODE1_INDEX << 3 | 1, S = 0x10, PRESENT = 0x80 };

/* It lies in the GDT, or in an LDT that has nothing else. */
static u64 ldt[X_INDEX + 1], *table;
static u32 selector_of_x(void) { return X_INDEX << 3 | (table == ldt ? 4 : 0); }
#define X selector_of_x()
#define GATE 0x40u
#define LOW ((u8 *)0x8000)
#define DONE (RUN_DONE << 16)
#define FAULT(vector, error) ((u32)(vector) << 16 | (error))

static u32 dpl_of(u32 access) { return access >> 5 & 3; }
static bool is_code(u32 access) { return (access & (S | 8)) == (S | 8); }
static bool is_data(u32 access) { return (access & (S | 8)) == S; }
static bool is_conforming(u32 access) { return is_code(access) && (access & 4); }
static bool is_readable(u32 access) { return is_data(access) || (is_code(access) && (access & 2)); }
static bool is_writable(u32 access) { return is_data(access) && (access & 2); }
static bool is_visible(u32 access, u32 cpl, u32 rpl) { return is_conforming(access) || (dpl_of(access) >= cpl && dpl_of(access) >= rpl); }
static u32 present_or(u32 access, u32 vector, u32 done) { return access & PRESENT ? done : FAULT(vector, X); }

static u32 load_data(u32 access, u32 cpl, u32 rpl)
{
	return is_readable(access) && is_visible(access, cpl, rpl) ? present_or(access, 11, DONE) : FAULT(13, X);
}

static u32 load_stack(u32 access, u32 cpl, u32 rpl)
{
	return is_writable(access) && dpl_of(access) == cpl && rpl == cpl ? present_or(access, 12, DONE) : FAULT(13, X);
}

static u32 load_ldt(u32 access, u32 cpl, u32 rpl)
{
	(void)rpl;
	return cpl ? FAULT(13, 0) : (access & 0x1F) == 2 && table == gdt ? present_or(access, 11, DONE) : FAULT(13, X);
}

static u32 load_task(u32 access, u32 cpl, u32 rpl)
{
	(void)rpl;
	return cpl ? FAULT(13, 0) : (access & 0x17) == 1 && table == gdt ? present_or(access, 11, DONE) : FAULT(13, X);
}

/* All zero but for the access byte, a gate leads to a null selector, and a TSS is too short. */
static u32 through_system(u32 access, u32 cpl, u32 rpl)
{
	u32 type = access & 0xF;
	bool gate = type == 4 || type == 5 || type == 12, task = type == 1 || type == 9;
	if ((!gate && !task) || dpl_of(access) < cpl || dpl_of(access) < rpl) return FAULT(13, X);
	/* A TSS is to be in the GDT (vol. 3, 7.2.2). */
	return present_or(access, 11, gate ? FAULT(13, 0) : table == ldt ? FAULT(13, X) : FAULT(10, X));
}

static u32 jump(u32 access, u32 cpl, u32 rpl)
{
	if (!(access & S)) return through_system(access, cpl, rpl);
	bool allowed = is_conforming(access) ? dpl_of(access) <= cpl : dpl_of(access) == cpl && rpl <= cpl;
	return is_code(access) && allowed ? present_or(access, 11, DONE) : FAULT(13, X);
}

static u32 go_back(u32 access, u32 cpl, u32 rpl)
{
	bool allowed = rpl >= cpl && (is_conforming(access) ? dpl_of(access) <= rpl : dpl_of(access) == rpl);
	return is_code(access) && allowed ? present_or(access, 11, DONE) : FAULT(13, X);
}

/* The stack that a return to CPL 3 pops, or that a call to level 1 finds in the TSS. */
static u32 return_stack(u32 access, u32 cpl, u32 rpl)
{
	(void)cpl;
	return is_writable(access) && dpl_of(access) == 3 && rpl == 3 ? present_or(access, 12, DONE) : FAULT(13, X);
}

static u32 inner_stack(u32 access, u32 cpl, u32 rpl)
{
	(void)cpl;
	return is_writable(access) && dpl_of(access) == 1 && rpl == 1 ? present_or(access, 12, DONE) : FAULT(10, X);
}

static u32 interrupt(u32 access, u32 cpl, u32 rpl)
{
	(void)rpl;
	u32 type = access & 0x1F, error = GATE << 3 | 2;
	bool gate = (type & 0x16) == 6;
	if ((!gate && type != 5) || dpl_of(access) < cpl) return FAULT(13, error);
	return !(access & PRESENT) ? FAULT(11, error) : gate ? DONE : FAULT(13, CODE0);
}

enum marks { NO_MARK, ACCESSED = 1, BUSY = 2 };
enum how { BY_EAX, BY_POINTER, BY_FRAME, BY_STACK, BY_TSS, BY_GATE };

static const struct place {
	const char *name;
	u8 code[4], length, marks;
	enum how how;
	u32 (*model)(u32 access, u32 cpl, u32 rpl);
} places[] = {
	{"mov ds", {0x8E, 0xD8}, 2, ACCESSED, BY_EAX, load_data}, {"mov es", {0x8E, 0xC0}, 2, ACCESSED, BY_EAX, load_data},
	{"mov fs", {0x8E, 0xE0}, 2, ACCESSED, BY_EAX, load_data}, {"push eax; pop gs", {0x50, 0x0F, 0xA9}, 3, ACCESSED, BY_EAX, load_data},
	{"mov ss", {0x8E, 0xD0}, 2, ACCESSED, BY_EAX, load_stack}, {"lldt", {0x0F, 0x00, 0xD0}, 3, NO_MARK, BY_EAX, load_ldt},
	{"ltr", {0x0F, 0x00, 0xD8}, 3, BUSY, BY_EAX, load_task}, {"jmp far", {0xEA}, 1, ACCESSED, BY_POINTER, jump},
	{"call far", {0x9A}, 1, ACCESSED, BY_POINTER, jump}, {"retf", {0xCB}, 1, ACCESSED, BY_FRAME, go_back}, {"iret", {0xCF}, 1, ACCESSED, BY_FRAME, go_back},
	{"retf: ss", {0xCB}, 1, ACCESSED, BY_STACK, return_stack}, {"iret: ss", {0xCF}, 1, ACCESSED, BY_STACK, return_stack},
	{"int n: ss of the TSS", {0xCD, GATE}, 2, ACCESSED, BY_TSS, inner_stack},
	{"int n", {0xCD, GATE}, 2, NO_MARK, BY_GATE, interrupt},
};

/* Expand-down segments are of all but the first page. */
static void put_descriptor(u32 access)
{
	u64 limit = is_data(access) && (access & 4) ? 0 : 0xF0000ull << 32 | 0xFFFF;
	gdt[X_INDEX] = 0;
	table[X_INDEX] = (u64)access << 40 | (access & S ? limit | 0xC00000ull << 32 : 0);
}

/* Far transfers go to LOW, where the exit stands. */
static struct state start(const struct place *p, u32 access, u32 cpl, u32 rpl)
{
	u32 selector = X | rpl;
	u8 code[16] = {CODE_DONE};
	u32 at = 2, low = (u32)LOW; /* the exit comes first: behind the instruction nothing is fetched that matters */
	memcpy(code + at, p->code, p->length);
	at += p->length;
	if (p->how == BY_POINTER) {
		memcpy(code + at, &low, 4);
		memcpy(code + at + 4, &selector, 2);
		at += 6;
	}
	memcpy(code + at, (const u8[]){CODE_DONE}, 2);
	struct state s = state_at(code_put(0, code, sizeof code) + 2, cpl);
	s.eax = selector;
	if (p->how == BY_FRAME || p->how == BY_STACK) {
		u32 outer = (u32)user_stack + 4096 + 1024, ss = p->how == BY_STACK ? selector : DATA3;
		u32 words[] = {low, p->how == BY_STACK ? CODE3 : selector, p->code[0] == 0xCF ? 2 : outer, p->code[0] == 0xCF ? outer : ss, ss};
		memcpy((void *)s.esp, words, sizeof words);
	}
	if (p->how == BY_TSS) {
		tss.ss1 = selector;
		idt_set(GATE, low, CODE1, 0xEE);
	}
	if (p->how == BY_GATE) idt_set(GATE, low, CODE0, access);
	return s;
}

static void restore(void)
{
	gdt[TSS_SELECTOR >> 3] &= ~(2ull << 40);
	__asm__ volatile("lldt %w0; ltr %w1" : : "r"(LDT_INDEX << 3), "r"(TSS_SELECTOR));
}

static bool right_segment(const struct place *p, const struct state *s, u32 cpl, u32 rpl)
{
	u32 selector = X | rpl;
	switch (p->code[0] << 8 | p->code[1]) {
	case 0x8ED8: return s->ds == selector;
	case 0x8EC0: return s->es == selector;
	case 0x8EE0: return s->fs == selector;
	case 0x500F: return s->gs == selector;
	case 0xEA00: case 0x9A00: return s->cs == (X | cpl) && s->eip == (u32)LOW + 2;
	case 0xCB00: case 0xCF00: return (p->how == BY_STACK ? s->cs == CODE3 && s->ss == selector : s->cs == selector) && s->eip == (u32)LOW + 2;
	default: return true;
	}
}

static void test_place(const struct place *p)
{
	u32 wrong = 0, done = 0, runs = 0;
	for (u32 i = 0; i < 4 * 256; i++) {
		u32 access = i >> 2, cpl = i & 1 ? 3 : 0, rpl = i & 2 ? 3 : p->how == BY_TSS;
		if (p->how == BY_TSS) cpl = 3;
		if (p->how == BY_STACK) cpl = 0;
		put_descriptor(access);
		struct state s = start(p, access, cpl, rpl);
		u32 eip = s.eip, want = p->model(access, cpl, rpl);
		run(&s);
		if (p->marks == BUSY || p->code[1] == 0) restore();
		u32 got = FAULT(s.vector, s.error), marked = (u32)(table[X_INDEX] >> 40) & 0xFF;
		bool good = got == want && marked == (want == DONE ? access | p->marks : access);
		good &= want == DONE ? right_segment(p, &s, cpl, rpl) : s.eip == eip + (p->code[0] == 0x50);
		runs++;
		done += want == DONE;
		if (!good && wrong++ < 6) print("# %s of %x at CPL %u, RPL %u: %x, should be %x; at +%d, access %x\n", p->name, access, cpl, rpl, got, want, s.eip - eip, marked);
	}
	bool never = table == ldt && (p->model == load_ldt || p->model == load_task);
	check(p->name, !wrong && !done == never && done < runs);
}

/* What a segment register keeps over a return to CPL 3: what code there might have loaded, and conforming code. */
static void test_kept(void)
{
	u32 wrong = 0;
	for (u32 access = 0; access < 256; access++) {
		put_descriptor(access);
		if (load_data(access, 0, 0) != DONE) continue;
		struct state s = state_at(CODE(0x8E, 0xC0, 0x8E, 0xE0, 0xCF), 0); /* mov es, eax; mov fs, eax; iret */
		u32 words[] = {(u32)LOW, CODE3, 2, (u32)user_stack + 4096 + 1024, DATA3}, kept = is_conforming(access) || dpl_of(access) == 3 ? X : 0;
		memcpy((void *)s.esp, words, sizeof words);
		s.eax = X;
		run(&s);
		wrong += s.vector != RUN_DONE || s.cs != CODE3 || s.es != kept || s.fs != kept;
	}
	check_equal("segments that a return to CPL 3 leaves: wrong", wrong, 0);
}

/* A descriptor is marked by a write as any other of the processor's own. */
static void test_pages(void)
{
	static const struct { const char *name; u32 entry, access, vector, error; } cases[] = {
		{"a descriptor in a read-only page that has to be marked: #PF", P, 0xF2, 14, 3}, {"one that is marked", P, 0xF3, RUN_DONE, 0},
		{"a descriptor in no page: #PF of the supervisor", 0, 0xF3, 14, 0},
	};
	u8 *copy = (u8 *)(0x1800000 - sizeof gdt + 4096);
	struct { u16 limit; u32 base; } __attribute__((packed)) ours, other = {8 * 512 + 15, (u32)copy};
	__asm__ volatile("sgdt %0" : "=m"(ours));
	for (u32 i = 0; i < sizeof cases / sizeof *cases; i++) {
		/* All but the last entries lie in the page before. */
		u32 page = (u32)copy + sizeof gdt, selector = sizeof gdt | 3;
		pte_set(page, page | P | W);
		memcpy(copy, gdt, sizeof gdt);
		*(volatile u64 *)page = (u64)(0xCF0000 | cases[i].access << 8) << 32 | 0xFFFF;
		__asm__ volatile("lgdt %0" : : "m"(other));
		pte_set(page, page | cases[i].entry);
		struct state s = state_at(CODE(0x8E, 0xC0, CODE_DONE), 3);
		s.eax = selector;
		run_expect(cases[i].name, &s, cases[i].vector, cases[i].error, cases[i].vector == RUN_DONE ? 4 : 0);
		if (cases[i].vector == 14) check("CR2 is in it", s.cr2 - page < 8);
		pte_set(page, page | P | W | U);
	}
	__asm__ volatile("lgdt %0" : : "m"(ours));
}

/* What LAR, LSL, VERR and VERW say, as bits, and the two results. */
static void test_queries(void)
{
	u32 wrong = 0;
	/* lar edx, eax; setz cl; lsl esi, eax; setz ch; verr ax; pushf; pop edi; verw ax; pushf; pop ebp */
	u8 *code = CODE(0x0F, 0x02, 0xD0, 0x0F, 0x94, 0xC1, 0x0F, 0x03, 0xF0, 0x0F, 0x94, 0xC5, 0x0F, 0x00, 0xE0, 0x9C, 0x5F, 0x0F, 0x00, 0xE8, 0x9C, 0x5D, CODE_DONE);
	for (u32 i = 0; i < 4 * 256; i++) {
		u32 access = i >> 2, cpl = i & 1 ? 3 : 0, rpl = i & 2 ? 3 : 0;
		bool down = is_data(access) && (access & 4), visible = is_visible(access, cpl, rpl);
		bool lar = visible && ((access & S) || (0x1A3Eu >> (access & 0xF) & 1)), lsl = visible && ((access & S) || (0xA0Eu >> (access & 0xF) & 1));
		u32 limit = down ? 0xFFF : 0xFFFFFFFF;
		put_descriptor(access);
		table[X_INDEX] |= 0xC00000ull << 32 | (down ? 0 : 0xF0000ull << 32 | 0xFFFF);
		struct state s = state_at(code, cpl);
		s.eax = X | rpl;
		run(&s);
		bool good = s.vector == RUN_DONE && (s.ecx & 0xFFFF) == ((u32)lar | (u32)lsl << 8) && s.edx == (lar ? 0xC00000 | access << 8 : 0xD0D1D2D3);
		good &= s.esi == (lsl ? limit : 0x50515253) && (s.edi >> 6 & 1) == (visible && is_readable(access)) && (s.ebp >> 6 & 1) == (visible && is_writable(access));
		if (!good && wrong++ < 6) print("# %x at CPL %u, RPL %u: lar %u %x lsl %u %x verr %u verw %u\n", access, cpl, rpl, s.ecx & 1, s.edx, s.ecx >> 8 & 1, s.esi, s.edi >> 6 & 1, s.ebp >> 6 & 1);
	}
	check_equal("lar, lsl, verr, verw of every access byte: wrong", wrong, 0);
}

void guest_main(void)
{
	paging_enable();
	memcpy(LOW, (const u8[]){CODE_DONE}, 2);
	gdt_set(CODE1_INDEX, 0, 0xFFFFF, 0xBB, 0xC);
	tss.esp1 = (u32)user_stack + 4096;
	gdt_set(LDT_INDEX, (u32)ldt, sizeof ldt - 1, 0x82, 0);
	restore();
	for (u32 i = 0; i < 2; i++) {
		table = i ? ldt : gdt;
		print("# %s\n", i ? "in an LDT" : "in the GDT");
		for (u32 j = 0; j < sizeof places / sizeof *places; j++) test_place(&places[j]);
		test_kept();
		test_queries();
	}
	test_pages();
}
