"""The profile of the validated customers: distribution, missing and unusual values and association by column.

Everything is computed on all rows, label included: a profile is for understanding a table, not for choosing a
model. Columns are profiled one by one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.data.customers import TableOrigin
from churn_assets.data.validation.report import ValidationReport, report_of
from churn_assets.evaluation.metrics import roc_auc
from churn_assets.features.encode import encode_table

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BINS = 28
SHOWN_LEVELS = 30
SPIKE_SHARE = 0.01  # of the rows on one value, in a column of many values
MANY_VALUES = 50
FAR = 3.0  # interquartile ranges beyond the quartiles (Tukey's outer fences, 1977)
COHORT_PARTS = 16


@dataclass(frozen=True)
class Level:
    """One value of a category or boolean: `rows`, `churners` among them and their share (None without rows)."""

    level: str
    rows: int
    churners: int
    churn_rate: float | None


@dataclass(frozen=True)
class Quantiles:
    """Least value, quartiles and greatest value."""

    low: float
    first: float
    median: float
    third: float
    high: float


@dataclass(frozen=True)
class Histogram:
    """Rows of each bin by label; `edges` has one more. `clipped` rows beyond the edges are in the outermost bins."""

    edges: list[float]
    kept: list[int]
    churned: list[int]
    clipped: int


@dataclass(frozen=True)
class Spike:
    """Many rows on one value."""

    value: float
    rows: int


@dataclass(frozen=True)
class UnusualValues:
    """Zeros, negative values, values far beyond the quartiles, a spike: not wrong by themselves, worth a question."""

    zeros: int
    negative: int
    far_out: int
    far_low: float | None
    far_high: float | None
    spike: Spike | None


@dataclass(frozen=True)
class NumberProfile:
    """A number or date (days since 1970-01-01) that has at least one value."""

    quantiles: Quantiles
    mean_churned: float | None
    mean_kept: float | None
    histogram: Histogram
    unusual: UnusualValues


@dataclass(frozen=True)
class ColumnProfile:
    """One column. Shares are 0 to 1; `churn_rate_if_missing` is None without missing values.

    Numbers and dates have `number` (None if empty) and `roc_auc`; booleans `levels` and `roc_auc`; categories `levels`
    and `association` (Cramer's V); ids and texts neither. `levels_not_shown` counts rarer levels.
    """

    name: str
    kind: str
    role: str
    doc: str
    unit: str
    suspect: str
    missing: int
    missing_share: float
    missing_share_churned: float
    missing_share_kept: float
    churn_rate_if_missing: float | None
    distinct: int
    roc_auc: float | None = None
    association: float | None = None
    number: NumberProfile | None = None
    levels: tuple[Level, ...] | None = None
    levels_not_shown: int = 0

    def to_json(self) -> dict[str, Any]:
        """The column as JSON values, with the keys of its kind only."""
        stored = asdict(self)
        number, levels, hidden = stored.pop("number"), stored.pop("levels"), stored.pop("levels_not_shown")
        roc_auc, association = stored.pop("roc_auc"), stored.pop("association")
        match self.kind:
            case Kind.ID | Kind.TEXT:
                return stored
            case Kind.CATEGORY:
                return {**stored, "levels": [*levels], "levels_not_shown": hidden, "association": association}
            case Kind.BOOLEAN:
                return {**stored, "levels": [*levels], "levels_not_shown": hidden, "roc_auc": roc_auc}
        if number is None:
            return {**stored, "quantiles": None, "histogram": None, "roc_auc": None, "odd": None}
        unusual = number.pop("unusual")
        return {**stored, **number, "roc_auc": roc_auc, "odd": unusual}


@dataclass(frozen=True)
class CohortPart:
    """Customers of neighbouring cohorts, from `low` to `high` of the cohort column."""

    low: float
    high: float
    rows: int
    churn_rate: float


@dataclass(frozen=True)
class CohortProfile:
    """Churned share in cohorts of equal size, in the order of the cohort column; of a date the newest are last."""

    column: str
    kind: str
    newest_last: bool
    parts: tuple[CohortPart, ...]

    def to_json(self) -> dict[str, Any]:
        """The cohorts as JSON values."""
        parts = [{"from": p.low, "to": p.high, "rows": p.rows, "churn_rate": p.churn_rate} for p in self.parts]
        return {"column": self.column, "kind": self.kind, "newest_last": self.newest_last, "parts": parts}


@dataclass(frozen=True)
class TableProfile:
    """The profile of a validated table; `columns` are in the contract's order, `cohort` is None without cohorts."""

    title: str
    contract: str
    fingerprint: str
    origin: TableOrigin
    rows: int
    churners: int
    churn_rate: float
    repeated_rows: int
    columns: tuple[ColumnProfile, ...]
    cohort: CohortProfile | None
    validation: ValidationReport | None

    def to_json(self) -> dict[str, Any]:
        """The profile as JSON values, as the asset `data_profile` keeps it."""
        return {
            "format": 1,
            "title": self.title,
            "contract": {"name": self.contract, "fingerprint": self.fingerprint},
            "source": self.origin.source,
            "generated": self.origin.generated,
            "as_of": self.origin.as_of,
            "rows": self.rows,
            "churners": self.churners,
            "churn_rate": self.churn_rate,
            "repeated_rows": self.repeated_rows,
            "columns": [column.to_json() for column in self.columns],
            "cohort": self.cohort.to_json() if self.cohort else None,
            "validation": msgspec.to_builtins(self.validation),
        }


def profile(contract: Contract, customers: pa.Table) -> TableProfile:
    """The profile of a validated table."""
    churned = customers["churned"].to_numpy().astype(bool)
    columns = [c for c in contract.kept_columns if c.role is not Role.KEY]
    encoded = encode_table(contract, customers.select([c.name for c in columns]))
    return TableProfile(
        title=contract.title,
        contract=contract.name,
        fingerprint=contract.fingerprint,
        origin=TableOrigin.of(customers),
        rows=customers.num_rows,
        churners=int(churned.sum()),
        churn_rate=float(churned.mean()),
        repeated_rows=repeated_rows(contract, customers),
        columns=tuple(_column(column, encoded[column.name], churned) for column in columns),
        cohort=_cohort(contract, encoded, churned),
        validation=report_of(customers.schema),
    )


def repeated_rows(contract: Contract, customers: pa.Table) -> int:
    """Rows that are equal to an earlier one except for the customer's id."""
    names = [name for name in customers.column_names if name != contract.key.name]
    distinct = customers.group_by(names).aggregate([]).num_rows if names else 1
    return int(customers.num_rows - distinct)


def roc_auc_alone(values: Floats, churned: Mask) -> float | None:
    """ROC AUC of the column as a score, without missing values; None if only one class has values."""
    known = ~np.isnan(values)
    label = churned[known]
    if label.all() or not label.any():
        return None
    return roc_auc(label.astype(np.float64), values[known])


def cramers_v(codes: npt.NDArray[Any], churned: Mask) -> float | None:
    """Association of categories with the label, 0 to 1, corrected for its bias (Bergsma, 2013)."""
    levels, member = np.unique(codes, return_inverse=True)
    counts = np.stack([np.bincount(member, churned == k, len(levels)) for k in (False, True)])
    total = counts.sum()
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / total
    if len(levels) < 2 or not expected.all() or total < 2:
        return None
    phi = float(((counts - expected) ** 2 / expected).sum() / total)
    rows, width = 2, len(levels)
    phi = max(0.0, phi - (rows - 1) * (width - 1) / (total - 1))
    least = min(rows - (rows - 1) ** 2 / (total - 1), width - (width - 1) ** 2 / (total - 1)) - 1
    return math.sqrt(min(1.0, phi / least)) if least > 0 else None


def _column(column: Column, values: npt.NDArray[Any], churned: Mask) -> ColumnProfile:
    missing = _missing(column, values)
    is_text = column.kind in (Kind.ID, Kind.TEXT)
    result = ColumnProfile(
        name=column.name,
        kind=str(column.kind),
        role=str(column.role),
        doc=column.doc,
        unit=column.unit,
        suspect=column.suspect,
        missing=int(missing.sum()),
        missing_share=float(missing.mean()),
        missing_share_churned=float(missing[churned].mean()),
        missing_share_kept=float(missing[~churned].mean()),
        churn_rate_if_missing=float(churned[missing].mean()) if missing.any() else None,
        distinct=len(set(values[~missing].tolist())) if is_text else 0,
    )
    match column.kind:
        case Kind.ID | Kind.TEXT:
            return result
        case Kind.CATEGORY:
            result = replace(result, association=cramers_v(values, churned))
            return _with_levels(result, _levels(values, column.choices, churned))
        case Kind.BOOLEAN:
            codes = np.where(missing, -1, np.nan_to_num(values)).astype(np.int64)
            result = replace(result, roc_auc=roc_auc_alone(values, churned))
            return _with_levels(result, _levels(codes, ("no", "yes"), churned))
    return _with_number(result, np.asarray(values, dtype=np.float64), churned)


def _missing(column: Column, values: npt.NDArray[Any]) -> Mask:
    if column.kind in (Kind.ID, Kind.TEXT):
        return np.array([value is None for value in values], dtype=bool)
    return np.asarray(values < 0 if column.kind is Kind.CATEGORY else np.isnan(values))


def _levels(codes: npt.NDArray[Any], names: tuple[str, ...], churned: Mask) -> list[Level]:
    """All levels, most frequent first."""
    levels = []
    for code, name in enumerate(names):
        inside = codes == code
        rows, churners = int(inside.sum()), int(churned[inside].sum())
        levels.append(Level(name, rows, churners, churners / rows if rows else None))
    return sorted(levels, key=lambda level: -level.rows)


def _with_levels(column: ColumnProfile, levels: list[Level]) -> ColumnProfile:
    return replace(
        column,
        distinct=sum(1 for level in levels if level.rows),
        levels=tuple(levels[:SHOWN_LEVELS]),
        levels_not_shown=max(0, len(levels) - SHOWN_LEVELS),
    )


def _with_number(column: ColumnProfile, values: Floats, churned: Mask) -> ColumnProfile:
    known = ~np.isnan(values)
    x, label = values[known], churned[known]
    if not len(x):
        return column
    low, first, middle, third, high = (float(q) for q in np.quantile(x, [0, 0.25, 0.5, 0.75, 1]))
    distinct, counts = np.unique(x, return_counts=True)
    number = NumberProfile(
        quantiles=Quantiles(low, first, middle, third, high),
        mean_churned=float(x[label].mean()) if label.any() else None,
        mean_kept=float(x[~label].mean()) if (~label).any() else None,
        histogram=_histogram(x, label),
        unusual=_unusual(x, distinct, counts, first, third),
    )
    return replace(column, distinct=len(distinct), roc_auc=roc_auc_alone(values, churned), number=number)


def _histogram(x: Floats, label: Mask) -> Histogram:
    """Equal bins over the middle 99 %, the rest in the outermost bins: one huge value must not hide the others."""
    low, high = np.quantile(x, [0.005, 0.995])
    if low == high:
        low, high = float(x.min()), float(x.max())
    whole = bool(np.all(x == np.round(x)))
    bins = BINS
    if whole and high - low < BINS:
        low, high, bins = low - 0.5, high + 0.5, int(high - low) + 1
    elif low == high:
        low, high, bins = low - 0.5, high + 0.5, 1
    edges = np.linspace(low, high, bins + 1)
    clipped = np.clip(x, edges[0], edges[-1])
    return Histogram(
        edges=edges.round(6).tolist(),
        kept=np.histogram(clipped[~label], edges)[0].tolist(),
        churned=np.histogram(clipped[label], edges)[0].tolist(),
        clipped=int(np.sum((x < edges[0]) | (x > edges[-1]))),
    )


def _unusual(x: Floats, distinct: Floats, counts: npt.NDArray[np.int64], first: float, third: float) -> UnusualValues:
    reach = FAR * (third - first)
    far = (x < first - reach) | (x > third + reach) if reach > 0 else np.zeros(len(x), dtype=bool)
    top = int(np.argmax(counts))
    spike = len(distinct) > MANY_VALUES and counts[top] > SPIKE_SHARE * len(x) and distinct[top] != 0.0
    return UnusualValues(
        zeros=int(np.sum(x == 0.0)),
        negative=int(np.sum(x < 0.0)),
        far_out=int(far.sum()),
        far_low=float(x[far].min()) if far.any() else None,
        far_high=float(x[far].max()) if far.any() else None,
        spike=Spike(float(distinct[top]), int(counts[top])) if spike else None,
    )


def _cohort(contract: Contract, encoded: dict[str, npt.NDArray[Any]], churned: Mask) -> CohortProfile | None:
    """None without a cohort column, or if all customers are of one cohort."""
    name = contract.time.cohort
    if name is None or name not in encoded:
        return None
    values = np.asarray(encoded[name], dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    parts = [part for part in np.array_split(order, COHORT_PARTS) if len(part)]
    if len(parts) < 2 or values[order[0]] == values[order[-1]]:
        return None
    kind = contract.column(name).kind
    return CohortProfile(
        column=name,
        kind=str(kind),
        newest_last=kind is Kind.DATE,
        parts=tuple(
            CohortPart(float(values[part[0]]), float(values[part[-1]]), len(part), float(churned[part].mean()))
            for part in parts
        ),
    )
