/* Who called whom in the guest, as far as that is sound. Three witnesses:
 *
 * - the return-prediction stack: each pad on it stands for a call that was made and not yet returned from. It may be out of step or cut
 *   short, so a pad counts only if its return address is found on the guest's stack, farther out than the last one;
 * - beyond those, the chain of frame pointers, while it climbs and each return address stands behind a call instruction;
 * - the call instruction itself, which names the function that it led to.
 *
 * Nothing here changes the guest: pages are looked at without setting A or D. */
#include "runtime/profile.h"

#include <string.h>

#include "runtime/internal.h"

#define STACK_MOST KIB(256)  /* how far out the outermost frame may be */
#define SEARCH_WORDS 1024u   /* how far apart two calls' return addresses may be, in words */
#define STALE_MOST 4u        /* pads out of step before the rest is not believed */
#define FUNCTION_MOST KIB(64)

struct walker {
	struct runtime *r;
	const struct profile_state *s;
	struct profile_frame *frames;
	unsigned count;
	uint32_t position; /* behind the outermost return address so far, as an offset in SS */
	bool user;
	gva_t page_at;     /* the page of the stack looked at last */
	const uint8_t *page;
};

static bool read_stack(struct walker *w, uint32_t offset, uint32_t *value)
{
	gva_t gva = w->s->ss_base + offset;

	if ((gva & ~PAGE_MASK) != w->page_at || !w->page) {
		w->page_at = gva & ~PAGE_MASK;
		w->page = code_page(w->r, gva, w->user);
	}
	if (!w->page)
		return false;
	memcpy(value, w->page + (gva & PAGE_MASK & ~3u), 4);
	return true;
}

static bool read_code(const struct walker *w, gva_t gva, uint8_t *to, unsigned size)
{
	for (unsigned i = 0; i < size; i++) {
		const uint8_t *page = code_page(w->r, gva + i, w->user);
		if (!page)
			return false;
		to[i] = page[(gva + i) & PAGE_MASK];
	}
	return true;
}

/* FFh /2 of this length, the bytes before the return address. */
static bool is_indirect_call(const uint8_t *at, unsigned length)
{
	unsigned mod = at[1] >> 6, rm = at[1] & 7;
	unsigned sib = mod != 3 && rm == 4, wide = mod == 2 || (mod == 0 && rm == 5) || (mod == 0 && sib && (at[2] & 7) == 5);

	return at[0] == 0xFF && (at[1] >> 3 & 7) == 2 && length == 2 + sib + (wide ? 4u : mod == 1 ? 1u : 0u);
}

/* Does a call stand before this return address? *target is where it leads, or 0. */
static bool is_behind_call(const struct walker *w, uint32_t eip, gva_t *target)
{
	uint8_t code[7];
	gva_t gva = w->s->cs_base + eip;
	int32_t distance;

	*target = 0;
	if (!read_code(w, gva - sizeof(code), code, sizeof(code)))
		return false;
	if (code[2] == 0xE8) {
		memcpy(&distance, code + 3, 4);
		*target = gva + (uint32_t)distance;
		return true;
	}
	for (unsigned length = 2; length <= 7; length++)
		if (is_indirect_call(code + 7 - length, length))
			return true;
	return false;
}

/* The return address at this offset of the stack is a caller's. The call that it stands behind may tell where the function begins that was
 * outermost until now. */
static void add_caller(struct walker *w, uint32_t offset, uint32_t eip, gva_t target)
{
	struct profile_frame *callee = &w->frames[w->count - 1];

	if (target && target <= callee->gva && callee->gva - target < FUNCTION_MOST)
		callee->entry = target;
	w->frames[w->count++] = (struct profile_frame){.gva = w->s->cs_base + eip - 1};
	w->position = offset + 4;
}

/* Where on the stack this return address is, from the last one outwards. */
static bool find_on_stack(struct walker *w, uint32_t eip, uint32_t *offset)
{
	uint32_t value;

	for (uint32_t i = 0; i < SEARCH_WORDS; i++) {
		*offset = w->position + 4 * i;
		if (!read_stack(w, *offset, &value))
			return false;
		if (value == eip)
			return true;
	}
	return false;
}

static void follow_pads(struct walker *w)
{
	const struct shadow_view *view = w->r->view;
	uint64_t rsp = w->r->v->return_rsp, top = view ? view->return_top : 0;
	unsigned stale = 0;

	if (!view || view->user != w->user || !top || rsp >= top || rsp < top - RETURN_STACK)
		return;
	for (const uint64_t *pad = (const uint64_t *)rsp; (uint64_t)pad < top - 8 && w->count < PROFILE_FRAMES && stale < STALE_MOST; pad++) {
		const struct block *b = cache_find_host(w->r->cache, *pad);
		struct side_row row;
		uint32_t offset;
		gva_t target;
		if (b && cache_find_row(b, *pad, &row) && find_on_stack(w, row.eip, &offset) && is_behind_call(w, row.eip, &target))
			add_caller(w, offset, row.eip, target);
		else
			stale++;
	}
}

static void follow_frame_pointers(struct walker *w)
{
	uint32_t frame = w->s->ebp, up, eip;
	gva_t target;

	for (uint32_t last = w->s->esp - 1; frame > last && frame - w->s->esp < STACK_MOST && !(frame & 3); frame = up) {
		if (w->count == PROFILE_FRAMES || !read_stack(w, frame, &up) || !read_stack(w, frame + 4, &eip) || !is_behind_call(w, eip, &target))
			return;
		if (frame + 4 >= w->position)
			add_caller(w, frame + 4, eip, target);
		last = frame;
	}
}

unsigned profile_walk(struct runtime *r, const struct profile_state *s, struct profile_frame frames[PROFILE_FRAMES])
{
	struct walker w = {.r = r, .s = s, .frames = frames, .count = 1, .position = s->esp & ~3u, .user = (s->mode & MODE_CPL) == 3};

	frames[0] = (struct profile_frame){.gva = s->cs_base + s->eip};
	/* Of a process that is gone nothing can be read; 16-bit code has stacks of its own kind. */
	if ((w.user && s->cr3 != r->v->cr3) || !(s->mode & MODE_CS32) || !(s->mode & MODE_SS32))
		return 1;
	follow_pads(&w);
	follow_frame_pointers(&w);
	return w.count;
}
