/* A case as one line of words "name=value", without what is zero or usual: what a finding prints, what --replay reads, what the list of
 * regressions holds. */
#include <stdlib.h>
#include <string.h>

#include "base/x86.h"
#include "diff.h"

#define USUAL_FCW 0x37Fu
#define USUAL_MXCSR 0x1F80u

enum kind { WORD32, WORD16, WORD8, FLAG };

static const struct field {
	const char *name;
	enum kind kind;
	size_t at; /* in struct diff_case */
	uint32_t usual;
} fields[] = {
#define AT(member) offsetof(struct diff_case, member)
	{"kind", WORD8, AT(kind), KIND_PROTECTED}, {"ignored", WORD32, AT(flags_ignored), 0}, {"direct", WORD8, AT(direct), 0}, {"fpu", FLAG, AT(fpu), 0},
	{"eip", WORD32, AT(in.eip), CODE_BASE}, {"eflags", WORD32, AT(in.eflags), 0},
	{"eax", WORD32, AT(in.gpr[EAX]), 0}, {"ecx", WORD32, AT(in.gpr[ECX]), 0}, {"edx", WORD32, AT(in.gpr[EDX]), 0}, {"ebx", WORD32, AT(in.gpr[EBX]), 0},
	{"esp", WORD32, AT(in.gpr[ESP]), 0}, {"ebp", WORD32, AT(in.gpr[EBP]), 0}, {"esi", WORD32, AT(in.gpr[ESI]), 0}, {"edi", WORD32, AT(in.gpr[EDI]), 0},
	{"es", WORD16, AT(in.seg[SEG_ES]), DATA3}, {"cs", WORD16, AT(in.seg[SEG_CS]), CODE3}, {"ss", WORD16, AT(in.seg[SEG_SS]), DATA3},
	{"ds", WORD16, AT(in.seg[SEG_DS]), DATA3}, {"fs", WORD16, AT(in.seg[SEG_FS]), DATA3}, {"gs", WORD16, AT(in.seg[SEG_GS]), DATA3},
	{"fcw", WORD16, AT(in.fcw), USUAL_FCW}, {"fsw", WORD16, AT(in.fsw), 0}, {"ftw", WORD8, AT(in.ftw), 0}, {"mxcsr", WORD32, AT(in.mxcsr), USUAL_MXCSR},
#undef AT
};
#define FIELDS (sizeof(fields) / sizeof(*fields))

static uint32_t get(const struct diff_case *c, const struct field *f)
{
	const uint8_t *at = (const uint8_t *)c + f->at;
	uint32_t value = 0;

	memcpy(&value, at, f->kind == WORD32 ? 4 : f->kind == WORD16 ? 2 : 1);
	return value;
}

static void set(struct diff_case *c, const struct field *f, uint32_t value)
{
	uint8_t *at = (uint8_t *)c + f->at;

	if (f->kind == FLAG)
		value = value != 0;
	memcpy(at, &value, f->kind == WORD32 ? 4 : f->kind == WORD16 ? 2 : 1);
}

static bool is_zero(const uint8_t *bytes, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++) {
		if (bytes[i])
			return false;
	}
	return true;
}

static void print_hex(FILE *out, const uint8_t *bytes, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++) fprintf(out, "%02x", bytes[i]);
}

/* Runs of bytes of which no eight in a row are zero. */
static void print_data(FILE *out, const struct diff_case *c)
{
	for (uint32_t i = 0; i < DATA_SIZE;) {
		uint32_t end = i, zeros = 0;
		if (!c->data[i]) {
			i++;
			continue;
		}
		for (uint32_t j = i; j < DATA_SIZE && zeros < 8; j++) {
			zeros = c->data[j] ? 0 : zeros + 1;
			end = c->data[j] ? j + 1 : end;
		}
		fprintf(out, " @%x=", DATA_BASE + i);
		print_hex(out, c->data + i, end - i);
		i = end;
	}
}

void diff_print_case(FILE *out, const struct diff_case *c)
{
	fputs("code=", out);
	print_hex(out, c->code, c->length);
	for (size_t i = 0; i < FIELDS; i++) {
		uint32_t value = get(c, &fields[i]);
		if (value != fields[i].usual)
			fprintf(out, " %s=%x", fields[i].name, value);
	}
	for (unsigned i = 0; i < 8 && c->fpu; i++) {
		if (!is_zero(c->in.st[i], 10)) {
			fprintf(out, " st%u=", i);
			print_hex(out, c->in.st[i], 10);
		}
		if (!is_zero(c->in.xmm[i], 16)) {
			fprintf(out, " xmm%u=", i);
			print_hex(out, c->in.xmm[i], 16);
		}
	}
	print_data(out, c);
}

/* Returns how many bytes there were, or UINT32_MAX. */
static uint32_t parse_hex(const char *text, uint8_t *bytes, uint32_t room)
{
	uint32_t count = 0;

	for (; text[0] && text[1] && count < room; text += 2) {
		if (sscanf(text, "%2hhx", &bytes[count++]) != 1)
			return UINT32_MAX;
	}
	return *text ? UINT32_MAX : count;
}

static bool parse_named(struct diff_case *c, const char *name, const char *value)
{
	char *end;

	for (size_t i = 0; i < FIELDS; i++) {
		if (strcmp(name, fields[i].name))
			continue;
		set(c, &fields[i], (uint32_t)strtoul(value, &end, 16));
		return *value && !*end;
	}
	return false;
}

static bool parse_word(struct diff_case *c, char *word)
{
	char *value = strchr(word, '=');

	if (!value)
		return false;
	*value++ = 0;
	if (!strcmp(word, "code"))
		return (c->length = parse_hex(value, c->code, CODE_MAX)) <= CODE_MAX;
	if (word[0] == '@') {
		uint32_t at = (uint32_t)strtoul(word + 1, NULL, 16) - DATA_BASE;
		return at < DATA_SIZE && parse_hex(value, c->data + at, DATA_SIZE - at) != UINT32_MAX;
	}
	unsigned n = (unsigned)(word[strlen(word) - 1] - '0') & 7;
	if (!strncmp(word, "st", 2))
		return parse_hex(value, c->in.st[n], 10) == 10;
	if (!strncmp(word, "xmm", 3))
		return parse_hex(value, c->in.xmm[n], 16) == 16;
	return parse_named(c, word, value);
}

/* Without protection, those of the mode alone. */
static bool has_selectors(const struct diff_case *c)
{
	for (unsigned i = 0; i < DIFF_SEGMENTS && c->kind != KIND_PROTECTED; i++) {
		if (diff_segment(c->in.seg[i])->base != LOW + 16u * c->in.seg[i])
			return false;
	}
	return true;
}

bool diff_is_runnable(const struct diff_case *c)
{
	const struct diff_segment *cs = diff_segment(c->in.seg[SEG_CS]);
	uint32_t at = cs->base + c->in.eip - CODE_BASE;

	return c->kind < KIND_COUNT && has_selectors(c) && c->in.eip <= cs->limit && c->length > 0 && at < CODE_SIZE && at + c->length <= CODE_SIZE;
}

bool diff_parse_case(struct diff_case *c, const char *text)
{
	char *copy = strdup(text), *save = NULL;
	bool good = copy != NULL;

	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < FIELDS; i++) set(c, &fields[i], fields[i].usual);
	for (char *word = copy ? strtok_r(copy, " \t\n", &save) : NULL; word && good; word = strtok_r(NULL, " \t\n", &save)) good = parse_word(c, word);
	free(copy);
	return good && diff_is_runnable(c);
}
