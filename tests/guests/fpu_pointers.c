/* Where the last x87 instruction was, and its operand, as FNSTENV and FNSAVE lay them out: in 16 and in 32 bits, in real mode, in virtual-8086 mode and in
 * protected mode (SDM vol. 1, 8.1.10, figures 8-9 to 8-12), and as FLDENV and FRSTOR take them. */
#include "guest.h"
#include "real.h"

#define ORIGIN 0x100u
#define CODE_AT 0x21230u
#define DATA_AT 0x45670u /* DS */
#define OTHER_AT 0x6A5B0u /* ES and SS */
#define IMAGE 0x1000u /* what is stored, in DS */
#define LOADED 0x1100u
#define CONTROL 0x60u /* behind IMAGE */
#define OPERAND 0x40u
#define FCS_DEPRECATED 0x2000u /* CPUID.7.EBX: FCS and FDS are 0 */
#define USER(index) ((index) << 3 | 3)

enum mode { REAL, V86, PM16, PM32, MODES };
enum { CODE16 = 8, CODE32, DATA16, OTHER16 };
enum { CONTROL_WORD, STATUS, TAGS, FIP, FCS, FDP, FDS, WORDS };

static enum mode mode;
static u32 size, length; /* of an environment's words; of the code so far */
static bool deprecated;

static bool is_real(void) { return mode == REAL || mode == V86; }

static u32 segment(u32 base)
{
	if (is_real()) return base >> 4;
	return base == CODE_AT ? USER(mode == PM32 ? CODE32 : CODE16) : base == DATA_AT ? USER(DATA16) : USER(OTHER16);
}

static void put_bytes(const u8 *bytes, u32 count)
{
	memcpy((u8 *)CODE_AT + ORIGIN + length, bytes, count);
	length += count;
}
#define PUT(...) put_bytes((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* [BX] and [SI], or [EBX] and [ESI]. */
static u8 by_bx(u8 modrm) { return modrm | (mode == PM32 ? 3 : 7); }
static u8 by_si(u8 modrm) { return modrm | (mode == PM32 ? 6 : 4); }

static void put_sized(u8 opcode, u8 modrm)
{
	if ((size == 4) != (mode == PM32)) PUT(0x66);
	PUT(opcode, modrm);
}

static void start(void)
{
	length = 0;
	memset((void *)(DATA_AT + IMAGE), 0, 0x300);
	PUT(0xDB, 0xE3);
}

static bool finish(void)
{
	PUT(CODE_DONE);
	struct state s = state_at((const void *)ORIGIN, 3);
	s.cs = segment(CODE_AT);
	s.ds = s.fs = s.gs = segment(DATA_AT);
	s.es = s.ss = segment(OTHER_AT);
	s.esp = 0x1000;
	s.ebx = IMAGE;
	s.esi = LOADED;
	if (mode == V86) s.eflags |= EFLAGS_VM | 0x3000;
	if (mode == REAL) real_execute(&s, false);
	else run(&s);
	if (s.vector == RUN_DONE) return true;
	print("# trap %u at %x\n", s.vector, s.eip);
	return false;
}

static u32 word(u32 at, u32 n) { return size == 4 ? *dword_at(DATA_AT + at + 4 * n) : *word_at(DATA_AT + at + 2 * n); }

static void put_word(u32 n, u32 value)
{
	memcpy((void *)(DATA_AT + LOADED + size * n), &value, size);
}

/* Four words for two addresses; the upper halves of those that have 16 bits are reserved. */
static void lay_out(u32 *words, u32 ip, u32 dp, u32 opcode)
{
	u32 upper = size == 4 ? 0x0FFFF000 : 0xF000;
	if (is_real()) {
		words[FIP] = ip & 0xFFFF;
		words[FCS] = (ip >> 4 & upper) | opcode;
		words[FDP] = dp & 0xFFFF;
		words[FDS] = dp >> 4 & upper;
	} else {
		words[FIP] = size == 4 ? ip : ip & 0xFFFF;
		words[FCS] = (deprecated ? 0 : segment(CODE_AT)) | (size == 4 ? opcode << 16 : 0);
		words[FDP] = size == 4 ? dp : dp & 0xFFFF;
		words[FDS] = deprecated ? 0 : segment(OTHER_AT);
	}
}

static u32 significant(u32 n)
{
	bool half = size == 2 || n == FDS || (is_real() && n != FCS);
	return half && !(is_real() && n == FDS) ? 0xFFFF : 0xFFFFFFFF;
}

/* Are words first to last as they should be? The operand's and the opcode are of an instruction that met an exception. */
static bool is_stored(const u32 *words, u32 first, u32 last)
{
	bool good = true;
	for (u32 n = first; n <= last; n++) {
		if (!((word(IMAGE, n) ^ words[n]) & significant(n))) continue;
		print("# word %u: %x, not %x\n", n, word(IMAGE, n), words[n]);
		good = false;
	}
	return good;
}

static void report(u8 store, const char *what, bool good)
{
	static const char *const names[] = {"real mode, ", "V86, ", "16-bit code, ", "32-bit code, "};
	char title[96], *to = title;
	const char *const parts[] = {names[mode], store == 0xD9 ? "FNSTENV of " : "FNSAVE of ", size == 4 ? "32 bits: " : "16 bits: ", what};
	for (u32 i = 0; i < sizeof parts / sizeof *parts; i++)
		for (const char *from = parts[i]; *from; from++) *to++ = *from;
	*to = 0;
	check(title, good);
}

/* An instruction without an operand, and perhaps one behind it that does not count. */
static void test_last(u8 store, bool control)
{
	u32 words[WORDS];
	start();
	u32 ip = ORIGIN + length;
	PUT(0xD9, 0xE8, 0x90); /* fld1; nop */
	if (control) PUT(0xDF, 0xE0); /* fnstsw ax */
	put_sized(store, by_bx(0x30));
	lay_out(words, ip + (is_real() ? CODE_AT : 0), 0, 0);
	report(store, control ? "FIP is no control instruction's" : "FIP", finish() && is_stored(words, FIP, FIP));
}

static void test_exception(u8 store)
{
	u32 words[WORDS];
	start();
	*word_at(DATA_AT + IMAGE + CONTROL) = 0x37E;
	*dword_at(OTHER_AT + IMAGE + OPERAND) = 0;
	PUT(0xD9, by_bx(0x68), CONTROL, 0xD9, 0xEE); /* fldcw [bx + CONTROL]; fldz */
	u32 ip = ORIGIN + length, opcode = by_bx(0x70);
	PUT(0x26, 0xD8, (u8)opcode, OPERAND, 0x90); /* fdiv dword [es:bx + OPERAND]; nop */
	put_sized(store, by_bx(0x30));
	lay_out(words, ip + (is_real() ? CODE_AT : 0), IMAGE + OPERAND + (is_real() ? OTHER_AT : 0), opcode);
	bool done = finish();
	report(store, "FIP of an exception", done && is_stored(words, FIP, FIP));
	report(store, "FCS and its opcode", done && is_stored(words, FCS, FCS));
	report(store, "FDP and FDS", done && is_stored(words, FDP, FDS));
}

static void test_loaded(u8 op)
{
	u32 words[WORDS];
	start();
	lay_out(words, 0x0432A678, 0x0765B9AC, 0x123);
	put_word(CONTROL_WORD, 0x37F);
	put_word(TAGS, 0xFFFF);
	for (u32 n = FIP; n < WORDS; n++) put_word(n, words[n]);
	put_sized(op, by_si(0x20));
	put_sized(op, by_bx(0x30));
	report(op, op == 0xD9 ? "what FLDENV has loaded" : "what FRSTOR has loaded", finish() && is_stored(words, FIP, FDS));
}

void guest_main(void)
{
	u32 a = 7, b, c = 0, d;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	deprecated = b & FCS_DEPRECATED;
	real_init();
	gdt_set(CODE16, CODE_AT, 0xFFFF, 0xFB, 0);
	gdt_set(CODE32, CODE_AT, 0xFFFF, 0xFB, 4);
	gdt_set(DATA16, DATA_AT, 0xFFFF, 0xF3, 0);
	gdt_set(OTHER16, OTHER_AT, 0xFFFF, 0xF3, 0);
	WRITE_CR(4, READ_CR(4) | 0x600);
	WRITE_CR(0, (READ_CR(0) | 0x22) & ~0xCu);
	/* The emulator has the layout of protected mode alone, takes FNSTSW for the last instruction, and does not load pointers. */
	bool all = !under_tcg();
	if (!all) print("# skipped: real mode and virtual-8086 mode, what is loaded, control instructions\n");
	for (mode = all ? REAL : PM16; mode < MODES; mode++) {
		for (size = 2; size <= 4; size += 2) {
			for (u8 op = 0xD9; op <= 0xDD; op += 4) {
				test_last(op, false);
				test_exception(op);
				if (all) test_last(op, true);
				if (all) test_loaded(op);
			}
		}
	}
}
