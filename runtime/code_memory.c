/* A page of code memory that is first touched while it is written, and again through its executable mapping while it runs, costs what the translation
 * of ten guest instructions does: a thread touches them a little ahead, and the memory that blocks are kept in as well. */
#include "runtime/internal.h"
#include "runtime/thread.h"

#define AHEAD KIB(256)

/* With nothing changed, whatever the vCPU's thread writes meanwhile. */
static void touch(uint8_t *at)
{
	__asm__ volatile("lock orb $0, %0" : "+m"(*at) : : "cc", "memory"); /* compilers know that an atomic one does nothing */
}

/* Through both mappings. */
static void touch_code(const struct code_memory *m, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at += PAGE_SIZE) {
		touch(m->write + at);
		(void)*(const volatile uint8_t *)(uintptr_t)(m->exec + at);
	}
}

static void touch_side(uint8_t *at)
{
	for (uint32_t i = 0; at && i < CACHE_SIDE_CHUNK; i += PAGE_SIZE)
		touch(at + i);
}

static void *run(void *arg)
{
	struct code_memory *m = arg;
	uint8_t *touched_side = NULL;
	uint64_t touched = 0;

	pthread_mutex_lock(&m->lock);
	while (!m->stop) {
		uint64_t wanted = m->wanted;
		uint8_t *side = m->side;
		if (touched == wanted && touched_side == side) {
			pthread_cond_wait(&m->wake, &m->lock);
			continue;
		}
		pthread_mutex_unlock(&m->lock);
		touch_code(m, touched, wanted);
		touched = wanted;
		if (touched_side != side)
			touch_side(side);
		touched_side = side;
		pthread_mutex_lock(&m->lock);
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

void code_memory_start(struct runtime *r)
{
	struct code_memory *m = &r->code_memory;
	host_pc_t end;

	cache_memory(r->cache, &m->exec, &end);
	m->size = end - m->exec;
	m->write = cache_writable_start(r->cache);
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->wake, NULL);
	/* Without the thread everything is made as it is touched. */
	m->started = !thread_start(&m->thread, run, m);
}

void code_memory_used(struct runtime *r, host_pc_t pc)
{
	struct code_memory *m = &r->code_memory;
	uint64_t used = pc - m->exec, wanted = (used & ~(uint64_t)PAGE_MASK) + AHEAD;
	uint8_t *side = cache_side_memory_ahead(r->cache);
	bool wants_code = used + AHEAD / 2 > m->wanted && m->wanted != m->size;

	if (!m->started || (!wants_code && side == m->side))
		return;
	pthread_mutex_lock(&m->lock);
	if (wants_code)
		m->wanted = wanted < m->size ? wanted : m->size;
	m->side = side;
	pthread_cond_signal(&m->wake);
	pthread_mutex_unlock(&m->lock);
}

void code_memory_stop(struct runtime *r)
{
	struct code_memory *m = &r->code_memory;

	if (!m->started)
		return;
	pthread_mutex_lock(&m->lock);
	m->stop = true;
	pthread_cond_signal(&m->wake);
	pthread_mutex_unlock(&m->lock);
	pthread_join(m->thread, NULL);
	m->started = false;
}
