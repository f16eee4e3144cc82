#!/usr/bin/python3
"""Inputs for the fuzzers to begin with, made here: seeds.py FOLDER."""
import gzip
import lzma
import pathlib
import random
import struct
import sys

CODE = bytes.fromhex("9c58fa8ed80f0101cd800f20c0c3")


def put(image, *fields):
    for form, at, value in fields:
        struct.pack_into("<" + form, image, at, value)
    return bytes(image)


def elf(kind=2, flags=5, header=True):
    """Headers, a segment and a section with CODE, a symbol; with a Multiboot header in front of the code if `header`."""
    magic = 0x1BADB002
    code = (struct.pack("<3I", magic, 3, -(magic + 3) & 0xFFFFFFFF) if header else b"") + CODE
    names = b"\0.text\0.symtab\0.strtab\0f\0"
    table = bytes(16) + struct.pack("<IIIBBH", 23, 0x100000 if kind != 1 else 0, len(code), 2, 0, 1)
    at = [84, 84 + len(code), 84 + len(code) + len(table)]
    sections = at[2] + len(names)
    head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\1\1\1", kind, 3, 1, 0x10000C, 52, sections, 0, 52, 32, 1, 40, 4, 3)
    segment = struct.pack("<8I", 1, at[0], 0x100000, 0x100000, len(code), len(code) + 64, flags, 4)
    rows = [(0,) * 10, (1, 1, 6, 0x100000 if kind != 1 else 0, at[0], len(code), 0, 0, 1, 0), (7, 2, 0, 0, at[1], len(table), 3, 0, 4, 16),
            (15, 3, 0, 0, at[2], len(names), 0, 0, 1, 0)]
    return head + segment + code + table + names + b"".join(struct.pack("<10I", *row) for row in rows)


def flat():
    magic, flags = 0x1BADB002, 0x10003
    return struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, 0x100000, 0x100000, 0, 0x101000, 0x100020) + CODE


def bzimage(payload=b"", version=0x20F, relocatable=1):
    image = bytearray(2 * 512)
    stub = b"\xfc\xeb\xfe"
    head = put(image, ("B", 0x1F1, 1), ("I", 0x1F4, (len(stub + payload) + 15) // 16), ("H", 0x1FE, 0xAA55), ("B", 0x201, 0x6A), ("4s", 0x202, b"HdrS"),
               ("H", 0x206, version), ("B", 0x211, 1), ("I", 0x214, 0x100000), ("I", 0x22C, 0x7FFFFFFF), ("I", 0x230, 0x1000), ("B", 0x234, relocatable),
               ("I", 0x238, 64), ("I", 0x248, len(stub)), ("I", 0x24C, len(payload)), ("Q", 0x258, 0x200000), ("I", 0x260, 0x10000))
    return head + stub + payload


def payloads():
    inner = elf(header=False)
    yield gzip.compress(inner, mtime=0)
    yield lzma.compress(inner, check=lzma.CHECK_CRC32) + struct.pack("<I", len(inner))
    yield b"\x28\xb5\x2f\xfd" + bytes(32)


def linux():
    for i, image in enumerate([bzimage(), bzimage(b"x" * 40), bzimage(version=0x203), bzimage(relocatable=0), bzimage(version=0x209)]):
        yield bytes([i | 4 * (i & 1) | 8]) + image


def multiboot():
    for i, image in enumerate([elf(), flat(), elf(kind=3), flat() + bytes(100)]):
        yield bytes([0x10 + i | 4 * (i & 1)]) + image


def inspect():
    for image in [elf(), elf(kind=3, header=False), elf(kind=1), elf()[:-160], *(bzimage(p) for p in payloads())]:
        yield b"\x18" + image
    yield b"\x01" + CODE
    yield b"\x03" + CODE


def symbols():
    system_map = "c1000000 T _text\nc1000000 T startup\nc1000100 t do_nothing\nc1000180 D a_variable\nc1000200 W weak\nc2000000 T far_off\n"
    for text in [system_map, system_map + "f8000000 t helper\t[a_module]\nf8000000 t __helper\t[a_module]\n", system_map[:-3], "00000000 T hidden\n00000000 t too\n",
                 "ffffffff81000000 T of_64_bits\nffffffff T last\n", "c1000000 D data_alone\n", "no map\n"]:
        yield b"\0" + text.encode()
    for image in [elf(), elf(kind=3, header=False), elf(kind=1), elf()[:-160], bzimage(next(payloads()))]:
        yield b"\5" + image


def options():
    lines = ["run --kernel k --initrd i --initrd=j --append a --memory 64M --serial=file:x --timeout 5 --debug-exit=0xf4 --stats=json",
             "run --kernel=k --log=shadow:debug,all:trace --tc-size 8M --chaos=kicks,check --verify --dump=d --forms f --no-reboot --cpu=+smap,-pae",
             "check --memory 3G", "--help", "--version", "run --help", "classify f --raw --base=0x7c00 --bits 16 --all --json",
             "classify --bytes 90 --only=cli,sti", "translate f --at main --count 4 --soft --cpl 3 --basic-blocks --color=always --mode=0xb8"]
    for line in lines:
        yield line.replace(" ", "\0").encode()


def translator():
    """A mode of each kind with code of each kind."""
    dice = random.Random(1)
    modes = [0xB8, 0xBC, 0x3B, 0x3F, 0x200000BB, 0x0FFF0080, 0x0FFF0063, 0x8BB, 0x10000BC, 0x80B8, 0x3FB]
    codes = [CODE, bytes.fromhex("8b448b08 668901 fec4 002510000000 74f0 e8fbffffff ffd0 ff20 c20400"), bytes.fromhex("f3a5 a4 ae a6 60 61 c8100001 c9 6a01 ff33 8f03"),
             bytes.fromhex("d9ee dd03 0f6f03 0f2803 660fef03 f30f1003 0fae03 0ff7c1"), bytes.fromhex("f00fb10b 0fa303 0fbaf103 e2fe e300 d6 d7 27 d40a"),
             bytes.fromhex("660f380006 660f3a0fc108 660f3a16d801 660f3a20c300 0f38f003 66f20f38f101 f30fb8c1 f30fbcc4 660f38f6e0 0fc7f4"),
             bytes.fromhex("c4e270f203 c4e2f8f3ce c4e37bf0e403 c4e263f6cc c4e242f5c3 660f38dc01 660f3a440311 0f38cb06 c5f877 c40f c51e c4e27df703"),
             bytes.fromhex("67f3a5 26f366ab 67f20faec7 f0660fb10e 2ef3a4 f3660f6f4600 0fae0e 660fae3c df2f 660f38170c 9a00000000 660f3a62c10c")]
    for i, mode in enumerate(modes * 4):
        code = codes[i % len(codes)] + bytes(dice.randrange(256) for _ in range(8))
        yield struct.pack("<IIIIBBH", mode, 0x1000 + 0xFF8 * (i & 1), 0x10000, 0x10000, i * 3, i & 23, 300 + i) + code


def main():
    for make in (inspect, linux, multiboot, options, symbols, translator):
        folder = pathlib.Path(sys.argv[1]) / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for i, content in enumerate(make()):
            (folder / f"seed-{i:02}").write_bytes(content)


main()
