"""Which rows of a table are kept already, and a sequence of rows as runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from churn_assets.data.versions.cells import Codes, codes_of

Hashes = npt.NDArray[np.uint64]


def match_rows(kept: pa.Table, table: pa.Table) -> Codes:
    """For each row of `table` the number of an equal row of `kept`, -1 if it has none, shape (rows,).

    Both have the same columns. Of equal rows the n-th is matched with the n-th, so that a table that is kept already is
    matched in its order. A hash finds the pairs, and every cell of a pair is compared.
    """
    count = kept.num_rows
    if not count or not table.num_rows:
        return np.full(table.num_rows, -1, dtype=np.int64)
    columns = [codes_of([old, new]) for old, new in zip(kept.columns, table.columns, strict=True)]
    hashes = _hash_codes(columns, count + table.num_rows)
    order = np.argsort(hashes[:count], kind="stable")
    ordered, wanted = hashes[:count][order], hashes[count:]
    first = np.searchsorted(ordered, wanted, side="left")
    many = np.searchsorted(ordered, wanted, side="right") - first
    at = first + np.minimum(_occurrence(wanted), np.maximum(many - 1, 0))
    matched = order[np.minimum(at, count - 1)]
    equal = many > 0
    for codes in columns:
        equal &= codes[count:] == codes[:count][matched]
    return np.where(equal, matched, -1)


def _hash_codes(columns: Sequence[Codes], rows: int) -> Hashes:
    """A 64-bit hash of the codes of each row, shape (rows,)."""
    hashes = np.zeros(rows, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for codes in columns:
            hashes = (hashes ^ codes.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            hashes ^= hashes >> np.uint64(29)
            hashes *= np.uint64(0xBF58476D1CE4E5B9)
            hashes ^= hashes >> np.uint64(32)
    return hashes


def _occurrence(values: Hashes) -> Codes:
    """How many equal values stand before each, shape (n,)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(np.append(begins, len(values)))
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(len(values)) - np.repeat(begins, counts)
    return ranks


@dataclass(frozen=True)
class RowSequence:
    """Rows in order: each is row `row` of source number `source`, both of shape (rows,)."""

    source: Codes
    row: Codes

    def to_runs(self) -> list[int]:
        """Triples (source, rows skipped since the last run of that source, rows) one after another. What is inserted
        into a table leaves nothing skipped, so that runs of zeros and ones are what is written."""
        source, row, count = self.source, self.row, len(self.row)
        if not count:
            return []
        breaks = (source[1:] != source[:-1]) | (row[1:] != row[:-1] + 1)
        begins = np.concatenate([[0], np.flatnonzero(breaks) + 1])
        lengths = np.diff(np.append(begins, count))
        starts, sources = row[begins], source[begins]
        skipped = np.empty(len(begins), dtype=np.int64)
        for number in np.unique(sources):
            own = np.flatnonzero(sources == number)
            ends = np.concatenate([[0], (starts[own] + lengths[own])[:-1]])
            skipped[own] = starts[own] - ends
        return [int(value) for value in np.stack([sources, skipped, lengths], axis=1).ravel()]

    @classmethod
    def from_runs(cls, runs: Sequence[int]) -> RowSequence:
        """The inverse of `to_runs`. Raises ValueError for what it never wrote."""
        triples = np.asarray(runs, dtype=np.int64).reshape(-1, 3)
        sources, skipped, lengths = triples[:, 0], triples[:, 1], triples[:, 2]
        if (lengths < 1).any() or (sources < 0).any():
            raise ValueError("has a run without rows")
        starts = np.empty(len(sources), dtype=np.int64)
        for number in np.unique(sources):
            own = np.flatnonzero(sources == number)
            ends = np.cumsum(skipped[own] + lengths[own])
            starts[own] = ends - lengths[own]
        begins = np.cumsum(lengths) - lengths
        row = np.arange(int(lengths.sum())) - np.repeat(begins - starts, lengths)
        return cls(np.repeat(sources, lengths), row)
