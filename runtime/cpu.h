/* What the processor does besides plain instructions: segments, gates, exceptions, interrupts, control registers, MSRs, CPUID.
 * Works on struct vcpu and guest memory; knows nothing of emitted code. Intel SDM vol. 3, chapters 2-6. */
#ifndef RUNTIME_CPU_H
#define RUNTIME_CPU_H

#include "base/callout.h"
#include "base/features.h"
#include "base/vcpu.h"

/* State after RESET as far as it is guest-visible (vol. 3, 9.1), in protected mode flat if `flat32` (what boot protocols want).
 * x87, MMX and MXCSR live in the host's registers and are the caller's. */
void cpu_reset(struct vcpu *v, bool flat32);

/* Recompute v->mode and v->cpl from the architectural state. Call after anything they depend on changes. The form of accesses (MODE_SOFT)
 * is the dispatcher's business and is left as it is. */
void cpu_update_mode(struct vcpu *v);

/* Deliver v->fault as an exception (restartable: v->eip is the faulting instruction), with double and triple faults. Returns false on a triple fault. */
bool cpu_deliver_fault(struct vcpu *v);
/* Ditto, but no #PF, and if it meets another exception or may not be quick, false: v->fault is void then, and nothing else has changed. */
bool cpu_try_fault(struct vcpu *v);
/* Deliver an external interrupt. Returns false on a triple fault. */
bool cpu_deliver_interrupt(struct vcpu *v, uint8_t vector);
/* Ditto a non-maskable one. Others are blocked until the next IRET. */
bool cpu_deliver_nmi(struct vcpu *v);
/* Deliver a #DB that is reported after its instruction: v->eip is the next one already; `dr6` says why (BS, B0-B3). Returns false on a
 * triple fault. */
bool cpu_deliver_debug_trap(struct vcpu *v, uint32_t dr6);

/* Raise: set v->fault. Return CALLOUT_FAULT, so that callouts can `return cpu_raise(...)`. */
enum callout_result cpu_raise(struct vcpu *v, uint8_t vector);
enum callout_result cpu_raise_error(struct vcpu *v, uint8_t vector, uint32_t error);

/* Linear address of [seg:ea], `size` bytes, with all segment checks; false with v->fault set. */
bool cpu_linear(struct vcpu *v, enum seg seg, uint32_t ea, uint32_t size, bool write, gva_t *gva);

/* May this port be accessed (CPL <= IOPL, or the TSS's permission bitmap allows it)? False with v->fault set. */
bool cpu_io_allowed(struct vcpu *v, uint16_t port, unsigned size);

/* CPUID: the one place that says what this processor is. Leaves in EAX/ECX of v, as the instruction. */
void cpu_cpuid(struct vcpu *v);
/* What v->features is where --cpu says nothing: of base/features.def what is to be shown and the host has. */
uint64_t cpu_features_default(void);
/* Change *features as a list such as "+smap,-pae" says. False with one sentence in `why`: an unknown name, or the host lacks it. */
bool cpu_features_parse(const char *list, uint64_t *features, char *why, size_t why_size);

/* debug_registers.c: does an instruction breakpoint stop the instruction at EIP (v->fault is set then)? Which breakpoints does an access to
 * data or to ports hit, as bits of DR6? Only while DR7 enables one. */
bool debug_instruction_hit(struct vcpu *v);
uint32_t debug_data_hits(const struct vcpu *v, gva_t gva, uint32_t size, bool write);
uint32_t debug_port_hits(const struct vcpu *v, uint16_t port, uint32_t size);

/* An unmasked x87 exception is about to be reported: note which instruction it was, before its translation goes away. */
void cpu_note_x87(struct vcpu *v);

/* Is an unmasked x87 exception pending? */
bool cpu_x87_pending(void);
/* What is pending is not, until it is shown again: for a waiting instruction that is to ignore it. */
void cpu_hide_x87(struct vcpu *v);
void cpu_show_x87(struct vcpu *v);

/* Hooks into the rest of the runtime, which owns the shadow and the devices. */
void runtime_apic_base_changed(struct vcpu *v);          /* apic_base was written */
void runtime_paging_changed(struct vcpu *v);             /* cr0, cr3, cr4, pdpte, efer were written */
/* Physical memory, as the processor itself reads it; what is no RAM reads as zero. */
void runtime_read_physical(struct vcpu *v, gpa_t gpa, void *to, uint32_t size);
uint64_t runtime_read_tsc(struct vcpu *v);
/* The EIP, and CS base, of the guest instruction whose translation is at this host PC (or one with this lower half); the linear address that the current view has this
 * host address for. False, with nothing set, if there is none (any more). */
bool runtime_guest_code(struct vcpu *v, host_pc_t pc, uint32_t *eip, uint32_t *base);
bool runtime_guest_data(struct vcpu *v, uint64_t hva, gva_t *gva);
/* A waiting x87 instruction met an unmasked exception while CR0.NE is clear. True: the processor stops before it. False: it is to
 * ignore the exception, which is hidden now. */
bool runtime_x87_error(struct vcpu *v);
uint32_t runtime_io_read(struct vcpu *v, uint16_t port, unsigned size);  /* size 1, 2, 4 */
void runtime_io_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t value);

/* All callouts, by enum callout_id. */
typedef enum callout_result callout_fn(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra);
#define CALLOUT(name, what) callout_fn callout_##name;
#include "base/callout.def"
#undef CALLOUT
extern callout_fn *const callout_table[CALLOUT_COUNT];

#endif
