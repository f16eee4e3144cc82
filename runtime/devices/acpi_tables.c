/* RSDP, RSDT, FADT, FACS and DSDT (ACPI specification 3.0, chapter 5): the least that lets an operating system find the PM timer, power off
 * through \_S5, reset through a port, and know that there is no keyboard controller to look for.
 *
 * Not built: MADT (there is one processor and no APIC), HPET, devices in the DSDT (all that there are stand at their ISA addresses). */
#include "runtime/devices/acpi_tables.h"

#include <string.h>

#define RSDP_AT ACPI_TABLES            /* on a 16-byte boundary */
#define RSDT_AT (ACPI_TABLES + 0x40)
#define FACS_AT (ACPI_TABLES + 0x80)   /* on a 64-byte boundary */
#define FADT_AT (ACPI_TABLES + 0xC0)
#define DSDT_AT (ACPI_TABLES + 0x200)

#define HEADER_SIZE 36u
#define RSDP_SIZE 20u
#define FADT_SIZE 244u
#define FACS_SIZE 64u

#define FADT_WBINVD 0x001u           /* WBINVD works */
#define FADT_C1 0x004u               /* HLT is C1 */
#define FADT_NO_POWER_BUTTON 0x010u  /* ... as fixed hardware; the next two likewise */
#define FADT_NO_SLEEP_BUTTON 0x020u
#define FADT_NO_FIXED_RTC 0x040u
#define FADT_RESET_REGISTER 0x400u
#define BOOT_LEGACY_DEVICES 0x01u    /* user-visible devices on the ISA bus: COM1 */
#define BOOT_NO_VGA 0x04u
#define BOOT_NO_MSI 0x08u

static void put(uint8_t *to, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		to[i] = (uint8_t)(value >> 8 * i);
}

static uint8_t checksum(const uint8_t *table, unsigned size)
{
	uint8_t sum = 0;
	for (unsigned i = 0; i < size; i++)
		sum += table[i];
	return (uint8_t)-sum;
}

/* Fill in the header of a table whose body stands, checksum last. */
static void finish(uint8_t *table, const char *signature, uint32_t size, uint8_t revision)
{
	memcpy(table, signature, 4);
	put(table + 4, size, 4);
	table[8] = revision;
	memcpy(table + 10, "BTVMM ", 6);   /* OEM */
	memcpy(table + 16, "BTVMM   ", 8); /* OEM's name of the table */
	put(table + 24, 1, 4);
	memcpy(table + 28, "BTVM", 4);     /* who compiled it, and version */
	put(table + 32, 1, 4);
	table[9] = checksum(table, size);
}

static void write_rsdp(uint8_t *p)
{
	memcpy(p, "RSD PTR ", 8);
	memcpy(p + 9, "BTVMM ", 6);
	p[15] = 0; /* revision: ACPI 1.0, so there is an RSDT and no XSDT */
	put(p + 16, RSDT_AT, 4);
	p[8] = checksum(p, RSDP_SIZE);
}

enum access_size { BY_BYTE = 1, BY_WORD, BY_DWORD };

/* A generic address structure: a register in I/O space. */
static void put_io(uint8_t *to, uint32_t port, unsigned bytes, enum access_size access)
{
	to[0] = 1;                    /* system I/O */
	to[1] = (uint8_t)(bytes * 8); /* width in bits; offset 0 */
	to[3] = (uint8_t)access;
	put(to + 4, port, 8);
}

/* Offsets as in the specification's table 5-9. All that stays zero is absent, SMI_CMD above all: ACPI mode is always on. */
static void write_fadt(uint8_t *t)
{
	put(t + 36, FACS_AT, 4);
	put(t + 40, DSDT_AT, 4);
	put(t + 46, ACPI_SCI, 2);
	put(t + 56, ACPI_PM_BASE, 4);      /* PM1a event block: status and enable */
	put(t + 64, ACPI_PM_CONTROL, 4);   /* PM1a control block */
	put(t + 76, ACPI_PM_TIMER, 4);
	t[88] = 4;                         /* lengths of the three */
	t[89] = 2;
	t[91] = 4;
	put(t + 96, 0xFFF, 2);             /* latencies of C2 and C3: too long, so neither exists */
	put(t + 98, 0xFFF, 2);
	t[108] = 0x32;                     /* the clock's century register */
	put(t + 109, BOOT_LEGACY_DEVICES | BOOT_NO_VGA | BOOT_NO_MSI, 2); /* and no 8042 */
	put(t + 112, FADT_WBINVD | FADT_C1 | FADT_NO_POWER_BUTTON | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC | FADT_RESET_REGISTER, 4);
	put_io(t + 116, ACPI_RESET_PORT, 1, BY_BYTE);
	t[128] = 0x06;                     /* written there resets */
	put(t + 140, DSDT_AT, 8);
	put_io(t + 148, ACPI_PM_BASE, 4, BY_WORD);
	put_io(t + 172, ACPI_PM_CONTROL, 2, BY_WORD);
	put_io(t + 208, ACPI_PM_TIMER, 4, BY_DWORD);
	finish(t, "FACP", FADT_SIZE, 3);
}

static void write_facs(uint8_t *t)
{
	memcpy(t, "FACS", 4); /* no checksum */
	put(t + 4, FACS_SIZE, 4);
}

static void write_dsdt(uint8_t *t)
{
	/* Name (\_S5, Package () { 5, 5, 0, 0 }): SLP_TYP for the PM1a and PM1b control registers, and two reserved elements. */
	static const uint8_t aml[] = {
		0x08,                   /* NameOp */
		'_', 'S', '5', '_',     /* NameString, in the root as the table's scope is */
		0x12,                   /* PackageOp */
		0x08,                   /* PkgLength: from here to the end */
		0x04,                   /* NumElements */
		0x0A, ACPI_S5_TYPE,     /* BytePrefix, ByteData */
		0x0A, ACPI_S5_TYPE,
		0x00,                   /* ZeroOp */
		0x00,
	};
	memcpy(t + HEADER_SIZE, aml, sizeof(aml));
	finish(t, "DSDT", HEADER_SIZE + sizeof(aml), 2);
}

void acpi_write_tables(uint8_t *ram)
{
	memset(ram + ACPI_TABLES, 0, ACPI_TABLES_SIZE);
	write_rsdp(ram + RSDP_AT);
	put(ram + RSDT_AT + HEADER_SIZE, FADT_AT, 4);
	finish(ram + RSDT_AT, "RSDT", HEADER_SIZE + 4, 1);
	write_fadt(ram + FADT_AT);
	write_facs(ram + FACS_AT);
	write_dsdt(ram + DSDT_AT);
}
