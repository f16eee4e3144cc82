#!/usr/bin/python3
"""GNU Mach, a Multiboot kernel, up to the point where it misses its servers: gnumach_boot.py MONITOR. What it prints is compared with what it
prints on a PC of QEMU's that has as little in it."""

import datetime
import re
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
from serial_guest import ROOT, clean  # noqa: E402
from tap import Tap  # noqa: E402

MEMORY = 64
COMMAND_LINE = 'console=com0'
LAST_LINE = 'panic '
PATIENCE = 120
# What the two machines differ in: a BIOS with its own reserved memory and PCI services, and a floppy controller.
MACHINE = re.compile(r'biosmem: .*, reserved|vm_page: DIRECTMAP: pages:|pcibios_init|FDC 0|floppy0|RTC time is')
RTC_TIME = re.compile(r'RTC time is (\d+-\d\d-\d\d \d\d:\d\d:\d\d)')


def find_kernel():
    command = [ROOT / 'tools/debian-guest', 'gnumach']
    result = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def monitor_command(monitor, kernel):
    return [monitor, 'run', '--kernel', kernel, '--append', COMMAND_LINE, '--memory', f'{MEMORY}M', '--no-reboot', '--timeout', str(PATIENCE)]


def qemu_command(kernel):
    return ['qemu-system-i386', '-accel', 'tcg', '-machine', 'isapc', '-cpu', 'coreduo', '-nodefaults', '-vga', 'none', '-display', 'none', '-monitor', 'none',
            '-serial', 'stdio', '-no-reboot', '-m', str(MEMORY), '-kernel', kernel, '-append', COMMAND_LINE]


def run(command):
    """The lines up to the last one that is waited for."""
    lines = []
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors='replace')
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    for line in process.stdout:
        lines.append(clean(line).strip())
        if LAST_LINE in line:
            process.kill()
    process.wait()
    timer.cancel()
    return lines


def compare(tap, ours, theirs):
    def common(lines):
        return [line for line in lines if line and not MACHINE.match(line)]
    a, b = common(ours), common(theirs)
    different = [f'{x!r} there, {y!r} here' for x, y in zip(b, a) if x != y]
    error = None if a == b else f'{len(a)} lines here, {len(b)} there'
    tap.report('it prints what it prints there', error, lines=different)


def main():
    tap = Tap()
    kernel = find_kernel()
    if not kernel:
        tap.report('GNU Mach', skip='it cannot be fetched')
        tap.finish()
    ours = run(monitor_command(sys.argv[1], kernel))
    text = '\n'.join(ours)
    tap.report('its banner', None if 'GNU Mach 1.8' in text else 'is missing', lines=ours)
    tap.report('it misses its servers, as it should', None if 'No bootstrap code loaded' in text else 'it does not say so', lines=ours)
    time = RTC_TIME.search(text)
    behind = datetime.datetime.utcnow() - datetime.datetime.fromisoformat(time[1]) if time else datetime.timedelta.max
    tap.report('it read the clock', None if abs(behind.total_seconds()) < 2 * PATIENCE else f'{behind} behind')
    compare(tap, ours, run(qemu_command(kernel)))
    tap.finish()


main()
