/* From the vCPU's EIP to a block: exec table, cache, translator. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/disasm.h"
#include "base/log.h"
#include "runtime/internal.h"

static uint32_t *exec_table(const struct shadow_view *view)
{
	return (uint32_t *)(view->tables + ABI_EXEC_TABLE);
}

/* The frame behind a linear address for fetching, or GFN_NONE with v->fault set. */
static gfn_t fetch_frame(struct runtime *r, gva_t gva)
{
	struct vcpu *v = r->v;
	uint32_t entry = exec_table(r->view)[gva >> PAGE_SHIFT];

	if (entry)
		return entry - 1;
	struct shadow_answer a = shadow_resolve(r->shadow, gva, ACCESS_FETCH | memory_user(v));
	if (a.kind == SHADOW_FAULT) {
		v->fault = (struct guest_fault){.vector = VEC_PF, .has_error = true, .error = a.error, .cr2 = gva};
		return GFN_NONE;
	}
	if (a.kind == SHADOW_MMIO) {
		/* Nothing answers: FFh, FFh is no instruction. */
		v->fault = (struct guest_fault){.vector = VEC_UD};
		return GFN_NONE;
	}
	return (gfn_t)(a.gpa >> PAGE_SHIFT);
}

bool code_is_elsewhere(const struct runtime *r, const struct block *b)
{
	uint32_t entry = exec_table(r->view)[b->gva >> PAGE_SHIFT];

	return entry && entry - 1 != b->gpa >> PAGE_SHIFT;
}

static bool second_page_matches(struct runtime *r, const struct block *b)
{
	if (b->gfn2 == GFN_NONE)
		return true;
	/* The walk may set a bit in the block's own bytes. */
	return fetch_frame(r, (b->gva | PAGE_MASK) + 1) == b->gfn2 && !b->dead;
}

struct code_place code_place(const struct runtime *r, const struct block *b)
{
	return (struct code_place){.gva = b->gva, .page = r->ram + (b->gpa & ~(gpa_t)PAGE_MASK), .mode = b->mode, .cr3 = r->v->cr3};
}

const uint8_t *code_page(struct runtime *r, gva_t gva, bool user)
{
	struct shadow_answer a = shadow_peek(r->shadow, gva, ACCESS_READ | (user ? ACCESS_USER : ACCESS_AC));

	if (a.kind != SHADOW_RAM && a.kind != SHADOW_TRACED)
		return NULL;
	return r->ram + (a.gpa & ~(gpa_t)PAGE_MASK);
}

static void tell_perf(struct runtime *r, const struct block *b)
{
	struct code_place place = code_place(r, b);
	char name[SYMBOLS_NAME];

	symbols_print(r->config.symbols, &place, name, sizeof(name));
	perf_add(r->perf, b, name);
}

static void dump_block(struct runtime *r, const struct translator_input *in, const struct block *b)
{
	struct code_place place = code_place(r, b);
	char name[SYMBOLS_NAME];

	symbols_print(r->config.symbols, &place, name, sizeof(name));
	fprintf(r->dump, "\nblock at %08x %s, frame %05x, mode %08x: %u instructions, %u bytes of host code\n", b->gva, name,
		(unsigned)(b->gpa >> PAGE_SHIFT), b->mode, b->instructions, b->host_length);
	disasm_print(r->dump, in->bytes, b->guest_length, in->eip, in->mode & MODE_CS32 ? DISASM_32 : DISASM_16);
	fprintf(r->dump, "  --\n");
	disasm_print(r->dump, (const uint8_t *)b->host_pc, b->host_length, b->host_pc, DISASM_64);
	for (uint32_t i = 0; i < b->slot_count; i++)
		fprintf(r->dump, "  to %08x by %llx\n", b->slots[i].target, (unsigned long long)cache_exit_stub(b, i));
	fflush(r->dump);
}

static struct translator_stubs stubs_for(const struct runtime *r)
{
	bool inline_lookup = !r->observer && !(r->config.chaos & CHAOS_NO_CHAIN);

	return (struct translator_stubs){
		.chain = (host_pc_t)entry_chain,
		.lookup = (host_pc_t)(inline_lookup ? entry_lookup : entry_lookup_slow),
		.lookup_slow = (host_pc_t)entry_lookup_slow,
		.lookup_parked = (host_pc_t)(inline_lookup ? entry_lookup_parked : entry_lookup_slow_parked),
		.lookup_slow_parked = (host_pc_t)entry_lookup_slow_parked,
		.callout = (host_pc_t)entry_callout,
		.soft = (host_pc_t)entry_soft,
		.sysenter = (host_pc_t)(inline_lookup ? entry_sysenter : entry_callout),
		.sysexit = (host_pc_t)(inline_lookup ? entry_sysexit : entry_callout),
		.load = {
			[SEG_ES] = (host_pc_t)(inline_lookup ? entry_load_es : entry_callout),
			[SEG_DS] = (host_pc_t)(inline_lookup ? entry_load_ds : entry_callout),
			[SEG_FS] = (host_pc_t)(inline_lookup ? entry_load_fs : entry_callout),
			[SEG_GS] = (host_pc_t)(inline_lookup ? entry_load_gs : entry_callout),
		},
	};
}

/* How a block is about to be entered: by a branch from the same page; by one from another page, which needs a check; or by the inline
 * lookup, which needs a pad. */
enum way { WAY_PLAIN, WAY_CHECKED, WAY_PAD };

/* Else the dispatcher alone enters it. */
static bool has_ways(const struct runtime *r, uint32_t mode)
{
	return !r->observer && !(r->config.chaos & CHAOS_NO_CHAIN) && !(mode & (MODE_ONE | MODE_THUNK));
}

static bool has_way(const struct block *b, enum way way)
{
	return way == WAY_PLAIN || (way == WAY_CHECKED ? b->checked != b->body : b->checked != 0);
}

static uint32_t entry_by(const struct block *b, enum way way)
{
	return way == WAY_CHECKED ? b->checked : b->body;
}

/* Where a branch of this block leads, as far as the view shows it; nothing is walked or marked for it. `what` has the block's mode and limit. */
static bool target_shown(const struct runtime *r, const struct block *from, uint32_t eip, struct block *what, bool *far)
{
	gva_t gva = from->gva - from->eip + eip;
	*far = (from->gva ^ gva) >= PAGE_SIZE;
	uint32_t shown = *far ? exec_table(r->view)[gva >> PAGE_SHIFT] : (uint32_t)(from->gpa >> PAGE_SHIFT) + 1;

	what->gva = gva;
	what->eip = eip;
	what->gpa = (gpa_t)(shown - 1) << PAGE_SHIFT | (gva & PAGE_MASK);
	return shown;
}

static struct block *find_far(struct runtime *r, const struct block *what, uint32_t *entry)
{
	struct block *b = cache_lookup_far(r->cache, what);

	if (!b || !has_way(b, WAY_CHECKED) || b->gfn2 != GFN_NONE)
		return NULL;
	*entry = entry_by(b, WAY_CHECKED);
	return b;
}

/* Where there is code for a branch's target, and this way into it, a link made now need not come by the dispatcher later: four of five are used. */
static void link_known(struct runtime *r, struct block *from)
{
	struct block what = {.cs_end = from->cs_end, .mode = from->mode};
	uint32_t entry;
	bool far;

	for (uint32_t i = 0; i < from->slot_count; i++)
		if (target_shown(r, from, from->slots[i].target, &what, &far) && far)
			cache_prefetch(r->cache, &what);
	for (uint32_t i = 0; i < from->slot_count; i++) {
		if (!target_shown(r, from, from->slots[i].target, &what, &far))
			continue;
		struct block *to = far ? find_far(r, &what, &entry) : cache_find_entry(r->cache, &what, &entry);
		if (to)
			cache_link(r->cache, from, i, to, entry);
	}
}

/* What is to be done for a new block, however it was made. */
static struct block *committed(struct runtime *r, const struct translator_input *in, struct block *b)
{
	code_memory_used(r, b->host_pc + b->host_length);
	shadow_trace_code(r->shadow, in->gfn);
	if (in->gfn2 != GFN_NONE)
		shadow_trace_code(r->shadow, in->gfn2);
	if (has_ways(r, in->mode))
		link_known(r, b);
	if (r->dump)
		dump_block(r, in, b);
	if (r->perf)
		tell_perf(r, b);
	return b;
}

static bool is_aside(const struct runtime *r)
{
	return !r->link_from && r->resumes;
}

/* User code runs at one address in one program and at another in the next. The kernel has one. */
static bool is_movable(const struct runtime *r, const struct translator_input *in)
{
	return (in->mode & MODE_CPL) == 3 && has_ways(r, in->mode) && !in->cs_base && !in->cs_end && in->gfn2 == GFN_NONE && in->max_instructions;
}

static struct block *commit(struct runtime *r, const struct translator_input *in, const struct translator_output *out, bool way)
{
	gva_t gva = in->cs_base + in->eip;
	struct block what = {
		.gva = gva, .eip = in->eip, .cs_end = in->cs_end, .gpa = (gpa_t)in->gfn << PAGE_SHIFT | (gva & PAGE_MASK), .gfn2 = in->gfn2,
		.guest_length = out->guest_length, .mode = in->mode, .instructions = out->instructions,
		.host_length = out->code_length, .checked = out->checked, .body = out->body, .row_count = out->row_count, .slot_count = out->slot_count,
		.slots = (struct link_slot *)out->slots, .way = way, .aside = is_aside(r), .movable = out->movable && is_movable(r, in),
	};

	if (what.movable) {
		what.fixes = out->fixes;
		what.fix_count = (uint16_t)out->fix_count;
	}
	cache_skip(r->cache, out->lead);
	struct block *b = cache_commit(r->cache, &what, out->rows, out->code_length);

	r->stats.blocks_translated++;
	r->stats.guest_instructions_translated += out->instructions;
	r->stats.host_bytes_emitted += out->lead + out->code_length;
	if (r->forms)
		forms_count(r->forms, in->bytes, out->guest_length, in->mode);
	return committed(r, in, b);
}

/* Where the same guest code has a block at another address that may be entered in the way wanted, that block's code serves. */
static struct block *copy_twin(struct runtime *r, const struct block *what, const struct translator_input *in)
{
	const struct block *twin = is_movable(r, in) ? cache_find_twin(r->cache, what) : NULL;
	struct block copy = *what;

	if (!twin || (in->pad && !has_way(twin, WAY_PAD)) || (in->check && !has_way(twin, WAY_CHECKED)))
		return NULL;
	copy.aside = is_aside(r);
	struct block *b = cache_copy(r->cache, twin, &copy);
	r->stats.blocks_copied += b != NULL;
	return b ? committed(r, in, b) : NULL;
}

#define RESERVE 16384u

/* Emit into reserved code memory; larger blocks than the first guess get what the translator can use at most. */
static struct block *emit(struct runtime *r, const struct block *what, struct translator_input *in, int *err)
{
	static _Thread_local struct translator_output out;
	struct cache_space space;

	for (uint32_t bytes = RESERVE; bytes <= TRANSLATOR_MAX_BYTES; bytes *= 2) {
		*err = cache_reserve(r->cache, bytes, TRANSLATOR_MAX_SLOTS, &space);
		if (*err)
			return NULL;
		struct block *b = copy_twin(r, what, in);
		if (b)
			return b;
		/* Where there is code already, so that this block may end in a branch to it. */
		cache_prefetch(r->cache, what);
		in->known_bits = in->joins ? cache_entries(r->cache, what) : NULL;
		in->code = space.write;
		in->code_pc = space.exec;
		in->capacity = space.size;
		*err = translator_translate(in, &out);
		if (*err == 0)
			return commit(r, in, &out, what->way);
		cache_abort(r->cache);
		if (*err != -ENOSPC)
			return NULL;
		in->max_instructions = in->max_instructions / 2 ? in->max_instructions / 2 : 1;
	}
	return NULL;
}

/* How many bytes lie before the limit of CS, up to so many. */
static uint32_t before_limit(const struct vcpu *v, uint32_t most)
{
	uint64_t room = (uint64_t)v->seg[SEG_CS].limit + 1 - v->eip;

	return room < most ? (uint32_t)room : most;
}

/* An instruction that spans two pages: a block of its own, from bytes joined here. */
static struct block *translate_straddling(struct runtime *r, const struct block *what, struct translator_input *in, int *err)
{
	uint8_t joined[32];
	uint32_t first = in->length;
	gfn_t gfn2 = fetch_frame(r, (in->cs_base + in->eip) + first);

	if (gfn2 == GFN_NONE)
		return NULL;
	memcpy(joined, in->bytes, first);
	memcpy(joined + first, r->ram + ((gpa_t)gfn2 << PAGE_SHIFT), 16);
	in->bytes = joined;
	in->length = before_limit(r->v, first + 16);
	in->max_instructions = 1;
	in->gfn2 = gfn2;
	return emit(r, what, in, err);
}

/* The instruction is not whole within the limit of CS. */
static struct block *beyond_limit(struct vcpu *v)
{
	cpu_raise_error(v, VEC_GP, 0);
	return NULL;
}

static enum way way_in(const struct runtime *r, gva_t gva, uint32_t mode)
{
	if (!has_ways(r, mode))
		return WAY_PLAIN;
	if (!r->link_from)
		return WAY_PAD;
	return (r->link_from->gva ^ gva) < PAGE_SIZE ? WAY_PLAIN : WAY_CHECKED;
}

/* What user code reads there is what it would run: without NX. */
static const uint8_t *peek(void *ctx, gva_t gva)
{
	const uint8_t *page = code_page(ctx, gva, true);

	return page ? page + (gva & PAGE_MASK) : NULL;
}

static struct block *translate(struct runtime *r, const struct block *what, enum way way, uint32_t max_instructions)
{
	struct vcpu *v = r->v;
	gva_t gva = what->gva;
	gfn_t gfn = (gfn_t)(what->gpa >> PAGE_SHIFT);
	struct translator_input in = {
		.bytes = r->ram + ((gpa_t)gfn << PAGE_SHIFT) + (gva & PAGE_MASK),
		.length = before_limit(v, PAGE_SIZE - (gva & PAGE_MASK)),
		.eip = what->eip, .cs_base = gva - what->eip, .cs_end = what->cs_end, .mode = what->mode,
		.features = v->features,
		.max_instructions = max_instructions,
		.basic_blocks = r->observer || r->forms, .soft_bits = r->soft_bits[gfn], .gfn = gfn, .gfn2 = GFN_NONE, .stubs = stubs_for(r),
	};

	if (!r->nx) {
		in.peek = peek;
		in.peek_ctx = r;
	}
	in.joins = has_ways(r, what->mode);
	in.arrange = in.joins && !(what->mode & MODE_SOFT);
	in.check = way == WAY_CHECKED || !max_instructions;
	in.pad = way == WAY_PAD;
	uint64_t start = runtime_now_ns();
	int err = 0;
	r->translating = true;
	struct block *b = emit(r, what, &in, &err);

	if (!b && err == -ENODATA && before_limit(v, in.length + 1) > in.length) {
		err = 0;
		b = translate_straddling(r, what, &in, &err);
	}
	if (!b && err == -ENODATA) {
		err = 0;
		beyond_limit(v);
	}
	r->translating = false;
	r->stats.translate_ns += runtime_now_ns() - start;
	if (!b && err) {
		LOG(LOG_RUNTIME, LOG_ERROR, "block at %08x could not be translated (error %d)", gva, err);
		r->failure = "a block could not be translated";
		dispatch_end(r, RUNTIME_HOST_FAILURE);
		v->fault.vector = 0xFF;
	}
	return b;
}

/* There is code for this place, but not this way into it: a block of no instructions has a pad and a check, and then branches there. */
static struct block *find_entry_block(struct runtime *r, const struct block *what)
{
	struct block entry = *what;

	entry.way = true;
	struct block *b = cache_lookup(r->cache, &entry);
	return b ? b : translate(r, &entry, WAY_PAD, 0);
}

/* The live block that begins at this place. */
static struct block *find_beginning(struct runtime *r, const struct block *what)
{
	struct block *b = cache_lookup(r->cache, what);

	if (!b || second_page_matches(r, b))
		return b;
	/* Another second page than it was made from, or a fault that re-translating will find. */
	cache_invalidate(r->cache, b->gpa, 1);
	return NULL;
}

struct block *code_find(struct runtime *r, uint32_t extra, uint32_t *entry)
{
	struct vcpu *v = r->v;
	gva_t gva = v->seg[SEG_CS].base + v->eip;
	uint32_t mode = context_now(r).mode | extra;
	uint64_t epoch = r->code_epoch;

	if (v->eip > v->seg[SEG_CS].limit)
		return beyond_limit(v);
	gfn_t gfn = fetch_frame(r, gva);
	if (gfn == GFN_NONE)
		return NULL;
	const struct block what = {.gva = gva, .eip = v->eip, .cs_end = v->seg[SEG_CS].limit + 1,
				   .gpa = (gpa_t)gfn << PAGE_SHIFT | (gva & PAGE_MASK), .mode = mode};
	enum way way = way_in(r, gva, mode);
	struct block *b = find_beginning(r, &what);
	if (!b || !has_way(b, way)) {
		struct block *known = b ? b : cache_find_entry(r->cache, &what, entry);
		if (known && way == WAY_PLAIN)
			return known;
		b = known ? find_entry_block(r, &what) : translate(r, &what, way, r->config.chaos & CHAOS_ONE_INSTRUCTION ? 1 : TRANSLATOR_MAX_INSTRUCTIONS);
	}
	/* The walk for a second page may have cost the view what it had of the first: who enters the block relies on that. */
	if (b && epoch != r->code_epoch)
		fetch_frame(r, gva);
	*entry = b ? entry_by(b, way) : 0;
	return b;
}

/* From byte `at` to the end of its page or of the range; returns how many. */
static uint32_t forget_soft(struct runtime *r, gpa_t at, uint32_t length)
{
	uint8_t *bits = r->soft_bits[at >> PAGE_SHIFT];
	uint32_t from = at & PAGE_MASK, count = length < PAGE_SIZE - from ? length : PAGE_SIZE - from, end = from + count, i = from;

	if (!bits)
		return count;
	for (; i < end && i % 8; i++) bits[i / 8] &= (uint8_t)~(1u << i % 8);
	memset(bits + i / 8, 0, (end - i) / 8);
	for (i += (end - i) & ~7u; i < end; i++) bits[i / 8] &= (uint8_t)~(1u << i % 8);
	return count;
}

void code_written(struct runtime *r, gpa_t gpa, uint32_t length)
{
	for (uint32_t done = 0; done < length;) done += forget_soft(r, gpa + done, length - done);
	cache_invalidate(r->cache, gpa, length);
}

bool code_is_soft(struct runtime *r, gva_t gva)
{
	gfn_t gfn = fetch_frame(r, gva);

	return gfn != GFN_NONE && r->soft_bits[gfn] && (r->soft_bits[gfn][(gva & PAGE_MASK) / 8] >> gva % 8 & 1);
}

void code_make_soft(struct runtime *r, gva_t gva)
{
	gfn_t gfn = fetch_frame(r, gva);
	uint32_t offset = gva & PAGE_MASK;

	if (gfn == GFN_NONE)
		return;
	if (!r->soft_bits[gfn])
		r->soft_bits[gfn] = calloc(1, PAGE_SIZE / 8);
	if (!r->soft_bits[gfn])
		return;
	r->soft_bits[gfn][offset / 8] |= (uint8_t)(1u << offset % 8);
	r->stats.made_soft++;
	if (r->places)
		places_made_soft(r, gva);
	cache_invalidate(r->cache, ((gpa_t)gfn << PAGE_SHIFT) | offset, 1);
}
