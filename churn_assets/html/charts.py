"""Charts of every page, of Dagster and MLflow: curves, scatters, histograms, bars and intervals.

A drawn chart is an SVG 460 units wide that scales with the page; its text is drawn, so it is for charts with axes.
Rows (`IntervalRows`, `BarRows`) are HTML with readable text at any width. Both are values: `{{ chart }}` in a
template draws them, `Chart.svg()` is a file of its own for Dagster's metadata and MLflow's artifacts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from churn_assets.html import templating
from churn_assets.html.chart_text import (
    describe_bars,
    describe_bins,
    describe_cells,
    describe_lines,
    describe_rows,
    describe_shares,
)

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, HEIGHT = 460.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 68.0, 28.0, 12.0, 44.0
ROW_HEIGHT = 22.0
CHARACTER = 6.9  # drawing units a letter of the labels takes
PHONE_CHARACTER, MOST_HEAT_LETTERS, HEAT_ROW = 8.4, 17, 21.0  # a phone draws larger letters
STYLES = ("a", "b", "c", "d", "e", "f")  # lines of one chart, in order
MOST_LETTERS = 36  # of a row's label
MOST_ROWS = 20  # bars of a chart; the others are smaller
PROBABILITIES = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)  # on a log-odds axis
SWARM_WIDTH, SWARM_HEIGHT, LEVELS = 300.0, 34.0, 5
TICK_ROOM = 0.14  # share of an axis that a label takes on a phone

Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Axis:
    """What is along an axis: its title, from where to where, and how its numbers read. `scale` maps a value to where it
    is drawn; the default is a linear axis."""

    title: str
    low: float
    high: float
    form: Callable[[float], str] = field(default=lambda value: f"{value:g}")
    ticks: tuple[float, ...] | None = None
    scale: Callable[[float], float] = float

    @property
    def marks(self) -> tuple[float, ...]:
        """Round numbers within the axis, unless `ticks` are given."""
        return round_numbers(self.low, self.high) if self.ticks is None else self.ticks

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1; outside the axis it is held at its end."""
        start, end = self.scale(self.low), self.scale(self.high)
        at = self.scale(min(self.high, max(self.low, value)))
        return (at - start) / (end - start) if end > start else 0.5


@dataclass(frozen=True)
class Line:
    """A line; `style` is a class of the style sheet. A point without a value is a gap; points that are not `joined` are
    dots alone. `band` are (x, low, high) drawn as an area, `whiskers` the same drawn as vertical lines."""

    name: str
    points: Points
    style: str = "a"
    dashed: bool = False
    dots: bool = False
    band: Sequence[tuple[float, float, float]] = ()
    whiskers: Sequence[tuple[float, float, float]] = ()
    joined: bool = True


@dataclass(frozen=True)
class Mark:
    """A value with its interval if it has one; `style` is a class of the style sheet; `at` is a reference value."""

    value: float | None
    low: float | None = None
    high: float | None = None
    style: str = "a"
    at: float | None = None


@dataclass(frozen=True)
class Shape:
    """An SVG element with its attributes, text, and the text shown when the pointer rests on it."""

    element: str
    attributes: Mapping[str, object]
    text: str = ""
    tooltip: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawn chart; `legend` are (text, style) of what the colours stand for, `summary` says in a sentence what the
    drawing shows, for who cannot see it."""

    title: str
    height: float
    shapes: tuple[Shape, ...]
    legend: tuple[tuple[str, str], ...] = ()
    summary: str = ""

    @property
    def view_box(self) -> str:
        """SVG's `viewBox`: the corner, width and height of the drawing, in drawing units."""
        return f"0 0 {WIDTH:g} {self.height:g}"

    def __html__(self) -> Markup:
        return _draw("figure", self)

    def svg(self) -> str:
        """The drawing as a file of its own, with its colours, legend and title in it."""
        return str(_draw("svg", _standalone(self), True))


@dataclass(frozen=True)
class Row:
    """A labelled line of marks; `label` and `note` are text or markup."""

    label: object
    marks: Sequence[Mark]
    note: object = None


@dataclass(frozen=True)
class IntervalRows:
    """Dots with 95 % intervals between 0 and 1."""

    rows: Sequence[Row]
    legend: tuple[tuple[str, str], ...] = ()
    form: str = ".3f"

    def place(self, value: float) -> float:
        """Where a value lies, in per cent of the width."""
        return round(100 * Axis("", 0.0, 1.0).share(value), 2)

    def __html__(self) -> Markup:
        return _draw("rows", self, True)


@dataclass(frozen=True)
class BarRows:
    """Bars from zero to the largest value of all."""

    rows: Sequence[Row]
    form: str = ".3f"

    def width(self, mark: Mark) -> float:
        """Width of a bar, in per cent."""
        largest = max((abs(mark.value or 0.0) for row in self.rows for mark in row.marks), default=0.0) or 1.0
        return round(100 * abs(mark.value or 0.0) / largest, 2)

    def __html__(self) -> Markup:
        return _draw("rows", self, False)


@dataclass(frozen=True)
class WaterfallRows:
    """A sum as bars that each begin where the one before ends: from `start` by `steps` to `end`, rows of one mark each,
    of which the last is the sum. A bar has the style `churned` where it raises the sum, `kept` where it lowers it."""

    start: Row
    steps: Sequence[Row]
    end: Row
    form: str = "+.2f"

    def bars(self) -> Iterator[tuple[object, object, str, float, float, float]]:
        """(label, note, style, left and width in per cent, number) of each bar, first and last of them the sums."""
        changes = [row.marks[0].value or 0.0 for row in self.steps]
        start = self.start.marks[0].value or 0.0
        sums = [start, *accumulate(changes, initial=start), start + sum(changes)]
        x = Axis("", min(0.0, *sums), max(0.0, *sums))

        def bar(begin: float, end: float) -> tuple[float, float]:
            low, high = sorted((100 * x.share(begin), 100 * x.share(end)))
            return round(low, 2), round(high - low, 2)

        yield self.start.label, self.start.note, "base", *bar(0.0, start), start
        for row, change, begin, end in zip(self.steps, changes, sums[1:], sums[2:], strict=False):
            yield row.label, row.note, "churned" if change > 0 else "kept", *bar(begin, end), change
        yield self.end.label, self.end.note, "base", *bar(0.0, sums[-1]), self.end.marks[0].value or 0.0

    def __html__(self) -> Markup:
        return _draw("waterfall", self)


@dataclass(frozen=True)
class SwarmRows:
    """A cloud of dots a row, on one axis from the lowest to the highest value of all. A row is label, note, number and
    dots (value, level); the level, 0 to 1 or None, is the colour, from blue to red."""

    rows: Sequence[tuple[str, str, float, Sequence[tuple[float, float | None]]]]
    form: str = ".3f"

    def clouds(self) -> Iterator[tuple[str, str, float, float, list[tuple[str, str]]]]:
        """(label, note, number, place of zero, (class, path) of each level) of each row, in drawing units."""
        ends = [0.0, *(value for _, _, _, dots in self.rows for value, _ in dots)]
        x = Axis("", min(ends), max(ends))
        for label, note, number, dots in self.rows:
            paths: dict[str, list[str]] = {}
            crowd: dict[int, int] = {}
            for value, level in dots:
                at = round(4.0 + (SWARM_WIDTH - 8.0) * x.share(value), 1)
                place = crowd[round(at / 3)] = crowd.get(round(at / 3), -1) + 1
                down = min((place + 1) // 2 * 2.0, SWARM_HEIGHT / 2 - 3) * (-1 if place % 2 else 1)
                style = "unknown" if level is None else f"level{min(LEVELS - 1, int(level * LEVELS))}"
                paths.setdefault(style, []).append(f"M{at:g} {SWARM_HEIGHT / 2 + down:g}h0")
            zero = round(4.0 + (SWARM_WIDTH - 8.0) * x.share(0.0), 1)
            yield label, note, number, zero, [(style, "".join(parts)) for style, parts in sorted(paths.items())]

    def __html__(self) -> Markup:
        return _draw("swarm", self, SWARM_WIDTH, SWARM_HEIGHT)


@dataclass(frozen=True)
class Frame:
    """The two axes of a drawing."""

    x: Axis
    y: Axis
    height: float = HEIGHT
    left: float = LEFT
    grid_of_x: bool = False

    def right(self, value: float) -> float:
        """Where a value lies across, in drawing units."""
        return round(self.left + self.x.share(value) * (WIDTH - self.left - RIGHT), 1)

    def down(self, value: float) -> float:
        """Where a value lies from the top, in drawing units."""
        return round(self.height - BOTTOM - self.y.share(value) * (self.height - TOP - BOTTOM), 1)

    def path(self, points: Points) -> str:
        """The points joined by straight lines, starting again after each gap."""
        parts, begins = [], True
        for x, y in points:
            if y is not None:
                parts.append(f"{'M' if begins else 'L'}{self.right(x):g} {self.down(y):g}")
            begins = y is None
        return "".join(parts)

    def axes(self) -> list[Shape]:
        """Grid, numbers and titles."""
        foot, end, shapes = self.down(self.y.low), WIDTH - RIGHT, []
        for value in self.y.marks:
            y = self.down(value)
            shapes += [_line(self.left, end, y, y, "grid"), _text(self.y.form(value), self.left - 7, y + 4, "end")]
        for value in self.x.marks:
            x = self.right(value)
            shapes += [_line(x, x, TOP, foot, "grid")] if self.grid_of_x else []
            shapes.append(_text(self.x.form(value), x, foot + 17))
        shapes.append(_line(self.left, end, foot, foot, "axis"))
        shapes.append(_text(self.x.title, (self.left + end) / 2, self.height - 8))
        return [*shapes, _turned_text(self.y.title, (TOP + foot) / 2)] if self.y.title else shapes


def lines(title: str, x: Axis, y: Axis, drawn: Sequence[Line], marks: Sequence[float] = ()) -> Chart:
    """A line chart; `marks` are dashed verticals. Dashed lines are explained by the note, not by the legend."""
    frame = Frame(x, y)
    shapes = frame.axes()
    top, foot = frame.down(y.high), frame.down(y.low)
    shapes += [_line(frame.right(at), frame.right(at), top, foot, "mark") for at in marks]
    shapes += [shape for line in drawn for shape in _line_shapes(frame, line)]
    legend = tuple((line.name, line.style) for line in drawn if not line.dashed)
    return Chart(title, frame.height, tuple(shapes), legend, describe_lines(x, y, drawn))


def _line_shapes(frame: Frame, line: Line) -> Iterator[Shape]:
    if line.band:
        upper = [(at, high) for at, _, high in line.band]
        lower = [(at, low) for at, low, _ in reversed(line.band)]
        yield _path(frame.path([*upper, *lower]) + "Z", f"band f{line.style}")
    for at, low, high in line.whiskers:
        yield _line(frame.right(at), frame.right(at), frame.down(low), frame.down(high), f"whisker {line.style}")
    if line.joined:
        yield _path(frame.path(line.points), f"{'thin' if line.dashed else 'line'} {line.style}", line.name)
    yield from _dots(frame, line) if line.dots else ()


def _dots(frame: Frame, line: Line) -> Iterator[Shape]:
    for at, value in line.points:
        if value is not None:
            tooltip = f"{line.name}: {at:.3g}, {value:.3g}"
            yield _dot(frame.right(at), frame.down(value), line.style, tooltip)


def scatter(title: str, x: Axis, y: Axis, dots: Sequence[tuple[float, float]], trend: Points) -> Chart:
    """Many small dots, a line through their middle, and the zero line."""
    frame = Frame(x, y)
    zero = frame.down(0.0)
    # One path of zero-length strokes: a tenth of the bytes of as many circles.
    cloud = _path("".join(f"M{frame.right(a):g} {frame.down(b):g}h0" for a, b in dots), "dots a")
    shapes = [*frame.axes(), _line(LEFT, WIDTH - RIGHT, zero, zero, "mark"), cloud]
    if len(trend) > 1:
        shapes.append(_path(frame.path(trend), "line b"))
    middle = describe_lines(x, y, [Line("their middle", trend)])
    summary = "; ".join(filter(None, (f"{len(dots):,} dots", middle)))
    return Chart(title, frame.height, tuple(shapes), summary=summary)


def histogram(
    title: str,
    x: Axis,
    edges: Sequence[float],
    counts: Sequence[int],
    churned: Sequence[int] | None = None,
    unit: str = "customers",
) -> Chart:
    """Counts of a `unit` between `edges`. With `churned` the counts are those who stayed, on top of those at the bottom
    who did not."""
    low = churned if churned is not None else [0] * len(counts)
    largest = max((a + b for a, b in zip(counts, low, strict=True)), default=0) or 1
    frame = Frame(x, Axis(unit, 0.0, largest, compact), height=210.0)
    shapes = frame.axes()
    for (start, end), count, left in zip(pairwise(edges), counts, low, strict=True):
        tooltip = f"{x.form(start)} to {x.form(end)}: {count + left:,} {unit}"
        shapes += _stack(
            frame, start, end, count, left, tooltip + (f", {left:,} churned" if churned is not None else "")
        )
    summary = describe_bins(x.form, edges, counts, churned, unit)
    return Chart(title, frame.height, tuple(shapes), summary=summary)


def _stack(frame: Frame, start: float, end: float, kept: int, churned: int, tooltip: str) -> Iterator[Shape]:
    left, width = frame.right(start), frame.right(end) - frame.right(start)
    for low, high, style in ((0, churned, "fchurned"), (churned, kept + churned, "fkept")):
        if high > low:
            top, foot = frame.down(high), frame.down(low)
            yield _box(left, top, max(width - 0.8, 0.6), max(foot - top, 0.4), style, tooltip)


def mirrored(
    title: str,
    x: Axis,
    edges: Sequence[float],
    up: tuple[str, str, Sequence[float]],
    down: tuple[str, str, Sequence[float]],
    marks: Sequence[float] = (),
) -> Chart:
    """Two histograms over the same `edges`, one up and one down from the middle: (name, style, shares of its own
    total), so that a small class is as visible as a large one. `marks` are dashed verticals."""
    largest = max((*up[2], *down[2]), default=0.0) or 1.0
    frame = Frame(x, Axis("share of the class", -1.08 * largest, 1.08 * largest, lambda share: percent(abs(share))))
    shapes, middle = frame.axes(), frame.down(0.0)
    shapes.append(_line(LEFT, WIDTH - RIGHT, middle, middle, "axis"))
    for (name, style, shares), sign in ((up, 1), (down, -1)):
        for (start, end), share in zip(pairwise(edges), shares, strict=True):
            at, left = frame.down(sign * share), frame.right(start)
            tooltip = f"{x.form(start)} to {x.form(end)}: {percent(share)} of {name}"
            width = max(frame.right(end) - left - 0.8, 0.6)
            shapes.append(_box(left, min(at, middle), width, abs(at - middle), f"f{style}", tooltip))
    shapes += [_line(frame.right(at), frame.right(at), TOP, frame.height - BOTTOM, "mark") for at in marks]
    summary = describe_shares(x.form, edges, ((name, shares) for name, _, shares in (up, down)), percent)
    return Chart(title, frame.height, tuple(shapes), ((up[0], up[1]), (down[0], down[1])), summary)


def columns(title: str, counts: Mapping[str, int], y_title: str = "customers") -> Chart:
    """Vertical bars of counts in the order given, for example customers by risk band."""
    largest = max(counts.values(), default=0) or 1
    names = list(counts)
    frame = Frame(
        Axis("", -0.5, len(names) - 0.5, lambda place: names[round(place)], _fitting_places(names)),
        Axis(y_title, 0.0, 1.1 * largest, compact),
        height=230.0,
    )
    shapes = frame.axes()
    for place, (name, count) in enumerate(counts.items()):
        left, right = frame.right(place - 0.35), frame.right(place + 0.35)
        top, foot = frame.down(count), frame.down(0.0)
        shapes.append(_box(left, top, right - left, foot - top, "fkept", f"{name}: {count:,}"))
        if len(names) <= 8:
            shapes.append(_text(f"{count:,}", (left + right) / 2, top - 4))
    return Chart(title, frame.height, tuple(shapes), summary=describe_bars(counts.items(), "{:,}".format))


def heatmap(
    title: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float | None]], x_title: str = ""
) -> Chart:
    """Squares coloured by value: red up to 1, blue down to -1, pale near 0; none for None. `rows` and `columns` are the
    names, empty ones are left out."""
    left, foot = 16 + PHONE_CHARACTER * MOST_HEAT_LETTERS, TOP + HEAT_ROW * len(rows)
    width = (WIDTH - left - RIGHT) / max(1, len(columns))
    shapes = []
    for i, (name, values) in enumerate(zip(rows, cells, strict=True)):
        top = TOP + HEAT_ROW * i
        shapes.append(_text(_shortened(name, MOST_HEAT_LETTERS), left - 7, top + HEAT_ROW / 2 + 4, "end"))
        for j, value in enumerate(values):
            if value is not None:
                box = _box(left + j * width, top, width - 1, HEAT_ROW - 1, "fchurned" if value > 0 else "fa", "")
                tooltip = f"{name}, {columns[j] or j + 1}: {value:.2f}"
                shade = {**box.attributes, "fill-opacity": f"{max(0.06, abs(value)):.2f}"}
                shapes.append(replace(box, attributes=shade, tooltip=tooltip))
    shapes += [_text(name, left + (j + 0.5) * width, foot + 16) for j, name in enumerate(columns) if name]
    shapes += [_text(x_title, (left + WIDTH - RIGHT) / 2, foot + 36)] if x_title else []
    summary = describe_cells(rows, columns, cells)
    return Chart(title, foot + (44 if x_title else 24), tuple(shapes), summary=summary)


def bars(
    title: str,
    values: Mapping[str, float],
    x_title: str,
    form: Callable[[float], str],
    style: str,
    marks: Sequence[float] = (),
) -> Chart:
    """Horizontal bars from zero, the largest on top, each with its number; the `MOST_ROWS` largest of them. `marks` are
    dashed verticals, within the axis."""
    shown = sorted(values.items(), key=lambda item: -item[1])[:MOST_ROWS]
    largest = max((*(value for _, value in shown), *marks), default=0.0) or 1.0
    frame = _row_frame([name for name, _ in shown], Axis(x_title, 0.0, 1.18 * largest, form))
    shapes = frame.axes()
    shapes += [_line(frame.right(at), frame.right(at), TOP, frame.height - BOTTOM, "mark") for at in marks]
    for place, (name, value) in enumerate(shown):
        top, right, height = frame.down(-place + 0.3), frame.right(value), ROW_HEIGHT * 0.6
        shapes.append(_box(frame.left, top, right - frame.left, height, f"f{style}", f"{name}: {form(value)}"))
        shapes.append(_text(form(value), right + 5, top + height - 2, "start"))
    return Chart(title, frame.height, tuple(shapes), summary=describe_bars(shown, form))


def intervals(
    title: str,
    rows: Sequence[tuple[str, Sequence[Mark]]],
    x: Axis,
    legend: Iterable[tuple[str, str]] = (),
    marks: Sequence[float] = (),
) -> Chart:
    """Values with their intervals, a row a label, first on top; `marks` are dashed verticals."""
    frame = _row_frame([label for label, _ in rows], x)
    shapes = frame.axes()
    shapes += [_line(frame.right(at), frame.right(at), TOP, frame.height - BOTTOM, "mark") for at in marks]
    for place, (label, values) in enumerate(rows):
        for shift, mark in enumerate(values):
            y = round(frame.down(-place) + 6.0 * (shift - (len(values) - 1) / 2), 1)
            shapes += _interval(frame, mark, y, label)
    entries = tuple(legend)
    summary = describe_rows(rows, x, {style: name for name, style in entries})
    return Chart(title, frame.height, tuple(shapes), entries, summary)


def _interval(frame: Frame, mark: Mark, y: float, label: str) -> Iterator[Shape]:
    if mark.low is not None and mark.high is not None:
        yield _line(frame.right(mark.low), frame.right(mark.high), y, y, f"span {mark.style}")
    if mark.value is not None:
        yield _dot(frame.right(mark.value), y, mark.style, f"{label}: {mark.value:.3g}")


def over_periods(
    title: str,
    names: Sequence[str],
    series: Mapping[str, Sequence[Mark | None]],
    y_title: str,
    *,
    zero: bool = False,
    limit: float | None = None,
) -> Chart:
    """A line a series over periods in order, with intervals where a mark has one; None is a gap. `zero` draws the zero
    line; without it the axis begins at zero or the lowest value."""
    known = [mark for values in series.values() for mark in values if mark is not None and mark.value is not None]
    ends = [0.0, *(end for mark in known for end in (mark.value, mark.low, mark.high) if end is not None)]
    low, high = min(ends), max(ends if limit is None else [*ends, limit]) or 1.0
    y = Axis(y_title, low, low + 1.05 * (high - low) if high > low else low + 1.0)
    x = Axis("", -0.5, max(0.5, len(names) - 0.5), lambda place: names[round(place)], _fitting_places(names))
    drawn = []
    for shift, (name, values) in enumerate(series.items()):
        at = [(place + 0.08 * shift, mark or Mark(None)) for place, mark in enumerate(values)]
        points = [(place, mark.value) for place, mark in at]
        whiskers = [(p, m.low, m.high) for p, m in at if m.low is not None and m.high is not None]
        drawn.append(Line(name, points, STYLES[shift % len(STYLES)], dots=True, whiskers=whiskers))
    levels = {} if limit is None else {f"limit {limit:g}": limit}
    flat = {**levels, "zero": 0.0} if zero else levels
    drawn += [Line(name, [(x.low, value), (x.high, value)], "base", dashed=True) for name, value in flat.items()]
    chart = lines(title, x, y, drawn)
    return replace(chart, legend=(*chart.legend, *((name, "base") for name in levels)))


def round_numbers(low: float, high: float) -> tuple[float, ...]:
    """About five multiples of 1, 2 or 5 times a power of ten in `low`..`high`."""
    span = high - low
    if not span > 1e-9 * max(abs(low), abs(high)):  # nothing, or less than a float tells apart
        return (low,)
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return tuple(round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1))


def log_odds_axis(title: str, low: float, high: float) -> Axis:
    """An axis of probabilities on which equal distances are equal differences in log-odds, so that scores near 0 and
    near 1 keep apart. It ends within the first and last of `PROBABILITIES`; those that have room are marked."""
    start, end = (min(PROBABILITIES[-1], max(PROBABILITIES[0], value)) for value in (low, high))
    axis = Axis(title, start, end, percent, (), lambda p: math.log(p / (1.0 - p)))
    ticks: list[float] = []
    for value in sorted(PROBABILITIES, key=lambda p: abs(p - 0.5)):
        if start <= value <= end and all(abs(axis.share(value) - axis.share(t)) >= TICK_ROOM for t in ticks):
            ticks.append(value)
    return replace(axis, ticks=tuple(sorted(ticks)))


def percent(value: float) -> str:
    """A share as per cent without needless digits."""
    return f"{100 * value:.4g} %" if value > 0.99 else f"{100 * value:.3g} %"


def compact(value: float) -> str:
    """A count that stays short: 1500 is 1.5k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def _standalone(chart: Chart) -> Chart:
    """The chart with its title and legend drawn above it."""
    head = 22.0 + (18.0 if chart.legend else 0.0)
    shapes = [_text(chart.title, WIDTH / 2, 16)]
    at = 10.0
    for label, style in chart.legend:
        shapes += [_box(at, 27, 12, 4, f"f{style}", ""), _text(label, at + 17, 33, "start")]
        at += 34 + CHARACTER * len(label)
    moved = Shape("g", {"transform": f"translate(0 {head:g})"}, text=_draw("elements", chart))
    return Chart(chart.title, chart.height + head, (*shapes, moved), summary=chart.summary)


def _row_frame(labels: Sequence[str], x: Axis) -> Frame:
    """A frame with a row a label, first on top: row i is at y = -i."""
    labels = [_shortened(label, MOST_LETTERS) for label in labels]
    left = 16 + CHARACTER * max((len(label) for label in labels), default=4)
    count = max(1, len(labels))
    places = tuple(-float(i) for i in range(len(labels)))
    y = Axis("", 0.5 - count, 0.5, lambda place: labels[round(-place)], places)
    return Frame(x, y, TOP + BOTTOM + ROW_HEIGHT * count, left, grid_of_x=True)


def _shortened(label: str, letters: int) -> str:
    return label if len(label) <= letters else f"{label[: letters - 1]}…"


def _fitting_places(names: Sequence[str]) -> tuple[float, ...]:
    """Positions of the names that fit below an axis."""
    letters = max((len(name) for name in names), default=1)
    fitting = max(1, int((WIDTH - LEFT - RIGHT) / (CHARACTER * (letters + 1.5))))
    return tuple(float(i) for i in range(0, len(names), max(1, math.ceil(len(names) / fitting))))


def _dot(x: float, y: float, style: str, tooltip: str) -> Shape:
    return Shape("circle", {"cx": x, "cy": y, "r": 3.2, "class": f"f{style}"}, tooltip=tooltip)


def _line(x1: float, x2: float, y1: float, y2: float, style: str) -> Shape:
    return Shape("line", {"x1": f"{x1:g}", "x2": f"{x2:g}", "y1": f"{y1:g}", "y2": f"{y2:g}", "class": style})


def _path(path: str, style: str, tooltip: str = "") -> Shape:
    return Shape("path", {"d": path, "class": style}, tooltip=tooltip)


def _box(x: float, y: float, width: float, height: float, style: str, tooltip: str) -> Shape:
    at = {"x": f"{x:g}", "y": f"{y:g}", "width": f"{width:.1f}", "height": f"{height:.1f}", "class": style}
    return Shape("rect", at, tooltip=tooltip)


def _text(text: str, x: float, y: float, anchor: str = "middle") -> Shape:
    return Shape("text", {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": anchor}, text)


def _turned_text(text: str, middle: float) -> Shape:
    turned = {"x": 11, "y": middle, "text-anchor": "middle", "transform": f"rotate(-90 11 {middle:g})"}
    return Shape("text", turned, text)


def _draw(macro: str, *values: object) -> Markup:
    markup: Markup = getattr(templating.module("html/templates/chart.html.j2"), macro)(*values)
    return markup
