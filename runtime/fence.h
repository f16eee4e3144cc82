/* Host memory beside what the guest's instructions reach. Each piece of it lies between two fences that nothing ever touches. They cannot
 * be accessed; --chaos=fence makes them writable and fills them with a pattern, which is compared byte for byte while the guest runs and
 * after it. Then the process's mappings are looked at too: what is mapped where, and how much of it there is. */
#ifndef RUNTIME_FENCE_H
#define RUNTIME_FENCE_H

#include <stdio.h>

#include "base/types.h"

#define FENCE_SIZE KIB(64)

struct fenced {
	uint8_t *at;
	size_t size;
};

struct fences {
	bool patterned;
	struct fenced *list;
	unsigned count, capacity;
};

/* Zero-filled memory between two fences: whole pages of this protection, or NULL. */
void *fences_alloc(struct fences *f, size_t size, int protection);
/* Ditto, where the byte at `offset` lies at a multiple of `align`, a power of two. */
void *fences_alloc_aligned(struct fences *f, size_t size, int protection, size_t align, size_t offset);
void fences_free(struct fences *f, void *p, size_t size);
/* The first byte of a fence that is not as it was, or NULL. */
const uint8_t *fences_find_change(const struct fences *f);
void fences_destroy(struct fences *f);

/* A part of the address space, and what may be there. */
struct span {
	enum { SPAN_NOTHING, SPAN_WINDOW, SPAN_RAM, SPAN_CODE } kind; /* a window: nothing, or guest memory */
	uint64_t from, to;
};

struct layout {
	const struct span *spans;
	unsigned count;
	unsigned most_mappings;
};

/* Guest memory's memfd; and what /proc says of anonymous memory that is shared, as code memory is. */
#define RAM_FILE "guest-ram"
#define CODE_PATH "/dev/zero"

/* Read /proc/PID/maps; a sentence with the line that is wrong, or NULL. `why` holds the sentence. */
const char *layout_check(const struct layout *l, FILE *maps, char *why, size_t size);

#endif
