"""What the validated customers look like, column by column, as one JSON value.

Everything is measured on all rows, label included: it is for looking at a table, not for choosing a
model by. Features of other rows are never looked at.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.data.customers import TableOrigin
from churn_assets.data.validation.report import report_of
from churn_assets.features.encode import encode_table

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BINS = 28
SHOWN_LEVELS = 30
SPIKE_SHARE = 0.01  # of the rows on one value, in a column of many values
MANY_VALUES = 50
FAR = 3.0  # interquartile ranges beyond the quartiles (Tukey's outer fences, 1977)
COHORT_PARTS = 16


def profile(contract: Contract, customers: pa.Table) -> dict[str, Any]:
    """The profile of a validated table: rows, a list of columns in the contract's order, churn by cohort."""
    churned = customers["churned"].to_numpy().astype(bool)
    columns = [c for c in contract.kept_columns if c.role is not Role.KEY]
    encoded = encode_table(contract, customers.select([c.name for c in columns]))
    origin, report = TableOrigin.of(customers), report_of(customers.schema)
    return {
        "format": 1,
        "title": contract.title,
        "contract": {"name": contract.name, "fingerprint": contract.fingerprint},
        "source": origin.source,
        "generated": origin.generated,
        "as_of": origin.as_of,
        "rows": customers.num_rows,
        "churners": int(churned.sum()),
        "churn_rate": float(churned.mean()),
        "repeated_rows": repeated_rows(contract, customers),
        "columns": [_column(column, encoded[column.name], churned) for column in columns],
        "cohort": _cohort(contract, encoded, churned),
        "validation": report.to_json() if report else None,
    }


def repeated_rows(contract: Contract, customers: pa.Table) -> int:
    """Rows that say the same as an earlier one, the customer's id apart."""
    names = [name for name in customers.column_names if name != contract.key.name]
    distinct = customers.group_by(names).aggregate([]).num_rows if names else 1
    return int(customers.num_rows - distinct)


def roc_auc_alone(values: Floats, churned: Mask) -> float | None:
    """Chance that a churner's value is above a kept customer's, ties half; missing values are left out."""
    known = ~np.isnan(values)
    label = churned[known]
    hits, others = int(label.sum()), int((~label).sum())
    if not hits or not others:
        return None
    _, member, count = np.unique(values[known], return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2.0  # mean rank of each distinct value
    return float((rank[member][label].sum() - hits * (hits + 1) / 2.0) / (hits * others))


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


def _column(column: Column, values: npt.NDArray[Any], churned: Mask) -> dict[str, Any]:
    missing = _missing(column, values)
    found: dict[str, Any] = {
        "name": column.name,
        "kind": str(column.kind),
        "role": str(column.role),
        "doc": column.doc,
        "unit": column.unit,
        "suspect": column.suspect,
        "missing": int(missing.sum()),
        "missing_share": float(missing.mean()),
        "missing_share_churned": float(missing[churned].mean()),
        "missing_share_kept": float(missing[~churned].mean()),
        "churn_rate_if_missing": float(churned[missing].mean()) if missing.any() else None,
    }
    match column.kind:
        case Kind.ID | Kind.TEXT:
            return {**found, "distinct": len(set(values[~missing].tolist()))}
        case Kind.CATEGORY:
            return {**found, **_levels(values, column.choices, churned), "association": cramers_v(values, churned)}
        case Kind.BOOLEAN:
            codes = np.where(missing, -1, np.nan_to_num(values)).astype(np.int64)
            return {**found, **_levels(codes, ("no", "yes"), churned), "roc_auc": roc_auc_alone(values, churned)}
    return {**found, **_numbers(np.asarray(values, dtype=np.float64), churned)}


def _missing(column: Column, values: npt.NDArray[Any]) -> Mask:
    if column.kind in (Kind.ID, Kind.TEXT):
        return np.array([value is None for value in values], dtype=bool)
    return np.asarray(values < 0 if column.kind is Kind.CATEGORY else np.isnan(values))


def _levels(codes: npt.NDArray[Any], names: tuple[str, ...], churned: Mask) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for code, name in enumerate(names):
        inside = codes == code
        count, gone = int(inside.sum()), int(churned[inside].sum())
        rows.append({"level": name, "rows": count, "churners": gone, "churn_rate": gone / count if count else None})
    rows.sort(key=lambda row: -row["rows"])
    return {
        "distinct": sum(1 for row in rows if row["rows"]),
        "levels": rows[:SHOWN_LEVELS],
        "levels_not_shown": max(0, len(rows) - SHOWN_LEVELS),
    }


def _numbers(values: Floats, churned: Mask) -> dict[str, Any]:
    known = ~np.isnan(values)
    x, label = values[known], churned[known]
    if not len(x):
        return {"distinct": 0, "quantiles": None, "histogram": None, "roc_auc": None, "odd": None}
    low, first, middle, third, high = (float(q) for q in np.quantile(x, [0, 0.25, 0.5, 0.75, 1]))
    distinct, counts = np.unique(x, return_counts=True)
    return {
        "distinct": len(distinct),
        "quantiles": {"low": low, "first": first, "median": middle, "third": third, "high": high},
        "mean_churned": float(x[label].mean()) if label.any() else None,
        "mean_kept": float(x[~label].mean()) if (~label).any() else None,
        "histogram": _histogram(x, label),
        "roc_auc": roc_auc_alone(values, churned),
        "odd": _odd(x, distinct, counts, first, third),
    }


def _histogram(x: Floats, label: Mask) -> dict[str, Any]:
    """Equal bins over the middle 99 %, the rest in the outermost: one giant must not hide the others."""
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
    held = np.clip(x, edges[0], edges[-1])
    return {
        "edges": edges.round(6).tolist(),
        "kept": np.histogram(held[~label], edges)[0].tolist(),
        "churned": np.histogram(held[label], edges)[0].tolist(),
        "clipped": int(np.sum((x < edges[0]) | (x > edges[-1]))),
    }


def _odd(x: Floats, distinct: Floats, counts: npt.NDArray[np.int64], first: float, third: float) -> dict[str, Any]:
    """Spikes, values far out, zeros and negative values: not wrong by themselves, worth a question."""
    reach = FAR * (third - first)
    far = (x < first - reach) | (x > third + reach) if reach > 0 else np.zeros(len(x), dtype=bool)
    top = int(np.argmax(counts))
    spike = len(distinct) > MANY_VALUES and counts[top] > SPIKE_SHARE * len(x) and distinct[top] != 0.0
    return {
        "zeros": int(np.sum(x == 0.0)),
        "negative": int(np.sum(x < 0.0)),
        "far_out": int(far.sum()),
        "far_low": float(x[far].min()) if far.any() else None,
        "far_high": float(x[far].max()) if far.any() else None,
        "spike": {"value": float(distinct[top]), "rows": int(counts[top])} if spike else None,
    }


def _cohort(contract: Contract, encoded: dict[str, npt.NDArray[Any]], churned: Mask) -> dict[str, Any] | None:
    """Churned share in cohorts of equal size, oldest first; None without a cohort that separates any."""
    name = contract.time.cohort
    if name is None or name not in encoded:
        return None
    values = np.asarray(encoded[name], dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    parts = [part for part in np.array_split(order, COHORT_PARTS) if len(part)]
    if len(parts) < 2 or values[order[0]] == values[order[-1]]:
        return None
    date = contract.column(name).kind is Kind.DATE
    return {
        "column": name,
        "kind": str(contract.column(name).kind),
        "newest_last": date,
        "parts": [
            {
                "from": float(values[part[0]]),
                "to": float(values[part[-1]]),
                "rows": len(part),
                "churn_rate": float(churned[part].mean()),
            }
            for part in parts
        ],
    }
