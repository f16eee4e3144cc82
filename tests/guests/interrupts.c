/* External interrupts: the 8259 and 8254, IF and its shadows, HLT, and interrupts in the middle of anything. */
#include "guest.h"

#define IRQ0 0x20
#define PIT_HZ 1193182u

static volatile u32 ticks, first_eip, last_eflags, depth, max_depth;

static void pic_init(void)
{
	out8(0x20, 0x11);
	out8(0xA0, 0x11);
	out8(0x21, IRQ0);
	out8(0xA1, IRQ0 + 8);
	out8(0x21, 4);
	out8(0xA1, 2);
	out8(0x21, 1);
	out8(0xA1, 1);
	out8(0x21, 0xFE);
	out8(0xA1, 0xFF);
}

static void pit_rate(u32 hz)
{
	u32 divisor = PIT_HZ / hz;
	out8(0x43, 0x34);
	out8(0x40, (u8)divisor);
	out8(0x40, (u8)(divisor >> 8));
}

static void tick(struct trap_frame *f)
{
	/* Of several only the first says when it was taken: a slow machine may owe another before IF is clear again. */
	if (!ticks++) first_eip = f->eip;
	last_eflags = f->eflags;
	out8(0x20, 0x20);
}

static void tick_nested(struct trap_frame *f)
{
	(void)f;
	ticks++;
	if (++depth > max_depth) max_depth = depth;
	out8(0x20, 0x20);
	if (depth < 4) {
		u32 now = ticks;
		__asm__ volatile("sti");
		while (ticks == now) {
		}
		__asm__ volatile("cli");
	}
	depth--;
}

static void sti(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static void cli(void)
{
	__asm__ volatile("cli" : : : "memory");
}

static void test_loops(void)
{
	u32 spins = 0;
	ticks = 0;
	sti();
	while (ticks < 10 && spins < 2000000000u) spins++;
	cli();
	check("ticks arrive in a loop", ticks >= 10);
	check("EFLAGS.IF in the frame", last_eflags & EFLAGS_IF);
	/* A loop that is one instruction: jmp to itself; only an interrupt ends it. */
	ticks = 0;
	__asm__ volatile("sti; 1: cmpl $3, %0; jb 1b; cli" : : "m"(ticks) : "cc", "memory");
	check("a two-instruction loop is interrupted", ticks >= 3);
	/* Flags survive an interrupt at any instruction: a checksum computed with adc chains, with interrupts and without. */
	u32 sums[2];
	for (u32 round = 0; round < 2; round++) {
		u32 a = 1, b = 2, count = 5000000;
		if (round) sti();
		__asm__ volatile("1: adc %1, %0; rcl $1, %1; adc $0x1234567, %1; xor %0, %1; seto %%al; add %%al, %b0; dec %2; jnz 1b"
				 : "+q"(a), "+r"(b), "+r"(count) : : "eax", "cc");
		cli();
		sums[round] = a ^ b;
	}
	check_equal("flags and registers survive interrupts", sums[1], sums[0]);
}

static void test_masked(void)
{
	ticks = 0;
	cli();
	for (volatile u32 i = 0; i < 30000000; i++) {
	}
	check_equal("no tick while IF is clear", ticks, 0);
	/* One is pending now. sti; cli: the shadow covers only one instruction, cli, and no interrupt fits between. */
	__asm__ volatile("sti; cli" : : : "memory");
	check_equal("sti, cli: no interrupt between", ticks, 0);
	__asm__ volatile("sti; nop; cli" : : : "memory");
	check("sti, nop: taken", ticks >= 1);
	check("EFLAGS.IF is clear after cli", !(({ u32 f; __asm__ volatile("pushf; pop %0" : "=r"(f)); f; }) & EFLAGS_IF));
}

static void wait_pending(void)
{
	/* Read the request register until IRQ 0 is in it. */
	out8(0x20, 0x0A);
	for (u32 i = 0; i < 100000000 && !(in8(0x20) & 1); i++) {
	}
}

static void test_enabling(void)
{
	u32 where;
	cli();
	ticks = 0;
	wait_pending();
	__asm__ volatile("pushf; orl $0x200, (%%esp); popf; 1: nop; nop; cli; movl $1b, %0" : "=r"(where) : : "memory", "cc");
	check("popf that sets IF takes a pending interrupt", ticks >= 1);
	check_equal("and at once", first_eip, where);
	ticks = 0;
	wait_pending();
	__asm__ volatile("pushf; orl $0x200, (%%esp); push %%cs; push $1f; iret; 1: nop; cli; movl $1b, %0" : "=r"(where) : : "memory", "cc");
	check("iret that sets IF takes a pending interrupt", ticks >= 1);
	check_equal("and at once, iret", first_eip, where);
	ticks = 0;
	wait_pending();
	__asm__ volatile("sti; 1: nop; 2: nop; cli; movl $2b, %0" : "=r"(where) : : "memory");
	check_equal("sti: taken behind the next instruction", first_eip, where);
	check("taken then", ticks >= 1);
	ticks = 0;
	wait_pending();
	__asm__ volatile("mov %%ss, %%ecx; sti; nop; mov %%ecx, %%ss; 1: nop; cli; movl $1b, %0" : "=r"(where) : : "ecx", "memory");
	check("taken before mov ss", ticks >= 1);
	/* mov ss; mov esp: no interrupt on the half-made stack. sti's shadow covers mov ss, whose shadow covers mov esp. */
	ticks = 0;
	wait_pending();
	__asm__ volatile("mov %%ss, %%ecx; mov %%esp, %%edx; sti; mov %%ecx, %%ss; mov %%edx, %%esp; 1: nop; cli; movl $1b, %0"
			 : "=r"(where) : : "ecx", "edx", "memory");
	check("mov ss: taken", ticks >= 1);
	/* At CPL 3 interrupts come with IF set, whatever popf tries. */
	ticks = 0;
	struct state s = state_at(CODE(0x6A, 0x02, 0x9D, 0x8B, 0x03, 0x39, 0xC8, 0x74, 0xFA, CODE_DONE), 3);
	s.eflags |= EFLAGS_IF;
	s.ebx = (u32)&ticks;
	s.ecx = 0;
	u8 user_loop[] = {0x6A, 0x02, 0x9D, 0x8B, 0x03, 0x39, 0xC8, 0x74, 0xFA, CODE_DONE};
	s.eip = (u32)code_put(0, user_loop, sizeof user_loop);
	run(&s);
	check_equal("user loop, popf without IF: interrupted all the same", s.vector, RUN_DONE);
}

static void test_halt(void)
{
	ticks = 0;
	for (u32 i = 0; i < 5; i++) __asm__ volatile("sti; hlt; cli" : : : "memory");
	check("hlt wakes by each tick", ticks >= 5);
	u32 where;
	ticks = 0;
	__asm__ volatile("1: sti; hlt; 2: cli; movl $2b, %0" : "=r"(where) : : "memory");
	check("interrupt's EIP is behind hlt", first_eip == where);
}

static void test_nested(void)
{
	trap_handle(IRQ0, tick_nested);
	ticks = depth = max_depth = 0;
	sti();
	while (max_depth < 4) {
	}
	cli();
	trap_handle(IRQ0, tick);
	check_equal("nested interrupts", max_depth, 4);
	while (depth != 0) {
	}
}

/* Long string operations are interrupted, and end right. */
static void test_strings(void)
{
	u32 base = 0x1000000, size = 0x800000, before;
	ticks = 0;
	sti();
	for (u32 round = 0; round < 8; round++) {
		u32 count = size / 4, to = base;
		__asm__ volatile("rep stosl" : "+c"(count), "+D"(to) : "a"(round * 0x01010101) : "memory");
		count = size / 8;
		u32 from = base, half = base + size / 2;
		__asm__ volatile("rep movsl" : "+c"(count), "+S"(from), "+D"(half) : : "memory");
	}
	before = ticks;
	cli();
	u32 wrong = 0;
	for (u32 i = 0; i < size / 4; i += 1001) wrong += ((volatile u32 *)base)[i] != 0x07070707;
	check_equal("long string operations under interrupts: wrong", wrong, 0);
	print("# %u ticks meanwhile\n", before);
}

static void test_spurious_and_slave(void)
{
	/* Masked in the PIC: no tick however long IF is set. */
	out8(0x21, 0xFF);
	sti();
	ticks = 0;
	for (volatile u32 i = 0; i < 10000000; i++) {
	}
	cli();
	check_equal("masked in the PIC", ticks, 0);
	out8(0x21, 0xFE);
	sti();
	for (volatile u32 i = 0; i < 100000000 && !ticks; i++) {
	}
	cli();
	check("unmasked: comes", ticks > 0);
}

void guest_main(void)
{
	pic_init();
	pit_rate(500);
	trap_handle(IRQ0, tick);
	test_loops();
	test_masked();
	test_enabling();
	test_halt();
	test_nested();
	test_strings();
	test_spurious_and_slave();
	paging_enable();
	test_loops();
	test_halt();
}
