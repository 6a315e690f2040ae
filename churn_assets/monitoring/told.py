"""Reports on a window as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MEASURES = ("psi", "ks", "chi_square", "wasserstein", "jensen_shannon")


def as_markdown(report: Mapping[str, Any]) -> str:
    """The drift report of a window for people: verdict, every measure of every column, what else was seen."""
    lines = [
        f"# Drift, window {report['window']}",
        "",
        f"**{report['status']}**: {report['words']}.",
        "",
        f"{report['customers']:,} customers, {report['rows']:,} predictions, {report['first_scored_at']} to "
        f"{report['last_scored_at']}; compared with the training rows of model {report['model_version']}; "
        f"data: {report['data']}.",
    ]
    if report["scored_by_others"]:
        lines += ["", f"{report['scored_by_others']:,} customers were scored by another model last: not in the score."]
    lines += ["", *_table(_COLUMNS, map(_row, report["columns"])), ""]
    lines += [
        "`n/a`: the measure does not apply to the kind of column. A column drifts when its p-value and its effect"
    ]
    lines += ["both pass their limits; the other measures decide nothing.", ""]
    for section in ("multivariate", "outliers"):
        if report[section]:
            lines += [f"- {section}: {report[section]['words']}"]
    page = report["page"]
    if page:
        lines += [f"- Evidently: {page['file'] or page['words']}"]
        lines += [f"- not on Evidently's page: {name}, {why}" for name, why in sorted(page["left_out"].items())]
    return "\n".join(lines) + "\n"


_COLUMNS = ("column", "kind", "drifts", "decided by", "p", "effect", *_MEASURES, "in words")


def _row(column: Mapping[str, Any]) -> Sequence[str]:
    drifts = {True: "**yes**", False: "no", None: "not said"}[column["drifts"]]
    by = f"{column['test']}, {column['effect_measure']}" if column["test"] else ""
    figures = [_figure(column[name]) for name in ("p_value", "effect", *_MEASURES)]
    return [column["column"], column["kind"], drifts, by, *figures, column["words"]]


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [names, ["---"] * len(names), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
