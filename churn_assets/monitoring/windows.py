"""Windows of the prediction log, and the report files that monitoring keeps for each of them.

A window is a run of consecutive rows of one fingerprint with enough customers. It is a function of the log and of
where the one before it ended (`cutting`); where it ends is written down at once, so that it never moves.

    <monitoring_dir>/<fingerprint, 12 digits>/0001/window.json    the boundaries
                                                   quality.json, drift.json, drift.md, ...   reports
                                                   accepted.json  who accepted a broken window, and why

A report is a frozen dataclass, and its JSON has the same fields. Files without a `version` were written by release 0.1;
`parse_report` is the only place that knows their words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from churn_assets.contract.limits import Monitoring
from churn_assets.contract.model import Contract
from churn_assets.errors import AcceptanceRefused, NothingIngested, WindowUnreadable
from churn_assets.monitoring.cutting import WHO, ClosedBy, find_end
from churn_assets.monitoring.open_window import WINDOW, OpenWindowFile, keep_open_window, read_open_window_file
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.promotion.pointer import read_champion
from churn_assets.settings import Settings
from churn_assets.storage.files import read_json_object, write_json

if TYPE_CHECKING:
    import duckdb
    from _typeshed import DataclassInstance

QUALITY_JSON, PERFORMANCE_JSON, ACCEPTED_JSON = "quality.json", "performance.json", "accepted.json"
DRIFT_JSON, DRIFT_MD, DRIFT_HTML = "drift.json", "drift.md", "drift.html"
_ROWS_NEVER_FULL = 10  # times the customers of a window


@dataclass(frozen=True)
class Window:
    """Rows `from_seq` to `to_seq` of the log, both included, of one fingerprint; `customers` are distinct.

    `other_rows` of other fingerprints lie between and are left out. Instants are UTC, ISO 8601. `closed_by` is
    that of `cutting.End`.
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
    closed_by: ClosedBy


@dataclass(frozen=True)
class Acceptance:
    """That a person knows better: the data of a window that was reported as broken is as it should be."""

    by: str
    why: str
    at: str
    version: int = 2


@dataclass(frozen=True)
class OpenWindow:
    """Customers and rows after the last closed window; `message` says when they become a window.

    `never_full`: the same customers come again and again, and are fewer than close a window.
    """

    customers: int
    rows: int
    message: str
    never_full: bool = False


def record_open_window(settings: Settings, contract: Contract) -> OpenWindowFile | None:
    """Count the customers since the last closed window and keep the figure; None before the first prediction. Raises
    WarehouseCorrupt, WindowUnreadable, PointerCorrupt."""
    champion = read_champion(settings.home)
    if champion is None:
        return None
    windows, limits, now = read_windows(settings, champion.fingerprint), contract.monitoring, datetime.now(UTC)
    try:
        with open_published(settings) as connection:
            waiting = read_open_window(connection, champion.fingerprint, limits, windows)
            end = find_end(connection, champion.fingerprint, limits, _end_of(windows), now)
    except NothingIngested:
        return None
    wanted = 0 if limits.window_days else limits.window
    record = OpenWindowFile(
        champion.fingerprint, _next_number(windows), waiting.customers, wanted, can_close=end is not None
    )
    return keep_open_window(settings, record, now)


def full_window(settings: Settings) -> str | None:
    """A name for the window that is full and not closed yet, None while there is none. Raises WindowUnreadable."""
    record = read_open_window_file(settings)
    if record is None or not record.full:
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
    windows = [read_report(folder / f"{number:04d}" / WINDOW, Window) for number in numbers]
    return [window for window in windows if window is not None]


def read_window_quality(folder: Path) -> QualityStatus | None:
    """The data quality of the window whose reports are in `folder`, None if not checked; 'ok' for one that is broken
    and was accepted. Raises WindowUnreadable."""
    report = read_report(folder / QUALITY_JSON, DataQuality)
    if report is not None and report.status == "broken" and read_acceptance(folder) is not None:
        return "ok"
    return report.status if report else None


def read_acceptance(folder: Path) -> Acceptance | None:
    """Who accepted the window whose reports are in `folder`, None if nobody did. Raises WindowUnreadable."""
    return read_report(folder / ACCEPTED_JSON, Acceptance, remedy="accept the window again: churn window accept")


def accept_window(
    settings: Settings, fingerprint: str, number: int, acceptance: Acceptance, announce: Callable[[], None]
) -> None:
    """Let a broken window count as ok, its labels too, from the next reports on. `announce` is called before anything
    is written. Raises AcceptanceRefused for a window that is not there or not broken, WindowUnreadable."""
    if not (acceptance.by.strip() and acceptance.why.strip()):
        raise AcceptanceRefused("--by or --why is empty, expected who accepts the window and why; name them")
    folder = contract_folder(settings, fingerprint) / f"{number:04d}"
    report = read_report(folder / QUALITY_JSON, DataQuality)
    if report is None:
        known = ", ".join(str(window.window) for window in read_windows(settings, fingerprint)[-10:]) or "none yet"
        raise AcceptanceRefused(f"window {number} has no quality report, expected one of: {known}; run monitor first")
    if report.status != "broken":
        raise AcceptanceRefused(f"window {number} is {report.status}, expected a broken one; nothing is to be done")
    announce()
    write_json(folder / ACCEPTED_JSON, asdict(acceptance))


def read_window_report(settings: Settings, window: Window, name: str, kind: type[R]) -> R | None:
    """A report on a window, None if it was not made. Raises WindowUnreadable."""
    return read_report(window_folder(settings, window) / name, kind)


def close_windows(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    fingerprint: str,
    limits: Monitoring,
    now: datetime | None = None,
) -> list[Window]:
    """Close every window the log holds by `now` (default: the present), and write each down; returns all closed ones,
    oldest first. A second call closes nothing more. `connection` has the view `answers`."""
    closed, now = read_windows(settings, fingerprint), now or datetime.now(UTC)
    while (window := _next_window(connection, fingerprint, limits, closed, now)) is not None:
        write_json(window_folder(settings, window) / WINDOW, asdict(window))
        closed.append(window)
    return closed


def read_open_window(
    connection: duckdb.DuckDBPyConnection, fingerprint: str, limits: Monitoring, windows: Sequence[Window]
) -> OpenWindow:
    """What the log holds after the closed `windows`, with a message that says when the next one closes."""
    customers, rows = connection.execute(
        f"SELECT count(DISTINCT {WHO}), count(*) FROM answers WHERE fingerprint = ? AND seq > ?",
        [fingerprint, _end_of(windows)],
    ).fetchall()[0]
    wanted = f"after {limits.window_days} days" if limits.window_days else f"at {limits.window:,} customers"
    message = f"the open window has {customers:,} customers; it closes {wanted}"
    never_full = not limits.window_days and 0 < customers < limits.window and rows > _ROWS_NEVER_FULL * limits.window
    if never_full:
        message += f"; they have {rows:,} rows: set [monitoring] window below {customers:,}, or window_days"
    return OpenWindow(customers, rows, message, never_full)


def rows_of(window: Window) -> str:
    """SQL that is true for the rows of a window."""
    # The fingerprint is hexadecimal and the numbers are numbers: nothing of a user's is in this text.
    return f"fingerprint = '{window.fingerprint}' AND seq BETWEEN {window.from_seq} AND {window.to_seq}"


def _end_of(windows: Sequence[Window]) -> int:
    return windows[-1].to_seq if windows else -1


def _next_number(windows: Sequence[Window]) -> int:
    return windows[-1].window + 1 if windows else 1


def _next_window(
    connection: duckdb.DuckDBPyConnection, fingerprint: str, limits: Monitoring, closed: Sequence[Window], now: datetime
) -> Window | None:
    after = _end_of(closed)
    chosen = find_end(connection, fingerprint, limits, after, now)
    if chosen is None:
        return None
    end = chosen.seq
    start, customers, rows, *instants = connection.execute(
        f"SELECT min(seq), count(DISTINCT {WHO}), count(*), min(scored_at), max(scored_at) FROM answers "
        "WHERE fingerprint = ? AND seq > ? AND seq <= ?",
        [fingerprint, after, end],
    ).fetchall()[0]
    other_rows = connection.execute(
        "SELECT count(*) FROM answers WHERE fingerprint <> ? AND seq BETWEEN ? AND ?", [fingerprint, start, end]
    ).fetchall()[0][0]
    first, last = (instant.isoformat() + "+00:00" for instant in instants)
    number = _next_number(closed)
    return Window(number, fingerprint, start, end, customers, rows, other_rows, first, last, chosen.closed_by)


# -- report files --------------------------------------------------------------------------------------

VERSION = 2

R = TypeVar("R")
QualityStatus = Literal["ok", "broken", "insufficient", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What every report has: `message` says in one or two sentences what `status` means here."""

    status: str
    message: str
    version: int = VERSION


@dataclass(frozen=True, kw_only=True)
class DataQuality(Report):
    """The report on a window's data as far as others need it; 'broken' is data of which nothing is learned."""

    status: QualityStatus


def to_json(report: DataclassInstance) -> dict[str, Any]:
    """A report as plain JSON values."""
    # Not of the report itself: msgspec leaves out the defaults of a value that it has parsed.
    values: dict[str, Any] = msgspec.to_builtins(asdict(report))
    return values


def parse_report(value: object, kind: type[R]) -> R:
    """A report from its JSON, of this version or of release 0.1. Raises ValueError for anything else."""
    if isinstance(value, Mapping) and (version := value.get("version", 1)) != VERSION:
        if version != 1:
            raise ValueError(
                f"its version is {version!r}, expected at most {VERSION}; it was written by a later release"
            )
        value = _from_release_0_1(value)
    return msgspec.convert(value, kind)


_AGAIN = "remove its folder and those after it, and run `monitor`: they are made again from the log"


def read_report(path: Path, kind: type[R], remedy: str = _AGAIN) -> R | None:
    """The report in a file, None without a file. Raises WindowUnreadable, which says `remedy`."""
    try:
        return parse_report(read_json_object(path), kind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        message = f"{path}: cannot be read ({reason}), expected a report of this package; {remedy}"
        raise WindowUnreadable(message) from error


def write_report(path: Path, report: DataclassInstance) -> None:
    """Replace the report in a file. Raises OSError, and ValueError for NaN."""
    write_json(path, to_json(report))


# -- release 0.1 ---------------------------------------------------------------------------------------

_BY_NAME = frozenset({"missing", "refused", "left_out"})  # their keys are names of columns and causes
_INTERVALS = ("pr_auc", "roc_auc", "log_loss", "brier")
_RENAMED = {"measured": "realized", "as_it_was": "unweighted"}
_CHECKS = {"outside": "outside_range", "not in the reference": "not_in_reference"}


def _from_release_0_1(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_release_0_1(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    new: dict[str, Any] = {
        key: item if key in _BY_NAME and isinstance(item, Mapping) else _from_release_0_1(item)
        for key, item in value.items()
    }
    _rename_fields(new)
    _rename_checks(new)
    if "off" in new and "held" in new:
        new["error"], new["estimated"] = new.pop("off"), _interval(new, "estimated")
    elif "pr_auc_low" in new:
        new["metrics"] = _metrics(new)
        new.setdefault("message", "")
    return new


def _rename_fields(new: dict[str, Any]) -> None:
    if "words" in new:
        text = new.pop("words")
        new["messages" if isinstance(text, list) else "message"] = text
    for old, name in _RENAMED.items():
        if old in new:
            new[name] = new.pop(old)


def _rename_checks(new: dict[str, Any]) -> None:
    if "what" in new and "found" in new:
        check, _, cause = new.pop("what").partition(": ")
        new["check"] = _CHECKS.get(check, check.replace(" ", "_"))
        new["cause"], new["actual"] = cause, new.pop("found")
    if "drifts" in new:
        new["status"] = {True: "drift", False: "stable"}.get(new.pop("drifts"), "unknown")
        new["check"] = new.pop("test")


def _metrics(flat: Mapping[str, Any]) -> dict[str, Any]:
    intervals = {name: _interval(flat, name) for name in _INTERVALS if f"{name}_low" in flat}
    others = ("churned_share", "ece", "ece_by_chance", "calibration", "at_capacity")
    return {**intervals, **{name: flat[name] for name in others if name in flat}}


def _interval(flat: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"value": flat[name], "low": flat[f"{name}_low"], "high": flat[f"{name}_high"]}
