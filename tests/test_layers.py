#!/usr/bin/python3
"""The layer check must see what it is there for: it runs over small trees, each with one thing wrong. Usage: test_layers.py LAYERS"""

import subprocess
import sys
import tempfile
from pathlib import Path

GOOD = {
    'base/types.h': '',
    'cache/cache.h': '#include "base/types.h"\n',
    'cache/private.h': '#include "base/types.h"\n',
    'cache/cache.c': '#include "cache/cache.h"\n#include "cache/private.h"\n#include <stdio.h>\n',
    'cache/meson.build': "files('cache.c')\n",
    'shadow/shadow.h': '#include "base/types.h"\n',
    'runtime/machine.h': '',
    'runtime/run.c': '#include "cache/cache.h"\n#include "shadow/shadow.h"\n#include "runtime/devices/bus.h"\n',
    'runtime/meson.build': "files('run.c')\n",
    'runtime/devices/bus.h': '#include "runtime/machine.h"\n',
}
# What is wrong: the files that differ from GOOD, and a piece of what the check says about it.
CASES = [
    ({}, None),
    ({'shadow/shadow.h': '#include "cache/cache.h"\n'}, 'shadow/ may not know cache/'),
    ({'base/log.h': '#include "cache/cache.h"\n'}, 'base/ may not know cache/'),
    ({'cache/private.h': '#  include "runtime/machine.h"\n'}, 'cache/ may not know runtime/'),
    ({'runtime/run.c': '#include "cache/private.h"\n'}, 'only cache/cache.h is public'),
    ({'cache/cache.c': '#include "private.h"\n'}, 'no such file from the root'),
    ({'cache/cache.c': '#include "../shadow/shadow.h"\n'}, 'no such file from the root'),
    ({'cache/cache.c': '#include <Zydis/Zydis.h>\n'}, 'belongs to translator/'),
    ({'runtime/run.c': '#include <capstone/capstone.h>\n'}, 'belongs to base/'),
    ({'cache/private.h': '#include "cache/cache.h"\n', 'cache/cache.h': '#include "cache/private.h"\n'}, 'include cycle'),
    ({'runtime/devices/bus.h': '#include "runtime/cpu.h"\n', 'runtime/cpu.h': ''}, 'devices know runtime/machine.h alone'),
    ({'cache/cache.c': '\n' * 701}, 'has 701 lines'),
    ({'cache/cache.def': '\n' * 701}, None),
    ({'cache/forgotten.c': ''}, 'is in no meson.build'),
    ({'tests/unit/test_topic.c': '', 'tests/meson.build': "['topic_more']"}, 'is not in tests/meson.build'),
    ({'tests/unit/test_topic.c': '', 'tests/meson.build': "['topic']"}, None),
]


def run(layers, files):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return subprocess.run([layers, root], capture_output=True, text=True)


def main():
    failed = 0
    print(f'1..{len(CASES)}')
    for number, (files, expected) in enumerate(CASES, 1):
        result = run(sys.argv[1], {**GOOD, **files})
        if expected:
            held = result.returncode == 1 and expected in result.stdout and len(result.stdout.splitlines()) == 1
        else:
            held = result.returncode == 0 and not result.stdout
        print(f"{'ok' if held else 'not ok'} {number} - {expected or 'nothing wrong'}")
        if not held:
            failed += 1
            print('# ' + (result.stdout + result.stderr).replace('\n', '\n# '))
    sys.exit(1 if failed else 0)


main()
