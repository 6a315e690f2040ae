"""The two passes over a file that is scored in batches: its dates, then its rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Contract
from churn_assets.data.readers.read import iter_batches, read_table
from churn_assets.data.readers.source import locate
from churn_assets.data.repairs.excel_1904 import SHIFT_DAYS, ShiftedBlock, find_shifted_block
from churn_assets.data.repairs.repairs import REPAIRS, undo_shift
from churn_assets.data.validation.parse import parse_column
from churn_assets.data.validation.validate import ROW, Validated, validate_features_only
from churn_assets.features.compile import as_of_days
from churn_assets.scoring.call_list import scored_table
from churn_assets.scoring.scorer import Scorer

Days = npt.NDArray[np.float64]
SmallDays = npt.NDArray[np.float32]  # float32 holds whole days exactly, up to the year 47,000

_EPOCH = dt.date(1970, 1, 1)
_SHIFTED = "excel_1904"


@dataclass(frozen=True)
class Part:
    """One batch, done: `scored` has a row for each of `checked.customers`, `repairs` count cells."""

    scored: pa.Table
    checked: Validated
    repairs: dict[str, int]


class Passes:
    """A file on its way through a scorer. Making one takes the first pass, if one is needed.

    The newest date is the snapshot when the contract says `as_of = "latest"`. A block of rows in Excel's
    other date system shows only in the whole file: where the contract names that repair, and only there,
    memory grows with the rows, by the dates (4 bytes each, 12 while they are looked at).
    `snapshot` is None where each row has its own day; `rows` is None if nothing counted them.
    """

    def __init__(self, scorer: Scorer, source: str | Path, batch_rows: int, as_of: dt.date | None) -> None:
        self.scorer, self.contract, self.source = scorer, scorer.contract, source
        self.batch_rows = batch_rows
        self.rows: int | None = None
        self._block: ShiftedBlock | None = None
        location = locate(source, self.contract)
        self.name = location.name
        self._whole = read_table(source, self.contract, label_required=False) if location.format == "excel" else None
        newest = self._first(wants_newest=as_of is None and self.contract.time.as_of == "latest")
        self.snapshot, self.as_of_words = _snapshot(self.contract, as_of, newest)

    def batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(source row of its first row, raw batch), from the beginning; a workbook is read only once."""
        start = 0
        whole = self._whole
        for batch in (
            iter_batches(self.source, self.contract, self.batch_rows)
            if whole is None
            else whole.to_batches(self.batch_rows)
        ):
            yield start, batch
            start += batch.num_rows

    def score(self, item: tuple[int, pa.RecordBatch]) -> Part:
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
            self.contract, table, found=raw, source=self.name, as_of=self.snapshot, first_row=start
        )
        customers = checked.customers
        own = self.contract.time.as_of
        days = as_of_days(self.snapshot) if self.snapshot else as_days(customers[own].combine_chunks())
        probability = self.scorer.score_table(customers, days).probability
        scored = scored_table(self.scorer, customers[self.contract.key.name], probability, days)
        return Part(scored.add_column(0, ROW, pa.array(checked.rows, pa.int64())), checked, repairs)

    def _first(self, wants_newest: bool) -> float | None:
        """Find the shifted block and count the rows; returns the newest date, in days, if it is wanted."""
        looks_for_block = _SHIFTED in self.contract.source.repairs
        if not (looks_for_block or wants_newest) or not self.contract.date_columns:
            return None
        parts, newest = [], []
        self.rows = 0
        for start, batch in self.batches():
            days = _dates(self.contract, batch)
            self.rows = start + len(days)
            if looks_for_block:
                parts.append(days)
            else:
                newest.append(_newest(self.contract, days))
        if looks_for_block:
            whole = np.concatenate(parts, dtype=np.float64)
            parts.clear()
            self._block = find_shifted_block(whole)
            if self._block is not None:
                whole[self._block.first : self._block.end] -= SHIFT_DAYS
            newest = [_newest(self.contract, whole)]
        return max((day for day in newest if day is not None), default=None)


def as_days(dates: pa.Array) -> Days:
    """Days since 1970-01-01 (n,) of dates, NaN for null."""
    numbers = pc.fill_null(dates.cast(pa.int32()).cast(pa.float64()), float("nan"))
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _dates(contract: Contract, batch: pa.RecordBatch) -> SmallDays:
    """Days since 1970-01-01 (rows, date columns), NaN where missing or unreadable."""
    own = [as_days(parse_column(c, batch.column(c.name)).values) for c in contract.date_columns]
    return np.column_stack(own).astype(np.float32)


def _newest(contract: Contract, days: Days | SmallDays) -> float | None:
    """The newest date within its column's bounds, in days; None if there is none."""
    found = []
    for column, own in zip(contract.date_columns, days.T, strict=True):
        low = -np.inf if column.low is None else as_of_days(str(column.low))
        high = np.inf if column.high is None else as_of_days(str(column.high))
        inside = own[(own >= low) & (own <= high)]  # comparisons with NaN are false
        found += [float(inside.max())] if len(inside) else []
    return max(found, default=None)


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
