/* The symbols of a kernel as text: System.map, /proc/kallsyms. A line is an address, a letter for the kind, a name, and perhaps a module in
 * brackets. */
#ifndef RUNTIME_SYMBOLS_MAP_H
#define RUNTIME_SYMBOLS_MAP_H

#include "base/types.h"

struct symbol_map {
	struct map_symbol {
		gva_t gva;
		const char *name;
	} *symbols; /* in ascending order; malloced */
	uint32_t count;
};

enum symbol_map_result { SYMBOL_MAP_READ, SYMBOL_MAP_EMPTY, SYMBOL_MAP_ZEROES, SYMBOL_MAP_MEMORY };

/* Names of code in `text`, which is cut into strings and outlives the map. */
enum symbol_map_result symbol_map_parse(struct symbol_map *m, char *text, size_t size);
/* How far it is to the next symbol at another address; 0 if that is too far for a function. */
uint32_t symbol_map_size(const struct symbol_map *m, uint32_t index);
/* The symbol that this address belongs to, or NULL. */
const char *symbol_map_find(const struct symbol_map *m, gva_t gva, uint32_t *offset);

#endif
