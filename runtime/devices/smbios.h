/* The SMBIOS table that firmware would leave in memory. */
#ifndef RUNTIME_DEVICES_SMBIOS_H
#define RUNTIME_DEVICES_SMBIOS_H

#include "base/types.h"

/* In the range that is searched for the entry point, and how much of it is taken. */
#define SMBIOS_TABLES 0xF0000u
#define SMBIOS_TABLES_SIZE 0x100u

/* Write the entry point and its structures to ram + SMBIOS_TABLES. */
void smbios_write_tables(uint8_t *ram);

#endif
