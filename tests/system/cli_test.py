#!/usr/bin/python3
"""The command line from outside: every kind of bad input ends with exit code 2, one sentence and nothing left behind.

Usage: cli_test.py BT-VMM [MAN-PAGE]; prints TAP.
"""
import os
import pty
import re
import resource
import struct
import subprocess
import sys
import tempfile
import termios

sys.dont_write_bytecode = True
from tap import Tap  # noqa: E402

BINARY = os.path.abspath(sys.argv[1])
MAN_PAGE = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else None
SECONDS = 30
tap = Tap()
report = tap.report


def bzimage(**changes):
    """A bzImage of protocol 2.15 with 4 KiB of code; changes are field names and values."""
    fields = {"setup_sects": (0x1F1, "B", 4), "syssize": (0x1F4, "I", 256), "boot_flag": (0x1FE, "H", 0xAA55),
              "jump": (0x201, "B", 0x6A), "header": (0x202, "4s", b"HdrS"), "version": (0x206, "H", 0x20F), "loadflags": (0x211, "B", 1),
              "code32_start": (0x214, "I", 0x100000), "initrd_addr_max": (0x22C, "I", 0x7FFFFFFF), "alignment": (0x230, "I", 0x1000000),
              "relocatable": (0x234, "B", 1), "xloadflags": (0x236, "H", 0), "cmdline_size": (0x238, "I", 64),
              "payload_length": (0x24C, "I", 0), "pref_address": (0x258, "Q", 0x1000000), "init_size": (0x260, "I", 0x200000)}
    image = bytearray(5 * 512 + 4096)
    for field, (at, form, value) in fields.items():
        struct.pack_into("<" + form, image, at, changes.get(field, value))
    return bytes(image)


def corrupt_bzimage():
    """Says that it is Linux 6.1, which has a checksum, and has none."""
    image = bytearray(bzimage(payload_length=100))
    struct.pack_into("<H", image, 0x20E, 0x100)
    image[0x300:0x306] = b"6.1.0-"
    return bytes(image)


def multiboot(flags=3, checksum=None, entry=0x100010, elf_class=1, machine=3, paddr=0x100000, memsz=0x100):
    """A Multiboot ELF with one segment."""
    image = bytearray(0x1100)
    ident = b"\x7fELF" + bytes([elf_class, 1, 1])
    struct.pack_into("<16sHHIIIIIHHHHHH", image, 0, ident, 2, machine, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    struct.pack_into("<8I", image, 52, 1, 0x1000, paddr, paddr, 0x100, memsz, 7, 4096)
    magic = 0x1BADB002
    struct.pack_into("<III", image, 0x1000, magic, flags, -(magic + flags) & 0xFFFFFFFF if checksum is None else checksum)
    return bytes(image)


FILES = {
    "good": bzimage(),
    "truncated": bzimage()[:4000],
    "header-only": bzimage()[:0x300],
    "corrupt": corrupt_bzimage(),
    "too-old": bzimage(version=0x202),
    "zimage": bzimage(loadflags=0),
    "linux64": bzimage(xloadflags=1),
    "huge": bzimage(init_size=0x40000000),
    "absurd": bzimage(init_size=0xF0000000),
    "empty": b"",
    "text": b"#!/bin/sh\necho no kernel\n" * 50,
    "gzip": b"\x1f\x8b\x08\x00" + bytes(100),
    "efi": b"MZ" + bytes(1000),
    "vmlinux": multiboot(checksum=0)[:0x1000],
    "vmlinux64": multiboot(elf_class=2)[:0x1000],
    "multiboot": multiboot(),
    "multiboot64": multiboot(elf_class=2),
    "multiboot-arm": multiboot(machine=40),
    "multiboot-sum": multiboot(checksum=1),
    "multiboot-feature": multiboot(flags=0x13),
    "multiboot-entry": multiboot(entry=0x200000),
    "multiboot-rom": multiboot(paddr=0xF0000, entry=0xF0000),
    "multiboot-short": multiboot()[:0x1080],
    "elf-head": multiboot()[:40],
    "elf-empty": multiboot()[:52 + 24] + b"\6" + multiboot()[52 + 25:],
    "elf-core": multiboot()[:16] + b"\4\0" + multiboot()[18:],
    "initrd": bytes(2 << 20),
    "with\nnewline": b"x",
    "map": b"c0100000 T start\n",
    "map-stub": b"ffffffffffffffff B The real System.map is elsewhere\n",
    "map-zeroes": b"00000000 T _text\n00000000 t start\n",
}

# Name of the case, arguments, what the sentence must say.
USAGE_ROWS = [
    ("nothing at all", [], ["no command"]),
    ("unknown command", ["start"], ["'start'"]),
    ("option instead of a command", ["--kernel", "good"], ["'--kernel'"]),
    ("words after --version", ["--version", "now"], ["'now'"]),
    ("no kernel", ["run"], ["--kernel"]),
    ("kernel without its option", ["run", "good"], ["'good'", "--kernel"]),
    ("option without its value", ["run", "--kernel"], ["--kernel"]),
    ("option instead of a value", ["run", "--kernel", "--no-reboot"], ["--kernel"]),
    ("unknown option", ["run", "--kernel", "good", "--colour"], ["'--colour'"]),
    ("unknown option of check", ["check", "--kernel", "good"], ["--kernel"]),
    ("a word for check", ["check", "good"], ["'good'", "options alone"]),
    ("value where none belongs", ["run", "--kernel", "good", "--no-reboot=1"], ["--no-reboot"]),
    ("option twice", ["run", "--kernel", "good", "--memory=64M", "--memory=64M"], ["--memory", "twice"]),
    ("kernel twice", ["run", "--kernel", "good", "--kernel", "good"], ["--kernel", "twice"]),
    ("memory too small", ["run", "--kernel", "good", "--memory", "4M"], ["--memory", "'4M'"]),
    ("memory too large", ["run", "--kernel", "good", "--memory", "4G"], ["--memory", "'4G'"]),
    ("memory without a unit", ["run", "--kernel", "good", "--memory", "512"], ["--memory", "512M"]),
    ("memory no number", ["run", "--kernel", "good", "--memory", "lots"], ["--memory", "'lots'"]),
    ("memory negative", ["run", "--kernel", "good", "--memory", "-1M"], ["--memory", "'-1M'"]),
    ("memory not in pages", ["run", "--kernel", "good", "--memory", "8193K"], ["--memory", "4K"]),
    ("serial unknown", ["run", "--kernel", "good", "--serial", "tcp"], ["--serial", "'tcp'"]),
    ("serial file without a name", ["run", "--kernel", "good", "--serial=file:"], ["--serial"]),
    ("timeout zero", ["run", "--kernel", "good", "--timeout", "0"], ["--timeout"]),
    ("timeout with a unit", ["run", "--kernel", "good", "--timeout", "5s"], ["--timeout", "'5s'"]),
    ("debug port too high", ["run", "--kernel", "good", "--debug-exit=65536"], ["--debug-exit"]),
    ("statistics in an unknown form", ["run", "--kernel", "good", "--stats=xml"], ["--stats", "'xml'"]),
    ("log part unknown", ["run", "--kernel", "good", "--log=disk:debug"], ["--log", "disk"]),
    ("log level unknown", ["run", "--kernel", "good", "--log=boot:loud"], ["--log", "loud"]),
    ("log level missing", ["run", "--kernel", "good", "--log=boot"], ["--log", "boot"]),
    ("cache size too small", ["run", "--kernel", "good", "--tc-size=4K"], ["--tc-size"]),
    ("chaos unknown", ["run", "--kernel", "good", "--chaos=monkeys"], ["--chaos", "monkeys"]),
    ("chaos contradicts itself", ["run", "--kernel", "good", "--chaos=all-soft,all-direct"], ["all-soft", "all-direct"]),
    ("chaos contradicts the cache size", ["run", "--kernel", "good", "--chaos=tiny-cache", "--tc-size=8M"], ["tiny-cache", "--tc-size"]),
]

# classify and translate; the first word is left out. What both refuse is tried with both.
INSPECT_ROWS = [
    ("no file", [], ["--bytes"]),
    ("two files", ["good", "text"], ["'text'"]),
    ("file missing", ["nowhere"], ["'nowhere'", "No such file"]),
    ("file is a directory", ["."], ["'.'", "directory"]),
    ("file is a fifo", ["fifo"], ["'fifo'"]),
    ("file is empty", ["empty"], ["'empty'"]),
    ("file is a text", ["text"], ["'text'", "--raw"]),
    ("file is 64-bit ELF", ["vmlinux64"], ["'vmlinux64'", "64-bit"]),
    ("file is a 64-bit kernel", ["linux64"], ["'linux64'", "64-bit"]),
    ("file is ELF for another processor", ["multiboot-arm"], ["'multiboot-arm'", "i386"]),
    ("file is truncated ELF", ["elf-head"], ["'elf-head'", "truncated"]),
    ("file without code", ["elf-empty"], ["'elf-empty'", "no executable section"]),
    ("file is a core dump", ["elf-core"], ["'elf-core'", "core dump"]),
    ("bytes are no hexadecimal", ["--bytes=90 9"], ["--bytes", "'9'"]),
    ("bytes are none", ["--bytes= "], ["--bytes"]),
    ("base is beyond 4 GiB", ["--raw", "text", "--base=0x100000000"], ["--base"]),
    ("base leaves no room", ["--raw", "text", "--base=0xffffffff"], ["--base"]),
    ("bits of another processor", ["--raw", "text", "--bits=64"], ["--bits"]),
    ("base of what has its own", ["multiboot", "--base=0"], ["--raw"]),
]

INPUT_ROWS = [
    ("kernel missing", ["--kernel", "nowhere"], ["'nowhere'", "No such file"]),
    ("kernel in no folder", ["--kernel", "good/k"], ["'good/k'"]),
    ("kernel is a directory", ["--kernel", "."], ["'.'", "directory"]),
    ("kernel is a device", ["--kernel", "/dev/null"], ["'/dev/null'"]),
    ("kernel is a fifo", ["--kernel", "fifo"], ["'fifo'"]),
    ("kernel name is empty", ["--kernel", ""], ["--kernel"]),
    ("kernel name is endless", ["--kernel", "n" * 5000], ["kernel", "longer"]),
    ("kernel name with a newline", ["--kernel", "with\nnewline"], ["newline", "neither"]),
    ("kernel is empty", ["--kernel", "empty"], ["'empty'", "empty"]),
    ("kernel is a text", ["--kernel", "text"], ["'text'", "neither", "give one"]),
    ("kernel is compressed", ["--kernel", "gzip"], ["'gzip'", "gunzip it first"]),
    ("kernel is truncated", ["--kernel", "truncated"], ["'truncated'", "truncated"]),
    ("kernel is a header alone", ["--kernel", "header-only"], ["'header-only'", "truncated"]),
    ("kernel is corrupt", ["--kernel", "corrupt"], ["'corrupt'", "checksum"]),
    ("kernel is too old", ["--kernel", "too-old"], ["'too-old'", "2.02"]),
    ("kernel is a zImage", ["--kernel", "zimage"], ["'zimage'", "bzImage"]),
    ("kernel is 64-bit", ["--kernel", "linux64"], ["'linux64'", "64-bit"]),
    ("kernel is a 64-bit vmlinux", ["--kernel", "vmlinux64"], ["'vmlinux64'", "64-bit"]),
    ("kernel is a vmlinux", ["--kernel", "vmlinux"], ["'vmlinux'", "bzImage"]),
    ("kernel is an EFI program", ["--kernel", "efi"], ["'efi'", "EFI"]),
    ("kernel needs more memory", ["--kernel", "huge"], ["'huge'", "--memory 1040M"]),
    ("kernel needs absurd memory", ["--kernel", "absurd"], ["'absurd'", "corrupt"]),
    ("multiboot: 64-bit", ["--kernel", "multiboot64"], ["'multiboot64'", "64-bit"]),
    ("multiboot: another processor", ["--kernel", "multiboot-arm"], ["'multiboot-arm'", "i386"]),
    ("multiboot: wrong checksum", ["--kernel", "multiboot-sum"], ["'multiboot-sum'", "checksum"]),
    ("multiboot: unknown feature", ["--kernel", "multiboot-feature"], ["'multiboot-feature'", "0x10"]),
    ("multiboot: entry point outside", ["--kernel", "multiboot-entry"], ["'multiboot-entry'", "entry point"]),
    ("multiboot: loads into ROM", ["--kernel", "multiboot-rom"], ["'multiboot-rom'", "not in RAM"]),
    ("multiboot: truncated", ["--kernel", "multiboot-short"], ["'multiboot-short'", "truncated"]),
    ("multiboot: module missing", ["--kernel", "multiboot", "--initrd", "nowhere x"], ["'nowhere'"]),
    ("initrd missing", ["--kernel", "good", "--initrd", "nowhere"], ["'nowhere'"]),
    ("initrd is a directory", ["--kernel", "good", "--initrd", "."], ["'.'", "directory"]),
    ("initrd is empty", ["--kernel", "good", "--initrd", "empty"], ["'empty'"]),
    ("initrd does not fit", ["--kernel", "good", "--initrd", "initrd", "--memory", "18M"], ["'initrd'", "--memory 20M"]),
    ("two initrds", ["--kernel", "good", "--initrd", "initrd", "--initrd", "initrd"], ["--initrd"]),
    ("symbols missing", ["--kernel", "multiboot", "--symbols", "nowhere"], ["'nowhere'", "No such file"]),
    ("symbols with a name missing", ["--kernel", "multiboot", "--symbols=map,"], ["--symbols", "empty"]),
    ("symbols of no code", ["--kernel", "multiboot", "--symbols=map-stub"], ["'map-stub'", "System.map"]),
    ("symbols without addresses", ["--kernel", "multiboot", "--symbols=map-zeroes"], ["'map-zeroes'", "as root"]),
    ("symbols in a stripped file", ["--kernel", "multiboot", "--symbols=multiboot"], ["'multiboot'", "stripped"]),
    ("symbols in a text", ["--kernel", "multiboot", "--symbols=text"], ["'text'", "ELF"]),
    ("symbols of 64-bit code", ["--kernel", "multiboot", "--symbols=vmlinux64"], ["'vmlinux64'", "64-bit"]),
    ("profile in no folder", ["--kernel", "multiboot", "--profile=nowhere/out.svg"], ["'nowhere/out.svg'", "--profile"]),
    ("command line too long", ["--kernel", "good", "--append", "a" * 65], ["--append", "64"]),
]

LIMIT_ROWS = [
    ("address space limited", resource.RLIMIT_AS, 1 << 30, ["address space", "ulimit -v"]),
    ("file size limited", resource.RLIMIT_FSIZE, 1 << 20, ["ulimit -f"]),
]


def judge(run, parts):
    lines = run.stderr.split("\n")
    if run.returncode != 2:
        return f"exit code {run.returncode}, not 2; stderr: {run.stderr!r}"
    if len(lines) != 2 or lines[1] or not lines[0].startswith("bt-vmm: "):
        return f"not one line that starts with 'bt-vmm: ': {run.stderr!r}"
    if run.stdout:
        return f"stdout is not empty: {run.stdout!r}"
    missing = [part for part in parts if part not in run.stderr]
    return f"{run.stderr!r} does not say {missing}" if missing else None


def run(arguments, folder, **more):
    return subprocess.run([BINARY] + arguments, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=SECONDS, **more)


def refuse(name, arguments, parts, folder, **more):
    before = sorted(os.listdir(folder))
    problem = judge(run(arguments, folder, **more), parts)
    after = sorted(os.listdir(folder))
    if not problem and before != after:
        problem = f"files were left behind: {sorted(set(after) - set(before))}"
    report(name, problem)


def test_bad_input(folder):
    for name, arguments, parts in USAGE_ROWS:
        refuse(name, arguments, parts, folder)
    for name, arguments, parts in INPUT_ROWS:
        refuse(name, ["run", "--serial=file:output", "--dump=dump"] + arguments, parts, folder)
    for command in ("classify", "translate"):
        for name, arguments, parts in INSPECT_ROWS:
            refuse(f"{command}: {name}", [command] + arguments, parts, folder)
    refuse("translate: nothing at this place", ["translate", "multiboot", "--at=0x5"], ["0x5", "executable"], folder)
    refuse("translate: no such symbol", ["translate", "multiboot", "--at=main"], ["'main'"], folder)
    for name, limit, value, parts in LIMIT_ROWS:
        refuse(name, ["run", "--kernel", "good"], parts, folder, preexec_fn=lambda: resource.setrlimit(limit, (value, value)))


def test_unreadable(folder):
    if os.geteuid() == 0:
        report("kernel is unreadable", skip="root reads everything")
        return
    path = os.path.join(folder, "good")
    os.chmod(path, 0)
    refuse("kernel is unreadable", ["run", "--kernel", "good"], ["'good'", "Permission denied"], folder)
    os.chmod(path, 0o600)


def test_terminal_is_left_alone(folder):
    """Bad input with a terminal: its settings are the same afterwards."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    done = subprocess.run([BINARY, "run", "--kernel", "truncated"], cwd=folder, stdin=slave, stdout=slave,
                          stderr=subprocess.PIPE, timeout=SECONDS)
    same = termios.tcgetattr(slave) == before
    os.close(slave)
    os.close(master)
    report("terminal is left alone", None if same and done.returncode == 2 else f"exit code {done.returncode}, same settings: {same}")


def test_version(folder):
    done = run(["--version"], folder)
    good = done.returncode == 0 and re.fullmatch(r"bt-vmm \d+\.\d+\.\d+\n", done.stdout) and not done.stderr
    report("--version", None if good else repr(done))


def test_help(folder):
    done = run(["--help"], folder)
    options = set(re.findall(r"--[a-z][a-z-]+", done.stdout))
    wanted = {"--kernel", "--initrd", "--append", "--memory", "--serial", "--no-reboot", "--debug-exit", "--timeout", "--stats",
              "--log", "--tc-size", "--chaos", "--verify", "--dump", "--version", "--all", "--summary", "--json", "--only", "--raw", "--base",
              "--symbols", "--profile", "--perf-map", "--jitdump",
              "--bits", "--bytes", "--at", "--count", "--soft", "--cpl", "--mode", "--basic-blocks", "--color"}
    good = done.returncode == 0 and wanted <= options and not done.stderr
    report("--help names every option", None if good else f"missing {wanted - options}, {done.stderr!r}")
    report("--help has examples", None if "Examples" in done.stdout and "bt-vmm run --kernel" in done.stdout else done.stdout)
    report("run --help is the same", None if run(["run", "--help"], folder).stdout == done.stdout else "it differs")
    if not MAN_PAGE:
        report("the man page has every option", skip="no man page given")
        return
    with open(MAN_PAGE, encoding="utf-8") as page:
        text = page.read().replace("\\-", "-")
    report("the man page has every option", None if wanted <= set(re.findall(r"--[a-z][a-z-]+", text)) else "some are missing")


def test_check(folder):
    done = run(["check"], folder)
    lines = done.stdout.splitlines()
    odd = [line for line in lines if not line.endswith(": ok") and ": missing: " not in line]
    expected = 2 if any(": missing: " in line for line in lines) else 0
    problem = None
    if done.returncode != expected or done.stderr or odd or len(lines) < 10:
        problem = f"exit code {done.returncode}, odd lines {odd}, {len(lines)} lines, stderr {done.stderr!r}"
    report("check", problem)
    limited = run(["check"], folder, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    report("check under a limit", None if limited.returncode == 2 and "files of 512M: missing: " in limited.stdout else repr(limited))


def main():
    print("TAP version 13")
    with tempfile.TemporaryDirectory(prefix="bt-vmm-cli-") as folder:
        for name, content in FILES.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        os.mkfifo(os.path.join(folder, "fifo"))
        test_bad_input(folder)
        test_unreadable(folder)
        test_terminal_is_left_alone(folder)
        test_version(folder)
        test_help(folder)
        test_check(folder)
    tap.finish()


main()
