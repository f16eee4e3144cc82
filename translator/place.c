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

#define STEPS (LINE / STEP)
#define PLACES 512u /* of longer blocks so many steps are looked at */
#define AT_ONCE 4u
_Static_assert(PLACES % STEPS == 0 && AT_ONCE <= STEPS, "what is added up or written at once stays within the places");

/* What it costs that a line begins at each step of the code: in an instruction, or before the first, what comes to it; between two of them, what comes from the
 * first that has code; behind a call and its pad, nothing. Returns how many there are. */
static uint32_t find_costs(const struct translation *t, const struct guess *g, uint32_t first, uint32_t places[PLACES + STEPS])
{
	const uint16_t *starts = t->out->starts;
	uint32_t count = starts[t->count] > first ? (starts[t->count] - first + STEP - 1) / STEP : 0, from = 0;

	for (uint32_t i = 0; i < t->count && from < PLACES; i++) {
		uint32_t to = starts[i + 1] < first ? 0 : (starts[i + 1] - first) / STEP + 1;
		/* What is too many is the next one's, and written over. */
		for (uint32_t at = from; at < to && at < PLACES; at += AT_ONCE)
			for (uint32_t k = 0; k < AT_ONCE; k++) places[at + k] = g->flow[i];
		uint32_t behind_call = starts[i + 1] - trap_pad_length(t) - first;
		if (t->insns[i].rule->emit == emit_call_insn && behind_call % STEP == 0 && behind_call / STEP < PLACES)
			places[behind_call / STEP] = 0;
		from = to;
	}
	return count < PLACES ? count : PLACES;
}

uint32_t place_lead(const struct translation *t)
{
	uint32_t places[PLACES + STEPS], costs[STEPS] = {0}, best = 0, first = STEP - (uint32_t)t->in->code_pc % STEP;
	struct guess g;

	memset(g.flow, 0, t->count * sizeof(*g.flow));
	memset(g.loops, 0, t->count * sizeof(*g.loops));
	guess_loops(t, &g);
	guess_flow(t, &g);
	uint32_t count = find_costs(t, &g, first, places);
	memset(places + count, 0, STEPS * sizeof(*places));
	for (uint32_t i = 0; i < count; i += STEPS)
		for (uint32_t j = 0; j < STEPS; j++) costs[j] += places[i + j];
	/* With a lead of none, the first step is so many before a line's end. */
	uint32_t none = (0u - (uint32_t)t->in->code_pc - first) / STEP;
	uint32_t least = costs[none % STEPS];
	for (uint32_t lead = 1; lead < STEPS; lead++) {
		uint32_t cost = costs[(none - lead) % STEPS] + lead * STEP / 2;
		if (cost < least) {
			least = cost;
			best = lead;
		}
	}
	return best * STEP;
}
