"""The data profile as one self-contained HTML page: the charts and texts that its template places."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from churn_assets.data.profile import FAR
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

Profile = Mapping[str, Any]
Column = Mapping[str, Any]
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


@dataclass(frozen=True)
class ProfilePage:
    """The data of the page."""

    profile: Profile
    roc_auc: IntervalRows
    association: IntervalRows | None
    missing: Sequence[Column]
    columns: Sequence[ColumnCard]
    cohorts: Chart | None
    far: float = FAR


def render_profile(profile: Profile) -> str:
    """The page of `data.profile.profile`."""
    contents = [("strength", "Against the label"), ("missing", "Missing"), ("columns", "Columns")]
    contents += [("cohorts", "Over time")] if profile["cohort"] else []
    contents += [("repairs", "Repairs")]
    return render(
        "reporting/templates/data_profile.html.j2",
        title=f"{profile['title']}: data profile",
        contents=contents,
        page=_page(profile),
    )


def _page(profile: Profile) -> ProfilePage:
    columns = profile["columns"]
    ranked = sorted((c for c in columns if c.get("roc_auc") is not None), key=lambda c: -abs(float(c["roc_auc"]) - 0.5))
    associated = sorted((c for c in columns if c.get("association") is not None), key=lambda c: -c["association"])
    return ProfilePage(
        profile=profile,
        roc_auc=IntervalRows([_roc_auc_row(c) for c in ranked], 0.0, 1.0),
        association=IntervalRows([Row(_label(c), [Mark(c["association"])], c["doc"]) for c in associated], 0.0, 1.0)
        if associated
        else None,
        missing=sorted((c for c in columns if c["missing"]), key=lambda c: -c["missing"]),
        columns=[_column_card(c) for c in columns],
        cohorts=_cohorts(profile),
    )


def _roc_auc_row(column: Column) -> Row:
    note = f"{column['doc']} (rank correlation {2 * column['roc_auc'] - 1:+.2f})"
    return Row(_label(column), [Mark(column["roc_auc"], at=0.5)], note)


def _label(column: Column) -> str:
    return f"{column['name']} (suspect)" if column["suspect"] else str(column["name"])


def _column_card(column: Column) -> ColumnCard:
    title, kind = f"{column['name']}, {column['kind']}", column["kind"]
    if column.get("histogram"):
        drawn, shown = column["histogram"], _day if kind == "date" else _plain
        edges = drawn["edges"]
        x = Axis(column["unit"] or column["name"], edges[0], edges[-1], _axis_form(kind), _ticks(kind, edges))
        return ColumnCard(
            title,
            column["doc"],
            column["distinct"],
            histogram=histogram(column["name"], x, edges, drawn["kept"], drawn["churned"]),
            facts=_facts(column, shown),
            unusual=_unusual(column, shown),
        )
    if "levels" not in column:
        return ColumnCard(title, column["doc"], column["distinct"])
    rows = [
        Row(level["level"], [Mark(level["churn_rate"], style="churned")], f"{level['rows']:,} customers")
        for level in column["levels"]
        if level["rows"]
    ]
    return ColumnCard(
        title,
        column["doc"],
        column["distinct"],
        levels=BarRows(rows, ".1%"),
        levels_not_shown=column["levels_not_shown"],
    )


def _facts(column: Column, shown: Format) -> list[tuple[str, str]]:
    def mean(value: float | None) -> str:
        return "not known" if value is None else shown(value)

    quantiles = column["quantiles"]
    middle_half = f"{shown(quantiles['first'])} to {shown(quantiles['third'])}"
    return [
        ("range", f"{shown(quantiles['low'])} to {shown(quantiles['high'])}"),
        ("middle half", f"{middle_half}, median {shown(quantiles['median'])}"),
        ("mean", f"churned {mean(column['mean_churned'])}, kept {mean(column['mean_kept'])}"),
        ("distinct", f"{column['distinct']:,}"),
    ]


def _unusual(column: Column, shown: Format) -> list[str]:
    odd, texts = column["odd"], []
    if odd["spike"]:
        texts.append(f"{odd['spike']['rows']:,} customers on one value, {shown(odd['spike']['value'])}")
    if odd["far_out"]:
        between = f"from {shown(odd['far_low'])} to {shown(odd['far_high'])}"
        texts.append(f"{odd['far_out']:,} beyond {FAR:g} interquartile ranges, {between}")
    if odd["zeros"] and column["kind"] != "date":
        texts.append(f"{odd['zeros']:,} zeros")
    if odd["negative"] and column["kind"] != "date":
        texts.append(f"{odd['negative']:,} negative")
    return texts


def _cohorts(profile: Profile) -> Chart | None:
    cohort = profile["cohort"]
    if cohort is None:
        return None
    parts, kind = cohort["parts"], cohort["kind"]
    points = [((part["from"] + part["to"]) / 2, part["churn_rate"]) for part in parts]
    top = max(0.05, *(rate for _, rate in points))
    low, high = parts[0]["from"], parts[-1]["to"]
    x = Axis(cohort["column"], low, high, _axis_form(kind), _ticks(kind, [low, high]))
    drawn = [
        Line("churned share", points, "churned", dots=True),
        Line("all", [(low, profile["churn_rate"]), (high, profile["churn_rate"])], "base", dashed=True),
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
