"""What a chart shows, in words and figures, for who cannot see it: the text alternative of each kind of chart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from churn_assets.html.charts import Axis, Line, Mark

MOST_POINTS = 12  # of a line that are named one by one; of a longer one its ends and extremes
LEAST_SHARE = 0.001  # of a class, for a bin to be named


def describe_lines(x: Axis, y: Axis, drawn: Sequence[Line]) -> str:
    """The courses of the lines; those that are dashed explain the others and are left out."""
    return "; ".join(text for line in drawn if not line.dashed if (text := _course(x, y, line)))


def _course(x: Axis, y: Axis, line: Line) -> str:
    known = [(at, value) for at, value in line.points if value is not None]
    if not known:
        return ""
    if len(known) <= MOST_POINTS:
        ends = {at: (low, high) for at, low, high in (*line.band, *line.whiskers)}
        return f"{line.name}: " + ", ".join(
            f"{_number(y, value)}{_interval(y, *ends.get(at, (None, None)))} at {x.form(round(at, 3))}"
            for at, value in known
        )
    (begin, first), (end, last) = known[0], known[-1]
    lowest, highest = min(known, key=lambda point: point[1]), max(known, key=lambda point: point[1])
    points = (("from", first, begin), ("to", last, end), ("lowest", *lowest[::-1]), ("highest", *highest[::-1]))
    return f"{line.name}: " + ", ".join(
        f"{word} {_number(y, value)} at {x.form(round(at, 3))}" for word, value, at in points
    )


def describe_rows(rows: Sequence[tuple[str, Sequence[Mark]]], x: Axis, names: Mapping[str, str]) -> str:
    """The values of each row with their intervals; `names` are those of the styles that stand for something."""

    def value_of(mark: Mark) -> str:
        name = f"{names[mark.style]} " if mark.style in names and len(names) > 1 else ""
        interval = _interval(x, mark.low, mark.high)
        return f"{name}{_number(x, mark.value)}{interval}" if mark.value is not None else ""

    texts = ((label, ", ".join(filter(None, map(value_of, marks)))) for label, marks in rows)
    return "; ".join(f"{label}: {text}" for label, text in texts if text)


def describe_bars(values: Iterable[tuple[str, float]], form: Callable[[float], str]) -> str:
    """Each bar with its number."""
    return "; ".join(f"{name}: {form(value)}" for name, value in values)


def describe_bins(
    form: Callable[[float], str], edges: Sequence[float], kept: Sequence[int], churned: Sequence[int] | None, unit: str
) -> str:
    """The count of each bin that is not empty, and of those `churned` where they are told apart."""
    texts = []
    for place, (low, high) in enumerate(pairwise(edges)):
        count, left = kept[place], churned[place] if churned is not None else 0
        if count + left:
            apart = f", {left:,} churned" if churned is not None else ""
            texts.append(f"{form(low)} to {form(high)}: {count + left:,} {unit}{apart}")
    return "; ".join(texts)


def describe_shares(
    form: Callable[[float], str],
    edges: Sequence[float],
    sides: Iterable[tuple[str, Sequence[float]]],
    percent: Callable[[float], str],
) -> str:
    """The share of each bin, by class, without the bins that are next to empty."""
    return "; ".join(
        f"{name}: "
        + ", ".join(
            f"{percent(round(share, 4))} from {form(low)} to {form(high)}"
            for (low, high), share in zip(pairwise(edges), shares, strict=True)
            if share >= LEAST_SHARE
        )
        for name, shares in sides
    )


def describe_cells(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float | None]]) -> str:
    """Of each row of a heat map the lowest and the highest value, with their columns."""
    texts = []
    for name, values in zip(rows, cells, strict=True):
        known = [(value, columns[place] or str(place + 1)) for place, value in enumerate(values) if value is not None]
        if known:
            low, high = min(known), max(known)
            texts.append(f"{name}: from {low[0]:.2f} ({low[1]}) to {high[0]:.2f} ({high[1]})")
    return "; ".join(texts)


def _number(axis: Axis, value: float) -> str:
    return axis.form(round(value, 3))


def _interval(axis: Axis, low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({_number(axis, low)} to {_number(axis, high)})"
