#!/usr/bin/python3
"""Run guest programs under bt-vmm, or under QEMU's TCG as a check of the tests, and report as TAP.

    run.py --images DIR --vmm build/bt-vmm [--chaos LIST] [NAME...]
    run.py --images DIR --vmm build/bt-vmm --verify usual|long [NAME...]
    run.py --images DIR --qemu [NAME...]
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
LEAST_COMPARED = 1000  # blocks; the smallest guest has more
PASS_CODE = 1  # debug-exit value 0: (0 << 1) | 1


def command(args, name, entry):
    image = str(pathlib.Path(args.images) / name)
    if args.qemu:
        return ["timeout", str(args.timeout), "qemu-system-i386", "-accel", "tcg", "-cpu", "coreduo", "-m", "64", "-display", "none",
                "-no-reboot", "-monitor", "none", "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *entry.get("qemu_args", []), "-kernel", image]
    line = [*args.vmm.split(), "run", "--kernel", image, "--memory", "64M", "--serial", "stdio", "--debug-exit", "--no-reboot",
            "--timeout", str(args.timeout), *entry.get("args", [])]
    chaos = [args.chaos] if args.chaos else []
    if entry.get("fence") and "fence" not in args.chaos.split(",") and not args.verify: # the reference maps guest memory, too
        chaos.append("fence")
    if chaos:
        line.append("--chaos=" + ",".join(chaos))
    if args.verify:
        line.append("--verify")
    return line


class Report:
    def __init__(self):
        self.count = self.failed = 0

    def line(self, good, text, directive=""):
        self.count += 1
        self.failed += not good and not directive
        print(f"{'ok' if good else 'not ok'} {self.count} - {text}{directive}", flush=True)


def run_one(args, name, entry, report):
    if args.qemu and not entry.get("qemu_runs", True):
        return report.line(True, name, " # SKIP the emulator cannot run it")
    known_wrong = entry.get("qemu_wrong", []) if args.qemu else []
    done = subprocess.run(command(args, name, entry), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output = done.stdout.decode("latin-1").replace("\r", "")
    finished, wrong_here = False, 0
    for text in output.splitlines():
        match = re.match(r"(not )?ok (.*)", text)
        if match:
            title = match[2].split(": got ")[0].split(": trap ")[0]
            skip = title in known_wrong and match[1]
            wrong_here += bool(skip)
            report.line(not match[1], f"{name}: {match[2]}".replace("#", "%"), " # TODO known error of the emulator" if skip else "")
        else:
            finished |= text.startswith("# done")
            print("# " + text)
    expected = PASS_CODE if not wrong_here else (1 << 1) | 1
    if not finished or done.returncode != expected:
        for text in done.stderr.decode("latin-1").splitlines()[-60:]:
            print("# " + text)
        report.line(False, f"{name}: ran to its end (exit code {done.returncode}, expected {expected})")
    else:
        report.line(True, f"{name}: ran to its end")
    if args.verify:
        report_verify(done.stderr.decode("latin-1"), name, report)


def report_verify(stderr, name, report):
    summary = re.search(r"^verify: \d+ blocks, (\d+) compared, .*, no difference$", stderr, re.M)
    report.line(summary and int(summary[1]) >= LEAST_COMPARED, f"{name}: every block as the reference has it")


def is_wanted(args, entry):
    if args.chaos and not entry.get("chaos", True):
        return False
    return not args.verify or entry.get("verify", "usual") == args.verify


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--vmm", default="build/bt-vmm")
    parser.add_argument("--qemu", action="store_true")
    parser.add_argument("--chaos", default="")
    parser.add_argument("--verify", choices=["usual", "long"])
    parser.add_argument("--timeout", type=int, default=180)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    manifest = tomllib.loads((HERE / "manifest.toml").read_text())
    report = Report()
    for name in args.names or manifest:
        if args.names or is_wanted(args, manifest[name]):
            run_one(args, name, manifest[name], report)
    print(f"1..{report.count}")
    return 1 if report.failed else 0


sys.exit(main())
