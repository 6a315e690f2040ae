"""Scoring a file of any size: every row is scored or rejected with its reasons, in bounded memory.

Two passes where they are needed. The first looks at the dates only: the newest of them is the snapshot
when the contract says `as_of = "latest"`, and a block of rows in Excel's other date system is only seen
in the whole file (8 bytes a date and row are kept for that). The second repairs, checks, scores and
writes a batch at a time.
"""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Contract, Severity
from churn_assets.data.date_system import SHIFT_DAYS, ShiftedBlock, find_shifted_block
from churn_assets.data.location import locate
from churn_assets.data.parse import parse_column
from churn_assets.data.read import iter_batches, read_table
from churn_assets.data.repair import REPAIRS, undo_shift
from churn_assets.data.validate import ROW, Validated, validate_features_only
from churn_assets.errors import SettingsError
from churn_assets.features.compile import as_of_days
from churn_assets.scoring.callist import call_list, scored_table
from churn_assets.scoring.outputs import TableFile
from churn_assets.scoring.scorer import BAND_NAMES, Scorer

BATCH_ROWS = 65_536
CALLS_WITHOUT_CAPACITY = 1000

Progress = Callable[[int, int | None], None]
_Shift = "excel_1904"
_In, _Out = TypeVar("_In"), TypeVar("_Out")


@dataclass(frozen=True)
class BatchSummary:
    """What became of a file's rows, and where it is written.

    `rejected` and `calls` are None if there are none. `as_of` is None where each row has its own.
    `reasons`, `warnings` and `repairs` count rows, rows and cells; `bands` counts scored customers.
    """

    source: str
    out: Path
    rejected: Path | None
    calls: Path | None
    rows: int
    rows_scored: int
    rows_rejected: int
    as_of: dt.date | None
    as_of_words: str
    reasons: dict[str, int]
    warnings: dict[str, int]
    repairs: dict[str, int]
    bands: dict[str, int]


def score_file(
    scorer: Scorer,
    source: str | Path,
    out: Path,
    as_of: dt.date | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
    threads: int | None = None,
    progress: Progress | None = None,
) -> BatchSummary:
    """Score every row of `source` (anything `data.read` reads) into `out` (.parquet or .csv).

    `out` has the valid rows in the file's order with their source row; beside it are
    `<name>.rejected.parquet` (raw cells and reasons) and `<name>.calls<suffix>` (the best contacts, as
    many as the contract's capacity). All appear when everything is written, `out` last. An `as_of` given
    here wins over the contract's. `progress(rows done, rows in all or None)` is called after each batch.
    Raises what reading raises, and SettingsError for an `out` that cannot be.
    """
    job = _Job(scorer, source, batch_rows, as_of)
    if isinstance(source, Path) or "://" not in str(source):
        _check_not_source(Path(source), out)
    beside = (out.with_name(f"{out.stem}.rejected.parquet"), out.with_name(f"{out.stem}.calls{out.suffix}"))
    tally = _Tally(scorer)
    with TableFile(out) as scored, TableFile(beside[0]) as rejected, TableFile(beside[1]) as calls:
        with ThreadPoolExecutor(threads or _cpus()) as pool:
            for part in _in_order(pool, job.score, job.parts(), ahead=2 * (threads or _cpus())):
                scored.write(part.scored)
                if part.checked.rejected.num_rows:
                    rejected.write(part.checked.rejected)
                tally.add(part)
                if progress is not None:
                    progress(tally.rows, job.total)
        if tally.calls.num_rows:
            calls.write(tally.calls)
        at = job.snapshot
        return BatchSummary(
            source=locate(source, scorer.contract).name,
            rejected=rejected.publish(),
            calls=calls.publish(),
            out=scored.publish() or out,
            rows=tally.rows,
            rows_scored=scored.rows,
            rows_rejected=rejected.rows,
            as_of=at,
            as_of_words=job.as_of_words,
            reasons=dict(tally.reasons),
            warnings=dict(tally.warnings),
            repairs=dict(tally.repairs),
            bands=dict(tally.bands),
        )


@dataclass(frozen=True)
class _Part:
    """One batch, done. `scored` has a row for each of `checked.customers`."""

    scored: pa.Table
    checked: Validated
    repairs: dict[str, int]
    days: float | npt.NDArray[np.float64]


class _Job:
    """What is the same for all batches of a file."""

    def __init__(self, scorer: Scorer, source: str | Path, batch_rows: int, as_of: dt.date | None) -> None:
        self.scorer, self.contract, self.source = scorer, scorer.contract, str(source)
        self.batch_rows = batch_rows
        self.block: ShiftedBlock | None = None
        self.total: int | None = None
        location = locate(source, self.contract)
        self.whole = read_table(source, self.contract, label_required=False) if location.format == "excel" else None
        rule = self.contract.time.as_of
        newest = self._first_pass(as_of is None and rule == "latest")
        self.snapshot, self.as_of_words = _snapshot(self.contract, as_of, newest)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The raw file, from its beginning; a workbook is read once."""
        if self.whole is not None:
            return iter(self.whole.to_batches(self.batch_rows))
        return iter_batches(self.source, self.contract, self.batch_rows)

    def parts(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(source row of its first row, batch) of every batch."""
        start = 0
        for batch in self.batches():
            yield start, batch
            start += batch.num_rows

    def score(self, item: tuple[int, pa.RecordBatch]) -> _Part:
        """Repair, check and score one batch."""
        start, batch = item
        raw = table = pa.table(batch)
        repairs = {}
        for name in self.contract.source.repairs:
            if name == _Shift:
                table, report = undo_shift(table, self.contract, self.block, start)
            else:
                table, report = REPAIRS[name](table, self.contract)
            repairs[name] = report.cells
        checked = validate_features_only(
            self.contract, table, found=raw, source=self.source, as_of=self.snapshot, first_row=start
        )
        customers = checked.customers
        days = as_of_days(self.snapshot) if self.snapshot else _own_days(self.contract, customers)
        probability = self.scorer.score_table(customers, days).probability
        scored = scored_table(self.scorer, customers[self.contract.key.name], probability, days)
        return _Part(scored.add_column(0, ROW, pa.array(checked.rows, pa.int64())), checked, repairs, days)

    def _first_pass(self, wants_newest: bool) -> float | None:
        """Find the shifted block and the newest date; returns the latter, in days, where it is wanted."""
        shifted = _Shift in self.contract.source.repairs
        if not (shifted or wants_newest) or not self.contract.date_columns:
            return None
        days = np.concatenate([_days(self.contract, batch) for batch in self.batches()])
        self.total = len(days)
        if shifted:
            self.block = find_shifted_block(days)
        if self.block is not None:
            days[self.block.first : self.block.end] -= SHIFT_DAYS
        return float(np.fmax.reduce(days, axis=None)) if wants_newest and len(days) else None


class _Tally:
    """Sums over the batches, and the best contacts so far."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.rows = 0
        self.reasons: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self.bands: Counter[str] = Counter(dict.fromkeys(BAND_NAMES, 0))
        self.calls = pa.table({})
        capacity = scorer.contract.value.capacity
        self._keep = CALLS_WITHOUT_CAPACITY if capacity is None else capacity

    def add(self, part: _Part) -> None:
        """Count a batch in."""
        self.rows += part.checked.report.rows_in
        self.repairs.update(part.repairs)
        for cause in part.checked.report.causes:
            counts = self.warnings if cause.severity is Severity.WARN else self.reasons
            counts[cause.reason] += cause.rows
        scored = part.scored
        for counted in pc.value_counts(scored["risk_band"]).to_pylist():
            self.bands[counted["values"]] += counted["counts"]
        listed = call_list(
            self.scorer, scored["customer_id"], scored["churn_probability"].to_numpy(), _dates_as_days(scored["as_of"])
        )
        both = pa.concat_tables([self.calls, listed.slice(0, self._keep)]) if self.calls.num_rows else listed
        best = call_list(
            self.scorer, both["customer_id"], both["churn_probability"].to_numpy(), _dates_as_days(both["as_of"])
        )
        called = best.slice(0, self._keep)
        self.calls = called.filter(called["contact"])


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[_In], _Out], items: Iterable[_In], ahead: int
) -> Iterator[_Out]:
    """Results in the items' order, with at most `ahead` items begun and not yet taken."""
    waiting: deque[Future[_Out]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _days(contract: Contract, batch: pa.RecordBatch) -> npt.NDArray[np.float64]:
    """Days since 1970-01-01 (rows, date columns), NaN where missing, unreadable or out of bounds."""
    out = np.full((batch.num_rows, len(contract.date_columns)), np.nan)
    for j, column in enumerate(contract.date_columns):
        values = _dates_as_days(parse_column(column, batch.column(column.name)).values)
        low = -np.inf if column.low is None else as_of_days(str(column.low))
        out[:, j] = np.where(values >= low, values, np.nan)
    return out


def _dates_as_days(dates: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float64]:
    numbers = dates.cast(pa.int32()).cast(pa.float64())
    return np.asarray(pc.fill_null(numbers, float("nan")).to_numpy(zero_copy_only=False), dtype=np.float64)


def _own_days(contract: Contract, customers: pa.Table) -> npt.NDArray[np.float64]:
    return _dates_as_days(customers[contract.time.as_of].combine_chunks())


def _snapshot(contract: Contract, given: dt.date | None, newest: float | None) -> tuple[dt.date | None, str]:
    """(the day customers are scored at, where it comes from); None where each row has its own."""
    rule = contract.time.as_of
    if given is not None:
        return given, "given by the caller"
    if rule in contract.by_name:
        return None, f"each row's own '{rule}'"
    if rule != "latest":
        return dt.date.fromisoformat(rule), "fixed in the contract"
    if newest is None or np.isnan(newest):
        return dt.datetime.now(dt.UTC).date(), "today: the file has no dates"
    return dt.date(1970, 1, 1) + dt.timedelta(days=newest), "newest date of the file"


def _check_not_source(source: Path, out: Path) -> None:
    if source.expanduser().resolve() == out.expanduser().resolve():
        raise SettingsError(f"{out} is the file to be scored, expected another place for the scores; name one")


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
