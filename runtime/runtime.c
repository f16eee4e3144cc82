/* Putting a runtime together, and running it. */
#include "runtime/runtime.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/disasm.h"
#include "base/log.h"
#include "runtime/internal.h"

_Static_assert(offsetof(struct vcpu, gpr) == VCPU_GPR, "entry.S");
_Static_assert(offsetof(struct vcpu, flags) == VCPU_FLAGS, "entry.S");
_Static_assert(offsetof(struct vcpu, exit_kind) == VCPU_EXIT_KIND, "entry.S");
_Static_assert(offsetof(struct vcpu, kick) == VCPU_KICK, "entry.S");
_Static_assert(offsetof(struct vcpu, underflow) == VCPU_UNDERFLOW, "entry.S");
_Static_assert(offsetof(struct vcpu, scratch) == VCPU_SCRATCH, "entry.S");
_Static_assert(offsetof(struct vcpu, c_rsp) == VCPU_C_RSP, "entry.S");
_Static_assert(offsetof(struct vcpu, return_rsp) == VCPU_RETURN_RSP, "entry.S");
_Static_assert(offsetof(struct vcpu, tables) == VCPU_TABLES, "entry.S");
_Static_assert(offsetof(struct vcpu, resume_pc) == VCPU_RESUME_PC, "entry.S");
_Static_assert(offsetof(struct vcpu, xmm) == VCPU_XMM, "entry.S");
_Static_assert(offsetof(struct vcpu, jumps) == VCPU_JUMPS, "entry.S");
_Static_assert(offsetof(struct vcpu, window) == VCPU_WINDOW, "entry.S");

_Static_assert(offsetof(struct vcpu, seg[SEG_CS]) == VCPU_CS, "crossing.S");
_Static_assert(offsetof(struct vcpu, seg[SEG_SS]) == VCPU_SS, "crossing.S");
_Static_assert(offsetof(struct vcpu, eflags) == VCPU_EFLAGS, "crossing.S");
_Static_assert(offsetof(struct vcpu, if_flag) == VCPU_IF_FLAG, "crossing.S");
_Static_assert(offsetof(struct vcpu, sysenter_esp) == VCPU_SYSENTER_ESP, "crossing.S");
_Static_assert(offsetof(struct vcpu, sysenter_eip) == VCPU_SYSENTER_EIP, "crossing.S");
_Static_assert(offsetof(struct vcpu, mode) == VCPU_MODE, "crossing.S");
_Static_assert(offsetof(struct vcpu, cpl) == VCPU_CPL, "crossing.S");
_Static_assert(offsetof(struct vcpu, sysenter) == VCPU_SYSENTER, "crossing.S");
_Static_assert(offsetof(struct vcpu, sysexit) == VCPU_SYSEXIT, "crossing.S");
_Static_assert(offsetof(struct vcpu, runtime) == VCPU_RUNTIME, "crossing.S");
_Static_assert(offsetof(struct crossing, neg_mode) == CROSSING_NEG_MODE, "crossing.S");
_Static_assert(offsetof(struct crossing, neg_eflags) == CROSSING_NEG_EFLAGS, "crossing.S");
_Static_assert(offsetof(struct crossing, mode) == CROSSING_MODE, "crossing.S");
_Static_assert(offsetof(struct crossing, context) == CROSSING_CONTEXT, "crossing.S");
_Static_assert(offsetof(struct crossing, neg_context) == CROSSING_NEG_CONTEXT, "crossing.S");
_Static_assert(offsetof(struct crossing, from_view) == CROSSING_FROM_VIEW, "crossing.S");
_Static_assert(offsetof(struct crossing, view) == CROSSING_VIEW, "crossing.S");
_Static_assert(offsetof(struct crossing, jumps) == CROSSING_JUMPS, "crossing.S");
_Static_assert(offsetof(struct crossing, empty_rsp) == CROSSING_EMPTY_RSP, "crossing.S");
_Static_assert(offsetof(struct crossing, cs) == CROSSING_CS, "crossing.S");
_Static_assert(offsetof(struct crossing, ss) == CROSSING_SS, "crossing.S");
_Static_assert(offsetof(struct vcpu, eip) == VCPU_EIP && offsetof(struct vcpu, seg) == VCPU_SEG, "crossing.S");
_Static_assert(offsetof(struct vcpu, loads) == VCPU_LOADS && sizeof(struct segment_load) == LOAD_SIZE, "crossing.S");
_Static_assert(offsetof(struct segment_load, neg_mode) == LOAD_NEG_MODE && offsetof(struct segment_load, neg_selector) == LOAD_NEG_SELECTOR, "crossing.S");
_Static_assert(offsetof(struct segment_load, mode) == LOAD_MODE && offsetof(struct segment_load, changed) == LOAD_CHANGED, "crossing.S");
_Static_assert(offsetof(struct segment_load, context) == LOAD_CONTEXT && offsetof(struct segment_load, gva) == LOAD_GVA, "crossing.S");
_Static_assert(offsetof(struct segment_load, addend) == LOAD_ADDEND && offsetof(struct segment_load, neg_raw) == LOAD_NEG_RAW, "crossing.S");
_Static_assert(offsetof(struct segment_load, view) == LOAD_VIEW && offsetof(struct segment_load, jumps) == LOAD_JUMPS, "crossing.S");
_Static_assert(offsetof(struct segment_load, empty_rsp) == LOAD_EMPTY_RSP && offsetof(struct segment_load, seg) == LOAD_SEG, "crossing.S");
_Static_assert(offsetof(struct shadow_view, tables) == VIEW_TABLES, "crossing.S");
_Static_assert(offsetof(struct shadow_view, window) == VIEW_WINDOW, "crossing.S");
_Static_assert(offsetof(struct shadow_view, return_rsp) == VIEW_RETURN_RSP, "crossing.S");
_Static_assert(offsetof(struct shadow_view, return_context) == VIEW_RETURN_CONTEXT, "crossing.S");
_Static_assert(offsetof(struct runtime, view) == RUNTIME_VIEW && offsetof(struct runtime, window) == RUNTIME_WINDOW, "crossing.S");

static void say(char *why, size_t size, const char *format, const char *detail)
{
	snprintf(why, size, format, detail);
}

/* An empty soft table entry is zero: the access would go to the low 4 GiB of the host. Nothing may ever be there but the window at 0, and by itself the
 * host maps nothing there: it looks for room from the top of the address space downwards, or from a third of it upwards. */
static int guard_low_memory(struct runtime *r)
{
	void *p = mmap((void *)(uintptr_t)LOW_WINDOW_START, LOW_GUARD_END - LOW_WINDOW_START, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	r->low_guard = p;
	if (munmap(p, WINDOW_SIZE - LOW_WINDOW_START))
		return -errno;
	return 0;
}

/* And what landing pads load from: see VCPU_TRAP. */
static struct vcpu *allocate_vcpu(struct runtime *r)
{
	uint8_t *p = fences_alloc(&r->fences, VCPU_RESERVATION, PROT_NONE);

	if (!p)
		return NULL;
	if (!mprotect(p, VCPU_MEMORY, PROT_READ | PROT_WRITE) && !mprotect(p + VCPU_MEMORY, PAGE_SIZE, PROT_READ))
		return (struct vcpu *)(void *)p;
	fences_free(&r->fences, p, VCPU_RESERVATION);
	return NULL;
}

/* A core dump without the guest's memory, which every window would show again: its mappings are shared and have no name. Marking the
 * windows themselves would cost two system calls for each page mapped, and keep reset pages from merging. */
static void leave_ram_out_of_dumps(void)
{
	FILE *f = fopen("/proc/self/coredump_filter", "w");

	if (!f)
		return;
	fputs("0x31", f);
	fclose(f);
}

static void frame_free(void *ctx, gfn_t gfn)
{
	struct runtime *r = ctx;

	shadow_untrace_code(r->shadow, gfn);
}

static void forget_code(void *ctx, struct shadow_view *view)
{
	view_forget_code(ctx, view);
}

static bool is_within(const struct block *b, host_pc_t from, host_pc_t to)
{
	return b && b->host_pc >= from && b->host_pc < to;
}

/* Host PCs in this code are about to mean something else. */
static void code_evicted(void *ctx, host_pc_t from, host_pc_t to)
{
	struct runtime *r = ctx;

	runtime_code_changed(r);
	if (is_within(r->link_from, from, to))
		r->link_from = NULL;
	if (is_within(r->observed, from, to))
		r->observed = NULL;
	faults_forget_places(r);
	shadow_each_view(r->shadow, forget_code, r);
}

static void forget_returns(void *ctx, struct shadow_view *view)
{
	struct runtime *r = ctx;

	if (view->return_top && (view == r->view || view->return_rsp != view->return_top - 8))
		return_stack_reset(r, view);
}

/* Its pads behind calls are void as well: what stands there may have been rewritten. */
static void block_dead(void *ctx, const struct block *b)
{
	struct runtime *r = ctx;

	(void)b;
	runtime_code_changed(r);
	shadow_each_view(r->shadow, forget_returns, r);
}

static int make_cache(struct runtime *r)
{
	bool tiny = r->config.chaos & CHAOS_TINY_CACHE;
	struct cache_config config = {
		.size = tiny ? KIB(256) : r->config.tc_size, .regions = tiny ? 4 : 8, .near = (host_pc_t)entry_chain, .chain = (host_pc_t)entry_chain,
		.barred = (host_pc_t)entry_site,
		.callbacks = {.ctx = r, .frame_free = frame_free, .code_evicted = code_evicted, .block_dead = block_dead},
		.stats = &r->stats,
	};

	return cache_create(&r->cache, &config);
}


static int make_shadow(struct runtime *r)
{
	bool few = r->config.chaos & CHAOS_FEW_WINDOWS;
	struct shadow_config config = {
		.ram = r->ram, .ram_size = r->ram_size, .hole_start = 0xA0000, .hole_end = 0xC0000,
		.max_views = few ? 3 : 64, .max_windows = few ? 1 : 16, .map_budget = few ? 400 : MAP_BUDGET,
		.table_budget = few ? TABLE_BUDGET / 4 : TABLE_BUDGET, .ops = host_ops(r), .stats = &r->stats,
	};

	return shadow_create(&r->shadow, &config);
}

static int make_profile(struct runtime *r, char *why, size_t size)
{
	if (r->config.places && !(r->places = places_create())) {
		say(why, size, "no memory left on the host for --stats%s", "");
		return -ENOMEM;
	}
	if (!r->config.profile)
		return 0;
	FILE *out = fopen(r->config.profile, "w");
	int error = errno;
	if (!out)
		return snprintf(why, size, "the file '%s' of --profile could not be opened: %s", r->config.profile, strerror(error)), -error;
	r->profile = profile_create(out);
	if (r->profile)
		return 0;
	fclose(out);
	say(why, size, "no memory left on the host for --profile%s", "");
	return -ENOMEM;
}

static int make_perf(struct runtime *r, char *why, size_t size)
{
	struct perf_config config = {.map = r->config.perf_map, .jitdump = r->config.jitdump};

	if (!config.map && !config.jitdump)
		return 0;
	cache_memory(r->cache, &config.from, &config.to);
	return perf_create(&r->perf, &config, why, size);
}

static int make_parts(struct runtime *r, char *why, size_t size)
{
	int err;

	if ((err = guard_low_memory(r)) < 0) {
		say(why, size, "the first 4 GiB of address space could not be reserved (%s): run bt-vmm without address-space limits", strerror(-err));
		return err;
	}
	if ((err = ram_create(r)) < 0) {
		say(why, size, "guest memory could not be allocated (%s): give a smaller --memory", strerror(-err));
		return err;
	}
	leave_ram_out_of_dumps();
	r->soft_bits = calloc(r->frames, sizeof(*r->soft_bits));
	if (!r->soft_bits || (err = make_cache(r)) < 0) {
		say(why, size, "code memory could not be allocated (%s): give a smaller --tc-size", strerror(-err));
		return err ? err : -ENOMEM;
	}
	code_memory_start(r);
	if ((err = make_shadow(r)) < 0) {
		say(why, size, "shadow tables could not be allocated (%s)", strerror(-err));
		return err;
	}
	if ((err = make_profile(r, why, size)) < 0)
		return err;
	if ((err = signals_install(r)) < 0) {
		say(why, size, "signal handlers could not be installed (%s)", strerror(-err));
		return err;
	}
	if (r->config.dump && !(r->dump = fopen(r->config.dump, "w"))) {
		int error = errno;
		snprintf(why, size, "the file '%s' of --dump could not be opened: %s", r->config.dump, strerror(error));
		return -error;
	}
	if (r->dump && !disasm_load()) {
		say(why, size, "--dump needs Capstone, which cannot be loaded: install %s", "libcapstone4");
		return -ENOENT;
	}
	if (r->config.forms && (!(r->forms = forms_create()) || !(r->forms_out = fopen(r->config.forms, "w")))) {
		int error = errno;
		snprintf(why, size, "the file '%s' of --forms could not be opened: %s", r->config.forms, strerror(error));
		return -error;
	}
	return make_perf(r, why, size);
}

int runtime_create(struct runtime **out, const struct runtime_config *config, char *why, size_t why_size)
{
	struct runtime *r = calloc(1, sizeof(*r));
	int err;

	*out = NULL;
	if (r)
		r->fences.patterned = config->chaos & CHAOS_FENCE;
	if (!r || !(r->v = allocate_vcpu(r))) {
		free(r);
		say(why, why_size, "out of memory%s", "");
		return -ENOMEM;
	}
	r->config = *config;
	r->ram_size = config->ram_size;
	r->frames = (gfn_t)(config->ram_size >> PAGE_SHIFT);
	r->ram_fd = -1;
	r->v->stats = &r->stats;
	r->v->runtime = r;
	r->v->features = cpu_features_default() ^ config->features_flipped;
	err = make_parts(r, why, why_size);
	if (err < 0) {
		runtime_destroy(r);
		return err;
	}
	*out = r;
	return 0;
}

static void close_output(FILE *f, const char *name)
{
	if (!f)
		return;
	bool failed = ferror(f);
	if (fclose(f) || failed)
		LOG(LOG_RUNTIME, LOG_ERROR, "the file '%s' could not be written whole (%s)", name, strerror(errno));
}

void runtime_destroy(struct runtime *r)
{
	signals_remove(r);
	if (!profile_destroy(r->profile))
		LOG(LOG_RUNTIME, LOG_ERROR, "the file '%s' of --profile could not be written whole", r->config.profile);
	free(r->places);
	if (!perf_destroy(r->perf))
		LOG(LOG_RUNTIME, LOG_ERROR, "the files of --perf-map and --jitdump could not be written whole");
	if (r->shadow) {
		shadow_each_view(r->shadow, view_free_code, r);
		shadow_destroy(r->shadow);
	}
	code_memory_stop(r);
	if (r->cache)
		cache_destroy(r->cache);
	for (gfn_t i = 0; r->soft_bits && i < r->frames; i++)
		free(r->soft_bits[i]);
	free(r->soft_bits);
	ram_destroy(r);
	if (r->low_guard)
		munmap(r->low_guard, LOW_GUARD_END - LOW_WINDOW_START);
	if (r->forms_out)
		forms_write(r->forms, r->forms_out);
	close_output(r->dump, r->config.dump);
	close_output(r->forms_out, r->config.forms);
	free(r->forms);
	fences_free(&r->fences, r->v, VCPU_RESERVATION);
	fences_destroy(&r->fences);
	free(r);
}

struct vcpu *runtime_vcpu(struct runtime *r) { return r->v; }
uint8_t *runtime_ram(struct runtime *r) { return r->ram; }
struct stats *runtime_stats(struct runtime *r) { return &r->stats; }

void runtime_print_stats(struct runtime *r, FILE *out, bool json)
{
	char *text = NULL;
	size_t size;
	FILE *more = json && r->places ? open_memstream(&text, &size) : NULL;

	if (more) {
		places_print(r, more, true);
		fclose(more);
	}
	stats_print(&r->stats, out, json, text);
	if (!json && r->places)
		places_print(r, out, false);
	free(text);
}

struct cache *runtime_cache(struct runtime *r) { return r->cache; }
struct shadow *runtime_shadow(struct runtime *r) { return r->shadow; }
void runtime_set_machine(struct runtime *r, struct machine *m) { r->machine = m; }
void runtime_set_observer(struct runtime *r, const struct runtime_observer *o) { r->observer = o; }

/* What the guest finds in the FPU after reset, and what C needs back afterwards. */
static void fpu_reset(void)
{
	uint32_t mxcsr = 0x1F80;

	__asm__ volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
}

enum runtime_end runtime_run(struct runtime *r)
{
	r->ended = false;
	/* What ended the run while nobody ran is seen first. */
	r->v->kick = 1;
	r->view = NULL;
	r->window = r->gs_base = NULL;
	r->no_quick = r->observer || (r->config.chaos & CHAOS_NO_CHAIN) || r->places;
	cpu_update_mode(r->v);
	runtime_paging_changed(r->v);
	if (sigsetjmp(r->host_failure, 1)) {
		dispatch_end(r, RUNTIME_HOST_FAILURE);
	} else {
		r->running = true;
		fpu_reset();
		host_pc_t pc = dispatch(r);
		if (pc)
			entry_run(r->v, pc);
	}
	r->running = false;
	fpu_reset();
	if (r->config.chaos & CHAOS_FENCE)
		fence_watch_end(r);
	return r->end;
}

void runtime_paging_changed(struct vcpu *v)
{
	struct runtime *r = runtime_of(v);

	struct shadow_paging paging = {
		.cr0 = v->cr0, .cr3 = v->cr3, .cr4 = v->cr4, .nx = v->efer & EFER_NXE,
		.pse36 = v->features & FEATURE_BIT(FEATURE_PSE36), .pat = v->features & FEATURE_BIT(FEATURE_PAT),
	};

	memcpy(paging.pdpte, v->pdpte, sizeof(paging.pdpte));
	/* Calls that are done in place read what they call: with NX that does not say that it could run. */
	if (paging.nx != r->nx)
		cache_flush(r->cache);
	r->nx = paging.nx;
	r->code_epoch++;
	vcpu_forget_user_view(v);
	shadow_set_paging(r->shadow, &paging);
	r->views[0] = shadow_view(r->shadow, false);
	r->views[1] = shadow_view(r->shadow, true);
}

void runtime_read_physical(struct vcpu *v, gpa_t gpa, void *to, uint32_t size)
{
	struct runtime *r = runtime_of(v);

	memset(to, 0, size);
	if (gpa + size <= r->ram_size)
		memcpy(to, r->ram + gpa, size);
}

void runtime_apic_base_changed(struct vcpu *v)
{
	struct runtime *r = runtime_of(v);

	if (r->machine)
		machine_set_apic_base(r->machine, v->apic_base);
}

void runtime_forget(void *ctx)
{
	struct runtime *r = ctx;

	runtime_code_changed(r);
	shadow_flush(r->shadow);
}

uint64_t runtime_read_tsc(struct vcpu *v)
{
	(void)v;
	return __builtin_ia32_rdtsc();
}

bool runtime_guest_code(struct vcpu *v, host_pc_t pc, uint32_t *eip, uint32_t *base)
{
	struct cache *cache = runtime_of(v)->cache;
	host_pc_t from, to;

	cache_memory(cache, &from, &to);
	if (pc <= UINT32_MAX)
		pc = from + (uint32_t)(pc - from);
	const struct block *b = cache_find_host(cache, pc);
	struct side_row row;

	if (!b || !cache_find_row(b, pc, &row))
		return false;
	*eip = row.eip;
	*base = b->gva - b->eip;
	return true;
}

bool runtime_guest_data(struct vcpu *v, uint64_t hva, gva_t *gva)
{
	struct runtime *r = runtime_of(v);
	uint64_t offset = hva - (uint64_t)r->window;

	if (!r->view->direct || offset >= WINDOW_SIZE)
		return shadow_find_address(r->shadow, r->view, hva, gva);
	*gva = (gva_t)offset;
	return true;
}

uint32_t runtime_io_read(struct vcpu *v, uint16_t port, unsigned size)
{
	struct runtime *r = runtime_of(v);
	uint32_t value = r->machine ? machine_io_read(r->machine, port, size) : 0xFFFFFFFFu >> (32 - 8 * size);

	r->stats.io_accesses++;
	if (r->observer && r->observer->io_read)
		r->observer->io_read(r->observer->ctx, port, size, value);
	return value;
}

void runtime_io_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t value)
{
	struct runtime *r = runtime_of(v);

	r->stats.io_accesses++;
	if (r->machine) {
		machine_io_write(r->machine, port, size, value);
	} else if (port == 0xF4) {
		dispatch_end(r, RUNTIME_MACHINE_ENDED);
		runtime_kick(r);
	}
}

static void dump_segment(FILE *out, const char *name, const struct segment *s)
{
	fprintf(out, "  %s %04x base %08x limit %08x rights %05x\n", name, s->selector, s->base, s->limit, s->ar);
}

static bool dump_one(void *ctx, struct block *b)
{
	FILE *out = ctx;

	fprintf(out, "block %08x (frame %05x, mode %08x), guest code then host code:\n", b->gva, (unsigned)(b->gpa >> PAGE_SHIFT), b->mode);
	disasm_print(out, (const uint8_t *)b->host_pc, b->host_length, b->host_pc, DISASM_64);
	return true;
}

void runtime_dump(struct runtime *r, FILE *out, bool code)
{
	static const char *const names[] = {"es", "cs", "ss", "ds", "fs", "gs"};
	const struct vcpu *v = r->v;

	if (r->failure)
		fprintf(out, "failure: %s\n", r->failure);
	fprintf(out, "  eax %08x ecx %08x edx %08x ebx %08x\n  esp %08x ebp %08x esi %08x edi %08x\n  eip %08x eflags %08x cpl %u mode %08x\n",
		v->gpr[EAX], v->gpr[ECX], v->gpr[EDX], v->gpr[EBX], v->gpr[ESP], v->gpr[EBP], v->gpr[ESI], v->gpr[EDI], v->eip,
		vcpu_eflags(v), v->cpl, v->mode);
	fprintf(out, "  cr0 %08x cr2 %08x cr3 %08x cr4 %08x efer %x\n", v->cr0, v->cr2, v->cr3, v->cr4, v->efer);
	for (int i = 0; i < SEG_COUNT; i++)
		dump_segment(out, names[i], &v->seg[i]);
	fprintf(out, "  gdt %08x/%x idt %08x/%x tr %04x\n", v->gdtr.base, v->gdtr.limit, v->idtr.base, v->idtr.limit, v->tr.selector);
	fprintf(out, "  last exception: vector %u error %x\n  last blocks:", v->fault.vector, v->fault.error);
	for (unsigned i = 0; i < HISTORY; i++)
		fprintf(out, " %08x", r->history[(r->history_at + i) % HISTORY]);
	fprintf(out, "\n");
	struct block *b = code && cache_contains(r->cache, v->resume_pc) ? cache_find_host(r->cache, v->resume_pc) : NULL;
	if (b)
		dump_one(out, b);
}
