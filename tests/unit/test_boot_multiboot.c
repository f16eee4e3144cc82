/* Multiboot 1 kernels, ELF and by the header's addresses: what is accepted, what the kernel is told, and what is refused. */
#include "tests/unit/boot_image.h"

#include <elf.h>

#define HEADER_AT 0x1000u
#define TEXT_SIZE 0x200u

static void put_header(struct image *k, size_t at, uint32_t flags)
{
	image_put32(k, at, 0x1BADB002);
	image_put32(k, at + 4, flags);
	image_put32(k, at + 8, -(0x1BADB002 + flags));
}

static Elf32_Ehdr *ehdr(struct image *k) { return (Elf32_Ehdr *)k->bytes; }
static Elf32_Phdr *phdr(struct image *k, unsigned i) { return (Elf32_Phdr *)(k->bytes + sizeof(Elf32_Ehdr)) + i; }

/* Two segments: text at 1 MiB, linked 3 GiB higher, and data with a bss. */
static void make_elf(struct image *k)
{
	memset(k, 0, sizeof(*k));
	k->size = HEADER_AT + 2 * TEXT_SIZE;
	for (unsigned i = 0; i < 2 * TEXT_SIZE; i++) k->bytes[HEADER_AT + i] = (uint8_t)(i * 5 + 1);
	*ehdr(k) = (Elf32_Ehdr){
		.e_ident = { 0x7F, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC, .e_machine = EM_386, .e_version = EV_CURRENT, .e_entry = 0xC0100010,
		.e_phoff = sizeof(Elf32_Ehdr), .e_ehsize = sizeof(Elf32_Ehdr), .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 2,
	};
	*phdr(k, 0) = (Elf32_Phdr){ PT_LOAD, HEADER_AT, 0xC0100000, 0x100000, TEXT_SIZE, TEXT_SIZE, PF_R | PF_X, 0x1000 };
	*phdr(k, 1) = (Elf32_Phdr){ PT_LOAD, HEADER_AT + TEXT_SIZE, 0xC0102000, 0x102000, TEXT_SIZE, 0x1800, PF_R | PF_W, 0x1000 };
	put_header(k, HEADER_AT, 3);
}

/* No ELF: a flat image by the addresses in its header. */
static void make_flat(struct image *k)
{
	memset(k, 0, sizeof(*k));
	k->size = 0x400;
	for (unsigned i = 0; i < k->size; i++) k->bytes[i] = (uint8_t)(i * 3 + 1);
	put_header(k, 0x80, 0x10003);
	static const uint32_t addresses[] = { 0x100040, 0x100000, 0x100300, 0x101000, 0x100060 };
	memcpy(k->bytes + 0x8C, addresses, sizeof(addresses));
}

TEST(boot_multiboot, elf_segments_and_entry)
{
	struct image k;
	make_elf(&k);
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	CHECK(l.entry.multiboot);
	CHECK_EQ(l.entry.eip, 0x100010); /* e_entry is linear: translated */
	CHECK_EQ(l.entry.gpr[EAX], 0x2BADB002);
	CHECK_MEM(image_ram() + 0x100000, k.bytes + HEADER_AT, TEXT_SIZE);
	CHECK_EQ(image_ram()[0x100000 + TEXT_SIZE], FILL);
	CHECK_MEM(image_ram() + 0x102000, k.bytes + HEADER_AT + TEXT_SIZE, TEXT_SIZE);
	for (uint32_t at = 0x102000 + TEXT_SIZE; at < 0x103800; at++) REQUIRE_EQ(image_ram()[at], 0);
	CHECK_EQ(image_ram()[0x103800], FILL);
	/* A physical e_entry is taken as it is. */
	ehdr(&k)->e_entry = 0x100020;
	l.config.kernel = image_file(&k);
	image_load(&l);
	CHECK_EQ(l.error, 0);
	CHECK_EQ(l.entry.eip, 0x100020);
}

TEST(boot_multiboot, information)
{
	struct image k;
	make_elf(&k);
	struct loaded l = { .config = { .kernel = image_file(&k), .append = "one two" } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	uint32_t info = l.entry.gpr[EBX];
	CHECK_EQ(ram32(info), 1 | 4 | 8 | 0x40 | 0x200);
	CHECK_EQ(ram32(info + 4), 639);
	CHECK_EQ(ram32(info + 8), (RAM_SIZE - 0x100000) >> 10);
	char cmdline[128];
	snprintf(cmdline, sizeof(cmdline), "%s one two", k.name);
	CHECK_STR((const char *)image_ram() + ram32(info + 16), cmdline);
	CHECK_EQ(ram32(info + 20), 0);
	CHECK_EQ(ram32(info + 44), 4 * 24);
	static const uint32_t map[] = {
		20, 0, 0, 0x9FC00, 0, 1, 20, 0x9FC00, 0, 0x400, 0, 2, 20, 0xE0000, 0, 0x20000, 0, 2,
		20, 0x100000, 0, RAM_SIZE - 0x100000, 0, 1,
	};
	CHECK_MEM(image_ram() + ram32(info + 48), map, sizeof(map));
	CHECK_STR((const char *)image_ram() + ram32(info + 64), "bt-vmm");
	CHECK(info >= 0x1000 && info < 0x9F000); /* not where a kernel looks for free memory */
	CHECK_EQ(ram32(l.entry.gdt + 16), 0x0000FFFF);
	CHECK_EQ(ram32(l.entry.gdt + 20), 0x00CF9B00);
}

TEST(boot_multiboot, empty_command_line_is_the_name_alone)
{
	struct image k;
	make_elf(&k);
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	CHECK_STR((const char *)image_ram() + ram32(l.entry.gpr[EBX] + 16), k.name);
}

TEST(boot_multiboot, information_avoids_a_kernel_in_low_memory)
{
	struct image k;
	make_elf(&k);
	phdr(&k, 1)->p_paddr = 0x1000;
	phdr(&k, 1)->p_memsz = 0x9000;
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	CHECK(l.entry.gpr[EBX] >= 0xA000);
	/* All of low memory: then behind the kernel. */
	phdr(&k, 1)->p_paddr = 0;
	phdr(&k, 1)->p_memsz = 0x9FC00;
	l.config.kernel = image_file(&k);
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	CHECK_EQ(l.entry.gpr[EBX], 0x101000);
}

TEST(boot_multiboot, modules)
{
	struct image k, one = { .size = 5000 }, two = { .size = 10 };
	make_elf(&k);
	memset(one.bytes, 0x11, one.size);
	memset(two.bytes, 0x22, two.size);
	char with_arguments[128];
	image_file(&one);
	snprintf(with_arguments, sizeof(with_arguments), "%s root=1 x", one.name);
	const char *names[] = { with_arguments, image_file(&two) };
	struct loaded l = { .config = { .kernel = image_file(&k), .initrd = names, .initrd_count = 2 } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	uint32_t info = l.entry.gpr[EBX], mods = ram32(info + 24);
	CHECK_EQ(ram32(info + 20), 2);
	CHECK_EQ(ram32(mods), 0x104000); /* page-aligned, behind the bss */
	CHECK_EQ(ram32(mods + 4), 0x104000 + 5000);
	CHECK_STR((const char *)image_ram() + ram32(mods + 8), with_arguments);
	CHECK_EQ(ram32(mods + 12), 0);
	CHECK_EQ(ram32(mods + 16), 0x106000);
	CHECK_EQ(ram32(mods + 20), 0x106000 + 10);
	CHECK_STR((const char *)image_ram() + ram32(mods + 24), two.name);
	CHECK_MEM(image_ram() + 0x104000, one.bytes, one.size);
	CHECK_MEM(image_ram() + 0x106000, two.bytes, two.size);
}

TEST(boot_multiboot, modules_that_do_not_fit)
{
	struct image k, module = { .size = 8193 };
	make_elf(&k);
	phdr(&k, 1)->p_memsz = RAM_SIZE - 0x102000 - 8192;
	const char *names[] = { image_file(&module) };
	struct loaded l = { .config = { .kernel = image_file(&k), .initrd = names, .initrd_count = 1 } };
	EXPECT_FAILURE(&l, "does not fit");
	module.size = 8192;
	names[0] = image_file(&module);
	image_load(&l);
	CHECK_EQ(l.error, 0);
	const char *missing[] = { "/nonexistent argument" };
	l.config.initrd = missing;
	EXPECT_FAILURE(&l, "cannot open the module '/nonexistent':");
}

TEST(boot_multiboot, flat_image)
{
	struct image k;
	make_flat(&k);
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	CHECK_EQ(l.entry.eip, 0x100060);
	CHECK_MEM(image_ram() + 0x100000, k.bytes + 0x40, 0x300);
	for (uint32_t at = 0x100300; at < 0x101000; at++) REQUIRE_EQ(image_ram()[at], 0);
	CHECK_EQ(image_ram()[0x101000], FILL);
	/* load_end_addr 0: to the file's end; bss_end_addr 0: no bss. */
	image_put32(&k, 0x80 + 20, 0);
	image_put32(&k, 0x80 + 24, 0);
	l.config.kernel = image_file(&k);
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	CHECK_MEM(image_ram() + 0x100000, k.bytes + 0x40, 0x3C0);
	CHECK_EQ(image_ram()[0x1003C0], FILL);
}

TEST(boot_multiboot, flat_images_that_are_refused)
{
	static const struct {
		size_t at;
		uint32_t value;
		const char *part;
	} rows[] = {
		{ 12, 0xFFFFF, "contradict" },   /* header_addr below load_addr */
		{ 12, 0x100081, "contradict" },  /* before the file's start */
		{ 16, 0xFFFFFFFF, "contradict" },
		{ 20, 0x100000, "contradict" },
		{ 20, 0x100400, "truncated" },
		{ 20, 0xFFFFFFFF, "truncated" },
		{ 24, 0xFFFFFFFF, "is not in RAM" },
		{ 24, 0x2000001, "give --memory 33M" },
		{ 28, 0x101000, "entry point" },
		{ 28, 0xFFFFF, "entry point" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct image k;
		make_flat(&k);
		image_put32(&k, 0x80 + rows[i].at, rows[i].value);
		struct loaded l = { .config = { .kernel = image_file(&k) } };
		EXPECT_FAILURE(&l, rows[i].part);
		close(k.fd);
	}
	struct image k;
	make_flat(&k);
	k.size = 0x80 + 20;
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	EXPECT_FAILURE(&l, "ends within its Multiboot header");
}

TEST(boot_multiboot, header_search)
{
	struct image k;
	make_elf(&k);
	k.size = 0x3000;
	memset(k.bytes + HEADER_AT, 0, 12);
	put_header(&k, 8192 - 12, 3); /* the last place */
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	CHECK_EQ(l.error, 0);
	memset(k.bytes + 8192 - 12, 0, 12);
	put_header(&k, 8192 - 8, 3);
	l.config.kernel = image_file(&k);
	EXPECT_FAILURE(&l, "without a Multiboot header");
	memset(k.bytes + 8192 - 8, 0, 12);
	put_header(&k, HEADER_AT + 2, 3); /* not aligned */
	l.config.kernel = image_file(&k);
	EXPECT_FAILURE(&l, "without a Multiboot header");
	memset(k.bytes + HEADER_AT, 0, 16);
	put_header(&k, HEADER_AT, 3);
	k.bytes[HEADER_AT + 8] ^= 1;
	l.config.kernel = image_file(&k);
	EXPECT_FAILURE(&l, "wrong checksum");
}

TEST(boot_multiboot, required_features)
{
	struct image k;
	struct loaded l = { 0 };
	for (unsigned bit = 0; bit < 32; bit++) {
		if (bit == 16) continue;
		make_elf(&k);
		put_header(&k, HEADER_AT, 1u << bit);
		l.config.kernel = image_file(&k);
		if (bit <= 2 || bit > 16) {
			image_load(&l);
			CHECK_EQ(l.error, 0);
		} else {
			EXPECT_FAILURE(&l, "requires Multiboot features");
		}
		close(k.fd);
	}
}

static void expect_elf_refused(struct image *k, const char *part, int line)
{
	struct loaded l = { .config = { .kernel = image_file(k) } };
	image_expect_failure(&l, part, __FILE__, line);
	close(k->fd);
	make_elf(k);
}
#define ELF_REFUSED(k, part) expect_elf_refused(k, part, __LINE__)

TEST(boot_multiboot, elf_headers_that_are_refused)
{
	struct image k;
	make_elf(&k);
	ehdr(&k)->e_ident[EI_CLASS] = ELFCLASS64;
	ELF_REFUSED(&k, "64-bit");
	ehdr(&k)->e_ident[EI_DATA] = ELFDATA2MSB;
	ELF_REFUSED(&k, "not for i386");
	ehdr(&k)->e_machine = EM_ARM;
	ELF_REFUSED(&k, "not for i386");
	ehdr(&k)->e_type = ET_REL;
	ELF_REFUSED(&k, "not an executable");
	ehdr(&k)->e_ident[1] = 'e';
	ELF_REFUSED(&k, "neither load addresses");
	ehdr(&k)->e_phnum = 0;
	ELF_REFUSED(&k, "program header table");
	ehdr(&k)->e_phnum = 0xFFFF;
	ELF_REFUSED(&k, "program header table");
	ehdr(&k)->e_phentsize = 1;
	ELF_REFUSED(&k, "program header table");
	ehdr(&k)->e_phoff = 0xFFFFFFF0;
	ELF_REFUSED(&k, "behind its end");
	ehdr(&k)->e_phoff = (Elf32_Off)k.size - 63;
	ELF_REFUSED(&k, "behind its end");
	ehdr(&k)->e_entry = 0x100200;
	ELF_REFUSED(&k, "entry point");
}

TEST(boot_multiboot, elf_segments_that_are_refused)
{
	struct image k;
	make_elf(&k);
	phdr(&k, 1)->p_offset = 0xFFFFFFFF;
	ELF_REFUSED(&k, "truncated");
	phdr(&k, 1)->p_filesz = TEXT_SIZE + 1;
	ELF_REFUSED(&k, "truncated");
	phdr(&k, 1)->p_filesz = 0x1801;
	ELF_REFUSED(&k, "larger in the file");
	phdr(&k, 1)->p_paddr = 0x1001FF;
	ELF_REFUSED(&k, "overlap");
	phdr(&k, 1)->p_paddr = 0x9F000;
	ELF_REFUSED(&k, "is not in RAM");
	phdr(&k, 1)->p_paddr = 0xB8000;
	ELF_REFUSED(&k, "is not in RAM");
	phdr(&k, 1)->p_paddr = 0xFFFFF000;
	ELF_REFUSED(&k, "is not in RAM");
	phdr(&k, 1)->p_memsz = 0xFFFFFFFF;
	ELF_REFUSED(&k, "is not in RAM");
	phdr(&k, 1)->p_paddr = RAM_SIZE - 0x1000;
	ELF_REFUSED(&k, "needs at least 33M");
}

TEST(boot_multiboot, cut_off_anywhere)
{
	struct image k;
	make_elf(&k);
	for (size_t size = 0; size < HEADER_AT + 2 * TEXT_SIZE; size += 61) {
		make_elf(&k);
		k.size = size;
		struct loaded l = { .config = { .kernel = image_file(&k) } };
		EXPECT_FAILURE(&l, "the kernel '");
		close(k.fd);
	}
}
