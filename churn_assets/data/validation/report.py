"""The result of a validation: figures, causes and repairs, as values, as JSON and as text."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from churn_assets.contract.model import Severity
from churn_assets.data.repairs.repairs import RepairReport
from churn_assets.errors import TooManyRejected

# In the metadata of the validated table, and so in the reference sample of a bundle: the texts of repairs and causes
# are part of a bundle's version, other words would be another version of the same model.
REPORT_KEY = b"churn_validation"


@dataclass(frozen=True)
class Cause:
    """One reason in one column: `rows` that break it, and the first of them as an example.

    `column` is the rule's name for reason `rule:<name>`.
    """

    reason: str
    column: str
    rows: int
    example: str
    severity: Severity = Severity.REJECT

    @property
    def consequence(self) -> str:
        """What happens to such a row: 'rejected' or 'counted'."""
        return "rejected" if self.severity is Severity.REJECT else "counted"

    def to_json(self) -> dict[str, str | int]:
        """The cause as JSON values; also a row of a table for people."""
        return {
            "reason": self.reason,
            "column": self.column,
            "rows": self.rows,
            "what happens": self.consequence,
            "example": self.example,
        }


@dataclass(frozen=True)
class ValidationReport:
    """The figures of one validation.

    `causes` are all reasons with their counts, most frequent first; a row may be counted under several. `as_of` is
    the snapshot; `as_of_origin` says where it comes from. `churn_rate_share` (0 to 1) is of the valid rows, None
    without a label. `duplicate_ids` and `conflicting_ids` count customers, the latter among the former. `repairs` are
    those made before the validation.
    """

    rows_in: int
    rows_valid: int
    causes: tuple[Cause, ...]
    as_of: dt.date
    as_of_origin: str
    churn_rate_share: float | None
    duplicate_ids: int
    conflicting_ids: int
    max_rejected_share: float
    source: str = ""
    repairs: tuple[RepairReport, ...] = ()

    @property
    def rows_rejected(self) -> int:
        """Rows that break the contract."""
        return self.rows_in - self.rows_valid

    @property
    def rejected_share(self) -> float:
        """Rejected rows as a share of all, 0 to 1."""
        return self.rows_rejected / self.rows_in if self.rows_in else 0.0

    @property
    def over_limit(self) -> bool:
        """Whether more rows are rejected than the contract's `quality.max_rejected_share`."""
        return self.rejected_share > self.max_rejected_share

    @property
    def rejecting(self) -> tuple[Cause, ...]:
        """Causes that reject rows, most frequent first."""
        return tuple(cause for cause in self.causes if cause.severity is Severity.REJECT)

    @property
    def warnings(self) -> tuple[Cause, ...]:
        """Causes that are counted and reject nothing."""
        return tuple(cause for cause in self.causes if cause.severity is Severity.WARN)

    def count(self, reason: str, column: str | None = None) -> int:
        """Rows under `reason`, in `column` or summed over columns."""
        return sum(c.rows for c in self.causes if c.reason == reason and column in (None, c.column))

    def stop_if_over_limit(self) -> None:
        """Raise TooManyRejected if `over_limit`; the message has the most frequent cause."""
        if not self.over_limit:
            return
        first = self.rejecting[0]
        raise TooManyRejected(
            f"{self.rows_rejected:,} of {self.rows_in:,} rows ({self.rejected_share:.1%}) break the contract; "
            f"expected at most {self.max_rejected_share:.1%}; the most frequent cause is {first.reason} in "
            f"'{first.column}' ({first.rows:,} rows, {first.example}); repair the source or the contract"
        )

    def causes_markdown(self) -> str:
        """The causes as a Markdown table, with an example each."""
        lines = ["| reason | column | rows | share | what happens | example |", "|---|---|---:|---:|---|---|"]
        for cause in self.causes:
            example = cause.example.replace("|", "\\|")
            share = cause.rows / self.rows_in
            lines.append(
                f"| {cause.reason} | {cause.column} | {cause.rows:,} | {share:.2%} | {cause.consequence} | {example} |"
            )
        return "\n".join(lines) if self.causes else "No row breaks the contract."

    def summary(self) -> str:
        """One line for logs."""
        return (
            f"{self.rows_in:,} rows in, {self.rows_valid:,} valid, {self.rows_rejected:,} rejected "
            f"({self.rejected_share:.2%}); as of {self.as_of.isoformat()}"
        )

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, as it is kept in the metadata of the validated table and in reports."""
        return {
            "rows_in": self.rows_in,
            "rows_valid": self.rows_valid,
            "rows_rejected": self.rows_rejected,
            "rejected_share": self.rejected_share,
            "max_rejected_share": self.max_rejected_share,
            "as_of": self.as_of.isoformat(),
            "as_of_words": self.as_of_origin,
            "duplicate_ids": self.duplicate_ids,
            "conflicting_ids": self.conflicting_ids,
            "causes": [cause.to_json() for cause in self.causes],
            "repairs": [repair.to_json() for repair in self.repairs],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ValidationReport:
        """The report that `to_json` wrote. Churned share, source and the details of repairs are not kept in it."""
        return cls(
            rows_in=value["rows_in"],
            rows_valid=value["rows_valid"],
            causes=tuple(
                Cause(
                    cause["reason"],
                    cause["column"],
                    cause["rows"],
                    cause["example"],
                    Severity.REJECT if cause["what happens"] == "rejected" else Severity.WARN,
                )
                for cause in value["causes"]
            ),
            as_of=dt.date.fromisoformat(value["as_of"]),
            as_of_origin=value["as_of_words"],
            churn_rate_share=None,
            duplicate_ids=value["duplicate_ids"],
            conflicting_ids=value["conflicting_ids"],
            max_rejected_share=value["max_rejected_share"],
            repairs=tuple(RepairReport(r["repair"], r["rows"], r["cells"], {}, r["words"]) for r in value["repairs"]),
        )


def with_report(customers: pa.Table, report: ValidationReport) -> pa.Table:
    """`customers` with the report in its metadata."""
    stored = json.dumps(report.to_json()).encode()
    return customers.replace_schema_metadata({**(customers.schema.metadata or {}), REPORT_KEY: stored})


def report_of(schema: pa.Schema) -> ValidationReport | None:
    """The report that a validated table carries in its metadata; None if it has none."""
    stored = (schema.metadata or {}).get(REPORT_KEY)
    return ValidationReport.from_json(json.loads(stored)) if stored else None
