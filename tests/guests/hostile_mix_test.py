#!/usr/bin/python3
"""The guest `hostile_mix` (or `hostile_mix_pae`) leaves the same of each of its random programs whatever form the monitor gives their code.

Usage: hostile_mix_test.py BT_VMM IMAGE [SEEDS [FIRST]]; prints TAP.

A program that takes long on a loaded machine is late: it is left out."""
import re
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'system'))
from tap import Tap  # noqa: E402

VMM, IMAGE = sys.argv[1:3]
SEEDS = int(sys.argv[3]) if len(sys.argv) > 3 else 2
FIRST = int(sys.argv[4]) if len(sys.argv) > 4 else 1
REFERENCE = 'one-instruction,all-soft'
FORMS = ['', 'all-direct', 'tiny-cache,kicks']
LEAST_COMPARED = 60
tap = Tap()


def run(seed, chaos):
    options = [f'--chaos={chaos}'] if chaos else []
    return subprocess.run([VMM, 'run', '--kernel', IMAGE, '--memory', '64M', '--serial', 'stdio', '--debug-exit', '--no-reboot', '--timeout', '200',
                           '--testdev', '--cpu=+smap', '--append', f'seed={seed}', *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace')


def results(done):
    """By the number of the case, but for those that were late."""
    return dict(re.findall(r'^# case (\d+): (?!late)(.*?)\r?$', done.stdout, re.M))


def compare(seed, expected, form):
    done = run(seed, form)
    here = results(done)
    both = sorted(here.keys() & expected.keys(), key=int)
    problem = '\n'.join(f'case {n}: {here[n]}, one instruction at a time: {expected[n]}' for n in both if here[n] != expected[n])
    if done.returncode not in (1, 3) or len(both) < LEAST_COMPARED:
        problem = f'exit code {done.returncode}, {len(both)} cases compared\n{done.stdout[-300:]}{done.stderr[-1000:]}'
    tap.report(f'seed {seed}, {form or "as usual"}: as one instruction at a time', problem)


for number in range(FIRST, FIRST + SEEDS):
    expected_results = results(run(number, REFERENCE))
    for each in FORMS:
        compare(number, expected_results, each)
tap.finish()
