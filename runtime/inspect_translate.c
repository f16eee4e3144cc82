/* bt-vmm translate: guest blocks beside the host code that they become. Nothing runs: the translator is a pure function, whose stubs have
 * names here instead of addresses. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/abi.h"
#include "base/disasm.h"
#include "runtime/inspect.h"
#include "runtime/inspect_binary.h"
#include "runtime/inspect_columns.h"
#include "runtime/inspect_print.h"
#include "translator/translator.h"

struct show {
	const struct inspect_options *o;
	const struct binary *b;
	struct columns columns;
	struct disasm *guest[2], *host; /* guest: 16-bit, 32-bit */
	struct translator_input in;
	struct translator_output out;
	uint8_t code[TRANSLATOR_MAX_BYTES];
};

static uint32_t mode_of(const struct inspect_options *o, const struct binary_section *code)
{
	uint32_t mode = o->soft ? MODE_SOFT : o->cpl == 3 ? MODE_TRAP_PADS : 0;
	if (o->has_mode) return o->mode;
	if (code->bits == 32) return mode | MODE_CS32 | MODE_SS32 | MODE_PE | (o->cpl ? 0 : MODE_IOPL_OK) | o->cpl;
	/* Real mode after a reset: 64 KiB limits, CR4 zero. */
	mode &= MODE_SOFT;
	for (unsigned seg = 0; seg < SEG_COUNT; seg++) mode |= (uint32_t)MODE_SEG_LIMIT << (MODE_SEG_SHIFT + 2 * seg);
	return mode | MODE_IOPL_OK | MODE_SSE_UD;
}

/* Translate at this place, as the runtime would: within a page, or an instruction that spans two. Frames are what paging off would make them. */
static int translate(struct show *s, uint32_t section, uint32_t at)
{
	const struct binary_section *code = &s->b->sections[section];
	uint32_t address = code->address + at, left = code->size - at, page = PAGE_SIZE - (address & PAGE_MASK);
	uint32_t mode = mode_of(s->o, code), end = MODE_SEG(mode, SEG_CS) == MODE_SEG_LIMIT ? 0x10000 : 0;
	s->in = (struct translator_input){ .bytes = code->bytes + at, .length = left < page ? left : page, .eip = end ? address & 0xFFFF : address,
		.cs_base = end ? address & ~0xFFFFu : 0, .cs_end = end, .mode = mode, .features = FEATURES_ALL, .max_instructions = TRANSLATOR_MAX_INSTRUCTIONS,
		.basic_blocks = s->o->basic_blocks, .joins = !s->o->basic_blocks, .gfn2 = GFN_NONE,
		.stubs = inspect_stubs, .code = s->code, .code_pc = INSPECT_CODE_PC, .capacity = sizeof(s->code) };
	int error = translator_translate(&s->in, &s->out);
	if (error != -ENODATA || left <= page) return error;
	s->in.length = left < page + 16 ? left : page + 16;
	s->in.max_instructions = 1;
	s->in.gfn2 = (address >> PAGE_SHIFT) + 1;
	if (end && s->in.length > end - s->in.eip) return -ENODATA;
	return translator_translate(&s->in, &s->out);
}

/* Host instructions from one offset to another into the right column. Returns the last one's text, in a buffer of the columns. */
static void add_host(struct show *s, uint32_t from, uint32_t to)
{
	char text[192];
	for (uint32_t at = from; at < to;) {
		uint32_t step = (uint32_t)disasm_text(s->host, s->code + at, to - at, INSPECT_CODE_PC + at, text, sizeof(text));
		columns_add_host(&s->columns, at, step, text);
		at += step;
	}
}

static void add_reason(struct show *s, const struct translator_insn *what, const uint8_t *bytes, uint32_t from, uint32_t to)
{
	bool same = to - from == what->length && !memcmp(bytes, s->code + from, what->length);
	const char *reason = what->length ? what->reason : "no instruction: #UD";
	if (!same) columns_add_reason(&s->columns, *reason ? reason : "encoded anew for 64-bit mode");
}

/* Instruction number i, `length` bytes at this offset of the block. */
static void show_instruction(struct show *s, uint32_t i, uint32_t at, uint32_t length)
{
	const uint8_t *bytes = s->in.bytes + at;
	struct translator_insn what;
	char text[192];
	translator_classify(bytes, s->in.length - at, s->in.mode, &what);
	if (what.length) disasm_text(s->guest[(s->in.mode & MODE_CS32) != 0], bytes, length, s->in.cs_base + s->in.eip + at, text, sizeof(text));
	else snprintf(text, sizeof(text), ".byte 0x%02x", *bytes);
	columns_add_guest(&s->columns, s->in.cs_base + s->in.eip + at, text);
	add_reason(s, &what, bytes, s->out.starts[i], s->out.starts[i + 1]);
	add_host(s, s->out.starts[i], s->out.starts[i + 1]);
	columns_print(&s->columns);
}

/* The EIP that the side table has for a host offset. */
static uint32_t row_eip(const struct translator_output *out, uint32_t offset)
{
	uint32_t eip = 0;
	for (uint32_t i = 0; i < out->row_count && out->rows[i].host_offset <= offset; i++) eip = out->rows[i].eip;
	return eip;
}

/* What the main line leaves for, piece by piece: each ends with a jump. */
static void show_tail(struct show *s)
{
	uint32_t end = s->out.code_length, start = s->out.starts[s->out.instructions];
	char text[192];
	for (uint32_t at = start, from = start; at < end;) {
		at += (uint32_t)disasm_text(s->host, s->code + at, end - at, INSPECT_CODE_PC + at, text, sizeof(text));
		if (strncmp(text, "jmp ", 4) && at < end) continue;
		columns_add_note(&s->columns, "off the main line of", s->in.cs_base + row_eip(&s->out, from));
		add_host(s, from, at);
		columns_print(&s->columns);
		from = at;
	}
}

static void show_block(struct show *s, uint32_t section, uint32_t at)
{
	char place[80], title[256];
	inspect_place(s->b, section, at, place, sizeof(place));
	snprintf(title, sizeof(title), "%08" PRIx32 " %s: %" PRIu32 " instruction%s, %" PRIu32 " byte%s %" PRIu32 ", mode %08" PRIx32,
		s->in.cs_base + s->in.eip, place, s->out.instructions, s->out.instructions == 1 ? "" : "s", s->out.guest_length,
		s->out.guest_length == 1 ? " becomes" : "s become", s->out.code_length, s->in.mode);
	columns_print_title(&s->columns, title);
	for (uint32_t i = 0, offset = 0; i < s->out.instructions; i++) {
		uint32_t length = translator_length(s->in.bytes + offset, s->in.length - offset, s->in.mode);
		show_instruction(s, i, offset, length ? length : 1);
		offset += length;
	}
	show_tail(s);
}

/* Blocks from one offset of a section to another, `most` of them at most. */
static void show_range(struct show *s, uint32_t section, uint32_t at, uint32_t end, uint32_t most)
{
	for (uint32_t n = 0; at < end && n < most; n++) {
		if (translate(s, section, at)) {
			columns_print_title(&s->columns, "the section ends within an instruction");
			return;
		}
		show_block(s, section, at);
		at += s->out.guest_length;
	}
}

static void show_functions(struct show *s)
{
	for (uint32_t i = 0; i < s->b->symbol_count; i++) {
		const struct binary_symbol *f = &s->b->symbols[i];
		uint32_t room = s->b->sections[f->section].size - f->offset;
		if (f->function && f->size) show_range(s, f->section, f->offset, f->offset + (f->size < room ? f->size : room), UINT32_MAX);
	}
}

static const struct binary_symbol *find_symbol(const struct binary *b, const char *name)
{
	for (uint32_t i = 0; i < b->symbol_count; i++) {
		if (!strcmp(b->symbols[i].name, name)) return &b->symbols[i];
	}
	return NULL;
}

static int show_address(struct show *s, uint32_t address, const char *what)
{
	int section = binary_find_address(s->b, address);
	if (section < 0) {
		return snprintf(s->b->why, s->b->why_size, "%s 0x%" PRIx32 " lies in no executable section: bt-vmm classify --summary --json names them",
			       what, address),
		       EXIT_USAGE;
	}
	const struct binary_section *code = &s->b->sections[section];
	uint32_t count = s->o->count ? s->o->count : s->o->bytes ? UINT32_MAX : 1;
	show_range(s, (uint32_t)section, address - code->address, code->size, count);
	return 0;
}

static int show_at(struct show *s)
{
	const struct inspect_options *o = s->o;
	const struct binary_symbol *f = find_symbol(s->b, o->at);
	uint64_t address;
	if (!f) {
		if (options_number(o->at, UINT32_MAX, &address)) return show_address(s, (uint32_t)address, "--at");
		snprintf(s->b->why, s->b->why_size, "--at '%s' is neither an address nor a symbol of the file's code", o->at);
		return EXIT_USAGE;
	}
	uint32_t room = s->b->sections[f->section].size - f->offset, size = f->size && f->size < room ? f->size : room;
	uint32_t count = o->count ? o->count : f->size ? UINT32_MAX : 1;
	show_range(s, f->section, f->offset, f->offset + (o->count ? room : size), count);
	return 0;
}

static int show_what_is_asked(struct show *s)
{
	if (s->o->all) {
		show_functions(s);
		return 0;
	}
	if (s->o->at) return show_at(s);
	if (s->b->has_entry) return show_address(s, s->b->entry, "its entry point");
	snprintf(s->b->why, s->b->why_size, "the file '%s' has no entry point: say --at SYMBOL or --all", s->o->file);
	return EXIT_USAGE;
}

int inspect_translate(const struct inspect_options *o, FILE *out, char *why, size_t why_size)
{
	struct binary b;
	int error = binary_read(&b, o, why, why_size);
	struct show *s = error ? NULL : malloc(sizeof(*s));
	if (!error && !s) error = binary_fail_memory(&b);
	if (!error) {
		*s = (struct show){ .o = o, .b = &b, .host = disasm_open(DISASM_64), .guest = { disasm_open(DISASM_16), disasm_open(DISASM_32) } };
		columns_init(&s->columns, out, o->color);
		if (s->host && s->guest[0] && s->guest[1]) error = show_what_is_asked(s);
		else error = binary_fail_memory(&b);
		disasm_close(s->host);
		for (unsigned i = 0; i < ARRAY_LEN(s->guest); i++) disasm_close(s->guest[i]);
	}
	free(s);
	binary_free(&b);
	return error;
}
