/* The guest's page tables, read as the processor reads them (Intel SDM vol. 3, 4.3, 4.4 and 4.6-4.8). */
#include "shadow/internal.h"

#define PF_RSVD 8u
#define PDPTE_P 1u
/* Bits of a directory entry that its slot does not depend on: PWT, PCD, A, D (see walk_top_covers), G and those left to software. */
#define TOP_IGNORED (0x18u | PTE_A | PTE_D | PTE_G | 0xE00u)

static bool fault(const struct shadow *s, struct walk *w, unsigned access, uint32_t why)
{
	w->error = (access & (ACCESS_WRITE | ACCESS_USER | s->mode.fetch_bit)) | why;
	return false;
}

static bool walk_unpaged(const struct shadow *s, const struct root *root, gva_t gva, unsigned access, struct walk *w)
{
	(void)root;
	(void)access;
	/* As if one large page after the other mapped RAM to itself. */
	uint32_t page = gva >> PAGE_SHIFT;
	*w = (struct walk){ .large = true, .writable = true, .executable = true, .dirty = true, .gfn = page };
	w->top = (uint64_t)slot_page(s, page_slot(s, page)) << PAGE_SHIFT | PTE_P;
	return true;
}

void walk_rights(const struct shadow *s, bool user, uint64_t top, uint64_t leaf, struct walk *w)
{
	bool large = walk_is_large(s, top);
	uint64_t rights = large ? top : top & leaf, forbids = large ? top : top | leaf;
	bool user_page = rights & PTE_US;
	w->unprotected = !(rights & PTE_RW) && !user && !(s->paging.cr0 & CR0_WP);
	w->writable = (rights & PTE_RW) || w->unprotected;
	w->executable = !(forbids & s->mode.no_execute) && (user || !user_page || !(s->paging.cr4 & CR4_SMEP));
	w->guarded = !user && user_page && (s->paging.cr4 & CR4_SMAP);
}

/* The end of a walk that found its leaf. */
static bool check_rights(const struct shadow *s, unsigned access, struct walk *w)
{
	bool user = access & ACCESS_USER;
	uint64_t rights = w->large ? w->top : w->top & w->leaf;
	walk_rights(s, user, w->top, w->leaf, w);
	bool allowed = !user || (rights & PTE_US);
	if (access & ACCESS_FETCH)
		allowed &= w->executable;
	else
		allowed &= !w->guarded || (access & ACCESS_AC);
	if (access & ACCESS_WRITE) allowed &= w->writable;
	return allowed || fault(s, w, access, PF_PRESENT);
}

static bool walk_paged(const struct shadow *s, const struct root *root, gva_t gva, unsigned access, struct walk *w)
{
	const struct paging_mode *m = &s->mode;
	uint32_t page = gva >> PAGE_SHIFT, slot = page_slot(s, page);
	void *directory = table_at(s, root->directory[slot >> m->index_shift]);
	if (!directory) return fault(s, w, access, 0);
	w->top_at = entry_at(s, directory, table_index(s, slot));
	w->top = entry_read(s, directory, table_index(s, slot));
	if (!(w->top & PTE_P)) return fault(s, w, access, 0);
	w->large = walk_is_large(s, w->top);
	if (w->top & (w->large ? m->large_reserved : m->table_reserved)) return fault(s, w, access, PF_PRESENT | PF_RSVD);
	if (w->large) {
		w->leaf_at = NULL;
		w->leaf = 0;
		w->dirty = w->top & PTE_D;
		w->gfn = walk_large_frame(s, w->top) + table_index(s, page);
		return check_rights(s, access, w);
	}
	void *table = table_at(s, entry_frame(w->top));
	if (!table) return fault(s, w, access, 0);
	w->leaf_at = entry_at(s, table, table_index(s, page));
	w->leaf = entry_read(s, table, table_index(s, page));
	if (!(w->leaf & PTE_P)) return fault(s, w, access, 0);
	if (w->leaf & m->leaf_reserved) return fault(s, w, access, PF_PRESENT | PF_RSVD);
	w->dirty = w->leaf & PTE_D;
	w->gfn = entry_frame(w->leaf);
	return check_rights(s, access, w);
}

static struct paging_mode two_level_mode(const struct shadow_paging *p)
{
	const uint32_t large_address = 0x1E000, large_fixed = 0x3E0000; /* bits 13-16 and 17-21 */
	bool pse = p->cr4 & CR4_PSE;
	return (struct paging_mode){
		.walk = walk_paged, .entry_shift = 2, .index_shift = 10, .large_bit = pse ? PTE_PS : 0, .large_high = p->pse36,
		.large_reserved = large_fixed | (p->pse36 ? 0 : large_address) | (p->pat ? 0 : PTE_LARGE_PAT),
		.leaf_reserved = p->pat ? 0 : PTE_PAT,
	};
}

static struct paging_mode pae_mode(const struct shadow_paging *p)
{
	const uint64_t beyond = ~((UINT64_C(1) << PHYSICAL_BITS) - 1), large_fixed = 0x1FE000; /* bits 13-20 */
	uint64_t high = p->nx ? beyond & ~PTE_XD : beyond;
	return (struct paging_mode){
		.walk = walk_paged, .entry_shift = 3, .index_shift = 9, .large_bit = PTE_PS,
		.table_reserved = high, .large_reserved = high | large_fixed | (p->pat ? 0 : PTE_LARGE_PAT),
		.leaf_reserved = high | (p->pat ? 0 : PTE_PAT), .no_execute = p->nx ? PTE_XD : 0,
	};
}

struct paging_mode walk_mode(const struct shadow_paging *p)
{
	bool pae = p->cr4 & CR4_PAE;
	if (!(p->cr0 & CR0_PG)) return (struct paging_mode){ .walk = walk_unpaged, .entry_shift = 2, .index_shift = 10, .large_bit = PTE_P };
	struct paging_mode mode = pae ? pae_mode(p) : two_level_mode(p);
	if ((p->cr4 & CR4_SMEP) || (pae && p->nx)) mode.fetch_bit = ACCESS_FETCH;
	return mode;
}

struct root walk_root(const struct shadow_paging *p)
{
	struct root root = { { GFN_NONE, GFN_NONE, GFN_NONE, GFN_NONE } };
	if (!(p->cr0 & CR0_PG)) {
		root.directory[0] = ROOT_UNPAGED;
	} else if (!(p->cr4 & CR4_PAE)) {
		root.directory[0] = p->cr3 >> PAGE_SHIFT;
	} else {
		for (unsigned i = 0; i < DIRECTORIES; i++)
			if (p->pdpte[i] & PDPTE_P) root.directory[i] = entry_frame(p->pdpte[i]);
	}
	return root;
}

static void mark(struct shadow *s, uint32_t *at, uint64_t *value, uint32_t bits)
{
	gpa_t gpa = (gpa_t)((uint8_t *)at - s->ram);
	if ((*value & bits) == bits) return;
	*value |= bits;
	*at |= bits;
	if (shadow_is_code_traced(s, gpa >> PAGE_SHIFT)) s->config.ops.code_marked(s->config.ops.ctx, gpa);
}

void walk_mark(struct shadow *s, struct walk *w, unsigned access)
{
	if (!w->top_at) return;
	uint32_t leaf_bits = access & ACCESS_WRITE ? PTE_A | PTE_D : PTE_A;
	if (w->large) {
		mark(s, w->top_at, &w->top, leaf_bits);
	} else {
		mark(s, w->top_at, &w->top, PTE_A);
		mark(s, w->leaf_at, &w->leaf, leaf_bits);
	}
	w->dirty |= (access & ACCESS_WRITE) != 0;
}

bool walk_is_large(const struct shadow *s, uint64_t top)
{
	return top & s->mode.large_bit;
}

gfn_t walk_large_frame(const struct shadow *s, uint64_t top)
{
	gfn_t high = s->mode.large_high ? (gfn_t)(top >> 13 & 0xF) << (32 - PAGE_SHIFT) : 0;
	return (entry_frame(top) & ~(table_entries(s) - 1)) | high;
}

bool walk_top_covers(const struct shadow *s, uint64_t shown, uint64_t now)
{
	if (!(now & PTE_P) || !(now & PTE_A) || ((shown ^ now) & ~(uint64_t)TOP_IGNORED)) return false;
	return !walk_is_large(s, now) || !(shown & ~now & PTE_D);
}
