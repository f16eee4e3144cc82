/* Callouts that the monitor answers at its border, and SYSENTER and SYSEXIT without C, from states made of a seed: each case is run a few times, and leaves
 * a digest of all that it did. border_test.py compares these with those of a monitor that takes the long way each time. */
#include "random.h"

#define ROUNDS 3u
#define CASES 4000u
#define LANDING 0x30u /* in the code: where transfers go */
#define ENTRY 0x38u   /* and SYSENTER */
#define DATA 0x1800000u
#define STACK_TOP ((u32)user_stack + 4096 - 16) /* frames go over the boundary of two pages */
#define REACH 128u /* of a case about the top of its stack */
#define NARROW_DATA 0x10u
#define AROUND(top) ((u8 *)(top) - REACH)
#define LOW_END 0x10000u /* nothing is below it: a selector taken for an EIP gets nowhere */
#define GATE 0x40u
enum { SYSENTER_CS = 0x174, SYSENTER_ESP, SYSENTER_EIP };

/* Of the GDT, behind guest.c's: access, flags, base, limit. */
static const struct {
	u32 base, limit, access, flags;
} descriptors[] = {
	{0, 0xFFFFF, 0x9E, 0xC},          /* conforming code of level 0 */
	{0, 0xFFFFF, 0xBA, 0xC},          /* code of level 1 */
	{0, 0xFFFFF, 0xB2, 0xC},          /* its data */
	{0, 0xFFFFF, 0xFA, 0x8},          /* 16-bit code */
	{0, 0xFFFFF, 0x9A, 0x8},          /* and of level 0 */
	{0, 0xFFFFF, 0xF8, 0xC},          /* code that cannot be read */
	{0, 0xFFFFF, 0x7A, 0xC},          /* absent code */
	{0, 0xFFFFF, 0x72, 0xC},          /* absent data */
	{0, 0xFFFFF, 0xF0, 0xC},          /* read-only */
	{DATA - 0x100, 0x103, 0xF2, 0x4}, /* ends in the middle of a word */
	{0, DATA >> 12, 0xF6, 0xC},       /* expand-down */
	{DATA - 0x1000, 0xFFFFF, 0xF2, 0xC},
	{0, 0xFFFFF, 0xF2, 0x8},          /* a 16-bit stack */
	{0, 0x67, 0x82, 0},               /* an LDT */
	{0, 0, 0, 0},                     /* call gates, below */
	{0, 0, 0, 0},
	{0, 0, 0, 0},
};
#define DESCRIPTORS (sizeof descriptors / sizeof *descriptors)
#define CALL_GATE (GDT_FREE + DESCRIPTORS - 3)
_Static_assert(GDT_FREE + DESCRIPTORS <= GDT_ENTRIES, "the GDT is full");

struct border_case {
	struct state state;
	u8 code[64];
	u32 length, stack[16], data[4], pages[2], msr_cs;
	bool narrow; /* virtual-8086 mode */
};

static u32 ended_by[256];
static u8 kernel_stack[4096] __attribute__((aligned(16)));

static bool one_in(u32 n)
{
	return below(n) == 0;
}

static u16 selector(const struct border_case *c)
{
	static const u16 usual[] = {0, 3, CODE0, DATA0, CODE3, DATA3, TSS_SELECTOR, CODE0 | 3, GDT_ENTRIES << 3 | 4};
	static const u16 narrow[] = {V86_CODE >> 4, V86_DATA >> 4, V86_STACK >> 4};
	if (c->narrow) return narrow[below(3)];
	return one_in(2) ? usual[below(sizeof usual / sizeof *usual)] : (u16)((GDT_FREE + below(DESCRIPTORS)) << 3 | (one_in(2) ? 3 : below(4)));
}

static u16 code_selector(const struct border_case *c)
{
	return c->narrow ? V86_CODE >> 4 : one_in(3) ? selector(c) : one_in(2) ? CODE0 : CODE3;
}

static u32 some_flags(void)
{
	u32 flags = next() & (EFLAGS_ARITH | EFLAGS_IF | EFLAGS_DF | 0x3000);
	return flags | 2 | (one_in(8) ? 0x4000 : 0) | (one_in(8) ? 0x40000 : 0) | (one_in(16) ? EFLAGS_TF : 0);
}

/* The instructions. */

static void put(struct border_case *c, u8 byte)
{
	c->code[c->length++] = byte;
}

static void put_word(struct border_case *c, u32 word, u32 size)
{
	for (u32 i = 0; i < size; i++) put(c, (u8)(word >> 8 * i));
}

static u32 landing(const struct border_case *c)
{
	return (c->narrow ? 0 : (u32)code_area) + LANDING;
}

static void put_instruction(struct border_case *c)
{
	static const struct {
		u8 length, bytes[3];
	} plain[] = {
		{1, {0x9C}}, {1, {0x9D}}, {2, {0x66, 0x9C}}, {2, {0x66, 0x9D}}, {1, {0xFA}}, {1, {0xFB}}, {2, {0xCD, GATE}}, {2, {0xCD, GATE + 1}}, {2, {0xCD, GATE + 2}},
		{1, {0xCC}}, {1, {0xCE}}, {1, {0xCF}}, {1, {0xCB}}, {3, {0xCA, 8, 0}}, {2, {0xFF, 0x1B}}, {2, {0xFF, 0x2B}},
		{2, {0x8E, 0xC0}}, {2, {0x8E, 0xD8}}, {2, {0x8E, 0xE0}}, {2, {0x8E, 0xE8}}, {2, {0x8E, 0xD0}}, {2, {0x8E, 0x03}},
		{2, {0x8C, 0xC2}}, {2, {0x8C, 0xDA}}, {2, {0x8C, 0xE2}}, {2, {0x8C, 0xCA}}, {2, {0x8C, 0xD2}}, {3, {0x8C, 0x6B, 8}},
		{1, {0x06}}, {1, {0x0E}}, {1, {0x16}}, {1, {0x1E}}, {2, {0x0F, 0xA0}}, {2, {0x0F, 0xA8}},
		{1, {0x07}}, {1, {0x17}}, {1, {0x1F}}, {2, {0x0F, 0xA1}}, {2, {0x0F, 0xA9}},
		{2, {0xC4, 0x13}}, {2, {0xC5, 0x13}}, {3, {0x0F, 0xB2, 0x13}}, {3, {0x0F, 0xB4, 0x13}}, {3, {0x0F, 0xB5, 0x13}},
		{3, {0x0F, 0x02, 0xD0}}, {3, {0x0F, 0x03, 0xD0}}, {3, {0x0F, 0x00, 0xE0}}, {3, {0x0F, 0x00, 0xE8}},
		{2, {0x0F, 0x34}}, {2, {0x0F, 0x35}}, {2, {0x0F, 0x34}}, {2, {0x0F, 0x35}}, {2, {0x0F, 0x0B}}, {2, {0x62, 0x13}},
		{3, {0x64, 0x8B, 0x13}}, {3, {0x65, 0x01, 0x13}}, {3, {0x26, 0xFF, 0x33}}, {2, {0x8B, 0x13}}, {2, {0x89, 0x13}}, {1, {0x90}},
	};
	u32 n = below(sizeof plain / sizeof *plain + 4), size = c->narrow ? 2 : 4;
	if (n < sizeof plain / sizeof *plain) {
		for (u32 i = 0; i < plain[n].length; i++) put(c, plain[n].bytes[i]);
		/* [EBX] is [BX], not [BP+DI]. */
		u8 *last = &c->code[c->length - 1];
		if (c->narrow && (*last & 0xC7) == 3 && *last != 0x0B) *last |= 4;
		return;
	}
	put(c, n & 1 ? 0x9A : 0xEA); /* CALL and JMP far */
	put_word(c, landing(c), size);
	put_word(c, code_selector(c), 2);
}

/* A few, now and then in a loop, by which the monitor learns; INT behind, at LANDING, and where SYSENTER goes, or SYSEXIT there. */
static void make_code(struct border_case *c)
{
	memset(c->code, 0xCC, sizeof c->code);
	u32 count = 1 + below(4);
	for (u32 i = 0; i < count; i++) put_instruction(c);
	if (one_in(2)) {
		put(c, 0x4D); /* dec ebp; jnz */
		put(c, 0x75);
		put(c, (u8)-(c->length + 1));
	}
	static const u8 done[] = {CODE_DONE}, leave[] = {0x0F, 0x35};
	memcpy(c->code + c->length, done, 2);
	memcpy(c->code + LANDING, done, 2);
	memcpy(c->code + ENTRY, one_in(3) ? done : leave, 2);
}

/* What is popped: selectors first, perhaps, then what IRET or a far return takes. */
static void make_stack(struct border_case *c)
{
	u32 at = 0, selectors = one_in(2) ? 0 : below(3);
	for (; at < selectors; at++) c->stack[at] = one_in(3) ? some_flags() : selector(c);
	c->stack[at++] = landing(c);
	c->stack[at++] = code_selector(c);
	c->stack[at++] = some_flags();
	c->stack[at++] = 0xBAD0000 + next() % 4096;
	c->stack[at++] = one_in(2) ? DATA3 : selector(c);
	while (at < 16) c->stack[at++] = selector(c);
	c->data[0] = landing(c);
	c->data[1] = code_selector(c);
	if (c->narrow) c->data[0] |= c->data[1] << 16;
	c->data[2] = next();
	c->data[3] = selector(c);
}

static void make_state(struct border_case *c)
{
	struct state *s = &c->state;
	u32 cpl = one_in(2) ? 3 : 0;
	*s = c->narrow ? v86_state(c->code, sizeof c->code, one_in(2) ? 3 : 0) : state_at(code_area, cpl);
	s->eflags |= next() & (EFLAGS_ARITH | EFLAGS_IF | EFLAGS_DF);
	if (!c->narrow) {
		static const u16 data[] = {0, DATA3, DATA3, DATA3, (GDT_FREE + 8) << 3 | 3, (GDT_FREE + 9) << 3 | 3, (GDT_FREE + 10) << 3 | 3, (GDT_FREE + 11) << 3 | 3};
		s->eflags |= (one_in(3) ? 0x3000 : 0) | (one_in(8) ? 0x4000 : 0) | (one_in(8) ? 0x40000 : 0);
		s->es = data[below(8)];
		s->fs = data[below(8)];
		s->gs = data[below(8)];
		s->esp = STACK_TOP + 4 * below(8) - 2 * one_in(8);
	}
	if (one_in(8)) s->ss = cpl ? (GDT_FREE + 12) << 3 | 3 : s->ss;
	s->eax = selector(c);
	s->ebx = s->esi = s->edi = c->narrow ? NARROW_DATA : (one_in(4) ? 0x100 : DATA) + below(4) * one_in(4);
	s->ecx = s->esp + 4;
	s->edx = landing(c);
	s->ebp = 1 + below(3);
	c->msr_cs = one_in(8) ? 0 : CODE0;
}

static void make(struct border_case *c)
{
	static const u32 pages[] = {P | W | U, P | W | U, P | W | U, P | W | U, P | W | U, P | U, P | W, 0};
	memset(c, 0, sizeof *c);
	c->narrow = one_in(6);
	make_code(c);
	make_stack(c);
	make_state(c);
	/* Of level 0, which needs a stack to the end. */
	c->pages[0] = c->state.cs & 3 ? pages[below(8)] : P | W | U;
	c->pages[1] = c->state.cs & 3 ? pages[below(8)] : P | W | U;
}

/* The guest as the case finds it: descriptors without A bits, its stack, data and code. */

static const u32 data_places[] = {DATA, V86_DATA + NARROW_DATA, V86_DATA + 0x1000 + NARROW_DATA, V86_STACK + NARROW_DATA, DATA - 0x1000 + 0x100};
/* The first in 32-bit code, the others in virtual-8086 mode. */
static const u32 stack_tops[] = {STACK_TOP, V86_STACK + V86_SP, V86_DATA + V86_SP, V86_CODE + V86_SP};
#define DATA_PLACES (sizeof data_places / sizeof *data_places)

static void set_memory(const struct border_case *c)
{
	for (u32 i = 0; i < DESCRIPTORS; i++) gdt_set(GDT_FREE + i, descriptors[i].base, descriptors[i].limit, descriptors[i].access, descriptors[i].flags);
	for (u32 i = 0; i < 3; i++) {
		u32 to = (u32)code_area + LANDING, kind[3] = {0xEC02, 0x8C00, 0x6C00}; /* two parameters; of level 0; absent */
		gdt[CALL_GATE + i] = (u64)((to & 0xFFFF0000) | kind[i]) << 32 | CODE0 << 16 | (to & 0xFFFF);
	}
	for (u32 i = c->narrow; i <= 3 * c->narrow; i++) memset(AROUND(stack_tops[i]), 0xCC, 2 * REACH);
	for (u32 i = 0; i < 16; i++) {
		if (c->narrow) ((u16 *)(V86_STACK + V86_SP))[i] = (u16)c->stack[i];
		else ((u32 *)c->state.esp)[i] = c->stack[i];
	}
	for (u32 i = 0; i < DATA_PLACES; i++) memcpy((void *)data_places[i], c->data, sizeof c->data);
	u8 *code = c->narrow ? (u8 *)V86_CODE : code_area;
	if (memcmp(code, c->code, sizeof c->code)) memcpy(code, c->code, sizeof c->code);
}

static void set_stack_pages(u32 first, u32 second)
{
	pte_set((u32)user_stack, (u32)user_stack | first);
	pte_set((u32)user_stack + 4096, ((u32)user_stack + 4096) | second);
}

static u32 mix(u32 digest, const void *from, u32 size)
{
	for (const u8 *at = from; size; size--) digest = (digest ^ *at++) * 0x01000193;
	return digest;
}

static u32 mix_outcome(u32 digest, const struct border_case *c, const struct state *s)
{
	digest = mix(digest, s, sizeof *s);
	for (u32 i = c->narrow; i <= 3 * c->narrow; i++) digest = mix(digest, AROUND(stack_tops[i]), 2 * REACH);
	for (u32 i = 0; i < DATA_PLACES; i++) digest = mix(digest, (void *)data_places[i], sizeof c->data);
	return mix(digest, gdt, sizeof gdt);
}

/* All rounds of it: the monitor learns in the first what it does by itself in the next. */
static u32 run_case(const struct border_case *c)
{
	u32 digest = 0x811C9DC5;
	wrmsr(SYSENTER_CS, c->msr_cs);
	for (u32 round = 0; round < ROUNDS; round++) {
		struct state s = c->state;
		set_memory(c);
		set_stack_pages(c->pages[0], c->pages[1]);
		run(&s);
		set_stack_pages(P | W | U, P | W | U);
		digest = mix_outcome(digest, c, &s);
		ended_by[s.vector & 0xFF]++;
	}
	return digest;
}

static void set_up(void)
{
	paging_enable();
	for (u32 at = 0; at < LOW_END; at += 4096) pte_set(at, 0);
	/* A word that is no address may be one: it leads to INT3. */
	memset((void *)LOW_END, 0xCC, 0xA0000 - LOW_END);
	memset(user_stack, 0xCC, sizeof user_stack);
	WRITE_CR(0, READ_CR(0) | 0x40000); /* AM */
	for (u32 i = 0; i < 3; i++) idt_set(GATE + i, (u32)(trap_stubs + 16 * (GATE + i)), CODE0, i == 0 ? 0xEE : i == 1 ? 0x8F : 0x6E);
	wrmsr(SYSENTER_ESP, (u32)kernel_stack + sizeof kernel_stack);
	wrmsr(SYSENTER_EIP, (u32)code_area + ENTRY);
}

void guest_main(void)
{
	static struct border_case c;
	random_begin(); /* the command line is in memory that set_up() writes over */
	set_up();
	for (u32 i = 0; i < CASES; i++) {
		make(&c);
		u32 digest = run_case(&c);
		print(i % 8 ? " %x" : "# case %u:", i % 8 ? digest : i);
		if (i % 8 == 0) print(" %x", digest);
		if (i % 8 == 7) print("\n");
	}
	check("a tenth runs to its end", ended_by[RUN_DONE] > ROUNDS * CASES / 10);
	check("others end by INT", ended_by[GATE] > 0 && ended_by[GATE + 1] > 0 && ended_by[GATE + 2] == 0);
	check("or by #UD, #NP, #GP and #PF", ended_by[6] && ended_by[11] && ended_by[13] && ended_by[14]);
	check("or by #AC", ended_by[17] > 0);
}
