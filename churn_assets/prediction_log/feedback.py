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

from churn_assets import errors
from churn_assets.contract.model import MAX_ID, MAX_INSTANT, is_id
from churn_assets.errors import NothingIngested, Violation, describe_value
from churn_assets.prediction_log.records import ANONYMOUS, IMPORT, Feedback, encode_line, parse_instant
from churn_assets.prediction_log.segment import Segment
from churn_assets.prediction_log.warehouse.connection import ingested_names, open_published
from churn_assets.prediction_log.warehouse.read import LogCounts, segment_lines, segment_names
from churn_assets.settings import Settings

FIELDS = ("prediction_id", "customer_id", "churned", "observed_at", "contacted")
_IDS = ("prediction_id", "customer_id")
_ID_TEXT = f"a text of 1 to {MAX_ID} printable characters"
_AHEAD = dt.timedelta(days=1)  # clocks and time zones differ
_BOOLEANS: Mapping[str, bool] = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Imported:
    """What an import did: `added` reports are on disk, `known` were in the log before, `repeated` in the file."""

    added: int
    known: int
    repeated: int


def parse_reports(items: Sequence[object], request_id: str, now: dt.datetime, source: str | None) -> list[Feedback]:
    """A row, with a new id, of each report; `source` is who reports. Raises RowsRejected with every violation, rows
    counted from 0."""
    violations = [violation for index, item in enumerate(items) for violation in _violations(index, item, now)]
    if violations:
        raise errors.RowsRejected(violations)
    shared: dict[str, Any] = {
        **dict.fromkeys(FIELDS),
        "request_id": request_id,
        "received_at": now.isoformat(),
        "source": source or ANONYMOUS,
    }
    rows = []
    for item in items:
        assert isinstance(item, dict)  # else it were a violation
        own = {"feedback_id": os.urandom(12).hex(), "observed_at": parse_instant(item["observed_at"]).isoformat()}
        rows.append(Feedback(**shared | item | own))
    return rows


def import_file(settings: Settings, path: Path, now: dt.datetime, source: str = IMPORT) -> Imported:
    """Append the reports of a csv or Parquet file to the log, all of them or none; known ones are not repeated.

    After a kill during the write the same import adds the rest, nothing twice. Raises SourceNotFound,
    SourceUnreadable, EmptySource, ColumnMissing, RowsRejected (every violation, rows counted from 0 below the
    header), LogUnavailable.
    """
    items = list(_read(path))
    if not items:
        raise errors.EmptySource(f"{path} has no rows, expected reports of {', '.join(FIELDS)}; name another file")
    reports = {_content_id(report): report for report in parse_reports(items, IMPORT, now, source)}
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
    if not ids:
        violations.append(Violation(index, "prediction_id", "neither id", "a prediction_id or a customer_id"))
    checks = [
        *((name, isinstance(item[name], str) and is_id(item[name]), _ID_TEXT) for name in ids),
        ("churned", isinstance(item.get("churned"), bool), "true or false"),
        ("contacted", isinstance(item.get("contacted"), bool | None), "true or false or null"),
        (
            "observed_at",
            _is_past(item.get("observed_at"), now),
            "a date or instant such as 2014-01-20, not in the future",
        ),
    ]
    violations += [
        Violation(index, name, describe_value(item.get(name)), text) for name, good, text in checks if not good
    ]
    return violations


def _is_past(value: object, now: dt.datetime) -> bool:
    with contextlib.suppress(ValueError, OverflowError):
        return isinstance(value, str) and len(value) <= MAX_INSTANT and parse_instant(value) <= now + _AHEAD
    return False


def _known(settings: Settings, ids: Collection[str]) -> set[str]:
    """Those of the ids that are in the warehouse, and all of segments that are not ingested yet."""
    ingested: frozenset[str] = frozenset()
    known: set[str] = set()
    with contextlib.suppress(NothingIngested), open_published(settings) as connection:
        ingested = ingested_names(connection)
        query = "SELECT feedback_id FROM feedback WHERE feedback_id IN (SELECT unnest(?))"
        known = {own_id for (own_id,) in connection.execute(query, [list(ids)]).fetchall()}
    for name in segment_names(settings.predlog_dir):
        if name not in ingested:
            lines = segment_lines(settings.predlog_dir, name, LogCounts()) or ()
            known.update(line.own_id for line in lines if line.own_id is not None)
    return known


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise errors.SourceNotFound(f"no file at {path}; name a .csv or .parquet file of {', '.join(FIELDS)}")
    try:
        if path.suffix in (".parquet", ".pq"):
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            names, rows = table.column_names, table.to_pylist()
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, restkey="more cells than columns", strict=True)
                rows = [{name: value or None for name, value in row.items()} for row in reader]
                names = [name.strip() for name in reader.fieldnames or []]
    except (OSError, ValueError, csv.Error) as error:
        text = f"{path}: cannot be read ({errors.one_line(error)}), expected csv in UTF-8 or Parquet"
        raise errors.SourceUnreadable(text) from error
    missing = [name for name in ("churned", "observed_at") if name not in names]
    if missing or not set(_IDS) & set(names):
        absent = " and ".join(missing) or "prediction_id or customer_id"
        raise errors.ColumnMissing(f"{path}: no column {absent}, there are: {', '.join(names)}; add it to the file")
    for row in rows:
        yield {name: _cell(name, value) for name, value in row.items()}


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
