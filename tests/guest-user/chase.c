/* Pointer chasing in a ring of nodes in random order: each load waits for the one before. */
#include "user.h"

enum { COUNT = 4096, STEPS = 4000000 };

const char program_name[] = "chase";
const unsigned program_repetitions = 25;
const uint32_t program_checksum = 1094138086;

struct node {
	struct node *next;
	uint32_t value;
};

static struct node nodes[COUNT];
static uint16_t order[COUNT];

static void make_ring(void)
{
	uint32_t x = 3;
	for (unsigned i = 0; i < COUNT; i++) order[i] = (uint16_t)i;
	for (unsigned i = COUNT - 1; i; i--) {
		x = next_random(x);
		unsigned j = (x >> 8) % (i + 1);
		uint16_t swap = order[i];
		order[i] = order[j];
		order[j] = swap;
	}
	for (unsigned i = 0; i < COUNT; i++) {
		nodes[order[i]].next = &nodes[order[(i + 1) % COUNT]];
		nodes[order[i]].value = i * 2654435761u;
	}
}

uint32_t program_run(void)
{
	uint32_t sum = 0;
	make_ring();
	const struct node *node = nodes;
	for (unsigned i = 0; i < STEPS; i++) {
		sum += node->value;
		node = node->next;
	}
	return sum ^ (uint32_t)(node - nodes);
}
