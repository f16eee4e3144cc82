"""A monitor's own cost: until a guest's first instruction ends, and memory."""

import re
import struct
import subprocess
import threading
import time
from pathlib import Path

EXIT_PORT = 0xf4
MEMORY = 512
SMALL_MEMORY = 32
SAMPLE_SECONDS = 0.25


def instant_kernel():
    """A Multiboot ELF whose first instruction ends the run through the debug-exit port."""
    base, code = 0x100000, b'\xe6' + bytes([EXIT_PORT]) + b'\xeb\xfe'
    magic, flags = 0x1BADB002, 0
    header = struct.pack('<3I', magic, flags, -(magic + flags) & 0xffffffff)
    offset = 52 + 32
    body = header + code
    elf = b'\x7fELF\1\1\1' + bytes(9) + struct.pack('<HHIIIIIHHHHHH', 2, 3, 1, base + len(header), 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return elf + struct.pack('<8I', 1, offset, base, base, len(body), len(body), 7, 1) + body


def is_qemu(monitor):
    return Path(monitor).name.startswith('qemu')


def kernel_command(monitor, kernel, memory, serial):
    """A Multiboot kernel of ours, whose write to EXIT_PORT ends the run."""
    if is_qemu(monitor):
        return [monitor, '-display', 'none', '-monitor', 'none', '-m', str(memory), '-cpu', 'coreduo', '-accel', 'tcg', '-kernel', kernel, '-net', 'none',
                '-serial', serial, '-device', f'isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4']
    return [monitor, 'run', '--kernel', kernel, '--memory', f'{memory}M', f'--debug-exit={EXIT_PORT:#x}', '--serial', serial]


def first_instruction_ms(monitor, kernel, memory):
    """None where the guest did not end as it asked to."""
    command = kernel_command(monitor, kernel, memory, 'none')
    start = time.monotonic()
    code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60).returncode
    return 1000 * (time.monotonic() - start) if code & 1 else None


class MemoryWatch(threading.Thread):
    """Samples a monitor's memory until it ends. Guest memory and translated code are told from the rest by what maps them."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.overhead = self.page_tables = 0

    @staticmethod
    def is_left_out(permissions, size, name):
        guest = 'memfd:guest-ram' in name or size == MEMORY << 10
        code = '/dev/zero' in name or permissions.startswith('rwx')
        return guest or code

    def sample(self):
        overhead, left_out = 0, False
        for line in Path(f'/proc/{self.pid}/smaps').read_text().splitlines():
            if match := re.match(r'([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)', line):
                size = (int(match[2], 16) - int(match[1], 16)) >> 10
                left_out = self.is_left_out(match[3], size, match[4])
            elif line.startswith('Rss:') and not left_out:
                overhead += int(line.split()[1])
        tables = re.search(r'VmPTE:\s*(\d+)', Path(f'/proc/{self.pid}/status').read_text())
        self.overhead = max(self.overhead, overhead)
        self.page_tables = max(self.page_tables, int(tables[1]))

    def run(self):
        try:
            while True:
                self.sample()
                time.sleep(SAMPLE_SECONDS)
        except (OSError, TypeError):
            return  # The process has ended.
