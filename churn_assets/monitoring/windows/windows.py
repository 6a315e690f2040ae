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
from typing import Any

from churn_assets.contract.model import Contract
from churn_assets.contract.policy import Monitoring
from churn_assets.errors import NothingIngested, WindowUnreadable
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.promotion.pointer import read_champion
from churn_assets.settings import Settings
from churn_assets.storage.files import read_json_object, write_json

OPEN = "open.json"


def note_open(settings: Settings, contract: Contract) -> dict[str, Any] | None:
    """Count the customers since the last closed window, and keep the figure; None before the first prediction.

    The value has `fingerprint`, `window` (the number it will have), `customers`, `wanted` (0: windows
    close by days). Raises WarehouseCorrupt, WindowUnreadable, PointerCorrupt.
    """
    champion = read_champion(settings.home)
    if champion is None:
        return None
    windows = read_windows(settings, champion.fingerprint)
    last = windows[-1] if windows else None
    limits = contract.monitoring
    try:
        with open_published(settings) as connection:
            waiting = still_open(connection, champion.fingerprint, limits, last)
    except NothingIngested:
        return None
    found = {
        "fingerprint": champion.fingerprint,
        "window": last.window + 1 if last else 1,
        "customers": waiting.customers,
        "wanted": 0 if limits.window_days else limits.window,
    }
    write_json(settings.monitoring_dir / OPEN, found)
    return found


def full_window(settings: Settings) -> str | None:
    """A name for the window that is full and not closed yet, None while there is none. Raises WindowUnreadable."""
    found = read_json(settings.monitoring_dir / OPEN)
    if not found or not found["wanted"] or found["customers"] < found["wanted"]:
        return None
    closed = read_windows(settings, found["fingerprint"])
    if closed and closed[-1].window >= found["window"]:
        return None
    return f"{found['fingerprint'][:12]}-{found['window']:04d}"


WINDOW, QUALITY_JSON = "window.json", "quality.json"
DRIFT_JSON, DRIFT_MD, DRIFT_HTML = "drift.json", "drift.md", "drift.html"

# Who was scored: rows without a customer id stand for themselves.
WHO = "CASE WHEN customer_id IS NULL THEN 'p:' || prediction_id ELSE 'c:' || customer_id END"
_LOOK_AHEAD = 4  # rows looked at for each customer wanted, before the whole rest of the log is


@dataclass(frozen=True)
class Window:
    """Rows `from_seq` to `to_seq` of the log, both included, of one fingerprint.

    `customers` are distinct, `rows` all of the fingerprint, `other_rows` those of other fingerprints that
    lie between and are never looked at. Instants are UTC, ISO 8601. `closed_by` is 'customers' or 'days'.
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
class Open:
    """What lies after the last closed window: customers and rows so far."""

    customers: int
    rows: int
    words: str


def folder_of(settings: Settings, fingerprint: str) -> Path:
    """Where the windows of a fingerprint are kept."""
    return settings.monitoring_dir / fingerprint[:12]


def place_of(settings: Settings, window: Window) -> Path:
    """Where the reports on a window are kept."""
    return folder_of(settings, window.fingerprint) / f"{window.window:04d}"


def read_windows(settings: Settings, fingerprint: str) -> list[Window]:
    """The closed windows of a fingerprint, oldest first; none is an empty list. Raises WindowUnreadable."""
    folder = folder_of(settings, fingerprint)
    if not folder.is_dir():
        return []
    numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and (path / WINDOW).is_file())
    return [_read(folder / f"{number:04d}" / WINDOW) for number in numbers]


def read_report(settings: Settings, window: Window, name: str) -> dict[str, Any] | None:
    """A JSON report on a window, None if it was not made. Raises WindowUnreadable."""
    return read_json(place_of(settings, window) / name)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object as `write_json` left it, None if there is none. Raises WindowUnreadable."""
    try:
        return read_json_object(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def close_windows(connection: Any, settings: Settings, fingerprint: str, limits: Monitoring) -> list[Window]:
    """Close every window the log holds by now, and write each down; returns the new ones, oldest first.

    Called twice, the second call finds nothing to do. `connection` has the table `predictions`.
    """
    closed = read_windows(settings, fingerprint)
    new = []
    while (window := _next(connection, fingerprint, limits, closed[-1] if closed else None)) is not None:
        write_json(place_of(settings, window) / WINDOW, asdict(window))
        closed.append(window)
        new.append(window)
    return new


def still_open(connection: Any, fingerprint: str, limits: Monitoring, last: Window | None) -> Open:
    """What has come since `last`, in words that say when the next window closes."""
    found = connection.execute(
        f"SELECT count(DISTINCT {WHO}), count(*) FROM predictions WHERE fingerprint = ? AND seq > ?",
        [fingerprint, _after(last)],
    ).fetchall()[0]
    customers, rows = found
    wanted = f"after {limits.window_days} days" if limits.window_days else f"at {limits.window:,}"
    words = f"{customers:,} customers wait in a window that is still open, it closes {wanted}"
    if not limits.window_days and customers and rows > 10 * limits.window:
        words += f"; they have {rows:,} rows: set [monitoring] window below {customers:,}, or window_days"
    return Open(customers, rows, words)


def rows_of(window: Window) -> str:
    """SQL that is true for the rows of a window."""
    # The fingerprint is hexadecimal and the numbers are numbers: nothing of a user's is in this text.
    return f"fingerprint = '{window.fingerprint}' AND seq BETWEEN {window.from_seq} AND {window.to_seq}"


def _after(last: Window | None) -> int:
    return last.to_seq if last else -1


def _next(connection: Any, fingerprint: str, limits: Monitoring, last: Window | None) -> Window | None:
    found = (
        _end_by_days(connection, fingerprint, limits.window_days, _after(last))
        if limits.window_days
        else next(_ends_by_customers(connection, fingerprint, limits.window, _after(last)), None)
    )
    if found is None:
        return None
    told = connection.execute(
        f"SELECT min(seq), count(DISTINCT {WHO}), count(*), min(scored_at), max(scored_at) FROM predictions "
        "WHERE fingerprint = ? AND seq > ? AND seq <= ?",
        [fingerprint, _after(last), found],
    ).fetchall()[0]
    start, customers, rows, first, newest = told
    others = connection.execute(
        "SELECT count(*) FROM predictions WHERE fingerprint <> ? AND seq BETWEEN ? AND ?", [fingerprint, start, found]
    ).fetchall()[0][0]
    return Window(
        window=last.window + 1 if last else 1,
        fingerprint=fingerprint,
        from_seq=start,
        to_seq=found,
        customers=customers,
        rows=rows,
        other_rows=others,
        first_scored_at=_utc(first),
        last_scored_at=_utc(newest),
        closed_by="days" if limits.window_days else "customers",
    )


def _ends_by_customers(connection: Any, fingerprint: str, wanted: int, after: int) -> Iterator[int]:
    """The seq at which the wanted number of distinct customers is reached: looked for nearby, then everywhere."""
    for limit in (f"LIMIT {_LOOK_AHEAD * wanted}", ""):
        found = connection.execute(
            f"""WITH ahead AS (
                    SELECT seq, {WHO} AS who FROM predictions WHERE fingerprint = ? AND seq > ? ORDER BY seq {limit}
                ), first_seen AS (SELECT min(seq) AS seq FROM ahead GROUP BY who)
                SELECT seq FROM first_seen ORDER BY seq LIMIT 1 OFFSET {wanted - 1}""",
            [fingerprint, after],
        ).fetchall()
        yield from (row[0] for row in found)


def _end_by_days(connection: Any, fingerprint: str, days: int, after: int) -> int | None:
    """The last seq before the first row that is `days` younger than the window's first; None until one is."""
    found = connection.execute(
        f"""WITH rest AS (SELECT seq, scored_at FROM predictions WHERE fingerprint = ? AND seq > ?),
                 start AS (SELECT min(seq) AS seq, arg_min(scored_at, seq) AS scored_at FROM rest),
                 later AS (SELECT min(rest.seq) AS seq FROM rest, start
                           WHERE rest.scored_at >= start.scored_at + INTERVAL {days} DAY)
            SELECT max(rest.seq) FROM rest, later WHERE rest.seq < later.seq""",
        [fingerprint, after],
    ).fetchall()
    return found[0][0] if found else None


def _utc(instant: datetime) -> str:
    return instant.isoformat() + "+00:00"


def _read(path: Path) -> Window:
    found = read_json(path)
    try:
        if found is None or found.keys() != {field.name for field in fields(Window)}:
            raise ValueError("other fields than a window has")
        return Window(**found)
    except (ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WindowUnreadable:
    words = " ".join(str(error).split())[:160]
    return WindowUnreadable(
        f"{path}: cannot be read ({words}), expected a report of this package; "
        "remove its folder and those after it, and run `monitor`: they are made again from the log"
    )
