/* bt-vmm classify: which instructions of a binary are sensitive in Popek and Goldberg's sense, and what becomes of them here. A linear sweep, which
 * symbols bring back in step: data among the code reads as instructions. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/abi.h"
#include "base/disasm.h"
#include "runtime/inspect.h"
#include "runtime/inspect_binary.h"
#include "runtime/inspect_print.h"
#include "translator/translator.h"

#define NAMES_MAX 256u /* far above the callouts and the privileged instructions that there are */

struct count {
	const char *name;
	struct translator_insn what; /* the first one's class */
	uint64_t count;
};

struct sweep {
	const struct inspect_options *o;
	const struct binary *b;
	FILE *out;
	struct disasm *disasm[2]; /* 16-bit, 32-bit */
	uint32_t symbol; /* index of the next one */
	bool listed; /* something was */
	uint64_t instructions, unknown_bytes, sensitive, unprivileged;
	struct count names[NAMES_MAX];
	uint32_t name_count;
};

static const char *class_name(unsigned sensitivity)
{
	static const char *const names[] = { "innocuous", "control", "behaviour", "control, behaviour" };
	return names[sensitivity];
}

static const char *privileged(const struct translator_insn *what)
{
	return what->sensitivity ? translator_trap_name(what->trap) : "-";
}

/* Names are constants: their addresses tell them apart. */
static void count(struct sweep *s, const struct translator_insn *what)
{
	uint32_t i = 0;
	s->sensitive++;
	s->unprivileged += what->trap == TRAP_NEVER;
	while (i < s->name_count && s->names[i].name != what->name) i++;
	if (i == NAMES_MAX) return;
	if (i == s->name_count) s->names[s->name_count++] = (struct count){ .name = what->name, .what = *what };
	/* What runs in one mode may not in another. */
	if (what->runs && !s->names[i].what.runs) s->names[i].what = *what;
	s->names[i].count++;
}

static bool is_word(const char *word, size_t length, const char *name)
{
	return name && length == strlen(name) && !memcmp(word, name, length);
}

static bool is_wanted(const struct sweep *s, const struct translator_insn *what)
{
	if (s->o->summary) return false;
	if (!s->o->only) return what->sensitivity || s->o->all;
	for (const char *word = s->o->only; *word;) {
		size_t length = strcspn(word, ",");
		if (is_word(word, length, what->name) || is_word(word, length, what->mnemonic) || is_word(word, length, what->family)) return true;
		word += length + (word[length] == ',');
	}
	return false;
}

struct line {
	uint32_t address;
	const char *section;
	char where[80], text[192];
};

static void list_text(struct sweep *s, const struct line *line, const struct translator_insn *what)
{
	if (!s->listed) {
		fprintf(s->out, "%-8s  %-32s %-36s %-18s %-10s %s\n", "address", "where", "instruction", "class", "privileged",
			"what becomes of it");
	}
	fprintf(s->out, "%08" PRIx32 "  %-32s %-36s %-18s %-10s %s\n", line->address, line->where, line->text, class_name(what->sensitivity),
		privileged(what), what->becomes);
}

static void list_json(struct sweep *s, const struct line *line, const struct translator_insn *what)
{
	fprintf(s->out, "%s\n  {\"address\": %" PRIu32 ", \"section\": ", s->listed ? "," : "", line->address);
	inspect_json(s->out, line->section);
	fprintf(s->out, ", \"where\": ");
	inspect_json(s->out, line->where);
	fprintf(s->out, ", \"instruction\": ");
	inspect_json(s->out, line->text);
	fprintf(s->out, ", \"name\": \"%s\", \"class\": \"%s\", \"privileged\": \"%s\", \"becomes\": \"%s\"}", what->name,
		class_name(what->sensitivity), privileged(what), what->becomes);
}

static void list(struct sweep *s, uint32_t section, uint32_t at, const struct translator_insn *what)
{
	const struct binary_section *code = &s->b->sections[section];
	struct line line = { .address = code->address + at, .section = code->name };
	disasm_text(s->disasm[code->bits == 32], code->bytes + at, what->length, line.address, line.text, sizeof(line.text));
	inspect_place(s->b, section, at, line.where, sizeof(line.where));
	(s->o->json ? list_json : list_text)(s, &line, what);
	s->listed = true;
}

/* The next symbol's offset in this section, or the section's end. Data that a symbol names is skipped. */
static uint32_t next_symbol(struct sweep *s, uint32_t section, uint32_t *at)
{
	const struct binary *b = s->b;
	uint32_t end = b->sections[section].size;
	for (; s->symbol < b->symbol_count; s->symbol++) {
		const struct binary_symbol *next = &b->symbols[s->symbol];
		if (next->section > section) return end;
		if (next->section < section) continue;
		if (next->offset > *at) return next->offset;
		if (next->data && next->offset == *at) *at += next->size < end - *at ? next->size : end - *at;
	}
	return end;
}

/* Returns how far to go on. What crosses the next symbol is no instruction: the symbol is one's beginning. */
static uint32_t step(struct sweep *s, uint32_t section, uint32_t at, uint32_t limit)
{
	const struct binary_section *code = &s->b->sections[section];
	uint32_t mode = (code->bits == 32 ? MODE_CS32 | MODE_SS32 | MODE_PE : 0) | MODE_IOPL_OK;
	struct translator_insn what;
	bool whole = translator_classify(code->bytes + at, code->size - at, mode, &what);
	if (!whole || what.length > limit - at) {
		s->unknown_bytes += whole ? limit - at : 1;
		return whole ? limit - at : 1;
	}
	s->instructions++;
	if (what.sensitivity) count(s, &what);
	if (is_wanted(s, &what)) list(s, section, at, &what);
	return what.length;
}

static void sweep_section(struct sweep *s, uint32_t section)
{
	uint32_t size = s->b->sections[section].size;
	for (uint32_t at = 0; at < size;) {
		uint32_t limit = next_symbol(s, section, &at);
		if (at < limit) at += step(s, section, at, limit);
	}
}

static int by_count(const void *a, const void *b)
{
	const struct count *x = a, *y = b;
	return x->count < y->count ? 1 : x->count > y->count ? -1 : strcmp(x->name, y->name);
}

static const char *plural(uint64_t count) { return count == 1 ? "" : "s"; }

static void print_summary(const struct sweep *s)
{
	FILE *out = s->out;
	if (s->listed) fputc('\n', out);
	fprintf(out, "%s: %" PRIu32 " section%s, %" PRIu64 " instruction%s, %" PRIu64 " byte%s that %s none\n", s->b->what, s->b->section_count,
		plural(s->b->section_count), s->instructions, plural(s->instructions), s->unknown_bytes, plural(s->unknown_bytes),
		s->unknown_bytes == 1 ? "is" : "are");
	if (*s->b->note) fprintf(out, "%s\n", s->b->note);
	if (s->name_count) fprintf(out, "\n%-14s %8s  %-18s %-10s %s\n", "sensitive", "count", "class", "privileged", "what becomes of it");
	for (uint32_t i = 0; i < s->name_count; i++) {
		const struct count *c = &s->names[i];
		fprintf(out, "%-14s %8" PRIu64 "  %-18s %-10s %s\n", c->name, c->count, class_name(c->what.sensitivity), privileged(&c->what),
			c->what.becomes);
	}
	if (!s->unprivileged) {
		fprintf(out, "\nTrap-and-emulate could virtualize this code: %s.\n",
			s->sensitive ? "every sensitive instruction traps outside ring 0" : "it has no sensitive instruction");
		return;
	}
	fprintf(out, "\nTrap-and-emulate could not virtualize this code: %" PRIu64 " of %" PRIu64 " sensitive instruction%s %s not trap outside ring 0:",
		s->unprivileged, s->sensitive, plural(s->sensitive), s->unprivileged == 1 ? "does" : "do");
	for (uint32_t i = 0, n = 0; i < s->name_count; i++) {
		if (s->names[i].what.trap == TRAP_NEVER) fprintf(out, "%s %s", n++ ? "," : "", s->names[i].name);
	}
	fputs(".\n", out);
}

static void print_json_head(const struct sweep *s)
{
	fputs("{\"format\": ", s->out);
	inspect_json(s->out, s->b->what);
	fputs(", \"note\": ", s->out);
	inspect_json(s->out, s->b->note);
	fputs(",\n \"sections\": [", s->out);
	for (uint32_t i = 0; i < s->b->section_count; i++) {
		const struct binary_section *code = &s->b->sections[i];
		fprintf(s->out, "%s{\"name\": ", i ? ", " : "");
		inspect_json(s->out, code->name);
		fprintf(s->out, ", \"address\": %" PRIu32 ", \"size\": %" PRIu32 ", \"bits\": %u}", code->address, code->size, code->bits);
	}
	fputs("],\n \"instructions\": [", s->out);
}

static void print_json_summary(const struct sweep *s)
{
	fprintf(s->out, "],\n \"summary\": {\"instructions\": %" PRIu64 ", \"unknown_bytes\": %" PRIu64 ", \"sensitive\": %" PRIu64
		", \"unprivileged\": %" PRIu64 ", \"trap_and_emulate\": %s, \"counts\": [", s->instructions, s->unknown_bytes, s->sensitive,
		s->unprivileged, s->unprivileged ? "false" : "true");
	for (uint32_t i = 0; i < s->name_count; i++) {
		const struct count *c = &s->names[i];
		fprintf(s->out, "%s\n  {\"name\": \"%s\", \"count\": %" PRIu64 ", \"class\": \"%s\", \"privileged\": \"%s\", \"becomes\": \"%s\"}",
			i ? "," : "", c->name, c->count, class_name(c->what.sensitivity), privileged(&c->what), c->what.becomes);
	}
	fputs("]}}\n", s->out);
}

void inspect_sweep(const struct binary *b, const struct inspect_options *o, FILE *out)
{
	struct sweep s = { .o = o, .b = b, .out = out, .disasm = { disasm_open(DISASM_16), disasm_open(DISASM_32) } };
	bool ready = s.disasm[0] && s.disasm[1];
	if (o->json) print_json_head(&s);
	for (uint32_t i = 0; ready && i < b->section_count; i++) sweep_section(&s, i);
	qsort(s.names, s.name_count, sizeof(s.names[0]), by_count);
	if (o->json) print_json_summary(&s);
	else print_summary(&s);
	for (unsigned i = 0; i < ARRAY_LEN(s.disasm); i++) disasm_close(s.disasm[i]);
}

int inspect_classify(const struct inspect_options *o, FILE *out, char *why, size_t why_size)
{
	struct binary b;
	int error = binary_read(&b, o, why, why_size);
	if (!error) inspect_sweep(&b, o, out);
	binary_free(&b);
	return error;
}
