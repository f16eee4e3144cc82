#!/usr/bin/python3
"""Roots put together from packages: where files go, links, modes, the archive. test_debian_root.py TOOLS-FOLDER"""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, str(Path(sys.argv[1]).parent / 'tests/system'))
import debian_root  # noqa: E402
from tap import Tap  # noqa: E402

tap = Tap()


def report(name, got, expected):
    tap.report(name, None if got == expected else f'got {got!r}, expected {expected!r}')


def make_package(folder):
    tree = folder / 'package'
    for path, text in (('DEBIAN/control', 'Package: sample\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: a sample\n'),
                       ('bin/tool', 'program'), ('usr/lib/data', 'data'), ('usr/share/doc/sample/copyright', 'left out'), ('etc/sample', 'setting')):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    (tree / 'bin/tool').chmod(0o4755)
    os.link(tree / 'bin/tool', tree / 'bin/twin')
    (tree / 'usr/lib/alias').symlink_to('data')
    subprocess.run(['dpkg-deb', '--root-owner-group', '--build', tree, folder / 'sample.deb'], check=True, stdout=subprocess.DEVNULL)
    return folder / 'sample.deb'


def archive_entries(data):
    """Path to (mode, size), in order, of a newc archive."""
    entries, at = {}, 0
    while True:
        fields = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110:at + 110 + fields[11] - 1].decode()
        if name == 'TRAILER!!!':
            return entries
        entries[name] = (fields[1], fields[6])
        at += 110 + fields[11]
        at += -at % 4 + fields[6]
        at += -at % 4


def check(folder):
    tree = debian_root.of_packages([make_package(folder)])
    report('what /bin has is in /usr/bin', tree.read('usr/bin/tool'), b'program')
    report('a hard link has the same', tree.read('usr/bin/twin'), b'program')
    report('documents are left out', [path for path in tree.entries if path.startswith('usr/share/doc/')], [])
    debian_root.finish_programs(tree)
    entries = archive_entries(tree.archive())
    report('the archive has all, folders first', list(entries), sorted(tree.entries))
    report('modes', [oct(entries[path][0]) for path in ('usr/bin/tool', 'usr/lib', 'usr/lib/alias', 'lib')], ['0o104755', '0o40755', '0o120777', '0o120777'])
    tree.write(folder / 'written')
    report('unpacked, links lead on', (folder / 'written/lib/alias').read_text(), 'data')
    report('unpacked, nothing is set-uid', stat.S_IMODE((folder / 'written/usr/bin/tool').stat().st_mode), 0o755)
    try:
        debian_root.of_packages([folder / 'package/etc/sample'])
        report('no package', 'accepted', 'refused')
    except (OSError, debian_root.tarfile.TarError) as error:
        report('no package', bool(str(error)), True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder))
    tap.finish()


main()
