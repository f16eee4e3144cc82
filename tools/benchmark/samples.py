"""Numbers of all rounds, by row and by who."""

import math
import statistics


class Samples:
    def __init__(self, rows=None):
        self.rows = rows or {}

    def add(self, row, who, value):
        if value is not None:
            self.rows.setdefault(row, {}).setdefault(who, []).append(value)

    def median(self, row, who):
        values = self.rows.get(row, {}).get(who)
        return statistics.median(values) if values else None

    def ratio(self, row, a, b):
        a, b = self.median(row, a), self.median(row, b)
        return a / b if a is not None and b else None

    def mean_ratio(self, rows, a, b):
        """Geometric, of those rows that have both."""
        ratios = [ratio for ratio in (self.ratio(row, a, b) for row in rows) if ratio]
        return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None
