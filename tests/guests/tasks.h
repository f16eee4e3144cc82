/* A second task: its TSS, what runs in it, and the ways that lead there. */
#ifndef TESTS_GUESTS_TASKS_H
#define TESTS_GUESTS_TASKS_H

#include "guest.h"

enum { TASK_INDEX = GDT_FREE, GATE_INDEX, LDT_INDEX, TASK16_INDEX, BAD_INDEX, TASK = TASK_INDEX << 3, GATE = GATE_INDEX << 3,
       TASK16 = TASK16_INDEX << 3, BAD = BAD_INDEX << 3 };
#define GATE_VECTOR 0x40
#define VA 0x1800000u
#define FAR_BYTES 7
#define EFLAGS_NT 0x4000u
#define EFLAGS_RF 0x10000u
#define MARK 0x7A5C0000u

static struct tss task;
static u8 task_stack[4096] __attribute__((aligned(16))), task_kernel_stack[4096] __attribute__((aligned(16)));
/* What the task saw when it ran last. */
static struct {
	u32 runs, tr, eflags, cr0, value, error, esp;
} seen;

static inline u32 access_of(u32 selector) { return (u32)(gdt[selector >> 3] >> 40) & 0xFF; }

static void note(void)
{
	u32 tr = 0, flags;
	__asm__ volatile("str %w0" : "+r"(tr));
	__asm__ volatile("pushfl; popl %0" : "=r"(flags));
	seen.tr = tr;
	seen.eflags = flags;
	seen.cr0 = READ_CR(0);
	seen.value = *(volatile u32 *)VA;
	seen.runs++;
}

/* The task's program: one round for each time it is called. */
static void body(void)
{
	for (;;) {
		note();
		__asm__ volatile("iret" : : : "memory");
	}
}

static void prepare(void (*code)(void))
{
	memset(&task, 0, 0x68);
	task.eip = (u32)code;
	task.eflags = 2;
	task.gpr[4] = (u32)(task_stack + sizeof task_stack);
	task.cr3 = READ_CR(3);
	task.cs = CODE0;
	task.ss = task.ds = task.es = task.fs = task.gs = DATA0;
	task.ss0 = DATA0;
	task.esp0 = (u32)(task_kernel_stack + sizeof task_kernel_stack);
	task.io_map = 0xFFFF;
	gdt_set(TASK_INDEX, (u32)&task, 0x67, 0x89, 0);
	gdt[GATE_INDEX] = (u64)0xE500 << 32 | TASK << 16;
	memset(&seen, 0, sizeof seen);
}

/* A test ended in another task: make the first one current again. */
static void restore_task_register(void)
{
	gdt[TSS_SELECTOR >> 3] &= ~(2ull << 40);
	__asm__ volatile("pushl $2; popfl; clts; ltr %w0" : : "r"(TSS_SELECTOR));
}

/* How a task is left for another; by a jump and a call through a gate. */
enum way { JUMP, CALL, INTERRUPT, EXCEPTION, BACK, EXTERNAL, WAYS };
static const char *const way_names[] = {"jump", "call", "INT n", "exception", "IRET", "external interrupt"};

#define CALL_TASK(selector) CODE(0x9A, 0, 0, 0, 0, (selector) & 0xFF, 0, CODE_DONE)
#define JUMP_TASK(selector) CODE(0xEA, 0, 0, 0, 0, (selector) & 0xFF, 0, CODE_DONE)

static u8 *way_code(enum way way)
{
	switch (way) {
	case JUMP: return JUMP_TASK(GATE);
	case CALL: return CALL_TASK(GATE);
	case INTERRUPT: return CODE(0xCD, GATE_VECTOR, CODE_DONE);
	case EXCEPTION: return CODE(0x0F, 0x0B, CODE_DONE);
	case BACK: return CODE(0xCF, CODE_DONE);
	default: return CODE(0xFB, 0xEB, 0xFE); /* sti; jmp to itself */
	}
}

/* At CPL 0, to the TSS with this selector. */
static struct state way_to(enum way way, u32 selector)
{
	gdt[GATE_INDEX] = (u64)0xE500 << 32 | selector << 16;
	idt_set(GATE_VECTOR, 0, selector, 0xE5);
	if (way == EXCEPTION) idt_set(6, 0, selector, 0x85);
	if (way == EXTERNAL) timer_once();
	struct state s = state_at(way_code(way), 0);
	if (way == BACK) s.eflags |= EFLAGS_NT;
	return s;
}

/* False if something is wrong with it. */
static bool way_done(enum way way)
{
	idt_set(6, (u32)(trap_stubs + 16 * 6), CODE0, 0x8E);
	return way != EXTERNAL || timer_was_taken();
}

/* Where the task that is left would go on, and where it is if the switch faults. */
static u32 way_length(enum way way)
{
	static const u8 lengths[] = {FAR_BYTES, FAR_BYTES, 2, 0, 1, 1};
	return lengths[way];
}

static u32 way_start(enum way way) { return way == EXTERNAL; }

static bool nests(enum way way)
{
	return way != JUMP && way != BACK;
}

/* EXT in error codes: not the program itself has led there. */
static inline u32 way_ext(enum way way) { return way == EXCEPTION || way == EXTERNAL; }

#endif
