/* 32-bit ELF: executables, shared objects, relocatable files. Every offset and size is checked against the file before it is used. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/inspect_binary.h"

struct strings {
	const char *bytes;
	uint32_t size;
};

struct elf {
	struct binary *b;
	const char *name;
	const uint8_t *bytes;
	size_t size;
	Elf32_Ehdr header;
	uint32_t section_count;
	uint64_t code; /* bytes of executable sections so far: sections that overlap could make a small file endless */
};

static bool is_inside(const struct elf *e, uint64_t offset, uint64_t size)
{
	return offset <= e->size && size <= e->size - offset;
}

static int fail_corrupt(const struct elf *e, const char *what)
{
	return binary_fail(e->b, "the file '%s' is truncated or corrupt: %s; fetch it again", e->name, what);
}

static int check_header(struct elf *e)
{
	const Elf32_Ehdr *h = &e->header;
	if (e->size < sizeof(*h)) return fail_corrupt(e, "it ends within its ELF header");
	memcpy(&e->header, e->bytes, sizeof(e->header));
	if (h->e_ident[EI_CLASS] == ELFCLASS64)
		return binary_fail(e->b, "the file '%s' is a 64-bit ELF file: give a 32-bit (i386) one", e->name);
	if (h->e_ident[EI_CLASS] != ELFCLASS32 || h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_386)
		return binary_fail(e->b, "the file '%s' is an ELF file, but not for i386: give an i386 one", e->name);
	static const char *const kinds[] = { [ET_REL] = "relocatable file", [ET_EXEC] = "executable", [ET_DYN] = "shared object" };
	if (h->e_type == ET_CORE) return binary_fail(e->b, "the file '%s' is a core dump: give the program that it came from", e->name);
	if (h->e_type > ET_DYN || !kinds[h->e_type])
		return binary_fail(e->b, "the file '%s' is an ELF file of an unknown type (%u)", e->name, h->e_type);
	snprintf(e->b->what + strlen(e->b->what), sizeof(e->b->what) - strlen(e->b->what), "ELF %s", kinds[h->e_type]);
	e->b->entry = h->e_entry;
	e->b->has_entry = h->e_type != ET_REL && h->e_entry;
	e->b->fixed = h->e_type == ET_EXEC;
	return 0;
}

static Elf32_Shdr section_header(const struct elf *e, uint32_t index)
{
	Elf32_Shdr s;
	memcpy(&s, e->bytes + e->header.e_shoff + (uint64_t)index * sizeof(s), sizeof(s));
	return s;
}

/* A string table whose last string ends, or nothing. */
static struct strings strings_of(const struct elf *e, uint32_t index)
{
	if (index >= e->section_count) return (struct strings){ 0 };
	Elf32_Shdr s = section_header(e, index);
	bool usable = s.sh_type == SHT_STRTAB && s.sh_size && is_inside(e, s.sh_offset, s.sh_size) && !e->bytes[s.sh_offset + s.sh_size - 1];
	return usable ? (struct strings){ (const char *)e->bytes + s.sh_offset, s.sh_size } : (struct strings){ 0 };
}

static const char *string_at(const struct strings *s, uint32_t offset)
{
	return offset < s->size ? s->bytes + offset : "";
}

static int count_sections(struct elf *e)
{
	const Elf32_Ehdr *h = &e->header;
	e->section_count = h->e_shoff ? h->e_shnum : 0;
	if (!h->e_shoff) return 0;
	if (h->e_shentsize != sizeof(Elf32_Shdr) || !is_inside(e, h->e_shoff, sizeof(Elf32_Shdr)))
		return fail_corrupt(e, "its section headers are not in it");
	if (!e->section_count) e->section_count = section_header(e, 0).sh_size; /* more than 16 bits hold */
	if (!is_inside(e, h->e_shoff, (uint64_t)e->section_count * sizeof(Elf32_Shdr)))
		return fail_corrupt(e, "its section headers are not in it");
	return 0;
}

static int add_code(struct elf *e, const char *name, uint64_t offset, uint32_t size, uint32_t address)
{
	if (!is_inside(e, offset, size)) return fail_corrupt(e, "a section lies behind its end");
	if (size > UINT32_MAX - address) return fail_corrupt(e, "a section goes beyond 4 GiB");
	e->code += size;
	if (e->code > e->size) return fail_corrupt(e, "its sections overlap");
	struct binary_section s = { .name = name, .bytes = e->bytes + offset, .size = size, .address = address, .bits = 32 };
	return binary_add_section(e->b, &s) ? 0 : binary_fail_memory(e->b);
}

/* `ours`: for each section of the file, 1 + our index, or 0. */
static int add_symbols(struct elf *e, const Elf32_Shdr *table, const uint32_t *ours)
{
	struct strings names = strings_of(e, table->sh_link);
	if (!is_inside(e, table->sh_offset, table->sh_size)) return fail_corrupt(e, "its symbol table lies behind its end");
	for (uint64_t at = 0; at + sizeof(Elf32_Sym) <= table->sh_size; at += sizeof(Elf32_Sym)) {
		Elf32_Sym s;
		memcpy(&s, e->bytes + table->sh_offset + at, sizeof(s));
		unsigned type = ELF32_ST_TYPE(s.st_info);
		const char *name = string_at(&names, s.st_name);
		if (type > STT_FUNC || !*name || s.st_shndx >= e->section_count || !ours[s.st_shndx]) continue;
		struct binary_symbol symbol = { .name = name, .section = ours[s.st_shndx] - 1, .size = s.st_size,
			.function = type == STT_FUNC, .data = type == STT_OBJECT };
		const struct binary_section *code = &e->b->sections[symbol.section];
		symbol.offset = s.st_value - code->address;
		if (symbol.offset < code->size && !binary_add_symbol(e->b, &symbol)) return binary_fail_memory(e->b);
	}
	return 0;
}

/* The full symbol table, else the one for linking at run time. */
static int find_symbols(struct elf *e, const uint32_t *ours)
{
	static const uint32_t kinds[] = { SHT_SYMTAB, SHT_DYNSYM };
	for (unsigned kind = 0; kind < ARRAY_LEN(kinds); kind++) {
		for (uint32_t i = 0; i < e->section_count; i++) {
			Elf32_Shdr s = section_header(e, i);
			if (s.sh_type == kinds[kind]) return add_symbols(e, &s, ours);
		}
	}
	return 0;
}

static int find_code(struct elf *e, uint32_t *ours)
{
	uint32_t index = e->header.e_shstrndx;
	if (index == SHN_XINDEX) index = section_header(e, 0).sh_link;
	struct strings names = strings_of(e, index);
	for (uint32_t i = 0; i < e->section_count; i++) {
		Elf32_Shdr s = section_header(e, i);
		if (s.sh_type != SHT_PROGBITS || !(s.sh_flags & SHF_EXECINSTR) || (s.sh_flags & SHF_COMPRESSED) || !s.sh_size) continue;
		int error = add_code(e, string_at(&names, s.sh_name), s.sh_offset, s.sh_size, s.sh_addr);
		if (error) return error;
		ours[i] = e->b->section_count;
	}
	return 0;
}

static int add_sections(struct elf *e)
{
	uint32_t *ours = calloc(e->section_count, sizeof(*ours));
	if (!ours) return binary_fail_memory(e->b);
	int error = find_code(e, ours);
	if (!error) error = find_symbols(e, ours);
	free(ours);
	return error;
}

/* Without section headers, what is loaded and executable. */
static int add_segments(struct elf *e)
{
	const Elf32_Ehdr *h = &e->header;
	if (!h->e_phoff || !h->e_phnum) return 0;
	if (h->e_phentsize != sizeof(Elf32_Phdr) || !is_inside(e, h->e_phoff, (uint64_t)h->e_phnum * sizeof(Elf32_Phdr)))
		return fail_corrupt(e, "its program headers are not in it");
	for (unsigned i = 0; i < h->e_phnum; i++) {
		Elf32_Phdr p;
		memcpy(&p, e->bytes + h->e_phoff + i * sizeof(p), sizeof(p));
		if (p.p_type != PT_LOAD || !(p.p_flags & PF_X) || !p.p_filesz) continue;
		int error = add_code(e, "segment", p.p_offset, p.p_filesz, p.p_vaddr);
		if (error) return error;
	}
	return 0;
}

/* Kernels name their entry point by its physical address, which their program headers know. */
static void find_entry(struct elf *e)
{
	const Elf32_Ehdr *h = &e->header;
	struct binary *b = e->b;
	if (!b->has_entry || binary_find_address(b, b->entry) >= 0 || !h->e_phoff || h->e_phentsize != sizeof(Elf32_Phdr)) return;
	if (!is_inside(e, h->e_phoff, (uint64_t)h->e_phnum * sizeof(Elf32_Phdr))) return;
	for (unsigned i = 0; i < h->e_phnum; i++) {
		Elf32_Phdr p;
		memcpy(&p, e->bytes + h->e_phoff + i * sizeof(p), sizeof(p));
		if (p.p_type != PT_LOAD || h->e_entry - p.p_paddr >= p.p_filesz) continue;
		b->entry = h->e_entry - p.p_paddr + p.p_vaddr;
		return;
	}
}

int binary_add_elf(struct binary *b, const char *name, const uint8_t *bytes, size_t size)
{
	struct elf e = { .b = b, .name = name, .bytes = bytes, .size = size };
	uint32_t before = b->section_count;
	int error = check_header(&e);
	if (!error) error = count_sections(&e);
	if (!error) error = e.section_count ? add_sections(&e) : add_segments(&e);
	if (!error) find_entry(&e);
	if (!error && b->section_count == before) return binary_fail(b, "the file '%s' has no executable section: there is no code in it", name);
	return error;
}
