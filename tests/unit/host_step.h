/* Runs emitted code for real, one host instruction at a time, and writes down every state in between. The guest has a little RAM, seen
 * through a window and through soft tables alike; stubs are addresses that end a run. */
#ifndef TESTS_UNIT_HOST_STEP_H
#define TESTS_UNIT_HOST_STEP_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/abi.h"
#include "translator/translator.h"

#define STEP_RAM_PAGES 3u
#define STEP_RAM_SIZE (STEP_RAM_PAGES * PAGE_SIZE)
#define STEP_RAM_AT 0x200000u  /* guest address */
#define STEP_CODE_AT 0x100800u /* guest address of the instructions: only the exec table knows it */
#define STEP_CODE_GFN 7u
#define STEP_MAX 1000u

struct step_regs {
	uint64_t r[16]; /* by enum host_reg */
	uint64_t rip, rflags;
};

struct step_state {
	struct step_regs regs;
	uint8_t ram[STEP_RAM_SIZE];
	uint8_t if_flag, df_flag;
	uint32_t spill, eip;
};

enum step_end { STEP_STUB, STEP_FAULT, STEP_LIMIT };

struct step_machine {
	uint64_t c_rsp;            /* first: step_enter knows */
	struct vcpu *v;
	uint8_t *code;             /* what the translator writes and what runs; stubs are in the page before */
	uint8_t *window, *tables, *ram, *stack;
	uint8_t *high;             /* the window that is not at 0 */
	struct step_state *states; /* before each host instruction */
	unsigned count;
	enum step_end end;
	int signal;                /* of a fault, and where in the window */
	uint64_t fault_offset;
	bool trapped;              /* by a trap pad */
};

extern struct step_machine step_machine;
void step_enter(const struct step_regs *regs);
extern const char step_left[];

/* All sixteen registers, the flags with TF, and off through vcpu.resume_pc. */
__asm__(".text\n"
	".globl step_enter\n"
	"step_enter:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, step_machine(%rip)\n"
	"	mov 32(%rdi), %rsp\n"
	"	pushq 136(%rdi)\n"
	"	mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
	"	mov 40(%rdi), %rbp; mov 48(%rdi), %rsi; mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10\n"
	"	mov 88(%rdi), %r11; mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
	"	mov 56(%rdi), %rdi\n"
	"	popfq\n"
	"	jmp *128(%r12)\n"
	".globl step_left\n"
	"step_left:\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n");

struct step_machine step_machine;
_Static_assert(offsetof(struct vcpu, resume_pc) == 128, "step_enter");

static const int step_greg[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13,
	REG_R14, REG_R15,
};

static void step_record(const greg_t *g)
{
	struct step_machine *m = &step_machine;
	struct step_state *s = &m->states[m->count++];

	for (unsigned i = 0; i < 16; i++)
		s->regs.r[i] = (uint64_t)g[step_greg[i]];
	s->regs.rip = (uint64_t)g[REG_RIP];
	s->regs.rflags = (uint64_t)g[REG_EFL];
	memcpy(s->ram, m->ram, STEP_RAM_SIZE);
	s->if_flag = m->v->if_flag;
	s->df_flag = m->v->df_flag;
	s->spill = m->v->spill;
	s->eip = m->v->eip;
}

static void step_leave(greg_t *g, enum step_end end)
{
	step_machine.end = end;
	g[REG_RIP] = (greg_t)(uint64_t)step_left;
	g[REG_RSP] = (greg_t)step_machine.c_rsp;
	g[REG_EFL] &= ~0x100ll;
}

static void step_on_signal(int signal, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	uint64_t pc = (uint64_t)g[REG_RIP], code = (uint64_t)step_machine.code;

	if (pc < code - PAGE_SIZE || pc >= code + TRANSLATOR_MAX_BYTES) {
		fprintf(stderr, "signal %d outside stepped code, at %lx\n", signal, (unsigned long)pc);
		_exit(1);
	}
	if (signal != SIGTRAP) {
		step_machine.signal = signal;
		step_machine.fault_offset = (uint64_t)info->si_addr - (uint64_t)step_machine.window;
		step_machine.trapped = (uint64_t)info->si_addr - ((uint64_t)step_machine.v + VCPU_TRAP + 1) < VCPU_TRAP_SIZE;
		step_leave(g, STEP_FAULT);
		return;
	}
	step_record(g);
	if (pc < code)
		step_leave(g, STEP_STUB);
	else if (step_machine.count == STEP_MAX)
		step_leave(g, STEP_LIMIT);
}

static void *step_map(size_t size, int protection, int flags, int fd)
{
	void *p = mmap(NULL, size, protection, flags, fd, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

/* The window at 0 and what follows it, unless a sanitizer has its own memory there. */
static bool step_has_low;

static void step_map_low(int fd)
{
	void *at = (void *)(uintptr_t)LOW_WINDOW_START;

	step_has_low = mmap(at, WINDOW_SIZE + WINDOW_GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) == at;
	if (step_has_low)
		mmap((void *)(uintptr_t)STEP_RAM_AT, STEP_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
}

static void step_fill_tables(void)
{
	struct step_machine *m = &step_machine;
	uint64_t *reads = (uint64_t *)(m->tables + ABI_READ_TABLE), *writes = (uint64_t *)(m->tables + ABI_WRITE_TABLE);
	uint32_t *exec = (uint32_t *)(m->tables + ABI_EXEC_TABLE);

	for (unsigned i = 0; i < STEP_RAM_PAGES; i++)
		reads[(STEP_RAM_AT >> PAGE_SHIFT) + i] = writes[(STEP_RAM_AT >> PAGE_SHIFT) + i] = (uint64_t)m->ram - STEP_RAM_AT;
	exec[STEP_CODE_AT >> PAGE_SHIFT] = STEP_CODE_GFN + 1;
}

/* Once a process. */
static void step_setup(void)
{
	struct step_machine *m = &step_machine;
	struct sigaction action = {.sa_sigaction = step_on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	stack_t alt = {.ss_sp = malloc(65536), .ss_size = 65536};
	int fd = memfd_create("ram", MFD_CLOEXEC), anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	if (m->v)
		return;
	m->v = step_map(VCPU_RESERVATION, PROT_NONE, anonymous, -1);
	mprotect(m->v, VCPU_MEMORY, PROT_READ | PROT_WRITE);
	mprotect((uint8_t *)m->v + VCPU_MEMORY, PAGE_SIZE, PROT_READ);
	if (fd < 0 || ftruncate(fd, STEP_RAM_SIZE))
		exit(1);
	m->ram = step_map(STEP_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	uint64_t reserved = (uint64_t)step_map(2 * WINDOW_SIZE + 2 * WINDOW_GUARD + PAGE_SIZE, PROT_NONE, anonymous, -1) + WINDOW_GUARD;
	m->window = m->high = (uint8_t *)((reserved + WINDOW_SIZE - 1) & ~(WINDOW_SIZE - 1));
	mmap(m->window + STEP_RAM_AT, STEP_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	step_map_low(fd);
	m->tables = step_map(ABI_TABLES_SIZE, PROT_READ | PROT_WRITE, anonymous, -1);
	m->code = (uint8_t *)step_map(PAGE_SIZE + TRANSLATOR_MAX_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC, anonymous, -1) + PAGE_SIZE;
	m->stack = step_map(PAGE_SIZE, PROT_READ | PROT_WRITE, anonymous, -1);
	m->states = step_map(STEP_MAX * sizeof(*m->states), PROT_READ | PROT_WRITE, anonymous, -1);
	memset(m->code - PAGE_SIZE, 0x90, PAGE_SIZE);
	/* Every return that no call was made for goes to the lookup. */
	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		((uint64_t *)(void *)m->stack)[i] = (uint64_t)m->code - PAGE_SIZE + 0x300;
	step_fill_tables();
	static host_pc_t jumps[JUMP_SLOTS + JUMP_SITES];
	for (unsigned i = 0; i < JUMP_SLOTS + JUMP_SITES; i++)
		jumps[i] = (host_pc_t)m->code - PAGE_SIZE + 0x200;
	m->v->jumps = jumps;
	sigaltstack(&alt, NULL);
	sigaction(SIGTRAP, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
	sigaction(SIGILL, &action, NULL);
}

static struct translator_stubs step_stubs(void)
{
	host_pc_t page = (host_pc_t)step_machine.code - PAGE_SIZE;

	return (struct translator_stubs){.chain = page + 0x100, .lookup = page + 0x200, .lookup_slow = page + 0x300, .lookup_parked = page + 0x280,
					 .lookup_slow_parked = page + 0x380, .callout = page + 0x400,
					 .soft = page + 0x500, .sysenter = page + 0x400, .sysexit = page + 0x400,
					 .load = {[SEG_ES] = page + 0x400, [SEG_DS] = page + 0x400, [SEG_FS] = page + 0x400, [SEG_GS] = page + 0x400}};
}

/* Run from this state (its RAM and flags too) at the host PC in regs.rip until a stub, a fault or the limit; states[] has every state. */
static void step_run(const struct step_state *from)
{
	struct step_machine *m = &step_machine;
	struct step_regs regs = from->regs;

	memcpy(m->ram, from->ram, STEP_RAM_SIZE);
	m->v->if_flag = from->if_flag;
	m->v->df_flag = from->df_flag;
	m->v->spill = from->spill;
	m->v->resume_pc = regs.rip;
	m->count = 0;
	m->trapped = false;
	regs.r[12] = (uint64_t)m->v;
	regs.r[14] = (uint64_t)m->tables + ABI_TABLES_BIAS;
	regs.r[15] = (uint64_t)m->window;
	regs.rflags = (regs.rflags & EFL_ARITH) | 0x102;
	/* What masked stores write, and where. */
	static const uint64_t data[2] = {0x1122334455667788ull, 0x99AABBCCDDEEFF00ull}, mask[2] = {0x80FF00007F8000FFull, 0xFF0080FF00FF7F80ull};
	__asm__ volatile("movups %0, %%xmm0; movups %1, %%xmm1; movq %0, %%mm0; movq %1, %%mm1" : : "m"(data), "m"(mask) : "xmm0", "xmm1");
	__asm__ volatile("wrgsbase %0" : : "r"(m->window ? m->window : (uint8_t *)m->v + VCPU_TRAP_WORD));
	step_enter(&regs);
}

#endif
