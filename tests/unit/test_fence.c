/* The check of the host's memory around the guest must be able to fail: every kind of damage is done here on purpose. */
#include <string.h>
#include <sys/mman.h>

#include "runtime/fence.h"
#include "tests/shim/test.h"

#define SIZE KIB(8)

static struct fences patterned(void) { return (struct fences){ .patterned = true }; }

TEST(fence, an_untouched_piece_is_clean)
{
	struct fences f = patterned();
	uint8_t *p = fences_alloc(&f, SIZE, PROT_READ | PROT_WRITE);
	REQUIRE(p);
	for (size_t i = 0; i < SIZE; i++) CHECK_EQ(p[i], 0);
	memset(p, 0xFF, SIZE);
	CHECK(!fences_find_change(&f));
	fences_free(&f, p, SIZE);
	CHECK(!fences_find_change(&f));
	CHECK_EQ(f.count, 0);
	fences_destroy(&f);
}

static void find_stray_write(long offset, uint8_t flip)
{
	struct fences f = patterned();
	uint8_t *other = fences_alloc(&f, SIZE, PROT_NONE), *p = fences_alloc(&f, SIZE, PROT_READ | PROT_WRITE);
	REQUIRE(other && p);
	p[offset] ^= flip;
	CHECK_EQ((uintptr_t)fences_find_change(&f), (uintptr_t)(p + offset));
	p[offset] ^= flip;
	CHECK(!fences_find_change(&f));
	fences_free(&f, p, SIZE);
	fences_free(&f, other, SIZE);
	fences_destroy(&f);
}

TEST(fence, each_stray_write_is_found)
{
	static const long offsets[] = { -1, -2, -8, -(long)FENCE_SIZE, SIZE, SIZE + 1, SIZE + 4095, SIZE + FENCE_SIZE - 1 };
	for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
		find_stray_write(offsets[i], 1);
		find_stray_write(offsets[i], 0x80);
	}
}

/* A piece of pattern that was moved is as wrong as anything else. */
TEST(fence, a_copy_of_the_pattern_is_found)
{
	struct fences f = patterned();
	uint8_t *p = fences_alloc(&f, SIZE, PROT_READ | PROT_WRITE);
	REQUIRE(p);
	memcpy(p + SIZE + 64, p + SIZE + 128, 64);
	CHECK_EQ((uintptr_t)fences_find_change(&f) & ~7, (uintptr_t)(p + SIZE + 64));
	fences_free(&f, p, SIZE);
	fences_destroy(&f);
}

/* --- mappings --- */

static const struct span spans[] = {
	{ SPAN_NOTHING, 0x10000, 0x100100000 },
	{ SPAN_RAM, 0x7f0000010000, 0x7f0002010000 },
	{ SPAN_CODE, 0x550000000000, 0x550004000000 },
	{ SPAN_NOTHING, 0x7e0000000000, 0x7e0080000000 },
	{ SPAN_WINDOW, 0x7e0080000000, 0x7e0180000000 },
	{ SPAN_NOTHING, 0x7e0180000000, 0x7e0200000000 },
};

#define GOOD_LINES \
	"00010000-100100000 ---p 00000000 00:00 0 \n" \
	"550000000000-550004000000 r-xs 00000000 00:01 12                         /dev/zero (deleted)\n" \
	"555555554000-555555580000 r-xp 00000000 08:01 77                         /usr/bin/bt-vmm\n" \
	"555555580000-5555555a0000 rw-p 00000000 00:00 0                          [heap]\n" \
	"7e0000000000-7e0080010000 ---p 00000000 00:00 0 \n" \
	"7e0080010000-7e0080020000 rw-s 00003000 00:01 13                         /memfd:guest-ram (deleted)\n" \
	"7e0080020000-7e0200000000 ---p 00000000 00:00 0 \n" \
	"7f0000010000-7f0002010000 rw-s 00000000 00:01 13                         /memfd:guest-ram (deleted)\n" \
	"7ffff0000000-7ffff0001000 r-xp 00000000 00:00 0                          [vdso]\n"

static const char *check_text(const char *text, unsigned most)
{
	static char why[640];
	char copy[4096];
	struct layout l = { .spans = spans, .count = ARRAY_LEN(spans), .most_mappings = most };
	snprintf(copy, sizeof(copy), "%s", text);
	FILE *maps = fmemopen(copy, strlen(copy), "r");
	const char *wrong = layout_check(&l, maps, why, sizeof(why));
	fclose(maps);
	return wrong;
}

TEST(layout, a_good_one)
{
	const char *wrong = check_text(GOOD_LINES, 9);
	if (wrong) FAIL("%s", wrong);
}

TEST(layout, damage_is_found)
{
	static const struct {
		const char *line, *why;
	} cases[] = {
		{ "7d0000000000-7d0000001000 rwxp 00000000 00:00 0 \n", "written and executed" },
		{ "7d0000000000-7d0000001000 r-xp 00000000 00:00 0 \n", "without a file" },
		{ "7d0000000000-7d0000001000 rw-s 00000000 00:01 13 /memfd:guest-ram (deleted)\n", "outside of the windows" },
		{ "7f000200f000-7f0002011000 rw-s 00000000 00:01 13 /memfd:guest-ram (deleted)\n", "outside of the windows" },
		{ "7e0080000000-7e0080001000 r-xs 00000000 00:01 13 /memfd:guest-ram (deleted)\n", "executed by the host" },
		{ "7e007ffff000-7e0080001000 rw-s 00000000 00:01 13 /memfd:guest-ram (deleted)\n", "nothing may be" },
		{ "7e0180000000-7e0180001000 r--s 00000000 00:01 13 /memfd:guest-ram (deleted)\n", "nothing may be" },
		{ "7e0090000000-7e0090001000 rw-p 00000000 00:00 0 \n", "no guest memory" },
		{ "7e0090000000-7e0090001000 r--p 00000000 08:01 9 /etc/passwd\n", "no guest memory" },
		{ "7e0090000000-7e0090001000 rw-s 00000000 00:01 9 /memfd:guest-ramp (deleted)\n", "no guest memory" },
		{ "00400000-00401000 r--p 00000000 08:01 9 /bin/low\n", "nothing may be" },
		{ "100000000-100001000 rw-p 00000000 00:00 0 \n", "nothing may be" },
		{ "7d0000000000-7d0000001000 r-xs 00000000 00:01 12 /dev/zero (deleted)\n", "outside of code memory" },
		{ "rubbish\n", "cannot be read" },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[4096];
		snprintf(text, sizeof(text), "%s%s", GOOD_LINES, cases[i].line);
		const char *wrong = check_text(text, 100);
		if (!wrong || !strstr(wrong, cases[i].why)) FAIL("%s is taken for: %s", cases[i].line, wrong ? wrong : "good");
	}
}

TEST(layout, too_many_mappings_are_found)
{
	const char *wrong = check_text(GOOD_LINES, 8);
	CHECK(wrong && strstr(wrong, "9 mappings"));
	CHECK(check_text("", 8));
}
