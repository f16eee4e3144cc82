#include "runtime/inspect_binary.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/boot_parts.h"
#include "runtime/symbols.h"

#define FILE_MAX MIB(1024)

int binary_fail(struct binary *b, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(b->why, b->why_size, format, args);
	va_end(args);
	return EXIT_USAGE;
}

int binary_fail_memory(struct binary *b)
{
	return binary_fail(b, "no memory left on the host to read the file");
}

/* Room for one more in an array that doubles when its count is a power of two. */
static void *grow(void *array, uint32_t count, size_t size)
{
	if (count & (count - 1)) return array;
	return realloc(array, (count ? 2 * (size_t)count : 1) * size);
}

bool binary_add_section(struct binary *b, const struct binary_section *s)
{
	struct binary_section *grown = grow(b->sections, b->section_count, sizeof(*s));
	if (!grown) return false;
	b->sections = grown;
	b->sections[b->section_count++] = *s;
	return true;
}

bool binary_add_symbol(struct binary *b, const struct binary_symbol *s)
{
	struct binary_symbol *grown = grow(b->symbols, b->symbol_count, sizeof(*s));
	if (!grown) return false;
	b->symbols = grown;
	b->symbols[b->symbol_count++] = *s;
	return true;
}

/* By place; of several at one place, a function with a size is the last. */
static int compare_symbols(const void *a, const void *b)
{
	const struct binary_symbol *x = a, *y = b;
	if (x->section != y->section) return x->section < y->section ? -1 : 1;
	if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
	if (x->function != y->function) return x->function ? 1 : -1;
	if (!x->size != !y->size) return x->size ? 1 : -1;
	return x->name < y->name ? -1 : x->name > y->name;
}

const struct binary_symbol *binary_symbol_before(const struct binary *b, uint32_t section, uint32_t offset)
{
	uint32_t low = 0, high = b->symbol_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct binary_symbol *s = &b->symbols[middle];
		if (s->section < section || (s->section == section && s->offset <= offset)) low = middle + 1;
		else high = middle;
	}
	return low && b->symbols[low - 1].section == section ? &b->symbols[low - 1] : NULL;
}

int binary_find_address(const struct binary *b, uint32_t address)
{
	for (uint32_t i = 0; i < b->section_count; i++) {
		if (address - b->sections[i].address < b->sections[i].size) return (int)i;
	}
	return -1;
}

static int add_raw(struct binary *b, const struct inspect_options *o, const char *name, const uint8_t *bytes, size_t size)
{
	if (size > (uint64_t)UINT32_MAX + 1 - o->base)
		return binary_fail(b, "the file '%s' does not fit between --base 0x%x and 4 GiB: give a lower --base", name, o->base);
	snprintf(b->what, sizeof(b->what), "raw %u-bit code", o->bits);
	struct binary_section s = { .name = "raw", .bytes = bytes, .size = (uint32_t)size, .address = o->base, .bits = o->bits };
	b->entry = o->base;
	b->has_entry = true;
	return binary_add_section(b, &s) ? 0 : binary_fail_memory(b);
}

static int add_any(struct binary *b, const struct inspect_options *o, const char *name, const uint8_t *bytes, size_t size)
{
	if (o->raw) return add_raw(b, o, name, bytes, size);
	if (size >= 4 && !memcmp(bytes, "\177ELF", 4)) return binary_add_elf(b, name, bytes, size);
	if (binary_is_linux(bytes, size)) return binary_add_linux(b, name, bytes, size);
	return binary_fail(b, "the file '%s' is neither ELF nor a Linux bzImage: if it is bare code, say so with --raw, --base and --bits", name);
}

int binary_parse(struct binary *b, const struct inspect_options *o, const char *name, uint8_t *bytes, size_t size)
{
	b->owned[0] = bytes;
	int error = add_any(b, o, name, bytes, size);
	if (!error && b->symbol_count) qsort(b->symbols, b->symbol_count, sizeof(b->symbols[0]), compare_symbols);
	return error;
}

static int hex_digit(char c)
{
	if (isdigit((unsigned char)c)) return c - '0';
	return isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* "0f 01 d8" or "0f01d8". */
static int read_hex(struct binary *b, const struct inspect_options *o)
{
	size_t size = 0;
	uint8_t *bytes = malloc(strlen(o->bytes) / 2 + 1);
	b->owned[0] = bytes;
	if (!bytes) return binary_fail_memory(b);
	for (const char *c = o->bytes; *c;) {
		if (isspace((unsigned char)*c)) {
			c++;
			continue;
		}
		if (hex_digit(c[0]) < 0 || hex_digit(c[1]) < 0)
			return binary_fail(b, "--bytes '%s' is wrong at '%s': give bytes as two hexadecimal digits each", o->bytes, c);
		bytes[size++] = (uint8_t)(hex_digit(c[0]) << 4 | hex_digit(c[1]));
		c += 2;
	}
	return size ? add_raw(b, o, "--bytes", bytes, size) : binary_fail(b, "--bytes holds no bytes: give two hexadecimal digits for each");
}

int binary_load(struct binary *b, const char *file, uint8_t **bytes, size_t *size)
{
	struct boot_load load = { .why = b->why, .why_size = b->why_size };
	struct boot_file *f = NULL;
	*bytes = NULL;
	int error = boot_open(&load, "file", file, strlen(file), &f) ? EXIT_USAGE : 0;
	if (!error && f->size > FILE_MAX)
		error = binary_fail(b, "the file '%s' has more than %" PRIu64 "M: cut out the part to look at", f->name, FILE_MAX >> 20);
	if (!error && !(*bytes = malloc(f->size))) error = binary_fail_memory(b);
	if (!error && boot_read(&load, f, 0, *bytes, f->size)) error = EXIT_USAGE;
	if (!error) *size = f->size;
	else free(*bytes);
	boot_close_files(&load);
	return error;
}

static int read_file(struct binary *b, const struct inspect_options *o)
{
	uint8_t *bytes;
	size_t size;
	int error = binary_load(b, o->file, &bytes, &size);
	return error ? error : binary_parse(b, o, o->file, bytes, size);
}

static bool add_named(void *ctx, gva_t gva, uint32_t size, const char *name)
{
	struct binary *b = ctx;
	int section = binary_find_address(b, gva);
	if (section < 0) return true;
	struct binary_symbol s = { .name = name, .section = (uint32_t)section, .offset = gva - b->sections[section].address, .size = size,
		.function = true };
	return binary_add_symbol(b, &s);
}

/* Names of the code from other files: a kernel in a bzImage has none. */
static int add_more(struct binary *b, const char *list)
{
	uint32_t before = b->symbol_count;
	int error = symbols_read(&b->more, list, b->why, b->why_size);
	if (error) return error;
	if (!symbols_each(b->more, add_named, b)) return binary_fail_memory(b);
	if (b->symbol_count == before)
		return binary_fail(b, "--symbols '%s' names no code of the file: give the symbols of this build, without KASLR", list);
	qsort(b->symbols, b->symbol_count, sizeof(b->symbols[0]), compare_symbols);
	return 0;
}

int binary_read(struct binary *b, const struct inspect_options *o, char *why, size_t why_size)
{
	*b = (struct binary){ .why = why, .why_size = why_size };
	int error = o->bytes ? read_hex(b, o) : read_file(b, o);
	return error || !o->symbols ? error : add_more(b, o->symbols);
}

void binary_free(struct binary *b)
{
	free(b->sections);
	free(b->symbols);
	symbols_free(b->more);
	for (unsigned i = 0; i < ARRAY_LEN(b->owned); i++) free(b->owned[i]);
}
