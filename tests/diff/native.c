/* The real processor. A child process takes the low addresses, and lets the kernel's own signal return put any register state into the
 * processor: CS becomes the 32-bit user segment, and the INT3 behind the code, or a fault, brings a signal with the state after. */
#include "diff.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define CS32 0x23
#define DS32 0x2B
#define XSTATE_BV_OFFSET 512
#define FLAGS_SET 0xCD5u /* arithmetic flags and DF */

struct shared {
	struct diff_case cases[NATIVE_BATCH];
	struct diff_result results[NATIVE_BATCH];
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
static const struct diff_case *running;
static struct diff_result *result;
static gregset_t before;
static uint8_t fpu_before[512];

static const int registers[8] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI};

static void enter(ucontext_t *u)
{
	greg_t *g = u->uc_mcontext.gregs;
	uint8_t *fpu = (uint8_t *)u->uc_mcontext.fpregs;
	uint64_t used;

	memcpy(before, g, sizeof(before));
	memcpy(fpu_before, fpu, sizeof(fpu_before));
	for (unsigned i = 0; i < 8; i++) g[registers[i]] = running->in.gpr[i];
	g[REG_RIP] = running->in.eip;
	g[REG_EFL] = (g[REG_EFL] & ~(greg_t)FLAGS_SET) | (running->in.eflags & FLAGS_SET);
	g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xFFFFLL) | CS32;
	if (!running->fpu)
		return;
	diff_pack(&running->in, fpu);
	memcpy(&used, fpu + XSTATE_BV_OFFSET, 8);
	used |= 3;
	memcpy(fpu + XSTATE_BV_OFFSET, &used, 8);
}

static void leave(ucontext_t *u)
{
	greg_t *g = u->uc_mcontext.gregs;
	uint8_t *fpu = (uint8_t *)u->uc_mcontext.fpregs;
	struct diff_state *s = &result->out;

	for (unsigned i = 0; i < 8; i++) s->gpr[i] = (uint32_t)g[registers[i]];
	s->eip = (uint32_t)g[REG_RIP];
	s->eflags = (uint32_t)g[REG_EFL];
	s->vector = (uint32_t)g[REG_TRAPNO];
	s->error = (uint32_t)g[REG_ERR];
	diff_unpack(s, fpu);
	memcpy(g, before, sizeof(before));
	memcpy(fpu, fpu_before, 464);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)info;
	if (number == SIGUSR1)
		enter(u);
	else if ((u->uc_mcontext.gregs[REG_CSGSFS] & 0xFFFF) == CS32)
		leave(u);
	else
		_exit(3);
}

static void child_setup(void)
{
	static const int signals[] = {SIGUSR1, SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
	static uint8_t stack[65536];
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	void *at = mmap((void *)(uintptr_t)CODE_BASE, CODE_SIZE + DATA_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (at == MAP_FAILED || sigaltstack(&alternate, NULL))
		_exit(2);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++) sigaction(signals[i], &action, NULL);
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(DS32));
}

static void child_run(const struct diff_case *c, struct diff_result *r)
{
	uint8_t *code = (uint8_t *)(uintptr_t)CODE_BASE;

	memset(code, 0xCC, CODE_SIZE);
	memcpy(code + (c->in.eip - CODE_BASE), c->code, c->length);
	memcpy((void *)(uintptr_t)DATA_BASE, c->data, DATA_SIZE);
	running = c;
	result = r;
	raise(SIGUSR1);
	memcpy(r->data, (void *)(uintptr_t)DATA_BASE, DATA_SIZE);
}

static void child_main(struct shared *shared, int socket)
{
	uint32_t count;

	child_setup();
	while (read(socket, &count, sizeof(count)) == sizeof(count)) {
		for (uint32_t i = 0; i < count; i++) child_run(&shared->cases[i], &shared->results[i]);
		if (write(socket, &count, sizeof(count)) != sizeof(count))
			break;
	}
	_exit(0);
}

struct native *native_start(void)
{
	struct native *n = calloc(1, sizeof(*n));
	int sockets[2];

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
	if (n->child > 0)
		return n;
	close(sockets[0]);
	free(n);
	return NULL;
}

bool native_run(struct native *n, const struct diff_case *cases, struct diff_result *results, uint32_t count)
{
	uint32_t answer;

	memcpy(n->shared->cases, cases, count * sizeof(*cases));
	if (write(n->socket, &count, sizeof(count)) != sizeof(count) || read(n->socket, &answer, sizeof(answer)) != sizeof(answer))
		return false;
	memcpy(results, n->shared->results, count * sizeof(*results));
	return true;
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
