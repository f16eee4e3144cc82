"""The programs of tests/guest-user: built, put on an initramfs, run one after the other in a guest that has nothing else to do."""

import dataclasses
import re
import subprocess
import threading
import time
from pathlib import Path

from serial_guest import ROOT, GuestError, find_guest, monitor_command

BUILD = ROOT / 'tests/guest-user/build'
RUN_ALL = 'run-programs'
FIRST_PROCESS = 'guest: first process'
LINE = re.compile(r'program (\S+) (\d+) us, (WRONG )?checksum (\d+), operations (\d+)(?:, paused us (\d+))?')


@dataclasses.dataclass
class Result:
    name: str
    microseconds: int
    right: bool
    checksum: int
    operations: int  # how many of what it measures, or how many repetitions
    paused: int  # microseconds that the program left out
    at: float  # when the line came, in seconds since the start


@dataclasses.dataclass
class Run:
    results: list
    first_process: float  # seconds since the start; None if it never came
    exit_code: int
    output: list


def build_programs(folder):
    """Paths of the programs, which have the names of their sources."""
    result = subprocess.run([BUILD, folder], stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise GuestError('the programs of tests/guest-user do not build')
    return [Path(line) for line in result.stdout.splitlines()]


def parse(line, at):
    match = LINE.search(line)
    return match and Result(match[1], int(match[2]), not match[3], int(match[4]), int(match[5]), int(match[6] or 0), at)


def run_natively(program, divisor=1):
    """None where this host runs no 32-bit programs."""
    try:
        output = subprocess.run([program, str(divisor)], stdout=subprocess.PIPE, text=True, timeout=60).stdout
    except OSError:
        return None
    return parse(output, 0)


class ProgramGuest:
    """Kernel, and an initramfs with the programs and a script, which runs all of them if no other is given, repeating less by the divisor."""

    def __init__(self, folder, programs, divisor=1, script=None, front=b''):
        """`front` is an archive, not compressed, that the guest has besides."""
        path = folder / RUN_ALL
        # Whole paths: busybox's shell takes its own applets first, and has a sort.
        path.write_text(script or '#!/bin/sh\n' + ''.join(f'/usr/bin/{program.name} {divisor}\n' for program in programs))
        options = [f'--add={path}' for path in [*programs, path]]
        self.kernel, self.initrd = find_guest(*options, f'--output={folder}/initrd.gz')
        if front:
            initrd = Path(self.initrd)
            initrd.write_bytes(front + initrd.read_bytes())

    def command(self, monitor, **how):
        """On a machine with other things to do timer ticks come late, and the kernel would take the TSC for wrong and measure by ticks."""
        return monitor_command(monitor, self.kernel, self.initrd, append=f'quiet tsc=reliable run=/usr/bin/{RUN_ALL}', **how)

    def run(self, monitor, limit=300, watch=None, **how):
        """`watch` is called with the process and each line, as they come."""
        start = time.monotonic()
        run = Run([], None, None, [])
        command = self.command(monitor, **how)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            timer = threading.Timer(limit, process.kill)
            timer.start()
            for raw in process.stdout:
                line, at = raw.decode(errors='replace').rstrip(), time.monotonic() - start
                run.output.append(line)
                if result := parse(line, at):
                    run.results.append(result)
                elif FIRST_PROCESS in line:
                    run.first_process = at
                if watch:
                    watch(process, line)
            timer.cancel()
        run.exit_code = process.returncode
        return run
