/* What a host PC stands for beside the EIP: the view that it runs in, and the context. Compiled for general registers alone: see quick.c. */
#include "runtime/internal.h"

static void set_gs_base(uint8_t *base)
{
	__asm__ volatile("wrgsbase %0" : : "r"(base));
}

static void change_view(struct runtime *r, struct shadow_view *view)
{
	struct vcpu *v = r->v;

	if (r->view)
		r->view->return_rsp = v->return_rsp;
	r->view = view;
	v->return_rsp = view->return_rsp;
}

bool context_use_view(struct runtime *r)
{
	struct vcpu *v = r->v;
	struct shadow_view *view = r->views[v->cpl == 3];

	if (!view->return_top || (v->cpl == 3 && view->behind))
		return false;
	if (view != r->view)
		change_view(r, view);
	v->tables = (uint64_t)view->tables + ABI_TABLES_BIAS;
	v->window = view->window;
	r->window = view->window;
	if (view->user && context_gs_base(r, view) != r->gs_base) {
		r->gs_base = context_gs_base(r, view);
		set_gs_base(r->gs_base);
	}
	return true;
}

static bool same_context(const struct code_context *a, const struct code_context *b)
{
	return a->mode == b->mode && a->cs_base == b->cs_base && a->cs_end == b->cs_end;
}

uint16_t *context_bucket(struct runtime *r, const struct code_context *c)
{
	uint32_t hash = (c->mode * 0x9E3779B1u ^ c->cs_base * 0x85EBCA6Bu ^ c->cs_end * 0xC2B2AE35u) >> 16;

	for (;; hash++) {
		uint16_t *bucket = &r->context_buckets[hash % ARRAY_LEN(r->context_buckets)];
		if (!*bucket || same_context(&r->contexts[*bucket - 1], c))
			return bucket;
	}
}

/* Tables of the inline lookup are valid for a context and for the view's code pages as they are; landing pads stand for one context, and are
 * forgotten when another begins. */
bool context_match(struct runtime *r)
{
	struct code_context context = context_now(r);
	uint32_t number = *context_bucket(r, &context);

	if (!number)
		return false;
	jumps_select(r, r->view, number - 1);
	if (r->view->return_context != number - 1) {
		return_stack_reset(r, r->view);
		r->view->return_context = number - 1;
	}
	return true;
}
