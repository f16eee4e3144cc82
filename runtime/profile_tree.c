#include "runtime/profile_tree.h"

#include <stdlib.h>
#include <string.h>

#define NODES_MAX (1u << 18)
#define BUCKETS (2 * NODES_MAX)
#define NAMES_MAX (32u << 20)

struct profile_tree {
	struct profile_node *nodes;
	uint32_t count, room;
	uint32_t *buckets; /* open hashing by parent and name: index, or 0 */
	char *names;
	uint32_t names_size, names_room;
};

/* Make room for `more` in an array of `size` elements each. */
static bool grow(void **array, uint32_t count, uint32_t *room, uint32_t more, size_t size)
{
	uint32_t wanted = *room ? *room : 1024;
	while (wanted < count + more) wanted *= 2;
	if (wanted == *room) return true;
	void *grown = realloc(*array, wanted * size);
	if (!grown) return false;
	*array = grown;
	*room = wanted;
	return true;
}

static uint32_t add_name(struct profile_tree *t, const char *name)
{
	uint32_t at = t->names_size, size = (uint32_t)strlen(name) + 1;
	memcpy(t->names + at, name, size);
	t->names_size += size;
	return at;
}

/* Totals are kept as samples come: the whole path counts. */
void profile_tree_count(struct profile_tree *t, uint32_t node, uint64_t samples)
{
	t->nodes[node].self += samples;
	for (uint32_t i = node;; i = t->nodes[i].parent) {
		t->nodes[i].total += samples;
		if (i == PROFILE_ROOT) return;
	}
}

static bool has_room(struct profile_tree *t, const char *name)
{
	uint32_t size = (uint32_t)strlen(name) + 1;
	return t->count < NODES_MAX && t->names_size + size <= NAMES_MAX &&
		grow((void **)&t->nodes, t->count, &t->room, 1, sizeof(t->nodes[0])) &&
		grow((void **)&t->names, t->names_size, &t->names_room, size, 1);
}

struct profile_tree *profile_tree_create(void)
{
	struct profile_tree *t = calloc(1, sizeof(*t));
	if (!t) return NULL;
	t->buckets = calloc(BUCKETS, sizeof(*t->buckets));
	if (!t->buckets || !has_room(t, "all")) {
		profile_tree_free(t);
		return NULL;
	}
	t->nodes[t->count++] = (struct profile_node){ .name = add_name(t, "all"), .kind = FRAME_ALL };
	return t;
}

void profile_tree_free(struct profile_tree *t)
{
	if (!t) return;
	free(t->nodes);
	free(t->buckets);
	free(t->names);
	free(t);
}

/* Where this callee's index is, or belongs. */
static uint32_t *find_bucket(struct profile_tree *t, uint32_t parent, const char *name, enum frame_kind kind)
{
	uint32_t hash = 2166136261u ^ parent ^ (uint32_t)kind << 24;
	for (const char *c = name; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619u;
	for (;; hash++) {
		uint32_t *bucket = &t->buckets[hash % BUCKETS];
		const struct profile_node *n = &t->nodes[*bucket];
		if (!*bucket || (n->parent == parent && n->kind == kind && !strcmp(t->names + n->name, name))) return bucket;
	}
}

uint32_t profile_tree_child(struct profile_tree *t, uint32_t parent, const char *name, enum frame_kind kind)
{
	uint32_t *bucket = find_bucket(t, parent, name, kind);
	if (*bucket) return *bucket;
	if (!has_room(t, name)) return parent;
	struct profile_node *up = &t->nodes[parent];
	t->nodes[t->count] = (struct profile_node){ .parent = parent, .next = up->first_child, .name = add_name(t, name), .kind = kind };
	up->first_child = t->count;
	return *bucket = t->count++;
}

uint64_t profile_tree_samples(const struct profile_tree *t)
{
	return t->nodes[PROFILE_ROOT].total;
}

uint64_t profile_tree_samples_of(const struct profile_tree *t, enum frame_kind kind)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < t->count; i++) sum += t->nodes[i].kind == kind ? t->nodes[i].self : 0;
	return sum;
}

const struct profile_node *profile_tree_node(const struct profile_tree *t, uint32_t index)
{
	return &t->nodes[index];
}

const char *profile_tree_name(const struct profile_tree *t, uint32_t index)
{
	return t->names + t->nodes[index].name;
}
