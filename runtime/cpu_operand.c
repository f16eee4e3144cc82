/* Operands of callouts, alignment checks included, and the TSS's I/O permission bitmap. */
#include "base/abi.h"
#include "runtime/cpu_private.h"

bool cpu_check_alignment(struct vcpu *v, gva_t gva, uint32_t alignment)
{
	return !(v->mode & MODE_AC) || !(gva & (alignment - 1)) || cpu_fail(v, VEC_AC, 0);
}

/* Vol. 3, table 6-7: a far pointer or a pair of bounds of 16 bits each want 2, what is larger wants 4. */
static uint32_t alignment_of(uint32_t arg, uint32_t size)
{
	if (size <= 2) return size;
	return size == 4 && CALLOUT_SIZE(arg) == 1 ? 2 : 4;
}

static bool locate(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t size, bool write, gva_t *gva)
{
	return cpu_linear(v, CALLOUT_SEG(arg), ea, size, write, gva) && cpu_check_alignment(v, *gva, alignment_of(arg, size));
}

bool cpu_read_memory(struct vcpu *v, uint32_t arg, uint32_t ea, void *to, uint32_t size)
{
	gva_t gva;
	if (!locate(v, arg, ea, size, false, &gva)) return false;
	cpu_watch(v, gva, size, false);
	return memory_read(v, gva, to, size, ACCESS_READ | memory_user(v));
}

bool cpu_write_memory(struct vcpu *v, uint32_t arg, uint32_t ea, const void *from, uint32_t size)
{
	gva_t gva;
	if (!locate(v, arg, ea, size, true, &gva)) return false;
	cpu_watch(v, gva, size, true);
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
