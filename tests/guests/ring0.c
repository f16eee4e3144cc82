/* What a kernel's sensitive operations cost, in ticks of the time-stamp counter, each the median of many: by the measures that Adams and Agesen
   (2006) compared monitors with. Each is checked to have happened. tools/bench reads the "# ticks" lines. */
#include "guest.h"
#include "ticks.h"

#define REGION 0x1800000u /* 24 MiB: a page table that only measures of paging touch */
#define SWITCH_PAGES 4u
#define SYSENTER_CS 0x174
#define SYSENTER_ESP 0x175
#define SYSENTER_EIP 0x176

static u8 system_stack[4096] __attribute__((aligned(16)));
volatile u32 system_calls, page_faults, divide_errors;

/* The shortest handlers that there can be: each counts; those of faults skip the two bytes of the instruction. */
__asm__("system_gate:\n\tincl system_calls\n\tiretl\n"
	"system_enter:\n\tincl system_calls\n\tsysexit\n"
	"page_fault:\n\taddl $4, %esp\n\tincl page_faults\n\taddl $2, (%esp)\n\tiretl\n"
	"divide_error:\n\tincl divide_errors\n\taddl $2, (%esp)\n\tiretl\n");
extern u8 system_gate[], system_enter[], page_fault[], divide_error[];

static volatile u32 *at(u32 va)
{
	return (volatile u32 *)va;
}

static void toggle_interrupts(u32 count)
{
	for (; count; count -= 8) __asm__ volatile(TICKS_EIGHT("cli\n\tsti\n\t") : : : "memory");
	__asm__ volatile("cli");
}

static void call_by_gate(u32 count)
{
	for (; count; count--) __asm__ volatile("int $0x80" : : : "memory");
}

static void call_by_sysenter(u32 count)
{
	for (; count; count--) __asm__ volatile("movl %%esp, %%ecx\n\tmovl $1f, %%edx\n\tsysenter\n1:" : : : "ecx", "edx", "memory");
}

static void read_unused_port(u32 count)
{
	for (; count; count--) in8(0x80);
}

static void read_line_status(u32 count)
{
	for (; count; count--) in8(0x3FD);
}

static void load_cr3(u32 count)
{
	for (; count; count--) WRITE_CR(3, page_directory);
}

/* As kernels do around a change of what they have made read-only. */
#define CR0_WP 0x10000u
static u32 protection_sum;

static void toggle_protection(u32 count)
{
	u32 cr0 = READ_CR(0);
	for (; count; count--) {
		WRITE_CR(0, cr0 & ~CR0_WP);
		protection_sum += *at(REGION + 4096);
		WRITE_CR(0, cr0 | CR0_WP);
	}
	WRITE_CR(0, cr0);
}

static void fault_on_page(u32 count)
{
	for (; count; count--) __asm__ volatile("movl (%0), %%eax" : : "c"(REGION) : "eax", "memory");
}

static void divide_by_zero(u32 count)
{
	for (; count; count--) __asm__ volatile("divl %0" : : "c"(0) : "eax", "edx", "cc");
}

/* The frames that a page is mapped to in turns hold their parity. */
static u32 modified_entries[2];
static u32 modified_sum;

/* That a neighbour is in use makes the table one that a monitor must watch. */
static void modify_entry(u32 count)
{
	modified_sum += *at(REGION + 4096);
	for (; count; count--) pte_set(REGION, modified_entries[count & 1]);
}

static void modify_entry_and_touch(u32 count)
{
	for (; count; count--) {
		pte_set(REGION, modified_entries[count & 1]);
		modified_sum += *at(REGION);
	}
}

/* A page with a function in front, MOV EAX, imm32; RET, and data behind. */
static u8 code_page[4096] __attribute__((aligned(4096)));
static u32 code_sum;

static u32 run_code_page(void)
{
	return ((u32(*)(void))code_page)();
}

static void write_beside_code(u32 count)
{
	volatile u32 *word = (volatile u32 *)(code_page + 2048);
	for (; count; count--) *word = count;
}

static void rewrite_code(u32 count)
{
	for (; count; count--) {
		*(volatile u32 *)(code_page + 1) = count & 1;
		code_sum += run_code_page();
	}
}

/* Two address spaces, the same but for a few pages; a switch loads CR3 and ESP and touches these. */
static u32 directories[2];
static u8 switch_stacks[2][256] __attribute__((aligned(16)));
static u32 switch_sum;

static void switch_once(u32 which)
{
	u32 saved;
	__asm__ volatile("movl %%esp, %0\n\tmovl %1, %%cr3\n\tmovl %2, %%esp\n\tpushl %0\n\tpopl %0\n\tmovl %0, %%esp"
			 : "=&r"(saved)
			 : "r"(directories[which]), "r"(switch_stacks[which] + sizeof switch_stacks[0])
			 : "memory");
	for (u32 i = 0; i < SWITCH_PAGES; i++) switch_sum += *at(REGION + i * 4096);
}

static void switch_spaces(u32 count)
{
	for (; count; count--) switch_once(count & 1);
}

/* All of it in ring 3, which sees the same memory. */
static void measure_system_calls(void)
{
	ticks_measure("system call by INT", call_by_gate, 1000);
	ticks_measure("system call by SYSENTER", call_by_sysenter, 1000);
	__asm__ volatile("int $0x81");
}

static u32 times(u32 count)
{
	return (TICKS_SAMPLES + 1) * count;
}

static void test_system_calls(void)
{
	wrmsr(SYSENTER_CS, CODE0);
	wrmsr(SYSENTER_ESP, (u32)(system_stack + sizeof system_stack));
	wrmsr(SYSENTER_EIP, (u32)system_enter);
	idt_set(0x80, (u32)system_gate, CODE0, 0xEE);
	struct state s = state_at(measure_system_calls, 3);
	run(&s);
	check_equal("system calls", system_calls, 2 * times(1000));
}

static void test_faults(void)
{
	pte_set(REGION, 0);
	idt_set(14, (u32)page_fault, CODE0, 0x8E);
	idt_set(0, (u32)divide_error, CODE0, 0x8E);
	ticks_measure("page fault", fault_on_page, 200);
	check_equal("page faults", page_faults, times(200));
	ticks_measure("divide by zero", divide_by_zero, 200);
	check_equal("divide errors", divide_errors, times(200));
	idt_set(14, (u32)(trap_stubs + 16 * 14), CODE0, 0x8E);
	idt_set(0, (u32)trap_stubs, CODE0, 0x8E);
}

static void test_page_tables(void)
{
	for (u32 i = 0; i < 2; i++) {
		u8 *frame = frame_alloc();
		*(u32 *)frame = i;
		modified_entries[i] = (u32)frame | P | W | U | A | D;
	}
	*at(REGION + 4096) = 0;
	ticks_measure("page-table write", modify_entry, 1000);
	ticks_measure("page-table write and touch", modify_entry_and_touch, 1000);
	check_equal("touches after page-table writes", modified_sum, times(1000) / 2);
	ticks_measure("CR3 write", load_cr3, 1000);
	*at(REGION + 4096) = 1;
	ticks_measure("CR0.WP clear and set", toggle_protection, 100);
	check_equal("reads with CR0.WP clear", protection_sum, times(100));
}

static void test_code_writes(void)
{
	memcpy(code_page, (const u8[]){ 0xB8, 0, 0, 0, 0, 0xC3 }, 6);
	check_equal("a function in a page of its own", run_code_page(), 0);
	ticks_measure("write to a code page", write_beside_code, 1000);
	check_equal("writes to a code page", *(u32 *)(code_page + 2048), 1);
	ticks_measure("rewrite code and run it", rewrite_code, 100);
	check_equal("runs of code that was rewritten", code_sum, times(100) / 2);
}

static u32 make_space(u32 number)
{
	u32 *directory = (u32 *)frame_alloc(), *table = (u32 *)frame_alloc();
	memcpy(directory, page_directory, 4096);
	directory[REGION >> 22] = (u32)table | P | W | U;
	for (u32 i = 0; i < SWITCH_PAGES; i++) {
		u8 *frame = frame_alloc();
		*(u32 *)frame = number;
		table[i] = (u32)frame | P | W | U;
	}
	return (u32)directory;
}

static void test_switches(void)
{
	for (u32 i = 0; i < 2; i++) directories[i] = make_space(i);
	ticks_measure("context switch", switch_spaces, 200);
	check_equal("touches after context switches", switch_sum, times(200) / 2 * SWITCH_PAGES);
	WRITE_CR(3, page_directory);
}

void guest_main(void)
{
	paging_enable();
	ticks_measure_common();
	ticks_measure("cli and sti", toggle_interrupts, 8000);
	test_system_calls();
	ticks_measure("in from port 80h", read_unused_port, 1000);
	ticks_measure("in from line status", read_line_status, 1000);
	test_page_tables();
	test_faults();
	test_code_writes();
	test_switches();
	for (unsigned i = 0; i < ticks_measured; i++) {
		const struct ticks *t = &ticks_results[i];
		u32 hundredths = ticks_hundredths(t);
		print("# ticks %u.%u%u %s\n", ticks_whole(t), hundredths / 10, hundredths % 10, t->name);
	}
}
