/* Real-address mode: 16-bit code, 64 KiB segments, the vector table, and the way there and back. */
#include "guest.h"
#include "real.h"

#define ORIGIN 0x100u
#define CODE_AT 0x20000u
#define DATA_AT 0x30000u
#define EXTRA_AT 0x38000u
#define STACK_AT 0x48000u
#define SP 0x1000u
#define UNREAL_AT 0x1800000u

#define SNIPPETS(S) \
	S(registers) S(memory) S(code_write) S(word_at_limit) S(dword_at_limit) S(dword_below_limit) S(stack_at_limit) S(wide_address) \
	S(call_near) S(call_far) S(loops) S(strings) S(string_at_limit) S(rep_at_limit) S(interrupt) S(interrupt_handler) S(flags) S(stack) \
	S(stack_wraps) S(divide) S(bound) S(into) S(tables) S(pointers) S(loads) S(rewrites) S(where) S(jump_to_end) S(jump_beyond) S(call_beyond) \
	S(unreal) S(xlat) S(environment) S(wide_environment) S(single_step) S(timer) \
	S(timer_handler) S(sysenter) S(count)
#define DECLARE(name) extern u8 s_##name[];
SNIPPETS(DECLARE)

static struct real_state state_of(const u8 *code)
{
	memcpy((void *)(CODE_AT + ORIGIN), code, 192);
	for (u32 i = 0; i < 0x100; i++) {
		*byte_at(DATA_AT + i) = (u8)(0x80 + i);
		*byte_at(EXTRA_AT + i) = (u8)i;
	}
	return (struct real_state){
		.eax = 0xA0A1A2A3, .ecx = 0xC0C1C2C3, .edx = 0xD0D1D2D3, .ebx = 0xB0B1B2B3, .esp = 0x77770000 | SP, .ebp = 0xE0E1E2E3,
		.esi = 0x50515253, .edi = 0xD1D2D3D4, .ip = ORIGIN, .cs = CODE_AT >> 4, .eflags = 2, .ss = STACK_AT >> 4, .ds = DATA_AT >> 4,
		.es = EXTRA_AT >> 4, .fs = 0x1234, .gs = 0x5678, .protected_fs = 0x38, .idt_limit = 0x3FF,
	};
}

static struct real_state run_code(const u8 *code)
{
	struct real_state s = state_of(code);
	go(&s);
	return s;
}

/* Run to an exception at this offset of the code, which leaves the stack pointer as it was. */
static struct real_state expect(const char *name, struct real_state *s, u32 vector, u32 offset)
{
	u32 sp = s->esp;
	go(s);
	check_equal(name, s->vector << 16 | s->ip, vector << 16 | (ORIGIN + offset));
	if (vector != RUN_DONE)
		check_equal(name, s->esp, sp);
	return *s;
}

static void test_basics(void)
{
	struct real_state s = run_code(s_registers);
	check_equal("runs to its end", s.vector, RUN_DONE);
	check_equal("add ax, bx; cwde", s.eax, 0x5556);
	check_equal("add ecx, edx", s.ecx, 0xC0C1C2C3 + 0xD0D1D2D3);
	check_equal("mov bl, ah", s.ebx, 0xB0B1B255);
	check_equal("inc si", s.esi, 0x50515254);
	check_equal("dec edi", s.edi, 0xD1D2D3D3);
	check_equal("bswap ebp", s.ebp, 0xE3E2E1E0);
	check_equal("segments stay", (u32)s.ds << 16 | s.ss, (DATA_AT >> 4) << 16 | STACK_AT >> 4);
	check_equal("the stack pointer too", s.esp, 0x77770000 | SP);

	s = state_of(s_memory);
	s.ebx = 0xBBBB0006;
	s.esi = 0x000C0008;
	s.ebp = 0xFFFF0012;
	s.edi = 0xFFFFFFFE;
	*word_at(STACK_AT + 0xE) = 0x5AA5;
	s.esi = 8;
	*byte_at(DATA_AT + 0xFFFF) = 0x3C;
	go(&s);
	check_equal("[10h]", s.eax, 0xA0A1913C);
	check_equal("[bx + si + 2]", s.ecx, 0xC0C19190);
	check_equal("[bp + di - 2] is SS's", s.edx, 0xD0D15AA5);
	check_equal("mov ebx, [10h]", s.ebx, 0x93929190);
	check_equal("add word [14h]", *dword_at(DATA_AT + 0x14), 0x9796A6A5);
	check_equal("add dword [18h]", *dword_at(DATA_AT + 0x18), 0xACABAAA9);
	check_equal("es:[10h]", *word_at(EXTRA_AT + 0x10), 0x9190);
	check_equal("a 32-bit address", s.esi, 0xA1A0);
	s = run_code(s_code_write);
	check_equal("a write through CS", s.eax, 0xA0A11234);
	s = run_code(s_xlat);
	check_equal("xlat with a wrap", s.eax & 0xFF, *byte_at(DATA_AT + ((0xB2B3 + 0xA3) & 0xFFFF)));
}

static void test_limits(void)
{
	struct real_state s = state_of(s_word_at_limit);
	expect("a word at FFFFh: #GP", &s, 13, 0);
	s = state_of(s_dword_at_limit);
	expect("a dword at FFFDh: #GP", &s, 13, 0);
	s = run_code(s_dword_below_limit);
	check_equal("a dword at FFFCh", s.ebx, 0xA0A1A2A3);
	s = state_of(s_stack_at_limit);
	expect("a word at FFFFh of the stack: #SS", &s, 12, 3);
	s = state_of(s_wide_address);
	s.ebx = 0x10000;
	expect("a 32-bit address beyond: #GP", &s, 13, 0);
	s = state_of(s_wide_address);
	s.ebx = 0xFFFFFFFF;
	expect("one that wraps: #GP", &s, 13, 0);
	s = state_of(s_string_at_limit);
	expect("stosw at FFFFh: #GP", &s, 13, 3);
	s = state_of(s_rep_at_limit);
	expect("rep stosw to the limit: #GP", &s, 13, 6);
	check_equal("after two words", (s.edi & 0xFFFF) << 16 | (s.ecx & 0xFFFF), 0xFFFF0002);
	/* What lies behind the limit, or where IP would wrap to, for an emulator that goes there: INT3. */
	s = state_of(s_jump_to_end);
	memset((void *)CODE_AT, 0xCC, ORIGIN);
	memset((void *)(CODE_AT + 0x10000), 0xCC, 0x3000);
	go(&s);
	check_equal("beyond the last byte of CS: #GP", s.vector, 13);
	check_equal("which has run", s.eax, 0xA0A1A2A4);
	s = state_of(s_jump_beyond);
	expect("a 32-bit jump beyond: #GP", &s, 13, 0);
	s = state_of(s_call_beyond);
	expect("a 32-bit call beyond: #GP", &s, 13, 6);
}

static void test_transfers(void)
{
	struct real_state s = state_of(s_call_near);
	s.esp = 0x77770000 | SP;
	go(&s);
	check_equal("call pushes its return address", s.eax, 0xA0A10103);
	check_equal("and returns", s.ecx, 0xC0C1C2C4);
	check_equal("indirect call: SP", s.edx, 0xD0D10FFE);
	check_equal("ret 4", s.esp, 0x77771004);
	s = run_code(s_call_far);
	check_equal("far call: CS", s.eax, 0xA0A12010);
	check_equal("far call through memory: SP", s.ebx, 0xB0B10FFC);
	check_equal("far call of 32 bits: SP", s.ecx, 0xC0C10FF8);
	check_equal("far returns", s.esp, 0x77771000);
	s = run_code(s_loops);
	check_equal("loop counts CX", s.eax, 0xA0A10003);
	check_equal("jcxz and jecxz", s.ebx, 0xB0B1B3B3);
	check_equal("loop counts ECX; loopne", s.edx, 0xD0D102D5);
	check_equal("CX behind loopne", s.ecx, 3);
	s = state_of(s_where);
	go(&s);
	check_equal("IP through one CS", s.eax, 0xA0A10103);
	/* The same bytes through other bases: many, and each with another IP. */
	u32 wrong = 0;
	for (u32 i = 0; i < 3000; i++) {
		s.cs = (u16)((CODE_AT >> 4) + i % 5);
		s.ip = (u16)(ORIGIN - 16 * (i % 5));
		s.eax = 0;
		go(&s);
		wrong += s.eax != ORIGIN + 3 - 16 * (i % 5);
	}
	check_equal("IP through five: wrong", wrong, 0);
	s = run_code(s_rewrites);
	check_equal("code that rewrites itself", s.eax, 0xA0A11113);
}

static void test_strings(void)
{
	struct real_state s = run_code(s_strings);
	check_equal("rep movsw", *dword_at(EXTRA_AT + 0x20), 0x93929190);
	check_equal("lodsb, stosw", *word_at(EXTRA_AT + 0x28), 0xA298);
	check_equal("rep stosb over the end", (u32)*word_at(EXTRA_AT + 0xFFFE) << 16 | *word_at(EXTRA_AT), 0x77777777);
	check_equal("lodsb at FFFFh: SI", s.esi, 0x50510000);
	check_equal("cmpsb: DI", s.edi, 0xD1D20028);
	check_equal("cmpsb: CX", s.ecx, 0xC0C10000);
}

static void test_interrupts(void)
{
	struct real_state s = state_of(s_interrupt);
	memcpy((void *)(CODE_AT + 0x800), s_interrupt_handler, 64);
	vector_set(0x60, CODE_AT >> 4, 0x800);
	go(&s);
	check_equal("int pushes flags with IF", s.edx & 0xFFFF, 0x202);
	check_equal("and clears IF", s.ecx & 0xFFFF, 2);
	check_equal("three words", s.ebp & 0xFFFF, SP - 6);
	check_equal("iret", s.esp, 0x77771000);
	check_equal("IF again", s.eflags & 0x200, 0x200);
	s = state_of(s_timer);
	memcpy((void *)(CODE_AT + 0x800), s_timer_handler, 64);
	/* As the firmware left it, or not at all. */
	static const u8 commands[] = {0x11, 0x08, 0x04, 0x01};
	out8(0x20, commands[0]);
	for (unsigned i = 1; i < sizeof commands; i++) out8(0x21, commands[i]);
	out8(0x21, 0xFF);
	vector_set(8, CODE_AT >> 4, 0x800);
	go(&s);
	out8(0x21, 0xFF);
	check_equal("the timer's interrupts end hlt", s.eax, 5);
	s = state_of(s_single_step);
	s.ebp = SP - 2;
	go(&s);
	check_equal("a single step", s.vector << 16 | s.ip, 1 << 16 | (ORIGIN + 7));
	check_equal("one", s.eax, 0xA0A1A2A4);
	s = state_of(s_divide);
	expect("#DE", &s, 0, 2);
	s = state_of(s_bound);
	s.eax = 0x1111;
	expect("#BR", &s, 5, 0);
	s = run_code(s_into);
	check_equal("into", s.vector << 16 | s.ip, 4 << 16 | (ORIGIN + 5));
	static const u8 undefined[][8] = {
		{0x63, 0xC8}, {0x0F, 0x02, 0xC1}, {0x0F, 0x03, 0xC1}, {0x0F, 0x00, 0xC0}, {0x0F, 0x00, 0xC8}, {0x0F, 0x00, 0xD0}, {0x0F, 0x00, 0xD8},
		{0x0F, 0x00, 0xE0}, {0x0F, 0x00, 0xE8}, {0x0F, 0x0B}, {0xC4, 0xC0}, {0x8E, 0xC8},
	};
	static const char *const names[] = {"arpl", "lar", "lsl", "sldt", "str", "lldt", "ltr", "verr", "verw", "ud2", "les of a register", "mov to CS"};
	for (unsigned i = 0; i < sizeof undefined / sizeof undefined[0]; i++) {
		u8 code[192];
		memset(code, 0x90, sizeof code);
		memcpy(code, undefined[i], 8);
		s = state_of(code);
		expect(names[i], &s, 6, 0);
	}
	s = state_of(s_sysenter);
	expect("sysenter", &s, 13, 0);
}

static void test_stack(void)
{
	struct real_state s = run_code(s_flags);
	check_equal("pushf", s.eax & 0xFFFF, 0xC53);
	check_equal("popf", s.ebx, 0xC53);
	check_equal("cld", s.ecx & 0xFFFF, 0x853);
	s = state_of(s_stack);
	s.esp = 0x77770000 | SP;
	go(&s);
	check_equal("push dword, pop words", (s.ebx & 0xFFFF) << 16, 0x12340000);
	check_equal("push sp", s.eax & 0xFFFF, s.esp & 0xFFFF);
	check_equal("enter", s.edx & 0xFFFF, ((s.esp - 8) & 0xFFFF));
	check_equal("push, pop memory", *word_at(DATA_AT + 0x40), 0x9190);
	check_equal("pop es", s.es, DATA_AT >> 4);
	s = state_of(s_stack_wraps);
	s.esp = 0x77770000;
	go(&s);
	check_equal("push at SP 0: SP", s.eax & 0xFFFF, 0xFFFA);
	check_equal("pop", s.ebx, 0x22222222);
	check_equal("pop to SP 0", s.ecx & 0xFFFF, 0x1111);
	check_equal("ESP's upper half stays", s.esp, 0x77770000);
}

static void test_system(void)
{
	struct real_state s = run_code(s_tables);
	check_equal("sgdt", *word_at(DATA_AT + 0x40), sizeof gdt - 1);
	check_equal("sgdt: base", *dword_at(DATA_AT + 0x42), (u32)gdt);
	check_equal("sidt", *word_at(DATA_AT + 0x48), 0x3FF);
	check_equal("smsw: PE", s.eax & 1, 0);
	check_equal("mov from cr0: PE", s.ebx & 1, 0);
	s = run_code(s_pointers);
	check_equal("les", (s.ebx & 0xFFFF) << 16 | (s.eax & 0xFFFF), 0x91909392);
	check_equal("lfs of 32 bits", s.ecx, 0x93929190);
	check_equal("mov edx, fs", s.edx, 0x9594);
	check_equal("mov to memory", *word_at(DATA_AT + 0x50), 0x9594);
	s = run_code(s_loads);
	check_equal("mov ds, bx", s.eax, 0xA0A12120);
	check_equal("mov ds, [m] through DS", s.ecx, 0xC0C1A1A0);
	check_equal("pop fs", s.edx, 0xD0D12322);
	check_equal("pop gs of 32 bits", s.esi, 0x50512524);
	check_equal("selectors", (s.edi & 0xFFFF) | (u32)s.fs << 16, 0x38003800);
	check_equal("the stack behind them", s.esp, 0x77770000 | SP);
	s = state_of(s_unreal);
	s.protected_fs = DATA0;
	s.fs = 0;
	s.ebx = UNREAL_AT;
	s.esi = UNREAL_AT + 4 - 0x30000;
	*dword_at(UNREAL_AT) = 0x600DF00D;
	go(&s);
	check_equal("a segment of 4 GiB: read", s.eax, 0x600DF00D);
	check_equal("a segment of 4 GiB: write", *dword_at(UNREAL_AT + 4), s.edx);
	check_equal("it keeps its limit", s.ecx, 0x600DF00D);
	s = run_code(s_environment);
	check_equal("fnstenv: control and status", *dword_at(DATA_AT + 0x60), 0x3800037F);
	s = run_code(s_wide_environment);
	check_equal("fnstenv of 32 bits: no selector", *dword_at(DATA_AT + 0x78), 0);
	s = run_code(s_environment);
	check_equal("fnstenv: tags, 14 bytes", (u32)*word_at(DATA_AT + 0x64) << 16 | *word_at(DATA_AT + 0x6E), 0x3FFFEFEE);
}

void guest_main(void)
{
	real_init();
	test_basics();
	test_limits();
	test_transfers();
	test_strings();
	test_interrupts();
	test_stack();
	test_system();
	struct real_state s = state_of(s_count);
	s.edi = 2000000;
	go(&s);
	check_equal("a long loop", s.eax, 2000000);
	check_equal("still in protected mode", READ_CR(0) & 1, 1);
}
