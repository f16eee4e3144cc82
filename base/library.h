/* Libraries that few runs need, loaded when they do: Unicorn and Capstone have 125,000 relocations between them, which take as long as starting a guest. */
#ifndef BASE_LIBRARY_H
#define BASE_LIBRARY_H

#include "base/types.h"

struct library_symbol {
	const char *name;
	void *to; /* the function pointer to fill */
};

/* Load it, for good, and find its functions. False if it or one of them is not there; once the sandbox is entered none is. */
bool library_load(const char *file, const struct library_symbol *symbols, size_t count);

#endif
