"""Pictures for asset metadata and MLflow: plain functions from numbers to PNG bytes.

Drawn on Matplotlib's Agg canvas directly; pyplot would keep every figure and look for a display.
"""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

Curve = tuple[Sequence[float], Sequence[float]]
Point = tuple[float, float, float] | None  # value, low, high; nothing known

_CHURNED, _KEPT, _LINE = "#c0392b", "#2c7fb8", "#555555"
_COLOURS = ("#2c7fb8", "#c0392b", "#238b45", "#8856a7", "#d95f0e", "#555555")
_DPI = 90


def missing_values(missing_share: Mapping[str, float], churned_share: float | None) -> bytes:
    """Bars of the share of missing values a column, the label's rate in the title."""
    told = sorted(missing_share.items(), key=lambda item: item[1])[-20:]
    rate = "" if churned_share is None else f"{churned_share:.1%} churned; "

    def draw(axes: Any) -> None:
        axes.barh([name for name, _ in told], [100 * share for _, share in told], color=_KEPT)
        axes.set(xlabel="missing, %", title=f"{rate}missing values by column")
        axes.set_xlim(0, max(1.0, *(110 * share for _, share in told)) if told else 1.0)

    return _picture(draw, height=1.2 + 0.24 * len(told))


def counts(numbers: Mapping[str, int], title: str, unit: str) -> bytes:
    """Horizontal bars of whole numbers, the largest on top."""
    told = sorted(numbers.items(), key=lambda item: item[1])[-20:]

    def draw(axes: Any) -> None:
        bars = axes.barh([name for name, _ in told], [count for _, count in told], color=_CHURNED)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
        axes.margins(x=0.15)
        axes.set(xlabel=unit, title=title)

    return _picture(draw, height=1.2 + 0.26 * max(1, len(told)))


def precision_recall(curves: Mapping[str, Curve], base_rate: float, title: str) -> bytes:
    """Precision over recall, one line a model, and the base rate a random list would reach."""

    def draw(axes: Any) -> None:
        for colour, (name, (recall, precision)) in zip(_cycle(len(curves)), curves.items(), strict=True):
            axes.plot(recall, precision, label=name, color=colour, linewidth=1.4)
        axes.axhline(base_rate, color=_LINE, linestyle=":", linewidth=1, label=f"base rate {base_rate:.1%}")
        axes.set(xlabel="recall", ylabel="precision", title=title, xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(fontsize=8, loc="lower left")

    return _picture(draw)


def calibration(predicted: Sequence[float], observed: Sequence[float], title: str) -> bytes:
    """Observed churn share over predicted probability in bins of equal mass."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_LINE, linestyle=":", linewidth=1)
        axes.plot(predicted, observed, marker="o", markersize=4, color=_KEPT, linewidth=1)
        axes.set(xlabel="predicted churn probability", ylabel="churned share", title=title, xlim=(0, 1), ylim=(0, 1))

    return _picture(draw)


def profit(
    contacted_share: Sequence[float], value: Sequence[float], low: Sequence[float], high: Sequence[float], chosen: float
) -> bytes:
    """Profit a customer over the share contacted, with its 95 % interval and the chosen share."""
    share = [100 * part for part in contacted_share]

    def draw(axes: Any) -> None:
        axes.fill_between(share, low, high, color=_KEPT, alpha=0.25, linewidth=0, label="95 % interval")
        axes.plot(share, value, color=_KEPT, linewidth=1.4)
        axes.axhline(0, color=_LINE, linewidth=0.8)
        axes.axvline(100 * chosen, color=_CHURNED, linestyle="--", linewidth=1, label="chosen point")
        axes.legend(fontsize=8)
        axes.set(xlabel="customers contacted, %", ylabel="profit per customer", title="profit on test rows")

    return _picture(draw)


def ladder(rows: Sequence[tuple[str, Mapping[str, tuple[float, float, float]]]], title: str) -> bytes:
    """A line a row with PR-AUC and its interval (value, low, high), one colour a split; first row on top."""
    splits = list(dict.fromkeys(split for _, figures in rows for split in figures))

    def draw(axes: Any) -> None:
        for shift, (colour, split) in enumerate(zip(_cycle(len(splits)), splits, strict=True)):
            told = [(place, figures[split]) for place, (_, figures) in enumerate(rows) if split in figures]
            places = [place + 0.18 * shift for place, _ in told]
            values = [value for _, (value, _, _) in told]
            spread = [[v - low for _, (v, low, _) in told], [high - v for _, (v, _, high) in told]]
            axes.errorbar(
                values,
                places,
                xerr=spread,
                fmt="o",
                markersize=4,
                color=colour,
                label=split.replace("_", " "),
                capsize=2,
            )
        axes.set_yticks(range(len(rows)), [words for words, _ in rows], fontsize=8)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set(xlabel="PR-AUC", title=title, xlim=(0, 1.02))
        axes.legend(fontsize=8, loc="lower left")

    return _picture(draw, height=1.3 + 0.28 * len(rows))


def tornado(swings: Mapping[str, tuple[float, float]], middle: float, title: str) -> bytes:
    """Bars from the lowest to the highest result of varying one assumption, the widest on top."""
    told = sorted(swings.items(), key=lambda item: item[1][1] - item[1][0])

    def draw(axes: Any) -> None:
        lows = [low for _, (low, _) in told]
        axes.barh([name for name, _ in told], [high - low for _, (low, high) in told], left=lows, color=_KEPT)
        axes.axvline(middle, color=_CHURNED, linewidth=1, label="as assumed")
        axes.axvline(0, color=_LINE, linewidth=0.8)
        axes.legend(fontsize=8)
        axes.set(xlabel="profit per customer", title=title)

    return _picture(draw, height=1.4 + 0.36 * max(1, len(told)))


def trend(
    series: Mapping[str, Sequence[float | None]], windows: Sequence[int], limit: float | None, title: str, unit: str
) -> bytes:
    """A line a name over windows, gaps where there is no figure, and the limit if there is one."""

    def draw(axes: Any) -> None:
        for colour, (name, values) in zip(_cycle(len(series)), series.items(), strict=True):
            told = [float("nan") if value is None else value for value in values]
            axes.plot(windows, told, label=name, color=colour, marker="o", markersize=3, linewidth=1.2)
        if limit is not None:
            axes.axhline(limit, color=_LINE, linestyle=":", linewidth=1, label=f"limit {limit:g}")
        axes.locator_params(axis="x", integer=True)
        axes.set(xlabel="window", ylabel=unit, title=title)
        if series:
            axes.set_ylim(bottom=0)
            axes.legend(fontsize=8)

    return _picture(draw)


def differences(draws: Mapping[str, Any], title: str) -> bytes:
    """Histograms of bootstrapped differences, one a set of rows, and the line where both are equal."""

    def draw(axes: Any) -> None:
        for colour, (name, values) in zip(_cycle(len(draws)), draws.items(), strict=True):
            axes.hist(values, bins=40, color=colour, alpha=0.5, label=name)
        axes.axvline(0, color=_LINE, linewidth=1)
        axes.legend(fontsize=8)
        axes.set(xlabel="difference", ylabel="bootstrap samples", title=title)

    return _picture(draw)


def columns(numbers: Mapping[str, int], title: str) -> bytes:
    """Vertical bars in the order given, for example customers by risk band."""

    def draw(axes: Any) -> None:
        bars = axes.bar(list(numbers), list(numbers.values()), color=_KEPT)
        axes.bar_label(bars, fmt="{:,.0f}", padding=2)
        axes.margins(y=0.12)
        axes.set(ylabel="customers", title=title)

    return _picture(draw, height=2.8)


def over_periods(
    names: Sequence[str], lines: Mapping[str, Sequence[Point]], unit: str, title: str, zero: bool = False
) -> bytes:
    """A line a series with its intervals over periods in order; a period without a figure is a gap."""

    def draw(axes: Any) -> None:
        for shift, (colour, (label, points)) in enumerate(zip(_cycle(len(lines)), lines.items(), strict=True)):
            told = [(place + 0.08 * shift, point) for place, point in enumerate(points) if point is not None]
            values = [value for _, (value, _, _) in told]
            spread = [[max(0.0, v - low) for _, (v, low, _) in told], [max(0.0, high - v) for _, (v, _, high) in told]]
            at = [place for place, _ in told]
            axes.errorbar(
                at, values, yerr=spread, fmt="o-", markersize=4, linewidth=1, color=colour, label=label, capsize=2
            )
        if zero:
            axes.axhline(0, color=_LINE, linewidth=0.8)
        step = max(1, len(names) // 8)
        axes.set_xticks(range(0, len(names), step), names[::step], fontsize=8)
        axes.set(ylabel=unit, title=title, xlim=(-0.5, len(names) - 0.5 + 0.08 * len(lines)))
        axes.legend(fontsize=8)

    return _picture(draw)


def _cycle(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]


def _picture(draw: Callable[[Any], None], height: float = 3.4) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    out = BytesIO()
    # Without a date in it the same numbers give the same bytes.
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
