"""Scenarios of generated customers: drift, broken pipelines, an offer with a known effect, late labels.

`generate` draws customers from a causal process; a scenario changes the finished rows. Each option draws by row
number and seed alone, so it changes only its own columns and rows, whatever the size of the batches and the other
options. The order within a row: offer, drift, faults, late labels. docs/generator.md describes the texts of drift and
faults, for example `monthly_charges*1.25@0.5..0.7`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.data.hashing import uniform_rows
from churn_assets.errors import ScenarioError, did_you_mean
from churn_assets.synthetic.generate import label_cells, with_cells

TREATED, SEEN_ON, KNOWN_ON = "treated", "seen_on", "known_on"

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NUMBERS = (Kind.NUMBER, Kind.INTEGER)


@dataclass(frozen=True)
class When:
    """A range of rows; an integer bound is a row number, a float bound a share (0 to 1) of all rows."""

    start: float | int = 0
    end: float | int = 1.0

    def mask(self, place: Rows, rows: int) -> Mask:
        """True for row numbers `place` within the range, of `rows` in all."""
        start, end = (bound if isinstance(bound, int) else round(bound * rows) for bound in (self.start, self.end))
        return (place >= start) & (place < end)


@dataclass(frozen=True)
class Change:
    """One column changed in a range of rows; `kind` is add, scale, set, zero, missing or swap.

    `amount` is the summand or factor; `share` of the rows of the range are set to `value` or made
    missing; `other` is the column of a swap.
    """

    kind: str
    column: str
    when: When
    amount: float = 0.0
    share: float = 1.0
    value: str = ""
    other: str = ""

    def apply(self, table: pa.Table, place: Rows, rows: int, seed: int) -> pa.Table:
        """`table`, whose rows have the numbers `place`, with the change."""
        inside = self.when.mask(place, rows)
        if not inside.any():
            return table
        chosen, cells = pa.array(inside & self._drawn(place, seed)), table.column(self.column).combine_chunks()
        if self.kind == "swap":
            return self._swapped(table, chosen, cells)
        return with_cells(table, self.column, pc.if_else(chosen, self._changed(cells), cells))

    def _drawn(self, place: Rows, seed: int) -> Mask:
        """True for the share of the rows that change."""
        if self.share >= 1.0:
            return np.ones(len(place), dtype=np.bool_)
        return uniform_rows(place, seed, f"{self.kind} {self.column} {self.value}") < self.share

    def _swapped(self, table: pa.Table, chosen: pa.Array, cells: pa.Array) -> pa.Table:
        other_cells = table.column(self.other).combine_chunks()
        table = with_cells(table, self.other, pc.if_else(chosen, cells, other_cells))
        return with_cells(table, self.column, pc.if_else(chosen, other_cells, cells))

    def _changed(self, cells: pa.Array) -> pa.Array:
        if self.kind == "missing":
            return pa.nulls(len(cells), cells.type)
        if self.kind == "set" or (self.kind == "zero" and pa.types.is_string(cells.type)):
            return pa.array([self.value] * len(cells), cells.type)
        if self.kind == "zero":
            return pa.array(np.zeros(len(cells), dtype=np.int64)).cast(cells.type)
        return self._moved(cells)

    def _moved(self, cells: pa.Array) -> pa.Array:
        """Dates and numbers with the amount added, or multiplied by it."""
        if pa.types.is_date(cells.type):
            return pc.add(cells.cast(pa.int32()), pa.scalar(int(self.amount), pa.int32())).cast(pa.date32())
        numbers = cells.cast(pa.float64())
        changed = pc.add(numbers, self.amount) if self.kind == "add" else pc.multiply(numbers, self.amount)
        return pc.round(changed).cast(cells.type) if pa.types.is_integer(cells.type) else changed


@dataclass(frozen=True)
class Duplicate:
    """`share` of the rows of a range arrive twice, one right after the other."""

    share: float
    when: When


@dataclass(frozen=True)
class Offer:
    """An offer made to `share` of the customers; of those who would leave, it keeps `effect` (both 0..1).

    `targeting` (0..1) moves offers towards customers who would leave: at 0 they are random, at 1 each of
    them gets one, and a naive comparison is biased.
    """

    share: float
    effect: float
    targeting: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """The options, all off by default. Rows arrive evenly over `over_days` days that end at the snapshot; the label
    of a row is known `label_delay_days` after it was seen."""

    changes: tuple[Change, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    offer: Offer | None = None
    label_delay_days: int | None = None
    over_days: int = 30


@dataclass(frozen=True)
class ScenarioRows:
    """Some rows after the scenario: `customers` as a platform sees them, and what only the generator knows.

    `truth`: key, treated, churned_untreated, churned_treated (0 or 1). `labels`: key, label, known_on.
    """

    customers: pa.Table
    truth: pa.Table | None
    labels: pa.Table | None


def read_scenario(
    contract: Contract,
    drifts: Sequence[str] = (),
    faults: Sequence[str] = (),
    offer: tuple[float | None, float, float] = (None, 0.0, 0.0),
    *,
    label_delay_days: int | None = None,
    over_days: int = 30,
) -> Scenario:
    """A scenario from texts and `offer` = (share or None, effect, targeting). Drifts come before faults, each in the
    order given. Raises ScenarioError."""
    read = [*(_read_drift(contract, text) for text in drifts), *(_read_fault(contract, text) for text in faults)]
    _check_added_columns(contract, {TREATED: offer[0], SEEN_ON: label_delay_days})
    share, *others = offer
    read_offer = None if share is None else _read_offer(share, *others)
    if label_delay_days is not None and label_delay_days < 0:
        raise ScenarioError(f"label delay is {label_delay_days} days; expected 0 or more")
    if over_days < 1:
        raise ScenarioError(f"rows arrive over {over_days} days; expected at least 1")
    return Scenario(
        tuple(change for change in read if isinstance(change, Change)),
        tuple(change for change in read if isinstance(change, Duplicate)),
        read_offer,
        label_delay_days,
        over_days,
    )


def _check_added_columns(contract: Contract, options: Mapping[str, float | None]) -> None:
    for name, option in options.items():
        if option is not None and name in contract.by_name:
            raise ScenarioError(
                f"the contract has a column '{name}'; "
                "expected none of this name, because the scenario adds it; rename it"
            )


def _read_offer(share: float, effect: float, targeting: float) -> Offer:
    for word, value in {"share": share, "effect": effect, "targeting": targeting}.items():
        if not 0.0 <= value <= 1.0:
            raise ScenarioError(f"the offer's {word} is {value}; expected 0 to 1")
    return Offer(share, effect, targeting)


def _read_drift(contract: Contract, text: str) -> Change:
    body, when = _when(text)
    column, rest = _column(contract, body, text)
    if column.kind in (*_NUMBERS, Kind.DATE) and rest[:1] in ("*", "+", "-"):
        return _read_move(column, rest, when, text)
    if column.kind in (Kind.CATEGORY, Kind.BOOLEAN) and rest[:1] == "=":
        return _read_set(column, rest[1:], when, text)
    forms = {Kind.CATEGORY: "=VALUE:SHARE", Kind.BOOLEAN: "=VALUE:SHARE", Kind.DATE: "+DAYS"}
    form = forms.get(column.kind, "*FACTOR or +AMOUNT")
    raise ScenarioError(
        f"drift '{text}' cannot be read; "
        f"expected {column.name}{form}, and @WHEN if not from the first row on; correct it"
    )


def _read_move(column: Column, rest: str, when: When, text: str) -> Change:
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


def _read_set(column: Column, rest: str, when: When, text: str) -> Change:
    value, _, share = rest.rpartition(":") if ":" in rest else (rest, "", "1")
    allowed = column.choices or (column.false[0], column.true[0])
    if value not in allowed:
        raise ScenarioError(
            f"drift '{text}': {value!r} is not a value of '{column.name}'; expected one of: {', '.join(allowed)}"
        )
    return Change("set", column.name, when, share=_share(share, text), value=value)


def _read_fault(contract: Contract, text: str) -> Change | Duplicate:
    body, when = _when(text)
    kind, _, rest = body.partition(":")
    if kind == "duplicate":
        return Duplicate(_share(rest, text), when)
    if kind not in ("zero", "unit", "swap", "missing"):
        raise ScenarioError(f"fault '{text}': unknown '{kind}'; expected zero:, unit:, swap:, missing: or duplicate:")
    column, rest = _column(contract, rest, text)
    if kind == "swap":
        other, _ = _column(contract, rest[1:], text)
        return _swap(column, other, when, text)
    return _read_column_fault(kind, column, rest, when, text)


def _swap(column: Column, other: Column, when: When, text: str) -> Change:
    kinds = (Kind.CATEGORY, Kind.BOOLEAN, Kind.ID, Kind.TEXT)
    alike = column.kind is other.kind or (column.kind in kinds and other.kind in kinds)
    if not alike or column.name == other.name:
        raise ScenarioError(
            f"fault '{text}': '{column.name}' and '{other.name}' cannot be swapped; expected two columns of one kind"
        )
    return Change("swap", column.name, when, other=other.name)


def _read_column_fault(kind: str, column: Column, rest: str, when: When, text: str) -> Change:
    if kind == "missing":
        return Change("missing", column.name, when, share=_share(rest[1:] or "1", text))
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
    return body, When(_bound(start, text), _bound(end, text) if dots else 1.0)


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


def play(
    contract: Contract, batches: Iterator[pa.RecordBatch], rows: int, seed: int, today: dt.date, scenario: Scenario
) -> Iterator[ScenarioRows]:
    """The scenario over a stream of `rows` generated rows, batch by batch, in order."""
    start = 0
    for batch in batches:
        place = np.arange(start, start + batch.num_rows)
        start += batch.num_rows
        yield _played(contract, pa.table(batch), place, rows, seed, today, scenario)


def _played(
    contract: Contract, table: pa.Table, place: Rows, rows: int, seed: int, today: dt.date, scenario: Scenario
) -> ScenarioRows:
    truth = labels = None
    if scenario.offer is not None:
        table, truth = _offered(contract, table, place, seed, scenario.offer)
    for change in scenario.changes:
        table = change.apply(table, place, rows, seed)
    if scenario.label_delay_days is not None:
        last = (today - dt.date(1970, 1, 1)).days
        seen = last - scenario.over_days + 1 + place * scenario.over_days // max(rows, 1)
        table, labels = _late(contract, table, seen, last, scenario.label_delay_days)
    return ScenarioRows(_duplicated(table, place, rows, seed, scenario.duplicates), truth, labels)


def _duplicated(table: pa.Table, place: Rows, rows: int, seed: int, duplicates: Sequence[Duplicate]) -> pa.Table:
    for duplicate in duplicates:
        twice = duplicate.when.mask(place, rows) & (uniform_rows(place, seed, "duplicate") < duplicate.share)
        take = np.repeat(np.arange(table.num_rows), 1 + twice)
        place, table = place[take], table.take(pa.array(take))
    return table


def _offered(contract: Contract, table: pa.Table, place: Rows, seed: int, offer: Offer) -> tuple[pa.Table, pa.Table]:
    """Potential outcomes with and without the offer; the label is the outcome of the treatment received."""
    label, key = contract.label, contract.key.name
    outcome = pc.equal(table.column(label.column), label.churned_when)
    without = np.asarray(pc.fill_null(outcome, False).to_numpy(), dtype=bool)
    chance = np.where(without, offer.share + offer.targeting * (1.0 - offer.share), offer.share)
    treated = uniform_rows(place, seed, "offer") < chance
    with_offer = without & ~(uniform_rows(place, seed, "saved") < offer.effect)
    outcomes = {TREATED: treated, "churned_untreated": without, "churned_treated": with_offer}
    truth = pa.table({key: table.column(key), **{name: flag.astype(np.int8) for name, flag in outcomes.items()}})
    table = with_cells(table, label.column, label_cells(contract, np.where(treated, with_offer, without)))
    return table.append_column(TREATED, truth.column(TREATED)), truth


def _late(contract: Contract, table: pa.Table, seen: Rows, last: int, delay: int) -> tuple[pa.Table, pa.Table]:
    """Without labels that are not known on day `last`, and the labels with the day on which each becomes known; `seen`
    are the days (n,) on which the rows arrived, counted from 1970-01-01."""
    known, name, key = seen + delay, contract.label.column, contract.key.name
    label = table.column(name).combine_chunks()
    labels = pa.table({key: table.column(key), name: label, KNOWN_ON: known.astype("datetime64[D]")})
    visible = pc.if_else(pa.array(known <= last), label, pa.scalar(None, label.type))
    return with_cells(table, name, visible).append_column(SEEN_ON, pa.array(seen.astype("datetime64[D]"))), labels
