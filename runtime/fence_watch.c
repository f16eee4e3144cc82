/* --chaos=fence: the host's memory beside the guest's, and what the process consists of, looked at while the guest runs and after it. */
#include "runtime/fence.h"

#include <dirent.h>
#include <stdlib.h>

#include "base/log.h"
#include "runtime/internal.h"

#define EVERY_DISPATCHES 500u
#define PAUSE 3u             /* times as long as the look took: most of the time is the guest's */
#define OTHER_MEMORY MIB(384)  /* beside blocks' and frames' side tables: soft tables and the reverse map, by their budgets, and the fences */
#define OTHER_MAPPINGS 2000u /* beside those of windows: the program, libraries, tables, stacks and their fences */

struct spans {
	struct span *list;
	unsigned count;
};

static void add_span(struct spans *s, int kind, uint64_t from, uint64_t size)
{
	s->list[s->count++] = (struct span){.kind = kind, .from = from, .to = from + size};
}

static void add_window(void *ctx, struct shadow_view *view)
{
	uint64_t window = (uint64_t)view->window;

	if (!view->direct)
		return;
	if (!window) {
		add_span(ctx, SPAN_WINDOW, LOW_WINDOW_START, WINDOW_SIZE - LOW_WINDOW_START);
		return;
	}
	add_span(ctx, SPAN_NOTHING, window - WINDOW_GUARD, WINDOW_GUARD);
	add_span(ctx, SPAN_WINDOW, window, WINDOW_SIZE);
	add_span(ctx, SPAN_NOTHING, window + WINDOW_SIZE, WINDOW_GUARD);
}

static void count_view(void *ctx, struct shadow_view *view)
{
	(void)view;
	++*(unsigned *)ctx;
}

static const char *check_layout(struct runtime *r, char *why, size_t size)
{
	unsigned views = 0;
	uint64_t code_from, code_to;

	shadow_each_view(r->shadow, count_view, &views);
	cache_memory(r->cache, &code_from, &code_to);
	struct spans s = {.list = calloc(4 + 3 * views, sizeof(*s.list))};
	FILE *maps = fopen("/proc/self/maps", "re");
	const char *wrong = "the process's mappings cannot be read";
	if (s.list && maps) {
		uint64_t guard = r->low.owner ? WINDOW_SIZE : LOW_WINDOW_START;
		add_span(&s, SPAN_NOTHING, guard, LOW_GUARD_END - guard);
		add_span(&s, SPAN_NOTHING, (uint64_t)r->v + VCPU_TRAP + 1, VCPU_TRAP_SIZE);
		add_span(&s, SPAN_RAM, (uint64_t)r->ram, r->ram_size);
		add_span(&s, SPAN_CODE, code_from, code_to - code_from);
		shadow_each_view(r->shadow, add_window, &s);
		struct layout l = {.spans = s.list, .count = s.count, .most_mappings = MAP_BUDGET + OTHER_MAPPINGS};
		wrong = layout_check(&l, maps, why, size);
	}
	if (maps)
		fclose(maps);
	free(s.list);
	return wrong;
}

static unsigned count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* Memory of the process's own, in bytes: neither guest memory nor code. */
static uint64_t count_memory(void)
{
	char line[128];
	unsigned long long kib = 0;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f) && sscanf(line, "RssAnon: %llu", &kib) != 1)
		;
	if (f)
		fclose(f);
	return kib << 10;
}

static const char *check_memory(const struct runtime *r, char *why, size_t size)
{
	uint64_t now = count_memory(), most = 2 * r->config.tc_size + r->ram_size / 4 + OTHER_MEMORY;

	if (now <= most && now)
		return NULL;
	snprintf(why, size, "the process uses %llu MiB of its own memory; %llu is the most that it may use", (unsigned long long)now >> 20,
		 (unsigned long long)most >> 20);
	return why;
}

static const char *check_descriptors(struct runtime *r)
{
	unsigned now = count_descriptors();

	if (!r->fence_watch.descriptors)
		r->fence_watch.descriptors = now;
	return now == r->fence_watch.descriptors ? NULL : "the number of open descriptors has changed";
}

static const char *check_host(struct runtime *r, char *why, size_t size)
{
	const uint8_t *changed = fences_find_change(&r->fences);

	r->stats.fence_checks++;
	if (changed) {
		snprintf(why, size, "the host's memory beside the guest's was written at %p", (const void *)changed);
		return why;
	}
	const char *wrong = check_descriptors(r);
	if (!wrong)
		wrong = check_memory(r, why, size);
	return wrong ? wrong : check_layout(r, why, size);
}

static bool look(struct runtime *r)
{
	static _Thread_local char why[640];
	const char *wrong = check_host(r, why, sizeof(why));

	if (!wrong)
		return true;
	LOG(LOG_RUNTIME, LOG_ERROR, "%s", wrong);
	r->failure = wrong;
	return false;
}

void fence_watch_look(struct runtime *r)
{
	struct fence_watch *w = &r->fence_watch;

	if (++w->dispatches < EVERY_DISPATCHES)
		return;
	w->dispatches = 0;
	uint64_t start = runtime_now_ns();
	if (start < w->next)
		return;
	if (!look(r))
		dispatch_end(r, RUNTIME_HOST_FAILURE);
	uint64_t end = runtime_now_ns();
	w->next = end + PAUSE * (end - start);
}

void fence_watch_end(struct runtime *r)
{
	if (r->end != RUNTIME_HOST_FAILURE && !look(r))
		r->end = RUNTIME_HOST_FAILURE;
}
