/* The user's terminal in raw mode, and its way back. The state is the process's, since atexit and signal handlers take no argument. */
#include <errno.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "runtime/machine_internal.h"

static struct {
	int fd;
	bool known;                     /* saved and raw are filled in, handlers are installed */
	volatile sig_atomic_t active;   /* the terminal is in raw mode */
	struct termios saved, raw;
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
	return 0;
}
