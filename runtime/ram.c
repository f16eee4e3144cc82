/* Guest memory: one file in memory, mapped whole for C; windows map its pages. The host needs a quarter of a second to make half a gigabyte of
 * pages, so a thread asks for them while the guest starts. What the guest touches before comes as it is touched. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime/internal.h"
#include "runtime/thread.h"

#define FILL_STEP KIB(256)

/* By touching them: that locks this mapping alone, where madvise would lock all of the process's, and the vCPU, which changes windows meanwhile,
 * would sleep and be woken again: 30 us for an mmap. */
static void map_made(const uint8_t *at, uint64_t size)
{
	for (uint64_t i = 0; i < size; i += PAGE_SIZE) (void)*(const volatile uint8_t *)(at + i);
}

/* A page that is missing when it is first touched costs ten times what it does here, mapped with its neighbours. */
static void *fill(void *arg)
{
	struct runtime *r = arg;

	for (uint64_t at = 0; at < r->ram_size && !__atomic_load_n(&r->ram_filler.stop, __ATOMIC_RELAXED); at += FILL_STEP) {
		uint64_t left = r->ram_size - at, size = left < FILL_STEP ? left : FILL_STEP;
		if (fallocate(r->ram_fd, 0, (off_t)at, (off_t)size)) {
			/* The guest goes on; if it needs what is not there, that is a SIGBUS: see signals.c. */
			LOG(LOG_RUNTIME, LOG_WARN, "the host has not all of the guest's memory (%s): give a smaller --memory", strerror(errno));
			return NULL;
		}
		map_made(r->ram + at, size);
	}
	return NULL;
}

int ram_create(struct runtime *r)
{
	r->ram_fd = memfd_create(RAM_FILE, MFD_CLOEXEC);
	if (r->ram_fd < 0 || ftruncate(r->ram_fd, (off_t)r->ram_size))
		return -errno;
	r->ram = fences_alloc(&r->fences, r->ram_size, PROT_NONE);
	if (!r->ram)
		return -ENOMEM;
	if (mmap(r->ram, r->ram_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, r->ram_fd, 0) == MAP_FAILED)
		return -errno;
	/* Without the thread everything is made as it is touched. */
	r->ram_filler.started = !thread_start(&r->ram_filler.thread, fill, r);
	return 0;
}

void ram_stop_filling(struct runtime *r)
{
	__atomic_store_n(&r->ram_filler.stop, true, __ATOMIC_RELAXED);
	if (r->ram_filler.started)
		pthread_join(r->ram_filler.thread, NULL);
	r->ram_filler.started = false;
}

void ram_destroy(struct runtime *r)
{
	ram_stop_filling(r);
	if (r->ram)
		fences_free(&r->fences, r->ram, r->ram_size);
	if (r->ram_fd >= 0)
		close(r->ram_fd);
}
