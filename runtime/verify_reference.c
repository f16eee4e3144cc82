/* The reference processor: Unicorn, in protected mode at CPL 0, in a 4 GiB window of its own onto guest RAM. It does no paging (its own checks a fetch
 * by linear address): pages are mapped into the window as the shadow's walk says, before each access. Real mode, V86 and 16-bit segments are
 * descriptors with their bases and sizes; limits, which it does not check, are looked at here. */
#include "runtime/verify_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/verify_unicorn.h"

#define MAX_MAPPED 2048u
#define MAX_RESTARTS 8u /* of one instruction */
#define PAGE_COUNT (1u << 20)
#define DESCRIPTOR_PAGE 0xFFFFF000u
#define DESCRIPTOR_BIG (1ULL << 54)
#define DESCRIPTOR_CODE (8ULL << 40)
/* Readable where nothing is mapped: Unicorn translates a branch's target before it can be stopped there. */
#define WINDOW_PROT (PROT_READ | PROT_WRITE)
#define WINDOW_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
#define NEVER (1ULL << 40) /* an end address that is never reached */

enum { MAPPED_NOT = 0, MAPPED_BLANK = 0xFFFFFFFF }; /* else gfn + 1 */

struct reference {
	uc_engine *uc;
	struct shadow *shadow;
	uint8_t *ram;
	uint64_t ram_size;
	int ram_fd;
	uint8_t *window;
	uint32_t *mapped; /* by page */
	uint32_t mapped_count;
	struct descriptor_key {
		uint32_t base;
		bool big, loaded;
	} key[SEG_COUNT];
	struct unicorn_code code;

	bool user;
	const struct verify_insn *insns;
	uint32_t count;
	uint32_t limit, iterations; /* where to stop */
	uint32_t max_rounds;        /* of a repeated instruction */
	const struct verify_insn *current;
	uint32_t accesses;          /* of it, in this round */
	uint32_t first;             /* the step that Unicorn was started at */
	uint32_t steps, rounds; /* instructions begun; rounds of the one that repeats */
	uint32_t last_eip;
	gva_t stopped_at;           /* before this instruction, if not 0: Unicorn's EIP is then a linear address */
	uint32_t restarts;
	bool stopped, cut;
	bool misaligned;
	char why[96];
	bool loading; /* a descriptor of ours is read */
	bool stale; /* Unicorn ran a translation of what was there before */
	enum reference_end end;
	bool fpu, sse;
	struct reference_state state;
	struct reference_store *stores;
	uint32_t store_count, store_room;
	struct reference_store *rewound;
	uint32_t rewound_count;
};

static void map_page(struct reference *ref, gva_t gva, uint32_t what)
{
	uint32_t page = gva >> PAGE_SHIFT;
	uint8_t *at = ref->window + ((uint64_t)page << PAGE_SHIFT);
	void *p;

	if (ref->mapped[page] == what)
		return;
	if (ref->mapped_count >= MAX_MAPPED) {
		if (mmap(ref->window, WINDOW_SIZE, WINDOW_PROT, WINDOW_FLAGS | MAP_FIXED, -1, 0) == MAP_FAILED)
			abort();
		memset(ref->mapped, 0, PAGE_COUNT * sizeof(*ref->mapped));
		ref->mapped_count = 0;
	}
	if (what == MAPPED_BLANK)
		p = mmap(at, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	else
		p = mmap(at, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, ref->ram_fd, (off_t)(what - 1) << PAGE_SHIFT);
	if (p == MAP_FAILED)
		abort();
	ref->mapped_count += ref->mapped[page] == MAPPED_NOT;
	ref->mapped[page] = what;
}

static void stop(struct reference *ref, enum reference_end end)
{
	if (!ref->stopped || end == REFERENCE_DEVICE)
		ref->end = end;
	ref->stopped = true;
	unicorn.emu_stop(ref->uc);
}

static struct reference_store *new_store(struct reference *ref, uint8_t *at, uint32_t size)
{
	if (ref->store_count == ref->store_room) {
		ref->store_room = ref->store_room ? 2 * ref->store_room : 256;
		ref->stores = realloc(ref->stores, ref->store_room * sizeof(*ref->stores));
		if (!ref->stores)
			abort();
	}
	struct reference_store *s = &ref->stores[ref->store_count++];
	*s = (struct reference_store){.size = size, .step = ref->steps ? ref->steps - 1 : 0, .at = at};
	memcpy(&s->before, at, size);
	return s;
}

/* What is stored to a blank page is nobody's, and the page may be another when stores are undone. */
static void note_store(struct reference *ref, gva_t gva, uint32_t size)
{
	uint32_t what = ref->mapped[gva >> PAGE_SHIFT];

	if (what != MAPPED_BLANK)
		new_store(ref, ref->ram + ((uint64_t)(what - 1) << PAGE_SHIFT) + (gva & PAGE_MASK), size)->gva = gva;
}

static void mark_entry(struct reference *ref, gpa_t gpa, uint32_t bits)
{
	uint32_t entry;

	memcpy(&entry, ref->ram + gpa, 4);
	if ((entry & bits) == bits)
		return;
	new_store(ref, ref->ram + gpa, 4);
	entry |= bits;
	memcpy(ref->ram + gpa, &entry, 4);
}

/* What the processor's walk leaves in the tables, should the block read them. */
static void mark_accessed(struct reference *ref, gva_t gva, unsigned access)
{
	gpa_t at[2];
	unsigned count = shadow_entries(ref->shadow, gva, access, at);

	for (unsigned i = 0; i < count; i++)
		mark_entry(ref, at[i], i + 1 == count && (access & ACCESS_WRITE) ? PTE_A | PTE_D : PTE_A);
}

/* Show the page of gva; a blank one, and the run ends, if the access would fault or is a device's. */
static void show_page(struct reference *ref, gva_t gva, unsigned access)
{
	unsigned full = access | (ref->user ? ACCESS_USER : ref->state.system_flags & EFL_AC ? ACCESS_AC : 0);
	struct shadow_answer a = shadow_peek(ref->shadow, gva, full);

	if (a.kind == SHADOW_RAM || a.kind == SHADOW_TRACED) {
		map_page(ref, gva, (uint32_t)(a.gpa >> PAGE_SHIFT) + 1);
		if (!(access & ACCESS_FETCH))
			mark_accessed(ref, gva, full);
		return;
	}
	map_page(ref, gva, MAPPED_BLANK);
	if (access & ACCESS_FETCH)
		return;
	snprintf(ref->why, sizeof(ref->why), "%s at %08x is not RAM (error %x)", access & ACCESS_WRITE ? "a store" : "a load", gva, a.error);
	stop(ref, a.kind == SHADOW_MMIO ? REFERENCE_DEVICE : REFERENCE_FAULTS);
}

static bool is_cmps(const struct verify_insn *insn)
{
	return insn->opcode == 0xA6 || insn->opcode == 0xA7;
}

/* A segment's limit is at its last byte; none of these expands down. */
static bool is_beyond_limit(struct reference *ref, gva_t gva, uint32_t size, bool write)
{
	const struct verify_insn *insn = ref->current;
	unsigned seg = write ? insn->stores : is_cmps(insn) && ref->accesses == 0 ? SEG_ES : insn->loads;

	ref->accesses++;
	return ref->state.limit[seg] != ~0u && (uint64_t)(gva - ref->state.base[seg]) + size - 1 > ref->state.limit[seg];
}

static void on_access(uc_engine *uc, uc_mem_type type, uint64_t address, int size, int64_t value, void *user)
{
	struct reference *ref = user;
	gva_t gva = (gva_t)address, last = gva + (uint32_t)size - 1;
	unsigned access = type == UC_MEM_WRITE ? ACCESS_WRITE : ACCESS_READ;

	(void)uc;
	(void)value;
	if (ref->loading)
		return;
	ref->misaligned |= (gva & 15) && ref->current->sse;
	ref->misaligned |= ref->state.aligned && (gva & ((uint32_t)size - 1));
	if (is_beyond_limit(ref, gva, (uint32_t)size, type == UC_MEM_WRITE)) {
		snprintf(ref->why, sizeof(ref->why), "%08x is beyond a segment's limit", gva);
		/* What Unicorn still stores there is nobody's. */
		map_page(ref, last, MAPPED_BLANK);
		map_page(ref, gva, MAPPED_BLANK);
		stop(ref, REFERENCE_FAULTS);
		return;
	}
	if (last < gva) {
		/* Over the end of the address space, where Unicorn's own region ends. */
		map_page(ref, gva, MAPPED_BLANK);
		stop(ref, REFERENCE_DEVICE);
		return;
	}
	show_page(ref, gva, access);
	if ((gva ^ last) & ~PAGE_MASK) {
		show_page(ref, last, access);
		/* The first page may have gone when the second came. */
		show_page(ref, gva, access);
	}
	if (type != UC_MEM_WRITE)
		return;
	uint32_t first = PAGE_SIZE - (gva & PAGE_MASK);
	if (first >= (uint32_t)size) {
		note_store(ref, gva, (uint32_t)size);
	} else {
		note_store(ref, gva, first);
		note_store(ref, gva + first, (uint32_t)size - first);
	}
}

static void on_code(uc_engine *uc, uint64_t address, uint32_t size, void *user)
{
	struct reference *ref = user;
	bool same = ref->steps > ref->first && ref->last_eip == (uint32_t)address;
	bool again = same && ref->insns[ref->steps - 1].rep;

	if (ref->stopped) {
		unicorn.emu_stop(uc);
		return;
	}
	/* A store into the code that runs makes Unicorn begin its instruction anew. */
	if (same && !again && !ref->insns[ref->steps - 1].branches) {
		snprintf(ref->why, sizeof(ref->why), "it begins the instruction again and again");
		if (++ref->restarts > MAX_RESTARTS)
			stop(ref, REFERENCE_FAULTS);
		return;
	}
	if (again && (ref->steps < ref->limit || !ref->iterations || ref->rounds < ref->iterations) && ref->rounds < ref->max_rounds) {
		ref->rounds++;
		ref->accesses = 0;
		return;
	}
	if (again && ref->rounds == ref->max_rounds)
		ref->cut = true;
	if (again || ref->steps == ref->limit) {
		ref->stopped = true;
		ref->stopped_at = (gva_t)address;
		unicorn.emu_stop(uc);
		return;
	}
	if (size != ref->insns[ref->steps].length) {
		ref->stale = ref->stopped = true;
		unicorn.emu_stop(uc);
		return;
	}
	ref->current = &ref->insns[ref->steps++];
	ref->accesses = 0;
	ref->rounds = 1;
	ref->restarts = 0;
	ref->last_eip = (uint32_t)address;
}

static void on_exception(uc_engine *uc, uint32_t vector, void *user)
{
	struct reference *ref = user;

	(void)uc;
	snprintf(ref->why, sizeof(ref->why), "exception %u", vector);
	stop(ref, REFERENCE_FAULTS);
}

/* A segment's base can be set only by loading a selector; the table for it lies in a page that is taken away again at once. */
static void load_segment(struct reference *ref, unsigned seg, uint32_t base, bool big)
{
	static const int ids[] = {UC_X86_REG_ES, UC_X86_REG_CS, UC_X86_REG_SS, UC_X86_REG_DS, UC_X86_REG_FS, UC_X86_REG_GS};
	uint64_t descriptor = 0x008F93000000FFFFULL | (uint64_t)(base & 0xFFFFFF) << 16 | (uint64_t)(base >> 24) << 56 | (big ? DESCRIPTOR_BIG : 0) |
			      (seg == SEG_CS ? DESCRIPTOR_CODE : 0);
	uc_x86_mmr table = {.base = DESCRIPTOR_PAGE, .limit = 15};
	uint16_t selector = 8;

	if (ref->key[seg].loaded && ref->key[seg].base == base && ref->key[seg].big == big)
		return;
	map_page(ref, DESCRIPTOR_PAGE, MAPPED_BLANK);
	memcpy(ref->window + DESCRIPTOR_PAGE + 8, &descriptor, 8);
	unicorn.reg_write(ref->uc, UC_X86_REG_GDTR, &table);
	ref->loading = true;
	if (unicorn.reg_write(ref->uc, ids[seg], &selector))
		abort();
	ref->loading = false;
	ref->key[seg] = (struct descriptor_key){base, big, true};
}

static int open_engine(struct reference *ref)
{
	uc_hook hook;
	uint32_t cr4 = 0x10 | CR4_OSFXSR | CR4_OSXMMEXCPT;

	if (unicorn.open(UC_ARCH_X86, UC_MODE_32, &ref->uc))
		return -ENOMEM;
	if (unicorn.mem_map_ptr(ref->uc, 0, WINDOW_SIZE, UC_PROT_ALL, ref->window) ||
	    unicorn.hook_add(ref->uc, &hook, UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, (void *)on_access, ref, 1, 0) ||
	    unicorn.hook_add(ref->uc, &hook, UC_HOOK_CODE, (void *)on_code, ref, 1, 0) ||
	    unicorn.hook_add(ref->uc, &hook, UC_HOOK_INTR, (void *)on_exception, ref, 1, 0) || unicorn.reg_write(ref->uc, UC_X86_REG_CR4, &cr4))
		return -EIO;
	/* With the B bit: Unicorn looks for it again at every load. */
	for (unsigned i = 0; i < SEG_COUNT; i++) load_segment(ref, i, 0, true);
	return 0;
}

int reference_create(struct reference **out, struct shadow *shadow, uint8_t *ram, uint64_t ram_size, int ram_fd, char *why,
		     size_t why_size)
{
	struct reference *ref = unicorn_load(why, why_size) ? calloc(1, sizeof(*ref)) : NULL;

	if (!ref)
		return -ENOMEM;
	ref->shadow = shadow;
	ref->ram = ram;
	ref->ram_size = ram_size;
	ref->ram_fd = ram_fd;
	ref->mapped = calloc(PAGE_COUNT, sizeof(*ref->mapped));
	ref->window = mmap(NULL, WINDOW_SIZE, WINDOW_PROT, WINDOW_FLAGS, -1, 0);
	if (!ref->mapped || ref->window == MAP_FAILED || open_engine(ref)) {
		snprintf(why, why_size, "cannot set up the reference processor for --verify");
		reference_destroy(ref);
		return -ENOMEM;
	}
	*out = ref;
	return 0;
}

void reference_destroy(struct reference *ref)
{
	if (!ref)
		return;
	if (ref->uc)
		unicorn.close(ref->uc);
	if (ref->window && ref->window != MAP_FAILED)
		munmap(ref->window, WINDOW_SIZE);
	free(ref->mapped);
	free(ref->stores);
	free(ref->rewound);
	free(ref);
}

static const int gpr_ids[] = {UC_X86_REG_EAX, UC_X86_REG_ECX, UC_X86_REG_EDX, UC_X86_REG_EBX,
			      UC_X86_REG_ESP, UC_X86_REG_EBP, UC_X86_REG_ESI, UC_X86_REG_EDI};

static void load_fpu(struct reference *ref, const struct reference_state *s)
{
	uint16_t tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		unsigned physical = (i + (s->fsw >> 11)) & 7;
		unicorn.reg_write(ref->uc, UC_X86_REG_FP0 + (int)physical, s->st[i]);
		tags |= (uint16_t)((s->empty >> i & 1 ? 3u : 0) << 2 * i);
	}
	unicorn.reg_write(ref->uc, UC_X86_REG_FPCW, &s->fcw);
	unicorn.reg_write(ref->uc, UC_X86_REG_FPSW, &s->fsw);
	unicorn.reg_write(ref->uc, UC_X86_REG_FPTAG, &tags);
}

static void load_state(struct reference *ref, const struct reference_state *s)
{
	uint32_t eflags = s->flags | s->system_flags | EFL_FIXED;

	for (unsigned i = 0; i < 8; i++) unicorn.reg_write(ref->uc, gpr_ids[i], &s->gpr[i]);
	unicorn.reg_write(ref->uc, UC_X86_REG_EFLAGS, &eflags);
	for (unsigned i = 0; i < SEG_COUNT; i++) load_segment(ref, i, s->base[i], !(i == SEG_CS ? s->code16 : i == SEG_SS && s->stack16));
	if (ref->sse) {
		unicorn.reg_write(ref->uc, UC_X86_REG_MXCSR, &s->mxcsr);
		for (int i = 0; i < 8; i++) unicorn.reg_write(ref->uc, UC_X86_REG_XMM0 + i, s->xmm[i]);
	}
	if (ref->fpu)
		load_fpu(ref, s);
}

static void store_fpu(struct reference *ref)
{
	struct reference_state *s = &ref->state;
	uint16_t tags;

	unicorn.reg_read(ref->uc, UC_X86_REG_FPCW, &s->fcw);
	unicorn.reg_read(ref->uc, UC_X86_REG_FPSW, &s->fsw);
	unicorn.reg_read(ref->uc, UC_X86_REG_FPTAG, &tags);
	s->empty = 0;
	for (unsigned i = 0; i < 8; i++) {
		unicorn.reg_read(ref->uc, UC_X86_REG_FP0 + (int)((i + (s->fsw >> 11)) & 7), s->st[i]);
		s->empty |= (uint8_t)((tags >> 2 * i & 3) == 3) << i;
	}
}

static void store_state(struct reference *ref)
{
	struct reference_state *s = &ref->state;
	uint32_t eflags;

	for (unsigned i = 0; i < 8; i++) unicorn.reg_read(ref->uc, gpr_ids[i], &s->gpr[i]);
	unicorn.reg_read(ref->uc, UC_X86_REG_EIP, &s->eip);
	unicorn.reg_read(ref->uc, UC_X86_REG_EFLAGS, &eflags);
	s->flags = eflags & (EFL_ARITH | EFL_DF);
	if (ref->stopped_at)
		s->eip = ref->stopped_at - s->base[SEG_CS];
	if (ref->sse)
		for (int i = 0; i < 8; i++) unicorn.reg_read(ref->uc, UC_X86_REG_XMM0 + i, s->xmm[i]);
	if (ref->fpu)
		store_fpu(ref);
}

static void undo_stores(struct reference *ref, gva_t code, uint32_t code_length)
{
	bool code_changed = false;

	for (uint32_t i = 0; i < ref->store_count; i++) {
		struct reference_store *s = &ref->stores[i];
		memcpy(&s->after, s->at, s->size);
		code_changed |= reference_stores_over(s, code, code_length);
	}
	for (uint32_t i = ref->store_count; i-- > 0;) {
		memcpy(ref->stores[i].at, &ref->stores[i].before, ref->stores[i].size);
	}
	if (code_changed)
		unicorn_code_changed(&ref->code, code, code_length);
}

static void begin(struct reference *ref, const struct reference_state *start, const struct verify_insn *insns, uint32_t count,
		  uint32_t iterations)
{
	ref->user = start->user;
	ref->fpu = ref->sse = false;
	for (uint32_t i = 0; i < count; i++) {
		ref->fpu |= insns[i].fpu;
		ref->sse |= insns[i].sse;
	}
	ref->insns = ref->current = insns;
	ref->count = count;
	ref->iterations = iterations;
	ref->steps = ref->rounds = 0;
	ref->stopped = ref->cut = ref->misaligned = false;
	ref->end = REFERENCE_LIMIT;
	ref->store_count = 0;
	ref->state = *start;
	load_state(ref, start);
}

/* Before an instruction that it may not run Unicorn's translation must end, too: it does not survive that of all. */
static uint64_t end_address(const struct reference *ref, uint32_t limit)
{
	return limit < ref->count && ref->insns[limit].stops ? (uint64_t)(gva_t)(ref->state.base[SEG_CS] + ref->insns[limit].eip) : NEVER;
}

/* Unicorn may also return of its own between two instructions. */
static bool is_behind_last(const struct reference *ref)
{
	const struct verify_insn *last = &ref->insns[ref->limit - 1];
	uint32_t eip;

	unicorn.reg_read(ref->uc, UC_X86_REG_EIP, &eip);
	return ref->steps == ref->limit && eip == last->eip + last->length;
}

static uc_err start_engine(struct reference *ref, uint32_t eip, uint64_t until)
{
	uc_err error = unicorn.emu_start(ref->uc, eip, until, 0, 0);

	if (ref->stopped || error != UC_ERR_OK)
		return error;
	if (until != NEVER && ref->steps == ref->limit) {
		ref->stopped = true;
		ref->stopped_at = (gva_t)until;
	}
	ref->stopped |= is_behind_last(ref);
	return error;
}

static void run_engine(struct reference *ref, uint32_t limit)
{
	uint32_t eip = ref->insns[ref->steps].eip, end = ref->insns[limit - 1].eip + ref->insns[limit - 1].length;
	gva_t base = ref->state.base[SEG_CS], from = base + eip;

	/* A translation of Unicorn's may run on into the page behind. */
	show_page(ref, from, ACCESS_FETCH);
	show_page(ref, from + PAGE_SIZE, ACCESS_FETCH);
	show_page(ref, from, ACCESS_FETCH);
	/* What ran on from before an emulated instruction has made translations that nobody looked at. */
	unicorn_check_code(ref->uc, &ref->code, ref->window + from, from, end - eip, !ref->steps);
	ref->first = ref->steps;
	ref->limit = limit;
	ref->stale = false;
	ref->stopped_at = 0;
	uc_err error = start_engine(ref, eip, end_address(ref, limit));
	if (ref->stale) {
		eip = ref->insns[ref->steps].eip;
		ref->stopped = false;
		ref->first = ref->steps;
		unicorn_forget_code(ref->uc, (uint64_t)(base + eip), (uint64_t)(base + eip) + (end - eip));
		error = start_engine(ref, eip, end_address(ref, limit));
	}
	/* It came back by itself: an instruction that Unicorn does not run. */
	if (!ref->stopped) {
		snprintf(ref->why, sizeof(ref->why), "it came back by itself (%s)", unicorn.strerror(error));
		/* In the middle of a repeated instruction, or behind the end of the address space, that says nothing about the instruction. */
		bool beyond = error == UC_ERR_READ_UNMAPPED || error == UC_ERR_WRITE_UNMAPPED;
		ref->end = beyond || (ref->steps > ref->first && ref->insns[ref->steps - 1].rep) ? REFERENCE_DEVICE : REFERENCE_FAULTS;
	}
	/* The instruction that faults is not a step done. */
	if (ref->end != REFERENCE_LIMIT && ref->steps > ref->first)
		ref->steps--;
	ref->stopped = false;
}

static uint32_t stack_mask(const struct reference *ref)
{
	return ref->state.stack16 ? 0xFFFF : ~0u;
}

/* A word on the stack, `by` bytes from where it is; false if it is not to be had. ESP goes there with `then` added. */
static bool stack_access(struct reference *ref, uc_mem_type type, uint32_t by, uint32_t then, uint32_t *value, uint32_t size)
{
	uint32_t esp, mask = stack_mask(ref);

	unicorn.reg_read(ref->uc, UC_X86_REG_ESP, &esp);
	gva_t gva = ref->state.base[SEG_SS] + ((esp + by) & mask);
	on_access(ref->uc, type, gva, (int)size, 0, ref);
	ref->stopped = false;
	if (ref->end != REFERENCE_LIMIT)
		return false;
	if (type == UC_MEM_WRITE)
		memcpy(ref->window + gva, value, size);
	else
		memcpy(value, ref->window + gva, size);
	esp = (esp & ~mask) | ((esp + by + then) & mask);
	unicorn.reg_write(ref->uc, UC_X86_REG_ESP, &esp);
	return true;
}

static unsigned segment_of(const struct verify_insn *insn)
{
	switch (insn->opcode) {
	case 0x8C: case 0x8E: return insn->modrm >> 3 & 7;
	case 0x1A0: case 0x1A1: return SEG_FS;
	case 0x1A8: case 0x1A9: return SEG_GS;
	default: return insn->opcode >> 3;
	}
}

static bool pushes_selector(const struct verify_insn *insn)
{
	return insn->opcode == 0x1A0 || insn->opcode == 0x1A8 || (insn->opcode < 0x20 && !(insn->opcode & 1));
}

/* The selectors are the guest's. Those that are loaded are real mode's and V86's. */
static void emulate(struct reference *ref)
{
	const struct verify_insn *insn = &ref->insns[ref->steps];
	unsigned seg = segment_of(insn), reg = insn->modrm & 7;
	uint32_t value = 0, eip = insn->eip + insn->length, size = insn->word ? 2 : 4;

	ref->current = insn;
	ref->accesses = 0;
	if (insn->opcode == 0x8C || insn->opcode == 0x8E)
		unicorn.reg_read(ref->uc, gpr_ids[reg], &value);
	if (insn->opcode == 0x8C) {
		value = (insn->word ? value & 0xFFFF0000 : 0) | ref->state.selector[seg];
		unicorn.reg_write(ref->uc, gpr_ids[reg], &value);
	} else if (pushes_selector(insn)) {
		value = ref->state.selector[seg];
		if (!stack_access(ref, UC_MEM_WRITE, 0u - size, 0, &value, size))
			return;
	} else {
		if (insn->opcode != 0x8E && !stack_access(ref, UC_MEM_READ, 0, size, &value, size))
			return;
		ref->state.selector[seg] = (uint16_t)value;
		ref->state.base[seg] = (value & 0xFFFF) << 4;
		load_segment(ref, seg, ref->state.base[seg], true);
	}
	unicorn.reg_write(ref->uc, UC_X86_REG_EIP, &eip);
	ref->stopped_at = 0;
	ref->steps++;
}

enum reference_end reference_run(struct reference *ref, const struct reference_state *start, const struct verify_insn *insns,
				 uint32_t count, uint32_t steps, uint32_t iterations)
{
	begin(ref, start, insns, count, iterations);
	while (ref->steps < steps && ref->end == REFERENCE_LIMIT && !ref->cut) {
		uint32_t limit = ref->steps;
		while (limit < steps && !insns[limit].emulated) limit++;
		if (limit == ref->steps)
			emulate(ref);
		else
			run_engine(ref, limit);
	}
	if (steps)
		store_state(ref);
	undo_stores(ref, start->base[SEG_CS] + start->eip, insns[count - 1].eip + insns[count - 1].length - start->eip);
	return ref->end;
}

const struct reference_state *reference_state(const struct reference *ref)
{
	return &ref->state;
}

uint32_t reference_steps(const struct reference *ref)
{
	return ref->steps;
}

uint32_t reference_rounds(const struct reference *ref)
{
	return ref->rounds ? ref->rounds - 1 : 0;
}

const char *reference_why(const struct reference *ref)
{
	return ref->why;
}

bool reference_was_cut(const struct reference *ref)
{
	return ref->cut;
}

bool reference_was_misaligned(const struct reference *ref)
{
	return ref->misaligned;
}

void reference_set_rounds(struct reference *ref, uint32_t rounds)
{
	ref->max_rounds = rounds;
}

struct reference_store *reference_stores(const struct reference *ref, uint32_t *count)
{
	*count = ref->store_count;
	return ref->stores;
}

void reference_forget(struct reference *ref)
{
	free(ref->rewound);
	ref->rewound = NULL;
	ref->rewound_count = 0;
}

void reference_rewind(struct reference *ref)
{
	if (!ref->rewound) {
		ref->rewound = ref->stores;
		ref->rewound_count = ref->store_count;
		ref->stores = NULL;
		ref->store_count = ref->store_room = 0;
		for (uint32_t i = 0; i < ref->rewound_count; i++) {
			struct reference_store *s = &ref->rewound[i];
			memcpy(&s->ours, s->at, s->size);
		}
	}
	for (uint32_t i = ref->rewound_count; i-- > 0;) {
		memcpy(ref->rewound[i].at, &ref->rewound[i].before, ref->rewound[i].size);
	}
}

void reference_forward(struct reference *ref)
{
	for (uint32_t i = 0; i < ref->rewound_count; i++) {
		memcpy(ref->rewound[i].at, &ref->rewound[i].ours, ref->rewound[i].size);
	}
}

uint32_t reference_read_code(struct reference *ref, gva_t gva, uint8_t *to, uint32_t size, bool user)
{
	uint32_t done = 0;

	while (done < size) {
		struct shadow_answer a = shadow_peek(ref->shadow, gva + done, ACCESS_FETCH | (user ? ACCESS_USER : 0));
		uint32_t part = PAGE_SIZE - ((gva + done) & PAGE_MASK);
		if (a.kind != SHADOW_RAM && a.kind != SHADOW_TRACED)
			break;
		part = part < size - done ? part : size - done;
		memcpy(to + done, ref->ram + a.gpa, part);
		done += part;
	}
	return done;
}
