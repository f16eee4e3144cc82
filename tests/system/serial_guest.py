"""A Debian guest on a pseudo-terminal: starts a monitor (bt-vmm, or qemu-system-i386 to check the tests), types at its serial line."""

import os
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pexpect

ROOT = Path(__file__).resolve().parent.parent.parent
KERNEL_COMMAND_LINE = 'console=ttyS0 panic=-1'
FIRST_PROMPT = r'guest:\S+# '
# The guest's shell gets a prompt that no echo of a command holds: it is typed in two pieces.
PROMPT = '@@ '
SET_PROMPT = "PS1='@''@ '; stty cols 400; dmesg -n 1"
CONTROL_SEQUENCE = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]')
CTRL_A = '\x01'
CTRL_C = '\x03'
CTRL_Z = '\x1a'
ESCAPE = '\x1b'


class GuestError(Exception):
    """The guest did not do what it was expected to."""


def find_guest(*options):
    """Kernel and initrd; fetched by the first test that needs them."""
    return find_files('all', *options)


def find_files(what, *options):
    command = [ROOT / 'tools/debian-guest', what, *options]
    result = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    if result.returncode:
        raise GuestError('tools/debian-guest could not get the guest')
    return result.stdout.splitlines()


def monitor_command(monitor, kernel, initrd, *, append='', reboot=False, memory=512, options=()):
    """The command that boots the guest: `monitor` is a path, maybe with words before it, such as strace's."""
    words = shlex.split(monitor)
    append = f'{KERNEL_COMMAND_LINE} {append}'.strip()
    if Path(words[-1]).name.startswith('qemu-system'):
        words += ['-nographic', '-m', str(memory), '-cpu', 'coreduo', '-accel', 'tcg', '-kernel', kernel, '-initrd', initrd,
                  '-append', append]
        return words + ([] if reboot else ['-no-reboot'])
    words += ['run', '--kernel', kernel, '--initrd', initrd, '--append', append, '--memory', f'{memory}M', *options]
    return words + ([] if reboot else ['--no-reboot'])


def new_terminal_settings():
    """A terminal's before anybody has changed them: that of a monitor may be raw already by the time that it is asked."""
    ends = os.openpty()
    settings = termios.tcgetattr(ends[0])
    for end in ends:
        os.close(end)
    return settings


class Guest:
    def __init__(self, command, patience=1.0):
        """`patience` multiplies every time limit."""
        self.patience = patience
        self.started = time.monotonic()
        self.transcript = []
        self.process = pexpect.spawn(command[0], command[1:], encoding='utf-8', codec_errors='replace', dimensions=(24, 80),
                                     timeout=30 * patience)
        self.process.logfile_read = self

    # What pexpect wants of a log file.
    def write(self, text):
        self.transcript.append(text)

    def flush(self):
        pass

    @property
    def pid(self):
        return self.process.pid

    def expect(self, pattern, timeout=30):
        try:
            self.process.expect(pattern, timeout=timeout * self.patience)
        except pexpect.TIMEOUT as error:
            raise GuestError(f'no {pattern!r} within {timeout * self.patience:.0f} s') from error
        except pexpect.EOF as error:
            raise GuestError(f'the monitor ended while {pattern!r} was awaited; exit code {self.exit_code()}') from error
        return clean(self.process.before)

    def type(self, text):
        self.process.send(text)

    def wait_for_prompt(self, timeout=30):
        return self.expect(re.escape(PROMPT), timeout)

    def boot(self, timeout=120):
        """Up to the shell's prompt; the seconds that took."""
        self.expect(FIRST_PROMPT, timeout)
        seconds = self.seconds_since_start()
        self.run(SET_PROMPT)
        return seconds

    def seconds_since_start(self):
        return time.monotonic() - self.started

    def run(self, line, timeout=30):
        """Type a line; what it prints, without the echo of the line."""
        self.type(line + '\r')
        text = self.wait_for_prompt(timeout)
        return text.split('\n', 1)[1].strip() if '\n' in text else ''

    def recover(self):
        """Back to a prompt after a case that went wrong."""
        for keys in (CTRL_C, ESCAPE + ':q!\r', CTRL_C):
            self.type(keys + '\r')
            time.sleep(0.5)
        # The shell may be a new one. The mark is typed in two pieces too, so that its echo is not taken for the answer.
        mark = f'{time.monotonic_ns()}'
        self.type(f"stty sane; {SET_PROMPT}; cd; echo mark''{mark}\r")
        self.expect(f'mark{mark}')
        self.wait_for_prompt()

    def exit_code(self):
        """Of the ended monitor; 128 + N for a signal."""
        self.process.close()
        if self.process.signalstatus is not None:
            return 128 + self.process.signalstatus
        return self.process.exitstatus

    def wait_for_end(self, timeout=60):
        """The exit code, and whether the terminal is as it was before."""
        try:
            self.process.expect(pexpect.EOF, timeout=timeout * self.patience)
        except pexpect.TIMEOUT as error:
            raise GuestError(f'the monitor did not end within {timeout * self.patience:.0f} s') from error
        restored = termios.tcgetattr(self.process.child_fd) == new_terminal_settings()
        return self.exit_code(), restored

    def kill(self):
        if self.process.isalive():
            self.process.kill(signal.SIGKILL)
            self.process.wait()
        self.process.close()

    def processor_seconds(self):
        """User and system time of the monitor so far, all its threads."""
        fields = Path(f'/proc/{self.pid}/stat').read_text().rsplit(') ', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def last_lines(self, count=25):
        return clean(''.join(self.transcript)).splitlines()[-count:]


def clean(text):
    return CONTROL_SEQUENCE.sub('', text).replace('\r', '').replace('\0', '')
