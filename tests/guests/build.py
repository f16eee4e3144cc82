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
    manifest = tomllib.loads((HERE / "manifest.toml").read_text())
    for name in sys.argv[2:] or manifest:
        sources = [str(s) for s in (HERE / "start.S", HERE / "guest.c", *sorted(HERE.glob(name + ".[Sc]")))]
        place = [f"-Wl,--defsym=image_base={base}"] if (base := manifest[name].get("base")) else []
        subprocess.run([os.environ.get("CC", "gcc"), *FLAGS, *place, "-Wl,-T," + str(HERE / "guest.ld"), "-o", str(out / name), *sources], check=True)


main()
