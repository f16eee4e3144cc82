/* Random operations on a tiny cache against a naive model; after every step the cache checks itself and is compared with it. */
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "tests/shim/test.h"

#define REGIONS 3u
#define REGION_BYTES 4096u
#define FRAMES 6u
#define STEPS 4000u
#define MAX_SLOTS 3u
#define MAX_BLOCKS 512u

struct model_block {
	struct block *b;
	struct block what;      /* identity as it was committed */
	host_pc_t from, to;
	bool live, thunk;
	int links[MAX_SLOTS];   /* model index of the target, or -1 */
};

struct model {
	struct cache *c;
	struct stats stats;
	uint32_t seed;
	struct model_block blocks[MAX_BLOCKS]; /* all whose code is in memory */
	uint32_t count;
	host_pc_t base;
	uint32_t next_evicted;
	/* What one operation called back. */
	const struct block *dead[MAX_BLOCKS];
	uint32_t dead_count;
	uint32_t freed[FRAMES];
	host_pc_t evicted[REGIONS];
	uint32_t evicted_count;
	uint32_t copies;
};

static uint32_t pick(struct model *m, uint32_t below)
{
	m->seed = m->seed * 1664525u + 1013904223u;
	return (m->seed >> 8) % below;
}

static void on_frame_free(void *ctx, gfn_t gfn)
{
	((struct model *)ctx)->freed[gfn]++;
}

static void on_block_dead(void *ctx, const struct block *b)
{
	struct model *m = ctx;
	CHECK(b->dead);
	m->dead[m->dead_count++] = b;
}

static void on_code_evicted(void *ctx, host_pc_t from, host_pc_t to)
{
	struct model *m = ctx;
	CHECK_EQ(to - from, REGION_BYTES);
	m->evicted[m->evicted_count++] = from;
}

static bool covers(const struct model_block *x, gpa_t at)
{
	gpa_t gpa = x->what.gpa;
	for (uint32_t i = 0; i < x->what.guest_length; i++, gpa++) {
		gpa_t here = i && (gpa & ~0xFFFull) != (x->what.gpa & ~0xFFFull) ? (gpa_t)x->what.gfn2 << 12 | (gpa & 0xFFF) : gpa;
		if (here == at) return true;
	}
	return false;
}

static bool in_range(const struct model_block *x, gpa_t gpa, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++)
		if (covers(x, gpa + i)) return true;
	return false;
}

static bool model_has_code(const struct model *m, gfn_t gfn)
{
	for (uint32_t i = 0; i < m->count; i++) {
		const struct model_block *x = &m->blocks[i];
		if (x->live && !x->thunk && (x->what.gpa >> 12 == gfn || x->what.gfn2 == gfn)) return true;
	}
	return false;
}

static void begin(struct model *m, bool *had_code)
{
	m->dead_count = m->evicted_count = 0;
	memset(m->freed, 0, sizeof m->freed);
	for (gfn_t f = 0; f < FRAMES; f++) had_code[f] = model_has_code(m, f);
}

static void model_kill(struct model *m, uint32_t index)
{
	struct model_block *x = &m->blocks[index];
	if (!x->live) return;
	x->live = false;
	for (uint32_t i = 0; i < m->count; i++)
		for (uint32_t s = 0; s < MAX_SLOTS; s++)
			if (m->blocks[i].links[s] == (int)index) m->blocks[i].links[s] = -1;
	if (x->thunk) return;
	bool told = false;
	for (uint32_t i = 0; i < m->dead_count; i++) {
		if (m->dead[i] != x->b) continue;
		CHECK(!told);
		told = true;
		m->dead[i] = m->dead[--m->dead_count];
		i--;
	}
	CHECK(told);
}

/* Forget blocks [first, last) of the model: their code is gone. */
static void model_remove(struct model *m, uint32_t index)
{
	model_kill(m, index);
	uint32_t last = --m->count;
	m->blocks[index] = m->blocks[last];
	for (uint32_t i = 0; i < m->count; i++)
		for (uint32_t s = 0; s < MAX_SLOTS; s++)
			if (m->blocks[i].links[s] == (int)last) m->blocks[i].links[s] = (int)index;
}

static void model_evictions(struct model *m)
{
	for (uint32_t e = 0; e < m->evicted_count; e++) {
		for (uint32_t i = m->count; i-- > 0;)
			if (m->blocks[i].from - m->evicted[e] < REGION_BYTES) model_remove(m, i);
	}
}

/* All deaths were expected, and frames were reported free if and only if they became so. */
static void end(struct model *m, const bool *had_code)
{
	CHECK_EQ(m->dead_count, 0);
	for (gfn_t f = 0; f < FRAMES; f++) CHECK_EQ(m->freed[f], had_code[f] && !model_has_code(m, f));
}

static uint32_t make_slots(struct model *m, struct link_slot *slots)
{
	uint32_t count = pick(m, MAX_SLOTS + 1);
	for (uint32_t i = 0; i < count; i++) slots[i] = (struct link_slot){.rel32_offset = (uint16_t)(4 + 8 * i)};
	return count;
}

static void make_identity(struct model *m, struct block *what)
{
	what->gfn2 = GFN_NONE;
	if (!pick(m, 8)) return; /* a thunk */
	what->guest_length = 1 + pick(m, 100);
	uint32_t offset = pick(m, 64) * 64;
	if (offset + what->guest_length > PAGE_SIZE) what->gfn2 = pick(m, FRAMES);
	what->gpa = pick(m, FRAMES) * (gpa_t)PAGE_SIZE + offset;
	what->gva = what->eip = pick(m, 2) << 20 | offset;
	what->mode = pick(m, 2);
	what->movable = what->gfn2 == GFN_NONE && pick(m, 2);
}

static bool reserve(struct model *m, uint32_t bytes, struct cache_space *space)
{
	bool had_code[FRAMES];
	begin(m, had_code);
	if (!CHECK_EQ(cache_reserve(m->c, bytes, MAX_SLOTS, space), 0)) return false;
	CHECK_EQ(space->size, bytes);
	CHECK(m->evicted_count <= 1);
	if (m->evicted_count) {
		CHECK_EQ(m->evicted[0], m->base + m->next_evicted * REGION_BYTES);
		m->next_evicted = (m->next_evicted + 1) % REGIONS;
	}
	model_evictions(m);
	end(m, had_code);
	return true;
}

/* What was committed is the block of its identity now. */
static void add(struct model *m, const struct model_block *x)
{
	for (uint32_t i = 0; i < m->count && !x->thunk; i++) {
		const struct block *other = &m->blocks[i].what;
		if (!m->blocks[i].thunk && other->gva == x->what.gva && other->gpa >> 12 == x->what.gpa >> 12 && other->mode == x->what.mode)
			model_kill(m, i);
	}
	m->blocks[m->count++] = *x;
}

static void step_commit(struct model *m)
{
	bool had_code[FRAMES];
	uint32_t length = 48 + pick(m, 300), bytes = length + pick(m, 200);
	struct cache_space space;
	if (!reserve(m, bytes, &space)) return;
	if (!pick(m, 10)) {
		cache_abort(m->c);
		return;
	}
	begin(m, had_code);
	memset(space.write, 0x90, length);
	struct link_slot slots[MAX_SLOTS];
	struct side_row rows[2] = {{0, 0, 0, 0, 1}, {20, 0, 0, 0, 2}};
	struct model_block x = {.live = true, .links = {-1, -1, -1}};
	make_identity(m, &x.what);
	x.thunk = !x.what.guest_length;
	if (!x.thunk) {
		x.what.slot_count = make_slots(m, slots);
		x.what.row_count = 2;
		x.what.body = 4;
	}
	x.what.slots = slots;
	x.b = cache_commit(m->c, &x.what, rows, length);
	CHECK_EQ(x.b->host_pc, space.exec);
	x.from = space.exec;
	x.to = space.exec + length;
	add(m, &x);
	end(m, had_code);
}

static struct model_block *model_find(struct model *m, const struct block *b)
{
	for (uint32_t i = 0; i < m->count; i++)
		if (m->blocks[i].b == b) return &m->blocks[i];
	return NULL;
}

/* Of some block's code, at the other linear address and the same place of a line. */
static void step_copy(struct model *m)
{
	bool had_code[FRAMES];
	struct cache_space space;
	if (!m->count) return;
	struct block what = m->blocks[pick(m, m->count)].what;
	what.gva = what.eip = what.gva ^ 1u << 20;
	if (!what.guest_length || !reserve(m, 64 + 350, &space)) return;
	const struct block *found = cache_find_twin(m->c, &what);
	const struct model_block *twin = found ? model_find(m, found) : NULL;
	if (!twin) {
		CHECK(!found);
		cache_abort(m->c);
		return;
	}
	CHECK(twin->live && twin->what.movable && twin->what.gpa == what.gpa && twin->what.mode == what.mode);
	struct model_block x = {.live = true, .what = twin->what, .links = {-1, -1, -1}};
	uint32_t length = (uint32_t)(twin->to - twin->from);
	host_pc_t line = twin->from % 64;
	begin(m, had_code);
	x.what.gva = x.what.eip = what.gva;
	x.b = cache_copy(m->c, found, &what);
	if (!CHECK(x.b)) return;
	CHECK_EQ(x.b->host_pc % 64, line);
	CHECK(x.b->host_pc - space.exec < 64);
	CHECK_EQ(x.b->slot_count, x.what.slot_count);
	x.from = x.b->host_pc;
	x.to = x.from + length;
	add(m, &x);
	end(m, had_code);
	m->copies++;
}

static void step_link(struct model *m)
{
	if (!m->count) return;
	uint32_t from = pick(m, m->count), to = pick(m, m->count);
	struct model_block *x = &m->blocks[from];
	if (!x->what.slot_count || m->blocks[to].thunk) return;
	uint32_t slot = pick(m, x->what.slot_count);
	cache_link(m->c, x->b, slot, m->blocks[to].b, m->blocks[to].b->checked);
	if (m->blocks[to].live) x->links[slot] = (int)to;
}

static void step_invalidate(struct model *m)
{
	bool had_code[FRAMES];
	begin(m, had_code);
	gpa_t gpa = pick(m, FRAMES * PAGE_SIZE);
	uint32_t length = 1 + (pick(m, 4) ? pick(m, 8) : pick(m, 600)), killed = 0;
	uint32_t answer = cache_invalidate(m->c, gpa, length);
	for (uint32_t i = 0; i < m->count; i++) {
		if (!m->blocks[i].live || m->blocks[i].thunk || !in_range(&m->blocks[i], gpa, length)) continue;
		model_kill(m, i);
		killed++;
	}
	CHECK_EQ(answer, killed);
	end(m, had_code);
}

static void step_flush(struct model *m)
{
	bool had_code[FRAMES];
	begin(m, had_code);
	cache_flush(m->c);
	model_evictions(m);
	m->next_evicted = 0;
	CHECK_EQ(m->count, 0);
	end(m, had_code);
}

static uint32_t get32(host_pc_t at)
{
	uint32_t value;
	memcpy(&value, (const void *)(uintptr_t)at, 4);
	return value;
}

static void compare_links(const struct model *m, const struct model_block *x)
{
	for (uint32_t s = 0; s < x->what.slot_count; s++) {
		const struct link_slot *slot = &x->b->slots[s];
		host_pc_t at = x->from + slot->rel32_offset, goes = at + 4 + (host_pc_t)(int32_t)get32(at);
		if (x->links[s] < 0) {
			CHECK_EQ(goes, cache_exit_stub(x->b, s));
			continue;
		}
		const struct model_block *to = &m->blocks[x->links[s]];
		CHECK_EQ(goes, to->from);
	}
}

static void compare(struct model *m)
{
	if (!CHECK_STR(cache_check(m->c), NULL)) return;
	for (uint32_t i = 0; i < m->count; i++) {
		const struct model_block *x = &m->blocks[i];
		CHECK_EQ(x->b->dead, !x->live);
		CHECK(cache_find_host(m->c, x->from + pick(m, (uint32_t)(x->to - x->from))) == x->b);
		CHECK(cache_find_host(m->c, x->to) != x->b);
		struct block *found = cache_lookup(m->c, &x->what);
		if (x->live && !x->thunk) CHECK(found == x->b);
		else CHECK(found != x->b);
		compare_links(m, x);
	}
	for (gfn_t f = 0; f < FRAMES; f++) CHECK_EQ(cache_frame_has_code(m->c, f), model_has_code(m, f));
}

static void step(struct model *m)
{
	uint32_t kind = pick(m, 200);
	if (kind < 70) step_commit(m);
	else if (kind < 85) step_copy(m);
	else if (kind < 150) step_link(m);
	else if (kind < 199) step_invalidate(m);
	else step_flush(m);
}

static void run(uint32_t seed)
{
	static struct model m;
	memset(&m, 0, sizeof m);
	m.seed = seed;
	struct cache_config config = {.size = REGIONS * REGION_BYTES, .regions = REGIONS, .stats = &m.stats,
	                              .near = (host_pc_t)(uintptr_t)step,
	                              .callbacks = {&m, on_frame_free, on_code_evicted, on_block_dead}};
	REQUIRE(cache_create(&m.c, &config) == 0);
	struct cache_space space;
	cache_reserve(m.c, 1, 0, &space);
	m.base = space.exec;
	cache_abort(m.c);
	for (uint32_t i = 0; i < STEPS && !test_has_failed(); i++) {
		step(&m);
		compare(&m);
		if (test_has_failed()) FAIL("seed %u, step %u", seed, i);
	}
	CHECK(m.stats.evictions > 20 && m.stats.links > 500 && m.stats.unlinks > 100 && m.stats.blocks_invalidated > 100 && m.copies > 50);
	cache_destroy(m.c);
}

TEST(cache_random, agrees_with_the_model)
{
	for (uint32_t seed = 1; seed <= 4 && !test_has_failed(); seed++) run(seed);
}
