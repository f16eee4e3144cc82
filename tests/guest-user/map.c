/* Memory that is mapped, touched in one place, and unmapped. */
#include "user.h"

enum { MAPPINGS = 1000, PAGES = 16 };

const char program_name[] = "map";
const unsigned program_repetitions = 20;
const uint32_t program_checksum = MAPPINGS;
const uint32_t program_operations = MAPPINGS;

uint32_t program_run(void)
{
	for (uint32_t i = 0; i < MAPPINGS; i++) {
		uint8_t *memory = user_map_memory(PAGES * USER_PAGE);
		if ((uintptr_t)memory % USER_PAGE) return i;
		memory[i % PAGES * USER_PAGE] = 1;
		if (user_call_kernel(SYS_MUNMAP, (uintptr_t)memory, PAGES * USER_PAGE, 0)) return i;
	}
	return MAPPINGS;
}
