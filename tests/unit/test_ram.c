/* Guest memory is whole after a while, without anybody touching it; if the host cannot give a page, the run ends with a reason. */
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cpu.h"
#include "runtime/internal.h"
#include "tests/shim/test.h"

#define CODE 0x1000u
#define RAM_SIZE MIB(16)
#define GONE MIB(12) /* where the last part begins */

static struct runtime *create(void)
{
	static const struct runtime_config config = {.ram_size = RAM_SIZE, .tc_size = MIB(1), .no_reset = true};
	struct runtime *r = NULL;
	char why[512];

	CHECK(!runtime_create(&r, &config, why, sizeof(why)));
	return r;
}

static uint64_t allocated(const struct runtime *r)
{
	struct stat st;

	return fstat(r->ram_fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

static bool becomes_whole(const struct runtime *r)
{
	for (unsigned tries = 0; tries < 10000 && allocated(r) < RAM_SIZE; tries++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return allocated(r) >= RAM_SIZE;
}

TEST(ram, is_made_in_the_background)
{
	struct runtime *r = create();

	REQUIRE(r);
	CHECK(becomes_whole(r));
	runtime_destroy(r);
}

static const struct touch {
	const char *name;
	uint8_t length, code[4];
	gva_t edi;
	enum runtime_end end;
} touches[] = {
	{"mov [edi], eax, where memory is", 2, {0x89, 0x07}, GONE - 4, RUNTIME_MACHINE_ENDED},
	{"mov [edi], eax", 2, {0x89, 0x07}, GONE, RUNTIME_HOST_FAILURE},
	{"mov eax, [edi]", 2, {0x8B, 0x07}, RAM_SIZE - 4, RUNTIME_HOST_FAILURE},
	{"rep stosb, in C", 2, {0xF3, 0xAA}, GONE, RUNTIME_HOST_FAILURE},
};

static void run(struct runtime *r, const struct touch *t)
{
	static const uint8_t last[] = {0xE6, 0xF4}; /* out 0xF4, al */
	struct vcpu *v = r->v;

	cpu_reset(v, true);
	cpu_update_mode(v);
	memcpy(r->ram + CODE, t->code, t->length);
	memcpy(r->ram + CODE + t->length, last, sizeof(last));
	v->eip = CODE;
	v->gpr[ECX] = 4;
	v->gpr[EDI] = t->edi;
	CHECK_EQ(runtime_run(r), t->end);
	if (t->end == RUNTIME_HOST_FAILURE && (!r->failure || !strstr(r->failure, "--memory")))
		FAIL("%s: the failure is '%s'", t->name, r->failure ? r->failure : "");
}

/* As a host does that has no page left. The filler may be about to map the last pages that it has made. */
TEST(ram, that_is_missing_ends_the_run)
{
	for (unsigned i = 0; i < ARRAY_LEN(touches); i++) {
		struct runtime *r = create();

		REQUIRE(r && becomes_whole(r));
		ram_stop_filling(r);
		REQUIRE(!ftruncate(r->ram_fd, GONE));
		run(r, &touches[i]);
		runtime_destroy(r);
	}
}
