/* The command line: words that end with a zero byte or a newline. */
#include "fuzz.h"
#include "runtime/options.h"

#define WORDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *argv[WORDS_MAX + 1] = { (char *)"bt-vmm" }, why[4096] = "";
	struct options o;
	int argc = 1;
	memcpy(text, data, size);
	text[size] = '\0';
	for (size_t i = 0; i < size && argc < WORDS_MAX; i += strlen(text + i) + 1) {
		text[i + strcspn(text + i, "\n")] = '\0';
		argv[argc++] = text + i;
	}
	int code = options_parse(&o, argc, argv, why, sizeof(why));
	if (code != 0 && code != EXIT_USAGE) fuzz_finding("code %d", code);
	if (code && !*why) fuzz_finding("refused without a sentence");
	free(text);
	return 0;
}
