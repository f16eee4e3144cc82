/* The thread that serves timers, the terminal, signals and the time limit, so that the vCPU's never waits for anything. It sleeps until the
 * earliest deadline. A halted vCPU serves the guest's timers itself (machine_halt): an idle machine does not wake this thread. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "runtime/machine_internal.h"
#include "runtime/thread.h"

static const int owned_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT };

/* What the thread must wake for. */
static int64_t next_deadline(const struct machine *m)
{
	int64_t own = board_next_deadline(&m->own), guest = board_next_deadline(&m->board.timers);
	return guest < own && guest < m->vcpu_wakes ? guest : own;
}

static void set_timer(struct machine *m, int64_t deadline)
{
	struct itimerspec at = { .it_value = { 0 } }; /* off */
	m->armed = deadline > 0 ? deadline : 1;
	if (deadline != TIMER_NEVER)
		at.it_value = machine_host_time(m->armed);
	timerfd_settime(m->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

void machine_thread_rearm(struct machine *m)
{
	int64_t next = next_deadline(m);
	if (next < m->armed) /* waking too early once is cheaper than setting the timer at every change */
		set_timer(m, next);
}

void machine_thread_relieve(struct machine *m)
{
	m->vcpu_wakes = board_next_deadline(&m->board.timers);
	int64_t next = next_deadline(m);
	if (next > m->armed)
		set_timer(m, next);
}

void machine_thread_notify(struct machine *m)
{
	uint64_t one = 1;
	if (write(m->event_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it is awake */
}

/* SIGTSTP from outside, as Ctrl-Z belongs to the guest: stop for real, with the terminal as it was. */
static void stop_process(void)
{
	machine_restore_terminal();
	kill(getpid(), SIGSTOP);
}

static void handle_signal(struct machine *m, uint32_t number)
{
	if (number == SIGTSTP) {
		stop_process();
	} else if (number == SIGCONT) {
		if (!machine_has_ended(m))
			machine_terminal_resume();
		machine_console_continue(m);
	} else {
		machine_end_locked(m, MACHINE_SIGNAL, number);
	}
}

static void read_signals(struct machine *m)
{
	struct signalfd_siginfo info;
	while (read(m->signal_fd, &info, sizeof(info)) == sizeof(info))
		handle_signal(m, info.ssi_signo);
}

static void clear_counter(int fd)
{
	uint64_t count;
	if (read(fd, &count, sizeof(count)) < 0)
		return; /* somebody set it anew in between */
}

static void serve_once(struct machine *m)
{
	struct epoll_event events[8];
	bool input = false, output = false;
	int n = epoll_wait(m->epoll_fd, events, ARRAY_LEN(events), -1);
	pthread_mutex_lock(&m->lock);
	for (int i = 0; i < n; i++) {
		int fd = events[i].data.fd;
		if (fd == m->timer_fd) {
			m->armed = TIMER_NEVER;
			clear_counter(fd);
		} else if (fd == m->event_fd) {
			clear_counter(fd);
		} else if (fd == m->signal_fd) {
			read_signals(m);
		} else {
			input |= fd == m->input.fd;
			output |= fd == m->output.fd;
		}
	}
	int64_t now = board_now(&m->board);
	board_run_timers(&m->own, now);
	board_run_timers(&m->board.timers, now);
	machine_console_serve(m, input, output);
	machine_thread_rearm(m);
	pthread_mutex_unlock(&m->lock);
}

static void *serve(void *arg)
{
	struct machine *m = arg;
	bool quit = false;
	while (!quit) {
		serve_once(m);
		pthread_mutex_lock(&m->lock);
		quit = m->quit;
		pthread_mutex_unlock(&m->lock);
	}
	return NULL;
}

static int watch_own(struct machine *m, int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
	return fd < 0 || epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

int machine_thread_create(struct machine *m, const char **why)
{
	sigset_t owned;
	sigemptyset(&owned);
	for (size_t i = 0; i < ARRAY_LEN(owned_signals); i++) {
		struct sigaction now;
		/* Ignored by whoever started us (nohup): stays so. */
		if (!sigaction(owned_signals[i], NULL, &now) && now.sa_handler != SIG_IGN)
			sigaddset(&owned, owned_signals[i]);
	}
	pthread_sigmask(SIG_BLOCK, &owned, &m->old_mask);
	signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of write() */
	m->armed = m->vcpu_wakes = TIMER_NEVER;
	prctl(PR_SET_TIMERSLACK, 1UL); /* the vCPU's thread makes the machine; guests expect their timers on time */
	m->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	m->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	m->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	m->signal_fd = signalfd(-1, &owned, SFD_NONBLOCK | SFD_CLOEXEC);
	int error = watch_own(m, m->timer_fd);
	if (!error)
		error = watch_own(m, m->event_fd);
	if (!error)
		error = watch_own(m, m->signal_fd);
	if (error)
		*why = "cannot create timer, event and signal descriptors";
	return error;
}

int machine_start(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	if (m->config.timeout_seconds)
		m->timeout.deadline = board_now(&m->board) + m->config.timeout_seconds * NS_PER_SECOND;
	machine_thread_rearm(m);
	int error = thread_start(&m->thread, serve, m);
	m->started = !error;
	pthread_mutex_unlock(&m->lock);
	machine_thread_notify(m); /* input that cannot be waited for is read from the start */
	return -error;
}

void machine_thread_destroy(struct machine *m)
{
	if (m->started) {
		pthread_mutex_lock(&m->lock);
		m->quit = true;
		pthread_mutex_unlock(&m->lock);
		machine_thread_notify(m);
		pthread_join(m->thread, NULL);
		m->started = false;
	}
	machine_console_drain(m);
	for (const int *fd = (const int[]) { m->epoll_fd, m->timer_fd, m->event_fd, m->signal_fd, -2 }; *fd != -2; fd++)
		if (*fd >= 0)
			close(*fd);
}
