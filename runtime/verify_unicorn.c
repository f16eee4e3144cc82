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

static uint64_t hash_bytes(const uint8_t *p, uint32_t n)
{
	uint64_t h = 0xCBF29CE484222325ULL;

	for (uint32_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3ULL;
	return h;
}

static uint32_t slot_of(uint32_t gva)
{
	return (gva ^ gva >> 16) % ARRAY_LEN(((struct unicorn_code *)NULL)->known);
}

void unicorn_check_code(uc_engine *engine, struct unicorn_code *code, const uint8_t *bytes, uint32_t gva, uint32_t length, bool may_be_known)
{
	uint64_t hash = hash_bytes(bytes, length);
	uint32_t i = slot_of(gva);

	if (may_be_known && code->known[i].gva == gva && code->known[i].length >= length && code->known[i].hash == hash)
		return;
	unicorn_forget_code(engine, gva, (uint64_t)gva + length);
	code->known[i].gva = gva;
	code->known[i].length = length;
	code->known[i].hash = hash;
}

void unicorn_code_changed(struct unicorn_code *code, uint32_t gva, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++) code->known[slot_of(gva + i)].length = 0;
}
