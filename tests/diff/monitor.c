/* bt-vmm as an engine: a bare guest at CPL 3 with paging, whose every exception ends the run. Two page directories with the same pages: one
 * whose view stays soft, one whose view is direct. */
#include "diff.h"

#include <stdlib.h>
#include <string.h>

#include "base/x86.h"
#include "runtime/cpu.h"
#include "runtime/options.h"
#include "runtime/runtime.h"

/* The system's own: guest physical, and SYSTEM + that in the linear address space, for CPL 0 alone. */
#define SYSTEM 0xC0DC0000u
#define SYSTEM_SIZE 0x10000u
#define IDT_BASE 0x1000u
#define GDT_BASE 0x2000u
#define TSS_BASE 0x2100u
#define LDT_BASE 0x2200u
#define STUBS 0x3000u      /* 16 bytes a vector */
#define FPU_IN 0x4000u
#define FPU_OUT 0x4200u
#define ENTRY 0x4800u
#define STACK_TOP 0x6000u  /* of CPL 0 */
#define DIRECTORY_SOFT 0x6000u
#define DIRECTORY_DIRECT 0x7000u
#define PAGE_TABLES 0x8000u
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
	uint8_t *ram;
	uint32_t next_table;
	bool fixed_form; /* chaos says which form accesses have */
	uint8_t planted[4];
	uint32_t planted_length;
};

static void put32(uint8_t *ram, uint32_t at, uint32_t value)
{
	memcpy(ram + at, &value, 4);
}

static uint32_t get32(const uint8_t *ram, uint32_t at)
{
	uint32_t value;

	memcpy(&value, ram + at, 4);
	return value;
}

static void put_descriptors(uint8_t *ram)
{
	const uint64_t base = SYSTEM + TSS_BASE, ldt = SYSTEM + LDT_BASE;
	/* What CPL 3 can load is as in Linux: flat code and data, and the code segment of 64-bit programs. */
	const uint64_t gdt[LDT / 8 + 1] = {
		[CODE0 / 8] = 0x00CF9B000000FFFF, [DATA0 / 8] = 0x00CF93000000FFFF, [CODE3 / 8] = 0x00CFFB000000FFFF, [DATA3 / 8] = 0x00CFF3000000FFFF,
		[6] = 0x00AFFB000000FFFF,
		[TSS / 8] = 0x00008B0000000067 | (base & 0xFFFFFF) << 16 | base >> 24 << 56,
		[LDT / 8] = 0x0000820000000000 | (ldt & 0xFFFFFF) << 16 | ldt >> 24 << 56 | (8 * diff_segment_count - 1),
	};

	memcpy(ram + GDT_BASE, gdt, sizeof(gdt));
	for (unsigned i = 0; i < diff_segment_count; i++) {
		uint64_t d = diff_descriptor(&diff_segments[i]);
		memcpy(ram + LDT_BASE + 8 * i, &d, 8);
	}
	put32(ram, TSS_BASE + 4, SYSTEM + STACK_TOP);
	put32(ram, TSS_BASE + 8, DATA0);
	put32(ram, TSS_BASE + 100, 0xFFFF0000); /* no I/O bitmap */
}

static void put_code(uint8_t *ram)
{
	const uint32_t out = SYSTEM + FPU_OUT, in = SYSTEM + FPU_IN;

	for (uint32_t i = 0; i < VECTORS; i++) {
		/* ss: fxsave [FPU_OUT]; out 0xF4, al; jmp . */
		const uint8_t stub[] = {0x36, 0x0F, 0xAE, 0x05, (uint8_t)out, (uint8_t)(out >> 8), (uint8_t)(out >> 16), out >> 24, 0xE6, 0xF4, 0xEB, 0xFE};
		uint32_t at = STUBS + 16 * i, gate = SYSTEM + at;
		memcpy(ram + at, stub, sizeof(stub));
		put32(ram, IDT_BASE + 8 * i, CODE0 << 16 | (gate & 0xFFFF));
		put32(ram, IDT_BASE + 8 * i + 4, (gate & 0xFFFF0000) | (i == 3 || i == 4 ? 0xEE00 : 0x8E00));
	}
	/* cs: fxrstor [FPU_IN]; iret */
	const uint8_t entry[] = {0x2E, 0x0F, 0xAE, 0x0D, (uint8_t)in, (uint8_t)(in >> 8), (uint8_t)(in >> 16), in >> 24, 0xCF};
	memcpy(ram + ENTRY, entry, sizeof(entry));
}

static void map_page(struct monitor *m, uint32_t gva, uint32_t frame, uint32_t flags)
{
	uint8_t *ram = m->ram;
	uint32_t slot = DIRECTORY_SOFT + (gva >> 22) * 4, entry = get32(ram, slot);

	if (!entry) {
		entry = m->next_table | USER_PAGE | PTE_RW;
		put32(ram, slot, entry);
		m->next_table += PAGE;
	}
	put32(ram, (entry & ~0xFFFu) + (gva >> 12 & 0x3FF) * 4, frame | flags);
}

static void put_pages(struct monitor *m, bool zero_mapped)
{
	m->next_table = PAGE_TABLES;
	for (uint32_t at = 0; at < SYSTEM_SIZE; at += PAGE) map_page(m, SYSTEM + at, at, PTE_P | PTE_RW | PTE_A | PTE_D);
	for (uint32_t at = CODE_BASE; at < DATA_BASE; at += PAGE) map_page(m, at, at, USER_PAGE);
	for (uint32_t at = DATA_BASE; at < DATA_BASE + DATA_SIZE; at += PAGE) map_page(m, at, at, USER_PAGE | PTE_RW);
	map_page(m, EDGE_BASE, DATA_BASE, USER_PAGE | PTE_RW);
	if (zero_mapped)
		map_page(m, 0, DATA_MIDDLE, USER_PAGE | PTE_RW);
	memcpy(m->ram + DIRECTORY_DIRECT, m->ram + DIRECTORY_SOFT, PAGE);
}

struct monitor *monitor_create(unsigned chaos, bool zero_mapped, char *why, size_t why_size)
{
	struct monitor *m = calloc(1, sizeof(*m));
	/* No view turns direct by itself. */
	unsigned soft = chaos & CHAOS_ALL_DIRECT ? 0 : CHAOS_ALL_SOFT;
	struct runtime_config config = {.ram_size = RAM_SIZE, .tc_size = 4u << 20, .chaos = chaos | soft, .no_reset = true};

	if (!m || runtime_create(&m->runtime, &config, why, why_size)) {
		free(m);
		return NULL;
	}
	m->fixed_form = chaos & (CHAOS_ALL_SOFT | CHAOS_ALL_DIRECT);
	m->v = runtime_vcpu(m->runtime);
	m->ram = runtime_ram(m->runtime);
	put_descriptors(m->ram);
	put_code(m->ram);
	put_pages(m, zero_mapped);
	memset(m->ram + CODE_BASE, 0xCC, CODE_SIZE);
	return m;
}

void monitor_destroy(struct monitor *m)
{
	runtime_destroy(m->runtime);
	free(m);
}

static struct segment segment(uint16_t selector)
{
	const struct diff_segment *s = diff_segment(selector);

	return (struct segment){.selector = selector, .base = s->base, .limit = s->limit,
		.ar = AR_P | AR_S | AR_DPL | s->type | (s->big ? AR_DB : 0) | (s->limit > 0xFFFFF ? AR_G : 0)};
}

static void put_memory(struct monitor *m, const struct diff_case *c)
{
	struct cache *cache = runtime_cache(m->runtime);
	uint32_t at = diff_segment(c->in.seg[SEG_CS])->base + c->in.eip;

	memset(m->ram + CODE_BASE, 0xCC, CODE_SIZE);
	memcpy(m->ram + at, c->code, c->length);
	memcpy(m->ram + DATA_BASE, c->data, DATA_SIZE);
	cache_invalidate(cache, CODE_BASE, CODE_SIZE);
}

/* By way of CPL 0, which loads the FPU and returns to the case. */
static void enter_through_stub(struct vcpu *v, const struct diff_case *c, uint8_t *ram)
{
	const uint32_t frame[] = {c->in.eip, c->in.seg[SEG_CS], c->in.eflags | EFL_IF, c->in.gpr[ESP], c->in.seg[SEG_SS]};

	diff_pack(&c->in, ram + FPU_IN);
	memcpy(ram + STACK_TOP - sizeof(frame), frame, sizeof(frame));
	v->seg[SEG_CS] = segment(CODE3);
	v->seg[SEG_SS] = segment(DATA3);
	v->seg[SEG_CS].selector = CODE0;
	v->seg[SEG_SS].selector = DATA0;
	v->seg[SEG_CS].ar &= ~AR_DPL;
	v->seg[SEG_SS].ar &= ~AR_DPL;
	/* To a 16-bit stack, IRET loads SP alone: the upper half is there before. */
	v->gpr[ESP] = (c->in.gpr[ESP] & 0xFFFF0000) | 0x8000;
	v->seg[SEG_SS].base = SYSTEM + STACK_TOP - sizeof(frame) - v->gpr[ESP];
	v->eip = SYSTEM + ENTRY;
	vcpu_set_eflags(v, 0, ~0u);
}

static void put_state(struct monitor *m, const struct diff_case *c)
{
	struct vcpu *v = m->v;

	cpu_reset(v, true);
	for (unsigned i = 0; i < SEG_COUNT; i++) v->seg[i] = segment(c->in.seg[i]);
	v->tr = (struct segment){.selector = TSS, .base = SYSTEM + TSS_BASE, .limit = 0x67, .ar = AR_P | 11};
	v->ldtr = (struct segment){.selector = LDT, .base = SYSTEM + LDT_BASE, .limit = 8 * diff_segment_count - 1, .ar = AR_P | 2};
	v->gdtr = (struct table_register){.base = SYSTEM + GDT_BASE, .limit = LDT + 7};
	v->idtr = (struct table_register){.base = SYSTEM + IDT_BASE, .limit = 8 * VECTORS - 1};
	v->cr0 |= CR0_NE | CR0_AM | CR0_WP | CR0_PG;
	v->cr3 = c->direct ? DIRECTORY_DIRECT : DIRECTORY_SOFT;
	v->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	memcpy(v->gpr, c->in.gpr, sizeof(v->gpr));
	v->eip = c->in.eip;
	vcpu_set_eflags(v, c->in.eflags | EFL_IF, ~0u);
	if (c->fpu)
		enter_through_stub(v, c, m->ram);
	cpu_update_mode(v);
	runtime_paging_changed(v);
	if (c->direct && !m->fixed_form)
		shadow_make_direct(runtime_shadow(m->runtime), shadow_view(runtime_shadow(m->runtime), true));
}

static bool has_error_code(uint32_t vector)
{
	return vector == VEC_DF || (vector >= VEC_TS && vector <= VEC_PF) || vector == VEC_AC;
}

static void take_state(struct monitor *m, struct diff_result *r)
{
	const struct vcpu *v = m->v;
	struct diff_state *s = &r->out;
	uint32_t frame = v->gpr[ESP] - SYSTEM;

	s->vector = (v->eip - SYSTEM - STUBS) / 16;
	s->error = has_error_code(s->vector) ? get32(m->ram, frame) : 0;
	s->cr2 = s->vector == VEC_PF ? v->cr2 : 0;
	/* For the processor, nothing at all is there. */
	if (s->vector == VEC_PF && v->cr2 - SYSTEM < SYSTEM_SIZE)
		s->error &= ~1u;
	frame += has_error_code(s->vector) ? 4 : 0;
	memcpy(s->gpr, v->gpr, sizeof(s->gpr));
	for (unsigned i = 0; i < SEG_COUNT; i++) s->seg[i] = v->seg[i].selector;
	s->eip = get32(m->ram, frame);
	s->seg[SEG_CS] = (uint16_t)get32(m->ram, frame + 4);
	s->eflags = get32(m->ram, frame + 8);
	s->gpr[ESP] = get32(m->ram, frame + 12);
	s->seg[SEG_SS] = (uint16_t)get32(m->ram, frame + 16);
	diff_unpack(s, m->ram + FPU_OUT);
	memcpy(r->data, m->ram + DATA_BASE, DATA_SIZE);
}

static bool at_stub(const struct vcpu *v)
{
	return v->eip - SYSTEM - STUBS < 16 * VECTORS && v->cpl == 0 && v->gpr[ESP] - SYSTEM < STACK_TOP;
}

bool monitor_plant(struct monitor *m, const char *what)
{
	m->planted_length = (uint32_t)(strlen(what) / 2);
	if (!m->planted_length || m->planted_length > sizeof(m->planted))
		return false;
	for (uint32_t i = 0; i < m->planted_length; i++) {
		if (sscanf(what + 2 * i, "%2hhx", &m->planted[i]) != 1)
			return false;
	}
	return true;
}

bool monitor_run(struct monitor *m, const struct diff_case *c, struct diff_result *r)
{
	put_memory(m, c);
	put_state(m, c);
	if (runtime_run(m->runtime) != RUNTIME_MACHINE_ENDED || !at_stub(m->v)) {
		runtime_dump(m->runtime, stderr, true);
		return false;
	}
	take_state(m, r);
	if (m->planted_length && memmem(c->code, c->length, m->planted, m->planted_length))
		r->out.gpr[EAX] ^= 8;
	return true;
}
