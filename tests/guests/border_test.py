#!/usr/bin/python3
"""The guests `border`, `branches`, `copies`, `shadow` and `thunks` leave the same digests of all their cases whether callouts are answered at the monitor's border, by SYSENTER's own code and
through the inline lookup, or each by the dispatcher (--chaos=no-chain): border_test.py BT_VMM IMAGE [SEEDS]"""
import json
import re
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'system'))
from tap import Tap  # noqa: E402

# Those of runtime/quick.c.
AT_THE_BORDER = {
    'border': {'pushf', 'popf', 'cli', 'sti', 'int_n', 'iret', 'call_far', 'jmp_far', 'ret_far', 'mov_to_seg', 'mov_from_seg', 'pop_seg', 'load_far_ptr', 'lar', 'lsl',
               'verr', 'verw', 'sysenter', 'sysexit', 'check_segment', 'raise'},
    'branches': {'int_n', 'iret', 'pop_seg'},
    'copies': {'int_n', 'iret', 'popf'},
    'thunks': {'int_n', 'iret'},
    'shadow': {'popf', 'cli', 'sti', 'iret', 'mov_to_seg', 'pop_seg', 'sysenter', 'sysexit'},
}
VMM, IMAGE = sys.argv[1:3]
SEEDS = int(sys.argv[3]) if len(sys.argv) > 3 else 2
tap = Tap()


def run(seed, *options):
    return subprocess.run([VMM, 'run', '--kernel', IMAGE, '--memory', '64M', '--serial', 'stdio', '--debug-exit', '--no-reboot', '--timeout', '250',
                           '--append', f'seed={seed}', *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace')


def digests(result):
    """By the number of the first case of each line."""
    return dict(re.findall(r'^# case (\d+): (.*?)\r?$', result.stdout, re.M))


def compare(seed):
    quick, slow = run(seed), run(seed, '--chaos=no-chain')
    here, there = digests(quick), digests(slow)
    problem = None
    if quick.returncode != 1 or slow.returncode != 1 or len(here) < 50:
        problem = f'exit codes {quick.returncode}, {slow.returncode}, {len(here)} lines\n{quick.stdout[-300:]}{quick.stderr[-1000:]}{slow.stderr[-1000:]}'
    elif here != there:
        problem = '\n'.join(f'cases from {n}: {here.get(n)}\n{" " * len(n)} without:  {there.get(n)}' for n in sorted(here | there, key=int)
                            if here.get(n) != there.get(n))
    tap.report(f'seed {seed}: the same with and without quick ways', problem)


def check_coverage():
    stats = json.loads(run(1, '--stats=json').stderr)
    seen = {place['callout'] for place in stats['top_callouts'] if place.get('border')}
    run_at_all = {name for name, count in stats['callouts'].items() if count}
    missing = AT_THE_BORDER[Path(IMAGE).name] - run_at_all
    tap.report('the guest has every callout that is answered there', missing and f'not run: {sorted(missing)}')
    tap.report('and they are', not seen and 'none is counted at the border')
    if Path(IMAGE).name == 'branches':
        tap.report('branches went by where they read their targets', stats['jump_site_fills'] < 10000 and f"{stats['jump_site_fills']} slots were filled for them")
        tap.report('and some met in a slot', stats['jump_slots_shared'] < 100 and f"{stats['jump_slots_shared']} slots are shared")
    if Path(IMAGE).name == 'copies':
        tap.report('code was copied', stats['blocks_copied'] < 2000 and f"{stats['blocks_copied']} blocks")
    if Path(IMAGE).name == 'thunks':
        tap.report('calls were done in place', not stats.get('guard_misses') and 'none found another thunk than it was made for')


for number in range(1, SEEDS + 1):
    compare(number)
check_coverage()
tap.finish()
