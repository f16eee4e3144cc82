/* What the callers ask for: the soft-miss path, the hidden-fault path, and the walk without consequences. */
#include "shadow/internal.h"

static struct shadow_answer answer_walk(const struct shadow *s, gva_t gva, unsigned access, const struct walk *w)
{
	struct shadow_answer a = { .kind = SHADOW_RAM, .gpa = (gpa_t)w->gfn << PAGE_SHIFT | (gva & PAGE_MASK) };
	if (!frame_is_ram(s, w->gfn))
		a.kind = SHADOW_MMIO;
	else if (w->guarded ? !(access & ACCESS_FETCH) : (access & ACCESS_WRITE) && frame_is_traced(&s->frames[w->gfn]))
		a.kind = SHADOW_TRACED;
	return a;
}

static struct view *access_view(const struct shadow *s, unsigned access)
{
	return access & ACCESS_USER ? s->user : s->supervisor;
}

static struct shadow_answer resolve(struct shadow *s, struct view *v, gva_t gva, unsigned access, struct walk *w)
{
	uint32_t slot = page_slot(s, gva >> PAGE_SHIFT);
	if (!s->mode.walk(s, &s->root, gva, access, w)) {
		v->quiet_writes[slot] = 0; /* a use: the table is about to be filled for it */
		return (struct shadow_answer){ .kind = SHADOW_FAULT, .error = w->error };
	}
	walk_mark(s, w, access);
	if (w->unprotected && w->dirty) slot_unprotect(s, v, slot);
	/* Shown first: the page table may be the very frame that is being accessed, and is traced from now on. */
	if (!view_top(s, v, slot))
		slot_show(s, v, slot, w);
	else
		view_set_top(s, v, slot, w->top); /* no more than A and D are new */
	struct shadow_answer a = answer_walk(s, gva, access, w);
	if (a.kind != SHADOW_RAM) return a;
	v->quiet_writes[slot] = 0;
	a.writable_too = tables_fill(s, v, gva >> PAGE_SHIFT, w, access);
	return a;
}

struct shadow_answer shadow_resolve(struct shadow *s, gva_t gva, unsigned access)
{
	struct walk w;
	return resolve(s, access_view(s, access), gva, access, &w);
}

struct shadow_answer shadow_peek(struct shadow *s, gva_t gva, unsigned access)
{
	struct walk w;
	if (!s->mode.walk(s, &s->root, gva, access, &w)) return (struct shadow_answer){ .kind = SHADOW_FAULT, .error = w.error };
	struct shadow_answer a = answer_walk(s, gva, access, &w);
	a.writable_too = a.kind == SHADOW_RAM && walk_may_write(s, &w);
	return a;
}

unsigned shadow_entries(struct shadow *s, gva_t gva, unsigned access, gpa_t at[2])
{
	struct walk w;
	unsigned count = 0;
	if (!s->mode.walk(s, &s->root, gva, access, &w)) return 0;
	if (w.top_at) at[count++] = (gpa_t)((uint8_t *)w.top_at - s->ram);
	if (w.leaf_at) at[count++] = (gpa_t)((uint8_t *)w.leaf_at - s->ram);
	return count;
}

struct shadow_answer shadow_map(struct shadow *s, gva_t gva, unsigned access, bool *mapped)
{
	struct view *v = access_view(s, access);
	struct walk w;
	struct shadow_answer a = resolve(s, v, gva, access, &w);
	bool may_show = a.kind == SHADOW_RAM && v->shows && !(v->flags[page_slot(s, gva >> PAGE_SHIFT)] & SLOT_VOLATILE);
	if (a.kind == SHADOW_FAULT && v->pub.user) shadow_expect(s, gva);
	*mapped = may_show && direct_show_page(s, v, gva >> PAGE_SHIFT, &w);
	return a;
}
