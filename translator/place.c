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
	for (uint64_t left = t->branches & ((2ull << (t->count - 1)) - 1); left; left &= left - 1) {
		uint32_t i = (uint32_t)__builtin_ctzll(left);
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
		flow += g->flow[i];
		g->flow[i] = (flow ? flow : 1) << LOOP * g->loops[i];
		if (!(t->branches >> i & 1))
			continue;
		int to = joined_by(t, i);
		if (to < 0 && t->insns[i].rule->emit != emit_jcc_insn)
			continue;
		flow /= 2;
		if (to > (int)i)
			g->flow[to] += flow;
	}
}

/* What each lead costs, in steps: lines then begin at every offset that is so much before the end of one. A line that begins in or before an instruction costs
 * what comes to that; between two of them, what comes from the first; behind a call and its pad, nothing. */
static void add_costs(const struct translation *t, const struct guess *g, uint32_t *costs)
{
	const uint16_t *starts = t->out->starts;
	uint32_t begin = (uint32_t)t->in->code_pc, at = STEP - begin % STEP, lead = (0u - begin - at) / STEP;

	for (uint32_t i = 0; i < t->count; i++) {
		uint32_t end = starts[i + 1], none = end;
		if (at >= end)
			continue;
		if (at == starts[i] && i) {
			costs[lead-- % (LINE / STEP)] += g->flow[i - 1];
			at += STEP;
		}
		if (t->insns[i].rule->emit == emit_call_insn)
			none = end - trap_pad_length(t);
		for (; at < end; at += STEP)
			costs[lead-- % (LINE / STEP)] += at == none ? 0 : g->flow[i];
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
