"""What a batch is written to: table files that appear complete or not at all, and the prediction log."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from churn_assets.data.validation.validate import Validated
from churn_assets.errors import SettingsError
from churn_assets.prediction_log.records import Prediction, encode_line
from churn_assets.prediction_log.segment import Segment
from churn_assets.scoring.scorer import Scorer
from churn_assets.storage.files import PendingFile

BATCH = "batch"  # arm and policy of a prediction that no request asked for
SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True)
class ScoredBatch:
    """One batch: `scored` has a row for each of `checked.customers`, `repairs` count cells."""

    scored: pa.Table
    checked: Validated
    repairs: dict[str, int]


class TableFile:
    """A Parquet or CSV file (by suffix) that grows under a temporary name.

    `publish` renames it after a sync; leaving the context without it removes what was written.
    Raises SettingsError for another suffix.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise SettingsError(
                f"{path.name} ends in '{path.suffix}', expected one of: {', '.join(SUFFIXES)}; rename it"
            )
        self.path = path
        self.rows = 0
        self._pending: PendingFile | None = None
        self._writer: Any = None

    def write(self, table: pa.Table) -> None:
        """Append a table; the first one sets the schema."""
        if self._writer is None:
            try:
                self._pending = PendingFile(self.path)
                self._writer = self._open(self._pending.temporary, table.schema)
            except OSError as error:
                raise SettingsError(
                    f"{self.path} cannot be written ({error.strerror or error}); name another output"
                ) from error
        self._writer.write_table(table)
        self.rows += table.num_rows

    def publish(self) -> Path | None:
        """Close the file and give it its name; None, and no file of that name, if nothing was written."""
        if self._pending is None:
            self.path.unlink(missing_ok=True)  # a file of an earlier run is about other rows
            return None
        self._writer.close()
        self._pending.commit()
        self._pending = None
        return self.path

    def _open(self, path: Path, schema: pa.Schema) -> Any:
        if self.path.suffix.lower() == ".csv":
            from pyarrow import csv

            return csv.CSVWriter(path, schema)
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> TableFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pending is None:
            return
        if self._writer is not None:
            self._writer.close()
        self._pending.discard()


class BatchLog:
    """Appends each scored batch to the prediction log, for `churn score --log`. Raises LogUnavailable."""

    def __init__(self, scorer: Scorer, segment: Segment) -> None:
        self._scorer, self._segment = scorer, segment
        self._run = os.urandom(8).hex()
        self.rows = 0

    def __call__(self, batch: ScoredBatch) -> None:
        """Log a batch; its customers are as they were after repair."""
        contract, threshold = self._scorer.contract, self._scorer.thresholds.value
        key, now = contract.key.name, dt.datetime.now(dt.UTC).isoformat()
        lines = []
        answers = batch.scored.select(["customer_id", "churn_probability", "risk_band", "as_of"]).to_pylist()
        for customer, answer in zip(batch.checked.customers.to_pylist(), answers, strict=True):
            row = Prediction(
                prediction_id=os.urandom(12).hex(),
                request_id=self._run,
                customer_id=answer["customer_id"],
                as_of=answer["as_of"].isoformat(),
                scored_at=now,
                score=answer["churn_probability"],
                margin=None,
                decision=answer["churn_probability"] >= threshold,
                threshold=threshold,
                risk_band=answer["risk_band"],
                model_version=self._scorer.version,
                contract=contract.name,
                fingerprint=contract.fingerprint,
                arm=BATCH,
                policy=BATCH,
                status="ok",
                latency_us=None,
                warnings=[],
                features={name: cell for name, cell in customer.items() if name != key},
            )
            lines.append(encode_line(row))
        if lines:
            self._segment.append(b"".join(lines))
        self.rows += len(lines)

    def close(self) -> None:
        """Hand the segment over."""
        self._segment.hand_over()
