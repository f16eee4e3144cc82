/* The descriptors of a case's LDT: based, limited, expand-down, read-only, execute-only; and those of real mode and V86, whose number and base go
 * by their selector. The native side sets the same with modify_ldt(). */
#include "diff.h"

#include "base/x86.h"

#define DATA (AR_WRITABLE | AR_ACCESSED)
#define READ_ONLY AR_ACCESSED
#define DOWN (AR_WRITABLE | AR_EXPAND_DOWN | AR_ACCESSED)
#define CODE (AR_CODE | AR_READABLE | AR_ACCESSED)
#define HIDDEN_CODE (AR_CODE | AR_ACCESSED)
#define ALL 0xFFFFFFFFu

/* Limits above 1 MiB end in FFF: they count pages. */
static const struct diff_segment segments[] = {
	{"data, base", DATA_BASE - 0x100, ALL, DATA, true},
	{"data, base that wraps", 0xFFFFF800, ALL, DATA, true},
	{"data, exact limit", DATA_BASE, DATA_SIZE - 1, DATA, true},
	{"data, limit in the middle", DATA_BASE, DATA_SIZE / 2 + 2, DATA, true},
	{"data, limit in pages", 0, (DATA_MIDDLE - 1) | 0xFFF, DATA, true},
	{"data, 64 KiB that end in the middle", DATA_MIDDLE - 0x10000, 0xFFFF, DATA, true},
	{"data, read-only", 0, ALL, READ_ONLY, true},
	{"data, read-only, base and limit", DATA_BASE - 0x800, DATA_SIZE, READ_ONLY, true},
	{"data, expand-down", DATA_BASE - 0x1000, 0x17FF, DOWN, true},
	{"data, expand-down, flat but for the first bytes", 0, DATA_MIDDLE - 1, DOWN, true},
	{"data, expand-down, 64 KiB", DATA_BASE - 0x1000, 0x17FF, DOWN, false},
	{"data, base over the end", EDGE_BASE - 0x8000, 0x8FFF, DATA, true},
	{"code that can be read", 0, ALL, CODE, true},
	{"code with base", CODE_BASE - 0x10000, ALL, CODE, true},
	{"code that can only run", 0, ALL, HIDDEN_CODE, true},
	{"code, limit within the first page", CODE_BASE - 0x1000, 0x1FFF, HIDDEN_CODE, true},
	{"code, base and limit", CODE_BASE - 0x10000, 0x11FFF, CODE, true},
	{"16-bit code", CODE_BASE, 0xFFFF, CODE, false},
	{"16-bit code, limit in the first page", CODE_BASE - 0x100, 0x8FF, HIDDEN_CODE, false},
	{"16-bit code, 64 KiB that end with it", DATA_BASE - 0x10000, 0xFFFF, CODE, false},
	{"16-bit stack", DATA_BASE - 0x100, 0xFFFF, DATA, false},
	{"16-bit stack, its top in the middle", DATA_MIDDLE - 0x10000, 0xFFFF, DATA, false},
	{"16-bit stack, limit in the middle", DATA_BASE, DATA_SIZE / 2 + 2, DATA, false},
	{"16-bit data, flat", 0, ALL, DATA, false},
	{"data, its first 64 KiB end in the middle", DATA_MIDDLE - 0x10000, ALL, DATA, true},
	{"16-bit stack without a limit, its top in the middle", DATA_MIDDLE - 0x10000, ALL, DATA, false},
};
#define SEGMENTS (sizeof(segments) / sizeof(*segments))

/* Selectors that an LDT may have: the low three bits set. */
static const struct low_segment {
	uint16_t selector;
	struct diff_segment s;
} low_segments[] = {
#define OF_MODE(selector, what, type) {selector, {what, LOW + (selector) * 16u, 0xFFFF, type, false}}
	OF_MODE(0x11F7, "1200h - 9h", DATA), OF_MODE(0x127F, "in the first page of data", DATA), OF_MODE(0x11CF, "in the code", DATA), OF_MODE(0x02FF, "64 KiB that end in the middle", DATA),
	OF_MODE(0x0357, "64 KiB that end in the second page", DATA), OF_MODE(0x12FF, "the middle", DATA), OF_MODE(0x0FFF, "code", CODE),
	OF_MODE(0x01FF, "code that ends with its pages", CODE), OF_MODE(0x0107, "code that ends in the second page", CODE),
	OF_MODE(0x00E7, "code that ends in the first page", CODE), OF_MODE(0x0F87, "code, and some before", CODE),
#undef OF_MODE
};
#define LOW_SEGMENTS (sizeof(low_segments) / sizeof(*low_segments))

unsigned diff_selector_count(enum diff_kind kind)
{
	return kind == KIND_PROTECTED ? SEGMENTS : LOW_SEGMENTS;
}

uint16_t diff_selector(enum diff_kind kind, unsigned i)
{
	return kind == KIND_PROTECTED ? (uint16_t)(i << 3 | 7) : low_segments[i].selector;
}

const struct diff_segment *diff_segment(uint16_t selector)
{
	static const struct diff_segment flat_data = {"flat data", 0, ALL, DATA, true}, flat_code = {"flat code", 0, ALL, CODE, true};

	for (unsigned i = 0; i < LOW_SEGMENTS; i++) {
		if (low_segments[i].selector == selector)
			return &low_segments[i].s;
	}
	if ((selector & 7) == 7 && selector >> 3 < SEGMENTS)
		return &segments[selector >> 3];
	return selector == CODE3 ? &flat_code : &flat_data;
}

uint64_t diff_descriptor(const struct diff_segment *s)
{
	bool pages = s->limit > 0xFFFFF;
	uint32_t limit = pages ? s->limit >> 12 : s->limit;
	uint32_t low = (limit & 0xFFFF) | s->base << 16;
	uint32_t high = (s->base >> 16 & 0xFF) | (0xF0u | s->type) << 8 | (limit & 0xF0000) | (s->base & 0xFF000000) | (s->big ? 1u << 22 : 0) |
			(pages ? 1u << 23 : 0);

	return (uint64_t)high << 32 | low;
}

bool diff_is_flat(const struct diff_state *s)
{
	for (unsigned i = 0; i < DIFF_SEGMENTS; i++) {
		if (s->seg[i] != CODE3 && s->seg[i] != DATA3)
			return false;
	}
	return true;
}
