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

static host_pc_t pc_of(uint32_t eip) { return 0x100000000ull + eip; }

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
