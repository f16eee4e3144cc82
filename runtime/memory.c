/* Guest memory as C sees it, where the soft tables alone do not answer: page crossings, traces, devices, and what only a walk can tell. */
#include "runtime/memory.h"

#include <string.h>

#include "runtime/internal.h"
#include "runtime/memory_known.h"

/* One access within a page. */
struct piece {
	uint8_t *hva;   /* plain RAM or traced RAM; NULL for MMIO */
	gpa_t gpa;      /* where traced or MMIO */
	bool traced;
	bool crosses;   /* one of several */
};

static bool resolve(struct vcpu *v, gva_t gva, unsigned access, struct piece *p)
{
	struct runtime *r = runtime_of(v);

	*p = (struct piece){.hva = memory_known(v, gva, access)};
	if (p->hva)
		return true;
	struct shadow_answer a = shadow_resolve(r->shadow, gva, access);
	if (a.kind == SHADOW_FAULT) {
		v->fault = (struct guest_fault){.vector = VEC_PF, .has_error = true, .error = a.error, .cr2 = gva};
		return false;
	}
	p->gpa = a.gpa;
	p->traced = a.kind == SHADOW_TRACED;
	if (a.kind != SHADOW_MMIO)
		p->hva = r->ram + a.gpa;
	return true;
}

/* As the bus would: in pieces that lie within eight aligned bytes. */
static uint32_t bus_piece(gpa_t gpa, uint32_t left)
{
	uint32_t most = 8 - (gpa & 7);

	return left < most ? left : most;
}

void memory_read_device(struct runtime *r, gpa_t gpa, void *to, uint32_t size)
{
	for (uint32_t done = 0, length; done < size; done += length) {
		length = bus_piece(gpa + done, size - done);
		uint64_t value = r->machine ? machine_mmio_read(r->machine, gpa + done, length) : UINT64_MAX;
		memcpy((uint8_t *)to + done, &value, length);
	}
}

void memory_write_device(struct runtime *r, gpa_t gpa, const void *from, uint32_t size)
{
	for (uint32_t done = 0, length; r->machine && done < size; done += length) {
		uint64_t value = 0;
		length = bus_piece(gpa + done, size - done);
		memcpy(&value, (const uint8_t *)from + done, length);
		machine_mmio_write(r->machine, gpa + done, length, value);
	}
}

static void piece_read(struct vcpu *v, const struct piece *p, void *to, uint32_t size)
{
	if (p->hva)
		memcpy(to, p->hva, size);
	else
		memory_read_device(runtime_of(v), p->gpa, to, size);
}

static void piece_write(struct vcpu *v, const struct piece *p, const void *from, uint32_t size)
{
	struct runtime *r = runtime_of(v);

	if (p->hva) {
		memcpy(p->hva, from, size);
		/* The frame may have been traced since it was resolved: by the walk for the other page of a crossing. */
		if (p->traced || p->crosses) {
			shadow_frame_written(r->shadow, p->gpa, size);
			code_written(r, p->gpa, size);
		}
	} else {
		memory_write_device(r, p->gpa, from, size);
	}
}

static uint32_t left_in_page(gva_t gva)
{
	return PAGE_SIZE - (gva & PAGE_MASK);
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Every page of the range, before anything is transferred. */
static bool probe(struct vcpu *v, gva_t gva, uint32_t size, unsigned access)
{
	struct piece p;

	for (uint32_t done = 0; done < size; done += left_in_page(gva + done))
		if (!resolve(v, gva + done, access, &p))
			return false;
	return true;
}

bool memory_read_slow(struct vcpu *v, gva_t gva, void *to, uint32_t size, unsigned access)
{
	struct piece p;

	if (size > left_in_page(gva) && !probe(v, gva, size, access))
		return false;
	for (uint32_t done = 0, length; done < size; done += length) {
		length = min_u32(size - done, left_in_page(gva + done));
		if (!resolve(v, gva + done, access, &p))
			return false;
		piece_read(v, &p, (uint8_t *)to + done, length);
	}
	return true;
}

bool memory_write_slow(struct vcpu *v, gva_t gva, const void *from, uint32_t size, unsigned access)
{
	struct piece p;

	if (size > left_in_page(gva) && !probe(v, gva, size, access))
		return false;
	for (uint32_t done = 0, length; done < size; done += length) {
		length = min_u32(size - done, left_in_page(gva + done));
		if (!resolve(v, gva + done, access, &p))
			return false;
		p.crosses = length < size;
		if (p.crosses && p.hva)
			p.gpa = (gpa_t)(p.hva - runtime_of(v)->ram);
		piece_write(v, &p, (const uint8_t *)from + done, length);
	}
	return true;
}

bool memory_probe_write_slow(struct vcpu *v, gva_t gva, uint32_t size, unsigned access)
{
	return probe(v, gva, size, access | ACCESS_WRITE);
}

uint8_t *memory_page_slow(struct vcpu *v, gva_t gva, unsigned access)
{
	struct piece p;

	if (!resolve(v, gva, access, &p))
		return NULL;
	if (p.hva && !p.traced)
		return p.hva;
	v->fault.vector = 0xFF;
	return NULL;
}
