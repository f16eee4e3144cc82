/* What the boot protocols share. Private to runtime/boot*.c and their tests; runtime/inspect*.c opens its file in the same way.
 *
 * Every loader works in two phases: plan (read headers, check everything, choose addresses) and write (fill RAM). Files are read straight into
 * RAM with pread rather than mapped: one copy either way, and a file that shrinks under us is an error, not a SIGBUS. */
#ifndef RUNTIME_BOOT_PARTS_H
#define RUNTIME_BOOT_PARTS_H

#include "runtime/boot.h"

#include <inttypes.h>
#include <limits.h>

#define BOOT_HEAD_SIZE 8192u /* the Multiboot header lies in the first 8 KiB; Linux's is shorter */
#define BOOT_FILES_MAX 17u

/* A PC's first MiB: RAM, then the EBDA, the display and the firmware. */
#define BOOT_LOW_RAM_END 0x9FC00u
#define BOOT_FIRMWARE_START 0xE0000u
#define BOOT_HIGH_RAM_START 0x100000u

struct boot_file {
	int fd;
	uint64_t size;
	const char *what; /* "kernel", "initrd", "module" */
	char name[PATH_MAX];
};

struct boot_load {
	const struct boot_config *config;
	struct boot_entry *entry;
	char *why;
	size_t why_size;
	struct boot_file *files[BOOT_FILES_MAX]; /* [0] is the kernel */
	unsigned file_count;
	uint8_t head[BOOT_HEAD_SIZE]; /* the kernel's first bytes, zeroes behind its end */
	size_t head_size;
};

/* One region of the memory map, numbered as E820 and Multiboot do: 1 usable, 2 reserved. */
struct boot_region {
	uint64_t start, end;
	uint32_t type;
};
#define BOOT_REGIONS 4u
void boot_memory_map(uint64_t ram_size, struct boot_region regions[BOOT_REGIONS]);

/* Note why and return -error. */
int boot_fail(struct boot_load *b, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Ditto, with "the kernel 'FILE' " put before. */
int boot_fail_kernel(struct boot_load *b, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Open a regular, non-empty file whose name is the first `length` bytes of `name`; it is closed when the load ends. */
int boot_open(struct boot_load *b, const char *what, const char *name, size_t length, struct boot_file **out);
void boot_close_files(struct boot_load *b);
/* Read exactly `size` bytes; -EIO with a sentence if there are fewer by now. */
int boot_read(struct boot_load *b, const struct boot_file *file, uint64_t offset, void *to, uint64_t size);

/* Is [start, start + size) RAM that a kernel may be loaded to? False if it wraps. */
bool boot_is_ram(const struct boot_config *config, uint64_t start, uint64_t size);

static inline uint64_t boot_align_up(uint64_t x, uint64_t alignment)
{
	return (x + alignment - 1) / alignment * alignment;
}
static inline uint64_t boot_mib(uint64_t bytes)
{
	return boot_align_up(bytes, MIB(1)) >> 20;
}

/* A flat GDT with the selectors that the protocols ask for, at `at` in RAM. */
#define BOOT_GDT_SIZE 32u
#define BOOT_CS 0x10u
#define BOOT_DS 0x18u
void boot_write_gdt(uint8_t *at);

/* Compare a bzImage of `size` bytes with the checksum at its end, if its version (a string at this offset) says that it has one. */
int boot_check_crc(struct boot_load *b, uint64_t version_offset, uint64_t size);

#define BOOT_LINUX_HEADER_LIMIT 0x290u /* where setup_header's room in the zero page ends */
struct setup_header;
/* Do these bytes begin like a bzImage? */
bool boot_linux_magic(const uint8_t *head, size_t size);
/* A bzImage's header from its first BOOT_LINUX_HEADER_LIMIT bytes, with zeroes where it ends earlier. Returns where it ends. */
uint32_t boot_linux_header(const uint8_t *head, struct setup_header *h);
bool boot_linux_probe(const struct boot_load *b);
int boot_linux(struct boot_load *b);

/* Offset of a valid Multiboot header in the kernel's head, or -1. *broken is set if there is only one with a wrong checksum. */
int boot_multiboot_probe(const struct boot_load *b, bool *broken);
int boot_multiboot(struct boot_load *b, uint32_t header);

#endif
