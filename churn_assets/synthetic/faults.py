"""Changes to generated rows: drift and broken pipelines, as values and as texts.

    COLUMN*1.25   COLUMN+10   COLUMN-10     numbers (and dates, by days)       drift
    COLUMN=VALUE:0.3                        a share of rows moves to a choice  drift
    zero:COLUMN   unit:COLUMN*100   swap:COLUMN,COLUMN   missing:COLUMN:0.3   duplicate:0.05   faults

each followed by @WHEN: `@0.5` or `@50%` is from half of the rows on, `@5000` from row 5,000 on (counted from 0),
`@0.5..0.7` between the two; without it, from the first row on. Rows are in the order of time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.data.hashing import uniform_rows
from churn_assets.errors import ScenarioError, did_you_mean

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NUMBERS = (Kind.NUMBER, Kind.INTEGER)


@dataclass(frozen=True)
class When:
    """A range of rows; an integer bound is a row number, a float bound a share (0 to 1) of all rows."""

    start: float | int = 0
    end: float | int | None = None

    def mask(self, place: Rows, rows: int) -> Mask:
        """True for row numbers `place` within the range, of `rows` in all."""
        return (place >= _row(self.start, rows)) & (place < (rows if self.end is None else _row(self.end, rows)))


def _row(bound: float | int, rows: int) -> int:
    return bound if isinstance(bound, int) else round(bound * rows)


@dataclass(frozen=True)
class Change:
    """One column changed in a range of rows; `kind` is add, scale, set, zero, missing or swap.

    `amount` is the summand or factor; `share` of the rows of the range are set to `value` or made
    missing; `other` is the column of a swap.
    """

    kind: str
    column: str
    when: When = When()
    amount: float = 0.0
    share: float = 1.0
    value: str = ""
    other: str = ""

    def apply(self, table: pa.Table, place: Rows, rows: int, seed: int) -> pa.Table:
        """`table`, whose rows have the numbers `place`, with the change."""
        inside = self.when.mask(place, rows)
        if not inside.any():
            return table
        if self.share < 1.0:
            inside &= uniform_rows(place, seed, f"{self.kind} {self.column} {self.value}") < self.share
        cells = table.column(self.column).combine_chunks()
        if self.kind == "swap":
            other_cells = table.column(self.other).combine_chunks()
            table = _put(table, self.other, inside, cells, other_cells)
            return _put(table, self.column, inside, other_cells, cells)
        return _put(table, self.column, inside, self._changed(cells), cells)

    def _changed(self, cells: pa.Array) -> pa.Array:
        if self.kind == "missing":
            return pa.nulls(len(cells), cells.type)
        if self.kind == "set":
            return pa.array([self.value] * len(cells), cells.type)
        if self.kind == "zero":
            if pa.types.is_string(cells.type):
                return pa.array([self.value] * len(cells), cells.type)
            return pa.array(np.zeros(len(cells), dtype=np.int64)).cast(cells.type)
        if pa.types.is_date(cells.type):
            return pc.add(cells.cast(pa.int32()), pa.scalar(int(self.amount), pa.int32())).cast(pa.date32())
        numbers = cells.cast(pa.float64())
        changed = pc.add(numbers, self.amount) if self.kind == "add" else pc.multiply(numbers, self.amount)
        return pc.round(changed).cast(cells.type) if pa.types.is_integer(cells.type) else changed


@dataclass(frozen=True)
class Duplicate:
    """`share` of the rows of a range arrive twice, one right after the other."""

    share: float
    when: When = When()

    def repeats(self, place: Rows, rows: int, seed: int) -> npt.NDArray[np.int64]:
        """1 for rows that arrive twice, else 0, shape of `place`."""
        return (self.when.mask(place, rows) & (uniform_rows(place, seed, "duplicate") < self.share)).astype(np.int64)


def _put(table: pa.Table, name: str, where: Mask, new: pa.Array, old: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pc.if_else(pa.array(where), new, old))


def read_drift(contract: Contract, text: str) -> Change:
    """A drift from its text. Raises ScenarioError."""
    body, when = _when(text)
    column, rest = _column(contract, body, text)
    if column.kind in (*_NUMBERS, Kind.DATE) and rest[:1] in ("*", "+", "-"):
        amount = _number(rest[1:] if rest[0] in "*+" else rest, text)
        if rest[0] == "*" and column.kind is Kind.DATE:
            raise ScenarioError(
                f"drift '{text}' multiplies a date; expected days to add, as in {column.name}+30; correct it"
            )
        if rest[0] != "*" and column.kind is not Kind.NUMBER and not amount.is_integer():
            raise ScenarioError(
                f"drift '{text}' adds a fraction to '{column.name}'; "
                f"expected a whole number for kind '{column.kind}'; correct it"
            )
        return Change("scale" if rest[0] == "*" else "add", column.name, when, amount)
    if column.kind in (Kind.CATEGORY, Kind.BOOLEAN) and rest[:1] == "=":
        value, _, share = rest[1:].rpartition(":") if ":" in rest else (rest[1:], "", "1")
        allowed = column.choices or (column.false[0], column.true[0])
        if value not in allowed:
            raise ScenarioError(
                f"drift '{text}': {value!r} is not a value of '{column.name}'; expected one of: {', '.join(allowed)}"
            )
        return Change("set", column.name, when, share=_share(share, text), value=value)
    forms = {Kind.CATEGORY: "=VALUE:SHARE", Kind.BOOLEAN: "=VALUE:SHARE", Kind.DATE: "+DAYS"}
    form = forms.get(column.kind, "*FACTOR or +AMOUNT")
    raise ScenarioError(
        f"drift '{text}' cannot be read; "
        f"expected {column.name}{form}, and @WHEN if not from the first row on; correct it"
    )


def read_fault(contract: Contract, text: str) -> Change | Duplicate:
    """A fault from its text. Raises ScenarioError."""
    body, when = _when(text)
    kind, _, rest = body.partition(":")
    if kind == "duplicate":
        return Duplicate(_share(rest, text), when)
    if kind not in ("zero", "unit", "swap", "missing"):
        raise ScenarioError(f"fault '{text}': unknown '{kind}'; expected zero:, unit:, swap:, missing: or duplicate:")
    column, rest = _column(contract, rest, text)
    if kind == "missing":
        return Change("missing", column.name, when, share=_share(rest[1:] or "1", text))
    if kind == "swap":
        other, _ = _column(contract, rest[1:], text)
        kinds = (Kind.CATEGORY, Kind.BOOLEAN, Kind.ID, Kind.TEXT)
        alike = column.kind is other.kind or (column.kind in kinds and other.kind in kinds)
        if not alike or column.name == other.name:
            raise ScenarioError(
                f"fault '{text}': '{column.name}' and '{other.name}' cannot be swapped; "
                "expected two columns of one kind"
            )
        return Change("swap", column.name, when, other=other.name)
    if kind == "unit" and column.kind in _NUMBERS and rest[:1] == "*":
        return Change("scale", column.name, when, _number(rest[1:], text))
    if kind == "zero" and column.kind in (*_NUMBERS, Kind.BOOLEAN) and not rest:
        return Change("zero", column.name, when, value=column.false[0])
    raise ScenarioError(
        f"fault '{text}' cannot be read; expected zero:NUMBER_COLUMN or unit:NUMBER_COLUMN*FACTOR; correct it"
    )


def _when(text: str) -> tuple[str, When]:
    body, mark, span = text.rpartition("@")
    if not mark:
        return text, When()
    start, dots, end = span.partition("..")
    when = When(_bound(start, text), _bound(end, text) if dots else None)
    return body, when


def _bound(text: str, whole: str) -> float | int:
    if re.fullmatch(r"\d+", text):
        return int(text)
    number = _number(text.removesuffix("%"), whole) / (100.0 if text.endswith("%") else 1.0)
    if not 0.0 <= number <= 1.0:
        raise ScenarioError(f"'{whole}': '{text}' is not a time; expected a share such as 0.5 or 50%, or a row number")
    return number


def _column(contract: Contract, text: str, whole: str) -> tuple[Column, str]:
    """The kept column with whose name `text` begins (the longest), and the rest of `text`."""
    fitting = [c for c in contract.kept_columns if text.startswith(c.name)]
    if not fitting:
        names = [c.name for c in contract.kept_columns]
        hint = did_you_mean(re.split(r"[*+=:,-]", text)[0], names)
        raise ScenarioError(f"'{whole}' begins with no column; {hint}expected one of: {', '.join(names)}")
    column = max(fitting, key=lambda c: len(c.name))
    return column, text[len(column.name) :]


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise ScenarioError(f"'{whole}': '{text}' is not a number; expected one such as 1.25")
    return number


def _share(text: str, whole: str) -> float:
    share = _number(text, whole)
    if not 0.0 <= share <= 1.0:
        raise ScenarioError(f"'{whole}': {text} is not a share; expected 0 to 1")
    return share
