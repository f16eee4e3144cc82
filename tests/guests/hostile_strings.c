/* String instructions of every kind and size, both ways, against a model that does them element by element: over pages that share frames,
 * that may not be written, that are missing, into page tables, into code, and where no memory is, with counts up to 2^32 - 1. */
#include "guest.h"

#define SLOT 9u
#define AREA (SLOT << 22)
#define PAGES 8u
#define FRAMES 5u
#define TRIALS 900u
#define RAM_END (64u << 20)

static u32 table[1024] __attribute__((aligned(4096)));
static u8 *frames[FRAMES];
static u8 model_frames[FRAMES][4096] __attribute__((aligned(4096)));
static u32 seed;

static u32 draw(u32 below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

enum kind { MOVS, STOS, LODS, SCAS, CMPS, KINDS };
static const u8 opcodes[] = {0xA4, 0xAA, 0xAC, 0xAE, 0xA6};

struct trial {
	u8 kind, shift, rep; /* rep: 0, F2, F3 */
	bool down, user;
	u8 frame[PAGES];
	u8 rights[PAGES];
};

struct model {
	u32 eax, ecx, esi, edi;
	u32 vector, cr2, error;
	u32 also; /* CR2 where the destination faults too: the manual leaves open which of two reads comes first */
	u32 left, right;
	bool compared;
};

/* --- the model --- */

static bool may(const struct trial *t, struct model *m, u32 address, u32 size, bool write)
{
	for (u32 i = 0; i < size; i++) {
		u32 page = (address + i - AREA) / 4096;
		u32 entry = address + i - AREA < PAGES * 4096 ? t->rights[page] : 0;
		if ((entry & P) && (!write || (entry & W)) && (!t->user || (entry & U))) continue;
		m->vector = 14;
		m->cr2 = address + i;
		m->error = (entry & P) | (write ? W : 0) | (t->user ? U : 0);
		return false;
	}
	return true;
}

static u8 *byte(const struct trial *t, u32 address)
{
	return &model_frames[t->frame[(address - AREA) / 4096]][address & 4095];
}

static u32 get(const struct trial *t, u32 address, u32 size)
{
	u32 value = 0;
	for (u32 i = 0; i < size; i++) value |= (u32)*byte(t, address + i) << (8 * i);
	return value;
}

static void set(const struct trial *t, u32 address, u32 size, u32 value)
{
	for (u32 i = 0; i < size; i++) *byte(t, address + i) = (u8)(value >> (8 * i));
}

/* One element; false on a fault. */
static bool model_step(const struct trial *t, struct model *m)
{
	u32 size = 1u << t->shift, step = t->down ? -size : size, mask = size == 4 ? ~0u : (1u << 8 * size) - 1;
	bool src = t->kind == MOVS || t->kind == LODS || t->kind == CMPS, dst = t->kind != LODS, writes = t->kind == MOVS || t->kind == STOS;
	if (src && !may(t, m, m->esi, size, false)) {
		struct model second = *m;
		m->also = t->kind == CMPS && !may(t, &second, m->edi, size, false) ? second.cr2 : m->cr2;
		return false;
	}
	if (dst && !may(t, m, m->edi, size, writes)) {
		m->also = m->cr2;
		return false;
	}
	switch (t->kind) {
	case MOVS: set(t, m->edi, size, get(t, m->esi, size)); break;
	case STOS: set(t, m->edi, size, m->eax); break;
	case LODS: m->eax = (m->eax & ~mask) | get(t, m->esi, size); break;
	default:
		m->compared = true;
		m->left = t->kind == CMPS ? get(t, m->esi, size) : m->eax & mask;
		m->right = get(t, m->edi, size);
	}
	if (src) m->esi += step;
	if (dst) m->edi += step;
	return true;
}

static void model_run(const struct trial *t, struct model *m)
{
	m->vector = RUN_DONE;
	if (!t->rep) {
		model_step(t, m);
		return;
	}
	while (m->ecx) {
		if (!model_step(t, m)) return;
		m->ecx--;
		if (m->compared && (m->left == m->right) != (t->rep == 0xF3)) return;
	}
}

/* --- trials --- */

static void make_trial(struct trial *t)
{
	static const u8 rights[] = {P | W | U, P | W | U, P | W | U, P | W | U, P | U, P | W, 0};
	*t = (struct trial){.kind = (u8)draw(KINDS), .shift = (u8)draw(3), .rep = (const u8[]){0, 0xF3, 0xF3, 0xF2}[draw(4)], .down = draw(2), .user = draw(2)};
	for (u32 i = 0; i < PAGES; i++) {
		t->frame[i] = (u8)draw(FRAMES);
		t->rights[i] = rights[draw(sizeof rights)];
		table[i] = (u32)frames[t->frame[i]] | t->rights[i];
	}
	WRITE_CR(3, page_directory);
}

static void copy_words(u8 *to, const u8 *from)
{
	for (u32 i = 0; i < 1024; i++) ((u32 *)to)[i] = ((const u32 *)from)[i];
}

static void fill(const struct trial *t)
{
	bool equal = (t->kind == CMPS || t->kind == SCAS) && draw(3);
	for (u32 f = 0; f < FRAMES; f++)
		for (u32 i = 0; i < 1024; i++) ((u32 *)frames[f])[i] = equal ? 0x11111111 : (seed = seed * 1664525 + 1013904223);
	if (equal) frames[draw(FRAMES)][draw(4096)] = 0x22;
	for (u32 f = 0; f < FRAMES; f++) copy_words(model_frames[f], frames[f]);
}

static bool run_trial(void)
{
	struct trial t;
	u8 bytes[4];
	u32 n = 0;
	make_trial(&t);
	fill(&t);
	if (t.rep) bytes[n++] = t.rep;
	if (t.shift == 1) bytes[n++] = 0x66;
	bytes[n++] = (u8)(opcodes[t.kind] | (t.shift > 0));
	u8 *code = code_put(0, bytes, n);
	code_put(n, (const u8[]){CODE_DONE}, 2);
	struct state s = state_at(code, t.user ? 3 : 0);
	s.eax = draw(3) ? 0x11111111 : draw(0xFFFFFF);
	s.esi = AREA + draw(PAGES * 4096);
	s.edi = draw(4) ? AREA + draw(PAGES * 4096) : s.esi + draw(64) - 32;
	s.ecx = draw(8) ? draw(9000) : 0x80000000 + draw(0x7FFFFFFF);
	s.eflags |= t.down ? EFLAGS_DF : 0;
	struct model m = {.eax = s.eax, .ecx = s.ecx, .esi = s.esi, .edi = s.edi};
	struct state before = s;
	model_run(&t, &m);
	run(&s);
	bool good = s.vector == m.vector && s.eax == m.eax && s.ecx == m.ecx && s.esi == m.esi && s.edi == m.edi;
	if (m.vector == 14) good &= ((s.cr2 == m.cr2 && s.error == m.error) || (m.also != m.cr2 && s.cr2 == m.also)) && s.eip == (u32)code;
	for (u32 f = 0; f < FRAMES; f++) for (u32 i = 0; i < 1024; i++) good &= ((u32 *)frames[f])[i] == ((u32 *)model_frames[f])[i];
	if (!good)
		print("# op %x size %u rep %x down %u user %u: esi 0x%x edi 0x%x ecx 0x%x: trap %u (%u) cr2 0x%x (0x%x) ecx 0x%x (0x%x)\n", opcodes[t.kind],
		      1u << t.shift, t.rep, t.down, t.user, before.esi, before.edi, before.ecx, s.vector, m.vector, s.cr2, m.cr2, s.ecx, m.ecx);
	return good;
}

static void test_random(void)
{
	u32 wrong = 0;
	for (u32 i = 0; i < TRIALS && wrong < 8; i++) wrong += !run_trial();
	check_equal("random string instructions against a model: wrong", wrong, 0);
}

static void test_no_memory(void)
{
	u32 wrong = 0;
	/* 16 pages behind the end of memory, then one that is missing: what is stored is lost, what is read is the same all over. */
	for (u32 i = 0; i < 16; i++) table[100 + i] = (RAM_END + i * 4096) | P | W | U;
	table[116] = 0;
	table[99] = 0;
	WRITE_CR(3, page_directory);
	for (u32 shift = 0; shift < 3; shift++)
		for (u32 down = 0; down < 2; down++) {
			u32 size = 1u << shift, first = AREA + 100 * 4096, end = AREA + 116 * 4096;
			u8 *code = CODE(0xF3, shift == 1 ? 0x66 : 0x90, (u8)(0xAA | (shift > 0)), CODE_DONE);
			if (shift != 1) code_put(0, (const u8[]){0x90, 0xF3}, 2);
			struct state s = state_at(code, 3);
			s.edi = down ? end - size : first;
			s.ecx = 0xFFFFFFFF;
			s.eflags |= down ? EFLAGS_DF : 0;
			run(&s);
			u32 done = (end - first) / size;
			wrong += s.vector != 14 || s.ecx != 0xFFFFFFFF - done || s.cr2 != (down ? first - size : end);
		}
	check_equal("stored where no memory is: wrong", wrong, 0);
}

/* A page table cleared and filled by one instruction while it is in use; and one that a string instruction is running through. */
static void test_page_tables(void)
{
	u32 wrong = 0;
	for (u32 round = 0; round < 300; round++) {
		u32 value = (u32)frames[round % FRAMES] | P | W | U, to = (u32)table, count = 64, down = round & 1;
		*(volatile u32 *)frames[round % FRAMES] = round;
		if (down) to += 63 * 4;
		if (down) __asm__ volatile("std; rep stosl; cld" : "+D"(to), "+c"(count) : "a"(value) : "memory");
		else __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory");
		WRITE_CR(3, page_directory);
		for (u32 i = 0; i < 64; i++) wrong += *(volatile u32 *)(AREA + i * 4096) != round;
	}
	check_equal("page tables written by string instructions: wrong", wrong, 0);
	/* The destination is the page table through itself: entry n + 1 is made while page n is written. Page 0 is the table. */
	wrong = 0;
	for (u32 round = 0; round < 100; round++) {
		memset(table, 0, 4096);
		table[0] = (u32)table | P | W | U;
		WRITE_CR(3, page_directory);
		struct state s = state_at(CODE(0xF3, 0xAB, CODE_DONE), 3);
		s.eax = (u32)frames[0] | P | W | U;
		s.edi = AREA + 4;
		s.ecx = 1023 + 2048;
		run(&s);
		/* Two pages of the frame behind the table are written: it maps them by then. */
		wrong += s.vector != RUN_DONE || s.ecx != 0 || *(volatile u32 *)(frames[0] + 4092) != s.eax;
	}
	check_equal("a string instruction makes its own mappings: wrong", wrong, 0);
	memset(table, 0, 4096);
	WRITE_CR(3, page_directory);
}

/* REP MOVSB over the page that it stands in: what it copies there is code, and runs. */
static void test_own_page(void)
{
	u32 wrong = 0;
	for (u32 round = 0; round < 200; round++) {
		u8 *image = (u8 *)frames[0];
		for (u32 i = 0; i < 4096; i++) image[i] = 0x90;
		memcpy(image, (const u8[]){0xF3, 0xA4, 0xB8, (u8)round, 0, 0, 0, CODE_DONE}, 9);
		memcpy(code_area, image, 9);
		code_area[3] = 0xEE;
		struct state s = state_at(code_area, round & 1 ? 3 : 0);
		s.esi = (u32)image;
		s.edi = (u32)code_area;
		s.ecx = 4096;
		run(&s);
		wrong += s.vector != RUN_DONE || s.eax != (u8)round || s.ecx != 0;
	}
	check_equal("rep movsb over its own page: wrong", wrong, 0);
}

void guest_main(void)
{
	paging_enable();
	WRITE_CR(0, READ_CR(0) | 0x10000);
	for (u32 i = 0; i < FRAMES; i++) frames[i] = frame_alloc();
	page_directory[SLOT] = (u32)table | P | W | U;
	WRITE_CR(3, page_directory);
	seed = 7;
	test_random();
	test_no_memory();
	test_page_tables();
	test_own_page();
}
