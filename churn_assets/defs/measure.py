"""Small facts about tables that assets report and check."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def churn_rate(features: pa.Table) -> float:
    """Share of churned customers."""
    return float(pc.mean(features["churned"]).as_py())


def split_parts(splits: pa.Table, customers: pa.Table) -> list[dict[str, Any]]:
    """Rows and churned share of each part of each split."""
    rows = []
    for name in ("random", "out_of_time"):
        for part in ("train", "validation", "test", "aside"):
            label = customers["churned"].filter(pc.fill_null(pc.equal(splits[name], part), False))
            if len(label):
                rows.append({"split": name, "part": part, "rows": len(label), "churned_share": pc.mean(label).as_py()})
    return rows


def infinite_columns(features: pa.Table) -> list[str]:
    """Names of columns that hold an infinite number."""
    numbers = [n for n in features.column_names if pa.types.is_floating(features.schema.field(n).type)]
    return [n for n in numbers if pc.any(pc.is_inf(features[n])).as_py()]


def constant_columns(features: pa.Table) -> list[str]:
    """Names of features that have one value only, missing counted as one."""
    told = [n for n in features.column_names if n not in ("customer_id", "churned")]
    return [n for n in told if len(features[n].unique()) < 2]
