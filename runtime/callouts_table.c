/* The table of all callouts, in the order of base/callout.def. */
#include "runtime/cpu.h"

callout_fn *const callout_table[CALLOUT_COUNT] = {
#define CALLOUT(name, what) [CALLOUT_##name] = callout_##name,
#include "base/callout.def"
#undef CALLOUT
};
