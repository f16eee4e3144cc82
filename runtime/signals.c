/* Host signals of the vCPU's thread: faults of translated code, kicks, and the processor-time sampler. A handler only writes down what
 * happened and where translated code shall go on; the work is done outside, on the C stack. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime/internal.h"

#define KICK_SIGNAL SIGUSR1
#define SAMPLE_SIGNAL SIGUSR2
#define PROFILE_SIGNAL SIGPROF
#define ALT_STACK KIB(128)

/* Signal handlers have no argument of ours: the thread's runtime. */
static _Thread_local struct runtime *current __attribute__((tls_model("initial-exec")));

static bool between(uint64_t pc, const char *from, const char *to)
{
	return pc >= (uint64_t)from && pc < (uint64_t)to;
}

static void leave_by(struct runtime *r, ucontext_t *uc, const char *stub)
{
	r->v->resume_pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uint64_t)stub;
}

static _Noreturn void fail_host(struct runtime *r, const char *why)
{
	r->failure = why;
	siglongjmp(r->host_failure, 1);
}

/* The default action: of a fault when it happens again, of a signal that somebody sent now. */
static void die_by(int signal, const siginfo_t *info)
{
	struct sigaction fatal = {.sa_handler = SIG_DFL};

	machine_restore_terminal();
	sigaction(signal, &fatal, NULL);
	if (info->si_code <= 0)
		raise(signal);
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	struct runtime *r = current;
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;
	uint64_t pc = (uint64_t)regs[REG_RIP];
	bool in_lookup = between(pc, entry_lookup_parked, entry_end);

	if (info->si_code <= 0) {
		die_by(signal, info);
		return;
	}
	if (r && r->running && signal == SIGBUS && regs[REG_TRAPNO] == VEC_PF)
		fail_host(r, "the host has no memory left for the guest's: give a smaller --memory");
	if (r && (cache_contains(r->cache, pc) || in_lookup)) {
		if (regs[REG_TRAPNO] == VEC_PF && return_stack_guard_hit(r, (uint64_t)regs[REG_RSP], (uint64_t)info->si_addr)) {
			/* The return stack is full: a prediction is only that. */
			regs[REG_RSP] = (greg_t)(r->view->return_top - 8);
			r->stats.return_stack_drops++;
			return;
		}
		r->v->host_fault.addr = (uint64_t)info->si_addr;
		r->v->host_fault.trapno = (uint32_t)regs[REG_TRAPNO];
		r->v->host_fault.error = (uint32_t)regs[REG_ERR];
		leave_by(r, uc, entry_host_fault);
		return;
	}
	if (r && r->running) {
		LOG(LOG_RUNTIME, LOG_ERROR, "signal %d in the monitor itself: pc %lx (entry_run at %lx), address %p", signal, (unsigned long)pc,
		    (unsigned long)entry_run, info->si_addr);
		fail_host(r, "the monitor itself faulted");
	}
	die_by(signal, info);
}

static void on_kick(int signal, siginfo_t *info, void *context);

/* Signals that come together are delivered on top of each other: then this one hit another's handler before its first instruction, and
 * what was running is in that one's context, its third argument. */
static bool note_sample(struct runtime *r, const ucontext_t *uc)
{
	const greg_t *regs = uc->uc_mcontext.gregs;
	bool fault = false;

	while (regs[REG_RIP] == (greg_t)on_kick || regs[REG_RIP] == (greg_t)on_fault) {
		fault = regs[REG_RIP] == (greg_t)on_fault;
		regs = ((const ucontext_t *)regs[REG_RDX])->uc_mcontext.gregs;
	}
	return profile_note(r, regs, fault);
}

static void on_kick(int signal, siginfo_t *info, void *context)
{
	struct runtime *r = current;
	ucontext_t *uc = context;
	uint64_t pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];

	(void)info;
	if (!r)
		return;
	if (signal == PROFILE_SIGNAL && (!r->running || !note_sample(r, uc)))
		return;
	if (signal == SAMPLE_SIGNAL)
		__atomic_store_n(&r->sampled, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->v->kick, 1, __ATOMIC_SEQ_CST);
	if (!r->running)
		return;
	const struct block *b = cache_contains(r->cache, pc) ? cache_find_host(r->cache, pc) : NULL;
	if (b && must_finish(r, b))
		return; /* its exit sees the flag */
	/* Interrupts that the guest cannot take now are found at sti, popf and iret. */
	if (cache_contains(r->cache, pc) || between(pc, entry_lookup_parked, entry_end) || between(pc, entry_crossing_parked, entry_crossing_end))
		leave_by(r, uc, entry_kick);
	else if (between(pc, entry_restore_live, entry_restore_end))
		uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uint64_t)entry_interrupted_live;
	else if (between(pc, entry_restore_begin, entry_restore_live))
		uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uint64_t)entry_interrupted;
}

static int set_sampler(struct runtime *r, long ns)
{
	struct itimerspec every = {.it_interval.tv_nsec = ns, .it_value.tv_nsec = ns};

	return timer_settime(r->sampler, 0, &every, NULL) ? -errno : 0;
}

static int start_sampler(struct runtime *r)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SAMPLE_SIGNAL};
	bool chaos = r->config.chaos & CHAOS_KICKS;

	event._sigev_un._tid = r->tid;
	if (timer_create(chaos ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &event, &r->sampler))
		return -errno;
	r->has_sampler = true;
	return set_sampler(r, chaos ? 97000 : SAMPLE_NS);
}

void signals_pace_sampler(struct runtime *r, bool interrupt)
{
	if (interrupt) {
		r->interrupts_seen++;
	} else {
		if (r->interrupts_seen == r->interrupts_before)
			r->interrupts_seen = 0;
		r->interrupts_before = r->interrupts_seen;
	}
	bool slowly = r->interrupts_seen >= INTERRUPTS_TO_SAMPLE_BY && !(r->config.chaos & CHAOS_KICKS);
	if (slowly != r->samples_slowly)
		set_sampler(r, slowly ? SAMPLE_SLOWLY_NS : SAMPLE_NS);
	r->samples_slowly = slowly;
}

static int start_profiler(struct runtime *r)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = PROFILE_SIGNAL};
	struct itimerspec every = {.it_interval.tv_nsec = PROFILE_NS, .it_value.tv_nsec = PROFILE_NS};

	event._sigev_un._tid = r->tid;
	if (timer_create(CLOCK_MONOTONIC, &event, &r->profiler))
		return -errno;
	r->has_profiler = true;
	return timer_settime(r->profiler, 0, &every, NULL) ? -errno : 0;
}

int signals_install(struct runtime *r)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
	struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	struct sigaction kick = {.sa_sigaction = on_kick, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	stack_t alt = {.ss_sp = fences_alloc(&r->fences, ALT_STACK, PROT_READ | PROT_WRITE), .ss_size = ALT_STACK};

	if (!alt.ss_sp)
		return -ENOMEM;
	current = r;
	r->thread = pthread_self();
	r->tid = (int)syscall(SYS_gettid);
	r->alt_stack = alt.ss_sp;
	if (sigaltstack(&alt, NULL))
		return -errno;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		if (sigaction(faults[i], &fault, NULL))
			return -errno;
	if (sigaction(KICK_SIGNAL, &kick, NULL) || sigaction(SAMPLE_SIGNAL, &kick, NULL) || sigaction(PROFILE_SIGNAL, &kick, NULL))
		return -errno;
	int error = start_sampler(r);
	return error || !r->profile ? error : start_profiler(r);
}

void signals_remove(struct runtime *r)
{
	stack_t off = {.ss_flags = SS_DISABLE};

	if (r->has_sampler)
		timer_delete(r->sampler);
	r->has_sampler = false;
	if (r->has_profiler)
		timer_delete(r->profiler);
	r->has_profiler = false;
	current = NULL;
	sigaltstack(&off, NULL);
	if (r->alt_stack)
		fences_free(&r->fences, r->alt_stack, ALT_STACK);
	r->alt_stack = NULL;
}

void runtime_kick(void *ctx)
{
	struct runtime *r = ctx;

	__atomic_store_n(&r->v->kick, 1, __ATOMIC_SEQ_CST);
	if (r->tid && !pthread_equal(pthread_self(), r->thread))
		syscall(SYS_tgkill, getpid(), r->tid, KICK_SIGNAL);
}

void runtime_set_intr(void *ctx, bool asserted)
{
	struct runtime *r = ctx;

	__atomic_store_n(&r->v->intr, asserted, __ATOMIC_SEQ_CST);
}

void runtime_set_nmi(void *ctx)
{
	struct runtime *r = ctx;

	__atomic_store_n(&r->v->nmi, 1, __ATOMIC_SEQ_CST);
}
