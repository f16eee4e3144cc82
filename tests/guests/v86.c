/* Virtual-8086 mode (SDM vol. 3, ch. 20): the ways in and out, what IOPL forbids, ports, and a monitor as systems have one. */
#include "guest.h"

enum { TASK_INDEX = GDT_FREE, CODE1_INDEX, CONFORMING_INDEX, TASK = TASK_INDEX << 3 };
#define GATE 0x40

static volatile u16 *word(u32 at) { return (volatile u16 *)at; }

/* Run to INT3 (or to what is expected) and compare where it came. */
static void expect(const char *name, struct state *s, u32 vector, u32 error, u32 at)
{
	run(s);
	bool good = s->vector == vector && s->error == error && s->eip == at && (s->eflags & EFLAGS_VM);
	if (!check(name, good)) print("# trap %u error %x at %x:%x, eflags %x\n", s->vector, s->error, s->cs, s->eip, s->eflags);
}

static u32 monitor_ds, monitor_es, monitor_stack;
static void look(struct trap_frame *f)
{
	monitor_ds = f->ds | f->fs | f->gs;
	monitor_es = f->es;
	monitor_stack = (u32)&f->v86_gs + 4;
	f->eip += 2;
}

static void test_in_and_out(void)
{
	struct state s = V86_STATE(0, 0x8C, 0xC8, 0x8C, 0xD3, 0x8C, 0xE1, 0xCC); /* mov ax, cs; mov bx, ss; mov cx, fs; int3 */
	expect("in by IRET, out by INT3", &s, 3, 0, 7);
	check("its segments", (s.eax & 0xFFFF) == V86_CODE >> 4 && (s.ebx & 0xFFFF) == V86_STACK >> 4 && (s.ecx & 0xFFFF) == (V86_DATA >> 4) + 0x100);
	check("the frame's segments", s.ds == V86_DATA >> 4 && s.es == V86_DATA >> 4 && s.gs == (V86_DATA >> 4) + 0x100 && s.ss == V86_STACK >> 4 && s.esp == V86_SP);
	check_equal("upper halves stay", s.eax >> 16, 0xA0A1);
	trap_handle(6, look);
	s = V86_STATE(0, 0x0F, 0x0B, 0x8C, 0xD8, 0xCC); /* ud2; mov ax, ds; int3 */
	expect("an exception and back", &s, 3, 0, 5);
	trap_handle(6, NULL);
	check("the monitor's data segments were null", !(monitor_ds & 0xFFFF) && !(monitor_es & 0xFFFF));
	check_equal("nine words and an error code's place below the stack's top", monitor_stack, tss.esp0);
	check_equal("the segments came back", s.eax & 0xFFFF, V86_DATA >> 4);
	s = V86_STATE(0, 0xB8, 0x34, 0x12, 0x8E, 0xD8, 0xA1, 0x02, 0x00, 0xCC); /* mov ax, 1234h; mov ds, ax; mov ax, [2] */
	*word(0x12342) = 0xBEEF;
	expect("a segment is a paragraph", &s, 3, 0, 9);
	check_equal("what is there", s.eax & 0xFFFF, 0xBEEF);
	s = V86_STATE(0, 0xEA, 0x10, 0x00, 0x00, 0x21); /* jmp 2100h:0010h */
	*(volatile u8 *)0x21010 = 0xCC;
	expect("a far jump", &s, 3, 0, 0x11);
	check_equal("its CS", s.cs, 0x2100);
	s = V86_STATE(0, 0x9A, 0x10, 0x00, 0x00, 0x21, 0xCC); /* call 2100h:0010h; int3 */
	*(volatile u8 *)0x21010 = 0xCB;
	expect("a far call and return", &s, 3, 0, 6);
	s = V86_STATE(0, 0xC7, 0x06, 0xFF, 0xFF, 0, 0); /* mov word [FFFFh], 0 */
	expect("a word at FFFFh: #GP", &s, 13, 0, 0);
	s = V86_STATE(0, 0x50);
	s.esp = 1;
	expect("a word at FFFFh of the stack: #SS", &s, 12, 0, 0);
	s = V86_STATE(0, 0x90, 0xCC);
	s.eflags |= EFLAGS_TF;
	expect("single step", &s, 1, 0, 1);
	s = V86_STATE(0, 0xA0, 0, 0, 0xCC); /* mov al, [0] */
	pte_set(V86_DATA, V86_DATA | P | W);
	expect("a page of the supervisor's: #PF", &s, 14, 5, 0);
	check_equal("CR2", s.cr2, V86_DATA);
	pte_set(V86_DATA, V86_DATA | P | W | U);
	s = V86_STATE(0, 0xCC);
	s.eip = 0x10000;
	run(&s);
	check("EIP beyond 64 KiB: #GP of the IRET", s.vector == 13 && s.error == 0 && !(s.eflags & EFLAGS_VM));
}

static void test_flags(void)
{
	struct state s = V86_STATE(3, 0x66, 0x9C, 0x66, 0x58, 0xCC); /* pushfd; pop eax */
	s.eflags |= EFLAGS_IF;
	expect("PUSHFD", &s, 3, 0, 5);
	check_equal("shows neither VM nor RF, and IOPL", s.eax, 0x3202);
	s = V86_STATE(3, 0x66, 0x68, 0xD5, 0x0C, 0x27, 0x00, 0x66, 0x9D, 0xCC); /* push 270CD5h; popfd */
	expect("POPFD", &s, 3, 0, 9);
	check_equal("keeps VM and IOPL, sets the rest", s.eflags & 0x277FD7, 0x263CD7);
	/* pushfd; push cs; push 20h; iretd, with IOPL and VM cleared in the image */
	s = V86_STATE(3, 0x66, 0x6A, 0x01, 0x66, 0x0E, 0x66, 0x6A, 0x20, 0x66, 0xCF);
	*(volatile u8 *)(V86_CODE + 0x20) = 0xCC;
	expect("IRETD", &s, 3, 0, 0x21);
	check_equal("keeps them too", s.eflags & 0x33003, 0x23003);
	check_equal("and pops three words", s.esp, V86_SP);
	s = V86_STATE(3, 0xFA, 0x9C, 0x58, 0xFB, 0x9C, 0x5B, 0xFA, 0xCC); /* cli; pushf; pop ax; sti; pushf; pop bx; cli */
	s.eflags |= EFLAGS_IF;
	expect("CLI and STI with IOPL 3", &s, 3, 0, 8);
	check("are effective", !(s.eax & EFLAGS_IF) && (s.ebx & EFLAGS_IF));
}

static void test_gates(void)
{
	gdt_set(CODE1_INDEX, 0, 0xFFFFF, 0xBB, 0xC);
	gdt_set(CONFORMING_INDEX, 0, 0xFFFFF, 0x9F, 0xC);
	static const struct {
		const char *name;
		u32 selector, type, vector, error;
	} cases[] = {
		{"a handler at level 0", CODE0, 0xEE, GATE, 0}, {"a gate of DPL 0: #GP", CODE0, 0x8E, 13, GATE * 8 + 2},
		{"a handler at level 1: #GP", CODE1_INDEX << 3 | 1, 0xEE, 13, CODE1_INDEX << 3}, {"a handler at level 3: #GP", CODE3, 0xEE, 13, CODE3 & ~3u},
		{"a conforming handler: #GP", CONFORMING_INDEX << 3, 0xEE, 13, CONFORMING_INDEX << 3},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		idt_set(GATE, (u32)(trap_stubs + 16 * GATE), cases[i].selector, cases[i].type);
		struct state s = V86_STATE(3, 0xCD, GATE);
		expect(cases[i].name, &s, cases[i].vector, cases[i].error, cases[i].vector == 13 ? 0 : 2);
	}
	struct state s = V86_STATE(0, 0xCE); /* into: not subject to IOPL */
	s.eflags |= EFLAGS_OF;
	expect("INTO below IOPL 3", &s, 4, 0, 1);
}

static void test_ports(void)
{
	memset(tss.io_bitmap, 0xFF, sizeof tss.io_bitmap);
	tss.io_bitmap[0x61 / 8] &= (u8)~(1u << (0x61 & 7));
	tss.io_map = (u16)((u32)tss.io_bitmap - (u32)&tss);
	for (u32 iopl = 0; iopl <= 3; iopl += 3) {
		struct state s = V86_STATE(iopl, 0xE4, 0x61, 0xCC);
		expect("a port of the bitmap", &s, 3, 0, 3);
		s = V86_STATE(iopl, 0xE4, 0x60, 0xCC);
		expect("another: #GP whatever IOPL", &s, 13, 0, 0);
	}
	tss.io_map = 0xFFFF;
}

/* A monitor: reflects INT n to the program's own vectors, and executes its IRET, CLI and STI on a flag of its own. */
static struct {
	u32 interrupts, returns, clears;
} monitored;

static void push_word(struct trap_frame *f, u32 value)
{
	f->esp = (f->esp & 0xFFFF0000) | ((f->esp - 2) & 0xFFFF);
	*word((f->ss & 0xFFFF) * 16 + (f->esp & 0xFFFF)) = (u16)value;
}

static u32 pop_word(struct trap_frame *f)
{
	u32 value = *word((f->ss & 0xFFFF) * 16 + (f->esp & 0xFFFF));
	f->esp = (f->esp & 0xFFFF0000) | ((f->esp + 2) & 0xFFFF);
	return value;
}

static void monitor(struct trap_frame *f)
{
	const u8 *code = (const u8 *)((f->cs & 0xFFFF) * 16 + f->eip);
	if (code[0] == 0xCD) {
		push_word(f, f->eflags);
		push_word(f, f->cs);
		push_word(f, f->eip + 2);
		f->eip = *word(4u * code[1]);
		f->cs = *word(4u * code[1] + 2);
		monitored.interrupts++;
	} else if (code[0] == 0xCF) {
		f->eip = pop_word(f);
		f->cs = pop_word(f);
		f->eflags = (f->eflags & 0xFFFF0000) | (pop_word(f) & 0xFD5) | 2;
		monitored.returns++;
	} else {
		f->eip++;
		monitored.clears++;
	}
}

static void test_monitor(void)
{
	static const u8 service[] = {0xFA, 0x01, 0xD0, 0xCF}; /* cli; add ax, dx; iret */
	memcpy((void *)(V86_CODE + 0x100), service, sizeof service);
	*word(4 * 0x21) = 0x100;
	*word(4 * 0x21 + 2) = V86_CODE >> 4;
	/* mov cx, 1000; l: int 21h; loop l; int3 */
	struct state s = V86_STATE(0, 0xB9, 0xE8, 0x03, 0xCD, 0x21, 0xE2, 0xFC, 0xCC);
	s.eax = 0;
	s.edx = 3;
	trap_handle(13, monitor);
	expect("a thousand interrupts through a monitor", &s, 3, 0, 8);
	trap_handle(13, NULL);
	check_equal("what they did", s.eax & 0xFFFF, 3000);
	check("each was seen", monitored.interrupts == 1000 && monitored.returns == 1000 && monitored.clears == 1000);
	check_equal("the stack is as before", s.esp, V86_SP);
}

/* A task in virtual-8086 mode: in by a task switch, out by an interrupt to its own level 0. */
static void test_task(void)
{
	static struct tss task;
	static u8 stack[4096] __attribute__((aligned(16)));
	static const u8 code[] = {0x8C, 0xD8, 0xCC};
	memcpy((void *)V86_CODE, code, sizeof code);
	memset(&task, 0, 0x68);
	task.eflags = EFLAGS_VM | 2;
	task.cs = V86_CODE >> 4;
	task.ds = 0x3210;
	task.ss = V86_STACK >> 4;
	task.gpr[4] = V86_SP;
	task.cr3 = READ_CR(3);
	task.ss0 = DATA0;
	task.esp0 = (u32)(stack + sizeof stack);
	task.io_map = 0xFFFF;
	gdt_set(TASK_INDEX, (u32)&task, 0x67, 0x89, 0);
	struct state s = state_at(CODE(0xEA, 0, 0, 0, 0, TASK, 0, CODE_DONE), 0);
	run(&s);
	check("a switch into virtual-8086 mode", s.vector == 3 && (s.eflags & EFLAGS_VM) && s.cs == V86_CODE >> 4 && s.eip == 3);
	check_equal("its DS", s.eax & 0xFFFF, 0x3210);
	gdt[TSS_SELECTOR >> 3] &= ~(2ull << 40);
	__asm__ volatile("pushl $2; popfl; clts; ltr %w0" : : "r"(TSS_SELECTOR));
}

void guest_main(void)
{
	paging_enable();
	tss.io_map = 0xFFFF;
	test_in_and_out();
	test_flags();
	test_gates();
	test_ports();
	test_monitor();
	test_task();
}
