"""Samples as matrices, for what looks at all columns at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Kind

if TYPE_CHECKING:
    import pyarrow as pa

Matrix = npt.NDArray[np.float64]
NUMBER_KINDS = frozenset({Kind.NUMBER, Kind.INTEGER})


def numbers_of(table: pa.Table, names: list[str]) -> Matrix:
    """Shape (rows, names): NaN for missing, infinite kept."""
    columns = [table[name].to_numpy().astype(np.float64) for name in names]
    return np.column_stack(columns) if columns else np.empty((table.num_rows, 0))


def encoded(reference: pa.Table, current: pa.Table, kinds: Mapping[str, Kind]) -> tuple[Matrix, Matrix]:
    """Both sides with the same columns: numbers as they are (infinite as missing), levels as whole numbers."""
    sides: tuple[list[Matrix], list[Matrix]] = ([], [])
    for name, kind in kinds.items():
        for side, table in zip(sides, (reference, current), strict=True):
            if kind is Kind.CATEGORY:
                side.append(np.asarray(table[name].to_pandas().map(str).to_numpy(dtype=object)))
            else:
                values = table[name].to_numpy().astype(np.float64)
                side.append(np.where(np.isfinite(values), values, np.nan))
        if kind is Kind.CATEGORY:
            levels = {level: float(place) for place, level in enumerate(sorted({*sides[0][-1], *sides[1][-1]}))}
            for side in sides:
                side[-1] = np.array([levels[level] for level in side[-1]])
    return np.column_stack(sides[0]), np.column_stack(sides[1])
