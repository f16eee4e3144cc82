/* Stacks as gates and far transfers use them: frames written whole or not at all, and the inner stacks of the TSS. */
#include <string.h>

#include "base/abi.h"
#include "runtime/cpu_private.h"

/* Stack accesses at CPL 3 are subject to alignment checking as any others. */
static bool misaligned(const struct vcpu *v, gva_t gva, unsigned size)
{
	return (v->mode & MODE_AC) && (gva & ((1u << size) - 1));
}

static uint32_t stack_mask(const struct segment *ss)
{
	return ss->ar & AR_DB ? 0xFFFFFFFFu : 0xFFFFu;
}

/* Data breakpoints on `count` words from `at`, which may wrap. */
static void watch_stack(struct vcpu *v, const struct segment *ss, uint32_t at, unsigned count, unsigned size, bool write)
{
	for (unsigned i = 0; (v->mode & MODE_DR7) && i < count; i++) cpu_watch(v, ss->base + ((at + (i << size)) & stack_mask(ss)), 1u << size, write);
}

/* Word by word, for a frame that wraps at the end of its stack. */
static bool push_wrapping(struct vcpu *v, const struct segment *ss, uint32_t esp, const uint32_t *words, unsigned count, unsigned size,
	unsigned access)
{
	uint32_t bytes = 1u << size;
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < count; i++) {
			gva_t gva = ss->base + ((esp - (i + 1) * bytes) & stack_mask(ss));
			bool ok = pass == 0 ? memory_probe_write(v, gva, bytes, access) : memory_write(v, gva, &words[i], bytes, access);
			if (!ok) return false;
		}
	}
	return true;
}

/* Does a frame of `total` bytes go over the end of its stack? */
static bool push_wraps(const struct segment *ss, uint32_t esp, uint32_t total)
{
	uint32_t top = esp & stack_mask(ss), bottom = (top - total) & stack_mask(ss);
	return bottom + total != top && top != 0;
}

bool cpu_stack_room(struct vcpu *v, const struct segment *ss, uint32_t esp, unsigned count, unsigned size, uint32_t error)
{
	uint32_t total = count << size;
	/* Word by word where it wraps. */
	uint32_t step = push_wraps(ss, esp, total) ? 1u << size : total;
	for (uint32_t done = step; done <= total; done += step)
		if (!cpu_within_limit(ss, (esp - done) & stack_mask(ss), step)) return cpu_fail(v, VEC_SS, error);
	return true;
}

/* The frame as it will lie in memory: the last word pushed comes first. */
static void lay_out_frame(uint8_t *frame, const uint32_t *words, unsigned count, unsigned size)
{
	for (unsigned i = 0; i < count; i++) {
		uint32_t word = words[count - 1 - i];
		if (size == 2) memcpy(frame + 4 * i, &word, 4);
		else memcpy(frame + 2 * i, &word, 2);
	}
}

/* The frame did not fit: the fault is that of the first word pushed that meets one, which is not the lowest. */
static bool fail_push(struct vcpu *v, const struct segment *ss, uint32_t top, unsigned count, unsigned size, unsigned access)
{
	for (unsigned i = 1; i <= count; i++)
		if (!memory_probe_write(v, ss->base + ((top - (i << size)) & stack_mask(ss)), 1u << size, access)) return false;
	return false;
}

bool cpu_push_frame(struct vcpu *v, const struct segment *ss, uint32_t *esp, const uint32_t *words, unsigned count, unsigned size,
	unsigned access)
{
	uint32_t total = count << size;
	uint32_t top = *esp & stack_mask(ss);
	uint32_t bottom = (top - total) & stack_mask(ss);
	bool wraps = push_wraps(ss, *esp, total);
	if ((access & ACCESS_USER) && misaligned(v, ss->base + bottom, size)) return cpu_fail(v, VEC_AC, 0);
	watch_stack(v, ss, top - total, count, size, true);
	uint8_t frame[CPU_PUSH_MAX * 4];
	lay_out_frame(frame, words, count, size);
	bool ok = wraps ? push_wrapping(v, ss, top, words, count, size, access | ACCESS_WRITE)
			: memory_write(v, ss->base + bottom, frame, total, access | ACCESS_WRITE);
	if (!ok) return fail_push(v, ss, top, count, size, access | ACCESS_WRITE);
	*esp = cpu_stack_add(ss, *esp, -total);
	return true;
}

bool cpu_push(struct vcpu *v, const struct segment *ss, uint32_t *esp, const uint32_t *words, unsigned count, unsigned size,
	unsigned access, uint32_t error)
{
	return cpu_stack_room(v, ss, *esp, count, size, error) && cpu_push_frame(v, ss, esp, words, count, size, access);
}

bool cpu_read_stack(struct vcpu *v, uint32_t skip, uint32_t *words, unsigned count, unsigned size)
{
	const struct segment *ss = &v->seg[SEG_SS];
	uint32_t bytes = 1u << size;
	uint32_t total = count << size;
	uint32_t at = (v->gpr[ESP] + skip) & stack_mask(ss);
	if (!count) return true;
	if (misaligned(v, ss->base + at, size)) return cpu_fail(v, VEC_AC, 0);
	watch_stack(v, ss, at, count, size, false);
	if (size == 2 && at + total - 1 >= at && at + total - 1 <= stack_mask(ss)) {
		if (!cpu_within_limit(ss, at, total)) return cpu_fail(v, VEC_SS, 0);
		return memory_read(v, ss->base + at, words, total, ACCESS_READ | memory_user(v));
	}
	for (unsigned i = 0; i < count; i++) {
		uint32_t offset = (at + i * bytes) & stack_mask(ss);
		words[i] = 0;
		if (!cpu_within_limit(ss, offset, bytes)) return cpu_fail(v, VEC_SS, 0);
		if (!memory_read(v, ss->base + offset, &words[i], bytes, ACCESS_READ | memory_user(v))) return false;
	}
	return true;
}

/* The pointer's two fields in a 32-bit and a 16-bit TSS (vol. 3, 7.2.1 and 7.6). */
static bool read_tss_pointer(struct vcpu *v, unsigned cpl, uint32_t ext, uint16_t *ss, uint32_t *esp)
{
	bool wide = (v->tr.ar & AR_TYPE) == SYS_TSS32_BUSY;
	uint32_t at = wide ? 8 * cpl + 4 : 4 * cpl + 2;
	uint32_t words[2] = { 0 };
	uint32_t bytes = wide ? 6 : 4;
	if (at + bytes - 1 > v->tr.limit) return cpu_fail(v, VEC_TS, (v->tr.selector & ~SELECTOR_RPL) | ext);
	if (!memory_read(v, v->tr.base + at, words, bytes, ACCESS_READ)) return false;
	*esp = wide ? words[0] : words[0] & 0xFFFFu;
	*ss = (uint16_t)(wide ? words[1] : words[0] >> 16);
	return true;
}

bool cpu_inner_stack(struct vcpu *v, unsigned cpl, uint32_t ext, struct segment *ss, uint32_t *esp)
{
	uint16_t selector = 0;
	if (!read_tss_pointer(v, cpl, ext, &selector, esp)) return false;
	return cpu_check_stack(v, selector, cpl, VEC_TS, ext, ss);
}
