/* Addresses, named and typed by the space they live in, and the few constants that every part shares. */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t gva_t;     /* guest linear ("virtual") address */
typedef uint64_t gpa_t;     /* guest physical address */
typedef uint32_t gfn_t;     /* guest physical frame number: gpa >> 12 */
typedef uint64_t host_pc_t; /* address of emitted code, as it is executed */

#define PAGE_SHIFT 12u
#define PAGE_SIZE 4096u
#define PAGE_MASK 0xFFFu
#define GFN_NONE 0xFFFFFFFFu
#define WINDOW_SIZE (1ULL << 32)
/* Never mapped, below and above a window: [R15 + register + 32-bit displacement] cannot reach further. */
#define WINDOW_GUARD (1ULL << 31)
/* The window at 0 begins here: Linux maps nothing below (vm.mmap_min_addr). */
#define LOW_WINDOW_START 0x10000u

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* How memory is accessed; the bits are those of a page fault's error code (Intel SDM vol. 3, 4.7), so that a
 * walk's answer can be or-ed with them. */
enum access {
	ACCESS_READ = 0,
	ACCESS_WRITE = 2,
	ACCESS_USER = 4,
	ACCESS_FETCH = 16,
	ACCESS_AC = 32, /* no bit of an error code: EFLAGS.AC allows this one to user pages under SMAP */
};
#define PF_PRESENT 1u

#endif
