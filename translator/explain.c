/* What the rules mean, in words: the class of each sensitive instruction, how it is translated and why. Beside the allow-list (rules.c) and
 * keyed by what its rows name, emitters and callouts, so that there is no second list of instructions; a test finds a row that is missing. */
#include <stdio.h>
#include <string.h>

#include "translator/internal.h"

#define CONTROL SENSITIVE_CONTROL
#define BEHAVIOUR SENSITIVE_BEHAVIOUR
#define BOTH (SENSITIVE_CONTROL | SENSITIVE_BEHAVIOUR)

/* The instructions behind the callouts. Not sensitive: a callout for other reasons. */
static const struct meaning {
	uint8_t sensitivity, trap;
	const char *why;
} meanings[CALLOUT_COUNT] = {
	[CALLOUT_pushf] = {BEHAVIOUR, TRAP_NEVER, "shows IF, IOPL and the other system flags"},
	[CALLOUT_popf] = {BOTH, TRAP_NEVER, "changes IF and IOPL, or leaves them without a word"},
	[CALLOUT_cli] = {CONTROL, TRAP_IOPL, "changes IF"},
	[CALLOUT_sti] = {CONTROL, TRAP_IOPL, "changes IF"},
	[CALLOUT_hlt] = {CONTROL, TRAP_CPL, "stops the processor"},
	[CALLOUT_int_n] = {CONTROL, TRAP_IDT, "goes through the interrupt table"},
	[CALLOUT_iret] = {BOTH, TRAP_NEVER, "loads CS and EFLAGS, with IF and IOPL or without"},
	[CALLOUT_call_far] = {BOTH, TRAP_NEVER, "loads CS, perhaps through a gate"},
	[CALLOUT_jmp_far] = {BOTH, TRAP_NEVER, "loads CS, perhaps through a gate"},
	[CALLOUT_ret_far] = {BOTH, TRAP_NEVER, "loads CS, perhaps with another privilege level"},
	[CALLOUT_mov_to_seg] = {BOTH, TRAP_NEVER, "loads a segment from the descriptor tables"},
	[CALLOUT_pop_seg] = {BOTH, TRAP_NEVER, "loads a segment from the descriptor tables"},
	[CALLOUT_load_far_ptr] = {BOTH, TRAP_NEVER, "loads a segment from the descriptor tables"},
	[CALLOUT_mov_from_seg] = {BEHAVIOUR, TRAP_NEVER, "shows a selector, CPL included"},
	[CALLOUT_push_seg] = {BEHAVIOUR, TRAP_NEVER, "shows a selector, CPL included"},
	[CALLOUT_sgdt] = {BEHAVIOUR, TRAP_NEVER, "shows GDTR"},
	[CALLOUT_sidt] = {BEHAVIOUR, TRAP_NEVER, "shows IDTR"},
	[CALLOUT_sldt] = {BEHAVIOUR, TRAP_NEVER, "shows LDTR"},
	[CALLOUT_str] = {BEHAVIOUR, TRAP_NEVER, "shows TR"},
	[CALLOUT_smsw] = {BEHAVIOUR, TRAP_NEVER, "shows CR0"},
	[CALLOUT_lgdt] = {CONTROL, TRAP_CPL, "changes GDTR"},
	[CALLOUT_lidt] = {CONTROL, TRAP_CPL, "changes IDTR"},
	[CALLOUT_lldt] = {CONTROL, TRAP_CPL, "changes LDTR"},
	[CALLOUT_ltr] = {CONTROL, TRAP_CPL, "changes TR"},
	[CALLOUT_lmsw] = {CONTROL, TRAP_CPL, "changes CR0"},
	[CALLOUT_clts] = {CONTROL, TRAP_CPL, "changes CR0.TS"},
	[CALLOUT_lar] = {BEHAVIOUR, TRAP_NEVER, "shows what a descriptor and CPL allow"},
	[CALLOUT_lsl] = {BEHAVIOUR, TRAP_NEVER, "shows what a descriptor and CPL allow"},
	[CALLOUT_verr] = {BEHAVIOUR, TRAP_NEVER, "shows what a descriptor and CPL allow"},
	[CALLOUT_verw] = {BEHAVIOUR, TRAP_NEVER, "shows what a descriptor and CPL allow"},
	[CALLOUT_arpl] = {0, TRAP_NEVER, "64-bit mode has another instruction at its opcode"},
	[CALLOUT_mov_from_cr] = {BEHAVIOUR, TRAP_CPL, "shows a control register"},
	[CALLOUT_mov_to_cr] = {CONTROL, TRAP_CPL, "changes a control register"},
	[CALLOUT_mov_from_dr] = {BEHAVIOUR, TRAP_CPL, "shows a debug register"},
	[CALLOUT_mov_to_dr] = {CONTROL, TRAP_CPL, "changes a debug register"},
	[CALLOUT_stac] = {CONTROL, TRAP_CPL, "lets the kernel reach user pages"},
	[CALLOUT_clac] = {CONTROL, TRAP_CPL, "keeps the kernel from user pages"},
	[CALLOUT_invlpg] = {CONTROL, TRAP_CPL, "changes the TLB"},
	[CALLOUT_wbinvd] = {CONTROL, TRAP_CPL, "changes the caches"},
	[CALLOUT_rdmsr] = {BEHAVIOUR, TRAP_CPL, "shows a model-specific register"},
	[CALLOUT_wrmsr] = {CONTROL, TRAP_CPL, "changes a model-specific register"},
	[CALLOUT_rdtsc] = {BEHAVIOUR, TRAP_TSD, "shows the machine's time"},
	[CALLOUT_rdpmc] = {BEHAVIOUR, TRAP_PCE, "shows a performance counter"},
	[CALLOUT_cpuid] = {BEHAVIOUR, TRAP_NEVER, "shows the processor"},
	[CALLOUT_sysenter] = {CONTROL, TRAP_ITS_MSR, "enters ring 0"},
	[CALLOUT_sysexit] = {CONTROL, TRAP_CPL, "leaves ring 0"},
	[CALLOUT_in] = {CONTROL, TRAP_IOPL, "reads a device"},
	[CALLOUT_out] = {CONTROL, TRAP_IOPL, "writes to a device"},
	[CALLOUT_ins] = {CONTROL, TRAP_IOPL, "reads a device"},
	[CALLOUT_outs] = {CONTROL, TRAP_IOPL, "writes to a device"},
	[CALLOUT_movs] = {0, TRAP_NEVER, "ES:[EDI] takes no other base; a repeated one works page by page"},
	[CALLOUT_stos] = {0, TRAP_NEVER, "ES:[EDI] takes no other base; a repeated one works page by page"},
	[CALLOUT_lods] = {0, TRAP_NEVER, "a string instruction; a repeated one works page by page"},
	[CALLOUT_scas] = {0, TRAP_NEVER, "ES:[EDI] takes no other base; a repeated one works page by page"},
	[CALLOUT_cmps] = {0, TRAP_NEVER, "ES:[EDI] takes no other base; a repeated one works page by page"},
	[CALLOUT_pusha] = {0, TRAP_NEVER, "64-bit mode has no PUSHA"},
	[CALLOUT_popa] = {0, TRAP_NEVER, "64-bit mode has no POPA"},
	[CALLOUT_enter] = {0, TRAP_NEVER, "stack: guest ESP is R13"},
	[CALLOUT_bound] = {0, TRAP_NEVER, "64-bit mode has no BOUND"},
	[CALLOUT_bcd] = {0, TRAP_NEVER, "64-bit mode has no decimal arithmetic"},
	[CALLOUT_fxsave] = {0, TRAP_NEVER, "the host's would show its own pointers and XMM8-15"},
	[CALLOUT_fxrstor] = {0, TRAP_NEVER, "the host's would load XMM8-15, too"},
	[CALLOUT_fnsave] = {0, TRAP_NEVER, "the host's would show its own pointers"},
	[CALLOUT_frstor] = {0, TRAP_NEVER, "the host's has other pointers"},
	[CALLOUT_fnstenv] = {0, TRAP_NEVER, "the host's would show its own pointers"},
	[CALLOUT_fldenv] = {0, TRAP_NEVER, "the host's has other pointers"},
};

/* What runs in user mode elsewhere, and here not at all. Privileged ones need no row. */
static const struct {
	ZydisMnemonic mnemonic;
	struct meaning meaning;
} absent[] = {
	{ZYDIS_MNEMONIC_RDTSCP, {BEHAVIOUR, TRAP_TSD, "shows the machine's time"}}, {ZYDIS_MNEMONIC_RDPRU, {BEHAVIOUR, TRAP_TSD, "shows how fast the processor is"}},
	{ZYDIS_MNEMONIC_RDPID, {BEHAVIOUR, TRAP_NEVER, "shows which processor this is"}}, {ZYDIS_MNEMONIC_XGETBV, {BEHAVIOUR, TRAP_NEVER, "shows XCR0"}},
	{ZYDIS_MNEMONIC_SYSCALL, {CONTROL, TRAP_ITS_MSR, "enters ring 0"}},
};

/* How each emitter translates. `asks`: the rule's callout says what the instruction means, and %s in `becomes` is its name. */
static const struct way {
	emit_fn *emit;
	bool asks;
	const char *becomes;
	const char *reason; /* NULL: as itself, but for its operands */
} ways[] = {
	{emit_generic, false, "as itself", NULL},
	{emit_nothing, false, "nothing", "a hint: nothing is emitted"},
	{emit_flush, false, "inline, as a load", "a flush is a load that changes nothing: its faults are what a guest can see"},
	{emit_lea_insn, false, "as itself", NULL},
	{emit_xlat, false, "inline, as a load", "[EBX + AL] as a plain load"},
	{emit_bt_mem, false, "inline", "the bit offset reaches far: address arithmetic made explicit"},
	{emit_salc, false, "inline", "64-bit mode has no SALC"},
	{emit_maskmov, false, "inline", "stores through [EDI]: the soft form always"},
	{emit_ldmxcsr, false, "inline", "the host's processor may know more bits than the guest's"},
	{emit_push, false, "inline", "stack: guest ESP is R13"},
	{emit_pop, false, "inline", "stack: guest ESP is R13"},
	{emit_leave, false, "inline", "stack: guest ESP is R13"},
	{emit_add_esp, false, "inline", "stack: guest ESP is R13; flags made apart"},
	{emit_jump, false, "chained, or looked up", "control: never copied"},
	{emit_jcc_insn, false, "chained", "control: never copied"},
	{emit_loop, false, "chained", "control: never copied"},
	{emit_call_insn, false, "chained, or looked up", "control: never copied; a host call predicts the return"},
	{emit_ret, false, "host return to a landing pad", "control: a host return to where it was predicted, checked there"},
	{emit_pushf, true, "inline; callout %s in V86 mode or with breakpoints", "sensitive: IF, DF and the system flags are virtual"},
	{emit_popf, true, "inline; callout %s if system flags change or an interrupt waits",
	 "sensitive: IF, DF and the system flags are virtual"},
	{emit_sti, true, "inline; callout %s if IOPL forbids it or an interrupt waits", "sensitive: IF is virtual"},
	{emit_divide, false, "as itself", "in soft form, as after a divide error, a zero divisor is tested for: the host's #DE would be a signal"},
	{emit_cli, true, "inline; callout %s if IOPL forbids it", "sensitive: IF is virtual"},
	{emit_invlpg, true, "nothing; callout %s if CPL is not 0", "sensitive: the TLB is virtual, and follows each store to a page table"},
	{emit_cld, false, "inline", "DF is virtual: the host's is always clear"},
	{emit_std, false, "inline", "DF is virtual: the host's is always clear"},
	{emit_lods, true, "inline; callout %s if repeated", "string: a plain access, then the step"},
	{emit_stos, true, "inline; callout %s if repeated", "string: a plain access, then the step"},
	{emit_movs, true, "inline; callout %s if repeated", "string: two plain accesses, then the step"},
	{emit_scas, true, "inline; callout %s if repeated", "string: a plain access, then the step"},
	{emit_cmps, true, "inline; callout %s if repeated", "string: two plain accesses, then the step"},
	{emit_callout, true, "callout %s", NULL}, {emit_crossing, true, "callout %s", NULL},
	{emit_mov_to_seg, true, "callout %s, mostly answered without C; inline in real and V86 mode", NULL},
	{emit_pop_seg, true, "callout %s; inline in real and V86 mode", NULL},
	{emit_mov_from_seg, true, "inline; callout %s to memory", "sensitive: selectors are virtual"},
	{emit_push_seg, true, "inline", "sensitive: selectors are virtual"},
	{emit_rdtsc, true, "as itself; callout %s if CR4.TSD forbids it", NULL},
	{emit_into, true, "inline; callout %s if OF is set", "sensitive: goes through the interrupt table"},
	{emit_undefined, false, "#UD", "no instruction that this processor has: #UD"},
	{emit_too_long, false, "#GP", "longer than 15 bytes: #GP"},
};

static const char *const callout_names[] = {
#define CALLOUT(name, what) #name,
#include "base/callout.def"
#undef CALLOUT
};

const char *translator_trap_name(enum translator_trap trap)
{
	static const char *const names[] = {
		[TRAP_NEVER] = "no", [TRAP_CPL] = "yes", [TRAP_IOPL] = "by IOPL", [TRAP_TSD] = "by CR4.TSD", [TRAP_PCE] = "by CR4.PCE",
		[TRAP_IDT] = "by the IDT", [TRAP_ITS_MSR] = "by its MSR",
	};

	return names[trap];
}

static const struct way *way_of(const struct rule *rule)
{
	for (size_t i = 0; i < ARRAY_LEN(ways); i++)
		if (ways[i].emit == rule->emit)
			return &ways[i];
	return NULL;
}

static const struct meaning *meaning_of(const struct rule *rule, ZydisMnemonic mnemonic)
{
	const struct way *way = way_of(rule);

	for (size_t i = 0; rule == &rule_undefined && i < ARRAY_LEN(absent); i++)
		if (absent[i].mnemonic == mnemonic)
			return &absent[i].meaning;
	return way && way->asks && meanings[rule->callout].why ? &meanings[rule->callout] : NULL;
}

bool rule_is_explained(const struct rule *rule)
{
	const struct way *way = way_of(rule);

	return way && (!way->asks || meanings[rule->callout].why);
}

/* Does the mnemonic alone not tell which instruction this is? */
static bool has_forms(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOV: case ZYDIS_MNEMONIC_PUSH: case ZYDIS_MNEMONIC_POP: case ZYDIS_MNEMONIC_CALL: case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_RET:
		return true;
	default:
		return false;
	}
}

/* The class depends on no mode. What no rule names is sensitive if it is privileged; to the guest it is no instruction. */
static void set_class(const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op, struct translator_insn *out)
{
	const struct rule *rule = rule_find(d, op, MODE_CS32 | MODE_SS32 | MODE_PE, FEATURES_ALL);
	const struct way *way = way_of(rule);
	const struct meaning *meaning = meaning_of(rule, d->mnemonic);

	if (meaning) {
		out->family = rule == &rule_undefined ? NULL : callout_names[rule->callout];
		out->sensitivity = meaning->sensitivity;
		out->trap = (enum translator_trap)meaning->trap;
		out->why = meaning->sensitivity ? meaning->why : NULL;
		if (meaning->sensitivity && has_forms(d->mnemonic))
			out->name = callout_names[rule->callout];
	} else if (rule == &rule_undefined && (d->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED)) {
		out->sensitivity = CONTROL;
		out->trap = TRAP_CPL;
		out->why = "is privileged";
	}
	if (way)
		snprintf(out->becomes, sizeof(out->becomes), way->becomes, way->asks ? callout_names[rule->callout] : "");
}

static void add_reason(struct translator_insn *out, const char *reason)
{
	size_t used = strlen(out->reason);

	snprintf(out->reason + used, sizeof(out->reason) - used, "%s%s", used ? "; " : "", reason);
}

static void add_memory_reason(const struct insn *insn, const struct operand *op, uint32_t mode, struct translator_insn *out)
{
	struct guest_mem m = access_of(insn, op);
	unsigned seg_class = MODE_SEG(mode, m.seg);

	if (seg_class != MODE_SEG_FLAT)
		add_reason(out, seg_class == MODE_SEG_BASE ? "a segment with a base" : seg_class == MODE_SEG_LIMIT ? "a segment with a limit" : "a segment that C checks");
	if (mode & (MODE_DR7 | MODE_AC))
		add_reason(out, "each access asks C: breakpoints or alignment checks");
	else
		add_reason(out, mode & MODE_SOFT ? "memory: soft, through the view's table" : "memory: at the guest's window");
}

/* The operands of an instruction that runs as itself. */
static void add_operand_reasons(const struct insn *insn, uint32_t mode, struct translator_insn *out)
{
	bool esp = insn->form->uses_esp, memory = false;

	for (unsigned i = 0; i < insn->form->operand_count; i++) {
		const struct operand *op = &insn->form->op[i];

		if (op->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		esp |= address_of(insn, op).base == ESP;
		if (!memory && op->is_memory)
			add_memory_reason(insn, op, mode, out);
		memory = true;
	}
	if (esp)
		add_reason(out, "guest ESP is R13");
	if (insn->form->uses_high_byte && (esp || memory))
		add_reason(out, "AH to BH go with no REX prefix");
}

static void set_reason(const struct insn *insn, uint32_t mode, struct translator_insn *out)
{
	const struct way *way = way_of(insn->rule);
	const struct meaning *meaning = meaning_of(insn->rule, insn->form->mnemonic);
	int trap = way && !way->reason && !way->asks ? fpu_trap(mode, insn) : -1;

	if (trap >= 0)
		add_reason(out, trap == VEC_NM ? "CR0 forbids it: #NM" : "CR0 or CR4 forbids it: #UD");
	else if (way && way->reason)
		add_reason(out, way->reason);
	else if (meaning && meaning->sensitivity)
		snprintf(out->reason, sizeof(out->reason), "sensitive: %s", meaning->why);
	else if (meaning)
		add_reason(out, meaning->why);
	else
		add_operand_reasons(insn, mode, out);
}

bool translator_classify(const uint8_t *bytes, uint32_t length, uint32_t mode, struct translator_insn *out)
{
	struct translator_input in = {.bytes = bytes, .length = length, .mode = mode, .features = FEATURES_ALL};
	ZydisDecodedInstruction d;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	struct insn insn;

	*out = (struct translator_insn){0};
	decode_begin(&in);
	if (!ZYAN_SUCCESS(decode_zydis(bytes, length, mode, FEATURES_ALL, &d, op)) || decode_insn(&in, 0, &insn) != 0)
		return false;
	out->length = insn.length;
	out->runs = insn.rule != &rule_undefined;
	out->mnemonic = out->name = ZydisMnemonicGetString(d.mnemonic);
	set_class(&d, op, out);
	if (!out->runs)
		snprintf(out->becomes, sizeof(out->becomes), "#UD");
	set_reason(&insn, mode, out);
	return true;
}

bool translator_knows_name(const char *word, size_t length)
{
	for (unsigned i = 0; i < ARRAY_LEN(meanings); i++)
		if (meanings[i].why && strlen(callout_names[i]) == length && !memcmp(word, callout_names[i], length))
			return true;
	for (int i = ZYDIS_MNEMONIC_INVALID + 1; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++) {
		const char *mnemonic = ZydisMnemonicGetString((ZydisMnemonic)i);
		if (strlen(mnemonic) == length && !memcmp(word, mnemonic, length))
			return true;
	}
	return false;
}
