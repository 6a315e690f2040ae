"""Training, validation and test customers: at random, and by time.

Customers that were frozen with a home's first champion are always in the test part.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Contract, Kind
from churn_assets.data.customers import ASIDE, SOURCE, TABLE, reported_rows
from churn_assets.errors import TrainingError
from churn_assets.evaluation.metrics import Floats, Labels
from churn_assets.features.encode import encode_table

if TYPE_CHECKING:
    import pyarrow as pa

Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[Any]
SPLITS = ("random", "out_of_time")
PARTS = ("train", "validation", "test")
PUT_ASIDE = "aside"  # of rows in none of the parts
HOLDOUT = 0.30


@dataclass(frozen=True)
class Split:
    """Row numbers of each part; together they are all rows, each once."""

    train: Index
    validation: Index
    test: Index


def random_split(churned: Labels, groups: Ids, seed: int = 42) -> Split:
    """70 / 15 / 15, stratified by `churned`, with all rows of one group (customer) on one side.

    When every group has one row this is scikit-learn's `train_test_split(test_size=.30)` and then
    `(test_size=.5)` of the rest, both with `random_state=seed`: the split of the published projects.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    # np.unique sorts by name; the published split is drawn over rows in the order of the file.
    order = np.argsort(first)
    label = np.asarray(churned)[first[order]]
    train, rest = _stratified(order, label, HOLDOUT, seed)
    validation, _ = _stratified(rest, np.asarray(churned)[first[rest]], 0.5, seed)
    return _from_groups(train, validation, member)


def split_around(churned: Labels, groups: Ids, frozen: Mask, drawn: Mask, seed: int = 42) -> Split:
    """The random split with the groups of `frozen` rows always in the test part, the others 70 : 15 in the first two.

    Where fewer customers are frozen than 15 % of those `drawn` (rows a new test part would be drawn from), others of
    them fill the test part up. A random split with just the frozen ones in its test part is kept as it is. Raises
    TrainingError where a part would lack a class.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)

    def groups_of(rows: Mask | Index) -> Mask:
        chosen = np.zeros(len(first), dtype=bool)
        chosen[member[rows]] = True
        return chosen

    natural, in_test, drawable = random_split(churned, groups, seed), groups_of(frozen), groups_of(drawn)
    if not in_test.any() or (groups_of(natural.test) == in_test).all():
        return natural
    order = np.argsort(first)
    label = np.asarray(churned)[first]
    test_size = math.ceil(math.ceil(HOLDOUT * int(drawable.sum())) / 2)  # as train_test_split rounds
    missing = test_size - int(in_test.sum())
    if missing > 1:  # one customer cannot be drawn stratified
        pool = order[(drawable & ~in_test)[order]]
        in_test[_stratified(pool, label[pool], missing, seed)[1]] = True
    free = order[~in_test[order]]
    train, validation = _stratified(free, label[free], HOLDOUT / 2 / (1 - HOLDOUT / 2), seed)
    split = _from_groups(train, validation, member)
    if not 0 < np.asarray(churned)[split.test].mean() < 1:
        raise TrainingError(
            f"the {len(split.test)} rows of frozen customers in this table are all of one class, expected both; "
            "use a table with more of the customers that the first model was tested on"
        )
    return split


def out_of_time_split(cohort: Floats, groups: Ids) -> Split | None:
    """The oldest 70 %, the next 15 % and the newest 15 % of customers by `cohort` (larger is newer, missing is oldest).
    Customers of one cohort value stay together. None if the cohort does not separate three parts."""
    cohort = np.where(np.isnan(cohort), -np.inf, cohort)
    _, member = np.unique(groups, return_inverse=True)
    newest = np.full(member.max() + 1, -np.inf)
    np.maximum.at(newest, member, cohort)
    cohort = newest[member]
    low, high = np.quantile(cohort, [1 - HOLDOUT, 1 - HOLDOUT / 2], method="lower")
    split = _from_parts((cohort > low).astype(np.int8) + (cohort > high).astype(np.int8))
    return split if all(len(getattr(split, part)) for part in PARTS) else None


def split_table(
    contract: Contract, customers: pa.Table, seed: int = 42, frozen: Collection[str] = frozenset()
) -> pa.Table:
    """Both splits of a validated table: customer_id, random, out_of_time (null without a cohort).

    `frozen` customers are in the random split's test part, and with it out of everything that is served: models
    by the other split are only reported on. Rows that are put aside are in neither split, in the part 'aside'.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    churned = customers.column("churned").to_numpy()
    ids = np.asarray(customers.column(contract.key.name).to_pylist(), dtype=object).astype(str)
    is_frozen = np.isin(ids, sorted(frozen)) if frozen else np.zeros(len(ids), dtype=bool)
    marked = SOURCE in customers.column_names
    aside = customers[ASIDE].to_numpy() & ~is_frozen if marked else np.zeros(len(ids), dtype=bool)
    drawn = pc.equal(customers[SOURCE], TABLE).to_numpy() if marked else ~aside
    use = np.flatnonzero(~aside)
    random = split_around(churned[use], ids[use], is_frozen[use], drawn[use], seed)
    used = customers.take(use) if len(use) < len(ids) else customers
    out_of_time = _by_cohort(contract, used, ids[use], churned[use])

    def part_names(split: Split | None) -> pa.Array:
        if split is None:
            return pa.nulls(len(ids), pa.string())
        names = np.full(len(ids), PUT_ASIDE, dtype=object)
        for part in PARTS:
            names[use[getattr(split, part)]] = part
        return pa.array(names, pa.string())

    metadata = {**(customers.schema.metadata or {}), b"churn_split_seed": str(seed).encode()}
    columns = {"customer_id": pa.array(ids.tolist(), pa.string()), "random": part_names(random)}
    return pa.table({**columns, "out_of_time": part_names(out_of_time)}).replace_schema_metadata(metadata)


def read_split(splits: pa.Table, name: str) -> Split | None:
    """The split `name` ('random' or 'out_of_time') of a split table."""
    column = splits.column(name)
    if column.null_count:
        return None
    names = np.asarray(column.to_pylist(), dtype=object)
    return Split(*(np.flatnonzero(names == part) for part in PARTS))


def read_splits(splits: pa.Table) -> dict[str, Split]:
    """The splits of a split table by name; only that by time may be absent."""
    return {name: split for name in SPLITS if (split := read_split(splits, name)) is not None}


def test_rows(customers: pa.Table, splits: pa.Table) -> pa.Table:
    """Rows of the customer table in the random split's test part: those of labelled predictions are left out."""
    return customers.take(np.intersect1d(read_splits(splits)["random"].test, reported_rows(customers)))


def straddlers(splits: pa.Table) -> dict[str, list[str]]:
    """For each split, the customers that are in more than one part: none in a correct split."""
    ids = splits.column("customer_id").to_pylist()
    straddling = {}
    for name in SPLITS:
        parts = Counter(customer for customer, _ in set(zip(ids, splits.column(name).to_pylist(), strict=True)))
        straddling[name] = sorted(customer for customer, count in parts.items() if count > 1)
    return straddling


def _by_cohort(contract: Contract, customers: pa.Table, ids: Ids, churned: Labels) -> Split | None:
    name = contract.time.cohort
    if name is None:
        return None
    values = encode_table(contract, customers.select([name]))[name]
    # A number that orders cohorts is an age: the customers with the largest are the oldest.
    split = out_of_time_split(values if contract.column(name).kind is Kind.DATE else -values, ids)
    both = split is not None and all(0 < churned[getattr(split, p)].mean() < 1 for p in PARTS)
    return split if both else None


def _stratified(groups: Index, label: Labels, size: float, seed: int) -> tuple[Index, Index]:
    """All but `size` of the groups (a share or a count), and those."""
    from sklearn.model_selection import train_test_split

    try:
        return tuple(train_test_split(groups, test_size=size, random_state=seed, stratify=label))
    except ValueError as error:
        churners = int(np.sum(label))
        raise TrainingError(
            f"{len(label)} customers with {churners} churned cannot be split 70/15/15 with both classes in each part; "
            f"use a table with more rows ({error})"
        ) from None


def _from_groups(train: Index, validation: Index, member: Index) -> Split:
    """The split in which all other groups are tested; `member` is the group of each row."""
    part = np.full(member.max() + 1, PARTS.index("test"), dtype=np.int8)
    part[train], part[validation] = 0, 1
    return _from_parts(part[member])


def _from_parts(part: npt.NDArray[np.int8]) -> Split:
    return Split(*(np.flatnonzero(part == code) for code in range(len(PARTS))))


def split_parts(splits: pa.Table, customers: pa.Table) -> list[dict[str, Any]]:
    """Rows and churned share of each part of each split, for reports."""
    import pyarrow.compute as pc

    parts = []
    for name, part in itertools.product(SPLITS, (*PARTS, PUT_ASIDE)):
        label = customers["churned"].filter(pc.fill_null(pc.equal(splits[name], part), False))
        if len(label):
            parts.append({"split": name, "part": part, "rows": len(label), "churned_share": pc.mean(label).as_py()})
    return parts
