/* The cache, one promise at a time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache_fixture.h"

/* Two slots, as of a conditional branch. */
static const struct link_slot two_slots[2] = {
	{.rel32_offset = 8, .target = 0x1000},
	{.rel32_offset = 20, .target = 0x2000},
};
static const struct side_row three_rows[3] = {{0, UNDO_NONE, 0, 0, 0x10}, {8, UNDO_RCX, ROW_WRITE, 0, 0x12}, {40, UNDO_NONE, 0, 0, 0x20}};

static struct block *commit(struct cache *c, gva_t gva, gpa_t gpa, uint32_t length, gfn_t gfn2)
{
	struct cache_space space;
	if (!CHECK_EQ(cache_reserve(c, 256, 2, &space), 0)) return NULL;
	struct link_slot slots[2];
	struct side_row rows[3];
	memcpy(slots, two_slots, sizeof slots);
	memcpy(rows, three_rows, sizeof rows);
	memset(space.write, 0x90, 64);
	struct block what = {.gva = gva, .eip = gva, .gpa = gpa, .gfn2 = gfn2, .guest_length = length, .mode = 3, .instructions = 2, .body = 4,
	                     .row_count = 3, .slot_count = 2, .slots = slots};
	struct block *b = cache_commit(c, &what, rows, 64);
	CHECK_STR(cache_check(c), NULL);
	return b;
}

TEST(cache, refuses_bad_configurations)
{
	struct cache *c = NULL;
	struct cache_config config = {.size = 4 * PAGE_SIZE, .regions = 1};
	CHECK_EQ(cache_create(&c, &config), -EINVAL);
	config.regions = 3;
	CHECK_EQ(cache_create(&c, &config), -EINVAL);
	config.size = 0;
	CHECK_EQ(cache_create(&c, &config), -EINVAL);
	CHECK(!c);
}

/* A block of four instructions, one byte each, at gva; it may be entered at its second, host offset 16. */
static struct block *commit_enterable(struct cache *c, gva_t gva, gpa_t gpa)
{
	struct cache_space space;
	if (!CHECK_EQ(cache_reserve(c, 256, 0, &space), 0)) return NULL;
	const struct side_row rows[] = {{0, UNDO_NONE, 0, 0, gva}, {16, UNDO_ENTRY, 0, 0, gva + 1}, {32, UNDO_NONE, 0, 0, gva + 2}};
	struct block what = {.gva = gva, .eip = gva, .gpa = gpa, .gfn2 = GFN_NONE, .guest_length = 4, .mode = 3, .instructions = 4, .row_count = 3};
	return cache_commit(c, &what, rows, 64);
}

static struct block *find_entry(struct cache *c, gva_t gva, gfn_t gfn, uint32_t mode)
{
	uint32_t entry = 0;
	struct block *b = cache_find_entry(c, &(struct block){.gva = gva, .eip = gva, .gpa = (gpa_t)gfn << 12 | (gva & PAGE_MASK), .mode = mode}, &entry);
	CHECK_EQ(entry, b ? 16u : 0u);
	return b;
}

TEST(cache, blocks_are_entered_where_their_rows_say)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct block *b = commit_enterable(c, 0x1100, 0x5100), *from = commit(c, 0x1200, 0x5200, 4, GFN_NONE);
	CHECK(find_entry(c, 0x1101, 5, 3) == b);
	CHECK(!find_entry(c, 0x1102, 5, 3)); /* an instruction, but no entry */
	CHECK(!find_entry(c, 0x1101, 5, 4)); /* another mode */
	CHECK(!find_entry(c, 0x2101, 5, 3)); /* the frame at another address */
	CHECK(!find_entry(c, 0x1101, 6, 3)); /* another frame */
	from->slots[0].target = 0x1101;
	cache_link(c, from, 0, b, 16);
	CHECK_EQ(target(from, 0), b->host_pc + 16);
	CHECK_STR(cache_check(c), NULL);
	CHECK_EQ(cache_invalidate(c, 0x5103, 1), 1u);
	CHECK_EQ(target(from, 0), cache_exit_stub(from, 0));
	CHECK(!find_entry(c, 0x1101, 5, 3));
	cache_destroy(c);
}

static uint32_t entry_of(struct cache *c, gva_t gva)
{
	uint32_t entry = 0;
	return cache_find_entry(c, &(struct block){.gva = gva, .eip = gva, .gpa = gva, .mode = 3}, &entry) ? entry : 0;
}

#define LONG 400u /* guest bytes */
#define LONG_ROWS 160u

/* With other rows between them, and those of two that say the same the first. */
TEST(cache, each_entry_of_a_long_block_is_found)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	struct cache_space space;
	uint64_t state = 7;
	REQUIRE(c);
	for (unsigned round = 0; round < 200; round++) {
		uint32_t expected[LONG] = {0}, at = 0, offset = 0, count = 0, entries = 0;
		gva_t gva = 0x1000 + (uint32_t)(state >> 40) % 64;
		struct side_row rows[LONG_ROWS];
		while (count + 3 < LONG_ROWS && offset < 3000) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			uint32_t draw = (uint32_t)(state >> 33);
			offset += 1 + (draw % 4 ? draw / 4 % 14 : draw / 4 % 300);
			at += 1 + draw / 2048 % 12;
			if (at >= LONG) break;
			bool entry = draw >> 24 & 3 && entries < 60;
			rows[count++] = (struct side_row){(uint16_t)offset, entry ? UNDO_ENTRY : UNDO_NONE, draw >> 26 & 1 ? ROW_READ : 0, 0, gva + at};
			if (entry) expected[at] = offset, entries++;
			if (draw >> 27 & 1) rows[count++] = (struct side_row){(uint16_t)++offset, draw >> 28 & 1 ? UNDO_ENTRY : UNDO_RCX, ROW_WRITE, -4, gva + at};
			if (!entry && (draw >> 27 & 3) == 3) expected[at] = offset, entries++;
		}
		struct block what = {.gva = gva, .eip = gva, .gpa = gva, .gfn2 = GFN_NONE, .guest_length = LONG, .mode = 3, .instructions = 64, .row_count = count};
		CHECK_EQ(cache_reserve(c, 4000, 0, &space), 0);
		cache_commit(c, &what, rows, 4000);
		CHECK_STR(cache_check(c), NULL);
		for (uint32_t i = 0; i < LONG; i++) CHECK_EQ(entry_of(c, gva + i), expected[i]);
		CHECK_EQ(cache_invalidate(c, gva, LONG), 1u);
	}
	cache_destroy(c);
}

/* It is entered at its beginning alone, and nobody ends before it or is led to its middle. */
TEST(cache, a_block_aside_is_not_entered_in_the_middle)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	struct cache_space space;
	REQUIRE(c);
	const struct side_row rows[] = {{0, UNDO_ENTRY, 0, 0, 0x1100}, {16, UNDO_ENTRY, 0, 0, 0x1101}};
	struct block what = {.gva = 0x1100, .eip = 0x1100, .gpa = 0x5100, .gfn2 = GFN_NONE, .guest_length = 4, .mode = 3, .instructions = 4, .row_count = 2, .aside = true};
	for (unsigned before = 0; before < 2; before++) {
		if (before) CHECK(!find_entry(c, 0x1101, 5, 3)); /* someone has asked */
		CHECK_EQ(cache_reserve(c, 64, 0, &space), 0);
		struct block *b = cache_commit(c, &what, rows, 64);
		CHECK(cache_lookup(c, &what) == b);
		CHECK(!find_entry(c, 0x1101, 5, 3));
		const uint8_t *bits = cache_entries(c, &what);
		for (unsigned i = 0; i < PAGE_SIZE / 8; i++) CHECK_EQ(bits[i], 0);
	}
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

static bool entries_are(struct cache *c, uint32_t mode, const uint8_t *expected)
{
	const uint8_t *bits = cache_entries(c, &(struct block){.gva = 0x10F0, .eip = 0x10F0, .gpa = 0x50F0, .mode = mode});
	return bits && expected ? !memcmp(bits, expected, PAGE_SIZE / 8) : bits == expected;
}

TEST(cache, entries_of_a_page_are_known)
{
	static const uint8_t none[PAGE_SIZE / 8], some[PAGE_SIZE / 8] = {[0x100 / 8] = 2, [0x200 / 8] = 0x80, [0x308 / 8] = 1},
			     more[PAGE_SIZE / 8] = {[0x80 / 8] = 2, [0x100 / 8] = 2, [0x200 / 8] = 0x80, [0x308 / 8] = 1};
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	CHECK(entries_are(c, 3, NULL));
	commit_enterable(c, 0x1100, 0x5100);
	commit_enterable(c, 0x1206, 0x5206);
	commit_enterable(c, 0x1307, 0x5307); /* its entry is in the next byte of bits */
	commit_enterable(c, 0x2110, 0x5110); /* of the frame at another address */
	CHECK(entries_are(c, 3, some));
	commit_enterable(c, 0x1080, 0x5080);
	CHECK(entries_are(c, 3, more));
	CHECK(entries_are(c, 4, none));
	CHECK(entries_are(c, 3, more));
	CHECK_EQ(cache_invalidate(c, 0x5080, 1), 1u);
	CHECK(entries_are(c, 3, some));
	CHECK_EQ(cache_invalidate(c, 0x5000, PAGE_SIZE), 4u);
	CHECK(entries_are(c, 3, NULL));
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

/* A frame knows its latest blocks by heart, and says so; older ones are found all the same, and dead ones are not. */
TEST(cache, frames_with_many_blocks_know_the_latest)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	for (uint32_t i = 0; i < 100; i++) {
		commit_enterable(c, 0x1000 + 16 * i, 0x5000 + 16 * i);
		CHECK(i % 7 || find_entry(c, 0x1001 + 16 * i, 5, 3));
		CHECK_STR(cache_check(c), NULL);
	}
	for (uint32_t i = 0; i < 100; i++) CHECK(find(c, 0x1000 + 16 * i, 5, 3) && !find(c, 0x1001 + 16 * i, 5, 3));
	CHECK(!find_entry(c, 0x1001, 5, 3) && find_entry(c, 0x1001 + 16 * 99, 5, 3));
	CHECK_EQ(cache_invalidate(c, 0x5000 + 16 * 98, 16), 1u);
	CHECK(!find(c, 0x1000 + 16 * 98, 5, 3) && !find_entry(c, 0x1001 + 16 * 98, 5, 3) && find(c, 0x1000 + 16 * 97, 5, 3));
	CHECK_STR(cache_check(c), NULL);
	struct block *b = commit_enterable(c, 0x1000 + 16 * 98, 0x5000 + 16 * 98);
	CHECK(find(c, 0x1000 + 16 * 98, 5, 3) == b && find_entry(c, 0x1001 + 16 * 98, 5, 3) == b);
	CHECK(find_entry(c, 0x9001, 5, 3) == NULL && find(c, 0x1000, 5, 3)); /* another context is asked for, and the first again */
	CHECK(find_entry(c, 0x1001 + 16 * 50, 5, 3));
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

TEST(cache, code_lies_in_reach_and_runs)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct cache_space space;
	CHECK_EQ(cache_reserve(c, 16, 0, &space), 0);
	int64_t distance = (int64_t)(space.exec - (host_pc_t)(uintptr_t)anchor);
	CHECK(distance < INT32_MAX && distance > INT32_MIN);
	CHECK(cache_contains(c, space.exec));
	CHECK(!cache_contains(c, space.exec + 4 * PAGE_SIZE));
	CHECK(!cache_contains(c, space.exec - 1));
	memcpy(space.write, (const uint8_t[]){0xB8, 7, 0, 0, 0, 0xC3}, 6); /* mov eax, 7; ret */
	struct block *thunk = cache_commit(c, &(struct block){.gfn2 = GFN_NONE}, NULL, 6);
	CHECK_EQ(thunk->host_pc, space.exec);
	int (*run)(void);
	memcpy(&run, &thunk->host_pc, sizeof run);
	CHECK_EQ(run(), 7);
	cache_destroy(c);
}

TEST(cache, commit_keeps_what_it_is_given)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct block *b = commit(c, 0xC0001000, 0x1000, 10, GFN_NONE);
	CHECK(find(c, 0xC0001000, 1, 3) == b);
	CHECK(!find(c, 0xC0001001, 1, 3));
	CHECK(!find(c, 0xC0001000, 2, 3));
	CHECK(!find(c, 0xC0001000, 1, 2));
	CHECK(!b->dead);
	CHECK_EQ(b->eip, 0xC0001000);
	CHECK_EQ(b->instructions, 2);
	CHECK_MEM(b->slots, two_slots, sizeof two_slots);
	check_rows(b, three_rows, 3);
	cache_destroy(c);
}

/* Through another CS base, or up to another limit, the same bytes are another block; both live. */
TEST(cache, identity_has_the_code_segment)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct block *flat = commit(c, 0x1000, 0x1000, 10, GFN_NONE);
	struct block what = *flat, *other[2];
	what.eip = 0x800;
	for (unsigned i = 0; i < 2; i++) {
		struct cache_space space;
		CHECK_EQ(cache_reserve(c, 256, 0, &space), 0);
		memset(space.write, 0x90, 64);
		what.row_count = what.slot_count = 0;
		other[i] = cache_commit(c, &what, NULL, 64);
		what.cs_end = 0x10000;
	}
	CHECK(!flat->dead && !other[0]->dead && !other[1]->dead);
	CHECK(cache_lookup(c, flat) == flat && cache_lookup(c, other[0]) == other[0] && cache_lookup(c, other[1]) == other[1]);
	CHECK_STR(cache_check(c), NULL);
	CHECK_EQ(cache_invalidate(c, 0x1004, 1), 3);
	cache_destroy(c);
}

TEST(cache, finds_rows_by_host_pc)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct block *b = commit(c, 0x1000, 0x1000, 10, GFN_NONE);
	host_pc_t pc = b->host_pc;
	CHECK(!cache_find_host(c, pc - 1));
	CHECK(cache_find_host(c, pc) == b);
	CHECK(cache_find_host(c, pc + 63) == b);
	CHECK(!cache_find_host(c, pc + 64));
	struct side_row row;
	const uint8_t expected[][2] = {{0, 0}, {7, 0}, {8, 1}, {39, 1}, {40, 2}, {63, 2}};
	for (unsigned i = 0; i < ARRAY_LEN(expected); i++)
		CHECK(cache_find_row(b, pc + expected[i][0], &row) && is_row(&row, &three_rows[expected[i][1]]));
	CHECK(!cache_find_row(b, pc + 64, &row));
	CHECK(!cache_find_row(b, pc - 1, &row));
	cache_destroy(c);
}

/* From the region's end down, a call each, whose return address tells which it was. */
TEST(cache, each_slot_has_an_exit_stub)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct block *a = commit(c, 0x1000, 0x1000, 10, GFN_NONE), *none = commit_enterable(c, 0x1100, 0x5100), *b = commit(c, 0x2000, 0x2000, 10, GFN_NONE);
	CHECK(none && b);
	const struct block *owners[] = {a, a, b, b};
	host_pc_t end = a->host_pc + 2 * PAGE_SIZE;
	for (unsigned i = 0; i < 4; i++) {
		host_pc_t stub = cache_exit_stub(owners[i], i % 2);
		CHECK_EQ(stub, end - 5 * (i + 1));
		CHECK_EQ(*(const uint8_t *)(uintptr_t)stub, 0xE8);
		CHECK_EQ(stub + 5 + (host_pc_t)(int32_t)get32(stub + 1), (host_pc_t)(uintptr_t)anchor + 1);
		CHECK_EQ(target(owners[i], i % 2), stub);
		struct side_row row;
		for (host_pc_t pc = stub; pc < stub + 5; pc++) {
			CHECK(cache_find_host(c, pc) == owners[i]);
			CHECK_EQ(cache_find_slot(owners[i], pc), (int)(i % 2));
			CHECK(cache_find_row(owners[i], pc, &row) && row.eip == two_slots[i % 2].target && row.undo == (owners[i]->eip == row.eip ? UNDO_DONE : UNDO_NONE));
		}
	}
	CHECK(!cache_find_host(c, end - 21));
	CHECK_EQ(cache_find_slot(a, end - 11), -1);
	CHECK_EQ(cache_find_slot(b, end - 10), -1);
	CHECK_EQ(cache_find_slot(a, a->host_pc), -1);
	cache_destroy(c);
}

/* Blocks and exit stubs share a region: what does not fit between them opens the next. */
TEST(cache, stubs_take_room_from_code)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct cache_space space;
	struct block *a = commit(c, 0x1000, 0x1000, 10, GFN_NONE);
	uint32_t room = 2 * PAGE_SIZE - 64 - 10;
	CHECK_EQ(cache_reserve(c, room, 0, &space), 0);
	CHECK_EQ(space.exec, a->host_pc + 64);
	cache_abort(c);
	CHECK_EQ(cache_reserve(c, room - 5, 1, &space), 0);
	CHECK_EQ(space.exec, a->host_pc + 64);
	cache_abort(c);
	CHECK_EQ(cache_reserve(c, room - 4, 1, &space), 0);
	CHECK_EQ(space.exec, a->host_pc + 2 * PAGE_SIZE);
	cache_abort(c);
	CHECK_EQ(cache_reserve(c, 2 * PAGE_SIZE - 4, 1, &space), -ENOMEM);
	cache_destroy(c);
}

/* Every distance between host PCs and between EIPs that takes another number of bytes, and every value of the other fields. */
TEST(cache, keeps_rows_of_every_kind)
{
	static const uint32_t distances[] = {0, 1, 14, 15, 16, 15 + 127, 15 + 128, 15 + 16383, 15 + 16384};
	static const uint32_t steps[] = {0, 1, 63, 64, 8191, 8192, 1u << 20, 1u << 27, 0x7FFFFFFF, 0x80000000};
	struct side_row rows[2 * ARRAY_LEN(distances) + 2 * ARRAY_LEN(steps) + 64], *row = rows;
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	struct cache_space space;
	REQUIRE(c);
	*row = (struct side_row){0};
	for (unsigned i = 0; i < ARRAY_LEN(distances); i++, row++) row[1] = (struct side_row){.host_offset = (uint16_t)(row->host_offset + distances[i])};
	for (unsigned i = 0; i < 2 * ARRAY_LEN(steps); i++, row++) row[1] = (struct side_row){.host_offset = row->host_offset, .eip = row->eip + (i & 1 ? -steps[i / 2] : steps[i / 2])};
	for (unsigned i = 0; i < 64; i++, row++)
		row[1] = (struct side_row){.host_offset = row->host_offset, .undo = i & 31, .access = i, .esp = (int)(i & 31) - 16, .eip = row->eip};
	uint32_t count = (uint32_t)(row + 1 - rows);
	CHECK_EQ(cache_reserve(c, 64, 0, &space), 0);
	struct block *b = cache_commit(c, &(struct block){.gva = 0x1000, .eip = 0x1000, .gpa = 0x1000, .gfn2 = GFN_NONE, .guest_length = 1, .row_count = count}, rows, 64);
	check_rows(b, rows, count);
	cache_destroy(c);
}

TEST(cache, abort_gives_the_space_back)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct cache_space first, second;
	CHECK_EQ(cache_reserve(c, 100, 0, &first), 0);
	cache_abort(c);
	CHECK_EQ(cache_reserve(c, 200, 0, &second), 0);
	CHECK_EQ(first.exec, second.exec);
	CHECK_EQ(second.size, 200);
	CHECK(!cache_find_host(c, first.exec));
	cache_abort(c);
	CHECK_EQ(cache_reserve(c, 2 * PAGE_SIZE + 1, 0, &first), -ENOMEM);
	CHECK_EQ(cache_reserve(c, 2 * PAGE_SIZE, 0, &first), 0);
	cache_destroy(c);
}

TEST(cache, links_patch_branches)
{
	struct seen seen;
	struct stats stats = {0};
	struct cache *c = make(&seen, &stats);
	REQUIRE(c);
	struct block *a = commit(c, 0x1000, 0x1000, 10, GFN_NONE), *b = commit(c, 0x2000, 0x7000, 10, GFN_NONE);
	CHECK_EQ(target(a, 0), cache_exit_stub(a, 0));
	cache_link(c, a, 0, b, b->checked);
	cache_link(c, a, 1, b, b->checked);
	CHECK_EQ(target(a, 0), b->host_pc);
	CHECK_EQ(target(a, 1), b->host_pc);
	CHECK_EQ(stats.links, 2);
	CHECK_STR(cache_check(c), NULL);
	struct block *d = commit(c, 0x3000, 0x9000, 10, GFN_NONE);
	cache_link(c, a, 1, d, d->checked); /* relinked */
	CHECK_EQ(target(a, 1), d->host_pc);
	CHECK_STR(cache_check(c), NULL);
	CHECK_EQ(cache_invalidate(c, 0x7000, 1), 1);
	CHECK_EQ(target(a, 0), cache_exit_stub(a, 0));
	CHECK_EQ(target(a, 1), d->host_pc);
	CHECK_EQ(stats.unlinks, 1);
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

TEST(cache, a_dead_block_stays_runnable_and_is_still_unlinked)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct block *a = commit(c, 0x1000, 0x1000, 10, GFN_NONE), *b = commit(c, 0x2000, 0x2000, 10, GFN_NONE);
	cache_link(c, a, 0, b, b->checked);
	CHECK_EQ(cache_invalidate(c, 0x1000, 1), 1);
	CHECK(a->dead);
	CHECK(!find(c, 0x1000, 1, 3));
	CHECK(cache_find_host(c, a->host_pc) == a);
	CHECK_EQ(target(a, 0), b->host_pc);
	cache_link(c, a, 1, b, b->checked); /* may come from its exit stub, too */
	CHECK_EQ(target(a, 1), b->host_pc);
	CHECK_EQ(cache_invalidate(c, 0x2000, 1), 1);
	CHECK_EQ(target(a, 0), cache_exit_stub(a, 0));
	CHECK_EQ(target(a, 1), cache_exit_stub(a, 1));
	cache_link(c, a, 0, b, b->checked); /* b is dead: refused */
	CHECK_EQ(target(a, 0), cache_exit_stub(a, 0));
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

TEST(cache, invalidates_by_byte)
{
	struct seen seen;
	struct stats stats = {0};
	struct cache *c = make(&seen, &stats);
	REQUIRE(c);
	struct block *a = commit(c, 0x1010, 0x1010, 16, GFN_NONE), *b = commit(c, 0x1020, 0x1020, 16, GFN_NONE);
	CHECK_EQ(cache_invalidate(c, 0x1000, 16), 0);
	CHECK_EQ(cache_invalidate(c, 0x1030, 0x2000), 0);
	CHECK_EQ(cache_invalidate(c, 0x101F, 1), 1);
	CHECK(a->dead && !b->dead);
	CHECK_EQ(seen.freed_count, 0);
	CHECK(cache_frame_has_code(c, 1));
	CHECK_EQ(cache_invalidate(c, 0x0FFF, 0x22), 1);
	CHECK_EQ(seen.freed_count, 1);
	CHECK_EQ(seen.freed[0], 1);
	CHECK_EQ(seen.dead_count, 2);
	CHECK(seen.dead[0] == a && seen.dead[1] == b);
	CHECK(!cache_frame_has_code(c, 1));
	CHECK_EQ(stats.blocks_invalidated, 2);
	cache_destroy(c);
}

TEST(cache, a_straddling_block_belongs_to_both_frames)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct block *a = commit(c, 0x1FF8, 0x1FF8, 16, 9);
	CHECK(cache_frame_has_code(c, 1) && cache_frame_has_code(c, 9) && !cache_frame_has_code(c, 2));
	CHECK_EQ(cache_invalidate(c, 0x2000, 64), 0);
	CHECK_EQ(cache_invalidate(c, 0x9008, 64), 0);
	CHECK_EQ(cache_invalidate(c, 0x9007, 1), 1);
	CHECK(a->dead);
	CHECK_EQ(seen.freed_count, 2);
	/* Two linear pages on one frame. */
	a = commit(c, 0x1FF8, 0x1FF8, 16, 1);
	CHECK_EQ(cache_invalidate(c, 0x1008, 0xFF0), 0);
	CHECK_EQ(cache_invalidate(c, 0x1007, 1), 1);
	CHECK(!cache_frame_has_code(c, 1));
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

TEST(cache, a_new_translation_supersedes_without_freeing_the_frame)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct block *from = commit(c, 0x5000, 0x5000, 4, GFN_NONE);
	struct block *old = commit(c, 0x1000, 0x1000, 10, GFN_NONE);
	cache_link(c, from, 0, old, old->checked);
	struct block *new = commit(c, 0x1000, 0x1000, 8, GFN_NONE);
	CHECK(old->dead && find(c, 0x1000, 1, 3) == new);
	CHECK_EQ(target(from, 0), cache_exit_stub(from, 0));
	CHECK_EQ(seen.freed_count, 0);
	CHECK_EQ(seen.dead_count, 1);
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

TEST(cache, evicts_the_oldest_region)
{
	struct seen seen;
	struct stats stats = {0};
	struct cache *c = make(&seen, &stats);
	REQUIRE(c);
	struct cache_space big;
	struct block *old = commit(c, 0x1000, 0x1000, 10, GFN_NONE);
	host_pc_t start = old->host_pc;
	CHECK_EQ(cache_reserve(c, 2 * PAGE_SIZE, 0, &big), 0); /* only the second region has that much */
	CHECK_EQ(big.exec, start + 2 * PAGE_SIZE);
	CHECK_EQ(seen.evicted_count, 0);
	cache_abort(c);
	struct block *kept = commit(c, 0x2000, 0x2000, 10, GFN_NONE);
	cache_link(c, kept, 0, old, old->checked);
	cache_link(c, old, 0, kept, kept->checked);
	CHECK_EQ(cache_reserve(c, 2 * PAGE_SIZE, 0, &big), 0);
	CHECK_EQ(big.exec, start);
	CHECK_EQ(seen.evicted_from, start);
	CHECK_EQ(seen.evicted_to, start + 2 * PAGE_SIZE);
	CHECK_EQ(seen.dead_count, 1);
	CHECK_EQ(seen.freed[0], 1);
	CHECK_EQ(target(kept, 0), cache_exit_stub(kept, 0));
	CHECK(!cache_find_host(c, start));
	CHECK(!find(c, 0x1000, 1, 3));
	CHECK_EQ(*(const uint8_t *)(uintptr_t)start, 0xCC);
	CHECK_EQ(stats.evictions, 1);
	CHECK_EQ(stats.blocks_evicted, 1);
	cache_abort(c);
	CHECK_EQ(cache_invalidate(c, 0x2000, 1), 1); /* no incoming link from the evicted block is left */
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

TEST(cache, flush_starts_from_the_first_region)
{
	struct seen seen;
	struct stats stats = {0};
	struct cache *c = make(&seen, &stats);
	REQUIRE(c);
	struct block *first = commit(c, 0x1000, 0x1000, 10, GFN_NONE);
	host_pc_t start = first->host_pc;
	struct cache_space space;
	CHECK_EQ(cache_reserve(c, 2 * PAGE_SIZE, 0, &space), 0);
	cache_abort(c);
	commit(c, 0x2000, 0x2000, 10, GFN_NONE);
	cache_flush(c);
	CHECK_EQ(seen.evicted_count, 2);
	CHECK_EQ(seen.freed_count, 2);
	CHECK_EQ(stats.cache_flushes, 1);
	CHECK(!find(c, 0x2000, 2, 3));
	CHECK_STR(cache_check(c), NULL);
	CHECK_EQ(commit(c, 0x1000, 0x1000, 10, GFN_NONE)->host_pc, start);
	cache_destroy(c);
}

TEST(cache, thunks_are_found_by_host_pc_alone)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct cache_space space;
	CHECK_EQ(cache_reserve(c, 32, 0, &space), 0);
	struct block *thunk = cache_commit(c, &(struct block){.gfn2 = GFN_NONE}, NULL, 32);
	CHECK(cache_find_host(c, space.exec + 31) == thunk);
	struct side_row row;
	CHECK(!cache_find_row(thunk, space.exec, &row));
	CHECK(!find(c, 0, 0, 0));
	CHECK(!cache_frame_has_code(c, 0));
	CHECK_STR(cache_check(c), NULL);
	cache_flush(c);
	CHECK_EQ(seen.dead_count, 0);
	CHECK(!cache_find_host(c, space.exec));
	cache_destroy(c);
}

static bool count_two(void *ctx, struct block *b)
{
	(void)b;
	return ++*(int *)ctx < 2;
}

TEST(cache, each_visits_live_blocks_until_told_to_stop)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	int count = 0;
	commit(c, 0x1000, 0x1000, 4, GFN_NONE);
	commit(c, 0x2000, 0x2000, 4, GFN_NONE);
	cache_invalidate(c, 0x1000, 1);
	cache_each(c, count_two, &count);
	CHECK_EQ(count, 1);
	commit(c, 0x3000, 0x3000, 4, GFN_NONE);
	commit(c, 0x4000, 0x4000, 4, GFN_NONE);
	count = 0;
	cache_each(c, count_two, &count);
	CHECK_EQ(count, 2);
	cache_destroy(c);
}

TEST(cache, check_sees_a_branch_that_was_tampered_with)
{
	struct seen seen;
	struct cache *c = make(&seen, NULL);
	REQUIRE(c);
	struct block *a = commit(c, 0x1000, 0x1000, 10, GFN_NONE);
	a->slots[0].rel32_offset = 12;
	CHECK_STR(cache_check(c), "an unlinked branch does not go to its exit stub");
	a->slots[0].rel32_offset = 8;
	a->mode = 1;
	CHECK(cache_check(c) != NULL);
	a->mode = 3;
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

/* One instruction that is a jump. */
static void commit_jump(struct cache *c, gva_t gva)
{
	struct cache_space space;
	struct link_slot slot = {.rel32_offset = 1, .target = gva + 2};
	struct side_row row = {.eip = gva};
	struct block what = {.gva = gva, .eip = gva, .gpa = gva, .gfn2 = GFN_NONE, .guest_length = 2, .mode = 3, .instructions = 1, .row_count = 1, .slot_count = 1,
	                     .slots = &slot};
	REQUIRE(cache_reserve(c, 256, 2, &space) == 0);
	memset(space.write, 0xE9, 5);
	cache_commit(c, &what, &row, 5);
}

static bool count_block(void *ctx, struct block *b)
{
	(void)b;
	++*(uint32_t *)ctx;
	return true;
}

static struct cache *make_large(uint64_t size, struct stats *stats)
{
	struct cache_config config = {.size = size, .regions = 2, .near = (host_pc_t)(uintptr_t)anchor, .chain = (host_pc_t)(uintptr_t)anchor + 1, .stats = stats};
	struct cache *c = NULL;
	CHECK_EQ(cache_create(&c, &config), 0);
	return c;
}

/* The smallest blocks keep ten times as much beside their code: so much less code is kept. */
TEST(cache, side_memory_has_a_limit)
{
	struct stats stats = {0};
	const uint64_t size = 32 * PAGE_SIZE;
	uint32_t live = 0;
	struct cache *c = make_large(size, &stats);
	for (gva_t gva = 0; !stats.evictions; gva += 2) commit_jump(c, gva);
	cache_each(c, count_block, &live);
	/* Those of one region: the other has been emptied for the next. */
	CHECK(live * sizeof(struct block) < 4 * size / 2);
	CHECK(live * sizeof(struct block) > size / 2);
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

/* What is announced is what is filled next, and stays whatever is evicted. */
TEST(cache, side_memory_is_announced_and_used_again)
{
	struct stats stats = {0};
	struct cache *c = make_large(MIB(4), &stats);
	const uint8_t *announced[64] = {NULL};
	unsigned count = 0;
	for (gva_t gva = 0; stats.evictions < 6; gva += 2) {
		commit_jump(c, gva);
		uint8_t *ahead = cache_side_memory_ahead(c);
		if (!ahead || (count && ahead == announced[count - 1])) continue;
		REQUIRE(count < ARRAY_LEN(announced));
		announced[count++] = ahead;
	}
	/* Two regions of 2 MiB have four times as much beside them, each in five pieces of nearly 2 MiB; then the first ones again. */
	CHECK(count > 4 && count <= 11);
	for (unsigned i = 0; i < count; i++)
		for (uint32_t at = 0; at < CACHE_SIDE_CHUNK; at += PAGE_SIZE) (void)*(const volatile uint8_t *)(announced[i] + at);
	CHECK_STR(cache_check(c), NULL);
	cache_flush(c);
	CHECK(cache_side_memory_ahead(c) == announced[count - 1]);
	for (gva_t gva = 0; gva < 200000; gva += 2) commit_jump(c, gva);
	CHECK_STR(cache_check(c), NULL);
	cache_destroy(c);
}

/* What frames know of their blocks is a help, not a need: not more than 32,768 have it. */
TEST(cache, frames_that_know_their_blocks_have_a_limit)
{
	struct stats stats = {0};
	uint32_t known = 0;
	struct cache *c = make_large(MIB(16), &stats);
	for (gfn_t gfn = 0; gfn < 40000; gfn++) {
		struct block what = {.gva = gfn << PAGE_SHIFT, .eip = gfn << PAGE_SHIFT, .gpa = (gpa_t)gfn << PAGE_SHIFT, .mode = 3};
		commit_jump(c, what.gva);
		known += cache_entries(c, &what) != NULL;
		CHECK(cache_lookup(c, &what) != NULL);
	}
	CHECK_EQ(known, 32768);
	cache_invalidate(c, 0, PAGE_SIZE);
	struct block last = {.gva = 39999u << PAGE_SHIFT, .eip = 39999u << PAGE_SHIFT, .gpa = 39999ull << PAGE_SHIFT, .mode = 3};
	CHECK(cache_entries(c, &last) != NULL);
	cache_destroy(c);
}
