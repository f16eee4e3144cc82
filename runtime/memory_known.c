/* Guest memory where the soft tables answer: what nearly every access of a gate or a segment load meets. */
#include "runtime/cpu_private.h"
#include "runtime/memory_known.h"

static bool is_within_page(gva_t gva, uint32_t size)
{
	return size <= PAGE_SIZE - (gva & PAGE_MASK);
}

/* No call of memcpy may come of this: see quick.c. */
static void copy(void *to, const void *from, uint32_t size)
{
	if (size == 8) {
		__builtin_memcpy(to, from, 8);
	} else if (size == 4) {
		__builtin_memcpy(to, from, 4);
	} else if (size == 2) {
		__builtin_memcpy(to, from, 2);
	} else {
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	}
}

bool memory_read(struct vcpu *v, gva_t gva, void *to, uint32_t size, unsigned access)
{
	const uint8_t *from = is_within_page(gva, size) ? memory_known(v, gva, access) : NULL;

	if (!from)
		return cpu_may_be_slow(v) && memory_read_slow(v, gva, to, size, access);
	copy(to, from, size);
	return true;
}

bool memory_write(struct vcpu *v, gva_t gva, const void *from, uint32_t size, unsigned access)
{
	uint8_t *to = is_within_page(gva, size) ? memory_known(v, gva, access | ACCESS_WRITE) : NULL;

	if (!to)
		return cpu_may_be_slow(v) && memory_write_slow(v, gva, from, size, access | ACCESS_WRITE);
	copy(to, from, size);
	return true;
}

bool memory_probe_write(struct vcpu *v, gva_t gva, uint32_t size, unsigned access)
{
	return cpu_may_be_slow(v) && memory_probe_write_slow(v, gva, size, access);
}

uint8_t *memory_page(struct vcpu *v, gva_t gva, unsigned access)
{
	uint8_t *at = memory_known(v, gva, access);

	return at || !cpu_may_be_slow(v) ? at : memory_page_slow(v, gva, access);
}
