/* Instruction-set extensions: what CPUID shows runs and gives the manual's result; what it hides raises #UD, or is what it was before the
 * extension. EM, TS and OSFXSR forbid what works on the registers that they are about (SDM vol. 3, 13.1). */
#include "guest.h"

#define VA 0x1800000u
#define CR0_EM 4u
#define CR0_TS 8u
#define CR4_OSFXSR 0x200u

enum { EAX, EBX, ECX, EDX };

struct extension {
	const char *name;
	u32 leaf, reg, bit;
	u32 older; /* what EAX is where it is hidden; NONE: #UD */
	u32 value; /* what EAX is */
	u8 length, code[32];
};
#define NONE 0xFFFFFFFFu
#define BYTES(...) sizeof((const u8[]){__VA_ARGS__}), {__VA_ARGS__}

/* In: EAX 12345678h, ECX 7, EDX 0F0F0F0F0h, EBX the data; [EBX + i] = 17 i + 3, XMM1 the same, XMM2 from [EBX + 16] on. */
#define VALUE_OF_EAX 0x12345678u
static const struct extension extensions[] = {
	{"movddup", 1, ECX, 0, NONE, 0x36251403, BYTES(0xF2, 0x0F, 0x12, 0x03, 0x66, 0x0F, 0x7E, 0xC0)},
	{"fisttp", 1, ECX, 0, NONE, 1, BYTES(0xD9, 0xE8, 0xDB, 0x4B, 0x40, 0x8B, 0x43, 0x40)},
	{"pclmulqdq", 1, ECX, 1, NONE, 0x40B11035, BYTES(0x66, 0x0F, 0x3A, 0x44, 0xCA, 0x00, 0x66, 0x0F, 0x7E, 0xC8)},
	{"pshufb", 1, ECX, 9, NONE, 0x69584736, BYTES(0x66, 0x0F, 0x38, 0x00, 0x0B, 0x66, 0x0F, 0x7E, 0xC8)},
	{"pmulld", 1, ECX, 19, NONE, 0xE6E7809, BYTES(0x66, 0x0F, 0x38, 0x40, 0x0B, 0x66, 0x0F, 0x7E, 0xC8)},
	{"pextrd", 1, ECX, 19, NONE, 0xBEAD9C8B, BYTES(0x66, 0x0F, 0x3A, 0x16, 0xC8, 0x02)},
	{"pextrw to memory", 1, ECX, 19, NONE, 0x7A69, BYTES(0x66, 0x0F, 0x3A, 0x15, 0x4B, 0x40, 0x03, 0x8B, 0x43, 0x40)},
	{"pcmpistri", 1, ECX, 20, NONE, 16, BYTES(0x66, 0x0F, 0x3A, 0x63, 0xCA, 0x08, 0x89, 0xC8)},
	{"crc32 of a byte", 1, ECX, 20, NONE, 0xFB533894, BYTES(0xF2, 0x0F, 0x38, 0xF0, 0xC5)},
	{"crc32 of a word", 1, ECX, 20, NONE, 0x117B84A3, BYTES(0x66, 0xF2, 0x0F, 0x38, 0xF1, 0x43, 0x05)},
	{"crc32 of a dword", 1, ECX, 20, NONE, 0x57635555, BYTES(0xF2, 0x0F, 0x38, 0xF1, 0xC2)},
	{"movbe", 1, ECX, 22, NONE, 0x14253647, BYTES(0x0F, 0x38, 0xF0, 0x43, 0x01)},
	{"movbe to memory", 1, ECX, 22, NONE, 0x78563412, BYTES(0x0F, 0x38, 0xF1, 0x43, 0x40, 0x8B, 0x43, 0x40)},
	{"popcnt", 1, ECX, 23, NONE, 16, BYTES(0xF3, 0x0F, 0xB8, 0xC2)},
	{"popcnt of a word", 1, ECX, 23, NONE, 0x12340004, BYTES(0x66, 0xF3, 0x0F, 0xB8, 0x03)},
	{"aesenc", 1, ECX, 25, NONE, 0xDA8C58B9, BYTES(0x66, 0x0F, 0x38, 0xDC, 0xCA, 0x66, 0x0F, 0x7E, 0xC8)},
	{"rdrand", 1, ECX, 30, NONE, 1, BYTES(0x0F, 0xC7, 0xF0, 0x73, 0xFB, 0xB8, 1, 0, 0, 0)},
	{"clflush", 1, EDX, 19, NONE, VALUE_OF_EAX, BYTES(0x0F, 0xAE, 0x7B, 0x40)},
	{"andn", 7, EBX, 3, NONE, 0x6050403, BYTES(0xC4, 0xE2, 0x68, 0xF2, 0x03)},
	{"bextr", 7, EBX, 3, NONE, 0xF0, BYTES(0xB9, 0x08, 0x0C, 0, 0, 0xC4, 0xE2, 0x70, 0xF7, 0xC2)},
	{"blsr", 7, EBX, 3, NONE, 0xF0F0F0E0, BYTES(0xC4, 0xE2, 0x78, 0xF3, 0xCA)},
	{"tzcnt", 7, EBX, 3, VALUE_OF_EAX, 32, BYTES(0x31, 0xD2, 0xF3, 0x0F, 0xBC, 0xC2)},
	{"bzhi", 7, EBX, 8, NONE, 0x70, BYTES(0xC4, 0xE2, 0x70, 0xF5, 0xC2)},
	{"mulx", 7, EBX, 8, NONE, 0x11223343, BYTES(0xC4, 0xE2, 0x73, 0xF6, 0xC0)},
	{"pdep", 7, EBX, 8, NONE, 0x50607080, BYTES(0xC4, 0xE2, 0x7B, 0xF5, 0xC2)},
	{"pext", 7, EBX, 8, NONE, 0x1357, BYTES(0xC4, 0xE2, 0x7A, 0xF5, 0xC2)},
	{"rorx", 7, EBX, 8, NONE, 0x19B128A0, BYTES(0xC4, 0xE3, 0x7B, 0xF0, 0x03, 0x05)},
	{"sarx", 7, EBX, 8, NONE, 0xFFE1E1E1, BYTES(0xC4, 0xE2, 0x72, 0xF7, 0xC2)},
	{"rdseed", 7, EBX, 18, NONE, 1, BYTES(0x0F, 0xC7, 0xF8, 0x73, 0xFB, 0xB8, 1, 0, 0, 0)},
	{"adcx", 7, EBX, 19, NONE, 0x3254769, BYTES(0xF9, 0x66, 0x0F, 0x38, 0xF6, 0xC2)},
	{"adox", 7, EBX, 19, NONE, 0x48596A7B, BYTES(0xF9, 0xF3, 0x0F, 0x38, 0xF6, 0x03)},
	{"clflushopt", 7, EBX, 23, NONE, VALUE_OF_EAX, BYTES(0x66, 0x0F, 0xAE, 0x7B, 0x40)},
	{"clwb", 7, EBX, 24, NONE, VALUE_OF_EAX, BYTES(0x66, 0x0F, 0xAE, 0x73, 0x40)},
	{"sha1msg1", 7, EBX, 29, NONE, 0xF898B898, BYTES(0x0F, 0x38, 0xC9, 0xCA, 0x66, 0x0F, 0x7E, 0xC8)},
	{"lzcnt", 0x80000001, ECX, 5, VALUE_OF_EAX, 32, BYTES(0x31, 0xD2, 0xF3, 0x0F, 0xBD, 0xC2)},
	{"prefetchw", 0x80000001, ECX, 8, VALUE_OF_EAX, VALUE_OF_EAX, BYTES(0x0F, 0x0D, 0x0B)},
};

static bool is_shown(const struct extension *e)
{
	u32 reg[4];

	__asm__ volatile("cpuid" : "=a"(reg[EAX]), "=b"(reg[EBX]), "=c"(reg[ECX]), "=d"(reg[EDX]) : "a"(e->leaf), "c"(0));
	return reg[e->reg] >> e->bit & 1;
}

static struct state run_code(const u8 *bytes, u32 length)
{
	/* movdqu xmm1, [ebx]; movdqu xmm2, [ebx + 16] */
	static const u8 load[] = {0xF3, 0x0F, 0x6F, 0x0B, 0xF3, 0x0F, 0x6F, 0x53, 0x10}, done[] = {CODE_DONE};

	code_put(0, load, sizeof(load));
	code_put(sizeof(load), bytes, length);
	code_put(sizeof(load) + length, done, sizeof(done));
	struct state s = state_at(code_area, 3);
	s.eax = VALUE_OF_EAX;
	s.ecx = 7;
	s.edx = 0xF0F0F0F0;
	s.ebx = VA;
	run(&s);
	return s;
}

static void test_extension(const struct extension *e)
{
	bool shown = is_shown(e);

	memset((u8 *)VA + 64, 0, 64);
	struct state s = run_code(e->code, e->length);
	if (shown || e->older != NONE)
		check_equal(e->name, s.vector == RUN_DONE ? s.eax : 0x1000000 + s.vector, shown ? e->value : e->older);
	else
		check_equal(e->name, s.vector, 6);
}

/* #PF of a flush, as of a load; none of a prefetch. */
static void test_faults(void)
{
	struct state s = state_at(CODE(0x0F, 0xAE, 0x3B, CODE_DONE), 3);
	s.ebx = VA + 0x1000;
	pte_set(VA + 0x1000, 0);
	if (is_shown(&(struct extension){.leaf = 1, .reg = EDX, .bit = 19})) {
		run_expect("clflush of a page that is not there", &s, 14, 4, 0);
		check_equal("CR2", s.cr2, VA + 0x1000);
	}
	s = state_at(CODE(0x0F, 0x0D, 0x0B, CODE_DONE), 3);
	s.ebx = VA + 0x1000;
	run_expect("prefetchw of a page that is not there", &s, RUN_DONE, 0, 5);
}

/* SSSE3 and SSE on MMX registers need no OSFXSR; CRC32 and POPCNT obey nothing. */
static void test_conditions(void)
{
	static const u8 pmaxub_mm[] = {0x0F, 0xDE, 0xC1}, cvtpi2ps[] = {0x0F, 0x2A, 0xC1}, movnti[] = {0x0F, 0xC3, 0x43, 0x40}, popcnt[] = {0xF3, 0x0F, 0xB8, 0xC2},
			pabsb_mm[] = {0x0F, 0x38, 0x1C, 0xC1}, ptest[] = {0x66, 0x0F, 0x38, 0x17, 0xC1}, fisttp[] = {0xDB, 0x4B, 0x40};
	static const struct { const char *name; const u8 *code; u32 length, leaf_bit, ts, em, no_osfxsr; } rows[] = {
		{"pmaxub mm", pmaxub_mm, 3, NONE, 7, 6, RUN_DONE}, {"cvtpi2ps", cvtpi2ps, 3, NONE, 7, 6, 6}, {"movnti", movnti, 4, NONE, RUN_DONE, RUN_DONE, RUN_DONE},
		{"popcnt", popcnt, 4, 23, RUN_DONE, RUN_DONE, RUN_DONE}, {"pabsb mm", pabsb_mm, 4, 9, 7, 6, RUN_DONE}, {"ptest", ptest, 5, 19, 7, 6, 6},
		{"fisttp", fisttp, 3, 0, 7, 7, RUN_DONE},
	};
	static const u8 done[] = {CODE_DONE};
	u32 cr0 = READ_CR(0) & ~(CR0_EM | CR0_TS), cr4 = READ_CR(4) | CR4_OSFXSR;

	for (u32 i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (rows[i].leaf_bit != NONE && !is_shown(&(struct extension){.leaf = 1, .reg = ECX, .bit = rows[i].leaf_bit}))
			continue;
		for (u32 how = 0; how < 3; how++) {
			code_put(0, rows[i].code, rows[i].length);
			code_put(rows[i].length, done, sizeof(done));
			struct state s = state_at(code_area, 3);
			s.ebx = VA;
			WRITE_CR(0, cr0 | (how == 0 ? CR0_TS : how == 1 ? CR0_EM : 0));
			WRITE_CR(4, how == 2 ? cr4 & ~CR4_OSFXSR : cr4);
			run(&s);
			WRITE_CR(0, cr0);
			WRITE_CR(4, cr4);
			print("# %s %s\n", rows[i].name, how == 0 ? "with TS" : how == 1 ? "with EM" : "without OSFXSR");
			check_equal(rows[i].name, s.vector, how == 0 ? rows[i].ts : how == 1 ? rows[i].em : rows[i].no_osfxsr);
		}
	}
}

void guest_main(void)
{
	paging_enable();
	WRITE_CR(4, READ_CR(4) | CR4_OSFXSR);
	for (u32 i = 0; i < 64; i++) ((u8 *)VA)[i] = (u8)(17 * i + 3);
	for (u32 i = 0; i < sizeof(extensions) / sizeof(*extensions); i++) test_extension(&extensions[i]);
	test_faults();
	test_conditions();
}
