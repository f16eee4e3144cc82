/* The same user code at several linear addresses, as programs and libraries lie elsewhere each time they run, which the monitor translates once and copies: programs made of
 * a seed, of branches, calls, returns, callouts and faults in two frames, run at each place and once more there with single steps, for which nothing is copied;
 * border_test.py compares with a monitor that copies nothing. */
#include "random.h"

#define FRAMES 0x1800000u /* two, the program and the functions that it calls */
#define DATA 0x1803000u
#define COUNT (DATA + 128)
#define FUNCTIONS 4096u   /* offset */
#define CASES 200u
#define MOST 700u /* bytes of a program */
#define MOST_STEPS 4000u

static const u32 places[] = {0x1A00000, 0x1A02000, 0x1F10000, 0x1900000, 0x1A04000};
#define PLACES (sizeof places / sizeof *places)

static u8 program[MOST + 64];
static u32 length, entry, steps, left_out, ended_by[256];
static struct state begin_with;

/* Flags are seen without TF, on the stack too. */
#define SEEN 0xD5, 0x08, 0, 0
static const u8 functions[][16] = {
	{0x8B, 0x34, 0x24, 0xC3},       /* mov esi, [esp]; ret */
	{0x8B, 0x1C, 0x24, 0xC3},       /* mov ebx, [esp]; ret */
	{0x83, 0xC0, 0x03, 0xC3},       /* add eax, 3; ret */
	{0x9C, 0x5A, 0x81, 0xE2, SEEN, 0x52, 0x5A, 0xC3}, /* pushf; pop edx; and edx, ...; push edx; pop edx; ret */
	{0x5F, 0xFF, 0xE7},             /* pop edi; jmp edi */
	{0x48, 0x74, 0x01, 0xC3, 0xC3}, /* dec eax; jz +1; ret; ret */
	{0x58, 0x50, 0xC3},             /* pop eax; push eax; ret */
};

static void put(const u8 *bytes, u32 count)
{
	memcpy(program + length, bytes, count);
	length += count;
}
#define PUT(...) put((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void put_word(u32 word)
{
	PUT((u8)word, (u8)(word >> 8), (u8)(word >> 16), (u8)(word >> 24));
}

static u32 some_function(void)
{
	return FUNCTIONS + 16 * below(sizeof functions / sizeof *functions);
}

static void put_unit(u32 depth);

/* Over a unit, or back to its beginning some times. */
static void put_branch(u32 depth)
{
	u32 kind = below(3);
	if (kind == 2) {
		PUT(0xC7, 0x05); /* mov [COUNT], ... */
		put_word(COUNT);
		put_word(1 + below(9));
	}
	u32 begin = length;
	if (kind == 0) PUT((u8)(0x70 + below(16)), 0);
	if (kind == 1) PUT(0xEB, 0);
	put_unit(depth + 1);
	if (kind != 2) {
		program[begin + 1] = (u8)(length - (begin + 2));
		return;
	}
	PUT(0xFF, 0x0D); /* dec [COUNT]; jnz */
	put_word(COUNT);
	PUT(0x75, (u8)(begin - (length + 2)));
}

static void put_call(void)
{
	u32 to = some_function();
	if (below(3)) {
		PUT(0xE8);
		put_word(to - (entry + length + 4));
		return;
	}
	PUT(0xE8, 0, 0, 0, 0, 0x5D, 0x8D, 0xAD); /* call to the next; pop ebp; lea ebp, [ebp + to]; call ebp, or by memory */
	put_word(to - (entry + length - 3));
	if (below(2)) PUT(0xFF, 0xD5);
	else PUT(0x55, 0xFF, 0x14, 0x24, 0x5D);
}

static void put_unit(u32 depth)
{
	switch (below(depth ? 9 : 14)) {
	case 0: PUT(0x05); put_word(next()); break;                                  /* add eax, ... */
	case 1: PUT((u8)(0x50 + below(8)), (u8)(0x58 + (4 + 1 + below(7)) % 8)); break; /* push; pop */
	case 2: PUT(0x9C, 0x59, 0x81, 0xE1, SEEN, 0x51, 0x59, 0x01, 0xC8); break;    /* pushf; pop ecx; and ecx, ...; push ecx; pop ecx; add eax, ecx */
	case 3: PUT(0xA3); put_word(DATA + 4 * below(16)); break;                    /* mov [DATA], eax */
	case 4: PUT(0x03, 0x05); put_word(DATA + 4 * below(16)); break;              /* add eax, [DATA] */
	case 5: PUT(0x83, 0xEC, 0x08, 0x89, 0x04, 0x24, 0x83, 0xC4, 0x08); break;    /* sub esp, 8; mov [esp], eax; add esp, 8 */
	case 6: PUT(0x89, 0xF2, 0x31, 0xDA); break;                                  /* mov edx, esi; xor edx, ebx: where it has been */
	case 7: PUT(0x9C, 0x80, 0x34, 0x24, (u8)(next() & 0xD5), 0x9D, 0x50, 0x58); break; /* pushf; xor byte [esp], ...; popf; push eax; pop eax */
	case 8: PUT(0xFC, 0xB9, 5, 0, 0, 0, 0xBF); put_word(DATA + 64); PUT(0xF3, 0xAB); break; /* cld; rep stosd */
	case 9: case 10: put_call(); break;
	case 11: case 12: put_branch(depth); break;
	default: /* perhaps the end: divide, INTO, UD2, INT3, nothing mapped, a call into the middle of nowhere */
		switch (below(12)) {
		case 0: PUT(0xF7, 0xF1); break;
		case 1: PUT(0xCE); break;
		case 2: PUT(0x0F, 0x0B); break;
		case 3: PUT(0xCC); break;
		case 4: PUT(0xA1, 0, 0, 0xC0, 0x01); break;
		case 5: PUT(0xFF, 0xE0); break;
		case 6: PUT(0xFA); break;
		default: put_call();
		}
	}
}

static void make(void)
{
	u8 *frames = (u8 *)FRAMES;
	length = 0;
	entry = below(4096 - sizeof program);
	for (u32 units = 4 + below(24); units && length < MOST - 100; units--) put_unit(0);
	PUT(CODE_DONE);
	memset(frames, 0xCC, 2 * 4096);
	for (u32 i = 0; i < sizeof functions / sizeof *functions; i++) memcpy(frames + FUNCTIONS + 16 * i, functions[i], sizeof functions[i]);
	memcpy(frames + entry, program, length);
	begin_with = state_at((void *)0, 3);
	begin_with.eflags |= next() & EFLAGS_ARITH;
	begin_with.eax = next();
	begin_with.edx = 0;
}

static void on_step(struct trap_frame *f)
{
	if (++steps < MOST_STEPS) return;
	f->eip = (u32)code_put(0x100, (const u8[]){CODE_DONE}, 2);
	f->eflags &= ~EFLAGS_TF;
}

static u32 mix(u32 digest, const void *from, u32 size)
{
	for (const u32 *at = from; size; size -= 4) digest = (digest ^ *at++) * 0x01000193;
	return digest;
}

static u32 run_at(u32 place, u32 flags)
{
	struct state s = begin_with;
	s.eip = place + entry;
	s.eflags |= flags;
	for (u32 i = 0; i < 1024; i++) ((volatile u32 *)DATA)[i] = i;
	memset(user_stack, 0xA5, sizeof user_stack);
	steps = 0;
	run(&s);
	ended_by[s.vector & 0xFF]++;
	s.eflags &= ~EFLAGS_TF;
	if (s.vector != 14) s.cr2 = 0;
	return mix(mix(mix(0x811C9DC5, &s, sizeof s), (void *)DATA, 256), user_stack + 2048, 4096);
}

void guest_main(void)
{
	u32 wrong = 0, ran = 0;
	random_begin();
	paging_enable();
	for (u32 low = 0; low < 0x100000; low += 4096) pte_set(low, 0); /* what is there differs between machines */
	trap_handle(1, on_step);
	pte_set(0x1C00000, 0);
	pte_set(DATA, DATA | P | W | U);
	for (u32 i = 0; i < PLACES; i++)
		for (u32 page = 0; page < 2; page++) pte_set(places[i] + 4096 * page, (FRAMES + 4096 * page) | P | U);
	warm_up();
	for (u32 i = 0; i < CASES; i++) {
		u32 digest = 0;
		make();
		for (u32 k = 0; k < PLACES; k++) {
			u32 stepped = run_at(places[k], EFLAGS_TF);
			if (steps >= MOST_STEPS) {
				left_out++;
				continue;
			}
			ran++;
			for (u32 round = 0; round < 2; round++)
				if (run_at(places[k], 0) != stepped && !wrong++) print("# the first that differs is case %u at %x\n", i, places[k]);
			digest = digest * 31 + stepped;
		}
		if (i % 4 == 0) print("# case %u:", i);
		print(i % 4 == 3 ? " %x\n" : " %x", digest);
	}
	check_equal("not as one instruction at a time", wrong, 0);
	check("nearly all end", left_out * 20 < ran);
	check("a third runs to its end", ended_by[RUN_DONE] > ran);
	check("others end by #PF, #BP, #UD or #DE", ended_by[14] && ended_by[3] && ended_by[6] && ended_by[0]);
}
