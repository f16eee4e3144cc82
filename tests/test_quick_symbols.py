#!/usr/bin/python3
"""What quick callouts run (runtime/quick.c) finds the guest's XMM registers live: test_quick_symbols.py LIBRARY looks into its objects.
They name no XMM register, and call nothing but each other, entry.S, and the functions below, which are never reached while vcpu.quick is set."""

import re
import subprocess
import sys

# Each is behind vcpu.quick, or only for what a quick callout does not do: breakpoints, ports, UMIP, an exception's delivery, the log.
ALLOWED = {
    'callout_table', 'cpu_task_return', 'cpu_task_switch', 'cpu_umip_allows', 'debug_data_hits', 'debug_port_hits', 'entry_lookup', 'entry_lookup_shared',
    'entry_lookup_slow', 'entry_site',
    'log_levels', 'log_write', 'memory_page_slow', 'memory_probe_write_slow', 'memory_read_slow', 'memory_write_slow', 'runtime_io_read', 'runtime_io_write', '_GLOBAL_OFFSET_TABLE_',
}
# What a compiler with sanitizers or coverage adds; such builds run no guest code that this matters to.
INSTRUMENTATION = re.compile(r'__(asan|ubsan|tsan|sanitizer|gcov|llvm|start___sanc|stop___sanc)')


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def symbols(path):
    """(defined, undefined)"""
    lines = [line.split() for line in output('nm', path).splitlines()]
    return {words[2] for words in lines if len(words) == 3}, {words[1] for words in lines if len(words) == 2}


def main(library):
    defined, undefined = symbols(library)
    foreign = sorted(name for name in undefined - defined - ALLOWED if not INSTRUMENTATION.match(name))
    vectors = re.findall(r'.*%[xyz]mm\d.*', output('objdump', '-d', library))
    print('1..3')
    for number, (text, good, bad) in enumerate([
            ('there is something to look at', 'quick_callout' in defined and 'memory_read_slow' in undefined, []),
            ('nothing foreign is called', not foreign, foreign), ('no vector register', not vectors, vectors)], 1):
        print(('' if good else 'not ') + f'ok {number} - {text}')
        for line in bad:
            print(f'# {line}')
    return bool(foreign or vectors)


sys.exit(main(sys.argv[1]))
