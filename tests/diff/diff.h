/* Instruction-level differential test: the same bytes and state through bt-vmm and on the real processor. */
#ifndef TESTS_DIFF_DIFF_H
#define TESTS_DIFF_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The same linear addresses in both: a page of code, filled up with INT3, and two of data. */
#define CODE_BASE 0x00410000u
#define CODE_SIZE 0x1000u
#define DATA_BASE 0x00411000u
#define DATA_SIZE 0x2000u
#define DATA_MIDDLE (DATA_BASE + DATA_SIZE / 2)
#define CODE_MAX 96u

struct diff_state {
	uint32_t gpr[8], eip, eflags;
	uint32_t vector, error;
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
	bool fpu;               /* x87, MMX or SSE state matters */
	uint32_t flags_ignored; /* where the monitor computes what the manual leaves undefined */
	struct diff_state in;
	uint8_t data[DATA_SIZE];
};

struct diff_result {
	struct diff_state out;
	uint8_t data[DATA_SIZE];
};

/* forms.c: what is tested. */
uint32_t diff_form_count(void);
const char *diff_form_name(uint32_t form);
/* Fill in a case, the same one for the same arguments. */
void diff_make(struct diff_case *c, uint32_t form, uint64_t seed);
/* The same for a sequence of instructions without memory operands, of random forms. */
void diff_make_sequence(struct diff_case *c, uint64_t seed);

/* native.c: a process that runs the bytes in compatibility mode. Start it before the monitor takes the low addresses. */
#define NATIVE_BATCH 64u
struct native;
struct native *native_start(void);
/* Run `count` cases; false if the processor or the kernel would not. */
bool native_run(struct native *n, const struct diff_case *cases, struct diff_result *results, uint32_t count);
void native_stop(struct native *n);

/* monitor.c: bt-vmm, at CPL 3, paging off. */
struct monitor;
struct monitor *monitor_create(unsigned chaos, char *why, size_t why_size);
bool monitor_run(struct monitor *m, const struct diff_case *c, struct diff_result *r);
void monitor_destroy(struct monitor *m);

/* FXSAVE images. */
void diff_pack(const struct diff_state *s, uint8_t image[512]);
void diff_unpack(struct diff_state *s, const uint8_t image[512]);

#endif
