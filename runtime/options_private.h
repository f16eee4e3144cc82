/* What the parts of the command line's parser share. */
#ifndef RUNTIME_OPTIONS_PRIVATE_H
#define RUNTIME_OPTIONS_PRIVATE_H

#include "runtime/options.h"

struct parser {
	struct options *o;
	char *why;
	size_t why_size;
	const struct option_rule *rules; /* of this command */
	size_t rule_count;
	uint64_t seen; /* by index in rules */
};

enum value_kind { VALUE_NEVER, VALUE_OPTIONAL, VALUE_NEEDED };

/* --x=v and --x v; an optional value only with `=`, since the next word may be anything. */
struct option_rule {
	const char *name;
	enum value_kind value;
	bool repeatable;
	unsigned commands; /* FOR() each */
	const char *wants;
	int (*parse)(struct parser *p, const char *value);
};
#define FOR(command) (1u << COMMAND_##command)

/* Note a sentence and return EXIT_USAGE. */
int options_refuse(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* options_inspect.c: classify and translate. */
extern const struct option_rule options_inspect[];
extern const size_t options_inspect_count;
/* The word that is no option: the file. */
int options_inspect_file(struct parser *p, const char *word);
int options_inspect_check(struct parser *p);

#endif
