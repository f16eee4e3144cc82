/* Returns of user code that go elsewhere than to behind the call they were predicted for: signal handlers' returns, longjmp, switches between
 * threads. A miss of a trap pad is a host signal; while they are frequent, pads that compare cost less. */
#include "runtime/internal.h"

#define MISS_NS 100000u /* some 20 times what a miss costs */
#define MISS_BURST 128u
#define PAUSE_NS 200000000u

static void change_pads(struct runtime *r, struct shadow_view *view, bool vary)
{
	view->returns_vary = vary;
	vcpu_forget_crossings(r->v);
}

/* Each miss is remembered for MISS_NS, one after the other. */
static void remember_miss(struct runtime *r, struct shadow_view *view)
{
	uint64_t now = runtime_now_ns();

	if (view->return_misses_until < now)
		view->return_misses_until = now;
	view->return_misses_until += MISS_NS;
	if (view->return_misses_until - now <= (uint64_t)MISS_BURST * MISS_NS)
		return;
	view->return_misses_until = now + PAUSE_NS;
	change_pads(r, view, true);
}

host_pc_t return_missed(struct runtime *r, const struct side_row *row)
{
	r->stats.return_misses++;
	dispatch_stop(r->v, row);
	return_stack_reset(r, r->view);
	remember_miss(r, r->view);
	return 0;
}

void returns_look(struct runtime *r)
{
	struct shadow_view *view = r->views[1];

	if (view->returns_vary && runtime_now_ns() >= view->return_misses_until)
		change_pads(r, view, false);
}
