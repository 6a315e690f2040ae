"""The second pass over closed windows: does anything drift? Each is judged once, oldest first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from churn_assets.contract.model import Contract, Kind
from churn_assets.errors import NothingIngested
from churn_assets.monitoring.data_quality.checks import BROKEN, INSUFFICIENT
from churn_assets.monitoring.data_quality.report import NEWEST, NO_PREDICTIONS, Report, nothing, quality_of
from churn_assets.monitoring.drift import evidently
from churn_assets.monitoring.drift.multivariate import separate
from churn_assets.monitoring.drift.outliers import find_outliers
from churn_assets.monitoring.drift.univariate import DRIFT, STABLE, Judged, drifted, judge
from churn_assets.monitoring.monitored_model import NO_CHAMPION, Subject, look, read_subject
from churn_assets.monitoring.windows.profile import SCORE, Content
from churn_assets.monitoring.windows.windows import (
    DRIFT_HTML,
    DRIFT_JSON,
    DRIFT_MD,
    Window,
    close_windows,
    place_of,
    read_report,
    read_windows,
    still_open,
    write_json,
    write_text,
)
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.promotion.retraining import MonitoredWindow, columns_drifting_in_a_row
from churn_assets.settings import Settings

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


UNKNOWN = "unknown"
Draw = Callable[..., evidently.Page]


def report_drift(settings: Settings, contract: Contract, *, pages: bool = False, draw: Draw = evidently.draw) -> Report:
    """Judge every window that was not judged yet, and say which columns drift in enough windows in a row.

    `pages` draws Evidently's page for the newest window too when it does not alarm. The value has
    `fingerprint`, `status` and `drifted` of the newest window, `in_a_row` (columns that ask for a
    retraining), `words` and `windows`, the newest last. Raises WindowUnreadable, PointerCorrupt.
    """
    subject = read_subject(settings, contract)
    if subject is None:
        return {**nothing(contract.fingerprint, NO_CHAMPION), "drifted": [], "in_a_row": []}
    try:
        with open_published(settings) as connection:
            close_windows(connection, settings, subject.fingerprint, subject.limits)
            windows = read_windows(settings, subject.fingerprint)
            told = [
                _drift_of(connection, settings, subject, windows, index, pages and index == len(windows) - 1, draw)
                for index in range(len(windows))
            ]
            last = windows[-1] if windows else None
            waiting = still_open(connection, subject.fingerprint, subject.limits, last)
    except NothingIngested:
        return {**nothing(subject.fingerprint, NO_PREDICTIONS), "drifted": [], "in_a_row": []}
    same = [MonitoredWindow.of(report) for report in told if report["model_version"] == subject.version]
    asking = list(columns_drifting_in_a_row(same, subject.limits.windows_to_retrain))
    words = [told[-1]["words"] if told else waiting.words]
    if asking:
        words.append(f"{', '.join(asking)} drifted in {subject.limits.windows_to_retrain} windows in a row")
    return {
        "fingerprint": subject.fingerprint,
        "model_version": subject.version,
        "status": told[-1]["status"] if told else INSUFFICIENT,
        "drifted": told[-1]["drifted"] if told else [],
        "in_a_row": asking,
        "words": "; ".join(words),
        "open": asdict(waiting),
        "windows": told[-NEWEST:],
    }


def _drift_of(
    connection: Any,
    settings: Settings,
    subject: Subject,
    windows: list[Window],
    index: int,
    page_too: bool,
    draw: Draw,
) -> Report:
    window = windows[index]
    folder = place_of(settings, window)
    found = read_report(settings, window, DRIFT_JSON)
    if found is not None and not (page_too and not (folder / DRIFT_HTML).is_file()):
        return found
    data = quality_of(connection, settings, subject, windows, index)["status"]
    content = look(connection, subject, window) if subject.reference else None
    if found is None:
        found = _judged(subject, window, content, data)
    if content is not None and subject.reference and (page_too or found["status"] == DRIFT):
        page = draw(
            subject.reference.content.sample.rename_columns(_with_score(subject.reference.content)),
            content.sample.rename_columns(_with_score(content)),
            {**subject.watched, SCORE: Kind.NUMBER},
            subject.limits,
            folder / DRIFT_HTML,
            workspace=settings.monitoring_dir / evidently.WORKSPACE,
            project=f"{subject.contract.name} {subject.fingerprint[:12]}",
            name=f"window {window.window}",
            at=dt.datetime.fromisoformat(window.last_scored_at),
        )
        found["page"] = {"file": DRIFT_HTML if page.path else None, "words": page.words, "left_out": page.left_out}
    write_text(folder / DRIFT_MD, as_markdown(found))
    write_json(folder / DRIFT_JSON, found)
    return found


def _with_score(content: Content) -> list[str]:
    return [SCORE if name == "score" else name for name in content.sample.column_names]


def _judged(subject: Subject, window: Window, content: Content | None, data: str) -> Report:
    judged: list[Judged] = []
    extra: Report = {"multivariate": None, "outliers": None}
    limits = subject.limits
    if content is not None and subject.reference is not None:
        before = subject.reference.content
        judged = judge(before.observed(subject.watched), content.observed(subject.watched), limits)
        extra = {
            "multivariate": asdict(separate(before.sample, content.sample, subject.watched)),
            "outliers": find_outliers(subject.reference, content.sample, subject.watched, limits.outliers).to_json(),
        }
    customers = content.rows if content else window.customers  # fewer, if the log has forgotten some
    status = _status(subject, customers, judged)
    named = drifted(judged) if status == DRIFT else []
    return {
        **asdict(window),
        "model_version": subject.version,
        "status": status,
        "data": data,
        "drifted": named,
        "score": _score(content),
        "scored_by_others": content.other_models if content else 0,
        "columns": [one.to_json() for one in judged],
        **extra,
        "page": None,
        "words": _said(subject, window, customers, status, named, data),
    }


def _score(content: Content | None) -> Report:
    if content is None or not content.scored:
        return {"mean": None, "positive_share": None, "rows": 0}
    score = content.sample["score"].to_numpy()
    score = score[np.isfinite(score)]
    mean = float(score.mean()) if len(score) else None  # the champion's few rows may not be in the sample
    return {"mean": mean, "positive_share": content.positives / content.scored, "rows": content.scored}


def _status(subject: Subject, customers: int, judged: list[Judged]) -> str:
    if customers < subject.limits.floor:
        return INSUFFICIENT
    if all(one.drifts is None for one in judged):
        return UNKNOWN
    return DRIFT if drifted(judged) else STABLE


def _said(subject: Subject, window: Window, customers: int, status: str, named: list[str], data: str) -> str:
    head = f"window {window.window}, {customers:,} customers: "
    match status:
        case "insufficient":
            return f"{head}too few to say, the floor is {subject.limits.floor:,}"
        case "unknown":
            return head + (subject.words or "no column could be compared")
        case "stable":
            said = f"{head}no column drifts"
        case _:
            said = f"{head}{', '.join(named)} drift"
    return f"{said}; but the data is broken, so this proves nothing" if data == BROKEN else said
