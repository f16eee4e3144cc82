/* What this processor says it is: CPUID (Intel SDM vol. 2). Features are those that the translator's allow-list runs, no more. */
#include <string.h>

#include "runtime/cpu_private.h"

/* Family 6, model 28, stepping 10: an in-order core, which kernels count as not affected by speculation attacks. */
#define SIGNATURE 0x000106CAu

/* Leaf 1, EDX */
#define ID_FPU (1u << 0)
#define ID_PSE (1u << 3)
#define ID_TSC (1u << 4)
#define ID_MSR (1u << 5)
#define ID_CX8 (1u << 8)
#define ID_SEP (1u << 11)
#define ID_PGE (1u << 13)
#define ID_CMOV (1u << 15)
#define ID_MMX (1u << 23)
#define ID_FXSR (1u << 24)
#define ID_SSE (1u << 25)
#define ID_SSE2 (1u << 26)
/* Leaf 1, ECX */
#define ID_SSE3 (1u << 0)
#define ID_SSSE3 (1u << 9)
#define ID_HYPERVISOR (1u << 31)

/* Leaf 2: L1 data 32 KiB, L1 instructions 32 KiB, L2 2 MiB; one iteration tells all. */
#define CACHE_DESCRIPTORS 0x7D302C01u

#define HYPERVISOR_LEAF 0x40000000u
#define EXTENDED_LEAF 0x80000000u
#define MAX_BASIC_LEAF 2u
#define MAX_EXTENDED_LEAF 0x80000004u

struct leaf {
	uint32_t eax, ebx, ecx, edx;
};

static struct leaf basic_leaf(uint32_t number)
{
	if (number == 0) return (struct leaf){ MAX_BASIC_LEAF, 0x756E6547u, 0x6C65746Eu, 0x49656E69u }; /* GenuineIntel */
	if (number > 1) return (struct leaf){ .eax = CACHE_DESCRIPTORS };
	return (struct leaf){
		.eax = SIGNATURE,
		.ecx = ID_SSE3 | ID_SSSE3 | ID_HYPERVISOR,
		.edx = ID_FPU | ID_PSE | ID_TSC | ID_MSR | ID_CX8 | ID_SEP | ID_PGE | ID_CMOV | ID_MMX | ID_FXSR | ID_SSE | ID_SSE2,
	};
}

static struct leaf extended_leaf(uint32_t number)
{
	static const char brand[3 * sizeof(struct leaf)] = "bt-vmm virtual CPU";
	struct leaf leaf = { 0 };
	if (number == EXTENDED_LEAF) leaf.eax = MAX_EXTENDED_LEAF;
	else if (number >= EXTENDED_LEAF + 2) memcpy(&leaf, brand + (number - EXTENDED_LEAF - 2) * sizeof(leaf), sizeof(leaf));
	return leaf;
}

static struct leaf find_leaf(uint32_t number)
{
	if (number == HYPERVISOR_LEAF) {
		struct leaf leaf = { .eax = HYPERVISOR_LEAF };
		memcpy(&leaf.ebx, "btvmmbtvmm  ", 12);
		return leaf;
	}
	if (number >= EXTENDED_LEAF && number <= MAX_EXTENDED_LEAF) return extended_leaf(number);
	/* Beyond the last leaf, Intel processors answer as for the highest basic one. */
	return basic_leaf(number <= MAX_BASIC_LEAF ? number : MAX_BASIC_LEAF);
}

void cpu_cpuid(struct vcpu *v)
{
	struct leaf leaf = find_leaf(v->gpr[EAX]);
	v->gpr[EAX] = leaf.eax;
	v->gpr[EBX] = leaf.ebx;
	v->gpr[ECX] = leaf.ecx;
	v->gpr[EDX] = leaf.edx;
}
