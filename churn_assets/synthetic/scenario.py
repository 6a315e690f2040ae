"""Scenarios of generated customers: drift, broken pipelines, an offer with a known effect, late labels.

`generate` draws customers from a causal process; a scenario changes the finished rows. Each option draws by row
number and seed alone, so it changes only its own columns and rows, whatever the size of the batches and the other
options. The order within a row: offer, drift, faults, late labels.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Contract
from churn_assets.data.hashing import uniform_rows
from churn_assets.errors import ScenarioError
from churn_assets.synthetic.faults import Change, Duplicate, read_drift, read_fault

TREATED, SEEN_ON, KNOWN_ON = "treated", "seen_on", "known_on"

Mask = npt.NDArray[np.bool_]


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
    truth: pa.Table | None = None
    labels: pa.Table | None = None


def read_scenario(
    contract: Contract,
    drifts: Sequence[str] = (),
    faults: Sequence[str] = (),
    offer: tuple[float | None, float, float] = (None, 0.0, 0.0),
    *,
    label_delay_days: int | None = None,
    over_days: int = 30,
) -> Scenario:
    """A scenario from texts (see `faults`) and `offer` = (share or None, effect, targeting).

    Drifts come before faults, each in the order given. Raises ScenarioError.
    """
    read = [read_fault(contract, text) for text in faults]
    share, effect, targeting = offer
    scenario = Scenario(
        changes=(*(read_drift(contract, text) for text in drifts), *(f for f in read if isinstance(f, Change))),
        duplicates=tuple(f for f in read if isinstance(f, Duplicate)),
        offer=None if share is None else Offer(share, effect, targeting),
        label_delay_days=label_delay_days,
        over_days=over_days,
    )
    check_scenario(contract, scenario)
    return scenario


def check_scenario(contract: Contract, scenario: Scenario) -> None:
    """Raise ScenarioError for an option with a value that cannot be used."""
    added = [TREATED] if scenario.offer else []
    added += [SEEN_ON] if scenario.label_delay_days is not None else []
    for name in added:
        if name in contract.by_name:
            raise ScenarioError(
                f"the contract has a column '{name}'; "
                "expected none of this name, because the scenario adds it; rename it"
            )
    if scenario.offer is not None:
        for word in ("share", "effect", "targeting"):
            value = getattr(scenario.offer, word)
            if not 0.0 <= value <= 1.0:
                raise ScenarioError(f"the offer's {word} is {value}; expected 0 to 1")
    if scenario.label_delay_days is not None and scenario.label_delay_days < 0:
        raise ScenarioError(f"label delay is {scenario.label_delay_days} days; expected 0 or more")
    if scenario.over_days < 1:
        raise ScenarioError(f"rows arrive over {scenario.over_days} days; expected at least 1")


def play(
    contract: Contract, batches: Iterator[pa.RecordBatch], rows: int, seed: int, today: dt.date, scenario: Scenario
) -> Iterator[ScenarioRows]:
    """The scenario over a stream of `rows` generated rows, batch by batch, in order."""
    check_scenario(contract, scenario)
    start = 0
    for batch in batches:
        table = pa.table(batch)
        place = np.arange(start, start + table.num_rows)
        start += table.num_rows
        truth = labels = None
        if scenario.offer is not None:
            table, truth = _offered(contract, table, place, seed, scenario.offer)
        for change in scenario.changes:
            table = change.apply(table, place, rows, seed)
        if scenario.label_delay_days is not None:
            table, labels = _late(contract, table, place, rows, today, scenario)
        for duplicate in scenario.duplicates:
            repeated = duplicate.repeats(place, rows, seed)
            take = np.repeat(np.arange(table.num_rows), 1 + repeated)
            place = place[take]
            table = table.take(pa.array(take))
        yield ScenarioRows(table, truth, labels)


def _offered(
    contract: Contract, table: pa.Table, place: npt.NDArray[np.int64], seed: int, offer: Offer
) -> tuple[pa.Table, pa.Table]:
    """Potential outcomes with and without the offer; the label is the outcome of the treatment received."""
    name = contract.label.column
    without = _equal(table.column(name), contract.label.churned_when)
    chance = np.where(without, offer.share + offer.targeting * (1.0 - offer.share), offer.share)
    treated = uniform_rows(place, seed, "offer") < chance
    with_offer = without & ~(uniform_rows(place, seed, "saved") < offer.effect)
    observed = np.where(treated, with_offer, without)
    values = pa.array([contract.label.kept_values[0], contract.label.churned_when])
    cells = values.take(pa.array(observed.astype(np.int8)))
    table = table.set_column(table.column_names.index(name), name, cells)
    truth = pa.table(
        {
            contract.key.name: table.column(contract.key.name),
            TREATED: treated.astype(np.int8),
            "churned_untreated": without.astype(np.int8),
            "churned_treated": with_offer.astype(np.int8),
        }
    )
    return table.append_column(TREATED, pa.array(treated.astype(np.int8))), truth


def _late(
    contract: Contract, table: pa.Table, place: npt.NDArray[np.int64], rows: int, today: dt.date, scenario: Scenario
) -> tuple[pa.Table, pa.Table]:
    """The label is empty where it is not known by `today`; each label has the day on which it becomes known."""
    delay = scenario.label_delay_days or 0
    last = (today - dt.date(1970, 1, 1)).days
    seen = last - scenario.over_days + 1 + place * scenario.over_days // max(rows, 1)
    known = seen + delay
    name = contract.label.column
    label = table.column(name).combine_chunks()
    labels = pa.table({contract.key.name: table.column(contract.key.name), name: label, KNOWN_ON: _days(known)})
    visible = pc.if_else(pa.array(known <= last), label, pa.scalar(None, label.type))
    table = table.set_column(table.column_names.index(name), name, visible)
    return table.append_column(SEEN_ON, _days(seen)), labels


def _equal(cells: pa.ChunkedArray, text: str) -> Mask:
    return np.asarray(pc.fill_null(pc.equal(cells, text), False).to_numpy(), dtype=bool)


def _days(days: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(days.astype("datetime64[D]"))
