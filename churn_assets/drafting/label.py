"""The label of an unknown table."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from churn_assets.contract.model import Column, Kind, Label, Role, Source
from churn_assets.data.readers.delimited import DELIMITERS
from churn_assets.data.readers.read import listed, reading_contract
from churn_assets.data.validation.checks import check_label
from churn_assets.data.validation.parse import canonical_number
from churn_assets.drafting.columns import READABLE_SHARE, may_be_missing, means_nothing, truth_of
from churn_assets.drafting.dates import find_formats
from churn_assets.drafting.sample import LABEL_VALUES, spelled_in
from churn_assets.errors import DraftError, in_rows

MAX_LABEL_VALUES = 5
_SHOWN, _LONGEST = 8, 60  # values in a message, and characters of each


@dataclass(frozen=True)
class LabelDraft:
    """The label column, its values as the table spells them (every one but `churned_when` is kept), rows, questions."""

    column: Column
    churned_when: str
    kept_when: tuple[str, ...]
    churned_rows: int
    kept_rows: int
    questions: tuple[str, ...]

    def read(self, cells: pa.ChunkedArray) -> npt.NDArray[np.int8]:
        """1 churned, 0 kept, -1 neither, shape (rows,)."""
        label = Label(self.column.name, self.churned_when, self.kept_when, 1)
        contract = replace(reading_contract(Source(), (self.column,)), label=label)
        return check_label(contract, pa.table({self.column.name: cells}))[0]


def find_column(names: Sequence[str], option: str, name: str, where: str) -> str:
    """The column `name` as the table spells it (blanks around it); DraftError with similar names if there is none."""
    spelled = spelled_in(names, name)
    if spelled is not None:
        return spelled
    similar = difflib.get_close_matches(name, names, 3, 0.5)
    similar += [n for n in names if n.lower().strip() == name.lower().strip() and n not in similar]
    hint = f"did you mean {' or '.join(repr(n) for n in similar)}? " if similar else ""
    numbers = [name for name in names if any(c.isdecimal() for c in name) and not any(c.isalpha() for c in name)]
    if numbers and len(names) > 1:
        hint += f"its first row has {numbers[0]!r}, so it may have no header: write one above it; "
    if len(names) == 1:
        separators = " ".join("tab" if mark == "\t" else mark for mark in DELIMITERS)
        hint += f"its header has none of the separators {separators}, save it with one of them; "
    raise DraftError(f"{where} has no column {name!r} ({option}); {hint}it has: {listed(names)}; correct it")


def draft_label(name: str, churned: str, counted: Counter[str]) -> LabelDraft:
    """Draft the label from its spellings and their rows. Raises DraftError if `churned` is not among the values, if it
    is the only one, or if there are too many."""
    values = _summed(counted, canonical_number)
    wanted = canonical_number(churned)
    nulls = _nulls(values, wanted)
    empty = sum(values.pop(text) for text in nulls)
    folded = len({v.lower() for v in values}) < len(values)
    if folded:
        values = _summed(values, str.lower)
    _refuse_many(name, values)
    churned_value = _value(values, wanted, name, folded)
    if len(values) == 1:
        raise DraftError(_only_churned(name, churned_value, values[churned_value], empty))
    missing = tuple(sorted(t for t in counted if t.strip() and canonical_number(t) in nulls))
    column = Column(name, Kind.TEXT, Role.LABEL, missing=missing)
    truths = {value: truth_of(value) for value in values}
    if len(values) > 2 and set(truths.values()) == {True, False}:  # yes, no, 1 and 0 are two states
        column, values, synonyms = _as_two_states(column, churned_value, values)
        others = [value for value in values if value != churned_value]
    else:
        others, synonyms = [value for value, _ in values.most_common() if value != churned_value], ()
        column = _with_kind(column, churned_value, others, folded)
    kept_rows = sum(values[value] for value in others)
    questions = (*synonyms, *_questions(churned_value, others, values, empty, missing))
    return LabelDraft(column, churned_value, tuple(others), values[churned_value], kept_rows, questions)


def _nulls(values: Counter[str], wanted: str) -> set[str]:
    """Values that mean that the outcome is not known. A word such as 'unknown' is one if another kept value is left."""
    others = [value for value in values if value.lower() != wanted.lower()]
    nothing = {value for value in others if not value or means_nothing(value)}
    unknowns = {value for value in others if may_be_missing(value)} - nothing
    return nothing | (unknowns if len(nothing | unknowns) < len(others) else set())


def _as_two_states(
    column: Column, churned_value: str, values: Counter[str]
) -> tuple[Column, Counter[str], tuple[str, ...]]:
    """(the column as a boolean whose true side is churned, rows of two values, a question about their synonyms)."""
    side = truth_of(churned_value)
    left = [value for value, _ in values.most_common() if truth_of(value) is side]
    stayed = [value for value, _ in values.most_common() if truth_of(value) is not side]
    column = replace(column, kind=Kind.BOOLEAN, true=tuple(left), false=tuple(stayed))
    rows = Counter({churned_value: sum(values[v] for v in left), stayed[0]: sum(values[v] for v in stayed)})
    return column, rows, (f"{', '.join(left)} are read as churned, {', '.join(stayed)} as kept. Is that right?",)


def _refuse_many(name: str, values: Counter[str]) -> None:
    if len(values) <= MAX_LABEL_VALUES:
        return
    if find_formats(values).share >= READABLE_SHARE:
        raise DraftError(
            f"label {name!r} has dates ({_frequent(values, 2)}), which say when customers left; expected at most "
            f"{MAX_LABEL_VALUES} values; add a column with Yes where one has left and No elsewhere, and give that"
        )
    many = f"more than {LABEL_VALUES:,}" if len(values) > LABEL_VALUES else str(len(values))
    raise DraftError(
        f"label {name!r} has {many} different values ({_frequent(values)}); expected at most {MAX_LABEL_VALUES}; "
        "give the column of the outcome, or recode this one"
    )


def _only_churned(name: str, churned_value: str, rows: int, empty: int) -> str:
    if empty:
        return (
            f"label {name!r} is {churned_value!r} in {in_rows(rows)} and empty in {empty:,}; expected a value for "
            "customers who stayed, too; if the others stayed, write No there"
        )
    return f"every row of {name!r} is {churned_value!r}; expected customers who stayed, too; add them"


def _questions(
    churned_value: str, others: Sequence[str], values: Counter[str], empty: int, missing: Sequence[str]
) -> tuple[str, ...]:
    questions = []
    if len(others) > 1:
        first, *rest = (f"{value!r} ({in_rows(values[value])})" for value in others)
        questions.append(
            f"every value other than {churned_value!r} is kept: {first} and {', '.join(rest)}. "
            "Is that right? Rows of a value that is removed from kept_when are rejected."
        )
    if empty:
        spelled = f" (empty, or {', '.join(map(repr, missing))})" if missing else ""
        rows = f"{empty:,} rows have no label{spelled} and are" if empty > 1 else f"1 row has no label{spelled} and is"
        questions.append(f"{rows} rejected. Is {'their' if empty > 1 else 'its'} outcome not known yet?")
    return tuple(questions)


def _with_kind(column: Column, churned_value: str, others: Sequence[str], folded: bool) -> Column:
    if folded:  # spelled in upper and lower case; only kind boolean ignores case
        return replace(column, kind=Kind.BOOLEAN, true=(churned_value,), false=tuple(others))
    is_integer = all(v.lstrip("-").isdigit() and v.isascii() for v in (churned_value, *others))
    return replace(column, kind=Kind.INTEGER) if is_integer else column


def _summed(rows_of: Counter[str], spelling: Callable[[str], str]) -> Counter[str]:
    total: Counter[str] = Counter()
    for value, rows in rows_of.items():
        total[spelling(value)] += rows
    return total


def _value(values: Counter[str], wanted: str, name: str, folded: bool) -> str:
    if not values:
        raise DraftError(f"label {name!r} is empty in every row; expected two values; give the column of the outcome")
    same = [v for v in values if v.lower() == wanted.lower()]
    if wanted in values and not folded:
        return wanted
    if len(same) == 1:
        return same[0]
    raise DraftError(
        f"no row of {name!r} is {wanted!r}, so there is no churner; it has {_frequent(values)}; "
        "give one of them as --churned"
    )


def _frequent(values: Counter[str], shown: int = _SHOWN) -> str:
    texts = ", ".join(f"{v[:_LONGEST]!r} ({in_rows(n)})" for v, n in values.most_common(shown))
    return texts + (f" and {len(values) - shown} more" if len(values) > shown else "")
