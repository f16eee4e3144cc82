/* Segment registers, descriptors and checked accesses, against vol. 2 and vol. 3 ch. 3 and 5. */
#include "tests/unit/cpu_fixture.h"

/* MOV DS, EAX with this selector. */
static enum callout_result load(enum seg seg, uint16_t selector)
{
	cpu.gpr[EAX] = selector;
	return callout_mov_to_seg(&cpu, ARG_REG(mov_to_seg, seg, EAX, 2), 0, 0);
}

static void set_cpl(unsigned cpl)
{
	cpu.seg[SEG_CS].selector = (uint16_t)((cpu.seg[SEG_CS].selector & ~3u) | cpl);
	cpu.seg[SEG_SS].selector = (uint16_t)((cpu.seg[SEG_SS].selector & ~3u) | cpl);
	cpu.seg[SEG_SS].ar = (cpu.seg[SEG_SS].ar & ~AR_DPL) | cpl << AR_DPL_SHIFT;
	cpu_update_mode(&cpu);
}

TEST(cpu_segment, hidden_part_comes_from_the_descriptor)
{
	set_up();
	set_descriptor(GDT + FREE, 0x89ABCDEF, 0x54321, 0xF2, 0x5);
	CHECK_EQ(load(SEG_FS, FREE | 3), CALLOUT_LEAVE);
	CHECK_EQ(cpu.eip, 0x1003);
	CHECK_EQ(cpu.seg[SEG_FS].selector, FREE | 3);
	CHECK_EQ(cpu.seg[SEG_FS].base, 0x89ABCDEF);
	CHECK_EQ(cpu.seg[SEG_FS].limit, 0x54321);
	CHECK_EQ(cpu.seg[SEG_FS].ar, 0x50F3);
	CHECK_EQ(ram[GDT + FREE + 5], 0xF3);
	set_descriptor(GDT + FREE, 0, 0x54321, 0xF2, 0xD);
	load(SEG_FS, FREE);
	CHECK_EQ(cpu.seg[SEG_FS].limit, 0x54321FFF);
}

TEST(cpu_segment, loads_of_flat_segments_stay_in_translated_code)
{
	set_up();
	CHECK_EQ(load(SEG_ES, DATA3), CALLOUT_NEXT);
	CHECK_EQ(cpu.seg[SEG_ES].selector, DATA3);
	CHECK_EQ(cpu.eip, 0x1000);
	CHECK(!cpu.shadow_interrupts);
	CHECK_EQ(load(SEG_SS, DATA0), CALLOUT_NEXT);
	CHECK(cpu.shadow_interrupts);
}

TEST(cpu_segment, mode_classes)
{
	static const struct { uint32_t base, limit, access, flags, want; } cases[] = {
		{ 0, 0xFFFFF, 0xF3, 0xC, MODE_SEG_FLAT }, { 0, 0xFFFFF, 0xF3, 0x8, MODE_SEG_FLAT }, { 0x1000, 0xFFFFF, 0xF3, 0xC, MODE_SEG_BASE },
		{ 0, 0xFFFFE, 0xF3, 0xC, MODE_SEG_LIMIT }, { 0x1000, 0xFFFFF, 0xF3, 0x4, MODE_SEG_LIMIT }, { 0, 0xFFFFF, 0xF1, 0xC, MODE_SEG_GENERAL },
		{ 0, 0xFFFFF, 0xF1, 0x4, MODE_SEG_GENERAL }, { 0, 0xFFFFF, 0xFB, 0x4, MODE_SEG_GENERAL },
		{ 0, 0xFFFFF, 0xF7, 0xC, MODE_SEG_GENERAL }, { 0, 0xFFFFF, 0xFB, 0xC, MODE_SEG_GENERAL },
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		set_up();
		set_descriptor(GDT + FREE, cases[i].base, cases[i].limit, cases[i].access, cases[i].flags);
		load(SEG_GS, FREE);
		CHECK_EQ(MODE_SEG(cpu.mode, SEG_GS), cases[i].want);
		uint32_t incremental = cpu.mode;
		cpu_update_mode(&cpu);
		CHECK_EQ(cpu.mode, incremental);
	}
	set_up();
	load(SEG_GS, 0);
	CHECK_EQ(MODE_SEG(cpu.mode, SEG_GS), MODE_SEG_GENERAL);
	CHECK_EQ(MODE_SEG(cpu.mode, SEG_CS), MODE_SEG_FLAT);
}

/* Vol. 3, 5.5 and 5.6: every privilege, every type. */
TEST(cpu_segment, data_privilege_matrix)
{
	static const struct { uint8_t type; bool loadable, any_privilege; } types[] = {
		{ 0x13, true, false }, { 0x11, true, false }, { 0x17, true, false }, { 0x1B, true, false }, { 0x19, false, false },
		{ 0x1F, true, true }, { 0x1D, false, false }, { 0x02, false, false }, { 0x0C, false, false },
	};
	for (unsigned i = 0; i < ARRAY_LEN(types) * 64; i++) {
		unsigned cpl = i & 3, rpl = i >> 2 & 3, dpl = i >> 4 & 3, t = i >> 6;
		set_up();
		set_cpl(cpl);
		set_descriptor(GDT + FREE, 0, 0xFFFFF, 0x80 | dpl << 5 | types[t].type, 0xC);
		bool allowed = types[t].loadable && (types[t].any_privilege || (cpl <= dpl && rpl <= dpl));
		cpu.gpr[EAX] = FREE | rpl;
		if (!allowed) CHECK_FAULTS(load(SEG_DS, (uint16_t)(FREE | rpl)), VEC_GP, FREE);
		else CHECK(load(SEG_DS, (uint16_t)(FREE | rpl)) != CALLOUT_FAULT);
		if (allowed) CHECK_EQ(cpu.seg[SEG_DS].selector, FREE | rpl);
		if (test_has_failed()) return;
	}
}

TEST(cpu_segment, stack_privilege_matrix)
{
	for (unsigned i = 0; i < 64; i++) {
		unsigned cpl = i & 3, rpl = i >> 2 & 3, dpl = i >> 4;
		set_up();
		set_cpl(cpl);
		set_descriptor(GDT + FREE, 0, 0xFFFFF, 0x93 | dpl << 5, 0xC);
		cpu.gpr[EAX] = FREE | rpl;
		if (cpl == rpl && cpl == dpl) CHECK_EQ(load(SEG_SS, (uint16_t)(FREE | rpl)), CALLOUT_NEXT);
		else CHECK_FAULTS(load(SEG_SS, (uint16_t)(FREE | rpl)), VEC_GP, FREE);
	}
	set_up();
	cpu.gpr[EAX] = READ_ONLY;
	CHECK_FAULTS(load(SEG_SS, READ_ONLY), VEC_GP, READ_ONLY);
	cpu.gpr[EAX] = CODE0;
	CHECK_FAULTS(load(SEG_SS, CODE0), VEC_GP, CODE0);
}

TEST(cpu_segment, null_absent_and_out_of_table)
{
	set_up();
	CHECK_EQ(load(SEG_ES, 3), CALLOUT_LEAVE);
	CHECK(cpu.seg[SEG_ES].ar & AR_UNUSABLE);
	CHECK_EQ(cpu.seg[SEG_ES].selector, 3);
	cpu.gpr[EAX] = 0;
	CHECK_FAULTS(load(SEG_SS, 0), VEC_GP, 0);
	cpu.gpr[EAX] = ABSENT;
	CHECK_FAULTS(load(SEG_DS, ABSENT), VEC_NP, ABSENT);
	CHECK_FAULTS(load(SEG_SS, ABSENT), VEC_SS, ABSENT);
	cpu.gpr[EAX] = GDT_BYTES;
	CHECK_FAULTS(load(SEG_DS, GDT_BYTES), VEC_GP, GDT_BYTES);
	cpu.gdtr.limit = DATA0 + 6; /* the descriptor's last byte is outside */
	cpu.gpr[EAX] = DATA0;
	CHECK_FAULTS(load(SEG_DS, DATA0), VEC_GP, DATA0);
	cpu.gdtr.limit = DATA0 + 7;
	CHECK_EQ(load(SEG_DS, DATA0), CALLOUT_NEXT);
	cpu.gpr[EAX] = DATA0;
	CHECK_FAULTS(load(SEG_CS, DATA0), VEC_UD, 0xFFFF);
	CHECK_FAULTS(load((enum seg)6, DATA0), VEC_UD, 0xFFFF);
}

TEST(cpu_segment, local_descriptor_table)
{
	set_up();
	cpu.gpr[EAX] = 4;
	CHECK_FAULTS(load(SEG_DS, 4), VEC_GP, 4);
	cpu.gpr[EAX] = SEL_LDT;
	CHECK_EQ(callout_lldt(&cpu, ARG_REG(lldt, 2, EAX, 1), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.ldtr.base, LDT);
	CHECK_EQ(cpu.ldtr.limit, 0x1F);
	set_descriptor(LDT + 8, 0x5000, 0xFFFFF, 0x92, 0xC);
	CHECK_EQ(load(SEG_DS, 0xC), CALLOUT_LEAVE);
	CHECK_EQ(cpu.seg[SEG_DS].base, 0x5000);
	CHECK_EQ(ram[LDT + 13], 0x93);
	cpu.gpr[EAX] = 0x24;
	CHECK_FAULTS(load(SEG_ES, 0x24), VEC_GP, 0x24);
	cpu.gpr[EAX] = 0;
	CHECK_EQ(callout_lldt(&cpu, ARG_REG(lldt, 2, EAX, 1), 0, 0), CALLOUT_NEXT);
	cpu.gpr[EAX] = 0xC;
	CHECK_FAULTS(load(SEG_ES, 0xC), VEC_GP, 0xC);
}

TEST(cpu_segment, accessed_bit_is_a_supervisor_write)
{
	set_up_cpl(3);
	set_descriptor(GDT + FREE, 0, 0xFFFFF, 0xF2, 0xC);
	rights[GDT / PAGE_SIZE] = PAGE_PRESENT;
	cpu.gpr[EAX] = FREE | 3;
	CHECK_FAULTS(load(SEG_DS, FREE | 3), VEC_PF, PF_PRESENT | ACCESS_WRITE);
	CHECK_EQ(cpu.fault.cr2, GDT + FREE + 5);
	set_up_cpl(3);
	rights[GDT / PAGE_SIZE] = PAGE_PRESENT; /* accessed already: only read */
	CHECK_EQ(load(SEG_DS, DATA3), CALLOUT_NEXT);
	rights[GDT / PAGE_SIZE] = 0;
	cpu.gpr[EAX] = DATA3;
	CHECK_FAULTS(load(SEG_DS, DATA3), VEC_PF, 0);
}

TEST(cpu_segment, push_and_pop)
{
	set_up();
	cpu.gpr[ESP] = KERNEL_STACK;
	poke32(KERNEL_STACK - 4, 0xFFFFFFFF);
	CHECK_EQ(callout_push_seg(&cpu, ARG_REG(push_seg, SEG_CS, 0, 2), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 4);
	CHECK_EQ(peek32(KERNEL_STACK - 4), CODE0);
	poke32(KERNEL_STACK - 4, 0xABCD0000 | DATA3);
	CHECK_EQ(callout_pop_seg(&cpu, ARG_REG(pop_seg, SEG_FS, 0, 2), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK);
	CHECK_EQ(cpu.seg[SEG_FS].selector, DATA3);
	CHECK_EQ(callout_push_seg(&cpu, ARG_REG(push_seg, SEG_ES, 0, 1), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK - 2);
	CHECK_EQ(peek16(KERNEL_STACK - 2), DATA0);
	CHECK_EQ(callout_pop_seg(&cpu, ARG_REG(pop_seg, SEG_SS, 0, 1), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK);
	CHECK(cpu.shadow_interrupts);
}

TEST(cpu_segment, pop_of_a_16_bit_stack_changes_the_mode)
{
	set_up();
	poke32(KERNEL_STACK, STACK16);
	CHECK_EQ(callout_pop_seg(&cpu, ARG_REG(pop_seg, SEG_SS, 0, 2), 0, 0), CALLOUT_LEAVE);
	CHECK_EQ(cpu.gpr[ESP], KERNEL_STACK + 4);
	CHECK(!(cpu.mode & MODE_SS32));
	/* SP wraps within 64 KiB, the upper half of ESP stays. */
	cpu.gpr[ESP] = 0xABCD0000;
	CHECK_EQ(callout_push_seg(&cpu, ARG_REG(push_seg, SEG_DS, 0, 2), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[ESP], 0xABCDFFFC);
	CHECK_EQ(peek32(0xFFFC), DATA0);
	poke32(0xFFFC, DATA3);
	CHECK_EQ(callout_pop_seg(&cpu, ARG_REG(pop_seg, SEG_ES, 0, 2), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[ESP], 0xABCD0000);
	CHECK_EQ(cpu.seg[SEG_ES].selector, DATA3);
	cpu.gpr[ESP] = 0xABCD0002; /* a dword at 0xFFFE leaves the segment */
	CHECK_FAULTS(callout_push_seg(&cpu, ARG_REG(push_seg, SEG_DS, 0, 2), 0, 0), VEC_SS, 0);
}

TEST(cpu_segment, failed_pop_leaves_the_stack_pointer)
{
	set_up();
	cpu.gpr[ESP] = KERNEL_STACK - 4;
	poke32(KERNEL_STACK - 4, EXEC_ONLY);
	CHECK_FAULTS(callout_pop_seg(&cpu, ARG_REG(pop_seg, SEG_DS, 0, 2), 0, 0), VEC_GP, EXEC_ONLY);
	cpu.gpr[ESP] = RAM_SIZE - 2;
	CHECK_FAULTS(callout_pop_seg(&cpu, ARG_REG(pop_seg, SEG_DS, 0, 2), 0, 0), VEC_PF, 0);
}

TEST(cpu_segment, far_pointers)
{
	set_up();
	poke32(DATA, 0x12345678);
	poke16(DATA + 4, DATA3);
	cpu.gpr[EDX] = 0xAAAAAAAA;
	CHECK_EQ(callout_load_far_ptr(&cpu, ARG_MEM(load_far_ptr, EDX, 2), DATA, SEG_GS), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[EDX], 0x12345678);
	CHECK_EQ(cpu.seg[SEG_GS].selector, DATA3);
	poke16(DATA + 2, DATA0);
	cpu.gpr[EDX] = 0xAAAAAAAA;
	CHECK_EQ(callout_load_far_ptr(&cpu, ARG_MEM(load_far_ptr, EDX, 1), DATA, SEG_SS), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[EDX], 0xAAAA5678);
	CHECK(!cpu.shadow_interrupts);
	poke16(DATA + 4, ABSENT);
	CHECK_FAULTS(callout_load_far_ptr(&cpu, ARG_MEM(load_far_ptr, EDX, 2), DATA, SEG_DS), VEC_NP, ABSENT);
}

TEST(cpu_segment, stores_of_selectors)
{
	set_up();
	poke32(DATA, 0xFFFFFFFF);
	CHECK_EQ(callout_mov_from_seg(&cpu, ARG_MEM(mov_from_seg, SEG_CS, 2), DATA, 0), CALLOUT_NEXT);
	CHECK_EQ(peek32(DATA), 0xFFFF0000 | CODE0);
	cpu.gpr[EBX] = 0xFFFFFFFF;
	CHECK_EQ(callout_str(&cpu, ARG_REG(str, 1, EBX, 2), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[EBX], SEL_TSS);
	cpu.gpr[EBX] = 0xFFFFFFFF;
	CHECK_EQ(callout_sldt(&cpu, ARG_REG(sldt, 0, EBX, 1), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[EBX], 0xFFFF0000);
	rights[DATA / PAGE_SIZE] = PAGE_PRESENT;
	CHECK_FAULTS(callout_str(&cpu, ARG_MEM(str, 1, 2), DATA, 0), VEC_PF, PF_PRESENT | ACCESS_WRITE);
}

TEST(cpu_segment, lar)
{
	set_up();
	cpu.gpr[EAX] = DATA3;
	cpu.gpr[EDX] = 0xDEADBEEF;
	CHECK_EQ(callout_lar(&cpu, ARG_REG(lar, EDX, EAX, 2), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[EDX] & 0xFFF0FFFF, 0x00C0F300); /* bits 16-19 are undefined */
	CHECK(cpu.flags & EFL_ZF);
	cpu.gpr[EDX] = 0xDEADBEEF;
	callout_lar(&cpu, ARG_REG(lar, EDX, EAX, 1), 0, 0);
	CHECK_EQ(cpu.gpr[EDX], 0xDEADF300);
	cpu.gpr[EAX] = 0;
	callout_lar(&cpu, ARG_REG(lar, EDX, EAX, 2), 0, 0);
	CHECK(!(cpu.flags & EFL_ZF));
	CHECK_EQ(cpu.gpr[EDX], 0xDEADF300);
	cpu.gpr[EAX] = GDT_BYTES;
	cpu.flags |= EFL_ZF | EFL_CF;
	CHECK_EQ(callout_lar(&cpu, ARG_REG(lar, EDX, EAX, 2), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.flags, EFL_CF);
}

/* Which system types LAR and LSL accept (vol. 2), and how privilege hides descriptors. */
TEST(cpu_segment, lar_and_lsl_of_every_type)
{
	const uint32_t lar_types = 0x1A3E, lsl_types = 0x0A0E;
	for (unsigned i = 0; i < 32 * 16; i++) {
		unsigned type = i & 31, dpl = i >> 5 & 3, cpl = i >> 7 & 3;
		set_up();
		set_cpl(cpl);
		set_descriptor(GDT + FREE, 0, 0x12345, dpl << 5 | type | 0x80, 8);
		cpu.gpr[EAX] = FREE;
		bool conforming = (type & 0x1C) == 0x1C;
		bool visible = conforming || cpl <= dpl;
		bool lar = visible && ((type & 0x10) || (lar_types >> type & 1));
		bool lsl = visible && ((type & 0x10) || (lsl_types >> type & 1));
		callout_lar(&cpu, ARG_REG(lar, EDX, EAX, 2), 0, 0);
		CHECK_EQ((cpu.flags & EFL_ZF) != 0, lar);
		cpu.gpr[EDX] = 1;
		callout_lsl(&cpu, ARG_REG(lsl, EDX, EAX, 2), 0, 0);
		CHECK_EQ((cpu.flags & EFL_ZF) != 0, lsl);
		CHECK_EQ(cpu.gpr[EDX], lsl ? 0x12345FFF : 1);
		callout_verr(&cpu, ARG_REG(verr, 4, EAX, 1), 0, 0);
		bool data = (type & 0x18) == 0x10, code = (type & 0x18) == 0x18;
		CHECK_EQ((cpu.flags & EFL_ZF) != 0, visible && (data || (code && (type & 2))));
		callout_verw(&cpu, ARG_REG(verw, 5, EAX, 1), 0, 0);
		CHECK_EQ((cpu.flags & EFL_ZF) != 0, visible && data && (type & 2));
		if (test_has_failed()) return;
	}
}

TEST(cpu_segment, rpl_hides_descriptors_too)
{
	set_up();
	cpu.gpr[EAX] = DATA0 | 3;
	callout_verr(&cpu, ARG_REG(verr, 4, EAX, 1), 0, 0);
	CHECK(!(cpu.flags & EFL_ZF));
	poke16(DATA, DATA0);
	callout_verr(&cpu, ARG_MEM(verr, 4, 1), DATA, 0);
	CHECK(cpu.flags & EFL_ZF);
	rights[GDT / PAGE_SIZE] = 0;
	CHECK_FAULTS(callout_verw(&cpu, ARG_REG(verw, 5, EAX, 1), 0, 0), VEC_PF, 0);
}

TEST(cpu_segment, arpl)
{
	set_up_cpl(3);
	cpu.gpr[EAX] = 0xFFFF0000 | DATA0;
	cpu.gpr[ECX] = 3;
	CHECK_EQ(callout_arpl(&cpu, ARG_REG(arpl, ECX, EAX, 1), 0, 0), CALLOUT_NEXT);
	CHECK_EQ(cpu.gpr[EAX], 0xFFFF0000 | DATA0 | 3);
	CHECK(cpu.flags & EFL_ZF);
	cpu.gpr[ECX] = 2;
	callout_arpl(&cpu, ARG_REG(arpl, ECX, EAX, 1), 0, 0);
	CHECK_EQ(cpu.gpr[EAX], 0xFFFF0000 | DATA0 | 3);
	CHECK(!(cpu.flags & EFL_ZF));
	poke16(DATA, 0x11);
	callout_arpl(&cpu, ARG_MEM(arpl, ECX, 1), DATA, 0);
	CHECK_EQ(peek16(DATA), 0x12);
}

/* Of the sizes in row_sizes those that are powers of two come first, behind 0. */
static enum callout_result check(enum seg seg, uint32_t ea, unsigned log2, bool write)
{
	uint32_t arg = CALLOUT_ARG(CALLOUT_check_segment, 2, write, log2 + 1, seg, 0, 0, 1, 0);
	return callout_check_segment(&cpu, arg, ea, 0);
}

TEST(cpu_segment, limits)
{
	set_up();
	load(SEG_DS, SMALL);
	CHECK_EQ(check(SEG_DS, 0xFFC, 2, true), CALLOUT_NEXT);
	CHECK_FAULTS(check(SEG_DS, 0xFFD, 2, true), VEC_GP, 0);
	CHECK_FAULTS(check(SEG_DS, 0xFFFFFFFE, 2, true), VEC_GP, 0);
	CHECK_EQ(check(SEG_DS, 0xFFF, 0, false), CALLOUT_NEXT);
	load(SEG_DS, EXPAND_DOWN); /* valid: 0x1000 to 0xFFFF */
	CHECK_FAULTS(check(SEG_DS, 0xFFF, 0, false), VEC_GP, 0);
	CHECK_EQ(check(SEG_DS, 0x1000, 0, false), CALLOUT_NEXT);
	CHECK_EQ(check(SEG_DS, 0xFFFC, 2, true), CALLOUT_NEXT);
	CHECK_FAULTS(check(SEG_DS, 0xFFFD, 2, true), VEC_GP, 0);
	set_descriptor(GDT + FREE, 0, 0x0FFF, 0x97, 4); /* with B: to 4 GiB */
	load(SEG_DS, FREE);
	CHECK_EQ(check(SEG_DS, 0xFFFFFFFC, 2, true), CALLOUT_NEXT);
	CHECK_FAULTS(check(SEG_DS, 0xFFFFFFFD, 2, true), VEC_GP, 0);
	load(SEG_SS, FREE);
	CHECK_FAULTS(check(SEG_SS, 0x10, 2, true), VEC_SS, 0);
}

TEST(cpu_segment, types_and_null)
{
	set_up();
	load(SEG_DS, READ_ONLY);
	CHECK_EQ(check(SEG_DS, 0x100, 2, false), CALLOUT_NEXT);
	CHECK_FAULTS(check(SEG_DS, 0x100, 2, true), VEC_GP, 0);
	load(SEG_DS, CODE0);
	CHECK_EQ(check(SEG_DS, 0x100, 2, false), CALLOUT_NEXT);
	CHECK_FAULTS(check(SEG_DS, 0x100, 2, true), VEC_GP, 0);
	load(SEG_DS, 0);
	CHECK_FAULTS(check(SEG_DS, 0, 0, false), VEC_GP, 0);
	CHECK_EQ(check(SEG_CS, 0x100, 2, false), CALLOUT_NEXT);
	CHECK_FAULTS(check(SEG_CS, 0x100, 2, true), VEC_GP, 0);
	force_segment(SEG_CS, EXEC_ONLY);
	cpu_update_mode(&cpu);
	CHECK_FAULTS(check(SEG_CS, 0x100, 2, false), VEC_GP, 0);
	gva_t gva;
	load(SEG_ES, SMALL);
	CHECK(cpu_linear(&cpu, SEG_ES, 0x123, 4, true, &gva));
	CHECK_EQ(gva, DATA + 0x123);
}

TEST(cpu_segment, alignment_check_at_cpl_3_alone)
{
	set_up_cpl(3);
	cpu.eflags |= EFL_AC;
	cpu.cr0 |= CR0_AM;
	cpu_update_mode(&cpu);
	CHECK_FAULTS(callout_str(&cpu, ARG_MEM(str, 1, 2), DATA + 1, 0), VEC_AC, 0);
	CHECK_EQ(callout_str(&cpu, ARG_MEM(str, 1, 2), DATA + 2, 0), CALLOUT_NEXT);
	cpu.gpr[ESP] = USER_STACK - 2;
	CHECK_FAULTS(callout_push_seg(&cpu, ARG_REG(push_seg, SEG_DS, 0, 2), 0, 0), VEC_AC, 0);
	CHECK_FAULTS(callout_pop_seg(&cpu, ARG_REG(pop_seg, SEG_DS, 0, 2), 0, 0), VEC_AC, 0);
	set_up();
	cpu.eflags |= EFL_AC;
	cpu.cr0 |= CR0_AM;
	cpu_update_mode(&cpu);
	CHECK_EQ(callout_str(&cpu, ARG_MEM(str, 1, 2), DATA + 1, 0), CALLOUT_NEXT);
}

TEST(cpu_segment, real_mode_knows_no_descriptors)
{
	set_up();
	cpu_reset(&cpu, false);
	CHECK_EQ(load(SEG_DS, 0x1234), CALLOUT_NEXT);
	CHECK_EQ(cpu.seg[SEG_DS].base, 0x12340);
	CHECK_EQ(cpu.seg[SEG_DS].limit, 0xFFFF);
	CHECK_EQ(check(SEG_DS, 0xFFFE, 1, true), CALLOUT_NEXT);
	CHECK_FAULTS(check(SEG_DS, 0xFFFF, 1, true), VEC_GP, 0);
	CHECK_EQ(check(SEG_CS, 0x10, 1, true), CALLOUT_NEXT);
	CHECK_FAULTS(callout_lar(&cpu, ARG_REG(lar, EDX, EAX, 2), 0, 0), VEC_UD, 0xFFFF);
	CHECK_FAULTS(callout_verr(&cpu, ARG_REG(verr, 4, EAX, 2), 0, 0), VEC_UD, 0xFFFF);
	CHECK_FAULTS(callout_arpl(&cpu, ARG_REG(arpl, ECX, EAX, 1), 0, 0), VEC_UD, 0xFFFF);
	CHECK_FAULTS(callout_str(&cpu, ARG_REG(str, 1, EAX, 1), 0, 0), VEC_UD, 0xFFFF);
}
