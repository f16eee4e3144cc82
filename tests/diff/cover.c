/* Does the test have every instruction form of a list that `bt-vmm --forms` wrote, or every one that the allow-list runs? */
#include <string.h>

#include "base/abi.h"
#include "base/x86.h"
#include "diff.h"
#include "translator/translator.h"

/* What is not told by registers and memory alone, or differs by the host: the guest programs (tests/guests) have them. */
static const char *const elsewhere[] = {
	"cpuid", "fldenv m", "fnsave m", "fnstenv m", "frstor m", "fxrstor m", "fxsave m", "int ", "int3", "rdpmc", "rdrand ", "rdseed ", "rdtsc", "sgdt ",
	"sidt ", "sldt ", "smsw ", "str ", "sysenter", "sysexit", "ud1", "(undefined)",
};

static bool is_elsewhere(const char *form)
{
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(*elsewhere); i++) {
		if (!strncmp(form, elsewhere[i], strlen(elsewhere[i])))
			return true;
	}
	return false;
}

#define MAX_NAMES 4096u
#define NAME_SIZE 48u
#define MAX_INSTRUCTION 16u

struct names {
	char name[MAX_NAMES][NAME_SIZE];
	uint32_t count;
};

static bool has_name(const struct names *n, const char *name)
{
	for (uint32_t i = 0; i < n->count; i++) {
		if (!strcmp(n->name[i], name))
			return true;
	}
	return false;
}

#define USER_MODE (MODE_CS32 | MODE_SS32 | MODE_PE | 3)

static void add_name(struct names *n, const uint8_t *code, uint32_t length)
{
	char name[NAME_SIZE];

	translator_form(code, length, USER_MODE, name, sizeof(name));
	if (!has_name(n, name) && n->count < MAX_NAMES)
		strcpy(n->name[n->count++], name);
}

static void collect_names(struct names *n)
{
	static struct diff_case c;

	for (uint32_t form = 0; form < diff_form_count(); form++) {
		for (uint64_t seed = 1; seed <= 60; seed++) {
			diff_make(&c, form, KIND_PROTECTED, seed);
			if (diff_segment(c.in.seg[SEG_CS])->big)
				add_name(n, c.code, c.length);
		}
	}
}

static bool is_covered(const struct names *n, const char *name)
{
	return has_name(n, name) || is_elsewhere(name);
}

int diff_check_cover(const char *file)
{
	static struct names known;
	FILE *in = fopen(file, "r");
	char line[256];
	uint32_t seen = 0, missing = 0;

	if (!in) {
		perror(file);
		return 2;
	}
	collect_names(&known);
	while (fgets(line, sizeof(line), in)) {
		char *name = line + strspn(line, " 0123456789");
		name[strcspn(name, "\n")] = 0;
		seen++;
		if (is_covered(&known, name))
			continue;
		printf("# not covered: %s\n", name);
		missing++;
	}
	fclose(in);
	printf("%s 1 - the differential test covers the forms of %s (%u, %u missing)\n1..1\n", missing ? "not ok" : "ok", file, seen, missing);
	return missing != 0;
}

struct cover {
	struct names known, missing;
	uint32_t runs;
};

static void cover_encoding(struct cover *cover, const uint8_t *bytes)
{
	struct translator_insn insn;
	char name[NAME_SIZE];

	if (!translator_classify(bytes, MAX_INSTRUCTION, USER_MODE, &insn) || !insn.runs)
		return;
	cover->runs++;
	translator_form(bytes, MAX_INSTRUCTION, USER_MODE, name, sizeof(name));
	if (!is_covered(&cover->known, name) && !has_name(&cover->missing, name) && cover->missing.count < MAX_NAMES)
		strcpy(cover->missing.name[cover->missing.count++], name);
}

/* One opcode, with any ModRM byte behind it: where there is none, what follows does not matter. */
static void cover_opcode(struct cover *cover, const uint8_t *opcode, uint32_t length)
{
	uint8_t bytes[MAX_INSTRUCTION] = {0};

	memcpy(bytes, opcode, length);
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		bytes[length] = (uint8_t)modrm;
		cover_encoding(cover, bytes);
	}
}

/* What is before an opcode: each map, with each prefix that chooses an instruction; VEX with each of its maps and prefixes. VEX.vvvv is EAX. */
static const struct { uint8_t length, bytes[4]; } beginnings[] = {
	{0, {0}}, {1, {0x66}}, {1, {0xF2}}, {1, {0xF3}}, {2, {0x66, 0xF2}}, {2, {0x66, 0xF3}}, {1, {0xF0}},
	{1, {0x0F}}, {2, {0x66, 0x0F}}, {2, {0xF2, 0x0F}}, {2, {0xF3, 0x0F}}, {3, {0x66, 0xF2, 0x0F}}, {3, {0x66, 0xF3, 0x0F}}, {2, {0xF0, 0x0F}},
	{2, {0x0F, 0x38}}, {3, {0x66, 0x0F, 0x38}}, {3, {0xF2, 0x0F, 0x38}}, {3, {0xF3, 0x0F, 0x38}}, {4, {0x66, 0xF2, 0x0F, 0x38}}, {4, {0x66, 0xF3, 0x0F, 0x38}},
	{2, {0x0F, 0x3A}}, {3, {0x66, 0x0F, 0x3A}}, {3, {0xF2, 0x0F, 0x3A}}, {3, {0xF3, 0x0F, 0x3A}}, {4, {0x66, 0xF2, 0x0F, 0x3A}}, {4, {0x66, 0xF3, 0x0F, 0x3A}},
	{3, {0xC4, 0xE1, 0x78}}, {3, {0xC4, 0xE1, 0x79}}, {3, {0xC4, 0xE1, 0x7A}}, {3, {0xC4, 0xE1, 0x7B}},
	{3, {0xC4, 0xE2, 0x78}}, {3, {0xC4, 0xE2, 0x79}}, {3, {0xC4, 0xE2, 0x7A}}, {3, {0xC4, 0xE2, 0x7B}},
	{3, {0xC4, 0xE3, 0x78}}, {3, {0xC4, 0xE3, 0x79}}, {3, {0xC4, 0xE3, 0x7A}}, {3, {0xC4, 0xE3, 0x7B}},
};

int diff_check_allow_list(void)
{
	static struct cover cover;

	collect_names(&cover.known);
	for (unsigned i = 0; i < sizeof(beginnings) / sizeof(*beginnings) * 256; i++) {
		uint8_t opcode[8];
		uint32_t length = beginnings[i / 256].length;
		memcpy(opcode, beginnings[i / 256].bytes, length);
		opcode[length++] = (uint8_t)i;
		cover_opcode(&cover, opcode, length);
	}
	for (uint32_t i = 0; i < cover.missing.count; i++) printf("# not covered: %s\n", cover.missing.name[i]);
	printf("%s 1 - the differential test covers what the allow-list runs (%u encodings, %u forms missing)\n1..1\n", cover.missing.count ? "not ok" : "ok",
	       cover.runs, cover.missing.count);
	return cover.missing.count != 0;
}
