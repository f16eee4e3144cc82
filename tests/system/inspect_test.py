#!/usr/bin/python3
"""bt-vmm classify and bt-vmm translate, from outside, with files of a few instructions.

Usage: inspect_test.py BT-VMM; prints TAP.
"""
import gzip
import json
import lzma
import os
import pty
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from tap import Tap  # noqa: E402

BINARY = os.path.abspath(sys.argv[1])
SECONDS = 60
tap = Tap()
report = tap.report

# pushf; pop eax; cli; mov ds, eax; sgdt [ecx]; int 80h; mov eax, cr0; ret
CODE = bytes.fromhex("9c 58 fa 8ed8 0f0101 cd80 0f20c0 c3")
SENSITIVE = ["pushfd", "cli", "mov_to_seg", "sgdt", "int", "mov_from_cr"]
UNPRIVILEGED = ["pushfd", "mov_to_seg", "sgdt"]
BASE = 0x400000


def elf(code, kind=2, symbols=(), base=BASE):
    """An ELF file with one executable section and these symbols: name, offset, size, type."""
    names = b"\0.text\0.symtab\0.strtab\0"
    strings, table = b"\0", bytes(16)
    for name, offset, size, what in symbols:
        table += struct.pack("<IIIBBH", len(strings), (base if kind != 1 else 0) + offset, size, what, 0, 1)
        strings += name.encode() + b"\0"
    blobs = [code, table, strings, names]
    offsets, at = [], 52
    for blob in blobs:
        offsets.append(at)
        at += len(blob)
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\1\1\1", kind, 3, 1, base, 0, at, 0, 52, 32, 0, 40, 5, 4)
    rows = [(0,) * 10, (1, 1, 6, base if kind != 1 else 0, offsets[0], len(code), 0, 0, 1, 0),
            (7, 2, 0, 0, offsets[1], len(table), 3, 0, 4, 16), (15, 3, 0, 0, offsets[2], len(strings), 0, 0, 1, 0),
            (15, 3, 0, 0, offsets[3], len(names), 0, 0, 1, 0)]
    return header + b"".join(blobs) + b"".join(struct.pack("<10I", *row) for row in rows)


def bzimage(payload, setup=b"\x90" * 16 + b"\xfa", stub=b"\xfc"):
    """A bzImage whose setup and stub end with this code, each, and which has this payload."""
    image = bytearray(5 * 512)
    for form, at, value in [("B", 0x1F1, 4), ("H", 0x1FE, 0xAA55), ("B", 0x201, 0x6A), ("4s", 0x202, b"HdrS"), ("H", 0x206, 0x20F),
                            ("B", 0x211, 1), ("I", 0x214, 0x100000), ("I", 0x248, len(stub)), ("I", 0x24C, len(payload))]:
        struct.pack_into("<" + form, image, at, value)
    image[-len(setup):] = setup
    return bytes(image) + stub + payload


def packed(data, how):
    tail = struct.pack("<I", len(data))
    return gzip.compress(data) if how == "gzip" else lzma.compress(data, check=lzma.CHECK_CRC32) + tail


class Folder(tempfile.TemporaryDirectory):
    def run(self, command, content, *arguments, **more):
        words = [BINARY, command]
        if content is not None:
            path = os.path.join(self.name, "file")
            with open(path, "wb") as file:
                file.write(content)
            words.append(path)
        return subprocess.run(words + list(arguments), capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, **more)

    def classify(self, content, *arguments):
        """The JSON object, or a failed run."""
        done = self.run("classify", content, "--json", *arguments)
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise AssertionError(done) from None


def expect(name, got, wanted):
    report(name, None if got == wanted else f"got {got!r}, wanted {wanted!r}")


def names(found):
    return [i["name"] for i in found["instructions"]]


def test_classify_elf(folder):
    for kind, what in ((2, "ELF executable"), (3, "ELF shared object"), (1, "ELF relocatable file")):
        found = folder.classify(elf(CODE, kind))
        expect(f"{what}: format", found["format"], what)
        expect(f"{what}: sensitive instructions", names(found), SENSITIVE)
        expect(f"{what}: address", found["instructions"][1]["address"], (0 if kind == 1 else BASE) + 2)
    summary = folder.classify(elf(CODE))["summary"]
    expect("no trap-and-emulate", [summary["trap_and_emulate"], summary["unprivileged"]], [False, 3])
    expect("what keeps from it", sorted(c["name"] for c in summary["counts"] if c["privileged"] == "no"), sorted(UNPRIVILEGED))
    expect("trap-and-emulate", folder.classify(elf(b"\xfa\xf4\x90\xc3"))["summary"]["trap_and_emulate"], True)
    text = folder.run("classify", elf(CODE)).stdout
    report("text says it in a sentence", None if "could not virtualize this code: 3 of 6" in text else text)
    text = folder.run("classify", elf(b"\xc3")).stdout
    report("nothing sensitive", None if "could virtualize this code: it has no sensitive instruction" in text else text)


def test_classify_options(folder):
    summary = folder.run("classify", elf(CODE), "--summary").stdout
    report("--summary lists nothing", None if "00400000" not in summary and "sgdt" in summary else summary)
    expect("--only by name and mnemonic", names(folder.classify(elf(CODE), "--only=mov_to_seg,pop,cli")), ["pop", "cli", "mov_to_seg"])
    expect("--only by family", names(folder.classify(None, "--only=popf,ins", "--bytes", "9d 669d 6c 6d 9c")), ["popfd", "popf", "insb", "insd"])
    done = folder.run("classify", elf(CODE), "--only=cli,nosuch")
    good = done.returncode == 2 and "'nosuch' is no instruction" in done.stderr and done.stderr.count("\n") == 1
    report("--only of no instruction", None if good else done)
    text = folder.run("classify", elf(b"\x9c\x06"), "--summary").stdout
    report("plurals", None if "1 section, 2 instructions, 0 bytes that are none" in text and "2 of 2 sensitive instructions do not" in text else text)
    text = folder.run("classify", None, "--bytes=9c", "--summary").stdout
    report("and singulars", None if "1 instruction, 0 bytes" in text and "1 of 1 sensitive instruction does not" in text else text)
    expect("--all", len(names(folder.classify(elf(CODE), "--all"))), 8)
    expect("--bytes", names(folder.classify(None, "--bytes", CODE.hex())), SENSITIVE)
    expect("--bytes with spaces", names(folder.classify(None, "--bytes", CODE.hex(" "))), SENSITIVE)
    raw = folder.classify(bytes.fromhex("9c 66 9c 0f 20 c0 fa"), "--raw", "--bits=16", "--base=0x7c00")
    expect("16-bit code", [(i["name"], i["address"]) for i in raw["instructions"]],
           [("pushf", 0x7C00), ("pushfd", 0x7C01), ("mov_from_cr", 0x7C03), ("cli", 0x7C06)])


def test_symbols(folder):
    # A jump over a byte that would swallow a PUSHF; the symbol behind it brings the sweep back in step.
    code = bytes.fromhex("eb01 b8 9c 9090 c3 01020304 fa")
    symbols = [("first", 0, 2, 2), ("second", 3, 4, 2), ("table", 7, 4, 1), ("odd\x1b[0mname", 11, 1, 0)]
    found = folder.classify(elf(code, symbols=symbols))
    expect("symbols resynchronise", names(found), ["pushfd", "cli"])
    expect("symbols are named", found["instructions"][0]["where"], "second")
    expect("control characters are not printed", found["instructions"][1]["where"], "odd?[0mname")
    expect("data is skipped", found["summary"]["instructions"], 6)
    expect("without symbols out of step", names(folder.classify(elf(code))), [])


def test_more_symbols(folder):
    path = os.path.join(folder.name, "map")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{BASE:08x} T one\n{BASE + 5:08x} t two\n{BASE + 0x100000:08x} T elsewhere\n")
    found = folder.classify(elf(CODE), f"--symbols={path}")
    expect("--symbols names code", [i["where"] for i in found["instructions"]][:4], ["one", "one+0x2", "one+0x3", "two"])
    two = folder.run("translate", elf(CODE), f"--symbols={path}", "--at=two").stdout
    report("--symbols names a place", None if "00400005 two:" in two and "sgdt" in two and "pushfd" not in two else two)
    other = folder.run("classify", elf(CODE, base=0x8000000), f"--symbols={path}")
    report("--symbols of another file", None if other.returncode == 2 and "names no code" in other.stderr else other)


def test_classify_linux(folder):
    kernel = elf(CODE, symbols=[("start", 0, len(CODE), 2)])
    for how in ("xz", "gzip"):
        found = folder.classify(bzimage(packed(kernel, how)))
        if "no lib" in found["note"] or "no zlib" in found["note"]:
            continue
        expect(f"{how} payload", [found["format"], names(found)], ["Linux bzImage with an ELF executable", ["cli"] + SENSITIVE])
        expect(f"{how} sections", [(s["name"], s["bits"]) for s in found["sections"]], [("setup", 16), ("stub", 32), (".text", 32)])
        broken = bytearray(bzimage(packed(kernel, how)))
        broken[-30] ^= 0xFF
        report(f"{how} payload that is corrupt", None if "corrupt" in folder.classify(bytes(broken))["note"] else "nothing said")
    found = folder.classify(bzimage(b"\x28\xb5\x2f\xfd" + bytes(100)))
    report("another compression is named", None if "zstd" in found["note"] and names(found) == ["cli"] else found)


def test_translate(folder):
    functions = [("one", 0, 5, 2), ("two", 5, 9, 2)]
    whole = folder.run("translate", elf(CODE, symbols=functions)).stdout
    wanted = ["00400000", "pushfd", "lahf", "[vcpu.eflags]", "IF, DF and the system", "shows GDTR", "<callout>", "<chain>"]
    report("from the entry point", None if all(w in whole for w in wanted) and "\033" not in whole else whole)
    two = folder.run("translate", elf(CODE, symbols=functions), "--at=two").stdout
    report("--at a symbol", None if "sgdt" in two and "pushfd" not in two else two)
    two = folder.run("translate", elf(CODE, symbols=functions), "--at=0x400005").stdout
    report("--at an address", None if "sgdt" in two and "pushfd" not in two else two)
    every = folder.run("translate", elf(CODE, symbols=functions), "--all").stdout
    report("--all functions", None if "one:" in every and "two:" in every else every)
    count = folder.run("translate", None, "--bytes=ebfe ebfe ebfe", "--count=2").stdout.count(", mode ")
    expect("--count", count, 2)
    load = ["--bytes=8b4304"]
    direct, soft = (folder.run("translate", None, *load, *more).stdout for more in ([], ["--soft"]))
    report("direct form", None if "[r15 + rbx + 4]" in direct and "window" in direct else direct)
    report("soft form", None if "<soft>" in soft and "memory: soft" in soft else soft)
    user = folder.run("translate", None, "--bytes=fa", "--cpl=3").stdout
    report("--cpl", None if "<callout>" in user and "<callout>" not in folder.run("translate", None, "--bytes=fa").stdout else user)
    blocks = folder.run("translate", None, "--bytes=7400 90 c3", "--basic-blocks").stdout.count(", mode ")
    expect("--basic-blocks", blocks, 2)
    mode = folder.run("translate", None, "--bytes=8b00", "--mode=0xbc").stdout
    report("--mode", None if "mode 000000bc" in mode and "<soft>" in mode else mode)
    half = folder.run("translate", None, "--bytes=90 0f")
    report("half an instruction", None if half.returncode == 0 and "within an instruction" in half.stdout else half)


def test_color(folder):
    always = folder.run("translate", None, "--bytes=fa", "--color=always").stdout
    report("--color=always", None if "\033[" in always else always)
    for name, environment, wanted in (("a terminal", {"TERM": "xterm"}, True), ("NO_COLOR", {"TERM": "xterm", "NO_COLOR": "1"}, False)):
        master, slave = pty.openpty()
        subprocess.run([BINARY, "translate", "--bytes=fa"], stdout=slave, timeout=SECONDS, env=environment)
        seen = os.read(master, 65536)
        os.close(slave)
        os.close(master)
        expect(f"colour: {name}", b"\033[" in seen, wanted)


def main():
    print("TAP version 13")
    with Folder(prefix="bt-vmm-inspect-") as name:
        folder = Folder(dir=name)
        test_classify_elf(folder)
        test_classify_options(folder)
        test_symbols(folder)
        test_more_symbols(folder)
        test_classify_linux(folder)
        test_translate(folder)
        test_color(folder)
    tap.finish()


main()
