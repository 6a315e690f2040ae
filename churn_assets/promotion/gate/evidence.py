"""The rows on which two models are compared: labels, both scores of each row, and segments.

Two kinds, because each is blind to what the other sees: the frozen holdout is clean and old, so it does
not know what has changed; recent labels know, and are wrong the day a pipeline feeds the log nonsense.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import NUMERIC_KINDS, Contract, Kind
from churn_assets.scoring.scorer import Scorer
from churn_assets.training.feature_table import as_of_of

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

NEWEST = 20_000  # recent customers that are looked at; more would only tell more of a past that is over
BANDS = 3
ROW_AS_OF = "row_as_of"


@dataclass(frozen=True)
class Evidence:
    """`churned` (n,) 0 or 1, calibrated probabilities (n,) of both models, `segments` by words, each (n,) bool.

    `name` is how the rows are called to people.
    """

    name: str
    churned: Labels
    champion: Floats
    challenger: Floats
    segments: Mapping[str, Mask] = field(default_factory=dict)

    @property
    def churners(self) -> int:
        """How many churned."""
        return int(np.sum(self.churned))

    @property
    def fewest(self) -> int:
        """Rows of the rarer class."""
        return min(self.churners, len(self.churned) - self.churners)


def holdout_evidence(contract: Contract, champion: Scorer, challenger: Scorer, holdout: pa.Table) -> Evidence:
    """Both models on typed rows with `churned`, each at its day `row_as_of` if there is such a column, else all at
    the snapshot day in the schema's metadata."""
    if ROW_AS_OF in holdout.column_names:
        as_of: float | Floats = _days(holdout[ROW_AS_OF])
    else:
        as_of = as_of_of(holdout)
    return _scored("the frozen holdout", contract, champion, challenger, holdout, as_of)


def recent_evidence(contract: Contract, champion: Scorer, challenger: Scorer, labelled: pa.Table) -> Evidence:
    """Both models on `labelled_predictions`: final labels set apart for the gate, the last prediction of each
    of the newest `NEWEST` customers, each row at its own `as_of`, under this contract's fingerprint."""
    rows = recent_rows(contract, labelled)
    return _scored("recent labels", contract, champion, challenger, rows, _days(rows["as_of"]))


def recent_rows(contract: Contract, labelled: pa.Table) -> pa.Table:
    """The rows of `labelled_predictions` that a duel looks at, newest first, with the contract's column names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keep = pc.and_(pc.equal(labelled["label_state"], "final"), pc.equal(labelled["part"], "gate"))
    keep = pc.and_(keep, pc.equal(labelled["fingerprint"], contract.fingerprint))
    rows = labelled.filter(pc.and_(keep, pc.is_valid(labelled["churned"])))
    rows = rows.take(pc.sort_indices(rows, sort_keys=[("seq", "descending")]))
    who = pc.coalesce(rows["customer_id"].cast(pa.string()), rows["prediction_id"].cast(pa.string()))
    _, first = np.unique(who.to_numpy(zero_copy_only=False).astype(str), return_index=True)
    rows = rows.take(pa.array(np.sort(first)[:NEWEST]))
    named = {f"x_{column.name}": column.name for column in contract.scoring_columns}
    return rows.select(["churned", "as_of", *named]).rename_columns(["churned", "as_of", *named.values()])


def no_evidence(name: str = "recent labels") -> Evidence:
    """No rows at all."""
    return Evidence(name, np.empty(0, np.int8), np.empty(0), np.empty(0))


def _scored(
    name: str, contract: Contract, champion: Scorer, challenger: Scorer, rows: pa.Table, as_of: float | Floats
) -> Evidence:
    import pyarrow as pa

    if not rows.num_rows:
        return no_evidence(name)
    churned = rows["churned"].cast(pa.int8()).to_numpy()
    scores = [scorer.score_table(rows, as_of).probability for scorer in (champion, challenger)]
    return Evidence(name, churned, scores[0], scores[1], segments_of(contract, rows))


def segments_of(contract: Contract, rows: pa.Table) -> dict[str, Mask]:
    """Masks (n,) by words: every choice of a category, both sides of a yes/no, and bands of equal size of every
    number and date; missing values are a segment of their own."""
    found: dict[str, Mask] = {}
    for column in contract.scoring_columns:
        values = rows[column.name]
        missing = values.is_null().to_numpy(zero_copy_only=False)
        if missing.any():
            found[f"{column.name}: missing"] = missing
        if column.kind is Kind.CATEGORY or column.kind is Kind.BOOLEAN:
            found.update(_levels(column.name, values))
        elif column.kind in NUMERIC_KINDS or column.kind is Kind.DATE:
            found.update(_bands(column.name, values, missing))
    return found


def _levels(name: str, values: pa.ChunkedArray) -> dict[str, Mask]:
    import pyarrow as pa
    import pyarrow.compute as pc

    levels = pc.unique(values.cast(pa.string())).drop_null().to_pylist()
    cells = values.cast(pa.string())
    return {
        f"{name}: {level}": pc.fill_null(pc.equal(cells, level), False).to_numpy(zero_copy_only=False)
        for level in sorted(levels)
    }


def _bands(name: str, values: pa.ChunkedArray, missing: Mask) -> dict[str, Mask]:
    import pyarrow as pa
    import pyarrow.compute as pc

    dates = pa.types.is_date(values.type)
    numbers = values.cast(pa.int32()).cast(pa.float64()) if dates else values.cast(pa.float64())
    cells = pc.fill_null(numbers, float("nan")).to_numpy(zero_copy_only=False)
    present = cells[~missing & np.isfinite(cells)]
    if not len(present) or np.min(present) == np.max(present):
        return {}
    distinct = np.unique(present)
    inner = distinct[1:] if len(distinct) <= BANDS else np.quantile(present, np.arange(1, BANDS) / BANDS)
    edges = np.unique([distinct[0], *inner, np.inf])
    found = {}
    for low, high in itertools.pairwise(edges):
        mask = (cells >= low) & (cells < high)
        if mask.any():
            found[f"{name}: {_shown(cells[mask].min(), dates)} to {_shown(cells[mask].max(), dates)}"] = mask
    return found


def _shown(value: float, date: bool) -> str:
    return str(np.datetime64(int(value), "D")) if date else f"{value:g}"


def _days(instants: pa.ChunkedArray) -> Floats:
    import pyarrow as pa

    # Only a date that nobody knows is null; ages counted from it are then missing, as they were in training.
    days = instants.cast(pa.timestamp("us")).cast(pa.date32(), safe=False).cast(pa.int32()).cast(pa.float64())
    return np.asarray(days.to_numpy(), dtype=np.float64)
