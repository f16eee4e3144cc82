"""tests/guests/ring0.c in a monitor, and ring0_native.c beside it."""

import re
import subprocess
from pathlib import Path

from .machine import kernel_command

GUESTS = Path(__file__).resolve().parent.parent.parent / 'tests/guests'
MEMORY = 64
LINE = re.compile(r'# ticks ([\d.]+) (.*)')


def build(folder):
    """(the kernel, the native program)."""
    subprocess.run(['/usr/bin/python3', GUESTS / 'build.py', folder, 'ring0'], check=True)
    native = folder / 'ring0_native'
    subprocess.run(['gcc', '-O1', '-mno-red-zone', '-o', native, GUESTS / 'ring0_native.c'], check=True)
    return folder / 'ring0', native


def parse(output):
    """Ticks by row, and the checks that failed."""
    lines = output.replace('\r', '').splitlines()
    ticks = {match[2]: float(match[1]) for match in map(LINE.fullmatch, lines) if match}
    return ticks, [line for line in lines if line.startswith('not ok')]


def run_natively(program):
    return parse(subprocess.run([program], stdout=subprocess.PIPE, text=True, timeout=120).stdout)


def run_guest(monitor, kernel):
    command = kernel_command(monitor, kernel, MEMORY, 'stdio')
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=300)
    return parse(done.stdout.decode(errors='replace'))
