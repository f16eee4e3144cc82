/* Boot protocols: what a firmware and boot loader would have done, done from the host. */
#ifndef RUNTIME_BOOT_H
#define RUNTIME_BOOT_H

#include "base/vcpu.h"

struct boot_config {
	const char *kernel; /* file name */
	const char *const *initrd; /* file names: one initrd for Linux, modules ("file args...") for Multiboot */
	unsigned initrd_count;
	const char *append; /* kernel command line, "" if none */
	uint8_t *ram; /* NULL: only check, so that bad input is found before anything is set up */
	uint64_t ram_size;
};

/* Load a Linux bzImage (32-bit boot protocol, Documentation/arch/x86/boot.rst) or a Multiboot 1 ELF (specification 0.6.96) into RAM. Which it is comes from the file.
 * All input is checked before RAM is written. Returns 0, or a negative errno with one clear sentence in `why` (what was wrong, which file, what to do).
 * boot_enter then sets registers of a flat-protected-mode vCPU as the protocol says; it is called again after a guest reset, on freshly loaded RAM (boot_load anew). */
struct boot_entry {
	uint32_t eip;
	uint32_t gpr[8];
	uint32_t gdt; /* where the flat GDT was put, selectors 0x10 and 0x18 */
	bool multiboot;
};
int boot_load(const struct boot_config *config, struct boot_entry *entry, char *why, size_t why_size);
void boot_enter(struct vcpu *v, const struct boot_entry *entry);

#endif
