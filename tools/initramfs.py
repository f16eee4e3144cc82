"""The guest's initramfs: a newc cpio archive written entry by entry, so that device nodes need no root, around one busybox."""

import gzip
import stat

# What the kernel starts. It prints a line at once (a benchmark takes the time of it), prepares what a shell needs and becomes
# busybox's init, so that poweroff and reboot work as typed. (linuxrc is its other name, the only one in Debian's busybox-static; the
# installer's busybox has the first.)
# With run=PROGRAM on the kernel's command line PROGRAM runs instead of a shell, and the machine powers off after it.
INIT = r'''#!/bin/busybox sh
echo "guest: first process"
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
hostname guest
if [ -n "$run" ]; then
    $run
    echo "guest: exit code $?"
    poweroff -f
fi
[ ! -x /linuxrc ] || exec /linuxrc
# What the kernel still has to say must not land on the prompt: dmesg shows it.
dmesg -n 4
exec /bin/busybox init
'''

INITTAB = '''ttyS0::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/sync
'''

# LINES and COLUMNS may come from the kernel's command line: a serial line does not tell the size of its terminal.
PROFILE = r'''export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=${TERM:-linux}
stty rows "${LINES:-24}" cols "${COLUMNS:-80}"
[ "$TERM" = linux ] && TERM=vt102
unset LINES COLUMNS
PS1='\h:\w\$ '
cd
cat /etc/motd
'''

MOTD = '''
Debian's kernel and busybox; everything is in memory. poweroff ends the machine, reboot starts it again.

'''

FOLDERS = ['bin', 'dev', 'etc', 'proc', 'root', 'sbin', 'sys', 'tmp', 'usr', 'usr/bin', 'usr/sbin', 'var', 'var/log']


class Archive:
    """A cpio archive in the newc format, in memory. Every entry belongs to root and has no time, so that equal contents make equal archives."""

    def __init__(self):
        self.data = bytearray()
        self.inode = 0

    def entry(self, name, mode, body=b'', device=(0, 0)):
        self.inode += 1
        encoded = name.encode() + b'\0'
        fields = [self.inode, mode, 0, 0, 1, 0, len(body), 0, 0, *device, len(encoded), 0]
        self.data += b'070701' + b''.join(b'%08X' % field for field in fields) + encoded
        self.pad()
        self.data += body
        self.pad()

    def pad(self):
        self.data += bytes(-len(self.data) % 4)

    def folder(self, name):
        self.entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, body, mode=0o644):
        self.entry(name, stat.S_IFREG | mode, body)

    def character_device(self, name, major, minor):
        self.entry(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def finish(self):
        self.entry('TRAILER!!!', 0)
        self.data += bytes(-len(self.data) % 512)
        return bytes(self.data)


def build(busybox, programs=()):
    """The archive, not compressed. `busybox` is the program's bytes, or None when the initramfs that this one is appended to has
    one; `programs` are (name, bytes) to put into /usr/bin."""
    archive = Archive()
    for name in FOLDERS:
        archive.folder(name)
    archive.character_device('dev/console', 5, 1)
    archive.character_device('dev/null', 1, 3)
    if busybox:
        archive.file('bin/busybox', busybox, 0o755)
    archive.file('init', INIT.encode(), 0o755)
    archive.file('etc/inittab', INITTAB.encode())
    archive.file('etc/profile', PROFILE.encode())
    archive.file('etc/motd', MOTD.encode())
    archive.file('etc/passwd', b'root::0:0:root:/root:/bin/sh\n')
    archive.file('etc/group', b'root:x:0:\n')
    for name, body in programs:
        archive.file('usr/bin/' + name, body, 0o755)
    return archive.finish()


def compress(data):
    return gzip.compress(data, 6, mtime=0)
