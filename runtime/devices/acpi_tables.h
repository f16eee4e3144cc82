/* The ACPI tables that firmware would leave in memory. */
#ifndef RUNTIME_DEVICES_ACPI_TABLES_H
#define RUNTIME_DEVICES_ACPI_TABLES_H

#include "base/types.h"

#define ACPI_PM_BASE 0x600u  /* PM1a: status, enable, control, a word each */
#define ACPI_PM_CONTROL 0x604u
#define ACPI_PM_TIMER 0x608u
#define ACPI_SCI 9u
#define ACPI_S5_TYPE 5u      /* SLP_TYP of soft-off; any number that \_S5 names would do */
#define ACPI_RESET_PORT 0xCF9u

/* Where the tables stand, in the range that is searched for the RSDP, and how much of it they take. */
#define ACPI_TABLES 0xE0000u
#define ACPI_TABLES_SIZE 0x400u

/* Write RSDP, RSDT, FADT, FACS and DSDT to ram + ACPI_TABLES. */
void acpi_write_tables(uint8_t *ram);

#endif
