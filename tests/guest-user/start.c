#include "user.h"

enum { AT_SYSINFO = 32, CLOCK_MONOTONIC = 1, MAP_PRIVATE_ANONYMOUS = 0x22 };
enum { SA_SIGINFO = 4, SA_RESTORER = 0x04000000 };

struct signal_action {
	void (*handler)(int, void *, void *);
	unsigned long flags;
	void (*restorer)(void);
	uint32_t mask[2];
};

static uintptr_t kernel_entry;

int user_call_kernel_6(int number, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f)
{
	int result;
	/* EBP holds the sixth argument, and the compiler may need it for itself until then. */
	uintptr_t last_two[2] = { (uintptr_t)number, f };
	__asm__ volatile("pushl %%ebp\n\tmovl 4(%%eax), %%ebp\n\tmovl (%%eax), %%eax\n\tint $0x80\n\tpopl %%ebp"
					 : "=a"(result)
					 : "a"(last_two), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
					 : "memory");
	return result;
}

int user_call_kernel(int number, uintptr_t a, uintptr_t b, uintptr_t c)
{
	int result;
	if (!kernel_entry) return user_call_kernel_6(number, a, b, c, 0, 0, 0);
	__asm__ volatile("call *%[entry]" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), [entry] "m"(kernel_entry) : "memory");
	return result;
}

void *user_map_memory(size_t size)
{
	return (void *)user_call_kernel_6(SYS_MMAP2, 0, size, PROTECT_READ | PROTECT_WRITE, MAP_PRIVATE_ANONYMOUS, (uintptr_t)-1, 0);
}

void user_exit(int code)
{
	for (;;) user_call_kernel(SYS_EXIT, (uintptr_t)code, 0, 0);
}

/* rt_sigreturn, for kernels that put no such thing on the stack themselves. */
extern void user_signal_return(void);
__asm__(".globl user_signal_return\nuser_signal_return:\n\tmovl $173, %eax\n\tint $0x80\n");

int user_handle_signal(int signal, void (*handler)(int, void *, void *))
{
	const struct signal_action action = { .handler = handler, .flags = SA_SIGINFO | SA_RESTORER, .restorer = user_signal_return };
	return user_call_kernel_6(SYS_RT_SIGACTION, (uintptr_t)signal, (uintptr_t)&action, 0, sizeof action.mask, 0, 0);
}

int user_clone(unsigned flags, void *stack_top, void (*function)(void *), void *argument, int *id)
{
	int result;
	void **stack = stack_top;
	*--stack = argument;
	*--stack = (void *)function;
	__asm__ volatile("int $0x80\n\ttestl %%eax, %%eax\n\tjnz 1f\n\txorl %%ebp, %%ebp\n\tpopl %%eax\n\tcall *%%eax\n\thlt\n1:"
					 : "=a"(result)
					 : "a"(SYS_CLONE), "b"(flags), "c"(stack), "d"(id), "S"(0), "D"(id)
					 : "memory", "cc");
	return result;
}

void user_read_clock(struct user_time *now)
{
	user_call_kernel(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, (uintptr_t)now, 0);
}

uint32_t user_microseconds_since(const struct user_time *from)
{
	struct user_time now;
	user_read_clock(&now);
	return (uint32_t)((now.seconds - from->seconds) * 1000000 + (now.nanoseconds - from->nanoseconds) / 1000);
}

char *user_append_text(char *to, const char *text)
{
	while (*text) *to++ = *text++;
	return to;
}

char *user_append_number(char *to, uint32_t number)
{
	char digits[10];
	unsigned count = 0;
	do {
		digits[count++] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	while (count) *to++ = digits[--count];
	return to;
}

void user_report(const char *name, uint32_t microseconds, bool right, uint32_t sum, uint32_t operations, uint32_t paused)
{
	char line[200];
	char *end = user_append_text(line, "program ");
	end = user_append_text(end, name);
	end = user_append_text(end, " ");
	end = user_append_number(end, microseconds);
	end = user_append_text(end, right ? " us, checksum " : " us, WRONG checksum ");
	end = user_append_number(end, sum);
	end = user_append_text(end, ", operations ");
	end = user_append_number(end, operations);
	if (paused) {
		end = user_append_text(end, ", paused us ");
		end = user_append_number(end, paused);
	}
	end = user_append_text(end, right ? " ok\n" : "\n");
	user_call_kernel(SYS_WRITE, 1, (uintptr_t)line, (uintptr_t)(end - line));
}

static uintptr_t find_kernel_entry(const uintptr_t *stack)
{
	/* argc, argv, NULL, environment, NULL, auxiliary vector */
	const uintptr_t *word = stack + 1 + stack[0] + 1;
	while (*word++)
		;
	for (; word[0]; word += 2)
		if (word[0] == AT_SYSINFO) return word[1];
	return 0;
}

__attribute__((used)) static void run(const uintptr_t *stack)
{
	kernel_entry = find_kernel_entry(stack);
	user_exit(user_main(stack));
}

__asm__(".globl _start\n_start:\n\txorl %ebp, %ebp\n\tmovl %esp, %eax\n\tandl $-16, %esp\n\tsubl $12, %esp\n\tpushl %eax\n\tcall "
		"run\n\thlt\n"
		"\t.section .note.GNU-stack,\"\",@progbits\n\t.text\n");
