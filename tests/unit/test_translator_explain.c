/* The classes of instructions, in words: complete, and right where another source knows. */
#include <stdio.h>

#include "tests/shim/test.h"
#include "translator/internal.h"
#include "translator_fixture.h"

/* Call `see` for every opcode of four maps with every prefix that may choose an instruction, and with every ModRM.reg in memory and register. */
typedef void see_fn(const uint8_t *bytes, const struct insn *insn);

static void see_bytes(const uint8_t *bytes, see_fn *see)
{
	struct translator_input in = fixture_input(bytes, 16, MODE_FLAT);
	struct insn insn;

	decode_begin(&in);
	if (decode_insn(&in, 0, &insn) == 0)
		see(bytes, &insn);
}

static void for_every_opcode(see_fn *see)
{
	static const uint8_t maps[][2] = {{0, 0}, {0x0F, 0}, {0x0F, 0x38}, {0x0F, 0x3A}}, prefixes[] = {0, 0x66, 0xF2, 0xF3};

	for (unsigned i = 0; i < 4 * 4 * 256 * 256; i++) {
		uint8_t bytes[16] = {0};
		unsigned n = 0;

		if (prefixes[i >> 16 & 3])
			bytes[n++] = prefixes[i >> 16 & 3];
		for (unsigned m = 0; m < 2 && maps[i >> 18][m]; m++)
			bytes[n++] = maps[i >> 18][m];
		bytes[n++] = (uint8_t)(i >> 8);
		bytes[n] = (uint8_t)i;
		see_bytes(bytes, see);
	}
}

static void must_be_explained(const uint8_t *bytes, const struct insn *insn)
{
	(void)bytes;
	if (!rule_is_explained(insn->rule))
		FAIL("%s: its emitter or its callout is not in translator/explain.c", ZydisMnemonicGetString(insn->form->mnemonic));
}

TEST(translator_explain, every_rule_has_words_and_a_class)
{
	for_every_opcode(must_be_explained);
	CHECK(rule_is_explained(&rule_too_long));
}

/* Zydis has its own list of what is privileged (but for LGDT, STAC and CLAC, which are: vol. 2). */
static void must_agree_on_privilege(const uint8_t *bytes, const struct insn *insn)
{
	struct translator_insn what;
	ZydisDecodedInstruction d;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

	(void)insn;
	REQUIRE(ZYAN_SUCCESS(decode_zydis(bytes, 16, MODE_FLAT, FEATURES_ALL, &d, op)));
	bool privileged = (d.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) || d.mnemonic == ZYDIS_MNEMONIC_LGDT || d.mnemonic == ZYDIS_MNEMONIC_STAC ||
		d.mnemonic == ZYDIS_MNEMONIC_CLAC;

	REQUIRE(translator_classify(bytes, 16, MODE_FLAT, &what));
	if (privileged != (what.sensitivity && what.trap == TRAP_CPL))
		FAIL("%s: Zydis says that it is %sprivileged", what.mnemonic, privileged ? "" : "not ");
}

TEST(translator_explain, what_traps_in_user_mode_is_what_zydis_calls_privileged)
{
	for_every_opcode(must_agree_on_privilege);
}

/* Nothing that runs as itself, or inline without a word on virtual state, may be sensitive; and what is sensitive says why. */
static void must_be_rewritten(const uint8_t *bytes, const struct insn *insn)
{
	struct translator_insn what;

	REQUIRE(translator_classify(bytes, 16, MODE_USER | MODE_TSD, &what));
	if (!what.sensitivity)
		return;
	if (!what.why || !*what.becomes || !*what.reason || !strcmp(what.becomes, "as itself"))
		FAIL("%s: %s; %s; %s", what.name, what.why ? what.why : "(no reason)", what.becomes, what.reason);
	if (insn->rule->emit == emit_generic)
		FAIL("%s is sensitive and runs as itself", what.name);
}

TEST(translator_explain, what_is_sensitive_is_rewritten)
{
	for_every_opcode(must_be_rewritten);
}

/* Robin and Irvine's seventeen (USENIX Security 2000), which are sensitive and do not trap; INT n but goes through the monitor's IDT. */
TEST(translator_explain, the_instructions_that_made_x86_unvirtualizable)
{
	static const struct {
		const char *name;
		uint8_t bytes[4];
		unsigned sensitivity;
	} rows[] = {
		{"sgdt", {0x0F, 0x01, 0x00}, SENSITIVE_BEHAVIOUR}, {"sidt", {0x0F, 0x01, 0x08}, SENSITIVE_BEHAVIOUR},
		{"sldt", {0x0F, 0x00, 0x00}, SENSITIVE_BEHAVIOUR}, {"smsw", {0x0F, 0x01, 0x20}, SENSITIVE_BEHAVIOUR},
		{"pushfd", {0x9C}, SENSITIVE_BEHAVIOUR}, {"popfd", {0x9D}, SENSITIVE_CONTROL | SENSITIVE_BEHAVIOUR},
		{"lar", {0x0F, 0x02, 0xC0}, SENSITIVE_BEHAVIOUR}, {"lsl", {0x0F, 0x03, 0xC0}, SENSITIVE_BEHAVIOUR},
		{"verr", {0x0F, 0x00, 0x20}, SENSITIVE_BEHAVIOUR}, {"verw", {0x0F, 0x00, 0x28}, SENSITIVE_BEHAVIOUR},
		{"pop_seg", {0x1F}, SENSITIVE_CONTROL | SENSITIVE_BEHAVIOUR}, {"push_seg", {0x1E}, SENSITIVE_BEHAVIOUR},
		{"call_far", {0xFF, 0x18}, SENSITIVE_CONTROL | SENSITIVE_BEHAVIOUR}, {"jmp_far", {0xFF, 0x28}, SENSITIVE_CONTROL | SENSITIVE_BEHAVIOUR},
		{"ret_far", {0xCB}, SENSITIVE_CONTROL | SENSITIVE_BEHAVIOUR}, {"str", {0x0F, 0x00, 0x08}, SENSITIVE_BEHAVIOUR},
		{"mov_from_seg", {0x8C, 0xD8}, SENSITIVE_BEHAVIOUR}, {"mov_to_seg", {0x8E, 0xD8}, SENSITIVE_CONTROL | SENSITIVE_BEHAVIOUR},
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct translator_insn what;
		REQUIRE(translator_classify(rows[i].bytes, 4, MODE_FLAT, &what));
		CHECK_STR(what.name, rows[i].name);
		CHECK_EQ(what.sensitivity, rows[i].sensitivity);
		CHECK_EQ(what.trap, TRAP_NEVER);
	}
}

TEST(translator_explain, what_user_mode_has_elsewhere)
{
	static const struct {
		uint8_t bytes[4];
		unsigned sensitivity;
		enum translator_trap trap;
	} rows[] = {
		{{0x0F, 0x01, 0xF9}, SENSITIVE_BEHAVIOUR, TRAP_TSD}, /* RDTSCP */
		{{0x0F, 0x01, 0xFD}, SENSITIVE_BEHAVIOUR, TRAP_TSD}, /* RDPRU */
		{{0xF3, 0x0F, 0xC7, 0xF8}, SENSITIVE_BEHAVIOUR, TRAP_NEVER}, /* RDPID */
		{{0x0F, 0x01, 0xD0}, SENSITIVE_BEHAVIOUR, TRAP_NEVER}, /* XGETBV */
		{{0x0F, 0x05}, SENSITIVE_CONTROL, TRAP_ITS_MSR}, /* SYSCALL */
		{{0x0F, 0x0B}, 0, TRAP_NEVER}, /* UD2 */
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct translator_insn what;
		REQUIRE(translator_classify(rows[i].bytes, 4, MODE_FLAT, &what));
		CHECK_STR(what.becomes, "#UD");
		CHECK_EQ(what.sensitivity, rows[i].sensitivity);
		CHECK_EQ(what.trap, rows[i].trap);
	}
}

TEST(translator_explain, the_rest)
{
	static const uint8_t add[] = {0x01, 0xD8}, interrupt[] = {0xCD, 0x80}, vmcall[] = {0x0F, 0x01, 0xC1}, none[] = {0x0F, 0xFF}, half[] = {0x0F};
	static const uint8_t load[] = {0x8B, 0x00};
	struct translator_insn what;

	REQUIRE(translator_classify(add, sizeof(add), MODE_FLAT, &what));
	CHECK_EQ(what.sensitivity, 0);
	CHECK_STR(what.becomes, "as itself");
	CHECK_STR(what.reason, "");
	CHECK_EQ(what.length, 2);
	REQUIRE(translator_classify(interrupt, sizeof(interrupt), MODE_FLAT, &what));
	CHECK_EQ(what.trap, TRAP_IDT);
	CHECK_STR(what.becomes, "callout int_n");
	REQUIRE(translator_classify(vmcall, sizeof(vmcall), MODE_FLAT, &what));
	CHECK(!what.runs);
	CHECK_STR(what.becomes, "#UD");
	REQUIRE(translator_classify(load, sizeof(load), MODE_FLAT, &what));
	CHECK_STR(what.reason, "memory: at the guest's window");
	REQUIRE(translator_classify(load, sizeof(load), MODE_FLAT | MODE_SOFT, &what));
	CHECK_STR(what.reason, "memory: soft, through the view's table");
	CHECK(!translator_classify(half, sizeof(half), MODE_FLAT, &what));
	CHECK(!translator_classify(none, 0, MODE_FLAT, &what));
	for (enum translator_trap t = TRAP_NEVER; t <= TRAP_ITS_MSR; t++) CHECK(*translator_trap_name(t));
}
