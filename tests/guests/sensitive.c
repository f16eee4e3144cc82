/* The instructions that make the processor hard to virtualize, and the privileged ones: at CPL 0, at CPL 3 and in virtual-8086 mode, each with
 * IOPL 0 and 3, against what the manual says of each (SDM vol. 2; vol. 3, 20.2). */
#include "guest.h"

#define VA 0x1800000u
#define GATE 0x40u
enum mode { RING0, RING3, RING3_IOPL3, VM, VM_IOPL3, MODES };
/* What happens: RUNS, or a vector (an error code, if there is one, is 0). */
enum { RUNS = 3 /* INT3, which stands behind each */, UD = 6, GP = 13, SKIP = 0xFF };
enum memory { NOTHING, GDTR, IDTR };

static const struct instruction {
	const char *name;
	u8 code[4], length;
	u8 want[MODES];
	u32 eax, ecx;
	enum memory memory;
} instructions[] = {
	{"pushf", {0x9C}, 1, {RUNS, RUNS, RUNS, GP, RUNS}, 0, 0, NOTHING},
	{"popf", {0x9D}, 1, {RUNS, RUNS, RUNS, GP, RUNS}, 0, 0, NOTHING},
	{"cli", {0xFA}, 1, {RUNS, GP, RUNS, GP, RUNS}, 0, 0, NOTHING},
	{"sti", {0xFB}, 1, {RUNS, GP, RUNS, GP, RUNS}, 0, 0, NOTHING},
	{"int n", {0xCD, GATE}, 2, {GATE, GATE, GATE, GP, GATE}, 0, 0, NOTHING},
	{"hlt", {0xF4}, 1, {SKIP, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"lar", {0x0F, 0x02, 0xC0}, 3, {RUNS, RUNS, RUNS, UD, UD}, 0, 0, NOTHING},
	{"lsl", {0x0F, 0x03, 0xC0}, 3, {RUNS, RUNS, RUNS, UD, UD}, 0, 0, NOTHING},
	{"verr", {0x0F, 0x00, 0xE0}, 3, {RUNS, RUNS, RUNS, UD, UD}, 0, 0, NOTHING},
	{"verw", {0x0F, 0x00, 0xE8}, 3, {RUNS, RUNS, RUNS, UD, UD}, 0, 0, NOTHING},
	{"arpl", {0x63, 0xC0}, 2, {RUNS, RUNS, RUNS, UD, UD}, 0, 0, NOTHING},
	{"mov eax, ds", {0x8C, 0xD8}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov fs, eax", {0x8E, 0xE0}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"mov cs, eax", {0x8E, 0xC8}, 2, {UD, UD, UD, UD, UD}, 0, 0, NOTHING},
	{"push ds", {0x1E}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"pop es", {0x07}, 1, {RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"lgs", {0x0F, 0xB5, 0x07}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"sgdt", {0x0F, 0x01, 0x07}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"sidt", {0x0F, 0x01, 0x0F}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"sldt", {0x0F, 0x00, 0xC0}, 3, {RUNS, RUNS, RUNS, UD, UD}, 0, 0, NOTHING},
	{"str", {0x0F, 0x00, 0xC8}, 3, {RUNS, RUNS, RUNS, UD, UD}, 0, 0, NOTHING},
	{"smsw", {0x0F, 0x01, 0xE0}, 3, {RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"lgdt", {0x0F, 0x01, 0x17}, 3, {RUNS, GP, GP, GP, GP}, 0, 0, GDTR},
	{"lidt", {0x0F, 0x01, 0x1F}, 3, {RUNS, GP, GP, GP, GP}, 0, 0, IDTR},
	{"lgdt of a register", {0x0F, 0x01, 0xD5}, 3, {UD, UD, UD, UD, UD}, 0, 0, NOTHING},
	{"lldt", {0x0F, 0x00, 0xD0}, 3, {RUNS, GP, GP, UD, UD}, 0, 0, NOTHING},
	{"ltr of a null selector", {0x0F, 0x00, 0xD8}, 3, {SKIP /* TCG loads it, and ends then */, GP, GP, UD, UD}, 0, 0, NOTHING},
	{"lmsw", {0x0F, 0x01, 0xF0}, 3, {RUNS, GP, GP, GP, GP}, 1, 0, NOTHING},
	{"clts", {0x0F, 0x06}, 2, {RUNS, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"mov eax, cr0", {0x0F, 0x20, 0xC0}, 3, {RUNS, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"mov cr2, eax", {0x0F, 0x22, 0xD0}, 3, {RUNS, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"mov cr1, eax", {0x0F, 0x22, 0xC8}, 3, {UD, UD, UD, UD, UD}, 0, 0, NOTHING},
	{"mov eax, dr6", {0x0F, 0x21, 0xF0}, 3, {RUNS, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"mov dr0, eax", {0x0F, 0x23, 0xC0}, 3, {RUNS, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"invlpg", {0x0F, 0x01, 0x3F}, 3, {RUNS, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"invd", {0x0F, 0x08}, 2, {RUNS, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"wbinvd", {0x0F, 0x09}, 2, {RUNS, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"rdmsr", {0x0F, 0x32}, 2, {RUNS, GP, GP, GP, GP}, 0, 0x174, NOTHING},
	{"wrmsr", {0x0F, 0x30}, 2, {RUNS, GP, GP, GP, GP}, 0, 0x174, NOTHING},
	{"rdmsr of none", {0x0F, 0x32}, 2, {GP, GP, GP, GP, GP}, 0, 0x12345678, NOTHING},
	{"rdpmc without counters", {0x0F, 0x33}, 2, {GP, GP, GP, GP, GP}, 0, 99, NOTHING},
	{"rdtsc", {0x0F, 0x31}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"cpuid", {0x0F, 0xA2}, 2, {RUNS, RUNS, RUNS, RUNS, RUNS}, 0, 0, NOTHING},
	{"sysenter to no segment", {0x0F, 0x34}, 2, {GP, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"sysexit from no segment", {0x0F, 0x35}, 2, {GP, GP, GP, GP, GP}, 0, 0, NOTHING},
	{"in al, 61h", {0xE4, 0x61}, 2, {RUNS, GP, RUNS, GP, GP}, 0, 0, NOTHING},
	{"in al, dx", {0xEC}, 1, {RUNS, GP, RUNS, GP, GP}, 0, 0, NOTHING},
	{"out 80h, al", {0xE6, 0x80}, 2, {RUNS, GP, RUNS, GP, GP}, 0, 0, NOTHING},
	{"out dx, al", {0xEE}, 1, {RUNS, GP, RUNS, GP, GP}, 0, 0, NOTHING},
	{"insb", {0x6C}, 1, {RUNS, GP, RUNS, GP, GP}, 0, 0, NOTHING},
	{"outsb", {0x6E}, 1, {RUNS, GP, RUNS, GP, GP}, 0, 0, NOTHING},
};

static const char *const mode_names[MODES] = {"CPL 0", "CPL 3", "CPL 3, IOPL 3", "V86", "V86, IOPL 3"};

static struct state prepare(const struct instruction *i, enum mode mode)
{
	u8 code[5];
	memcpy(code, i->code, i->length);
	code[i->length] = 0xCC;
	bool v86 = mode >= VM;
	u32 iopl = mode == RING3_IOPL3 || mode == VM_IOPL3 ? 3 : 0;
	struct state s;
	if (v86) {
		s = v86_state(code, i->length + 1u, iopl);
		*(volatile u32 *)(V86_STACK + V86_SP) = 2;
		s.ebx = s.edi = s.esi = 0x10;
	} else {
		s = state_at(code_put(0, code, i->length + 1u), mode == RING0 ? 0 : 3);
		s.eflags |= iopl << 12;
		*(volatile u32 *)s.esp = 2; /* flags, or a null selector */
		s.ebx = s.edi = s.esi = VA;
	}
	memset((void *)VA, 0, 16);
	memset((void *)(V86_DATA + 0x10), 0, 16);
	if (i->memory == GDTR) __asm__ volatile("sgdt %0" : "=m"(*(u64 *)VA));
	if (i->memory == IDTR) __asm__ volatile("sidt %0" : "=m"(*(u64 *)VA));
	s.eax = i->eax;
	s.ecx = i->ecx;
	s.edx = i->code[1] == 0x30 ? 0 : 0x80;
	return s;
}

static const char *name_of(const struct instruction *i, enum mode mode)
{
	static char name[64];
	char *to = name;
	for (const char *c = i->name; *c;) *to++ = *c++;
	*to++ = ',';
	*to++ = ' ';
	for (const char *c = mode_names[mode]; *c;) *to++ = *c++;
	*to = 0;
	return name;
}

static void test_one(const struct instruction *i, enum mode mode)
{
	struct state s = prepare(i, mode);
	u32 vector = i->want[mode], start = s.eip;
	run(&s);
	u32 at = vector == RUNS ? i->length + 1u : vector == GATE ? i->length : 0;
	bool good = s.vector == vector && s.error == 0 && s.eip == start + at;
	if (!check(name_of(i, mode), good)) print("# trap %u error %x at +%d\n", s.vector, s.error, s.eip - start);
}

void guest_main(void)
{
	paging_enable();
	tss.io_map = 0xFFFF;
	idt_set(GATE, (u32)(trap_stubs + 16 * GATE), CODE0, 0xEE);
	for (u32 i = 0; i < sizeof instructions / sizeof *instructions; i++)
		for (u32 mode = 0; mode < MODES; mode++)
			if (instructions[i].want[mode] != SKIP)
				test_one(&instructions[i], (enum mode)mode);
}
