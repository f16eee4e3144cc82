/* One guest memory access, in its two forms. Direct: the window plus a 32-bit effective address that truncates as the guest's would. Soft: through the view's flat table, with R8D the linear address and R9 the host address. */
#include "translator/internal.h"

/* x87 stores do nothing where they raise an unmasked exception (vol. 1, 8.5), which the next such instruction reports. */
static bool may_not_store(const struct form *form)
{
	bool x87 = form->isa_ext == ZYDIS_ISA_EXT_X87 || form->mnemonic == ZYDIS_MNEMONIC_FISTTP;

	return x87 && form->mnemonic != ZYDIS_MNEMONIC_FNSTCW && form->mnemonic != ZYDIS_MNEMONIC_FNSTSW;
}

static bool writes(const struct operand *op)
{
	return op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

static bool keeps(const struct form *form, const struct operand *op)
{
	return (op->actions & (ZYDIS_OPERAND_ACTION_MASK_READ | ZYDIS_OPERAND_ACTION_CONDWRITE)) || may_not_store(form);
}

struct address address_of(const struct insn *insn, const struct operand *op)
{
	return insn->form->addressed && op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ? insn->at : op->at;
}

struct guest_mem access_of(const struct insn *insn, const struct operand *op)
{
	struct address at = address_of(insn, op);

	return (struct guest_mem){
		.seg = at.seg,
		.base = at.base,
		.index = at.index,
		.scale = at.scale,
		.a16 = insn->form->address_width == 16,
		.disp = insn->disp,
		.size = (uint8_t)(op->size / 8),
		.write = writes(op),
		.keeps = keeps(insn->form, op),
	};
}

struct host_mem access_host_address(const struct translation *t, const struct guest_mem *m)
{
	return (struct host_mem){
		.base = m->base == NO_REG ? NO_REG : (uint8_t)host_gpr(m->base),
		.index = m->index == NO_REG ? NO_REG : (uint8_t)host_gpr(m->index),
		.scale = m->scale,
		.disp = (int32_t)((uint32_t)m->disp + (m->base == ESP ? (uint32_t)t->esp : 0)),
	};
}

void access_ea(struct translation *t, const struct guest_mem *m)
{
	if (m->base == NO_REG && m->index == NO_REG)
		emit_mov_imm(&t->e, R8, m->a16 ? (uint16_t)m->disp : (uint32_t)m->disp);
	else
		emit_lea(&t->e, R8, access_host_address(t, m));
	if (m->a16 && (m->base != NO_REG || m->index != NO_REG))
		emit_op(&t->e, &(struct host_op){.opcode = 0xB7, .map = MAP_0F, .reg = R8, .rm = R8});
}

bool access_is_low(const struct translation *t)
{
	return t->in->mode & MODE_LOW;
}

bool access_is_soft(const struct translation *t, const struct insn *insn)
{
	uint32_t offset = (t->in->cs_base + insn->eip) & PAGE_MASK;

	return (t->in->mode & (MODE_SOFT | MODE_DR7 | MODE_AC)) || (t->in->soft_bits && (t->in->soft_bits[offset / 8] >> (offset % 8) & 1));
}

unsigned row_size(unsigned bytes)
{
	unsigned size = 0;

	while (size + 1 < ARRAY_LEN(row_sizes) && row_sizes[size] != bytes)
		size++;
	return size << ROW_SIZE_SHIFT;
}

static unsigned row_access(const struct guest_mem *m)
{
	return (m->write ? ROW_WRITE : 0) | (!m->write || m->keeps ? ROW_READ : 0) | row_size(m->size);
}

unsigned access_row(const struct form *form)
{
	const struct operand *op = &form->memory;

	return row_access(&(struct guest_mem){.size = (uint8_t)(op->size / 8), .write = writes(op), .keeps = keeps(form, op)});
}

static int32_t table_disp(const struct guest_mem *m)
{
	return (m->write ? ABI_WRITE_TABLE : ABI_READ_TABLE) - ABI_TABLES_BIAS;
}

/* Flag-free, since a true fault shows the guest's flags: guest ECX is parked in R10 and jecxz decides. The page offset is rotated to the
 * top, so that adding the size carries into bit 32 when the access crosses. */
static void table_lookup(struct translation *t, const struct insn *insn, const struct guest_mem *m)
{
	struct emitter *e = &t->e;
	uint32_t inside;

	emit_mov64(e, R10, RCX);
	row_add(t, UNDO_RCX, insn->eip, 0);
	if (m->size > 1) {
		emit_rorx(e, RCX, R8, PAGE_SHIFT, false);
		emit_lea64(e, RCX, mem_at(RCX, (int32_t)(m->size - 1) << (32 - PAGE_SHIFT)));
		emit_rorx(e, RCX, RCX, 32, true);
		inside = emit_jecxz(e);
	} else {
		inside = emit_jmp_short(e);
	}
	uint32_t miss = emit_offset(e);
	emit_call_to(e, t->in->stubs.soft);
	emit_patch8(e, inside);
	emit_shrx(e, R9, R8, REG_TABLES);
	emit_load(e, RCX, mem_sum(REG_TABLES, R9, 8, table_disp(m)), 8);
	emit_jrcxz_back(e, miss);
	emit_lea64(e, R9, mem_sum(RCX, R8, 1, 0));
	emit_mov64(e, RCX, R10);
}

/* With a breakpoint register enabled, or alignment checked, C looks at every access. */
static void lookup_in_c(struct translation *t, const struct insn *insn)
{
	emit_mov64(&t->e, R10, RCX);
	row_add(t, UNDO_RCX, insn->eip, 0);
	emit_call_to(&t->e, t->in->stubs.soft);
}

static struct host_mem lookup(struct translation *t, const struct insn *insn, const struct guest_mem *m)
{
	row_add(t, UNDO_NONE, insn->eip, row_access(m));
	if ((t->in->mode & MODE_THUNK) && m->write)
		emit_load(&t->e, R9, VCPU(completion_hva), 8);
	else if (t->in->mode & (MODE_DR7 | MODE_AC))
		lookup_in_c(t, insn);
	else
		table_lookup(t, insn, m);
	row_add(t, UNDO_NONE, insn->eip, row_access(m) | ROW_SOFT);
	return mem_at(R9, 0);
}

static struct host_mem segment_field(unsigned seg, size_t field)
{
	return vcpu_field(offsetof(struct vcpu, seg) + seg * sizeof(struct segment) + field);
}

/* Flag-free: guest ECX is parked in R10 and jecxz decides. */
void access_raise_if_carry(struct translation *t, uint32_t eip, struct host_mem sum, unsigned vector)
{
	struct emitter *e = &t->e;

	emit_mov64(e, R10, RCX);
	row_add(t, UNDO_RCX, eip, 0);
	emit_lea64(e, RCX, sum);
	emit_rorx(e, RCX, RCX, 32, true);
	uint32_t none = emit_jecxz(e);
	struct cold *c = cold_add(t, COLD_RAISE, emit_jmp(e), eip);
	c->word = vector;
	c->unpark = true;
	emit_patch8(e, none);
	emit_mov64(e, RCX, R10);
	row_add(t, UNDO_NONE, eip, 0);
}

/* The last byte's offset plus the complement of the limit carries where it is beyond: in 64 bits, so one that wraps is beyond as well. */
static void check_limit(struct translation *t, const struct insn *insn, const struct guest_mem *m)
{
	emit_load(&t->e, R9, segment_field(m->seg, offsetof(struct segment, limit)), 4);
	emit_op(&t->e, &(struct host_op){.opcode = 0xF7, .reg = 2, .rm = R9}); /* not r9d */
	access_raise_if_carry(t, insn->eip, mem_sum(R8, R9, 1, m->size - 1), m->seg == SEG_SS ? VEC_SS : VEC_GP);
}

/* Code segments are never writable, flat or not; but in real mode and V86 all segments are. */
static bool is_forbidden(const struct translation *t, const struct guest_mem *m)
{
	return m->seg == SEG_CS && m->write && MODE_IS_PROTECTED(t->in->mode);
}

/* From the offset in the segment (R8D) to the linear address, with the checks that this mode needs. */
static void add_segment(struct translation *t, const struct insn *insn, const struct guest_mem *m)
{
	unsigned seg_class = MODE_SEG(t->in->mode, m->seg);
	bool may_flush = m->flush && m->seg == SEG_CS && seg_class == MODE_SEG_GENERAL;

	if (may_flush)
		check_limit(t, insn, m);
	else if (seg_class == MODE_SEG_GENERAL || is_forbidden(t, m))
		emit_callout_word(t, insn->eip, CALLOUT_ARG(CALLOUT_check_segment, insn->length, m->write, row_size(m->size) >> ROW_SIZE_SHIFT,
							    m->seg, 0, 0, 1, 0));
	else if (seg_class == MODE_SEG_LIMIT)
		check_limit(t, insn, m);
	if (seg_class != MODE_SEG_FLAT) {
		emit_load(&t->e, R9, segment_field(m->seg, offsetof(struct segment, base)), 4);
		emit_lea(&t->e, R8, mem_sum(R8, R9, 1, 0));
	}
}

struct host_mem access_lookup_r8(struct translation *t, const struct insn *insn, const struct guest_mem *m)
{
	add_segment(t, insn, m);
	return lookup(t, insn, m);
}

struct host_mem access_emit_r8(struct translation *t, const struct insn *insn, const struct guest_mem *m)
{
	if (access_is_soft(t, insn))
		return access_lookup_r8(t, insn, m);
	add_segment(t, insn, m);
	row_add(t, UNDO_NONE, insn->eip, row_access(m));
	return mem_sum(REG_WINDOW, R8, 1, 0);
}

/* One register with a displacement that stays within the guards needs neither segment nor truncation, since upper halves are zero: GS base would
 * add two cycles to each dependent load (Sapphire Rapids: 1.97 ns against 1.40). Guest ESP is such an address already. What wraps lands in a
 * guard, and the instruction turns soft. */
#define PLAIN_DISP_MIN (-(1 << 20))
#define STACK_DISP_MAX (1 << 20)

static bool is_plain(const struct host_mem *h)
{
	if (h->index != NO_REG)
		return false;
	if (h->base == REG_GUEST_ESP)
		return h->disp >= PLAIN_DISP_MIN && h->disp <= STACK_DISP_MAX;
	return h->disp >= (h->base == NO_REG ? 0 : PLAIN_DISP_MIN);
}

/* Everything else is GS-relative with a 32-bit effective address, in user code alone: so GS base stays as it is while the kernel runs, and entering and
 * leaving it is 70 cycles shorter (Zen 3). */
static bool may_use_gs(const struct translation *t)
{
	return (t->in->mode & MODE_CPL) == 3;
}

struct host_mem access_at(const struct translation *t, struct host_mem h)
{
	h.narrow = true;
	h.gs = !access_is_low(t);
	return h;
}

static struct host_mem window_address(struct translation *t, struct host_mem h)
{
	if (!is_plain(&h))
		return access_at(t, h);
	if (h.base != REG_GUEST_ESP)
		return access_is_low(t) && h.base != NO_REG ? h : mem_sum(REG_WINDOW, h.base, 1, h.disp);
	if (h.disp >= -ESP_REACH && h.disp <= ESP_REACH)
		esp_is_near(t);
	return h;
}

/* In the window at 0 a segment's base is one more part of the address, in R9D; where there are two already, R8D is their sum. */
static struct host_mem based_address(struct translation *t, const struct insn *insn, const struct guest_mem *m, struct host_mem h)
{
	if (h.base != NO_REG && h.index != NO_REG) {
		access_ea(t, m);
		h = mem_at(R8, 0);
	}
	if (h.base != NO_REG) {
		h.index = h.base;
		h.scale = 1;
	}
	h.base = R9;
	emit_load(&t->e, R9, segment_field(m->seg, offsetof(struct segment, base)), 4);
	row_add(t, UNDO_NONE, insn->eip, row_access(m));
	return access_at(t, h);
}

bool access_is_verbatim(const struct translation *t, const struct insn *insn)
{
	const struct address *at = &insn->at;

	return access_is_low(t) && at->index == NO_REG && at->base != NO_REG && at->base != ESP && insn->disp >= PLAIN_DISP_MIN &&
	       MODE_SEG(t->in->mode, at->seg) == MODE_SEG_FLAT && !access_is_soft(t, insn);
}

struct host_mem access_emit(struct translation *t, const struct insn *insn, const struct guest_mem *m, bool in_r8)
{
	unsigned seg_class = MODE_SEG(t->in->mode, m->seg);
	bool direct = !m->a16 && !in_r8 && !is_forbidden(t, m) && !access_is_soft(t, insn);
	struct host_mem h = access_host_address(t, m);

	if (direct && seg_class == MODE_SEG_BASE && access_is_low(t) && may_use_gs(t))
		return based_address(t, insn, m, h);
	if (direct && seg_class == MODE_SEG_FLAT && (is_plain(&h) || may_use_gs(t))) {
		row_add(t, UNDO_NONE, insn->eip, row_access(m));
		return window_address(t, h);
	}
	access_ea(t, m);
	return access_emit_r8(t, insn, m);
}
