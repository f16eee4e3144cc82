/* x87, MMX and SSE state: lazy switching by CR0.TS, FXSAVE and FXRSTOR, exceptions (SDM vol. 3, ch. 13; vol. 1, ch. 8, 10, 11). */
#include "guest.h"

#define VA 0x1800000u
#define CR0_MP 2u
#define CR0_EM 4u
#define CR0_TS 8u
#define CR0_NE 0x20u

static u8 areas[3][512] __attribute__((aligned(16)));

static volatile u32 *at(u32 va)
{
	return (volatile u32 *)va;
}

static void set_cr0(u32 set, u32 clear)
{
	WRITE_CR(0, (READ_CR(0) & ~clear) | set);
}

#define RUN(...) ({ struct state s_ = state_at(CODE(__VA_ARGS__, CODE_DONE), 3); s_.ebx = VA; run(&s_); s_; })

static void test_device_not_available(void)
{
	struct state s;
	set_cr0(CR0_TS | CR0_MP, CR0_EM);
	s = RUN(0xD9, 0xE8);
	check("fld1 with TS: #NM", s.vector == 7 && s.eip == (u32)code_area);
	s = RUN(0x0F, 0x57, 0xC0);
	check("xorps with TS: #NM", s.vector == 7);
	s = RUN(0x0F, 0xEF, 0xC0);
	check("pxor mm with TS: #NM", s.vector == 7);
	s = RUN(0x9B);
	check("wait with TS and MP: #NM", s.vector == 7);
	s = RUN(0x0F, 0xAE, 0x03);
	check("fxsave with TS: #NM", s.vector == 7);
	set_cr0(0, CR0_MP);
	s = RUN(0x9B);
	check("wait with TS alone runs", s.vector == RUN_DONE);
	set_cr0(CR0_EM | CR0_MP, CR0_TS);
	s = RUN(0xD9, 0xE8);
	check("fld1 with EM: #NM", s.vector == 7);
	s = RUN(0x0F, 0x57, 0xC0);
	check("xorps with EM: #UD", s.vector == 6);
	s = RUN(0x0F, 0xEF, 0xC0);
	check("pxor mm with EM: #UD", s.vector == 6);
	set_cr0(CR0_MP | CR0_NE, CR0_EM | CR0_TS);
	WRITE_CR(4, READ_CR(4) & ~0x600u);
	s = RUN(0x0F, 0x57, 0xC0);
	check("xorps without OSFXSR: #UD", s.vector == 6);
	s = RUN(0x0F, 0x2A, 0xC0);
	check("cvtpi2ps without OSFXSR: #UD", s.vector == 6);
	s = RUN(0x0F, 0xD4, 0xC0, 0x0F, 0x70, 0xC0, 0, 0x0F, 0xE0, 0xC0, 0x0F, 0x77);
	check("MMX forms of SSE and SSE2 do not need it", s.vector == RUN_DONE);
	s = RUN(0xD9, 0xE8, 0xDB, 0x0B);
	check("nor does fisttp", s.vector == RUN_DONE);
	WRITE_CR(4, READ_CR(4) | 0x600u);
	s = RUN(0x0F, 0x57, 0xC0);
	check("xorps with OSFXSR", s.vector == RUN_DONE);
	set_cr0(CR0_TS, 0);
	__asm__ volatile("clts");
	s = RUN(0xD9, 0xE8);
	check("after clts", s.vector == RUN_DONE);
}

/* Two tasks with a state each, switched lazily as a kernel would. */
static u32 owner, task, switches;
static void switch_fpu(struct trap_frame *f)
{
	(void)f;
	__asm__ volatile("clts");
	if (owner != task) {
		__asm__ volatile("fxsave %0" : "=m"(areas[owner]));
		__asm__ volatile("fxrstor %0" : : "m"(areas[task]));
		owner = task;
		switches++;
	}
}

static void test_lazy_switching(void)
{
	u32 wrong = 0;
	__asm__ volatile("fninit; fxsave %0; fxsave %1" : "=m"(areas[0]), "=m"(areas[1]));
	owner = 0;
	trap_handle(7, switch_fpu);
	for (u32 i = 0; i < 40; i++) {
		task = i & 1;
		set_cr0(CR0_TS, 0);
		/* fild dword [ebx]; fadd st,st1 where there is one; movd xmm3,[ebx+4]; paddd xmm2,xmm3 */
		*at(VA) = task + 1;
		*at(VA + 4) = task * 100 + 1;
		struct state s = RUN(0xDA, 0x03, 0x66, 0x0F, 0x6E, 0x5B, 0x04, 0x66, 0x0F, 0xFE, 0xD3);
		wrong += s.vector != RUN_DONE;
		if (i < 2) {
			task = i;
			s = RUN(0xDB, 0xE3, 0xD9, 0xEE, 0x66, 0x0F, 0xEF, 0xD2);
		}
	}
	for (task = 0; task < 2; task++) {
		set_cr0(CR0_TS, 0);
		struct state s = RUN(0xDB, 0x13, 0x66, 0x0F, 0x7E, 0x53, 0x04);
		wrong += s.vector != RUN_DONE;
		check_equal(task ? "x87 sum of task 1" : "x87 sum of task 0", *at(VA), 19 * (task + 1));
		check_equal(task ? "XMM sum of task 1" : "XMM sum of task 0", *at(VA + 4), 19 * (task * 100 + 1));
	}
	trap_handle(7, NULL);
	check_equal("lazy switching: unexpected traps", wrong, 0);
	check("lazy switching: switches", switches >= 40);
	set_cr0(0, CR0_TS);
}

static void test_images(void)
{
	u32 wrong = 0;
	__asm__ volatile("fninit; fld1; fldpi; fxsave %0" : "=m"(areas[0]));
	check_equal("fxsave: control word", areas[0][0] | areas[0][1] << 8, 0x37F);
	check_equal("fxsave: top", areas[0][3] >> 3 & 7, 6);
	check_equal("fxsave: abridged tags", areas[0][4], 0xC0);
	check_equal("fxsave: st0 exponent", areas[0][40] | areas[0][41] << 8, 0x4000);
	check_equal("fxsave: MXCSR", *(u32 *)(areas[0] + 24), 0x1F80);
	/* Nothing of the host behind XMM7. */
	memset(areas[1], 0xA5, 512);
	__asm__ volatile("fxsave %0" : "=m"(areas[1]));
	for (u32 i = 288; i < 416; i++) wrong += areas[1][i] != 0xA5 && areas[1][i] != 0;
	check_equal("fxsave: XMM8-15 are not there", wrong, 0);
	for (u32 i = 0; i < 8; i++) memset(areas[2] + 160 + 16 * i, (int)(0x10 + i), 16);
	memcpy(areas[2], areas[0], 160);
	__asm__ volatile("fninit; fxrstor %1; fxsave %0" : "=m"(areas[1]) : "m"(areas[2]));
	for (u32 i = 0; i < 8; i++) {
		wrong += memcmp(areas[1] + 32 + 16 * i, areas[2] + 32 + 16 * i, 10) != 0;
		wrong += memcmp(areas[1] + 160 + 16 * i, areas[2] + 160 + 16 * i, 16) != 0;
	}
	check_equal("fxrstor brings all back: registers wrong", wrong, 0);
	u32 env[27];
	__asm__ volatile("fninit; fldpi; fnstenv %0" : "=m"(env));
	check("fnstenv: control, status, tags", (env[0] & 0xFFFF) == 0x37F && (env[1] & 0x3800) == 0x3800 && (env[2] & 0xFFFF) == 0x3FFF);
	__asm__ volatile("fninit; fld1; fldz; fnsave %0" : "=m"(env));
	check("fnsave: tags, and it resets", (env[2] & 0xFFFF) == 0x1FFF);
	u16 word;
	__asm__ volatile("fnstcw %0" : "=m"(word));
	check_equal("control word after fnsave", word, 0x37F);
	u32 integer;
	__asm__ volatile("frstor %1; faddp; fistpl %0" : "=m"(integer) : "m"(env));
	check_equal("frstor", integer, 1);
	struct state s;
	wrong = 0;
	for (u32 bit = 16; bit < 32; bit++) {
		*at(VA) = 0x1F80 | 1u << bit;
		s = RUN(0x0F, 0xAE, 0x13);
		wrong += s.vector != 13 || s.error != 0;
	}
	check("ldmxcsr with a reserved bit: #GP", wrong == 0);
	s = RUN(0x0F, 0xAE, 0x43, 0x08);
	check("fxsave to an address not aligned: #GP", s.vector == 13);
	s = RUN(0x0F, 0x28, 0x43, 0x04);
	check("movaps from an address not aligned: #GP", s.vector == 13);
	pte_set(VA + 0x1000, 0);
	s = state_at(CODE(0x0F, 0xAE, 0x03, CODE_DONE), 3);
	s.ebx = VA + 0xF00;
	memset((void *)(VA + 0xF00), 0x77, 0x100);
	run_expect("fxsave into a missing page", &s, 14, 6, 0);
	check_equal("its CR2", s.cr2, VA + 0x1000);
	s = state_at(CODE(0xDD, 0x33, CODE_DONE), 3);
	s.ebx = VA + 0xFF0;
	run_expect("fnsave into a missing page", &s, 14, 6, 0);
	s = state_at(CODE(0x0F, 0x28, 0x03, CODE_DONE), 3);
	s.ebx = VA + 0x1000;
	run_expect("movaps from a missing page", &s, 14, 4, 0);
	pte_set(VA + 0x1000, (VA + 0x1000) | P | W | U);
	/* 16 bytes over a page boundary: alignment comes before paging. */
	s = state_at(CODE(0x66, 0x0F, 0x6F, 0x03, CODE_DONE), 3);
	s.ebx = VA + 0xFF8;
	run_expect("movdqa over a page boundary", &s, 13, 0, 0);
	s = state_at(CODE(0xF3, 0x0F, 0x6F, 0x03, CODE_DONE), 3);
	s.ebx = VA + 0xFF8;
	run_expect("movdqu over a page boundary", &s, RUN_DONE, 0, 6);
}

static void test_exceptions(void)
{
	struct state s;
	__asm__ volatile("fninit");
	*at(VA) = 0x37B; /* zero divide unmasked */
	s = RUN(0xD9, 0x2B, 0xD9, 0xE8, 0xD9, 0xEE, 0xDE, 0xF9, 0x90, 0x9B);
	check_equal("x87 zero divide: #MF", s.vector, 16);
	check_equal("at the next waiting instruction", s.eip - (u32)code_area, 9);
	__asm__ volatile("fnclex; fninit");
	*at(VA) = 0x37B;
	s = RUN(0xD9, 0x2B, 0xD9, 0xE8, 0xD9, 0xEE, 0xDE, 0xF9, 0xDB, 0xE2, 0xD9, 0xE8);
	check_equal("fnclex clears it", s.vector, RUN_DONE);
	__asm__ volatile("fninit");
	*at(VA) = 0x1F80 & ~0x200u; /* zero divide unmasked */
	s = RUN(0x0F, 0xAE, 0x13, 0x0F, 0x57, 0xC0, 0x0F, 0x57, 0xC9, 0xB8, 0, 0, 0x80, 0x3F, 0x66, 0x0F, 0x6E, 0xC0, 0xF3, 0x0F, 0x5E, 0xC1);
	check_equal("SSE zero divide: #XM", s.vector, 19);
	check_equal("at the instruction", s.eip - (u32)code_area, 18);
	*at(VA) = 0x1F80;
	RUN(0x0F, 0xAE, 0x13);
	WRITE_CR(4, READ_CR(4) & ~0x400u);
	*at(VA) = 0x1F80 & ~0x200u;
	s = RUN(0x0F, 0xAE, 0x13, 0x0F, 0x57, 0xC0, 0x0F, 0x57, 0xC9, 0xB8, 0, 0, 0x80, 0x3F, 0x66, 0x0F, 0x6E, 0xC0, 0xF3, 0x0F, 0x5E, 0xC1);
	check_equal("the same without OSXMMEXCPT: #UD", s.vector, 6);
	WRITE_CR(4, READ_CR(4) | 0x400u);
	*at(VA) = 0x1F80;
	RUN(0x0F, 0xAE, 0x13);
	/* Masked: results as IEEE 754 says. */
	s = RUN(0x0F, 0x57, 0xC0, 0x0F, 0x57, 0xC9, 0xB8, 0, 0, 0x80, 0x3F, 0x66, 0x0F, 0x6E, 0xC0, 0xF3, 0x0F, 0x5E, 0xC1, 0x66, 0x0F, 0x7E, 0xC0);
	check_equal("masked: infinity", s.eax, 0x7F800000);
	/* Rounding control survives a trip through the kernel. */
	*at(VA) = 0x7F80; /* toward zero */
	*at(VA + 4) = 0x40200000; /* 2.5 */
	RUN(0x0F, 0xAE, 0x13);
	s = RUN(0xF3, 0x0F, 0x2D, 0x43, 0x04);
	check_equal("MXCSR rounding toward zero", s.eax, 2);
	*at(VA) = 0x5F80; /* up */
	RUN(0x0F, 0xAE, 0x13);
	s = RUN(0xF3, 0x0F, 0x2D, 0x43, 0x04);
	check_equal("MXCSR rounding up", s.eax, 3);
	*at(VA) = 0x1F80;
	RUN(0x0F, 0xAE, 0x13);
	/* MMX aliases the x87 stack. */
	s = RUN(0xDB, 0xE3, 0xB8, 0x44, 0x33, 0x22, 0x11, 0x0F, 0x6E, 0xC0, 0x0F, 0x77, 0xD9, 0x3B);
	check("emms empties the stack", s.vector == RUN_DONE);
}

/* Where the last x87 instruction was, and what it worked on: the guest's own addresses (vol. 1, 8.1.8). */
static void test_pointers(void)
{
	static u32 image[27];
	struct state s = RUN(0xDB, 0xE3, 0xD9, 0xE8, 0x90, 0xD9, 0x43, 0x40, 0x90, 0xD9, 0x33); /* fninit; fld1; fld [ebx+40h]; fnstenv */
	check_equal("FIP", at(VA)[3], (u32)code_area + 5);
	s = RUN(0xDB, 0xE3, 0xD9, 0x33);
	check("FNINIT clears it", at(VA)[3] == 0 && at(VA)[5] == 0);
	at(VA)[16] = 0;
	*(volatile u16 *)(VA + 0x60) = 0x37E;
	/* fninit; fldcw; fldz; fdiv [ebx+40h]; nop; wait */
	s = RUN(0xDB, 0xE3, 0xD9, 0x6B, 0x60, 0xD9, 0xEE, 0xD8, 0x73, 0x40, 0x90, 0x9B);
	check("an invalid operation: #MF", s.vector == 16 && s.eip == (u32)code_area + 11);
	__asm__ volatile("fnsave %0" : "=m"(image));
	check_equal("FIP of an exception", image[3], (u32)code_area + 7);
	check_equal("FDP", image[5], VA + 0x40);
	check_equal("the opcode", image[4] >> 16, 0x073);
	/* Through FXSAVE and FXRSTOR, as a system switches processes. */
	__asm__ volatile("frstor %2; fxsave %0; fninit; fxrstor %0; fnstenv %1" : "=m"(areas[0]), "=m"(areas[1]) : "m"(image));
	check_equal("FXSAVE's FIP", *(u32 *)(areas[0] + 8), image[3]);
	check_equal("FXRSTOR's FIP", ((u32 *)areas[1])[3], image[3]);
	check_equal("FXRSTOR's FDP", ((u32 *)areas[1])[5], image[5]);
	__asm__ volatile("fninit");
}

void guest_main(void)
{
	paging_enable();
	WRITE_CR(4, READ_CR(4) | 0x600);
	set_cr0(CR0_MP | CR0_NE, CR0_EM | CR0_TS);
	__asm__ volatile("fninit");
	test_device_not_available();
	test_lazy_switching();
	test_images();
	test_exceptions();
	test_pointers();
}
