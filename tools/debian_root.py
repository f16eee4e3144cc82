"""A tree of files from Debian packages, put together without root and without running anything of theirs."""

import dataclasses
import os
import re
import shutil
import stat
import subprocess
import tarfile

import initramfs

# In Debian 12 these are links into /usr.
MERGED = ('bin', 'lib', 'sbin')
LEFT_OUT = re.compile(r'usr/share/(doc|man|locale|info|lintian|bash-completion|common-licenses|zsh|gdb)/')


@dataclasses.dataclass
class Entry:
    mode: int
    body: bytes = b''  # of a link: where it leads


class Tree:
    """Paths without a leading slash, and what is there."""

    def __init__(self):
        self.entries = {}

    def folder(self, path, mode=0o755):
        self.entries[path] = Entry(stat.S_IFDIR | mode)

    def file(self, path, body, mode=0o644):
        self.entries[path] = Entry(stat.S_IFREG | mode, body if isinstance(body, bytes) else body.encode())

    def link(self, path, target):
        self.entries[path] = Entry(stat.S_IFLNK | 0o777, target.encode())

    def read(self, path):
        return self.entries[path].body

    @staticmethod
    def place(name):
        """Where a package's file goes: /bin and its kind are in /usr."""
        path = os.path.normpath(name).lstrip('/')
        return 'usr/' + path if path.split('/')[0] in MERGED else path

    def add_member(self, archive, member):
        path = self.place(member.name)
        if path == '.' or LEFT_OUT.match(path + '/'):
            return
        if member.isdir():
            self.entries.setdefault(path, Entry(stat.S_IFDIR | member.mode))
        elif member.issym():
            self.link(path, member.linkname)
        elif member.islnk():
            self.entries[path] = self.entries[self.place(member.linkname)]
        elif member.isfile():
            self.file(path, archive.extractfile(member).read(), member.mode)

    def add_package(self, package):
        with subprocess.Popen(['dpkg-deb', '--fsys-tarfile', str(package)], stdout=subprocess.PIPE) as process:
            with tarfile.open(fileobj=process.stdout, mode='r|') as archive:
                for member in archive:
                    self.add_member(archive, member)
        if process.returncode:
            raise OSError(f'dpkg-deb cannot unpack {package}')

    def add_parents(self):
        for path in list(self.entries):
            while path := os.path.dirname(path):
                self.entries.setdefault(path, Entry(stat.S_IFDIR | 0o755))

    def archive(self):
        """The tree as an initramfs, all of it root's, not compressed."""
        self.add_parents()
        archive = initramfs.Archive()
        for path in sorted(self.entries):
            archive.entry(path, self.entries[path].mode, self.entries[path].body)
        return archive.finish()

    def write(self, folder):
        """The tree as files of the user who calls; whole or not at all."""
        self.add_parents()
        fresh = folder.with_name(f'.{folder.name}.{os.getpid()}')
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for path in sorted(self.entries):
            entry, target = self.entries[path], fresh / path
            if stat.S_ISDIR(entry.mode):
                target.mkdir(parents=True, exist_ok=True)
            elif stat.S_ISLNK(entry.mode):
                target.symlink_to(entry.body.decode())
            else:
                target.write_bytes(entry.body)
                target.chmod(stat.S_IMODE(entry.mode) & 0o755)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)


def of_packages(packages):
    tree = Tree()
    for package in packages:
        tree.add_package(package)
    return tree


# Programs to measure with. /lib alone is a link, for the programs' loader; our busybox and its /init come from another archive, which has /bin.

PROGRAMS = 'gzip xz-utils coreutils openssl perl-base python3-minimal cpp-12 sqlite3'.split()


def finish_programs(tree):
    tree.link('lib', 'usr/lib')


# A system with systemd that boots to its login prompt. What the packages' scripts would do is done here, as far as a boot needs it.

SYSTEM = '''systemd-sysv udev dbus base-files base-passwd bash coreutils dash debianutils diffutils findutils grep gzip hostname init-system-helpers libc-bin
    libpam-systemd login mawk mount ncurses-base ncurses-bin netbase passwd procps sed sysvinit-utils tar usr-is-merged util-linux kmod'''.split()

PAM_COMMON = {
    'auth': 'auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n',
    'account': 'account [success=1 default=ignore] pam_unix.so\naccount requisite pam_deny.so\naccount required pam_permit.so\n',
    'password': 'password [success=1 default=ignore] pam_unix.so yescrypt\npassword requisite pam_deny.so\npassword required pam_permit.so\n',
    'session': 'session required pam_unix.so\nsession optional pam_systemd.so\n',
    'session-noninteractive': 'session required pam_unix.so\n',
}


def finish_system(tree):
    for name in MERGED:
        tree.link(name, f'usr/{name}')
    for name in ('dev', 'proc', 'sys', 'run', 'tmp', 'root', 'var/log', 'var/lib', 'var/tmp'):
        tree.folder(name, 0o1777 if name.endswith('tmp') else 0o755)
    tree.file('etc/passwd', tree.read('usr/share/base-passwd/passwd.master').replace(b'root:*:', b'root::'))
    tree.file('etc/group', tree.read('usr/share/base-passwd/group.master'))
    tree.file('etc/hostname', 'guest\n')
    tree.file('etc/hosts', '127.0.0.1 localhost guest\n')
    tree.file('etc/fstab', '')
    tree.file('etc/machine-id', '')
    tree.file('etc/locale.conf', 'LANG=C.UTF-8\n')
    for name, lines in PAM_COMMON.items():
        tree.file(f'etc/pam.d/common-{name}', lines)
    tree.link('init', 'usr/lib/systemd/systemd')


ROOTS = {'programs': (PROGRAMS, finish_programs), 'system': (SYSTEM, finish_system)}
