"""Every error that this package raises deliberately.

ChurnError: SettingsError, ContractError, SourceError, DataError, ScenarioError, RowsRejected, TrainingError,
    BundleError, ReleaseError, LogError, AlertsUnreadable, KeysUnreadable, KeyRefused, AuditUnwritable,
    ContributionsWrong, TrackingUnavailable, DatabaseUnavailable, CopyRefused, EventsError
EventsError: BrokerUnavailable, BrokerRefused, RelayFenced
ContractError: ExpressionError
SourceError: SourceNotFound, SourceUnreadable, SheetNotFound, ColumnMissing, DuplicateColumn, EmptySource
DataError: LabelError, TooFewRows, ColumnAllNull, TooManyRejected, RepeatedCustomers, DataBroken,
    DraftError, TableNotKept, KeptTableCorrupt
RowsRejected: ContractConflict
BundleError: BundleCorrupt, BundleMismatch
ReleaseError: NoChampion, PointerCorrupt, PolicyCorrupt, GateRefused, AssetMissing, AssetStale, HoldoutCorrupt,
    HomeBusy, LedgerCorrupt, LedgerUnavailable, TransitionRefused, RollbackRefused, BentoNotBuilt
LogUnavailable: RowsUncertain, SegmentLost
LogError: LogUnavailable, LogBusy, LogUnreadable, NothingIngested, WarehouseLocked, WarehouseCorrupt, QueryRefused,
    SourceRefused, AcceptanceRefused, WindowUnreadable

A message is one line with three parts: what is wrong; what was expected; what to do. docs/errors.md has the remedy
of each class.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

# For JSON Schema too: control characters, and those that hide or reorder text.
CONTROLS = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
_CONTROL = re.compile(f"[{CONTROLS}]")
_USER_INFO = re.compile(r"(?<=://)(?!/)(?:[^\s'\"]{1,8192}|[^\s/@]{1,8192})@")


def without_user_info(text: str, url: str = "") -> str:
    """`text` with `…` for user and password of each URL in it, and of `url`: other programs quote them alone."""
    text, info = _USER_INFO.sub("…@", text), url.partition("://")[2].rpartition("@")[0]
    if not info or info.startswith("/"):  # none, or the path of a file
        return text
    parts = {part for part in info.split(":", 1) if part}
    secrets = sorted(parts | set(map(unquote, parts)), key=len, reverse=True)
    return re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, secrets))})(?!\w)", "…", text)


class ChurnError(Exception):
    """Base of every deliberate error; its text can be shown to a user: URLs in it lose their user info."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_user_info(arg) if isinstance(arg, str) else arg for arg in args))


class SettingsError(ChurnError):
    """A setting has a value that cannot be used; the message has the variable and the allowed values."""


class ContractError(ChurnError):
    """The contract file is wrong; the message has file, table, key, value and allowed values."""


class ExpressionError(ContractError):
    """An expression of the contract is wrong; the message has file, feature or rule, and position."""


class SourceError(ChurnError):
    """The customer table cannot be read."""


class SourceNotFound(SourceError):
    """There is no file or table at this place; the message lists the files or tables that exist."""


class SourceUnreadable(SourceError):
    """The file exists and cannot be read in the format of its name or of `[source] format`."""


class SheetNotFound(SourceError):
    """The workbook lacks the sheet of `[source] sheet`, or no sheet has the columns; the message lists its sheets."""


class ColumnMissing(SourceError):
    """The table lacks columns of the contract; the message lists its columns and similar names."""


class DuplicateColumn(SourceError):
    """The table has two columns of one name."""


class EmptySource(SourceError):
    """The table has no rows, or not even a header."""


class DataError(ChurnError):
    """The table was read and cannot be used for this purpose."""


class LabelError(DataError):
    """The label column does not have both classes, churned and kept; the message has the values in it."""


class TooFewRows(DataError):
    """Fewer valid rows than the contract's `quality.min_rows`."""


class ColumnAllNull(DataError):
    """A column that the model needs is empty in every row."""


class TooManyRejected(DataError):
    """The share of rejected rows is over the contract's `quality.max_rejected_share`."""


class RepeatedCustomers(DataError):
    """Customers have several rows in a table whose ids are row numbers; the message has the column of the customers."""


class DataBroken(DataError):
    """The newest decision says that the data of the newest window is broken; no retraining uses the log."""


class ScenarioError(ChurnError):
    """An option of the generator has a value that cannot be used."""


class DraftError(DataError):
    """No contract can be drafted from this table, or not with the columns and values given."""


class TableNotKept(DataError):
    """There is no kept table of this version, several begin so, or a table cannot be kept."""


class KeptTableCorrupt(DataError):
    """A file of the kept tables is missing or damaged."""


_MAX_LENGTH = 500  # characters of the first violation in the message


@dataclass(frozen=True)
class Violation:
    """One cell that breaks the contract: `row` is 0-based, `found` and `expected` are texts, fields of the API."""

    row: int
    column: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"row {self.row}, column '{self.column}': found {self.found}, expected {self.expected}"


def describe_value(value: object) -> str:
    """A value in an error message: short, on one line, with null, true and false as in JSON and TOML."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    try:
        text = repr(value[:100] if isinstance(value, str) else value)
    except ValueError:  # an integer of thousands of digits
        text = "a very long number"
    return text if len(text) <= 60 else text[:57] + "..."


def has_controls(text: str) -> bool:
    """Whether a text has characters that are not printed but obeyed, or hide others."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def one_line(value: object, length: int = 200) -> str:
    """The text of an exception or another value on one line, cut to `length` characters."""
    return without_user_info(" ".join(str(value).split()))[:length]


def in_rows(count: int) -> str:
    """A number of rows in a message.

    >>> in_rows(1), in_rows(1500)
    ('1 row', '1,500 rows')
    """
    return f"{count:,} row{'s' * (count != 1)}"


def printable(text: str) -> str:
    """`text` for a terminal, which would obey its control characters: they become JSON escapes."""
    return text if text.isprintable() else _CONTROL.sub(lambda match: json.dumps(match[0])[1:-1], text)


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A hint for the middle of a message: the most similar of `allowed`, or '' if none is similar."""
    similar = difflib.get_close_matches(name, list(allowed), 1)
    return f"did you mean '{similar[0]}'? " if similar else ""


class RowsRejected(ChurnError):
    """Rows given to the scorer break the contract; `violations` has all of them."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        more = len(self.violations) - 1
        tail = f" (and {more} more)" if more else ""
        first = " ".join(str(self.violations[0]).split())  # a client chooses the names of fields
        super().__init__(f"{first[:_MAX_LENGTH]}{tail}")

    def __reduce__(self) -> tuple[type[RowsRejected], tuple[Sequence[Violation]]]:
        return type(self), (self.violations,)


class ContractConflict(RowsRejected):
    """Rows whose values are right one by one, and conflict with each other, with `as_of` or with the tensors of the
    model: what no JSON Schema of a row says."""


class TrainingError(ChurnError):
    """A candidate cannot be fitted on this table; it needs rows of both classes."""


class BundleError(ChurnError):
    """A bundle cannot be used."""


class BundleCorrupt(BundleError):
    """A file of the bundle is missing, added or changed, or the bundle does not reproduce its golden rows."""


class BundleMismatch(BundleError):
    """The bundle belongs to another contract."""


class ContributionsWrong(ChurnError):
    """The contributions of a score do not add up to its log-odds, so they are not given."""


class ReleaseError(ChurnError):
    """The state of releases does not allow the request."""


class NoChampion(ReleaseError):
    """No model has been promoted in this home."""


class PointerCorrupt(ReleaseError):
    """The champion pointer exists and cannot be read."""


class PolicyCorrupt(ReleaseError):
    """The file of the routing policy is damaged or contradicts itself."""


class GateRefused(ReleaseError):
    """The model may not be registered; the message has the limit that it misses."""


class AssetMissing(ReleaseError):
    """An asset that is needed has not been made in this home."""


class AssetStale(ReleaseError):
    """An asset belongs to another contract, or to other data than the assets it is used with."""


class HoldoutCorrupt(ReleaseError):
    """The frozen holdout cannot be read, or has other rows than were frozen."""


class HomeBusy(ReleaseError):
    """Another process is at work in this home: two runs would overwrite each other's assets, two UIs two daemons."""


class LedgerCorrupt(ReleaseError):
    """The ledger is damaged, or belongs to another program or a newer version."""


class LedgerUnavailable(ReleaseError):
    """The ledger cannot be read or written at the moment."""


class TransitionRefused(ReleaseError):
    """A request, challenger or champion cannot change to this state; the message has its present state."""


class RollbackRefused(ReleaseError):
    """Nothing to go back to: the version never was champion or is it now, its bundle is missing, its files have
    changed, or somebody has just gone back."""


class BentoNotBuilt(ReleaseError):
    """BentoML could not build the service; the message has its output."""


class LogError(ChurnError):
    """The prediction log cannot be used."""


class LogUnavailable(LogError):
    """A row could not be written to the disk; it is not in the log."""


class RowsUncertain(LogUnavailable):
    """A row could not be written, nor what there is of it be cut off: whether it is in the log is not known."""


class SegmentLost(LogUnavailable):
    """The file that a worker wrote to is not in the log any more, and with it `rows` that were acknowledged. `segment`
    is its name, "" if none was open."""

    def __init__(self, message: str, segment: str = "", rows: int = 0) -> None:
        super().__init__(message)
        self.segment, self.rows = segment, rows


class LogBusy(LogError):
    """More rows wait to be written than `CHURN_LOG_QUEUE` allows."""


class LogUnreadable(LogError):
    """A segment, an archive or a file of ids cannot be read."""


class NothingIngested(LogError):
    """There is no published copy of the warehouse to read."""


class WarehouseLocked(LogError):
    """Another process has the warehouse open; DuckDB allows one at a time."""


class WarehouseCorrupt(LogError):
    """The warehouse cannot be read; segments and archives have all of its rows."""


class QueryRefused(LogError):
    """DuckDB rejects the SQL of a query; the message has its reason."""


class EventsError(ChurnError):
    """Events cannot be sent or received."""


class BrokerUnavailable(EventsError):
    """The broker does not answer, or could not take a transaction; it is asked again."""


class BrokerRefused(EventsError):
    """The broker, or the client, refuses what the settings say: a property, a user, a topic. To ask again is no use."""


class RelayFenced(EventsError):
    """Another relay of the same name has taken over, again and again."""


class AuditUnwritable(ChurnError):
    """The audit log of a home cannot be written, so the call that it would record was not made."""


class SourceRefused(LogError):
    """A decision on the feedback of a source cannot be taken as it was asked for."""


class AcceptanceRefused(LogError):
    """A window cannot be accepted as it was asked for."""


class WindowUnreadable(LogError):
    """The boundaries of a window, or a report on it, differ from what was written."""


class AlertsUnreadable(ChurnError):
    """The database of this home's alerts cannot be read."""


class KeysUnreadable(ChurnError):
    """The database of this home's API keys cannot be read or written."""


class KeyRefused(ChurnError):
    """An API key cannot be made with this name, scope or expiry, or there is none of this id to revoke."""


class TrackingUnavailable(ChurnError):
    """The MLflow server does not answer."""


class DatabaseUnavailable(ChurnError):
    """The PostgreSQL database of CHURN_DATABASE_URL cannot be used at the moment."""


class CopyRefused(ChurnError):
    """A home cannot be copied to the database: that has other rows already, or they differ after the copy."""
