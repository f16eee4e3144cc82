#include "runtime/verify_unicorn.h"

#include "base/library.h"

bool unicorn_load(struct unicorn *u)
{
	const struct library_symbol symbols[] = {
		{"uc_open", &u->open}, {"uc_close", &u->close}, {"uc_ctl", &u->ctl}, {"uc_emu_start", &u->emu_start}, {"uc_emu_stop", &u->emu_stop},
		{"uc_hook_add", &u->hook_add}, {"uc_mem_map_ptr", &u->mem_map_ptr}, {"uc_reg_read", &u->reg_read}, {"uc_reg_write", &u->reg_write},
		{"uc_strerror", &u->strerror},
	};

	return library_load(UNICORN_FILE, symbols, ARRAY_LEN(symbols));
}
