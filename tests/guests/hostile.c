/* What a guest may try against the monitor: each must end as on a processor, and touch nothing outside the guest. */
#include "guest.h"

#define VA 0x1800000u
#define TOP 0xFFFFF000u
#define ENDS (VA + 0x4000) /* the frames of the last page of the address space and of its first */

static volatile u32 *at(u32 va)
{
	return (volatile u32 *)va;
}

static struct state run_at(u32 ebx, const u8 *bytes, u32 length)
{
	struct state s = state_at(code_put(0, bytes, length), 3);
	s.ebx = s.edi = s.esi = ebx;
	s.ecx = 4;
	run(&s);
	return s;
}
#define RUN_AT(ebx, ...) ({ static const u8 b_[] = {__VA_ARGS__, CODE_DONE}; run_at(ebx, b_, sizeof b_); })

static void fill_ends(void)
{
	memset((void *)(VA + 0x4000), 0x44, 4096);
	memset((void *)(VA + 0x5000), 0x55, 4096);
}

static void test_wrap(void)
{
	struct state s;
	map_ends(ENDS, P | W | U, P | W | U);
	fill_ends();
	s = RUN_AT(0xFFFFFFFE, 0x8B, 0x03);
	check("load over the end: wraps or faults", (s.vector == RUN_DONE && s.eax == 0x55554444) || s.vector == 13);
	s = RUN_AT(0xFFFFFFFC, 0x8B, 0x03);
	check_equal("last dword", s.eax, 0x44444444);
	s = RUN_AT(0xFFFFFFFF, 0x8A, 0x03);
	check_equal("last byte", s.eax & 0xFF, 0x44);
	s = RUN_AT(0x10, 0x8B, 0x43, 0xF0);
	check_equal("negative displacement to 0", s.eax, 0x55555555);
	s = RUN_AT(0, 0x8B, 0x43, 0xFC);
	check_equal("negative displacement below 0", s.eax, 0x44444444);
	s = RUN_AT(0x80000000, 0x8B, 0x04, 0x5B);
	check("scaled index that overflows", s.vector == 14 && s.cr2 == 0x80000000);
	s = RUN_AT(0x80000000, 0x8B, 0x04, 0x1B);
	check_equal("base plus index that wraps to 0", s.eax, 0x55555555);
	map_ends(ENDS, P | W | U, 0);
	fill_ends();
	static const struct {
		const char *name;
		u8 code[4];
	} cases[] = {
		{"fxsave at the end", {0x0F, 0xAE, 0x03, 0x90}},    {"fnsave at the end", {0xDD, 0x33, 0x90, 0x90}},
		{"fnstenv at the end", {0xD9, 0x33, 0x90, 0x90}},   {"movdqu store at the end", {0xF3, 0x0F, 0x7F, 0x03}},
		{"fstp tword at the end", {0xDB, 0x3B, 0x90, 0x90}}, {"movntq at the end", {0x0F, 0xE7, 0x03, 0x90}},
		{"maskmovdqu at the end", {0x66, 0x0F, 0xF7, 0xC9}}, {"cmpxchg8b at the end", {0x0F, 0xC7, 0x0B, 0x90}},
		{"mov dword at the end", {0x89, 0x03, 0x90, 0x90}},  {"rep stosd over the end", {0xF3, 0xAB, 0x90, 0x90}},
		{"rep movsb over the end", {0xF3, 0xA4, 0x90, 0x90}}, {"sgdt at the end", {0x0F, 0x01, 0x03, 0x90}},
		{"push [end]", {0xFF, 0x33, 0x90, 0x90}},	     {"xadd at the end", {0x0F, 0xC1, 0x03, 0x90}},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		u8 bytes[] = {0x66, 0x0F, 0x76, 0xC9, cases[i].code[0], cases[i].code[1], cases[i].code[2], cases[i].code[3], CODE_DONE};
		u32 start = cases[i].code[0] == 0x0F && cases[i].code[1] == 0xAE ? 0xFFFFFFF0 : 0xFFFFFFFE;
		fill_ends();
		s = run_at(start, bytes, sizeof bytes);
		u32 changed = 0;
		for (u32 j = 0; j < 4096; j++) changed += *(u8 *)(VA + 0x5000 + j) != 0x55;
		check(cases[i].name, (s.vector == 14 || s.vector == 13 || s.vector == 12) && changed == 0);
	}
	unmap_ends();
}

static void test_strings(void)
{
	struct state s;
	/* No ES:EDI may ever mean a host address, whatever it holds. */
	static const u32 places[] = {0, 0x1000, 0x10000, 0x400000 * 20, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xBFFFFFFF, 0xFFFFE000, 0xFFFFFFFF};
	u32 wrong = 0;
	map_ends(ENDS, 0, 0);
	for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
		u32 where = places[i] == 0x1000 || places[i] == 0x10000 ? 0x40001000 + places[i] : places[i];
		s = state_at(CODE(0xF3, 0xAA, CODE_DONE), 3);
		s.edi = where;
		s.ecx = 0xFFFFFFFF;
		run(&s);
		wrong += s.vector != 14 || s.cr2 != where || s.ecx != 0xFFFFFFFF || s.edi != where;
		s = state_at(CODE(0xF3, 0xA5, CODE_DONE), 3);
		s.esi = where;
		s.edi = VA;
		s.ecx = 0x80000000;
		run(&s);
		wrong += s.vector != 14 || s.cr2 != where || s.esi != where;
		s = state_at(CODE(0xA6, CODE_DONE), 3);
		s.esi = VA;
		s.edi = where;
		run(&s);
		wrong += s.vector != 14 || s.edi != where;
		s = state_at(CODE(0xAF, CODE_DONE), 3);
		s.edi = where;
		run(&s);
		wrong += s.vector != 14;
		s = state_at(CODE(0xAC, CODE_DONE), 3);
		s.esi = where;
		run(&s);
		wrong += s.vector != 14;
	}
	check_equal("string instructions at wild addresses: wrong", wrong, 0);
	/* A huge count fills what is mapped and stops there. */
	s = state_at(CODE(0xF3, 0xAB, CODE_DONE), 3);
	s.edi = (PAGED_MIB << 20) - 0x10000;
	s.ecx = 0xFFFFFFFF;
	run_expect("rep stosd with a huge count", &s, 14, 6, 0);
	check("stops at the end of what is mapped", s.cr2 == PAGED_MIB << 20 && s.edi == PAGED_MIB << 20 && s.ecx == 0xFFFFFFFF - 0x4000);
	s = state_at(CODE(0x67, 0xF3, 0xAA, CODE_DONE), 3);
	s.edi = 0xABCD0FFF;
	s.ecx = 0x12340002;
	map_ends(ENDS, 0, P | W | U);
	memset((void *)(VA + 0x5000), 0, 4096);
	run(&s);
	check("a16 rep stosb uses DI and CX", s.vector == RUN_DONE && s.ecx == 0x12340000 && s.edi == 0xABCD1001);
	check_equal("and stored there", *(u8 *)(VA + 0x5FFF), 0xA3);
	unmap_ends();
}

static void test_bit_offsets(void)
{
	static const struct {
		u32 offset;
		int delta;
	} cases[] = {{0, 0}, {32, 4}, {0xFFFFFFFF, -4}, {0x80000000, -0x10000000}, {0x7FFFFFFF, 0x0FFFFFFC}, {0xFFFFFFE0, -4}, {0x1000, 0x200}};
	u32 wrong = 0;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		for (u32 op = 0xA3; op <= 0xBB; op += 8) {
			struct state s = state_at(CODE(0x0F, (u8)op, 0x03, CODE_DONE), 3);
			u32 target = VA + (u32)cases[i].delta;
			bool mapped = target < PAGED_MIB << 20;
			s.ebx = VA;
			s.eax = cases[i].offset;
			if (mapped) *at(target) = 0;
			run(&s);
			u32 bit = 1u << (cases[i].offset & 31);
			if (mapped) wrong += s.vector != RUN_DONE || *at(target) != (op == 0xAB || op == 0xBB ? bit : 0);
			else wrong += s.vector != 14 || s.cr2 != target;
		}
	}
	check_equal("bt, bts, btr, btc with wild offsets: wrong", wrong, 0);
}

static void test_jumps(void)
{
	static const u32 places[] = {0x40000000, 0x7FFFFFFF, 0x80000000, 0xC0000000, 0xFFFFFFF0, 0xFFFFFFFF, 0x55555555, 0x2000000};
	u32 wrong = 0;
	for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
		for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
			struct state s = state_at(CODE(0xFF, 0xE3), cpl);
			s.ebx = places[i];
			run(&s);
			wrong += s.vector != 14 || s.eip != places[i] || s.cr2 != places[i] || s.error != (cpl ? 4u : 0u);
			s = state_at(CODE(0xFF, 0xD3), cpl);
			s.ebx = places[i];
			run(&s);
			wrong += s.vector != 14 || s.eip != places[i];
			s = state_at(CODE(0x53, 0xC3), cpl);
			s.ebx = places[i];
			run(&s);
			wrong += s.vector != 14 || s.eip != places[i];
		}
	}
	check_equal("jumps, calls and returns into nothing: wrong", wrong, 0);
	/* A return address that was tampered with, a stack that was switched: the prediction must not matter. */
	/* call 1f; ud2; 1: add dword [esp],2; ret; int 0x81 */
	struct state s = state_at(CODE(0xE8, 2, 0, 0, 0, 0x0F, 0x0B, 0x83, 0x04, 0x24, 0x07, 0xC3, CODE_DONE), 3);
	run_expect("return address changed", &s, RUN_DONE, 0, 14);
	/* The same where flags are dead at the call's return address, and alive where the return goes:
	 * call f; add eax,1; int 0x81; f: add dword [esp],14; xor ecx,ecx; stc; ret; nop; pushf; pop eax; int 0x81 */
	s = state_at(CODE(0xE8, 5, 0, 0, 0, 0x83, 0xC0, 1, CODE_DONE, 0x83, 0x04, 0x24, 14, 0x31, 0xC9, 0xF9, 0xC3, 0x90, 0x9C, 0x58, CODE_DONE), 3);
	run_expect("return address changed, flags alive", &s, RUN_DONE, 0, 23);
	check_equal("flags come through a return that was predicted wrong", s.eax & 0x8C5, EFLAGS_CF | EFLAGS_ZF | EFLAGS_PF);
	/* Deep recursion without return: 1: call 1b until the stack runs into a missing page. */
	pte_set((u32)user_stack, 0);
	s = state_at(CODE(0xE8, 0xFB, 0xFF, 0xFF, 0xFF), 3);
	run(&s);
	check("endless recursion ends at the stack's end", s.vector == 14 && s.cr2 == (u32)user_stack + 4092 && s.esp == (u32)user_stack + 4096);
	pte_set((u32)user_stack, (u32)user_stack | P | W | U);
	/* A hundred thousand calls without a return, and as many returns without a call. */
	s = state_at(CODE(0xB9, 0xA0, 0x86, 1, 0, 0xE8, 0, 0, 0, 0, 0x58, 0xE2, 0xF8, CODE_DONE), 3);
	run_expect("calls whose return address is popped", &s, RUN_DONE, 0, 15);
	u8 returns[] = {0xB9, 0xA0, 0x86, 1, 0, 0x68, 0, 0, 0, 0, 0xC3, 0x90, 0xE2, 0xF7, CODE_DONE};
	u8 *code = code_put(0, returns, sizeof returns);
	u32 to = (u32)code + 12;
	memcpy(code + 6, &to, 4);
	s = state_at(code, 3);
	run_expect("returns without a call", &s, RUN_DONE, 0, 16);
}

/* Nothing of this may be run by the host; the guest's processor has none of it. */
static void test_refused(void)
{
	static const struct {
		const char *name;
		u8 code[6];
		u32 vector; /* at CPL 3; 6 everywhere but where it says so */
	} cases[] = {
		{"syscall", {0x0F, 0x05}, 6}, {"sysret", {0x0F, 0x07}, 6}, {"vmcall", {0x0F, 0x01, 0xC1}, 6}, {"vmmcall", {0x0F, 0x01, 0xD9}, 6},
		{"vmrun", {0x0F, 0x01, 0xD8}, 6}, {"xgetbv", {0x0F, 0x01, 0xD0}, 6}, {"xsetbv", {0x0F, 0x01, 0xD1}, 6}, {"monitor", {0x0F, 0x01, 0xC8}, 6},
		{"mwait", {0x0F, 0x01, 0xC9}, 6}, {"clac", {0x0F, 0x01, 0xCA}, 6}, {"stac", {0x0F, 0x01, 0xCB}, 6}, {"swapgs", {0x0F, 0x01, 0xF8}, 6},
		{"rdtscp", {0x0F, 0x01, 0xF9}, 6}, {"rdpkru", {0x0F, 0x01, 0xEE}, 6}, {"wrpkru", {0x0F, 0x01, 0xEF}, 6}, {"xend", {0x0F, 0x01, 0xD5}, 6},
		{"encls", {0x0F, 0x01, 0xCF}, 6}, {"rdfsbase", {0xF3, 0x0F, 0xAE, 0xC0}, 6}, {"rdgsbase", {0xF3, 0x0F, 0xAE, 0xC8}, 6},
		{"wrfsbase", {0xF3, 0x0F, 0xAE, 0xD0}, 6}, {"wrgsbase", {0xF3, 0x0F, 0xAE, 0xD8}, 6}, {"xsave", {0x0F, 0xAE, 0x23}, 6},
		{"xrstor", {0x0F, 0xAE, 0x2B}, 6}, {"xsaveopt", {0x0F, 0xAE, 0x33}, 6}, {"xsavec", {0x0F, 0xC7, 0x23}, 6}, {"rdrand", {0x0F, 0xC7, 0xF0}, 6},
		{"rdseed", {0x0F, 0xC7, 0xF8}, 6}, {"vmptrld", {0x0F, 0xC7, 0x33}, 6}, {"getsec", {0x0F, 0x37}, 6}, {"vmread", {0x0F, 0x78, 0xC0}, 6},
		{"invpcid", {0x66, 0x0F, 0x38, 0x82, 0x03}, 6}, {"crc32", {0xF2, 0x0F, 0x38, 0xF0, 0xC0}, 6}, {"movbe", {0x0F, 0x38, 0xF0, 0x03}, 6},
		{"adcx", {0x66, 0x0F, 0x38, 0xF6, 0xC0}, 6}, {"sha1msg1", {0x0F, 0x38, 0xC9, 0xC0}, 6}, {"aesenc", {0x66, 0x0F, 0x38, 0xDC, 0xC0}, 6},
		{"pclmulqdq", {0x66, 0x0F, 0x3A, 0x44, 0xC0, 0}, 6}, {"pblendvb", {0x66, 0x0F, 0x38, 0x10, 0xC0}, 6}, {"ptest", {0x66, 0x0F, 0x38, 0x17, 0xC0}, 6},
		{"roundps", {0x66, 0x0F, 0x3A, 0x08, 0xC0, 0}, 6}, {"pinsrb", {0x66, 0x0F, 0x3A, 0x20, 0xC0, 0}, 6}, {"vxorps", {0xC5, 0xF8, 0x57, 0xC0}, 6},
		{"andn", {0xC4, 0xE2, 0x78, 0xF2, 0xC0}, 6}, {"shlx", {0xC4, 0xE2, 0x79, 0xF7, 0xC0}, 6}, {"evex", {0x62, 0xF1, 0x7C, 0x48, 0x57, 0xC0}, 6},
		{"xop", {0x8F, 0xE8, 0x78, 0xC2, 0xC0, 0}, 6}, {"femms", {0x0F, 0x0E}, 6}, {"3dnow", {0x0F, 0x0F, 0xC0, 0x9E}, 6}, {"0f 24", {0x0F, 0x24, 0xC0}, 6},
		{"0f 36", {0x0F, 0x36, 0xC0}, 6}, {"0f 39", {0x0F, 0x39, 0xC0}, 6}, {"0f 3b", {0x0F, 0x3B, 0xC0}, 6}, {"0f a7", {0x0F, 0xA7, 0xC0}, 6},
		{"lock nop", {0xF0, 0x90}, 6}, {"lock xchg reg", {0xF0, 0x87, 0xC0}, 6}, {"lock jmp", {0xF0, 0xEB, 0x00}, 6}, {"lock bt", {0xF0, 0x0F, 0xA3, 0x03}, 6},
		{"lock movs", {0xF0, 0xA4}, 6}, {"lock fld", {0xF0, 0xD9, 0x03}, 6}, {"x87 d9 d1", {0xD9, 0xD1}, 6}, {"x87 d9 e2", {0xD9, 0xE2}, 6},
		{"x87 da e8", {0xDA, 0xE8}, 6}, {"x87 db f8", {0xDB, 0xF8}, 6}, {"x87 dd /5", {0xDD, 0x2B}, 6}, {"x87 de d8", {0xDE, 0xD8}, 6},
		{"rdsspd", {0xF3, 0x0F, 0x1E, 0xC8}, RUN_DONE}, {"endbr32", {0xF3, 0x0F, 0x1E, 0xFB}, RUN_DONE}, {"rep nop", {0xF3, 0x90}, RUN_DONE},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		u8 bytes[16] = {0};
		u32 length = 6;
		while (length > 2 && cases[i].code[length - 1] == 0) length--;
		memcpy(bytes, cases[i].code, length);
		memset(bytes + length, 0x90, 6);
		memcpy(bytes + length + 6, (const u8[]){CODE_DONE}, 2);
		bool good = true;
		for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
			struct state s = state_at(code_put(0, bytes, sizeof bytes), cpl);
			s.ebx = s.esi = s.edi = VA;
			run(&s);
			if (s.vector == cases[i].vector && (cases[i].vector == RUN_DONE || s.eip == (u32)code_area)) continue;
			good = false;
			print("# at CPL %u: trap %u error 0x%x at 0x%x\n", cpl, s.vector, s.error, s.eip);
		}
		check(cases[i].name, good);
	}
	/* F3 before BSF and BSR is no TZCNT and LZCNT here, F2/F3 before LOCK instructions elide nothing. */
	struct state s = state_at(CODE(0xF3, 0x0F, 0xBD, 0xC1, CODE_DONE), 3);
	s.ecx = 0x00010000;
	run(&s);
	check_equal("rep bsr is bsr", s.eax, 16);
	s = state_at(CODE(0xF3, 0x0F, 0xBC, 0xC1, CODE_DONE), 3);
	s.ecx = 0;
	run(&s);
	check("rep bsf of 0 sets ZF", s.eflags & EFLAGS_ZF);
	s = state_at(CODE(0xF2, 0xF0, 0x01, 0x03, CODE_DONE), 3);
	s.ebx = VA;
	*at(VA) = 0;
	run(&s);
	check("xacquire lock add is lock add", s.vector == RUN_DONE && *at(VA) == 0xA0A1A2A3);
}

/* Every one- and two-byte opcode, with operands that lead nowhere: any exception will do, or none; the monitor lives. Those that
 * change the guest's own control are left out. */
static void test_all_opcodes(void)
{
	u32 runs = 0, seed = 12345;
	/* All but the test's own pages are out of its reach. */
	for (u32 va = 0; va < PAGED_MIB << 20; va += 4096) {
		bool own = (va >= VA && va < VA + 0x8000) || va - (u32)code_area < CODE_SIZE || va - (u32)user_stack < sizeof user_stack;
		if (!own) pte_set(va, va | P | W);
	}
	for (u32 round = 0; round < 4; round++) {
		for (u32 op = 0; op < 512; op++) {
			u8 bytes[24];
			u32 n = 0;
			for (u32 i = 0; i < sizeof bytes; i++) bytes[i] = (u8)((seed = seed * 1103515245 + 12345) >> 16);
			if (round & 1) bytes[n++] = (u8[]){0x66, 0xF2, 0xF3, 0x67}[seed >> 8 & 3];
			if (op >= 256) bytes[n++] = 0x0F;
			bytes[n++] = (u8)op;
			/* At most one instruction: what follows is INT3. */
			for (u32 i = n + 8; i < sizeof bytes; i++) bytes[i] = 0xCC;
			struct state s = state_at(code_put(0, bytes, sizeof bytes), 3);
			s.ebx = VA;
			s.esp = (u32)user_stack + 4096;
			/* A jump to itself would not end: TF ends each after one instruction. */
			s.eflags |= EFLAGS_TF;
			run(&s);
			runs++;
		}
	}
	check_equal("every opcode at CPL 3, single-stepped", runs, 2048);
}

void guest_main(void)
{
	paging_enable();
	WRITE_CR(4, READ_CR(4) | 0x600);
	WRITE_CR(0, (READ_CR(0) | 0x22) & ~0xCu);
	__asm__ volatile("fninit");
	test_wrap();
	test_strings();
	test_bit_offsets();
	test_jumps();
	test_refused();
	test_all_opcodes();
}
