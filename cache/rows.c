/* Side-table rows as they are kept, packed: they would take more memory than the code that they describe. A byte says how far the row is
 * from the last one and what follows; most rows have two or three. */
#include <string.h>

#include "cache/internal.h"

#define DISTANCE 0x0Fu /* in bytes of host code; all ones: the rest follows */
#define HAS_EIP 0x10u  /* the difference to the last row's follows, or to the block's, and whether undo is UNDO_ENTRY; else the EIP is the same */
#define HAS_UNDO 0x20u /* a byte follows; else it is 0. Ditto: */
#define HAS_ACCESS 0x40u
#define HAS_ESP 0x80u

/* Seven bits a byte, the lowest first; the last byte's top bit is clear. */
static uint8_t *put_number(uint8_t *at, uint64_t value)
{
	for (; value > 0x7F; value >>= 7) *at++ = (uint8_t)(value | 0x80);
	*at++ = (uint8_t)value;
	return at;
}

/* Small differences of either sign are small numbers. */
static uint32_t fold(uint32_t difference)
{
	return difference << 1 ^ -(difference >> 31);
}

static uint32_t unfold(uint32_t number)
{
	return number >> 1 ^ -(number & 1);
}

#define ROW_MOST 12u /* bytes: all that put_row() may write */

static uint8_t *put_row(uint8_t *at, const struct side_row *last, const struct side_row *row)
{
	uint32_t distance = (uint32_t)row->host_offset - last->host_offset, eip = row->eip - last->eip;
	bool entry = eip && row->undo == UNDO_ENTRY;
	uint64_t number = (uint64_t)fold(eip) << 1 | entry;
	if (distance < DISTANCE && number <= 0x7F && (entry || !row->undo) && !row->esp) {
		/* Most of them. */
		unsigned count = eip ? 2 : 1;
		uint32_t bytes = distance | (eip ? HAS_EIP : 0) | (uint32_t)number << 8;
		if (row->access) bytes |= HAS_ACCESS | (uint32_t)row->access << 8 * count++;
		memcpy(at, &bytes, sizeof bytes);
		return at + count;
	}
	*at++ = (uint8_t)((distance < DISTANCE ? distance : DISTANCE) | (eip ? HAS_EIP : 0) | (row->undo && !entry ? HAS_UNDO : 0) |
			  (row->access ? HAS_ACCESS : 0) | (row->esp ? HAS_ESP : 0));
	if (distance >= DISTANCE) at = put_number(at, distance - DISTANCE);
	if (eip) at = put_number(at, number);
	if (row->undo && !entry) *at++ = row->undo;
	if (row->access) *at++ = row->access;
	if (row->esp) *at++ = (uint8_t)row->esp;
	return at;
}

/* Before the rows lie bits for the block's guest bytes: where it may be entered. Behind them, from their end down, where in the code that is, two bytes each. Rows
 * would have to be searched for both, of many blocks. */
#define ENTRIES_MOST 64u
struct entries {
	uint32_t count, from; /* the next one's guest bytes begin there at the least */
	uint16_t offsets[ENTRIES_MOST];
};

static uint32_t entry_bytes(const struct block *b)
{
	return (b->guest_length + 7) / 8;
}

static uint8_t *entry_bits(const struct block *b)
{
	return (uint8_t *)(uintptr_t)b->rows - entry_bytes(b);
}

static void note_entry(const struct block *b, const struct side_row *row, struct entries *e)
{
	uint32_t at = row->eip - b->eip;
	if (row->undo != UNDO_ENTRY || at >= b->guest_length || at < e->from || e->count == ENTRIES_MOST) return;
	entry_bits(b)[at / 8] |= (uint8_t)(1u << at % 8);
	e->offsets[e->count++] = row->host_offset;
	e->from = at + 1;
}

/* The place of the entry with so many before it. */
static uint8_t *entry_offset(const struct block *b, uint32_t before)
{
	return entry_bits(b) + b->row_bytes - sizeof(uint16_t) * (before + 1);
}

static uint32_t entries_before(const struct block *b, uint32_t at)
{
	const uint8_t *bits = entry_bits(b);
	uint32_t count = 0;
	uint64_t some;
	for (; at >= 64; at -= 64, bits += sizeof some) {
		memcpy(&some, bits, sizeof some);
		count += (uint32_t)__builtin_popcountll(some);
	}
	some = 0;
	memcpy(&some, bits, (at + 7) / 8);
	return count + (uint32_t)__builtin_popcountll(some & ((1ull << at) - 1));
}

uint32_t rows_most(const struct block *b)
{
	return entry_bytes(b) + b->row_count * (ROW_MOST + (uint32_t)sizeof(uint16_t));
}

uint8_t *rows_keep(struct block *b, const struct side_row *rows, uint8_t *to)
{
	struct side_row first = {.eip = b->eip};
	struct entries entries;
	entries.count = entries.from = 0;
	memset(to, 0, entry_bytes(b));
	b->rows = to += entry_bytes(b);
	for (uint32_t i = 0; i < b->row_count; i++) {
		to = put_row(to, i ? &rows[i - 1] : &first, &rows[i]);
		note_entry(b, &rows[i], &entries);
	}
	to += entries.count * sizeof *entries.offsets;
	b->row_bytes = (uint16_t)(to - entry_bits(b));
	for (uint32_t i = 0; i < entries.count; i++) memcpy(entry_offset(b, i), &entries.offsets[i], sizeof *entries.offsets);
	return to;
}

/* They are differences to the block's EIP. */
void rows_copy(struct block *b, const struct block *from, uint8_t *to)
{
	memcpy(to, entry_bits(from), from->row_bytes);
	b->rows = to + entry_bytes(from);
}

bool rows_find_entry(const struct block *b, uint32_t eip, uint32_t *offset)
{
	uint32_t at = eip - b->eip;
	if (at >= b->guest_length || !(entry_bits(b)[at / 8] >> at % 8 & 1)) return false;
	uint16_t found;
	memcpy(&found, entry_offset(b, entries_before(b, at)), sizeof found);
	*offset = found;
	return true;
}

void rows_mark_entries(const struct block *b, uint8_t *bits)
{
	uint32_t first = b->gva & PAGE_MASK;
	uint8_t *to = bits + first / 8;
	for (uint32_t i = 0; i < entry_bytes(b); i++) {
		uint32_t shifted = (uint32_t)entry_bits(b)[i] << first % 8;
		if (shifted & 0xFF) to[i] |= (uint8_t)shifted;
		if (shifted >> 8) to[i + 1] |= (uint8_t)(shifted >> 8);
	}
}

static uint64_t take_number(const uint8_t **at)
{
	uint64_t value = 0;
	for (unsigned shift = 0;; shift += 7) {
		uint8_t byte = *(*at)++;
		value |= (uint64_t)(byte & 0x7F) << shift;
		if (!(byte & 0x80)) return value;
	}
}

struct row_cursor cache_rows(const struct block *b)
{
	return (struct row_cursor){.at = b->rows, .left = b->row_count, .row.eip = b->eip};
}

bool cache_next_row(struct row_cursor *c)
{
	if (!c->left) return false;
	c->left--;
	const uint8_t *at = c->at;
	uint32_t head = *at++, distance = head & DISTANCE, undo = UNDO_NONE;
	if (distance == DISTANCE) distance += (uint32_t)take_number(&at);
	c->row.host_offset = (uint16_t)(c->row.host_offset + distance);
	if (head & HAS_EIP) {
		uint64_t number = take_number(&at);
		c->row.eip += unfold((uint32_t)(number >> 1));
		undo = number & 1 ? UNDO_ENTRY : UNDO_NONE;
	}
	c->row.undo = (head & HAS_UNDO ? *at++ : undo) & 31;
	c->row.access = head & HAS_ACCESS ? *at++ & 63 : 0;
	c->row.esp = head & HAS_ESP ? (int8_t)*at++ : 0;
	c->at = at;
	return true;
}

/* An exit stub: the branch to it is done. */
static bool stub_row(const struct block *b, host_pc_t pc, struct side_row *row)
{
	int slot = cache_find_slot(b, pc);
	if (slot < 0) return false;
	uint32_t target = b->slots[slot].target;
	*row = (struct side_row){.undo = target == b->eip ? UNDO_DONE : UNDO_NONE, .eip = target};
	return true;
}

bool cache_seek_row(const struct block *b, host_pc_t pc, struct row_cursor *found)
{
	uint64_t offset = pc - b->host_pc;
	if (offset >= b->host_length) return false;
	bool any = false;
	for (struct row_cursor c = cache_rows(b); cache_next_row(&c) && c.row.host_offset <= offset; any = true) *found = c;
	return any;
}

bool cache_find_row(const struct block *b, host_pc_t pc, struct side_row *row)
{
	struct row_cursor found;
	if (!cache_seek_row(b, pc, &found)) return stub_row(b, pc, row);
	*row = found.row;
	return true;
}
