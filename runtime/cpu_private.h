/* Shared by runtime/cpu_*.c and the system callouts: descriptors, stacks, control transfers. Every function that returns bool
 * returns false with v->fault set and no guest register changed. */
#ifndef RUNTIME_CPU_PRIVATE_H
#define RUNTIME_CPU_PRIVATE_H

#include "base/abi.h"
#include "runtime/cpu.h"
#include "runtime/memory.h"

/* A descriptor as it lies in its table. */
struct descriptor {
	uint32_t low, high;
};

/* Its access byte and flags, in the layout of struct segment's ar. */
static inline uint32_t descriptor_ar(struct descriptor d) { return d.high >> 8 & 0xF0FFu; }
static inline unsigned descriptor_dpl(struct descriptor d) { return d.high >> 13 & 3u; }
static inline bool descriptor_is_code(struct descriptor d) { return (descriptor_ar(d) & (AR_S | AR_CODE)) == (AR_S | AR_CODE); }
static inline bool descriptor_is_conforming(struct descriptor d) { return (descriptor_ar(d) & AR_CONFORMING) != 0; }
static inline bool descriptor_present(struct descriptor d) { return (d.high & 0x8000u) != 0; }

/* Types of system descriptors (vol. 3, table 3-2). */
enum system_type {
	SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL_GATE16 = 4, SYS_TASK_GATE = 5, SYS_INT_GATE16 = 6, SYS_TRAP_GATE16 = 7,
	SYS_TSS32 = 9, SYS_TSS32_BUSY = 11, SYS_CALL_GATE32 = 12, SYS_INT_GATE32 = 14, SYS_TRAP_GATE32 = 15,
};

/* The access rights of a flat 4 GiB segment, without DPL. */
#define AR_FLAT_CODE (AR_G | AR_DB | AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED)
#define AR_FLAT_DATA (AR_G | AR_DB | AR_P | AR_S | AR_WRITABLE | AR_ACCESSED)

#define SELECTOR_RPL 3u
static inline bool selector_is_null(uint16_t selector) { return (selector & ~SELECTOR_RPL) == 0; }
static inline bool cpu_protected(const struct vcpu *v) { return (v->cr0 & CR0_PE) && !(v->eflags & EFL_VM); }
static inline bool cpu_has(const struct vcpu *v, enum feature feature) { return v->features & FEATURE_BIT(feature); }

/* The bits of CR4 that may be set. */
uint32_t cpu_cr4_bits(const struct vcpu *v);

/* The flags that an image in memory may set, where all may be. */
#define CPU_LOADABLE_FLAGS \
	(EFL_ARITH | EFL_TF | EFL_IF | EFL_DF | EFL_IOPL | EFL_NT | EFL_RF | EFL_VM | EFL_AC | EFL_VIF | EFL_VIP | EFL_ID)
static inline unsigned cpu_iopl(const struct vcpu *v) { return (v->eflags & EFL_IOPL) >> EFL_IOPL_SHIFT; }

/* Virtual-8086 code below IOPL 3: CLI, STI, PUSHF, POPF, INT n and IRET are #GP(0). The virtual interrupt flag of VME is not built. */
static inline bool cpu_v86_forbids(const struct vcpu *v) { return (v->eflags & EFL_VM) && cpu_iopl(v) != 3; }
/* Load CR3 as MOV does: with PAE paging, the four PDPTEs come with it, and a reserved bit in a present one is #GP(0). */
bool cpu_load_cr3(struct vcpu *v, uint32_t value);
/* SGDT, SIDT, SLDT, SMSW and STR under CR4.UMIP: false with #GP(0) set. */
bool cpu_umip_allows(struct vcpu *v);

/* cpu_raise_error for functions that return bool. */
bool cpu_fail(struct vcpu *v, uint8_t vector, uint32_t error);

/* A quick callout ends here, to be begun anew (quick.c). */
static inline bool cpu_may_be_slow(struct vcpu *v)
{
	if (v->quick) v->fault = (struct guest_fault){ .vector = 0xFF };
	return !v->quick;
}

/* How emitted code may access this segment: a MODE_SEG_ value; `cs` for the code segment register. */
unsigned cpu_segment_class(const struct segment *s, bool cs);
/* Put a segment into its register and its class into v->mode. SS and CS need cpu_update_mode() where CPL or D/B may change. */
void cpu_set_segment(struct vcpu *v, enum seg seg, const struct segment *s);

/* Are `size` bytes at `offset` within the limit (vol. 3, 5.3)? */
bool cpu_within_limit(const struct segment *s, uint32_t offset, uint32_t size);

/* Read a descriptor; outside its table is vector(selector | ext). `ext` is the error code's EXT bit, here and below. */
bool cpu_read_descriptor(struct vcpu *v, uint16_t selector, struct descriptor *d, uint8_t vector, uint32_t ext);
void cpu_parse_descriptor(struct segment *s, uint16_t selector, struct descriptor d);
/* Set the accessed bit, here and in the descriptor, unless it is set. */
bool cpu_mark_accessed(struct vcpu *v, struct segment *s);

/* What a load of DS, ES, FS or GS would leave in the register (vol. 2, MOV); violations are vector(selector | ext). The descriptor is not
 * marked as accessed yet, here and below. */
bool cpu_check_data(struct vcpu *v, uint16_t selector, uint8_t vector, uint32_t ext, struct segment *out);
/* Ditto for SS at privilege `cpl`. */
bool cpu_check_stack(struct vcpu *v, uint16_t selector, unsigned cpl, uint8_t vector, uint32_t ext, struct segment *out);
/* Every load of CS, the privilege checks being done: is it present? `cpl` becomes the RPL. What a transfer checks of stacks comes next... */
bool cpu_check_code(struct vcpu *v, uint16_t selector, struct descriptor d, unsigned cpl, uint32_t ext, struct segment *out);
/* ...and this last: `eip` within the limit; accessed. */
bool cpu_enter_code(struct vcpu *v, struct segment *cs, uint32_t eip, uint32_t ext);
/* Load a segment register as MOV does in the current mode; not CS. */
bool cpu_load_segment(struct vcpu *v, enum seg seg, uint16_t selector);
/* Real-address mode: base from selector, the rest stays. */
void cpu_load_real(struct vcpu *v, enum seg seg, uint16_t selector);
/* Virtual-8086 mode: 64 KiB at the selector's address, whatever was there before. */
void cpu_load_v86(struct vcpu *v, enum seg seg, uint16_t selector);

/* A stack pointer moved by `delta`, wrapping as SS.B says. */
static inline uint32_t cpu_stack_add(const struct segment *ss, uint32_t esp, uint32_t delta)
{
	if (ss->ar & AR_DB) return esp + delta;
	return (esp & 0xFFFF0000u) | ((esp + delta) & 0xFFFFu);
}
/* Is there room for `count` words of 1 << size bytes within the limit? If not it is #SS(error). */
bool cpu_stack_room(struct vcpu *v, const struct segment *ss, uint32_t esp, unsigned count, unsigned size, uint32_t error);
/* Push them where there is room, all or nothing; on success *esp is the new stack pointer. */
bool cpu_push_frame(struct vcpu *v, const struct segment *ss, uint32_t *esp, const uint32_t *words, unsigned count, unsigned size,
	unsigned access);
/* Both. */
bool cpu_push(struct vcpu *v, const struct segment *ss, uint32_t *esp, const uint32_t *words, unsigned count, unsigned size,
	unsigned access, uint32_t error);
/* How a frame is pushed for level `cpl`: by the processor itself where the level changes from 3, otherwise as by PUSH, under SMAP with EFLAGS.AC
 * as it is (vol. 3, 4.6.1; vol. 2, INT n: CPL changes behind the pushes). */
static inline unsigned cpu_frame_access(const struct vcpu *v, unsigned cpl) { return v->cpl == 3 && cpl != 3 ? 0 : memory_user(v); }
/* Read `count` words of 1 << size bytes from the current stack, `skip` bytes above its top. */
bool cpu_read_stack(struct vcpu *v, uint32_t skip, uint32_t *words, unsigned count, unsigned size);
/* The stack that the TSS holds for this privilege. */
bool cpu_inner_stack(struct vcpu *v, unsigned cpl, uint32_t ext, struct segment *ss, uint32_t *esp);
#define CPU_PUSH_MAX 40u

/* INT n, INT3, INTO: through the gate, to come back at return_eip. INT1 is `exempt` from the gate's DPL. */
bool cpu_software_interrupt(struct vcpu *v, uint8_t vector, uint32_t return_eip, bool exempt);

/* Far transfers; size is log2 of the operand size. On success everything, EIP included, is as at the target. */
bool cpu_far_jump(struct vcpu *v, uint16_t selector, uint32_t offset, uint32_t next_eip);
bool cpu_far_call(struct vcpu *v, uint16_t selector, uint32_t offset, unsigned size, uint32_t return_eip);
bool cpu_far_return(struct vcpu *v, unsigned size, uint32_t release);
bool cpu_interrupt_return(struct vcpu *v, unsigned size, uint32_t next_eip);

/* A task switch. TASK_NEST is CALL's and an event's: the old task stays busy and is linked back to. */
enum task_switch_kind { TASK_JUMP, TASK_NEST, TASK_RETURN };
struct task_switch {
	enum task_switch_kind kind;
	uint16_t selector; /* of the TSS; the caller has checked privileges */
	uint32_t next_eip; /* where the old task will go on */
	uint32_t flags;    /* EFLAGS as the old task is saved with */
	uint32_t ext;
	bool has_error;    /* an exception's error code goes to the new stack */
	uint32_t error;
};
/* False with v->fault set: nothing has changed, or the fault is the new task's, which is the current one then. */
bool cpu_task_switch(struct vcpu *v, const struct task_switch *how);
bool cpu_task_return(struct vcpu *v, uint32_t next_eip);

/* Operands of callouts. */
bool cpu_read_operand(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t size, uint32_t *value);
bool cpu_write_memory(struct vcpu *v, uint32_t arg, uint32_t ea, const void *from, uint32_t size);
bool cpu_read_memory(struct vcpu *v, uint32_t arg, uint32_t ea, void *to, uint32_t size);
/* #AC for an address that an operand of this alignment (a power of two) may not have. */
bool cpu_check_alignment(struct vcpu *v, gva_t gva, uint32_t alignment);
void cpu_write_gpr(struct vcpu *v, unsigned reg, uint32_t value, unsigned size);

/* Data breakpoints on an access of a callout; the trap comes behind the instruction, if that does not fault. */
static inline void cpu_watch(struct vcpu *v, gva_t gva, uint32_t size, bool write)
{
	if (v->mode & MODE_DR7) v->debug_hits |= debug_data_hits(v, gva, size, write);
}
static inline void cpu_watch_port(struct vcpu *v, uint16_t port, uint32_t size)
{
	if (v->mode & MODE_DR7) v->debug_hits |= debug_port_hits(v, port, size);
}

static inline uint64_t cpu_read_tsc(struct vcpu *v) { return runtime_read_tsc(v) + v->tsc_offset; }
static inline void cpu_set_zf(struct vcpu *v, bool zf) { v->flags = (v->flags & ~EFL_ZF) | (zf ? EFL_ZF : 0); }
static inline uint32_t cpu_next_eip(const struct vcpu *v, uint32_t arg) { return v->eip + CALLOUT_LEN(arg); }

/* The end of a callout that may have changed the mode: emitted code may go on only in the mode it was made for. */
static inline enum callout_result cpu_finish(struct vcpu *v, uint32_t arg, uint32_t mode_before)
{
	if (v->mode == mode_before) return CALLOUT_NEXT;
	v->eip = cpu_next_eip(v, arg);
	return CALLOUT_LEAVE;
}

#endif
