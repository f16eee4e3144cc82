/* Code that never ran before, and runs once: pages of it, made of what compilers emit, at addresses and in memory that are fresh each time. Only the
   running is on the clock. */
#include "user.h"

enum { PAGES = 64, SIZE = PAGES * USER_PAGE, LONGEST = 24, INSTRUCTIONS = 94061 };

const char program_name[] = "cold";
const unsigned program_repetitions = 10;
const uint32_t program_checksum = 1522237007u;
/* Instructions that run, counted as they are made. */
const uint32_t program_operations = INSTRUCTIONS;

enum { ESP = 4, ESI = 6 };

static uint8_t template[SIZE];
static uint32_t data[32];
static uint8_t *end;
static uint32_t state, count;

static uint32_t choose(uint32_t limit)
{
	state = next_random(state);
	return (state >> 16) % limit;
}

static void put(uint32_t byte)
{
	*end++ = (uint8_t)byte;
}

/* EAX, ECX, EDX, EBX or EDI. */
static uint32_t choose_register(void)
{
	static const uint8_t registers[] = { 0, 1, 2, 3, 7 };
	return registers[choose(5)];
}

static void put_modrm(uint32_t mode, uint32_t reg, uint32_t rm)
{
	put(mode << 6 | reg << 3 | rm);
}

static void put_registers(uint32_t opcode)
{
	uint32_t from = choose_register(), to = choose_register();
	put(opcode);
	put_modrm(3, from, to);
	count++;
}

/* A register and a word of `data`, which ESI points to. */
static void put_memory(uint32_t opcode)
{
	put(opcode);
	put_modrm(1, choose_register(), ESI);
	put(choose(32) * 4);
	count++;
}

static void put_arithmetic(void)
{
	static const uint8_t opcodes[] = { 0x01, 0x09, 0x21, 0x29, 0x31, 0x03, 0x33, 0x89 };
	put_registers(opcodes[choose(sizeof opcodes)]);
}

static void put_immediate(uint32_t opcode, uint32_t operation)
{
	put(opcode);
	put_modrm(3, operation, choose_register());
	put(choose(31) + 1);
	count++;
}

static void put_lea(void)
{
	put(0x8D);
	put_modrm(1, choose_register(), 4);
	uint32_t scale = choose(4), index = choose_register(), base = choose_register();
	put_modrm(scale, index, base);
	put(choose(128));
	count++;
}

static void put_constant(void)
{
	put(0xB8 + choose_register());
	for (unsigned i = 0; i < 4; i++) put(choose(256));
	count++;
}

/* TEST ESP, ESP and a branch whose way is known, so that the count is. */
static void put_branch(void)
{
	uint32_t taken = choose(2), length = 1 + choose(5);
	put(0x85);
	put_modrm(3, ESP, ESP);
	put(taken ? 0x75 : 0x74);
	put(taken ? length : 2);
	if (taken) for (unsigned i = 0; i < length; i++) put(0x90);
	else put_arithmetic();
	count += 2;
}

static void put_push_pop(void)
{
	put(0x50 + choose_register());
	put(0x58 + choose_register());
	count += 2;
}

/* A function, jumped over and then called. */
static void put_call(void)
{
	put(0xEB);
	uint8_t *length = end++, *function = end;
	put_arithmetic();
	put_memory(0x8B);
	put(0xC3);
	*length = (uint8_t)(end - function);
	put(0xE8);
	uint32_t back = (uint32_t)(function - (end + 4));
	for (unsigned i = 0; i < 4; i++) put(back >> 8 * i);
	count += 3;
}

static void put_two_byte(uint32_t opcode)
{
	put(0x0F);
	put_registers(opcode);
}

static void put_anything(void)
{
	switch (choose(16)) {
	case 0: case 1: case 2: put_arithmetic(); break;
	case 3: case 4: put_memory(0x8B); break;
	case 5: case 6: put_memory(0x89); break;
	case 7: put_memory(0x03); break;
	case 8: put_immediate(0x83, choose(2) * 5); break;
	case 9: put_immediate(0xC1, 4); break;
	case 10: put_lea(); break;
	case 11: put_constant(); break;
	case 12: case 13: put_branch(); break;
	case 14: choose(2) ? put_push_pop() : put_call(); break;
	default: put_two_byte(choose(2) ? 0xAF : 0xB6); break;
	}
}

static void make_template(void)
{
	state = 9;
	for (unsigned page = 1; page <= PAGES; page++) {
		uint8_t *next = template + page * USER_PAGE;
		end = page == 1 ? template : next - USER_PAGE;
		while (end < next - LONGEST - 5) put_anything();
		if (page == PAGES) {
			put(0xC3);
		} else {
			put(0xE9);
			uint32_t distance = (uint32_t)(next - (end + 4));
			for (unsigned i = 0; i < 4; i++) put(distance >> 8 * i);
		}
		count++;
	}
}

static uint8_t *make_code(void)
{
	uint8_t *code = user_map_memory(SIZE), *to = code;
	const uint8_t *from = template;
	unsigned words = SIZE / 4;
	__asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
	for (unsigned i = 0; i < 32; i++) data[i] = i * 2654435761u;
	return user_call_kernel(SYS_MPROTECT, (uintptr_t)code, SIZE, PROTECT_READ | PROTECT_EXECUTE) ? NULL : code;
}

static uint32_t call(const uint8_t *code)
{
	uint32_t a = 1, b = 2, c = 3, d = 4, e = 5;
	__asm__ volatile("call *%[code]"
					 : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+D"(e)
					 : "S"(data), [code] "m"(code)
					 : "memory", "cc");
	return mix(mix(a, b), mix(mix(c, d), e));
}

uint32_t program_run(void)
{
	user_clock_pause();
	if (!count) make_template();
	const uint8_t *code = make_code();
	if (!code || count != INSTRUCTIONS) return count;
	user_clock_continue();
	uint32_t sum = call(code);
	user_clock_pause();
	for (unsigned i = 0; i < 32; i++) sum = mix(sum, data[i]);
	user_call_kernel(SYS_MUNMAP, (uintptr_t)code, SIZE, 0);
	user_clock_continue();
	return sum;
}
