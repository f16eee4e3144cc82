"""Programs of Debian's i386 packages: the same binaries with the same input natively and in a guest, under tests/guest-user/stopwatch.c."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / 'tests/system'))
sys.path.insert(0, str(ROOT / 'tools'))
import debian_root  # noqa: E402
from guest_programs import BUILD, ProgramGuest, parse  # noqa: E402
from serial_guest import GuestError, find_files  # noqa: E402

INPUTS = ROOT / 'tests/guest-real'
MEMORY = 1024
TEXT_BYTES = 6 << 20
MIXED_BYTES = 12 << 20
LOADER = 'lib/ld-linux.so.2'
LIBRARIES = ('usr/lib/i386-linux-gnu',)
# By row: the program in the root, and its words; it runs in the folder of the inputs.
COMMANDS = {
    'gzip': ('usr/bin/gzip', '-n -6 -c mixed'),
    'xz': ('usr/bin/xz', '-2 -T1 -c text'),
    'sha256sum': ('usr/bin/sha256sum', 'mixed mixed mixed mixed mixed'),
    'openssl': ('usr/bin/openssl', 'enc -aes-256-cbc -pbkdf2 -iter 400000 -S 0123456789abcdef -k secret -in mixed'),
    'perl': ('usr/bin/perl', 'words.pl text'),
    'python3': ('usr/bin/python3.11', '-S -E objects.py text'),
    'cc1': ('usr/lib/gcc/i686-linux-gnu/12/cc1', '-quiet -O2 -nostdinc -I. compile.c -o -'),
    'sqlite3': ('usr/bin/sqlite3', '-batch :memory: .read tables.sql'),
}


def environment(root):
    return {'PATH': '/usr/bin:/bin', 'LC_ALL': 'C', 'HOME': '/nonexistent', 'OPENSSL_CONF': '/dev/null', 'PYTHONHOME': f'{root}/usr'}


def words_of(row):
    """The program's words; of SQLite's the last is a command with a space."""
    program, words = COMMANDS[row]
    return program, words.split(' ', 2) if row == 'sqlite3' else words.split()


def make_inputs(tree, folder):
    """Inputs made of the root itself: text from its scripts, and as much of the compiler behind it."""
    folder.mkdir()
    for path in INPUTS.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    scripts = sorted(path for end in ('py', 'pm', 'pl') for path in tree.rglob(f'*.{end}') if path.is_file())
    text = b''.join(path.read_bytes() for path in scripts)
    text = (text * (TEXT_BYTES // len(text) + 1))[:TEXT_BYTES]
    (folder / 'text').write_bytes(text)
    (folder / 'mixed').write_bytes(text + (tree / COMMANDS['cc1'][0]).read_bytes()[:MIXED_BYTES - TEXT_BYTES])


def guest_script(rows):
    """Whole paths: busybox's shell would take its own applets."""
    lines = ['#!/bin/sh', 'cd /inputs', *(f'export {name}={value}' for name, value in environment('').items())]
    for row in rows:
        program, words = words_of(row)
        quoted = ' '.join(f"'{word}'" for word in words)
        lines.append(f'/usr/bin/stopwatch {row} /tmp/output /{program} {quoted}')
    return '\n'.join(lines) + '\n'


class RealPrograms:
    def __init__(self, folder, rows):
        self.folder, self.rows = folder, [row for row in COMMANDS if row in rows]
        folder.mkdir()
        archive, tree = find_files('programs')
        self.tree = Path(tree)
        self.inputs = folder / 'inputs'
        make_inputs(self.tree, self.inputs)
        done = subprocess.run([BUILD, folder, 'gcc', 'stopwatch'], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise GuestError('tests/guest-user/stopwatch.c does not build')
        self.stopwatch = Path(done.stdout.strip())
        self.guest = ProgramGuest(folder, [self.stopwatch], script=guest_script(rows), front=self.archives(archive))
        self.sums = {}

    def archives(self, root):
        """The root, and the inputs; the kernel unpacks archives that follow each other into one tree."""
        inputs = debian_root.Tree()
        for path in self.inputs.iterdir():
            inputs.file(f'inputs/{path.name}', path.read_bytes())
        return Path(root).read_bytes() + inputs.archive()

    def run_natively(self, row):
        """By the loader of the root. None where this host runs no 32-bit programs."""
        program, words = words_of(row)
        libraries = ':'.join(str(self.tree / name) for name in LIBRARIES)
        command = [self.stopwatch, row, self.folder / 'output', self.tree / LOADER, '--library-path', libraries, self.tree / program, *words]
        try:
            done = subprocess.run(command, cwd=self.inputs, env=environment(self.tree), stdout=subprocess.PIPE, text=True, timeout=120)
        except OSError:
            return None
        result = parse(done.stdout, 0)
        if result:
            self.sums[row] = result.checksum
        return result

    def is_same(self, result):
        """Whether the output is what it was natively."""
        return self.sums.get(result.name, result.checksum) == result.checksum

    def run(self, monitor, **how):
        return self.guest.run(monitor, limit=1200, memory=MEMORY, **how)
