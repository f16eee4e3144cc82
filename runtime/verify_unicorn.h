/* Unicorn, loaded where --verify needs it. */
#ifndef RUNTIME_VERIFY_UNICORN_H
#define RUNTIME_VERIFY_UNICORN_H

#include <stdbool.h>
#include <unicorn/unicorn.h>

struct unicorn {
	__typeof__(&uc_open) open;
	__typeof__(&uc_close) close;
	__typeof__(&uc_ctl) ctl;
	__typeof__(&uc_emu_start) emu_start;
	__typeof__(&uc_emu_stop) emu_stop;
	__typeof__(&uc_hook_add) hook_add;
	__typeof__(&uc_mem_map_ptr) mem_map_ptr;
	__typeof__(&uc_reg_read) reg_read;
	__typeof__(&uc_reg_write) reg_write;
	__typeof__(&uc_strerror) strerror;
};
extern struct unicorn unicorn;

/* What it made of the bytes in [from, to). */
static inline void unicorn_forget_code(uc_engine *engine, uint64_t from, uint64_t to)
{
	unicorn.ctl(engine, UC_CTL_WRITE(UC_CTL_TB_REMOVE_CACHE, 2), from, to);
}

/* Unicorn keeps translations by address: the bytes that it made them of, by where they begin. */
struct unicorn_code {
	struct {
		uint32_t gva, length;
		uint64_t hash;
	} known[65536];
};

/* Have the translations of [gva, gva + length) dropped, unless `may_be_known` and they are of these bytes. */
void unicorn_check_code(uc_engine *engine, struct unicorn_code *code, const uint8_t *bytes, uint32_t gva, uint32_t length, bool may_be_known);
void unicorn_code_changed(struct unicorn_code *code, uint32_t gva, uint32_t length);

/* False, and why, if it is not there. */
bool unicorn_load(char *why, size_t why_size);

#endif
