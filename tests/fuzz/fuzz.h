/* Fuzzing entry points: libFuzzer calls them with bytes that it makes up (-Dfuzz=true), driver.c with a corpus. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold and does not: a finding. */
__attribute__((noreturn, format(printf, 1, 2), unused)) static void fuzz_finding(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

/* These bytes as a file; the name is good until the next call. */
__attribute__((unused)) static const char *fuzz_file(const uint8_t *data, size_t size)
{
	static char name[32];
	static int fd = -1;
	if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) || (size && pwrite(fd, data, size, 0) != (ssize_t)size)) abort();
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return name;
}

/* One line that says something. */
__attribute__((unused)) static void fuzz_check_sentence(const char *why)
{
	if (!*why) fuzz_finding("refused without a sentence");
	if (strchr(why, '\n')) fuzz_finding("more than one line: %s", why);
}

#endif
