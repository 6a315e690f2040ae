"""Rows with a label and both models' scores: the frozen holdout, the rolling holdout and cross-fitted recent labels.

The frozen holdout is clean and old. Recent labels contain what has changed, and what a faulty pipeline has written. Of
recent labels, 30 % are set apart (the rolling holdout: no challenger learns from them); the others trained the
challenger, and are scored by models of its recipe that were fitted without them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import NUMERIC_KINDS, Column, Contract, Kind
from churn_assets.scoring.scorer import Scorer
from churn_assets.training.feature_table import as_of_of
from churn_assets.training.labelled_rows import in_recent_windows

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

HOLDOUT, RECENT, ROLLING = "the frozen holdout", "recent labels", "the rolling holdout"
BANDS = 3
_COMMON = {**dict.fromkeys(NUMERIC_KINDS, pa.float64()), Kind.BOOLEAN: pa.bool_(), Kind.DATE: pa.date32()}


@dataclass(frozen=True)
class Evidence:
    """`churned` (n,) 0 or 1, calibrated probabilities (n,) of both models, `segments` by name, each (n,) bool;
    `name` is what messages call the rows. `cross_fitted` (n,) says which of the challenger's are not its own but those
    of a model of its recipe that was fitted without the row's customer; None where all are its own."""

    name: str
    churned: Labels
    champion: Floats
    challenger: Floats
    segments: Mapping[str, Mask] = field(default_factory=dict)
    cross_fitted: Mask | None = None

    @property
    def churners(self) -> int:
        """How many churned."""
        return int(np.sum(self.churned))

    @property
    def fewest(self) -> int:
        """Rows of the rarer class."""
        return min(self.churners, len(self.churned) - self.churners)

    @property
    def cross_fitted_rows(self) -> int:
        """How many rows are cross-fitted."""
        return 0 if self.cross_fitted is None else int(np.sum(self.cross_fitted))

    def rolling(self) -> Evidence:
        """The rolling holdout: the rows that the challenger itself scored, without segments."""
        own = np.ones(len(self.churned), dtype=bool) if self.cross_fitted is None else ~self.cross_fitted
        return Evidence(ROLLING, self.churned[own], self.champion[own], self.challenger[own])


@dataclass(frozen=True)
class CrossFitted:
    """Labelled predictions that a challenger was trained on: `rows` as of the validated table, and `challenger` (n,),
    the probabilities of models of its recipe that were fitted without the customer of the row."""

    rows: pa.Table
    challenger: Floats


def holdout_evidence(contract: Contract, champion: Scorer, challenger: Scorer, holdout: pa.Table) -> Evidence:
    """Both models on typed rows with `churned`, each at its day `row_as_of` if there is such a column, else all at
    the snapshot day in the schema's metadata."""
    if not holdout.num_rows:
        return no_evidence(HOLDOUT)
    as_of = _as_of(holdout)
    scores = [scorer.score_table(holdout, as_of).probability for scorer in (champion, challenger)]
    return Evidence(HOLDOUT, _labels(holdout), scores[0], scores[1], segments_of(contract, holdout))


def recent_evidence(
    contract: Contract,
    champion: Scorer,
    challenger: Scorer,
    labelled: pa.Table | None,
    cross_fitted: CrossFitted | None = None,
) -> Evidence:
    """Both models on recent final labels: those of `labelled_predictions` that are set apart, see `recent_rows`, and
    those of `cross_fitted`, which the champion has not learned from. Each row is scored at its own day."""
    apart = None if labelled is None else recent_rows(contract, labelled)
    apart = apart if apart is not None and apart.num_rows else None
    parts = [table for table in (apart, cross_fitted.rows if cross_fitted else None) if table is not None]
    if not sum(table.num_rows for table in parts):
        return no_evidence()
    champions = [champion.score_table(table, _as_of(table)).probability for table in parts]
    challengers = [] if apart is None else [challenger.score_table(apart, _as_of(apart)).probability]
    if cross_fitted is not None:
        challengers.append(cross_fitted.challenger)
    together = pa.concat_tables([_inputs(contract, table) for table in parts], promote_options="default")
    own = 0 if apart is None else apart.num_rows
    return Evidence(
        RECENT,
        np.concatenate([_labels(table) for table in parts]),
        np.concatenate(champions),
        np.concatenate(challengers),
        segments_of(contract, together),
        np.arange(together.num_rows) >= own,
    )


def recent_rows(contract: Contract, labelled: pa.Table) -> pa.Table:
    """The rows of `labelled_predictions` that are set apart for the gate and recent, the last of each customer, newest
    first, with the contract's column names. `in_recent_windows` says what is recent."""
    keep = pc.and_(pc.equal(labelled["label_state"], "final"), pc.equal(labelled["fingerprint"], contract.fingerprint))
    rows = labelled.filter(pc.and_(keep, pc.is_valid(labelled["churned"])))
    rows = rows.filter(pa.array(in_recent_windows(rows, contract)))
    rows = rows.filter(pc.equal(rows["part"], "gate"))
    rows = rows.take(pc.sort_indices(rows, sort_keys=[("seq", "descending")]))
    customer = pc.coalesce(rows["customer_id"].cast(pa.string()), rows["prediction_id"].cast(pa.string()))
    _, first = np.unique(customer.to_numpy(zero_copy_only=False).astype(str), return_index=True)
    rows = rows.take(pa.array(np.sort(first)))
    names = {f"x_{column.name}": column.name for column in contract.logged_columns}
    return rows.select(["churned", "as_of", *names]).rename_columns(["churned", "row_as_of", *names.values()])


def no_evidence(name: str = RECENT) -> Evidence:
    """No rows at all."""
    return Evidence(name, np.empty(0, np.int8), np.empty(0), np.empty(0))


def _labels(rows: pa.Table) -> Labels:
    return np.asarray(rows["churned"].cast(pa.int8()).to_numpy())


def _inputs(contract: Contract, rows: pa.Table) -> pa.Table:
    """The columns a customer is scored by that are there, in types that both a log and a table can be cast to."""
    columns = [column for column in contract.scoring_columns if column.name in rows.column_names]
    return pa.table({column.name: rows[column.name].cast(_COMMON.get(column.kind, pa.string())) for column in columns})


def _as_of(rows: pa.Table) -> float | Floats:
    return _days(rows["row_as_of"]) if "row_as_of" in rows.column_names else as_of_of(rows)


def segments_of(contract: Contract, rows: pa.Table) -> dict[str, Mask]:
    """Masks (n,) by name: every choice of a category, both sides of a yes/no, and bands of equal size of every
    number and date; missing values are a segment of their own."""
    segments: dict[str, Mask] = {}
    for column in contract.scoring_columns:
        if column.name in rows.column_names:  # rows frozen before a column came have it not
            segments |= _column_segments(column, rows[column.name])
    return segments


def _column_segments(column: Column, values: pa.ChunkedArray) -> dict[str, Mask]:
    missing = values.is_null().to_numpy(zero_copy_only=False)
    segments = {f"{column.name}: missing": missing} if missing.any() else {}
    if column.kind is Kind.CATEGORY or column.kind is Kind.BOOLEAN:
        segments |= _levels(column.name, values)
    elif column.kind in NUMERIC_KINDS or column.kind is Kind.DATE:
        segments |= _bands(column.name, values, missing)
    return segments


def _levels(name: str, values: pa.ChunkedArray) -> dict[str, Mask]:
    cells = values.cast(pa.string())
    levels = pc.unique(cells).drop_null().to_pylist()
    return {
        f"{name}: {level}": pc.fill_null(pc.equal(cells, level), False).to_numpy(zero_copy_only=False)
        for level in sorted(levels)
    }


def _bands(name: str, values: pa.ChunkedArray, missing: Mask) -> dict[str, Mask]:
    is_date = pa.types.is_date(values.type)
    numbers = values.cast(pa.int32()).cast(pa.float64()) if is_date else values.cast(pa.float64())
    cells = pc.fill_null(numbers, float("nan")).to_numpy(zero_copy_only=False)
    present = cells[~missing & np.isfinite(cells)]
    if not len(present) or np.min(present) == np.max(present):
        return {}
    bands = {}
    for low, high in itertools.pairwise(_band_edges(present)):
        mask = (cells >= low) & (cells < high)
        if mask.any():
            bounds = [_format(bound, is_date) for bound in (cells[mask].min(), cells[mask].max())]
            bands[f"{name}: {bounds[0]} to {bounds[1]}"] = mask
    return bands


def _band_edges(present: Floats) -> Floats:
    distinct = np.unique(present)
    inner = distinct[1:] if len(distinct) <= BANDS else np.quantile(present, np.arange(1, BANDS) / BANDS)
    return np.unique([distinct[0], *inner, np.inf])


def _format(value: float, is_date: bool) -> str:
    return str(np.datetime64(int(value), "D")) if is_date else f"{value:g}"


def _days(instants: pa.ChunkedArray) -> Floats:
    # Only an unknown date is null; ages counted from it are then missing, as they were in training.
    days = instants.cast(pa.timestamp("us")).cast(pa.date32(), safe=False).cast(pa.int32()).cast(pa.float64())
    return np.asarray(days.to_numpy(), dtype=np.float64)
