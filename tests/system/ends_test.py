#!/usr/bin/python3
"""How runs end: exit codes, messages, files and the terminal, each with a kernel of a few instructions.

Usage: ends_test.py BT-VMM; prints TAP.
"""
import json
import os
import pty
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

sys.dont_write_bytecode = True
from tap import Tap  # noqa: E402

BINARY = os.path.abspath(sys.argv[1])
SECONDS = 60
LOAD, CODE_AT, ZEROES = 0x100000, 0x20, 0x100200
tap = Tap()
report = tap.report
for each in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # under nohup, or in the background of a script, they are ignored, and would be by what runs here
    signal.signal(each, signal.SIG_DFL)

PUT_B = bytes.fromhex("66baf803 b062 ee")      # mov dx, 3F8h; mov al, 'b'; out dx, al
SPIN = bytes.fromhex("ebfe")
HALT = bytes.fromhex("fa f4")                   # cli; hlt
HALT_MASKED = bytes.fromhex("b0ff e621 e6a1 fb f4")  # both interrupt controllers masked; sti; hlt
RESET = bytes.fromhex("66baf90c b002 ee b006 ee") + SPIN
TRIPLE = bytes.fromhex("b878563412 0f011d") + struct.pack("<I", ZEROES) + b"\xcc"  # mov eax, 12345678h; lidt (no limit); int3
# A descriptor table, a task state segment, a page directory where no memory is (16 MiB is all there is), then what needs it.
FAR = struct.pack("<I", 0xF0000000)
NO_GDT = b"\xbc\x00\x80\x10\x00\x68" + FAR + b"\x68\x00\x00\xff\xff" + bytes.fromhex("0f0154 2402 b810000000 8ed8 cc")  # push twice; lgdt [esp+2]; mov ds, 10h
NO_IDT = b"\xbc\x00\x80\x10\x00\x68" + FAR + b"\x68\x00\x00\xff\xff" + bytes.fromhex("0f015c 2402 cc")
NO_DIRECTORY = b"\xb8" + FAR + bytes.fromhex("0f22d8 0f20c0 0d00000080 0f22c0 90 f4")  # mov cr3, eax; paging on
SELF_DIRECTORY = bytes.fromhex("b800001000 0f22d8 c70500001000 03001000 0f20c0 0d00000080 0f22c0 90 cc")  # the image is its own directory
NOWHERE = bytes.fromhex("b8000000f0 ffe0")     # mov eax, F0000000h; jmp eax


def debug_exit(port, value):
    return b"\xb8" + struct.pack("<I", value) + b"\x66\xba" + struct.pack("<H", port) + b"\xef"


def kernel(code):
    """A flat Multiboot image of this code."""
    flags = 0x10003
    header = struct.pack("<8I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, LOAD, LOAD, 0, LOAD + 0x1000, LOAD + CODE_AT)
    return (header + code).ljust(0x300, b"\0")


class Folder(tempfile.TemporaryDirectory):
    def command(self, code, *options):
        path = os.path.join(self.name, "kernel")
        with open(path, "wb") as file:
            file.write(kernel(code))
        return [BINARY, "run", "--kernel", path, "--memory", "16M", *options]

    def run(self, code, *options, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.command(code, *options), capture_output=True, cwd=self.name, timeout=SECONDS, **more)


# Name, code, options, exit code, what stdout is, what stderr says ("" for nothing at all).
END_ROWS = [
    ("halt with interrupts off", PUT_B + HALT, [], 4, b"b", "halted for ever at EIP 0x10002"),
    ("halt with every interrupt masked", PUT_B + HALT_MASKED, [], 4, b"b", "halted for ever"),
    ("triple fault", PUT_B + TRIPLE, [], 4, b"b", "triple fault"),
    ("triple fault shows registers", TRIPLE, [], 4, b"", "12345678"),
    ("GDT where no memory is", PUT_B + NO_GDT, ["--chaos=fence"], 4, b"b", "triple fault"),
    ("IDT where no memory is", PUT_B + NO_IDT, ["--chaos=fence"], 4, b"b", "triple fault"),
    ("page directory where no memory is", PUT_B + NO_DIRECTORY, ["--chaos=fence"], 4, b"b", "triple fault"),
    ("code is its own page directory", PUT_B + SELF_DIRECTORY, ["--chaos=fence"], 4, b"b", "triple fault"),
    ("jump into nothing", NOWHERE, [], 4, b"", "triple fault"),
    ("reset under --no-reboot", PUT_B + RESET, ["--no-reboot"], 0, b"b", ""),
    ("debug exit 0", debug_exit(0xF4, 0), ["--debug-exit"], 1, b"", ""),
    ("debug exit 5", debug_exit(0xF4, 5), ["--debug-exit=0xf4"], 11, b"", ""),
    ("debug exit wraps", debug_exit(0xF4, 0x181), ["--debug-exit"], 3, b"", ""),
    ("debug exit at another port", debug_exit(0x501, 1), ["--debug-exit=0x501"], 3, b"", ""),
    ("no debug exit", debug_exit(0xF4, 5) + HALT, [], 4, b"", "halted"),
    ("timeout of a busy guest", SPIN, ["--timeout", "1"], 8, b"", "--timeout"),
    ("serial line to a full disk", PUT_B + debug_exit(0xF4, 0), ["--serial=file:/dev/full", "--debug-exit"], 1, b"",
     "output to '/dev/full' could not be written (No space left on device)"),
    ("serial line to nowhere", PUT_B + debug_exit(0xF4, 0), ["--serial=none", "--debug-exit"], 1, b"", ""),
]


def test_ends(folder):
    for name, code, options, expected, output, said in END_ROWS:
        done = folder.run(code, *options)
        text = done.stderr.decode("latin-1")
        good = done.returncode == expected and done.stdout == output and (said.lower() in text.lower() if said else not text)
        report(name, None if good else f"expected {expected}, {output!r}, {said!r}: {done}")


def test_reboots(folder):
    done = folder.run(PUT_B + RESET, "--timeout", "2")
    good = done.returncode == 8 and len(done.stdout) >= 2 and not done.stdout.strip(b"b")
    report("a guest that resets is booted anew", None if good else done)


def test_signals(folder):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with subprocess.Popen(folder.command(PUT_B + SPIN), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as running:
            running.stdout.read(1)  # it runs
            running.send_signal(number)
            _, said = running.communicate(timeout=SECONDS)
        good = running.returncode == 128 + number and said.count(b"\n") == 1
        report(f"{number.name} ends the run", None if good else f"exit code {running.returncode}, {said!r}")


# 1 MiB of a pattern at 2 MiB: mov edi, 200000h; mov ecx, 10000h * 4; mov eax, 5AFEC0DEh; rep stosd
FILL = bytes.fromhex("bf00002000 b900000400 b8dec0fe5a f3ab")
# Interrupts of the serial line alone, initialised and waited for.
WAIT = bytes.fromhex("66baf903 b001 ee 66bafc03 b008 ee b011 e620 b020 e621 b004 e621 b001 e621 b0ef e621 fb f4") + SPIN


def core_of(folder, code, number, options=()):
    """How the run ended by a signal, and its core dump where the host leaves one in the folder."""
    core = lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)  # noqa: E731
    with subprocess.Popen(folder.command(code, *options), cwd=folder.name, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=core) as running:
        running.stdout.read(1)
        with open(f"/proc/{running.pid}/coredump_filter") as file:
            chosen = int(file.read(), 16)
        time.sleep(0.1)  # until it halts
        running.send_signal(number)
        running.communicate(timeout=SECONDS)
    cores = list(Path(folder.name).glob("core*"))
    content = b"".join(path.read_bytes() for path in cores)
    for path in cores: path.unlink()
    return running.returncode, chosen, content


def test_deaths(folder):
    """By signals that name a fault but were sent: nothing that the guest's code did. What is left on disk has nothing of guest memory, which is shared."""
    for name, code in (("computes", PUT_B + SPIN), ("waits", PUT_B + WAIT)):
        code, *_ = core_of(folder, code, signal.SIGSEGV)
        report(f"SIGSEGV from outside ends a guest that {name}", None if code == -signal.SIGSEGV else f"exit code {code}")
    code, chosen, core = core_of(folder, FILL + PUT_B + SPIN, signal.SIGABRT)
    good = code == -signal.SIGABRT and not chosen & 0b1110 and struct.pack("<I", 0x5AFEC0DE) * 4 not in core
    report("a core dump leaves guest memory out", None if good else f"exit code {code}, filter {chosen:#x}, {len(core)} bytes",
           skip=None if core or not good else "no core dumps here: looked at its filter alone")


READ_FOR_EVER = bytes.fromhex("a100002000 ebf9")  # mov eax, [200000h]; jmp to it


def test_host_failure(folder):
    """Guest memory that the host has taken away, as if it had no page for it."""
    with subprocess.Popen(folder.command(PUT_B + READ_FOR_EVER), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.read(1)
        end = time.monotonic() + SECONDS
        while len(os.listdir(f"/proc/{running.pid}/task")) > 3 and time.monotonic() < end: time.sleep(0.01)  # a fourth thread makes that memory
        os.truncate(next(fd for fd in Path(f"/proc/{running.pid}/fd").iterdir() if os.readlink(fd).startswith("/memfd:guest-ram")), 0)
        _, said = running.communicate(timeout=SECONDS)
    good = running.returncode == 6 and all(part in said for part in (b"please report it", b"the host has no memory left", b" eip 0010002"))
    report("memory that the host has not: exit code 6, and what to report", None if good else f"exit code {running.returncode}, {said[:500]!r}")


def test_sandbox(folder):
    """What the kernel says of a process whose guest runs; and what a guest needs of the host works in it (a reset reads the kernel again)."""
    for options, expected in ((), "2"), (("--sandbox=off",), "0"):
        with subprocess.Popen(folder.command(PUT_B + SPIN, *options), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as running:
            started = running.stdout.read(1) == b"b"
            with open(f"/proc/{running.pid}/status") as file:
                status = dict(line.split(":\t", 1) for line in file.read().splitlines())
            running.kill()
        good = started and status["Seccomp"] == expected and status["NoNewPrivs"] == ("1" if options == () else "0")
        report(f"sandbox {' '.join(options) or 'by default'}", None if good else f"Seccomp {status['Seccomp']}, NoNewPrivs {status['NoNewPrivs']}")


def test_input_that_ends(folder):
    """Standard input at its end, closed, or a file: the run goes on."""
    code = PUT_B + debug_exit(0xF4, 0)
    with open(BINARY, "rb") as file:
        rows = [("/dev/null", {}), ("closed", {"stdin": None, "preexec_fn": lambda: os.close(0)}), ("file", {"stdin": file})]
        for name, options in rows:
            done = folder.run(code, "--debug-exit", **options)
            report(f"standard input: {name}", None if done.returncode == 1 and done.stdout == b"b" else done)


def test_closed_descriptors(folder):
    """What the monitor opens must not become its standard input or output: guest memory would be typed into the guest."""
    def close_all():
        for descriptor in range(3):
            os.close(descriptor)
    forever = folder.run(SPIN, "--timeout", "1", stdin=None, preexec_fn=close_all)
    report("all standard descriptors closed: the timeout ends it", None if forever.returncode == 8 else forever)
    full = subprocess.run([BINARY, "--help"], stdin=subprocess.DEVNULL, stdout=open("/dev/full", "wb"), stderr=subprocess.PIPE, timeout=SECONDS)
    report("--help to a full device says so", None if full.returncode == 6 and full.stderr.count(b"\n") == 1 else full)


def test_files(folder):
    done = folder.run(PUT_B + debug_exit(0xF4, 0), "--debug-exit", "--serial=file:out", "--dump=blocks")
    with open(os.path.join(folder.name, "out"), "rb") as file:
        output = file.read()
    size = os.path.getsize(os.path.join(folder.name, "blocks"))
    report("--serial=file", None if done.returncode == 1 and output == b"b" and not done.stdout else f"{done}, {output!r}")
    report("--dump", None if size > 100 else f"{size} bytes")
    nowhere = folder.run(HALT, "--serial=file:no/such/folder")
    good = nowhere.returncode == 2 and b"no/such/folder" in nowhere.stderr and nowhere.stderr.count(b"\n") == 1
    report("a serial file that cannot be made", None if good else nowhere)


def test_stats(folder):
    done = folder.run(debug_exit(0xF4, 0), "--debug-exit", "--stats=json")
    try:
        problem = None if json.loads(done.stderr)["blocks_translated"] >= 1 else done
    except (ValueError, KeyError) as error:
        problem = f"{error}: {done.stderr!r}"
    report("--stats=json", problem)
    done = folder.run(debug_exit(0xF4, 0), "--debug-exit", "--stats")
    report("--stats", None if b"blocks translated" in done.stderr else done)


def read_until(fd, wanted):
    seen, end = b"", time.monotonic() + SECONDS
    while wanted not in seen and time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 4096)
    return seen


def on_terminal(folder, code, act, options=()):
    """Run with a terminal, let `act(master, process)` end it. Exit code, what it printed, were the settings raw, are they back."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    running = subprocess.Popen(folder.command(code, *options), stdin=slave, stdout=slave, stderr=slave)
    seen = read_until(master, b"b")
    raw = termios.tcgetattr(slave) != before
    act(master, running)
    exit_code = running.wait(timeout=SECONDS)
    if select.select([master], [], [], 0)[0]:
        seen += os.read(master, 65536)
    same = termios.tcgetattr(slave) == before
    os.close(slave)
    os.close(master)
    return exit_code, seen, raw, same


def test_terminal(folder):
    rows = [
        ("Ctrl-A x", lambda fd, _: os.write(fd, b"\x01x"), 0),
        ("SIGTERM", lambda _, process: process.terminate(), 128 + signal.SIGTERM),
        ("SIGHUP", lambda _, process: process.send_signal(signal.SIGHUP), 128 + signal.SIGHUP),
    ]
    for name, act, expected in rows:
        exit_code, seen, raw, same = on_terminal(folder, PUT_B + SPIN, act)
        good = exit_code == expected and raw and same
        report(f"on a terminal: {name}", None if good else f"exit code {exit_code}, raw {raw}, restored {same}, {seen!r}")
    exit_code, seen, _, same = on_terminal(folder, PUT_B + TRIPLE, lambda *_: None)
    good = exit_code == 4 and same and b"triple fault" in seen and seen.count(b"\n") == seen.count(b"\r\n")
    report("on a terminal: triple fault", None if good else f"exit code {exit_code}, restored {same}, {seen!r}")


def main():
    print("TAP version 13")
    with Folder(prefix="bt-vmm-ends-") as name:
        folder = Folder(dir=name)
        test_ends(folder)
        test_reboots(folder)
        test_signals(folder)
        test_deaths(folder)
        test_host_failure(folder)
        test_sandbox(folder)
        test_input_that_ends(folder)
        test_closed_descriptors(folder)
        test_files(folder)
        test_stats(folder)
        test_terminal(folder)
    tap.finish()


main()
