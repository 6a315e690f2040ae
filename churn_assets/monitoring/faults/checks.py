"""The findings of the tests that compare whole columns and how they go together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from churn_assets.contract.limits import Monitoring
from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.monitoring.faults.broken_relations import find_broken_relations
from churn_assets.monitoring.faults.units import ForeignNumbers, find_foreign_numbers, growth
from churn_assets.monitoring.findings import Finding, has_few_values, share_finding, shown
from churn_assets.monitoring.profile import AS_OF, Profile, Reference
from churn_assets.monitoring.special_values import find_special_values

if TYPE_CHECKING:
    import pyarrow as pa

_EXPLAINING = frozenset({Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN, Kind.CATEGORY})


def check_together(
    profile: Profile, reference: Reference, contract: Contract, limits: Monitoring, known: Sequence[Finding]
) -> list[Finding]:
    """The findings `known` of single columns, and those about columns that look whole by themselves. None blocks for a
    `silent` or excluded column. Below `limits.floor` customers nothing more is tested."""
    findings = [_without_growth(finding, profile, reference) for finding in known]
    if profile.rows >= limits.floor:
        for check in (check_units, check_special_values, check_relations):
            findings += check(profile, reference, contract, limits, findings)
    return findings


def _without_growth(finding: Finding, profile: Profile, reference: Reference) -> Finding:
    """Numbers beyond those of training are drift if everybody's have grown by one factor that is no unit's."""
    if finding.check != "outside_range" or not finding.blocks:
        return finding
    sides = (side.sample[finding.column].to_numpy() for side in (reference.profile, profile))
    factor = growth(*sides)
    if factor is None:
        return finding
    message = f"{finding.message} No: everybody's are about {factor:.2f} times those of training, which is drift"
    return replace(finding, message=message, blocks=False)


def check_special_values(
    profile: Profile, reference: Reference, contract: Contract, limits: Monitoring, known: Sequence[Finding]
) -> Iterator[Finding]:
    """Values that more customers have than before and than their other columns explain; columns that are broken by a
    finding in `known` have one already. Of few different numbers one that becomes frequent is drift, and so are those
    that are frequent because everybody's have grown."""
    columns = {c.name: c for c in contract.logged_columns if _explains(c)}
    named = _broken_columns(known, contract, limits)
    numbers = [name for name in columns if name not in named and name in reference.bounds]
    sides = {name: [side.sample[name].to_numpy() for side in (reference.profile, profile)] for name in numbers}
    many = [name for name in numbers if not has_few_values(sides[name][0]) and growth(*sides[name]) is None]
    kinds = {name: column.kind for name, column in columns.items()}
    for special in find_special_values(reference.profile.sample, profile.sample, kinds, many):
        column = columns[special.column]
        value = "missing" if math.isnan(special.value) else shown(column, special.value)
        message = (
            f"'{column.name}' is {value} for {special.share:.1%} of the customers, in training "
            f"for {special.usual:.1%}, and by their other columns {special.expected:.1%} are to be expected; "
            "is it still filled?"
        )
        blocks = column.name not in (*limits.silent, *contract.unread)
        yield share_finding("unexplained_value", column.name, special.share, special.expected, message, blocks)


def check_units(
    profile: Profile, reference: Reference, contract: Contract, limits: Monitoring, known: Sequence[Finding]
) -> Iterator[Finding]:
    """Numbers in another unit or in another column's place, and some that lie far beyond those of training; the last
    only where `known` has no such finding."""
    kinds = {column.name: column.kind for column in contract.logged_columns if _explains(column)}
    outside = {finding.column for finding in known if finding.check == "outside_range"}
    for numbers in find_foreign_numbers(reference.profile.sample, profile.sample, kinds):
        if numbers.kind != "far" or numbers.column not in outside:
            blocks = numbers.column not in (*limits.silent, *contract.unread)
            yield replace(_describe_numbers(numbers), blocks=blocks)


def _describe_numbers(numbers: ForeignNumbers) -> Finding:
    name, rows = numbers.column, f"{numbers.share:.0%} of the customers"
    if numbers.kind == "swapped":
        message = f"'{name}' has the values of '{numbers.other}' for about {rows}; are the columns swapped?"
        return share_finding("swapped", name, numbers.share, 0.0, message)
    if numbers.kind == "far":
        message = (
            f"{numbers.share:.1%} of '{name}' lie beyond {numbers.bound:g}, twice the training range; "
            "is the unit the same?"
        )
        return share_finding("outside_range", name, numbers.share, 0.0, message)
    times = f"{numbers.factor:.4g} times as large" if numbers.factor > 1 else f"1/{1 / numbers.factor:.4g} as large"
    message = f"'{name}' is {times} as in training for about {rows}, the rest is as it was; is the unit the same?"
    return share_finding("unit_change", name, numbers.share, 0.0, message)


def _broken_columns(known: Sequence[Finding], contract: Contract, limits: Monitoring) -> set[str]:
    """Columns that need no further test and explain nothing; a few odd cells are no reason to leave one out."""
    unblocked = {*limits.silent, *contract.unread}
    return {finding.column for finding in known if finding.blocks or finding.column in unblocked}


def check_relations(
    profile: Profile, reference: Reference, contract: Contract, limits: Monitoring, known: Sequence[Finding]
) -> Iterator[Finding]:
    """Columns whose values go with the other columns no more; those that are broken by a finding in `known` are left
    out, because their values explain nothing. Dates count as days before the row's day."""
    broken = _broken_columns(known, contract, limits)
    kinds = {
        column.name: column.kind
        for column in contract.logged_columns
        if column.name not in broken and (column.kind is Kind.DATE or _explains(column))
    }
    sides = (reference.profile.sample, profile.sample)
    if any(AS_OF not in sample.column_names for sample in sides):
        kinds = {name: kind for name, kind in kinds.items() if kind is not Kind.DATE}
    before, now = (_with_ages(sample, kinds) for sample in sides)
    late = (*limits.silent, *contract.unread)
    for relation in find_broken_relations(before, now, kinds, last=late):
        message = (
            f"'{relation.column}' no longer goes with the other columns for about {relation.share:.0%} of the "
            f"customers ({relation.z:.1f} standard errors); is it joined by the right key, and in the same unit?"
        )
        blocks = relation.column not in late
        yield share_finding("broken_relation", relation.column, relation.share, 0.0, message, blocks)


def _explains(column: Column) -> bool:
    return column.role is Role.FEATURE and column.kind in _EXPLAINING


def _with_ages(sample: pa.Table, kinds: Mapping[str, Kind]) -> pa.Table:
    """The columns of `kinds`, each date as days before the day of the row: the calendar moves, ages stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    shared = {name: kind for name, kind in kinds.items() if name in sample.column_names}
    return pa.table(
        {
            name: pc.subtract(sample[AS_OF], sample[name]) if kind is Kind.DATE else sample[name]
            for name, kind in shared.items()
        }
    )
