/* Where a block's code lies best. What a processor fetches at once lies in one line of 64 bytes: a short function or loop that runs into the next
 * line pays for it as for a branch (Zen 3, recursive fib: 1.1 to 1.5 x native, by nothing but where it lies). So a block may begin some bytes further on,
 * where its likely paths run into fewer lines. How likely they are is a guess: one way of a branch is as good as the other, and loops run several times. */
#include <string.h>

#include "translator/internal.h"

#define LINE 64u
#define STEP 4u   /* bytes */
#define FLOW 16u  /* the guess, where a block begins */
#define LOOP 3u   /* its logarithm, for what is in a loop */
#define LOOPS 2u  /* one within the other */

struct guess {
	uint32_t flow[TRANSLATOR_MAX_INSTRUCTIONS];
	uint8_t loops[TRANSLATOR_MAX_INSTRUCTIONS];
};

static int joined_by(const struct translation *t, uint32_t i)
{
	return t->join_to[i] < (int)t->count ? t->join_to[i] : -1;
}

static void guess_loops(const struct translation *t, struct guess *g)
{
	for (uint32_t i = 0; i < t->count; i++) {
		bool itself = calls_itself(t, &t->insns[i]);
		int to = itself ? 0 : joined_by(t, i);
		uint32_t end = itself ? t->count : i + 1;
		for (uint32_t j = to < 0 ? end : (uint32_t)to; j < end; j++)
			g->loops[j] += g->loops[j] < LOOPS;
	}
}

static void guess_flow(const struct translation *t, struct guess *g)
{
	uint32_t flow = FLOW;

	for (uint32_t i = 0; i < t->count; i++) {
		int to = joined_by(t, i);
		flow += g->flow[i];
		g->flow[i] = (flow ? flow : 1) << LOOP * g->loops[i];
		if (to < 0 && t->insns[i].rule->emit != emit_jcc_insn)
			continue;
		flow /= 2;
		if (to > (int)i)
			g->flow[to] += flow;
	}
}

/* What it costs that a line begins at this offset of the main line, in or before the instruction of this index. */
static uint32_t crossing(const struct translation *t, const struct guess *g, uint32_t at, uint32_t i)
{
	const uint16_t *starts = t->out->starts;
	bool behind_call = t->insns[i].rule->emit == emit_call_insn && at + trap_pad_length(t) == starts[i + 1];

	return behind_call ? 0 : g->flow[at == starts[i] && i ? i - 1 : i];
}

/* What each lead costs, in steps: lines then begin at every offset that is so much before the end of one. */
static void add_costs(const struct translation *t, const struct guess *g, uint32_t *costs)
{
	const uint16_t *starts = t->out->starts;
	uint32_t i = 0, begin = (uint32_t)t->in->code_pc;

	for (uint32_t at = STEP - begin % STEP; at < starts[t->count]; at += STEP) {
		while (i + 1 < t->count && starts[i + 1] <= at) i++;
		costs[(0u - begin - at) % LINE / STEP] += crossing(t, g, at, i);
	}
}

uint32_t place_lead(const struct translation *t)
{
	uint32_t costs[LINE / STEP] = {0}, best = 0;
	struct guess g;

	memset(g.flow, 0, t->count * sizeof(*g.flow));
	memset(g.loops, 0, t->count * sizeof(*g.loops));
	guess_loops(t, &g);
	guess_flow(t, &g);
	add_costs(t, &g, costs);
	for (uint32_t i = 1; i < LINE / STEP; i++)
		if (costs[i] + i * STEP / 2 < costs[best] + best * STEP / 2)
			best = i;
	return best * STEP;
}
