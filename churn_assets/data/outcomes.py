"""Outcomes of customers and contacts with them, from a file of any kind that a table may have, into the log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

from churn_assets.contract.model import Source
from churn_assets.data.readers.read import check_names_once, iter_batches, reading_contract
from churn_assets.data.validation.parse import canonical_number, cell_text
from churn_assets.errors import ColumnMissing
from churn_assets.prediction_log.contacts import CONTACT_FIELDS, ImportedContacts, import_contacts
from churn_assets.prediction_log.feedback import FIELDS, IDS, Imported, import_reports
from churn_assets.prediction_log.records import IMPORT
from churn_assets.settings import Settings

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def import_file(settings: Settings, path: Path, now: dt.datetime, source: str = IMPORT) -> Imported:
    """Append the reports of a file to the log, all of them or none; see `import_reports`. `source` is who reports.

    Names of columns are read without blanks around them. Raises the errors of reading, ColumnMissing, RowsRejected,
    LogUnavailable.
    """
    return import_reports(settings, list(_rows(path, _check_reports)), now, source)


def import_contact_file(settings: Settings, path: Path, now: dt.datetime) -> ImportedContacts:
    """Append the contacts of a file (columns `CONTACT_FIELDS`, others are not read) to the log, all of them or none.

    Raises the errors of reading, ColumnMissing, RowsRejected, LogUnavailable.
    """
    rows = _rows(path, _check_contacts)
    return import_contacts(settings, [{name: row.get(name) for name in CONTACT_FIELDS} for row in rows], now)


def _rows(path: Path, check: Callable[[Path, list[str]], None]) -> Iterator[dict[str, object]]:
    batches = iter_batches(path, reading_contract(Source()))
    for number, batch in enumerate(batches):
        names = [name.strip() for name in batch.schema.names]
        if number == 0:
            check_names_once([name for name in names if name], path.name)
            check(path, names)
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield {name: _cell(name, value) for name, value in zip(names, row, strict=True)}


def _check_contacts(path: Path, names: list[str]) -> None:
    if missing := [name for name in CONTACT_FIELDS[:3] if name not in names]:
        raise ColumnMissing(
            f"{path.name} has no column {' and '.join(missing)}; it has: {', '.join(names)}; expected "
            f"{', '.join(CONTACT_FIELDS)} (who may be absent); add it"
        )


def _check_reports(path: Path, names: list[str]) -> None:
    missing = [name for name in ("churned", "observed_at") if name not in names]
    if missing or not set(IDS) & set(names):
        absent = " and ".join(missing) or "prediction_id or customer_id"
        raise ColumnMissing(
            f"{path.name} has no column {absent}; it has: {', '.join(names)}; expected {', '.join(FIELDS)}; add it"
        )


def _cell(name: str, value: object) -> object:
    """A cell as `parse_reports` expects it: booleans from text or 0 and 1, days and instants as text, an empty cell as
    None."""
    if isinstance(value, str):
        value = value.strip() or None
    if name in ("churned", "contacted") and value is not None:
        return _BOOLEANS.get(canonical_number(cell_text(value) or "").lower(), value)
    return cell_text(value) if isinstance(value, dt.date | float) else value
