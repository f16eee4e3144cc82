/* Disassembly for dumps. The only user of Capstone, so that a dump does not share the translator's decoder and its mistakes. */
#ifndef BASE_DISASM_H
#define BASE_DISASM_H

#include "base/types.h"

#include <stdio.h>

/* Print one line for each instruction: address, bytes, text (Intel syntax). `host64` says whether this is host code (64-bit) or guest
 * code (32-bit). Bytes that are no instruction are shown one at a time as ".byte". */
void disasm_print(FILE *out, const uint8_t *bytes, size_t length, uint64_t address, bool host64);

#endif
