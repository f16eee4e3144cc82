#!/usr/bin/python3
"""Returns of user code that miss by the hundred thousand: pads that trap must meet them, and give way before they cost much.

Usage: returns_test.py BT-VMM GUESTS; prints TAP.
"""
import json
import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from tap import Tap  # noqa: E402

BURST, PER_SECOND, VIEWS = 128, 5 * 128, 4  # of each view: as runtime/returns.c has it
tap = Tap()
command = [sys.argv[1], "run", "--kernel", os.path.join(sys.argv[2], "hostile_returns"), "--stats=json", "--timeout=100"]


def misses(*options):
    done = subprocess.run(command + list(options), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return json.loads(done.stderr[done.stderr.index(b"{"):]).get("return_misses", 0)


start = time.monotonic()
traps = misses("--chaos=all-direct")
most = VIEWS * (BURST + PER_SECOND * (time.monotonic() - start))
tap.report("returns that miss trap", None if traps > BURST else f"{traps} did")
tap.report("and no longer once they are many", None if traps < most else f"{traps} did")
soft = misses("--chaos=all-soft")
tap.report("soft views have pads that compare", None if soft == 0 else f"{soft} trapped")
tap.finish()
