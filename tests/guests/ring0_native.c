/* Of ring0.c's measures those that a user program can run, by the bare processor and by the host's kernel: a fault is a signal there. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "ticks.h"

enum { GETPPID_32 = 64, SKIPPED = 2 };

static void *unmapped;
static volatile uint32_t faults;

static void skip(int signal, siginfo_t *information, void *context)
{
	(void)signal;
	(void)information;
	faults++;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += SKIPPED;
}

static void call_by_gate(uint32_t count)
{
	for (; count; count--) {
		long result = GETPPID_32;
		__asm__ volatile("int $0x80" : "+a"(result) : : "r8", "r9", "r10", "r11", "memory");
	}
}

static void call_by_syscall(uint32_t count)
{
	for (; count; count--) {
		long result = SYS_getppid;
		__asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
	}
}

static void fault_on_page(uint32_t count)
{
	for (; count; count--) __asm__ volatile("movl (%0), %%eax" : : "c"(unmapped) : "rax", "memory");
}

static void divide_by_zero(uint32_t count)
{
	for (; count; count--) __asm__ volatile("divl %0" : : "c"(0) : "rax", "rdx", "cc");
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = skip, .sa_flags = SA_SIGINFO | SA_NODEFER };
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
	unmapped = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ticks_measure_common();
	ticks_measure("system call by INT", call_by_gate, 1000);
	ticks_measure("system call by SYSENTER", call_by_syscall, 1000);
	ticks_measure("page fault", fault_on_page, 200);
	ticks_measure("divide by zero", divide_by_zero, 200);
	if (faults != 2 * 200 * (TICKS_SAMPLES + 1)) return EXIT_FAILURE;
	for (unsigned i = 0; i < ticks_measured; i++) {
		const struct ticks *t = &ticks_results[i];
		printf("# ticks %u.%02u %s\n", ticks_whole(t), ticks_hundredths(t), t->name);
	}
	return EXIT_SUCCESS;
}
