/* The tables of the inline lookup: when targets that take a slot from each other come to share it. */
#include <stdlib.h>

#include "runtime/internal.h"
#include "tests/shim/test.h"

#define FIRST 0x1000u
#define OTHER (FIRST + (JUMP_SLOTS << JUMP_SHIFT)) /* the same slot's */
#define SPAN (1ull << 25)                          /* jumps.c */
#define MANY 1000u

static struct runtime runtime;
static struct shadow_view view;
static struct vcpu vcpu;

static void begin(void)
{
	free(view.jumps);
	view.jumps = calloc(JUMP_TABLES, sizeof(*view.jumps));
	view.jump_epoch = 1;
	runtime = (struct runtime){.v = &vcpu, .view = &view};
	jumps_init(view.jumps);
	jumps_select(&runtime, &view, 1);
}

/* Pads: only their first bytes matter. */
static uint8_t pads[0x20000];
static host_pc_t pc_of(uint32_t eip) { return (host_pc_t)&pads[eip >> JUMP_SHIFT]; }

static void fill(uint32_t eip)
{
	jumps_fill(&runtime, &(struct block){.eip = eip, .host_pc = pc_of(eip)});
}

static void wait_ticks(uint64_t ticks)
{
	for (uint64_t from = __builtin_ia32_rdtsc(); __builtin_ia32_rdtsc() - from < ticks;) continue;
}

static bool is_shared(uint32_t eip)
{
	return view.jumps[view.jumps_last].slots[jump_index(eip)] == (host_pc_t)entry_lookup_shared;
}

TEST(jumps, lead_to_the_latest_of_their_targets)
{
	begin();
	CHECK(!jumps_find(&runtime, FIRST));
	fill(FIRST);
	CHECK_EQ(jumps_find(&runtime, FIRST), pc_of(FIRST));
	CHECK(!jumps_find(&runtime, OTHER));
	fill(OTHER);
	CHECK_EQ(jumps_find(&runtime, OTHER), pc_of(OTHER));
	CHECK(!jumps_find(&runtime, FIRST));
	CHECK(!is_shared(FIRST));
}

TEST(jumps, share_a_slot_that_they_take_from_each_other_often)
{
	begin();
	for (unsigned i = 0; i < 8; i++)
		fill(i % 2 ? OTHER : FIRST);
	CHECK(is_shared(FIRST));
	CHECK(runtime.stats.jump_slots_shared == 1);
	/* Both are in its set. */
	const struct jump_set *set = &view.jumps[view.jumps_last].sets[jump_set_index(FIRST)];
	CHECK(jump_set_index(FIRST) != jump_set_index(OTHER) || set->way[0].pc != set->way[1].pc);
	CHECK(set->way[0].pc == pc_of(FIRST) || set->way[1].pc == pc_of(FIRST));
}

/* A dead block's slot is there for whoever comes. */
TEST(jumps, take_a_dead_ones_slot)
{
	begin();
	for (unsigned i = 0; i < 8; i++) {
		fill(FIRST);
		pads[FIRST >> JUMP_SHIFT] = 0xE9;
		fill(OTHER);
		pads[OTHER >> JUMP_SHIFT] = 0xE9;
	}
	CHECK(!is_shared(FIRST) && !runtime.stats.jump_slots_shared);
	pads[FIRST >> JUMP_SHIFT] = pads[OTHER >> JUMP_SHIFT] = 0;
	for (unsigned i = 0; i < 8; i++)
		fill(i % 2 ? OTHER : FIRST);
	CHECK(is_shared(FIRST));
}

/* One that is translated anew does not drive the other out of their set. */
TEST(jumps, keep_the_other_in_the_set)
{
	uint32_t other = FIRST;
	begin();
	do
		other += JUMP_SLOTS << JUMP_SHIFT;
	while (other && jump_set_index(other) != jump_set_index(FIRST));
	REQUIRE(other);
	struct block first = {.eip = FIRST, .host_pc = pc_of(FIRST)}, second = {.eip = other, .host_pc = (host_pc_t)&pads[1]};
	for (unsigned i = 0; i < 8; i++)
		jumps_fill(&runtime, i % 2 ? &second : &first);
	for (unsigned i = 0; i < 2; i++)
		jumps_fill(&runtime, &first);
	const struct jump_set *set = &view.jumps[view.jumps_last].sets[jump_set_index(FIRST)];
	CHECK(set->way[0].pc == first.host_pc && set->way[1].pc == second.host_pc);
}

TEST(jumps, do_not_share_one_that_they_take_seldom)
{
	begin();
	for (unsigned i = 0; i < 8; i++) {
		fill(i % 2 ? OTHER : FIRST);
		wait_ticks(3 * SPAN);
	}
	CHECK(!is_shared(FIRST));
	CHECK_EQ(jumps_find(&runtime, OTHER), pc_of(OTHER));
	/* And once they meet more often, they do. */
	for (unsigned i = 0; i < 8; i++)
		fill(i % 2 ? OTHER : FIRST);
	CHECK(is_shared(FIRST));
}

/* Each slot is taken seldom, but all of them together would cost more than they may. */
TEST(jumps, share_slots_that_are_taken_often_together)
{
	begin();
	for (unsigned round = 0; round < 6; round++) {
		for (uint32_t i = 0; i < MANY; i++)
			fill((round % 2 ? OTHER : FIRST) + (i << JUMP_SHIFT));
		wait_ticks(3 * SPAN);
	}
	for (uint32_t i = MANY / 2; i < MANY; i++)
		CHECK(is_shared(FIRST + (i << JUMP_SHIFT)));
}

/* --- slots of sites --- */

#define CONSTANT JUMP_SLOTS                     /* a slot of a constant place's */
#define ENTRY (JUMP_SLOTS + JUMP_CONSTANTS + 64) /* and one of a table's */
#define THIRD (OTHER + (JUMP_SLOTS << JUMP_SHIFT))

static struct jump_table *table(void) { return &view.jumps[view.jumps_last]; }

/* Translated code has been left by this slot: the block for EIP is entered next. */
static void fill_by(uint32_t at, uint32_t eip)
{
	runtime.site = &table()->slots[at];
	runtime.site_eip = eip;
	fill(eip);
	runtime.site = NULL;
}

static bool leads(uint32_t at, host_pc_t pc) { return table()->slots[at] == pc; }

TEST(jumps, lead_nowhere_at_first)
{
	begin();
	CHECK(leads(jump_index(FIRST), (host_pc_t)entry_lookup_slow) && leads(JUMP_SLOTS - 1, (host_pc_t)entry_lookup_slow));
	CHECK(leads(CONSTANT, (host_pc_t)entry_site) && leads(ENTRY, (host_pc_t)entry_site) && leads(JUMP_SLOTS + JUMP_SITES - 1, (host_pc_t)entry_site));
}

TEST(jumps, lead_by_a_site_to_its_target)
{
	begin();
	fill_by(ENTRY, FIRST);
	CHECK(leads(ENTRY, pc_of(FIRST)) && leads(ENTRY + 1, (host_pc_t)entry_site));
	CHECK_EQ(table()->eips[ENTRY], FIRST);
	CHECK_EQ(runtime.stats.jump_site_fills, 1u);
	/* The target's own slot is as it was, and is filled by who asks there. */
	CHECK(!jumps_find(&runtime, FIRST));
	fill(FIRST);
	CHECK_EQ(jumps_find(&runtime, FIRST), pc_of(FIRST));
	CHECK(runtime.stats.jump_fills == 2 && runtime.stats.jump_site_fills == 1);
	/* The same target's block at another place is nobody's competitor. */
	for (unsigned i = 0; i < 8; i++)
		fill_by(ENTRY, FIRST);
	CHECK(leads(ENTRY, pc_of(FIRST)) && !runtime.stats.jump_slots_shared);
}

/* An exception came between, or an interrupt: what is entered now is not where the branch went. */
TEST(jumps, give_a_site_no_other_block)
{
	begin();
	runtime.site = &table()->slots[ENTRY];
	runtime.site_eip = FIRST;
	fill(OTHER);
	CHECK(leads(ENTRY, (host_pc_t)entry_site));
	CHECK_EQ(jumps_find(&runtime, OTHER), pc_of(OTHER));
}

/* A table's entries at the first time, a constant place's at the second: the first call through a linkage table is to the linker. */
static void check_taken(uint32_t at, unsigned most)
{
	bool latest;
	uint64_t from, early;

	do { /* all at once */
		begin();
		from = __builtin_ia32_rdtsc();
		fill_by(at, FIRST);
		latest = true;
		for (unsigned i = 1; i <= most; i++) {
			fill_by(at, i % 2 ? OTHER : FIRST);
			latest &= leads(at, pc_of(i % 2 ? OTHER : FIRST));
		}
		early = runtime.stats.jump_slots_shared;
		fill_by(at, THIRD);
	} while (__builtin_ia32_rdtsc() - from > SPAN);
	CHECK(latest && !early);
	CHECK(leads(at, (host_pc_t)entry_lookup));
	CHECK_EQ(runtime.stats.jump_slots_shared, 1u);
	CHECK_EQ(jumps_find(&runtime, THIRD), pc_of(THIRD)); /* there it is looked for now */
	CHECK(!table()->shares); /* no set is searched for it */
	fill_by(at, FIRST);
	CHECK(leads(at, (host_pc_t)entry_lookup));
	CHECK_EQ(jumps_find(&runtime, FIRST), pc_of(FIRST));
	CHECK_EQ(runtime.stats.jump_slots_shared, 1u);
}

TEST(jumps, share_a_tables_slot_at_once) { check_taken(ENTRY, 0); }
TEST(jumps, share_the_last_tables_slot_at_once) { check_taken(JUMP_SLOTS + JUMP_SITES - 1, 0); }
TEST(jumps, share_a_constant_places_slot_later) { check_taken(CONSTANT, 1); }
TEST(jumps, share_the_last_constant_places_slot_later) { check_taken(JUMP_SLOTS + JUMP_CONSTANTS - 1, 1); }

static bool is_empty(void)
{
	for (uint32_t at = CONSTANT; at < JUMP_SLOTS + JUMP_SITES; at++)
		if (!leads(at, (host_pc_t)entry_site))
			return false;
	return !jumps_find(&runtime, FIRST);
}

/* Slots of sites, one shared and one that was taken once, and so many of targets. */
static void fill_some(uint32_t others)
{
	fill_by(ENTRY, FIRST);
	fill_by(CONSTANT, FIRST);
	fill_by(ENTRY + 8, FIRST);
	fill_by(ENTRY + 8, OTHER);
	fill_by(CONSTANT + 1, FIRST);
	fill_by(CONSTANT + 1, OTHER);
	fill(FIRST);
	for (uint32_t i = 1; i < others; i++)
		fill(FIRST + (i << JUMP_SHIFT));
	CHECK(leads(ENTRY, pc_of(FIRST)) && leads(CONSTANT, pc_of(FIRST)) && leads(ENTRY + 8, (host_pc_t)entry_lookup));
}

TEST(jumps, forget_sites_when_the_view_has_other_code_pages)
{
	for (uint32_t others = 1; others <= MANY; others += MANY - 1) {
		begin();
		fill_some(others);
		for (unsigned i = 0; i < JUMP_TABLES; i++) { /* back to the same */
			view.jump_epoch++;
			jumps_select(&runtime, &view, 1);
			CHECK(is_empty());
		}
		/* How often they were taken is forgotten, too. */
		fill_by(CONSTANT + 1, FIRST);
		fill_by(CONSTANT + 1, OTHER);
		CHECK(leads(CONSTANT + 1, pc_of(OTHER)));
	}
}

TEST(jumps, keep_the_sites_of_each_context)
{
	begin();
	fill_some(1);
	for (uint32_t context = 2; context <= JUMP_TABLES; context++) {
		jumps_select(&runtime, &view, context);
		CHECK(is_empty());
	}
	jumps_select(&runtime, &view, 1);
	CHECK(leads(ENTRY, pc_of(FIRST)) && leads(ENTRY + 8, (host_pc_t)entry_lookup));
	/* One more takes over the table of another, and a slot that was noted in that one is none of its own. */
	host_pc_t *site = &table()->slots[ENTRY];
	for (uint32_t context = 5; context < 5 + JUMP_TABLES; context++)
		jumps_select(&runtime, &view, context);
	jumps_select(&runtime, &view, 1);
	CHECK(is_empty());
	runtime.site = site;
	runtime.site_eip = FIRST;
	jumps_select(&runtime, &view, 9);
	REQUIRE(site != &table()->slots[ENTRY]);
	fill(FIRST);
	CHECK(leads(ENTRY, (host_pc_t)entry_site));
	CHECK_EQ(jumps_find(&runtime, FIRST), pc_of(FIRST));
}

/* As translated code left R11 and R9. */
static host_pc_t *site_by(host_pc_t *at, uint64_t index)
{
	vcpu.scratch[3] = (uint64_t)at;
	vcpu.scratch[1] = index;
	return jumps_site(&runtime);
}

TEST(jumps, know_the_site_that_led_astray)
{
	begin();
	host_pc_t *slots = table()->slots, *entries = slots + JUMP_SLOTS + JUMP_CONSTANTS, *end = slots + JUMP_SLOTS + JUMP_SITES;
	CHECK(site_by(slots + CONSTANT, 0x5C5C5C5C5C) == slots + CONSTANT);
	CHECK(site_by(entries - 1, 7) == entries - 1);
	CHECK(site_by(entries, 0) == entries && site_by(entries, 255) == entries + 255);
	CHECK(site_by(end - 256, 255) == end - 1 && site_by(end - 1, 0) == end - 1);
	/* By EIP: the table itself, and its index; or no lookup at all. */
	CHECK(!site_by(slots, 4) && !site_by(slots + JUMP_SLOTS - 1, 0) && !site_by(end, 0) && !site_by(NULL, 0));
	CHECK(!site_by(view.jumps[2].slots + ENTRY, 0)); /* another context's */
	/* No index that such code has. */
	CHECK(!site_by(entries, 256) && !site_by(entries, UINT64_MAX) && !site_by(entries, 1ull << 32) && !site_by(entries, 1ull << 61));
	CHECK(!site_by(end - 255, 255) && !site_by(end - 1, 1));
}
