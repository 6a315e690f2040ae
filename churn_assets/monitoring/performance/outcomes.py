"""Predictions whose outcome is known, and the periods that they are measured in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.monitoring.data_quality.report import read_window_quality
from churn_assets.monitoring.windows.windows import read_windows
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Period:
    """A stretch of the log: a closed window, or a month. `from_seq` and `to_seq` are inclusive, None for a month.

    `name` is the window's number as four digits, or the month as 2026-01; `closed` is whether no row can join
    it any more. `folder` is where the reports on a window are kept.
    """

    name: str
    from_seq: int | None = None
    to_seq: int | None = None
    closed: bool = True
    folder: Path | None = None

    @property
    def is_month(self) -> bool:
        """Whether this is a calendar month of `scored_at` and not a window."""
        return self.from_seq is None

    def where(self) -> tuple[str, dict[str, str | int | None]]:
        """An SQL condition on `predictions`, and its parameters."""
        if self.is_month:
            return "strftime(scored_at, '%Y-%m') = $period", {"period": self.name}
        return "seq BETWEEN $from_seq AND $to_seq", {"from_seq": self.from_seq, "to_seq": self.to_seq}


@dataclass(frozen=True)
class Outcomes:
    """Predictions with a final label, in the order of the log; arrays of equal length.

    `who` is a number a customer (a row without a customer is its own), `month` of `scored_at` as 2026-01,
    `settled` the instant (datetime64[us], UTC) at which the label was known and the days were over.
    """

    seq: Rows
    who: Rows
    score: npt.NDArray[np.float64]
    churned: npt.NDArray[np.bool_]
    contacted: npt.NDArray[np.bool_]
    version: npt.NDArray[np.object_]
    month: npt.NDArray[np.object_]
    settled: npt.NDArray[np.datetime64]

    @classmethod
    def of(cls, labelled: pa.Table, fingerprint: str) -> Outcomes:
        """The final rows of `labels.labelled` that were scored under one contract."""
        import pyarrow.compute as pc

        wanted = pc.and_(pc.equal(labelled["label_state"], "final"), pc.equal(labelled["fingerprint"], fingerprint))
        rows = labelled.filter(wanted).sort_by("seq")
        alone = pc.binary_join_element_wise(" ", rows["prediction_id"], " ")
        names = pc.coalesce(rows["customer_id"], alone).combine_chunks().dictionary_encode()
        return cls(
            seq=rows["seq"].to_numpy().astype(np.int64),
            who=names.indices.to_numpy(zero_copy_only=False).astype(np.int64),
            score=rows["score"].to_numpy().astype(np.float64),
            churned=rows["churned"].to_numpy().astype(np.bool_),
            contacted=pc.fill_null(rows["contacted"], False).to_numpy().astype(np.bool_),
            version=rows["model_version"].to_numpy(),
            month=pc.strftime(rows["scored_at"], format="%Y-%m").to_numpy(),
            settled=pc.max_element_wise(rows["matures_at"], rows["received_at"]).to_numpy(),
        )

    def __len__(self) -> int:
        return len(self.seq)

    def take(self, rows: Rows | npt.NDArray[np.bool_]) -> Outcomes:
        """Some of the rows, by position or mask."""
        return Outcomes(**{name: values[rows] for name, values in vars(self).items()})

    def last_of_each(self) -> Outcomes:
        """The last row of each customer: a customer who is scored often must not count often."""
        _, at = np.unique(self.who[::-1], return_index=True)
        return self.take(np.sort(len(self) - 1 - at))

    def within(self, period: Period) -> Outcomes:
        """The rows of a period, the last of each customer."""
        if period.from_seq is None or period.to_seq is None:
            return self.take(np.asarray(self.month == period.name, dtype=np.bool_)).last_of_each()
        return self.take((self.seq >= period.from_seq) & (self.seq <= period.to_seq)).last_of_each()

    def of_version(self, version: str) -> Outcomes:
        """The rows that one model scored, the last of each customer."""
        return self.take(np.asarray(self.version == version, dtype=np.bool_)).last_of_each()

    def newest(self, customers: int) -> Outcomes:
        """The last `customers` rows."""
        return self.take(np.arange(max(0, len(self) - customers), len(self)))


def months(names: Sequence[str], present: str) -> list[Period]:
    """Months as periods; the `present` one and later ones can still grow."""
    return [Period(name, closed=name < present) for name in sorted(set(names))]


def usable_rows(settings: Settings, fingerprint: str, labelled: pa.Table) -> tuple[pa.Table, int]:
    """The rows of `labelled_predictions` that lie in no broken window of a contract, and how many do.

    A window whose data was not checked counts as usable. Raises WindowUnreadable.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    broken = []
    for window in read_windows(settings, fingerprint):
        quality = read_window_quality(settings, window)
        if quality is not None and quality.status == "broken":
            broken.append((window.from_seq, window.to_seq))
    of_contract = pc.equal(labelled["fingerprint"], fingerprint).to_numpy().astype(bool)
    keep = outside(labelled["seq"].to_numpy(), broken) | ~of_contract
    return labelled.filter(pa.array(keep)), int(np.sum(~keep))


def outside(seq: Rows, spans: Iterable[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """True (n,) for rows of the log that lie in none of these stretches, both ends included."""
    keep = np.ones(len(seq), dtype=np.bool_)
    for first, last in spans:
        keep &= (seq < first) | (seq > last)
    return keep
