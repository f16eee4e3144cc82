/* The tree of calls and its picture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/profile_tree.h"
#include "tests/shim/test.h"

static char *draw(const struct profile_tree *t)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	profile_svg_write(t, "a < b & \"c\"", out);
	fclose(out);
	return text;
}

static unsigned count(const char *text, const char *word)
{
	unsigned n = 0;
	for (; (text = strstr(text, word)); text += strlen(word)) n++;
	return n;
}

TEST(profile, samples_are_added_up)
{
	struct profile_tree *t = profile_tree_create();
	REQUIRE(t);
	uint32_t kernel = profile_tree_child(t, PROFILE_ROOT, "kernel", FRAME_KERNEL), f = profile_tree_child(t, kernel, "f", FRAME_KERNEL);
	uint32_t monitor = profile_tree_child(t, f, "(translator)", FRAME_MONITOR);
	CHECK_EQ(profile_tree_child(t, kernel, "f", FRAME_KERNEL), f);
	CHECK(profile_tree_child(t, PROFILE_ROOT, "f", FRAME_KERNEL) != f && profile_tree_child(t, kernel, "f", FRAME_UNKNOWN) != f);
	profile_tree_count(t, f, 3);
	profile_tree_count(t, monitor, 2);
	CHECK_EQ(profile_tree_samples(t), 5);
	CHECK_EQ(profile_tree_samples_of(t, FRAME_MONITOR), 2);
	CHECK(profile_tree_node(t, f)->self == 3 && profile_tree_node(t, f)->total == 5 && profile_tree_node(t, kernel)->total == 5);
	profile_tree_free(t);
}

TEST(profile, picture_has_every_frame_wide_enough)
{
	struct profile_tree *t = profile_tree_create();
	REQUIRE(t);
	uint32_t user = profile_tree_child(t, PROFILE_ROOT, "user", FRAME_USER);
	profile_tree_count(t, profile_tree_child(t, user, "operator<&\"x\"", FRAME_USER), 99998);
	profile_tree_count(t, profile_tree_child(t, user, "too_rare", FRAME_USER), 1);
	profile_tree_count(t, profile_tree_child(t, user, "a\nb", FRAME_USER), 10000);
	char *svg = draw(t), *again = draw(t);
	CHECK_STR(svg, again);
	CHECK(!strncmp(svg, "<?xml", 5) && !strcmp(svg + strlen(svg) - 7, "</svg>\n"));
	CHECK(strstr(svg, "a &lt; b &amp; &quot;c&quot;") && strstr(svg, "operator&lt;&amp;&quot;x&quot;") && strstr(svg, "a?b"));
	CHECK(!strstr(svg, "too_rare") && !strstr(svg, "operator<"));
	CHECK_EQ(count(svg, "<g class=\"f\""), 4);
	CHECK_EQ(count(svg, "<g "), count(svg, "</g>"));
	CHECK(strstr(svg, "all (109999 samples, 100.00%)"));
	CHECK(!strstr(svg, "http://") || count(svg, "http") == 1); /* the name space alone: nothing is fetched */
	free(svg);
	free(again);
	profile_tree_free(t);
}

TEST(profile, nothing_met_is_a_picture_too)
{
	struct profile_tree *t = profile_tree_create();
	REQUIRE(t);
	char *svg = draw(t);
	CHECK(strstr(svg, "</svg>") && !strstr(svg, "nan"));
	free(svg);
	profile_tree_free(t);
}

/* A guest that calls from ever new places costs bounded memory; what it does is still counted. */
TEST(profile, memory_is_bounded)
{
	struct profile_tree *t = profile_tree_create();
	REQUIRE(t);
	char name[32];
	for (unsigned i = 0; i < 300000; i++) {
		snprintf(name, sizeof(name), "0x%08x", i);
		profile_tree_count(t, profile_tree_child(t, PROFILE_ROOT, name, FRAME_UNKNOWN), 1);
	}
	CHECK_EQ(profile_tree_samples(t), 300000);
	CHECK(profile_tree_node(t, PROFILE_ROOT)->self > 30000);
	profile_tree_free(t);
}

TEST(profile, deep_stacks)
{
	struct profile_tree *t = profile_tree_create();
	REQUIRE(t);
	uint32_t node = PROFILE_ROOT;
	for (unsigned i = 0; i < 5000; i++) node = profile_tree_child(t, node, "again", FRAME_USER);
	profile_tree_count(t, node, 7);
	char *svg = draw(t);
	CHECK(count(svg, "<g ") > 128 && count(svg, "<g ") < 1000);
	free(svg);
	profile_tree_free(t);
}
