"""Which customers are learnt from, chosen by, and reported on: at random, and by time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Contract, Kind
from churn_assets.errors import TrainingError
from churn_assets.features.encode import encode_table

if TYPE_CHECKING:
    import pyarrow as pa

Index = npt.NDArray[np.int64]
PARTS = ("train", "validation", "test")
HOLDOUT = 0.30


@dataclass(frozen=True)
class Split:
    """Row numbers of each part; together they are all rows, each once."""

    train: Index
    validation: Index
    test: Index

    def labels(self, rows: int) -> npt.NDArray[np.object_]:
        """The part of each row, as words, shape (rows,)."""
        names = np.empty(rows, dtype=object)
        for part in PARTS:
            names[getattr(self, part)] = part
        return names


def random_split(churned: npt.NDArray[Any], groups: npt.NDArray[Any], seed: int = 42) -> Split:
    """70 / 15 / 15, stratified by `churned`, with all rows of one group (customer) on one side.

    When every group has one row this is scikit-learn's `train_test_split(test_size=.30)` and then
    `(test_size=.5)` of the rest, both with `random_state=seed`: the split of the published projects.
    """
    from sklearn.model_selection import train_test_split

    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    # np.unique sorts by name; the published split is drawn over rows in the order of the file.
    order = np.argsort(first)
    label = np.asarray(churned)[first[order]]
    try:
        train, rest = train_test_split(order, test_size=HOLDOUT, random_state=seed, stratify=label)
        validation, test = train_test_split(
            rest, test_size=0.5, random_state=seed, stratify=np.asarray(churned)[first[rest]]
        )
    except ValueError as error:
        churners = int(np.sum(label))
        raise TrainingError(
            f"{len(label)} customers with {churners} churned cannot be split 70/15/15 with both classes in each part; "
            f"bring more rows ({error})"
        ) from None
    part = np.empty(len(first), dtype=np.int8)
    for code, chosen in enumerate((train, validation, test)):
        part[chosen] = code
    return _from_parts(part[member])


def out_of_time_split(cohort: npt.NDArray[np.float64], groups: npt.NDArray[Any]) -> Split | None:
    """The oldest 70 %, the next 15 % and the newest 15 % of customers by `cohort` (larger is newer).

    Customers of one cohort value stay together, so shares are approximate. Rows without a cohort
    count as oldest. None if the cohort does not separate three parts.
    """
    cohort = np.where(np.isnan(cohort), -np.inf, cohort)
    _, member = np.unique(groups, return_inverse=True)
    newest = np.full(member.max() + 1, -np.inf)
    np.maximum.at(newest, member, cohort)
    cohort = newest[member]
    low, high = np.quantile(cohort, [1 - HOLDOUT, 1 - HOLDOUT / 2], method="lower")
    split = _from_parts((cohort > low).astype(np.int8) + (cohort > high).astype(np.int8))
    return split if all(len(getattr(split, part)) for part in PARTS) else None


def split_table(contract: Contract, customers: pa.Table, seed: int = 42) -> pa.Table:
    """Both splits of a validated table: customer_id, random, out_of_time (null without a cohort)."""
    import pyarrow as pa

    churned = customers.column("churned").to_numpy()
    ids = np.asarray(customers.column(contract.key.name).to_pylist(), dtype=object).astype(str)
    random = random_split(churned, ids, seed)
    out_of_time = _by_cohort(contract, customers, ids, churned)
    rows = customers.num_rows
    return pa.table(
        {
            "customer_id": pa.array(ids.tolist(), pa.string()),
            "random": pa.array(random.labels(rows), pa.string()),
            "out_of_time": pa.array(out_of_time.labels(rows), pa.string())
            if out_of_time
            else pa.nulls(rows, pa.string()),
        }
    ).replace_schema_metadata({**(customers.schema.metadata or {}), b"churn_split_seed": str(seed).encode()})


def read_split(splits: pa.Table, name: str) -> Split | None:
    """The split `name` ('random' or 'out_of_time') of a split table."""
    column = splits.column(name)
    if column.null_count:
        return None
    words = np.asarray(column.to_pylist(), dtype=object)
    return Split(*(np.flatnonzero(words == part) for part in PARTS))


def straddlers(splits: pa.Table) -> dict[str, list[str]]:
    """For each split, the customers that stand in more than one part: none, unless something broke."""
    ids = np.asarray(splits.column("customer_id").to_pylist(), dtype=object)
    found = {}
    for name in ("random", "out_of_time"):
        parts = splits.column(name).to_pylist()
        pairs = {(customer, part) for customer, part in zip(ids, parts, strict=True)}
        seen: dict[str, int] = {}
        for customer, _ in pairs:
            seen[customer] = seen.get(customer, 0) + 1
        found[name] = sorted(customer for customer, times in seen.items() if times > 1)
    return found


def _by_cohort(
    contract: Contract, customers: pa.Table, ids: npt.NDArray[Any], churned: npt.NDArray[Any]
) -> Split | None:
    name = contract.time.cohort
    if name is None:
        return None
    values = encode_table(contract, customers.select([name]))[name]
    # A number that orders cohorts is an age: the customers with the largest are the oldest.
    split = out_of_time_split(values if contract.column(name).kind is Kind.DATE else -values, ids)
    both = split is not None and all(0 < churned[getattr(split, p)].mean() < 1 for p in PARTS)
    return split if both else None


def _from_parts(part: npt.NDArray[np.int8]) -> Split:
    return Split(*(np.flatnonzero(part == code) for code in range(len(PARTS))))
