/* The hardware tasks of hostile_mix.c's programs. What leads back to the kernel (inner stacks, CR3, CS) is in a page of its own; the rest of a TSS, which
 * the processor reads and writes as well, is behind it: where the program writes, in its page tables, at address 0, read-only, or nowhere. */
#ifndef TESTS_GUESTS_HOSTILE_MIX_TASKS_H
#define TESTS_GUESTS_HOSTILE_MIX_TASKS_H

#define TSS_WORDS 26u
#define TSS_BYTES (4 * TSS_WORDS)
#define NARROW_BYTES 0x2Cu
#define LOW_STACKS 0x2000u
#define EFLAGS_RESERVED 2u
#define EXTERNAL_VECTOR 0x50u
#define ICR_SELF 0x40000u
#define CR4_PSE 0x10u
enum { LINK, ESP0, SS0, CR3 = 7, STATE_EIP, STATE_EFLAGS, STATE_GPR, STATE_ESP = STATE_GPR + 4, STATE_ES = 18, STATE_CS, STATE_SS, STATE_DS, STATE_FS, STATE_GS, STATE_LDT, IO_MAP };

static u8 task_pages[TASKS][2][4096] __attribute__((aligned(4096))), task_stacks[TASKS][4096] __attribute__((aligned(16)));
static u8 rescue_stack[4096] __attribute__((aligned(16)));
static struct tss rescue;
static u64 local[2];
static u32 task_exception;

/* The first one's pages may be the last of the address space, which ring 1 could write, and the first. */
static bool has_ends(void) { return the_case.ends && !the_case.low && the_case.tasks == STRANGE_PLACES; }
static bool at_ends(u32 n) { return n == 0 && has_ends(); }

static u32 task_register(void)
{
	u32 selector = 0;
	__asm__ volatile("str %w0" : "+r"(selector));
	return selector;
}

/* Another task than at the last trap? */
static bool note_task(void)
{
	u32 before = task_now;
	task_now = task_register();
	switches += task_now != before;
	return task_now != before;
}

static u32 drawn_task(void)
{
	return draw() % 12 ? 8 * (TASK_FIRST + draw() % TASKS) : draw() % 2 ? (u32)TSS_SELECTOR : draw() % 2 ? 8 * (TASK_FIRST + draw() % (TASKS + TASK_GATES)) : draw() & 0xFFFF;
}

static u32 drawn_selector(u32 usual)
{
	if (draw() % 24) return usual;
	return draw() % 3 ? SELECTOR(draw() % SEGMENTS) : draw() % 3 ? 8 * (draw() % 3) | 7 : draw() & 0xFFFF;
}

/* It is in ring 0 that nobody may come to be. */
static u32 drawn_code(void)
{
	u32 selector = drawn_selector(the_case.state.cs);
	return selector & 3 || the_case.v86 ? selector : selector | 3;
}

static u32 drawn_flags(void)
{
	u32 flags = EFLAGS_RESERVED | (the_case.state.eflags & (EFLAGS_VM | EFLAGS_IOPL)) | (draw() & EFLAGS_ARITH);
	if (draw() % 4) flags |= EFLAGS_IF;
	if (draw() % 16 == 0) flags |= EFLAGS_TF;
	if (draw() % 16 == 0) flags |= EFLAGS_AC;
	if (draw() % 16 == 0) flags |= EFLAGS_IOPL;
	if (draw() % 4 == 0) flags |= EFLAGS_NT;
	if (draw() % 16 == 0) flags |= EFLAGS_VM;
	return flags;
}

static void draw_words(u32 *words, u32 esp0)
{
	const struct state *s = &the_case.state;
	words[LINK] = drawn_task();
	words[ESP0] = esp0;
	words[SS0] = DATA0;
	if (the_case.tasks == NO_STACKS && draw() % 3 == 0) {
		if (draw() % 2) words[ESP0] = 0x3000000; /* no page there */
		else words[SS0] = draw() % 2 ? DATA3 : draw() & 0xFFFB;
	}
	words[CR3] = root(draw() % 2);
	words[STATE_EIP] = the_case.starts[draw() % UNITS] - the_case.code_base;
	words[STATE_EFLAGS] = drawn_flags();
	for (u32 i = 0; i < 8; i++) words[STATE_GPR + i] = REGION + draw() % (PAGES_USED * 4096);
	words[STATE_ESP] = s->esp;
	words[STATE_ES] = drawn_selector(s->es);
	words[STATE_CS] = drawn_code();
	words[STATE_SS] = drawn_selector(s->ss);
	words[STATE_DS] = drawn_selector(s->ds);
	words[STATE_FS] = drawn_selector(s->fs);
	words[STATE_GS] = drawn_selector(s->gs);
	words[STATE_LDT] = drawn_selector(draw() % 3 ? 0 : 8 * LOCAL_INDEX);
	words[IO_MAP] = (draw() % 16 == 0) | (draw() % 2 ? 0xFFFF0000 : (0x60 + draw() % 16) << 16);
}

/* The same in a TSS of 16 bits. */
static void narrow(u8 *image, const u32 *words)
{
	for (u32 i = 0; i <= STATE_LDT; i++) {
		if (i == CR3 || i == STATE_FS || i == STATE_GS) continue;
		memcpy(image, &words[i], 2);
		image += 2;
	}
}

/* No page is there, or none for the beginning. */
static u32 nowhere(void) { return the_case.ends || draw() % 2 ? 0xC0000000 + draw() : 0 - 1 - draw() % (NARROW_BYTES - 1); }

static void show_rest(u32 n, entry_t entry)
{
	*kernel_entry((u32)task_pages[n][1]) = entry;
	invlpg((u32)task_pages[n][1]);
}

static void task_make(u32 n)
{
	bool strange = the_case.tasks == STRANGE_PLACES, wide = the_case.low || draw() % 4, shared = at_ends(n) || (strange && draw() % 2);
	u32 words[TSS_WORDS] = {0}, size = wide ? TSS_BYTES : NARROW_BYTES, least = wide ? (shared ? 0x50 : 0x20) : shared ? 0x26 : 0x0E;
	u32 head = least + (draw() % 3 ? 0 : draw() % (size - least + 1)), last_page = at_ends(n) ? 0u - 4096 : (u32)task_pages[n][0];
	u32 own = (u32)task_pages[n][1], rest = own;
	u8 image[TSS_BYTES];
	/* With 16 bits for a stack pointer the kernel's stack is in the first 64 KiB. */
	draw_words(words, wide ? (u32)task_stacks[n] + sizeof task_stacks[n] - 16 : LOW_STACKS + (n + 1) * 4096 - 16);
	if (wide) memcpy(image, words, sizeof image);
	else narrow(image, words);
	show_rest(n, own | P | W);
	if (shared && !at_ends(n)) rest = FRAMES + (draw() % 3 ? TABLE_FRAMES + draw() % (FRAME_COUNT - TABLE_FRAMES) : draw() % FRAME_COUNT) * 4096;
	memcpy(task_pages[n][0] + 4096 - head, image, head);
	memcpy((u8 *)rest, image + head, size - head);
	if (strange) show_rest(n, rest | (draw() % 4 ? P | W : draw() % (rest == own ? 4 : 8)));
	u32 limit = draw() % 8 ? size - 1 : draw() % 2 ? size + draw() % 64 : draw() % size;
	u32 access = (wide ? 0x89 : 0x81) | (draw() % 8 ? 0x60 : 0) | (draw() % 8 ? 0 : 2);
	gdt_set(TASK_FIRST + n, draw() % 12 ? last_page + 4096 - head : nowhere(), limit, access, 0);
}

/* Where the one that runs is the processor knows already. */
static bool is_other_task(u32 n) { return (task_register() & ~3u) != 8 * (TASK_FIRST + n); }

/* The last one is over, whoever it led to. */
static void end_interrupt(void)
{
	taken += *(volatile u32 *)(APIC + 0x100 + EXTERNAL_VECTOR / 32 * 16) >> EXTERNAL_VECTOR % 32 & 1;
	*(volatile u32 *)(APIC + 0xB0) = 0;
}

/* The kernel, where it stands, takes none; the program does as soon as it may, by a task gate. */
static void interrupt_soon(void)
{
	if (!(READ_CR(4) & (CR4_PSE | CR4_PAE))) return; /* the APIC is in a large page */
	u32 n = draw() % TASKS;
	if (draw() % 4 && is_other_task(n)) { /* one that is not busy */
		task_make(n);
		idt_set(EXTERNAL_VECTOR, 0, 8 * (TASK_FIRST + n), 0x85);
	}
	end_interrupt();
	*(volatile u32 *)(APIC + 0x300) = ICR_SELF | EXTERNAL_VECTOR;
	sent++;
}

static u64 drawn_gate(void) { return (u64)(draw() % 8 ? 0xE500 : 0x6500) << 32 | drawn_task() << 16; }

static void work_tasks(void)
{
	u32 n = draw() % TASKS, bit = draw() % 8;
	switch (draw() % 10) {
	case 0: gdt[TASK_FIRST + n] ^= bit == 3 ? 0 : 1ull << (40 + bit); break; /* it stays of 16 or of 32 bits: the same bytes are another CR3 in the other */
	case 1: gdt[GATE_FIRST + n % TASK_GATES] = drawn_gate(); break;
	case 2: idt_set(TASK_VECTOR + n % TASK_GATES, 0, drawn_task(), 0xE5); break;
	case 3: tss.link = drawn_task(); break;
	case 4: if (the_case.tasks == STRANGE_PLACES) show_rest(n, *kernel_entry((u32)task_pages[n][1]) ^ (draw() % 2 ? P : W)); break;
	case 5: interrupt_soon(); break;
	case 6:
		idt_set(EXTERNAL_VECTOR, 0, drawn_task(), draw() % 8 ? 0x85 : 0x05);
		interrupt_soon();
		break;
	default: if (is_other_task(n)) task_make(n);
	}
}

static void tasks_begin(void)
{
	static const u8 exceptions[] = {0, 3, 4, 5, 6, 17}; /* the kernel itself has none of these */
	u32 esp0 = tss.esp0;
	memset(task_pages, 0, sizeof task_pages);
	memset(&tss, 0, TSS_BYTES);
	tss.ss0 = DATA0;
	tss.esp0 = esp0;
	tss.cr3 = root(0);
	tss.io_map = 0xFFFF;
	tss.link = drawn_task();
	if (the_case.tasks == STRANGE_PLACES && draw() % 8 == 0) {
		gdt_set(TSS_SELECTOR >> 3, (u32)&tss, 0x0B + draw() % 0x5C, 0x89, 0); /* its stack is there, a task's state is not */
		__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
	}
	for (u32 n = 0; n < TASKS; n++) task_make(n);
	for (u32 i = 0; i < TASK_GATES; i++) {
		gdt[GATE_FIRST + i] = drawn_gate();
		idt_set(TASK_VECTOR + i, 0, drawn_task(), 0xE5);
	}
	local[0] = gdt[DATA3 >> 3];
	local[1] = gdt[GDT_FREE + FROM_REGION];
	idt_set(EXTERNAL_VECTOR, 0, drawn_task(), 0x85);
	gdt_set(LOCAL_INDEX, (u32)local, sizeof local - 1, 0x82, 0);
	task_exception = exceptions[draw() % sizeof exceptions];
	if (draw() % 2) idt_set(task_exception, 0, drawn_task(), 0xE5);
	rescue.cr3 = root(0);
	rescue.eip = (u32)kernel_done;
	rescue.eflags = EFLAGS_RESERVED;
	rescue.gpr[4] = (u32)(rescue_stack + sizeof rescue_stack);
	rescue.cs = CODE0;
	rescue.ss = rescue.ds = rescue.es = rescue.fs = rescue.gs = DATA0;
	gdt_set(RESCUE_INDEX, (u32)&rescue, TSS_BYTES - 1, 0x89, 0);
	if (the_case.tasks == NO_STACKS) idt_set(8, 0, 8 * RESCUE_INDEX, 0x85);
}

static void on_external(struct trap_frame *f)
{
	(void)f;
	left++;
}

/* One that nobody could take is taken here. */
static void forget_external(void)
{
	idt_set(EXTERNAL_VECTOR, (u32)(trap_stubs + 16 * EXTERNAL_VECTOR), CODE0, 0x8E);
	WRITE_CR(4, first_cr4);
	end_interrupt();
	__asm__ volatile("sti; nop; cli" : : : "memory");
	*(volatile u32 *)(APIC + 0xB0) = 0;
}

static void mix_words(const void *at, u32 count)
{
	for (const u32 *word = at; count; count--) mix(*word++);
}

/* What has become of them; then there is the kernel's alone. */
static void tasks_end(void)
{
	for (u32 n = 0; n < TASKS; n++) show_rest(n, (u32)task_pages[n][1] | P | W);
	note_task();
	if (task_now == 8 * RESCUE_INDEX) {
		rescues++;
		late = timer_is_up(); /* an NMI has no stack there, either */
	}
	mix(task_now);
	mix(READ_CR(0));
	mix(READ_CR(3));
	mix_words(&tss, TSS_WORDS);
	mix_words(task_pages, sizeof task_pages / 4);
	mix_words(gdt + TASK_FIRST, 2 * TASKS);
	memset(gdt + TASK_FIRST, 0, (RESCUE_INDEX + 1 - TASK_FIRST) * sizeof *gdt);
	gdt_set(TSS_SELECTOR >> 3, (u32)&tss, sizeof tss - 1, 0x89, 0);
	__asm__ volatile("clts; lldt %w0; ltr %w1" : : "r"(0), "r"(TSS_SELECTOR));
	task_now = TSS_SELECTOR;
	idt_set(task_exception, (u32)(trap_stubs + 16 * task_exception), CODE0, task_exception == 3 || task_exception == 4 ? 0xEE : 0x8E);
	idt_set(8, (u32)(trap_stubs + 16 * 8), CODE0, 0x8E);
	for (u32 i = 0; i < TASK_GATES; i++) idt_set(TASK_VECTOR + i, (u32)(trap_stubs + 16 * (TASK_VECTOR + i)), CODE0, 0x8E);
	forget_external();
}

#endif
