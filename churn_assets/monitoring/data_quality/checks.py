"""Is the data of a window whole? Every column is looked at by itself, so one that broke hides no other.

A finding that `blocks` makes the window 'broken': nothing is trained on it and drift in it proves nothing.
The others are told and stop nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.contract.policy import Monitoring
from churn_assets.monitoring.data_quality.traffic import Traffic, usual
from churn_assets.monitoring.windows.profile import REST, Content, Facts
from churn_assets.monitoring.windows.reference import Reference

TRAFFIC = "(traffic)"  # what is no column's fault
OK, BROKEN, INSUFFICIENT = "ok", "broken", "insufficient"
FEW = 10  # numbers that a column had in training; with so few, one that becomes frequent is drift and no default


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was: `found` and `expected` are figures in words."""

    column: str
    what: str
    found: str
    expected: str
    words: str
    blocks: bool = True

    def to_json(self) -> dict[str, Any]:
        """The fields, for a report."""
        return asdict(self)


def check_columns(content: Content, reference: Reference, contract: Contract, limits: Monitoring) -> list[Finding]:
    """What is wrong with the columns of a window, in the contract's order. A `silent` column blocks nothing."""
    found = []
    for column in contract.scoring_columns:
        blocks = column.name not in limits.silent
        here, there = content.facts.get(column.name), reference.content.facts.get(column.name)
        if here is None:
            words = f"the log has no column '{column.name}'; was it taken out of the table?"
            found.append(Finding(column.name, "missing column", "none", "a column", words, blocks))
        elif there is None:
            words = f"the reference has no column '{column.name}': it cannot be compared; train again"
            found.append(Finding(column.name, "not in the reference", "none", "a column", words, False))
        elif here.rows:
            for one in _column(column, here, there, reference, limits):
                found.append(one if blocks else Finding(**{**asdict(one), "blocks": False}))
    return found


def _column(column: Column, here: Facts, there: Facts, reference: Reference, limits: Monitoring) -> Iterator[Finding]:
    name, rows = column.name, here.rows
    missing, usually = here.missing / rows, there.missing / max(1, there.rows)
    if here.missing == rows:
        if there.missing < there.rows:
            yield _finding(name, "all missing", 1.0, usually, f"'{name}' says nothing any more: every value is missing")
        return
    if missing - usually >= limits.missing_rise:
        yield _finding(name, "missing", missing, usually, f"'{name}' is missing for {missing:.1%} of the customers")
    for what, count in (("unreadable", here.unreadable), ("infinite", here.infinite)):
        if count:
            words = f"'{name}' has {count:,} {what} values where a {column.kind} is expected"
            yield _finding(name, what, count / rows, 0.0, words, count / rows >= limits.outside_share)
    yield from _range(column, here, reference, limits)
    yield from _one_value(column, here, there, reference, limits)


def _range(column: Column, here: Facts, reference: Reference, limits: Monitoring) -> Iterator[Finding]:
    name, rows = column.name, here.rows
    if name in reference.bounds:
        low, high = reference.bounds[name]
        share, usually = here.outside / rows, reference.outside_share[name]
        if share - usually >= limits.outside_share:
            words = (
                f"{share:.1%} of '{name}' lie outside {low:g} to {high:g}, the training range; is the unit the same?"
            )
            yield _finding(name, "outside", share, usually, words)
    if column.kind is Kind.CATEGORY and here.outside:
        unknown = {n: count for n, count in (here.levels or {}).items() if n not in (*column.choices, REST)}
        most = max(unknown, key=lambda level: (unknown[level], level), default=REST)
        share = here.outside / rows
        words = f"{share:.1%} of '{name}' are no choice of the contract, most often '{most}'; add it, or mend it"
        yield _finding(name, "unknown category", share, 0.0, words, share >= limits.outside_share)


def _one_value(
    column: Column, here: Facts, there: Facts, reference: Reference, limits: Monitoring
) -> Iterator[Finding]:
    name = column.name
    if here.constant and not there.constant:
        only = next(level for level, n in here.levels.items() if n) if here.levels else _told(column, here.low)
        words = f"'{name}' is {only} for everybody, and was not in training; is it still filled?"
        yield Finding(name, "constant", f"only {only}", "several values", words)
        return
    if here.top is None:
        return
    value, share = here.top
    usually = reference.share_of(name, value)
    if share - usually >= limits.spike_rise and not (usually and reference.values_of(name) <= FEW):
        said = _told(column, value)
        words = (
            f"'{name}' is {said} for {share:.1%} of the customers, in training for {usually:.1%}; is it still filled?"
        )
        yield _finding(name, "spike", share, usually, words)


def check_traffic(now: Traffic, before: Sequence[Traffic], limits: Monitoring) -> list[Finding]:
    """What is wrong with how predictions came in, compared with the windows before (none: nothing to compare)."""
    rate, refused = usual(before)
    found = []
    if rate and not rate / limits.volume_ratio <= now.rows_a_day <= rate * limits.volume_ratio:
        words = f"{now.rows_a_day:,.0f} predictions a day, {rate:,.0f} in the windows before"
        found.append(Finding(TRAFFIC, "volume", f"{now.rows_a_day:,.0f} a day", f"about {rate:,.0f} a day", words))
    for cause in sorted(now.refused):
        share, usually = now.refused_share(cause), refused.get(cause, 0.0)
        if share - usually >= limits.missing_rise:
            words = f"{share:.1%} of the requests were refused for '{cause}', {usually:.1%} before"
            found.append(_finding(TRAFFIC, f"refused: {cause}", share, usually, words))
    if now.repeats >= limits.volume_ratio:
        words = f"each customer was scored {now.repeats:.1f} times on average; does somebody ask in a loop?"
        limit = f"below {limits.volume_ratio:g}"
        found.append(Finding(TRAFFIC, "duplicates", f"{now.repeats:.1f} rows a customer", limit, words))
    if now.largest_customer_share >= limits.spike_rise and now.customers > 1:
        words = f"one customer id has {now.largest_customer_share:.1%} of the predictions; is it a placeholder?"
        found.append(_finding(TRAFFIC, "one customer", now.largest_customer_share, 0.0, words))
    if now.longest_gap_hours >= limits.stale_hours:
        words = f"no prediction came for {now.longest_gap_hours:.0f} hours within the window"
        limit = f"below {limits.stale_hours:g} h"
        found.append(Finding(TRAFFIC, "gap", f"{now.longest_gap_hours:.0f} h", limit, words, blocks=False))
    if now.rows_without_id:
        words = f"{now.rows_without_id:,} rows have no customer id and count as a customer each"
        found.append(Finding(TRAFFIC, "no id", f"{now.rows_without_id:,} rows", "none", words, blocks=False))
    return found


def status_of(customers: int, findings: Sequence[Finding], limits: Monitoring) -> str:
    """'insufficient' below the floor whatever was found, else 'broken' or 'ok'."""
    if customers < limits.floor:
        return INSUFFICIENT
    return BROKEN if any(finding.blocks for finding in findings) else OK


def _told(column: Column, value: float | None) -> str:
    if column.kind is Kind.DATE and value is not None:
        return str(dt.date(1970, 1, 1) + dt.timedelta(days=value))
    return f"{value:g}"


def _finding(column: str, what: str, share: float, usually: float, words: str, blocks: bool = True) -> Finding:
    return Finding(column, what, f"{share:.1%}", f"{usually:.1%}", words, blocks)
