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

/* In real mode at CODE, CS = 100h: mov ax, 800h; mov ds, ax; mov bx, 0FFF0h; bswap ebx; push ds; pop [bx]; mov [0], bx; jmp to the next: out 0xF4, al */
static const uint8_t real_code[] = {0xB8, 0x00, DATA >> 12, 0x8E, 0xD8, 0xBB, 0xF0, 0xFF, 0x66, 0x0F, 0xCB, 0x1E, 0x8F, 0x07, 0x89, 0x1E, 0, 0, 0xEB, 0, 0xE6, 0xF4};
/* inc ax; mov [0FFFFh], ax: beyond the limit. The handler: out 0xF4, al */
static const uint8_t beyond[] = {0x40, 0xA3, 0xFF, 0xFF};

/* mov eax, 5; mov ebx, 7; xor edx, edx; test eax, eax (PF set) or ebx, ebx (PF clear); div ebx, which leaves PF undefined */
#define DIVIDES(pf) 0xB8, 5, 0, 0, 0, 0xBB, 7, 0, 0, 0, 0x31, 0xD2, 0x85, (pf) ? 0xC0 : 0xDB, 0xF7, 0xF3
/* jp over inc ecx; out 0xF4, al */
#define BRANCHES 0x7A, 1, 0x41, 0xE6, 0xF4
/* setp cl, or pushf and pop ebx, or adc ebx, ebx; jmp to the next: out 0xF4, al */
#define SETS 0x0F, 0x9A, 0xC1, 0xEB, 0, 0xE6, 0xF4
#define POPS 0x9C, 0x5B, 0xEB, 0, 0xE6, 0xF4
#define ADDS 0x11, 0xDB, 0xEB, 0, 0xE6, 0xF4
static const uint8_t branches[2][21] = {{DIVIDES(0), BRANCHES}, {DIVIDES(1), BRANCHES}};
static const uint8_t sets[2][23] = {{DIVIDES(0), SETS}, {DIVIDES(1), SETS}};
static const uint8_t pops[2][22] = {{DIVIDES(0), POPS}, {DIVIDES(1), POPS}};
static const uint8_t adds[2][22] = {{DIVIDES(0), ADDS}, {DIVIDES(1), ADDS}};
/* jp to the next */
static const uint8_t either_way[] = {DIVIDES(1), 0x7A, 0, 0xE6, 0xF4};
/* test ebx, ebx, which defines PF; setp al */
static const uint8_t defined[] = {DIVIDES(1), 0x85, 0xDB, 0x0F, 0x9A, 0xC0, 0xEB, 0, 0xE6, 0xF4};

#define HANDLER (CODE + 0x800)

struct guest_code {
	const uint8_t *bytes;
	uint32_t size, block, end; /* the block that is spoiled, and where it leads */
	bool real;
};
static const struct guest_code flat_code = {code, sizeof(code), CODE, CODE + sizeof(code) - 2, false};
static const struct guest_code unprotected_code = {real_code, sizeof(real_code), CODE + 5, CODE + sizeof(real_code) - 2, true};
static const struct guest_code beyond_code = {beyond, sizeof(beyond), CODE, HANDLER, true};
static const struct guest_code either_way_code = {either_way, sizeof(either_way), CODE, CODE + sizeof(either_way) - 2, false};
static const struct guest_code defined_code = {defined, sizeof(defined), CODE, CODE + sizeof(defined) - 2, false};

struct plant {
	const struct guest_code *of;
	const struct runtime_observer *real; /* the verifier's */
	void (*spoil)(struct runtime *r);
	struct runtime *r;
	/* The guest as it began. */
	bool begun;
	uint32_t eip, gpr[8];
	struct segment seg[SEG_COUNT];
};

static void before(void *ctx, struct vcpu *v, const struct block *b)
{
	struct plant *p = ctx;

	if (!p->begun) {
		p->begun = true;
		p->eip = v->eip;
		memcpy(p->gpr, v->gpr, sizeof(p->gpr));
		memcpy(p->seg, v->seg, sizeof(p->seg));
	}
	p->real->before(p->real->ctx, v, b);
}

static void begin_again(const struct plant *p, struct vcpu *v)
{
	v->eip = p->eip;
	memcpy(v->gpr, p->gpr, sizeof(p->gpr));
	memcpy(v->seg, p->seg, sizeof(p->seg));
}

/* The block ran right, and to its end; it looks as if it had not. Where a kick (the sampler's, every few milliseconds) came in its middle, and what
 * ended is the rest of it, a block of its own, all is run once more. */
static bool after(void *ctx, struct vcpu *v, const struct block *b)
{
	struct plant *p = ctx;
	bool at_end = p->spoil && v->seg[SEG_CS].base + v->eip == p->of->end, whole = b->gva == p->of->block;

	if (at_end && whole)
		p->spoil(p->r);
	bool good = p->real->after(p->real->ctx, v, b);
	if (at_end && !whole)
		begin_again(p, v);
	return good;
}

static void spoil_ebx(struct runtime *r) { r->v->gpr[EBX] ^= 0x10; }
static void spoil_eax(struct runtime *r) { r->v->gpr[EAX] ^= 1; }
static void spoil_eip(struct runtime *r) { r->v->eip++; }
static void spoil_carry(struct runtime *r) { r->v->flags ^= EFL_CF; }
static void spoil_memory(struct runtime *r) { r->ram[DATA + 1] ^= 1; }

static void enter_real_mode(struct runtime *r)
{
	static const uint8_t handler[] = {0xE6, 0xF4};
	const uint32_t vector = HANDLER;

	cpu_reset(r->v, false);
	r->v->seg[SEG_CS].selector = CODE >> 4;
	r->v->seg[SEG_CS].base = CODE;
	r->v->eip = 0;
	r->v->gpr[ESP] = 0x7000;
	memcpy(r->ram + vector, handler, sizeof(handler));
	memcpy(r->ram + 4 * VEC_GP, &vector, 4);
}

static struct runtime *create(const struct guest_code *of)
{
	static const struct runtime_config config = {.ram_size = 16u << 20, .tc_size = 1u << 20, .no_reset = true};
	struct runtime *r;
	char why[512];

	if (!CHECK(!runtime_create(&r, &config, why, sizeof(why))))
		return NULL;
	cpu_reset(r->v, true);
	r->v->eip = CODE;
	if (of->real)
		enter_real_mode(r);
	memcpy(r->ram + CODE, of->bytes, of->size);
	return r;
}

/* Run with what is planted; the report, to be freed. */
static char *report_of(const struct guest_code *of, void (*spoil)(struct runtime *r), enum runtime_end *end)
{
	struct runtime *r = create(of);
	struct verify *verify;
	char *text = NULL, why[512];
	size_t size;
	FILE *report = open_memstream(&text, &size);

	if (r && report && CHECK(!verify_create(&verify, r, report, why, sizeof(why)))) {
		struct plant plant = {.of = of, .real = r->observer, .spoil = spoil, .r = r};
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
	char *text = report_of(&flat_code, NULL, &end);

	CHECK_EQ(end, RUNTIME_MACHINE_ENDED);
	CHECK_STR(text, "");
	free(text);
}

TEST(verify, wrong_register)
{
	enum runtime_end end;
	char *text = report_of(&flat_code, spoil_ebx, &end);

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
	char *text = report_of(&flat_code, spoil_carry, &end);

	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "  flags 0001, reference 0000", ""));
	free(text);
}

TEST(verify, wrong_memory)
{
	enum runtime_end end;
	char *text = report_of(&flat_code, spoil_memory, &end);

	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "  memory 00008000 (4 bytes, step 5) 10c, reference c", ""));
	free(text);
}

/* Segments with bases, 16-bit operands and addresses, a load of DS, whose new base the next instructions use. */
TEST(verify, real_mode)
{
	enum runtime_end end;
	char *text = report_of(&unprotected_code, NULL, &end);

	CHECK_EQ(end, RUNTIME_MACHINE_ENDED);
	CHECK_STR(text, "");
	free(text);
	text = report_of(&unprotected_code, spoil_ebx, &end);
	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "verify: block", "at 00001005"));
	CHECK(has_line(text, "  ebx f0ff0010, reference f0ff0000", ""));
	CHECK(has_line(text, "* flags=", "bswap"));
	free(text);
	text = report_of(&unprotected_code, spoil_memory, &end);
	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "  memory 00008000", ""));
	free(text);
}

/* The reference, which knows no limits, is stopped where the monitor raises an exception; what comes before is compared. */
TEST(verify, limit)
{
	enum runtime_end end;
	char *text = report_of(&beyond_code, NULL, &end);

	CHECK_EQ(end, RUNTIME_MACHINE_ENDED);
	CHECK_STR(text, "");
	free(text);
	text = report_of(&beyond_code, spoil_eax, &end);
	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "  eax 00000000, reference 00000001", ""));
	free(text);
}

/* No difference: what an undefined flag makes of a branch, a register, and what follows. The processor's own flags are those of one start or the other
 * at the most, where the reference leaves them as they were. */
TEST(verify, undefined_flags)
{
	for (unsigned pf = 0; pf < 2; pf++) {
		const struct guest_code codes[] = {
			{branches[pf], sizeof(branches[pf]), 0, 0, false}, {sets[pf], sizeof(sets[pf]), 0, 0, false},
			{pops[pf], sizeof(pops[pf]), 0, 0, false}, {adds[pf], sizeof(adds[pf]), 0, 0, false},
		};
		for (unsigned i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
			enum runtime_end end;
			char *text = report_of(&codes[i], NULL, &end);
			CHECK_EQ(end, RUNTIME_MACHINE_ENDED);
			CHECK_STR(text, "");
			free(text);
		}
	}
}

/* A branch on one goes to its target or on, nowhere else, and the registers are compared; so is all where another instruction has defined the flag. */
TEST(verify, wrong_after_undefined_flags)
{
	enum runtime_end end;
	char *text = report_of(&either_way_code, spoil_eip, &end);

	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "  eip 00001013, reference 00001012", ""));
	free(text);
	text = report_of(&either_way_code, spoil_ebx, &end);
	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "  ebx 00000017, reference 00000007", ""));
	free(text);
	text = report_of(&defined_code, spoil_eax, &end);
	CHECK_EQ(end, RUNTIME_OBSERVER);
	CHECK(has_line(text, "  eax 00000001, reference 00000000", ""));
	free(text);
}
