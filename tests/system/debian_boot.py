#!/usr/bin/python3
"""Boot Debian's kernel to a shell, type at it, check the answers: debian_boot.py [options] MONITOR

MONITOR is bt-vmm, or qemu-system-i386 to check the tests themselves; words may stand before it ("strace -f build/bt-vmm").
Without an option: every case of debian_cases.py in one guest, poweroff, reboot, the keys of the terminal, input that ends."""

import argparse
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from debian_cases import CASES, named  # noqa: E402
from serial_guest import CTRL_A, FIRST_PROMPT, Guest, GuestError, find_guest, monitor_command  # noqa: E402
from tap import Tap  # noqa: E402

IDLE_LIMIT_PERCENT = 2
# What a guest is asked when there is little time, or no other guest was there before it to have done it.
SHORT_CASES = ['processor', 'processes', 'pipes', 'forks', 'floating_point', 'interrupt_key']


class Session:
    def __init__(self, arguments):
        self.arguments = arguments
        self.tap = Tap()
        self.kernel, self.initrd = find_guest(*['--pae'] * arguments.pae)

    def command(self, **how):
        options = [f'--chaos={self.arguments.chaos}'] if self.arguments.chaos else []
        return monitor_command(self.arguments.monitor, self.kernel, self.initrd, options=options + self.arguments.option, **how)

    def guest(self, **how):
        return Guest(self.command(**how), self.arguments.patience)

    def attempt(self, name, guest, function):
        """One case; whether it passed."""
        start = time.monotonic()
        try:
            function(guest)
        except (GuestError, OSError, ValueError, TypeError) as error:
            self.tap.report(name, error, lines=guest.last_lines())
            return False
        self.tap.report(name)
        self.tap.note(f'{time.monotonic() - start:.1f} s')
        return True

    def boot(self, name, guest):
        def boot(guest):
            self.tap.note(f'{guest.boot(180):.1f} s to the prompt')
        if self.attempt(name, guest, boot):
            return True
        guest.kill()
        return False

    def cases(self, guest, functions):
        for function in functions:
            if not guest.process.isalive():
                self.tap.report(function.__name__, 'the guest has ended')
            elif not self.attempt(function.__name__, guest, function):
                try:
                    guest.recover()
                except GuestError:
                    guest.kill()

    def end(self, name, guest, keys, code=0):
        def end(guest):
            guest.type(keys)
            actual, restored = guest.wait_for_end()
            if actual != code:
                raise GuestError(f'exit code {actual}, expected {code}')
            if not restored:
                raise GuestError('the terminal is not as it was before')
        if guest.process.isalive():
            self.attempt(name, guest, end)
        else:
            self.tap.report(name, 'the guest has ended before')
        guest.kill()

    def shell(self, functions):
        guest = self.guest()
        if self.boot('boot', guest):
            self.cases(guest, functions)
            self.end('poweroff', guest, 'poweroff\r')

    def reboot(self):
        """Twice to the prompt, then out by the keys that the monitor itself obeys."""
        guest = self.guest(reboot=True)
        if not self.boot('boot to be rebooted', guest):
            return

        def again(guest):
            guest.type('reboot\r')
            guest.expect('guest: first process', 180)
            guest.expect(FIRST_PROMPT, 60)

        def helps(guest):
            guest.type(CTRL_A + 'h')
            guest.expect(r'[xX]\b[^\n]*\b([Ee]xit|[Qq]uit|[Ee]nd)')

        if self.attempt('reboot comes up again', guest, again):
            self.attempt('Ctrl-A h helps', guest, helps)
        self.end('Ctrl-A x quits', guest, CTRL_A + 'x')

    def no_reboot(self):
        guest = self.guest()
        if self.boot('boot with --no-reboot', guest):
            self.end('reboot ends the run', guest, 'reboot\r')

    def no_input(self):
        """Input that ends at once ends the guest's input, not the run."""
        limit = 120 * self.arguments.patience
        command = self.command(append='run=/bin/uname')
        try:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=limit, text=True, errors='replace')
        except subprocess.TimeoutExpired:
            self.tap.report('boot without input', f'no end within {limit:.0f} s')
            return
        good = result.returncode == 0 and 'guest: exit code 0' in result.stdout
        self.tap.report('boot without input', None if good else f'exit code {result.returncode}', lines=result.stdout.splitlines()[-25:])

    def boots(self, count):
        for number in range(1, count + 1):
            guest = self.guest()
            name = f'boot {number} of {count}'
            if self.boot(name, guest):
                self.cases(guest, named(['pipes']))
                self.end(f'{name}: poweroff', guest, 'poweroff\r')

    def idle(self, seconds):
        guest = self.guest()
        if not self.boot('boot to be idle', guest):
            return

        def idle(guest):
            time.sleep(5)  # The kernel's own work after a boot.
            before = guest.processor_seconds()
            time.sleep(seconds)
            percent = 100 * (guest.processor_seconds() - before) / seconds
            self.tap.note(f'{percent:.2f}% of a core')
            if percent >= IDLE_LIMIT_PERCENT:
                raise GuestError(f'{percent:.2f}% of a core; less than {IDLE_LIMIT_PERCENT}% is the aim')

        self.attempt(f'idle for {seconds} s', guest, idle)
        self.cases(guest, named(['pipes']))
        self.end('poweroff after idleness', guest, 'poweroff\r')


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('monitor', metavar='MONITOR')
    parser.add_argument('--chaos', default='', metavar='LIST', help='passed on to bt-vmm')
    parser.add_argument('--option', action='append', default=[], metavar='WORD', help='passed on to bt-vmm')
    parser.add_argument('--pae', action='store_true', help='the kernel that needs PAE')
    parser.add_argument('--short', action='store_true', help='one guest and few cases')
    parser.add_argument('--cases', default='', metavar='NAME,...', help='one guest and these cases')
    parser.add_argument('--count', type=int, default=0, metavar='N', help='N boots in a row')
    parser.add_argument('--idle', type=int, default=0, metavar='SECONDS', help='the processor time of an idle guest')
    parser.add_argument('--patience', type=float, default=1.0, metavar='FACTOR', help='multiplies every time limit')
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    try:
        session = Session(arguments)
    except GuestError as error:
        tap = Tap()
        tap.report('a guest to boot', error)
        tap.finish()
    if arguments.count:
        session.boots(arguments.count)
    elif arguments.idle:
        session.idle(arguments.idle)
    elif arguments.short or arguments.cases:
        session.shell(named(arguments.cases.split(',') if arguments.cases else SHORT_CASES))
    else:
        session.shell(CASES)
        session.reboot()
        session.no_reboot()
        session.no_input()
    session.tap.finish()


main()
