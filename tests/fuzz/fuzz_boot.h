/* A kernel's file is loaded or refused with a sentence, and nothing is written outside RAM. The input's first byte says how the machine is. */
#ifndef TESTS_FUZZ_FUZZ_BOOT_H
#define TESTS_FUZZ_FUZZ_BOOT_H

#include "fuzz.h"
#include "runtime/boot.h"

#define FUZZ_RAM MIB(32)
#define FUZZ_WITH_INITRD 4
#define FUZZ_WITH_APPEND 8

/* RAM with nothing behind it. */
static uint8_t *fuzz_ram(uint64_t size)
{
	static uint8_t *end;
	if (!end) {
		uint8_t *start = mmap(NULL, FUZZ_RAM + MIB(16), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (start == MAP_FAILED || mprotect(start, FUZZ_RAM, PROT_READ | PROT_WRITE)) abort();
		end = start + FUZZ_RAM;
	}
	return end - size;
}

static void fuzz_boot(uint8_t how, const uint8_t *kernel, size_t size)
{
	static const char append[] = "console=ttyS0 and so on";
	const char *file = fuzz_file(kernel, size);
	struct boot_config config = { .kernel = file, .initrd = &file, .initrd_count = how & FUZZ_WITH_INITRD ? 1 : 0,
		.append = how & FUZZ_WITH_APPEND ? append : "", .ram_size = MIB(8) << (how & 3) };
	struct boot_entry entry;
	char why[8192] = "";
	if (config.ram_size > FUZZ_RAM) config.ram_size = FUZZ_RAM;
	int error = boot_load(&config, &entry, why, sizeof(why));
	if (error) {
		fuzz_check_sentence(why);
		return;
	}
	config.ram = fuzz_ram(config.ram_size);
	if (boot_load(&config, &entry, why, sizeof(why))) fuzz_finding("it was accepted, and then not loaded: %s", why);
	if (entry.eip >= config.ram_size || entry.gdt >= config.ram_size) fuzz_finding("it begins outside RAM, at %08x", entry.eip);
	/* Empty again, and not resident, for the next one. */
	madvise(config.ram, config.ram_size, MADV_DONTNEED);
}

#endif
