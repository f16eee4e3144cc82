/* The random 16-bit programs of hostile_mix.c, for virtual-8086 mode: the region lies at 0 for them. */
#ifndef TESTS_GUESTS_HOSTILE_MIX16_H
#define TESTS_GUESTS_HOSTILE_MIX16_H

#define CODE_SEGMENT (CODE_PAGE * 256)

static void put_half(u32 half)
{
	put((u8)half);
	put((u8)(half >> 8));
}

/* An offset: about the ends of 64 KiB and of pages more often than not. */
static u32 some_offset16(void)
{
	switch (below(6)) {
	case 0: return 0xFFFFu & (0u - below(8));
	case 1: return below(8);
	case 2: return next() & 0xFFFF;
	default: return below(16) * 4096 + some_offset();
	}
}

/* Paragraphs: the region's, those that lead over its end, and about 1 MiB. */
static u32 some_segment16(void)
{
	switch (below(8)) {
	case 0: return 0xF000 + below(0x1000);
	case 1: return 0xFFFF;
	case 2: return next() & 0xFFFF;
	case 3: return CODE_SEGMENT;
	default: return below(PAGES_USED) * 256 + (one_in(3) ? below(256) : 0);
	}
}

static void put_mov16(u32 reg, u32 value)
{
	if (one_in(5)) {
		PUT(0x66, (u8)(0xB8 + reg));
		put_word(one_in(2) ? value : next());
	} else {
		put((u8)(0xB8 + reg));
		put_half(value);
	}
}

static void put_memory16(u32 reg)
{
	u32 mod = below(3), rm = below(8);
	put((u8)(mod << 6 | reg << 3 | rm));
	if (mod == 2 || (mod == 0 && rm == 6)) put_half(some_offset16());
	else if (mod == 1) put((u8)next());
}

static void put_segment16(void)
{
	static const u8 loads[] = {0xC0, 0xD8, 0xE0, 0xE8, 0xD0}, pops[][2] = {{0x07, 0x90}, {0x1F, 0x90}, {0x0F, 0xA1}, {0x0F, 0xA9}, {0x17, 0x90}};
	u32 which = below(one_in(3) ? 5 : 4);
	switch (below(4)) {
	case 0:
		PUT(0x68);
		put_half(some_segment16());
		put_bytes(pops[which], 2);
		break;
	case 1:
		if (one_in(2)) put(one_in(2) ? 0xC4 : 0xC5);
		else PUT(0x0F, 0xB2 + (u8)below(4));
		put_memory16(below(8));
		break;
	default:
		PUT(0xB8);
		put_half(some_segment16());
		PUT(0x8E, loads[which]);
	}
}

static void put_access16(void)
{
	static const u8 prefixes[] = {0x26, 0x2E, 0x36, 0x64, 0x65, 0x3E};
	static const u8 ops[] = {0x8B, 0x89, 0x88, 0x8A, 0x01, 0x03, 0x87, 0x86, 0x29, 0x39, 0x31, 0x85, 0x11, 0x8C, 0x62};
	static const u8 long_ops[] = {0xB1, 0xC1, 0xAB, 0xA3, 0xB3, 0xB6, 0xBF, 0xAF, 0xBC, 0x40, 0x4F, 0x94, 0xBB, 0x10, 0x11, 0x28, 0x29, 0x6F, 0x7F, 0xE7, 0xC7};
	bool wide_address = one_in(6);
	if (one_in(4)) put(prefixes[below(sizeof prefixes)]);
	if (one_in(4)) put(0x66);
	if (one_in(24)) put(0xF0);
	if (wide_address) put(0x67);
	u8 op = ops[below(sizeof ops)];
	u32 reg = below(8);
	switch (below(4)) {
	case 0:
		op = long_ops[below(sizeof long_ops)];
		put(0x0F);
		if (op == 0xC7) reg = 1;
		break;
	case 1:
		op = (u8)(0xD9 + 2 * below(4)); /* x87: a load or a store */
		reg = one_in(2) ? 7 : 2 + below(2);
		break;
	default: break;
	}
	put(op);
	if (wide_address) put_memory(reg);
	else put_memory16(reg);
}

static void put_stack16(void)
{
	if (one_in(5)) put(0x66);
	switch (below(16)) {
	case 0: PUT(0x60); break;
	case 1: PUT(0x61); break;
	case 2: PUT(0xC8, (u8)next(), one_in(4) ? (u8)next() : 0, (u8)below(4)); break;
	case 3: PUT(0xC9); break;
	case 4: PUT(0xFF); put_memory16(6); break;
	case 5: PUT(0x8F); put_memory16(0); break;
	case 6: PUT(0x6A, (u8)next()); break;
	case 7: PUT(0x83, one_in(2) ? 0xC4 : 0xEC, (u8)next()); break;
	case 8: PUT(0xBC); put_half(one_in(2) ? some_offset16() : 0x1000 + below(0x200)); break; /* SP; with 66h of ESP more */
	case 9: PUT((u8)(0x90 | some_register()), 0x94, 0x90); break;
	case 10: put(one_in(2) ? 0x44 : 0x4C); break;
	case 11: PUT(0x9C); break;
	case 12: PUT(0x9D); break;
	case 13: PUT(0x06, 0x1E, 0x0E, 0x16, 0x1F, 0x07); break;
	default:
		for (u32 n = 1 + below(one_in(6) ? 40 : 6); n; n--) put((u8)(0x50 + below(16)));
	}
}

/* What IOPL, or virtual-8086 mode itself, forbids. */
static void put_sensitive16(void)
{
	static const u8 some[][4] = {
		{0xFA, 0x90}, {0xFB, 0x90}, {0x9C, 0x9D}, {0x9D, 0x90}, {0x66, 0x9C, 0x66, 0x9D}, {0xF4, 0x90}, {0xE4, 0x61}, {0xE6, 0x80}, {0x66, 0xED}, {0x6C, 0x90}, {0xF3, 0x6E},
		{0x0F, 0x01, 0xE0, 0x90}, {0x0F, 0x01, 0xF0, 0x90}, {0x0F, 0x00, 0xC0, 0x90}, {0x0F, 0x00, 0xD8, 0x90}, {0x0F, 0x20, 0xC0, 0x90}, {0x0F, 0x22, 0xD8, 0x90}, {0x0F, 0x21, 0xF0, 0x90},
		{0x0F, 0x06}, {0x0F, 0x09}, {0x0F, 0x32}, {0x0F, 0x30}, {0x0F, 0x31}, {0x0F, 0x33}, {0x0F, 0x02, 0xC3, 0x90}, {0x0F, 0x03, 0xC3, 0x90}, {0x0F, 0x00, 0xE0, 0x90}, {0x63, 0xC3},
		{0x0F, 0x01, 0x3E, 0x90}, {0x0F, 0x01, 0x07, 0x90}, {0x0F, 0x01, 0x0F, 0x90}, {0x0F, 0x01, 0x17, 0x90}, {0xCC}, {0xCE}, {0xF1}, {0xCD, 0x0D}, {0xCD, WORK}, {0xCD, 0x03}, {0x0F, 0x35},
	};
	u32 n = below(sizeof some / sizeof *some), length = 4;
	while (length > 1 && !some[n][length - 1]) length--;
	put_bytes(some[n], length);
}

/* Where the next instruction is after so many bytes, seen through another segment. */
static void put_far_pointer(u32 length)
{
	u32 at = here() + length, by = below(at / 16 < 0xFFF ? at / 16 : 0xFFF);
	put_half(at - by * 16);
	put_half(by);
}

static void put_branch16(void)
{
	switch (below(9)) {
	case 0: /* a short loop */
		PUT(0xB9, 2 + (u8)below(6), 0, 0x40, 0x50, 0x58, 0xE2, 0xFB);
		break;
	case 1: PUT(0x70 + (u8)below(16), 2, 0x40, 0x43); break;
	case 2: PUT(0xE8, 0, 0, 0x58); break;
	case 3: /* call; jmp over; ret */
		PUT(0xE8, 2, 0, 0xEB, 1, 0xC3);
		break;
	case 4:
		PUT(0xEA);
		put_far_pointer(4);
		break;
	case 5: /* call far; jmp over; retf */
		PUT(0x9A);
		put_far_pointer(4 + 2);
		PUT(0xEB, 1, 0xCB);
		break;
	case 6: /* pushf; push cs; push ip; iret */
		PUT(0x9C, 0x0E, 0x68);
		put_half(here() + 3 - the_case.code_base);
		PUT(0xCF);
		break;
	case 7: /* to beyond the end, by a register */
		PUT(0x66, 0xB8);
		put_word(one_in(2) ? 0xFFF8 + below(12) : here() + 4 - the_case.code_base + 1);
		PUT(0x66, 0xFF, one_in(2) ? 0xE0 : 0xD0);
		break;
	default:
		PUT(0xFF, (u8)(0x26 | below(2) << 3)); /* jmp [m16], jmp far [m16:16] */
		put_half(some_offset16());
	}
}

/* MOV to a byte or word of the code, through whatever DS or ES is. */
static void put_patch16(void)
{
	u32 at = here() - the_case.code_base + below(48);
	if (one_in(3)) put(0x26);
	else if (one_in(2)) PUT(0x0E, 0x1F);
	if (one_in(2)) {
		PUT(0xC7, 0x06);
		put_half(at);
		put_half(one_in(2) ? 0x9090 : one_in(2) ? 0x40C3 : next());
	} else {
		PUT(0xC6, 0x06);
		put_half(at);
		put((u8)(one_in(2) ? 0x90 : next()));
	}
}

static void put_string16(void)
{
	static const u8 ops[] = {0xA4, 0xA5, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF, 0xA6, 0xA7};
	put_mov16(7, some_offset16());
	put_mov16(6, some_offset16());
	put_mov16(1, below(one_in(3) ? 200 : 20));
	if (one_in(5)) PUT(0xFD);
	if (one_in(4)) put(0x66);
	if (one_in(6)) put(0x67);
	put(one_in(8) ? 0xF2 : 0xF3);
	put(ops[below(sizeof ops)]);
	if (one_in(2)) PUT(0xFC);
}

static void put_unit16(void)
{
	for (u32 n = below(3); n; n--) put_mov16(some_register(), some_offset16());
	for (u32 n = 1 + below(4); n; n--) {
		if (the_case.tasks && one_in(3)) put_task();
		switch (below(17)) {
		case 0: put_alu(); break;
		case 1: case 2: case 3: case 4: put_access16(); break;
		case 5: case 6: case 7: put_stack16(); break;
		case 8: put_patch16(); break;
		case 9: put_string16(); break;
		case 10: case 11: put_branch16(); break;
		case 12: put_segment16(); break;
		case 13: case 14: put_sensitive16(); break;
		case 15: PUT(0xB8, (u8)next(), 0, 0xCD, WORK); break;
		default: put_other();
		}
	}
}

static void choose_v86(struct mix_case *c)
{
	struct state *s = &c->state;
	c->v86 = true;
	c->ends = false;
	c->region = 0;
	c->code_base = CODE_SEGMENT * 16;
	s->eip &= 0x3FFF;
	s->eflags |= EFLAGS_VM | (one_in(2) ? EFLAGS_IOPL : 0);
	s->cs = CODE_SEGMENT;
	s->ss = one_in(2) ? STACK_PAGE * 256 : some_segment16() & 0x1FFF;
	s->esp = one_in(3) ? some_offset16() : 0x1000 + below(64) * 4 - 128;
	s->ebp = s->esp;
	s->ds = some_segment16();
	s->es = some_segment16();
	s->fs = some_segment16();
	s->gs = some_segment16();
}

#endif
