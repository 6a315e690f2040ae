"""Churners that a column sets apart: values which no kept customer has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Column, Kind

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]

RUN_ROWS = 30  # a shorter run of churners without a kept customer is luck


def isolated(values: Floats, label: Labels, column: Column) -> tuple[float, str]:
    """Share of the churners in runs of at least RUN_ROWS churners without a kept customer, and the
    longest run in words. Values are sorted, equal ones stand together; a category's choices and
    missing values are runs of their own."""
    total = max(1, int(label.sum()))
    best, share, words = 0, 0, ""
    for churners, told in _runs(values, label, column):
        if churners >= RUN_ROWS:
            share += churners
            if churners > best:
                best, words = churners, told
    return share / total, words


def _runs(values: Floats, label: Labels, column: Column) -> Iterator[tuple[int, str]]:
    known = ~np.isnan(values)
    gone = label[~known]
    if len(gone) and gone.all():
        yield len(gone), f"{column.name} missing"
    distinct, place = np.unique(values[known], return_inverse=True)
    churned = np.bincount(place, label[known], len(distinct))
    pure = churned == np.bincount(place, minlength=len(distinct))
    if column.choices:
        for code in np.flatnonzero(pure):
            yield int(churned[code]), f"{column.name} = {column.choices[int(distinct[code])]}"
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[0], pure.astype(np.int8), [0]])))
    for start, end in zip(edges[::2], edges[1::2] - 1, strict=True):
        one, two = (_word(column, distinct[i]) for i in (start, end))
        told = f"{column.name} = {one}" if one == two else f"{column.name} from {one} to {two}"
        yield int(churned[start : end + 1].sum()), told


def _word(column: Column, value: float) -> str:
    return str(np.datetime64(int(value), "D")) if column.kind is Kind.DATE else f"{value:g}"
