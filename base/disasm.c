#include "base/disasm.h"

#include <capstone/capstone.h>
#include <inttypes.h>

static void print_line(FILE *out, bool host64, uint64_t address, const uint8_t *bytes, size_t length)
{
	fprintf(out, "  %0*" PRIx64 "  ", host64 ? 12 : 8, address);
	for (size_t i = 0; i < length; i++) fprintf(out, "%02x", bytes[i]);
	/* Most instructions are shorter than 11 bytes; longer ones push their text to the right. */
	fprintf(out, "%*s ", length < 11 ? (int)(22 - 2 * length) : 0, "");
}

static void print_all(FILE *out, csh handle, cs_insn *insn, const uint8_t *bytes, size_t length, uint64_t address, bool host64)
{
	while (length) {
		const uint8_t *start = bytes;
		uint64_t at = address;
		if (cs_disasm_iter(handle, &bytes, &length, &address, insn)) {
			print_line(out, host64, at, start, insn->size);
			fprintf(out, "%s%s%s\n", insn->mnemonic, *insn->op_str ? " " : "", insn->op_str);
			continue;
		}
		print_line(out, host64, at, start, 1);
		fprintf(out, ".byte 0x%02x\n", *start);
		bytes = start + 1;
		address = at + 1;
		length--;
	}
}

void disasm_print(FILE *out, const uint8_t *bytes, size_t length, uint64_t address, bool host64)
{
	csh handle;
	if (cs_open(CS_ARCH_X86, host64 ? CS_MODE_64 : CS_MODE_32, &handle) != CS_ERR_OK) {
		fputs("  (no disassembly: Capstone does not start)\n", out);
		return;
	}
	cs_insn *insn = cs_malloc(handle);
	if (insn) {
		print_all(out, handle, insn, bytes, length, address, host64);
		cs_free(insn, 1);
	}
	cs_close(&handle);
}
