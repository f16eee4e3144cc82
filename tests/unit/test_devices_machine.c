/* The whole machine with its thread, driven as the vCPU would: halting, ends, and the serial line on real files and terminals. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "runtime/machine.h"
#include "tests/shim/test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CRASHES_ARE_CAUGHT true /* by the sanitizer, which then exits */
#elif defined(__has_feature)
#define CRASHES_ARE_CAUGHT __has_feature(address_sanitizer)
#else
#define CRASHES_ARE_CAUGHT false
#endif

#define COM1 0x3F8
#define LSR 0x3FD

static atomic_int kicks, intr;

static void on_intr(void *ctx, bool asserted)
{
	(void)ctx;
	atomic_store(&intr, asserted);
}

static void on_kick(void *ctx)
{
	(void)ctx;
	atomic_fetch_add(&kicks, 1);
}

static struct machine *create(struct machine_config config)
{
	struct machine *m = NULL;
	const char *why = "";
	config.set_intr = on_intr;
	config.kick = on_kick;
	config.ram_size = MIB(16);
	atomic_store(&kicks, 0);
	atomic_store(&intr, 0);
	if (machine_create(&m, &config, &why))
		FAIL("machine_create: %s", why);
	return m;
}

static void out(struct machine *m, uint16_t port, uint8_t value) { machine_io_write(m, port, 1, value); }
static uint8_t in(struct machine *m, uint16_t port) { return (uint8_t)machine_io_read(m, port, 1); }

/* Automatic EOI, vectors at 20h; `mask` for the master. */
static void program_pic(struct machine *m, uint8_t mask)
{
	out(m, 0x20, 0x11), out(m, 0x21, 0x20), out(m, 0x21, 4), out(m, 0x21, 3), out(m, 0x21, mask);
	out(m, 0xA0, 0x11), out(m, 0xA1, 0x28), out(m, 0xA1, 2), out(m, 0xA1, 3), out(m, 0xA1, 0xFF);
}

static void program_timer(struct machine *m, uint8_t control, uint16_t count)
{
	out(m, 0x43, control);
	out(m, 0x40, (uint8_t)count), out(m, 0x40, (uint8_t)(count >> 8));
}

static void open_com1(struct machine *m)
{
	out(m, COM1 + 3, 3), out(m, COM1 + 2, 0xC7), out(m, COM1 + 4, 0x0B), out(m, COM1 + 1, 1);
}

static void print(struct machine *m, const char *text)
{
	for (; *text; text++) {
		while (!(in(m, LSR) & 0x20) && !machine_ended(m, NULL))
			;
		out(m, COM1, (uint8_t)*text);
	}
}

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

TEST(devices_machine, periodic_timer_wakes_at_its_rate)
{
	struct machine *m = create((struct machine_config) { .serial = SERIAL_NONE });
	REQUIRE(m && !machine_start(m));
	program_pic(m, 0xFE);
	program_timer(m, 0x34, 11932); /* 100 Hz */
	while (machine_acknowledge(m) >= 0)
		;
	int64_t before = now();
	for (int i = 0; i < 20; i++) {
		CHECK(machine_halt(m, true, true));
		CHECK_EQ(machine_acknowledge(m), 0x20);
	}
	int64_t took = now() - before;
	CHECK(took > 180000000 && took < 400000000);
	CHECK_EQ(machine_acknowledge(m), -1);
	machine_destroy(m);
}

TEST(devices_machine, a_bios_left_the_timer_running)
{
	uint8_t *ram = calloc(1, MIB(1));
	struct machine *m = create((struct machine_config) { .serial = SERIAL_NONE, .ram = ram, .testdev = true });
	REQUIRE(m && !machine_start(m));
	machine_install_tables(m);
	int64_t before = now();
	for (int i = 0; i < 3; i++) {
		CHECK(machine_halt(m, true, true));
		CHECK_EQ(machine_acknowledge(m), 8);
		out(m, 0x20, 0x20);
	}
	CHECK(now() - before > 100000000); /* 55 ms each, the first one's beginning aside */
	CHECK_EQ(in(m, 0xA1), 0xFF);
	/* Vector 8: F000:FEA5; any other: one that only returns. */
	CHECK_EQ(ram[32] | ram[33] << 8 | ram[34] << 16 | (uint32_t)ram[35] << 24, 0xF000FEA5u);
	CHECK_EQ(ram[0xFFEA5 + 6], 0xCF);
	CHECK_EQ(ram[4 * 0x73] | ram[4 * 0x73 + 1] << 8, 0xFF53);
	CHECK_EQ(ram[0xFFF53], 0xCF);
	machine_destroy(m);
	free(ram);
}

TEST(devices_machine, running_vcpu_is_kicked)
{
	struct machine *m = create((struct machine_config) { .serial = SERIAL_NONE });
	REQUIRE(m && !machine_start(m));
	program_pic(m, 0xFE);
	program_timer(m, 0x30, 1193); /* once, after 1 ms */
	CHECK_EQ(atomic_load(&kicks), 0);
	for (int i = 0; i < 1000 && !atomic_load(&intr); i++)
		usleep(1000);
	CHECK(atomic_load(&intr));
	CHECK_EQ(atomic_load(&kicks), 1);
	CHECK(machine_halt(m, true, true)); /* INTR stands: comes back at once */
	CHECK_EQ(machine_acknowledge(m), 0x20);
	CHECK(!atomic_load(&intr));
	machine_destroy(m);
}

TEST(devices_machine, halt_without_hope)
{
	struct machine *m = create((struct machine_config) { .serial = SERIAL_NONE });
	REQUIRE(m && !machine_start(m));
	CHECK(!machine_halt(m, false, true));
	CHECK(!machine_halt(m, true, true));
	program_pic(m, 0xFF);
	program_timer(m, 0x34, 1193);
	CHECK(!machine_halt(m, true, true)); /* it runs, but is masked */
	out(m, 0x21, 0xFE);
	CHECK(!machine_halt(m, false, true));
	CHECK(machine_halt(m, true, true));
	machine_destroy(m);
}

static long microseconds(const struct rusage *u)
{
	return 1000000 * (u->ru_utime.tv_sec + u->ru_stime.tv_sec) + u->ru_utime.tv_usec + u->ru_stime.tv_usec;
}

/* How often threads other than this one went to sleep. */
static long sleeps_of_others(void)
{
	struct rusage all, own;
	getrusage(RUSAGE_SELF, &all);
	getrusage(RUSAGE_THREAD, &own);
	return all.ru_nvcsw - own.ru_nvcsw;
}

TEST(devices_machine, idle_costs_next_to_nothing)
{
	struct machine *m = create((struct machine_config) { .serial = SERIAL_NONE });
	struct rusage before, after;
	unsigned ticks = 0;
	REQUIRE(m && !machine_start(m));
	program_pic(m, 0xFE);
	program_timer(m, 0x34, 4773); /* 250 Hz */
	getrusage(RUSAGE_SELF, &before);
	long sleeps = sleeps_of_others();
	int64_t start = now();
	while (now() < start + 500000000) {
		machine_halt(m, true, true);
		ticks += machine_acknowledge(m) == 0x20;
	}
	getrusage(RUSAGE_SELF, &after);
	CHECK(microseconds(&after) - microseconds(&before) < 20000); /* 4% of half a second: twice the guest's whole allowance, on a busy host */
	CHECK(sleeps_of_others() - sleeps < 10);                       /* a tick wakes the halted vCPU alone */
	CHECK(ticks > 10);
	machine_destroy(m);
}

/* The machine's thread serves the guest's timers again as soon as the vCPU runs. */
TEST(devices_machine, timer_goes_on_between_halts)
{
	struct machine *m = create((struct machine_config) { .serial = SERIAL_NONE });
	REQUIRE(m && !machine_start(m));
	program_pic(m, 0xFE);
	program_timer(m, 0x34, 4773);
	while (machine_acknowledge(m) >= 0)
		;
	for (int i = 0; i < 10; i++) {
		CHECK(machine_halt(m, true, true));
		CHECK_EQ(machine_acknowledge(m), 0x20);
		CHECK(!atomic_load(&intr));
		for (int j = 0; j < 1000 && !atomic_load(&intr); j++)
			usleep(1000);
		CHECK_EQ(machine_acknowledge(m), 0x20);
	}
	machine_destroy(m);
}

TEST(devices_machine, time_limit_ends_a_halted_run)
{
	struct machine *m = create((struct machine_config) { .serial = SERIAL_NONE, .timeout_seconds = 1 });
	REQUIRE(m && !machine_start(m));
	program_pic(m, 0xFE);
	program_timer(m, 0x34, 0);
	while (!machine_ended(m, NULL)) {
		CHECK(machine_halt(m, true, true));
		machine_acknowledge(m);
	}
	CHECK_EQ(machine_ended(m, NULL), MACHINE_TIMEOUT);
	CHECK(machine_halt(m, false, true)); /* an ended run is no stuck one */
	machine_destroy(m);
}

TEST(devices_machine, first_end_stands_and_reset_is_taken_back)
{
	struct machine *m = create((struct machine_config) { .serial = SERIAL_NONE, .debug_exit = true, .debug_exit_port = 0xF4 });
	uint32_t value;
	REQUIRE(m);
	out(m, 0x64, 0xFE);
	CHECK_EQ(machine_ended(m, &value), MACHINE_RESET);
	CHECK_EQ(atomic_load(&kicks), 1);
	machine_reset(m);
	CHECK_EQ(machine_ended(m, &value), MACHINE_RUNS);
	machine_io_write(m, 0xF4, 4, 0x11);
	out(m, 0x64, 0xFE);
	CHECK_EQ(machine_ended(m, &value), MACHINE_DEBUG_EXIT);
	CHECK_EQ(value, 0x11);
	machine_reset(m);
	CHECK_EQ(machine_ended(m, &value), MACHINE_DEBUG_EXIT);
	machine_destroy(m);
}

TEST(devices_machine, exit_port_must_be_free)
{
	struct machine *m = NULL;
	const struct machine_config config = { .serial = SERIAL_NONE, .debug_exit = true, .debug_exit_port = 0x3F6 };
	const char *why = NULL;
	CHECK_EQ(machine_create(&m, &config, &why), -EINVAL);
	CHECK(why && !m);
}

TEST(devices_machine, memory_without_device_reads_ones)
{
	struct machine *m = create((struct machine_config) { .serial = SERIAL_NONE });
	REQUIRE(m);
	machine_mmio_write(m, 0xFEE00000, 4, 0);
	CHECK_EQ(machine_mmio_read(m, 0xFEE00000, 1), 0xFF);
	CHECK_EQ(machine_mmio_read(m, 0xFEE00000, 4), 0xFFFFFFFF);
	CHECK_EQ(machine_mmio_read(m, 0xFEE00000, 8), UINT64_MAX);
	machine_destroy(m);
}

TEST(devices_machine, serial_output_goes_to_a_file)
{
	char name[] = "/tmp/bt-vmm-serial-XXXXXX", got[64] = "";
	int fd = mkstemp(name);
	struct machine *m = create((struct machine_config) { .serial = SERIAL_FILE, .serial_file = name });
	REQUIRE(m && !machine_start(m));
	print(m, "hello\n");
	for (int i = 0; i < 1000 && read(fd, got, sizeof(got)) == 0; i++)
		usleep(1000); /* promptly, without an end */
	CHECK_STR(got, "hello\n");
	out(m, 0xE9, '!');
	machine_destroy(m); /* what is left is written */
	CHECK_EQ(pread(fd, got, sizeof(got) - 1, 0), 7);
	CHECK_STR(got, "hello\n!");
	close(fd);
	unlink(name);
}

TEST(devices_machine, serial_file_that_cannot_be_opened)
{
	struct machine *m = NULL;
	const struct machine_config config = { .serial = SERIAL_FILE, .serial_file = "/nonexistent/serial" };
	const char *why = NULL;
	CHECK_EQ(machine_create(&m, &config, &why), -ENOENT);
	CHECK(why && !m);
}

/* --- standard input and output: each case in a process of its own --- */

/* Run `guest` with the machine on the given descriptors; its exit code is why the run ended, plus 0x80 if the guest was stuck. */
static pid_t spawn(int input, int output, void (*guest)(struct machine *m), bool session)
{
	pid_t pid = fork();
	if (pid)
		return pid;
	alarm(30);
	/* Under nohup, or in the background of a script, these are ignored, and would be here. */
	signal(SIGHUP, SIG_DFL), signal(SIGINT, SIG_DFL), signal(SIGQUIT, SIG_DFL);
	if (session) {
		setsid();
		ioctl(input, TIOCSCTTY, 0);
	}
	dup2(input, 0), dup2(output, 1);
	for (int fd = 3; fd < 64; fd++)
		close(fd);
	struct machine *m = create((struct machine_config) { .serial = SERIAL_STDIO });
	if (!m || machine_start(m))
		_exit(0x70);
	program_pic(m, 0xEF); /* COM1 alone */
	open_com1(m);
	guest(m);
	int code = (int)machine_ended(m, NULL);
	machine_destroy(m);
	exit(code);
}

static int wait_for(pid_t pid)
{
	int status = 0;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Echo until a full stop, then power off. Ends as stuck when no input can come. */
static void echo_guest(struct machine *m)
{
	while (!machine_ended(m, NULL)) {
		if (!machine_halt(m, true, true)) {
			print(m, "<stuck>");
			return;
		}
		machine_acknowledge(m);
		while (in(m, LSR) & 1) {
			char text[2] = { (char)in(m, COM1), 0 };
			print(m, text);
			if (*text == '.')
				machine_end_run(m, MACHINE_POWER_OFF, 0);
		}
	}
}

static void read_until(int fd, char *to, size_t size, const char *end)
{
	size_t n = 0;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	while (n + 1 < size && !strstr(to, end) && poll(&p, 1, 10000) > 0) {
		ssize_t got = read(fd, to + n, size - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
		to[n] = 0;
	}
}

/* Which interrupt comes first, a byte's or that of a timer that runs already as the vCPU halts? A single byte makes one only after four
 * characters' time: a deadline that is set while the vCPU sleeps until a later one. */
static void guest_with_timer(struct machine *m)
{
	program_pic(m, 0xEE);
	print(m, "?");
	program_timer(m, 0x30, 0xFFFF); /* 55 ms */
	machine_halt(m, true, true);
	print(m, machine_acknowledge(m) == 0x24 ? "byte" : "timer");
	machine_end_run(m, MACHINE_POWER_OFF, 0);
}

TEST(devices_machine, deadline_while_halted)
{
	char got[64] = "";
	for (int i = 0; i < 20 && strcmp(got, "byte") != 0; i++) { /* a busy host may take 55 ms */
		int to[2], from[2];
		REQUIRE(!pipe(to) && !pipe(from));
		pid_t pid = spawn(to[0], from[1], guest_with_timer, false);
		close(from[1]);
		read_until(from[0], got, sizeof(got), "?");
		usleep(3000);
		CHECK_EQ(write(to[1], "!", 1), 1);
		*got = 0;
		read_until(from[0], got, sizeof(got), "\n"); /* to the end */
		CHECK_EQ(wait_for(pid), MACHINE_POWER_OFF);
		close(to[0]), close(to[1]), close(from[0]);
	}
	CHECK_STR(got, "byte");
}

TEST(devices_machine, piped_input_is_echoed_and_its_end_is_no_end)
{
	int to[2], from[2];
	char got[256] = "";
	REQUIRE(!pipe(to) && !pipe(from));
	pid_t pid = spawn(to[0], from[1], echo_guest, false);
	close(to[0]), close(from[1]);
	CHECK_EQ(write(to[1], "a\x01x b", 5), 5); /* Ctrl-A is a byte like any other here */
	close(to[1]);
	read_until(from[0], got, sizeof(got), "<stuck>");
	CHECK_STR(got, "a\x01x b<stuck>");
	CHECK_EQ(wait_for(pid), MACHINE_RUNS);
	close(from[0]);
}

TEST(devices_machine, input_from_dev_null_and_from_a_file)
{
	char name[] = "/tmp/bt-vmm-input-XXXXXX", got[256] = "";
	int file = mkstemp(name), null = open("/dev/null", O_RDWR), from[2];
	REQUIRE(!pipe(from));
	CHECK_EQ(wait_for(spawn(null, null, echo_guest, false)), MACHINE_RUNS);
	CHECK_EQ(write(file, "from a file.", 12), 12);
	lseek(file, 0, SEEK_SET);
	pid_t pid = spawn(file, from[1], echo_guest, false);
	close(from[1]);
	read_until(from[0], got, sizeof(got), ".");
	CHECK_STR(got, "from a file.");
	CHECK_EQ(wait_for(pid), MACHINE_POWER_OFF);
	unlink(name);
	close(file), close(null), close(from[0]);
}

static void chatty_guest(struct machine *m)
{
	for (int i = 0; i < 100000 && !machine_ended(m, NULL); i++)
		print(m, "0123456789");
	machine_end_run(m, MACHINE_POWER_OFF, 0);
}

TEST(devices_machine, slow_reader_gets_everything)
{
	int from[2], null = open("/dev/null", O_RDONLY);
	static char block[65536];
	size_t total = 0;
	ssize_t n;
	REQUIRE(!pipe(from));
	pid_t pid = spawn(null, from[1], chatty_guest, false);
	close(from[1]);
	usleep(200000);
	while ((n = read(from[0], block, sizeof(block))) > 0)
		total += (size_t)n;
	CHECK_EQ(total, 1000000);
	CHECK_EQ(wait_for(pid), MACHINE_POWER_OFF);
	close(from[0]), close(null);
}

TEST(devices_machine, reader_that_goes_away_harms_nobody)
{
	int from[2], null = open("/dev/null", O_RDONLY);
	char byte;
	REQUIRE(!pipe(from));
	pid_t pid = spawn(null, from[1], chatty_guest, false);
	close(from[1]);
	CHECK_EQ(read(from[0], &byte, 1), 1);
	close(from[0]);
	CHECK_EQ(wait_for(pid), MACHINE_POWER_OFF);
	close(null);
}

TEST(devices_machine, signals_end_the_run)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	for (unsigned i = 0; i < 3; i++) {
		int to[2], from[2];
		char got[64] = "";
		REQUIRE(!pipe(to) && !pipe(from));
		pid_t pid = spawn(to[0], from[1], echo_guest, false);
		CHECK_EQ(write(to[1], "!", 1), 1);
		read_until(from[0], got, sizeof(got), "!");
		kill(pid, signals[i]);
		CHECK_EQ(wait_for(pid), MACHINE_SIGNAL);
		close(to[0]), close(to[1]), close(from[0]), close(from[1]);
	}
}

TEST(devices_machine, signal_ends_a_run_whose_reader_sleeps)
{
	int from[2], null = open("/dev/null", O_RDONLY);
	REQUIRE(!pipe(from));
	pid_t pid = spawn(null, from[1], chatty_guest, false);
	usleep(300000); /* pipe and buffer are full by now */
	kill(pid, SIGTERM);
	CHECK_EQ(wait_for(pid), MACHINE_SIGNAL);
	close(from[0]), close(from[1]), close(null);
}

/* --- terminals --- */

struct pty {
	int master, slave;
	struct termios before;
};

static bool open_pty(struct pty *p)
{
	p->master = posix_openpt(O_RDWR | O_NOCTTY);
	if (p->master < 0 || grantpt(p->master) || unlockpt(p->master))
		return false;
	p->slave = open(ptsname(p->master), O_RDWR | O_NOCTTY);
	return p->slave >= 0 && !tcgetattr(p->slave, &p->before);
}

static bool is_restored(const struct pty *p)
{
	struct termios after;
	tcgetattr(p->slave, &after);
	return after.c_lflag == p->before.c_lflag && after.c_iflag == p->before.c_iflag && after.c_oflag == p->before.c_oflag;
}

static bool is_raw(const struct pty *p)
{
	struct termios t;
	tcgetattr(p->slave, &t);
	return !(t.c_lflag & (ICANON | ECHO | ISIG)) && !(t.c_oflag & OPOST);
}

/* Start the echo guest on a terminal and see it answer. */
static pid_t start_on_pty(struct pty *p, void (*guest)(struct machine *m))
{
	char got[64] = "";
	if (!open_pty(p))
		return -1;
	pid_t pid = spawn(p->slave, p->slave, guest, true);
	for (int i = 0; i < 2000 && !is_raw(p); i++)
		usleep(1000);
	CHECK(is_raw(p));
	CHECK_EQ(write(p->master, "?", 1), 1);
	read_until(p->master, got, sizeof(got), "?");
	CHECK_STR(got, "?");
	return pid;
}

static void close_pty(struct pty *p)
{
	close(p->master);
	close(p->slave);
}

TEST(devices_terminal, keys)
{
	struct pty p;
	char got[512] = "";
	pid_t pid = start_on_pty(&p, echo_guest);
	REQUIRE(pid > 0);
	CHECK_EQ(write(p.master, "\x03\r\n\x01\x01\x01" "az", 8), 8); /* Ctrl-C, then Ctrl-A twice */
	read_until(p.master, got, sizeof(got), "z");
	CHECK_STR(got, "\x03\r\n\x01\x01z");
	memset(got, 0, sizeof(got));
	CHECK_EQ(write(p.master, "\x01h", 2), 2);
	read_until(p.master, got, sizeof(got), "this help");
	CHECK(strstr(got, "Ctrl-A x"));
	CHECK_EQ(write(p.master, "\x01x", 2), 2);
	CHECK_EQ(wait_for(pid), MACHINE_USER_QUIT);
	CHECK(is_restored(&p));
	close_pty(&p);
}

TEST(devices_terminal, restored_after_power_off_and_signals)
{
	static const int signals[] = { 0, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGABRT, SIGUSR1 };
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct pty p;
		if (signals[i] == SIGSEGV && CRASHES_ARE_CAUGHT)
			continue;
		pid_t pid = start_on_pty(&p, echo_guest);
		REQUIRE(pid > 0);
		if (signals[i])
			kill(pid, signals[i]);
		else
			CHECK_EQ(write(p.master, ".", 1), 1);
		int expected = i == 0 ? MACHINE_POWER_OFF : i <= 3 ? MACHINE_SIGNAL : -signals[i];
		CHECK_EQ(wait_for(pid), expected);
		CHECK(is_restored(&p));
		close_pty(&p);
	}
}

static void crashing_guest(struct machine *m)
{
	while (!(in(m, LSR) & 1))
		;
	print(m, "?");
	usleep(100000); /* what was not written yet dies with us */
	raise(SIGSEGV);
}

TEST(devices_terminal, restored_after_a_crash)
{
	struct pty p;
	if (CRASHES_ARE_CAUGHT)
		SKIP("the sanitizer handles SIGSEGV itself");
	pid_t pid = start_on_pty(&p, crashing_guest);
	REQUIRE(pid > 0);
	CHECK_EQ(wait_for(pid), -SIGSEGV);
	CHECK(is_restored(&p));
	close_pty(&p);
}

TEST(devices_terminal, restored_after_sigkill)
{
	struct pty p;
	pid_t pid = start_on_pty(&p, echo_guest);
	REQUIRE(pid > 0);
	kill(pid, SIGKILL);
	CHECK_EQ(wait_for(pid), -SIGKILL);
	for (int i = 0; i < 2000 && !is_restored(&p); i++)
		usleep(1000); /* a guardian does it, when it notices */
	CHECK(is_restored(&p));
	close_pty(&p);
}

TEST(devices_terminal, stop_and_continue)
{
	struct pty p;
	int status;
	pid_t pid = start_on_pty(&p, echo_guest);
	char got[64] = "";
	REQUIRE(pid > 0);
	kill(pid, SIGTSTP);
	CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
	CHECK(WIFSTOPPED(status));
	CHECK(is_restored(&p));
	kill(pid, SIGCONT);
	for (int i = 0; i < 2000 && !is_raw(&p); i++)
		usleep(1000);
	CHECK(is_raw(&p));
	CHECK_EQ(write(p.master, "y.", 2), 2);
	read_until(p.master, got, sizeof(got), ".");
	CHECK_STR(got, "y.");
	CHECK_EQ(wait_for(pid), MACHINE_POWER_OFF);
	CHECK(is_restored(&p));
	close_pty(&p);
}

/* Counts what comes, and says so at a full stop. */
static void counting_guest(struct machine *m)
{
	unsigned count = 0, sum = 0;
	char report[64];
	for (;;) {
		machine_halt(m, true, true);
		machine_acknowledge(m);
		while (in(m, LSR) & 1) {
			uint8_t byte = in(m, COM1);
			if (byte == '?')
				print(m, "?");
			count++;
			sum = sum * 31 + byte;
			if (byte == '.') {
				snprintf(report, sizeof(report), "%u %08x\n", count, sum);
				print(m, report);
				machine_end_run(m, MACHINE_POWER_OFF, 0);
				return;
			}
		}
	}
}

TEST(devices_terminal, long_paste_arrives_whole)
{
	enum { LENGTH = 100000 };
	static char text[LENGTH + 1];
	struct pty p;
	char got[64] = "", expected[64];
	unsigned sum = '?';
	pid_t pid = start_on_pty(&p, counting_guest);
	REQUIRE(pid > 0);
	for (unsigned i = 0; i < LENGTH; i++) {
		text[i] = i + 1 == LENGTH ? '.' : (char)('a' + i * 7 % 26);
		sum = sum * 31 + (uint8_t)text[i];
	}
	for (size_t done = 0; done < LENGTH;) {
		ssize_t n = write(p.master, text + done, LENGTH - done);
		REQUIRE(n > 0);
		done += (size_t)n;
	}
	snprintf(expected, sizeof(expected), "%u %08x\n", LENGTH + 1, sum);
	read_until(p.master, got, sizeof(got), "\n");
	CHECK_STR(got, expected);
	CHECK_EQ(wait_for(pid), MACHINE_POWER_OFF);
	close_pty(&p);
}
