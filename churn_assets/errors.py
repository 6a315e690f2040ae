"""Every error this package raises on purpose.

ChurnError
├── SettingsError            an environment variable says something impossible
├── ContractError            the contract file is wrong: file, table, key, found, allowed
│   └── ExpressionError      a feature or rule does not parse, type-check or resolve
├── SourceError              the table cannot be read
│   ├── SourceNotFound       there is no such file or table
│   ├── SourceUnreadable     it exists, but is not what its name says
│   ├── SheetNotFound        the workbook has no such sheet
│   ├── ColumnMissing        the contract wants a column that the table lacks
│   ├── DuplicateColumn      the table names a column twice
│   └── EmptySource          it has no rows
├── DataError                the table was read and cannot be used
│   ├── LabelError           the label column has no two classes
│   ├── TooFewRows           fewer rows than the contract's minimum
│   ├── ColumnAllNull        a column that must speak says nothing
│   ├── TooManyRejected      more rows break the contract than it allows
│   ├── DataBroken           the newest window's data is broken: nothing is learnt from the log
│   └── DraftError           no contract can be drafted from this table, or not as asked
├── ScenarioError            a knob of the generator asks for what cannot be
├── RowsRejected             rows handed to the scorer break the contract (row, column, found, expected)
├── TrainingError            a candidate cannot be fitted on this table
├── BundleError
│   ├── BundleCorrupt        a file of the bundle is not the one that was written
│   └── BundleMismatch       the bundle was made under another contract
├── ReleaseError
│   ├── NoChampion           nothing has been promoted yet
│   ├── PointerCorrupt       the champion pointer cannot be read
│   ├── GateRefused          the model may not be registered, and why
│   ├── AssetMissing         an asset that is needed was never made in this home
│   ├── AssetStale           it was made under another contract, or of other data than what goes with it
│   ├── HoldoutCorrupt       the frozen customers are not the ones that were frozen
│   ├── HomeBusy             another run is at work in this home
│   ├── LedgerCorrupt        the ledger of decisions and moves is damaged or no ledger
│   ├── LedgerUnavailable    the ledger is locked, or cannot be written now
│   ├── TransitionRefused    a request, challenger or champion cannot become what was asked
│   ├── RollbackRefused      there is no sound bundle to go back to
│   └── BentoNotBuilt        BentoML could not pack the service
├── LogError
│   ├── LogUnavailable       the prediction log cannot be written now
│   ├── LogBusy              too many rows wait for the disk
│   ├── LogUnreadable        the prediction log cannot be read
│   ├── NothingIngested      the warehouse of the log has not been made yet
│   ├── WarehouseLocked      another process has the warehouse open
│   ├── WarehouseCorrupt     the warehouse is no DuckDB file, or a damaged one
│   ├── QueryRefused         DuckDB does not take the question
│   └── WindowUnreadable     a report on a window of the log cannot be read
├── AlertsUnreadable         the file of alerts is no such file
└── TrackingUnavailable      MLflow does not answer

Each message is one line: what was found, what was expected, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ChurnError(Exception):
    """Base of every deliberate error; its text is fit to be shown to a user."""


class SettingsError(ChurnError):
    """A setting has a value that cannot be used."""


class ContractError(ChurnError):
    """The contract file is wrong; names file, table, key, what was found and what is allowed."""


class ExpressionError(ContractError):
    """An expression in the contract is wrong; names file, feature and position."""


class SourceError(ChurnError):
    """The customer table cannot be read."""


class SourceNotFound(SourceError):
    """No file or table at the place named."""


class SourceUnreadable(SourceError):
    """The file exists and cannot be read as the format it claims."""


class SheetNotFound(SourceError):
    """The workbook has no sheet of the contract's name."""


class ColumnMissing(SourceError):
    """The table lacks columns that the contract names."""


class DuplicateColumn(SourceError):
    """The table has two columns of one name."""


class EmptySource(SourceError):
    """The table has a header at most."""


class DataError(ChurnError):
    """The table was read, and cannot be used for what was asked."""


class LabelError(DataError):
    """The label does not separate churned from kept customers."""


class TooFewRows(DataError):
    """Fewer valid rows than the contract's `quality.min_rows`."""


class ColumnAllNull(DataError):
    """A column the model needs holds nothing but missing values."""


class TooManyRejected(DataError):
    """The share of rejected rows is over the contract's `quality.max_rejected_share`."""


class DataBroken(DataError):
    """The newest decision has found the newest window's data broken: no retraining learns from the log."""


class ScenarioError(ChurnError):
    """A knob of the generator asks for what cannot be."""


class DraftError(DataError):
    """No contract can be drafted from this table, or not with the columns and values asked for."""


_LONGEST = 500  # characters told of the first violation


@dataclass(frozen=True)
class Violation:
    """One cell that breaks the contract: `row` is 0-based, `found` and `expected` are words."""

    row: int
    column: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"row {self.row}, column '{self.column}': found {self.found}, expected {self.expected}"


def shown(value: object) -> str:
    """A value as an error tells it: short, on one line, with the words that JSON and TOML have."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a very long number"
    return text if len(text) <= 60 else text[:57] + "..."


class RowsRejected(ChurnError):
    """Rows handed to the scorer break the contract; `violations` lists every one of them."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        more = len(self.violations) - 1
        tail = f" (and {more} more)" if more else ""
        first = " ".join(str(self.violations[0]).split())  # a client may name a field as it likes
        super().__init__(f"{first[:_LONGEST]}{tail}")

    def __reduce__(self) -> tuple[type[RowsRejected], tuple[Sequence[Violation]]]:
        return type(self), (self.violations,)


class TrainingError(ChurnError):
    """A candidate cannot be fitted on this table."""


class BundleError(ChurnError):
    """A bundle cannot be used."""


class BundleCorrupt(BundleError):
    """A file of the bundle is missing, added, changed, or does not reproduce its golden rows."""


class BundleMismatch(BundleError):
    """The bundle belongs to another contract."""


class ReleaseError(ChurnError):
    """The state of releases does not allow what was asked."""


class NoChampion(ReleaseError):
    """No model has been promoted in this home."""


class PointerCorrupt(ReleaseError):
    """The champion pointer exists and cannot be read."""


class GateRefused(ReleaseError):
    """The model may not be registered; the message says which limit it misses."""


class AssetMissing(ReleaseError):
    """An asset that is needed has not been made in this home."""


class AssetStale(ReleaseError):
    """An asset was made under another contract, or of other data than the assets it is used with."""


class HoldoutCorrupt(ReleaseError):
    """The frozen holdout cannot be read, or holds other rows than were frozen."""


class HomeBusy(ReleaseError):
    """Another run is at work in this home; two at once would take each other's assets."""


class LedgerCorrupt(ReleaseError):
    """The ledger exists and is damaged, of another program, or of a newer version."""


class LedgerUnavailable(ReleaseError):
    """The ledger cannot be read or written now."""


class TransitionRefused(ReleaseError):
    """A request, a challenger or the champion cannot become what was asked; the message says from where."""


class RollbackRefused(ReleaseError):
    """There is nothing to go back to: no champion before, the bundle is gone, or it is not what it was."""


class BentoNotBuilt(ReleaseError):
    """BentoML could not pack the service."""


class LogError(ChurnError):
    """The prediction log does not do what was asked."""


class LogUnavailable(LogError):
    """A row could not be put on disk; it is not in the log."""


class LogBusy(LogError):
    """More rows wait for the disk than may wait."""


class LogUnreadable(LogError):
    """A segment or a file of ids cannot be read."""


class NothingIngested(LogError):
    """There is no published copy of the warehouse to read."""


class WarehouseLocked(LogError):
    """Another process has the warehouse open; DuckDB lets one in at a time."""


class WarehouseCorrupt(LogError):
    """The warehouse cannot be read; segments and archives hold all of it."""


class QueryRefused(LogError):
    """The SQL of a question is wrong."""


class WindowUnreadable(LogError):
    """The boundaries of a window, or a report on it, are not as they were written."""


class AlertsUnreadable(ChurnError):
    """The file that remembers this home's alerts cannot be read."""


class TrackingUnavailable(ChurnError):
    """The MLflow server does not answer."""
