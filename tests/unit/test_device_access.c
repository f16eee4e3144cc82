/* What a device sees of an instruction: a register that is only stored to is not read, since a read may mean something to it; one that is read is
 * read once; the bytes go the way the instruction says. A store of the FPU's may not come about: it reads. */
#include <stdlib.h>
#include <string.h>

#include "runtime/cpu.h"
#include "runtime/internal.h"
#include "runtime/machine_internal.h"
#include "tests/shim/test.h"

#define CODE 0x1000u
#define DATA 0x8000u
#define DEVICE 0xE0000000u

static struct device {
	struct board_memory memory;
	unsigned reads, writes;
	uint8_t bytes[PAGE_SIZE];
} device;

static uint64_t read_device(void *ctx, uint32_t offset, unsigned size)
{
	struct device *d = ctx;
	uint64_t value = 0;

	d->reads++;
	memcpy(&value, d->bytes + offset, size);
	return value;
}

static void write_device(void *ctx, uint32_t offset, unsigned size, uint64_t value)
{
	struct device *d = ctx;

	d->writes++;
	memcpy(d->bytes + offset, &value, size);
}

/* EBX and EDI point to the device, ESI to RAM, ESP to RAM. */
static const struct store {
	const char *name;
	uint8_t length, code[8];
	unsigned reads, writes;
	uint64_t bytes; /* what is there then, of 8877665544332211h before */
} stores[] = {
	{"mov m8, al", 2, {0x88, 0x03}, 0, 1, 0x88776655443322A3},
	{"mov m16, ax", 3, {0x66, 0x89, 0x03}, 0, 1, 0x887766554433A2A3},
	{"mov m32, eax", 2, {0x89, 0x03}, 0, 1, 0x88776655A0A1A2A3},
	{"mov m32, imm", 6, {0xC7, 0x03, 1, 2, 3, 4}, 0, 1, 0x8877665504030201},
	{"mov m16, ds", 2, {0x8C, 0x1B}, 0, 1, 0x8877665544330018},
	{"mov eax, m32", 2, {0x8B, 0x03}, 1, 0, 0x8877665544332211},
	{"setz m8", 3, {0x0F, 0x94, 0x03}, 0, 1, 0x8877665544332200},
	{"pop m32", 2, {0x8F, 0x03}, 0, 1, 0x8877665504030201},
	{"stosd", 1, {0xAB}, 0, 1, 0x88776655A0A1A2A3},
	{"movsd", 1, {0xA5}, 0, 1, 0x8877665504030201},
	{"rep stosb, two", 2, {0xF3, 0xAA}, 0, 2, 0x887766554433A3A3},
	{"movq m64, mm0", 3, {0x0F, 0x7F, 0x03}, 0, 1, 0},
	{"movlps m64, xmm0", 3, {0x0F, 0x13, 0x03}, 0, 1, 0},
	{"movups m128, xmm0", 3, {0x0F, 0x11, 0x03}, 0, 2, 0},
	{"movntq m64, mm0", 3, {0x0F, 0xE7, 0x03}, 0, 1, 0},
	/* Were its exceptions not masked, it might not store. */
	{"fstp m64", 2, {0xDD, 0x1B}, 1, 1, 0x3FF0000000000000},
	{"fnstcw m16", 2, {0xD9, 0x3B}, 0, 1, 0x887766554433037F},
	{"add m32, eax", 2, {0x01, 0x03}, 1, 1, 0x88776655E4D4C4B4},
	{"inc m8", 2, {0xFE, 0x03}, 1, 1, 0x8877665544332212},
	{"xchg m32, eax", 2, {0x87, 0x03}, 1, 1, 0x88776655A0A1A2A3},
	{"lock xadd m32, eax", 4, {0xF0, 0x0F, 0xC1, 0x03}, 1, 1, 0x88776655E4D4C4B4},
	{"cmpxchg m32, edx, equal or not: a write", 3, {0x0F, 0xB1, 0x13}, 1, 1, 0x8877665544332211},
	{"bts m32, 31", 4, {0x0F, 0xBA, 0x2B, 31}, 1, 1, 0x88776655C4332211},
	{"maskmovq: a byte of it", 3, {0x0F, 0xF7, 0xC1}, 1, 1, 0x8877665544332200},
	{"cmp m32, eax", 2, {0x39, 0x03}, 1, 0, 0x8877665544332211},
};

static bool create(struct runtime **r, struct machine **m)
{
	static const struct runtime_config config = {.ram_size = 16u << 20, .tc_size = 1u << 20, .no_reset = true};
	char text[512];
	const char *why;

	if (!CHECK(!runtime_create(r, &config, text, sizeof(text))))
		return false;
	struct machine_config machine = {.ram = (*r)->ram, .ram_size = config.ram_size, .serial = SERIAL_NONE, .debug_exit = true, .debug_exit_port = 0xF4};
	if (!CHECK(!machine_create(m, &machine, &why)))
		return false;
	runtime_set_machine(*r, *m);
	device.memory = (struct board_memory){.first = DEVICE, .size = PAGE_SIZE, .read = read_device, .write = write_device, .ctx = &device};
	board_add_memory(&(*m)->board, &device.memory);
	return true;
}

static void put_code(struct runtime *r, const struct store *a)
{
	/* pxor mm0, mm0; movd mm1, [esi + 8]; xorps xmm0, xmm0; fninit; fld1 */
	static const uint8_t first[] = {0x0F, 0xEF, 0xC0, 0x0F, 0x6E, 0x4E, 0x08, 0x0F, 0x57, 0xC0, 0xDB, 0xE3, 0xD9, 0xE8};
	static const uint8_t last[] = {0xE6, 0xF4}; /* out 0xF4, al */
	static const uint8_t data[] = {1, 2, 3, 4, 0, 0, 0, 0, 0x80};
	uint8_t *at = r->ram + CODE;

	memcpy(at, first, sizeof(first));
	memcpy(at + sizeof(first), a->code, a->length);
	memcpy(at + sizeof(first) + a->length, last, sizeof(last));
	memcpy(r->ram + DATA, data, sizeof(data));
}

static void run(struct runtime *r, const struct store *a)
{
	static const uint64_t before = 0x8877665544332211;
	struct vcpu *v = r->v;

	cpu_reset(v, true);
	put_code(r, a);
	v->cr4 |= CR4_OSFXSR;
	cpu_update_mode(v);
	v->eip = CODE;
	v->gpr[EAX] = 0xA0A1A2A3;
	v->gpr[ECX] = 2;
	v->gpr[EBX] = v->gpr[EDI] = DEVICE;
	v->gpr[ESI] = v->gpr[ESP] = DATA;
	device.reads = device.writes = 0;
	memcpy(device.bytes, &before, sizeof(before));
	CHECK_EQ(runtime_run(r), RUNTIME_MACHINE_ENDED);
}

TEST(device_access, reads_and_writes)
{
	for (unsigned i = 0; i < ARRAY_LEN(stores); i++) {
		const struct store *a = &stores[i];
		struct machine *m;
		struct runtime *r;
		uint64_t bytes;

		REQUIRE(create(&r, &m));
		run(r, a);
		memcpy(&bytes, device.bytes, sizeof(bytes));
		if (device.reads != a->reads || device.writes != a->writes || bytes != a->bytes)
			FAIL("%s: %u reads, %u writes, %lx", a->name, device.reads, device.writes, (unsigned long)bytes);
		runtime_destroy(r);
		machine_destroy(m);
	}
}
