/* What the translator's files share: a decoded instruction, the translation under way, and who emits which class. */
#ifndef TRANSLATOR_INTERNAL_H
#define TRANSLATOR_INTERNAL_H

#include <Zydis/Zydis.h>

#include "base/abi.h"
#include "base/callout.h"
#include "translator/emit.h"
#include "translator/translator.h"

struct translation;
struct insn;

/* How a class of instructions is emitted. Returns true if the block ends here. */
typedef bool emit_fn(struct translation *t, const struct insn *insn);

#define NEEDS(feature) (FEATURE_##feature + 1)
struct rule {
	emit_fn *emit;
	uint8_t callout;  /* enum callout_id, for emit_callout */
	bool ends;        /* nothing behind this instruction belongs to the block */
	bool leaves;      /* comes to C, always or at times: a basic block ends with it */
	uint8_t needs;    /* NEEDS(feature): #UD for a guest that does not have it; 0: every guest has it */
	bool defers_esp;  /* emitted code knows of translation.esp: R13 need not be brought up to date before */
};

struct address {
	uint8_t seg;          /* enum seg */
	uint8_t base, index;  /* enum gpr or NO_REG */
	uint8_t scale;
};

/* An operand, as much of Zydis' as matters: those that are written down, and memory that is not. Its numbers are the instruction's. */
struct operand {
	uint16_t size;        /* bits */
	uint8_t type, encoding, visibility, actions; /* as Zydis says */
	union {
		struct {                      /* a register */
			uint8_t class;        /* ZydisRegisterClass */
			uint8_t number;       /* which of its class */
		};
		struct {                      /* memory */
			struct address at;    /* but for what address_of() says */
			bool is_memory;       /* and no mere address */
		};
	};
};
#define FORM_OPERANDS 5u

/* Whose exception conditions an instruction has. */
enum unit { UNIT_NONE, UNIT_WAIT, UNIT_X87, UNIT_MMX, UNIT_SSE };

/* A number in an instruction. */
struct field {
	uint8_t offset : 4, size : 3; /* bytes */
	uint8_t is_signed : 1;
};

/* All that an instruction's bytes say before its displacement and its immediates (its head), from Zydis; in 32-bit code whatever address ModRM and
 * SIB name, else programs had many thousands, more than fit into a processor's caches. What runs as itself needs the first half alone, one cache line. */
struct form {
	_Alignas(64) uint64_t head; /* decode.c's key, or 0 */
	const struct rule *rule;
	uint8_t host[HOST_OP_FIXED]; /* of what runs as itself: host_op without its memory operand and immediate */
	uint8_t length;
	struct operand memory; /* the one that is written down, if has_memory */
	uint16_t mnemonic;
	struct field disp, imm[2];
	uint8_t unit;         /* enum unit */
	uint8_t isa_ext, branch_type;
	uint8_t high;         /* index in `op` of AH..DH in an encoding, or NO_OPERAND */
	uint8_t has_memory : 1, has_modrm : 1, lock : 1;
	uint8_t addressed : 1; /* where `memory` is, ModRM and SIB of the instruction itself say; the form is that of [EAX] */
	uint8_t names_segment : 1;
	uint8_t uses_esp : 1, writes_esp : 1, writes_sp : 1; /* as a general register, named or not */
	uint8_t uses_high_byte : 1;
	uint8_t verbatim : 1; /* its bytes mean the same to the host, with whatever address they name that is one register and a displacement */
	uint8_t row : 6;      /* ROW_* of `memory` */
	uint8_t opcode;
	uint8_t modrm_reg, modrm_rm;
	uint8_t operand_width, address_width; /* bits */
	uint8_t rep;          /* 0 none, 1 REP or REPE, 2 REPNE */
	uint8_t operand_count;
	struct operand op[FORM_OPERANDS];
};
#define NO_OPERAND 0xFFu
_Static_assert(offsetof(struct form, op) <= 64, "the first half is a cache line");

#define INSN_BYTES 24u
struct insn {
	const struct form *form;
	const struct rule *rule;
	uint32_t eip;
	int32_t disp;
	uint32_t imm[2];      /* extended to 32 bits; of a far pointer the offset, then the selector */
	struct address at;    /* if the form is `addressed` */
	uint8_t length;
	uint8_t bytes[INSN_BYTES]; /* as they were when it was decoded, and more */
};

/* Code that leaves the main line, emitted behind the block. */
struct cold {
	enum { COLD_CALLOUT, COLD_RAISE } kind;
	uint32_t jump[2];     /* offsets of rel32s that come here; 0 = none */
	uint32_t eip;         /* for the side table */
	uint32_t back;        /* COLD_CALLOUT: offset of what follows */
	uint32_t word;        /* COLD_CALLOUT: R9D; COLD_RAISE: the vector */
	bool unpark;          /* guest ECX is in R10 */
	bool shadow;          /* of translation.shadow_eip */
	int8_t esp;           /* translation.esp where it was left */
};
#define MAX_COLD 256u

struct translation {
	const struct translator_input *in;
	struct translator_output *out;
	struct emitter e;
	struct insn *insns;
	uint32_t count;
	struct cold cold[MAX_COLD];
	uint32_t cold_count;
	uint32_t shadow_eip;  /* the instruction behind an inline STI, or one half-way, if `shadow`: no interrupt before it */
	bool shadow;
	uint64_t branches;    /* a bit for each instruction that is one */
	uint64_t joins;       /* a bit for each instruction that a branch of this block goes to */
	int8_t join_to[TRANSLATOR_MAX_INSTRUCTIONS]; /* the one that each branches to, or -1 */
	uint16_t join_at[TRANSLATOR_MAX_INSTRUCTIONS]; /* where in the code, once it is emitted */
	struct {
		uint16_t rel_offset;
		uint8_t to;   /* index of an instruction that is not emitted yet */
		bool is_short; /* a rel8, not a rel32 */
	} forward[TRANSLATOR_MAX_SLOTS];
	uint32_t forward_count;
	bool all_long;        /* no rel8s: one did not reach */
	bool too_far;         /* ditto, just now: begin anew */
	uint32_t emitted;     /* index of the instruction being emitted */
	uint32_t near_rows;   /* esp_near was learned behind these rows */
	int32_t esp;          /* guest ESP - R13: pushes and pops in a row adjust R13 once */
	uint32_t site_jump;   /* the branch whose table's index is in R11, or 0 */
	int32_t site_slots;   /* and where that table's slots are */
	bool esp_near;        /* R13 is within ESP_REACH of the window: an access through it has shown that, or it was made anew */
};

/* decode.c: before the instructions of a block (TRANSLATOR_MAX_INSTRUCTIONS at most), whose forms then stay. */
void decode_begin(const struct translator_input *in);
/* Fill one insn. Returns 0, -ENODATA if it is not whole within the bytes, or -EILSEQ if it is no instruction. */
int decode_insn(const struct translator_input *in, uint32_t offset, struct insn *insn);
/* What Zydis says of an instruction alone. */
ZyanStatus decode_zydis(const uint8_t *bytes, uint32_t length, uint32_t mode, uint64_t features, ZydisDecodedInstruction *d, ZydisDecodedOperand *op);
/* form.c: from Zydis' words to ours. */
void form_make(struct form *form, const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op, uint32_t mode, uint64_t features);
/* rules.c: which class; never NULL. */
const struct rule *rule_find(const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op, uint32_t mode, uint64_t features);
/* rules_simd.c: what an x87, MMX or SSE instruction that runs as itself needs, as rule.needs; 0: it is none of these. */
uint8_t rules_simd_find(const ZydisDecodedInstruction *d);
extern const struct rule rule_undefined, rule_too_long;
/* explain.c: are there words for this rule? */
bool rule_is_explained(const struct rule *rule);

/* rows.c: the side table, and the tail behind the block. */
void row_add(struct translation *t, unsigned undo, uint32_t eip, unsigned access);
/* The instruction begins here, and nothing is left to do of those before it: the block may be entered, so far. */
void row_add_entry(struct translation *t, uint32_t eip);
/* Then: what it does to memory. */
void row_add_access(struct translation *t, uint32_t eip, unsigned access);
/* From here on an interrupt that would stop this instruction lets it run first. */
void rows_shadow(struct translation *t, uint32_t eip);
/* The same, with a row that says so: this one has changed something that it begins anew with. */
void row_add_shadow(struct translation *t, uint32_t eip);
/* What was known behind the first so many rows is made use of: an entry behind them would not know it. */
void rows_void_entries(struct translation *t, uint32_t first);
struct cold *cold_add(struct translation *t, int kind, uint32_t jump, uint32_t eip);
void cold_emit_all(struct translation *t);

/* access.c: one guest memory access. */
struct guest_mem {
	uint8_t seg;          /* enum seg */
	uint8_t base, index;  /* enum gpr or NO_REG */
	uint8_t scale;
	bool a16;
	int32_t disp;
	uint8_t size;         /* bytes */
	bool write;           /* or read and write */
	bool keeps;           /* a write that needs what was there: it reads too, or may store but some of the bytes */
	bool flush;           /* as a read, but code that can only run may be flushed (vol. 2, CLFLUSH) */
};
struct guest_mem access_of(const struct insn *insn, const struct operand *op);
/* form.row: of the operand in memory. */
unsigned access_row(const struct form *form);
/* Is the instruction's operand in memory, whose form is `addressed`, where the same bytes say to the host? */
bool access_is_verbatim(const struct translation *t, const struct insn *insn);
/* Where an operand in memory is. */
struct address address_of(const struct insn *insn, const struct operand *op);
/* The effective address (offset in the segment) into R8D. */
void access_ea(struct translation *t, const struct guest_mem *m);
/* The effective address in the host's registers, of a 32-bit address size. */
struct host_mem access_host_address(const struct translation *t, const struct guest_mem *m);
/* Emit what the access needs before it; the result is the operand for the host instruction. Clobbers R8-R11. `in_r8`: the linear address must be in R8D. */
struct host_mem access_emit(struct translation *t, const struct insn *insn, const struct guest_mem *m, bool in_r8);
/* Raise an exception with error code 0 where this sum of R8, R9 and a constant has a bit above its low 32. Clobbers R10. Flag-free. */
void access_raise_if_carry(struct translation *t, uint32_t eip, struct host_mem sum, unsigned vector);
/* A row's ROW_SIZE bits. */
unsigned row_size(unsigned bytes);
bool access_is_soft(const struct translation *t, const struct insn *insn);
/* Is a guest address the host's, by the window at 0 (MODE_LOW)? */
bool access_is_low(const struct translation *t);
/* An address of any form in the window, as user code may have it. */
struct host_mem access_at(const struct translation *t, struct host_mem h);
/* Like access_emit where [R8D] = linear address is computed already. */
struct host_mem access_emit_r8(struct translation *t, const struct insn *insn, const struct guest_mem *m);
/* Ditto, in soft form whatever the mode. */
struct host_mem access_lookup_r8(struct translation *t, const struct insn *insn, const struct guest_mem *m);

static inline struct host_mem vcpu_field(size_t offset) { return mem_at(REG_VCPU, (int32_t)offset); }
#define VCPU(field) vcpu_field(offsetof(struct vcpu, field))

static inline enum host_reg host_gpr(unsigned gpr) { return gpr == ESP ? REG_GUEST_ESP : (enum host_reg)gpr; }

/* AH, CH, DH or BH. */
static inline bool is_high_byte(const struct operand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->class == ZYDIS_REGCLASS_GPR8 && op->number >= 4;
}

/* Emitters of the classes. */
emit_fn emit_generic, emit_nothing, emit_flush, emit_lea_insn, emit_xlat, emit_bt_mem, emit_salc, emit_maskmov, emit_ldmxcsr; /* generic.c */
/* The vector that an x87, MMX or SSE instruction raises in this mode, or -1. */
int fpu_trap(uint32_t mode, const struct insn *insn);
emit_fn emit_push, emit_pop, emit_leave, emit_add_esp;                                                              /* stack.c */
emit_fn emit_jump, emit_jcc_insn, emit_loop, emit_call_insn, emit_ret;                                /* control.c */
emit_fn emit_divide;                                                                                 /* divide.c */
emit_fn emit_pushf, emit_popf, emit_sti;                                                              /* flags.c */
emit_fn emit_lods, emit_stos, emit_movs, emit_scas, emit_cmps;                                        /* strings.c */
emit_fn emit_callout, emit_crossing, emit_invlpg, emit_cli, emit_cld, emit_std, emit_mov_from_seg, emit_mov_to_seg, emit_pop_seg, emit_push_seg, emit_rdtsc, emit_into, emit_undefined, emit_too_long; /* sensitive.c */

/* sensitive.c: raise an exception; the block ends. */
void emit_raise(struct translation *t, const struct insn *insn, unsigned vector, bool has_error, uint32_t error);
void emit_callout_word(struct translation *t, uint32_t eip, uint32_t word);
/* Ditto, going on at another place of the block than behind the jump. */
void emit_callout_to(struct translation *t, uint32_t eip, uint32_t word, host_pc_t resume);
/* The word of the callout that the instruction's rule names; for a cold exit, where R8D and R10D mean nothing to it. */
uint32_t callout_word(const struct insn *insn);
/* rows.c: what a row says from where on only an exit to this EIP is left. */
unsigned row_exit(const struct translation *t, uint32_t eip);
/* rows.c: lea r11, [pc]. */
void emit_lea_r11(struct emitter *e, host_pc_t pc);

/* control.c: may indirect branches go on without C? */
bool looks_up_inline(const struct translation *t);
/* Leave for a known EIP. */
void emit_exit(struct translation *t, uint32_t eip);
/* Does this one call its own block? */
bool calls_itself(const struct translation *t, const struct insn *insn);
/* Which instructions the block's own branches go to: join_to, and if they are to go there, joins. */
void joins_find(struct translation *t);
/* translation.emitted is one of them: its code begins here. */
void join_here(struct translation *t);
/* The block ends: branches to what it does not hold are exits. */
void join_never(struct translation *t);
/* What the inline lookup lands on, at a block's beginning. */
void emit_entry_pad(struct translation *t);
/* The entry of a block from other pages: faults, with nothing done, if this view does not map the page to the frame that the block was made from. */
void emit_exec_check(struct translation *t);
/* The entry of a block that spans two pages: go on only if this view maps the second page to the frame it was made from. */
void emit_second_page_check(struct translation *t);

/* control.c: the length of a pad that faults, in bytes. */
unsigned trap_pad_length(const struct translation *t);
/* translator.c: does the block end before its next instruction, for lack of room? */
bool block_is_full(const struct translation *t);

/* sites.c: before an instruction: if it reads the target of a jump from a table, keep what the jump will need. */
void site_note(struct translation *t, const struct insn *insn);
/* Leave for the target in R8D by a slot of the site's own, if it has one. */
bool site_exit(struct translation *t, const struct insn *insn, bool call);

/* place.c: how many bytes further on the emitted code would lie better. */
uint32_t place_lead(const struct translation *t);

/* stack.c: the parts of push that call and push share: store at ESP - size, without changing ESP. On a 16-bit stack (SS.B = 0) all of
 * these mean SP, and translation.esp stays 0. */
struct host_mem stack_push_mem(struct translation *t, const struct insn *insn, unsigned size);
/* Is that one instruction, with no other register changed? */
bool stack_is_plain(const struct translation *t, const struct insn *insn);
/* The stack's top, `disp` bytes on. */
struct guest_mem stack_top(const struct translation *t, int32_t disp, unsigned size, bool write);
/* A push (or pop) of so many bytes changes guest ESP, now or with the next esp_flush, and the instruction is done; `next` is the one behind
 * it. Flag-free; R9 may be clobbered. */
void esp_add(struct translation *t, uint32_t next, int32_t by);
/* Ditto, by an instruction that does nothing else. */
void esp_move(struct translation *t, int32_t by);
/* Guest ESP becomes this register plus a constant (with R13, translation.esp is in it). Flag-free; R9 may be clobbered. */
void esp_set(struct translation *t, enum host_reg from, int32_t by);
/* R13 becomes guest ESP; `eip` is the instruction being emitted. Flag-free; R9 may be clobbered. */
void esp_flush(struct translation *t, uint32_t eip);
/* Guest ESP becomes this register, whose upper half is zero. */
void esp_assign(struct translation *t, enum host_reg from);
/* The instruction before `next` was done on R13D, as 32 bits: add the window. */
void esp_renew(struct translation *t, uint32_t next);
/* R13 is now known to be near the window. */
void esp_is_near(struct translation *t);
#define ESP_REACH 1024

#endif
