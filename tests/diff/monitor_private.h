/* bt-vmm as an engine: what its files share. */
#ifndef TESTS_DIFF_MONITOR_PRIVATE_H
#define TESTS_DIFF_MONITOR_PRIVATE_H

#include <string.h>

#include "base/x86.h"
#include "diff.h"
#include "runtime/cpu.h"
#include "runtime/options.h"
#include "runtime/runtime.h"

/* Frames: the pages of the cases are where real mode has them, the system's own out of its reach. */
#define CODE_FRAME (CODE_BASE - LOW)
#define DATA_FRAME (DATA_BASE - LOW)
#define SYSTEM_FRAME 0x200000u
/* Where the linear address space has the system's, for CPL 0 alone. What follows are offsets in it. */
#define SYSTEM 0xC0DC0000u
#define SYSTEM_SIZE 0x13000u
#define IDT_BASE 0x1000u
#define GDT_BASE 0x2000u
#define TSS_BASE 0x2100u
#define STUBS 0x3000u      /* 16 bytes a vector */
#define FPU_IN 0x4000u
#define FPU_OUT 0x4200u
#define ENTRY 0x4800u
#define STACK_TOP 0x6000u  /* of CPL 0 */
/* A soft one, and behind it a direct one. */
#define DIRECTORY 0x6000u
#define DIRECTORY_V86 0x8000u
#define PAGE_TABLES 0xA000u
#define LDT_BASE 0x10000u
#define DIRECTORY_LOW 0x12000u /* direct, with the window at 0 */
#define RAM_SIZE (16u << 20)
#define VECTORS 32u
#define CODE0 0x08u
#define DATA0 0x10u
#define TSS 0x40u
#define LDT 0x50u
#define PAGE 0x1000u
#define USER_PAGE (PTE_P | PTE_US | PTE_A | PTE_D)

struct monitor {
	struct runtime *runtime;
	struct vcpu *v;
	uint8_t *ram, *system;
	uint32_t next_table;
	bool fixed_form; /* chaos says which form accesses have */
	uint8_t planted[4];
	uint32_t planted_length;
};

static inline void put32(uint8_t *at, uint32_t offset, uint32_t value)
{
	memcpy(at + offset, &value, 4);
}

static inline uint32_t get32(const uint8_t *at, uint32_t offset)
{
	uint32_t value;

	memcpy(&value, at + offset, 4);
	return value;
}

static inline uint16_t get16(const uint8_t *at, uint32_t offset)
{
	return (uint16_t)(at[offset] | at[offset + 1] << 8);
}

/* A segment of real mode or V86. */
static inline struct segment monitor_low_segment(uint16_t selector, unsigned dpl)
{
	return (struct segment){.selector = selector, .base = selector * 16u, .limit = 0xFFFF,
				.ar = AR_P | AR_S | dpl << AR_DPL_SHIFT | AR_WRITABLE | AR_ACCESSED};
}

/* monitor_real.c: handlers, the state before, and the state at the handler of the exception that ended the case. */
void monitor_real_put_code(struct monitor *m);
void monitor_real_put_state(struct monitor *m, const struct diff_case *c);
bool monitor_real_at_stub(const struct vcpu *v);
void monitor_real_take_state(struct monitor *m, struct diff_result *r);
/* No room for the frame: told as a double fault of the instruction that raised the first. */
void monitor_real_take_shutdown(struct monitor *m, struct diff_result *r);

#endif
