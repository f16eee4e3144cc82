/* i8042, reset ports, PCI, ACPI, DMA, debug ports, and the bus itself. */
#include "runtime/devices/acpi_tables.h"
#include "runtime/devices/devices.h"
#include "runtime/devices/smbios.h"
#include "tests/unit/test_devices_board.h"

struct small {
	struct bench *t;
	struct i8042 keyboard;
	struct system_control control;
	struct pci pci;
	struct acpi acpi;
	struct dma dma;
	struct debug debug;
	struct fw_cfg fw_cfg;
	struct testdev testdev;
	struct fpu_error fpu_error;
	bool ignne;
	unsigned forgotten;
	char console[16];
	unsigned console_count;
};

static void send(void *ctx, uint8_t byte)
{
	struct small *s = ctx;
	s->console[s->console_count++] = (char)byte;
}

static void forget(void *ctx) { ((struct small *)ctx)->forgotten++; }
static void set_irq(void *ctx, unsigned irq, bool level) { pic_set_line(&((struct small *)ctx)->t->pic, irq, level); }

static void set_ignne(void *ctx, bool asserted) { ((struct small *)ctx)->ignne = asserted; }

static struct small *start(void)
{
	struct small *s = calloc(1, sizeof(*s));
	s->t = bench_create();
	i8042_init(&s->keyboard, &s->t->board);
	system_control_init(&s->control, &s->t->board);
	pci_init(&s->pci, &s->t->board);
	acpi_init(&s->acpi, &s->t->board);
	dma_init(&s->dma, &s->t->board);
	debug_init(&s->debug, &s->t->board, send, s);
	debug_claim_exit(&s->debug, 0xF4);
	fw_cfg_init(&s->fw_cfg, &s->t->board, MIB(96));
	testdev_init(&s->testdev, &s->t->board, &(struct testdev_wires) { set_irq, forget, s });
	fpu_error_init(&s->fpu_error, &s->t->board, set_ignne, s);
	bench_program_pic(s->t, 0x03);
	return s;
}

static void stop(struct small *s)
{
	free(s->t);
	free(s);
}

static uint32_t in32(struct small *s, uint16_t port) { return board_read(&s->t->board, port, 4); }
static uint16_t in16(struct small *s, uint16_t port) { return (uint16_t)board_read(&s->t->board, port, 2); }
static void out32(struct small *s, uint16_t port, uint32_t value) { board_write(&s->t->board, port, 4, value); }
static void out16(struct small *s, uint16_t port, uint16_t value) { board_write(&s->t->board, port, 2, value); }

/* Write a command, and give the answer if there is one at once, else -1. */
static int command(struct small *s, uint8_t value)
{
	out8(s->t, 0x64, value);
	return in8(s->t, 0x64) & 1 ? in8(s->t, 0x60) : -1;
}

TEST(devices_i8042, self_test_and_command_byte)
{
	struct small *s = start();
	CHECK_EQ(in8(s->t, 0x64) & 0x03, 0);
	CHECK_EQ(command(s, 0xAA), 0x55);
	CHECK_EQ(command(s, 0xAB), 0x00);
	CHECK_EQ(command(s, 0x60), -1);
	out8(s->t, 0x60, 0x65);
	CHECK_EQ(command(s, 0x20), 0x65);
	CHECK_EQ(in8(s->t, 0x64) & 0x01, 0);
	CHECK_EQ(command(s, 0xAD), -1);
	CHECK_EQ(command(s, 0x20), 0x75);
	stop(s);
}

TEST(devices_i8042, auxiliary_port_is_absent)
{
	struct small *s = start();
	int test = command(s, 0xA9);
	CHECK(test != 0 && test != 0xFA && test != 0xFF && test != -1);
	out8(s->t, 0x64, 0xD3);
	out8(s->t, 0x60, 0x5A);
	uint8_t status = in8(s->t, 0x64);
	CHECK_EQ(status & 0x21, 0x01); /* an answer at once, not from the auxiliary port */
	CHECK(in8(s->t, 0x60) != 0x5A);
	stop(s);
}

TEST(devices_i8042, keyboard_is_absent)
{
	struct small *s = start();
	out8(s->t, 0x64, 0x60), out8(s->t, 0x60, 0x45);
	out8(s->t, 0x60, 0xF2);
	CHECK(s->t->intr);
	CHECK_EQ(pic_acknowledge(&s->t->pic), 0x21);
	CHECK_EQ(in8(s->t, 0x64) & 0x41, 0x41); /* time-out */
	CHECK_EQ(in8(s->t, 0x60), 0xFE);
	CHECK_EQ(in8(s->t, 0x64) & 0x41, 0);
	stop(s);
}

TEST(devices_i8042, a20_and_reset)
{
	struct small *s = start();
	CHECK_EQ(command(s, 0xD0) & 0x03, 0x03);
	out8(s->t, 0x64, 0xD1), out8(s->t, 0x60, 0xDD);
	CHECK_EQ(in8(s->t, 0x92) & 2, 0);
	out8(s->t, 0x92, 2);
	CHECK_EQ(command(s, 0xD0) & 0x02, 0x02);
	CHECK_EQ(s->t->end, MACHINE_RUNS);
	CHECK_EQ(command(s, 0xFF), -1); /* pulses nothing */
	CHECK_EQ(s->t->end, MACHINE_RUNS);
	command(s, 0xFE);
	CHECK_EQ(s->t->end, MACHINE_RESET);
	s->t->end = MACHINE_RUNS;
	out8(s->t, 0x64, 0xD1), out8(s->t, 0x60, 0xDE);
	CHECK_EQ(s->t->end, MACHINE_RESET);
	stop(s);
}

TEST(devices_reset, port_92)
{
	struct small *s = start();
	out8(s->t, 0x92, 0x02);
	CHECK_EQ(s->t->end, MACHINE_RUNS);
	out8(s->t, 0x92, 0x03);
	CHECK_EQ(s->t->end, MACHINE_RESET);
	stop(s);
}

TEST(devices_reset, cf9_on_a_rising_bit)
{
	struct small *s = start();
	out8(s->t, 0xCF9, 0x02);
	CHECK_EQ(s->t->end, MACHINE_RUNS);
	CHECK_EQ(in8(s->t, 0xCF9), 0x02);
	out8(s->t, 0xCF9, 0x06);
	CHECK_EQ(s->t->end, MACHINE_RESET);
	stop(s);
}

TEST(devices_fpu_error, a_latch_is_irq_13_and_port_f0_ignores)
{
	struct small *s = start();
	fpu_error_set(&s->fpu_error, true);
	CHECK(s->t->intr && !s->ignne);
	CHECK_EQ(pic_acknowledge(&s->t->pic), 0x2D);
	fpu_error_set(&s->fpu_error, false);
	fpu_error_set(&s->fpu_error, true);
	CHECK(!s->t->intr); /* the latch is still set: no edge */
	out8(s->t, 0xF0, 0);
	CHECK(!s->t->intr && s->ignne);
	fpu_error_set(&s->fpu_error, false);
	CHECK(!s->ignne);
	fpu_error_set(&s->fpu_error, true);
	CHECK(s->t->intr);
	CHECK_EQ(pic_acknowledge(&s->t->pic), 0x2D);
	stop(s);
}

TEST(devices_fpu_error, port_f0_without_an_error_ignores_nothing)
{
	struct small *s = start();
	out8(s->t, 0xF0, 0);
	CHECK(!s->ignne && !s->t->intr);
	fpu_error_set(&s->fpu_error, true);
	out8(s->t, 0xF0, 0);
	fpu_error_reset(&s->fpu_error);
	CHECK(!s->ignne && !s->fpu_error.ferr);
	stop(s);
}

TEST(devices_pci, probe_finds_mechanism_1_and_an_empty_bus)
{
	struct small *s = start();
	out8(s->t, 0xCFB, 0x01);
	uint32_t before = in32(s, 0xCF8);
	CHECK_EQ(before, 0);
	out32(s, 0xCF8, 0x80000000);
	CHECK_EQ(in32(s, 0xCF8), 0x80000000);
	CHECK_EQ(in32(s, 0xCFC), 0xFFFFFFFF);
	CHECK_EQ(in16(s, 0xCFE), 0xFFFF);
	CHECK_EQ(in8(s->t, 0xCFD), 0xFF);
	CHECK_EQ(in8(s->t, 0xCF8), 0xFF); /* bytes are not the address register's */
	out32(s, 0xCFC, 0);
	out32(s, 0xCF8, 0x8000F8FF);
	CHECK_EQ(in32(s, 0xCF8), 0x8000F8FC);
	CHECK_EQ(s->t->end, MACHINE_RUNS);
	stop(s);
}

TEST(devices_acpi, power_off)
{
	struct small *s = start();
	CHECK_EQ(in16(s, 0x604), 0x0001); /* SCI_EN */
	out16(s, 0x604, 0x3401 - 0x0400); /* another sleep type */
	CHECK_EQ(s->t->end, MACHINE_RUNS);
	out16(s, 0x604, ACPI_S5_TYPE << 10);
	CHECK_EQ(s->t->end, MACHINE_RUNS);
	out16(s, 0x604, ACPI_S5_TYPE << 10 | 0x2000);
	CHECK_EQ(s->t->end, MACHINE_POWER_OFF);
	CHECK_EQ(in16(s, 0x604), ACPI_S5_TYPE << 10 | 1); /* SLP_EN reads as zero */
	stop(s);
}

TEST(devices_acpi, timer_runs_at_its_rate)
{
	struct small *s = start();
	uint32_t before = in32(s, 0x608);
	bench_advance(s->t, NS_PER_SECOND);
	CHECK_EQ((in32(s, 0x608) - before) & 0xFFFFFF, 3579545);
	bench_advance(s->t, 10 * NS_PER_SECOND);
	CHECK_EQ((in32(s, 0x608) - before) & 0xFFFFFF, 11 * 3579545 & 0xFFFFFF);
	CHECK_EQ(in32(s, 0x608) >> 24, 0);
	stop(s);
}

TEST(devices_acpi, timer_carry_interrupts_if_enabled)
{
	struct small *s = start();
	bench_advance(s->t, 3 * NS_PER_SECOND); /* bit 23 changes every 2.34 s */
	CHECK(!s->t->intr);
	CHECK_EQ(in16(s, 0x600), 1);
	out16(s, 0x600, 1);
	CHECK_EQ(in16(s, 0x600), 0);
	out16(s, 0x602, 1);
	CHECK(s->acpi.timer.deadline != TIMER_NEVER);
	bench_advance(s->t, 3 * NS_PER_SECOND);
	CHECK(s->t->intr);
	CHECK_EQ(pic_acknowledge(&s->t->pic), 0x29);
	CHECK(s->t->intr); /* a level: until the status is cleared */
	out16(s, 0x600, 1);
	CHECK(!s->t->intr);
	stop(s);
}

static uint8_t sum(const uint8_t *p, unsigned n)
{
	uint8_t s = 0;
	while (n--)
		s += *p++;
	return s;
}

static uint32_t get32(const uint8_t *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }

/* Find the RSDP as an operating system does. */
static uint32_t find_rsdp(const uint8_t *ram)
{
	for (uint32_t at = 0xE0000; at < 0x100000; at += 16)
		if (!memcmp(ram + at, "RSD PTR ", 8) && !sum(ram + at, 20))
			return at;
	return 0;
}

TEST(devices_acpi, tables_can_be_walked)
{
	uint8_t *ram = calloc(1, 0x100000);
	acpi_write_tables(ram);
	uint32_t rsdp = find_rsdp(ram);
	REQUIRE(rsdp);
	const uint8_t *rsdt = ram + get32(ram + rsdp + 16);
	CHECK(!memcmp(rsdt, "RSDT", 4));
	CHECK_EQ(get32(rsdt + 4), 40);
	CHECK_EQ(sum(rsdt, 40), 0);
	const uint8_t *fadt = ram + get32(rsdt + 36);
	CHECK(!memcmp(fadt, "FACP", 4));
	CHECK_EQ(get32(fadt + 4), 244);
	CHECK_EQ(sum(fadt, 244), 0);
	CHECK_EQ(get32(fadt + 48), 0); /* SMI_CMD */
	CHECK_EQ(fadt[46], 9);
	CHECK_EQ(get32(fadt + 56), 0x600);
	CHECK_EQ(get32(fadt + 64), 0x604);
	CHECK_EQ(get32(fadt + 76), 0x608);
	CHECK_EQ(fadt[109] & 2, 0); /* no 8042 */
	uint32_t facs = get32(fadt + 36);
	CHECK_EQ(facs % 64, 0);
	CHECK(!memcmp(ram + facs, "FACS", 4));
	const uint8_t *dsdt = ram + get32(fadt + 40);
	CHECK(!memcmp(dsdt, "DSDT", 4));
	CHECK_EQ(sum(dsdt, get32(dsdt + 4)), 0);
	free(ram);
}

TEST(devices_acpi, aml_names_the_sleep_type)
{
	uint8_t *ram = calloc(1, 0x100000);
	acpi_write_tables(ram);
	const uint8_t *fadt = ram + get32(ram + get32(ram + find_rsdp(ram) + 16) + 36);
	const uint8_t *dsdt = ram + get32(fadt + 40), *aml = dsdt + 36;
	uint32_t length = get32(dsdt + 4) - 36;
	CHECK_EQ(aml[0], 0x08);
	CHECK(!memcmp(aml + 1, "_S5_", 4));
	CHECK_EQ(aml[5], 0x12);
	CHECK_EQ(aml[6] + 6u, length); /* the package ends where the table does */
	CHECK_EQ(aml[7], 4);
	CHECK_EQ(aml[8], 0x0A);
	CHECK_EQ(aml[9], ACPI_S5_TYPE);
	for (uint32_t at = 0; at < 0xE0000; at++)
		if (ram[at]) {
			FAIL("writes at %x", at);
			break;
		}
	free(ram);
}

/* Behind a structure's strings. */
static const uint8_t *next_structure(const uint8_t *p)
{
	for (p += p[1]; p[0] || p[1]; p++)
		;
	return p + 2;
}

TEST(devices_smbios, tables_can_be_walked)
{
	uint8_t *ram = calloc(1, 0x100000);
	smbios_write_tables(ram);
	const uint8_t *entry = ram + 0xF0000, *p = ram + get32(entry + 0x18), *after = p + (entry[0x16] | entry[0x17] << 8);
	CHECK(!memcmp(entry, "_SM_", 4));
	CHECK_EQ(sum(entry, entry[5]), 0);
	CHECK(!memcmp(entry + 16, "_DMI_", 5));
	CHECK_EQ(sum(entry + 16, 15), 0);
	CHECK_EQ(p[0], 0);
	CHECK_STR((const char *)p + p[1] + strlen("bt-vmm") + 1 + strlen("1") + 1, "01/01/2024"); /* string 3 */
	CHECK_EQ(p[8], 3);
	p = next_structure(p);
	CHECK_EQ(p[0], 1);
	CHECK_EQ(p[1], 0x19);
	p = next_structure(p);
	CHECK_EQ(p[0], 127);
	CHECK(next_structure(p) == after);
	free(ram);
}

TEST(devices_debug, exit_and_console)
{
	struct small *s = start();
	CHECK_EQ(in8(s->t, 0xE9), 0xE9);
	out8(s->t, 0xE9, 'o'), out8(s->t, 0xE9, 'k');
	CHECK_STR(s->console, "ok");
	out8(s->t, 0xF4, 0x21);
	CHECK_EQ(s->t->end, MACHINE_DEBUG_EXIT);
	CHECK_EQ(s->t->end_value, 0x21);
	out16(s, 0xF4, 0x1234);
	CHECK_EQ(s->t->end_value, 0x1234);
	out32(s, 0xF4, 0x12345678);
	CHECK_EQ(s->t->end_value, 0x12345678);
	stop(s);
}

TEST(devices_dma, ports_are_quiet)
{
	struct small *s = start();
	out8(s->t, 0x81, 0x12), out8(s->t, 0x80, 0x34), out8(s->t, 0x0B, 0x56), out8(s->t, 0xD6, 0xC0);
	CHECK_EQ(in8(s->t, 0x81), 0x12);
	CHECK_EQ(in8(s->t, 0x80), 0x34);
	CHECK_EQ(in8(s->t, 0x08), 0);
	stop(s);
}

TEST(devices_bus, unclaimed_ports_read_ones)
{
	struct small *s = start();
	CHECK_EQ(in8(s->t, 0x2F8), 0xFF);
	CHECK_EQ(in16(s, 0x3E8), 0xFFFF);
	CHECK_EQ(in32(s, 0x2E8), 0xFFFFFFFF);
	CHECK_EQ(in32(s, 0xFFFF), 0x000000FF); /* beyond the last port comes the first: the DMA controller's */
	CHECK(board_is_free(&s->t->board, 0x2F8, 8));
	CHECK(!board_is_free(&s->t->board, 0x602, 1));
	CHECK(!board_is_free(&s->t->board, 0xFFFD, 4));
	stop(s);
}

TEST(devices_bus, time_conversions_are_inverse)
{
	for (int64_t tick = 1; tick < 4000000000LL; tick = tick * 3 + 1) {
		int64_t ns = board_ticks_to_ns(tick, 1193182);
		CHECK_EQ(board_ns_to_ticks(ns, 1193182), tick);
		CHECK_EQ(board_ns_to_ticks(ns - 1, 1193182), tick - 1);
	}
}

static uint64_t configuration(struct small *s, uint16_t item)
{
	uint64_t value = 0;
	out16(s, 0x510, item);
	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)in8(s->t, 0x511) << 8 * i;
	return value;
}

TEST(devices_fw_cfg, items)
{
	struct small *s = start();
	CHECK_EQ(configuration(s, 0), 0x554D4551);
	CHECK_EQ(in8(s->t, 0x511), 0);
	CHECK_EQ(configuration(s, 1), 1);
	CHECK_EQ(configuration(s, 3), MIB(96));
	CHECK_EQ(configuration(s, 5), 1);
	CHECK_EQ(configuration(s, 15), 1);
	CHECK_EQ(configuration(s, 0x19), 0);
	CHECK_EQ(configuration(s, 0xFFFF), 0);
	stop(s);
}

TEST(devices_testdev, echo_in_every_size)
{
	struct small *s = start();
	out32(s, 0xE0, 0x11223344);
	CHECK_EQ(in32(s, 0xE0), 0x11223344);
	CHECK_EQ(in16(s, 0xE2), 0x1122);
	out8(s->t, 0xE1, 0xAA);
	out16(s, 0xE2, 0xBBCC);
	CHECK_EQ(in32(s, 0xE0), 0xBBCCAA44);
	out32(s, 0xE3, 0xFFFFFFFFu); /* beyond its last byte */
	CHECK_EQ(in32(s, 0xE0), 0xFFCCAA44);
	stop(s);
}

TEST(devices_testdev, lines_memory_and_forgetting)
{
	struct small *s = start();
	out8(s->t, 0x2000 + 5, 1);
	CHECK(s->t->intr);
	CHECK_EQ(pic_acknowledge(&s->t->pic), 0x25);
	out8(s->t, 0x2000 + 5, 0);
	CHECK_EQ(s->t->pic.chip[0].lines & 0x20, 0);
	out32(s, 0xE4, 0x1000);
	CHECK_EQ(s->forgotten, 1);
	board_write_memory(&s->t->board, 0xFF00FFF8u, 8, 0x1122334455667788u);
	CHECK_EQ(board_read_memory(&s->t->board, 0xFF00FFFAu, 2), 0x5566);
	CHECK_EQ(board_read_memory(&s->t->board, 0xFF00FFFCu, 8), UINT64_MAX); /* beyond its end: nobody's */
	board_write_memory(&s->t->board, 0xFF00FFFCu, 8, 0);
	CHECK_EQ(board_read_memory(&s->t->board, 0xFF00FFF8u, 8), 0x1122334455667788u);
	stop(s);
}
