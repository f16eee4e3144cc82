/* Every opcode that the manual's maps leave empty, and every one of a feature that CPUID does not show: #UD and nothing else. */
#include "guest.h"

#define VA 0x1800000u
enum { NP = 1, P66 = 2, PF3 = 4, PF2 = 8 };
static const u8 prefix_bytes[] = {0, 0x66, 0xF3, 0xF2};

enum feature { BASE, SSE3, PCLMUL, SSSE3, SSE41, SSE42, MOVBE, AES, AVX, BMI1, BMI2, SHA, ADX, GFNI, CET, KEYLOCKER, MOVDIR, DE, FEATURES };
static bool shown[FEATURES];

static void cpuid(u32 leaf, u32 r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(0));
}

static void find_features(void)
{
	u32 most[4], one[4], seven[4] = {0};
	cpuid(0, most);
	cpuid(1, one);
	if (most[0] >= 7) cpuid(7, seven);
	shown[BASE] = true;
	shown[DE] = one[3] >> 2 & 1;
	shown[SSE3] = one[2] & 1;
	shown[PCLMUL] = one[2] >> 1 & 1;
	shown[SSSE3] = one[2] >> 9 & 1;
	shown[SSE41] = one[2] >> 19 & 1;
	shown[SSE42] = one[2] >> 20 & 1;
	shown[MOVBE] = one[2] >> 22 & 1;
	shown[AES] = one[2] >> 25 & 1;
	shown[AVX] = one[2] >> 28 & 1;
	shown[BMI1] = seven[1] >> 3 & 1;
	shown[BMI2] = seven[1] >> 8 & 1;
	shown[ADX] = seven[1] >> 19 & 1;
	shown[SHA] = seven[1] >> 29 & 1;
	shown[CET] = seven[2] >> 7 & 1;
	shown[GFNI] = seven[2] >> 8 & 1;
	shown[KEYLOCKER] = seven[2] >> 23 & 1;
	shown[MOVDIR] = seven[2] >> 27 & 3;
}

/* What stands in a map: opcodes from..to under these mandatory prefixes are of this feature. The rest of the map is empty. */
struct entry {
	u8 from, to, prefixes, feature;
};
/* 0F: the SIMD rows alone; elsewhere prefixes mean other things. vol. 2, table A-3. */
static const struct entry map_0f[] = {
	{0x10, 0x11, 15, BASE}, {0x12, 0x12, NP | P66, BASE}, {0x12, 0x12, PF3 | PF2, SSE3}, {0x13, 0x15, NP | P66, BASE},
	{0x16, 0x16, NP | P66, BASE}, {0x16, 0x16, PF3, SSE3}, {0x17, 0x17, NP | P66, BASE}, {0x28, 0x29, NP | P66, BASE}, {0x2A, 0x2A, 15, BASE},
	{0x2B, 0x2B, NP | P66, BASE}, {0x2C, 0x2D, 15, BASE}, {0x2E, 0x2F, NP | P66, BASE}, {0x50, 0x50, NP | P66, BASE}, {0x51, 0x51, 15, BASE},
	{0x52, 0x53, NP | PF3, BASE}, {0x54, 0x57, NP | P66, BASE}, {0x58, 0x5A, 15, BASE}, {0x5B, 0x5B, NP | P66 | PF3, BASE},
	{0x5C, 0x5F, 15, BASE}, {0x60, 0x6B, NP | P66, BASE}, {0x6C, 0x6D, P66, BASE}, {0x6E, 0x6E, NP | P66, BASE},
	{0x6F, 0x6F, NP | P66 | PF3, BASE}, {0x70, 0x70, 15, BASE}, {0x71, 0x76, NP | P66, BASE}, {0x77, 0x77, 15, BASE}, {0x7C, 0x7D, P66 | PF2, SSE3},
	{0x7E, 0x7F, NP | P66 | PF3, BASE}, {0xC2, 0xC2, 15, BASE}, {0xC4, 0xC6, NP | P66, BASE}, {0xD0, 0xD0, P66 | PF2, SSE3},
	{0xD1, 0xD5, NP | P66, BASE}, {0xD6, 0xD6, P66 | PF3 | PF2, BASE}, {0xD7, 0xE5, NP | P66, BASE}, {0xE6, 0xE6, P66 | PF3 | PF2, BASE},
	{0xE7, 0xEF, NP | P66, BASE}, {0xF0, 0xF0, PF2, SSE3}, {0xF1, 0xFE, NP | P66, BASE},
};
static const struct entry rows_0f[] = {{0x10, 0x17, 0, 0}, {0x28, 0x2F, 0, 0}, {0x50, 0x7F, 0, 0}, {0xC2, 0xC2, 0, 0}, {0xC4, 0xC6, 0, 0}, {0xD0, 0xFE, 0, 0}};
/* table A-4 */
static const struct entry map_0f38[] = {
	{0x00, 0x0B, NP | P66, SSSE3}, {0x10, 0x10, P66, SSE41}, {0x14, 0x15, P66, SSE41}, {0x17, 0x17, P66, SSE41}, {0x1C, 0x1E, NP | P66, SSSE3},
	{0x20, 0x25, P66, SSE41}, {0x28, 0x2B, P66, SSE41}, {0x30, 0x35, P66, SSE41}, {0x37, 0x37, P66, SSE42}, {0x38, 0x41, P66, SSE41},
	{0xC8, 0xCD, NP, SHA}, {0xCF, 0xCF, P66, GFNI}, {0xD8, 0xD8, PF3, KEYLOCKER}, {0xDB, 0xDF, P66, AES}, {0xDC, 0xDF, PF3, KEYLOCKER},
	{0xF0, 0xF1, NP | P66, MOVBE}, {0xF0, 0xF1, PF2, SSE42}, {0xF5, 0xF5, P66, CET}, {0xF6, 0xF6, NP, CET}, {0xF6, 0xF6, P66 | PF3, ADX},
	{0xF8, 0xF9, 15, MOVDIR}, {0xFA, 0xFB, PF3, KEYLOCKER},
};
/* table A-5 */
static const struct entry map_0f3a[] = {
	{0x08, 0x0E, P66, SSE41}, {0x0F, 0x0F, NP | P66, SSSE3}, {0x14, 0x17, P66, SSE41}, {0x20, 0x22, P66, SSE41}, {0x40, 0x42, P66, SSE41},
	{0x44, 0x44, P66, PCLMUL}, {0x60, 0x63, P66, SSE42}, {0xCC, 0xCC, NP, SHA}, {0xCE, 0xCF, P66, GFNI}, {0xDF, 0xDF, P66, AES},
};

static bool may_run(const struct entry *map, u32 count, u32 opcode, u32 prefix)
{
	for (u32 i = 0; i < count; i++)
		if (opcode >= map[i].from && opcode <= map[i].to && (map[i].prefixes >> prefix & 1) && shown[map[i].feature]) return true;
	return false;
}

static u32 runs, wrong;

/* These bytes, and padding in which nothing is an exit by itself: #UD at their start, no register and no byte changed. */
static void refuse(const u8 *bytes, u32 length, unsigned cpl)
{
	u8 code[24];
	memcpy(code, bytes, length);
	memset(code + length, 0x11, sizeof code - length - 2);
	memcpy(code + sizeof code - 2, (const u8[]){CODE_DONE}, 2);
	struct state s = state_at(code_put(0, code, sizeof code), cpl);
	s.ebx = s.esi = s.edi = s.ecx = VA;
	struct state before = s;
	run(&s);
	runs++;
	bool same = s.eax == before.eax && s.ecx == before.ecx && s.edx == before.edx && s.ebx == before.ebx && s.ebp == before.ebp &&
		    s.esi == before.esi && s.edi == before.edi && !((s.eflags ^ before.eflags) & EFLAGS_ARITH);
	if (s.vector == 6 && s.error == 0 && s.eip == (u32)code_area && same && *(volatile u32 *)VA == 0x5A5A5A5A) return;
	if (wrong++ < 12) {
		print("#");
		for (u32 i = 0; i < length; i++) print(" %x", bytes[i]);
		print(" at CPL %u: trap %u error 0x%x eip +0x%x\n", cpl, s.vector, s.error, s.eip - (u32)code_area);
	}
	*(volatile u32 *)VA = 0x5A5A5A5A;
}

static void finish(const char *name)
{
	print("# %u forms\n", runs);
	check(name, runs > 0 && wrong == 0);
	runs = wrong = 0;
}

/* With a register and with a memory operand, under each prefix. */
static void refuse_escaped(const u8 *escape, u32 length, u32 opcode, u32 prefix)
{
	for (u32 form = 0; form < 2; form++) {
		u8 bytes[8];
		u32 n = 0;
		if (prefix) bytes[n++] = prefix_bytes[prefix];
		memcpy(bytes + n, escape, length);
		n += length;
		bytes[n++] = (u8)opcode;
		bytes[n++] = form ? 0x03 : 0xC1;
		refuse(bytes, n, 3);
		if (prefix == 0) refuse(bytes, n, 0);
	}
}

static void test_map(const char *name, const u8 *escape, u32 length, const struct entry *map, u32 count, const struct entry *rows, u32 row_count)
{
	for (u32 r = 0; r < row_count; r++)
		for (u32 opcode = rows[r].from; opcode <= rows[r].to; opcode++)
			for (u32 prefix = 0; prefix < 4; prefix++)
				if (!may_run(map, count, opcode, prefix)) refuse_escaped(escape, length, opcode, prefix);
	finish(name);
}

static void test_maps(void)
{
	static const struct entry all[] = {{0, 255, 0, 0}};
	static const u8 empty[] = {0x04, 0x05, 0x07, 0x0A, 0x0B, 0x0C, 0x0E, 0x0F, 0x24, 0x25, 0x26, 0x27, 0x36, 0x37, 0x39, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F,
				   0x7A, 0x7B, 0x78, 0x79, 0xA6, 0xA7, 0xB8, 0xB9, 0xFF};
	for (u32 i = 0; i < sizeof empty; i++) refuse_escaped((const u8[]){0x0F}, 1, empty[i], 0);
	finish("empty places of map 0F");
	test_map("SIMD rows of map 0F", (const u8[]){0x0F}, 1, map_0f, sizeof map_0f / sizeof *map_0f, rows_0f, sizeof rows_0f / sizeof *rows_0f);
	test_map("map 0F 38", (const u8[]){0x0F, 0x38}, 2, map_0f38, sizeof map_0f38 / sizeof *map_0f38, all, 1);
	test_map("map 0F 3A", (const u8[]){0x0F, 0x3A}, 2, map_0f3a, sizeof map_0f3a / sizeof *map_0f3a, all, 1);
}

/* VEX instructions on general registers need no AVX. */
static bool is_bmi(u32 map, u32 opcode)
{
	if (map == 2) return (opcode == 0xF2 || opcode == 0xF3 || opcode == 0xF5 || opcode == 0xF6 || opcode == 0xF7) && (shown[BMI1] || shown[BMI2]);
	return map == 3 && opcode == 0xF0 && shown[BMI2];
}

static void test_vex(void)
{
	static const u8 maps[] = {0, 1, 2, 3, 4, 5, 8, 9, 31};
	for (u32 opcode = 0; !shown[AVX] && opcode < 256; opcode++) {
		for (u32 pp = 0; pp < 8; pp++) /* and L */
			refuse((const u8[]){0xC5, (u8)(0xF8 | pp), (u8)opcode, opcode & 1 ? 0x03 : 0xC1}, 4, 3);
		for (u32 m = 0; m < sizeof maps; m++)
			for (u32 pp = 0; pp < 8; pp += maps[m] <= 3 ? 1 : 3) {
				if (is_bmi(maps[m], opcode)) continue;
				refuse((const u8[]){0xC4, (u8)(0xE0 | maps[m]), (u8)(0x78 | pp | (opcode & 1) << 7), (u8)opcode, pp & 2 ? 0x03 : 0xC1}, 5, 3);
			}
	}
	finish("VEX");
	for (u32 opcode = 0; opcode < 256; opcode++)
		for (u32 i = 0; i < 12; i++)
			refuse((const u8[]){0x62, (u8)(0xF0 | (i & 3)), (u8)(0x7C | (i & 3)), (u8)(i * 16 + 8), (u8)opcode, i & 1 ? 0xC1 : 0x03}, 6, 3);
	finish("EVEX");
	for (u32 opcode = 0; opcode < 256; opcode++)
		for (u32 map = 8; map < 12; map++) refuse((const u8[]){0x8F, (u8)(0xE0 | map), 0x78, (u8)opcode, 0xC1}, 5, 3);
	finish("XOP");
}

/* Groups: opcode, then which /reg are empty with a memory operand, and which with a register. */
static void test_groups(void)
{
	static const struct {
		u8 prefix, map0f, opcode, memory, reg;
	} groups[] = {
		{0, 0, 0xFE, 0xFC, 0xFC}, {0, 0, 0xFF, 0x80, 0xA8}, {0, 0, 0xC6, 0xFE, 0x7E}, {0, 0, 0xC7, 0xFE, 0x7E}, {0, 0, 0x8F, 0xFE, 0},
		{0, 0, 0x8C, 0xC0, 0xC0}, {0, 0, 0x8E, 0xC2, 0xC2}, {0, 0, 0x8D, 0, 0xFF}, {0, 1, 0x00, 0xC0, 0xC0}, {0, 1, 0xBA, 0x0F, 0x0F},
		{0, 1, 0x71, 0xFF, 0xAB}, {0x66, 1, 0x71, 0xFF, 0xAB}, {0, 1, 0x72, 0xFF, 0xAB}, {0x66, 1, 0x72, 0xFF, 0xAB}, {0, 1, 0x73, 0xFF, 0xBB},
		{0x66, 1, 0x73, 0xFF, 0x33}, {0, 1, 0xC7, 0xFD, 0x3F}, {0, 1, 0xAE, 0x70, 0x1F}, {0, 1, 0x50, 0xFF, 0}, {0, 1, 0xD7, 0xFF, 0},
		{0x66, 1, 0xD7, 0xFF, 0}, {0, 1, 0xC5, 0xFF, 0}, {0, 1, 0xF7, 0xFF, 0}, {0x66, 1, 0xF7, 0xFF, 0}, {0, 1, 0x13, 0, 0xFF}, {0, 1, 0x17, 0, 0xFF},
		{0x66, 1, 0x12, 0, 0xFF}, {0x66, 1, 0x16, 0, 0xFF}, {0, 1, 0x2B, 0, 0xFF}, {0, 1, 0xE7, 0, 0xFF}, {0, 1, 0xC3, 0, 0xFF}, {0, 1, 0xB2, 0, 0xFF},
		{0, 1, 0xB4, 0, 0xFF}, {0, 1, 0xB5, 0, 0xFF}, {0xF3, 1, 0xD6, 0xFF, 0}, {0xF2, 1, 0xD6, 0xFF, 0}, {0, 0, 0xD9, 0x02, 0}, {0, 0, 0xDB, 0x50, 0},
		{0, 0, 0xDD, 0x20, 0},
	};
	for (u32 i = 0; i < sizeof groups / sizeof *groups; i++)
		for (u32 reg = 0; reg < 16; reg++) {
			u8 bytes[4];
			u32 n = 0;
			if (groups[i].prefix) bytes[n++] = groups[i].prefix;
			if (groups[i].map0f) bytes[n++] = 0x0F;
			bytes[n++] = groups[i].opcode;
			bytes[n++] = (u8)((reg & 7) << 3 | (reg & 8 ? 0xC1 : 0x03));
			if ((reg & 8 ? groups[i].reg : groups[i].memory) >> (reg & 7) & 1) refuse(bytes, n, 3);
		}
	finish("empty places of groups");
	static const u8 x87[][3] = {{0xD9, 0xD1, 0xD7}, {0xD9, 0xE2, 0xE3}, {0xD9, 0xE6, 0xE7}, {0xD9, 0xEF, 0xEF}, {0xDA, 0xE0, 0xE8}, {0xDA, 0xEA, 0xFF},
				    {0xDB, 0xF8, 0xFF}, {0xDD, 0xF0, 0xFF}, {0xDE, 0xD8, 0xD8}, {0xDE, 0xDA, 0xDF}, {0xDF, 0xE1, 0xE7}, {0xDF, 0xF8, 0xFF}};
	for (u32 i = 0; i < sizeof x87 / sizeof *x87; i++)
		for (u32 second = x87[i][1]; second <= x87[i][2]; second++) refuse((const u8[]){x87[i][0], (u8)second}, 2, 3);
	finish("empty places of x87");
}

/* LOCK BT and its like with a register end QEMU 7.2 by an assertion. Its loader's name is in the Multiboot information. */
static bool qemu_dies_of(u32 opcode)
{
	const u32 *info = (const u32 *)multiboot_info;
	bool is_qemu = (info[0] & 0x200) && !memcmp((const char *)info[16], "qemu", 4);
	return is_qemu && (opcode == 0xA3 || opcode == 0xAB || opcode == 0xB3 || opcode == 0xBB);
}

/* LOCK belongs to a few instructions, and to these with a memory operand alone (vol. 2, LOCK). */
static void test_lock(void)
{
	for (u32 opcode = 0; opcode < 256; opcode++) {
		bool alu = opcode < 0x40 && (opcode & 7) < 2 && (opcode >> 3) != 7;
		bool escape = opcode == 0x0F || opcode == 0x26 || opcode == 0x2E || opcode == 0x36 || opcode == 0x3E || (opcode >= 0x64 && opcode <= 0x67) ||
			      opcode >= 0xF0;
		bool group = (opcode >= 0x80 && opcode <= 0x83) || opcode == 0x86 || opcode == 0x87;
		bool vex = opcode == 0xC4 || opcode == 0xC5 || opcode == 0x62 || opcode == 0x8F;
		if (escape || vex) continue;
		refuse((const u8[]){0xF0, (u8)opcode, 0xC1, 0, 0, 0, 0}, 7, 3);
		if (!alu && !group) refuse((const u8[]){0xF0, (u8)opcode, 0x03, 0, 0, 0, 0}, 7, 3);
	}
	for (u32 opcode = 0; opcode < 256; opcode++) {
		bool may = opcode == 0xAB || opcode == 0xB0 || opcode == 0xB1 || opcode == 0xB3 || opcode == 0xBA || opcode == 0xBB || opcode == 0xC0 ||
			   opcode == 0xC1 || opcode == 0xC7;
		if (opcode == 0x38 || opcode == 0x3A || opcode == 0x01) continue;
		if (!qemu_dies_of(opcode)) refuse((const u8[]){0xF0, 0x0F, (u8)opcode, 0xC1}, 4, 3);
		if (!may) refuse((const u8[]){0xF0, 0x0F, (u8)opcode, 0x03}, 4, 3);
	}
	refuse((const u8[]){0xF0, 0x83, 0x3B, 0x01}, 4, 3); /* CMP */
	refuse((const u8[]){0xF0, 0xF7, 0x03, 1, 0, 0, 0}, 7, 3); /* TEST */
	refuse((const u8[]){0xF0, 0xF7, 0x23}, 3, 3);
	refuse((const u8[]){0xF0, 0xFF, 0x13}, 3, 3);
	refuse((const u8[]){0xF0, 0xFF, 0x33}, 3, 3);
	refuse((const u8[]){0xF0, 0x0F, 0xBA, 0x23, 1}, 5, 3); /* BT */
	finish("LOCK where it may not be");
}

/* Control and debug registers that do not exist; at CPL 3 too (#UD before #GP is not promised there). */
static void test_registers(void)
{
	for (u32 n = 0; n < 8; n++) {
		if (n != 1 && n < 5) continue;
		refuse((const u8[]){0x0F, 0x20, (u8)(0xC0 | n << 3)}, 3, 0);
		refuse((const u8[]){0x0F, 0x22, (u8)(0xC0 | n << 3)}, 3, 0);
	}
	if (shown[DE]) WRITE_CR(4, READ_CR(4) | 8);
	for (u32 n = 4; shown[DE] && n < 6; n++) {
		refuse((const u8[]){0x0F, 0x21, (u8)(0xC0 | n << 3)}, 3, 0);
		refuse((const u8[]){0x0F, 0x23, (u8)(0xC0 | n << 3)}, 3, 0);
	}
	WRITE_CR(4, READ_CR(4) & ~8u);
	finish("registers that do not exist");
}

void guest_main(void)
{
	paging_enable();
	WRITE_CR(4, READ_CR(4) | 0x600);
	WRITE_CR(0, (READ_CR(0) | 0x22) & ~0xCu);
	__asm__ volatile("fninit");
	find_features();
	*(volatile u32 *)VA = 0x5A5A5A5A;
	test_maps();
	test_vex();
	test_groups();
	test_lock();
	test_registers();
}
