#!/usr/bin/python3
"""Where a return without a prediction has led to the middle of a function, the function becomes one block all the same: resumed_test.py BT_VMM IMAGE"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'system'))
from tap import Tap  # noqa: E402

VMM, IMAGE = sys.argv[1:3]
tap = Tap()
with tempfile.NamedTemporaryFile('r', errors='replace') as dump:
    result = subprocess.run([VMM, 'run', '--kernel', IMAGE, '--memory', '64M', '--serial', 'stdio', '--debug-exit', '--no-reboot', '--timeout', '60',
                             f'--dump={dump.name}'], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace')
    blocks = re.findall(r'^block at (\w+) .*: (\d+) instructions', dump.read(), re.M)
function = re.search(r'^# function (\w+)', result.stdout, re.M)
# A block of no instructions is another way into one: an interruption there makes it.
lengths = [int(count) for at, count in blocks if function and int(at, 16) == int(function[1], 16) and int(count)]
tap.report('the guest runs', None if result.returncode == 1 and function else result.stdout[-300:] + result.stderr[-300:])
tap.report('its function is one block', None if lengths == [4] else f'blocks of {lengths} instructions, not one of 4')
tap.finish()
