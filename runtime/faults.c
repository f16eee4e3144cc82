/* Accesses that emitted code could not do alone: soft misses, host faults in the window, and the completion of writes. */
#include <string.h>

#include "base/log.h"
#include "runtime/internal.h"

static uint32_t heat_slot(gva_t gva)
{
	return (gva ^ gva >> 9) % HEAT_SLOTS;
}

#define FOLLOW_CREDIT 16u /* pages to be shown before it is asked for again whether that is right */
#define FOLLOW_TRUST 2    /* it is, where so many more were accessed directly than were not, of late */

/* Was the page of the last true fault but for fetches accessed directly by user code? */
static void note_follower(struct runtime *r, bool followed)
{
	struct fault_follow *f = &r->follows[heat_slot(r->awaited_by)];

	if (!r->awaited_by)
		return;
	r->awaited_by = 0;
	f->trust = (int8_t)(followed ? f->trust + 1 : f->trust > -FOLLOW_TRUST ? f->trust - 1 : f->trust);
	if (f->trust < FOLLOW_TRUST)
		return;
	f->trust--;
	f->credit = FOLLOW_CREDIT;
}

/* The page of a true fault. Where a direct access of user code met it, the user's window shows it once the guest has mapped it; for one that the soft form or C met, that
 * would be a call to the host for nothing if no direct one follows: so by what followed the instruction's last ones. */
void faults_note(struct runtime *r, gva_t gva, bool direct)
{
	gva_t at = r->v->seg[SEG_CS].base + r->v->eip;
	struct fault_follow *f = &r->follows[heat_slot(at)];
	bool trusted = !direct && f->credit && shadow_expect(r->shadow, gva);

	note_follower(r, false);
	r->awaited = gva >> PAGE_SHIFT;
	r->awaited_by = direct || trusted ? 0 : at;
	f->credit -= trusted;
	if (direct || trusted)
		vcpu_forget_user_view(r->v);
}

static host_pc_t raise_fault(struct runtime *r, struct guest_fault fault)
{
	struct vcpu *v = r->v;

	v->fault = fault;
	r->completion.active = false;
	r->single_step = false;
	v->debug_hits = 0;
	r->stats.exceptions++;
	if (fault.vector == VEC_PF) {
		r->stats.true_faults++;
		r->faulted = fault.cr2 >> PAGE_SHIFT;
	}
	LOG(LOG_CPU, LOG_DEBUG, "exception %u error %x cr2 %08x at %08x", fault.vector, fault.error, fault.cr2, v->eip);
	if (!cpu_deliver_fault(v))
		dispatch_end(r, RUNTIME_TRIPLE_FAULT);
	return 0;
}

static host_pc_t raise_page_fault(struct runtime *r, gva_t gva, uint32_t error)
{
	return raise_fault(r, (struct guest_fault){.vector = VEC_PF, .has_error = true, .error = error, .cr2 = gva});
}

/* --- completion --- */

static void tell_written(struct runtime *r, gpa_t gpa, uint32_t length)
{
	shadow_frame_written(r->shadow, gpa, length);
	code_written(r, gpa, length);
}

static void piece_gather(struct runtime *r, const struct completion *c, unsigned i, uint8_t *to)
{
	gpa_t gpa = c->piece[i].gpa;
	uint32_t length = c->piece[i].length;

	if (!c->piece[i].mmio)
		memcpy(to, r->ram + gpa, length);
	else
		memory_read_device(r, gpa, to, length);
}

static void piece_scatter(struct runtime *r, unsigned i, const uint8_t *from)
{
	struct completion *c = &r->completion;
	gpa_t gpa = c->piece[i].gpa;
	uint32_t length = c->piece[i].length;

	if (!c->piece[i].mmio) {
		memcpy(r->ram + gpa, from, length);
		tell_written(r, gpa, length);
	} else {
		memory_write_device(r, gpa, from, length);
	}
}

/* As aligned as the guest's own address, so that SSE accesses fault where the guest's would. */
static uint8_t *bounce_at(uint8_t *buffer, gva_t gva)
{
	return buffer + (gva & 15);
}

void completion_finish(struct runtime *r)
{
	struct completion *c = &r->completion;

	c->active = false;
	if (!c->bounced) {
		tell_written(r, c->piece[0].gpa, c->size);
		return;
	}
	const uint8_t *from = bounce_at(r->v->bounce, c->gva);
	piece_scatter(r, 0, from);
	if (c->pieces == 2)
		piece_scatter(r, 1, from + c->piece[0].length);
}

/* Describe the access piece by piece. Returns false with the page fault that it meets. */
static bool resolve_pieces(struct runtime *r, struct completion *c, gva_t gva, uint32_t size, unsigned access, bool *all_ram,
			   struct guest_fault *fault)
{
	uint32_t first = PAGE_SIZE - (gva & PAGE_MASK);

	*c = (struct completion){.gva = gva, .size = size};
	c->pieces = size > first ? 2 : 1;
	*all_ram = true;
	for (unsigned i = 0; i < c->pieces; i++) {
		gva_t at = i ? (gva | PAGE_MASK) + 1 : gva;
		struct shadow_answer a = shadow_resolve(r->shadow, at, access);

		if (a.kind == SHADOW_FAULT) {
			*fault = (struct guest_fault){.vector = VEC_PF, .has_error = true, .error = a.error, .cr2 = at};
			return false;
		}
		c->piece[i].gpa = a.gpa;
		c->piece[i].length = c->pieces == 1 ? size : i ? size - first : first;
		c->piece[i].mmio = a.kind == SHADOW_MMIO;
		*all_ram &= a.kind == SHADOW_RAM;
		if (a.kind == SHADOW_MMIO)
			r->stats.completions_mmio++;
		if (a.kind == SHADOW_TRACED)
			r->stats.completions_traced++;
	}
	r->stats.completions_crossing += c->pieces == 2;
	return true;
}

static void gather(struct runtime *r, const struct completion *c, uint8_t *to)
{
	piece_gather(r, c, 0, to);
	if (c->pieces == 2)
		piece_gather(r, c, 1, to + c->piece[0].length);
}

static bool reads_device(const struct completion *c)
{
	return c->piece[0].mmio || (c->pieces == 2 && c->piece[1].mmio);
}

/* A device is read once, though a write of the same instruction may start it over as a thunk. */
static void gather_once(struct runtime *r, const struct completion *c, uint8_t *to)
{
	bool known = r->device_read.done && r->device_read.gva == c->gva && r->device_read.size == c->size;

	if (!known) {
		gather(r, c, to);
		r->device_read.done = true;
		r->device_read.gva = c->gva;
		r->device_read.size = c->size;
		memcpy(r->device_read.bytes, to, c->size);
	}
	memcpy(to, r->device_read.bytes, c->size);
}

/* From a lookup's row on to the access itself. */
static host_pc_t soft_pc(const struct block *b, struct row_cursor *at)
{
	while (!(at->row.access & ROW_SOFT) && cache_next_row(at))
		;
	return b->host_pc + at->row.host_offset;
}

/* A read: the data waits in a bounce buffer, the instruction goes on with R9 pointing there. It may be the first of two accesses of a
 * thunk, whose write has the other buffer. An instruction that reads a device runs alone, so that nothing stops it half-way. */
static host_pc_t complete_read(struct runtime *r, const struct completion *c, const struct block *b, struct row_cursor *at)
{
	uint8_t *from = bounce_at(r->v->read_bounce, c->gva);

	if (!reads_device(c)) {
		gather(r, c, from);
	} else if (b->mode & (MODE_ONE | MODE_THUNK)) {
		gather_once(r, c, from);
	} else {
		dispatch_stop(r->v, &at->row);
		r->v->shadow_interrupts |= SHADOW_STI;
		return 0;
	}
	r->v->scratch[1] = (uint64_t)from;
	return soft_pc(b, at);
}

/* The guest may have put another frame behind its EIP since the block was made: were the thunk's a larger write, it would not fit. */
static bool thunk_fits(const struct block *thunk, uint32_t size)
{
	const unsigned store = ROW_WRITE | ROW_SOFT;
	bool stores = false;

	for (struct row_cursor at = cache_rows(thunk); cache_next_row(&at);) {
		if ((at.row.access & store) != store)
			continue;
		stores = row_sizes[at.row.access >> ROW_SIZE_SHIFT] == size;
		if (!stores)
			break;
	}
	return stores;
}

/* A write: a thunk runs the same instruction on RAM itself, or on the bounce buffer; what is left is done when it exits. */
static host_pc_t complete_write(struct runtime *r, const struct completion *access, const struct side_row *row)
{
	struct completion *c = &r->completion;
	struct vcpu *v = r->v;

	*c = *access;
	c->bounced = c->pieces == 2 || c->piece[0].mmio;
	/* What is only stored to is not read: a device might notice. */
	if (c->bounced && (row->access & ROW_READ))
		gather(r, c, bounce_at(v->bounce, c->gva));
	v->completion_hva = (uint64_t)(c->bounced ? bounce_at(v->bounce, c->gva) : r->ram + c->piece[0].gpa);
	dispatch_undo(v, row);
	c->active = true;
	r->link_from = NULL;
	uint32_t entry;
	struct block *b = code_find(r, MODE_THUNK | MODE_SOFT, &entry);
	if (!b) {
		c->active = false;
		return r->ended ? 0 : raise_fault(r, v->fault);
	}
	if (!thunk_fits(b, c->size)) {
		c->active = false;
		return 0;
	}
	return b->host_pc + entry;
}

#define STACK_REGISTER 13u /* R13 */

/* What a soft access stores, what of the vCPU gets what was there, and where the instruction ends. */
struct plain_store {
	uint32_t value;
	uint32_t *old;
	host_pc_t end;
};

/* The store of a soft access where the emitter has written MOV [R9], r32, XCHG of these, or MOV [R9], imm32. */
static bool is_plain_store(struct vcpu *v, host_pc_t pc, struct plain_store *s)
{
	const uint8_t *at = (const uint8_t *)pc;
	unsigned reg = (at[2] >> 3 & 7u) | (at[0] << 1 & 8u);
	bool exchanges = at[1] == 0x87;

	*s = (struct plain_store){.end = pc + 3};
	if (at[0] == 0x41 && at[1] == 0xC7 && at[2] == 0x01) {
		memcpy(&s->value, at + 3, sizeof(s->value));
		s->end += sizeof(s->value);
		return true;
	}
	if ((at[0] & ~4u) != 0x41 || (at[1] != 0x89 && !exchanges) || (at[2] & 0xC7u) != 0x01 || reg == ESP || (reg > EDI && reg != STACK_REGISTER))
		return false;
	if (exchanges && reg == STACK_REGISTER)
		return false;
	s->value = v->gpr[reg == STACK_REGISTER ? ESP : reg];
	s->old = exchanges ? &v->gpr[reg] : NULL;
	return true;
}

/* Then what the block has done without code of its own, a NOP or a jump that is the next row's EIP already, may have become something else. */
static bool stores_over_block(const struct completion *c, const struct block *b)
{
	gpa_t at = c->piece[0].gpa;

	return at < b->gpa + b->guest_length && b->gpa < at + c->size;
}

/* A plain store to a traced frame, as page-table writers have it: done here, without a thunk. Returns false if it is none, or not the end of its
 * instruction: the store may have changed what is left of it. */
static bool store_to_trace(struct runtime *r, const struct completion *c, const struct block *b, const struct row_cursor *from, host_pc_t *pc)
{
	struct vcpu *v = r->v;
	uint64_t epoch = r->code_epoch;
	struct row_cursor at = *from;
	struct plain_store s;

	if (c->pieces != 1 || c->piece[0].mmio || c->size != sizeof(s.value) || stores_over_block(c, b) || !is_plain_store(v, soft_pc(b, &at), &s))
		return false;
	if (!cache_next_row(&at) || b->host_pc + at.row.host_offset != s.end || at.row.eip == from->row.eip)
		return false;
	uint8_t *to = r->ram + c->piece[0].gpa;
	if (s.old)
		memcpy(s.old, to, sizeof(*s.old));
	memcpy(to, &s.value, sizeof(s.value));
	v->scratch[1] = (uint64_t)to;
	v->scratch[2] = v->gpr[ECX];
	tell_written(r, c->piece[0].gpa, sizeof(s.value));
	*pc = epoch == r->code_epoch ? s.end : 0;
	if (!*pc)
		dispatch_stop(v, &at.row);
	return true;
}

/* vol. 3, 6.15, #AC: the alignment that an operand of this size needs. */
static bool misaligned(gva_t gva, uint32_t size)
{
	uint32_t alignment = size == 6 ? 4 : size > 8 ? 8 : size;

	return gva & (alignment - 1);
}

/* Does the instruction at this place, with an operand of 16 bytes, raise #GP where that is not aligned? All do but MOVUPS, MOVUPD, MOVDQU, LDDQU,
 * MASKMOVDQU (whose store has no ModRM address) and the string comparisons of SSE4.2; of SHA AMD's processors ask no alignment, and the host
 * is to say. */
static bool must_be_aligned(host_pc_t pc)
{
	const uint8_t *at = (const uint8_t *)pc;
	uint8_t prefix = *at == 0x66 || *at >= 0xF2 ? *at++ : 0;

	at += (*at & 0xF0) == 0x40; /* REX */
	uint8_t opcode = at[1];
	if (at[0] == 0x0F && opcode == 0x3A)
		return (at[2] & 0xFC) != 0x60 && at[2] != 0xCC;
	if (at[0] == 0x0F && opcode == 0x38)
		return (at[2] & 0xF8) != 0xC8;
	return at[0] == 0x0F && (opcode & 0xFE) != 0x10 && !(prefix == 0xF3 && (opcode & 0xEF) == 0x6F) && !(prefix == 0xF2 && opcode == 0xF0);
}

/* That #GP comes before any page fault (vol. 3, 6.9). The host's processor raises it where the page is there. */
static bool is_misaligned_sse(const struct block *b, const struct row_cursor *from, gva_t gva, uint32_t size)
{
	struct row_cursor at = *from;

	return size == 16 && gva % 16 && must_be_aligned(soft_pc(b, &at));
}

/* What becomes of an access that missed and has no fault. */
static enum place_event soft_event(const struct completion *c, bool all_ram, bool watched)
{
	if (reads_device(c))
		return PLACE_MMIO;
	if (c->pieces == 2)
		return PLACE_CROSSING;
	return !all_ram ? PLACE_TRACED : watched ? PLACE_WATCHED : PLACE_MISS;
}

/* The row where the lookup begins that this host PC is in. */
static struct row_cursor lookup_row(const struct block *b, host_pc_t pc)
{
	struct row_cursor found = {0};

	for (struct row_cursor at = cache_rows(b); cache_next_row(&at) && at.row.host_offset < pc - b->host_pc;)
		if ((at.row.access & (ROW_READ | ROW_WRITE)) && !(at.row.access & ROW_SOFT))
			found = at;
	return found;
}

/* Page-table writers and the like miss at the same few places all the time, and a row is found by reading its block's rows from the first. */
static const struct soft_place *soft_place(struct runtime *r, host_pc_t pc)
{
	struct soft_place *known = &r->soft_places[pc / 4 % SOFT_PLACES];

	if (known->pc != pc) {
		known->block = cache_find_host(r->cache, pc);
		known->at = lookup_row(known->block, pc);
		known->pc = pc;
	}
	return known;
}

void faults_forget_places(struct runtime *r)
{
	memset(r->soft_places, 0, sizeof(r->soft_places));
}

host_pc_t fault_soft(struct runtime *r)
{
	struct vcpu *v = r->v;
	host_pc_t pc = v->scratch[3];
	gva_t gva = (gva_t)v->scratch[0];
	const struct soft_place *place = soft_place(r, pc);
	const struct block *b = place->block;
	struct row_cursor at = place->at;
	const struct side_row *row = &at.row;
	struct completion completion;
	bool write = row->access & ROW_WRITE, all_ram;
	uint32_t size = row_sizes[row->access >> ROW_SIZE_SHIFT];
	unsigned access = (write ? ACCESS_WRITE : ACCESS_READ) | memory_user(v);

	struct guest_fault fault;

	uint64_t epoch = r->code_epoch;

	r->stats.soft_misses++;
	if (is_misaligned_sse(b, &at, gva, size)) {
		dispatch_stop(v, row);
		return raise_fault(r, (struct guest_fault){.vector = VEC_GP, .has_error = true});
	}
	bool resolved = resolve_pieces(r, &completion, gva, size, access, &all_ram, &fault);
	if (r->places)
		places_access(r, b, row, resolved ? soft_event(&completion, all_ram, v->mode & (MODE_DR7 | MODE_AC)) : PLACE_TRUE);
	if (!resolved) {
		dispatch_stop(v, row);
		faults_note(r, fault.cr2, false);
		return raise_fault(r, fault);
	}
	/* Room was made for the answer, and the view has lost code pages by it. */
	if (epoch != r->code_epoch) {
		r->completion.active = false;
		dispatch_stop(v, row);
		return 0;
	}
	if ((v->mode & MODE_AC) && misaligned(gva, size)) {
		dispatch_stop(v, row);
		return raise_fault(r, (struct guest_fault){.vector = VEC_AC, .has_error = true});
	}
	if (v->mode & MODE_DR7)
		v->debug_hits |= debug_data_hits(v, gva, size, write);
	if (!(v->mode & (MODE_DR7 | MODE_AC)) && all_ram && completion.pieces == 1)
		return b->host_pc + row->host_offset;
	r->stats.completions++;
	if (write && !(v->mode & (MODE_DR7 | MODE_AC)) && store_to_trace(r, &completion, b, &at, &pc))
		return pc;
	return write ? complete_write(r, &completion, row) : complete_read(r, &completion, b, &at);
}

/* --- host faults --- */

static host_pc_t internal_error(struct runtime *r, const char *what)
{
	LOG(LOG_RUNTIME, LOG_ERROR, "%s: trap %u error %x address %lx at host pc %lx", what, r->v->host_fault.trapno,
	    r->v->host_fault.error, (unsigned long)r->v->host_fault.addr, (unsigned long)r->v->resume_pc);
	r->failure = what;
	dispatch_end(r, RUNTIME_HOST_FAILURE);
	return 0;
}

/* An instruction that keeps meeting true faults, or pages that the last true fault was for, is one that touches fresh memory: each page would
 * cost it two host faults and an mmap, where the soft form misses twice, and is mapped with its neighbours when another comes to it. One that keeps
 * meeting pages that the window shows read-only, and the guest's tables do not any more, is a write barrier's neighbour. */
static void cool_down(struct runtime *r, gva_t gva)
{
	struct fault_heat *heat = &r->heat[heat_slot(gva)];
	uint64_t now = runtime_now_ns();

	if (heat->gva != gva || now - heat->since > HEAT_NS)
		*heat = (struct fault_heat){.gva = gva, .since = now};
	if (++heat->faults >= HEAT_LIMIT) {
		heat->faults = 0;
		code_make_soft(r, gva);
	}
}

static enum place_event window_event(enum shadow_kind kind, bool mapped)
{
	if (kind == SHADOW_FAULT)
		return PLACE_TRUE;
	return mapped || kind == SHADOW_RAM ? PLACE_HIDDEN : kind == SHADOW_MMIO ? PLACE_MMIO : PLACE_TRACED;
}

/* Code that a call was to find is not to be had there, or not what it was: the call runs as it stands. */
static host_pc_t guard_missed(struct runtime *r, const struct side_row *row)
{
	r->stats.guard_misses++;
	dispatch_stop(r->v, row);
	r->v->shadow_interrupts |= SHADOW_STI;
	return 0;
}

/* The direct form met something its window does not show: a hidden fault, a true one, or a page that only the soft form can serve. */
static host_pc_t window_fault(struct runtime *r, const struct block *b, const struct side_row *row)
{
	struct vcpu *v = r->v;
	uint64_t offset = v->host_fault.addr - (uint64_t)r->window;
	unsigned access = (v->host_fault.error & ACCESS_WRITE) | memory_user(v);
	uint64_t epoch = r->code_epoch;
	bool mapped = false;

	if (offset < WINDOW_SIZE) {
		struct shadow_answer a = shadow_map(r->shadow, (gva_t)offset, access, &mapped);
		if (r->places)
			places_access(r, b, row, window_event(a.kind, mapped));
		if (a.kind == SHADOW_FAULT && row->undo == UNDO_GUARD)
			return guard_missed(r, row);
		if (a.kind == SHADOW_FAULT) {
			dispatch_stop(v, row);
			faults_note(r, (gva_t)offset, v->cpl == 3);
			cool_down(r, v->seg[SEG_CS].base + v->eip);
			return raise_page_fault(r, (gva_t)offset, a.error);
		}
		if (mapped && v->cpl == 3 && offset >> PAGE_SHIFT == r->awaited)
			note_follower(r, true);
		if (mapped && (offset >> PAGE_SHIFT == r->faulted || (v->host_fault.error & PF_PRESENT)))
			cool_down(r, v->seg[SEG_CS].base + row->eip);
		if (mapped && !b->dead && epoch == r->code_epoch) {
			r->stats.hidden_faults++;
			return row->undo == UNDO_REPEAT ? b->host_pc + row->host_offset : v->resume_pc;
		}
		if (mapped) {
			dispatch_stop(v, row);
			return 0;
		}
	}
	dispatch_stop(v, row);
	code_make_soft(r, v->seg[SEG_CS].base + v->eip);
	return 0;
}

static host_pc_t exception_from_host(struct runtime *r, const struct side_row *row, uint8_t vector, bool has_error)
{
	dispatch_stop(r->v, row);
	return raise_fault(r, (struct guest_fault){.vector = vector, .has_error = has_error});
}

/* The next one of this instruction, if it is by zero, need be no signal. */
static host_pc_t divide_error(struct runtime *r, const struct side_row *row)
{
	gva_t gva = r->v->seg[SEG_CS].base + row->eip;

	if (!code_is_soft(r, gva))
		code_make_soft(r, gva);
	return exception_from_host(r, row, VEC_DE, false);
}

/* vol. 3, 2.5, CR0.NE: the exception is the board's business if that is clear. */
static host_pc_t x87_exception(struct runtime *r, const struct side_row *row)
{
	struct vcpu *v = r->v;

	cpu_note_x87(v);
	if (v->cr0 & CR0_NE)
		return exception_from_host(r, row, VEC_MF, false);
	if (!runtime_x87_error(v))
		return v->resume_pc;
	dispatch_stop(v, row);
	v->shadow_interrupts = 0;
	r->completion.active = false;
	return 0;
}

/* The view has another frame at the block's page than it was made from, or is not known to have this one. */
static host_pc_t exec_missed(struct runtime *r, struct block *b, const struct side_row *row)
{
	r->stats.exec_misses++;
	dispatch_stop(r->v, row);
	if (code_is_elsewhere(r, b))
		cache_unlink(r->cache, b);
	return 0;
}

/* Targets share the slot: the lookup would lead here again. */
static host_pc_t entry_missed(struct runtime *r, const struct side_row *row)
{
	r->stats.entry_misses++;
	dispatch_note_site(r);
	dispatch_stop(r->v, row);
	r->v->exit_kind = EXIT_SITE;
	return 0;
}

static host_pc_t trap_missed(struct runtime *r, struct block *b, const struct side_row *row)
{
	if (row->undo == UNDO_GUARD) {
		code_make_soft(r, r->v->seg[SEG_CS].base + row->eip);
		return guard_missed(r, row);
	}
	if (row->undo != UNDO_TARGET_R8)
		return exec_missed(r, b, row);
	return r->v->resume_pc - b->host_pc < b->checked ? entry_missed(r, row) : return_missed(r, row);
}

host_pc_t fault_host(struct runtime *r)
{
	struct vcpu *v = r->v;
	struct block *b = cache_contains(r->cache, v->resume_pc) ? cache_find_host(r->cache, v->resume_pc) : NULL;

	if (!b)
		return internal_error(r, "a host fault outside any block");
	struct side_row at = {0}, *row = &at;
	cache_find_row(b, v->resume_pc, row);
	uint64_t address = v->host_fault.addr;
	switch (v->host_fault.trapno) {
	case VEC_PF:
		if (r->view->direct && address + WINDOW_GUARD - (uint64_t)r->window < WINDOW_GUARD + WINDOW_SIZE + WINDOW_GUARD + PAGE_SIZE)
			return window_fault(r, b, row);
		if (is_trap_pad_miss(v, address))
			return trap_missed(r, b, row);
		return internal_error(r, "translated code touched memory outside the window");
	case VEC_GP: /* misaligned SSE, reserved MXCSR bits */
		return exception_from_host(r, row, VEC_GP, true);
	case VEC_XM:
		return exception_from_host(r, row, v->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD, false);
	case VEC_MF:
		return x87_exception(r, row);
	case VEC_DE:
		return divide_error(r, row);
	case VEC_UD:
		return exception_from_host(r, row, VEC_UD, false);
	default:
		return internal_error(r, "an unexpected host trap in translated code");
	}
}
