/* The port bus, the memory bus and the timer list. */
#include "runtime/devices/board.h"

#include <assert.h>

#include "base/log.h"

static unsigned size_index(unsigned size)
{
	return size >> 1; /* 1, 2, 4 -> 0, 1, 2 */
}

void board_claim(struct board *b, uint16_t first, unsigned count, unsigned sizes, const struct board_ports *ports)
{
	assert(b->claim_count < BOARD_CLAIMS && first + count <= 0x10000);
	b->claims[b->claim_count++] = *ports;
	for (unsigned size = 1; size <= 4; size <<= 1) {
		for (unsigned i = 0; (sizes & size) && i < count; i++) {
			uint8_t *slot = &b->map[size_index(size)][first + i];
			assert(*slot == 0);
			*slot = (uint8_t)b->claim_count;
		}
	}
}

bool board_is_free(const struct board *b, uint16_t first, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (first + i > 0xFFFF || b->map[0][first + i] || b->map[1][first + i] || b->map[2][first + i])
			return false;
	return true;
}

static const struct board_ports *find(const struct board *b, uint16_t port, unsigned size)
{
	unsigned claim = b->map[size_index(size)][port];
	return claim ? &b->claims[claim - 1] : NULL;
}

uint32_t board_read(struct board *b, uint16_t port, unsigned size)
{
	const struct board_ports *p = find(b, port, size);
	if (p)
		return p->read(p->ctx, port, size);
	if (size == 1) {
		LOG(LOG_DEVICES, LOG_DEBUG, "read of port %04x: no device", port);
		return 0xFF;
	}
	unsigned half = size / 2;
	uint32_t low = board_read(b, port, half);
	return low | board_read(b, (uint16_t)(port + half), half) << (8 * half);
}

void board_write(struct board *b, uint16_t port, unsigned size, uint32_t value)
{
	const struct board_ports *p = find(b, port, size);
	if (p) {
		p->write(p->ctx, port, size, value);
		return;
	}
	if (size == 1) {
		LOG(LOG_DEVICES, LOG_DEBUG, "write of %02x to port %04x: no device", value & 0xFF, port);
		return;
	}
	unsigned half = size / 2;
	uint32_t mask = half == 1 ? 0xFF : 0xFFFF;
	board_write(b, port, half, value & mask);
	board_write(b, (uint16_t)(port + half), half, value >> (8 * half) & mask);
}

void board_add_memory(struct board *b, struct board_memory *m)
{
	assert(b->memory_count < BOARD_MEMORIES);
	b->memories[b->memory_count++] = m;
}

static const struct board_memory *find_memory(const struct board *b, gpa_t gpa, unsigned size)
{
	for (unsigned i = 0; i < b->memory_count; i++) {
		const struct board_memory *m = b->memories[i];
		if (gpa >= m->first && gpa - m->first < m->size && m->size - (gpa - m->first) >= size)
			return m;
	}
	LOG(LOG_DEVICES, LOG_DEBUG, "access to %08llx in memory: no device", (unsigned long long)gpa);
	return NULL;
}

uint64_t board_read_memory(struct board *b, gpa_t gpa, unsigned size)
{
	const struct board_memory *m = find_memory(b, gpa, size);
	return m ? m->read(m->ctx, (uint32_t)(gpa - m->first), size) : UINT64_MAX;
}

void board_write_memory(struct board *b, gpa_t gpa, unsigned size, uint64_t value)
{
	const struct board_memory *m = find_memory(b, gpa, size);
	if (m)
		m->write(m->ctx, (uint32_t)(gpa - m->first), size, value);
}

void board_add_timer(struct board_timers *list, struct board_timer *t)
{
	assert(list->count < BOARD_TIMERS);
	t->deadline = TIMER_NEVER;
	list->at[list->count++] = t;
}

void board_run_timers(struct board_timers *list, int64_t now)
{
	for (unsigned i = 0; i < list->count; i++) {
		struct board_timer *t = list->at[i];
		if (t->deadline > now)
			continue;
		t->deadline = TIMER_NEVER;
		t->fire(t->ctx, now);
	}
}

int64_t board_next_deadline(const struct board_timers *list)
{
	int64_t next = TIMER_NEVER;
	for (unsigned i = 0; i < list->count; i++)
		if (list->at[i]->deadline < next)
			next = list->at[i]->deadline;
	return next;
}
