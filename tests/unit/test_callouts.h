/* What the tests of callouts share: a small guest memory whose pages can be absent, read-only, traced or MMIO, two pages of it on the
 * same frame, and ports that log. */
#ifndef TESTS_UNIT_TEST_CALLOUTS_H
#define TESTS_UNIT_TEST_CALLOUTS_H

#include <stdlib.h>
#include <string.h>

#include "base/abi.h"
#include "runtime/cpu.h"
#include "runtime/memory.h"
#include "tests/shim/test.h"

#define FAKE_PAGES 32u
#define FAKE_FRAMES 24u
#define FAKE_LOG 4096u

enum fake_kind { FAKE_RAM, FAKE_READ_ONLY, FAKE_TRACED, FAKE_MMIO, FAKE_ABSENT };

struct fake {
	uint8_t ram[FAKE_FRAMES][PAGE_SIZE];
	struct {
		enum fake_kind kind;
		unsigned frame;
	} pages[FAKE_PAGES]; /* linear pages; all above are absent */
	/* Everything that a device would see, in order. */
	struct {
		uint32_t at, size, value;
		bool write, port;
	} log[FAKE_LOG];
	unsigned logged;
	unsigned traced_writes;
	uint32_t device; /* what a device answers next */
	struct vcpu v;
	struct stats stats;
};
static struct fake fake;

static uint32_t fake_device(uint32_t at, uint32_t size, bool write, bool port, uint32_t value)
{
	if (!write) {
		fake.device = fake.device * 1664525u + 1013904223u;
		value = size == 4 ? fake.device : fake.device & ((1u << 8 * size) - 1);
	}
	if (fake.logged < FAKE_LOG) {
		fake.log[fake.logged].at = at;
		fake.log[fake.logged].size = size;
		fake.log[fake.logged].value = value;
		fake.log[fake.logged].write = write;
		fake.log[fake.logged++].port = port;
	}
	return value;
}

/* Which guest code and data a test's own x87 instructions stand for. */
static struct {
	uint64_t code, data;
	uint32_t eip, eip_base;
	gva_t gva;
} fake_x87;

bool runtime_guest_code(struct vcpu *v, host_pc_t pc, uint32_t *eip, uint32_t *base)
{
	(void)v;
	if ((uint32_t)pc != (uint32_t)fake_x87.code) return false;
	*eip = fake_x87.eip;
	*base = fake_x87.eip_base;
	return true;
}

bool runtime_guest_data(struct vcpu *v, uint64_t hva, gva_t *gva)
{
	(void)v;
	*gva = fake_x87.gva;
	return hva == fake_x87.data;
}

/* Does the board assert IGNNE#? And how often was FERR# asserted? */
static bool fake_ignne;
static unsigned fake_ferr;

bool runtime_x87_error(struct vcpu *v)
{
	if (fake_ignne) cpu_hide_x87(v);
	fake_ferr += !fake_ignne;
	return !fake_ignne;
}

uint32_t runtime_io_read(struct vcpu *v, uint16_t port, unsigned size)
{
	(void)v;
	return fake_device(port, size, false, true, 0);
}

void runtime_io_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t value)
{
	(void)v;
	fake_device(port, size, true, true, value);
}

static enum fake_kind fake_kind(gva_t gva)
{
	return gva >> PAGE_SHIFT < FAKE_PAGES ? fake.pages[gva >> PAGE_SHIFT].kind : FAKE_ABSENT;
}

static uint8_t *fake_byte(gva_t gva)
{
	return &fake.ram[fake.pages[gva >> PAGE_SHIFT].frame][gva & PAGE_MASK];
}

static bool fake_check(struct vcpu *v, gva_t gva, unsigned access)
{
	enum fake_kind kind = fake_kind(gva);
	bool write = access & ACCESS_WRITE;
	if (kind != FAKE_ABSENT && !(write && kind == FAKE_READ_ONLY)) return true;
	v->fault = (struct guest_fault){.vector = VEC_PF, .has_error = true, .cr2 = gva,
	                                .error = (access & ~ACCESS_FETCH) | (kind == FAKE_ABSENT ? 0 : PF_PRESENT)};
	return false;
}

static bool fake_check_range(struct vcpu *v, gva_t gva, uint32_t size, unsigned access)
{
	if (!fake_check(v, gva, access)) return false;
	gva_t last = gva + size - 1;
	return gva >> PAGE_SHIFT == last >> PAGE_SHIFT || fake_check(v, last & ~PAGE_MASK, access);
}

bool memory_read(struct vcpu *v, gva_t gva, void *to, uint32_t size, unsigned access)
{
	if (!fake_check_range(v, gva, size, access)) return false;
	uint8_t *bytes = to;
	if (fake_kind(gva) == FAKE_MMIO && size <= 4) {
		uint32_t value = fake_device(gva, size, false, false, 0);
		memcpy(to, &value, size);
		return true;
	}
	for (uint32_t i = 0; i < size; i++) bytes[i] = *fake_byte(gva + i);
	return true;
}

bool memory_write(struct vcpu *v, gva_t gva, const void *from, uint32_t size, unsigned access)
{
	if (!fake_check_range(v, gva, size, access | ACCESS_WRITE)) return false;
	if (fake_kind(gva) == FAKE_MMIO) {
		uint32_t value = 0;
		CHECK(size <= 4);
		memcpy(&value, from, size <= 4 ? size : 4);
		fake_device(gva, size, true, false, value);
		return true;
	}
	fake.traced_writes += fake_kind(gva) == FAKE_TRACED;
	for (uint32_t i = 0; i < size; i++) *fake_byte(gva + i) = ((const uint8_t *)from)[i];
	return true;
}

bool memory_probe_write(struct vcpu *v, gva_t gva, uint32_t size, unsigned access)
{
	return fake_check_range(v, gva, size, access | ACCESS_WRITE);
}

uint8_t *memory_page(struct vcpu *v, gva_t gva, unsigned access)
{
	if (!fake_check(v, gva, access)) return NULL;
	enum fake_kind kind = fake_kind(gva);
	if (kind != FAKE_MMIO && !(kind == FAKE_TRACED && (access & ACCESS_WRITE))) return fake_byte(gva);
	v->fault.vector = 0xFF;
	return NULL;
}

/* A flat 32-bit machine at CPL 0, every page plain RAM on a frame of its own (the last ones share). */
static struct vcpu *fake_reset(void)
{
	memset(&fake, 0, sizeof fake);
	for (unsigned i = 0; i < FAKE_PAGES; i++) fake.pages[i].frame = i % FAKE_FRAMES;
	struct vcpu *v = &fake.v;
	v->stats = &fake.stats;
	v->cr0 = CR0_PE | CR0_NE | CR0_ET;
	v->cr4 = CR4_OSFXSR;
	v->mode = MODE_PE | MODE_CS32 | MODE_SS32 | MODE_IOPL_OK;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		v->seg[i] = (struct segment){.selector = 0x10, .limit = ~0u, .ar = AR_G | AR_DB | AR_P | AR_S | AR_WRITABLE | AR_ACCESSED};
	return v;
}

static inline void fake_segment(enum seg seg, uint32_t base, uint32_t limit)
{
	struct vcpu *v = &fake.v;
	v->seg[seg].base = base;
	v->seg[seg].limit = limit;
	unsigned class = limit != ~0u ? MODE_SEG_GENERAL : base ? MODE_SEG_BASE : MODE_SEG_FLAT;
	v->mode = (v->mode & ~(3u << (MODE_SEG_SHIFT + 2 * seg))) | class << (MODE_SEG_SHIFT + 2 * seg);
}

static inline uint32_t fake_read32(gva_t gva)
{
	uint32_t value = 0;
	for (unsigned i = 0; i < 4; i++) value |= (uint32_t)*fake_byte(gva + i) << 8 * i;
	return value;
}

#endif
