/* Golden host code: what representative guest instructions become, to be read as well as compared. Each line is a host instruction; in
 * front of it stands what the side table says from there on. The code behind the main line (exits, soft misses) is left out.
 * BT_VMM_GOLDEN_UPDATE=FILE writes the file anew: then read the difference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "tests/shim/test.h"
#include "translator_fixture.h"

#define DIRECT MODE_FLAT
#define SOFT (MODE_FLAT | MODE_SOFT)
#define USER MODE_USER
#define TRAP MODE_TRAP
#define AT_0 MODE_AT_0
#define TLS (MODE_USER | MODE_WITH_SEG(SEG_GS, MODE_SEG_BASE))
#define REAL MODE_REAL
#define SMALL (MODE_SMALL | MODE_CS32)
#define CHECKED (MODE_USER | MODE_WITH_SEG(SEG_DS, MODE_SEG_GENERAL))

struct golden {
	const char *what, *form_name, *bytes, *expected;
	uint32_t mode;
};

#define GOLDEN(what, mode, bytes, expected) {what, #mode, bytes, expected, mode},
static const struct golden goldens[] = {
#include "../golden/translator.inc"
};

static uint32_t parse(const char *text, uint8_t *bytes)
{
	uint32_t length = 0;
	char *end;

	for (unsigned long byte = strtoul(text, &end, 16); end != text; byte = strtoul(text, &end, 16)) {
		bytes[length++] = (uint8_t)byte;
		text = end;
	}
	return length;
}

static void describe_row(const struct side_row *row, uint32_t eip, char *text, size_t size)
{
	static const char *const undo[32] = {
		[UNDO_RCX] = "rcx", [UNDO_ROTATE] = "rotate0", "rotate1", "rotate2", "rotate3", [UNDO_TARGET_R8] = "target", [UNDO_TARGET_R8_RCX] = "target+rcx",
		[UNDO_RDI] = "rdi", [UNDO_RAX] = "rax", [UNDO_SHADOW] = "shadow", [UNDO_EBP_R10] = "ebp", [UNDO_EDI_R9] = "edi", [UNDO_STEP] = "step",
		[UNDO_PUSH] = "push", [UNDO_POP] = "pop", [UNDO_DONE] = "done", [UNDO_STEP16] = "step16", [UNDO_CALL] = "call", [UNDO_REPEAT] = "repeat",
		[UNDO_SHADOW_RCX] = "shadow rcx", [UNDO_SHADOW_RAX] = "shadow rax", [UNDO_ENTRY] = "entry", [UNDO_GUARD] = "guard",
	};
	unsigned bytes = row_sizes[row->access >> ROW_SIZE_SHIFT];
	int used = snprintf(text, size, "+%u", row->eip - eip);

	if (row->undo)
		used += snprintf(text + used, size - (size_t)used, " %s", undo[row->undo]);
	if (row->undo == UNDO_PUSH || row->undo == UNDO_POP || row->undo == UNDO_CALL)
		used += snprintf(text + used, size - (size_t)used, "%u", bytes);
	if (row->access & (ROW_READ | ROW_WRITE))
		used += snprintf(text + used, size - (size_t)used, " %s%s%u", row->access & ROW_SOFT ? "soft " : "",
				 row->access & ROW_WRITE ? "w" : "r", bytes);
	if (row->esp)
		snprintf(text + used, size - (size_t)used, " esp%+d", row->esp * 4);
}

static const struct side_row *row_beginning(uint32_t offset)
{
	for (uint32_t i = 0; i < fixture_out.row_count; i++)
		if (fixture_out.rows[i].host_offset == offset)
			return &fixture_out.rows[i];
	return NULL;
}

/* Jumps to stubs by name, not by an address of this test's. */
static bool stub_jump(const ZydisDecodedInstruction *d, uint32_t at, char *line, size_t size)
{
	const struct translator_stubs *stubs = &fixture_stubs;
	const struct { host_pc_t pc; const char *name; } names[] = {
		{stubs->chain, "chain"}, {stubs->lookup, "lookup"}, {stubs->lookup_slow, "lookup_slow"}, {stubs->lookup_parked, "lookup_parked"}, {stubs->lookup_slow_parked, "lookup_slow_parked"}, {stubs->callout, "callout"}, {stubs->soft, "soft"}, {stubs->sysenter, "sysenter"}, {stubs->sysexit, "sysexit"},
		{stubs->load[SEG_DS], "load_segment"},
	};

	for (size_t i = 0; d->raw.imm[0].is_relative && i < ARRAY_LEN(names); i++)
		if (FIXTURE_CODE_PC + at + d->length + (uint64_t)d->raw.imm[0].value.s == names[i].pc) {
			snprintf(line, size, "%s %s", ZydisMnemonicGetString(d->mnemonic), names[i].name);
			return true;
		}
	return false;
}

static void render(const struct golden *g, char *text, size_t size)
{
	uint8_t bytes[64];
	struct translator_input in = fixture_input(bytes, parse(g->bytes, bytes), g->mode);
	ZydisDecoder decoder;
	ZydisFormatter formatter;
	size_t used = 0;

	in.max_instructions = 8;
	text[0] = 0;
	if (translator_translate(&in, &fixture_out))
		return;
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_ADDR_PADDING_ABSOLUTE, ZYDIS_PADDING_DISABLED);
	for (uint32_t at = 0, end = fixture_out.starts[fixture_out.instructions]; at < end;) {
		ZydisDecodedInstruction d;
		ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
		char row[40] = "", line[96];
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, in.code + at, end - at, &d, op)))
			return;
		if (!stub_jump(&d, at, line, sizeof(line)))
			ZydisFormatterFormatInstruction(&formatter, &d, op, d.operand_count_visible, line, sizeof(line), at, NULL);
		if (row_beginning(at))
			describe_row(row_beginning(at), in.eip, row, sizeof(row));
		used += (size_t)snprintf(text + used, size - used, "%2x %-14s %s\n", at, row, line);
		at += d.length;
	}
}

/* As it stands in the file: C strings, a line each. */
static void write_golden(FILE *file, const struct golden *g, const char *text)
{
	fprintf(file, "GOLDEN(\"%s\", %s, \"%s\",\n", g->what, g->form_name, g->bytes);
	for (const char *line = text; *line;) {
		int length = (int)strcspn(line, "\n");
		fprintf(file, "\t\"%.*s\\n\"%s\n", length, line, line[length + 1] ? "" : ")");
		line += length + 1;
	}
	fprintf(file, "\n");
}

TEST(translator, golden_host_code)
{
	const char *path = getenv("BT_VMM_GOLDEN_UPDATE");
	FILE *file = path ? fopen(path, "w") : NULL;
	static char text[8192];

	if (file)
		fprintf(file, "/* GOLDEN(guest code, mode, its bytes, host code): written by tests/unit/test_translator_golden.c, which says how to read it. */\n\n");
	for (size_t i = 0; i < ARRAY_LEN(goldens); i++) {
		render(&goldens[i], text, sizeof(text));
		if (file)
			write_golden(file, &goldens[i], text);
		else if (strcmp(text, goldens[i].expected))
			FAIL("%s (%s) becomes\n%s  and not\n%s", goldens[i].what, goldens[i].form_name, text, goldens[i].expected);
	}
	if (file)
		fclose(file);
}
