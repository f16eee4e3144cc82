/* Breakpoints by DR0-DR3 (Intel SDM vol. 3, 17.2). While one is enabled, blocks have one instruction and every access of emitted code comes
 * here, so that they cost nothing otherwise. Accesses by callouts (string instructions, PUSHA, gates) are not watched. */
#include "runtime/internal.h"

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

	/* RF lets the instruction behind a breakpoint's handler run; it holds for one. */
	if (v->eflags & EFL_RF) {
		v->eflags &= ~EFL_RF;
		return false;
	}
	for (unsigned i = 0; i < 4; i++)
		if (enabled(v, i) && kind_of(v, i) == 0 && v->dr[i] == gva)
			hits |= 1u << i;
	if (!hits)
		return false;
	v->dr[6] |= hits;
	v->fault = (struct guest_fault){.vector = VEC_DB};
	return true;
}

uint32_t debug_data_hits(const struct vcpu *v, gva_t gva, uint32_t size, bool write)
{
	uint32_t hits = 0;

	for (unsigned i = 0; i < 4; i++) {
		uint32_t length = length_of(v, i);
		gva_t at = v->dr[i] & ~(length - 1);
		bool watched = kind_of(v, i) == 3 || (write && kind_of(v, i) == 1);

		if (enabled(v, i) && watched && at < (uint64_t)gva + size && gva < (uint64_t)at + length)
			hits |= 1u << i;
	}
	return hits;
}
