/* The translator: guest bytes and a mode in, host code, side table and link slots out. A pure function: it knows no devices, no
 * page tables, no cache; it calls nothing, and remembers nothing that its output depends on. */
#ifndef TRANSLATOR_TRANSLATOR_H
#define TRANSLATOR_TRANSLATOR_H

#include "base/code_fix.h"
#include "base/features.h"
#include "base/side_table.h"
#include "base/types.h"
#include "base/x86.h"

/* Addresses of the runtime's stubs that emitted code jumps to; all within 2 GiB of the code. */
struct translator_stubs {
	host_pc_t chain;    /* EXIT_CHAIN: where branches of link slots go, for the cache to lead them to exit stubs */
	host_pc_t lookup;   /* the inline lookup: R8D = EIP; jumps to a pad or leaves with EXIT_LOOKUP. If it is lookup_slow, none is emitted either */
	host_pc_t lookup_slow; /* EXIT_LOOKUP at once: R8D = EIP */
	host_pc_t lookup_parked, lookup_slow_parked; /* ditto, with guest ECX parked in R10 */
	host_pc_t callout;  /* EXIT_CALLOUT */
	host_pc_t soft;     /* EXIT_SOFT: called, with guest ECX parked in R10 */
	host_pc_t sysenter, sysexit; /* ditto `callout`, for these two instructions alone; may be the same */
	host_pc_t load[SEG_COUNT]; /* ditto, for MOV to these segment registers, of which CS and SS have none: R8D = the selector */
};

struct translator_input {
	const uint8_t *bytes;  /* guest code at cs_base + eip; may span two pages, joined by the caller */
	uint32_t length;       /* bytes available; translation stops before an instruction that needs more */
	uint32_t eip;
	uint32_t cs_base;
	uint32_t cs_end;       /* CS limit + 1, or 0: 4 GiB. Branches to there and beyond raise #GP; the caller clips `length` */
	uint32_t mode;         /* MODE_* */
	uint64_t features;     /* a FEATURE_BIT for each extension that the guest has */
	uint32_t max_instructions; /* 0: nothing but a pad, and an exit to where it begins */
	bool basic_blocks;     /* end at every branch and callout; else only where control never falls through */
	/* Instructions to be emitted in soft form whatever the mode says: a bit for each byte of the page that `bytes` begins in, or NULL. */
	const uint8_t *soft_bits;
	/* Where code may be entered already: a bit for each byte of that page. A block ends before such an instruction; NULL: nowhere. */
	const uint8_t *known_bits;
	gfn_t gfn;             /* the frame of the first byte */
	/* Guest code at another linear address, up to its page's end, as it is now; or NULL. Not called if NULL itself. */
	const uint8_t *(*peek)(void *ctx, gva_t gva);
	void *peek_ctx;
	/* Of a block whose bytes span two pages, the frame of the second, which its entry compares with the exec table; else GFN_NONE. */
	gfn_t gfn2;
	bool check;            /* begin with a check that the view maps `gfn` there, for links from other pages; a pad before it leaves by an exit of its own */
	bool joins;            /* branches to within the block go there, and rows say where it may be entered (UNDO_ENTRY) */
	bool arrange;          /* move it on, `lead` bytes, where its code lies better then */
	bool pad;              /* begin with a pad, on which the inline lookup lands: it compares R8D with `eip` */
	struct translator_stubs stubs;
	uint8_t *code;         /* write here; runs at code_pc */
	host_pc_t code_pc;
	uint32_t capacity;
};

/* Why a block ended where it did. */
enum translator_end {
	END_BRANCH, END_CALLOUT, END_LIMIT, END_BYTES, END_RAISE, END_OVERFLOW,
};

#define TRANSLATOR_MAX_INSTRUCTIONS 64u
#define TRANSLATOR_MAX_ROWS 2048u
#define TRANSLATOR_MAX_SLOTS 132u
#define TRANSLATOR_MAX_FIXES 1024u
#define TRANSLATOR_MAX_BYTES 32768u /* of host code in one block: offsets are 16 bits */

struct translator_output {
	uint32_t lead;              /* the code begins so many bytes behind `code` */
	uint32_t code_length;
	uint32_t checked;           /* where links from other pages enter: behind the pad; 0 without one */
	uint32_t body;              /* where links from the same page enter: behind the check; as `checked` without one */
	uint32_t guest_length;      /* bytes of guest code that the block's meaning depends on */
	uint32_t instructions;
	enum translator_end end;
	uint32_t row_count, slot_count;
	/* Where each instruction's code begins, and where the main line ends: what is behind it is left for by jumps. */
	uint16_t starts[TRANSLATOR_MAX_INSTRUCTIONS + 1];
	struct side_row rows[TRANSLATOR_MAX_ROWS];
	struct link_slot slots[TRANSLATOR_MAX_SLOTS];
	/* What is to be changed where this code is copied for the same guest code in another page: applied to the code, and to the slots' targets. Not if it is
	 * not movable, spans two pages, or CS has a base or a limit. */
	bool movable;
	uint32_t fix_count;
	struct code_fix fixes[TRANSLATOR_MAX_FIXES];
};

/* Translate one block: straight on past conditional branches and calls, whose taken sides are exits or, with `joins`, in the block. Returns 0; -ENOSPC if `capacity` was too small (nothing usable was written); -ENODATA if not even the
 * first instruction is whole within `length` (the caller raises the fetch fault of the next page). Guest bytes that are no
 * instruction, or none that this build runs, become code that raises the exception. */
int translator_translate(const struct translator_input *in, struct translator_output *out);

/* The length of the instruction at in->bytes as Zydis sees it, or 0. */
uint32_t translator_length(const uint8_t *bytes, uint32_t length, uint32_t mode);

/* The name of an instruction form ("add", mnemonic and operand kinds), for counting the forms a guest executes. Writes at most
 * `size` bytes, always terminated. */
void translator_form(const uint8_t *bytes, uint32_t length, uint32_t mode, char *name, size_t size);

/* What an instruction is to Popek and Goldberg: control-sensitive if it changes the processor's mode, its tables or the machine's resources;
 * behaviour-sensitive if what it does or shows depends on them. */
enum translator_sensitivity { SENSITIVE_CONTROL = 1, SENSITIVE_BEHAVIOUR = 2 };
/* When a sensitive instruction traps outside ring 0, so that a monitor which runs its guest there learns of it. */
enum translator_trap {
	TRAP_NEVER, TRAP_CPL, TRAP_IOPL, TRAP_TSD, TRAP_PCE, TRAP_IDT, TRAP_ITS_MSR,
};

struct translator_insn {
	uint32_t length;
	bool runs;               /* else it raises #UD in this mode */
	unsigned sensitivity;    /* SENSITIVE_*; 0: innocuous */
	enum translator_trap trap;
	const char *mnemonic;
	const char *name;        /* the mnemonic, or what tells its sensitive forms from the others ("mov_to_seg") */
	const char *family;      /* what all its sizes are called ("popf" of "popfd"), or NULL */
	const char *why;         /* what makes it sensitive, or NULL */
	char becomes[96];        /* how it is translated, whatever the mode ("callout sgdt") */
	char reason[160];        /* why host code differs from the guest's in this mode, if it does */
};

/* The class of the instruction at `bytes`, from the rules that translate it. False if these bytes are none, or not all of one. */
bool translator_classify(const uint8_t *bytes, uint32_t length, uint32_t mode, struct translator_insn *out);
/* Is this a mnemonic, a name or a family of any instruction? */
bool translator_knows_name(const char *word, size_t length);
/* "yes", "no" or what it depends on. */
const char *translator_trap_name(enum translator_trap trap);

#endif
