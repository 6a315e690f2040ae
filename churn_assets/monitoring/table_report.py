"""A given file against the champion's reference: are its data whole, and do its customers differ?

The file is read, repaired and checked as for scoring. What the checks of a window find is found here too, but for
traffic, which a file has none of; rejected rows count in its place.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from churn_assets.contract.limits import Monitoring
from churn_assets.data.validation.report import Outcome
from churn_assets.monitoring.data_quality import check_columns
from churn_assets.monitoring.drift.mmd import PERMUTATIONS
from churn_assets.monitoring.drift.report import ProfileDrift, compare_profile
from churn_assets.monitoring.faults.checks import check_together
from churn_assets.monitoring.findings import TRAFFIC, Finding, share_finding
from churn_assets.monitoring.profile import PREFIX, MonitoredModel, Profile, compute_profile
from churn_assets.prediction_log.schema import quoted

if TYPE_CHECKING:
    import datetime as dt

    from churn_assets.scoring.batch import ScoredBatch
    from churn_assets.scoring.scorer import Scorer

Verdict = Literal["ok", "broken", "drift", "insufficient", "unknown"]
EXIT_CODES: Mapping[Verdict, int] = {"ok": 0, "broken": 1, "drift": 3, "insufficient": 4, "unknown": 4}
_CUSTOMERS = "customers.parquet"


@dataclass(frozen=True)
class TableReport:
    """A file of `rows`, of which `customers` distinct ones could be scored, against the reference of `model_version`.

    `rejected` counts the rows that could not, by "column: reason"; a row may have several. `verdict` is
    'broken' with a finding that blocks, whatever drifts; 'unknown' without a reference to compare with.
    """

    file: str
    rows: int
    customers: int
    rejected: Mapping[str, int]
    model_version: str
    verdict: Verdict
    message: str
    findings: tuple[Finding, ...]
    drift: ProfileDrift


def report_table(
    scorer: Scorer,
    model: MonitoredModel,
    source: str | Path,
    as_of: dt.date | str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> TableReport:
    """Judge a file that `data.readers` reads; memory is bounded, what is between is on disk. `progress` is as of
    `score_file`. Raises what reading raises, and SettingsError for an invalid `as_of`."""
    from churn_assets.scoring.batch import score_file

    with tempfile.TemporaryDirectory() as folder:
        rows = _Rows(Path(folder) / _CUSTOMERS, scorer)
        with rows:
            summary = score_file(
                scorer, source, Path(folder) / "scores.parquet", as_of, each=rows.add, progress=progress
            )
        profile = rows.profile(model) if summary.rows_scored else None
    findings = list(_rejected(summary.rows, rows.rejected, model.limits))
    if profile is not None and model.reference is not None:
        of_columns = list(check_columns(profile, model.reference, model.contract, model.limits))
        of_columns = check_together(profile, model.reference, model.contract, model.limits, of_columns)
        findings = [*of_columns, *findings]
    customers = profile.rows if profile else 0
    drift = compare_profile(model, profile, customers, PERMUTATIONS)
    verdict, message = _conclude(model.limits, customers, findings, drift)
    return TableReport(
        file=summary.source,
        rows=summary.rows,
        customers=customers,
        rejected=dict(rows.rejected),
        model_version=model.version,
        verdict=verdict,
        message=message,
        findings=tuple(findings),
        drift=drift,
    )


def _rejected(rows: int, causes: Mapping[str, int], limits: Monitoring) -> Iterator[Finding]:
    """A finding for each cause for which rows were rejected; it blocks from `missing_rise` on."""
    for cause, count in sorted(causes.items(), key=lambda item: -item[1]):
        share = count / rows
        message = f"{count:,} of {rows:,} rows ({share:.1%}) are rejected for {cause}"
        finding = share_finding("refused", TRAFFIC, share, 0.0, message, blocks=share >= limits.missing_rise)
        yield replace(finding, cause=cause)


def _conclude(limits: Monitoring, customers: int, findings: list[Finding], drift: ProfileDrift) -> tuple[Verdict, str]:
    if blocking := [finding.message for finding in findings if finding.blocks]:
        return "broken", f"the data is broken: {'; '.join(blocking)}"
    if customers < limits.floor:
        return "insufficient", f"{customers:,} customers are too few, expected at least {limits.floor:,}"
    if drift.status == "unknown":
        return "unknown", drift.message
    if drift.status == "drift":
        return "drift", f"the data is whole, and the customers differ: {drift.message}"
    return "ok", f"the data is whole, and nothing drifts in {customers:,} customers"


class _Rows:
    """Scored customers in a Parquet file; as a context manager it is complete after the block."""

    def __init__(self, path: Path, scorer: Scorer) -> None:
        self._path, self._contract = path, scorer.contract
        self._threshold = scorer.thresholds.value
        self._rows = 0
        self.rejected = Counter[str]()
        self._writer: object = None

    def add(self, batch: ScoredBatch) -> None:
        """Append the customers of a batch with their scores, and count the rejected rows."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        for cause in batch.checked.report.causes:
            if cause.outcome is Outcome.REJECTED:
                self.rejected[f"{cause.column}: {cause.reason}"] += cause.rows
        customers, scored = batch.checked.customers, batch.scored
        table = customers.rename_columns([PREFIX + name for name in customers.column_names])
        place = np.arange(self._rows, self._rows + table.num_rows)
        own = {"who": scored["customer_id"].cast(pa.string()), "place": pa.array(place)}
        own |= {"score": scored["churn_probability"], "as_of": scored["as_of"]}
        for name, cells in own.items():
            table = table.append_column(name, cells)
        table = table.replace_schema_metadata(None)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        assert isinstance(self._writer, pq.ParquetWriter)
        self._writer.write_table(table)
        self._rows += table.num_rows

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        import pyarrow.parquet as pq

        if isinstance(self._writer, pq.ParquetWriter):
            self._writer.close()

    def profile(self, model: MonitoredModel) -> Profile:
        """The profile of the customers, of each the last row."""
        import duckdb

        file = quoted(str(self._path))
        last = f"SELECT max(place) FROM {file} GROUP BY who"
        decision = f"score >= {self._threshold!r} AS decision"
        relation = f"(SELECT *, {decision} FROM {file} WHERE place IN ({last}))"
        bounds = model.reference.bounds if model.reference else None
        with duckdb.connect() as connection:
            return compute_profile(connection, relation, model.contract, prefix=PREFIX, bounds=bounds)
