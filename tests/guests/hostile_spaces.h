/* The two address spaces of hostile_mix.c, with tables of two levels or of PAE: the region and, as one large page or two, the arena that it shows;
 * below, for virtual-8086 mode, the region once more; the kernel, which lies in neither. */
#ifndef TESTS_GUESTS_HOSTILE_SPACES_H
#define TESTS_GUESTS_HOSTILE_SPACES_H

#include "guest.h"

#define FRAMES 0x1800000u /* the arena: page tables of the region, code, stacks, data */
#define FRAME_COUNT 16u
#define APIC 0xFEE00000u
#define LARGE (REGION + 0x800000u)
#define CR4_PGE 0x80u
#define CR4_PAE 0x20u

#ifdef PAE
typedef u64 entry_t;
#define REGION 0x40000000u /* a directory of its own, in the arena as its tables are */
#define SLOT_SHIFT 21
#define TABLE_FRAMES 4u
#else
typedef u32 entry_t;
#define REGION 0x2000000u
#define SLOT_SHIFT 22
#define TABLE_FRAMES 2u
#endif
#define ENTRIES (4096 / sizeof(entry_t))
#define SLOT(va) ((va) >> SLOT_SHIFT & (ENTRIES - 1))

static entry_t *table(u32 which) { return (entry_t *)(FRAMES + which * 4096); }

#ifdef PAE
#define XD (1ull << 63)
static u64 pdpts[2][4] __attribute__((aligned(4096))), low_directories[2][512] __attribute__((aligned(4096))), top_directory[512] __attribute__((aligned(4096)));
static u64 kernel_tables[PAGED_MIB / 2][512] __attribute__((aligned(4096))), ends[2][512] __attribute__((aligned(4096)));

static entry_t *directory(u32 which) { return table(2 + which); }
static entry_t *low_directory(u32 which) { return low_directories[which]; }
static u32 root(u32 which) { return (u32)pdpts[which]; }

static void spaces_clear(u32 which)
{
	for (u32 i = 0; i < PAGED_MIB / 2; i++) low_directories[which][i] = (u32)kernel_tables[i] | P | W | U | A;
	for (u32 i = 0; i < 512; i++) directory(which)[i] = 0;
	pdpts[which][0] = (u32)low_directories[which] | P;
	pdpts[which][1] = pdpts[which][2] = (u32)directory(which) | P;
	pdpts[which][3] = (u32)top_directory | P;
}

static entry_t *kernel_entry(u32 va) { return &kernel_tables[va >> 21][va >> 12 & 511]; }

/* What leads to the region's table. */
static void space_restore(u32 which)
{
	directory(which)[SLOT(REGION)] = (u32)table(which) | P | W | U;
	pdpts[which][1] = (u32)directory(which) | P;
	WRITE_CR(3, root(which));
}

static void spaces_ends(u32 frame, u32 top)
{
	memcpy(ends[1], kernel_tables[0], sizeof ends[1]);
	ends[0][511] = frame ? frame | top : 0;
	ends[1][0] = (frame + 4096) | P | W | U;
	top_directory[511] = frame ? (u32)ends[0] | P | W | U : 0;
	for (u32 which = 0; which < 2 && frame; which++) low_directories[which][0] = (u32)ends[1] | P | W | U;
}

static void spaces_begin(void)
{
	for (u32 va = 0; va < PAGED_MIB << 20; va += 4096) {
		bool user = va - (u32)code_area < CODE_SIZE || va - (u32)user_stack < sizeof user_stack;
		kernel_tables[va >> 21][va >> 12 & 511] = va | P | W | (user ? U : 0);
	}
	top_directory[SLOT(APIC)] = APIC | P | W | PS | 0x10;
	spaces_clear(0);
	spaces_clear(1);
	WRITE_CR(4, READ_CR(4) | CR4_PAE);
}
#else
static u32 other_directory[1024] __attribute__((aligned(4096)));

static entry_t *directory(u32 which) { return which ? other_directory : page_directory; }
static entry_t *low_directory(u32 which) { return directory(which); }
static u32 root(u32 which) { return (u32)directory(which); }

static void spaces_clear(u32 which)
{
	for (u32 i = 1; i < 1024; i++) directory(which)[i] = i < PAGED_MIB / 4 ? (u32)pte_of(i << 22) | P | W | U | A : 0;
	directory(which)[SLOT(APIC)] = (APIC & 0xFFC00000) | P | W | PS | 0x10;
}

static entry_t *kernel_entry(u32 va) { return pte_of(va); }

static void space_restore(u32 which) { directory(which)[SLOT(REGION)] |= P | W | U; }

static void spaces_ends(u32 frame, u32 top)
{
	if (frame) map_ends(frame, top, P | W | U);
	else page_directory[1023] = 0;
	other_directory[1023] = page_directory[1023];
	if (frame) other_directory[0] = page_directory[0];
}

static void spaces_begin(void)
{
	paging_init();
	for (u32 va = 0; va < PAGED_MIB << 20; va += 4096)
		if (va - (u32)code_area >= CODE_SIZE && va - (u32)user_stack >= sizeof user_stack) *pte_of(va) &= ~U;
	WRITE_CR(4, READ_CR(4) | 0x10);
}
#endif

/* As a program begins. Both with the ends of the address space, on this frame and the next, with the region once more at 0, or neither. */
static void spaces_set(u32 ends_frame, u32 top, bool low, bool paged_large)
{
	for (u32 which = 0; which < 2; which++) {
		spaces_clear(which);
		low_directory(which)[0] = (u32)(low ? table(which) : kernel_entry(0)) | P | W | U | A;
		directory(which)[SLOT(REGION)] = (u32)table(which) | P | W | U | A;
		for (u32 at = 0; at < 0x400000 && paged_large; at += 1u << SLOT_SHIFT)
			directory(which)[SLOT(LARGE + at)] = (FRAMES + at) | P | W | U | PS | A | D;
	}
	spaces_ends(ends_frame, top);
}

/* MOV to CR3 may find reserved bits: then CR3 stays. */
extern void space_load_root(u32 value);
extern u8 space_load_at[], space_load_end[];
__asm__("space_load_root:\n"
	"	movl 4(%esp), %eax\n"
	"space_load_at:\n"
	"	movl %eax, %cr3\n"
	"space_load_end:\n"
	"	ret\n");

static u32 space_now(void) { return READ_CR(3) == root(1); }
static void space_load(u32 which) { space_load_root(root(which)); }
static void space_reload(void) { space_load_root(READ_CR(3)); }

#endif
