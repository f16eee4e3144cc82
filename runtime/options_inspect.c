/* The options of bt-vmm classify and bt-vmm translate. */
#include <string.h>

#include "runtime/options_private.h"
#include "translator/translator.h"

static int parse_all(struct parser *p, const char *value)
{
	(void)value;
	p->o->inspect.all = true;
	return 0;
}

static int parse_summary(struct parser *p, const char *value)
{
	(void)value;
	p->o->inspect.summary = true;
	return 0;
}

static int parse_json(struct parser *p, const char *value)
{
	(void)value;
	p->o->inspect.json = true;
	return 0;
}

static int parse_only(struct parser *p, const char *value)
{
	for (const char *word = value; *word;) {
		size_t length = strcspn(word, ",");
		if (!translator_knows_name(word, length)) {
			return options_refuse(p, "--only '%.*s' is no instruction: give mnemonics, or names that the summary shows", (int)length, word);
		}
		word += length + (word[length] == ',');
	}
	p->o->inspect.only = value;
	return 0;
}

static int parse_symbols(struct parser *p, const char *value)
{
	p->o->inspect.symbols = value;
	return 0;
}

static int parse_bytes(struct parser *p, const char *value)
{
	p->o->inspect.bytes = value;
	p->o->inspect.raw = true;
	return 0;
}

static int parse_raw(struct parser *p, const char *value)
{
	(void)value;
	p->o->inspect.raw = true;
	return 0;
}

static int parse_base(struct parser *p, const char *value)
{
	uint64_t base;
	if (!options_number(value, UINT32_MAX, &base))
		return options_refuse(p, "--base '%s' is not an address: give a number from 0 to 0xffffffff", value);
	p->o->inspect.base = (uint32_t)base;
	p->o->inspect.has_base = true;
	return 0;
}

static int parse_bits(struct parser *p, const char *value)
{
	uint64_t bits;
	if (!options_number(value, 32, &bits) || (bits != 16 && bits != 32)) return options_refuse(p, "--bits '%s' is neither 16 nor 32", value);
	p->o->inspect.bits = (unsigned)bits;
	p->o->inspect.has_bits = true;
	return 0;
}

static int parse_at(struct parser *p, const char *value)
{
	p->o->inspect.at = value;
	return 0;
}

static int parse_count(struct parser *p, const char *value)
{
	uint64_t count;
	if (!options_number(value, UINT32_MAX, &count) || !count)
		return options_refuse(p, "--count '%s' is no number of blocks: give 1 or more", value);
	p->o->inspect.count = (uint32_t)count;
	return 0;
}

static int parse_soft(struct parser *p, const char *value)
{
	(void)value;
	p->o->inspect.soft = true;
	return 0;
}

static int parse_cpl(struct parser *p, const char *value)
{
	uint64_t cpl;
	if (!options_number(value, 3, &cpl)) return options_refuse(p, "--cpl '%s' is no privilege level: give 0, 1, 2 or 3", value);
	p->o->inspect.cpl = (unsigned)cpl;
	return 0;
}

static int parse_basic_blocks(struct parser *p, const char *value)
{
	(void)value;
	p->o->inspect.basic_blocks = true;
	return 0;
}

static int parse_mode(struct parser *p, const char *value)
{
	uint64_t mode;
	if (!options_number(value, UINT32_MAX, &mode))
		return options_refuse(p, "--mode '%s' is no mode: give the number of a block's mode in --dump, with 0x before it", value);
	p->o->inspect.mode = (uint32_t)mode;
	p->o->inspect.has_mode = true;
	return 0;
}

static int parse_color(struct parser *p, const char *value)
{
	static const char *const names[] = { [COLOR_AUTO] = "auto", [COLOR_ALWAYS] = "always", [COLOR_NEVER] = "never" };
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(value, names[i])) continue;
		p->o->inspect.color = (enum color)i;
		return 0;
	}
	return options_refuse(p, "--color '%s' is unknown: give auto, always or never", value);
}

#define BOTH (FOR(CLASSIFY) | FOR(TRANSLATE))
const struct option_rule options_inspect[] = {
	{ "--all", VALUE_NEVER, false, BOTH, NULL, parse_all },
	{ "--summary", VALUE_NEVER, false, FOR(CLASSIFY), NULL, parse_summary },
	{ "--json", VALUE_NEVER, false, FOR(CLASSIFY), NULL, parse_json },
	{ "--only", VALUE_NEEDED, false, FOR(CLASSIFY), "names, like pushf,mov_to_seg", parse_only },
	{ "--symbols", VALUE_NEEDED, false, BOTH, "files, like System.map", parse_symbols },
	{ "--raw", VALUE_NEVER, false, BOTH, NULL, parse_raw },
	{ "--base", VALUE_NEEDED, false, BOTH, "an address", parse_base },
	{ "--bits", VALUE_NEEDED, false, BOTH, "16 or 32", parse_bits },
	{ "--bytes", VALUE_NEEDED, false, BOTH, "bytes, like '0f 01 d8'", parse_bytes },
	{ "--at", VALUE_NEEDED, false, FOR(TRANSLATE), "an address or a symbol", parse_at },
	{ "--count", VALUE_NEEDED, false, FOR(TRANSLATE), "a number of blocks", parse_count },
	{ "--soft", VALUE_NEVER, false, FOR(TRANSLATE), NULL, parse_soft },
	{ "--cpl", VALUE_NEEDED, false, FOR(TRANSLATE), "a privilege level", parse_cpl },
	{ "--mode", VALUE_NEEDED, false, FOR(TRANSLATE), "a block's mode", parse_mode },
	{ "--basic-blocks", VALUE_NEVER, false, FOR(TRANSLATE), NULL, parse_basic_blocks },
	{ "--color", VALUE_NEEDED, false, FOR(TRANSLATE), "auto, always or never", parse_color },
};
const size_t options_inspect_count = ARRAY_LEN(options_inspect);
_Static_assert(ARRAY_LEN(options_inspect) <= 8 * sizeof(((struct parser *)0)->seen), "a bit for each option");

int options_inspect_file(struct parser *p, const char *word)
{
	if (p->o->inspect.file) return options_refuse(p, "'%s' is a second file: give one", word);
	if (!*word) return options_refuse(p, "the name of the file is empty: give a file");
	p->o->inspect.file = word;
	return 0;
}

int options_inspect_check(struct parser *p)
{
	const struct inspect_options *o = &p->o->inspect;
	if (!o->file && !o->bytes) return options_refuse(p, "no file is given: name one, or give code with --bytes");
	if (o->file && o->bytes) return options_refuse(p, "'%s' and --bytes contradict each other: give one of them", o->file);
	if (!o->raw && (o->has_base || o->has_bits))
		return options_refuse(p, "--base and --bits are for bare code: say --raw, too, or leave them out");
	if (o->summary && (o->all || o->only)) return options_refuse(p, "--summary contradicts --all and --only: it lists no instruction");
	if (o->all && o->only) return options_refuse(p, "--all and --only contradict each other");
	if (o->all && (o->at || o->count)) return options_refuse(p, "--all contradicts --at and --count: it shows every function");
	if (o->has_mode && (o->soft || o->cpl)) return options_refuse(p, "--mode contradicts --soft and --cpl: it holds them");
	return 0;
}
