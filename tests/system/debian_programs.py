#!/usr/bin/python3
"""The programs of tests/guest-user compute in the guest what they compute natively: debian_programs.py MONITOR [OPTION...]"""

import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from guest_programs import ProgramGuest, build_programs  # noqa: E402
from serial_guest import GuestError  # noqa: E402
from tap import Tap  # noqa: E402


def check(tap, monitor, options, folder):
    programs = build_programs(folder / 'programs')
    run = ProgramGuest(folder, programs).run(monitor, options=options)
    results = {result.name: result for result in run.results}
    for program in programs:
        result = results.get(program.name)
        if result is None:
            tap.report(program.name, 'printed nothing')
        else:
            tap.report(program.name, None if result.right else 'wrong checksum')
            tap.note(f'{result.microseconds / 1000:.0f} ms')
    good = run.exit_code == 0 and len(results) == len(programs)
    tap.report('the guest runs all and powers off', None if good else f'exit code {run.exit_code}', lines=run.output[-25:])


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(tap, sys.argv[1], sys.argv[2:], Path(folder))
        except GuestError as error:
            tap.report('a guest with programs', error)
    tap.finish()


main()
