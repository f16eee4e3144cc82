/* Exceptions (Intel SDM vol. 3, ch. 6): vector, error code, saved EIP, and no trace of an instruction that faults. */
#include "guest.h"

#define VA 0x1800000u

static volatile u32 *at(u32 va)
{
	return (volatile u32 *)va;
}

static void test_software(void)
{
	struct state s;
	s = state_at(CODE(0xCC, CODE_DONE), 0);
	run_expect("int3 at CPL 0: EIP behind it", &s, 3, 0, 1);
	s = state_at(CODE(0xCC, CODE_DONE), 3);
	run_expect("int3 at CPL 3", &s, 3, 0, 1);
	s = state_at(CODE(0xCD, 0x03, CODE_DONE), 3);
	run_expect("int 3 by its long form", &s, 3, 0, 2);
	s = state_at(CODE(0xCE, CODE_DONE), 3);
	run_expect("into without overflow", &s, RUN_DONE, 0, 3);
	s = state_at(CODE(0xCE, CODE_DONE), 3);
	s.eflags |= EFLAGS_OF;
	run_expect("into with overflow", &s, 4, 0, 1);
	s = state_at(CODE(0xCD, 0x90, CODE_DONE), 3);
	run_expect("int n through a DPL 0 gate", &s, 13, 0x90 * 8 + 2, 0);
	s = state_at(CODE(0xCD, 0x0E, CODE_DONE), 3);
	run_expect("int 14 from CPL 3", &s, 13, 14 * 8 + 2, 0);
	/* From CPL 0 it is allowed, and pushes no error code: the stub finds EFLAGS where it looks for CS. Use one that has none. */
	s = state_at(CODE(0xCD, 0x90, CODE_DONE), 0);
	run_expect("int n at CPL 0", &s, 0x90, 0, 2);
	idt_set(0x91, (u32)(trap_stubs + 16 * 0x91), CODE0, 0x0E);
	s = state_at(CODE(0xCD, 0x91, CODE_DONE), 0);
	run_expect("int n through a gate not present", &s, 11, 0x91 * 8 + 2, 0);
	idt_set(0x92, (u32)(trap_stubs + 16 * 0x92), 0, 0x8E);
	s = state_at(CODE(0xCD, 0x92, CODE_DONE), 0);
	run_expect("int n through a gate with a null selector", &s, 13, 0, 0);
	idt_set(0x93, (u32)(trap_stubs + 16 * 0x93), DATA0, 0x8E);
	s = state_at(CODE(0xCD, 0x93, CODE_DONE), 0);
	run_expect("int n through a gate to a data segment", &s, 13, DATA0, 0);
	s = state_at(CODE(0x62, 0x03, CODE_DONE), 3);
	s.ebx = VA;
	at(VA)[0] = 5;
	at(VA)[1] = 10;
	s.eax = 10;
	run_expect("bound, within", &s, RUN_DONE, 0, 4);
	s = state_at(CODE(0x62, 0x03, CODE_DONE), 3);
	s.ebx = VA;
	s.eax = 11;
	run_expect("bound, above", &s, 5, 0, 0);
	s = state_at(CODE(0x62, 0x03, CODE_DONE), 3);
	s.ebx = VA;
	s.eax = 4;
	run_expect("bound, below", &s, 5, 0, 0);
}

static void test_divide(void)
{
	static const struct {
		const char *name;
		u8 code[3];
		u32 eax, edx, ebx;
		bool faults;
	} cases[] = {
		{"div by 0", {0xF7, 0xF3, 0x90}, 1, 0, 0, true},
		{"div overflow", {0xF7, 0xF3, 0x90}, 0, 2, 2, true},
		{"div largest", {0xF7, 0xF3, 0x90}, 0xFFFFFFFF, 1, 2, false},
		{"idiv by 0", {0xF7, 0xFB, 0x90}, 1, 0, 0, true},
		{"idiv of the least by -1", {0xF7, 0xFB, 0x90}, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF, true},
		{"idiv good", {0xF7, 0xFB, 0x90}, 0xFFFFFFF9, 0xFFFFFFFF, 2, false},
		{"div byte by 0", {0xF6, 0xF3, 0x90}, 1, 0, 0x100, true},
		{"div byte overflow", {0xF6, 0xF3, 0x90}, 0x200, 0, 2, true},
		{"idiv word overflow", {0x66, 0xF7, 0xFB}, 0x8000, 0xFFFF, 0xFFFF, true},
		{"aam 0", {0xD4, 0x00, 0x90}, 0x12, 0, 1, true},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
			/* A flag-setter before it: EFLAGS in the frame are those of the instruction before. */
			u8 bytes[] = {0xF9, cases[i].code[0], cases[i].code[1], cases[i].code[2], CODE_DONE};
			struct state s = state_at(code_put(0, bytes, sizeof bytes), cpl);
			s.eax = cases[i].eax;
			s.edx = cases[i].edx;
			s.ebx = cases[i].ebx;
			run_expect(cases[i].name, &s, cases[i].faults ? 0 : RUN_DONE, 0, cases[i].faults ? 1 : 6);
			if (!cases[i].faults) continue;
			check(cases[i].name, s.eax == cases[i].eax && s.edx == cases[i].edx && (s.eflags & EFLAGS_CF));
		}
	}
}

static void test_undefined(void)
{
	static const struct {
		const char *name;
		u8 code[4];
	} cases[] = {
		{"ud2", {0x0F, 0x0B, 0x90, 0x90}},
		{"ud1", {0x0F, 0xB9, 0xC0, 0x90}},
		{"lock nop", {0xF0, 0x90, 0x90, 0x90}},
		{"lock mov", {0xF0, 0x89, 0x03, 0x90}},
		{"lock add to a register", {0xF0, 0x01, 0xD8, 0x90}},
		{"lock cmp", {0xF0, 0x39, 0x03, 0x90}},
		{"lea with a register", {0x8D, 0xC0, 0x90, 0x90}},
		{"mov cs", {0x8E, 0xC8, 0x90, 0x90}},
		{"mov from segment 6", {0x8C, 0xF0, 0x90, 0x90}},
		{"les with a register", {0xC4, 0xC0, 0x90, 0x90}},
		{"bound with a register", {0x62, 0xC0, 0x90, 0x90}},
		{"cmpxchg8b with a register", {0x0F, 0xC7, 0xC8, 0x90}},
		{"group FE /7", {0xFE, 0xF8, 0x90, 0x90}},
		{"group FF /7", {0xFF, 0xF8, 0x90, 0x90}},
		{"group 8F /1", {0x8F, 0xC8, 0x90, 0x90}},
		{"group C6 /1", {0xC6, 0xC8, 0x00, 0x90}},
		{"mov cr1", {0x0F, 0x20, 0xC8, 0x90}},
		{"mov cr7", {0x0F, 0x22, 0xF8, 0x90}},
		{"0f 04", {0x0F, 0x04, 0x90, 0x90}},
		{"0f a6", {0x0F, 0xA6, 0xC0, 0x90}},
		{"0f ff", {0x0F, 0xFF, 0xC0, 0x90}},
		{"call far register", {0xFF, 0xD8, 0x90, 0x90}},
		{"jmp far register", {0xFF, 0xE8, 0x90, 0x90}},
		{"invlpg register", {0x0F, 0x01, 0xF8, 0x90}},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		u8 bytes[] = {cases[i].code[0], cases[i].code[1], cases[i].code[2], cases[i].code[3], CODE_DONE};
		struct state s = state_at(code_put(0, bytes, sizeof bytes), 0);
		s.ebx = VA;
		s.eax = VA;
		run_expect(cases[i].name, &s, 6, 0, 0);
	}
	/* 15 bytes are an instruction, 16 are #GP; it begins in the middle of good code. */
	u8 longest[20] = {0x90, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x90, CODE_DONE};
	struct state s = state_at(code_put(0, longest, sizeof longest), 0);
	run_expect("instruction of 15 bytes", &s, RUN_DONE, 0, 18);
	u8 longer[20] = {0x90, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x2E, 0x90, CODE_DONE};
	s = state_at(code_put(0, longer, sizeof longer), 0);
	run_expect("instruction of 16 bytes", &s, 13, 0, 1);
}

static void test_privileged(void)
{
	static const struct {
		const char *name;
		u8 code[4];
	} cases[] = {
		{"hlt", {0xF4, 0x90, 0x90, 0x90}}, {"cli", {0xFA, 0x90, 0x90, 0x90}}, {"sti", {0xFB, 0x90, 0x90, 0x90}},
		{"in al,dx", {0xEC, 0x90, 0x90, 0x90}}, {"out dx,al", {0xEE, 0x90, 0x90, 0x90}}, {"in eax,0x60", {0xE5, 0x60, 0x90, 0x90}},
		{"out 0xf4,eax", {0xE7, 0xF4, 0x90, 0x90}}, {"insb", {0x6C, 0x90, 0x90, 0x90}}, {"rep outsb", {0xF3, 0x6E, 0x90, 0x90}},
		{"mov eax,cr0", {0x0F, 0x20, 0xC0, 0x90}}, {"mov cr3,eax", {0x0F, 0x22, 0xD8, 0x90}}, {"mov eax,dr7", {0x0F, 0x21, 0xF8, 0x90}},
		{"mov dr0,eax", {0x0F, 0x23, 0xC0, 0x90}}, {"lgdt", {0x0F, 0x01, 0x13, 0x90}}, {"lidt", {0x0F, 0x01, 0x1B, 0x90}},
		{"lmsw", {0x0F, 0x01, 0xF0, 0x90}}, {"lldt", {0x0F, 0x00, 0xD0, 0x90}}, {"ltr", {0x0F, 0x00, 0xD8, 0x90}},
		{"clts", {0x0F, 0x06, 0x90, 0x90}}, {"invlpg", {0x0F, 0x01, 0x3B, 0x90}}, {"wbinvd", {0x0F, 0x09, 0x90, 0x90}},
		{"invd", {0x0F, 0x08, 0x90, 0x90}}, {"rdmsr", {0x0F, 0x32, 0x90, 0x90}}, {"wrmsr", {0x0F, 0x30, 0x90, 0x90}},
		{"sysexit", {0x0F, 0x35, 0x90, 0x90}},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		u8 bytes[] = {0x40, cases[i].code[0], cases[i].code[1], cases[i].code[2], cases[i].code[3], CODE_DONE};
		struct state s = state_at(code_put(0, bytes, sizeof bytes), 3);
		s.ebx = VA;
		run_expect(cases[i].name, &s, 13, 0, 1);
	}
}

static void test_segments(void)
{
	struct state s;
	gdt_set(8, VA, 0xFFF, 0xF3, 4);  /* data, byte-granular, 4 KiB */
	gdt_set(9, 0, 0xFFFFF, 0x73, 0xC); /* not present */
	gdt_set(10, 0, 0xFFFFF, 0xF1, 0xC); /* read-only */
	gdt_set(11, 0, 0xFFFFF, 0xF9, 0xC); /* execute-only code */
	gdt_set(12, VA, 0x0FFF, 0xF7, 4); /* expand-down: offsets above 0xFFF */
	s = state_at(CODE(0x8E, 0xE0, CODE_DONE), 3); /* mov fs,ax */
	s.eax = 9 << 3 | 3;
	run_expect("load of a segment not present", &s, 11, 9 << 3, 0);
	check_equal("FS is unchanged", s.fs, DATA3);
	s = state_at(CODE(0x8E, 0xE0, CODE_DONE), 3);
	s.eax = 0x7F8;
	run_expect("load beyond the table", &s, 13, 0x7F8, 0);
	s = state_at(CODE(0x8E, 0xE0, CODE_DONE), 3);
	s.eax = DATA0;
	run_expect("load of a supervisor segment at CPL 3", &s, 13, DATA0, 0);
	s = state_at(CODE(0x8E, 0xE0, CODE_DONE), 3);
	s.eax = TSS_SELECTOR;
	run_expect("load of a system segment", &s, 13, TSS_SELECTOR, 0);
	s = state_at(CODE(0x8E, 0xE0, CODE_DONE), 3);
	s.eax = 11 << 3 | 3;
	run_expect("load of execute-only code", &s, 13, 11 << 3, 0);
	s = state_at(CODE(0x8E, 0xD0, CODE_DONE), 0); /* mov ss,ax */
	s.eax = 0;
	run_expect("mov ss with a null selector", &s, 13, 0, 0);
	s = state_at(CODE(0x8E, 0xD0, CODE_DONE), 0);
	s.eax = DATA3;
	run_expect("mov ss with another privilege", &s, 13, DATA3 & ~3u, 0);
	s = state_at(CODE(0x8E, 0xD0, CODE_DONE), 3);
	s.eax = 9 << 3 | 3;
	run_expect("mov ss not present", &s, 12, 9 << 3, 0);
	s = state_at(CODE(0x8E, 0xE0, 0x64, 0x8B, 0x03, CODE_DONE), 3);
	s.eax = 0;
	s.ebx = VA;
	run_expect("access through a null segment", &s, 13, 0, 2);
	s = state_at(CODE(0x8E, 0xE0, 0x64, 0x8B, 0x03, CODE_DONE), 3);
	s.eax = 8 << 3 | 3;
	s.ebx = 0xFFC;
	at(VA)[0x3FF] = 0x77665544;
	run_expect("last dword of a small segment", &s, RUN_DONE, 0, 7);
	check_equal("its value", s.eax, 0x77665544);
	s = state_at(CODE(0x8E, 0xE0, 0x64, 0x8B, 0x03, CODE_DONE), 3);
	s.eax = 8 << 3 | 3;
	s.ebx = 0xFFD;
	run_expect("one byte beyond its limit", &s, 13, 0, 2);
	s = state_at(CODE(0x8E, 0xE0, 0x64, 0x89, 0x03, CODE_DONE), 3);
	s.eax = 10 << 3 | 3;
	s.ebx = VA;
	run_expect("write to a read-only segment", &s, 13, 0, 2);
	s = state_at(CODE(0x8E, 0xE0, 0x64, 0x8B, 0x03, CODE_DONE), 3);
	s.eax = 12 << 3 | 3;
	s.ebx = 0xFFC;
	run_expect("below an expand-down segment", &s, 13, 0, 2);
	s = state_at(CODE(0x8E, 0xE0, 0x64, 0x8B, 0x03, CODE_DONE), 3);
	s.eax = 12 << 3 | 3;
	s.ebx = 0x1000;
	at(VA + 0x1000)[0] = 0x12341234;
	run_expect("within an expand-down segment", &s, RUN_DONE, 0, 7);
	check_equal("its value", s.eax, 0x12341234);
	s = state_at(CODE(0x2E, 0x89, 0x03, CODE_DONE), 3);
	s.ebx = VA;
	run_expect("write through CS", &s, 13, 0, 0);
	/* A small stack segment: push beyond its limit is #SS(0). */
	s = state_at(CODE(0x50, CODE_DONE), 3);
	s.ss = 8 << 3 | 3;
	s.esp = 0x2000;
	run_expect("push beyond the stack segment", &s, 12, 0, 0);
	check_equal("ESP is unchanged", s.esp, 0x2000);
	s = state_at(CODE(0x8B, 0x45, 0x00, CODE_DONE), 3);
	s.ss = 8 << 3 | 3;
	s.ebp = 0x1000;
	run_expect("EBP access beyond the stack segment", &s, 12, 0, 0);
	s = state_at(CODE(0x50, 0x8B, 0x5D, 0xFC, CODE_DONE), 3);
	s.ss = 8 << 3 | 3;
	s.esp = s.ebp = 0x800;
	run_expect("stack segment with a base", &s, RUN_DONE, 0, 6);
	check_equal("what was pushed", s.ebx, 0xA0A1A2A3);
	check_equal("where", at(VA)[0x1FF], 0xA0A1A2A3);
}

/* Single-step: trap after the instruction, EIP behind it; DR6.BS. */
static u32 step_eips[32], step_count;
static void step(struct trap_frame *f)
{
	if (step_count < 32) step_eips[step_count++] = f->eip;
	else f->eflags &= ~EFLAGS_TF;
}

static void test_single_step(void)
{
	static const u32 expected[] = {1, 2, 7, 8, 7, 8, 10, 11, 13};
	/* nop; inc eax; mov ecx,2; 1: inc edx; loop... EIP after each */
	u8 *code = CODE(0x90, 0x40, 0xB9, 2, 0, 0, 0, 0x42, 0xE2, 0xFD, 0x41, 0xEB, 0x00, CODE_DONE);
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		struct state s = state_at(code, cpl);
		s.eflags |= EFLAGS_TF;
		step_count = 0;
		trap_handle(1, step);
		if (cpl == 0) {
			/* run's own popf and moves would be stepped too: set TF in the code instead. */
			code = CODE(0x9C, 0x81, 0x0C, 0x24, 0, 1, 0, 0, 0x9D, 0x90, 0x40, 0x9C, 0x81, 0x24, 0x24, 0xFF, 0xFE, 0xFF, 0xFF, 0x9D, 0x90,
				    CODE_DONE);
			s = state_at(code, 0);
			run(&s);
			trap_handle(1, NULL);
			check_equal("single-step at CPL 0: steps", step_count, 5);
			check_equal("single-step at CPL 0: first", step_eips[0] - (u32)code, 10);
			check_equal("single-step at CPL 0: last", step_eips[4] - (u32)code, 20);
			code = CODE(0x90, 0x40, 0xB9, 2, 0, 0, 0, 0x42, 0xE2, 0xFD, 0x41, 0xEB, 0x00, CODE_DONE);
			continue;
		}
		run(&s);
		trap_handle(1, NULL);
		check_equal("single-step: ends at int", s.vector, RUN_DONE);
		check_equal("single-step: steps", step_count, 9);
		u32 wrong = 0;
		for (unsigned i = 0; i < 9; i++) wrong += step_eips[i] - (u32)code != expected[i];
		check_equal("single-step: EIPs wrong", wrong, 0);
		if (wrong) {
			for (unsigned i = 0; i < step_count; i++) print("# step at %u\n", step_eips[i] - (u32)code);
		}
		check_equal("single-step: result", s.edx, 0xD0D1D2D5);
	}
	struct state s = state_at(CODE(0xF3, 0xAA, 0x90, CODE_DONE), 3);
	s.eflags |= EFLAGS_TF;
	s.edi = VA;
	s.ecx = 3;
	step_count = 0;
	trap_handle(1, step);
	run(&s);
	trap_handle(1, NULL);
	check_equal("single-step of rep: a trap for each iteration", step_count, 4);
	check_equal("single-step of rep: the first stays", step_eips[0], (u32)code_area);
	check_equal("single-step of rep: then goes on", step_eips[2], (u32)code_area + 2);
}

static u32 seen_dr6;
static void breakpoint(struct trap_frame *f)
{
	u32 dr6;
	__asm__ volatile("mov %%dr6, %0; mov %1, %%dr6" : "=&r"(dr6) : "r"(0));
	seen_dr6 = dr6;
	if (step_count < 32) step_eips[step_count++] = f->eip;
	f->eflags |= 0x10000;
}

static void test_breakpoints(void)
{
	u8 *code = CODE(0x90, 0x90, 0x89, 0x03, 0x8B, 0x0B, 0x90, CODE_DONE);
	trap_handle(1, breakpoint);
	__asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(code + 1), "r"(0x402));
	struct state s = state_at(code, 3);
	s.ebx = VA;
	step_count = 0;
	run(&s);
	check_equal("instruction breakpoint: once", step_count, 1);
	check_equal("instruction breakpoint: before it", step_eips[0], (u32)code + 1);
	check_equal("instruction breakpoint: DR6", seen_dr6 & 0xF, 1);
	__asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(VA + 2), "r"(0x402 | 0x10000));
	s = state_at(code, 3);
	s.ebx = VA;
	step_count = 0;
	run(&s);
	check_equal("write breakpoint: once", step_count, 1);
	check_equal("write breakpoint: behind the store", step_eips[0], (u32)code + 4);
	__asm__ volatile("mov %0, %%dr7" : : "r"(0x400));
	trap_handle(1, NULL);
}

/* Each of these touches two pages, or memory after a register; with the second page missing nothing at all may have changed. */
static void test_restart(void)
{
	static const struct {
		const char *name;
		u8 code[7];
		bool is_stack;
	} cases[] = {
		{"push eax", {0x50, 0x90, 0x90}, true}, {"push [ebx]", {0xFF, 0x33, 0x90}, true}, {"push imm", {0x6A, 0x05, 0x90}, true},
		{"pushf", {0x9C, 0x90, 0x90}, true}, {"push ds", {0x1E, 0x90, 0x90}, true}, {"pusha", {0x60, 0x90, 0x90}, true},
		{"pop eax", {0x58, 0x90, 0x90}, true}, {"pop [ebx]", {0x8F, 0x03, 0x90}, true}, {"popa", {0x61, 0x90, 0x90}, true},
		{"popf", {0x9D, 0x90, 0x90}, true}, {"call", {0xE8, 0, 0, 0, 0, 0x90, 0x90}, true}, {"call [ebx]", {0xFF, 0x13, 0x90}, true},
		{"call ecx", {0xFF, 0xD1, 0x90}, true}, {"ret", {0xC3, 0x90, 0x90}, true}, {"ret 8", {0xC2, 0x08, 0x00}, true},
		{"enter", {0xC8, 0x10, 0x00, 0x00}, true}, {"leave", {0xC9, 0x90, 0x90}, true},
		{"add [edi],eax", {0x01, 0x07, 0x90}, false}, {"adc [edi],eax", {0x11, 0x07, 0x90}, false},
		{"xchg [edi],eax", {0x87, 0x07, 0x90}, false}, {"lock xadd [edi],eax", {0xF0, 0x0F, 0xC1, 0x07}, false},
		{"cmpxchg [edi],ecx", {0x0F, 0xB1, 0x0F}, false}, {"inc [edi]", {0xFF, 0x07, 0x90}, false},
		{"neg [edi]", {0xF7, 0x1F, 0x90}, false}, {"shl [edi],1", {0xD1, 0x27, 0x90}, false},
		{"shld [edi],eax,4", {0x0F, 0xA4, 0x07, 0x04}, false}, {"bts [edi],5", {0x0F, 0xBA, 0x2F, 0x05}, false},
		{"cmpxchg8b [edi]", {0x0F, 0xC7, 0x0F}, false}, {"movs", {0xA5, 0x90, 0x90}, false}, {"stos", {0xAB, 0x90, 0x90}, false},
		{"lods", {0x8B, 0xF7, 0xAD}, false}, {"sar word [edi],cl", {0x66, 0xD3, 0x3F}, false}, {"mov [edi],eax", {0x89, 0x07, 0x90}, false},
		{"mov eax,[edi]", {0x8B, 0x07, 0x90}, false}, {"sbb eax,[edi]", {0x1B, 0x07, 0x90}, false}, {"mul [edi]", {0xF7, 0x27, 0x90}, false},
		{"setc and mov word", {0x66, 0x89, 0x07}, false}, {"les eax,[edi]", {0xC4, 0x07, 0x90}, false},
		{"xlat", {0x8D, 0x5F, 0x03, 0x00, 0xD7}, false}, {"fld qword [edi]", {0xDD, 0x07, 0x90}, false},
		{"sgdt [edi]", {0x0F, 0x01, 0x07}, false},
	};
	u32 edge = VA + 0x3000;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		u8 bytes[] = {0xF9, cases[i].code[0], cases[i].code[1], cases[i].code[2], cases[i].code[3], cases[i].code[4], cases[i].code[5],
			      cases[i].code[6], CODE_DONE};
		for (u32 back = 1; back <= 3; back++) {
			struct state s = state_at(code_put(0, bytes, sizeof bytes), 3);
			bool pops = cases[i].code[0] == 0x58 || cases[i].code[0] == 0x8F || cases[i].code[0] == 0x61 || cases[i].code[0] == 0x9D ||
				    cases[i].code[0] == 0xC3 || cases[i].code[0] == 0xC2;
			/* Pushes come down into the missing page below `edge`, pops and data accesses run up into the one above. */
			bool down = cases[i].is_stack && !pops && cases[i].code[0] != 0xC9;
			u32 missing = down ? edge - 0x1000 : edge;
			u32 spot = down ? edge + (4 - back) : edge - back;
			if (cases[i].code[0] == 0x60 && down) spot = edge + 32 - back;
			if (cases[i].code[0] == 0x61) spot = edge - 32 + (4 - back);
			s.esp = cases[i].is_stack ? spot : s.esp;
			s.ebp = cases[i].code[0] == 0xC9 ? spot : VA;
			s.edi = spot - (cases[i].code[0] == 0x66 ? (back > 1 ? 0 : 0) : 0);
			if (cases[i].code[0] == 0x66 && back > 1) continue;
			s.esi = VA;
			s.ebx = VA + 0x100;
			s.ecx = (u32)code_area + 32;
			s.eax = cases[i].code[0] == 0xD7 ? 3 : 0xA0A1A2A3;
			if (cases[i].code[3] == 0 && cases[i].code[4] == 0xD7) continue;
			*at(VA + 0x100) = (u32)code_area + 32;
			memset((void *)(edge - 0x1000), 0x5A, 0x2000);
			pte_set(missing, 0);
			struct state before = s;
			run(&s);
			pte_set(missing, missing | P | W | U);
			bool same = s.eax == before.eax && s.ecx == before.ecx && s.edx == before.edx && s.ebx == before.ebx &&
				    s.esp == before.esp && s.ebp == before.ebp && s.edi == before.edi && (s.eflags & EFLAGS_ARITH) == EFLAGS_CF;
			u32 changed = 0;
			for (u32 j = 0; j < 0x2000; j++) changed += *(u8 *)(edge - 0x1000 + j) != 0x5A;
			/* PUSHA may leave what it had stored; the manual promises no more than a restart that works. */
			bool partial_allowed = cases[i].code[0] == 0x60 || (cases[i].code[0] == 0x0F && cases[i].code[1] == 0x01);
			u32 cr2 = down ? spot - (cases[i].code[0] == 0x60 ? 32 : 4) : edge;
			bool good = s.vector == 14 && same && (changed == 0 || partial_allowed) && (s.cr2 == cr2 || cases[i].code[0] == 0xC8 || (down && (s.cr2 & ~0xFFFu) == missing));
			if (good && back < 3) continue;
			if (!check(cases[i].name, good)) {
				print("# back %u: trap %u eip+%u esp %x was %x flags %x changed %u cr2 %x\n", back, s.vector, s.eip - (u32)code_area, s.esp,
				      before.esp, s.eflags, changed, s.cr2);
			}
		}
	}
}

/* REP string instructions stop exactly where the fault is, with registers advanced, and go on. */
static void test_rep(void)
{
	u32 edge = VA + 0x3000;
	pte_set(edge, 0);
	struct state s = state_at(CODE(0xF3, 0xA5, CODE_DONE), 3);
	s.esi = VA;
	s.edi = edge - 0x40;
	s.ecx = 100;
	run_expect("rep movsd into a missing page", &s, 14, 6, 0);
	check("rep movsd: registers", s.ecx == 84 && s.edi == edge && s.esi == VA + 0x40 && s.cr2 == edge);
	s = state_at(CODE(0xF3, 0xA5, CODE_DONE), 3);
	s.esi = edge - 6;
	s.edi = VA + 0x100;
	s.ecx = 100;
	run_expect("rep movsd from a missing page, unaligned", &s, 14, 4, 0);
	check("rep movsd unaligned: registers", s.ecx == 99 && s.edi == VA + 0x104 && s.esi == edge - 2 && s.cr2 == edge);
	s = state_at(CODE(0xF3, 0xAB, CODE_DONE), 3);
	s.edi = edge - 6;
	s.ecx = 100;
	memset((void *)(edge - 8), 0x5A, 8);
	run_expect("rep stosd, unaligned end", &s, 14, 6, 0);
	check("rep stosd: registers", s.ecx == 99 && s.edi == edge - 2 && s.cr2 == edge);
	check_equal("rep stosd: no partial element", *(volatile u16 *)(edge - 2), 0x5A5A);
	s = state_at(CODE(0xFD, 0xF3, 0xAA, 0xFC, CODE_DONE), 3);
	s.edi = edge + 0x1010;
	s.ecx = 100;
	run_expect("rep stosb downwards", &s, 14, 6, 1);
	check("rep stosb downwards: registers", s.ecx == 100 - 0x11 && s.edi == edge + 0xFFF && s.cr2 == edge + 0xFFF);
	check("DF in the frame", s.eflags & EFLAGS_DF);
	memset((void *)(edge - 0x100), 7, 0x100);
	s = state_at(CODE(0xF3, 0xAE, CODE_DONE), 3);
	s.edi = edge - 0x20;
	s.eax = 7;
	s.ecx = 0xFFFFFFFF;
	run_expect("repe scasb with a huge count", &s, 14, 4, 0);
	check("repe scasb: registers", s.ecx == 0xFFFFFFFF - 0x20 && s.edi == edge);
	s = state_at(CODE(0xF3, 0xA6, CODE_DONE), 3);
	s.edi = edge - 0x20;
	s.esi = edge - 0x80;
	s.ecx = 50;
	run_expect("repe cmpsb", &s, 14, 4, 0);
	check("repe cmpsb: registers", s.ecx == 50 - 0x20 && s.edi == edge && s.esi == edge - 0x60);
	s = state_at(CODE(0xF3, 0xA4, CODE_DONE), 3);
	s.edi = edge;
	s.esi = edge;
	s.ecx = 0;
	run_expect("rep movsb with count 0 touches nothing", &s, RUN_DONE, 0, 4);
	pte_set(edge, edge | P | W | U);
}

/* Faults while an exception is delivered. */
static void test_double_fault(void)
{
	gdt_set(13, (u32)trap_stubs, 0, 0x73, 4);
	idt_set(0x94, 0, CODE0, 0x0E);
	struct state s = state_at(CODE(0xCC), 3);
	idt_set(3, (u32)(trap_stubs + 16 * 3), 9 << 3, 0xEE);
	gdt_set(9, 0, 0xFFFFF, 0x1B, 0xC);
	run_expect("gate to a code segment not present", &s, 11, 9 << 3, 0);
	idt_set(3, (u32)(trap_stubs + 16 * 3), CODE0, 0xEE);
	/* #DE whose gate is not present: #NP in delivering a contributory exception is #DF. */
	idt_set(0, (u32)trap_stubs, CODE0, 0x0E);
	s = state_at(CODE(0xF7, 0xF3), 3);
	s.ebx = 0;
	run_expect("double fault", &s, 8, 0, 0);
	idt_set(0, (u32)trap_stubs, CODE0, 0x8E);
	idt_set(6, (u32)(trap_stubs + 16 * 6), CODE0, 0x0E);
	s = state_at(CODE(0x0F, 0x0B), 3);
	run_expect("#NP in delivering #UD: no double fault, EXT set", &s, 11, 6 * 8 + 3, 0);
	idt_set(6, (u32)(trap_stubs + 16 * 6), CODE0, 0x8E);
}

void guest_main(void)
{
	paging_enable();
	test_software();
	test_divide();
	test_undefined();
	test_privileged();
	test_segments();
	test_single_step();
	test_breakpoints();
	test_restart();
	test_rep();
	test_double_fault();
}
