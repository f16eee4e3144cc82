/* Segments with a base, as thread-local storage has them: GS at CPL 3, negative offsets that wrap, many switches. */
#include "guest.h"

#define VA 0x1800000u
#define INDEX 8
#define SELECTOR (INDEX << 3 | 3)

static volatile u32 *at(u32 va)
{
	return (volatile u32 *)va;
}

static struct state run_gs(const u8 *bytes, u32 length, u32 base)
{
	gdt_set(INDEX, base, 0xFFFFF, 0xF3, 0xC);
	struct state s = state_at(code_put(0, bytes, length), 3);
	s.gs = SELECTOR;
	run(&s);
	return s;
}
#define RUN_GS(base, ...) ({ static const u8 b_[] = {__VA_ARGS__, CODE_DONE}; run_gs(b_, sizeof b_, base); })

static u16 selector_in_memory;
static u64 other_gdt[GDT_ENTRIES];

static void use_gdt(u64 *table)
{
	struct { u16 limit; u64 *base; } __attribute__((packed)) gdtr = { sizeof other_gdt - 1, table };
	__asm__ volatile("lgdt %0" : : "m"(gdtr));
}

/* MOV GS, EAX twice, or once from memory: the same load again, which a monitor may know by heart; then MOV EAX, GS:[0]. */
static struct state load_gs(u32 selector, bool from_memory, unsigned cpl)
{
	u8 code[] = {0x8E, 0xE8, 0x8E, 0xE8, 0x65, 0xA1, 0, 0, 0, 0, CODE_DONE};
	u8 memory_code[] = {0x8E, 0x28, 0x65, 0xA1, 0, 0, 0, 0, CODE_DONE};
	struct state s = from_memory ? state_at(code_put(64, memory_code, sizeof memory_code), cpl) : state_at(code_put(0, code, sizeof code), cpl);
	selector_in_memory = (u16)selector;
	s.eax = from_memory ? (u32)&selector_in_memory : selector;
	run(&s);
	return s;
}

/* The selector stays, and what it names changes. */
static void test_known_loads(unsigned cpl)
{
	u32 wrong = 0, wrong_null = 0, from_memory;
	for (u32 i = 0; i < 200; i++) {
		gdt_set(INDEX, VA + 4 * (i / 8 % 20), 0xFFFFF, 0xF3, 0xC);
		struct state s = load_gs(SELECTOR, i & 1, cpl);
		wrong += s.vector != RUN_DONE || s.eax != 0x1000 + i / 8 % 20;
		if (i % 3) continue;
		s = load_gs(0, i & 1, cpl);
		wrong_null += s.vector != 13 || s.error;
	}
	check_equal("the same selector, with another base now and then: wrong", wrong, 0);
	check_equal("a null selector now and then: wrong", wrong_null, 0);
	for (wrong = from_memory = 0; from_memory < 2; from_memory++)
		for (u32 i = 0; i < 50; i++) {
			gdt_set(INDEX, VA, 0xFFFFF, i % 5 == 0 ? 0x73 : i % 5 == 1 ? 0x9C : i % 5 == 2 ? 0xF2 : 0xF3, 0xC);
			struct state s = load_gs(SELECTOR, from_memory, cpl);
			if (i % 5 == 0) wrong += s.vector != 11 || s.error != (SELECTOR & ~3u);
			else if (i % 5 == 1) wrong += s.vector != 13 || s.error != (SELECTOR & ~3u);
			else wrong += s.vector != RUN_DONE || s.eax != 0x1000 || !(gdt[INDEX] >> 40 & 1);
		}
	check_equal("not present, not readable, not accessed in between: wrong", wrong, 0);
	memcpy(other_gdt, gdt, sizeof other_gdt);
	for (u32 i = wrong = 0; i < 40; i++) {
		use_gdt(gdt);
		gdt_set(INDEX, VA + 4 * (i & 1), 0xFFFFF, 0xF3, 0xC);
		if (i & 1) use_gdt(other_gdt);
		wrong += load_gs(SELECTOR, false, cpl).eax != 0x1000;
	}
	use_gdt(gdt);
	check_equal("another table of descriptors: wrong", wrong, 0);
}

void guest_main(void)
{
	paging_enable();
	struct state s;
	for (u32 i = 0; i < 64; i++) at(VA)[i] = 0x1000 + i;
	s = RUN_GS(VA + 0x80, 0x65, 0xA1, 0, 0, 0, 0);
	check_equal("gs:[0]", s.eax, 0x1020);
	s = RUN_GS(VA + 0x80, 0x65, 0xA1, 0xFC, 0xFF, 0xFF, 0xFF);
	check_equal("gs:[-4]", s.eax, 0x101F);
	s = RUN_GS(VA + 0x80, 0xB9, 0xF8, 0xFF, 0xFF, 0xFF, 0x65, 0x8B, 0x01);
	check_equal("gs:[ecx], ecx = -8", s.eax, 0x101E);
	s = RUN_GS(VA + 0x80, 0xB9, 0xFE, 0xFF, 0xFF, 0xFF, 0xBA, 3, 0, 0, 0, 0x65, 0x8B, 0x04, 0x8A);
	check_equal("gs:[edx+ecx*4] with a wrap", s.eax, at(VA)[30] >> 24 | at(VA)[31] << 8);
	s = RUN_GS(VA + 0x80, 0x65, 0xC7, 0x05, 0xF0, 0xFF, 0xFF, 0xFF, 0x78, 0x56, 0x34, 0x12);
	check_equal("store to gs:[-16]", at(VA)[28], 0x12345678);
	s = RUN_GS(VA + 0x80, 0x65, 0xFF, 0x35, 8, 0, 0, 0, 0x58);
	check_equal("push gs:[8]", s.eax, 0x1022);
	s = RUN_GS(VA + 0x80, 0x6A, 0x55, 0x65, 0x8F, 0x05, 12, 0, 0, 0);
	check_equal("pop gs:[12]", at(VA)[35], 0x55);
	s = RUN_GS(VA + 0x80, 0x65, 0xFF, 0x05, 12, 0, 0, 0);
	check_equal("inc gs:[12]", at(VA)[35], 0x56);
	s = RUN_GS(VA + 0x80, 0x65, 0x8D, 0x05, 0x44, 0, 0, 0);
	check_equal("lea ignores the base", s.eax, 0x44);
	s = RUN_GS(VA + 0x80, 0x31, 0xC0, 0x65, 0xF0, 0x0F, 0xB1, 0x0D, 0, 0, 0, 0);
	check_equal("lock cmpxchg gs:[0] that fails", s.eax, 0x1020);
	s = RUN_GS(VA + 0x80, 0xBE, 4, 0, 0, 0, 0x65, 0xAD);
	check_equal("gs: lods", s.eax, 0x1021);
	s = RUN_GS(VA + 0x80, 0xBE, 0xFC, 0xFF, 0xFF, 0xFF, 0xB9, 2, 0, 0, 0, 0xBF, 0, 2, 0x80, 1, 0x65, 0xF3, 0xA5);
	check_equal("gs: rep movs over the wrap: first", *at(0x1800200), 0x101F);
	check_equal("gs: rep movs over the wrap: second", *at(0x1800204), 0x1020);
	/* Base changes, same code: a thread switch. */
	u32 wrong = 0;
	for (u32 i = 0; i < 40; i++) {
		s = RUN_GS(VA + 4 * (i % 20), 0x65, 0xA1, 0, 0, 0, 0);
		wrong += s.eax != 0x1000 + i % 20;
	}
	check_equal("base changes under the same code: wrong", wrong, 0);
	/* A stack segment with a base was tested elsewhere; DS with a base: */
	gdt_set(INDEX, VA + 0x80, 0xFFFFF, 0xF3, 0xC);
	s = state_at(CODE(0xA1, 4, 0, 0, 0, 0x8B, 0x0D, 8, 0, 0, 0, CODE_DONE), 3);
	s.ds = SELECTOR;
	run(&s);
	check("DS with a base", s.eax == 0x1021 && s.ecx == 0x1022);
	s = state_at(CODE(0xAA, CODE_DONE), 3);
	s.es = SELECTOR;
	s.edi = 0x40;
	s.eax = 0x99;
	run(&s);
	check_equal("stos through ES with a base", at(VA)[48] & 0xFF, 0x99);
	/* A small segment's limit holds on the far side as well. */
	gdt_set(INDEX, VA, 0x7F, 0xF3, 4);
	s = state_at(CODE(0x65, 0xA1, 0xFC, 0xFF, 0xFF, 0xFF, CODE_DONE), 3);
	s.gs = SELECTOR;
	run_expect("negative offset beyond a limit", &s, 13, 0, 0);
	s = state_at(CODE(0x65, 0xA1, 0x7C, 0, 0, 0, CODE_DONE), 3);
	s.gs = SELECTOR;
	run_expect("last dword within a limit", &s, RUN_DONE, 0, 8);
	s = state_at(CODE(0x65, 0xA1, 0x7D, 0, 0, 0, CODE_DONE), 3);
	s.gs = SELECTOR;
	run_expect("one beyond", &s, 13, 0, 0);
	for (u32 i = 0; i < 64; i++) at(VA)[i] = 0x1000 + i;
	test_known_loads(0);
	test_known_loads(3);
}
