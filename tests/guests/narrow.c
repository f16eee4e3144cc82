/* Transfers of 16 bits in 32-bit code: EIP is cut, whichever way it is reached, and the stack holds words (SDM vol. 2, JMP, CALL, RET, Jcc, LOOP, IRET). With a 16-bit address size
 * the count is CX. */
#include "guest.h"

#define LOW 0x8000u
#define VA 0x1800000u
enum { SHORT = 1, REL16, FAR_IMMEDIATE, BY_EBX, BY_MEMORY, BY_STACK };

static const struct transfer {
	const char *name;
	u8 code[4], length, how;
	u32 ecx, left; /* ECX after it */
	u32 esp;       /* what it adds */
	u8 frame;      /* bytes popped or pushed, as they are looked at */
	bool stays;    /* it goes on behind */
} transfers[] = {
	{"jmp rel8", {0x66, 0xEB}, 2, SHORT, 5, 5, 0, 0, false},
	{"jmp rel16", {0x66, 0xE9}, 2, REL16, 5, 5, 0, 0, false},
	{"jz rel8, taken", {0x66, 0x74}, 2, SHORT, 5, 5, 0, 0, false},
	{"jnz rel8, not taken", {0x66, 0x75}, 2, SHORT, 5, 5, 0, 0, true},
	{"jz rel16, taken", {0x66, 0x0F, 0x84}, 3, REL16, 5, 5, 0, 0, false},
	{"jnz rel16, not taken", {0x66, 0x0F, 0x85}, 3, REL16, 5, 5, 0, 0, true},
	{"call rel16", {0x66, 0xE8}, 2, REL16, 5, 5, (u32)-2, 2, false},
	{"loop", {0x66, 0xE2}, 2, SHORT, 5, 4, 0, 0, false},
	{"loop to its end", {0x66, 0xE2}, 2, SHORT, 1, 0, 0, 0, true},
	{"loope by cx", {0x66, 0x67, 0xE1}, 3, SHORT, 0x10000, 0x1FFFF, 0, 0, false},
	{"loop by cx to its end", {0x66, 0x67, 0xE2}, 3, SHORT, 0x10001, 0x10000, 0, 0, true},
	{"loopne, equal", {0x66, 0xE0}, 2, SHORT, 5, 4, 0, 0, true},
	{"jcxz", {0x66, 0x67, 0xE3}, 3, SHORT, 0x10000, 0x10000, 0, 0, false},
	{"jcxz, not taken", {0x66, 0x67, 0xE3}, 3, SHORT, 1, 1, 0, 0, true},
	{"jecxz, not taken", {0x66, 0xE3}, 2, SHORT, 0x10000, 0x10000, 0, 0, true},
	{"jmp bx", {0x66, 0xFF, 0xE3}, 3, BY_EBX, 5, 5, 0, 0, false},
	{"call bx", {0x66, 0xFF, 0xD3}, 3, BY_EBX, 5, 5, (u32)-2, 2, false},
	{"jmp m16", {0x66, 0xFF, 0x26}, 3, BY_MEMORY, 5, 5, 0, 0, false},
	{"call m16", {0x66, 0xFF, 0x16}, 3, BY_MEMORY, 5, 5, (u32)-2, 2, false},
	{"jmp m16:16", {0x66, 0xFF, 0x2E}, 3, BY_MEMORY, 5, 5, 0, 0, false},
	{"call m16:16", {0x66, 0xFF, 0x1E}, 3, BY_MEMORY, 5, 5, (u32)-4, 4, false},
	{"jmp ptr16:16", {0x66, 0xEA}, 2, FAR_IMMEDIATE, 5, 5, 0, 0, false},
	{"call ptr16:16", {0x66, 0x9A}, 2, FAR_IMMEDIATE, 5, 5, (u32)-4, 4, false},
	{"ret", {0x66, 0xC3}, 2, BY_STACK, 5, 5, 2, 0, false},
	{"ret 6", {0x66, 0xC2, 6, 0}, 4, BY_STACK, 5, 5, 8, 0, false},
	{"retf", {0x66, 0xCB}, 2, BY_STACK, 5, 5, 4, 0, false},
	{"retf 6", {0x66, 0xCA, 6, 0}, 4, BY_STACK, 5, 5, 10, 0, false},
	{"iret", {0x66, 0xCF}, 2, BY_STACK, 5, 5, 6, 0, false},
};

/* Many times, so that what is linked, predicted and looked up has its turn. */
static void test_transfer(const struct transfer *t, unsigned cpl)
{
	u32 wrong = 0, selector = cpl ? CODE3 : CODE0;
	for (u32 round = 0; round < 20; round++) {
		u8 code[20] = {CODE_DONE};
		u32 at = 2 + t->length, start = 0x200 + 64 * (round & 3), target = LOW;
		memcpy(code + 2, t->code, t->length);
		u32 begin = (u32)code_area + start + 2, next = begin + t->length;
		if (t->how == SHORT) {
			code[at++] = 0x20;
			next++;
			target = (next + 0x20) & 0xFFFF;
		} else if (t->how == REL16) {
			next += 2;
			u16 distance = (u16)(LOW - next);
			memcpy(code + at, &distance, 2);
			at += 2;
		} else if (t->how == FAR_IMMEDIATE) {
			next += 4;
			memcpy(code + at, (const u16[]){LOW, (u16)selector}, 4);
			at += 4;
		}
		memcpy(code + at, (const u8[]){CODE_DONE}, 2);
		memcpy((void *)target, (const u8[]){CODE_DONE}, 2);
		struct state s = state_at(code_put(start, code, sizeof code) + 2, cpl);
		memcpy((void *)VA, (const u16[]){LOW, (u16)selector}, 4);
		memcpy((void *)s.esp, (const u16[]){LOW, (u16)selector, 0x0042}, 6);
		s.ebx = 0xABCD0000 | LOW;
		s.esi = VA;
		s.ecx = t->ecx;
		s.eflags |= EFLAGS_ZF;
		u32 esp = s.esp;
		run(&s);
		bool good = s.vector == RUN_DONE && s.eip == (t->stays ? next : target) + 2 && s.ecx == t->left && s.esp == esp + t->esp && s.cs == selector;
		if (t->frame) good &= *word_at(s.esp) == (next & 0xFFFF) && (t->frame == 2 || *word_at(s.esp + 2) == selector);
		if (!good && wrong++ == 0) print("# %s at CPL %u: trap %u at %x, ECX %x, ESP %x\n", t->name, cpl, s.vector, s.eip, s.ecx, s.esp - esp);
	}
	check_equal(t->name, wrong, 0);
}

void guest_main(void)
{
	paging_enable();
	for (u32 i = 0; i < 2 * sizeof transfers / sizeof *transfers; i++) test_transfer(&transfers[i / 2], i & 1 ? 3 : 0);
}
