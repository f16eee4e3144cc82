/* Task switches that meet a page fault (SDM vol. 3, 7.3, steps 5 to 12): in the TSS that is left, in the one that is entered, in the GDT. The fault is one of
 * the old task, in which nothing has changed; once the page is there, the same instruction switches. */
#include "tasks.h"

enum { OLD_INDEX = BAD_INDEX + 1, OLD = OLD_INDEX << 3 };
#define OLD_PAGE 0x1810000u
#define NEW_PAGE 0x1820000u
#define GDT_PAGE 0x1830000u
#define TSS_BYTES 0x68u
#define CR0_WP 0x10000u

static struct tss *old, *new;

static u64 *live_gdt;

static void use_gdt(u64 *table)
{
	struct { u16 limit; u32 base; } __attribute__((packed)) pointer = {sizeof gdt - 1, (u32)table};
	memcpy(table, gdt, sizeof gdt);
	__asm__ volatile("lgdt %0" : : "m"(pointer));
	live_gdt = table;
}

static u32 live_access(u32 selector) { return (u32)(live_gdt[selector >> 3] >> 40) & 0xFF; }

static void pages_default(void)
{
	static const u32 bases[] = {OLD_PAGE, NEW_PAGE, GDT_PAGE};
	for (u32 i = 0; i < 6; i++) pte_set(bases[i / 2] + i % 2 * 4096, (bases[i / 2] + i % 2 * 4096) | P | W | U);
}

/* Which page is spoilt, and by which ways that is a fault. */
enum { AT_JUMP = 1 << JUMP, AT_NEST = 1 << CALL | 1 << INTERRUPT | 1 << EXCEPTION | 1 << EXTERNAL, AT_BACK = 1 << BACK, ALWAYS = AT_JUMP | AT_NEST | AT_BACK };
static const struct fault_case {
	const char *name;
	u32 old_offset, new_offset, page, entry, ways, error;
} cases[] = {
	{"old TSS: not present", 0x100, 0x100, OLD_PAGE, W, ALWAYS, 0},
	{"old TSS: read-only", 0x100, 0x100, OLD_PAGE, P, ALWAYS, P | W},
	{"old TSS: its end not present", 0xFB0, 0x100, OLD_PAGE + 4096, W, ALWAYS, 0},
	{"old TSS: its end read-only", 0xFB0, 0x100, OLD_PAGE + 4096, P, ALWAYS, P | W},
	{"old TSS: its beginning read-only", 0xFB0, 0x100, OLD_PAGE, P, ALWAYS, P | W},
	{"new TSS: not present", 0x100, 0x100, NEW_PAGE, W, ALWAYS, 0},
	{"new TSS: its beginning not present", 0x100, 0xFE0, NEW_PAGE, W, ALWAYS, 0},
	{"new TSS: its end not present", 0x100, 0xFB0, NEW_PAGE + 4096, W, ALWAYS, 0},
	{"new TSS: read-only", 0x100, 0x100, NEW_PAGE, P, AT_NEST, P | W},
	{"new TSS: its end read-only", 0x100, 0xFB0, NEW_PAGE + 4096, P, 0, 0},
	{"GDT: read-only", 0x100, 0x100, GDT_PAGE, P, ALWAYS, P | W},
};

static void tasks_place(const struct fault_case *c, enum way way)
{
	pages_default();
	old = (struct tss *)(OLD_PAGE + c->old_offset);
	new = (struct tss *)(NEW_PAGE + c->new_offset);
	prepare(body);
	task.eip = (u32)code_put(0x800, (const u8[]){CODE_DONE}, 2);
	task.cr3 = READ_CR(3);
	task.gpr[0] = MARK;
	memcpy(new, &task, TSS_BYTES);
	memset(old, 0x5A, TSS_BYTES);
	old->link = TASK;
	old->cr3 = READ_CR(3);
	gdt_set(TASK_INDEX, (u32)new, TSS_BYTES - 1, way == BACK ? 0x8B : 0x89, 0);
	gdt_set(OLD_INDEX, (u32)old, TSS_BYTES - 1, 0x89, 0);
	gdt[TSS_SELECTOR >> 3] &= ~(2ull << 40);
}

/* Is the old task as it was? */
static bool nothing_changed(const struct state *s, enum way way, const u8 *old_image, const u8 *new_image)
{
	u32 tr = 0, flags;
	__asm__ volatile("str %w0; pushfl; popl %1" : "+r"(tr), "=r"(flags));
	bool same = tr == OLD && !memcmp(old, old_image, TSS_BYTES) && !memcmp(new, new_image, TSS_BYTES);
	bool busy = live_access(OLD) == 0x8B && live_access(TASK) == (way == BACK ? 0x8B : 0x89);
	bool registers = s->eax == 0xA0A1A2A3 && s->ebp == 0xE0E1E2E3 && s->ss == DATA0 && !(s->eflags & EFLAGS_NT) == (way != BACK);
	return same && busy && registers && !(READ_CR(0) & 8);
}

/* It has left the old task and is at the end of the new one. */
static bool switched(const struct state *s, enum way way, u32 start)
{
	u32 tr = 0;
	__asm__ volatile("str %w0; clts" : "+r"(tr));
	bool left = old->eip == start + way_length(way) && old->gpr[0] == 0xA0A1A2A3 && live_access(OLD) == (nests(way) ? 0x8B : 0x89);
	return s->vector == RUN_DONE && s->eax == MARK && tr == TASK && left && live_access(TASK) == 0x8B && (!nests(way) || (new->link & 0xFFFF) == OLD);
}

static void test_case(const struct fault_case *c, enum way way, bool protect)
{
	u8 old_image[TSS_BYTES], new_image[TSS_BYTES];
	bool faults = protect && (c->ways >> way & 1), good = true;
	tasks_place(c, way);
	use_gdt((u64 *)GDT_PAGE);
	__asm__ volatile("ltr %w0" : : "r"(OLD));
	memcpy(old_image, old, TSS_BYTES);
	memcpy(new_image, new, TSS_BYTES);
	struct state start = way_to(way, TASK), s = start;
	live_gdt[GATE_INDEX] = gdt[GATE_INDEX];
	if (!protect) WRITE_CR(0, READ_CR(0) & ~CR0_WP);
	pte_set(c->page, c->page | c->entry);
	run(&s);
	pages_default();
	WRITE_CR(0, READ_CR(0) | CR0_WP);
	if (faults) {
		bool where = s.vector == 14 && (s.error & ~(c->error ? 0 : W)) == c->error && (s.cr2 & ~0xFFFu) == c->page && s.eip == start.eip + way_start(way);
		bool same = nothing_changed(&s, way, old_image, new_image), once = way_done(way);
		good = where && same && once;
		if (!good) print("# %s: trap %u error %x at +%d, CR2 %x\n", way_names[way], s.vector, s.error, s.eip - start.eip, s.cr2);
		s = start;
		way_to(way, TASK);
		run(&s);
	}
	bool once = way_done(way), done = switched(&s, way, start.eip) && once;
	if (!check(c->name, good && done)) print("# %s: trap %u error %x, then %u\n", way_names[way], s.vector, s.error, done);
	use_gdt(gdt);
	restore_task_register();
}

void guest_main(void)
{
	paging_enable();
	tss.cr3 = READ_CR(3);
	timer_init(GATE_VECTOR);
	for (u32 i = 0; i < sizeof cases / sizeof *cases; i++) {
		for (enum way way = JUMP; way < WAYS; way++) test_case(&cases[i], way, true);
		if (cases[i].entry == P) test_case(&cases[i], CALL, false);
	}
}
