"""Damage planted into generated customers on purpose, and which: what validation must find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.data.validation.parse import as_text
from churn_assets.features.compile import as_of_days

Cells = dict[str, list[str | None]]


@dataclass(frozen=True)
class Planted:
    """One violation: the row, the reason code validation must give, and the column."""

    row: int
    reason: str
    column: str


def plant_dirt(contract: Contract, table: pa.Table, share: float, seed: int) -> tuple[pa.Table, tuple[Planted, ...]]:
    """`table` as text with violations in `share` of its rows (0 to 1), and the list of them.

    Reasons take turns over all that the contract's columns can show: kind, infinite, null, choices,
    bounds, label, duplicate_id, conflicting_label. A conflict is listed for both of its rows.
    """
    rng = np.random.default_rng(seed)
    cells: Cells = {name: as_text(table.column(name)).to_pylist() for name in table.column_names}
    kinds = _possible(contract)
    rows = rng.permutation(table.num_rows)[: round(share * table.num_rows)]
    clean = np.setdiff1d(np.arange(table.num_rows), rows)
    planted: list[Planted] = []
    for number, row in enumerate(np.sort(rows).tolist()):
        reason, column = kinds[number % len(kinds)]
        if reason in ("duplicate_id", "conflicting_label"):
            clean = _plant_repeat(contract, cells, row, reason, clean, planted)
        else:
            cells[column.name][row] = _BAD[reason](contract, column)
            planted.append(Planted(row, reason, column.name))
    return pa.table({name: pa.array(values, pa.string()) for name, values in cells.items()}), tuple(planted)


def _possible(contract: Contract) -> list[tuple[str, Column]]:
    found: list[tuple[str, Column]] = [("label", contract.label_column)]
    found += [("duplicate_id", contract.key), ("conflicting_label", contract.key)]
    for column in contract.kept_columns:
        if column.kind not in (Kind.ID, Kind.TEXT, Kind.CATEGORY):
            found.append(("kind", column))
        if column.kind in (Kind.NUMBER, Kind.INTEGER):
            found.append(("infinite", column))
        if not column.nullable:
            found.append(("null", column))
        if column.choices:
            found.append(("choices", column))
        if column.low is not None or column.high is not None:
            found.append(("bounds", column))
    return found


def _plant_repeat(
    contract: Contract, cells: Cells, row: int, reason: str, clean: npt.NDArray[np.int64], planted: list[Planted]
) -> npt.NDArray[np.int64]:
    """Give `row` the id of an earlier clean row with the same label, or another one; returns who stays clean."""
    key, label = contract.key.name, cells[contract.label.column]
    same = reason == "duplicate_id"
    partner = next((int(c) for c in clean if c < row and (label[c] == label[row]) == same), None)
    if partner is None:
        return clean
    cells[key][row] = cells[key][partner]
    planted.append(Planted(row, reason, key))
    if not same:
        planted.append(Planted(partner, reason, key))
    return np.setdiff1d(clean, [partner])


def _outside(contract: Contract, column: Column) -> str:
    bound, step = (column.low, -1) if column.low is not None else (column.high, 1)
    if column.kind is Kind.DATE:
        return str(np.datetime64(int(as_of_days(str(bound))) + step, "D"))
    return repr(float(bound) + step * max(1.0, abs(float(bound)) * 1e-6))


_BAD: Mapping[str, Callable[[Contract, Column], str | None]] = {
    "kind": lambda contract, column: "not a value",
    "infinite": lambda contract, column: "-inf",
    "null": lambda contract, column: None,
    "choices": lambda contract, column: "none of the choices",
    "bounds": _outside,
    "label": lambda contract, column: "a third value",
}
