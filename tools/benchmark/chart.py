"""The rows as a picture: how many times faster than TCG, bt-vmm as a bar and native as a mark, on a logarithmic axis."""

import math
import shutil
import subprocess
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 900, 230, 70
ROW_HEIGHT, HEAD_HEIGHT, TOP, BOTTOM = 20, 30, 76, 34
FASTER, SLOWER, NATIVE, TEXT, FAINT = '#2f6db3', '#c0392b', '#e08a00', '#222222', '#d8d8d8'
CONVERTER = 'rsvg-convert'


class Scale:
    """Factors to places; reaches from the least to the greatest, and at least from 1 to 10."""

    def __init__(self, factors):
        self.low = math.floor(min([0, *map(math.log10, factors)]))
        self.high = math.ceil(max([1, *map(math.log10, factors)]))

    def x(self, factor):
        return LEFT + (math.log10(factor) - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def decades(self):
        return [10.0 ** n for n in range(self.low, self.high + 1)]


def text(x, y, content, *, anchor='start', size=12, weight='normal', fill=TEXT):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{fill}">'
            f'{escape(content)}</text>')


def factor_text(factor):
    return f'{factor:.0f}' if factor >= 10 else f'{factor:.1f}' if factor >= 1 else f'{factor:.2f}'


def draw_row(scale, y, name, ours, native):
    middle = y + ROW_HEIGHT / 2
    start, end = sorted((scale.x(1), scale.x(ours)))
    yield text(LEFT - 8, middle + 4, name, anchor='end')
    yield f'<rect x="{start:.1f}" y="{y + 4:.1f}" width="{max(end - start, 1):.1f}" height="{ROW_HEIGHT - 8}" fill="{FASTER if ours >= 1 else SLOWER}"/>'
    if native:
        x = scale.x(native)
        yield f'<path d="M{x:.1f} {y + 2:.1f} l5 8 l-5 8 l-5 -8 z" fill="{NATIVE}" stroke="white"/>'
    yield text(WIDTH - RIGHT + 8, middle + 4, factor_text(ours) + ' x')


def groups_to_draw(report):
    """(title, [(row, factor of bt-vmm, factor of native)]) of what has both monitors' times."""
    ratio = report.samples.ratio
    for group in report.groups:
        drawn = [(row.name, ratio(row.name, 'tcg', 'bt-vmm'), ratio(row.name, 'tcg', 'native')) for row in group.rows if row.tcg]
        if drawn := [row for row in drawn if row[1]]:
            yield group.title, drawn


def legend(report):
    yield text(16, 26, 'Times as fast as QEMU\'s TCG', size=16, weight='bold')
    host = report.host
    if host:
        yield text(16, 44, f'{host["processor"]}, {host["processors"]} processors; {"best" if report.samples.best else "medians"} of {report.rounds}; {host["date"]}', size=11, fill='#666666')
    x = WIDTH - 300
    yield f'<rect x="{x}" y="16" width="22" height="12" fill="{FASTER}"/>' + text(x + 28, 26, 'bt-vmm')
    yield f'<rect x="{x + 90}" y="16" width="22" height="12" fill="{SLOWER}"/>' + text(x + 118, 26, 'slower')
    yield f'<path d="M{x + 190} 14 l5 8 l-5 8 l-5 -8 z" fill="{NATIVE}"/>' + text(x + 202, 26, 'native')


def axis(scale, bottom):
    for factor in scale.decades():
        x = scale.x(factor)
        yield f'<line x1="{x:.1f}" y1="{TOP - 10}" x2="{x:.1f}" y2="{bottom}" stroke="{TEXT if factor == 1 else FAINT}"/>'
        yield text(x, TOP - 16, f'{factor:g}', anchor='middle', size=11, fill='#666666')
        yield text(x, bottom + 16, f'{factor:g}', anchor='middle', size=11, fill='#666666')


def svg(report):
    """The picture as text; None when no row has both monitors."""
    groups = list(groups_to_draw(report))
    if not groups:
        return None
    scale = Scale([factor for _, rows in groups for row in rows for factor in row[1:] if factor])
    bottom = TOP + sum(HEAD_HEIGHT + ROW_HEIGHT * len(rows) for _, rows in groups)
    parts = [*legend(report), *axis(scale, bottom)]
    y = TOP
    for title, rows in groups:
        parts.append(text(16, y + HEAD_HEIGHT - 10, title, weight='bold'))
        y += HEAD_HEIGHT
        for row in rows:
            parts += draw_row(scale, y, *row)
            y += ROW_HEIGHT
    height = bottom + BOTTOM
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">\n'
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n' + '\n'.join(parts) + '\n</svg>\n')


def draw(report, path):
    """Write the SVG and, beside it, a PNG; sentences about what could not be."""
    picture = svg(report)
    if not picture:
        return ['no chart: no row has times of both bt-vmm and TCG']
    path.write_text(picture)
    if not shutil.which(CONVERTER):
        return [f'{path} is drawn, but no PNG: there is no {CONVERTER} (Debian: librsvg2-bin)']
    done = subprocess.run([CONVERTER, '--zoom=2', '--output', path.with_suffix('.png'), path], stderr=subprocess.PIPE, text=True)
    return [f'{CONVERTER} could not draw the PNG: {done.stderr.strip()}'] if done.returncode else []
