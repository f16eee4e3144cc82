/* Code memory, mapped executable near the runtime's stubs and once more, writable, anywhere. It is anonymous, since that is where perf looks
 * into a map of symbols (--perf-map). */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "cache/internal.h"

/* Both ends stay this much inside of the 2 GiB that a rel32 reaches, so that all stubs, not only `near`, are in reach. */
#define REACH (MIB(2048) - MIB(16))
#define SEARCH_STEP MIB(4)
#define GUARD KIB(64) /* nothing, on either side of both mappings */

void *memory_xalloc(void *old, size_t size)
{
	void *p = realloc(old, size);
	if (!p) {
		LOG(LOG_CACHE, LOG_ERROR, "out of memory for %zu bytes of block data", size);
		abort();
	}
	return p;
}

void *memory_xalloc_large(size_t size)
{
	void *p = NULL;
	if (posix_memalign(&p, HUGE_PAGE, size)) return memory_xalloc(NULL, size);
	madvise(p, size, MADV_HUGEPAGE);
	return p;
}

static void unmap(uint64_t at, uint64_t size)
{
	munmap((void *)(uintptr_t)(at - GUARD), size + 2 * GUARD);
}

/* Zeroes to write to, or with `from` the same memory once more, to run. */
static bool map_at(uint64_t at, uint64_t size, uint64_t from)
{
	void *p = (void *)(uintptr_t)at;
	int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
	if (!from) return mmap(p, size, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED;
	return mremap((void *)(uintptr_t)from, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, p) != MAP_FAILED && !mprotect(p, size, PROT_READ | PROT_EXEC);
}

/* Between two guards: at this address, or anywhere if it is 0. Returns the address, or 0. */
static uint64_t map_guarded(uint64_t at, uint64_t size, uint64_t from)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED_NOREPLACE : 0);
	uint8_t *p = mmap((void *)(uintptr_t)(at ? at - GUARD : 0), size + 2 * GUARD, PROT_NONE, flags, -1, 0);
	if (p == MAP_FAILED) return 0;
	uint64_t got = (uintptr_t)p + GUARD;
	bool placed = !at || got == at; /* a kernel may take the flag for a hint */
	if (placed && map_at(got, size, from)) return got;
	unmap(got, size);
	return 0;
}

static bool map_exec_at(struct cache *c, uint64_t at)
{
	c->exec = map_guarded(at, c->size, (uintptr_t)c->write);
	return c->exec;
}

/* Below first: above an executable grows its heap. */
static bool map_exec_near(struct cache *c, uint64_t near)
{
	uint64_t lowest = near > REACH ? near - REACH : MIB(1);
	if (near > c->size) {
		for (uint64_t at = (near - c->size) & ~(SEARCH_STEP - 1); at >= lowest; at -= SEARCH_STEP)
			if (map_exec_at(c, at)) return true;
	}
	for (uint64_t at = (near | (SEARCH_STEP - 1)) + 1; at + c->size <= near + REACH; at += SEARCH_STEP)
		if (map_exec_at(c, at)) return true;
	return false;
}

static bool map_both(struct cache *c, host_pc_t near)
{
	c->write = (uint8_t *)(uintptr_t)map_guarded(0, c->size, 0);
	if (!c->write) return false;
	if (near ? map_exec_near(c, near) : map_exec_at(c, 0)) return true;
	unmap((uintptr_t)c->write, c->size);
	c->write = NULL;
	return false;
}

int memory_map_code(struct cache *c, host_pc_t near)
{
	if (!map_both(c, near)) return -ENOMEM;
	LOG(LOG_CACHE, LOG_INFO, "code memory: %llu KiB at %#llx", (unsigned long long)c->size >> 10, (unsigned long long)c->exec);
	return 0;
}

void memory_unmap_code(struct cache *c)
{
	if (c->write) unmap((uintptr_t)c->write, c->size);
	if (c->exec) unmap(c->exec, c->size);
}
