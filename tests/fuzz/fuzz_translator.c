/* Guest bytes in any mode become host code that host_code.h finds nothing wrong with. The input begins with what struct head says. */
#include <errno.h>

#include "fuzz.h"
#include "tests/unit/host_code.h"
#include "tests/unit/translator_fixture.h"

struct head {
	uint32_t mode, eip, cs_base, cs_end;
	uint8_t instructions, flags;
	uint16_t capacity;
} __attribute__((packed));
#define FLAG_BASIC_BLOCKS 1
#define FLAG_SECOND_PAGE 2
#define FLAG_SOFT_BITS 4
#define FLAG_CAPACITY 8
#define FLAG_JOINS 32
#define FLAG_KNOWN 64
#define FLAG_CHECK 128
#define FLAG_FEATURES 16 /* some of them are not shown: which, the capacity says */

/* What no caller does is left out. */
static struct translator_input input_of(const struct head *h, const uint8_t *bytes, size_t size)
{
	static uint8_t soft_bits[PAGE_SIZE / 8];
	struct translator_input in = fixture_input(bytes, (uint32_t)size, h->mode & MODE_THUNK ? h->mode | MODE_SOFT : h->mode);

	memset(soft_bits, 0x55, sizeof(soft_bits));
	in.eip = h->eip;
	in.cs_base = MODE_SEG(in.mode, SEG_CS) == MODE_SEG_FLAT ? 0 : h->cs_base;
	in.cs_end = MODE_SEG(in.mode, SEG_CS) < MODE_SEG_GENERAL ? 0 : h->cs_end;
	in.max_instructions = h->instructions % (TRANSLATOR_MAX_INSTRUCTIONS + 1);
	in.check = h->flags & FLAG_CHECK;
	in.gfn = h->eip >> PAGE_SHIFT;
	in.joins = h->flags & FLAG_JOINS;
	in.known_bits = h->flags & FLAG_KNOWN ? soft_bits : NULL;
	in.basic_blocks = h->flags & FLAG_BASIC_BLOCKS;
	in.gfn2 = h->flags & FLAG_SECOND_PAGE ? h->eip >> PAGE_SHIFT : GFN_NONE;
	in.soft_bits = h->flags & FLAG_SOFT_BITS ? soft_bits : NULL;
	if (h->flags & FLAG_FEATURES) in.features &= fixture_random(&(uint64_t){1u + h->capacity});
	if (h->flags & FLAG_CAPACITY) in.capacity = h->capacity % TRANSLATOR_MAX_BYTES;
	return in;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct host_code checked;
	struct head h;

	if (size <= sizeof(h) || size > sizeof(h) + PAGE_SIZE) return 0;
	memcpy(&h, data, sizeof(h));
	struct translator_input in = input_of(&h, data + sizeof(h), size - sizeof(h));
	memset(in.code + in.capacity, FIXTURE_CANARY, 8);
	int error = translator_translate(&in, &fixture_out);
	for (unsigned i = 0; i < 8; i++)
		if (in.code[in.capacity + i] != FIXTURE_CANARY) fuzz_finding("a write behind the buffer");
	if (error == -ENODATA || error == -ENOSPC) return 0;
	if (error) fuzz_finding("an unexpected error, %d", error);
	if (fixture_out.guest_length > in.length) fuzz_finding("a dependency on bytes that were not given");
	const char *wrong = host_check(&checked, &in, &fixture_out);
	if (wrong) fuzz_finding("%s at host offset %u; mode %08x, eip %08x", wrong, checked.wrong_at, in.mode, in.eip);
	return 0;
}
