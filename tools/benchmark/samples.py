"""Numbers of all rounds, by row and by who."""

import math
import statistics


class Samples:
    """`best`: the least of the rounds stands for all, where a machine has other things to do; else the median."""

    def __init__(self, rows=None, best=False):
        self.rows = rows or {}
        self.best = best

    def add(self, row, who, value):
        if value is not None:
            self.rows.setdefault(row, {}).setdefault(who, []).append(value)

    def value(self, row, who):
        values = self.rows.get(row, {}).get(who)
        return (min if self.best else statistics.median)(values) if values else None

    def ratio(self, row, a, b):
        a, b = self.value(row, a), self.value(row, b)
        return a / b if a is not None and b else None

    def mean_ratio(self, rows, a, b):
        """Geometric, of those rows that have both."""
        ratios = [ratio for ratio in (self.ratio(row, a, b) for row in rows) if ratio]
        return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None
