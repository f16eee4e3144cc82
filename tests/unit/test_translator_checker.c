/* The check of host_code.h must be able to fail: code that would escape is refused, and so is every single flipped bit of a soft lookup. */
#include <stdio.h>

#include "host_code.h"
#include "tests/shim/test.h"
#include "translator_fixture.h"

static struct host_code checked;

static const char *check_bytes(uint32_t mode, const uint8_t *bytes, uint32_t length, unsigned access)
{
	static const uint8_t nop = 0x90;
	struct translator_input in = fixture_input(&nop, 1, mode);
	int32_t to_lookup = (int32_t)(fixture_stubs.lookup_slow - (FIXTURE_CODE_PC + length + 5));

	memcpy(fixture_code, bytes, length);
	fixture_code[length] = 0xE9;
	memcpy(fixture_code + length + 1, &to_lookup, 4);
	fixture_out.code_length = length + 5;
	fixture_out.slot_count = 0;
	fixture_out.row_count = 1;
	fixture_out.rows[0] = (struct side_row){.access = access & 63, .eip = in.eip};
	return host_check(&checked, &in, &fixture_out);
}

#define READ4 (ROW_READ | 3 << ROW_SIZE_SHIFT)
#define WRITE4 (ROW_WRITE | 3 << ROW_SIZE_SHIFT)
#define WRITE8 (ROW_WRITE | 4 << ROW_SIZE_SHIFT)
#define SOFT4 (ROW_WRITE | ROW_SOFT | 3 << ROW_SIZE_SHIFT)

struct escape {
	const char *what;
	uint8_t bytes[24];
	uint8_t length;
	uint8_t access;
};

static const struct escape escapes[] = {
	{"syscall", {0x0F, 0x05}, 2, 0},
	{"sysenter", {0x0F, 0x34}, 2, 0},
	{"int 80h", {0xCD, 0x80}, 2, 0},
	{"int3", {0xCC}, 1, 0},
	{"in al, dx", {0xEC}, 1, 0},
	{"hlt", {0xF4}, 1, 0},
	{"cli", {0xFA}, 1, 0},
	{"std", {0xFD}, 1, 0},
	{"popfq", {0x9D}, 1, 0},
	{"pushfq", {0x9C}, 1, 0},
	{"push rax", {0x50}, 1, 0},
	{"pop rax", {0x58}, 1, 0},
	{"cpuid", {0x0F, 0xA2}, 2, 0},
	{"wrgsbase rax", {0xF3, 0x48, 0x0F, 0xAE, 0xD8}, 5, 0},
	{"rdfsbase eax", {0xF3, 0x0F, 0xAE, 0xC0}, 4, 0},
	{"rdpkru", {0x0F, 0x01, 0xEE}, 3, 0},
	{"wrpkru", {0x0F, 0x01, 0xEF}, 3, 0},
	{"xgetbv", {0x0F, 0x01, 0xD0}, 3, 0},
	{"vmcall", {0x0F, 0x01, 0xC1}, 3, 0},
	{"rdtscp", {0x0F, 0x01, 0xF9}, 3, 0},
	{"clflush [rax]", {0x0F, 0xAE, 0x38}, 3, 0},
	{"fxsave gs:[eax]", {0x65, 0x67, 0x0F, 0xAE, 0x00}, 5, 0},
	{"fnsave gs:[eax]", {0x65, 0x67, 0xDD, 0x30}, 4, 0},
	{"fldenv gs:[eax]", {0x65, 0x67, 0xD9, 0x20}, 4, 0},
	{"xsave gs:[eax]", {0x65, 0x67, 0x0F, 0xAE, 0x20}, 5, 0},
	{"rdpid eax", {0xF3, 0x0F, 0xC7, 0xF8}, 4, 0},
	{"lgdt gs:[eax]", {0x65, 0x67, 0x0F, 0x01, 0x10}, 5, 0},
	{"mov cr3, rax", {0x0F, 0x22, 0xD8}, 3, 0},
	{"mov ds, eax", {0x8E, 0xD8}, 2, 0},
	{"mov eax, ds", {0x8C, 0xD8}, 2, 0},
	{"stosb", {0xAA}, 1, 0},
	{"rep movsb", {0xF3, 0xA4}, 2, 0},
	{"lodsd with 67h", {0x67, 0xAD}, 2, READ4},
	{"xlat", {0xD7}, 1, ROW_READ | 1 << ROW_SIZE_SHIFT},
	{"maskmovq mm0, mm1", {0x0F, 0xF7, 0xC1}, 3, WRITE8},
	{"leave", {0xC9}, 1, 0},
	{"retf", {0xCB}, 1, 0},
	{"iretq", {0x48, 0xCF}, 2, 0},
	{"mov r8, r9; ret", {0x4D, 0x8B, 0xC1, 0xC3}, 4, 0},
	{"ret 8", {0xC2, 8, 0}, 3, 0},
	{"jmp rax", {0xFF, 0xE0}, 2, 0},
	{"call r8", {0x41, 0xFF, 0xD0}, 3, 0},
	{"jmp gs:[eax]", {0x65, 0x67, 0xFF, 0x20}, 4, 0},
	{"a jump into an instruction", {0xEB, 1, 0xB8, 0, 0, 0, 0}, 7, 0},
	{"a jump out of the block", {0xE9, 0, 0, 0x10, 0}, 5, 0},
	{"a branch straight to the callout stub", {0x0F, 0x84, 0xFA, 0xBF, 0xFF, 0xFF}, 6, 0},
	{"mov eax, [rax]", {0x8B, 0x00}, 2, READ4},
	{"mov eax, [eax]", {0x67, 0x8B, 0x00}, 3, READ4},
	{"mov eax, gs:[rax]", {0x65, 0x8B, 0x00}, 3, READ4},
	{"mov eax, fs:[eax]", {0x64, 0x67, 0x8B, 0x00}, 4, READ4},
	{"mov eax, [rip]", {0x8B, 0x05, 0, 0, 0, 0}, 6, READ4},
	{"mov eax, gs:[eip]", {0x65, 0x67, 0x8B, 0x05, 0, 0, 0, 0}, 8, READ4},
	{"mov eax, [disp32]", {0x8B, 0x04, 0x25, 0, 0, 1, 0}, 7, READ4},
	{"mov eax, gs:[r12d]", {0x65, 0x67, 0x41, 0x8B, 0x04, 0x24}, 6, READ4},
	{"mov eax, gs:[esp]", {0x65, 0x67, 0x8B, 0x04, 0x24}, 5, READ4},
	{"mov eax, [rsp]", {0x8B, 0x04, 0x24}, 3, READ4},
	{"mov eax, [r13 + rax]", {0x41, 0x8B, 0x44, 0x05, 0}, 5, READ4},
	{"mov eax, [r13 + 2 MiB]", {0x41, 0x8B, 0x85, 0, 0, 0x20, 0}, 7, READ4},
	{"mov r13d, eax; mov eax, [r13]", {0x44, 0x8B, 0xE8, 0x41, 0x8B, 0x45, 0}, 7, READ4},
	{"mov r13d, eax and out", {0x44, 0x8B, 0xE8}, 3, 0},
	{"mov r13, r9 and out", {0x4D, 0x8B, 0xE9}, 3, 0},
	{"lea r13, [r13 + 4] without an access", {0x4D, 0x8D, 0x6D, 4}, 4, 0},
	{"mov eax, [r13]; lea r13, [r13 + 4], twice", {0x41, 0x8B, 0x45, 0, 0x4D, 0x8D, 0x6D, 4, 0x4D, 0x8D, 0x6D, 4}, 12, READ4},
	{"mov eax, [r13]; lea r13, [r13 + 1000h]", {0x41, 0x8B, 0x45, 0, 0x4D, 0x8D, 0xAD, 0, 0x10, 0, 0}, 11, READ4},
	{"mov eax, [r13 + 1000h]; lea r13, [r13 + 4]", {0x41, 0x8B, 0x85, 0, 0x10, 0, 0, 0x4D, 0x8D, 0x6D, 4}, 11, READ4},
	{"jz over mov eax, [r13]; lea r13, [r13 + 4]", {0x74, 4, 0x41, 0x8B, 0x45, 0, 0x4D, 0x8D, 0x6D, 4}, 10, READ4},
	{"lea r13, [r15 + r9], R9 unknown", {0x4F, 0x8D, 0x2C, 0x0F}, 4, 0},
	{"mov eax, [r15 + r13]", {0x43, 0x8B, 0x04, 0x2F}, 4, READ4},
	{"mov eax, [r8]", {0x41, 0x8B, 0x00}, 3, READ4},
	{"mov eax, [r9] without a lookup", {0x41, 0x8B, 0x01}, 3, SOFT4},
	{"mov rax, gs:[eax]: 8 bytes", {0x65, 0x67, 0x48, 0x8B, 0x00}, 5, READ4},
	{"a store that its row calls a read", {0x65, 0x67, 0x89, 0x00}, 4, READ4},
	{"an access without a row", {0x65, 0x67, 0x8B, 0x00}, 4, 0},
	{"bts gs:[eax], ecx", {0x65, 0x67, 0x0F, 0xAB, 0x08}, 5, WRITE4},
	{"bts gs:[eax], r10d uncut", {0x65, 0x67, 0x44, 0x0F, 0xAB, 0x10}, 6, WRITE4},
	{"mov eax, [r12 + gpr]", {0x41, 0x8B, 0x04, 0x24}, 4, 0},
	{"mov [r12 + tables], rax", {0x49, 0x89, 0x44, 0x24, 0x78}, 5, 0},
	{"mov eax, [r12 + rax]", {0x41, 0x8B, 0x44, 0x04, 0x20}, 5, 0},
	{"mov [r14 + exec], eax", {0x41, 0x89, 0x86, 0xF4, 0xFF, 0xFF, 0}, 7, 0},
	{"mov rcx, [r14 + r9 * 8] with any index", {0x4B, 0x8B, 0x4C, 0xCE, 0xF4}, 5, 0},
	{"a table's slot by an index of 32 bits", {0x44, 0x8B, 0xC0, 0x44, 0x8B, 0xC8, 0x4D, 0x8B, 0x5C, 0x24, 0x68, 0x4D, 0x8D, 0x9B, 0, 0x80, 4, 0, 0x43, 0xFF, 0x24, 0xCB}, 22, 0},
	{"a table's slots beyond the last", {0x44, 0x8B, 0xC0, 0x44, 0x0F, 0xB6, 0xC8, 0x4D, 0x8B, 0x5C, 0x24, 0x68, 0x4D, 0x8D, 0x9B, 0, 0xF9, 5, 0, 0x43, 0xFF, 0x24, 0xCB}, 23, 0},
	{"a table's slots before the first", {0x44, 0x8B, 0xC0, 0x44, 0x0F, 0xB6, 0xC8, 0x4D, 0x8B, 0x5C, 0x24, 0x68, 0x4D, 0x8D, 0x9B, 0, 0x40, 4, 0, 0x43, 0xFF, 0x24, 0xCB}, 23, 0},
	{"the middles of a table's slots", {0x44, 0x8B, 0xC0, 0x44, 0x0F, 0xB6, 0xC8, 0x4D, 0x8B, 0x5C, 0x24, 0x68, 0x4D, 0x8D, 0x9B, 4, 0x80, 4, 0, 0x43, 0xFF, 0x24, 0xCB}, 23, 0},
	{"a slot's middle", {0x44, 0x8B, 0xC0, 0x4D, 0x8B, 0x5C, 0x24, 0x68, 0x4D, 0x8D, 0x9B, 4, 0, 4, 0, 0x41, 0xFF, 0x23}, 18, 0},
	{"jz to the load of a slot's address", {0x44, 0x8B, 0xC0, 0x74, 5, 0x4D, 0x8B, 0x5C, 0x24, 0x68, 0x4D, 0x8D, 0x9B, 0, 0, 4, 0, 0x41, 0xFF, 0x23}, 20, 0},
	{"mov eax, [r15 + rcx * 2]", {0x41, 0x8B, 0x04, 0x4F}, 4, READ4},
	{"mov eax, [r15 + r8], R8 unknown", {0x43, 0x8B, 0x04, 0x07}, 4, READ4},
	{"mov eax, [r15 + r12]", {0x43, 0x8B, 0x04, 0x27}, 4, READ4},
	{"mov rcx, r9; mov eax, [r15 + rcx]", {0x49, 0x8B, 0xC9, 0x41, 0x8B, 0x04, 0x0F}, 7, READ4},
	{"mov rcx, r9 and out", {0x49, 0x8B, 0xC9}, 3, 0},
	{"lea rax, [rax + rcx]; mov eax, [r15 + rax]", {0x48, 0x8D, 0x04, 0x08, 0x41, 0x8B, 0x04, 0x07}, 8, READ4},
	{"jz over mov r8d, eax; mov eax, [r15 + r8]", {0x74, 0x03, 0x44, 0x8B, 0xC0, 0x43, 0x8B, 0x04, 0x07}, 9, READ4},
	{"mov r12, rax", {0x4C, 0x8B, 0xE0}, 3, 0},
	{"mov rax, r14", {0x49, 0x8B, 0xC6}, 3, 0},
	{"inc r15", {0x49, 0xFF, 0xC7}, 3, 0},
	{"mov rsp, rax", {0x48, 0x8B, 0xE0}, 3, 0},
	{"mov eax, esp", {0x8B, 0xC4}, 2, 0},
	{"lea rsp, [rsp - 8]", {0x48, 0x8D, 0x64, 0x24, 0xF8}, 5, 0},
	{"xchg eax, esp", {0x94}, 1, 0},
	{"add spl, al", {0x40, 0x00, 0xC4}, 3, 0},
	{"movaps xmm0, xmm8", {0x41, 0x0F, 0x28, 0xC0}, 4, 0},
	{"repz bt", {0xF3, 0x0F, 0xA3, 0xC1}, 4, 0},
	{"a stray F2 before an add", {0xF2, 0x01, 0xC8}, 3, 0},
	{"xacquire lock inc gs:[eax]", {0xF2, 0xF0, 0x65, 0x67, 0xFF, 0x00}, 6, WRITE4},
	{"a stray 66 before a byte add", {0x66, 0x00, 0xC8}, 3, 0},
	{"a stray CS before a branch", {0x2E, 0x74, 0x00}, 3, 0},
	{"a stray GS", {0x65, 0x01, 0xC8}, 3, 0},
	{"vzeroupper", {0xC5, 0xF8, 0x77}, 3, 0},
	{"vmovups xmm0, xmm1", {0xC5, 0xF8, 0x10, 0xC1}, 4, 0},
	{"tzmsk, which is XOP-encoded", {0x8F, 0xE9, 0x78, 0x01, 0xE1}, 5, 0},
	{"no instruction", {0x06}, 1, 0},
};

TEST(translator_checker, refuses_escapes)
{
	for (size_t i = 0; i < ARRAY_LEN(escapes); i++)
		if (!check_bytes(MODE_USER, escapes[i].bytes, escapes[i].length, escapes[i].access))
			FAIL("%s passes", escapes[i].what);
}

/* Where the window is at 0. */
static const struct escape low_escapes[] = {
	{"mov eax, [rcx + rdx]", {0x8B, 0x04, 0x11}, 3, READ4},
	{"mov eax, [rcx * 2]", {0x8B, 0x04, 0x4D, 0, 0, 0, 0}, 7, READ4},
	{"mov eax, [rcx - 2 MiB]", {0x8B, 0x81, 0, 0, 0xE0, 0xFF}, 6, READ4},
	{"mov eax, gs:[ecx]", {0x65, 0x67, 0x8B, 0x01}, 4, READ4},
	{"mov eax, fs:[ecx]", {0x64, 0x67, 0x8B, 0x01}, 4, READ4},
	{"mov r9d, [r12 + rax + 28h]", {0x45, 0x8B, 0x4C, 0x04, 0x28}, 5, 0},
	{"mov eax, [rcx], eight bytes by its row", {0x8B, 0x01}, 2, ROW_READ | 4 << ROW_SIZE_SHIFT},
	{"mov [rcx], eax, a load by its row", {0x89, 0x01}, 2, READ4},
	{"mov eax, [rsp]", {0x8B, 0x04, 0x24}, 3, READ4},
	{"mov eax, [r9]", {0x41, 0x8B, 0x01}, 3, READ4},
	{"mov eax, [r10]", {0x41, 0x8B, 0x02}, 3, READ4},
	{"mov eax, [r11d]", {0x67, 0x41, 0x8B, 0x03}, 4, READ4},
	{"mov r8d, eax; mov eax, [r8]", {0x44, 0x8B, 0xC0, 0x41, 0x8B, 0x00}, 6, READ4},
	{"mov rcx, r9; mov eax, [rcx]", {0x49, 0x8B, 0xC9, 0x8B, 0x01}, 5, READ4},
	{"mov eax, [rip]", {0x8B, 0x05, 0, 0, 0, 0}, 6, READ4},
	{"mov eax, [80000000h]", {0x8B, 0x04, 0x25, 0, 0, 0, 0x80}, 7, READ4},
};

TEST(translator_checker, refuses_escapes_at_0)
{
	for (size_t i = 0; i < ARRAY_LEN(low_escapes); i++)
		if (!check_bytes(MODE_AT_0, low_escapes[i].bytes, low_escapes[i].length, low_escapes[i].access))
			FAIL("%s passes", low_escapes[i].what);
}

/* The refusals above must be for what they are made for. */
TEST(translator_checker, accepts_their_harmless_kin)
{
	static const struct escape harmless[] = {
		{"nothing", {0}, 0, 0},
		{"a table's slot", {0x44, 0x8B, 0xC0, 0x44, 0x0F, 0xB6, 0xC8, 0x4D, 0x8B, 0x5C, 0x24, 0x68, 0x4D, 0x8D, 0x9B, 0, 0x80, 4, 0, 0x43, 0xFF, 0x24, 0xCB}, 23, 0},
		{"a constant slot", {0x44, 0x8B, 0xC0, 0x4D, 0x8B, 0x5C, 0x24, 0x68, 0x4D, 0x8D, 0x9B, 0, 0, 4, 0, 0x41, 0xFF, 0x23}, 18, 0},
		{"mov eax, gs:[eax]", {0x65, 0x67, 0x8B, 0x00}, 4, READ4},
		{"mov gs:[eax], eax", {0x65, 0x67, 0x89, 0x00}, 4, WRITE4},
		{"lock inc gs:[eax]", {0xF0, 0x65, 0x67, 0xFF, 0x00}, 5, WRITE4},
		{"mov eax, gs:[r13d]", {0x65, 0x67, 0x41, 0x8B, 0x45, 0}, 6, READ4},
		{"a jump to an instruction", {0xEB, 5, 0xB8, 0, 0, 0, 0}, 7, 0},
		{"mov byte [r12 + if_flag], 0", {0x41, 0xC6, 0x44, 0x24, 0x2C, 0}, 6, 0},
		{"mov eax, [r15 + rcx]", {0x41, 0x8B, 0x04, 0x0F}, 4, READ4},
		{"mov r8d, eax; mov eax, [r15 + r8]", {0x44, 0x8B, 0xC0, 0x43, 0x8B, 0x04, 0x07}, 7, READ4},
		{"mov r10, rcx; mov rcx, r9; mov rcx, r10", {0x4C, 0x8B, 0xD1, 0x49, 0x8B, 0xC9, 0x49, 0x8B, 0xCA}, 9, 0},
		{"mov eax, [r13]", {0x41, 0x8B, 0x45, 0}, 4, READ4},
		{"mov eax, [r13]; lea r13, [r13 + 4]", {0x41, 0x8B, 0x45, 0, 0x4D, 0x8D, 0x6D, 4}, 8, READ4},
		{"lea r9d, [r13 + 64]; lea r13, [r15 + r9]", {0x45, 0x8D, 0x4D, 0x40, 0x4F, 0x8D, 0x2C, 0x0F}, 8, 0},
		{"lea r13, [r15 + rbp + 4]; lea r13, [r13 + 4]", {0x4D, 0x8D, 0x6C, 0x2F, 4, 0x4D, 0x8D, 0x6D, 4}, 9, 0},
		{"mov r13w, ax", {0x66, 0x44, 0x8B, 0xE8}, 4, 0},
		{"movaps xmm0, xmm7", {0x0F, 0x28, 0xC7}, 3, 0},
		{"add ax, cx", {0x66, 0x01, 0xC8}, 3, 0},
		{"mov r8d, eax; ret", {0x44, 0x8B, 0xC0, 0xC3}, 4, 0},
	};

	CHECK_EQ(offsetof(struct vcpu, if_flag), 44);
	for (size_t i = 0; i < ARRAY_LEN(harmless); i++) {
		const char *wrong = check_bytes(MODE_USER, harmless[i].bytes, harmless[i].length, harmless[i].access);
		if (wrong)
			FAIL("%s: %s", harmless[i].what, wrong);
	}
}

TEST(translator_checker, accepts_their_harmless_kin_at_0)
{
	static const struct escape harmless[] = {
		{"mov eax, [rcx]", {0x8B, 0x01}, 2, READ4},
		{"mov [rcx - 1 MiB], eax", {0x89, 0x81, 0, 0, 0xF0, 0xFF}, 6, WRITE4},
		{"mov eax, [ecx + edx]", {0x67, 0x8B, 0x04, 0x11}, 4, READ4},
		{"mov eax, [r13d + ecx * 4]", {0x67, 0x41, 0x8B, 0x44, 0x8D, 0}, 6, READ4},
	};

	for (size_t i = 0; i < ARRAY_LEN(harmless); i++) {
		const char *wrong = check_bytes(MODE_AT_0, harmless[i].bytes, harmless[i].length, harmless[i].access);
		if (wrong)
			FAIL("%s: %s", harmless[i].what, wrong);
		CHECK(check_bytes(MODE_TRAP, harmless[i].bytes, harmless[i].length, harmless[i].access));
	}
}

TEST(translator_checker, refuses_gs_in_supervisor_code)
{
	static const uint8_t bytes[] = {0x65, 0x67, 0x8B, 0x00};

	CHECK(!check_bytes(MODE_USER, bytes, sizeof(bytes), READ4));
	CHECK(check_bytes(MODE_FLAT, bytes, sizeof(bytes), READ4));
}

static uint32_t offset_of_row(unsigned access_bit)
{
	for (uint32_t i = 0; i < fixture_out.row_count; i++)
		if (fixture_out.rows[i].access & access_bit)
			return fixture_out.rows[i].host_offset;
	return 0;
}

TEST(translator_checker, refuses_a_lookup_with_one_bit_flipped)
{
	static const uint8_t byte_load[] = {0x8A, 0x01}, load[] = {0x8B, 0x01}, store[] = {0x89, 0x01};

	struct { const char *what; const uint8_t *guest; } cases[] = {{"mov al, [ecx]", byte_load}, {"mov eax, [ecx]", load}, {"mov [ecx], eax", store}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct translator_input in = fixture_input(cases[i].guest, 2, MODE_FLAT | MODE_SOFT);
		REQUIRE(translator_translate(&in, &fixture_out) == 0);
		uint32_t from = offset_of_row(ROW_READ | ROW_WRITE), to = offset_of_row(ROW_SOFT);
		REQUIRE(from == 3 && to > from); /* the lea that makes R8D is the guest's business */
		for (uint32_t byte = 0; byte < to - from; byte++)
			for (unsigned bit = 0; bit < 8; bit++) {
				fixture_code[from + byte] ^= (uint8_t)(1u << bit);
				if (!host_check(&checked, &in, &fixture_out))
					FAIL("%s: bit %u of host byte %u flipped goes unnoticed", cases[i].what, bit, from + byte);
				fixture_code[from + byte] ^= (uint8_t)(1u << bit);
			}
		CHECK(!host_check(&checked, &in, &fixture_out));
	}
}

/* Is there a repetition, and the MOVs behind it in the encoding that the translator uses? */
static bool repeats_as_before(uint32_t repeat_at, uint32_t end)
{
	const struct host_insn *i = host_insn_at(&checked, repeat_at);

	if (!i || !host_repeats(i))
		return false;
	for (i++; i->at < end; i++)
		if (i->d.opcode != 0x8B)
			return false;
	return true;
}

/* The scale in an SIB byte without an index. */
static bool means_nothing(uint32_t byte, unsigned bit)
{
	const struct host_insn *i = checked.insn;

	while (i->end <= byte) i++;
	return bit >= 6 && i->d.raw.sib.offset && i->at + i->d.raw.sib.offset == byte && i->d.raw.sib.index == 4 && !i->d.raw.rex.X;
}

/* What the check of a repetition looks at, bit by bit. The size of its elements is none of its business. */
TEST(translator_checker, refuses_a_repetition_with_one_bit_flipped)
{
	static const uint8_t movs[] = {0xF3, 0xA5}, stos[] = {0xF3, 0xAB};
	const uint8_t *const guests[] = {movs, stos};

	for (size_t i = 0; i < ARRAY_LEN(guests); i++) {
		struct translator_input in = fixture_input(guests[i], 2, MODE_FLAT);
		REQUIRE(translator_translate(&in, &fixture_out) == 0);
		REQUIRE(!host_check(&checked, &in, &fixture_out));
		const struct host_insn *first = &checked.insn[0], *repeat = first;
		while (!host_repeats(repeat)) repeat++;
		uint32_t repeat_at = repeat->at, opcode_at = repeat->end - 1, end = repeat[i == 0 ? 2 : 1].end;
		for (uint32_t byte = first->at; byte < end; byte++)
			for (unsigned bit = byte == opcode_at; bit < 8; bit++) {
				fixture_code[byte] ^= (uint8_t)(1u << bit);
				if (!host_check(&checked, &in, &fixture_out) && repeats_as_before(repeat_at, end) && !means_nothing(byte, bit))
					FAIL("case %zu: bit %u of host byte %u flipped goes unnoticed", i, bit, byte);
				fixture_code[byte] ^= (uint8_t)(1u << bit);
			}
		CHECK(!host_check(&checked, &in, &fixture_out));
	}
}

static const uint32_t trap_modes[] = {MODE_TRAP, MODE_AT_0};

/* How many instructions a trap has. */
static unsigned trap_length(const struct translator_input *in)
{
	return in->mode & MODE_LOW ? 1 : 2;
}

static void flip_pad(const struct translator_input *in, const struct host_insn *pad)
{
	const struct host_insn *load = &pad[trap_length(in) - 1];
	uint32_t from = pad[0].at, to = load->end;

	REQUIRE(load->d.mnemonic == (in->mode & MODE_LOW ? ZYDIS_MNEMONIC_MOV : ZYDIS_MNEMONIC_MOVZX));
	for (uint32_t byte = from; byte < to; byte++)
		for (unsigned bit = 0; bit < 8; bit++) {
			fixture_code[byte] ^= (uint8_t)(1u << bit);
			if (!host_check(&checked, in, &fixture_out))
				FAIL("bit %u of host byte %u flipped goes unnoticed", bit, byte - from);
			fixture_code[byte] ^= (uint8_t)(1u << bit);
		}
	CHECK(!host_check(&checked, in, &fixture_out));
}

TEST(translator_checker, refuses_a_trap_pad_with_one_bit_flipped)
{
	static const uint8_t call[] = {0xE8, 0x10, 0, 0, 0, 0x90};

	for (size_t i = 0; i < ARRAY_LEN(trap_modes); i++) {
		struct translator_input in = fixture_input(call, sizeof(call), trap_modes[i]);
		in.max_instructions = 2;
		in.pad = true;
		REQUIRE(translator_translate(&in, &fixture_out) == 0);
		REQUIRE(!host_check(&checked, &in, &fixture_out));
		flip_pad(&in, checked.insn);
		const struct host_insn *call_insn = checked.insn;
		while (call_insn->d.mnemonic != ZYDIS_MNEMONIC_CALL) call_insn++;
		flip_pad(&in, call_insn + 1);
		in.mode &= ~MODE_TRAP_PADS;
		CHECK(host_check(&checked, &in, &fixture_out));
	}
}

/* A call that is done in place, if the code that it calls still is there. */
TEST(translator_checker, refuses_a_guard_with_one_bit_flipped)
{
	static const uint8_t call[] = {0xE8, 0x10, 0, 0, 0, 0x90};
	struct translator_input in;

	for (size_t i = 0; i < ARRAY_LEN(trap_modes); i++) {
		in = fixture_input(call, sizeof(call), trap_modes[i]);
		in.max_instructions = 2;
		in.peek = fixture_thunk;
		REQUIRE(translator_translate(&in, &fixture_out) == 0);
		REQUIRE(!host_check(&checked, &in, &fixture_out));
		const struct host_insn *load = checked.insn;
		while (host_row(&checked, load->at)->undo != UNDO_GUARD) load++;
		const struct host_insn *set = load + 1 + trap_length(&in);
		CHECK(set->d.mnemonic == ZYDIS_MNEMONIC_MOV && set->op[0].reg.value == ZYDIS_REGISTER_ESI && set->op[1].imm.value.u == in.eip + 5);
		flip_pad(&in, load + 1);
		in.peek = NULL;
		CHECK(host_check(&checked, &in, &fixture_out));
	}
	/* Whatever else may be behind the call, or where a return pad would compare, it is a call. */
	for (uint32_t mode = 0; mode < 3; mode++) {
		in = fixture_input(call, sizeof(call), mode == 0 ? MODE_TRAP & ~MODE_TRAP_PADS : mode == 1 ? MODE_TRAP | MODE_ONE : MODE_TRAP);
		in.peek = fixture_thunk;
		in.basic_blocks = mode == 2;
		REQUIRE(translator_translate(&in, &fixture_out) == 0);
		CHECK(fixture_out.slot_count);
		for (uint32_t i = 0; i < fixture_out.row_count; i++) CHECK(fixture_out.rows[i].undo != UNDO_GUARD);
	}
}

static void flip_exec_check(uint32_t mode)
{
	static const uint8_t nop = 0x90;
	struct translator_input in = fixture_input(&nop, 1, mode);

	in.check = in.pad = true;
	in.gfn = 0x1234;
	REQUIRE(translator_translate(&in, &fixture_out) == 0);
	REQUIRE(!host_check(&checked, &in, &fixture_out));
	for (uint32_t byte = fixture_out.checked; byte < fixture_out.body; byte++)
		for (unsigned bit = 0; bit < 8; bit++) {
			fixture_code[byte] ^= (uint8_t)(1u << bit);
			if (!host_check(&checked, &in, &fixture_out))
				FAIL("bit %u of host byte %u flipped goes unnoticed", bit, byte - fixture_out.checked);
			fixture_code[byte] ^= (uint8_t)(1u << bit);
		}
	CHECK(!host_check(&checked, &in, &fixture_out));
	in.gfn++;
	CHECK(host_check(&checked, &in, &fixture_out));
	in.gfn--;
	in.cs_base = PAGE_SIZE;
	CHECK(host_check(&checked, &in, &fixture_out));
}

TEST(translator_checker, refuses_an_exec_check_with_one_bit_flipped)
{
	flip_exec_check(MODE_FLAT);
	flip_exec_check(MODE_AT_0);
}

/* The side table's own rules. */
TEST(translator_checker, refuses_bad_rows_and_slots)
{
	static const uint8_t guest[] = {0x74, 0x10, 0xE9, 0x00, 0x20, 0x00, 0x00};
	struct translator_input in = fixture_input(guest, sizeof(guest), MODE_FLAT);

	in.max_instructions = 2;
	REQUIRE(translator_translate(&in, &fixture_out) == 0);
	CHECK(!host_check(&checked, &in, &fixture_out));
	struct translator_output good = fixture_out;
	REQUIRE(good.slot_count == 2 && good.row_count >= 2);

#define BREAK(change) \
	do { \
		change; \
		CHECK(host_check(&checked, &in, &fixture_out)); \
		fixture_out = good; \
	} while (0)
	BREAK(fixture_out.row_count = 0);
	BREAK(fixture_out.rows[0].host_offset = 1);
	BREAK(fixture_out.rows[1].host_offset = 0);
	BREAK(fixture_out.rows[1].host_offset++);
	BREAK(fixture_out.slots[0].rel32_offset++);
	BREAK(fixture_out.slots[1].rel32_offset--);
	BREAK(fixture_out.slots[1].target++);
	BREAK(fixture_out.slots[1] = fixture_out.slots[0]);
	BREAK(fixture_out.rows[0].esp = 1);
	BREAK(fixture_out.body++);
	BREAK(fixture_out.slot_count = 1);
	BREAK(fixture_out.code_length--);
	CHECK(!host_check(&checked, &in, &fixture_out));
}
