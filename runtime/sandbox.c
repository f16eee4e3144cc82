#include "runtime/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "base/types.h"

/* Whatever their arguments are: they work on descriptors, memory and timers that the process has. */
static const uint16_t always[] = {
	SYS_munmap, SYS_madvise, SYS_futex, SYS_rt_sigreturn, SYS_write, SYS_read, SYS_epoll_wait, SYS_timerfd_settime, /* often */
	SYS_clock_gettime, SYS_getpid, SYS_gettid, SYS_epoll_pwait, SYS_epoll_ctl, SYS_poll, SYS_ppoll, SYS_writev, SYS_close,
	SYS_fstat, SYS_newfstatat, SYS_statx, SYS_stat, SYS_lseek, SYS_getdents64, SYS_pread64, SYS_brk, SYS_mremap, SYS_timer_settime, SYS_timer_delete,
	SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_time, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_sigaltstack, SYS_sched_yield,
	SYS_getrandom, SYS_restart_syscall, SYS_exit, SYS_exit_group, SYS_readlink, SYS_getrusage, SYS_rseq, SYS_set_robust_list, SYS_uname,
	SYS_sysinfo, SYS_ftruncate,
};
static const uint32_t terminal_requests[] = {TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGPGRP, TIOCGWINSZ, FIONREAD};
static const uint32_t file_requests[] = {F_GETFD, F_SETFD, F_GETFL, F_SETFL};

struct program {
	struct sock_filter code[170];
	unsigned count;
};

static void add(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
	p->code[p->count++] = (struct sock_filter)BPF_JUMP(code, k, yes, no);
}

static void load(struct program *p, unsigned offset)
{
	add(p, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void answer(struct program *p, uint32_t what)
{
	add(p, BPF_RET | BPF_K, what, 0, 0);
}

static void load_argument(struct program *p, unsigned n)
{
	load(p, (unsigned)offsetof(struct seccomp_data, args) + 8 * n); /* the low half: all that these are */
}

/* Does the system call come to what follows, `length` instructions that all end in an answer? */
static void only_for(struct program *p, uint32_t number, uint8_t length)
{
	add(p, BPF_JMP | BPF_JEQ | BPF_K, number, 0, length);
}

/* Allowed without these bits in the argument. */
static void allow_without(struct program *p, uint32_t number, unsigned argument, uint32_t bits)
{
	only_for(p, number, 4);
	load_argument(p, argument);
	add(p, BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0);
	answer(p, SECCOMP_RET_ALLOW);
	answer(p, SECCOMP_RET_ERRNO | EPERM);
}

/* Allowed with one of these values as argument. */
static void allow_with(struct program *p, uint32_t number, unsigned argument, const uint32_t *values, unsigned count)
{
	only_for(p, number, (uint8_t)(2 * count + 2));
	load_argument(p, argument);
	for (unsigned i = 0; i < count; i++) {
		add(p, BPF_JMP | BPF_JEQ | BPF_K, values[i], 0, 1);
		answer(p, SECCOMP_RET_ALLOW);
	}
	answer(p, SECCOMP_RET_ERRNO | EPERM);
}

static void build(struct program *p)
{
	const uint32_t self[] = {(uint32_t)getpid()};

	load(p, offsetof(struct seccomp_data, arch));
	add(p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	answer(p, SECCOMP_RET_ERRNO | EPERM); /* int 80h is another table of calls */
	load(p, offsetof(struct seccomp_data, nr));
	/* Each answers for its call; the others find the number still loaded. */
	allow_without(p, SYS_mmap, 2, PROT_EXEC);
	allow_without(p, SYS_mprotect, 2, PROT_EXEC);
	allow_without(p, SYS_openat, 2, O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND);
	allow_without(p, SYS_fallocate, 1, UINT32_MAX); /* no mode: it makes what is missing, and takes nothing away */
	allow_with(p, SYS_tgkill, 0, self, 1);
	allow_with(p, SYS_kill, 0, self, 1);
	allow_with(p, SYS_ioctl, 1, terminal_requests, ARRAY_LEN(terminal_requests));
	allow_with(p, SYS_fcntl, 1, file_requests, ARRAY_LEN(file_requests));
	for (unsigned i = 0; i < ARRAY_LEN(always); i++) {
		add(p, BPF_JMP | BPF_JEQ | BPF_K, always[i], 0, 1);
		answer(p, SECCOMP_RET_ALLOW);
	}
	answer(p, SECCOMP_RET_ERRNO | EPERM);
}

int sandbox_enter(void)
{
	struct program p = {.count = 0};
	/* Without the second flag, older kernels would slow every load of the thread (speculative store bypass). */
	unsigned flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;

	build(&p);
	struct sock_fprog filter = {.len = (unsigned short)p.count, .filter = p.code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	long failed = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
	return failed ? -EPERM : 0;
}
