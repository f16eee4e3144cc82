/* Unicorn as two engines, with the pages of the case at the same linear addresses: flat at CPL 3, and in real mode. */
#include "reference.h"

#include <stdlib.h>
#include <string.h>
#include <unicorn/unicorn.h>

#define PAGE 0x1000u
/* A page for what brings Unicorn to a state and out of it; in real mode out of the reach of the cases' segments. */
#define FLAT_TABLES 0x1000u
#define REAL_TABLES 0x80000u
#define GDT 0x000u
#define FRAME 0x080u   /* for IRET */
#define FPU_IN 0x200u
#define FPU_OUT 0x400u
#define ENTER 0x800u   /* iret; in real mode a load of CR4 */
#define USER 0x810u    /* int3 */
#define RESTORE 0x820u /* fxrstor [FPU_IN]; int3 */
#define SAVE 0x830u    /* fxsave [FPU_OUT]; int3 */
#define CS 1 /* of a state's segments */
#define CODE0 0x08u
#define DATA0 0x10u
#define CODE3 0x23u /* as the monitor and Linux have them */
#define DATA3 0x2Bu
#define NEVER (1ULL << 40) /* an end address that is never reached */
#define NO_VECTOR 0xFFu
#define CR0_PE 0x1u
#define CR0_MP 0x2u
#define CR0_ET 0x10u
#define CR0_NE 0x20u
#define CR4_SSE 0x600u /* OSFXSR, OSXMMEXCPT */

struct engine {
	uc_engine *uc;
	uc_context *fresh; /* as a case begins, no exception in flight */
	bool real;
	uint8_t *tables, *code, *data;
	uint32_t last; /* where the last case's code is, as an offset in the pages */
	uint32_t vector;
};

struct reference {
	struct engine flat, real;
};

static const int gpr_ids[] = {UC_X86_REG_EAX, UC_X86_REG_ECX, UC_X86_REG_EDX, UC_X86_REG_EBX,
			      UC_X86_REG_ESP, UC_X86_REG_EBP, UC_X86_REG_ESI, UC_X86_REG_EDI};
static const int segment_ids[] = {UC_X86_REG_ES, UC_X86_REG_CS, UC_X86_REG_SS, UC_X86_REG_DS, UC_X86_REG_FS, UC_X86_REG_GS};

static void on_exception(uc_engine *uc, uint32_t vector, void *user)
{
	struct engine *e = user;

	e->vector = vector;
	uc_emu_stop(uc);
}

/* Until the first exception. */
static void run(struct engine *e, uint32_t linear)
{
	e->vector = NO_VECTOR;
	uc_err error = uc_emu_start(e->uc, linear, NEVER, 0, 0);
	if (error == UC_ERR_INSN_INVALID)
		e->vector = 6;
	else if (error != UC_ERR_OK && e->vector == NO_VECTOR)
		e->vector = 14;
}

static uint32_t low(const struct engine *e)
{
	return e->real ? LOW : 0;
}

static uint32_t tables_at(const struct engine *e)
{
	return e->real ? REAL_TABLES : FLAT_TABLES;
}

/* What is in the tables' page. */
static void run_helper(struct engine *e, uint32_t offset)
{
	static const uint16_t cs = REAL_TABLES >> 4;

	if (e->real)
		uc_reg_write(e->uc, UC_X86_REG_CS, &cs);
	run(e, tables_at(e) + offset);
}

static void put_flat_tables(uint8_t *t)
{
	static const uint64_t gdt[] = {0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF};
	static const uint32_t frame[] = {FLAT_TABLES + USER, CODE3, 0x202, DATA_MIDDLE, DATA3};
	static const uint8_t restore[] = {0x0F, 0xAE, 0x0D, 0, (FLAT_TABLES + FPU_IN) >> 8, 0, 0};
	static const uint8_t save[] = {0x0F, 0xAE, 0x05, 0, (FLAT_TABLES + FPU_OUT) >> 8, 0, 0};

	memcpy(t + GDT, gdt, sizeof(gdt));
	memcpy(t + FRAME, frame, sizeof(frame));
	t[ENTER] = 0xCF;
	memcpy(t + RESTORE, restore, sizeof(restore));
	memcpy(t + SAVE, save, sizeof(save));
}

static void put_real_tables(uint8_t *t)
{
	/* mov eax, CR4_SSE; mov cr4, eax: a write to the register from outside does not tell all of Unicorn. */
	static const uint8_t enter[] = {0x66, 0xB8, 0x00, CR4_SSE >> 8, 0x00, 0x00, 0x0F, 0x22, 0xE0};
	static const uint8_t restore[] = {0x2E, 0x0F, 0xAE, 0x0E, 0, FPU_IN >> 8};
	static const uint8_t save[] = {0x2E, 0x0F, 0xAE, 0x06, 0, FPU_OUT >> 8};

	memcpy(t + ENTER, enter, sizeof(enter));
	memcpy(t + RESTORE, restore, sizeof(restore));
	memcpy(t + SAVE, save, sizeof(save));
}

/* Only an IRET brings Unicorn to CPL 3: a write to SS is checked against the level that it is at. */
static bool enter_user(struct engine *e)
{
	uc_x86_mmr table = {.base = FLAT_TABLES + GDT, .limit = 47};
	uint32_t cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE, cr4 = CR4_SSE, esp = FLAT_TABLES + FRAME, cs;
	static const uint16_t selectors[] = {DATA3, CODE0, DATA0, DATA3, DATA3, DATA3};

	if (uc_reg_write(e->uc, UC_X86_REG_GDTR, &table) || uc_reg_write(e->uc, UC_X86_REG_CR0, &cr0) || uc_reg_write(e->uc, UC_X86_REG_CR4, &cr4))
		return false;
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) {
		if (uc_reg_write(e->uc, segment_ids[i], &selectors[i]))
			return false;
	}
	uc_reg_write(e->uc, UC_X86_REG_ESP, &esp);
	run_helper(e, ENTER);
	uc_reg_read(e->uc, UC_X86_REG_CS, &cs);
	return e->vector == 3 && (cs & 0xFFFF) == CODE3;
}

static bool enter_real(struct engine *e)
{
	uint32_t cr0 = CR0_ET | CR0_NE;

	if (uc_reg_write(e->uc, UC_X86_REG_CR0, &cr0))
		return false;
	run_helper(e, ENTER);
	return e->vector == 3;
}

static bool map(struct engine *e, uint32_t at, uint32_t size, uint32_t protection, uint8_t *memory)
{
	return !uc_mem_map_ptr(e->uc, at, size, protection, memory);
}

static bool open_engine(struct engine *e, bool zero_mapped)
{
	uc_hook hook;

	if (uc_open(UC_ARCH_X86, e->real ? UC_MODE_16 : UC_MODE_32, &e->uc) || uc_hook_add(e->uc, &hook, UC_HOOK_INTR, (void *)on_exception, e, 1, 0))
		return false;
	if (!map(e, tables_at(e), PAGE, UC_PROT_ALL, e->tables) || !map(e, CODE_BASE - low(e), CODE_SIZE, UC_PROT_READ | UC_PROT_EXEC, e->code) ||
	    !map(e, DATA_BASE - low(e), DATA_SIZE, UC_PROT_ALL, e->data))
		return false;
	if (e->real)
		return true;
	return map(e, EDGE_BASE, PAGE, UC_PROT_ALL, e->data) && (!zero_mapped || map(e, 0, PAGE, UC_PROT_ALL, e->data + PAGE));
}

static bool create_engine(struct engine *e, bool real, bool zero_mapped)
{
	e->real = real;
	e->tables = aligned_alloc(PAGE, PAGE);
	e->code = aligned_alloc(PAGE, CODE_SIZE);
	e->data = aligned_alloc(PAGE, DATA_SIZE);
	if (!e->tables || !e->code || !e->data)
		return false;
	memset(e->tables, 0xCC, PAGE);
	memset(e->code, 0xCC, CODE_SIZE);
	(real ? put_real_tables : put_flat_tables)(e->tables);
	return open_engine(e, zero_mapped) && (real ? enter_real : enter_user)(e) && !uc_context_alloc(e->uc, &e->fresh) && !uc_context_save(e->uc, e->fresh);
}

static void destroy_engine(struct engine *e)
{
	if (e->fresh)
		uc_context_free(e->fresh);
	if (e->uc)
		uc_close(e->uc);
	free(e->tables);
	free(e->code);
	free(e->data);
}

struct reference *reference_create(bool zero_mapped)
{
	struct reference *ref = calloc(1, sizeof(*ref));

	if (ref && create_engine(&ref->flat, false, zero_mapped) && create_engine(&ref->real, true, zero_mapped))
		return ref;
	reference_destroy(ref);
	return NULL;
}

void reference_destroy(struct reference *ref)
{
	if (!ref)
		return;
	destroy_engine(&ref->flat);
	destroy_engine(&ref->real);
	free(ref);
}

static void forget_code(struct engine *e, uint32_t offset)
{
	uint64_t at = CODE_BASE - low(e) + offset;

	uc_ctl_remove_cache(e->uc, at, at + CODE_MAX);
}

/* Unicorn keeps translations by address. */
static void put_code(struct engine *e, const struct diff_case *c)
{
	uint32_t offset = diff_segment(c->in.seg[CS])->base + c->in.eip - CODE_BASE;

	memset(e->code + e->last, 0xCC, CODE_MAX < CODE_SIZE - e->last ? CODE_MAX : CODE_SIZE - e->last);
	memcpy(e->code + offset, c->code, c->length);
	forget_code(e, e->last);
	forget_code(e, offset);
	e->last = offset;
}

static void put_state(struct engine *e, const struct diff_case *c)
{
	uint32_t eflags = c->in.eflags | 0x202;

	/* An exception that is not delivered makes the next one a double fault. */
	uc_context_restore(e->uc, e->fresh);
	memcpy(e->data, c->data, DATA_SIZE);
	if (c->fpu) {
		diff_pack(&c->in, e->tables + FPU_IN);
		run_helper(e, RESTORE);
	}
	for (unsigned i = 0; i < 8; i++) uc_reg_write(e->uc, gpr_ids[i], &c->in.gpr[i]);
	for (unsigned i = 0; i < DIFF_SEGMENTS && e->real; i++) uc_reg_write(e->uc, segment_ids[i], &c->in.seg[i]);
	uc_reg_write(e->uc, UC_X86_REG_EFLAGS, &eflags);
}

bool reference_run(struct reference *ref, const struct diff_case *c, struct diff_result *r)
{
	struct engine *e = c->kind == KIND_REAL ? &ref->real : &ref->flat;
	struct diff_state *s = &r->out;

	put_code(e, c);
	put_state(e, c);
	run(e, CODE_BASE - low(e) + e->last);
	s->vector = e->vector;
	s->error = 0;
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) uc_reg_read(e->uc, segment_ids[i], &s->seg[i]);
	for (unsigned i = 0; i < 8; i++) uc_reg_read(e->uc, gpr_ids[i], &s->gpr[i]);
	uc_reg_read(e->uc, UC_X86_REG_EIP, &s->eip);
	s->eip &= e->real ? 0xFFFF : ~0u;
	uc_reg_read(e->uc, UC_X86_REG_EFLAGS, &s->eflags);
	memcpy(r->data, e->data, DATA_SIZE);
	if (c->fpu) {
		run_helper(e, SAVE);
		diff_unpack(s, e->tables + FPU_OUT);
	}
	return s->vector != NO_VECTOR;
}
