/* Breakpoints by DR0-DR3 (Intel SDM vol. 3, 17.2). While one is enabled, blocks have one instruction and every access of emitted code comes
 * here, so that they cost nothing otherwise. Callouts name their accesses themselves (cpu_watch); descriptor tables and TSSs are not watched. */
#include "runtime/cpu.h"

enum { WATCH_EXECUTE, WATCH_WRITE, WATCH_PORT, WATCH_ACCESS };

static unsigned kind_of(const struct vcpu *v, unsigned i) { return v->dr[7] >> (16 + 4 * i) & 3; }
static bool enabled(const struct vcpu *v, unsigned i) { return v->dr[7] >> (2 * i) & 3; }

static uint32_t length_of(const struct vcpu *v, unsigned i)
{
	static const uint8_t lengths[] = {1, 2, 8, 4};

	return lengths[v->dr[7] >> (18 + 4 * i) & 3];
}

bool debug_instruction_hit(struct vcpu *v)
{
	gva_t gva = v->seg[SEG_CS].base + v->eip;
	uint32_t hits = 0;

	/* RF lets the instruction behind a breakpoint's handler run. */
	if (v->eflags & EFL_RF)
		return false;
	for (unsigned i = 0; i < 4; i++)
		if (enabled(v, i) && kind_of(v, i) == WATCH_EXECUTE && v->dr[i] == gva)
			hits |= 1u << i;
	if (!hits)
		return false;
	v->dr[6] |= hits;
	v->fault = (struct guest_fault){.vector = VEC_DB};
	return true;
}

/* Breakpoints whose kind is in the mask, on any of `size` units from `first`, which may wrap. */
static uint32_t range_hits(const struct vcpu *v, uint32_t first, uint32_t size, unsigned kinds)
{
	uint32_t hits = 0;

	for (unsigned i = 0; i < 4; i++) {
		uint32_t length = length_of(v, i);
		uint32_t at = v->dr[i] & ~(length - 1);

		if (enabled(v, i) && (kinds >> kind_of(v, i) & 1) && (at - first < size || first - at < length))
			hits |= 1u << i;
	}
	return hits;
}

uint32_t debug_data_hits(const struct vcpu *v, gva_t gva, uint32_t size, bool write)
{
	return range_hits(v, gva, size, 1u << WATCH_ACCESS | (write ? 1u << WATCH_WRITE : 0));
}

/* Without CR4.DE this kind is undefined, and watches nothing. */
uint32_t debug_port_hits(const struct vcpu *v, uint16_t port, uint32_t size)
{
	return v->cr4 & CR4_DE ? range_hits(v, port, size, 1u << WATCH_PORT) : 0;
}
