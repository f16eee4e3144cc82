/* Linux bzImages: what is accepted, where things go, what the kernel is told, and what is refused. */
#include "tests/unit/boot_image.h"

#include <asm/bootparam.h>
#include <sys/stat.h>

#define SETUP_SECTS 4u
#define CODE_OFFSET ((SETUP_SECTS + 1) * 512)
#define CODE_SIZE 4096u

/* Protocol 2.15 as an i386 kernel shows it: relocatable, at home at 16 MiB. */
static void make_kernel(struct image *k)
{
	memset(k, 0, sizeof(*k));
	k->size = CODE_OFFSET + CODE_SIZE;
	for (unsigned i = 0; i < CODE_SIZE; i++) k->bytes[CODE_OFFSET + i] = (uint8_t)(i * 7);
	k->bytes[0x1F1] = SETUP_SECTS;
	image_put32(k, 0x1F4, CODE_SIZE / 16);
	image_put16(k, 0x1FE, 0xAA55);
	k->bytes[0x201] = 0x6A;
	memcpy(k->bytes + 0x202, "HdrS", 4);
	image_put16(k, 0x206, 0x20F);
	k->bytes[0x211] = LOADED_HIGH;
	image_put32(k, 0x214, 0x100000);
	image_put32(k, 0x22C, 0x7FFFFFFF);
	image_put32(k, 0x230, 0x1000000);
	k->bytes[0x234] = 1;
	image_put32(k, 0x238, 64);
	image_put32(k, 0x258, 0x1000000);
	image_put32(k, 0x260, 0x200000);
}

static const struct boot_params *zero_page(const struct loaded *l)
{
	return (const struct boot_params *)(image_ram() + l->entry.gpr[ESI]);
}

TEST(boot_linux, relocatable_goes_to_its_preferred_address)
{
	struct image k;
	make_kernel(&k);
	struct loaded l = { .config = { .kernel = image_file(&k), .append = "console=ttyS0" } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	CHECK_EQ(l.entry.eip, 0x1000000);
	CHECK(!l.entry.multiboot);
	CHECK_MEM(image_ram() + 0x1000000, k.bytes + CODE_OFFSET, CODE_SIZE);
	CHECK_EQ(image_ram()[0x1000000 + CODE_SIZE], FILL);
	const struct boot_params *p = zero_page(&l);
	CHECK_EQ(p->hdr.code32_start, 0x1000000);
	CHECK_EQ(p->hdr.type_of_loader, 0xFF);
	CHECK_EQ(p->hdr.header, 0x53726448);
	CHECK_STR((const char *)image_ram() + p->hdr.cmd_line_ptr, "console=ttyS0");
	CHECK_EQ(p->hdr.ramdisk_size, 0);
}

TEST(boot_linux, fixed_goes_to_code32_start)
{
	struct image k;
	make_kernel(&k);
	k.bytes[0x234] = 0;
	image_put32(&k, 0x258, 0x100000);
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	CHECK_EQ(l.entry.eip, 0x100000);
	CHECK_MEM(image_ram() + 0x100000, k.bytes + CODE_OFFSET, CODE_SIZE);
}

TEST(boot_linux, zero_page_is_clean_outside_what_the_protocol_fills)
{
	struct image k;
	make_kernel(&k);
	/* Beyond the header's announced end: must not be taken over. */
	memset(k.bytes + 0x26C, 0xEE, 0x24);
	image_put32(&k, 0x250, 0x12345678);
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	const uint8_t *page = image_ram() + l.entry.gpr[ESI];
	CHECK_EQ(l.entry.gpr[ESI] & PAGE_MASK, 0);
	static const uint8_t zeroes[0x24];
	CHECK_MEM(page + 0x26C, zeroes, sizeof(zeroes));
	CHECK_MEM(page, zeroes, sizeof(zeroes)); /* screen_info */
	CHECK_EQ(zero_page(&l)->hdr.setup_data, 0);
}

TEST(boot_linux, e820_covers_ram_and_spares_firmware)
{
	struct image k;
	make_kernel(&k);
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	const struct boot_params *p = zero_page(&l);
	static const struct boot_e820_entry expected[] = {
		{ 0, 0x9FC00, 1 }, { 0x9FC00, 0x400, 2 }, { 0xE0000, 0x20000, 2 }, { 0x100000, RAM_SIZE - 0x100000, 1 },
	};
	REQUIRE_EQ(p->e820_entries, 4);
	CHECK_MEM(p->e820_table, expected, sizeof(expected));
}

TEST(boot_linux, gdt_has_the_flat_segments)
{
	struct image k;
	make_kernel(&k);
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	uint64_t gdt[4];
	memcpy(gdt, image_ram() + l.entry.gdt, sizeof(gdt));
	CHECK_EQ(gdt[0], 0);
	CHECK_EQ(gdt[2], 0x00CF9B000000FFFF); /* base 0, limit 4 GiB, code, readable, DPL 0 */
	CHECK_EQ(gdt[3], 0x00CF93000000FFFF); /* data, writable */
}

TEST(boot_linux, enter_sets_registers_as_the_protocol_says)
{
	struct vcpu *v = calloc(1, sizeof(*v));
	REQUIRE(v != NULL);
	memset(v, 0xFF, offsetof(struct vcpu, stats));
	struct boot_entry e = { .eip = 0x1000000, .gpr = { [ESI] = 0x10000 }, .gdt = 0x11000 };
	boot_enter(v, &e);
	CHECK_EQ(v->eip, 0x1000000);
	CHECK_EQ(v->gpr[ESI], 0x10000);
	CHECK_EQ(v->gpr[EBP] | v->gpr[EDI] | v->gpr[EBX], 0);
	CHECK_EQ(v->if_flag | v->df_flag | v->flags, 0);
	CHECK_EQ(v->seg[SEG_CS].selector, 0x10);
	CHECK_EQ(v->seg[SEG_CS].ar, 0xC09B);
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		CHECK_EQ(v->seg[i].base, 0);
		CHECK_EQ(v->seg[i].limit, 0xFFFFFFFF);
		if (i != SEG_CS) CHECK_EQ(v->seg[i].selector, 0x18);
		if (i != SEG_CS) CHECK_EQ(v->seg[i].ar, 0xC093);
	}
	CHECK_EQ(v->gdtr.base, 0x11000);
	CHECK_EQ(v->gdtr.limit, 31);
	free(v);
}

TEST(boot_linux, initrd_lies_high_and_page_aligned)
{
	struct image k, initrd = { .size = 5000 };
	make_kernel(&k);
	memset(initrd.bytes, 0x33, initrd.size);
	const char *names[] = { image_file(&initrd) };
	struct loaded l = { .config = { .kernel = image_file(&k), .initrd = names, .initrd_count = 1 } };
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	const struct boot_params *p = zero_page(&l);
	CHECK_EQ(p->hdr.ramdisk_image, RAM_SIZE - 8192);
	CHECK_EQ(p->hdr.ramdisk_size, 5000);
	CHECK_MEM(image_ram() + RAM_SIZE - 8192, initrd.bytes, 5000);
	CHECK_EQ(image_ram()[RAM_SIZE - 8192 + 5000], FILL);
	/* A kernel that wants it lower gets it lower. */
	image_put32(&k, 0x22C, 0x17FFFFF);
	l.config.kernel = image_file(&k);
	image_load(&l);
	REQUIRE_EQ(l.error, 0);
	CHECK_EQ(zero_page(&l)->hdr.ramdisk_image, 0x1800000 - 8192);
}

TEST(boot_linux, initrd_that_does_not_fit)
{
	struct image k, initrd = { .size = 60000 };
	make_kernel(&k);
	image_put32(&k, 0x260, RAM_SIZE - 0x1000000 - 8192); /* leaves two pages */
	const char *names[] = { image_file(&initrd) };
	struct loaded l = { .config = { .kernel = image_file(&k), .initrd = names, .initrd_count = 1 } };
	EXPECT_FAILURE(&l, "give --memory 33M or more");
	CHECK(strstr(l.why, names[0]) != NULL);
	initrd.size = 8192;
	names[0] = image_file(&initrd);
	image_load(&l);
	CHECK_EQ(l.error, 0); /* just fits */
	initrd.size = 8193;
	names[0] = image_file(&initrd);
	EXPECT_FAILURE(&l, "does not fit");
	image_put32(&k, 0x22C, 0x10FFFFF);
	l.config.kernel = image_file(&k);
	EXPECT_FAILURE(&l, "too large for the kernel");
}

TEST(boot_linux, initrd_trouble)
{
	struct image k, empty = { .size = 0 };
	make_kernel(&k);
	const char *two[] = { "/proc/self/exe", "/proc/self/exe" };
	struct loaded l = { .config = { .kernel = image_file(&k), .initrd = two, .initrd_count = 2 } };
	EXPECT_FAILURE(&l, "concatenate");
	const char *missing[] = { "/nonexistent/initrd" };
	l.config.initrd = missing;
	l.config.initrd_count = 1;
	EXPECT_FAILURE(&l, "cannot open the initrd '/nonexistent/initrd'");
	const char *folder[] = { "/" };
	l.config.initrd = folder;
	EXPECT_FAILURE(&l, "the initrd '/' is a directory");
	const char *nothing[] = { image_file(&empty) };
	l.config.initrd = nothing;
	EXPECT_FAILURE(&l, "is empty");
}

TEST(boot_linux, command_line_limit)
{
	struct image k;
	make_kernel(&k);
	char text[66];
	memset(text, 'x', sizeof(text));
	text[64] = '\0';
	struct loaded l = { .config = { .kernel = image_file(&k), .append = text } };
	image_load(&l);
	CHECK_EQ(l.error, 0);
	text[64] = 'x';
	text[65] = '\0';
	EXPECT_FAILURE(&l, "--append has 65 characters");
	CHECK(strstr(l.why, "at most 64") != NULL);
	/* A header that promises any length still leaves us our own room. */
	image_put32(&k, 0x238, UINT32_MAX);
	l.config.kernel = image_file(&k);
	char *huge = malloc(MIB(1));
	REQUIRE(huge != NULL);
	memset(huge, 'y', MIB(1) - 1);
	huge[MIB(1) - 1] = '\0';
	l.config.append = huge;
	EXPECT_FAILURE(&l, "--append has");
	free(huge);
}

TEST(boot_linux, memory_too_small)
{
	struct image k;
	make_kernel(&k);
	struct loaded l = { .config = { .kernel = image_file(&k), .ram_size = MIB(16) } };
	EXPECT_FAILURE(&l, "needs at least 18M of memory");
	l.config.ram_size = MIB(18);
	image_load(&l);
	CHECK_EQ(l.error, 0);
	image_put32(&k, 0x260, 0xFFFFFFF0);
	l.config.kernel = image_file(&k);
	EXPECT_FAILURE(&l, "is corrupt");
}

struct spoiling {
	const char *part;
	size_t at, size;
	uint64_t value;
};

TEST(boot_linux, headers_that_are_refused)
{
	static const struct spoiling rows[] = {
		{ "protocol 2.02", 0x206, 2, 0x202 },
		{ "is a zImage", 0x211, 1, 0 },
		{ "64-bit", 0x236, 2, XLF_KERNEL_64 },
		{ "is truncated", 0x1F4, 4, CODE_SIZE / 16 + 2 },
		{ "is truncated", 0x1F4, 4, UINT32_MAX },
		{ "is truncated", 0x1F1, 1, 255 },
		{ "payload", 0x248, 4, CODE_SIZE + 1 },
		{ "payload", 0x24C, 4, UINT32_MAX },
		{ "impossible", 0x230, 4, 3 },
		{ "impossible", 0x258, 8, UINT64_MAX },
		{ "is corrupt", 0x258, 8, 0xFFFFF000 },
		{ "neither", 0x202, 1, 'h' },
		{ "neither", 0x1FE, 1, 0 },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct image k;
		make_kernel(&k);
		memcpy(k.bytes + rows[i].at, &rows[i].value, rows[i].size);
		struct loaded l = { .config = { .kernel = image_file(&k) } };
		EXPECT_FAILURE(&l, rows[i].part);
		close(k.fd);
	}
}

TEST(boot_linux, load_address_below_1m)
{
	struct image k;
	make_kernel(&k);
	k.bytes[0x234] = 0;
	image_put32(&k, 0x214, 0xFF000);
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	EXPECT_FAILURE(&l, "below 1 MiB");
}

TEST(boot_linux, cut_off_anywhere)
{
	struct image k;
	make_kernel(&k);
	size_t full = k.size;
	for (size_t size = 0; size < full; size += size < 0x300 ? 7 : 977) {
		k.size = size;
		struct loaded l = { .config = { .kernel = image_file(&k) } };
		EXPECT_FAILURE(&l, size == 0 ? "is empty" : "the kernel '");
	}
	/* The last paragraph need not be full. */
	k.size = full - 15;
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	CHECK_EQ(l.error, 0);
}

static uint32_t crc32_slowly(const uint8_t *p, size_t size)
{
	uint32_t crc = UINT32_MAX;
	for (; size; p++, size--) {
		crc ^= *p;
		for (unsigned bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
	}
	return crc;
}

/* A kernel that says it is 6.1, with payload and checksum, then "signed": fields of its PE header changed and bytes appended. */
static void make_checked_kernel(struct image *k)
{
	make_kernel(k);
	image_put16(k, 0x20E, 0x100);
	strcpy((char *)k->bytes + 0x300, "6.1.0-50-686 (nobody)");
	image_put32(k, 0x24C, CODE_SIZE - 4);
	memcpy(k->bytes, "MZ", 2);
	image_put32(k, 0x3C, 0x40);
	memcpy(k->bytes + 0x40, "PE\0", 4);
	image_put16(k, 0x40 + 24, 0x10B);
	image_put32(k, k->size - 4, crc32_slowly(k->bytes, k->size - 4));
	image_put32(k, 0x40 + 88, 0x573CC9);
	image_put32(k, 0x40 + 152, 0x571200);
	k->size += 100;
}

TEST(boot_linux, checksum)
{
	struct image k;
	make_checked_kernel(&k);
	struct loaded l = { .config = { .kernel = image_file(&k) } };
	image_load(&l);
	CHECK_EQ(l.error, 0);
	k.bytes[CODE_OFFSET + 1234] ^= 1;
	l.config.kernel = image_file(&k);
	EXPECT_FAILURE(&l, "its checksum is wrong");
	/* Linux 6.15 and later have none. */
	memcpy(k.bytes + 0x300, "6.15.", 5);
	l.config.kernel = image_file(&k);
	image_load(&l);
	CHECK_EQ(l.error, 0);
}

TEST(boot_linux, only_checking_leaves_ram_alone)
{
	struct image k;
	make_kernel(&k);
	struct boot_config config = { .kernel = image_file(&k), .append = "", .ram_size = RAM_SIZE };
	struct boot_entry entry;
	char why[256];
	memset(image_ram(), FILL, RAM_SIZE);
	CHECK_EQ(boot_load(&config, &entry, why, sizeof(why)), 0);
	CHECK_EQ(entry.eip, 0x1000000);
	CHECK(image_ram_untouched());
}

TEST(boot_files, names_that_are_no_kernels)
{
	static const struct {
		const char *name, *part;
	} rows[] = {
		{ "/nonexistent", "cannot open the kernel '/nonexistent': No such file" },
		{ "", "name of the kernel is empty" },
		{ "/", "is a directory" },
		{ "/dev/null", "is not a regular file" },
		{ "/proc/self/exe", "64-bit ELF" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct loaded l = { .config = { .kernel = rows[i].name } };
		EXPECT_FAILURE(&l, rows[i].part);
	}
}

TEST(boot_files, fifo_is_refused_without_waiting)
{
	char name[] = "/tmp/bt-vmm-test-XXXXXX";
	REQUIRE(mkdtemp(name) != NULL);
	char fifo[64];
	snprintf(fifo, sizeof(fifo), "%s/fifo", name);
	CHECK_EQ(mkfifo(fifo, 0600), 0);
	struct loaded l = { .config = { .kernel = fifo } };
	EXPECT_FAILURE(&l, "is not a regular file");
	unlink(fifo);
	rmdir(name);
}

TEST(boot_files, contents_that_are_no_kernels)
{
	static const struct {
		const char *bytes;
		size_t size;
		const char *part;
	} rows[] = {
		{ "\x1F\x8B\x08", 3, "gunzip it first" },
		{ "\x7F" "ELF\x02", 5, "64-bit ELF" },
		{ "\x7F" "ELF\x01", 5, "without a Multiboot header" },
		{ "MZ", 2, "EFI program" },
		{ "\xD6\x50\x52\xE8", 4, "Multiboot 2" },
		{ "x", 1, "neither a Linux bzImage nor" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct image k = { .size = rows[i].size };
		memcpy(k.bytes, rows[i].bytes, rows[i].size);
		struct loaded l = { .config = { .kernel = image_file(&k) } };
		EXPECT_FAILURE(&l, rows[i].part);
		k.size = 20000;
		l.config.kernel = image_file(&k);
		EXPECT_FAILURE(&l, rows[i].part);
		close(k.fd);
	}
}

TEST(boot_files, sentence_is_cut_not_overrun)
{
	char name[3000], why[40];
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	memset(why, FILL, sizeof(why));
	struct boot_config config = { .kernel = name, .append = "", .ram_size = RAM_SIZE };
	struct boot_entry entry;
	CHECK(boot_load(&config, &entry, why, 20) < 0);
	CHECK_EQ(strlen(why), 19);
	CHECK_EQ((uint8_t)why[20], FILL);
}
