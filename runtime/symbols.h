/* Names of guest code, from what --symbols lists: ELF files, System.map or a copy of /proc/kallsyms.
 *
 * Code of rings 0-2 is found by its address, in the maps and in executables. Code of ring 3 is found by its bytes: a page of an ELF file is
 * recognised wherever a process has it, so that programs, which share addresses, and libraries, which have none, are not mixed up. */
#ifndef RUNTIME_SYMBOLS_H
#define RUNTIME_SYMBOLS_H

#include "base/types.h"

struct symbols;

#define SYMBOLS_NAME 160u /* room for a place as text */

/* Read "FILE,FILE,...". Returns 0 or EXIT_USAGE with one sentence. */
int symbols_read(struct symbols **out, const char *list, char *why, size_t why_size);
void symbols_free(struct symbols *s);

/* Guest code, as it is looked up and shown. */
struct code_place {
	gva_t gva;
	const uint8_t *page; /* the bytes of its page */
	uint32_t mode;       /* MODE_* */
	uint32_t cr3;
};

struct symbol {
	const char *file;    /* the program's name, for ring 3; else NULL */
	const char *name;    /* with module, as in "nf_hook [nf_tables]" */
	uint32_t offset;     /* of the place in it */
};

/* Not const: what was found is remembered. `s` may be NULL. */
bool symbols_find(struct symbols *s, const struct code_place *at, struct symbol *found);

/* Every name of code at a known address, with the function's size, or 0 if that is not said. Until fn returns false: returns whether it did not. */
bool symbols_each(const struct symbols *s, bool (*fn)(void *ctx, gva_t gva, uint32_t size, const char *name), void *ctx);

/* "[k] do_syscall+0x10"; "[u] ls:main"; "[u] cr3=0x1234000 0x8048123" where nothing is known; [r] in real mode, [v] in virtual-8086 mode. */
void symbols_print(struct symbols *s, const struct code_place *at, char *text, size_t size);

#endif
