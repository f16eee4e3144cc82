#!/usr/bin/python3
"""What tells where the guest's time goes: --profile, --stats, --perf-map and --jitdump find a known hot function, and docs/profiling.md is right.

Usage: profile_test.py BT-VMM GUEST-IMAGES; prints TAP. The walk-through's lines run as they stand in the document."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from pathlib import Path

sys.dont_write_bytecode = True
from serial_guest import ROOT  # noqa: E402
from tap import Tap  # noqa: E402

SVG = '{http://www.w3.org/2000/svg}'
TITLE = re.compile(r'(.*) \((\d+) samples, [\d.]+%\)', re.DOTALL)
HOT = '[u] recursion:fibonacci'
LIMIT = 300


def run_hot(vmm, image, folder, *options, length='long'):
    command = [vmm, 'run', '--kernel', image, '--append', length, '--memory', '64M', '--debug-exit', '--no-reboot', f'--symbols={image}', *options]
    result = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
    assert result.returncode == 1, f'exit code {result.returncode}: {result.stderr[-500:]}'
    return result.stderr


def frames_of(path):
    """[(depth, x, width, name, samples)] of a flame graph."""
    frames = []
    for group in xml.etree.ElementTree.parse(path).getroot().iter(SVG + 'g'):
        name, samples = TITLE.fullmatch(group.find(SVG + 'title').text).groups()
        frames.append((int(group.get('data-d')), float(group.get('data-x')), float(group.get('data-w')), name, int(samples)))
    return frames


def callers(frames, frame):
    """Names from the root to this frame."""
    middle = frame[1] + frame[2] / 2
    return [f[3] for f in sorted(frames) if f[0] <= frame[0] and f[1] <= middle < f[1] + f[2]]


def self_samples(frames):
    """Samples of each name that are not its callees'. The picture leaves out what is very narrow: that counts for the caller."""
    sums = {}
    for depth, x, width, name, samples in frames:
        inside = sum(f[4] for f in frames if f[0] == depth + 1 and x - 0.01 <= f[1] and f[1] + f[2] <= x + width + 0.01)
        sums[name] = sums.get(name, 0) + samples - inside
    return sums


def top_of(path):
    frames = frames_of(path)
    sums = self_samples(frames)
    top = max(sums, key=sums.get)
    return frames, top, sums[top] / frames[0][4]


def check_flame_graph(vmm, image, folder):
    run_hot(vmm, image, folder, '--profile=hot.svg')
    frames, top, share = top_of(Path(folder) / 'hot.svg')
    assert top == 'hot' and share > 0.6, f'{top} has {share:.0%}'
    widest = max((f for f in frames if f[3] == 'hot'), key=lambda f: f[4])
    path = callers(frames, widest)
    assert path[:2] == ['all', 'kernel'] and path[-3:] == ['guest_main', 'warm', 'hot'], path


def check_stats(vmm, image, folder):
    stats = json.loads(run_hot(vmm, image, folder, '--stats=json', length='short').splitlines()[-1])
    asked, touched = stats['top_callouts'][0], [p for p in stats['top_accesses'] if '[k] touches' in p['name']]
    assert asked['callout'] == 'sidt' and asked['name'].startswith('[k] asks') and asked['count'] == 5000, asked
    assert stats['callouts']['sidt'] == 5000
    assert sum(p.get('true', 0) for p in touched) == 256, touched
    assert [p['count'] for p in stats['top_callouts']] == sorted((p['count'] for p in stats['top_callouts']), reverse=True)


def read_jitdump(path):
    """[(timestamp, address, name, code)], by the specification of Linux."""
    data = path.read_bytes()
    magic, version, size, machine, _, _, _, _ = struct.unpack_from('<IIIIIIQQ', data)
    assert (magic, version, size, machine) == (0x4A695444, 1, 40, 62)
    loads, at = [], size
    while at < len(data):
        kind, size, time = struct.unpack_from('<IIQ', data, at)
        assert size >= 16 and at + size <= len(data)
        if kind == 3:
            assert at + size == len(data), 'something behind the end'
        else:
            assert kind == 0, f'record {kind}'
            address, length = struct.unpack_from('<QQ', data, at + 32)
            name, code = data[at + 56:at + size].split(b'\0', 1)
            assert len(code) == length, name
            loads.append((time, address, name.decode(), code))
        at += size
    return loads


def check_jitdump(vmm, image, folder):
    run_hot(vmm, image, folder, '--jitdump', '--chaos=tiny-cache', length='short')
    loads = read_jitdump(next(Path(folder).glob('jit-*.dump')))
    assert [load[0] for load in loads] == sorted(load[0] for load in loads)
    assert any(load[2].startswith('[k] hot') for load in loads) and any(load[2].startswith('[k] touches') for load in loads)


def check_map(vmm, image, folder):
    """Every line is a block, and none has another's place, though the cache was filled again and again."""
    before = set(Path('/tmp').glob('perf-*.map'))
    run_hot(vmm, image, folder, '--perf-map', '--chaos=tiny-cache,one-instruction', length='short')
    blocks, names = [], []
    for path in set(Path('/tmp').glob('perf-*.map')) - before:
        lines = path.read_text().splitlines()
        if any(' [k] hot' in line for line in lines):
            blocks = sorted((int(line.split()[0], 16), int(line.split()[1], 16)) for line in lines)
            names = [line.split(' ', 2)[2] for line in lines]
            path.unlink()
    assert any(name.startswith('[k] warm') for name in names), 'no map'
    assert all(a + size <= b for (a, size), (b, _) in zip(blocks, blocks[1:])), 'blocks overlap'


def perf_works():
    if not shutil.which('perf'):
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ['perf', 'record', '-q', '-e', 'cpu-clock', '-o', f'{folder}/data', 'true']
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def remove_maps():
    """Those that the walk-through left for perf."""
    for path in Path('/tmp').glob('perf-*.map'):
        if path.stat().st_uid == os.geteuid() and HOT in path.read_text(errors='replace'):
            path.unlink()


class WalkThrough:
    """The document's lines, run by one shell. What each prints is kept under the line."""

    def __init__(self, vmm, folder, with_perf):
        self.folder = folder
        (folder / 'tools').symlink_to(ROOT / 'tools')
        (folder / 'tests').symlink_to(ROOT / 'tests')
        text = (ROOT / 'docs/profiling.md').read_text()
        self.lines = [line for line in re.findall(r'^    \$ (.*)$', text, re.MULTILINE) if with_perf or not line.startswith('perf ')]
        script = 'set -eu -o pipefail\n' + ''.join(f"echo '@@@ {i}'\n{line} 2>&1\n" if '() {' not in line else f'{line}\n' for i, line in enumerate(self.lines))
        environment = {**os.environ, 'PATH': f'{Path(vmm).parent}:{os.environ["PATH"]}', 'LC_ALL': 'C.UTF-8'}
        self.result = subprocess.run(['bash', '-c', script], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors='replace', timeout=3 * LIMIT)
        self.output = dict(re.findall(r'^@@@ (\d+)\n(.*?)(?=^@@@ |\Z)', self.result.stdout, re.MULTILINE | re.DOTALL))

    def of(self, *words):
        """What the line with these words printed."""
        found = [self.output.get(str(i), '') for i, line in enumerate(self.lines) if all(word in line for word in words)]
        assert len(found) == 1, f'{len(found)} lines of the document have {words}'
        return found[0]


def check_ends(walk):
    assert walk.result.returncode == 0, walk.result.stdout[-1500:]


def check_walk_profile(walk):
    _, top, share = top_of(walk.folder / 'out.svg')
    assert top == 'recursion:fibonacci' and share > 0.1, f'{top} has {share:.0%}'


def check_walk_stats(walk):
    text = walk.of('--stats')
    assert re.search(r'callout \w+ at [0-9a-f]{8} \[k\] [a-z]\w+', text) and re.search(r'access at [0-9a-f]{8} \[k\] \w+', text), text[-1500:]


def check_first(walk, *words):
    lines = walk.of(*words).splitlines()
    assert lines and HOT in lines[0], lines[:3]
    assert any(' [k] ' in line for line in lines), lines


def check_annotate(walk):
    assert re.search(r'[0-9a-f]+:\s+[a-z]', walk.of('perf annotate')), walk.of('perf annotate')[-500:]


def main():
    vmm, image = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]) + '/hot'
    tap = Tap()

    def case(name, check, *arguments, skip=None):
        try:
            if not skip:
                check(*arguments)
            tap.report(name, skip=skip)
        except (AssertionError, OSError, ValueError, KeyError, StopIteration, subprocess.TimeoutExpired) as error:
            tap.report(name, error)

    with tempfile.TemporaryDirectory(prefix='bt-vmm-profile-') as name:
        folder = Path(name)
        case('flame graph of a kernel without frame pointers', check_flame_graph, vmm, image, folder)
        case('counts by place', check_stats, vmm, image, folder)
        case('jitdump is well-formed', check_jitdump, vmm, image, folder)
        case('map has the newest block of each place', check_map, vmm, image, folder)
        no_perf = None if perf_works() else 'perf does not work here'
        (folder / 'walk').mkdir()
        walk = WalkThrough(vmm, folder / 'walk', not no_perf)
        remove_maps()
        case('walk-through: every line succeeds', check_ends, walk)
        case('walk-through: flame graph', check_walk_profile, walk)
        case('walk-through: counts', check_walk_stats, walk)
        case('walk-through: perf with a map', check_first, walk, 'perf report', 'map.data', skip=no_perf)
        case('walk-through: perf with a dump', check_first, walk, 'perf report', 'jit.data', skip=no_perf)
        case('walk-through: perf annotate', check_annotate, walk, skip=no_perf)
    tap.finish()


main()
