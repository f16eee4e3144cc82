/* The composer: one vCPU, its shadow, its translation cache, and the loop that joins them. */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H

#include "base/vcpu.h"
#include "cache/cache.h"
#include "runtime/machine.h"
#include "shadow/shadow.h"

struct runtime;
struct symbols;

/* Sees every block before and after it runs; for the reference comparison (--verify) and for tests. With an observer set, blocks are not
 * chained and the inline lookup is off, so that every block goes through the dispatcher. */
struct runtime_observer {
	void *ctx;
	/* All guest state is in `v` (and RAM). */
	void (*before)(void *ctx, struct vcpu *v, const struct block *b);
	/* The block was left, for whatever reason (its end, a callout, a fault: v->eip says where to). Called before faults are delivered. Return false to end the run. */
	bool (*after)(void *ctx, struct vcpu *v, const struct block *b);
	/* A port read gave this value. */
	void (*io_read)(void *ctx, uint16_t port, unsigned size, uint32_t value);
};

struct runtime_config {
	uint64_t ram_size;
	uint64_t tc_size;
	unsigned chaos;           /* enum chaos of runtime/options.h */
	const char *dump;         /* file for guest and host code of each block, or NULL */
	const char *forms;        /* file for the instruction forms that were translated and how often, or NULL */
	struct symbols *symbols;  /* names of guest code (the caller's), or NULL */
	bool perf_map, jitdump;   /* tell perf of translated code */
	const char *profile;      /* file for a flame graph, or NULL */
	bool places;              /* count callouts and faults by place, for runtime_print_stats */
	uint64_t features_flipped; /* FEATURE_BITs in which the guest's processor differs from cpu_features_default() */
	bool no_reset;            /* a guest reset ends the run */
};

enum runtime_end { RUNTIME_MACHINE_ENDED, RUNTIME_TRIPLE_FAULT, RUNTIME_STUCK, RUNTIME_HOST_FAILURE, RUNTIME_OBSERVER };

/* Set up host memory, signal handlers, cache and shadow; at most one runtime per thread at a time. 0 or negative errno with a sentence in why. */
int runtime_create(struct runtime **out, const struct runtime_config *config, char *why, size_t why_size);
void runtime_destroy(struct runtime *r);

struct vcpu *runtime_vcpu(struct runtime *r);
uint8_t *runtime_ram(struct runtime *r);
struct stats *runtime_stats(struct runtime *r);
void runtime_print_stats(struct runtime *r, FILE *out, bool json);
struct cache *runtime_cache(struct runtime *r);
struct shadow *runtime_shadow(struct runtime *r);

/* The machine to do I/O with; NULL: ports read all ones, an OUT of any size to port 0xF4 ends the run with RUNTIME_MACHINE_ENDED (for unit tests). */
void runtime_set_machine(struct runtime *r, struct machine *m);
void runtime_set_observer(struct runtime *r, const struct runtime_observer *o);

/* For machine_config.set_intr and .kick: any thread. ctx is the runtime. */
void runtime_set_intr(void *ctx, bool asserted);
void runtime_set_nmi(void *ctx);
/* For machine_config.set_ignne: the vCPU's thread. */
void runtime_set_ignne(void *ctx, bool asserted);
void runtime_kick(void *ctx);
/* For machine_config.forget: everything that was derived from guest memory is derived anew. From a callout. */
void runtime_forget(void *ctx);

/* Run the guest from the vCPU's state until something ends it. */
enum runtime_end runtime_run(struct runtime *r);

/* Registers, the last blocks and, with `code`, guest and host code side by side. */
void runtime_dump(struct runtime *r, FILE *out, bool code);

#endif
