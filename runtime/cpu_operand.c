/* Operands of callouts, alignment checks included, and the TSS's I/O permission bitmap. */
#include "base/abi.h"
#include "runtime/cpu_private.h"

/* Vol. 3, table 6-7: far pointers and table registers (4 and 6 bytes) want the alignment of their larger half at most. */
static bool aligned(const struct vcpu *v, gva_t gva, uint32_t size)
{
	if (!(v->mode & MODE_AC)) return true;
	uint32_t mask = size == 2 ? 1 : size == 1 ? 0 : 3;
	return (gva & mask) == 0;
}

static bool locate(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t size, bool write, gva_t *gva)
{
	if (!cpu_linear(v, CALLOUT_SEG(arg), ea, size, write, gva)) return false;
	return aligned(v, *gva, size) || cpu_fail(v, VEC_AC, 0);
}

bool cpu_read_memory(struct vcpu *v, uint32_t arg, uint32_t ea, void *to, uint32_t size)
{
	gva_t gva;
	if (!locate(v, arg, ea, size, false, &gva)) return false;
	return memory_read(v, gva, to, size, ACCESS_READ | memory_user(v));
}

bool cpu_write_memory(struct vcpu *v, uint32_t arg, uint32_t ea, const void *from, uint32_t size)
{
	gva_t gva;
	if (!locate(v, arg, ea, size, true, &gva)) return false;
	return memory_write(v, gva, from, size, ACCESS_WRITE | memory_user(v));
}

bool cpu_read_operand(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t size, uint32_t *value)
{
	*value = 0;
	if (CALLOUT_MEM(arg)) return cpu_read_memory(v, arg, ea, value, size);
	uint32_t mask = size == 4 ? 0xFFFFFFFFu : (1u << 8 * size) - 1;
	*value = v->gpr[CALLOUT_RM(arg) & 7] & mask;
	return true;
}

void cpu_write_gpr(struct vcpu *v, unsigned reg, uint32_t value, unsigned size)
{
	uint32_t *gpr = &v->gpr[reg & 7];
	*gpr = size == 2 ? value : (*gpr & 0xFFFF0000u) | (value & 0xFFFFu);
}

#define TSS_IO_BASE 0x66u
#define TSS_MINIMUM_LIMIT 0x67u

static bool bitmap_allows(struct vcpu *v, uint16_t port, unsigned size, bool *allowed)
{
	uint16_t base, bits;
	*allowed = false;
	if ((v->tr.ar & AR_TYPE) != SYS_TSS32_BUSY || v->tr.limit < TSS_MINIMUM_LIMIT) return true;
	if (!memory_read16(v, v->tr.base + TSS_IO_BASE, &base, ACCESS_READ)) return false;
	/* Two bytes are always read, as an access may straddle them. */
	uint32_t at = (uint32_t)base + port / 8u;
	if (at + 1 > v->tr.limit) return true;
	if (!memory_read16(v, v->tr.base + at, &bits, ACCESS_READ)) return false;
	*allowed = (bits >> (port & 7) & ((1u << size) - 1)) == 0;
	return true;
}

bool cpu_io_allowed(struct vcpu *v, uint16_t port, unsigned size)
{
	bool allowed = (v->mode & (MODE_IOPL_OK | MODE_VM)) == MODE_IOPL_OK;
	if (!allowed && !bitmap_allows(v, port, size, &allowed)) return false;
	return allowed || cpu_fail(v, VEC_GP, 0);
}
