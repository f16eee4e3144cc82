/* Branches, most of them predictable, as parsers have them: words, numbers and comments of a text are counted. */
#include "user.h"

enum { SIZE = 16 << 10, ROUNDS = 24 };

const char program_name[] = "branches";
const unsigned program_repetitions = 240;
const uint32_t program_checksum = 2537673575u;

static char text[SIZE];

struct counts {
	uint32_t words, numbers, comments, lines, value;
};

static char *put_word(char *at, uint32_t *x)
{
	static const char letters[] = "etaonrishdlfcmug";
	uint32_t length = 2 + (*x >> 20) % 9;
	for (uint32_t i = 0; i < length; i++) {
		*x = next_random(*x);
		*at++ = letters[*x >> 28];
	}
	return at;
}

static void make_text(void)
{
	uint32_t x = 5;
	char *at = text;
	while (at < text + SIZE - 32) {
		x = next_random(x);
		uint32_t kind = x >> 27;
		if (kind < 20) at = put_word(at, &x);
		else if (kind < 28) for (uint32_t i = 0, n = 1 + kind % 5; i < n; i++) *at++ = (char)('0' + (x >> (16 + i) & 7));
		else if (kind < 30) *at++ = '#';
		*at++ = kind % 4 ? ' ' : '\n';
	}
}

__attribute__((noinline)) static void parse(struct counts *c)
{
	for (const char *at = text; *at;) {
		if (*at == '\n') {
			c->lines++;
			at++;
		} else if (*at == ' ') {
			at++;
		} else if (*at == '#') {
			while (*at && *at != '\n') at++;
			c->comments++;
		} else if (*at >= '0' && *at <= '9') {
			uint32_t value = 0;
			while (*at >= '0' && *at <= '9') value = value * 10 + (uint32_t)(*at++ - '0');
			c->value += value;
			c->numbers++;
		} else {
			while (*at >= 'a' && *at <= 'z') at++;
			c->words++;
		}
	}
}

uint32_t program_run(void)
{
	struct counts c = { 0 };
	if (!text[0]) make_text();
	for (unsigned i = 0; i < ROUNDS; i++) parse(&c);
	return mix(mix(mix(mix(c.words, c.numbers), c.comments), c.lines), c.value);
}
