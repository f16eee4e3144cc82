"""What tools/bench measures, in groups of rows, and what each is to reach. All values are times: less is better."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    native: float = None  # at most so many times native
    tcg: float = 1.0  # at most so many times TCG's; no row may be slower than TCG
    mark: float = None  # at most so many ticks, beyond native where `over_native`: the figures of Adams and Agesen (2006)
    over_native: bool = False
    aim: float = None  # at most this, in the row's unit


@dataclasses.dataclass(frozen=True)
class Group:
    key: str
    title: str
    unit: str
    rows: tuple
    mean: float = None  # the geometric mean is to be at most so many times native


def rows(names, **limits):
    return tuple(Row(name, **limits) for name in names.split())


USER = Group('user', 'user code', 'ms', (
    *rows('integer branches recursion interpreter switches', native=1.2), Row('chase', native=1.3),
    *rows('sort x87 sse2 copy_string copy', native=1.2)), mean=1.05)
REAL = Group('real', 'Debian programs', 'ms', rows('gzip xz sha256sum openssl perl python3 cc1 sqlite3', native=1.4, tcg=1 / 3), mean=1.15)
KERNEL = Group('kernel', 'kernel', 'us', (
    Row('getppid', native=2.2, tcg=1 / 2), *rows('pipe files zero', tcg=1 / 4),
    *rows('fork exec touch map protect signals thread', tcg=1 / 2)))
COLD = Group('cold', 'cold code', 'ns/instr', rows('cold', tcg=1 / 3))
RING0 = Group('ring0', 'ring 0', 'ticks', (
    Row('call and return', mark=40, over_native=True),
    Row('indirect call and return'),
    Row('pushf and popf'),
    Row('cli and sti'),
    Row('system call by INT', mark=2000),
    Row('system call by SYSENTER', mark=2000, over_native=True),
    Row('in from port 80h'),
    Row('in from line status'),
    Row('CR3 write'),
    Row('CR0.WP clear and set'),
    Row('page fault', mark=3927),
    Row('divide by zero', mark=3223),
    Row('page-table write', mark=391),
    Row('page-table write and touch'),
    Row('write to a code page'),
    Row('rewrite code and run it'),
    Row('context switch')))
BOOT = Group('boot', 'boot', 'ms', (Row('first process', tcg=1 / 3), Row('login prompt', tcg=1 / 3)))
MACHINE = Group('machine', 'machine', '', (
    Row('first instruction (ms)'), Row('first instruction small (ms)', aim=50), Row('memory (MiB)', tcg=None, aim=64), Row('page tables (MiB)', tcg=None)))

GROUPS = (USER, REAL, KERNEL, COLD, RING0, BOOT, MACHINE)
PROGRAM_GROUPS = (USER, KERNEL, COLD)
WHO = ('native', 'bt-vmm', 'tcg')
PAIRS = (('bt-vmm', 'native'), ('tcg', 'native'), ('tcg', 'bt-vmm'))


def select(words):
    """(groups, unknown words) for the words of --only, groups or rows; all groups when there are none."""
    if not words:
        return GROUPS, []
    known = {row.name for group in GROUPS for row in group.rows} | {group.key for group in GROUPS}
    chosen = []
    for group in GROUPS:
        kept = group.rows if group.key in words else tuple(row for row in group.rows if row.name in words)
        if kept:
            chosen.append(dataclasses.replace(group, rows=kept))
    return tuple(chosen), [word for word in words if word not in known]


def leave_out(groups, names):
    return tuple(dataclasses.replace(group, rows=tuple(row for row in group.rows if row.name not in names)) for group in groups)
