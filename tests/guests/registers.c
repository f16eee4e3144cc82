/* What control registers, debug registers and EFLAGS take and what they refuse (SDM vol. 3, 2.3, 2.5 and 17.2; vol. 2, MOV, POPF and IRET). */
#include "guest.h"

#define CR0_PE 1u
#define CR0_ET 0x10u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_PG 0x80000000u
#define CR4_PAE 0x20u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u
#define EFLAGS_RF 0x10000u
#define EFLAGS_VIF 0x80000u
#define EFLAGS_VIP 0x100000u
#define DR6_FIXED 0xFFFF0FF0u
#define DR7_GD 0x2000u

/* mov cr0, eax and mov cr4, eax. */
static bool write_cr(u32 n, u32 value)
{
	struct state s = state_at(CODE(0x0F, 0x22, (u8)(0xC0 | n << 3), CODE_DONE), 0);
	s.eax = value;
	run(&s);
	bool done = s.vector == RUN_DONE, refused = s.vector == 13 && s.error == 0 && s.eip == (u32)code_area;
	if (!done && !refused) print("# CR%u, %x: trap %u error %x\n", n, value, s.vector, s.error);
	return done;
}

static void test_cr0(void)
{
	u32 cr0 = READ_CR(0);
	if (!under_tcg()) check("CR0: PG without PE is refused", !write_cr(0, cr0 & ~CR0_PE));
	check_equal("and changes nothing", READ_CR(0), cr0);
	check("CR0: NW without CD is refused", !write_cr(0, cr0 | CR0_NW));
	check_equal("and changes nothing", READ_CR(0), cr0);
	check("CR0: CD alone, both, neither", write_cr(0, cr0 | CR0_CD) && write_cr(0, cr0 | CR0_CD | CR0_NW) && write_cr(0, cr0));
	check("CR0: what is reserved is ignored, and ET stays", write_cr(0, (cr0 | 0x1FFAFFC0) & ~CR0_ET));
	check_equal("and reads as before", READ_CR(0), cr0);
	WRITE_CR(0, cr0);
}

/* Each bit of CR4 may be set if CPUID shows what it is for. PAE, SMEP and SMAP would change what the page tables mean: pae.c sets them. */
static void test_cr4(void)
{
	static const struct { u8 bit, leaf, reg, feature; } bits[] = {
		{0, 1, 3, 1}, {1, 1, 3, 1}, {2, 1, 3, 4}, {3, 1, 3, 2}, {4, 1, 3, 3}, {6, 1, 3, 7}, {7, 1, 3, 13}, {9, 1, 3, 24}, {10, 1, 3, 25},
		{11, 7, 2, 2},
	};
	u32 cr4 = READ_CR(4), allowed = 1 << 8 /* PCE */, wrong = 0, most[4];
	__asm__ volatile("cpuid" : "=a"(most[0]), "=b"(most[1]), "=c"(most[2]), "=d"(most[3]) : "a"(0), "c"(0));
	for (u32 i = 0; i < sizeof bits / sizeof *bits; i++) {
		u32 r[4] = {0};
		if (bits[i].leaf <= most[0]) __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"((u32)bits[i].leaf), "c"(0));
		allowed |= (r[bits[i].reg] >> bits[i].feature & 1) << bits[i].bit;
	}
	for (u32 bit = 0; bit < 32; bit++) {
		if (1u << bit & (CR4_PAE | CR4_SMEP | CR4_SMAP)) continue;
		u32 value = cr4 | 1u << bit;
		bool done = write_cr(4, value), right = allowed >> bit & 1;
		bool good = done == right && READ_CR(4) == (done ? value : cr4);
		WRITE_CR(4, cr4);
		if (!good) print("# CR4 bit %u: %u\n", bit, done);
		wrong += !good;
	}
	check_equal("CR4, each bit: wrong", wrong, 0);
}

/* The mode field of ModRM means nothing to MOV of control and debug registers: there is never a memory operand. */
static void test_mod(void)
{
	u32 wrong = 0;
	for (u32 i = 0; i < 16; i++) {
		u32 debug = i & 1, store = i & 2;
		u8 modrm = (u8)(i >> 2 << 6 | 2 << 3 | 5); /* CR2 or DR2, EBP */
		struct state s = state_at(CODE(0x0F, (u8)(0x20 | debug | store), modrm, CODE_DONE), 0);
		if (debug) __asm__ volatile("mov %0, %%dr2" : : "r"(0x11223344));
		else WRITE_CR(2, 0x11223344);
		s.ebp = 0x55667788;
		run(&s);
		u32 now;
		if (debug) __asm__ volatile("mov %%dr2, %0" : "=r"(now));
		else now = s.cr2;
		bool good = s.vector == RUN_DONE && s.eip == (u32)code_area + 5 && (store ? now == 0x55667788 : s.ebp == 0x11223344);
		if (!good && wrong++ < 4) print("# 0F %x %x: trap %u at +%d, EBP %x, register %x\n", 0x20 | debug | store, modrm, s.vector, s.eip - (u32)code_area, s.ebp, now);
	}
	check_equal("MOV of CR2 and DR2 with every mode field: wrong", wrong, 0);
}

/* General detect ends as its handler is entered. */
static void try_again(struct trap_frame *f)
{
	(void)f;
}

static void test_debug_registers(void)
{
	u32 ones, zeroes, wrong = 0;
	__asm__ volatile("mov %2, %%dr6; mov %%dr6, %0; mov %3, %%dr6; mov %%dr6, %1" : "=&r"(ones), "=&r"(zeroes) : "r"(0xFFFFFFFF), "r"(0));
	check("DR6: fixed bits", ones == (DR6_FIXED | 0xE00F) && zeroes == DR6_FIXED);
	__asm__ volatile("mov %2, %%dr7; mov %3, %%dr7; mov %%dr7, %0; mov %4, %%dr7; mov %%dr7, %1" : "=&r"(ones), "=&r"(zeroes) : "r"(0), "r"(0xFFFFDFFF & ~0xFFu), "r"(0));
	check("DR7: fixed bits", ones == 0xFFFF0700 && zeroes == 0x400);
	/* General detect: each MOV of each, and nothing of it is done. At CPL 3 there is no such thing. */
	for (u32 i = 0; i < 32; i++) {
		u32 n = i & 7, dr6, dr7, cpl = i & 16 ? 3 : 0;
		struct state s = state_at(CODE(0x0F, (u8)(0x21 | (i & 8 ? 2 : 0)), (u8)(0xC0 | n << 3), CODE_DONE), cpl);
		__asm__ volatile("mov %0, %%dr6; mov %1, %%dr7" : : "r"(0), "r"(DR7_GD));
		run(&s);
		trap_handle(1, try_again);
		if (cpl) __asm__ volatile("mov %0, %%dr7" : : "r"(0));
		trap_handle(1, NULL);
		__asm__ volatile("mov %%dr6, %0; mov %%dr7, %1" : "=r"(dr6), "=r"(dr7));
		wrong += cpl ? s.vector != 13 || s.error : s.vector != 1 || s.eip != (u32)code_area || s.eax != 0xA0A1A2A3 || !(dr6 & 0x2000) || dr7 != 0x400;
	}
	check_equal("general detect of every debug register: wrong", wrong, 0);
}

/* IRET at CPL 0 loads VIF and VIP, which mean nothing without VME; POPF leaves them, whoever runs it. */
static void test_virtual_interrupts(void)
{
	static const struct { const char *name; u32 image, cpl, iopl; } cases[] = {
		{"POPFD of zeroes at CPL 3", 0, 3, 0}, {"POPFD of ones at CPL 3", ~(EFLAGS_TF | EFLAGS_DF), 3, 0}, {"POPFD of zeroes at CPL 3, IOPL 3", 0, 3, 3},
		{"POPFD of zeroes at CPL 0", 0, 0, 0},
	};
	for (u32 i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
		u32 flags = i & 1 ? EFLAGS_VIF | EFLAGS_VIP : 0, n = i / 2;
		/* popf; pushf; pop ecx; int 81h, by an IRET if at CPL 0 */
		u8 code[] = {CODE_DONE, 0xCF, 0x9D, 0x9C, 0x59, CODE_DONE};
		struct state s = state_at(code_put(0, code, sizeof code) + (cases[n].cpl ? 3 : 2), cases[n].cpl);
		u32 *at = (u32 *)s.esp;
		if (!cases[n].cpl) {
			*at++ = s.eip + 1;
			*at++ = CODE0;
			*at++ = flags | 2;
		}
		*at = cases[n].image & ~EFLAGS_IF;
		s.eflags |= cases[n].cpl ? flags | cases[n].iopl << 12 : 0;
		run(&s);
		u32 shown = EFLAGS_VIF | EFLAGS_VIP | EFLAGS_RF;
		if (!check(cases[n].name, s.vector == RUN_DONE && (s.ecx & shown) == flags && (s.eflags & shown) == flags)) print("# trap %u, %x, %x\n", s.vector, s.ecx, s.eflags);
	}
	struct state s = state_at(CODE(0xCF, CODE_DONE), 3);
	u32 frame[] = {s.eip + 1, CODE3, EFLAGS_VIF | EFLAGS_VIP | 2};
	memcpy((void *)s.esp, frame, sizeof frame);
	run(&s);
	check("IRET at CPL 3 leaves them, too", s.vector == RUN_DONE && !(s.eflags & (EFLAGS_VIF | EFLAGS_VIP)));
}

void guest_main(void)
{
	paging_enable();
	test_cr0();
	if (!under_tcg()) test_cr4(); /* it takes some that it does not have, and hangs */
	test_mod();
	test_debug_registers();
	test_virtual_interrupts();
}
