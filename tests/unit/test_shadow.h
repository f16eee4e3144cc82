/* What the shadow's tests share: a guest's RAM, a host that only records what windows show, and a naive page-table walk
 * to compare with. */
#ifndef TESTS_UNIT_TEST_SHADOW_H
#define TESTS_UNIT_TEST_SHADOW_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/abi.h"
#include "base/x86.h"
#include "shadow/shadow.h"
#include "tests/shim/test.h"

#define RIG_WINDOWS 8u
#define RIG_PAGES (1u << 20)
#define MAP_R 1u
#define MAP_W 2u
#define PAGING_CR0 (CR0_PE | CR0_PG | CR0_WP)

struct rig {
	uint8_t *ram;
	uint64_t ram_size;
	struct shadow *s;
	struct stats stats;
	uint32_t *windows[RIG_WINDOWS]; /* a page's frame << 2 | MAP_R | MAP_W, or 0; NULL while the window is not allocated */
	uint32_t maps, at_once, protects, resets, view_resets, marks; /* at_once: pages of `maps` */
	gpa_t last_mark;
	uint32_t fail_maps, fail_protects; /* so many calls to come fail */
	uint32_t bad_calls;
	struct shadow_view *last_reset;
	uint32_t trims;
	uint32_t cr0, cr3, cr4;
	bool nx, pse36;
	uint32_t *low;    /* as of windows, of the one at 0, which is always there */
	bool kernel_runs; /* and a user window may be left behind */
	uint64_t pdpte[4];
};

static inline void *rig_alloc(void *ctx, size_t size)
{
	(void)ctx;
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static inline void rig_free(void *ctx, void *p, size_t size)
{
	(void)ctx;
	munmap(p, size);
}

static inline void rig_trim(void *ctx, void *p, size_t size)
{
	struct rig *r = ctx;
	const uint64_t *words = p;
	for (size_t i = 0; i < size / sizeof(*words); i++)
		if (words[i]) r->bad_calls++;
	r->trims++;
}

/* Windows are addresses that nothing lives at: the shadow never touches them. */
static inline void *rig_window_alloc(void *ctx)
{
	struct rig *r = ctx;
	for (uintptr_t i = 0; i < RIG_WINDOWS; i++) {
		if (r->windows[i]) continue;
		r->windows[i] = rig_alloc(NULL, RIG_PAGES * sizeof(uint32_t));
		return (void *)((i + 16) << 32); /* NOLINT */
	}
	return NULL;
}

static inline uint32_t *rig_window(struct rig *r, const void *window)
{
	return (uintptr_t)window >> 32 ? r->windows[((uintptr_t)window >> 32) - 16] : r->low;
}

static inline void rig_window_free(void *ctx, void *window)
{
	struct rig *r = ctx;
	if (!window) return;
	rig_free(NULL, rig_window(r, window), RIG_PAGES * sizeof(uint32_t));
	r->windows[((uintptr_t)window >> 32) - 16] = NULL;
}

static inline uint32_t *rig_at(struct rig *r, const uint8_t *at, uint64_t count)
{
	uint64_t page = ((uintptr_t)at & 0xFFFFFFFFu) >> PAGE_SHIFT;
	bool bad = ((uintptr_t)at & PAGE_MASK) || page + count > RIG_PAGES || !rig_window(r, at);
	r->bad_calls += bad;
	return bad ? NULL : rig_window(r, at) + page;
}

static inline int rig_map(void *ctx, uint8_t *at, gfn_t gfn, uint32_t count, bool writable, bool at_once)
{
	struct rig *r = ctx;
	uint32_t *pages = rig_at(r, at, count);
	r->maps++;
	r->at_once += at_once ? count : 0;
	bool below = (uintptr_t)at < LOW_WINDOW_START; /* where the host maps nothing */
	if (!pages || below || gfn + (uint64_t)count > r->ram_size >> PAGE_SHIFT) {
		r->bad_calls++;
		return -EINVAL;
	}
	if (r->fail_maps && r->fail_maps--) {
		memset(pages, 0, count * sizeof(*pages)); /* as a failed MAP_FIXED may do */
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < count; i++) pages[i] = (gfn + i) << 2 | MAP_R | (writable ? MAP_W : 0);
	return 0;
}

static inline int rig_protect(void *ctx, uint8_t *at, uint32_t count, bool writable)
{
	struct rig *r = ctx;
	uint32_t *pages = rig_at(r, at, count);
	r->protects++;
	if (!pages) return -EINVAL;
	if (r->fail_protects && r->fail_protects--) return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		r->bad_calls += !pages[i];
		pages[i] = (pages[i] & ~MAP_W) | (writable ? MAP_W : 0);
	}
	return 0;
}

static inline int rig_reset(void *ctx, uint8_t *at, uint64_t count)
{
	struct rig *r = ctx;
	uint32_t *pages = rig_at(r, at, count);
	r->resets++;
	if (!pages) return -EINVAL;
	memset(pages, 0, count * sizeof(*pages));
	return 0;
}

static inline void rig_view_reset(void *ctx, struct shadow_view *view)
{
	struct rig *r = ctx;
	r->view_resets++;
	r->last_reset = view;
}

static inline void rig_code_marked(void *ctx, gpa_t gpa)
{
	struct rig *r = ctx;
	r->marks++;
	r->last_mark = gpa;
}

static inline bool rig_may_wait(void *ctx)
{
	const struct rig *r = ctx;
	return r->kernel_runs;
}

static inline struct shadow_config rig_config(uint64_t ram_size)
{
	return (struct shadow_config){ .ram_size = ram_size, .max_views = 4, .map_budget = 4096, .table_budget = 4096 };
}

static inline struct rig *rig_new(struct shadow_config config)
{
	struct rig *r = calloc(1, sizeof(*r));
	r->ram_size = config.ram_size;
	r->ram = aligned_alloc(PAGE_SIZE, config.ram_size);
	r->low = rig_alloc(NULL, RIG_PAGES * sizeof(uint32_t));
	memset(r->ram, 0, config.ram_size);
	config.ram = r->ram;
	config.stats = &r->stats;
	config.ops = (struct shadow_ops){
		r, rig_alloc, rig_free, rig_trim, rig_window_alloc, rig_window_free, rig_map, rig_protect, rig_reset, rig_view_reset, rig_code_marked,
		rig_may_wait,
	};
	if (!CHECK_EQ(shadow_create(&r->s, &config), 0)) abort();
	return r;
}

/* Also the end of most tests: everything still holds, and nothing is left. */
static inline void rig_delete(struct rig *r)
{
	CHECK_STR(shadow_check(r->s), NULL);
	CHECK_EQ(r->bad_calls, 0);
	shadow_destroy(r->s);
	for (unsigned i = 0; i < RIG_WINDOWS; i++) CHECK(!r->windows[i]);
	for (uint32_t i = 0; i < RIG_PAGES; i++) CHECK(!r->low[i]);
	rig_free(NULL, r->low, RIG_PAGES * sizeof(uint32_t));
	free(r->ram);
	free(r);
}

static inline uint32_t *rig_word(struct rig *r, gpa_t gpa)
{
	return (uint32_t *)(void *)(r->ram + gpa);
}

static inline void rig_set_paging(struct rig *r, uint32_t cr0, uint32_t cr3, uint32_t cr4)
{
	r->cr0 = cr0;
	r->cr3 = cr3;
	r->cr4 = cr4;
	if ((cr0 & CR0_PG) && (cr4 & CR4_PAE)) memcpy(r->pdpte, r->ram + (cr3 & ~31u), sizeof(r->pdpte));
	struct shadow_paging paging = { .cr0 = cr0, .cr3 = cr3, .cr4 = cr4, .nx = r->nx, .pse36 = r->pse36, .pat = true };
	memcpy(paging.pdpte, r->pdpte, sizeof(r->pdpte));
	shadow_set_paging(r->s, &paging);
}

/* A store by the guest into physical memory by a path that the shadow hears of. */
static inline void rig_store(struct rig *r, gpa_t gpa, uint32_t value)
{
	*rig_word(r, gpa) = value;
	shadow_frame_written(r->s, gpa, 4);
}

/* Directory and page-table entries of a gva. */
static inline gpa_t rig_pde(gpa_t directory, gva_t gva)
{
	return directory + (gva >> 22) * 4;
}

static inline gpa_t rig_pte(gpa_t table, gva_t gva)
{
	return table + (gva >> 12 & 1023) * 4;
}

static inline uint64_t rig_read_entry(const struct shadow_view *v, gva_t gva)
{
	return ((const uint64_t *)(const void *)(v->tables + ABI_READ_TABLE))[gva >> PAGE_SHIFT];
}

static inline uint64_t rig_write_entry(const struct shadow_view *v, gva_t gva)
{
	return ((const uint64_t *)(const void *)(v->tables + ABI_WRITE_TABLE))[gva >> PAGE_SHIFT];
}

static inline uint32_t rig_exec_entry(const struct shadow_view *v, gva_t gva)
{
	return ((const uint32_t *)(const void *)(v->tables + ABI_EXEC_TABLE))[gva >> PAGE_SHIFT];
}

/* What the view's window shows at gva. */
static inline uint32_t rig_shown(struct rig *r, const struct shadow_view *v, gva_t gva)
{
	return v->direct ? rig_window(r, v->window)[gva >> PAGE_SHIFT] : 0;
}

static inline void rig_find_low(void *ctx, struct shadow_view *v)
{
	if (v->direct && !v->window) *(bool *)ctx = true;
}

static inline uint32_t rig_count_maps_of(const uint32_t *pages)
{
	uint32_t maps = 1, before = 0;
	for (uint32_t i = 0; i < RIG_PAGES; i++) {
		uint32_t here = pages[i];
		maps += before && here ? here != before + 4 : before != here;
		before = here;
	}
	return maps + (before != 0);
}

/* Host mappings in all windows, guards merged with what is not shown. */
static inline uint32_t rig_count_maps(struct rig *r)
{
	uint32_t maps = 0;
	bool low = false;
	for (unsigned w = 0; w < RIG_WINDOWS; w++)
		if (r->windows[w]) maps += rig_count_maps_of(r->windows[w]);
	shadow_each_view(r->s, rig_find_low, &low);
	return maps + (low ? rig_count_maps_of(r->low) : 0);
}

/* A walk by the book (vol. 3, 4.3, 4.4, 4.6, 4.7), knowing nothing of shadow/. */
struct rig_walk {
	bool ok;
	uint32_t error;
	gpa_t gpa;
	bool write_allowed, dirty, accessed;
	gpa_t pde_at, pte_at; /* pte_at 0: none */
};

/* The entry of either size at `at`, the mode being what it is. */
static inline uint64_t rig_entry(struct rig *r, gpa_t at)
{
	uint64_t wide;
	if (!(r->cr4 & CR4_PAE)) return *rig_word(r, at);
	memcpy(&wide, r->ram + at, 8);
	return wide;
}

static inline uint64_t rig_reserved(const struct rig *r, bool large)
{
	if (!(r->cr4 & CR4_PAE)) return large ? r->pse36 ? 0x3E0000 : 0x3FE000 : 0;
	return 0x7FFFFFF000000000 | (r->nx ? 0 : 1ULL << 63) | (large ? 0x1FE000 : 0);
}

/* What the levels grant together. */
static inline void rig_check_rights(const struct rig *r, struct rig_walk *w, uint64_t all, uint64_t any, unsigned access)
{
	bool user = access & ACCESS_USER, fetch = access & ACCESS_FETCH, user_page = all & 4;
	w->write_allowed = (all & 2) || (!user && !(r->cr0 & CR0_WP));
	w->ok = !user || user_page;
	if (access & ACCESS_WRITE) w->ok &= w->write_allowed;
	if (fetch && (r->cr4 & CR4_PAE) && r->nx && any >> 63) w->ok = false;
	if (fetch && !user && user_page && (r->cr4 & CR4_SMEP)) w->ok = false;
	if (!fetch && !user && user_page && (r->cr4 & CR4_SMAP) && !(access & ACCESS_AC)) w->ok = false;
	if (!w->ok) w->error |= 1;
}

/* From the directory entry at w->pde_at on. */
static inline void rig_walk_entry(struct rig *r, struct rig_walk *w, gva_t gva, unsigned access)
{
	bool pae = r->cr4 & CR4_PAE;
	uint64_t pde = rig_entry(r, w->pde_at), all = pde, any = pde, leaf = pde;
	if (!(pde & 1)) return;
	bool large = (pde & 0x80) && (pae || (r->cr4 & CR4_PSE));
	if (pde & rig_reserved(r, large)) {
		w->error |= 9;
		return;
	}
	if (large) {
		w->gpa = pae ? (pde & 0xFFFE00000) | (gva & 0x1FFFFF) : (pde & 0xFFC00000) | (pde >> 13 & 15) << 32 | (gva & 0x3FFFFF);
	} else {
		gpa_t table = pde & 0xFFFFFF000;
		if (table >= r->ram_size) return;
		w->pte_at = table + (pae ? (gva >> 12 & 511) * 8 : (gva >> 12 & 1023) * 4);
		leaf = rig_entry(r, w->pte_at);
		if (!(leaf & 1)) return;
		if (leaf & rig_reserved(r, false)) {
			w->error |= 9;
			return;
		}
		all = pde & leaf, any = pde | leaf;
		w->gpa = (leaf & 0xFFFFFF000) | (gva & 0xFFF);
	}
	w->dirty = leaf & 0x40;
	w->accessed = leaf & 0x20;
	rig_check_rights(r, w, all, any, access);
}

static inline struct rig_walk rig_walk(struct rig *r, uint32_t cr3, gva_t gva, unsigned access)
{
	struct rig_walk w = { .gpa = gva, .ok = true, .write_allowed = true, .dirty = true, .accessed = true };
	if (!(r->cr0 & CR0_PG)) return w;
	bool pae = r->cr4 & CR4_PAE;
	w.ok = false;
	w.error = access & 6;
	if ((r->cr4 & CR4_SMEP) || (pae && r->nx)) w.error |= access & ACCESS_FETCH;
	gpa_t directory = pae ? r->pdpte[gva >> 30] & 0xFFFFFF000 : cr3 & ~0xFFFu;
	if (directory >= r->ram_size || (pae && !(r->pdpte[gva >> 30] & 1))) return w;
	w.pde_at = directory + (pae ? (gva >> 21 & 511) * 8 : (gva >> 22) * 4);
	rig_walk_entry(r, &w, gva, access);
	return w;
}

#endif
