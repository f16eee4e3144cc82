/* What this processor says it is: CPUID (Intel SDM vol. 2). Features are those of base/features.def: what the translator's
 * allow-list and the rest of the processor run, no more. */
#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "base/x86.h"
#include "runtime/cpu_private.h"

/* Family 6, model 28, stepping 10: an in-order core, which kernels count as not affected by speculation attacks. */
#define SIGNATURE 0x000106CAu

#define ID_HYPERVISOR (1u << 31) /* leaf 1, ECX */
#define FLUSH_LINE (8u << 8)     /* leaf 1, EBX: what CLFLUSH flushes, in units of 8 bytes */

/* Leaf 2: L1 data 32 KiB, L1 instructions 32 KiB, L2 2 MiB; one iteration tells all. */
#define CACHE_DESCRIPTORS 0x7D302C01u

#define HYPERVISOR_LEAF 0x40000000u
#define EXTENDED_LEAF 0x80000000u
#define MAX_BASIC_LEAF 7u
#define MAX_EXTENDED_LEAF 0x80000008u
#define ADDRESS_SIZES_LEAF 0x80000008u
#define LINEAR_BITS 32u

struct leaf {
	uint32_t eax, ebx, ecx, edx;
};

static const struct feature_row {
	const char *name;
	uint32_t leaf;
	uint8_t reg; /* enum gpr */
	uint8_t bit;
	bool host, shown;
	uint32_t cr4;
} feature_rows[FEATURE_COUNT] = {
#define FEATURE(id, name, leaf, reg, bit, host, shown, cr4) [FEATURE_##id] = { name, leaf, reg, bit, host, shown, cr4 },
#include "base/features.def"
#undef FEATURE
};

static uint32_t *leaf_register(struct leaf *leaf, unsigned reg)
{
	uint32_t *const registers[] = { [EAX] = &leaf->eax, [ECX] = &leaf->ecx, [EDX] = &leaf->edx, [EBX] = &leaf->ebx };
	return registers[reg];
}

static bool host_has(const struct feature_row *f)
{
	struct leaf leaf;
	if (!f->host) return true;
	if (!__get_cpuid_count(f->leaf, 0, &leaf.eax, &leaf.ebx, &leaf.ecx, &leaf.edx)) return false;
	return *leaf_register(&leaf, f->reg) >> f->bit & 1;
}

uint64_t cpu_features_default(void)
{
	uint64_t features = 0;
	for (unsigned i = 0; i < FEATURE_COUNT; i++) {
		if (feature_rows[i].shown && host_has(&feature_rows[i])) features |= FEATURE_BIT(i);
	}
	return features;
}

static int find_feature(const char *word, size_t length)
{
	for (unsigned i = 0; i < FEATURE_COUNT; i++) {
		if (strlen(feature_rows[i].name) == length && !memcmp(feature_rows[i].name, word, length)) return (int)i;
	}
	return -1;
}

/* One word of the list: "+smap" or "-pae". */
static bool parse_feature(const char *word, size_t length, uint64_t *features, char *why, size_t why_size)
{
	int index = length > 1 && (*word == '+' || *word == '-') ? find_feature(word + 1, length - 1) : -1;
	if (index < 0) {
		int used = snprintf(why, why_size, "--cpu '%.*s' is unknown: write +NAME or -NAME, separated by commas; the names are", (int)length, word);
		for (unsigned i = 0; i < FEATURE_COUNT && used > 0 && (size_t)used < why_size; i++)
			used += snprintf(why + used, why_size - (size_t)used, " %s", feature_rows[i].name);
		return false;
	}
	*features &= ~FEATURE_BIT(index);
	if (*word == '-') return true;
	*features |= FEATURE_BIT(index);
	if (host_has(&feature_rows[index])) return true;
	snprintf(why, why_size, "--cpu '%.*s' cannot be: this host's processor does not have it", (int)length, word);
	return false;
}

bool cpu_features_parse(const char *list, uint64_t *features, char *why, size_t why_size)
{
	for (;;) {
		size_t length = strcspn(list, ",");
		if (!parse_feature(list, length, features, why, why_size)) return false;
		if (!list[length]) return true;
		list += length + 1;
	}
}

uint32_t cpu_cr4_bits(const struct vcpu *v)
{
	uint32_t bits = CR4_PCE; /* every processor of family 6 has it */
	for (unsigned i = 0; i < FEATURE_COUNT; i++) {
		if (v->features & FEATURE_BIT(i)) bits |= feature_rows[i].cr4;
	}
	return bits;
}

static struct leaf basic_leaf(uint32_t number)
{
	switch (number) {
	case 0: return (struct leaf){ MAX_BASIC_LEAF, 0x756E6547u, 0x6C65746Eu, 0x49656E69u }; /* GenuineIntel */
	case 1: return (struct leaf){ .eax = SIGNATURE, .ecx = ID_HYPERVISOR };
	case 2: return (struct leaf){ .eax = CACHE_DESCRIPTORS };
	default: return (struct leaf){ 0 };
	}
}

static struct leaf extended_leaf(uint32_t number)
{
	static const char brand[3 * sizeof(struct leaf)] = "bt-vmm virtual CPU";
	struct leaf leaf = { 0 };
	if (number == EXTENDED_LEAF) leaf.eax = MAX_EXTENDED_LEAF;
	if (number == ADDRESS_SIZES_LEAF) leaf.eax = LINEAR_BITS << 8 | PHYSICAL_BITS;
	if (number >= EXTENDED_LEAF + 2 && number <= EXTENDED_LEAF + 4) memcpy(&leaf, brand + (number - EXTENDED_LEAF - 2) * sizeof(leaf), sizeof(leaf));
	return leaf;
}

static struct leaf find_leaf(uint32_t number)
{
	if (number == HYPERVISOR_LEAF) {
		struct leaf leaf = { .eax = HYPERVISOR_LEAF };
		memcpy(&leaf.ebx, "btvmmbtvmm  ", 12);
		return leaf;
	}
	return number >= EXTENDED_LEAF ? extended_leaf(number) : basic_leaf(number);
}

static void show_features(struct leaf *leaf, uint32_t number, uint64_t features)
{
	for (unsigned i = 0; i < FEATURE_COUNT; i++) {
		const struct feature_row *f = &feature_rows[i];
		if (f->leaf == number && (features & FEATURE_BIT(i))) *leaf_register(leaf, f->reg) |= 1u << f->bit;
	}
}

void cpu_cpuid(struct vcpu *v)
{
	uint32_t number = v->gpr[EAX], subleaf = v->gpr[ECX];
	bool exists = number <= MAX_BASIC_LEAF || number == HYPERVISOR_LEAF || (number >= EXTENDED_LEAF && number <= MAX_EXTENDED_LEAF);
	if (!exists) number = MAX_BASIC_LEAF; /* as Intel processors answer beyond the last leaf */
	struct leaf leaf = find_leaf(number);
	/* A local APIC that IA32_APIC_BASE turns off is not there (vol. 3, 10.4.3). */
	uint64_t features = v->apic_base & APIC_BASE_ENABLE ? v->features : v->features & ~FEATURE_BIT(FEATURE_APIC);
	/* Leaf 7 has no subleaf but the first. */
	if (number != 7 || subleaf == 0) show_features(&leaf, number, features);
	if (number == 1 && (v->features & FEATURE_BIT(FEATURE_CLFLUSH))) leaf.ebx |= FLUSH_LINE;
	v->gpr[EAX] = leaf.eax;
	v->gpr[EBX] = leaf.ebx;
	v->gpr[ECX] = leaf.ecx;
	v->gpr[EDX] = leaf.edx;
}
