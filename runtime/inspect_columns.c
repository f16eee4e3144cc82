#include "runtime/inspect_columns.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/abi.h"

#define GUEST_WIDTH 48
#define ADDRESS_WIDTH 10 /* what stands before an instruction */

const struct translator_stubs inspect_stubs = {
	.chain = INSPECT_CODE_PC - 0x1000,
	.lookup = INSPECT_CODE_PC - 0x2000,
	.lookup_slow = INSPECT_CODE_PC - 0x3000,
	.lookup_parked = INSPECT_CODE_PC - 0x2800,
	.lookup_slow_parked = INSPECT_CODE_PC - 0x3800,
	.callout = INSPECT_CODE_PC - 0x4000,
	.soft = INSPECT_CODE_PC - 0x5000,
	.sysenter = INSPECT_CODE_PC - 0x6000,
	.sysexit = INSPECT_CODE_PC - 0x7000,
	.load = {[SEG_ES] = INSPECT_CODE_PC - 0x8000, [SEG_DS] = INSPECT_CODE_PC - 0x8000, [SEG_FS] = INSPECT_CODE_PC - 0x8000, [SEG_GS] = INSPECT_CODE_PC - 0x8000},
};

static const struct {
	size_t offset;
	const char *name;
} fields[] = {
#define FIELD(name) { offsetof(struct vcpu, name), #name }
	FIELD(eip), FIELD(flags), FIELD(eflags), FIELD(if_flag), FIELD(df_flag), FIELD(intr), FIELD(spill), FIELD(completion_hva),
#define SEGMENT(which, name) \
	{ offsetof(struct vcpu, seg) + (which) * sizeof(struct segment) + offsetof(struct segment, selector), name ".selector" }, \
	{ offsetof(struct vcpu, seg) + (which) * sizeof(struct segment) + offsetof(struct segment, base), name ".base" }, \
	{ offsetof(struct vcpu, seg) + (which) * sizeof(struct segment) + offsetof(struct segment, limit), name ".limit" }
	SEGMENT(SEG_ES, "es"), SEGMENT(SEG_CS, "cs"), SEGMENT(SEG_SS, "ss"), SEGMENT(SEG_DS, "ds"), SEGMENT(SEG_FS, "fs"), SEGMENT(SEG_GS, "gs"),
#undef SEGMENT
#undef FIELD
};

static bool wants_color(FILE *out, enum color color)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	if (color != COLOR_AUTO) return color == COLOR_ALWAYS;
	return isatty(fileno(out)) && !(no && *no) && term && strcmp(term, "dumb");
}

void columns_init(struct columns *c, FILE *out, enum color color)
{
	c->out = out;
	c->color = wants_color(out, color);
	c->guest.count = c->host.count = 0;
}

static const char *style(const struct columns *c, const char *code)
{
	return c->color ? code : "";
}
#define BOLD "\033[1m"
#define DIM "\033[2m"
#define GUEST "\033[36m"
#define REASON "\033[33m"
#define PLAIN "\033[0m"

void columns_print_title(struct columns *c, const char *title)
{
	fprintf(c->out, "\n%s%s%s\n", style(c, BOLD), title, style(c, PLAIN));
}

static void add(struct column *column, bool dim, const char *text)
{
	if (column->count == COLUMN_LINES) return;
	column->dim[column->count] = dim;
	snprintf(column->line[column->count++], COLUMN_WIDTH, "%s", text);
}

/* Words, broken into lines of the guest's column. */
static void add_wrapped(struct column *column, bool dim, const char *first, const char *text)
{
	char line[COLUMN_WIDTH];
	const char *indent = first;
	while (*text) {
		size_t room = GUEST_WIDTH - ADDRESS_WIDTH, length = strlen(text);
		if (length > room) {
			for (length = room; length && text[length] != ' '; length--) {}
			if (!length) length = strcspn(text, " ");
		}
		snprintf(line, sizeof(line), "%-*s%.*s", ADDRESS_WIDTH, indent, (int)length, text);
		add(column, dim, line);
		text += length;
		text += *text == ' ';
		indent = "";
	}
}

void columns_add_guest(struct columns *c, uint32_t address, const char *text)
{
	char first[16];
	snprintf(first, sizeof(first), "%08" PRIx32, address);
	add_wrapped(&c->guest, false, first, text);
}

void columns_add_reason(struct columns *c, const char *reason)
{
	char text[COLUMN_WIDTH];
	snprintf(text, sizeof(text), "; %s", reason);
	add_wrapped(&c->guest, true, "", text);
}

void columns_add_note(struct columns *c, const char *note, uint32_t address)
{
	char text[COLUMN_WIDTH];
	snprintf(text, sizeof(text), "%s %08" PRIx32, note, address);
	add_wrapped(&c->guest, true, "", text);
}

static void put_address(char *text, size_t size, host_pc_t pc)
{
	static const struct {
		const host_pc_t *pc;
		const char *name;
	} stubs[] = {
		{ &inspect_stubs.chain, "<chain>" }, { &inspect_stubs.lookup, "<lookup>" }, { &inspect_stubs.lookup_slow, "<lookup_slow>" },
		{ &inspect_stubs.lookup_parked, "<lookup_parked>" }, { &inspect_stubs.lookup_slow_parked, "<lookup_slow_parked>" },
		{ &inspect_stubs.callout, "<callout>" }, { &inspect_stubs.soft, "<soft>" },
		{ &inspect_stubs.sysenter, "<sysenter>" }, { &inspect_stubs.sysexit, "<sysexit>" },
		{ &inspect_stubs.load[SEG_DS], "<load_segment>" },
	};
	for (size_t i = 0; i < ARRAY_LEN(stubs); i++) {
		if (*stubs[i].pc == pc) {
			snprintf(text, size, "%s", stubs[i].name);
			return;
		}
	}
	snprintf(text, size, "+%04" PRIx32, (uint32_t)(pc - INSPECT_CODE_PC));
}

/* "[rip + 5]" is a place in the code, "[r12 + 0x20]" a field of the vCPU. Returns the end of what was taken, or NULL. */
static const char *put_operand(char *text, size_t size, const char *from, host_pc_t next)
{
	bool rip = !strncmp(from, "[rip ", 5);
	if (!rip && strncmp(from, "[r12 + ", 7)) return NULL;
	char *end;
	uint64_t number = strtoull(from + 7, &end, 0);
	if (*end != ']') return NULL;
	if (rip) {
		text += snprintf(text, size, "[");
		put_address(text, size - 1, from[5] == '-' ? next - number : next + number);
		strcat(text, "]");
		return end + 1;
	}
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (fields[i].offset != number) continue;
		snprintf(text, size, "[vcpu.%s]", fields[i].name);
		return end + 1;
	}
	return NULL;
}

static const char *put_number(char *text, size_t size, const char *from)
{
	char *end;
	uint64_t number = strncmp(from, "0x5000", 6) ? 0 : strtoull(from, &end, 16);
	if (number - (INSPECT_CODE_PC - 0x5000) > 0x5000 + TRANSLATOR_MAX_BYTES) return NULL;
	put_address(text, size, number);
	return end;
}

void columns_add_host(struct columns *c, uint32_t offset, uint32_t length, const char *text)
{
	char line[COLUMN_WIDTH];
	size_t used = (size_t)snprintf(line, sizeof(line), "+%04" PRIx32 "  ", offset);
	/* An operand's name has room to the end. */
	while (*text && used < sizeof(line) - 48) {
		const char *end = put_operand(line + used, 40, text, INSPECT_CODE_PC + offset + length);
		if (!end) end = put_number(line + used, 40, text);
		if (end) {
			used += strlen(line + used);
			text = end;
		} else {
			line[used++] = *text++;
		}
	}
	line[used] = '\0';
	add(&c->host, false, line);
}

static void print_guest(struct columns *c, unsigned i)
{
	const char *text = i < c->guest.count ? c->guest.line[i] : "";
	const char *first = i < c->guest.count ? style(c, c->guest.dim[i] ? REASON : GUEST) : "";
	fprintf(c->out, "%s%-*s%s", first, GUEST_WIDTH, text, *first ? PLAIN : "");
}

void columns_print(struct columns *c)
{
	for (unsigned i = 0; i < c->guest.count || i < c->host.count; i++) {
		if (i >= c->host.count) {
			const char *first = style(c, c->guest.dim[i] ? REASON : GUEST);
			fprintf(c->out, "%s%s%s\n", first, c->guest.line[i], *first ? PLAIN : "");
			continue;
		}
		print_guest(c, i);
		fprintf(c->out, "  %s%.5s%s%s\n", style(c, DIM), c->host.line[i], style(c, PLAIN), c->host.line[i] + 5);
	}
	c->guest.count = c->host.count = 0;
}
