/* Write barriers, as garbage collectors have them: a page is protected, a write to it is a SIGSEGV, the handler unprotects it. */
#include "user.h"

enum { BARRIERS = 1000, PAGES = 8 };

const char program_name[] = "protect";
const unsigned program_repetitions = 10;
const uint32_t program_checksum = BARRIERS;
const uint32_t program_operations = BARRIERS;

static uint8_t *memory;
static volatile uint32_t hits;

static void unprotect(int signal, void *information, void *context)
{
	/* si_addr follows si_signo, si_errno and si_code. */
	uintptr_t at = ((uintptr_t *)information)[3] & -(uintptr_t)USER_PAGE;
	(void)signal;
	(void)context;
	hits++;
	if (at - (uintptr_t)memory >= PAGES * USER_PAGE || user_call_kernel(SYS_MPROTECT, at, USER_PAGE, PROTECT_READ | PROTECT_WRITE)) user_exit(1);
}

uint32_t program_run(void)
{
	if (!memory) {
		memory = user_map_memory(PAGES * USER_PAGE);
		user_handle_signal(USER_SIGSEGV, unprotect);
	}
	hits = 0;
	for (uint32_t i = 0; i < BARRIERS; i++) {
		volatile uint8_t *page = memory + i % PAGES * USER_PAGE;
		*page = 1;
		if (user_call_kernel(SYS_MPROTECT, (uintptr_t)page, USER_PAGE, PROTECT_READ)) return i;
		*page = 2;
		if (*page != 2) return i;
	}
	return hits;
}
