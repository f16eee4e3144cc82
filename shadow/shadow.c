/* Creation and end. */
#include <errno.h>
#include <stdlib.h>

#include "shadow/internal.h"

#define LEAST_BUDGET 16u
#define LEAST_TABLES (2 * PIECES) /* the current views' */
#define MOST_RESERVE 2048u

static int check_config(const struct shadow_config *c)
{
	bool whole_pages = !((c->ram_size | c->hole_start | c->hole_end | (uintptr_t)c->ram) & PAGE_MASK);
	bool in_range = c->ram_size && c->ram_size <= WINDOW_SIZE && c->hole_start <= c->hole_end;
	bool enough = c->max_views && c->max_views <= MAX_VIEWS && c->map_budget >= LEAST_BUDGET && c->table_budget >= LEAST_TABLES;
	return whole_pages && in_range && enough ? 0 : -EINVAL;
}

static int alloc_arrays(struct shadow *s)
{
	s->frames = calloc(s->frames_end, sizeof(*s->frames));
	s->large = calloc(MAX_SLOTS, sizeof(*s->large));
	s->views = calloc(s->config.max_views + 1, sizeof(struct view *));
	return s->frames && s->large && s->views ? 0 : -ENOMEM;
}

int shadow_create(struct shadow **out, const struct shadow_config *config)
{
	int error = check_config(config);
	if (error) return error;
	struct shadow *s = calloc(1, sizeof(*s));
	if (!s) return -ENOMEM;
	s->config = *config;
	s->stats = config->stats;
	s->ram = config->ram;
	s->frames_end = (gfn_t)(config->ram_size >> PAGE_SHIFT);
	s->hole_start = (gfn_t)(config->hole_start >> PAGE_SHIFT);
	s->hole_end = (gfn_t)(config->hole_end >> PAGE_SHIFT);
	uint32_t reserve = config->map_budget / 8;
	s->map_limit = config->map_budget - (reserve < MOST_RESERVE ? reserve : MOST_RESERVE);
	s->root = walk_root(&s->paging);
	s->mode = walk_mode(&s->paging);
	error = alloc_arrays(s);
	if (!error && !((s->supervisor = view_create(s, false)) && (s->user = view_create(s, true)))) error = -ENOMEM;
	if (error) {
		shadow_destroy(s);
		return error;
	}
	s->user->root = s->root;
	s->user->in_use = true;
	window_open(s, s->supervisor, false); /* without one, supervisor code stays soft */
	*out = s;
	return 0;
}

void shadow_destroy(struct shadow *s)
{
	if (!s) return;
	for (uint32_t i = 0; i < s->view_count; i++) view_destroy(s, s->views[i]);
	free(s->views);
	free(s->large);
	free(s->frames);
	free(s->pool.links);
	free(s);
}
