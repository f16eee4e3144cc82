/* Fresh memory: mapped, touched a page at a time, unmapped. */
#include "user.h"

enum { PAGE = 4096, PAGES = 512 };

const char program_name[] = "touch";
const unsigned program_repetitions = 20;
const uint32_t program_checksum = 601133421;
const uint32_t program_operations = PAGES;

uint32_t program_run(void)
{
	uint32_t sum = 0;
	uint8_t *memory = user_map_memory(PAGES * PAGE);
	for (unsigned i = 0; i < PAGES; i++) {
		uint32_t *word = (uint32_t *)(memory + i * PAGE);
		sum += *word;
		*word = i;
	}
	for (unsigned i = 0; i < PAGES; i++) sum = mix(sum, *(uint32_t *)(memory + i * PAGE));
	return user_call_kernel(SYS_MUNMAP, (uintptr_t)memory, PAGES * PAGE, 0) ? 0 : sum;
}
