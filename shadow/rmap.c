/* The pool of list links behind the reverse map (frame -> who may write it) and the use lists of page tables. */
#include <stdlib.h>

#include "shadow/internal.h"

static void grow(struct link_pool *p)
{
	uint32_t size = p->size ? p->size * 2 : 4096;
	struct link *links = realloc(p->links, (size_t)size * sizeof(*links));
	if (!links) {
		log_write(LOG_SHADOW, LOG_ERROR, "out of memory for the reverse map");
		abort();
	}
	uint32_t first = p->size ? p->size : 1; /* link 0 means none */
	for (uint32_t i = first; i < size; i++) links[i].next = i + 1 < size ? i + 1 : 0;
	p->links = links;
	p->free = first;
	p->size = size;
}

void links_add(struct link_pool *p, uint32_t *head, uint32_t key)
{
	if (!p->free) grow(p);
	uint32_t i = p->free;
	p->free = p->links[i].next;
	p->links[i] = (struct link){ .next = *head, .key = key };
	*head = i;
	p->used++;
}

bool links_remove(struct link_pool *p, uint32_t *head, uint32_t key)
{
	for (uint32_t *at = head; *at; at = &p->links[*at].next) {
		uint32_t i = *at;
		if (p->links[i].key != key) continue;
		*at = p->links[i].next;
		p->links[i].next = p->free;
		p->free = i;
		p->used--;
		return true;
	}
	return false;
}

bool links_full(const struct link_pool *p, uint32_t head)
{
	uint32_t count = 0;
	for (uint32_t i = head; i && count < LIST_MOST; i = p->links[i].next) count++;
	return count == LIST_MOST;
}

bool links_contain(const struct link_pool *p, uint32_t head, uint32_t key)
{
	for (uint32_t i = head; i; i = p->links[i].next)
		if (p->links[i].key == key) return true;
	return false;
}
