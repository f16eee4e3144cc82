/* Random programs of all that hostile code may do at once: stacks that point anywhere, code and page tables that are written as data through any
 * of their mappings, by the code that uses them and by the kernel that it calls, which remaps pages under it; segments of all kinds, single steps,
 * breakpoints, alignment checks; at CPL 3 and at CPL 1. Whatever they raise is noted, and they go on. hostile_mix_test.py compares what is left of
 * each with a monitor that runs one instruction at a time, in another form. */
#include "hostile_mix.h"

#define MOST_TRAPS 150u
#define MOST_WORK 60u
#define MOST_STEPS 100u
#define CASES 250u
#define TIMER 0x20u
#define CR0_AM 0x40000u

static u32 other_directory[1024] __attribute__((aligned(4096)));
static u8 enter_stack[4096] __attribute__((aligned(4096)));
static u32 steps, traps, works, digest, late, seen[256], work_state;
static u8 *done_code;
static u8 sse_state[512] __attribute__((aligned(16)));

static u32 *table(u32 which) { return (u32 *)(FRAMES + which * 4096); }

/* --- the kernel --- */

static u32 read_dr6(void)
{
	u32 dr6;
	__asm__ volatile("mov %%dr6, %0; mov %1, %%dr6" : "=&r"(dr6) : "r"(0));
	return dr6;
}

static void watch(u32 at, u32 dr7)
{
	__asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(at), "r"(dr7 | 0x400));
}

static void fill(u32 at, u32 word, u32 size)
{
	u32 count = size / 4;
	__asm__ volatile("rep stosl" : "+D"(at), "+c"(count) : "a"(word) : "memory");
}

static void copy(u32 at, const void *from, u32 size)
{
	u32 count = (size + 3) / 4;
	__asm__ volatile("rep movsl" : "+S"(from), "+D"(at), "+c"(count) : : "memory");
}

static u32 draw(void)
{
	work_state = work_state * 1664525 + 1013904223;
	return work_state >> 8;
}

static void mix(u32 word) { digest = (digest ^ word) * 0x01000193; }

static void remap(u32 page, u32 entry)
{
	u32 *pte = &table(0)[page];
	switch (draw() % 4) {
	case 0: *pte = entry; break;
	case 1:
		*pte = 0;
		*pte = entry;
		break;
	case 2: __asm__ volatile("xchgl %0, %1" : "+r"(entry), "+m"(*pte) : : "memory"); break;
	default: __asm__ volatile("movl $0, %1; lock; orl %0, %1" : : "r"(entry), "m"(*pte) : "memory");
	}
	invlpg(REGION + page * 4096);
}

static u32 drawn_entry(void)
{
	u32 rights = draw() % 3 ? P | W | U : draw() % 8;
	return (FRAMES + draw() % FRAME_COUNT * 4096) | rights | (draw() % 4 ? A | D : 0);
}

static u32 directory_now(void) { return READ_CR(3) & ~0xFFFu; }

static void work(u32 what)
{
	u32 page = draw() % PAGES_USED, *pte = &table(0)[page], *directory = (u32 *)directory_now();
	switch (what % 21) {
	case 20: gdt[GDT_FREE + FROM_REGION] ^= 1u << draw() % 16; break; /* its limit */
	case 0: remap(page, drawn_entry()); break;
	case 1: *pte &= ~A; invlpg(REGION + page * 4096); break;
	case 2: *pte &= ~D; invlpg(REGION + page * 4096); break;
	case 3: WRITE_CR(3, directory == page_directory ? other_directory : page_directory); break;
	case 4: *(volatile u32 *)(FRAMES + (CODE_PAGE + draw() % CODE_PAGES) * 4096 + draw() % 4093) = draw() % 2 ? 0x90909090 : draw(); break;
	case 5: *pte &= ~W; invlpg(REGION + page * 4096); break;
	case 6: *pte |= W | U | P; invlpg(REGION + page * 4096); break;
	case 7: memcpy(table(1), table(0), 4096); break;
	case 8: WRITE_CR(0, READ_CR(0) ^ 0x10000); break;
	case 9: copy((u32)table(0), table(1), 128); WRITE_CR(3, directory); break;
	case 10: mix(*(volatile u32 *)(FRAMES + page % 16 * 4096)); break;
	case 11: directory[REGION_SLOT] ^= (u32)table(0) ^ (u32)table(1); WRITE_CR(3, directory); break;
	case 12:
		for (u32 i = 0; i < 300; i++) table(0)[64 + i] = drawn_entry();
		WRITE_CR(3, directory);
		break;
	case 13: {
		u32 other = CODE_PAGE + draw() % 8, entry = table(0)[other];
		table(0)[other] = *pte;
		*pte = entry;
		WRITE_CR(3, directory);
		break;
	}
	case 14: WRITE_CR(3, directory); break;
	case 15: directory[LARGE_SLOT] ^= draw() % 2 ? P : W; WRITE_CR(3, directory); break;
	case 16: WRITE_CR(4, READ_CR(4) ^ 0x10); break;
	case 17:
		for (u32 i = 0; i < 4; i++) remap(draw() % PAGES_USED, 0);
		for (u32 i = 0; i < 4; i++) remap(draw() % PAGES_USED, drawn_entry());
		break;
	case 18: remap(STACK_PAGE + draw() % 2, drawn_entry()); break;
	default: remap(CODE_PAGE + draw() % CODE_PAGES, draw() % 2 ? drawn_entry() : (FRAMES + (CODE_PAGE + draw() % CODE_PAGES) * 4096) | P | W | U | A);
	}
}

static void end_case(struct trap_frame *f)
{
	f->eip = (u32)done_code;
	f->cs = CODE3;
	f->ss = DATA3;
	f->eflags &= ~EFLAGS_TF;
}

static void do_work(u32 what)
{
	mix(what);
	if (++works <= MOST_WORK) work(what);
}

static void on_work(struct trap_frame *f)
{
	mix(f->eip);
	do_work(f->eax);
	if (works > MOST_WORK) end_case(f);
}

/* ECX = ESP, EDX = EIP of who called; EAX = what to do. */
void entered(u32 what)
{
	do_work(what);
}

__asm__(".globl mix_enter\n"
	"mix_enter:\n"
	"	pushl %ecx\n"
	"	pushl %edx\n"
	"	pushl %eax\n"
	"	cld\n"
	"	movl $0x10, %eax\n"
	"	movl %eax, %ds\n"
	"	movl %eax, %es\n"
	"	call entered\n"
	"	movl $0x23, %eax\n"
	"	movl %eax, %ds\n"
	"	movl %eax, %es\n"
	"	popl %eax\n"
	"	popl %edx\n"
	"	popl %ecx\n"
	"	sti\n"
	"	sysexit\n");
extern u8 mix_enter[];

/* The next unit, with a stack now and then. */
static void skip(struct trap_frame *f)
{
	const struct state *s = &the_case.state;
	if (unit == UNITS) {
		end_case(f);
		return;
	}
	f->eip = the_case.starts[unit++] - the_case.code_base;
	f->cs = s->cs;
	f->ss = s->ss;
	f->eflags &= ~(EFLAGS_DF | EFLAGS_TF | 0x4000u);
	f->eflags |= EFLAGS_IF;
	if (draw() % 2) f->esp = s->esp;
	if (draw() % 2) {
		f->ds = s->ds;
		f->es = s->es;
	}
}

static void on_trap(struct trap_frame *f)
{
	u32 cr2 = f->vector == 14 ? READ_CR(2) : 0, page = (cr2 - REGION) >> 12;
	seen[f->vector & 0xFF]++;
	mix(f->vector);
	mix(f->error);
	mix(f->eip);
	mix(f->esp);
	mix(f->eflags & ~0x10000u);
	mix(f->eax ^ f->ebx);
	mix(cr2);
	if (f->vector == 1) {
		mix(read_dr6());
		if (++steps > MOST_STEPS) f->eflags &= ~EFLAGS_TF;
		if (steps > 2 * MOST_STEPS) skip(f);
	} else if (++traps > MOST_TRAPS) {
		end_case(f);
	} else if (f->vector == 14 && page < 1024 && draw() % 3) {
		u32 code = page >= CODE_PAGE && page < CODE_PAGE + CODE_PAGES;
		((u32 *)directory_now())[REGION_SLOT] |= P | W | U;
		remap(page, code ? (FRAMES + page * 4096) | P | W | U : draw() % 4 ? (FRAMES + (2 + draw() % 14) * 4096) | P | W | U : drawn_entry());
	} else {
		skip(f);
	}
}

static void on_timer(struct trap_frame *f)
{
	out8(0x20, 0x20);
	out8(0x43, 0xE2); /* its status: that of the case before may have come late */
	if (!(in8(0x40) & 0x80)) return;
	late = 1;
	end_case(f);
}

/* --- running them --- */

static void start_timer(void)
{
	out8(0x43, 0x30);
	out8(0x40, 0xFF);
	out8(0x40, 0xFF);
}

static void set_directory(u32 *directory, const struct mix_case *c, u32 which)
{
	for (u32 i = 0; i < 1024; i++) directory[i] = i < PAGED_MIB / 4 ? page_directory[i] | A : 0;
	directory[REGION_SLOT] = (u32)table(which) | P | W | U | A;
	directory[LARGE_SLOT] = c->paged_large ? FRAMES | P | W | U | PS | A | D : 0;
}

static void set_segments(void)
{
	gdt_set(GDT_FREE + CODE1, 0, 0xFFFFF, 0xBB, 0xC);
	gdt_set(GDT_FREE + DATA1, 0, 0xFFFFF, 0xB3, 0xC);
	gdt_set(GDT_FREE + CODE16, REGION + CODE_PAGE * 4096, 0xFFFF, 0xFB, 0);
	gdt_set(GDT_FREE + DATA16, REGION, 0xFFFF, 0xF3, 0);
	gdt_set(GDT_FREE + TO_REGION, 0, (REGION >> 12) + 15, 0xF3, 0xC);
	gdt_set(GDT_FREE + DOWN, 0, (REGION >> 12) + 1, 0xF7, 0xC);
	gdt_set(GDT_FREE + READABLE, 0, 0xFFFFF, 0xF1, 0xC);
	gdt_set(GDT_FREE + FROM_REGION, REGION, 0x1FFFF, 0xF3, 4);
	gdt_set(GDT_FREE + CONFORMING, 0, 0xFFFFF, 0xFF, 0xC);
	gdt_set(GDT_FREE + CODE_LIMIT, 0, (REGION >> 12) + 6, 0xFB, 0xC);
}

static void set_memory(const struct mix_case *c)
{
	WRITE_CR(4, READ_CR(4) | 0x10);
	WRITE_CR(0, READ_CR(0) | 0x10000);
	WRITE_CR(3, page_directory);
	set_segments();
	done_code = CODE(CODE_DONE);
	fill((u32)user_stack, 0, sizeof user_stack);
	fill(FRAMES + FRAME_COUNT * 4096, 0, 0x400000 - FRAME_COUNT * 4096);
	for (u32 i = 2; i < FRAME_COUNT; i++) fill(FRAMES + i * 4096, 0x01010101 * (u8)(i * 37 + c->seed), 4096);
	fill((u32)table(0), 0, 8192);
	copy((u32)table(0), c->maps, sizeof c->maps);
	copy((u32)table(1), c->other_maps, sizeof c->other_maps);
	copy(FRAMES + (begins() - REGION), c->code, c->length);
	set_directory(page_directory, c, 0);
	set_directory(other_directory, c, 1);
	if (c->ends) {
		map_ends(FRAMES + 12 * 4096, P | W | U, P | W | U);
		other_directory[1023] = page_directory[1023];
		other_directory[0] = page_directory[0];
	} else {
		unmap_ends();
		other_directory[0] = page_directory[0];
	}
}

static u32 run_case(const struct mix_case *c)
{
	struct state s = c->state;
	set_memory(c);
	unit = steps = traps = works = late = 0;
	digest = 0x811C9DC5;
	work_state = c->seed;
	__asm__ volatile("fxrstor %0" : : "m"(sse_state));
	start_timer();
	watch(c->watched, c->dr7);
	run(&s);
	watch(0, 0);
	seen[s.vector & 0xFF]++;
	WRITE_CR(0, READ_CR(0) | 0x10000);
	read_dr6();
	if (s.vector != 14) s.cr2 = 0;
	for (u32 i = 0; i < sizeof s / 4; i++) mix(((u32 *)&s)[i]);
	const u32 *at = (const u32 *)FRAMES;
	for (u32 i = 0; i < FRAME_COUNT * 1024; i++) mix(i < 2048 ? at[i] & ~(A | D) : at[i]);
	return digest;
}

static void prepare(void)
{
	paging_init();
	WRITE_CR(4, READ_CR(4) | 0x614); /* PSE, SSE; and TSD, since RDTSC is another each time */
	for (u32 va = 0; va < PAGED_MIB << 20; va += 4096)
		if (va - (u32)code_area >= CODE_SIZE) *pte_of(va) &= ~U;
	*pte_of((u32)user_stack) |= U; /* warm_up's */
	*pte_of((u32)user_stack + 4096) |= U;
	for (u32 low = 0; low < 0x100000; low += 4096) *pte_of(low) = 0;
	WRITE_CR(3, page_directory);
	WRITE_CR(0, READ_CR(0) | 0x80010000 | CR0_AM);
	__asm__ volatile("fninit; fxsave %0" : "=m"(sse_state));
	idt_set(WORK, (u32)(trap_stubs + 16 * WORK), CODE0, 0xEE);
	trap_handle(WORK, on_work);
	for (u32 i = 0; i < 20; i++) trap_handle(i, on_trap);
	out8(0x20, 0x11);
	out8(0x21, TIMER);
	out8(0x21, 4);
	out8(0x21, 1);
	out8(0x21, 0xFE);
	trap_handle(TIMER, on_timer);
	wrmsr(0x174, CODE0);
	wrmsr(0x175, (u32)enter_stack + sizeof enter_stack);
	wrmsr(0x176, (u32)mix_enter);
	warm_up();
}

void guest_main(void)
{
	u32 ended_late = 0;
	random_begin();
	prepare();
	for (u32 i = 0; i < CASES; i++) {
		make(&the_case);
		u32 is = run_case(&the_case);
		ended_late += late;
		print(late ? "# case %u: late\n" : "# case %u: %x %u %u\n", i, is, traps, works);
	}
	print("# late %u\n", ended_late);
	for (u32 i = 0; i < 32; i++)
		if (seen[i]) print("# exception %u: %u\n", i, seen[i]);
	check("half of them end", ended_late < CASES / 2);
	check("they meet all kinds of exceptions", seen[0] && seen[1] && seen[3] && seen[6] && seen[12] && seen[13] > CASES && seen[14] > CASES);
}
