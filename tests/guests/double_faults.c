/* An exception in delivering another, each kind in each (SDM vol. 3, 6.15, tables 6-4 and 6-5): which pairs make a double fault, which are handled one after the
 * other, and with which error code. The first one's handler is of level 1, whose stack the test spoils; the second one's is of level 0. */
#include "guest.h"

#define MISSING 0x1900000u
#define GATE 0x40u
#define TICK 0x48u
enum { CODE1 = GDT_FREE << 3 | 1, DATA1 = (GDT_FREE + 1) << 3 | 1, SHORT1 = (GDT_FREE + 2) << 3 | 1, ABSENT = (GDT_FREE + 3) << 3 | 3, ABSENT1 = (GDT_FREE + 4) << 3 | 1,
       READ_ONLY1 = (GDT_FREE + 5) << 3 | 1, LIMITED1 = (GDT_FREE + 6) << 3 | 1, ABSENT_CODE1 = (GDT_FREE + 7) << 3 | 1, OTHER_TSS = (GDT_FREE + 8) << 3, BEYOND = GDT_ENTRIES << 3 | 1 };
enum class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

static const struct first {
	const char *name;
	u32 vector, class, eax, eflags, ext;
	u8 code[4];
} firsts[] = {
	{"INT n", GATE, BENIGN, 0, 0, 0, {0xCD, GATE}},
	{"an interrupt", TICK, BENIGN, 0, EFLAGS_IF, 1, {0xEB, 0xFE}},
	{"#UD", 6, BENIGN, 0, 0, 1, {0x0F, 0x0B}},
	{"#DE", 0, CONTRIBUTORY, 0, 0, 1, {0xF7, 0xF0}},
	{"#TS", 10, CONTRIBUTORY, 0, 0x4000, 1, {0xCF}}, /* IRET to no TSS */
	{"#NP", 11, CONTRIBUTORY, ABSENT, 0, 1, {0x8E, 0xE8}},
	{"#SS", 12, CONTRIBUTORY, ABSENT, 0, 1, {0x8E, 0xD0}},
	{"#GP", 13, CONTRIBUTORY, 0, 0, 1, {0xF4}},
	{"#PF", 14, PAGE_FAULT, MISSING, 0, 1, {0x8B, 0x00}},
};

#define HANDLER ((u32)code_area + 64) /* where nothing gets */

static void absent_gate(u32 vector) { idt_set(vector, HANDLER, CODE1, 0x6E); }
static void gate_to_data(u32 vector) { idt_set(vector, HANDLER, DATA0, 0xEE); }
static void null_gate(u32 vector) { idt_set(vector, HANDLER, 1, 0xEE); }
static void gate_beyond(u32 vector) { idt_set(vector, HANDLER, BEYOND, 0xEE); }
static void gate_to_absent(u32 vector) { idt_set(vector, HANDLER, ABSENT_CODE1, 0xEE); }
static void gate_to_short(u32 vector) { idt_set(vector, HANDLER, LIMITED1, 0xEE); }
static void no_gate(u32 vector) { idt_set(vector, HANDLER, CODE1, 0xEC); }
static void null_stack(u32 vector) { (void)vector, tss.ss1 = 0; }
static void stack_beyond(u32 vector) { (void)vector, tss.ss1 = BEYOND; }
static void stack_of_other_level(u32 vector) { (void)vector, tss.ss1 = DATA0; }
static void read_only_stack(u32 vector) { (void)vector, tss.ss1 = READ_ONLY1; }
static void absent_stack(u32 vector) { (void)vector, tss.ss1 = ABSENT1; }
static void short_stack(u32 vector) { (void)vector, tss.ss1 = SHORT1; }
static void missing_stack(u32 vector) { (void)vector, tss.esp1 = MISSING + 4096; }

static void use_tss(u32 base, u32 limit)
{
	gdt_set(OTHER_TSS >> 3, base, limit, 0x89, 0);
	__asm__ volatile("ltr %w0" : : "r"(OTHER_TSS));
}

/* What level 0 needs is there, what level 1 needs is not. */
static void short_tss(u32 vector) { (void)vector, use_tss((u32)&tss, 11); }

static void missing_tss(u32 vector)
{
	(void)vector;
	memcpy((void *)(MISSING - 12), &tss, 12);
	use_tss(MISSING - 12, 0x67);
}

static struct table_pointer {
	u16 limit;
	u32 base;
} __attribute__((packed)) idt_pointer;

static void use_idt(u32 base, u32 limit)
{
	struct table_pointer p = {(u16)limit, base};
	__asm__ volatile("lidt %0" : : "m"(p));
}

/* The gate is at the end of a page that is not there or, if what handles that comes before it, at its beginning. */
static u32 missing_gate(u32 vector) { return vector < 14 ? MISSING + 4096 - 8 : MISSING; }

static void missing_idt(u32 vector)
{
	u32 base = missing_gate(vector) - 8 * vector, from = vector < 14 ? vector + 1 : 0, to = vector < 14 ? 256 : vector;
	memcpy((void *)(base + 8 * from), (void *)(idt_pointer.base + 8 * from), 8 * (to - from));
	use_idt(base, idt_pointer.limit);
}

static void short_idt(u32 vector) { use_idt(idt_pointer.base, 8 * vector + 6); }

/* The error code of the second one is `error`, the first one's vector in the table if that is 0, and EXT. */
static const struct second {
	const char *name;
	u32 vector, class, error;
	void (*spoil)(u32 vector);
} seconds[] = {
	{"#NP of the gate", 11, CONTRIBUTORY, 0, absent_gate},
	{"#GP of the IDT's limit", 13, CONTRIBUTORY, 0, short_idt},
	{"#GP of the gate's segment", 13, CONTRIBUTORY, DATA0, gate_to_data},
	{"#GP of the gate's type", 13, CONTRIBUTORY, 0, no_gate},
	{"#GP of a null selector", 13, CONTRIBUTORY, 0, null_gate},
	{"#GP of a selector beyond the table", 13, CONTRIBUTORY, BEYOND & ~3u, gate_beyond},
	{"#GP of the segment's limit", 13, CONTRIBUTORY, 0, gate_to_short},
	{"#NP of the gate's segment", 11, CONTRIBUTORY, ABSENT_CODE1 & ~3u, gate_to_absent},
	{"#TS of the stack's selector", 10, CONTRIBUTORY, 0, null_stack},
	{"#TS of one beyond the table", 10, CONTRIBUTORY, BEYOND & ~3u, stack_beyond},
	{"#TS of another level's", 10, CONTRIBUTORY, DATA0, stack_of_other_level},
	{"#TS of a read-only stack", 10, CONTRIBUTORY, READ_ONLY1 & ~3u, read_only_stack},
	{"#TS of the TSS's limit", 10, CONTRIBUTORY, OTHER_TSS, short_tss},
	{"#SS of an absent stack", 12, CONTRIBUTORY, ABSENT1 & ~3u, absent_stack},
	{"#SS of its limit", 12, CONTRIBUTORY, SHORT1 & ~3u, short_stack},
	{"#PF of its page", 14, PAGE_FAULT, W, missing_stack},
	{"#PF of the TSS's page", 14, PAGE_FAULT, 0, missing_tss},
	{"#PF of the IDT's page", 14, PAGE_FAULT, 0, missing_idt},
};

static u32 error_code(const struct first *f, const struct second *s)
{
	if (s->class == PAGE_FAULT) return s->error;
	return (s->spoil == absent_gate || s->spoil == no_gate || s->spoil == short_idt ? f->vector << 3 | 2 : s->error) | f->ext;
}

static bool is_double(const struct first *f, const struct second *s)
{
	return f->class == PAGE_FAULT || (f->class == CONTRIBUTORY && s->class == CONTRIBUTORY);
}

static const char *title(const char *first, const char *second)
{
	static char text[96];
	char *to = text;
	for (; *first; first++) *to++ = *first;
	for (const char *from = ", then "; *from; from++) *to++ = *from;
	for (; *second; second++) *to++ = *second;
	*to = 0;
	return text;
}

static void test_pair(const struct first *f, const struct second *s)
{
	if (s->spoil == short_idt && f->vector < 14) return; /* #GP has to be in it */
	tss.ss1 = DATA1;
	tss.esp1 = (u32)user_stack + 4096;
	tss.link = DATA0;
	idt_set(f->vector, HANDLER, CODE1, 0xEE);
	s->spoil(f->vector);
	if (f->vector == TICK) timer_once();
	struct state state = state_at(code_put(0, f->code, sizeof f->code), 3);
	state.eax = f->eax;
	state.eflags |= f->eflags;
	bool both = is_double(f, s);
	run_expect(title(f->name, s->name), &state, both ? 8 : s->vector, both ? 0 : error_code(f, s), 0);
	if (s->class == PAGE_FAULT) check_equal("CR2", state.cr2, s->spoil == missing_idt ? missing_gate(f->vector) : s->error ? MISSING + 4096 - 4 : MISSING);
	if (f->vector == TICK) check("the interrupt was acknowledged once", timer_was_taken());
	use_idt(idt_pointer.base, idt_pointer.limit);
	gdt[TSS_SELECTOR >> 3] &= ~(2ull << 40);
	__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
	idt_set(f->vector, (u32)(trap_stubs + 16 * f->vector), CODE0, 0x8E);
}

/* Three in a row: each is compared with the one that it has taken the place of. */
static void test_chains(void)
{
	static const struct { const char *name; u8 code[2]; u32 eax, first, second; } cases[] = {
		{"#UD, #TS, #TS: a double fault", {0x0F, 0x0B}, 0, 6, 10}, {"#DE, #PF, #PF: a double fault", {0xF7, 0xF0}, 0, 0, 14},
	};
	for (u32 i = 0; i < sizeof cases / sizeof *cases; i++) {
		u32 first = cases[i].first, second = cases[i].second;
		idt_set(first, HANDLER, CODE1, 0xEE);
		idt_set(second, HANDLER, CODE1, 0xEE);
		tss.ss1 = second == 14 ? DATA1 : 0;
		tss.esp1 = second == 14 ? MISSING + 4096 : (u32)user_stack + 4096;
		struct state s = state_at(code_put(0, cases[i].code, 2), 3);
		s.eax = cases[i].eax;
		run_expect(cases[i].name, &s, 8, 0, 0);
		idt_set(first, (u32)(trap_stubs + 16 * first), CODE0, 0x8E);
		idt_set(second, (u32)(trap_stubs + 16 * second), CODE0, 0x8E);
	}
}

void guest_main(void)
{
	paging_enable();
	__asm__ volatile("sidt %0" : "=m"(idt_pointer));
	code_put(64, (const u8[]){CODE_DONE}, 2);
	pte_set(MISSING, 0);
	gdt_set(CODE1 >> 3, 0, 0xFFFFF, 0xBB, 0xC);
	gdt_set(DATA1 >> 3, 0, 0xFFFFF, 0xB3, 0xC);
	gdt_set(SHORT1 >> 3, 0, 0xF, 0xB3, 0x4);
	gdt_set(ABSENT >> 3, 0, 0xFFFFF, 0x73, 0xC);
	gdt_set(ABSENT1 >> 3, 0, 0xFFFFF, 0x33, 0xC);
	gdt_set(READ_ONLY1 >> 3, 0, 0xFFFFF, 0xB1, 0xC);
	gdt_set(LIMITED1 >> 3, 0, 0xFFF, 0xBB, 0x4);
	gdt_set(ABSENT_CODE1 >> 3, 0, 0xFFFFF, 0x3B, 0xC);
	timer_init(TICK);
	for (u32 i = 0; i < sizeof firsts / sizeof *firsts; i++)
		for (u32 j = 0; j < sizeof seconds / sizeof *seconds; j++) test_pair(&firsts[i], &seconds[j]);
	test_chains();
}
