"""What validation found, in figures and in words."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from churn_assets.contract.model import Severity
from churn_assets.errors import TooManyRejected


@dataclass(frozen=True)
class Cause:
    """One reason in one column: `rows` that broke it, and the first of them as an example.

    `column` is the rule's name for reason `rule:<name>`.
    """

    reason: str
    column: str
    rows: int
    example: str
    severity: Severity = Severity.REJECT


@dataclass(frozen=True)
class ValidationReport:
    """What became of a table's rows.

    `causes` are all reasons with their counts, most frequent first; a row may be counted under
    several. `as_of` is the snapshot; `as_of_words` says where it comes from. `churn_rate_share` is
    of the valid rows, None without a label. `duplicate_ids` and `conflicting_ids` count customers,
    the latter among the former.
    """

    rows_in: int
    rows_valid: int
    causes: tuple[Cause, ...]
    as_of: dt.date
    as_of_words: str
    churn_rate_share: float | None
    duplicate_ids: int
    conflicting_ids: int
    max_rejected_share: float
    source: str = ""

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
        """Whether more is rejected than the contract's `quality.max_rejected_share`."""
        return self.rejected_share > self.max_rejected_share

    @property
    def warnings(self) -> tuple[Cause, ...]:
        """Causes that are counted and reject nothing."""
        return tuple(cause for cause in self.causes if cause.severity is Severity.WARN)

    def count(self, reason: str, column: str | None = None) -> int:
        """Rows under `reason`, in `column` or summed over columns."""
        return sum(c.rows for c in self.causes if c.reason == reason and column in (None, c.column))

    def stop_if_over_limit(self) -> None:
        """Raise TooManyRejected if `over_limit`, naming the chief cause."""
        if not self.over_limit:
            return
        rejecting = [cause for cause in self.causes if cause.severity is Severity.REJECT]
        chief = rejecting[0]
        raise TooManyRejected(
            f"{self.rows_rejected:,} of {self.rows_in:,} rows ({self.rejected_share:.1%}) break the contract, "
            f"allowed {self.max_rejected_share:.1%}; chiefly {chief.reason} in '{chief.column}' ({chief.rows:,} rows, "
            f"{chief.example}); repair the source or the contract"
        )

    def causes_markdown(self) -> str:
        """The causes as a Markdown table, with an example each."""
        lines = ["| reason | column | rows | share | what happens | example |", "|---|---|---:|---:|---|---|"]
        for cause in self.causes:
            fate = "rejected" if cause.severity is Severity.REJECT else "counted"
            example = cause.example.replace("|", "\\|")
            share = cause.rows / self.rows_in
            lines.append(f"| {cause.reason} | {cause.column} | {cause.rows:,} | {share:.2%} | {fate} | {example} |")
        return "\n".join(lines) if self.causes else "No row breaks the contract."

    def summary(self) -> str:
        """One line for logs."""
        return (
            f"{self.rows_in:,} rows in, {self.rows_valid:,} valid, {self.rows_rejected:,} rejected "
            f"({self.rejected_share:.2%}); as of {self.as_of.isoformat()}"
        )
