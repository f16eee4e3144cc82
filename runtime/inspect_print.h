/* Words that the inspecting commands share. */
#ifndef RUNTIME_INSPECT_PRINT_H
#define RUNTIME_INSPECT_PRINT_H

#include <stdio.h>

#include "runtime/inspect_binary.h"

/* "symbol+0x12", or the section where no symbol is; what cannot be printed is '?'. */
void inspect_place(const struct binary *b, uint32_t section, uint32_t offset, char *text, size_t size);
/* A string in JSON. */
void inspect_json(FILE *out, const char *text);

#endif
