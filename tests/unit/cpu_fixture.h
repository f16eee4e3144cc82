/* For the tests of runtime/cpu_*.c: a vCPU with descriptor tables in a small memory of its own. The functions of runtime/memory.h
 * and the runtime's hooks are defined here: include it once a program. */
#ifndef TESTS_UNIT_CPU_FIXTURE_H
#define TESTS_UNIT_CPU_FIXTURE_H

#include <string.h>

#include "base/abi.h"
#include "runtime/cpu.h"
#include "runtime/memory.h"
#include "tests/shim/test.h"

/* Memory: linear addresses from 0 with rights for each page, as a guest's page tables would give them. */
#define RAM_SIZE 0x40000u
#define GDT 0x1000u
#define IDT 0x2000u
#define TSS 0x3000u
#define LDT 0x4000u
#define KERNEL_STACK 0x8000u /* tops */
#define USER_STACK 0xC000u
#define DATA 0x10000u
#define PAGE_PRESENT 1
#define PAGE_WRITABLE 2
#define PAGE_USER 4
#define PAGE_ALL 7

static uint8_t ram[RAM_SIZE];
static uint8_t rights[RAM_SIZE / PAGE_SIZE];
static unsigned paging_changes, apic_base_changes;
static struct vcpu cpu;
static struct stats stats;

static bool page_allows(struct vcpu *v, gva_t gva, unsigned access)
{
	uint8_t r = gva < RAM_SIZE ? rights[gva / PAGE_SIZE] : 0;
	bool ok = (r & PAGE_PRESENT) && (!(access & ACCESS_WRITE) || (r & PAGE_WRITABLE)) && (!(access & ACCESS_USER) || (r & PAGE_USER));
	if (!ok) v->fault = (struct guest_fault){ VEC_PF, true, (r & PF_PRESENT) | access, gva };
	return ok;
}

static bool range_allows(struct vcpu *v, gva_t gva, uint32_t size, unsigned access)
{
	for (uint32_t i = 0; i < size; i++) {
		if (!page_allows(v, gva + i, access)) return false;
	}
	return true;
}

bool memory_read(struct vcpu *v, gva_t gva, void *to, uint32_t size, unsigned access)
{
	if (!range_allows(v, gva, size, access)) return false;
	memcpy(to, ram + gva, size);
	return true;
}

bool memory_write(struct vcpu *v, gva_t gva, const void *from, uint32_t size, unsigned access)
{
	if (!range_allows(v, gva, size, access | ACCESS_WRITE)) return false;
	memcpy(ram + gva, from, size);
	return true;
}

bool memory_probe_write(struct vcpu *v, gva_t gva, uint32_t size, unsigned access)
{
	return range_allows(v, gva, size, access | ACCESS_WRITE);
}

uint8_t *memory_page(struct vcpu *v, gva_t gva, unsigned access)
{
	return page_allows(v, gva, access) ? ram + gva : NULL;
}

void runtime_paging_changed(struct vcpu *v) { (void)v, paging_changes++; }
void runtime_apic_base_changed(struct vcpu *v) { (void)v, apic_base_changes++; }
void runtime_read_physical(struct vcpu *v, gpa_t gpa, void *to, uint32_t size)
{
	(void)v;
	memset(to, 0, size);
	if (gpa + size <= RAM_SIZE) memcpy(to, ram + gpa, size);
}
bool runtime_guest_code(struct vcpu *v, host_pc_t pc, uint32_t *eip, uint32_t *base) { (void)v, (void)pc, (void)eip, (void)base; return false; }
bool runtime_guest_data(struct vcpu *v, uint64_t hva, gva_t *gva) { (void)v, (void)hva, (void)gva; return false; }
bool runtime_x87_error(struct vcpu *v) { (void)v; return true; }
uint64_t runtime_read_tsc(struct vcpu *v) { (void)v; return 0x1122334455667788u; }
uint32_t runtime_io_read(struct vcpu *v, uint16_t port, unsigned size) { (void)v, (void)port, (void)size; return ~0u; }
void runtime_io_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t value) { (void)v, (void)port, (void)size, (void)value; }

static inline uint32_t peek32(gva_t at)
{
	uint32_t x;
	memcpy(&x, ram + at, 4);
	return x;
}
static inline uint16_t peek16(gva_t at)
{
	uint16_t x;
	memcpy(&x, ram + at, 2);
	return x;
}
static inline void poke32(gva_t at, uint32_t x) { memcpy(ram + at, &x, 4); }
static inline void poke16(gva_t at, uint16_t x) { memcpy(ram + at, &x, 2); }

/* Descriptors, from their fields. `access` is bits 40-47, `flags` 52-55 (8: G, 4: D/B). */
static inline void set_descriptor(gva_t at, uint32_t base, uint32_t limit, uint32_t access, uint32_t flags)
{
	poke32(at, (limit & 0xFFFF) | base << 16);
	poke32(at + 4, (base >> 16 & 0xFF) | access << 8 | (limit & 0xF0000) | flags << 20 | (base & 0xFF000000));
}
static inline void set_gate(gva_t at, uint16_t selector, uint32_t offset, uint32_t access, uint32_t parameters)
{
	poke32(at, (uint32_t)selector << 16 | (offset & 0xFFFF));
	poke32(at + 4, (offset & 0xFFFF0000) | access << 8 | parameters);
}

/* The GDT that every test starts from: flat code and data for each privilege, then the unusual ones. */
enum {
	CODE0 = 0x08, DATA0 = 0x10, CODE3 = 0x1B, DATA3 = 0x23, SEL_TSS = 0x28, SEL_LDT = 0x30, CONFORMING0 = 0x38, CODE16 = 0x40,
	STACK16 = 0x48, EXPAND_DOWN = 0x50, READ_ONLY = 0x58, EXEC_ONLY = 0x60, ABSENT = 0x68, ABSENT_CODE = 0x70, SMALL = 0x78,
	CODE1 = 0x81, DATA1 = 0x89, CALL_GATE = 0x90, STACK16_3 = 0x9B, FREE = 0xA0, FREE2 = 0xA8, GDT_BYTES = 0x100,
};

static inline void fill_gdt(void)
{
	set_descriptor(GDT + CODE0, 0, 0xFFFFF, 0x9B, 0xC);
	set_descriptor(GDT + DATA0, 0, 0xFFFFF, 0x93, 0xC);
	set_descriptor(GDT + (CODE3 & ~7), 0, 0xFFFFF, 0xFB, 0xC);
	set_descriptor(GDT + (DATA3 & ~7), 0, 0xFFFFF, 0xF3, 0xC);
	set_descriptor(GDT + SEL_TSS, TSS, 0x87, 0x89, 0);
	set_descriptor(GDT + SEL_LDT, LDT, 0x1F, 0x82, 0);
	set_descriptor(GDT + CONFORMING0, 0, 0xFFFFF, 0x9F, 0xC);
	set_descriptor(GDT + CODE16, 0, 0xFFFF, 0x9B, 0);
	set_descriptor(GDT + STACK16, 0, 0xFFFF, 0x93, 0);
	set_descriptor(GDT + EXPAND_DOWN, DATA, 0x0FFF, 0x97, 0);
	set_descriptor(GDT + READ_ONLY, 0, 0xFFFFF, 0x91, 0xC);
	set_descriptor(GDT + EXEC_ONLY, 0, 0xFFFFF, 0x99, 0xC);
	set_descriptor(GDT + ABSENT, 0, 0xFFFFF, 0x13, 0xC);
	set_descriptor(GDT + ABSENT_CODE, 0, 0xFFFFF, 0x1B, 0xC);
	set_descriptor(GDT + SMALL, DATA, 0x0FFF, 0xF3, 0x4);
	set_descriptor(GDT + (CODE1 & ~7), 0, 0xFFFFF, 0xBB, 0xC);
	set_descriptor(GDT + (DATA1 & ~7), 0, 0xFFFFF, 0xB3, 0xC);
	set_descriptor(GDT + (STACK16_3 & ~7), 0, 0xFFFF, 0xF3, 0);
}

/* A segment register straight from its descriptor, without checks. */
static inline void force_segment(enum seg seg, uint16_t selector)
{
	uint32_t low = peek32(GDT + (selector & ~7u)), high = peek32(GDT + (selector & ~7u) + 4);
	struct segment s = { .selector = selector, .ar = high >> 8 & 0xF0FF };
	s.base = low >> 16 | (high & 0xFF) << 16 | (high & 0xFF000000);
	s.limit = (low & 0xFFFF) | (high & 0xF0000);
	if (s.ar & AR_G) s.limit = s.limit << 12 | 0xFFF;
	cpu.seg[seg] = s;
}

/* CPL 0 on the kernel stack, flat, interrupts on, EIP 0x1000. */
static inline void set_up(void)
{
	memset(ram, 0, sizeof(ram));
	memset(rights, PAGE_ALL, sizeof(rights));
	memset(&cpu, 0, sizeof(cpu));
	cpu.stats = &stats;
	paging_changes = 0;
	cpu.features = cpu_features_default();
	fill_gdt();
	cpu_reset(&cpu, true);
	cpu.gdtr = (struct table_register){ GDT, GDT_BYTES - 1 };
	cpu.idtr = (struct table_register){ IDT, 0x7FF };
	cpu.ldtr = (struct segment){ .ar = AR_UNUSABLE };
	cpu.tr = (struct segment){ .selector = SEL_TSS, .base = TSS, .limit = 0x87, .ar = 0x8B };
	poke32(TSS + 4, KERNEL_STACK);
	poke32(TSS + 8, DATA0);
	poke32(TSS + 12, KERNEL_STACK - 0x800);
	poke32(TSS + 16, DATA1);
	for (unsigned i = 0; i < SEG_COUNT; i++) force_segment(i, i == SEG_CS ? CODE0 : DATA0);
	cpu.gpr[ESP] = KERNEL_STACK;
	cpu.eip = 0x1000;
	cpu.if_flag = 1;
	cpu_update_mode(&cpu);
}

/* The same at another privilege (0, 1 or 3), on the user stack. */
static inline void set_up_cpl(unsigned cpl)
{
	static const uint16_t code[4] = { CODE0, CODE1, 0, CODE3 }, data[4] = { DATA0, DATA1, 0, DATA3 };
	set_up();
	if (cpl == 0) return;
	for (unsigned i = 0; i < SEG_COUNT; i++) force_segment(i, i == SEG_CS ? code[cpl] : data[cpl]);
	cpu.gpr[ESP] = USER_STACK;
	cpu_update_mode(&cpu);
}

/* What must not change when something faults: all guest-visible registers. */
struct saved_state {
	uint32_t gpr[8], eip, flags, eflags, cr[4], mode;
	uint8_t if_flag, df_flag, cpl;
	struct segment seg[SEG_COUNT], ldtr, tr;
	struct table_register gdtr, idtr;
};

static inline struct saved_state save_state(void)
{
	struct saved_state s;
	memset(&s, 0, sizeof(s));
	memcpy(s.gpr, cpu.gpr, sizeof(s.gpr));
	memcpy(s.seg, cpu.seg, sizeof(s.seg));
	s.eip = cpu.eip, s.flags = cpu.flags, s.eflags = cpu.eflags, s.mode = cpu.mode;
	s.if_flag = cpu.if_flag, s.df_flag = cpu.df_flag, s.cpl = cpu.cpl;
	s.cr[0] = cpu.cr0, s.cr[1] = cpu.cr2, s.cr[2] = cpu.cr3, s.cr[3] = cpu.cr4;
	s.ldtr = cpu.ldtr, s.tr = cpu.tr, s.gdtr = cpu.gdtr, s.idtr = cpu.idtr;
	return s;
}

static inline bool state_unchanged(const struct saved_state *before)
{
	struct saved_state now = save_state();
	return memcmp(before, &now, sizeof(now)) == 0;
}

/* vector and error code in one number, for comparisons; no error code is 0xFFFF. */
#define FAULT(vector, error) ((uint32_t)(vector) << 16 | (uint32_t)(error))
static inline uint32_t fault_seen(void)
{
	return FAULT(cpu.fault.vector, cpu.fault.has_error ? cpu.fault.error : 0xFFFF);
}

/* Run an expression that must be refused: with this fault, and without a trace in the registers. */
#define CHECK_FAULTS(call, vector_, error_) \
	do { \
		struct saved_state before_ = save_state(); \
		cpu.fault = (struct guest_fault){ 0xFF, false, 0, 0 }; \
		CHECK_EQ(call, CALLOUT_FAULT); \
		CHECK_EQ(fault_seen(), FAULT(vector_, error_)); \
		CHECK(state_unchanged(&before_)); \
	} while (0)

/* CALLOUT words for a register operand and for a memory operand in DS; length 3. */
#define ARG_REG(id, reg, rm, size) CALLOUT_ARG(CALLOUT_##id, 3, reg, size, SEG_DS, 0, 0, 0, rm)
#define ARG_MEM(id, reg, size) CALLOUT_ARG(CALLOUT_##id, 3, reg, size, SEG_DS, 0, 0, 1, 0)

#endif
