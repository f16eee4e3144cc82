/* Unicorn as an engine: flat, at CPL 3, the pages of the case at the same linear addresses. */
#include "reference.h"

#include <stdlib.h>
#include <string.h>
#include <unicorn/unicorn.h>

#define PAGE 0x1000u
#define TABLES 0x1000u /* a page for what brings Unicorn to a state and out of it */
#define GDT 0x000u
#define FRAME 0x080u   /* for IRET */
#define FPU_IN 0x200u
#define FPU_OUT 0x400u
#define ENTER 0x800u   /* iret */
#define USER 0x810u    /* int3 */
#define RESTORE 0x820u /* fxrstor [FPU_IN]; int3 */
#define SAVE 0x830u    /* fxsave [FPU_OUT]; int3 */
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

struct reference {
	uc_engine *uc;
	uc_context *fresh; /* at CPL 3, no exception in flight */
	uint8_t *tables, *code, *data;
	uint32_t last; /* where the last case's code is */
	uint32_t vector;
};

static const int gpr_ids[] = {UC_X86_REG_EAX, UC_X86_REG_ECX, UC_X86_REG_EDX, UC_X86_REG_EBX,
			      UC_X86_REG_ESP, UC_X86_REG_EBP, UC_X86_REG_ESI, UC_X86_REG_EDI};

static void on_exception(uc_engine *uc, uint32_t vector, void *user)
{
	struct reference *ref = user;

	ref->vector = vector;
	uc_emu_stop(uc);
}

/* Until the first exception. */
static void run(struct reference *ref, uint32_t eip)
{
	ref->vector = NO_VECTOR;
	uc_err error = uc_emu_start(ref->uc, eip, NEVER, 0, 0);
	if (error == UC_ERR_INSN_INVALID)
		ref->vector = 6;
	else if (error != UC_ERR_OK && ref->vector == NO_VECTOR)
		ref->vector = 14;
}

static void put_tables(uint8_t *t)
{
	static const uint64_t gdt[] = {0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF};
	static const uint32_t frame[] = {TABLES + USER, CODE3, 0x202, DATA_MIDDLE, DATA3};
	static const uint8_t restore[] = {0x0F, 0xAE, 0x0D, 0, (TABLES + FPU_IN) >> 8, 0, 0};
	static const uint8_t save[] = {0x0F, 0xAE, 0x05, 0, (TABLES + FPU_OUT) >> 8, 0, 0};

	memset(t, 0xCC, PAGE);
	memcpy(t + GDT, gdt, sizeof(gdt));
	memcpy(t + FRAME, frame, sizeof(frame));
	t[ENTER] = 0xCF;
	memcpy(t + RESTORE, restore, sizeof(restore));
	memcpy(t + SAVE, save, sizeof(save));
}

/* Only an IRET brings Unicorn to CPL 3: a write to SS is checked against the level that it is at. */
static bool enter_user(struct reference *ref)
{
	uc_x86_mmr table = {.base = TABLES + GDT, .limit = 47};
	uint32_t cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE, cr4 = CR4_SSE, esp = TABLES + FRAME, cs;
	static const struct { int id; uint16_t selector; } segments[] = {
		{UC_X86_REG_CS, CODE0}, {UC_X86_REG_SS, DATA0}, {UC_X86_REG_DS, DATA3}, {UC_X86_REG_ES, DATA3}, {UC_X86_REG_FS, DATA3},
		{UC_X86_REG_GS, DATA3},
	};

	if (uc_reg_write(ref->uc, UC_X86_REG_GDTR, &table) || uc_reg_write(ref->uc, UC_X86_REG_CR0, &cr0) ||
	    uc_reg_write(ref->uc, UC_X86_REG_CR4, &cr4))
		return false;
	for (unsigned i = 0; i < sizeof(segments) / sizeof(*segments); i++) {
		if (uc_reg_write(ref->uc, segments[i].id, &segments[i].selector))
			return false;
	}
	uc_reg_write(ref->uc, UC_X86_REG_ESP, &esp);
	run(ref, TABLES + ENTER);
	uc_reg_read(ref->uc, UC_X86_REG_CS, &cs);
	return ref->vector == 3 && (cs & 0xFFFF) == CODE3;
}

static bool open_engine(struct reference *ref, bool zero_mapped)
{
	uc_hook hook;

	return !uc_open(UC_ARCH_X86, UC_MODE_32, &ref->uc) && !uc_mem_map_ptr(ref->uc, TABLES, PAGE, UC_PROT_ALL, ref->tables) &&
	       !uc_mem_map_ptr(ref->uc, CODE_BASE, CODE_SIZE, UC_PROT_READ | UC_PROT_EXEC, ref->code) &&
	       !uc_mem_map_ptr(ref->uc, DATA_BASE, DATA_SIZE, UC_PROT_ALL, ref->data) &&
	       !uc_mem_map_ptr(ref->uc, EDGE_BASE, PAGE, UC_PROT_ALL, ref->data) &&
	       (!zero_mapped || !uc_mem_map_ptr(ref->uc, 0, PAGE, UC_PROT_ALL, ref->data + PAGE)) &&
	       !uc_hook_add(ref->uc, &hook, UC_HOOK_INTR, (void *)on_exception, ref, 1, 0);
}

struct reference *reference_create(bool zero_mapped)
{
	struct reference *ref = calloc(1, sizeof(*ref));

	if (!ref)
		return NULL;
	ref->tables = aligned_alloc(PAGE, PAGE);
	ref->code = aligned_alloc(PAGE, CODE_SIZE);
	ref->data = aligned_alloc(PAGE, DATA_SIZE);
	ref->last = CODE_BASE;
	if (ref->tables && ref->code && ref->data) {
		put_tables(ref->tables);
		memset(ref->code, 0xCC, CODE_SIZE);
		if (open_engine(ref, zero_mapped) && enter_user(ref) && !uc_context_alloc(ref->uc, &ref->fresh) && !uc_context_save(ref->uc, ref->fresh))
			return ref;
	}
	reference_destroy(ref);
	return NULL;
}

void reference_destroy(struct reference *ref)
{
	if (!ref)
		return;
	if (ref->fresh)
		uc_context_free(ref->fresh);
	if (ref->uc)
		uc_close(ref->uc);
	free(ref->tables);
	free(ref->code);
	free(ref->data);
	free(ref);
}

/* Unicorn keeps translations by address. */
static void put_code(struct reference *ref, const struct diff_case *c)
{
	memset(ref->code + (ref->last - CODE_BASE), 0xCC, CODE_MAX);
	memcpy(ref->code + (c->in.eip - CODE_BASE), c->code, c->length);
	uc_ctl_remove_cache(ref->uc, (uint64_t)ref->last, (uint64_t)ref->last + CODE_MAX);
	uc_ctl_remove_cache(ref->uc, (uint64_t)c->in.eip, (uint64_t)c->in.eip + CODE_MAX);
	ref->last = c->in.eip;
}

static void put_state(struct reference *ref, const struct diff_case *c)
{
	uint32_t eflags = c->in.eflags | 0x202;

	/* An exception that is not delivered makes the next one a double fault. */
	uc_context_restore(ref->uc, ref->fresh);
	memcpy(ref->data, c->data, DATA_SIZE);
	if (c->fpu) {
		diff_pack(&c->in, ref->tables + FPU_IN);
		run(ref, TABLES + RESTORE);
	}
	for (unsigned i = 0; i < 8; i++) uc_reg_write(ref->uc, gpr_ids[i], &c->in.gpr[i]);
	uc_reg_write(ref->uc, UC_X86_REG_EFLAGS, &eflags);
}

bool reference_run(struct reference *ref, const struct diff_case *c, struct diff_result *r)
{
	struct diff_state *s = &r->out;

	put_code(ref, c);
	put_state(ref, c);
	run(ref, c->in.eip);
	s->vector = ref->vector;
	s->error = 0;
	memcpy(s->seg, c->in.seg, sizeof(s->seg));
	for (unsigned i = 0; i < 8; i++) uc_reg_read(ref->uc, gpr_ids[i], &s->gpr[i]);
	uc_reg_read(ref->uc, UC_X86_REG_EIP, &s->eip);
	uc_reg_read(ref->uc, UC_X86_REG_EFLAGS, &s->eflags);
	memcpy(r->data, ref->data, DATA_SIZE);
	if (c->fpu) {
		run(ref, TABLES + SAVE);
		diff_unpack(s, ref->tables + FPU_OUT);
	}
	return s->vector != NO_VECTOR;
}
