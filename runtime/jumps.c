/* The tables of the inline lookup. A view has a few, one for each context that was used last in it; what one holds is valid for the code pages
 * that the view had when it was filled. Compiled for general registers alone: see quick.c. */
#include "runtime/internal.h"

_Static_assert(offsetof(struct jump_table, sets) == offsetof(struct jump_table, slots) + sizeof(host_pc_t) * (JUMP_SLOTS + JUMP_SITES), "entry_lookup_shared");
_Static_assert(JUMP_SLOTS == ABI_JUMP_SLOTS && JUMP_SITES == ABI_JUMP_SITES && JUMP_SHIFT == ABI_JUMP_SHIFT, "entry_lookup, entry_lookup_shared");
_Static_assert(JUMP_SLOTS + JUMP_SITES <= 1u << 8 * sizeof(((struct jump_table *)0)->log[0]), "the log");
_Static_assert(sizeof(struct jump_set) == 32, "entry_lookup_shared");

/* A pad that is not its target's costs a host signal in user code, and a shared slot a search for every target that it has, hot ones as well. So targets
 * share a slot that they have taken from each other more often than this, each time within one or two spans of time-stamp ticks, some 10 to 30 ms. */
#define TAKEN_MOST 1u
/* The slot of a table's entry may not be taken at all: to share it costs a lookup more. (A constant place may: a linkage table's leads to the dynamic linker first.) */
#define TAKEN_ENTRY_MOST 0u
#define TAKEN_SPAN_SHIFT 25
/* And at any time once those of a table together come more often than this, some 20 times what one costs. */
#define TAKEN_TICKS (1ull << 18)
#define TAKEN_BURST 128u

/* Where a slot leads that has no target, and one that targets share: those of a site are shared by asking for the target's. */
host_pc_t jumps_nowhere(uint32_t at) { return (host_pc_t)(at < JUMP_SLOTS ? entry_lookup_slow : entry_site); }
host_pc_t jumps_to_share(uint32_t at) { return (host_pc_t)(at < JUMP_SLOTS ? entry_lookup_shared : entry_lookup); }

static void empty(struct jump_table *t, uint32_t at)
{
	t->slots[at] = jumps_nowhere(at);
	if (t->taken[at])
		t->taken[at] = 0;
}

static void clear(struct jump_table *t)
{
	bool logged = t->filled <= ARRAY_LEN(t->log);

	for (uint32_t i = 0, count = logged ? t->filled : JUMP_SLOTS + JUMP_SITES; i < count; i++)
		empty(t, logged ? t->log[i] : i);
	for (uint32_t i = 0; t->shares && i < JUMP_SETS; i++)
		t->sets[i].way[0].not_eip = t->sets[i].way[1].not_eip = 0;
	t->filled = 0;
	t->shares = false;
}

void jumps_init(struct jump_table *tables)
{
	for (unsigned i = 0; i < JUMP_TABLES; i++)
		tables[i].filled = UINT32_MAX;
}

void jumps_select(struct runtime *r, struct shadow_view *view, uint32_t context)
{
	struct jump_table *t = &view->jumps[view->jumps_last % JUMP_TABLES];

	for (unsigned i = 0; i < JUMP_TABLES && (t->epoch != view->jump_epoch || t->context != context); i++)
		t = &view->jumps[i];
	if (t->epoch != view->jump_epoch || t->context != context) {
		t = &view->jumps[++view->jumps_last % JUMP_TABLES];
		clear(t);
		vcpu_forget_crossings(r->v);
		t->epoch = view->jump_epoch;
		t->context = context;
	}
	view->jumps_last = (uint32_t)(t - view->jumps);
	r->v->jumps = t->slots;
}

static void fill_set(struct jump_table *t, const struct block *b)
{
	struct jump_set *set = &t->sets[jump_set_index(b->eip)];

	if (set->way[0].not_eip != ~(uint64_t)b->eip)
		set->way[1] = set->way[0];
	set->way[0] = (struct jump_target){.not_eip = ~(uint64_t)b->eip, .pc = b->host_pc};
}

static void fill_slot(struct jump_table *t, const struct block *b, uint32_t at)
{
	if (t->filled < ARRAY_LEN(t->log))
		t->log[t->filled] = (uint16_t)at;
	t->filled += t->filled <= ARRAY_LEN(t->log);
	t->slots[at] = b->host_pc;
	t->eips[at] = b->eip;
}

/* Another target takes the slot: is it to be shared? */
static bool is_contested(struct jump_table *t, uint32_t at)
{
	uint64_t now = __builtin_ia32_rdtsc();
	uint8_t span = (uint8_t)(now >> TAKEN_SPAN_SHIFT);
	bool recent = (uint8_t)(span - t->taken_span[at]) <= 1;

	if (t->taken_until < now)
		t->taken_until = now;
	t->taken_until += TAKEN_TICKS;
	if (!recent && t->taken_until - now <= TAKEN_BURST * TAKEN_TICKS)
		t->taken[at] = 0;
	t->taken_span[at] = span;
	return ++t->taken[at] > (at < JUMP_SLOTS + JUMP_CONSTANTS ? TAKEN_MOST : TAKEN_ENTRY_MOST);
}

/* The slot is to be this target's: its own, or one that it shares? One that was nobody's, or a dead block's, is no matter; one that it takes from another may be. */
static bool take_shared(struct runtime *r, struct jump_table *t, const struct block *b, uint32_t at)
{
	if (t->slots[at] == jumps_to_share(at))
		return true;
	if (t->slots[at] == jumps_nowhere(at) || t->eips[at] == b->eip || cache_is_barred(t->slots[at]) || !is_contested(t, at))
		return false;
	t->slots[at] = jumps_to_share(at);
	t->shares |= at < JUMP_SLOTS;
	r->stats.jump_slots_shared++;
	return true;
}

host_pc_t *jumps_site(const struct runtime *r)
{
	host_pc_t *sites = r->v->jumps + JUMP_SLOTS, *at = (host_pc_t *)r->v->scratch[3];

	if ((uint64_t)at - (uint64_t)sites >= JUMP_SITES * sizeof(host_pc_t))
		return NULL;
	if (at < sites + JUMP_CONSTANTS)
		return at;
	uint64_t index = r->v->scratch[1];
	return index < JUMP_SITE_SPAN && index < (uint64_t)(sites + JUMP_SITES - at) ? at + index : NULL;
}

void jumps_fill(struct runtime *r, const struct block *b)
{
	struct jump_table *t = &r->view->jumps[r->view->jumps_last];
	uint32_t at = jump_index(b->eip);
	uint64_t site = ((uint64_t)r->site - (uint64_t)t->slots) / sizeof(host_pc_t); /* if it is this table's */

	r->stats.jump_fills++;
	if (site - JUMP_SLOTS < JUMP_SITES && r->site_eip == b->eip && !take_shared(r, t, b, (uint32_t)site)) {
		r->stats.jump_site_fills++;
		fill_slot(t, b, (uint32_t)site);
	} else if (take_shared(r, t, b, at)) {
		fill_set(t, b);
	} else {
		fill_slot(t, b, at);
	}
}

host_pc_t jumps_find(const struct runtime *r, uint32_t eip)
{
	const struct jump_table *t = &r->view->jumps[r->view->jumps_last];
	host_pc_t pc = t->slots[jump_index(eip)];

	return pc == (host_pc_t)entry_lookup_shared || (pc != (host_pc_t)entry_lookup_slow && t->eips[jump_index(eip)] == eip) ? pc : 0;
}
