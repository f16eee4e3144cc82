/* Between memory_known.c, which answers from the soft tables, and memory.c, which does all else. */
#ifndef RUNTIME_MEMORY_KNOWN_H
#define RUNTIME_MEMORY_KNOWN_H

#include "runtime/internal.h"

/* The table's entry for this byte. */
static inline const uint64_t *memory_addend(struct vcpu *v, gva_t gva, unsigned access)
{
	const struct shadow_view *view = runtime_of(v)->views[(access & ACCESS_USER) != 0];
	const uint64_t *table = (const uint64_t *)(view->tables + (access & ACCESS_WRITE ? ABI_WRITE_TABLE : ABI_READ_TABLE));

	return &table[gva >> PAGE_SHIFT];
}

/* Where this byte is, if the tables offer its page for this access; else NULL. */
static inline uint8_t *memory_known(struct vcpu *v, gva_t gva, unsigned access)
{
	uint64_t addend = *memory_addend(v, gva, access);

	return addend ? (uint8_t *)(addend + gva) : NULL;
}

/* As memory.h's, for any memory and any callout but a quick one. */
bool memory_read_slow(struct vcpu *v, gva_t gva, void *to, uint32_t size, unsigned access);
bool memory_write_slow(struct vcpu *v, gva_t gva, const void *from, uint32_t size, unsigned access);
uint8_t *memory_page_slow(struct vcpu *v, gva_t gva, unsigned access);
bool memory_probe_write_slow(struct vcpu *v, gva_t gva, uint32_t size, unsigned access);

#endif
