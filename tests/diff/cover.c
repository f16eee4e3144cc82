/* Does the test have every instruction form of a list that `bt-vmm --forms` wrote? */
#include <string.h>

#include "base/abi.h"
#include "diff.h"
#include "translator/translator.h"

/* Forms that no user-mode code has, or that are not told by registers and memory alone: the guest programs (tests/guest) have them. */
static const char *const elsewhere[] = {
	"call ptr", "call m", "cli", "clts", "cpuid", "fldenv m", "fnsave m", "fnstenv m", "frstor m", "fxrstor m", "fxsave m", "hlt", "in ", "int ", "int3",
	"into", "invd", "invlpg", "iretd", "jmp ptr", "lar ", "lds ", "les ", "lfs ", "lgdt ", "lgs ", "lidt ", "lldt ", "lmsw ", "lsl ", "lss ", "ltr ",
	"mov cr", "mov dr", "mov m16,sreg", "mov r32,cr", "mov r32,dr", "mov sreg", "out ", "pop sreg", "push sreg", "rdmsr", "rdpmc", "rdtsc", "rep insb",
	"rep insw", "rep outsb", "rep outsw", "ret imm", "sgdt ", "sidt ", "sldt ", "smsw ", "sti", "str ", "sysenter", "sysexit", "ud1", "verr ", "verw ",
	"wbinvd", "wrmsr", "(undefined)",
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

static void collect_names(struct names *n)
{
	static struct diff_case c;
	char name[NAME_SIZE];

	for (uint32_t form = 0; form < diff_form_count(); form++) {
		for (uint64_t seed = 1; seed <= 60; seed++) {
			diff_make(&c, form, seed);
			translator_form(c.code, c.length, MODE_CS32 | MODE_SS32 | MODE_PE, name, sizeof(name));
			if (!has_name(n, name) && n->count < MAX_NAMES)
				strcpy(n->name[n->count++], name);
		}
	}
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
		if (has_name(&known, name) || is_elsewhere(name))
			continue;
		printf("# not covered: %s\n", name);
		missing++;
	}
	fclose(in);
	printf("%s 1 - the differential test covers the forms of %s (%u, %u missing)\n1..1\n", missing ? "not ok" : "ok", file, seen, missing);
	return missing != 0;
}
