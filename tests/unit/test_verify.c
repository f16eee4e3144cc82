/* --verify reports an error that is planted: a wrong register, a wrong flag, a wrong byte in memory, each behind the instruction that ought to
 * have made it, and nothing where nothing is planted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cpu.h"
#include "runtime/internal.h"
#include "runtime/verify.h"
#include "tests/shim/test.h"

#define CODE 0x1000u
#define DATA 0x8000u

/* mov eax, 5; mov ebx, 7; add eax, ebx; bswap ebx; inc ecx; mov [DATA], eax; jmp to the next, which is a block of its own: out 0xF4, al */
static const uint8_t code[] = {0xB8, 5, 0, 0, 0, 0xBB, 7, 0, 0, 0, 0x01, 0xD8, 0x0F, 0xCB, 0x41, 0xA3, DATA & 0xFF, DATA >> 8, 0, 0, 0xEB, 0, 0xE6, 0xF4};

struct plant {
	const struct runtime_observer *real; /* the verifier's */
	void (*spoil)(struct runtime *r);
	struct runtime *r;
};

static void before(void *ctx, struct vcpu *v, const struct block *b)
{
	struct plant *p = ctx;

	p->real->before(p->real->ctx, v, b);
}

/* The block ran right, and to its end, not interrupted; it looks as if it had not. */
static bool after(void *ctx, struct vcpu *v, const struct block *b)
{
	struct plant *p = ctx;

	if (p->spoil && v->eip == CODE + sizeof(code) - 2)
		p->spoil(p->r);
	return p->real->after(p->real->ctx, v, b);
}

static void spoil_ebx(struct runtime *r) { r->v->gpr[EBX] ^= 0x10; }
static void spoil_carry(struct runtime *r) { r->v->flags ^= EFL_CF; }
static void spoil_memory(struct runtime *r) { r->ram[DATA + 1] ^= 1; }

static struct runtime *create(void)
{
	static const struct runtime_config config = {.ram_size = 16u << 20, .tc_size = 1u << 20, .no_reset = true};
	struct runtime *r;
	char why[512];

	if (!CHECK(!runtime_create(&r, &config, why, sizeof(why))))
		return NULL;
	cpu_reset(r->v, true);
	memcpy(r->ram + CODE, code, sizeof(code));
	r->v->eip = CODE;
	return r;
}

/* Run with what is planted; the report, to be freed. */
static char *report_of(void (*spoil)(struct runtime *r), enum runtime_end *end)
{
	struct runtime *r = create();
	struct verify *verify;
	char *text = NULL, why[512];
	size_t size;
	FILE *report = open_memstream(&text, &size);

	if (r && report && CHECK(!verify_create(&verify, r, report, why, sizeof(why)))) {
		struct plant plant = {.real = r->observer, .spoil = spoil, .r = r};
		struct runtime_observer observer = {.ctx = &plant, .before = before, .after = after};
		runtime_set_observer(r, &observer);
		*end = runtime_run(r);
		CHECK_EQ(verify_failed(verify), spoil != NULL);
		verify_destroy(verify);
	}
	if (r)
		runtime_destroy(r);
	fclose(report);
	return text;
}

/* Is there such a line, with `also` in it or in the next one (a step's instruction stands below what it changed)? */
static bool has_line(const char *text, const char *start, const char *also)
{
	size_t length = strlen(start);

	for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *end = strchr(line, '\n');
		end = end && strchr(end + 1, '\n') ? strchr(end + 1, '\n') : line + strlen(line);
		if (!strncmp(line, start, length) && memmem(line, (size_t)(end - line), also, strlen(also)))
			return true;
	}
	return false;
}

TEST(verify, nothing_planted)
{
	enum runtime_end end;
	char *text = report_of(NULL, &end);

	CHECK_EQ(end, RUNTIME_MACHINE_ENDED);
	CHECK_STR(text, "");
	free(text);
}

TEST(verify, wrong_register)
{
	enum runtime_end end;
	char *text = report_of(spoil_ebx, &end);

	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "verify: block", "at 00001000"));
	CHECK(has_line(text, "  ebx 07000010, reference 07000000", ""));
	/* The steps that wrote it are marked, the last of them is the one; others are not. */
	CHECK(has_line(text, "* flags=", "bswap"));
	CHECK(!has_line(text, "* flags=", "inc"));
	free(text);
}

TEST(verify, wrong_flag)
{
	enum runtime_end end;
	char *text = report_of(spoil_carry, &end);

	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "  flags 0001, reference 0000", ""));
	free(text);
}

TEST(verify, wrong_memory)
{
	enum runtime_end end;
	char *text = report_of(spoil_memory, &end);

	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "  memory 00008000 (4 bytes, step 5) 10c, reference c", ""));
	free(text);
}
