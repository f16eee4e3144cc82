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

/* One opcode, with any ModRM behind it that says more: the registers and memory forms of each /digit. */
static void cover_opcode(const struct names *known, struct names *missing, const uint8_t *opcode, uint32_t length, uint32_t *runs)
{
	static const uint8_t modrm[] = {0x00, 0xC0, 0xC1};
	uint8_t bytes[16] = {0};
	struct translator_insn insn;
	char name[NAME_SIZE];

	memcpy(bytes, opcode, length);
	for (unsigned i = 0; i < 8 * sizeof(modrm); i++) {
		bytes[length] = (uint8_t)(modrm[i / 8] | i % 8 << 3);
		if (!translator_classify(bytes, sizeof(bytes), USER_MODE, &insn) || !insn.runs)
			continue;
		++*runs;
		translator_form(bytes, sizeof(bytes), USER_MODE, name, sizeof(name));
		if (!is_covered(known, name) && !has_name(missing, name) && missing->count < MAX_NAMES)
			strcpy(missing->name[missing->count++], name);
	}
}

/* All opcodes of all maps, with each mandatory prefix. */
int diff_check_allow_list(void)
{
	static const uint8_t maps[][2] = {{0}, {0x0F}, {0x0F, 0x38}, {0x0F, 0x3A}}, prefixes[] = {0, 0x66, 0xF2, 0xF3};
	static struct names known, missing;
	uint32_t runs = 0;

	collect_names(&known);
	for (unsigned i = 0; i < sizeof(maps) / sizeof(*maps) * sizeof(prefixes) * 256; i++) {
		uint8_t bytes[8];
		uint32_t length = 0, map = i / 1024;
		if (prefixes[i / 256 % 4])
			bytes[length++] = prefixes[i / 256 % 4];
		for (unsigned j = 0; j < 2 && maps[map][j]; j++) bytes[length++] = maps[map][j];
		bytes[length++] = (uint8_t)i;
		cover_opcode(&known, &missing, bytes, length, &runs);
	}
	for (uint32_t i = 0; i < missing.count; i++) printf("# not covered: %s\n", missing.name[i]);
	printf("%s 1 - the differential test covers what the allow-list runs (%u encodings, %u forms missing)\n1..1\n", missing.count ? "not ok" : "ok", runs,
	       missing.count);
	return missing.count != 0;
}
