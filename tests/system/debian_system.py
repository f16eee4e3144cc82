#!/usr/bin/python3
"""Debian with systemd, from an initramfs, to its login prompt, through a session, and off again: debian_system.py MONITOR [OPTION...]"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / 'tools'))
from benchmark.login import System  # noqa: E402
from serial_guest import GuestError  # noqa: E402
from tap import Tap  # noqa: E402

SHELL = r'bash-[\d.]+# '


def log_in(guest):
    guest.type('root\r')
    guest.expect(SHELL, 120)
    guest.type("bind 'set enable-bracketed-paste off'; PS1='@''@ '; stty cols 400\r")
    guest.wait_for_prompt(60)


def cases(guest, system):
    """(name, what to do); each returns what is wrong, if anything."""
    yield 'boots to its login prompt', lambda: system.wait_for_login(guest) and None
    yield 'a session begins', lambda: log_in(guest)
    yield 'systemd is process 1', lambda: expect(guest, 'cat /proc/1/comm', 'systemd')
    yield 'all units that were asked for run', lambda: expect(guest, 'systemctl is-system-running --wait', 'running')
    yield 'the journal knows this boot', lambda: expect(guest, 'journalctl -b -o cat | grep -c "Reached target multi-user"', '1')
    yield 'a device that udev named', lambda: expect(guest, 'systemctl is-active dev-ttyS0.device', 'active')
    yield 'powers off', lambda: power_off(guest)


def expect(guest, line, wanted):
    got = guest.run(line, 120)
    return None if got == wanted else f'{line}: {got!r}, expected {wanted!r}'


def power_off(guest):
    guest.type('poweroff\r')
    code, _ = guest.wait_for_end(120)
    return f'exit code {code}' if code else None


def check(tap, monitor, options):
    system = System()
    guest = system.start(monitor, options)
    try:
        for name, run in cases(guest, system):
            problem = run()
            tap.report(name, problem)
            if problem:
                tap.note('\n'.join(guest.last_lines()))
    finally:
        guest.kill()


def main():
    tap = Tap()
    try:
        check(tap, sys.argv[1], sys.argv[2:])
    except GuestError as error:
        tap.report('a session', error)
    tap.finish()


main()
