#!/usr/bin/python3
"""A whole boot never touches /dev/kvm: debian_no_kvm.py MONITOR. Every system call that names a file is traced and looked at."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from serial_guest import GuestError, find_guest, monitor_command  # noqa: E402
from tap import Tap  # noqa: E402


def trace(command, path):
    """Every thread and child, stopped only at the calls that matter."""
    strace = ['strace', '-f', '--seccomp-bpf', '-qq', '-e', 'trace=%file', '-e', 'signal=none', '-s', '4096', '-o', path]
    return subprocess.run(strace + command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=300, text=True, errors='replace')


def check(tap, monitor, folder):
    # The tracer itself must see what is looked for.
    trace(['sh', '-c', ': </dev/kvm'], folder / 'shell')
    seen = '/dev/kvm' in (folder / 'shell').read_text(errors='replace')
    tap.report('the trace shows an attempt to open /dev/kvm', None if seen else 'strace shows nothing')

    kernel, initrd = find_guest()
    result = trace(monitor_command(monitor, kernel, initrd, append='run=/bin/uname'), folder / 'monitor')
    good = result.returncode == 0 and 'guest: exit code 0' in result.stdout
    tap.report('the guest runs under strace', None if good else f'exit code {result.returncode}', lines=result.stdout.splitlines()[-25:])

    lines = (folder / 'monitor').read_text(errors='replace').splitlines()
    seen = any(kernel in line for line in lines)
    tap.report('the trace has the monitor\'s own files', None if seen else f'no {kernel} in {len(lines)} lines')
    kvm = [line for line in lines if '/dev/kvm' in line]
    tap.report('/dev/kvm is never named', 'it is' if kvm else None, lines=kvm)


def main():
    tap = Tap()
    if not shutil.which('strace'):
        tap.report('/dev/kvm is never named', skip='strace is not installed')
        tap.finish()
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(tap, sys.argv[1], Path(folder))
        except (GuestError, subprocess.TimeoutExpired) as error:
            tap.report('a boot under strace', error)
    tap.finish()


main()
