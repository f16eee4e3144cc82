/* bt-vmm as an engine: a bare guest at CPL 3, paging off, whose every exception ends the run. */
#include "diff.h"

#include <stdlib.h>
#include <string.h>

#include "base/x86.h"
#include "runtime/cpu.h"
#include "runtime/runtime.h"

/* Guest physical layout below the code. */
#define IDT_BASE 0x1000u
#define GDT_BASE 0x2000u
#define TSS_BASE 0x2100u
#define STUBS 0x3000u      /* 16 bytes a vector */
#define FPU_IN 0x4000u
#define FPU_OUT 0x4200u
#define ENTRY 0x4800u
#define STACK_TOP 0x6000u  /* of CPL 0 */
#define RAM_SIZE (16u << 20)
#define VECTORS 32u
#define CODE0 0x08u
#define CODE3 0x23u /* as Linux has them, since they can be read */
#define DATA3 0x2Bu
#define TSS 0x30u

struct monitor {
	struct runtime *runtime;
	struct vcpu *v;
	uint8_t *ram;
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

static void put_tables(uint8_t *ram)
{
	static const uint64_t gdt[] = {0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF,
				       0x00008B0021000067};

	memcpy(ram + GDT_BASE, gdt, sizeof(gdt));
	put32(ram, TSS_BASE + 4, STACK_TOP);
	put32(ram, TSS_BASE + 8, 0x10);
	put32(ram, TSS_BASE + 100, 0xFFFF0000); /* no I/O bitmap */
	for (uint32_t i = 0; i < VECTORS; i++) {
		/* fxsave [FPU_OUT]; out 0xF4, al; jmp . */
		static const uint8_t stub[] = {0x0F, 0xAE, 0x05, FPU_OUT & 0xFF, FPU_OUT >> 8, 0, 0, 0xE6, 0xF4, 0xEB, 0xFE};
		uint32_t at = STUBS + 16 * i;
		memcpy(ram + at, stub, sizeof(stub));
		put32(ram, IDT_BASE + 8 * i, CODE0 << 16 | at);
		put32(ram, IDT_BASE + 8 * i + 4, i == 3 || i == 4 ? 0xEE00 : 0x8E00);
	}
	/* fxrstor [FPU_IN]; jmp rel32 */
	static const uint8_t entry[] = {0x0F, 0xAE, 0x0D, FPU_IN & 0xFF, FPU_IN >> 8, 0, 0, 0xE9};
	memcpy(ram + ENTRY, entry, sizeof(entry));
}

struct monitor *monitor_create(unsigned chaos, char *why, size_t why_size)
{
	struct monitor *m = calloc(1, sizeof(*m));
	struct runtime_config config = {.ram_size = RAM_SIZE, .tc_size = 4u << 20, .chaos = chaos, .no_reset = true};

	if (!m || runtime_create(&m->runtime, &config, why, why_size)) {
		free(m);
		return NULL;
	}
	m->v = runtime_vcpu(m->runtime);
	m->ram = runtime_ram(m->runtime);
	put_tables(m->ram);
	return m;
}

void monitor_destroy(struct monitor *m)
{
	runtime_destroy(m->runtime);
	free(m);
}

static void put_code(struct monitor *m, const struct diff_case *c)
{
	memset(m->ram + CODE_BASE, 0xCC, CODE_SIZE);
	memcpy(m->ram + c->in.eip, c->code, c->length);
	memcpy(m->ram + DATA_BASE, c->data, DATA_SIZE);
	diff_pack(&c->in, m->ram + FPU_IN);
	put32(m->ram, ENTRY + 8, c->in.eip - (ENTRY + 12));
	cache_invalidate(runtime_cache(m->runtime), CODE_BASE, CODE_SIZE + DATA_SIZE);
	cache_invalidate(runtime_cache(m->runtime), ENTRY, 16);
}

static void put_state(struct monitor *m, const struct diff_case *c)
{
	struct vcpu *v = m->v;

	cpu_reset(v, true);
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		bool code = i == SEG_CS;
		v->seg[i] = (struct segment){.selector = code ? CODE3 : DATA3, .limit = 0xFFFFFFFF,
			.ar = AR_P | AR_S | AR_DPL | AR_DB | AR_G | AR_ACCESSED | AR_WRITABLE | (code ? AR_CODE : 0)};
	}
	v->tr = (struct segment){.selector = TSS, .base = TSS_BASE, .limit = 0x67, .ar = AR_P | 11};
	v->gdtr = (struct table_register){.base = GDT_BASE, .limit = 55};
	v->idtr = (struct table_register){.base = IDT_BASE, .limit = 8 * VECTORS - 1};
	v->cr0 |= CR0_NE;
	v->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	memcpy(v->gpr, c->in.gpr, sizeof(v->gpr));
	v->eip = c->fpu ? ENTRY : c->in.eip;
	vcpu_set_eflags(v, c->in.eflags | EFL_IF, EFL_ARITH | EFL_DF | EFL_IF);
	cpu_update_mode(v);
	runtime_paging_changed(v);
}

static void take_state(struct monitor *m, struct diff_result *r)
{
	const struct vcpu *v = m->v;
	struct diff_state *s = &r->out;

	s->vector = (v->eip - STUBS) / 16;
	bool has_error = s->vector == 8 || (s->vector >= 10 && s->vector <= 14) || s->vector == 17;
	uint32_t frame = STACK_TOP - (has_error ? 24 : 20);
	s->error = has_error ? get32(m->ram, frame) : 0;
	frame += has_error ? 4 : 0;
	memcpy(s->gpr, v->gpr, sizeof(s->gpr));
	s->eip = get32(m->ram, frame);
	s->eflags = get32(m->ram, frame + 8);
	s->gpr[ESP] = get32(m->ram, frame + 12);
	diff_unpack(s, m->ram + FPU_OUT);
	memcpy(r->data, m->ram + DATA_BASE, DATA_SIZE);
}

bool monitor_run(struct monitor *m, const struct diff_case *c, struct diff_result *r)
{
	put_code(m, c);
	put_state(m, c);
	if (runtime_run(m->runtime) != RUNTIME_MACHINE_ENDED || m->v->eip < STUBS || m->v->eip >= STUBS + 16 * VECTORS) {
		runtime_dump(m->runtime, stderr, true);
		return false;
	}
	take_state(m, r);
	return true;
}
