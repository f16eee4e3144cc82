#ifndef TESTS_DIFF_FORMS_H
#define TESTS_DIFF_FORMS_H

struct form_template {
	const char *name, *bytes, *options;
};
extern const struct form_template form_templates[];
extern const unsigned form_template_count;

#endif
