#!/usr/bin/python3
"""Every instruction form that a boot translates is in the differential test: debian_forms.py MONITOR DIFFTEST. The monitor counts the
forms (--forms), the differential test says which it does not cover."""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from serial_guest import GuestError, find_guest, monitor_command  # noqa: E402
from tap import Tap  # noqa: E402

COMMAND = 'run=/bin/ps'
FEWEST_FORMS = 200


def check(tap, monitor, difftest, folder):
    forms = folder / 'forms'
    command = monitor_command(monitor, *find_guest(), append=COMMAND)
    result = subprocess.run(command + [f'--forms={forms}'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=300, text=True,
        errors='replace')
    good = result.returncode == 0 and 'guest: exit code 0' in result.stdout
    tap.report('the guest runs while forms are counted', None if good else f'exit code {result.returncode}',
        lines=result.stdout.splitlines()[-25:])
    count = len(forms.read_text().splitlines()) if forms.exists() else 0
    tap.report('it has many forms', None if count >= FEWEST_FORMS else f'{count} only')
    result = subprocess.run([difftest, '--covers', str(forms)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100)
    tap.report('the differential test covers each', None if result.returncode == 0 else 'it does not', lines=result.stdout.splitlines()[-25:])


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(tap, sys.argv[1], sys.argv[2], Path(folder))
        except (GuestError, subprocess.TimeoutExpired) as error:
            tap.report('a boot with its forms counted', error)
    tap.finish()


main()
