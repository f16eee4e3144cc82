#!/usr/bin/python3
"""The differential test finds an error that is planted, makes it as small as it goes, and says how to see it again; tools/difftest keeps
its log over sessions: planted_test.py DIFFTEST TOOL."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'system'))
from tap import Tap  # noqa: E402

DIFFTEST, TOOL = sys.argv[1:]
PLANTED = '0fcb'  # bswap ebx
SEEDS = '100000:20000'
tap = Tap()


def report(name, good, output=''):
    tap.report(name, None if good else '\n'.join(output.splitlines()[-40:]) or 'wrong')


def run(*arguments, **options):
    return subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200, **options)


def check_findings():
    result = run(DIFFTEST, '--random', SEEDS)
    report('nothing is found where nothing is planted', result.returncode == 0 and 'finding:' not in result.stdout, result.stdout)
    result = run(DIFFTEST, '--random', SEEDS, '--plant', PLANTED)
    replays = re.findall(r"replay: tools/difftest --replay '(.*)'", result.stdout)
    report('a planted error is found in random cases', result.returncode == 1 and len(replays) > 2, result.stdout)
    report('each finding comes down to the one instruction', set(replays) == {f'code={PLANTED}'}, '\n'.join(replays))
    result = run(DIFFTEST, '--form', 'bswap', '--unicorn', '0', '--plant', PLANTED)
    report('it is found in its form', result.returncode == 1 and 'not ok 1 - bswap' in result.stdout, result.stdout)
    result = run(DIFFTEST, '--replay', f'code={PLANTED}', '--plant', PLANTED)
    report('the replay shows it again', result.returncode == 1 and 'eax 00000008, processor 00000000' in result.stdout, result.stdout)
    result = run(DIFFTEST, '--replay', f'code={PLANTED}')
    report('and no longer when the error is gone', result.returncode == 0 and 'agree' in result.stdout, result.stdout)
    result = run(DIFFTEST, '--replay', 'code=zz')
    report('a replay of what is no case is refused', result.returncode == 2, result.stdout)


# Far pointers through 16-bit addresses, where nothing is mapped: past FFFFh the manual leaves the fault open, and so the judge does.
OPEN = 'code=67ff2c esi=fffb'
NOT_OPEN = {'a far pointer that ends with FFFFh': 'code=67ff2c esi=fffa', 'a near one past FFFFh': 'code=67ff24 esi=ffff', 'one of 32-bit addresses': 'code=ff2e esi=fffb'}


def check_what_is_open():
    result = run(DIFFTEST, '--plant', 'ff', '--replay', OPEN)
    report('a far pointer past FFFFh of 16-bit addresses is left open', result.returncode == 0 and 'agree' in result.stdout, result.stdout)
    for what, case in NOT_OPEN.items():
        result = run(DIFFTEST, '--plant', 'ff', '--replay', case)
        report(f'{what} is not', result.returncode == 1 and 'finding:' in result.stdout, result.stdout)


def check_log(folder):
    (folder / 'tests/diff').mkdir(parents=True)
    (folder / 'tests/diff/difftest').symlink_to(Path(DIFFTEST).resolve())
    log = folder / 'log'
    command = [TOOL, '--log', log, '--chunk', '5000', '--seconds', '0.5', '--jobs', '2']
    environment = {**os.environ, 'BUILD': str(folder)}
    result = run(*command, env=environment)
    first = log.read_text().splitlines() if log.exists() else []
    report('a session writes its ranges', result.returncode == 0 and len(first) >= 2, result.stdout)
    result = run(*command, env=environment)
    ranges = sorted(int(line.split()[1]) for line in log.read_text().splitlines())
    report('the next goes on behind them', ranges == list(range(0, 5000 * len(ranges), 5000)) and len(ranges) > len(first), log.read_text())
    summary = run(TOOL, '--log', log, '--summary', env=environment).stdout
    report('they add up', summary.startswith(f'{5000 * len(ranges)} cases in ') and summary.endswith(' 0 findings\n'), summary)
    result = run(*command, '--plant', PLANTED, env=environment)
    text = log.read_text()
    report('a finding ends the run with failure, and is in the log', result.returncode == 1 and f"'code={PLANTED}'" in text, result.stdout)
    summary = run(TOOL, '--log', log, '--summary', env=environment).stdout
    report('and in the sum', not summary.endswith(' 0 findings\n'), summary)
    result = run(*command, '--plant', 'cc', env=environment)
    cases, findings = map(int, re.search(r'this run: .* (\d+) cases .* (\d+) findings', result.stdout).groups())
    report('what is not run any more is not counted', findings >= 20 and cases < 5000, result.stdout)
    result = run(TOOL, '--replay', f'code={PLANTED}', '--plant', PLANTED, env=environment)
    report('the tool replays', result.returncode == 1 and 'eax 00000008, processor 00000000' in result.stdout, result.stdout)
    result = run(TOOL, '--replay', env=environment)
    report('and asks for a case', result.returncode == 2 and 'argument --replay: expected one argument' in result.stdout, result.stdout)


check_findings()
check_what_is_open()
with tempfile.TemporaryDirectory() as name:
    check_log(Path(name))
tap.finish()
