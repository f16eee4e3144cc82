#!/usr/bin/python3
"""Of the divide errors of one instruction only the first is a host signal: divide_test.py BT_VMM IMAGE, of the guest `ring0`."""
import json
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'system'))
from tap import Tap  # noqa: E402

vmm, image = sys.argv[1:]
tap = Tap()
done = subprocess.run([vmm, 'run', '--kernel', image, '--memory', '64M', '--serial', 'stdio', '--debug-exit', '--no-reboot', '--timeout', '90', '--stats=json'],
                      stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace')
tap.report('the guest ends well', done.returncode != 1 and f'exit code {done.returncode}\n{done.stdout[-500:]}{done.stderr[-500:]}')
stats = json.loads(done.stderr.splitlines()[-1])
raised, signals = stats['callouts']['raise'], stats['exits']['host_fault']
tap.report('divide errors are callouts', raised < 5000 and f'{raised} callouts')
tap.report('and not host signals', signals > 1000 and f'{signals} host faults')
tap.finish()
