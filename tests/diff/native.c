/* The real processor. A child process takes the low addresses, and lets the kernel's own signal return put any register state into the
 * processor: CS becomes a 32-bit user segment, and the INT3 behind the code, or a fault, brings a signal with the state after; the next case
 * goes in as that signal returns. */
#include "diff.h"

#include <asm/ldt.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/x86.h"

#define XSTATE_BV_OFFSET 512
#define FLAGS_SET 0x40DD5u /* status flags, TF, DF, AC */
#define FETCH 0x10u       /* an error code of a guest without NX does not have it */
#define NO_EXECUTE 0x11   /* a fetch from a page that is there: data */
#define CODE_64 0x33
#define PATIENCE_US 200000

struct shared {
	struct diff_case cases[NATIVE_BATCH];
	struct diff_result results[NATIVE_BATCH];
	bool maps_zero;
	bool has_segment[DIFF_LDT_ENTRIES];
};

struct native {
	pid_t child;
	int socket;
	struct shared *shared;
};

void diff_pack(const struct diff_state *s, uint8_t image[512])
{
	memcpy(image, &s->fcw, 2);
	memcpy(image + 2, &s->fsw, 2);
	image[4] = s->ftw;
	memcpy(image + 24, &s->mxcsr, 4);
	for (unsigned i = 0; i < 8; i++) {
		memset(image + 32 + 16 * i, 0, 16);
		memcpy(image + 32 + 16 * i, s->st[i], 10);
		memcpy(image + 160 + 16 * i, s->xmm[i], 16);
	}
}

void diff_unpack(struct diff_state *s, const uint8_t image[512])
{
	memcpy(&s->fcw, image, 2);
	memcpy(&s->fsw, image + 2, 2);
	s->ftw = image[4];
	memcpy(&s->mxcsr, image + 24, 4);
	for (unsigned i = 0; i < 8; i++) {
		memcpy(s->st[i], image + 32 + 16 * i, 10);
		memcpy(s->xmm[i], image + 160 + 16 * i, 16);
	}
}

/* The child's: a process of its own, so these may be statics. */
static struct shared *batch;
static volatile uint32_t batch_count, batch_at;
static uint8_t *code_alias; /* the code pages, writable */
static bool in_case; /* since the last signal's return, which all signals waited for */
static gregset_t before;
static uint8_t fpu_before[512];
/* on_signal.S: the segment registers as the signal found them, and the base that thread-local storage needs. */
uint16_t native_seg[DIFF_SEGMENTS];
uint64_t native_fs_base;
void native_on_signal(int number, siginfo_t *info, void *context);
/* A signal leaves the data segments, FS's base and these flags as they were: C wants its own. */
__asm__(".text\n"
	"native_on_signal:\n"
	"	mov %es, native_seg(%rip)\n"
	"	mov %ds, native_seg+6(%rip)\n"
	"	mov %fs, native_seg+8(%rip)\n"
	"	mov %gs, native_seg+10(%rip)\n"
	"	mov native_fs_base(%rip), %rax\n"
	"	wrfsbase %rax\n"
	"	pushfq\n"
	"	andl $~0x244400, (%rsp)\n" /* ID, AC, NT, DF */
	"	popfq\n"
	"	jmp native_signal\n");
void native_signal(int number, siginfo_t *info, void *context) __attribute__((used));

static const int registers[8] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI};

static void load_memory(const struct diff_case *c)
{
	uint32_t at = diff_segment(c->in.seg[SEG_CS])->base + c->in.eip - CODE_BASE;

	memset(code_alias, 0xCC, CODE_SIZE);
	memcpy(code_alias + at, c->code, c->length);
	memcpy((void *)(uintptr_t)DATA_BASE, c->data, DATA_SIZE);
}

static void enter(ucontext_t *u)
{
	const struct diff_state *in = &batch->cases[batch_at].in;
	greg_t *g = u->uc_mcontext.gregs;
	uint8_t *fpu = (uint8_t *)u->uc_mcontext.fpregs;
	uint64_t used;

	load_memory(&batch->cases[batch_at]);
	for (unsigned i = 0; i < 8; i++) g[registers[i]] = in->gpr[i];
	g[REG_RIP] = in->eip;
	g[REG_EFL] = (g[REG_EFL] & ~(greg_t)(FLAGS_SET | EFL_RF)) | (in->eflags & FLAGS_SET);
	g[REG_CSGSFS] = (greg_t)((uint64_t)in->seg[SEG_SS] << 48 | in->seg[SEG_CS]);
	if (batch->cases[batch_at].fpu) {
		diff_pack(in, fpu);
		memcpy(&used, fpu + XSTATE_BV_OFFSET, 8);
		used |= 3;
		memcpy(fpu + XSTATE_BV_OFFSET, &used, 8);
	}
	in_case = true;
	/* FS last: from here to the signal's return nothing may use thread-local storage. */
	__asm__ volatile("mov %0, %%es; mov %1, %%ds; mov %2, %%gs; mov %3, %%fs"
			 : : "r"(in->seg[SEG_ES]), "r"(in->seg[SEG_DS]), "r"(in->seg[SEG_GS]), "r"(in->seg[SEG_FS]));
}

static uint32_t vector_of(int number, const greg_t *g)
{
	/* A far transfer through a selector that happens to be Linux's. */
	if ((uint16_t)g[REG_CSGSFS] == CODE_64)
		return NATIVE_OTHER_MODE;
	switch (number) {
	case SIGVTALRM: return NATIVE_ENDLESS;
	case SIGSYS: return NATIVE_SYSTEM_CALL;
	case SIGSEGV: return g[REG_TRAPNO] == VEC_PF && (g[REG_ERR] & NO_EXECUTE) == NO_EXECUTE ? NATIVE_NO_EXECUTE : (uint32_t)g[REG_TRAPNO];
	default: return (uint32_t)g[REG_TRAPNO];
	}
}

static void leave(int number, const ucontext_t *u)
{
	const greg_t *g = u->uc_mcontext.gregs;
	struct diff_result *r = &batch->results[batch_at];
	struct diff_state *s = &r->out;

	for (unsigned i = 0; i < 8; i++) s->gpr[i] = (uint32_t)g[registers[i]];
	memcpy(s->seg, native_seg, sizeof(s->seg));
	s->seg[SEG_CS] = (uint16_t)g[REG_CSGSFS];
	s->seg[SEG_SS] = (uint16_t)((uint64_t)g[REG_CSGSFS] >> 48);
	s->eip = (uint32_t)g[REG_RIP];
	s->eflags = (uint32_t)g[REG_EFL];
	s->vector = vector_of(number, g);
	bool has_error = s->vector == VEC_DF || (s->vector >= VEC_TS && s->vector <= VEC_PF) || s->vector == VEC_AC;
	s->error = !has_error ? 0 : (uint32_t)g[REG_ERR] & ~(s->vector == VEC_PF ? FETCH : 0);
	s->cr2 = s->vector == VEC_PF ? (uint32_t)g[REG_CR2] : 0;
	diff_unpack(s, (const uint8_t *)u->uc_mcontext.fpregs);
	memcpy(r->data, (void *)(uintptr_t)DATA_BASE, DATA_SIZE);
}

void native_signal(int number, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	bool by_us = !in_case;

	(void)info;
	in_case = false;
	if (by_us && number == SIGVTALRM)
		return;
	if (by_us && number != SIGUSR1)
		_exit(3);
	if (by_us) {
		memcpy(before, u->uc_mcontext.gregs, sizeof(before));
		memcpy(fpu_before, u->uc_mcontext.fpregs, sizeof(fpu_before));
	} else {
		leave(number, u);
		batch_at++;
	}
	if (batch_at < batch_count) {
		enter(u);
		return;
	}
	memcpy(u->uc_mcontext.gregs, before, sizeof(before));
	memcpy(u->uc_mcontext.fpregs, fpu_before, 464);
}

static bool map_at(uint32_t address, int fd, off_t offset, size_t size, int protection)
{
	return mmap((void *)(uintptr_t)address, size, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, offset) != MAP_FAILED;
}

static void map_memory(struct shared *shared)
{
	int fd = memfd_create("difftest", 0);

	if (fd < 0 || ftruncate(fd, CODE_SIZE + DATA_SIZE) || !map_at(CODE_BASE, fd, 0, CODE_SIZE, PROT_READ | PROT_EXEC) ||
	    !map_at(DATA_BASE, fd, CODE_SIZE, DATA_SIZE, PROT_READ | PROT_WRITE) ||
	    !map_at(EDGE_BASE, fd, CODE_SIZE, DATA_SIZE / 2, PROT_READ | PROT_WRITE))
		_exit(2);
	code_alias = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (code_alias == MAP_FAILED)
		_exit(2);
	shared->maps_zero = map_at(0, fd, CODE_SIZE + DATA_SIZE / 2, DATA_SIZE / 2, PROT_READ | PROT_WRITE);
	/* All present at once: a first touch must not show as another kind of fault. */
	memset(code_alias, 0xCC, CODE_SIZE);
	memset((void *)(uintptr_t)DATA_BASE, 0, DATA_SIZE);
}

static void set_segment(struct shared *shared, uint16_t selector)
{
	const struct diff_segment *s = diff_segment(selector);
	bool code = s->type & AR_CODE, pages = s->limit > 0xFFFFF;
	struct user_desc d = {
		.entry_number = selector >> 3, .base_addr = s->base, .limit = pages ? s->limit >> 12 : s->limit, .limit_in_pages = pages, .seg_32bit = s->big,
		.contents = code ? MODIFY_LDT_CONTENTS_CODE : s->type & AR_EXPAND_DOWN ? MODIFY_LDT_CONTENTS_STACK : MODIFY_LDT_CONTENTS_DATA,
		.read_exec_only = !(s->type & AR_WRITABLE),
	};
	shared->has_segment[selector >> 3] = !syscall(SYS_modify_ldt, 0x11, &d, sizeof(d));
}

static void set_segments(struct shared *shared)
{
	for (enum diff_kind kind = KIND_PROTECTED; kind <= KIND_REAL; kind++) {
		for (unsigned i = 0; i < diff_selector_count(kind); i++) set_segment(shared, diff_selector(kind, i));
	}
}

/* Random code must not talk to the kernel, by whatever bytes it runs into. */
static void forbid_system_calls(void)
{
	static struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 6, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setitimer, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(*filter), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(2);
}

static void child_setup(struct shared *shared)
{
	static const int signals[] = {SIGUSR1, SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGVTALRM, SIGSYS};
	static uint8_t stack[65536];
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_sigaction = native_on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	map_memory(shared);
	set_segments(shared);
	if (sigaltstack(&alternate, NULL))
		_exit(2);
	sigfillset(&action.sa_mask);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++) sigaction(signals[i], &action, NULL);
	__asm__ volatile("rdfsbase %0" : "=r"(native_fs_base));
	forbid_system_calls();
}

static void child_main(struct shared *shared, int socket)
{
	static const struct itimerval patience = {{0, PATIENCE_US}, {0, PATIENCE_US}};
	pid_t self = getpid();
	uint32_t count = 0;

	batch = shared;
	child_setup(shared);
	while (write(socket, &count, sizeof(count)) == sizeof(count) && read(socket, &count, sizeof(count)) == sizeof(count)) {
		batch_at = 0;
		batch_count = count;
		setitimer(ITIMER_VIRTUAL, &patience, NULL);
		syscall(SYS_tgkill, self, self, SIGUSR1);
	}
	_exit(0);
}

struct native *native_start(void)
{
	struct native *n = calloc(1, sizeof(*n));
	int sockets[2];
	uint32_t ready;

	if (!n || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		return NULL;
	n->shared = mmap(NULL, sizeof(*n->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	n->socket = sockets[0];
	n->child = n->shared == MAP_FAILED ? -1 : fork();
	if (n->child == 0) {
		close(sockets[0]);
		child_main(n->shared, sockets[1]);
	}
	close(sockets[1]);
	if (n->child > 0 && read(n->socket, &ready, sizeof(ready)) == sizeof(ready))
		return n;
	close(sockets[0]);
	free(n);
	return NULL;
}

struct diff_case *native_cases(struct native *n)
{
	return n->shared->cases;
}

struct diff_result *native_results(const struct native *n)
{
	return n->shared->results;
}

bool native_run(struct native *n, uint32_t count)
{
	uint32_t answer;

	return write(n->socket, &count, sizeof(count)) == sizeof(count) && read(n->socket, &answer, sizeof(answer)) == sizeof(answer);
}

bool native_maps_zero(const struct native *n)
{
	return n->shared->maps_zero;
}

bool native_has_segment(const struct native *n, uint16_t selector)
{
	return n->shared->has_segment[selector >> 3];
}

void native_stop(struct native *n)
{
	if (!n)
		return;
	close(n->socket);
	waitpid(n->child, NULL, 0);
	munmap(n->shared, sizeof(*n->shared));
	free(n);
}
