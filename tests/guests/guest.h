/* What the guest test programs share: output, traps, segments, paging. Freestanding, 32-bit, identity-mapped. */
#ifndef TESTS_GUEST_GUEST_H
#define TESTS_GUEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* Each program defines this; its checks end up as TAP lines, and the exit value is 0 if all of them held. */
void guest_main(void);
extern u32 multiboot_magic, multiboot_info;

/* Output on COM1: %d %u %x %s %c. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* One TAP line: "ok NAME" or "not ok NAME: got G, expected E". */
bool check_equal(const char *name, u32 got, u32 expected);
bool check(const char *name, bool holds);
void guest_exit(u32 value) __attribute__((noreturn));

/* Selectors of the GDT that guest_start loads; entries from GDT_FREE on are the test's. */
enum { CODE0 = 0x08, DATA0 = 0x10, CODE3 = 0x1B, DATA3 = 0x23, TSS_SELECTOR = 0x28, GDT_FREE = 6, GDT_ENTRIES = 32 };
void gdt_set(unsigned index, u32 base, u32 limit, u32 access, u32 flags); /* access: bits 40-47; flags: G D/B L AVL */
extern u64 gdt[GDT_ENTRIES];

struct tss {
	u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, gpr[8], es, cs, ss, ds, fs, gs, ldt;
	u16 trap, io_map;
	u8 io_bitmap[8193];
} __attribute__((packed));
extern struct tss tss;

/* A gate: type 0x8E interrupt, 0x8F trap; or-ed with dpl << 5. */
void idt_set(unsigned vector, u32 offset, u32 selector, u32 type);
extern u8 trap_stubs[], trap_iret[]; /* the end of each */

struct trap_frame {
	u32 gs, fs, es, ds;
	u32 edi, esi, ebp, esp_low, ebx, edx, ecx, eax;
	u32 vector, error, eip, cs, eflags;
	u32 esp, ss; /* from CPL 3 only */
	u32 v86_es, v86_ds, v86_fs, v86_gs; /* from virtual-8086 mode only */
};
/* A handler that returns, for interrupts; NULL: the trap ends run, or fails the program. */
typedef void trap_handler(struct trap_frame *f);
void trap_handle(unsigned vector, trap_handler *handler);

/* Registers to run with, and what they were at the first trap. */
struct state {
	u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
	u32 eip, eflags, cs, ss, ds, es, fs, gs;
	u32 vector, error, cr2; /* out */
};
/* Run from this state to its first trap, which replaces it. */
void run(struct state *s);
/* The state that runs, up to that trap; or NULL. An interrupt may come at any time. */
extern struct state *volatile running;
/* A flat state at CPL 0 or 3 with recognisable register values. */
struct state state_at(const void *code, unsigned cpl);
/* Virtual-8086 mode: 16-bit code at V86_CODE, segments of 64 KiB there, at V86_DATA and at V86_STACK. */
#define V86_CODE 0x20000u
#define V86_DATA 0x30000u
#define V86_STACK 0x40000u
#define V86_SP 0x1000u
#define EFLAGS_VM 0x20000u
struct state v86_state(const u8 *bytes, size_t length, u32 iopl);
#define V86_STATE(iopl, ...) v86_state((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), iopl)
/* Run; report whether vector, error code, EIP (as an offset from s->eip) are as expected. */
bool run_expect(const char *name, struct state *s, u32 vector, u32 error, u32 eip_offset);
#define RUN_DONE 0x81 /* `int $0x81` ends run from any privilege */
#define CODE_DONE 0xCD, 0x81

/* Code for run, user-accessible and writable, where a test may put its bytes. */
#define CODE_SIZE 16384
extern u8 code_area[CODE_SIZE];
u8 *code_put(u32 offset, const u8 *bytes, size_t length);
#define CODE(...) code_put(0, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
extern u8 user_stack[8192]; /* one page each side of its middle is for tests to unmap */

/* The timer's interrupt, masked but for one tick at a time. */
void timer_init(u8 vector);
void timer_once(void);
/* Is it in service, and asks no more? Then it was acknowledged once. It ends here. */
bool timer_was_taken(void);

/* Is this the emulator, where it would end or hang by what it gets wrong? */
bool under_tcg(void);

/* Work at CPL 3 for some ten milliseconds: what runs for long may be run in another way. */
void warm_up(void);

/* Paging: 4 KiB pages, identity-mapped, all present, writable and user; up to PAGED_MIB. */
#define PAGED_MIB 32
#define P 1u
#define W 2u
#define U 4u
#define A 0x20u
#define D 0x40u
#define PS 0x80u
extern u32 page_directory[1024];
void paging_init(void);
void paging_enable(void);
u32 *pte_of(u32 va);
void pte_set(u32 va, u32 entry); /* and INVLPG */
/* The last page of the address space on this frame, and its first on the next, each with such rights, or 0: absent. */
void map_ends(u32 frame, u32 top, u32 zero);
void unmap_ends(void);
/* Frames beyond the image, for the test's use, zeroed. */
u8 *frame_alloc(void);

#define EFLAGS_CF 1u
#define EFLAGS_PF 4u
#define EFLAGS_AF 0x10u
#define EFLAGS_ZF 0x40u
#define EFLAGS_SF 0x80u
#define EFLAGS_TF 0x100u
#define EFLAGS_IF 0x200u
#define EFLAGS_DF 0x400u
#define EFLAGS_OF 0x800u
#define EFLAGS_ARITH 0x8D5u

static inline volatile u8 *byte_at(u32 at) { return (volatile u8 *)at; }
static inline volatile u16 *word_at(u32 at) { return (volatile u16 *)at; }
static inline volatile u32 *dword_at(u32 at) { return (volatile u32 *)at; }
static inline void out8(u16 port, u8 x) { __asm__ volatile("outb %0, %1" : : "a"(x), "Nd"(port)); }
static inline void out32(u16 port, u32 x) { __asm__ volatile("outl %0, %1" : : "a"(x), "Nd"(port)); }
static inline u8 in8(u16 port)
{
	u8 x;
	__asm__ volatile("inb %1, %0" : "=a"(x) : "Nd"(port));
	return x;
}
#define READ_CR(n) ({ u32 x_; __asm__ volatile("mov %%cr" #n ", %0" : "=r"(x_) : : "memory"); x_; })
#define WRITE_CR(n, x) __asm__ volatile("mov %0, %%cr" #n : : "r"((u32)(x)) : "memory")
static inline void invlpg(u32 va) { __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory"); }
static inline void wrmsr(u32 msr, u64 x) { __asm__ volatile("wrmsr" : : "c"(msr), "A"(x)); }
static inline u64 rdmsr(u32 msr)
{
	u64 x;
	__asm__ volatile("rdmsr" : "=A"(x) : "c"(msr));
	return x;
}

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);

#endif
