#include "runtime/verify_unicorn.h"

#include <stdio.h>

#include "base/library.h"

struct unicorn unicorn;

bool unicorn_load(char *why, size_t why_size)
{
	static const struct library_symbol symbols[] = {
		{"uc_open", &unicorn.open}, {"uc_close", &unicorn.close}, {"uc_ctl", &unicorn.ctl}, {"uc_emu_start", &unicorn.emu_start},
		{"uc_emu_stop", &unicorn.emu_stop}, {"uc_hook_add", &unicorn.hook_add}, {"uc_mem_map_ptr", &unicorn.mem_map_ptr},
		{"uc_reg_read", &unicorn.reg_read}, {"uc_reg_write", &unicorn.reg_write}, {"uc_strerror", &unicorn.strerror},
	};

	if (library_load(UNICORN_FILE, symbols, ARRAY_LEN(symbols)))
		return true;
	snprintf(why, why_size, "%s, which --verify needs, cannot be loaded: install libunicorn2", UNICORN_FILE);
	return false;
}
