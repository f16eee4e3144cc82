/* A fault of the monitor's own code ends the run with a reason, and nothing else: memory is given back, and the next runtime runs. */
#include <string.h>
#include <sys/mman.h>

#include "runtime/cpu.h"
#include "runtime/internal.h"
#include "tests/shim/test.h"

#define CODE 0x1000u
#define RAM_SIZE MIB(16)

static void *forbidden;

static void read_it(void) { (void)*(volatile uint8_t *)forbidden; }
static void write_it(void) { *(volatile uint8_t *)forbidden = 1; }
static void run_it(void) { ((void (*)(void))forbidden)(); }
static void trap(void) { __asm__ volatile("ud2"); }
static void divide(void) { __asm__ volatile("div %0" : : "r"(0) : "eax", "edx"); }
static void non_canonical(void) { __asm__ volatile("mov (%0), %%al" : : "r"(1ull << 63) : "eax"); }
static void nothing(void) { }

static void before(void *ctx, struct vcpu *v, const struct block *b)
{
	(void)v;
	(void)b;
	((void (*)(void))ctx)();
}

static bool after(void *ctx, struct vcpu *v, const struct block *b)
{
	(void)ctx;
	(void)v;
	(void)b;
	return true;
}

static void run_with(void (*what)(void), enum runtime_end end)
{
	static const struct runtime_config config = {.ram_size = RAM_SIZE, .tc_size = MIB(1), .no_reset = true};
	static const uint8_t code[] = {0x40, 0xE6, 0xF4}; /* inc eax; out 0xF4, al */
	const struct runtime_observer observer = {.ctx = (void *)what, .before = before, .after = after};
	struct runtime *r = NULL;
	char why[512];

	REQUIRE(!runtime_create(&r, &config, why, sizeof(why)));
	runtime_set_observer(r, &observer);
	cpu_reset(r->v, true);
	cpu_update_mode(r->v);
	memcpy(r->ram + CODE, code, sizeof(code));
	r->v->eip = CODE;
	CHECK_EQ(runtime_run(r), end);
	if (end == RUNTIME_HOST_FAILURE)
		CHECK(r->failure && strstr(r->failure, "the monitor itself faulted"));
	runtime_destroy(r);
}

TEST(host_failure, of_the_monitor_ends_the_run)
{
	static void (*const faults[])(void) = {read_it, write_it, run_it, trap, divide, non_canonical};

	forbidden = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(forbidden != MAP_FAILED);
	for (unsigned i = 0; i < ARRAY_LEN(faults); i++) {
		run_with(faults[i], RUNTIME_HOST_FAILURE);
		run_with(nothing, RUNTIME_MACHINE_ENDED);
	}
	munmap(forbidden, PAGE_SIZE);
}
