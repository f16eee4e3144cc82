/* Unit tests in C, run by googletest.
 *
 *     TEST(suite, name) { CHECK(cond); CHECK_EQ(a, b); CHECK_STR(a, b); REQUIRE(cond); SKIP("why"); }
 *
 * CHECK_* note a failure and go on; REQUIRE_* also leave the test (the function they stand in). Both answer whether they held.
 */
#ifndef TESTS_SHIM_TEST_H
#define TESTS_SHIM_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct test_case {
	const char *suite, *name, *file;
	int line;
	void (*run)(void);
};

void test_register(struct test_case *test);

/* A test whose name and data are made at run time, one for each row of a table: call from a constructor function. */
void test_register_with(const char *suite, const char *name, void (*run)(void *data), void *data, const char *file, int line);

void test_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
void test_skip(const char *file, int line, const char *why);
/* Whether the running test has failed so far: loops over many cases stop on it. */
bool test_has_failed(void);

bool test_check(bool held, const char *what, const char *file, int line);
bool test_check_eq(uint64_t a, uint64_t b, const char *what, const char *file, int line);
bool test_check_str(const char *a, const char *b, const char *what, const char *file, int line);
bool test_check_mem(const void *a, const void *b, size_t size, const char *what, const char *file, int line);

#ifdef __cplusplus
}
#endif

#define TEST(suite_, name_) \
	static void test_##suite_##_##name_(void); \
	__attribute__((constructor)) static void test_register_##suite_##_##name_(void) \
	{ \
		static struct test_case test = { #suite_, #name_, __FILE__, __LINE__, test_##suite_##_##name_ }; \
		test_register(&test); \
	} \
	static void test_##suite_##_##name_(void)

#define CHECK(cond) test_check(!!(cond), #cond, __FILE__, __LINE__)
#define CHECK_EQ(a, b) test_check_eq((uint64_t)(a), (uint64_t)(b), #a " == " #b, __FILE__, __LINE__)
#define CHECK_STR(a, b) test_check_str(a, b, #a " == " #b, __FILE__, __LINE__)
#define CHECK_MEM(a, b, size) test_check_mem(a, b, size, #a " == " #b, __FILE__, __LINE__)

#define REQUIRE(cond) \
	do { \
		if (!CHECK(cond)) return; \
	} while (0)
#define REQUIRE_EQ(a, b) \
	do { \
		if (!CHECK_EQ(a, b)) return; \
	} while (0)

#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define SKIP(why) \
	do { \
		test_skip(__FILE__, __LINE__, why); \
		return; \
	} while (0)

#endif
