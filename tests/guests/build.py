#!/usr/bin/python3
"""Build guest programs: build.py OUTPUT_DIR [NAME...]; all of the manifest by default."""
import os
import pathlib
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
FLAGS = """-m32 -march=i686 -std=gnu17 -O1 -Wall -Wextra -ffreestanding -nostdlib -static -fno-pie -no-pie -fno-stack-protector
    -fcf-protection=none -mgeneral-regs-only -fno-asynchronous-unwind-tables -Wl,--build-id=none -Wl,-z,noexecstack""".split()


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    names = sys.argv[2:] or tomllib.loads((HERE / "manifest.toml").read_text())
    for name in names:
        sources = [str(s) for s in (HERE / "start.S", HERE / "guest.c", *sorted(HERE.glob(name + ".[Sc]")))]
        subprocess.run([os.environ.get("CC", "gcc"), *FLAGS, "-Wl,-T," + str(HERE / "guest.ld"), "-o", str(out / name), *sources], check=True)


main()
