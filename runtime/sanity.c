/* --chaos=check: the invariants of cache and shadow, and of the host PCs that the runtime holds, looked at while the guest runs. */
#include "base/log.h"
#include "runtime/internal.h"

#define EVERY_DISPATCHES 5000u
#define EVERY_SWITCHES 100u /* view switches */
#define PAUSE 3u            /* times as long as the check took: most of the time is the guest's */

/* What a live block relies on: stores to its bytes are seen. */
static bool is_traced(void *ctx, struct block *b)
{
	const struct runtime *r = *(struct runtime **)ctx;
	bool second = b->gfn2 == GFN_NONE || shadow_is_code_traced(r->shadow, b->gfn2);

	if (!b->guest_length || (second && shadow_is_code_traced(r->shadow, (gfn_t)(b->gpa >> PAGE_SHIFT))))
		return true;
	*(struct runtime **)ctx = NULL;
	return false;
}

static const char *check_traces(struct runtime *r)
{
	struct runtime *found = r;

	cache_each(r->cache, is_traced, &found);
	return found ? NULL : "a block was made from a frame that is not traced";
}

/* Every entry of the return stack is code, and the last one is the bottom. */
static const char *check_returns(struct runtime *r, const struct shadow_view *view)
{
	const uint64_t *top = (const uint64_t *)view->return_top;
	const uint64_t *at = (const uint64_t *)(view == r->view ? r->v->return_rsp : view->return_rsp);

	if (at >= top)
		return "a return stack has lost its bottom";
	for (; at < top - 1; at++) {
		const struct block *b = cache_contains(r->cache, *at) ? cache_find_host(r->cache, *at) : NULL;
		struct side_row row;
		if (!b || !cache_find_row(b, *at, &row))
			return "a return stack leads to something that is no code";
	}
	return *at == (uint64_t)entry_underflow ? NULL : "the bottom of a return stack was overwritten";
}

/* This target leads to a block of the table's context that the view maps, a live one or one whose pad is barred (cache/check.c). */
static const char *check_target(struct runtime *r, const struct shadow_view *view, const struct jump_table *table, uint32_t eip, host_pc_t pc)
{
	const struct code_context *context = &r->contexts[table->context];
	const struct block *b = cache_contains(r->cache, pc) ? cache_find_host(r->cache, pc) : NULL;

	if (!b || b->host_pc != pc || !b->checked)
		return "the inline lookup leads to code that is no more";
	if (b->eip != eip || b->mode != context->mode || b->gva - b->eip != context->cs_base || b->cs_end != context->cs_end)
		return "the inline lookup leads to another block's code";
	const uint32_t *exec = (const uint32_t *)(const void *)(view->tables + ABI_EXEC_TABLE);
	return exec[b->gva >> PAGE_SHIFT] == (b->gpa >> PAGE_SHIFT) + 1 ? NULL : "the inline lookup leads to code of another frame";
}

static const char *check_table(struct runtime *r, const struct shadow_view *view, const struct jump_table *t)
{
	const char *wrong = NULL;

	for (unsigned i = 0; i < JUMP_SLOTS + JUMP_SITES && !wrong; i++) {
		if (t->slots[i] == jumps_nowhere(i) || (t->slots[i] == jumps_to_share(i) && (t->shares || i >= JUMP_SLOTS)))
			continue;
		wrong = i >= JUMP_SLOTS || jump_index(t->eips[i]) == i ? check_target(r, view, t, t->eips[i], t->slots[i]) : "a slot of the inline lookup has another's target";
	}
	for (unsigned i = 0; t->shares && i < 2 * JUMP_SETS && !wrong; i++) {
		const struct jump_target *target = &t->sets[i / 2].way[i % 2];
		uint32_t eip = ~(uint32_t)target->not_eip;
		if (target->not_eip)
			wrong = jump_set_index(eip) == i / 2 ? check_target(r, view, t, eip, target->pc) : "a set of the inline lookup has another's target";
	}
	return wrong;
}

struct view_check {
	struct runtime *r;
	const char *wrong;
};

static void check_view(void *ctx, struct shadow_view *view)
{
	struct view_check *c = ctx;

	if (c->wrong || !view->return_top)
		return;
	c->wrong = check_returns(c->r, view);
	for (const struct jump_table *t = view->jumps; t < view->jumps + JUMP_TABLES; t++)
		if (t->epoch == view->jump_epoch && !c->wrong)
			c->wrong = check_table(c->r, view, t);
}

static const char *check_all(struct runtime *r)
{
	struct view_check views = {.r = r};
	const char *wrong = cache_check(r->cache);

	if (!wrong)
		wrong = shadow_check(r->shadow);
	if (!wrong)
		wrong = check_traces(r);
	if (!wrong)
		shadow_each_view(r->shadow, check_view, &views);
	return wrong ? wrong : views.wrong;
}

void sanity_check(struct runtime *r)
{
	struct sanity *s = &r->sanity;

	s->switches += r->view != s->view;
	s->view = r->view;
	if (++s->dispatches < EVERY_DISPATCHES && s->switches < EVERY_SWITCHES)
		return;
	uint64_t start = runtime_now_ns();
	if (start < s->next)
		return;
	s->dispatches = s->switches = 0;
	r->stats.checks++;
	const char *wrong = check_all(r);
	uint64_t end = runtime_now_ns();
	s->next = end + PAUSE * (end - start);
	if (!wrong)
		return;
	LOG(LOG_RUNTIME, LOG_ERROR, "an invariant is broken: %s", wrong);
	r->failure = wrong;
	dispatch_end(r, RUNTIME_HOST_FAILURE);
}
