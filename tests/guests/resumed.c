/* A return that nothing predicted leads to behind a call, before that call's function runs as a whole: resumed_test.py looks at the blocks that come of it. */
#include "guest.h"

extern u8 resumed_function[];

__asm__(".text\n"
	"resumed_leaf: ret\n"
	"resumed_function: add $1, %eax\n"
	"	call resumed_leaf\n"
	"resumed_behind: add $2, %eax\n"
	"	ret\n");

/* Loads of DS that change the mode drop all predictions of returns. */
static u32 run_both(void)
{
	u32 sum = 0, null = 0, flat = DATA0;

	__asm__ volatile("mov %1, %%ds\n\tmov %2, %%ds\n\t"
			 "push $1f\n\tpush $resumed_behind\n\tret\n"
			 "1:	call resumed_function"
			 : "+a"(sum)
			 : "r"(null), "r"(flat)
			 : "memory", "cc");
	return sum;
}

void guest_main(void)
{
	check_equal("behind the call, then the whole function", run_both(), 2 + 1 + 2);
	print("# function %x\n", (u32)resumed_function);
}
