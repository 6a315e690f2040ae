"""Scoring a file of any size: every row is scored, or rejected with its reasons, in bounded memory.

A file is read once or twice: once for its dates, where the snapshot is the newest date of the file or a block of rows
may be in Excel's other date system, and once for its rows.
"""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Contract
from churn_assets.data.readers.read import iter_batches, read_table
from churn_assets.data.readers.source import locate
from churn_assets.data.repairs.excel_1904 import SHIFT_DAYS, ShiftedBlock, find_shifted_block
from churn_assets.data.repairs.repairs import REPAIRS, undo_shift
from churn_assets.data.validation.checks import check_label
from churn_assets.data.validation.parse import as_days, parse_column
from churn_assets.data.validation.report import Outcome
from churn_assets.data.validation.validate import ROW, Validated, validate_features_only
from churn_assets.errors import SettingsError
from churn_assets.features.compile import as_of_days
from churn_assets.prediction_log.records import Prediction, Rejections, encode_line
from churn_assets.prediction_log.segment import Segment
from churn_assets.scoring.call_list import call_order, calls_of, ranked, scored_table, with_reasons
from churn_assets.scoring.call_sheet import call_sheet, check_suffix, notes_path, write_call_sheet
from churn_assets.scoring.explain import Explainer
from churn_assets.scoring.list_money import ListMoney, describe_list_money, list_money
from churn_assets.scoring.prices import prices
from churn_assets.scoring.scorer import BAND_NAMES, Discount, Scorer
from churn_assets.storage.csv_cells import neutral_table
from churn_assets.storage.files import PendingFile

BATCH = "batch"  # arm and policy of a prediction that no request asked for
SEGMENT_BYTES = 2**30  # of the log: a file is ingested at once, or monitoring would take a part of it for the whole
SUFFIXES = (".parquet", ".csv")
BATCH_ROWS = 65_536
CALLS_WITHOUT_CAPACITY = 10_000  # the longest call list where the contract sets no capacity, so that memory is bounded
_CUSTOMER = "customer"
_EPOCH = dt.date(1970, 1, 1)
_SHIFTED = "excel_1904"

Days = npt.NDArray[np.float64]
SmallDays = npt.NDArray[np.float32]  # float32 holds whole days exactly, up to the year 47,000
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class ScoredBatch:
    """One batch: `scored` has a row for each of `checked.customers`, `repairs` count cells; `left` (rows,) is true for
    those marked as churned in the file, None if it has no label column."""

    scored: pa.Table
    checked: Validated
    repairs: dict[str, int]
    left: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class BatchSummary:
    """The outcome of a file's rows, and where the outputs are; as a string, a summary for people.

    `out`, `rejected`, `calls` and `sheet` are None if there are none; `as_of` is None where each row has its own.
    `reasons`, `warnings` and `repairs` count rows, rows and cells; `bands` counts scored customers. `left` counts
    those on no list because the file marks them as churned, None if it has no label column, named `label`.
    """

    source: str
    out: Path | None
    rejected: Path | None
    calls: Path | None
    rows: int
    rows_scored: int
    rows_rejected: int
    as_of: dt.date | None
    as_of_source: str
    model_version: str
    reasons: dict[str, int]
    warnings: dict[str, int]
    repairs: dict[str, int]
    bands: dict[str, int]
    money: ListMoney
    label: str
    left: int | None = None
    sheet: Path | None = None

    def __str__(self) -> str:
        when = f"{self.as_of} ({self.as_of_source})" if self.as_of else self.as_of_source
        counts = {"repaired cells": self.repairs, "reasons of rejection": self.reasons, "warnings": self.warnings}
        paths = {"scores": self.out, "call list": self.sheet or self.calls, "rejected rows": self.rejected}
        left = f"marked as churned in '{self.label}': {self.left or 0:,}, scored and on no call list"
        if self.left is None:
            left = f"the file has no column '{self.label}': customers who have left already cannot be told apart"
        lines = [
            f"{self.source}: {self.rows:,} rows, {self.rows_scored:,} scored, {self.rows_rejected:,} rejected",
            f"as of: {when}; model: {self.model_version or 'not in a bundle'}",
            f"risk bands: {_counts(self.bands)}",
            *(f"{label}: {_counts(own)}" for label, own in counts.items() if any(own.values())),
            *([left] if self.left != 0 else []),
            *describe_list_money(self.money),
            *(f"{label}: {path}" for label, path in paths.items() if path),
        ]
        return "\n".join(lines)


def score_file(
    scorer: Scorer,
    source: str | Path,
    out: Path | None,
    as_of: dt.date | str | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
    threads: int | None = None,
    reasons: bool = False,
    progress: Progress | None = None,
    each: Callable[[ScoredBatch], None] | None = None,
    sheet: Path | None = None,
) -> BatchSummary:
    """Score every row of `source` (anything `data.read` reads) into `out` (.parquet or .csv), `sheet`, or both.

    `out` has the valid rows in the file's order, with their source row; beside it are `<name>.rejected.parquet` (raw
    cells and reasons) and `<name>.calls<suffix>` (the contacts worth most, as many as the contract's capacity, with the
    control group). `sheet` (.csv or .xlsx) is that list as people read it; without `out` the rejected rows are beside
    it. Customers whom the file marks as churned are on no list, and others once. All appear when everything is written.

    An `as_of` given here wins over the contract's. `threads` is by default the number of processors; with `reasons` the
    calls say why, as a `sheet` does if the bundle can; `progress(rows done, rows in all or None)` is called after each
    batch, and `each` with the batch, in order. Raises what reading raises, SettingsError for an invalid output or
    `as_of`, and BundleMismatch for reasons of a bundle that cannot give any.
    """
    beside = out or sheet
    if beside is None:
        raise SettingsError("nothing to write; name a file for the scores or for the call list")
    if sheet is not None:
        check_suffix(sheet)
    list_path = out.with_name(f"{out.stem}.calls{out.suffix}") if out is not None else None
    outputs = (out, beside.with_name(f"{beside.stem}.rejected.parquet"), list_path)
    _check_places(source, filter(None, (*outputs, sheet, sheet and notes_path(sheet))))
    workers = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    explainer = Explainer(scorer) if reasons or (sheet is not None and scorer.background) else None
    scored, rejected, calls = map(TableFile, outputs)
    with scored, rejected, calls:
        file = _FileBatches(scorer, source, batch_rows, _date(as_of))
        tally = _Tally(scorer, explainer, with_customers=sheet is not None)
        with ThreadPoolExecutor(workers) as pool:
            for batch in _in_order(pool, file, ahead=workers + 1):
                scored.write(batch.scored)
                if batch.checked.rejected.num_rows:
                    rejected.write(batch.checked.rejected)
                tally.add(batch)
                if each is not None:
                    each(batch)
                if progress is not None:
                    progress(tally.rows, file.rows)
        listed = tally.call_list()
        money = tally.money(listed, scorer.discount, scored.rows)
        if listed.num_rows:
            calls.write(listed)
        if sheet is not None:
            write_call_sheet(call_sheet(listed, tally.customers(listed.num_rows), scorer.contract, money), sheet)
        return BatchSummary(
            source=file.name,
            rejected=rejected.publish(),
            calls=calls.publish(),
            out=scored.publish() or out,
            money=money,
            label=scorer.contract.label.column,
            left=tally.left,
            sheet=sheet,
            rows=tally.rows,
            rows_scored=scored.rows,
            rows_rejected=rejected.rows,
            as_of=file.snapshot,
            as_of_source=file.as_of_source,
            model_version=scorer.version,
            reasons=dict(tally.reasons),
            warnings=dict(tally.warnings),
            repairs=dict(tally.repairs),
            bands=dict(tally.bands),
        )


class _Tally:
    """Sums over the batches, and the most valuable contacts so far."""

    def __init__(self, scorer: Scorer, explainer: Explainer | None, with_customers: bool) -> None:
        self._value, self._explainer = scorer.value, explainer
        self._with_customers = with_customers or explainer is not None
        self._keep = CALLS_WITHOUT_CAPACITY if self._value.capacity is None else self._value.capacity
        self.rows = 0
        self.reasons, self.warnings, self.repairs = Counter[str](), Counter[str](), Counter[str]()
        self.bands = Counter(dict.fromkeys(BAND_NAMES, 0))
        self.left: int | None = None
        self._paying = 0
        self.best = scored_table(scorer, [], np.empty(0), 0.0)

    def add(self, batch: ScoredBatch) -> None:
        """Add a batch's counts."""
        self.rows += batch.checked.report.rows_in
        self.repairs.update(batch.repairs)
        for cause in batch.checked.report.causes:
            counts = self.warnings if cause.outcome is Outcome.COUNTED else self.reasons
            counts[cause.reason] += cause.rows
        for band in pc.value_counts(batch.scored["risk_band"]).to_pylist():
            self.bands[band["values"]] += band["counts"]
        scored = batch.scored
        if self._with_customers:  # the columns that reasons are made of, only for those on the list so far
            scored = scored.append_column(_CUSTOMER, batch.checked.customers.to_struct_array())
        if batch.left is not None:
            self.left = (self.left or 0) + int(batch.left.sum())
            scored = scored.filter(pa.array(~batch.left))
        if not self._keep:
            return
        pays = pc.and_(pc.greater(scored["expected_value"], 0.0), pc.invert(scored["control"]))
        self._paying += pc.sum(pays).as_py() or 0
        if self._contacts(self.best) == self._keep:  # most batches have few that are worth more than the last
            least = pc.min(self.best["expected_value"])
            scored = scored.filter(pc.greater_equal(scored["expected_value"], least))
        pays = scored.filter(pc.greater(scored["expected_value"], 0.0))
        both = pa.concat_tables([self.best, pays]) if self.best.num_rows else pays
        both = _distinct(both.take(call_order(both)))
        counted = np.cumsum(~both["control"].to_numpy(zero_copy_only=False).astype(bool))  # others take no capacity
        self.best = both.slice(0, int(np.searchsorted(counted, self._keep)) + 1)

    def money(self, listed: pa.Table, discount: Discount, rows: int) -> ListMoney:
        """The money of the calls, of so many scored rows."""
        left = self.left or 0
        is_cut = self._value.capacity is None and self._contacts(self.best) == self._keep < self._paying
        return list_money(listed, self._value, discount, rows - left, left, is_cut=is_cut)

    @staticmethod
    def _contacts(listed: pa.Table) -> int:
        return int(listed.num_rows - (pc.sum(listed["control"]).as_py() or 0))

    def customers(self, rows: int) -> pa.Table:
        """The typed customers of the first `rows` of the list."""
        if _CUSTOMER not in self.best.column_names:
            return pa.table({})
        return pa.Table.from_struct_array(self.best[_CUSTOMER].combine_chunks()).slice(0, rows)

    def call_list(self) -> pa.Table:
        """The calls in their final order, with reasons if there is an explainer."""
        listed = calls_of(ranked(self.best, self._value))
        if self._explainer is None or not listed.num_rows:
            return listed
        customers = self.customers(listed.num_rows)
        as_of = as_days(listed["as_of"].combine_chunks())
        return with_reasons(listed, self._explainer.explain_table(customers, as_of))


def _distinct(listed: pa.Table) -> pa.Table:
    """The first row of each customer: a file may have several, and a list calls nobody twice."""
    codes = listed["customer_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    return listed.take(np.sort(np.unique(codes, return_index=True)[1]))


def _in_order(pool: ThreadPoolExecutor, file: _FileBatches, ahead: int) -> Iterator[ScoredBatch]:
    """The scored batches of a file in its order, with at most `ahead` in progress."""
    waiting: deque[Future[ScoredBatch]] = deque()
    try:
        for batch in file.batches():
            waiting.append(pool.submit(file.score, batch))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _check_places(source: str | Path, places: Iterable[Path]) -> None:
    """Raise SettingsError for a place that is the source, or a folder."""
    read = Path(str(source)).expanduser().resolve()
    for place in places:
        if place.expanduser().resolve() == read:
            raise SettingsError(f"{place} is the file to be scored and would be overwritten; name another output")
        if place.is_dir():
            raise SettingsError(f"{place} is a folder, expected a file that ends in .parquet or .csv; name one")


def _date(as_of: dt.date | str | None) -> dt.date | None:
    if not isinstance(as_of, str):
        return as_of
    try:
        return dt.date.fromisoformat(as_of)
    except ValueError:
        raise SettingsError(f"as_of is '{as_of}', expected a day such as 2014-01-20; correct it") from None


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


class _FileBatches:
    """A file cut into batches, and how each is scored. The constructor reads the file's dates where they are needed.

    A block of rows in Excel's other date system shows only in the whole file: where the contract names that repair,
    and only there, memory grows with the rows, by the dates (4 bytes each, 12 while the block is searched).
    `snapshot` is None where each row has its own day; `rows` is None if nothing counted them.
    """

    def __init__(self, scorer: Scorer, source: str | Path, batch_rows: int, as_of: dt.date | None) -> None:
        self.scorer, self.contract, self.source, self.batch_rows = scorer, scorer.contract, source, batch_rows
        self.rows: int | None = None
        self._block: ShiftedBlock | None = None
        location = locate(source, self.contract)
        self.name = location.name
        self._whole = read_table(source, self.contract, label_required=False) if location.format == "excel" else None
        newest = self._read_dates(wants_newest=as_of is None and self.contract.time.as_of == "latest")
        self.snapshot, self.as_of_source = _snapshot(self.contract, as_of, newest)

    def batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(source row of its first row, raw batch), from the beginning; a workbook is read only once."""
        start = 0
        if self._whole is not None:
            batches: Iterable[pa.RecordBatch] = self._whole.to_batches(self.batch_rows)
        else:
            batches = iter_batches(self.source, self.contract, self.batch_rows)
        for batch in batches:
            yield start, batch
            start += batch.num_rows

    def score(self, item: tuple[int, pa.RecordBatch]) -> ScoredBatch:
        """Repair, check and score one batch. Safe from several threads."""
        start, batch = item
        raw = table = pa.table(batch)
        repairs = {}
        for name in self.contract.source.repairs:
            if name == _SHIFTED:
                table, report = undo_shift(table, self.contract, self._block, start)
            else:
                table, report = REPAIRS[name](table, self.contract)
            repairs[name] = report.cells
        checked = validate_features_only(
            self.contract, table, raw=raw, source=self.name, as_of=self.snapshot, first_row=start
        )
        customers, own = checked.customers, self.contract.time.as_of
        days = as_of_days(self.snapshot) if self.snapshot else as_days(customers[own].combine_chunks())
        probability = self.scorer.score_table(customers, days).probability
        worth = prices(self.contract, customers, days)
        scored = scored_table(self.scorer, customers[self.contract.key.name], probability, days, worth)
        left = None
        if self.contract.label.column in table.column_names:
            left = check_label(self.contract, table)[0][checked.rows - start] == 1
        return ScoredBatch(scored.add_column(0, ROW, pa.array(checked.rows, pa.int64())), checked, repairs, left)

    def _read_dates(self, wants_newest: bool) -> float | None:
        """Find the shifted block and count the rows; return the newest date, in days, if it is wanted."""
        searches_block = _SHIFTED in self.contract.source.repairs
        if not (searches_block or wants_newest) or not self.contract.date_columns:
            return None
        parts: list[SmallDays] = []
        newest: list[float | None] = []
        for start, batch in self.batches():
            days = _dates(self.contract, batch)
            self.rows = start + len(days)
            if searches_block:
                parts.append(days)
            else:
                newest.append(_newest(self.contract, days))
        if searches_block:
            whole = np.concatenate(parts, dtype=np.float64)
            parts.clear()
            self._block = find_shifted_block(whole)
            if self._block is not None:
                whole[self._block.first : self._block.end] -= SHIFT_DAYS
            newest = [_newest(self.contract, whole)]
        return max((day for day in newest if day is not None), default=None)


def _dates(contract: Contract, batch: pa.RecordBatch) -> SmallDays:
    """Days since 1970-01-01 (rows, date columns), NaN where missing or unreadable, or the column is."""
    absent = np.full(batch.num_rows, np.nan)
    own = [
        as_days(parse_column(c, batch.column(c.name)).values) if c.name in batch.schema.names else absent
        for c in contract.date_columns
    ]
    return np.column_stack(own).astype(np.float32)


def _newest(contract: Contract, days: Days | SmallDays) -> float | None:
    """The newest date within its column's bounds, in days; None if there is none."""
    newest = []
    for column, own in zip(contract.date_columns, days.T, strict=True):
        low = -np.inf if column.low is None else as_of_days(str(column.low))
        high = np.inf if column.high is None else as_of_days(str(column.high))
        inside = own[(own >= low) & (own <= high)]  # comparisons with NaN are false
        newest += [float(inside.max())] if len(inside) else []
    return max(newest, default=None)


def _snapshot(contract: Contract, given: dt.date | None, newest: float | None) -> tuple[dt.date | None, str]:
    """(the day customers are scored at, where it comes from); None where each row has its own."""
    rule = contract.time.as_of
    if given is not None:
        return given, "given by the caller"
    if rule in contract.by_name:
        return None, f"each row's own '{rule}'"
    if rule != "latest":
        return dt.date.fromisoformat(rule), "fixed in the contract"
    if newest is None:
        return dt.datetime.now(dt.UTC).date(), "today: the file has no dates"
    return _EPOCH + dt.timedelta(days=newest), "newest date of the file"


class TableFile:
    """A Parquet or CSV file (by suffix) that grows under a temporary name; SettingsError for another suffix. Without a
    path nothing is written.

    `publish` renames it after a sync; leaving the context without it removes what was written.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None and path.suffix.lower() not in SUFFIXES:
            raise SettingsError(
                f"{path.name} ends in '{path.suffix}', expected one of: {', '.join(SUFFIXES)}; rename it"
            )
        self.path, self.rows = path, 0
        self._csv = path is not None and path.suffix.lower() == ".csv"
        self._pending: PendingFile | None = None
        self._writer: Any = None

    def write(self, table: pa.Table) -> None:
        """Append a table; the first one sets the schema. Without a path rows are only counted."""
        self.rows += table.num_rows
        if self.path is None:
            return
        table = neutral_table(table) if self._csv else table
        if self._writer is None:
            try:
                self._pending = PendingFile(self.path)
                self._writer = self._open(self._pending.temporary, table.schema)
            except OSError as error:
                raise SettingsError(
                    f"{self.path} cannot be written ({error.strerror or error}); name another output"
                ) from error
        self._writer.write_table(table)

    def publish(self) -> Path | None:
        """Close the file and give it its name; None, and no file of that name, if nothing was written."""
        if self.path is None:
            return None
        if self._pending is None:
            self.path.unlink(missing_ok=True)  # a file of an earlier run is about other rows
            return None
        self._writer.close()
        self._pending.commit()
        self._pending = None
        return self.path

    def _open(self, path: Path, schema: pa.Schema) -> Any:
        if self._csv:
            from pyarrow import csv

            return csv.CSVWriter(path, schema)
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> TableFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pending is not None:
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
        decides = not self._scorer.no_signal
        now, lines = dt.datetime.now(dt.UTC).isoformat(), []
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
                decision=decides and answer["churn_probability"] >= threshold,
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
                features={name: cell for name, cell in customer.items() if name != contract.key.name},
                source=BATCH,
            )
            lines.append(encode_line(row))
        if rejected := {c.column: c.rows for c in batch.checked.report.causes if c.outcome is Outcome.REJECTED}:
            lines.append(encode_line(Rejections(now, now, self._run, {}, rejected)))
        if lines:
            self._segment.append(b"".join(lines))
        self.rows += len(lines)

    def close(self) -> None:
        """Hand the segment over."""
        self._segment.hand_over()
