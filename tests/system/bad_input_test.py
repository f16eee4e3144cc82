#!/usr/bin/python3
"""Any bytes as a kernel, a guest or a command line: a defined exit code, never a crash, a hang or an internal error.

Usage: bad_input_test.py BT-VMM [CASES [SEED]]; prints TAP. CASES (40) random ones of each kind, from SEED (1).
"""
import concurrent.futures
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from tap import Tap  # noqa: E402

BINARY = os.path.abspath(sys.argv[1])
CASES = int(sys.argv[2]) if len(sys.argv) > 2 else 40
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else 1
SECONDS = 120
VMLINUZ = pathlib.Path(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))) / "bt-vmm/vmlinuz"
LOAD, CHUNKS_AT, CHUNK, CHUNKS = 0x100000, 0x200, 32, 256
tap = Tap()
report = tap.report

# What runs one chunk of random bytes after the other, each with flat segments, a stack and flags anew. Whatever a chunk raises leads to the next, and
# so does the timer, a thousand times a second; behind the last, debug exit 0.
RUNNER = bytes.fromhex(
    "fc bf00401000 b900010000 b86b001000"                              # cld; edi = IDT; ecx = 256; eax = next
    "8907 66c747021000 c74704008e1000 83c708 e2ec"                      # a gate: next, selector 10h, interrupt, 32-bit; loop
    "b011 e620 b020 e621 b004 e621 b001 e621 b0fe e621"                 # the first interrupt controller: vector 20h, the timer alone
    "b034 e643 b0a9 e640 b004 e640 0f011db4001000"                      # the timer; lidt
    "b818000000 8ed8 8ec0 8ee0 8ee8 8ed0 bc00001100"                    # next: selectors, esp
    "b020 e620 6802020000"                                              # end of interrupt; flags
    "ff05ba001000 8b0dba001000 81f9ff000000 770c"                       # which chunk; above 255: done
    "c1e105 81c100021000 9d ffe1"                                       # popf; jump there
    "b800000000 baf4000000 ef f4"                                       # done: out; hlt
    "ff0700401000 00000000")                                            # the IDT's limit and base; the number


# Where devices are, and what is worth writing there: counts of one, rates, modes, vectors.
PORTS = [*range(0x20, 0x22), *range(0x40, 0x44), 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0xA0, 0xA1, 0xE0, 0xE3, 0xE9, 0xF0, *range(0x3F8, 0x400), 0x4D0, 0x510, 0x511, 0x600,
         0x604, 0x608, 0xCF8, 0xCFC, 0x2000, 0x2017, 0xFFFD, 0xFFFF]
REGISTERS = [*range(0xFEE00020, 0xFEE00400, 16), 0xFEC00000, 0xFEC00010, 0xFF00FFFC, 0xFF00FFFF, 0xA0000, 0xFEE00FFE, 0xFFFFFFFE]
VALUES = [0, 1, 2, 3, 0x0A, 0x0B, 0x11, 0x23, 0x34, 0x36, 0x72, 0x80, 0xC7, 0xFF, 0x1FF, 0x20030, 0x44030, 0xFFFFFFFF]


def device_access(dice):
    """Code of at most 15 bytes."""
    value = struct.pack("<I", dice.choice([*VALUES, dice.getrandbits(32)]))
    if dice.random() < 0.3:
        address = struct.pack("<I", dice.choice(REGISTERS))
        return dice.choice([b"\xc7\x05" + address + value, b"\xa1" + address, b"\x80\x0d" + address + value[:1], b"\x0f\x6f\x05" + address])
    operation = dice.choice(["ee", "ee", "ee", "ec", "ec", "ef", "66ef", "ed", "66ed", "fb ee fa", "31c9 b140 f36e", "31c9 b140 f36d"])
    return b"\x66\xba" + struct.pack("<H", dice.choice(PORTS)) + b"\xb8" + value + bytes.fromhex(operation)


def device_chunk(dice):
    return (device_access(dice) + device_access(dice)).ljust(CHUNK, b"\xcc")


def lines(problems):
    return "\n".join(str(problem) for problem in problems[:5])


def flat(code):
    """A Multiboot image with load addresses."""
    magic, flags = 0x1BADB002, 0x10003
    return struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, LOAD, LOAD, 0, LOAD + 0x20000, LOAD + 0x20) + code


def elf():
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\1\1\1", 2, 3, 1, LOAD + 12, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    return header + struct.pack("<8I", 1, 84, LOAD, LOAD, 64, 0x1000, 7, 4) + struct.pack("<3I", 0x1BADB002, 3, 0xE4524FFB) + b"\xf4" * 52


def bzimage():
    image = bytearray(5 * 512 + 4096)
    for form, at, value in [("B", 0x1F1, 4), ("I", 0x1F4, 256), ("H", 0x1FE, 0xAA55), ("B", 0x201, 0x6A), ("4s", 0x202, b"HdrS"),
                            ("H", 0x206, 0x20F), ("B", 0x211, 1), ("I", 0x214, LOAD), ("I", 0x22C, 0x7FFFFFFF), ("I", 0x230, 0x1000),
                            ("B", 0x234, 1), ("I", 0x238, 64), ("I", 0x24C, 0), ("Q", 0x258, LOAD), ("I", 0x260, 0x10000)]:
        struct.pack_into("<" + form, image, at, value)
    image[5 * 512:5 * 512 + 2] = b"\xfa\xf4"
    return bytes(image)


def run(arguments, **more):
    return subprocess.run([BINARY, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, **more)


def run_kernel(content, *options):
    """As a guest of at most a second."""
    with tempfile.NamedTemporaryFile(prefix="bt-vmm-bad-") as file:
        file.write(content)
        file.flush()
        return run(["run", "--kernel", file.name, "--memory=16M", "--timeout=1", "--no-reboot", "--debug-exit", "--serial=none", *options])


def judge(done, refusal=True):
    """What is wrong with the way in which it ended."""
    if done.returncode == 2 and refusal:
        one_line = done.stderr.startswith(b"bt-vmm: ") and done.stderr.count(b"\n") == 1 and not done.stdout
        return None if one_line else f"not one sentence: {done.stderr!r}"
    good = done.returncode in (0, 4, 8) or done.returncode > 0 and done.returncode % 2 == 1
    return None if good else f"exit code {done.returncode}: {done.stderr[-2000:].decode('latin-1')}"


def many(name, make, judge_one):
    """CASES of them, two at a time; a problem names its seed."""
    def one(seed):
        problem = judge_one(make(random.Random(seed)))
        return f"seed {seed}: {problem}" if problem else None
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        problems = [p for p in pool.map(one, range(SEED, SEED + CASES)) if p]
    report(f"{name}, {CASES} of them from seed {SEED}", lines(problems))


def mutated(image, head):
    """Bytes flipped in the first `head`, or the end cut off, or both."""
    def make(dice):
        content = bytearray(image[:dice.choice([len(image), len(image), dice.randrange(len(image) + 1)])])
        for _ in range(dice.randrange(8) if content else 0):
            content[dice.randrange(min(head, len(content)))] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
        return bytes(content)
    return make


def test_kernels():
    kernels = [("a bzImage with a damaged header", bzimage(), 0x280), ("a Multiboot kernel with a damaged header", flat(b"\xfa\xf4".ljust(64, b"\0")), 32),
               ("an ELF kernel with damaged headers", elf(), 96)]
    for name, image, head in kernels:
        many(name, mutated(image, head), lambda content: judge(run_kernel(content)))
    many("random bytes as a kernel", lambda dice: dice.randbytes(dice.randrange(20000)), lambda content: judge(run_kernel(content)))
    if VMLINUZ.is_file():
        many("Debian's bzImage with a damaged header", mutated(VMLINUZ.read_bytes(), 0x280), lambda content: judge(run_kernel(content)))


def test_guests():
    many("random bytes as a guest", lambda dice: flat(dice.randbytes(4096)), lambda content: judge(run_kernel(content), False))
    runner = RUNNER.ljust(CHUNKS_AT - 0x20 + CHUNK, b"\x90")
    for name, options in (("", []), (", soft", ["--chaos=all-soft"]), (", with a tiny cache and kicks", ["--chaos=tiny-cache,kicks"])):
        many("guests of random pieces" + name, lambda dice: flat(runner + dice.randbytes(CHUNK * CHUNKS)),
             lambda content: judge(run_kernel(content, *options), False))


def test_devices():
    runner = RUNNER.ljust(CHUNKS_AT - 0x20 + CHUNK, b"\x90")
    for name, options in (("", []), (", with APICs and a test device", ["--testdev"])):
        many("guests that do anything to devices" + name, lambda dice: flat(runner + b"".join(device_chunk(dice) for _ in range(CHUNKS))),
             lambda content: judge(run_kernel(content, *options), False))


def test_binaries():
    for command in ("classify", "translate"):
        for name, image, head in (("bzImage", bzimage(), 0x280), ("ELF file", elf(), 96)):
            def judge_one(content):
                with tempfile.NamedTemporaryFile(prefix="bt-vmm-bad-") as file:
                    file.write(content)
                    file.flush()
                    return judge(run([command, file.name]))
            many(f"{command} of a damaged {name}", mutated(image, head), judge_one)


def test_command_lines():
    words = ["run", "check", "classify", "translate", "--kernel", "--kernel=x", "--memory", "--memory=", "--bytes", "--bytes=9", "--at", "--raw", "--help", "-",
             "--", "=", "--=", "", "\udcff\udcfe", "a" * 100000, "--chaos=,", "--log=:", "--stats=", "--count=1", "--base=0x", "%s%n", "--mode=0xffffffff"]
    many("random command lines", lambda dice: [dice.choice(words) for _ in range(dice.randrange(6))], lambda arguments: judge(run(arguments)))


def test_huge_files():
    """Sparse ones: their size must be seen before they are read."""
    with tempfile.TemporaryDirectory(prefix="bt-vmm-bad-") as folder:
        for name, content in (("kernel", flat(b"\xf4")), ("bzimage", bzimage()), ("elf", elf()), ("initrd", b"x"), ("good", flat(b"\xfa\xf4"))):
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(content)
                if name != "good":
                    file.truncate(1 << 40)
        rows = [["run", "--kernel", "kernel"], ["run", "--kernel", "good", "--initrd", "initrd"], ["run", "--kernel", "bzimage", "--initrd", "initrd"],
                ["classify", "elf"], ["classify", "kernel", "--raw"], ["translate", "elf"]]
        for row in rows:
            done = run(row, cwd=folder)
            report(f"files of a terabyte: {' '.join(row)}", judge(done) or (None if done.returncode == 2 else done))


def main():
    print("TAP version 13")
    test_kernels()
    test_guests()
    test_devices()
    test_binaries()
    test_command_lines()
    test_huge_files()
    tap.finish()


main()
