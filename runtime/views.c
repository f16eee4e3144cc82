/* Windows, tables and return stacks as host memory: what the shadow asks of the host. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "runtime/internal.h"

#define WINDOW_RESERVATION (WINDOW_GUARD + WINDOW_SIZE + WINDOW_GUARD + PAGE_SIZE)

static void *tables_alloc(void *ctx, size_t size)
{
	struct runtime *r = ctx;
	void *p = fences_alloc(&r->fences, size, PROT_READ | PROT_WRITE);

	/* Sparse by design: a huge page would fill it with 2 MiB for each entry. */
	if (p)
		madvise(p, size, MADV_NOHUGEPAGE);
	return p;
}

static void tables_free(void *ctx, void *p, size_t size)
{
	struct runtime *r = ctx;

	fences_free(&r->fences, p, size);
}

static void tables_trim(void *ctx, void *p, size_t size)
{
	(void)ctx;
	madvise(p, size, MADV_DONTNEED);
}

static void *window_alloc(void *ctx)
{
	struct runtime *r = ctx;
	vcpu_forget_crossings(r->v);
	uint8_t *p = fences_alloc_aligned(&r->fences, WINDOW_RESERVATION, PROT_NONE, WINDOW_SIZE, WINDOW_GUARD);

	return p ? p + WINDOW_GUARD : NULL;
}

static void window_free(void *ctx, void *window)
{
	struct runtime *r = ctx;

	vcpu_forget_crossings(r->v);
	if (r->window == window)
		r->window = NULL;
	if (r->gs_base == window)
		r->gs_base = NULL;
	if (!window)
		r->low.owner = NULL;
	else
		fences_free(&r->fences, (uint8_t *)window - WINDOW_GUARD, WINDOW_RESERVATION);
}

/* The window at 0 goes to who keeps the processor busy: an owner may lose it that has not been seen for so many samples. It changes hands a few times at
 * once, and then no more often than this. */
#define LOW_SAMPLES 2u
#define LOW_NS 200000000u
#define LOW_BURST 4u

void windows_sampled(struct runtime *r, const struct shadow_view *view)
{
	r->low.samples = view == r->low.owner ? 0 : r->low.samples + 1;
}

static bool may_be_low(const struct runtime *r, const struct shadow_view *view)
{
	/* What V86 code uses most is below LOW_WINDOW_START. */
	if (!view->user || r->v->mode & MODE_VM)
		return false;
	return !r->low.owner || (r->low.samples >= LOW_SAMPLES && r->low.spent_until < runtime_now_ns() + (uint64_t)LOW_BURST * LOW_NS);
}

void windows_make_direct(struct runtime *r, struct shadow_view *view)
{
	if (view->direct)
		return;
	if (!may_be_low(r, view)) {
		shadow_make_direct(r->shadow, view);
		return;
	}
	uint64_t now = runtime_now_ns();
	vcpu_forget_crossings(r->v);
	r->low.spent_until = (r->low.spent_until > now ? r->low.spent_until : now) + LOW_NS;
	if (shadow_make_low(r->shadow, view))
		r->low.owner = view;
	r->low.samples = 0;
}

static int map(void *ctx, uint8_t *at, gfn_t gfn, uint32_t count, bool writable, bool at_once)
{
	struct runtime *r = ctx;
	int protection = PROT_READ | (writable ? PROT_WRITE : 0);
	int flags = MAP_SHARED | MAP_FIXED | (at_once ? MAP_POPULATE : 0);
	void *p = mmap(at, (size_t)count << PAGE_SHIFT, protection, flags, r->ram_fd, (off_t)gfn << PAGE_SHIFT);

	return p == MAP_FAILED ? -errno : 0;
}

static int protect(void *ctx, uint8_t *at, uint32_t count, bool writable)
{
	(void)ctx;
	return mprotect(at, (size_t)count << PAGE_SHIFT, PROT_READ | (writable ? PROT_WRITE : 0)) ? -errno : 0;
}

/* In a window elsewhere than at 0 a hole would take the next mapping that the host makes. At 0 it makes none unless told to, and a page mapped over
 * nothing takes two thirds of the time of one over a reservation (docs/performance.md). */
static int reset(void *ctx, uint8_t *at, uint64_t count)
{
	uint8_t *end = at + (count << PAGE_SHIFT), *from = at < (uint8_t *)LOW_WINDOW_START ? (uint8_t *)LOW_WINDOW_START : at;
	size_t size = (size_t)(end - from);

	(void)ctx;
	if ((uintptr_t)at < WINDOW_SIZE)
		return munmap(from, size) ? -errno : 0;
	return mmap(from, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED ? -errno : 0;
}

/* The bottom entry, which every empty stack returns to. */
static void plant_underflow(const struct shadow_view *view)
{
	uint64_t *bottom = (uint64_t *)view->return_top - 1;

	*bottom = (uint64_t)entry_underflow;
}

bool view_equip(struct runtime *r, struct shadow_view *view)
{
	if (view->return_top)
		return true;
	uint8_t *base = fences_alloc(&r->fences, RETURN_STACK + PAGE_SIZE, PROT_NONE);
	view->jumps = calloc(JUMP_TABLES, sizeof(struct jump_table));
	if (!base || !view->jumps || mprotect(base + PAGE_SIZE, RETURN_STACK, PROT_READ | PROT_WRITE)) {
		r->failure = "no memory for a view's return stack";
		dispatch_end(r, RUNTIME_HOST_FAILURE);
		return false;
	}
	view->return_top = (uint64_t)base + PAGE_SIZE + RETURN_STACK;
	plant_underflow(view);
	jumps_init(view->jumps);
	view_forget_code(r, view);
	return true;
}

void view_forget_code(struct runtime *r, struct shadow_view *view)
{
	runtime_code_changed(r);
	if (!view->return_top)
		return;
	return_stack_reset(r, view);
	view->jump_epoch = ++r->jump_epoch;
}

void view_free_code(void *ctx, struct shadow_view *view)
{
	struct runtime *r = ctx;

	if (!view->return_top)
		return;
	fences_free(&r->fences, (uint8_t *)view->return_top - RETURN_STACK - PAGE_SIZE, RETURN_STACK + PAGE_SIZE);
	free(view->jumps);
	view->jumps = NULL;
	view->return_top = 0;
}

static void view_reset(void *ctx, struct shadow_view *view)
{
	view_forget_code(ctx, view);
}

bool return_stack_guard_hit(const struct runtime *r, uint64_t rsp, uint64_t address)
{
	uint64_t bottom = r->view ? r->view->return_top - RETURN_STACK : 0;

	return bottom && address < bottom && address >= bottom - PAGE_SIZE && rsp <= bottom + 8;
}

/* SYSEXIT without C would not look whether the window has been left behind. */
static bool may_wait(void *ctx)
{
	struct runtime *r = ctx;

	if (r->v->cpl == 3)
		return false;
	vcpu_forget_user_view(r->v);
	return true;
}

static void code_marked(void *ctx, gpa_t gpa)
{
	struct runtime *r = ctx;

	cache_invalidate(r->cache, gpa, sizeof(uint32_t));
}

struct shadow_ops host_ops(struct runtime *r)
{
	return (struct shadow_ops){
		.ctx = r, .tables_alloc = tables_alloc, .tables_free = tables_free, .tables_trim = tables_trim, .window_alloc = window_alloc,
		.window_free = window_free, .map = map, .protect = protect, .reset = reset, .view_reset = view_reset,
		.may_wait = may_wait, .code_marked = code_marked,
	};
}
