#include "runtime/profile.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/internal.h"
#include "runtime/profile_tree.h"

/* What the processor was at when the timer fired. */
enum activity { ACTIVITY_GUEST, ACTIVITY_BORDER, ACTIVITY_MONITOR };

struct profile {
	FILE *out;
	struct profile_tree *tree;
	struct {                /* written by the handler while count is 0 */
		uint32_t count; /* times that the timer fired since the last sample was taken */
		enum activity activity;
		struct profile_state state; /* for ACTIVITY_MONITOR: for the others the boundary has a better one */
		host_pc_t code;             /* where translated code was left, if that says more than state.eip; or 0 */
		uint64_t code_epoch;
		bool translating;
		uint8_t exit_kind;
		uint8_t callout;
	} noted;
	bool busy;              /* a sample is being taken */
	uint64_t halted, own;   /* times that the timer met a halted guest, or the sampling itself */
};

struct profile *profile_create(FILE *out)
{
	struct profile *p = calloc(1, sizeof(*p));

	if (p)
		p->tree = profile_tree_create();
	if (!p || !p->tree) {
		free(p);
		return NULL;
	}
	p->out = out;
	return p;
}

static unsigned percent(uint64_t part, uint64_t whole)
{
	return whole ? (unsigned)((100 * part + whole / 2) / whole) : 0;
}

bool profile_destroy(struct profile *p)
{
	if (!p)
		return true;
	char text[256];
	uint64_t samples = profile_tree_samples(p->tree), all = samples + p->halted + p->own;
	snprintf(text, sizeof(text), "%" PRIu64 " samples of %u us: guest %u %%, bt-vmm %u %%; besides, the guest was halted for %u %% of the time%s", samples,
		 PROFILE_NS / 1000, percent(samples - profile_tree_samples_of(p->tree, FRAME_MONITOR), samples),
		 percent(profile_tree_samples_of(p->tree, FRAME_MONITOR), samples), percent(p->halted, all),
		 samples ? "" : ". Nothing ran for long enough to be met");
	profile_svg_write(p->tree, text, p->out);
	bool good = !ferror(p->out);
	good &= !fclose(p->out);
	profile_tree_free(p->tree);
	free(p);
	return good;
}

static bool within(host_pc_t pc, const char *from, const char *to)
{
	return pc >= (host_pc_t)from && pc < (host_pc_t)to;
}

static struct profile_state state_now(const struct vcpu *v)
{
	return (struct profile_state){
		.eip = v->eip, .esp = v->gpr[ESP], .ebp = v->gpr[EBP], .cs_base = v->seg[SEG_CS].base, .ss_base = v->seg[SEG_SS].base,
		.mode = v->mode, .cr3 = v->cr3,
	};
}

/* While C runs: what it works for is in the vCPU, if not always whole. */
static void note_monitor(struct runtime *r)
{
	const struct vcpu *v = r->v;
	struct profile *p = r->profile;

	p->noted.state = state_now(v);
	p->noted.exit_kind = v->quick ? EXIT_CALLOUT : v->exit_kind;
	p->noted.callout = CALLOUT_ID((uint32_t)v->scratch[1]);
	p->noted.translating = r->translating;
	p->noted.code = p->noted.exit_kind == EXIT_SOFT ? v->scratch[3] : p->noted.exit_kind == EXIT_HOST_FAULT ? v->resume_pc : 0;
	p->noted.code_epoch = r->code_epoch;
}

/* Translated code met a fault that no C has seen yet. */
static void note_fault(struct runtime *r, const greg_t *regs)
{
	struct profile *p = r->profile;

	note_monitor(r);
	p->noted.state.esp = (uint32_t)regs[REG_R13];
	p->noted.state.ebp = (uint32_t)regs[REG_RBP];
	p->noted.exit_kind = EXIT_HOST_FAULT;
	p->noted.code = (host_pc_t)regs[REG_RIP];
}

bool profile_note(struct runtime *r, const greg_t *regs, bool fault)
{
	struct profile *p = r->profile;
	host_pc_t pc = (host_pc_t)regs[REG_RIP];
	bool guest = cache_contains(r->cache, pc) || within(pc, entry_lookup, entry_end);

	if (!guest && r->v->halted) {
		p->halted++;
		return false;
	}
	if (p->busy) {
		p->own++;
		return false;
	}
	if (!p->noted.count) {
		bool border = within(pc, (const char *)entry_run, entry_end);
		p->noted.activity = fault ? ACTIVITY_MONITOR : guest ? ACTIVITY_GUEST : border ? ACTIVITY_BORDER : ACTIVITY_MONITOR;
		if (fault)
			note_fault(r, regs);
		else if (p->noted.activity == ACTIVITY_MONITOR)
			note_monitor(r);
	}
	p->noted.count++;
	return true;
}

static const char *monitor_name(const struct profile *p, char *text, size_t size)
{
	if (p->noted.activity == ACTIVITY_BORDER)
		return "(entry and exit)";
	if (p->noted.translating)
		return "(translator)";
	switch (p->noted.exit_kind) {
	case EXIT_CALLOUT:
		snprintf(text, size, "(callout %s)", stats_callout_name(p->noted.callout));
		return text;
	case EXIT_SOFT:
		return "(soft access)";
	case EXIT_HOST_FAULT:
		return "(host fault)";
	default:
		return "(dispatcher)";
	}
}

/* Translated code was left at a host PC that tells the instruction, if it still means what it did. */
static void refine_eip(struct runtime *r, struct profile_state *s)
{
	const struct profile *p = r->profile;
	const struct block *b = p->noted.code && p->noted.code_epoch == r->code_epoch ? cache_find_host(r->cache, p->noted.code) : NULL;
	struct side_row row;

	if (b && cache_find_row(b, p->noted.code, &row) && !((b->mode ^ s->mode) & (MODE_CPL | MODE_PE | MODE_VM)))
		s->eip = row.eip;
}

struct named_frame {
	char name[SYMBOLS_NAME];
	enum frame_kind kind;
};

/* Returns whether there is a symbol. */
static bool name_frame(struct runtime *r, const struct profile_state *s, const struct profile_frame *f, struct named_frame *named)
{
	bool user = (s->mode & MODE_CPL) == 3;
	struct code_place place = {.gva = f->gva, .page = code_page(r, f->gva, user), .mode = s->mode, .cr3 = s->cr3};
	struct symbol found;

	if (symbols_find(r->config.symbols, &place, &found)) {
		named->kind = user ? FRAME_USER : FRAME_KERNEL;
		if (found.file)
			snprintf(named->name, sizeof(named->name), "%.60s:%.90s", found.file, found.name);
		else
			snprintf(named->name, sizeof(named->name), "%.150s", found.name);
		return true;
	}
	named->kind = FRAME_UNKNOWN;
	if (f->entry)
		snprintf(named->name, sizeof(named->name), "0x%08" PRIx32, f->entry);
	else
		snprintf(named->name, sizeof(named->name), "in page 0x%08" PRIx32, f->gva & ~PAGE_MASK);
	return false;
}

static uint32_t ring_node(struct runtime *r, const struct profile_state *s, bool known)
{
	char text[64];
	bool user = (s->mode & MODE_CPL) == 3;

	if (!(s->mode & MODE_PE))
		return profile_tree_child(r->profile->tree, PROFILE_ROOT, "real mode", FRAME_KERNEL);
	if (!user)
		return profile_tree_child(r->profile->tree, PROFILE_ROOT, "kernel", FRAME_KERNEL);
	snprintf(text, sizeof(text), "user cr3=0x%08" PRIx32, s->cr3);
	return profile_tree_child(r->profile->tree, PROFILE_ROOT, known ? "user" : text, FRAME_USER);
}

static void add_sample(struct runtime *r, const struct profile_state *s, uint32_t samples)
{
	static _Thread_local struct profile_frame frames[PROFILE_FRAMES];
	static _Thread_local struct named_frame named[PROFILE_FRAMES];
	struct profile *p = r->profile;
	unsigned count = profile_walk(r, s, frames);
	bool known = false;
	char text[64];

	for (unsigned i = 0; i < count; i++)
		known |= name_frame(r, s, &frames[i], &named[i]);
	uint32_t node = ring_node(r, s, known);
	for (unsigned i = count; i-- > 0;)
		node = profile_tree_child(p->tree, node, named[i].name, named[i].kind);
	if (p->noted.activity != ACTIVITY_GUEST)
		node = profile_tree_child(p->tree, node, monitor_name(p, text, sizeof(text)), FRAME_MONITOR);
	profile_tree_count(p->tree, node, samples);
}

void profile_take(struct runtime *r)
{
	struct profile *p = r->profile;
	uint32_t count = __atomic_load_n(&p->noted.count, __ATOMIC_SEQ_CST);

	if (!count)
		return;
	__atomic_store_n(&p->busy, true, __ATOMIC_SEQ_CST);
	struct profile_state s = state_now(r->v);
	if (p->noted.activity == ACTIVITY_MONITOR) {
		s = p->noted.state;
		refine_eip(r, &s);
	}
	add_sample(r, &s, p->noted.count);
	__atomic_store_n(&p->noted.count, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&p->busy, false, __ATOMIC_SEQ_CST);
}
