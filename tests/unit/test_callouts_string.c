/* String instructions against their definition, element by element, over memory of every kind; and what a page-sized chunk costs. */
#include "tests/unit/test_callouts.h"

static callout_fn *const string_callouts[] = {callout_movs, callout_stos, callout_lods, callout_scas, callout_cmps, callout_ins,
                                              callout_outs};
enum { MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS };

struct operation {
	unsigned which, size, rep;
	enum seg seg;
	bool a16;
};

static bool reads_source(unsigned which) { return which == MOVS || which == LODS || which == CMPS || which == OUTS; }
static bool has_destination(unsigned which) { return which != LODS && which != OUTS; }
static bool writes_destination(unsigned which) { return which == MOVS || which == STOS || which == INS; }

static uint32_t naive_flags(uint32_t a, uint32_t b, unsigned size)
{
	unsigned top = (8u << size) - 1;
	uint32_t mask = size == 2 ? ~0u : (1u << (top + 1)) - 1, r = (a - b) & mask;
	uint32_t flags = (a < b ? EFL_CF : 0) | (r ? 0 : EFL_ZF) | (r >> top & 1 ? EFL_SF : 0) | ((a ^ b ^ r) & EFL_AF);
	flags |= ((a ^ b) & (a ^ r)) >> top & 1 ? EFL_OF : 0;
	return flags | (__builtin_parity(r & 0xFF) ? 0 : EFL_PF);
}

struct naive {
	struct vcpu *v;
	struct operation op;
	uint32_t mask;
	gva_t src, dst;
	uint32_t a, b;
	bool compared;
};

static bool naive_addresses(struct naive *n)
{
	struct vcpu *v = n->v;
	uint32_t bytes = 1u << n->op.size;
	if (reads_source(n->op.which) && !cpu_linear(v, n->op.seg, v->gpr[ESI] & n->mask, bytes, false, &n->src)) return false;
	return !has_destination(n->op.which) ||
	       cpu_linear(v, SEG_ES, v->gpr[EDI] & n->mask, bytes, writes_destination(n->op.which), &n->dst);
}

/* What one element does, by the operation sections of the manual. */
static bool naive_element(struct naive *n)
{
	struct vcpu *v = n->v;
	uint32_t bytes = 1u << n->op.size, keep = bytes == 4 ? 0 : ~0u << 8 * bytes, value = 0;
	if (!naive_addresses(n)) return false;
	if (reads_source(n->op.which) && !memory_read(v, n->src, &value, bytes, ACCESS_READ | memory_user(v))) return false;
	switch (n->op.which) {
	case MOVS: return memory_write(v, n->dst, &value, bytes, ACCESS_WRITE | memory_user(v));
	case STOS: return memory_write(v, n->dst, &v->gpr[EAX], bytes, ACCESS_WRITE | memory_user(v));
	case LODS: v->gpr[EAX] = (v->gpr[EAX] & keep) | value; return true;
	case OUTS: runtime_io_write(v, (uint16_t)v->gpr[EDX], bytes, value); return true;
	case INS:
		if (!memory_probe_write(v, n->dst, bytes, ACCESS_WRITE | memory_user(v))) return false;
		value = runtime_io_read(v, (uint16_t)v->gpr[EDX], bytes);
		return memory_write(v, n->dst, &value, bytes, ACCESS_WRITE | memory_user(v));
	default:
		n->a = n->op.which == CMPS ? value : v->gpr[EAX] & ~keep;
		n->b = 0;
		n->compared = true;
		return memory_read(v, n->dst, &n->b, bytes, ACCESS_READ | memory_user(v));
	}
}

static void naive_add(uint32_t *reg, uint32_t delta, uint32_t mask) { *reg = (*reg & ~mask) | ((*reg + delta) & mask); }

static enum callout_result naive_run(struct vcpu *v, struct operation op)
{
	struct naive n = {.v = v, .op = op, .mask = op.a16 ? 0xFFFF : ~0u};
	uint32_t step = v->df_flag ? -(1u << op.size) : 1u << op.size;
	while (!op.rep || (v->gpr[ECX] & n.mask)) {
		if (!naive_element(&n)) return CALLOUT_FAULT;
		if (reads_source(op.which)) naive_add(&v->gpr[ESI], step, n.mask);
		if (has_destination(op.which)) naive_add(&v->gpr[EDI], step, n.mask);
		if (!op.rep) break;
		naive_add(&v->gpr[ECX], -1u, n.mask);
		if (n.compared && (n.a == n.b) != (op.rep == 1)) break;
	}
	if (n.compared) v->flags = naive_flags(n.a, n.b, op.size);
	return CALLOUT_NEXT;
}

static uint32_t word_of(struct operation op)
{
	return CALLOUT_ARG(0, 2, 0, op.size, op.seg, op.rep, op.a16, 0, 0);
}

/* Until it is done, as the dispatcher would; the flags of interrupted calls are only those of the way. */
static enum callout_result run(struct vcpu *v, struct operation op, unsigned *again)
{
	for (;;) {
		uint32_t flags = v->flags;
		enum callout_result result = string_callouts[op.which](v, word_of(op), 0, 0);
		if (result == CALLOUT_FAULT) CHECK_EQ(v->flags, flags);
		if (result != CALLOUT_AGAIN) return result;
		++*again;
	}
}

static uint32_t seed;
static uint32_t pick(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % below;
}

static void random_memory(void)
{
	for (unsigned i = 0; i < FAKE_PAGES; i++) {
		uint32_t kind = pick(24);
		fake.pages[i].kind = kind == 0 ? FAKE_ABSENT : kind == 1 ? FAKE_READ_ONLY : kind < 5 ? FAKE_TRACED : kind == 5 ? FAKE_MMIO : FAKE_RAM;
		fake.pages[i].frame = pick(FAKE_FRAMES);
	}
	/* Long equal runs, so that comparisons go on for a while. */
	for (unsigned f = 0; f < FAKE_FRAMES; f++) {
		memset(fake.ram[f], 0x55, PAGE_SIZE);
		for (unsigned i = pick(4); i-- > 0;) fake.ram[f][pick(PAGE_SIZE)] = (uint8_t)pick(256);
	}
}

static uint32_t random_offset(bool a16)
{
	uint32_t page = pick(4) ? pick(a16 ? 16 : 31) : a16 ? 15 : 0;
	uint32_t at = pick(3) ? pick(PAGE_SIZE) : PAGE_SIZE - 8 + pick(16);
	return page * PAGE_SIZE + at;
}

static struct operation random_operation(struct vcpu *v)
{
	static const uint32_t bases[] = {0, 0, 0x3000, 0xFFFFF000u, 0x801};
	struct operation op = {.which = pick(7), .size = pick(3), .rep = pick(3), .seg = pick(2) ? SEG_DS : SEG_FS, .a16 = pick(3) == 0};
	for (unsigned i = 0; i < SEG_COUNT; i++) fake_segment((enum seg)i, bases[pick(5)], pick(4) ? ~0u : 0x8000 + pick(0x10000));
	for (unsigned i = 0; i < 8; i++) v->gpr[i] = pick(1u << 24) * 257u;
	v->gpr[ESI] = random_offset(op.a16);
	v->gpr[EDI] = pick(3) ? random_offset(op.a16) : v->gpr[ESI] + pick(32) - 16;
	if (op.a16) v->gpr[ESI] |= 0xABCD0000u, v->gpr[EDI] |= 0x12340000u;
	v->gpr[ECX] = (op.a16 ? 0x77770000u : 0) | (pick(3) ? pick(64) : pick(6000));
	v->gpr[EAX] = pick(2) ? 0x55555555u : v->gpr[EAX];
	v->df_flag = pick(3) == 0;
	v->flags = pick(2) ? EFL_CF | EFL_OF : EFL_ZF | EFL_PF;
	if (pick(10) == 0) v->cpl = 3, v->mode |= 3;
	return op;
}

static void compare(const struct fake *expected, enum callout_result a, enum callout_result b, bool interrupted)
{
	CHECK_EQ(a, b);
	CHECK_MEM(fake.v.gpr, expected->v.gpr, sizeof fake.v.gpr);
	/* A fault behind an interruption shows the flags that the interruption did. */
	if (a != CALLOUT_FAULT || !interrupted) CHECK_EQ(fake.v.flags, expected->v.flags);
	CHECK(!memcmp(fake.ram, expected->ram, sizeof fake.ram));
	/* The definition reads MMIO before it finds that the destination faults; sparing the device that read is as good. */
	CHECK(fake.logged == expected->logged || (a == CALLOUT_FAULT && fake.logged + 1 == expected->logged));
	CHECK(!memcmp(fake.log, expected->log, fake.logged * sizeof *fake.log));
	if (a != CALLOUT_FAULT) return;
	CHECK_EQ(fake.v.fault.vector, expected->v.fault.vector);
	CHECK_EQ(fake.v.fault.error, expected->v.fault.error);
	if (fake.v.fault.vector == VEC_PF) CHECK_EQ(fake.v.fault.cr2, expected->v.fault.cr2);
}

TEST(callouts_string, do_what_their_elements_would)
{
	static struct fake before, expected;
	unsigned faults = 0, again = 0;
	for (uint32_t i = 0; i < 6000 && !test_has_failed(); i++) {
		seed = i * 7919u + 1;
		struct vcpu *v = fake_reset();
		random_memory();
		struct operation op = random_operation(v);
		before = fake;
		enum callout_result a = naive_run(v, op);
		expected = fake;
		fake = before;
		unsigned again_before = again;
		enum callout_result b = run(v, op, &again);
		compare(&expected, b, a, again != again_before);
		faults += a == CALLOUT_FAULT;
		if (test_has_failed())
			FAIL("case %u: operation %u size %u rep %u a16 %d df %d", i, op.which, op.size, op.rep, op.a16, v->df_flag);
	}
	CHECK(faults > 100);
	CHECK(again > 20);
}

TEST(callouts_string, a_count_of_zero_does_nothing)
{
	struct vcpu *v = fake_reset();
	fake_segment(SEG_ES, 0, 0);
	v->gpr[ESI] = v->gpr[EDI] = 0xF0000000u;
	v->flags = EFL_CF;
	v->mode &= ~MODE_IOPL_OK;
	for (unsigned which = 0; which < 7; which++) {
		unsigned again = 0;
		CHECK_EQ(run(v, (struct operation){.which = which, .size = 2, .rep = 1}, &again), CALLOUT_NEXT);
	}
	CHECK_EQ(v->gpr[ESI], 0xF0000000u);
	CHECK_EQ(v->gpr[EDI], 0xF0000000u);
	CHECK_EQ(v->flags, EFL_CF);
	CHECK_EQ(fake.logged, 0);
}

TEST(callouts_string, a_long_one_lets_interrupts_in)
{
	struct vcpu *v = fake_reset();
	v->gpr[ECX] = 0x18000;
	unsigned again = 0;
	CHECK_EQ(callout_stos(v, word_of((struct operation){.which = STOS, .rep = 1}), 0, 0), CALLOUT_AGAIN);
	CHECK_EQ(v->gpr[EDI], 0x10000);
	CHECK_EQ(v->gpr[ECX], 0x8000);
	CHECK_EQ(run(v, (struct operation){.which = STOS, .rep = 1}, &again), CALLOUT_NEXT);
	CHECK_EQ(v->gpr[EDI], 0x18000);
	CHECK_EQ(v->gpr[ECX], 0);
}

TEST(callouts_string, a_single_step_sees_each_element)
{
	struct vcpu *v = fake_reset();
	uint32_t word = word_of((struct operation){.which = LODS, .rep = 1});
	v->mode |= MODE_TF;
	v->gpr[ECX] = 3;
	CHECK_EQ(callout_lods(v, word, 0, 0), CALLOUT_AGAIN);
	CHECK_EQ(v->gpr[ECX], 2);
	CHECK_EQ(callout_lods(v, word, 0, 0), CALLOUT_AGAIN);
	CHECK_EQ(callout_lods(v, word, 0, 0), CALLOUT_NEXT);
	CHECK_EQ(v->gpr[ESI], 3);
}

TEST(callouts_string, a_traced_page_is_cleared_by_one_store)
{
	struct vcpu *v = fake_reset();
	fake.pages[5].kind = FAKE_TRACED;
	memset(fake.ram[5], 0xFF, PAGE_SIZE);
	for (int down = 0; down < 2; down++) {
		unsigned again = 0;
		fake.traced_writes = 0;
		v->df_flag = (uint8_t)down;
		v->gpr[EAX] = 0x01020304;
		v->gpr[EDI] = down ? 0x5FFC : 0x5000;
		v->gpr[ECX] = 1024;
		CHECK_EQ(run(v, (struct operation){.which = STOS, .size = 2, .rep = 1}, &again), CALLOUT_NEXT);
		CHECK_EQ(fake.traced_writes, 1);
		CHECK_EQ(fake_read32(0x5000), 0x01020304);
		CHECK_EQ(fake_read32(0x5FFC), 0x01020304);
	}
	/* A few page-table entries are no bulk store. */
	fake.traced_writes = 0;
	v->df_flag = 0;
	v->gpr[EDI] = 0x5000;
	v->gpr[ECX] = 4;
	unsigned again = 0;
	CHECK_EQ(run(v, (struct operation){.which = STOS, .size = 2, .rep = 1}, &again), CALLOUT_NEXT);
	CHECK_EQ(fake.traced_writes, 4);
}

TEST(callouts_string, ports_need_permission)
{
	struct vcpu *v = fake_reset();
	v->mode = (v->mode & ~MODE_IOPL_OK) | 3;
	v->cpl = 3;
	v->gpr[ECX] = 2;
	for (unsigned which = INS; which <= OUTS; which++) {
		unsigned again = 0;
		v->fault.vector = 0;
		CHECK_EQ(run(v, (struct operation){.which = which, .rep = 1}, &again), CALLOUT_FAULT);
		CHECK_EQ(v->fault.vector, VEC_GP);
		CHECK_EQ(v->fault.error, 0);
	}
	CHECK_EQ(v->gpr[ECX], 2);
	CHECK_EQ(fake.logged, 0);
}

TEST(callouts_string, misaligned_elements_raise_alignment_checks)
{
	struct vcpu *v = fake_reset();
	unsigned again = 0;
	v->mode |= MODE_AC | 3;
	v->cpl = 3;
	v->gpr[ESI] = 0x1002;
	CHECK_EQ(run(v, (struct operation){.which = LODS, .size = 1}, &again), CALLOUT_NEXT);
	v->gpr[ESI] = 0x1002;
	CHECK_EQ(run(v, (struct operation){.which = LODS, .size = 2}, &again), CALLOUT_FAULT);
	CHECK_EQ(v->fault.vector, VEC_AC);
	CHECK_EQ(v->gpr[ESI], 0x1002);
}
