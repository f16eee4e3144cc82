/* Counting instruction forms ("add r32,m32") as they are translated: --forms. What a guest uses is what the differential tests must cover. Blocks
 * are basic blocks then, so that next to nothing is counted that does not run. */
#include <stdlib.h>
#include <string.h>

#include "runtime/internal.h"

#define FORM_SLOTS 8192u /* far above the forms there are */
#define FORM_NAME 48u

struct forms {
	struct form {
		char name[FORM_NAME];
		uint64_t count;
	} slot[FORM_SLOTS];
};

struct forms *forms_create(void)
{
	return calloc(1, sizeof(struct forms));
}

static struct form *find(struct forms *f, const char *name)
{
	uint32_t hash = 2166136261u;

	for (const char *c = name; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 16777619u;
	while (f->slot[hash % FORM_SLOTS].count && strcmp(f->slot[hash % FORM_SLOTS].name, name))
		hash++;
	return &f->slot[hash % FORM_SLOTS];
}

void forms_count(struct forms *f, const uint8_t *bytes, uint32_t length, uint32_t mode)
{
	char name[FORM_NAME];

	for (uint32_t at = 0, step; at < length; at += step) {
		step = translator_length(bytes + at, length - at, mode);
		if (!step)
			return;
		translator_form(bytes + at, length - at, mode, name, sizeof(name));
		struct form *form = find(f, name);
		memcpy(form->name, name, sizeof(name));
		form->count++;
	}
}

static int by_count(const void *a, const void *b)
{
	const struct form *x = a, *y = b;

	return x->count < y->count ? 1 : x->count > y->count ? -1 : strcmp(x->name, y->name);
}

void forms_write(struct forms *f, FILE *out)
{
	qsort(f->slot, FORM_SLOTS, sizeof(f->slot[0]), by_count);
	for (uint32_t i = 0; i < FORM_SLOTS && f->slot[i].count; i++)
		fprintf(out, "%8lu %s\n", (unsigned long)f->slot[i].count, f->slot[i].name);
}
