/* The allow-list: every instruction that may run, and how. What is not here raises #UD, as CPUID says it must. */
#include "translator/internal.h"

#define INNOCUOUS {.emit = emit_generic, .defers_esp = true}
#define INNOCUOUS_OF(extension) {.emit = emit_generic, .defers_esp = true, .needs = NEEDS(extension)}
#define FLUSH_OF(extension) {.emit = emit_flush, .defers_esp = true, .needs = NEEDS(extension)}
#define AS(function) {.emit = function}
/* ... where translation.esp is taken care of. */
#define WITH_ESP(function) {.emit = function, .defers_esp = true}
#define CALLOUT_TO(id) {.emit = emit_callout, .callout = CALLOUT_##id, .leaves = true}
#define CALLOUT_VIA(function, id) {.emit = function, .callout = CALLOUT_##id, .leaves = true}
#define CALLOUT_OF(extension, id) {.emit = emit_callout, .callout = CALLOUT_##id, .leaves = true, .needs = NEEDS(extension)}
#define CALLOUT_ENDS_OF(extension, id) {.emit = emit_callout, .callout = CALLOUT_##id, .leaves = true, .ends = true, .needs = NEEDS(extension)}
#define CALLOUT_ENDS(id) {.emit = emit_callout, .callout = CALLOUT_##id, .leaves = true, .ends = true}
#define CROSSING(id) {.emit = emit_crossing, .callout = CALLOUT_##id, .leaves = true, .ends = true, .needs = NEEDS(SEP)}
#define M(name) [ZYDIS_MNEMONIC_##name]

const struct rule rule_too_long = {.emit = emit_too_long, .ends = true, .leaves = true};
const struct rule rule_undefined = {.emit = emit_undefined, .ends = true, .leaves = true};

static const struct rule rules[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
	/* Innocuous: arithmetic, logic, moves. */
	M(ADC) = INNOCUOUS, M(ADD) = INNOCUOUS, M(AND) = INNOCUOUS, M(CMP) = INNOCUOUS, M(DEC) = INNOCUOUS, M(DIV) = WITH_ESP(emit_divide),
	M(IDIV) = WITH_ESP(emit_divide), M(IMUL) = INNOCUOUS, M(INC) = INNOCUOUS, M(MUL) = INNOCUOUS, M(NEG) = INNOCUOUS, M(NOT) = INNOCUOUS,
	M(OR) = INNOCUOUS, M(SBB) = INNOCUOUS, M(SUB) = INNOCUOUS, M(TEST) = INNOCUOUS, M(XOR) = INNOCUOUS,
	M(RCL) = INNOCUOUS, M(RCR) = INNOCUOUS, M(ROL) = INNOCUOUS, M(ROR) = INNOCUOUS, M(SAR) = INNOCUOUS, M(SHL) = INNOCUOUS,
	M(SHR) = INNOCUOUS, M(SHLD) = INNOCUOUS, M(SHRD) = INNOCUOUS,
	M(BSF) = INNOCUOUS, M(BSR) = INNOCUOUS, M(BSWAP) = INNOCUOUS, M(BT) = INNOCUOUS, M(BTC) = INNOCUOUS, M(BTR) = INNOCUOUS,
	M(BTS) = INNOCUOUS,
	M(CBW) = INNOCUOUS, M(CDQ) = INNOCUOUS, M(CWD) = INNOCUOUS, M(CWDE) = INNOCUOUS,
	M(CLC) = INNOCUOUS, M(CMC) = INNOCUOUS, M(STC) = INNOCUOUS, M(LAHF) = INNOCUOUS, M(SAHF) = INNOCUOUS,
	M(CMOVB) = INNOCUOUS_OF(CMOV), M(CMOVBE) = INNOCUOUS_OF(CMOV), M(CMOVL) = INNOCUOUS_OF(CMOV), M(CMOVLE) = INNOCUOUS_OF(CMOV), M(CMOVNB) = INNOCUOUS_OF(CMOV),
	M(CMOVNBE) = INNOCUOUS_OF(CMOV), M(CMOVNL) = INNOCUOUS_OF(CMOV), M(CMOVNLE) = INNOCUOUS_OF(CMOV), M(CMOVNO) = INNOCUOUS_OF(CMOV), M(CMOVNP) = INNOCUOUS_OF(CMOV),
	M(CMOVNS) = INNOCUOUS_OF(CMOV), M(CMOVNZ) = INNOCUOUS_OF(CMOV), M(CMOVO) = INNOCUOUS_OF(CMOV), M(CMOVP) = INNOCUOUS_OF(CMOV), M(CMOVS) = INNOCUOUS_OF(CMOV),
	M(CMOVZ) = INNOCUOUS_OF(CMOV),
	M(SETB) = INNOCUOUS, M(SETBE) = INNOCUOUS, M(SETL) = INNOCUOUS, M(SETLE) = INNOCUOUS, M(SETNB) = INNOCUOUS,
	M(SETNBE) = INNOCUOUS, M(SETNL) = INNOCUOUS, M(SETNLE) = INNOCUOUS, M(SETNO) = INNOCUOUS, M(SETNP) = INNOCUOUS,
	M(SETNS) = INNOCUOUS, M(SETNZ) = INNOCUOUS, M(SETO) = INNOCUOUS, M(SETP) = INNOCUOUS, M(SETS) = INNOCUOUS, M(SETZ) = INNOCUOUS,
	M(CMPXCHG) = INNOCUOUS, M(CMPXCHG8B) = INNOCUOUS_OF(CX8), M(MOV) = INNOCUOUS, M(MOVSX) = INNOCUOUS, M(MOVZX) = INNOCUOUS,
	M(XADD) = INNOCUOUS, M(XCHG) = INNOCUOUS, M(PAUSE) = INNOCUOUS,
	M(LEA) = WITH_ESP(emit_lea_insn), M(NOP) = WITH_ESP(emit_nothing), M(XLAT) = WITH_ESP(emit_xlat), M(SALC) = WITH_ESP(emit_salc),
	M(PREFETCHNTA) = WITH_ESP(emit_nothing), M(PREFETCHT0) = WITH_ESP(emit_nothing), M(PREFETCHT1) = WITH_ESP(emit_nothing), M(PREFETCHT2) = WITH_ESP(emit_nothing),
	M(ENDBR32) = WITH_ESP(emit_nothing), M(ENDBR64) = WITH_ESP(emit_nothing),
	M(PREFETCH) = WITH_ESP(emit_nothing), M(PREFETCHW) = WITH_ESP(emit_nothing), M(PREFETCHWT1) = WITH_ESP(emit_nothing),

	/* Extensions on general registers. */
	M(CRC32) = INNOCUOUS_OF(SSE42), M(POPCNT) = INNOCUOUS_OF(POPCNT), M(MOVBE) = INNOCUOUS_OF(MOVBE), M(LZCNT) = INNOCUOUS_OF(LZCNT),
	M(RDRAND) = INNOCUOUS_OF(RDRAND), M(RDSEED) = INNOCUOUS_OF(RDSEED), M(ADCX) = INNOCUOUS_OF(ADX), M(ADOX) = INNOCUOUS_OF(ADX),
	M(TZCNT) = INNOCUOUS_OF(BMI1), M(ANDN) = INNOCUOUS_OF(BMI1), M(BEXTR) = INNOCUOUS_OF(BMI1), M(BLSI) = INNOCUOUS_OF(BMI1),
	M(BLSMSK) = INNOCUOUS_OF(BMI1), M(BLSR) = INNOCUOUS_OF(BMI1),
	M(BZHI) = INNOCUOUS_OF(BMI2), M(MULX) = INNOCUOUS_OF(BMI2), M(PDEP) = INNOCUOUS_OF(BMI2), M(PEXT) = INNOCUOUS_OF(BMI2),
	M(RORX) = INNOCUOUS_OF(BMI2), M(SARX) = INNOCUOUS_OF(BMI2), M(SHLX) = INNOCUOUS_OF(BMI2), M(SHRX) = INNOCUOUS_OF(BMI2),
	M(CLFLUSH) = FLUSH_OF(CLFLUSH), M(CLFLUSHOPT) = FLUSH_OF(CLFLUSHOPT), M(CLWB) = FLUSH_OF(CLWB),

	/* Stack. */
	M(PUSH) = WITH_ESP(emit_push), M(POP) = WITH_ESP(emit_pop), M(LEAVE) = WITH_ESP(emit_leave),
	M(PUSHA) = CALLOUT_TO(pusha), M(PUSHAD) = CALLOUT_TO(pusha), M(POPA) = CALLOUT_TO(popa), M(POPAD) = CALLOUT_TO(popa),
	M(ENTER) = CALLOUT_TO(enter),

	/* Control: never copied; chained. */
	M(JMP) = WITH_ESP(emit_jump), M(CALL) = WITH_ESP(emit_call_insn), M(RET) = WITH_ESP(emit_ret),
	M(JB) = AS(emit_jcc_insn), M(JBE) = AS(emit_jcc_insn), M(JL) = AS(emit_jcc_insn), M(JLE) = AS(emit_jcc_insn),
	M(JNB) = AS(emit_jcc_insn), M(JNBE) = AS(emit_jcc_insn), M(JNL) = AS(emit_jcc_insn), M(JNLE) = AS(emit_jcc_insn),
	M(JNO) = AS(emit_jcc_insn), M(JNP) = AS(emit_jcc_insn), M(JNS) = AS(emit_jcc_insn), M(JNZ) = AS(emit_jcc_insn),
	M(JO) = AS(emit_jcc_insn), M(JP) = AS(emit_jcc_insn), M(JS) = AS(emit_jcc_insn), M(JZ) = AS(emit_jcc_insn),
	M(LOOP) = AS(emit_loop), M(LOOPE) = AS(emit_loop), M(LOOPNE) = AS(emit_loop), M(JCXZ) = AS(emit_loop), M(JECXZ) = AS(emit_loop),

	/* String instructions: ES:EDI takes no override, so always rewritten; inline where there is no repeat prefix. */
	M(MOVSB) = CALLOUT_VIA(emit_movs, movs), M(MOVSW) = CALLOUT_VIA(emit_movs, movs), M(STOSB) = CALLOUT_VIA(emit_stos, stos), M(STOSW) = CALLOUT_VIA(emit_stos, stos),
	M(STOSD) = CALLOUT_VIA(emit_stos, stos), M(LODSB) = CALLOUT_VIA(emit_lods, lods), M(LODSW) = CALLOUT_VIA(emit_lods, lods), M(LODSD) = CALLOUT_VIA(emit_lods, lods),
	M(SCASB) = CALLOUT_VIA(emit_scas, scas), M(SCASW) = CALLOUT_VIA(emit_scas, scas), M(SCASD) = CALLOUT_VIA(emit_scas, scas),
	M(CMPSB) = CALLOUT_VIA(emit_cmps, cmps), M(CMPSW) = CALLOUT_VIA(emit_cmps, cmps),
	M(INSB) = CALLOUT_TO(ins), M(INSW) = CALLOUT_TO(ins), M(INSD) = CALLOUT_TO(ins),
	M(OUTSB) = CALLOUT_TO(outs), M(OUTSW) = CALLOUT_TO(outs), M(OUTSD) = CALLOUT_TO(outs),

	/* Sensitive. */
	M(PUSHF) = CALLOUT_VIA(emit_pushf, pushf), M(PUSHFD) = CALLOUT_VIA(emit_pushf, pushf), M(POPF) = CALLOUT_VIA(emit_popf, popf),
	M(POPFD) = CALLOUT_VIA(emit_popf, popf),
	M(CLI) = CALLOUT_VIA(emit_cli, cli), M(STI) = CALLOUT_VIA(emit_sti, sti), M(CLD) = WITH_ESP(emit_cld), M(STD) = WITH_ESP(emit_std),
	M(HLT) = CALLOUT_ENDS(hlt), M(INT) = CALLOUT_ENDS(int_n), M(INT3) = CALLOUT_ENDS(int_n), M(INT1) = CALLOUT_ENDS(int_n),
	M(INTO) = {.emit = emit_into, .callout = CALLOUT_int_n, .leaves = true, .ends = true},
	M(IRET) = CALLOUT_ENDS(iret), M(IRETD) = CALLOUT_ENDS(iret),
	M(LDS) = CALLOUT_TO(load_far_ptr), M(LES) = CALLOUT_TO(load_far_ptr), M(LFS) = CALLOUT_TO(load_far_ptr),
	M(LGS) = CALLOUT_TO(load_far_ptr), M(LSS) = CALLOUT_TO(load_far_ptr),
	M(SGDT) = CALLOUT_TO(sgdt), M(SIDT) = CALLOUT_TO(sidt), M(SLDT) = CALLOUT_TO(sldt), M(STR) = CALLOUT_TO(str), M(SMSW) = CALLOUT_TO(smsw),
	M(LGDT) = CALLOUT_TO(lgdt), M(LIDT) = CALLOUT_TO(lidt), M(LLDT) = CALLOUT_TO(lldt), M(LTR) = CALLOUT_TO(ltr),
	M(LMSW) = CALLOUT_ENDS(lmsw), M(CLTS) = CALLOUT_ENDS(clts),
	M(LAR) = CALLOUT_TO(lar), M(LSL) = CALLOUT_TO(lsl), M(VERR) = CALLOUT_TO(verr), M(VERW) = CALLOUT_TO(verw), M(ARPL) = CALLOUT_TO(arpl),
	M(STAC) = CALLOUT_OF(SMAP, stac), M(CLAC) = CALLOUT_OF(SMAP, clac), M(INVLPG) = CALLOUT_VIA(emit_invlpg, invlpg), M(WBINVD) = CALLOUT_TO(wbinvd), M(INVD) = CALLOUT_TO(wbinvd),
	M(RDMSR) = CALLOUT_OF(MSR, rdmsr), M(WRMSR) = CALLOUT_ENDS_OF(MSR, wrmsr), M(RDPMC) = CALLOUT_TO(rdpmc), M(CPUID) = CALLOUT_TO(cpuid),
	M(RDTSC) = {.emit = emit_rdtsc, .callout = CALLOUT_rdtsc, .leaves = true, .needs = NEEDS(TSC)}, 
	M(SYSENTER) = CROSSING(sysenter), M(SYSEXIT) = CROSSING(sysexit),
	M(IN) = CALLOUT_TO(in), M(OUT) = CALLOUT_TO(out), M(BOUND) = CALLOUT_TO(bound),
	M(AAA) = CALLOUT_TO(bcd), M(AAS) = CALLOUT_TO(bcd), M(DAA) = CALLOUT_TO(bcd), M(DAS) = CALLOUT_TO(bcd), M(AAM) = CALLOUT_TO(bcd),
	M(AAD) = CALLOUT_TO(bcd),
	M(FXSAVE) = CALLOUT_OF(FXSR, fxsave), M(FXRSTOR) = CALLOUT_OF(FXSR, fxrstor), M(FNSAVE) = CALLOUT_OF(FPU, fnsave), M(FRSTOR) = CALLOUT_OF(FPU, frstor),
	M(FNSTENV) = CALLOUT_OF(FPU, fnstenv), M(FLDENV) = CALLOUT_OF(FPU, fldenv),
	M(MASKMOVQ) = {.emit = emit_maskmov, .needs = NEEDS(SSE)}, M(MASKMOVDQU) = {.emit = emit_maskmov, .needs = NEEDS(SSE2)},
	M(LDMXCSR) = {.emit = emit_ldmxcsr, .needs = NEEDS(SSE)},
};

static bool is_register(const ZydisDecodedOperand *op, ZydisRegisterClass c)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(op->reg.value) == c;
}

/* MOV to and from segment, control and debug registers. */
static const struct rule *mov_rule(const ZydisDecodedOperand *op)
{
	static const struct rule to_seg = CALLOUT_VIA(emit_mov_to_seg, mov_to_seg), from_seg = CALLOUT_VIA(emit_mov_from_seg, mov_from_seg),
				 from_cr = CALLOUT_TO(mov_from_cr), to_cr = CALLOUT_ENDS(mov_to_cr), from_dr = CALLOUT_TO(mov_from_dr),
				 to_dr = CALLOUT_ENDS(mov_to_dr);

	if (is_register(&op[0], ZYDIS_REGCLASS_SEGMENT))
		return op[0].reg.value == ZYDIS_REGISTER_CS ? &rule_undefined : &to_seg;
	if (is_register(&op[1], ZYDIS_REGCLASS_SEGMENT))
		return &from_seg;
	if (is_register(&op[0], ZYDIS_REGCLASS_CONTROL))
		return &to_cr;
	if (is_register(&op[1], ZYDIS_REGCLASS_CONTROL))
		return &from_cr;
	if (is_register(&op[0], ZYDIS_REGCLASS_DEBUG))
		return &to_dr;
	if (is_register(&op[1], ZYDIS_REGCLASS_DEBUG))
		return &from_dr;
	return &rules[ZYDIS_MNEMONIC_MOV];
}

/* Forms whose mnemonic alone does not tell the class. */
static const struct rule *special_form(const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op, uint32_t mode)
{
	static const struct rule call_far = CALLOUT_ENDS(call_far), jmp_far = CALLOUT_ENDS(jmp_far), ret_far = CALLOUT_ENDS(ret_far),
				 push_seg = {.emit = emit_push_seg, .callout = CALLOUT_push_seg, .defers_esp = true}, pop_seg = CALLOUT_VIA(emit_pop_seg, pop_seg), bt_mem = AS(emit_bt_mem),
				 add_esp = WITH_ESP(emit_add_esp),
				 movs = CALLOUT_VIA(emit_movs, movs), cmps = CALLOUT_VIA(emit_cmps, cmps);
	bool is_far = d->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;

	switch (d->mnemonic) {
	case ZYDIS_MNEMONIC_ADD: case ZYDIS_MNEMONIC_SUB:
		return (mode & MODE_SS32) && op[0].reg.value == ZYDIS_REGISTER_ESP && op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		       op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? &add_esp : NULL;
	case ZYDIS_MNEMONIC_MOV: return mov_rule(op);
	case ZYDIS_MNEMONIC_CALL: return is_far ? &call_far : NULL;
	case ZYDIS_MNEMONIC_JMP: return is_far ? &jmp_far : NULL;
	case ZYDIS_MNEMONIC_RET: return is_far ? &ret_far : NULL;
	case ZYDIS_MNEMONIC_PUSH: return is_register(&op[0], ZYDIS_REGCLASS_SEGMENT) ? &push_seg : NULL;
	case ZYDIS_MNEMONIC_POP: return is_register(&op[0], ZYDIS_REGCLASS_SEGMENT) ? &pop_seg : NULL;
	case ZYDIS_MNEMONIC_BT: case ZYDIS_MNEMONIC_BTC: case ZYDIS_MNEMONIC_BTR: case ZYDIS_MNEMONIC_BTS:
		return op[0].type == ZYDIS_OPERAND_TYPE_MEMORY && op[1].type == ZYDIS_OPERAND_TYPE_REGISTER ? &bt_mem : NULL;
	/* These two mnemonics name a string and an SSE2 instruction each. */
	case ZYDIS_MNEMONIC_MOVSD: return d->meta.isa_ext == ZYDIS_ISA_EXT_SSE2 ? NULL : &movs;
	case ZYDIS_MNEMONIC_CMPSD: return d->meta.isa_ext == ZYDIS_ISA_EXT_SSE2 ? NULL : &cmps;
	default: return NULL;
	}
}

static const struct rule simd_rule = INNOCUOUS;

/* BMI is VEX-encoded, which protected mode alone has (vol. 2, 2.3.1 and 2.5); of VEX and the rest there is nothing else. */
static bool encoding_allowed(const ZydisDecodedInstruction *d, uint32_t mode)
{
	bool bmi = d->meta.isa_ext == ZYDIS_ISA_EXT_BMI1 || d->meta.isa_ext == ZYDIS_ISA_EXT_BMI2;

	if (d->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		return bmi && (mode & MODE_PE) && !(mode & MODE_VM);
	return d->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
}

static bool has(uint64_t features, uint8_t needs)
{
	return !needs || (features & FEATURE_BIT(needs - 1));
}

/* What another extension brought to the x87 needs that, too. */
static bool has_simd(const ZydisDecodedInstruction *d, uint64_t features)
{
	bool x87 = d->meta.category == ZYDIS_CATEGORY_X87_ALU || d->meta.category == ZYDIS_CATEGORY_FCMOV;

	return has(features, rules_simd_find(d)) && (!x87 || has(features, NEEDS(FPU)));
}

const struct rule *rule_find(const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op, uint32_t mode, uint64_t features)
{
	const struct rule *special, *rule = &rules[d->mnemonic];

	if (!encoding_allowed(d, mode))
		return &rule_undefined;
	special = special_form(d, op, mode);
	if (special)
		return special;
	if (!rule->emit && rules_simd_find(d))
		return has_simd(d, features) ? &simd_rule : &rule_undefined;
	return rule->emit && has(features, rule->needs) ? rule : &rule_undefined;
}
