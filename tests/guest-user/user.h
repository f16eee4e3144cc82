/* Programs for the guest: small, static, without a C library, so that they build with any compiler that knows -m32 and run
   alike natively and in the guest. Each computes the same thing several times, checks the result, and prints one line:
   its name, the microseconds that it took by its own clock, and "ok" or what is wrong. */
#ifndef USER_H
#define USER_H

#include <stddef.h>
#include <stdint.h>

enum {
	SYS_EXIT = 1,
	SYS_FORK = 2,
	SYS_READ = 3,
	SYS_WRITE = 4,
	SYS_CLOSE = 6,
	SYS_WAITPID = 7,
	SYS_PIPE = 42,
	SYS_GETPPID = 64,
	SYS_MUNMAP = 91,
	SYS_MMAP2 = 192,
	SYS_CLOCK_GETTIME = 265,
};

/* What a program is made of. */
extern const char program_name[];
extern const unsigned program_repetitions;
/* The checksum that every repetition must return. */
extern const uint32_t program_checksum;
uint32_t program_run(void);

/* By the kernel's entry page, as a C library does it: SYSENTER where the processor has it. Negative: an error. */
int user_call_kernel(int number, uintptr_t a, uintptr_t b, uintptr_t c);
/* Six arguments, always by INT 80h. */
int user_call_kernel_6(int number, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f);
void *user_map_memory(size_t size);
void user_exit(int code) __attribute__((noreturn));

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
