"""The data profile as one self-contained HTML page: the charts and texts that its template places."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

from churn_assets.data import profile as profiles
from churn_assets.data.relations import Correlations, EffectSize
from churn_assets.html import charts
from churn_assets.html.templating import render

Format = Callable[[float], str]

SHOWN_PAIRS = 8


def render_profile(profile: profiles.TableProfile) -> str:
    """The page of `data.profile.profile`."""
    columns = profile.columns
    categories = [(c, c.association) for c in columns if isinstance(c, profiles.CategoryProfile)]
    associated = sorted(((c, v) for c, v in categories if v is not None), key=lambda pair: -pair[1])
    association = [charts.Row(_label(c), [charts.Mark(value)], c.doc) for c, value in associated]
    roc_auc = [
        charts.Row(_label(c), [charts.Mark(value, at=0.5)], f"{c.doc} (rank correlation {2 * value - 1:+.2f})")
        for c, value in profile.by_roc_auc()
    ]
    return render(
        "reporting/templates/data_profile.html.j2",
        title=f"{profile.title}: data profile",
        profile=profile,
        roc_auc=charts.IntervalRows(roc_auc),
        association=charts.IntervalRows(association) if association else None,
        missing=sorted((c for c in columns if c.missing), key=lambda c: -c.missing),
        columns=[(c, _chart(c), *_texts(c)) for c in columns],
        cohorts=_cohorts(profile),
        effects=_effects(profile),
        kinds={column.name: column.kind for column in columns},
        correlation=_correlation(profile.correlations),
        strongest=_strongest(profile.correlations),
        missing_by_cohort=_missing_by_cohort(profile),
    )


def _effects(profile: profiles.TableProfile) -> list[tuple[EffectSize, profiles.ColumnProfile]]:
    by_name = {column.name: column for column in profile.columns}
    return [(effect, by_name[effect.column]) for effect in profile.effects]


def _correlation(matrix: Correlations) -> charts.Chart | None:
    """The matrix; a column is named by its number, which stands before the name of its row."""
    if len(matrix.columns) < 2:
        return None
    names = [f"{number} {name}" for number, name in enumerate(matrix.columns, start=1)]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    return charts.heatmap("Correlation of columns", names, numbers, matrix.values)


def _strongest(matrix: Correlations) -> list[tuple[str, str, float]]:
    """The pairs with the largest correlations, as (column, column, correlation)."""
    pairs = [
        (matrix.columns[i], matrix.columns[j], value)
        for i, row in enumerate(matrix.values)
        for j, value in enumerate(row[:i])
        if value is not None
    ]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))[:SHOWN_PAIRS]


def _missing_by_cohort(profile: profiles.TableProfile) -> charts.Chart | None:
    cohort = profile.cohort
    if cohort is None or not cohort.missing:
        return None
    form = _axis_form(cohort.kind)
    names = [""] * len(cohort.parts)
    last = len(names) - 1
    for place in (round(last * 0.12), round(last * 0.88)):
        names[place] = form(cohort.parts[place].low)
    rows, cells = list(cohort.missing), list(cohort.missing.values())
    return charts.heatmap("Missing share by cohort", rows, names, cells, cohort.column)


def _label(column: profiles.ColumnProfile) -> str:
    return f"{column.name} (suspect)" if column.suspect else column.name


def _chart(column: profiles.ColumnProfile) -> charts.Chart | charts.BarRows | None:
    """A histogram, or the churn rate of each value; None for texts and for a column without values."""
    if isinstance(column, profiles.NumberProfile) and column.histogram:
        return _histogram(column, column.histogram)
    if not isinstance(column, profiles.CategoryProfile | profiles.BooleanProfile):
        return None
    rows = [
        charts.Row(level.level, [charts.Mark(level.churn_rate, style="churned")], f"{level.rows:,} customers")
        for level in column.levels
        if level.churn_rate is not None
    ]
    return charts.BarRows(rows, ".1%")


def _histogram(column: profiles.NumberProfile, counts: profiles.Histogram) -> charts.Chart:
    edges, kind = counts.edges, column.kind
    x = charts.Axis(column.unit or column.name, edges[0], edges[-1], _axis_form(kind), _ticks(kind, edges))
    return charts.histogram(column.name, x, edges, counts.kept, counts.churned)


def _texts(column: profiles.ColumnProfile) -> tuple[list[tuple[str, str]], list[str]]:
    """Figures of a number or date by name, and its unusual values; none of another column."""
    if not (isinstance(column, profiles.NumberProfile) and column.quantiles and column.unusual):
        return [], []
    quantiles, unusual, is_date = column.quantiles, column.unusual, column.kind == "date"
    shown, rounded = (_day, _day) if is_date else (_plain, _rounded)
    churned, kept = ("not known" if m is None else rounded(m) for m in (column.mean_churned, column.mean_kept))
    middle_half = f"{rounded(quantiles.first)} to {rounded(quantiles.third)}"
    facts = [
        ("range", f"{shown(quantiles.low)} to {shown(quantiles.high)}"),
        ("middle half", f"{middle_half}, median {rounded(quantiles.median)}"),
        ("mean", f"churned {churned}, kept {kept}"),
        ("distinct", f"{column.distinct:,}"),
    ]
    return facts, _unusual_texts(unusual, shown, is_date)


def _unusual_texts(unusual: profiles.UnusualValues, shown: Format, is_date: bool) -> list[str]:
    texts = []
    if unusual.spike:
        texts.append(f"{unusual.spike.rows:,} customers on one value, {shown(unusual.spike.value)}")
    if unusual.far_low is not None and unusual.far_high is not None:
        between = f"from {shown(unusual.far_low)} to {shown(unusual.far_high)}"
        texts.append(f"{unusual.far_out:,} beyond {profiles.FAR:g} interquartile ranges, {between}")
    counts = {"zeros": unusual.zeros, "negative": unusual.negative}
    return texts + [f"{count:,} {name}" for name, count in counts.items() if count and not is_date]


def _cohorts(profile: profiles.TableProfile) -> charts.Chart | None:
    cohort = profile.cohort
    if cohort is None:
        return None
    parts, kind = cohort.parts, cohort.kind
    points = [((part.low + part.high) / 2, part.churn_rate) for part in parts]
    top = max(0.05, *(rate for _, rate in points))
    low, high = parts[0].low, parts[-1].high
    x = charts.Axis(cohort.column, low, high, _axis_form(kind), _ticks(kind, [low, high]))
    drawn = [
        charts.Line("churned share", points, "churned", dots=True),
        charts.Line("all", [(low, profile.churn_rate), (high, profile.churn_rate)], "base", dashed=True),
    ]
    return charts.lines("Churned share by cohort", x, charts.Axis("churned share", 0.0, top, charts.percent), drawn)


def _axis_form(kind: str) -> Format:
    return _day if kind == "date" else charts.compact


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _rounded(value: float) -> str:
    """A mean or a quartile: three digits, because another sample of customers has another one."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _day(value: float) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=round(value))).isoformat()


def _ticks(kind: str, edges: Sequence[float]) -> tuple[float, ...] | None:
    if kind != "date":
        return None
    return tuple(edges[0] + share * (edges[-1] - edges[0]) for share in (0.08, 0.36, 0.64, 0.92))
