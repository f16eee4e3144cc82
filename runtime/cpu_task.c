/* Hardware task switches (Intel SDM vol. 3, ch. 7): JMP, CALL, IRET, exceptions and interrupts that lead to a TSS. Until commit() whatever is
 * wrong is a fault of the old task, which has not changed; from there on it is one of the new task, before its first instruction. */
#include <string.h>

#include "base/abi.h"
#include "runtime/cpu_private.h"

#define DR6_BT 0x8000u
#define DR7_LOCAL 0x155u /* L0-L3 and LE: a switch clears them (vol. 3, 17.2.4) */
#define TSS_BUSY 2u
#define TSS_CR3 0x1Cu
#define TSS_TRAP 0x64u
#define TSS32_BYTES 0x68u
#define TSS16_BYTES 0x2Cu
#define TSS_LINK_BYTES 2u

/* A task's state lies as words in a row: EIP, EFLAGS, eight registers, the selectors (FS and GS are not in a 16-bit TSS), LDT. */
enum { WORD_EIP, WORD_EFLAGS, WORD_GPR, WORD_SELECTORS = WORD_GPR + 8 };

struct tss {
	struct segment s;
	unsigned size; /* log2 of a word */
	uint32_t bytes, state;
	unsigned selectors;
};

struct task_state {
	uint32_t eip, eflags, gpr[8], cr3;
	uint16_t selector[SEG_COUNT], ldt;
	bool trap;
};

static struct tss tss_of(const struct segment *s)
{
	bool wide = (s->ar & AR_TYPE & ~TSS_BUSY) == SYS_TSS32;
	return (struct tss){ .s = *s, .size = wide ? 2 : 1, .bytes = wide ? TSS32_BYTES : TSS16_BYTES, .state = wide ? 0x20 : 0x0E,
			     .selectors = wide ? SEG_COUNT : 4 };
}

static uint32_t state_bytes(const struct tss *t)
{
	return (WORD_SELECTORS + t->selectors) << t->size;
}

/* The TSS to switch to: in the GDT, of the right type, present, large enough. */
static bool find_task(struct vcpu *v, const struct task_switch *how, struct tss *to)
{
	struct descriptor d;
	bool back = how->kind == TASK_RETURN;
	uint8_t vector = back ? VEC_TS : VEC_GP;
	uint32_t error = (how->selector & ~SELECTOR_RPL) | how->ext;
	if (selector_is_null(how->selector) || (how->selector & 4)) return cpu_fail(v, vector, error);
	if (!cpu_read_descriptor(v, how->selector, &d, vector, how->ext)) return false;
	unsigned type = descriptor_ar(d) & (AR_TYPE | AR_S);
	bool right = back ? type == SYS_TSS16_BUSY || type == SYS_TSS32_BUSY : type == SYS_TSS16 || type == SYS_TSS32;
	if (!right) return cpu_fail(v, vector, error);
	if (!descriptor_present(d)) return cpu_fail(v, VEC_NP, error);
	struct segment s;
	cpu_parse_descriptor(&s, how->selector, d);
	*to = tss_of(&s);
	return s.limit >= to->bytes - 1 || cpu_fail(v, VEC_TS, error);
}

static gva_t access_byte(const struct vcpu *v, uint16_t selector)
{
	return v->gdtr.base + (selector & ~7u) + 5;
}

/* Everything that the switch will touch before the new task's own descriptors is there (vol. 3, 7.3, step 5). */
static bool check_memory(struct vcpu *v, const struct task_switch *how, const struct tss *from, const struct tss *to)
{
	uint8_t image[TSS32_BYTES];
	if (from->s.limit < from->bytes - 1) return cpu_fail(v, VEC_TS, (from->s.selector & ~SELECTOR_RPL) | how->ext);
	if (!memory_read(v, to->s.base, image, to->bytes, ACCESS_READ)) return false;
	if (!memory_probe_write(v, from->s.base + from->state, state_bytes(from), ACCESS_WRITE)) return false;
	if (how->kind == TASK_NEST && !memory_probe_write(v, to->s.base, TSS_LINK_BYTES, ACCESS_WRITE)) return false;
	if (how->kind != TASK_RETURN && !memory_probe_write(v, access_byte(v, how->selector), 1, ACCESS_WRITE)) return false;
	return how->kind == TASK_NEST || memory_probe_write(v, access_byte(v, from->s.selector), 1, ACCESS_WRITE);
}

static bool set_busy(struct vcpu *v, uint16_t selector, bool busy)
{
	uint8_t byte;
	gva_t at = access_byte(v, selector);
	if (!memory_read8(v, at, &byte, ACCESS_READ)) return false;
	byte = (uint8_t)(busy ? byte | TSS_BUSY : byte & ~TSS_BUSY);
	return memory_write(v, at, &byte, 1, ACCESS_WRITE);
}

static void put_word(const struct tss *t, uint8_t *state, unsigned i, uint32_t value)
{
	/* The upper half of a selector's word is reserved and stays. */
	memcpy(state + ((size_t)i << t->size), &value, i >= WORD_SELECTORS ? 2 : 1u << t->size);
}

static bool save_state(struct vcpu *v, const struct task_switch *how, const struct tss *from)
{
	uint8_t state[TSS32_BYTES];
	gva_t at = from->s.base + from->state;
	if (!memory_read(v, at, state, state_bytes(from), ACCESS_READ)) return false;
	put_word(from, state, WORD_EIP, how->next_eip);
	put_word(from, state, WORD_EFLAGS, how->kind == TASK_RETURN ? how->flags & ~EFL_NT : how->flags);
	for (unsigned i = 0; i < 8; i++) put_word(from, state, WORD_GPR + i, v->gpr[i]);
	for (unsigned i = 0; i < from->selectors; i++) put_word(from, state, WORD_SELECTORS + i, v->seg[i].selector);
	return memory_write(v, at, state, state_bytes(from), ACCESS_WRITE);
}

static uint32_t get_word(const struct tss *t, const uint8_t *image, unsigned i)
{
	uint32_t value = 0;
	memcpy(&value, image + t->state + ((size_t)i << t->size), 1u << t->size);
	return value;
}

static bool read_state(struct vcpu *v, const struct tss *to, struct task_state *state)
{
	uint8_t image[TSS32_BYTES];
	*state = (struct task_state){ .cr3 = v->cr3 };
	if (!memory_read(v, to->s.base, image, to->bytes, ACCESS_READ)) return false;
	state->eip = get_word(to, image, WORD_EIP);
	state->eflags = get_word(to, image, WORD_EFLAGS);
	for (unsigned i = 0; i < 8; i++) state->gpr[i] = get_word(to, image, WORD_GPR + i);
	for (unsigned i = 0; i < to->selectors; i++) state->selector[i] = (uint16_t)get_word(to, image, WORD_SELECTORS + i);
	state->ldt = (uint16_t)get_word(to, image, WORD_SELECTORS + to->selectors);
	if (to->size == 2) {
		memcpy(&state->cr3, image + TSS_CR3, 4);
		state->trap = image[TSS_TRAP] & 1;
	}
	return true;
}

/* Steps 6 to 11: the old task is put away, the task register is the new one's. */
static bool commit(struct vcpu *v, const struct task_switch *how, const struct tss *from, const struct tss *to, struct task_state *state)
{
	uint16_t link = from->s.selector;
	if (how->kind != TASK_NEST && !set_busy(v, link, false)) return false;
	if (!save_state(v, how, from)) return false;
	if (how->kind == TASK_NEST && !memory_write16(v, to->s.base, link, ACCESS_WRITE)) return false;
	if (how->kind != TASK_RETURN && !set_busy(v, how->selector, true)) return false;
	if (!read_state(v, to, state)) return false;
	if (how->kind == TASK_NEST) state->eflags |= EFL_NT;
	v->tr = to->s;
	v->tr.ar |= TSS_BUSY;
	v->stats->task_switches++;
	return true;
}

/* Step 12. False with a fault set in the new task if CR3 leads to bad PDPTEs. Segments are named but not loaded yet: what uses one before that
 * faults. CPL is known all the same. */
static bool load_registers(struct vcpu *v, const struct task_state *state)
{
	bool good = true;
	unsigned cpl = state->eflags & EFL_VM ? 3 : state->selector[SEG_CS] & SELECTOR_RPL;
	v->cr0 |= CR0_TS;
	v->dr[7] &= ~DR7_LOCAL;
	if ((v->cr0 & CR0_PG) && state->cr3 != v->cr3) good = cpu_load_cr3(v, state->cr3); /* only then (vol. 3, 4.4.1) */
	memcpy(v->gpr, state->gpr, sizeof(v->gpr));
	v->eip = state->eip;
	vcpu_set_eflags(v, state->eflags, CPU_LOADABLE_FLAGS);
	vcpu_forget_crossings(v);
	v->ldtr = (struct segment){ .selector = state->ldt, .ar = AR_UNUSABLE };
	for (unsigned i = 0; i < SEG_COUNT; i++)
		v->seg[i] = (struct segment){ .selector = state->selector[i], .ar = AR_UNUSABLE | cpl << AR_DPL_SHIFT };
	cpu_update_mode(v);
	return good;
}

static bool load_ldt(struct vcpu *v, uint16_t selector, uint32_t ext)
{
	struct descriptor d;
	uint32_t error = (selector & ~SELECTOR_RPL) | ext;
	if (selector_is_null(selector)) return true;
	if (selector & 4) return cpu_fail(v, VEC_TS, error);
	if (!cpu_read_descriptor(v, selector, &d, VEC_TS, ext)) return false;
	if ((descriptor_ar(d) & (AR_TYPE | AR_S | AR_P)) != (SYS_LDT | AR_P)) return cpu_fail(v, VEC_TS, error);
	cpu_parse_descriptor(&v->ldtr, selector, d);
	return true;
}

static bool load_code(struct vcpu *v, uint16_t selector, uint32_t ext)
{
	struct descriptor d;
	struct segment s;
	unsigned rpl = selector & SELECTOR_RPL;
	uint32_t error = (selector & ~SELECTOR_RPL) | ext;
	if (selector_is_null(selector)) return cpu_fail(v, VEC_TS, ext);
	if (!cpu_read_descriptor(v, selector, &d, VEC_TS, ext)) return false;
	bool dpl_ok = descriptor_is_conforming(d) ? descriptor_dpl(d) <= rpl : descriptor_dpl(d) == rpl;
	if (!descriptor_is_code(d) || !dpl_ok) return cpu_fail(v, VEC_TS, error);
	if (!cpu_check_code(v, selector, d, rpl, ext, &s) || !cpu_mark_accessed(v, &s)) return false;
	v->seg[SEG_CS] = s;
	return true;
}

static bool load_stack(struct vcpu *v, uint16_t selector, uint32_t ext)
{
	struct segment s;
	if (!cpu_check_stack(v, selector, v->cpl, VEC_TS, ext, &s) || !cpu_mark_accessed(v, &s)) return false;
	v->seg[SEG_SS] = s;
	return true;
}

static bool load_data(struct vcpu *v, enum seg seg, uint16_t selector, uint32_t ext)
{
	struct segment s;
	if (!cpu_check_data(v, selector, VEC_TS, ext, &s) || !cpu_mark_accessed(v, &s)) return false;
	v->seg[seg] = s;
	return true;
}

/* Step 13 (table 7-1), in the new task. */
static bool load_segments(struct vcpu *v, const struct task_state *state, uint32_t ext)
{
	const uint16_t *selector = state->selector;
	if (!load_ldt(v, state->ldt, ext)) return false;
	if (v->eflags & EFL_VM) {
		for (unsigned i = 0; i < SEG_COUNT; i++) cpu_load_v86(v, (enum seg)i, selector[i]);
		return true;
	}
	return load_code(v, selector[SEG_CS], ext) && load_stack(v, selector[SEG_SS], ext) && load_data(v, SEG_ES, selector[SEG_ES], ext) &&
	       load_data(v, SEG_DS, selector[SEG_DS], ext) && load_data(v, SEG_FS, selector[SEG_FS], ext) &&
	       load_data(v, SEG_GS, selector[SEG_GS], ext);
}

/* An exception's error code goes to the new task's stack, in the width of its TSS. */
static bool push_error(struct vcpu *v, const struct task_switch *how, unsigned size)
{
	uint32_t esp = v->gpr[ESP];
	if (!how->has_error) return true;
	if (!cpu_push(v, &v->seg[SEG_SS], &esp, &how->error, 1, size, memory_user(v), how->ext)) return false;
	v->gpr[ESP] = esp;
	return true;
}

bool cpu_task_switch(struct vcpu *v, const struct task_switch *how)
{
	struct tss from = tss_of(&v->tr), to = { 0 };
	struct task_state state;
	if (!cpu_may_be_slow(v)) return false;
	if (!find_task(v, how, &to) || !check_memory(v, how, &from, &to)) return false;
	if (!commit(v, how, &from, &to, &state)) return false;
	bool loaded = load_registers(v, &state) && load_segments(v, &state, how->ext);
	cpu_update_mode(v);
	if (!loaded || !push_error(v, how, to.size)) return false;
	if (v->eip > v->seg[SEG_CS].limit) return cpu_fail(v, VEC_GP, how->ext);
	if (state.trap) v->debug_hits |= DR6_BT;
	return true;
}

/* IRET with NT set: to the task whose selector the TSS holds as its back link. */
bool cpu_task_return(struct vcpu *v, uint32_t next_eip)
{
	uint16_t link;
	if (v->tr.limit < TSS_LINK_BYTES - 1) return cpu_fail(v, VEC_TS, v->tr.selector & ~SELECTOR_RPL);
	if (!memory_read16(v, v->tr.base, &link, ACCESS_READ)) return false;
	struct task_switch how = { .kind = TASK_RETURN, .selector = link, .next_eip = next_eip, .flags = vcpu_eflags(v) };
	return cpu_task_switch(v, &how);
}
