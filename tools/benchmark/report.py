"""The table, and the same as data."""

import statistics

from .rows import GROUPS, PAIRS, WHO, Group
from .samples import Samples

WIDTH = 27


def cell(value, form):
    return format(value, form) if value is not None else '-'


def number(value):
    """Three digits that count."""
    if value is None:
        return '-'
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


class Report:
    def __init__(self, samples, groups=GROUPS, rounds=0, problems=(), host=None):
        self.samples = samples
        self.groups = [Group(g.key, g.title, g.unit, tuple(row for row in g.rows if row.name in samples.rows), g.mean) for g in groups]
        self.groups = [group for group in self.groups if group.rows]
        self.rounds = rounds
        self.problems = list(problems)
        self.host = host or {}

    @classmethod
    def of_data(cls, data, best=False):
        samples = Samples({row['name']: row['samples'] for row in data['rows']}, best)
        return cls(samples, rounds=data['rounds'], problems=data['problems'], host=data['host'])

    def limits(self, row):
        """(what, got, at most) for everything that the row is to reach and that was measured."""
        ratio, value_of = self.samples.ratio, self.samples.value
        value, native = value_of(row.name, 'bt-vmm'), value_of(row.name, 'native')
        over = native if row.over_native else 0
        found = [('native', ratio(row.name, 'bt-vmm', 'native'), row.native), ('TCG', ratio(row.name, 'bt-vmm', 'tcg'), row.tcg),
                 ('2006', None if value is None or over is None else value - over, row.mark), ('aim', value, row.aim)]
        return [(what, got, most) for what, got, most in found if got is not None and most is not None]

    def verdict(self, row):
        """The limits that are missed, the worst first by how far."""
        missed = sorted(((got / most, what, got, most) for what, got, most in self.limits(row) if got > most), reverse=True)
        return ', '.join(self.say_limit(what, got, most) for _, what, got, most in missed)

    @staticmethod
    def say_limit(what, got, most):
        unit = f' x {what}' if what in ('native', 'TCG') else ' ticks (2006)' if what == '2006' else ''
        return f'{got:.2f} > {most:.2f}{unit}' if unit.startswith(' x') else f'{number(got)} > {number(most)}{unit}'

    def ratios(self, names):
        return ''.join(f'{cell(self.samples.mean_ratio(names, a, b), ".2f"):>15}' for a, b in PAIRS)

    def group_lines(self, group):
        title = f'{group.title}, {group.unit}' if group.unit else group.title
        yield f'{title:{WIDTH + 2}}' + ''.join(f'{who:>10}' for who in WHO) + ''.join(f'{f"{a}/{b}":>15}' for a, b in PAIRS) + '   missed'
        for row in group.rows:
            cells = ''.join(f'{number(self.samples.value(row.name, who)):>10}' for who in WHO)
            yield f'  {row.name:{WIDTH}}{cells}{self.ratios([row.name])}   {self.verdict(row)}'.rstrip()
        names = [row.name for row in group.rows]
        if group.mean or group.key == 'kernel':
            yield f'  {"geometric mean":{WIDTH}}{"":30}{self.ratios(names)}   {self.mean_verdict(group)}'.rstrip()

    def mean_verdict(self, group):
        mean = self.samples.mean_ratio([row.name for row in group.rows], 'bt-vmm', 'native')
        return f'{mean:.2f} > {group.mean:.2f} x native' if mean and group.mean and mean > group.mean else ''

    def worst(self):
        """(factor over the limit, row, limit) of every limit that is missed, the worst first."""
        found = [(got / most, row.name, self.say_limit(what, got, most))
                 for group in self.groups for row in group.rows for what, got, most in self.limits(row) if got > most]
        return sorted(found, reverse=True)

    def lines(self):
        for group in self.groups:
            yield from self.group_lines(group)
        limits = [limit for group in self.groups for row in group.rows for limit in self.limits(row)]
        missed = self.worst()
        yield f'{len(limits) - len(missed)} of {len(limits)} limits reached'
        for problem in self.problems:
            yield f'problem: {problem}'

    def row_data(self, group, row):
        samples = self.samples.rows[row.name]
        return {
            'group': group.key, 'name': row.name, 'unit': group.unit, 'samples': samples,
            'medians': {who: statistics.median(values) for who, values in samples.items()},
            'ratios': {f'{a}/{b}': self.samples.ratio(row.name, a, b) for a, b in PAIRS},
            'limits': [{'against': what, 'is': got, 'at most': most, 'reached': got <= most} for what, got, most in self.limits(row)],
        }

    def data(self):
        return {
            'host': self.host,
            'rounds': self.rounds,
            'rows': [self.row_data(group, row) for group in self.groups for row in group.rows],
            'geometric means': {group.key: {f'{a}/{b}': self.samples.mean_ratio([row.name for row in group.rows], a, b) for a, b in PAIRS}
                                for group in self.groups if group.mean or group.key == 'kernel'},
            'problems': self.problems,
        }
