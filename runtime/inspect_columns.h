/* Guest and host code side by side. */
#ifndef RUNTIME_INSPECT_COLUMNS_H
#define RUNTIME_INSPECT_COLUMNS_H

#include <stdio.h>

#include "runtime/options.h"
#include "translator/translator.h"

/* Where code and stubs seem to be: nowhere near anything else that host code names. */
#define INSPECT_CODE_PC 0x500010000000ull
extern const struct translator_stubs inspect_stubs;

#define COLUMN_LINES 192u
#define COLUMN_WIDTH 160u

struct column {
	char line[COLUMN_LINES][COLUMN_WIDTH];
	bool dim[COLUMN_LINES];
	unsigned count;
};

struct columns {
	FILE *out;
	bool color;
	struct column guest, host;
};

void columns_init(struct columns *c, FILE *out, enum color color);
void columns_print_title(struct columns *c, const char *title);
void columns_add_guest(struct columns *c, uint32_t address, const char *text);
/* Why the host's code is another; as many lines as it needs. */
void columns_add_reason(struct columns *c, const char *reason);
void columns_add_note(struct columns *c, const char *note, uint32_t address);
/* Host code at this offset, `length` bytes: its addresses become offsets and names. */
void columns_add_host(struct columns *c, uint32_t offset, uint32_t length, const char *text);
/* Print what was added, and begin anew. */
void columns_print(struct columns *c);

#endif
