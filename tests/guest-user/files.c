/* Files that are created in memory, closed and unlinked. */
#include "user.h"

enum { FILES = 2000, CREATE_NEW_READ_WRITE = 0302 };

const char program_name[] = "files";
const unsigned program_repetitions = 10;
const uint32_t program_checksum = FILES;
const uint32_t program_operations = FILES;

static char path[] = "/dev/shm/bt-vmm-bench-00000000";

static void set_digits(char *end, uint32_t number)
{
	for (int i = 0; i < 8; i++, number >>= 4) *--end = "0123456789abcdef"[number & 15];
}

/* Where there is no /dev/shm, /tmp is it: the guest's is in memory. */
static const char *name_file(void)
{
	static const char fallback[] = "/tmp/";
	set_digits(path + sizeof path - 1, (uint32_t)user_call_kernel(SYS_GETPID, 0, 0, 0));
	int folder = user_call_kernel(SYS_OPEN, (uintptr_t) "/dev/shm", 0, 0);
	if (folder >= 0) {
		user_call_kernel(SYS_CLOSE, (uintptr_t)folder, 0, 0);
		return path;
	}
	char *start = path + sizeof "/dev/shm/" - sizeof fallback;
	for (unsigned i = 0; i < sizeof fallback - 1; i++) start[i] = fallback[i];
	return start;
}

uint32_t program_run(void)
{
	static const char *name;
	if (!name) name = name_file();
	for (uint32_t i = 0; i < FILES; i++) {
		int file = user_call_kernel(SYS_OPEN, (uintptr_t)name, CREATE_NEW_READ_WRITE, 0600);
		if (file < 0 || user_call_kernel(SYS_CLOSE, (uintptr_t)file, 0, 0) || user_call_kernel(SYS_UNLINK, (uintptr_t)name, 0, 0)) return i;
	}
	return FILES;
}
