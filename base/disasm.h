/* Disassembly for dumps. The only user of Capstone, so that a dump does not share the translator's decoder and its mistakes. */
#ifndef BASE_DISASM_H
#define BASE_DISASM_H

#include "base/types.h"

#include <stdio.h>

enum disasm_mode { DISASM_16, DISASM_32, DISASM_64 };

/* Load Capstone. Whoever disassembles in the sandbox does so before: there it cannot be loaded any more. */
bool disasm_load(void);
/* A disassembler, or NULL without Capstone. */
struct disasm *disasm_open(enum disasm_mode mode);
void disasm_close(struct disasm *d);
/* The text of one instruction, and its length; bytes that are none are one byte, ".byte 0x..". `length` is not 0. */
size_t disasm_text(struct disasm *d, const uint8_t *bytes, size_t length, uint64_t address, char *text, size_t size);

/* Print one line for each instruction: address, bytes, text (Intel syntax). Bytes that are no instruction are shown one at a time as ".byte"; without
 * Capstone, all bytes without text. */
void disasm_print(FILE *out, const uint8_t *bytes, size_t length, uint64_t address, enum disasm_mode mode);

#endif
