/* Programs for the guest: small, static, without a C library, so that they build with any compiler that knows -m32 and run
   alike natively and in the guest. Each computes the same thing several times, checks the result, and prints one line:
   its name, the microseconds that it took by its own clock, and "ok" or what is wrong. A number as its word divides how often it repeats. */
#ifndef USER_H
#define USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SYS_EXIT = 1,
	SYS_FORK = 2,
	SYS_READ = 3,
	SYS_WRITE = 4,
	SYS_OPEN = 5,
	SYS_CLOSE = 6,
	SYS_WAITPID = 7,
	SYS_UNLINK = 10,
	SYS_EXECVE = 11,
	SYS_GETPID = 20,
	SYS_KILL = 37,
	SYS_PIPE = 42,
	SYS_DUP2 = 63,
	SYS_GETPPID = 64,
	SYS_MUNMAP = 91,
	SYS_CLONE = 120,
	SYS_MPROTECT = 125,
	SYS_RT_SIGACTION = 174,
	SYS_MMAP2 = 192,
	SYS_FUTEX = 240,
	SYS_CLOCK_GETTIME = 265,
};

enum { USER_SIGUSR1 = 10, USER_SIGSEGV = 11, USER_SIGCHLD = 17 };
enum { USER_PAGE = 4096 };
enum { PROTECT_NONE = 0, PROTECT_READ = 1, PROTECT_WRITE = 2, PROTECT_EXECUTE = 4 };
enum { CLONE_MEMORY = 0x100, CLONE_VFORK = 0x4000, CLONE_THREAD = 0x10F00, CLONE_PARENT_SETS_ID = 0x100000, CLONE_CHILD_CLEARS_ID = 0x200000 };

/* A program with this as its only word ends at once, with this code: what `exec` runs. */
#define USER_END_WORD "-"
enum { USER_END_CODE = 42 };

/* What a program is made of. */
extern const char program_name[];
extern const unsigned program_repetitions;
/* The checksum that every repetition must return. */
extern const uint32_t program_checksum;
/* How many of what it measures are in one repetition, if not one. */
extern const uint32_t program_operations __attribute__((weak));
uint32_t program_run(void);
/* Between the two the clock stands still: for what is no part of the measurement. */
void user_clock_pause(void);
void user_clock_continue(void);

/* What start.c calls, with the stack as the kernel made it: argc, argv, NULL, environment, NULL. Returns the exit code. repeat.c has the one of the
   programs. */
int user_main(const uintptr_t *stack);

struct user_time {
	int32_t seconds;
	int32_t nanoseconds;
};
void user_read_clock(struct user_time *now);
uint32_t user_microseconds_since(const struct user_time *from);
char *user_append_text(char *to, const char *text);
char *user_append_number(char *to, uint32_t number);
/* The line that a program ends with. */
void user_report(const char *name, uint32_t microseconds, bool right, uint32_t sum, uint32_t operations, uint32_t paused);

/* By the kernel's entry page, as a C library does it: SYSENTER where the processor has it. Negative: an error. */
int user_call_kernel(int number, uintptr_t a, uintptr_t b, uintptr_t c);
/* Six arguments, always by INT 80h. */
int user_call_kernel_6(int number, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f);
void *user_map_memory(size_t size);
void user_exit(int code) __attribute__((noreturn));
/* A handler gets the signal, its information and its context, and returns to what was interrupted. */
int user_handle_signal(int signal, void (*handler)(int, void *, void *));
/* A child on a stack of its own runs function(argument), which must not return. The id is written to *id and, as `flags` say, cleared at its end. */
int user_clone(unsigned flags, void *stack_top, void (*function)(void *), void *argument, int *id);

/* A linear congruential generator: its high bits are the good ones. */
static inline uint32_t next_random(uint32_t value)
{
	return value * 1664525u + 1013904223u;
}

static inline uint32_t mix(uint32_t sum, uint32_t value)
{
	return (sum << 5 | sum >> 27) ^ (value * 2654435761u);
}

#endif
