/* Ports, the stack instructions that move many words, BOUND, and decimal arithmetic. */
#include <string.h>

#include "base/abi.h"
#include "runtime/cpu_private.h"

static uint16_t port_of(const struct vcpu *v, uint32_t ea, uint32_t extra) { return (uint16_t)(extra ? ea : v->gpr[EDX]); }

enum callout_result callout_in(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	uint16_t port = port_of(v, ea, extra);
	unsigned size = CALLOUT_SIZE(arg);
	if (!cpu_io_allowed(v, port, 1u << size)) return CALLOUT_FAULT;
	cpu_watch_port(v, port, 1u << size);
	uint32_t value = runtime_io_read(v, port, 1u << size);
	memcpy(&v->gpr[EAX], &value, 1u << size);
	return CALLOUT_NEXT;
}

enum callout_result callout_out(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	uint16_t port = port_of(v, ea, extra);
	unsigned size = CALLOUT_SIZE(arg);
	if (!cpu_io_allowed(v, port, 1u << size)) return CALLOUT_FAULT;
	uint32_t value = 0;
	memcpy(&value, &v->gpr[EAX], 1u << size);
	cpu_watch_port(v, port, 1u << size);
	runtime_io_write(v, port, 1u << size, value);
	return CALLOUT_NEXT;
}

enum callout_result callout_pusha(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	/* In the order of their numbers, ESP as it is before the first push. */
	bool pushed = cpu_push(v, &v->seg[SEG_SS], &v->gpr[ESP], (uint32_t[8]){v->gpr[0], v->gpr[1], v->gpr[2], v->gpr[3], v->gpr[4],
	                       v->gpr[5], v->gpr[6], v->gpr[7]}, 8, CALLOUT_SIZE(arg), memory_user(v), 0);
	return pushed ? CALLOUT_NEXT : CALLOUT_FAULT;
}

enum callout_result callout_popa(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)ea, (void)extra;
	unsigned size = CALLOUT_SIZE(arg);
	uint32_t words[8];
	if (!cpu_read_stack(v, 0, words, 8, size)) return CALLOUT_FAULT;
	v->gpr[ESP] = cpu_stack_add(&v->seg[SEG_SS], v->gpr[ESP], 8u << size);
	for (unsigned i = 0; i < 8; i++)
		if (7 - i != ESP) memcpy(&v->gpr[7 - i], &words[i], 1u << size);
	return CALLOUT_NEXT;
}

/* The linear address of a word at SS:pointer, wrapped as SS.B says. */
static bool stack_word(struct vcpu *v, uint32_t pointer, unsigned size, bool write, gva_t *gva)
{
	uint32_t mask = v->seg[SEG_SS].ar & AR_DB ? ~0u : 0xFFFFu;
	return cpu_linear(v, SEG_SS, pointer & mask, 1u << size, write, gva) && cpu_check_alignment(v, *gva, 1u << size);
}

/* One word of ENTER's frame, at ESP - (i + 1) words: EBP first, then the outer frames' pointers, the new frame's pointer last. With
 * `check`, only sees that it would not fault. */
static bool enter_word(struct vcpu *v, unsigned i, unsigned level, unsigned size, bool check)
{
	uint32_t bytes = 1u << size, value = v->gpr[EBP];
	gva_t from, to;
	if (i && i == level) value = cpu_stack_add(&v->seg[SEG_SS], v->gpr[ESP], -bytes);
	if (i && i < level) {
		if (!stack_word(v, v->gpr[EBP] - i * bytes, size, false, &from)) return false;
		cpu_watch(v, from, bytes, false);
		if (!memory_read(v, from, &value, bytes, ACCESS_READ | memory_user(v))) return false;
	}
	if (!stack_word(v, v->gpr[ESP] - (i + 1) * bytes, size, true, &to)) return false;
	cpu_watch(v, to, bytes, true);
	return check ? memory_probe_write(v, to, bytes, ACCESS_WRITE | memory_user(v))
	             : memory_write(v, to, &value, bytes, ACCESS_WRITE | memory_user(v));
}

/* The words are read and written in turn, since the display may overlap the new frame; so all are checked first. */
enum callout_result callout_enter(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	unsigned size = CALLOUT_SIZE(arg), level = extra & 31;
	const struct segment *ss = &v->seg[SEG_SS];
	uint32_t frame = cpu_stack_add(ss, v->gpr[ESP], -(1u << size));
	uint32_t top = cpu_stack_add(ss, frame, -((level << size) + (ea & 0xFFFF)));
	gva_t gva;
	for (unsigned i = 0; i <= level; i++)
		if (!enter_word(v, i, level, size, true)) return CALLOUT_FAULT;
	/* ENTER faults if a write at the final stack pointer would. */
	if (!stack_word(v, top, size, true, &gva)) return CALLOUT_FAULT;
	if (!memory_probe_write(v, gva, 1u << size, ACCESS_WRITE | memory_user(v))) return CALLOUT_FAULT;
	for (unsigned i = 0; i <= level; i++)
		if (!enter_word(v, i, level, size, false)) return CALLOUT_FAULT;
	memcpy(&v->gpr[EBP], &frame, 1u << size);
	v->gpr[ESP] = top;
	return CALLOUT_NEXT;
}

enum callout_result callout_bound(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	unsigned size = CALLOUT_SIZE(arg);
	uint8_t raw[8];
	uint32_t bytes = 1u << size;
	if (!cpu_read_memory(v, arg, ea, raw, bytes) || !cpu_read_memory(v, arg, ea + bytes, raw + bytes, bytes)) return CALLOUT_FAULT;
	int32_t bounds[2], index = (int32_t)v->gpr[CALLOUT_REG(arg)];
	memcpy(bounds, raw, sizeof bounds);
	if (size == 1) {
		int16_t narrow[2];
		memcpy(narrow, raw, sizeof narrow);
		bounds[0] = narrow[0];
		bounds[1] = narrow[1];
		index = (int16_t)index;
	}
	return index < bounds[0] || index > bounds[1] ? cpu_raise(v, VEC_BR) : CALLOUT_NEXT;
}

/* Decimal arithmetic. The flags that the manual leaves undefined are as a Zen 4 processor was seen to set them. */
static uint32_t result_flags(uint8_t al)
{
	return (al ? 0 : EFL_ZF) | (al & EFL_SF) | (__builtin_parity(al) ? 0 : EFL_PF);
}

static uint32_t ascii_adjust(struct vcpu *v, uint16_t *ax, uint32_t delta)
{
	bool adjust = (*ax & 0xF) > 9 || (v->flags & EFL_AF);
	if (adjust) *ax = (uint16_t)(*ax + delta);
	*ax &= 0xFF0F;
	return (adjust ? EFL_AF | EFL_CF : 0) | result_flags((uint8_t)*ax);
}

static uint32_t decimal_adjust(struct vcpu *v, uint16_t *ax, bool subtract)
{
	uint8_t old = (uint8_t)*ax, al = old;
	uint32_t flags = 0;
	if ((old & 0xF) > 9 || (v->flags & EFL_AF)) {
		al = (uint8_t)(subtract ? al - 6 : al + 6);
		flags = EFL_AF | (subtract && old < 6 ? EFL_CF : 0);
	}
	if (old > 0x99 || (v->flags & EFL_CF)) {
		al = (uint8_t)(subtract ? al - 0x60 : al + 0x60);
		flags |= EFL_CF;
	}
	*ax = (uint16_t)((*ax & 0xFF00) | al);
	return flags | result_flags(al);
}

static uint32_t adjust_before_division(uint16_t *ax, uint8_t base)
{
	uint8_t left = (uint8_t)*ax, right = (uint8_t)((*ax >> 8) * base), sum = (uint8_t)(left + right);
	*ax = sum;
	return result_flags(sum) | (sum < left ? EFL_CF : 0) | ((left ^ right ^ sum) & EFL_AF) |
	       ((left ^ sum) & (right ^ sum) & 0x80 ? EFL_OF : 0);
}

static uint32_t adjust_after_multiplication(uint16_t *ax, uint8_t base)
{
	uint8_t al = (uint8_t)*ax;
	*ax = (uint16_t)(al / base << 8 | al % base);
	return result_flags((uint8_t)*ax);
}

enum callout_result callout_bcd(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)arg;
	uint16_t ax = (uint16_t)v->gpr[EAX];
	switch (extra) {
	case 0x27: v->flags = decimal_adjust(v, &ax, false); break;
	case 0x2F: v->flags = decimal_adjust(v, &ax, true); break;
	case 0x37: v->flags = ascii_adjust(v, &ax, 0x106); break;
	case 0x3F: v->flags = ascii_adjust(v, &ax, -0x106u); break;
	case 0xD5: v->flags = adjust_before_division(&ax, (uint8_t)ea); break;
	default: /* D4h */
		if (!(uint8_t)ea) return cpu_raise(v, VEC_DE);
		v->flags = adjust_after_multiplication(&ax, (uint8_t)ea);
	}
	memcpy(&v->gpr[EAX], &ax, sizeof ax);
	return CALLOUT_NEXT;
}
