/* SMBIOS 2.3 (DMTF DSP0134): who made the machine, and when. Linux takes a BIOS date from 2001 on as word that PCI configuration works
 * though there is nothing on bus 0; without it, it complains on every console.
 *
 * Built: the entry point, structures 0 (BIOS), 1 (system) and 127 (end). Not built: everything else that a firmware would describe. */
#include "runtime/devices/smbios.h"

#include <string.h>

#define STRUCTURES_AT (SMBIOS_TABLES + 0x20)
#define ENTRY_SIZE 0x1Fu
#define INTERMEDIATE 0x10u /* where the entry point's second half begins, with a checksum of its own */

/* Strings follow their structure, which names them by number from 1; a structure ends with an empty one. */
static const uint8_t bios[] = {
	0, 0x14, 0x00, 0x00,       /* type, length, handle */
	1, 2, 0x00, 0xE0, 3, 0,    /* vendor, version, segment, date, size in 64 KiB less one */
	8, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* characteristics: none given */
	'b', 't', '-', 'v', 'm', 'm', 0, '1', 0, '0', '1', '/', '0', '1', '/', '2', '0', '2', '4', 0, 0,
};
static const uint8_t machine[] = {
	1, 0x19, 0x01, 0x00,
	1, 2, 0, 0,                /* maker, product; no version or serial number */
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* no UUID */
	6,                         /* woken by the power switch */
	'b', 't', '-', 'v', 'm', 'm', 0, 'P', 'C', 0, 0,
};
static const uint8_t end[] = { 127, 4, 0x02, 0x00, 0, 0 };

static void put16(uint8_t *to, unsigned value)
{
	to[0] = (uint8_t)value;
	to[1] = (uint8_t)(value >> 8);
}

static uint8_t checksum(const uint8_t *from, unsigned size)
{
	uint8_t sum = 0;
	while (size--)
		sum += *from++;
	return (uint8_t)-sum;
}

static void write_entry(uint8_t *e, unsigned size)
{
	memcpy(e, "_SM_", 4);
	e[5] = ENTRY_SIZE;
	e[6] = 2, e[7] = 3;           /* version */
	put16(e + 8, sizeof(bios));   /* the largest structure */
	memcpy(e + INTERMEDIATE, "_DMI_", 5);
	put16(e + 0x16, size);
	put16(e + 0x18, STRUCTURES_AT & 0xFFFF);
	put16(e + 0x1A, STRUCTURES_AT >> 16);
	put16(e + 0x1C, 3);           /* how many */
	e[0x1E] = 0x23;
	e[INTERMEDIATE + 5] = checksum(e + INTERMEDIATE, ENTRY_SIZE - INTERMEDIATE);
	e[4] = checksum(e, ENTRY_SIZE);
}

void smbios_write_tables(uint8_t *ram)
{
	uint8_t *p = ram + STRUCTURES_AT;
	memset(ram + SMBIOS_TABLES, 0, SMBIOS_TABLES_SIZE);
	memcpy(p, bios, sizeof(bios));
	memcpy(p + sizeof(bios), machine, sizeof(machine));
	memcpy(p + sizeof(bios) + sizeof(machine), end, sizeof(end));
	write_entry(ram + SMBIOS_TABLES, sizeof(bios) + sizeof(machine) + sizeof(end));
}
