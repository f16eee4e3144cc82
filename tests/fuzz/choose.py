#!/usr/bin/python3
"""Make a small corpus of the inputs that cover most: choose.py FUZZER OUT COUNT FOLDER...

FUZZER is one that tools/fuzz built; what a target covers is what libFuzzer counts. Taken in the order of how much each adds."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

LARGEST = 2048


def features(fuzzer, folders):
    """Of each input, as a merge writes them down: after a line for each file, lines "FT NUMBER FEATURE..."."""
    with tempfile.TemporaryDirectory() as folder:
        control = pathlib.Path(folder, "control")
        subprocess.run([fuzzer, "-merge=1", f"-merge_control_file={control}", folder, *folders], capture_output=True, check=True)
        lines = control.read_text().splitlines()
    count = int(lines[0])
    names = lines[2:2 + count]
    rows = [line.split() for line in lines[2 + count:] if line.startswith("FT ")]
    return {pathlib.Path(names[int(row[1])]): set(row[2:]) for row in rows}


def choose(found, count):
    covered, left = set(), {name: what for name, what in found.items() if name.stat().st_size <= LARGEST}
    for _ in range(count):
        best = max(left, key=lambda name: (len(left[name] - covered), -name.stat().st_size), default=None)
        if best is None or left[best] <= covered:
            return
        covered |= left.pop(best)
        yield best


def main():
    fuzzer, out, count, *folders = sys.argv[1:]
    found = features(fuzzer, folders)
    chosen = list(choose(found, int(count)))
    target = pathlib.Path(out)
    target.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(chosen):
        shutil.copyfile(name, target / f"{number:02}")
    total = len(set().union(*found.values()))
    print(f"{len(chosen)} of {len(found)} inputs, {len(set().union(*(found[name] for name in chosen)))} of {total} features")


main()
