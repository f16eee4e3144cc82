/* Instruction-level differential test: the same bytes and state through bt-vmm, on the real processor, and through Unicorn. */
#ifndef TESTS_DIFF_DIFF_H
#define TESTS_DIFF_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The same linear addresses in all: two pages of code, read-only and filled up with INT3, and two of data. The data shows once more across the
 * end of the address space: its first page at EDGE_BASE, its second at 0 where the host lets the processor's side map that. Nothing else is
 * mapped: an access elsewhere is a page fault, in all engines. */
#define CODE_BASE 0x00410000u
#define CODE_SIZE 0x2000u
#define DATA_BASE (CODE_BASE + CODE_SIZE)
#define DATA_SIZE 0x2000u
#define DATA_MIDDLE (DATA_BASE + DATA_SIZE / 2)
#define EDGE_BASE 0xFFFFF000u
#define CODE_MAX 240u

/* Where a case runs. Real mode and virtual-8086 mode have no more than a mebibyte, so there all of this is LOW less; on the processor it is where
 * it always is, in 16-bit segments of an LDT whose selectors are those of the mode, and whose bases are the mode's plus LOW. */
enum diff_kind { KIND_PROTECTED, KIND_REAL, KIND_V86, KIND_COUNT };
#define LOW 0x00400000u

/* As Linux has them, since they can be read. */
#define CODE3 0x23u
#define DATA3 0x2Bu
/* A data segment whose limit says which processor this is, up to so many. */
#define HOST_CPU_SELECTOR 0x78u
#define HOST_CPU_MOST 0xFFFu

/* The exceptions that FCW and MXCSR mask. */
#define X87_MASKS 0x3Fu
#define MXCSR_MASKS 0x1F80u

enum { DIFF_SEGMENTS = 6 };

struct diff_state {
	uint32_t gpr[8], eip, eflags;
	uint16_t seg[DIFF_SEGMENTS]; /* selectors, in the manual's order: ES CS SS DS FS GS */
	uint32_t vector, error, cr2;
	/* The architectural part of an FXSAVE image: control, status, tags, MXCSR, ST0-7, XMM0-7. */
	uint16_t fcw, fsw;
	uint8_t ftw;
	uint32_t mxcsr;
	uint8_t st[8][10];
	uint8_t xmm[8][16];
};

struct diff_case {
	uint8_t code[CODE_MAX];
	uint32_t length;
	uint32_t form;          /* of its first instruction */
	uint8_t kind;           /* enum diff_kind */
	bool fpu;               /* x87, MMX or SSE state matters */
	uint8_t direct;         /* bt-vmm: accesses in direct form, not soft; 2: in the window at 0 */
	bool defined;           /* no flag or value that the manual leaves undefined, other than diff_undefined_flags() tells */
	uint32_t flags_ignored; /* where the monitor computes what the manual leaves undefined */
	struct diff_state in;
	uint8_t data[DATA_SIZE];
};

struct diff_result {
	struct diff_state out;
	uint8_t data[DATA_SIZE];
};

/* segments.c: the descriptors of the LDT that a case's selectors may name. */
struct diff_segment {
	const char *what;
	uint32_t base, limit; /* in bytes, as the processor keeps it */
	uint8_t type;         /* descriptor bits 40-43: AR_CODE, AR_EXPAND_DOWN, AR_WRITABLE... */
	bool big;             /* D or B */
};
/* The selectors that a kind of cases has. */
unsigned diff_selector_count(enum diff_kind kind);
uint16_t diff_selector(enum diff_kind kind, unsigned i);
/* What a selector stands for: one of those, or a flat segment. Bases of the other modes include LOW. */
const struct diff_segment *diff_segment(uint16_t selector);
/* Of an LDT that has them all. */
#define DIFF_LDT_ENTRIES 608u
uint64_t diff_descriptor(const struct diff_segment *s);
bool diff_is_flat(const struct diff_state *s);

/* forms.c, blocks.c: what is tested. */
uint32_t diff_form_count(void);
const char *diff_form_name(uint32_t form);
/* Fill in a case, the same one for the same arguments. */
void diff_make(struct diff_case *c, uint32_t form, enum diff_kind kind, uint64_t seed);
/* Systematically: operand number `shape` of a form's, or false if it has no such. All ModRM bytes, then, of a form that is in a list of
 * representatives, all ModRM bytes with all SIB bytes, and those of 16-bit addressing; registers in the opcode; all single prefixes; and operands in memory
 * in each segment and about each boundary. */
bool diff_make_shape(struct diff_case *c, uint32_t form, uint32_t shape, enum diff_kind kind, uint64_t seed);
uint32_t diff_shape_count(uint32_t form);
/* A block of random instructions with operands in memory, branches forward and use of the stack. */
void diff_make_block(struct diff_case *c, enum diff_kind kind, uint64_t seed);
/* One or the other, of any kind, by the seed. */
void diff_make_random(struct diff_case *c, uint64_t seed);

/* case_text.c: a case as one line of text, and back. */
void diff_print_case(FILE *out, const struct diff_case *c);
bool diff_parse_case(struct diff_case *c, const char *text);
/* Is its code within the code pages? */
bool diff_is_runnable(const struct diff_case *c);

/* kinds.c: from the answer of the processor, which was in protected mode, to that of the case's mode. */
void diff_translate_answer(const struct diff_case *c, struct diff_result *r);
/* Did this instruction, where a case stopped, have to stop there in the case's mode alone? (#DF: on a stack without room for it.) */
bool diff_is_of_mode(const struct diff_case *c, const struct diff_state *s);

/* compare.c */
#define EFLAGS_COMPARED 0x254DD5u /* status flags, DF, TF, NT, RF, AC, ID */
bool diff_equal(const struct diff_case *c, const struct diff_result *ours, const struct diff_result *theirs);
/* unspecified.c: is the difference one that the manual allows? */
bool diff_is_unspecified(const struct diff_case *c, const struct diff_result *ours, const struct diff_result *theirs);
void diff_print_difference(FILE *out, const struct diff_case *c, const struct diff_result *ours, const char *who, const struct diff_result *theirs);

/* undefined.c: the status flags that the manual leaves undefined after a case of one instruction; are there such after any case of a form? */
uint32_t diff_undefined_flags(const struct diff_case *c);
bool diff_leaves_undefined(const char *form);

/* cover.c: exit codes. */
int diff_check_cover(const char *file);
int diff_check_allow_list(void);
/* cover_operands.c: of so many random cases a form, and the systematic ones. */
int diff_check_operands(uint32_t cases);

/* native.c: a process that runs the bytes in compatibility mode. Start it before the monitor takes the low addresses. */
#define NATIVE_BATCH 64u
struct native;
struct native *native_start(void);
/* NATIVE_BATCH each, shared with the process: the cases to fill in, and the results. */
struct diff_case *native_cases(struct native *n);
struct diff_result *native_results(const struct native *n);
/* Run the first `count` cases; false if the processor or the kernel would not. A result's vector may be one of these; NATIVE_OTHER_MODE, which
 * kinds.c gives: in the mode of the case something else would come of it. */
enum { NATIVE_ENDLESS = 0xF0, NATIVE_SYSTEM_CALL = 0xF1, NATIVE_NO_EXECUTE = 0xF2, NATIVE_OTHER_MODE = 0xF3 };
bool native_run(struct native *n, uint32_t count);
/* What this host allows. */
bool native_maps_zero(const struct native *n);
bool native_has_segment(const struct native *n, uint16_t selector);
void native_stop(struct native *n);

/* monitor.c: bt-vmm, at CPL 3, with paging. */
struct monitor;
struct monitor *monitor_create(unsigned chaos, bool zero_mapped, char *why, size_t why_size);
bool monitor_run(struct monitor *m, const struct diff_case *c, struct diff_result *r);
/* For the test of the test: a wrong result wherever the bytes of a case show this instruction. */
bool monitor_plant(struct monitor *m, const char *what);
void monitor_destroy(struct monitor *m);

/* minimise.c: make a case that fails smaller, as long as it goes on failing. */
typedef bool diff_fails_fn(void *ctx, const struct diff_case *c);
void diff_minimise(struct diff_case *c, diff_fails_fn *fails, void *ctx);

/* FXSAVE images. */
void diff_pack(const struct diff_state *s, uint8_t image[512]);
void diff_unpack(struct diff_state *s, const uint8_t image[512]);

#endif
