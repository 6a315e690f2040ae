"""The profile of the validated customers: distribution, missing and unusual values and association by column.

Everything is computed on all rows, label included: a profile is for understanding a table, not for choosing a
model. Columns are profiled one by one.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.data.customers import TableOrigin
from churn_assets.data.relations import Correlations, EffectSize, cohens_d, correlations, d_of_association
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
MISSING_COLUMNS = 12  # whose missing share by cohort is kept
_ORDERED = (Kind.NUMBER, Kind.INTEGER, Kind.DATE, Kind.BOOLEAN)


class Level(msgspec.Struct, frozen=True):
    """One value of a category or boolean: `rows`, `churners` among them and their share (None without rows)."""

    level: str
    rows: int
    churners: int
    churn_rate: float | None


class Quantiles(msgspec.Struct, frozen=True):
    """Least value, quartiles and greatest value."""

    low: float
    first: float
    median: float
    third: float
    high: float


class Histogram(msgspec.Struct, frozen=True):
    """Rows of each bin by label; `edges` has one more. `clipped` rows beyond the edges are in the outermost bins."""

    edges: list[float]
    kept: list[int]
    churned: list[int]
    clipped: int


class Spike(msgspec.Struct, frozen=True):
    """Many rows on one value."""

    value: float
    rows: int


class UnusualValues(msgspec.Struct, frozen=True):
    """Zeros, negative values, values far beyond the quartiles, a spike: not wrong by themselves, worth a question."""

    zeros: int
    negative: int
    far_out: int
    far_low: float | None
    far_high: float | None
    spike: Spike | None


class ColumnProfile(msgspec.Struct, frozen=True):
    """One column; ids and texts have no more. Shares are 0 to 1; `churn_rate_if_missing` is None without missing."""

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


class CategoryProfile(ColumnProfile, frozen=True):
    """A category; `levels_not_shown` counts rarer levels, `association` is Cramer's V."""

    levels: list[Level]
    levels_not_shown: int
    association: float | None


class BooleanProfile(ColumnProfile, frozen=True):
    """A yes/no column, with the ROC AUC of the column alone."""

    levels: list[Level]
    levels_not_shown: int
    roc_auc: float | None


class NumberProfile(ColumnProfile, frozen=True, rename={"unusual": "odd"}):
    """A number or date (days since 1970-01-01); all are None without a value."""

    roc_auc: float | None = None
    quantiles: Quantiles | None = None
    mean_churned: float | None = None
    mean_kept: float | None = None
    histogram: Histogram | None = None
    unusual: UnusualValues | None = None


class CohortPart(msgspec.Struct, frozen=True, rename={"low": "from", "high": "to"}):
    """Customers of neighbouring cohorts, from `low` to `high` of the cohort column."""

    low: float
    high: float
    rows: int
    churn_rate: float


class CohortProfile(msgspec.Struct, frozen=True):
    """Churned share in cohorts of equal size, in the order of the cohort column; of a date the newest are last.
    `missing` is the missing share of each part by column, of the columns in which it varies most."""

    column: str
    kind: str
    newest_last: bool
    parts: list[CohortPart]
    missing: dict[str, list[float]] = {}


class ProfiledContract(msgspec.Struct, frozen=True):
    """The contract under which the table was validated."""

    name: str
    fingerprint: str


class TableProfile(msgspec.Struct, frozen=True):
    """The profile of a validated table; `columns` are in the contract's order, `cohort` is None without cohorts.

    `source`, `generated` and `as_of` are those of its `TableOrigin`. `effects` have the largest first; `correlations`
    are of the columns with the largest effects.
    """

    title: str
    contract: ProfiledContract
    source: str
    generated: bool
    as_of: str
    rows: int
    churners: int
    churn_rate: float
    repeated_rows: int
    columns: list[ColumnProfile]
    cohort: CohortProfile | None
    validation: ValidationReport | None
    format: int = 1
    effects: list[EffectSize] = []
    correlations: Correlations = Correlations([], [])

    def by_roc_auc(self) -> list[tuple[ColumnProfile, float]]:
        """Columns with a ROC AUC of their own, and it, the farthest from 0.5 first."""
        ordered = [c for c in self.columns if isinstance(c, BooleanProfile | NumberProfile)]
        known = [(c, c.roc_auc) for c in ordered if c.roc_auc is not None]
        return sorted(known, key=lambda pair: -abs(pair[1] - 0.5))


def profile(contract: Contract, customers: pa.Table) -> TableProfile:
    """The profile of a validated table."""
    churned = customers["churned"].to_numpy().astype(bool)
    columns = contract.logged_columns
    encoded = encode_table(contract, customers.select([c.name for c in columns]))
    origin = TableOrigin.of(customers)
    profiles = [_column(column, encoded[column.name], churned) for column in columns]
    effects = _effects(profiles, encoded, churned)
    kinds = {column.name: column.kind for column in columns}
    ordered = [effect.column for effect in effects if kinds[effect.column] in _ORDERED]
    return TableProfile(
        title=contract.title,
        contract=ProfiledContract(contract.name, contract.fingerprint),
        source=origin.source,
        generated=origin.generated,
        as_of=origin.as_of,
        rows=customers.num_rows,
        churners=int(churned.sum()),
        churn_rate=float(churned.mean()),
        repeated_rows=repeated_rows(contract, customers),
        columns=profiles,
        cohort=_cohort(contract, encoded, churned),
        validation=report_of(customers.schema),
        effects=effects,
        correlations=correlations({name: np.asarray(encoded[name], dtype=np.float64) for name in ordered}),
    )


def _effects(columns: list[ColumnProfile], encoded: dict[str, npt.NDArray[Any]], churned: Mask) -> list[EffectSize]:
    """Cohen's d of every column that has one, the largest first."""
    effects = []
    for column in columns:
        match column:
            case CategoryProfile():
                effect = d_of_association(column.name, column.association, float(churned.mean()))
            case NumberProfile() | BooleanProfile():
                effect = cohens_d(column.name, np.asarray(encoded[column.name], dtype=np.float64), churned)
            case _:
                continue
        effects += [effect] if effect else []
    return sorted(effects, key=lambda effect: -abs(effect.d))


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
    common: dict[str, Any] = {
        **{name: getattr(column, name) for name in ("name", "kind", "role", "doc", "unit", "suspect")},
        "missing": int(missing.sum()),
        "missing_share": float(missing.mean()),
        "missing_share_churned": float(missing[churned].mean()),
        "missing_share_kept": float(missing[~churned].mean()),
        "churn_rate_if_missing": float(churned[missing].mean()) if missing.any() else None,
    }
    match column.kind:
        case Kind.ID | Kind.TEXT:
            return ColumnProfile(**common, distinct=len(set(values[~missing].tolist())))
        case Kind.CATEGORY:
            levels = _levels(values, column.choices, churned)
            return CategoryProfile(**common, **levels, association=cramers_v(values, churned))
        case Kind.BOOLEAN:
            levels = _levels(values, ("no", "yes"), churned)
            return BooleanProfile(**common, **levels, roc_auc=roc_auc_alone(values, churned))
    return _number(common, np.asarray(values, dtype=np.float64), churned)


def _missing(column: Column, values: npt.NDArray[Any]) -> Mask:
    if column.kind in (Kind.ID, Kind.TEXT):
        return np.array([value is None for value in values], dtype=bool)
    return np.asarray(values < 0 if column.kind is Kind.CATEGORY else np.isnan(values))


def _levels(codes: npt.NDArray[Any], names: tuple[str, ...], churned: Mask) -> dict[str, Any]:
    """The most frequent levels, and how many there are; a missing value is of none."""
    levels = []
    for code, name in enumerate(names):
        of_level = churned[codes == code]
        levels.append(
            Level(name, len(of_level), int(of_level.sum()), float(of_level.mean()) if len(of_level) else None)
        )
    levels.sort(key=lambda level: -level.rows)
    return {
        "distinct": sum(1 for level in levels if level.rows),
        "levels": levels[:SHOWN_LEVELS],
        "levels_not_shown": max(0, len(levels) - SHOWN_LEVELS),
    }


def _number(common: dict[str, Any], values: Floats, churned: Mask) -> NumberProfile:
    known = ~np.isnan(values)
    x, label = values[known], churned[known]
    if not len(x):
        return NumberProfile(**common, distinct=0)
    low, first, middle, third, high = (float(q) for q in np.quantile(x, [0, 0.25, 0.5, 0.75, 1]))
    distinct, counts = np.unique(x, return_counts=True)
    return NumberProfile(
        **common,
        distinct=len(distinct),
        roc_auc=roc_auc_alone(values, churned),
        quantiles=Quantiles(low, first, middle, third, high),
        mean_churned=float(x[label].mean()) if label.any() else None,
        mean_kept=float(x[~label].mean()) if (~label).any() else None,
        histogram=_histogram(x, label),
        unusual=_unusual(x, distinct, counts, first, third),
    )


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
        parts=[
            CohortPart(float(values[part[0]]), float(values[part[-1]]), len(part), float(churned[part].mean()))
            for part in parts
        ],
        missing=_missing_by_part(contract, encoded, parts),
    )


def _missing_by_part(
    contract: Contract, encoded: dict[str, npt.NDArray[Any]], parts: list[npt.NDArray[np.int64]]
) -> dict[str, list[float]]:
    """Missing share of each part, of the columns in which it varies most; none of a column without missing values."""
    shares = {}
    for column in contract.scoring_columns:
        missing = _missing(column, encoded[column.name])
        if missing.any():
            shares[column.name] = [float(missing[part].mean()) for part in parts]
    by_spread = sorted(shares.items(), key=lambda item: min(item[1]) - max(item[1]))
    return dict(by_spread[:MISSING_COLUMNS])
