/* Levels 1 and 2: of the supervisor to paging, of the program to what is privileged, and IOPL in between (SDM vol. 3, 4.6, 5.9, 6.12; vol. 1, 18.5). */
#include "guest.h"

enum { CODE1_INDEX = GDT_FREE, DATA1_INDEX, CODE2_INDEX, DATA2_INDEX, GATE_INDEX };
#define VA 0x1800000u
#define GATE 0x40u
#define CR0_AM 0x40000u
#define CR0_WP 0x10000u
#define CR4_TSD 4u
#define EFLAGS_AC 0x40000u
#define EFLAGS_IOPL 0x3000u

static u32 code_of(u32 cpl) { return cpl == 3 ? CODE3 : cpl ? (CODE1_INDEX + 2 * (cpl - 1)) << 3 | cpl : CODE0; }
static u32 data_of(u32 cpl) { return code_of(cpl) + 8; }

static struct state state_of(const u8 *code, u32 cpl, u32 iopl)
{
	struct state s = state_at(code, 3);
	s.cs = code_of(cpl);
	s.ss = s.ds = s.es = s.fs = s.gs = data_of(cpl);
	s.eflags |= iopl << 12;
	s.ebx = VA;
	return s;
}

/* What asks for CPL 0, what asks IOPL, and what anybody may. */
enum wants { NOBODY, LEVEL0, BY_IOPL };
static const struct { const char *name; u8 code[4], length, wants; u32 ecx; } instructions[] = {
	{"hlt", {0xF4}, 1, LEVEL0, 0}, {"clts", {0x0F, 0x06}, 2, LEVEL0, 0}, {"mov eax, cr0", {0x0F, 0x20, 0xC0}, 3, LEVEL0, 0}, {"mov eax, dr6", {0x0F, 0x21, 0xF0}, 3, LEVEL0, 0},
	{"mov cr2, eax", {0x0F, 0x22, 0xD0}, 3, LEVEL0, 0}, {"lgdt", {0x0F, 0x01, 0x13}, 3, LEVEL0, 0}, {"lidt", {0x0F, 0x01, 0x1B}, 3, LEVEL0, 0}, {"lldt", {0x0F, 0x00, 0xD0}, 3, LEVEL0, 0},
	{"ltr", {0x0F, 0x00, 0xD8}, 3, LEVEL0, 0}, {"lmsw", {0x0F, 0x01, 0xF0}, 3, LEVEL0, 0}, {"invlpg", {0x0F, 0x01, 0x3B}, 3, LEVEL0, 0}, {"wbinvd", {0x0F, 0x09}, 2, LEVEL0, 0},
	{"invd", {0x0F, 0x08}, 2, LEVEL0, 0}, {"rdmsr", {0x0F, 0x32}, 2, LEVEL0, 0x174}, {"wrmsr", {0x0F, 0x30}, 2, LEVEL0, 0x174}, {"sysexit", {0x0F, 0x35}, 2, LEVEL0, 0},
	{"rdtsc with TSD", {0x0F, 0x31}, 2, LEVEL0, 0}, {"cli", {0xFA}, 1, BY_IOPL, 0}, {"sti; cli", {0xFB, 0xFA}, 2, BY_IOPL, 0}, {"in al, 61h", {0xE4, 0x61}, 2, BY_IOPL, 0},
	{"out 80h, al", {0xE6, 0x80}, 2, BY_IOPL, 0}, {"insb", {0x6C}, 1, BY_IOPL, 0}, {"outsb", {0x6E}, 1, BY_IOPL, 0}, {"smsw", {0x0F, 0x01, 0xE0}, 3, NOBODY, 0},
	{"sgdt", {0x0F, 0x01, 0x03}, 3, NOBODY, 0}, {"sldt", {0x0F, 0x00, 0xC0}, 3, NOBODY, 0}, {"pushf; popf", {0x9C, 0x9D}, 2, NOBODY, 0},
};

static void test_instructions(void)
{
	WRITE_CR(4, READ_CR(4) | CR4_TSD);
	wrmsr(0x174, CODE0);
	for (u32 i = 0; i < sizeof instructions / sizeof *instructions; i++) {
		u32 wrong = 0;
		for (u32 j = 0; j < 8; j++) {
			u32 cpl = 1 + (j & 1), iopl = j >> 1, length = instructions[i].length;
			u8 code[8] = {0};
			memcpy(code, instructions[i].code, length);
			memcpy(code + length, (const u8[]){CODE_DONE}, 2);
			struct state s = state_of(code_put(0, code, sizeof code), cpl, iopl);
			s.edi = s.esi = VA + 64;
			s.edx = 0x80;
			s.ecx = instructions[i].ecx;
			run(&s);
			bool runs = instructions[i].wants == NOBODY || (instructions[i].wants == BY_IOPL && cpl <= iopl);
			bool good = runs ? s.vector == RUN_DONE && s.eip == (u32)code_area + length + 2 : s.vector == 13 && s.error == 0 && s.eip == (u32)code_area;
			if (!good && wrong++ == 0) print("# %s at CPL %u, IOPL %u: trap %u error %x\n", instructions[i].name, cpl, iopl, s.vector, s.error);
		}
		check_equal(instructions[i].name, wrong, 0);
	}
	WRITE_CR(4, READ_CR(4) & ~CR4_TSD);
	wrmsr(0x174, 0);
}

/* POPF and IRET change IF as far as IOPL allows, and IOPL at CPL 0 alone. */
static void test_flags(void)
{
	u32 wrong = 0;
	for (u32 i = 0; i < 32; i++) {
		u32 cpl = 1 + (i & 1), iopl = i >> 1 & 3, image = i & 8 ? 2 : EFLAGS_IOPL | EFLAGS_IF | 2, start = i & 8 ? EFLAGS_IF : 0;
		bool iret = i & 16;
		struct state s = state_of(iret ? CODE(0xCF, CODE_DONE) : CODE(0x9D, CODE_DONE), cpl, iopl);
		u32 *at = (u32 *)s.esp;
		if (iret) {
			*at++ = s.eip + 1;
			*at++ = s.cs;
		}
		*at = image;
		s.eflags |= start;
		run(&s);
		u32 flag = cpl <= iopl ? image & EFLAGS_IF : start;
		if (s.vector != RUN_DONE || (s.eflags & (EFLAGS_IOPL | EFLAGS_IF)) != (iopl << 12 | flag)) wrong++;
	}
	check_equal("POPF and IRET by IOPL: wrong", wrong, 0);
}

/* Pages: as CPL 0, with WP and without. Alignment is for CPL 3. */
static void test_pages(void)
{
	static const struct { const char *name; u8 code[2]; u32 entry, wp, vector, error; } cases[] = {
		{"a read of the supervisor's page", {0x8B, 0x03}, P, CR0_WP, RUN_DONE, 0}, {"a write to it, read-only: #PF", {0x89, 0x03}, P, CR0_WP, 14, 3},
		{"a write to it without WP", {0x89, 0x03}, P, 0, RUN_DONE, 0}, {"a write to a user's read-only page", {0x89, 0x03}, P | U, CR0_WP, 14, 3},
		{"a missing page: #PF, not by a user", {0x8B, 0x03}, 0, CR0_WP, 14, 0}, {"a jump to the supervisor's page", {0xFF, 0xE3}, P, CR0_WP, RUN_DONE, 0},
	};
	memcpy((void *)VA, (const u8[]){CODE_DONE}, 2);
	for (u32 i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
		u32 n = i / 2;
		pte_set(VA, VA | cases[n].entry);
		WRITE_CR(0, (READ_CR(0) & ~CR0_WP) | cases[n].wp);
		struct state s = state_of(CODE(cases[n].code[0], cases[n].code[1], CODE_DONE), 1 + (i & 1), 0);
		s.eax = 0x000081CD;
		run(&s);
		check(cases[n].name, s.vector == cases[n].vector && (s.vector == RUN_DONE || (s.error == cases[n].error && s.cr2 == VA)));
	}
	WRITE_CR(0, READ_CR(0) | CR0_WP | CR0_AM);
	pte_set(VA, VA | P | W | U);
	struct state s = state_of(CODE(0x8B, 0x43, 0x01, CODE_DONE), 1, 0);
	s.eflags |= EFLAGS_AC;
	run_expect("no #AC at CPL 1", &s, RUN_DONE, 0, 5);
	WRITE_CR(0, READ_CR(0) & ~CR0_AM);
}

/* INT n and far calls through gates of each DPL, from each level to each level below; the frame says where it came from. */
static void test_gates(void)
{
	u32 wrong = 0;
	u8 *target = code_put(0x400, (const u8[]){CODE_DONE}, 2);
	for (u32 i = 0; i < 4 * 4 * 4 * 2; i++) {
		u32 from = i & 3, to = i >> 2 & 3, dpl = i >> 4 & 3;
		bool call = i >> 6;
		gdt[GATE_INDEX] = (u64)((u32)target & 0xFFFF0000) << 32 | (0x8C00ull | dpl << 13) << 32 | code_of(to) << 16 | ((u32)target & 0xFFFF);
		idt_set(GATE, (u32)target, code_of(to), 0x8E | dpl << 5);
		struct state s = state_of(call ? CODE(0x9A, 0, 0, 0, 0, GATE_INDEX << 3, 0, CODE_DONE) : CODE(0xCD, GATE, CODE_DONE), from, 0);
		u32 eip = s.eip, esp = s.esp, refusal = call ? GATE_INDEX << 3 : GATE << 3 | 2, wanted = dpl < from ? refusal : code_of(to) & ~3u;
		if (!from) s.ds = s.es = s.fs = s.gs = s.ss = DATA0;
		run(&s);
		bool refused = dpl < from || to > from, good = refused ? s.vector == 13 && s.error == wanted && s.eip == eip : s.vector == RUN_DONE && s.cs == code_of(to) && s.eip == (u32)target + 2;
		if (!refused) {
			const u32 *frame = (const u32 *)s.esp;
			u32 words = call ? 2 : 3;
			good &= frame[0] == eip + (call ? 7 : 2) && frame[1] == code_of(from);
			if (to != from) good &= frame[words] == esp && frame[words + 1] == data_of(from);
		}
		if (!good && wrong++ < 4) print("# %s from %u to %u, DPL %u: trap %u error %x, CS %x\n", call ? "call" : "int", from, to, dpl, s.vector, s.error, s.cs);
	}
	check_equal("gates between levels: wrong", wrong, 0);
}

void guest_main(void)
{
	static u8 stacks[3][1024] __attribute__((aligned(16)));
	paging_enable();
	for (u32 cpl = 1; cpl <= 2; cpl++) {
		gdt_set(code_of(cpl) >> 3, 0, 0xFFFFF, 0x9B | cpl << 5, 0xC);
		gdt_set(data_of(cpl) >> 3, 0, 0xFFFFF, 0x93 | cpl << 5, 0xC);
	}
	tss.ss1 = data_of(1);
	tss.ss2 = data_of(2);
	tss.esp1 = (u32)stacks[1];
	tss.esp2 = (u32)stacks[2];
	test_instructions();
	test_flags();
	test_pages();
	test_gates();
}
