#include "runtime/symbols_map.h"

#include <stdlib.h>
#include <string.h>

/* No function is longer. Between the kernel's code and a module's nothing has a name. */
#define FUNCTION_MAX MIB(1)

struct line {
	uint64_t address;
	char kind, *name;
};

/* Eight digits, or sixteen (a 64-bit kernel's, which is no guest). */
static char *parse_address(char *at, const char *end, uint64_t *address)
{
	*address = 0;
	for (; at < end; at++) {
		char c = *at;
		unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
		if (digit > 15) break;
		*address = *address << 4 | digit;
	}
	return at;
}

/* One line, whose end has become a zero. */
static bool parse_line(char *text, char *end, struct line *l)
{
	char *at = parse_address(text, end, &l->address);
	if (at == text || end - at < 4 || at[0] != ' ' || at[2] != ' ') return false;
	l->kind = at[1];
	l->name = at + 3;
	char *tab = memchr(l->name, '\t', (size_t)(end - l->name));
	if (tab) *tab = ' ';
	return true;
}

static bool is_code(const struct line *l)
{
	return strchr("tTwW", l->kind) && l->address <= UINT32_MAX;
}

static bool add(struct symbol_map *m, const struct line *l)
{
	if (!(m->count & (m->count - 1))) {
		struct map_symbol *grown = realloc(m->symbols, (m->count ? 2 * (size_t)m->count : 1) * sizeof(*grown));
		if (!grown) return false;
		m->symbols = grown;
	}
	m->symbols[m->count++] = (struct map_symbol){ (gva_t)l->address, l->name };
	return true;
}

/* Of several names of one place, the last is shown: one that is no label of the linker's. */
static int compare(const void *a, const void *b)
{
	const struct map_symbol *x = a, *y = b;
	if (x->gva != y->gva) return x->gva < y->gva ? -1 : 1;
	bool x_label = *x->name == '_', y_label = *y->name == '_';
	if (x_label != y_label) return x_label ? -1 : 1;
	return x->name < y->name ? -1 : x->name > y->name;
}

enum symbol_map_result symbol_map_parse(struct symbol_map *m, char *text, size_t size)
{
	uint32_t zeroes = 0;
	for (char *at = text, *stop = text + size, *end; at < stop; at = end + 1) {
		struct line l;
		end = memchr(at, '\n', (size_t)(stop - at));
		if (!end) break; /* the last line is not whole */
		*end = 0;
		if (!parse_line(at, end, &l)) return SYMBOL_MAP_EMPTY;
		zeroes += is_code(&l) && !l.address;
		if (is_code(&l) && l.address && !add(m, &l)) return SYMBOL_MAP_MEMORY;
	}
	if (!m->count) return zeroes ? SYMBOL_MAP_ZEROES : SYMBOL_MAP_EMPTY;
	qsort(m->symbols, m->count, sizeof(m->symbols[0]), compare);
	return SYMBOL_MAP_READ;
}

uint32_t symbol_map_size(const struct symbol_map *m, uint32_t index)
{
	gva_t gva = m->symbols[index].gva;
	while (index < m->count && m->symbols[index].gva == gva) index++;
	return index < m->count && m->symbols[index].gva - gva < FUNCTION_MAX ? m->symbols[index].gva - gva : 0;
}

const char *symbol_map_find(const struct symbol_map *m, gva_t gva, uint32_t *offset)
{
	uint32_t low = 0, high = m->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (m->symbols[middle].gva <= gva) low = middle + 1;
		else high = middle;
	}
	if (!low || gva - m->symbols[low - 1].gva >= FUNCTION_MAX) return NULL;
	*offset = gva - m->symbols[low - 1].gva;
	return m->symbols[low - 1].name;
}
