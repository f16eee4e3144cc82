/* What the guest's processor has, as CPUID shows it: the one list is base/features.def. vcpu.features holds a FEATURE_BIT for each, fixed from
 * the start (--cpu=LIST); CPUID, the bits of CR4 that can be set, MSRs and instructions all follow from it. */
#ifndef BASE_FEATURES_H
#define BASE_FEATURES_H

#include <stdint.h>

enum feature {
#define FEATURE(id, name, leaf, reg, bit, host, shown, cr4) FEATURE_##id,
#include "base/features.def"
#undef FEATURE
	FEATURE_COUNT
};
_Static_assert(FEATURE_COUNT <= 64, "a bit each");

#define FEATURE_BIT(feature) (UINT64_C(1) << (feature))
#define FEATURES_ALL UINT64_MAX

#endif
