"""Outcomes of customers: the check of a report, and the import of a file of them into the log."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from churn_assets.errors import (
    ColumnMissing,
    EmptySource,
    NothingIngested,
    RowsRejected,
    SourceNotFound,
    SourceUnreadable,
    Violation,
    describe_value,
)
from churn_assets.prediction_log.records import Feedback, encode_line
from churn_assets.prediction_log.segment import Segment
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.prediction_log.warehouse.read import read_segments, segment_names
from churn_assets.settings import Settings

FIELDS = ("prediction_id", "customer_id", "churned", "observed_at", "contacted")
MAX_ID = 200
_IDS = ("prediction_id", "customer_id")
_AHEAD = dt.timedelta(days=1)  # clocks and time zones differ
_BOOLEANS: Mapping[str, bool] = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Imported:
    """What an import did: `added` reports are on disk, `known` were in the log before, `repeated` in the file."""

    added: int
    known: int
    repeated: int


def parse_reports(items: Sequence[object], request_id: str, now: dt.datetime) -> list[Feedback]:
    """A row, with a new id, of each report. Raises RowsRejected with every violation, rows counted from 0."""
    violations = [violation for index, item in enumerate(items) for violation in _violations(index, item, now)]
    if violations:
        raise RowsRejected(violations)
    return [
        Feedback(
            feedback_id=os.urandom(12).hex(),
            request_id=request_id,
            prediction_id=item.get("prediction_id"),
            customer_id=item.get("customer_id"),
            churned=item["churned"],
            observed_at=_utc(item["observed_at"]).isoformat(),
            contacted=item.get("contacted"),
            received_at=now.isoformat(),
        )
        for item in items
        if isinstance(item, dict)
    ]


def import_file(settings: Settings, path: Path, now: dt.datetime) -> Imported:
    """Append the reports of a csv or Parquet file to the log, all of them or none; known ones are not repeated.

    After a kill during the write the same import adds the rest, nothing twice. Raises SourceNotFound,
    SourceUnreadable, EmptySource, ColumnMissing, RowsRejected (every violation, rows counted from 0 below the
    header), LogUnavailable.
    """
    items = list(_read(path))
    if not items:
        raise EmptySource(f"{path} has no rows, expected reports of {', '.join(FIELDS)}; name another file")
    reports = {_content_id(report): report for report in parse_reports(items, "import", now)}
    known = _known(settings, reports.keys())
    fresh = [replace(report, feedback_id=own_id) for own_id, report in reports.items() if own_id not in known]
    if fresh:
        segment = Segment(settings.predlog_dir)
        segment.append(b"".join(map(encode_line, fresh)))  # one write and one sync: all of them or none
        segment.hand_over()
    return Imported(len(fresh), len(reports) - len(fresh), len(items) - len(reports))


def _content_id(report: Feedback) -> str:
    """The same report has the same id in every file."""
    values = [report.prediction_id, report.customer_id, report.churned, report.contacted, report.observed_at]
    return "file-" + hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]


def _violations(index: int, item: object, now: dt.datetime) -> list[Violation]:
    """The violations of one report, the one numbered `index`."""
    if not isinstance(item, dict):
        return [Violation(index, "", describe_value(item), "a report as a JSON object")]
    violations = [
        Violation(index, name, "an unknown field", f"only {', '.join(FIELDS)}")
        for name in sorted(item.keys() - set(FIELDS))[:10]
    ]
    ids = [name for name in _IDS if item.get(name) is not None]
    for name in ids:
        if not isinstance(item[name], str) or not 0 < len(item[name].strip()) <= MAX_ID:
            violations.append(Violation(index, name, describe_value(item[name]), f"a text of 1 to {MAX_ID} characters"))
    if not ids:
        violations.append(Violation(index, "prediction_id", "neither id", "a prediction_id or a customer_id"))
    if not isinstance(item.get("churned"), bool):
        violations.append(Violation(index, "churned", describe_value(item.get("churned")), "true or false"))
    if not isinstance(item.get("contacted"), bool | None):
        violations.append(Violation(index, "contacted", describe_value(item.get("contacted")), "true or false or null"))
    if not _is_past(item.get("observed_at"), now):
        expected = "a date or instant such as 2014-01-20, not in the future"
        violations.append(Violation(index, "observed_at", describe_value(item.get("observed_at")), expected))
    return violations


def _utc(text: str) -> dt.datetime:
    instant = dt.datetime.fromisoformat(text)
    return instant.replace(tzinfo=dt.UTC) if instant.tzinfo is None else instant.astimezone(dt.UTC)


def _is_past(value: object, now: dt.datetime) -> bool:
    if not isinstance(value, str) or len(value) > 40:
        return False
    try:
        return _utc(value) <= now + _AHEAD
    except (ValueError, OverflowError):
        return False


def _known(settings: Settings, ids: Collection[str]) -> set[str]:
    """Those of the ids that are in the warehouse, or in segments that are not ingested yet."""
    ingested: set[str] = set()
    in_warehouse: set[str] = set()
    with contextlib.suppress(NothingIngested), open_published(settings) as connection:
        ingested = {name for (name,) in connection.execute("SELECT name FROM segments").fetchall()}
        query = "SELECT feedback_id FROM feedback WHERE feedback_id IN (SELECT unnest(?))"
        in_warehouse = {own_id for (own_id,) in connection.execute(query, [list(ids)]).fetchall()}
    names = [name for name in segment_names(settings.predlog_dir) if name not in ingested]
    in_segments = {line.own_id for line in read_segments(settings.predlog_dir, names)}
    return in_warehouse | (set(ids) & in_segments)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise SourceNotFound(f"no file at {path}; name a .csv or .parquet file of {', '.join(FIELDS)}")
    try:
        names, rows = _read_parquet(path) if path.suffix in (".parquet", ".pq") else _read_csv(path)
    except (OSError, ValueError, csv.Error) as error:
        message = " ".join(str(error).split())[:200]
        raise SourceUnreadable(f"{path}: cannot be read ({message}), expected csv in UTF-8 or Parquet") from error
    missing = [name for name in ("churned", "observed_at") if name not in names]
    if missing or not set(_IDS) & set(names):
        absent = " and ".join(missing) or "prediction_id or customer_id"
        raise ColumnMissing(f"{path}: no column {absent}, there are: {', '.join(names)}; add it to the file")
    for row in rows:
        yield {name: _cell(name, value) for name, value in row.items()}


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="more cells than columns", strict=True)
        rows = [{name: value or None for name, value in row.items()} for row in reader]
        return [name.strip() for name in reader.fieldnames or []], rows


def _read_parquet(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return list(table.column_names), table.to_pylist()


def _cell(name: str, value: Any) -> Any:
    """A cell as `parse_reports` expects it: booleans from text or 0 and 1, days, instants and ids as text."""
    if isinstance(value, str):
        value = value.strip() or None
    if name in ("churned", "contacted") and value is not None:
        return _BOOLEANS.get(str(value).lower().removesuffix(".0"), value)
    if name == "observed_at" and isinstance(value, dt.date):
        return value.isoformat()
    if name in _IDS and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value
