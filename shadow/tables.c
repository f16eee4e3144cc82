/* The soft tables of a view and the map of what was filled in them. */
#include <string.h>

#include "shadow/internal.h"

bool tables_init(struct shadow *s, struct view *v)
{
	/* The fill map lies behind the tables: it is as sparse as they are. */
	uint8_t *tables = s->config.ops.tables_alloc(s->config.ops.ctx, ABI_TABLES_SIZE + FILL_MAP_SIZE);
	if (!tables) return false;
	v->pub.tables = tables;
	v->read = (uint64_t *)(void *)(tables + ABI_READ_TABLE);
	v->write = (uint64_t *)(void *)(tables + ABI_WRITE_TABLE);
	v->exec = (uint32_t *)(void *)(tables + ABI_EXEC_TABLE);
	v->filled = (uint64_t *)(void *)(tables + ABI_TABLES_SIZE);
	return true;
}

gfn_t tables_frame(const struct shadow *s, const struct view *v, uint32_t page)
{
	if (!v->read[page]) return v->exec[page] - 1; /* guarded: for fetching alone */
	return (gfn_t)((v->read[page] - (uint64_t)(uintptr_t)s->ram) >> PAGE_SHIFT) + page;
}

bool shadow_find_address(const struct shadow *s, const struct shadow_view *view, uint64_t hva, gva_t *gva)
{
	const uint64_t *read = (const uint64_t *)(const void *)(view->tables + ABI_READ_TABLE);
	const uint64_t *filled = (const uint64_t *)(const void *)(view->tables + ABI_TABLES_SIZE);
	uint64_t page_hva = hva & ~(uint64_t)PAGE_MASK;
	if (hva - (uint64_t)(uintptr_t)s->ram >= s->config.ram_size) return false;
	for (uint32_t word = 0; word < (1u << 20) / 64; word++) {
		for (uint64_t bits = filled[word]; bits; bits &= bits - 1) {
			uint32_t page = word * 64 + (uint32_t)__builtin_ctzll(bits);
			if (read[page] + ((uint64_t)page << PAGE_SHIFT) != page_hva) continue;
			*gva = page << PAGE_SHIFT | (gva_t)(hva & PAGE_MASK);
			return true;
		}
	}
	return false;
}

static uint64_t page_addend(const struct shadow *s, uint32_t page, gfn_t gfn)
{
	return (uint64_t)(uintptr_t)s->ram + ((uint64_t)gfn << PAGE_SHIFT) - ((uint64_t)page << PAGE_SHIFT);
}

bool tables_has_piece(const struct view *v, uint32_t page)
{
	uint32_t piece = page >> PIECE_SHIFT;
	return v->pieces[piece / 64] >> (piece % 64) & 1;
}

static void touch_piece(struct shadow *s, struct view *v, uint32_t piece)
{
	uint64_t bit = 1ULL << (piece % 64);
	if (v->pieces[piece / 64] & bit) return;
	if (s->piece_count >= s->config.table_budget) view_limit_pieces(s);
	v->pieces[piece / 64] |= bit;
	v->piece_count++;
	s->piece_count++;
}

void tables_trim(struct shadow *s, struct view *v)
{
	s->config.ops.tables_trim(s->config.ops.ctx, v->pub.tables, ABI_TABLES_SIZE + FILL_MAP_SIZE);
	memset(v->pieces, 0, sizeof(v->pieces));
	s->piece_count -= v->piece_count;
	v->piece_count = 0;
}

bool tables_fill(struct shadow *s, struct view *v, uint32_t page, const struct walk *w, unsigned access)
{
	uint64_t addend = page_addend(s, page, w->gfn);
	s->stats->soft_fills++;
	touch_piece(s, v, page >> PIECE_SHIFT);
	v->filled[page / 64] |= 1ULL << (page % 64);
	if (!w->guarded) v->read[page] = addend;
	/* Links lead to code that is known before anybody asks for it: where the entry is missing, by a host fault. (The supervisor's view is kept.) */
	bool known_code = v->pub.user && w->executable && s->frames[w->gfn].code;
	if ((access & ACCESS_FETCH) || known_code) v->exec[page] = w->gfn + 1;
	if (access & ACCESS_FETCH) return v->write[page] != 0;
	if (!walk_may_write(s, w)) return false;
	if (!v->write[page]) {
		trace_limit_writers(s, w->gfn);
		v->write[page] = addend;
		if (!window_writes_frame(s, v, page, w->gfn)) links_add(&s->pool, &s->frames[w->gfn].writers, link_key(v, page));
	}
	return true;
}

void tables_drop_write(struct shadow *s, struct view *v, uint32_t page)
{
	if (!v->write[page]) return;
	v->write[page] = 0;
	gfn_t gfn = tables_frame(s, v, page);
	if (window_writes_frame(s, v, page, gfn)) return;
	links_remove(&s->pool, &s->frames[gfn].writers, link_key(v, page));
}

bool tables_drop_page(struct shadow *s, struct view *v, uint32_t page)
{
	uint64_t bit = 1ULL << (page % 64);
	if (!(v->filled[page / 64] & bit)) return false;
	bool lost_exec = v->exec[page] != 0;
	tables_drop_write(s, v, page);
	v->read[page] = 0;
	if (lost_exec) v->exec[page] = 0; /* its table may be untouched here: keep it sparse */
	v->filled[page / 64] &= ~bit;
	return lost_exec;
}

bool tables_drop_slot(struct shadow *s, struct view *v, uint32_t slot)
{
	bool lost_exec = false;
	for (uint32_t word = slot_page(s, slot) / 64; word < slot_page(s, slot + 1) / 64; word++)
		while (v->filled[word]) lost_exec |= tables_drop_page(s, v, word * 64 + (uint32_t)__builtin_ctzll(v->filled[word]));
	return lost_exec;
}
