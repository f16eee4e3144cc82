/* bt-vmm classify and bt-vmm translate: any file is shown or refused with a sentence. The input's first byte chooses the options. */
#include "fuzz.h"
#include "runtime/inspect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static FILE *out;
	char why[8192] = "";
	if (!out) out = fopen("/dev/null", "w");
	if (size < 2) return 0;
	struct inspect_options o = { .file = fuzz_file(data + 1, size - 1), .raw = data[0] & 1, .bits = data[0] & 2 ? 16 : 32, .json = data[0] & 4,
		.all = data[0] & 8, .soft = data[0] & 16, .basic_blocks = data[0] & 32, .base = data[0] & 64 ? 0xFFFFF000 : 0,
		.color = data[0] & 128 ? COLOR_ALWAYS : COLOR_NEVER, .count = 4 };
	if (inspect_classify(&o, out, why, sizeof(why))) fuzz_check_sentence(why);
	why[0] = '\0';
	if (inspect_translate(&o, out, why, sizeof(why))) fuzz_check_sentence(why);
	return 0;
}
