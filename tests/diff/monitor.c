/* bt-vmm as an engine: a bare guest at CPL 3 with paging, whose every exception ends the run. Three page directories with the same pages: one
 * whose view stays soft, one whose view is direct, one with the window at 0; two more for virtual-8086 mode. Real mode is monitor_real.c's. */
#include "monitor_private.h"
#include "runtime/internal.h"

#include <stdio.h>
#include <stdlib.h>

/* The host's descriptor that says which processor this is; 0 if it has none. */
static uint64_t host_cpu_descriptor(void)
{
	uint32_t rights, limit;
	bool there;

	__asm__("lar %2, %0" : "=r"(rights), "=@ccz"(there) : "r"(HOST_CPU_SELECTOR | 3));
	if (!there)
		return 0;
	__asm__("lsl %2, %0" : "=r"(limit), "=@ccz"(there) : "r"(HOST_CPU_SELECTOR | 3));
	return there ? (uint64_t)(rights & 0xF0FF00) << 32 | (uint64_t)(limit >> 16) << 48 | (limit & 0xFFFF) : 0;
}

static void put_descriptors(uint8_t *system)
{
	const uint64_t base = SYSTEM + TSS_BASE, ldt = SYSTEM + LDT_BASE;
	/* What CPL 3 can load is as in Linux: flat code and data, the code segment of 64-bit programs, and which processor this is. */
	const uint64_t gdt[HOST_CPU_SELECTOR / 8 + 1] = {
		[CODE0 / 8] = 0x00CF9B000000FFFF, [DATA0 / 8] = 0x00CF93000000FFFF, [CODE3 / 8] = 0x00CFFB000000FFFF, [DATA3 / 8] = 0x00CFF3000000FFFF,
		[6] = 0x00AFFB000000FFFF,
		[TSS / 8] = 0x00008B0000000067 | (base & 0xFFFFFF) << 16 | base >> 24 << 56,
		[LDT / 8] = 0x0000820000000000 | (ldt & 0xFFFFFF) << 16 | ldt >> 24 << 56 | (8 * DIFF_LDT_ENTRIES - 1),
		[HOST_CPU_SELECTOR / 8] = host_cpu_descriptor(),
	};

	memcpy(system + GDT_BASE, gdt, sizeof(gdt));
	for (enum diff_kind kind = KIND_PROTECTED; kind <= KIND_REAL; kind++) {
		for (unsigned i = 0; i < diff_selector_count(kind); i++) {
			uint16_t selector = diff_selector(kind, i);
			uint64_t d = diff_descriptor(diff_segment(selector));
			memcpy(system + LDT_BASE + (selector & ~7u), &d, 8);
		}
	}
	put32(system, TSS_BASE + 4, SYSTEM + STACK_TOP);
	put32(system, TSS_BASE + 8, DATA0);
	put32(system, TSS_BASE + 100, 0xFFFF0000); /* no I/O bitmap */
}

static void put_code(uint8_t *system)
{
	const uint32_t out = SYSTEM + FPU_OUT, in = SYSTEM + FPU_IN;

	for (uint32_t i = 0; i < VECTORS; i++) {
		/* ss: fxsave [FPU_OUT]; out 0xF4, al; jmp . */
		const uint8_t stub[] = {0x36, 0x0F, 0xAE, 0x05, (uint8_t)out, (uint8_t)(out >> 8), (uint8_t)(out >> 16), out >> 24, 0xE6, 0xF4, 0xEB, 0xFE};
		uint32_t at = STUBS + 16 * i, gate = SYSTEM + at;
		memcpy(system + at, stub, sizeof(stub));
		put32(system, IDT_BASE + 8 * i, CODE0 << 16 | (gate & 0xFFFF));
		put32(system, IDT_BASE + 8 * i + 4, (gate & 0xFFFF0000) | (i == 3 || i == 4 ? 0xEE00 : 0x8E00));
	}
	/* cs: fxrstor [FPU_IN]; iret */
	const uint8_t entry[] = {0x2E, 0x0F, 0xAE, 0x0D, (uint8_t)in, (uint8_t)(in >> 8), (uint8_t)(in >> 16), in >> 24, 0xCF};
	memcpy(system + ENTRY, entry, sizeof(entry));
}

static void map_page(struct monitor *m, uint32_t directory, uint32_t gva, uint32_t frame, uint32_t flags)
{
	uint32_t slot = directory + (gva >> 22) * 4, entry = get32(m->system, slot);

	if (!entry) {
		entry = (SYSTEM_FRAME + m->next_table) | USER_PAGE | PTE_RW;
		put32(m->system, slot, entry);
		m->next_table += PAGE;
	}
	put32(m->ram, (entry & ~0xFFFu) + (gva >> 12 & 0x3FF) * 4, frame | flags);
}

static void map_case(struct monitor *m, uint32_t directory, uint32_t code)
{
	for (uint32_t at = 0; at < CODE_SIZE; at += PAGE) map_page(m, directory, code + at, CODE_FRAME + at, USER_PAGE);
	for (uint32_t at = 0; at < DATA_SIZE; at += PAGE) map_page(m, directory, code + CODE_SIZE + at, DATA_FRAME + at, USER_PAGE | PTE_RW);
}

static void put_pages(struct monitor *m, bool zero_mapped)
{
	m->next_table = PAGE_TABLES;
	for (uint32_t at = 0; at < SYSTEM_SIZE; at += PAGE) map_page(m, DIRECTORY, SYSTEM + at, SYSTEM_FRAME + at, PTE_P | PTE_RW | PTE_A | PTE_D);
	memcpy(m->system + DIRECTORY_V86, m->system + DIRECTORY, PAGE);
	map_case(m, DIRECTORY, CODE_BASE);
	map_case(m, DIRECTORY_V86, CODE_BASE - LOW);
	map_page(m, DIRECTORY, EDGE_BASE, DATA_FRAME, USER_PAGE | PTE_RW);
	if (zero_mapped)
		map_page(m, DIRECTORY, 0, DATA_FRAME + PAGE, USER_PAGE | PTE_RW);
	memcpy(m->system + DIRECTORY + PAGE, m->system + DIRECTORY, PAGE);
	memcpy(m->system + DIRECTORY_LOW, m->system + DIRECTORY, PAGE);
	memcpy(m->system + DIRECTORY_V86 + PAGE, m->system + DIRECTORY_V86, PAGE);
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
	m->system = m->ram + SYSTEM_FRAME;
	put_descriptors(m->system);
	put_code(m->system);
	put_pages(m, zero_mapped);
	monitor_real_put_code(m);
	memset(m->ram + CODE_FRAME, 0xCC, CODE_SIZE);
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
	uint32_t at = diff_segment(c->in.seg[SEG_CS])->base + c->in.eip - CODE_BASE;

	memset(m->ram + CODE_FRAME, 0xCC, CODE_SIZE);
	memcpy(m->ram + CODE_FRAME + at, c->code, c->length);
	memcpy(m->ram + DATA_FRAME, c->data, DATA_SIZE);
	code_written(m->runtime, CODE_FRAME, CODE_SIZE);
}

/* By way of CPL 0, which loads the FPU and returns to the case. */
static void enter_through_stub(struct vcpu *v, const struct diff_case *c, uint8_t *system)
{
	bool v86 = c->kind == KIND_V86;
	const uint32_t frame[] = {c->in.eip, c->in.seg[SEG_CS], c->in.eflags | EFL_IF | (v86 ? EFL_VM : 0), c->in.gpr[ESP], c->in.seg[SEG_SS],
				  c->in.seg[SEG_ES], c->in.seg[SEG_DS], c->in.seg[SEG_FS], c->in.seg[SEG_GS]};
	uint32_t size = v86 ? sizeof(frame) : 20;

	diff_pack(&c->in, system + FPU_IN);
	memcpy(system + STACK_TOP - size, frame, size);
	v->seg[SEG_CS] = segment(CODE3);
	v->seg[SEG_SS] = segment(DATA3);
	v->seg[SEG_CS].selector = CODE0;
	v->seg[SEG_SS].selector = DATA0;
	v->seg[SEG_CS].ar &= ~AR_DPL;
	v->seg[SEG_SS].ar &= ~AR_DPL;
	/* To a 16-bit stack, IRET loads SP alone: the upper half is there before. */
	v->gpr[ESP] = (c->in.gpr[ESP] & 0xFFFF0000) | 0x8000;
	v->seg[SEG_SS].base = SYSTEM + STACK_TOP - size - v->gpr[ESP];
	v->eip = SYSTEM + ENTRY;
	vcpu_set_eflags(v, 0, ~0u);
}

static uint32_t directory_of(const struct diff_case *c)
{
	if (c->direct == 2)
		return SYSTEM_FRAME + DIRECTORY_LOW;
	return SYSTEM_FRAME + (c->kind == KIND_V86 ? DIRECTORY_V86 : DIRECTORY) + (c->direct ? PAGE : 0);
}

static void put_state(struct monitor *m, const struct diff_case *c)
{
	struct vcpu *v = m->v;
	bool v86 = c->kind == KIND_V86;

	cpu_reset(v, true);
	for (unsigned i = 0; i < SEG_COUNT; i++) v->seg[i] = v86 ? monitor_low_segment(c->in.seg[i], 3) : segment(c->in.seg[i]);
	v->tr = (struct segment){.selector = TSS, .base = SYSTEM + TSS_BASE, .limit = 0x67, .ar = AR_P | 11};
	v->ldtr = (struct segment){.selector = LDT, .base = SYSTEM + LDT_BASE, .limit = 8 * DIFF_LDT_ENTRIES - 1, .ar = AR_P | 2};
	v->gdtr = (struct table_register){.base = SYSTEM + GDT_BASE, .limit = HOST_CPU_SELECTOR + 7};
	v->idtr = (struct table_register){.base = SYSTEM + IDT_BASE, .limit = 8 * VECTORS - 1};
	v->cr0 |= CR0_NE | CR0_AM | CR0_WP | CR0_PG;
	v->cr3 = directory_of(c);
	v->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	memcpy(v->gpr, c->in.gpr, sizeof(v->gpr));
	v->eip = c->in.eip;
	vcpu_set_eflags(v, c->in.eflags | EFL_IF | (v86 ? EFL_VM : 0), ~0u);
	if (c->fpu)
		enter_through_stub(v, c, m->system);
}

static void enter(struct monitor *m, const struct diff_case *c)
{
	put_memory(m, c);
	if (c->kind == KIND_REAL)
		monitor_real_put_state(m, c);
	else
		put_state(m, c);
	cpu_update_mode(m->v);
	runtime_paging_changed(m->v);
	if (c->direct && !m->fixed_form)
		(c->direct == 2 ? shadow_make_low : shadow_make_direct)(runtime_shadow(m->runtime), shadow_view(runtime_shadow(m->runtime), c->kind != KIND_REAL));
}

static bool has_error_code(uint32_t vector)
{
	return vector == VEC_DF || (vector >= VEC_TS && vector <= VEC_PF) || vector == VEC_AC;
}

static void take_state(struct monitor *m, const struct diff_case *c, struct diff_result *r)
{
	static const uint8_t v86_segments[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	const struct vcpu *v = m->v;
	struct diff_state *s = &r->out;
	uint32_t frame = v->gpr[ESP] - SYSTEM;

	s->vector = (v->eip - SYSTEM - STUBS) / 16;
	s->error = has_error_code(s->vector) ? get32(m->system, frame) : 0;
	s->cr2 = s->vector == VEC_PF ? v->cr2 : 0;
	/* For the processor, nothing at all is there. */
	if (s->vector == VEC_PF && v->cr2 - SYSTEM < SYSTEM_SIZE)
		s->error &= ~1u;
	frame += has_error_code(s->vector) ? 4 : 0;
	memcpy(s->gpr, v->gpr, sizeof(s->gpr));
	for (unsigned i = 0; i < SEG_COUNT; i++) s->seg[i] = v->seg[i].selector;
	s->eip = get32(m->system, frame);
	s->seg[SEG_CS] = (uint16_t)get32(m->system, frame + 4);
	s->eflags = get32(m->system, frame + 8);
	s->gpr[ESP] = get32(m->system, frame + 12);
	s->seg[SEG_SS] = (uint16_t)get32(m->system, frame + 16);
	for (unsigned i = 0; c->kind == KIND_V86 && i < 4; i++) s->seg[v86_segments[i]] = (uint16_t)get32(m->system, frame + 20 + 4 * i);
	diff_unpack(s, m->system + FPU_OUT);
	memcpy(r->data, m->ram + DATA_FRAME, DATA_SIZE);
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
	bool real = c->kind == KIND_REAL;

	enter(m, c);
	enum runtime_end end = runtime_run(m->runtime);
	if (real && end == RUNTIME_TRIPLE_FAULT) {
		monitor_real_take_shutdown(m, r);
		return true;
	}
	if (end != RUNTIME_MACHINE_ENDED || !(real ? monitor_real_at_stub(m->v) : at_stub(m->v))) {
		runtime_dump(m->runtime, stderr, true);
		return false;
	}
	if (real)
		monitor_real_take_state(m, r);
	else
		take_state(m, c, r);
	if (m->planted_length && memmem(c->code, c->length, m->planted, m->planted_length))
		r->out.gpr[EAX] ^= 8;
	return true;
}
