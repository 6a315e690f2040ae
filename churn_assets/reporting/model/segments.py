"""How the model does in each segment, and in which of them nobody can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from churn_assets.html.markup import Markup, el, estimate, number, section, table

Facts = Mapping[str, Any]
SHOWN = 12  # values of a column; the others are in metrics.json


def segments_section(facts: Facts) -> Markup:
    """A table for each category and yes/no column, out of time beside the random split."""
    rows = facts["segments"]
    lead = [
        "Test customers by each category and yes/no column. ROC AUC compares segments; PR-AUC depends on how many "
        "churn, so compare it with the churned share of the same row. Below ",
        number(facts["fewest"], "d"),
        " churned or ",
        number(facts["fewest"], "d"),
        " kept test customers a segment is too small to say.",
    ]
    title = "Segments"
    if not rows:
        return section("segments", title, el("p", "The contract has no category or yes/no column."), lead=lead)
    by_column: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_column.setdefault(row["column"], []).append(row)
    return section("segments", title, [_column(facts, name, levels) for name, levels in by_column.items()], lead=lead)


def _column(facts: Facts, name: str, levels: Sequence[Mapping[str, Any]]) -> Markup:
    late = "oot" in facts["sides"]
    most = sorted(levels, key=lambda row: -row["test"]["rows"])[:SHOWN]
    rows = [[el("b", row["level"]), *_cells(row["test"]), *(_late(row["oot"]) if late else ())] for row in most]
    head = ["value", "customers", "churned", "predicted", "PR-AUC", "ROC AUC"]
    head += ["newest: PR-AUC"] if late else []
    more = f"{len(levels) - SHOWN} rarer values are in metrics.json." if len(levels) > SHOWN else None
    doc = el("small", " ", facts["words"].get(name, ""))
    return el("div", el("h3", name, doc), table(head, rows, numeric=range(1, len(head))),
              el("p", more, class_="note") if more else None, class_="card")  # fmt: skip


def _cells(found: Mapping[str, Any]) -> list[object]:
    figures = [estimate(found[name]) for name in ("pr_auc", "roc_auc")] if found["enough"] else _too_few(found)
    return [number(found["rows"], ","), _rate(found["churn_rate"]), _rate(found["predicted"]), *figures]


def _late(found: Mapping[str, Any]) -> list[object]:
    if not found["rows"]:
        return [el("span", "none there", class_="none")]
    return [estimate(found["pr_auc"]) if found["enough"] else _too_few(found)[0]]


def _too_few(found: Mapping[str, Any]) -> list[object]:
    words = [
        el("span", "too few to say", class_="tag warn"),
        el("small", " ", number(found["churners"], ","), " churned"),
    ]
    return [words, ""]


def _rate(value: float | None) -> Markup:
    return number(value, ".1%")
