/* The mode word, and raising exceptions. */
#include "base/abi.h"
#include "runtime/cpu_private.h"

#define AR_DATA_MASK (AR_UNUSABLE | AR_S | AR_CODE | AR_EXPAND_DOWN | AR_WRITABLE)

/* What makes a segment general, as bits that are zero otherwise. */
static inline uint32_t data_obstacles(const struct segment *s)
{
	return (s->ar & AR_DATA_MASK) ^ (AR_S | AR_WRITABLE);
}

/* An execute-only CS is general, so that reads through it are checked. */
static inline uint32_t code_obstacles(const struct segment *s)
{
	return ~s->ar & AR_READABLE;
}

/* Without branches: MODE_SEG_GENERAL, else MODE_SEG_LIMIT, MODE_SEG_BASE or MODE_SEG_FLAT. */
static inline uint32_t class_of(uint32_t obstacles, const struct segment *s)
{
	uint32_t general = obstacles != 0, limited = ~s->limit != 0;
	return (general | limited) << 1 | (((s->base != 0) | limited) & (general ^ 1));
}

unsigned cpu_segment_class(const struct segment *s, bool cs)
{
	return class_of(cs ? code_obstacles(s) : data_obstacles(s), s);
}

static inline uint32_t data_bits(const struct segment *seg, enum seg i)
{
	return class_of(data_obstacles(&seg[i]), &seg[i]) << (MODE_SEG_SHIFT + 2 * i);
}

static inline uint32_t segment_bits(const struct segment *seg)
{
	uint32_t code = class_of(code_obstacles(&seg[SEG_CS]), &seg[SEG_CS]) << (MODE_SEG_SHIFT + 2 * SEG_CS);
	return code | data_bits(seg, SEG_ES) | data_bits(seg, SEG_SS) | data_bits(seg, SEG_DS) | data_bits(seg, SEG_FS) | data_bits(seg, SEG_GS);
}

/* Move a bit of a register to its place in the mode word. */
static inline uint32_t bit_if(uint32_t set, uint32_t bit)
{
	return set ? bit : 0;
}

static inline uint32_t fpu_bits(uint32_t cr0, uint32_t cr4)
{
	uint32_t bits = bit_if(cr0 & CR0_EM, MODE_FPU_NM | MODE_MMX_UD | MODE_SSE_UD) | bit_if(cr0 & CR0_TS, MODE_FPU_NM);
	bits |= bit_if((cr0 & (CR0_TS | CR0_MP)) == (CR0_TS | CR0_MP), MODE_FPU_WAIT_NM);
	return bits | bit_if(!(cr4 & CR4_OSFXSR), MODE_SSE_UD);
}

static inline unsigned current_cpl(const struct vcpu *v)
{
	if (!(v->cr0 & CR0_PE)) return 0;
	if (v->eflags & EFL_VM) return 3;
	/* SS's and not CS's: between MOV CR0 and the far jump after it, CS still holds a real-mode selector. */
	return (v->seg[SEG_SS].ar & AR_DPL) >> AR_DPL_SHIFT;
}

void cpu_update_mode(struct vcpu *v)
{
	unsigned cpl = current_cpl(v);
	uint32_t eflags = v->eflags;
	uint32_t mode = (v->mode & MODE_SOFT) | cpl | segment_bits(v->seg) | fpu_bits(v->cr0, v->cr4);
	mode |= bit_if(v->seg[SEG_CS].ar & AR_DB, MODE_CS32) | bit_if(v->seg[SEG_SS].ar & AR_DB, MODE_SS32);
	mode |= bit_if(v->cr0 & CR0_PE, MODE_PE) | bit_if(eflags & EFL_VM, MODE_VM) | bit_if(eflags & EFL_TF, MODE_TF);
	mode |= bit_if(cpl <= cpu_iopl(v), MODE_IOPL_OK);
	mode |= bit_if(cpl == 3 && (eflags & EFL_AC) && (v->cr0 & CR0_AM), MODE_AC);
	mode |= bit_if((cpl != 0 && (v->cr4 & CR4_TSD)) || v->tsc_offset, MODE_TSD) | bit_if(v->dr[7] & 0xFFu, MODE_DR7);
	v->mode = mode;
	v->cpl = (uint8_t)cpl;
}

enum callout_result cpu_raise(struct vcpu *v, uint8_t vector)
{
	v->fault = (struct guest_fault){ .vector = vector };
	return CALLOUT_FAULT;
}

enum callout_result cpu_raise_error(struct vcpu *v, uint8_t vector, uint32_t error)
{
	v->fault = (struct guest_fault){ .vector = vector, .has_error = true, .error = error };
	return CALLOUT_FAULT;
}

bool cpu_fail(struct vcpu *v, uint8_t vector, uint32_t error)
{
	cpu_raise_error(v, vector, error);
	return false;
}
