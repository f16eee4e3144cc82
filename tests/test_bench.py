#!/usr/bin/python3
"""tools/bench from outside, and what it makes of numbers; no time is judged: test_bench.py TOOLS-BENCH"""

import json
import subprocess
import sys
import tempfile
import xml.dom.minidom
from pathlib import Path

sys.dont_write_bytecode = True
TOOL = Path(sys.argv[1]).resolve()
sys.path.insert(0, str(TOOL.parent))
sys.path.insert(0, str(TOOL.parent.parent / 'tests/system'))
from benchmark import chart, ring0  # noqa: E402
from benchmark.report import Report  # noqa: E402
from benchmark.rows import GROUPS, select  # noqa: E402
from benchmark.samples import Samples  # noqa: E402
import guest_programs  # noqa: E402
from tap import Tap  # noqa: E402

tap = Tap()


def report(name, got, expected):
    tap.report(name, None if got == expected else f'got {got!r}, expected {expected!r}')


def run(*arguments):
    return subprocess.run(['/usr/bin/python3', TOOL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)


def samples():
    numbers = Samples()
    for row, native, ours, tcg in (('integer', [10], [11, 12, 10], [30]), ('chase', [10], [14], [20]), ('getppid', [1], [2], [3]),
                                   ('call and return', [4], [30], [60]), ('divide by zero', [9000], [9500], [1000]), ('first process', [], [900], [3000])):
        for who, values in (('native', native), ('bt-vmm', ours), ('tcg', tcg)):
            for value in values:
                numbers.add(row, who, value)
    numbers.add('memory (MiB)', 'bt-vmm', 65)
    return numbers


def check_lines():
    line = guest_programs.parse('program cold 1500 us, checksum 7, operations 300, paused us 20 ok', 1.5)
    report('a program\'s line', (line.name, line.microseconds, line.right, line.operations, line.paused), ('cold', 1500, True, 300, 20))
    line = guest_programs.parse('[  1.5] program sort 9 us, WRONG checksum 7, operations 1', 0)
    report('one of a wrong result', (line.name, line.right, line.paused), ('sort', False, 0))
    report('any other line', guest_programs.parse('guest: exit code 0', 0), None)
    ticks, failed = ring0.parse('ok calls\r\n# ticks 12.05 call and return\r\nnot ok faults: got 0x1\r\n# done, 1 failed\r\n')
    report('ticks', ticks, {'call and return': 12.05})
    report('a check that failed', failed, ['not ok faults: got 0x1'])


def check_selection():
    groups, unknown = select(['ring0', 'integer', 'page fault', 'nonsense'])
    report('words choose groups and rows', [(group.key, len(group.rows)) for group in groups], [('user', 1), ('ring0', len(GROUPS[4].rows))])
    report('an unknown word', unknown, ['nonsense'])
    report('no words choose all', select([])[0], GROUPS)
    names = [row.name for group in GROUPS for row in group.rows]
    report('no name twice, none with a comma', (len(names), [n for n in names if ',' in n]), (len(set(names)), []))


def check_report():
    table = Report(samples(), problems=['a problem'], rounds=3, host={'processor': 'P', 'processors': 2, 'kernel': 'K', 'date': 'D'})
    data = table.data()
    rows = {row['name']: row for row in data['rows']}
    report('rows that were not measured are left out', sorted(rows), sorted(samples().rows))
    report('medians', rows['integer']['medians'], {'native': 10, 'bt-vmm': 11, 'tcg': 30})
    report('ratios', (rows['integer']['ratios']['bt-vmm/native'], rows['first process']['ratios']['bt-vmm/native']), (1.1, None))
    missed = {(row, limit['against']) for row in rows for limit in rows[row]['limits'] if not limit['reached']}
    report('limits that are missed', missed, {('chase', 'native'), ('getppid', 'TCG'), ('divide by zero', 'TCG'), ('divide by zero', '2006'),
                                              ('memory (MiB)', 'aim')})
    report('the worst of them', table.worst()[0][1], 'divide by zero')
    report('a mark is beyond native', [limit['is'] for limit in rows['call and return']['limits'] if limit['against'] == '2006'], [26])
    report('geometric mean', round(data['geometric means']['user']['bt-vmm/native'], 4), round((1.1 * 1.4) ** 0.5, 4))
    text = '\n'.join(table.lines())
    report('the table has rows, problems and what is missed', all(word in text for word in ('first process', 'problem: a problem', '0.67 > 0.50 x TCG', '9500 > 3223')), True)
    return data


def check_files(data, folder):
    source, picture = folder / 'b.json', folder / 'b.svg'
    source.write_text(json.dumps(data))
    done = run('--from', source, '--json', '-')
    report('--from and --json - give back what --json wrote', json.loads(done.stdout), data)
    best = {row['name']: row['ratios'] for row in json.loads(run('--from', source, '--best', '--json', '-').stdout)['rows']}
    report('--best compares the least of the rounds', best['integer']['bt-vmm/native'], 1.0)
    done = run('--from', source, '--chart', picture)
    report('--chart ends well', done.returncode, 0)
    tree = xml.dom.minidom.parse(str(picture))
    words = [node.firstChild.data for node in tree.getElementsByTagName('text')]
    report('the chart names the rows with both monitors', [row['name'] in words for row in data['rows']],
           ['tcg' in row['medians'] for row in data['rows']])
    report('a bar of a slower row is red', picture.read_text().count(chart.SLOWER), 2)
    png = picture.with_suffix('.png')
    report('a PNG, or a sentence that names its package', png.is_file() and png.read_bytes()[:4] == b'\x89PNG' or 'librsvg2-bin' in done.stderr, True)


def check_refusals(folder):
    bad = folder / 'bad.json'
    bad.write_text('{"rows": 1}')
    for words, part in ((['--only', 'nonsense'], 'nonsense'), (['-n', '0'], 'at least one'), (['--monitor', '/nonexistent'], 'build it first'),
                        (['--chart', 'x.png'], '.svg'), (['--from', bad], 'no file that --json wrote'), (['--from', '/nonexistent'], '/nonexistent')):
        done = run(*words)
        good = done.returncode == 1 and part in done.stderr and len(done.stderr.strip().splitlines()) == 1 and not done.stdout
        report(f'{words[0]}: one sentence', good or done, True)


def main():
    check_lines()
    check_selection()
    data = check_report()
    with tempfile.TemporaryDirectory() as folder:
        check_files(data, Path(folder))
        check_refusals(Path(folder))
    tap.finish()


main()
