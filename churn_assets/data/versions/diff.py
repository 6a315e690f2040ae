"""What two tables have otherwise: columns, and rows by their id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.data.versions.cells import Codes, codes_of, dense_type
from churn_assets.errors import TableNotKept


@dataclass(frozen=True)
class ChangedCell:
    """A cell of the row with the id `row`, as text before and after; None where it was empty."""

    row: str
    column: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class TableDiff:
    """How the second table differs from the first. The counts are complete, the lists are cut to the limit asked for.

    Of several rows with one id the n-th is compared with the n-th. `cells_by_column` has columns of both tables with a
    cell that changed. `moved`: rows have another order.
    """

    rows_before: int
    rows_after: int
    added: int
    removed: int
    changed: int
    added_ids: list[str]
    removed_ids: list[str]
    cells: list[ChangedCell]
    cells_by_column: dict[str, int]
    columns_added: list[str]
    columns_removed: list[str]
    types_changed: list[str]
    moved: bool

    @property
    def same(self) -> bool:
        """Whether the tables have the same cells in the same order."""
        counts = self.added or self.removed or self.changed
        return not (counts or self.columns_added or self.columns_removed or self.types_changed or self.moved)


def diff_tables(before: pa.Table, after: pa.Table, key: str, limit: int = 20) -> TableDiff:
    """Compare two tables by the column `key`, with at most `limit` ids and cells listed. Raises TableNotKept if one
    lacks that column or has it twice."""
    for table in (before, after):
        if table.column_names.count(key) != 1:
            raise TableNotKept(
                f"the table has {table.column_names.count(key)} columns '{key}', expected one to compare rows by; "
                "name another version, or --key"
            )
    rows = before.num_rows
    ids = codes_of([before[key].cast(pa.string()), after[key].cast(pa.string())])
    names = _with_occurrence(ids, rows)
    common, old, new = np.intersect1d(names[:rows], names[rows:], return_indices=True)
    by_time = np.argsort(new, kind="stable")
    old, new = old[by_time], new[by_time]
    shared = [name for name in after.column_names if before.column_names.count(name) == 1 and name != key]
    shared = [name for name in shared if after.column_names.count(name) == 1]
    types = [n for n in shared if dense_type(before.schema.field(n).type) != dense_type(after.schema.field(n).type)]
    changed, counts = np.zeros(len(common), dtype=bool), {}
    cells: list[ChangedCell] = []
    for name in shared:
        codes = codes_of([before[name], after[name]] if name not in types else _as_texts(before[name], after[name]))
        differs = codes[:rows][old] != codes[rows:][new]
        if count := int(differs.sum()):
            counts[name] = count
            changed |= differs
            cells += _cells(before, after, name, key, old[differs][:limit], new[differs][:limit])
    return TableDiff(
        rows_before=rows,
        rows_after=after.num_rows,
        added=after.num_rows - len(common),
        removed=rows - len(common),
        changed=int(changed.sum()),
        added_ids=_ids(after, key, np.setdiff1d(np.arange(after.num_rows), new)[:limit]),
        removed_ids=_ids(before, key, np.setdiff1d(np.arange(rows), old)[:limit]),
        cells=cells[:limit],
        cells_by_column=dict(sorted(counts.items(), key=lambda item: -item[1])),
        columns_added=[name for name in after.column_names if name not in before.column_names],
        columns_removed=[name for name in before.column_names if name not in after.column_names],
        types_changed=[f"{n}: {before.schema.field(n).type} -> {after.schema.field(n).type}" for n in types],
        moved=bool((np.diff(old) < 0).any()),
    )


def _with_occurrence(ids: Codes, rows: int) -> Codes:
    """A number for each pair of an id and how often it stood before in its table: (rows before and after,)."""
    ranks = np.empty(len(ids), dtype=np.int64)
    for part in (slice(0, rows), slice(rows, len(ids))):
        own = ids[part]
        order = np.argsort(own, kind="stable")
        ordered = own[order]
        begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(own) else order
        counts = np.diff(np.append(begins, len(own)))
        part_ranks = np.empty(len(own), dtype=np.int64)
        part_ranks[order] = np.arange(len(own)) - np.repeat(begins, counts)
        ranks[part] = part_ranks
    return np.asarray((ids + 1) * (len(ids) + 1) + ranks)


def _as_texts(*columns: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    return [pa.chunked_array([pa.array(map(_text, column.to_pylist()), pa.string())]) for column in columns]


def _cells(before: pa.Table, after: pa.Table, name: str, key: str, old: Codes, new: Codes) -> list[ChangedCell]:
    values = (before[name].take(pa.array(old)).to_pylist(), after[name].take(pa.array(new)).to_pylist())
    return [
        ChangedCell(row, name, _text(left), _text(right))
        for row, left, right in zip(_ids(after, key, new), *values, strict=True)
    ]


def _ids(table: pa.Table, key: str, rows: Codes) -> list[str]:
    return [str(value) for value in pc.take(table[key], pa.array(rows, pa.int64())).to_pylist()]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def describe_diff(diff: TableDiff) -> Sequence[str]:
    """The comparison as lines for people."""
    if diff.same:
        return [f"the same {diff.rows_after:,} rows"]
    lines = [
        f"{diff.rows_before:,} rows before, {diff.rows_after:,} after: {diff.added:,} added, {diff.removed:,} removed, "
        f"{diff.changed:,} changed{', in another order' * diff.moved}"
    ]
    for title, names in (
        ("columns added", diff.columns_added),
        ("columns removed", diff.columns_removed),
        ("columns of another type", diff.types_changed),
    ):
        lines += [f"{title}: {', '.join(names)}"] if names else []
    if diff.cells_by_column:
        counts = (f"{name} {count:,}" for name, count in islice(diff.cells_by_column.items(), 40))
        lines.append(f"changed cells by column: {', '.join(counts)}")
    for title, count, ids in (("added", diff.added, diff.added_ids), ("removed", diff.removed, diff.removed_ids)):
        more = f" and {count - len(ids):,} more" if count > len(ids) else ""
        lines += [f"{title}: {', '.join(ids)}{more}"] if ids else []
    lines += [f"{cell.row}: {cell.column} was {_shown(cell.before)}, is {_shown(cell.after)}" for cell in diff.cells]
    total = sum(diff.cells_by_column.values())
    lines += [f"and {total - len(diff.cells):,} more cells"] if total > len(diff.cells) else []
    return lines


def _shown(text: str | None) -> str:
    return "empty" if text is None else f"'{text[:60]}'"
