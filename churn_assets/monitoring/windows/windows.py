"""Windows of the prediction log: runs of consecutive rows of one fingerprint, each with enough customers.

A window is a function of the log and of where the one before it ended; where it ends is written down at
once, so that a later change of the contract's window size moves no window that was reported on.

    <monitoring_dir>/<fingerprint, 12 digits>/0001/window.json    the boundaries
                                                   quality.json, drift.json, drift.md, ...   reports
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from churn_assets.contract.model import Contract
from churn_assets.contract.policy import Monitoring
from churn_assets.errors import NothingIngested
from churn_assets.monitoring.report_files import R, read_report, unreadable
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.promotion.pointer import read_champion
from churn_assets.settings import Settings
from churn_assets.storage.files import read_json_object, write_json

if TYPE_CHECKING:
    import duckdb

OPEN = "open.json"
WINDOW, QUALITY_JSON, PERFORMANCE_JSON = "window.json", "quality.json", "performance.json"
DRIFT_JSON, DRIFT_MD, DRIFT_HTML = "drift.json", "drift.md", "drift.html"

# Who was scored: rows without a customer id stand for themselves.
WHO = "CASE WHEN customer_id IS NULL THEN 'p:' || prediction_id ELSE 'c:' || customer_id END"
_ROWS_A_CUSTOMER = 4  # rows read for each customer wanted, before the whole rest of the log is


@dataclass(frozen=True)
class Window:
    """Rows `from_seq` to `to_seq` of the log, both included, of one fingerprint.

    `customers` are distinct, `rows` all of the fingerprint, `other_rows` those of other fingerprints that
    lie between and are left out. Instants are UTC, ISO 8601. `closed_by` is 'customers' or 'days'.
    """

    window: int
    fingerprint: str
    from_seq: int
    to_seq: int
    customers: int
    rows: int
    other_rows: int
    first_scored_at: str
    last_scored_at: str
    closed_by: str


@dataclass(frozen=True)
class OpenWindow:
    """Customers and rows after the last closed window; `message` says when they become a window."""

    customers: int
    rows: int
    message: str


@dataclass(frozen=True)
class OpenWindowFile:
    """What the ingest keeps of the open window in `open.json`, so that a sensor need not open the log.

    `window` is the number it will have, `wanted` the customers at which it closes (0: it closes by days).
    """

    fingerprint: str
    window: int
    customers: int
    wanted: int


def record_open_window(settings: Settings, contract: Contract) -> OpenWindowFile | None:
    """Count the customers since the last closed window and keep the figure; None before the first prediction.

    Raises WarehouseCorrupt, WindowUnreadable, PointerCorrupt.
    """
    champion = read_champion(settings.home)
    if champion is None:
        return None
    windows = read_windows(settings, champion.fingerprint)
    last = windows[-1] if windows else None
    limits = contract.monitoring
    try:
        with open_published(settings) as connection:
            waiting = read_open_window(connection, champion.fingerprint, limits, last)
    except NothingIngested:
        return None
    record = OpenWindowFile(
        fingerprint=champion.fingerprint,
        window=last.window + 1 if last else 1,
        customers=waiting.customers,
        wanted=0 if limits.window_days else limits.window,
    )
    write_json(settings.monitoring_dir / OPEN, asdict(record))
    return record


def full_window(settings: Settings) -> str | None:
    """A name for the window that is full and not closed yet, None while there is none. Raises WindowUnreadable."""
    record = read_report(settings.monitoring_dir / OPEN, OpenWindowFile)
    if record is None or not record.wanted or record.customers < record.wanted:
        return None
    closed = read_windows(settings, record.fingerprint)
    if closed and closed[-1].window >= record.window:
        return None
    return f"{record.fingerprint[:12]}-{record.window:04d}"


def contract_folder(settings: Settings, fingerprint: str) -> Path:
    """Where the windows of a contract are kept."""
    return settings.monitoring_dir / fingerprint[:12]


def window_folder(settings: Settings, window: Window) -> Path:
    """Where the reports on a window are kept."""
    return contract_folder(settings, window.fingerprint) / f"{window.window:04d}"


def read_windows(settings: Settings, fingerprint: str) -> list[Window]:
    """The closed windows of a fingerprint, oldest first; none is an empty list. Raises WindowUnreadable."""
    folder = contract_folder(settings, fingerprint)
    if not folder.is_dir():
        return []
    numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and (path / WINDOW).is_file())
    return [_read_window(folder / f"{number:04d}" / WINDOW) for number in numbers]


def read_window_report(settings: Settings, window: Window, name: str, kind: type[R]) -> R | None:
    """A report on a window, None if it was not made. Raises WindowUnreadable."""
    return read_report(window_folder(settings, window) / name, kind)


def close_windows(
    connection: duckdb.DuckDBPyConnection, settings: Settings, fingerprint: str, limits: Monitoring
) -> list[Window]:
    """Close every window the log holds by now, and write each down; returns the new ones, oldest first.

    A second call closes nothing more. `connection` has the table `predictions`.
    """
    closed = read_windows(settings, fingerprint)
    new = []
    while (window := _next_window(connection, fingerprint, limits, closed[-1] if closed else None)) is not None:
        write_json(window_folder(settings, window) / WINDOW, asdict(window))
        closed.append(window)
        new.append(window)
    return new


def read_open_window(
    connection: duckdb.DuckDBPyConnection, fingerprint: str, limits: Monitoring, last: Window | None
) -> OpenWindow:
    """What the log holds after `last`, with a message that says when the next window closes."""
    customers, rows = connection.execute(
        f"SELECT count(DISTINCT {WHO}), count(*) FROM predictions WHERE fingerprint = ? AND seq > ?",
        [fingerprint, _after(last)],
    ).fetchall()[0]
    wanted = f"after {limits.window_days} days" if limits.window_days else f"at {limits.window:,} customers"
    message = f"the open window has {customers:,} customers; it closes {wanted}"
    if not limits.window_days and customers and rows > 10 * limits.window:
        message += f"; they have {rows:,} rows: set [monitoring] window below {customers:,}, or window_days"
    return OpenWindow(customers, rows, message)


def rows_of(window: Window) -> str:
    """SQL that is true for the rows of a window."""
    # The fingerprint is hexadecimal and the numbers are numbers: nothing of a user's is in this text.
    return f"fingerprint = '{window.fingerprint}' AND seq BETWEEN {window.from_seq} AND {window.to_seq}"


def _after(last: Window | None) -> int:
    return last.to_seq if last else -1


def _next_window(
    connection: duckdb.DuckDBPyConnection, fingerprint: str, limits: Monitoring, last: Window | None
) -> Window | None:
    end = (
        _end_by_days(connection, fingerprint, limits.window_days, _after(last))
        if limits.window_days
        else next(_ends_by_customers(connection, fingerprint, limits.window, _after(last)), None)
    )
    if end is None:
        return None
    start, customers, rows, first, newest = connection.execute(
        f"SELECT min(seq), count(DISTINCT {WHO}), count(*), min(scored_at), max(scored_at) FROM predictions "
        "WHERE fingerprint = ? AND seq > ? AND seq <= ?",
        [fingerprint, _after(last), end],
    ).fetchall()[0]
    other_rows = connection.execute(
        "SELECT count(*) FROM predictions WHERE fingerprint <> ? AND seq BETWEEN ? AND ?", [fingerprint, start, end]
    ).fetchall()[0][0]
    return Window(
        window=last.window + 1 if last else 1,
        fingerprint=fingerprint,
        from_seq=start,
        to_seq=end,
        customers=customers,
        rows=rows,
        other_rows=other_rows,
        first_scored_at=_utc(first),
        last_scored_at=_utc(newest),
        closed_by="days" if limits.window_days else "customers",
    )


def _ends_by_customers(
    connection: duckdb.DuckDBPyConnection, fingerprint: str, wanted: int, after: int
) -> Iterator[int]:
    """The seq at which the wanted number of distinct customers is reached: of the next rows, then of all."""
    for limit in (f"LIMIT {_ROWS_A_CUSTOMER * wanted}", ""):
        ends = connection.execute(
            f"""WITH ahead AS (
                    SELECT seq, {WHO} AS who FROM predictions WHERE fingerprint = ? AND seq > ? ORDER BY seq {limit}
                ), first_seen AS (SELECT min(seq) AS seq FROM ahead GROUP BY who)
                SELECT seq FROM first_seen ORDER BY seq LIMIT 1 OFFSET {wanted - 1}""",
            [fingerprint, after],
        ).fetchall()
        yield from (row[0] for row in ends)


def _end_by_days(connection: duckdb.DuckDBPyConnection, fingerprint: str, days: int, after: int) -> int | None:
    """The last seq before the first row that is `days` younger than the window's first; None until one is."""
    ends = connection.execute(
        f"""WITH rest AS (SELECT seq, scored_at FROM predictions WHERE fingerprint = ? AND seq > ?),
                 start AS (SELECT min(seq) AS seq, arg_min(scored_at, seq) AS scored_at FROM rest),
                 later AS (SELECT min(rest.seq) AS seq FROM rest, start
                           WHERE rest.scored_at >= start.scored_at + INTERVAL {days} DAY)
            SELECT max(rest.seq) FROM rest, later WHERE rest.seq < later.seq""",
        [fingerprint, after],
    ).fetchall()
    return ends[0][0] if ends else None


def _utc(instant: datetime) -> str:
    return instant.isoformat() + "+00:00"


def _read_window(path: Path) -> Window:
    try:
        values = read_json_object(path)
        if values.keys() != {field.name for field in fields(Window)}:
            raise ValueError("other fields than a window has")
        return msgspec.convert(values, Window)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise unreadable(path, error) from error
