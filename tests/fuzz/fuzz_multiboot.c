/* Multiboot kernels: a header is put in front of a quarter of them, with the flags and addresses that the input has there. */
#include "fuzz_boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 + 32) return 0;
	uint8_t *kernel = malloc(size - 1);
	memcpy(kernel, data + 1, size - 1);
	if (!(data[0] & 0x30)) {
		uint32_t magic = 0x1BADB002, flags, sum;
		memcpy(&flags, kernel + 4, 4);
		sum = 0 - magic - flags;
		memcpy(kernel, &magic, 4);
		memcpy(kernel + 8, &sum, 4);
	}
	fuzz_boot(data[0], kernel, size - 1);
	free(kernel);
	return 0;
}
