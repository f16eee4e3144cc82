#include "user.h"

enum { AT_SYSINFO = 32, CLOCK_MONOTONIC = 1, MAP_PRIVATE_ANONYMOUS = 0x22, PROT_READ_WRITE = 3 };

struct timespec_32 {
	int32_t seconds;
	int32_t nanoseconds;
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
	return (void *)user_call_kernel_6(SYS_MMAP2, 0, size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, (uintptr_t)-1, 0);
}

void user_exit(int code)
{
	for (;;) user_call_kernel(SYS_EXIT, (uintptr_t)code, 0, 0);
}

static char *append_text(char *to, const char *text)
{
	while (*text) *to++ = *text++;
	return to;
}

static char *append_number(char *to, uint32_t number)
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

static void report(uint32_t microseconds, unsigned wrong, uint32_t sum)
{
	char line[120];
	char *end = append_text(line, "program ");
	end = append_text(end, program_name);
	end = append_text(end, " ");
	end = append_number(end, microseconds);
	end = append_text(end, wrong ? " us, WRONG checksum " : " us, checksum ");
	end = append_number(end, sum);
	end = append_text(end, wrong ? "\n" : " ok\n");
	user_call_kernel(SYS_WRITE, 1, (uintptr_t)line, (uintptr_t)(end - line));
}

static uint32_t microseconds_since(const struct timespec_32 *from)
{
	struct timespec_32 now;
	user_call_kernel(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, (uintptr_t)&now, 0);
	return (uint32_t)((now.seconds - from->seconds) * 1000000 + (now.nanoseconds - from->nanoseconds) / 1000);
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
	struct timespec_32 start;
	unsigned wrong = 0;
	uint32_t sum = 0;

	kernel_entry = find_kernel_entry(stack);
	user_call_kernel(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, (uintptr_t)&start, 0);
	for (unsigned i = 0; i < program_repetitions; i++) {
		sum = program_run();
		wrong += sum != program_checksum;
	}
	report(microseconds_since(&start), wrong, sum);
	user_exit(wrong ? 1 : 0);
}

__asm__(".globl _start\n_start:\n\txorl %ebp, %ebp\n\tmovl %esp, %eax\n\tandl $-16, %esp\n\tsubl $12, %esp\n\tpushl %eax\n\tcall "
		"run\n\thlt\n"
		"\t.section .note.GNU-stack,\"\",@progbits\n\t.text\n");
