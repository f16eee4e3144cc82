/* What the files of the run loop share. */
#ifndef RUNTIME_INTERNAL_H
#define RUNTIME_INTERNAL_H

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/abi.h"
#include "runtime/cpu.h"
#include "runtime/fence.h"
#include "runtime/memory.h"
#include "runtime/options.h"
#include "runtime/perf.h"
#include "runtime/places.h"
#include "runtime/profile.h"
#include "runtime/runtime.h"
#include "runtime/symbols.h"
#include "translator/translator.h"

/* entry.S */
void entry_run(struct vcpu *v, host_pc_t pc);
host_pc_t runtime_leave(struct vcpu *v); /* called by entry.S alone: the one exit switch */
extern const char entry_chain[], entry_lookup_slow[], entry_soft[], entry_host_fault[], entry_kick[], entry_callout[],
	entry_restore_begin[], entry_restore_live[], entry_restore_end[], entry_interrupted[], entry_interrupted_live[], entry_end[], entry_underflow[], entry_lookup[], entry_lookup_parked[],
	entry_lookup_slow_parked[], entry_lookup_shared[], entry_site[];
/* crossing.S */
extern const char entry_sysenter[], entry_sysexit[], entry_crossing_parked[], entry_crossing_end[], entry_load_es[], entry_load_ds[],
	entry_load_fs[], entry_load_gs[];

/* A write that a thunk does on RAM or on a bounce buffer, to be finished when it comes back. */
struct completion {
	bool active;
	gva_t gva;
	uint32_t size;
	unsigned pieces;       /* 1, or 2 for a page crossing */
	struct {
		gpa_t gpa;
		uint32_t length;
		bool mmio;
	} piece[2];
	bool bounced;          /* the thunk worked on vcpu.bounce */
};

/* The first 4 GiB and what an access there can reach beyond: nothing of the host's may be there. */
#define LOW_GUARD_END (WINDOW_SIZE + WINDOW_GUARD + PAGE_SIZE)

/* Host mappings that windows may use. Less than the host's default for vm.max_map_count: the rest is for the host's own needs and for
 * traces that must not fail. */
#define MAP_BUDGET 40000u

/* Pieces of soft tables, 10 KiB each: 160 MiB. */
#define TABLE_BUDGET 16384u

#define RETURN_STACK KIB(64) /* of each view, below return_top */
#define HISTORY 16u
#define HEAT_SLOTS 256u
/* So many faults of one direct instruction on fresh pages, within so long, turn it soft. Fewer, or however long it takes, is what a program does that
 * allocates now and then: what it uses its memory by would be soft for ever. */
#define HEAT_LIMIT 32u
#define HEAT_NS 4000000u

struct fault_heat {
	gva_t gva;
	uint32_t faults;
	uint64_t since; /* when the first of them was */
};
/* A soft exit that was answered lately: its block, and its row in that. */
struct soft_place {
	host_pc_t pc;
	struct block *block;
	struct row_cursor at;
};
#define SOFT_PLACES 64u
/* What a host PC stands for beside the EIP. */
struct code_context {
	uint32_t mode;
	uint32_t cs_base, cs_end; /* cs_end: as a block's */
};
#define CONTEXT_TAGS 1024u
/* What is known of an instruction that meets true faults in soft form, or in C: are direct accesses to the page likely to follow? */
struct fault_follow {
	int8_t trust;
	uint8_t credit;        /* so many more pages are shown without being asked for */
};
#define PROFILE_NS 1009000u /* --profile: time between samples, out of step with anybody's clock */

/* Targets of shared slots, behind the table: sets of two, the latest first. Bits that the slot does not tell apart choose the set. */
struct jump_target {
	uint64_t not_eip; /* ~EIP in 64 bits: no target is 0, which says that there is none */
	host_pc_t pc;
};
struct jump_set {
	struct jump_target way[2];
};
#define JUMP_SETS (1u << ABI_JUMP_SET_BITS)
static inline uint32_t jump_set_index(uint32_t eip)
{
	return (eip + (eip << (32 - ABI_JUMP_SET_ROTATE) | eip >> ABI_JUMP_SET_ROTATE)) & (JUMP_SETS - 1);
}

struct jump_table {
	uint64_t epoch;            /* the view's when it was made; 0: never */
	uint32_t context;
	uint32_t filled;           /* so many slots are not empty, and the log says which; larger than the log: it does not */
	uint16_t log[512];
	bool shares;               /* a slot is shared */
	host_pc_t slots[JUMP_SLOTS + JUMP_SITES];
	struct jump_set sets[JUMP_SETS]; /* of shared slots: entry_lookup_shared knows that they are here */
	uint32_t eips[JUMP_SLOTS + JUMP_SITES]; /* whose pad the slot leads to, if it leads to one */
	uint8_t taken[JUMP_SLOTS + JUMP_SITES]; /* how often a target has taken it from another of late */
	uint8_t taken_span[JUMP_SLOTS + JUMP_SITES]; /* and when the last one did: jumps.c */
	uint64_t taken_until;      /* each of all of them is remembered for some time behind the one before */
};
#define JUMP_TABLES 4u         /* a view's */
/* Who uses the processor is looked at about as often as this: by a timer of processor time, which costs the host 20 us or more each time, or when an interrupt
 * is taken. While these come, the timer is slow. */
#define SAMPLE_NS 4000000u
#define SAMPLE_SLOWLY_NS 32000000u
#define INTERRUPTS_TO_SAMPLE_BY 8u /* they come */

/* --chaos=check: since the last check. */
struct sanity {
	uint32_t dispatches, switches;
	const struct shadow_view *view;
	uint64_t next; /* not before this time */
};

/* --chaos=fence: since the last look. */
struct fence_watch {
	uint32_t dispatches;
	uint64_t next; /* not before this time */
	unsigned descriptors; /* at the first look; 0 before it */
};

/* Which user view has the window at 0, if one has. */
struct low_window {
	const struct shadow_view *owner;
	unsigned samples; /* of other user views, since it was seen last */
	uint64_t spent_until; /* nanoseconds: when the times that it changed hands will be forgotten */
};

/* code_memory.c: bytes from the beginning of code memory */
struct code_memory {
	pthread_t thread;
	pthread_mutex_t lock; /* of wanted and side, which the vCPU's thread alone changes, and stop */
	pthread_cond_t wake;
	bool started, stop;
	uint8_t *write;       /* its two mappings */
	host_pc_t exec;
	uint64_t size, wanted;
	uint8_t *side;        /* cache_side_memory_ahead */
};

struct runtime {
	struct vcpu *v;
	struct shadow_view *view;  /* the one whose state the vCPU carries */
	uint8_t *window;           /* its window, or NULL */
	struct stats stats;
	struct runtime_config config;
	struct cache *cache;
	struct shadow *shadow;
	struct machine *machine;
	const struct runtime_observer *observer;
	FILE *dump;
	FILE *forms_out;           /* --forms */
	struct forms *forms;
	struct perf *perf;         /* --perf-map, --jitdump */
	struct profile *profile;   /* --profile */
	struct places *places;     /* --stats */
	bool translating;          /* for the profile */

	uint8_t *ram;
	uint64_t ram_size;
	int ram_fd;
	struct {                   /* the thread that has the host make its pages: see ram.c */
		pthread_t thread;
		bool started, stop;
	} ram_filler;
	struct fences fences;
	struct low_window low;
	struct code_memory code_memory;
	uint8_t *low_guard;        /* the first host addresses: nothing is there but the window at 0, and what is reserved behind it */

	struct shadow_view *views[2]; /* the current ones: the supervisor's and the user's */
	uint8_t *gs_base;          /* GS base as loaded: supervisor code does without */
	struct code_context contexts[CONTEXT_TAGS]; /* those met so far */
	unsigned context_count;
	uint16_t context_buckets[2 * CONTEXT_TAGS]; /* open hashing: index + 1, or 0 */
	uint64_t jump_epoch;       /* the last one given to a view */
	host_pc_t *site;           /* the slot by which translated code was left, if it is a site's, for this EIP */
	uint32_t site_eip;
	uint64_t code_epoch;       /* grows when blocks die or a view loses code pages: host PCs held across a callout are void */

	uint8_t **soft_bits;       /* per frame: instructions that are emitted soft, or NULL */
	gfn_t frames;

	bool nx;                   /* EFER.NXE, as translations were made for it */
	struct block *link_from;   /* the exit that the dispatcher may link to what it finds */
	bool resumes;              /* EIP is where something was interrupted or came back from C, not the target of a branch */
	int link_slot;
	struct completion completion;
	struct {                   /* what the running instruction has read from a device: it must come to its end, or find this again */
		bool done;
		gva_t gva;
		uint32_t size;
		uint8_t bytes[16];
	} device_read;
	bool no_quick;             /* every callout goes the long way: somebody watches, or wants it tried; or --stats looks first */
	bool ignne;                /* the board asserts IGNNE#: see x87_errors.c */
	bool kick_deferred;        /* a kick came while a block ran that has to finish */
	uint32_t sampled;          /* the processor-time sampler fired; written by its signal handler */
	uint64_t next_sample;      /* an interrupt from then on is one, too */
	uint32_t interrupts_seen, interrupts_before; /* since the sampler fired without one since it had fired before; and when it fired last */
	bool samples_slowly;       /* the sampler */
	bool single_step;          /* the running block was entered with TF */
	struct {                   /* the instruction that runs in a block of its own (MODE_ONE), and what its entry spent */
		bool running;
		uint8_t shadow;
		uint32_t debug_hits;
		uint32_t eip;
		uint32_t resume_flag;
	} alone;
	const struct block *observed;
	struct sanity sanity;
	struct fence_watch fence_watch;

	enum runtime_end end;
	bool ended;
	struct soft_place soft_places[SOFT_PLACES];
	struct fault_heat heat[HEAT_SLOTS]; /* direct instructions that met fresh pages lately */
	uint32_t faulted; /* the page of the last true fault of emitted code */
	uint32_t awaited; /* that of the last one but for fetches */
	gva_t awaited_by; /* and the instruction that met it, or 0 if it is known what followed */
	struct fault_follow follows[HEAT_SLOTS]; /* of instructions, by a hash */
	gva_t history[HISTORY];    /* the last dispatched blocks */
	unsigned history_at;

	pthread_t thread;
	int tid;
	bool running;
	timer_t sampler, profiler;
	bool has_sampler, has_profiler;
	void *alt_stack;
	sigjmp_buf host_failure;
	const char *failure;
};

static inline struct runtime *runtime_of(struct vcpu *v) { return v->runtime; }

/* Host PCs mean something else from now on. */
static inline void runtime_code_changed(struct runtime *r)
{
	r->code_epoch++;
	vcpu_forget_crossings(r->v);
}

/* code.c: the block at the vCPU's EIP under its mode, translated if need be; NULL with v->fault set. `extra` adds MODE_THUNK or MODE_ONE. */
struct block *code_find(struct runtime *r, uint32_t extra, uint32_t *entry);
/* Does the view map another frame at this block's page than the block was made from? */
bool code_is_elsewhere(const struct runtime *r, const struct block *b);
/* A block's code, to be looked up and shown. */
struct code_place code_place(const struct runtime *r, const struct block *b);
/* The bytes of the page of a linear address, or NULL; without side effects. */
const uint8_t *code_page(struct runtime *r, gva_t gva, bool user);
/* Emit the instruction at this linear address in soft form from now on. */
void code_make_soft(struct runtime *r, gva_t gva);
bool code_is_soft(struct runtime *r, gva_t gva);
/* Bytes of RAM that may be code were written: translations of what stood there go, and so does what was known of its instructions. */
void code_written(struct runtime *r, gpa_t gpa, uint32_t length);

/* dispatch.c */
/* May a kick not stop this block? A thunk keeps host addresses in registers, and a device was read once. Its exit is at most one
 * instruction away. */
static inline bool must_finish(const struct runtime *r, const struct block *b)
{
	return (b->mode & MODE_THUNK) || ((b->mode & MODE_ONE) && r->device_read.done);
}
host_pc_t dispatch(struct runtime *r);
void dispatch_end(struct runtime *r, enum runtime_end why);
/* Put the vCPU's saved registers back to the start (or the end) of the instruction that the row describes. */
void dispatch_undo(struct vcpu *v, const struct side_row *row);
/* Ditto for code that is left there. An instruction that has not run yet still owes what its entry had spent: an interrupt shadow, RF; a trap
 * behind it is not due. */
void dispatch_stop(struct vcpu *v, const struct side_row *row);
/* A site's slot has led here, perhaps: it is to have the block that is entered next. */
void dispatch_note_site(struct runtime *r);

/* jumps.c: the tables of the inline lookup. Zeroed ones have been made; the vCPU goes on with this context's; the block is to be found in it. */
void jumps_init(struct jump_table *tables);
void jumps_select(struct runtime *r, struct shadow_view *view, uint32_t context);
/* Where a slot leads that has no target, and one that targets share. */
host_pc_t jumps_nowhere(uint32_t at);
host_pc_t jumps_to_share(uint32_t at);
void jumps_fill(struct runtime *r, const struct block *b);
/* The slot of a site that has just led to what is not its target, by what R9 and R11 are there (translator/sites.c), or NULL if it was one that goes by EIP. */
host_pc_t *jumps_site(const struct runtime *r);
/* Where the running view's lookup leads to with this target, or 0 if that is C. */
host_pc_t jumps_find(const struct runtime *r, uint32_t eip);

/* context.c: what a host PC stands for beside the EIP. Both false if that takes more than they may do: see quick.c. */
/* Make the view of the current privilege level the one that translated code runs in. It must have its return stack and lookup slots. */
bool context_use_view(struct runtime *r);
/* The lookup's table for the view, CS and the mode. They must have been met. */
bool context_match(struct runtime *r);
/* Where the index of this context + 1 is, or belongs. */
uint16_t *context_bucket(struct runtime *r, const struct code_context *c);
static inline uint64_t runtime_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline struct code_context context_now(const struct runtime *r)
{
	const struct segment *cs = &r->v->seg[SEG_CS];

	uint32_t pads = !r->view->user || !(r->v->mode & MODE_CS32) || r->view->returns_vary ? 0 : MODE_TRAP_PADS;

	uint32_t form = !r->view->direct ? MODE_SOFT : r->view->user && !r->view->window ? pads | MODE_LOW : pads;

	return (struct code_context){.mode = r->v->mode | form, .cs_base = cs->base, .cs_end = cs->limit + 1};
}

/* GS base for a user view: its window, or what traps load from where that is at 0. */
static inline uint8_t *context_gs_base(const struct runtime *r, const struct shadow_view *view)
{
	return view->window ? view->window : (uint8_t *)r->v + VCPU_TRAP_WORD;
}

/* quick.c, for entry.S alone: answer a callout with XMM0-7 live. 0: not answered, and nothing has changed. */
host_pc_t quick_callout(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra);

/* code_memory.c: have it made ahead of what is written, by a thread. */
void code_memory_start(struct runtime *r);
void code_memory_used(struct runtime *r, host_pc_t pc); /* up to here */
void code_memory_stop(struct runtime *r);

/* ram.c: guest memory, from the host. Nothing the guest does may run before it is created. */
int ram_create(struct runtime *r);
/* What is not made yet comes as it is touched. */
void ram_stop_filling(struct runtime *r);
void ram_destroy(struct runtime *r);

/* memory.c: physical memory that is not RAM, in accesses of up to eight bytes. */
void memory_read_device(struct runtime *r, gpa_t gpa, void *to, uint32_t size);
void memory_write_device(struct runtime *r, gpa_t gpa, const void *from, uint32_t size);

/* faults.c: each returns the host PC to go on at, or 0 to dispatch at the vCPU's EIP. */
host_pc_t fault_soft(struct runtime *r);
host_pc_t fault_host(struct runtime *r);
void completion_finish(struct runtime *r);

/* forms.c */
struct forms *forms_create(void);
void forms_count(struct forms *f, const uint8_t *bytes, uint32_t length, uint32_t mode);
/* The most frequent first. */
void forms_write(struct forms *f, FILE *out);

/* views.c: windows, tables and return stacks as host memory; the operations shadow/ calls. */
struct shadow_ops host_ops(struct runtime *r);
/* The processor-time sampler found this user view running. */
void windows_sampled(struct runtime *r, const struct shadow_view *view);
/* A window for this view, if it has none; at 0 for a user view, if that one is free. */
void windows_make_direct(struct runtime *r, struct shadow_view *view);
static inline void return_stack_reset(struct runtime *r, struct shadow_view *view)
{
	r->stats.return_stack_drops++;
	view->return_rsp = view->return_top - 8;
	if (r->view == view)
		r->v->return_rsp = view->return_rsp;
}
/* Every host PC that the view's returns and inline lookups know is void. */
void view_forget_code(struct runtime *r, struct shadow_view *view);
/* Give a view its return stack and lookup slots. False with the run ended if there is no memory. */
bool view_equip(struct runtime *r, struct shadow_view *view);
void view_free_code(void *ctx, struct shadow_view *view);
/* A trap pad's load faulted there (returns.c): go on where the guest returns to. */
static inline bool is_trap_pad_miss(const struct vcpu *v, uint64_t address)
{
	return address - ((uint64_t)v + VCPU_TRAP + 1) < VCPU_TRAP_SIZE;
}
/* faults.c: host PCs have come to mean something else. */
void faults_forget_places(struct runtime *r);
/* The instruction at the vCPU's EIP has met a true fault with an access; a direct one of user code? */
void faults_note(struct runtime *r, gva_t gva, bool direct);
host_pc_t return_missed(struct runtime *r, const struct side_row *row);
/* Now and then: may the user view's code have trap pads again? */
void returns_look(struct runtime *r);
bool return_stack_guard_hit(const struct runtime *r, uint64_t rsp, uint64_t address);

/* sanity.c: look at every invariant now and then; end the run with a sentence if one is broken. */
void sanity_check(struct runtime *r);

/* fence_watch.c: ditto for the host's memory beside the guest's, and after the run once more. */
void fence_watch_look(struct runtime *r);
void fence_watch_end(struct runtime *r);

/* x87_errors.c: between two instructions while IGNNE# is asserted. */
void x87_errors_look(struct runtime *r);

/* signals.c */
int signals_install(struct runtime *r);
/* An interrupt is taken, or the sampler has fired: how soon is it to fire again? */
void signals_pace_sampler(struct runtime *r, bool interrupt);
void signals_remove(struct runtime *r);

#endif
