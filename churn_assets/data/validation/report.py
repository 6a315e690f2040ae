"""The result of a validation: figures, causes and repairs, with one JSON form."""

from __future__ import annotations

import datetime as dt
import json
from enum import StrEnum

import msgspec
import pyarrow as pa

from churn_assets.data.repairs.repairs import RepairReport
from churn_assets.errors import TooManyRejected

# In the metadata of the validated table, and so in the reference sample of a bundle: the texts of repairs and causes
# are part of a bundle's version, other words would be another version of the same model.
REPORT_KEY = b"churn_validation"


class Outcome(StrEnum):
    """What happens to a row that breaks the contract."""

    REJECTED = "rejected"
    COUNTED = "counted"


class Cause(msgspec.Struct, frozen=True, rename={"outcome": "what happens"}):
    """One reason in one column: `rows` that break it, and the first of them as an example.

    `column` is the rule's name for reason `rule:<name>`.
    """

    reason: str
    column: str
    rows: int
    outcome: Outcome
    example: str


class ValidationReport(msgspec.Struct, frozen=True, rename={"as_of_origin": "as_of_words"}):
    """The figures of one validation; shares are 0 to 1.

    `causes` are all reasons with their counts, most frequent first; a row may be counted under several. `as_of` is
    the snapshot; `as_of_origin` says where it comes from. `duplicate_ids` and `conflicting_ids` count customers, the
    latter among the former. `repairs` are those made before the validation. `max_rejected_share` is the contract's.
    """

    rows_in: int
    rows_valid: int
    rows_rejected: int
    rejected_share: float
    max_rejected_share: float
    as_of: dt.date
    as_of_origin: str
    duplicate_ids: int
    conflicting_ids: int
    causes: tuple[Cause, ...]
    repairs: tuple[RepairReport, ...] = ()

    @property
    def over_limit(self) -> bool:
        """Whether more rows are rejected than the contract's `quality.max_rejected_share`."""
        return self.rejected_share > self.max_rejected_share

    @property
    def rejecting(self) -> tuple[Cause, ...]:
        """Causes that reject rows, most frequent first."""
        return tuple(cause for cause in self.causes if cause.outcome is Outcome.REJECTED)

    def count(self, reason: str, column: str | None = None) -> int:
        """Rows under `reason`, in `column` or summed over columns."""
        return sum(c.rows for c in self.causes if c.reason == reason and column in (None, c.column))

    def stop_if_over_limit(self) -> None:
        """Raise TooManyRejected if `over_limit`; the message has the most frequent cause."""
        if not self.over_limit:
            return
        first = self.rejecting[0]
        repeats = first.reason in ("duplicate_id", "conflicting_label")
        remedy = "keep one row of each customer" if repeats else "repair the source or the contract"
        raise TooManyRejected(
            f"{self.rows_rejected:,} of {self.rows_in:,} rows ({self.rejected_share:.1%}) break the contract; "
            f"expected at most {self.max_rejected_share:.1%}; the most frequent cause is {first.reason} in "
            f"'{first.column}' ({first.rows:,} rows, {first.example}); {remedy}"
        )

    def summary(self) -> str:
        """One line for logs."""
        return (
            f"{self.rows_in:,} rows in, {self.rows_valid:,} valid, {self.rows_rejected:,} rejected "
            f"({self.rejected_share:.2%}); as of {self.as_of.isoformat()}"
        )


def with_report(customers: pa.Table, report: ValidationReport) -> pa.Table:
    """`customers` with the report in its metadata, without the details of repairs."""
    repairs = tuple(msgspec.structs.replace(repair, by_column={}, details={}) for repair in report.repairs)
    stored = json.dumps(msgspec.to_builtins(msgspec.structs.replace(report, repairs=repairs))).encode()
    return customers.replace_schema_metadata({**(customers.schema.metadata or {}), REPORT_KEY: stored})


def report_of(schema: pa.Schema) -> ValidationReport | None:
    """The report that a validated table carries in its metadata; None if it has none."""
    stored = (schema.metadata or {}).get(REPORT_KEY)
    return msgspec.json.decode(stored, type=ValidationReport) if stored else None
