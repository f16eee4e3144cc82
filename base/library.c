#include "base/library.h"

#include <dlfcn.h>
#include <string.h>

bool library_load(const char *file, const struct library_symbol *symbols, size_t count)
{
	void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	for (size_t i = 0; library && i < count; i++) {
		void *function = dlsym(library, symbols[i].name);
		if (!function) {
			dlclose(library);
			library = NULL;
		} else {
			memcpy(symbols[i].to, &function, sizeof(function));
		}
	}
	return library != NULL;
}
