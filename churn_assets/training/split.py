"""Training, validation and test customers: at random, and by time.

Customers that were frozen with a home's first champion are always in the test part.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.limits import SplitMethod
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
FEWEST_TESTED = 10  # churned or kept customers of a test part; a figure of fewer says nothing
FEWEST = 20  # churned or kept customers that a table must have: 14 to train on, 3 to test


@dataclass(frozen=True)
class Split:
    """Row numbers of each part; together they are all rows, each once."""

    train: Index
    validation: Index
    test: Index

    @property
    def learn(self) -> Index:
        """Rows of training and validation, in the table's order."""
        return np.sort(np.concatenate([self.train, self.validation]))


def random_split(churned: Labels, groups: Ids, seed: int = 42, method: SplitMethod = "hash") -> Split:
    """70 / 15 / 15, stratified by `churned`, with all rows of one group (customer) on one side.

    `hash` takes the groups of a class in the order of a hash of their name and the seed, whatever the order of the
    rows. `published` is, where every group has one row, scikit-learn's `train_test_split(test_size=.30)` and then
    `(test_size=.5)` of the rest, both with `random_state=seed`: the split of the published projects.
    """
    return split_around(
        churned, groups, np.zeros(len(groups), dtype=bool), np.ones(len(groups), dtype=bool), seed, method
    )


def split_around(
    churned: Labels, groups: Ids, frozen: Mask, drawn: Mask, seed: int = 42, method: SplitMethod = "hash"
) -> Split:
    """The random split with the groups of `frozen` rows always in the test part, the others 70 : 15 in the first two.

    Where fewer customers are frozen than 15 % of those `drawn` (rows a new test part would be drawn from), others of
    them fill the test part up. A random split with just the frozen ones in its test part is kept as it is. Raises
    TrainingError where a part would lack a class.
    """
    names, first, member = np.unique(groups, return_index=True, return_inverse=True)
    label = np.asarray(churned)[first]

    def groups_of(rows: Mask | Index) -> Mask:
        chosen = np.zeros(len(first), dtype=bool)
        chosen[member[rows]] = True
        return chosen

    def draw(pool: Index, size: float) -> tuple[Index, Index]:
        """All but `size` (a share or a count) of the groups in `pool`, and those."""
        return (
            _stratified(pool, label[pool], size, seed) if method == "published" else _by_rank(pool, label[pool], size)
        )

    # np.unique sorts by name; the published split is drawn over rows in the order of the file.
    order = np.argsort(first) if method == "published" else np.argsort(_hashes(names, seed), kind="stable")
    train, rest = draw(order, HOLDOUT)
    validation, test = draw(rest, 0.5)
    in_test = groups_of(frozen)
    if in_test.any() and (np.bincount(test, minlength=len(first)).astype(bool) != in_test).any():
        drawable = groups_of(drawn)
        test_size = math.ceil(math.ceil(HOLDOUT * int(drawable.sum())) / 2)  # as train_test_split rounds
        missing = test_size - int(in_test.sum())
        if missing > 1:  # one customer cannot be drawn stratified
            in_test[draw(order[(drawable & ~in_test)[order]], missing)[1]] = True
        train, validation = draw(order[~in_test[order]], HOLDOUT / 2 / (1 - HOLDOUT / 2))
    split = _from_groups(train, validation, member)
    _check_classes(split, np.asarray(churned), frozen=bool(in_test.any()))
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
    contract: Contract,
    customers: pa.Table,
    seed: int = 42,
    frozen: Collection[str] = frozenset(),
    method: SplitMethod | None = None,
) -> pa.Table:
    """Both splits of a validated table: customer_id, random, out_of_time (null without a cohort).

    `frozen` customers are in the random split's test part, and with it out of everything that is served: models
    by the other split are only reported on. Rows that are put aside are in neither split, in the part 'aside'.
    `method` is that of the split the frozen customers come from; None is the contract's. Raises TrainingError for
    too few customers of a class.
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
    check_churners(int(np.sum(churned[use])), int(np.sum(churned[use] == 0)))
    method = method or contract.split.method
    random = split_around(churned[use], ids[use], is_frozen[use], drawn[use], seed, method)
    used = customers.take(use) if len(use) < len(ids) else customers
    out_of_time = _by_cohort(contract, used, ids[use], churned[use])

    def part_names(split: Split | None) -> pa.Array:
        if split is None:
            return pa.nulls(len(ids), pa.string())
        names = np.full(len(ids), PUT_ASIDE, dtype=object)
        for part in PARTS:
            names[use[getattr(split, part)]] = part
        return pa.array(names, pa.string())

    drawn_by = {b"churn_split_seed": str(seed).encode(), b"churn_split_method": method.encode()}
    metadata = {**(customers.schema.metadata or {}), **drawn_by}
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


def fold_numbers(churned: Labels, groups: Ids, folds: int, seed: int) -> Index:
    """The fold (n,) of each row, 0 to `folds` - 1: stratified by label, all rows of one group (customer) in one fold.

    Groups of each label are dealt out in turn after a shuffle, so that folds differ by one group at most.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    label, rng = np.asarray(churned)[first], np.random.default_rng(seed)
    fold = np.empty(len(first), dtype=np.int64)
    for value in (0, 1):
        shuffled = rng.permutation(np.flatnonzero(label == value))
        fold[shuffled] = np.arange(len(shuffled)) % folds
    return fold[member]


def check_churners(churned: int, kept: int) -> None:
    """Raise TrainingError for fewer than `FEWEST` customers of a class: nothing can be learned or measured then."""
    for count, kind in ((churned, "churned"), (kept, "kept")):
        if count < FEWEST:
            raise TrainingError(
                f"{count} of {churned + kept:,} customers {kind}, expected at least {FEWEST} to train on and to test "
                f"with; use a table with more {kind} customers, or check [label] in the contract"
            )


def _check_classes(split: Split, churned: Labels, frozen: bool) -> None:
    if frozen and not 0 < churned[split.test].mean() < 1:
        raise TrainingError(
            f"the {len(split.test)} rows of frozen customers in this table are all of one class, expected both; "
            "use a table with more of the customers that the first model was tested on"
        )
    if not all(len(rows) and 0 < churned[rows].mean() < 1 for rows in (split.train, split.validation, split.test)):
        raise TrainingError(_too_few(len(churned), int(np.sum(churned))))


def _too_few(rows: int, churners: int) -> str:
    return (
        f"{rows} customers with {churners} churned cannot be split 70/15/15 with both classes in each part; "
        "use a table with more rows"
    )


def _hashes(names: Ids, seed: int) -> npt.NDArray[np.uint64]:
    """A hash of each name and the seed (n,)."""
    salt = str(seed).encode() + b":"
    digests = b"".join(hashlib.blake2b(salt + str(name).encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8")


def _by_rank(groups: Index, label: Labels, size: float) -> tuple[Index, Index]:
    """All but the last `size` (a share or a count) of the groups, in each class by itself, and those."""
    total = math.ceil(size * len(groups)) if size < 1 else int(size)
    classes = [groups[label == value] for value in (0, 1)]
    churners = round(total * len(classes[1]) / len(groups))
    taken = [len(own) - count for own, count in zip(classes, (total - churners, churners), strict=True)]
    parts = [np.split(own, [end]) for own, end in zip(classes, taken, strict=True)]
    return np.concatenate([kept for kept, _ in parts]), np.concatenate([last for _, last in parts])


def _stratified(groups: Index, label: Labels, size: float, seed: int) -> tuple[Index, Index]:
    """All but `size` of the groups (a share or a count), and those."""
    from sklearn.model_selection import train_test_split

    try:
        return tuple(train_test_split(groups, test_size=size, random_state=seed, stratify=label))
    except ValueError as error:
        raise TrainingError(f"{_too_few(len(label), int(np.sum(label)))} ({error})") from None


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
