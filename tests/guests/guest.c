#include "guest.h"

#include <stdarg.h>

extern u8 image_end[];

u32 multiboot_magic, multiboot_info;
u64 gdt[GDT_ENTRIES];
struct tss tss;
u8 code_area[CODE_SIZE] __attribute__((aligned(4096)));
u8 user_stack[8192] __attribute__((aligned(4096)));
u32 page_directory[1024] __attribute__((aligned(4096)));

static u64 idt[256];
static u8 trap_stack[16384] __attribute__((aligned(16)));
static u32 page_tables[PAGED_MIB / 4][1024] __attribute__((aligned(4096)));
static u32 top_table[1024] __attribute__((aligned(4096))), zero_table[1024] __attribute__((aligned(4096)));
static trap_handler *handlers[256];
struct state *volatile running;
static u32 failures;
static u8 *next_frame;

extern void load_segments(void);
extern void run_return(void) __attribute__((noreturn));
extern void guest_start(u32 magic, u32 info);
extern void trap_dispatch(struct trap_frame *f);

void *memcpy(void *to, const void *from, size_t n)
{
	u8 *t = to;
	for (const u8 *f = from; n > 0; n--) *t++ = *f++;
	return to;
}

void *memset(void *to, int c, size_t n)
{
	for (u8 *t = to; n > 0; n--) *t++ = (u8)c;
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;
	for (; n > 0; n--, x++, y++) {
		if (*x != *y) return *x - *y;
	}
	return 0;
}

static void put(char c)
{
	while (!(in8(0x3FD) & 0x20)) {
	}
	out8(0x3F8, (u8)c);
}

static void put_number(u32 x, u32 base)
{
	if (x >= base) put_number(x / base, base);
	put("0123456789abcdef"[x % base]);
}

void print(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	for (; *format; format++) {
		if (*format == '\n') put('\r');
		if (*format != '%') {
			put(*format);
			continue;
		}
		switch (*++format) {
		case 'x': put_number(va_arg(args, u32), 16); break;
		case 'u':
		case 'd': put_number(va_arg(args, u32), 10); break;
		case 'c': put((char)va_arg(args, int)); break;
		case 's':
			for (const char *s = va_arg(args, const char *); *s; s++) put(*s);
			break;
		default: put(*format);
		}
	}
	va_end(args);
}

bool check_equal(const char *name, u32 got, u32 expected)
{
	if (got == expected) {
		print("ok %s\n", name);
		return true;
	}
	print("not ok %s: got 0x%x, expected 0x%x\n", name, got, expected);
	failures++;
	return false;
}

bool check(const char *name, bool holds)
{
	print("%s %s\n", holds ? "ok" : "not ok", name);
	failures += !holds;
	return holds;
}

void guest_exit(u32 value)
{
	/* The transmitter may still be shifting the last line out. */
	while (!(in8(0x3FD) & 0x40)) {
	}
	out32(0xF4, value);
	for (;;) __asm__ volatile("cli; hlt");
}

void gdt_set(unsigned index, u32 base, u32 limit, u32 access, u32 flags)
{
	u32 low = (limit & 0xFFFF) | base << 16;
	u32 high = (base >> 16 & 0xFF) | access << 8 | (limit & 0xF0000) | flags << 20 | (base & 0xFF000000);
	gdt[index] = (u64)high << 32 | low;
}

void idt_set(unsigned vector, u32 offset, u32 selector, u32 type)
{
	idt[vector] = (u64)((offset & 0xFFFF0000) | type << 8) << 32 | selector << 16 | (offset & 0xFFFF);
}

struct table_pointer {
	u16 limit;
	u32 base;
} __attribute__((packed));

static void descriptors_init(void)
{
	gdt_set(1, 0, 0xFFFFF, 0x9B, 0xC);
	gdt_set(2, 0, 0xFFFFF, 0x93, 0xC);
	gdt_set(3, 0, 0xFFFFF, 0xFB, 0xC);
	gdt_set(4, 0, 0xFFFFF, 0xF3, 0xC);
	tss.ss0 = DATA0;
	tss.esp0 = (u32)(trap_stack + sizeof trap_stack);
	tss.io_map = 0xFFFF;
	gdt_set(5, (u32)&tss, sizeof tss - 1, 0x89, 0);
	struct table_pointer gdtr = {sizeof gdt - 1, (u32)gdt}, idtr = {sizeof idt - 1, (u32)idt};
	__asm__ volatile("lgdt %0" : : "m"(gdtr));
	load_segments();
	__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
	for (unsigned i = 0; i < 256; i++) idt_set(i, (u32)(trap_stubs + 16 * i), CODE0, 0x8E);
	idt_set(3, (u32)(trap_stubs + 16 * 3), CODE0, 0xEE);
	idt_set(4, (u32)(trap_stubs + 16 * 4), CODE0, 0xEE);
	idt_set(RUN_DONE, (u32)(trap_stubs + 16 * RUN_DONE), CODE0, 0xEE);
	__asm__ volatile("lidt %0" : : "m"(idtr));
}

void guest_start(u32 magic, u32 info)
{
	multiboot_magic = magic;
	multiboot_info = info;
	next_frame = (u8 *)(((u32)image_end + 0xFFFFF) & ~0xFFFFFu);
	descriptors_init();
	/* A firmware's timer may still be running: its interrupt would be exception 8 here. */
	out8(0x21, 0xFF);
	out8(0xA1, 0xFF);
	guest_main();
	print("# done, %u failed\n", failures);
	guest_exit(failures != 0);
}

void trap_handle(unsigned vector, trap_handler *handler)
{
	handlers[vector] = handler;
}

static void save_state(struct state *s, const struct trap_frame *f)
{
	bool v86 = (f->eflags & EFLAGS_VM) != 0, from_user = v86 || (f->cs & 3) != 0;
	*s = (struct state){
		.eax = f->eax, .ecx = f->ecx, .edx = f->edx, .ebx = f->ebx, .ebp = f->ebp, .esi = f->esi, .edi = f->edi,
		.esp = from_user ? f->esp : (u32)&f->esp, .ss = from_user ? f->ss & 0xFFFF : DATA0,
		.eip = f->eip, .eflags = f->eflags, .cs = f->cs & 0xFFFF,
		.ds = (v86 ? f->v86_ds : f->ds) & 0xFFFF, .es = (v86 ? f->v86_es : f->es) & 0xFFFF,
		.fs = (v86 ? f->v86_fs : f->fs) & 0xFFFF, .gs = (v86 ? f->v86_gs : f->gs) & 0xFFFF,
		.vector = f->vector, .error = f->error, .cr2 = READ_CR(2),
	};
}

void trap_dispatch(struct trap_frame *f)
{
	if (handlers[f->vector]) {
		handlers[f->vector](f);
		return;
	}
	if (running) {
		save_state(running, f);
		running = NULL;
		run_return();
	}
	print("Bail out! trap %u error 0x%x at %x:%x cr2 %x\n", f->vector, f->error, f->cs, f->eip, READ_CR(2));
	guest_exit(2);
}

struct state state_at(const void *code, unsigned cpl)
{
	return (struct state){
		.eax = 0xA0A1A2A3, .ecx = 0xC0C1C2C3, .edx = 0xD0D1D2D3, .ebx = 0xB0B1B2B3,
		.esp = (u32)user_stack + 4096 + 2048, .ebp = 0xE0E1E2E3, .esi = 0x50515253, .edi = 0xD1D2D3D4,
		.eip = (u32)code, .eflags = 2, .cs = cpl ? CODE3 : CODE0, .ss = cpl ? DATA3 : DATA0,
		.ds = cpl ? DATA3 : DATA0, .es = cpl ? DATA3 : DATA0, .fs = cpl ? DATA3 : DATA0, .gs = cpl ? DATA3 : DATA0,
	};
}

struct state v86_state(const u8 *bytes, size_t length, u32 iopl)
{
	memcpy((void *)V86_CODE, bytes, length);
	struct state s = state_at(0, 3);
	s.eflags = EFLAGS_VM | iopl << 12 | 2;
	s.cs = V86_CODE >> 4;
	s.ds = s.es = V86_DATA >> 4;
	s.fs = s.gs = (V86_DATA >> 4) + 0x100;
	s.ss = V86_STACK >> 4;
	s.esp = V86_SP;
	return s;
}

bool run_expect(const char *name, struct state *s, u32 vector, u32 error, u32 eip_offset)
{
	u32 eip = s->eip + eip_offset;
	run(s);
	if (s->vector == vector && s->error == error && s->eip == eip) {
		print("ok %s\n", name);
		return true;
	}
	print("not ok %s: trap %u error 0x%x at 0x%x, expected %u error 0x%x at 0x%x\n", name, s->vector, s->error, s->eip, vector,
	      error, eip);
	failures++;
	return false;
}

u8 *code_put(u32 offset, const u8 *bytes, size_t length)
{
	memcpy(code_area + offset, bytes, length);
	return code_area + offset;
}

static void pic_init(u8 vector)
{
	const u8 words[] = {0x11, vector, 4, 1};
	for (unsigned i = 0; i < sizeof words; i++) out8(i ? 0x21 : 0x20, words[i]);
	out8(0x21, 0xFF);
}

static void timer_start(void)
{
	out8(0x43, 0x30);
	out8(0x40, 1);
	out8(0x40, 0);
}

static bool timer_asks(void)
{
	out8(0x20, 0x0A);
	return in8(0x20) & 1;
}

void timer_init(u8 vector)
{
	pic_init(vector);
	/* A firmware's timer may be running: after one tick of ours it does not, and what it asked for is forgotten. */
	timer_start();
	while (!timer_asks()) {
	}
	pic_init(vector);
}

void timer_once(void)
{
	timer_start();
	out8(0x21, 0xFE);
}

bool timer_was_taken(void)
{
	out8(0x20, 0x0B);
	bool in_service = in8(0x20) & 1, asks = timer_asks();
	out8(0x21, 0xFF);
	out8(0x20, 0x20);
	return in_service && !asks;
}

bool under_tcg(void)
{
	u32 a = 0x40000000, b, c, d;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	return b == 0x54474354; /* "TCGT" */
}

void warm_up(void)
{
	enum { MULTIPLIES = 20, TURNS = 1000000 };
	u32 at = 0;
	for (; at < 3 * MULTIPLIES; at += 3) code_put(at, (const u8[]){0x0F, 0xAF, 0xC0}, 3); /* imul eax, eax */
	code_put(at, (const u8[]){0x49, 0x75, (u8)-(at + 3), CODE_DONE}, 5); /* dec ecx; jnz */
	struct state s = state_at(code_area, 3);
	s.ecx = TURNS;
	run(&s);
}

u32 *pte_of(u32 va)
{
	return &page_tables[va >> 22][va >> 12 & 1023];
}

void pte_set(u32 va, u32 entry)
{
	*pte_of(va) = entry;
	invlpg(va);
}

void paging_init(void)
{
	for (u32 va = 0; va < PAGED_MIB << 20; va += 4096) *pte_of(va) = va | P | W | U;
	memset(page_directory, 0, sizeof page_directory);
	for (u32 i = 0; i < PAGED_MIB / 4; i++) page_directory[i] = (u32)page_tables[i] | P | W | U;
}

void paging_enable(void)
{
	paging_init();
	WRITE_CR(3, page_directory);
	WRITE_CR(0, READ_CR(0) | 0x80010000);
}

void map_ends(u32 frame, u32 top, u32 zero)
{
	memcpy(zero_table, page_tables[0], sizeof zero_table);
	memset(top_table, 0, sizeof top_table);
	top_table[1023] = top ? frame | top : 0;
	zero_table[0] = zero ? (frame + 4096) | zero : 0;
	page_directory[1023] = (u32)top_table | P | W | U;
	page_directory[0] = (u32)zero_table | P | W | U;
	WRITE_CR(3, page_directory);
}

void unmap_ends(void)
{
	page_directory[1023] = 0;
	page_directory[0] = (u32)page_tables[0] | P | W | U;
	WRITE_CR(3, page_directory);
}

u8 *frame_alloc(void)
{
	u8 *f = next_frame;
	next_frame += 4096;
	memset(f, 0, 4096);
	return f;
}
