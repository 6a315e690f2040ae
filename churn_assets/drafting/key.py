"""The customer's id in an unknown table. An id that repeats is refused, or asked about; it is never passed over.

Several rows of one customer in training and in test make every figure of a model too good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.check import RESERVED
from churn_assets.contract.model import Column, Kind, Role
from churn_assets.data.id_names import IdName, id_name, is_row_number
from churn_assets.data.repeats import IdCounts, count_ids
from churn_assets.data.validation.parse import as_text, flat_cells, parse_column, to_numpy
from churn_assets.drafting.columns import MAX_CHOICES, Guess
from churn_assets.drafting.sample import Sample
from churn_assets.errors import DraftError

MOST_REPEATED = 0.05  # share of rows after the first of their customer that are asked about and not refused
_SHORT = 40  # characters of an id that is not named like one
# Rows of one customer under any name: they share the label, and half of the other columns.
_FEWEST_GROUPS, _REPEATED_SHARE, _NAMED_SHARE = 20, 0.5, 0.9  # of the rows
_MIXED_BY_CHANCE, _MIXED_SHARE = 10.0, 0.05  # groups with both labels that chance gives, and the share of them allowed
_ALIKE_SHARE, _ALIKE_COLUMNS = 0.95, 0.5
_KINDS = (Kind.TEXT, Kind.ID, Kind.INTEGER, Kind.CATEGORY)


@dataclass(frozen=True)
class Candidate:
    """A column that may be the id: what its name says, and how often its values occur."""

    guess: Guess
    name: IdName
    ids: IdCounts
    is_copied: bool  # whether repeated rows are equal in every cell
    share: float  # of the whole table's rows that repeat a customer, estimated from the sample

    @property
    def is_single(self) -> bool:
        """Whether nearly no customer has another row, or only a copy of the first."""
        return self.share <= MOST_REPEATED or self.is_copied

    @property
    def is_usable(self) -> bool:
        """Whether nearly every row has an id, and nearly no other row has it."""
        return self.ids.is_id and self.is_single

    @property
    def is_customer(self) -> bool:
        """Whether the column can only be the customer, so that several rows of one are an error."""
        many_texts = self.name is IdName.PERSON_ALONE and self.ids.is_id and bool(self.guess.why)
        return many_texts or self.ids.is_customer(self.name)


def choose_key(
    guesses: Sequence[Guess], sample: Sample, label: str, wanted: str | None
) -> tuple[Guess | None, tuple[str, ...]]:
    """(the column that identifies a customer, or None; questions). Raises DraftError if customers have several rows:
    by the name of their id, or because groups of rows are alike and never differ in the `label`."""
    key, questions = _by_name(guesses, sample, wanted)
    if wanted is None and sample.is_whole:  # a sample has few rows of one customer
        table = sample.table
        if key is not None:  # the later rows of an id have been judged
            table = table.take(np.sort(np.unique(_codes(table.column(key.name)), return_index=True)[1]))
        _refuse_alike([g for g in guesses if key is None or g.name != key.name], table, label)
    return key, questions


def _by_name(guesses: Sequence[Guess], sample: Sample, wanted: str | None) -> tuple[Guess | None, tuple[str, ...]]:
    if wanted is not None:
        chosen = _candidate(next(g for g in guesses if g.name == wanted), IdName.CUSTOMER, sample)
        others = [c for c in _named(guesses, sample) if c.guess.name != wanted and c.name is IdName.CUSTOMER]
        _refuse_repeats([chosen] if not chosen.is_single else others if is_row_number(wanted) else [])
        return chosen.guess, (*_about(chosen), *(_other_repeats(c) for c in others if c.ids.is_id and not c.is_single))
    named = _named(guesses, sample)
    customers = [c for c in named if c.name is IdName.CUSTOMER]
    usable = [c for c in customers if c.is_usable]
    if not usable:
        _refuse_repeats(customers)
        usable = [c for c in named if c.is_usable]
    if not usable:
        _refuse_repeats(named)
        return _sole_unique(guesses, sample, named)
    usable.sort(key=lambda c: (c.name, c.ids.later > 0))  # stable: the first of equals
    chosen, also = usable[0], ", ".join(f"'{c.guess.name}'" for c in usable[1:4])
    if also:
        question = f"the customer's id is assumed to be '{chosen.guess.name}'; {also} could be it, too."
        return chosen.guess, (question, *_about(chosen))
    sure = chosen.name <= IdName.OTHER
    question = f"the customer's id is assumed to be '{chosen.guess.name}'. Is that right? If not: --id."
    return chosen.guess, (*(() if sure else (question,)), *_about(chosen))


def _named(guesses: Sequence[Guess], sample: Sample) -> list[Candidate]:
    ids = [(g, id_name(g.name)) for g in guesses if g.column.kind in _KINDS and g.distinct > 1]
    ids = [(g, name) for g, name in ids if g.name == "customer_id" or g.name not in RESERVED]
    return [_candidate(g, name, sample) for g, name in ids if name is not None]


def _candidate(guess: Guess, name: IdName, sample: Sample) -> Candidate:
    table = sample.table
    ids = count_ids(table.column(guess.name))
    # A sample has both rows of a pair less often than one: the share grows with the part that was left out.
    share = ids.later / max(1, ids.named) * sample.rows / table.num_rows
    is_copied = ids.later > 0 and _are_copies(table.filter(pa.array(ids.repeated)), guess.name)
    return Candidate(guess, name, ids, is_copied, min(1.0, share))


def _are_copies(table: pa.Table, key: str) -> bool:
    """Whether the rows of each id are equal in every other column."""
    ids = _codes(parse_column(Column(key, Kind.ID), table.column(key)).values)
    codes = (_codes(cells) for name, cells in zip(table.column_names, table.columns, strict=True) if name != key)
    customers = len(np.unique(ids))
    return all(len(np.unique(ids * (cells.max() + 1) + cells)) == customers for cells in codes)


def _codes(cells: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number for each different cell, shape (rows,)."""
    flat = as_text(cells) if pa.types.is_nested(cells.type) else flat_cells(cells)
    return to_numpy(pc.fill_null(flat.dictionary_encode().indices, -1)).astype(np.int64) + 1


def _refuse_repeats(candidates: Sequence[Candidate]) -> None:
    repeated = [c for c in candidates if c.is_customer and not c.is_single]
    if repeated:
        first = min(repeated, key=lambda c: c.name)
        raise DraftError(
            f"'{first.guess.name}' repeats: {first.ids.customers:,} customers in {first.ids.named:,} rows; expected "
            "one row for each customer; keep one row of each (such as the newest, with what was known then), or name "
            "another column with --id"
        )


@dataclass(frozen=True)
class _Groups:
    """Rows with the same value in `columns`: the `code` of each row, shape (rows,), -1 for a row that is alone."""

    columns: tuple[str, ...]
    code: npt.NDArray[np.int64]

    @classmethod
    def of(cls, columns: Sequence[str], codes: npt.NDArray[np.int64]) -> _Groups:
        _, code, times = np.unique(codes, return_inverse=True, return_counts=True)
        return cls(tuple(columns), np.where((times[code] > 1) & (codes > 0), code, -1))

    @property
    def share(self) -> float:
        """Of the rows that are in a group."""
        return float(np.mean(self.code >= 0))

    def sizes(self) -> npt.NDArray[np.int64]:
        return np.unique(self.code[self.code >= 0], return_counts=True)[1]

    def mixed(self, values: npt.NDArray[np.int64]) -> int:
        """The number of groups in which a column, given as codes, has several values."""
        grouped = self.code >= 0
        pairs = np.unique(self.code[grouped] * (values.max() + 1) + values[grouped])
        return int(np.sum(np.unique(pairs // (values.max() + 1), return_counts=True)[1] > 1))


def _refuse_alike(guesses: Sequence[Guess], table: pa.Table, label: str) -> None:
    """Raise DraftError if rows that share an id of any name, or all columns of many values, share the label and most
    other columns, too: they are rows of one customer, such as one for each month."""
    rows, churned = table.num_rows, _codes(table.column(label))
    several = [g for g in guesses if g.distinct >= _FEWEST_GROUPS and g.column.kind is not Kind.BOOLEAN]
    ids = [g for g in several if g.distinct <= 0.75 * rows]
    ids.sort(key=lambda g: (id_name(g.name) is None, g.column.kind is not Kind.TEXT, g.column.kind is not Kind.INTEGER))
    for guess in ids:
        groups = _Groups.of([guess.name], _codes(table.column(guess.name)))
        if _are_customers(groups, churned, table, label):
            _refuse_groups(groups, rows)
    if len(several) > 1:
        together = np.ones(rows, dtype=np.int64)
        for guess in several:
            if guess.column.kind is not Kind.DATE or guess.distinct > MAX_CHOICES:  # a month is what may differ
                codes = _codes(table.column(guess.name))
                together = 1 + np.unique(together * (codes.max() + 1) + codes, return_inverse=True)[1]
        groups = _Groups.of([g.name for g in several], together)
        if _are_customers(groups, churned, table, label):
            _refuse_groups(groups, rows)


def _are_customers(groups: _Groups, churned: npt.NDArray[np.int64], table: pa.Table, label: str) -> bool:
    if groups.share < _REPEATED_SHARE:
        return False
    shares = np.bincount(churned)[:, None] / len(churned)
    sizes = groups.sizes()
    by_chance = float(np.sum(1.0 - np.sum(shares**sizes, axis=0)))
    if len(sizes) < _FEWEST_GROUPS or by_chance < _MIXED_BY_CHANCE:
        return False
    if groups.mixed(churned) > _MIXED_SHARE * by_chance:
        return False
    if len(groups.columns) == 1 and id_name(groups.columns[0]) is not None and groups.share >= _NAMED_SHARE:
        return True
    others = [_codes(table.column(name)) for name in table.column_names if name.strip() and name != label]
    others = [codes for codes in others if codes.min() < codes.max()]
    alike = sum(groups.mixed(codes) <= (1.0 - _ALIKE_SHARE) * len(sizes) for codes in others) - len(groups.columns)
    return alike >= max(1.0, _ALIKE_COLUMNS * (len(others) - len(groups.columns)))


def _refuse_groups(groups: _Groups, rows: int) -> None:
    names = ", ".join(f"'{name}'" for name in groups.columns[:3]) + ", ..." * (len(groups.columns) > 3)
    count = len(groups.sizes()) + int(np.sum(groups.code < 0))
    repeat = "repeats" if len(groups.columns) == 1 else "repeat"
    raise DraftError(
        f"{names} {repeat}: {count:,} different in {rows:,} rows, and rows with the same have one label and nearly "
        "the same other cells, as those of one customer do; expected one row for each customer; keep one row of each "
        "(such as the newest, with what was known then), or name another column with --id"
    )


def _other_repeats(candidate: Candidate) -> str:
    count = f"{candidate.ids.customers:,} in {candidate.ids.named:,} rows"
    return (
        f"'{candidate.guess.name}' repeats ({count}). If these are the customers, rows of one are in training and in "
        "test, and every figure is too good: keep one row of each."
    )


def _about(candidate: Candidate) -> tuple[str, ...]:
    name, ids, questions = candidate.guess.name, candidate.ids, list[str]()
    if ids.later:
        rows = f"{ids.later:,} of {ids.named:,} rows repeat a customer ('{name}')"
        same = "with equal cells; the first of each is kept"
        other = "with other cells; the first of each is kept, and none where their labels differ"
        questions.append(f"{rows}, {same if candidate.is_copied else other}. Is that right?")
    unnamed = candidate.guess.rows - ids.named
    if unnamed:
        rows = (
            f"{unnamed:,} rows have no id in '{name}' and are" if unnamed > 1 else f"1 row has no id in '{name}' and is"
        )
        questions.append(f"{rows} rejected. Is that right?")
    return tuple(questions)


def _sole_unique(
    guesses: Sequence[Guess], sample: Sample, named: Sequence[Candidate]
) -> tuple[Guess | None, tuple[str, ...]]:
    """The only column with another value in every row, if it can be an id; else none, with what was found."""
    unique = [g for g in guesses if _can_be_id(g, sample.table.column(g.name))]
    texts = [g for g in unique if g.column.kind is Kind.TEXT and "text" in g.why]
    chosen = texts or unique
    if len(chosen) == 1 or (chosen and chosen[0] is guesses[0]):
        every = f"every row has another '{chosen[0].name}', which is assumed to be the customer's id. Is that right?"
        return chosen[0], (f"{every} If not: --id.",)
    repeated = [c for c in named if c.ids.later]
    columns = ", ".join(
        f"'{c.guess.name}' ({c.ids.customers:,} different in {c.ids.named:,} rows)" for c in repeated[:3]
    )
    questions = (f"is {columns} the customer's id? It repeats, and a table has one row for each customer.",)
    return None, questions if columns else ()


def _can_be_id(guess: Guess, cells: pa.ChunkedArray) -> bool:
    whole = guess.column.kind in (Kind.TEXT, Kind.INTEGER)
    if (
        not (whole and guess.is_unique and guess.distinct == guess.rows)
        or guess.missing_rows
        or is_row_number(guess.name)
    ):
        return False
    text = as_text(cells)
    lengths = pc.utf8_length(text)
    if guess.column.kind is Kind.INTEGER:  # an amount has as many digits as it needs
        return bool(pc.min(lengths).as_py() == pc.max(lengths).as_py() >= 5)
    return bool(pc.max(lengths).as_py() <= _SHORT)


def as_key(guess: Guess) -> Guess:
    """`guess` as the column that identifies a customer."""
    return replace(guess, column=Column(guess.name, Kind.ID, Role.KEY), why="", questions=(), repair="")
