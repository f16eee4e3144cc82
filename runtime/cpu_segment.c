/* Segments: limits, descriptors, loads of segment registers (Intel SDM vol. 3, ch. 3 and 5). */
#include "base/abi.h"
#include "runtime/cpu_private.h"

bool cpu_within_limit(const struct segment *s, uint32_t offset, uint32_t size)
{
	uint32_t last = offset + size - 1;
	/* With a limit of 4 GiB - 1 no offset is outside: an access at the top wraps, as it does in emitted code. */
	if (s->limit == 0xFFFFFFFFu && !(s->ar & AR_EXPAND_DOWN)) return true;
	if (last < offset) return false;
	if ((s->ar & (AR_S | AR_CODE | AR_EXPAND_DOWN)) != (AR_S | AR_EXPAND_DOWN)) return last <= s->limit;
	return offset > s->limit && last <= (s->ar & AR_DB ? 0xFFFFFFFFu : 0xFFFFu);
}

static bool type_allows(const struct segment *s, bool write)
{
	if (s->ar & AR_CODE) return !write && (s->ar & AR_READABLE);
	return !write || (s->ar & AR_WRITABLE);
}

bool cpu_linear(struct vcpu *v, enum seg seg, uint32_t ea, uint32_t size, bool write, gva_t *gva)
{
	const struct segment *s = &v->seg[seg];
	*gva = s->base + ea;
	if (MODE_SEG(v->mode, seg) < MODE_SEG_GENERAL && !(write && seg == SEG_CS)) return true;
	/* Real mode and V86 know limits, but no types. */
	bool type_ok = !cpu_protected(v) || (!(s->ar & AR_UNUSABLE) && type_allows(s, write));
	if (type_ok && cpu_within_limit(s, ea, size)) return true;
	return cpu_fail(v, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

void cpu_parse_descriptor(struct segment *s, uint16_t selector, struct descriptor d)
{
	s->selector = selector;
	s->pad = 0;
	s->base = d.low >> 16 | (d.high & 0xFFu) << 16 | (d.high & 0xFF000000u);
	s->limit = (d.low & 0xFFFFu) | (d.high & 0xF0000u);
	s->ar = descriptor_ar(d);
	if (s->ar & AR_G) s->limit = s->limit << 12 | 0xFFFu;
}

/* The linear address of a descriptor; false if it is outside its table. */
static bool descriptor_address(const struct vcpu *v, uint16_t selector, gva_t *gva)
{
	bool local = (selector & 4) != 0;
	uint32_t base = local ? v->ldtr.base : v->gdtr.base;
	uint32_t limit = local ? v->ldtr.limit : v->gdtr.limit;
	*gva = base + (selector & ~7u);
	return (selector | 7u) <= limit && !(local && (v->ldtr.ar & AR_UNUSABLE));
}

bool cpu_read_descriptor(struct vcpu *v, uint16_t selector, struct descriptor *d, uint8_t vector, uint32_t ext)
{
	gva_t gva;
	if (!descriptor_address(v, selector, &gva)) return cpu_fail(v, vector, (selector & ~SELECTOR_RPL) | ext);
	return memory_read(v, gva, d, sizeof(*d), ACCESS_READ);
}

bool cpu_mark_accessed(struct vcpu *v, struct segment *s)
{
	if (s->ar & (AR_ACCESSED | AR_UNUSABLE)) return true;
	gva_t gva;
	descriptor_address(v, s->selector, &gva);
	s->ar |= AR_ACCESSED;
	uint8_t byte = (uint8_t)s->ar;
	return memory_write(v, gva + 5, &byte, 1, ACCESS_WRITE);
}

bool cpu_check_data(struct vcpu *v, uint16_t selector, uint8_t vector, uint32_t ext, struct segment *out)
{
	if (selector_is_null(selector)) {
		*out = (struct segment){ .selector = selector, .ar = AR_UNUSABLE };
		return true;
	}
	uint32_t error = (selector & ~SELECTOR_RPL) | ext;
	struct descriptor d;
	if (!cpu_read_descriptor(v, selector, &d, vector, ext)) return false;
	uint32_t ar = descriptor_ar(d);
	unsigned dpl = descriptor_dpl(d);
	bool code = (ar & AR_CODE) != 0;
	if (!(ar & AR_S) || (code && !(ar & AR_READABLE))) return cpu_fail(v, vector, error);
	bool conforming = code && (ar & AR_CONFORMING);
	if (!conforming && (dpl < v->cpl || dpl < (selector & SELECTOR_RPL))) return cpu_fail(v, vector, error);
	if (!(ar & AR_P)) return cpu_fail(v, VEC_NP, error);
	cpu_parse_descriptor(out, selector, d);
	return true;
}

bool cpu_check_stack(struct vcpu *v, uint16_t selector, unsigned cpl, uint8_t vector, uint32_t ext, struct segment *out)
{
	uint32_t error = (selector & ~SELECTOR_RPL) | ext;
	if (selector_is_null(selector)) return cpu_fail(v, vector, ext);
	struct descriptor d;
	if (!cpu_read_descriptor(v, selector, &d, vector, ext)) return false;
	uint32_t ar = descriptor_ar(d);
	bool writable_data = (ar & (AR_S | AR_CODE | AR_WRITABLE)) == (AR_S | AR_WRITABLE);
	if ((selector & SELECTOR_RPL) != cpl || !writable_data || descriptor_dpl(d) != cpl) return cpu_fail(v, vector, error);
	if (!(ar & AR_P)) return cpu_fail(v, VEC_SS, error);
	cpu_parse_descriptor(out, selector, d);
	return true;
}

bool cpu_check_code(struct vcpu *v, uint16_t selector, struct descriptor d, unsigned cpl, uint32_t ext, struct segment *out)
{
	if (!descriptor_present(d)) return cpu_fail(v, VEC_NP, (selector & ~SELECTOR_RPL) | ext);
	cpu_parse_descriptor(out, (uint16_t)((selector & ~SELECTOR_RPL) | cpl), d);
	return true;
}

bool cpu_enter_code(struct vcpu *v, struct segment *cs, uint32_t eip, uint32_t ext)
{
	return (eip <= cs->limit || cpu_fail(v, VEC_GP, ext)) && cpu_mark_accessed(v, cs);
}

void cpu_set_segment(struct vcpu *v, enum seg seg, const struct segment *s)
{
	unsigned shift = MODE_SEG_SHIFT + 2 * seg;
	v->seg[seg] = *s;
	v->mode = (v->mode & ~(3u << shift)) | cpu_segment_class(s, seg == SEG_CS) << shift;
}

void cpu_load_real(struct vcpu *v, enum seg seg, uint16_t selector)
{
	struct segment s = v->seg[seg];
	s.selector = selector;
	s.base = (uint32_t)selector << 4;
	cpu_set_segment(v, seg, &s);
}

void cpu_load_v86(struct vcpu *v, enum seg seg, uint16_t selector)
{
	struct segment s = { .selector = selector, .base = (uint32_t)selector << 4, .limit = 0xFFFF,
			     .ar = AR_P | 3u << AR_DPL_SHIFT | AR_S | AR_WRITABLE | AR_ACCESSED };
	cpu_set_segment(v, seg, &s);
}

bool cpu_load_segment(struct vcpu *v, enum seg seg, uint16_t selector)
{
	if (!cpu_protected(v)) {
		cpu_load_real(v, seg, selector);
		return true;
	}
	struct segment s;
	bool ok = seg == SEG_SS ? cpu_check_stack(v, selector, v->cpl, VEC_GP, 0, &s) : cpu_check_data(v, selector, VEC_GP, 0, &s);
	if (!ok || !cpu_mark_accessed(v, &s)) return false;
	uint32_t changed = seg == SEG_SS ? v->seg[SEG_SS].ar ^ s.ar : 0;
	cpu_set_segment(v, seg, &s);
	if (changed & AR_DB) cpu_update_mode(v);
	return true;
}
