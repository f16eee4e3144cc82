/* Names of guest code: maps by address, programs by the bytes of their pages. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/abi.h"
#include "runtime/options.h"
#include "runtime/symbols.h"
#include "tests/shim/test.h"

#define KERNEL (MODE_PE | MODE_CS32 | MODE_SS32)
#define USER (KERNEL | 3u)

struct folder {
	char path[64], list[512], why[512];
	struct symbols *symbols;
	int error;
};

static void begin(struct folder *f)
{
	*f = (struct folder){ .path = "/tmp/bt-vmm-symbols-XXXXXX" };
	if (!mkdtemp(f->path)) abort();
}

/* Write a file and put it on the list. */
static void add(struct folder *f, const char *name, const void *bytes, size_t size)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", f->path, name);
	FILE *file = fopen(path, "w");
	if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) abort();
	snprintf(f->list + strlen(f->list), sizeof(f->list) - strlen(f->list), "%s%s", *f->list ? "," : "", path);
}

static void read_list(struct folder *f)
{
	f->error = symbols_read(&f->symbols, f->list, f->why, sizeof(f->why));
}

static void end(struct folder *f)
{
	for (char *at = strtok(f->list, ","); at; at = strtok(NULL, ",")) unlink(at);
	rmdir(f->path);
	symbols_free(f->symbols);
}

static const char *named(struct folder *f, gva_t gva, uint32_t mode, const uint8_t *page)
{
	static char text[SYMBOLS_NAME];
	symbols_print(f->symbols, &(struct code_place){ .gva = gva, .page = page, .mode = mode, .cr3 = 0x1234000 }, text, sizeof(text));
	return text;
}

/* An ELF file of one section of code, 6000 bytes from `address` on, with two functions: "first" (16 bytes) and "second" at 5000. */
#define CODE_SIZE 6000u
struct image {
	Elf32_Ehdr header;
	Elf32_Shdr sections[5];
	Elf32_Sym symbols[3];
	char strings[32], names[40];
	uint8_t code[CODE_SIZE];
};

static void make_image(struct image *i, uint16_t type, uint32_t address, uint8_t seed)
{
	*i = (struct image){
		.header = { .e_ident = { 0x7F, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT }, .e_type = type, .e_machine = EM_386, .e_version = 1,
			.e_entry = address, .e_shoff = offsetof(struct image, sections), .e_ehsize = sizeof(Elf32_Ehdr), .e_shentsize = sizeof(Elf32_Shdr),
			.e_shnum = 5, .e_shstrndx = 4 },
		.sections = { { 0 },
			{ 1, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, address, offsetof(struct image, code), CODE_SIZE, 0, 0, 16, 0 },
			{ 7, SHT_SYMTAB, 0, 0, offsetof(struct image, symbols), sizeof(i->symbols), 3, 1, 4, sizeof(Elf32_Sym) },
			{ 15, SHT_STRTAB, 0, 0, offsetof(struct image, strings), sizeof(i->strings), 0, 0, 1, 0 },
			{ 23, SHT_STRTAB, 0, 0, offsetof(struct image, names), sizeof(i->names), 0, 0, 1, 0 } },
		.symbols = { { 0 }, { 1, address, 16, ELF32_ST_INFO(STB_GLOBAL, STT_FUNC), 0, 1 },
			{ 7, address + 5000, 1000, ELF32_ST_INFO(STB_GLOBAL, STT_FUNC), 0, 1 } },
	};
	memcpy(i->strings, "\0first\0second", 14);
	memcpy(i->names, "\0.text\0.symtab\0.strtab\0.shstrtab", 33);
	for (uint32_t n = 0; n < CODE_SIZE; n++) i->code[n] = (uint8_t)(n * 31 + (n >> 8) + seed);
}

TEST(symbols, map_names_kernel_code)
{
	static const char text[] = "c1000000 T _text\nc1000000 T startup\nc1000100 t do_nothing\nc1000180 D a_variable\n"
							   "f8000000 t helper\t[a_module]\nc1000040 W early\n";
	struct folder f;
	begin(&f);
	add(&f, "map", text, sizeof(text) - 1);
	read_list(&f);
	CHECK_EQ(f.error, 0);
	CHECK_STR(named(&f, 0xC1000000, KERNEL, NULL), "[k] startup");
	CHECK_STR(named(&f, 0xC1000045, KERNEL, NULL), "[k] early+0x5");
	CHECK_STR(named(&f, 0xC1000190, KERNEL, NULL), "[k] do_nothing+0x90");
	CHECK_STR(named(&f, 0xF8000001, KERNEL | 1, NULL), "[k] helper [a_module]+0x1");
	CHECK_STR(named(&f, 0xC0FFFFFF, KERNEL, NULL), "[k] 0xc0ffffff");
	CHECK_STR(named(&f, 0xC2000000, KERNEL, NULL), "[k] 0xc2000000");
	CHECK_STR(named(&f, 0x8048123, USER, NULL), "[u] cr3=0x01234000 0x08048123");
	CHECK_STR(named(&f, 0x7C00, 0, NULL), "[r] 0x00007c00");
	CHECK_STR(named(&f, 0x1234, USER | MODE_VM, NULL), "[v] cr3=0x01234000 0x00001234");
	end(&f);
}

TEST(symbols, executable_names_kernel_code_where_it_was_linked)
{
	static struct image i;
	struct folder f;
	begin(&f);
	make_image(&i, ET_EXEC, 0xC0100000, 1);
	add(&f, "vmlinux", &i, sizeof(i));
	read_list(&f);
	CHECK_EQ(f.error, 0);
	CHECK_STR(named(&f, 0xC010000F, KERNEL, NULL), "[k] first+0xf");
	CHECK_STR(named(&f, 0xC0100010, KERNEL, NULL), "[k] 0xc0100010"); /* behind the end of "first" */
	CHECK_STR(named(&f, 0xC0100000 + 5000, KERNEL, NULL), "[k] second");
	end(&f);
}

TEST(symbols, programs_are_told_apart_by_their_bytes)
{
	static struct image one, two, library;
	static uint8_t page[PAGE_SIZE];
	struct folder f;
	begin(&f);
	make_image(&one, ET_EXEC, 0x8048200, 1);
	make_image(&two, ET_EXEC, 0x8048200, 99);
	make_image(&library, ET_DYN, 0x400, 7);
	add(&f, "one", &one, sizeof(one));
	add(&f, "two", &two, sizeof(two));
	add(&f, "lib.so", &library, sizeof(library));
	read_list(&f);
	CHECK_EQ(f.error, 0);
	memcpy(page + 0x200, two.code, PAGE_SIZE - 0x200);
	CHECK_STR(named(&f, 0x8048205, USER, page), "[u] two:first+0x5");
	memcpy(page + 0x200, one.code, PAGE_SIZE - 0x200);
	CHECK_STR(named(&f, 0x8048205, USER, page), "[u] one:first+0x5");
	page[0x300] ^= 1;
	CHECK_STR(named(&f, 0x8048205, USER, page), "[u] cr3=0x01234000 0x08048205");
	/* The library's second page, at an address of this process's own. */
	memcpy(page, library.code + PAGE_SIZE - 0x400, CODE_SIZE - (PAGE_SIZE - 0x400));
	CHECK_STR(named(&f, 0xB7F12000 + 0x400 + 5000 - PAGE_SIZE + 2, USER, page), "[u] lib.so:second+0x2");
	/* A library has no address of its own for a kernel. */
	CHECK_STR(named(&f, 0x400, KERNEL, page), "[k] 0x00000400");
	end(&f);
}

TEST(symbols, what_cannot_be_used_is_refused)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "c1000000 T a\nnonsense\n", "holds no symbols" },
		{ "c1000000 D a\n", "holds no symbols" },
		{ "ffffffff81000000 T a\n", "holds no symbols" },
		{ "00000000 T a\n00000000 T b\n", "as root" },
		{ "c1000000 T a", "holds no symbols" },
		{ "c1000000", "holds no symbols" },
		{ "\n", "holds no symbols" },
		{ "\177ELF", "truncated" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct folder f;
		begin(&f);
		add(&f, "map", rows[i].text, strlen(rows[i].text));
		read_list(&f);
		CHECK_EQ(f.error, EXIT_USAGE);
		if (!strstr(f.why, rows[i].why)) test_fail(__FILE__, __LINE__, "row %u: \"%s\" does not say \"%s\"", i, f.why, rows[i].why);
		end(&f);
	}
}

TEST(symbols, names_of_any_length_fit)
{
	char text[600];
	memset(text, 'n', sizeof(text));
	memcpy(text, "c1000000 T ", 11);
	text[20] = 1;
	text[sizeof(text) - 1] = '\n';
	struct folder f;
	begin(&f);
	add(&f, "map", text, sizeof(text));
	read_list(&f);
	CHECK_EQ(f.error, 0);
	const char *name = named(&f, 0xC10FFFFF, KERNEL, NULL);
	CHECK(strlen(name) < SYMBOLS_NAME && strstr(name, "+0xfffff") && strchr(name, '?'));
	end(&f);
}
