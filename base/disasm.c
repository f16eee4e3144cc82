#include "base/disasm.h"

#include <capstone/capstone.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/library.h"

static struct {
	__typeof__(&cs_open) open;
	__typeof__(&cs_close) close;
	__typeof__(&cs_malloc) malloc;
	__typeof__(&cs_free) free;
	__typeof__(&cs_disasm_iter) iterate;
} capstone;

bool disasm_load(void)
{
	static const struct library_symbol symbols[] = {
		{"cs_open", &capstone.open}, {"cs_close", &capstone.close}, {"cs_malloc", &capstone.malloc}, {"cs_free", &capstone.free},
		{"cs_disasm_iter", &capstone.iterate},
	};
	static bool loaded;

	loaded = loaded || library_load(CAPSTONE_FILE, symbols, ARRAY_LEN(symbols));
	return loaded;
}

struct disasm {
	csh handle;
	cs_insn *insn;
};

struct disasm *disasm_open(enum disasm_mode mode)
{
	static const cs_mode modes[] = {[DISASM_16] = CS_MODE_16, [DISASM_32] = CS_MODE_32, [DISASM_64] = CS_MODE_64};
	struct disasm *d = calloc(1, sizeof(*d));

	if (d && disasm_load() && capstone.open(CS_ARCH_X86, modes[mode], &d->handle) == CS_ERR_OK) {
		d->insn = capstone.malloc(d->handle);
		if (d->insn)
			return d;
		capstone.close(&d->handle);
	}
	free(d);
	return NULL;
}

void disasm_close(struct disasm *d)
{
	if (!d)
		return;
	capstone.free(d->insn, 1);
	capstone.close(&d->handle);
	free(d);
}

size_t disasm_text(struct disasm *d, const uint8_t *bytes, size_t length, uint64_t address, char *text, size_t size)
{
	const uint8_t *at = bytes;

	if (capstone.iterate(d->handle, &at, &length, &address, d->insn)) {
		snprintf(text, size, "%s%s%s", d->insn->mnemonic, *d->insn->op_str ? " " : "", d->insn->op_str);
		return d->insn->size;
	}
	snprintf(text, size, ".byte 0x%02x", *bytes);
	return 1;
}

static void print_line(FILE *out, bool host64, uint64_t address, const uint8_t *bytes, size_t length)
{
	fprintf(out, "  %0*" PRIx64 "  ", host64 ? 12 : 8, address);
	for (size_t i = 0; i < length; i++) fprintf(out, "%02x", bytes[i]);
	/* Most instructions are shorter than 11 bytes; longer ones push their text to the right. */
	fprintf(out, "%*s ", length < 11 ? (int)(22 - 2 * length) : 0, "");
}

#define LINE_BYTES ((size_t)16) /* where nothing tells instructions apart */

void disasm_print(FILE *out, const uint8_t *bytes, size_t length, uint64_t address, enum disasm_mode mode)
{
	struct disasm *d = disasm_open(mode);
	char text[192];

	if (!d)
		fputs("  (no disassembly: Capstone is not loaded)\n", out);
	for (size_t at = 0; !d && at < length; at += LINE_BYTES) {
		print_line(out, mode == DISASM_64, address + at, bytes + at, length - at < LINE_BYTES ? length - at : LINE_BYTES);
		fputs("\n", out);
	}
	for (size_t at = 0, step; d && at < length; at += step) {
		step = disasm_text(d, bytes + at, length - at, address + at, text, sizeof(text));
		print_line(out, mode == DISASM_64, address + at, bytes + at, step);
		fprintf(out, "%s\n", text);
	}
	disasm_close(d);
}
