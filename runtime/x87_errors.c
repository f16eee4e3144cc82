/* x87 errors while CR0.NE is clear (vol. 1, 8.7.2 and appendix D; vol. 3, 2.5): FERR# and IGNNE#. The board's end is devices/fpu_error.c.
 *
 * A waiting instruction that meets an unmasked exception asserts FERR#, and the processor is halted before it: the next interrupt finds
 * its EIP. While the board answers with IGNNE#, instructions run one at a time, because a change of the status word takes FERR# away and
 * only a look tells; a waiting one meets the exception on the host, whose CR0.NE is set, and runs with its flags hidden.
 *
 * Not built: FERR# as some processors assert it already at the instruction that raised the exception; here it is always the next waiting
 * one. The first exception's pointers (FIP, FDP) are lost once another x87 instruction has run under IGNNE#, as they are on a processor. */
#include "runtime/internal.h"
#include "runtime/machine.h"

bool runtime_x87_error(struct vcpu *v)
{
	struct runtime *r = runtime_of(v);

	if (r->ignne) {
		cpu_hide_x87(v);
		return false;
	}
	if (r->machine)
		machine_set_ferr(r->machine, true);
	v->halted = true;
	v->shadow_interrupts = 0;
	r->single_step = false;
	return true;
}

void x87_errors_look(struct runtime *r)
{
	if (r->v->x87_hidden)
		cpu_show_x87(r->v);
	if (!cpu_x87_pending())
		machine_set_ferr(r->machine, false);
}

/* From the write to port F0h, or a reset: the vCPU's thread. Translated code must not go on by itself behind the write. */
void runtime_set_ignne(void *ctx, bool asserted)
{
	struct runtime *r = ctx;

	r->ignne = asserted;
	if (asserted)
		__atomic_store_n(&r->v->kick, 1, __ATOMIC_SEQ_CST);
}
