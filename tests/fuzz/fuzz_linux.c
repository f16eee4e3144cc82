/* bzImages: the two magic numbers are put in, so that every input is one. */
#include "fuzz_boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 + 0x210) return 0;
	uint8_t *kernel = malloc(size - 1);
	memcpy(kernel, data + 1, size - 1);
	memcpy(kernel + 0x1FE, "\x55\xAA", 2);
	memcpy(kernel + 0x202, "HdrS", 4);
	fuzz_boot(data[0], kernel, size - 1);
	free(kernel);
	return 0;
}
