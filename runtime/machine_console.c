/* The serial line's host end: a buffer out to a file, written by the machine's thread soon after a byte arrives, and a buffer in, from
 * standard input, with the keys after Ctrl-A. Neither drops a byte as long as somebody takes it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime/machine_internal.h"

#define FLUSH_NS 1000000        /* collect output this long */
#define FLUSH_BYTES 4096u       /* or until there is this much */
#define OUTPUT_RESERVE 1024u    /* the guest is told to wait before the buffer is full to the brim */
#define SHORT_WRITE 256u        /* what a file that polls as writable takes without blocking */
#define READ_BYTES 4096u
#define GIVE_BACK UART_FIFO
#define FILE_INPUT (64u << 10)  /* read ahead from a file; a terminal's keys are all read, since Ctrl-A x may be among them */
#define CUT_SHORT_MS 1000

#define CTRL_A 0x01

static const char help[] =
	"\r\nCtrl-A x   end the machine\r\n"
	"Ctrl-A a   send Ctrl-A to the guest (so does Ctrl-A Ctrl-A)\r\n"
	"Ctrl-A h   this help\r\n";

/* --- out --- */

static void fire_flush(void *ctx, int64_t now)
{
	struct machine *m = ctx;
	(void)now;
	m->output.due = true;
}

void machine_console_send(void *ctx, uint8_t byte)
{
	struct machine *m = ctx;
	struct output *o = &m->output;
	while (o->count == OUTPUT_SIZE && m->started && !o->dead && !machine_has_ended(m))
		pthread_cond_wait(&m->drained, &m->lock);
	if (o->fd < 0 || o->dead || o->count == OUTPUT_SIZE)
		return;
	o->ring[(o->head + o->count++) % OUTPUT_SIZE] = byte;
	if (o->watched || o->due)
		return;
	if (o->count == 1)
		o->flush.deadline = board_now(&m->board) + FLUSH_NS;
	else if (o->count == FLUSH_BYTES)
		o->flush.deadline = board_now(&m->board);
}

static void send_serial(void *ctx, uint8_t byte)
{
	struct machine *m = ctx;
	if (m->config.serial != SERIAL_NONE)
		machine_console_send(m, byte);
}

static bool writable(void *ctx)
{
	const struct machine *m = ctx;
	return m->output.dead || m->output.count <= OUTPUT_SIZE - OUTPUT_RESERVE;
}

static void print(struct machine *m, const char *text)
{
	while (*text && m->output.count < OUTPUT_SIZE)
		machine_console_send(m, (uint8_t)*text++);
}

/* Write a piece. The caller may drop the lock around it: only the writer moves head. Returns bytes, or a negative errno. */
static ssize_t write_piece(const struct output *o, uint32_t count)
{
	uint32_t n = OUTPUT_SIZE - o->head < count ? OUTPUT_SIZE - o->head : count;
	if (!o->nonblocking) {
		struct pollfd p = { .fd = o->fd, .events = POLLOUT };
		if (poll(&p, 1, 0) == 0)
			return -EAGAIN;
		n = n < SHORT_WRITE ? n : SHORT_WRITE;
	}
	ssize_t done = write(o->fd, o->ring + o->head, n);
	return done < 0 ? -errno : done;
}

/* Take note of what write_piece() did. Returns false if there is no use in going on now. */
static bool account(struct output *o, ssize_t done)
{
	if (done > 0) {
		o->head = (o->head + (uint32_t)done) % OUTPUT_SIZE;
		o->count -= (uint32_t)done;
	} else if (done != -EINTR && done != -EAGAIN) {
		o->dead = true;
		o->error = (int)-done;
		o->count = 0;
	}
	return o->count && done != -EAGAIN;
}

static void watch(struct machine *m, int fd, uint32_t events, bool on, bool *watched)
{
	struct epoll_event e = { .events = events, .data.fd = fd };
	if (on != *watched && !epoll_ctl(m->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &e))
		*watched = on;
}

static void serve_output(struct machine *m)
{
	struct output *o = &m->output;
	bool more = o->count > 0;
	while (more) {
		uint32_t count = o->count;
		pthread_mutex_unlock(&m->lock);
		ssize_t done = write_piece(o, count);
		pthread_mutex_lock(&m->lock);
		more = account(o, done);
	}
	o->due = false;
	watch(m, o->fd, EPOLLOUT, o->count > 0, &o->watched);
	if (o->count && !o->watched) /* cannot be waited for: try again later */
		o->flush.deadline = board_now(&m->board) + FLUSH_NS;
	pthread_cond_broadcast(&m->drained);
	if (writable(m))
		uart_output_ready(&m->com1);
}

void machine_console_drain(struct machine *m)
{
	struct output *o = &m->output;
	unsigned why = atomic_load(&m->end);
	bool cut_short = why == MACHINE_SIGNAL || why == MACHINE_TIMEOUT || why == MACHINE_USER_QUIT;
	while (o->fd >= 0 && o->count) {
		struct pollfd p[2] = { { .fd = o->fd, .events = POLLOUT }, { .fd = m->signal_fd, .events = POLLIN } };
		int ready = poll(p, 2, cut_short ? CUT_SHORT_MS : -1);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0 || (p[1].revents && !p[0].revents))
			return; /* it has had its time, or the user has had enough */
		account(o, write_piece(o, o->count));
	}
}

/* A file description of our own, so that O_NONBLOCK is not set on one that others share. */
static void open_private(struct output *o, int fd)
{
	struct stat s;
	char name[32];
	o->fd = fd;
	if (fstat(fd, &s)) {
		o->fd = -1;
	} else if (S_ISREG(s.st_mode)) {
		o->nonblocking = true; /* in effect */
	} else if (S_ISFIFO(s.st_mode) || S_ISCHR(s.st_mode)) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		int own = open(name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		o->nonblocking = o->own_fd = own >= 0;
		o->fd = own >= 0 ? own : fd;
	}
}

/* --- in --- */

static unsigned receive(void *ctx, uint8_t *to, unsigned max)
{
	struct machine *m = ctx;
	struct input *in = &m->input;
	uint32_t n = in->tail - in->head < max ? in->tail - in->head : max;
	memcpy(to, in->bytes + in->head, n);
	in->head += n;
	if (n && in->open && !in->watched && in->tail - in->head < FILE_INPUT / 2)
		machine_thread_notify(m);
	return n;
}

static void give_back(void *ctx, unsigned count)
{
	struct machine *m = ctx;
	m->input.head -= count;
}

/* Make room behind tail. Copies at most half of the buffer, and that rarely. */
static uint32_t make_room(struct input *in)
{
	uint32_t keep = in->head < GIVE_BACK ? in->head : GIVE_BACK, waste = in->head - keep;
	if (waste && (in->head == in->tail || waste > INPUT_SIZE / 2)) {
		memmove(in->bytes, in->bytes + waste, in->tail - waste);
		in->head -= waste;
		in->tail -= waste;
	}
	return INPUT_SIZE - in->tail;
}

static void escape_key(struct machine *m, uint8_t key)
{
	switch (key) {
	case 'x': case 'X': machine_end_locked(m, MACHINE_USER_QUIT, 0); break;
	case 'h': case 'H': case '?': print(m, help); break;
	case 'a': case 'A': case CTRL_A: m->input.bytes[m->input.tail++] = CTRL_A; break;
	default: break;
	}
}

static void accept_bytes(struct machine *m, const uint8_t *from, size_t n)
{
	struct input *in = &m->input;
	for (size_t i = 0; i < n; i++) {
		if (in->escape) {
			in->escape = false;
			escape_key(m, from[i]);
		} else if (in->terminal && from[i] == CTRL_A) {
			in->escape = true;
		} else {
			in->bytes[in->tail++] = from[i];
		}
	}
	uart_input_ready(&m->com1);
}

/* Whether to read more now. */
static bool wants(struct input *in)
{
	return in->open && !in->stopped && make_room(in) >= READ_BYTES && (in->terminal || in->tail - in->head < FILE_INPUT);
}

static void close_input(struct machine *m)
{
	watch(m, m->input.fd, EPOLLIN, false, &m->input.watched);
	m->input.open = false;
	pthread_cond_broadcast(&m->wake); /* perhaps nothing is left that can wake the guest */
}

static void read_input(struct machine *m)
{
	struct input *in = &m->input;
	uint8_t bytes[READ_BYTES];
	pthread_mutex_unlock(&m->lock);
	ssize_t n = read(in->fd, bytes, sizeof(bytes));
	int error = errno;
	pthread_mutex_lock(&m->lock);
	if (n > 0)
		accept_bytes(m, bytes, (size_t)n);
	else if (n < 0 && error == EIO && in->terminal && machine_terminal_in_background(in->fd))
		in->stopped = true;
	else if (n == 0 || (error != EINTR && error != EAGAIN))
		close_input(m);
}

static void serve_input(struct machine *m, bool ready)
{
	struct input *in = &m->input;
	if (ready && wants(in))
		read_input(m);
	while (!in->pollable && wants(in))
		read_input(m);
	if (in->open && in->pollable)
		watch(m, in->fd, EPOLLIN, wants(in), &in->watched);
}

void machine_console_continue(struct machine *m)
{
	m->input.stopped = false;
}

bool machine_console_has_input(const struct machine *m)
{
	return m->input.open || m->input.head != m->input.tail;
}

/* --- both --- */

void machine_console_serve(struct machine *m, bool input_ready, bool output_ready)
{
	serve_input(m, input_ready);
	if (output_ready || (m->output.due && !m->output.watched))
		serve_output(m);
}

struct uart_line machine_console_line(struct machine *m)
{
	return (struct uart_line) { .send = send_serial, .writable = writable, .receive = receive, .give_back = give_back, .ctx = m };
}

static int open_input(struct machine *m, const char **why)
{
	struct input *in = &m->input;
	struct stat s;
	if (fstat(STDIN_FILENO, &s))
		return 0; /* closed: no input */
	in->open = true;
	in->fd = STDIN_FILENO;
	in->terminal = isatty(in->fd);
	struct epoll_event e = { .events = EPOLLIN, .data.fd = in->fd };
	int error = epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, in->fd, &e) ? errno : 0;
	in->watched = in->pollable = !error;
	if (error && error != EPERM) {
		*why = "cannot wait for standard input";
		return -error;
	}
	error = in->terminal ? machine_terminal_enter(in->fd) : 0;
	if (error)
		*why = "cannot put the terminal into raw mode";
	return error;
}

int machine_console_create(struct machine *m, const char **why)
{
	struct output *o = &m->output;
	o->flush = (struct board_timer) { .fire = fire_flush, .ctx = m, .irq = -1 };
	board_add_timer(&m->own, &o->flush);
	m->input.fd = -1;
	if (m->config.serial == SERIAL_STDIO) {
		open_private(o, STDOUT_FILENO);
		return open_input(m, why);
	}
	if (m->config.serial == SERIAL_NONE) {
		open_private(o, STDERR_FILENO); /* for port E9h */
		return 0;
	}
	o->fd = open(m->config.serial_file, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY | O_CLOEXEC, 0666);
	o->own_fd = true;
	if (o->fd >= 0) {
		struct stat s;
		o->nonblocking = !fstat(o->fd, &s) && S_ISREG(s.st_mode);
		return 0;
	}
	*why = "cannot open the file for serial output";
	return -errno;
}

/* A reader that went away need not be told. */
static void report_loss(const struct machine *m)
{
	const struct output *o = &m->output;
	const char *where = m->config.serial == SERIAL_FILE ? m->config.serial_file : "standard output";
	if (o->dead && o->error != EPIPE)
		LOG(LOG_DEVICES, LOG_ERROR, "the serial line's output to '%s' could not be written (%s): what came then is lost", where,
		    strerror(o->error));
}

void machine_console_destroy(struct machine *m)
{
	if (m->input.terminal)
		machine_terminal_leave();
	if (m->output.own_fd && m->output.fd >= 0)
		close(m->output.fd);
	report_loss(m);
}
