/* Protected mode with 16-bit code and stacks, in every mix with 32 bits; the limits of code, data and stack; 64 KiB edges. */
#include "guest.h"

#define ORIGIN 0x100u
#define CODE_AT 0x1800000u
#define DATA_AT 0x1810000u
#define STACK_AT 0x1820000u
#define EXTRA_AT 0x1830000u
#define USER(index) ((index) << 3 | 3)
enum { CODE16 = 8, DATA16, STACK16, SMALL, CODE32, STACK32, CODE16_ALIAS = 15, EXTRA16, DOWN16, DOWN32, CODE_SHORT };

#define SNIPPETS(S) \
	S(p_mix) S(p_lea) S(p_stack) S(p_pop_esp) S(p_push_pop_sp) S(p_pop_wrap) S(p_frame) S(p_word) S(p_store_dword) S(p_word_wide) \
	S(p_push_memory) S(p_fld) S(p_movups) S(p_bts) S(p_push_word) S(p_push_dword) S(p_pop_dword) S(p_pushaw) S(p_leave) S(p_call) \
	S(p_call_indirect) S(p_ret) S(p_ret_long) S(p_jump) S(p_jz) S(p_jump_indirect) S(p_jump_long) S(p_loop) S(p_loopnz) S(p_jcxz) \
	S(p_nops) S(p_far) S(p_far_calls) S(p_rep_movs) S(p_rep_stosb) S(p_std) S(p_movs) S(p_cmps) S(p_lods) S(p_scas) S(p_rewrites) \
	S(p_cs_write) S(p_cs_read) S(p_segments) S(p_flags) S(p_load_stack) S(p_count) S(q_stack) S(q_address16) S(q_jump) S(q_call) \
	S(q_call_indirect) S(q_ret)
#define DECLARE(name) extern u8 name[];
SNIPPETS(DECLARE)

static void set_up(void)
{
	gdt_set(CODE16, CODE_AT, 0xFFFF, 0xFB, 0);
	gdt_set(DATA16, DATA_AT, 0xFFFF, 0xF3, 0);
	gdt_set(STACK16, STACK_AT, 0xFFFF, 0xF3, 0);
	gdt_set(SMALL, DATA_AT, 0x7F, 0xF3, 0);
	gdt_set(CODE32, CODE_AT, 0x2FFF, 0xFB, 4);
	gdt_set(STACK32, STACK_AT, 0xFFFF, 0xF3, 4);
	gdt_set(CODE16_ALIAS, CODE_AT + 16, 0xFFFF, 0xFB, 0);
	gdt_set(EXTRA16, EXTRA_AT, 0xFFFF, 0xF3, 0);
	gdt_set(DOWN16, STACK_AT, 0x7FF, 0xF7, 0);
	gdt_set(DOWN32, STACK_AT, 0x7FF, 0xF7, 4);
	gdt_set(CODE_SHORT, CODE_AT, 0x1FF, 0xFB, 0);
	/* An emulator that knows no limits goes anywhere: to an INT3. */
	memset((void *)CODE_AT, 0xCC, 0x10000);
	memset((void *)(DATA_AT + 0x100), 0xCC, 0x100);
}

static struct state state_of(const u8 *code, unsigned code_segment, unsigned stack_segment)
{
	memcpy((void *)(CODE_AT + ORIGIN), code, 128);
	for (u32 i = 0; i < 0x100; i += 4) {
		*dword_at(DATA_AT + i) = 0x83828180 + i * 0x01010101;
		*dword_at(EXTRA_AT + i) = 0x03020100 + i * 0x01010101;
	}
	struct state s = state_at(NULL, 3);
	s.eip = ORIGIN;
	s.cs = USER(code_segment);
	s.ss = USER(stack_segment);
	s.ds = USER(DATA16);
	s.es = USER(EXTRA16);
	s.esp = 0x1000;
	return s;
}

static struct state narrow(const u8 *code) { return state_of(code, CODE16, STACK16); }

static struct state run_code(const u8 *code)
{
	struct state s = narrow(code);
	s.esp = 0x77771000;
	run(&s);
	return s;
}

/* Run to an exception with error code 0 at this offset, SP and ECX as before; or to the end. IRET to a 16-bit stack loads only SP: the upper
 * half of ESP is the kernel's. */
static bool run_to(struct state *s, u32 vector, u32 offset)
{
	u32 sp = s->esp & 0xFFFF, ecx = s->ecx;
	run(s);
	if (s->vector == vector && vector == RUN_DONE) return true;
	if (s->vector == vector && !s->error && s->eip == ORIGIN + offset && (s->esp & 0xFFFF) == sp && s->ecx == ecx) return true;
	print("# trap %u error 0x%x at 0x%x, esp 0x%x, ecx 0x%x\n", s->vector, s->error, s->eip, s->esp, s->ecx);
	return false;
}

static void expect(const char *name, struct state s, u32 vector, u32 offset)
{
	check(name, run_to(&s, vector, offset));
}

static void expect_at(const char *name, const u8 *code, u32 ebx, u32 vector)
{
	struct state s = narrow(code);
	s.ebx = ebx;
	expect(name, s, vector, 0);
}

static void test_mixes(void)
{
	struct state s = narrow(p_mix);
	s.esi = 5;
	s.ebx = 0x10;
	s.ebp = 0xFFFF0020;
	s.edi = 0xFFFFFFFE;
	run(&s);
	check_equal("16 bits of memory", s.eax, 0xA0A1C890);
	check_equal("32 bits of memory", s.ecx, 0x93929190);
	check_equal("32-bit address", s.edx, 0xD0D1A5A4);
	check_equal("32-bit store, 32-bit address", *dword_at(DATA_AT + 0x50), 0x93929190);
	check_equal("[bp + di] is the stack's", *word_at(STACK_AT + 0x20), 0x9190);
	check_equal("inc dword", *dword_at(DATA_AT + 0x44), 0xC7C6C5C5);
	s = narrow(p_lea);
	s.ebx = 0x1234FFFF;
	s.esi = 0x00010003;
	run(&s);
	check_equal("lea ax, [bx + si - 1]", s.eax, 0xA0A10001);
	check_equal("lea ecx, [bx + si - 1]", s.ecx, 0x0001);
	check_equal("lea dx, [ebx + esi - 1]", s.edx, 0xD0D10001);
	check_equal("lea ebp, [ebx + esi - 1]", s.ebp, 0x12360001);
	s = state_of(q_address16, CODE32, STACK16);
	s.ebx = 0x55550004;
	s.esi = 0x1234FFFC;
	s.edi = 0x56780030;
	s.ecx = 0x00010002;
	*dword_at(DATA_AT + 0xFFFC) = 0x600DCAFE;
	run(&s);
	check_equal("32-bit code, 16-bit address; xlat", s.eax, 0x97969500 | (0x84 + 0x94));
	check_equal("movsd: SI wraps", s.esi, 0x12340000);
	check_equal("movsd: DI", s.edi, 0x56780034);
	check_equal("movsd", *dword_at(EXTRA_AT + 0x30), 0x600DCAFE);
	check_equal("loop: CX", s.ecx, 0x00010001);
}

static void test_stacks(void)
{
	struct state s = run_code(p_stack);
	check_equal("pushes of both sizes", s.edx & 0xFFFF, 0x1000 - 18);
	check_equal("pop eax", s.eax, 0x95949392);
	check_equal("pop bx", s.ebx & 0xFFFF, 0x9190);
	check_equal("pop dword [m]", *dword_at(DATA_AT + 0x20), 0x56789ABC);
	check_equal("pop word [m]", *word_at(DATA_AT + 0x24), 0x1234);
	check_equal("pop esi", s.esi, 0xC0C1C2C3);
	check_equal("pop di", s.edi & 0xFFFF, 0xA2A3);
	check_equal("SP is back", s.esp & 0xFFFF, 0x1000);
	s = run_code(p_pop_esp);
	check_equal("pop esp, pop sp", s.esp, 0xABCD02FE);
	s = run_code(p_push_pop_sp);
	check_equal("push esp", s.eax & 0xFFFF, 0x0FFE);
	check_equal("push sp", s.ecx & 0xFFFF, 0x1000);
	s = narrow(p_frame);
	s.ebp = 0xEEEE2000;
	*dword_at(STACK_AT + 0x1FFC) = 0x11112222;
	run(&s);
	check_equal("enter", s.eax & 0xFFFF, 0x1000 - 10);
	check_equal("leave", s.edx & 0xFFFF, 0x2000);
	check_equal("enter of level 2", s.ecx & 0xFFFF, 0x1000 - 16);
	check_equal("both frames gone", s.esp & 0xFFFF, 0x1000);
	s = state_of(q_stack, CODE32, STACK16);
	run(&s);
	check_equal("32-bit code, 16-bit stack: pop", s.edx, 0xA2A3C2C3);
	check_equal("32-bit code, 16-bit stack: SP", s.ebx & 0xFFFF, 0x0FFE);
	check_equal("call $+5", s.esi, ORIGIN + 11);
	s = state_of(p_stack, CODE16, STACK32);
	run(&s);
	check_equal("16-bit code, 32-bit stack", s.esp, 0x1000);
	check_equal("16-bit code, 32-bit stack: pop", s.esi, 0xC0C1C2C3);
	/* SP wraps where SS.B is clear. */
	s = narrow(p_push_word);
	s.esp = 0;
	run(&s);
	check_equal("push at SP 0", s.esp & 0xFFFF, 0xFFFE);
	check_equal("goes to the end", *word_at(STACK_AT + 0xFFFE), 0xA2A3);
	s = narrow(p_pop_dword);
	s.esp = 0xFFFC;
	run(&s);
	check_equal("pop to SP 0", s.esp & 0xFFFF, 0);
	s = narrow(p_load_stack);
	s.eax = USER(STACK16);
	s.ecx = 0x300;
	run(&s);
	check_equal("mov ss", *word_at(STACK_AT + 0x2FE), 0xD2D3);
}

static void test_stack_limits(void)
{
	struct state s = narrow(p_push_word);
	s.esp = 1;
	expect("push at SP 1: #SS", s, 12, 0);
	s = narrow(p_push_dword);
	s.esp = 2;
	expect("push dword at SP 2: #SS", s, 12, 0);
	s = narrow(p_pop_dword);
	s.esp = 0xFFFD;
	expect("pop dword at SP FFFDh: #SS", s, 12, 0);
	s = narrow(p_pushaw);
	s.esp = 7;
	expect("pusha at SP 7: #SS", s, 12, 0);
	s = narrow(p_call);
	s.esp = 1;
	expect("call at SP 1: #SS", s, 12, 0);
	s = narrow(p_call_indirect);
	s.esp = 1;
	s.ebx = 0x2000;
	expect("indirect call at SP 1: #SS", s, 12, 0);
	s = narrow(p_ret);
	s.esp = 0xFFFF;
	expect("ret at SP FFFFh: #SS", s, 12, 0);
	s = narrow(p_leave);
	s.ebp = 0x1234FFFF;
	expect("leave at BP FFFFh: #SS", s, 12, 0);
	s = state_of(p_push_word, CODE16, SMALL);
	s.esp = 0x82;
	expect("push beyond a small limit: #SS", s, 12, 0);
	s.esp = 0;
	expect("push that wraps beyond a small limit: #SS", s, 12, 0);
	s.esp = 0x80;
	expect("push to the last word", s, RUN_DONE, 0);
	s = state_of(p_push_word, CODE16, DOWN16);
	s.esp = 0x800;
	expect("push below an expand-down segment: #SS", s, 12, 0);
	s.esp = 0;
	expect("push to the top of an expand-down segment", s, RUN_DONE, 0);
	s.esp = 0x802;
	expect("push to its last word", s, RUN_DONE, 0);
	s = state_of(p_push_word, CODE16, DOWN32);
	s.esp = 0x801;
	expect("push below, 32-bit stack: #SS", s, 12, 0);
}

static void test_data_limits(void)
{
	expect_at("a word at the end", p_word, 0xFFFE, RUN_DONE);
	expect_at("a word over the end: #GP", p_word, 0xFFFF, 13);
	expect_at("a dword over the end: #GP", p_store_dword, 0xFFFD, 13);
	expect_at("a 32-bit address beyond: #GP", p_word_wide, 0x10000, 13);
	expect_at("one that would wrap: #GP", p_word_wide, 0xFFFFFFFF, 13);
	expect_at("push from beyond: #GP", p_push_memory, 0xFFFF, 13);
	expect_at("80 bits over the end: #GP", p_fld, 0xFFF7, 13);
	expect_at("80 bits at the end", p_fld, 0xFFF6, RUN_DONE);
	expect_at("128 bits over the end: #GP", p_movups, 0xFFF1, 13);
	expect_at("128 bits at the end", p_movups, 0xFFF0, RUN_DONE);
	struct state s = narrow(p_bts);
	s.ebx = 0x80;
	s.eax = (u32)-0x420;
	s.ds = USER(SMALL);
	expect("a bit below the segment: #GP", s, 13, 0);
	s.ebx = 0x7C;
	s.eax = 31;
	expect("its last bit", s, RUN_DONE, 0);
	s.ebx = 0x7D;
	expect("a dword over a small limit: #GP", s, 13, 0);
	s = narrow(p_cs_write);
	expect("a write through CS: #GP", s, 13, 0);
	s = narrow(p_cs_read);
	expect("a read through CS beyond: #GP", s, 13, 4);
	gdt_set(SMALL, 0xFFFFF000, 0xFFFF, 0xF3, 0);
	s = narrow(p_word);
	s.ds = USER(SMALL);
	s.ebx = 0x1010;
	*word_at(0x10) = 0x5A5A;
	run(&s);
	check_equal("an address that wraps at 4 GiB", s.eax, 0xA0A15A5A);
	/* The limit changes under the same code. */
	u32 wrong = 0;
	for (u32 i = 0; i < 40; i++) {
		gdt_set(SMALL, DATA_AT, 0x40 + i, 0xF3, 0);
		s = narrow(p_word);
		s.ds = USER(SMALL);
		s.ebx = 0x50;
		run(&s);
		wrong += s.vector != (0x40 + i >= 0x51 ? RUN_DONE : 13);
	}
	check_equal("limits change under the same code: wrong", wrong, 0);
	gdt_set(SMALL, DATA_AT, 0x7F, 0xF3, 0);
}

static struct state shortened(const u8 *code) { return state_of(code, CODE_SHORT, STACK16); }

static void test_code_limits(void)
{
	expect("jmp beyond: #GP", shortened(p_jump), 13, 0);
	struct state s = shortened(p_jz);
	expect("jz beyond, not taken", s, RUN_DONE, 0);
	s.eflags = 0x42;
	expect("jz beyond: #GP", s, 13, 0);
	s = shortened(p_jump_indirect);
	s.ebx = 0x200;
	expect("jmp bx beyond: #GP", s, 13, 0);
	s = shortened(p_jump_long);
	s.ebx = 0x10000 + ORIGIN;
	expect("jmp ebx beyond: #GP", s, 13, 0);
	s = shortened(p_call_indirect);
	s.ebx = 0x1234;
	expect("call bx beyond: #GP", s, 13, 0);
	s = shortened(p_ret);
	*word_at(STACK_AT + 0x1000) = 0x200;
	expect("ret beyond: #GP", s, 13, 0);
	s = narrow(p_ret_long);
	*dword_at(STACK_AT + 0x1000) = 0x10000 + ORIGIN;
	expect("32-bit ret beyond: #GP", s, 13, 0);
	memcpy((void *)(CODE_AT + 8), p_loop, 8);
	static const struct { const char *name; const u8 *code; } loops[] = {{"loop", p_loop}, {"loopnz", p_loopnz}, {"jcxz", p_jcxz}};
	for (u32 i = 0; i < 3; i++) {
		s = narrow(loops[i].code);
		memcpy((void *)(CODE_AT + 8), loops[i].code, 8);
		s.eip = 8;
		s.ecx = i == 2 ? 0x10000 : 7;
		u32 ecx = s.ecx;
		run(&s);
		check_equal(loops[i].name, s.vector << 16 | s.eip, 13 << 16 | 8);
		check_equal(loops[i].name, s.ecx, ecx);
	}
	/* Straight over the end, and across it. */
	memset((void *)(CODE_AT + 0x1F0), 0x90, 16);
	s = shortened(p_nops);
	s.eip = 0x1F8;
	run(&s);
	check_equal("over the end: #GP", s.vector << 16 | s.eip, 13 << 16 | 0x200);
	memcpy((void *)(CODE_AT + 0x1FE), (const u8[]){0xB8, 0x34, 0x12}, 3);
	s = shortened(p_nops);
	s.eip = 0x1F8;
	run(&s);
	check_equal("across the end: #GP", s.vector << 16 | s.eip, 13 << 16 | 0x1FE);
	s = narrow(p_nops);
	s.eip = 0x1FE;
	memcpy((void *)(CODE_AT + 0x201), (const u8[]){CODE_DONE}, 2);
	run(&s);
	check_equal("the same bytes through a longer segment", s.eax, 0xA0A11234);
	/* A page's end. */
	gdt_set(CODE_SHORT, CODE_AT, 0xFFF, 0xFB, 0);
	memcpy((void *)(CODE_AT + 0xFFE), (const u8[]){0xB8, 0x34, 0x12, CODE_DONE}, 5);
	s = shortened(p_nops);
	s.eip = 0xFFE;
	run(&s);
	check_equal("across the end of a page: #GP", s.vector << 16 | s.eip, 13 << 16 | 0xFFE);
	gdt_set(CODE_SHORT, CODE_AT, 0x1000, 0xFB, 0);
	s.eip = 0xFFE;
	s.cs = USER(CODE_SHORT);
	run(&s);
	check_equal("one byte in the next page, no more: #GP behind", s.vector << 16 | s.eip, 13 << 16 | 0x1001);
	gdt_set(CODE_SHORT, CODE_AT, 0x1FF, 0xFB, 0);
	expect("32-bit code: jmp beyond: #GP", state_of(q_jump, CODE32, STACK32), 13, 0);
	expect("32-bit code: call beyond: #GP", state_of(q_call, CODE32, STACK32), 13, 0);
	s = state_of(q_call_indirect, CODE32, STACK32);
	s.ebx = 0x3000;
	expect("32-bit code: call ebx beyond: #GP", s, 13, 0);
	s = state_of(q_ret, CODE32, STACK32);
	*dword_at(STACK_AT + 0x1000) = 0xFFFFFFFF;
	expect("32-bit code: ret beyond: #GP", s, 13, 0);
}

static void test_transfers(void)
{
	struct state s = narrow(p_far);
	run(&s);
	check_equal("to 32-bit code and back", s.vector, RUN_DONE);
	check_equal("what it did", s.eax, 0x11111111);
	check_equal("on this stack", s.ecx & 0xFFFF, 0x1111);
	check_equal("CS", s.cs, USER(CODE16));
	s = narrow(p_far_calls);
	run(&s);
	check_equal("two bases for the same bytes", s.eax & 0xFFFF, (500 * (2 * (ORIGIN + 0x16) - 16)) & 0xFFFF);
	check_equal("and back", s.esp & 0xFFFF, 0x1000);
	s = narrow(p_segments);
	run(&s);
	check_equal("push, pop of segments", s.fs << 16 | s.gs, (u32)USER(EXTRA16) << 16 | USER(DATA16));
	check_equal("lsl", s.ecx, 0xFFFF);
	check_equal("lar", s.edx & 0xFFFF, 0xF300);
	s = narrow(p_flags);
	run(&s);
	check_equal("cli: #GP", s.vector << 16 | s.eip, 13 << 16 | (ORIGIN + 6));
}

static void test_strings(void)
{
	struct state s = narrow(p_rep_movs);
	s.esi = 0xAAAA0010;
	s.edi = 0xBBBB0020;
	s.ecx = 0xCCCC0004;
	run(&s);
	check_equal("rep movsw", *dword_at(EXTRA_AT + 0x24), 0x97969594);
	check_equal("SI", s.esi, 0xAAAA0018);
	check_equal("DI", s.edi, 0xBBBB0028);
	check_equal("CX", s.ecx, 0xCCCC0000);
	s = narrow(p_rep_stosb);
	s.edi = 0xFFFE;
	s.ecx = 0x1234000A;
	run(&s);
	check_equal("rep stosb wraps", s.edi & 0xFFFF, 8);
	check_equal("to the beginning", *dword_at(EXTRA_AT + 4), 0xA3A3A3A3);
	s = narrow(p_rep_stosb);
	s.edi = 0xFFFF0004;
	s.ecx = 0xFFFF;
	run(&s);
	check_equal("64 KiB but one", s.edi, 0xFFFF0003);
	s = narrow(p_rep_movs);
	s.esi = 0x10;
	s.edi = 0xFFFB;
	s.ecx = 4;
	run(&s);
	check_equal("rep movsw to over the end: #GP", s.vector << 16 | s.eip, 13 << 16 | ORIGIN);
	check_equal("two are done", s.edi << 16 | (s.ecx & 0xFFFF), 0xFFFF0002);
	check_equal("two are read", s.esi, 0x14);
	s = narrow(p_std);
	s.esi = 1;
	s.edi = 0x50;
	s.ecx = 4;
	*word_at(DATA_AT + 0xFFFE) = 0xBEEF;
	run(&s);
	check_equal("down over the beginning", *dword_at(EXTRA_AT + 0x4D), 0x8180BEEF);
	check_equal("lodsw behind it: SI", s.esi & 0xFFFF, 0xFFFF);
	s = narrow(p_movs);
	s.esi = 0x1234FFFE;
	s.edi = 0xFFFE;
	run(&s);
	check_equal("movsw: SI and DI wrap", s.esi | s.edi, 0x12340000);
	s = narrow(p_movs);
	s.esi = 0x10;
	s.edi = 0xFFFF;
	expect("movsw to over the end: #GP", s, 13, 0);
	check_equal("SI stays", s.esi, 0x10);
	s = narrow(p_cmps);
	s.esi = 0xFFFF;
	s.edi = 0x10;
	expect("cmpsw from over the end: #GP", s, 13, 0);
	s = narrow(p_lods);
	s.esi = 0x88880000;
	run(&s);
	check_equal("lodsd, down: SI", s.esi, 0x8888FFFC);
	s = narrow(p_scas);
	s.eax = 0x42;
	s.edi = 0xFFF0;
	s.ecx = 0x500;
	memset((void *)(EXTRA_AT + 0xFFF0), 0, 16);
	run(&s);
	check_equal("repne scasb over the end", s.edi & 0xFFFF, 0x43);
	s = narrow(p_rewrites);
	gdt_set(EXTRA16, CODE_AT, 0xFFFF, 0xF3, 0);
	run(&s);
	u32 sum = 0;
	for (u32 i = 0, n = 1; i < 600; i++, n++)
		sum += (u32)(signed char)n;
	check_equal("code that rewrites itself", s.eax & 0xFFFF, sum & 0xFFFF);
	gdt_set(EXTRA16, EXTRA_AT, 0xFFFF, 0xF3, 0);
}

void guest_main(void)
{
	WRITE_CR(4, READ_CR(4) | 0x200);
	paging_enable();
	set_up();
	test_mixes();
	test_stacks();
	test_stack_limits();
	test_data_limits();
	test_code_limits();
	test_transfers();
	test_strings();
	/* Long enough for the processor time that makes a view direct. */
	struct state s = narrow(p_count);
	s.edi = 3000000;
	run(&s);
	check_equal("a long loop", s.eax, 3000000);
	test_data_limits();
	test_stack_limits();
	test_strings();
}
