/* --symbols: any file, a System.map, a copy of /proc/kallsyms, an ELF file or a kernel, is read or refused with a sentence, and names what is asked. The
 * input's first byte chooses from where in the file the guest's page has its bytes. */
#include "base/abi.h"
#include "fuzz.h"
#include "runtime/symbols.h"

#define RING0 (MODE_PE | MODE_CS32 | MODE_SS32)
#define ASKED 64u /* symbols whose places are asked for: more cost time alone */

struct asking {
	struct symbols *symbols;
	const uint8_t *page;
	uint32_t count;
};

static void ask(struct asking *a, gva_t gva, uint32_t mode)
{
	struct code_place at = { .gva = gva, .page = a->page, .mode = mode };
	struct symbol found;
	char text[SYMBOLS_NAME];
	if (symbols_find(a->symbols, &at, &found) && (!found.name || (mode == RING0 && found.offset > gva))) fuzz_finding("no symbol: %08x", gva);
	symbols_print(a->symbols, &at, text, sizeof(text));
	for (const char *c = text; *c; c++) {
		if (*c < ' ' || *c > '~') fuzz_finding("not printable: %s", text);
	}
}

static bool ask_around(void *ctx, gva_t gva, uint32_t size, const char *name)
{
	struct asking *a = ctx;
	if (strlen(name) > 1u << 20) fuzz_finding("a name beyond the file");
	for (unsigned mode = RING0; mode <= (RING0 | 3); mode += 3) {
		ask(a, gva, mode);
		ask(a, gva - 1, mode);
		ask(a, gva + size, mode);
	}
	return ++a->count < ASKED;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t page[PAGE_SIZE];
	struct asking a = { .page = page };
	char why[8192] = "";
	if (!size) return 0;
	size_t from = (size_t)data[0] * 16 < size ? (size_t)data[0] * 16 : 0, bytes = size - 1 - from;
	memset(page, 0, sizeof(page));
	memcpy(page, data + 1 + from, bytes < sizeof(page) ? bytes : sizeof(page));
	if (symbols_read(&a.symbols, fuzz_file(data + 1, size - 1), why, sizeof(why))) {
		fuzz_check_sentence(why);
	} else {
		symbols_each(a.symbols, ask_around, &a);
		for (gva_t gva = 0; gva < PAGE_SIZE; gva += 509) ask(&a, gva, RING0 | 3);
	}
	symbols_free(a.symbols);
	return 0;
}
