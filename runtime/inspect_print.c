#include "runtime/inspect_print.h"

#include <inttypes.h>

void inspect_place(const struct binary *b, uint32_t section, uint32_t offset, char *text, size_t size)
{
	const struct binary_symbol *s = binary_symbol_before(b, section, offset);
	const char *name = s ? s->name : b->sections[section].name;
	uint32_t from = s ? s->offset : 0;
	/* A name is cut so that the offset has room. */
	int used = snprintf(text, size, "%.*s", (int)size - 12, name);
	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7F) *c = '?';
	}
	if (offset > from) snprintf(text + used, size - (size_t)used, "+0x%" PRIx32, offset - from);
}

void inspect_json(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c < ' ' || c >= 0x7F || c == '"' || c == '\\') fprintf(out, "\\u%04x", c);
		else fputc(c, out);
	}
	fputc('"', out);
}
