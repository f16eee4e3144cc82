/* A Linux bzImage: its 16-bit setup, its 32-bit stub, and the kernel in its payload. */
#include <stdio.h>
#include <string.h>

#include <asm/bootparam.h>

#include "runtime/boot_parts.h"
#include "runtime/inspect_binary.h"
#include "runtime/inspect_payload.h"

#define SECTOR 512u

struct image {
	struct binary *b;
	const char *name;
	const uint8_t *bytes;
	size_t size;
	struct setup_header header;
	uint32_t setup_end; /* and where the 32-bit part begins */
};

bool binary_is_linux(const uint8_t *bytes, size_t size)
{
	return size >= BOOT_LINUX_HEADER_LIMIT && boot_linux_magic(bytes, size);
}

/* Empty sections are left out. */
static int add(struct image *i, const char *name, size_t start, size_t end, uint32_t address, unsigned bits)
{
	if (start >= end) return 0;
	struct binary_section s = { name, i->bytes + start, (uint32_t)(end - start), address, bits };
	return binary_add_section(i->b, &s) ? 0 : binary_fail_memory(i->b);
}

static int read_header(struct image *i)
{
	uint32_t end = boot_linux_header(i->bytes, &i->header);
	i->setup_end = ((i->header.setup_sects ? i->header.setup_sects : 4u) + 1) * SECTOR;
	if (i->setup_end >= i->size) return binary_fail(i->b, "the file '%s' is truncated: it ends within its setup; fetch it again", i->name);
	if (i->header.version >= 0x20C && (i->header.xloadflags & XLF_KERNEL_64))
		return binary_fail(i->b, "the file '%s' is a 64-bit (x86-64) kernel: give a 32-bit (i386) one", i->name);
	return add(i, "setup", end, i->setup_end, end, 16);
}

/* Unpack it and add what is in it; or note why not. */
static int add_payload(struct image *i, const uint8_t *payload, size_t size)
{
	char name[PATH_MAX + 16];
	size_t unpacked;
	const char *problem = payload_unpack(payload, size, &i->b->owned[1], &unpacked);
	if (!problem && (unpacked < 4 || memcmp(i->b->owned[1], "\177ELF", 4))) problem = "holds no ELF file";
	if (problem) {
		snprintf(i->b->note, sizeof(i->b->note), "the kernel itself is not looked at: its payload %s", problem);
		return 0;
	}
	snprintf(name, sizeof(name), "%s (payload)", i->name);
	snprintf(i->b->what + strlen(i->b->what), sizeof(i->b->what) - strlen(i->b->what), " with an ");
	return binary_add_elf(i->b, name, i->b->owned[1], unpacked);
}

static int add_protected_mode(struct image *i)
{
	const struct setup_header *h = &i->header;
	uint32_t load = h->code32_start ? h->code32_start : BOOT_HIGH_RAM_START;
	uint64_t size = i->size - i->setup_end, payload = h->payload_offset, length = h->payload_length;
	if (h->version >= 0x204 && h->syssize && (uint64_t)h->syssize * 16 < size) size = (uint64_t)h->syssize * 16;
	if (size > UINT32_MAX - load) return binary_fail(i->b, "the file '%s' is corrupt: it asks to be loaded beyond 4 GiB", i->name);
	if (h->version < 0x208 || !length) {
		snprintf(i->b->note, sizeof(i->b->note), "the kernel itself is not looked at: the header does not say where its payload is");
		return add(i, "stub", i->setup_end, i->setup_end + size, load, 32);
	}
	if (payload > size || length > size - payload)
		return binary_fail(i->b, "the file '%s' is corrupt: its compressed payload lies outside the file", i->name);
	int error = add(i, "stub", i->setup_end, i->setup_end + payload, load, 32);
	if (!error) {
		error = add(i, "stub, second part", i->setup_end + payload + length, i->setup_end + size,
			load + (uint32_t)(payload + length), 32);
	}
	return error ? error : add_payload(i, i->bytes + i->setup_end + payload, length);
}

int binary_add_linux(struct binary *b, const char *name, const uint8_t *bytes, size_t size)
{
	struct image i = { .b = b, .name = name, .bytes = bytes, .size = size };
	snprintf(b->what, sizeof(b->what), "Linux bzImage");
	int error = read_header(&i);
	return error ? error : add_protected_mode(&i);
}
