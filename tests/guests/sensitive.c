/* The instructions that make the processor hard to virtualize, and the privileged ones: at CPL 0, at CPL 3 and in virtual-8086 mode, each with
 * IOPL 0 and 3, and in real mode, against what the manual says of each (SDM vol. 2; vol. 3, 20.1 and 20.2). */
#include "guest.h"
#include "real.h"

#define VA 0x1800000u
#define GATE 0x40u
#define CR4_TSD 4u
#define CR4_UMIP 0x800u
#define LANDING 0x20u /* where transfers go, from the code's start on */
enum mode { RING0, RING3, RING3_IOPL3, VM, VM_IOPL3, REAL, MODES };
/* What happens: RUNS, or a vector (an error code, if there is one, is 0). */
enum { DB = 1, RUNS = 3 /* INT3, which stands behind each */, OF = 4, UD = 6, GP = 13, SKIP = 0xFF };
/* What it finds in memory; a transfer goes to LANDING by a frame of IRET on the stack, of the code's operand size or the other one, or by a pointer
 * behind its opcode or in memory. */
enum needs { NOTHING, GDTR, IDTR, FRAME, OTHER_FRAME, POINTER, FAR_POINTER };

static const struct instruction {
	const char *name;
	u8 code[4], length;
	u8 want[MODES];
	u32 eax, ecx;
	enum needs needs;
} instructions[] = {
	{"pushf", {0x9C}, 1, {RUNS, RUNS, RUNS, GP, RUNS, RUNS}, 0, 0, NOTHING},
	{"popf", {0x9D}, 1, {RUNS, RUNS, RUNS, GP, RUNS, RUNS}, 0, 0, NOTHING},
	{"cli", {0xFA}, 1, {RUNS, GP, RUNS, GP, RUNS, RUNS}, 0, 0, NOTHING},
	{"sti", {0xFB}, 1, {RUNS, GP, RUNS, GP, RUNS, RUNS}, 0, 0, NOTHING},
	{"int n", {0xCD, GATE}, 2, {GATE, GATE, GATE, GP, GATE, GATE}, 0, 0, NOTHING},
	{"hlt", {0xF4}, 1, {SKIP, GP, GP, GP, GP, SKIP}, 0, 0, NOTHING},
	{"lar", {0x0F, 0x02, 0xC0}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"lsl", {0x0F, 0x03, 0xC0}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"verr", {0x0F, 0x00, 0xE0}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"verw", {0x0F, 0x00, 0xE8}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"arpl", {0x63, 0xC0}, 2, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"mov eax, ds", {0x8C, 0xD8}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov fs, eax", {0x8E, 0xE0}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov cs, eax", {0x8E, 0xC8}, 2, {UD, UD, UD, UD, UD, UD}, 0, 0, NOTHING},
	{"push ds", {0x1E}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"pop es", {0x07}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"lgs", {0x0F, 0xB5, 0x07}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"sgdt", {0x0F, 0x01, 0x07}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"sidt", {0x0F, 0x01, 0x0F}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"sldt", {0x0F, 0x00, 0xC0}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"str", {0x0F, 0x00, 0xC8}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"smsw", {0x0F, 0x01, 0xE0}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"lgdt", {0x0F, 0x01, 0x17}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, GDTR},
	{"lidt", {0x0F, 0x01, 0x1F}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, IDTR},
	{"lgdt of a register", {0x0F, 0x01, 0xD5}, 3, {UD, UD, UD, UD, UD, UD}, 0, 0, NOTHING},
	{"lldt", {0x0F, 0x00, 0xD0}, 3, {RUNS, GP, GP, UD, UD, UD}, 0, 0, NOTHING},
	{"ltr of a null selector", {0x0F, 0x00, 0xD8}, 3, {SKIP /* TCG loads it, and ends then */, GP, GP, UD, UD, UD}, 0, 0, NOTHING},
	{"lmsw", {0x0F, 0x01, 0xF0}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 1, 0, NOTHING},
	{"clts", {0x0F, 0x06}, 2, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"mov eax, cr0", {0x0F, 0x20, 0xC0}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"mov cr2, eax", {0x0F, 0x22, 0xD0}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"mov cr1, eax", {0x0F, 0x22, 0xC8}, 3, {UD, UD, UD, UD, UD, UD}, 0, 0, NOTHING},
	{"mov eax, dr6", {0x0F, 0x21, 0xF0}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"mov dr0, eax", {0x0F, 0x23, 0xC0}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"invlpg", {0x0F, 0x01, 0x3F}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"invd", {0x0F, 0x08}, 2, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"wbinvd", {0x0F, 0x09}, 2, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"rdmsr", {0x0F, 0x32}, 2, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0x174, NOTHING},
	{"wrmsr", {0x0F, 0x30}, 2, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0x174, NOTHING},
	{"rdmsr of none", {0x0F, 0x32}, 2, {GP, GP, GP, GP, GP, GP}, 0, 0x12345678, NOTHING},
	{"rdpmc without counters", {0x0F, 0x33}, 2, {GP, GP, GP, GP, GP, GP}, 0, 99, NOTHING},
	{"rdtsc", {0x0F, 0x31}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"cpuid", {0x0F, 0xA2}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"sysenter to no segment", {0x0F, 0x34}, 2, {GP, GP, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"sysexit from no segment", {0x0F, 0x35}, 2, {GP, GP, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"in al, 61h", {0xE4, 0x61}, 2, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 0, NOTHING},
	{"in al, dx", {0xEC}, 1, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 0, NOTHING},
	{"out 80h, al", {0xE6, 0x80}, 2, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 0, NOTHING},
	{"out dx, al", {0xEE}, 1, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 0, NOTHING},
	{"insb", {0x6C}, 1, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 0, NOTHING},
	{"outsb", {0x6E}, 1, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 0, NOTHING},
	{"les", {0xC4, 0x07}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"lds", {0xC5, 0x07}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"lfs", {0x0F, 0xB4, 0x07}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"lss of a null selector", {0x0F, 0xB2, 0x07}, 3, {GP, GP, GP, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov ss, eax, a null selector", {0x8E, 0xD0}, 2, {GP, GP, GP, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"iret", {0xCF}, 1, {RUNS, RUNS, RUNS, GP, RUNS, RUNS}, 0, 0, FRAME},
	{"retf", {0xCB}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, FRAME},
	{"call far", {0x9A}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, POINTER},
	{"jmp far", {0xEA}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, POINTER},
	{"pushf of the other size", {0x66, 0x9C}, 2, {RUNS, RUNS, RUNS, GP, RUNS, RUNS}, 0, 0, NOTHING},
	{"popf of the other size", {0x66, 0x9D}, 2, {RUNS, RUNS, RUNS, GP, RUNS, RUNS}, 0, 0, NOTHING},
	/* 16 bits are too few for an address of ours. */
	{"iret of 32 bits", {0x66, 0xCF}, 2, {SKIP, SKIP, SKIP, GP, RUNS, RUNS}, 0, 0, OTHER_FRAME},
	{"retf of 32 bits", {0x66, 0xCB}, 2, {SKIP, SKIP, SKIP, RUNS, RUNS, RUNS}, 0, 0, OTHER_FRAME},
	{"retf n", {0xCA, 8, 0}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, FRAME},
	{"call far [m]", {0xFF, 0x1F}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, FAR_POINTER},
	{"jmp far [m]", {0xFF, 0x2F}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, FAR_POINTER},
	{"int3", {0}, 0 /* the one behind */, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"int1", {0xF1}, 1, {DB, DB, DB, DB, DB, DB}, 0, 0, NOTHING},
	{"dec al; into", {0xFE, 0xC8, 0xCE}, 3, {OF, OF, OF, OF, OF, OF}, 0x80, 0, NOTHING},
	{"push es", {0x06}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"push cs", {0x0E}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"push ss", {0x16}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"push fs", {0x0F, 0xA0}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"push gs", {0x0F, 0xA8}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"pop ss, a null selector", {0x17}, 1, {GP, GP, GP, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"pop ds", {0x1F}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"pop fs", {0x0F, 0xA1}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"pop gs", {0x0F, 0xA9}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov eax, es", {0x8C, 0xC0}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov eax, cs", {0x8C, 0xC8}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov eax, ss", {0x8C, 0xD0}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov eax, fs", {0x8C, 0xE0}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov eax, gs", {0x8C, 0xE8}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov es, eax", {0x8E, 0xC0}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov ds, eax", {0x8E, 0xD8}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov gs, eax", {0x8E, 0xE8}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov [m], ds", {0x8C, 0x1F}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov ds, [m]", {0x8E, 0x1F}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"lar [m]", {0x0F, 0x02, 0x07}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"lsl [m]", {0x0F, 0x03, 0x07}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"verr [m]", {0x0F, 0x00, 0x27}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"verw [m]", {0x0F, 0x00, 0x2F}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"sldt [m]", {0x0F, 0x00, 0x07}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"str [m]", {0x0F, 0x00, 0x0F}, 3, {RUNS, RUNS, RUNS, UD, UD, UD}, 0, 0, NOTHING},
	{"smsw [m]", {0x0F, 0x01, 0x27}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"lldt [m]", {0x0F, 0x00, 0x17}, 3, {RUNS, GP, GP, UD, UD, UD}, 0, 0, NOTHING},
	{"mov cr0, eax", {0x0F, 0x22, 0xC0}, 3, {SKIP, GP, GP, GP, GP, SKIP}, 0, 0, NOTHING},
	{"mov cr3, eax", {0x0F, 0x22, 0xD8}, 3, {SKIP, GP, GP, GP, GP, SKIP}, 0, 0, NOTHING},
	{"mov cr4, eax", {0x0F, 0x22, 0xE0}, 3, {SKIP, GP, GP, GP, GP, SKIP}, 0, 0, NOTHING},
	{"mov eax, cr2", {0x0F, 0x20, 0xD0}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"mov eax, cr3", {0x0F, 0x20, 0xD8}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"mov eax, cr4", {0x0F, 0x20, 0xE0}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"mov dr7, eax", {0x0F, 0x23, 0xF8}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0x400, 0, NOTHING},
	{"mov eax, dr7", {0x0F, 0x21, 0xF8}, 3, {RUNS, GP, GP, GP, GP, RUNS}, 0, 0, NOTHING},
	{"in eax, dx", {0xED}, 1, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 0, NOTHING},
	{"out dx, eax", {0xEF}, 1, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 0, NOTHING},
	{"ins", {0x6D}, 1, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 0, NOTHING},
	{"outs", {0x6F}, 1, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 0, NOTHING},
	{"rep insb", {0xF3, 0x6C}, 2, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 1, NOTHING},
	{"rep outsb", {0xF3, 0x6E}, 2, {RUNS, GP, RUNS, GP, GP, RUNS}, 0, 1, NOTHING},
};

static const char *const mode_names[MODES] = {"CPL 0", "CPL 3", "CPL 3, IOPL 3", "V86", "V86, IOPL 3", "real mode"};

static bool narrow(enum mode mode) { return mode >= VM; }

/* This code, with INT3 behind it and at LANDING; flags 2, or a null selector, on the stack. */
static struct state start(enum mode mode, const u8 *code, size_t length)
{
	u8 bytes[LANDING + 1];
	memset(bytes, 0xCC, sizeof bytes);
	memcpy(bytes, code, length);
	struct state s;
	if (narrow(mode)) {
		s = v86_state(bytes, sizeof bytes, mode == VM_IOPL3 ? 3 : 0);
		if (mode == REAL) s.eflags &= ~EFLAGS_VM;
		*(volatile u32 *)(V86_STACK + V86_SP) = 2;
		s.ebx = s.edi = s.esi = 0x10;
	} else {
		s = state_at(code_put(0, bytes, sizeof bytes), mode == RING0 ? 0 : 3);
		s.eflags |= mode == RING3_IOPL3 ? 0x3000 : 0;
		*(volatile u32 *)s.esp = 2;
		s.ebx = s.edi = s.esi = VA;
	}
	memset((void *)VA, 0, 16);
	memset((void *)(V86_DATA + 0x10), 0, 16);
	return s;
}

static void execute(enum mode mode, struct state *s)
{
	if (mode == REAL) real_execute(s, false);
	else run(s);
}

/* What IRET pops, to LANDING. */
static void put_frame(enum mode mode, const struct state *s, u32 eflags, u32 size)
{
	u32 frame[] = {s->eip + LANDING, s->cs, eflags}, at = narrow(mode) ? V86_STACK + V86_SP : s->esp;
	for (u32 i = 0; i < 3; i++) memcpy((void *)(at + size * i), &frame[i], size);
}

static void put_pointer(u8 *at, const struct state *s, u32 size)
{
	u32 offset = s->eip + LANDING;
	memcpy(at, &offset, size);
	memcpy(at + size, &s->cs, 2);
}

static struct state prepare(const struct instruction *i, enum mode mode)
{
	u8 code[8];
	u32 length = i->length, size = narrow(mode) ? 2 : 4;
	struct state s = start(mode, i->code, length);
	memcpy(code, i->code, length);
	if (i->needs == POINTER) {
		put_pointer(code + length, &s, size);
		s = start(mode, code, length + size + 2);
	}
	if (i->needs == FAR_POINTER) put_pointer((u8 *)(narrow(mode) ? V86_DATA + 0x10 : VA), &s, size);
	if (i->needs == FRAME || i->needs == OTHER_FRAME) put_frame(mode, &s, 2, i->needs == FRAME ? size : 6 - size);
	if (i->needs == GDTR) __asm__ volatile("sgdt %0" : "=m"(*(u64 *)(mode == REAL ? V86_DATA + 0x10 : VA)));
	if (i->needs == IDTR && mode == REAL) *(volatile u16 *)(V86_DATA + 0x10) = 0x3FF;
	else if (i->needs == IDTR) __asm__ volatile("sidt %0" : "=m"(*(u64 *)VA));
	s.eax = mode == REAL && i->eax == 1 ? 0 /* LMSW: no way out of real mode here */ : i->eax;
	s.ecx = i->ecx;
	s.edx = i->code[1] == 0x30 ? 0 : 0x80;
	return s;
}

static const char *name_of(const char *what, enum mode mode)
{
	static char name[64];
	char *to = name;
	for (const char *c = what; *c;) *to++ = *c++;
	*to++ = ',';
	*to++ = ' ';
	for (const char *c = mode_names[mode]; *c;) *to++ = *c++;
	*to = 0;
	return name;
}

static void test_one(const struct instruction *i, enum mode mode)
{
	struct state s = prepare(i, mode);
	u32 vector = i->want[mode], begin = s.eip;
	execute(mode, &s);
	u32 end = i->needs >= FRAME ? LANDING : i->length;
	u32 at = vector == RUNS ? end + 1u : vector == GATE || vector == DB || vector == OF ? end : 0;
	bool good = s.vector == vector && s.error == 0 && s.eip == begin + at;
	if (!check(name_of(i->name, mode), good)) print("# trap %u error %x at +%d\n", s.vector, s.error, s.eip - begin);
}

/* Which of IF and IOPL change, from IF as it was and with IF and IOPL as in the image. */
static void test_flags(enum mode mode)
{
	static const struct {
		const char *name;
		u8 code[2], length;
		u32 from, image, want[MODES];
	} changes[] = {
		{"popf sets", {0x9D}, 1, 0, 0x3202, {0x3200, 0, 0x3200, 0, 0x3200, 0x3200}},
		{"popf clears", {0x9D}, 1, 0x200, 2, {0, 0x200, 0x3000, 0x200, 0x3000, 0}},
		{"iret sets", {0xCF}, 1, 0, 0x3202, {0x3200, 0, 0x3200, 0, 0x3200, 0x3200}},
		{"iret clears", {0xCF}, 1, 0x200, 2, {0, 0x200, 0x3000, 0x200, 0x3000, 0}},
		{"cli", {0xFA}, 1, 0x200, 2, {0, 0x200, 0x3000, 0x200, 0x3000, 0}},
		{"sti", {0xFB}, 1, 0, 2, {0x200, 0, 0x3200, 0, 0x3200, 0x200}},
	};
	for (u32 i = 0; i < sizeof changes / sizeof *changes; i++) {
		struct state s = start(mode, changes[i].code, changes[i].length);
		s.eflags |= changes[i].from;
		if (changes[i].code[0] == 0xCF) put_frame(mode, &s, changes[i].image, narrow(mode) ? 2 : 4);
		else *(volatile u16 *)(narrow(mode) ? V86_STACK + V86_SP : s.esp) = (u16)changes[i].image;
		execute(mode, &s);
		check_equal(name_of(changes[i].name, mode), s.eflags & 0x3200, changes[i].want[mode]);
	}
}

/* What the instructions show that the processor would let anybody read: this machine's own. */
static void test_shown(enum mode mode)
{
	volatile u16 *memory = (volatile u16 *)(narrow(mode) ? V86_DATA + 0x10 : VA);
	struct { u16 limit; u32 base; } __attribute__((packed)) idtr;
	__asm__ volatile("sidt %0" : "=m"(idtr));
	struct state s = start(mode, (const u8[]){0x0F, 0x01, 0x07, 0x0F, 0x01, 0x67, 0x08}, 7); /* sgdt [(e)bx]; smsw [(e)bx + 8] */
	execute(mode, &s);
	check_equal(name_of("sgdt: limit", mode), memory[0], sizeof gdt - 1);
	check_equal(name_of("sgdt: base", mode), *(volatile u32 *)(memory + 1), (u32)gdt);
	check_equal(name_of("smsw", mode), memory[4], (READ_CR(0) & 0xFFFF) - (mode == REAL));
	s = start(mode, (const u8[]){0x0F, 0x01, 0x0F, 0x8C, 0x5F, 0x08, 0x8C, 0x4F, 0x0A}, 9); /* sidt [(e)bx]; mov [(e)bx + 8], ds; mov [(e)bx + 10], cs */
	u16 ds = (u16)s.ds, cs = (u16)s.cs;
	execute(mode, &s);
	check_equal(name_of("sidt: limit", mode), memory[0], mode == REAL ? 0x3FF : idtr.limit);
	check_equal(name_of("sidt: base", mode), *(volatile u32 *)(memory + 1), mode == REAL ? 0 : idtr.base);
	check_equal(name_of("mov m, ds", mode), memory[4], ds);
	check_equal(name_of("mov m, cs", mode), memory[5], cs);
	s = start(mode, (const u8[]){0x1E, 0x58, 0x9C, 0x59}, 4); /* push ds; pop (e)ax; pushf; pop (e)cx */
	u32 eflags = s.eflags & 0x3000;
	execute(mode, &s);
	if (mode == VM) return; /* #GP: a monitor's work */
	check_equal(name_of("push ds", mode), s.eax & 0xFFFF, ds);
	check_equal(name_of("pushf", mode), s.ecx & 0xFFFF, eflags | 2);
	if (narrow(mode)) return;
	/* str eax; sldt ecx; lar edx, ebx; lsl esi, ebx */
	s = start(mode, (const u8[]){0x0F, 0x00, 0xC8, 0x0F, 0x00, 0xC1, 0x0F, 0x02, 0xD3, 0x0F, 0x03, 0xF3}, 12);
	s.ebx = CODE0;
	execute(mode, &s);
	check_equal(name_of("str", mode), s.eax, TSS_SELECTOR);
	check_equal(name_of("sldt", mode), s.ecx, 0);
	check_equal(name_of("lar of code of level 0", mode), s.edx & ~0xF0000u, mode == RING0 ? 0xC09B00 : 0xD0D0D2D3);
	check_equal(name_of("lsl of code of level 0", mode), s.esi, mode == RING0 ? 0xFFFFFFFF : VA);
}

/* Time and tables, hidden by CR4.TSD and UMIP from all but CPL 0. */
static void test_hidden(enum mode mode)
{
	static const struct { const char *name; u8 code[3], length; bool of_umip, protected; } hidden[] = {
		{"rdtsc with TSD", {0x0F, 0x31}, 2, false, false}, {"sgdt with UMIP", {0x0F, 0x01, 0x07}, 3, true, false}, {"sidt with UMIP", {0x0F, 0x01, 0x0F}, 3, true, false},
		{"smsw with UMIP", {0x0F, 0x01, 0xE0}, 3, true, false}, {"sldt with UMIP", {0x0F, 0x00, 0xC0}, 3, true, true}, {"str with UMIP", {0x0F, 0x00, 0xC8}, 3, true, true},
	};
	u32 cr4 = READ_CR(4), eax = 7, ebx, ecx = 0, edx;
	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	bool has_umip = ecx >> 2 & 1;
	for (u32 i = 0; i < sizeof hidden / sizeof *hidden; i++) {
		if (hidden[i].of_umip && !has_umip) continue;
		struct state s = start(mode, hidden[i].code, hidden[i].length);
		WRITE_CR(4, cr4 | CR4_TSD | (has_umip ? CR4_UMIP : 0));
		execute(mode, &s);
		WRITE_CR(4, cr4);
		check_equal(name_of(hidden[i].name, mode), s.vector, narrow(mode) && hidden[i].protected ? UD : mode == RING0 || mode == REAL ? RUNS : GP);
	}
}

static void test_mode(enum mode mode)
{
	for (u32 i = 0; i < sizeof instructions / sizeof *instructions; i++)
		if (instructions[i].want[mode] != SKIP) test_one(&instructions[i], mode);
	test_flags(mode);
	test_shown(mode);
	test_hidden(mode);
}

void guest_main(void)
{
	real_init();
	tss.io_map = 0xFFFF;
	idt_set(GATE, (u32)(trap_stubs + 16 * GATE), CODE0, 0xEE);
	test_mode(REAL);
	paging_enable();
	for (enum mode mode = RING0; mode < REAL; mode++) test_mode(mode);
}
