/* String instructions, in chunks that stay within a page of each operand. What a chunk does is exactly what its elements would do
 * one by one; where a page is no plain RAM (MMIO, a traced frame), or an element crosses pages, elements do go one by one.
 * x87, MMX and MXCSR are the guest's while this runs, and most often XMM as well (quick.c): no floating point here, and no functions of C's. */
#include "base/abi.h"
#include "runtime/cpu_private.h"

/* Work of one call, in bytes, before interrupts get their turn; an element that goes alone, or to a port, counts as so many. */
#define BUDGET 65536u
#define SINGLE_COST 256u
#define PORT_COST 64u
/* From here on, a chunk written to a traced frame is told to the shadow as one bulk store. */
#define BULK_MIN 256u
/* So many elements are worth the start of the host's own repetition. */
#define REPEAT_MIN 16u

struct operand {
	enum seg seg;
	unsigned reg;  /* ESI or EDI */
	gva_t gva;     /* of the next element */
	uint8_t *host; /* of the next element, or NULL: no plain RAM */
};

struct string {
	struct vcpu *v;
	struct operand src, dst;
	unsigned shift;  /* log2 of the bytes of an element */
	unsigned bytes;
	uint32_t mask;   /* of offsets and the count */
	uint32_t count;
	unsigned rep;
	bool down;       /* DF */
	uint16_t port;
	bool ended;      /* REPE, REPNE: by a comparison */
	bool compared;
	uint32_t left, right; /* what was compared last */
};

/* One instruction: `chunk` does up to n elements in plain RAM and returns how many; `single` does one element by linear address,
 * and is false on a fault. */
struct operation {
	uint32_t (*chunk)(struct string *s, uint32_t n);
	bool (*single)(struct string *s);
	bool src, dst, writes, port;
};

static unsigned read_access(const struct string *s) { return ACCESS_READ | memory_user(s->v); }
static unsigned write_access(const struct string *s) { return ACCESS_WRITE | memory_user(s->v); }

static uint32_t load(const uint8_t *at, unsigned shift)
{
	uint32_t value = 0;
	switch (shift) {
	case 0: return *at;
	case 1: __builtin_memcpy(&value, at, 2); return value;
	default: __builtin_memcpy(&value, at, 4); return value;
	}
}

static void store(uint8_t *at, uint32_t value, unsigned shift)
{
	switch (shift) {
	case 0: *at = (uint8_t)value; break;
	case 1: __builtin_memcpy(at, &value, 2); break;
	default: __builtin_memcpy(at, &value, 4);
	}
}

static uint32_t offset_of(const struct string *s, const struct operand *o) { return s->v->gpr[o->reg] & s->mask; }

/* The lowest address of the n elements that begin at `host`. */
static uint8_t *lowest(const struct string *s, uint8_t *host, uint32_t n)
{
	return s->down ? host - ((size_t)(n - 1) << s->shift) : host;
}

/* The i-th element in the order of execution, of n. */
static uint8_t *element(const struct string *s, uint8_t *host, uint32_t i)
{
	size_t distance = (size_t)i << s->shift;
	return s->down ? host - distance : host + distance;
}

/* How many elements stay within the page and before a wrap of the offset; 0 if the first crosses into another page. */
static uint32_t reach(const struct string *s, const struct operand *o)
{
	uint32_t offset = offset_of(s, o);
	uint32_t in_page = (s->v->seg[o->seg].base + offset) & PAGE_MASK;
	if (in_page + s->bytes > PAGE_SIZE) return 0;
	uint32_t by_page = s->down ? (in_page >> s->shift) + 1 : (PAGE_SIZE - in_page) >> s->shift;
	uint64_t by_wrap = s->down ? ((uint64_t)offset >> s->shift) + 1 : ((uint64_t)s->mask + 1 - offset) >> s->shift;
	return by_wrap < by_page ? (uint32_t)by_wrap : by_page;
}

static uint32_t chunk_length(const struct string *s, const struct operation *op)
{
	/* A single step ends after each element, and a breakpoint is met by one. */
	uint32_t n = s->v->mode & (MODE_TF | MODE_DR7) ? 1 : s->count;
	if (op->src && reach(s, &s->src) < n) n = reach(s, &s->src);
	if (op->dst && reach(s, &s->dst) < n) n = reach(s, &s->dst);
	return n;
}

/* Segment and alignment checks. Near a limit *n becomes 1, so that the element that faults is reached by itself. */
static bool check_operand(const struct string *s, struct operand *o, bool write, uint32_t *n)
{
	struct vcpu *v = s->v;
	uint32_t offset = offset_of(s, o);
	if (*n > 1) {
		uint32_t low = s->down ? offset - ((*n - 1) << s->shift) : offset;
		if (!cpu_linear(v, o->seg, low, *n << s->shift, write, &o->gva)) *n = 1;
	}
	if (!cpu_linear(v, o->seg, offset, s->bytes, write, &o->gva)) return false;
	if (!(v->mode & MODE_AC) || !(o->gva & (s->bytes - 1))) return true;
	cpu_raise_error(v, VEC_AC, 0);
	return false;
}

/* False on a true fault; else o->host says whether the page is plain RAM. */
static bool find_page(const struct string *s, struct operand *o, unsigned access)
{
	o->host = memory_page(s->v, o->gva, access);
	return o->host || (!s->v->quick && s->v->fault.vector == 0xFF);
}

/* A chunk on its way to a traced frame is made in a buffer and written as one: element by element, a page-sized store to a page
 * table would cost a thousand updates. Returns 0 if that may not be done. */
static uint32_t bulk_chunk(struct string *s, const struct operation *op, uint32_t n)
{
	uint8_t buffer[PAGE_SIZE];
	uint32_t size = n << s->shift;
	if (!op->writes || size < BULK_MIN || (op->src && !s->src.host)) return 0;
	uint8_t *ram = memory_page(s->v, s->dst.gva, read_access(s));
	if (!ram) return 0; /* MMIO sees every element */
	if (op->src) {
		uint8_t *from = lowest(s, s->src.host, n), *to = lowest(s, ram, n);
		if (from < to + size && to < from + size) return 0;
	}
	s->dst.host = s->down ? buffer + size - s->bytes : buffer;
	uint32_t done = op->chunk(s, n);
	gva_t low = s->down ? s->dst.gva - (size - s->bytes) : s->dst.gva;
	return memory_write(s->v, low, buffer, size, write_access(s)) ? done : 0;
}

/* Does at least one element; returns how many, or 0 on a fault. */
static uint32_t advance_some(struct string *s, const struct operation *op, uint32_t *cost)
{
	uint32_t n = chunk_length(s, op);
	bool crossing = n == 0;
	if (crossing) n = 1;
	if (op->src && !check_operand(s, &s->src, false, &n)) return 0;
	if (op->dst && !check_operand(s, &s->dst, op->writes, &n)) return 0;
	*cost = SINGLE_COST;
	if (!crossing) {
		if (op->src && !find_page(s, &s->src, read_access(s))) return 0;
		if (op->dst && !find_page(s, &s->dst, op->writes ? write_access(s) : read_access(s))) return 0;
		*cost = op->port ? PORT_COST * n : n << s->shift;
		if (op->port && n > BUDGET / PORT_COST) n = BUDGET / PORT_COST;
		if ((!op->src || s->src.host) && (!op->dst || s->dst.host)) return op->chunk(s, n);
		uint32_t done = bulk_chunk(s, op, n);
		if (done) return done;
		*cost = SINGLE_COST;
	}
	return op->single(s) ? 1 : 0;
}

static void add_masked(const struct string *s, unsigned reg, uint32_t delta)
{
	uint32_t *r = &s->v->gpr[reg];
	*r = (*r & ~s->mask) | ((*r + delta) & s->mask);
}

/* The registers follow each chunk: a fault or an interrupt finds them exact. */
static void update_registers(struct string *s, const struct operation *op, uint32_t done)
{
	uint32_t delta = done << s->shift;
	if (s->down) delta = -delta;
	if (op->src) add_masked(s, ESI, delta);
	if (op->dst) add_masked(s, EDI, delta);
	s->count -= done;
	if (s->rep) add_masked(s, ECX, -done);
}

/* One definition of a comparison's flags: the processor's. */
static uint32_t compare_flags(uint32_t left, uint32_t right, unsigned shift)
{
	uint32_t out;
	switch (shift) {
	case 0: __asm__("cmpb %b2, %b1; lahf; seto %%al" : "=&a"(out) : "q"(left), "q"(right) : "cc"); break;
	case 1: __asm__("cmpw %w2, %w1; lahf; seto %%al" : "=&a"(out) : "q"(left), "q"(right) : "cc"); break;
	default: __asm__("cmpl %2, %1; lahf; seto %%al" : "=&a"(out) : "q"(left), "q"(right) : "cc");
	}
	return ((out >> 8 & 0xFF) | (out & 1) << 11) & EFL_ARITH;
}

/* Flags are set once the call is over; a fault leaves them as they were (vol. 2, REP). */
static enum callout_result finish(struct string *s, enum callout_result result)
{
	if (s->compared) s->v->flags = compare_flags(s->left, s->right, s->shift);
	/* What comes between two iterations comes back with RF set: an instruction breakpoint has been met already. */
	if (result == CALLOUT_AGAIN) s->v->eflags |= EFL_RF;
	else s->v->eflags &= ~EFL_RF;
	return result;
}

/* Breakpoints on the element just done. */
static void watch(const struct string *s, const struct operation *op)
{
	if (op->src) cpu_watch(s->v, s->src.gva, s->bytes, false);
	if (op->dst) cpu_watch(s->v, s->dst.gva, s->bytes, op->writes);
	if (op->port) cpu_watch_port(s->v, s->port, s->bytes);
}

/* Field by field: an initializer would clear the rest first, by a repeated string instruction, which has a long start. */
static void begin(struct string *s, struct vcpu *v, uint32_t arg)
{
	s->v = v;
	s->shift = CALLOUT_SIZE(arg);
	s->bytes = 1u << s->shift;
	s->mask = CALLOUT_A16(arg) ? 0xFFFFu : ~0u;
	s->rep = CALLOUT_REP(arg);
	s->count = s->rep ? v->gpr[ECX] & s->mask : 1;
	s->down = v->df_flag;
	s->port = (uint16_t)v->gpr[EDX];
	s->ended = s->compared = false;
	s->src.seg = (enum seg)CALLOUT_SEG(arg);
	s->src.reg = ESI;
	s->src.host = NULL;
	s->dst.seg = SEG_ES;
	s->dst.reg = EDI;
	s->dst.host = NULL;
}

static enum callout_result run(struct vcpu *v, uint32_t arg, const struct operation *op)
{
	struct string s;
	begin(&s, v, arg);
	if (s.count && op->port && !cpu_io_allowed(v, s.port, s.bytes)) return CALLOUT_FAULT;
	for (uint32_t used = 0; s.count && !s.ended;) {
		/* A single step traps after every element of a repetition, the last one by the common way. */
		if (used >= BUDGET || (used && (v->mode & MODE_TF || v->debug_hits))) return finish(&s, CALLOUT_AGAIN);
		uint32_t cost, done = advance_some(&s, op, &cost);
		if (!done) return CALLOUT_FAULT;
		if (v->mode & MODE_DR7) watch(&s, op);
		update_registers(&s, op, done);
		used += cost;
	}
	return finish(&s, CALLOUT_NEXT);
}

/* MOVS. Where the destination begins inside the source, ahead of it, elements replicate; else bytes do as well as elements. */
static uint32_t movs_chunk(struct string *s, uint32_t n)
{
	size_t size = (size_t)n << s->shift;
	uint8_t *from = s->src.host, *to = s->dst.host;
	if (!s->down && n >= REPEAT_MIN && (size_t)((uintptr_t)to - (uintptr_t)from) >= size) {
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
		return n;
	}
	for (uint32_t i = 0; i < n; i++) store(element(s, s->dst.host, i), load(element(s, s->src.host, i), s->shift), s->shift);
	return n;
}

static bool movs_single(struct string *s)
{
	uint32_t value;
	return memory_read(s->v, s->src.gva, &value, s->bytes, read_access(s)) &&
	       memory_write(s->v, s->dst.gva, &value, s->bytes, write_access(s));
}

enum callout_result callout_movs(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	static const struct operation op = {movs_chunk, movs_single, .src = true, .dst = true, .writes = true};
	(void)ea, (void)extra;
	return run(v, arg, &op);
}

/* The host's own string instruction, which fills by cache lines. */
static uint32_t stos_chunk(struct string *s, uint32_t n)
{
	uint8_t *to = lowest(s, s->dst.host, n);
	uint32_t value = s->v->gpr[EAX];
	size_t count = n;

	if (n < REPEAT_MIN) {
		for (uint32_t i = 0; i < n; i++) store(to + ((size_t)i << s->shift), value, s->shift);
		return n;
	}
	if (s->shift == 0)
		__asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
	else if (s->shift == 1)
		__asm__ volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory");
	else
		__asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory");
	return n;
}

static bool stos_single(struct string *s)
{
	return memory_write(s->v, s->dst.gva, &s->v->gpr[EAX], s->bytes, write_access(s));
}

enum callout_result callout_stos(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	static const struct operation op = {stos_chunk, stos_single, .dst = true, .writes = true};
	(void)ea, (void)extra;
	return run(v, arg, &op);
}

static uint32_t accumulator_mask(const struct string *s) { return s->shift == 2 ? ~0u : (1u << (8 * s->bytes)) - 1; }

static void set_accumulator(struct string *s, uint32_t value)
{
	uint32_t mask = accumulator_mask(s);
	s->v->gpr[EAX] = (s->v->gpr[EAX] & ~mask) | (value & mask);
}

static uint32_t lods_chunk(struct string *s, uint32_t n)
{
	set_accumulator(s, load(element(s, s->src.host, n - 1), s->shift));
	return n;
}

static bool lods_single(struct string *s)
{
	uint32_t value;
	if (!memory_read(s->v, s->src.gva, &value, s->bytes, read_access(s))) return false;
	set_accumulator(s, value);
	return true;
}

enum callout_result callout_lods(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	static const struct operation op = {lods_chunk, lods_single, .src = true};
	(void)ea, (void)extra;
	return run(v, arg, &op);
}

/* REPE goes on while equal, REPNE while not. */
static void compared(struct string *s, uint32_t left, uint32_t right)
{
	s->compared = true;
	s->left = left;
	s->right = right;
	s->ended = s->rep && (left == right) != (s->rep == 1);
}

static uint32_t scas_chunk(struct string *s, uint32_t n)
{
	uint32_t left = s->v->gpr[EAX] & accumulator_mask(s), i = 0;
	if (s->shift == 0 && s->rep == 2 && !s->down)
		while (i < n - 1 && s->dst.host[i] != left) i++;
	else
		while (i < n - 1 && (load(element(s, s->dst.host, i), s->shift) == left) == (s->rep == 1)) i++;
	compared(s, left, load(element(s, s->dst.host, i), s->shift));
	return i + 1;
}

static bool scas_single(struct string *s)
{
	uint32_t right = 0;
	if (!memory_read(s->v, s->dst.gva, &right, s->bytes, read_access(s))) return false;
	compared(s, s->v->gpr[EAX] & accumulator_mask(s), right);
	return true;
}

enum callout_result callout_scas(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	static const struct operation op = {scas_chunk, scas_single, .dst = true};
	(void)ea, (void)extra;
	return run(v, arg, &op);
}

static uint32_t cmps_chunk(struct string *s, uint32_t n)
{
	uint32_t i = 0, left, right;
	for (;; i++) {
		left = load(element(s, s->src.host, i), s->shift);
		right = load(element(s, s->dst.host, i), s->shift);
		if (i == n - 1 || (left == right) != (s->rep == 1)) break;
	}
	compared(s, left, right);
	return i + 1;
}

static bool cmps_single(struct string *s)
{
	uint32_t left = 0, right = 0;
	if (!memory_read(s->v, s->src.gva, &left, s->bytes, read_access(s))) return false;
	if (!memory_read(s->v, s->dst.gva, &right, s->bytes, read_access(s))) return false;
	compared(s, left, right);
	return true;
}

enum callout_result callout_cmps(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	static const struct operation op = {cmps_chunk, cmps_single, .src = true, .dst = true};
	(void)ea, (void)extra;
	return run(v, arg, &op);
}

static uint32_t ins_chunk(struct string *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		store(element(s, s->dst.host, i), runtime_io_read(s->v, s->port, s->bytes), s->shift);
	return n;
}

/* What a port gave is gone: make sure first that it can be stored. */
static bool ins_single(struct string *s)
{
	if (!memory_probe_write(s->v, s->dst.gva, s->bytes, write_access(s))) return false;
	uint32_t value = runtime_io_read(s->v, s->port, s->bytes);
	return memory_write(s->v, s->dst.gva, &value, s->bytes, write_access(s));
}

enum callout_result callout_ins(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	static const struct operation op = {ins_chunk, ins_single, .dst = true, .writes = true, .port = true};
	(void)ea, (void)extra;
	return run(v, arg, &op);
}

static uint32_t outs_chunk(struct string *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		runtime_io_write(s->v, s->port, s->bytes, load(element(s, s->src.host, i), s->shift));
	return n;
}

static bool outs_single(struct string *s)
{
	uint32_t value = 0;
	if (!memory_read(s->v, s->src.gva, &value, s->bytes, read_access(s))) return false;
	runtime_io_write(s->v, s->port, s->bytes, value);
	return true;
}

enum callout_result callout_outs(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	static const struct operation op = {outs_chunk, outs_single, .src = true, .port = true};
	(void)ea, (void)extra;
	return run(v, arg, &op);
}
