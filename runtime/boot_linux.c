/* Linux: the 32-bit boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst). */
#include <errno.h>
#include <string.h>

#include <asm/bootparam.h>

#include "base/log.h"
#include "runtime/boot_parts.h"

#define SECTOR 512u
#define HEADER_OFFSET 0x1F1u
#define HEADER_LIMIT BOOT_LINUX_HEADER_LIMIT
#define HDRS_MAGIC 0x53726448u
#define DEFAULT_INITRD_MAX 0x37FFFFFFu
#define DEFAULT_CMDLINE_SIZE 255u

/* Where our own structures lie: low memory, which the kernel reads before it uses it. */
#define ZERO_PAGE 0x10000u
#define GDT 0x11000u
#define CMDLINE 0x20000u
#define CMDLINE_END 0x90000u

_Static_assert(sizeof(struct boot_params) == PAGE_SIZE, "the zero page is a page");
_Static_assert(offsetof(struct boot_params, hdr) == HEADER_OFFSET, "setup_header's place in the zero page");

struct linux_plan {
	struct setup_header hdr; /* zeroes where the file's header ends earlier */
	uint64_t header_end; /* file offset at which the header ends */
	uint64_t code_offset, code_size; /* protected-mode code in the file */
	uint64_t load; /* where it goes */
	uint64_t end; /* first byte that the kernel leaves alone until it knows the memory map */
	struct boot_file *initrd; /* or NULL */
	uint64_t initrd_at;
};

bool boot_linux_magic(const uint8_t *head, size_t size)
{
	/* The version field closes what every version has. */
	return size >= 0x208 && !memcmp(head + 0x202, "HdrS", 4) && head[0x1FE] == 0x55 && head[0x1FF] == 0xAA;
}

bool boot_linux_probe(const struct boot_load *b)
{
	return boot_linux_magic(b->head, b->head_size);
}

uint32_t boot_linux_header(const uint8_t *head, struct setup_header *h)
{
	uint32_t end = 0x202u + head[0x201];
	if (end > HEADER_LIMIT) end = HEADER_LIMIT;
	size_t size = end - HEADER_OFFSET;
	memset(h, 0, sizeof(*h));
	memcpy(h, head + HEADER_OFFSET, size < sizeof(*h) ? size : sizeof(*h));
	return end;
}

static int read_header(struct boot_load *b, struct linux_plan *p)
{
	p->header_end = boot_linux_header(b->head, &p->hdr);
	if (p->hdr.version < 0x203) {
		return boot_fail_kernel(b, ENOEXEC,
			"speaks Linux boot protocol %u.%02u, but 2.03 or later is needed: give a newer kernel", p->hdr.version >> 8,
			p->hdr.version & 0xFF);
	}
	if (!(p->hdr.loadflags & LOADED_HIGH)) {
		return boot_fail_kernel(b, ENOEXEC, "is a zImage, which loads low: give a bzImage");
	}
	if (p->hdr.version >= 0x20C && (p->hdr.xloadflags & XLF_KERNEL_64)) {
		return boot_fail_kernel(b, ENOEXEC, "is a 64-bit (x86-64) kernel: give a 32-bit (i386) one");
	}
	return 0;
}

static int fail_truncated(struct boot_load *b, uint64_t expected)
{
	return boot_fail_kernel(b, ENOEXEC,
		"is truncated: its header announces %" PRIu64 " bytes, but it has %" PRIu64 "; fetch it again", expected,
		b->files[0]->size);
}

static int find_code(struct boot_load *b, struct linux_plan *p)
{
	const struct boot_file *kernel = b->files[0];
	uint64_t sectors = p->hdr.setup_sects ? p->hdr.setup_sects : 4;
	p->code_offset = (sectors + 1) * SECTOR;
	if (p->code_offset >= kernel->size) return fail_truncated(b, p->code_offset + 1);
	p->code_size = kernel->size - p->code_offset;
	if (p->hdr.version >= 0x204 && p->hdr.syssize) {
		/* syssize counts paragraphs, of which the last need not be full; what follows them (a signature) is not code. */
		uint64_t announced = (uint64_t)p->hdr.syssize * 16;
		if (announced > p->code_size + 15) return fail_truncated(b, p->code_offset + announced);
		if (announced < p->code_size) p->code_size = announced;
	}
	if (p->hdr.version >= 0x208 && (uint64_t)p->hdr.payload_offset + p->hdr.payload_length > p->code_size) {
		return boot_fail_kernel(b, ENOEXEC, "is corrupt: its compressed payload lies outside the file");
	}
	return 0;
}

static int check_crc(struct boot_load *b, const struct linux_plan *p)
{
	const struct setup_header *h = &p->hdr;
	if (h->version < 0x208 || !h->payload_length || !h->kernel_version) return 0;
	return boot_check_crc(b, 0x200u + h->kernel_version, p->code_offset + p->code_size);
}

static int fail_small(struct boot_load *b, uint64_t needed)
{
	if (needed > MIB(3072))
		return boot_fail_kernel(b, ENOEXEC, "is corrupt: it asks for %" PRIu64 "M of memory", boot_mib(needed));
	return boot_fail_kernel(b, ENOMEM,
		"needs at least %" PRIu64 "M of memory, but the guest has %" PRIu64 "M: give --memory %" PRIu64 "M or more",
		boot_mib(needed), b->config->ram_size >> 20, boot_mib(needed));
}

/* A relocatable kernel is put where it wants to run, so that it need not move; others go to their fixed address. */
static int place_code(struct boot_load *b, struct linux_plan *p)
{
	const struct setup_header *h = &p->hdr;
	bool has_pref = h->version >= 0x20A && h->pref_address;
	bool relocatable = h->version >= 0x205 && h->relocatable_kernel;
	uint64_t alignment = relocatable && h->kernel_alignment ? h->kernel_alignment : 1;
	if (alignment & (alignment - 1) || (has_pref && h->pref_address > UINT32_MAX)) {
		return boot_fail_kernel(b, ENOEXEC, "is corrupt: its header asks for an impossible load address");
	}
	p->load = h->code32_start ? h->code32_start : BOOT_HIGH_RAM_START;
	if (has_pref && relocatable) p->load = boot_align_up(h->pref_address, alignment);
	if (p->load < BOOT_HIGH_RAM_START) {
		return boot_fail_kernel(b, ENOEXEC, "is corrupt: it asks to be loaded at 0x%" PRIx64 ", below 1 MiB", p->load);
	}
	p->end = p->load + p->code_size;
	uint64_t run = has_pref && !relocatable ? h->pref_address : boot_align_up(p->load, alignment);
	uint64_t run_end = run + (h->version >= 0x20A ? h->init_size : 0);
	if (run_end > p->end) p->end = run_end;
	if (p->end > b->config->ram_size) return fail_small(b, p->end);
	return 0;
}

static int check_cmdline(struct boot_load *b, const struct linux_plan *p)
{
	uint64_t limit = p->hdr.version >= 0x206 ? p->hdr.cmdline_size : DEFAULT_CMDLINE_SIZE;
	if (limit > CMDLINE_END - CMDLINE - 1) limit = CMDLINE_END - CMDLINE - 1;
	size_t length = strlen(b->config->append);
	if (length <= limit) return 0;
	return boot_fail(b, E2BIG, "--append has %zu characters, but the kernel '%s' takes at most %" PRIu64 ": shorten it", length,
		b->files[0]->name, limit);
}

/* The initrd goes as high as the kernel allows, out of its way. */
static int place_initrd(struct boot_load *b, struct linux_plan *p)
{
	const struct boot_config *c = b->config;
	if (!c->initrd_count) return 0;
	if (c->initrd_count > 1) {
		return boot_fail(
			b, EINVAL, "--initrd is given %u times, but a Linux kernel takes one: concatenate the files", c->initrd_count);
	}
	int error = boot_open(b, "initrd", c->initrd[0], strlen(c->initrd[0]), &p->initrd);
	if (error) return error;
	uint64_t size = p->initrd->size;
	uint64_t limit = p->hdr.initrd_addr_max ? (uint64_t)p->hdr.initrd_addr_max + 1 : (uint64_t)DEFAULT_INITRD_MAX + 1;
	uint64_t top = limit < c->ram_size ? limit : c->ram_size;
	if (size <= top) p->initrd_at = (top - size) & ~(uint64_t)PAGE_MASK;
	if (size <= top && p->initrd_at >= p->end) return 0;
	uint64_t needed = boot_align_up(p->end, PAGE_SIZE) + boot_align_up(size, PAGE_SIZE);
	if (size > limit || needed > limit || needed > MIB(3072)) {
		return boot_fail(b, EFBIG, "the initrd '%s' (%" PRIu64 "M) is too large for the kernel '%s': give a smaller one",
			p->initrd->name, boot_mib(size), b->files[0]->name);
	}
	return boot_fail(b, ENOMEM,
		"the initrd '%s' (%" PRIu64 "M) does not fit into %" PRIu64 "M of memory beside the kernel: give --memory %" PRIu64
		"M or more",
		p->initrd->name, boot_mib(size), c->ram_size >> 20, boot_mib(needed));
}

static void write_memory_map(struct boot_params *params, uint64_t ram_size)
{
	struct boot_region regions[BOOT_REGIONS];
	boot_memory_map(ram_size, regions);
	for (unsigned i = 0; i < BOOT_REGIONS; i++) {
		params->e820_table[i].addr = regions[i].start;
		params->e820_table[i].size = regions[i].end - regions[i].start;
		params->e820_table[i].type = regions[i].type;
	}
	params->e820_entries = BOOT_REGIONS;
}

/* A zeroed page, the file's setup_header, and our answers in it. A zeroed screen_info says that there is no display. */
static void write_zero_page(struct boot_load *b, const struct linux_plan *p)
{
	uint8_t *page = b->config->ram + ZERO_PAGE;
	memset(page, 0, PAGE_SIZE);
	memcpy(page + HEADER_OFFSET, b->head + HEADER_OFFSET, p->header_end - HEADER_OFFSET);
	struct boot_params *params = (struct boot_params *)page;
	struct setup_header *h = &params->hdr;
	h->type_of_loader = 0xFF;
	h->loadflags &= (uint8_t) ~(CAN_USE_HEAP | KEEP_SEGMENTS);
	h->code32_start = (uint32_t)p->load;
	h->cmd_line_ptr = CMDLINE;
	h->ramdisk_image = p->initrd ? (uint32_t)p->initrd_at : 0;
	h->ramdisk_size = p->initrd ? (uint32_t)p->initrd->size : 0;
	if (h->version >= 0x209) h->setup_data = 0;
	write_memory_map(params, b->config->ram_size);
}

static int write_ram(struct boot_load *b, const struct linux_plan *p)
{
	uint8_t *ram = b->config->ram;
	int error = boot_read(b, b->files[0], p->code_offset, ram + p->load, p->code_size);
	if (!error && p->initrd) error = boot_read(b, p->initrd, 0, ram + p->initrd_at, p->initrd->size);
	if (error) return error;
	write_zero_page(b, p);
	boot_write_gdt(ram + GDT);
	memcpy(ram + CMDLINE, b->config->append, strlen(b->config->append) + 1);
	return 0;
}

int boot_linux(struct boot_load *b)
{
	struct linux_plan p = { 0 };
	int error = read_header(b, &p);
	if (!error) error = find_code(b, &p);
	if (!error) error = check_crc(b, &p);
	if (!error) error = place_code(b, &p);
	if (!error) error = check_cmdline(b, &p);
	if (!error) error = place_initrd(b, &p);
	if (error) return error;
	b->entry->eip = (uint32_t)p.load;
	b->entry->gpr[ESI] = ZERO_PAGE;
	b->entry->gdt = GDT;
	LOG(LOG_BOOT, LOG_DEBUG, "bzImage: protocol 0x%x, code at 0x%" PRIx64 ", kernel's end 0x%" PRIx64 ", initrd at 0x%" PRIx64,
		p.hdr.version, p.load, p.end, p.initrd_at);
	return b->config->ram ? write_ram(b, &p) : 0;
}
