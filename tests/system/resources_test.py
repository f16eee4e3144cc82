#!/usr/bin/python3
"""What hostile guests can make the process use, seen from outside while they run (docs/threat-model.md): resources_test.py BT_VMM IMAGES"""
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
from tap import Tap  # noqa: E402

MIB = 1 << 20
MEMORY, CODE = 64 * MIB, 32 * MIB # --memory and --tc-size
SIDE_TABLES, FRAMES, LOOKUPS, WINDOWS, SOFT_TABLES, SOFT_BITS, REST = 6 * CODE, 50 * MIB, 65 * 19 * MIB // 10, 17 * 5 * MIB, 160 * MIB, MEMORY // 8, 64 * MIB
MOST_MEMORY = MEMORY + CODE + SIDE_TABLES + FRAMES + LOOKUPS + WINDOWS + SOFT_TABLES + SOFT_BITS + REST
MOST_MAPPINGS = 40000 + 1000
GUESTS = {'hostile_resources': 300, 'hostile_tables': 300}
VMM, IMAGES = str(Path(sys.argv[1]).resolve()), Path(sys.argv[2]).resolve()
tap = Tap()


class Peaks:
    """The most of each that was seen once the guest may run, and what there was of some at first."""

    def __init__(self):
        self.samples = self.memory = self.mappings = self.threads = self.first_threads = self.descriptors = self.first_descriptors = 0
        self.children = ''

    def look(self, process):
        status = (process / 'status').read_text()
        if not re.search(r'^Seccomp:\s*2', status, re.M):
            return
        self.samples += 1
        # What is mapped at several addresses is there once.
        memory = re.search(r'^Pss:\s*(\d+)', (process / 'smaps_rollup').read_text(), re.M)
        self.memory = max(self.memory, int(memory[1]) * 1024)
        threads = int(re.search(r'^Threads:\s*(\d+)', status, re.M)[1])
        self.first_threads = self.first_threads or threads
        self.threads = max(self.threads, threads)
        descriptors = len(list((process / 'fd').iterdir()))
        self.first_descriptors = self.first_descriptors or descriptors
        self.descriptors = max(self.descriptors, descriptors)
        self.children += ''.join(path.read_text() for path in (process / 'task').glob('*/children'))
        self.mappings = max(self.mappings, (process / 'maps').read_bytes().count(b'\n'))


def run(name, limit, home):
    """The guest in an empty folder that is all the places where a program might leave something."""
    peaks, places = Peaks(), {key: str(home) for key in ('HOME', 'TMPDIR', 'XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'XDG_STATE_HOME', 'XDG_RUNTIME_DIR')}
    vmm = subprocess.Popen([VMM, 'run', '--kernel', str(IMAGES / name), '--memory', f'{MEMORY // MIB}M', '--tc-size', f'{CODE // MIB}M', '--serial', 'stdio',
                            '--debug-exit', '--no-reboot', '--timeout', str(limit)],
                           cwd=home, env=os.environ | places, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.set_blocking(vmm.stdout.fileno(), False)
    output = b''
    while vmm.poll() is None:
        output += vmm.stdout.read() or b''
        try:
            peaks.look(Path(f'/proc/{vmm.pid}'))
        except (FileNotFoundError, ProcessLookupError, TypeError):
            pass # it ended meanwhile
        time.sleep(0.1)
    return peaks, vmm.returncode, (output + (vmm.stdout.read() or b'')).decode(errors='replace')


def check(name, limit):
    with tempfile.TemporaryDirectory() as folder:
        peaks, code, output = run(name, limit, Path(folder))
        left = os.listdir(folder)
    tap.note(f'{name}: {peaks.samples} looks, {peaks.memory // MIB} MiB, {peaks.mappings} mappings, {peaks.threads} threads')
    tap.report(f'{name}: ran to its end', code != 1 and f'exit code {code}\n{output[-500:]}')
    tap.report(f'{name}: was looked at', not peaks.samples and 'it was never seen running')
    tap.report(f'{name}: memory within {MOST_MEMORY // MIB} MiB', peaks.memory > MOST_MEMORY and f'{peaks.memory // MIB} MiB')
    tap.report(f'{name}: mappings within {MOST_MAPPINGS}', peaks.mappings > MOST_MAPPINGS and f'{peaks.mappings}')
    tap.report(f'{name}: no descriptor opened', peaks.descriptors > peaks.first_descriptors and f'{peaks.first_descriptors}, then {peaks.descriptors}')
    tap.report(f'{name}: no thread started', peaks.threads > peaks.first_threads and f'{peaks.first_threads}, then {peaks.threads}')
    tap.report(f'{name}: no process started', peaks.children.strip())
    tap.report(f'{name}: no file left', left)


for guest, seconds in GUESTS.items():
    check(guest, seconds)
tap.finish()
