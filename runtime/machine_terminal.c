/* The user's terminal in raw mode, and its way back. The state is the process's, since atexit and signal handlers take no argument. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "runtime/machine_internal.h"

static struct {
	int fd;
	bool known;                     /* saved and raw are filled in, handlers are installed */
	volatile sig_atomic_t active;   /* the terminal is in raw mode */
	struct termios saved, raw;
	pid_t guardian;                 /* restores the terminal after a SIGKILL; 0: none */
	int guardian_fd;                /* it sees this end of a pipe close */
} terminal;

/* Signals that end a process unless somebody handles them; those that the machine's thread reads are not among them. */
static const int fatal_signals[] = { SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS, SIGXCPU, SIGXFSZ, SIGALRM, SIGUSR1,
	SIGUSR2, SIGVTALRM, SIGPROF };

bool machine_terminal_in_background(int fd)
{
	pid_t group = tcgetpgrp(fd);
	return group > 0 && group != getpgrp();
}

/* SIGTTOU would stop a process that sets the terminal from the background. */
static void set(const struct termios *to)
{
	sigset_t ttou, old;
	int saved_errno = errno;
	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &ttou, &old);
	tcsetattr(terminal.fd, TCSANOW, to);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = saved_errno;
}

void machine_restore_terminal(void)
{
	if (!terminal.active)
		return;
	terminal.active = 0;
	if (!machine_terminal_in_background(terminal.fd)) /* whoever is in front has set it already */
		set(&terminal.saved);
}

void machine_terminal_resume(void)
{
	if (!terminal.known || terminal.active || machine_terminal_in_background(terminal.fd))
		return;
	set(&terminal.raw);
	terminal.active = 1;
}

/* Restore, then die of the signal as if it had not been handled: SA_RESETHAND has put the default back. */
static void die(int signal_number)
{
	machine_restore_terminal();
	raise(signal_number);
}

static void install_handlers(void)
{
	for (size_t i = 0; i < ARRAY_LEN(fatal_signals); i++) {
		struct sigaction old, mine = { .sa_handler = die, .sa_flags = SA_RESETHAND | SA_ONSTACK };
		if (!sigaction(fatal_signals[i], NULL, &old) && !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL)
			sigaction(fatal_signals[i], &mine, NULL);
	}
	atexit(machine_restore_terminal);
}

static bool same(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_lflag == b->c_lflag && a->c_cflag == b->c_cflag;
}

/* The guardian's life: wait for the machine's end; if the terminal is still as we made it, nobody has restored it. Holds nothing but the
 * terminal and the pipe, and calls nothing that a forked process may not. */
_Noreturn static void guard(int pipe_fd)
{
	struct termios now;
	sigset_t all;
	char byte;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	dup2(terminal.fd, 0);
	dup2(pipe_fd, 1);
	close_range(2, ~0u, 0);
	while (read(1, &byte, 1) < 0 && errno == EINTR)
		;
	if (!machine_terminal_in_background(0) && !tcgetattr(0, &now) && same(&now, &terminal.raw))
		tcsetattr(0, TCSANOW, &terminal.saved);
	_exit(0);
}

/* Without it only SIGKILL leaves the terminal raw, so that a failure to start it is none of ours. */
static void start_guardian(void)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC))
		return;
	terminal.guardian = fork();
	if (terminal.guardian == 0)
		guard(ends[0]);
	close(ends[0]);
	terminal.guardian_fd = ends[1];
	if (terminal.guardian < 0) {
		close(ends[1]);
		terminal.guardian = 0;
	}
}

void machine_terminal_leave(void)
{
	machine_restore_terminal();
	if (!terminal.guardian)
		return;
	close(terminal.guardian_fd);
	waitpid(terminal.guardian, NULL, 0);
	terminal.guardian = 0;
}

int machine_terminal_enter(int fd)
{
	if (tcgetattr(fd, &terminal.saved))
		return -errno;
	terminal.fd = fd;
	terminal.raw = terminal.saved;
	cfmakeraw(&terminal.raw); /* output, too, is the guest's affair: it sends its own carriage returns */
	terminal.raw.c_cc[VMIN] = 1;
	terminal.raw.c_cc[VTIME] = 0;
	if (!terminal.known)
		install_handlers();
	terminal.known = true;
	terminal.active = 1;
	if (tcsetattr(fd, TCSANOW, &terminal.raw)) {
		terminal.active = 0;
		return -errno;
	}
	start_guardian();
	return 0;
}
