/* Code memory: one memfd, mapped executable near the runtime's stubs and writable anywhere. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/internal.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

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

static int open_memory(uint64_t size)
{
	/* Kernels before 6.3 do not know MFD_EXEC; later ones may want it said. */
	int fd = memfd_create("code", MFD_CLOEXEC | MFD_EXEC);
	if (fd < 0 && errno == EINVAL) fd = memfd_create("code", MFD_CLOEXEC);
	if (fd < 0) return -errno;
	if (ftruncate(fd, (off_t)size)) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

static void unmap(uint64_t at, uint64_t size)
{
	munmap((void *)(uintptr_t)(at - GUARD), size + 2 * GUARD);
}

/* The file between two guards: at this address, or anywhere if it is 0. Returns the address, or 0. */
static uint64_t map_guarded(int fd, uint64_t at, uint64_t size, int protection)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED_NOREPLACE : 0);
	uint8_t *p = mmap((void *)(uintptr_t)(at ? at - GUARD : 0), size + 2 * GUARD, PROT_NONE, flags, -1, 0);
	if (p == MAP_FAILED) return 0;
	uint64_t got = (uintptr_t)p + GUARD;
	bool placed = !at || got == at; /* a kernel may take the flag for a hint */
	if (placed && mmap((void *)(uintptr_t)got, size, protection, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED) return got;
	unmap(got, size);
	return 0;
}

static bool map_exec_at(struct cache *c, int fd, uint64_t at)
{
	c->exec = map_guarded(fd, at, c->size, PROT_READ | PROT_EXEC);
	return c->exec;
}

/* Below first: above an executable grows its heap. */
static bool map_exec_near(struct cache *c, int fd, uint64_t near)
{
	uint64_t lowest = near > REACH ? near - REACH : MIB(1);
	if (near > c->size) {
		for (uint64_t at = (near - c->size) & ~(SEARCH_STEP - 1); at >= lowest; at -= SEARCH_STEP)
			if (map_exec_at(c, fd, at)) return true;
	}
	for (uint64_t at = (near | (SEARCH_STEP - 1)) + 1; at + c->size <= near + REACH; at += SEARCH_STEP)
		if (map_exec_at(c, fd, at)) return true;
	return false;
}

static int map_both(struct cache *c, int fd, host_pc_t near)
{
	c->write = (uint8_t *)(uintptr_t)map_guarded(fd, 0, c->size, PROT_READ | PROT_WRITE);
	if (!c->write) return -ENOMEM;
	if (near ? map_exec_near(c, fd, near) : map_exec_at(c, fd, 0)) return 0;
	unmap((uintptr_t)c->write, c->size);
	c->write = NULL;
	return -ENOMEM;
}

int memory_map_code(struct cache *c, host_pc_t near)
{
	int fd = open_memory(c->size);
	if (fd < 0) return fd;
	int error = map_both(c, fd, near);
	close(fd);
	if (!error)
		LOG(LOG_CACHE, LOG_INFO, "code memory: %llu KiB at %#llx", (unsigned long long)c->size >> 10,
		    (unsigned long long)c->exec);
	return error;
}

void memory_unmap_code(struct cache *c)
{
	if (c->write) unmap((uintptr_t)c->write, c->size);
	if (c->exec) unmap(c->exec, c->size);
}
