/* Unit tests of base/: log, statistics, disassembly. */
#include "base/abi.h"
#include "base/callout.h"
#include "base/disasm.h"
#include "base/library.h"
#include "base/log.h"
#include "base/stats.h"
#include "tests/shim/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What `write` prints to a stream, in static memory. */
static char printed[16384];

static FILE *start_printing(void)
{
	memset(printed, 0, sizeof(printed));
	return fmemopen(printed, sizeof(printed) - 1, "w");
}

static void reset_levels(void)
{
	const char *bad;
	log_configure("all:warn", &bad);
}

TEST(log, levels_start_at_warn)
{
	for (int part = 0; part < LOG_PARTS; part++) CHECK_EQ(log_levels[part], LOG_WARN);
}

TEST(log, configure_sets_the_named_parts_only)
{
	const char *bad = "";
	CHECK_EQ(log_configure("cache:debug,boot:error", &bad), 0);
	CHECK(bad == NULL);
	CHECK_EQ(log_levels[LOG_CACHE], LOG_DEBUG);
	CHECK_EQ(log_levels[LOG_BOOT], LOG_ERROR);
	CHECK_EQ(log_levels[LOG_SHADOW], LOG_WARN);
	reset_levels();
}

TEST(log, all_names_every_part_and_later_words_win)
{
	const char *bad;
	CHECK_EQ(log_configure("all:trace,cpu:info", &bad), 0);
	for (int part = 0; part < LOG_PARTS; part++) CHECK_EQ(log_levels[part], part == LOG_CPU ? LOG_INFO : LOG_TRACE);
	reset_levels();
}

TEST(log, configure_refuses_what_it_does_not_know_and_changes_nothing)
{
	static const struct {
		const char *spec;
		size_t bad_at;
	} cases[] = {
		{ "", 0 }, { "cache", 0 }, { "cache:", 6 }, { "cache:loud", 6 }, { "cash:info", 0 }, { "boot:info,", 10 },
		{ "boot:trace,:info", 11 }, { "boot:trace,cpu:infos", 15 }, { "boot:trace,c:info", 11 }, { "base:info:info", 5 },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *bad = NULL;
		CHECK_EQ(log_configure(cases[i].spec, &bad), -EINVAL);
		CHECK_EQ(bad - cases[i].spec, cases[i].bad_at);
		CHECK_EQ(log_levels[LOG_BOOT], LOG_WARN);
	}
}

/* Run LOG with stderr in a file and read it back. */
static void capture_log(char *text, size_t size)
{
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	dup2(fileno(file), STDERR_FILENO);
	LOG(LOG_CPU, LOG_WARN, "vector %d", 13);
	LOG(LOG_CPU, LOG_INFO, "hidden");
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(file);
	text[fread(text, 1, size - 1, file)] = 0;
	fclose(file);
}

TEST(log, a_line_names_part_and_level_and_lower_levels_are_silent)
{
	char text[256];
	capture_log(text, sizeof(text));
	CHECK_STR(text, "bt-vmm: cpu: warn: vector 13\n");
}

TEST(stats, text_shows_what_is_not_zero)
{
	struct stats s = { .links = 7 };
	s.callouts[CALLOUT_hlt] = 3;
	s.exits[EXIT_LOOKUP] = 5;
	FILE *out = start_printing();
	stats_print(&s, out, 0, NULL);
	fclose(out);
	CHECK_STR(printed, "             7  direct branches linked (chains)\n"
		"             5  exit lookup\n"
		"             3  callout hlt\n");
}

TEST(stats, json_is_one_object)
{
	struct stats s = { .links = 7, .halts = 0xFFFFFFFFFFFFFFFF };
	s.callouts[CALLOUT_pushf] = 1;
	s.callouts[CALLOUT_raise] = 2;
	s.exits[EXIT_ENTER] = 9;
	FILE *out = start_printing();
	stats_print(&s, out, 1, NULL);
	fclose(out);
	CHECK_STR(printed, "{\"links\": 7, \"halts\": 18446744073709551615, \"exits\": {\"enter\": 9}, "
		"\"callouts\": {\"pushf\": 1, \"raise\": 2}}\n");
}

TEST(stats, json_of_nothing_is_still_an_object)
{
	struct stats s = { 0 };
	FILE *out = start_printing();
	stats_print(&s, out, 1, NULL);
	fclose(out);
	CHECK_STR(printed, "{\"exits\": {}, \"callouts\": {}}\n");
}

TEST(library, functions_are_found_or_nothing_is)
{
	__typeof__(&abs) absolute = NULL;
	const struct library_symbol one[] = { { "abs", &absolute }, { "no_such_function", &absolute } };
	CHECK(library_load("libc.so.6", one, 1));
	CHECK_EQ(absolute(-3), 3);
	CHECK(!library_load("libc.so.6", one, 2));
	CHECK(!library_load("no-such-library.so.1", one, 1));
}

TEST(disasm, guest_code_is_32_bit)
{
	static const uint8_t code[] = { 0x40, 0x89, 0xd8, 0xc3 };
	FILE *out = start_printing();
	disasm_print(out, code, sizeof(code), 0xc0100000, DISASM_32);
	fclose(out);
	CHECK_STR(printed, "  c0100000  40                     inc eax\n"
		"  c0100001  89d8                   mov eax, ebx\n"
		"  c0100003  c3                     ret\n");
}

TEST(disasm, host_code_is_64_bit)
{
	/* mov eax, gs:[ecx + edx*4 + 8]: the window form of a guest access. */
	static const uint8_t code[] = { 0x65, 0x67, 0x8b, 0x44, 0x91, 0x08, 0x41, 0x89, 0xc4 };
	FILE *out = start_printing();
	disasm_print(out, code, sizeof(code), 0x7f0000001000, DISASM_64);
	fclose(out);
	CHECK_STR(printed, "  7f0000001000  65678b449108           mov eax, dword ptr gs:[ecx + edx*4 + 8]\n"
		"  7f0000001006  4189c4                 mov r12d, eax\n");
}

TEST(disasm, bytes_that_are_no_instruction_are_shown_one_by_one)
{
	/* A call cut short, behind it a nop that the call's operand would have swallowed. */
	static const uint8_t code[] = { 0xe8, 0x00, 0x90 };
	FILE *out = start_printing();
	disasm_print(out, code, sizeof(code), 0, DISASM_32);
	fclose(out);
	CHECK_STR(strstr(printed, ".byte 0xe8") ? "found" : printed, "found");
	CHECK(strstr(printed, "00000001") != NULL);
}

/* Emitted code relies on these: R14's low six bits are the page shift, one-byte displacements reach what it touches most. */
TEST(abi, layout_that_emitted_code_relies_on)
{
	CHECK_EQ(ABI_TABLES_BIAS, PAGE_SHIFT);
	CHECK(offsetof(struct vcpu, kick) < 128);
	CHECK(offsetof(struct vcpu, if_flag) < 128);
	CHECK_EQ(offsetof(struct vcpu, xmm) % 64, 0);
	CHECK_EQ(jump_index(UINT32_MAX), JUMP_SLOTS - 1);
	CHECK_EQ(ABI_WRITE_TABLE - ABI_READ_TABLE, 8 << 20);
	CHECK(ABI_EXEC_TABLE + (4 << 20) <= ABI_TABLES_SIZE);
}

TEST(vcpu, eflags_are_put_together_and_taken_apart)
{
	struct vcpu *v = aligned_alloc(64, sizeof(*v));
	memset(v, 0, sizeof(*v));
	vcpu_set_eflags(v, 0xFFFFFFFF, EFL_CF | EFL_ZF | EFL_IF | EFL_DF | EFL_IOPL | EFL_AC);
	CHECK_EQ(v->flags, EFL_CF | EFL_ZF);
	CHECK_EQ(v->eflags, EFL_IOPL | EFL_AC);
	CHECK_EQ(v->if_flag, 1);
	CHECK_EQ(v->df_flag, 1);
	CHECK_EQ(vcpu_eflags(v), EFL_FIXED | EFL_CF | EFL_ZF | EFL_IF | EFL_DF | EFL_IOPL | EFL_AC);
	vcpu_set_eflags(v, 0, EFL_IF | EFL_CF);
	CHECK_EQ(vcpu_eflags(v), EFL_FIXED | EFL_ZF | EFL_DF | EFL_IOPL | EFL_AC);
	free(v);
}

TEST(callout, word_keeps_its_fields_apart)
{
	uint32_t arg = CALLOUT_ARG(CALLOUT_raise, 15, 7, 2, SEG_GS, 2, 1, 1, 7);
	CHECK_EQ(CALLOUT_ID(arg), CALLOUT_raise);
	CHECK_EQ(CALLOUT_LEN(arg), 15);
	CHECK_EQ(CALLOUT_REG(arg), 7);
	CHECK_EQ(CALLOUT_SIZE(arg), 2);
	CHECK_EQ(CALLOUT_SEG(arg), SEG_GS);
	CHECK_EQ(CALLOUT_REP(arg), 2);
	CHECK_EQ(CALLOUT_A16(arg), 1);
	CHECK_EQ(CALLOUT_MEM(arg), 1);
	CHECK_EQ(CALLOUT_RM(arg), 7);
	CHECK_EQ(CALLOUT_REG(CALLOUT_ARG(0, 15, 0, 7, 7, 3, 1, 1, 15)), 0);
}
