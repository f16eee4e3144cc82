/* The local APIC, the I/O APIC, NMIs, and accesses of every size to memory that is not RAM (SDM vol. 3, ch. 10 and 6.7.1). Needs --testdev. */
#include "guest.h"

#define APIC 0xFEE00000u
#define IOAPIC 0xFEC00000u
#define DEVICE 0xFF000000u
#define ID 0x20
#define TPR 0x80
#define PPR 0xA0
#define EOI 0xB0
#define SPURIOUS 0xF0
#define ISR 0x100
#define ICR 0x300
#define TIMER 0x320
#define LINT0 0x350
#define INITIAL 0x380
#define CURRENT 0x390
#define DIVIDE 0x3E0
#define MASKED 0x10000u

#define ECHO 0xE0
#define FORGET 0xE4
#define IRQ_LINE 0x2000

#define MAX 16
static volatile u32 taken[MAX], count, eips[MAX];

static volatile u32 *apic(u32 reg) { return (volatile u32 *)(APIC + reg); }
static void eoi(void) { *apic(EOI) = 0; }
static void self_ipi(u32 vector) { *apic(ICR) = 0x44000 | vector; }
/* Emulators look for interrupts at branches. */
static __attribute__((noinline)) void self_nmi(void)
{
	*apic(ICR) = 0x4400;
	__asm__ volatile("jmp 1f; 1: nop; jmp 1f; 1:" : : : "memory");
}
static void sti_nop_cli(void) { __asm__ volatile("sti; nop; cli" : : : "memory"); }

static void note(struct trap_frame *f)
{
	if (count < MAX) eips[count] = f->eip, taken[count] = f->vector;
	count++;
	if (count == 3) out8(IRQ_LINE + 10, 0);
	if (f->vector >= 32) eoi();
}

static void test_priorities(void)
{
	for (unsigned v = 0x30; v < RUN_DONE; v++) trap_handle(v, note);
	check_equal("the APIC's number", *apic(ID) >> 24, 0);
	count = 0;
	self_ipi(0x41), self_ipi(0x62), self_ipi(0x52);
	check_equal("with IF clear none is taken", count, 0);
	sti_nop_cli();
	check_equal("all are taken", count, 3);
	check("the most urgent first", taken[0] == 0x62 && taken[1] == 0x52 && taken[2] == 0x41);
	count = 0;
	*apic(TPR) = 0x50;
	self_ipi(0x51), self_ipi(0x61);
	sti_nop_cli();
	check("the task priority holds back its own class", count == 1 && taken[0] == 0x61);
	__asm__ volatile("sti");
	*apic(TPR) = 0;
	check("and lowering it lets the interrupt in at once", count == 2 && taken[1] == 0x51);
	__asm__ volatile("cli");
	check_equal("the processor's priority is back", *apic(PPR), 0);
}

static void test_shadow(void)
{
	u32 eip;
	count = 0;
	self_ipi(0x40);
	__asm__ volatile("sti; mov $1f, %0; 1: cli" : "=r"(eip) : : "memory");
	check("STI's shadow covers one instruction", count == 1 && eips[0] == eip);
	count = 0;
	self_ipi(0x40);
	__asm__ volatile("sti; cli" : : : "memory");
	check_equal("which may be CLI", count, 0);
	__asm__ volatile("pushfl; orl $0x200, (%%esp); popfl; mov $1f, %0; 1: cli" : "=r"(eip) : : "memory");
	check("POPF has none", count == 1 && eips[0] < eip);
}

static volatile u32 nmi_depth, nmi_most;

static void nmi(struct trap_frame *f)
{
	note(f);
	if (++nmi_depth > nmi_most) nmi_most = nmi_depth;
	if (count == 1) self_nmi();
	nmi_depth--;
}

static volatile u32 bad_frame_seen;
__asm__("bad_return:	pushl $2\n	pushl $0\n	pushl $0\n	iretl\n"); /* a null CS */
extern u8 bad_return[];

static void nmi_with_bad_return(struct trap_frame *f)
{
	note(f);
	if (count > 1) return;
	self_nmi();
	bad_frame_seen = count;
	f->eip = (u32)bad_return; /* with this IRET NMIs are on again: the second one is taken before the bad one */
}

static void test_nmi(void)
{
	trap_handle(2, nmi);
	count = nmi_most = 0;
	self_nmi();
	check_equal("an NMI is taken with IF clear, the one from its handler behind it", count, 2);
	check_equal("never nested", nmi_most, 1);
	trap_handle(2, nmi_with_bad_return);
	count = 0;
	struct state s = state_at(CODE(0xC7, 0x00, 0x00, 0x44, 0x00, 0x00, 0x90, 0x90, 0x90, 0xF4), 0); /* mov dword [eax], 4400h */
	s.eax = APIC + ICR;
	s.eflags = 2;
	run(&s);
	check("a handler's bad IRET is its own fault", s.vector == 13 && s.eip == (u32)bad_return + 6);
	check_equal("the second NMI waited for the first IRET", bad_frame_seen, 1);
	check_equal("and came then", count, 2);
	trap_handle(2, NULL);
}

static void test_halt(void)
{
	count = 0;
	*apic(TIMER) = 0x45;
	*apic(DIVIDE) = 0xB;
	*apic(INITIAL) = 50000000;
	check("the timer counts down", *apic(CURRENT) > 0 && *apic(CURRENT) <= 50000000);
	__asm__ volatile("sti; hlt; cli" : : : "memory");
	check("its interrupt ends HLT", count == 1 && taken[0] == 0x45);
	check_equal("and it stands", *apic(CURRENT), 0);
	*apic(TIMER) = 0x20045;
	*apic(INITIAL) = 1000000;
	for (count = 0; count < 5;) __asm__ volatile("sti; hlt; cli" : : : "memory");
	*apic(INITIAL) = 0;
	sti_nop_cli();
	check_equal("a periodic one goes on", count >= 5, 1);
}

static void route(u32 pin, u32 value);

static void stop_ticks(void)
{
	out8(0x43, 0x30);
}

static void tick_once(void)
{
	stop_ticks();
	out8(0x40, 0), out8(0x40, 0x40);
}

/* The timer's interrupt arrives as an NMI: through the I/O APIC, through the PIC; or as an interrupt of LINT0's own. */
static void test_halt_nmi(void)
{
	trap_handle(2, note);
	stop_ticks(); /* those of before the guest began */
	route(2, 0x400);
	count = 0;
	tick_once();
	__asm__ volatile("cli; hlt" : : : "memory");
	check("an NMI of the I/O APIC's ends HLT with IF clear", count == 1 && taken[0] == 2);
	route(2, MASKED);
	out8(0x20, 0x11), out8(0x21, 0x30), out8(0x21, 4), out8(0x21, 3), out8(0x21, 0xFE);
	*apic(LINT0) = 0x400;
	count = 0;
	tick_once();
	__asm__ volatile("cli; hlt" : : : "memory");
	check("an NMI of LINT0's too", count == 1 && taken[0] == 2);
	out8(0x20, 0x11), out8(0x21, 0x30), out8(0x21, 4), out8(0x21, 3), out8(0x21, 0xFE);
	*apic(LINT0) = 0x46;
	count = 0;
	tick_once();
	__asm__ volatile("sti; hlt; cli" : : : "memory");
	check("and its interrupt, not the PIC's", count == 1 && taken[0] == 0x46);
	*apic(LINT0) = MASKED;
	out8(0x21, 0xFF);
	trap_handle(2, NULL);
}

static void route(u32 pin, u32 value)
{
	volatile u32 *index = (volatile u32 *)IOAPIC, *data = (volatile u32 *)(IOAPIC + 0x10);
	*index = 0x11 + 2 * pin, *data = 0;
	*index = 0x10 + 2 * pin, *data = value;
}

static void test_lines(void)
{
	count = 0;
	*apic(LINT0) = MASKED;
	route(10, 0x71);
	out8(IRQ_LINE + 10, 1), out8(IRQ_LINE + 10, 0);
	sti_nop_cli();
	check("an edge through the I/O APIC", count == 1 && taken[0] == 0x71);
	route(10, 0x8072);
	count = 0;
	out8(IRQ_LINE + 10, 1);
	for (u32 i = 0; i < 4; i++) sti_nop_cli();
	check("a level comes again until it ends", count == 3 && taken[2] == 0x72); /* the third handler ends it */
	route(10, MASKED);
	/* The PIC through LINT0. */
	*apic(LINT0) = 0x700;
	out8(0x20, 0x11), out8(0x21, 0x30), out8(0x21, 4), out8(0x21, 3), out8(0x21, 0xDF);
	out8(0xA0, 0x11), out8(0xA1, 0x38), out8(0xA1, 2), out8(0xA1, 3), out8(0xA1, 0xFF);
	count = 0;
	out8(IRQ_LINE + 5, 1), out8(IRQ_LINE + 5, 0), out8(IRQ_LINE + 5, 1);
	sti_nop_cli();
	check("an interrupt of the PIC's", count == 1 && taken[0] == 0x35);
	check_equal("is not in service here", *apic(ISR + 0x10), 0);
	out8(IRQ_LINE + 5, 0);
	out8(0x21, 0xFF);
	*apic(LINT0) = MASKED;
}

/* --- memory that is not RAM --- */

/* Code that copies from ESI to EDI, where zeros are; how much, and whether both must be aligned. */
static const struct copier {
	const char *name;
	u32 size, length;
	u8 code[16];
	bool aligned;
} copiers[] = {
	{"mov m8", 1, 4, {0x8A, 0x06, 0x88, 0x07}, false},
	{"mov m16", 2, 6, {0x66, 0x8B, 0x06, 0x66, 0x89, 0x07}, false},
	{"mov m32", 4, 4, {0x8B, 0x06, 0x89, 0x07}, false},
	{"movq m64, mm", 8, 8, {0x0F, 0x6F, 0x06, 0x0F, 0x7F, 0x07, 0x0F, 0x77}, false},
	{"fistp m64", 8, 4, {0xDF, 0x2E, 0xDF, 0x3F}, false},
	{"fstp m80", 10, 4, {0xDB, 0x2E, 0xDB, 0x3F}, false},
	{"movups", 16, 6, {0x0F, 0x10, 0x06, 0x0F, 0x11, 0x07}, false},
	{"movaps", 16, 6, {0x0F, 0x28, 0x06, 0x0F, 0x29, 0x07}, true},
	{"push, pop m32", 4, 4, {0xFF, 0x36, 0x8F, 0x07}, false},
	{"movsd", 4, 1, {0xA5}, false},
	{"rep movsd", 32, 7, {0xB9, 8, 0, 0, 0, 0xF3, 0xA5}, false},
	{"rep movsb", 13, 7, {0xB9, 13, 0, 0, 0, 0xF3, 0xA4}, false},
	{"lodsd, stosd", 4, 2, {0xAD, 0xAB}, false},
	{"add m32", 4, 4, {0x8B, 0x06, 0x01, 0x07}, false},
	{"lock xadd m32", 4, 6, {0x8B, 0x06, 0xF0, 0x0F, 0xC1, 0x07}, false},
	{"xchg m32", 4, 4, {0x8B, 0x06, 0x87, 0x07}, false},
	{"cmpxchg8b", 8, 12, {0x31, 0xC0, 0x31, 0xD2, 0x8B, 0x1E, 0x8B, 0x4E, 0x04, 0x0F, 0xC7, 0x0F}, false},
};

#define PATTERN(i) ((u8)(0x11 * (i) + 3))

static bool copies(const struct copier *c, u32 from, u32 to)
{
	volatile u8 *source = (volatile u8 *)from, *target = (volatile u8 *)to;
	for (u32 i = 0; i < 48; i++) source[i] = PATTERN(i), target[i] = 0;
	u8 code[18];
	memcpy(code, c->code, c->length);
	code[c->length] = 0xCD, code[c->length + 1] = RUN_DONE;
	struct state s = state_at(code_put(0, code, c->length + 2), 0);
	s.esi = from;
	s.edi = to;
	s.eflags = 2;
	run(&s);
	if (s.vector != RUN_DONE) return false;
	for (u32 i = 0; i < 48; i++)
		if (target[i] != (i < c->size ? PATTERN(i) : 0)) return false;
	return true;
}

static void test_copiers(const char *what, u32 from, u32 to, bool aligned)
{
	bool good = true;
	for (unsigned i = 0; i < sizeof copiers / sizeof *copiers; i++) {
		if ((copiers[i].aligned && !aligned) || copies(&copiers[i], from, to)) continue;
		print("# wrong: %s\n", copiers[i].name);
		good = false;
	}
	check(what, good);
}

#define RAM_VA 0x1800000u /* two pages, the second of them the device's */

static void test_memory(void)
{
	static u8 ram[64] __attribute__((aligned(16)));
	WRITE_CR(0, READ_CR(0) & ~6u);
	WRITE_CR(4, READ_CR(4) | 0x210);
	test_copiers("copied to the device", (u32)ram, DEVICE + 0x40, true);
	test_copiers("copied from the device", DEVICE + 0x40, (u32)ram, true);
	test_copiers("copied from device to device", DEVICE + 0x40, DEVICE + 0x100, true);
	paging_enable();
	for (u32 i = APIC >> 22; i < 1024; i++) page_directory[i] = i << 22 | PS | W | P; /* the APICs and the device */
	pte_set(RAM_VA + 0x1000, DEVICE | P | W | U);
	test_copiers("copied, paged, to the device", (u32)ram, DEVICE + 0x40, true);
	for (u32 back = 1; back < 16; back += 2) {
		test_copiers("copied from RAM into the device, unaligned over the border", (u32)ram, RAM_VA + 0x1000 - back, false);
		test_copiers("copied out of RAM and the device", RAM_VA + 0x1000 - back, (u32)ram, false);
	}
}

static void test_echo(void)
{
	out32(ECHO, 0x12345678);
	check_equal("the echo port", in8(ECHO + 2), 0x34);
}

/* What was derived from memory is dropped at the worst moment, and nobody notices. */
static void test_forget(void)
{
	count = 0;
	for (u32 i = 0; i < 50; i++) {
		self_ipi(0x40 + (i & 15));
		out32(FORGET, (u32)trap_stubs);
		sti_nop_cli();
		volatile u32 x = i;
		out32(FORGET, (u32)&x);
		if (x != i) check_equal("a value on the stack", x, i);
	}
	check_equal("interrupts behind a page that was forgotten", count, 50);
}

static u32 cpuid_edx(void)
{
	u32 a = 1, b, c, d;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	return d;
}

static void test_base(void)
{
	u64 base = rdmsr(0x1B);
	check_equal("IA32_APIC_BASE", (u32)base, APIC | 0x900);
	check_equal("CPUID shows it", cpuid_edx() >> 9 & 1, 1);
	*apic(TPR) = 0x33;
	wrmsr(0x1B, base & ~0x800u);
	check_equal("CPUID hides one that is off", cpuid_edx() >> 9 & 1, 0);
	check_equal("as do its registers", *apic(TPR), 0xFFFFFFFFu);
	wrmsr(0x1B, base);
	check_equal("on again, it is as after power-on", *apic(TPR), 0);
	struct state s = state_at(CODE(0x0F, 0x30, CODE_DONE), 0);
	s.ecx = 0x1B, s.eax = (u32)base | 1, s.edx = 0;
	run_expect("a reserved bit", &s, 13, 0, 0);
}

void guest_main(void)
{
	*apic(LINT0) = MASKED;
	*apic(SPURIOUS) = 0x1FF;
	test_priorities();
	test_shadow();
	test_nmi();
	test_halt();
	test_halt_nmi();
	test_lines();
	test_echo();
	test_forget();
	test_memory();
	test_forget();
	test_base();
}
