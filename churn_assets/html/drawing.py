"""Line charts, scatters and histograms as SVG, drawn for a box 460 wide that scales with the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from churn_assets.html.markup import Markup, el, inside
from churn_assets.html.theme import drawing_style

WIDTH, HEIGHT = 460.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 20.0, 12.0, 44.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """What is along an axis: words, from where to where, and how its numbers read."""

    words: str
    low: float
    high: float
    form: Callable[[float], str] = field(default=lambda value: f"{value:g}")
    ticks: tuple[float, ...] = ()

    @property
    def marks(self) -> tuple[float, ...]:
        """Round numbers within the axis."""
        return self.ticks or round_numbers(self.low, self.high)


@dataclass(frozen=True)
class Line:
    """A line; `style` is a class of the theme (a, b, base, churned). `band` are (x, low, high), `mark` an x."""

    name: str
    points: Points
    style: str = "a"
    dashed: bool = False
    dots: bool = False
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Frame:
    """The two axes on paper."""

    x: Axis
    y: Axis
    height: float = HEIGHT

    def right(self, value: float) -> float:
        """Where a value lies across, in drawing units; outside the axis it is held at its end."""
        share = _share(value, self.x)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def down(self, value: float) -> float:
        """Where a value lies, from the top."""
        share = _share(value, self.y)
        return round(self.height - BOTTOM - share * (self.height - TOP - BOTTOM), 1)

    def path(self, points: Points) -> str:
        """The points joined by straight lines."""
        return "M" + "L".join(f"{self.right(x):g} {self.down(y):g}" for x, y in points)

    def axes(self) -> list[Markup]:
        """Grid, numbers and words."""
        low, foot = self.down(self.y.low), self.height
        found = []
        for value in self.y.marks:
            y = self.down(value)
            found += [
                el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"),
                el("text", self.y.form(value), x=LEFT - 7, y=y + 4, text_anchor="end"),
            ]
        for value in self.x.marks:
            x = self.right(value)
            found.append(el("text", self.x.form(value), x=x, y=low + 17, text_anchor="middle"))
        found.append(el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=low, y2=low, class_="axis"))
        middle = (LEFT + WIDTH - RIGHT) / 2
        found.append(el("text", self.x.words, x=middle, y=foot - 8, text_anchor="middle"))
        turned = f"rotate(-90 12 {(TOP + low) / 2:g})"
        found.append(el("text", self.y.words, x=12, y=(TOP + low) / 2, text_anchor="middle", transform=turned))
        return found


def lines(title: str, x: Axis, y: Axis, drawn: Sequence[Line], marks: Sequence[float] = ()) -> Markup:
    """A line chart with its key; `marks` are dashed verticals. Dashed lines are named by the note, not by the key."""
    frame = Frame(x, y)
    parts = frame.axes()
    top, foot = frame.down(y.high), frame.down(y.low)
    parts += [el("line", x1=frame.right(m), x2=frame.right(m), y1=top, y2=foot, class_="mark") for m in marks]
    for line in drawn:
        if line.band:
            there = [(at, high) for at, _, high in line.band]
            back = [(at, low) for at, low, _ in reversed(line.band)]
            parts.append(el("path", d=frame.path([*there, *back]) + "Z", class_=f"band f{line.style}"))
        shape = "thin" if line.dashed else "line"
        parts.append(el("path", el("title", line.name), d=frame.path(line.points), class_=f"{shape} {line.style}"))
        if line.dots:
            parts += [_dot(frame, at, line) for at in line.points]
    told = [(line.name, line.style) for line in drawn if not line.dashed]
    return el("figure", key(told), _svg(title, parts, frame.height))


def scatter(title: str, x: Axis, y: Axis, dots: Points, trend: Points) -> Markup:
    """Many small dots, a line through their middle, and the zero line."""
    frame = Frame(x, y)
    zero = el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=frame.down(0.0), y2=frame.down(0.0), class_="mark")
    # One path of zero-length strokes: a tenth of the bytes of as many circles.
    cloud = el("path", d="".join(f"M{frame.right(a):g} {frame.down(b):g}h0" for a, b in dots), class_="dots a")
    parts = [*frame.axes(), zero, cloud]
    if len(trend) > 1:
        parts.append(el("path", d=frame.path(trend), class_="line b"))
    return el("figure", _svg(title, parts, frame.height))


def histogram(title: str, x: Axis, edges: Sequence[float], kept: Sequence[int], churned: Sequence[int]) -> Markup:
    """Counts between `edges`: churned customers at the foot, kept ones on top of them."""
    most = max((a + b for a, b in zip(kept, churned, strict=True)), default=0) or 1
    frame = Frame(x, Axis("customers", 0.0, float(most), compact), height=210.0)
    parts = frame.axes()
    for i, (stay, go) in enumerate(zip(kept, churned, strict=True)):
        left, width = frame.right(edges[i]), frame.right(edges[i + 1]) - frame.right(edges[i])
        words = f"{x.form(edges[i])} to {x.form(edges[i + 1])}: {stay + go:,} customers, {go:,} churned"
        for low, high, style in ((0, go, "fchurned"), (go, go + stay, "fkept")):
            if high > low:
                top, foot = frame.down(float(high)), frame.down(float(low))
                box = {"x": left, "y": top, "width": max(width - 0.8, 0.6), "height": round(max(foot - top, 0.4), 1)}
                parts.append(el("rect", el("title", words), class_=style, **{k: f"{v:g}" for k, v in box.items()}))
    return el("figure", _svg(title, parts, frame.height))


def key(entries: Sequence[tuple[str, str]]) -> Markup:
    """What the colours stand for."""
    return el("div", [el("span", el("i", class_=style), words) for words, style in entries], class_="key")


def alone(figure: Markup) -> str:
    """The drawing of a figure as a file of its own, with the colours in it."""
    start, end = figure.index("<svg"), figure.index("</svg>") + len("</svg>")
    return figure[start:end].replace(">", f"><style>{drawing_style()}</style>", 1)


def round_numbers(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    """About `about` multiples of 1, 2 or 5 times a power of ten in `low`..`high`."""
    span = high - low
    if not span > 1e-9 * max(abs(low), abs(high)):  # nothing, or less than a float tells apart
        return (low,)
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return tuple(round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1))


def percent(value: float) -> str:
    """A share as per cent without needless digits."""
    return f"{100 * value:g} %"


def compact(value: float) -> str:
    """A count that stays short: 1500 is 1.5k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _dot(frame: Frame, at: tuple[float, float], line: Line) -> Markup:
    words = f"{line.name}: {at[0]:.3g}, {at[1]:.3g}"
    return el("circle", el("title", words), cx=frame.right(at[0]), cy=frame.down(at[1]), r=3.2, class_=f"f{line.style}")


def _share(value: float, axis: Axis) -> float:
    span = axis.high - axis.low
    return min(1.0, max(0.0, (value - axis.low) / span)) if span else 0.5


def _svg(title: str, parts: Sequence[object], height: float) -> Markup:
    box = f"0 0 {WIDTH:g} {height:g}"
    return el("svg", inside(parts), viewBox=box, role="img", aria_label=title, xmlns="http://www.w3.org/2000/svg")
