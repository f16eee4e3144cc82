/* System registers, the mode word, MSRs, CPUID, ports, interrupt flag: against vol. 2 and vol. 3 ch. 2. */
#include <cpuid.h>

#include "base/features.h"
#include "tests/unit/cpu_fixture.h"

static enum callout_result to_cr(unsigned reg, uint32_t value)
{
	cpu.gpr[EBX] = value;
	return callout_mov_to_cr(&cpu, ARG_REG(mov_to_cr, reg, EBX, 2), 0, 0);
}

static enum callout_result from_cr(unsigned reg)
{
	return callout_mov_from_cr(&cpu, ARG_REG(mov_from_cr, reg, EBX, 2), 0, 0);
}

static enum callout_result to_dr(unsigned reg, uint32_t value)
{
	cpu.gpr[EBX] = value;
	return callout_mov_to_dr(&cpu, ARG_REG(mov_to_dr, reg, EBX, 2), 0, 0);
}

static enum callout_result msr(uint32_t number, uint64_t value, bool write)
{
	cpu.gpr[ECX] = number;
	cpu.gpr[EAX] = (uint32_t)value;
	cpu.gpr[EDX] = (uint32_t)(value >> 32);
	return write ? callout_wrmsr(&cpu, 2 << 8, 0, 0) : callout_rdmsr(&cpu, 2 << 8, 0, 0);
}

static uint64_t edx_eax(void)
{
	return (uint64_t)cpu.gpr[EDX] << 32 | cpu.gpr[EAX];
}

TEST(cpu_system, reset)
{
	set_up();
	cpu_reset(&cpu, false);
	CHECK_EQ(cpu.eip, 0xFFF0);
	CHECK_EQ(cpu.seg[SEG_CS].selector, 0xF000);
	CHECK_EQ(cpu.seg[SEG_CS].base, 0xFFFF0000);
	CHECK_EQ(cpu.cr0, 0x60000010);
	CHECK_EQ(cpu.gpr[EDX], 0x106CA);
	CHECK_EQ(vcpu_eflags(&cpu), 2);
	CHECK_EQ(cpu.idtr.limit, 0xFFFF);
	CHECK_EQ(cpu.dr[6], 0xFFFF0FF0);
	CHECK_EQ(cpu.dr[7], 0x400);
	CHECK_EQ(cpu.mode & 0xFFFF, MODE_IOPL_OK | MODE_SSE_UD);
	for (unsigned i = 0; i < SEG_COUNT; i++) CHECK_EQ(MODE_SEG(cpu.mode, i), MODE_SEG_LIMIT);
	cpu_reset(&cpu, true);
	CHECK_EQ(cpu.mode, MODE_IOPL_OK | MODE_SSE_UD | MODE_PE | MODE_CS32 | MODE_SS32);
}

/* Each bit of the mode word, from the state that it stands for. */
TEST(cpu_system, mode_bits)
{
	static const struct { unsigned cpl; uint32_t cr0, cr4, eflags, dr7, want; } cases[] = {
		{ 0, 0, CR4_OSFXSR, 0, 0, MODE_IOPL_OK },
		{ 3, 0, CR4_OSFXSR, 0, 0, 3 },
		{ 3, 0, CR4_OSFXSR, EFL_IOPL, 0, 3 | MODE_IOPL_OK },
		{ 1, 0, CR4_OSFXSR, 0x1000, 0, 1 | MODE_IOPL_OK },
		{ 0, CR0_TS, CR4_OSFXSR, 0, 0, MODE_IOPL_OK | MODE_FPU_NM },
		{ 0, CR0_TS | CR0_MP, CR4_OSFXSR, 0, 0, MODE_IOPL_OK | MODE_FPU_NM | MODE_FPU_WAIT_NM },
		{ 0, CR0_MP, CR4_OSFXSR, 0, 0, MODE_IOPL_OK },
		{ 0, CR0_EM, CR4_OSFXSR, 0, 0, MODE_IOPL_OK | MODE_FPU_NM | MODE_SSE_UD | MODE_MMX_UD },
		{ 0, 0, 0, 0, 0, MODE_IOPL_OK | MODE_SSE_UD },
		{ 3, 0, CR4_OSFXSR | CR4_TSD, 0, 0, 3 | MODE_TSD },
		{ 0, 0, CR4_OSFXSR | CR4_TSD, 0, 0, MODE_IOPL_OK },
		{ 3, CR0_AM, CR4_OSFXSR, EFL_AC, 0, 3 | MODE_AC },
		{ 0, CR0_AM, CR4_OSFXSR, EFL_AC, 0, MODE_IOPL_OK },
		{ 3, 0, CR4_OSFXSR, EFL_AC, 0, 3 },
		{ 0, 0, CR4_OSFXSR, EFL_TF, 0, MODE_IOPL_OK | MODE_TF },
		{ 0, 0, CR4_OSFXSR, 0, 0x701, MODE_IOPL_OK | MODE_DR7 },
		{ 0, 0, CR4_OSFXSR, 0, 0xF0700, MODE_IOPL_OK },
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		set_up_cpl(cases[i].cpl);
		cpu.cr0 |= cases[i].cr0;
		cpu.cr4 = cases[i].cr4;
		cpu.eflags = cases[i].eflags;
		cpu.dr[7] = cases[i].dr7;
		cpu.mode = MODE_SOFT;
		cpu_update_mode(&cpu);
		CHECK_EQ(cpu.mode, cases[i].want | MODE_SOFT | MODE_PE | MODE_CS32 | MODE_SS32);
		CHECK_EQ(cpu.cpl, cases[i].cpl);
	}
}

TEST(cpu_system, cr0)
{
	set_up();
	cpu.gpr[EBX] = CR0_PG;
	CHECK_FAULTS(to_cr(0, CR0_PG), VEC_GP, 0);
	cpu.gpr[EBX] = CR0_PE | CR0_NW;
	CHECK_FAULTS(to_cr(0, CR0_PE | CR0_NW), VEC_GP, 0);
	CHECK_EQ(paging_changes, 0);
	CHECK_EQ(to_cr(0, CR0_PE | CR0_PG | CR0_WP), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x1003);
	CHECK_EQ(paging_changes, 1);
	CHECK_EQ(from_cr(0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[EBX], CR0_PE | CR0_PG | CR0_WP | CR0_ET); /* ET is always set */
	CHECK_EQ(to_cr(0, 0x1FF7FFC0 | CR0_PE | CR0_PG | CR0_WP), CALLOUT_NEXT);
	CHECK_EQ(cpu.cr0, CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_AM); /* reserved bits are ignored */
	CHECK_EQ(to_cr(0, CR0_PE | CR0_ET), CALLOUT_LEAVE);
	unsigned changes = paging_changes;
	CHECK_EQ(to_cr(0, CR0_PE | CR0_TS), CALLOUT_LEAVE); /* the mode changed, paging did not */
	CHECK_EQ(to_cr(0, CR0_PE | CR0_TS | CR0_NE), CALLOUT_NEXT);
	CHECK_EQ(callout_clts(&cpu, 2 << 8, 0, 0), CALLOUT_LEAVE);
	CHECK_EQ(callout_clts(&cpu, 2 << 8, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.cr0, CR0_PE | CR0_ET | CR0_NE);
	CHECK_EQ(paging_changes, changes);
}

TEST(cpu_system, machine_status_word)
{
	set_up();
	cpu.gpr[EAX] = 0xFFFE;
	CHECK_EQ(callout_lmsw(&cpu, ARG_REG(lmsw, 6, EAX, 1), 0, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.cr0, CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET); /* PE stays */
	cpu.gpr[EAX] = 0;
	callout_lmsw(&cpu, ARG_REG(lmsw, 6, EAX, 1), 0, 0);
	CHECK_EQ(cpu.cr0, CR0_PE | CR0_ET);
	cpu.cr0 |= CR0_WP;
	poke32(DATA, 0xFFFFFFFF);
	CHECK_EQ(callout_smsw(&cpu, ARG_MEM(smsw, 4, 2), DATA, 0), CALLOUT_NEXT);
	CHECK_EQ(peek32(DATA), 0xFFFF0011);
	callout_smsw(&cpu, ARG_REG(smsw, 4, ECX, 2), 0, 0);
	CHECK_EQ(cpu.gpr[ECX], 0x10011);
	cpu.gpr[ECX] = 0xAAAAAAAA;
	callout_smsw(&cpu, ARG_REG(smsw, 4, ECX, 1), 0, 0);
	CHECK_EQ(cpu.gpr[ECX], 0xAAAA0011);
}

TEST(cpu_system, cr2_cr3_cr4)
{
	set_up();
	CHECK_EQ(to_cr(3, 0x12345018), CALLOUT_LEAVE);
	CHECK_EQ(paging_changes, 1);
	CHECK_EQ(cpu.cr3, 0x12345018);
	CHECK_EQ(to_cr(2, 0xDEADBEEF), CALLOUT_NEXT);
	CHECK_EQ(from_cr(2), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[EBX], 0xDEADBEEF);
	CHECK_EQ(to_cr(4, CR4_PSE), CALLOUT_LEAVE);
	CHECK_EQ(paging_changes, 2);
	CHECK_EQ(to_cr(4, CR4_PSE | CR4_OSXMMEXCPT), CALLOUT_NEXT);
	CHECK_EQ(to_cr(4, CR4_PSE | CR4_OSFXSR), CALLOUT_LEAVE);
	CHECK_EQ(paging_changes, 2);
	/* What CPUID does not show is reserved. */
	static const uint32_t reserved[] = { CR4_VME, CR4_PVI, CR4_MCE, CR4_SMAP, 0x1000, 0x2000, 0x10000, 0x20000, 0x80000000 };
	for (unsigned i = 0; i < ARRAY_LEN(reserved); i++) {
		cpu.gpr[EBX] = reserved[i];
		CHECK_FAULTS(to_cr(4, reserved[i]), VEC_GP, 0);
	}
	static const unsigned missing[] = { 1, 5, 6, 7, 8, 15 };
	for (unsigned i = 0; i < ARRAY_LEN(missing); i++) {
		CHECK_EQ(to_cr(missing[i], 0), CALLOUT_FAULT);
		CHECK_EQ(cpu.fault.vector, VEC_UD);
		CHECK_EQ(from_cr(missing[i]), CALLOUT_FAULT);
		CHECK_EQ(cpu.fault.vector, VEC_UD);
	}
}

TEST(cpu_system, debug_registers)
{
	set_up();
	CHECK_EQ(to_dr(0, 0x12345678), CALLOUT_NEXT);
	CHECK_EQ(to_dr(6, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.dr[6], 0xFFFF0FF0);
	CHECK_EQ(to_dr(4, 0xFFFFFFFF), CALLOUT_NEXT); /* no CR4.DE: DR4 is DR6 */
	CHECK_EQ(cpu.dr[6], 0xFFFFEFFF);
	CHECK_EQ(to_dr(7, 0xFFFFD801), CALLOUT_LEAVE);
	CHECK_EQ(cpu.dr[7], 0xFFFF0401);
	CHECK(cpu.mode & MODE_DR7);
	CHECK_EQ(callout_mov_from_dr(&cpu, ARG_REG(mov_from_dr, 5, ECX, 2), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[ECX], 0xFFFF0401);
	CHECK_EQ(to_dr(7, 0x2000), CALLOUT_LEAVE);
	cpu.dr[6] = 0xFFFF0FF0;
	CHECK_EQ(callout_mov_from_dr(&cpu, ARG_REG(mov_from_dr, 0, ECX, 2), 0, 0), CALLOUT_FAULT);
	CHECK_EQ(fault_seen(), FAULT(VEC_DB, 0xFFFF));
	CHECK_EQ(cpu.dr[6], 0xFFFF2FF0);
	CHECK(cpu.eflags & EFL_RF);
	CHECK_EQ(to_cr(4, CR4_DE), CALLOUT_NEXT);
	CHECK_FAULTS(callout_mov_from_dr(&cpu, ARG_REG(mov_from_dr, 4, ECX, 2), 0, 0), VEC_UD, 0xFFFF);
	CHECK_FAULTS(callout_mov_from_dr(&cpu, ARG_REG(mov_from_dr, 5, ECX, 2), 0, 0), VEC_UD, 0xFFFF);
}

TEST(cpu_system, tables)
{
	set_up();
	poke32(DATA, 0x89AB0123);
	poke16(DATA + 4, 0xCDEF);
	CHECK_EQ(callout_lgdt(&cpu, ARG_MEM(lgdt, 2, 2), DATA, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gdtr.limit, 0x0123);
	CHECK_EQ(cpu.gdtr.base, 0xCDEF89AB);
	CHECK_EQ(callout_lidt(&cpu, ARG_MEM(lidt, 3, 1), DATA, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.idtr.base, 0x00EF89AB);
	CHECK_EQ(callout_sgdt(&cpu, ARG_MEM(sgdt, 0, 2), DATA + 0x10, 0), CALLOUT_NEXT);
	CHECK_EQ(peek32(DATA + 0x10), 0x89AB0123);
	CHECK_EQ(peek32(DATA + 0x14), 0x0000CDEF);
	CHECK_EQ(callout_sidt(&cpu, ARG_MEM(sidt, 1, 2), DATA + 0x20, 0), CALLOUT_NEXT);
	CHECK_EQ(peek32(DATA + 0x22), 0x00EF89AB);
	rights[DATA / PAGE_SIZE + 1] = 0;
	CHECK_FAULTS(callout_lgdt(&cpu, ARG_MEM(lgdt, 2, 2), DATA + 0xFFC, 0), VEC_PF, 0);
	CHECK_FAULTS(callout_lgdt(&cpu, ARG_REG(lgdt, 2, EAX, 2), 0, 0), VEC_UD, 0xFFFF);
}

static enum callout_result ltr(uint16_t selector)
{
	cpu.gpr[EAX] = selector;
	return callout_ltr(&cpu, ARG_REG(ltr, 3, EAX, 1), 0, 0);
}

TEST(cpu_system, task_register)
{
	set_up();
	set_descriptor(GDT + SEL_TSS, 0x5000, 0x67, 0x89, 0);
	CHECK_EQ(ltr(SEL_TSS), CALLOUT_NEXT);
	CHECK_EQ(cpu.tr.base, 0x5000);
	CHECK_EQ(cpu.tr.ar, 0x8B);
	CHECK_EQ(ram[GDT + SEL_TSS + 5], 0x8B);
	CHECK_FAULTS(ltr(SEL_TSS), VEC_GP, SEL_TSS); /* busy now */
	cpu.gpr[EAX] = 0;
	CHECK_FAULTS(ltr(0), VEC_GP, 0);
	cpu.gpr[EAX] = SEL_TSS | 4;
	CHECK_FAULTS(ltr(SEL_TSS | 4), VEC_GP, SEL_TSS | 4);
	cpu.gpr[EAX] = DATA0;
	CHECK_FAULTS(ltr(DATA0), VEC_GP, DATA0);
	set_descriptor(GDT + FREE, 0, 0x67, 0x09, 0);
	cpu.gpr[EAX] = FREE;
	CHECK_FAULTS(ltr(FREE), VEC_NP, FREE);
	cpu.gpr[EAX] = SEL_TSS;
	CHECK_FAULTS(callout_lldt(&cpu, ARG_REG(lldt, 2, EAX, 1), 0, 0), VEC_GP, SEL_TSS);
}

/* Everything privileged faults alike outside level 0. */
TEST(cpu_system, privileged_instructions)
{
	static callout_fn *const privileged[] = {
		callout_hlt, callout_lldt, callout_ltr, callout_lmsw, callout_clts, callout_mov_from_cr, callout_mov_to_cr, callout_mov_from_dr,
		callout_mov_to_dr, callout_wbinvd, callout_rdmsr, callout_wrmsr, callout_rdpmc, callout_sysexit,
	};
	for (unsigned cpl = 1; cpl <= 3; cpl += 2) {
		set_up_cpl(cpl);
		cpu.sysenter_cs = 8;
		for (unsigned i = 0; i < ARRAY_LEN(privileged); i++) CHECK_FAULTS(privileged[i](&cpu, ARG_REG(hlt, 0, EAX, 2), 0, 0), VEC_GP, 0);
		CHECK_FAULTS(callout_lgdt(&cpu, ARG_MEM(lgdt, 2, 2), DATA, 0), VEC_GP, 0);
		CHECK_FAULTS(callout_lidt(&cpu, ARG_MEM(lidt, 2, 2), DATA, 0), VEC_GP, 0);
		CHECK_FAULTS(callout_invlpg(&cpu, ARG_MEM(invlpg, 7, 2), DATA, 0), VEC_GP, 0);
		CHECK_EQ(callout_sgdt(&cpu, ARG_MEM(sgdt, 0, 2), DATA, 0), CALLOUT_NEXT);
		CHECK_EQ(callout_smsw(&cpu, ARG_REG(smsw, 0, EAX, 2), 0, 0), CALLOUT_NEXT);
	}
}

TEST(cpu_system, msrs)
{
	static const uint32_t plain[] = { 0x174, 0x175, 0x176, 0x1A0 };
	set_up();
	for (unsigned i = 0; i < ARRAY_LEN(plain); i++) {
		CHECK_EQ(msr(plain[i], 0x12345678 + i, true), CALLOUT_NEXT);
		CHECK_EQ(msr(plain[i], 0, false), CALLOUT_NEXT);
		CHECK_EQ(edx_eax(), 0x12345678 + i);
	}
	CHECK_EQ(cpu.sysenter_eip, 0x1234567A);
	CHECK_EQ(msr(0x10, 0, false), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), 0x1122334455667788);
	CHECK_EQ(msr(0x277, 0, false), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), 0x0007040600070406);
	CHECK_EQ(msr(0x277, 0x0007010600070106, true), CALLOUT_NEXT);
	CHECK_EQ(msr(0x277, 0x0007010600070206, true), CALLOUT_FAULT); /* type 2 is reserved */
	CHECK_EQ(fault_seen(), FAULT(VEC_GP, 0));
	CHECK_EQ(cpu.pat, 0x0007010600070106);
	static const uint32_t absent[] = { 0x1B, 0xFE, 0x200, 0xC0000081, 0x1D9, 0x179 };
	for (unsigned i = 0; i < ARRAY_LEN(absent); i++) {
		CHECK_EQ(msr(absent[i], 0, false), CALLOUT_FAULT);
		CHECK_EQ(fault_seen(), FAULT(VEC_GP, 0));
		CHECK_EQ(msr(absent[i], 0, true), CALLOUT_FAULT);
		CHECK_EQ(fault_seen(), FAULT(VEC_GP, 0));
	}
}

TEST(cpu_system, apic_base)
{
	set_up();
	cpu.features |= FEATURE_BIT(FEATURE_APIC);
	cpu_reset(&cpu, true);
	CHECK_EQ(cpu.apic_base, 0xFEE00900u);
	CHECK_EQ(msr(0x1B, 0, false), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[EAX], 0xFEE00900u);
	unsigned changes = apic_base_changes;
	CHECK_EQ(msr(0x1B, 0xFFEE00000, true), CALLOUT_NEXT); /* the bootstrap bit stays */
	CHECK_EQ(cpu.apic_base, 0xFFEE00100);
	CHECK_EQ(apic_base_changes, changes + 1);
	static const uint64_t reserved[] = { 0xFEE00901u, 0xFEE00B00u, 0xFEE00D00u, 0x10FEE00900u };
	for (unsigned i = 0; i < ARRAY_LEN(reserved); i++)
		CHECK_EQ(msr(0x1B, reserved[i], true), CALLOUT_FAULT);
	CHECK_EQ(apic_base_changes, changes + 1);
	/* CPUID shows it while it is enabled (vol. 3, 10.4.3). */
	for (unsigned enabled = 0; enabled < 2; enabled++) {
		CHECK_EQ(msr(0x1B, enabled ? 0xFEE00800u : 0xFEE00000u, true), CALLOUT_NEXT);
		cpu.gpr[EAX] = 1;
		CHECK_EQ(callout_cpuid(&cpu, 2 << 8, 0, 0), CALLOUT_NEXT);
		CHECK_EQ(cpu.gpr[EDX] >> 9 & 1, enabled);
	}
}

static void cpuid(uint32_t leaf)
{
	cpu.gpr[EAX] = leaf;
	cpu.gpr[ECX] = 0;
	CHECK_EQ(callout_cpuid(&cpu, 2 << 8, 0, 0), CALLOUT_NEXT);
}

TEST(cpu_system, cpuid_identity)
{
	char text[49] = { 0 };
	set_up_cpl(3);
	cpuid(0);
	memcpy(text, &cpu.gpr[EBX], 4);
	memcpy(text + 4, &cpu.gpr[EDX], 4);
	memcpy(text + 8, &cpu.gpr[ECX], 4);
	CHECK_STR(text, "GenuineIntel");
	uint32_t highest = cpu.gpr[EAX];
	cpuid(0x40000000);
	memcpy(text, &cpu.gpr[EBX], 4);
	memcpy(text + 4, &cpu.gpr[ECX], 4);
	memcpy(text + 8, &cpu.gpr[EDX], 4);
	CHECK_STR(text, "btvmmbtvmm  ");
	for (uint32_t i = 0; i < 3; i++) {
		cpuid(0x80000002 + i);
		uint32_t words[4] = { cpu.gpr[EAX], cpu.gpr[EBX], cpu.gpr[ECX], cpu.gpr[EDX] };
		memcpy(text + 16 * i, words, 16);
	}
	CHECK_STR(text, "bt-vmm virtual CPU");
	/* Beyond the end, the highest basic leaf answers. */
	cpuid(highest);
	uint32_t last = cpu.gpr[EAX];
	cpuid(highest + 1);
	CHECK_EQ(cpu.gpr[EAX], last);
	cpuid(0x80000009);
	CHECK_EQ(cpu.gpr[EAX], last);
	cpuid(0x80000008);
	CHECK_EQ(cpu.gpr[EAX], 32 << 8 | 36);
}

/* Instruction-set extensions: shown where the host has them. */
static const struct { enum feature feature; uint32_t leaf, gpr, bit; } places[] = {
	{ FEATURE_SSE3, 1, ECX, 0 }, { FEATURE_PCLMULQDQ, 1, ECX, 1 }, { FEATURE_SSSE3, 1, ECX, 9 }, { FEATURE_SSE41, 1, ECX, 19 },
	{ FEATURE_SSE42, 1, ECX, 20 }, { FEATURE_MOVBE, 1, ECX, 22 }, { FEATURE_POPCNT, 1, ECX, 23 }, { FEATURE_AES, 1, ECX, 25 },
	{ FEATURE_RDRAND, 1, ECX, 30 }, { FEATURE_CLFLUSH, 1, EDX, 19 }, { FEATURE_BMI1, 7, EBX, 3 }, { FEATURE_BMI2, 7, EBX, 8 },
	{ FEATURE_RDSEED, 7, EBX, 18 }, { FEATURE_ADX, 7, EBX, 19 }, { FEATURE_CLFLUSHOPT, 7, EBX, 23 }, { FEATURE_CLWB, 7, EBX, 24 },
	{ FEATURE_SHA, 7, EBX, 29 }, { FEATURE_LZCNT, 0x80000001, ECX, 5 }, { FEATURE_PREFETCHW, 0x80000001, ECX, 8 },
	{ FEATURE_INVTSC, 0x80000007, EDX, 8 },
};

/* What a kernel concludes from CPUID must hold: no feature whose registers or instructions are absent. */
TEST(cpu_system, cpuid_features)
{
	set_up();
	for (unsigned i = 0; i < ARRAY_LEN(places); i++) cpu.features &= ~FEATURE_BIT(places[i].feature);
	cpuid(1);
	CHECK_EQ(cpu.gpr[EAX] >> 8 & 15, 6);
	CHECK_EQ((cpu.gpr[EAX] >> 4 & 15) | (cpu.gpr[EAX] >> 12 & 0xF0), 28);
	CHECK_EQ(cpu.gpr[EAX] & 15, 10);
	uint32_t edx = cpu.gpr[EDX], ecx = cpu.gpr[ECX];
	static const uint8_t present[] = { 0, 2, 3, 4, 5, 6, 8, 11, 13, 15, 16, 17, 23, 24, 25, 26 };
	uint32_t want = 0;
	for (unsigned i = 0; i < ARRAY_LEN(present); i++) want |= 1u << present[i];
	CHECK_EQ(edx, want);
	CHECK_EQ(ecx, 1u << 31);
	CHECK(!(edx & 1u << 9));
	/* CR4 and MSRs agree. */
	CHECK_EQ((edx >> 6 & 1) != 0, to_cr(4, CR4_PAE) != CALLOUT_FAULT);
	CHECK_EQ((edx >> 3 & 1) != 0, to_cr(4, CR4_PSE) != CALLOUT_FAULT);
	CHECK_EQ((edx >> 13 & 1) != 0, to_cr(4, CR4_PGE) != CALLOUT_FAULT);
	CHECK_EQ((edx >> 1 & 1) != 0, to_cr(4, CR4_VME) != CALLOUT_FAULT);
	CHECK_EQ((edx >> 2 & 1) != 0, to_cr(4, CR4_DE) != CALLOUT_FAULT);
	CHECK_EQ((edx >> 9 & 1) != 0, msr(0x1B, 0, false) != CALLOUT_FAULT);
	CHECK_EQ((edx >> 12 & 1) != 0, msr(0xFE, 0, false) != CALLOUT_FAULT);
	cpuid(0x80000001);
	CHECK_EQ(cpu.gpr[EDX], 1u << 20);
	CHECK_EQ(cpu.gpr[ECX], 0);
	cpuid(7);
	CHECK_EQ(cpu.gpr[EBX], 1u << 1 | 1u << 6 | 1u << 7 | 1u << 13);
	CHECK_EQ(cpu.gpr[ECX], 1u << 2);
	cpu.gpr[EAX] = 7, cpu.gpr[ECX] = 1;
	callout_cpuid(&cpu, 2 << 8, 0, 0);
	CHECK_EQ(cpu.gpr[EBX], 0);
}

/* PDPTEs are registers: loaded with CR3 and when a control register changes how it is read, all good or none. */
TEST(cpu_system, pdptes)
{
	enum { PDPT = DATA + 0x20, PAGED = CR0_PE | CR0_PG };
	static const uint64_t good[4] = { 0x1001, 0x2000000019, 0, 0x0000000800003E19 };
	set_up();
	memcpy(ram + PDPT, good, sizeof(good));
	CHECK_EQ(to_cr(3, PDPT), CALLOUT_LEAVE); /* nothing is loaded without paging: entry 1 is not looked at */
	CHECK_EQ(to_cr(4, CR4_PAE), CALLOUT_LEAVE);
	cpu.gpr[EBX] = PAGED;
	CHECK_FAULTS(to_cr(0, PAGED), VEC_GP, 0); /* bit 37 of entry 1: beyond the physical width */
	ram[PDPT + 8] &= 0xFE; /* not present: its other bits mean nothing */
	CHECK_EQ(to_cr(0, PAGED), CALLOUT_LEAVE);
	CHECK_EQ(cpu.pdpte[0], 0x1001);
	CHECK_EQ(cpu.pdpte[3], good[3]);
	for (unsigned bit = 1; bit < 64; bit++) {
		uint64_t entry = 0x1001 | UINT64_C(1) << bit;
		bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 36;
		memcpy(ram + PDPT + 16, &entry, 8);
		cpu.gpr[EBX] = PDPT;
		if (reserved) CHECK_FAULTS(to_cr(3, PDPT), VEC_GP, 0);
		else CHECK_EQ(to_cr(3, PDPT | 0x18), CALLOUT_LEAVE);
		if (!reserved) CHECK_EQ(cpu.pdpte[2], entry);
	}
	cpu.gpr[EBX] = CR4_PAE | CR4_PGE;
	CHECK_FAULTS(to_cr(4, CR4_PAE | CR4_PGE), VEC_GP, 0);
	CHECK_EQ(to_cr(4, CR4_PAE | CR4_UMIP), CALLOUT_NEXT); /* loads none */
	CHECK_EQ(to_cr(4, 0), CALLOUT_LEAVE); /* nor does the way back to two levels */
	CHECK_EQ(to_cr(3, 0x80000000), CALLOUT_LEAVE);
	CHECK_EQ(to_cr(4, CR4_PAE), CALLOUT_LEAVE); /* beyond memory: not present, all four */
	CHECK_EQ(cpu.pdpte[0], 0);
}

TEST(cpu_system, efer)
{
	set_up();
	unsigned before = paging_changes;
	CHECK_EQ(msr(0xC0000080, EFER_NXE, true), CALLOUT_NEXT);
	CHECK_EQ(paging_changes, before + 1);
	CHECK_EQ(msr(0xC0000080, 0, false), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), EFER_NXE);
	CHECK_EQ(msr(0xC0000080, EFER_NXE, true), CALLOUT_NEXT);
	CHECK_EQ(paging_changes, before + 1);
	for (unsigned bit = 0; bit < 64; bit++)
		CHECK_EQ(msr(0xC0000080, UINT64_C(1) << bit, true), bit == 11 ? CALLOUT_NEXT : CALLOUT_FAULT);
	cpu.features &= ~FEATURE_BIT(FEATURE_NX);
	CHECK_EQ(msr(0xC0000080, EFER_NXE, true), CALLOUT_FAULT);
	CHECK_EQ(msr(0xC0000080, 0, false), CALLOUT_FAULT);
}

TEST(cpu_system, umip)
{
	set_up();
	CHECK_EQ(to_cr(4, CR4_UMIP), CALLOUT_NEXT);
	CHECK_EQ(callout_sgdt(&cpu, ARG_MEM(sgdt, 0, 2), DATA, 0), CALLOUT_NEXT);
	CHECK_EQ(callout_str(&cpu, ARG_REG(str, 0, EBX, 2), 0, 0), CALLOUT_NEXT);
	set_up_cpl(3);
	CHECK_EQ(callout_smsw(&cpu, ARG_REG(smsw, 0, EBX, 2), 0, 0), CALLOUT_NEXT);
	cpu.cr4 = CR4_UMIP;
	CHECK_FAULTS(callout_sgdt(&cpu, ARG_MEM(sgdt, 0, 2), DATA, 0), VEC_GP, 0);
	CHECK_FAULTS(callout_sidt(&cpu, ARG_MEM(sidt, 0, 2), DATA, 0), VEC_GP, 0);
	CHECK_FAULTS(callout_sldt(&cpu, ARG_REG(sldt, 0, EBX, 2), 0, 0), VEC_GP, 0);
	CHECK_FAULTS(callout_str(&cpu, ARG_MEM(str, 0, 2), DATA, 0), VEC_GP, 0);
	CHECK_FAULTS(callout_smsw(&cpu, ARG_REG(smsw, 0, EBX, 2), 0, 0), VEC_GP, 0);
	CHECK_FAULTS(callout_sgdt(&cpu, ARG_REG(sgdt, 0, EBX, 2), 0, 0), VEC_UD, 0xFFFF);
}

TEST(cpu_system, stac_and_clac)
{
	set_up();
	CHECK_FAULTS(callout_stac(&cpu, 3 << 8, 0, 0), VEC_UD, 0xFFFF); /* not shown */
	cpu.features |= FEATURE_BIT(FEATURE_SMAP);
	CHECK_EQ(callout_stac(&cpu, 3 << 8, 0, 0), CALLOUT_NEXT);
	CHECK(vcpu_eflags(&cpu) & EFL_AC);
	CHECK_EQ(callout_clac(&cpu, 3 << 8, 0, 0), CALLOUT_NEXT);
	CHECK(!(vcpu_eflags(&cpu) & EFL_AC));
	set_up_cpl(3);
	cpu.features |= FEATURE_BIT(FEATURE_SMAP);
	CHECK_FAULTS(callout_clac(&cpu, 3 << 8, 0, 0), VEC_UD, 0xFFFF);
}

/* --cpu=LIST: what is not shown has no bit in CR4 either. */
TEST(cpu_system, features_follow_the_list)
{
	char why[512] = "";
	set_up();
	CHECK(cpu_features_parse("-pge,-sse3,+sse2", &cpu.features, why, sizeof(why)));
	cpuid(1);
	CHECK(!(cpu.gpr[EDX] & 1u << 13) && !(cpu.gpr[ECX] & 1) && (cpu.gpr[EDX] & 1u << 26));
	CHECK_EQ(to_cr(4, CR4_PGE), CALLOUT_FAULT);
	CHECK_EQ(fault_seen(), FAULT(VEC_GP, 0));
	CHECK(cpu_features_parse("+pge", &cpu.features, why, sizeof(why)));
	CHECK(to_cr(4, CR4_PGE) != CALLOUT_FAULT);
	static const char *const bad[] = { "", "pge", "+", "-", "+pge,", ",+pge", "+pg", "+pgee", "+PGE", "++pge" };
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		CHECK(!cpu_features_parse(bad[i], &cpu.features, why, sizeof(why)));
		CHECK(strstr(why, "is unknown") && strstr(why, " pge"));
	}
	char tiny[8];
	CHECK(!cpu_features_parse("bad", &cpu.features, tiny, sizeof(tiny)));
}

static uint32_t cpuid_register(uint32_t leaf, unsigned gpr)
{
	cpuid(leaf);
	return cpu.gpr[gpr];
}

/* Each extension has its bit, alone; and shown are those that the host's own CPUID shows there. */
TEST(cpu_system, cpuid_extensions)
{
	uint64_t shown = cpu_features_default();
	uint32_t words[4];
	set_up();
	for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
		cpu.features = 0;
		uint32_t without = cpuid_register(places[i].leaf, places[i].gpr);
		cpu.features = FEATURE_BIT(places[i].feature);
		CHECK_EQ(cpuid_register(places[i].leaf, places[i].gpr), without | 1u << places[i].bit);
		CHECK(!(without >> places[i].bit & 1));
		__cpuid_count(places[i].leaf, 0, words[0], words[3], words[1], words[2]); /* by enum gpr */
		CHECK_EQ(shown >> places[i].feature & 1, words[places[i].gpr] >> places[i].bit & 1);
	}
	/* What goes with them: the line that CLFLUSH flushes, and nothing in another subleaf of 7. */
	cpu.features = FEATURES_ALL;
	CHECK_EQ(cpuid_register(1, EBX) >> 8 & 255, 8);
	cpu.gpr[EAX] = 7;
	cpu.gpr[ECX] = 1;
	callout_cpuid(&cpu, 2 << 8, 0, 0);
	CHECK_EQ(cpu.gpr[EBX], 0);
}

TEST(cpu_system, time_stamp)
{
	set_up_cpl(3);
	CHECK_EQ(callout_rdtsc(&cpu, 2 << 8, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), 0x1122334455667788);
	cpu.cr4 |= CR4_TSD;
	cpu_update_mode(&cpu);
	CHECK_FAULTS(callout_rdtsc(&cpu, 2 << 8, 0, 0), VEC_GP, 0);
	set_up();
	CHECK_FAULTS(callout_rdpmc(&cpu, 2 << 8, 0, 0), VEC_GP, 0);
}

/* A counter that was written goes on from there, and RDTSC no longer runs by itself. */
TEST(cpu_system, time_stamp_written)
{
	set_up();
	CHECK(!(cpu.mode & MODE_TSD));
	CHECK_EQ(msr(0x10, 0x1000, true), CALLOUT_LEAVE);
	CHECK(cpu.mode & MODE_TSD);
	CHECK_EQ(msr(0x10, 0, false), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), 0x1000);
	CHECK_EQ(callout_rdtsc(&cpu, 2 << 8, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), 0x1000);
	for (unsigned i = 0; i < SEG_COUNT; i++) force_segment(i, i == SEG_CS ? CODE3 : DATA3);
	cpu_update_mode(&cpu);
	CHECK_EQ(callout_rdtsc(&cpu, 2 << 8, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), 0x1000);
	set_up();
	CHECK_EQ(msr(0x10, 0x1122334455667788, true), CALLOUT_NEXT); /* the host's own: inline again */
	CHECK(!(cpu.mode & MODE_TSD));
}

/* What writes to the counter and to its adjustment have added up to. */
TEST(cpu_system, time_stamp_adjusted)
{
	const uint64_t host = 0x1122334455667788;
	set_up();
	CHECK_EQ(msr(0x3B, 0, false), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), 0);
	CHECK_EQ(msr(0x3B, 0x10, true), CALLOUT_LEAVE);
	CHECK(cpu.mode & MODE_TSD);
	CHECK_EQ(msr(0x10, 0, false), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), host + 0x10);
	CHECK_EQ(msr(0x10, host - 1, true), CALLOUT_NEXT);
	CHECK_EQ(msr(0x3B, 0, false), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), UINT64_MAX);
	CHECK_EQ(msr(0x3B, 0, true), CALLOUT_LEAVE);
	CHECK(!(cpu.mode & MODE_TSD));
	CHECK_EQ(msr(0x10, 0, false), CALLOUT_NEXT);
	CHECK_EQ(edx_eax(), host);
	cpu.features &= ~FEATURE_BIT(FEATURE_TSC_ADJUST);
	CHECK_EQ(msr(0x3B, 0, false), CALLOUT_FAULT);
	CHECK_EQ(msr(0x3B, 0x10, true), CALLOUT_FAULT);
	CHECK_EQ(cpu.tsc_offset, 0);
}

TEST(cpu_system, interrupt_flag)
{
	const uint32_t one_byte = 1 << 8;
	set_up();
	CHECK_EQ(callout_cli(&cpu, one_byte, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.if_flag, 0);
	CHECK_EQ(callout_sti(&cpu, one_byte, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.if_flag, 1);
	CHECK(cpu.shadow_interrupts);
	cpu.shadow_interrupts = false;
	CHECK_EQ(callout_sti(&cpu, one_byte, 0, 0), CALLOUT_NEXT);
	CHECK(!cpu.shadow_interrupts); /* they were on already */
	cpu.if_flag = 0;
	cpu.intr = 1;
	CHECK_EQ(callout_sti(&cpu, one_byte, 0, 0), CALLOUT_LEAVE);
	CHECK(cpu.shadow_interrupts);
	CHECK_EQ(cpu.eip, 0x1001);
	set_up_cpl(3);
	CHECK_FAULTS(callout_cli(&cpu, one_byte, 0, 0), VEC_GP, 0);
	CHECK_FAULTS(callout_sti(&cpu, one_byte, 0, 0), VEC_GP, 0);
	cpu.eflags |= EFL_IOPL;
	cpu_update_mode(&cpu);
	CHECK_EQ(callout_cli(&cpu, one_byte, 0, 0), CALLOUT_NEXT);
}

TEST(cpu_system, hlt)
{
	set_up();
	cpu.shadow_interrupts = true;
	CHECK_EQ(callout_hlt(&cpu, 1 << 8, 0, 0), CALLOUT_LEAVE);
	CHECK(cpu.halted);
	CHECK(!cpu.shadow_interrupts);
	CHECK_EQ(cpu.eip, 0x1001);
}

TEST(cpu_system, io_permission_bitmap)
{
	set_up();
	CHECK(cpu_io_allowed(&cpu, 0x3F8, 1));
	set_up_cpl(3);
	poke16(TSS + 0x66, 0x68);
	cpu.tr.limit = 0x68 + 0x7F; /* bits for ports 0 to 0x3F7, of which the last byte only ends the map */
	CHECK(cpu_io_allowed(&cpu, 0x61, 1));
	CHECK(cpu_io_allowed(&cpu, 0x3F4, 4));
	CHECK(!cpu_io_allowed(&cpu, 0x3F8, 1));
	CHECK_EQ(fault_seen(), FAULT(VEC_GP, 0));
	ram[TSS + 0x68 + 0x61 / 8] = 1 << (0x61 & 7);
	CHECK(!cpu_io_allowed(&cpu, 0x61, 1));
	CHECK(!cpu_io_allowed(&cpu, 0x60, 2));
	CHECK(!cpu_io_allowed(&cpu, 0x5E, 4)); /* across a byte of the map */
	CHECK(cpu_io_allowed(&cpu, 0x5D, 4));
	CHECK(cpu_io_allowed(&cpu, 0x62, 1));
	cpu.eflags |= EFL_IOPL;
	cpu_update_mode(&cpu);
	CHECK(cpu_io_allowed(&cpu, 0x61, 1));
	set_up_cpl(3);
	cpu.tr.limit = 0x66;
	CHECK(!cpu_io_allowed(&cpu, 0x80, 1));
	cpu.tr.limit = 0x2000;
	cpu.tr.ar = 0x83; /* a 16-bit TSS has no map */
	CHECK(!cpu_io_allowed(&cpu, 0x80, 1));
	set_up_cpl(3);
	rights[TSS / PAGE_SIZE] = 0;
	CHECK(!cpu_io_allowed(&cpu, 0x80, 1));
	CHECK_EQ(fault_seen(), FAULT(VEC_PF, 0));
}

TEST(cpu_system, raise)
{
	set_up();
	CHECK_FAULTS(callout_raise(&cpu, ARG_REG(raise, 0, 0, 0), VEC_UD, 5), VEC_UD, 0xFFFF);
	CHECK_FAULTS(callout_raise(&cpu, ARG_REG(raise, 1, 0, 0), VEC_GP, 0x20), VEC_GP, 0x20);
}
