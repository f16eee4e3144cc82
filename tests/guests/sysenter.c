/* SYSENTER and SYSEXIT, and INT 0x80, as fast paths of every system call (SDM vol. 3, 5.8.7). */
#include "guest.h"

#define MSR_CS 0x174
#define MSR_ESP 0x175
#define MSR_EIP 0x176

static u8 kernel_stack[4096] __attribute__((aligned(16)));
volatile u32 entered_cs, entered_ss, entered_esp, entered_eflags, calls;

/* Counts, notes its state, and returns: EDX = user EIP, ECX = user ESP, as the caller left them. */
__asm__(".globl sysenter_entry\n"
	"sysenter_entry:\n"
	"	pushfl\n"
	"	popl entered_eflags\n"
	"	movw %cs, entered_cs\n"
	"	movw %ss, entered_ss\n"
	"	movl %esp, entered_esp\n"
	"	incl calls\n"
	"	sysexit\n");
extern u8 sysenter_entry[];

/* A hundred calls, by which a monitor may learn what they do, and then this. Each call must do what the registers of its time say. */
static u8 *put_calls(const u8 *behind, u32 size)
{
	u8 bytes[32] = {0xBF, 100, 0, 0, 0, 0x89, 0xE1, 0xBA, 0, 0, 0, 0, 0x0F, 0x34, 0x0F, 0x0B, 0x4F, 0x75, 0xF2};
	memcpy(bytes + 19, behind, size);
	u8 *code = code_put(0x300, bytes, 19 + size);
	u32 back = (u32)code + 16;
	memcpy(code + 8, &back, 4);
	return code;
}

static void check_changes(void)
{
	u8 *code = put_calls((const u8[]){CODE_DONE}, 2);
	struct state s = state_at(code, 3);
	run(&s);
	wrmsr(MSR_ESP, (u32)(kernel_stack + 2048));
	s = state_at(code, 3);
	run(&s);
	check_equal("another stack", entered_esp, (u32)(kernel_stack + 2048));
	wrmsr(MSR_CS, 0x200);
	s = state_at(code, 3);
	run(&s);
	check("other selectors, entered", entered_cs == 0x200 && entered_ss == 0x208);
	check_equal("and left", s.cs, 0x213);
	wrmsr(MSR_CS, CODE0);
	code = put_calls((const u8[]){0xFA, CODE_DONE}, 3); /* cli */
	s = state_at(code, 3);
	run_expect("cli behind, IOPL 0", &s, 13, 0, 19);
	s = state_at(code, 3);
	s.eflags |= 0x3000;
	run_expect("cli behind, IOPL 3", &s, RUN_DONE, 0, 22);
	s = state_at(code, 3);
	run_expect("cli behind, IOPL 0 again", &s, 13, 0, 19);
	code = put_calls((const u8[]){0x0F, 0x31, CODE_DONE}, 4); /* rdtsc */
	s = state_at(code, 3);
	run_expect("rdtsc behind", &s, RUN_DONE, 0, 23);
	u32 cr4 = READ_CR(4);
	WRITE_CR(4, cr4 | 4);
	s = state_at(code, 3);
	run_expect("rdtsc behind, CR4.TSD", &s, 13, 0, 19);
	WRITE_CR(4, cr4);
	s = state_at(code, 3);
	run_expect("rdtsc behind, without", &s, RUN_DONE, 0, 23);
}

void guest_main(void)
{
	paging_enable();
	wrmsr(MSR_CS, CODE0);
	wrmsr(MSR_ESP, (u32)(kernel_stack + sizeof kernel_stack));
	wrmsr(MSR_EIP, (u32)sysenter_entry);
	check_equal("rdmsr gives back what wrmsr set", (u32)rdmsr(MSR_EIP), (u32)sysenter_entry);
	/* mov ecx,esp; mov edx,offset; sysenter; ud2; <back:> int 0x81 */
	u8 bytes[] = {0x89, 0xE1, 0xBA, 0, 0, 0, 0, 0x0F, 0x34, 0x0F, 0x0B, 0x8C, 0xC8, 0x8C, 0xD3, CODE_DONE};
	u8 *code = code_put(0, bytes, sizeof bytes);
	u32 back = (u32)code + 11;
	memcpy(code + 3, &back, 4);
	struct state s = state_at(code, 3);
	s.eflags = 0x202 | EFLAGS_CF;
	run_expect("sysenter and sysexit", &s, RUN_DONE, 0, 17);
	check("entered at CPL 0", entered_cs == CODE0 && entered_ss == DATA0);
	check_equal("on its stack", entered_esp, (u32)(kernel_stack + sizeof kernel_stack));
	check_equal("with IF clear and the other flags as they were", entered_eflags & 0x201, EFLAGS_CF);
	check("back at CPL 3", s.eax == CODE3 && s.ebx == DATA3);
	check_equal("ESP is back", s.esp, (u32)user_stack + 4096 + 2048);
	check_equal("IF stays as sysexit found it", s.eflags & EFLAGS_IF, 0);
	/* A thousand of them in a loop. */
	u8 loop[] = {0xBF, 0xE8, 3, 0, 0, 0x89, 0xE1, 0xBA, 0, 0, 0, 0, 0x0F, 0x34, 0x0F, 0x0B, 0x4F, 0x75, 0xF2, CODE_DONE};
	code = code_put(0x100, loop, sizeof loop);
	back = (u32)code + 16;
	memcpy(code + 8, &back, 4);
	calls = 0;
	s = state_at(code, 3);
	run(&s);
	check_equal("a thousand calls", calls, 1000);
	check_changes();
	s = state_at(CODE(0x0F, 0x34), 0);
	s.edx = (u32)code_area + 0x200;
	code_put(0x200, (const u8[]){CODE_DONE}, 2);
	run(&s);
	check_equal("sysenter from CPL 0 works too", s.cs, CODE3);
	s = state_at(CODE(0x0F, 0x35, CODE_DONE), 3);
	run_expect("sysexit at CPL 3", &s, 13, 0, 0);
	wrmsr(MSR_CS, 0);
	s = state_at(CODE(0x0F, 0x34, CODE_DONE), 3);
	run_expect("sysenter with a null selector", &s, 13, 0, 0);
	s = state_at(CODE(0x0F, 0x05, CODE_DONE), 3);
	run_expect("syscall is no instruction here", &s, 6, 0, 0);
}
