/* The guest's page tables, read as the processor reads them (Intel SDM vol. 3, 4.3 and 4.6-4.8). */
#include "shadow/internal.h"

#define PF_RSVD 8u
#define LARGE_RESERVED 0x003FE000u /* bits 13-21 of a 4 MiB entry: no PSE-36 here */
#define TABLE_BITS (0xFFFFF000u | PTE_P | PTE_RW | PTE_US)
#define LARGE_BITS (0xFFC00000u | LARGE_RESERVED | PTE_P | PTE_RW | PTE_US | PTE_PS)

static bool fault(struct walk *w, unsigned access, uint32_t why)
{
	/* Bit 4, instruction fetch, exists only with NX or SMEP. */
	w->error = (access & (ACCESS_WRITE | ACCESS_USER)) | why;
	return false;
}

static bool walk_unpaged(const struct shadow *s, gfn_t root, gva_t gva, unsigned access, struct walk *w)
{
	(void)s;
	(void)root;
	(void)access;
	/* As if one 4 MiB page after the other mapped RAM to itself. */
	uint32_t top = (gva & 0xFFC00000u) | PTE_P;
	*w = (struct walk){ .top = top, .gfn = gva >> PAGE_SHIFT, .large = true, .writable = true, .dirty = true };
	return true;
}

/* The end of a walk that found its leaf: rights are those that every level grants. */
static bool check_rights(const struct shadow *s, unsigned access, uint32_t rights, struct walk *w)
{
	bool user = access & ACCESS_USER;
	w->writable = (rights & PTE_RW) || (!user && !(s->cr0 & CR0_WP));
	if (user && !(rights & PTE_US)) return fault(w, access, PF_PRESENT);
	if ((access & ACCESS_WRITE) && !w->writable) return fault(w, access, PF_PRESENT);
	return true;
}

static bool walk_two_level(const struct shadow *s, gfn_t root, gva_t gva, unsigned access, struct walk *w)
{
	uint32_t *directory = table_at(s, root);
	if (!directory) return fault(w, access, 0);
	w->top_at = &directory[gva >> 22];
	w->top = *w->top_at;
	if (!(w->top & PTE_P)) return fault(w, access, 0);
	w->large = walk_is_large(s, w->top);
	if (w->large) {
		if (w->top & LARGE_RESERVED) return fault(w, access, PF_PRESENT | PF_RSVD);
		w->leaf_at = NULL;
		w->dirty = w->top & PTE_D;
		w->gfn = w->top >> 22 << SLOT_SHIFT | (gva >> PAGE_SHIFT & (SLOT_PAGES - 1));
		return check_rights(s, access, w->top, w);
	}
	uint32_t *table = table_at(s, w->top >> PAGE_SHIFT);
	if (!table) return fault(w, access, 0);
	w->leaf_at = &table[gva >> PAGE_SHIFT & (SLOT_PAGES - 1)];
	w->leaf = *w->leaf_at;
	if (!(w->leaf & PTE_P)) return fault(w, access, 0);
	w->dirty = w->leaf & PTE_D;
	w->gfn = w->leaf >> PAGE_SHIFT;
	return check_rights(s, access, w->top & w->leaf, w);
}

/* PAE will be a third walker, with slots of two of its directory entries each. Until then CPUID does not offer it. */
walk_fn *walk_choose(uint32_t cr0, uint32_t cr4)
{
	if (!(cr0 & CR0_PG)) return walk_unpaged;
	if (cr4 & CR4_PAE) LOG(LOG_SHADOW, LOG_ERROR, "the guest turned on PAE, which it was not offered");
	return walk_two_level;
}

static void mark(uint32_t *at, uint32_t *value, uint32_t bits)
{
	if ((*value & bits) == bits) return;
	*value |= bits;
	*at |= bits;
}

void walk_mark(struct walk *w, unsigned access)
{
	if (!w->top_at) return;
	uint32_t leaf_bits = access & ACCESS_WRITE ? PTE_A | PTE_D : PTE_A;
	if (w->large) {
		mark(w->top_at, &w->top, leaf_bits);
	} else {
		mark(w->top_at, &w->top, PTE_A);
		mark(w->leaf_at, &w->leaf, leaf_bits);
	}
	w->dirty |= (access & ACCESS_WRITE) != 0;
}

bool walk_is_large(const struct shadow *s, uint32_t top)
{
	return (s->cr4 & CR4_PSE) && (top & PTE_PS);
}

uint32_t walk_top_bits(const struct shadow *s, uint32_t top)
{
	if (!(top & PTE_P)) return 0;
	return top & (walk_is_large(s, top) ? LARGE_BITS : TABLE_BITS);
}

bool walk_top_covers(const struct shadow *s, uint32_t shown, uint32_t now)
{
	if (walk_top_bits(s, shown) != walk_top_bits(s, now)) return false;
	return !walk_is_large(s, now) || !(shown & ~now & PTE_D);
}
