/* A binary's code: executable sections and the symbols in them, from an ELF file, a bzImage or raw bytes. */
#ifndef RUNTIME_INSPECT_BINARY_H
#define RUNTIME_INSPECT_BINARY_H

#include "runtime/options.h"

struct binary_section {
	const char *name;
	const uint8_t *bytes;
	uint32_t size;
	uint32_t address; /* of the first byte; 0 in relocatable files */
	unsigned bits; /* 16 or 32 */
};

struct binary_symbol {
	const char *name;
	uint32_t section; /* index */
	uint32_t offset, size; /* in the section; size 0: not said */
	bool function, data;
};

struct binary {
	char what[160]; /* "ELF executable", ... */
	char note[256]; /* what could not be looked at, and why; or "" */
	struct binary_section *sections;
	uint32_t section_count;
	struct binary_symbol *symbols; /* in ascending order of section and offset */
	uint32_t symbol_count;
	uint32_t entry;
	bool has_entry;
	bool fixed; /* it runs at the addresses of its sections: no shared object or relocatable file */
	uint8_t *owned[2]; /* the file, and a decompressed payload */
	struct symbols *more; /* of --symbols: it holds their names */
	char *why;
	size_t why_size;
};

/* Read what the options say: a file, or --bytes. Returns 0 or EXIT_USAGE with one sentence; binary_free in any case. */
int binary_read(struct binary *b, const struct inspect_options *o, char *why, size_t why_size);
/* The whole of a file, malloced. Returns 0 or EXIT_USAGE with one sentence. */
int binary_load(struct binary *b, const char *file, uint8_t **bytes, size_t *size);
/* As binary_read, from bytes (malloced; the binary takes them) of a file called `name`. */
int binary_parse(struct binary *b, const struct inspect_options *o, const char *name, uint8_t *bytes, size_t size);
void binary_free(struct binary *b);

/* The last symbol of this section at or before the offset, or NULL. */
const struct binary_symbol *binary_symbol_before(const struct binary *b, uint32_t section, uint32_t offset);
/* Index of the section that holds this address, or -1. */
int binary_find_address(const struct binary *b, uint32_t address);

/* inspect_elf.c: add the sections and symbols of an ELF file within `bytes`, which outlive the binary's use. */
int binary_add_elf(struct binary *b, const char *name, const uint8_t *bytes, size_t size);
/* inspect_linux.c: ditto, of a bzImage, with its decompressed payload. */
bool binary_is_linux(const uint8_t *bytes, size_t size);
int binary_add_linux(struct binary *b, const char *name, const uint8_t *bytes, size_t size);

bool binary_add_section(struct binary *b, const struct binary_section *s);
bool binary_add_symbol(struct binary *b, const struct binary_symbol *s);
int binary_fail(struct binary *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
int binary_fail_memory(struct binary *b);

#endif
