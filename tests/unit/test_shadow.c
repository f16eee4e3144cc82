/* Walks, faults, A and D bits, and what a resolved access puts into the soft tables. */
#include "tests/unit/test_shadow.h"

#define DIRECTORY 0x1000u
#define TABLE 0x2000u
#define PAGE 0x5000u
#define GVA 0x00401123u /* slot 1, page 1 */

static struct rig *new_paged(uint32_t cr0, uint32_t pde, uint32_t pte)
{
	struct rig *r = rig_new(rig_config(MIB(16)));
	*rig_word(r, rig_pde(DIRECTORY, GVA)) = pde;
	*rig_word(r, rig_pte(TABLE, GVA)) = pte;
	rig_set_paging(r, cr0, DIRECTORY, CR4_PSE);
	return r;
}

/* Every combination of P, RW and US at both levels, WP, and kind of access. */
static void check_rights(uint32_t bits)
{
	uint32_t pde = (bits & 7) | TABLE, pte = (bits >> 3 & 7) | PAGE;
	uint32_t cr0 = CR0_PE | CR0_PG | (bits & 64 ? CR0_WP : 0);
	unsigned access = (bits & 128 ? ACCESS_USER : 0) | (bits & 256 ? ACCESS_WRITE : 0);
	struct rig *r = new_paged(cr0, pde, pte);
	bool present = (pde & 1) && (pte & 1);
	bool user_page = pde & pte & 4, writable = pde & pte & 2;
	bool user = access & ACCESS_USER, wp = cr0 & CR0_WP;
	bool allowed = present && (!user || user_page) && (!(access & ACCESS_WRITE) || writable || (!user && !wp));
	struct shadow_answer a = shadow_resolve(r->s, GVA, access);
	CHECK_EQ(a.kind, allowed ? SHADOW_RAM : SHADOW_FAULT);
	uint32_t pde_now = *rig_word(r, rig_pde(DIRECTORY, GVA)), pte_now = *rig_word(r, rig_pte(TABLE, GVA));
	if (allowed) {
		CHECK_EQ(a.gpa, PAGE | (GVA & 0xFFF));
		CHECK_EQ(pde_now, pde | PTE_A);
		CHECK_EQ(pte_now, pte | PTE_A | (access & ACCESS_WRITE ? PTE_D : 0));
	} else {
		CHECK_EQ(a.error, access | (present ? 1 : 0));
		CHECK_EQ(pde_now, pde);
		CHECK_EQ(pte_now, pte);
	}
	struct shadow_view *v = shadow_view(r->s, user);
	uint64_t addend = (uint64_t)(uintptr_t)r->ram + PAGE - (GVA & ~0xFFFu);
	CHECK_EQ(rig_read_entry(v, GVA), allowed ? addend : 0);
	CHECK_EQ(rig_write_entry(v, GVA), allowed && (access & ACCESS_WRITE) ? addend : 0);
	CHECK_EQ(rig_exec_entry(v, GVA), 0);
	rig_delete(r);
}

TEST(shadow, rights)
{
	for (uint32_t bits = 0; bits < 512 && !test_has_failed(); bits++) check_rights(bits);
}

TEST(shadow, dirty_read_fills_both_tables)
{
	struct rig *r = new_paged(PAGING_CR0, TABLE | 7, PAGE | 7 | PTE_D);
	struct shadow_answer a = shadow_resolve(r->s, GVA, ACCESS_USER);
	CHECK(a.writable_too);
	CHECK(rig_write_entry(shadow_view(r->s, true), GVA) != 0);
	CHECK_EQ(rig_write_entry(shadow_view(r->s, false), GVA), 0);
	rig_delete(r);
}

TEST(shadow, clean_page_becomes_writable_with_the_first_write)
{
	struct rig *r = new_paged(PAGING_CR0, TABLE | 7, PAGE | 7);
	struct shadow_view *v = shadow_view(r->s, true);
	CHECK(!shadow_resolve(r->s, GVA, ACCESS_USER).writable_too);
	CHECK_EQ(rig_write_entry(v, GVA), 0);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_USER | ACCESS_WRITE).kind, SHADOW_RAM);
	CHECK_EQ(rig_write_entry(v, GVA), rig_read_entry(v, GVA));
	rig_delete(r);
}

TEST(shadow, fetch_fills_the_exec_table)
{
	struct rig *r = new_paged(PAGING_CR0, TABLE | 7, PAGE | 5);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_USER | ACCESS_FETCH).kind, SHADOW_RAM);
	CHECK_EQ(rig_exec_entry(shadow_view(r->s, true), GVA), (PAGE >> 12) + 1);
	/* Without NX a fetch's error code does not say that it was one. */
	CHECK_EQ(shadow_resolve(r->s, 0x800000, ACCESS_USER | ACCESS_FETCH).error, ACCESS_USER);
	rig_delete(r);
}

TEST(shadow, large_page)
{
	struct rig *r = new_paged(PAGING_CR0, 0x800000 | 7 | PTE_PS, 0);
	struct shadow_answer a = shadow_resolve(r->s, GVA, ACCESS_USER);
	CHECK_EQ(a.kind, SHADOW_RAM);
	CHECK_EQ(a.gpa, 0x801123);
	CHECK_EQ(*rig_word(r, rig_pde(DIRECTORY, GVA)), 0x800000 | 7 | PTE_PS | PTE_A);
	a = shadow_resolve(r->s, GVA + 0x1000, ACCESS_WRITE);
	CHECK_EQ(a.gpa, 0x802123);
	CHECK_EQ(*rig_word(r, rig_pde(DIRECTORY, GVA)), 0x800000 | 7 | PTE_PS | PTE_A | PTE_D);
	rig_delete(r);
}

TEST(shadow, large_page_reserved_bits)
{
	for (unsigned bit = 12; bit < 22; bit++) {
		struct rig *r = new_paged(PAGING_CR0, 0x800000 | 7 | PTE_PS | 1u << bit, 0);
		struct shadow_answer a = shadow_resolve(r->s, GVA, ACCESS_USER | ACCESS_WRITE);
		CHECK_EQ(a.kind, bit == 12 ? SHADOW_RAM : SHADOW_FAULT); /* bit 12 is PAT */
		if (bit > 12) CHECK_EQ(a.error, 1 | 8 | 6);
		rig_delete(r);
	}
}

TEST(shadow, page_size_bit_without_pse)
{
	struct rig *r = new_paged(PAGING_CR0, TABLE | 7 | PTE_PS, PAGE | 7);
	rig_set_paging(r, PAGING_CR0, DIRECTORY, 0);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_USER).gpa, PAGE | (GVA & 0xFFF));
	rig_set_paging(r, PAGING_CR0, DIRECTORY, CR4_PSE);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_USER).kind, SHADOW_FAULT);
	rig_delete(r);
}

TEST(shadow, tables_outside_ram_are_not_present)
{
	struct rig *r = new_paged(PAGING_CR0, 0x7FFFF000 | 7, 0);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_WRITE).error, ACCESS_WRITE);
	rig_set_paging(r, PAGING_CR0, 0xFFFFF000, CR4_PSE);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_USER).error, ACCESS_USER);
	CHECK_STR(shadow_check(r->s), NULL);
	rig_set_paging(r, PAGING_CR0, DIRECTORY, CR4_PSE);
	rig_delete(r);
}

TEST(shadow, unpaged_is_linear)
{
	struct shadow_config config = rig_config(MIB(16));
	config.hole_start = 0xA0000;
	config.hole_end = 0x100000;
	struct rig *r = rig_new(config);
	CHECK_EQ(shadow_resolve(r->s, 0x12345, ACCESS_WRITE).gpa, 0x12345);
	CHECK_EQ(shadow_resolve(r->s, 0x9FFFF, ACCESS_WRITE).kind, SHADOW_RAM);
	CHECK_EQ(shadow_resolve(r->s, 0xA0000, ACCESS_READ).kind, SHADOW_MMIO);
	CHECK_EQ(shadow_resolve(r->s, 0xFFFFF, ACCESS_WRITE).kind, SHADOW_MMIO);
	CHECK_EQ(shadow_resolve(r->s, 0x100000, ACCESS_READ).kind, SHADOW_RAM);
	CHECK_EQ(shadow_resolve(r->s, 0x1000000, ACCESS_READ).kind, SHADOW_MMIO);
	struct shadow_answer a = shadow_resolve(r->s, 0xFEC00004, ACCESS_READ);
	CHECK_EQ(a.kind, SHADOW_MMIO);
	CHECK_EQ(a.gpa, 0xFEC00004);
	CHECK_EQ(rig_read_entry(shadow_view(r->s, false), 0xFEC00004), 0);
	rig_delete(r);
}

TEST(shadow, peek_changes_nothing)
{
	struct rig *r = new_paged(PAGING_CR0, TABLE | 7, PAGE | 7);
	struct shadow_answer a = shadow_peek(r->s, GVA, ACCESS_USER | ACCESS_WRITE);
	CHECK_EQ(a.kind, SHADOW_RAM);
	CHECK_EQ(a.gpa, PAGE | (GVA & 0xFFF));
	CHECK_EQ(*rig_word(r, rig_pde(DIRECTORY, GVA)), TABLE | 7);
	CHECK_EQ(*rig_word(r, rig_pte(TABLE, GVA)), PAGE | 7);
	CHECK_EQ(rig_read_entry(shadow_view(r->s, true), GVA), 0);
	rig_delete(r);
}

TEST(shadow, entries_of_a_walk)
{
	gpa_t at[2];
	struct rig *r = new_paged(PAGING_CR0, TABLE | 7, PAGE | 5);
	CHECK_EQ(shadow_entries(r->s, GVA, ACCESS_USER, at), 2);
	CHECK_EQ(at[0], rig_pde(DIRECTORY, GVA));
	CHECK_EQ(at[1], rig_pte(TABLE, GVA));
	CHECK_EQ(shadow_entries(r->s, GVA, ACCESS_USER | ACCESS_WRITE, at), 0);
	*rig_word(r, rig_pde(DIRECTORY, GVA)) = 0x800000 | 7 | PTE_PS;
	CHECK_EQ(shadow_entries(r->s, GVA, ACCESS_USER, at), 1);
	CHECK_EQ(*rig_word(r, rig_pde(DIRECTORY, GVA)), 0x800000 | 7 | PTE_PS); /* nothing was marked */
	*rig_word(r, 0x3000) = DIRECTORY | 1;
	*rig_word(r, DIRECTORY + (GVA >> 21) * 8) = TABLE | 7;
	*rig_word(r, TABLE + (GVA >> 12 & 511) * 8) = PAGE | 7;
	rig_set_paging(r, PAGING_CR0, 0x3000, CR4_PAE);
	CHECK_EQ(shadow_entries(r->s, GVA, ACCESS_USER | ACCESS_WRITE, at), 2);
	CHECK_EQ(at[0], DIRECTORY + (GVA >> 21) * 8);
	CHECK_EQ(at[1], TABLE + (GVA >> 12 & 511) * 8);
	rig_set_paging(r, CR0_PE, 0x3000, CR4_PAE);
	CHECK_EQ(shadow_entries(r->s, GVA, ACCESS_USER, at), 0);
	rig_delete(r);
}

TEST(shadow, mode_changes_drop_everything)
{
	struct rig *r = new_paged(CR0_PE | CR0_PG, TABLE | 7, PAGE | 5);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_WRITE).kind, SHADOW_RAM);
	CHECK(rig_write_entry(shadow_view(r->s, false), GVA) != 0);
	rig_set_paging(r, PAGING_CR0, DIRECTORY, CR4_PSE);
	CHECK_EQ(rig_write_entry(shadow_view(r->s, false), GVA), 0);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_WRITE).error, ACCESS_WRITE | 1);
	CHECK_STR(shadow_check(r->s), NULL);
	rig_set_paging(r, CR0_PE, DIRECTORY, CR4_PSE);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_WRITE).gpa, GVA);
	rig_delete(r);
}

/* Clearing CR0.WP drops nothing; setting it what was written to against R/W, and no more. */
TEST(shadow, write_protection_comes_and_goes)
{
	const uint32_t other = GVA + (4 << 20);
	struct rig *r = new_paged(PAGING_CR0, TABLE | 7, PAGE | 5);
	struct shadow_view *v = shadow_view(r->s, false);
	*rig_word(r, rig_pde(DIRECTORY, other)) = TABLE | 7;
	CHECK_EQ(shadow_resolve(r->s, GVA, 0).kind, SHADOW_RAM);
	CHECK_EQ(shadow_resolve(r->s, other, 0).kind, SHADOW_RAM);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_WRITE).kind, SHADOW_FAULT);
	rig_set_paging(r, PAGING_CR0 & ~CR0_WP, r->cr3, r->cr4);
	CHECK(rig_read_entry(v, GVA) && rig_read_entry(v, other));
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_WRITE).kind, SHADOW_RAM);
	CHECK(rig_write_entry(v, GVA) != 0);
	rig_set_paging(r, PAGING_CR0, r->cr3, r->cr4);
	CHECK_EQ(rig_write_entry(v, GVA), 0);
	CHECK(rig_read_entry(v, other) != 0);
	CHECK_EQ(shadow_resolve(r->s, GVA, ACCESS_WRITE).kind, SHADOW_FAULT);
	rig_delete(r);
}

TEST(shadow, flush)
{
	struct rig *r = new_paged(PAGING_CR0, TABLE | 7, PAGE | 7);
	shadow_resolve(r->s, GVA, ACCESS_USER | ACCESS_WRITE);
	shadow_resolve(r->s, GVA, ACCESS_FETCH);
	uint32_t resets = r->view_resets;
	shadow_flush(r->s);
	CHECK_EQ(rig_read_entry(shadow_view(r->s, true), GVA), 0);
	CHECK_EQ(rig_write_entry(shadow_view(r->s, true), GVA), 0);
	CHECK_EQ(rig_exec_entry(shadow_view(r->s, false), GVA), 0);
	CHECK_EQ(r->view_resets, resets + 1); /* the supervisor's alone had an exec entry */
	CHECK(r->last_reset == shadow_view(r->s, false));
	CHECK_STR(shadow_check(r->s), NULL);
	rig_delete(r);
}

TEST(shadow, bad_configurations_are_refused)
{
	struct shadow *s = NULL;
	struct shadow_config good = rig_config(MIB(1)), bad;
	uint8_t *ram = aligned_alloc(PAGE_SIZE, MIB(1));
	struct stats stats;
	good.ram = ram;
	good.stats = &stats;
	bad = good, bad.ram_size = 4097;
	CHECK_EQ(shadow_create(&s, &bad), -EINVAL);
	bad = good, bad.max_views = 0;
	CHECK_EQ(shadow_create(&s, &bad), -EINVAL);
	bad = good, bad.hole_start = 0x1000, bad.hole_end = 0;
	CHECK_EQ(shadow_create(&s, &bad), -EINVAL);
	CHECK(!s);
	free(ram);
}
