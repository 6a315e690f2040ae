"""Rows of words, a drawn value and its number: bars and intervals that keep readable text at any width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from churn_assets.html.drawing import round_numbers
from churn_assets.html.markup import Markup, el, number


@dataclass(frozen=True)
class Mark:
    """A value with its interval if it has one; `style` is a class of the theme; `at` is a reference value."""

    value: float | None
    low: float | None = None
    high: float | None = None
    style: str = "a"
    at: float | None = None


def interval_rows(
    rows: Sequence[tuple[object, object, Sequence[Mark]]], low: float, high: float, form: str = ".3f"
) -> Markup:
    """Dots with 95 % intervals between `low` and `high`; a row is (words, small print, marks)."""
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - low) / span)), 2)

    def track(mark: Mark) -> Markup:
        parts = []
        if mark.at is not None:
            parts.append(el("i", class_="at", style=f"left:{place(mark.at)}%"))
        if mark.low is not None and mark.high is not None:
            left, right = place(mark.low), place(mark.high)
            parts.append(el("i", class_=f"span {mark.style}", style=f"left:{left}%;width:{right - left:.2f}%"))
        if mark.value is not None:
            parts.append(el("i", class_=f"dot {mark.style}", style=f"left:{place(mark.value)}%"))
        return el("span", parts, class_="track")

    told = [_row(*row, track=track, form=form) for row in rows]
    return el("div", told, _scale(low, high, place), class_="rows")


def _scale(low: float, high: float, place: Callable[[float], float]) -> Markup:
    ticks = [el("i", f"{value:g}", style=f"left:{place(value)}%") for value in round_numbers(low, high)]
    return el("div", el("span", class_="what"), el("span", ticks, class_="scale"), el("span"), class_="row")


def bar_rows(rows: Sequence[tuple[object, object, Sequence[Mark]]], form: str = ".3f") -> Markup:
    """Bars from zero to the largest value of all; a row is (words, small print, marks)."""
    most = max((abs(mark.value or 0.0) for _, _, marks in rows for mark in marks), default=0.0) or 1.0

    def track(mark: Mark) -> Markup:
        width = round(100 * abs(mark.value or 0.0) / most, 2)
        return el("span", el("i", class_=f"bar {mark.style}", style=f"left:0;width:{width}%"), class_="track")

    return el("div", [_row(*row, track=track, form=form) for row in rows], class_="rows")


def _row(words: object, small: object, marks: Sequence[Mark], *, track: Callable[[Mark], Markup], form: str) -> Markup:
    said = []
    for mark in marks:
        between = None
        if mark.low is not None and mark.high is not None:
            between = el("small", " ", number(mark.low, form), "\N{EN DASH}", number(mark.high, form))
        said.append(el("div", number(mark.value, form), between, class_=mark.style))
    return el(
        "div",
        el("span", words, el("small", small) if small else None, class_="what"),
        el("span", [track(mark) for mark in marks]),
        el("span", said, class_="said"),
        class_="row",
    )
