/* bt-vmm in real mode, without paging. The handlers of all vectors are in a segment of their own; exceptions leave their frame on the case's stack. */
#include "monitor_private.h"

#define SEGMENT 0x9000u /* out of reach of the cases' segments */
#define VECTOR_TABLE 0xA00u
#define REAL_IN 0x400u
#define REAL_OUT 0x600u
#define REAL_ENTRY 0x800u
#define TARGET 0x810u
#define STUB_SIZE 16u
#define FRAME_SIZE 6u

static uint8_t *real_memory(const struct monitor *m)
{
	return m->ram + SEGMENT * 16;
}

void monitor_real_put_code(struct monitor *m)
{
	/* cs: fxsave [REAL_OUT]; out 0xF4, al; jmp . */
	static const uint8_t stub[] = {0x2E, 0x0F, 0xAE, 0x06, REAL_OUT & 0xFF, REAL_OUT >> 8, 0xE6, 0xF4, 0xEB, 0xFE};
	/* cs: fxrstor [REAL_IN]; cs: jmp far [TARGET] */
	static const uint8_t entry[] = {0x2E, 0x0F, 0xAE, 0x0E, REAL_IN & 0xFF, REAL_IN >> 8, 0x2E, 0xFF, 0x2E, TARGET & 0xFF, TARGET >> 8};
	uint8_t *at = real_memory(m);

	for (uint32_t i = 0; i < VECTORS; i++) {
		memcpy(at + STUB_SIZE * i, stub, sizeof(stub));
		put32(at, VECTOR_TABLE + 4 * i, SEGMENT << 16 | STUB_SIZE * i);
	}
	memcpy(at + REAL_ENTRY, entry, sizeof(entry));
}

/* By a few instructions that load the FPU and jump to the case. */
static void enter_through_stub(struct monitor *m, const struct diff_case *c)
{
	diff_pack(&c->in, real_memory(m) + REAL_IN);
	put32(real_memory(m), TARGET, (uint32_t)c->in.seg[SEG_CS] << 16 | c->in.eip);
	m->v->seg[SEG_CS] = monitor_low_segment(SEGMENT, 0);
	m->v->eip = REAL_ENTRY;
}

void monitor_real_put_state(struct monitor *m, const struct diff_case *c)
{
	struct vcpu *v = m->v;

	cpu_reset(v, false);
	for (unsigned i = 0; i < SEG_COUNT; i++) v->seg[i] = monitor_low_segment(c->in.seg[i], 0);
	v->idtr = (struct table_register){.base = SEGMENT * 16 + VECTOR_TABLE, .limit = 4 * VECTORS - 1};
	v->cr0 = (v->cr0 & ~(CR0_CD | CR0_NW)) | CR0_NE;
	v->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	memcpy(v->gpr, c->in.gpr, sizeof(v->gpr));
	v->eip = c->in.eip;
	vcpu_set_eflags(v, c->in.eflags | EFL_IF, ~0u);
	if (c->fpu)
		enter_through_stub(m, c);
}

bool monitor_real_at_stub(const struct vcpu *v)
{
	return v->seg[SEG_CS].base == SEGMENT * 16 && v->eip < STUB_SIZE * VECTORS && !(v->cr0 & CR0_PE);
}

/* A word of the frame, which may wrap in the stack's segment. */
static uint16_t frame_word(const struct monitor *m, uint32_t i)
{
	uint32_t at = m->v->seg[SEG_SS].base + ((m->v->gpr[ESP] + 2 * i) & 0xFFFF);

	return get16(m->ram, at);
}

void monitor_real_take_state(struct monitor *m, struct diff_result *r)
{
	const struct vcpu *v = m->v;
	struct diff_state *s = &r->out;

	s->vector = v->eip / STUB_SIZE;
	s->error = s->cr2 = 0;
	memcpy(s->gpr, v->gpr, sizeof(s->gpr));
	for (unsigned i = 0; i < SEG_COUNT; i++) s->seg[i] = v->seg[i].selector;
	s->eip = frame_word(m, 0);
	s->seg[SEG_CS] = frame_word(m, 1);
	s->eflags = frame_word(m, 2) | (vcpu_eflags(v) & 0xFFFF0000);
	s->gpr[ESP] = (v->gpr[ESP] & 0xFFFF0000) | ((v->gpr[ESP] + FRAME_SIZE) & 0xFFFF);
	diff_unpack(s, real_memory(m) + REAL_OUT);
	memcpy(r->data, m->ram + DATA_FRAME, DATA_SIZE);
}

void monitor_real_take_shutdown(struct monitor *m, struct diff_result *r)
{
	memset(&r->out, 0, sizeof(r->out));
	r->out.vector = VEC_DF;
	r->out.eip = m->v->eip;
	memcpy(r->data, m->ram + DATA_FRAME, DATA_SIZE);
}
