"""The data profile as one self-contained HTML page: the charts and texts that its template places."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from churn_assets.data.profile import (
    FAR,
    BooleanProfile,
    CategoryProfile,
    ColumnProfile,
    NumberProfile,
    Quantiles,
    TableProfile,
    UnusualValues,
)
from churn_assets.html.charts import (
    Axis,
    BarRows,
    Chart,
    IntervalRows,
    Line,
    Mark,
    Row,
    compact,
    histogram,
    lines,
    percent,
)
from churn_assets.html.templating import render

Format = Callable[[float], str]


@dataclass(frozen=True)
class ColumnCard:
    """What the page shows of one column: a histogram with its figures, or the values, or their number."""

    title: str
    doc: str
    distinct: int
    histogram: Chart | None = None
    facts: Sequence[tuple[str, str]] = ()
    unusual: Sequence[str] = ()
    levels: BarRows | None = None
    levels_not_shown: int = 0


def render_profile(profile: TableProfile) -> str:
    """The page of `data.profile.profile`."""
    contents = [("strength", "Against the label"), ("missing", "Missing"), ("columns", "Columns")]
    contents += [("cohorts", "Over time")] if profile.cohort else []
    contents += [("repairs", "Repairs")]
    columns = profile.columns
    categories = [(c, c.association) for c in columns if isinstance(c, CategoryProfile)]
    associated = sorted(((c, v) for c, v in categories if v is not None), key=lambda pair: -pair[1])
    association = [Row(_label(c), [Mark(value)], c.doc) for c, value in associated]
    return render(
        "reporting/templates/data_profile.html.j2",
        title=f"{profile.title}: data profile",
        contents=contents,
        profile=profile,
        roc_auc=IntervalRows([_roc_auc_row(c, roc_auc) for c, roc_auc in profile.by_roc_auc()], 0.0, 1.0),
        association=IntervalRows(association, 0.0, 1.0) if association else None,
        missing=sorted((c for c in columns if c.missing), key=lambda c: -c.missing),
        columns=[_column_card(c) for c in columns],
        cohorts=_cohorts(profile),
        far=FAR,
    )


def _roc_auc_row(column: ColumnProfile, roc_auc: float) -> Row:
    note = f"{column.doc} (rank correlation {2 * roc_auc - 1:+.2f})"
    return Row(_label(column), [Mark(roc_auc, at=0.5)], note)


def _label(column: ColumnProfile) -> str:
    return f"{column.name} (suspect)" if column.suspect else column.name


def _column_card(column: ColumnProfile) -> ColumnCard:
    title, kind = f"{column.name}, {column.kind}", column.kind
    if isinstance(column, NumberProfile) and column.histogram and column.quantiles and column.unusual:
        drawn, shown = column.histogram, _day if kind == "date" else _plain
        edges = drawn.edges
        x = Axis(column.unit or column.name, edges[0], edges[-1], _axis_form(kind), _ticks(kind, edges))
        return ColumnCard(
            title,
            column.doc,
            column.distinct,
            histogram=histogram(column.name, x, edges, drawn.kept, drawn.churned),
            facts=_facts(column, column.quantiles, shown),
            unusual=_unusual(column.unusual, kind, shown),
        )
    if not isinstance(column, CategoryProfile | BooleanProfile):
        return ColumnCard(title, column.doc, column.distinct)
    rows = [
        Row(level.level, [Mark(level.churn_rate, style="churned")], f"{level.rows:,} customers")
        for level in column.levels
        if level.churn_rate is not None
    ]
    return ColumnCard(
        title, column.doc, column.distinct, levels=BarRows(rows, ".1%"), levels_not_shown=column.levels_not_shown
    )


def _facts(number: NumberProfile, quantiles: Quantiles, shown: Format) -> list[tuple[str, str]]:
    def mean(value: float | None) -> str:
        return "not known" if value is None else shown(value)

    middle_half = f"{shown(quantiles.first)} to {shown(quantiles.third)}"
    return [
        ("range", f"{shown(quantiles.low)} to {shown(quantiles.high)}"),
        ("middle half", f"{middle_half}, median {shown(quantiles.median)}"),
        ("mean", f"churned {mean(number.mean_churned)}, kept {mean(number.mean_kept)}"),
        ("distinct", f"{number.distinct:,}"),
    ]


def _unusual(unusual: UnusualValues, kind: str, shown: Format) -> list[str]:
    texts = []
    if unusual.spike:
        texts.append(f"{unusual.spike.rows:,} customers on one value, {shown(unusual.spike.value)}")
    if unusual.far_low is not None and unusual.far_high is not None:
        between = f"from {shown(unusual.far_low)} to {shown(unusual.far_high)}"
        texts.append(f"{unusual.far_out:,} beyond {FAR:g} interquartile ranges, {between}")
    if unusual.zeros and kind != "date":
        texts.append(f"{unusual.zeros:,} zeros")
    if unusual.negative and kind != "date":
        texts.append(f"{unusual.negative:,} negative")
    return texts


def _cohorts(profile: TableProfile) -> Chart | None:
    cohort = profile.cohort
    if cohort is None:
        return None
    parts, kind = cohort.parts, cohort.kind
    points = [((part.low + part.high) / 2, part.churn_rate) for part in parts]
    top = max(0.05, *(rate for _, rate in points))
    low, high = parts[0].low, parts[-1].high
    x = Axis(cohort.column, low, high, _axis_form(kind), _ticks(kind, [low, high]))
    drawn = [
        Line("churned share", points, "churned", dots=True),
        Line("all", [(low, profile.churn_rate), (high, profile.churn_rate)], "base", dashed=True),
    ]
    return lines("Churned share by cohort", x, Axis("churned share", 0.0, top, percent), drawn)


def _axis_form(kind: str) -> Format:
    return _day if kind == "date" else compact


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _day(value: float) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=round(value))).isoformat()


def _ticks(kind: str, edges: Sequence[float]) -> tuple[float, ...] | None:
    if kind != "date":
        return None
    return tuple(edges[0] + share * (edges[-1] - edges[0]) for share in (0.08, 0.36, 0.64, 0.92))
