/* Guest memory as C sees it: linear addresses of the current address space, with faults as data, MMIO and traces handled. */
#ifndef RUNTIME_MEMORY_H
#define RUNTIME_MEMORY_H

#include "base/vcpu.h"

/* Copy `size` bytes from or to linear memory. `access` is ACCESS_READ / ACCESS_WRITE, or-ed with ACCESS_USER for the rights of CPL 3 (memory_access(v) gives
 * the current CPL's; descriptor-table and TSS accesses are always supervisor). Page crossings are checked whole before anything is written. On a true fault returns false with
 * v->fault set to #PF. */
bool memory_read(struct vcpu *v, gva_t gva, void *to, uint32_t size, unsigned access);
bool memory_write(struct vcpu *v, gva_t gva, const void *from, uint32_t size, unsigned access);
/* Check that a write of `size` bytes would succeed, without writing. */
bool memory_probe_write(struct vcpu *v, gva_t gva, uint32_t size, unsigned access);

/* Host address of guest memory for chunked string work: at most to the end of gva's page. Returns NULL with v->fault set on a true fault; NULL with fault.vector 0xFF if the page is not
 * plain RAM for this access (MMIO, traced write): use memory_read / memory_write then. */
uint8_t *memory_page(struct vcpu *v, gva_t gva, unsigned access);

/* What the instruction's own accesses are or-ed with. */
static inline unsigned memory_user(const struct vcpu *v) { return v->cpl == 3 ? ACCESS_USER : v->eflags & EFL_AC ? ACCESS_AC : 0; }

static inline bool memory_read8(struct vcpu *v, gva_t a, uint8_t *x, unsigned access) { return memory_read(v, a, x, 1, access); }
static inline bool memory_read16(struct vcpu *v, gva_t a, uint16_t *x, unsigned access) { return memory_read(v, a, x, 2, access); }
static inline bool memory_read32(struct vcpu *v, gva_t a, uint32_t *x, unsigned access) { return memory_read(v, a, x, 4, access); }
static inline bool memory_write16(struct vcpu *v, gva_t a, uint16_t x, unsigned access) { return memory_write(v, a, &x, 2, access); }
static inline bool memory_write32(struct vcpu *v, gva_t a, uint32_t x, unsigned access) { return memory_write(v, a, &x, 4, access); }

#endif
