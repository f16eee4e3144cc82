// The C side registers tests from constructor functions, which may run before googletest's own: they are only kept in a list
// then, and handed over by main().
#include "tests/shim/test.h"

#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace {

struct registration {
	const char *suite, *name, *file;
	int line;
	std::function<void()> run;
};

std::vector<registration> &registrations()
{
	static std::vector<registration> all;
	return all;
}

class CTest : public testing::Test {
public:
	explicit CTest(std::function<void()> run) : run_(std::move(run)) {}
	void TestBody() override { run_(); }

private:
	std::function<void()> run_;
};

std::string hex_dump(const void *data, size_t size)
{
	std::string text;
	char byte[4];
	for (size_t i = 0; i < size && i < 64; i++) {
		snprintf(byte, sizeof(byte), " %02x", static_cast<const uint8_t *>(data)[i]);
		text += byte;
	}
	return text + (size > 64 ? " ..." : "");
}

} // namespace

void test_register(struct test_case *test)
{
	registrations().push_back({ test->suite, test->name, test->file, test->line, test->run });
}

void test_register_with(const char *suite, const char *name, void (*run)(void *), void *data, const char *file, int line)
{
	registrations().push_back({ strdup(suite), strdup(name), file, line, [=] { run(data); } });
}

void test_fail(const char *file, int line, const char *format, ...)
{
	char text[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ADD_FAILURE_AT(file, line) << text;
}

void test_skip(const char *file, int line, const char *why)
{
	GTEST_MESSAGE_AT_(file, line, why, testing::TestPartResult::kSkip);
}

bool test_has_failed(void)
{
	return testing::Test::HasFailure();
}

bool test_check(bool held, const char *what, const char *file, int line)
{
	if (!held) test_fail(file, line, "%s", what);
	return held;
}

bool test_check_eq(uint64_t a, uint64_t b, const char *what, const char *file, int line)
{
	if (a != b) {
		test_fail(file, line, "%s: %" PRId64 " (0x%" PRIx64 ") is not %" PRId64 " (0x%" PRIx64 ")", what, a, a, b, b);
	}
	return a == b;
}

bool test_check_str(const char *a, const char *b, const char *what, const char *file, int line)
{
	bool held = a && b ? !strcmp(a, b) : a == b;
	if (!held) test_fail(file, line, "%s: \"%s\" is not \"%s\"", what, a ? a : "(null)", b ? b : "(null)");
	return held;
}

bool test_check_mem(const void *a, const void *b, size_t size, const char *what, const char *file, int line)
{
	bool held = !memcmp(a, b, size);
	if (!held) ADD_FAILURE_AT(file, line) << what << ":\n " << hex_dump(a, size) << "\n " << hex_dump(b, size);
	return held;
}

int main(int argc, char **argv)
{
	testing::InitGoogleTest(&argc, argv);
	for (const registration &r : registrations()) {
		testing::RegisterTest(r.suite, r.name, nullptr, nullptr, r.file, r.line, [&r] { return new CTest(r.run); });
	}
	return RUN_ALL_TESTS();
}
