/* Random programs of all that hostile code may do at once: stacks that point anywhere, code and page tables that are written as data through any
 * of their mappings, by the code that uses them and by the kernel that it calls, which remaps pages under it; segments of all kinds, single steps,
 * breakpoints, alignment checks, hardware tasks, interrupts that lead to these; at CPL 3, at CPL 1 and in virtual-8086 mode. Whatever they raise is noted, and they go on. hostile_mix_test.py compares
 * what is left of each with a monitor that runs one instruction at a time, in another form. hostile_mix_pae.c is the same with page tables of PAE. */
#include "hostile_mix.h"

#define MOST_TRAPS 150u
#define MOST_WORK 60u
#define MOST_STEPS 100u
#define CASES 250u
#define TIMER 0x20u
#define CR0_AM 0x40000u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u
#define EFER 0xC0000080u
#define NXE 0x800u
#define LINT0_EXTINT 0x700u
#define LINT0_NMI 0x400u

static u8 enter_stack[4096] __attribute__((aligned(4096)));
static u32 steps, traps, works, digest, late, seen[256], work_state, first_cr4, task_now, switches, rescues, sent, taken, left;
static u8 *done_code;
static bool traced; /* "trace=N" on the command line: the traps of the Nth are shown */
static u8 sse_state[512] __attribute__((aligned(16)));

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

static entry_t *region_entry(u32 page) { return &table(0)[page]; }

static void flush(u32 page)
{
	invlpg(REGION + page * 4096);
	invlpg(page * 4096);
}

static void remap(u32 page, entry_t entry)
{
	entry_t *pte = region_entry(page);
	u32 *half = (u32 *)pte, low = (u32)entry;
	switch (draw() % 4) {
	case 0: *pte = entry; break;
	case 1:
		*pte = 0;
		*pte = entry;
		break;
	case 2: __asm__ volatile("xchgl %0, %1" : "+r"(low), "+m"(*half) : : "memory"); break;
	default: __asm__ volatile("movl $0, %1; lock; orl %0, %1" : : "r"(low), "m"(*half) : "memory");
	}
	if (sizeof *pte == 8) half[1] = (u32)((u64)entry >> 32);
	flush(page);
}

static entry_t arena_entry(u32 frame, u32 rights) { return (FRAMES + frame * 4096) | rights; }

static entry_t drawn_entry(void)
{
	u32 rights = draw() % 3 ? P | W | U : draw() % 8;
	entry_t entry = arena_entry(draw() % FRAME_COUNT, rights | (draw() % 4 ? A | D : 0));
#ifdef PAE
	if (draw() % 8 == 0) entry |= XD;
	if (draw() % 32 == 0) entry |= 1ull << (32 + draw() % 31); /* ignored, reserved, or where no memory is */
#endif
	return entry;
}

#ifdef PAE
static void toggle_cr4(u32 bit)
{
	u32 a = 7, b, c = 0, d;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if (bit == CR4_PGE || (bit == CR4_SMEP && (b & 1u << 7)) || (bit == CR4_SMAP && (b & 1u << 20))) WRITE_CR(4, READ_CR(4) ^ bit);
}

/* What only tables of three levels have. */
static void work_wide(u32 what, u32 page)
{
	entry_t *entries = directory(draw() % 2);
	u64 *pdpte = &pdpts[draw() % 2][1 + draw() % 2];
	switch (what) {
	case 0: *region_entry(page) ^= XD; flush(page); break;
	case 1: entries[SLOT(REGION)] ^= XD; space_reload(); break;
	case 2: *region_entry(page) ^= 1ull << (36 + draw() % 16); flush(page); break;
	case 3: entries[SLOT(LARGE)] ^= draw() % 2 ? 1ull << (13 + draw() % 8) : XD; space_reload(); break;
	case 4: wrmsr(EFER, rdmsr(EFER) ^ NXE); break;
	case 5: toggle_cr4(CR4_PGE); break;
	case 6: toggle_cr4(CR4_SMEP); break;
	case 7: toggle_cr4(CR4_SMAP); break;
	case 8: *pdpte ^= P; if (draw() % 2) space_reload(); break;
	case 9: *pdpte = (u32)directory(draw() % 2) | P; space_reload(); break;
	case 10: /* reserved: CR3 stays as it is */
		*pdpte |= draw() % 2 ? 2 : 1ull << (36 + draw() % 28);
		space_reload();
		*pdpte = (u32)directory(draw() % 2) | P;
		break;
	case 11: entries[SLOT(REGION)] = drawn_entry() | P; space_reload(); break;
	case 12: entries[SLOT(REGION) + draw() % 4] = (u32)directory(draw() % 2) | P | W | U; space_reload(); break; /* it maps itself */
	case 13: entries[SLOT(REGION)] = (u32)table(draw() % 2) | P | W | U; space_reload(); break;
	default: ((volatile u32 *)region_entry(page))[1] = draw() % 4 ? 0 : 1u << draw() % 32; flush(page);
	}
}
#define WORK_WIDE 15u
#else
static void work_wide(u32 what, u32 page)
{
	(void)what;
	(void)page;
}
#define WORK_WIDE 0u
#endif

static void work(u32 what)
{
	u32 page = draw() % PAGES_USED;
	entry_t *pte = region_entry(page), *entries = directory(space_now());
	what %= 21 + WORK_WIDE;
	switch (what) {
	case 0: remap(page, drawn_entry()); break;
	case 1: *pte &= ~(entry_t)A; flush(page); break;
	case 2: *pte &= ~(entry_t)D; flush(page); break;
	case 3: space_load(!space_now()); break;
	case 4: *(volatile u32 *)(FRAMES + (CODE_PAGE + draw() % CODE_PAGES) * 4096 + draw() % 4093) = draw() % 2 ? 0x90909090 : draw(); break;
	case 5: *pte &= ~(entry_t)W; flush(page); break;
	case 6: *pte |= W | U | P; flush(page); break;
	case 7: memcpy(table(1), table(0), 4096); break;
	case 8: WRITE_CR(0, READ_CR(0) ^ 0x10000); break;
	case 9: copy((u32)table(0), table(1), PAGES_USED * sizeof(entry_t)); space_reload(); break;
	case 10: mix(*(volatile u32 *)(FRAMES + page % 16 * 4096)); break;
	case 11: entries[SLOT(REGION)] ^= (u32)table(0) ^ (u32)table(1); space_reload(); break;
	case 12:
		for (u32 i = 0; i < 300; i++) table(0)[64 + i] = drawn_entry();
		space_reload();
		break;
	case 13: {
		u32 other = CODE_PAGE + draw() % 8;
		entry_t entry = table(0)[other];
		table(0)[other] = *pte;
		*pte = entry;
		space_reload();
		break;
	}
	case 14: space_reload(); break;
	case 15: entries[SLOT(LARGE)] ^= draw() % 2 ? P : W; space_reload(); break;
	case 16: WRITE_CR(4, READ_CR(4) ^ 0x10); break;
	case 17:
		for (u32 i = 0; i < 4; i++) remap(draw() % PAGES_USED, 0);
		for (u32 i = 0; i < 4; i++) remap(draw() % PAGES_USED, drawn_entry());
		break;
	case 18: remap(STACK_PAGE + draw() % 2, drawn_entry()); break;
	case 19: remap(CODE_PAGE + draw() % CODE_PAGES, draw() % 2 ? drawn_entry() : arena_entry(CODE_PAGE + draw() % CODE_PAGES, P | W | U | A)); break;
	case 20: gdt[GDT_FREE + FROM_REGION] ^= 1u << draw() % 16; break; /* its limit */
	default: work_wide(what - 21, page);
	}
}

/* Above a frame there is room for the segments of virtual-8086 mode, as if it came from there. */
static void end_case(struct trap_frame *f)
{
	f->eip = (u32)done_code;
	f->cs = CODE3;
	f->ss = DATA3;
	f->eflags &= ~(EFLAGS_TF | EFLAGS_VM | EFLAGS_NT);
}

static bool timer_is_up(void)
{
	out8(0x43, 0xE2); /* its status */
	return in8(0x40) & 0x80;
}

__asm__("kernel_done: int $0x81\n"); /* RUN_DONE */
extern u8 kernel_done[];

#include "hostile_mix_tasks.h"

static void do_work(u32 what)
{
	mix(what);
	if (++works > MOST_WORK) return;
	if (the_case.tasks && draw() % 2) work_tasks();
	else work(what);
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

static void set_segments_of(struct trap_frame *f, const struct state *s)
{
	if (s->eflags & EFLAGS_VM) {
		f->v86_ds = s->ds;
		f->v86_es = s->es;
		f->v86_fs = s->fs;
		f->v86_gs = s->gs;
	} else {
		f->ds = s->ds;
		f->es = s->es;
	}
}

/* The next unit, with a stack now and then. */
static void skip(struct trap_frame *f)
{
	const struct state *s = &the_case.state;
	if (the_case.tasks && draw() % 4 == 0) interrupt_soon();
	bool mode_stays = !((f->eflags ^ s->eflags) & EFLAGS_VM);
	if (unit == UNITS) {
		end_case(f);
		return;
	}
	f->eip = the_case.starts[unit++] - the_case.code_base;
	f->cs = s->cs;
	f->ss = s->ss;
	f->eflags &= ~(EFLAGS_DF | EFLAGS_TF | EFLAGS_NT | EFLAGS_VM | EFLAGS_IOPL);
	f->eflags |= EFLAGS_IF | (s->eflags & (EFLAGS_VM | EFLAGS_IOPL));
	if (draw() % 2) f->esp = s->esp;
	if (draw() % 2 || !mode_stays) set_segments_of(f, s);
}

/* A fault of the kernel's own: a step, reserved bits that CR3 leads to, IRET to what is beyond CS (behind INT at the end of 64 KiB, say). */
static void on_kernel_trap(struct trap_frame *f)
{
	if (f->vector == 1) {
		if (++steps > MOST_STEPS) f->eflags &= ~EFLAGS_TF;
	} else if (f->eip == (u32)space_load_at) {
		f->eip = (u32)space_load_end;
	} else if (f->eip == (u32)trap_iret) { /* the other frame is above what a trap of the same level has pushed */
		end_case((struct trap_frame *)((u32)&f->esp - offsetof(struct trap_frame, eip)));
	} else {
		print("Bail out! the kernel's trap %u error %x at %x, CR2 %x\n", f->vector, f->error, f->eip, READ_CR(2));
		guest_exit(2);
	}
}

static void on_page_fault(u32 page)
{
	bool code = page >= CODE_PAGE && page < CODE_PAGE + CODE_PAGES;
	space_restore(space_now());
	if (code) remap(page, arena_entry(page, P | W | U));
	else remap(page, draw() % 4 ? arena_entry(2 + draw() % 14, P | W | U) : drawn_entry());
}

static void on_trap(struct trap_frame *f)
{
	u32 cr2 = f->vector == 14 ? READ_CR(2) : 0, page = (cr2 - (cr2 < 0x400000 ? 0 : REGION)) >> 12;
	bool kernel = !(f->cs & 3) && !(f->eflags & EFLAGS_VM);
	if (note_task()) { /* a fault on the way into it leaves selectors that cannot be loaded */
		f->ds = f->es = DATA3;
		f->fs = f->gs = 0;
	}
	seen[f->vector & 0xFF]++;
	if (traced) print("# trap %u error %x at %x:%x, esp %x flags %x eax %x ebx %x CR2 %x\n", f->vector, f->error, f->cs, f->eip, f->esp, f->eflags, f->eax, f->ebx, cr2);
	mix(f->vector);
	mix(f->error);
	mix(f->eip);
	mix(kernel ? 0 : f->esp);
	mix(f->eflags & ~0x10000u);
	mix(f->eax ^ f->ebx);
	mix(cr2);
	if (f->vector == 1) mix(read_dr6());
	if (kernel) {
		on_kernel_trap(f);
	} else if (f->vector == 1) {
		if (++steps > MOST_STEPS) f->eflags &= ~EFLAGS_TF;
		if (steps > 2 * MOST_STEPS) skip(f);
	} else if (++traps > MOST_TRAPS || f->vector == 8) {
		end_case(f);
	} else if (f->vector == 7) {
		__asm__ volatile("clts");
	} else if (f->vector == 14 && page < PAGES_USED + 2 && draw() % 3) {
		on_page_fault(page);
	} else {
		if (f->vector == 13 && (f->eflags & EFLAGS_VM) && draw() % 2) do_work(draw());
		skip(f);
	}
	if (!kernel && the_case.v86) f->fs = f->gs = 0; /* SYSENTER keeps what they were in virtual-8086 mode */
}

static void end_late(struct trap_frame *f)
{
	if (!running) return; /* that of the case before */
	late = 1;
	if (f->cs & 3 || f->eflags & EFLAGS_VM) end_case(f);
	else f->eip = (u32)kernel_done;
}

static void on_timer(struct trap_frame *f)
{
	out8(0x20, 0x20);
	if (timer_is_up()) end_late(f); /* that of the case before may have come late */
}

static void forget_interrupt(void)
{
	out8(0x20, 0x0C);
	in8(0x20);
	out8(0x20, 0x20);
}

/* Where the program may clear IF, the timer's interrupt comes as an NMI. */
static void on_nmi(struct trap_frame *f)
{
	forget_interrupt();
	on_timer(f);
}

/* --- running them --- */

static void start_timer(bool nmi)
{
	out8(0x43, 0x30);
	forget_interrupt(); /* else there is no edge for the NMI */
	*(volatile u32 *)(APIC + 0x350) = nmi ? LINT0_NMI : LINT0_EXTINT;
	out8(0x40, 0xFF);
	out8(0x40, 0xFF);
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

/* Memory and what else programs change, as each begins. */
static void set_memory(const struct mix_case *c)
{
	WRITE_CR(4, first_cr4);
	WRITE_CR(0, READ_CR(0) | 0x10000);
	space_load(0);
#ifdef PAE
	wrmsr(EFER, NXE);
#endif
	set_segments();
	done_code = CODE(CODE_DONE);
	fill((u32)user_stack, 0, sizeof user_stack);
	fill(FRAMES + FRAME_COUNT * 4096, 0, 0x400000 - FRAME_COUNT * 4096);
	for (u32 i = TABLE_FRAMES; i < FRAME_COUNT; i++) fill(FRAMES + i * 4096, 0x01010101 * (u8)(i * 37 + c->seed), 4096);
	fill((u32)table(0), 0, TABLE_FRAMES * 4096);
	copy((u32)table(0), c->maps, sizeof c->maps);
	copy((u32)table(1), c->other_maps, sizeof c->other_maps);
	copy(FRAMES + (begins() - c->region), c->code, c->length);
	if (has_ends()) spaces_set((u32)task_pages[0], P | W, false, c->paged_large);
	else spaces_set(c->ends ? FRAMES + 12 * 4096 : 0, P | W | U, c->low, c->paged_large);
	space_load(0);
}

static u32 run_case(const struct mix_case *c)
{
	struct state s = c->state;
	set_memory(c);
	unit = steps = traps = works = late = 0;
	digest = 0x811C9DC5;
	work_state = c->seed;
	__asm__ volatile("fxrstor %0" : : "m"(sse_state));
	if (c->tasks) tasks_begin();
	start_timer(c->tasks || (s.eflags & (EFLAGS_VM | EFLAGS_IOPL)) == (EFLAGS_VM | EFLAGS_IOPL));
	watch(c->watched, c->dr7);
	run(&s);
	watch(0, 0);
	if (c->tasks) tasks_end();
	seen[s.vector & 0xFF]++;
	WRITE_CR(0, READ_CR(0) | 0x10000);
	read_dr6();
	if (s.vector != 14) s.cr2 = 0;
	for (u32 i = 0; i < sizeof s / 4; i++) {
		mix(((u32 *)&s)[i]);
		if (traced) print("# state %u: %x\n", i, ((u32 *)&s)[i]);
	}
	const u32 *at = (const u32 *)FRAMES;
	for (u32 i = 0; i < FRAME_COUNT * 1024; i++) {
		mix(i < TABLE_FRAMES * 1024 ? at[i] & ~(A | D) : at[i]);
		if (traced && i % 64 == 63) print("# to frame %u, %x: %x\n", i / 1024, i % 1024 * 4, digest);
	}
	return digest;
}

static void prepare(void)
{
	*(volatile u32 *)(APIC + 0xF0) = 0x1FF;
	task_now = TSS_SELECTOR;
	spaces_begin();
	WRITE_CR(4, READ_CR(4) | 0x604); /* SSE; and TSD, since RDTSC is another each time */
	first_cr4 = READ_CR(4);
	spaces_set(0, 0, true, false);
	WRITE_CR(3, root(0));
	tss.esp0 -= 16; /* the segments above each frame */
	WRITE_CR(0, READ_CR(0) | 0x80010000 | CR0_AM);
	__asm__ volatile("lldt %w0" : : "r"(0)); /* after a reset it is at 0, where programs write */
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
	trap_handle(2, on_nmi);
	trap_handle(EXTERNAL_VECTOR, on_external);
	wrmsr(0x174, CODE0);
	wrmsr(0x175, (u32)enter_stack + sizeof enter_stack);
	wrmsr(0x176, (u32)mix_enter);
	warm_up();
}

void guest_main(void)
{
	u32 ended_late = 0, trace = random_option("trace=");
	random_begin();
	prepare();
	for (u32 i = 0; i < CASES; i++) {
		make(&the_case);
		traced = i + 1 == trace;
		u32 is = run_case(&the_case);
		ended_late += late;
		print(late ? "# case %u: late\n" : "# case %u: %x %u %u\n", i, is, traps, works);
	}
	print("# late %u\n", ended_late);
	for (u32 i = 0; i < 32; i++)
		if (seen[i]) print("# exception %u: %u\n", i, seen[i]);
	check("half of them end", ended_late < CASES / 2);
	print("# switches %u, rescues %u, interrupts %u, taken %u, left over %u\n", switches, rescues, sent, taken, left);
	check("they switch tasks", switches > CASES / 4 && rescues);
	check("by external interrupts, too", taken > CASES / 4);
	check("they meet all kinds of exceptions", seen[0] && seen[1] && seen[3] && seen[6] && seen[12] && seen[13] > CASES && seen[14] > CASES);
}
