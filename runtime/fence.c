#include "runtime/fence.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* --- fences --- */

/* Another value at each address: a copy from elsewhere is noticed too. */
static uint64_t pattern_at(const uint64_t *at)
{
	return (uint64_t)(uintptr_t)at * 0x9E3779B97F4A7C15u ^ 0xF0E1D2C3B4A59687u;
}

static void fill(uint8_t *fence)
{
	uint64_t *words = (uint64_t *)(void *)fence;
	for (size_t i = 0; i < FENCE_SIZE / sizeof(*words); i++) words[i] = pattern_at(&words[i]);
}

static const uint8_t *find_change(const uint8_t *fence)
{
	const uint64_t *words = (const uint64_t *)(const void *)fence;
	for (size_t i = 0; i < FENCE_SIZE / sizeof(*words); i++) {
		uint64_t differs = words[i] ^ pattern_at(&words[i]);
		if (differs) return fence + i * sizeof(*words) + (unsigned)__builtin_ctzll(differs) / 8;
	}
	return NULL;
}

static bool note(struct fences *f, uint8_t *at, size_t size)
{
	if (f->count == f->capacity) {
		unsigned capacity = f->capacity ? 2 * f->capacity : 32;
		struct fenced *list = realloc(f->list, capacity * sizeof(*list));
		if (!list) return false;
		f->list = list;
		f->capacity = capacity;
	}
	f->list[f->count++] = (struct fenced){ at, size };
	return true;
}

static bool paint(struct fences *f, uint8_t *at, size_t size)
{
	uint8_t *fence[] = { at - FENCE_SIZE, at + size };
	for (unsigned i = 0; i < 2; i++) {
		if (mprotect(fence[i], FENCE_SIZE, PROT_READ | PROT_WRITE)) return false;
		fill(fence[i]);
	}
	return note(f, at, size);
}

/* Address space whose byte at `offset` lies at a multiple of `align`. */
static uint8_t *reserve(size_t size, size_t align, size_t offset)
{
	uint8_t *p = mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) return NULL;
	size_t before = -((uintptr_t)p + offset) & (align - 1);
	if (before) munmap(p, before);
	munmap(p + before + size, align - before);
	return p + before;
}

void *fences_alloc(struct fences *f, size_t size, int protection)
{
	return fences_alloc_aligned(f, size, protection, PAGE_SIZE, 0);
}

void *fences_alloc_aligned(struct fences *f, size_t size, int protection, size_t align, size_t offset)
{
	size_t whole = size + 2 * FENCE_SIZE;
	uint8_t *p = reserve(whole, align, FENCE_SIZE + offset);
	if (!p) return NULL;
	uint8_t *at = p + FENCE_SIZE;
	bool ready = protection == PROT_NONE || !mprotect(at, size, protection);
	if (ready && (!f->patterned || paint(f, at, size))) return at;
	munmap(p, whole);
	return NULL;
}

void fences_free(struct fences *f, void *p, size_t size)
{
	for (unsigned i = 0; i < f->count; i++) {
		if (f->list[i].at != p) continue;
		f->list[i] = f->list[--f->count];
		break;
	}
	munmap((uint8_t *)p - FENCE_SIZE, size + 2 * FENCE_SIZE);
}

const uint8_t *fences_find_change(const struct fences *f)
{
	for (unsigned i = 0; i < f->count; i++) {
		const uint8_t *changed = find_change(f->list[i].at - FENCE_SIZE);
		if (!changed) changed = find_change(f->list[i].at + f->list[i].size);
		if (changed) return changed;
	}
	return NULL;
}

void fences_destroy(struct fences *f)
{
	free(f->list);
	*f = (struct fences){ .patterned = f->patterned };
}

/* --- what is mapped where --- */

struct mapping {
	uint64_t from, to;
	char rights[5]; /* "rwxp" */
	const char *path;
};

static bool parse(const char *line, struct mapping *m)
{
	int path = 0;
	int n = sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %*s %n", &m->from, &m->to, m->rights, &path);
	m->path = line + path;
	return n == 3 && path;
}

static bool is_file(const struct mapping *m, const char *memfd)
{
	static const char prefix[] = "/memfd:";
	size_t length = strlen(memfd);
	bool found = !strncmp(m->path, prefix, sizeof(prefix) - 1) && !strncmp(m->path + sizeof(prefix) - 1, memfd, length);
	return found && (m->path[sizeof(prefix) - 1 + length] == ' ' || m->path[sizeof(prefix) - 1 + length] == '\n');
}

static bool is_empty(const struct mapping *m)
{
	return m->rights[0] == '-' && m->rights[1] == '-' && m->rights[2] == '-';
}

static const char *judge_span(const struct span *s, const struct mapping *m, bool *inside)
{
	if (m->to <= s->from || m->from >= s->to) return NULL;
	bool within = m->from >= s->from && m->to <= s->to;
	*inside |= within && (s->kind == SPAN_WINDOW || s->kind == SPAN_RAM || s->kind == SPAN_CODE);
	if (s->kind == SPAN_NOTHING && !is_empty(m)) return "something can be accessed where nothing may be";
	if (s->kind == SPAN_WINDOW && !is_empty(m) && !is_file(m, RAM_FILE)) return "a window shows something that is no guest memory";
	return NULL;
}

/* Rights that nothing may have, and files that may be nowhere else. */
static const char *judge_rights(const struct mapping *m, bool inside)
{
	bool executable = m->rights[2] == 'x';
	if (executable && m->rights[1] == 'w') return "something can be both written and executed";
	if (executable && is_file(m, RAM_FILE)) return "guest memory can be executed by the host";
	if (executable && *m->path != '/' && *m->path != '[') return "memory without a file can be executed";
	if (is_file(m, RAM_FILE) && !inside) return "guest memory is mapped outside of the windows";
	if (executable && !strncmp(m->path, CODE_PATH, strlen(CODE_PATH)) && !inside) return "code can be executed outside of code memory";
	return NULL;
}

static const char *judge(const struct layout *l, const struct mapping *m)
{
	bool inside = false;
	for (unsigned i = 0; i < l->count; i++) {
		const char *wrong = judge_span(&l->spans[i], m, &inside);
		if (wrong) return wrong;
	}
	return judge_rights(m, inside);
}

const char *layout_check(const struct layout *l, FILE *maps, char *why, size_t size)
{
	char line[512];
	unsigned mappings = 0;
	while (fgets(line, sizeof(line), maps)) {
		struct mapping m;
		const char *wrong = parse(line, &m) ? judge(l, &m) : "a line that cannot be read";
		mappings++;
		if (!wrong) continue;
		snprintf(why, size, "%s: %.*s", wrong, (int)strcspn(line, "\n"), line);
		return why;
	}
	if (mappings <= l->most_mappings && mappings) return NULL;
	snprintf(why, size, "the process has %u mappings; %u is the most that it may have", mappings, l->most_mappings);
	return why;
}
