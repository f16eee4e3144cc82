#!/usr/bin/python3
"""The numbers that tools/check prints: each kind of test run must be counted as what it was. Usage: test_counting.py RUN-TESTS"""

import importlib.machinery
import importlib.util
import sys
import tempfile
from pathlib import Path

GOOGLETEST_REPORT = '''<testsuites><testsuite name="s">
<testcase name="good" status="run" result="completed" classname="s"/>
<testcase name="bad" status="run" result="completed" classname="s"><failure message="m"/><failure message="n"/></testcase>
<testcase name="left_out" status="run" result="skipped" classname="s"><skipped message="why"/></testcase>
<testcase name="disabled" status="notrun" result="suppressed" classname="s"/>
</testsuite></testsuites>'''
GOOD_REPORT = '<testsuites><testsuite name="s"><testcase name="good" status="run" classname="s"/></testsuite></testsuites>'
TAP = '1..4\nok 1 - a\nnot ok 2 - b\n# not ok is only said here\nok 3 - c # SKIP why\nnot ok 4 - d # TODO later\nokay\n'

# What it is; protocol, result, standard output, googletest's report; passed, failed, skipped.
CASES = [
    ('googletest, each case', 'gtest', 'FAIL', '', GOOGLETEST_REPORT, (1, 1, 2)),
    ('googletest, crashed before its report', 'gtest', 'FAIL', '', None, (0, 1, 0)),
    ('googletest, all good but a bad exit (a leak)', 'gtest', 'FAIL', '', GOOD_REPORT, (1, 1, 0)),
    ('googletest, no case', 'gtest', 'OK', '', '<testsuites/>', (0, 1, 0)),
    ('TAP, each line', 'tap', 'FAIL', TAP, None, (1, 1, 2)),
    ('TAP, stopped halfway', 'tap', 'ERROR', '1..4\nok 1 - a\n', None, (1, 1, 0)),
    ('TAP, timeout', 'tap', 'TIMEOUT', None, None, (0, 1, 0)),
    ('TAP, nothing said', 'tap', 'OK', '', None, (0, 1, 0)),
    ('exit code, good', 'exitcode', 'OK', '', None, (1, 0, 0)),
    ('exit code, bad', 'exitcode', 'FAIL', '', None, (0, 1, 0)),
    ('exit code, skipped', 'exitcode', 'SKIP', '', None, (0, 0, 1)),
    ('exit code, timeout', 'exitcode', 'TIMEOUT', '', None, (0, 1, 0)),
]


def load(path):
    loader = importlib.machinery.SourceFileLoader('run_tests', path)
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_loader('run_tests', loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules['run_tests'] = module
    loader.exec_module(module)
    return module


def count(run_tests, protocol, result, output, report):
    counts = run_tests.Counts()
    with tempfile.TemporaryDirectory() as folder:
        if report:
            Path(folder, 'topic.xml').write_text(report)
        record = {'name': 'topic', 'result': result, 'stdout': output, 'returncode': 1}
        run_tests.count_test(Path(folder), 'topic', protocol, record, counts)
    return counts.passed, counts.failed, counts.skipped


def main():
    run_tests = load(sys.argv[1])
    failed = 0
    print(f'1..{len(CASES)}')
    for number, (what, *run, expected) in enumerate(CASES, 1):
        got = count(run_tests, *run)
        print(f"{'ok' if got == expected else 'not ok'} {number} - {what}: {expected}" + (f', not {got}' if got != expected else ''))
        failed += got != expected
    sys.exit(1 if failed else 0)


main()
