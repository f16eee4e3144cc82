/* Multiboot 1, specification 0.6.96. */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "runtime/boot_parts.h"

#define HEADER_MAGIC 0x1BADB002u
#define LOADER_MAGIC 0x2BADB002u
#define HEADER_REQUIRED 0xFFFFu /* bits that a loader must understand */
#define HEADER_KNOWN 0x7u /* page-aligned modules, memory information, video mode (we have none to offer, and say so) */
#define HEADER_ADDRESSES 0x10000u

#define INFO_MEMORY 0x1u
#define INFO_CMDLINE 0x4u
#define INFO_MODULES 0x8u
#define INFO_MEMORY_MAP 0x40u
#define INFO_LOADER_NAME 0x200u

#define LOADER_NAME "bt-vmm"
#define PROGRAM_HEADERS_MAX 128u
#define MODULES_MAX (BOOT_FILES_MAX - 1)
#define LOWEST_INFO 0x1000u /* leaves the interrupt vectors and the BIOS data area alone */

struct multiboot_header {
	uint32_t magic, flags, checksum;
	uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr; /* with HEADER_ADDRESSES */
};

struct multiboot_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr,
		drives_length, drives_addr, config_table, boot_loader_name, apm_table, vbe[4];
};

struct multiboot_module {
	uint32_t start, end, string, reserved;
};

struct multiboot_region {
	uint32_t size; /* of what follows */
	uint64_t start, length;
	uint32_t type;
} __attribute__((packed));

struct chunk {
	uint64_t offset, file_size; /* in the file */
	uint64_t start, end; /* in RAM, with what is zeroed behind the file's bytes */
};

struct multiboot_plan {
	struct chunk chunks[PROGRAM_HEADERS_MAX];
	unsigned chunk_count;
	uint64_t entry;
	uint64_t end; /* of the highest chunk or module */
	struct boot_file *modules[MODULES_MAX];
	uint64_t module_at[MODULES_MAX];
	uint64_t info_at, info_size;
};

int boot_multiboot_probe(const struct boot_load *b, bool *broken)
{
	*broken = false;
	for (size_t at = 0; at + 12 <= b->head_size; at += 4) {
		uint32_t word[3];
		memcpy(word, b->head + at, sizeof(word));
		if (word[0] != HEADER_MAGIC) continue;
		if (!(uint32_t)(word[0] + word[1] + word[2])) return (int)at;
		*broken = true;
	}
	return -1;
}

static int add_chunk(struct boot_load *b, struct multiboot_plan *p, const struct chunk *c)
{
	const struct boot_file *kernel = b->files[0];
	if (c->start >= c->end) return 0;
	if (c->offset > kernel->size || c->file_size > kernel->size - c->offset) {
		return boot_fail_kernel(b, ENOEXEC,
			"is truncated: a segment ends at byte %" PRIu64 ", but it has %" PRIu64 "; fetch it again",
			(c->offset + c->file_size), kernel->size);
	}
	if (!boot_is_ram(b->config, c->start, c->end - c->start)) {
		if (c->end > b->config->ram_size && c->end <= MIB(3072)) {
			return boot_fail_kernel(b, ENOMEM, "needs at least %" PRIu64 "M of memory: give --memory %" PRIu64 "M or more",
				boot_mib(c->end), boot_mib(c->end));
		}
		return boot_fail_kernel(
			b, ENOEXEC, "cannot be loaded: its segment at 0x%" PRIx64 " to 0x%" PRIx64 " is not in RAM", c->start, c->end);
	}
	for (unsigned i = 0; i < p->chunk_count; i++) {
		if (c->start < p->chunks[i].end && p->chunks[i].start < c->end) {
			return boot_fail_kernel(b, ENOEXEC, "is corrupt: two of its segments overlap");
		}
	}
	p->chunks[p->chunk_count++] = *c;
	if (c->end > p->end) p->end = c->end;
	return 0;
}

static int fail_entry(struct boot_load *b)
{
	return boot_fail_kernel(b, ENOEXEC, "is corrupt: its entry point lies outside what is loaded");
}

static int plan_addresses(struct boot_load *b, struct multiboot_plan *p, uint32_t at)
{
	const struct boot_file *kernel = b->files[0];
	struct multiboot_header h;
	memcpy(&h, b->head + at, sizeof(h));
	uint64_t before = h.header_addr - (uint64_t)h.load_addr;
	if (h.load_addr > h.header_addr || before > at || (h.load_end_addr && h.load_end_addr <= h.load_addr)) {
		return boot_fail_kernel(b, ENOEXEC, "is corrupt: the addresses in its Multiboot header contradict each other");
	}
	struct chunk c = { .offset = at - before, .start = h.load_addr };
	c.file_size = h.load_end_addr ? h.load_end_addr - h.load_addr : kernel->size - c.offset;
	c.end = c.start + c.file_size;
	if (h.bss_end_addr > c.end) c.end = h.bss_end_addr;
	if (h.entry_addr < c.start || h.entry_addr >= c.end) return fail_entry(b);
	p->entry = h.entry_addr;
	return add_chunk(b, p, &c);
}

static int fail_elf(struct boot_load *b, const char *what)
{
	return boot_fail_kernel(b, ENOEXEC, "has a Multiboot header but %s: give a 32-bit ELF executable", what);
}

static int check_elf(struct boot_load *b, const Elf32_Ehdr *e)
{
	if (b->head_size < sizeof(*e) || memcmp(e->e_ident, ELFMAG, SELFMAG))
		return fail_elf(b, "neither load addresses in it nor an ELF header");
	if (e->e_ident[EI_CLASS] == ELFCLASS64) return fail_elf(b, "is a 64-bit ELF file");
	if (e->e_ident[EI_CLASS] != ELFCLASS32 || e->e_ident[EI_DATA] != ELFDATA2LSB || e->e_machine != EM_386)
		return fail_elf(b, "is not for i386");
	if (e->e_type != ET_EXEC) return fail_elf(b, "is not an executable at fixed addresses");
	if (!e->e_phnum || e->e_phnum > PROGRAM_HEADERS_MAX || e->e_phentsize != sizeof(Elf32_Phdr))
		return fail_elf(b, "has an odd program header table");
	return 0;
}

/* e_entry is a linear address after the kernel has set its paging up, or a physical one: linkers are used both ways. */
static bool find_entry(const Elf32_Ehdr *e, const Elf32_Phdr *phdrs, uint64_t *entry)
{
	for (unsigned i = 0; i < e->e_phnum; i++) {
		uint32_t offset = e->e_entry - phdrs[i].p_vaddr;
		if (phdrs[i].p_type != PT_LOAD || e->e_entry < phdrs[i].p_vaddr || offset >= phdrs[i].p_memsz) continue;
		*entry = (uint64_t)phdrs[i].p_paddr + offset;
		return true;
	}
	for (unsigned i = 0; i < e->e_phnum; i++) {
		uint32_t offset = e->e_entry - phdrs[i].p_paddr;
		if (phdrs[i].p_type != PT_LOAD || e->e_entry < phdrs[i].p_paddr || offset >= phdrs[i].p_memsz) continue;
		*entry = e->e_entry;
		return true;
	}
	return false;
}

static int plan_elf(struct boot_load *b, struct multiboot_plan *p)
{
	const struct boot_file *kernel = b->files[0];
	Elf32_Ehdr e;
	Elf32_Phdr phdrs[PROGRAM_HEADERS_MAX];
	memcpy(&e, b->head, sizeof(e));
	int error = check_elf(b, &e);
	if (error) return error;
	uint64_t table_size = (uint64_t)e.e_phnum * sizeof(phdrs[0]);
	if (e.e_phoff > kernel->size || table_size > kernel->size - e.e_phoff) {
		return boot_fail_kernel(b, ENOEXEC, "is truncated: its program headers lie behind its end; fetch it again");
	}
	error = boot_read(b, kernel, e.e_phoff, phdrs, table_size);
	for (unsigned i = 0; !error && i < e.e_phnum; i++) {
		const Elf32_Phdr *h = &phdrs[i];
		if (h->p_type != PT_LOAD) continue;
		if (h->p_filesz > h->p_memsz)
			return boot_fail_kernel(b, ENOEXEC, "is corrupt: a segment is larger in the file than in memory");
		struct chunk c = { h->p_offset, h->p_filesz, h->p_paddr, (uint64_t)h->p_paddr + h->p_memsz };
		error = add_chunk(b, p, &c);
	}
	if (error) return error;
	return find_entry(&e, phdrs, &p->entry) ? 0 : fail_entry(b);
}

static int plan_modules(struct boot_load *b, struct multiboot_plan *p)
{
	const struct boot_config *c = b->config;
	if (c->initrd_count > MODULES_MAX)
		return boot_fail(b, E2BIG, "--initrd is given %u times: at most %u modules can be loaded", c->initrd_count, MODULES_MAX);
	for (unsigned i = 0; i < c->initrd_count; i++) {
		int error = boot_open(b, "module", c->initrd[i], strcspn(c->initrd[i], " "), &p->modules[i]);
		if (error) return error;
		uint64_t at = boot_align_up(p->end > BOOT_HIGH_RAM_START ? p->end : BOOT_HIGH_RAM_START, PAGE_SIZE);
		uint64_t size = p->modules[i]->size;
		if (size > c->ram_size || at > c->ram_size - size) {
			return boot_fail(b, ENOMEM,
				"the module '%s' (%" PRIu64 "M) does not fit into %" PRIu64
				"M of memory beside the kernel: give more with --memory",
				p->modules[i]->name, boot_mib(size), c->ram_size >> 20);
		}
		p->module_at[i] = at;
		p->end = at + size;
	}
	return 0;
}

/* Lay out the information block: the structures, then the strings, then the GDT. With a `ram`, write it. */
struct block_writer {
	uint8_t *ram;
	uint64_t at;
};

static uint32_t put(struct block_writer *w, const void *what, size_t size)
{
	uint64_t at = w->at;
	if (w->ram) memcpy(w->ram + at, what, size);
	w->at = boot_align_up(at + size, 8);
	return (uint32_t)at;
}

/* "FILE ARGUMENTS", as loaders pass it: kernels take the first word for their own name. */
static uint32_t put_cmdline(struct block_writer *w, const struct boot_config *c)
{
	size_t name = strlen(c->kernel), append = strlen(c->append);
	uint64_t at = w->at;
	put(w, c->kernel, name + 1);
	if (!append) return (uint32_t)at;
	w->at = at + name;
	put(w, " ", 1);
	w->at = at + name + 1;
	put(w, c->append, append + 1);
	return (uint32_t)at;
}

static uint32_t put_modules(struct block_writer *w, const struct boot_config *c, const struct multiboot_plan *p)
{
	struct multiboot_module modules[MODULES_MAX] = { 0 };
	for (unsigned i = 0; i < c->initrd_count; i++) {
		modules[i].start = (uint32_t)p->module_at[i];
		modules[i].end = (uint32_t)(p->module_at[i] + p->modules[i]->size);
		modules[i].string = put(w, c->initrd[i], strlen(c->initrd[i]) + 1);
	}
	return put(w, modules, c->initrd_count * sizeof(modules[0]));
}

static void put_memory_map(struct block_writer *w, const struct boot_config *c, struct multiboot_info *info)
{
	struct boot_region regions[BOOT_REGIONS];
	struct multiboot_region map[BOOT_REGIONS];
	boot_memory_map(c->ram_size, regions);
	for (unsigned i = 0; i < BOOT_REGIONS; i++) {
		map[i] =
			(struct multiboot_region){ sizeof(map[i]) - 4, regions[i].start, regions[i].end - regions[i].start, regions[i].type };
	}
	info->mem_lower = BOOT_LOW_RAM_END >> 10;
	info->mem_upper = (uint32_t)((c->ram_size - BOOT_HIGH_RAM_START) >> 10);
	info->mmap_length = sizeof(map);
	info->mmap_addr = put(w, map, sizeof(map));
}

static uint64_t put_info(struct boot_load *b, const struct multiboot_plan *p, uint8_t *ram)
{
	const struct boot_config *c = b->config;
	struct block_writer w = { ram, p->info_at };
	struct multiboot_info info = { .flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME };
	put(&w, &info, sizeof(info));
	put_memory_map(&w, c, &info);
	info.cmdline = put_cmdline(&w, c);
	info.mods_count = c->initrd_count;
	info.mods_addr = put_modules(&w, c, p);
	info.boot_loader_name = put(&w, LOADER_NAME, sizeof(LOADER_NAME));
	uint8_t gdt[BOOT_GDT_SIZE];
	boot_write_gdt(gdt);
	b->entry->gdt = put(&w, gdt, sizeof(gdt));
	if (ram) memcpy(ram + p->info_at, &info, sizeof(info));
	return w.at - p->info_at;
}

static bool is_free(const struct multiboot_plan *p, uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < p->chunk_count; i++) {
		if (start < p->chunks[i].end && p->chunks[i].start < end) return false;
	}
	return true;
}

/* Low memory first: kernels take what lies behind their end and their modules for free. */
static int place_info(struct boot_load *b, struct multiboot_plan *p)
{
	p->info_at = 0;
	p->info_size = put_info(b, p, NULL);
	for (p->info_at = LOWEST_INFO; p->info_at + p->info_size <= BOOT_LOW_RAM_END; p->info_at += PAGE_SIZE) {
		if (is_free(p, p->info_at, p->info_at + p->info_size)) return 0;
	}
	p->info_at = boot_align_up(p->end > BOOT_HIGH_RAM_START ? p->end : BOOT_HIGH_RAM_START, PAGE_SIZE);
	if (boot_is_ram(b->config, p->info_at, p->info_size)) return 0;
	return boot_fail(b, ENOMEM, "the command line does not fit into memory beside the kernel '%s': give more with --memory",
		b->files[0]->name);
}

static int write_ram(struct boot_load *b, const struct multiboot_plan *p)
{
	uint8_t *ram = b->config->ram;
	for (unsigned i = 0; i < p->chunk_count; i++) {
		const struct chunk *c = &p->chunks[i];
		int error = boot_read(b, b->files[0], c->offset, ram + c->start, c->file_size);
		if (error) return error;
		memset(ram + c->start + c->file_size, 0, c->end - c->start - c->file_size);
	}
	for (unsigned i = 0; i < b->config->initrd_count; i++) {
		int error = boot_read(b, p->modules[i], 0, ram + p->module_at[i], p->modules[i]->size);
		if (error) return error;
	}
	put_info(b, p, ram);
	return 0;
}

static int plan(struct boot_load *b, struct multiboot_plan *p, uint32_t at)
{
	uint32_t flags;
	memcpy(&flags, b->head + at + 4, sizeof(flags));
	if (flags & HEADER_REQUIRED & ~HEADER_KNOWN) {
		return boot_fail_kernel(b, ENOEXEC,
			"requires Multiboot features that are not known here (flags 0x%x): it cannot be booted",
			flags & HEADER_REQUIRED & ~HEADER_KNOWN);
	}
	int error;
	if (!(flags & HEADER_ADDRESSES)) error = plan_elf(b, p);
	else if (at + sizeof(struct multiboot_header) <= b->head_size) error = plan_addresses(b, p, at);
	else error = boot_fail_kernel(b, ENOEXEC, "is truncated: it ends within its Multiboot header; fetch it again");
	if (!error) error = plan_modules(b, p);
	return error ? error : place_info(b, p);
}

int boot_multiboot(struct boot_load *b, uint32_t header)
{
	struct multiboot_plan p = { 0 };
	int error = plan(b, &p, header);
	if (error) return error;
	b->entry->eip = (uint32_t)p.entry;
	if (b->config->ram) error = write_ram(b, &p);
	b->entry->gpr[EAX] = LOADER_MAGIC;
	b->entry->gpr[EBX] = (uint32_t)p.info_at;
	LOG(LOG_BOOT, LOG_DEBUG, "Multiboot: %u segments, entry 0x%" PRIx64 ", information at 0x%" PRIx64, p.chunk_count, p.entry,
		p.info_at);
	return error;
}
