/* What real.S runs in real mode, from a program in protected mode without paging. */
#ifndef TESTS_GUEST_REAL_H
#define TESTS_GUEST_REAL_H

#include "guest.h"

#define LOW 0x8000u
#define STATE (LOW + 0x3000)

struct real_state {
	u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
	u16 ip, cs;
	u32 eflags;
	u16 ss, ds, es, fs, gs, vector, protected_fs;
	u16 idt_limit;
	u32 idt_base;
} __attribute__((packed));

extern void real_run(void);
extern u8 low_begin[], low_end[], low_vectors[];

static inline void vector_set(unsigned vector, u16 segment, u16 offset)
{
	*(volatile u32 *)(4 * vector) = (u32)segment << 16 | offset;
}

static inline void real_init(void)
{
	gdt_set(6, LOW, 0xFFFF, 0x9B, 0);
	gdt_set(7, 0, 0xFFFF, 0x93, 0);
	memcpy((void *)LOW, low_begin, (size_t)(low_end - low_begin));
	for (unsigned i = 0; i < 256; i++)
		vector_set(i, LOW >> 4, (u16)(low_vectors - low_begin + 6 * i));
}

static inline void go(struct real_state *s)
{
	memcpy((void *)STATE, s, sizeof *s);
	real_run();
	memcpy(s, (void *)STATE, sizeof *s);
}

/* Run a state's registers and segments in real mode; wide: with limits of 4 GiB. */
static inline void real_execute(struct state *s, bool wide)
{
	gdt_set(7, 0, wide ? 0xFFFFF : 0xFFFF, 0x93, wide ? 8 : 0);
	struct real_state r = {
		.eax = s->eax, .ecx = s->ecx, .edx = s->edx, .ebx = s->ebx, .esp = s->esp, .ebp = s->ebp, .esi = s->esi, .edi = s->edi,
		.ip = (u16)s->eip, .cs = (u16)s->cs, .eflags = s->eflags, .ss = (u16)s->ss, .ds = (u16)s->ds, .es = (u16)s->es, .fs = (u16)s->fs,
		.gs = (u16)s->gs, .protected_fs = 0x38, .idt_limit = 0x3FF,
	};
	go(&r);
	*s = (struct state){
		.eax = r.eax, .ecx = r.ecx, .edx = r.edx, .ebx = r.ebx, .esp = r.esp, .ebp = r.ebp, .esi = r.esi, .edi = r.edi, .eip = r.ip,
		.cs = r.cs, .eflags = r.eflags, .ss = r.ss, .ds = r.ds, .es = r.es, .fs = r.fs, .gs = r.gs, .vector = r.vector,
	};
}

#endif
