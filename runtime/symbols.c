#include "runtime/symbols.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/abi.h"
#include "runtime/inspect_binary.h"
#include "runtime/symbols_map.h"

#define FILES_MAX 32u
#define SAME_LEAST 16u /* bytes of a page that say which file it is from */
#define KNOWN_PAGES 256u

struct file {
	struct binary elf;
	struct symbol_map map;
	bool is_map;
	char name[NAME_MAX + 1]; /* without folders */
};

/* A page of ring 3 and where it is from: looked for in every file, so kept. */
struct known_page {
	const struct file *file;
	gva_t page;
	uint32_t section, offset; /* of the page's first byte in the section, may be "negative" */
};

struct symbols {
	struct file files[FILES_MAX];
	unsigned count;
	struct known_page known[KNOWN_PAGES];
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static int read_map(struct file *f, const char *path, uint8_t *bytes, size_t size)
{
	f->is_map = true;
	f->elf.owned[0] = bytes;
	enum symbol_map_result result = symbol_map_parse(&f->map, (char *)bytes, size);
	if (result == SYMBOL_MAP_ZEROES)
		return binary_fail(&f->elf, "the file '%s' of --symbols has no addresses: copy /proc/kallsyms as root, with kernel.kptr_restrict below 2", path);
	if (result == SYMBOL_MAP_MEMORY) return binary_fail_memory(&f->elf);
	if (result == SYMBOL_MAP_EMPTY)
		return binary_fail(&f->elf, "the file '%s' of --symbols holds no symbols of 32-bit code: give an ELF file, a System.map or a copy of /proc/kallsyms", path);
	return 0;
}

static int read_elf(struct file *f, const char *path, uint8_t *bytes, size_t size)
{
	struct inspect_options o = { .file = path };
	int error = binary_parse(&f->elf, &o, path, bytes, size);
	if (!error && !f->elf.symbol_count)
		error = binary_fail(&f->elf, "the file '%s' of --symbols has no symbols: give one that is not stripped, or a System.map", path);
	return error;
}

static int read_one(struct symbols *s, const char *name, size_t length, char *why, size_t why_size)
{
	char path[PATH_MAX];
	uint8_t *bytes;
	size_t size;
	if (!length || length >= sizeof(path) || s->count == FILES_MAX)
		return snprintf(why, why_size, "--symbols names %s: give up to %u files, with commas between", length ? "too much" : "an empty file", FILES_MAX), EXIT_USAGE;
	memcpy(path, name, length);
	path[length] = 0;
	struct file *f = &s->files[s->count++];
	f->elf = (struct binary){ .why = why, .why_size = why_size };
	snprintf(f->name, sizeof(f->name), "%.*s", NAME_MAX, base_name(path));
	int error = binary_load(&f->elf, path, &bytes, &size);
	if (error) return error;
	bool binary = (size >= 4 && !memcmp(bytes, "\177ELF", 4)) || binary_is_linux(bytes, size);
	return binary ? read_elf(f, path, bytes, size) : read_map(f, path, bytes, size);
}

int symbols_read(struct symbols **out, const char *list, char *why, size_t why_size)
{
	struct symbols *s = *out = calloc(1, sizeof(*s));
	if (!s) return snprintf(why, why_size, "no memory left on the host for --symbols"), EXIT_USAGE;
	for (;;) {
		size_t length = strcspn(list, ",");
		int error = read_one(s, list, length, why, why_size);
		if (error) return error;
		if (!list[length]) return 0;
		list += length + 1;
	}
}

void symbols_free(struct symbols *s)
{
	for (unsigned i = 0; s && i < s->count; i++) {
		binary_free(&s->files[i].elf);
		free(s->files[i].map.symbols);
	}
	free(s);
}

static bool find_in_section(const struct binary *b, uint32_t section, uint32_t offset, struct symbol *found)
{
	const struct binary_symbol *symbol = binary_symbol_before(b, section, offset);
	if (!symbol || (symbol->size && offset - symbol->offset >= symbol->size)) return false;
	found->name = symbol->name;
	found->offset = offset - symbol->offset;
	return true;
}

static bool find_by_address(const struct symbols *s, gva_t gva, struct symbol *found)
{
	for (unsigned i = 0; i < s->count; i++) {
		const struct file *f = &s->files[i];
		if (f->is_map) {
			found->name = symbol_map_find(&f->map, gva, &found->offset);
			if (found->name) return true;
		} else if (f->elf.fixed) {
			int section = binary_find_address(&f->elf, gva);
			if (section >= 0 && find_in_section(&f->elf, (uint32_t)section, gva - f->elf.sections[section].address, found)) return true;
		}
	}
	return false;
}

/* How many bytes the section and the guest's page have in common if the page begins at this offset of the section; 0 if they differ. */
static uint32_t same_bytes(const struct binary_section *code, int64_t offset, const uint8_t *page)
{
	int64_t from = offset < 0 ? 0 : offset, to = offset + PAGE_SIZE < code->size ? offset + PAGE_SIZE : code->size;
	if (to - from < SAME_LEAST || memcmp(code->bytes + from, page + (from - offset), (size_t)(to - from))) return 0;
	return (uint32_t)(to - from);
}

/* The page of a file that has most in common with this one. */
static bool find_page(const struct symbols *s, const struct code_place *at, struct known_page *page)
{
	uint32_t best = 0;
	for (unsigned i = 0; i < s->count; i++) {
		const struct binary *b = &s->files[i].elf;
		for (uint32_t n = 0; n < b->section_count; n++) {
			const struct binary_section *code = &b->sections[n];
			int64_t first = -(int64_t)(code->address & PAGE_MASK), wanted = at->gva & PAGE_MASK;
			for (int64_t offset = first; offset < code->size; offset += PAGE_SIZE) {
				if (offset + wanted < 0 || offset + wanted >= code->size) continue;
				uint32_t same = same_bytes(code, offset, at->page);
				if (same <= best) continue;
				best = same;
				*page = (struct known_page){ &s->files[i], at->gva & ~PAGE_MASK, n, (uint32_t)offset };
			}
		}
	}
	return best;
}

static bool find_by_bytes(struct symbols *s, const struct code_place *at, struct symbol *found)
{
	struct known_page *page = &s->known[(at->gva >> PAGE_SHIFT) % KNOWN_PAGES];
	bool known = page->file && page->page == (at->gva & ~PAGE_MASK) &&
		same_bytes(&page->file->elf.sections[page->section], (int32_t)page->offset, at->page);
	if (!known && !find_page(s, at, page)) {
		page->file = NULL;
		return false;
	}
	found->file = page->file->name;
	return find_in_section(&page->file->elf, page->section, page->offset + (at->gva & PAGE_MASK), found);
}

bool symbols_find(struct symbols *s, const struct code_place *at, struct symbol *found)
{
	*found = (struct symbol){ 0 };
	if (!s) return false;
	return (at->mode & MODE_CPL) == 3 ? at->page && find_by_bytes(s, at, found) : find_by_address(s, at->gva, found);
}

static bool each_of_map(const struct symbol_map *m, bool (*fn)(void *ctx, gva_t gva, uint32_t size, const char *name), void *ctx)
{
	for (uint32_t i = 0; i < m->count; i++) {
		if (!fn(ctx, m->symbols[i].gva, symbol_map_size(m, i), m->symbols[i].name)) return false;
	}
	return true;
}

static bool each_of_elf(const struct binary *b, bool (*fn)(void *ctx, gva_t gva, uint32_t size, const char *name), void *ctx)
{
	for (uint32_t i = 0; b->fixed && i < b->symbol_count; i++) {
		const struct binary_symbol *symbol = &b->symbols[i];
		if (!fn(ctx, b->sections[symbol->section].address + symbol->offset, symbol->size, symbol->name)) return false;
	}
	return true;
}

bool symbols_each(const struct symbols *s, bool (*fn)(void *ctx, gva_t gva, uint32_t size, const char *name), void *ctx)
{
	for (unsigned i = 0; i < s->count; i++) {
		const struct file *f = &s->files[i];
		if (!(f->is_map ? each_of_map(&f->map, fn, ctx) : each_of_elf(&f->elf, fn, ctx))) return false;
	}
	return true;
}

static char ring_letter(uint32_t mode)
{
	if (!(mode & MODE_PE)) return 'r';
	if (mode & MODE_VM) return 'v';
	return (mode & MODE_CPL) == 3 ? 'u' : 'k';
}

void symbols_print(struct symbols *s, const struct code_place *at, char *text, size_t size)
{
	struct symbol found;
	char offset[16] = "", ring = ring_letter(at->mode);
	if (!symbols_find(s, at, &found)) {
		if (ring == 'u' || ring == 'v') snprintf(text, size, "[%c] cr3=0x%08" PRIx32 " 0x%08" PRIx32, ring, at->cr3, at->gva);
		else snprintf(text, size, "[%c] 0x%08" PRIx32, ring, at->gva);
		return;
	}
	if (found.offset) snprintf(offset, sizeof(offset), "+0x%" PRIx32, found.offset);
	int room = (int)(size - sizeof(offset) - 8);
	if (found.file) snprintf(text, size, "[%c] %.*s:%.*s%s", ring, room / 3, found.file, room - room / 3, found.name, offset);
	else snprintf(text, size, "[%c] %.*s%s", ring, room, found.name, offset);
	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7F) *c = '?';
	}
}
