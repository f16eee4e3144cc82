/* A tree of calls with how often each was met, and its picture: a flame graph. Knows names, not guests. */
#ifndef RUNTIME_PROFILE_TREE_H
#define RUNTIME_PROFILE_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct profile_tree;

/* What a frame is; it decides the colour. */
enum frame_kind { FRAME_ALL, FRAME_KERNEL, FRAME_USER, FRAME_UNKNOWN, FRAME_MONITOR };

#define PROFILE_ROOT 0u

/* NULL without memory. */
struct profile_tree *profile_tree_create(void);
void profile_tree_free(struct profile_tree *t);
/* The callee of this name, made if need be; the parent itself if there is no room left for more. */
uint32_t profile_tree_child(struct profile_tree *t, uint32_t parent, const char *name, enum frame_kind kind);
void profile_tree_count(struct profile_tree *t, uint32_t node, uint64_t samples);
uint64_t profile_tree_samples(const struct profile_tree *t);
/* Samples of a kind's innermost frames. */
uint64_t profile_tree_samples_of(const struct profile_tree *t, enum frame_kind kind);

/* An SVG that stands alone: a click zooms, Ctrl-F searches. `subtitle` is plain text. */
void profile_svg_write(const struct profile_tree *t, const char *subtitle, FILE *out);

/* For the picture. */
struct profile_node {
	uint32_t parent, first_child, next; /* 0: none */
	uint32_t name;                      /* offset in the names */
	enum frame_kind kind;
	uint64_t self, total;               /* in it; and with its callees */
};
const struct profile_node *profile_tree_node(const struct profile_tree *t, uint32_t index);
const char *profile_tree_name(const struct profile_tree *t, uint32_t index);

#endif
