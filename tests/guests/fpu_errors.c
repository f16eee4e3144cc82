/* x87 errors with CR0.NE clear: the board's way, FERR# to IRQ 13, which a write to port F0h answers (SDM vol. 1, 8.7.2 and appendix D). */
#include "guest.h"

#define CR0_MP 2u
#define CR0_EM 4u
#define CR0_TS 8u
#define CR0_NE 0x20u

static void set_cr0(u32 set, u32 clear)
{
	WRITE_CR(0, (READ_CR(0) & ~clear) | set);
}

static volatile u32 errors, error_eip, error_status, ticks, tick_eip;
static volatile bool leave_pending;

static void x87_error(struct trap_frame *f)
{
	u16 status;
	if (!errors++) error_eip = f->eip;
	out8(0xF0, 0);
	__asm__ volatile("fwait; fnstsw %0" : "=a"(status)); /* IGNNE#: it does not wait */
	error_status = status;
	if (!leave_pending) __asm__ volatile("fnclex");
	out8(0xA0, 0x20);
	out8(0x20, 0x20);
}

static void tick(struct trap_frame *f)
{
	if (!ticks++) tick_eip = f->eip;
	__asm__ volatile("fnclex");
	out8(0x20, 0x20);
}

static void pic_init(u8 master, u8 slave)
{
	static const u8 words[][2] = {{0x20, 0x11}, {0xA0, 0x11}, {0x21, 0x20}, {0xA1, 0x28}, {0x21, 4}, {0xA1, 2}, {0x21, 1}, {0xA1, 1}};
	for (u32 i = 0; i < sizeof words / 2; i++) out8(words[i][0], words[i][1]);
	out8(0x21, master);
	out8(0xA1, slave);
}

static const u16 control = 0x37B; /* zero divide unmasked */

/* Divide by zero, and wait; the address of the waiting instruction. */
static u32 divide_and_wait(void)
{
	u32 at_wait;
	__asm__ volatile("fninit; fldcw %1; fld1; fldz; fdivrp; movl $1f, %0; sti; nop; 1: fwait; nop; nop; cli" : "=&r"(at_wait) : "m"(control) : "memory");
	return at_wait;
}

static void test_irq13(void)
{
	u32 wait_eip;
	u16 status;
	trap_handle(0x2D, x87_error);
	trap_handle(0x20, tick);
	pic_init(0xFB, 0xDF);
	wait_eip = divide_and_wait();
	check_equal("without NE: IRQ 13", errors, 1);
	check_equal("IRQ 13 comes before the waiting instruction", error_eip, wait_eip);
	check_equal("the status word after a waiting instruction under IGNNE#", error_status & 0x84, 0x84);
	for (u32 i = 0; i < 3; i++) divide_and_wait();
	check_equal("an IRQ 13 for each error", errors, 4);
	leave_pending = true;
	divide_and_wait();
	leave_pending = false;
	__asm__ volatile("sti; fld1; fld1; faddp; fwait; nop; cli; fnstsw %0" : "=a"(status) : : "memory");
	check_equal("an error that is not cleared stays ignored", errors, 5);
	check_equal("and pending", status & 0x84, 0x84);
	__asm__ volatile("fnclex");
	divide_and_wait();
	check_equal("until it is cleared: the next one is reported", errors, 6);
}

static void test_other_waiting(void)
{
	static u32 image[27];
	u32 before = errors;
	u16 loaded;
	__asm__ volatile("fninit; fnsave %0" : "=m"(image));
	/* Masked at first; FLDCW makes it pending. */
	__asm__ volatile("fld1; fldz; fdivrp; fldcw %2; sti; nop; frstor %1; cli; fnstcw %0" : "=m"(loaded) : "m"(image), "m"(control) : "memory");
	check_equal("frstor waits", errors, before + 1);
	check_equal("and is run after all", loaded, 0x37F);
	__asm__ volatile("fninit; fld1; fldz; fdivrp; fldcw %0; sti; nop; fld1; cli" : : "m"(control) : "memory");
	check_equal("fld1 waits", errors, before + 2);
	__asm__ volatile("fninit; fld1; fldz; fdivrp; fldcw %0; sti; nop; emms; cli" : : "m"(control) : "memory");
	check_equal("emms waits", errors, before + 3);
	/* With NE, #MF, whatever the board did before. */
	set_cr0(CR0_NE, 0);
	struct state s = state_at(CODE(0x9B, CODE_DONE), 3);
	__asm__ volatile("fninit; fld1; fldz; fdivrp; fldcw %0" : : "m"(control));
	run_expect("with NE", &s, 16, 0, 0);
	set_cr0(0, CR0_NE);
	__asm__ volatile("fnclex; fninit");
}

/* Any interrupt ends the stop. */
static void test_tick(void)
{
	pic_init(0xFE, 0xFF);
	out8(0x43, 0x34);
	out8(0x40, 0);
	out8(0x40, 0x40);
	ticks = 0;
	u32 wait_eip = divide_and_wait();
	check("the processor stops until an interrupt", ticks == 1 && tick_eip == wait_eip);
	pic_init(0xFF, 0xFF);
	out8(0xF0, 0);
}

void guest_main(void)
{
	paging_enable();
	set_cr0(CR0_MP, CR0_EM | CR0_TS | CR0_NE);
	test_irq13();
	test_other_waiting();
	test_tick();
}
