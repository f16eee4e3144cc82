/* What the process gives up: each forbidden call is tried in a child that has entered the sandbox, and what it still needs works. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/disasm.h"
#include "base/types.h"
#include "runtime/sandbox.h"
#include "tests/shim/test.h"

static bool is_refused(long result) { return result == -1 && errno == EPERM; }

static void *map(int protection)
{
	return mmap(NULL, PAGE_SIZE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static bool program(void) { return is_refused(execl("/bin/true", "true", NULL)); }
static bool process(void) { return is_refused(fork()); }
static bool socket_(void) { return is_refused(socket(AF_INET, SOCK_STREAM, 0)); }
static bool write_file(void) { return is_refused(open("/dev/null", O_WRONLY)); }
static bool new_file(void) { return is_refused(open("/tmp/bt-vmm-must-not-exist", O_RDONLY | O_CREAT, 0600)); }
static bool remove_file(void) { return is_refused(unlink("/tmp/bt-vmm-must-not-exist")); }
static bool executable(void) { return map(PROT_READ | PROT_EXEC) == MAP_FAILED && errno == EPERM; }
static bool made_executable(void) { return is_refused(mprotect((void *)((uintptr_t)map(PROT_READ)), PAGE_SIZE, PROT_READ | PROT_EXEC)); }
static bool signal_others(void) { return is_refused(kill(getppid(), 0)); }
static bool trace(void) { return is_refused(ptrace(PTRACE_TRACEME, 0, NULL, NULL)); }
static bool other_memory(void) { return is_refused(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0)); }
static bool push_input(void) { return is_refused(syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, "x")); }
static bool privileges(void) { return is_refused(setuid(0)); }

/* The other table of system calls: 20 is getpid there. */
static bool compatibility(void)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	return (int)result == -EPERM || (int)result == -ENOSYS;
}

static bool read_file(void)
{
	char c;
	int fd = open("/proc/self/maps", O_RDONLY);
	return fd >= 0 && read(fd, &c, 1) == 1 && !close(fd);
}

static bool memory(void)
{
	uint8_t *p = map(PROT_READ | PROT_WRITE);
	*p = 1;
	return !mprotect(p, PAGE_SIZE, PROT_READ) && !madvise(p, PAGE_SIZE, MADV_DONTNEED) && *p == 0 && !munmap(p, PAGE_SIZE);
}

static int file; /* in memory, open from before */

static bool hole(void)
{
	return !fallocate(file, 0, 0, PAGE_SIZE) && is_refused(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE_SIZE));
}

/* Capstone can no longer be loaded: what a report shows then is bytes. */
static bool disassembly(void)
{
	static const uint8_t code[20] = {0x90, [16] = 0xC3};
	char text[256] = "";
	FILE *out = fmemopen(text, sizeof(text), "w");

	disasm_print(out, code, sizeof(code), 0x1000, DISASM_32);
	fclose(out);
	return !disasm_load() && strstr(text, "  00001000  90000000000000000000000000000000 \n  00001010  c3000000 ");
}

static bool own_signal(void) { return !syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), 0); }

static const struct {
	const char *name;
	bool (*holds)(void);
} cases[] = {
	{ "exec", program }, { "fork", process }, { "socket", socket_ }, { "a file opened for writing", write_file }, { "a new file", new_file },
	{ "a file removed", remove_file }, { "executable memory", executable }, { "memory made executable", made_executable },
	{ "signals to others", signal_others }, { "ptrace", trace }, { "others' memory", other_memory }, { "input pushed to the terminal", push_input },
	{ "setuid", privileges }, { "a hole in a file", hole }, { "int 80h", compatibility }, { "reading files works", read_file }, { "memory works", memory },
	{ "signals to itself work", own_signal }, { "disassembly without its library", disassembly },
};

static void run_case(void *data)
{
	size_t i = (uintptr_t)data;
	int status;
	file = memfd_create("test", MFD_CLOEXEC);
	pid_t child = fork();
	if (!child) _exit(sandbox_enter() ? 77 : cases[i].holds() ? 0 : 1);
	close(file);
	REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) SKIP("this kernel has no seccomp filters");
	CHECK_EQ(WEXITSTATUS(status), 0);
}

__attribute__((constructor)) static void register_cases(void)
{
	for (uintptr_t i = 0; i < ARRAY_LEN(cases); i++) test_register_with("sandbox", cases[i].name, run_case, (void *)i, __FILE__, __LINE__);
}

static void *other_thread(void *result)
{
	int *step = result;
	while (__atomic_load_n(step, __ATOMIC_SEQ_CST) != 1) sched_yield();
	*step = socket_() ? 2 : 3;
	return NULL;
}

/* A thread that was there before is bound too. */
TEST(sandbox, holds_for_all_threads)
{
	int status;
	pid_t child = fork();
	if (!child) {
		pthread_t thread;
		int step = 0;
		if (pthread_create(&thread, NULL, other_thread, &step)) _exit(1);
		if (sandbox_enter()) _exit(77);
		__atomic_store_n(&step, 1, __ATOMIC_SEQ_CST);
		pthread_join(thread, NULL);
		_exit(step == 2 ? 0 : 1);
	}
	close(file);
	REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) SKIP("this kernel has no seccomp filters");
	CHECK_EQ(WEXITSTATUS(status), 0);
}
