#include "runtime/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime/boot_parts.h"

int boot_fail(struct boot_load *b, int error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(b->why, b->why_size, format, args);
	va_end(args);
	return -error;
}

int boot_fail_kernel(struct boot_load *b, int error, const char *format, ...)
{
	size_t used = (size_t)snprintf(b->why, b->why_size, "the kernel '%s' ", b->files[0]->name);
	va_list args;
	va_start(args, format);
	if (used < b->why_size) vsnprintf(b->why + used, b->why_size - used, format, args);
	va_end(args);
	return -error;
}

void boot_memory_map(uint64_t ram_size, struct boot_region regions[BOOT_REGIONS])
{
	regions[0] = (struct boot_region){ 0, BOOT_LOW_RAM_END, 1 };
	regions[1] = (struct boot_region){ BOOT_LOW_RAM_END, 0xA0000, 2 };
	regions[2] = (struct boot_region){ BOOT_FIRMWARE_START, BOOT_HIGH_RAM_START, 2 };
	regions[3] = (struct boot_region){ BOOT_HIGH_RAM_START, ram_size, 1 };
}

bool boot_is_ram(const struct boot_config *config, uint64_t start, uint64_t size)
{
	uint64_t end = start + size;
	if (end < start || end > config->ram_size) return false;
	return end <= BOOT_LOW_RAM_END || start >= BOOT_HIGH_RAM_START;
}

static int check_file(struct boot_load *b, struct boot_file *f)
{
	struct stat st;
	if (fstat(f->fd, &st)) return boot_fail(b, errno, "cannot read the %s '%s': %s", f->what, f->name, strerror(errno));
	if (S_ISDIR(st.st_mode)) return boot_fail(b, EISDIR, "the %s '%s' is a directory: name a file in it", f->what, f->name);
	if (!S_ISREG(st.st_mode))
		return boot_fail(b, EINVAL, "the %s '%s' is not a regular file: copy it into one", f->what, f->name);
	if (!st.st_size) return boot_fail(b, EINVAL, "the %s '%s' is empty", f->what, f->name);
	f->size = (uint64_t)st.st_size;
	return 0;
}

int boot_open(struct boot_load *b, const char *what, const char *name, size_t length, struct boot_file **out)
{
	if (!length) return boot_fail(b, EINVAL, "the name of the %s is empty: give a file", what);
	if (length >= PATH_MAX) return boot_fail(b, ENAMETOOLONG, "the name of the %s is longer than %d bytes", what, PATH_MAX - 1);
	struct boot_file *f = malloc(sizeof(*f));
	if (!f) return boot_fail(b, ENOMEM, "no memory left on the host to read the %s", what);
	f->what = what;
	memcpy(f->name, name, length);
	f->name[length] = '\0';
	/* O_NONBLOCK: a FIFO without a writer must be refused, not waited for. */
	f->fd = open(f->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0) {
		int error = errno;
		boot_fail(b, error, "cannot open the %s '%s': %s", what, f->name, strerror(error));
		free(f);
		return -error;
	}
	b->files[b->file_count++] = f;
	*out = f;
	return check_file(b, f);
}

void boot_close_files(struct boot_load *b)
{
	for (unsigned i = 0; i < b->file_count; i++) {
		close(b->files[i]->fd);
		free(b->files[i]);
	}
}

int boot_read(struct boot_load *b, const struct boot_file *file, uint64_t offset, void *to, uint64_t size)
{
	for (uint64_t done = 0; done < size;) {
		ssize_t n = pread(file->fd, (uint8_t *)to + done, size - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR) continue;
		if (n < 0) return boot_fail(b, errno, "cannot read the %s '%s': %s", file->what, file->name, strerror(errno));
		if (!n) return boot_fail(b, EIO, "the %s '%s' became shorter while it was read: start again", file->what, file->name);
		done += (uint64_t)n;
	}
	return 0;
}

static bool has_magic(const struct boot_load *b, const char *magic, size_t size)
{
	return b->head_size >= size && !memcmp(b->head, magic, size);
}
#define HAS_MAGIC(b, magic) has_magic(b, magic, sizeof(magic) - 1)

static bool has_multiboot2(const struct boot_load *b)
{
	for (size_t i = 0; i + 4 <= b->head_size; i += 4) {
		if (!memcmp(b->head + i, "\xD6\x50\x52\xE8", 4)) return true;
	}
	return false;
}

/* The file is nothing that we boot: the likeliest reason. */
static int fail_unknown(struct boot_load *b, bool broken_multiboot)
{
	if (HAS_MAGIC(b, "\x1F\x8B") ||
		HAS_MAGIC(b,
			"\xFD"
			"7zXZ") ||
		HAS_MAGIC(b, "\x28\xB5\x2F\xFD") || HAS_MAGIC(b, "BZh")) {
		return boot_fail_kernel(b, ENOEXEC, "is compressed: gunzip it first (or unxz, unzstd, bunzip2)");
	}
	if (broken_multiboot) return boot_fail_kernel(b, ENOEXEC, "is corrupt: its Multiboot header has a wrong checksum");
	if (has_multiboot2(b)) return boot_fail_kernel(b, ENOEXEC, "has only a Multiboot 2 header: build it for Multiboot 1");
	if (HAS_MAGIC(b,
			"\x7F"
			"ELF\x02")) {
		return boot_fail_kernel(b, ENOEXEC, "is a 64-bit ELF file: give a 32-bit (i386) kernel");
	}
	if (HAS_MAGIC(b,
			"\x7F"
			"ELF")) {
		return boot_fail_kernel(b, ENOEXEC, "is an ELF file without a Multiboot header: give the bzImage instead of vmlinux");
	}
	if (HAS_MAGIC(b, "MZ")) return boot_fail_kernel(b, ENOEXEC, "is an EFI program only: give a 32-bit bzImage");
	return boot_fail_kernel(b, ENOEXEC, "is neither a Linux bzImage nor a Multiboot 1 kernel: give one of these (of a disk image, the kernel in it)");
}

static int load(struct boot_load *b)
{
	struct boot_file *kernel;
	int error = boot_open(b, "kernel", b->config->kernel, strlen(b->config->kernel), &kernel);
	if (error) return error;
	b->head_size = kernel->size < BOOT_HEAD_SIZE ? kernel->size : BOOT_HEAD_SIZE;
	error = boot_read(b, kernel, 0, b->head, b->head_size);
	if (error) return error;
	if (boot_linux_probe(b)) return boot_linux(b);
	bool broken;
	int header = boot_multiboot_probe(b, &broken);
	if (header < 0) return fail_unknown(b, broken);
	b->entry->multiboot = true;
	return boot_multiboot(b, (uint32_t)header);
}

int boot_load(const struct boot_config *config, struct boot_entry *entry, char *why, size_t why_size)
{
	struct boot_load *b = calloc(1, sizeof(*b));
	if (!b) {
		snprintf(why, why_size, "no memory left on the host to read the kernel");
		return -ENOMEM;
	}
	*b = (struct boot_load){ .config = config, .entry = entry, .why = why, .why_size = why_size };
	*entry = (struct boot_entry){ 0 };
	int error = load(b);
	boot_close_files(b);
	free(b);
	if (!error && config->ram) LOG(LOG_BOOT, LOG_INFO, "%s loaded, entry 0x%x", config->kernel, entry->eip);
	return error;
}

void boot_write_gdt(uint8_t *at)
{
	/* Null, unused, flat code, flat data. */
	static const uint64_t gdt[4] = { 0, 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF };
	_Static_assert(sizeof(gdt) == BOOT_GDT_SIZE, "the GDT's size");
	memcpy(at, gdt, sizeof(gdt));
}

void boot_enter(struct vcpu *v, const struct boot_entry *entry)
{
	struct segment flat = {
		.selector = BOOT_DS, .limit = UINT32_MAX, .ar = AR_G | AR_DB | AR_P | AR_S | AR_WRITABLE | AR_ACCESSED
	};
	for (unsigned i = 0; i < SEG_COUNT; i++) v->seg[i] = flat;
	v->seg[SEG_CS].selector = BOOT_CS;
	v->seg[SEG_CS].ar |= AR_CODE;
	v->gdtr = (struct table_register){ .base = entry->gdt, .limit = BOOT_GDT_SIZE - 1 };
	memcpy(v->gpr, entry->gpr, sizeof(v->gpr));
	v->eip = entry->eip;
	v->flags = 0;
	v->if_flag = v->df_flag = 0;
}
